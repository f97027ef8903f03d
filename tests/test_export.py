"""Dataset files, read back by readers written here from each format's description: the body they hold must land in
the photo where the fit said.

The people are real fits by fit.py of one posed body, seen by a camera with two focal lengths and a centre off the
middle, so that what is swapped shows. One of the three has too few keypoints to be valid.
"""

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import toy_arrays
from PIL import Image

from fitter.body.model import OPEN_BODY, load_body
from fitter.body.spin_joints import SPIN_24_OF_SMPL, open_body_name
from fitter.cli import main
from fitter.see.keypoint_targets import body_targets
from fitter.see.visibility import GUESSED, SEEN
from fitter.write.export import FORMATS, export_fits, gender_of
from fitter.write.export_formats import BODY_25_OF_SMPL
from fitter.write.rejection import eft_loss, read_decisions, reason_or_decision, rejection_reason, spin_loss
from fitter.write.result import Fit, fit_id, load_fit, save_fit
from priors.skeleton import JOINT_NAMES

SIZE = (320, 240)
FOCAL_PX, CENTER_PX = np.array([390.0, 410.0]), np.array([150.0, 128.0])
LIMBS = ("Elbow", "Wrist")  # where the open body's joints and the keypoints are the same points
LEGS = ("Knee", "Ankle")  # whose keypoints lie between these two joints
R_ANKLE, L_ANKLE, R_WRIST, L_WRIST, PELVIS = 0, 5, 6, 11, 14  # of SPIN's 24


def camera_px(points_cam, focal_px=FOCAL_PX, center_px=CENTER_PX):
    return points_cam[..., :2] / points_cam[..., 2:] * focal_px + center_px


def pose_body(pose, betas) -> np.ndarray:
    """[72], [10] -> [35, 3] joints and landmarks of the open body, as a reader would, in float64."""
    body = load_body(dtype=torch.float64)
    given = (torch.tensor(np.asarray(array, np.float64))[None] for array in (betas, pose))
    with torch.no_grad():
        return body.points(body(*given, with_vertices=False))[0].numpy()


def spin_pelvis_cam(fit) -> np.ndarray:
    """[3] m: the first row of the body file's Human3.6M regressor, on the posed surface."""
    with np.load(OPEN_BODY) as file:
        regressor = file["J_regressor_h36m"]
    given = (torch.tensor(np.asarray(getattr(fit, name), np.float64))[None] for name in ("betas", "pose"))
    with torch.no_grad():
        vertices = load_body(dtype=torch.float64)(*given).vertices[0].numpy()
    return regressor[0] @ vertices + fit.transl_cam


def seen_as_keypoints(points_cam) -> np.ndarray:
    """[35, 3] -> [25, 2] px by the fitter's own definition of keypoints: what a fit calls keypoints_px."""
    matrix = body_targets("openpose", *load_body(dtype=torch.float64).joint_layout)[0]
    return camera_px(matrix @ points_cam)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """photos/ and out/: a.png with a person who waves with the right arm and one of whom four keypoints are seen, b.png
    with a third."""
    folder = tmp_path_factory.mktemp("export")
    for name in ("photos", "keypoints", "cameras"):
        (folder / name).mkdir()
    pose = np.zeros(72)
    pose[[50, 53]], pose[:3] = [-1.2, 0.7], [np.pi, 0, 0]
    points = pose_body(pose, np.zeros(10))
    whole = [
        np.column_stack([seen_as_keypoints(points + place), np.ones(25)])
        for place in ([-0.6, -0.1, 3.6], [0.5, 0.1, 4.0], [0.1, 0, 3.5])
    ]
    whole[1][[n for n in range(25) if n not in (2, 5, 9, 12)]] = 0
    for name, people in (("a", whole[:2]), ("b", whole[2:])):
        Image.new("RGB", SIZE, "gray").save(folder / "photos" / f"{name}.png")
        data = {
            "people": [{"person_id": [-1], "pose_keypoints_2d": one.reshape(-1).tolist()} for one in people]
        }
        (folder / "keypoints" / f"{name}_keypoints.json").write_text(json.dumps(data))
        camera = {"focal_px": FOCAL_PX.tolist(), "center_px": CENTER_PX.tolist()}
        (folder / "cameras" / f"{name}.json").write_text(json.dumps(camera))
    given = {"images": "photos", "keypoints": "keypoints", "camera": "cameras", "out": "out"}
    words = [word for name, where in given.items() for word in (f"--{name}", str(folder / where))]
    with redirect_stdout(StringIO()) as said:
        assert main([*words, "--jobs", "1", "--parser", "none", "--overlay", "false"]) == 0
    assert "out: *.npz, summary.jsonl" in said.getvalue()  # no overlays
    return folder


