"""The one seam between the method and a rasteriser: nvdiffrast on CUDA, its twin (cpu.py) elsewhere.

Rendering is rasterize -> interpolate -> antialias, with antialias last; `render` is all three from a camera. The three
have row 0 at the bottom, as in nvdiffrast: whoever shows such an image or compares it with a photo flips it once.
`render` has row 0 at the top.
"""

import functools
import sys
from pathlib import Path

import torch
from torch import Tensor

from fitter.raster import cpu, cpu_compare, cpu_edges, cpu_fill, cpu_render, cpu_shade, outline
from fitter.raster.topology import mesh_of

# Finds 83, 89 and 93 % of a 14k-triangle body's outline at 64, 112 and 224 px; 32 adds 1 % (benchmarks/outline.py).
HIDDEN_TRIANGLES = 16
# Depths between which things are drawn, in metres.
NEAR_M, FAR_M = 0.05, 100.0


class Rasterizer:
    """The rendering functions of one backend, or of the tensors' own. Make it with `make_rasterizer`.

    backend: 'cpu', 'cuda', or 'auto': each call goes where its tensors are.
    hidden_triangles: how many unseen triangles `antialias` follows a surface over in search of its silhouette.
    supersample: `render` draws so many times larger and averages down.
    """

    def __init__(self, backend: str, hidden_triangles: int = HIDDEN_TRIANGLES, supersample: int = 1):
        self.backend = backend
        self.hidden_triangles = hidden_triangles
        self.supersample = supersample
        self._contexts = {}  # by device, of nvdiffrast
        self._tables = None  # (tri, its version, edge table) of the last mesh on a GPU

    def rasterize(self, pos_clip: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
        """Find the triangle seen by each pixel.

        Args:
            pos_clip: [B, V, 4] float32 (cpu: or float64), OpenGL clip space; see `clip_from_camera`.
            tri: [F, 3] int32.
            resolution: (height, width) in pixels.

        Returns:
            rast [B, H, W, 4]: u, v, z/w, triangle index + 1; all 0 where nothing is seen.

        Raises:
            ValueError: a shape, dtype or index is wrong, or (cpu) a position is not finite. On CUDA finding that out
                would make the host wait: an image with such a position shows nothing, and is nan once antialiased.
        """
        if pos_clip.ndim != 3 or pos_clip.shape[-1] != 4:
            raise ValueError(f"raster: expected pos_clip of [B, V, 4], got {tuple(pos_clip.shape)}")
        resolution = tuple(resolution)
        if self._on_cpu(pos_clip):
            context = cpu.RasterizeCpuContext(output_db=False)
            return cpu.rasterize(context, pos_clip.contiguous(), tri, resolution)[0]
        if len(pos_clip) == 0:  # nvdiffrast wants an image
            return pos_clip.new_zeros((0, *resolution, 4))
        pos_clip = torch.where(_finite(pos_clip), pos_clip, 1.0)  # one point: no area, nothing to see
        context = self._context(pos_clip.device)
        return _nvdiffrast().rasterize(context, pos_clip.contiguous(), tri, resolution, grad_db=False)[0]

    def interpolate(self, attr: Tensor, rast: Tensor, tri: Tensor) -> Tensor:
        """Spread attributes [B, V, C] or [1, V, C] over the image [B, H, W, C]; 0 where nothing is seen."""
        if self._on_cpu(rast):
            return cpu.interpolate(attr, rast, tri)[0]
        if len(rast) == 0:
            return rast.new_zeros((*rast.shape[:3], attr.shape[-1]))
        return _nvdiffrast().interpolate(attr.contiguous(), rast, tri)[0]

    def antialias(self, color: Tensor, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
        """Blend color [B, H, W, C] across silhouettes; the way by which coverage reaches the vertices.

        Must come last. Values can leave color's range slightly: clamp before a logarithm.
        """
        if self._on_cpu(rast):
            return cpu.antialias(color, rast, pos_clip, tri, hidden_triangles=self.hidden_triangles)
        if len(rast) == 0:
            return color
        finite = _finite(pos_clip)
        pos_clip, table = torch.where(finite, pos_clip, 1.0).contiguous(), self._edge_table(tri)
        if self.hidden_triangles:
            image = outline.antialias(color, rast, pos_clip, tri, table, self.hidden_triangles)
        else:
            image = _nvdiffrast().antialias(color.contiguous(), rast, pos_clip, tri, topology_hash=table)
        return torch.where(finite[..., None], image, torch.nan)

    def render(
        self,
        points_cam: Tensor,
        tri: Tensor,
        attr: Tensor,
        focal_px: Tensor,
        center_px: Tensor,
        window_px: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Vertex attributes as a camera sees them in a window of its image, antialiased.

        Args:
            points_cam, focal_px, center_px, window_px: as in `clip_from_camera`.
            tri: [F, 3] int32; attr: [B or 1, V, C], the dtype of points_cam.
            size: (height, width) in pixels, which show the window.

        Returns:
            [B, height, width, C], row 0 at the top, the dtype of points_cam; 0 where nothing is seen. Differentiable in
            points, attributes and camera. Each image is the same bit for bit in whatever batch (cpu).

        Raises:
            ValueError: as `rasterize`.
        """
        times = self.supersample
        camera = _camera_rows(focal_px, center_px, window_px, top=-1.0).to(points_cam.dtype)
        fine = (size[0] * times, size[1] * times)
        if self._on_cpu(points_cam):
            depth = _depth_row(NEAR_M, FAR_M)
            image = cpu_render.render(points_cam, tri, attr, camera, depth, fine, self.hidden_triangles)
        else:
            clip = _clip(points_cam, camera, NEAR_M, FAR_M).float()
            rast = self.rasterize(clip, tri, fine)
            image = self.antialias(self.interpolate(attr.float(), rast, tri), rast, clip, tri)
            image = image.to(points_cam.dtype)
        if times > 1:
            image = image.unflatten(2, (size[1], times)).unflatten(1, (size[0], times)).mean((2, 4))
        return image

    def _on_cpu(self, tensor: Tensor) -> bool:
        return self.backend == "cpu" or (self.backend == "auto" and tensor.device.type != "cuda")

    def _context(self, device: torch.device):
        """nvdiffrast's context of the tensors' GPU: it serves no other."""
        if device not in self._contexts:
            self._contexts[device] = _nvdiffrast().RasterizeCudaContext(device=device)
        return self._contexts[device]

    def _edge_table(self, tri):
        known = self._tables
        if known is None or known[0] is not tri or known[1] != tri._version:
            if self.hidden_triangles:
                table = outline.DeviceTopology(mesh_of(tri.cpu()).topology, tri.device)
            else:
                table = _nvdiffrast().antialias_construct_topology_hash(tri)
            self._tables = known = (tri, tri._version, table)
        return known[2]


def make_rasterizer(
    backend: str = "auto",
    device: torch.device | str | None = None,
    hidden_triangles: int = HIDDEN_TRIANGLES,
    supersample: int = 1,
) -> Rasterizer:
    """Make a Rasterizer.

    Args:
        backend: 'cuda' (nvdiffrast, which must be installed), 'cpu' (its twin), or 'auto': that of `device`, or, where
            that is None, of the tensors of each call.
        device: where rendering will be. Contexts follow the tensors, so any GPU of several will do.
        hidden_triangles: how many unseen triangles `antialias` follows a surface over in search of its silhouette.
            0 is nvdiffrast's rule (and on CUDA its own antialias), which finds about a tenth of a 14k-triangle body's
            outline at 224 px; more is `outline.antialias` on CUDA.
        supersample: how many times larger `render` draws before it averages down.

    Raises:
        ValueError: an unknown backend, a device it cannot serve, or a number out of range.
        RuntimeError: 'cuda' without a GPU or without nvdiffrast.
    """
    if backend not in ("auto", "cuda", "cpu"):
        raise ValueError(f"raster: expected backend 'cuda', 'cpu' or 'auto', got {backend!r}")
    if hidden_triangles < 0 or supersample < 1:
        raise ValueError(
            f"raster: expected hidden_triangles >= 0 and supersample >= 1, got {hidden_triangles} and {supersample}"
        )
    if device is not None:
        kind = torch.device(device).type
        if kind not in ("cuda", "cpu") or backend not in ("auto", kind):
            raise ValueError(f"raster: backend {backend!r} cannot render on device {str(device)!r}")
        backend = kind
    if backend == "cuda":
        _nvdiffrast()
    return Rasterizer(backend, hidden_triangles, supersample)


def compile_twin() -> bool:
    """Compiles the CPU twin and leaves its code on disk, unless that was done since the install. It takes some 15
    seconds, which is said. Whether it was done now."""
    kernels = (
        cpu_fill.visibility,
        cpu_shade.shade_grad,
        cpu_edges.antialias_grad,
        cpu_compare.one_sided_grad,
    )
    folder = cpu_fill.visibility.stats.cache_path
    if folder and all(
        any(Path(folder).glob(f"{one.__module__.rpartition('.')[2]}.{one.__name__}-*.nbi")) for one in kernels
    ):
        return False
    print("compiling the rasteriser, once after an install: some 15 s", file=sys.stderr, flush=True)
    corners = torch.tensor([[[-1.0, -1.0, 3.0], [1.0, -1.0, 3.0], [0.0, 1.0, 3.0], [0.0, 0.0, 2.0]]])
    tri = torch.tensor([[0, 1, 3], [1, 2, 3], [2, 0, 3], [0, 2, 1]], dtype=torch.int32)
    lens = torch.tensor([[16.0, 16.0]]), torch.tensor([[8.0, 8.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    rasterizer = make_rasterizer("cpu")
    points, colors = corners.requires_grad_(), torch.ones(1, 4, 3).requires_grad_()
    image = rasterizer.render(points, tri, colors, *lens, (16, 16))
    seen, target, valid = image[..., :2], image[..., :2].detach(), image[..., 2].detach()
    cpu_compare.one_sided(seen, target, valid, valid, 0.3, 1e-3).sum().backward()
    clip = clip_from_camera(points, *lens)
    rast = rasterizer.rasterize(clip, tri, (16, 16))
    image = rasterizer.antialias(rasterizer.interpolate(colors, rast, tri), rast, clip, tri)
    image.sum().backward()
    return True


@functools.cache
def _nvdiffrast():
    """The module nvdiffrast.torch: NVlabs' own, or the extra's repackaging, whichever is installed under that name."""
    if not torch.cuda.is_available():
        raise RuntimeError("raster: expected a CUDA GPU for backend 'cuda', got none; use 'cpu'")
    try:
        import nvdiffrast.torch as nvdiffrast
    except ImportError as error:
        raise RuntimeError(
            "raster: backend 'cuda' needs nvdiffrast, which is not installed; "
            "`pip install --no-build-isolation git+https://github.com/NVlabs/nvdiffrast` "
            "(or the extra `cuda`, a third party's packaging of it; licensed for non-commercial use), or use 'cpu'"
        ) from error
    return nvdiffrast


def _finite(pos: Tensor) -> Tensor:
    """[B, 1, 1]: whether all positions of an image are finite, without telling the host."""
    return pos.detach().isfinite().flatten(1).all(1)[:, None, None]


def clip_from_camera(
    points_cam: Tensor,
    focal_px: Tensor,
    center_px: Tensor,
    window_px: Tensor,
    near: float = NEAR_M,
    far: float = FAR_M,
) -> Tensor:
    """Project camera points so that a window of the full image fills the rendered image.

    Args:
        points_cam: [B, N, 3] metres, OpenCV camera frame (x right, y down, z forward).
        focal_px: [B, 2], fx and fy of the full image.
        center_px: [B, 2], the full image's principal point.
        window_px: [B, 4], x0, y0, x1, y1 in the full image, pixel edges (a whole image is 0, 0, width,
            height); may reach beyond the image.
        near, far: depths in metres; what lies outside is not drawn.

    Returns:
        [B, N, 4] clip-space positions, OpenGL: the window's left and bottom edges are x/w = -1 and y/w = -1,
        so row 0 of the rendered image is the window's bottom row; w is the depth.
    """
    if not 0.0 < near < far:
        raise ValueError(f"raster: expected 0 < near < far, got near {near}, far {far}")
    return _clip(points_cam, _camera_rows(focal_px, center_px, window_px, top=1.0), near, far)


def _clip(points_cam: Tensor, camera: Tensor, near: float, far: float) -> Tensor:
    """[B, N, 4] clip positions by the rows of `_camera_rows`."""
    x, y, z = points_cam.unbind(-1)
    a, b, c, d = (row[:, None] for row in camera.unbind(-1))
    scale, offset = _depth_row(near, far)
    return torch.stack([a * x + b * z, c * y + d * z, scale * z + offset, z], dim=-1)


def _camera_rows(focal_px: Tensor, center_px: Tensor, window_px: Tensor, top: float) -> Tensor:
    """[B, 4] (a, b, c, d): clip x = a x + b z and clip y = c y + d z; the window's top edge is at clip y = `top`."""
    low, high = window_px[:, :2], window_px[:, 2:]
    side = high - low
    x, y = torch.stack([2 * focal_px / side, (2 * center_px - low - high) / side], -1).unbind(1)
    return torch.cat([x, -top * y], 1)


def _depth_row(near: float, far: float) -> tuple[float, float]:
    """(e, f): clip z = e z + f."""
    return (far + near) / (far - near), -2.0 * far * near / (far - near)
