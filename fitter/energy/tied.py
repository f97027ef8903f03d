"""Rows that are one body: seen by several cameras at once, or by one camera from frame to frame.

All rows have one shape; rows of one instant have one pose, orientation and place, which each camera sees from where it
stands; and from instant to instant the joints move smoothly: the second differences of their places cost. One
Levenberg-Marquardt step solves for all instants together. An instant hangs on the two before and the two after it, so
its system is banded, and what is shared is eliminated last (Schur complement): the cost grows with the instants, not
with their cube. The frame of the motion is the world's; of a video that is the camera's.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from scipy.linalg import cho_solve_banded, cholesky_banded
from torch import Tensor

from fitter.body.model import BodyModel
from fitter.body.points import KeypointModel
from fitter.config import Stage
from fitter.energy.objective import Evaluation, Objective
from fitter.energy.observation import NEAREST_M, Observation, Variables
from fitter.energy.solver import FIRST_DAMPING, GIVE_UP, GOOD, POOR, STEP_LIMIT, learn
from priors.rotation import cross_matrix, rotation_and_jacobian, rotation_from_axis_angle

SHARED = ("shape", "level")  # of GROUPS, what all instants have in common


@dataclass(frozen=True)
class Course:
    """One body at T instants, seen in N rows: orientation [T, 3, 3], root to world; place_m [T, 3] of the pelvis joint
    in the world; latent [T, D]; betas [1, 10]; tilt [N, 2] rad, each row's camera's."""

    orientation: Tensor
    place_m: Tensor
    latent: Tensor
    betas: Tensor
    tilt: Tensor


@dataclass(frozen=True)
class Tied:
    """What is seen of one body, and how its rows hang together.

    seen: N rows, without targets; instant [N] int64: which of the T each is of; turned [N, 3, 3], moved_m [N, 3]: world
    to camera of each row; bends [M, T]: combinations of instants, whose joints' places, squared (m^2), cost; held [T]
    bool: instants that do not move; dressed [R] int64: rows with clothing labels, and worn, what is seen of those, with
    targets.
    """

    objective: Objective
    seen: Observation
    instant: Tensor
    turned: Tensor
    moved_m: Tensor
    bends: Tensor
    held: Tensor
    dressed: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    worn: Observation | None = None

    def rows_of(self, motion: Course) -> Variables:
        """The motion as each row's camera sees it."""
        orientation = self.turned @ motion.orientation[self.instant]
        place = (self.turned @ motion.place_m[self.instant, :, None])[..., 0] + self.moved_m
        zero = torch.zeros_like(place)
        betas = motion.betas.expand(len(place), -1)
        return Variables(zero, zero, motion.latent[self.instant], betas, motion.tilt, orientation, place)

    def part(self, stage: Stage) -> list[tuple[Tensor, Observation, Stage]]:
        """Rows that are evaluated together, what is seen of them, and how: those with labels, in a stage that renders
        them, and the others by their keypoints."""
        every = torch.arange(len(self.instant), device=self.instant.device)
        if not stage.crop_px or self.worn is None:
            return [(every, self.seen, replace(stage, crop_px=0))]
        plain = every[~torch.isin(every, self.dressed)]
        bare = replace(stage, crop_px=0)
        parts = [(plain, self.seen.rows(plain), bare)] if len(plain) else []
        return [*parts, (self.dressed, self.worn, stage)]


@dataclass(frozen=True)
class Found:
    """motion; energies: weighted terms by name, each [N], and smoothness [1]; energy: their sum, and start: the same
    where it began, both of the last stage; failure: in words, "" if there is none."""

    motion: Course
    energies: dict[str, Tensor]
    energy: float
    start: float
    failure: str = ""


def second_differences(count: int, seconds: float, weight: float) -> Tensor:
    """`Tied.bends` of `count` instants `seconds` apart: weight times the integral of the joints' squared acceleration,
    m^2/s^3; so that a motion costs the same at any frame rate."""
    bends = torch.zeros(max(count - 2, 0), count, dtype=torch.float64)
    for row in range(len(bends)):
        bends[row, row : row + 3] = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)
    return bends * (weight / seconds**3) ** 0.5


