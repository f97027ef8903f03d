"""Training: data that stays together under augmentation, losses that are the fitter's, runs that survive a kill."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import orthogonal_procrustes

from benchmarks.overfit64 import true_body
from fitter.body.model import load_body
from fitter.body.spin_joints import spin_joints_of
from fitter.cli import read_config
from fitter.config import Eft, Semantics, Weights
from fitter.energy import losses as shared
from fitter.energy.objective import Objective
from fitter.energy.semantics import CENTRE_DEPTH, MOST_DEPTH
from fitter.label.label_files import read_labels, write_labels
from fitter.label.parse import MIRROR_LIMBS
from fitter.label.person_labels import clean_labels
from fitter.see.camera import default_camera
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import BODY_25, MIRROR_25, Person
from fitter.see.limbs import PARTS
from fitter.see.person_box import keypoint_box
from priors.clothing import LABELS
from priors.pose import load_pose_prior
from priors.skeleton import mirror_pose
from regressor.check import inspect
from regressor.check import main as check
from regressor.cli import main as train_main
from regressor.config import Augmentation, LossWeights, Source, TrainConfig
from regressor.data import (
    SPIN_24_MIRROR,
    Change,
    cropped_labels,
    draw_change,
    load_people,
    load_sample,
    poorer_keypoints,
)
from regressor.eft import fine_tuned, make_criterion
from regressor.evaluation import COUNTED, errors, evaluate
from regressor.hmr import HMR, Architecture, Prediction, limb_input, make_hmr
from regressor.losses import Criterion, crop_camera, fit_scale, targets_of, total
from regressor.predict import predict
from regressor.training import Trainer, rate_at

PX_PER_M, SIZE = 110.0, 320
CHANGES = (
    Change(),
    Change(flip=True),
    Change(angle_rad=0.5),
    Change(flip=True, angle_rad=-0.7, scale=1.2),
    Change(angle_rad=0.3, scale=0.8, gain=(0.7, 1.0, 1.3)),
)
PAINTED = {"LWrist": "left-arm", "RWrist": "right-arm", "LAnkle": "left-shoe", "RAnkle": "right-shoe"}


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, body):
    """Three posed bodies seen from afar (orthographic) in SPIN format, with labels painted at wrists and ankles."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir(), (folder / "labels").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(3):
        pose = torch.tensor(rng.normal(0, 0.2, (1, 72))).float()
        pose[0, :3] = torch.tensor([np.pi, 0.0, 0.0])
        pose[0, [50, 53]] = torch.tensor([-0.8, 0.8])
        betas = torch.tensor(rng.normal(0, 0.7, (1, 10))).float()
        posed = body(betas, pose)
        points = (torch.tensor(body_targets("openpose", *body.joint_layout)[0]).float() @ body.points(posed))[
            0
        ]
        keypoints = np.column_stack([PX_PER_M * points[:, :2].numpy() + [170, 150], np.ones(25)])
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(
            folder / f"images/{number}.png"
        )
        ids = np.full((SIZE, SIZE), LABELS.index("upper-clothes"), np.uint8)
        for name, label in PAINTED.items():
            x, y = keypoints[BODY_25.index(name), :2].astype(int)
            cv2.circle(ids, (int(x), int(y)), 4, LABELS.index(label), -1)
        write_labels(folder / f"labels/{number}.png", ids)
        joints = spin_joints_of(posed, body)[0]
        low, high = keypoints[:, :2].min(0), keypoints[:, :2].max(0)
        rows.append({
            "imgname": f"images/{number}.png", "center": (low + high) / 2, "scale": 1.2 * (high - low).max() / 200,
            "openpose": keypoints, "S": joints, "pose": pose[0].numpy(), "shape": betas[0].numpy(), "has_smpl": 1,
        })  # fmt: skip
    np.savez(folder / "data.npz", **{key: np.stack([row[key] for row in rows]) for key in rows[0]})
    return folder


def source(folder, **more):
    return Source("toy", str(folder / "data.npz"), str(folder), str(folder / "labels"), **more)


def batch_of(people, semantics=None, changes=CHANGES[:3]):
    samples = [load_sample(people, row, change, semantics, 48) for row, change in enumerate(changes)]
    return {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}


