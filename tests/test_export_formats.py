# ruff: noqa: F401, F811 - fixtures of test_export
"""Dataset files against their consumers: each reader is stated here again, by the names and conventions that its own
code has, and what it gets must land on the fit.

SPIN, EFT, mmhuman3d, 4D-Humans and ProHMR take 15 of SPIN's 24 joints from SMPL's own, and nine from the surface: the
rows of JOINT_MAP below, which end in 45 to 53 for the nine.
"""

import io
import json
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import toy_arrays
from PIL import Image
from scipy.spatial.transform import Rotation
from test_export import (
    CENTER_PX,
    FOCAL_PX,
    camera_px,
    crop,
    exported,
    fits,
    folder,
    pose_body,
    read_npz,
    seen_as_keypoints,
    write,
)

from fitter.body.model import LANDMARK_NAMES, OPEN_BODY, load_body
from fitter.cli import main
from fitter.see.keypoints import BODY_25
from fitter.write.export import export_fits
from priors.skeleton import JOINT_NAMES

# fmt: off
SMPL_45 = (*JOINT_NAMES, "nose", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe",
           "left_heel", "right_big_toe", "right_small_toe", "right_heel")
OPENPOSE_MAP = (24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34)
JOINT_MAP = (8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20, 47, 48, 49, 50, 51, 52, 53, 24, 26, 25, 28, 27)
REGRESSED_FROM = (1, 4, 8, 10, 0, 8, 7, 9, 10)  # rows of the Human3.6M regressor for 45 to 53
# fmt: on
OWN = [row for row, joint in enumerate(JOINT_MAP) if joint < 45]
PELVIS_24 = 14


def consumers_joints(pose, betas) -> tuple[np.ndarray, np.ndarray]:
    """[25, 3] and [24, 3] m, before translation: what a trainer's model gives for BODY_25 and for SPIN's 24."""
    body = load_body(dtype=torch.float64)
    given = (torch.tensor(np.asarray(array, np.float64))[None] for array in (betas, pose))
    with torch.no_grad():
        posed = body(*given)
    points = body.points(posed)[0].numpy()
    with np.load(OPEN_BODY) as file:
        extra = (file["J_regressor_h36m"] @ posed.vertices[0].numpy())[list(REGRESSED_FROM)]
    ours = [(JOINT_NAMES + LANDMARK_NAMES).index(name) for name in SMPL_45]
    every = np.concatenate([points[ours], np.zeros((10, 3)), extra])
    return every[list(OPENPOSE_MAP)], every[list(JOINT_MAP)]


def off_mm(given, true) -> float:
    return 1000 * np.linalg.norm(given - true, axis=-1).max()


def median_pct(px, fit) -> float:
    """Median distance of BODY_25 points from what was observed, per cent of the box's longer side."""
    side = (fit.box_px[2:] - fit.box_px[:2]).max()
    return 100 * np.median(np.linalg.norm(px - fit.observed_px[:, :2], axis=-1)) / side


def test_spin(folder, fits):
    """base_dataset.py: openpose and part make 49 keypoints, has_smpl opens pose and shape, S is centred."""
    path = exported(folder, "spin")
    data = read_npz(path)
    assert data["imgname"].tolist() == ["a.png", "b.png"]
    assert not {"maskname", "partname", "gender", "annot_id"} & data.keys()  # neutral, not COCO: left out
    keypoints = np.concatenate([data["openpose"], data["part"]], 1)
    assert keypoints.shape == (2, 49, 3) and data["S"].shape == (2, 24, 4)
    assert data["global_t"].shape == (2, 3) and data["focal_l"].shape == (2,)
    for row, fit in enumerate(fits):
        center, side = crop(fit)
        np.testing.assert_allclose(data["center"][row], center, atol=1e-2)
        assert data["scale"][row] == pytest.approx(side / 200, rel=1e-4)  # of 200 px, not px
        inside = np.abs(keypoints[row, :, :2] - data["center"][row]) <= 100 * data["scale"][row]
        assert inside[keypoints[row, :, 2] > 0].all()
        body_25, spin_24 = consumers_joints(data["pose"][row], data["shape"][row])
        place = data["global_t"][row]
        np.testing.assert_allclose(keypoints[row, 25:, :2], camera_px(spin_24 + place), atol=0.1)
        np.testing.assert_array_equal(keypoints[row, :25], fit.observed_px)
        assert median_pct(camera_px(body_25 + place), fit) <= 2.5
        joints_m, known = data["S"][row, :, :3], data["S"][row, :, 3]
        assert (known == 1).all()
        assert off_mm(joints_m, spin_24 - spin_24[PELVIS_24]) < 0.1
        np.testing.assert_allclose(
            joints_m[[2, 3]].mean(0), 0, atol=1e-3
        )  # the pelvis as SPIN's trainer has it
        assert joints_m[0, 1] > 0.6  # y down, as in the photo
    fits_file = np.load(path.with_name("spin_fits.npy"), allow_pickle=False)
    np.testing.assert_array_equal(fits_file, np.hstack([data["pose"], data["shape"]]))


