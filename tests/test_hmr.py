"""The regressor's network, its weights from files, its camera, and its predictions as fits."""

import argparse
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from fitter.config import Weights
from fitter.energy.losses import CROP_PX
from fitter.energy.objective import Objective
from fitter.see.camera import Camera, project_points
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import Person, mirror_keypoints
from fitter.see.person_box import keypoint_box
from fitter.write.result import load_fit
from priors.pose import load_pose_prior
from priors.rotation import axis_angle_from_matrix
from priors.skeleton import mirror_pose
from regressor import predict as predicting
from regressor.checkpoints import load_hmr, read_hmr_file, renamed, save_hmr
from regressor.hmr import (
    FOCAL_CROP_PX,
    HMR,
    Architecture,
    ResNet,
    full_translation,
    make_hmr,
    mean_parameters,
    project_crop,
    rotation_from_6d,
    sixd_from_rotation,
    to_input,
)

TINY = Architecture(bottleneck=False, blocks=(1, 1, 1, 1), width=8, shrink=2)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    net = HMR(TINY).eval()
    for decoder in (net.head.decpose, net.head.decshape, net.head.deccam):
        torch.nn.init.normal_(decoder.weight, std=0.05)
    return net


def torchvision_names() -> set[str]:
    """Of torchvision's resnet50().state_dict(), as its documentation and published file have them."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", "fc.weight", "fc.bias"} | {f"bn1.{part}" for part in norm}
    for layer, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            names |= {f"{at}.conv{i}.weight" for i in (1, 2, 3)}
            names |= {f"{at}.bn{i}.{part}" for i in (1, 2, 3) for part in norm}
        names |= {f"layer{layer}.0.downsample.0.weight"}
        names |= {f"layer{layer}.0.downsample.1.{part}" for part in norm}
    return names


@pytest.fixture(scope="module")
def spin_tensors():
    """SPIN's names and ResNet-50's shapes, each tensor one number of its own (stored once, so files stay small)."""
    named = {}
    for name, value in make_hmr("resnet50").state_dict().items():
        flat = name.removeprefix("backbone.").removeprefix("head.")
        named[flat] = torch.full((1,) * max(value.ndim, 1), len(named) / 64).expand(value.shape or 1)
        named[flat] = named[flat].reshape(value.shape).to(value.dtype) if value.ndim == 0 else named[flat]
    return named


def assert_holds(net: HMR, spin_tensors: dict):
    assert not net.training
    held = {n.removeprefix("backbone.").removeprefix("head."): v for n, v in net.state_dict().items()}
    assert held.keys() == spin_tensors.keys()
    wrong = [n for n, v in held.items() if v.flatten()[0] != spin_tensors[n].flatten()[0]]
    assert not wrong, wrong


# the network


def test_resnet50_has_torchvisions_names_and_size():
    net = ResNet(Architecture())
    with_fc = net.state_dict().keys() | {"fc.weight", "fc.bias"}
    assert with_fc == torchvision_names() and len(with_fc) == 320
    parameters = dict(net.named_parameters())
    assert len(parameters) + 2 == 161
    assert sum(value.numel() for value in parameters.values()) + 2048 * 1000 + 1000 == 25_557_032
    assert parameters["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert parameters["layer4.2.conv2.weight"].shape == (512, 512, 3, 3)


def plain_resnet(weights: dict, images: torch.Tensor, blocks: tuple) -> torch.Tensor:
    """He et al.'s bottleneck network, table 1, written out from torchvision's names (which stride in conv2)."""

    def layer(x, conv, norm, stride=1):
        weight = weights[f"{conv}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        return functional.batch_norm(x, mean, variance, weights[f"{norm}.weight"], weights[f"{norm}.bias"])

    x = functional.max_pool2d(functional.relu(layer(images, "conv1", "bn1", 2)), 3, 2, 1)
    for number, count in enumerate(blocks, 1):
        for block in range(count):
            at, stride = f"layer{number}.{block}", 2 if number > 1 and block == 0 else 1
            inner = functional.relu(layer(x, f"{at}.conv1", f"{at}.bn1"))
            inner = functional.relu(layer(inner, f"{at}.conv2", f"{at}.bn2", stride))
            inner = layer(inner, f"{at}.conv3", f"{at}.bn3")
            if block == 0:
                x = layer(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
            x = functional.relu(inner + x)
    return functional.adaptive_avg_pool2d(x, 1).flatten(1)


def test_backbone_equals_the_plain_network():
    blocks = (2, 3, 1, 2)
    net = ResNet(Architecture(blocks=blocks, width=8)).eval().double()
    for name, value in net.state_dict().items():
        if "bn" in name or "downsample.1" in name:
            value.copy_(torch.rand(value.shape) + 0.5)
    images = torch.randn(2, 3, 96, 64, dtype=torch.float64)
    with torch.no_grad():
        features = net(images)
    assert torch.allclose(features, plain_resnet(net.state_dict(), images, blocks), rtol=1e-9)
    assert features.shape == (2, 256) and features.std() > 1e-3


def test_resnet50_runs_on_a_crop_and_gives_a_body():
    net = make_hmr("resnet50").eval()
    with torch.no_grad():
        images = torch.randn(1, 3, 224, 224)
        assert net.backbone(images).shape == (1, 2048)
        prediction = net(images)
    assert prediction.rotations.shape == (1, 24, 3, 3)
    assert prediction.betas.shape == (1, 10) and prediction.cam.shape == (1, 3)
    assert net.head.fc1.in_features == 2048 + 144 + 13  # SPIN's


def test_another_backbone_is_refused():
    with pytest.raises(ValueError, match="expected one of resnet50, lite, got 'resnet51'"):
        make_hmr("resnet51")


def test_6d_is_spins_and_gives_rotations():
    facing = rotation_from_6d(torch.tensor([1.0, 0, 0, -1, 0, 0]))  # rows of the first two columns
    assert torch.equal(facing, torch.diag(torch.tensor([1.0, -1, -1])))
    rotations = rotation_from_6d(torch.randn(50, 24, 6, dtype=torch.float64))
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(rotations.mT @ rotations, eye.expand_as(rotations), atol=1e-12)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(50, 24, dtype=torch.float64))
    assert torch.allclose(rotation_from_6d(sixd_from_rotation(rotations)), rotations, atol=1e-12)


def test_mean_body_stands_upright_faces_the_camera_and_is_symmetric(toy_body):
    sixd, shape, cam = (value.double() for value in mean_parameters())
    pose = axis_angle_from_matrix(rotation_from_6d(sixd.reshape(24, 6))).reshape(1, 72)
    mirrored = mirror_pose(pose).reshape(24, 3)
    assert torch.allclose(mirrored[1:], pose.reshape(24, 3)[1:], atol=1e-6)
    posed = toy_body(shape, pose)
    px = project_crop(posed.joints, cam)[0]
    pelvis, head, ankle, wrist = px[0], px[15], px[7], px[20]
    assert head[1] < pelvis[1] < ankle[1]  # y runs down
    assert px[16, 0] > px[17, 0]  # its left is on our right
    assert wrist[1] > px[16, 1] + 20  # arms hang
    assert (posed.landmarks[0, 0] - posed.joints[0, 15])[2] < 0  # nose towards the camera
    assert px.min() > 0 and px.max() < CROP_PX


def test_rounds_correct_the_mean(tiny):
    images = torch.randn(2, 3, 64, 64)
    mean = tiny(images, rounds=0)
    assert torch.equal(mean.cam, torch.tensor([[0.9, 0, 0]] * 2)) and not mean.betas.any()
    once, twice = tiny(images, rounds=1), tiny(images, rounds=2)
    features = tiny.backbone(torch.nn.functional.interpolate(images, scale_factor=0.5, mode="area"))

    def step(sixd, shape, cam):
        hidden = tiny.head.fc2(tiny.head.fc1(torch.cat([features, sixd, shape, cam], 1)))
        head = tiny.head
        return sixd + head.decpose(hidden), shape + head.decshape(hidden), cam + head.deccam(hidden)

    after = step(*(value.expand(2, -1) for value in mean_parameters()))
    assert torch.allclose(once.cam, after[2], atol=1e-5) and torch.allclose(once.betas, after[1], atol=1e-5)
    after = step(*after)
    assert torch.allclose(twice.rotations, rotation_from_6d(after[0].reshape(2, 24, 6)), atol=1e-4)
    assert not torch.allclose(once.cam, twice.cam, atol=1e-3)
    three = tiny(images, rounds=3)
    assert torch.equal(tiny(images).cam, three.cam)  # the default
    assert torch.allclose(torch.linalg.det(three.rotations), torch.ones(2, 24), atol=1e-5)


def test_batch_of_one_equals_batch_of_eight(tiny):
    images = torch.randn(8, 3, 64, 64)
    given, whole = images.clone(), tiny(images)
    for row in range(8):
        one = tiny(images[row : row + 1])
        for name, value in vars(one).items():
            assert torch.allclose(value[0], getattr(whole, name)[row], atol=1e-5)
    assert torch.equal(images, given)


def test_gradients_reach_every_parameter(tiny):
    tiny.train()
    prediction = tiny(torch.randn(2, 3, 128, 128))
    (prediction.rotations[..., 0, 1].sum() + prediction.betas.sum() + prediction.cam.sum()).backward()
    silent = [n for n, p in tiny.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_input_is_normalised_as_imagenets():
    crops = torch.zeros(1, 4, 4, 3)
    crops[0, 1, 2] = torch.tensor([1.0, 0, 0.2])
    images = to_input(crops)
    assert images.shape == (1, 3, 4, 4)
    assert images[0, :, 1, 2].tolist() == pytest.approx(
        [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225], abs=1e-5
    )


# checkpoints


def test_spin_checkpoint(tmp_path, spin_tensors):
    path = tmp_path / "spin.pt"  # numpy beside the weights, as SPIN's saver writes
    torch.save({"model": spin_tensors, "epoch": 3, "dataset_perm": np.arange(3), "optimizer": {}}, path)
    assert_holds(load_hmr(path), spin_tensors)


def test_plain_eft_checkpoint_needs_mean_parameters(tmp_path, spin_tensors):
    path, mean = tmp_path / "eft.pt", tmp_path / "mean.npz"
    plain = {name: value for name, value in spin_tensors.items() if not name.startswith("init_")}
    torch.save(plain, path)
    with pytest.raises(ValueError, match="head.init_cam.*give SPIN's smpl_mean_params.npz as mean_params"):
        load_hmr(path)
    arrays = {name: spin_tensors[f"init_{name}"][0].numpy() for name in ("pose", "shape", "cam")}
    np.savez(mean, **arrays)
    assert_holds(load_hmr(path, mean), spin_tensors)
    np.savez(mean, pose=np.zeros(72), shape=np.zeros(10), cam=np.zeros(3))
    with pytest.raises(ValueError, match=r"expected pose \[144\].*\(72,\)"):
        load_hmr(path, mean)


def test_lightning_checkpoint_of_dsr(tmp_path, spin_tensors):
    path, ours = tmp_path / "dsr.ckpt", renamed(spin_tensors)
    state = {f"model.{name}": value for name, value in ours.items()}
    state |= {"model.smpl.smpl.betas": torch.zeros(1, 10), "J_regressor": torch.zeros(17, 6890)}
    settings = argparse.Namespace(METHOD="dsr")  # a class of the trainer's: skipped, never built
    torch.save({"state_dict": state, "hyper_parameters": settings, "pytorch-lightning_version": "0.8"}, path)
    assert_holds(load_hmr(path), spin_tensors)


def test_files_of_data_parallel_and_before_batch_counts(tmp_path, spin_tensors):
    path = tmp_path / "old.pt"
    old = {f"module.{n}": v for n, v in spin_tensors.items() if not n.endswith("num_batches_tracked")}
    torch.save({"model": old}, path)
    net = load_hmr(path)
    assert net.backbone.bn1.num_batches_tracked == 0
    assert net.backbone.bn1.weight[0] == spin_tensors["bn1.weight"].flatten()[0]


def test_imagenet_gives_the_backbone_alone(tmp_path, spin_tensors):
    path = tmp_path / "resnet50.pth"
    imagenet = {n: v for n, v in spin_tensors.items() if n in torchvision_names()}
    imagenet |= {"fc.weight": torch.zeros(1).expand(1000, 2048), "fc.bias": torch.zeros(1000)}
    assert imagenet.keys() == torchvision_names()
    torch.save(imagenet, path)
    with pytest.raises(ValueError, match="expected a whole regressor.*not predict"):
        load_hmr(path)
    net = load_hmr(path, fresh_head=True)
    assert net.backbone.conv1.weight[0, 0, 0, 0] == spin_tensors["conv1.weight"].flatten()[0]
    assert 0 < net.head.deccam.weight.abs().max() < 0.01  # as initialised
    assert torch.equal(net.head.init_pose, mean_parameters()[0])


def test_what_does_not_fit_is_named(tmp_path, spin_tensors):
    path = tmp_path / "other.pt"
    other = {n: v for n, v in spin_tensors.items() if n != "layer3.2.conv1.weight"}
    torch.save({"model": other | {"deccam.bias": torch.zeros(4), "decjaw.bias": torch.zeros(3)}}, path)
    with pytest.raises(ValueError) as caught:
        load_hmr(path)
    text = str(caught.value)
    assert "1 missing (backbone.layer3.2.conv1.weight)" in text and "1 unexpected (decjaw.bias)" in text
    assert "head.deccam.bias [4], expected [3]" in text and "HMR resnet50" in text


def test_no_file_and_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_hmr(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(ValueError, match="expected a PyTorch checkpoint"):
        load_hmr(tmp_path / "text.pt")
    torch.save({"weights": [1, 2]}, tmp_path / "list.pt")
    with pytest.raises(ValueError, match="expected named tensors"):
        load_hmr(tmp_path / "list.pt")


def test_our_own_checkpoint_returns_as_it_was(tmp_path, tiny):
    path = tmp_path / "ours.pt"
    save_hmr(path, tiny, json.dumps({"lr": 1e-4}), {"step": 7, "optimizer": {"state": torch.ones(2)}})
    net, images = load_hmr(path), torch.randn(3, 3, 64, 64)
    assert net.architecture == TINY and not net.training
    assert torch.equal(net(images).rotations, tiny(images).rotations)
    content = read_hmr_file(path)
    assert content["step"] == 7 and json.loads(content["configuration"]) == {"lr": 1e-4}
    assert content["optimizer"]["state"].tolist() == [1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["ours.pt"]


# cameras


def a_body(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 40, 3, dtype=torch.float64) * 0.4


def in_photo(points, cam, center, side, focal, principal):
    """Points of a crop seen by the photo's camera, in px of the crop."""
    rows = len(cam)
    square = torch.tensor([center] * rows).double(), torch.full((rows,), side).double()
    intrinsics = torch.tensor([[focal, focal]] * rows).double(), torch.tensor([principal] * rows).double()
    transl = full_translation(cam, *square, *intrinsics)
    px = project_points(points + transl[:, None], *intrinsics)
    return (px - torch.tensor(center)) * CROP_PX / side + CROP_PX / 2


