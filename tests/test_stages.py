"""The staged fit on the toy body: it finds known bodies, and has the symmetries a fit must have."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fitter.body.model import load_body
from fitter.config import FitConfig, Optimisation, Stage, Weights
from fitter.energy.objective import Objective
from fitter.energy.observation import Variables
from fitter.people import Sighting, fit_keypoints, fit_people, lifter_like, observe
from fitter.see.camera import Camera, project_points
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import Person, mirror_keypoints
from fitter.see.person_box import keypoint_box
from priors.lifter import load_lifter
from priors.pose import load_pose_prior
from priors.rotation import rotation_from_axis_angle
from priors.simple import down_in_camera
from priors.skeleton import MIRROR_JOINTS, mirror_pose
from regressor.metrics import mpjpe_mm

HELDOUT = Path(__file__).parent / "data" / "heldout_poses.npz"
CAMERA = Camera(900.0, 900.0, 300.0, 260.0, 640, 480, "user")
CONFIG = replace(FitConfig(images=""), weights=Weights(pose=0.5, angle=0.5, shape=1.0))


@dataclass
class NormalPrior:
    """Poses near 0, every joint alike."""

    name: str = "normal"
    weight: float = 1.0
    gravity: float = 0.0

    def starts(self, count):
        return torch.zeros(1, 69, dtype=torch.float64)

    def body_pose(self, latent):
        return latent

    def latent(self, body_pose):
        return body_pose

    def energy(self, latent, down=None):
        upright = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
        lean = 0 if down is None else ((down - upright) ** 2).sum(1)
        return self.weight * (latent**2).sum(1) + self.gravity * lean

    def quadratic(self, latent, down):
        diagonal = torch.tensor([self.weight] * 69 + [self.gravity] * 3, dtype=torch.float64)
        upright = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64).expand(len(down), 3)
        gradient = 2 * diagonal * torch.cat([latent, down - upright], 1)
        return self.energy(latent, down), gradient, torch.diag(2 * diagonal).expand(len(latent), 72, 72)

    def chain(self, d_pose, latent):
        return d_pose

    def rank(self, body_pose):
        return self.energy(body_pose), torch.zeros(len(body_pose))


def seen_person(body, seed, person_id="0"):
    """A toy body in a random mild pose before CAMERA, as exact keypoints; and its joints in the camera frame."""
    rng = np.random.default_rng(seed)
    pose = torch.zeros(1, 72, dtype=torch.float64)
    for joint, swing in [(1, 0.4), (2, 0.4), (4, 0.5), (5, 0.5), (16, 0.6), (17, 0.6), (18, 0.5), (19, 0.5)]:
        pose[0, 3 * joint + rng.integers(3)] = rng.uniform(-swing, swing)
    points = body.points(body(torch.zeros(1, 10, dtype=torch.float64), pose, with_vertices=False))
    yaw = rng.uniform(-0.6, 0.6)
    c, s = np.cos(yaw), np.sin(yaw)
    facing = torch.tensor([[c, 0, s], [0, -1, 0], [s, 0, -c]], dtype=torch.float64)
    points = points @ facing.T + torch.tensor([rng.uniform(-0.5, 0.5), 0.1, rng.uniform(3.5, 5)])
    focal, center = torch.tensor([CAMERA.focal_px]), torch.tensor([CAMERA.center_px])
    seen = project_points(
        torch.tensor(body_targets("openpose", *body.joint_layout)[0]) @ points, focal, center
    )[0].double()
    keypoints = np.column_stack([seen.numpy(), np.ones(25)])
    return Person(person_id, keypoints, "openpose", keypoint_box(keypoints)), points[0, :24].numpy()


def fit(body, people, camera=CAMERA, config=CONFIG, prior=None):
    return fit_people("photo.jpg", people, camera, body, prior or NormalPrior(), config)


def fit_apart(body, people, config=CONFIG, prior=None):
    """Each in a photo of their own, in one batch."""
    settings = config.optimisation
    lifter = lifter_like(body.template.dtype, body.template.device)
    objective = Objective(body, prior or NormalPrior(), config.weights, settings.sigma, None, lifter)
    seen = [Sighting(f"{number}.jpg", one, CAMERA) for number, one in enumerate(people)]
    return fit_keypoints(objective, seen, config)


def test_known_bodies_are_found(toy_body):
    people, truth = zip(*[seen_person(toy_body, seed, str(seed)) for seed in range(8)], strict=True)
    fits = fit(toy_body, list(people))
    errors = [float(mpjpe_mm(f.joints_cam, t)) for f, t in zip(fits, truth, strict=True)]
    # depth of bent limbs is known only by the prior: exact keypoints leave some centimetres open
    assert np.median(errors) < 60
    for one in fits:
        assert one.quality["reprojection_pct"] < 1.0
        assert one.quality["energy"] <= one.quality["energy_start"]
        assert one.valid, one.reasons


def test_people_of_a_batch_do_not_influence_each_other(toy_body):
    people = [seen_person(toy_body, seed, str(seed))[0] for seed in range(3)]
    together = fit_apart(toy_body, people)
    for person, one in zip(people, together, strict=True):
        alone = fit(toy_body, [person])[0]
        np.testing.assert_allclose(alone.pose, one.pose, atol=1e-6)
        np.testing.assert_allclose(alone.transl_cam, one.transl_cam, atol=1e-6)


def test_a_fit_is_the_same_to_the_bit_in_any_batch(toy_body):
    """As it is fitted, in float32, numbers about it included. One person alone, in groups, and beside other sources."""
    body, prior = copy.deepcopy(toy_body).float(), load_pose_prior("gmm", None, torch.float32)
    people = [seen_person(toy_body, seed, str(seed))[0] for seed in range(9)]
    people = [replace(p, source=("openpose", "detector")[n % 2]) for n, p in enumerate(people)]
    alone = [fit(body, [person], prior=prior)[0] for person in people]
    for size in (2, 4, 5, 9):
        groups = [people[at : at + size] for at in range(0, 9, size)]
        together = [one for group in groups for one in fit_apart(body, group, prior=prior)]
        for one, other in zip(alone, together, strict=True):
            assert one.quality == other.quality and one.energies == other.energies
            assert (one.pose == other.pose).all() and (one.betas == other.betas).all()


def test_mirrored_photo_gives_the_mirrored_fit(toy_body):
    person, _ = seen_person(toy_body, 3)
    mirrored = mirror_keypoints(person.keypoints_px, CAMERA.width)
    twin = replace(person, keypoints_px=mirrored, box_px=keypoint_box(mirrored))
    one = fit(toy_body, [person])[0]
    other = fit(toy_body, [twin], CAMERA.mirrored())[0]
    np.testing.assert_allclose(other.joints_cam, one.joints_cam[list(MIRROR_JOINTS)] * [-1, 1, 1], atol=1e-5)
    np.testing.assert_allclose(other.pose[3:], mirror_pose(one.pose)[3:], atol=1e-5)
    np.testing.assert_allclose(other.betas, one.betas, atol=1e-5)


def test_photo_scaled_twice_gives_the_same_body(toy_body):
    person, _ = seen_person(toy_body, 4)
    larger = person.keypoints_px * [2, 2, 1]
    one = fit(toy_body, [person])[0]
    other = fit(toy_body, [replace(person, keypoints_px=larger, box_px=2 * person.box_px)], CAMERA.scaled(2))[
        0
    ]
    np.testing.assert_allclose(other.joints_cam, one.joints_cam, atol=1e-6)


def test_one_person_that_goes_wrong_leaves_the_others_and_is_named(toy_body):
    class Poisoned(NormalPrior):
        def quadratic(self, latent, down):
            value, gradient, curvature = super().quadratic(latent, down)
            return value * torch.where(latent.abs().sum(1) > 0.5, torch.nan, 1.0), gradient, curvature

    people = [seen_person(toy_body, seed, str(seed))[0] for seed in range(2)]
    still = people[0].keypoints_px.copy()
    people = [people[0], replace(people[1], keypoints_px=still * [1, 1, 0.02])]
    config = replace(CONFIG, optimisation=Optimisation(lifter=False))  # begun at the prior's mean
    fits = fit(toy_body, people, config=config, prior=Poisoned())
    assert not fits[0].valid
    assert "term pose is not finite, stage 'pose, " in fits[0].reasons[0]
    for one in fits:
        for name in ("pose", "betas", "transl_cam", "joints_cam", "keypoints_px"):
            assert np.isfinite(getattr(one, name)).all()
        assert one.quality["energy"] <= one.quality["energy_start"]


def test_arguments_are_not_written_into(toy_body):
    person, _ = seen_person(toy_body, 5)
    before = person.keypoints_px.copy()
    fit(toy_body, [person])
    np.testing.assert_array_equal(person.keypoints_px, before)


@pytest.mark.parametrize("missing", [[2, 5], [9, 12, 8], list(range(8, 15)) + list(range(19, 25))])
def test_missing_keypoints_are_no_obstacle(toy_body, missing):
    person, _ = seen_person(toy_body, 6)
    keypoints = person.keypoints_px.copy()
    keypoints[missing] = 0
    one = fit(toy_body, [replace(person, keypoints_px=keypoints, box_px=keypoint_box(keypoints))])[0]
    assert one.quality["reprojection_pct"] < 3


@pytest.mark.parametrize("row", [20, 130])
def test_real_body_and_prior_mirror_and_scale_alike(row):
    """The shipped body and mixture on an unseen motion capture pose. Millimetres: float32 files, many steps."""
    body, prior = load_body(dtype=torch.float64), load_pose_prior("gmm", None, torch.float64)
    pose = torch.tensor(np.load(HELDOUT)["pose"][row : row + 1]).double()
    pose[:, :3] = 0
    points = body.points(body(torch.zeros(1, 10).double(), pose, with_vertices=False))
    points = points * torch.tensor([1.0, -1, -1]) + torch.tensor([0.2, 0.1, 4.0])
    focal, center = torch.tensor([CAMERA.focal_px]), torch.tensor([CAMERA.center_px])
    matrix = torch.tensor(body_targets("openpose", *body.joint_layout)[0])
    seen = project_points(matrix @ points, focal, center)[0].double()
    keypoints = np.column_stack([seen.numpy(), np.ones(25)])
    config = FitConfig(images="")
    means = len(
        prior.starts(99)
    )  # all of them: a few of the mirrored means alone are not their own mirror image
    config = replace(config, optimisation=replace(config.optimisation, starts=means))

    def fitted(keypoints_px, camera):
        person = Person("0", keypoints_px, "openpose", keypoint_box(keypoints_px))
        return fit(body, [person], camera, config, prior)[0]

    one = fitted(keypoints, CAMERA)
    mirrored = fitted(mirror_keypoints(keypoints, CAMERA.width), CAMERA.mirrored())
    larger = fitted(keypoints * [2, 2, 1], CAMERA.scaled(2))
    np.testing.assert_allclose(
        mirrored.joints_cam, one.joints_cam[list(MIRROR_JOINTS)] * [-1, 1, 1], atol=2e-3
    )
    np.testing.assert_allclose(larger.joints_cam, one.joints_cam, atol=1e-5)


# --- gravity and the camera's tilt


def tilted_objective(body, prior, weights, seed=0, upright=False):
    """(Objective, Observation, Variables) of two rows: a toy body somewhere before a camera that is somehow tilted.

    upright: gravity goes where NormalPrior wants it, (0, -1, 0) in the pelvis's frame.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    person, _ = seen_person(body, seed)
    camera = replace(CAMERA, pitch_deg=10.0, roll_deg=-4.0)
    seen = [Sighting("", person, camera)] * 2
    observation = observe(seen, body, Optimisation(pitch_spread_deg=8.0), load_lifter().double())
    tilt, turn = observation.tilt + 0.1 * normal(2, 2), 0.4 * normal(2, 3)
    root = torch.tensor(Rotation.from_euler("YXZ", [[0.4, np.pi, 0.1], [-2.0, np.pi - 0.2, 0.0]]).as_matrix())
    if upright:
        heading = torch.nn.functional.normalize(torch.linalg.cross(down_in_camera(tilt), normal(2, 3)), dim=1)
        up = -down_in_camera(tilt)  # the body's y
        root = torch.stack([heading, up, torch.linalg.cross(heading, up)], -1)
        root = rotation_from_axis_angle(turn).transpose(1, 2) @ root
    place = torch.tensor([[0.1, 0.0, 4.0], [-0.3, 0.1, 5.0]], dtype=torch.float64)
    betas = 0.5 * normal(2, 10)
    betas[0, 3] = 4.0  # beyond the wall
    variables = Variables(turn, 0.1 * normal(2, 3), 0.3 * normal(2, 69), betas, tilt, root, place)
    return Objective(body, prior, weights, 100.0), observation, variables