def tiny() -> HMR:
    torch.manual_seed(0)
    return HMR(Architecture(bottleneck=False, blocks=(1, 1, 1, 1), width=8, shrink=4))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_shows_the_changed_body(dataset, body, change):
    """Project, then augment = augment, then project: up to the crop's scale and place, and never up to a rotation."""
    people = load_people(source(dataset))
    for row in range(len(people)):
        sample = load_sample(people, row, change)
        posed = body(
            torch.tensor(sample["betas"])[None],
            torch.tensor(sample["rotations"])[None],
        )
        points = torch.tensor(body_targets("openpose", *body.joint_layout)[0]).float() @ body.points(posed)[0]
        joints = spin_joints_of(posed, body)[0, :, :3]
        seen, model = sample["keypoints_px"][:, :2], points[:, :2].numpy()
        seen, model = seen - seen.mean(0), model - model.mean(0)
        scale = (seen * model).sum() / (model**2).sum()
        assert scale == pytest.approx(PX_PER_M * 224 / (people.side_px[row] * change.scale), rel=0.01)
        assert np.abs(seen - scale * model).max() < 1.5  # px: the mirrored open body is not quite the same
        own = sample["joints_m"][:, :3]
        np.testing.assert_allclose(own - own[:1], joints - joints[:1], atol=0.012)