def test_15_of_spins_24_joints_are_the_bodys_own(folder, fits):
    data = read_npz(exported(folder, "spin"))
    assert len(OWN) == 15
    for row, fit in enumerate(fits):
        pelvis = consumers_joints(fit.pose, fit.betas)[1][PELVIS_24] + fit.transl_cam
        limbs = [n for n in OWN if JOINT_MAP[n] < 24]
        own = fit.joints_cam[[JOINT_MAP[n] for n in limbs]]
        assert off_mm(data["S"][row, limbs, :3] + pelvis, own) < 0.1


def test_sides_are_not_swapped(folder):
    """The right arm is raised; the person faces the camera, so that it is on the picture's left."""
    data = read_npz(exported(folder, "spin"))
    part, openpose = data["part"][0], data["openpose"][0]
    right, left = (openpose[BODY_25.index(f"{side}Wrist"), :2] for side in "RL")
    assert right[0] < left[0]
    for observed, spin, other in ((right, 6, 11), (left, 11, 6)):
        assert np.linalg.norm(part[spin, :2] - observed) < 5
        assert np.linalg.norm(part[other, :2] - observed) > 15


def test_eft(folder, fits):
    """visEFTFit.py: rotation matrices, and x, y of the posed joints times s plus t are the crop's -1 to 1."""
    data = json.loads(exported(folder, "eft").read_text())
    assert data["ver"] == 0.1 and data["meta"].keys() >= {"dbname", "rawname"}
    assert [row["imageName"] for row in data["data"]] == ["a.png", "b.png"]
    assert [row["subjectId"] for row in data["data"]] == ["a_0", "b_0"]
    for row, fit in zip(data["data"], fits, strict=True):
        rotations = np.array(row["parm_pose"])
        eye = np.broadcast_to(np.eye(3), (24, 3, 3))
        np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), eye, atol=1e-6)
        pose = Rotation.from_matrix(rotations).as_rotvec().reshape(72)
        joints = np.concatenate(consumers_joints(pose, row["parm_shape"]))
        s, tx, ty = row["parm_cam"]
        half = 200 * row["bbox_scale"] / 2
        px = np.array(row["bbox_center"]) + half * (s * joints[:, :2] + [tx, ty])
        assert median_pct(px[:25], fit) <= 2.5
        # a body 0.4 m deep and 3.5 m away, off the axis: perspective moves points by a few per cent of their offset
        error = np.linalg.norm(px - camera_px(joints + fit.transl_cam), axis=1)
        assert error.mean() < 0.01 * 2 * half and error.max() < 0.04 * 2 * half, error
        keypoints = np.array(row["gt_keypoint_2d"])
        np.testing.assert_allclose(keypoints[:25], fit.observed_px, atol=1e-4)
        np.testing.assert_allclose(keypoints[25:, :2], camera_px(joints[25:] + fit.transl_cam), atol=0.1)
        assert row["joint_validity_openpose18"] == [1.0] * 18 and row["annotId"] == -1


