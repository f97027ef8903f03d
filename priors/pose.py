"""The two body-pose priors behind one face: the optimiser moves a latent, the prior turns it into a pose.

GMM (SMPLify, ECCV 2016): the latent is the pose itself. VPoser (SMPLify-X, CVPR 2019): 32 numbers, N(0, I).
"""

from typing import Protocol

import torch
from torch import Tensor

from priors.pose_gmm import load_pose_gmm
from priors.skeleton import mirror_pose


class PosePrior(Protocol):
    """name: gmm or vposer; latent [N, D]; body_pose [N, 69] axis-angle rad."""

    name: str

    def starts(self, count: int) -> Tensor:
        """First guesses [<= count, D], the prior's mean first."""

    def body_pose(self, latent: Tensor) -> Tensor:
        """Joint rotations [N, 69] rad of a latent."""

    def latent(self, body_pose: Tensor) -> Tensor:
        """The latent [N, D] of joint rotations [N, 69] rad, or of the nearest that the prior can express."""

    def energy(self, latent: Tensor, down: Tensor | None = None) -> Tensor:
        """Negative log prior [N], up to a constant; with down [N, 3], the direction of gravity in the pelvis's frame,
        of both."""

    def quadratic(self, latent: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The energy [N] with its gradient [N, D + 3] by latent and down, and a positive second derivative
        [N, D + 3, D + 3], the likeliest component held."""

    def chain(self, d_pose: Tensor, latent: Tensor) -> Tensor:
        """Derivatives by body pose [N, ..., 69] -> derivatives by latent [N, ..., D]."""

    def rank(self, body_pose: Tensor) -> tuple[Tensor, Tensor]:
        """GMM energy [N], and the percentile [N] of motion capture poses that have less (100: beyond the 99.9th)."""


class GmmPrior(torch.nn.Module):
    """The latent is the body pose."""

    name = "gmm"

    def __init__(self, dtype):
        super().__init__()
        self.gmm = load_pose_gmm().to(dtype)
        others = self.gmm.means
        if self.gmm.knows_gravity:  # then `mean` is the heaviest component's, made symmetric
            heaviest = int(self.gmm.weights.argmax())
            others = torch.cat([others[:heaviest], others[heaviest + 1 :]])
        mirrored = [mirror_pose(others)] if self.gmm.mirrored else []
        self.register_buffer(
            "first_guesses", torch.cat([self.gmm.mean[None], others, *mirrored]), persistent=False
        )

    def starts(self, count: int) -> Tensor:
        return self.first_guesses[:count]

    def body_pose(self, latent: Tensor) -> Tensor:
        return latent

    def latent(self, body_pose: Tensor) -> Tensor:
        return body_pose

    def energy(self, latent: Tensor, down: Tensor | None = None) -> Tensor:
        return self.gmm.energy(latent, down if self.gmm.knows_gravity else None)

    def quadratic(self, latent: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.gmm.knows_gravity:
            return self.gmm.quadratic(latent, down)
        value, gradient, curvature = self.gmm.quadratic(latent)
        pad = torch.nn.functional.pad
        return value, pad(gradient, (0, 3)), pad(curvature, (0, 3, 0, 3))

    def chain(self, d_pose: Tensor, latent: Tensor) -> Tensor:
        return d_pose

    def rank(self, body_pose: Tensor) -> tuple[Tensor, Tensor]:
        return self.gmm.rank(body_pose)


def load_pose_prior(name: str, vposer_path: str | None, dtype) -> PosePrior:
    """gmm, or vposer with our own weights or the official checkpoint at `vposer_path`."""
    if name == "gmm":
        return GmmPrior(dtype)
    if name == "vposer":
        from priors.vposer import load_vposer_prior

        return load_vposer_prior(vposer_path, dtype)
    raise ValueError(f"pose prior: expected 'gmm' or 'vposer', got {name!r}")
