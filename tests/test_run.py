"""fit.py as a user runs it: files in, files out, trouble named, and a stopped run that goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fitter import method, pipeline
from fitter.body.model import OPEN_BODY, load_body
from fitter.cli import main
from fitter.label.label_files import UNKNOWN, read_labels
from fitter.see.camera import default_camera, project_points
from fitter.see.detect import Detector
from fitter.see.keypoint_files import find_keypoints
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import BODY_25
from fitter.write.export import export_fits
from fitter.write.layout import CAPTION_PX, PANEL_PX, WIDEST_PX
from fitter.write.result import load_fit, save_fit
from priors.skeleton import JOINT_NAMES
from regressor.config import Source
from regressor.data import load_people

SIZE = (320, 240)
ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "configs").glob("*.yaml"))
FIT_PRESETS = [
    p for p in PRESETS if not {"data:", "validation:"} & set(p.read_text().split())
]  # not train.py's


@pytest.fixture(scope="module")
def keypoints():
    """A standing open body, 3 m away, as OpenPose would write it."""
    body = load_body(dtype=torch.float64)
    pose = torch.zeros(1, 72, dtype=torch.float64)
    pose[0, [50, 53]] = torch.tensor([-1.2, 1.2], dtype=torch.float64)
    points = body.points(body(torch.zeros(1, 10).double(), pose, with_vertices=False))
    points = points * torch.tensor([1.0, -1, -1]) + torch.tensor([0.1, -0.08, 3.5])
    camera = default_camera(*SIZE)
    focal, center = torch.tensor([camera.focal_px]), torch.tensor([camera.center_px])
    matrix = torch.tensor(body_targets("openpose", *body.joint_layout)[0])
    return np.column_stack([project_points(matrix @ points, focal, center)[0].numpy(), np.ones(25)])


@pytest.fixture
def folder(tmp_path, keypoints):
    """photos/ with one good photo, one damaged, one of nobody, one with bad keypoints; keypoints/"""
    photos, places = tmp_path / "photos", tmp_path / "keypoints"
    photos.mkdir(), places.mkdir()
    for name in ("good", "nobody", "badjson"):
        Image.new("RGB", SIZE, "gray").save(photos / f"{name}.png")
    (photos / "damaged.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    person = {"person_id": [-1], "pose_keypoints_2d": keypoints.reshape(-1).tolist()}
    for name, text in (
        ("good", json.dumps({"people": [person]})),
        ("damaged", json.dumps({"people": [person]})),
        ("nobody", json.dumps({"people": []})),
        ("badjson", "{people"),
    ):
        (places / f"{name}_keypoints.json").write_text(text)
    return tmp_path


def run(folder, *more):
    """fit.py without the parser: what it sees in grey photos is nothing."""
    given = ["--images", folder / "photos", "--keypoints", folder / "keypoints", "--out", folder / "out"]
    return main([str(a) for a in (*given, "--jobs", 1, "--parser", "none", *more)])


def summary(folder):
    return [json.loads(line) for line in (folder / "out" / "summary.jsonl").read_text().splitlines()]


def test_trouble_is_named_and_the_rest_is_fitted(folder, capsys):
    assert run(folder, "--save-mesh", "ply") == 3
    rows = {row["image"]: row for row in summary(folder)}
    assert rows["good.png"]["status"] == "fitted" and rows["good.png"]["valid"], rows["good.png"]
    assert rows["good.png"]["reprojection_pct"] < 1
    reasons = {
        "damaged.jpg": "expected a photo",
        "nobody.png": "nobody found",
        "badjson.png": "expected JSON",
    }
    for name, reason in reasons.items():
        assert rows[name]["status"] == "skipped" and reason in rows[name]["reasons"][0]
    assert "1 people fitted, 0 of them doubtful, 3 photos skipped" in capsys.readouterr().out

    fit = load_fit(folder / "out" / "good_0.npz")
    assert fit.pose.shape == (72,) and fit.betas.shape == (10,) and fit.joints_cam.shape == (24, 3)
    assert json.loads(json.dumps(fit.configuration))["weights"]["keypoints"] == 1.0
    posed = load_body()(*(torch.tensor(getattr(fit, key))[None] for key in ("betas", "pose")))
    np.testing.assert_allclose(posed.joints[0] + fit.transl_cam, fit.joints_cam, atol=1e-4)
    assert Image.open(folder / "out" / "overlays" / "good.jpg").size[1] == PANEL_PX + CAPTION_PX
    assert (folder / "out" / "good_0.ply").stat().st_size > 100_000


def test_a_rigged_mesh_takes_the_place_of_a_plain_one(folder):
    run(folder, "--save-mesh", "glb")
    plain = (folder / "out" / "good_0.glb").read_bytes()
    run(folder, "--save-mesh", "rigged")
    rigged = (folder / "out" / "good_0.glb").read_bytes()
    assert b'"skins"' in rigged and b'"skins"' not in plain and b"left_elbow" in rigged
    run(folder, "--save-mesh", "glb")
    assert (folder / "out" / "good_0.glb").read_bytes() == plain
    assert run(folder, "--save-mesh", "bvh") == 2  # a photo does not move
    run(folder, "--save-mesh", "scene")
    assert (folder / "out" / "good_people.glb").read_bytes() == rigged  # of one person the same
    assert not (folder / "out" / "good_0.glb").exists()


def test_stopped_run_goes_on_and_repeats_bit_for_bit(folder):
    run(folder)
    path = folder / "out" / "good_0.npz"
    first, written = load_fit(path), path.stat().st_mtime_ns
    rows = summary(folder)
    run(folder)
    assert path.stat().st_mtime_ns == written
    assert summary(folder) == rows
    run(folder, "--save-mesh", "obj")  # asked for later: written now, the same fit
    assert (folder / "out" / "good_0.obj").is_file()
    np.testing.assert_array_equal(load_fit(path).pose, first.pose)
    written = path.stat().st_mtime_ns
    run(folder, "--overwrite", "true", "--jobs", "2")
    assert path.stat().st_mtime_ns != written
    again = load_fit(path)
    for key in ("pose", "betas", "transl_cam", "joints_cam"):
        np.testing.assert_array_equal(getattr(again, key), getattr(first, key))
    run(folder, "--weights.shape", "7")
    assert load_fit(path).configuration["weights"]["shape"] == 7


def test_a_photo_alone_is_enough(tmp_path):
    """Detector, parser, DSR fit, with nothing given; begun again from the result, it ends no higher."""
    arguments = [
        "--images",
        str(ROOT / "examples" / "photos" / "skier.jpg"),
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "1",
    ]
    assert main(arguments) == 0
    fit = load_fit(tmp_path / "out" / "skier_0.npz")
    assert fit.keypoint_source == "detector" and fit.valid
    assert {"keypoints", "mc", "c"} <= fit.energies.keys()
    assert 0.3 < fit.quality["parser_confidence"] <= 1
    assert fit.quality["energy"] <= fit.quality["energy_start"]
    assert (
        main([*arguments[:3], str(tmp_path / "again"), "--jobs", "1", "--init", str(tmp_path / "out")]) == 0
    )
    again = load_fit(tmp_path / "again" / "skier_0.npz")
    assert again.quality["energy"] <= fit.quality["energy"] * 1.0001  # float32 parameters in the file
    pose = [(one.joints_cam - one.joints_cam[:1]) for one in (again, fit)]
    assert np.abs(pose[0] - pose[1]).mean() < 0.03


def test_the_people_become_a_dataset(folder, capsys):
    run(folder, "--export", "spin")
    assert "exported 1 of 1 people" in capsys.readouterr().out
    with np.load(folder / "out" / "export" / "spin.npz") as file:
        assert file["pose"].shape == (1, 72) and str(file["imgname"][0]) == "good.png"


def test_one_of_two_labelled_people_can_be_chosen(folder, keypoints):
    beside = keypoints * [0.8, 0.8, 1] + [110, 20, 0]
    people = [{"pose_keypoints_2d": points.reshape(-1).tolist()} for points in (keypoints, beside)]
    (folder / "keypoints" / "good_keypoints.json").write_text(json.dumps({"people": people}))
    (folder / "labels").mkdir()
    Image.fromarray(np.full(SIZE[::-1], 5, np.uint8)).save(folder / "labels" / "good.png")
    run(folder, "--labels", folder / "labels", "--people", "largest")
    assert [row["person"] for row in summary(folder) if row["status"] == "fitted"] == ["0"]
    assert "c" in load_fit(folder / "out" / "good_0.npz").energies


def test_exports_have_each_persons_own_label_map_beside_them_for_training(folder, keypoints, capsys):
    """As the fit used it, a neighbour told apart; without labels, or fitted without an export, none is named."""
    beside = keypoints * [0.5, 0.5, 1] + [190, 60, 0]
    people = [{"pose_keypoints_2d": points.reshape(-1).tolist()} for points in (keypoints, beside)]
    (folder / "keypoints" / "good_keypoints.json").write_text(json.dumps({"people": people}))
    (folder / "labels").mkdir()
    ids, hips = np.zeros(SIZE[::-1], np.uint8), BODY_25.index("MidHip")
    for points, half in ((keypoints, 20), (beside, 10)):
        x, y = points[hips, :2].astype(int)
        ids[y - half : y + half, x - half : x + half] = 5
    Image.fromarray(ids).save(folder / "labels" / "good.png")
    data = Source(
        "toy", str(folder / "out/export/spin.npz"), str(folder / "photos"), str(folder / "out/export/labels")
    )
    run(folder, "--labels", folder / "labels")
    run(folder, "--labels", folder / "labels", "--export", "spin", "--rejection", "none")
    assert "kept 1" in capsys.readouterr().out and load_people(replace(data, labels=None)).labels == (
        None,
        None,
    )
    run(
        folder,
        "--labels",
        folder / "labels",
        "--export",
        "spin",
        "--rejection",
        "none",
        "--overwrite",
        "true",
    )
    assert "label maps of 2 of them: " in capsys.readouterr().out
    for fmt in ("spin.npz", "eft.json"):
        export_fits(folder / "out", folder / "photos", fmt.split(".")[0], "none")
        labels = load_people(replace(data, file=str(folder / "out" / "export" / fmt))).labels
        assert labels == tuple(folder / "out/export/labels" / f"good_{n}.png" for n in range(2))
    # where the one behind is seen, the one in front is not; who is hidden by the one in front, nobody knows
    for path, mine, other, said in zip(
        labels, (keypoints, beside), (beside, keypoints), (0, UNKNOWN), strict=True
    ):
        own = read_labels(path)
        values = [own[int(points[hips, 1]), int(points[hips, 0])] for points in (mine, other)]
        assert values == [5, said] and own.shape == SIZE[::-1]


def test_labels_turn_the_dsr_terms_on(folder):
    """Image-wide ids for one person; a palette map would do as well."""
    (folder / "labels").mkdir()
    ids = np.zeros(SIZE[::-1], np.uint8)
    x, y = (load_keypoints(folder)[[0, 8], k] for k in (0, 1))
    ids[int(y[0]) - 12 : int(y[0]) + 12, int(x[0]) - 9 : int(x[0]) + 9] = 13
    ids[int(y[0]) + 12 : int(y[1]), int(x[1]) - 22 : int(x[1]) + 22] = 5
    Image.fromarray(ids).save(folder / "labels" / "good.png")
    run(folder, "--labels", folder / "labels")
    fit = load_fit(folder / "out" / "good_0.npz")
    assert fit.energies["mc"] > 0 and fit.energies["c"] > 0
    height = Image.open(folder / "out" / "overlays" / "good.jpg").size[1]
    run(folder, "--out", folder / "plain")
    assert "mc" not in load_fit(folder / "plain" / "good_0.npz").energies
    assert Image.open(folder / "plain" / "overlays" / "good.jpg").size[1] < height


def test_four_joints_and_the_means_of_them_are_no_valid_fit(one, keypoints):
    from fitter.see.keypoints import BODY_25, OPENPOSE_COCO_18

    seen = np.zeros((18, 3))
    for name in ("LShoulder", "RShoulder", "LHip", "RHip"):
        seen[OPENPOSE_COCO_18.index(name)] = keypoints[BODY_25.index(name)]
    place(one, "good.png", seen)
    assert cheap(one) == 0
    fit = load_fit(one / "out" / "good_0.npz")
    assert not fit.valid and fit.quality["keypoints_confident"] == 4
    assert "4 confident keypoints < 6" in fit.reasons


def test_who_is_a_few_px_large_or_hundreds_of_metres_away_is_not_valid(one, keypoints, capsys):
    far = keypoints * [0.03, 0.03, 1] + [100, 100, 0]
    place(one, "good.png", far)
    assert cheap(one, "--limits.max_distance_m", 50) == 0
    row = summary(one)[0]
    assert not row["valid"] and row["size_px"] < 16 and row["distance_m"] > 50
    assert any("px large < 16" in reason for reason in row["reasons"])
    assert any("m away > 50" in reason for reason in row["reasons"])
    place(one, "good.png", keypoints * [3, 3, 1])
    assert cheap(one) == 3
    assert "beyond its edges" in capsys.readouterr().out


def test_a_second_person_of_one_keypoint_costs_nobody_else(one, keypoints):
    few = keypoints * (np.arange(25) == 4)[:, None]
    people = [{"pose_keypoints_2d": points.reshape(-1).tolist()} for points in (keypoints, few, few * 0)]
    (one / "keypoints" / "good_keypoints.json").write_text(json.dumps({"people": people}))
    assert cheap(one) == 0
    rows = summary(one)
    assert [row["status"] for row in rows] == ["fitted", "refused", "refused"]
    assert sorted(row["reasons"][0].rpartition(": ")[2] for row in rows[1:]) == [
        "1 keypoint, expected 2 or more", "no keypoint"
    ]  # fmt: skip


def test_keypoints_in_ones_own_order(one, keypoints, capsys):
    from fitter.see.keypoints import BODY_25

    names = BODY_25[:15]
    place(one, "good.png", keypoints[:15][::-1])
    order = one / "order.yaml"
    order.write_text("\n".join(f"- {name}" for name in reversed(names)))
    assert cheap(one) == 3
    assert (
        "15 keypoints, expected 18, 25; say which is which with --keypoint-names" in capsys.readouterr().out
    )
    assert cheap(one, "--keypoint-names", order) == 0
    assert load_fit(one / "out" / "good_0.npz").quality["reprojection_pct"] < 1
    order.write_text("\n".join(f"- {name}" for name in names[::2] + names[1::2]))
    assert cheap(one, "--keypoint-names", order) == 3  # another content of the same name: read again
    assert "do not make a body in the order" in capsys.readouterr().out


def load_keypoints(folder) -> np.ndarray:
    people = json.loads((folder / "keypoints" / "good_keypoints.json").read_text())["people"]
    return np.reshape(people[0]["pose_keypoints_2d"], (25, 3))


def test_wrong_use_is_refused(folder, capsys):
    assert main(["--images", str(folder / "nothing")]) == 2
    assert "expected a photo or a folder" in capsys.readouterr().err
    assert run(folder, "--body", folder / "SMPL.pkl") == 2
    assert "smpl.is.tue.mpg.de" in capsys.readouterr().err
    assert run(folder, "--weights.shap", "1") == 2
    assert "--weights.shap: did you mean --weights.shape?" in capsys.readouterr().err


@pytest.mark.parametrize("preset", FIT_PRESETS, ids=lambda p: p.stem)
def test_presets_are_understood(preset, tmp_path, capsys):
    assert main(["--config", str(preset), "--images", str(tmp_path)]) == 2
    assert "expected a photo or a folder" in capsys.readouterr().err  # it came as far as the photos


CHEAP = ("--overlay", "false", "--optimisation.starts", "1", "--optimisation.yaws", "[0.0]")


def cheap(folder, *more):
    """`run` with one start."""
    return run(folder, *CHEAP, *more)


@pytest.fixture
def one(folder):
    """The good photo alone."""
    for name in ("nobody.png", "badjson.png", "damaged.jpg"):
        (folder / "photos" / name).unlink()
    return folder


def place(folder, name, keypoints, grey=128):
    """A photo and its keypoints in folders of folders."""
    for path in (folder / "photos" / name, folder / "keypoints" / name):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (grey,) * 3).save(folder / "photos" / name)
    person = {"pose_keypoints_2d": keypoints.reshape(-1).tolist()}
    notes = (folder / "keypoints" / name).with_name(f"{Path(name).stem}_keypoints.json")
    notes.write_text(json.dumps({"people": [person]}))


def counted(capsys) -> str:
    """What the last run says that it did."""
    return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("kept "))


def test_what_was_read_again_is_fitted_again_and_nothing_else(one, keypoints, capsys):
    labels = one / "labels"
    labels.mkdir()
    ids = np.full(SIZE[::-1], 5, np.uint8)
    Image.fromarray(ids).save(labels / "good.png")
    body = one / "body.npz"
    body.write_bytes(OPEN_BODY.read_bytes())
    stages = ("--optimisation.stages", '[{"name": "pose", "steps": 5}]')  # labels are read, not rendered
    given = ("--labels", labels, "--body", body, *stages)
    cheap(one, *given)
    assert counted(capsys) == "kept 0, fitted 1"
    cheap(one, *given)
    assert counted(capsys) == "kept 1, fitted 0"
    place(one, "good.png", keypoints + [2, 0, 0])
    cheap(one, *given)
    assert counted(capsys) == "kept 0, fitted 1 (1 changed)"
    Image.fromarray(np.roll(ids, 1)[::-1] // 2).save(labels / "good.png")
    cheap(one, *given)
    assert counted(capsys) == "kept 0, fitted 1 (1 changed)"
    with np.load(body) as file:
        np.savez(body, **{**file, "v_template": file["v_template"] * 1.01})
    cheap(one, *given)
    assert counted(capsys) == "kept 0, fitted 1 (1 changed)"
    cheap(one, *given)
    assert counted(capsys) == "kept 1, fitted 0"


def test_another_parser_is_another_result(one, capsys):
    """Though neither is a file whose content would say so; the DSR terms are off, for time."""
    off = ("--semantics.mc", "none", "--semantics.c", "none")
    cheap(one, *off)
    counted(capsys)
    cheap(one, *off, "--parser", "shipped")
    assert counted(capsys) == "kept 0, fitted 1 (1 other settings)"


def test_another_folders_photo_of_the_same_name_is_fitted_again(tmp_path, keypoints, capsys):
    for folder, grey in (("A", 100), ("B", 140)):
        place(tmp_path / folder, "skier.png", keypoints + [0, grey / 50, 0], grey)
    for folder in ("A", "B", "B"):
        cheap(tmp_path / folder, "--out", tmp_path / "out")
        said = counted(capsys)
        with np.load(tmp_path / "out" / "skier_0.npz") as file:
            seen = file["observed_px"]
        expected = keypoints[:, 1] + (2 if folder == "A" else 2.8)
        np.testing.assert_allclose(seen[:, 1], expected, atol=1e-3)
    assert said == "kept 1, fitted 0"


def test_nested_folders_and_names_that_collide_have_files_each(tmp_path, keypoints, capsys):
    for number, name in enumerate(("a/x.png", "b/x.png", "b/x.jpg", "x.png")):
        place(tmp_path, name, keypoints, 100 + number)
    assert run(tmp_path, *CHEAP[2:]) == 2
    assert "two that it may be of, b/x.jpg and b/x.png" in capsys.readouterr().err
    both = tmp_path / "keypoints" / "b" / "x_keypoints.json"
    for name in ("x_png", "x_jpg"):
        both.with_name(f"{name}_keypoints.json").write_text(both.read_text())
    assert run(tmp_path, *CHEAP[2:]) == 0
    out = tmp_path / "out"
    expected = {"a/x", "b/x_png", "b/x_jpg", "x"}
    found = {path.relative_to(out).as_posix() for path in out.rglob("*.npz")}
    assert found == {f"{name}_0.npz" for name in expected}
    drawn = {path.relative_to(out / "overlays").as_posix() for path in out.rglob("overlays/**/*.jpg")}
    assert drawn == {f"{name}.jpg" for name in expected}
    assert {row["image"] for row in summary(tmp_path)} == {"a/x.png", "b/x.png", "b/x.jpg", "x.png"}
    assert load_fit(out / "a" / "x_0.npz").name == "a/x"


def test_a_file_in_the_place_of_a_folder_is_refused_in_one_line(one, capsys):
    (one / "file").write_text("no folder")
    assert cheap(one, "--out", one / "file") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and str(one / "file") in lines[0]
    assert (one / "file").read_text() == "no folder"


def test_no_folder_to_begin_from_is_refused_in_one_line(one, capsys):
    assert cheap(one, "--init", one / "nowhere") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and f"init {one / 'nowhere'}: expected a file or folder" in lines[0]
    assert not list((one / "out").rglob("*.npz"))


def fails_for(monkeypatch, step, name, error):
    """A step of the pipeline raises `error` for one photo."""
    real = getattr(pipeline, step)

    def failing(one, *rest):
        if getattr(one, "photo", one).image == name:
            raise error
        return real(one, *rest)

    monkeypatch.setattr(pipeline, step, failing)


@pytest.mark.parametrize("step", ["see", "sightings"])
def test_ctrl_c_stops_without_a_traceback_and_the_run_goes_on_later(
    tmp_path, keypoints, monkeypatch, capsys, step
):
    for name in ("a.png", "b.png"):
        place(tmp_path, name, keypoints)
    with monkeypatch.context() as patch:
        fails_for(patch, step, "b.png", KeyboardInterrupt())
        assert cheap(tmp_path, "--batch", 1) == 130
    said = capsys.readouterr().err
    assert "Traceback" not in said and "the same command goes on where it was" in said
    assert cheap(tmp_path, "--batch", 1) == 0
    assert counted(capsys) == "kept 1, fitted 1"


@pytest.mark.parametrize("step", ["see", "sightings", "write"])
def test_a_fault_of_one_photo_is_told_with_its_traceback_and_its_neighbours_are_fitted(
    tmp_path, keypoints, monkeypatch, capsys, step
):
    names = ("a.png", "b.png", "c.png")
    for name in names:
        place(tmp_path, name, keypoints)
    fails_for(monkeypatch, step, "b.png", KeyError("a fault"))
    assert cheap(tmp_path) == 3
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said and "KeyError: 'a fault'" in said
    rows = {row["image"]: row for row in summary(tmp_path)}
    assert [rows[name]["status"] for name in names] == ["fitted", "skipped", "fitted"]
    assert "KeyError: 'a fault'" in rows["b.png"]["reasons"][0]
    monkeypatch.undo()
    assert cheap(tmp_path) == 0
    assert counted(capsys) == "kept 2, fitted 1 (1 tried again)"


def test_a_photo_that_breaks_the_solve_costs_its_neighbours_nothing(tmp_path, keypoints, monkeypatch, capsys):
    names = ("a.png", "b.png", "c.png")
    for name in names:
        place(tmp_path, name, keypoints)
    real = method.fit_keypoints

    def broken(objective, seen, config, turned=False):
        if any(one.image == "b.png" for one in seen):
            raise RuntimeError("singular")
        return real(objective, seen, config, turned)

    monkeypatch.setattr(method, "fit_keypoints", broken)
    assert cheap(tmp_path) == 3
    rows = {row["image"]: row for row in summary(tmp_path)}
    assert [rows[name]["status"] for name in names] == ["fitted", "skipped", "fitted"]
    assert "singular" in rows["b.png"]["reasons"][0] and "RuntimeError: singular" in capsys.readouterr().err


def test_shards_together_are_a_whole_run_bit_for_bit(folder, keypoints):
    for number in range(3):
        place(folder, f"more/{number}.png", keypoints * [1 - 0.1 * number, 1, 1])
    cheap(folder)
    for shard in ("0/2", "1/2"):
        cheap(folder, "--out", folder / "shards", "--shard", shard)
    texts = [(folder / out / "summary.jsonl").read_text() for out in ("out", "shards")]
    assert texts[0] == texts[1] and len(texts[0].splitlines()) == 7
    files = [
        sorted(path.relative_to(folder / out) for path in (folder / out).rglob("*.npz"))
        for out in ("out", "shards")
    ]
    assert files[0] == files[1] and len(files[0]) == 4
    for file in files[0]:
        fits = [load_fit(folder / out / file) for out in ("out", "shards")]
        for key in ("pose", "betas", "transl_cam", "joints_cam"):
            np.testing.assert_array_equal(getattr(fits[0], key), getattr(fits[1], key))


def test_whom_the_detector_refused_is_in_the_summary(folder, monkeypatch, capsys):
    whom = find_keypoints(folder / "photos" / "good.png", folder / "keypoints")
    reason = "x0 y0 x1 y1 = 1 2 3 4: the same person again"
    monkeypatch.setattr(
        Detector, "find_people", lambda self, image, name="", place_box=None: (whom, [reason])
    )
    given = [
        "--images",
        folder / "photos" / "good.png",
        "--out",
        folder / "seen",
        "--jobs",
        1,
        "--parser",
        "none",
    ]
    assert main([str(word) for word in given]) == 0
    rows = [json.loads(line) for line in (folder / "seen" / "summary.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["fitted", "refused"]
    assert rows[1] == {"image": "good.png", "person": None, "status": "refused", "reasons": [reason]}
    assert rows[0]["outside"] == [] and set(rows[0]["guessed"]) <= set(JOINT_NAMES)
    assert "1 people fitted" in (said := capsys.readouterr().out) and "1 left out: no people" in said


def labelled(one, name="good.png", ids=None, written=None):
    """A folder of one label map: face, upper clothes, pants and shoes where the good photo's person has them."""
    folder = one / "labels"
    folder.mkdir(exist_ok=True)
    if ids is None:
        points = {
            name: point for name, point in zip(BODY_25, load_keypoints(one)[:, :2].astype(int), strict=True)
        }
        ids = np.zeros(SIZE[::-1], np.uint8)
        neck, hip, ankle = (points[name][1] for name in ("Neck", "MidHip", "LAnkle"))
        x0, x1 = points["RWrist"][0] - 8, points["LWrist"][0] + 8
        places = {13: (points["Nose"][1] - 12, neck - 6), 5: (neck - 6, hip + 8), 9: (hip + 8, ankle - 8),
                  18: (ankle - 8, ankle + 12)}  # fmt: skip
        for label, (y0, y1) in places.items():
            ids[y0:y1, x0:x1] = label if written is None else written[label]
    if name.endswith(".npy"):
        np.save(folder / name, ids)
    else:
        Image.fromarray(ids).save(folder / name)
    return ("--labels", folder, "--unknown", "given")


