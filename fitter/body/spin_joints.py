"""SPIN's 24 joints on a body: what datasets of its kind call `part` in the picture and `S` in space."""

from functools import lru_cache

import numpy as np

from fitter.body.model import LANDMARK_NAMES, OPEN_BODY
from priors.skeleton import JOINT_NAMES

H36M_NAMES = (
    "hip r_hip r_knee r_ankle l_hip l_knee l_ankle spine thorax nose head_top "
    "l_shoulder l_elbow l_wrist r_shoulder r_elbow r_wrist"
).split()
# SPIN's 24 joints, as rows of the open body's Human3.6M regressor or of the landmarks; its LSP neck lies at the
# shoulders' height, and MPII's pelvis and thorax are where Human3.6M has them
SPIN_24 = (
    "r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "r_wrist", "r_elbow", "r_shoulder", "l_shoulder",
    "l_elbow", "l_wrist", "thorax", "head_top", "hip", "thorax", "spine", "nose", "head_top", "nose", "left_eye",
    "right_eye", "left_ear", "right_ear",
)  # fmt: skip
# The same of a body that has no such regressor, by SMPL's own joints. SPIN itself takes 15 of them from there; the
# other 9 it regresses from the surface: here they are the nearest joint, with confidence 0
SPIN_24_OF_SMPL = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head", "pelvis", "neck", "spine2", "head",
    "head", "nose", "left_eye", "right_eye", "left_ear", "right_ear",
)  # fmt: skip
REGRESSED = (2, 3, 12, 13, 14, 15, 16, 17, 18)
HIPS, PELVIS = (2, 3), 14


def spin_joints(vertices_m: np.ndarray, body) -> np.ndarray:
    """SPIN's 24 joints of the open body's surface: [V, 3] -> [24, 3] m, same frame."""
    points = dict(zip(H36M_NAMES, h36m_regressor() @ vertices_m, strict=True))
    points |= dict(zip(LANDMARK_NAMES, vertices_m[body.landmark_ids.numpy()], strict=True))
    return np.stack([points[name] for name in SPIN_24])


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

    Confidence is 1, but 0 for the nine that only a regressor of the surface gives (both hips, LSP's neck and head top,
    MPII's pelvis and thorax, Human3.6M's spine, jaw and head) where the body has none, as SMPL's own files. Those are
    then SMPL's nearest joint, the pelvis the middle of the hips, so that centring on them still works.
    """
    if body.name == open_body_name():
        joints = np.stack([spin_joints(vertices, body) for vertices in posed.vertices.numpy()])
        return np.concatenate([joints, np.ones((*joints.shape[:2], 1))], -1)
    names = JOINT_NAMES + LANDMARK_NAMES
    points = np.concatenate([posed.joints.numpy(), posed.landmarks.numpy()], 1)
    joints = points[:, [names.index(name) for name in SPIN_24_OF_SMPL]]
    joints[:, PELVIS] = joints[:, HIPS].mean(1)
    known = np.ones((*joints.shape[:2], 1))
    known[:, REGRESSED] = 0
    return np.concatenate([joints, known], -1)
