"""Numba kernels of the CPU rasteriser, third of three files: antialiasing of silhouettes, and the way back.

Conventions: see cpu_fill.py. The gradient is nvdiffrast's (its published kernels; paper, section 3.5): none
where the blend is held at its limits, and damped on edges that the way hardly crosses.
"""

import numpy as np

from fitter.raster.cpu_fill import kernel

# Coverage is decided on snapped corners, so an edge may pass up to this (in pixels) beyond either centre.
SNAP_SLACK = 1.0 / 16.0
# Added to an edge's extent across the way, in pixels, wherever its gradient divides by it: it bounds what a sliver
# can send to its vertices, and costs an edge of one pixel 0.2 %. nvdiffrast's number.
EXTENT_DAMPING_PX = 1e-3


@kernel
def find_silhouettes(pos, tri, borders, seams, seam_flips, silhouettes, ends):
    """Mark the borders and the folds seen from the camera.

    borders [F] uint8, seams [S, 6] int32 and seam_flips [S] int8 are the mesh's, see Topology. Writes silhouettes
    [F] uint8, bit k for edge k (opposite vertex k), and ends [V] uint8, 1 where a vertex ends a silhouette.
    """
    faces = tri.shape[0]
    facing = np.empty(faces, np.int8)
    for v in range(ends.shape[0]):
        ends[v] = 0
    for f in range(faces):
        i, j, k = tri[f, 0], tri[f, 1], tri[f, 2]
        w0, w1, w2 = np.float64(pos[i, 3]), np.float64(pos[j, 3]), np.float64(pos[k, 3])
        det = (
            pos[i, 0] * (pos[j, 1] * w2 - pos[k, 1] * w1)
            + pos[j, 0] * (pos[k, 1] * w0 - pos[i, 1] * w2)
            + pos[k, 0] * (pos[i, 1] * w1 - pos[j, 1] * w0)
        )
        facing[f] = (det > 0.0) - (det < 0.0)
        silhouettes[f] = borders[f]
        if borders[f]:
            for k in range(3):
                if (borders[f] >> k) & 1:
                    ends[tri[f, (k + 1) % 3]] = ends[tri[f, (k + 2) % 3]] = 1
    for s in range(seams.shape[0]):
        one, other = seams[s, 0], seams[s, 1]
        if facing[one] * facing[other] * seam_flips[s] <= 0:  # 0: one is edge-on
            silhouettes[one] |= 1 << seams[s, 2]
            silhouettes[other] |= 1 << seams[s, 3]
            ends[seams[s, 4]] = ends[seams[s, 5]] = 1


@kernel
def _touches(tri, face, ends):
    """Whether a vertex of the triangle ends a silhouette."""
    return ends[tri[face, 0]] | ends[tri[face, 1]] | ends[tri[face, 2]]


@kernel
def _along(pos, v, fx, fy, along_x, along_y, across_x, across_y):
    """Vertex v from the pixel centre (fx, fy): along the way, across it (both in pixels, times w), and w."""
    w = np.float64(pos[v, 3])
    x, y = pos[v, 0] - fx * w, pos[v, 1] - fy * w
    return along_x * x + along_y * y, across_x * x + across_y * y, w