@pytest.mark.parametrize("name", ["good.png", "good_0.png", "good_gray.png", "good.npy", "good_seg.npy"])
def test_the_summary_says_where_labels_keypoints_and_camera_came_from(one, name, capsys):
    assert cheap(one, *labelled(one, name)) == 0
    row = summary(one)[0]
    assert (row["labels"], row["keypoints"], row["camera"]) == (name, "openpose", "default")
    assert row["files"] == {
        "keypoints": [str(one / "keypoints" / "good_keypoints.json")], "labels": [str(one / "labels" / name)]
    }  # fmt: skip
    assert "c" in load_fit(one / "out" / "good_0.npz").energies
    said = capsys.readouterr().out
    assert "labels: 1 people from files, 0 from the parser, 0 none" in said
    assert "overlays" not in said and not (one / "out" / "overlays").exists()


@pytest.mark.parametrize(("value", "nothing"), [(0, "nothing but background"), (255, "all unknown")])
def test_a_map_of_nobody_is_said_and_not_fitted_to(one, value, nothing, capsys):
    assert cheap(one, *labelled(one, ids=np.full(SIZE[::-1], value, np.uint8))) == 0
    assert summary(one)[0]["labels"] == f"none; good.png: {nothing}"
    assert load_fit(one / "out" / "good_0.npz").energies["c"] == 0
    assert (
        f"no labels good.png person 0: good.png: {nothing}; fitted to keypoints alone"
        in capsys.readouterr().out
    )


