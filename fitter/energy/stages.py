"""The staged fit: several starts a person, each stage minimised, the best starts carried on.

SMPLify (ECCV 2016): camera and orientation from the torso, also turned round, then pose and shape coarse to fine.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fitter.config import Optimisation, Stage
from fitter.energy.objective import Objective
from fitter.energy.observation import Observation, Variables
from fitter.energy.solver import Solution, begin, failure_names, minimise
from fitter.energy.terms import TORSO
from fitter.rows import Rows

SAME_BODY_M = 0.02  # mean distance of joints, pelvis on pelvis
FACING_CAMERA = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))  # body Y up, +Z front -> camera


@dataclass(frozen=True)
class Fitted(Rows):
    """B people's best rows.

    variables [B, ...]; energies: weighted terms of the last stage by name, each [B]; energy_start [B]: the last
    stage's energy where the fit began; failed [B, 3]: `Solution.failed`, its stages those that were run.
    """

    variables: Variables
    energies: dict[str, Tensor]
    energy_start: Tensor
    failed: Tensor

    def failures(self, stages: tuple[Stage, ...]) -> list[str]:
        """In words, "" where there is none; stages: those that were run."""
        return failure_names(self.failed, tuple(self.energies), stages)


@torch.no_grad()
def search(objective: Objective, observation: Observation, settings: Optimisation) -> Fitted:
    """Fits B people to their keypoints from nothing: the stages without DSR terms, from the prior's poses."""
    stages = tuple(stage for stage in settings.stages if not stage.crop_px)
    starts = first_starts(objective, observation, settings)
    return _run(objective, observation, stages, starts, settings.starts)


@torch.no_grad()
def refine(
    objective: Objective,
    observation: Observation,
    stages: tuple[Stage, ...],
    start: Variables,
    turned: bool = False,
    given: Variables | None = None,
) -> Fitted:
    """Fits B people from where they are; stages: run in this order, all starts kept but the best.

    turned: they may face the wrong way (a network's guess), so each is also begun turned half round, and the first
    stage decides (SMPLify does so for people in profile). given: where they were begun before, which no fit ends above.
    """
    stages = tuple(replace(stage, keep=1) for stage in stages)
    return _run(objective, observation, stages, with_turned(start) if turned else start, 0, given)


