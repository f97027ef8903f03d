"""What the BVH conversion of CMU's motion capture adds to the truth, measured on clips that exist both ways.

    python -m synth.pose_priors.bias --mocap DIR

DIR holds cmu_bvh30/NN_MM.bvh and cmu_asfamc/NN.asf, NN_MM.amc.gz. Prints the directions for `mocap.CMU_REST`, and how
far the conversion's limbs and trunk lie from CMU's own with the file's bones and with the measured ones; then, for
every subject of all clips, how far knees are bent upright, before and after each step of mending.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict
from pathlib import Path

import numpy as np

from priors.skeleton import JOINT_NAMES
from synth.pose_priors.asfamc import AsfClip, read_amc, read_asf
from synth.pose_priors.bvh import BvhClip, read_bvh
from synth.pose_priors.knees import knee_flexion
from synth.pose_priors.mocap import (
    ASF_SOURCE,
    BROKEN_CLIPS,
    BVH_SOURCE,
    CMU_REST,
    rest_directions,
    retarget_asf,
    retarget_bvh,
)
from synth.pose_priors.postures import is_upright
from synth.pose_priors.sessions import knee_excess, shorten_legs, subject_of
from synth.pose_priors.skeleton import global_rotations, smpl_joints

LAGS = np.arange(-6, 6.01, 0.25)
"""Frames by which the BVH may run behind; quarters, since both were thinned out from 120 frames a second."""
_STEADY = ("spine2", "left_hip", "left_knee", "right_hip", "right_knee", "right_shoulder")
UNSTEADY = 0.35
"""A limb whose rotation strays further than this chord on average is not the same motion in both files."""


def _nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(matrices)
    return left @ right


def _shifted(rotations: np.ndarray, lag: float, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [T, J, 3, 3] at frames lag, lag + 1, ...: those within the clip, and which of `length` they are."""
    at = np.arange(length) + lag
    inside = np.flatnonzero((at >= 0) & (at < len(rotations) - 1))
    first = np.floor(at[inside]).astype(int)
    share = (at[inside] - first)[:, None, None, None]
    return _nearest_rotation((1 - share) * rotations[first] + share * rotations[first + 1]), inside


def _relative(bvh: np.ndarray, asf: np.ndarray) -> np.ndarray:
    return np.swapaxes(bvh, -2, -1) @ asf


def aligned(bvh: BvhClip, asf: AsfClip) -> tuple[BvhClip, AsfClip]:
    """Both clips cut to the frames they share, in step: at the lag where their rotations differ most steadily."""
    theirs = global_rotations(bvh.local_rotations, bvh.parents)
    theirs = theirs[:, [bvh.names.index(BVH_SOURCE[joint]) for joint in _STEADY]]
    columns = [asf.skeleton.names.index(ASF_SOURCE[joint]) for joint in _STEADY]

    def unsteadiness(lag):
        ours, inside = _shifted(asf.rotations[:, columns], lag, len(theirs))
        relative = _relative(theirs[inside], ours)
        return np.linalg.norm(relative - _nearest_rotation(relative.mean(0)), axis=(2, 3)).mean()

    ours, inside = _shifted(asf.rotations, min(LAGS, key=unsteadiness), len(theirs))
    local, place = bvh.local_rotations[inside], bvh.root_position[inside]
    return (
        dataclasses.replace(bvh, local_rotations=local, root_position=place),
        dataclasses.replace(asf, rotations=ours, root_position=np.zeros((len(ours), 3))),
    )


def shared_clips(mocap_dir: Path) -> dict[str, tuple[BvhClip, AsfClip]]:
    """The clips that exist both ways, by name, aligned in time.

    Raises FileNotFoundError where there is none.
    """
    result = {}
    for path in sorted(mocap_dir.glob("cmu_asfamc/*.amc.gz")):
        name = path.name.partition(".")[0]
        twin = mocap_dir / "cmu_bvh30" / f"{name}.bvh"
        if twin.is_file() and name not in BROKEN_CLIPS:
            skeleton = read_asf(path.with_name(f"{name[:2]}.asf"))
            result[name] = aligned(read_bvh(twin), read_amc(path, skeleton))
    if not result:
        raise FileNotFoundError(f"{mocap_dir}: expected clips in both cmu_bvh30/ and cmu_asfamc/, got none")
    return result


