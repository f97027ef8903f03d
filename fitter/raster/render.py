"""Rendering what the DSR terms compare: clothing probabilities of the posed body, in a crop of the photo.

DSR section 3.2, with nvdiffrast's rasterize -> interpolate -> antialias in place of SoftRas: all classes in one
rasterisation, light off, 0 outside the body.
"""

from torch import Tensor

from fitter.raster.rasterizer import Rasterizer


def render_prob(
    rasterizer: Rasterizer,
    vertices_cam: Tensor,
    faces: Tensor,
    vertex_prob: Tensor,
    focal_px: Tensor,
    center_px: Tensor,
    window_px: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """Vertex probabilities as seen by the photo's camera, in a window of the photo.

    vertices_cam: [B, V, 3] m, full-image camera; faces: [F, 3] int32; vertex_prob: [B or 1, V, C] in 0..1;
    focal_px, center_px: [B, 2] of the full image; window_px: [B, 4] x0, y0, x1, y1, which `size` = (height, width)
    pixels show: the crop is a change of projection, not of camera.
    Returns [B, height, width, C], row 0 at the top, in 0..1 up to the slight overshoot of antialiasing, 0 where no
    body is. Differentiable to vertices (silhouettes by antialiasing, the inside by barycentrics) and probabilities.
    """
    prob = vertex_prob.to(vertices_cam.dtype)
    return rasterizer.render(vertices_cam, faces, prob, focal_px, center_px, window_px, size)
