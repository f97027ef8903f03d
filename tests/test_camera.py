"""Cameras from the user, from EXIF and by default."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fitter.config import Optimisation
from fitter.see.camera import (
    MEASURED_SPREAD_DEG,
    Camera,
    default_camera,
    exif_camera,
    project_points,
)
from fitter.see.camera_files import camera_of_photo, read_camera

WIDTH, HEIGHT = 600, 400
DIAGONAL_PX = math.hypot(WIDTH, HEIGHT)


def save_photo(path, orientation=None, size=(WIDTH, HEIGHT), **tags):
    """A JPEG with the named EXIF tags."""
    ids = {
        "focal": 0x920A,
        "film": 0xA405,
        "plane_x": 0xA20E,
        "unit": 0xA210,
        "width": 0xA002,
        "height": 0xA003,
    }
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    exif.get_ifd(0x8769).update({ids[name]: value for name, value in tags.items()})
    Image.new("RGB", size).save(path, exif=exif)
    return path


def test_default_focal_is_the_diagonal(tmp_path):
    camera = camera_of_photo(save_photo(tmp_path / "a.jpg"), None, WIDTH, HEIGHT)
    assert camera == Camera(DIAGONAL_PX, DIAGONAL_PX, 300, 200, WIDTH, HEIGHT, "default")


def test_exif_35mm_equivalent_goes_by_diagonal(tmp_path):
    camera = camera_of_photo(save_photo(tmp_path / "a.jpg", film=50, focal=4.2), None, WIDTH, HEIGHT)
    assert camera.fx_px == camera.fy_px == pytest.approx(50 / math.hypot(36, 24) * DIAGONAL_PX)
    assert (camera.source, camera.center_px) == ("exif", (300, 200))


@pytest.mark.parametrize(("fx_px", "fy_px"), [(12000.0, 1200.0), (500.0, 1200.0)])
def test_fx_and_fy_of_very_different_size_are_refused(fx_px, fy_px):
    with pytest.raises(ValueError, match="expected fx and fy of about the same size .*a digit too many"):
        Camera(fx_px, fy_px, 300, 200, 600, 400, "user")
    assert Camera(1500.0, 1000.0, 300, 200, 600, 400, "user").focal_px == (1500.0, 1000.0)


@pytest.mark.parametrize(("unit", "per_unit"), [(2, 4000.0), (3, 4000 / 2.54)])
@pytest.mark.parametrize("orientation", [None, 6])
def test_exif_focal_plane_resolution(tmp_path, unit, per_unit, orientation):
    tags = {"focal": 25.4, "plane_x": per_unit, "unit": unit, "width": 6000, "height": 4000}
    photo = save_photo(tmp_path / "a.jpg", orientation, **tags)
    upright = (HEIGHT, WIDTH) if orientation else (WIDTH, HEIGHT)
    camera = exif_camera(photo, *upright)
    assert camera.fx_px == pytest.approx(
        4000 * WIDTH / 6000
    )  # 25.4 mm = 4000 px of 6000, photo shrunk to 600
    assert (camera.width, camera.height) == upright


@pytest.mark.parametrize(
    "tags",
    [
        {"film": 0},
        {"focal": 35.0},
        {"focal": 35.0, "plane_x": 4000.0},
        {"film": 50, "width": 6000, "height": 3000},
        {"film": 1},
    ],
    ids=["unknown", "no sensor", "no size", "cropped", "absurd"],
)
def test_exif_that_says_too_little_is_passed_over(tmp_path, tags):
    photo = save_photo(tmp_path / "a.jpg", **tags)
    assert exif_camera(photo, WIDTH, HEIGHT) is None
    assert camera_of_photo(photo, None, WIDTH, HEIGHT).source == "default"


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        ({"focal": "50 mm"}, "EXIF: FocalLength is 50 mm, left out"),
        ({"film": -50, "focal": 35.0}, "EXIF: FocalLengthIn35mmFilm is -50, left out"),
        ({"film": 1}, "EXIF: a focal length of 16.67 px cannot be, left out"),
        ({"film": 0}, None),
    ],
)
def test_an_odd_tag_of_exif_is_left_out_and_said(tmp_path, tags, note):
    camera = camera_of_photo(save_photo(tmp_path / "a.jpg", **tags), None, WIDTH, HEIGHT)
    assert camera.source == "default" and camera.notes == ((note,) if note else ())


K = [[800, 0, 310], [0, 810, 190], [0, 0, 1]]
CONTENTS = {
    "k.json": json.dumps(K),
    "named.json": json.dumps({"K": K}),
    "pair.json": json.dumps({"focal_px": [800, 810], "center_px": [310, 190]}),
    "pair.yaml": "focal_px: [800, 810]\ncenter_px: [310, 190]\n",
}


@pytest.mark.parametrize("name", [*CONTENTS, "k.npz", "pair.npz"])
def test_user_camera_in_every_spelling(tmp_path, name):
    if name == "k.npz":
        np.savez(tmp_path / name, K=np.array(K))
    elif name == "pair.npz":
        np.savez(tmp_path / name, focal_px=[800, 810], center_px=[310, 190])
    else:
        (tmp_path / name).write_text(CONTENTS[name])
    camera = read_camera(tmp_path / name, "x/a.jpg", WIDTH, HEIGHT)
    assert camera == Camera(800, 810, 310, 190, WIDTH, HEIGHT, "user")


def test_user_camera_scalar_focal_in_a_folder_of_files(tmp_path):
    (tmp_path / "a.yml").write_text("focal_px: 900")
    photo = save_photo(tmp_path / "a.jpg", film=50)
    camera = camera_of_photo(photo, tmp_path, WIDTH, HEIGHT)
    assert camera == Camera(900, 900, 300, 200, WIDTH, HEIGHT, "user")
    with pytest.raises(ValueError, match=r"camera of b.jpg: expected .*b.json, .yaml or .npz, found none"):
        read_camera(tmp_path, "b.jpg", WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "expected a readable .json file"),
        ("{}", "expected {focal_px"),
        ('"50mm"', "expected {focal_px"),
        ('{"focal_px": [1, 2, 3]}', "expected {focal_px"),
        ("[[800, 9, 310], [0, 810, 190], [0, 0, 1]]", "skew 9 is not supported"),
        ("[[1, 2], [3, 4]]", "got K of shape"),
        ('{"focal_px": -800}', "expected a positive number of pixels, got -800"),
        ('{"focal_px": NaN}', "expected a positive number of pixels, got nan"),
        ('{"focal_px": 800, "center_px": [NaN, 1]}', "expected a finite center_px"),
    ],
)
def test_bad_camera_files_are_named(tmp_path, content, expected):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=expected) as error:
        read_camera(path, "a.jpg", WIDTH, HEIGHT)
    assert "bad.json" in str(error.value)


def test_missing_camera_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="expected an existing file .json"):
        read_camera(tmp_path / "none.json", "a.jpg", WIDTH, HEIGHT)


def test_millimetres_are_refused_with_the_conversion():
    expected = 50 / math.hypot(36, 24) * math.hypot(4000, 3000)
    with pytest.raises(ValueError, match=rf"looks like millimetres.* 35 mm equivalent, give {expected:.0f}"):
        Camera(50, 50, 2000, 1500, 4000, 3000, "user")
    Camera(800, 800, 2000, 1500, 4000, 3000, "user")


def test_scaled_and_mirrored_cameras_see_the_scaled_and_mirrored_picture():
    camera = Camera(800, 810, 310, 190, WIDTH, HEIGHT, "user")
    points = torch.tensor([[[0.3, -0.2, 3.0], [-0.5, 0.4, 4.0]]])

    def project(camera, points):
        return project_points(points, torch.tensor([camera.focal_px]), torch.tensor([camera.center_px]))

    seen = project(camera, points)
    torch.testing.assert_close(project(camera.scaled(2), points), 2 * seen)
    mirrored = project(camera.mirrored(), points * torch.tensor([-1.0, 1, 1]))
    torch.testing.assert_close(mirrored, torch.tensor([WIDTH, 0.0]) + seen * torch.tensor([-1.0, 1]))
    assert (camera.scaled(2).width, camera.scaled(2).height) == (2 * WIDTH, 2 * HEIGHT)


@pytest.mark.parametrize("name", ["tilted.json", "tilted.yaml", "tilted.npz"])
def test_pitch_and_roll_are_read_and_mirrored(tmp_path, name):
    given = {"focal_px": [800, 810], "center_px": [310, 190], "pitch_deg": 12.5, "roll_deg": -3}
    path = tmp_path / name
    if name.endswith("npz"):
        np.savez(path, **given)
    else:
        path.write_text(json.dumps(given))  # which YAML reads too
    camera = read_camera(path, "a.jpg", WIDTH, HEIGHT)
    assert camera == Camera(800, 810, 310, 190, WIDTH, HEIGHT, "user", 12.5, -3.0)
    assert (camera.mirrored().pitch_deg, camera.mirrored().roll_deg) == (12.5, 3.0)
    assert camera.mirrored().mirrored() == camera
    assert (camera.scaled(2).pitch_deg, camera.scaled(2).roll_deg) == (12.5, -3.0)


def test_tilt_is_level_within_the_spreads_where_it_is_not_known(tmp_path):
    unknown = default_camera(WIDTH, HEIGHT)
    assert (unknown.pitch_deg, unknown.roll_deg) == (None, None)
    assert unknown.mirrored().roll_deg is None
    expected, spread = unknown.tilt(8.0, 3.0)
    assert expected == [0, 0] and np.degrees(spread) == pytest.approx([8, 3])
    (tmp_path / "a.json").write_text('{"focal_px": 800, "pitch_deg": 12}')
    expected, spread = read_camera(tmp_path / "a.json", "a.jpg", WIDTH, HEIGHT).tilt(8.0, 3.0)
    assert np.degrees(expected) == pytest.approx([12, 0])
    assert np.degrees(spread) == pytest.approx([MEASURED_SPREAD_DEG, 3])
    measured_level = replace(unknown, pitch_deg=0.0, roll_deg=0.0).tilt(8.0, 3.0)  # 0 is not unknown
    assert np.degrees(measured_level[1]) == pytest.approx([MEASURED_SPREAD_DEG] * 2)


def test_projection_by_hand():
    points = torch.tensor([[[1.0, 2.0, 4.0]], [[0.0, 0.0, 1.0]]], dtype=torch.float64, requires_grad=True)
    focal, center = torch.tensor([[400.0, 200.0]] * 2).double(), torch.tensor([[10.0, 20.0]] * 2).double()
    seen = project_points(points, focal, center)
    assert seen.tolist() == [[[110, 120]], [[10, 20]]]
    assert torch.autograd.gradcheck(lambda p: project_points(p, focal, center), points)


def test_default_camera_needs_a_picture():
    with pytest.raises(ValueError, match="at least 1 x 1 px, got 0 x 5"):
        default_camera(0, 5)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1000", '"steep"', "[1, 2]"])
def test_impossible_tilt_is_refused_by_name(tmp_path, value):
    path = tmp_path / "camera.json"
    path.write_text(f'{{"focal_px": 900, "pitch_deg": {value}}}')
    with pytest.raises(ValueError, match="pitch_deg"):
        read_camera(path, tmp_path / "photo.jpg", WIDTH, HEIGHT)


def test_tilt_may_be_given_alone_or_as_unknown(tmp_path):
    path = tmp_path / "camera.json"
    path.write_text('{"pitch_deg": 12, "roll_deg": null}')
    camera = read_camera(path, tmp_path / "photo.jpg", WIDTH, HEIGHT)
    assert (camera.pitch_deg, camera.roll_deg, camera.source) == (12, None, "default")


@pytest.mark.parametrize("value", [0.0, -5.0, float("nan")])
def test_spread_of_the_tilt_is_positive(value):
    with pytest.raises(ValueError, match="pitch_spread_deg: expected a positive"):
        Optimisation(pitch_spread_deg=value)
