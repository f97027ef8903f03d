"""Knees: how far they bend, and bending them further without moving hips, ankles' line or feet."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from priors.skeleton import JOINT_NAMES
from synth.pose_priors.skeleton import PARENTS, REST_JOINTS, global_rotations, pose_from_globals

# Sine of the bend beyond which the plane of thigh and shank decides the bending axis; nearer to straight it is the
# thigh's own x axis.
_PLANE_DECIDES = 0.1


def _globals(pose: np.ndarray) -> np.ndarray:
    local = Rotation.from_rotvec(np.asarray(pose, dtype=np.float64).reshape(-1, 3)).as_matrix()
    return global_rotations(local.reshape(-1, 24, 3, 3), PARENTS)


def _leg(rotations: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thigh [T, 3] and shank [T, 3], metres in the world, and the unit axis [T, 3] about which the knee bends."""
    hip, knee, ankle = (JOINT_NAMES.index(f"{side}_{name}") for name in ("hip", "knee", "ankle"))
    thigh = rotations[:, hip] @ (REST_JOINTS[knee] - REST_JOINTS[hip])
    shank = rotations[:, knee] @ (REST_JOINTS[ankle] - REST_JOINTS[knee])
    lateral = rotations[:, hip, :, 0]
    normal = np.cross(thigh, shank) / (np.linalg.norm(thigh[0]) * np.linalg.norm(shank[0]))
    forward = (normal * lateral).sum(1, keepdims=True) < 0
    axis = np.where(forward, -normal, normal) + _PLANE_DECIDES * lateral
    return thigh, shank, axis / np.linalg.norm(axis, axis=1, keepdims=True)


def knee_flexion(pose: np.ndarray) -> np.ndarray:
    """Bend of the left and right knee [T, 2] rad of poses [T, 72]: the angle between thigh and shank, 0 straight.

    Measured on the joints; negative where the knee is bent backward.
    """
    rotations = _globals(pose)
    bends = []
    for side in ("left", "right"):
        thigh, shank, axis = _leg(rotations, side)
        turn = np.cross(thigh, shank)
        sign = np.where((turn * axis).sum(1) < 0, -1.0, 1.0)
        bends.append(sign * np.arctan2(np.linalg.norm(turn, axis=1), (thigh * shank).sum(1)))
    return np.stack(bends, axis=1)


def _turns(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotations [T, 3, 3] from vectors [T, 3] to vectors [T, 3] less than a half turn away."""
    axis = np.cross(source, target)
    sine, cosine = np.linalg.norm(axis, axis=1), (source * target).sum(1)
    angle = np.arctan2(sine, cosine)
    return Rotation.from_rotvec(axis * (angle / np.maximum(sine, 1e-12))[:, None]).as_matrix()


def bend_knees(pose: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Poses [T, 72] with both knees bent further by `by` [2] or [T, 2] rad (left, right); negative straightens.

    The line from hip to ankle and the feet keep their directions in the world: hip and ankle make up for the knee, each
    by its bone's share.
    """
    before = _globals(pose)
    after = before.copy()
    for column, side in enumerate(("left", "right")):
        thigh, shank, axis = _leg(before, side)
        angle = np.broadcast_to(by, (len(before), 2))[:, column]
        bent = Rotation.from_rotvec(axis * angle[:, None]).as_matrix()
        back = _turns(thigh + (bent @ shank[..., None])[..., 0], thigh + shank)
        hip, knee = JOINT_NAMES.index(f"{side}_hip"), JOINT_NAMES.index(f"{side}_knee")
        after[:, hip] = back @ before[:, hip]
        after[:, knee] = back @ bent @ before[:, knee]
    return pose_from_globals(after)
