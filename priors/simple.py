"""The priors that need no learning: bending axes of elbows and knees, and body shape."""

from __future__ import annotations

import torch

# Entries of body_pose [69] about which left elbow, right elbow, left knee, right knee bend, and the sign that
# makes the natural bend negative (METHOD.md section 1; as in SMPLify).
BENDING_ENTRIES = (52, 55, 9, 12)
BENDING_SIGNS = (1.0, -1.0, -1.0, -1.0)


def angle_energy(body_pose: torch.Tensor) -> torch.Tensor:
    """Penalty of elbows and knees that bend backward: sum of exp(+-theta)^2 over the four bending axes.

    body_pose: [B, 69] axis-angle, radians. Returns [B], 4 for straight limbs, towards 0 the more they bend.
    METHOD.md section 1.
    """
    if body_pose.ndim != 2 or body_pose.shape[1] != 69:
        raise ValueError(f"angle_energy: expected body_pose [B, 69], got {tuple(body_pose.shape)}")
    backward = body_pose[:, list(BENDING_ENTRIES)] * body_pose.new_tensor(BENDING_SIGNS)
    return torch.exp(backward).square().sum(dim=1)


def shape_energy(betas: torch.Tensor) -> torch.Tensor:
    """Squared length of the shape coefficients [B, 10], standard normal in the model -> [B]. METHOD.md 1."""
    return betas.square().sum(dim=1)
