"""How much of a body's outline do the rasteriser's gradients see?

    python -m benchmarks.outline               # half a minute
    python -m benchmarks.outline --quick       # ten seconds

Stretching the open body by a factor s along x or y changes its area A by A per unit of s, exactly: "share across" and
"share upright" are the rendered area's derivative over that. One rendering's derivative is that of the pixel centres it
happens to have, so these are means over 4 x 4 shifts within a pixel. "of the gradient" is the sum of its absolute
values over vertices beside the first row's: what of the outline is heard at all. 0 hidden triangles is nvdiffrast's
rule; supersampling renders so many times larger and averages down, which leaves the derivative of a mean.
"""

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from benchmarks.raster import load_open_body, make_scene
from benchmarks.report import Table, write_results
from fitter.raster.rasterizer import HIDDEN_TRIANGLES, make_rasterizer

# (hidden triangles followed, supersampling)
RULES = [
    (HIDDEN_TRIANGLES, 1),
    (0, 1),
    (0, 2),
    (0, 4),
    (0, 8),
    (4, 1),
    (8, 1),
    (32, 1),
    (HIDDEN_TRIANGLES, 2),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    body, rows = load_open_body(), []
    for size in (64, 112) if quick else (64, 112, 224):
        found = [measure(body, size, *rule) for rule in RULES]
        rows += [
            (size, *rule, *shares, heard / found[0][1])
            for rule, (shares, heard) in zip(RULES, found, strict=True)
        ]
    figures = {
        f"outline_share_{size}_hidden_{hidden}_supersample_{times}": ((across + upright) / 2, "")
        for size, hidden, times, across, upright, _ in rows
        if (hidden, times) in ((HIDDEN_TRIANGLES, 1), (0, 1), (0, 4))
    }
    columns = (
        "px a side",
        "hidden triangles",
        "supersample",
        "share across",
        "share upright",
        "of the gradient",
    )
    table = Table(f"Outline found, {len(body[1])} triangles", columns, rows)
    write_results("outline_quick" if quick else "outline", __doc__, figures, [table])


def measure(body, size: int, hidden: int, times: int) -> tuple[np.ndarray, float]:
    """Shares of the area's derivative by stretching along x and y, [2], and the gradient's sum of absolute values."""
    scene, fine = make_scene(body, size, fill=0.9), size * times
    rasterizer = make_rasterizer("cpu", hidden_triangles=hidden)
    stretch, heard, area = np.zeros(2), 0.0, 0.0
    for shift in np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2) / 4 + 0.1:
        move = torch.zeros(4)
        move[:2] = torch.tensor(shift) * 2 / size
        pos = (scene.pos_clip + move * scene.pos_clip[..., 3:]).requires_grad_()
        rast = rasterizer.rasterize(pos, scene.tri, (fine, fine))
        image = rasterizer.antialias((rast[..., 3:] > 0).float(), rast, pos, scene.tri)
        (grad,) = torch.autograd.grad(image.sum() / times**2, pos)
        stretch += (grad * scene.pos_clip)[..., :2].sum((0, 1)).numpy()
        heard += grad[..., :2].abs().sum().item()
        area += image.sum().item() / times**2
    return stretch / area, heard


if __name__ == "__main__":
    main()