@torch.no_grad()
def fit_tied(tied: Tied, start: Course, stages: tuple[Stage, ...]) -> Found:
    """The stages one after the other. The sum of all energies never ends above that of `start`, and nothing is written
    that is not finite: then `start` stays, and `failure` says so."""
    motion, learned, failure = start, None, ""
    for stage in stages:
        motion, learned, failed = _minimise(tied, motion, stage, learned)
        failure = failure or failed
    begun, ended = (_evaluate(tied, one, stages[-1]) for one in (start, motion))
    if not ended.energy <= begun.energy:
        motion, ended = start, begun
    terms = torch.zeros(len(tied.instant), len(tied.objective.term_names)).to(ended.parts[0][1].terms)
    for rows, at in ended.parts:
        terms[rows] = at.terms
    energies = dict(zip(tied.objective.term_names, terms.unbind(1), strict=True))
    return Found(motion, energies | {"smooth": ended.smooth}, ended.energy, begun.energy, failure)


@dataclass(frozen=True)
class _At:
    """energy of everything; parts: rows and their Evaluation; smooth [1]: the energy of the bends."""

    energy: float
    parts: list[tuple[Tensor, Evaluation]]
    smooth: Tensor


def _evaluate(tied: Tied, motion: Course, stage: Stage) -> _At:
    variables = tied.rows_of(motion)
    parts = [
        (rows, tied.objective.evaluate(variables.rows(rows), seen, how))
        for rows, seen, how in tied.part(stage)
    ]
    smooth = torch.zeros(1, dtype=torch.float64)
    if len(tied.bends):
        points = _joints(tied, motion)[0].double().flatten(1)
        smooth = (tied.bends.to(points) @ points).square().sum()[None]
    energy = sum(float(at.energy.double().sum()) for _, at in parts) + float(smooth)
    finite = all(bool(at.finite().all()) for _, at in parts)
    before = bool((variables.start_place_m[:, 2] > NEAREST_M).all())
    return _At(energy if finite and before else float("nan"), parts, smooth)


def _minimise(tied: Tied, motion: Course, stage: Stage, learned: Tensor | None):
    """At most `stage.steps` steps, none of which raises the energy: the motion, the curvature learned of what is
    rendered, and why it failed."""
    at = _evaluate(tied, motion, stage)
    if not np.isfinite(at.energy):
        return motion, learned, f"the energy is not finite, stage {stage.name!r}, step 0"
    damping = FIRST_DAMPING
    rendered = bool(stage.crop_px) and tied.worn is not None
    if rendered and learned is None:
        learned = torch.zeros_like(at.parts[-1][1].curvature)
    for _ in range(stage.steps):
        system = _system(tied, motion, at, stage, learned if rendered else None)
        step, expected = _solve(system, damping, tied.held)
        if step is None:
            damping *= 6
            if damping >= GIVE_UP:
                break
            continue
        trial, rows = _moved(tied, motion, system, step, stage)
        there = _evaluate(tied, trial, stage)
        fall = at.energy - there.energy
        better = fall > 0  # nan is not
        if rendered and np.isfinite(there.energy):
            changed = there.parts[-1][1].rendered_gradient - at.parts[-1][1].rendered_gradient
            use = torch.ones(len(changed), dtype=torch.bool, device=changed.device)
            learned = learn(learned, at.parts[-1][1].sight, rows[tied.dressed], changed, use)
        share = fall / max(expected, 1e-30)
        if better:
            damping = damping / 5 if share > GOOD else damping * 4 if share < POOR else damping
        else:
            damping *= 6
        still = expected < stage.gain * abs(at.energy) or (better and fall < stage.gain * abs(at.energy))
        if better:
            motion, at = trial, there
        damping = min(max(damping, 1e-6), 1e8)
        if still or damping >= GIVE_UP:
            break
    return motion, learned, ""


@dataclass(frozen=True)
class _System:
    """Newton's system: own [T, B, B] of each instant's turn, place and latent; near, far [T, B, B]: between an instant
    and the next, and the one after that; across [T, B, S] with what is shared, shared [S, S]; pull [T, B] and
    shared_pull [S], the gradient; to_rows [N, 6, 6]: a turn and move in the world -> turn and shift of each row."""

    own: np.ndarray
    near: np.ndarray
    far: np.ndarray
    across: np.ndarray
    shared: np.ndarray
    pull: np.ndarray
    shared_pull: np.ndarray
    to_rows: Tensor


