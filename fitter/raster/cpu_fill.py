"""Numba kernels of the CPU rasteriser, first of three files: which triangle does each pixel see?

cpu.py wraps the kernels into nvdiffrast's API; cpu_shade.py and cpu_edges.py hold the others.

Every kernel handles one image on one thread and releases the GIL, so images run side by side and no result
depends on the number of threads. Geometry is float64 whatever the tensors hold. Conventions are those of
nvdiffrast (its documentation; Laine et al. 2020, arXiv 2011.03277): OpenGL clip space, smaller z/w is nearer,
row 0 at the bottom, pixel (column i, row j) sampled at (i + 0.5, j + 0.5). `tri` is [F, 3] int32, `pos` [V,
4].

cpu.py checks the vertex indices once per call; a pixel whose triangle index is out of range counts
as empty.
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


def kernel(function):
    """Compile on first call; keep the code beside this file, else in the user's cache, else nowhere."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder that it can write to
        return njit(**options)(function)


@kernel
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


@kernel
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
        ax, ay = snapped[i, 0], snapped[i, 1]
        bx, by = snapped[j, 0], snapped[j, 1]
        cx, cy = snapped[k, 0], snapped[k, 1]
        left = max((min(ax, min(bx, cx)) + (HALF_PIXEL - 1)) >> SUBPIXEL_BITS, 0)
        right = min((max(ax, max(bx, cx)) - HALF_PIXEL) >> SUBPIXEL_BITS, width - 1)
        low = max((min(ay, min(by, cy)) + (HALF_PIXEL - 1)) >> SUBPIXEL_BITS, 0)
        high = min((max(ay, max(by, cy)) - HALF_PIXEL) >> SUBPIXEL_BITS, height - 1)
        if left > right or low > high:  # between pixel centres: at low resolutions nearly all of them
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
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
                # No branch: a small triangle's coverage is not predictable. Outside, the sign bit makes
                # NOTHING.
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


@kernel
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


@kernel
def _clip(polygon, scratch, guard_x, guard_y):
    """Clip the triangle in polygon[:3] (x, y, z, w) to the depth range and the guard band, in place.

    Returns the number of corners left. An edge is always cut from its inside end, whichever triangle is
    clipped, so two triangles that share it get the same new corner.
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


@kernel
def _snap(pos, height, width, snapped, depths, outside):
    """snapped [V, 2] int64 and depths [V] (0 to DEPTH_MAX) of the corners pos [V, 4] of an image.

    outside [V] uint8: bits 0-5 beyond left, right, bottom, top, near, far; MUST_CLIP where the corner
    cannot be drawn as it is (and is not set). Returns the index of a vertex that is not finite, else
    SOME_CLIPPED or ALL_FINITE.
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


@kernel
def _draw_clipped(pos, outside, tri, labels, first_face, face_count, keys):
    """Clip and draw, as fans, the triangles that _draw leaves out because a corner must be clipped."""
    height, width = keys.shape
    guard_x = GUARD_SUBPIXELS / (width * HALF_PIXEL)
    guard_y = GUARD_SUBPIXELS / (height * HALF_PIXEL)
    polygon, scratch = np.empty((MAX_CORNERS, 4)), np.empty((MAX_CORNERS, 4))
    snapped, depths = np.empty((MAX_CORNERS, 2), np.int64), np.empty(MAX_CORNERS)
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


@kernel
def visibility(pos, tri, labels, first_face, face_count, keys):
    """Which triangle each pixel centre sees: fills keys [H, W] int64 (see above; NOTHING where none).

    Returns the index of a vertex that is not finite (keys is then unusable), else a negative number.
    """
    height, width = keys.shape
    for row in range(height):
        for col in range(width):
            keys[row, col] = NOTHING
    snapped, depths = np.empty((pos.shape[0], 2), np.int64), np.empty(pos.shape[0])
    outside = np.empty(pos.shape[0], np.uint8)
    result = _snap(pos, height, width, snapped, depths, outside)
    if result < 0:
        _draw(snapped, depths, outside, tri, labels, first_face, face_count, keys)
    if result == SOME_CLIPPED:
        _draw_clipped(pos, outside, tri, labels, first_face, face_count, keys)
    return result
