"""Mesh surgery for the open body: cap openings, decimate one half, mirror and weld, check.

Everything works on the half x >= 0 of a surface whose border lies exactly on x = 0, so that the welded
whole is symmetric by construction. Decimation keeps original vertices (half-edge collapses), so whatever
is linear on the source mesh (blend shapes, weights) carries over by picking rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

LENGTH_COST = 2e-3  # weight of (edge length)^2 x area against the quadric error, keeps triangles even
MAX_TURN_COS = 0.35  # a collapse may not turn a face normal by more than about 70 degrees
MIN_SHAPE = 0.06  # least 4*sqrt(3)*area / sum of squared edges of a new triangle (1 = equilateral)


def border_edges(faces: np.ndarray) -> np.ndarray:
    """Edges used by exactly one face, in that face's direction. faces: [F, 3] int -> [E, 2] int."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    keys, inverse, counts = np.unique(np.sort(edges, 1), axis=0, return_inverse=True, return_counts=True)
    return edges[counts[inverse.ravel()] == 1]


def triangulate_quads(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Split each quad along its shorter diagonal. vertices: [V, 3], quads: [Q, 4] int -> [2Q, 3] int."""
    first = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    second = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    along_first = np.stack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1)
    along_second = np.stack([quads[:, [0, 1, 3]], quads[:, [1, 2, 3]]], 1)
    return np.where((first <= second)[:, None, None], along_first, along_second).reshape(-1, 3)


def chains(edges: np.ndarray) -> list[list[int]]:
    """Order directed edges into chains (open) or loops (first vertex not repeated). edges: [E, 2] int."""
    following = {int(a): int(b) for a, b in edges}
    starts = sorted(set(following) - set(following.values()))
    found = []
    while following:
        here = starts.pop(0) if starts else min(following)
        chain = [here]
        while here in following:
            here = following.pop(here)
            if here == chain[0]:
                break
            chain.append(here)
        found.append(chain)
    return found


def zip_chain(vertices: np.ndarray, chain: Sequence[int]) -> np.ndarray:
    """Close an open chain whose two ends lie on the mirror plane by cutting its shortest ears.

    vertices: [V, 3]; chain: K vertex ids in the direction of the border -> [K - 2, 3] int faces, oriented
    like their neighbours; the last edge joins the two ends on the mirror plane.
    """
    left = list(chain)
    faces = []
    while len(left) > 2:
        gaps = [
            np.linalg.norm(vertices[left[i - 1]] - vertices[left[i + 1]]) for i in range(1, len(left) - 1)
        ]
        i = int(np.argmin(gaps)) + 1
        faces.append([left[i + 1], left[i], left[i - 1]])
        del left[i]
    return np.array(faces, int)


def fan_loop(loop: Sequence[int], apex: int) -> np.ndarray:
    """Close a border loop with a fan to vertex `apex`. loop: K ids in border direction -> [K, 3] int."""
    return np.array([[loop[(i + 1) % len(loop)], loop[i], apex] for i in range(len(loop))], int)


def _plane_quadrics(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted squared-distance quadrics of each face's plane. -> [F, 4, 4]."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(normals, axis=1)
    normals = normals / np.maximum(double_area, 1e-15)[:, None]
    planes = np.concatenate([normals, -np.einsum("ij,ij->i", normals, corners[:, 0])[:, None]], 1)
    return 0.5 * double_area[:, None, None] * planes[:, :, None] * planes[:, None, :]


class _HalfMesh:
    """Faces around vertices, quadrics and the legality of half-edge collapses on the half x >= 0."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray):
        self.vertices = vertices
        self.faces = {i: tuple(int(j) for j in face) for i, face in enumerate(faces)}
        self.around: dict[int, set[int]] = {}
        for i, face in self.faces.items():
            for j in face:
                self.around.setdefault(j, set()).add(i)
        self.border = set(int(i) for i in border_edges(faces).ravel())
        self.quadrics = np.zeros((len(vertices), 4, 4))
        planes = _plane_quadrics(vertices, faces)
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        for i, face in enumerate(faces):
            for j in face:
                self.quadrics[j] += planes[i]
                if int(j) in self.border:  # the mirrored half's plane counts as well
                    self.quadrics[j] += flip @ planes[i] @ flip

    def ring(self, u: int) -> set[int]:
        return {j for i in self.around[u] for j in self.faces[i]} - {u}

    def is_border_edge(self, u: int, v: int) -> bool:
        return len(self.around[u] & self.around[v]) == 1

    def cost(self, u: int, v: int) -> float:
        """Error of moving u onto v."""
        point = np.append(self.vertices[v], 1.0)
        area = np.trace(self.quadrics[u][:3, :3])
        length_sq = float(np.sum((self.vertices[u] - self.vertices[v]) ** 2))
        return float(point @ (self.quadrics[u] + self.quadrics[v]) @ point) + LENGTH_COST * length_sq * area

    def legal(self, u: int, v: int) -> bool:
        """Whether u -> v keeps the welded whole manifold and no face flips or degenerates."""
        if u in self.border and not (v in self.border and self.is_border_edge(u, v)):
            return False
        shared = self.around[u] & self.around[v]
        common = self.ring(u) & self.ring(v)
        if len(common) != len(shared) or len(self.around[u]) <= len(shared):
            return False
        if v in self.border and u not in self.border:
            # no chord between two border vertices may appear: its mirror image would coincide with it
            if any(j in self.border and j != v and j not in common for j in self.ring(u)):
                return False
        if any(len(self.ring(j)) <= 4 and j not in self.border for j in common):
            return False
        for i in self.around[u] - shared:
            old = self.vertices[list(self.faces[i])]
            new = self.vertices[[v if j == u else j for j in self.faces[i]]]
            n_old = np.cross(old[1] - old[0], old[2] - old[0])
            n_new = np.cross(new[1] - new[0], new[2] - new[0])
            size = np.linalg.norm(n_new)
            sides = np.sum((new - np.roll(new, 1, 0)) ** 2)
            if n_old @ n_new < MAX_TURN_COS * np.linalg.norm(n_old) * size:
                return False
            if 2 * np.sqrt(3) * size < MIN_SHAPE * sides:
                return False
        return True

    def collapse(self, u: int, v: int) -> None:
        for i in self.around[u] & self.around[v]:
            for j in self.faces[i]:
                if j != u:
                    self.around[j].discard(i)
            self.around[u].discard(i)
            del self.faces[i]
        for i in self.around.pop(u):
            self.faces[i] = tuple(v if j == u else j for j in self.faces[i])
            self.around[v].add(i)
        self.quadrics[v] = self.quadrics[v] + self.quadrics[u]


def decimate_half(
    vertices: np.ndarray,
    faces: np.ndarray,
    regions: Sequence[tuple[np.ndarray, int]],
    keep: Sequence[int],
) -> np.ndarray:
    """Collapse edges of a half mesh until each region has its target count (or nothing legal is left).

    vertices: [V, 3], the border exactly on x = 0; faces: [F, 3] int; regions: pairs (mask [V] bool of the
    vertices that may vanish, number of them to leave); keep: ids that must stay. -> [F', 3] int faces over
    the same vertex ids. Quadric error (Garland and Heckbert 1997) with subset placement.
    """
    mesh = _HalfMesh(vertices, faces)
    fixed = set(int(i) for i in keep)
    for mask, target in regions:
        removable = {u for u in mesh.around if mask[u]} - fixed
        count = sum(1 for u in mesh.around if mask[u])
        stamp = dict.fromkeys(mesh.around, 0)
        heap = [(mesh.cost(u, v), u, v, 0, 0) for u in sorted(removable) for v in sorted(mesh.ring(u))]
        heapq.heapify(heap)
        while heap and count > target:
            _, u, v, stamp_u, stamp_v = heapq.heappop(heap)
            if stamp.get(u) != stamp_u or stamp.get(v) != stamp_v or not mesh.legal(u, v):
                continue
            mesh.collapse(u, v)
            del stamp[u]
            count -= 1
            touched = mesh.ring(v) | {v}
            for j in touched:
                stamp[j] += 1
            for j in sorted(touched):
                for k in sorted(mesh.ring(j)):
                    if j in removable:
                        heapq.heappush(heap, (mesh.cost(j, k), j, k, stamp[j], stamp[k]))
                    if k in removable and k not in touched:
                        heapq.heappush(heap, (mesh.cost(k, j), k, j, stamp[k], stamp[j]))
    return np.array([mesh.faces[i] for i in sorted(mesh.faces)], int)


def mirror_and_weld(faces: np.ndarray, on_plane: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add the mirror image of a half and weld it along x = 0.

    faces: [F, 3] int over H half vertices; on_plane: [H] bool. -> faces [2F, 3] int32, source [V] (half
    vertex behind each whole vertex; the first H are the half itself), mirror_ids [V] int32.
    """
    half = len(on_plane)
    twin = np.arange(half)
    twin[~on_plane] = half + np.arange(int((~on_plane).sum()))
    source = np.concatenate([np.arange(half), np.where(~on_plane)[0]])
    mirror_ids = np.concatenate([twin, source[half:]]).astype(np.int32)
    whole = np.concatenate([faces, twin[faces][:, ::-1]]).astype(np.int32)
    return whole, source, mirror_ids


def check_closed_surface(vertices: np.ndarray, faces: np.ndarray) -> None:
    """Raise ValueError unless the surface is closed, manifold, one piece, Euler number 2, facing outward."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    keys = edges[:, 0] * len(vertices) + edges[:, 1]
    reverse = edges[:, 1] * len(vertices) + edges[:, 0]
    if len(np.unique(keys)) != len(keys) or not np.array_equal(np.sort(keys), np.sort(reverse)):
        raise ValueError(
            "open body: expected every edge once in each direction, got a hole or a flipped face"
        )
    used = len(np.unique(faces))
    euler = len(vertices) - len(keys) // 2 + len(faces)
    if used != len(vertices) or euler != 2:
        raise ValueError(
            f"open body: expected all {len(vertices)} vertices used, Euler number 2, got {used}, {euler}"
        )
    corners = vertices[faces].astype(float)
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    if volume <= 0:
        raise ValueError(f"open body: expected outward faces (positive volume), got {volume:.4f} m^3")
