"""How well a pose prior fills in what an observation leaves open, on poses that it has never seen.

Three tasks on joints of the mean SMPL skeleton, pelvis at the origin, global orientation known:

- lift: the joints' image in a frontal orthographic camera, depth unknown: what fitting to keypoints has to
  solve;
- complete: 3D joints above the hips only, legs unknown: a person cut off by the frame;
- denoise: 3D joints with 5 cm of noise.

Each is the minimum of  data term + weight * prior energy  from the prior's mean, with the same optimiser, and
each prior gets the weight that suits it best on a set of training poses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from priors.skeleton import JOINT_NAMES
from priors.vposer import VPoserPrior
from synth.pose_priors.skeleton import PARENTS, REST_JOINTS

NOISE_M = 0.05
PIXEL_NOISE_M = 0.01
STEPS = 200
STEP_SIZE = 0.03
_UPPER = [j for j, n in enumerate(JOINT_NAMES) if n.rpartition("_")[2] not in ("knee", "ankle", "foot")]
_LEGS = [j for j, n in enumerate(JOINT_NAMES) if n.rpartition("_")[2] in ("knee", "ankle", "foot")]
# Hands and toes hang on nothing that a detector sees.
_SEEN = [j for j, n in enumerate(JOINT_NAMES) if n.rpartition("_")[2] not in ("hand",)]


def _generations() -> tuple[list[tuple[list[int], list[int]]], list[int]]:
    """Joints of each depth below the root with their parents' places one depth above; the inverse order."""
    above, result, order = [0], [], [0]
    while True:
        below = [joint for joint in range(24) if PARENTS[joint] in above]
        if not below:
            return result, [order.index(joint) for joint in range(24)]
        result.append((below, [above.index(PARENTS[joint]) for joint in below]))
        order += below
        above = below


_GENERATIONS, _TREE_ORDER = _generations()


@dataclass(frozen=True)
class Task:
    """observe: joints [B, 24, 3] -> observation [B, M] in metres; scored: the joints whose error counts."""

    name: str
    observe: Callable[[torch.Tensor], torch.Tensor]
    noise_m: float
    scored: list[int]


TASKS = (
    Task("lift", lambda joints: joints[:, _SEEN, :2].flatten(1), PIXEL_NOISE_M, _SEEN),
    Task("complete", lambda joints: joints[:, _UPPER].flatten(1), PIXEL_NOISE_M, _LEGS),
    Task("denoise", lambda joints: joints[:, _SEEN].flatten(1), NOISE_M, _SEEN),
)


def torch_joints(pose: torch.Tensor) -> torch.Tensor:
    """Joints [B, 24, 3] metres of the mean SMPL skeleton, pelvis at the origin; differentiable.

    pose: [B, 72] axis-angle, or local rotations [B, 24, 3, 3].
    """
    from smplx.lbs import batch_rodrigues

    local = batch_rodrigues(pose.reshape(-1, 3)).reshape(-1, 24, 3, 3) if pose.ndim == 2 else pose
    bones = torch.tensor(REST_JOINTS - REST_JOINTS[np.maximum(PARENTS, 0)], dtype=pose.dtype)
    turned, placed = local[:, :1], pose.new_zeros(len(pose), 1, 3)
    positions = [placed]
    for generation, parents_at in _GENERATIONS:
        placed = placed[:, parents_at] + (turned[:, parents_at] @ bones[generation, :, None])[..., 0]
        turned = turned[:, parents_at] @ local[:, generation]
        positions.append(placed)
    return torch.cat(positions, dim=1)[:, _TREE_ORDER]


def map_estimate(
    task: Task,
    pose: torch.Tensor,
    decode: Callable[[torch.Tensor], torch.Tensor],
    energy: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    weight: float,
    seed: int = 0,
) -> torch.Tensor:
    """Most likely body poses [B, 69] for what `task` shows of true poses [B, 72].

    decode: variable [B, D] -> body pose [B, 69]. energy: variable [B, D] -> [B]. start: [D].
    """
    generator = torch.Generator().manual_seed(seed)
    clean = task.observe(torch_joints(pose))
    target = clean + task.noise_m * torch.randn(clean.shape, generator=generator)
    variable = start.expand(len(pose), -1).clone().requires_grad_()
    optimiser = torch.optim.Adam([variable], lr=STEP_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS, eta_min=STEP_SIZE / 30)
    for _ in range(STEPS):
        full = torch.cat([pose[:, :3], decode(variable)], dim=1)
        misfit = (task.observe(torch_joints(full)) - target).square().sum(1) / (2 * task.noise_m**2)
        loss = (misfit + weight * energy(variable)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return decode(variable)


def joint_error_mm(task: Task, body_pose: torch.Tensor, pose: torch.Tensor) -> np.ndarray:
    """Mean joint error [B] in mm over the task's scored joints, without alignment."""
    with torch.no_grad():
        found = torch_joints(torch.cat([pose[:, :3], body_pose], dim=1))[:, task.scored]
        return 1000 * (found - torch_joints(pose)[:, task.scored]).norm(dim=2).mean(1).numpy()


@dataclass(frozen=True)
class Competitor:
    """A prior as `map_estimate` takes it, and the weights to choose from."""

    name: str
    decode: Callable[[torch.Tensor], torch.Tensor]
    energy: Callable[[torch.Tensor], torch.Tensor]
    start: torch.Tensor
    weights: tuple[float, ...]


def compare(competitors: list[Competitor], tuning: np.ndarray, test: np.ndarray) -> dict:
    """Errors of each competitor in each task on test poses [N, 72], its weight chosen on `tuning` [M, 72]."""
    tuning_pose, test_pose = (torch.tensor(pose, dtype=torch.float32) for pose in (tuning, test))
    table: dict[str, dict] = {}
    for task in TASKS:
        table[task.name] = {}
        for prior in competitors:

            def run(weight, pose, task=task, prior=prior):
                found = map_estimate(task, pose, prior.decode, prior.energy, prior.start, weight)
                return joint_error_mm(task, found, pose)

            weight = prior.weights[0]
            if len(prior.weights) > 1:
                weight = min(prior.weights, key=lambda candidate: run(candidate, tuning_pose).mean())
            errors = run(weight, test_pose)
            table[task.name][prior.name] = {
                "weight": weight,
                "median_mm": float(np.median(errors)),
                "mean_mm": float(errors.mean()),
                "p90_mm": float(np.percentile(errors, 90)),
            }
    return table


def reconstruction(vposer: VPoserPrior, pose: np.ndarray) -> dict:
    """What encoding and decoding poses [N, 72] loses: joints in mm, rotations in degrees."""
    full = torch.tensor(pose, dtype=torch.float32)
    with torch.no_grad():
        rebuilt = vposer.decode(vposer.encode(full[:, 3:]))
        moved = torch_joints(torch.cat([full[:, :3], rebuilt], dim=1))[:, _SEEN]
        errors = 1000 * (moved - torch_joints(full)[:, _SEEN]).norm(dim=2).mean(1).numpy()
    relative = Rotation.from_rotvec(rebuilt.reshape(-1, 3)).inv() * Rotation.from_rotvec(
        pose[:, 3:].reshape(-1, 3)
    )
    degrees = np.degrees(relative.magnitude()).reshape(len(pose), 23)[:, :21]
    return {
        "mean_mm": float(errors.mean()),
        "median_mm": float(np.median(errors)),
        "p90_mm": float(np.percentile(errors, 90)),
        "mean_deg": float(degrees.mean()),
    }