@pytest.fixture(scope="module")
def fits(folder):
    """The two valid fits, in the order in which they are exported."""
    return [load_fit(folder / "out" / f"{name}.npz") for name in ("a_0", "b_0")]


def exported(folder, fmt, **more):
    return export_fits(folder / "out", folder / "photos", fmt, **more)


def read_npz(path):
    """As readers do that take no pickle."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def crop(fit):
    """SPIN's square crop by its rule: 1.2 times the longer side of the confident keypoints' extent."""
    seen = fit.observed_px[fit.observed_px[:, 2] > 0.3, :2]
    low, high = seen.min(0), seen.max(0)
    return (low + high) / 2, 1.2 * (high - low).max()


def decisions_of(folder, **by_name) -> str:
    """A report's decisions.json about a_0, a_1, b_0."""
    rows = [
        {"name": name, "fit": fit_id(load_fit(folder / "out" / f"{name}.npz")), "decision": decision}
        for name, decision in by_name.items()
    ]
    path = folder / "decisions.json"
    path.write_text(json.dumps({"run": "", "decisions": rows}))
    return str(path)


def test_decisions_of_the_report_go_before_the_rejection(folder, fits, capsys):
    """a_1 is not valid and was accepted, a_0 is valid and was rejected, of b_0 the rule decides."""
    path = decisions_of(folder, a_0="reject", a_1="accept")
    rows = read_npz(exported(folder, "bedlam", decisions=path))
    assert rows["imgname"].tolist() == ["a.png", "b.png"]
    fit = load_fit(folder / "out" / "a_1.npz")
    np.testing.assert_allclose(rows["pose_cam"][0], fit.pose, atol=1e-6)
    assert "  a_0: rejected in the report" in capsys.readouterr().out
    decided = read_decisions(path)
    refitted = replace(fits[0], betas=fits[0].betas + 0.1)
    assert reason_or_decision(refitted, "valid", decided) == ""  # nobody has looked at this one
    spoilt = replace(fits[0], pose=np.full(72, np.nan))
    assert reason_or_decision(spoilt, "valid", {fit_id(spoilt): "accept"}) == "numbers that are not finite"


def test_decisions_about_other_fits_are_said(folder, capsys):
    path = Path(decisions_of(folder, a_0="accept"))
    path.write_text(path.read_text().replace(read_decisions(path).popitem()[0], "0123456789abcdef"))
    assert read_npz(exported(folder, "bedlam", decisions=path))["imgname"].tolist() == ["a.png", "b.png"]
    assert "  1 of 1 decisions are about other fits than these" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "said"), [
    ("[]", r"expected \{decisions: \[\{name, fit, decision\}, ...\]\} as report.html downloads it, got something else"),
    ('{"decisions": [{"fit": "a", "decision": "maybe"}]}', "expected accept or reject, got 'maybe'"),
])  # fmt: skip
def test_what_are_no_decisions_is_said(text, said, tmp_path):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_decisions(tmp_path / "d.json")


