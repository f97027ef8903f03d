"""fitter/see/rig.py: calibrations as EasyMocap, Pose2Sim and others write them; whose photo is which; errors."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fitter.see.photos import Photo
from fitter.see.rig import instants, read_rig, up_of

K = [[900.0, 0, 320], [0, 900, 240], [0, 0, 1]]


def looking_at_origin(azimuth_deg, distance_m=4.0, up=(0, 0, 1)):
    """Rotation and translation of a level camera that looks at the world's origin, in a world with z up."""
    a = np.radians(azimuth_deg)
    forward = -np.array([np.cos(a), np.sin(a), 0])
    down = -np.array(up, float)
    rotation = np.stack([np.cross(down, forward), down, forward])
    return rotation, np.array([0, 0, distance_m])


def as_json(path, count=3, **change):
    cameras = {}
    for number in range(count):
        rotation, shift = looking_at_origin(120 * number)
        cameras[f"cam{number + 1}"] = {"K": K, "R": rotation.tolist(), "t": shift.tolist(), **change}
    path.write_text(json.dumps(cameras))
    return path


def test_cameras_by_name(tmp_path):
    rig = read_rig(as_json(tmp_path / "cameras.json"))
    assert list(rig.cameras) == ["cam1", "cam2", "cam3"] and rig.up.tolist() == [0, 0, 1]
    for camera in rig.cameras.values():
        np.testing.assert_allclose(camera.tilt, 0, atol=1e-9)  # level
        np.testing.assert_allclose(camera.rotation.T @ -camera.translation_m @ [0, 0, 1], 0, atol=1e-9)


def test_pose2sims_toml_and_easymocaps_folder_say_the_same(tmp_path):
    pytest.importorskip("tomllib")
    toml, intri, extri = [], ["%YAML:1.0", "---", 'names: ["1", "2"]'], ["%YAML:1.0", "---"]
    for number in (1, 2):
        rotation, shift = looking_at_origin(90 * number)
        vector = cv2.Rodrigues(rotation)[0].reshape(3).tolist()
        toml += [f"[cam_{number}]", f"matrix = {K}", f"rotation = {vector}", f"translation = {shift.tolist()}",
                 "size = [640.0, 480.0]", "distortions = [0.0, 0.0, 0.0, 0.0]"]  # fmt: skip

        def matrix(rows, columns, values):
            return f"!!opencv-matrix\n  rows: {rows}\n  cols: {columns}\n  dt: d\n  data: {list(values)}"

        intri.append(f"K_{number}: {matrix(3, 3, np.ravel(K).tolist())}")
        extri.append(f"R_{number}: {matrix(3, 1, vector)}")
        extri.append(f"T_{number}: {matrix(3, 1, shift.tolist())}")
    (tmp_path / "Calib.toml").write_text("\n".join([*toml, "[metadata]", "adjusted = false"]))
    folder = tmp_path / "easymocap"
    folder.mkdir()
    (folder / "intri.yml").write_text("\n".join(intri))
    (folder / "extri.yml").write_text("\n".join(extri))
    one, other = read_rig(tmp_path / "Calib.toml"), read_rig(folder)
    assert list(one.cameras) == ["cam_1", "cam_2"] and list(other.cameras) == ["1", "2"]
    for a, b in zip(one.cameras.values(), other.cameras.values(), strict=True):
        np.testing.assert_allclose(a.rotation, b.rotation, atol=1e-9)
        np.testing.assert_allclose(a.translation_m, b.translation_m)


@pytest.mark.parametrize(
    "image, place",
    [
        ("cam1/0007.jpg", ("cam1", "0007")),
        ("run/Cam_01/images/0007.jpg", ("cam1", "run/images/0007")),
        ("cam2_0007.png", ("cam2", "0007")),
        ("run/0007-cam3.png", ("cam3", "run/0007")),
        ("run/cam1/cam1_0007.png", ("cam1", "run/0007")),
    ],
)
def test_a_photo_names_its_camera(tmp_path, image, place):
    assert read_rig(as_json(tmp_path / "cameras.json")).place_of(image) == place


