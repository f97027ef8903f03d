"""Dataset files, read back by readers written here from each format's description: the body they hold must land in
the photo where the fit said.

The people are real fits by fit.py of one posed body, seen by a camera with two focal lengths and a centre off the
middle, so that what is swapped shows. One of the three has too few keypoints to be valid.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import toy_arrays
from PIL import Image
from scipy.spatial.transform import Rotation

from fitter.body.model import LANDMARK_NAMES, OPEN_BODY, load_body
from fitter.body.spin_joints import SPIN_24_OF_SMPL, open_body_name
from fitter.cli import main
from fitter.see.keypoint_targets import LAYOUTS, body_targets
from fitter.see.keypoints import BODY_25
from fitter.see.visibility import GUESSED, SEEN
from fitter.write.export import FORMATS, export_fits, gender_of
from fitter.write.export_formats import BODY_25_OF_SMPL
from fitter.write.rejection import eft_loss, rejection_reason, spin_loss
from fitter.write.result import Fit, load_fit, save_fit
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
    assert main([*words, "--jobs", "1", "--parser", "none", "--overlay", "false"]) == 0
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


def test_spin(folder, fits):
    path = exported(folder, "spin")
    data = read_npz(path)
    shapes = {
        "center": (2, 2), "scale": (2,), "pose": (2, 72), "shape": (2, 10), "has_smpl": (2,), "part": (2, 24, 3),
        "openpose": (2, 25, 3), "S": (2, 24, 4), "global_t": (2, 3), "focal_l": (2,),
    }  # fmt: skip
    assert {name: data[name].shape for name in shapes} == shapes
    assert data["imgname"].tolist() == ["a.png", "b.png"] and data["has_smpl"].all()
    assert not {"maskname", "partname", "gender", "annot_id"} & data.keys()  # neutral, not COCO: left out
    for row, fit in enumerate(fits):
        center, side = crop(fit)
        np.testing.assert_allclose(data["center"][row], center, atol=1e-2)
        assert data["scale"][row] == pytest.approx(side / 200, rel=1e-4)  # of 200 px, not px
        inside = np.abs(data["openpose"][row, :, :2] - data["center"][row]) <= 100 * data["scale"][row]
        assert inside[data["openpose"][row, :, 2] > 0].all()
        np.testing.assert_array_equal(data["openpose"][row], fit.observed_px)
        joints_m, known = data["S"][row, :, :3], data["S"][row, :, 3]
        assert (known == 1).all()
        np.testing.assert_allclose(joints_m[PELVIS], 0, atol=1e-6)
        np.testing.assert_allclose(
            (joints_m[2] + joints_m[3]) / 2, 0, atol=1e-3
        )  # the pelvis as SPIN's trainer has it
        assert joints_m[R_ANKLE, 1] > 0.6  # y down, as in the photo
        px = camera_px(joints_m + spin_pelvis_cam(fit))
        np.testing.assert_allclose(data["part"][row, :, :2], px, atol=0.1)
        for spin, own in ((R_ANKLE, 8), (L_ANKLE, 7), (R_WRIST, 21), (L_WRIST, 20)):
            away = data["part"][row, spin, :2] - camera_px(fit.joints_cam[own])
            assert np.abs(away).max() < 2, (spin, own)
        points = pose_body(data["pose"][row], data["shape"][row]) + data["global_t"][row]
        np.testing.assert_allclose(points[:24], fit.joints_cam, atol=1e-5)
    fits_file = np.load(path.with_name("spin_fits.npy"), allow_pickle=False)
    np.testing.assert_array_equal(fits_file, np.hstack([data["pose"], data["shape"]]))


def test_sides_are_not_swapped(folder):
    """The right arm is raised; the person faces the camera, so that it is on the picture's left."""
    data = read_npz(exported(folder, "spin"))
    part, openpose = data["part"][0], data["openpose"][0]
    right, left = (openpose[BODY_25.index(f"{side}Wrist"), :2] for side in "RL")
    assert right[0] < left[0]
    for observed, spin in ((right, R_WRIST), (left, L_WRIST)):
        assert np.linalg.norm(part[spin, :2] - observed) < 5
        assert np.linalg.norm(part[R_WRIST + L_WRIST - spin, :2] - observed) > 15


