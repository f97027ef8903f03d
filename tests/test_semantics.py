"""Rendered clothing: the crop is only a projection, gradients are those of the picture, and DSR improves a fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fitter.body.model import load_body
from fitter.config import FitConfig, Semantics
from fitter.energy.semantics import SemanticTerms, make_targets, target_in
from fitter.label.person_labels import PersonLabels, clean_labels
from fitter.people import fit_people
from fitter.raster.rasterizer import make_rasterizer
from fitter.raster.render import render_prob
from fitter.see.camera import default_camera, project_points
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import Person
from fitter.see.person_box import keypoint_box
from priors.clothing import LABELS, MC_LABELS, load_clothing_prior
from priors.pose import load_pose_prior

BACKENDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
SIZE = (480, 640)  # width, height


@pytest.fixture(params=BACKENDS)
def rasterizer(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    return make_rasterizer(request.param)


def device_of(rasterizer):
    return "cuda" if rasterizer.backend == "cuda" else "cpu"


def sphere(dtype, device):
    """A ball of radius 0.5 m, 4 m in front of the camera."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    vertices = torch.tensor(ball.vertices + [0.1, -0.2, 4.0], dtype=dtype, device=device)
    return vertices[None], torch.tensor(ball.faces, dtype=torch.int32, device=device)


def camera_tensors(dtype, device):
    return (torch.tensor([[600.0, 600.0]], dtype=dtype, device=device),
            torch.tensor([[240.0, 320.0]], dtype=dtype, device=device))  # fmt: skip


def test_crop_shows_the_same_as_the_whole_photo(rasterizer):
    device = device_of(rasterizer)
    vertices, faces = sphere(torch.float32, device)
    prob = torch.ones(1, vertices.shape[1], 1, device=device)
    whole_window = torch.tensor([[0.0, 0.0, 480.0, 640.0]], device=device)
    window = torch.tensor([[160.0, 200.0, 352.0, 392.0]], device=device)
    camera = camera_tensors(torch.float32, device)
    whole = render_prob(rasterizer, vertices, faces, prob, *camera, whole_window, (640, 480))
    crop = render_prob(rasterizer, vertices, faces, prob, *camera, window, (192, 192))
    torch.testing.assert_close(crop[0], whole[0, 200:392, 160:352], atol=2e-3, rtol=0)
    centre_y, centre_x = (whole[0, ..., 0] > 0.5).nonzero().float().mean(0).tolist()
    assert centre_x + 0.5 == pytest.approx(240 + 600 * 0.1 / 4, abs=1.5)
    assert centre_y + 0.5 == pytest.approx(320 - 600 * 0.2 / 4, abs=1.5)  # row 0 is the top


@pytest.mark.parametrize("form", ["published", "composited", "one-sided"])
def test_gradient_of_render_and_losses_is_that_of_the_picture(form):
    """float64, through rasterise, interpolate, antialias and loss: gradients along a path add up to the loss's change.

    At one place the two may differ, because the antialias has kinks where pixels enter or leave the outline; over a
    path these average out. 10 %: the composited form's logarithm is steep where a pixel is barely covered, and the
    path is sampled.
    """
    vertices, faces = sphere(torch.float64, "cpu")
    generator = torch.Generator().manual_seed(0)
    smooth = (0.3 * vertices[0] @ torch.randn(3, 20, generator=generator).double()).softmax(-1)
    terms = SemanticTerms(
        make_rasterizer("cpu"), faces, smooth.numpy(), Semantics(c=form, only_seen_labels=False)
    )
    ids = np.zeros((640, 480), np.uint8)
    ids[230:330, 200:300], ids[250:300, 240:290] = 5, 13
    keypoints = np.zeros((25, 3))
    keypoints[:3] = [[200, 230, 1], [320, 360, 1], [260, 290, 1]]
    person = Person("0", keypoints, "openpose", keypoint_box(keypoints))
    targets = make_targets([person], [clean_labels(ids, keypoints)], terms.settings, 128, torch.float64)
    camera = camera_tensors(torch.float64, "cpu")

    def value(offset):
        return sum(terms(vertices + offset, *camera, targets).values())[0]

    path = torch.tensor([0.015, 0.0075, 0.025], dtype=torch.float64)  # about 1.5 px of the crop
    slopes = []
    for share in (torch.arange(192) + 0.5) / 192:
        offset = (share * path).requires_grad_()
        value(offset).backward()
        slopes.append(float(offset.grad @ path))
    change = float(value(path) - value(0 * path))
    assert abs(change) > 5e-4
    assert sum(slopes) / 192 == pytest.approx(change, rel=0.1)