ALL_TERMS = Weights(keypoints=1.0, pose=3.0, limits=2.0, angle=0.5, level=7.0, shape=2.0, depth=50.0)
STAGE = Stage("test", 1, pose_scale=0.7, shape_scale=0.4, depth_scale=1.0)


def by_differences(function, variables, step=1e-5):
    """Central differences of function(Variables) -> [N, ...] by Variables.flat, [N, ..., P]."""
    flat = variables.flat()
    columns = []
    for entry in range(flat.shape[1]):
        offset = torch.zeros_like(flat)
        offset[:, entry] = step
        ends = [function(variables.with_flat(flat + sign * offset)) for sign in (1, -1)]
        columns.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(columns, -1)


def test_gradient_is_that_of_the_energy(toy_body):
    """All variables, the camera's tilt too; differences in float64 are good to 1e-10 of the energy over the step."""
    objective, observation, variables = tilted_objective(toy_body, NormalPrior(gravity=5.0), ALL_TERMS)
    at = objective.evaluate(variables, observation, STAGE)
    assert (at.terms > 0).all() and at.terms.shape[1] == len(objective.term_names)
    torch.testing.assert_close(at.terms.sum(1), at.energy)
    expected = by_differences(lambda v: objective.evaluate(v, observation, STAGE).energy, variables)
    torch.testing.assert_close(at.gradient, expected, rtol=1e-5, atol=1e-4)
    moved = objective.evaluate(variables.rows([1]), observation.rows([1]), STAGE)
    torch.testing.assert_close(moved.gradient[0], at.gradient[1])
    assert at.gradient[:, -2:].abs().min() > 1  # gravity and level pull at the tilt
    blind = tilted_objective(toy_body, NormalPrior(gravity=0.0), replace(ALL_TERMS, level=0.0))
    assert (blind[0].evaluate(blind[2], blind[1], STAGE).gradient[:, -2:] == 0).all()


