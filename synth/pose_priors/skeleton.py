"""The open body's mean skeleton for motion capture: rest joints, forward kinematics, mirror images.

Body frame: metres, Y up, facing +Z, X to the person's left.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from fitter.body.model import OPEN_BODY
from priors.skeleton import JOINT_PARENTS, MIRROR_JOINTS

PARENTS = np.array(JOINT_PARENTS)


def _rest_joints() -> np.ndarray:
    """The open body's mean joints, each averaged with its twin's mirror image."""
    with np.load(OPEN_BODY, allow_pickle=False) as body:
        joints = body["J_regressor"].astype(np.float64) @ body["v_template"]
    return (joints + joints[list(MIRROR_JOINTS)] * [-1.0, 1.0, 1.0]) / 2


REST_JOINTS = _rest_joints()
"""[24, 3] metres, body frame, exactly symmetric under x -> -x."""


def global_rotations(local_rotations: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Rotations relative to the parent [T, J, 3, 3] -> relative to the world [T, J, 3, 3]."""
    result = local_rotations.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            result[:, joint] = result[:, parent] @ local_rotations[:, joint]
    return result


def joint_positions(
    rotations_global: np.ndarray, parents: np.ndarray, offsets: np.ndarray, root_position: np.ndarray
) -> np.ndarray:
    """Global rotations [T, J, 3, 3], rest offsets [J, 3], root [T, 3] -> positions [T, J, 3]."""
    positions = np.empty(rotations_global.shape[:2] + (3,))
    positions[:, 0] = root_position
    for joint in range(1, len(parents)):
        parent = parents[joint]
        positions[:, joint] = positions[:, parent] + rotations_global[:, parent] @ offsets[joint]
    return positions


def pose_from_globals(rotations_global: np.ndarray) -> np.ndarray:
    """Global rotations of SMPL's joints [T, 24, 3, 3] -> SMPL pose [T, 72], axis-angle in (-pi, pi]."""
    local = rotations_global.copy()
    for joint in range(1, 24):
        parent = rotations_global[:, PARENTS[joint]]
        local[:, joint] = np.swapaxes(parent, 1, 2) @ rotations_global[:, joint]
    rotvec = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec()
    return rotvec.reshape(len(local), 72)


def smpl_joints(pose: np.ndarray) -> np.ndarray:
    """Joints [T, 24, 3] metres of the mean skeleton in poses [T, 72], pelvis at the origin."""
    local = Rotation.from_rotvec(np.asarray(pose, dtype=np.float64).reshape(-1, 3)).as_matrix()
    rotations = global_rotations(local.reshape(-1, 24, 3, 3), PARENTS)
    offsets = REST_JOINTS - REST_JOINTS[np.maximum(PARENTS, 0)]
    return joint_positions(rotations, PARENTS, offsets, np.zeros((len(rotations), 3)))
