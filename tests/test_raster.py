"""The rasteriser against slow references, analytic derivatives and, where there is a GPU, nvdiffrast."""

import inspect
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fitter.raster import cpu as raster_cpu
from fitter.raster import outline
from fitter.raster import rasterizer as seam
from fitter.raster.rasterizer import Rasterizer, clip_from_camera, make_rasterizer
from fitter.raster.render import render_prob
from fitter.raster.topology import build_topology, mesh_of

NO_GPU = not torch.cuda.is_available()
CUDA = pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(NO_GPU, reason="needs a CUDA GPU")])


@pytest.fixture(params=["cpu", CUDA])
def backend(request):
    """A rasteriser that follows nvdiffrast's rule, and its device."""
    if request.param == "cuda":
        pytest.importorskip("nvdiffrast.torch", reason="needs nvdiffrast")
    return make_rasterizer(request.param, hidden_triangles=0), torch.device(request.param)


# ---- scenes ----------------------------------------------------------------------------------------------


def _sphere(rings: int, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """A closed unit sphere, welded, outward winding."""
    lat = np.linspace(0, math.pi, rings + 1)[1:-1]
    lon = np.arange(sides) * 2 * math.pi / sides
    ring = [[math.sin(a) * math.cos(b), math.cos(a), math.sin(a) * math.sin(b)] for a in lat for b in lon]
    vertices = np.array([[0, 1, 0], *ring, [0, -1, 0]])
    last, faces = len(vertices) - 1, []
    for s in range(sides):
        n = (s + 1) % sides
        faces.append([0, 1 + n, 1 + s])
        for r in range(rings - 2):
            a, b = 1 + r * sides + s, 1 + r * sides + n
            faces += [[a, b, a + sides], [b, b + sides, a + sides]]
        faces.append([last, last - sides + s, last - sides + n])
    return vertices, np.array(faces)


def _scene(dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of a rough sphere, a triangle through it and one behind: clip space [2, V, 4], [F, 3]."""
    rng = np.random.default_rng(1)
    sphere, faces = _sphere(7, 10)
    sphere = sphere * (1 + 0.15 * rng.normal(size=(len(sphere), 1)))
    cutter = np.array([[-1.6, -0.9, -1.1], [1.7, -0.3, 1.0], [0.1, 1.5, 0.2]])
    far = np.array([[-2.5, -2, 2.0], [2.5, -1.5, 2.5], [0.3, 2.4, 3.0]])
    vertices = np.concatenate([sphere, cutter, far])
    tri = np.concatenate([faces, [[len(sphere) + i for i in range(3)], [len(sphere) + i for i in (3, 5, 4)]]])
    turned = vertices @ np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
    cam = torch.tensor(np.stack([vertices, turned]) + [0.05, -0.03, 4.5], dtype=dtype)
    window = torch.tensor([[0.0, 0.0, 48.0, 40.0]], dtype=dtype).expand(2, 4)
    focal = torch.full((2, 2), 52.0, dtype=dtype)
    centre = torch.tensor([[24.0, 20.0]], dtype=dtype).expand(2, 2)
    return clip_from_camera(cam, focal, centre, window), torch.tensor(tri, dtype=torch.int32)


def _flat(points_px, size, depth=0.0, dtype=torch.float64) -> torch.Tensor:
    """Clip-space positions [1, N, 4] of image points (pixels from the lower left corner) at one z/w."""
    points = torch.as_tensor(points_px, dtype=dtype)
    xy = 2 * points / torch.tensor([size[1], size[0]], dtype=dtype) - 1
    rest = torch.tensor([depth, 1.0], dtype=dtype).expand(len(points), 2)
    return torch.cat([xy, rest], dim=1)[None]


def _camera_scene(dtype=torch.float32, images=2):
    """The rough sphere before a camera: points [B, V, 3], tri, attributes [1, V, 3], (focal, centre, window)."""
    rng = np.random.default_rng(7)
    vertices, faces = _sphere(24, 36)
    vertices = vertices * (1 + 0.02 * rng.normal(size=(len(vertices), 1))) * [0.5, 0.9, 0.4]
    turns = [
        [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]] for a in range(images)
    ]
    cam = torch.tensor(vertices @ np.array(turns) + [0.1, -0.05, 3.0], dtype=dtype)
    attr = torch.tensor(rng.random((1, len(vertices), 3)), dtype=dtype)
    focal = torch.tensor([[600.0, 640.0]], dtype=dtype).expand(images, 2)
    centre = torch.tensor([[320.0, 240.0]], dtype=dtype).expand(images, 2)
    window = torch.tensor([[150.0, 10.0, 550.0, 450.0]], dtype=dtype).expand(images, 4)
    return cam, torch.tensor(faces, dtype=torch.int32), attr, (focal, centre, window)


def _render(rasterizer, pos, tri, size, attr=None):
    rast = rasterizer.rasterize(pos, tri, size)
    attr = torch.ones_like(pos[:1, :, :1]) if attr is None else attr
    return rasterizer.antialias(rasterizer.interpolate(attr, rast, tri), rast, pos, tri)


# ---- slow references -------------------------------------------------------------------------------------


def _reference_rast(pos: np.ndarray, tri: np.ndarray, size) -> np.ndarray:
    """rast [H, W, 4] of one image in plain numpy: each pixel's ray against every triangle, no snapping.

    Where the ray (x, y, 1) w meets the triangle's plane, its coordinates solve a 3 x 3 system in (x, y, w).
    """
    height, width = size
    rast = np.zeros((height, width, 4))
    rast[..., 2] = np.inf
    rows, cols = np.mgrid[:height, :width]
    rays = np.stack([(2 * cols + 1) / width - 1, (2 * rows + 1) / height - 1, np.ones(size)], -1)
    for index, face in enumerate(tri):
        corners = pos[face].astype(float)  # [3, 4]
        if abs(np.linalg.det(corners[:, [0, 1, 3]])) < 1e-12:
            continue
        weights = np.linalg.solve(corners[:, [0, 1, 3]].T, rays[..., None])[..., 0]
        depth = weights @ corners[:, 2]  # z/w, as weights @ w = 1
        bary = weights / np.where(weights.sum(-1) == 0, 1, weights.sum(-1))[..., None]
        hit = (weights >= 0).all(-1) & (np.abs(depth) <= 1) & (depth < rast[..., 2])
        rast[hit] = np.concatenate([bary[..., :2], depth[..., None], np.full((*size, 1), index + 1)], -1)[hit]
    rast[rast[..., 3] == 0] = 0
    return rast


def _reference_crossings(rast, pos, tri):
    """One image's blends by the published rule in plain Python, in the projected plane (all w > 0).

    Yields (nearer pixel, other pixel, edge's vertices a and b, t: where the edge crosses from one centre to the other).
    """
    height, width = rast.shape[:2]
    points = (pos[:, :2] / pos[:, 3:] * 0.5 + 0.5) * [width, height]
    others: dict = {}
    for face in tri:
        for k in range(3):
            others.setdefault(frozenset((face[k - 1], face[k - 2])), []).append(face[k])

    def beside(p, q, r):
        return np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    for row in range(height):
        for col in range(width):
            for down, along in ((0, 1), (1, 0)):
                r2, c2 = row + down, col + along
                if r2 == height or c2 == width or rast[row, col, 3] == rast[r2, c2, 3]:
                    continue
                near, far = (row, col), (r2, c2)
                if rast[row, col, 3] == 0 or (rast[r2, c2, 3] > 0 and rast[r2, c2, 2] <= rast[row, col, 2]):
                    near, far = far, near
                face = tri[int(rast[near][3]) - 1]
                start = np.array([near[1] + 0.5, near[0] + 0.5])
                way = np.array([far[1] - near[1], far[0] - near[0]])
                for k in range(3):
                    a, b = face[k - 1], face[k - 2]
                    p, q = points[a], points[b]
                    opposite = others[frozenset((a, b))]
                    if len(opposite) == 2 and beside(p, q, points[opposite[0]]) != beside(
                        p, q, points[opposite[1]]
                    ):
                        continue
                    run = np.abs(q - p)
                    if (run[1] < run[0]) if along else (run[0] <= run[1]):
                        continue
                    # start + t way = p + s (q - p)
                    t, s = np.linalg.solve(np.stack([way, p - q], 1), p - start)
                    if -1 / 16 <= t < 17 / 16 and 0 <= s <= 1:  # corners are snapped to 1/16 px
                        yield near, far, a, b, t


def _reference_antialias(color, rast, pos, tri) -> np.ndarray:
    """One image's antialias."""
    out = color.copy()
    for near, far, _, _, t in _reference_crossings(rast, pos, tri):
        t = min(max(t, 0.0), 1.0)
        target, source, share = (near, far, 0.5 - t) if t < 0.5 else (far, near, t - 0.5)
        out[target] += share * (color[source] - color[target])
    return out


def _reference_antialias_grad(color, rast, pos, tri, grad_out) -> tuple[np.ndarray, int]:
    """Its gradient to pos [V, 4] by nvdiffrast's rule, and how many blends had none because t was held.

    With a vertex's pixels along and across the way, t = (along_a across_b - along_b across_a) / extent, extent =
    across_b - across_a; wherever a derivative divides by the extent, it is longer by 0.001 px.
    """
    height, width = rast.shape[:2]
    grad_pos, held, half = np.zeros_like(pos), 0, np.array([width, height]) / 2
    for near, far, a, b, t in _reference_crossings(rast, pos, tri):
        if not 0 < t < 1:
            held += 1
            continue
        target, source, sign = (near, far, -1.0) if t < 0.5 else (far, near, 1.0)
        grad_t = sign * np.dot(grad_out[target], color[source] - color[target])
        start = np.array([near[1] + 0.5, near[0] + 0.5])
        way = np.array([far[1] - near[1], far[0] - near[0]])
        axis = int(way[0] == 0)  # of the way: x or y
        (along_a, across_a), (along_b, across_b) = (
            (p[axis] * way[axis], p[1 - axis])
            for p in ((pos[v, :2] / pos[v, 3] + 1) * half - start for v in (a, b))
        )
        extent = across_b - across_a
        extent += math.copysign(1e-3, extent)
        crossed = (along_a * across_b - along_b * across_a) / extent
        for v, d_along, d_across in (
            (a, across_b / extent, (crossed - along_b) / extent),
            (b, -across_a / extent, (along_a - crossed) / extent),
        ):
            d_px = np.zeros(2)
            d_px[axis], d_px[1 - axis] = d_along * way[axis], d_across
            d_clip = grad_t * d_px * half / pos[v, 3]
            grad_pos[v, :2] += d_clip
            grad_pos[v, 3] -= d_clip @ pos[v, :2] / pos[v, 3]
    return grad_pos, held


def _reference_rasterize_grad(pos, tri, rast, grad_rast) -> np.ndarray:
    """Gradient of u, v to one image's pos [V, 4] by nvdiffrast's rule: the determinant is larger by 1e-6."""
    height, width = rast.shape[:2]
    grad_pos = np.zeros_like(pos)
    for row, col in zip(*np.nonzero(rast[..., 3]), strict=True):
        face = tri[int(rast[row, col, 3]) - 1]
        ray = np.array([(2 * col + 1) / width - 1, (2 * row + 1) / height - 1, 1])
        corners = pos[face][:, [0, 1, 3]]
        functions = np.array([ray @ np.cross(corners[k - 2], corners[k - 1]) for k in range(3)])
        total = functions.sum()
        total += math.copysign(1e-6, total)
        # d(u, v) = d functions / total - (u, v) d total / total
        to_functions = np.append(grad_rast[row, col, :2], 0.0)
        to_functions = (to_functions - to_functions @ functions / total) / total
        for k in range(3):
            one, two = (
                corners[k - 2],
                corners[k - 1],
            )  # k + 1 and k + 2: function k + 1 is of (two, k), k + 2 of (k, one)
            across = to_functions[k - 2] * np.cross(ray, two) + to_functions[k - 1] * np.cross(one, ray)
            grad_pos[face[k], [0, 1, 3]] += across
    return grad_pos


# ---- values ----------------------------------------------------------------------------------------------


def test_rasterize_and_interpolate_match_the_reference(backend):
    rasterizer, device = backend
    pos, tri = _scene()
    size = (40, 48)
    attr = torch.tensor(np.random.default_rng(2).random((1, pos.shape[1], 3)), dtype=torch.float32)
    rast_t = rasterizer.rasterize(pos.to(device), tri.to(device), size)
    values = rasterizer.interpolate(attr.to(device), rast_t, tri.to(device)).cpu().numpy()
    rast = rast_t.cpu().numpy()
    for b in range(2):
        expected = _reference_rast(pos[b].numpy(), tri.numpy(), size)
        same = rast[b, ..., 3] == expected[..., 3]
        # Corners move by up to 1/32 px when snapped, so pixels right at an edge may change hands.
        assert same.mean() > 0.985
        assert (expected[..., 3] > 0).mean() > 0.3
        np.testing.assert_allclose(rast[b][same], expected[same], atol=2e-5)
        corners = attr[0].numpy()[tri.numpy()[np.maximum(expected[..., 3].astype(int) - 1, 0)]]
        u, v = expected[..., 0:1], expected[..., 1:2]
        mixed = (u * corners[..., 0, :] + v * corners[..., 1, :] + (1 - u - v) * corners[..., 2, :]) * (
            expected[..., 3:] > 0
        )
        np.testing.assert_allclose(values[b][same], mixed[same], atol=2e-5)


def test_antialias_matches_the_reference(backend):
    rasterizer, device = backend
    pos, tri = _scene()
    rast = rasterizer.rasterize(pos.to(device), tri.to(device), (40, 48))
    color = torch.tensor(np.random.default_rng(3).random((2, 40, 48, 2)), dtype=torch.float32)
    out = rasterizer.antialias(color.to(device), rast, pos.to(device), tri.to(device)).cpu().numpy()
    for b in range(2):
        expected = _reference_antialias(
            color[b].numpy(), rast[b].cpu().numpy(), pos[b].numpy().astype(float), tri.numpy()
        )
        changed = np.abs(expected - color[b].numpy()).max(-1) > 0
        assert changed.sum() > 60
        # A handful of pixels differ where a snapped pixel lies a hair outside its own triangle.
        wrong = np.abs(out[b] - expected).max(-1) > 1e-4
        assert wrong.sum() <= 0.04 * changed.sum()
        assert np.abs(out[b] - expected).mean() < 1e-3


def test_conventions(backend):
    """Row 0 at the bottom, u v of the three corners, smaller z/w nearer, index + 1, zeros elsewhere."""
    rasterizer, device = backend
    corners = [[0.5, 0.5], [6.5, 0.5], [0.5, 4.5]]
    pos = torch.cat([_flat(corners, (6, 8), 0.5), _flat(corners, (6, 8), -0.25)], 1).float().to(device)
    tri = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.int32, device=device)
    rast = rasterizer.rasterize(pos, tri, (6, 8)).cpu()
    assert rast.shape == (1, 6, 8, 4)
    torch.testing.assert_close(rast[0, 0, 0], torch.tensor([1.0, 0.0, -0.25, 2.0]))
    torch.testing.assert_close(rast[0, 0, 3, :2], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(rast[0, 2, 0, :2], torch.tensor([0.5, 0.0]))
    assert (rast[0, 5] == 0).all() and (rast[0, :, 7] == 0).all()


def test_a_shared_edge_is_drawn_once():
    """Triangles with corners on pixel centres, one per image (range mode), cover each pixel just once."""
    rng = np.random.default_rng(4)
    n = 6
    y, x = np.mgrid[: n + 1, : n + 1] * 3 + 0.5
    inner = (slice(1, -1), slice(1, -1))
    x[inner] += rng.integers(-16, 17, x[inner].shape) / 16
    y[inner] += rng.integers(-16, 17, y[inner].shape) / 16
    corner = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    quads = np.stack([a, b, c, d], -1).reshape(-1, 4)
    tri = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 3, 2]]])  # both windings
    pos = _flat(np.stack([x.ravel(), y.ravel()], 1), (20, 20))[0].float()
    ranges = torch.tensor([[f, 1] for f in range(len(tri))], dtype=torch.int32)
    tri = torch.tensor(tri, dtype=torch.int32)
    rast, _ = raster_cpu.rasterize(raster_cpu.RasterizeCpuContext(), pos, tri, (20, 20), ranges=ranges)
    drawn = (rast[..., 3] > 0).sum(0)
    # Left and bottom edges belong to a triangle, right and top ones do not: pixel centres 0.5 to 17.5.
    expected = torch.zeros(20, 20, dtype=torch.long)
    expected[:18, :18] = 1
    assert torch.equal(drawn, expected)
    assert torch.equal(rast[3, ..., 3].unique(), torch.tensor([0.0, 4.0]))


