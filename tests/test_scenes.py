"""Synthetic photos: truth that agrees with itself, the same scene for the same number, noise at its stated size.

The people are bare open bodies, so that no test needs the package anny.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fitter.body.model import load_body
from fitter.label.label_files import UNKNOWN
from priors.clothing import LABELS, load_clothing_prior
from priors.skeleton import JOINT_NAMES
from synth.appearance import draw_occluder
from synth.clothes.people import ClothedPerson, joint_affines, out_of_skin
from synth.dataset import main as dataset_main
from synth.noise import LABEL_NOISE, noisy_keypoints, noisy_labels
from synth.pose_priors.library import load_poses
from synth.scenes import NEIGHBOUR, OCCLUDER, TARGET, Recipe, SceneMaker


class BareTailor:
    """Open bodies that wear the clothing prior's likeliest labels."""

    def __init__(self):
        self.body = load_body()
        prior = load_clothing_prior(None, self.body.template.numpy(), self.body.faces.numpy())
        self.labels = prior.prob[:, 1:].argmax(1) + 1

    def make(self, pose):
        with torch.no_grad():
            posed = self.body(torch.zeros(1, 10), torch.tensor(pose[None]).float())
        root = posed.joints[0, 0].numpy().astype(float)
        vertices, faces = posed.vertices[0].numpy() - root, self.body.faces.numpy()
        return ClothedPerson(
            gender="female",
            clothes=(),
            pose=pose,
            vertices_m=vertices,
            faces=faces,
            labels=self.labels[faces[:, 0]],
            layers=np.zeros(len(vertices), int),
            rest_m=self.body.template.numpy(),
            naked_m=vertices,
            joints_m=posed.joints[0].numpy() - root,
            naked_t_m=self.body.template.numpy(),
            joints_t_m=self.body.joint_template.numpy(),
            betas=np.zeros(10),
            residual_mm=0.0,
        )


class BareScenes(SceneMaker):
    def draw_person(self, world_to_camera, rng):
        pose = self.poses[rng.integers(len(self.poses))].copy()
        turn = Rotation.from_euler("y", rng.uniform(0, 360), degrees=True)
        pose[:3] = (world_to_camera * turn * Rotation.from_rotvec(pose[:3])).as_rotvec()
        return self.tailor.make(pose)


@pytest.fixture(scope="module")
def tailor():
    return BareTailor()


@pytest.fixture(scope="module")
def recipe():
    return Recipe(seed=5, image_px=(160, 128), occluder=0, neighbour=0)


def test_joint_affines_are_the_body_models(tailor):
    pose = load_poses("learning")[7]
    joints_t = tailor.body.joint_template.numpy().astype(float)
    affines = joint_affines(pose, joints_t)
    moved = np.einsum("jac,jc->ja", affines[:, :, :3], joints_t) + affines[:, :, 3]
    with torch.no_grad():
        expected = tailor.body(torch.zeros(1, 10), torch.tensor(pose[None]).float(), False).joints[0].numpy()
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_sunken_cloth_comes_out_and_the_rest_stays():
    skin = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], float)
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    points = np.concatenate([skin, [[0, 0, -0.01], [1, 0, 0.02], [0.0, 1, -0.5]]])
    layers = np.array([0, 0, 0, 0, 1, 1, 1])
    pushed = out_of_skin(points, layers, skin, faces)
    np.testing.assert_allclose(pushed[4], [0, 0, 0.003], atol=1e-12)
    np.testing.assert_array_equal(pushed[[0, 1, 2, 3, 5, 6]], points[[0, 1, 2, 3, 5, 6]])


