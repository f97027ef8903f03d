"""Camera files of every kind: what is read, which camera is a photo's, and what cannot be the photo's is refused."""

import json
import math

import cv2
import numpy as np
import pytest
from PIL import Image

from fitter.see.camera import Camera
from fitter.see.camera_files import camera_file, camera_of_photo, check_camera_path, read_camera
from fitter.see.lens import Lens

WIDTH, HEIGHT = 600, 400
FX, FY, CX, CY = LENS = 800.0, 810.0, 310.0, 190.0
K = [[FX, 0, CX], [0, FY, CY], [0, 0, 1]]
BENT = (-0.25, 0.05, 0.001, -0.002, 0.01)
OPENCV = """%YAML:1.0
---
names:
   - "01"
   - "cam2"
K_01: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 800., 0., 310., 0., 8.1e+02, 190., 0., 0., 1. ]
dist_01: !!opencv-matrix
   rows: 1
   cols: 5
   dt: d
   data: [ -0.25, 0.05, 0.001, -0.002, 0.01 ]
K_cam2: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 900., 0., 300., 0., 900., 200., 0., 0., 1. ]
"""
ROS = """image_width: 600
image_height: 400
camera_name: narrow
camera_matrix:
  rows: 3
  cols: 3
  data: [800, 0, 310, 0, 810, 190, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.25, 0.05, 0.001, -0.002, 0.01]
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [700, 0, 305, 0, 0, 710, 195, 0, 0, 0, 1, 0]}
"""


def camera(distortion=(), lens=LENS):
    return Camera(*lens, WIDTH, HEIGHT, "user", distortion=distortion)


def read(tmp_path, content, name="camera.json", photo="01/a.jpg", size=(WIDTH, HEIGHT), orientation=1):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return read_camera(tmp_path / name, photo, *size, orientation)


