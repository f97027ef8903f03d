"""Joint regressors of the open body: SMPL's 24 joints and Human3.6M's 17."""

from __future__ import annotations

import numpy as np

from fitter.body.spin_joints import H36M_NAMES
from priors.skeleton import JOINT_NAMES, MIRROR_JOINTS, mirror_pose

# a row's vertices lie no further from the joint, in the mean T-pose
NEAR_M = dict.fromkeys(("hip", "spine1", "spine2", "spine3", "pelvis", "collar"), 0.16)
ELSEWHERE_M = 0.09
SPREAD_M2 = 2e-7  # ridge on a row's weights: prefers many small weights to few large ones
ADULTS, POSES = 60, 12  # of which rows are learned: each adult at rest and in so many poses
# largest bends (rad, about x, y, z) of the joints that bend far; the others turn by OTHERS_RAD about any axis
BENDS = {
    "knee": ((0.0, 2.6), (-0.2, 0.2), (-0.1, 0.1)),
    "left_elbow": ((-0.3, 0.3), (-2.6, 0.0), (-0.2, 0.2)),
    "hip": ((-2.0, 0.4), (-0.5, 0.5), (-0.2, 0.9)),
    "left_shoulder": ((-0.5, 0.5), (-1.2, 0.8), (-1.4, 1.2)),
}
OTHERS_RAD = 0.4


def training_poses(count: int, seed: int = 0) -> np.ndarray:
    """Left-sided random bends of every joint, the right side at rest's mirror image of them. -> [count, 72] rad."""
    rng = np.random.default_rng(seed)
    pose = np.zeros((count, 24, 3))
    for j, name in enumerate(JOINT_NAMES[1:], 1):
        if name.startswith("right_"):
            continue
        ranges = next(
            (ends for key, ends in BENDS.items() if name.endswith(key)), ((-OTHERS_RAD, OTHERS_RAD),) * 3
        )
        low, high = np.array(ranges).T
        pose[:, j] = rng.uniform(low, high, (count, 3))
        if MIRROR_JOINTS[j] == j:
            pose[:, j, 1:] = 0  # the trunk bends forward and back: the body stays its own mirror image
    flat = pose.reshape(count, 72)
    return flat + mirror_pose(flat) * np.repeat([MIRROR_JOINTS[j] != j for j in range(24)], 3)


def joint_regressor(
    halves: np.ndarray, joints: np.ndarray, weights: np.ndarray, vertex_count: int, mirror_ids: np.ndarray
) -> np.ndarray:
    """Sparse, non-negative rows that sum to 1 and give the joints of every shape, at rest and posed.

    A row uses vertices within NEAR_M of its joint, or the 41 nearest.

    halves: [N, H, 3], the first H of the whole's V vertices; joints: [N, 24, 3]; weights: [H, 24] skinning of the half;
    mirror_ids: [V] -> [24, V], symmetric. A left joint uses vertices of the left half; a joint of the middle uses
    vertices together with their twins.
    """
    from scipy.optimize import nnls

    rows = np.zeros((len(JOINT_NAMES), vertex_count))
    mean, mean_joints = halves.mean(0), joints.mean(0)
    posed, posed_joints = _posed_adults(halves[:ADULTS], joints[:ADULTS], weights)
    for j, (name, twin) in enumerate(zip(JOINT_NAMES, MIRROR_JOINTS, strict=True)):
        if twin < j:
            continue
        axes = [1, 2] if twin == j else [0, 1, 2]
        reach = next((m for key, m in NEAR_M.items() if name.endswith(key)), ELSEWHERE_M)
        distance = np.linalg.norm(mean - mean_joints[j], axis=1)
        near = np.nonzero(distance < max(reach, np.sort(distance)[40]))[0]
        rest = (halves[:, near] - joints[:, None, j])[..., axes]
        bent = (posed[:, near] - posed_joints[:, None, j])[..., axes]
        gram = sum(
            np.einsum("nvc,nwc->vw", offsets, offsets, optimize=True) / len(offsets)
            for offsets in (rest, bent)
        )
        gram = gram + SPREAD_M2 * np.eye(len(near))
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


def _posed_adults(halves, joints, weights) -> tuple[np.ndarray, np.ndarray]:
    """Adults in POSES poses each: vertices [N P, H, 3], joints [N P, 24, 3]."""
    from synth.clothes.people import joint_affines

    poses = training_poses(POSES * len(halves))
    affines = np.stack(
        [joint_affines(pose, joints[i % len(halves)]) for i, pose in enumerate(poses)]
    )  # [N P, 24, 3, 4]
    owners = np.arange(len(poses)) % len(halves)
    blended = (weights @ affines.reshape(len(poses), 24, 12)).reshape(len(poses), -1, 3, 4)
    posed = np.einsum("nvac,nvc->nva", blended[..., :3], halves[owners]) + blended[..., 3]
    at = np.einsum("njac,njc->nja", affines[..., :3], joints[owners]) + affines[..., 3]
    return posed, at


def h36m_regressor(
    regressor: np.ndarray, vertices: np.ndarray, mirror_ids: np.ndarray, nose: int
) -> np.ndarray:
    """17 Human3.6M joints from anatomy. regressor: [24, V], vertices: [V, 3] -> [17, V].

    hip: middle of the hips; thorax: base of the neck, between the neck joint and the shoulders' middle;
    spine: halfway from hip to thorax; jaw: halfway from the head joint to the tip of the nose; head_top: the
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
        "jaw": 0.5 * (row["head"] + one_hot[nose]),
        "head_top": 0.5 * (one_hot[top] + one_hot[mirror_ids[top]]),
    }
    sides = {"l_": "left_", "r_": "right_"}
    return np.stack([central[n] if n in central else row[sides[n[:2]] + n[2:]] for n in H36M_NAMES])