def test_photos_of_an_instant_come_together(tmp_path):
    rig = read_rig(as_json(tmp_path / "cameras.json"))
    photos = [Photo(Path(name), name, name[:-4]) for name in ("cam1/1.png", "cam1/2.png", "cam2/2.png")]
    assert {at: [p.image for p in own] for at, own in instants(photos, rig).items()} == {
        "1": ["cam1/1.png"],
        "2": ["cam1/2.png", "cam2/2.png"],
    }
    with pytest.raises(
        ValueError, match=r"with one name at one moment, .* got none, but cam1/2.png and cam2/9.png"
    ):
        instants([*photos[:2], Photo(Path("x"), "cam2/9.png", "x")], rig)
    with pytest.raises(ValueError, match=r"one photo of camera cam1 at 1, got cam1/1.png and cam1_1.png"):
        instants([*photos, Photo(Path("x"), "cam1_1.png", "x")], rig)
    with pytest.raises(
        ValueError, match=r"expected camera9/1.png in a folder called as a camera .* names none"
    ):
        rig.place_of("camera9/1.png")


def test_cameras_that_are_numbers_are_not_mistaken_for_frames(tmp_path):
    path = as_json(tmp_path / "cameras.json")
    path.write_text(path.read_text().replace("cam", ""))
    assert read_rig(path).place_of("2/frame_000001.jpg") == ("2", "frame_000001")
    assert read_rig(path).place_of("1_000001.jpg") == ("1", "000001")
    with pytest.raises(ValueError, match="it may be of 1 or 2"):
        read_rig(path).place_of("2_000001.jpg")


def test_up_is_the_worlds_axis_or_what_cameras_say():
    rotations = [looking_at_origin(a)[0] for a in (0, 120, 240)]
    assert up_of(rotations).tolist() == [0, 0, 1]
    turned = cv2.Rodrigues(np.array([np.radians(45), 0, 0]))[0]  # a world that stands on its edge
    np.testing.assert_allclose(up_of([one @ turned for one in rotations]), turned.T @ [0, 0, 1], atol=1e-9)


@pytest.mark.parametrize(
    "change, error",
    [
        ({"t": [0, 0, 1]}, None),
        ({"R": (2 * np.eye(3)).tolist()}, "camera cam1: .* an R that is no rotation"),
        ({"R": None, "t": None}, "camera cam1: expected R .* and t of each camera"),
        ({"R": np.eye(3).tolist()}, "cameras some metres apart, got 0; all have one place"),
    ],
)
def test_what_cannot_be_is_said(tmp_path, change, error):
    path = as_json(tmp_path / "cameras.json", **change)
    if error is None:
        assert len(read_rig(path).cameras) == 3
        return
    with pytest.raises(ValueError, match=error):
        read_rig(path)


def test_millimetres_and_single_cameras_are_refused(tmp_path):
    data = json.loads(as_json(tmp_path / "cameras.json").read_text())
    far = {name: camera | {"t": [0, 0, 4000]} for name, camera in data.items()}
    (tmp_path / "mm.json").write_text(json.dumps(far))
    with pytest.raises(ValueError, match="divide translations in millimetres by 1000"):
        read_rig(tmp_path / "mm.json")
    (tmp_path / "intri.yml").write_text("K_1: 1\nK_2: 1")
    (tmp_path / "extri.yml").write_text("T_1: 1\nT_02: 1")
    with pytest.raises(ValueError, match="the same cameras in intri.yml and extri.yml, got 1, 2 and 02, 1"):
        read_rig(tmp_path)
    for name in ("intri.yml", "extri.yml"):
        (tmp_path / name).unlink()
    (tmp_path / "one.json").write_text(json.dumps({"cam1": data["cam1"]}))
    with pytest.raises(ValueError, match="expected two cameras or more by name"):
        read_rig(tmp_path / "one.json")
    with pytest.raises(FileNotFoundError, match="found no intri.yml and no extri.yml"):
        read_rig(tmp_path)