def measure_rest(clips: dict[str, tuple[BvhClip, AsfClip]]) -> dict[str, np.ndarray]:
    """CMU_REST anew, hands left out: joint -> unit direction [3] of the left limb; clips and sides count alike."""
    found: dict[str, list[np.ndarray]] = {joint: [] for joint in CMU_REST if joint != "wrist"}
    for bvh, asf in clips.values():
        theirs = global_rotations(bvh.local_rotations, bvh.parents)
        for joint, sides in found.items():
            for side, sign in (("left", 1.0), ("right", -1.0)):
                bone = asf.skeleton.names.index(ASF_SOURCE[f"{side}_{joint}"])
                turn = _relative(
                    theirs[:, bvh.names.index(BVH_SOURCE[f"{side}_{joint}"])], asf.rotations[:, bone]
                )
                if np.linalg.norm(turn - _nearest_rotation(turn.mean(0)), axis=(1, 2)).mean() < UNSTEADY:
                    sides.append((turn @ asf.skeleton.directions[bone]).mean(0) * [sign, 1, 1])
    means = {joint: np.mean(sides, axis=0) for joint, sides in found.items()}
    return {joint: mean / np.linalg.norm(mean) for joint, mean in means.items()}


def sagittal_angles(pose: np.ndarray) -> dict[str, np.ndarray]:
    """Bends (knee, elbow) and forward tilts of bones [T] degrees of poses [T, 72]; limbs: the mean of both sides."""
    joints = smpl_joints(pose)

    def bone(start, end):
        return joints[:, JOINT_NAMES.index(end)] - joints[:, JOINT_NAMES.index(start)]

    def bend(first, second):
        return np.degrees(
            np.arctan2(np.linalg.norm(np.cross(first, second), axis=1), (first * second).sum(1))
        )

    forward = np.cross(bone("right_hip", "left_hip"), [0.0, 1.0, 0.0])
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)

    def tilt(vector):
        return np.degrees(np.arctan2((vector * forward).sum(1), np.abs(vector[:, 1])))

    def both(of):
        return (of("left") + of("right")) / 2

    return {
        "knee": np.degrees(knee_flexion(pose)).mean(1),
        "elbow": both(lambda s: bend(bone(f"{s}_shoulder", f"{s}_elbow"), bone(f"{s}_elbow", f"{s}_wrist"))),
        "thigh": both(lambda s: tilt(bone(f"{s}_hip", f"{s}_knee"))),
        "shank": both(lambda s: tilt(bone(f"{s}_knee", f"{s}_ankle"))),
        "foot": both(lambda s: tilt(bone(f"{s}_ankle", f"{s}_foot"))),
        "trunk": tilt(bone("pelvis", "neck")),
        "head": tilt(bone("neck", "head")),
    }


def print_conversion(clips: dict[str, tuple[BvhClip, AsfClip]]) -> None:
    """BVH less ASF, median degrees, with the file's bones -> with the measured ones; the knees' regression on ASF."""
    for joint, direction in measure_rest(clips).items():
        print(f"rest {joint:9s}", " ".join(f"{value:6.3f}" for value in direction))
    for name, (bvh, asf) in clips.items():
        truth = sagittal_angles(retarget_asf(asf))
        found = [sagittal_angles(retarget_bvh(bvh, rest)) for rest in (rest_directions(bvh), None)]
        slope, offset = np.polyfit(truth["knee"], found[0]["knee"], 1)
        shown = [
            f"{part} " + " -> ".join(f"{np.median(each[part] - truth[part]):+.1f}" for each in found)
            for part in truth
        ]
        print(f"{name}:", ", ".join(shown), f"; knee in file = {slope:.2f} truth + {offset:.1f}")


def print_sessions(mocap_dir: Path) -> None:
    """Knees of upright frames by subject: percentiles as in the file, with measured bones, with legs shortened."""
    clips = {path.stem: read_bvh(path) for path in sorted(mocap_dir.glob("cmu_bvh30/*.bvh"))}
    mended = {name: retarget_bvh(clip) for name, clip in clips.items()}
    excess = knee_excess(mended)
    table: dict[str, list[list[np.ndarray]]] = defaultdict(list)
    for name, clip in clips.items():
        steps = (
            retarget_bvh(clip, rest_directions(clip)),
            mended[name],
            shorten_legs(mended[name], excess[name]),
        )
        frames = is_upright(mended[name])
        table[subject_of(name)].append([np.degrees(knee_flexion(step)[frames]).ravel() for step in steps])
    print(
        "subject         knees' 5th, 25th, 50th percentile: file | measured bones | legs shortened | largest excess"
    )
    for subject, rows in table.items():
        columns = [np.percentile(np.concatenate(column), [5, 25, 50]) for column in zip(*rows, strict=True)]
        largest = max(np.degrees(excess[name]).max() for name in clips if subject_of(name) == subject)
        shown = " | ".join(" ".join(f"{value:5.1f}" for value in column) for column in columns)
        print(f"{subject:15s} {shown} | {largest:.0f}")


def main() -> None:
    """Command line: measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mocap", type=Path, required=True, help="folder with cmu_bvh30/ and cmu_asfamc/")
    options = parser.parse_args()
    print_conversion(shared_clips(options.mocap))
    print_sessions(options.mocap)


if __name__ == "__main__":
    main()
