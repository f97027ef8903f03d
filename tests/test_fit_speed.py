"""benchmarks/fit_speed.py and spin_schedule.py: letterbox, the energy that is compared, the schedule, counting."""

import numpy as np
import pytest
import torch

from benchmarks.fit_speed import (
    GREY,
    SIZE_PX,
    STEPS,
    bodies_of,
    eight_gaussians,
    fit_keypoints,
    keypoint_stages,
    letterbox,
    not_worse_pct,
    our_energy,
    pelvis_of,
    quartiles,
    repeated,
    seconds_of,
    seen_of,
    session,
    start_of,
    timed,
)
from benchmarks.spin_schedule import Bodies, Gaussians, Spin, two_stages
from fitter.see.camera import Camera
from fitter.see.camera_files import camera_of_photo
from fitter.see.keypoints import Person
from fitter.see.person_box import keypoint_box


@pytest.fixture(scope="module")
def camera() -> Camera:
    return camera_of_photo("none.jpg", None, *SIZE_PX[::-1])


@pytest.fixture(scope="module")
def person(camera) -> Person:
    """The open body at rest but for its arms, seen exactly, 4 m away."""
    body = session().body
    pose = torch.zeros(1, 72, dtype=torch.float64)
    pose[0, 0] = np.pi
    pose[0, [3 * 16 + 2, 3 * 17 + 2]] = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    points = body.points(body(torch.zeros(1, 10, dtype=torch.float64), pose, with_vertices=False))[0]
    nobody = Person("0", np.tile([640.0, 360.0, 1.0], (25, 1)), "detector", np.array([500.0, 100, 700, 600]))
    points = (seen_of([nobody], camera).targets[0] @ points).numpy() + [0, 0, 4]
    at = points[:, :2] / points[:, 2:] * [camera.fx_px, camera.fy_px] + [camera.cx_px, camera.cy_px]
    keypoints = np.concatenate([at, np.ones((25, 1))], 1)
    return Person("0", keypoints, "detector", keypoint_box(keypoints))


@pytest.fixture(scope="module")
def spin(tmp_path_factory) -> Spin:
    file = tmp_path_factory.mktemp("body") / "SMPL_OPEN.pkl"
    return Spin(str(file), session().body.landmark_ids, eight_gaussians())


def test_letterbox_keeps_the_shape_and_fills_with_grey():
    image = np.zeros((60, 30, 3), np.uint8)
    image[:, :, 0] = 200
    whole = letterbox(image, (120, 200))
    assert whole.shape == (120, 200, 3)
    assert (whole[:, 70:130] == [200, 0, 0]).all()
    assert (whole[:, :70] == GREY).all() and (whole[:, 130:] == GREY).all()


def test_letterbox_shrinks_wide_pictures_to_the_width():
    whole = letterbox(np.full((100, 400, 3), 7, np.uint8), (120, 200))
    assert (whole[35:85] == 7).all()
    assert (whole[:35] == GREY).all() and (whole[85:] == GREY).all()


def test_a_fit_has_the_energy_that_its_result_says(person, camera):
    fits = fit_keypoints([person], camera)
    energy, _ = our_energy([person], camera, start_of([person], camera))
    with torch.no_grad():
        found = energy(*bodies_of(fits), keypoint_stages()[-1])
    assert float(found[0]) == pytest.approx(fits[0].quality["energy"], rel=1e-5)  # found in float32


def test_the_energys_gradient_by_bodies(person, camera):
    start = start_of([person], camera)
    energy, level = our_energy([person], camera, start)
    parts = [part.clone().requires_grad_() for part in (*start, level)]
    parts[2].data[0, 3] += 0.2
    stage = keypoint_stages()[-1]
    gradients = torch.autograd.grad(energy(Bodies(*parts[:4]), parts[4], stage).sum(), parts)
    step = 1e-6
    for number, (part, gradient) in enumerate(zip(parts, gradients, strict=True)):
        values = []
        for sign in (1, -1):
            moved = [p.detach().clone() for p in parts]
            moved[number][0, 0] += sign * step
            values.append(float(energy(Bodies(*moved[:4]), moved[4], stage)))
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(float(gradient[0, 0]), rel=1e-4, abs=1e-4), part.shape


