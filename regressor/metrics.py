"""Distances between predicted and true bodies, as 3DPW, Human3.6M and MPI-INF-3DHP report them."""

import numpy as np


def mpjpe_mm(predicted_m: np.ndarray, true_m: np.ndarray, root: int = 0) -> np.ndarray:
    """Mean per-joint position error with the root joint laid on the true one. [..., J, 3] m -> [...] mm."""
    aligned = predicted_m - predicted_m[..., root : root + 1, :] + true_m[..., root : root + 1, :]
    return 1000 * np.linalg.norm(aligned - true_m, axis=-1).mean(-1)


def pa_mpjpe_mm(predicted_m: np.ndarray, true_m: np.ndarray) -> np.ndarray:
    """Mean per-joint position error after the best similarity transform. [..., J, 3] m -> [...] mm."""
    return 1000 * np.linalg.norm(procrustes(predicted_m, true_m) - true_m, axis=-1).mean(-1)


def pve_mm(predicted_m: np.ndarray, true_m: np.ndarray, predicted_root_m, true_root_m) -> np.ndarray:
    """Mean per-vertex error with the root joints [..., 3] laid on each other. [..., V, 3] m -> [...] mm."""
    predicted = predicted_m - np.asarray(predicted_root_m)[..., None, :]
    true = true_m - np.asarray(true_root_m)[..., None, :]
    return 1000 * np.linalg.norm(predicted - true, axis=-1).mean(-1)


def pve_t_sc_mm(predicted_t_m: np.ndarray, true_t_m: np.ndarray) -> np.ndarray:
    """Error of body shape alone: mean per-vertex error of T-posed bodies, moved and scaled onto each other.

    PVE-T-SC of STRAPS (Sengupta et al., BMVC 2020): both centred, the prediction scaled to the true one's root mean
    square size. [..., V, 3] m -> [...] mm.
    """
    predicted = predicted_t_m - predicted_t_m.mean(-2, keepdims=True)
    true = true_t_m - true_t_m.mean(-2, keepdims=True)
    scale = np.sqrt((true**2).sum((-1, -2)) / (predicted**2).sum((-1, -2)))
    return 1000 * np.linalg.norm(scale[..., None, None] * predicted - true, axis=-1).mean(-1)


class Tape:
    """Measures T-posed bodies of one topology: height and the girths of chest, waist and hips."""

    LEVELS = {"chest": 0.743, "waist": 0.631, "hips": 0.489}  # of the template's stature, above its soles
    TRUNK = ("pelvis", "spine1", "spine2", "spine3", "left_hip", "right_hip")

    def __init__(self, template_m: np.ndarray, faces: np.ndarray, part_ids: np.ndarray, part_names):
        """template_m: [V, 3] m, T-pose; faces: [F, 3]; part_ids: [V], an index into part_names."""
        trunk = np.isin(part_ids, [list(part_names).index(name) for name in self.TRUNK])
        self.faces = faces[trunk[faces].all(1)]
        front = np.nonzero(trunk & (template_m[:, 2] > 0) & (np.abs(template_m[:, 0]) < 0.02))[0]
        low, stature = template_m[:, 1].min(), np.ptp(template_m[:, 1])
        self.marks = {
            name: front[np.abs(template_m[front, 1] - low - share * stature).argmin()]
            for name, share in self.LEVELS.items()
        }

    def __call__(self, vertices_t_m: np.ndarray) -> dict[str, float]:
        """[V, 3] m -> height, chest, waist, hips in mm. A girth is that of the tape: of the section's convex hull."""
        result = {"height": 1000 * float(np.ptp(vertices_t_m[:, 1]))}
        for name, mark in self.marks.items():
            result[name] = 1000 * self._girth(vertices_t_m, vertices_t_m[mark, 1])
        return result

    def _girth(self, vertices: np.ndarray, height: float) -> float:
        from scipy.spatial import ConvexHull

        edges = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        ends = vertices[edges]
        above = ends[..., 1] - height
        crossing = (above[:, 0] >= 0) != (above[:, 1] >= 0)
        ends, above = ends[crossing], above[crossing]
        share = (above[:, 0] / (above[:, 0] - above[:, 1]))[:, None]
        points = (ends[:, 0] + share * (ends[:, 1] - ends[:, 0]))[:, [0, 2]]
        return float(ConvexHull(points).area)  # in two dimensions the perimeter


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