def test_eft_validity_follows_openposes_18(folder):
    rows = json.loads(exported(folder, "eft", rejection="none").read_text())["data"]
    shoulders_and_hips = [0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert rows[1]["joint_validity_openpose18"] == shoulders_and_hips


def projected(points_cam, cam_int):
    homogeneous = points_cam @ cam_int.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def test_bedlams_own_reader(folder, fits):
    """dataset.py: gtkps[:, :24] are the model's first joints, of which SMPL and SMPL-X share 22; pose_cam[:, :66],
    shape, trans_cam on top of no cam_ext, cam_int."""
    data = read_npz(exported(folder, "bedlam"))
    keypoints = data["gtkps"][:, :24]
    assert keypoints.shape == (2, 24, 3) and "cam_ext" not in data and "pose" not in data
    for row, fit in enumerate(fits):
        pose = np.concatenate([data["pose_cam"][row, :66], np.zeros(6)])
        joints = pose_body(pose, data["shape"][row])[:22] + data["trans_cam"][row]
        assert off_mm(joints, fit.joints_cam[:22]) < 0.1
        px = projected(joints, data["cam_int"][row])
        np.testing.assert_allclose(keypoints[row, :22, :2], px, atol=0.1)
        assert (keypoints[row, :22, 2] == 1).all() and (keypoints[row, 22:, 2] == 0).all()
        body_25 = [BODY_25.index(name) for name in ("RElbow", "RWrist", "LElbow", "LWrist")]
        error = np.linalg.norm(px[[19, 21, 18, 20]] - fit.observed_px[body_25, :2], axis=1)
        assert np.median(error) <= 0.025 * (fit.box_px[2:] - fit.box_px[:2]).max()
        assert data["scale"][row] == pytest.approx(crop(fit)[1] / 200, rel=1e-4)
    assert "betas" not in data  # so that dataset_smpl.py takes no shapes of another body


def test_camerahmrs_reader(folder, fits):
    """dataset_train.py: gtkps[:, :44] are BODY_25 and 19 of SPIN's, of the model; cam_int; scale of 200 px."""
    data = read_npz(exported(folder, "camerahmr"))
    assert data["gtkps"].shape == (2, 44, 3)
    for row, fit in enumerate(fits):
        body_25, spin_24 = consumers_joints(data["pose_cam"][row], data["shape"][row])
        joints = np.concatenate([body_25, spin_24[:19]]) + data["trans_cam"][row]
        px = projected(joints, data["cam_int"][row])
        np.testing.assert_allclose(data["gtkps"][row, :, :2], px, atol=0.1)
        assert median_pct(px[:25], fit) <= 2.5


def image_dataset(data) -> list[dict]:
    """4D-Humans' ImageDataset (and ProHMR's): people as its __getitem__ has them before the crop."""
    scale = data["scale"].reshape(len(data["center"]), -1) / 200
    scale = np.tile(scale, (1, 2)) if scale.shape[1] == 1 else scale
    body_3d = data["body_keypoints_3d"].copy()
    body_3d[:, 1:15, -1] = 0
    arrays = {
        "keypoints_2d": np.concatenate([data["body_keypoints_2d"], data["extra_keypoints_2d"]], 1),
        "keypoints_3d": np.concatenate([body_3d, data["extra_keypoints_3d"]], 1),
        "scale": scale,
        **{name: data[name] for name in ("center", "body_pose", "betas", "has_body_pose", "has_betas")},
    }
    return [{name: array[row] for name, array in arrays.items()} for row in range(len(scale))]


def tar_dataset(tars) -> list[dict]:
    """Its WebDataset loader: members of a photo share the name up to the first dot; people are data.pyd's list."""
    people = []
    for path in tars:
        photos: dict[str, dict] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                folder, slash, base = member.name.rpartition("/")
                key, _, suffix = base.partition(".")
                photos.setdefault(folder + slash + key, {})[suffix] = tar.extractfile(member).read()
        for key, photo in photos.items():
            assert photo.keys() == {"jpg", "data.pyd"}
            with Image.open(io.BytesIO(photo["jpg"])) as picture:
                size = picture.size
                assert picture.format == "JPEG" and picture.getexif().get(0x0112, 1) == 1
            people += [{**one, "key": key, "size": size} for one in pickle.loads(photo["data.pyd"])]
    return people


def test_4dhumans_readers(folder, fits):
    tars = exported(folder, "4dhumans-tars").parent.glob("4dhumans-tars-*.tar")
    by_tar = tar_dataset(tars)
    by_npz = image_dataset(read_npz(exported(folder, "4dhumans")))
    assert [one["key"] for one in by_tar] == ["a", "b"]
    for one, other, fit in zip(by_npz, by_tar, fits, strict=True):
        assert one["keypoints_2d"].shape == (44, 3) and one["keypoints_3d"].shape == (44, 4)
        for name, array in one.items():
            np.testing.assert_allclose(other[name], array, rtol=1e-6, err_msg=name)
        assert other["size"] == (320, 240) and other["scale"].min().item() * 200 > 1
        assert max(one["scale"]) * 200 == pytest.approx(crop(fit)[1], rel=1e-4)
        np.testing.assert_array_equal(one["keypoints_2d"][:25], fit.observed_px)
        joints = np.concatenate(consumers_joints(one["body_pose"], one["betas"]))[:44]
        known = one["keypoints_3d"][:, 3] > 0
        assert known.sum() == 30 and not known[1:15].any() and known[25:].all()
        assert off_mm(one["keypoints_3d"][:, :3], joints - joints[25 + PELVIS_24]) < 8
        px = camera_px(joints + fit.transl_cam)
        np.testing.assert_allclose(one["keypoints_2d"][25:, :2], px[25:], atol=0.1)
        assert median_pct(px[:25], fit) <= 2.5
        assert one["has_body_pose"] == 1 and one["has_betas"] == 0  # betas are not SMPL's


def test_files_of_an_earlier_export_are_named(folder, capsys):
    for fmt, first, older in (
        ("amass", "amass/a_0.npz", "amass/x_9.npz"),
        ("4dhumans-tars", "4dhumans-tars-000000.tar", "4dhumans-tars-000007.tar"),
    ):
        older = folder / "out" / "export" / older
        exported(folder, fmt)
        said = capsys.readouterr().out
        assert (
            f"files {folder / 'out' / 'export' / first} ...; 1 left out" in said
            and "not of this export" not in said
        )
        older.write_bytes(b"")
        exported(folder, fmt)
        assert f"1 files there are not of this export: {older} ..." in capsys.readouterr().out
        older.unlink()


def test_tars_hold_upright_jpegs(write, fits, tmp_path_factory):
    """A dot in a name would end WebDataset's key, and PIL shows photos as stored; a jpeg that is upright is kept."""
    photos = tmp_path_factory.mktemp("photos")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (240, 320), "red").save(photos / "v1.2.jpg", exif=turned)
    Image.new("RGB", (320, 240), "blue").save(photos / "b.jpg")
    where, _ = write(
        replace(fits[0], image="v1.2.jpg", name="v1.2"), replace(fits[1], image="b.jpg", name="b")
    )
    path = export_fits(where, photos, "4dhumans-tars")
    found = tar_dataset([path.with_name("4dhumans-tars-000000.tar")])
    assert {one["key"]: one["size"] for one in found} == {"b": (320, 240), "v1%2e2": (320, 240)}
    with tarfile.open(path.with_name("4dhumans-tars-000000.tar")) as tar:
        assert tar.extractfile("b.jpg").read() == (photos / "b.jpg").read_bytes()


