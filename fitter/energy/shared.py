"""What several people have in common, found together: the camera of a photo, whose tilt all of them say something of.

Everybody is fitted alone first, each with a tilt of their own. Of the joint problem's Newton step everything else is
eliminated person by person (Schur complement), so that what is left is a system of two unknowns a camera; then each
person moves on with the tilt held. How far a camera may be off is counted once, not once a person.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fitter.config import Stage
from fitter.energy.objective import Evaluation, Objective
from fitter.energy.observation import Observation, Variables
from fitter.energy.solver import begin, minimise
from fitter.energy.stages import Fitted

ROUNDS = 2  # Newton steps on what is shared, each followed by the stage on the rest
DAMPING = 1e-6  # of the largest curvature, as the solver's


@dataclass(frozen=True)
class Prior:
    """What is believed of shared variables before looking, N rows alike within a group: middle and precision [N, S]."""

    middle: Tensor
    precision: Tensor


@torch.no_grad()
def agree(objective: Objective, observation: Observation, fitted: Fitted, stage: Stage) -> Fitted:
    """People found alone, each with one camera's others; whoever is alone in front of a camera stays as found.

    stage: run once more with the tilt held. Nobody ends above the energy that the fit began with (`energy_start`)."""
    same = observation.camera[:, None] == observation.camera
    rows = (same.sum(1) > 1).nonzero()[:, 0]
    if not len(rows):
        return fitted
    alone, seen = fitted.rows(rows), observation.rows(rows)
    _, group = torch.unique(seen.camera, return_inverse=True)
    held = replace(stage, free=tuple(name for name in stage.free if name != "level"))
    prior = Prior(seen.tilt, objective.weights.level * seen.tilt_spread**-2)
    at = begin(alone.variables)
    for _ in range(ROUNDS):
        before = objective.evaluate(at.variables, seen, stage)
        shared = shared_step(before, at.variables, "level", group, prior)
        at = minimise(objective, seen, replace(at, variables=shared), held)
    energies = dict(zip(objective.term_names, at.terms.unbind(1), strict=True))
    together = replace(alone, variables=at.variables, energies=energies)
    worse = ~(at.energy <= alone.energy_start)
    return fitted._each(lambda old, new: old.index_copy(0, rows, new), together.replaced(worse, alone))


def shared_step(at: Evaluation, variables: Variables, name: str, group: Tensor, prior: Prior) -> Variables:
    """One Newton step of the sum of all rows' energies in which the rows of a group have the variables `name` (one of
    GROUPS) in common, and `prior`'s energy, half its precision times the squared difference, counts once a group.

    group: [N] int64, 0 .. G - 1.
    """
    flat, where = variables.flat(), variables.slices()[name]
    own = torch.ones(flat.shape[1], dtype=torch.bool, device=flat.device)
    own[where] = False
    own, size, count = own.nonzero()[:, 0], where.stop - where.start, int(group.max()) + 1
    curvature = at.curvature[:, own[:, None], own].clone()
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    diagonal += DAMPING * diagonal.amax(1, keepdim=True)
    across = at.curvature[:, own, where]
    factor, info = torch.linalg.cholesky_ex(curvature)
    solved = torch.cholesky_solve(torch.cat([across, at.gradient[:, own, None]], 2), factor)
    by_shared, by_gradient = solved[..., :size], solved[..., size:]
    left = at.curvature[:, where, where] - across.transpose(1, 2) @ by_shared
    pull = at.gradient[:, where] - (across.transpose(1, 2) @ by_gradient)[..., 0]
    wanted = (left @ flat[:, where, None])[..., 0] - pull

    def total(parts: Tensor) -> Tensor:
        return parts.new_zeros(count, *parts.shape[1:]).index_add(0, group, parts)

    number = total(torch.ones_like(flat[:, :1]))
    precision, middle = (total(part) / number for part in (prior.precision, prior.middle))
    matrix = total(left) - torch.diag_embed((number - 1) * precision)
    found, failed = torch.linalg.solve_ex(matrix, total(wanted) - (number - 1) * precision * middle)
    moved = flat.clone()
    moved[:, where] = found[group]
    moved[:, own] -= by_gradient[..., 0] + (by_shared @ (found[group] - flat[:, where])[..., None])[..., 0]
    bad = total(((info != 0) | ~moved.isfinite().all(1)).to(flat)) + failed.to(flat) > 0
    moved = torch.where(bad[group][:, None], flat, moved)
    return variables.with_flat(moved)
