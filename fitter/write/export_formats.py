"""Fitted people as the dataset files that other tools read; one function a format.

px of the full upright photo, origin at the top left corner of the top left pixel; metres; rotations as axis-angle in
radians, in the camera's axes (x right, y down, z forward), unless said. Readers looked at: SPIN base_dataset.py and
fits_dict.py, CLIFF viz_cliffGT_perSubject.py, EFT demo/visEFTFit.py, 4D-Humans and ProHMR
datasets/image_dataset.py, BEDLAM dataset.py and dataset_smpl.py, CameraHMR dataset_train.py, mmhuman3d
human_image_dataset.py and human_data.py, NeuralAnnot MSCOCO/demo_smpl.py.

Every file names its `body_model`, and `has_smpl` is 0 unless that is SMPL: betas of another body are other shapes.
"""

import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from fitter.body.model import LANDMARK_NAMES
from fitter.body.spin_joints import REGRESSED
from fitter.see.keypoints import BODY_25, OPENPOSE_COCO_18
from fitter.write.export_people import BODY_25_OF_SMPL, People
from priors.skeleton import JOINT_NAMES

SCALE_PX = 200  # one unit of SPIN's, EFT's and BEDLAM's `scale`
EXTRA = 19  # of SPIN's 24 joints, those that 4D-Humans and CameraHMR append to BODY_25
HANDS = (22, 23)  # SMPL's joints in whose place SMPL-X, which BEDLAM trains, has jaw and left eye
FLAT_3D = slice(1, 15)  # BODY_25's limbs, whose 3D 4D-Humans takes from the 19 alone
PHOTOS_A_TAR = 1000
# rows of mmhuman3d's HUMAN_DATA convention
HUMAN_DATA_COUNT = 190
HUMAN_DATA_JOINTS = (*range(22), 188, 189)  # JOINT_NAMES
HUMAN_DATA_LANDMARKS = (55, 57, 56, 59, 58, 60, 61, 62, 63, 64, 65)  # LANDMARK_NAMES
HUMAN_DATA_REGRESSED = range(144, 153)  # REGRESSED of SPIN's 24
HUMAN_DATA_OPENPOSE = range(153, 178)  # BODY_25
# AMASS: the mocap world's axes, z up; SMPL-H's 52 joints, of which 22 are SMPL's
WORLD_OF_CAMERA = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
AMASS_JOINTS, AMASS_BODY, AMASS_BETAS, AMASS_RATE = 52, 22, 16, 30.0


def write_spin(people: People, path: Path) -> None:
    """SPIN's npz with CLIFF's extra fields, and beside it its static fits `<stem>_fits.npy` [N, 82] = pose | betas.

    `focal_l` is the focal length that `global_t` was fitted with: sqrt(w^2 + h^2) unless a camera or EXIF said else.
    `gender` is left out for a neutral body, as the reader takes all but 'm' for female and a missing one for neutral.
    """
    arrays = {**_spin_arrays(people), "global_t": people.transl_cam, "focal_l": people.focal_px.mean(1)}
    if people.annot_id is not None:
        arrays["annot_id"] = people.annot_id
    if people.labelname is not None:
        arrays["labelname"] = people.labelname
    _save(path, arrays, people)
    fits = np.concatenate([people.pose, people.betas], 1).astype(np.float32)
    np.save(path.with_name(path.stem + "_fits.npy"), fits, allow_pickle=False)


def _spin_arrays(people: People) -> dict[str, np.ndarray]:
    return {
        "imgname": people.imgname,
        "center": people.crop_center_px,
        "scale": people.crop_size_px / SCALE_PX,
        "pose": people.pose,
        "shape": people.betas,
        "has_smpl": people.has_smpl,
        "part": people.spin_px,
        "openpose": people.observed_px,
        "S": people.spin_m,
    }


