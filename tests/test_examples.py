"""The scripts of examples/ do what they say: each is run as a user runs it."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from test_run import SIZE, keypoints  # noqa: F401

from fitter import load_fit
from fitter.see.camera import default_camera

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments, **more):
    return runpy.run_path(str(EXAMPLES / name))["main"](*map(str, arguments), **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory, request) -> Path:
    """photos/ of three grey pictures with keypoints/, and out/ of examples/dataset_export.py."""
    from PIL import Image

    folder, points = tmp_path_factory.mktemp("examples"), request.getfixturevalue("keypoints")
    (folder / "photos").mkdir(), (folder / "keypoints").mkdir()
    for at, name in enumerate("abc"):
        Image.new("RGB", SIZE, "gray").save(folder / "photos" / f"{name}.png")
        people = [{"pose_keypoints_2d": (points + [7 * at, 0, 0]).ravel().tolist()}]
        (folder / "keypoints" / f"{name}.json").write_text(json.dumps({"people": people}))
    more = ["--keypoints", folder / "keypoints", "--parser", "none", "--optimisation.starts", 1, "--jobs", 1]
    run("dataset_export.py", folder / "photos", folder / "out", *more, "--save-mesh", "glb")
    return folder


def test_every_script_is_tested():
    tested = re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text())
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(tested)


def test_own_keypoints(capsys):
    run("own_keypoints.py")
    first, knee = capsys.readouterr().out.splitlines()
    assert first.startswith("person 0: valid True") and float(first.split()[-2]) < 3
    assert 10 < float(knee.split()[-1]) < 120  # bent, as skiers' are


def test_own_camera(capsys):
    run("own_camera.py")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("(")[1].split(")")[0] for line in lines] == ["default", "user", "user"]
    depths = [float(line.split()[-2]) for line in lines]
    assert depths[1] / depths[0] == pytest.approx(1200 / 768, rel=0.05)  # as large in the picture, so farther


def test_dataset_export(made, capsys):
    with np.load(made / "out" / "export" / "spin.npz") as dataset:
        assert dataset["imgname"].tolist() == ["a.png", "b.png", "c.png"] and dataset["pose"].shape == (3, 72)
    with pytest.raises(SystemExit):
        run("dataset_export.py", made / "nowhere", made / "other")
    assert "nowhere" in capsys.readouterr().err


def test_train_on_fits(made, capsys):
    assert run("train_on_fits.py", made / "out") < 30
    said = capsys.readouterr().out.splitlines()
    assert said[-1].endswith("on 3 people") and float(said[0].split()[2]) > 100


def test_blender_import(made, capsys, monkeypatch):
    """Up to Blender itself: what it is told puts every vertex where the photo's camera sees it."""
    monkeypatch.setitem(sys.modules, "bpy", None)
    run("blender_import.py", made / "out", "a", made / "photos" / "a.png")
    said = capsys.readouterr().out
    assert said.startswith("1 files, lens 45.0 mm") and "not in Blender" in said
    scene = runpy.run_path(str(EXAMPLES / "blender_import.py"))["scene_of"](str(made / "out"), "a")
    vertices = trimesh.load(scene["meshes"][0], force="mesh").vertices  # Y up; the camera looks along -Z
    width, height = scene["size_px"]
    px = vertices[:, :2] * [1, -1] / -vertices[:, 2:] * scene["lens_mm"] / 36 * width + [
        width / 2,
        height / 2,
    ]
    fit = load_fit(made / "out" / "a_0.npz").posed()
    camera = default_camera(*SIZE)
    expected = fit.vertices_cam[:, :2] / fit.vertices_cam[:, 2:] * camera.focal_px + camera.center_px
    np.testing.assert_allclose(np.sort(px, 0), np.sort(expected, 0), atol=0.01)
    with pytest.raises(SystemExit, match="expected nobody_<person>.npz and .glb"):
        run("blender_import.py", made / "out", "nobody")


@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/blender.md"])
def test_what_the_pages_show_runs(made, page, tmp_path, monkeypatch):
    """A page's Python blocks, one after the other, with a photo and a run where they say."""
    shutil.copy(EXAMPLES / "photos" / "skier.jpg", tmp_path / "photo.jpg")
    (tmp_path / "out").symlink_to(made / "out")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (EXAMPLES.parent / page).read_text(), re.S)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    if page == "README.md":
        drawn, photo = (cv2.imread(name).astype(int) for name in ("drawn.png", "photo.jpg"))
        y, x = np.nonzero(np.abs(drawn - photo).sum(2) > 30)
        x0, y0, x1, y1 = names["fit"].box_px
        assert len(y) > 5000 and x0 - 60 < x.min() and x.max() < x1 + 60 and y0 - 60 < y.min()
        assert names["vertices_cam"].shape[0] == len(names["fits"]) == 3
    elif page == "docs/blender.md":
        assert len(trimesh.load(tmp_path / "moving.glb").geometry) == 1
        assert "Frames: 48" in (tmp_path / "a.bvh").read_text()
    else:
        assert len(blocks) == 4 and names["dressed"].label_source == "given"
        np.testing.assert_allclose(names["fit"].vertices_cam, names["vertices"][0], atol=1e-5)