def test_the_start_faces_the_camera_at_about_its_distance(person, camera):
    start = start_of([person], camera)
    assert start.orientation.norm() == pytest.approx(np.pi, abs=0.05)
    assert float((start.transl + pelvis_of(start.betas))[0, 2]) == pytest.approx(4, rel=0.3)
    assert not start.betas.any()


def test_spins_points_are_the_bodys(spin, person, camera):
    start = start_of([person], camera)
    bodies = Bodies(*(part.float() for part in start))
    body = session().body
    posed = body(start.betas, torch.cat([start.orientation, start.pose], 1))
    ours = body.points(posed) + start.transl[:, None]
    np.testing.assert_allclose(spin.points(bodies).numpy(), ours.numpy(), atol=1e-4)  # float32 at 4 m


def test_spins_schedule_lowers_its_energy(spin, person, camera):
    seen, start = seen_of([person], camera), start_of([person], camera)
    fitted = spin.fit(seen, start, iterations=30)
    single = (type(seen)(*(p.float() for p in seen)), Bodies(*(p.float() for p in start)))
    assert float(spin.body_energy(single[0], fitted)) < float(spin.body_energy(*single))


def test_spins_people_do_not_influence_each_other(spin, person, camera):
    moved = person.keypoints_px + [50.0, 0, 0]
    other = Person("1", moved, "detector", keypoint_box(moved))
    alone = spin.fit(seen_of([person], camera), start_of([person], camera), iterations=5)
    both = spin.fit(seen_of([person, other], camera), start_of([person, other], camera), iterations=5)
    for one, two in zip(alone, both, strict=True):
        np.testing.assert_allclose(one[0], two[0], atol=2e-4)


def test_gaussians_take_the_nearest():
    eye = torch.eye(2)[None]
    two = Gaussians(torch.tensor([[0.0, 0], [4, 0]]), torch.cat([eye, 2 * eye]), torch.tensor([0.5, 1.0]))
    assert two.energy(torch.tensor([[1.0, 0], [4, 1]])).tolist() == [1.0, 2.0]


def test_eight_gaussians_are_their_own_mirror_image():
    from priors.skeleton import mirror_pose

    prior = eight_gaussians()
    assert len(prior.means) == len(prior.precisions) == len(prior.neg_log_weights) == 8
    pose = torch.linspace(-0.3, 0.4, 69)[None]
    torch.testing.assert_close(prior.energy(pose), prior.energy(mirror_pose(pose)))


def test_two_stages_move_what_they_should():
    start = Bodies(*(torch.zeros(1, size) for size in (3, 3, 69, 10)))
    tilt = torch.zeros(1, 2)
    seen = []

    def energy(bodies):
        seen.append([float(part.detach().abs().sum()) > 0 for part in (*bodies, tilt)])
        return sum((part - 1).square().sum(1) for part in (*bodies, tilt))

    fitted = two_stages(start, energy, lambda bodies: energy(bodies), 3, always=(tilt,))
    assert seen[0] == [False] * 5
    assert seen[2] == [True, True, False, False, True]
    assert fitted.transl[0, 0] == pytest.approx(
        0.03, rel=1e-2
    )  # three steps of 1e-2, none in the second stage
    assert fitted.orientation[0, 0] == pytest.approx(0.06, rel=1e-2)
    assert fitted.pose[0, 0] == pytest.approx(0.03, rel=1e-2)
    assert not any(part.any() for part in start)
    free = two_stages(start, energy, energy, 3, camera_fixed=False)
    assert free.transl[0, 0] == pytest.approx(0.06, rel=1e-2)


def test_share_of_people_not_worse():
    theirs = np.array([1.0, 1.0, 1.0, np.nan])
    assert not_worse_pct(np.array([0.9, 1.0009, 1.002, 5.0]), theirs) == 75
    assert not_worse_pct(np.array([np.nan, 1.0, 1.0, 1.0]), theirs) == 75


def test_small_parts():
    seconds = {}
    with timed(seconds, "save"):
        pass
    with timed(seconds, "save"):
        pass
    assert list(seconds) == ["save"] and 0 <= seconds["save"] < 1 and "save" in STEPS
    assert repeated([1, 2], 5) == [1, 2, 1, 2, 1]
    assert quartiles([0.0, 1, 2, 3, 4]) == (2, 1, 3)
    assert 0 <= seconds_of(abs, -1) < 1