def test_a_scenes_truths_agree(tailor, recipe):
    maker = BareScenes(recipe, tailor)
    for number in range(3):
        scene = maker(number)
        person, place, camera = scene.people[0], scene.place_m[0], scene.camera
        assert scene.image.shape == (160, 128, 3) and scene.image.std() > 5
        assert ((scene.labels > 0) == (scene.owner == TARGET)).all()
        assert (
            np.isfinite(scene.depth_m[scene.owner > 0]).all()
            and np.isinf(scene.depth_m[scene.owner == 0]).all()
        )
        points = person.naked_m + place
        low, high = points[:, 2].min() - 1e-3, points[:, 2].max() + 1e-3
        assert ((scene.depth_m[scene.owner > 0] > low) & (scene.depth_m[scene.owner > 0] < high)).all()
        px = points[:, :2] / points[:, 2:] * camera.fx_px + [camera.cx_px, camera.cy_px]
        rows, columns = np.nonzero(scene.owner == TARGET)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        np.testing.assert_allclose(seen, [*px.min(0), *px.max(0)], atol=1.5)
        assert (px.min(0) >= 0).all() and (px.max(0) <= [128, 160]).all()
        keypoints = scene.keypoints_px[0]
        shown = keypoints[keypoints[:, 2] > 0]
        assert len(shown) >= 5 and (keypoints[:, 2] == 0).any()
        on_body = scene.owner[shown[:, 1].astype(int), shown[:, 0].astype(int)] == TARGET
        assert on_body.mean() > 0.8  # toes and finger ends lie on the outline


def test_faces_show_only_from_the_front(tailor, recipe):
    class Turned(BareScenes):
        def draw_person(self, world_to_camera, rng):
            pose = np.zeros(72)
            pose[:3] = (world_to_camera * Rotation.from_euler("y", self.turn, degrees=True)).as_rotvec()
            return self.tailor.make(pose)

    maker = Turned(replace(recipe, pitch_deg=0.0), tailor)
    maker.turn = 0
    front = maker(0)
    maker.turn = 180
    back = maker(0)
    face = LABELS.index("face")
    assert (front.labels == face).sum() > 3 * (back.labels == face).sum()
    assert front.keypoints_px[0, 0, 2] == 1 and back.keypoints_px[0, 0, 2] == 0  # the nose
    left, right = (
        (front.labels == LABELS.index(f"{side}-shoe")).nonzero()[1].mean() for side in ("left", "right")
    )
    assert left > right  # the person's left is the picture's right
    head = JOINT_NAMES.index("head")
    assert front.people[0].joints_m[head, 1] < 0  # the camera's y points down


def test_scenes_depend_on_recipe_and_number_alone(tailor, recipe):
    maker = BareScenes(recipe, tailor)
    first = maker(1)
    maker(2)
    again = BareScenes(recipe, tailor)(1)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.keypoints_px, again.keypoints_px)
    other = BareScenes(replace(recipe, seed=6), tailor)(1)
    assert (first.image != other.image).any()


def test_occluders_and_neighbours_leave_the_target_as_it_was(tailor, recipe):
    plain = BareScenes(recipe, tailor)(3)
    hidden = BareScenes(replace(recipe, occluder=1.0), tailor)(3)
    crowded = BareScenes(replace(recipe, neighbour=1.0), tailor)(3)
    np.testing.assert_array_equal(plain.keypoints_px[0, :, :2], hidden.keypoints_px[0, :, :2])
    np.testing.assert_array_equal(plain.keypoints_px[0, :, :2], crowded.keypoints_px[0, :, :2])
    covered = (plain.owner == TARGET) & (hidden.owner == OCCLUDER)
    assert 0.15 <= covered.sum() / (plain.owner == TARGET).sum() <= 0.55
    assert (hidden.labels[hidden.owner == OCCLUDER] == 0).all()
    assert hidden.keypoints_px[0, :, 2].sum() < plain.keypoints_px[0, :, 2].sum()
    assert len(crowded.people) == 2 and (crowded.owner == NEIGHBOUR).any()
    assert (crowded.label_map(1)[crowded.owner == TARGET] == 0).all()


def test_an_occluder_covers_the_share_asked_for():
    mask = np.zeros((120, 100), bool)
    mask[20:100, 30:70] = True
    for seed in range(10):
        shape = draw_occluder(mask, np.random.default_rng(seed), (0.2, 0.3))
        assert 0.2 <= shape[mask].mean() < 0.45
    assert not draw_occluder(np.zeros((5, 5), bool), np.random.default_rng(0)).any()