@kernel
def _silhouette_from(pos, tri, neighbours, silhouettes, face, hidden, fx, fy, step_x, step_y, height, width):
    """The silhouette by which the way from a pixel centre to its neighbour leaves a surface.

    The way runs from the centre (fx, fy), t = 0, to its neighbour at (step_x, step_y), t = 1. Looks at the
    triangle seen at its start, then at up to `hidden` triangles that it enters next. Returns the silhouette's
    two vertices, or (-1, -1): also where the silhouette runs more along the way than across it.

    Each vertex lies on one side of the way or the other, so it leaves a triangle through one of the two edges
    whose ends lie on either side, and stays on the mesh whatever the rounding.
    """
    along_x, along_y = 0.5 * width * step_x, 0.5 * height * step_y
    across_x, across_y = 0.5 * width * step_y, 0.5 * height * step_x
    i, j, k = tri[face, 0], tri[face, 1], tri[face, 2]
    s0, c0, w0 = _along(pos, i, fx, fy, along_x, along_y, across_x, across_y)
    s1, c1, w1 = _along(pos, j, fx, fy, along_x, along_y, across_x, across_y)
    s2, c2, w2 = _along(pos, k, fx, fy, along_x, along_y, across_x, across_y)
    # Of the two edges that it crosses, it leaves through the one further on: the greater t = reach / depth.
    edge, reach, depth = -1, -SNAP_SLACK, 1.0
    a, b, sa, sb, ca, cb, wa, wb = i, j, s0, s1, c0, c1, w0, w1  # a is on the left of the way, b on the right
    for n in range(3):
        if n == 0:
            p, q, sp, sq, cp, cq, wp, wq = j, k, s1, s2, c1, c2, w1, w2
        elif n == 1:
            p, q, sp, sq, cp, cq, wp, wq = k, i, s2, s0, c2, c0, w2, w0
        else:
            p, q, sp, sq, cp, cq, wp, wq = i, j, s0, s1, c0, c1, w0, w1
        if (cp >= 0.0) == (cq >= 0.0):
            continue
        if cp < 0.0:
            p, q, sp, sq, cp, cq, wp, wq = q, p, sq, sp, cq, cp, wq, wp
        new_reach, new_depth = sq * cp - sp * cq, wq * cp - wp * cq
        if new_depth > 0.0 and new_reach * depth >= reach * new_depth:
            edge, reach, depth = n, new_reach, new_depth
            a, b, sa, sb, ca, cb, wa, wb = p, q, sp, sq, cp, cq, wp, wq
    if edge < 0:
        return -1, -1
    for _ in range(hidden + 1):
        if depth <= 0.0 or reach >= (1.0 + SNAP_SLACK) * depth:
            break
        if (silhouettes[face] >> edge) & 1:
            slope, level = abs(ca * wb - wa * cb), abs(wa * sb - sa * wb)
            # A diagonal edge counts once: for the pair in its row.
            if slope > level or (slope == level and step_y == 0.0):
                return a, b
            break
        came_from, face = face, neighbours[face, edge]
        entry = 0 if neighbours[face, 0] == came_from else (1 if neighbours[face, 1] == came_from else 2)
        v = tri[face, entry]
        s, c, w = _along(pos, v, fx, fy, along_x, along_y, across_x, across_y)
        opposite = a if c >= 0.0 else b  # of the edge it leaves through
        edge = 0 if tri[face, 0] == opposite else (1 if tri[face, 1] == opposite else 2)
        if c >= 0.0:
            a, sa, ca, wa = v, s, c, w
        else:
            b, sb, cb, wb = v, s, c, w
        reach, depth = sb * ca - sa * cb, wb * ca - wa * cb
    return -1, -1


@kernel
def find_crossings(pos, tri, neighbours, silhouettes, ends, rast, hidden, crossings):
    """List the pixel pairs that a silhouette passes between; for `hidden` see _silhouette_from.

    crossings [n, 4] int32: flat index of the nearer surface's pixel, of the other pixel, the edge's two
    vertices. Returns how many there are; only the first n are stored.
    """
    height, width, faces = rast.shape[0], rast.shape[1], tri.shape[0]
    room, found = crossings.shape[0], 0
    for row in range(height):
        for col in range(width):
            label = rast[row, col, 3]
            right = rast[row, col + 1, 3] if col + 1 < width else label
            above = rast[row + 1, col, 3] if row + 1 < height else label
            if label == right and label == above:
                continue
            here = int(label)
            for vertical in range(2):
                there = int(above) if vertical else int(right)
                if here == there:
                    continue
                row2, col2 = row + vertical, col + 1 - vertical
                if there == 0 or (here > 0 and rast[row, col, 2] < rast[row2, col2, 2]):
                    face, other, step, r, c = here - 1, there - 1, 1, row, col
                else:
                    face, other, step, r, c = there - 1, here - 1, -1, row2, col2
                if face < 0 or face >= faces or other >= faces:
                    continue
                if silhouettes[face] == 0:
                    if hidden == 0:
                        continue
                    # Where neither triangle touches a silhouette, none hides between them (but for slivers).
                    if other >= 0 and not (_touches(tri, face, ends) or _touches(tri, other, ends)):
                        continue
                fx, fy = (2 * c + 1) / width - 1.0, (2 * r + 1) / height - 1.0
                step_x, step_y = (0.0, float(step)) if vertical else (float(step), 0.0)
                p, q = _silhouette_from(
                    pos, tri, neighbours, silhouettes, face, hidden, fx, fy, step_x, step_y, height, width
                )
                if p < 0:
                    continue
                if found < room:
                    near, far = row * width + col, row2 * width + col2
                    if step < 0:
                        near, far = far, near
                    crossings[found, 0], crossings[found, 1] = near, far
                    crossings[found, 2], crossings[found, 3] = p, q
                found += 1
    return found


