"""CPU twin of `nvdiffrast.torch`: rasterize, interpolate and antialias, differentiable, on numba kernels.

Arguments, layouts and meaning follow nvdiffrast's documentation and Laine et al. 2020 (arXiv 2011.03277), so
code written for one runs on the other: `import fitter.raster.cpu as dr`, with tensors on the CPU. Left out, and
refused by name: `texture`, `texture_construct_mip`, `DepthPeeler`. Added: float64 for gradient checks, errors where
a position is not finite or an index out of range, and `antialias(hidden_triangles=...)`. Different on purpose: an
edge at exactly 45 degrees is blended along its row alone, and an edge of three or more triangles is a silhouette.

Images of a batch run on `torch.get_num_threads()` threads; each image is computed by one thread, in a fixed
order, so results are the same bit for bit whatever that number.
"""

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from fitter.raster import cpu_derivatives as derivatives
from fitter.raster import cpu_edges as edges
from fitter.raster import cpu_fill as fill
from fitter.raster import cpu_shade as shade
from fitter.raster.cpu_checks import (
    check_diff_attrs,
    check_mesh,
    check_rast,
    check_size,
    check_tensor,
    face_spans,
    refuse,
)
from fitter.raster.cpu_images import as_numpy, each_image, empty, grad_per_image, image_of, sum_over_images
from fitter.raster.topology import Topology, mesh_of

# The triangle's index is stored in the image's own dtype, so it must be exact there.
_MAX_FACES = {torch.float32: (1 << 24) - 1, torch.float64: (1 << 31) - 2}


class RasterizeCpuContext:
    """Stands where nvdiffrast wants a context, and holds no memory.

    Args:
        output_db: `rasterize` also returns derivatives over the image; they cost more than the rest, so say False
            where nobody reads them.
        mode: 'automatic' or 'manual'; nothing needs to be activated either way.
        device: None or the CPU.

    Raises:
        ValueError: another mode or device.
    """

    def __init__(
        self, output_db: bool = True, mode: str = "automatic", device: torch.device | str | None = None
    ):
        if mode not in ("automatic", "manual"):
            raise ValueError(f"raster cpu: expected mode 'automatic' or 'manual', got {mode!r}")
        if device is not None and (isinstance(device, int) or torch.device(device).type != "cpu"):
            raise ValueError(
                f"raster cpu: expected device None or 'cpu', got {device!r}; nvdiffrast renders on GPUs"
            )
        self.output_db = output_db

    def set_context(self) -> None:
        """Nothing to do."""

    def release_context(self) -> None:
        """Nothing to do."""


RasterizeGLContext = RasterizeCpuContext  # nvdiffrast's name for the same arguments


class RasterizeCudaContext(RasterizeCpuContext):
    """nvdiffrast's name, and its arguments: it always puts out derivatives."""

    def __init__(self, device: torch.device | str | None = None):
        super().__init__(device=device)