def human_image_dataset(path) -> list[dict]:
    """mmhuman3d's HumanData.fromfile and HumanImageDataset.prepare_raw_data, without conversion of the keypoints."""
    with np.load(path, allow_pickle=True) as file:  # dicts are pickles: the format's own choice
        data = {name: file[name].item() if file[name].ndim == 0 else file[name] for name in file.files}
    assert data["__keypoints_compressed__"] is False
    data["image_path"] = list(data["image_path"])
    people = []
    for row, image in enumerate(data["image_path"]):
        x, y, w, h, _ = data["bbox_xywh"][row]
        info = {"image_path": image, "center": [x + w / 2, y + h / 2], "scale": max(w, h)}
        for name, shape in (("keypoints2d", (190, 3)), ("keypoints3d", (190, 4))):
            assert data[f"{name}_mask"].shape == (190,)
            info[name], info[f"{name}_mask"] = data[name][row], data[f"{name}_mask"]
            assert info[name].shape == shape and not info[name][info[f"{name}_mask"] == 0].any()
        info["has_smpl"] = int(data["has_smpl"][row]) if "has_smpl" in data else 1
        smpl = {name: array[row] for name, array in data["smpl"].items()}
        assert smpl["body_pose"].shape == (23, 3) and smpl["global_orient"].shape == (3,)
        info["pose"] = np.concatenate([smpl["global_orient"], smpl["body_pose"].reshape(-1)])
        people.append(info | smpl | {"file": data, "row": row})
    return people