CAM = torch.tensor([[0.9, 0.1, -0.2], [0.6, -0.3, 0.05], [1.2, 0.0, 0.0]], dtype=torch.float64)


def test_full_camera_of_the_same_focal_sees_the_crop_exactly():
    points, side = a_body(), 350.0
    focal = FOCAL_CROP_PX * side / CROP_PX
    seen = in_photo(points, CAM, (320.0, 200.0), side, focal, (320.0, 200.0))
    assert torch.allclose(seen, project_crop(points, CAM), atol=1e-9)


def test_cameras_agree_in_the_orthographic_limit_and_at_the_bodys_depth():
    points, center, principal = a_body(), (500.0, 260.0), (320.0, 240.0)
    orthographic = CROP_PX / 2 * (CAM[:, None, :1] * (points[..., :2] + CAM[:, None, 1:]) + 1)
    far = in_photo(points, CAM, center, 180.0, 1e7, principal)
    assert torch.allclose(far, orthographic, atol=0.01)
    flat = points * torch.tensor([1.0, 1, 0])
    near = in_photo(flat, CAM, center, 180.0, 700.0, principal)  # off centre, and a true focal length
    assert torch.allclose(near, orthographic, atol=1e-6)
    assert torch.allclose(project_crop(flat, CAM), orthographic, atol=1e-6)


