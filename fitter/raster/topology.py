"""What the CPU rasteriser knows about a mesh before any image: index bounds and each edge's other triangle.

A mesh's triangles stay the same over a whole fit, so this is worked out once and remembered.
"""

import hashlib
import weakref
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch

_KEEP_MESHES = 8


@dataclass(frozen=True)
class Topology:
    """Edge k of a triangle lies opposite its vertex k.

    neighbours: [F, 3] int32, the triangle across edge k; -1 on a border and on an edge of three or more
        triangles, which both count as silhouettes from everywhere.
    flips: [F, 3] int8, -1 where that triangle is wound the other way round, else 1.
    borders: [F] uint8, bit k where edge k has no neighbour.
    seams: [S, 6] int32, every edge with one, once: the two triangles, its number in either, its two vertices.
    seam_flips: [S] int8, flips of those.
    """

    neighbours: np.ndarray
    flips: np.ndarray
    borders: np.ndarray
    seams: np.ndarray
    seam_flips: np.ndarray


@dataclass(frozen=True)
class Mesh:
    """tri: [F, 3] int32, C order; labels: [F] int32, 1 to F; vertex_bound: least V that the indices allow."""

    tri: np.ndarray
    labels: np.ndarray
    vertex_bound: int
    topology: Topology


def build_topology(tri: np.ndarray) -> Topology:
    """Pair the triangles of tri [F, 3] across their edges. Triangles with a repeated vertex have no edges."""
    faces = len(tri)
    tri = tri.astype(np.int64)
    starts, ends = tri[:, [1, 2, 0]].ravel(), tri[:, [2, 0, 1]].ravel()  # edge 3 f + k, opposite vertex k
    proper = (tri[:, 0] != tri[:, 1]) & (tri[:, 1] != tri[:, 2]) & (tri[:, 2] != tri[:, 0])
    edges = np.flatnonzero(np.repeat(proper, 3))
    low, high = np.minimum(starts, ends)[edges], np.maximum(starts, ends)[edges]
    order = np.argsort(low * (int(tri.max(initial=0)) + 1) + high, kind="stable")
    edges, low, high = edges[order], low[order], high[order]
    first = np.ones(len(edges), bool)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    run_start = np.flatnonzero(first)
    pairs = run_start[np.diff(np.append(run_start, len(edges))) == 2]
    one, other = edges[pairs], edges[pairs + 1]
    neighbours = np.full(3 * faces, -1, np.int32)
    flips = np.ones(3 * faces, np.int8)
    neighbours[one], neighbours[other] = other // 3, one // 3
    same_way = starts[one] == starts[other]
    flips[one[same_way]] = flips[other[same_way]] = -1
    borders = (neighbours.reshape(faces, 3) < 0) @ np.array([1, 2, 4])
    seams = np.stack([one // 3, other // 3, one % 3, other % 3, starts[one], ends[one]], 1)
    nearby = np.argsort(one, kind="stable")  # in the triangles' order, so that memory is read in order
    return Topology(
        neighbours.reshape(faces, 3),
        flips.reshape(faces, 3),
        borders.astype(np.uint8),
        np.ascontiguousarray(seams[nearby], np.int32),
        flips[one[nearby]],
    )


_by_identity: dict[int, tuple] = {}
_by_content: OrderedDict[bytes, Mesh] = OrderedDict()


def mesh_of(tri: torch.Tensor) -> Mesh:
    """The Mesh of tri [F, 3] int32 on the CPU, remembered by the tensor itself, else by its content."""
    key = id(tri)
    version = None if tri.is_inference() else tri._version
    known = _by_identity.get(key)
    if known is not None and version is not None and known[0]() is tri and known[1] == version:
        return known[2]
    mesh = _mesh_by_content(tri.detach().contiguous().numpy())
    if version is not None:
        _by_identity[key] = (weakref.ref(tri, lambda _: _by_identity.pop(key, None)), version, mesh)
    return mesh


def _mesh_by_content(tri: np.ndarray) -> Mesh:
    digest = hashlib.blake2b(tri, digest_size=16).digest()
    mesh = _by_content.get(digest)
    if mesh is None:
        if tri.size and tri.min() < 0:
            raise ValueError(f"raster cpu: expected vertex indices of 0 or more in tri, got {tri.min()}")
        tri = tri.copy()
        labels = np.arange(1, len(tri) + 1, dtype=np.int32)
        mesh = Mesh(tri, labels, int(tri.max(initial=-1)) + 1, build_topology(tri))
        _by_content[digest] = mesh
        while len(_by_content) > _KEEP_MESHES:
            _by_content.popitem(last=False)
    return mesh