def test_labels_in_another_order_are_refused_and_read_when_it_is_said(one):
    given = labelled(one, written={13: 11, 5: 4, 9: 6, 18: 9})  # ATR's
    assert cheap(one, *given) == 3
    assert "by the keypoints they look like ATR's: --label-classes atr" in summary(one)[0]["reasons"][0]
    assert cheap(one, *given, "--label-classes", "atr") == 0
    assert summary(one)[0]["status"] == "fitted" and summary(one)[0]["labels"] == "good.png"


def test_labels_that_do_not_suit_the_person_make_the_fit_doubtful(one):
    cheap(one, *labelled(one, ids=np.full(SIZE[::-1], 19, np.uint8)))  # shoes all over
    row = summary(one)[0]
    assert not row["valid"] and "places on labels that are not seen there" in row["reasons"][-1]


@pytest.mark.parametrize(("given", "reason"), [
    ("labels other.png", "labels: expected files named as the photos, as good.png; none of its 1 is, the first"),
    ("labels good.jpg", "expected .png or .npy for good.png, got good.jpg, whose compression changes ids; save"),
    ("ignore other.png", "ignore: expected files named as the photos"),
    ("init other_0.npz", "init: expected results (<photo>_<person>.npz) of these photos, found none; give"),
])  # fmt: skip
def test_folders_with_nothing_for_any_photo_end_the_run_at_once(one, given, reason, capsys):
    setting, file = given.split()
    (one / setting).mkdir()
    if file.endswith("npz"):
        (one / setting / file).touch()
    else:
        Image.new("L", SIZE).save(one / setting / file)
    more = ("--parser", "shipped") if setting == "ignore" else ()
    assert cheap(one, f"--{setting}", one / setting, *more) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and reason in lines[0].replace(f"{setting} {one / setting}", setting)
    assert not (one / "out").exists()


