"""The one seam between the method and a rasteriser: nvdiffrast on CUDA, its twin (raster_cpu.py) elsewhere.

Rendering is rasterize -> interpolate -> antialias, with antialias last. Images have row 0 at the bottom, as
in nvdiffrast; whoever shows one or compares it with a photo flips it once: `torch.flip(image, [1])`.
"""

import torch

# Enough to find nearly all of a 14k-triangle body's outline at 112 px and more (benchmarks/raster.py).
HIDDEN_TRIANGLES_CPU = 16


class Rasterizer:
    """The three rendering functions of one backend, bound to its context. Make it with `make_rasterizer`."""

    def __init__(self, backend: str, ops, ctx, hidden_triangles: int):
        self.backend = backend
        self.hidden_triangles = hidden_triangles
        self._ops = ops
        self._ctx = ctx
        self._topology = None  # (tri, its version, edge table) of the last mesh

    def rasterize(
        self, pos_clip: torch.Tensor, tri: torch.Tensor, resolution: tuple[int, int]
    ) -> torch.Tensor:
        """Find the triangle seen by each pixel.

        Args:
            pos_clip: [B, V, 4] float32 (cpu: or float64), OpenGL clip space; see `clip_from_camera`.
            tri: [F, 3] int32.
            resolution: (height, width) in pixels.

        Returns:
            rast [B, H, W, 4]: u, v, z/w, triangle index + 1; all 0 where nothing is seen.

        Raises:
            ValueError: a shape, dtype or index is wrong, or a position is not finite.
        """
        if pos_clip.ndim != 3 or pos_clip.shape[-1] != 4:
            raise ValueError(f"raster: expected pos_clip of [B, V, 4], got {tuple(pos_clip.shape)}")
        if self.backend == "cuda":  # nvdiffrast checks neither of these
            if not torch.isfinite(pos_clip).all():
                raise ValueError(
                    "raster cuda: expected finite positions, got nan or inf; the fit has diverged"
                )
            if len(pos_clip) == 0:
                return pos_clip.new_zeros((0, *resolution, 4))
        return self._ops.rasterize(self._ctx, pos_clip.contiguous(), tri, tuple(resolution), grad_db=False)[0]

    def interpolate(self, attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor) -> torch.Tensor:
        """Spread attributes [B, V, C] or [1, V, C] over the image [B, H, W, C]; 0 where nothing is seen."""
        if self.backend == "cuda" and len(rast) == 0:
            return rast.new_zeros((*rast.shape[:3], attr.shape[-1]))
        return self._ops.interpolate(attr.contiguous(), rast, tri)[0]

    def antialias(
        self, color: torch.Tensor, rast: torch.Tensor, pos_clip: torch.Tensor, tri: torch.Tensor
    ) -> torch.Tensor:
        """Blend color [B, H, W, C] across silhouettes; the way by which coverage reaches the vertices.

        Must come last. Values can leave color's range slightly: clamp before a logarithm.
        """
        if self.backend == "cuda" and len(rast) == 0:
            return color
        color, pos_clip = color.contiguous(), pos_clip.contiguous()
        if self.backend == "cuda":
            return self._ops.antialias(color, rast, pos_clip, tri, topology_hash=self._edge_table(tri))
        return self._ops.antialias(color, rast, pos_clip, tri, hidden_triangles=self.hidden_triangles)

    def _edge_table(self, tri):
        known = self._topology
        if known is None or known[0] is not tri or known[1] != tri._version:
            table = self._ops.antialias_construct_topology_hash(tri)
            self._topology = known = (tri, tri._version, table)
        return known[2]


def make_rasterizer(
    backend: str, device: torch.device | None = None, hidden_triangles: int | None = None
) -> Rasterizer:
    """Make a Rasterizer.

    Args:
        backend: 'cuda' (nvdiffrast, which must be installed) or 'cpu'.
        device: the GPU, for 'cuda'; None is the current one.
        hidden_triangles: how many unseen triangles `antialias` follows a surface over in search of its
            silhouette. nvdiffrast's rule is 0, and 'cuda' knows no other; it finds about a tenth of a
            14k-triangle body's outline at 224 px, so None means 16 on 'cpu' and 0 on 'cuda'.

    Raises:
        ValueError: an unknown backend, or hidden_triangles above 0 on 'cuda'.
        RuntimeError: 'cuda' without a GPU or without nvdiffrast.
    """
    if backend == "cpu":
        from fitter.raster import cpu as raster_cpu

        if hidden_triangles is None:
            hidden_triangles = HIDDEN_TRIANGLES_CPU
        return Rasterizer(backend, raster_cpu, raster_cpu.RasterizeCpuContext(), hidden_triangles)
    if backend == "cuda":
        if hidden_triangles:
            raise ValueError(
                f"raster: expected hidden_triangles 0 on 'cuda' (nvdiffrast's rule), got {hidden_triangles}"
            )
        if not torch.cuda.is_available():
            raise RuntimeError("raster: expected a CUDA GPU for backend 'cuda', got none; use 'cpu'")
        try:
            import nvdiffrast.torch as dr
        except ImportError as error:
            raise RuntimeError(
                "raster: backend 'cuda' needs nvdiffrast, which is not installed; install the "
                "extra `cuda` or NVlabs/nvdiffrast, or use 'cpu'"
            ) from error
        return Rasterizer(backend, dr, dr.RasterizeCudaContext(device=device), 0)
    raise ValueError(f"raster: expected backend 'cuda' or 'cpu', got {backend!r}")


def clip_from_camera(
    points_cam: torch.Tensor,
    focal_px: torch.Tensor,
    center_px: torch.Tensor,
    window_px: torch.Tensor,
    near: float = 0.05,
    far: float = 100.0,
) -> torch.Tensor:
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
    x, y, z = points_cam.unbind(-1)
    x0, y0, x1, y1 = (edge[:, None] for edge in window_px.unbind(-1))
    fx, fy = (f[:, None] for f in focal_px.unbind(-1))
    cx, cy = (c[:, None] for c in center_px.unbind(-1))
    clip_x = (2.0 * fx * x + (2.0 * cx - x0 - x1) * z) / (x1 - x0)
    clip_y = -(2.0 * fy * y + (2.0 * cy - y0 - y1) * z) / (y1 - y0)
    clip_z = ((far + near) * z - 2.0 * far * near) / (far - near)
    return torch.stack([clip_x, clip_y, clip_z, z], dim=-1)
