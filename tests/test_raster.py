"""The rasteriser against slow references, analytic derivatives and, where there is a GPU, nvdiffrast."""

import math

import numpy as np
import pytest
import torch

from fitter.raster import cpu as raster_cpu
from fitter.raster.rasterizer import clip_from_camera, make_rasterizer
from fitter.raster.topology import build_topology

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


def _reference_antialias(color, rast, pos, tri) -> np.ndarray:
    """One image's antialias by the published rule in plain Python, in the projected plane (all w > 0)."""
    height, width = rast.shape[:2]
    points = (pos[:, :2] / pos[:, 3:] * 0.5 + 0.5) * [width, height]
    others: dict = {}
    for face in tri:
        for k in range(3):
            others.setdefault(frozenset((face[k - 1], face[k - 2])), []).append(face[k])

    def beside(p, q, r):
        return np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    out = color.copy()
    for row in range(height):
        for col in range(width):
            for down, along in ((0, 1), (1, 0)):
                r2, c2 = row + down, col + along
                if r2 == height or c2 == width or rast[row, col, 3] == rast[r2, c2, 3]:
                    continue
                near, far = (row, col), (r2, c2)
                if rast[row, col, 3] == 0 or (rast[r2, c2, 3] > 0 and rast[r2, c2, 2] < rast[row, col, 2]):
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
                    if not (-1 / 16 <= t < 17 / 16 and 0 <= s <= 1):  # corners are snapped to 1/16 px
                        continue
                    t = min(max(t, 0.0), 1.0)
                    target, source, share = (near, far, 0.5 - t) if t < 0.5 else (far, near, t - 0.5)
                    out[target] += share * (color[source] - color[target])
    return out


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
def test_positions_that_are_not_finite_are_refused(backend, bad):
    rasterizer, device = backend
    pos, tri = _scene()
    pos[1, 7, 2] = bad
    with pytest.raises(ValueError, match="expected finite positions") as error:
        rasterizer.rasterize(pos.to(device), tri.to(device), (8, 8))
    if device.type == "cpu":
        assert "vertex 7 of image 1" in str(error.value)


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
    rast, empty = raster_cpu.rasterize(ctx, pos, tri, (8, 8))
    assert empty.shape == (2, 8, 8, 0)
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
        (lambda: raster_cpu.antialias(rast[:, :4], rast, pos, tri), r"as rast"),
        (lambda: make_rasterizer("gpu"), "expected backend 'cuda' or 'cpu', got 'gpu'"),
        (lambda: make_rasterizer("cuda", hidden_triangles=3), "hidden_triangles 0"),
        (lambda: clip_from_camera(pos[..., :3], attr, attr, attr, near=0.0), "0 < near < far"),
    ]
    for call, text in cases:
        with pytest.raises(ValueError, match=text):
            call()
    for call in (
        lambda: raster_cpu.rasterize(ctx, pos, tri, (8, 8), grad_db=True),
        lambda: raster_cpu.interpolate(attr, rast, tri, rast_db=rast),
    ):
        with pytest.raises(NotImplementedError, match="not implemented; pass"):
            call()


# ---- gradients -------------------------------------------------------------------------------------------


def test_gradcheck_in_float64():
    """All three functions, to all their inputs, where no pixel changes hands."""
    pos, tri = _scene(torch.float64)
    pos = (pos + 1e-3).requires_grad_()
    attr = torch.rand(
        1, pos.shape[1], 2, dtype=torch.float64, generator=torch.manual_seed(0), requires_grad=True
    )
    ctx, size = raster_cpu.RasterizeCpuContext(), (9, 12)
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


def test_area_of_a_polygon_has_its_analytic_derivative(backend):
    """d area / d corner of a pentagon, by the shoelace formula, averaged over positions on the pixel grid.

    Antialias measures each pixel row or column by its centre line and loses part of a pixel at each corner,
    whatever the size of the polygon: here derivatives are up to 81 px (half the opposite diagonal).
    """
    rasterizer, device = backend
    size = (192, 216)
    polygon = 3 * np.array([[10.0, 12], [50, 6], [64, 33], [38, 57], [14, 44]])
    middle = polygon.mean(0, keepdims=True)
    shifts = np.stack(np.meshgrid(np.arange(4) / 4, np.arange(4) / 4), -1).reshape(-1, 1, 2) + 0.03
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

    nvdiffrast's rule sees only the outline triangles that own a pixel centre, here few."""
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
    assert found[16] == pytest.approx(1.0, abs=0.03)


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
