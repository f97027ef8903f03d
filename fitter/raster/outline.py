"""`cpu.antialias` in plain torch, for any device: the outline of a mesh whose triangles are smaller than pixels.

nvdiffrast's antialias looks only at triangles that own a pixel centre. Of a body of 14k triangles at 64 to 224 px that
finds about a tenth of the outline, and rendering larger and averaging down by four a third (benchmarks/outline.py).
This follows the surface over triangles that no pixel sees, as the CPU twin does and with the same result, on whatever
`rasterize` put out. One host synchronisation a call, to count the pixel pairs; nvdiffrast's rasterize has one too.
"""

import torch
from torch import Tensor

from fitter.raster.cpu_edges import EXTENT_DAMPING_PX, SNAP_SLACK
from fitter.raster.topology import Topology


def antialias(
    color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, mesh: "DeviceTopology", hidden: int
) -> Tensor:
    """Blend colours across silhouette edges by the share of the pixel they cover.

    Args:
        color: [B, H, W, C]; rast: [B, H, W, 4]; pos: [B, V, 4]; tri: [F, 3] int32; all on one device.
        mesh: of that tri, on that device.
        hidden: over how many unseen triangles to follow a surface; see `cpu.antialias`.

    Returns:
        [B, H, W, C], differentiable in color and in x, y, w of pos.
    """
    near, far, edge, found = _crossings(rast.detach(), pos.detach().double(), tri.long(), mesh, hidden)
    ends = torch.where(found[:, None, None], pos.reshape(-1, 4)[edge], 1.0)
    t = _where_crossed(near, far, ends, *rast.shape[1:3]).to(color.dtype)
    first = t < 0.5
    target, source = torch.where(first, near, far), torch.where(first, far, near)
    share = torch.where(found, torch.where(first, 0.5 - t, t - 0.5), 0.0)[:, None]
    flat = color.reshape(-1, color.shape[-1])
    return flat.index_add(0, target, share * (flat[source] - flat[target])).reshape(color.shape)


class DeviceTopology:
    """A mesh's edge tables on a device: neighbours [F, 3] int64 (-1 on a border), flips [F, 3]."""

    def __init__(self, topology: Topology, device: torch.device):
        self.neighbours = torch.as_tensor(topology.neighbours, device=device).long()
        self.flips = torch.as_tensor(topology.flips, device=device)


