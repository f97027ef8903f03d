"""What a body wears: the 20 clothing labels, DSR's classes of them, and the prior P(label | vertex).

Labels: Graphonomy's "universal" ids, the order of LIP. Left and right are the person's own. DSR supplement, Table I.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from priors.checkpoint import read_npz

# fmt: off
LABELS = (
    "background", "hat", "hair", "glove", "sunglasses", "upper-clothes", "dress", "coat", "socks", "pants",
    "jumpsuits", "scarf", "skirt", "face", "left-arm", "right-arm", "left-leg", "right-leg", "left-shoe",
    "right-shoe",
)
PALETTE = np.array([
    (0, 0, 0), (128, 0, 0), (255, 0, 0), (0, 85, 0), (170, 0, 51), (255, 85, 0), (0, 0, 85), (0, 119, 221),
    (85, 85, 0), (0, 85, 85), (85, 51, 0), (52, 86, 128), (0, 128, 0), (0, 0, 255), (51, 170, 221),
    (0, 255, 255), (85, 255, 170), (170, 255, 85), (255, 255, 0), (255, 170, 0),
], np.uint8)
# fmt: on
MIRROR_LABELS = tuple(range(14)) + (15, 14, 17, 16, 19, 18)
CLASSES = ("background", "lower", "upper", "minimal")  # DSR-C, in the order of the reference code
CLASS_LABELS = {
    "background": (0,),
    "lower": (9, 12),
    "upper": (5, 6, 7, 10),
    "minimal": (1, 2, 3, 4, 8, 11, 13, 14, 15, 16, 17, 18, 19),
}
MC_LABELS = (13, 14, 15, 18, 19)  # DSR-MC: face, arms, shoes
OPEN_PRIOR = Path(__file__).parent / "data" / "clothing_prior.npz"


def class_matrix() -> np.ndarray:
    """[20, 4] of 0 and 1: label -> DSR-C class; probabilities @ it are class probabilities."""
    matrix = np.zeros((len(LABELS), len(CLASSES)))
    for column, name in enumerate(CLASSES):
        matrix[list(CLASS_LABELS[name]), column] = 1
    return matrix


@dataclass(frozen=True)
class ClothingPrior:
    """prob [V, 20]: probability of each label at each vertex, rows sum to 1; name: where it comes from."""

    prob: np.ndarray
    name: str


def load_clothing_prior(path: str | None, vertices: np.ndarray, faces: np.ndarray) -> ClothingPrior:
    """The shipped prior, or one by path, for the body with these T-posed vertices [V, 3] m and faces [F, 3].

    `.npz`: prob [V, 20] with the vertices [V, 3] and faces of the body that it was learned on; moved to this body if
    that is another. `.npy`: the reference implementation's [F, 20] per face of SMPL (13776 x 20).
    ValueError: another content, expected and found named.
    """
    where = Path(path) if path else OPEN_PRIOR
    if not where.is_file():
        raise FileNotFoundError(
            f"clothing prior {where}: expected an .npz or semantic_prior.npy, found no file"
        )
    if where.suffix == ".npy":
        per_face = read_npz(where, "clothing prior").get("", np.zeros(0))
        if per_face.dtype.kind not in "fiu" or per_face.shape != (len(faces), len(LABELS)):
            raise ValueError(
                f"clothing prior {where}: expected one row of 20 per face of the body, {(len(faces), 20)}, got "
                f"{per_face.shape}; the reference's semantic_prior.npy belongs to SMPL (13776 faces): give --body"
            )
        return ClothingPrior(_normalised(per_vertex(per_face, faces, len(vertices)), where), where.stem)
    arrays = read_npz(where, "clothing prior")
    missing = {"prob", "vertices", "faces"} - arrays.keys()
    if missing:
        raise ValueError(f"clothing prior {where}: expected prob, vertices, faces; {sorted(missing)} missing")
    prob, source_vertices, source_faces = (arrays[key] for key in ("prob", "vertices", "faces"))
    _check_arrays(prob, source_vertices, source_faces, where)
    prob = prob.astype(np.float64)
    if source_vertices.shape != vertices.shape or not np.allclose(source_vertices, vertices, atol=1e-4):
        prob = transfer(prob, source_vertices, source_faces, vertices)
    return ClothingPrior(_normalised(prob, where), where.stem)


def per_vertex(per_face: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """Mean of the faces round each vertex: [F, C] -> [count, C]."""
    total, number = np.zeros((count, per_face.shape[1])), np.zeros(count)
    for corner in range(3):
        np.add.at(total, faces[:, corner], per_face)
        np.add.at(number, faces[:, corner], 1)
    return total / np.maximum(number, 1)[:, None]


def transfer(values: np.ndarray, source_vertices: np.ndarray, source_faces: np.ndarray, vertices: np.ndarray):
    """Vertex values [V', C] of one body at the closest surface points of another's vertices [V, 3], both T-posed.

    The bodies are laid on each other by height and middle first. Returns [V, C].
    """
    import trimesh

    source, target = _laid_out(source_vertices), _laid_out(vertices)
    mesh = trimesh.Trimesh(source, source_faces, process=False)
    _, nearest = cKDTree(mesh.triangles_center).query(target, k=min(24, len(source_faces)))
    triangles = mesh.triangles[nearest].reshape(-1, 3, 3)
    count = nearest.shape[1]
    points = trimesh.triangles.closest_point(triangles, np.repeat(target, count, 0))
    distance = np.linalg.norm(points - np.repeat(target, count, 0), axis=1).reshape(-1, count)
    best = distance.argmin(1)
    rows = np.arange(len(target))
    face = nearest[rows, best]
    corners = mesh.triangles[face]
    bary = trimesh.triangles.points_to_barycentric(corners, points.reshape(-1, count, 3)[rows, best])
    bary = np.clip(np.nan_to_num(bary, nan=1 / 3), 0, None)  # a sliver triangle has no barycentrics
    bary /= bary.sum(1, keepdims=True)
    return np.einsum("vk,vkc->vc", bary, values[source_faces[face]])


def _laid_out(vertices: np.ndarray) -> np.ndarray:
    low, high = vertices.min(0), vertices.max(0)
    return (vertices - (low + high) / 2) / (high[1] - low[1])


def _check_arrays(prob: np.ndarray, vertices: np.ndarray, faces: np.ndarray, where: Path) -> None:
    """ValueError: not a prior on a mesh."""
    count = len(vertices) if vertices.ndim else 0
    whole = (
        vertices.dtype.kind == "f" and vertices.shape == (count, 3) and np.isfinite(vertices).all()
        and count and np.ptp(vertices[:, 1]) > 0 and faces.dtype.kind in "iu" and faces.shape == (len(faces), 3)
        and len(faces) and 0 <= faces.min() and faces.max() < count
    ) if faces.ndim else False  # fmt: skip
    if prob.dtype.kind not in "fiu" or prob.shape != (count, len(LABELS)) or not whole:
        raise ValueError(
            f"clothing prior {where}: expected prob [V, 20] on vertices [V, 3] m and faces [F, 3] of 0..V-1, got "
            f"{prob.dtype} {prob.shape} on {vertices.dtype} {vertices.shape} and {faces.dtype} {faces.shape}"
        )


def _normalised(prob: np.ndarray, where: Path) -> np.ndarray:
    with np.errstate(all="ignore"):
        total = prob.sum(1, keepdims=True)
        whole = np.isfinite(total).all() and (prob >= 0).all() and (total > 0).all()
    if not whole:
        raise ValueError(
            f"clothing prior {where}: expected probabilities >= 0 with a positive sum at every vertex"
        )
    return prob / total