def test_near_and_far_planes_clip(backend):
    """A floor from behind the camera to beyond the far plane, and triangles that are all behind."""
    rasterizer, device = backend
    cam = torch.tensor(
        [[[-3.0, 1, -2], [3, 1, -2], [3, 1, 30], [-3, 1, 30], [0, 1, -1], [1, 0, -2], [0, 0, -3]]]
    )
    tri = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6]], dtype=torch.int32)
    ones = torch.ones(1, 2)
    window = torch.tensor([[0.0, 0, 64, 48]])
    pos = clip_from_camera(cam, 40 * ones, torch.tensor([[32.0, 20.0]]), window, near=0.5, far=20.0)
    rast = rasterizer.rasterize(pos.to(device), tri.to(device), (48, 64))[0].cpu().numpy()
    expected = _reference_rast(pos[0].numpy(), tri.numpy(), (48, 64))
    same = rast[..., 3] == expected[..., 3]
    assert same.mean() > 0.99 and (expected[..., 3] > 0).mean() > 0.3
    np.testing.assert_allclose(rast[same], expected[same], atol=1e-4)
    assert 3 not in rast[..., 3]
    assert (rast[24:, :, 3] == 0).any() and np.abs(rast[..., 2]).max() <= 1


def test_clipped_corners_keep_finite_gradients(backend):
    rasterizer, device = backend
    cam = torch.tensor([[[-1.0, 0.5, 1], [1, 0.5, 1], [0, -0.6, -0.5], [0, 0, 1e-6], [1e7, -2e7, 3]]])
    ones = torch.ones(1, 2)
    pos = clip_from_camera(cam, 9 * ones, 8 * ones, torch.tensor([[0.0, 0, 16, 16]]))
    pos = pos.to(device).requires_grad_()
    tri = torch.tensor([[0, 1, 2], [0, 1, 3], [0, 1, 4]], dtype=torch.int32, device=device)
    out = _render(rasterizer, pos, tri, (16, 16), torch.rand(1, 5, 2, device=device))
    (out**2).sum().backward()
    assert (out != 0).any(-1).sum() > 60
    assert torch.isfinite(pos.grad).all() and pos.grad.abs().sum() > 0


