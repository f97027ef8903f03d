"""How fast are clothed people made, and how near is the open body to them?

    python -m benchmarks.synth [--quick]

People are drawn, dressed, posed, rendered with labels, masks and depth, and written to disk at 256 x 256 px, as
`python -m synth.dataset` does; the time that a process takes to load its models once is left out. The residual is
what the open body's ten components and its simpler rig cannot follow of the exact surface.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.report import Table, write_results
from fitter.jobs import parallel
from synth.dataset import FOLDERS, row_file, scene_maker, write_scene
from synth.scenes import Recipe

PEOPLE = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    count, recipe = (20 if options.quick else PEOPLE), Recipe()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        for name in FOLDERS:
            (out / name).mkdir()
        with parallel(options.jobs) as each:
            for _ in each(partial(warm, recipe=recipe), range(4 * options.jobs)):
                pass
            start = time.perf_counter()
            for _ in each(partial(write_scene, recipe=recipe, out=out), range(count)):
                pass
            seconds = time.perf_counter() - start
        rows = [np.load(row_file(out, number)) for number in range(count)]
    residual = np.array([row["betas_residual_mm"] for row in rows])
    shape = np.abs(np.array([row["shape"] for row in rows]))
    table = Table(
        f"{count} people, {options.jobs} processes",
        ("quantity", "value"),
        [
            ("seconds", seconds),
            ("open body's distance from the exact surface, mean mm", float(residual.mean())),
            ("the same, 95th percentile mm", float(np.percentile(residual, 95))),
            ("largest |beta|", float(shape.max())),
        ],
    )
    name = "synth_quick" if options.quick else "synth"
    write_results(name, __doc__, {"people_per_s": (count / seconds, "1/s")}, [table])


def warm(number: int, recipe: Recipe) -> None:
    """Loads the models in this process."""
    scene_maker(recipe)(number)


if __name__ == "__main__":
    from benchmarks.synth import main as by_name  # worker processes find its functions by this name

    by_name()