def write_bedlam(people: People, path: Path) -> None:
    """BEDLAM's npz as its own dataset.py reads it: `gtkps` [N, 24, 3] are SMPL's joints.

    Its SMPL-X has jaw and left eye where SMPL has the hands, which therefore have confidence 0. BEDLAM's SMPL reader,
    dataset_smpl.py, takes keypoints from `part` and `openpose`, and `shape` only where there are `betas`: those are
    left out where the body is not SMPL.
    """
    seen = people.seen(JOINT_NAMES)
    seen[:, HANDS] = 0
    _save(path, {**_bedlam_arrays(people), "gtkps": people.in_photo(people.joints_cam, seen)}, people)


def write_camerahmr(people: People, path: Path) -> None:
    """The same as CameraHMR reads it: `gtkps` [N, 44, 3] is the body's BODY_25 and the first 19 of SPIN's joints."""
    gtkps = np.concatenate([people.body_25_px, people.spin_px[:, :EXTRA]], 1)
    _save(path, {**_bedlam_arrays(people), "gtkps": gtkps}, people)


def _bedlam_arrays(people: People) -> dict[str, np.ndarray]:
    matrix = np.zeros((len(people), 3, 3))
    matrix[:, [0, 1], [0, 1]], matrix[:, :2, 2], matrix[:, 2, 2] = people.focal_px, people.center_px, 1
    arrays = _spin_arrays(people)
    arrays |= {"pose_cam": arrays.pop("pose"), "trans_cam": people.transl_cam, "cam_int": matrix}
    return arrays | ({"betas": people.betas} if people.is_smpl else {})


def write_4dhumans(people: People, path: Path) -> None:
    """ProHMR's and 4D-Humans' npz, for their ImageDataset: `scale` in px; 3D about the pelvis, with confidence.

    `has_betas` is 0 unless the body is SMPL; poses count either way.
    """
    body_m = people.about_pelvis(people.body_25_cam)
    arrays = {
        "imgname": people.imgname,
        "center": people.crop_center_px,
        "scale": people.crop_size_px,
        "body_pose": people.pose,
        "has_body_pose": np.ones(len(people), np.float32),
        "betas": people.betas,
        "has_betas": people.has_smpl.astype(np.float32),
        "body_keypoints_2d": people.observed_px,
        "extra_keypoints_2d": people.spin_px[:, :EXTRA],
        "body_keypoints_3d": np.concatenate([body_m, people.seen(BODY_25_OF_SMPL)[..., None]], -1),
        "extra_keypoints_3d": people.spin_m[:, :EXTRA],
    }
    _save(path, arrays, people)


def write_4dhumans_tars(people: People, path: Path) -> list[Path]:
    """4D-Humans' training shards: WebDataset tars `<stem>-000000.tar` ... of PHOTOS_A_TAR photos each; returns them.

    A photo has two members: `jpg`, upright, and `data.pyd`, a pickle of a list of dicts of arrays, one a person;
    `scale` [2] is in units of 200 px here. There is no `detection.npz`, as these fits come with no masks: its reader
    then takes everything as the person's.
    """
    keypoints_2d = np.concatenate([people.observed_px, people.spin_px[:, :EXTRA]], 1)
    body_3d = np.concatenate(
        [people.about_pelvis(people.body_25_cam), people.seen(BODY_25_OF_SMPL)[..., None]], -1
    )
    body_3d[:, FLAT_3D, 3] = 0
    keypoints_3d = np.concatenate([body_3d, people.spin_m[:, :EXTRA]], 1)
    rows_of: dict[str, list[int]] = {}
    for row, photo in enumerate(people.photo):
        rows_of.setdefault(str(photo), []).append(row)
    photos, tars = sorted(rows_of), []
    for number, start in enumerate(range(0, len(photos), PHOTOS_A_TAR)):
        tars.append(path.with_name(f"{path.stem}-{number:06d}.tar"))
        with tarfile.open(tars[-1], "w") as tar:
            for photo in photos[start : start + PHOTOS_A_TAR]:
                data = [
                    {
                        "keypoints_2d": keypoints_2d[row].astype(np.float32),
                        "keypoints_3d": keypoints_3d[row].astype(np.float32),
                        "center": people.crop_center_px[row].astype(np.float32),
                        "scale": np.full(2, people.crop_size_px[row] / SCALE_PX, np.float32),
                        "body_pose": people.pose[row].astype(np.float32),
                        "betas": people.betas[row].astype(np.float32),
                        "has_body_pose": np.array(1.0, np.float32),
                        "has_betas": np.array(float(people.is_smpl), np.float32),
                        "extra_info": {"name": str(people.name[row]), "body_model": people.body_model},
                    }
                    for row in rows_of[photo]
                ]
                key = photo.replace("%", "%25").replace(".", "%2e")  # a dot would end WebDataset's key
                jpg = _upright_jpg(people.images / str(people.imgname[rows_of[photo][0]]))
                for suffix, content in (("jpg", jpg), ("data.pyd", pickled(data))):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return tars


