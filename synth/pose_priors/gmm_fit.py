"""EM for the mixture of body pose and gravity, tied so that it is its own left/right mirror image.

A row is a body pose and what is down for its pelvis: 69 entries [rad] of SMPL joints 1..23 and a unit vector in the
pelvis's frame (`postures.down_in_pelvis`), 72 together; rows of the 69 alone work as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from priors.skeleton import JOINT_NAMES, mirror_pose

# Standard deviation [rad] added to every entry: mocap error, retargeting, and what these few performers never
# do.
MOTION_FLOOR = 0.09
# Joints that this mocap holds still or lacks, although people move them.
STILL_JOINT_FLOOR = {"collar": 0.15, "hand": 0.15, "spine3": 0.12, "foot": 0.12}
# Joints whose bend, about x, tilts a leg or the trunk against gravity: floors add up along them, so each must be small.
SAGITTAL_JOINTS = ("hip", "knee", "ankle", "spine1", "spine2", "spine3")
DOWN_LENGTH_FLOOR = 0.03  # down is a unit vector: about the vertical it has no variance of its own


@dataclass(frozen=True)
class Mixture:
    """Half of a mirror-symmetric mixture: means [K, D], covars [K, D, D], weights [K] summing to 1/2; D 69 or 72.

    train_log_likelihood: mean over the learning set, of the whole mixture of 2K components.
    """

    means: np.ndarray
    covars: np.ndarray
    weights: np.ndarray
    train_log_likelihood: float


@dataclass(frozen=True)
class Group:
    """What is learned of one posture: rows [N, 72], its share of people in photos, its number of mirror pairs.

    sagittal_std: floor [rad] of SAGITTAL_JOINTS' bend and of the tilt against gravity.
    """

    name: str
    rows: np.ndarray
    share: float
    pairs: int
    sagittal_std: float


def mirror_rows(rows: np.ndarray) -> np.ndarray:
    """The left/right mirror image of rows [N, 69] or [N, 72]."""
    mirrored = mirror_pose(rows[:, :69])
    return np.concatenate([mirrored, rows[:, 69:] * [-1.0, 1.0, 1.0]], 1) if rows.shape[1] == 72 else mirrored


def variance_floor(size: int = 69, sagittal_std: float = MOTION_FLOOR) -> np.ndarray:
    """Variance [size] rad^2 added to the diagonal of a component's covariance; size 69 or 72."""
    std = np.full((23, 3), MOTION_FLOOR)
    for joint, name in enumerate(JOINT_NAMES[1:]):
        part = name.rpartition("_")[2]
        std[joint] = STILL_JOINT_FLOOR.get(part, MOTION_FLOOR)
        if part in SAGITTAL_JOINTS:
            std[joint, 0] = sagittal_std
    down = [sagittal_std, DOWN_LENGTH_FLOOR, sagittal_std]
    return np.concatenate([std.reshape(-1), down])[:size] ** 2


def _log_joint(rows: np.ndarray, mixture: Mixture) -> np.ndarray:
    """log w_k N(x | k) of rows [N, D] and of their mirror images -> [N, 2K]."""
    both = np.concatenate([rows, mirror_rows(rows)])
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
    return np.concatenate([result[: len(rows)], result[len(rows) :]], axis=1)


def log_likelihood(rows: np.ndarray, mixture: Mixture) -> np.ndarray:
    """Log density [N] of rows [N, D] under the whole mixture."""
    return np.logaddexp.reduce(_log_joint(rows, mixture), axis=1)


def _em(rows: np.ndarray, mixture: Mixture, floor: np.ndarray, steps: int) -> Mixture:
    """Run EM from a start until the likelihood gains less than 1e-3 a step."""
    both = np.concatenate([rows, mirror_rows(rows)])
    half = len(mixture.weights)
    for _ in range(steps):
        log_joint = _log_joint(rows, mixture)
        total = np.logaddexp.reduce(log_joint, axis=1)
        share = np.exp(log_joint - total[:, None])
        share = np.concatenate([share[:, :half], share[:, half:]])  # rows as in `both`
        mass = share.sum(0)
        means = share.T @ both / mass[:, None]
        covars = np.empty_like(mixture.covars)
        for k in range(half):
            centred = both - means[k]
            covars[k] = (centred * share[:, k : k + 1]).T @ centred / mass[k] + np.diag(floor)
        likelihood = float(total.mean())
        gain = likelihood - mixture.train_log_likelihood
        mixture = Mixture(means, covars, mass / (2 * mass.sum()), likelihood)
        if gain < 1e-3:
            break
    return mixture


def fit_symmetric_mixture(
    rows: np.ndarray,
    components: int = 8,
    restarts: int = 5,
    steps: int = 100,
    seed: int = 0,
    sagittal_std: float = MOTION_FLOOR,
) -> Mixture:
    """Fit a mixture of `components` Gaussians, in mirror pairs, to rows [N, D].

    The best of several random starts. Each row counts together with its mirror image, and component k's twin
    has the mirrored mean and covariance and the same weight, so only one of each pair is kept.
    """
    half = components // 2
    rng = np.random.default_rng(seed)
    both = np.concatenate([rows, mirror_rows(rows)])
    floor = variance_floor(rows.shape[1], sagittal_std)
    spread = np.cov(both.T) + np.diag(floor)
    best = None
    for _ in range(restarts):
        start = both[rng.choice(len(both), half, replace=False)]
        mixture = Mixture(start, np.repeat(spread[None], half, 0), np.full(half, 0.5 / half), -np.inf)
        mixture = _em(rows, mixture, floor, steps)
        if best is None or mixture.train_log_likelihood > best.train_log_likelihood:
            best = mixture
    return best


def fit_groups(groups: list[Group]) -> Mixture:
    """Fit each group by itself and weigh the parts by the groups' shares; components in the groups' order.

    train_log_likelihood is that of the groups' rows under the whole, each group counting by its share.
    """
    parts = [
        fit_symmetric_mixture(group.rows, 2 * group.pairs, sagittal_std=group.sagittal_std)
        for group in groups
    ]
    shares = np.array([group.share for group in groups]) / sum(group.share for group in groups)
    whole = Mixture(
        np.concatenate([part.means for part in parts]),
        np.concatenate([part.covars for part in parts]),
        np.concatenate([part.weights * share for part, share in zip(parts, shares, strict=True)]),
        float("nan"),
    )
    likelihoods = [log_likelihood(group.rows, whole).mean() for group in groups]
    return Mixture(whole.means, whole.covars, whole.weights, float(shares @ likelihoods))
