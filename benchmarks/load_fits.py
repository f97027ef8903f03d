"""How long does it take to load everybody of a run?

    python -m benchmarks.load_fits             # two minutes, most of it for writing the run
    python -m benchmarks.load_fits --quick       # 1,000 people

A run of 10,000 people, two a photo, that differ in every number, written as fit.py writes it. `fitter.load_fits` is
timed in turns with NumPy's reader (`fitter.load_fit`) on a part of the same files. Wall seconds, the best of the
repeats beside the median, and seconds of the processor: on a machine that others use those say more. Files are in the
system's cache.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.report import Table, write_results
from fitter import Fit, Fitter, load_fit, load_fits
from fitter.pipeline import configuration_of
from fitter.see.photos import Photo
from fitter.write.result import save_fit, summary_row
from fitter.write.store import Store

PEOPLE = 10_000
PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "skier.jpg"
ONE_BY_ONE = 200  # people that NumPy's reader is timed on
REPEATS = 7


def varied(fit: Fit, name: str, person: int, rng: np.random.Generator) -> Fit:
    """Somebody else: every number changed."""
    numbers = ("pose", "betas", "transl_cam", "box_px", "joints_cam", "keypoints_px", "observed_px")
    arrays = {key: getattr(fit, key) + rng.normal(0, 0.01, getattr(fit, key).shape) for key in numbers}
    tables = {
        key: {one: value + rng.random() for one, value in getattr(fit, key).items()}
        for key in ("energies", "quality")
    }
    return replace(
        fit, name=name, image=f"{name}.jpg", person=str(person), people_in_photo=2, **arrays, **tables
    )


def write_run(out: Path, people: int) -> None:
    """A folder as fit.py leaves it."""
    fitter, rng = Fitter(people="largest"), np.random.default_rng(0)
    (fit,) = fitter(PHOTO)
    photos = [Photo(PHOTO, f"{at:05d}.jpg", f"{at:05d}") for at in range(people // 2)]
    made = photos[0].fingerprint()
    with Store(out, configuration_of(fitter.config)) as store:
        for photo in store.expect(photos):
            inputs = {"photo": made | {"path": photo.image}}
            fits = [replace(varied(fit, photo.name, person, rng), inputs=inputs) for person in range(2)]
            files = {f"{one.name}_{one.person}.npz": partial(save_fit, fit=one) for one in fits}
            store.put(photo.name, inputs, [summary_row(one) for one in fits], files)


def timed(function, *arguments) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, own = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - wall, time.process_time() - own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    people = 1000 if options.quick else PEOPLE
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), people)
        paths = load_fits(folder).paths[:ONE_BY_ONE]
        ours, theirs = [], []
        for _ in range(REPEATS):
            ours.append(timed(load_fits, folder))
            theirs.append(timed(lambda: [load_fit(path) for path in paths]))
    scale = people / len(paths)
    rows = [
        (name, *(factor * value for value in (*np.min(times, 0), *np.median(times, 0))))
        for name, times, factor in (("load_fits", ours, 1), ("load_fit, one by one", theirs, scale))
    ]
    columns = ("reader", "best, s", "best of the processor, s", "median, s", "median of the processor, s")
    figures = {f"load_fits_{people}_s": (rows[0][1], "s")}
    name = "load_fits_quick" if options.quick else "load_fits"
    write_results(name, __doc__, figures, [Table(f"{people} people", columns, rows)])


if __name__ == "__main__":
    main()