def test_limb_maps_follow_the_picture(dataset):
    """A mirrored sample's maps are the mirrored maps with left and right exchanged, and lie where the keypoints do."""
    people = load_people(source(dataset))
    plain, mirrored = (load_sample(people, 0, Change(flip=flip)) for flip in (False, True))
    np.testing.assert_allclose(mirrored["limbs"][list(MIRROR_LIMBS[:6]), :, ::-1], plain["limbs"], atol=1e-5)
    for part, name in (("left-arm", "LElbow"), ("right-leg", "RKnee")):
        x, y = (plain["keypoints_px"][BODY_25.index(name), :2] // 8).astype(int)
        assert plain["limbs"][PARTS.index(part), y, x] > 0.8
    assert not limb_input(np.zeros((25, 3))).any()
    with pytest.raises(ValueError, match="expected the people's limb maps"):
        make_hmr("small")(torch.zeros(1, 3, 224, 224))


def test_poorer_keypoints_keep_to_their_limits():
    points, rng = np.ones((25, 3)) * 100, np.random.default_rng(0)
    settings = Augmentation(keypoints=0.02, lost=0.2)
    many = np.stack([poorer_keypoints(points, settings, rng) for _ in range(400)])
    assert (many[..., 2] == 0).mean() == pytest.approx(0.2, abs=0.02)
    assert (many[..., 0] - 100).std() == pytest.approx(0.02 * 224 / 3**0.5, rel=0.1)
    assert (points == 100).all()


@pytest.mark.parametrize("change", CHANGES)
def test_labels_follow_the_picture(dataset, change):
    people = load_people(source(dataset))
    for row in range(len(people)):
        keypoints = load_sample(people, row, change)["keypoints_px"]
        ids = cropped_labels(people, row, change, (SIZE, SIZE))
        for name, label in PAINTED.items():
            x, y = np.floor(keypoints[BODY_25.index(name), :2]).astype(int)
            if 0 <= x < 224 and 0 <= y < 224:
                assert LABELS[ids[y, x]] == label


def test_pixels_follow_the_keypoints(dataset):
    """The crop's pixel at a keypoint is the photo's pixel there."""
    people = load_people(source(dataset))
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    x, y = people.keypoints_px[0, BODY_25.index("LWrist"), :2].astype(int)
    blank[y - 3 : y + 4, x - 3 : x + 4] = 255
    Image.fromarray(blank).save(people.images[0].with_name("mark.png"))
    marked = replace(people, images=(people.images[0].with_name("mark.png"), *people.images[1:]))
    for change in CHANGES:
        sample = load_sample(marked, 0, change)
        name = "RWrist" if change.flip else "LWrist"
        rows, columns = np.nonzero(sample["image"].sum(-1) > 0.5)
        middle = np.array([columns.mean(), rows.mean()]) + 0.5
        assert np.abs(middle - sample["keypoints_px"][BODY_25.index(name), :2]).max() < 1.5


def test_joints_and_poses_mirror_back_to_themselves():
    assert tuple(SPIN_24_MIRROR[i] for i in SPIN_24_MIRROR) == tuple(range(24))
    pose = np.random.default_rng(0).normal(size=72)
    np.testing.assert_allclose(mirror_pose(mirror_pose(pose)), pose)


def test_augmentations_keep_to_their_limits():
    settings, rng = Augmentation(), np.random.default_rng(0)
    drawn = [draw_change(settings, rng) for _ in range(2000)]
    angles, scales = np.degrees([c.angle_rad for c in drawn]), np.array([c.scale for c in drawn])
    assert np.abs(angles).max() <= 60 and (angles == 0).mean() == pytest.approx(0.6, abs=0.05)
    assert scales.min() >= 0.75 and scales.max() <= 1.25
    assert np.mean([c.flip for c in drawn]) == pytest.approx(0.5, abs=0.05)
    gains = np.array([c.gain for c in drawn])
    assert gains.min() >= 0.6 and gains.max() <= 1.4


def test_terms_are_the_fitters_own(dataset, body):
    """The same body, camera and labels give the same values through either side."""
    semantics = Semantics(centre=0.4)
    batch = batch_of(load_people(source(dataset)), semantics)
    criterion = Criterion(body, semantics)
    prediction = Prediction(batch["rotations"], batch["betas"], torch.tensor([[0.9, 0.0, 0.1]] * 3))
    bodies = criterion.bodies(prediction)
    terms = criterion(prediction, bodies, batch, dsr=True)
    targets, camera = targets_of(batch), crop_camera(bodies.vertices_cam)
    prob = criterion.semantics.render(bodies.vertices_cam, *camera, targets)
    mc = shared.silhouette_iou(prob[..., 4] * targets.valid, targets.mc * targets.valid)
    deeper = (targets.person_depth / CENTRE_DEPTH).clamp(max=MOST_DEPTH)
    factor = 1 - semantics.centre + semantics.centre * deeper
    c = shared.clothing_one_sided(prob[..., :4], targets.classes, targets.valid, semantics.fill, factor)
    torch.testing.assert_close(terms["mc"], mc)
    torch.testing.assert_close(terms["c"], c)
    assert mc.max() > 0.5 and c.min() > 0
    keypoints = batch["keypoints_px"]
    distance = (bodies.keypoints_px - keypoints[..., :2]) / 112
    torch.testing.assert_close(terms["keypoints"], distance.square().mean((1, 2)), rtol=1e-3, atol=1e-6)
    assert terms["pose"].max() == 0 and terms["shape"].max() == 0
    assert terms["joints"].max() < 1e-4


def test_people_without_labels_add_nothing_to_dsr_and_dsr_can_wait(dataset, body):
    people = load_people(replace(source(dataset), labels=None))
    batch = batch_of(people, Semantics())
    criterion, net = Criterion(body, Semantics()), tiny().eval()
    prediction = net(torch.zeros(3, 3, 224, 224))
    terms = criterion(prediction, criterion.bodies(prediction), batch, dsr=True)
    assert terms["mc"].abs().max() == 0 and terms["c"].abs().max() == 0
    assert "mc" not in criterion(prediction, criterion.bodies(prediction), batch, dsr=False)


def test_people_without_3d_add_only_keypoints(dataset, body):
    people = load_people(source(dataset))
    bare = replace(people, joints_m=np.zeros_like(people.joints_m), has_smpl=np.zeros(3, bool))
    criterion, net = Criterion(body, Semantics(mc="none", c="none")), tiny().eval()
    prediction = net(torch.zeros(3, 3, 224, 224))
    terms = criterion(prediction, criterion.bodies(prediction), batch_of(bare), dsr=True)
    assert all(terms[name].abs().max() == 0 for name in ("joints", "pose", "shape"))
    assert terms["keypoints"].min() > 0
    weights = LossWeights(overall=2.0, keypoints=3.0, camera=0.0)
    assert float(total(terms, weights)) == pytest.approx(6 * float(terms["keypoints"].mean()))


def config_of(folder, out, **more):
    given = {"data": (source(folder),), "validation": (source(folder),), "batch": 2, "rate": 1e-3, "dsr_from": 1,
             "dsr_px": 32, "validate_every": 2, "workers": 0}  # fmt: skip
    return TrainConfig(out=str(out), **(given | more))


@pytest.fixture
def tiny_networks(monkeypatch):
    monkeypatch.setattr("regressor.training.make_hmr", lambda name: tiny())


def weights_of(out):
    return torch.load(out / "last.pt", weights_only=True)["model"]


def test_a_killed_run_goes_on_as_if_nothing_had_been(dataset, tmp_path, tiny_networks, monkeypatch):
    Trainer(config_of(dataset, tmp_path / "whole", steps=4)).run()
    update = Trainer.update

    def dies(self, batches):
        if self.step == 3:
            raise KeyboardInterrupt
        return update(self, batches)

    monkeypatch.setattr(Trainer, "update", dies)
    with pytest.raises(KeyboardInterrupt):
        Trainer(config_of(dataset, tmp_path / "killed", steps=4)).run()
    monkeypatch.setattr(Trainer, "update", update)
    resumed = Trainer(config_of(dataset, tmp_path / "killed", steps=4))
    assert resumed.step == 2
    resumed.run()
    whole, killed = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "scalars.jsonl").read_text().splitlines()]
    assert {"keypoints", "mc", "c"} <= rows[1].keys() and "mc" not in rows[0]
    assert (tmp_path / "whole" / "best.pt").is_file()


