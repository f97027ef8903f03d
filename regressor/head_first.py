"""The head of `regressor.lite` alone, learned from looks at people whose features the trunk gives once.

On a CPU a step through the trunk costs as much as a hundred of the head, which begins from nothing while the trunk does
not: so it learns first, from kept features, what they and the lifter's answer say of the body.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fitter.body.model import BodyModel
from fitter.energy.losses import CROP_PX
from fitter.energy.objective import keypoint_model
from fitter.see.keypoints import SOURCES
from regressor.hmr import HMR, Prediction, from_input, hints_of, project_crop, to_input

BATCH, RATE, DECAY = 128, 1e-3, 0.3  # of AdamW; the head has more weights than there are looks
STEPS_A_LOOK = 0.1
WEIGHTS = {"rotation": 1.0, "point": 8.0, "keypoint": 4.0, "shape": 0.05}
OFFSET = 10**6  # looks are drawn as a run's steps from here on


@dataclass(frozen=True)
class Looks:
    """N looks: sampled [N, 33, C] float16 and pooled [N, F] float16: `LiteTrunk.look`'s; what the network is told; and
    the truth: rotations [N, 24, 3, 3], betas [N, 10], keypoints_px [N, 25, 3] of the crop, has_smpl [N]."""

    sampled: Tensor
    pooled: Tensor
    keypoints: Tensor
    lifted: Tensor
    rotations: Tensor
    betas: Tensor
    keypoints_px: Tensor
    has_smpl: Tensor

    def rows(self, index: Tensor) -> "Looks":
        return Looks(*(part[index] for part in vars(self).values()))


@torch.no_grad()
def look(net: HMR, loader: DataLoader, device: str, show=lambda batches: batches) -> Looks:
    """What the trunk sees in a loader's batches; show: of a progress bar."""
    found = []
    for batch in show(loader):
        batch = {key: value.to(device) for key, value in batch.items() if key != "name"}
        hints = hints_of(batch)
        sampled, pooled = net.backbone.look(
            from_input(to_input(batch["image"])), hints.limbs, hints.keypoints
        )
        truth = (batch[name] for name in ("rotations", "betas", "keypoints_px", "has_smpl"))
        found.append((sampled.half(), pooled.half(), hints.keypoints, hints.lifted, *truth))
    return Looks(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def learn_head(net: HMR, looks: Looks, body: BodyModel, seed: int, say=print) -> None:
    """Trains `net.head` and the features at points; the rate falls to 0. has_smpl 0: keypoints alone teach."""
    torch.manual_seed(seed)
    model = keypoint_model(body)
    weights = [*net.backbone.points.parameters(), *net.head.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY)
    steps = round(STEPS_A_LOOK * len(looks.betas))
    net.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        batch = looks.rows(torch.randint(len(looks.betas), (BATCH,)).to(looks.betas.device))
        features = net.backbone.features_of(batch.sampled.float(), batch.pooled.float(), batch.keypoints)
        terms = terms_of(net.corrected(features, batch.keypoints, batch.lifted), batch, model)
        loss = sum(WEIGHTS[name] * value for name, value in terms.items())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if (step + 1) % 200 == 0 or step + 1 == steps:
            point = 1000 * float(terms["point"])
            say(f"head: step {step + 1} of {steps}: keypoints {point:.0f} mm from the truth's")


def terms_of(found: Prediction, batch: Looks, model: nn.Module) -> dict[str, Tensor]:
    """Means over people: distances of rotations, of the body's keypoints about the pelvis [m], of those seen in the
    crop [half a crop]; squared error of betas."""
    kind = torch.full((len(found.betas),), SOURCES.index("openpose"), device=found.betas.device)
    has = batch.has_smpl

    def points(rotations: Tensor, betas: Tensor) -> Tensor:
        return model(betas, rotations[:, 1:], kind).points @ rotations[:, 0].transpose(1, 2)

    own = points(found.rotations, found.betas)
    with torch.no_grad():
        true = points(batch.rotations, batch.betas)
    seen = (batch.keypoints_px[..., 2] > 0) + 0.0
    off = (project_crop(own, found.cam) - batch.keypoints_px[..., :2]) * (2 / CROP_PX)
    return {
        "rotation": mean_of(
            (found.rotations - batch.rotations).square().sum((2, 3)).add(1e-4).sqrt().mean(1), has
        ),
        "point": mean_of((own - true).square().sum(-1).add(1e-6).sqrt().mean(1), has),
        "keypoint": mean_of(off.square().sum(-1).add(1e-6).sqrt(), seen),
        "shape": mean_of((found.betas - batch.betas).square().mean(1), has),
    }


def mean_of(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)
