"""fitter/several.py and fitter/instants.py: one body in several cameras, who is whom, `--views` on the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_rig import K, looking_at_origin
from test_stages import CONFIG, NormalPrior

from fitter.cli import main
from fitter.energy.objective import Objective
from fitter.people import Sighting, fit_keypoints
from fitter.see.camera import Camera
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import Person
from fitter.see.person_box import keypoint_box
from fitter.see.rig import RigCamera
from fitter.several import Look, one_body, same_people, triangulate
from fitter.write.arrays import load_fits

CAMERA = Camera(900.0, 900.0, 320.0, 240.0, 640, 480, "user", 0.0, 0.0)


def cameras(azimuths=(0, 70, 160, 250)):
    return [RigCamera(f"cam{n}", {}, *looking_at_origin(a), (0.0, 0.0)) for n, a in enumerate(azimuths)]


def standing(body, seed=0, at=(0.0, 0.0, 0.2)):
    """A body with bent limbs about the world's origin, z up: keypoints and joints, m."""
    rng = np.random.default_rng(seed)
    pose = torch.zeros(1, 72, dtype=torch.float64)
    pose[0, 3:] = torch.tensor(rng.normal(0, 0.25, 69))
    points = body.points(body(torch.zeros(1, 10, dtype=torch.float64), pose, with_vertices=False))[0].numpy()
    upright = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # x, y up, z of the body -> y, z, x of the world
    world = points @ upright.T + at
    return body_targets("openpose", *body.joint_layout)[0] @ world, world[:24]


def seen_from(camera, points_m, person="0"):
    away = points_m @ camera.rotation.T + camera.translation_m
    px = away[:, :2] / away[:, 2:] * CAMERA.focal_px + CAMERA.center_px
    keypoints = np.column_stack([px, np.ones(25)])
    return Person(person, keypoints, "openpose", keypoint_box(keypoints))


def looks(body, rig, *people):
    objective = Objective(body, NormalPrior(), CONFIG.weights, CONFIG.optimisation.sigma)
    found = []
    for camera in rig:
        seen = [
            Sighting(f"{camera.name}.png", seen_from(camera, points, str(n)), CAMERA)
            for n, points in enumerate(people)
        ]
        fits = fit_keypoints(objective, seen, CONFIG)
        found += [Look(one, camera, fit) for one, fit in zip(seen, fits, strict=True)]
    return objective, found


def test_points_are_where_they_were(toy_body):
    points, _ = standing(toy_body)
    rig = cameras()
    _, found = looks(toy_body, rig[:1], points)
    projections = np.stack([replace(found[0], camera=camera).projection() for camera in rig])
    seen = np.stack([seen_from(camera, points).keypoints_px for camera in rig])
    seen[1:, 4, 2] = 0  # seen by one camera: nowhere
    places, away = triangulate(seen, projections)
    known = np.arange(25) != 4
    np.testing.assert_allclose(places[known], points[known], atol=1e-6)
    assert away[:, known].max() < 1e-4 and np.isnan(places[4]).all()


def test_one_body_in_all_cameras_is_the_one_that_stood_there(toy_body):
    points, joints = standing(toy_body)
    objective, found = looks(toy_body, cameras(), points)
    alone = [np.linalg.norm(one.alone.joints_cam - (joints @ one.camera.rotation.T + one.camera.translation_m),
                            axis=1).mean() for one in found]  # fmt: skip
    world = one_body(found, objective, CONFIG)
    off = np.linalg.norm(world.joints_m - joints, axis=1)
    # the prior pulls poses towards 0 against exact keypoints: a centimetre is left
    assert off.mean() < 0.015 < 0.05 < min(alone)
    for fit, camera in zip(world.fits, world.cameras, strict=True):
        np.testing.assert_allclose(
            fit.joints_cam, world.joints_m @ camera.rotation.T + camera.translation_m, atol=1e-6
        )
        assert fit.quality["reprojection_pct"] < 1 and (fit.betas == world.fits[0].betas).all()


def test_people_are_told_apart_by_where_they_stand(toy_body):
    one, other = standing(toy_body, 0)[0], standing(toy_body, 1, (0.9, 0.5, 0.2))[0]
    _, found = looks(toy_body, cameras(), one, other)
    assert sorted(same_people(found)) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    unseen = [look for look in found if look.sighting.person.id == "0" or look.camera.name == "cam0"]
    assert same_people(unseen) == [[0, 2, 3, 4], [1]]


