"""The picture that is fitted: straight where the lens bent lines, smaller where the photo is very large."""

import json
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from fitter import pipeline
from fitter.config import FitConfig
from fitter.label.label_files import UNKNOWN
from fitter.see.camera import Camera
from fitter.see.frame import STRAIGHTENED, Frame
from fitter.see.photos import Photo
from fitter.see.picture import read_picture
from fitter.see.views import see
from fitter.write.result import load_fit, save_fit

SIZE = WIDTH, HEIGHT = 600, 400
BARREL, PINCUSHION = (-0.25, 0.05, 0.001, -0.002, 0.01), (0.2, 0.05, 0.0, 0.001)
MATRIX = np.array([[800.0, 0, 310], [0, 810, 190], [0, 0, 1]])
CAMERA = {"K": MATRIX.tolist(), "dist": BARREL}


def frame(distortion, reduced=1) -> Frame:
    camera = Camera(800, 810, 310, 190, *SIZE, "user", distortion=distortion)
    return Frame(camera, reduced, (WIDTH // reduced, HEIGHT // reduced))


def person_px(distortion=(), seed=0):
    """A person's keypoints [25, 3], all seen, as a lens shows them; the last is missing."""
    points = np.random.default_rng(seed).uniform((-1.4, -0.9, 4), (1.4, 0.9, 5), (25, 3))
    px = cv2.projectPoints(points, np.zeros(3), np.zeros(3), MATRIX, np.array(distortion or (0.0,) * 4))[0]
    return np.column_stack([px[:, 0], np.ones(25)]) * ([[1]] * 24 + [[0]])


def write_keypoints(path, keypoints):
    path.write_text(json.dumps({"people": [{"pose_keypoints_2d": keypoints.reshape(-1).tolist()}]}))


@pytest.fixture
def seen(tmp_path):
    """Makes a photo, its distorted keypoints and a camera file, and gives what `see` makes of them."""

    def make(camera=CAMERA, distortion=BARREL, **more):
        Image.new("RGB", SIZE, "gray").save(tmp_path / "a.png")
        write_keypoints(tmp_path / "a_keypoints.json", person_px(distortion))
        (tmp_path / "camera.json").write_text(json.dumps(camera))
        config = FitConfig(
            str(tmp_path), keypoints=str(tmp_path), camera=str(tmp_path / "camera.json"), **more
        )
        models = SimpleNamespace(config=config, detect=SimpleNamespace(boxes=lambda *_: []))
        return see(Photo(tmp_path / "a.png", "a.png", "a"), models)

    return make


@pytest.mark.parametrize("distortion", [BARREL, PINCUSHION, (0.1, -0.2, 0, 0, 0.05, 0.1, 0, 0)])
def test_the_picture_is_opencv_s_undistorted_one(distortion):
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 3)
    from_the_middle = MATRIX - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]  # of the first pixel, as OpenCV counts
    expected = cv2.undistort(image, from_the_middle, np.array(distortion))
    np.testing.assert_allclose(frame(distortion).straight(image).astype(int), expected, atol=3)


@pytest.mark.parametrize("distortion", [BARREL, PINCUSHION])
def test_keypoints_go_where_a_pinhole_sees_them(seen, distortion):
    view = seen({"K": MATRIX.tolist(), "dist": distortion}, distortion)
    moved = np.abs(person_px(distortion) - person_px()).max()
    assert moved > 3  # what was wrong before
    np.testing.assert_allclose(view.people[0].keypoints_px, person_px(), atol=1e-4)
    assert view.camera == Camera(800, 810, 310, 190, *SIZE, "user") and view.camera.notes == (STRAIGHTENED,)


def test_a_lens_without_distortion_leaves_everything_as_it_is(seen):
    view = seen({"K": MATRIX.tolist(), "dist": [0, 0, 0, 0]}, ())
    np.testing.assert_allclose(view.people[0].keypoints_px, person_px(), atol=1e-9)
    assert view.camera.notes == () and view.frame.is_photo
    assert view.frame.straight(view.image_rgb) is view.image_rgb


