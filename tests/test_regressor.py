"""Training: data that stays together under augmentation, losses that are the fitter's, runs that survive a kill."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import orthogonal_procrustes
from toy_people import CHANGES, PAINTED, PX_PER_M, SIZE, batch_of, source, tiny, write_people

from benchmarks.overfit64 import true_body
from fitter.body.model import load_body
from fitter.body.spin_joints import spin_joints_of
from fitter.cli import read_config
from fitter.config import Eft, Semantics, Weights
from fitter.energy import losses as shared
from fitter.energy.objective import Objective
from fitter.energy.semantics import CENTRE_DEPTH, MOST_DEPTH
from fitter.label.label_files import UNKNOWN, read_labels, write_labels
from fitter.label.parse import MIRROR_LIMBS
from fitter.label.person_labels import clean_labels
from fitter.people import Sighting
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
from regressor.config import Augmentation, LossWeights, Source, TrainConfig
from regressor.data import (
    NOT_DETECTED,
    SPIN_24_MIRROR,
    Change,
    cropped_labels,
    draw_change,
    load_people,
    load_sample,
    own_labels,
    poorer_keypoints,
)
from regressor.eft import fine_tuned, make_criterion
from regressor.evaluation import COUNTED, errors, evaluate
from regressor.hmr import Prediction, limb_input, make_hmr
from regressor.losses import Criterion, crop_camera, fit_scale, targets_of, total
from regressor.predict import predict


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, body):
    return write_people(tmp_path_factory.mktemp("data"), body)


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
    with pytest.raises(ValueError, match="expected the people's hints"):
        make_hmr("lite")(torch.zeros(1, 3, 224, 224))


def test_poorer_keypoints_keep_to_their_limits():
    points, rng = np.ones((25, 3)) * 100, np.random.default_rng(0)
    settings = Augmentation(keypoints=0.02, lost=0.2)
    many = np.stack([poorer_keypoints(points, settings, rng) for _ in range(400)])
    lost, unknown = (many[..., 2] == 0).mean(0), list(NOT_DETECTED)
    assert lost[unknown].mean() == pytest.approx(0.6, abs=0.05)
    assert np.delete(lost, unknown).mean() == pytest.approx(0.2, abs=0.02)
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
    by_body = evaluate(net, bodies, criterion, models={"m": body, "f": body}, counted=17)
    np.testing.assert_allclose(by_joints.joints, by_body.joints, atol=0.01)
    np.testing.assert_allclose(by_joints.pve, by_body.pve, atol=0.01)


def test_true_bodies_evaluate_to_nothing_and_people_without_truth_are_refused(dataset, body):
    people = load_people(source(dataset))

    class Oracle(torch.nn.Module):
        def forward(self, images, hints=None):
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
    seen = Sighting("", person, default_camera(SIZE, SIZE), image_rgb=image)
    _, first, last = fine_tuned(net, seen, criterion, Eft(steps=30, rate=1e-4))
    assert last < 0.5 * first
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    camera = default_camera(SIZE, SIZE)
    again = [predict(net, image, [person], camera, objective_of(body))[0].pose for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_eft_puts_the_network_back_when_it_fails(dataset, body, monkeypatch):
    """The rasteriser raises before the loss is looked at; the next person must begin at the same network."""
    people = load_people(source(dataset))
    keypoints = people.keypoints_px[0]
    person = Person("0", keypoints, "openpose", keypoint_box(keypoints))
    net, calls = tiny().eval(), []
    before = {name: value.clone() for name, value in net.state_dict().items()}
    criterion = make_criterion(body, Semantics(mc="none", c="none"))

    def failing(prediction, *more):
        calls.append(any(not torch.equal(v, before[n]) for n, v in net.state_dict().items()))
        if len(calls) == 3:
            raise ValueError("rasterize: expected finite positions")
        return Criterion.bodies(criterion, prediction, *more)

    monkeypatch.setattr(criterion, "bodies", failing)
    with pytest.raises(ValueError, match="finite positions"):
        image = np.array(Image.open(people.images[0]))
        seen = Sighting("", person, default_camera(SIZE, SIZE), image_rgb=image)
        fine_tuned(net, seen, criterion, Eft(steps=9, rate=1e-3))
    assert calls == [False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


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
    seen = Sighting("", person, default_camera(SIZE, SIZE), labels, image_rgb=image)
    first = [
        fine_tuned(tiny().eval(), seen, criterion, Eft(steps=0, semantics=strength), weights)[1]
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


def test_labels_of_single_people_are_found_where_the_file_names_them(dataset, tmp_path):
    """As `fit.py --export` writes them; a folder of whole images' maps serves such a file as any other."""
    with np.load(dataset / "data.npz") as file:
        rows = dict(file)
    named = np.array(["a/0_0.png", "", "a/0_1.png"])
    np.savez(tmp_path / "data.npz", **rows, labelname=named)
    (tmp_path / "labels" / "a").mkdir(parents=True)
    write_labels(tmp_path / "labels" / "a" / "0_0.png", np.zeros((4, 4), np.uint8))
    own = Source("toy", str(tmp_path / "data.npz"), str(dataset), str(tmp_path / "labels"))
    with pytest.raises(
        ValueError, match=r"toy: labels .*a/0_1\.png: expected this map, which .*data.npz names"
    ):
        load_people(own)
    write_labels(tmp_path / "labels" / "a" / "0_1.png", np.zeros((4, 4), np.uint8))
    a = tmp_path / "labels" / "a"
    assert load_people(own).labels == (a / "0_0.png", None, a / "0_1.png")
    whole = load_people(replace(own, labels=str(dataset / "labels")))
    assert whole.labels == tuple(dataset / "labels" / f"{n}.png" for n in range(3))


def test_a_neighbours_pixels_are_unknown_without_a_mask_too(dataset, tmp_path):
    """Rows that share a map share its pixels by their keypoints, as people in a photo that is fitted."""
    with np.load(dataset / "data.npz") as file:
        rows = {key: file[key][[0, 0, 0]] for key in file.files}
    rows["openpose"] = rows["openpose"].copy()
    rows["openpose"][1, :, 0] += 2 * SIZE
    rows["openpose"][2, :, 2] = 0  # somebody without keypoints is nobody's neighbour
    np.savez(tmp_path / "data.npz", **rows)
    ids = np.full((SIZE, 3 * SIZE), LABELS.index("upper-clothes"), np.uint8)
    (tmp_path / "labels").mkdir()
    write_labels(tmp_path / "labels" / "0.png", ids)
    people = load_people(Source("toy", str(tmp_path / "data.npz"), str(dataset), str(tmp_path / "labels")))
    for row, shift in ((0, 0), (1, 2 * SIZE)):
        mine = own_labels(people, row, ids.shape)
        x, y = people.keypoints_px[0, BODY_25.index("MidHip"), :2].astype(int)
        assert mine[y, x + shift] == ids[0, 0] and mine[y, x + 2 * SIZE - shift] == UNKNOWN
    assert (own_labels(people, 2, ids.shape) == ids).all()
