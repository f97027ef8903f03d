"""Derivatives over the image of what the CPU rasteriser puts out, in plain torch: rarely asked for, so not fast."""

import torch
from torch import Tensor


def barycentrics(pos: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
    """How u and v change from pixel to pixel.

    A corner's edge function at the pixel's ray r = (x, y, 1) is r . n, n the cross product of the other two corners'
    (x, y, w); u and v are the first two of them over the sum of all three, so the quotient rule gives the rest.

    Args:
        pos: [B, V, 4] or [V, 4] clip space; rast: [B, H, W, 4]; tri: [F, 3] int32.

    Returns:
        [B, H, W, 4]: du/dX, du/dY, dv/dX, dv/dY per pixel, 0 where nothing is seen. Differentiable to x, y, w of pos.
    """
    height, width = rast.shape[1:3]
    seen, corners = _of_seen(pos, rast, tri)
    corners = corners[..., [0, 1, 3]]
    normals = torch.linalg.cross(corners.roll(-1, -2), corners.roll(-2, -2))  # [B, H, W, 3, 3]
    x = ((2 * torch.arange(width, dtype=pos.dtype) + 1) / width - 1).expand(height, width)
    y = ((2 * torch.arange(height, dtype=pos.dtype) + 1) / height - 1)[:, None].expand(height, width)
    functions = (normals * torch.stack([x, y, torch.ones_like(x)], -1)[..., None, :]).sum(-1)
    total = functions.sum(-1, keepdim=True)
    usable = seen[..., None] & (total != 0)
    total = torch.where(usable, total, torch.ones_like(total))
    share = functions[..., :2] / total
    per_pixel = torch.tensor([2 / width, 2 / height], dtype=pos.dtype)
    slopes = normals[..., :2, :2] - share[..., None] * normals.sum(-2, keepdim=True)[..., :2]
    slopes = slopes / total[..., None] * per_pixel
    return torch.where(usable, slopes.flatten(-2), torch.zeros_like(rast))


def attributes(attr: Tensor, rast: Tensor, rast_db: Tensor, tri: Tensor) -> Tensor:
    """How K interpolated attributes change from pixel to pixel.

    Args:
        attr: [B, V, K], [1, V, K] or [V, K]; rast, rast_db: [B, H, W, 4]; tri: [F, 3] int32.

    Returns:
        [B, H, W, 2 K]: d/dX and d/dY per pixel of each attribute in turn, 0 where nothing is seen.
    """
    seen, corners = _of_seen(attr, rast, tri)
    along_u, along_v = corners[..., 0, :] - corners[..., 2, :], corners[..., 1, :] - corners[..., 2, :]
    slopes = [along_u * rast_db[..., n : n + 1] + along_v * rast_db[..., n + 2 : n + 3] for n in (0, 1)]
    slopes = torch.stack(slopes, -1).flatten(-2)
    return torch.where(seen[..., None], slopes, torch.zeros_like(slopes))


def _of_seen(per_vertex: Tensor, rast: Tensor, tri: Tensor) -> tuple[Tensor, Tensor]:
    """Where a triangle is seen [B, H, W], and its corners' values [B, H, W, 3, n] (those of any where none is)."""
    label = rast[..., 3]
    seen = (label >= 1) & (label <= len(tri))
    index = torch.where(seen, label, torch.ones_like(label)).long() - 1
    vertices = tri.long()[index] if len(tri) else torch.zeros((*label.shape, 3), dtype=torch.long)
    if per_vertex.ndim == 2:
        return seen, per_vertex[vertices]
    image = torch.arange(len(rast)) if len(per_vertex) > 1 else torch.zeros(len(rast), dtype=torch.long)
    return seen, per_vertex[image[:, None, None, None], vertices]