def test_results_of_an_earlier_run_are_named(folder, keypoints, capsys):
    place(folder, "more.png", keypoints)
    cheap(folder)
    (folder / "out" / "export").mkdir()
    capsys.readouterr()
    assert cheap(folder, "--images", folder / "photos" / "more.png") == 0
    said = capsys.readouterr().out
    assert "1 people fitted, 0 of them doubtful, 0 photos skipped" in said
    assert "results of 1 photos of earlier runs stay there" in said and "export is of an earlier run" in said
    assert [(row["image"], row.get("earlier")) for row in summary(folder)] == [
        ("more.png", None),
        ("good.png", True),
    ]


def test_numbers_that_are_not_finite_are_null_in_json_and_come_back(one, tmp_path):
    cheap(one)
    fit = load_fit(one / "out" / "good_0.npz")
    save_fit(
        tmp_path / "x.npz",
        replace(fit, quality=fit.quality | {"reprojection_pct": float("inf"), "x": np.nan}),
    )
    with np.load(tmp_path / "x.npz") as file:
        text = str(file["quality"])
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    back = load_fit(tmp_path / "x.npz").quality
    assert (
        np.isnan(back["x"]) and not back["reprojection_pct"] <= 5 and back["energy"] == fit.quality["energy"]
    )


def test_a_photo_far_wider_than_high_is_drawn(folder, keypoints):
    photos = folder / "wide"
    photos.mkdir()
    Image.new("RGB", (240 * 45, 240), "gray").save(photos / "good.png")
    assert run(folder, "--images", photos) == 0
    with Image.open(folder / "out" / "overlays" / "good.jpg") as picture:
        assert picture.size[1] == PANEL_PX + CAPTION_PX and 2 * WIDEST_PX < picture.size[0] <= 3 * WIDEST_PX