def test_eft_weak_perspective_lands_on_the_fit(folder, fits):
    data = json.loads(exported(folder, "eft").read_text())
    assert data["ver"] == 0.1 and data["meta"].keys() >= {"dbname", "rawname"}
    assert [row["imageName"] for row in data["data"]] == ["a.png", "b.png"]
    assert [row["subjectId"] for row in data["data"]] == ["a_0", "b_0"]
    for row, fit in zip(data["data"], fits, strict=True):
        rotations = np.array(row["parm_pose"])
        assert rotations.shape == (24, 3, 3)
        np.testing.assert_allclose(
            rotations @ rotations.transpose(0, 2, 1), np.eye(3) * np.ones((24, 1, 1)), atol=1e-6
        )
        points = pose_body(Rotation.from_matrix(rotations).as_rotvec().reshape(72), row["parm_shape"])
        s, tx, ty = row["parm_cam"]
        half = 200 * row["bbox_scale"] / 2
        px = np.array(row["bbox_center"]) + half * (s * points[:24, :2] + [tx, ty])
        error = np.linalg.norm(px - camera_px(fit.joints_cam), axis=1)
        # a body 0.4 m deep and 3.5 m away, off the axis: perspective moves points by a few per cent of their offset
        assert error.mean() < 0.01 * 2 * half and error.max() < 0.03 * 2 * half, error
        keypoints = np.array(row["gt_keypoint_2d"])
        assert keypoints.shape == (49, 3)
        np.testing.assert_allclose(keypoints[:25], fit.observed_px, atol=1e-4)
        assert np.abs(keypoints[25 + R_WRIST, :2] - camera_px(fit.joints_cam[21])).max() < 2
        assert row["joint_validity_openpose18"] == [1.0] * 18
        assert row["annotId"] == -1 and row["smpltype"] == "smpl"


def test_eft_validity_follows_openposes_18(folder):
    rows = json.loads(exported(folder, "eft", rejection="none").read_text())["data"]
    shoulders_and_hips = [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert rows[1]["joint_validity_openpose18"] == shoulders_and_hips


def test_bedlam_projects_to_the_fits_keypoints(folder, fits):
    data = read_npz(exported(folder, "bedlam"))
    assert data["gtkps"].shape == (2, 44, 3) and data["cam_int"].shape == (2, 3, 3)
    assert "pose" not in data and "betas" in data
    for row, fit in enumerate(fits):
        points = pose_body(data["pose_cam"][row], data["shape"][row]) + data["trans_cam"][row]
        homogeneous = points @ data["cam_int"][row].T
        px = homogeneous[:, :2] / homogeneous[:, 2:]
        np.testing.assert_allclose(data["cam_int"][row, 2], [0, 0, 1])
        matrix = body_targets("openpose", *load_body(dtype=torch.float64).joint_layout)[0]
        homogeneous = matrix @ points @ data["cam_int"][row].T
        np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], fit.keypoints_px, atol=0.1)
        names = JOINT_NAMES + LANDMARK_NAMES
        for number, keypoint in enumerate(BODY_25):  # SMPL's own joints, as CameraHMR takes them
            words = (
                re.sub("([A-Z])", r"_\1", keypoint).lower().strip("_").replace("mid_hip", "pelvis").split("_")
            )
            own = "_".join([{"r": "right", "l": "left"}.get(words[0], words[0]), *words[1:]])
            np.testing.assert_allclose(data["gtkps"][row, number, :2], px[names.index(own)], atol=0.1)
        limbs = [number for number, name in enumerate(BODY_25) if name[1:] in LIMBS]
        np.testing.assert_allclose(data["gtkps"][row, limbs, :2], fit.keypoints_px[limbs], atol=0.1)
        np.testing.assert_array_equal(data["gtkps"][row, 25:], data["part"][row, :19])
        assert data["scale"][row] == pytest.approx(crop(fit)[1] / 200, rel=1e-4)


def test_4dhumans_scale_is_in_px_and_3d_about_the_pelvis(folder, fits):
    data = read_npz(exported(folder, "4dhumans"))
    shapes = {
        "body_pose": (2, 72), "betas": (2, 10), "has_body_pose": (2,), "has_betas": (2,), "center": (2, 2),
        "body_keypoints_2d": (2, 25, 3), "extra_keypoints_2d": (2, 19, 3), "body_keypoints_3d": (2, 25, 4),
        "extra_keypoints_3d": (2, 19, 4),
    }  # fmt: skip
    assert {name: data[name].shape for name in shapes} == shapes
    sides = data["scale"].reshape(2, -1).max(-1)  # what ProHMR makes of it, before its own / 200
    for row, fit in enumerate(fits):
        assert sides[row] == pytest.approx(crop(fit)[1], rel=1e-4)
        np.testing.assert_array_equal(data["body_keypoints_2d"][row], fit.observed_px)
        joints_m = np.concatenate(
            [data["body_keypoints_3d"][row, :, :3], data["extra_keypoints_3d"][row, :, :3]]
        )
        np.testing.assert_allclose(joints_m[25 + PELVIS], 0, atol=1e-6)
        joints_cam = joints_m + spin_pelvis_cam(fit)
        px = camera_px(joints_cam)
        limbs = [number for number, name in enumerate(BODY_25) if name[1:] in LIMBS]
        np.testing.assert_allclose(px[limbs], fit.keypoints_px[limbs], atol=0.1)
        layout = LAYOUTS["open"]["openpose"]
        for side in "LR":
            rows = [BODY_25.index(side + name) for name in LEGS]
            knee, ankle = joints_cam[rows]
            seen = [
                knee + layout.knee_drop * (ankle - knee),
                ankle + layout.ankle_rise * (knee - ankle),
            ]
            np.testing.assert_allclose(camera_px(np.array(seen)), fit.keypoints_px[rows], atol=0.1)
        np.testing.assert_allclose(px[25:], data["extra_keypoints_2d"][row, :, :2], atol=0.1)