def test_a_run_killed_by_the_system_makes_the_same_weights(dataset, tmp_path):
    """kill -9 between two checkpoints, then the same command again; against a run that nothing happened to."""
    source_text = f"{{name: toy, file: {dataset}/data.npz, images: {dataset}, labels: {dataset}/labels}}"
    preset = tmp_path / "tiny.yaml"
    preset.write_text(
        "network: small\nbatch: 2\nrate: 1.0e-3\nsteps: 9\ndsr_from: 2\nvalidate_every: 3\nworkers: 0\n"
        f"data: [{source_text}]\n"
    )

    def command(out):
        return [sys.executable, "-m", "regressor.cli", "--config", str(preset), "--out", str(tmp_path / out)]

    subprocess.run(command("whole"), check=True, capture_output=True)
    killed = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    progress = tmp_path / "killed" / "scalars.jsonl"
    while not progress.is_file() or len(progress.read_text().splitlines()) < 6:
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    saved = torch.load(tmp_path / "killed" / "last.pt", weights_only=True)
    assert saved["step"] in (3, 6)
    subprocess.run(command("killed"), check=True, capture_output=True)
    whole, resumed = (
        torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("whole", "killed")
    )
    assert resumed["step"] == whole["step"] == 9
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name


def test_the_rate_falls_to_nothing_where_asked():
    config = TrainConfig(rate=2.0, steps=4, schedule="cosine")
    assert [rate_at(config, step) for step in (0, 2, 4)] == pytest.approx([2, 1, 0], abs=1e-12)
    assert rate_at(replace(config, schedule="constant"), 3) == 2.0


def test_accumulated_gradients_are_those_of_the_larger_batch(dataset, tmp_path, tiny_networks):
    trainer = Trainer(config_of(dataset, tmp_path, steps=1, accumulate=2, batch=1))
    people = load_people(source(dataset))
    batches = [
        {key: value[row : row + 1] for key, value in batch_of(people, Semantics()).items()} | {"name": ["a"]}
        for row in range(2)
    ]
    trainer.net.eval()
    trainer.net.train = lambda mode=True: trainer.net  # dropout and batch statistics would differ
    trainer.optimiser.step = lambda: None
    trainer.update(batches)
    accumulated = [p.grad.clone() for p in trainer.net.parameters()]
    both = {key: torch.cat([b[key] for b in batches]) for key in batches[0] if key != "name"} | {
        "name": ["a", "b"]
    }
    trainer.config = replace(trainer.config, accumulate=1)
    trainer.step = 0
    trainer.update([both])
    for one, other in zip(accumulated, trainer.net.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad, rtol=2e-3, atol=1e-5)