def test_curvature_of_pose_and_level_is_the_hessian_where_nothing_is_dropped(toy_body):
    """Gauss-Newton leaves out the residual's own curvature: nothing for an upright body, for NormalPrior's energy is
    quadratic in latent and down."""
    weights = replace(ALL_TERMS, keypoints=0.0, limits=0.0, angle=0.0, shape=0.0, depth=0.0, lifted=0.0)
    objective, observation, variables = tilted_objective(
        toy_body, NormalPrior(gravity=5.0), weights, upright=True
    )
    upright = torch.tensor([[0.0, -1.0, 0.0]] * 2, dtype=torch.float64)
    torch.testing.assert_close(variables.down(), upright, atol=1e-12, rtol=0)
    at = objective.evaluate(variables, observation, STAGE)
    hessian = by_differences(lambda v: objective.evaluate(v, observation, STAGE).gradient, variables)
    torch.testing.assert_close(at.curvature, hessian, rtol=1e-6, atol=1e-5)
    assert (
        at.curvature[:, :3, -2:].abs().amax((1, 2)).min() > 1
    )  # a turned body and a tilted camera look alike


def test_curvature_is_positive_and_reaches_every_variable(toy_body):
    objective, observation, variables = tilted_objective(toy_body, NormalPrior(gravity=5.0), ALL_TERMS)
    curvature = objective.evaluate(variables, observation, STAGE).curvature
    torch.testing.assert_close(curvature, curvature.transpose(1, 2))
    assert torch.linalg.eigvalsh(curvature).min() > 0