def _system(tied: Tied, motion: Course, at: _At, stage: Stage, learned: Tensor | None) -> _System:
    variables = tied.rows_of(motion)
    places = variables.slices()
    size, count = places["pose"].stop, len(motion.latent)
    common = [entry for name in SHARED if name in stage.free for entry in range(*places[name].indices(1000))]
    order = [*range(size), *common]
    to_rows = _to_rows(tied, variables)
    whole = motion.latent.new_zeros(count, len(order), len(order), dtype=torch.float64)
    pull = motion.latent.new_zeros(count, len(order), dtype=torch.float64)
    for number, (rows, part) in enumerate(at.parts):
        curvature, gradient = part.curvature, part.gradient + part.rendered_gradient
        if learned is not None and number == len(at.parts) - 1:
            curvature = curvature + learned
        first, left = to_rows[rows], curvature.clone()
        left[:, :6] = first.transpose(1, 2) @ left[:, :6]
        left[:, :, :6] = left[:, :, :6] @ first
        gradient = gradient.clone()
        gradient[:, :6] = (first.transpose(1, 2) @ gradient[:, :6, None])[..., 0]
        where = tied.instant[rows]
        whole.index_add_(0, where, left[:, order][:, :, order].double())
        pull.index_add_(0, where, gradient[:, order].double())
    near = whole.new_zeros(count, size, size)
    far = torch.zeros_like(near)
    if len(tied.bends):
        points, jacobian = _joints(tied, motion, derivatives=True)
        jacobian = jacobian[..., : len(order)] if "shape" in stage.free else jacobian[..., :size]
        jacobian = torch.nn.functional.pad(jacobian, (0, len(order) - jacobian.shape[-1])).double()
        stiff = (2 * tied.bends.T @ tied.bends).to(jacobian)
        along = (stiff @ points.double().flatten(1))[:, None]  # what pulls at each instant's joints
        pull += (along @ jacobian)[:, 0]
        own = jacobian[..., :size]
        both = stiff.diagonal()[:, None, None] * (jacobian.transpose(1, 2) @ jacobian)
        whole[:, :size, :size] += both[:, :size, :size]
        for apart, into in ((1, near), (2, far)):
            strength = stiff.diagonal(apart)[:, None, None]
            into[: count - apart] = strength * (own[:-apart].transpose(1, 2) @ own[apart:])
        if common:
            rest = jacobian[..., size:]
            drag = (stiff @ rest.flatten(1)).reshape(rest.shape)
            whole[:, :size, size:] += own.transpose(1, 2) @ drag
            whole[:, size:, size:] += rest.transpose(1, 2) @ drag
    return _System(
        whole[:, :size, :size].numpy(force=True),
        near.numpy(force=True),
        far.numpy(force=True),
        whole[:, :size, size:].numpy(force=True),
        whole[:, size:, size:].sum(0).numpy(force=True),
        pull[:, :size].numpy(force=True),
        pull[:, size:].sum(0).numpy(force=True),
        to_rows,
    )


def _solve(system: _System, damping: float, held: Tensor):
    """The damped step, [T, B] and [S] as one pair, and the fall of the energy that is expected of it; (None, 0) where
    there is none. No variable moves by more than STEP_LIMIT."""
    count, size = system.pull.shape
    diagonal = np.diagonal(system.own, axis1=1, axis2=2)
    added = damping * diagonal + 1e-6 * diagonal.max(1, keepdims=True)
    shared_diagonal = np.diagonal(system.shared)
    shared_added = damping * shared_diagonal + 1e-6 * max(shared_diagonal.max(initial=0), 1e-12)
    moves = ~held.numpy(force=True)[:, None]
    own = system.own + added[:, :, None] * np.eye(size)
    own = np.where(moves[:, :, None], own, np.eye(size))
    between = [system.near * (moves & np.roll(moves, -1, 0))[:, :, None],
               system.far * (moves & np.roll(moves, -2, 0))[:, :, None]]  # fmt: skip
    across, pull = system.across * moves[:, :, None], system.pull * moves
    try:
        factor = cholesky_banded(_banded(own, *between), lower=True, check_finite=False)
        right = np.concatenate([pull.reshape(-1, 1), across.reshape(count * size, -1)], 1)
        solved = cho_solve_banded((factor, True), right, check_finite=False)
        by_pull, by_shared = solved[:, 0], solved[:, 1:]
        flat = across.reshape(count * size, -1)
        left = system.shared + np.diag(shared_added) - flat.T @ by_shared
        together = -np.linalg.solve(left, system.shared_pull - flat.T @ by_pull)
    except np.linalg.LinAlgError:
        return None, 0.0
    step = (-by_pull - by_shared @ together).reshape(count, size)
    if not (np.isfinite(step).all() and np.isfinite(together).all()):
        return None, 0.0
    longest = max(np.abs(step).max(), np.abs(together).max(initial=0))
    share = STEP_LIMIT / max(longest, STEP_LIMIT)
    step, together = share * step, share * together
    fall = (0.5 * share - 1) * ((pull * step).sum() + (system.shared_pull * together).sum())
    fall += 0.5 * ((added * step**2).sum() + (shared_added * together**2).sum())
    return (step, together), float(fall)