@pytest.mark.parametrize(
    "content",
    [
        {"fx": FX, "fy": FY, "cx": CX, "cy": CY},
        {"intrinsics": {"fx": FX, "fy": FY, "cx": CX, "cy": CY}},
        {"camera_matrix": K},
        {"K": {"rows": 3, "cols": 3, "data": np.ravel(K).tolist()}},
        {"K": np.ravel(K).tolist()},
        [[*row, 0] for row in K],
        {"K": [[*row, 0] for row in K] + [[0, 0, 0, 1]]},
        {"fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY, "w": WIDTH, "h": HEIGHT, "k1": 0.0},
        {"K": K, "dist": [0, 0, 0, 0, 0], "R": np.eye(3).tolist(), "width": WIDTH, "height": HEIGHT},
    ],
    ids=["fx", "nested", "camera_matrix", "data", "flat", "3x4", "4x4", "fl_x", "no distortion"],
)
def test_a_pinhole_in_every_spelling(tmp_path, content):
    found = read(tmp_path, content)
    assert found == camera() and not found.notes


@pytest.mark.parametrize("suffix", ["npy", "txt"])
def test_a_bare_matrix_of_numpy_s(tmp_path, suffix):
    path = tmp_path / f"k.{suffix}"
    np.save(path, K) if suffix == "npy" else np.savetxt(path, K)
    assert read_camera(path, "a.jpg", WIDTH, HEIGHT) == camera()


@pytest.mark.parametrize(
    "content",
    [
        {"K": K, "dist": BENT},
        {"K": K, "distortion_coefficients": {"rows": 5, "cols": 1, "data": BENT}},
        {"K": K, "D": [[*BENT]]},
        {"fx": FX, "fy": FY, "cx": CX, "cy": CY, **dict(zip(("k1", "k2", "p1", "p2", "k3"), BENT, strict=True))},
    ],
)  # fmt: skip
def test_distortion_in_every_spelling(tmp_path, content):
    assert read(tmp_path, content) == camera(BENT)


def test_ros_s_camera_info_is_the_raw_image_s(tmp_path):
    assert read(tmp_path, ROS, "camera_info.yaml") == camera(BENT)


def test_of_several_cameras_in_opencv_s_file_the_photo_s_is_taken(tmp_path):
    assert read(tmp_path, OPENCV, "intri.yml", photo="images/01/000001.jpg") == camera(BENT)
    assert read(tmp_path, OPENCV, "intri.yml", photo="cam2.jpg") == camera(lens=(900, 900, 300, 200))
    for folder in (tmp_path, tmp_path / "intri.yml"):  # a folder with that file does as well
        assert read_camera(folder, "01/b.jpg", WIDTH, HEIGHT) == camera(BENT)
    with pytest.raises(
        ValueError, match=r"intri.yml: expected a camera called as the photo a.jpg .*got 01, cam2"
    ):
        read_camera(tmp_path / "intri.yml", "03/a.jpg", WIDTH, HEIGHT)
    with pytest.raises(
        ValueError, match=r"camera of 01/cam2.jpg: may be 'cam2', as .*, or '01', as its folder is"
    ):
        read_camera(tmp_path / "intri.yml", "01/cam2.jpg", WIDTH, HEIGHT)


def test_what_opencv_itself_writes_is_read(tmp_path):
    file = cv2.FileStorage(str(tmp_path / "intri.yml"), cv2.FILE_STORAGE_WRITE)
    file.write("K_01", np.array(K, float)), file.write("dist_01", np.array([BENT]))
    file.release()
    assert read_camera(tmp_path, "01/a.jpg", WIDTH, HEIGHT) == camera(BENT)


@pytest.mark.parametrize(
    "content",
    [
        {"01": {"K": K}, "02": {"fx": 1, "fy": 1}},
        {"cameras": [{"name": "01", "K": K}, {"name": "02", "K": K[::-1]}]},
        [{"id": "01", "K": K}, {"id": "02", "K": K[::-1]}],
    ],
)
def test_cameras_by_name(tmp_path, content):
    assert read(tmp_path, content) == camera()


def test_a_folder_has_a_file_of_the_photo_s_or_its_folder_s_name(tmp_path):
    for name in ("a.json", "01.yaml", "x.json", "x.yml", "._b.json"):
        (tmp_path / name).touch()
    assert camera_file(tmp_path, "02/a.jpg").name == "a.json"
    assert camera_file(tmp_path, "01/b.jpg").name == "01.yaml"
    with pytest.raises(ValueError, match="may be 'a', as the photo is called, or '01', as its folder is"):
        camera_file(tmp_path, "01/a.jpg")
    with pytest.raises(ValueError, match="camera of x.jpg: expected one file in .*, got x.json and x.yml"):
        camera_file(tmp_path, "x.jpg")
    with pytest.raises(ValueError, match="camera of b.jpg: expected .*b.json, .yaml or .npz, found none"):
        camera_file(tmp_path, "b.jpg")
    check_camera_path(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected a folder with files .json.*found none"):
        check_camera_path(tmp_path / "empty")


SCALED = [[3 * value for value in row] for row in K[:2]] + [[0, 0, 1]]
FOREIGN = {
    "3 x larger": (SCALED, r"of images 2.97 times as large; divide focal length and principal point by that"),
    "half": ([[400, 0, 155], [0, 405, 96], [0, 0, 1]], "of images 0.49.* times as large"),
    "not turned": ([[800, 0, 205], [0, 800, 296], [0, 0, 1]], "of the photo before it was turned upright .400 x 600"),
    "outside": ([[800, 0, 900], [0, 800, 190], [0, 0, 1]], "expected px within .* got .900, 190.: the camera of"),
    "negative": ([[800, 0, -3], [0, 800, 190], [0, 0, 1]], "expected px within the photo"),
    "normalised": ([[1.3, 0, 0.5], [0, 1.3, 0.5], [0, 0, 1]], "principal point.*looks normalised"),
    "about the middle": ([[800, 0, 0], [0, 800, 0], [0, 0, 1]], r"looks normalised; .*middle \(300, 200\)"),
}  # fmt: skip


@pytest.mark.parametrize("cause", FOREIGN)
def test_a_principal_point_of_another_image_is_refused_with_the_likely_cause(tmp_path, cause):
    matrix, reason = FOREIGN[cause]
    with pytest.raises(ValueError, match=reason):
        read(tmp_path, matrix)


def test_a_lens_that_is_a_little_off_is_no_other_image_s(tmp_path):
    for center in ((330, 185), (285, 215), (345, 230), (258, 172)):
        assert read(tmp_path, {"focal_px": 800, "center_px": center}).center_px == center
    portrait = read(tmp_path, {"focal_px": 800, "center_px": [205, 296]}, size=(HEIGHT, WIDTH))
    assert portrait.center_px == (205, 296)
    cut = {
        "focal_px": 800,
        "center_px": [900, 190],
        "width": WIDTH,
        "height": HEIGHT,
    }  # said to be this photo's
    assert read(tmp_path, cut).center_px == (900, 190)


@pytest.mark.parametrize(
    "value, reason", [(50.0, "looks like millimetres"), (1.2, "looks normalised; .*720")]
)
def test_a_focal_length_in_other_units_is_refused(tmp_path, value, reason):
    with pytest.raises(ValueError, match=f"camera.json: focal_px: .*{reason}"):
        read(tmp_path, {"fx": value, "fy": value, "cx": CX, "cy": CY})


def test_a_camera_of_larger_images_is_scaled_and_says_so(tmp_path):
    found = read(tmp_path, {"K": SCALED, "dist": BENT, "width": 3 * WIDTH, "height": 3 * HEIGHT})
    assert found == camera(BENT)
    assert found.notes == ("camera of 1800 x 1200 images scaled by 0.3333 to the photo's 600 x 400",)
    with pytest.raises(
        ValueError, match="expected the camera of images of 600 x 400 px.*, got one of 640 x 640"
    ):
        read(tmp_path, {"K": K, "image_size": [640, 640]})
    with pytest.raises(ValueError, match="got one of 400 x 600; turn it as the photo was turned"):
        read(tmp_path, {"K": K, "image_size": [400, 600]})


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_camera_of_the_photo_as_stored_is_turned_with_it(tmp_path, orientation):
    """Points seen by the turned camera lie where turning the stored photo puts them, distortion included."""
    stored = {"fx": FX, "fy": FY, "cx": CX, "cy": CY, "dist": BENT, "width": WIDTH, "height": HEIGHT}
    found = read(tmp_path, stored, size=(HEIGHT, WIDTH), orientation=orientation)
    assert "turned upright" in found.notes[0]
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3)) + [0, 0, 4]
    u, v = project(points, camera(BENT)).T
    turned = points[:, [1, 0, 2]] * ([-1, 1, 1] if orientation == 6 else [1, -1, 1])
    expected = (HEIGHT - v, u) if orientation == 6 else (v, WIDTH - u)
    np.testing.assert_allclose(project(turned, found), np.column_stack(expected), atol=1e-9)