def test_one_person_behind_the_camera_does_not_spoil_the_step(dataset, tmp_path, tiny_networks):
    """exp(-10 s)^2 of a camera scale s < 0 has a gradient beyond measure, which Adam would remember for long."""
    norms = []
    for clip in (0.0, 5.0):
        trainer = Trainer(config_of(dataset, tmp_path, steps=1, clip=clip))
        with torch.no_grad():
            trainer.net.head.init_cam[:, 0] = -0.5
        trainer.optimiser.step = lambda: None
        trainer.update([batch_of(load_people(source(dataset)), Semantics()) | {"name": ["a", "b", "c"]}])
        grads = [p.grad.norm() for p in trainer.net.parameters() if p.grad is not None]
        norms.append(float(torch.stack(grads).norm()))
    assert norms[0] > 1e5 and norms[1] == pytest.approx(5, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_and_names_the_sample(
    dataset, tmp_path, tiny_networks, monkeypatch, capsys
):
    trainer = Trainer(config_of(dataset, tmp_path, steps=1))
    batch = batch_of(load_people(source(dataset)), Semantics()) | {"name": ["first", "second", "third"]}
    batch["betas"][1] = float("nan")
    with pytest.raises(FloatingPointError, match="step 0: term shape of second is nan"):
        trainer.update([batch])
    assert train_main(["--out", str(tmp_path)]) == 2
    assert "expected datasets, got none" in capsys.readouterr().err


@pytest.mark.parametrize("counted", [14, 17])
def test_errors_agree_with_an_independent_computation(counted):
    """SPIN's protocol: pelvis 14 is the root; joints 0 to 12 and Human3.6M's head; 17: pelvis, spine and jaw too."""
    rng = np.random.default_rng(1)
    predicted, true = rng.normal(size=(2, 5, 24, 3))
    surface, true_surface = rng.normal(size=(2, 5, 50, 3))
    found = errors(predicted, surface, true, [*true_surface[:4], None], COUNTED[counted])
    used = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 18, 14, 16, 17][:counted]
    for row in range(5):
        p, t = predicted[row, used] - predicted[row, 14], true[row, used] - true[row, 14]
        assert found.mpjpe[row] == pytest.approx(1000 * np.sqrt(((p - t) ** 2).sum(1)).mean())
        p0, t0 = p - p.mean(0), t - t.mean(0)
        turn, strength = orthogonal_procrustes(p0, t0)
        if np.linalg.det(turn) > 0:
            aligned = p0 @ turn * strength / (p0**2).sum()
            assert found.pa_mpjpe[row] == pytest.approx(1000 * np.linalg.norm(aligned - t0, axis=1).mean())
    v = surface[0] - predicted[0, 14] - true_surface[0] + true[0, 14]
    assert found.pve[0] == pytest.approx(1000 * np.linalg.norm(v, axis=1).mean())
    assert np.isnan(found.pve[4]) and found.figures()["pve_mm"] == pytest.approx(found.pve[:4].mean())
    assert found.by_joint()["head"] == pytest.approx(found.joints[:, 13].mean())


def test_datasets_of_joints_or_of_bodies_alone_are_evaluated(dataset, body):
    """Human3.6M gives S without LSP's head top, 3DPW only gendered bodies: the same people either way."""
    people = load_people(source(dataset))
    criterion = Criterion(body, Semantics(mc="none", c="none"))
    net = tiny()
    given = (torch.tensor(array).float() for array in (people.betas, people.pose))
    surfaces = body(*given).vertices
    seen = people.joints_m.copy()
    seen[..., :3] = criterion.joints.evaluated(
        None, surfaces
    ).numpy()  # by Human3.6M's definition, not SPIN's
    seen[..., :3] -= seen[:, [14], :3]  # as such files have it: about the pelvis
    seen[:, 13, 3] = 0
    with np.load(dataset / "data.npz") as file:
        rows = {key: file[key] for key in ("imgname", "center", "scale", "pose", "shape")}
    np.savez(dataset / "3dpw.npz", **rows, gender=np.array(["f", "m", "f"]))
    bodies = load_people(Source("3dpw", str(dataset / "3dpw.npz"), str(dataset)))
    assert (bodies.joints_m[..., 3] == 0).all()
    by_joints = evaluate(net, replace(people, joints_m=seen), criterion, counted=17)
    by_body = evaluate(net, bodies, criterion, bodies_by_gender={"m": body, "f": body}, counted=17)
    np.testing.assert_allclose(by_joints.joints, by_body.joints, atol=0.01)
    np.testing.assert_allclose(by_joints.pve, by_body.pve, atol=0.01)


