"""Priors of one line each: joints that bend the wrong way, and body shape. SMPLify (ECCV 2016), section 3.1."""

from torch import Tensor

# body_pose entries that bend: left elbow, right elbow, left knee, right knee; sign +1 where positive is unnatural
BENDING_ENTRIES = (52, 55, 9, 12)
BENDING_SIGNS = (1.0, -1.0, -1.0, -1.0)


def angle_energy(body_pose: Tensor) -> Tensor:
    """Sum of exp(+-theta)^2 over elbows and knees: small when bent as nature has it. [B, 69] rad -> [B]."""
    signed = body_pose[:, list(BENDING_ENTRIES)] * body_pose.new_tensor(BENDING_SIGNS)
    return signed.exp().square().sum(1)


def shape_energy(betas: Tensor) -> Tensor:
    """Squared length of the shape coefficients, [B, 10] -> [B]."""
    return betas.square().sum(1)