def test_what_was_left_out_or_not_read_is_said(folder, capsys):
    """A camera of larger images with distortion, a photo with an odd EXIF tag, files of another kind."""
    photos = folder / "few"
    photos.mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x920A] = "50 mm"
    for name in ("good.jpg", "._good.jpg", "notes.txt"):
        Image.new("RGB", SIZE, "gray").save(photos / name, "JPEG", exif=exif)
    assert run(folder, "--images", photos, "--overlay", "false") == 0
    out = capsys.readouterr().out
    assert "  noted     good.jpg: EXIF: FocalLength is 50 mm, left out\n" in out
    assert out.endswith(f"1 files not read (1 .txt)\nto look through: {folder / 'out' / 'report.html'}\n")
    plain = load_fit(folder / "out" / "good_0.npz")
    (width, height), focal = SIZE, float(plain.focal_px[0])
    k = {
        "fx": 2 * focal,
        "fy": 2 * focal,
        "cx": width,
        "cy": height,
        "width": 2 * width,
        "height": 2 * height,
    }
    camera = folder / "camera.json"
    camera.write_text(json.dumps({**k, "k1": -0.3, "k2": 0.1}))
    assert run(folder, "--images", photos, "--camera", camera) == 0
    notes = [row["reasons"][0] for row in summary(folder) if row["status"] == "noted"]
    assert notes[0].startswith("camera of 640 x 480 images scaled by 0.5") and "distortion undone" in notes[1]
    fit = load_fit(folder / "out" / "good_0.npz")
    np.testing.assert_allclose(fit.focal_px, plain.focal_px, rtol=1e-5)
    assert fit.distortion == (-0.3, 0.1, 0.0, 0.0, 0.0) and fit.valid
    assert np.abs(fit.observed_px - plain.observed_px).max() > 1  # seen where a pinhole sees them
    assert fit.quality["reprojection_pct"] < 1
    assert (
        run(folder, "--images", photos, "--camera", camera, "--export", "spin") == 2
    )  # whose px are the photo's
    assert (
        "its px are the undistorted photo's, not the photo's: undistort the photos" in capsys.readouterr().err
    )


def test_a_camera_that_no_photo_can_use_ends_the_run_at_once(folder, capsys):
    (folder / "camera.json").write_text("{")
    assert run(folder, "--camera", folder / "camera.json") == 2
    assert "expected a readable .json file" in capsys.readouterr().err
    assert run(folder, "--camera", folder / "keypoints" / "none") == 2
    assert "none: expected a file or folder, found none" in capsys.readouterr().err


def test_a_result_is_kept_by_the_camera_that_was_read(folder):
    cameras = folder / "cameras"
    cameras.mkdir()
    (cameras / "intri.yml").write_text("photos: {fx: 400, fy: 400, cx: 160, cy: 120}")
    path = folder / "out" / "good_0.npz"
    given = (*CHEAP, "--camera", cameras)
    run(folder, *given)
    assert load_fit(path).focal_px[0] == 400
    written = path.stat().st_mtime_ns
    (cameras / "another.yml").write_text("focal_px: 300")
    run(folder, *given)
    assert path.stat().st_mtime_ns == written
    (cameras / "intri.yml").write_text("photos: {fx: 390, fy: 390, cx: 160, cy: 120}")
    run(folder, *given)
    assert load_fit(path).focal_px[0] == 390