def test_true_bodies_evaluate_to_nothing_and_people_without_truth_are_refused(dataset, body):
    people = load_people(source(dataset))

    class Oracle(torch.nn.Module):
        def forward(self, images, limbs=None):
            rotations = torch.stack(
                [torch.tensor(load_sample(people, r, Change())["rotations"]) for r in range(3)]
            )
            return Prediction(
                rotations, torch.tensor(people.betas).float(), torch.tensor([[0.9, 0.0, 0.0]] * 3)
            )

    criterion = Criterion(body, Semantics(mc="none", c="none"))
    figures = evaluate(
        Oracle(), replace(people, joints_m=np.zeros_like(people.joints_m)), criterion
    ).figures()
    assert figures["mpjpe_mm"] < 0.01 and figures["pve_mm"] < 0.01
    by_spins_map = evaluate(Oracle(), people, criterion).figures()  # limbs of `S` are the body's own joints
    assert 0.1 < by_spins_map["mpjpe_mm"] < 2
    bare = replace(people, joints_m=np.zeros_like(people.joints_m), has_smpl=np.zeros(3, bool))
    with pytest.raises(ValueError, match="expected 3D joints .* has neither"):
        evaluate(Oracle(), bare, criterion)


def test_the_true_body_of_a_sample_lies_on_its_keypoints(dataset, body):
    """Figure 4's bound: what agreement the truth has, in the best camera that a network could answer."""
    people, criterion = load_people(source(dataset)), Criterion(body, Semantics())
    for row, change in enumerate(CHANGES[:3]):
        sample = load_sample(people, row, change)
        found = criterion.bodies(true_body(sample, criterion)).keypoints_px[0].numpy()
        assert np.abs(found - sample["keypoints_px"][:, :2]).max() < 1.5


def objective_of(body):
    return Objective(body, load_pose_prior("gmm", None, body.template.dtype), Weights(), 100.0)


