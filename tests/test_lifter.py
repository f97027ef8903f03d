"""The lifter: what it knows, what widens it, its symmetries, its term, and where fits begin with it."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from fitter.body.model import load_body
from fitter.config import FitConfig, Optimisation, Stage, Weights
from fitter.energy.objective import Objective
from fitter.energy.observation import Observation
from fitter.energy.starts import _other_way, at_seen_size, lifted_starts, limb_joints, other_way_odds
from fitter.energy.terms import SURE
from fitter.people import Sighting, fit_keypoints, lift, open_limbs
from fitter.see.camera import Camera
from fitter.see.keypoints import BODY_25, MIRROR_25, SOURCES, Person
from fitter.see.person_box import keypoint_box
from priors.lifter import (
    LANDMARKS,
    LIMBS,
    MIRROR_KEYPOINTS,
    PAIRS,
    Lifted,
    Seen,
    Trunk,
    depth_energy,
    load_lifter,
)
from priors.pose import load_pose_prior
from priors.rotation import axis_angle_from_matrix, rotation_from_axis_angle
from priors.simple import down_in_camera
from synth.pose_priors.lifter import Maker, Poses, evaluate, train

POSES = "tests/data/heldout_poses.npz"
FLIP = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))


@pytest.fixture(scope="module")
def lifter():
    return load_lifter()


@pytest.fixture(scope="module")
def poses(request):
    """The poses that every prior was held back from, all alike likely."""
    with np.load(request.config.rootpath / POSES, allow_pickle=False) as file:
        pose = torch.tensor(file["pose"])
    return Poses(pose, torch.ones(len(pose), dtype=torch.float64))


@pytest.fixture(scope="module")
def sample(poses):
    return Maker(poses, 3)(40)


def rows(seen, index):
    return Seen(*(getattr(seen, item.name)[index] for item in fields(Seen)))


def clean(sample):
    """The true keypoints of a sample, all seen, without BlazePose."""
    at = sample.points_m + sample.place_m[:, None]
    rays = at[..., :2] / at[..., 2:]
    seen = torch.ones_like(sample.seen.confidence)
    return replace(sample.seen, rays=rays, confidence=seen, landmarks_m=sample.seen.landmarks_m * torch.nan)


def test_keypoints_are_numbered_as_everywhere():
    assert MIRROR_KEYPOINTS == tuple(MIRROR_25)
    named = {limb: tuple(BODY_25[keypoint] for keypoint in pair) for limb, pair in LIMBS.items()}
    assert named["left forearm"] == ("LElbow", "LWrist") and named["right shank"] == ("RKnee", "RAnkle")
    mirrored = {(MIRROR_25[a], MIRROR_25[b]) for a, b in PAIRS}
    assert mirrored == set(PAIRS)


def test_it_knows_the_depth_of_motions_it_never_saw(lifter, poses):
    """Of held-out poses with a detector's noise, half of them with something hidden or cut off."""
    found = evaluate(lifter, poses, 600)
    assert found["pa_mpjpe_mm"] < 80 and found["depth_mm"] < 65
    assert found["limb_sign_pct"] > 88
    assert found["spread_rank_correlation"] > 0.45


def test_wrong_and_missing_keypoints_widen_it(lifter, sample):
    seen = clean(sample)
    whole = lifter(seen)
    legs = [
        BODY_25.index(side + name)
        for side in "LR"
        for name in ("Knee", "Ankle", "BigToe", "SmallToe", "Heel")
    ]
    hidden = seen.confidence.clone()
    hidden[:, legs] = 0
    cut = lifter(replace(seen, confidence=hidden))
    shank, forearm = (list(LIMBS).index(f"left {limb}") for limb in ("shank", "forearm"))
    assert spread(cut)[:, shank].median() > 1.3 * spread(whole)[:, shank].median()
    assert spread(cut)[:, forearm].median() < 1.2 * spread(whole)[:, forearm].median()
    wrong = seen.rays.clone()
    size = (wrong.amax(1) - wrong.amin(1)).amax(1, keepdim=True)
    wrong[:, BODY_25.index("LAnkle")] += 0.4 * size * torch.tensor([1.0, -0.5])
    assert (
        spread(lifter(replace(seen, rays=wrong)))[:, shank].median() > 1.3 * spread(whole)[:, shank].median()
    )


def spread(lifted):
    """Standard deviation [N, P] m of the mixtures of depths."""
    far = torch.sigmoid(lifted.log_odds)
    middle = (1 - far) * lifted.near + far * lifted.far
    second = (1 - far) * (lifted.near**2 + lifted.near_width**2) + far * (lifted.far**2 + lifted.far_width**2)
    return (second - middle**2).sqrt()


