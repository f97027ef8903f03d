"""Per-image numba kernels of the CPU rasteriser; raster_cpu.py wraps them into nvdiffrast's API.

Every kernel handles one image on one thread and releases the GIL, so images run side by side and no result
depends on the number of threads. Arithmetic is float64 whatever the tensors hold. Conventions are those of
nvdiffrast (its documentation; Laine et al. 2020, arXiv 2011.03277): OpenGL clip space, smaller z/w is nearer,
row 0 at the bottom, pixel (column i, row j) sampled at (i + 0.5, j + 0.5). `tri` is [F, 3] int32, `pos` [V, 4].

No kernel checks an index: raster_cpu.py does, once per call.
"""

import math

import numpy as np
from numba import njit

# nvdiffrast's CUDA rasteriser snaps vertices to 1/16 px; only on the same grid does a triangle cover the same
# pixels. Snapped coordinates are whole numbers of subpixels from the image's lower left corner.
SUBPIXEL_BITS = 4
SUBPIXELS = 1 << SUBPIXEL_BITS
HALF_PIXEL = SUBPIXELS // 2
# Triangles that reach beyond are clipped, so that products of snapped coordinates fit an int64.
GUARD_SUBPIXELS = float(1 << 24)
# A triangle whose pixel box is wider than this solves each row's span instead of testing every pixel of it.
SPAN_MIN_WIDTH = 12
CLIP_PLANES = 7
MAX_CORNERS = 3 + CLIP_PLANES
MUST_CLIP = 64
# What `visibility` returns when all positions are finite.
ALL_FINITE, SOME_CLIPPED = -1, -2
# A pixel's key is its depth, 31 bits over z/w = -1 to 1, and below it the label: the least key is seen.
LABEL_BITS = 32
DEPTH_MAX = float((1 << 31) - 1)
NOTHING = np.int64((1 << 63) - 1)

_kernel = njit(cache=True, nogil=True, error_model="numpy")


