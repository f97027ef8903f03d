"""Numba kernels of the CPU rasteriser, second of three files: what each pixel gets, and the way back.

Conventions: see cpu_fill.py.
"""

import numpy as np

from fitter.raster.cpu_fill import LABEL_BITS, NOTHING, kernel

# Added to the determinant of a triangle's (x, y, w), which is twice its area in clip space at w = 1, where
# rasterize_grad divides by it, so that slivers send no spikes. nvdiffrast's number: a pixel of 1000 x 1000.
AREA_DAMPING = 1e-6


@kernel
def resolve(pos, tri, keys, rast):
    """Write rast [H, W, 4] = (u, v, z/w, index + 1) for the triangle seen by each pixel, 0 where none is.

    u, v are perspective-correct and kept inside the triangle, which the snapped coverage may overstep
    slightly.
    """
    height, width = keys.shape
    for row in range(height):
        fy = (2 * row + 1) / height - 1.0
        for col in range(width):
            if keys[row, col] == NOTHING:
                rast[row, col, 0] = rast[row, col, 1] = rast[row, col, 2] = rast[row, col, 3] = 0.0
                continue
            index = keys[row, col] & ((1 << LABEL_BITS) - 1)
            fx = (2 * col + 1) / width - 1.0
            i, j, k = tri[index - 1, 0], tri[index - 1, 1], tri[index - 1, 2]
            w0, w1, w2 = np.float64(pos[i, 3]), np.float64(pos[j, 3]), np.float64(pos[k, 3])
            x0, y0 = pos[i, 0] - fx * w0, pos[i, 1] - fy * w0
            x1, y1 = pos[j, 0] - fx * w1, pos[j, 1] - fy * w1
            x2, y2 = pos[k, 0] - fx * w2, pos[k, 1] - fy * w2
            a0 = x1 * y2 - y1 * x2
            a1 = x2 * y0 - y2 * x0
            a2 = x0 * y1 - y0 * x1
            total = a0 + a1 + a2
            u, v = 0.0, 0.0
            if total != 0.0:
                scale = 1.0 / total
                u = min(max(a0 * scale, 0.0), 1.0)
                v = min(max(a1 * scale, 0.0), 1.0)
                excess = u + v
                if excess > 1.0:
                    u /= excess
                    v /= excess
            t = 1.0 - u - v
            rast[row, col, 0] = u
            rast[row, col, 1] = v
            rast[row, col, 2] = min(
                max((u * pos[i, 2] + v * pos[j, 2] + t * pos[k, 2]) / (u * w0 + v * w1 + t * w2), -1.0), 1.0
            )
            rast[row, col, 3] = index


@kernel
def _add_grad(pos, i, j, k, fx, fy, grad_u, grad_v, grad_pos):
    """Add d(u, v)/d(x, y, w) times (grad_u, grad_v), at the pixel whose centre is (fx, fy), to grad_pos [V, 4]."""
    w0, w1, w2 = np.float64(pos[i, 3]), np.float64(pos[j, 3]), np.float64(pos[k, 3])
    x0, y0 = pos[i, 0] - fx * w0, pos[i, 1] - fy * w0
    x1, y1 = pos[j, 0] - fx * w1, pos[j, 1] - fy * w1
    x2, y2 = pos[k, 0] - fx * w2, pos[k, 1] - fy * w2
    a0 = x1 * y2 - y1 * x2
    a1 = x2 * y0 - y2 * x0
    total = a0 + a1 + (x0 * y1 - y0 * x1)
    if total == 0.0:
        return
    scale = 1.0 / (total + (AREA_DAMPING if total > 0.0 else -AREA_DAMPING))
    common = (grad_u * a0 + grad_v * a1) * scale
    g0 = (grad_u - common) * scale
    g1 = (grad_v - common) * scale
    g2 = -common * scale
    dx, dy = g2 * y1 - g1 * y2, g1 * x2 - g2 * x1
    grad_pos[i, 0] += dx
    grad_pos[i, 1] += dy
    grad_pos[i, 3] -= fx * dx + fy * dy
    dx, dy = g0 * y2 - g2 * y0, g2 * x0 - g0 * x2
    grad_pos[j, 0] += dx
    grad_pos[j, 1] += dy
    grad_pos[j, 3] -= fx * dx + fy * dy
    dx, dy = g1 * y0 - g0 * y1, g0 * x1 - g1 * x0
    grad_pos[k, 0] += dx
    grad_pos[k, 1] += dy
    grad_pos[k, 3] -= fx * dx + fy * dy


@kernel
def rasterize_grad(pos, tri, rast, grad_rast, grad_pos):
    """Add d(u, v)/d(x, y, w) times grad_rast[..., :2] to grad_pos [V, 4]; z/w and index carry no gradient."""
    height, width, faces = rast.shape[0], rast.shape[1], tri.shape[0]
    for row in range(height):
        fy = (2 * row + 1) / height - 1.0
        for col in range(width):
            index = int(rast[row, col, 3])
            grad_u, grad_v = np.float64(grad_rast[row, col, 0]), np.float64(grad_rast[row, col, 1])
            if index < 1 or index > faces or (grad_u == 0.0 and grad_v == 0.0):
                continue
            fx = (2 * col + 1) / width - 1.0
            i, j, k = tri[index - 1, 0], tri[index - 1, 1], tri[index - 1, 2]
            _add_grad(pos, i, j, k, fx, fy, grad_u, grad_v, grad_pos)