def test_mirrored_keypoints_give_the_mirrored_answer(lifter, sample):
    seen, landmarks = sample.seen, list(range(33))
    for left, right in zip(LANDMARKS[1::2], LANDMARKS[2::2], strict=True):
        landmarks[left], landmarks[right] = right, left
    twin = replace(
        seen,
        rays=seen.rays[:, list(MIRROR_25)] * torch.tensor([-1.0, 1.0]),
        confidence=seen.confidence[:, list(MIRROR_25)],
        down=seen.down @ FLIP,
        landmarks_m=seen.landmarks_m[:, landmarks],
    )
    one, other = lifter(seen), lifter(twin)
    pairs = [PAIRS.index((MIRROR_25[a], MIRROR_25[b])) for a, b in PAIRS]
    for name in ("near", "far", "near_width", "far_width", "log_odds"):
        torch.testing.assert_close(getattr(other, name), getattr(one, name)[:, pairs], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(other.orientation, FLIP @ one.orientation @ FLIP, atol=1e-4, rtol=0)
    left, right = (limb_joints()[f"{side} thigh"][0] - 1 for side in ("left", "right"))
    torch.testing.assert_close(
        other.rotations[:, left], FLIP @ one.rotations[:, right] @ FLIP, atol=1e-4, rtol=0
    )


def test_an_answer_is_the_same_to_the_bit_in_any_company(lifter, sample):
    together = lifter(sample.seen)
    for index in ([0], [3, 1, 2], list(range(9))):
        some = lifter(rows(sample.seen, index))
        for item in fields(Lifted):
            assert torch.equal(getattr(some, item.name), getattr(together, item.name)[index])


def test_it_looks_at_the_person_wherever_they_are_in_the_picture(lifter, sample):
    """A camera turned about its centre sees the same body: the answer turns with it."""
    seen = clean(sample)
    turn = rotation_from_axis_angle(torch.tensor([[0.15, -0.25, 0.4]]))[0]
    rays = torch.cat([seen.rays, torch.ones_like(seen.rays[..., :1])], -1) @ turn.T
    other = lifter(replace(seen, rays=rays[..., :2] / rays[..., 2:], down=seen.down @ turn.T))
    one = lifter(seen)
    torch.testing.assert_close(other.near, one.near, atol=2e-3, rtol=0)
    torch.testing.assert_close(other.axis, one.axis @ turn.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(other.orientation, turn @ one.orientation, atol=5e-3, rtol=0)


def two_ways(near=-0.2, far=0.2, width=0.05, log_odds=0.0):
    """One row that says this of every pair."""
    row = [
        torch.full((1, len(PAIRS)), value, dtype=torch.float64)
        for value in (near, far, width, width, log_odds)
    ]
    eye = torch.eye(3, dtype=torch.float64)
    axis = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    return Lifted(axis, *row, eye[None], eye.expand(1, 23, 3, 3))


def test_depth_energy_by_hand():
    """Far beyond both ways a hyperbola, sqrt(1 + u^2) - 1; either way is log 2 less likely than a sure one."""
    at = torch.full((1, len(PAIRS)), 0.35, dtype=torch.float64)
    value, slope, bend = depth_energy(two_ways(), at)
    assert float(value[0, 0]) == pytest.approx(np.sqrt(10) - 1 + np.log(2), abs=1e-3)
    assert float(slope[0, 0]) == pytest.approx(3 / np.sqrt(10) / 0.05, rel=1e-2)
    assert (bend > 0).all()
    surely = two_ways(log_odds=40.0)
    assert float(depth_energy(surely, surely.far)[0].abs().max()) == pytest.approx(0, abs=1e-9)
    assert float(depth_energy(surely, surely.near)[0][0, 0]) == pytest.approx(np.sqrt(65) - 1)
    assert (
        depth_energy(two_ways(), torch.linspace(-1, 1, len(PAIRS), dtype=torch.float64)[None])[0] >= 0
    ).all()


def test_depth_energys_slope_is_its_derivative():
    lifted = two_ways(log_odds=0.7)
    at = torch.linspace(-0.5, 0.5, len(PAIRS), dtype=torch.float64)[None].requires_grad_()
    value, slope, _ = depth_energy(lifted, at)
    (expected,) = torch.autograd.grad(value.sum(), at)
    torch.testing.assert_close(slope, expected)


@pytest.fixture(scope="module")
def observed(sample, lifter):
    """(Objective with the lifter's term alone, Observation, Variables) in float64."""
    body, prior = load_body(dtype=torch.float64), load_pose_prior("gmm", None, torch.float64)
    count, seen = 6, rows(sample.seen, slice(6))
    number = torch.arange(count)
    kind = torch.where(seen.precise, SOURCES.index("openpose"), SOURCES.index("detector"))
    focal = torch.full((count, 2), 1000.0)
    observation = Observation(1000 * seen.rays, seen.confidence, kind, torch.full((count,), 400.0), focal, 0 * focal,
                              sample.tilt[:count], seen.tilt_spread, number, number, number)  # fmt: skip
    observation = replace(observation, lifted=lift(load_lifter(), observation, seen.landmarks_m)).to(
        torch.float64
    )
    nothing = {item.name: 0.0 for item in fields(Weights)}
    objective = Objective(body, prior, Weights(**nothing | {"lifted": 2.0}), 100.0)
    latent = sample.seen.rays.new_zeros(count, 69).double() + 0.1
    return (
        objective,
        observation,
        at_seen_size(observation.lifted["orientation"], latent, objective, observation),
    )


def test_the_terms_gradient_is_that_of_the_energy(observed):
    objective, observation, variables = observed
    at = objective.evaluate(variables, observation, Stage("test", 1))
    assert (at.energy > 0).all() and (at.terms[:, -1] == at.energy).all()
    direction = torch.randn(
        variables.flat().shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    ends = [
        objective.evaluate(
            variables.with_flat(variables.flat() + step * direction), observation, Stage("test", 1)
        ).energy
        for step in (1e-6, -1e-6)
    ]
    torch.testing.assert_close(
        (ends[0] - ends[1]) / 2e-6, (at.gradient * direction).sum(1), rtol=1e-5, atol=1e-4
    )
    assert torch.linalg.eigvalsh(at.curvature).min() > -1e-6


def test_a_pair_counts_as_far_as_both_keypoints_are_seen(observed):
    """Of a trunk alone less than of a person; half as sure as SURE, half the energy; one end is none."""
    objective, observation, variables = observed

    def energy(confidence):
        seen = replace(observation, confidence=confidence)
        return objective.evaluate(variables, seen, Stage("test", 1)).energy

    def only(*names, value=1.0):
        confidence = torch.zeros_like(observation.confidence)
        confidence[:, [BODY_25.index(name) for name in names]] = value
        return confidence

    trunk = only("LShoulder", "RShoulder", "LHip", "RHip")
    assert (energy(trunk) > 0).all() and (energy(trunk) < energy(torch.ones_like(trunk))).all()
    torch.testing.assert_close(energy(trunk * SURE / 2), energy(trunk) / 2)
    assert (energy(only("LShoulder", "LKnee")) == 0).all()


def test_a_trunk_without_hips_begins_upright(observed):
    objective, observation, _ = observed
    for hidden, upright in (((), False), (("LHip", "RHip"), True)):
        confidence = observation.confidence.clamp(min=0.5)
        confidence[:, [BODY_25.index(name) for name in hidden]] = 0
        starts = lifted_starts(objective, replace(observation, confidence=confidence), Optimisation(starts=4))
        up = -down_in_camera(starts.tilt)
        off = (starts.start_orientation[..., 1] - up).norm(dim=1)
        assert (off < 1e-6).all() == upright
        assert torch.linalg.det(starts.start_orientation).sub(1).abs().max() < 1e-6


@pytest.mark.parametrize("number, limb", list(enumerate(LIMBS)))
def test_the_other_way_of_a_limb_is_its_reflection_in_depth(observed, number, limb):
    objective, observation, variables = observed
    eye = rotation_from_axis_angle(variables.latent.reshape(-1, 23, 3))
    sure = torch.full_like(observation.lifted["log_odds"], 30.0)
    sure[:, number] = 0.0  # this limb alone is open
    lifted = Lifted(**observation.lifted | {"rotations": eye, "log_odds": sure})
    lifted = replace(lifted, far=lifted.near + 1)
    assert (other_way_odds(lifted).argmax(1) == number).all()
    joints = objective.joints_cam(variables, observation)
    orientation, rotations = _other_way(lifted, joints)
    flat = replace(
        variables, latent=axis_angle_from_matrix(rotations).flatten(1), start_orientation=orientation
    )
    there = objective.joints_cam(flat, observation)
    start, end = limb_joints()[limb]
    bones = joints[:, end] - joints[:, start], there[:, end] - there[:, start]
    depth = [(bone * lifted.axis).sum(1) for bone in bones]
    torch.testing.assert_close(depth[1], -depth[0])
    moved = there - joints
    sideways = moved - (moved * lifted.axis[:, None]).sum(-1, keepdim=True) * lifted.axis[:, None]
    assert sideways.abs().max() < 1e-6  # in the picture nothing moves


def test_a_body_that_is_most_likely_turned_round_is_begun_turned(observed):
    objective, observation, variables = observed
    odds = torch.full_like(observation.lifted["log_odds"], 30.0)
    odds[:, [PAIRS.index(pair) for pair in ((1, 5), (1, 2), (8, 12), (8, 9))]] = 0.0
    lifted = Lifted(**observation.lifted | {"log_odds": odds})
    orientation, rotations = _other_way(lifted, objective.joints_cam(variables, observation))
    torch.testing.assert_close(
        orientation[:, :, 1:], lifted.orientation[:, :, 1:] * torch.tensor([1.0, -1.0])
    )
    assert torch.equal(rotations, lifted.rotations)


def as_people(sample, count):
    """The first true people of a sample as OpenPose sees them without noise."""
    sightings = []
    for row in range(count):
        known = sample.tilt[row].any()
        pitch, roll = sample.tilt[row].rad2deg().tolist() if known else (None, None)
        camera = Camera(1000.0, 1000.0, 500.0, 500.0, 1000, 1000, "user", pitch, roll)
        at = sample.points_m[row] + sample.place_m[row]
        px = (1000 * at[:, :2] / at[:, 2:] + 500).double().numpy()
        seen = np.column_stack([px, np.ones(25)])
        person = Person(str(row), seen, "openpose", keypoint_box(seen))
        sightings.append(Sighting("", person, camera))
    return sightings


def fitted(sightings, lifter):
    config = FitConfig(images="", optimisation=Optimisation(lifter=lifter is not None))
    prior = load_pose_prior("gmm", None, torch.float32)
    objective = Objective(load_body(), prior, config.weights, config.optimisation.sigma, None, lifter)
    return fit_keypoints(objective, sightings, config)


def test_fits_begun_by_the_lifter_are_nearer_in_depth(poses, lifter):
    """Held-out poses, exact keypoints; one figure over all, for on one person either may win."""
    sample = Maker(poses, 8)(32)
    errors = {}
    for on in (True, False):
        fits = fitted(as_people(sample, 32), lifter if on else None)
        points = np.stack([fit.joints_cam for fit in fits])[:, [4, 5, 7, 8, 18, 19, 20, 21]]
        depth = points[..., 2] - np.stack([fit.joints_cam[0, 2] for fit in fits])[:, None]
        order = [
            BODY_25.index(name)
            for name in ("LKnee", "RKnee", "LAnkle", "RAnkle", "LElbow", "RElbow", "LWrist", "RWrist")
        ]
        truth = sample.points_m[:, order, 2].numpy()
        errors[on] = np.abs(depth - truth).mean()
        assert all(("lifted" in fit.energies) and (fit.energies["lifted"] > 0) == on for fit in fits)
    assert errors[True] < 0.9 * errors[False]


def test_the_runner_up_is_kept_where_it_is_close(poses, lifter):
    fits, body = fitted(as_people(Maker(poses, 8)(24), 24), lifter), load_body()
    kept = [fit for fit in fits if len(fit.runner_up)]
    assert 0 < len(kept) < len(fits)
    for fit in kept:
        pose, betas = (torch.tensor(fit.runner_up[None, part]) for part in (slice(72), slice(72, 82)))
        joints = body(betas, pose, with_vertices=False).joints[0] + torch.tensor(fit.runner_up[82:])
        assert (joints - torch.tensor(fit.joints_cam)).norm(dim=1).mean() > 0.01
        assert fit.open_limbs == open_limbs(torch.tensor(fit.joints_cam), joints)
    assert all(fit.open_limbs == () for fit in fits if not len(fit.runner_up))


def test_training_learns(poses):
    """A small network and a few steps; the poses it learns from are the test's own."""
    torch.manual_seed(0)
    before, after = (
        evaluate(train(poses, Trunk(64, 1), steps, log=lambda *_, **__: None), poses, 200)
        for steps in (1, 60)
    )
    assert after["nll"] < before["nll"] - 0.3
    assert after["mpjpe_mm"] < 0.7 * before["mpjpe_mm"]


def test_a_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m synth.pose_priors.lifter"):
        load_lifter(tmp_path / "none.npz")


def test_other_shapes_are_refused(lifter, sample):
    with pytest.raises(ValueError, match="expected rays"):
        lifter(replace(sample.seen, rays=sample.seen.rays[:, :17]))
