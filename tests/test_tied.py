"""fitter/energy/tied.py: the banded step against the whole system solved at once, derivatives, energies that fall."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_stages import CAMERA, CONFIG, NormalPrior, seen_person

from fitter.config import BODY, Stage
from fitter.energy.objective import Objective
from fitter.energy.tied import (
    Course,
    Tied,
    _evaluate,
    _joints,
    _moved,
    _solve,
    _system,
    fit_tied,
    second_differences,
)
from fitter.people import Sighting, observe, variables_of

STAGE = Stage("fine", 20)


@pytest.fixture(scope="module")
def problem(toy_body):
    """Five frames of a body that stands still, its keypoints shaken by 4 px; and a motion that is not yet fitted."""
    objective = Objective(toy_body, NormalPrior(), CONFIG.weights, CONFIG.optimisation.sigma)
    rng = np.random.default_rng(0)
    person, _ = seen_person(toy_body, 3)
    seen = []
    for _ in range(5):
        keypoints = person.keypoints_px + np.column_stack([rng.normal(0, 4, (25, 2)), np.zeros(25)])
        seen.append(Sighting("clip", replace(person, keypoints_px=keypoints), CAMERA))
    observation = observe(seen, toy_body)
    count, double = len(seen), {"dtype": torch.float64}
    turn = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]], **double)
    motion = Course(
        orientation=turn.expand(count, 3, 3),
        place_m=torch.tensor(rng.normal(0, 0.02, (count, 3))) + torch.tensor([0.0, 0.1, 4.0]),
        latent=torch.tensor(rng.normal(0, 0.1, (count, 69))),
        betas=torch.zeros(1, 10, **double),
        tilt=torch.zeros(count, 2, **double),
    )
    tied = Tied(
        objective,
        observation,
        instant=torch.arange(count),
        turned=torch.eye(3, **double).expand(count, 3, 3),
        moved_m=torch.zeros(count, 3, **double),
        bends=second_differences(count, 1 / 30, 0.05),
        held=torch.zeros(count, dtype=torch.bool),
    )
    return tied, motion


def dense(system):
    """The whole symmetric matrix and the gradient."""
    count, size, common = system.across.shape
    matrix = np.zeros((count * size + common, count * size + common))
    for t in range(count):
        here = slice(t * size, (t + 1) * size)
        matrix[here, here] = system.own[t]
        matrix[here, count * size :] = system.across[t]
        for apart, blocks in ((1, system.near), (2, system.far)):
            if t + apart < count:
                there = slice((t + apart) * size, (t + apart + 1) * size)
                matrix[here, there] = blocks[t]
    matrix = np.triu(matrix) + np.triu(matrix, 1).T
    matrix[count * size :, count * size :] = system.shared
    return matrix, np.concatenate([system.pull.ravel(), system.shared_pull])


def test_the_step_is_that_of_the_whole_system(problem):
    tied, motion = problem
    system = _system(tied, motion, _evaluate(tied, motion, STAGE), STAGE, None)
    matrix, gradient = dense(system)
    held = tied.held.clone()
    for hold in ([], [0, 1]):
        held[hold] = True
        (own, common), expected = _solve(system, 1e-2, held)
        least = [np.repeat(np.diagonal(system.own, axis1=1, axis2=2).max(1), own.shape[1]),
                 np.full(len(common), np.diag(system.shared).max())]  # fmt: skip
        damped = matrix + np.diag(1e-2 * np.diag(matrix) + 1e-6 * np.concatenate(least))
        free = np.repeat(~held.numpy(), own.shape[1]).tolist() + [True] * len(common)
        step = np.zeros(len(gradient))
        step[free] = -np.linalg.solve(damped[np.ix_(free, free)], gradient[free])
        step *= min(1, 0.5 / np.abs(step).max())
        np.testing.assert_allclose(np.concatenate([own.ravel(), common]), step, atol=1e-8)
        assert expected == pytest.approx(-(gradient @ step) - 0.5 * step @ matrix @ step, rel=1e-3)
        assert (own[hold] == 0).all()


def test_the_gradient_is_the_energys(problem):
    tied, motion = problem
    system = _system(tied, motion, _evaluate(tied, motion, STAGE), STAGE, None)
    rng = np.random.default_rng(1)
    own, common = rng.normal(size=system.pull.shape), rng.normal(size=system.shared_pull.shape)
    slope = (own * system.pull).sum() + common @ system.shared_pull
    size = 1e-5
    ends = [
        _evaluate(
            tied, _moved(tied, motion, system, (sign * size * own, sign * size * common), STAGE)[0], STAGE
        ).energy
        for sign in (1, -1)
    ]
    # central differences of an energy of about 1e4: the error of 1e-5 squared and of rounding
    assert (ends[0] - ends[1]) / (2 * size) == pytest.approx(slope, rel=1e-4)


def test_joints_move_as_their_derivatives_say(problem):
    tied, motion = problem
    points, jacobian = _joints(tied, motion, derivatives=True)
    system = _system(tied, motion, _evaluate(tied, motion, STAGE), STAGE, None)
    step = np.random.default_rng(2).normal(size=(5, 85)) * 1e-6
    moved, _ = _moved(tied, motion, system, (step[:, :75], np.pad(step[0, 75:], (0, 2))), STAGE)
    step[:, 75:] = step[0, 75:]
    along = (jacobian @ torch.tensor(step)[..., None])[..., 0].reshape(5, 24, 3)
    torch.testing.assert_close(_joints(tied, moved)[0] - points, along, atol=1e-10, rtol=1e-3)


def test_smoothness_is_the_integral_of_squared_acceleration():
    # x = a t^2 / 2 of one joint on one axis: acceleration a for 1 s costs weight a^2, at any frame rate
    for rate in (25, 100):
        time = torch.arange(rate + 2, dtype=torch.float64) / rate
        bent = second_differences(len(time), 1 / rate, 0.3) @ (0.5 * 2.0 * time**2)
        assert float(bent.square().sum()) == pytest.approx(0.3 * 2.0**2, rel=1e-6)


def test_one_shape_a_smooth_motion_and_less_energy(problem):
    tied, motion = problem
    found = fit_tied(tied, motion, (STAGE,))
    assert not found.failure and found.energy < found.start
    assert sum(float(value.sum()) for value in found.energies.values()) == pytest.approx(found.energy)
    rough = fit_tied(replace(tied, bends=tied.bends[:0]), motion, (STAGE,))

    def jitter(one):
        joints = _joints(tied, one.motion)[0]
        return float((joints[2:] - 2 * joints[1:-1] + joints[:-2]).norm(dim=-1).mean())

    assert jitter(found) < 0.3 * jitter(rough)
    again = fit_tied(tied, motion, (STAGE,))
    assert again.energy == found.energy and (again.motion.latent == found.motion.latent).all()


def test_held_instants_stay_and_shape_only_where_it_is_free(problem):
    tied, motion = problem
    held = tied.held.clone()
    held[:2] = True
    found = fit_tied(
        replace(tied, held=held), motion, (replace(STAGE, free=tuple(g for g in BODY if g != "shape")),)
    )
    for name in ("orientation", "place_m", "latent"):
        moved = (getattr(found.motion, name) - getattr(motion, name)).flatten(1).abs().amax(1) > 0
        assert moved.tolist() == [False, False, True, True, True]
    assert (found.motion.betas == motion.betas).all() and (found.motion.tilt == motion.tilt).all()


def test_what_is_not_finite_is_not_written(problem):
    tied, motion = problem
    broken = replace(motion, latent=motion.latent.clone().index_fill_(0, torch.tensor([2]), torch.nan))
    found = fit_tied(tied, broken, (STAGE,))
    assert found.motion is broken and "not finite, stage 'fine'" in found.failure


def test_rows_are_what_a_fit_of_one_photo_has(problem, toy_body):
    """A motion made of known bodies gives back the variables of those bodies."""
    from fitter.people import fit_keypoints

    tied, _ = problem
    person, _ = seen_person(toy_body, 3)
    fits = fit_keypoints(tied.objective, [Sighting("photo", person, CAMERA)], CONFIG)
    one = variables_of(fits, tied.objective, torch.zeros(1, 2, dtype=torch.float64))
    place = one.place_m(tied.seen.rows([0]))
    motion = Course(one.orientation(), place, one.latent, one.betas, one.tilt)
    rows = replace(tied, instant=torch.zeros(5, dtype=torch.int64)).rows_of(motion)
    torch.testing.assert_close(rows.place_m(tied.seen), place.expand(5, 3))
    torch.testing.assert_close(rows.orientation(), one.orientation().expand(5, 3, 3))