@pytest.fixture(scope="module")
def dressed():
    """A heavy open body before a camera: its exact keypoints, the labels of its own prior, and the truth."""
    body = load_body(dtype=torch.float64)
    pose_prior = load_pose_prior("gmm", None, torch.float64)
    pose = torch.cat([torch.zeros(1, 3), pose_prior.body_pose(pose_prior.starts(1).double())], 1).double()
    betas = torch.zeros(1, 10, dtype=torch.float64)
    betas[0, 2] = 2.0
    posed = body(betas, pose)
    place = torch.tensor([0.0, -0.08, 3.5])
    flip = torch.tensor([1.0, -1, -1])
    points, vertices = body.points(posed) * flip + place, posed.vertices * flip + place
    camera = default_camera(*SIZE)
    focal, center = torch.tensor([camera.focal_px]), torch.tensor([camera.center_px])
    matrix = torch.tensor(body_targets("openpose", *body.joint_layout)[0])
    keypoints = np.column_stack([project_points(matrix @ points, focal, center)[0].numpy(), np.ones(25)])
    prior = load_clothing_prior(None, body.template.numpy(), body.faces.numpy())
    one_hot = torch.eye(20)[torch.tensor(prior.prob.argmax(1))][None]
    window = torch.tensor([[0.0, 0.0, *SIZE]])
    image = render_prob(
        make_rasterizer("cpu"),
        vertices.float(),
        body.faces,
        one_hot,
        focal.float(),
        center.float(),
        window,
        SIZE[::-1],
    )[0]
    ids = torch.where(image.sum(-1) > 0.5, image.argmax(-1), 0).numpy().astype(np.uint8)
    person = Person("0", keypoints, "openpose", keypoint_box(keypoints))
    return body, prior, camera, person, ids, vertices[0].numpy(), betas[0].numpy()


def test_dsr_finds_the_girth_that_keypoints_leave_open(dressed):
    body, prior, camera, person, ids, vertices, betas = dressed
    config = FitConfig(images="")
    terms = SemanticTerms(make_rasterizer("cpu"), body.faces, prior.prob, config.semantics)
    labels = clean_labels(ids, person.keypoints_px)
    assert set(labels.mc_labels) == set(MC_LABELS)
    pose_prior = load_pose_prior("gmm", None, torch.float64)
    arguments = ("", [person], camera, body, pose_prior, config)
    alone, with_dsr = fit_people(*arguments)[0], fit_people(*arguments, [labels], terms)[0]
    assert abs(alone.betas[2]) < 1  # exact keypoints say little about girth
    assert (
        with_dsr.betas[2] > alone.betas[2] + 0.1
    )  # not all of the 2: the prior's soft labels blur every outline
    distance = [np.linalg.norm(fit.vertices_cam - vertices, axis=1).mean() for fit in (alone, with_dsr)]
    assert distance[1] < distance[0]
    assert with_dsr.quality["energy"] <= with_dsr.quality["energy_start"]
    assert set(with_dsr.energies) >= {"mc", "c"}


def test_labels_of_another_photo_leave_the_fit_finite_and_plausible(dressed):
    body, prior, camera, person, ids, _, _ = dressed
    config = FitConfig(images="")
    terms = SemanticTerms(make_rasterizer("cpu"), body.faces, prior.prob, config.semantics)
    wrong = np.roll(ids[::-1], 90, axis=1)  # upside down and aside
    pose_prior = load_pose_prior("gmm", None, torch.float64)
    labels = [clean_labels(wrong, person.keypoints_px)]
    fit = fit_people("", [person], camera, body, pose_prior, config, labels, terms)[0]
    assert np.isfinite(fit.vertices_cam).all() and np.isfinite(fit.pose).all()
    assert fit.quality["pose_percentile"] <= 99.9


def test_people_without_labels_are_fitted_as_without_dsr(dressed):
    body, prior, camera, person, ids, _, _ = dressed
    config = FitConfig(images="")
    stages = tuple(stage for stage in config.optimisation.stages if not stage.crop_px)
    config = replace(config, optimisation=replace(config.optimisation, stages=stages))
    terms = SemanticTerms(make_rasterizer("cpu"), body.faces, prior.prob, config.semantics)
    pose_prior = load_pose_prior("gmm", None, torch.float64)
    arguments = ("", [person], camera, body, pose_prior, config)
    plain, labelless = fit_people(*arguments)[0], fit_people(*arguments, [None], terms)[0]
    np.testing.assert_array_equal(plain.pose, labelless.pose)


@pytest.mark.parametrize("crop_px", [64, 128, 224, 448])
def test_balanced_classes_weigh_the_same_at_every_crop_size(crop_px):
    """B8: 60 px were asked of any crop; they are of the 224 px crop, so that a 64th of it counts at all sizes."""
    ids = np.zeros((224, 224), np.uint8)
    ids[:112], ids[112 : 112 + 28, :112] = LABELS.index("upper-clothes"), LABELS.index("pants")
    ids[200:204, 200:214] = LABELS.index("face")  # 56 px of the 224 px crop: noise
    labels = PersonLabels(ids, np.ones_like(ids), ())
    weight = target_in(np.array([0.0, 0, 224, 224]), labels, Semantics(balance_classes=True), crop_px)[
        "class_weight"
    ]
    lower, upper = 28 * 112, 112 * 224
    background = 224 * 224 - upper - lower - 56
    np.testing.assert_allclose(weight, [lower / background, 1, lower / upper, 0], rtol=1e-4)