# predictions as fits


@pytest.fixture
@torch.no_grad()
def seen(toy_body):
    """A network that always says one body, and a photo's camera and person in which that body was seen."""
    torch.manual_seed(1)
    net = HMR(TINY).eval()
    for decoder in (net.head.decpose, net.head.decshape, net.head.deccam):
        torch.nn.init.zeros_(decoder.weight), torch.nn.init.zeros_(decoder.bias)
    net.head.init_cam[:] = torch.tensor([[0.9, 0.0, 0.0]])
    prediction = net(torch.zeros(1, 3, 64, 64)).to(toy_body.template)
    pose = axis_angle_from_matrix(prediction.rotations).reshape(1, 72)
    targets = torch.tensor(body_targets("openpose", *toy_body.joint_layout)[0])
    points = toy_body.points(toy_body(prediction.betas, pose))
    crop_px = project_crop(targets @ points, prediction.cam)[0].numpy()
    side = 1.2 * np.ptp(crop_px, axis=0).max()  # the square that `square_of` finds, in px of that crop
    low, high = crop_px.min(0), crop_px.max(0)
    scale = 400 / side
    keypoints = np.column_stack([(crop_px - (low + high) / 2) * scale + [300, 250], np.ones(25)])
    person = Person("7", keypoints, "openpose", keypoint_box(keypoints))
    s = 0.9 * CROP_PX / side  # the same body in the tighter square
    offset = (CROP_PX / 2 - (low + high) / 2) / (0.9 * CROP_PX / 2)
    net.head.init_cam[:] = torch.tensor([[s, *offset]])
    focal = FOCAL_CROP_PX * 400 / CROP_PX
    return net, person, Camera(focal, focal, 300, 250, 640, 480, "user"), pose[0].numpy()


