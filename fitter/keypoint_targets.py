"""What each 2D keypoint is matched to on the body, by how its source defines it.

| keypoint       | how the sources place it                      | matched to                   | trust |
| -------------- | --------------------------------------------- | ---------------------------- | ----- |
| nose, eye, ear | nose tip, pupil, ear canal                    | the vertex landmarks         | 0.5   |
| Neck           | half way between the shoulder keypoints       | mean of the two points below | 0.5   |
| shoulder       | middle of the shoulder's cap: above the joint | shoulders at HALF_WIDTH_M,   | 1     |
|                | and a little inside of it                     | SHOULDER_RISE up to the neck |       |
| elbow, wrist   | middle of the joint                           | elbow, wrist                 | 1     |
| MidHip         | half way between the hip keypoints            | mean of the two points below | 0.5   |
| hip            | where the thigh starts, as annotators see it  | hips moved to HALF_WIDTH_M   | 1     |
| knee, ankle    | middle of the joint                           | knee, ankle                  | 1     |
| toes, heel     | tip of the big, the small toe, back of heel   | the vertex landmarks         | 0.5   |

Bodies differ in where they put a joint: SMPL's hip joints are 14 cm apart, the open body's 22 cm, while a hip keypoint
means the same place on the person. So the distance of hip (shoulder) keypoints is given in metres of a mean body, and
the rest body's own joints are moved together or apart to it. The numbers were measured as the mean sideways residual of
fits to 30 street photos of standing people, which no benchmark uses.

Neck and MidHip repeat what their two sides say, so they are trusted less; those that we derived (`Person.derived`)
carry nothing new at all. The right side is always made from the left.
"""

from functools import lru_cache

import numpy as np

from fitter.body import JOINT_NAMES, LANDMARK_NAMES
from fitter.keypoints import BODY_25, MIRROR_25, SOURCES

TARGET_NAMES = JOINT_NAMES + LANDMARK_NAMES

HALF_WIDTH_M = {"hip": 0.105, "shoulder": 0.165}  # of the keypoints from the middle, on a mean body
SHOULDER_RISE = 0.15  # of the way from the shoulders' height up to the neck joint
TRUST = {
    "Nose": 0.5, "LEye": 0.5, "LEar": 0.5, "Neck": 0.5, "LShoulder": 1.0, "LElbow": 1.0, "LWrist": 1.0,
    "MidHip": 0.5, "LHip": 1.0, "LKnee": 1.0, "LAnkle": 1.0, "LBigToe": 0.5, "LSmallToe": 0.5, "LHeel": 0.5,
}  # fmt: skip


def left_targets(hip_half_width_m: float, shoulder_half_width_m: float) -> dict[str, dict[str, float]]:
    """Keypoint -> weights over TARGET_NAMES that sum to 1, for the middle and the left side."""
    hip = (HALF_WIDTH_M["hip"] / hip_half_width_m - 1) / 2
    shoulder = (HALF_WIDTH_M["shoulder"] / shoulder_half_width_m - 1) / 2
    low = (1 - SHOULDER_RISE) / 2
    return {
        "Nose": {"nose": 1},
        "LEye": {"left_eye": 1},
        "LEar": {"left_ear": 1},
        "Neck": {"left_shoulder": low, "right_shoulder": low, "neck": SHOULDER_RISE},
        "LShoulder": {
            "left_shoulder": low + 0.5 + shoulder,
            "right_shoulder": low - 0.5 - shoulder,
            "neck": SHOULDER_RISE,
        },
        "LElbow": {"left_elbow": 1},
        "LWrist": {"left_wrist": 1},
        "MidHip": {"left_hip": 0.5, "right_hip": 0.5},
        "LHip": {"left_hip": 1 + hip, "right_hip": -hip},
        "LKnee": {"left_knee": 1},
        "LAnkle": {"left_ankle": 1},
        "LBigToe": {"left_big_toe": 1},
        "LSmallToe": {"left_small_toe": 1},
        "LHeel": {"left_heel": 1},
    }


@lru_cache(maxsize=16)
def body_targets(
    source: str, hip_half_width_m: float, shoulder_half_width_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """The table as numbers, for one of SOURCES and a body (BodyModel.half_widths_m).

    Returns matrix [25, 35]: rows BODY_25, columns TARGET_NAMES, each row sums to 1, so that
    matrix @ concat(joints [24, 3], landmarks [11, 3]) are the body's keypoints; and trust [25] in 0..1, to be
    multiplied into the confidence. All sources follow COCO's definitions so far. ValueError: an unknown source.
    """
    if source not in SOURCES:
        raise ValueError(f"keypoint source: expected one of {', '.join(SOURCES)}, got {source!r}")
    matrix, trust = np.zeros((25, len(TARGET_NAMES))), np.zeros(25)
    for name, weights in left_targets(hip_half_width_m, shoulder_half_width_m).items():
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
