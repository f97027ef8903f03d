"""Gaussian mixture prior over body pose: SMPLify's max-mixture energy.

METHOD.md section 1: E_pose = min_m [ 1/2 (theta - mu_m)^T Sigma_m^-1 (theta - mu_m) - log(c g_m) ] with, as
in SMPLify, g_m = w_m sqrt(min_k det Sigma_k) / sqrt(det Sigma_m) and c = 1, so the energy is never negative (g_m <=
w_m <= 1). The determinants may count in part (`determinant_share`): at its best pose a narrow component is denser
in all 69 directions, but a picture shows only some of them, and in the others a component's density integrates to 1
whatever its width. With all of the determinants whoever skis is taken to stand, for standing is the narrowest.

A mixture may also know gravity: 3 more entries hold the unit vector that points down, in the pelvis's frame,
down = R_root^T (0, -1, 0) in a world with Y up. Who stands upright has (0, -1, 0). Without it the marginal over the
pose alone is evaluated, g_m taken of its own determinants.

The shipped mixture is learned by `python -m synth.pose_priors`. It holds half of its components; the other
half are their left/right mirror images, evaluated by mirroring the pose, so that a mirrored pose has the same
energy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from priors.skeleton import mirror_pose

DEFAULT_PATH = Path(__file__).parent / "data" / "pose_gmm.npz"
BODY_POSE_DIM = 69
JOINT_DIM = 72
"""Body pose and the direction down."""
ALIKE = 4
"""Rows from which on a matrix product is rounded alike, however many they are; fewer take other routines."""
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


def mirror_joint(joint: torch.Tensor) -> torch.Tensor:
    """Left/right mirror image of body poses with the direction down [B, 72] -> [B, 72]."""
    down = joint[:, BODY_POSE_DIM:] * joint.new_tensor([-1.0, 1.0, 1.0])
    return torch.cat([mirror_pose(joint[:, :BODY_POSE_DIM]), down], 1)


class _Gaussians(nn.Module):
    """M weighted Gaussians over D entries, and their mirror images where `mirror` is given."""

    def __init__(self, means, covars, weights, mirror, determinant_share):
        super().__init__()
        try:
            factors = np.linalg.cholesky(covars)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                "pose GMM: expected positive definite covariances, got one that is not"
            ) from error
        log_sqrt_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
        log_g = np.log(weights) - determinant_share * (log_sqrt_det - log_sqrt_det.min())
        whitening = torch.tensor(np.linalg.inv(factors))  # d^2 = |L^-1 (x - mu)|^2
        precisions = whitening.transpose(1, 2) @ whitening
        self.mirrored = mirror is not None
        if self.mirrored:
            turn = mirror(torch.eye(means.shape[1], dtype=torch.float64))
            precisions = torch.cat([precisions, turn @ precisions @ turn.T])
            self.register_buffer("mirror_order", turn.abs().argmax(0))
            self.register_buffer("mirror_sign", turn.sum(0).float())
        self.register_buffer("means", torch.tensor(means, dtype=torch.float32))
        both = means if mirror is None else np.concatenate([means, mirror(torch.tensor(means)).numpy()])
        self.register_buffer("all_means", torch.tensor(both, dtype=torch.float32))
        self.register_buffer("whitening", whitening.float())
        self.register_buffer("neg_log_g", torch.tensor(-log_g, dtype=torch.float32))
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float32))
        self.register_buffer("precisions", precisions.float())

    def energies(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D] -> [B, M], or [B, 2 M] with the mirror images last."""

        count = len(x)
        x = torch.cat([x, x.new_zeros(max(0, ALIKE - count), x.shape[1])])

        def half(x):
            whitened = torch.einsum("mij,bmj->bmi", self.whitening, x[:, None] - self.means)
            return 0.5 * whitened.square().sum(-1) + self.neg_log_g

        found = half(x)
        if self.mirrored:
            found = torch.cat([found, half(x.index_select(1, self.mirror_order) * self.mirror_sign)], 1)
        return found[:count]


