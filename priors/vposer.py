"""Latent prior over body pose (VPoser, Pavlakos et al., CVPR 2019): pose = decoder(z), energy ||z||^2.

Three sets of weights fit in here:

- the shipped ones and official v1 checkpoints, in human_body_prior's own `VPoser` class (extra `vposer`);
- official v2 checkpoints, in `VPoserV2` below: human-body-prior on PyPI (0.8.5.0) has only v1's network.

Checkpoints are read as named tensors, not through human_body_prior's `load_vposer`. A VPoser is not
left/right symmetric: unlike the mixture's, the fit of a mirrored photo is only nearly the mirrored fit.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from priors.checkpoint import read_state_dict
from priors.pose_gmm import load_pose_gmm
from priors.rotation import axis_angle_from_matrix, rotation_from_6d
from priors.skeleton import mirror_pose

DEFAULT_PATH = Path(__file__).parent / "data" / "vposer_open.npz"
JOINTS = 21
"""SMPL joints 1..21: all but the root and the two hands, which stay at 0."""

_V1_PREFIX = "bodyprior_"
_V2_PREFIXES = ("encoder_net.", "decoder_net.")
_WRAPPERS = ("module.", "vp_model.")  # DataParallel's, and v2's Lightning trainer's


class _GaussianHead(nn.Module):
    """Mean and softplus deviation of q(z | pose); named as in v2's checkpoints."""

    def __init__(self, neurons: int, latent: int):
        super().__init__()
        self.mu = nn.Linear(neurons, latent)
        self.logvar = nn.Linear(neurons, latent)

    def forward(self, features: torch.Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.mu(features), nn.functional.softplus(self.logvar(features)))