@kernel
def interpolate(attr, rast, tri, out):
    """out [H, W, C] = u a0 + v a1 + (1 - u - v) a2 of the pixel's triangle, attr [V, C]; 0 where none is."""
    height, width, channels = out.shape
    faces = tri.shape[0]
    for row in range(height):
        for col in range(width):
            index = int(rast[row, col, 3])
            if index < 1 or index > faces:
                c = 0
                while c < channels:
                    out[row, col, c] = 0.0
                    c += 1
                continue
            i, j, k = tri[index - 1, 0], tri[index - 1, 1], tri[index - 1, 2]
            u, v = rast[row, col, 0], rast[row, col, 1]
            t = 1 - u - v
            c = 0
            while c < channels:  # left scalar on purpose: few channels make vector loops slower
                out[row, col, c] = u * attr[i, c] + v * attr[j, c] + t * attr[k, c]
                c += 1


@kernel
def interpolate_grad_rast(attr, rast, tri, grad_out, grad_rast):
    """Gradient of interpolate to u and v, the first two channels of grad_rast [H, W, 4], given as zeros."""
    height, width, channels = grad_out.shape
    faces = tri.shape[0]
    for row in range(height):
        for col in range(width):
            index = int(rast[row, col, 3])
            if index < 1 or index > faces:
                continue
            i, j, k = tri[index - 1, 0], tri[index - 1, 1], tri[index - 1, 2]
            grad_u, grad_v = 0.0, 0.0
            c = 0
            while c < channels:
                grad = np.float64(grad_out[row, col, c])
                grad_u += grad * (attr[i, c] - attr[k, c])
                grad_v += grad * (attr[j, c] - attr[k, c])
                c += 1
            grad_rast[row, col, 0] = grad_u
            grad_rast[row, col, 1] = grad_v


@kernel
def interpolate_grad_attr(rast, tri, grad_out, grad_attr):
    """Add the gradient of interpolate to grad_attr [V, C]."""
    height, width, channels = grad_out.shape
    faces = tri.shape[0]
    for row in range(height):
        for col in range(width):
            index = int(rast[row, col, 3])
            if index < 1 or index > faces:
                continue
            i, j, k = tri[index - 1, 0], tri[index - 1, 1], tri[index - 1, 2]
            u, v = rast[row, col, 0], rast[row, col, 1]
            t = 1 - u - v
            c = 0
            while c < channels:
                grad = grad_out[row, col, c]
                grad_attr[i, c] += u * grad
                grad_attr[j, c] += v * grad
                grad_attr[k, c] += t * grad
                c += 1


@kernel
def shade_grad(pos, attr, rast, tri, grad_out, grad_pos):
    """interpolate_grad_rast and rasterize_grad in one: add the gradient of the image's inside to grad_pos [V, 4]."""
    height, width, channels = grad_out.shape
    faces = tri.shape[0]
    for row in range(height):
        fy = (2 * row + 1) / height - 1.0
        for col in range(width):
            index = int(rast[row, col, 3])
            if index < 1 or index > faces:
                continue
            i, j, k = tri[index - 1, 0], tri[index - 1, 1], tri[index - 1, 2]
            grad_u, grad_v = 0.0, 0.0
            c = 0
            while c < channels:
                grad = np.float64(grad_out[row, col, c])
                grad_u += grad * (attr[i, c] - attr[k, c])
                grad_v += grad * (attr[j, c] - attr[k, c])
                c += 1
            if grad_u != 0.0 or grad_v != 0.0:
                _add_grad(pos, i, j, k, (2 * col + 1) / width - 1.0, fy, grad_u, grad_v, grad_pos)


@kernel
def project(points, camera, depth, pos):
    """pos [V, 4] = (a x + b z, c y + d z, e z + f, z) of points [V, 3], camera [4] (a, b, c, d), depth [2] (e, f)."""
    a, b, c, d = np.float64(camera[0]), np.float64(camera[1]), np.float64(camera[2]), np.float64(camera[3])
    for v in range(points.shape[0]):
        x, y, z = points[v, 0], points[v, 1], points[v, 2]
        pos[v, 0] = a * x + b * z
        pos[v, 1] = c * y + d * z
        pos[v, 2] = depth[0] * z + depth[1]
        pos[v, 3] = z


@kernel
def project_grad(points, camera, grad_pos, grad_points, grad_camera):
    """The way back of project: writes grad_points [V, 3] and grad_camera [4]; clip z carries no gradient."""
    a, b, c, d = np.float64(camera[0]), np.float64(camera[1]), np.float64(camera[2]), np.float64(camera[3])
    grad_a, grad_b, grad_c, grad_d = 0.0, 0.0, 0.0, 0.0
    for v in range(points.shape[0]):
        gx, gy = np.float64(grad_pos[v, 0]), np.float64(grad_pos[v, 1])
        grad_points[v, 0] = a * gx
        grad_points[v, 1] = c * gy
        grad_points[v, 2] = b * gx + d * gy + grad_pos[v, 3]
        grad_a += gx * points[v, 0]
        grad_b += gx * points[v, 2]
        grad_c += gy * points[v, 1]
        grad_d += gy * points[v, 2]
    grad_camera[0], grad_camera[1], grad_camera[2], grad_camera[3] = grad_a, grad_b, grad_c, grad_d