def project(points, camera: Camera):
    matrix = np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1]])
    return cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(camera.distortion))[0][:, 0]


def test_the_photo_s_exif_says_how_it_was_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "c.json").write_text(json.dumps({"K": K, "width": WIDTH, "height": HEIGHT}))
    found = camera_of_photo(tmp_path / "a.jpg", tmp_path / "c.json", HEIGHT, WIDTH)
    assert found.center_px == (HEIGHT - CY, CX) and found.focal_px == (FY, FX)
    with pytest.raises(ValueError, match="not turned"):
        Lens((FX, FY), (CX, CY), (0.1,) * 12, (WIDTH, HEIGHT)).turned(6)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"K": K, "D": [0.1, 0.2, 0.3, 0.4], "distortion_model": "equidistant"}, "got 'equidistant'; undistort the"),
        ({"K": K, "k1": 0.1, "camera_model": "OPENCV_FISHEYE"}, "got 'opencv_fisheye'; undistort"),
        ({"K": K, "D": [0.1, 0.2]}, "expected 4, 5, 8, 12, 14 distortion coefficients.*got 2"),
        ({"K": K, "D": [0.1, 0.2, 0, float("nan")]}, "expected finite distortion"),
        ({"K": K, "dist": "none"}, "expected numbers for dist"),
        ({"K": K, "distorsion": [0.1, 0, 0, 0]}, "expected lens distortion as .*, got distorsion"),
        ({"pitch_deg": 3, "dist": BENT}, "expected {focal_px"),
        ({"pitch_deg": 3, "center_px": [300, 200]}, "expected {focal_px"),
        ([[0.8, -0.6, 0, 1], [0.6, 0.8, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], "a projection or a pose"),
        ([[800, 0, 310, 5], [0, 810, 190, 6], [0, 0, 1, 7]], "a projection or a pose"),
        ({"K": K, "width": 0, "height": 0}, "expected a size of images in px"),
        ({"K": K, "width": float("inf"), "height": 3}, "cannot convert float infinity"),
        ({"cameras": {"cameras": {"x": 1}}}, "expected {focal_px"),
        ({"K": {"K": {"K": {}}}}, "expected numbers for K"),
        ({}, "got nothing"),
        ("%YAML:1.0\n---\nK: !!python/object/apply:os.system [true]", "expected a readable .yml file"),
        ("&a {cameras: *a}", "aliases unfold"),
        ("&a {K: *a}", "aliases unfold"),
    ],
)  # fmt: skip
def test_what_is_no_camera_of_opencv_s_is_refused(tmp_path, content, reason):
    name = "camera.yml" if isinstance(content, str) else "camera.json"
    with pytest.raises(ValueError, match=reason) as error:
        read(tmp_path, content, name)
    assert name in str(error.value)


def test_a_scaled_camera_keeps_what_it_sees():
    lens = Lens((FX, FY), None, BENT, (WIDTH, HEIGHT)).scaled(2)
    assert lens == Lens((2 * FX, 2 * FY), None, BENT, (WIDTH, HEIGHT))
    assert math.isclose(Lens((FX, FY), (CX, CY)).scaled(0.5).center[0], CX / 2)