def test_humandata(folder, fits):
    people = human_image_dataset(exported(folder, "humandata"))
    assert [one["image_path"] for one in people] == ["a.png", "b.png"]
    # rows of mmhuman3d's list
    own = {"pelvis": 0, "left_knee": 4, "right_wrist": 21, "left_hand": 188, "nose": 55, "right_eye": 56,
           "left_ear": 59, "left_big_toe": 60, "right_heel": 65}  # fmt: skip
    extra = dict(zip(range(45, 54), range(144, 153), strict=True))  # right_hip_extra ... head_extra
    openpose = {"Nose": 153, "RElbow": 156, "MidHip": 161, "LAnkle": 167, "RHeel": 177}
    for one, fit in zip(people, fits, strict=True):
        spin_24 = consumers_joints(one["pose"], one["betas"])[1]
        points = pose_body(one["pose"], one["betas"])
        meta = one["file"]["meta"]
        focal, center = (np.array(meta[name][one["row"]]) for name in ("focal_length", "principal_point"))
        true = {row: points[(JOINT_NAMES + LANDMARK_NAMES).index(name)] for name, row in own.items()}
        true |= {extra[joint]: spin_24[n] for n, joint in enumerate(JOINT_MAP) if joint >= 45}
        rows = list(true)
        m, px = (
            np.stack(list(true.values())),
            camera_px(np.stack(list(true.values())) + one["transl"], focal, center),
        )
        np.testing.assert_allclose(one["keypoints2d"][rows, :2], px, atol=0.1)
        assert off_mm(one["keypoints3d"][rows, :3], m - spin_24[PELVIS_24]) < 0.1
        assert (one["keypoints2d"][rows, 2] == 1).all() and (one["keypoints3d"][rows, 3] == 1).all()
        assert one["keypoints2d_mask"].sum() == 69 and one["keypoints3d_mask"].sum() == 44
        for name, row in openpose.items():
            observed = fit.observed_px[BODY_25.index(name)]
            np.testing.assert_allclose(one["keypoints2d"][row], observed, atol=1e-3)
            np.testing.assert_allclose(
                one["file"]["keypoints2d_original"][one["row"], row], observed, atol=1e-3
            )
        np.testing.assert_array_equal(
            one["file"]["keypoints2d_smpl"][one["row"], :22], one["keypoints2d"][:22]
        )
        np.testing.assert_allclose(one["center"], (fit.box_px[:2] + fit.box_px[2:]) / 2, atol=1e-3)
        assert one["has_smpl"] == 0 and one["file"]["misc"]["body_model"] == fit.body_model
        shown = camera_px(points + one["transl"], focal, center)
        limbs = [
            (JOINT_NAMES + LANDMARK_NAMES).index(n)
            for n in ("right_elbow", "right_wrist", "left_elbow", "nose")
        ]
        seen = fit.observed_px[[BODY_25.index(n) for n in ("RElbow", "RWrist", "LElbow", "Nose")], :2]
        assert np.median(np.linalg.norm(shown[limbs] - seen, axis=1)) <= 0.025 * max(
            fit.box_px[2:] - fit.box_px[:2]
        )
    assert meta["width"] == [320, 320] and meta["height"] == [240, 240]


def test_pickles_name_no_module_that_numpy_1_lacks(folder):
    tar = exported(folder, "4dhumans-tars").with_name("4dhumans-tars-000000.tar").read_bytes()
    npz = exported(folder, "humandata")
    with np.load(npz, allow_pickle=False) as file:
        dicts = [file.zip.read(f"{name}.npy") for name in ("smpl", "meta", "misc")]
    assert b"_core" not in tar and not any(b"_core" in content for content in dicts)


