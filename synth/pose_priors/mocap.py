"""Motion capture as SMPL poses: BVH and DeepMimic clips in, axis-angle [T, 72] out.

A mocap skeleton and SMPL agree on nothing but the names of the limbs: their rest bones point elsewhere (this
BVH skeleton's elbows are bent by 17 degrees), so local rotations cannot be copied. What is kept
is where each
limb points in the world: with G the global rotation of a mocap joint and A the smallest rotation that takes
SMPL's rest bone onto that skeleton's rest bone, G_smpl = G A turns SMPL's bone into exactly the mocap bone's
direction. The trunk (pelvis, spine, neck, head, collars) stands upright at rest in all of these skeletons and
its bones are only markers along a curved spine, so there A = 1 and the rotation itself is what carries over.

Body frame throughout: metres, Y up, facing +Z, X to the person's left.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from priors.skeleton import JOINT_NAMES, JOINT_PARENTS
from synth.pose_priors.asfamc import AsfClip
from synth.pose_priors.bvh import BvhClip, read_bvh
from synth.pose_priors.sessions import knee_excess, shorten_legs
from synth.pose_priors.skeleton import REST_JOINTS, global_rotations, pose_from_globals, smpl_joints

# SMPL joint -> the BVH joint whose global rotation it takes; None keeps the parent's (local rotation 0).
BVH_SOURCE = {
    "pelvis": "hip",
    "spine1": "abdomen",
    "spine2": "chest",
    "neck": "neck",
    "head": "head",
    **{
        f"{side}_{joint}": side[0] + name
        for side in ("left", "right")
        for joint, name in {
            "hip": "Thigh",
            "knee": "Shin",
            "ankle": "Foot",
            "shoulder": "Shldr",
            "elbow": "ForeArm",
            "wrist": "Hand",
        }.items()
    },
}
# SMPL joint -> the ASF bone whose global rotation it takes.
ASF_SOURCE = {
    **{"pelvis": "root", "spine1": "lowerback", "spine2": "thorax", "neck": "lowerneck", "head": "head"},
    **{
        f"{side}_{joint}": side[0] + name
        for side in ("left", "right")
        for joint, name in {
            "hip": "femur",
            "knee": "tibia",
            "ankle": "foot",
            "shoulder": "humerus",
            "elbow": "radius",
            "wrist": "hand",
        }.items()
    },
}
# The limb bones whose direction is carried over: SMPL joint -> its SMPL child.
LIMB_CHILD = {
    f"{side}_{joint}": f"{side}_{child}"
    for side in ("left", "right")
    for joint, child in {
        "hip": "knee",
        "knee": "ankle",
        "ankle": "foot",
        "shoulder": "elbow",
        "elbow": "wrist",
        "wrist": "hand",
    }.items()
}

# Where the BVH skeleton's left limb bones truly point in its rest pose; the right ones are the mirror images. The
# conversion hung CMU's rotations, which are 0 at straight limbs, on a rest pose with knees bent by 7.6 degrees and
# elbows by 17, so the file's bones are not where the performer's were. Measured against CMU's own ASF/AMC of the same
# clips by `python -m synth.pose_priors.bias`. Hands are too unsteady there to tell: taken as straight on.
CMU_REST = {
    "hip": (-0.006, -0.9995, -0.030),
    "knee": (-0.006, -0.9998, -0.021),
    "ankle": (-0.004, -0.233, 0.972),
    "shoulder": (0.990, -0.139, 0.0),
    "elbow": (0.990, -0.140, 0.0),
    "wrist": (0.990, -0.140, 0.0),
}

# Whole clips that no prior ever learns from. Three kinds: a person not seen in training (subjects 03, 08,
# 11), a motion not seen in training (directing traffic, washing windows, ankle on knee, ...), another take of
# a seen motion.
HELD_OUT_CLIPS = (
    *("03_*", "08_*", "11_*"),
    *("01_08", "05_04", "05_12", "05_20", "06_14", "06_15", "10_03", "13_01", "13_07", "13_08", "13_09"),
    *("13_16", "13_26", "13_31", "13_33", "13_34", "13_42", "14_12", "14_30"),
    *(
        "acrnn_indian_07",
        "acrnn_indian_14",
        "acrnn_martial_05",
        "acrnn_salsa_05",
        "acrnn_salsa_17",
        "acrnn_salsa_28",
    ),
    *("humanoid3d_cartwheel", "humanoid3d_dance_b", "humanoid3d_getup_faceup", "humanoid3d_spinkick"),
)

# Left out of everything: the hips and spine of this playground clip jump about; 14_36 is 14_31 again.
BROKEN_CLIPS = ("01_14", "14_36")

# Larger angles [rad] than these are marker swaps or solver flips, not people: a spine bent double, shins
# through thighs, shoulders wound up by half a turn, wrists and ankles in the salsa clips.
_LARGEST_ANGLE = {
    "spine1": 1.2,
    "knee": 2.75,
    "ankle": 1.4,
    "neck": 1.2,
    "head": 1.5,
    "shoulder": 2.7,
    "wrist": 1.9,
}
# (entry of pose [72], sign that makes bending negative): left and right elbow about y, left and right knee
# about x.
_HINGES = ((55, 1.0), (58, -1.0), (12, -1.0), (15, -1.0))
_BACKWARD_BEND = 0.25  # rad; straight limbs of a differently built skeleton land a little beyond 0


@dataclass(frozen=True)
class PoseClip:
    """One clip as SMPL poses: name, pose [T, 72] axis-angle (root first), held_out: never to be learned from.

    Frames that no body can take (`is_possible`) are left out; `dropped` counts them.
    """

    name: str
    pose: np.ndarray
    held_out: bool
    dropped: int = 0


def is_held_out(clip_name: str) -> bool:
    """Whether a clip (file stem) belongs to the motions kept back from learning."""
    return any(fnmatch(clip_name, pattern) for pattern in HELD_OUT_CLIPS)


def smallest_rotation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotation [3, 3] that turns direction `source` [3] into direction `target` [3].

    Raises ValueError for opposite directions, where it is not unique.
    """
    source, target = source / np.linalg.norm(source), target / np.linalg.norm(target)
    cosine = float(source @ target)
    if cosine < -1 + 1e-9:
        raise ValueError(
            "smallest_rotation: expected directions less than 180 degrees apart, got opposite ones"
        )
    x, y, z = np.cross(source, target)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + cosine)