def objective_of(body):
    """What predictions are judged by: the body and the shipped mixture."""
    return Objective(body, load_pose_prior("gmm", None, body.template.dtype), Weights(), 100.0)


def test_square_is_spins_crop(seen):
    center, side = predicting.square_of(seen[1])
    assert center == pytest.approx([300, 250]) and side == pytest.approx(400)


def test_prediction_becomes_a_fit_that_reprojects(seen, toy_body):
    net, person, camera, pose = seen
    image = np.full((480, 640, 3), 90, np.uint8)
    first, second = predicting.predict(
        net, image, [person, replace(person, id="8")], camera, objective_of(toy_body), image="a.jpg"
    )
    assert (first.person, second.person, first.image) == ("7", "8", "a.jpg")
    error_px = np.abs(first.keypoints_px - person.keypoints_px[:, :2]).max()
    assert error_px < 1.0  # of 400: the tighter square's camera stands a little nearer
    assert first.quality["reprojection_pct"] < 0.2 and first.valid, first.reasons
    assert np.allclose(first.pose, pose, atol=1e-6) and first.joints_cam[0, 2] > 10
    posed = toy_body(torch.tensor(first.betas)[None], torch.tensor(first.pose)[None])
    assert np.allclose(posed.vertices[0].numpy() + first.transl_cam, first.vertices_cam)
    assert predicting.predict(net, image, [], camera, objective_of(toy_body)) == []


