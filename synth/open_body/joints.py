"""Joint regressors of the open body: SMPL's 24 joints and Human3.6M's 17."""

from __future__ import annotations

import numpy as np

from fitter.spin_joints import H36M_NAMES
from synth.open_body.pose import JOINT_NAMES, TWINS

REGRESSOR_CANDIDATES = 400
REGRESSOR_SPREAD_M2 = 2e-7  # ridge on regressor weights: prefers many small weights to few large ones


def joint_regressor(
    halves: np.ndarray, joints: np.ndarray, vertex_count: int, mirror_ids: np.ndarray
) -> np.ndarray:
    """Sparse, local, non-negative rows that sum to 1 and give the joints of every shape.

    halves: [N, H, 3], the first H of the whole's V vertices; joints: [N, 24, 3]; mirror_ids: [V]
    -> [24, V], symmetric. A left joint uses vertices of the left half;
    a joint of the middle uses vertices together with their twins.
    """
    from scipy.optimize import nnls

    rows = np.zeros((len(JOINT_NAMES), vertex_count))
    mean, mean_joints = halves.mean(0), joints.mean(0)
    for j, twin in enumerate(TWINS):
        if twin < j:
            continue
        axes = [1, 2] if twin == j else [0, 1, 2]
        distance = np.linalg.norm(mean - mean_joints[j], axis=1)
        near = np.argsort(distance, kind="stable")[:REGRESSOR_CANDIDATES]
        offsets = (halves[:, near] - joints[:, None, j])[..., axes].transpose(0, 2, 1).reshape(-1, len(near))
        gram = offsets.T @ offsets / len(halves) + REGRESSOR_SPREAD_M2 * np.eye(len(near))
        sum_weight = 10.0
        system = np.concatenate([np.linalg.cholesky(gram).T, np.full((1, len(near)), sum_weight)])
        solution, _ = nnls(system, np.append(np.zeros(len(near)), sum_weight))
        solution[solution < 2e-3 * solution.max()] = 0
        rows[j, near] = solution / solution.sum()
        if twin == j:
            rows[j] = 0.5 * (rows[j] + rows[j][mirror_ids])
        else:
            rows[twin] = rows[j][mirror_ids]
    return rows


def h36m_regressor(
    regressor: np.ndarray, vertices: np.ndarray, mirror_ids: np.ndarray, nose: int
) -> np.ndarray:
    """17 Human3.6M joints from anatomy. regressor: [24, V], vertices: [V, 3] -> [17, V].

    hip: middle of the hips; thorax: base of the neck, between the neck joint and the shoulders' middle;
    spine: halfway from hip to thorax; nose: halfway from the head joint to the tip of the nose; head_top: the
    highest vertex and its twin; limbs: the SMPL joints of that name.
    """
    row = dict(zip(JOINT_NAMES, regressor, strict=True))
    one_hot = np.eye(len(vertices))
    top = int(vertices[:, 1].argmax())
    hip = 0.5 * (row["left_hip"] + row["right_hip"])
    thorax = 0.5 * row["neck"] + 0.25 * (row["left_shoulder"] + row["right_shoulder"])
    central = {
        "hip": hip,
        "thorax": thorax,
        "spine": 0.5 * (hip + thorax),
        "nose": 0.5 * (row["head"] + one_hot[nose]),
        "head_top": 0.5 * (one_hot[top] + one_hot[mirror_ids[top]]),
    }
    sides = {"l_": "left_", "r_": "right_"}
    return np.stack([central[n] if n in central else row[sides[n[:2]] + n[2:]] for n in H36M_NAMES])
