"""The network that ships: begins at the lifter's answer, sees what the parser's trunk sees, and needs no path."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from toy_people import CHANGES, SIZE, config_of, source, write_people

from fitter.body.model import load_body
from fitter.energy.losses import CROP_PX
from fitter.energy.objective import keypoint_model
from fitter.see.camera import default_camera
from fitter.see.crops import apply_affine
from fitter.write.result import load_fit
from priors.rotation import rotation_from_6d, rotation_from_axis_angle
from regressor.checkpoints import SHIPPED_FILE, halved, load_hmr, read_hmr_file, save_hmr
from regressor.data import crop_affine, load_people, load_sample
from regressor.head_first import Looks, learn_head, terms_of
from regressor.hmr import Hints, from_input, hints_of, make_hmr, to_input
from regressor.lite import LIFTED, LIMBS_AFTER, POINT_CHANNELS, SIDE, TAPPED, LiteTrunk, looked_at
from regressor.methods import main as fit_main
from regressor.predict import main as predict_main
from regressor.training import Trainer
from synth.parser.export import folded
from synth.parser.net import ParserNet

MOST_MB = 12


@pytest.fixture
def skier(tmp_path):
    """A folder with the example photo of one person."""
    (tmp_path / "photos").mkdir()
    shutil.copy(Path(__file__).parents[1] / "examples/photos/skier.jpg", tmp_path / "photos")
    return str(tmp_path / "photos")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("data"), load_body())


def some_hints(count: int) -> Hints:
    keypoints = torch.cat([CROP_PX * torch.rand(count, 25, 2), torch.rand(count, 25, 1)], 2)
    return Hints(torch.rand(count, 6, 28, 28), keypoints, torch.randn(count, LIFTED))


def test_an_untrained_head_gives_the_lifters_answer(dataset):
    sample = load_sample(load_people(source(dataset)), 0, CHANGES[0])
    hints = hints_of({key: torch.tensor(value)[None] for key, value in sample.items()})
    image = to_input(torch.tensor(sample["image"])[None])
    prediction = make_hmr("lite").eval()(image, hints)
    torch.testing.assert_close(
        prediction.rotations, rotation_from_6d(hints.lifted[:, :144].unflatten(1, (24, 6)))
    )
    facing = prediction.rotations[0, 0] @ torch.tensor([0.0, 0.0, 1.0])
    assert facing[2] < -0.5  # the toys face the camera, which the lifter sees


def test_the_trunk_is_the_parsers():
    """Every block, its padding, and where the limb maps come in."""
    torch.manual_seed(0)
    parser, trunk, seen = folded(ParserNet()), LiteTrunk(), {}
    torch.nn.init.normal_(parser.limbs.weight, std=0.1)
    missing, _ = trunk.load_state_dict(parser.state_dict(), strict=False)
    assert missing == ["points.weight", "points.bias"]
    for name, net in (("parser", parser), ("trunk", trunk)):
        for block in (LIMBS_AFTER + 1, TAPPED):
            net._blocks[block].register_forward_hook(
                lambda _, given, out, key=(name, block): seen.__setitem__(key, out)
            )
    image, limbs = 255 * torch.rand(2, 3, SIDE, SIDE), torch.rand(2, 7, SIDE // 4, SIDE // 4)
    limbs[:, 6] = 0
    parser(image, limbs)
    trunk(image, limbs[:, :6], some_hints(2).keypoints)
    for block in (LIMBS_AFTER + 1, TAPPED):
        own, theirs = seen["trunk", block], seen["parser", block]
        torch.testing.assert_close(own, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_it_looks_where_the_keypoints_are():
    """A change of the picture near a keypoint changes that point's features most; keypoints not seen say nothing."""
    torch.manual_seed(0)
    trunk, keypoints = LiteTrunk(), torch.zeros(1, 25, 3)
    keypoints[0, 4], keypoints[0, 7] = torch.tensor([40.0, 60.0, 1.0]), torch.tensor([180.0, 150.0, 1.0])
    plain = torch.full((1, 3, CROP_PX, CROP_PX), 120.0)
    marked = plain.clone()
    marked[:, :, 50:70, 30:50] = 255
    with torch.no_grad():
        features = [trunk(one, torch.zeros(1, 6, 28, 28), keypoints)[0] for one in (plain, marked)]
    change = (features[1] - features[0])[: 33 * POINT_CHANNELS].reshape(33, -1).abs().mean(1)
    assert change[4] > 3 * change[7] and not change[[0, 1, 2, 3, 5, 6]].any()
    points, weight = looked_at(keypoints)
    assert points.shape == (1, 33, 2) and weight.sum() == 2


@pytest.mark.parametrize("change", CHANGES)
def test_rays_turn_with_the_picture(dataset, change):
    """A point's pixel in the changed crop is on the ray to the point, turned and mirrored as the pose is."""
    people = load_people(source(dataset))
    camera, point = default_camera(SIZE, SIZE), np.array([[0.4, -0.3, 3.0], [-0.2, 0.7, 2.5]])
    px = point[:, :2] / point[:, 2:] * camera.fx_px + [camera.cx_px, camera.cy_px]
    crop = apply_affine(cv2.invertAffineTransform(crop_affine(people, 0, change)), px)
    crop[:, 0] = CROP_PX - crop[:, 0] if change.flip else crop[:, 0]
    turned = Rotation.from_euler("z", -change.angle_rad).apply(point) * [-1 if change.flip else 1, 1, 1]
    to_rays = load_sample(people, 0, change)["to_rays"]
    np.testing.assert_allclose(apply_affine(to_rays, crop), turned[:, :2] / turned[:, 2:], atol=1e-5)