@_kernel
def _span(a, a_dx, b, b_dx, c, c_dx, last):
    """First and last n of 0..last with a + n a_dx, b + n b_dx and c + n c_dx all >= 0."""
    first = 0
    for value, step in ((a, a_dx), (b, b_dx), (c, c_dx)):
        if step > 0:
            first = max(first, -(value // step))
        elif step < 0:
            last = min(last, value // -step)
        elif value < 0:
            last = -1
    return first, last


@_kernel
def _draw(snapped, depths, outside, tri, labels, first_face, face_count, keys):
    """Z-tested fill of triangles tri [F, 3], whose labels [F] go into keys [H, W].

    A pixel centre exactly on an edge belongs to the triangle at its right or, for a level edge, above it, so
    that every shared edge is drawn once. At equal depth the lowest label is seen.
    """
    height, width = keys.shape
    for f in range(first_face, first_face + face_count):
        i, j, k = tri[f, 0], tri[f, 1], tri[f, 2]
        if (outside[i] & outside[j] & outside[k]) | ((outside[i] | outside[j] | outside[k]) & MUST_CLIP):
            continue
        ax, ay = np.int64(snapped[i, 0]), np.int64(snapped[i, 1])
        bx, by = np.int64(snapped[j, 0]), np.int64(snapped[j, 1])
        cx, cy = np.int64(snapped[k, 0]), np.int64(snapped[k, 1])
        left = max((min(ax, min(bx, cx)) + (HALF_PIXEL - 1)) >> SUBPIXEL_BITS, 0)
        right = min((max(ax, max(bx, cx)) - HALF_PIXEL) >> SUBPIXEL_BITS, width - 1)
        low = max((min(ay, min(by, cy)) + (HALF_PIXEL - 1)) >> SUBPIXEL_BITS, 0)
        high = min((max(ay, max(by, cy)) - HALF_PIXEL) >> SUBPIXEL_BITS, height - 1)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if left > right or low > high or area == 0:
            continue
        # Edge functions, opposite to corners a, b, c: positive inside whichever way the triangle winds.
        side = 1 if area > 0 else -1
        a_dx, a_dy = side * (by - cy), side * (cx - bx)
        b_dx, b_dy = side * (cy - ay), side * (ax - cx)
        c_dx, c_dy = -a_dx - b_dx, -a_dy - b_dy
        px, py = left * SUBPIXELS + HALF_PIXEL, low * SUBPIXELS + HALF_PIXEL
        a_row = (px - bx) * a_dx + (py - by) * a_dy
        b_row = (px - cx) * b_dx + (py - cy) * b_dy
        c_row = side * area - a_row - b_row
        az, bz, cz = depths[i], depths[j], depths[k]
        scale = 1.0 / (side * area)
        z_row = (a_row * az + b_row * bz + c_row * cz) * scale
        scale *= SUBPIXELS
        z_dx = (a_dx * az + b_dx * bz + c_dx * cz) * scale
        z_dy = (a_dy * az + b_dy * bz + c_dy * cz) * scale
        # Where the edge itself is outside, one less: the functions are whole numbers.
        a_row -= (a_dx < 0) | ((a_dx == 0) & (a_dy < 0))
        b_row -= (b_dx < 0) | ((b_dx == 0) & (b_dy < 0))
        c_row -= (c_dx < 0) | ((c_dx == 0) & (c_dy < 0))
        a_dx, b_dx, c_dx = a_dx * SUBPIXELS, b_dx * SUBPIXELS, c_dx * SUBPIXELS
        a_dy, b_dy, c_dy = a_dy * SUBPIXELS, b_dy * SUBPIXELS, c_dy * SUBPIXELS
        label = np.int64(labels[f])
        for y in range(low, high + 1):
            first, last = 0, right - left
            if last >= SPAN_MIN_WIDTH:
                first, last = _span(a_row, a_dx, b_row, b_dx, c_row, c_dx, last)
            a, b, c = a_row + first * a_dx, b_row + first * b_dx, c_row + first * c_dx
            z = z_row + first * z_dx
            for x in range(left + first, left + last + 1):
                # No branch: a small triangle's coverage is not predictable. Outside, the sign bit makes NOTHING.
                depth = np.int64(min(max(z, 0.0), DEPTH_MAX))
                key = (depth << LABEL_BITS) | label | (((a | b | c) >> 63) & NOTHING)
                keys[y, x] = min(key, keys[y, x])
                a += a_dx
                b += b_dx
                c += c_dx
                z += z_dx
            a_row += a_dy
            b_row += b_dy
            c_row += c_dy
            z_row += z_dy


@_kernel
def _plane(plane, polygon, i, guard_x, guard_y):
    """Signed distance (any scale) of polygon[i] (x, y, z, w) to a clipping plane; inside is >= 0."""
    x, y, z, w = polygon[i, 0], polygon[i, 1], polygon[i, 2], polygon[i, 3]
    if plane == 0:
        distance = w - 1e-30
    elif plane == 1:
        distance = z + w
    elif plane == 2:
        distance = w - z
    elif plane == 3:
        distance = guard_x * w + x
    elif plane == 4:
        distance = guard_x * w - x
    elif plane == 5:
        distance = guard_y * w + y
    else:
        distance = guard_y * w - y
    return distance


@_kernel
def _clip(polygon, scratch, guard_x, guard_y):
    """Clip the triangle in polygon[:3] (x, y, z, w) to the depth range and the guard band, in place.

    Returns the number of corners left. An edge is always cut from its inside end, whichever triangle is clipped,
    so two triangles that share it get the same new corner.
    """
    count = 3
    for plane in range(CLIP_PLANES):
        kept = 0
        for i in range(count):
            j = (i + 1) % count
            here = _plane(plane, polygon, i, guard_x, guard_y)
            there = _plane(plane, polygon, j, guard_x, guard_y)
            if here >= 0.0:
                for k in range(4):
                    scratch[kept, k] = polygon[i, k]
                kept += 1
            if (here >= 0.0) != (there >= 0.0):
                inner, outer = (i, j) if here >= 0.0 else (j, i)
                t = abs(here if here >= 0.0 else there) / (abs(here) + abs(there))
                for k in range(4):
                    scratch[kept, k] = polygon[inner, k] + t * (polygon[outer, k] - polygon[inner, k])
                kept += 1
        count = kept
        for i in range(count):
            for k in range(4):
                polygon[i, k] = scratch[i, k]
    return count


@_kernel
def _snap(pos, height, width, snapped, depths, outside):
    """snapped [V, 2] int32 and depths [V] (0 to DEPTH_MAX) of the corners pos [V, 4] of an image.

    outside [V] uint8: bits 0-5 beyond left, right, bottom, top, near, far; MUST_CLIP where the corner cannot be
    drawn as it is (and is not set). Returns the index of a vertex that is not finite, else SOME_CLIPPED or
    ALL_FINITE.
    """
    half_width, half_height = float(width * HALF_PIXEL), float(height * HALF_PIXEL)
    guard_x, guard_y = GUARD_SUBPIXELS / half_width, GUARD_SUBPIXELS / half_height
    seen = 0
    for v in range(pos.shape[0]):
        x, y = np.float64(pos[v, 0]), np.float64(pos[v, 1])
        z, w = np.float64(pos[v, 2]), np.float64(pos[v, 3])
        if not math.isfinite(x + y + z + w):
            return v
        code = (x < -w) | (x > w) << 1 | (y < -w) << 2 | (y > w) << 3 | (z < -w) << 4 | (z > w) << 5
        if w > 0.0 and abs(z) <= w and abs(x) <= guard_x * w and abs(y) <= guard_y * w:
            scale = 1.0 / w
            snapped[v, 0] = np.rint(x * scale * half_width) + half_width
            snapped[v, 1] = np.rint(y * scale * half_height) + half_height
            depths[v] = (0.5 * z * scale + 0.5) * DEPTH_MAX
        else:
            code |= MUST_CLIP
        outside[v] = code
        seen |= code
    return SOME_CLIPPED if seen & MUST_CLIP else ALL_FINITE


@_kernel
def _draw_clipped(pos, outside, tri, labels, first_face, face_count, keys):
    """Clip and draw, as fans, the triangles that _draw leaves out because a corner must be clipped."""
    height, width = keys.shape
    guard_x = GUARD_SUBPIXELS / (width * HALF_PIXEL)
    guard_y = GUARD_SUBPIXELS / (height * HALF_PIXEL)
    polygon, scratch = np.empty((MAX_CORNERS, 4)), np.empty((MAX_CORNERS, 4))
    snapped, depths = np.empty((MAX_CORNERS, 2), np.int32), np.empty(MAX_CORNERS)
    inside = np.zeros(MAX_CORNERS, np.uint8)
    fan, label = np.zeros((1, 3), np.int32), np.empty(1, np.int32)
    for f in range(first_face, first_face + face_count):
        i, j, k = tri[f, 0], tri[f, 1], tri[f, 2]
        if not ((outside[i] | outside[j] | outside[k]) & MUST_CLIP):
            continue
        if outside[i] & outside[j] & outside[k] & (MUST_CLIP - 1):
            continue
        for c in range(4):
            polygon[0, c], polygon[1, c], polygon[2, c] = pos[i, c], pos[j, c], pos[k, c]
        corners = _clip(polygon, scratch, guard_x, guard_y)
        for n in range(corners):
            scale = 1.0 / polygon[n, 3]
            snapped[n, 0] = np.rint(polygon[n, 0] * scale * (width * HALF_PIXEL)) + width * HALF_PIXEL
            snapped[n, 1] = np.rint(polygon[n, 1] * scale * (height * HALF_PIXEL)) + height * HALF_PIXEL
            depths[n] = (0.5 * polygon[n, 2] * scale + 0.5) * DEPTH_MAX
        label[0] = labels[f]
        for n in range(1, corners - 1):
            fan[0, 1], fan[0, 2] = n, n + 1
            _draw(snapped, depths, inside, fan, label, 0, 1, keys)


@_kernel
def visibility(pos, tri, labels, first_face, face_count, keys):
    """Which triangle each pixel centre sees: fills keys [H, W] int64 (see above; NOTHING where none).

    Returns the index of a vertex that is not finite (keys is then unusable), else a negative number.
    """
    height, width = keys.shape
    for row in range(height):
        for col in range(width):
            keys[row, col] = NOTHING
    snapped, depths = np.empty((pos.shape[0], 2), np.int32), np.empty(pos.shape[0])
    outside = np.empty(pos.shape[0], np.uint8)
    result = _snap(pos, height, width, snapped, depths, outside)
    if result < 0:
        _draw(snapped, depths, outside, tri, labels, first_face, face_count, keys)
    if result == SOME_CLIPPED:
        _draw_clipped(pos, outside, tri, labels, first_face, face_count, keys)
    return result


@_kernel
def resolve(pos, tri, keys, rast):
    """Write rast [H, W, 4] = (u, v, z/w, index + 1) for the triangle seen by each pixel; rast is given as zeros.

    u, v are perspective-correct and kept inside the triangle, which the snapped coverage may overstep slightly.
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


@_kernel
def rasterize_grad(pos, tri, rast, grad_rast, grad_pos):
    """Add d(u, v)/d(x, y, w) times grad_rast[..., :2] to grad_pos [V, 4]; z/w and the index carry no gradient."""
    height, width = rast.shape[:2]
    for row in range(height):
        fy = (2 * row + 1) / height - 1.0
        for col in range(width):
            index = int(rast[row, col, 3])
            grad_u, grad_v = np.float64(grad_rast[row, col, 0]), np.float64(grad_rast[row, col, 1])
            if index == 0 or (grad_u == 0.0 and grad_v == 0.0):
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


@_kernel
def interpolate(attr, rast, tri, out):
    """out [H, W, C] = u a0 + v a1 + (1 - u - v) a2 of the pixel's triangle, attr [V, C]; out is given as zeros."""
    height, width, channels = out.shape
    for row in range(height):
        for col in range(width):
            index = int(rast[row, col, 3])
            if index == 0:
                continue
            i, j, k = tri[index - 1, 0], tri[index - 1, 1], tri[index - 1, 2]
            u, v = rast[row, col, 0], rast[row, col, 1]
            t = 1 - u - v
            c = 0
            while c < channels:  # left scalar on purpose: few channels make vector loops slower
                out[row, col, c] = u * attr[i, c] + v * attr[j, c] + t * attr[k, c]
                c += 1


@_kernel
def interpolate_grad_rast(attr, rast, tri, grad_out, grad_rast):
    """Gradient of interpolate to u and v, the first two channels of grad_rast [H, W, 4], given as zeros."""
    height, width, channels = grad_out.shape
    for row in range(height):
        for col in range(width):
            index = int(rast[row, col, 3])
            if index == 0:
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


@_kernel
def interpolate_grad_attr(rast, tri, grad_out, grad_attr):
    """Add the gradient of interpolate to grad_attr [V, C]."""
    height, width, channels = grad_out.shape
    for row in range(height):
        for col in range(width):
            index = int(rast[row, col, 3])
            if index == 0:
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


@_kernel
def find_silhouettes(pos, tri, neighbours, flips, silhouettes, on_silhouette):
    """Mark the borders and the folds seen from the camera.

    silhouettes [F] uint8: bit k for edge k (opposite vertex k); on_silhouette [V] uint8: 1 at the ends of one.
    """
    faces = tri.shape[0]
    facing = np.empty(faces, np.int8)
    for f in range(faces):
        i, j, k = tri[f, 0], tri[f, 1], tri[f, 2]
        w0, w1, w2 = np.float64(pos[i, 3]), np.float64(pos[j, 3]), np.float64(pos[k, 3])
        det = (
            pos[i, 0] * (pos[j, 1] * w2 - pos[k, 1] * w1)
            + pos[j, 0] * (pos[k, 1] * w0 - pos[i, 1] * w2)
            + pos[k, 0] * (pos[i, 1] * w1 - pos[j, 1] * w0)
        )
        facing[f] = 1 if det > 0.0 else -1
    for v in range(pos.shape[0]):
        on_silhouette[v] = 0
    for f in range(faces):
        bits = 0
        for k in range(3):
            other = neighbours[f, k]
            if other < 0 or facing[f] * facing[other] * flips[f, k] < 0:
                bits |= 1 << k
                on_silhouette[tri[f, (k + 1) % 3]] = 1
                on_silhouette[tri[f, (k + 2) % 3]] = 1
        silhouettes[f] = bits


@_kernel
def _exit_edge(pos, tri, face, entry, entry_t, fx, fy, half_width, half_height, step, vertical):
    """Where the way from the pixel centre (fx, fy) to the next one leaves a triangle.

    step is +1 or -1 along a row, or along a column if vertical; entry is the edge it came in by at entry_t, or -1
    if it starts inside. Returns the edge (0-2; -1 if it stays inside), t (0 at this centre, 1 at the next), and
    whether the edge runs more across the way than along it. Everything is homogeneous, relative to this centre
    and in pixels: the line through p and q is p x q, its last part the value here.
    """
    i, j, k = tri[face, 0], tri[face, 1], tri[face, 2]
    w0, w1, w2 = np.float64(pos[i, 3]), np.float64(pos[j, 3]), np.float64(pos[k, 3])
    x0, y0 = (pos[i, 0] - fx * w0) * half_width, (pos[i, 1] - fy * w0) * half_height
    x1, y1 = (pos[j, 0] - fx * w1) * half_width, (pos[j, 1] - fy * w1) * half_height
    x2, y2 = (pos[k, 0] - fx * w2) * half_width, (pos[k, 1] - fy * w2) * half_height
    here0, here1, here2 = x1 * y2 - y1 * x2, x2 * y0 - y2 * x0, x0 * y1 - y0 * x1
    total = here0 + here1 + here2
    side = float(step) if total > 0.0 else -float(step)
    best, best_t, best_across = -1, 1.0, False
    for edge in range(3):
        if edge == 0:
            here, nx, ny = here0, y1 * w2 - w1 * y2, w1 * x2 - x1 * w2
        elif edge == 1:
            here, nx, ny = here1, y2 * w0 - w2 * y0, w2 * x0 - x2 * w0
        else:
            here, nx, ny = here2, y0 * w1 - w0 * y1, w0 * x1 - x0 * w1
        slope = ny if vertical else nx
        if edge == entry or side * slope >= 0.0:
            continue
        across = abs(ny) > abs(nx) if vertical else abs(nx) >= abs(ny)
        t = -here / (slope * step)
        # Coverage was decided on snapped corners, so the first centre may lie a little outside (t < 0).
        if t < best_t and (t >= entry_t or (entry < 0 and across)):
            best, best_t, best_across = edge, t, across
    return best, best_t, best_across


@_kernel
def _silhouette_from(
    pos, tri, neighbours, silhouettes, face, hidden, fx, fy, half_width, half_height, step, vertical
):
    """(face, edge) of the silhouette by which the way from a pixel centre to the next leaves a surface, or (-1, -1).

    Looks at the triangle seen there, then at up to `hidden` triangles on the way beyond it. For the other
    arguments see _exit_edge.
    """
    entry, t = -1, 0.0
    for _ in range(hidden + 1):
        edge, t, across = _exit_edge(
            pos, tri, face, entry, t, fx, fy, half_width, half_height, step, vertical
        )
        if edge < 0:
            break
        if (silhouettes[face] >> edge) & 1:
            return (face, edge) if across else (-1, -1)
        beyond = neighbours[face, edge]
        entry = 0 if neighbours[beyond, 0] == face else (1 if neighbours[beyond, 1] == face else 2)
        face = beyond
    return -1, -1


@_kernel
def _same_fan(tri, face, other, on_silhouette):
    """Whether two triangles meet at a vertex with no silhouette: then none passes between their pixels."""
    for k in range(3):
        v = tri[face, k]
        if on_silhouette[v] == 0 and (v == tri[other, 0] or v == tri[other, 1] or v == tri[other, 2]):
            return True
    return False


@_kernel
def find_crossings(pos, tri, neighbours, silhouettes, on_silhouette, rast, hidden, crossings):
    """List the pixel pairs that a silhouette passes between, following a surface over `hidden` unseen triangles.

    crossings [n, 4] int32: flat index of the nearer surface's pixel, of the other pixel, the edge's two vertices.
    Returns how many there are; only the first n are stored.
    """
    height, width = rast.shape[:2]
    half_width, half_height = 0.5 * width, 0.5 * height
    room, found = crossings.shape[0], 0
    for row in range(height):
        for col in range(width):
            here = int(rast[row, col, 3])
            for vertical in range(2):
                row2, col2 = row + vertical, col + 1 - vertical
                if row2 == height or col2 == width:
                    continue
                there = int(rast[row2, col2, 3])
                if here == there:
                    continue
                if there == 0 or (here > 0 and rast[row, col, 2] <= rast[row2, col2, 2]):
                    face, other, step, r, c = here - 1, there - 1, 1, row, col
                else:
                    face, other, step, r, c = there - 1, here - 1, -1, row2, col2
                if silhouettes[face] == 0 and (
                    hidden == 0 or (other >= 0 and _same_fan(tri, face, other, on_silhouette))
                ):
                    continue
                fx, fy = (2 * c + 1) / width - 1.0, (2 * r + 1) / height - 1.0
                face, edge = _silhouette_from(
                    pos, tri, neighbours, silhouettes, face, hidden,
                    fx, fy, half_width, half_height, step, vertical == 1,
                )  # fmt: skip
                if edge < 0:
                    continue
                if found < room:
                    near, far = row * width + col, row2 * width + col2
                    if step < 0:
                        near, far = far, near
                    crossings[found, 0] = near
                    crossings[found, 1] = far
                    crossings[found, 2] = tri[face, (edge + 1) % 3]
                    crossings[found, 3] = tri[face, (edge + 2) % 3]
                found += 1
    return found


@_kernel
def _edge_line(pos, near, far, p, q, height, width):
    """The edge's line and where it crosses the way from centre `near` (t = 0) to centre `far` (t = 1).

    Returns t, the line's slope along the way, and the numbers that antialias_grad needs again.
    """
    row, col = near // width, near % width
    fx, fy = (2 * col + 1) / width - 1.0, (2 * row + 1) / height - 1.0
    pw, qw = np.float64(pos[p, 3]), np.float64(pos[q, 3])
    px, py = (pos[p, 0] - fx * pw) * (0.5 * width), (pos[p, 1] - fy * pw) * (0.5 * height)
    qx, qy = (pos[q, 0] - fx * qw) * (0.5 * width), (pos[q, 1] - fy * qw) * (0.5 * height)
    vertical = abs(far - near) >= width and far // width != row
    slope = (pw * qx - px * qw) if vertical else (py * qw - pw * qy)
    if far < near:
        slope = -slope
    t = (py * qx - px * qy) / slope
    return min(max(t, 0.0), 1.0), slope, fx, fy, px, py, pw, qx, qy, qw, vertical


@_kernel
def antialias(pos, crossings, color, out):
    """Add the blends of all crossings to out [H, W, C], given as a copy of color."""
    height, width, channels = color.shape
    for n in range(crossings.shape[0]):
        near, far, p, q = crossings[n, 0], crossings[n, 1], crossings[n, 2], crossings[n, 3]
        t = _edge_line(pos, near, far, p, q, height, width)[0]
        target, source, share = (near, far, 0.5 - t) if t < 0.5 else (far, near, t - 0.5)
        row, col, from_row, from_col = target // width, target % width, source // width, source % width
        for c in range(channels):
            out[row, col, c] += share * (color[from_row, from_col, c] - color[row, col, c])


@_kernel
def antialias_grad(pos, crossings, color, grad_out, boost, grad_color, grad_pos):
    """Add to grad_color [H, W, C], given as a copy of grad_out, and boost times the gradient to grad_pos [V, 4]."""
    height, width, channels = color.shape
    for n in range(crossings.shape[0]):
        near, far, p, q = crossings[n, 0], crossings[n, 1], crossings[n, 2], crossings[n, 3]
        t, slope, fx, fy, px, py, pw, qx, qy, qw, vertical = _edge_line(pos, near, far, p, q, height, width)
        target, source, share = (near, far, 0.5 - t) if t < 0.5 else (far, near, t - 0.5)
        row, col, from_row, from_col = target // width, target % width, source // width, source % width
        grad_share = 0.0
        for c in range(channels):
            grad = np.float64(grad_out[row, col, c])
            grad_share += grad * (color[from_row, from_col, c] - color[row, col, c])
            grad_color[row, col, c] -= share * grad
            grad_color[from_row, from_col, c] += share * grad
        if grad_share == 0.0:
            continue
        grad_t = (-grad_share if t < 0.5 else grad_share) * boost
        # t = -(px qy - py qx) / slope, with slope the line's x or y part (negated on a way to a lower index).
        g_here = -grad_t / slope
        g_slope = -grad_t * t / slope
        if far < near:
            g_slope = -g_slope
        gx, gy = (0.0, g_slope) if vertical else (g_slope, 0.0)
        dx, dy = (qy * g_here - qw * gy) * (0.5 * width), (qw * gx - qx * g_here) * (0.5 * height)
        grad_pos[p, 0] += dx
        grad_pos[p, 1] += dy
        grad_pos[p, 3] += qx * gy - qy * gx - fx * dx - fy * dy
        dx, dy = (gy * pw - g_here * py) * (0.5 * width), (g_here * px - gx * pw) * (0.5 * height)
        grad_pos[q, 0] += dx
        grad_pos[q, 1] += dy
        grad_pos[q, 3] += gx * py - gy * px - fx * dx - fy * dy
