"""EM for the body-pose mixture, tied so that the mixture is its own left/right mirror image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from fitter.body import JOINT_NAMES
from synth.pose_priors.skeleton import mirror_pose

# Standard deviation [rad] added to every entry: mocap error, retargeting, and what these few performers never
# do.
MOTION_FLOOR = 0.09
# Joints that this mocap holds still or lacks, although people move them.
STILL_JOINT_FLOOR = {"collar": 0.15, "hand": 0.15, "spine3": 0.12, "foot": 0.12}


@dataclass(frozen=True)
class Mixture:
    """Half of a mirror-symmetric mixture: means [K, 69], covars [K, 69, 69], weights [K] summing to 1/2.

    train_log_likelihood: mean over the learning set, of the whole mixture of 2K components.
    """

    means: np.ndarray
    covars: np.ndarray
    weights: np.ndarray
    train_log_likelihood: float


def variance_floor() -> np.ndarray:
    """Variance [69] rad^2 added to the diagonal of every component's covariance."""
    std = np.full((23, 3), MOTION_FLOOR)
    for joint, name in enumerate(JOINT_NAMES[1:]):
        std[joint] = STILL_JOINT_FLOOR.get(name.rpartition("_")[2], MOTION_FLOOR)
    return std.reshape(-1) ** 2


def _log_joint(poses: np.ndarray, mixture: Mixture) -> np.ndarray:
    """log w_k N(x | k) of poses [N, 69] and of their mirror images -> [N, 2K]."""
    both = np.concatenate([poses, mirror_pose(poses)])
    result = np.empty((len(both), len(mixture.weights)))
    for k, (mean, covar, weight) in enumerate(
        zip(mixture.means, mixture.covars, mixture.weights, strict=True)
    ):
        factor = np.linalg.cholesky(covar)
        whitened = solve_triangular(factor, (both - mean).T, lower=True)
        log_det = np.log(np.diag(factor)).sum()
        result[:, k] = (
            np.log(weight) - log_det - 0.5 * (whitened**2).sum(0) - 0.5 * len(mean) * np.log(2 * np.pi)
        )
    return np.concatenate([result[: len(poses)], result[len(poses) :]], axis=1)


def log_likelihood(poses: np.ndarray, mixture: Mixture) -> np.ndarray:
    """Log density [N] of body poses [N, 69] under the whole mixture."""
    return np.logaddexp.reduce(_log_joint(poses, mixture), axis=1)


def _em(poses: np.ndarray, mixture: Mixture, steps: int) -> Mixture:
    """Run EM from a start until the likelihood gains less than 1e-3 a step."""
    both = np.concatenate([poses, mirror_pose(poses)])
    half = len(mixture.weights)
    floor = np.diag(variance_floor())
    for _ in range(steps):
        log_joint = _log_joint(poses, mixture)
        total = np.logaddexp.reduce(log_joint, axis=1)
        share = np.exp(log_joint - total[:, None])
        share = np.concatenate([share[:, :half], share[:, half:]])  # rows as in `both`
        mass = share.sum(0)
        means = share.T @ both / mass[:, None]
        covars = np.empty_like(mixture.covars)
        for k in range(half):
            centred = both - means[k]
            covars[k] = (centred * share[:, k : k + 1]).T @ centred / mass[k] + floor
        likelihood = float(total.mean())
        gain = likelihood - mixture.train_log_likelihood
        mixture = Mixture(means, covars, mass / (2 * mass.sum()), likelihood)
        if gain < 1e-3:
            break
    return mixture


def fit_symmetric_mixture(
    poses: np.ndarray, components: int = 8, restarts: int = 5, steps: int = 100, seed: int = 0
) -> Mixture:
    """Fit a mixture of `components` Gaussians, in mirror pairs, to body poses [N, 69].

    The best of several random starts. Each pose counts together with its mirror image, and component k's twin
    has the mirrored mean and covariance and the same weight, so only one of each pair is kept.
    """
    half = components // 2
    rng = np.random.default_rng(seed)
    both = np.concatenate([poses, mirror_pose(poses)])
    spread = np.cov(both.T) + np.diag(variance_floor())
    best = None
    for _ in range(restarts):
        start = both[rng.choice(len(both), half, replace=False)]
        mixture = Mixture(start, np.repeat(spread[None], half, 0), np.full(half, 0.5 / half), -np.inf)
        mixture = _em(poses, mixture, steps)
        if best is None or mixture.train_log_likelihood > best.train_log_likelihood:
            best = mixture
    return best
