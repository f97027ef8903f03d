"""From camera points to the antialiased image in one step on the CPU, with one way back.

The same kernels in the same order as cpu.py's rasterize, interpolate and antialias after `clip_from_camera`, without
what torch, the images and the gradients between them cost: at 64 px that is half of the time.
"""

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from fitter.raster import cpu_checks, cpu_edges, cpu_fill, cpu_shade
from fitter.raster.cpu import blend
from fitter.raster.cpu_images import as_numpy, each_image, empty, grad_per_image, image_of, sum_over_images


def render(points_cam, tri, attr, camera, depth, resolution, hidden_triangles):
    """Vertex attributes as a camera sees them.

    Args:
        points_cam: [B, V, 3] float32 or float64, metres, z forward.
        tri: [F, 3] int32.
        attr: [B, V, C] or [1, V, C].
        camera: [B, 4] (a, b, c, d): clip x = a x + b z, clip y = c y + d z, clip w = z.
        depth: (e, f): clip z = e z + f.
        resolution: (height, width) in pixels.
        hidden_triangles: as in `cpu.antialias`.

    Returns:
        [B, H, W, C], row 0 at clip y = -1; 0 where nothing is seen. Differentiable in points, attributes and camera.

    Raises:
        ValueError: a shape, dtype, device or index is wrong, or a position is not finite.
    """
    dtype = points_cam.dtype
    cpu_checks.check_tensor("points_cam", points_cam, (torch.float32, torch.float64))
    cpu_checks.check_tensor("attr", attr, (dtype,))
    cpu_checks.check_tensor("camera", camera, (dtype,))
    images, vertices = points_cam.shape[:2]
    if points_cam.ndim != 3 or points_cam.shape[2] != 3 or camera.shape != (images, 4):
        raise ValueError(
            "raster cpu: expected points_cam of [B, V, 3] and camera of [B, 4], got "
            f"{tuple(points_cam.shape)} and {tuple(camera.shape)}"
        )
    if attr.ndim != 3 or attr.shape[0] not in (1, images) or attr.shape[1] != vertices:
        raise ValueError(
            f"raster cpu: expected attr of [B or 1, V, C] with B = {images}, V = {vertices}, got {tuple(attr.shape)}"
        )
    mesh = cpu_checks.check_mesh(tri, points_cam, "points_cam", "[B, V, 3]")
    return _Render.apply(
        points_cam, camera, attr, mesh, depth, cpu_checks.check_size(resolution), hidden_triangles
    )


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, camera, attr, mesh, depth, size, hidden):
        images, vertices = points.shape[:2]
        points_np, camera_np, attr_np = (as_numpy(t) for t in (points, camera, attr))
        dtype, depth = points_np.dtype, np.array(depth)
        out = empty((images, *size, attr.shape[-1]), points.dtype)
        out_np = out.numpy()

        def one(b):
            pos, keys = np.empty((vertices, 4), dtype), np.empty(size, np.int64)
            rast = np.empty((*size, 4), dtype)
            cpu_shade.project(points_np[b], camera_np[b], depth, pos)
            bad = cpu_fill.visibility(pos, mesh.tri, mesh.labels, 0, len(mesh.tri), keys)
            if bad >= 0:
                return bad
            cpu_shade.resolve(pos, mesh.tri, keys, rast)
            cpu_shade.interpolate(image_of(attr_np, b), rast, mesh.tri, out_np[b])
            return pos, rast, *blend(pos, mesh.tri, mesh.topology, rast, hidden, out_np[b])

        ctx.seen = each_image(one, images)
        for b, bad in enumerate(ctx.seen):
            if isinstance(bad, int):
                cpu_checks.refuse(points_np[b, bad], bad, b)
        ctx.mesh = mesh
        ctx.save_for_backward(points, camera, attr)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        points, camera, attr = ctx.saved_tensors
        points_np, camera_np, attr_np, grad_out_np = (as_numpy(t) for t in (points, camera, attr, grad_out))
        want_attr = ctx.needs_input_grad[2]
        grad_points, grad_camera = (empty(t.shape, t.dtype) for t in (points, camera))
        grad_points_np, grad_camera_np = grad_points.numpy(), grad_camera.numpy()
        grad_attr, grad_attr_np = grad_per_image(attr, len(points) if want_attr else 0)
        tri = ctx.mesh.tri

        def one(b):
            pos, rast, crossings, differences = ctx.seen[b]
            grad_image, grad_pos = grad_out_np[b].copy(), np.zeros_like(pos)
            cpu_edges.antialias_grad(pos, crossings, differences, grad_out_np[b], 1.0, grad_image, grad_pos)
            cpu_shade.shade_grad(pos, image_of(attr_np, b), rast, tri, grad_image, grad_pos)
            cpu_shade.project_grad(points_np[b], camera_np[b], grad_pos, grad_points_np[b], grad_camera_np[b])
            if want_attr:
                grad_attr_np[b] = 0.0
                cpu_shade.interpolate_grad_attr(rast, tri, grad_image, grad_attr_np[b])

        each_image(one, len(points))
        grad_attr = sum_over_images(grad_attr, attr) if want_attr else None
        return grad_points, grad_camera, grad_attr, None, None, None, None
