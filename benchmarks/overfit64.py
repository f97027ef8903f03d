"""Figure 4 with the network: overfit 64 people for 100 steps, on 2D and 3D joints alone and with the DSR terms.

    python -m benchmarks.overfit64 [--people DIR] [--checkpoint FILE] [--seeds 3] [--quick]

The run is configs/overfit64.yaml's: batches of 64 drawn from the 64, no augmentation but of the keypoints that limb
maps are drawn from, exact labels; both runs start from the same network (`python train.py --config
configs/synthetic.yaml` makes it), which never saw these people. Seeds differ in who is drawn when. Pixel agreement: IoU
of where the rendered probability of minimally-clothed labels exceeds 1/2 and where the labels say so. Interval: 95 %,
bootstrap over people of the mean over seeds, paired.
"""

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy import change_mm
from benchmarks.report import Table, write_results
from fitter.body import load_body
from fitter.cli import read_config
from fitter.config import Semantics
from fitter.losses import CROP_PX
from regressor.cli import make_if_missing
from regressor.config import TrainConfig
from regressor.data import Change, People, load_people, load_sample
from regressor.evaluation import evaluate
from regressor.hmr import Prediction, to_input
from regressor.losses import Criterion, crop_camera, targets_of
from regressor.training import Trainer

PRESET = Path(__file__).parents[1] / "configs" / "overfit64.yaml"
ROWS = ("before", "joints", "dsr")


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
        row: [values for (name, _), values in zip(runs, measured, strict=True) if name == row] for row in ROWS
    }
    criterion = Criterion(load_body(base.body), base.semantics)
    best = agreement(lambda sample: true_body(sample, criterion), criterion, load_people(source), base.dsr_px)
    mean = {
        row: {key: np.mean([run[key] for run in runs], 0) for key in runs[0]} for row, runs in found.items()
    }
    lines = [(row, *(float(np.nanmean(values[key])) for key in values)) for row, values in mean.items()]
    lines.append(("the true bodies", float(np.mean(best)), 0.0, 0.0, 0.0))
    table = Table(f"{source.count} people, {base.steps} steps, {seeds} seeds", ("row", *mean["dsr"]), lines)
    changes = [
        (key, change_mm(mean["dsr"][key], mean["joints"][key])) for key in mean["dsr"] if key != "mc_iou"
    ]
    gain = 100 * (mean["dsr"]["mc_iou"] - mean["joints"]["mc_iou"])
    changes.append(("mc_iou, points", change_mm(gain, np.zeros_like(gain))))
    paired = Table("With DSR against joints alone", ("measure", "change"), changes)
    figures = {
        name: (float(np.nanmean(mean[row][key])), unit)
        for row in ("joints", "dsr")
        for name, key, unit in (
            (f"overfit_iou_{row}", "mc_iou", "IoU"),
            (f"overfit_pve_{row}_mm", "pve", "mm"),
        )
    }
    write_results("overfit64_quick" if options.quick else "overfit64", __doc__, figures, [table, paired])


def one_run(base: TrainConfig, row: str, seed: int) -> dict[str, np.ndarray]:
    """Measures [N] of the people: of the network before, after joints alone, after joints and DSR."""
    if row == "joints":
        base = replace(base, weights=replace(base.weights, mc=0, c=0))
    torch.set_num_threads(1)
    people = load_people(base.data[0])
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(replace(base, out=scratch, seed=seed))
        if row != "before":
            trainer.run()
    found = evaluate(trainer.net, people, trainer.criterion)
    trainer.net.eval()

    def answer(sample: dict) -> Prediction:
        image, limbs = (torch.from_numpy(sample[key])[None] for key in ("image", "limbs"))
        return trainer.net(to_input(image), limbs)

    iou = agreement(answer, trainer.criterion, people, base.dsr_px)
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
