"""Figure 4 with the network: overfit 64 people for 100 steps, on 3D joints alone and with the DSR terms.

    python -m benchmarks.overfit64 --people DIR --checkpoint FILE [--quick]

--people: a folder of `synth.dataset`, of which the first 64 are learned; --checkpoint: a trained network
(`python train.py --config configs/synthetic.yaml` makes one), from which both runs start. Batches of all 64, no
augmentation, exact labels. Pixel agreement: IoU of where the rendered probability of minimally-clothed labels exceeds
1/2 and where the labels say so.
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
from fitter.config import Semantics
from regressor.config import Augmentation, LossWeights, Source, TrainConfig
from regressor.data import Change, People, load_people, load_sample
from regressor.evaluation import evaluate
from regressor.hmr import to_input
from regressor.losses import crop_camera, targets_of
from regressor.training import Trainer

PEOPLE, STEPS, RATE, DSR_PX = 64, 100, 1e-4, 64
STILL = Augmentation(flip=0, noise=0, rotation_deg=0, no_rotation=1, scale=0)
JOINTS = LossWeights(keypoints=0, pose=0, shape=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    count, steps = (8, 10) if options.quick else (PEOPLE, STEPS)
    file, labels = str(options.people / "dataset.npz"), str(options.people / "labels")
    source = Source("people", file, str(options.people), labels, count=count)
    people = load_people(source)
    base = TrainConfig(data=(source,), start=options.checkpoint, batch=count, rate=RATE, steps=steps, dsr_from=0,
                       dsr_px=DSR_PX, weights=JOINTS, augmentation=STILL, validate_every=10**9, workers=0)  # fmt: skip
    lines, figures = [], {}
    for name, weights in (("before", None), ("joints", replace(JOINTS, mc=0, c=0)), ("dsr", JOINTS)):
        with tempfile.TemporaryDirectory() as scratch:
            trainer = Trainer(replace(base, out=scratch, weights=weights or JOINTS))
            if weights:
                trainer.run()
        found = evaluate(trainer.net, people, trainer.criterion)
        iou = agreement(trainer, people)
        lines.append((name, iou, *(float(np.nanmean(v)) for v in (found.pve, found.mpjpe, found.pa_mpjpe))))
        if weights:
            figures[f"overfit_iou_{name}"] = (iou, "IoU")
            figures[f"overfit_pve_{name}_mm"] = (float(np.nanmean(found.pve)), "mm")
    table = Table(f"{count} people, {steps} steps", ("row", "MC IoU", "PVE", "MPJPE", "PA-MPJPE"), lines)
    write_results("overfit64_quick" if options.quick else "overfit64", __doc__, figures, [table])


@torch.no_grad()
def agreement(trainer: Trainer, people: People) -> float:
    """Mean pixel agreement of the people's minimally-clothed regions."""
    trainer.net.eval()
    values = []
    for row in range(len(people)):
        sample = load_sample(people, row, Change(), Semantics(), DSR_PX)
        batch = {key: torch.from_numpy(value)[None] for key, value in sample.items()}
        bodies = trainer.criterion.bodies(trainer.net(to_input(batch["image"])))
        targets, camera = targets_of(batch), crop_camera(bodies.vertices_cam)
        prob = trainer.criterion.semantics.render(bodies.vertices_cam, *camera, targets)[0, ..., 4]
        valid = targets.valid[0] > 0.5
        shown, seen = (prob > 0.5) & valid, (targets.mc[0] > 0.5) & valid
        if seen.any():
            values.append(float((shown & seen).sum() / (shown | seen).sum()))
    return float(np.mean(values))


if __name__ == "__main__":
    main()