def test_neuralannot_focal_in_px(folder, fits):
    data = json.loads(exported(folder, "neuralannot").read_text())
    assert list(data) == ["a_0", "b_0"]
    for person, fit in zip(data.values(), fits, strict=True):
        smpl, camera = person["smpl_param"], person["cam_param"]
        np.testing.assert_allclose([camera["focal"], camera["princpt"]], [FOCAL_PX, CENTER_PX], atol=1e-4)
        points = pose_body(smpl["pose"], smpl["shape"]) + smpl["trans"]
        np.testing.assert_allclose(seen_as_keypoints(points), fit.keypoints_px, atol=0.1)
        assert person["has_smpl"] is False and person["body_model"] == fit.body_model


def test_amass(folder, fits):
    """Its readers: poses (T, 156) with the root first, trans added after posing, z up, a rate to divide by."""
    out = exported(folder, "amass")
    assert sorted(path.name for path in out.iterdir()) == ["a_0.npz", "b_0.npz"]
    for fit in fits:
        data = read_npz(out / f"{fit.name}_{fit.person}.npz")
        assert (
            data["poses"].shape == (1, 156) and data["trans"].shape == (1, 3) and data["betas"].shape == (16,)
        )
        assert str(data["gender"]) == "neutral" and float(data["mocap_framerate"]) == 30
        assert not data["has_smpl"] and str(data["body_model"]) == fit.body_model
        pose = np.concatenate([data["poses"][0, :66], np.zeros(6)])
        world = pose_body(pose, data["betas"][:10])[:22] + data["trans"][0]
        x, y, z = world.T
        assert off_mm(np.stack([x, -z, y], 1), fit.joints_cam[:22]) < 0.1
        assert z[JOINT_NAMES.index("head")] > z[JOINT_NAMES.index("left_foot")] + 1.2


@pytest.fixture
def smpl_fit(write, fits, tmp_path_factory):
    """A folder with a fit of a body that has SMPL's name and size."""
    arrays = toy_arrays()
    more = 6890 - len(arrays["v_template"])
    for name in ("v_template", "shapedirs", "posedirs", "weights", "part_ids"):
        arrays[name] = np.concatenate([arrays[name], np.repeat(arrays[name][:1], more, 0)])
    arrays["J_regressor"] = np.pad(arrays["J_regressor"], ((0, 0), (0, more)))
    path = tmp_path_factory.mktemp("body") / "SMPL_NEUTRAL.npz"
    np.savez(path, **arrays)
    body = load_body(path)
    given = (torch.tensor(np.asarray(array))[None].float() for array in (np.zeros(10), fits[0].pose))
    joints = body(*given, with_vertices=False).joints[0].numpy() + fits[0].transl_cam
    about = {"body_model": body.name, "betas": np.zeros(10), "joints_cam": joints}
    return write(replace(fits[0], **about, configuration={"body": str(path)}))


def test_betas_of_smpl_and_of_another_body(folder, smpl_fit, capsys):
    """has_smpl and has_betas are 1 for SMPL alone; `as smpl` refuses the rest."""
    with pytest.raises(
        ValueError, match=r"export as smpl: expected fits of SMPL, got the body 'open_body .*--body"
    ):
        exported(folder, "spin", betas_as="smpl")
    capsys.readouterr()
    for where, truth in (((folder / "out", folder / "photos"), False), (smpl_fit, True)):
        given = {"betas_as": "smpl"} if truth else {}
        for fmt in ("spin", "bedlam", "camerahmr", "4dhumans"):
            data = read_npz(export_fits(*where, fmt, **given))
            assert (data["has_smpl"] == truth).all(), fmt
            assert (data["has_betas"] == truth).all() if fmt == "4dhumans" else True
            assert ("betas" in data) == truth or fmt in ("spin", "4dhumans")
        assert human_image_dataset(export_fits(*where, "humandata", **given))[0]["has_smpl"] == truth
        eft = json.loads(export_fits(*where, "eft", **given).read_text())
        assert (eft["data"][0]["smpltype"] == "smpl") == truth and eft["meta"]["has_smpl"] is truth
        assert ("NOT SMPL" in capsys.readouterr().out) != truth


def test_as_smpl_is_refused_before_anything_is_fitted(folder, tmp_path, capsys):
    given = ["--images", str(folder / "photos"), "--out", str(tmp_path / "out"), "--parser", "none"]
    assert main([*given, "--export", "spin", "--as", "smpl"]) == 2
    assert "expected fits of SMPL, got the body 'open_body" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