def rasterize(glctx, pos, tri, resolution, ranges=None, grad_db=True):
    """Find the triangle seen by each pixel centre.

    Args:
        glctx: a RasterizeCpuContext, under any of its names.
        pos: clip-space positions, float32 or float64, [B, V, 4] (instanced mode) or [V, 4] with `ranges`.
        tri: [F, 3] int32, indices into V.
        resolution: (height, width) in pixels.
        ranges: [B, 2] int32, first triangle and number of triangles of each image; range mode only.
        grad_db: let gradients of the derivatives reach `pos`; they have none where the context puts none out.

    Returns:
        (rast [B, H, W, 4], rast_db [B, H, W, 4]). rast's channels: u, v, z/w, triangle index + 1; all 0 where
        nothing is seen. The first, second and third vertex have (u, v) = (1, 0), (0, 1), (0, 0). Row 0 is the
        bottom. u and v carry gradients to x, y, w of `pos`; z/w and the index carry none. rast_db is du/dX,
        du/dY, dv/dX, dv/dY per pixel, 0 where nothing is seen; [B, H, W, 0] from a context with output_db=False.

    Raises:
        ValueError: a shape, dtype, device or index is wrong, or a position is not finite.
    """
    if not isinstance(glctx, RasterizeCpuContext):
        raise ValueError(
            f"raster cpu: expected glctx to be a RasterizeCpuContext, got {type(glctx).__name__}"
        )
    height, width = check_size(resolution)
    check_tensor("pos", pos, (torch.float32, torch.float64))
    mesh = check_mesh(tri, pos, "pos", "[B, V, 4] or [V, 4]")
    if pos.shape[-1] != 4:
        raise ValueError(f"raster cpu: expected pos of [B, V, 4] or [V, 4], got {tuple(pos.shape)}")
    if len(mesh.tri) > _MAX_FACES[pos.dtype]:
        raise ValueError(
            f"raster cpu: expected at most {_MAX_FACES[pos.dtype]} triangles, got {len(mesh.tri)}"
        )
    spans = face_spans(pos, mesh, ranges)
    rast = _Rasterize.apply(pos, mesh, height, width, spans)
    if not glctx.output_db:
        return rast, rast.new_empty((len(spans), height, width, 0))
    with torch.set_grad_enabled(torch.is_grad_enabled() and grad_db):
        return rast, derivatives.barycentrics(pos, rast.detach(), tri)


def interpolate(attr, rast, tri, rast_db=None, diff_attrs=None):
    """Interpolate vertex attributes over the image.

    Args:
        attr: [B, V, C], [1, V, C] (shared by all images) or [V, C]; the dtype of `rast`.
        rast: [B, H, W, 4] from `rasterize`.
        tri: [F, 3] int32, as given to `rasterize`.
        rast_db: [B, H, W, 4] from `rasterize`; needed where diff_attrs names any.
        diff_attrs: whose derivatives over the image to return: a list of K channels (negative ones count from the
            end), 'all', or None or [] for none.

    Returns:
        (values [B, H, W, C], derivatives [B, H, W, 2 K]: d/dX and d/dY per pixel of one channel after the other);
        0 where nothing is seen. Differentiable in `attr`, in u, v of `rast`, and derivatives in `rast_db`.

    Raises:
        ValueError: a shape, dtype, device, index or channel is wrong, or rast_db is missing.
    """
    mesh = check_rast(rast, tri, attr, "attr", "[B, V, C], [1, V, C] or [V, C]")
    channels = check_diff_attrs(diff_attrs, attr.shape[-1])
    out = _Interpolate.apply(attr, rast, mesh)
    if not channels:
        return out, out.new_empty((*rast.shape[:3], 0))
    if rast_db is None or rast_db.shape != rast.shape:
        got = "None" if rast_db is None else tuple(rast_db.shape)
        raise ValueError(
            f"raster cpu: expected rast_db of {tuple(rast.shape)} for diff_attrs, got {got}; rasterize with a "
            "context of output_db=True"
        )
    check_tensor("rast_db", rast_db, (rast.dtype,))
    return out, derivatives.attributes(attr[..., channels], rast.detach(), rast_db, tri)


