"""What each 2D keypoint is matched to on the body, by how its source defines it.

| keypoint       | how the sources place it                      | matched to                   | trust |
| -------------- | --------------------------------------------- | ---------------------------- | ----- |
| nose, eye, ear | nose tip, pupil, ear canal                    | the vertex landmarks         | 0.5   |
| Neck           | half way between the shoulder keypoints       | mean of SMPL's shoulders     | 0.5   |
| shoulder       | middle of the shoulder's cap, at the joint    | SMPL's shoulder              | 1     |
| elbow, wrist   | middle of the joint                           | SMPL's elbow, wrist          | 1     |
| MidHip         | half way between the hip keypoints            | mean of the two points below | 0.5   |
| hip            | where the thigh starts: further out than the  | SMPL's hips moved apart and  | 0.5   |
|                | joint, as high or a little higher             | up: HIP_SPREAD, HIP_RISE     |       |
| knee, ankle    | middle of the joint                           | SMPL's knee, ankle           | 1     |
| toes, heel     | tip of the big, the small toe, back of heel   | the vertex landmarks         | 0.5   |

Neck and MidHip repeat what their two sides say, so they are trusted less; those that we derived
(`Person.derived`) carry nothing new at all.

Edit HIP_SPREAD, HIP_RISE, TRUST; the right side is always made from the left.
"""

from functools import lru_cache

import numpy as np

from fitter.body import JOINT_NAMES, LANDMARK_NAMES
from fitter.keypoints import BODY_25, MIRROR_25, SOURCES

TARGET_NAMES = JOINT_NAMES + LANDMARK_NAMES

# SMPL's hip joints are 14 cm apart; a hip keypoint lies this share of that further out
HIP_SPREAD = {"openpose": 0.25, "coco": 0.25, "detector": 0.25}
# and this much of the way up from the hips' middle to the pelvis joint (9 cm)
HIP_RISE = {"openpose": 0.0, "coco": 0.0, "detector": 0.0}
TRUST = {
    "Nose": 0.5, "LEye": 0.5, "LEar": 0.5, "Neck": 0.5, "LShoulder": 1.0, "LElbow": 1.0, "LWrist": 1.0,
    "MidHip": 0.5, "LHip": 0.5, "LKnee": 1.0, "LAnkle": 1.0, "LBigToe": 0.5, "LSmallToe": 0.5, "LHeel": 0.5,
}  # fmt: skip


def left_targets(source: str) -> dict[str, dict[str, float]]:
    """Keypoint -> weights over TARGET_NAMES that sum to 1, for the middle and the left side."""
    spread, rise = HIP_SPREAD[source], HIP_RISE[source]
    return {
        "Nose": {"nose": 1},
        "LEye": {"left_eye": 1},
        "LEar": {"left_ear": 1},
        "Neck": {"left_shoulder": 0.5, "right_shoulder": 0.5},
        "LShoulder": {"left_shoulder": 1},
        "LElbow": {"left_elbow": 1},
        "LWrist": {"left_wrist": 1},
        "MidHip": {"left_hip": 0.5 - rise / 2, "right_hip": 0.5 - rise / 2, "pelvis": rise},
        "LHip": {"left_hip": 1 + spread - rise / 2, "right_hip": -spread - rise / 2, "pelvis": rise},
        "LKnee": {"left_knee": 1},
        "LAnkle": {"left_ankle": 1},
        "LBigToe": {"left_big_toe": 1},
        "LSmallToe": {"left_small_toe": 1},
        "LHeel": {"left_heel": 1},
    }


@lru_cache(maxsize=len(SOURCES))
def body_targets(source: str) -> tuple[np.ndarray, np.ndarray]:
    """The table as numbers, for one of SOURCES.

    Returns matrix [25, 35]: rows BODY_25, columns TARGET_NAMES, each row sums to 1, so that
    matrix @ concat(joints [24, 3], landmarks [11, 3]) are the body's keypoints; and trust [25] in 0..1, to be
    multiplied into the confidence. ValueError: an unknown source.
    """
    if source not in SOURCES:
        raise ValueError(f"keypoint source: expected one of {', '.join(SOURCES)}, got {source!r}")
    matrix, trust = np.zeros((25, len(TARGET_NAMES))), np.zeros(25)
    for name, weights in left_targets(source).items():
        row = BODY_25.index(name)
        for target, weight in weights.items():
            matrix[row, TARGET_NAMES.index(target)] += weight
            matrix[MIRROR_25[row], TARGET_NAMES.index(_other_side(target))] += (
                weight if MIRROR_25[row] != row else 0
            )
        trust[[row, MIRROR_25[row]]] = TRUST[name]
    matrix.setflags(write=False)
    trust.setflags(write=False)
    return matrix, trust


def _other_side(name: str) -> str:
    swap = {"left": "right", "right": "left"}
    side, _, rest = name.partition("_")
    return f"{swap[side]}_{rest}" if side in swap else name