def _banded(own: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """LAPACK's lower banded form, [min(3, T) B, T B], of a symmetric matrix by its blocks [T, B, B] on the diagonal and
    above it."""
    count, size, _ = own.shape
    high = min(3, count) * size
    column = np.concatenate([own, near.transpose(0, 2, 1), far.transpose(0, 2, 1)], 1)[:, :high]
    column = np.concatenate([column, np.zeros((count, size, size))], 1)
    rows = np.minimum(np.arange(high)[:, None] + np.arange(size), high + size - 1)
    return column[:, rows, np.arange(size)].transpose(1, 0, 2).reshape(high, count * size)


def _moved(tied: Tied, motion: Course, system: _System, step, stage: Stage) -> tuple[Course, Tensor]:
    """The motion after a step, and the step of every row's Variables.flat [N, P]."""
    own, together = (torch.as_tensor(part).to(motion.latent) for part in step)
    betas = torch.zeros_like(motion.betas[0])
    tilt = motion.tilt.new_zeros(2)
    if "shape" in stage.free:
        betas, together = together[:10], together[10:]
    if "level" in stage.free:
        tilt = together
    moved = Course(
        rotation_from_axis_angle(own[:, :3]) @ motion.orientation,
        motion.place_m + own[:, 3:6],
        motion.latent + own[:, 6:],
        motion.betas + betas,
        motion.tilt + tilt,
    )
    rows = own[tied.instant]
    first = (system.to_rows @ rows[:, :6, None])[..., 0]
    rest = torch.cat([betas, tilt]).expand(len(rows), -1)
    return moved, torch.cat([first, rows[:, 6:], rest], 1)


def _to_rows(tied: Tied, variables: Variables) -> Tensor:
    """`_System.to_rows`."""
    place = variables.start_place_m
    found = place.new_zeros(len(place), 6, 6)
    found[:, :3, :3] = tied.turned
    found[:, 3:, 3:] = torch.linalg.solve(Objective.d_shift(place, tied.seen), tied.turned)
    return found


def _joints(tied: Tied, motion: Course, derivatives: bool = False):
    """Joints [T, 24, 3] m in the world, and their derivatives [T, 72, 6 + D + 10] by turn, place, latent and betas."""
    prior, model = tied.objective.prior, joint_model(tied.objective.body)
    count = len(motion.latent)
    rotations, jacobians = rotation_and_jacobian(prior.body_pose(motion.latent).reshape(-1, 23, 3))
    kind = torch.zeros(count, dtype=torch.int64, device=motion.latent.device)
    posed = model(motion.betas.expand(count, -1), rotations, kind)
    about = posed.points @ motion.orientation.transpose(1, 2)
    points = about + motion.place_m[:, None]
    if not derivatives:
        return points, None
    axes = motion.orientation[:, None].expand(-1, 24, -1, -1)
    d_pose, d_shape = model.jacobian(posed, axes, jacobians)
    d_turn, d_place = -cross_matrix(about), torch.eye(3).to(about).expand_as(axes)
    jacobian = torch.cat([d_turn, d_place, prior.chain(d_pose, motion.latent), d_shape], -1)
    return points, jacobian.flatten(1, 2)


@lru_cache(maxsize=2)
def joint_model(body: BodyModel) -> KeypointModel:
    """The body's KeypointModel for its 24 joints themselves, made once."""
    return KeypointModel(body, torch.eye(35)[None, :24])
