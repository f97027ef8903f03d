"""What do the DSR terms add to training? Table 1 of the paper with generated people and the small network.

    python -m benchmarks.train_ablation --start FILE [--people DIR] [--wild DIR] [--test DIR] [--steps 300] [--seeds 3]
    python -m benchmarks.train_ablation ... --quick

As in the paper, a trained network learns on from two kinds of people, half of each batch: --people with 3D truth
(configs/synthetic.yaml's 2000, which --start was trained on), and --wild ones of whom only 2D keypoints and labels are
known (800 in the clothes and motions of the test people, which the network has not seen). DSR begins after a tenth of
the steps. The rows are configs/table1's. The rendered terms weigh what they weigh in a fit, except in the last row:
DSR's forms with its shipped weights. Every row starts from the same network and sees the same pictures in the same
order. Labels and keypoints are exact. Errors in mm on --test, 300 other people in the clothes and motions of the wild
ones. Intervals: 95 %, bootstrap over people of the mean over seeds, paired with `standard`. Folders that are missing
are made by `synth.dataset`.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.report import Table, change_mm, write_results
from fitter.body.model import load_body
from fitter.cli import read_config
from fitter.config import Semantics
from fitter.jobs import one_thread
from regressor.checkpoints import load_hmr
from regressor.cli import make_if_missing
from regressor.config import Source, TrainConfig
from regressor.data import load_people
from regressor.evaluation import evaluate
from regressor.hmr import HMR
from regressor.losses import Criterion
from regressor.training import Trainer

TABLE1 = Path(__file__).parents[1] / "configs" / "table1"
ROWS = {
    "standard": "standard", "+ FB": "fb", "+ MC": "mc_iou", "+ C": "c_onesided", "+ MC + C": "c_mc",
    "+ MC + C as published": "c_mc_published",
}  # fmt: skip
PEOPLE, WILD, TEST = 2000, 800, 300
HELD_BACK = ("--recipe.clothes", "benchmark", "--recipe.poses", "testing")
RATE, CLIP = 1e-4, 100.0
METRICS = ("pa_mpjpe", "mpjpe", "pve")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, default=Path("data/people"))
    parser.add_argument("--wild", type=Path, default=Path("data/wild_people"))
    parser.add_argument("--test", type=Path, default=Path("data/test_people"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "amp"), default="float32")
    parser.add_argument("--start", required=True, help="checkpoint that every row starts from")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    from joblib import Parallel, delayed

    steps, seeds = (20, 1) if options.quick else (options.steps, options.seeds)
    known, wild, test = sources(options.people, options.wild, options.test)
    test = replace(test, count=32) if options.quick else test
    base = replace(recipe(options, steps), data=(known, replace(wild, only_2d=True)), dsr_from=steps // 10)
    runs = [(row, seed) for seed in range(seeds) for row in ROWS]
    found = Parallel(n_jobs=options.jobs)(delayed(one_run)(base, test, *run) for run in runs)
    errors = {row: [e for (name, _), e in zip(runs, found, strict=True) if name == row] for row in ROWS}
    values = {row: {m: np.mean([e[m] for e in errors[row]], 0) for m in METRICS} for row in ROWS}
    before = tested(load_hmr(options.start), base, test)
    lines = [("the network before", *(f"{before[m].mean():.1f}" for m in METRICS), *("" for _ in METRICS))]
    for row in ROWS:
        cells = []
        for metric in METRICS:
            mean = values[row][metric].mean()
            spread = np.std([e[metric].mean() for e in errors[row]])
            cells.append(f"{mean:.1f} (seeds ±{spread:.1f})")
        lines.append((row, *cells, *(change_mm(values[row][m], values["standard"][m]) for m in METRICS)))
    columns = ("row", *METRICS, *(f"{metric} against standard" for metric in METRICS))
    figures = {
        f"{metric}_{row.replace('+ ', '').replace(' ', '_').lower()}": (
            float(values[row][metric].mean()),
            "mm",
        )
        for row in ROWS
        for metric in METRICS
    }
    name = "train_ablation_quick" if options.quick else "train_ablation"
    about = (
        __doc__
        + f"\n{steps} steps of 32 people, {seeds} seeds, "
        + f"{len(values['standard']['mpjpe'])} test people."
    )
    write_results(name, about, figures, [Table("Errors, mm", columns, lines)])


def sources(people: Path, wild: Path, test: Path) -> tuple[Source, Source, Source]:
    """People with 3D truth, people seen in the wild, people to test on; made if missing."""
    found = tuple(
        Source(name, str(folder / "dataset.npz"), str(folder), str(folder / "labels") if name == "wild" else None,
               share=0.5, make=("synth.dataset", "--count", str(count), "--recipe.seed", seed, *more))
        for name, folder, count, seed, more in (("3D", people, PEOPLE, "5", ()), ("wild", wild, WILD, "41", HELD_BACK),
                                                ("test", test, TEST, "32", HELD_BACK))
    )  # fmt: skip
    for source in found:
        make_if_missing(source)
    return found


def recipe(options, steps: int) -> TrainConfig:
    """How every network of these comparisons is trained on: SPIN's augmentation, heavier than --start's own."""
    return TrainConfig(start=options.start, batch=32, rate=RATE, schedule="cosine", clip=CLIP, steps=steps,
                       precision=options.precision, validate_every=10**9, workers=0)  # fmt: skip


def one_run(base: TrainConfig, test: Source, row: str, seed: int) -> dict[str, np.ndarray]:
    """Errors [N] of the test people after training one row."""
    return trained(of_preset(replace(base, seed=seed), ROWS[row]), [test])[0]


def of_preset(base: TrainConfig, name: str) -> TrainConfig:
    """With the rendered terms, and their weights, of a preset of configs/table1."""
    preset = read_config(["--config", str(TABLE1 / f"{name}.yaml")], TrainConfig)
    rendered = {term: getattr(preset.weights, term) for term in ("mc", "c", "silhouette")}
    return replace(base, semantics=preset.semantics, weights=replace(base.weights, **rendered))


def trained(config: TrainConfig, tests: list[Source]) -> list[dict[str, np.ndarray]]:
    """Errors [N] of each source's people after a training run in one thread, whose files are kept nowhere."""
    one_thread()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(replace(config, out=scratch))
        trainer.run()
    return [tested(trainer.net, config, test) for test in tests]


def tested(net: HMR, config: TrainConfig, test: Source) -> dict[str, np.ndarray]:
    """Errors [N] of the test people."""
    criterion = Criterion(load_body(config.body), Semantics(mc="none", c="none"))
    found = evaluate(net, load_people(test), criterion)
    return {metric: getattr(found, metric) for metric in METRICS}


if __name__ == "__main__":
    from benchmarks.train_ablation import main as by_name  # worker processes find its functions by this name

    by_name()