def test_humandata_keypoints_and_masks(folder, fits):
    path = exported(folder, "humandata")
    with np.load(path, allow_pickle=True) as file:  # smpl, meta and misc are dicts: the format's own choice
        data = {name: file[name].item() if file[name].ndim == 0 else file[name] for name in file.files}
    assert data["image_path"].tolist() == ["a.png", "b.png"] and data["__keypoints_compressed__"] is False
    shapes = {name: data["smpl"][name].shape for name in ("body_pose", "global_orient", "betas", "transl")}
    assert shapes == {"body_pose": (2, 23, 3), "global_orient": (2, 3), "betas": (2, 10), "transl": (2, 3)}
    for key, count in (("keypoints2d_smpl", 35), ("keypoints2d_original", 25)):
        mask = data[f"{key}_mask"]
        assert data[key].shape == (2, 190, 3) and mask.shape == (190,) and mask.sum() == count
        assert (data[key][:, mask == 0] == 0).all() and (data[key][:, mask == 1, 2] == 1).all()
    human_data = {
        "pelvis": 0,
        "left_knee": 4,
        "right_wrist": 21,
        "left_hand": 188,
    }  # rows of mmhuman3d's list
    marks = {"nose": 55, "right_eye": 56, "left_ear": 59, "left_big_toe": 60, "right_heel": 65}
    openpose = {"Nose": 153, "RElbow": 156, "MidHip": 161, "LAnkle": 167, "RHeel": 177}
    for row, fit in enumerate(fits):
        pose = np.concatenate(
            [data["smpl"]["global_orient"][row], data["smpl"]["body_pose"][row].reshape(-1)]
        )
        points = pose_body(pose, data["smpl"]["betas"][row]) + data["smpl"]["transl"][row]
        focal, center = (np.array(data["meta"][name][row]) for name in ("focal_length", "principal_point"))
        px = camera_px(points, focal, center)
        for name, number in (human_data | marks).items():
            own = (JOINT_NAMES + LANDMARK_NAMES).index(name)
            np.testing.assert_allclose(data["keypoints2d_smpl"][row, number, :2], px[own], atol=0.1)
        for name, number in openpose.items():
            observed = fit.observed_px[BODY_25.index(name)]
            np.testing.assert_allclose(data["keypoints2d_original"][row, number], observed, atol=1e-3)
        x, y, w, h, score = data["bbox_xywh"][row]
        np.testing.assert_allclose([x, y, x + w, y + h, score], [*fit.box_px, 1], atol=1e-3)
    assert data["meta"]["width"] == [320, 320] and data["meta"]["height"] == [240, 240]


def test_neuralannot_focal_in_px(folder, fits):
    data = json.loads(exported(folder, "neuralannot").read_text())
    assert list(data) == ["a_0", "b_0"]
    for person, fit in zip(data.values(), fits, strict=True):
        smpl, camera = person["smpl_param"], person["cam_param"]
        np.testing.assert_allclose([camera["focal"], camera["princpt"]], [FOCAL_PX, CENTER_PX], atol=1e-4)
        points = pose_body(smpl["pose"], smpl["shape"]) + smpl["trans"]
        np.testing.assert_allclose(seen_as_keypoints(points), fit.keypoints_px, atol=0.1)


def test_rejected_people_are_left_out_and_counted(folder, capsys):
    exported(folder, "spin")
    printed = capsys.readouterr().out
    assert "exported 2 of 3 people to " in printed and "1 rejected by 'valid'" in printed
    assert "a_1: 4 confident keypoints < 6" in printed
    assert (
        "a reader with SMPL gets poses alike, other shapes" in printed and "camera is not centred" in printed
    )
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
    assert "no regressor" in printed and "other shapes" not in printed
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
    flags = read_npz(export_fits(*where, "bedlam"))["gtkps"][0, :25, 2]
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
        ValueError, match="expected one of spin, eft, bedlam, 4dhumans, humandata, neuralannot"
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
    assert out.is_file() and "exported 2 of 3 people" in capsys.readouterr().out


def test_gender_by_the_files_name():
    names = {"SMPL_MALE": "m", "SMPL_FEMALE": "f", "SMPL_NEUTRAL": None, open_body_name(): None}
    names |= {"basicModel_f_lbs_10_207_0_v1.0.0": "f", "basicmodel_m_lbs_10_207_0_v1.1.0": "m"}
    names |= {"basicmodel_neutral_lbs_10_207_0_v1.1.0": None}
    assert {name: gender_of(name) for name in names} == names