def antialias(color, rast, pos, tri, topology_hash=None, pos_gradient_boost=1.0, hidden_triangles=0):
    """Blend colours across silhouette edges by the share of the pixel they cover.

    Two neighbouring pixels that see different triangles are blended where a silhouette edge of the nearer
    triangle (a border, or an edge whose other triangle folds behind) passes between their centres, if it runs
    more across than along the line between them. The nearer surface loses the part of its pixel beyond the
    edge, or gains the part of the next pixel that it reaches into: from 0 with the edge midway to half a
    pixel with it at a centre (paper, section 3.5). Sums of blends may leave the colours' range slightly.

    Args:
        color: [B, H, W, C], the dtype of `rast`.
        rast: [B, H, W, 4] from `rasterize`, with the same `pos` and `tri`.
        pos: [B, V, 4] or [V, 4].
        tri: [F, 3] int32.
        topology_hash: from `antialias_construct_topology_hash`; None looks it up by `tri`.
        pos_gradient_boost: factor on the gradient to `pos`, which is nvdiffrast's: none where the edge passes at
            or beyond a centre, and divided by the edge's extent across the way plus 0.001 px.
        hidden_triangles: beyond nvdiffrast. Its rule, 0, looks only at the triangle seen, so it misses every
            silhouette whose triangle falls between the pixel centres: most of them on a smooth mesh of small
            triangles. N > 0 follows the surface over up to N triangles that no pixel sees.

    Returns:
        [B, H, W, C], differentiable in `color` and in x, y, w of `pos`.

    Raises:
        ValueError: a shape, dtype, device or index is wrong.
    """
    mesh = check_rast(rast, tri, pos, "pos", "[B, V, 4] or [V, 4]")
    check_tensor("color", color, (rast.dtype,))
    if color.ndim != 4 or color.shape[:3] != rast.shape[:3]:
        raise ValueError(
            f"raster cpu: expected color of {(*rast.shape[:3], 'C')} as rast, got {tuple(color.shape)}"
        )
    if hidden_triangles < 0:
        raise ValueError(f"raster cpu: expected hidden_triangles of 0 or more, got {hidden_triangles}")
    topology = mesh.topology if topology_hash is None else topology_hash
    if topology.neighbours.shape != mesh.tri.shape:
        raise ValueError("raster cpu: topology_hash belongs to another mesh; build it from this tri")
    return _Antialias.apply(
        color, pos, rast.detach(), mesh, topology, float(pos_gradient_boost), int(hidden_triangles)
    )


def antialias_construct_topology_hash(tri: torch.Tensor) -> Topology:
    """Edge table of tri [F, 3] int32 for `antialias`."""
    return mesh_of(tri).topology


def texture(*_, **__):
    """Not there."""
    raise NotImplementedError(
        "raster cpu: texture is not implemented; give colours per vertex to interpolate, or sample the interpolated "
        "uv [B, H, W, 2] with torch.nn.functional.grid_sample(tex, 2 * uv - 1), tex as [B, C, h, w]"
    )


def texture_construct_mip(*_, **__):
    """Not there."""
    raise NotImplementedError(
        "raster cpu: texture_construct_mip is not implemented; nor is texture, which says what to do instead"
    )


