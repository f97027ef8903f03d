"""SPIN's 24 joints on a body: what datasets of its kind call `part` in the picture and `S` in space."""

from functools import lru_cache

import numpy as np

from fitter.body.model import LANDMARK_NAMES, OPEN_BODY
from priors.skeleton import JOINT_NAMES

H36M_NAMES = (
    "hip r_hip r_knee r_ankle l_hip l_knee l_ankle spine thorax jaw head_top "
    "l_shoulder l_elbow l_wrist r_shoulder r_elbow r_wrist"
).split()
# SPIN's 24 joints as rows of a Human3.6M regressor, or landmarks: what the datasets' evaluations take from a surface.
# LSP's neck lies at the shoulders' height, and MPII's pelvis and thorax are where Human3.6M has them
SPIN_24 = (
    "r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "r_wrist", "r_elbow", "r_shoulder", "l_shoulder",
    "l_elbow", "l_wrist", "thorax", "head_top", "hip", "thorax", "spine", "jaw", "head_top", "nose", "left_eye",
    "right_eye", "left_ear", "right_ear",
)  # fmt: skip
# The same as SMPL's own joints and landmarks: SPIN's joint map takes 15 of the 24 from there, and the other nine,
# REGRESSED, from the surface. Of a body without regressor those nine are the nearest joint, with confidence 0
SPIN_24_OF_SMPL = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head", "pelvis", "neck", "spine2", "head",
    "head", "nose", "left_eye", "right_eye", "left_ear", "right_ear",
)  # fmt: skip
REGRESSED = (2, 3, 12, 13, 14, 15, 16, 17, 18)
HIPS, PELVIS = (2, 3), 14
_COLUMNS = [(JOINT_NAMES + LANDMARK_NAMES).index(name) for name in SPIN_24_OF_SMPL]
_SURFACE_ROWS = [H36M_NAMES.index(SPIN_24[joint]) for joint in REGRESSED]


def spin_joints(points_m: np.ndarray, vertices_m: np.ndarray | None) -> np.ndarray:
    """SPIN's 24 joints of N bodies, [N, 24, 3] m, same frame, by SPIN's joint map.

    points_m: [N, 35, 3] joints and landmarks; vertices_m: [N, V, 3] of the open body, None for a body without
    Human3.6M regressor, whose REGRESSED joints are then SMPL's nearest and the pelvis the middle of the hips.
    """
    joints = points_m[:, _COLUMNS].copy()
    if vertices_m is None:
        joints[:, PELVIS] = joints[:, HIPS].mean(1)
    else:
        joints[:, REGRESSED] = h36m_regressor()[_SURFACE_ROWS] @ vertices_m
    return joints


@lru_cache(maxsize=1)
def h36m_regressor() -> np.ndarray:
    """The open body's, [17, V]."""
    with np.load(OPEN_BODY, allow_pickle=False) as file:
        return file["J_regressor_h36m"]


@lru_cache(maxsize=1)
def open_body_name() -> str:
    """Name of the one body that has a Human3.6M regressor."""
    with np.load(OPEN_BODY, allow_pickle=False) as file:
        return str(file["name"])


def spin_joints_of(posed, body) -> np.ndarray:
    """SPIN's 24 joints of N bodies with their confidence, [N, 24, 4] m, in the frame of `posed` (a PosedBody).

    Confidence is 1, but 0 for the REGRESSED where the body has no regressor, as SMPL's own files (both hips, LSP's neck
    and head top, MPII's pelvis and thorax, Human3.6M's spine, jaw and head); centring on them still works.
    """
    surface = posed.vertices.numpy() if body.name == open_body_name() else None
    joints = spin_joints(np.concatenate([posed.joints.numpy(), posed.landmarks.numpy()], 1), surface)
    known = np.ones((*joints.shape[:2], 1))
    if surface is None:
        known[:, REGRESSED] = 0
    return np.concatenate([joints, known], -1)