def test_eft_meets_the_keypoints_and_puts_the_network_back(dataset, body):
    people = load_people(source(dataset))
    image = np.array(Image.open(people.images[0]))
    keypoints = people.keypoints_px[0]
    person = Person("0", keypoints, "openpose", keypoint_box(keypoints))
    net = tiny().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    criterion = make_criterion(body, Semantics(mc="none", c="none"))
    _, first, last = fine_tuned(net, image, person, None, criterion, Eft(steps=30, rate=1e-4))
    assert last < 0.5 * first
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    camera = default_camera(SIZE, SIZE)
    again = [predict(net, image, [person], camera, objective_of(body))[0].pose for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_dsr_terms_weigh_in_eft_what_they_weigh_in_a_fit(dataset, body):
    """Beside the keypoints: mc and c times FitConfig.weights, over what a pixel's error weighs more in the fit."""
    people = load_people(source(dataset))
    image = np.array(Image.open(people.images[0]))
    keypoints = people.keypoints_px[0]
    person = Person("0", keypoints, "openpose", keypoint_box(keypoints))
    ids = read_labels(people.labels[0])
    begun = predict(tiny().eval(), image, [person], default_camera(SIZE, SIZE), objective_of(body))[0]
    x, y = begun.keypoints_px[BODY_25.index("LWrist")].astype(int)  # where they overlap somewhat
    cv2.circle(ids, (int(x), int(y)), 8, LABELS.index("left-arm"), -1)  # more than what is cleaned away
    labels = clean_labels(ids, keypoints)
    criterion, whole = make_criterion(body, Semantics()), Weights()
    first = [
        fine_tuned(tiny().eval(), image, person, labels, criterion, Eft(steps=0, semantics=strength), weights)[1]
        for strength, weights in (
            (0.0, whole), (1.0, whole), (2.0, whole), (1.0, Weights(mc=2 * whole.mc, c=0.0)),
            (1.0, Weights(mc=0.0, c=2 * whole.c)),
        )
    ]  # fmt: skip
    gain = np.subtract(first[1:], first[0])
    assert gain[1] == pytest.approx(2 * gain[0]) and gain[2] + gain[3] == pytest.approx(2 * gain[0], rel=1e-4)
    assert 0 < gain[2] < 2 * whole.mc / (50 * 112**2)  # soft-IoU is less than 1


def test_rendered_terms_weigh_in_training_what_they_weigh_in_a_fit(dataset):
    """Against the 2D keypoints, to a tenth; DSR's own training keeps its shipped weights and form."""
    here, fit = LossWeights(), Weights()
    unit = fit_scale(torch.zeros(1, 25, 2)) * fit.keypoints / here.keypoints
    for name in ("mc", "c", "silhouette"):
        assert getattr(here, name) * unit == pytest.approx(getattr(fit, name), rel=0.1)
    shipped = read_config(["--config", str(Path(__file__).parents[1] / "configs" / "dsr.yaml")], TrainConfig)
    assert (shipped.weights.mc, shipped.weights.c, shipped.semantics.c) == (0.1, 0.1, "published")


def test_the_check_sees_what_is_wrong(dataset, tmp_path, body, capsys):
    people = load_people(source(dataset))
    facts, troubles = inspect(people, body)
    assert facts["people"] == 3 and facts["people with labels"] == 3 and not troubles
    exchanged = people.joints_m[:, list(SPIN_24_MIRROR)]
    sides = people.keypoints_px[:, list(MIRROR_25)]
    degrees = replace(people, pose=np.degrees(people.pose), has_smpl=np.zeros(3, bool))
    for spoilt, words in (
        (replace(people, joints_m=exchanged), "S: .* left and right exchanged"),
        (replace(people, keypoints_px=sides), "2D keypoints: .* left and right exchanged"),
        (replace(people, joints_m=people.joints_m * [1, -1, -1, 1]), "turned by 180 degrees"),
        (replace(people, joints_m=people.joints_m * [1000, 1000, 1000, 1]), "got millimetres"),
        (replace(people, side_px=people.side_px / 200), "outside their crops"),
        (degrees, "radians, not degrees"),
        (replace(people, images=(tmp_path / "none.png", *people.images[1:])), "1 photos are missing"),
    ):
        assert any(re.search(words, trouble) for trouble in inspect(spoilt, body)[1]), words
    arguments = [
        "--file",
        str(dataset / "data.npz"),
        "--images",
        str(dataset),
        "--labels",
        str(dataset / "labels"),
    ]
    assert check(arguments + ["--out", str(tmp_path / "check.png")]) == 0
    assert Image.open(tmp_path / "check.png").size == (8 * 224, 4 * 224)
    for path in (dataset / "labels").iterdir():
        ids = np.zeros((SIZE, SIZE), np.uint8)
        places = {name: people.keypoints_px[int(path.stem), BODY_25.index(name), :2] for name in BODY_25}
        for names, label in ((("Nose",), 11), (("LAnkle", "RAnkle"), 9), (("LKnee", "RKnee"), 6),
                             (("LShoulder", "RShoulder", "LHip", "RHip"), 4)):  # fmt: skip
            for name in names:
                x, y = places[name].astype(int)
                ids[y - 2 : y + 3, x - 2 : x + 3] = label
        (tmp_path / "atr").mkdir(exist_ok=True)
        write_labels(tmp_path / "atr" / path.name, ids)
    arguments[-1] = str(tmp_path / "atr")
    assert check(arguments) == 1
    assert "labels: 3 of 3 look like ATR's ids: label_classes atr" in capsys.readouterr().out
    assert check([*arguments, "--label-classes", "lipp"]) == 2
    assert check(["--file", "nowhere.npz", "--images", "."]) == 2 and "found none" in capsys.readouterr().err


def test_labels_are_found_by_the_longest_end_of_the_images_paths(dataset, tmp_path):
    """B6: by stem, `seqA/0.png` and `seqB/0.png` took each other's."""
    with np.load(dataset / "data.npz") as file:
        np.savez(tmp_path / "data.npz", **{**file, "imgname": np.array(["A/0.png", "A/0.png", "B/0.png"])})
    folder = tmp_path / "labels"
    (folder / "A").mkdir(parents=True)
    write_labels(folder / "A" / "0.png", np.zeros((4, 4), np.uint8))
    own = Source("toy", str(tmp_path / "data.npz"), str(tmp_path), str(folder), label_classes="cihp")
    people = load_people(own)
    assert people.labels == (folder / "A" / "0.png", folder / "A" / "0.png", None)
    assert people.label_classes == ("cihp",) * 3
    (folder / "A" / "0.png").rename(folder / "0.png")
    with pytest.raises(
        ValueError, match=r"0\.png: expected the file of one photo, it may be A/0.png's or B/0.png's"
    ):
        load_people(own)
    (folder / "0.png").rename(folder / "other.png")
    with pytest.raises(ValueError, match="toy: labels .*expected files named as the photos, as 0.png"):
        load_people(own)
    with pytest.raises(ValueError, match="expected lip, cihp"):
        load_people(replace(own, label_classes="lipp"))
