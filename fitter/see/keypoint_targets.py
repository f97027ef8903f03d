"""What each 2D keypoint is matched to on the body, by how its source defines it.

| keypoint       | how the sources place it                      | matched to                        | trust |
| -------------- | --------------------------------------------- | --------------------------------- | ----- |
| nose, eye, ear | nose tip, pupil, ear canal                    | the vertex landmarks              | 0.5   |
| Neck           | half way between the shoulder keypoints       | mean of the two points below      | 0.5   |
| shoulder       | middle of the shoulder's cap: above the joint | shoulders at `shoulder_half_m`,   | 1     |
|                | and a little inside of it                     | `shoulder_rise` up to the neck    |       |
| elbow, wrist   | middle of the joint                           | elbow, wrist                      | 1     |
| MidHip         | half way between the hip keypoints            | mean of the two points below      | 0.5   |
| hip            | where the thigh starts, as annotators see it  | hips moved to `hip_half_m`,       | 1     |
|                |                                               | `hip_drop` down to the knee       |       |
| knee           | below the kneecap's middle                    | `knee_drop` down to the ankle     | 1     |
| ankle          | above the malleoli                            | `ankle_rise` up to the knee       | 1     |
| toes, heel     | tip of the big, the small toe, back of heel   | the vertex landmarks              | 0.5   |

Bodies differ in where they put a joint, while a keypoint means the same place on the person: a `Layout` says for each.

- open: the open body's joints lie where ANSUR II has people's (`synth/open_body/proportions.py`). Measured by `python
  -m benchmarks.keypoint_levels`: heights of the shipped detector's keypoints on street photos of people who stand
  straight and face the camera, between the eyes (0.935 of stature by ANSUR II) and the ankles (taken at 0.050),
  against the body's joints. In use is what 99 people gave; 218 agree to 1 % of a limb, and half widths are 2 % wider
  than measured, for people are turned a little. Standard errors 0.1 to 0.2 % of stature; the ankles' own height,
  which no photo of a shod foot tells, adds 0.8 % at the knee if it is off by 1 %. OpenPose puts the hip 5 % (standard
  error 1) of the thigh above the detector's, the knee 7 % (0.8) of the shank: means over 24 pictures of one man in
  which both ran. COCO's annotators, of whom OpenPose learned, are taken to be as OpenPose.
- smpl: SMPL's knees, ankles, elbows and wrists are used as they are (SMPLify, SPIN); its hip joints are 14 cm apart,
  and a hip keypoint is not.

Neck and MidHip repeat what their two sides say, so they are trusted less; those that we derived (`Person.derived`)
carry nothing new at all. The right side is always made from the left.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fitter.body.model import LANDMARK_NAMES
from fitter.see.keypoints import BODY_25, MIRROR_25, SOURCES
from priors.skeleton import JOINT_NAMES

TARGET_NAMES = JOINT_NAMES + LANDMARK_NAMES


@dataclass(frozen=True)
class Layout:
    """Where keypoints lie about a body's joints: half widths in metres of a mean body, the others shares of the way."""

    hip_half_m: float
    hip_drop: float
    shoulder_half_m: float
    shoulder_rise: float
    knee_drop: float
    ankle_rise: float


_OPEN = Layout(0.102, 0.070, 0.167, 0.15, 0.069, 0.043)
_OPEN_COCO = replace(_OPEN, hip_drop=0.020, knee_drop=0.0)
_SMPL = Layout(0.105, 0.0, 0.165, 0.15, 0.0, 0.0)
LAYOUTS = {  # whose joints: whose keypoints
    "open": {"detector": _OPEN, "openpose": _OPEN_COCO, "coco": _OPEN_COCO},
    "smpl": {"detector": _SMPL, "openpose": _SMPL, "coco": _SMPL},
}
TRUST = {
    "Nose": 0.5, "LEye": 0.5, "LEar": 0.5, "Neck": 0.5, "LShoulder": 1.0, "LElbow": 1.0, "LWrist": 1.0,
    "MidHip": 0.5, "LHip": 1.0, "LKnee": 1.0, "LAnkle": 1.0, "LBigToe": 0.5, "LSmallToe": 0.5, "LHeel": 0.5,
}  # fmt: skip


def left_targets(hip_half_m: float, shoulder_half_m: float, layout: Layout) -> dict[str, dict[str, float]]:
    """Keypoint -> weights over TARGET_NAMES that sum to 1, for the middle and the left side."""
    hip = (layout.hip_half_m / hip_half_m - 1) / 2
    shoulder = (layout.shoulder_half_m / shoulder_half_m - 1) / 2
    low, rise = (1 - layout.shoulder_rise) / 2, layout.shoulder_rise
    high, drop = 1 - layout.hip_drop, layout.hip_drop
    return {
        "Nose": {"nose": 1},
        "LEye": {"left_eye": 1},
        "LEar": {"left_ear": 1},
        "Neck": {"left_shoulder": low, "right_shoulder": low, "neck": rise},
        "LShoulder": {
            "left_shoulder": low + 0.5 + shoulder,
            "right_shoulder": low - 0.5 - shoulder,
            "neck": rise,
        },
        "LElbow": {"left_elbow": 1},
        "LWrist": {"left_wrist": 1},
        "MidHip": {
            "left_hip": high / 2,
            "right_hip": high / 2,
            "left_knee": drop / 2,
            "right_knee": drop / 2,
        },
        "LHip": {"left_hip": high * (1 + hip), "right_hip": -high * hip, "left_knee": drop},
        "LKnee": {"left_knee": 1 - layout.knee_drop, "left_ankle": layout.knee_drop},
        "LAnkle": {"left_ankle": 1 - layout.ankle_rise, "left_knee": layout.ankle_rise},
        "LBigToe": {"left_big_toe": 1},
        "LSmallToe": {"left_small_toe": 1},
        "LHeel": {"left_heel": 1},
    }


@lru_cache(maxsize=16)
def body_targets(
    source: str, hip_half_m: float, shoulder_half_m: float, layout: str = "smpl"
) -> tuple[np.ndarray, np.ndarray]:
    """The table as numbers, for one of SOURCES and a body (BodyModel.joint_layout: half widths and one of LAYOUTS).

    Returns matrix [25, 35]: rows BODY_25, columns TARGET_NAMES, each row sums to 1, so that
    matrix @ concat(joints [24, 3], landmarks [11, 3]) are the body's keypoints; and trust [25] in 0..1, to be
    multiplied into the confidence. ValueError: an unknown source or layout.
    """
    if source not in SOURCES:
        raise ValueError(f"keypoint source: expected one of {', '.join(SOURCES)}, got {source!r}")
    if layout not in LAYOUTS:
        raise ValueError(f"keypoint layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    matrix, trust = np.zeros((25, len(TARGET_NAMES))), np.zeros(25)
    for name, weights in left_targets(hip_half_m, shoulder_half_m, LAYOUTS[layout][source]).items():
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
