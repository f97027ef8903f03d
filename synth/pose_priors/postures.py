"""What people do in a frame - stand, walk, sit, lean, something else - told from their joints and gravity."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from priors.skeleton import JOINT_NAMES
from synth.pose_priors.knees import knee_flexion
from synth.pose_priors.skeleton import REST_JOINTS, smpl_joints

POSTURES = ("standing", "walking", "sitting", "leaning", "other")
LEG_M = float(REST_JOINTS[JOINT_NAMES.index("pelvis"), 1] - REST_JOINTS[JOINT_NAMES.index("left_ankle"), 1])
"""Height of the pelvis over the ankles of who stands straight."""

UPRIGHT_DEG = 20.0  # trunk and pelvis against the vertical
LEVEL_FEET_M = 0.06
QUIET_M_PER_S = 0.15  # root mean square over the joints, the pelvis held still
FRAMES_PER_S = 30.0
STRAIGHT_KNEE_DEG, OTHER_KNEE_DEG = 12.0, 20.0
STANDING_THIGH_DEG = 25.0  # from straight down
STRIDE_DEG = 16.0  # between the thighs, forward and back: more is a step
WALKING_THIGH_DEG, WALKING_KNEE_DEG = 45.0, 30.0
BENT_KNEE_DEG = 60.0  # more is no leg to lean on
SITTING_THIGH_DEG, SITTING_SHANK_DEG, SITTING_TRUNK_DEG = 55.0, 40.0, 35.0
LEANING_DEG = 30.0


def down_in_pelvis(pose: np.ndarray) -> np.ndarray:
    """Gravity's direction in the pelvis's frame, unit [T, 3], of poses [T, 72] in a world with Y up."""
    return Rotation.from_rotvec(pose[:, :3]).inv().apply([0.0, -1.0, 0.0])


def _from(direction: np.ndarray, vertical: float) -> np.ndarray:
    """Angle [T] degrees of vectors [T, 3] from (0, vertical, 0)."""
    cosine = vertical * direction[:, 1] / np.linalg.norm(direction, axis=1)
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


class _Stance:
    """Angles [T] degrees and heights [T] metres of poses [T, 72] that tell postures apart; per leg [T, 2]."""

    def __init__(self, pose: np.ndarray):
        joints = smpl_joints(pose)

        def at(name):
            return joints[:, JOINT_NAMES.index(name)]

        thighs = [at(f"{side}_knee") - at(f"{side}_hip") for side in ("left", "right")]
        shanks = [at(f"{side}_ankle") - at(f"{side}_knee") for side in ("left", "right")]
        heights = np.stack([at("left_ankle")[:, 1], at("right_ankle")[:, 1]], 1)
        forward = np.cross(at("left_hip") - at("right_hip"), [0.0, 1.0, 0.0])
        forward /= np.linalg.norm(forward, axis=1, keepdims=True)
        swing = [np.degrees(np.arctan2((thigh * forward).sum(1), -thigh[:, 1])) for thigh in thighs]
        self.joints = joints
        self.trunk = _from(at("neck") - at("pelvis"), 1.0)
        self.pelvis = _from(-down_in_pelvis(pose), 1.0)
        self.thighs = np.stack([_from(thigh, -1.0) for thigh in thighs], 1)
        self.shanks = np.stack([_from(shank, -1.0) for shank in shanks], 1)
        self.knees = np.degrees(knee_flexion(pose))
        self.stride = np.abs(swing[0] - swing[1])
        self.feet_apart = np.abs(heights[:, 0] - heights[:, 1])
        self.upright = (self.trunk < UPRIGHT_DEG) & (heights.max(1) < -0.8 * LEG_M)


def stands_quietly(pose: np.ndarray) -> np.ndarray:
    """Which frames of a clip [T, 72] stand upright on both feet, knees bent or not, and hardly move. -> [T]."""
    if len(pose) < 2:
        return np.zeros(len(pose), dtype=bool)
    stance = _Stance(pose)
    speed = np.sqrt((np.gradient(stance.joints, axis=0) ** 2).sum(2).mean(1)) * FRAMES_PER_S
    return stance.upright & (stance.feet_apart < LEVEL_FEET_M) & (speed < QUIET_M_PER_S)


def is_upright(pose: np.ndarray) -> np.ndarray:
    """Which poses [T, 72] have the trunk near vertical and both feet well below the pelvis. -> [T]."""
    return _Stance(pose).upright


def classify(pose: np.ndarray) -> np.ndarray:
    """Index into POSTURES [T] of poses [T, 72] in a world with Y up, each frame by itself.

    standing: upright on level feet, thighs under the hips, both legs nearly straight. walking: upright, a leg ahead of
    the other, or all weight on a straight one. sitting: thighs level and shanks upright below an upright trunk.
    leaning: the trunk bent over legs that stand.
    """
    stance = _Stance(pose)
    support = stance.knees.min(1)
    on_legs = stance.upright & (stance.pelvis < UPRIGHT_DEG)
    standing = (
        on_legs
        & (stance.feet_apart < LEVEL_FEET_M)
        & (support < STRAIGHT_KNEE_DEG)
        & (stance.knees.max(1) < OTHER_KNEE_DEG)
        & (stance.thighs.max(1) < STANDING_THIGH_DEG)
        & (stance.stride < STRIDE_DEG)
    )
    stepping = (stance.stride > STRIDE_DEG) & (support < WALKING_KNEE_DEG)
    walking = (
        (stance.trunk < UPRIGHT_DEG)
        & (stance.pelvis < UPRIGHT_DEG)
        & (stance.thighs.max(1) < WALKING_THIGH_DEG)
        & (stepping | (support < STRAIGHT_KNEE_DEG))
    )
    sitting = (
        (stance.trunk < SITTING_TRUNK_DEG)
        & (stance.thighs.min(1) > SITTING_THIGH_DEG)
        & (stance.shanks.max(1) < SITTING_SHANK_DEG)
    )
    leaning = (
        (stance.trunk > LEANING_DEG) & (stance.thighs.min(1) < WALKING_THIGH_DEG) & (support < BENT_KNEE_DEG)
    )
    return np.select([standing, walking, sitting, leaning], [0, 1, 2, 3], default=4)
