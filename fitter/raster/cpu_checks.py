"""What the CPU rasteriser checks before it starts: shapes, dtypes, devices, index bounds, in words."""

from collections.abc import Sequence

import numpy as np
import torch

from fitter.raster.topology import Mesh, mesh_of

MAX_SIDE_PX = 16384


def refuse(position: np.ndarray, vertex: int, image: int) -> None:
    """Say which position is not finite."""
    raise ValueError(
        f"raster cpu: expected finite positions, got {position.tolist()} at vertex {vertex} of image {image}; the "
        "fit that gave it has diverged"
    )


def check_size(resolution) -> tuple[int, int]:
    """(height, width) as integers."""
    height, width = (int(n) for n in resolution)
    if not (1 <= height <= MAX_SIDE_PX and 1 <= width <= MAX_SIDE_PX):
        raise ValueError(
            f"raster cpu: expected 1 to {MAX_SIDE_PX} px a side, got height {height}, width {width}"
        )
    return height, width


def check_tensor(name: str, tensor: torch.Tensor, dtypes: Sequence[torch.dtype]) -> None:
    if tensor.device.type != "cpu" or tensor.dtype not in dtypes:
        wanted = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
        got = f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"
        raise ValueError(f"raster cpu: expected {name} as {wanted} on the cpu, got {got}; convert it")


def check_mesh(tri, per_vertex, name, shapes) -> Mesh:
    """Check tri against a per-vertex tensor of [V, n] or [N, V, n] and look its mesh up."""
    check_tensor("tri", tri, (torch.int32,))
    if tri.ndim != 2 or tri.shape[1] != 3:
        raise ValueError(f"raster cpu: expected tri of [F, 3], got {tuple(tri.shape)}")
    if per_vertex.ndim not in (2, 3):
        raise ValueError(f"raster cpu: expected {name} of {shapes}, got {tuple(per_vertex.shape)}")
    mesh = mesh_of(tri)
    if mesh.vertex_bound > per_vertex.shape[-2]:
        raise ValueError(
            f"raster cpu: expected tri to index the {per_vertex.shape[-2]} vertices of {name}, "
            f"got index {mesh.vertex_bound - 1}"
        )
    return mesh


def check_diff_attrs(diff_attrs, channels: int) -> list[int]:
    """The channels that interpolate's diff_attrs names."""
    if diff_attrs is None:
        return []
    if isinstance(diff_attrs, str):
        if diff_attrs != "all":
            raise ValueError(
                f"raster cpu: expected diff_attrs of channels, 'all' or None, got {diff_attrs!r}"
            )
        return list(range(channels))
    chosen = [int(c) for c in diff_attrs]
    for c in chosen:
        if not -channels <= c < channels:
            raise ValueError(f"raster cpu: expected diff_attrs within {channels} channels, got {c}")
    return chosen


def check_rast(rast, tri, per_vertex, name, shapes) -> Mesh:
    """Check rast, and tri and a per-vertex tensor against it."""
    check_tensor("rast", rast, (torch.float32, torch.float64))
    check_tensor(name, per_vertex, (rast.dtype,))
    if rast.ndim != 4 or rast.shape[-1] != 4:
        raise ValueError(f"raster cpu: expected rast of [B, H, W, 4], got {tuple(rast.shape)}")
    mesh = check_mesh(tri, per_vertex, name, shapes)
    images = len(rast)
    if per_vertex.ndim == 3 and per_vertex.shape[0] not in (1, images):
        raise ValueError(
            f"raster cpu: expected {name} of {shapes} with B = {images}, got {tuple(per_vertex.shape)}"
        )
    return mesh


def face_spans(pos, mesh, ranges) -> list[tuple[int, int]]:
    """(first triangle, number of triangles) of each image."""
    faces = len(mesh.tri)
    if pos.ndim == 3:
        return [(0, faces)] * len(pos)
    if ranges is None:
        raise ValueError("raster cpu: pos of [V, 4] needs ranges [B, 2]; or give pos as [B, V, 4]")
    spans = [(int(first), int(count)) for first, count in ranges.tolist()]
    for first, count in spans:
        if first < 0 or count < 0 or first + count > faces:
            raise ValueError(
                f"raster cpu: expected ranges within {faces} triangles, got start {first}, count {count}"
            )
    return spans