def test_training_leaves_the_first_blocks_and_fine_tuning_does_not():
    trunk = LiteTrunk()
    trunk.freeze(True)
    image, hints = torch.rand(1, 3, CROP_PX, CROP_PX), some_hints(1)
    trunk(image, hints.limbs, hints.keypoints).square().sum().backward()
    still = {name for name, one in trunk.named_parameters() if one.grad is None}
    assert "_conv_stem.weight" in still and "_blocks.6._project_conv.weight" in still
    assert "_blocks.7._project_conv.weight" not in still and "points.weight" not in still
    trunk.freeze(False)
    trunk(image, hints.limbs, hints.keypoints).square().sum().backward()
    assert trunk._conv_stem.weight.grad is not None


def test_half_precision_is_the_same_network(tmp_path):
    net = make_hmr("lite")
    torch.nn.init.normal_(net.head.last.weight, std=0.01)
    save_hmr(tmp_path / "run.pt", net, '{"steps": 7}', {"optimiser": {"state": torch.ones(3)}})
    halved(tmp_path / "run.pt", tmp_path / "half.pt")
    content = read_hmr_file(tmp_path / "half.pt")
    assert content["configuration"] == '{"steps": 7}' and "optimiser" not in content
    images, hints = to_input(torch.rand(2, CROP_PX, CROP_PX, 3)), some_hints(2)
    whole, half = (one.eval()(images, hints) for one in (net, load_hmr(tmp_path / "half.pt")))
    torch.testing.assert_close(whole.rotations, half.rotations, atol=0.02, rtol=0)
    assert from_input(images).max() <= 255.01


def test_the_head_learns_first_and_once(dataset, tmp_path, monkeypatch, capsys):
    """From kept features it learns the people by heart; a run that is resumed does not begin with it again."""
    calls = []

    def learned(net, looks, body, seed, say):
        before = terms_of(net.eval().corrected(*asked(net, looks)), looks, keypoint_model(body))
        learn_head(net, replaced(looks, 300), body, seed, say)
        after = terms_of(net.eval().corrected(*asked(net, looks)), looks, keypoint_model(body))
        calls.append((float(before["point"].detach()), float(after["point"].detach())))

    def asked(net, looks):
        features = net.backbone.features_of(looks.sampled.float(), looks.pooled.float(), looks.keypoints)
        return features, looks.keypoints, looks.lifted

    def replaced(looks, times):
        return Looks(*(part.repeat(times, *[1] * (part.ndim - 1)) for part in vars(looks).values()))

    monkeypatch.setattr("regressor.training.learn_head", learned)
    config = config_of(dataset, tmp_path, network="lite", looks=3, steps=1, dsr_from=9, validation=())
    first = Trainer(config)
    monkeypatch.setattr(Trainer, "update", lambda self, batches: pytest.fail("stopped here"))
    with pytest.raises(pytest.fail.Exception):
        first.run()
    assert len(calls) == 1 and calls[0][1] < 0.6 * calls[0][0]
    assert "head: step 120 of 120" in capsys.readouterr().out
    again = Trainer(config)
    assert again.resumed and again.step == 0
    for name, value in first.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name])
    with pytest.raises(pytest.fail.Exception):
        again.run()
    assert len(calls) == 1


def test_the_network_that_ships_needs_no_path(tmp_path, skier):
    """Small, in half precision, and of use with nothing given: the skier stands upright, within his keypoints."""
    content = read_hmr_file(SHIPPED_FILE)
    assert SHIPPED_FILE.stat().st_size < MOST_MB * 1e6
    assert content["model"]["head.first.weight"].dtype == torch.float16
    assert json.loads(content["configuration"])["network"] == "lite"
    for method in ("network", "eft"):
        given = ["--images", skier, "--out", str(tmp_path / method), "--method", method]
        assert (
            fit_main([*given, "--parser", "none", "--people", "largest", "--jobs", "1", "--report", "false"])
            == 0
        )
        fit = load_fit(tmp_path / method / "skier_0.npz")
        assert fit.valid and fit.quality["reprojection_pct"] < 4, fit.quality
        up = rotation_from_axis_angle(torch.tensor(fit.pose[:3]).float()[None])[0] @ torch.tensor(
            [0.0, 1.0, 0.0]
        )
        assert up[1] < -0.85
    assert predict_main(["--images", skier, "--out", str(tmp_path / "predicted")]) == 0
    first, second = (load_fit(tmp_path / out / "skier_0.npz") for out in ("network", "predicted"))
    np.testing.assert_allclose(first.pose, second.pose, atol=1e-6)


def test_a_fit_begun_at_the_network_ends_no_higher_than_from_scratch(tmp_path, skier):
    given = [
        "--images",
        skier,
        "--parser",
        "none",
        "--people",
        "largest",
        "--jobs",
        "1",
    ]
    energies = []
    for out, more in (("scratch", []), ("begun", ["--init", "network"])):
        assert fit_main([*given, "--report", "false", "--out", str(tmp_path / out), *more]) == 0
        energies.append(load_fit(tmp_path / out / "skier_0.npz").quality["energy"])
    assert energies[1] <= energies[0] * (1 + 1e-5)


def test_the_parsers_trunk_is_read_from_its_file():
    pytest.importorskip("onnx")
    net, fresh = load_hmr("parser", fresh_head=True), make_hmr("lite").state_dict()
    assert net.backbone._blocks[14]._project_conv.weight.abs().max() < 100
    assert not torch.equal(
        net.state_dict()["backbone._conv_stem.weight"], fresh["backbone._conv_stem.weight"]
    )
    assert not net.head.last.weight.any()
    shipped = load_hmr("shipped").state_dict()
    for name, value in net.state_dict().items():  # the shipped network left the trunk as it was
        if name.startswith("backbone._"):
            torch.testing.assert_close(shipped[name], value, rtol=1e-3, atol=1e-6)
