"""How well a pose prior fills in what an observation leaves open, on poses that it has never seen.

Three tasks on joints of the mean SMPL skeleton, pelvis at the origin, global orientation known:

- lift: the joints' image in a frontal orthographic camera, depth unknown: what fitting to keypoints has to solve;
- complete: 3D joints above the hips only, legs unknown: a person cut off by the frame;
- denoise: 3D joints with 5 cm of noise.

Each is the minimum of  data term + weight * prior energy  from the prior's mean, with the same optimiser, and each prior
gets the weight that suits it best on a set of training poses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from synth.mocap import SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS

NOISE_M = 0.05
PIXEL_NOISE_M = 0.01
STEPS = 200
STEP_SIZE = 0.03
_UPPER = [j for j, n in enumerate(SMPL_JOINTS) if n.rpartition("_")[2] not in ("knee", "ankle", "foot")]
_LEGS = [j for j, n in enumerate(SMPL_JOINTS) if n.rpartition("_")[2] in ("knee", "ankle", "foot")]
# Hands and toes hang on nothing that a detector sees.
_SEEN = [j for j, n in enumerate(SMPL_JOINTS) if n.rpartition("_")[2] not in ("hand",)]


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
    """Joints [B, 24, 3] metres of the mean SMPL skeleton in poses [B, 72], pelvis at the origin; differentiable."""
    from smplx.lbs import batch_rodrigues

    local = batch_rodrigues(pose.reshape(-1, 3)).reshape(-1, 24, 3, 3)
    rest = torch.tensor(SMPL_REST_JOINTS, dtype=pose.dtype)
    rotations, positions = [local[:, 0]], [pose.new_zeros(len(pose), 3)]
    for joint in range(1, 24):
        parent = SMPL_PARENTS[joint]
        positions.append(positions[parent] + rotations[parent] @ (rest[joint] - rest[parent]))
        rotations.append(rotations[parent] @ local[:, joint])
    return torch.stack(positions, dim=1)


def aligned_error_mm(joints: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """PA-MPJPE [B] in mm of joints [B, J, 3] metres after the best similarity transform onto the truth [B, J, 3]."""
    x = joints - joints.mean(1, keepdims=True)
    y = truth - truth.mean(1, keepdims=True)
    u, s, vt = np.linalg.svd(np.einsum("bji,bjk->bik", x, y))
    sign = np.ones((len(x), 3))
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(1) / (x**2).sum((1, 2))
    return 1000 * np.linalg.norm(scale[:, None, None] * (x @ rotation) - y, axis=2).mean(1)


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