@kernel
def _edge_line(pos, near, far, p, q, height, width):
    """The edge's line and where it crosses the way from centre `near` (t = 0) to centre `far` (t = 1).

    Returns t = reach / slope (not held to 0..1), reach, slope, and the numbers that antialias_grad needs again.
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
    reach = py * qx - px * qy
    return reach / slope, reach, slope, fx, fy, px, py, pw, qx, qy, qw, vertical


@kernel
def antialias(pos, crossings, image, differences):
    """Blend image [H, W, C] in place at all crossings, each by the colours before any.

    Writes differences [n, C], what each blend has a share of: the other pixel's colour less that of the pixel blended.
    """
    height, width, channels = image.shape
    for n in range(crossings.shape[0]):
        near, far, p, q = crossings[n, 0], crossings[n, 1], crossings[n, 2], crossings[n, 3]
        t = _edge_line(pos, near, far, p, q, height, width)[0]
        target, source = (near, far) if t < 0.5 else (far, near)
        row, col, from_row, from_col = target // width, target % width, source // width, source % width
        for c in range(channels):
            differences[n, c] = image[from_row, from_col, c] - image[row, col, c]
    for n in range(crossings.shape[0]):
        near, far, p, q = crossings[n, 0], crossings[n, 1], crossings[n, 2], crossings[n, 3]
        t = min(max(_edge_line(pos, near, far, p, q, height, width)[0], 0.0), 1.0)
        target, share = (near, 0.5 - t) if t < 0.5 else (far, t - 0.5)
        row, col = target // width, target % width
        for c in range(channels):
            image[row, col, c] += share * differences[n, c]


@kernel
def antialias_grad(pos, crossings, differences, grad_out, boost, grad_color, grad_pos):
    """Add to grad_color [H, W, C] (given as a copy of grad_out) and, times boost, to grad_pos [V, 4]."""
    height, width, channels = grad_out.shape
    for n in range(crossings.shape[0]):
        near, far, p, q = crossings[n, 0], crossings[n, 1], crossings[n, 2], crossings[n, 3]
        where, reach, slope, fx, fy, px, py, pw, qx, qy, qw, vertical = _edge_line(
            pos, near, far, p, q, height, width
        )
        t = min(max(where, 0.0), 1.0)
        target, source, share = (near, far, 0.5 - t) if t < 0.5 else (far, near, t - 0.5)
        row, col, from_row, from_col = target // width, target % width, source // width, source % width
        grad_share = 0.0
        for c in range(channels):
            grad = np.float64(grad_out[row, col, c])
            grad_share += grad * differences[n, c]
            grad_color[row, col, c] -= share * grad
            grad_color[from_row, from_col, c] += share * grad
        # Held at a limit the blend does not move with the edge; midway, where it has a kink, it blends nothing.
        if grad_share == 0.0 or where <= 0.0 or where >= 1.0 or share == 0.0:
            continue
        grad_t = (-grad_share if t < 0.5 else grad_share) * boost
        # slope is the line's x or y part (negated on a way to a lower index), its extent in pixels times pw qw.
        damping = EXTENT_DAMPING_PX if slope > 0.0 else -EXTENT_DAMPING_PX
        damped = slope + damping * abs(pw * qw)
        g_here = -grad_t / damped
        g_slope = g_here * reach / damped
        # The damping is one of extents in the image, so scaling a vertex in clip space must change nothing.
        p_scale = g_slope * damping * (abs(qw) if pw > 0.0 else -abs(qw))
        q_scale = g_slope * damping * (abs(pw) if qw > 0.0 else -abs(pw))
        if far < near:
            g_slope = -g_slope
        gx, gy = (0.0, g_slope) if vertical else (g_slope, 0.0)
        dx, dy = (qy * g_here - qw * gy) * (0.5 * width), (qw * gx - qx * g_here) * (0.5 * height)
        grad_pos[p, 0] += dx
        grad_pos[p, 1] += dy
        grad_pos[p, 3] += qx * gy - qy * gx + p_scale - fx * dx - fy * dy
        dx, dy = (gy * pw - g_here * py) * (0.5 * width), (g_here * px - gx * pw) * (0.5 * height)
        grad_pos[q, 0] += dx
        grad_pos[q, 1] += dy
        grad_pos[q, 3] += gx * py - gy * px + q_scale - fx * dx - fy * dy
