"""The Python API: the same fits as fit.py's, from paths and arrays; runs loaded as arrays; trouble named."""

import json
import subprocess
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_run import SIZE, keypoints  # noqa: F401

import fitter
from fitter import Fitter, load_fit, load_fits, method
from fitter.body.model import OPEN_BODY
from fitter.cli import main
from fitter.see.detect import Detector
from fitter.see.keypoints import Person
from fitter.see.person_box import keypoint_box
from fitter.write.arrays import JSON, NUMBERS, TEXTS
from fitter.write.result import Fit, save_fit

ROOT = Path(__file__).parent.parent
QUICK = {"starts": 1, "yaws": [0.0]}  # one start, facing the camera
SAME = dict(atol=1e-6, err_msg="the same steps give the same numbers")


@pytest.fixture(scope="module")
def points(request) -> np.ndarray:
    return request.getfixturevalue("keypoints")


@pytest.fixture(scope="module")
def quick() -> Fitter:
    return Fitter(parser="none", optimisation=QUICK)


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return np.full((*SIZE[::-1], 3), 128, np.uint8)


@pytest.fixture(scope="module")
def run(points, tmp_path_factory) -> Path:
    """A folder with photos/, keypoints/, camera.json, and out/ with the results of fit.py."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "photos").mkdir(), (folder / "keypoints").mkdir()
    for at, name in enumerate(("b", "a", "c")):
        Image.new("RGB", SIZE, "gray").save(folder / "photos" / f"{name}.png")
        people = [points + [3 * at, 0, 0], points + [5 * at - 40, 2, 0]]
        people = [{"person_id": [-1], "pose_keypoints_2d": one.ravel().tolist()} for one in people]
        (folder / "keypoints" / f"{name}_keypoints.json").write_text(json.dumps({"people": people}))
    (folder / "camera.json").write_text(json.dumps({"focal_px": [410.0, 405.0], "center_px": [158.0, 121.0]}))
    given = ["--images", "photos", "--keypoints", "keypoints", "--camera", "camera.json", "--out", "out"]
    given = [word if word[:2] == "--" else str(folder / word) for word in given]
    quick = ["--parser", "none", "--optimisation.starts", "1", "--optimisation.yaws", "[0.0]"]
    assert main([*given, *quick, "--jobs", "1", "--overlay", "false"]) == 0
    return folder


def test_import_loads_nothing_heavy_and_lists_what_there_is():
    code = (
        "import sys, fitter; print([m for m in ('torch', 'numpy', 'cv2') if m in sys.modules], dir(fitter))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert out.stdout.startswith("[] ") and all(f"'{name}'" in out.stdout for name in fitter.__all__)
    assert fitter.Fit is Fit and fitter.Person is Person
    with pytest.raises(AttributeError, match="has no attribute 'Fiter'"):
        fitter.Fiter  # noqa: B018


def test_paths_arrays_and_fit_py_give_the_same(run, points, grey, quick):
    written = load_fit(run / "out" / "a_1.npz")
    own = {"camera": str(run / "camera.json"), "keypoints": str(run / "keypoints")}
    by_files = Fitter(parser="none", optimisation=QUICK, **own)(run / "photos" / "a.png")
    people = [points + [3, 0, 0], points + [-35, 2, 0]]
    k = np.array([[410.0, 0, 158], [0, 405, 121], [0, 0, 1]])
    by_arrays = quick(grey, keypoints=np.stack(people), camera=k)
    as_people = [Person(str(at), one, "openpose", keypoint_box(one)) for at, one in enumerate(people)]
    by_people = quick(grey, keypoints=as_people, camera={"K": k})
    for fits in (by_files, by_arrays, by_people):
        assert [fit.person for fit in fits] == ["0", "1"] and fits[1].people_in_photo == 2
        for name in ("pose", "betas", "transl_cam", "focal_px", "center_px", "joints_cam", "observed_px"):
            np.testing.assert_allclose(getattr(fits[1], name), getattr(written, name), **SAME)
        np.testing.assert_allclose(fits[1].vertices_cam, written.posed().vertices_cam, atol=1e-5)
        assert fits[1].camera_source == "user" and fits[1].keypoint_source == "openpose"
        assert fits[1].reasons == written.reasons and fits[1].energies == written.energies
    assert (by_files[1].image, by_files[1].name) == ("a.png", "a") and by_arrays[1].image == "photo0"
    assert by_arrays[1].configuration["keypoints"] == "given"


def test_a_camera_is_a_number_a_matrix_a_mapping_or_a_file(run, points, grey, quick):
    def of(camera):
        return quick(grey, keypoints=points, camera=camera)[0]

    assert of(np.float32(500)).focal_px.tolist() == [500, 500] and of(500.0).center_px.tolist() == [160, 120]
    assert of(str(run / "camera.json")).center_px.tolist() == [158, 121]
    bent = of({"fx": 500, "fy": 500, "cx": 160, "cy": 120, "distortion": [-0.1, 0.01, 0, 0]})
    assert bent.distortion == (-0.1, 0.01, 0, 0)
    assert of(None).camera_source == "default"


def test_photos_of_one_call_share_a_batch(points, grey, quick, monkeypatch):
    batches = []
    real = method.fit_keypoints
    monkeypatch.setattr(method, "fit_keypoints", lambda *a: batches.append(len(a[1])) or real(*a))
    two, nobody, one = quick([grey] * 3, keypoints=[np.stack([points, points + 1]), [], points], camera=400.0)
    assert batches == [3] and (len(two), nobody, len(one)) == (2, [], 1)
    alone = quick(grey, keypoints=points, camera=400.0)
    np.testing.assert_allclose(one[0].pose, alone[0].pose, **SAME)
    assert one[0].image == "photo2" and one[0].focal_px.tolist() == [400, 400]


def test_labels_are_arrays_of_the_photo_or_of_people(points, grey):
    quick = Fitter(parser="none", optimisation=QUICK, label_classes="atr")
    x0, y0, x1, y1 = keypoint_box(points).astype(int)
    ids = np.zeros(SIZE[::-1], np.uint8)
    ids[y0:y1, x0:x1] = 4  # upper clothes among ATR's
    for labels in (ids, {"0": ids}):
        (fit,) = quick(grey, keypoints=points, labels=labels)
        assert fit.label_source == "given" and fit.energies["c"] > 0
        assert fit.configuration["labels"] == "given"
    plain = Fitter(parser="none", optimisation=QUICK)
    assert plain(grey, keypoints=points)[0].label_source == "none"
    with pytest.raises(
        ValueError, match=r"photo0: labels: expected labels of people of \['0'\], got \['7'\]"
    ):
        plain(grey, keypoints=points, labels={"7": ids})
    with pytest.raises(ValueError, match="label-classes has no effect without --labels"):
        quick(grey, keypoints=points)


def test_nobody_is_no_error_but_keypoints_that_do_not_serve_are(grey, points, quick):
    assert quick(np.zeros((64, 64, 3), np.uint8)) == []  # the detector's answer
    with pytest.raises(
        ValueError, match="photo0: nobody found in this photo; keypoints, person 0: 1 keypoint"
    ):
        quick(grey, keypoints=points * (np.arange(25) == 3)[:, None])


def test_a_method_with_a_network_is_given_by_whoever_has_it(points, grey):
    with pytest.raises(ValueError, match="expected make_method for a method with a network"):
        Fitter(init="checkpoint:net.pt")
    asked = []

    def make(config, objective):
        asked.append(config.method)
        return replace(method.optimizer(config, objective), clothe=None)

    settings = dict(method="network", checkpoint=str(ROOT / "setup.cfg"))
    assert len(Fitter(make_method=make, **settings)(grey, keypoints=points)) == 1 and asked == ["network"]


def test_threads_of_the_program_are_left_as_they_were(points, grey, quick):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        quick(grey, keypoints=points)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_settings_are_fit_py_s():
    fitter = Fitter("spin_weights", people=2, weights={"pose": 3.0}, limits={"max_abs_beta": 2.0})
    assert (fitter.config.people, fitter.config.weights.pose, fitter.config.weights.shape) == (2, 3.0, 25.0)
    assert fitter.config.limits.max_abs_beta == 2.0
    assert Fitter(fitter.config, people="all").config == replace(fitter.config, people="all")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"parserr": "none"}, "expected a setting of fit.py, got parserr; did you mean parser?"),
        (
            {"weights": {"pos": 1.0}},
            "expected a setting of fit.py, got weights.pos; did you mean weights.pose?",
        ),
        ({"weights": 3}, "weights: expected a mapping of its settings, got 3"),
        ({"people": "biggest"}, "Expected a typing.Literal"),
        ({"out": "x"}, "Fitter: out: settings of a run of fit.py, not of a fit"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ValueError) as error:
        Fitter(**settings)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("photos", "more", "said"),
    [
        (np.zeros((4, 4, 3)), {}, r"got float64 \[4, 4, 3\]; of floats in 0..1 take"),
        (np.zeros((4, 4), np.uint8), {}, r"expected a path or uint8 \[H, W, 3\] in RGB order, got uint8 \[4, 4\]"),
        ("nowhere.jpg", {}, "nowhere.jpg: image nowhere.jpg: expected a file, found none"),
        (["a.jpg", "a.jpg"], {}, "expected each once in a call, got a.jpg several times"),
        (["a.jpg"], {"keypoints": np.zeros((17, 3))}, "keypoints: expected a list of one per photo, 1, got ndarray"),
        (["a.jpg"], {"camera": [1.0, 2.0]}, "camera: expected a list of one per photo, 1, got 2"),
        ([3], {}, "in RGB order, got int"),
    ],
)  # fmt: skip
def test_photos_that_are_none_are_refused(photos, more, said, quick):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        quick(photos, **more)


def test_keypoints_and_cameras_that_cannot_be_this_photo_s_are_refused(points, grey, quick):
    with pytest.raises(
        ValueError, match="photo0: keypoints, person 0: 16 keypoints, expected 17, 23, 26, 133, 136"
    ):
        quick(grey, keypoints=points[:16])
    with pytest.raises(ValueError, match="photo0: keypoints: expected px, got all within"):
        quick(grey, keypoints=points / [*SIZE, 1])
    with pytest.raises(
        ValueError, match="photo0: focal_px: expected pixels, got 35 .* looks like millimetres"
    ):
        quick(grey, keypoints=points, camera=35.0)


def test_a_run_as_arrays(run):
    fits = load_fits(run / "out")
    assert fits.image.tolist() == ["a.png"] * 2 + ["b.png"] * 2 + ["c.png"] * 2
    assert fits.person.tolist() == ["0", "1"] * 3 and len(fits) == 6
    assert fits.names.tolist() == ["a_0", "a_1", "b_0", "b_1", "c_0", "c_1"]
    for row in range(6):
        fit = fits.fit(row)
        np.testing.assert_array_equal(fits.runner_up[row], fit.runner_up if fit.runner_up.size else np.nan)
        for name in (set(NUMBERS) - {"runner_up"}) | set(TEXTS):
            np.testing.assert_array_equal(getattr(fits, name)[row], getattr(fit, name), name)
        assert fits.open_limbs[row] == fit.open_limbs
        assert fits.reasons[row] == fit.reasons and fits.distortion[row] == fit.distortion
        for name in ("energies", "quality"):
            assert {key: column[row] for key, column in getattr(fits, name).items()} == getattr(fit, name)
    some = fits[fits.person == "1"]
    assert some.name.tolist() == ["a", "b", "c"] and some.fit(2).name == "c" and len(fits[:0]) == 0
    np.testing.assert_array_equal(some.energies["pose"], fits.energies["pose"][1::2])
    vertices = some[1:].vertices_cam()
    np.testing.assert_allclose(vertices[1], some.fit(2).posed().vertices_cam, atol=1e-5)
    assert vertices.dtype == np.float32 and vertices.shape[0] == 2
    with pytest.raises(TypeError, match=r"one person is fits.fit\(3\)"):
        fits[3]


def test_what_a_run_is_loaded_from_is_all_of_a_fit_but_what_all_share():
    left = {"vertices_cam", "derived", "configuration", "inputs", "version", "people_in_photo"}
    assert {*NUMBERS, *TEXTS, *JSON} == {item.name for item in fields(Fit)} - left


def test_files_of_other_versions_and_damaged_ones(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected results of fit.py"):
        load_fits(tmp_path)
    fit = replace(load_fit(run / "out" / "a_0.npz"), runner_up=np.arange(85.0))
    save_fit(
        tmp_path / "a_0.npz", replace(fit, energies={"pose": 1.0}, quality=fit.quality | {"odd": np.nan})
    )
    later = ("distortion", "name", "label_source", "keypoints_cam", "open_limbs", "runner_up")
    with np.load(run / "out" / "a_1.npz") as file:
        old = {key: file[key] for key in file.files if key not in later}
    np.savez(tmp_path / "b_0.npz", **old)  # not compressed
    loaded = load_fits(tmp_path)
    assert loaded.name.tolist() == ["a", ""] and loaded.distortion.tolist() == [(), ()]
    assert loaded.label_source.tolist() == ["none", "none"]
    assert loaded.runner_up[0].tolist() == list(range(85)) and np.isnan(loaded.runner_up[1]).all()
    assert np.isnan(loaded.keypoints_cam[1]).all() and np.isfinite(loaded.keypoints_cam[0]).all()
    assert np.isnan(loaded.energies["keypoints"][0]) and np.isnan(loaded.quality["odd"]).all()
    np.savez(tmp_path / "c_0.npz", **old | {"betas": np.zeros(16, np.float32)})
    with pytest.raises(ValueError, match=r"c_0.npz: expected betas \[10\] as of the others, got \[16\]"):
        load_fits(tmp_path)
    whole = (tmp_path / "b_0.npz").read_bytes()
    for content, said in ((whole[:-99], "no zip file"), (damaged(tmp_path / "b_0.npz"), "a damaged pose")):
        (tmp_path / "c_0.npz").write_bytes(content)
        with pytest.raises(ValueError, match=f"c_0.npz: expected a fit as written by fit.py .* got: {said}"):
            load_fits(tmp_path)


def damaged(path: Path) -> bytes:
    """A zip's bytes with one of its pose's changed."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        place = file.getinfo("pose.npy").header_offset
    data[place + 300] ^= 1
    return bytes(data)