def test_down_is_seen_from_the_pelvis(toy_body):
    *_, variables = tilted_objective(toy_body, NormalPrior(), ALL_TERMS)
    back = torch.einsum("nab,nb->na", variables.orientation(), variables.down())
    torch.testing.assert_close(back, down_in_camera(variables.tilt))
    assert variables.free(("orientation", "level")).tolist() == [0, 1, 2, 85, 86]
    assert variables.free(("place", "pose", "shape")).tolist() == list(range(3, 85))


def tilt_of_fit(one):
    """Degrees by which a fit's body leans towards the camera in the camera's frame, and its down [3] there."""
    down_cam = Rotation.from_rotvec(one.pose[:3]).as_matrix() @ [0.0, -1.0, 0.0]
    return np.degrees(np.arctan2(down_cam[2], down_cam[1])), down_cam


@pytest.mark.parametrize("pitch", [15.0, -15.0])
def test_known_pitch_makes_people_upright_in_the_world(toy_body, pitch):
    """A standing body before a level camera; keypoints that hardly count leave its lean to gravity. Said to look down
    by 15 degrees, the camera sees the same picture of somebody who leans against it, and stands upright."""
    person, _ = seen_person(toy_body, 3)
    config = replace(CONFIG, weights=replace(CONFIG.weights, keypoints=0.002, level=10.0))
    prior = NormalPrior(gravity=20.0)
    known, level, unknown = (
        fit(toy_body, [person], replace(CAMERA, pitch_deg=said), config, prior)[0]
        for said in (pitch, 0.0, None)
    )
    truth = down_in_camera(torch.tensor([[np.radians(pitch), 0.0]]))[0].numpy()
    off_deg = {
        name: np.degrees(np.arccos(tilt_of_fit(one)[1] @ truth))
        for name, one in (("known", known), ("level", level))
    }
    assert np.sign(pitch) * tilt_of_fit(known)[0] > 10
    assert abs(tilt_of_fit(level)[0]) < 3
    assert off_deg["known"] < 5 and off_deg["level"] > off_deg["known"] + 8
    assert known.quality["camera_pitch_deg"] == pytest.approx(pitch, abs=1)  # measured: it stays
    assert level.quality["camera_pitch_deg"] == pytest.approx(0, abs=1)
    assert abs(unknown.quality["camera_pitch_deg"]) < 8 and abs(tilt_of_fit(unknown)[0]) < 8


