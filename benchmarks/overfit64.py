"""Figure 4 with the network: overfit 64 people for 100 steps, on 2D and 3D joints alone and with the DSR terms.

    python -m benchmarks.overfit64 [--people DIR] [--checkpoint FILE] [--seeds 3] [--quick]

The run is configs/overfit64.yaml's: batches of 64 drawn from the 64, no augmentation but of the keypoints that limb
maps are drawn from, exact labels; all rows start from the same network (`python train.py --config
configs/synthetic.yaml` makes it), which never saw these people. `dsr`: our forms, weighing what they weigh in a fit;
`dsr as published`: DSR's forms and shipped weights. Seeds differ in who is drawn when. Pixel agreement (mc_iou): IoU of
where the rendered probability of minimally-clothed labels exceeds 1/2 and where the labels say so; the true bodies'
own is what the clothing prior allows. Interval: 95 %, bootstrap over people of the mean over seeds, paired.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import Table, change_mm, write_results
from benchmarks.train_ablation import of_preset
from fitter.body.model import load_body
from fitter.cli import read_config
from fitter.config import Semantics
from fitter.energy.losses import CROP_PX
from fitter.jobs import one_thread
from regressor.cli import make_if_missing
from regressor.config import TrainConfig
from regressor.data import Change, People, load_people, load_sample
from regressor.evaluation import evaluate
from regressor.hmr import Prediction, to_input
from regressor.losses import Criterion, crop_camera, targets_of
from regressor.training import Trainer

PRESET = Path(__file__).parents[1] / "configs" / "overfit64.yaml"
ROWS = {
    "before": None,
    "joints": "standard",
    "dsr": "c_mc",
    "dsr as published": "c_mc_published",
}  # of configs/table1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, help="folder of synth.dataset in place of the preset's")
    parser.add_argument("--checkpoint", help="in place of the preset's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    from joblib import Parallel, delayed

    base = read_config(["--config", str(PRESET)], TrainConfig)
    source = base.data[0]
    if options.people:
        folder = options.people
        source = replace(
            source, file=str(folder / "dataset.npz"), images=str(folder), labels=str(folder / "labels")
        )
    if options.quick:
        source, base = replace(source, count=8), replace(base, batch=8, steps=10)
    make_if_missing(source)
    base = replace(base, data=(source,), start=options.checkpoint or base.start)
    seeds = 1 if options.quick else options.seeds
    runs = [(row, seed) for row in ROWS for seed in range(seeds)]
    measured = Parallel(n_jobs=2)(delayed(one_run)(base, *run) for run in runs)
    found = {
        row: {key: np.mean([one[key] for (name, _), one in zip(runs, measured, strict=True) if name == row], 0)
              for key in measured[0]} for row in ROWS
    }  # fmt: skip
    judge = Criterion(load_body(base.body), Semantics())
    best = agreement(lambda sample: true_body(sample, judge), judge, load_people(source), base.dsr_px)
    lines = [(row, *(float(np.nanmean(values[key])) for key in values)) for row, values in found.items()]
    lines.append(("the true bodies", float(np.mean(best)), "", "", ""))
    changes = [
        (row, *(against(found[row], found["joints"], key) for key in found[row])) for row in list(ROWS)[2:]
    ]
    tables = [
        Table(f"{source.count} people, {base.steps} steps, {seeds} seeds", ("row", *measured[0]), lines),
        Table("With DSR against joints alone; IoU in points", ("row", *measured[0]), changes),
    ]
    figures = {
        name: (float(np.nanmean(found[row][key])), unit)
        for row in ("joints", "dsr")
        for name, key, unit in (
            (f"overfit_iou_{row}", "mc_iou", "IoU"),
            (f"overfit_pve_{row}_mm", "pve", "mm"),
        )
    }
    write_results("overfit64_quick" if options.quick else "overfit64", __doc__, figures, tables)


def against(values: dict[str, np.ndarray], others: dict[str, np.ndarray], key: str) -> str:
    """Mean paired difference of a measure and its interval, as text."""
    scale = 100 if key == "mc_iou" else 1
    return change_mm(scale * values[key], scale * others[key])


def one_run(base: TrainConfig, row: str, seed: int) -> dict[str, np.ndarray]:
    """Measures [N] of the people once the network has learned one row; of row "before" as it is."""
    one_thread()
    people, judge = load_people(base.data[0]), Criterion(load_body(base.body), Semantics())
    if ROWS[row]:
        base = of_preset(base, ROWS[row])
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(replace(base, out=scratch, seed=seed))
        if ROWS[row]:
            trainer.run()
    net, found = trainer.net, evaluate(trainer.net, people, judge)

    def answer(sample: dict) -> Prediction:
        image, limbs = (torch.from_numpy(sample[key])[None] for key in ("image", "limbs"))
        return net(to_input(image), limbs)

    iou = agreement(answer, judge, people, base.dsr_px)
    return {"mc_iou": iou, "pve": found.pve, "mpjpe": found.mpjpe, "pa_mpjpe": found.pa_mpjpe}


@torch.no_grad()
def agreement(answer, criterion: Criterion, people: People, dsr_px: int) -> np.ndarray:
    """[N] pixel agreement of the people's minimally-clothed regions; 1 where there is none and none is rendered.

    answer: sample of `load_sample` -> Prediction of one person."""
    values = []
    for row in range(len(people)):
        sample = load_sample(people, row, Change(), Semantics(), dsr_px)
        batch = {key: torch.from_numpy(value)[None] for key, value in sample.items()}
        bodies = criterion.bodies(answer(sample))
        targets, camera = targets_of(batch), crop_camera(bodies.vertices_cam)
        prob = criterion.semantics.render(bodies.vertices_cam, *camera, targets)[0, ..., 4]
        valid = targets.valid[0] > 0.5
        shown, seen = (prob > 0.5) & valid, (targets.mc[0] > 0.5) & valid
        union = int((shown | seen).sum())
        values.append(int((shown & seen).sum()) / union if union else 1.0)
    return np.array(values)


def true_body(sample: dict, criterion: Criterion) -> Prediction:
    """A sample's own body, in the weak-perspective camera that lays its keypoints best on the sample's."""
    rotations, betas = (torch.from_numpy(sample[key])[None] for key in ("rotations", "betas"))
    points = (criterion.targets @ criterion.body.points(criterion.body(betas, rotations)))[0, :, :2].numpy()
    seen = sample["keypoints_px"][:, 2] > 0
    there = sample["keypoints_px"][seen, :2] / (CROP_PX / 2) - 1
    columns = np.zeros((seen.sum(), 2, 3))
    columns[..., 0], columns[:, 0, 1], columns[:, 1, 2] = points[seen], 1, 1
    s, x, y = np.linalg.lstsq(columns.reshape(-1, 3), there.reshape(-1), rcond=None)[0]
    return Prediction(rotations, betas, torch.tensor([[s, x / s, y / s]]).float())


if __name__ == "__main__":
    from benchmarks.overfit64 import main as by_name  # worker processes find its functions by this name

    by_name()
