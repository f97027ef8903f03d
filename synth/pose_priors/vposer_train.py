"""Train VPoser's network (human_body_prior's class) as a variational autoencoder on mocap poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from priors.skeleton import mirror_pose
from priors.vposer import JOINTS, vposer_v1
from synth.pose_priors.compare import torch_joints

NEURONS, LATENT = 512, 32
BATCH = 512
EPOCHS = 60
LEARNING_RATE = 1e-3
# What counts as a good reconstruction, against the latent's nat: these deviations of rotation and of joint
# position.
ROTATION_STD = 0.15  # rad
JOINT_STD_M = 0.03
INPUT_NOISE = 0.06  # rad on the encoder's input; also gives the still joints a variance


def _matrices(poses: torch.Tensor) -> torch.Tensor:
    """Rotations [B, 21, 3, 3] of body poses [B, 63]."""
    from smplx.lbs import batch_rodrigues

    return batch_rodrigues(poses.reshape(-1, 3)).reshape(-1, JOINTS, 3, 3)


def _joints(rotations: torch.Tensor) -> torch.Tensor:
    """Joints [B, 24, 3] of body rotations [B, 21, 3, 3], facing forward, hands straight."""
    eye = torch.eye(3).expand(len(rotations), 1, 3, 3)
    return torch_joints(torch.cat([eye, rotations, eye, eye], dim=1))


def _misfit(decoded: torch.Tensor, rotations: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood [B], up to a constant, of decoded rotations [B, 21, 3, 3]."""
    chordal = (decoded - rotations).square().sum(
        (1, 2, 3)
    ) / 2  # the sum of squared angles where they are small
    offset = (_joints(decoded) - joints).square().sum((1, 2))
    return chordal / (2 * ROTATION_STD**2) + offset / (2 * JOINT_STD_M**2)


def train_vposer(poses: np.ndarray, seed: int = 0, epochs: int = EPOCHS, log=print) -> dict[str, np.ndarray]:
    """Train on body poses [N, 69] and their mirror images; returns the state dict, float16."""
    torch.manual_seed(seed)
    data = torch.tensor(np.concatenate([poses, mirror_pose(poses)])[:, : JOINTS * 3], dtype=torch.float32)
    rotations = _matrices(data)
    joints = _joints(rotations)
    network = vposer_v1(NEURONS, LATENT)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    batches = len(data) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=epochs * batches)
    for epoch in range(epochs):
        order = torch.randperm(len(data))
        sums = torch.zeros(2)
        for batch in range(batches):
            chosen = order[batch * BATCH : (batch + 1) * BATCH]
            pose = data[chosen]
            posterior = network.encode(pose + INPUT_NOISE * torch.randn_like(pose))
            decoded = network.decode(posterior.rsample()).reshape(-1, JOINTS, 3, 3)
            divergence = 0.5 * (posterior.scale**2 + posterior.mean**2 - 1 - 2 * posterior.scale.log()).sum(1)
            rebuilt = _misfit(decoded, rotations[chosen], joints[chosen])
            loss = (rebuilt + divergence).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            sums += torch.stack([rebuilt.mean(), divergence.mean()]).detach()
        if epoch % 10 == 9:
            rebuilt, divergence = (sums / batches).tolist()
            log(f"vposer epoch {epoch + 1}: reconstruction {rebuilt:.2f}, divergence {divergence:.2f}")
    return {name: _compact(value.numpy()) for name, value in network.eval().state_dict().items()}


def _compact(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16) if array.dtype.kind == "f" else array


def save_vposer(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Write the weights as an npz of arrays."""
    np.savez_compressed(path, **weights)