def smpl_bone(joint: str) -> np.ndarray:
    """SMPL's rest bone [3] metres from a limb joint to its child."""
    return REST_JOINTS[JOINT_NAMES.index(LIMB_CHILD[joint])] - REST_JOINTS[JOINT_NAMES.index(joint)]


def rest_directions(clip: BvhClip) -> dict[str, np.ndarray]:
    """Where the limb bones of a BVH skeleton's rest pose point [3], by SMPL's limb joint, as the file has them."""
    directions = {}
    for joint in LIMB_CHILD:
        name = BVH_SOURCE[joint]
        children = np.flatnonzero(clip.parents == clip.names.index(name))
        directions[joint] = clip.offsets[children[0]] if len(children) else clip.end_offsets[name]
    return directions


def measured_directions() -> dict[str, np.ndarray]:
    """CMU_REST for both sides: SMPL's limb joint -> direction [3]."""
    return {
        f"{side}_{joint}": np.array(direction) * [sign, 1.0, 1.0]
        for side, sign in (("left", 1.0), ("right", -1.0))
        for joint, direction in CMU_REST.items()
    }


def retarget(rotations: dict[str, np.ndarray], rest: dict[str, np.ndarray]) -> np.ndarray:
    """SMPL poses [T, 72] from another skeleton's global rotations.

    rotations: SMPL joint -> [T, 3, 3], from the rest pose to the world; a joint left out goes with its parent.
    rest: limb joint (LIMB_CHILD) -> direction [3] of its bone in that rest pose.
    Feet stand flat in both rest poses, although the ankle lies higher in one: their turn about the vertical counts.
    """
    target = np.empty((len(rotations["pelvis"]), 24, 3, 3))
    for joint, name in enumerate(JOINT_NAMES):
        if name not in rotations:
            target[:, joint] = target[:, JOINT_PARENTS[joint]]
            continue
        target[:, joint] = rotations[name]
        if name in LIMB_CHILD:
            level = [1.0, 0.0, 1.0] if name.endswith("ankle") else 1.0
            target[:, joint] = rotations[name] @ smallest_rotation(
                smpl_bone(name) * level, rest[name] * level
            )
    return pose_from_globals(target)