class DepthPeeler:
    """Not there."""

    def __init__(self, *_, **__):
        raise NotImplementedError(
            "raster cpu: DepthPeeler is not implemented; rasterize the triangles behind apart, by `ranges`, or use "
            "nvdiffrast on a GPU"
        )


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pos, mesh, height, width, spans):
        rast = empty((len(spans), height, width, 4), pos.dtype)
        pos_np, rast_np = as_numpy(pos), rast.numpy()

        def one(b):
            keys = np.empty((height, width), np.int64)
            bad = fill.visibility(image_of(pos_np, b), mesh.tri, mesh.labels, *spans[b], keys)
            if bad < 0:
                shade.resolve(image_of(pos_np, b), mesh.tri, keys, rast_np[b])
            return bad

        for b, bad in enumerate(each_image(one, len(spans))):
            if bad >= 0:
                refuse(image_of(pos_np, b)[bad], bad, b)
        ctx.save_for_backward(pos, rast)
        ctx.mesh = mesh
        return rast

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_rast):
        pos, rast = ctx.saved_tensors
        pos_np, rast_np, grad_rast_np = as_numpy(pos), as_numpy(rast), as_numpy(grad_rast)
        grad_pos, grad_np = grad_per_image(pos, len(rast))

        def one(b):
            grad_np[b] = 0.0
            shade.rasterize_grad(image_of(pos_np, b), ctx.mesh.tri, rast_np[b], grad_rast_np[b], grad_np[b])

        each_image(one, len(rast))
        return sum_over_images(grad_pos, pos), None, None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attr, rast, mesh):
        out = empty((*rast.shape[:3], attr.shape[-1]), rast.dtype)
        attr_np, rast_np, out_np = as_numpy(attr), as_numpy(rast), out.numpy()

        def one(b):
            shade.interpolate(image_of(attr_np, b), rast_np[b], mesh.tri, out_np[b])

        each_image(one, len(rast))
        ctx.save_for_backward(attr, rast)
        ctx.mesh = mesh
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        attr, rast = ctx.saved_tensors
        tri = ctx.mesh.tri
        attr_np, rast_np, grad_out_np = as_numpy(attr), as_numpy(rast), as_numpy(grad_out)
        want_attr, want_rast = ctx.needs_input_grad[:2]
        grad_attr, grad_attr_np = grad_per_image(attr, len(rast) if want_attr else 0)
        grad_rast = empty(rast.shape, rast.dtype) if want_rast else None
        grad_rast_np = grad_rast.numpy() if want_rast else None

        def one(b):
            if want_attr:
                grad_attr_np[b] = 0.0
                shade.interpolate_grad_attr(rast_np[b], tri, grad_out_np[b], grad_attr_np[b])
            if want_rast:
                image_attr = image_of(attr_np, b)
                grad_rast_np[b] = 0.0
                shade.interpolate_grad_rast(image_attr, rast_np[b], tri, grad_out_np[b], grad_rast_np[b])

        each_image(one, len(rast))
        return sum_over_images(grad_attr, attr) if want_attr else None, grad_rast, None


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, color, pos, rast, mesh, topology, boost, hidden):
        out = empty(color.shape, color.dtype)
        color_np, pos_np, rast_np, out_np = as_numpy(color), as_numpy(pos), as_numpy(rast), out.numpy()

        def one(b):
            np.copyto(out_np[b], color_np[b])
            return blend(image_of(pos_np, b), mesh.tri, topology, rast_np[b], hidden, out_np[b])

        ctx.blends = each_image(one, len(rast))
        ctx.boost = boost
        ctx.save_for_backward(pos)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        (pos,) = ctx.saved_tensors
        pos_np, grad_out_np = as_numpy(pos), as_numpy(grad_out)
        grad_color = empty(grad_out.shape, grad_out.dtype)
        grad_color_np = grad_color.numpy()
        grad_pos, grad_pos_np = grad_per_image(pos, len(grad_out))

        def one(b):
            np.copyto(grad_color_np[b], grad_out_np[b])
            grad_pos_np[b] = 0.0
            edges.antialias_grad(
                image_of(pos_np, b),
                *ctx.blends[b],
                grad_out_np[b],
                ctx.boost,
                grad_color_np[b],
                grad_pos_np[b],
            )

        each_image(one, len(grad_out))
        return grad_color, sum_over_images(grad_pos, pos), None, None, None, None, None


def blend(pos, tri, topology, rast, hidden, image) -> tuple[np.ndarray, np.ndarray]:
    """Antialias one image in place; what antialias_grad needs: crossings [n, 4] int32 and differences [n, C]."""
    silhouettes, ends = np.empty(len(tri), np.uint8), np.empty(len(pos), np.uint8)
    edges.find_silhouettes(pos, tri, topology.borders, topology.seams, topology.seam_flips, silhouettes, ends)
    room = 8 * (rast.shape[0] + rast.shape[1])
    while True:
        crossings = np.empty((room, 4), np.int32)
        found = edges.find_crossings(
            pos, tri, topology.neighbours, silhouettes, ends, rast, hidden, crossings
        )
        if found <= room:
            break
        room = found
    crossings = crossings[:found]
    differences = np.empty((found, image.shape[-1]), image.dtype)
    edges.antialias(pos, crossings, image, differences)
    return crossings, differences


def set_log_level(level: int) -> None:
    """Nothing to do: nothing is logged."""


def get_log_level() -> int:
    """nvdiffrast's default, warnings."""
    return 1
