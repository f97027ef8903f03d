"""Distances between predicted and true bodies, as 3DPW, Human3.6M and MPI-INF-3DHP report them."""

import numpy as np


def mpjpe_mm(predicted_m: np.ndarray, true_m: np.ndarray, root: int = 0) -> np.ndarray:
    """Mean per-joint position error with the root joint laid on the true one. [..., J, 3] m -> [...] mm."""
    aligned = predicted_m - predicted_m[..., root : root + 1, :] + true_m[..., root : root + 1, :]
    return 1000 * np.linalg.norm(aligned - true_m, axis=-1).mean(-1)


def pa_mpjpe_mm(predicted_m: np.ndarray, true_m: np.ndarray) -> np.ndarray:
    """Mean per-joint position error after the best similarity transform. [..., J, 3] m -> [...] mm."""
    return 1000 * np.linalg.norm(procrustes(predicted_m, true_m) - true_m, axis=-1).mean(-1)


def procrustes(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`points` moved by the rotation, scale and translation that bring them closest to `target`; [..., J, 3].

    Umeyama (1991): no reflection.
    """
    mean_p, mean_t = points.mean(-2, keepdims=True), target.mean(-2, keepdims=True)
    p, t = points - mean_p, target - mean_t
    u, s, vt = np.linalg.svd(np.swapaxes(p, -1, -2) @ t)
    sign = np.ones_like(s)
    sign[..., -1] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[..., None, :]) @ vt
    scale = (s * sign).sum(-1) / (p**2).sum((-1, -2))
    return scale[..., None, None] * (p @ rotation) + mean_t