@pytest.fixture
def folder(tmp_path):
    """Two cameras' folders with two instants, keypoints beside them, and the calibration."""
    from fitter.body.model import load_body

    body = load_body(dtype=torch.float64)
    calibration, places = {}, {}
    for camera in cameras((0, 80)):
        calibration[camera.name] = {
            "K": K, "R": camera.rotation.tolist(), "t": camera.translation_m.tolist(), "width": 640, "height": 480,
        }  # fmt: skip
        for instant, seed in (("0001", 0), ("0002", 1)):
            points, places[instant] = standing(body, seed)
            for kind in ("photos", "keypoints"):
                (tmp_path / kind / camera.name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (640, 480), (90, 10 * seed, len(places))).save(
                tmp_path / "photos" / camera.name / f"{instant}.png"
            )
            person = {"pose_keypoints_2d": seen_from(camera, points).keypoints_px.reshape(-1).tolist()}
            name = tmp_path / "keypoints" / camera.name / f"{instant}_keypoints.json"
            name.write_text(json.dumps({"people": [person]}))
    (tmp_path / "cameras.json").write_text(json.dumps(calibration))
    return tmp_path, places


def run(folder, *more):
    given = ["--images", folder / "photos", "--keypoints", folder / "keypoints", "--out", folder / "out"]
    views = ["--views", folder / "cameras.json", "--jobs", 1, "--parser", "none"]
    return main([str(word) for word in (*given, *views, *more)])


def test_views_from_the_command_line(folder, capsys):
    folder, places = folder
    assert run(folder) == 0
    fits = load_fits(folder / "out")
    assert fits.image.tolist() == ["cam0/0001.png", "cam0/0002.png", "cam1/0001.png", "cam1/0002.png"]
    for instant, joints in places.items():
        with np.load(folder / "out" / f"{instant}_0.world.npz") as world:
            assert world["camera"].tolist() == ["cam0", "cam1"] and world["up"].tolist() == [0, 0, 1]
            assert world["result"].tolist() == [f"cam0/{instant}_0.npz", f"cam1/{instant}_0.npz"]
            assert np.linalg.norm(world["joints"] - joints, axis=1).mean() < 0.06
            own = [fits.pose[fits.name == f"cam{n}/{instant}"][0] for n in (0, 1)]
            np.testing.assert_allclose(own[0][3:], world["pose"][3:], atol=1e-5)
            np.testing.assert_allclose(own[0][3:], own[1][3:], atol=1e-5)
    assert (fits.quality["cameras"] == 2).all()
    capsys.readouterr()
    assert run(folder) == 0 and "kept 4, fitted 0" in capsys.readouterr().out
    Image.new("RGB", (640, 480), "blue").save(folder / "photos" / "cam1" / "0002.png")
    assert run(folder) == 0  # then the instant's other photo is fitted again as well
    assert "fitted 2 (2 changed)" in capsys.readouterr().out


def test_cameras_that_do_not_agree_are_said(folder, capsys):
    """A camera in the wrong place leaves everybody alone, with a note. What is fitted again for another counts once."""
    folder, _ = folder
    data = json.loads((folder / "cameras.json").read_text())
    data["cam1"]["t"][1] += 2.0
    (folder / "cameras.json").write_text(json.dumps(data))
    for kind in ("photos", "keypoints"):
        next((folder / kind / "cam0").glob("0002*")).unlink()
    assert run(folder) == 0 and not list((folder / "out").rglob("*.world.npz"))
    said = capsys.readouterr()
    assert (
        said.out.count("nobody here is whom another camera sees") == 2
    )  # of 0001; of 0002 there is one photo
    assert "views: 1 of 2 moments have one camera's photo alone" in said.err
    (folder / "photos" / "cam1" / "0001.png").write_text("no photo")
    for _ in range(2):
        assert run(folder) == 3
        assert "kept 1, fitted 1 (" in capsys.readouterr().out


def test_keypoints_of_another_picture_are_doubted_in_views_too(monkeypatch, folder):
    from fitter import instants

    folder, _ = folder
    see = instants.see
    monkeypatch.setattr(
        instants, "see", lambda *one, **more: replace(see(*one, **more), doubt="another picture's")
    )
    assert run(folder) == 0
    assert not load_fits(folder / "out").valid.any()


def test_what_does_not_go_with_views_is_said(folder, capsys):
    folder, _ = folder
    assert run(folder, "--shard", "0/2") == 2
    assert "--shard has no effect with --views: photos of one instant must stay" in capsys.readouterr().err
    Image.new("RGB", (64, 48)).save(folder / "photos" / "stray.png")
    assert run(folder) == 2
    assert "expected stray.png in a folder called as a camera" in capsys.readouterr().err
