"""Levenberg-Marquardt on the rows of an objective, with a learned curvature for what is rendered.

Terms that are sums of squares bring their Gauss-Newton curvature. The rendered terms bring a gradient alone, so theirs
is learned from how it changes (a structured quasi-Newton method: Dennis, Gay, Welsch, NL2SOL, ACM TOMS 1981): it begins
as a multiple of the keypoint term's, for outlines move as keypoints do, and is updated as in BFGS.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fitter.config import Stage
from fitter.energy.objective import Evaluation, Objective
from fitter.energy.observation import Observation, Variables
from fitter.rows import Rows, as_of_several

FIRST_DAMPING, GIVE_UP = 1e-2, 1e6
STEP_LIMIT = 0.5  # rad, log distance, shape: no variable moves further in one step
GOOD, POOR = (
    0.75,
    0.25,
)  # shares of the expected fall of the energy, above and below which the damping is changed
SECANT = 1e-4  # least curvature along a step, of what the keypoints say, that is learned from


@dataclass(frozen=True)
class Solution(Rows):
    """N rows. variables; energy [N]; terms [N, T] as Evaluation's; learned [N, P, P]: curvature of what is rendered,
    [N, 0, 0] before anything was; failed [N, 3] int64: number of the first term that was not finite (the gradient's is
    that after the last), stage and step, -1 without one."""

    variables: Variables
    energy: Tensor
    terms: Tensor
    learned: Tensor
    failed: Tensor


def failure_names(failed: Tensor, terms: tuple[str, ...], stages: tuple[Stage, ...]) -> list[str]:
    """`Solution.failed` in words, "" where there is none."""
    names = [*(f"term {name}" for name in terms), "the gradient"]
    return [
        "" if term < 0 else f"{names[term]} is not finite, stage {stages[stage].name!r}, step {step}"
        for term, stage, step in failed.tolist()
    ]


def begin(variables: Variables) -> Solution:
    """Rows before the first stage."""
    flat = variables.flat()
    failed = torch.full((len(flat), 3), -1, device=flat.device)
    return Solution(variables, flat[:, 0] * 0, flat[:, :0], flat.new_zeros(len(flat), 0, 0), failed)


@torch.no_grad()
def minimise(
    objective: Objective, observation: Observation, start: Solution, stage: Stage, number: int = 0
) -> Solution:
    """At most `stage.steps` steps on the stage's free variables; a row's energy never rises.

    number: the stage's, for `failed`. A row that meets a non-finite value stays where it was. On a CPU rows that have
    ended are left out of the work; elsewhere they are masked, so that nothing waits for the device.
    """
    free = start.variables.free(stage.free)
    at = objective.evaluate(start.variables, observation, stage)
    finite = at.finite()
    learned = start.learned
    if _is_rendered(objective, stage) and not learned.shape[1]:
        learned = torch.zeros_like(at.curvature)
    now = _Progress(
        at=at,
        variables=start.variables,
        learned=learned,
        damping=torch.full_like(at.energy, FIRST_DAMPING),
        done=~finite,
        failed=_note(start.failed, at, ~finite, number, 0),
    )
    compact = start.energy.device.type == "cpu"
    whole, seen, rows = now.solution(), observation, torch.arange(len(finite), device=finite.device)
    for step in range(1, stage.steps + 1):
        if compact:
            left = ~now.done
            if not left.all():
                whole = _put(whole, rows, now)
                rows, now, seen = rows[left], now.rows(left), seen.rows(left)
            if not len(rows):
                break
        now = _step(objective, seen, now, stage, free, number, step)
    return _put(whole, rows, now)


@dataclass(frozen=True)
class _Progress(Rows):
    at: Evaluation
    variables: Variables
    learned: Tensor
    damping: Tensor
    done: Tensor
    failed: Tensor

    def solution(self) -> Solution:
        return Solution(self.variables, self.at.energy, self.at.terms, self.learned, self.failed)


def _put(whole: Solution, rows: Tensor, part: _Progress) -> Solution:
    """`whole` with `rows` taken from `part`."""
    if len(part.done) == len(whole.energy):
        return part.solution()
    return whole._each(lambda old, new: old.index_copy(0, rows, new), part.solution())


def _is_rendered(objective: Objective, stage: Stage) -> bool:
    return bool(stage.crop_px and objective.semantics)


def _step(objective, seen, now: _Progress, stage: Stage, free: Tensor, number: int, step: int) -> _Progress:
    at = now.at
    rendered = _is_rendered(objective, stage)
    curvature = at.curvature + now.learned if rendered else at.curvature
    gradient = at.gradient + at.rendered_gradient if rendered else at.gradient
    move, expected = as_of_several(partial(damped_step, free=free), gradient, curvature, now.damping)
    trial = now.variables.with_flat(now.variables.flat() + move)
    there = objective.evaluate(trial, seen, stage)
    finite = there.finite()
    fall = at.energy - there.energy
    better = (fall > 0) & finite & ~now.done
    learned = now.learned
    if rendered:
        changed = there.rendered_gradient - at.rendered_gradient
        learned = as_of_several(learn, learned, at.sight, move, changed, finite & ~now.done)
    share = fall / expected.clamp(min=1e-30)
    damping = torch.where(
        share > GOOD, now.damping / 5, torch.where(share < POOR, now.damping * 4, now.damping)
    )
    damping = torch.where(better, damping, now.damping * 6).clamp(1e-6, 1e8)
    still = (expected < stage.gain * at.energy.abs()) | (better & (fall < stage.gain * at.energy.abs()))
    return _Progress(
        at=at.replaced(better, there),
        variables=now.variables.replaced(better, trial),
        learned=learned,
        damping=torch.where(now.done, now.damping, damping),
        done=now.done | still | (damping >= GIVE_UP),
        failed=_note(now.failed, there, ~finite & ~now.done, number, step),
    )


def damped_step(gradient: Tensor, curvature: Tensor, damping: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """-(H + damping diag H)^-1 g on the free entries, at most STEP_LIMIT in any of them; 0 where that fails.

    gradient [N, P], curvature [N, P, P], damping [N], free [F] int64. Returns the step [N, P] and the fall of the
    energy that the quadratic expects of it [N].
    """
    whole = len(free) == gradient.shape[1]
    g = gradient if whole else gradient[:, free]
    h = curvature if whole else curvature[:, free[:, None], free]
    diagonal = h.diagonal(dim1=1, dim2=2)
    added = damping[:, None] * diagonal + 1e-6 * diagonal.amax(1, keepdim=True)
    damped = h.clone()
    damped.diagonal(dim1=1, dim2=2).add_(added)
    factor, info = torch.linalg.cholesky_ex(damped)
    step = -torch.cholesky_solve(g[..., None], factor)[..., 0]
    share = STEP_LIMIT / step.abs().amax(1).clamp(min=STEP_LIMIT)
    step = step * share[:, None]
    # -g step - 0.5 step H step, where H step = -share g - added step
    expected = (0.5 * share - 1) * (g * step).sum(1) + 0.5 * (added * step.square()).sum(1)
    solved = (info == 0) & step.isfinite().all(1) & expected.isfinite()
    step = torch.where(solved[:, None], step, torch.zeros_like(step))
    expected = torch.where(solved, expected, torch.zeros_like(expected))
    return step if whole else torch.zeros_like(gradient).index_copy(1, free, step), expected


def learn(learned: Tensor, sight: Tensor, move: Tensor, changed: Tensor, use: Tensor) -> Tensor:
    """The rendered terms' curvature [N, P, P] after their gradient changed by `changed` [N, P] over `move` [N, P].

    BFGS on what was learned, or, where nothing was yet, on the multiple of `sight` [N, P, P] that explains the change;
    positive semidefinite throughout. use [N] bool: rows that learn; those along whose step the curvature is not
    positive keep what they have.
    """
    along = (move * changed).sum(1)
    seen = torch.bmm(sight, move[..., None])[..., 0]
    seen_along = (move * seen).sum(1)
    use = use & (along > SECANT * seen_along) & (along > 0)
    new = ~learned.flatten(1).any(1) & (seen_along > 0)
    scale = torch.where(new, along / seen_along.clamp(min=1e-30), torch.zeros_like(along))
    before = learned + scale[:, None, None] * sight
    bent = torch.bmm(before, move[..., None])[..., 0]
    bent_along = (move * bent).sum(1)
    gone = bent[:, :, None] * bent[:, None] / bent_along.clamp(min=1e-30)[:, None, None]
    come = changed[:, :, None] * changed[:, None] / along.clamp(min=1e-30)[:, None, None]
    after = before - torch.where((bent_along > 0)[:, None, None], gone, torch.zeros_like(gone)) + come
    return torch.where(use[:, None, None], after, learned)


def _note(failed: Tensor, at: Evaluation, rows: Tensor, stage: int, step: int) -> Tensor:
    """`failed` with the first non-finite term, or the gradient, of `rows` [N] that had none before."""
    bad = ~at.terms.isfinite()
    term = torch.where(bad.any(1), bad.to(torch.int8).argmax(1), bad.shape[1])
    code = torch.stack([term, torch.full_like(term, stage), torch.full_like(term, step)], 1)
    return torch.where((rows & (failed[:, 0] < 0))[:, None], code, failed)