def test_fit_writes_the_report_and_reads_its_decisions(folder, capsys):
    """The same command as the fixture's, whose fits are kept; and the page without overlays."""
    given = {"images": "photos", "keypoints": "keypoints", "camera": "cameras", "out": "out"}
    words = [word for name, where in given.items() for word in (f"--{name}", str(folder / where))]
    words += ["--jobs", "1", "--parser", "none", "--overlay", "false"]
    assert (folder / "out" / "report.html").is_file()
    (folder / "out" / "report.html").unlink()
    decided = ["--export", "spin", "--decisions", decisions_of(folder, b_0="reject")]
    assert main([*words, "--report", "false", *decided]) == 0
    assert "kept 2, fitted 0" in capsys.readouterr().out and not (folder / "out" / "report.html").exists()
    assert read_npz(folder / "out" / "export" / "spin.npz")["imgname"].tolist() == ["a.png"]
    assert main([*words, "--export", "spin", "--decisions", str(folder / "no.json")]) == 2
    assert "no.json: expected the report's decisions.json, found no file" in capsys.readouterr().err


def test_rejected_people_are_left_out_and_counted(folder, capsys):
    exported(folder, "spin")
    printed = capsys.readouterr().out
    assert "exported 2 of 3 people to " in printed and "; 1 left out" in printed
    assert "a_1: 4 confident keypoints < 6" in printed
    assert "NOT SMPL" in printed and "camera is not centred" in printed
    for rejection, names in (
        ("none", ["a.png", "a.png", "b.png"]),
        ("4dhumans", ["a.png", "a.png", "b.png"]),
        ("camsmplify", ["a.png", "b.png"]),
    ):
        path = exported(folder, "spin", rejection=rejection, out=folder / "sets" / f"{rejection}.npz")
        assert read_npz(path)["imgname"].tolist() == names
        assert len(np.load(folder / "sets" / f"{rejection}_fits.npy")) == len(names)


def test_losses_by_hand(fits):
    """Everything off by a tenth of the crop's side in x."""
    side = crop(fits[0])[1]
    fit = replace(fits[0], keypoints_px=fits[0].observed_px[:, :2] + np.array([0.1 * side, 0]))
    squared = 22.4**2
    assert spin_loss(fit) == pytest.approx(22 / 25 * 1e4 * squared / (1e4 + squared), rel=1e-4)
    assert eft_loss(fit) == pytest.approx(13 * 0.2**2 / 98, rel=1e-4)
    half = replace(fit, observed_px=fit.observed_px * [1, 1, 0.5])
    assert spin_loss(half) == pytest.approx(spin_loss(fit) / 4)
    assert eft_loss(half) == pytest.approx(eft_loss(fit) / 2)


def test_means_of_keypoints_do_not_count_as_keypoints(fits):
    """Four joints and the two that are made of them are four; the loss leaves those two out as well."""
    observed = fits[0].observed_px * [1, 1, 0]
    observed[[1, 2, 5, 8, 9, 12], 2] = 1  # shoulders, hips, and the means of each
    fit = replace(fits[0], observed_px=observed, derived=("Neck", "MidHip"))
    assert rejection_reason(fit, "camsmplify") == "4 confident keypoints < 8"
    assert rejection_reason(fit, "4dhumans") == ""
    three = replace(fit, observed_px=observed * (np.arange(25) != 2)[:, None])
    assert rejection_reason(three, "4dhumans") == "3 confident keypoints < 4"
    off = replace(fit, keypoints_px=observed[:, :2] + 9.0)
    counted = replace(off, derived=())
    assert spin_loss(off) == pytest.approx(
        spin_loss(counted) * 2 / 3
    )  # SPIN leaves out the neck and hips itself


@pytest.mark.parametrize(
    "rejection, offset, beta, reason",
    [
        ("spin", 0.04, 2.9, ""),
        ("spin", 0.06, 2.9, "keypoint loss"),
        ("spin", 0.0, 3.1, "|beta| 3.1 > 3"),
        ("eft", 0.028, 2.9, ""),
        ("eft", 0.034, 2.9, "keypoint loss"),
        ("eft-strict", 0.02, 0.9, ""),
        ("eft-strict", 0.028, 0.9, "keypoint loss"),
        ("eft-strict", 0.0, 1.1, "|beta| 1.1 > 1"),
        ("none", 0.5, 9.0, ""),
    ],
)
def test_presets(fits, rejection, offset, beta, reason):
    moved = fits[0].observed_px[:, :2] + offset * crop(fits[0])[1] * np.sqrt([0.5, 0.5])
    fit = replace(fits[0], keypoints_px=moved, betas=np.full(10, -beta))
    found = rejection_reason(fit, rejection)
    assert reason in found and bool(reason) == bool(found)
    lost = replace(fit, pose=np.full(72, np.nan))
    assert rejection_reason(lost, rejection) == "numbers that are not finite"


