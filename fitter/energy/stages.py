"""The staged fit: several starts a person, Levenberg-Marquardt on each stage, the best starts carried on.

SMPLify (ECCV 2016): camera and orientation from the torso, also turned round, then pose and shape coarse to fine.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fitter.config import Optimisation, Stage
from fitter.energy.objective import TORSO, Evaluation, Objective, Observation, Variables

FIRST_DAMPING, GIVE_UP = 1e-2, 1e6
STEP_LIMIT = 0.5  # rad, log distance, shape: no variable moves further in one step
SAME_BODY_M = 0.02  # mean distance of joints, pelvis on pelvis
CONVERGED = 1e-6  # relative fall of the energy
FACING_CAMERA = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))  # body Y up, +Z front -> camera


@dataclass(frozen=True)
class Fitted:
    """B people's best rows.

    variables [B, ...]; energies: weighted terms of the last stage by name, each [B]; energy_start [B]: the last
    stage's energy at the very first start; failure [B]: "" or the term, stage and step that went non-finite.
    """

    variables: Variables
    energies: dict[str, Tensor]
    energy_start: Tensor
    failure: list[str]


def fit(
    objective: Objective,
    observation: Observation,
    settings: Optimisation,
    start: Variables | None = None,
    turned: bool = False,
) -> Fitted:
    """Fits B people at once; rows do not influence each other.

    start [B, ...]: where they begin; the stages that choose among starts (`Stage.keep` > 1) are then left out.
    turned: they may face the wrong way (a network's guess), so each is also begun turned half round, and the first
    stage decides (SMPLify does so for people in profile).
    """
    people = len(observation.box_px)
    if start is None:
        variables, stages = first_starts(objective, observation, settings), settings.stages
    else:
        variables = with_turned(start) if turned else start
        stages = tuple(stage for stage in settings.stages if stage.keep == 1)
    tried = len(variables.betas) // people
    owner = torch.arange(people).repeat_interleave(tried)
    first = variables.rows(torch.arange(people) * tried)
    failure = [""] * len(owner)
    for index, stage in enumerate(stages):
        if index == 1 and start is None:
            variables, owner, failure = with_pose_starts(
                objective, variables, owner, failure, settings.starts
            )
        variables, energy, failure = minimise(objective, observation.rows(owner), variables, stage, failure)
        joints = objective.joints_cam(variables) if stage.keep > 1 else None
        rows = best_rows(energy, owner, people, stage.keep, joints)
        variables, owner, failure = variables.rows(rows), owner[rows], [failure[r] for r in rows]
    last = settings.stages[-1]
    rows = torch.tensor([int((owner == person).nonzero()[0]) for person in range(people)])
    variables, failure = variables.rows(rows), [failure[r] for r in rows]
    start, _ = objective.evaluate(first, observation, last)
    end, terms = objective.evaluate(variables, observation, last)
    worse = ~(end.energy <= start.energy)
    if bool(worse.any()):
        variables = variables.replaced(worse, first)
        _, terms = objective.evaluate(variables, observation, last)
    return Fitted(variables, terms, start.energy, failure)


def first_starts(objective: Objective, observation: Observation, settings: Optimisation) -> Variables:
    """One row per person and yaw: the prior's mean pose, upright along the seen torso, at the seen size."""
    like = observation.keypoints_px
    angles = torch.tensor(settings.yaws, dtype=like.dtype) * (math.pi / 180)
    people, count = len(like), len(angles)
    observation = observation.rows(torch.arange(people).repeat_interleave(count))
    facing = torch.tensor(FACING_CAMERA, dtype=like.dtype)
    roll = torso_roll(observation.keypoints_px, observation.confidence)
    orientation = _about("z", roll) @ facing @ _about("y", angles).repeat(people, 1, 1)
    latent = objective.prior.starts(1).to(like).expand(len(roll), -1)
    zero = like.new_zeros(len(roll), 3)
    place = like.new_tensor([0.0, 0.0, 1.0]).expand(len(roll), 3)
    betas = like.new_zeros(len(roll), 10)
    variables = Variables(zero, zero, latent, betas, observation.tilt, orientation, place)
    posed = objective.point_model(variables.betas, objective.prior.body_pose(latent))
    turned = torch.einsum("nab,nkb->nka", orientation, posed.points)
    place = place_by_size(turned, observation)
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
    weight = confidence[:, TORSO]
    shoulders, hips = keypoints_px[:, TORSO[:2]].mean(1), keypoints_px[:, TORSO[2:]].mean(1)
    up = shoulders - hips
    return torch.where((weight > 0.2).all(1), torch.atan2(up[:, 0], -up[:, 1]), torch.zeros_like(up[:, 0]))


def place_by_size(points_m: Tensor, observation: Observation) -> Tensor:
    """Pelvis position [N, 3] m at which the body's seen keypoints have the picture's spread and centre.

    points_m [N, 35, 3]: body joints and landmarks, camera axes, about the pelvis.
    """
    model = (observation.targets @ points_m)[..., :2]
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
    rows = torch.arange(len(start.betas)).repeat_interleave(2)
    half = _about("y", start.betas.new_tensor([math.pi]))
    is_turned = (torch.arange(len(rows)) % 2 == 1)[:, None, None]
    both = start.rows(rows)
    orientation = torch.where(is_turned, both.start_orientation @ half, both.start_orientation)
    return replace(both, start_orientation=orientation)


def with_pose_starts(objective, variables: Variables, owner: Tensor, failure: list[str], count: int):
    """Every row once per initial pose of the prior."""
    starts = objective.prior.starts(count).to(variables.latent)
    rows = torch.arange(len(owner)).repeat_interleave(len(starts))
    repeated = variables.rows(rows)
    repeated = replace(variables.rows(rows), latent=starts.repeat(len(owner), 1))
    return repeated, owner[rows], [failure[r] for r in rows]


def best_rows(
    energy: Tensor, owner: Tensor, people: int, keep: int, joints_m: Tensor | None = None
) -> list[int]:
    """Row numbers of each person's `keep` lowest energies, person by person, best first.

    joints_m [N, 24, 3] m: of rows that ended in the same body (within SAME_BODY_M) only the best is kept.
    """
    energy = torch.where(energy.isfinite(), energy, torch.full_like(energy, math.inf))
    rows = []
    for person in range(people):
        own = (owner == person).nonzero()[:, 0]
        kept: list[int] = []
        for row in own[torch.argsort(energy[own], stable=True)].tolist():
            if len(kept) == keep:
                break
            near = joints_m is not None and any(
                float((joints_m[row] - joints_m[other]).norm(dim=-1).mean()) < SAME_BODY_M for other in kept
            )
            if not near:
                kept.append(row)
        rows += kept
    return rows


def minimise(
    objective: Objective, observation: Observation, start: Variables, stage: Stage, failure: list[str]
):
    """Levenberg-Marquardt on the stage's free variables; a row's energy never rises.

    Returns (variables, energy [N], failure [N]). A row that meets a non-finite value stays where it was.
    """
    free = start.free(stage.free)
    failure = list(failure)
    now, (at, terms) = start, objective.evaluate(start, observation, stage)
    for row in (~at.finite()).nonzero()[:, 0].tolist():
        failure[row] = failure[row] or _name_failure(terms, row, stage, 0)
    damping, done = torch.full_like(at.energy, FIRST_DAMPING), ~at.finite()
    for step in range(1, stage.steps + 1):
        trial = now.with_flat(now.flat() + damped_step(at, damping, free))
        there, terms = objective.evaluate(trial, observation, stage)
        for row in (~there.finite() & ~done).nonzero()[:, 0].tolist():
            failure[row] = failure[row] or _name_failure(terms, row, stage, step)
        better = (there.energy < at.energy) & there.finite() & ~done
        still = better & (at.energy - there.energy < CONVERGED * at.energy.abs())
        now, at = now.replaced(better, trial), at.replaced(better, there)
        damping = torch.where(better, damping / 4, damping * 6).clamp(1e-6, 1e8)
        done = done | still | (damping >= GIVE_UP)  # a row that has ended does not wait for the others
        if bool(done.all()):
            break
    return now, at.energy, failure


def damped_step(at: Evaluation, damping: Tensor, free: Tensor) -> Tensor:
    """-(H + damping diag H)^-1 g on the free entries, at most STEP_LIMIT in any of them; 0 where that fails."""
    gradient = torch.where(free, at.gradient, torch.zeros_like(at.gradient))
    both = free[:, None] & free[None, :]
    curvature = torch.where(both, at.curvature, torch.zeros_like(at.curvature))
    diagonal = torch.where(free, at.curvature.diagonal(dim1=1, dim2=2), torch.ones_like(gradient))
    diagonal = damping[:, None] * diagonal + torch.where(free, 1e-6 * diagonal.amax(1, keepdim=True), 1.0)
    finite = (gradient.isfinite().all(1) & curvature.isfinite().flatten(1).all(1))[:, None]
    curvature = torch.where(finite[..., None], curvature, torch.zeros_like(curvature))
    diagonal = torch.where(finite, diagonal, torch.ones_like(diagonal))
    factor, info = torch.linalg.cholesky_ex(curvature + torch.diag_embed(diagonal))
    step = -torch.cholesky_solve(gradient[..., None], factor)[..., 0]
    step = torch.where(finite & (info == 0)[:, None], step, torch.zeros_like(step))
    return step * (STEP_LIMIT / step.abs().amax(1, keepdim=True).clamp(min=STEP_LIMIT))


def _name_failure(terms: dict[str, Tensor], row: int, stage: Stage, step: int) -> str:
    bad = next((name for name, value in terms.items() if not bool(value[row].isfinite())), None)
    what = f"term {bad} is {float(terms[bad][row])}" if bad else "the gradient is not finite"
    return f"{what}, stage {stage.name!r}, step {step}"
