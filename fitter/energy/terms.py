"""The terms of a fit's energy that need no picture: METHOD's E = sum of weight x term, one record each.

A term gives its value and its first and second derivative by the coordinates it is a function of; the objective chains
them to what is moved. Second derivatives are Gauss-Newton's: of the residuals, robust weights and the likeliest
component held. What is rendered stands in semantics.py. To add a term, write its function and its record here, and its
weight, under the same name, in `fitter.config.Weights`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.config import Stage
from fitter.energy.losses import CROP_PX, keypoint_energy
from fitter.energy.observation import Observation, Variables
from priors.lifter import PAIRS, Lifted, depth_energy
from priors.pose import PosePrior
from priors.simple import (
    BENDING_ENTRIES,
    BENDING_SIGNS,
    LIMIT_SOFTNESS_DEG,
    angle_energy,
    limit_excess,
    shape_energy,
)

WALL_BETA, WALL = 2.8, 20.0  # a coefficient beyond that costs so many times as much
SURE = 0.3  # confidence of a keypoint from which the lifter is believed in full
FIRST, SECOND = (list(ends) for ends in zip(*PAIRS, strict=True))
MIDDLES = ((1, 5, 2), (8, 12, 9))  # BODY_25: neck and middle hip, and the two that each lies between
TORSO = (2, 5, 9, 12)  # BODY_25: right and left shoulder, right and left hip


@dataclass(frozen=True)
class State:
    """N rows as the terms see them.

    points_px [N, 25, 2]: the body's keypoints; seen [N, 25]: confidence of the keypoints that count in this stage;
    body_pose [N, 69] rad; down [N, 3]: gravity in the pelvis's frame; sigma: of the keypoint term, px of the crop;
    apart_m [N, pairs]: how much farther away the second of `priors.lifter.PAIRS` lies, empty without the lifter.
    """

    variables: Variables
    observation: Observation
    prior: PosePrior
    sigma: float
    points_px: Tensor
    seen: Tensor
    body_pose: Tensor
    down: Tensor
    apart_m: Tensor


@dataclass(frozen=True)
class Quadratic:
    """value [N]; gradient [N, Q]; curvature [N, Q], a diagonal, or [N, Q, Q]: positive."""

    value: Tensor
    gradient: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class Term:
    """name: also its weight's, in `fitter.config.Weights`; of: the coordinates that it is a function of; scale: the
    attribute of `fitter.config.Stage` that multiplies its weight."""

    name: str
    of: str
    at: Callable[[State], Quadratic]
    scale: str = ""

    def weight(self, weights, stage: Stage) -> float:
        return getattr(weights, self.name) * (getattr(stage, self.scale) if self.scale else 1.0)


def stage_confidence(confidence: Tensor, stage: Stage) -> Tensor:
    """[N, 25]; for `torso` stages all but shoulders and hips are 0, for people of whom all four are seen."""
    if stage.joints == "all":
        return confidence
    seen = torch.stack([confidence[:, joint] > 0.1 for joint in TORSO]).all(0)
    torso = torch.zeros_like(confidence)
    for joint in TORSO:
        torso[:, joint] = confidence[:, joint]
    return torch.where(seen[:, None], torso, confidence)


def keypoints(state: State) -> Quadratic:
    """SMPLify eq. 2 with Geman and McClure's robustifier; by points_px, flattened [N, 50]."""
    seen = state.observation
    value = keypoint_energy(state.points_px, seen.keypoints_px, state.seen, seen.box_px, state.sigma)
    scale = (CROP_PX / seen.box_px)[:, None, None]
    residual = (state.points_px - seen.keypoints_px) * scale
    robust = (state.sigma**2 / (state.sigma**2 + residual * residual)).square()
    curvature = 2 * robust * (state.seen[..., None] * scale).square()
    gradient = curvature * residual / scale
    return Quadratic(value, gradient.flatten(1), curvature.flatten(1))


def pose(state: State) -> Quadratic:
    """The pose prior with the direction of gravity; by latent and down."""
    return Quadratic(*state.prior.quadratic(state.variables.latent, state.down))


def limits(state: State) -> Quadratic:
    """Half the squared excess over the joints' range of motion, in units of its softness; by body pose."""
    excess = limit_excess(state.body_pose)
    unit = math.radians(LIMIT_SOFTNESS_DEG)
    return Quadratic(0.5 * excess.square().sum(1), excess / unit, (excess != 0).to(excess) / unit**2)


def angle(state: State) -> Quadratic:
    """SMPLify's exponential of elbows and knees that bend backward; by body pose."""
    value = angle_energy(state.body_pose)
    gradient, curvature = torch.zeros_like(state.body_pose), torch.zeros_like(state.body_pose)
    for entry, sign in zip(BENDING_ENTRIES, BENDING_SIGNS, strict=True):
        squared = (2 * sign * state.body_pose[:, entry]).exp()
        gradient[:, entry], curvature[:, entry] = 2 * sign * squared, 4 * squared
    return Quadratic(value, gradient, curvature)


def level(state: State) -> Quadratic:
    """Half the squared difference of the camera's pitch and roll from what is expected, in its spreads; by tilt."""
    spread = state.observation.tilt_spread
    off = (state.variables.tilt - state.observation.tilt) / spread
    return Quadratic(0.5 * off.square().sum(1), off / spread, spread**-2)


def shape(state: State) -> Quadratic:
    """Squared shape coefficients, and a wall where no people are: of half-seen ones little else holds the shape; by
    betas."""
    betas = state.variables.betas
    beyond = betas - betas.clamp(-WALL_BETA, WALL_BETA)
    value = shape_energy(betas) + WALL * beyond.square().sum(1)
    return Quadratic(value, 2 * betas + 2 * WALL * beyond, 2 + 2 * WALL * (beyond != 0).to(betas))


def depth(state: State) -> Quadratic:
    """Squared log of the distance against its first estimate; by shift."""
    away, curvature = torch.zeros_like(state.variables.shift), torch.zeros_like(state.variables.shift)
    away[:, 2], curvature[:, 2] = state.variables.shift[:, 2], 2.0
    return Quadratic(away.square().sum(1), 2 * away, curvature)


def lifted(state: State) -> Quadratic:
    """What the lifter says of pairs of keypoints: the second lies so much farther than the first, or the other way; by
    apart_m. It is heavy-tailed, and as wide as the keypoints leave it open. A pair counts as far as both are seen: of
    half a person the prior and gravity say more."""
    each, gradient, curvature = depth_energy(Lifted(**state.observation.lifted), state.apart_m)
    seen = state.seen.clone()
    for middle, left, right in MIDDLES:
        seen[:, middle] = torch.maximum(seen[:, middle], torch.minimum(seen[:, left], seen[:, right]))
    sure = (torch.minimum(seen[:, FIRST], seen[:, SECOND]) / SURE).clamp(max=1)
    return Quadratic((sure * each).sum(1), sure * gradient, sure * curvature)


TERMS = (
    Term("keypoints", "points", keypoints),
    Term("pose", "latent and down", pose, "pose_scale"),
    Term("limits", "pose", limits),
    Term("angle", "pose", angle),
    Term("level", "level", level),
    Term("shape", "shape", shape, "shape_scale"),
    Term("depth", "place", depth, "depth_scale"),
    Term("lifted", "apart", lifted),
)
