"""What do the DSR terms add to training? Table 1 of the paper with generated people and the small network.

    python -m benchmarks.train_ablation [--people DIR] [--test DIR] [--steps 600] [--seeds 3] [--start FILE]
    python -m benchmarks.train_ablation ... --quick

--people, --test: folders of `synth.dataset`, made if they are missing (2000 people in the clothes and motions of the
priors, configs/synthetic.yaml's; 300 in clothes and motions held back). As in the paper's mix, a part of the people
have 3D truth (every fifth), the others only 2D keypoints and labels. Every row starts from the same network, untrained
if no --start is given, and sees the same pictures in the same order; the rows are configs/table1's, weights of the
terms DSR's shipped ones. The labels are exact. Errors in mm on the test people; intervals: 95 %, bootstrap over people
of the mean over seeds, paired with `standard`.
"""

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import Table, write_results
from fitter.cli import read_config
from regressor.cli import make_if_missing
from regressor.config import Source, TrainConfig
from regressor.data import load_people
from regressor.evaluation import evaluate
from regressor.training import Trainer

TABLE1 = Path(__file__).parents[1] / "configs" / "table1"
ROWS = {"standard": "standard", "+ FB": "fb", "+ MC": "mc_iou", "+ C": "c_onesided", "+ MC + C": "c_mc"}
PEOPLE, TEST, WITH_3D = 2000, 300, 5  # every fifth has 3D truth
METRICS = ("pa_mpjpe", "mpjpe", "pve")
DRAWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, default=Path("data/people"))
    parser.add_argument("--test", type=Path, default=Path("data/test_people"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--network", default="small")
    parser.add_argument("--precision", choices=("float32", "amp"), default="float32")
    parser.add_argument("--start", help="checkpoint that every row starts from")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    from joblib import Parallel, delayed

    steps, seeds = (20, 1) if options.quick else (options.steps, options.seeds)
    test = held_back(options.test, 32 if options.quick else 0)
    file, labels = str(options.people / "dataset.npz"), str(options.people / "labels")
    known = PEOPLE // WITH_3D
    data = (
        Source("3D", file, str(options.people), labels, share=0.5, count=known,
               make=("synth.dataset", "--count", str(PEOPLE), "--recipe.seed", "5")),
        Source("wild", file, str(options.people), labels, share=0.5, first=known, only_2d=True),
    )  # fmt: skip
    for source in (data[0], test):
        make_if_missing(source)
    base = TrainConfig(data=data, network=options.network, start=options.start, batch=32, rate=3e-4, steps=steps,
                       dsr_from=steps // 3, validate_every=10**9, workers=0, precision=options.precision)  # fmt: skip
    runs = [(row, seed) for seed in range(seeds) for row in ROWS]
    found = Parallel(n_jobs=options.jobs)(delayed(one_run)(base, test, *run) for run in runs)
    errors = {row: [e for (name, _), e in zip(runs, found, strict=True) if name == row] for row in ROWS}
    values = {row: {m: np.mean([e[m] for e in errors[row]], 0) for m in METRICS} for row in ROWS}
    lines = []
    for row in ROWS:
        cells = []
        for metric in METRICS:
            mean = values[row][metric].mean()
            spread = np.std([e[metric].mean() for e in errors[row]])
            cells.append(f"{mean:.1f} (seeds ±{spread:.1f})")
        lines.append((row, *cells, *(change(values, row, metric) for metric in METRICS)))
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
        + f"\n{steps} steps of 32 people, DSR from step {steps // 3}, {seeds} seeds, "
        + f"{len(values['standard']['mpjpe'])} test people."
    )
    write_results(name, about, figures, [Table("Errors, mm", columns, lines)])


def held_back(folder: Path, count: int) -> Source:
    """People in clothes and motions that training does not see; count: only so many, 0 = all of them."""
    make = ("synth.dataset", "--count", str(TEST), "--recipe.seed", "32", "--recipe.clothes", "benchmark",
            "--recipe.poses", "testing")  # fmt: skip
    return Source("test", str(folder / "dataset.npz"), str(folder), count=count, make=make)


def one_run(base: TrainConfig, test: Source, row: str, seed: int) -> dict[str, np.ndarray]:
    """Errors [N] of the test people after training one row."""
    semantics = read_config(["--config", str(TABLE1 / f"{ROWS[row]}.yaml")], TrainConfig).semantics
    return trained(replace(base, seed=seed, semantics=semantics), test)


def trained(config: TrainConfig, test: Source) -> dict[str, np.ndarray]:
    """Errors [N] of the test people after a training run in one thread, whose files are kept nowhere."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(replace(config, out=scratch))
        trainer.run()
        found = evaluate(trainer.net, load_people(test), trainer.criterion)
    return {metric: getattr(found, metric) for metric in METRICS}


def change(values: dict, row: str, metric: str) -> str:
    """Mean paired difference against `standard` and its interval."""
    difference = values[row][metric] - values["standard"][metric]
    rng = np.random.default_rng(0)
    draws = [difference[rng.integers(len(difference), size=len(difference))].mean() for _ in range(DRAWS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{difference.mean():+.1f} ({low:+.1f}..{high:+.1f})"


if __name__ == "__main__":
    from benchmarks.train_ablation import main as by_name  # worker processes find its functions by this name

    by_name()