class VPoserV2(nn.Module):
    """VPoser v2's network, layers numbered as its checkpoints name them (`encoder_net.1.weight`, ...)."""

    def __init__(self, neurons: int, latent: int):
        super().__init__()
        self.encoder_net = nn.Sequential(
            nn.Flatten(),
            nn.BatchNorm1d(JOINTS * 3),
            nn.Linear(JOINTS * 3, neurons),
            nn.LeakyReLU(),
            nn.BatchNorm1d(neurons),
            nn.Dropout(0.1),
            nn.Linear(neurons, neurons),
            nn.Linear(neurons, neurons),
            _GaussianHead(neurons, latent),
        )
        self.decoder_net = nn.Sequential(
            nn.Linear(latent, neurons),
            nn.LeakyReLU(),
            nn.Dropout(0.1),
            nn.Linear(neurons, neurons),
            nn.LeakyReLU(),
            nn.Linear(neurons, JOINTS * 6),
        )

    def encode(self, body_pose: torch.Tensor) -> torch.distributions.Normal:
        return self.encoder_net(body_pose)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Latents [B, L] -> rotation matrices [B, 21, 3, 3], Gram-Schmidt on two columns."""
        return rotation_from_6d(self.decoder_net(z).reshape(-1, JOINTS, 6))


def vposer_v1(neurons: int, latent: int) -> nn.Module:
    """An untrained network of human_body_prior's `VPoser` class.

    Raises ImportError with the remedy where the extra is not installed.
    """
    try:
        from human_body_prior.train.vposer_smpl import VPoser
    except ImportError as error:
        raise ImportError(
            f"pose prior 'vposer': expected the package human-body-prior, got '{error}'; install it with "
            "pip install --no-deps human-body-prior==0.8.5.0 torchgeometry configer, or use --pose-prior gmm"
        ) from error
    return VPoser(num_neurons=neurons, latentD=latent, data_shape=[1, JOINTS, 3])


class VPoserPrior(nn.Module):
    """A trained VPoser as a `priors.pose.PosePrior`, in eval mode, its weights frozen.

    network: human_body_prior's VPoser or VPoserV2. latent_dim: L, 32 in all published weights.
    """

    name = "vposer"

    def __init__(self, network: nn.Module, latent_dim: int):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.latent_dim = latent_dim
        self.gmm = load_pose_gmm().to(next(network.parameters()).dtype)
        means = torch.cat([self.gmm.means, mirror_pose(self.gmm.means)])
        guesses = torch.cat([means.new_zeros(1, latent_dim), self.encode(means)])
        self.register_buffer("first_guesses", guesses, persistent=False)

    def train(self, mode: bool = True) -> VPoserPrior:
        """Stays in eval mode: dropout and batch statistics have no place in a prior."""
        return super().train(False)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Latents [B, L] -> body pose [B, 69], axis-angle in radians, hands 0. Differentiable."""
        rotations = self.network.decode(z).reshape(-1, JOINTS, 3, 3)
        pose = axis_angle_from_matrix(rotations).reshape(len(z), JOINTS * 3)
        return torch.cat([pose, pose.new_zeros(len(z), 6)], dim=1)

    def encode(self, body_pose: torch.Tensor) -> torch.Tensor:
        """Body pose [B, 69] -> mean latent [B, L]; the hands are ignored.

        Raises ValueError for another shape.
        """
        if body_pose.ndim != 2 or body_pose.shape[1] != 69:
            raise ValueError(f"VPoser: expected body_pose [B, 69], got {tuple(body_pose.shape)}")
        return self.network.encode(body_pose[:, : JOINTS * 3]).mean

    def energy(self, z: torch.Tensor, down: torch.Tensor | None = None) -> torch.Tensor:
        """Squared length of latents [B, L] -> [B]: twice the negative log likelihood, the mixture's of gravity too."""
        energy = z.square().sum(dim=1)
        return energy if down is None else energy + 2 * self.gmm.gravity_energy(self.decode(z), down)

    def body_pose(self, latent: torch.Tensor) -> torch.Tensor:
        """`decode` under PosePrior's name."""
        return self.decode(latent)

    def latent(self, body_pose: torch.Tensor) -> torch.Tensor:
        """`encode` under PosePrior's name."""
        return self.encode(body_pose)

    def starts(self, count: int) -> torch.Tensor:
        """First guesses [<= count, L]: the middle of the latent space, then the mixture's means."""
        return self.first_guesses[:count]

    def quadratic(
        self, latent: torch.Tensor, down: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See PosePrior; the second derivative leaves out how gravity's part changes with the latent."""
        with torch.enable_grad():
            moved = torch.cat([latent, down], 1).detach().requires_grad_()
            value = self.energy(moved[:, : self.latent_dim], moved[:, self.latent_dim :])
            (gradient,) = torch.autograd.grad(value.sum(), moved)
        with torch.no_grad():
            gravity = 2 * self.gmm.quadratic(self.decode(latent), down)[2][:, 69:, 69:]
        own = torch.eye(self.latent_dim, device=latent.device, dtype=latent.dtype)
        whole = latent.new_zeros(len(latent), self.latent_dim + 3, self.latent_dim + 3)
        whole[:, : self.latent_dim, : self.latent_dim] = 2 * own
        whole[:, self.latent_dim :, self.latent_dim :] = gravity
        return value.detach(), gradient, whole

    def chain(self, d_pose: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """Derivatives by body pose [B, ..., 69] -> derivatives by latent [B, ..., L]."""
        z = latent.detach()
        axes = torch.eye(self.latent_dim, device=z.device, dtype=z.dtype)[:, None].expand(-1, len(z), -1)
        columns = torch.func.vmap(lambda axis: torch.func.jvp(self.decode, (z,), (axis,))[1])(
            axes
        )  # [L, B, 69]
        return torch.einsum("b...p,lbp->b...l", d_pose, columns)

    def rank(self, body_pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mixture's energy [B] of body poses [B, 69], and its percentile [B] among mocap poses."""
        return self.gmm.rank(body_pose)


def _without_wrapper(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def load_vposer_prior(path: str | Path | None = None, dtype: torch.dtype = torch.float32) -> VPoserPrior:
    """Load a VPoser: the shipped weights, or an official v1 or v2 checkpoint (`.pt`, `.ckpt`, `.npz`).

    Raises FileNotFoundError; ValueError where the file holds neither version's weights or lacks some, by
    name; ImportError where v1's class is not installed.
    """
    path = Path(path) if path is not None else DEFAULT_PATH
    if path.is_dir():
        raise ValueError(
            f"VPoser {path}: expected a checkpoint file, got a folder; give the .pt in its snapshots/ folder"
        )
    tensors = {_without_wrapper(name): value for name, value in read_state_dict(path).items()}
    v1 = {name: value for name, value in tensors.items() if name.startswith(_V1_PREFIX)}
    v2 = {name: value for name, value in tensors.items() if name.startswith(_V2_PREFIXES)}
    if v1:
        state, first_layer, first_decoder = v1, "bodyprior_enc_fc1.weight", "bodyprior_dec_fc1.weight"
    elif v2:
        state, first_layer, first_decoder = v2, "encoder_net.2.weight", "decoder_net.0.weight"
    else:
        raise ValueError(
            f"VPoser {path}: expected weights named {_V1_PREFIX}* (v1) or {_V2_PREFIXES[0]}* (v2), got "
            f"{', '.join(sorted(tensors)[:3])}, ..."
        )
    absent = [name for name in (first_layer, first_decoder) if name not in state]
    if absent:
        raise ValueError(f"VPoser {path}: expected all weights, got none called {', '.join(absent)}")
    if state[first_layer].ndim != 2 or state[first_decoder].ndim != 2:
        raise ValueError(f"VPoser {path}: expected {first_layer} and {first_decoder} to be matrices")
    neurons, latent = state[first_layer].shape[0], state[first_decoder].shape[1]
    network = vposer_v1(neurons, latent) if v1 else VPoserV2(neurons, latent)
    return VPoserPrior(_filled(network, state, path).to(dtype), latent)


def _filled(network: nn.Module, state: dict[str, torch.Tensor], path: Path) -> nn.Module:
    """The network with these weights; missing ones and wrong shapes are errors by name, others ignored."""
    own = network.state_dict()
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(f"VPoser {path}: expected all weights, got none called {', '.join(missing)}")
    for name in needed:
        if own[name].shape != state[name].shape:
            raise ValueError(
                f"VPoser {path}: expected {name} of shape {tuple(own[name].shape)}, got "
                f"{tuple(state[name].shape)}; is it a VPoser of SMPL's 21 body joints?"
            )
        if not state[name].float().isfinite().all():
            raise ValueError(
                f"VPoser {path}: expected finite weights, got {name} with others; download it again"
            )
    network.load_state_dict({name: state[name].float() for name in needed}, strict=False)
    return network.float()