class _Pickler(pickle.Pickler):
    """Arrays as calls of numpy.array: numpy 2 would name a module that readers with numpy 1 do not have."""

    def reducer_override(self, value):
        if isinstance(value, np.ndarray):
            return np.array, (value.tolist(), value.dtype.str)
        return NotImplemented


def pickled(value) -> bytes:
    """A pickle of dicts, lists and arrays that Python 3 with any numpy reads."""
    content = io.BytesIO()
    _Pickler(content, protocol=4).dump(value)
    return content.getvalue()


def _upright_jpg(photo: Path) -> bytes:
    """A photo as JPEG whose pixels stand upright: the file itself where it is one, for its readers pass over EXIF."""
    from PIL import ExifTags, Image

    from fitter.see.picture import read_image

    with Image.open(photo) as image:
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) in (0, 1)
        if image.format == "JPEG" and image.mode == "RGB" and upright:
            return photo.read_bytes()
    content = io.BytesIO()
    Image.fromarray(read_image(photo)).save(content, "JPEG", quality=95)
    return content.getvalue()


def write_eft(people: People, path: Path) -> None:
    """EFT's json: rotation matrices, and a weak-perspective camera of the crop.

    `annotId` is COCO's where known, else -1; `smpltype` says smpl, or the body's name where that is not SMPL.
    """
    from scipy.spatial.transform import Rotation

    center, size = people.crop_center_px, people.crop_size_px
    camera = crop_camera(people)
    rotations = Rotation.from_rotvec(people.pose.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    keypoints = np.concatenate([people.observed_px, people.spin_px], 1)
    seen = people.observed_px[:, [BODY_25.index(name) for name in OPENPOSE_COCO_18], 2] > 0
    data = [
        {
            "parm_pose": rotations[row].tolist(),
            "parm_shape": people.betas[row].tolist(),
            "parm_cam": camera[row].tolist(),
            "bbox_scale": float(size[row] / SCALE_PX),
            "bbox_center": center[row].tolist(),
            "gt_keypoint_2d": keypoints[row].tolist(),
            "joint_validity_openpose18": seen[row].astype(float).tolist(),
            "smpltype": "smpl" if people.is_smpl else people.body_model,
            "annotId": -1 if people.annot_id is None else int(people.annot_id[row]),
            "imageName": str(people.imgname[row]),
            "subjectId": str(people.name[row]),
            "labelName": "" if people.labelname is None else str(people.labelname[row]),
        }
        for row in range(len(people))
    ]
    meta = {
        "dbname": path.stem,
        "rawname": path.stem,
        "body_model": people.body_model,
        "has_smpl": people.is_smpl,
    }
    path.write_text(json.dumps({"ver": 0.1, "data": data, "meta": meta}))


def crop_camera(people: People) -> np.ndarray:
    """[N, 3] s, tx, ty: joints posed without translation, x, y -> s (x, y) + t, -1..1 across the crop.

    The least-squares nearest to the fit's perspective over the 24 joints. A weak perspective cannot agree with it
    wholly: the error grows as the body's depth over its distance.
    """
    flat = (people.joints_cam - people.transl_cam[:, None])[..., :2]
    px = people.in_photo(people.joints_cam)[..., :2]
    seen = 2 * (px - people.crop_center_px[:, None]) / people.crop_size_px[:, None, None]
    mean, seen_mean = flat.mean(1, keepdims=True), seen.mean(1, keepdims=True)
    scale = ((flat - mean) * (seen - seen_mean)).sum((1, 2)) / ((flat - mean) ** 2).sum((1, 2))
    return np.column_stack([scale, seen_mean[:, 0] - scale[:, None] * mean[:, 0]])


def write_humandata(people: People, path: Path) -> None:
    """mmhuman3d's HumanData npz: `smpl`, `meta` and `misc` are dicts, so by its definition this file holds pickles.

    Of the 190 keypoints `keypoints2d` and `keypoints3d`, which HumanImageDataset reads, have the body's 24 joints, 11
    landmarks and SPIN's nine regressed joints, the first also the 25 observed; 3D is about the pelvis. Other readers of
    HumanData look for `keypoints2d_smpl` (the body's alone) and `keypoints2d_original` (the observed alone). The masks
    [190] say which are there. `bbox_xywh` is the padded box of the seen keypoints, with a score of 1.
    """
    count = len(people)
    x0, y0, x1, y1 = people.box_px.T
    regressed, points_seen = list(REGRESSED), people.seen(JOINT_NAMES + LANDMARK_NAMES)
    points = people.in_photo(people.points_cam, points_seen)
    points_m = np.concatenate([people.about_pelvis(people.points_cam), points_seen[..., None]], -1)
    rows = [*HUMAN_DATA_JOINTS, *HUMAN_DATA_LANDMARKS, *HUMAN_DATA_REGRESSED]
    known = [np.concatenate(pair, 1) for pair in
             ((points, people.spin_px[:, regressed]), (points_m, people.spin_m[:, regressed]))]  # fmt: skip
    every, every_mask = _human_data(
        np.concatenate([known[0], people.observed_px], 1), [*rows, *HUMAN_DATA_OPENPOSE]
    )
    space, space_mask = _human_data(known[1], rows)
    body, body_mask = _human_data(points, HUMAN_DATA_JOINTS + HUMAN_DATA_LANDMARKS)
    seen, seen_mask = _human_data(people.observed_px, HUMAN_DATA_OPENPOSE)
    smpl = {
        "global_orient": people.pose[:, :3],
        "body_pose": people.pose[:, 3:].reshape(count, 23, 3),
        "betas": people.betas,
        "transl": people.transl_cam,
    }
    meta = {
        "focal_length": people.focal_px.tolist(),
        "principal_point": people.center_px.tolist(),
        "width": people.image_size_px[:, 0].astype(int).tolist(),
        "height": people.image_size_px[:, 1].astype(int).tolist(),
    }
    if people.gender:
        meta["gender"] = [people.gender] * count
    _save_with_dicts(
        path,
        __key_strict__=False,
        __data_len__=count,
        __keypoints_compressed__=False,
        image_path=people.imgname,
        bbox_xywh=np.column_stack([x0, y0, x1 - x0, y1 - y0, np.ones(count)]).astype(np.float32),
        keypoints2d=every,
        keypoints2d_mask=every_mask,
        keypoints3d=space,
        keypoints3d_mask=space_mask,
        keypoints2d_smpl=body,
        keypoints2d_smpl_mask=body_mask,
        keypoints2d_original=seen,
        keypoints2d_original_mask=seen_mask,
        smpl={name: array.astype(np.float32) for name, array in smpl.items()},
        has_smpl=people.has_smpl,
        meta=meta,
        misc={
            "bbox_source": "keypoints2d_original",
            "smpl_source": "dsr-fitter",
            "body_model": people.body_model,
        },
        config=path.stem,
    )


def _human_data(keypoints: np.ndarray, rows) -> tuple[np.ndarray, np.ndarray]:
    """[N, K, C] -> [N, 190, C] with zeros elsewhere, and the mask [190]."""
    padded = np.zeros((len(keypoints), HUMAN_DATA_COUNT, keypoints.shape[2]), np.float32)
    mask = np.zeros(HUMAN_DATA_COUNT, np.uint8)
    padded[:, list(rows)], mask[list(rows)] = keypoints, 1
    return padded, mask


def _save_with_dicts(path: Path, **entries) -> None:
    """An npz whose dicts are pickles, as `numpy.savez` writes it, but for readers of any numpy."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in entries.items():
            array = np.asarray(value)
            with file.open(f"{name}.npy", "w") as entry:
                if array.dtype.hasobject:
                    np.lib.format.write_array_header_1_0(
                        entry, np.lib.format.header_data_from_array_1_0(array)
                    )
                    entry.write(pickled(array))
                else:
                    np.lib.format.write_array(entry, array, allow_pickle=False)


def write_neuralannot(people: People, path: Path) -> None:
    """NeuralAnnot's json, keyed by COCO's annotation id, or by `<photo>_<person>` where there is none."""
    keys = people.name if people.annot_id is None else people.annot_id
    data = {
        str(keys[row]): {
            "smpl_param": {
                "pose": people.pose[row].tolist(),
                "shape": people.betas[row].tolist(),
                "trans": people.transl_cam[row].tolist(),
            },
            "cam_param": {
                "focal": people.focal_px[row].tolist(),
                "princpt": people.center_px[row].tolist(),
            },
            "body_model": people.body_model,
            "has_smpl": people.is_smpl,
        }
        for row in range(len(people))
    }
    path.write_text(json.dumps(data))


def amass_motion(
    pose: np.ndarray, transl_cam: np.ndarray, pelvis_cam: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AMASS's poses [T, 156] and trans [T, 3] m of pose [T, 72], transl_cam and pelvis_cam [T, 3]: a world with z up,
    the camera at the origin and looking along y; hands at rest."""
    from scipy.spatial.transform import Rotation

    poses = np.zeros((len(pose), AMASS_JOINTS, 3))
    poses[:, :AMASS_BODY] = pose.reshape(-1, 24, 3)[:, :AMASS_BODY]
    root = Rotation.from_matrix(WORLD_OF_CAMERA) * Rotation.from_rotvec(pose[:, :3])
    poses[:, 0] = root.as_rotvec()
    # the root turns about the pelvis at rest
    trans = pelvis_cam @ WORLD_OF_CAMERA.T - (pelvis_cam - transl_cam)
    return poses.reshape(len(pose), -1).astype(np.float32), trans.astype(np.float32)


def write_amass(people: People, path: Path) -> list[Path]:
    """A folder of AMASS-style npz, one a person: a motion of one frame, in a world with z up; returns them.

    poses [1, 156] as SMPL-H's 52 joints: SMPL's first 22, hands at rest; trans [1, 3] m, the camera at the origin and
    looking along y; betas [16], of which 10 are the body's; gender; mocap_framerate 30. The other keys tell where it
    is from.
    """

    path.mkdir(parents=True, exist_ok=True)
    poses, trans = amass_motion(people.pose, people.transl_cam, people.joints_cam[:, 0])
    places = [path / f"{name}.npz" for name in people.name]
    for row, place in enumerate(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            place,
            poses=poses[row, None],
            trans=trans[row, None],
            betas=np.pad(people.betas[row], (0, AMASS_BETAS - 10)).astype(np.float32),
            gender=np.array({"m": "male", "f": "female", None: "neutral"}[people.gender]),
            mocap_framerate=np.array(AMASS_RATE),
            imgname=people.imgname[row],
            body_model=np.array(people.body_model),
            has_smpl=np.array(people.is_smpl),
        )
    return places


def _save(path: Path, arrays: dict[str, np.ndarray], people: People) -> None:
    """An npz that needs no pickle; floats as float32. Readers pass over what they do not know."""
    arrays = {"has_smpl": people.has_smpl, **arrays}
    if people.gender:
        arrays["gender"] = np.array([people.gender] * len(people))
    arrays = {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}
    np.savez_compressed(path, body_model=np.array(people.body_model), **arrays)
