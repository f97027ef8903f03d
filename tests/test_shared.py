"""fitter/energy/shared.py: the joint Newton step against the whole system solved at once; one tilt a camera."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_stages import CAMERA, CONFIG, NormalPrior, fit, fit_apart, seen_person

from fitter.energy.objective import Evaluation
from fitter.energy.observation import Variables
from fitter.energy.shared import Prior, shared_step
from fitter.see.person_box import keypoint_box

GROUP = torch.tensor([1, 0, 1])


def problem(seed=0, size=22):
    """Three rows of quadratic energies, the first and last with two variables in common."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    root = normal(3, size, size)
    curvature = root @ root.transpose(1, 2) / size + torch.eye(size, dtype=torch.float64)
    prior = Prior(normal(2, 2)[GROUP], torch.full((3, 2), 0.7, dtype=torch.float64))
    empty = torch.zeros(3, 0, dtype=torch.float64)
    at = Evaluation(empty[:, :0].sum(1), normal(3, size), curvature, empty, empty, empty)
    parts = normal(3, size).split([3, 3, 4, 10, 2], 1)
    eye = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    return at, Variables(*parts, eye, normal(3, 3)), prior


def at_once(at: Evaluation, variables: Variables, prior: Prior, rows: list[int]) -> tuple:
    """The minimum of the rows' quadratics, less the prior counted too often, with the tilt in common: own, tilt."""
    flat, own, size = variables.flat(), 20, 22
    count = len(rows)
    matrix = torch.zeros(count * own + 2, count * own + 2, dtype=torch.float64)
    right = torch.zeros(len(matrix), dtype=torch.float64)
    for number, row in enumerate(rows):
        index = [*range(number * own, (number + 1) * own), count * own, count * own + 1]
        matrix[np.ix_(index, index)] += at.curvature[row]
        right[index] += at.curvature[row] @ flat[row] - at.gradient[row]
    precision, middle = prior.precision[rows[0]], prior.middle[rows[0]]
    matrix[-2:, -2:] -= (count - 1) * torch.diag(precision)
    right[-2:] -= (count - 1) * precision * middle
    found = torch.linalg.solve(matrix, right)
    return found[:-2].reshape(count, size - 2), found[-2:]


def test_the_step_is_that_of_the_whole_system():
    at, variables, prior = problem()
    moved = shared_step(at, variables, "level", GROUP, prior).flat()
    for rows in ([1], [0, 2]):
        own, tilt = at_once(at, variables, prior, rows)
        # the eliminated block is damped by 1e-6 of its largest curvature
        torch.testing.assert_close(moved[rows, :20], own, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(moved[rows, 20:], tilt.expand(len(rows), 2), atol=1e-4, rtol=1e-4)


def test_a_group_that_cannot_be_solved_stays():
    at, variables, prior = problem()
    curvature = at.curvature.clone()
    curvature[0, 3, 3] = torch.nan
    moved = shared_step(replace(at, curvature=curvature), variables, "level", GROUP, prior).flat()
    torch.testing.assert_close(moved[[0, 2]], variables.flat()[[0, 2]], rtol=0, atol=0)
    assert (moved[1] != variables.flat()[1]).all()


def leaning(person, angle_deg):
    """The person turned in the picture, about its middle."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    middle = [CAMERA.cx_px, CAMERA.cy_px]
    turned = (person.keypoints_px[:, :2] - middle) @ [[c, s], [-s, c]] + middle
    keypoints = np.column_stack([turned, person.keypoints_px[:, 2]])
    return replace(person, keypoints_px=keypoints, box_px=keypoint_box(keypoints))


@pytest.fixture(scope="module")
def settings():
    """Gravity that says much, of people whose cameras may be tilted."""
    optimisation = replace(CONFIG.optimisation, pitch_spread_deg=15.0)
    return NormalPrior(gravity=20.0), replace(
        CONFIG, optimisation=optimisation, weights=replace(CONFIG.weights, level=1.0)
    )


def test_people_of_one_photo_have_one_camera(toy_body, settings):
    prior, config = settings
    people = [
        leaning(seen_person(toy_body, seed, str(seed))[0], (6.0, -2.0, 10.0)[seed]) for seed in range(3)
    ]
    together = fit(toy_body, people, CAMERA, config, prior)
    alone = [fit(toy_body, [one], CAMERA, config, prior)[0] for one in people]
    for name, least in (("camera_pitch_deg", 1e-3), ("camera_roll_deg", 0.1)):
        joint, own = ([one.quality[name] for one in fits] for fits in (together, alone))
        assert np.ptp(joint) < 1e-9 < least < np.ptp(own)
    for one in together:
        assert one.quality["energy"] <= one.quality["energy_start"] and one.quality["reprojection_pct"] < 1.5
    # all energies, the camera's counted once: no tilt that one of them has alone is better for all
    total = sum(one.quality["energy"] for one in together) - 2 * together[0].energies["level"]
    for tilt in {(one.quality["camera_pitch_deg"], one.quality["camera_roll_deg"]) for one in alone}:
        said = replace(CAMERA, pitch_deg=tilt[0], roll_deg=tilt[1])
        held = replace(config, weights=replace(config.weights, level=1e7))
        fits = [fit(toy_body, [one], said, held, prior)[0] for one in people]
        energies = [one.quality["energy"] - one.energies["level"] for one in fits]
        spread = [config.optimisation.pitch_spread_deg, config.optimisation.roll_spread_deg]
        level = config.weights.level * 0.5 * (np.divide(tilt, spread) ** 2).sum()
        assert total < sum(energies) + level


def test_whoever_is_alone_stays_as_found(toy_body, settings, monkeypatch):
    prior, config = settings
    person, _ = seen_person(toy_body, 1)
    expected = fit(toy_body, [person], CAMERA, config, prior)[0]
    monkeypatch.setattr("fitter.people.agree", lambda objective, observation, fitted, stage: fitted)
    plain = fit(toy_body, [person], CAMERA, config, prior)[0]
    np.testing.assert_array_equal(expected.pose, plain.pose)


def test_two_photos_with_one_camera_stay_as_found(toy_body, settings):
    """A user's camera file holds for every photo; how it was held does not."""
    prior, config = settings
    people = [leaning(seen_person(toy_body, seed)[0], (6.0, -4.0)[seed]) for seed in range(2)]
    apart = fit_apart(toy_body, people, config, prior)
    for one, person in zip(apart, people, strict=True):
        alone = fit(toy_body, [person], CAMERA, config, prior)[0]
        np.testing.assert_array_equal(one.pose, alone.pose)
        assert one.quality["camera_roll_deg"] == alone.quality["camera_roll_deg"]
    assert np.ptp([one.quality["camera_roll_deg"] for one in apart]) > 0.1