def test_a_true_focal_length_brings_the_body_near_and_keeps_its_place(seen, toy_body):
    net, person, camera, _ = seen
    near = replace(camera, fx_px=800.0, fy_px=800.0)
    fit = predicting.predict(net, np.zeros((480, 640, 3), np.uint8), [person], near, objective_of(toy_body))[
        0
    ]
    assert 2 < fit.transl_cam[2] < 5
    assert fit.quality["reprojection_pct"] < 3


def test_what_is_no_body_is_named(seen, toy_body):
    net, person, camera, _ = seen
    image = np.zeros((480, 640, 3), np.uint8)
    net.head.init_cam[0, 0] = -0.5
    fit = predicting.predict(net, image, [person], camera, objective_of(toy_body))[0]
    assert not fit.valid and "camera scale is -0.5" in fit.reasons[0]
    net.head.init_shape[0, 3] = math.nan  # which the rounds spread
    fit = predicting.predict(net, image, [person], camera, objective_of(toy_body))[0]
    assert not fit.valid and fit.reasons[0] == "the regressor's rotations are not finite"
    with pytest.raises(ValueError, match="call net.eval"):
        predicting.predict(net.train(), image, [person], camera, objective_of(toy_body))


def test_the_network_sees_the_square_and_the_mirrored_photos_square(seen, toy_body):
    net, person, camera, _ = seen
    looked = []
    net.register_forward_pre_hook(lambda _, given: looked.append(given[0]))
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 256, (12, 16, 3), np.uint8), 40, 0), 40, 1)
    person = replace(person, keypoints_px=person.keypoints_px, box_px=np.array([260, 160, 340, 240]) * 1.0)
    twin = replace(person, keypoints_px=mirror_keypoints(person.keypoints_px, 640))
    twin = replace(twin, box_px=np.array([300, 160, 380, 240]) * 1.0)
    predicting.predict(net, image, [person], camera, objective_of(toy_body))
    predicting.predict(net, image[:, ::-1].copy(), [twin], camera.mirrored(), objective_of(toy_body))
    first, second = looked
    assert first.shape == (1, 3, CROP_PX, CROP_PX)
    assert (first - second.flip(3)).abs().max() < 0.03
    center, side = predicting.square_of(person)
    assert center.tolist() == [300, 200] and side == pytest.approx(1.2 * 80 / 1.24)
    x, y = 30, 190  # px of the crop
    colour = image[int(200 + (y / CROP_PX - 0.5) * side), int(300 + (x / CROP_PX - 0.5) * side)] / 255
    assert first[0, :, y, x].tolist() == pytest.approx(
        ((colour - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).tolist(), abs=1e-4
    )


def test_the_command_writes_fits(tmp_path, tiny, seen, capsys):
    photos, places, out = (tmp_path / name for name in ("photos", "keypoints", "out"))
    photos.mkdir(), places.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (640, 480), "gray").save(photos / f"{name}.png")
    one = {"person_id": [-1], "pose_keypoints_2d": seen[1].keypoints_px.reshape(-1).tolist()}
    (places / "a_keypoints.json").write_text(json.dumps({"people": [one, one]}))
    (places / "b_keypoints.json").write_text(json.dumps({"people": []}))
    save_hmr(tmp_path / "net.pt", tiny)
    given = {"images": photos, "keypoints": places, "out": out, "checkpoint": tmp_path / "net.pt"}
    assert predicting.main([f"--{name}={value}" for name, value in given.items()]) == 3
    assert "2 people fitted" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "summary.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["fitted", "fitted", "skipped"]
    fit = load_fit(out / "a_1.npz")
    assert fit.pose.shape == (72,) and fit.people_in_photo == 2 and fit.transl_cam[2] > 0
    assert fit.configuration["checkpoint"].endswith("net.pt")
    assert (out / "overlays" / "a.jpg").is_file()
    assert predicting.main([f"--images={photos}", f"--out={out}", "--checkpoint=none.pt"]) == 2

    tiny.head.init_pose[:] = 3e38  # whose squares overflow; a file with nan is refused
    save_hmr(tmp_path / "net.pt", tiny)
    given["out"] = tmp_path / "nothing"
    assert predicting.main([f"--{name}={value}" for name, value in given.items()]) == 3
    rows = [json.loads(line) for line in (given["out"] / "summary.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["skipped"] * 3 and "not finite" in rows[0]["reasons"][0]
    assert not list(given["out"].glob("*.npz"))