@pytest.fixture
def write(tmp_path, folder):
    """Writes fits into a folder of their own; (directory, photos)."""

    def write(*people: Fit):
        for fit in people:
            save_fit(tmp_path / f"{fit.name}_{fit.person}.npz", fit)
        return tmp_path, folder / "photos"

    return write


def test_coco_ids_are_kept(write, fits):
    people = [
        replace(f, keypoint_source="coco", person=id) for f, id in zip(fits, ("183126", "446"), strict=True)
    ]
    where = write(*people)
    assert read_npz(export_fits(*where, "spin"))["annot_id"].tolist() == [183126, 446]
    assert list(json.loads(export_fits(*where, "neuralannot").read_text())) == ["183126", "446"]
    assert [r["annotId"] for r in json.loads(export_fits(*where, "eft").read_text())["data"]] == [183126, 446]


def test_a_body_without_regressor_keeps_what_it_has(write, fits, tmp_path_factory, capsys):
    """As SMPL's own files: the nine joints that only SPIN's regressor gives have confidence 0."""
    path = tmp_path_factory.mktemp("body") / "SMPL_FEMALE.npz"
    np.savez(path, **toy_arrays())
    body, pose = load_body(path), np.array(fits[0].pose)
    given = (torch.tensor(array)[None].float() for array in (np.zeros(10), pose))
    joints_cam = body(*given, with_vertices=False).joints[0].numpy() + fits[0].transl_cam
    about = {"body_model": body.name, "betas": np.zeros(10), "joints_cam": joints_cam}
    where = write(replace(fits[0], **about, configuration=json.dumps({"body": str(path)})))
    data = read_npz(export_fits(*where, "spin"))
    assert np.nonzero(data["S"][0, :, 3] == 0)[0].tolist() == [2, 3, 12, 13, 14, 15, 16, 17, 18]
    np.testing.assert_allclose((data["S"][0, 2, :3] + data["S"][0, 3, :3]) / 2, 0, atol=1e-6)
    np.testing.assert_allclose(data["part"][0, L_WRIST, :2], camera_px(joints_cam[20]), atol=1e-3)
    assert data["part"][0, PELVIS, 2] == 0 and data["part"][0, L_WRIST, 2] == 1
    assert data["gender"].tolist() == ["f"]
    printed = capsys.readouterr().out
    assert "no regressor" in printed and "NOT SMPL: betas are of the body 'SMPL_FEMALE'" in printed
    with pytest.raises(ValueError, match=f"expected the fits' body 'SMPL_FEMALE', got '{open_body_name()}'"):
        export_fits(*where, "spin", body=OPEN_BODY)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="expected an SMPL model file"):
        export_fits(*where, "spin")


def test_joints_outside_the_photo_or_behind_the_camera_count_nothing(write, fits):
    moved = np.array([-0.5, 0, 0])
    away = replace(fits[0], transl_cam=fits[0].transl_cam + moved, joints_cam=fits[0].joints_cam + moved)
    behind = -np.array([0, 0, 8])
    back = replace(fits[1], transl_cam=fits[1].transl_cam + behind, joints_cam=fits[1].joints_cam + behind)
    part = read_npz(export_fits(*write(away, back), "spin"))["part"]
    inside = ((part[0, :, :2] >= 0) & (part[0, :, :2] < SIZE)).all(1)
    np.testing.assert_array_equal(part[0, :, 2], inside)
    assert 0 < inside.sum() < 24
    assert np.isfinite(part).all() and (part[1, :, 2] == 0).all()