def test_labels_and_pixels_move_together_and_beyond_the_photo_nothing_is_known(seen):
    view = seen({"K": MATRIX.tolist(), "dist": PINCUSHION}, PINCUSHION)
    bent, straight = person_px(PINCUSHION)[0, :2], person_px()[0, :2]
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = bent.astype(int)
    ids[y - 4 : y + 5, x - 4 : x + 5] = 7
    found = pipeline.placed(view, UNKNOWN)(ids)
    rows, columns = np.nonzero(found == 7)
    np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], straight, atol=0.8)
    assert set(np.unique(found)) <= {0, 7, UNKNOWN}
    wide = frame((-0.6, 0.0, 0.0, 0.0)).straight(ids + 1, UNKNOWN, nearest=True)
    assert (wide[:3, :3] != UNKNOWN).all()  # such a lens shows more than the picture
    assert (frame((0.6, 0.0, 0.0, 0.0)).straight(ids, UNKNOWN, nearest=True)[:3, :3] == UNKNOWN).all()


def test_where_distortion_cannot_be_undone_keypoints_are_missing_and_absurd_coefficients_refused(seen):
    view = seen({"K": MATRIX.tolist(), "dist": [-1.2, 0, 0, 0]}, ())  # beyond 0.35 of a focal length: nowhere
    lost = view.people[0].keypoints_px[:, 2] == 0
    far = np.linalg.norm((person_px()[:, :2] - MATRIX[:2, 2]) / 800, axis=1) > 0.36
    np.testing.assert_array_equal(lost[:24], far[:24])
    with pytest.raises(ValueError, match="expected OpenCV's distortion coefficients .*bend .* of the photo"):
        frame((50.0, -3.0, 1.0, 2.0))


@pytest.mark.parametrize("distortion", [(), BARREL])
def test_a_halved_photo_s_results_are_in_px_of_the_photo(seen, monkeypatch, distortion):
    monkeypatch.setattr(
        "fitter.see.views.read_picture", partial(read_picture, at_most_px=WIDTH * HEIGHT // 2)
    )
    view = seen({"K": MATRIX.tolist(), "dist": distortion}, distortion)
    assert view.image_rgb.shape == (HEIGHT // 2, WIDTH // 2, 3)
    np.testing.assert_allclose(view.people[0].keypoints_px[:, :2], person_px()[:, :2] / 2, atol=1e-4)
    assert view.camera.focal_px == (400, 405) and view.camera.center_px == (155, 95)
    assert view.camera.notes[0] == "photo of 600 x 400 px fitted at 1/2 of its sides"
    np.testing.assert_allclose(frame((), 2).box([10, 20, 30, 40]), [5, 10, 15, 20])
    box = frame(BARREL).box([0, 0, 100, 100])
    assert box[0] < -10 and box[1] < -5 and 80 < box[2] < 100  # a barrel pulls its corners in


def test_fits_come_back_in_px_of_the_photo(tmp_path):
    from test_clothing import fit_of_open_body

    fit, small = fit_of_open_body(), frame(BARREL, 2)
    whole = small.to_photo(fit)
    for name in ("focal_px", "center_px", "box_px", "keypoints_px"):
        np.testing.assert_allclose(getattr(whole, name), 2 * getattr(fit, name))
    np.testing.assert_allclose(whole.observed_px, fit.observed_px * [2, 2, 1])
    assert whole.image_size_px.tolist() == [600, 400] and whole.distortion == BARREL
    save_fit(tmp_path / "a_0.npz", whole)
    read = load_fit(tmp_path / "a_0.npz")
    assert read.distortion == BARREL
    np.testing.assert_allclose(small.from_photo(read).keypoints_px, fit.keypoints_px, rtol=1e-6)
    np.testing.assert_array_equal(whole.transl_cam, fit.transl_cam)
