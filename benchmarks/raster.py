"""How fast is the CPU rasteriser?

    python -m benchmarks.raster               # half a minute
    python -m benchmarks.raster --quick       # ten seconds

Forward and backward to the vertices of 5 channels, the open body filling the frame, on one thread unless
said; peers run in turns with ours. Times are wall milliseconds, the best of many repeats (on a shared machine
the least disturbed one) beside the median. A stage's floor is the time to read and write each of its arrays
once, at the rate at which this machine copies memory in the same run. deodr (dev extra) leaves out back
faces, interpolates without perspective, and has its silhouette flags given for free. "A person" is `render_prob`,
camera and all, as a fit calls it.
"""

import argparse
import os
import time
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.report import Table, write_results
from fitter.body.model import load_body
from fitter.raster import cpu_edges as raster_cpu_edges
from fitter.raster import cpu_fill as raster_cpu_fill
from fitter.raster import cpu_shade as raster_cpu_shade
from fitter.raster.rasterizer import HIDDEN_TRIANGLES, Rasterizer, clip_from_camera, make_rasterizer
from fitter.raster.render import render_prob
from fitter.raster.topology import mesh_of

CHANNELS = 5
SIZE = 224
DEPTH_M = 4.0


@dataclass(frozen=True)
class Scene:
    """pos_clip: [B, V, 4]; tri: [F, 3]; attr: [1, V, 5] in 0..1; size: pixels a side."""

    pos_clip: torch.Tensor
    tri: torch.Tensor
    attr: torch.Tensor
    size: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    repeats = 40 if quick else 200
    body = load_open_body()
    peers, ours_ms, ratio = measure_peers(body, repeats)
    threads, speedup = measure_threads(body, repeats // 4)
    tables = [
        peers,
        measure_stages(body, repeats),
        threads,
        measure_person(body, repeats),
        measure_sizes(body, (112, 224, 448) if quick else (112, 224, 448, 896, 1792), repeats // 8),
        measure_triangles((3, 14, 30) if quick else (3, 7, 14, 30, 60, 100), repeats // 8),
    ]
    figures = {
        "raster_fwd_bwd_ms": (ours_ms, "ms"),
        "raster_two_thread_speedup": (speedup, "x"),
        **({} if ratio is None else {"raster_vs_deodr": (ratio, "x")}),
        **_measure_cuda(body, repeats),
    }
    write_results("raster_quick" if quick else "raster", __doc__, figures, tables)


# ---- scenes


def load_open_body() -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] in metres, camera axes, centred, in the rest pose, and triangles [F, 3]."""
    body = load_body()
    vertices = body.template.numpy().astype(np.float32) * np.float32([1, -1, -1])
    return vertices - (vertices.max(0) + vertices.min(0)) / 2, body.faces.numpy()


def _bumpy_ball(thousands: int) -> tuple[np.ndarray, np.ndarray]:
    """A closed surface of about this many thousand triangles, 1.7 m high."""
    rings = int(np.sqrt(thousands * 1000 / 2 / 1.5))
    sides = round(1.5 * rings)
    lat = np.linspace(0, np.pi, rings + 1)[1:-1, None]
    lon = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.sin(lat) * np.cos(lon), np.cos(lat) + 0 * lon, np.sin(lat) * np.sin(lon)], -1)
    vertices = np.concatenate([[[0, 1, 0]], ring.reshape(-1, 3), [[0, -1, 0]]])
    vertices *= 1 + 0.2 * np.sin(5 * vertices[:, :1]) * np.cos(4 * vertices[:, 1:2])
    grid = 1 + np.arange((rings - 1) * sides).reshape(rings - 1, sides)
    a, b = grid, np.roll(grid, -1, 1)
    last = len(vertices) - 1
    faces = [
        np.stack([a[:-1], b[:-1], a[1:]], -1).reshape(-1, 3),
        np.stack([b[:-1], b[1:], a[1:]], -1).reshape(-1, 3),
        np.stack([0 * a[0], b[0], a[0]], -1),
        np.stack([0 * a[0] + last, a[-1], b[-1]], -1),
    ]
    return (vertices * [0.45, 0.85, 0.3]).astype(np.float32), np.concatenate(faces).astype(np.int32)


def make_scene(mesh, size: int, images: int = 1, fill: float = 0.97) -> Scene:
    """The mesh seen from 4 m, its longer side over `fill` of the image; others turned a little."""
    vertices, faces = mesh
    angles = np.arange(images) * 0.1
    turned = np.stack(
        [
            vertices @ np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
            for a in angles
        ]
    )
    cam = torch.tensor(turned + [0, 0, DEPTH_M], dtype=torch.float32)
    extent = float((np.abs(turned[0, :, :2]) / (DEPTH_M + turned[0, :, 2:])).max()) * 2
    focal = torch.full((images, 2), size * fill / extent)
    window = torch.tensor([[0.0, 0.0, size, size]]).expand(images, 4)
    pos = clip_from_camera(cam, focal, torch.full((images, 2), size / 2), window)
    attr = torch.tensor(np.random.default_rng(0).random((1, len(vertices), CHANNELS)), dtype=torch.float32)
    return Scene(pos, torch.tensor(faces), attr, size)


def _forward_backward(rasterizer: Rasterizer, scene: Scene):
    """A function that renders the scene and takes the gradient of a fixed weighting to its positions."""
    pos = scene.pos_clip.clone().requires_grad_()
    shape = (len(pos), scene.size, scene.size, CHANNELS)
    weight = torch.tensor(np.random.default_rng(1).normal(size=shape), dtype=torch.float32).to(pos.device)

    def run():
        rast = rasterizer.rasterize(pos, scene.tri, (scene.size, scene.size))
        values = rasterizer.interpolate(scene.attr, rast, scene.tri)
        image = rasterizer.antialias(values, rast, pos, scene.tri)
        return torch.autograd.grad(image, pos, weight)[0]

    return run


def _times_ms(calls: dict, repeats: int) -> dict[str, tuple[float, float]]:
    """Best and median milliseconds of each call, run in turns after two warm-ups."""
    times = {name: [] for name in calls}
    for turn in range(repeats + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 2:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: (min(t), float(np.median(t))) for name, t in times.items()}


# ---- measurements


def measure_peers(body, repeats: int) -> tuple[Table, float, float | None]:
    """Ours by both rules, and deodr, in turns."""
    scene = make_scene(body, SIZE)
    calls = {
        f"ours, outlines over {HIDDEN_TRIANGLES} hidden triangles": _forward_backward(
            make_rasterizer("cpu"), scene
        ),
        "ours, nvdiffrast's rule": _forward_backward(make_rasterizer("cpu", hidden_triangles=0), scene),
    }
    deodr = _deodr_call(scene)
    if deodr is not None:
        calls["deodr"] = deodr
    times = _times_ms(calls, repeats)
    ours = next(iter(times.values()))
    rows = [(name, best, median, best / ours[0]) for name, (best, median) in times.items()]
    pixels = int(
        (make_rasterizer("cpu").rasterize(scene.pos_clip, scene.tri, (SIZE, SIZE))[..., 3] > 0).sum()
    )
    title = f"Forward + backward, {SIZE} px, {len(scene.tri)} triangles, {pixels} covered pixels, one thread"
    table = Table(title, ("renderer", "best ms", "median ms", "best / ours"), rows)
    return table, ours[0], times["deodr"][0] / ours[0] if deodr is not None else None


def _deodr_call(scene: Scene):
    """deodr's render and gradient of the same scene, or None where it is not installed."""
    try:
        from deodr.differentiable_renderer import Scene2D, renderScene, renderSceneB
    except ImportError:
        return None
    pos, mesh = scene.pos_clip[0].numpy(), mesh_of(scene.tri)
    flags, ends = np.empty(len(mesh.tri), np.uint8), np.empty(len(pos), np.uint8)
    table = mesh.topology
    raster_cpu_edges.find_silhouettes(
        pos, mesh.tri, table.borders, table.seams, table.seam_flips, flags, ends
    )
    ndc = pos[:, :2] / pos[:, 3:]
    points = np.stack([(ndc[:, 0] + 1) / 2, (1 - ndc[:, 1]) / 2], 1).astype(np.float64) * scene.size
    faces = mesh.tri.astype(np.uint32)
    scene_2d = Scene2D(
        faces=faces,
        faces_uv=faces,
        ij=points,
        depths=pos[:, 3].astype(np.float64),
        textured=np.zeros(len(faces), bool),
        uv=np.zeros((len(pos), 2)),
        shade=np.zeros(len(pos)),
        colors=scene.attr[0].numpy().astype(np.float64),
        shaded=np.zeros(len(faces), bool),
        edgeflags=np.stack([(flags >> k) & 1 for k in (2, 0, 1)], 1).astype(
            bool
        ),  # its edge n joins n, n + 1
        height=scene.size,
        width=scene.size,
        nb_colors=CHANNELS,
        texture=np.zeros((0, 0)),
        background_color=np.zeros(CHANNELS),
        backface_culling=True,
        clockwise=False,
        integer_pixel_centers=False,
    )
    shape = (scene.size, scene.size, CHANNELS)
    weight = np.random.default_rng(1).normal(size=shape)

    def run():
        image, depth = np.zeros(shape), np.zeros(shape[:2])
        renderScene(scene_2d, 1.0, image, depth)
        scene_2d.clear_gradients()
        renderSceneB(scene_2d, 1.0, image, depth, weight.copy())
        return image

    covered = (run().sum(-1) > 0).sum()
    ours = (make_rasterizer("cpu").rasterize(scene.pos_clip, scene.tri, shape[:2])[..., 3] > 0).sum().item()
    if abs(covered - ours) > 0.2 * ours:
        raise RuntimeError(f"raster benchmark: deodr covers {covered} pixels where we cover {ours}")
    return run


def measure_stages(body, repeats: int) -> Table:
    """Each kernel alone, against the time to move its arrays once."""
    scene = make_scene(body, SIZE)
    mesh, table = mesh_of(scene.tri), mesh_of(scene.tri).topology
    pos, attr, tri = scene.pos_clip[0].numpy(), scene.attr[0].numpy(), mesh.tri
    keys = np.empty((SIZE, SIZE), np.int64)
    rast = np.zeros((SIZE, SIZE, 4), np.float32)
    image = np.zeros((SIZE, SIZE, CHANNELS), np.float32)
    weight = np.random.default_rng(1).normal(size=image.shape).astype(np.float32)
    grad_rast, grad_pos, out = np.zeros_like(rast), np.zeros_like(pos), np.empty_like(image)
    flags, ends = np.empty(len(tri), np.uint8), np.empty(len(pos), np.uint8)
    crossings = np.empty((8 * SIZE, 4), np.int32)
    fill, shade, edges = raster_cpu_fill, raster_cpu_shade, raster_cpu_edges

    def find_crossings():
        return edges.find_crossings(
            pos, tri, table.neighbours, flags, ends, rast, HIDDEN_TRIANGLES, crossings
        )

    def find_silhouettes():
        edges.find_silhouettes(pos, tri, table.borders, table.seams, table.seam_flips, flags, ends)

    fill.visibility(pos, tri, mesh.labels, 0, len(tri), keys)
    shade.resolve(pos, tri, keys, rast)
    find_silhouettes()
    found = crossings[: find_crossings()]
    differences = np.empty((len(found), CHANNELS), np.float32)

    def blend():
        np.copyto(out, image)
        edges.antialias(pos, found, out, differences)

    def blend_grad():
        np.copyto(out, weight)
        edges.antialias_grad(pos, found, differences, weight, 1.0, out, grad_pos)

    big = np.ones(1 << 23, np.float32)
    target = np.empty_like(big)
    calls = {
        "rasterize: visibility": lambda: fill.visibility(pos, tri, mesh.labels, 0, len(tri), keys),
        "rasterize: u, v, z": lambda: shade.resolve(pos, tri, keys, rast),
        "interpolate": lambda: shade.interpolate(attr, rast, tri, image),
        "antialias: silhouettes": find_silhouettes,
        "antialias: crossings": find_crossings,
        "antialias: blend": blend,
        "antialias backward": blend_grad,
        "interpolate backward (u, v)": lambda: shade.interpolate_grad_rast(
            attr, rast, tri, weight, grad_rast
        ),
        "rasterize backward": lambda: shade.rasterize_grad(pos, tri, rast, grad_rast, grad_pos),
        "whole": _forward_backward(make_rasterizer("cpu"), scene),
        "copy of 32 MB": lambda: np.copyto(target, big),
    }
    arrays = {
        "rasterize: visibility": (pos, tri, keys, keys),
        "rasterize: u, v, z": (keys, pos, tri, rast),
        "interpolate": (rast, tri, attr, image),
        "antialias: silhouettes": (pos, tri, table.seams, flags),
        "antialias: crossings": (rast, pos, tri, flags, found),
        "antialias: blend": (image, out, found),
        "antialias backward": (weight, out, found, grad_pos),
        "interpolate backward (u, v)": (rast, tri, attr, weight, grad_rast),
        "rasterize backward": (rast, grad_rast, tri, pos, grad_pos),
    }
    times = _times_ms(calls, repeats)
    bytes_per_ms = 2 * big.nbytes / times["copy of 32 MB"][0]
    rows = []
    for name in arrays:
        floor = sum(a.nbytes for a in arrays[name]) / bytes_per_ms
        rows.append((name, *times[name], floor, times[name][0] / floor))
    floors = sum(row[3] for row in rows)
    rows.append(("sum of the stages", *np.sum([times[n] for n in arrays], 0).tolist(), floors, "-"))
    rows.append(("whole, with torch around it", *times["whole"], floors, times["whole"][0] / floors))
    title = (
        f"Stages at {SIZE} px; memory copied at {2 * big.nbytes / times['copy of 32 MB'][0] / 1e6:.3g} GB/s"
    )
    return Table(title, ("stage", "best ms", "median ms", "floor ms", "best / floor"), rows)


def measure_threads(body, repeats: int) -> tuple[Table, float]:
    """A batch of 8 images on one thread and on two, in turns."""
    run = _forward_backward(make_rasterizer("cpu"), make_scene(body, SIZE, images=8))
    results = {}

    def on(threads):
        def call():
            torch.set_num_threads(threads)
            results[threads] = run()

        return call

    times = _times_ms({threads: on(threads) for threads in (1, 2)}, repeats)
    torch.set_num_threads(1)
    if not torch.equal(results[1], results[2]):
        raise RuntimeError("raster benchmark: one and two threads gave different gradients")
    speedup = times[1][0] / times[2][0]
    rows = [
        (threads, best, median, best / 8, times[1][0] / best) for threads, (best, median) in times.items()
    ]
    columns = ("threads", "best ms", "median ms", "best ms an image", "speed-up")
    return Table(f"Batch of 8, {SIZE} px, on {os.cpu_count()} cores", columns, rows), speedup


def measure_sizes(body, sizes, repeats: int) -> Table:
    """The open body at growing resolutions."""
    rows = []
    for size in sizes:
        scene = make_scene(body, size)
        times = _times_ms({"": _forward_backward(make_rasterizer("cpu"), scene)}, max(repeats, 3))[""]
        pixels = int(
            (make_rasterizer("cpu").rasterize(scene.pos_clip, scene.tri, (size, size))[..., 3] > 0).sum()
        )
        rows.append((size, pixels, *times, 1e6 * times[0] / size**2))
    columns = ("px a side", "covered pixels", "best ms", "median ms", "ns per image pixel")
    return Table(f"Resolution, {len(body[1])} triangles", columns, rows)


def measure_triangles(thousands, repeats: int) -> Table:
    """Balls of growing fineness at one resolution."""
    rows = []
    for count in thousands:
        mesh = _bumpy_ball(count)
        call = _forward_backward(make_rasterizer("cpu"), make_scene(mesh, SIZE))
        times = _times_ms({"": call}, max(repeats, 3))[""]
        rows.append((len(mesh[1]), *times, 1e6 * times[0] / len(mesh[1])))
    columns = ("triangles", "best ms", "median ms", "ns per triangle")
    return Table(f"Triangles, a bumpy ball at {SIZE} px", columns, rows)


def measure_person(body, repeats: int) -> Table:
    """render_prob for one person, forward and backward to the vertices: as a fit calls it."""
    vertices, faces = (
        torch.tensor(body[0] + [0, 0, DEPTH_M], dtype=torch.float32)[None],
        torch.tensor(body[1]),
    )
    prob = torch.tensor(np.random.default_rng(0).random((1, len(body[0]), CHANNELS)), dtype=torch.float32)
    calls, rasterizer = {}, make_rasterizer("cpu")
    for size in (64, 96, 128, 224):
        focal, window = torch.full((1, 2), 500.0), torch.tensor([[-115.0, -115.0, 115.0, 115.0]])
        weight = torch.tensor(np.random.default_rng(1).normal(size=(1, size, size, CHANNELS))).float()
        moving = vertices.clone().requires_grad_()

        def run(moving=moving, focal=focal, window=window, weight=weight, size=size):
            center = torch.zeros(1, 2)
            image = render_prob(rasterizer, moving, faces, prob, focal, center, window, (size, size))
            return torch.autograd.grad(image, moving, weight)[0]

        calls[size] = run
    rows = [(size, *times) for size, times in _times_ms(calls, repeats).items()]
    return Table("A person: render_prob, forward + backward", ("px a side", "best ms", "median ms"), rows)


def _measure_cuda(body, repeats: int) -> dict[str, tuple[float, str]]:
    """nvdiffrast's time for the headline scene, where there is a GPU and nvdiffrast."""
    try:
        rasterizer = make_rasterizer("cuda")
    except RuntimeError:
        return {}
    scene = make_scene(body, SIZE)
    scene = Scene(scene.pos_clip.cuda(), scene.tri.cuda(), scene.attr.cuda(), SIZE)
    run = _forward_backward(rasterizer, scene)

    def synchronised():
        run()
        torch.cuda.synchronize()

    return {"raster_cuda_ms": (_times_ms({"": synchronised}, repeats)[""][0], "ms")}


if __name__ == "__main__":
    main()
