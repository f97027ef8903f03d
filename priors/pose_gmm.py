"""Gaussian mixture prior over body pose: SMPLify's max-mixture energy.

METHOD.md section 1: E_pose = min_m [ 1/2 (theta - mu_m)^T Sigma_m^-1 (theta - mu_m) - log(c g_m) ] with, as
in SMPLify, g_m = w_m sqrt(min_k det Sigma_k) / sqrt(det Sigma_m) and c = 1, so the energy is never negative
(g_m <= w_m <= 1).

The shipped mixture is learned by `python -m synth.pose_priors`. It holds half of its components; the other
half are their left/right mirror images, evaluated by mirroring the pose, so that a mirrored pose has the same
energy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

DEFAULT_PATH = Path(__file__).parent / "data" / "pose_gmm.npz"
BODY_POSE_DIM = 69
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)

# SMPL joints 1..23: which joint is the mirror image of which, and the sign of each axis-angle entry under x
# -> -x.
_MIRROR_JOINT = [2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]


def mirror_body_pose(body_pose: torch.Tensor) -> torch.Tensor:
    """Left/right mirror image of body poses [B, 69] (axis-angle of SMPL joints 1..23) -> [B, 69]."""
    joints = body_pose.reshape(-1, 23, 3)[:, [joint - 1 for joint in _MIRROR_JOINT]]
    return (joints * joints.new_tensor([1.0, -1.0, -1.0])).reshape(body_pose.shape)


class PoseGMM(nn.Module):
    """Max-mixture energy of body pose.

    means: [M, 69] radians. covars: [M, 69, 69]. weights: [M], positive; of the whole mixture, so they sum to
    1, or to 1/2 where `mirrored`.
    mirrored: each component stands for itself and its left/right mirror image.
    energy_percentiles: {percentile: energy} over mocap poses, None if unknown.

    Raises ValueError for other shapes, or a covariance that is not positive definite.
    """

    def __init__(self, means, covars, weights, mirrored: bool = False, energy_percentiles=None):
        super().__init__()
        means, covars, weights = (np.asarray(array, dtype=np.float64) for array in (means, covars, weights))
        count = len(weights)
        if means.shape != (count, BODY_POSE_DIM) or covars.shape != (count, BODY_POSE_DIM, BODY_POSE_DIM):
            raise ValueError(
                f"pose GMM: expected means [M, 69], covars [M, 69, 69], weights [M], got {means.shape}, "
                f"{covars.shape}, {weights.shape}"
            )
        try:
            factors = np.linalg.cholesky(covars)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                "pose GMM: expected positive definite covariances, got one that is not"
            ) from error
        log_sqrt_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
        log_g = np.log(weights) - (log_sqrt_det - log_sqrt_det.min())
        whitening = np.linalg.inv(factors)  # d^2 = |L^-1 (theta - mu)|^2
        self.mirrored = bool(mirrored)
        self.energy_percentiles = dict(energy_percentiles or {})
        self.register_buffer("means", torch.tensor(means, dtype=torch.float32))
        self.register_buffer("whitening", torch.tensor(whitening, dtype=torch.float32))
        self.register_buffer("neg_log_g", torch.tensor(-log_g, dtype=torch.float32))
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float32))
        self.register_buffer("weights", torch.tensor(weights / weights.sum(), dtype=torch.float32))

    @property
    def mean(self) -> torch.Tensor:
        """Mean pose of the mixture [69] radians: where a fit may start. Symmetric where `mirrored`."""
        mean = (self.weights[:, None] * self.means).sum(0)
        return (mean + mirror_body_pose(mean[None])[0]) / 2 if self.mirrored else mean

    def _component_energies(self, body_pose: torch.Tensor) -> torch.Tensor:
        whitened = torch.einsum("mij,bmj->bmi", self.whitening, body_pose[:, None] - self.means)
        return 0.5 * whitened.square().sum(-1) + self.neg_log_g

    def energy(self, body_pose: torch.Tensor) -> torch.Tensor:
        """Max-mixture energy of body poses [B, 69] (radians, axis-angle) -> [B], >= 0. METHOD.md section 1.

        Raises ValueError for another shape.
        """
        if body_pose.ndim != 2 or body_pose.shape[1] != BODY_POSE_DIM:
            raise ValueError(f"pose GMM: expected body_pose [B, 69], got {tuple(body_pose.shape)}")
        return self.component_energies(body_pose).min(dim=1).values

    def component_energies(self, body_pose: torch.Tensor) -> torch.Tensor:
        """Energy of body poses [B, 69] under every component, the mirrored ones last: [B, M] or [B, 2 M]."""
        energies = self._component_energies(body_pose)
        if not self.mirrored:
            return energies
        return torch.cat([energies, self._component_energies(mirror_body_pose(body_pose))], 1)

    def rank(self, body_pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Energy [B] of poses [B, 69] and its percentile [B] among motion capture poses, linear between those stored.

        100 stands for anything beyond the last percentile stored.
        """
        energy = self.energy(body_pose)
        levels = [0.0, *sorted(self.energy_percentiles), 100.0]
        at = [0.0, *(self.energy_percentiles[level] for level in levels[1:-1])]
        rank = np.interp(energy.detach().cpu().numpy(), at, levels[:-1], right=levels[-1])
        return energy, torch.as_tensor(rank)

    def sample(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw body poses [count, 69] from the mixture."""
        device = self.means.device
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, BODY_POSE_DIM, generator=generator, device=device)
        poses = self.means[component] + torch.einsum("bij,bj->bi", self.factors[component], noise)
        if self.mirrored:
            flip = torch.rand(count, generator=generator, device=device) < 0.5
            poses = torch.where(flip[:, None], mirror_body_pose(poses), poses)
        return poses


def load_pose_gmm(path: str | Path | None = None) -> PoseGMM:
    """Load a mixture: the shipped one, or an npz of `means` [M, 69], `covars` [M, 69, 69], `weights` [M].

    Optional keys: `mirrored`, `energy_percentiles` (one value for each of PERCENTILES). SMPLify's
    `gmm_08.pkl` holds the same three arrays under these names; save them with `numpy.savez` to use it.

    Raises ValueError for a pickle or missing keys, FileNotFoundError where there is no such file.
    """
    path = Path(path) if path is not None else DEFAULT_PATH
    if path.suffix == ".pkl":
        raise ValueError(
            f"pose GMM {path}: expected an npz, got a pickle, which could run code; where you trust it, "
            "unpickle it yourself and numpy.savez(out, means=..., covars=..., weights=...)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"pose GMM {path}: no such file; leave the path out for the shipped mixture")
    with np.load(path, allow_pickle=False) as data:
        missing = {"means", "covars", "weights"} - set(data.files)
        if missing:
            raise ValueError(
                f"pose GMM {path}: expected keys means, covars, weights, got no {', '.join(sorted(missing))}"
            )
        percentiles = None
        if "energy_percentiles" in data.files:
            percentiles = dict(
                zip(PERCENTILES, data["energy_percentiles"].astype(float).tolist(), strict=True)
            )
        return PoseGMM(
            data["means"],
            data["covars"],
            data["weights"],
            mirrored=bool(data["mirrored"]) if "mirrored" in data.files else False,
            energy_percentiles=percentiles,
        )