# ---- edge cases ------------------------------------------------------------------------------------------


def test_nothing_to_see_gives_zeros_and_zero_gradients(backend):
    """Zero area, off screen, behind the camera, without triangles."""
    rasterizer, device = backend
    flat = [[1, 1], [5, 5], [3, 3]], [[2, 2]] * 3, [[20, 1], [30, 1], [25, 9]]
    pos = torch.cat([_flat(p, (8, 8), dtype=torch.float32) for p in flat], 1)
    behind = torch.tensor([[[0.0, 0, 0, -1], [1, 0, 0, -1], [0, 1, 0, -1]]])
    pos = torch.cat([pos, behind], 1).to(device).requires_grad_()
    tri = torch.arange(12, dtype=torch.int32, device=device).reshape(4, 3)
    out = _render(rasterizer, pos, tri, (8, 8))
    out.sum().backward()
    assert (out == 0).all() and (pos.grad == 0).all()
    if device.type == "cpu":
        assert (_render(rasterizer, pos, tri[:0], (8, 8)) == 0).all()


def test_triangle_indices_of_another_mesh_count_as_empty():
    """A rast made with more triangles than are given must not read beyond them."""
    pos, tri = _scene()
    rasterizer = make_rasterizer("cpu")
    rast = rasterizer.rasterize(pos, tri, (40, 48))
    few = tri[:9]
    values = rasterizer.interpolate(torch.ones(1, pos.shape[1], 1), rast, few)
    assert torch.equal(values > 0, (rast[..., 3:] > 0) & (rast[..., 3:] <= 9))
    strange = rast.clone()
    strange[:, ::3, ::2, 3] = math.nan
    assert torch.isfinite(rasterizer.antialias(values, strange, pos, few)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_positions_that_are_not_finite_are_refused(bad):
    pos, tri = _scene()
    pos[1, 7, 2] = bad
    with pytest.raises(ValueError, match="expected finite positions.* vertex 7 of image 1"):
        make_rasterizer("cpu").rasterize(pos, tri, (8, 8))
    cam, tri, attr, camera = _camera_scene()
    cam[1, 7, 2] = bad
    with pytest.raises(ValueError, match="expected finite positions.* vertex 7 of image 1"):
        make_rasterizer("cpu").render(cam, tri, attr, *camera, (8, 8))


def test_empty_batch(backend):
    rasterizer, device = backend
    pos, tri = _scene()
    pos = pos[:0].to(device).requires_grad_()
    attr = torch.rand(1, pos.shape[1], 3, device=device, requires_grad=True)
    out = _render(rasterizer, pos, tri.to(device), (5, 7), attr)
    out.sum().backward()
    assert out.shape == (0, 5, 7, 3)


def test_one_pixel_and_4096(backend):
    rasterizer, device = backend
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    pos = torch.tensor([[[-3.0, -3, 0, 1], [3, -3, 0, 1], [0, 6, 0, 1]]], device=device)
    assert _render(rasterizer, pos, tri, (1, 1)).item() == 1
    if device.type == "cuda":  # whose rasteriser wants multiples of 8 px, and takes 2048 px at a time
        return
    for size in [(4096, 40), (40, 4096), (4096, 4096)]:
        corners = [[0.0, 0.0], [size[1], 0.0], [0.0, size[0]]]
        rast = rasterizer.rasterize(_flat(corners, size, dtype=torch.float32), tri, size)
        covered = (rast[..., 3] > 0).sum().item()
        assert covered == pytest.approx(size[0] * size[1] / 2, abs=max(size) / 2 + 1)


def test_wrong_arguments_say_what_was_expected():
    ctx = raster_cpu.RasterizeCpuContext()
    pos, tri = _scene()
    rast, _ = raster_cpu.rasterize(ctx, pos, tri, (8, 8))
    attr = torch.rand(1, pos.shape[1], 3)
    cases = [
        (lambda: raster_cpu.rasterize(ctx, pos, tri.long(), (8, 8)), "expected tri as int32"),
        (lambda: raster_cpu.rasterize(ctx, pos, tri + 100, (8, 8)), "expected tri to index"),
        (lambda: raster_cpu.rasterize(ctx, pos, tri - 1, (8, 8)), "indices of 0 or more"),
        (lambda: raster_cpu.rasterize(ctx, pos.half(), tri, (8, 8)), "float32 or float64"),
        (lambda: raster_cpu.rasterize(ctx, pos[..., :3], tri, (8, 8)), r"\[B, V, 4\]"),
        (lambda: raster_cpu.rasterize(ctx, pos[0], tri, (8, 8)), "needs ranges"),
        (lambda: raster_cpu.rasterize(ctx, pos, tri, (0, 8)), "height 0"),
        (lambda: raster_cpu.rasterize(None, pos, tri, (8, 8)), "RasterizeCpuContext"),
        (lambda: raster_cpu.interpolate(attr.double(), rast, tri), "expected attr as float32"),
        (lambda: raster_cpu.interpolate(attr.expand(3, -1, -1), rast, tri), "B = 2"),
        (lambda: raster_cpu.interpolate(attr, rast, tri, diff_attrs="all"), "rast_db of .* got None"),
        (lambda: raster_cpu.interpolate(attr, rast, tri, rast[..., :0], [0]), "output_db=True"),
        (lambda: raster_cpu.interpolate(attr, rast, tri, rast, [3]), "within 3 channels, got 3"),
        (lambda: raster_cpu.interpolate(attr, rast, tri, rast, "most"), "got 'most'"),
        (lambda: raster_cpu.RasterizeCudaContext(device="cuda:1"), "expected device None or 'cpu'"),
        (lambda: raster_cpu.RasterizeGLContext(mode="auto"), "'automatic' or 'manual', got 'auto'"),
        (lambda: raster_cpu.antialias(rast[:, :4], rast, pos, tri), r"as rast"),
        (lambda: make_rasterizer("gpu"), "expected backend 'cuda', 'cpu' or 'auto', got 'gpu'"),
        (lambda: make_rasterizer("cpu", device="cuda"), "'cpu' cannot render on device 'cuda'"),
        (lambda: make_rasterizer("auto", device="meta"), "'auto' cannot render on device 'meta'"),
        (lambda: make_rasterizer("cpu", supersample=0), "supersample >= 1"),
        (lambda: make_rasterizer("cpu", hidden_triangles=-1), "hidden_triangles >= 0"),
        (lambda: clip_from_camera(pos[..., :3], attr, attr, attr, near=0.0), "0 < near < far"),
    ]
    for call, text in cases:
        with pytest.raises(ValueError, match=text):
            call()
    missing = [
        (lambda: raster_cpu.texture(rast, rast[..., :2]), "grid_sample"),
        (lambda: raster_cpu.texture_construct_mip(rast), "texture"),
        (lambda: raster_cpu.DepthPeeler(ctx, pos, tri, (8, 8)), "by `ranges`"),
    ]
    for call, text in missing:
        with pytest.raises(NotImplementedError, match=f"not implemented.*{text}"):
            call()
    if NO_GPU:
        with pytest.raises(RuntimeError, match="expected a CUDA GPU for backend 'cuda', got none; use 'cpu'"):
            make_rasterizer("cuda")


def test_without_nvdiffrast_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(__import__("sys").modules, "nvdiffrast.torch", None)
    with pytest.raises(RuntimeError, match="github.com/NVlabs/nvdiffrast.*extra `cuda`.*non-commercial"):
        make_rasterizer("cuda")


# ---- nvdiffrast's interface ------------------------------------------------------------------------------


def test_signatures_are_nvdiffrasts():
    """Names, order and defaults of nvdiffrast.torch 0.3.3, so that code written for it runs."""
    for function, names in {
        raster_cpu.rasterize: "glctx, pos, tri, resolution, ranges=None, grad_db=True",
        raster_cpu.interpolate: "attr, rast, tri, rast_db=None, diff_attrs=None",
        raster_cpu.antialias_construct_topology_hash: "tri",
        raster_cpu.RasterizeCudaContext: "device=None",
        raster_cpu.RasterizeGLContext: "output_db=True, mode=automatic, device=None",
    }.items():
        shown = [
            p.name if p.default is p.empty else f"{p.name}={p.default}"
            for p in inspect.signature(function).parameters.values()
        ]
        assert ", ".join(shown) == names
    antialias = list(inspect.signature(raster_cpu.antialias).parameters.values())
    assert [p.name for p in antialias[:6]] == "color rast pos tri topology_hash pos_gradient_boost".split()


@pytest.mark.parametrize("context", ["RasterizeCudaContext", "RasterizeGLContext"])
def test_code_written_for_nvdiffrast_runs(context):
    pos, tri = _scene()
    dr = raster_cpu
    dr.set_log_level(dr.get_log_level())
    ctx = getattr(dr, context)(device=pos.device)
    rast, rast_db = dr.rasterize(ctx, pos, tri, resolution=[40, 48])
    assert rast.shape == rast_db.shape == (2, 40, 48, 4)
    attr = torch.rand(1, pos.shape[1], 3)
    for diff_attrs, channels in ((None, 0), ([], 0), ("all", 6), ([2], 2), ([0, -1], 4)):
        values, slopes = dr.interpolate(attr, rast, tri, rast_db=rast_db, diff_attrs=diff_attrs)
        assert values.shape == (2, 40, 48, 3) and slopes.shape == (2, 40, 48, channels)
    table = dr.antialias_construct_topology_hash(tri)
    out = dr.antialias(values, rast, pos, tri, topology_hash=table, pos_gradient_boost=2.0)
    assert torch.equal(out, dr.antialias(values, rast, pos, tri))


def test_derivatives_over_the_image_are_those_of_the_picture():
    """Against differences of neighbouring pixels of one triangle, which perspective bends a little; where nothing is
    seen they are 0, without a context's output_db there are none, and without grad_db they carry no gradient."""
    pos, tri = _scene(torch.float64)
    size = (400, 480)
    ctx = raster_cpu.RasterizeCudaContext()
    rast, rast_db = raster_cpu.rasterize(ctx, pos, tri, size)
    attr = torch.rand(pos.shape[1], 2, dtype=torch.float64, generator=torch.manual_seed(0))
    values, slopes = raster_cpu.interpolate(attr, rast, tri, rast_db, [1])
    label = rast[..., 3]
    for axis, channel in ((2, 0), (1, 1)):
        n = rast.shape[axis]
        low, middle, high = (torch.arange(i, n - 2 + i) for i in range(3))

        def pick(x, i, axis=axis):
            return x.index_select(axis, i)

        same = (pick(label, low) == pick(label, middle)) & (pick(label, middle) == pick(label, high))
        same &= pick(label, middle) > 0
        for whole, found in ((rast[..., 0], rast_db[..., channel]), (rast[..., 1], rast_db[..., 2 + channel]),
                             (values[..., 1], slopes[..., channel])):  # fmt: skip
            expected = ((pick(whole, high) - pick(whole, low)) / 2)[same]
            apart = (pick(found, middle)[same] - expected).abs()
            # but for some pixels that snapping gives to a triangle they lie a hair outside of
            assert (apart > 2e-5 + 1e-3 * expected.abs()).double().mean() < 5e-4 and apart.max() < 2e-3
    assert (rast_db[label == 0] == 0).all() and (slopes[label == 0] == 0).all()
    none = raster_cpu.RasterizeGLContext(output_db=False)
    assert raster_cpu.rasterize(none, pos, tri, size)[1].shape == (2, *size, 0)
    moving = pos.clone().requires_grad_()
    assert raster_cpu.rasterize(ctx, moving, tri, (9, 12))[1].requires_grad
    assert not raster_cpu.rasterize(ctx, moving, tri, (9, 12), grad_db=False)[1].requires_grad

    def through(pos, attr):
        rast, rast_db = raster_cpu.rasterize(ctx, pos, tri, (9, 12))
        return raster_cpu.interpolate(attr, rast, tri, rast_db, "all")[1]

    moving = (pos + 1e-3).requires_grad_()
    torch.autograd.gradcheck(through, (moving, attr.requires_grad_()), eps=1e-7, atol=1e-4, fast_mode=True)


# ---- gradients -------------------------------------------------------------------------------------------


def test_gradcheck_in_float64():
    """All three functions, to all their inputs, where no pixel changes hands.

    nvdiffrast damps the gradients of antialias by 0.001 px and those of u, v by 1e-6 of clip space's area, so the image
    is large enough for both to be below gradcheck's 1e-3 here.
    """
    pos, tri = _scene(torch.float64)
    pos = (pos + 1e-3).requires_grad_()
    attr = torch.rand(
        1, pos.shape[1], 2, dtype=torch.float64, generator=torch.manual_seed(0), requires_grad=True
    )
    ctx, size = raster_cpu.RasterizeCpuContext(output_db=False), (90, 120)
    rast, _ = raster_cpu.rasterize(ctx, pos, tri, size)
    inside = ((rast[..., :2] > 1e-4).all(-1) & (rast[..., :2].sum(-1) < 1 - 1e-4))[..., None]  # u, v not held
    assert inside.float().mean() > 0.2

    def shade(pos, attr):
        rast, _ = raster_cpu.rasterize(ctx, pos, tri, size)
        return raster_cpu.interpolate(attr, rast, tri)[0] * inside

    torch.autograd.gradcheck(shade, (pos, attr), eps=1e-7, atol=1e-5, nondet_tol=0.0, fast_mode=True)

    color = torch.rand(2, *size, 2, dtype=torch.float64, requires_grad=True)
    for hidden in (0, 4):

        def blend(color, pos, hidden=hidden):
            return raster_cpu.antialias(color, rast.detach(), pos, tri, hidden_triangles=hidden)

        torch.autograd.gradcheck(blend, (color, pos), eps=1e-7, atol=1e-5, nondet_tol=0.0, fast_mode=True)
    boosted = raster_cpu.antialias(color, rast, pos, tri, pos_gradient_boost=3.0)
    plain = raster_cpu.antialias(color, rast, pos, tri)
    boosted, plain = (torch.autograd.grad(out.sum() + (out**2).sum(), pos)[0] for out in (boosted, plain))
    assert plain.abs().sum() > 0
    torch.testing.assert_close(boosted, 3 * plain)


def test_gradients_are_nvdiffrasts(backend):
    """Against plain Python of its rule, held blends and damped slivers among them; float32 on CUDA."""
    rasterizer, device = backend
    dtype, exact = (torch.float32, 2e-3) if device.type == "cuda" else (torch.float64, 1e-9)
    pos, tri = _scene(dtype)
    pos[:, 3:9] = pos[:, 3:4] + 1e-3 * (pos[:, 3:9] - pos[:, 3:4])  # some small and thin
    generator = torch.manual_seed(3)
    color, weight, to_uv = (torch.randn(2, 40, 48, c, dtype=dtype, generator=generator) for c in (2, 2, 4))
    moving, on = pos.clone().to(device).requires_grad_(), tri.to(device)
    rast = rasterizer.rasterize(moving, on, (40, 48))
    out = rasterizer.antialias(color.to(device), rast.detach(), moving, on)
    (grad,) = torch.autograd.grad(out, moving, weight.to(device))
    (grad_uv,) = torch.autograd.grad(rast, moving, to_uv.to(device))
    held = 0
    for b in range(2):
        image, place = rast[b].detach().cpu().double().numpy(), pos[b].double().numpy()
        expected, here = _reference_antialias_grad(
            color[b].double().numpy(), image, place, tri.numpy(), weight[b].double().numpy()
        )
        held += here
        np.testing.assert_allclose(grad[b].cpu(), expected, atol=exact * np.abs(expected).max())
        expected = _reference_rasterize_grad(place, tri.numpy(), image, to_uv[b].double().numpy())
        np.testing.assert_allclose(grad_uv[b].cpu(), expected, atol=exact * np.abs(expected).max())
    assert held > 3


def test_an_edge_beyond_the_centre_has_no_gradient():
    """The right edge of a square, whose place decides the share of one column of pixels: against finite differences.

    Coverage goes by the nearest 1/16 px. At 7.51 px the edge is taken for 7.5 px, the centre of the column that it does
    not cover, so its blend is at its limit of one half until the edge passes 7.53 px and the column is covered.
    """
    size, tri = (16, 16), torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    ctx = raster_cpu.RasterizeCpuContext(output_db=False)

    def area(right):
        corners = torch.tensor([[2.25, 2.25], [0, 2.25], [0, 13.25], [2.25, 13.25]], dtype=torch.float64)
        corners = corners + right * torch.tensor([[0, 0], [1, 0], [1, 0], [0, 0]], dtype=torch.float64)
        xy = 2 * corners / 16 - 1
        pos = torch.cat([xy, torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(4, 2)], 1)[None]
        rast, _ = raster_cpu.rasterize(ctx, pos, tri, size)
        return raster_cpu.antialias((rast[..., 3:] > 0).double(), rast, pos, tri, hidden_triangles=4).sum()

    for place, slope in ((7.42, 11.0), (7.48, 11.0), (7.505, 0.0), (7.52, 0.0), (7.55, 11.0)):
        right = torch.tensor(place, dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(area(right), right)
        step = 1e-5
        difference = (area(right.detach() + step) - area(right.detach() - step)) / (2 * step)
        assert grad.item() == pytest.approx(
            difference.item(), rel=3e-4, abs=1e-3
        )  # damping: 0.001 px of 11, twice
        assert difference.item() == pytest.approx(slope, abs=1e-6)


def test_area_of_a_polygon_has_its_analytic_derivative(backend):
    """d area / d corner of a pentagon, by the shoelace formula, averaged over positions on the pixel grid.

    Antialias measures each pixel row or column by its centre line and loses part of a pixel at each corner,
    whatever the size of the polygon: here derivatives are up to 81 px (half the opposite diagonal). Its corners are
    on the grid that coverage snaps to: where they are not, a few per cent of the blends are held.
    """
    rasterizer, device = backend
    size = (192, 216)
    polygon = 3 * np.array([[10.0, 12], [50, 6], [64, 33], [38, 57], [14, 44]])
    middle = polygon.mean(0, keepdims=True)
    shifts = np.stack(np.meshgrid(np.arange(4) / 4, np.arange(4) / 4), -1).reshape(-1, 1, 2) + 1 / 16
    pos = torch.cat(
        [_flat(np.concatenate([polygon, middle]) + shift, size, dtype=torch.float32) for shift in shifts]
    )
    pos = pos.to(device).requires_grad_()
    tri = torch.tensor([[n, (n + 1) % 5, 5] for n in range(5)], dtype=torch.int32, device=device)
    area = _render(rasterizer, pos, tri, size).sum()
    area.backward()
    ahead, back = np.roll(polygon, -1, 0), np.roll(polygon, 1, 0)
    exact_area = 0.5 * np.sum(polygon[:, 0] * ahead[:, 1] - polygon[:, 1] * ahead[:, 0])
    assert area.item() / len(shifts) == pytest.approx(exact_area, rel=2e-3)
    exact = 0.5 * np.stack([ahead[:, 1] - back[:, 1], back[:, 0] - ahead[:, 0]], 1)  # per pixel moved
    measured = pos.grad.sum(0)[:5, :2].cpu().numpy() / len(shifts) * 2 / np.array([size[1], size[0]])
    assert np.abs(measured - exact).max() < 0.8


def _covered(pos: torch.Tensor, tri: torch.Tensor, fine) -> float:
    """Covered area in the image's unit, by counting the pixels of a fine rendering."""
    rast, _ = raster_cpu.rasterize(raster_cpu.RasterizeCpuContext(), pos, tri, (fine, fine))
    return (rast[..., 3] > 0).double().mean().item()


def test_area_averaged_gradient_matches_finite_differences():
    """Direction by direction: the mean gradient of rendered area over pixel-grid positions, on a 3D scene in
    perspective with overlaps, against differences of the area counted at 10 times the resolution."""
    vertices, faces = _sphere(6, 9)
    other = vertices * 0.7 + [0.8, 0.5, -0.9]
    cam = torch.tensor(np.concatenate([vertices, other]) + [0, 0, 6.0])[None]
    tri = torch.tensor(np.concatenate([faces, faces + len(vertices)]), dtype=torch.int32)
    size, count = 96, len(vertices)
    one = torch.ones(1, 2, dtype=torch.float64)

    def project(cam, shift=(0.0, 0.0)):
        window = torch.tensor([[shift[0], shift[1], shift[0] + 96, shift[1] + 96]], dtype=torch.float64)
        return clip_from_camera(cam, 170 * one, 48 * one, window)

    cam.requires_grad_()
    rasterizer = make_rasterizer("cpu")
    for shift in np.stack(np.meshgrid(np.arange(6) / 6, np.arange(6) / 6), -1).reshape(-1, 2):
        (_render(rasterizer, project(cam, shift), tri, (size, size)).mean() / 36).backward()
    generator = np.random.default_rng(5)
    stretch = generator.normal(size=(2, 3)) * 0.5
    for direction in (
        torch.cat([cam.detach()[0, :count] - torch.tensor([0, 0, 6.0]), torch.zeros(count, 3)]),  # grow one
        torch.cat([torch.zeros(count, 3), torch.tensor([0.8, 0.6, 0.0]).expand(count, 3)]),  # move the other
        torch.cat([torch.tensor(vertices * s) for s in stretch]),
    ):
        step = 0.02 * direction.double()[None]
        ahead, behind = (_covered(project(cam.detach() + s), tri, size * 10) for s in (step, -step))
        measured = (cam.grad * step).sum().item()
        assert measured == pytest.approx((ahead - behind) / 2, rel=0.05)


def test_hidden_triangles_recover_the_outline_of_a_fine_mesh():
    """A sphere of triangles smaller than a pixel: its area grows by 2 A per unit of scale.

    nvdiffrast's rule sees only the outline triangles that own a pixel centre, here few. A twentieth of the blends are
    held, as coverage goes by corners snapped to 1/16 px, and have no gradient."""
    vertices, faces = _sphere(30, 45)
    pos = torch.tensor(np.concatenate([vertices * 0.7, np.ones((len(vertices), 1))], 1), dtype=torch.float32)
    tri = torch.tensor(faces, dtype=torch.int32)
    found = {}
    for hidden in (0, 16):
        scale = torch.ones(2, requires_grad=True)
        scaled = torch.cat([pos[:, :2] * scale, pos[:, 2:]], 1)[None]
        area = _render(make_rasterizer("cpu", hidden_triangles=hidden), scaled, tri, (80, 80)).sum()
        area.backward()
        found[hidden] = scale.grad.mean().item() / area.item()
    assert found[0] < 0.5
    assert found[16] == pytest.approx(0.96, abs=0.03)


def test_a_flat_shared_edge_and_a_fold_behind_are_not_silhouettes(backend):
    """Two coplanar triangles of different colour keep their hard border; only the outline is blended."""
    rasterizer, device = backend
    corners = [[2.3, 2.2], [13.7, 2.4], [13.6, 13.8], [2.2, 13.5]]
    pos = _flat(corners, (16, 16), dtype=torch.float32).to(device)
    tri = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32, device=device)
    rast = rasterizer.rasterize(pos, tri, (16, 16))
    color = rast[..., 3:].clone()
    changed = (rasterizer.antialias(color, rast, pos, tri) != color)[0, ..., 0].cpu()
    assert changed.any()
    assert not changed[4:12, 4:12].any()


# ---- batches, threads, arguments -------------------------------------------------------------------------


def _all_results(rasterizer, pos, tri, attr):
    pos, attr = pos.clone().requires_grad_(), attr.clone().requires_grad_()
    rast = rasterizer.rasterize(pos, tri, (40, 48))
    out = rasterizer.antialias(rasterizer.interpolate(attr, rast, tri), rast, pos, tri)
    (out**2).sum().backward()
    return rast.detach(), out.detach(), pos.grad, attr.grad


def test_results_do_not_depend_on_the_number_of_threads():
    """Bit for bit, also where images share one attribute tensor and so one gradient."""
    pos, tri = _scene()
    pos = pos.repeat(3, 1, 1) * torch.linspace(0.7, 1.3, 6)[:, None, None].clamp(max=1.0)
    attr = torch.rand(1, pos.shape[1], 5)
    rasterizer = make_rasterizer("cpu")
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(_all_results(rasterizer, pos, tri, attr))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    alone = [_all_results(rasterizer, pos[b : b + 1], tri, attr) for b in range(6)]
    for n in range(3):  # rast, image and the gradient to pos of each image alone
        assert torch.equal(results[0][n], torch.cat([r[n] for r in alone]))
    torch.testing.assert_close(results[0][3], sum(r[3] for r in alone))


def test_arguments_are_not_written_to_and_need_not_be_contiguous(backend):
    rasterizer, device = backend
    pos, tri = (t.to(device) for t in _scene())
    attr = torch.rand(1, pos.shape[1], 4, device=device)
    kept = pos.clone(), tri.clone(), attr.clone()
    expected = _render(rasterizer, pos, tri, (40, 48), attr)
    strided = torch.stack([pos, pos], -1)[..., 0], torch.stack([attr, attr], -1)[..., 0]
    assert not strided[0].is_contiguous()
    assert torch.equal(_render(rasterizer, strided[0], tri, (40, 48), strided[1]), expected)
    assert all(torch.equal(a, b) for a, b in zip((pos, tri, attr), kept, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_render_is_the_three_functions_in_one(dtype):
    """Picture upright, gradients to points, attributes and camera; the three differ in rounding alone."""
    cam, tri, attr, camera = _camera_scene(dtype)
    rasterizer, size = make_rasterizer("cpu"), (48, 56)
    weight = torch.randn(2, *size, 3, dtype=dtype, generator=torch.manual_seed(1))
    results = []
    for fused in (True, False):
        cam, attr = cam.detach().clone().requires_grad_(), attr.detach().clone().requires_grad_()
        focal, centre, window = (t.clone().requires_grad_() for t in camera)
        if fused:
            image = rasterizer.render(cam, tri, attr, focal, centre, window, size)
            same = render_prob(rasterizer, cam, tri, attr.double(), focal, centre, window, size)
            assert torch.equal(image, same)
        else:
            upside_down = torch.stack([window[:, 0], window[:, 3], window[:, 2], window[:, 1]], 1)
            image = _render(rasterizer, clip_from_camera(cam, focal, centre, upside_down), tri, size, attr)
        grads = torch.autograd.grad(image, (cam, attr, focal, centre, window), weight)
        results.append((image.detach(), *grads))
    assert (results[0][0] > 0).float().mean() > 0.3
    exact = (
        1e-10 if dtype == torch.float64 else 3e-3
    )  # the sliver triangles of an outline multiply float32's rounding
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= exact * other.abs().max()
    right_way_up = torch.flip(_render(rasterizer, clip_from_camera(cam, *camera), tri, size, attr), [1])
    assert (results[0][0] - right_way_up).abs().mean() < 1e-3


def test_render_gives_a_batch_the_bits_of_single_images():
    """Images, and gradients to points and camera; on one thread and on two."""
    cam, tri, attr, camera = _camera_scene(images=5)
    rasterizer, size = make_rasterizer("cpu"), (40, 48)
    weight = torch.randn(5, *size, 3, generator=torch.manual_seed(1))

    def run(rows):
        moving, focal = cam[rows].clone().requires_grad_(), camera[0][rows].clone().requires_grad_()
        image = rasterizer.render(moving, tri, attr, focal, *(t[rows] for t in camera[1:]), size)
        return image.detach(), *torch.autograd.grad(image, (moving, focal), weight[rows])

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = run(slice(0, 5))
        torch.set_num_threads(1)
        alone = [run(slice(b, b + 1)) for b in range(5)]
    finally:
        torch.set_num_threads(before)
    for n in range(3):
        assert torch.equal(together[n], torch.cat([one[n] for one in alone]))


def test_render_of_nobody():
    cam, tri, attr, camera = _camera_scene()
    cam = cam[:0].requires_grad_()
    image = make_rasterizer("cpu").render(cam, tri, attr, *(t[:0] for t in camera), (5, 7))
    image.sum().backward()
    assert image.shape == (0, 5, 7, 3) and cam.grad.shape == cam.shape


def test_supersampling_averages_a_larger_picture():
    cam, tri, attr, camera = _camera_scene()
    large = make_rasterizer("cpu").render(cam, tri, attr, *camera, (40, 48))
    small = make_rasterizer("cpu", supersample=4).render(cam, tri, attr, *camera, (10, 12))
    expected = torch.nn.functional.avg_pool2d(large.permute(0, 3, 1, 2), 4).permute(0, 2, 3, 1)
    torch.testing.assert_close(small, expected)


# ---- the seam on CUDA, and what stands in for nvdiffrast where there is no GPU ------------------------------


@pytest.fixture
def stand_in(monkeypatch):
    """The seam's CUDA side on this machine: the twin in nvdiffrast's place, with nvdiffrast's own interface."""
    monkeypatch.setattr(seam, "_nvdiffrast", lambda: raster_cpu)
    return lambda **settings: make_rasterizer("cuda", **settings)


@pytest.mark.parametrize("hidden", [0, 4, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outline_is_the_twins_antialias(dtype, hidden):
    """Values and gradients of the version for any device, written apart, on a mesh of triangles about a pixel large."""
    for pos, tri, size in ((*_scene(dtype), (40, 48)), (*_fine_scene(dtype), (64, 64))):
        generator = torch.manual_seed(0)
        color = torch.rand(2, *size, 3, dtype=dtype, generator=generator, requires_grad=True)
        weight = torch.randn(2, *size, 3, dtype=dtype, generator=generator)
        pos.requires_grad_()
        rast = make_rasterizer("cpu").rasterize(pos, tri, size).detach()
        expected = raster_cpu.antialias(color, rast, pos, tri, hidden_triangles=hidden)
        table = outline.DeviceTopology(mesh_of(tri).topology, pos.device)
        found = outline.antialias(color, rast, pos, tri, table, hidden)
        assert (expected != color).any(-1).sum() > 40
        exact = 1e-8 if dtype == torch.float64 else 1e-5
        assert (found - expected).abs().max() < exact
        grads = [torch.autograd.grad(out, (color, pos), weight) for out in (expected, found)]
        for one, other in zip(*grads, strict=True):
            assert (one - other).abs().max() <= exact * one.abs().max()


def _fine_scene(dtype):
    cam, tri, _, camera = _camera_scene(dtype)
    return clip_from_camera(cam, *camera), tri


@pytest.mark.parametrize("hidden", [0, 16])
def test_cuda_sees_what_the_cpu_sees(stand_in, hidden):
    cam, tri, attr, camera = _camera_scene()
    results = []
    for rasterizer in (make_rasterizer("cpu", hidden_triangles=hidden), stand_in(hidden_triangles=hidden)):
        moving = cam.clone().requires_grad_()
        image = rasterizer.render(moving, tri, attr, *camera, (40, 48))
        results.append((image.detach(), torch.autograd.grad((image**2).sum(), moving)[0]))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=0)
    assert (results[1][1] - results[0][1]).abs().max() < 1e-3 * results[0][1].abs().max()
    half = stand_in(hidden_triangles=hidden).render(cam.double(), tri, attr.double(), *camera, (40, 48))
    assert half.dtype == torch.float64


def test_on_cuda_what_is_not_finite_stays_with_its_image(stand_in):
    """nan in the picture of that image alone; the others' pictures and gradients are as ever."""
    cam, tri, attr, camera = _camera_scene()
    broken = cam.clone()
    broken[1, 7, 2] = math.nan
    grads = []
    for points in (cam, broken):
        moving = points.clone().requires_grad_()
        image = stand_in().render(moving, tri, attr, *camera, (40, 48))
        grads.append((image.detach(), torch.autograd.grad(image[0].sum(), moving)[0]))
    assert torch.equal(grads[0][0][0], grads[1][0][0]) and grads[1][0][1].isnan().all()
    assert torch.equal(grads[0][1][0], grads[1][1][0])
    rast = stand_in().rasterize(clip_from_camera(broken, *camera), tri, (8, 8))
    assert (rast[0] > 0).any() and (rast[1] == 0).all()


def test_antialias_on_cuda_waits_for_the_device_once(stand_in):
    """Whatever makes the host wait asks a tensor for a number or for the places of its non-zero elements."""
    from torch.utils._python_dispatch import TorchDispatchMode

    waits = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name = str(function)
            by_mask = (
                "index" in name
                and any(
                    i is not None and i.dtype == torch.bool
                    for i in (args[1] if isinstance(args[1], list) else [])
                )
                if len(args) > 1
                else False
            )
            if by_mask or any(
                word in name for word in ("_local_scalar_dense", "nonzero", "is_nonzero", "_to_copy.cpu")
            ):
                waits.append(name)
            return function(*args, **(kwargs or {}))

    cam, tri, attr, camera = _camera_scene()
    rasterizer = stand_in()
    clip = clip_from_camera(cam, *camera).requires_grad_()
    rast = rasterizer.rasterize(clip, tri, (40, 48)).detach()
    color = (rast[..., 3:] > 0).float()
    rasterizer.antialias(color, rast, clip, tri)  # the mesh's tables, once
    with Count():
        rasterizer.antialias(color, rast, clip, tri).sum().backward()
    assert waits == ["aten.nonzero.default"]


def test_auto_goes_where_the_tensors_are(stand_in):
    """And contexts go where the positions are: nvdiffrast's serve one GPU each."""
    cam, tri, attr, camera = _camera_scene()
    auto = make_rasterizer()
    assert auto.backend == "auto" and make_rasterizer(device="cpu").backend == "cpu"
    assert (
        make_rasterizer(device="cuda:1").backend == make_rasterizer("cuda", device="cuda:1").backend == "cuda"
    )
    expected = make_rasterizer("cpu").render(cam, tri, attr, *camera, (20, 24))
    assert torch.equal(auto.render(cam, tri, attr, *camera, (20, 24)), expected)
    assert auto._on_cpu(cam) and not auto._on_cpu(_OnDevice("cuda", 1))
    made = []
    raster = Rasterizer("cuda")
    for index in (0, 1, 0):
        made.append(raster._context(_Place("cpu", index)))
    assert made[0] is made[2] and made[0] is not made[1]


class _Place(str):
    """A device's name that the twin takes for the CPU; one for each index."""

    def __new__(cls, name, index):
        place = super().__new__(cls, name)
        place.index = index
        return place

    def __hash__(self):
        return hash((str(self), self.index))

    def __eq__(self, other):
        return hash(self) == hash(other)


class _OnDevice:
    def __init__(self, kind, index):
        self.device = torch.device(kind, index)


def test_range_mode_draws_as_instanced_mode():
    pos, tri = _scene()
    ctx = raster_cpu.RasterizeCpuContext()
    half = len(tri) // 2
    stacked = pos.reshape(-1, 4).clone().requires_grad_()
    both = torch.cat([tri, tri + pos.shape[1]])
    ranges = torch.tensor([[0, half], [len(tri), half]], dtype=torch.int32)
    rast, _ = raster_cpu.rasterize(ctx, stacked, both, (40, 48), ranges=ranges)
    expected, _ = raster_cpu.rasterize(ctx, pos, tri[:half], (40, 48))
    assert torch.equal(rast[..., :3], expected[..., :3])
    assert torch.equal(rast[0, ..., 3], expected[0, ..., 3])
    attr = torch.rand(len(stacked), 2)
    out = raster_cpu.antialias(raster_cpu.interpolate(attr, rast, both)[0], rast, stacked, both)
    out.sum().backward()
    assert stacked.grad.shape == stacked.shape and stacked.grad.abs().sum() > 0


def test_topology_pairs_triangles_across_their_edges():
    tri = np.array([[0, 1, 2], [2, 1, 3], [1, 3, 4], [3, 1, 5], [6, 6, 7]])
    table = build_topology(tri)
    assert table.neighbours[0].tolist() == [1, -1, -1]  # edge 1-2
    assert table.neighbours[1].tolist() == [-1, -1, 0]  # edge 1-3 has three triangles
    assert table.flips[0, 0] == 1
    turned = build_topology(np.array([[0, 1, 2], [1, 2, 3]]))
    assert turned.neighbours[0, 0] == 1 and turned.flips[0, 0] == -1 and turned.flips[1, 2] == -1
    assert table.neighbours[4].tolist() == [-1, -1, -1]
    closed = build_topology(_sphere(5, 6)[1])
    assert (closed.neighbours >= 0).all() and (closed.flips == 1).all()


def test_inconsistent_winding_has_the_same_silhouettes():
    pos, tri = _scene()
    turned = tri.clone()
    turned[::2] = turned[::2][:, [0, 2, 1]]
    rasterizer = make_rasterizer("cpu")
    torch.testing.assert_close(
        _render(rasterizer, pos, turned, (40, 48)), _render(rasterizer, pos, tri, (40, 48))
    )


def test_camera_points_land_on_their_pixels():
    points = torch.tensor([[[0.2, -0.4, 2.0], [-0.5, 0.3, 4.0]]])
    focal, centre = torch.tensor([[500.0, 520.0]]), torch.tensor([[310.0, 245.0]])
    window = torch.tensor([[200.0, 100.0, 440.0, 260.0]])
    clip = clip_from_camera(points, focal, centre, window, near=1.0, far=5.0)[0]
    ndc = clip[:, :3] / clip[:, 3:]
    pixels = focal * points[0, :, :2] / points[0, :, 2:] + centre
    size = torch.tensor([240.0, 160.0])
    expected = 2 * (pixels - window[0, :2]) / size - 1
    torch.testing.assert_close(ndc[:, :2], expected * torch.tensor([1.0, -1.0]))  # image y points down
    torch.testing.assert_close(clip[:, 3], points[0, :, 2])
    ends = clip_from_camera(
        torch.tensor([[[0.0, 0, 1], [0, 0, 5]]]), focal, centre, window, near=1.0, far=5.0
    )
    torch.testing.assert_close(ends[0, :, 2] / ends[0, :, 3], torch.tensor([-1.0, 1.0]))


# ---- parity with nvdiffrast ------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.skipif(NO_GPU, reason="needs a CUDA GPU")
def test_parity_with_nvdiffrast():
    """The twin against nvdiffrast itself, on a mesh of 14k triangles."""
    pytest.importorskip("nvdiffrast.torch", reason="needs nvdiffrast")
    rng = np.random.default_rng(6)
    vertices, faces = _sphere(70, 100)
    bumps = 1 + 0.2 * np.sin(5 * vertices[:, :1]) * np.cos(4 * vertices[:, 1:2])
    cam = torch.tensor(vertices * bumps * [0.5, 0.9, 0.4] + [0, 0, 3.0], dtype=torch.float32)[None]
    two = torch.ones(1, 2)
    window = torch.tensor([[0.0, 0, 224, 224]])
    attr = torch.tensor(rng.random((1, len(vertices), 5)), dtype=torch.float32)
    weight = torch.tensor(rng.normal(size=(1, 224, 224, 5)), dtype=torch.float32)
    results = []
    for name in ("cpu", "cuda"):
        rasterizer = make_rasterizer(name, hidden_triangles=0)
        pos = clip_from_camera(cam, 330 * two, 112 * two, window).to(name).requires_grad_()
        tri = torch.tensor(faces, dtype=torch.int32, device=name)
        rast = rasterizer.rasterize(pos, tri, (224, 224))
        out = rasterizer.antialias(rasterizer.interpolate(attr.to(name), rast, tri), rast, pos, tri)
        (out * weight.to(name)).sum().backward()
        results.append((rast.detach().cpu(), out.detach().cpu(), pos.grad.cpu()))
    (rast, out, grad), (cuda_rast, cuda_out, cuda_grad) = results
    same = rast[..., 3] == cuda_rast[..., 3]
    apart = (rast - cuda_rast)[same][:, :2].abs()
    cosine = torch.nn.functional.cosine_similarity(grad.flatten(), cuda_grad.flatten(), dim=0)
    print(f"ids equal {same.double().mean():.5f}, uv apart {apart.max():.2e}, cosine {cosine:.6f}")
    assert same.double().mean() >= 0.999
    assert apart.max() <= 1e-4
    assert (out - cuda_out).abs().mean() <= 1e-3
    assert cosine >= 0.999


@pytest.mark.slow
def test_that_it_compiles_is_said_once(tmp_path):
    def run() -> str:
        words = "from fitter.raster.rasterizer import compile_twin; print(compile_twin())"
        done = subprocess.run(
            [sys.executable, "-c", words],
            capture_output=True,
            text=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            check=True,
        )
        return done.stdout.strip() + done.stderr

    assert run().startswith("Truecompiling the rasteriser, once after an install")
    assert run() == "False"
