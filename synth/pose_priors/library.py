"""Poses for synthetic people: frames of motion capture that stand, walk and sit as in photos, for learning and testing.

    python -m synth.pose_priors.library --mocap DIR --out synth/pose_priors/data/poses.npz

Learning poses come from the clips that the pose priors learned from, testing poses from the clips held out of them
(`mocap.py`). Testing frames that lie near one of the held-out poses by which the prior itself was once chosen
(tests/data/heldout_poses.npz) are left out, so that nothing was ever decided on those that remain.
"""

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np

SHIPPED = Path(__file__).parent / "data" / "poses.npz"
LEARNING, TESTING = 3000, 600
APART_M = 0.05  # root mean square joint distance to the nearest pose that a choice was made on
SPLITS = ("learning", "testing")
HALVES = ("calibrating", "judging")  # of the testing poses, by clip: `benchmarks.trust` learns on one


@lru_cache(maxsize=4)
def load_poses(split: str) -> np.ndarray:
    """The shipped poses of a split, or of one of the testing split's HALVES, [N, 72] axis-angle rad; the root is the
    performer's own, Y up.

    ValueError: a split that is not one of these.
    """
    if split not in SPLITS + HALVES:
        raise ValueError(f"poses: expected one of {', '.join(SPLITS + HALVES)}, got {split!r}")
    with np.load(SHIPPED, allow_pickle=False) as file:
        if split in SPLITS:
            return file[split].astype(np.float64)
        _, clip = np.unique(file["testing_clip"], return_inverse=True)
        return file["testing"][clip % 2 == HALVES.index(split)].astype(np.float64)


def far_from(pose: np.ndarray, others: np.ndarray, apart_m: float) -> np.ndarray:
    """Which poses [N, 72] lie further than apart_m (rms of 24 joints, both facing forward) from all others. -> [N]."""
    from synth.pose_priors.skeleton import smpl_joints

    def joints(rows):
        return smpl_joints(np.concatenate([np.zeros((len(rows), 3)), rows[:, 3:]], 1)).reshape(len(rows), -1)

    from scipy.spatial import cKDTree

    distance, _ = cKDTree(joints(others)).query(joints(pose))
    return distance / np.sqrt(24) > apart_m


def as_in_photos(clips, count: int, chosen_on: np.ndarray | None = None):
    """About `count` frames of clips (mocap.PoseClip), postures in the shares that they have in photos (build.GROUPS).

    Within a posture a clip's share grows with the root of its frames. chosen_on [M, 72]: poses to keep away from.
    """
    from synth.pose_priors.build import GROUPS, PoseSet
    from synth.pose_priors.postures import POSTURES, classify

    clips = [clip for clip in clips if len(clip.pose)]
    frames = np.concatenate([clip.pose for clip in clips])
    owner = np.repeat(np.arange(len(clips)), [len(clip.pose) for clip in clips])
    posture, rng = classify(frames), np.random.default_rng(0)
    fresh = np.ones(len(frames), bool) if chosen_on is None else far_from(frames, chosen_on, APART_M)
    picked = []
    for postures, share, *_ in GROUPS.values():
        members = np.flatnonzero(np.isin(posture, [POSTURES.index(name) for name in postures]) & fresh)
        chance = 1 / np.sqrt(np.bincount(owner[members])[owner[members]])
        wanted = min(round(share * count), len(members))
        picked.append(rng.choice(members, wanted, replace=False, p=chance / chance.sum()))
    picked = np.concatenate(picked)
    names = np.array([clip.name for clip in clips])
    return PoseSet(frames[picked], names[owner[picked]])


def main() -> None:
    """Command line: choose and write."""
    from synth.pose_priors.mocap import read_clips

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--mocap", type=Path, required=True, help="folder of motion capture (synth.pose_priors.mocap)"
    )
    parser.add_argument("--chosen-on", type=Path, default=Path("tests/data/heldout_poses.npz"))
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args()
    clips = read_clips(options.mocap)
    chosen_on = np.load(options.chosen_on)["pose"]
    learning = as_in_photos([clip for clip in clips if not clip.held_out], LEARNING)
    testing = as_in_photos([clip for clip in clips if clip.held_out], TESTING, chosen_on)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name, chosen in (("learning", learning), ("testing", testing)):
        arrays |= {name: chosen.pose.astype(np.float16), f"{name}_clip": chosen.clip}
    np.savez_compressed(options.out, **arrays)
    print(f"{options.out}: {len(learning.pose)} learning, {len(testing.pose)} testing poses")
    print(f"{options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