def test_mirrored_photo_of_a_tilted_camera_gives_the_mirrored_fit(toy_body):
    person, _ = seen_person(toy_body, 3)
    mirrored = mirror_keypoints(person.keypoints_px, CAMERA.width)
    twin = replace(person, keypoints_px=mirrored, box_px=keypoint_box(mirrored))
    camera, prior = replace(CAMERA, pitch_deg=10.0, roll_deg=7.0), NormalPrior(gravity=20.0)
    one = fit(toy_body, [person], camera, prior=prior)[0]
    other = fit(toy_body, [twin], camera.mirrored(), prior=prior)[0]
    np.testing.assert_allclose(other.joints_cam, one.joints_cam[list(MIRROR_JOINTS)] * [-1, 1, 1], atol=1e-5)
    level = fit(toy_body, [person], prior=prior)[0]
    assert np.abs(one.joints_cam - level.joints_cam).max() > 0.01  # the tilt matters


def test_a_fit_begun_from_its_result_begins_with_its_tilt(toy_body):
    """Gravity has moved the camera's tilt: begun again, a fit ends no higher."""
    person, _ = seen_person(toy_body, 3)
    turned = person.keypoints_px.copy()
    turned[:, :2] = (turned[:, :2] - CAMERA.center_px) @ Rotation.from_euler("z", 0.15).as_matrix()[:2, :2]
    turned[:, :2] += CAMERA.center_px
    person = replace(person, keypoints_px=turned, box_px=keypoint_box(turned))
    prior = NormalPrior(gravity=200.0)
    config = replace(CONFIG, weights=replace(CONFIG.weights, level=1.0))
    one = fit(toy_body, [person], config=config, prior=prior)[0]
    assert abs(one.quality["camera_roll_deg"]) > 0.5
    again = fit_people("", [person], CAMERA, toy_body, prior, config, start=[one])[0]
    assert again.quality["energy_start"] == pytest.approx(one.quality["energy"])
    assert again.quality["energy"] <= one.quality["energy"] * (1 + 1e-9)
    of_a_network = replace(one, quality={})
    other = fit_people("", [person], CAMERA, toy_body, prior, config, start=[of_a_network])[0]
    assert other.quality["energy_start"] > 1.001 * one.quality["energy"]  # it does not say: level


def test_a_start_that_faces_the_wrong_way_is_turned(toy_body):
    """A network's guess turned by 180 degrees: begun from it alone the fit twists the body, begun from both it does
    not."""
    person, _ = seen_person(toy_body, 3)
    good = fit_people("", [person], CAMERA, toy_body, NormalPrior(), CONFIG)[0]
    root = Rotation.from_rotvec(good.pose[:3]) * Rotation.from_euler("y", np.pi)
    pelvis = good.joints_cam[0] - good.transl_cam  # the body turns about its pelvis joint
    wrong = replace(good, pose=np.concatenate([root.as_rotvec(), good.pose[3:]]))
    wrong = replace(wrong, transl_cam=good.joints_cam[0] - pelvis)
    stuck, freed = (
        fit_people("", [person], CAMERA, toy_body, NormalPrior(), CONFIG, start=[wrong], turned=turned)[0]
        for turned in (False, True)
    )
    assert freed.quality["energy"] <= min(stuck.quality["energy"], 1.01 * good.quality["energy"])
    assert mpjpe_mm(freed.joints_cam[None], good.joints_cam[None])[0] < 10
    assert mpjpe_mm(stuck.joints_cam[None], good.joints_cam[None])[0] > 50
