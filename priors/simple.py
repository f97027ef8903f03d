"""The priors that need no learning: joint limits, bending axes of elbows and knees, body shape, level cameras."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
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
    bends = zip(BENDING_ENTRIES, BENDING_SIGNS, strict=True)
    backward = torch.stack([sign * body_pose[:, entry] for entry, sign in bends], 1)
    return torch.exp(backward).square().sum(dim=1)


# How far joints go, degrees about x, y, z of the rest pose (left side; the right one is its mirror image), where limits
# decide: hinges that do not turn over, and the spine. Ranges of motion as in clinical goniometry (American Academy of
# Orthopaedic Surgeons), a few degrees wider.
LIMITS_DEG = {
    "knee": ((-3, 150), (-25, 25), (-8, 8)),
    "ankle": ((-30, 55), (-40, 40), (-30, 30)),
    "elbow": ((-100, 100), (-150, 5), (-20, 80)),  # its axis is tilted: people bend it about y and z at once
    "spine1": ((-25, 60), (-30, 30), (-25, 25)),
    "spine2": ((-20, 45), (-30, 30), (-25, 25)),
    "spine3": ((-20, 30), (-25, 25), (-20, 20)),
    "neck": ((-40, 45), (-50, 50), (-35, 35)),
    "head": ((-50, 50), (-50, 50), (-35, 35)),
}
LIMIT_SOFTNESS_DEG = 3.0
_LIMITED = {  # joint name -> number among joints 1..23, left first
    "knee": (4, 5), "ankle": (7, 8), "elbow": (18, 19), "spine1": (3,), "spine2": (6,), "spine3": (9,),
    "neck": (12,), "head": (15,),
}  # fmt: skip


@lru_cache(maxsize=1)
def joint_limits() -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest entries of body_pose, each [69] rad; infinite where nothing limits them."""
    low, high = np.full((23, 3), -np.inf), np.full((23, 3), np.inf)
    for name, joints in _LIMITED.items():
        ends = np.radians(np.array(LIMITS_DEG[name], float))
        low[joints[0] - 1], high[joints[0] - 1] = ends.T
        if len(joints) == 2:
            low[joints[1] - 1], high[joints[1] - 1] = _mirrored(ends).T
    return low.reshape(-1), high.reshape(-1)


def _mirrored(ends: np.ndarray) -> np.ndarray:
    """Ranges [3, 2] of the other side: rotations about y and z change sign."""
    return np.stack([ends[0], -ends[1, ::-1], -ends[2, ::-1]])


@lru_cache(maxsize=8)
def _limits_like(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.as_tensor(ends).to(device, dtype) for ends in joint_limits())


def limit_excess(body_pose: torch.Tensor) -> torch.Tensor:
    """How far body_pose [B, 69] lies beyond joint_limits, in units of LIMIT_SOFTNESS_DEG, signed, [B, 69]."""
    low, high = _limits_like(body_pose.dtype, body_pose.device)
    beyond = (body_pose - high).clamp(min=0) - (low - body_pose).clamp(min=0)
    return beyond / np.radians(LIMIT_SOFTNESS_DEG)


def limit_energy(body_pose: torch.Tensor) -> torch.Tensor:
    """Half the squared excess over all joint limits: [B, 69] rad -> [B], 0 within them."""
    return 0.5 * limit_excess(body_pose).square().sum(1)


def down_in_camera(tilt: torch.Tensor) -> torch.Tensor:
    """Which way is down in the camera frame. tilt [B, 2] rad: pitch, positive looking down, and roll -> [B, 3] unit."""
    pitch, roll = tilt.unbind(-1)
    return torch.stack([-roll.sin() * pitch.cos(), roll.cos() * pitch.cos(), pitch.sin()], -1)


def down_by_tilt(tilt: torch.Tensor) -> torch.Tensor:
    """Derivative [B, 3, 2] of `down_in_camera` by pitch and roll."""
    pitch, roll = tilt.unbind(-1)
    zero = torch.zeros_like(pitch)
    by_pitch = torch.stack([roll.sin() * pitch.sin(), -roll.cos() * pitch.sin(), pitch.cos()], -1)
    by_roll = torch.stack([-roll.cos() * pitch.cos(), -roll.sin() * pitch.cos(), zero], -1)
    return torch.stack([by_pitch, by_roll], -1)


def shape_energy(betas: torch.Tensor) -> torch.Tensor:
    """Squared length of the shape coefficients [B, 10], standard normal in the model -> [B]. METHOD.md 1."""
    return betas.square().sum(dim=1)
