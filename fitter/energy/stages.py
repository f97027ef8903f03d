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
from fitter.energy.starts import first_starts, lifted_starts, with_turned
from fitter.rows import Rows

LIFTED_STEPS, LIFTED_KEEP = 4, 4  # of stages that choose among starts, begun where the lifter says
SAME_BODY_M = 0.02  # mean distance of joints, pelvis on pelvis


@dataclass(frozen=True)
class Fitted(Rows):
    """B people's best rows.

    variables [B, ...]; energies: weighted terms of the last stage by name, each [B]; energy_start [B]: the last
    stage's energy where the fit began; failed [B, 3]: `Solution.failed`, its stages those that were run; runner_up
    [B, ...]: the best other body among what was begun elsewhere, and behind [B], how much more energy it has; 0 where
    there is none.
    """

    variables: Variables
    energies: dict[str, Tensor]
    energy_start: Tensor
    failed: Tensor
    runner_up: Variables
    behind: Tensor

    def failures(self, stages: tuple[Stage, ...]) -> list[str]:
        """In words, "" where there is none; stages: those that were run."""
        return failure_names(self.failed, tuple(self.energies), stages)


@torch.no_grad()
def search(objective: Objective, observation: Observation, settings: Optimisation) -> Fitted:
    """Fits B people to their keypoints from nothing: the stages without DSR terms, from the prior's poses."""
    stages = tuple(stage for stage in settings.stages if not stage.crop_px)
    if observation.lifted:
        chosen = tuple(
            replace(stage, steps=min(stage.steps, LIFTED_STEPS), keep=LIFTED_KEEP)
            if stage.keep > 1
            else stage
            for stage in stages
            if "pose" in stage.free
        )
        starts = lifted_starts(objective, observation, settings)
        return _run(objective, observation, chosen, starts, 0, first_number=len(stages) - len(chosen))
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
    objective,
    observation: Observation,
    stages,
    starts: Variables,
    poses: int,
    given: Variables | None = None,
    first_number: int = 0,
) -> Fitted:
    """stages on B x S rows, S starts a person; poses: so many of the prior's are tried from the first stage on that
    frees the pose; first_number: the first stage's, for `failed`."""
    people = len(observation.box_px)
    device = observation.box_px.device
    first = given or starts.rows(slice(None, None, len(starts.betas) // people))
    at = begin(starts)
    for number, stage in enumerate(stages, first_number):
        if poses and "pose" in stage.free:
            at, poses = with_poses(objective, at, poses), 0
        owner = torch.arange(people, device=device).repeat_interleave(len(at.energy) // people)
        seen = observation.rows(owner)
        at = minimise(objective, seen, at, stage, number)
        joints = objective.joints_cam(at.variables, seen) if len(owner) > people else None
        second = at.rows(best_rows(at.energy, people, 2, joints).reshape(people, -1)[:, -1])
        at = at.rows(best_rows(at.energy, people, stage.keep, joints))
    start = objective.evaluate(first, observation, stages[-1])
    worse = ~(at.energy <= start.energy)
    variables = at.variables.replaced(worse, first)
    terms = torch.where(worse[:, None], start.terms, at.terms)
    energies = dict(zip(objective.term_names, terms.unbind(1), strict=True))
    return Fitted(variables, energies, start.energy, at.failed, second.variables, second.energy - at.energy)


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