def _run(
    objective, observation: Observation, stages, starts: Variables, poses: int, given: Variables | None = None
) -> Fitted:
    """stages on B x S rows, S starts a person; poses: so many of the prior's are tried from the first stage on that
    frees the pose."""
    people = len(observation.box_px)
    device = observation.box_px.device
    first = given or starts.rows(slice(None, None, len(starts.betas) // people))
    at = begin(starts)
    for number, stage in enumerate(stages):
        if poses and "pose" in stage.free:
            at, poses = with_poses(objective, at, poses), 0
        owner = torch.arange(people, device=device).repeat_interleave(len(at.energy) // people)
        seen = observation.rows(owner)
        at = minimise(objective, seen, at, stage, number)
        joints = objective.joints_cam(at.variables, seen) if stage.keep > 1 else None
        at = at.rows(best_rows(at.energy, people, stage.keep, joints))
    start = objective.evaluate(first, observation, stages[-1])
    worse = ~(at.energy <= start.energy)
    variables = at.variables.replaced(worse, first)
    terms = torch.where(worse[:, None], start.terms, at.terms)
    energies = dict(zip(objective.term_names, terms.unbind(1), strict=True))
    return Fitted(variables, energies, start.energy, at.failed)


def first_starts(objective: Objective, observation: Observation, settings: Optimisation) -> Variables:
    """One row per person and yaw: the prior's mean pose, upright along the seen torso, at the seen size."""
    like = observation.keypoints_px
    angles = like.new_tensor(settings.yaws) * (math.pi / 180)
    people, count = len(like), len(angles)
    observation = observation.rows(torch.arange(people, device=like.device).repeat_interleave(count))
    facing = like.new_tensor(FACING_CAMERA)
    roll = torso_roll(observation.keypoints_px, observation.confidence)
    orientation = _about("z", roll) @ facing @ _about("y", angles).repeat(people, 1, 1)
    latent = objective.prior.starts(1).to(like).expand(len(roll), -1)
    zero = like.new_zeros(len(roll), 3)
    place = like.new_tensor([0.0, 0.0, 1.0]).expand(len(roll), 3)
    betas = like.new_zeros(len(roll), 10)
    variables = Variables(zero, zero, latent, betas, observation.tilt, orientation, place)
    place = place_by_size(objective.keypoints_m(variables, observation), observation)
    return replace(variables, start_place_m=place)


def _about(axis: str, angle: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] by `angle` [N] rad about the camera's z or the body's y axis."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    entries = (
        [c, -s, zero, s, c, zero, zero, zero, one]
        if axis == "z"
        else [c, zero, s, zero, one, zero, -s, zero, c]
    )
    return torch.stack(entries, -1).reshape(-1, 3, 3)


def torso_roll(keypoints_px: Tensor, confidence: Tensor) -> Tensor:
    """Angle [N] rad by which the seen torso is turned in the picture; 0 = upright or not seen."""
    weight = torch.stack([confidence[:, joint] for joint in TORSO], 1)
    shoulders, hips = ((keypoints_px[:, a] + keypoints_px[:, b]) / 2 for a, b in (TORSO[:2], TORSO[2:]))
    up = shoulders - hips
    return torch.where((weight > 0.2).all(1), torch.atan2(up[:, 0], -up[:, 1]), torch.zeros_like(up[:, 0]))


def place_by_size(points_m: Tensor, observation: Observation) -> Tensor:
    """Pelvis position [N, 3] m at which the body's seen keypoints have the picture's spread and centre.

    points_m [N, 25, 3]: the body's keypoints, camera axes, about the pelvis.
    """
    model = points_m[..., :2]
    weight = (observation.confidence * (observation.confidence > 0.2))[..., None]
    weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, observation.confidence[..., None] + 1e-6)
    weight = weight / weight.sum(1, keepdim=True)
    mean_px, mean_m = (weight * observation.keypoints_px).sum(1), (weight * model).sum(1)
    spread_px = (weight * (observation.keypoints_px - mean_px[:, None]) ** 2).sum((1, 2)).sqrt()
    spread_m = (weight * (model - mean_m[:, None]) ** 2).sum((1, 2)).sqrt()
    depth = observation.focal_px.mean(1) * spread_m.clamp(min=0.05) / spread_px.clamp(min=1.0)
    centre = (mean_px - observation.center_px) / observation.focal_px * depth[:, None] - mean_m
    return torch.cat([centre, depth[:, None]], 1)


def with_turned(start: Variables) -> Variables:
    """Every row, and after it the same turned by 180 degrees about the body's own vertical."""
    count, device = len(start.betas), start.betas.device
    half = _about("y", start.betas.new_tensor([math.pi]))
    is_turned = (torch.arange(2 * count, device=device) % 2 == 1)[:, None, None]
    both = start.rows(torch.arange(count, device=device).repeat_interleave(2))
    orientation = torch.where(is_turned, both.start_orientation @ half, both.start_orientation)
    return replace(both, start_orientation=orientation)


def with_poses(objective: Objective, at: Solution, count: int) -> Solution:
    """Every row once per initial pose of the prior."""
    starts = objective.prior.starts(count).to(at.variables.latent)
    rows = torch.arange(len(at.energy), device=starts.device)
    repeated = at.rows(rows.repeat_interleave(len(starts)))
    variables = replace(repeated.variables, latent=starts.repeat(len(rows), 1))
    return replace(repeated, variables=variables)


def best_rows(energy: Tensor, people: int, keep: int, joints_m: Tensor | None = None) -> Tensor:
    """Row numbers of each person's `keep` lowest energies, person by person, best first, as int64.

    energy [B S], S rows a person; joints_m [B S, 24, 3] m: of rows that ended in the same body (within SAME_BODY_M)
    only the best counts. Where a person has fewer, the best stands in again.
    """
    energy = torch.where(energy.isfinite(), energy, torch.full_like(energy, math.inf)).reshape(people, -1)
    first = torch.arange(people, device=energy.device) * energy.shape[1]
    left, chosen = energy, []
    for _ in range(min(keep, energy.shape[1])):
        row = left.argmin(1)
        best = chosen[0] if chosen else row
        row = torch.where(left.gather(1, row[:, None])[:, 0].isfinite(), row, best)
        chosen.append(row)
        taken = torch.zeros_like(left, dtype=torch.bool).scatter(1, row[:, None], True)
        if joints_m is not None:
            joints = joints_m.reshape(people, -1, *joints_m.shape[1:])
            own = joints.gather(1, row[:, None, None, None].expand(-1, 1, *joints.shape[2:]))
            taken |= (joints - own).norm(dim=-1).mean(-1) < SAME_BODY_M
        left = torch.where(taken, torch.full_like(left, math.inf), left)
    return (first[:, None] + torch.stack(chosen, 1)).reshape(-1)