class PoseGMM(nn.Module):
    """Max-mixture energy of body pose, and of body pose and gravity.

    means: [M, 69] radians, or [M, 72] with the direction down in the pelvis's frame last. covars: [M, D, D].
    weights: [M], positive; of the whole mixture, so they sum to 1, or to 1/2 where `mirrored`.
    mirrored: each component stands for itself and its left/right mirror image.
    energy_percentiles: {percentile: energy of the pose alone} over mocap poses, None if unknown.
    determinant_share: 0..1, how much of log sqrt det Sigma_m counts in g_m; SMPLify: 1.

    Raises ValueError for other shapes, or a covariance that is not positive definite.
    """

    def __init__(
        self,
        means,
        covars,
        weights,
        mirrored: bool = False,
        energy_percentiles=None,
        determinant_share: float = 1.0,
    ):
        super().__init__()
        means, covars, weights = (np.asarray(array, dtype=np.float64) for array in (means, covars, weights))
        count, size = len(weights), means.shape[-1]
        if (
            size not in (BODY_POSE_DIM, JOINT_DIM)
            or means.shape != (count, size)
            or covars.shape != (count, size, size)
        ):
            raise ValueError(
                "pose GMM: expected means [M, 69] or [M, 72], covars [M, 69, 69] or [M, 72, 72], weights [M], got "
                f"{means.shape}, {covars.shape}, {weights.shape}"
            )
        self.mirrored = bool(mirrored)
        self.energy_percentiles = dict(energy_percentiles or {})
        pose = slice(BODY_POSE_DIM)
        share = float(determinant_share)
        self._pose = _Gaussians(
            means[:, pose], covars[:, pose, pose], weights, mirror_pose if mirrored else None, share
        )
        self._joint = None
        if size == JOINT_DIM:
            self._joint = _Gaussians(means, covars, weights, mirror_joint if mirrored else None, share)
        self.register_buffer("weights", torch.tensor(weights / weights.sum(), dtype=torch.float32))

    @property
    def means(self) -> torch.Tensor:
        """Mean poses [M, 69] rad; `joint_means` [M, 72] has the direction down as well."""
        return self._pose.means

    @property
    def factors(self) -> torch.Tensor:
        """Lower triangular [M, 69, 69] with covariance = factor factor^T."""
        return self._pose.factors

    @property
    def precisions(self) -> torch.Tensor:
        """Inverse covariances of the pose alone [M', 69, 69], in component_energies' order."""
        return self._pose.precisions

    @property
    def knows_gravity(self) -> bool:
        """Whether the mixture was learned with the direction down."""
        return self._joint is not None

    @property
    def joint_means(self) -> torch.Tensor:
        """Mean poses and directions down [M, 72]. Raises ValueError where the mixture does not know gravity."""
        return self._with_gravity().means

    @property
    def joint_precisions(self) -> torch.Tensor:
        """As `precisions`, of pose and direction down [M', 72, 72]; errors as joint_means."""
        return self._with_gravity().precisions

    @property
    def mean(self) -> torch.Tensor:
        """The commonest pose [69] radians, where a fit may start. Symmetric where `mirrored`.

        The mean of the heaviest component where the mixture knows gravity (people stand), else `mixture_mean`.
        """
        return self._symmetric(self.means[self.weights.argmax()]) if self.knows_gravity else self.mixture_mean

    @property
    def mixture_mean(self) -> torch.Tensor:
        """Mean pose of the whole mixture [69] radians, limbs half bent. Symmetric where `mirrored`."""
        return self._symmetric((self.weights[:, None] * self.means).sum(0))

    def _symmetric(self, pose: torch.Tensor) -> torch.Tensor:
        return (pose + mirror_pose(pose[None])[0]) / 2 if self.mirrored else pose

    def _with_gravity(self) -> _Gaussians:
        if self._joint is None:
            raise ValueError(
                "pose GMM: expected a mixture of 72 entries for the direction down, got one of 69; leave `down` out"
            )
        return self._joint

    def energy(self, body_pose: torch.Tensor, down: torch.Tensor | None = None) -> torch.Tensor:
        """Max-mixture energy of body poses [B, 69] (radians, axis-angle) -> [B], >= 0. METHOD.md section 1.

        down: [B, 3] unit, in the pelvis's frame; None for the energy of the pose alone.

        Raises ValueError for another shape, or `down` for a mixture that does not know gravity.
        """
        return self.component_energies(body_pose, down).min(dim=1).values

    def component_energies(self, body_pose: torch.Tensor, down: torch.Tensor | None = None) -> torch.Tensor:
        """Energy of body poses [B, 69], with `down` [B, 3] where given, under every component: [B, M'].

        M' is M, or 2 M where `mirrored`, the mirror images last. Errors as `energy`.
        """
        if body_pose.ndim != 2 or body_pose.shape[1] != BODY_POSE_DIM:
            raise ValueError(f"pose GMM: expected body_pose [B, 69], got {tuple(body_pose.shape)}")
        if down is None:
            return self._pose.energies(body_pose)
        if down.shape != (len(body_pose), 3):
            raise ValueError(f"pose GMM: expected down [{len(body_pose)}, 3], got {tuple(down.shape)}")
        return self._with_gravity().energies(torch.cat([body_pose, down], 1))

    def quadratic(
        self, body_pose: torch.Tensor, down: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """`energy` [B] with its gradient [B, D] by body pose, and down where given, and its second derivative
        [B, D, D]: the likeliest component's inverse covariance. D 69 or 72. Errors as `energy`.
        """
        energies = self.component_energies(body_pose, down)
        part = self._pose if down is None else self._with_gravity()
        energy, likeliest = energies.min(1)
        x = body_pose if down is None else torch.cat([body_pose, down], 1)
        precision = part.precisions[likeliest]
        gradient = torch.bmm(precision, (x - part.all_means[likeliest])[..., None])[..., 0]
        return energy, gradient, precision

    def gravity_energy(self, body_pose: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """-log p(down | pose) [B] up to a constant, of body poses [B, 69] with `down` [B, 3].

        Gravity for a pose prior that has none of its own. It is the joint energy of the likeliest component less the
        same component's energy of the pose alone. Errors as `energy`.
        """
        joint = self.component_energies(body_pose, down)
        likeliest = joint.argmin(1, keepdim=True)
        return (joint - self.component_energies(body_pose)).gather(1, likeliest)[:, 0]

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
            poses = torch.where(flip[:, None], mirror_pose(poses), poses)
        return poses


def load_pose_gmm(path: str | Path | None = None) -> PoseGMM:
    """Load a mixture: the shipped one, or an npz of `means` [M, D], `covars` [M, D, D], `weights` [M], D 69 or 72.

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
            determinant_share=float(data["determinant_share"]) if "determinant_share" in data.files else 1.0,
        )