def test_joints_that_were_not_seen_count_nothing(write, fits):
    states = np.full(24, SEEN, np.uint8)
    states[[JOINT_NAMES.index(name) for name in ("left_knee", "left_foot")]] = GUESSED
    where = write(replace(fits[0], joint_states=states))
    data = read_npz(export_fits(*where, "4dhumans"))
    lost = {"left_knee", "left_big_toe", "left_small_toe", "left_heel"}
    unseen = {
        name for name, one in zip(BODY_25_OF_SMPL, data["body_keypoints_3d"][0, :, 3], strict=True) if not one
    }
    assert unseen == lost
    extra = {SPIN_24_OF_SMPL[n] for n in np.flatnonzero(data["extra_keypoints_3d"][0, :, 3] == 0)}
    assert extra == {"left_knee"} and not data["extra_keypoints_2d"][0, SPIN_24_OF_SMPL.index("left_knee"), 2]
    flags = read_npz(export_fits(*where, "camerahmr"))["gtkps"][0, :25, 2]
    assert not flags[[BODY_25_OF_SMPL.index(name) for name in lost]].any() and flags.sum() == 21


def test_only_the_last_runs_people(write, fits):
    where = write(*(replace(fit) for fit in fits))
    (where[0] / "summary.jsonl").write_text(
        json.dumps({"image": "b.png", "person": "0", "status": "fitted"}) + "\n"
    )
    assert read_npz(export_fits(*where, "spin"))["imgname"].tolist() == ["b.png"]


def test_photos_are_checked(write, fits, tmp_path_factory, capsys):
    fits_dir, _ = write(replace(fits[0]))
    photos = tmp_path_factory.mktemp("photos")
    with pytest.raises(FileNotFoundError, match="1 are missing, first a.png"):
        export_fits(fits_dir, photos, "spin")
    Image.new("RGB", (160, 120)).save(photos / "a.png")
    with pytest.raises(ValueError, match="expected the fitted photo of 320 x 240 px, got 160 x 120"):
        export_fits(fits_dir, photos, "spin")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", SIZE[::-1]).save(photos / "a.png", exif=turned)
    capsys.readouterr()
    export_fits(fits_dir, photos, "spin")
    assert "1 photos are stored turned (EXIF)" in capsys.readouterr().out


def test_wrong_use_is_refused(folder, write, fits):
    with pytest.raises(
        ValueError, match="expected one of spin, eft, bedlam, camerahmr, 4dhumans, 4dhumans-tars, humandata"
    ):
        exported(folder, "coco")
    with pytest.raises(ValueError, match="rejection: expected one of none, valid"):
        exported(folder, "spin", rejection="strict")
    with pytest.raises(ValueError, match="outside of the folder of fits"):
        exported(folder, "spin", out=folder / "out" / "spin.npz")
    with pytest.raises(FileNotFoundError, match="expected results of fit.py"):
        export_fits(folder / "photos", folder / "photos", "spin")
    with pytest.raises(ValueError, match="all 1 were rejected .*a_0: turned over"):
        export_fits(*write(replace(fits[0], valid=False, reasons=("turned over",))), "spin")
    with pytest.raises(ValueError, match="joints lie up to 500 mm elsewhere"):
        export_fits(*write(replace(fits[0], joints_cam=fits[0].joints_cam + 0.5)), "spin")


@pytest.mark.parametrize("fmt", FORMATS)
def test_command(folder, fmt, monkeypatch, capsys):
    import fitter.write.export

    out = folder / "command" / f"set{FORMATS[fmt][1]}"
    given = ["--fits", folder / "out", "--images", folder / "photos", "--format", fmt, "--out", out]
    monkeypatch.setattr("sys.argv", ["export", *map(str, given)])
    fitter.write.export.main()
    assert list(out.parent.glob(f"{out.stem}*")) and "exported 2 of 3 people" in capsys.readouterr().out


def test_gender_by_the_files_name():
    names = {"SMPL_MALE": "m", "SMPL_FEMALE": "f", "SMPL_NEUTRAL": None, open_body_name(): None}
    names |= {"basicModel_f_lbs_10_207_0_v1.0.0": "f", "basicmodel_m_lbs_10_207_0_v1.1.0": "m"}
    names |= {"basicmodel_neutral_lbs_10_207_0_v1.1.0": None}
    assert {name: gender_of(name) for name in names} == names