def test_vertices_need_the_body_that_was_fitted(run, toy_body):
    fit = load_fit(run / "out" / "a_0.npz")
    assert fit.vertices_cam is None
    with pytest.raises(
        ValueError, match="expected the fits' body 'open_body .*', got 'toy'; give it: load_body"
    ):
        fit.posed(toy_body)
    with pytest.raises(ValueError, match="expected the fits' body"):
        load_fits(run / "out").vertices_cam(toy_body)
    np.testing.assert_array_equal(
        fit.posed(fitter.load_body(OPEN_BODY)).vertices_cam, fit.posed().vertices_cam
    )


def test_keypoints_that_lie_in_the_photo_but_beside_everybody_are_doubted(quick):
    """A copy of another size or the photo's mirror image: they fit a body perfectly."""
    photo = ROOT / "examples" / "photos" / "skier.jpg"
    person = Detector()(np.asarray(Image.open(photo)))[0]
    known = person.keypoints_px
    assert quick(photo, keypoints=known)[0].valid
    for wrong in (known * [0.5, 0.5, 1], known * [0.7, 0.7, 1], known * [-1, 1, 1] + [640, 0, 0]):
        (fit,) = quick(photo, keypoints=wrong)
        assert not fit.valid and any(
            "nobody's keypoints are where the detector sees" in one for one in fit.reasons
        )
