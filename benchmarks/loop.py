"""The loop fits -> training -> better first bodies, once, through the commands a user would type.

    python -m benchmarks.loop --start FILE --work DIR [--people DIR] [--wild DIR] [--test DIR] [--photos 300]
    python -m benchmarks.loop ... --quick

Of the first 300 --wild people of `benchmarks.train_ablation` nothing is known but noisy 2D keypoints (`synth.noise`),
labels of noise level 1 and the camera. `fit.py ... --export spin` turns these photos into pseudo-ground-truth, in
--work. Then the network --start learns on, half of each batch from people with 3D truth that it knows already, half
from the photos: once with their 2D keypoints alone, once with the fits' bodies; same pictures in the same order. Errors
in mm of the networks' bodies, from which a fit would begin: on the photos themselves, whose truth no training saw, and
on 300 other people in the same clothes and motions. Intervals: 95 %, bootstrap over people of the mean over seeds,
paired.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.report import Table, change_mm, write_results
from benchmarks.train_ablation import METRICS, recipe, sources, tested, trained
from fitter.config import Semantics
from fitter.see.keypoint_files import write_openpose
from fitter.see.keypoints import Person
from fitter.see.person_box import keypoint_box
from regressor.checkpoints import load_hmr
from regressor.config import Augmentation, Source
from regressor.data import load_people
from regressor.evaluation import truth
from regressor.losses import Criterion
from regressor.methods import main as fit_main
from synth.noise import noisy_keypoints, noisy_labels

LABEL_NOISE, PHOTOS = 1, 300
AUGMENTATION = Augmentation(rotation_deg=10, scale=0.1)  # that of configs/synthetic.yaml


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--people", type=Path, default=Path("data/people"))
    parser.add_argument("--wild", type=Path, default=Path("data/wild_people"))
    parser.add_argument("--test", type=Path, default=Path("data/test_people"))
    parser.add_argument("--photos", type=int, default=PHOTOS)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("float32", "amp"), default="float32")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    from joblib import Parallel, delayed

    photos, steps, seeds = (6, 10, 1) if options.quick else (options.photos, options.steps, options.seeds)
    known, wild, test = sources(options.people, options.wild, options.test)
    test = replace(test, count=16) if options.quick else test
    write_photos(options.wild, options.work, range(photos))
    folders = {name: str(options.work / name) for name in ("images", "keypoints", "labels", "camera", "out")}
    fit_main([word for name, folder in folders.items() for word in (f"--{name}", folder)]
             + ["--overlay", "false", "--export", "spin", "--rejection", "valid"])  # fmt: skip
    fits = Source("fits", str(options.work / "out" / "export" / "spin.npz"), folders["images"], share=0.5)
    ways = {"2D keypoints alone": replace(fits, only_2d=True), "the fits' bodies": fits}
    tests = {"the photos themselves": replace(wild, labels=None, count=photos), "other people": test}
    base = replace(
        recipe(options, steps), semantics=Semantics(mc="none", c="none"), augmentation=AUGMENTATION
    )
    runs = [(row, seed) for seed in range(seeds) for row in ways]
    found = Parallel(n_jobs=2)(
        delayed(trained)(replace(base, seed=seed, data=(known, ways[row])), list(tests.values()))
        for row, seed in runs
    )
    before = [tested(load_hmr(options.start), base, source) for source in tests.values()]
    tables, figures = [], {}
    for place, name in enumerate(tests):
        rows = {"the network before": before[place]} | {
            row: {m: np.mean([one[place][m] for (r, _), one in zip(runs, found, strict=True) if r == row], 0)
                  for m in METRICS} for row in ways
        }  # fmt: skip
        tables += compared(f"{name}, mm: {steps} steps, {seeds} seeds", rows)
        word = ("photos", "others")[place]
        for way, values in zip(("before", "2d", "fits"), rows.values(), strict=True):
            figures |= {f"loop_{m}_{way}_{word}": (float(values[m].mean()), "mm") for m in METRICS}
    quality = fit_quality(fits, options.wild, photos)
    tables.append(Table("The fits that were learned from", ("quantity", "value"), quality))
    write_results("loop_quick" if options.quick else "loop", __doc__, figures, tables)


def compared(title: str, rows: dict[str, dict[str, np.ndarray]]) -> list[Table]:
    """Errors of the network before, of the one that learned 2D keypoints, of the one that learned the fits' bodies."""
    lines = [(row, *(float(values[m].mean()) for m in METRICS)) for row, values in rows.items()]
    start, flat, solid = rows.values()
    changes = [(m, change_mm(solid[m], flat[m]), change_mm(solid[m], start[m])) for m in METRICS]
    columns = ("measure", "against 2D keypoints alone", "against the network before")
    return [
        Table(f"Errors on {title}", ("row", *METRICS), lines),
        Table(f"The fits' bodies, on {title}", columns, changes),
    ]


def write_photos(wild: Path, work: Path, numbers: range) -> None:
    """Photos of a folder of `synth.dataset` as a user has them: images, noisy keypoints and labels, cameras."""
    with np.load(wild / "dataset.npz", allow_pickle=False) as file:
        rows = {key: file[key] for key in ("openpose", "focal_px", "center_px")}
    for name in ("images", "keypoints", "labels", "camera"):
        (work / name).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        stem = f"{number:06d}"
        shutil.copy(wild / "images" / f"{stem}.jpg", work / "images")
        keypoints = noisy_keypoints(rows["openpose"][number], np.random.default_rng([number, 1]))
        person = Person("0", keypoints, "openpose", keypoint_box(keypoints))
        write_openpose(work / "keypoints" / f"{stem}_keypoints.json", [person])
        ids = cv2.imread(str(wild / "labels" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE)
        noisy = noisy_labels(ids, np.random.default_rng([number, 2]), LABEL_NOISE)
        cv2.imwrite(str(work / "labels" / f"{stem}.png"), noisy)
        camera = {key: rows[key][number].tolist() for key in ("focal_px", "center_px")}
        (work / "camera" / f"{stem}.json").write_text(json.dumps(camera))


def fit_quality(fits: Source, wild: Path, photos: int) -> list[tuple]:
    """How many of the photos gave a valid fit, and how near these are to the truth that training never saw."""
    from fitter.body.model import load_body
    from regressor.evaluation import LSP_14
    from regressor.metrics import pa_mpjpe_mm

    found = load_people(fits)
    true = load_people(Source("truth", str(wild / "dataset.npz"), str(wild)))
    rows = [int(path.stem) for path in found.images]
    criterion = Criterion(load_body(), Semantics(mc="none", c="none"))
    joints, of_truth = truth(found, criterion, {})[0], true.joints_m[rows, :, :3]
    error = pa_mpjpe_mm(joints[:, list(LSP_14)], of_truth[:, list(LSP_14)])
    return [("photos", photos), ("valid fits", len(found)), ("PA-MPJPE of the fits, mm", float(error.mean()))]


if __name__ == "__main__":
    from benchmarks.loop import main as by_name  # worker processes find its functions by this name

    by_name()