def _crossings(rast, pos, tri, mesh, hidden) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pixel pairs that a silhouette may pass between.

    Returns flat indices over [B, H, W] of the nearer surface's pixel and of the other one, [N]; the edge's two
    vertices as indices over [B, V], [N, 2]; and whether there is such an edge, [N].
    """
    images, height, width = rast.shape[:3]
    vertices = pos.shape[1]
    silhouettes, touches = _silhouettes(pos, tri, mesh)
    label, depth = rast[..., 3].long(), rast[..., 2]
    maybe = torch.zeros(
        (2, *label.shape), dtype=torch.bool, device=rast.device
    )  # the pair with the right, the upper
    maybe[0, :, :, :-1] = _may_cross(label[:, :, :-1], label[:, :, 1:], silhouettes, touches, hidden)
    maybe[1, :, :-1] = _may_cross(label[:, :-1], label[:, 1:], silhouettes, touches, hidden)
    pair = maybe.flatten().nonzero()[:, 0]  # the one place where the host must wait, for their number
    down, here = pair >= label.numel(), pair % label.numel()
    there = here + torch.where(down, width, 1)
    label, depth = label.flatten(), depth.flatten()
    first = (label[there] == 0) | ((label[here] > 0) & (depth[here] < depth[there]))
    near, far = torch.where(first, here, there), torch.where(first, there, here)
    face, image = (label[near] - 1).clamp(min=0), near // (height * width)
    a, b = _walk(pos, tri, mesh, silhouettes, hidden, image, near, far, face, down, height, width)
    found = (a >= 0) & (label[near] > 0)
    return near, far, torch.stack([a, b], 1).clamp(min=0) + (image * vertices)[:, None], found


def _may_cross(here: Tensor, there: Tensor, silhouettes: Tensor, touches: Tensor, hidden: int) -> Tensor:
    """Which of pairs of labels [B, h, w] could have a silhouette between them, whichever is nearer."""
    faces = touches.shape[1]
    usable = (here != there) & (here <= faces) & (there <= faces)
    if faces == 0:
        return usable
    image = torch.arange(len(here), device=here.device)[:, None, None]
    one, other = (here - 1).clamp(0, faces - 1), (there - 1).clamp(0, faces - 1)
    if hidden:
        return usable & ((here == 0) | (there == 0) | touches[image, one] | touches[image, other])
    return usable & (silhouettes[image, one].any(-1) | silhouettes[image, other].any(-1))


def _silhouettes(pos, tri, mesh) -> tuple[Tensor, Tensor]:
    """Which edges are borders or folds, [B, F, 3], and which triangles have a vertex that ends one, [B, F]."""
    images, vertices = pos.shape[:2]
    corners = pos[..., [0, 1, 3]][:, tri]  # [B, F, 3, 3]
    facing = (torch.linalg.cross(corners[:, :, 0], corners[:, :, 1]) * corners[:, :, 2]).sum(-1).sign()
    across = facing[:, mesh.neighbours.clamp(min=0)] * facing[..., None] * mesh.flips
    silhouettes = (mesh.neighbours < 0) | (across <= 0)
    ends = torch.zeros(images, vertices, dtype=torch.bool, device=pos.device)
    marks = torch.stack([silhouettes.roll(-1, 2), silhouettes.roll(1, 2)]).any(
        0
    )  # vertex k ends edges k + 1, k - 1
    ends = ends.int().scatter_add_(1, tri.reshape(1, -1).expand(images, -1), marks.int().flatten(1)) > 0
    return silhouettes, ends[:, tri].any(-1)


def _walk(pos, tri, mesh, silhouettes, hidden, image, near, far, face, down, height, width):
    """cpu_edges._silhouette_from for all pairs [N] at once: the silhouette's two vertices, -1 where there is none."""
    inside = near % (height * width)
    fx, fy = (2 * (inside % width) + 1) / width - 1, (2 * (inside // width) + 1) / height - 1
    fx, fy = fx.to(pos.dtype), fy.to(pos.dtype)
    step = torch.where(far > near, 1.0, -1.0).to(pos.dtype)
    zero = torch.zeros_like(step)
    step_x, step_y = torch.where(down, zero, step), torch.where(down, step, zero)
    half = (0.5 * width, 0.5 * height)

    def along(v):
        """[N, 3] per vertex: along the way, across it (both in pixels, times w), and w."""
        at = pos[image, v]
        x, y, w = at[:, 0] - fx * at[:, 3], at[:, 1] - fy * at[:, 3], at[:, 3]
        return torch.stack(
            [half[0] * step_x * x + half[1] * step_y * y, half[0] * step_y * x + half[1] * step_x * y, w], 1
        )

    def passed(left, right):
        """reach and depth, whose ratio is t where the way crosses the edge."""
        return (
            right[:, 0] * left[:, 1] - left[:, 0] * right[:, 1],
            right[:, 2] * left[:, 1] - left[:, 2] * right[:, 1],
        )

    a, b = tri[face, 0], tri[face, 1]
    at_corner = [along(tri[face, n]) for n in range(3)]
    at_a, at_b = at_corner[0], at_corner[1]
    edge = torch.full_like(face, -1)
    reach, depth = torch.full_like(fx, -SNAP_SLACK), torch.ones_like(fx)
    for n in range(3):
        p, q = tri[face, (n + 1) % 3], tri[face, (n + 2) % 3]
        at_p, at_q = at_corner[(n + 1) % 3], at_corner[(n + 2) % 3]
        swap = at_p[:, 1] < 0
        crossed = swap != (at_q[:, 1] < 0)
        p, q = torch.where(swap, q, p), torch.where(swap, p, q)
        at_p, at_q = torch.where(swap[:, None], at_q, at_p), torch.where(swap[:, None], at_p, at_q)
        new_reach, new_depth = passed(at_p, at_q)
        further = crossed & (new_depth > 0) & (new_reach * depth >= reach * new_depth)
        edge = torch.where(further, n, edge)
        reach, depth = torch.where(further, new_reach, reach), torch.where(further, new_depth, depth)
        a, b = torch.where(further, p, a), torch.where(further, q, b)
        at_a, at_b = torch.where(further[:, None], at_p, at_a), torch.where(further[:, None], at_q, at_b)
    walking = edge >= 0
    found_a, found_b = torch.full_like(face, -1), torch.full_like(face, -1)
    for _ in range(hidden + 1):
        edge = edge.clamp(min=0)
        walking = walking & (depth > 0) & (reach < (1 + SNAP_SLACK) * depth)
        fold = walking & silhouettes[image, face, edge]
        slope = (at_a[:, 1] * at_b[:, 2] - at_a[:, 2] * at_b[:, 1]).abs()
        level = (at_a[:, 2] * at_b[:, 0] - at_a[:, 0] * at_b[:, 2]).abs()
        found = fold & ((slope > level) | ((slope == level) & ~down))
        found_a, found_b = torch.where(found, a, found_a), torch.where(found, b, found_b)
        walking = walking & ~fold
        came_from, face = face, torch.where(walking, mesh.neighbours[face, edge], face)
        entry = (mesh.neighbours[face] == came_from[:, None]).int().argmax(1)
        v = tri[face, entry]
        at_v = along(v)
        left = at_v[:, 1] >= 0
        opposite = torch.where(left, a, b)  # of the edge it leaves through
        edge = (tri[face] == opposite[:, None]).int().argmax(1)
        a, b = torch.where(left, v, a), torch.where(left, b, v)
        at_a = torch.where(left[:, None], at_v, at_a)
        at_b = torch.where(left[:, None], at_b, at_v)
        reach, depth = passed(at_a, at_b)
    return found_a, found_b


def _where_crossed(near: Tensor, far: Tensor, ends: Tensor, height: int, width: int) -> Tensor:
    """Where edges cross the ways from one pixel centre (t = 0) to the other (t = 1), [N] in 0..1.

    near, far: [N], flat over [B, H, W]; ends: [N, 2, 4], the edges' vertices. The gradient is nvdiffrast's: none where
    t is held or midway, and the edge's extent across the way plus EXTENT_DAMPING_PX where it is divided by.
    """
    inside = near % (height * width)
    down = ((far - near).abs() >= width) & (far // width != near // width)
    sign = torch.where(far > near, 1.0, -1.0).to(torch.float64)
    ends = ends.double()
    x = (ends[..., 0] / ends[..., 3] * 0.5 + 0.5) * width - (inside % width)[:, None] - 0.5  # [N, 2] px
    y = (ends[..., 1] / ends[..., 3] * 0.5 + 0.5) * height - (inside // width)[:, None] - 0.5
    along = torch.where(down[:, None], y, x) * sign[:, None]
    across = torch.where(down[:, None], x, y)
    extent = across[:, 1] - across[:, 0]
    area = along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]
    where = (area / extent).detach()
    damped = (extent + torch.where(extent > 0, EXTENT_DAMPING_PX, -EXTENT_DAMPING_PX)).detach()
    moves = (area - (area / damped).detach() * extent) / damped
    free = (where > 0) & (where < 1) & (where != 0.5)
    return where.clamp(0, 1) + torch.where(free, moves - moves.detach(), torch.zeros_like(moves))