def retarget_bvh(clip: BvhClip, rest: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """SMPL poses [T, 72] with the limb directions of a BVH clip on the CMU skeleton.

    rest: limb joint -> direction [3] in the rest pose; None takes what was measured (`CMU_REST`), not the file's.

    Raises ValueError naming the joints that the skeleton lacks.
    """
    missing = sorted(set(BVH_SOURCE.values()) - set(clip.names))
    if missing:
        raise ValueError(f"BVH skeleton: expected the CMU joint names, got none called {', '.join(missing)}")
    source = global_rotations(clip.local_rotations, clip.parents)
    rotations = {name: source[:, clip.names.index(joint)] for name, joint in BVH_SOURCE.items()}
    return retarget(rotations, measured_directions() if rest is None else rest)


def retarget_asf(clip: AsfClip) -> np.ndarray:
    """SMPL poses [T, 72] with the limb directions of CMU's own ASF/AMC.

    The rest pose has its legs apart and its soles tilted with them: both are set upright first.
    """
    names, directions = clip.skeleton.names, clip.skeleton.directions
    rotations = {name: clip.rotations[:, names.index(bone)] for name, bone in ASF_SOURCE.items()}
    rest = {joint: directions[names.index(ASF_SOURCE[joint])] for joint in LIMB_CHILD}
    for side in ("left", "right"):
        upright = smallest_rotation(np.array([0.0, -1.0, 0.0]), rest[f"{side}_knee"])
        rotations[f"{side}_ankle"] = rotations[f"{side}_ankle"] @ upright
        rest[f"{side}_ankle"] = upright.T @ rest[f"{side}_ankle"]
    return retarget(rotations, rest)


# DeepMimic's world (X forward, Y up, Z right) in the body frame (X left, Y up, Z forward).
_DEEPMIMIC_AXES = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def _deepmimic_locals(frames: np.ndarray) -> dict[str, Rotation]:
    """Local rotations of DeepMimic's joints, in its own axes, from frames [T, 44]."""

    def quaternion(column):
        w, x, y, z = frames[:, column : column + 4].T
        return Rotation.from_quat(np.stack([x, y, z, w], axis=1))

    def hinge(column):
        return Rotation.from_rotvec(frames[:, column, None] * np.array([0.0, 0.0, 1.0]))

    result = {"root": quaternion(4), "chest": quaternion(8), "neck": quaternion(12)}
    for side, start in (("right", 16), ("left", 30)):
        result |= {
            f"{side}_hip": quaternion(start),
            f"{side}_knee": hinge(start + 4),
            f"{side}_ankle": quaternion(start + 5),
            f"{side}_shoulder": quaternion(start + 9),
            f"{side}_elbow": hinge(start + 13),
        }
    return result


def read_deepmimic(path: str | Path) -> np.ndarray:
    """SMPL poses [T, 72] of a DeepMimic `humanoid3d_*.txt` clip.

    The chest's rotation is shared out over spine1 and spine2, the neck's over neck and head.

    Raises ValueError where the frames are not rows of 44 numbers.
    """
    frames = np.array(json.loads(Path(path).read_text())["Frames"], dtype=np.float64)
    if frames.ndim != 2 or frames.shape[1] != 44:
        raise ValueError(f"{path}: expected Frames as rows of 44 numbers, got shape {frames.shape}")
    local = {
        name: Rotation.from_matrix(_DEEPMIMIC_AXES @ rotation.as_matrix() @ _DEEPMIMIC_AXES.T)
        for name, rotation in _deepmimic_locals(frames).items()
    }
    half_chest = Rotation.from_rotvec(local["chest"].as_rotvec() / 2)
    half_neck = Rotation.from_rotvec(local["neck"].as_rotvec() / 2)
    spine = {
        "pelvis": local["root"],
        "spine1": half_chest,
        "spine2": half_chest,
        "neck": half_neck,
        "head": half_neck,
    }
    world: dict[str, Rotation] = {}  # limbs as DeepMimic hangs them; A is applied on the way out
    target = np.empty((len(frames), 24, 3, 3))
    down = np.array([0.0, -1.0, 0.0])
    for joint, name in enumerate(JOINT_NAMES):
        parent = world[JOINT_NAMES[JOINT_PARENTS[joint]]] if joint else Rotation.identity(len(frames))
        own = local[name] if name in local else spine.get(name, Rotation.identity(len(frames)))
        world[name] = parent * own
        limb = name.partition("_")[2]
        # Arms hang and legs stand straight down at rest; feet are flat like SMPL's; hands go on from the
        # forearm.
        source_limb = {"wrist": "elbow", "hand": "elbow"}.get(limb, limb)
        align = np.eye(3)
        if source_limb in ("hip", "knee", "shoulder", "elbow"):
            align = smallest_rotation(smpl_bone(name.replace(limb, source_limb)), down)
        target[:, joint] = world[name].as_matrix() @ align
    return pose_from_globals(target)


def is_possible(pose: np.ndarray) -> np.ndarray:
    """Which poses [T, 72] a body could take -> [T] bool.

    Elbows and knees do not bend backward (three CMU clips come with an arm bent the wrong way throughout),
    and the joints of _LARGEST_ANGLE stay within theirs.
    """
    possible = np.ones(len(pose), dtype=bool)
    for entry, sign in _HINGES:
        possible &= sign * pose[:, entry] < _BACKWARD_BEND
    angles = np.linalg.norm(pose.reshape(-1, 24, 3), axis=2)
    for joint, name in enumerate(JOINT_NAMES):
        limit = _LARGEST_ANGLE.get(name.removeprefix("left_").removeprefix("right_"))
        if limit is not None:
            possible &= angles[:, joint] < limit
    return possible


def read_clips(mocap_dir: str | Path) -> list[PoseClip]:
    """All clips of a mocap folder (`cmu_bvh30/*.bvh`, `deepmimic/humanoid3d_*.txt`), by name.

    The legs of the captured ones are made as long as their performers' (`sessions.py`).

    Raises FileNotFoundError where the folder holds neither.
    """
    folder = Path(mocap_dir)
    paths = sorted(folder.glob("cmu_bvh30/*.bvh")) + sorted(folder.glob("deepmimic/humanoid3d_*.txt"))
    paths = [path for path in paths if path.stem not in BROKEN_CLIPS]
    if not paths:
        raise FileNotFoundError(
            f"{folder}: expected cmu_bvh30/*.bvh or deepmimic/humanoid3d_*.txt, got neither"
        )
    poses = {
        path.stem: retarget_bvh(read_bvh(path)) if path.suffix == ".bvh" else read_deepmimic(path)
        for path in paths
    }
    captured = [path.stem for path in paths if path.suffix == ".bvh"]
    for name, excess in knee_excess({name: poses[name] for name in captured}).items():
        poses[name] = shorten_legs(poses[name], excess)
    clips = []
    for name, pose in poses.items():
        good = is_possible(pose)
        clips.append(PoseClip(name, pose[good], is_held_out(name), dropped=int((~good).sum())))
    return clips


def diverse_frames(body_pose: np.ndarray, spacing_m: float) -> np.ndarray:
    """Indices of frames that lie apart: each kept one lies further than spacing_m from the earlier ones.

    body_pose: [T, 69]. The distance of two frames is the root mean square distance of their joints [metres],
    the body facing forward in both. Standing still counts once, a fast motion frame by frame.
    """
    pose = np.concatenate([np.zeros((len(body_pose), 3)), body_pose], axis=1)
    joints = smpl_joints(pose).reshape(len(pose), -1)
    kept = np.empty_like(joints)
    indices: list[int] = []
    for frame, position in enumerate(joints):
        squared = ((kept[: len(indices)] - position) ** 2).sum(1) / 24
        if not indices or squared.min() > spacing_m**2:
            kept[len(indices)] = position
            indices.append(frame)
    return np.array(indices)