def test_keypoint_noise_has_its_stated_size():
    truth = np.column_stack([np.random.default_rng(0).uniform(0, 100, (25, 2)), np.ones(25)])
    truth[[0, 1], :2] = [[0, 0], [100, 100]]
    drawn = np.stack([noisy_keypoints(truth, np.random.default_rng(i)) for i in range(400)])
    knee, wrist = 10, 4
    error = (drawn[:, knee, :2] - truth[knee, :2])[drawn[:, knee, 2] > 0]
    robust = 1.4826 * np.median(np.abs(error))
    assert 0.9 < robust / 1.24 / 0.9 < 1.15  # box of 124 px: 0.85 % and the shared 0.3 %
    assert 0.05 < (drawn[:, wrist, 2] == 0).mean() < 0.2
    hidden = truth.copy()
    hidden[:, 2] = 0
    worse = np.stack([noisy_keypoints(hidden, np.random.default_rng(i)) for i in range(400)])
    assert np.nanmedian(worse[:, knee, 2]) < np.median(drawn[:, knee, 2])
    np.testing.assert_array_equal(noisy_keypoints(truth, np.random.default_rng(1)), drawn[1])


def test_label_noise_grows_with_its_level(tailor, recipe):
    ids = BareScenes(recipe, tailor)(0).labels
    kept = ids.copy()
    agreement = []
    for level in range(len(LABEL_NOISE)):
        drawn = [noisy_labels(ids, np.random.default_rng(i), level) for i in range(20)]
        agreement.append(np.mean([(one == ids)[ids > 0].mean() for one in drawn]))
        assert all(set(np.unique(one)) <= {*range(20), UNKNOWN} for one in drawn)
    assert agreement[0] == 1 and 0.85 < agreement[1] < 0.97 and agreement[2] < agreement[1] - 0.05
    np.testing.assert_array_equal(ids, kept)


def test_people_are_made_once_go_on_after_a_stop_and_a_folder_is_of_one_recipe(
    tailor, recipe, tmp_path, monkeypatch, capsys
):
    maker, drawn = BareScenes(recipe, tailor), []

    def counted(number):
        drawn.append(number)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return maker(number)

    counted.tailor, counted.landmarks = tailor, maker.landmarks
    monkeypatch.setattr("synth.dataset.scene_maker", lambda recipe: counted)
    monkeypatch.setattr("synth.dataset.NEEDS", "numpy")
    monkeypatch.setattr("synth.dataset.load_anny", lambda: None)
    words = ["--jobs", "1", "--recipe.seed", "5", "--recipe.image_px", "[160, 128]"]

    def run(out, count, *more):
        return dataset_main(["--out", str(tmp_path / out), "--count", str(count), *words, *more])

    assert run("a", 4) == 130 and drawn == [0, 1, 2] and not (tmp_path / "a/dataset.npz").exists()
    assert "synth.dataset: stopped; the same command goes on where it was" in capsys.readouterr().err
    assert run("a", 4) == 0 and drawn == [0, 1, 2, 2, 3]
    assert "4 people, 2 of them new" in capsys.readouterr().out
    assert run("a", 4) == 0 and run("a", 3) == 0 and len(drawn) == 5  # what is there is used
    assert run("a", 5) == 0 and drawn[5:] == [4]
    assert run("whole", 5) == 0
    with np.load(tmp_path / "a/dataset.npz") as one, np.load(tmp_path / "whole/dataset.npz") as other:
        assert one["imgname"].tolist() == [f"images/{n:06d}.jpg" for n in range(5)]
        assert all(
            (one[key] == other[key]).all() and one[key].dtype == other[key].dtype for key in other.files
        )
    capsys.readouterr()
    assert run("a", 5, "--recipe.fill", "[0.5, 0.6]") == 2
    assert (
        "a: expected people of the recipe" in (said := capsys.readouterr().err)
        and "give another --out" in said
    )
    (tmp_path / "a/recipe.json").unlink()
    assert run("a", 5) == 2 and "people of an unknown recipe" in capsys.readouterr().err
    monkeypatch.setattr("synth.dataset.NEEDS", "absent_anny")
    assert run("b", 1) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "b").exists()
