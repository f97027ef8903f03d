"""Numba kernels of the CPU rasteriser, second of three files: what each pixel gets, and the way back.

Conventions: see raster_cpu_fill.py.
"""

import numpy as np

from fitter.raster.cpu_fill import LABEL_BITS, NOTHING, kernel


@kernel
def resolve(pos, tri, keys, rast):
    """Write rast [H, W, 4] = (u, v, z/w, index + 1) for the triangle seen by each pixel; rast is given as
    zeros.

    u, v are perspective-correct and kept inside the triangle, which the snapped coverage may overstep
    slightly.
    """
    height, width = keys.shape
    for row in range(height):
        fy = (2 * row + 1) / height - 1.0
        for col in range(width):
            if keys[row, col] == NOTHING:
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
            w0, w1, w2 = np.float64(pos[i, 3]), np.float64(pos[j, 3]), np.float64(pos[k, 3])
            x0, y0 = pos[i, 0] - fx * w0, pos[i, 1] - fy * w0
            x1, y1 = pos[j, 0] - fx * w1, pos[j, 1] - fy * w1
            x2, y2 = pos[k, 0] - fx * w2, pos[k, 1] - fy * w2
            a0 = x1 * y2 - y1 * x2
            a1 = x2 * y0 - y2 * x0
            total = a0 + a1 + (x0 * y1 - y0 * x1)
            if total == 0.0:
                continue
            scale = 1.0 / total
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
def interpolate(attr, rast, tri, out):
    """out [H, W, C] = u a0 + v a1 + (1 - u - v) a2 of the pixel's triangle, attr [V, C]; given as zeros."""
    height, width, channels = out.shape
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
