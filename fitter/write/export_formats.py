"""Fitted people as the dataset files that other tools read; one function a format.

px of the full upright photo, origin at the top left corner of the top left pixel; metres; rotations as axis-angle in
radians, in the camera's axes (x right, y down, z forward), unless said. Readers looked at: SPIN base_dataset.py and
fits_dict.py, CLIFF viz_cliffGT_perSubject.py, EFT demo/visEFTFit.py, 4D-Humans and ProHMR
datasets/image_dataset.py, BEDLAM dataset_smpl.py, CameraHMR dataset_train.py, mmhuman3d human_data.py, NeuralAnnot
MSCOCO/demo_smpl.py.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fitter.body.model import LANDMARK_NAMES
from fitter.body.spin_joints import PELVIS, SPIN_24_OF_SMPL
from fitter.see.keypoints import BODY_25, OPENPOSE_COCO_18
from fitter.see.person_box import spin_side
from fitter.see.visibility import SEEN
from priors.skeleton import JOINT_NAMES

SCALE_PX = 200  # one unit of SPIN's, EFT's and BEDLAM's `scale`
# BODY_25 as SMPL's own joints and landmarks, the way SPIN, 4D-Humans and CameraHMR take them from the model
BODY_25_OF_SMPL = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe",
    "right_heel",
)  # fmt: skip
EXTRA = 19  # of SPIN's 24 joints, those that 4D-Humans and CameraHMR append to BODY_25
# rows of mmhuman3d's HUMAN_DATA convention
HUMAN_DATA_COUNT = 190
HUMAN_DATA_JOINTS = (*range(22), 188, 189)  # JOINT_NAMES
HUMAN_DATA_LANDMARKS = (55, 57, 56, 59, 58, 60, 61, 62, 63, 64, 65)  # LANDMARK_NAMES
HUMAN_DATA_OPENPOSE = range(153, 178)  # BODY_25


@dataclass(frozen=True)
class People:
    """N fitted people, row by row.

    imgname [N] relative to the folder of photos; name [N] unique; annot_id [N] COCO's annotation ids, None if there
    are none; pose [N, 72], betas [N, 10], transl_cam [N, 3] m (added after posing, as SMPL does); joints_cam
    [N, 24, 3], landmarks_cam [N, 11, 3], spin_cam [N, 24, 4] m with confidence (see `spin_joints_of`); focal_px,
    center_px, image_size_px [N, 2]; box_px [N, 4] x0 y0 x1 y1 of the seen keypoints, padded; observed_px [N, 25, 3]
    with confidence; joint_states [N, 24] of `fitter.see.visibility`: what was not seen has confidence 0 everywhere;
    body_model: its name; gender: 'm', 'f', or None where the body is neutral
    """

    imgname: np.ndarray
    name: np.ndarray
    annot_id: np.ndarray | None
    pose: np.ndarray
    betas: np.ndarray
    transl_cam: np.ndarray
    joints_cam: np.ndarray
    landmarks_cam: np.ndarray
    spin_cam: np.ndarray
    focal_px: np.ndarray
    center_px: np.ndarray
    image_size_px: np.ndarray
    box_px: np.ndarray
    observed_px: np.ndarray
    joint_states: np.ndarray
    body_model: str
    gender: str | None

    @property
    def crop_center_px(self) -> np.ndarray:
        """[N, 2]"""
        return (self.box_px[:, :2] + self.box_px[:, 2:]) / 2

    @property
    def crop_size_px(self) -> np.ndarray:
        """[N] side of the square crop: 1.2 times the longer side of what the seen keypoints span."""
        return spin_side(self.box_px)

    @cached_property
    def points_cam(self) -> np.ndarray:
        """[N, 35, 3] joints and landmarks."""
        return np.concatenate([self.joints_cam, self.landmarks_cam], 1)

    @cached_property
    def body_25_cam(self) -> np.ndarray:
        """[N, 25, 3] the body's own joints in BODY_25's order."""
        names = JOINT_NAMES + LANDMARK_NAMES
        return self.points_cam[:, [names.index(name) for name in BODY_25_OF_SMPL]]

    @cached_property
    def body_25_px(self) -> np.ndarray:
        """[N, 25, 3] the same in the photo; confidence 1 where seen and inside of it."""
        return self.in_photo(self.body_25_cam, self.seen(BODY_25_OF_SMPL))

    @cached_property
    def spin_px(self) -> np.ndarray:
        """[N, 24, 3] SPIN's joints in the photo; confidence 1 where known, seen and inside of it."""
        return self.in_photo(self.spin_cam[..., :3], self.spin_m[..., 3])

    @property
    def spin_m(self) -> np.ndarray:
        """[N, 24, 4] SPIN's joints about the pelvis; confidence 1 where known and seen."""
        confidence = self.spin_cam[..., 3] * self.seen(SPIN_24_OF_SMPL)
        return np.concatenate([self.about_pelvis(self.spin_cam[..., :3]), confidence[..., None]], -1)

    def seen(self, names: tuple[str, ...]) -> np.ndarray:
        """[N, K] 1 where joints or landmarks, by their SMPL names, were seen, else 0."""
        joints = [JOINT_NAMES.index(_joint_of(name)) for name in names]
        return (self.joint_states[:, joints] == SEEN).astype(float)

    def about_pelvis(self, points_cam: np.ndarray) -> np.ndarray:
        """[N, K, 3] -> the same about SPIN's pelvis, the middle of its hips."""
        return points_cam - self.spin_cam[:, PELVIS, None, :3]

    def in_photo(self, points_cam: np.ndarray, confidence: np.ndarray | float = 1.0) -> np.ndarray:
        """[N, K, 3] m -> [N, K, 3]: px, and the confidence where in front of the camera and in the photo, else 0."""
        front = points_cam[..., 2:] > 0
        px = points_cam[..., :2] / np.where(front, points_cam[..., 2:], 1.0)
        px = np.where(front, px * self.focal_px[:, None] + self.center_px[:, None], 0.0)
        inside = ((px >= 0) & (px < self.image_size_px[:, None])).all(-1, keepdims=True) & front
        return np.concatenate([px, inside * np.atleast_3d(confidence)], -1)


def _joint_of(name: str) -> str:
    """The joint that a landmark hangs on; a joint itself."""
    if name in JOINT_NAMES:
        return name
    return name.split("_")[0] + "_foot" if name.endswith(("toe", "heel")) else "head"


def write_spin(people: People, path: Path) -> None:
    """SPIN's npz with CLIFF's extra fields, and beside it its static fits `<stem>_fits.npy` [N, 82] = pose | betas.

    `focal_l` is the focal length that `global_t` was fitted with: sqrt(w^2 + h^2) unless a camera or EXIF said else.
    `gender` is left out for a neutral body, as the reader takes all but 'm' for female and a missing one for neutral.
    """
    arrays = {**_spin_arrays(people), "global_t": people.transl_cam, "focal_l": people.focal_px.mean(1)}
    if people.annot_id is not None:
        arrays["annot_id"] = people.annot_id
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
        "has_smpl": np.ones(len(people.pose), np.uint8),
        "part": people.spin_px,
        "openpose": people.observed_px,
        "S": people.spin_m,
    }


def write_bedlam(people: People, path: Path) -> None:
    """BEDLAM's npz as CameraHMR reads it: `gtkps` [N, 44, 3] is the body's BODY_25 and the first 19 of SPIN's joints.

    BEDLAM's own SMPL reader takes keypoints from `part` and `openpose`, and `shape` only where there are `betas`.
    """
    matrix = np.zeros((len(people.pose), 3, 3))
    matrix[:, [0, 1], [0, 1]], matrix[:, :2, 2], matrix[:, 2, 2] = people.focal_px, people.center_px, 1
    arrays = _spin_arrays(people)
    arrays |= {
        "pose_cam": arrays.pop("pose"),
        "betas": people.betas,
        "trans_cam": people.transl_cam,
        "cam_int": matrix,
        "gtkps": np.concatenate([people.body_25_px, people.spin_px[:, :EXTRA]], 1),
    }
    _save(path, arrays, people)


def write_4dhumans(people: People, path: Path) -> None:
    """ProHMR's and 4D-Humans' npz: `scale` in px; 3D about the pelvis, with confidence."""
    body_m = people.about_pelvis(people.body_25_cam)
    true = np.ones(len(people.pose), np.float32)
    arrays = {
        "imgname": people.imgname,
        "center": people.crop_center_px,
        "scale": people.crop_size_px,
        "body_pose": people.pose,
        "has_body_pose": true,
        "betas": people.betas,
        "has_betas": true,
        "body_keypoints_2d": people.observed_px,
        "extra_keypoints_2d": people.spin_px[:, :EXTRA],
        "body_keypoints_3d": np.concatenate([body_m, people.seen(BODY_25_OF_SMPL)[..., None]], -1),
        "extra_keypoints_3d": people.spin_m[:, :EXTRA],
    }
    _save(path, arrays, people)


def write_eft(people: People, path: Path) -> None:
    """EFT's json: rotation matrices, and a weak-perspective camera of the crop.

    `annotId` is COCO's where known, else -1; `smpltype` says smpl (not smplx) whatever the body, which `meta` names.
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
            "smpltype": "smpl",
            "annotId": -1 if people.annot_id is None else int(people.annot_id[row]),
            "imageName": str(people.imgname[row]),
            "subjectId": str(people.name[row]),
        }
        for row in range(len(people.pose))
    ]
    meta = {"dbname": path.stem, "rawname": path.stem, "body_model": people.body_model}
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

    Of the 190 keypoints `keypoints2d_smpl` has the body's 24 joints and 11 landmarks, `keypoints2d_original` the 25
    observed; the masks [190] say which. `bbox_xywh` is the padded box of the seen keypoints, with a score of 1.
    """
    count = len(people.pose)
    x0, y0, x1, y1 = people.box_px.T
    points = people.in_photo(people.points_cam, people.seen(JOINT_NAMES + LANDMARK_NAMES))
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
    np.savez_compressed(
        path,
        __key_strict__=False,
        __data_len__=count,
        __keypoints_compressed__=False,
        image_path=people.imgname,
        bbox_xywh=np.column_stack([x0, y0, x1 - x0, y1 - y0, np.ones(count)]).astype(np.float32),
        keypoints2d_smpl=body,
        keypoints2d_smpl_mask=body_mask,
        keypoints2d_original=seen,
        keypoints2d_original_mask=seen_mask,
        smpl={name: array.astype(np.float32) for name, array in smpl.items()},
        meta=meta,
        misc={
            "bbox_source": "keypoints2d_original",
            "smpl_source": "dsr-fitter",
            "body_model": people.body_model,
        },
        config=path.stem,
    )


def _human_data(keypoints_px: np.ndarray, rows) -> tuple[np.ndarray, np.ndarray]:
    """[N, K, 3] -> [N, 190, 3] with zeros elsewhere, and the mask [190]."""
    padded = np.zeros((len(keypoints_px), HUMAN_DATA_COUNT, 3), np.float32)
    mask = np.zeros(HUMAN_DATA_COUNT, np.uint8)
    padded[:, list(rows)], mask[list(rows)] = keypoints_px, 1
    return padded, mask


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
        }
        for row in range(len(people.pose))
    }
    path.write_text(json.dumps(data))


def _save(path: Path, arrays: dict[str, np.ndarray], people: People) -> None:
    """An npz that needs no pickle; floats as float32. Readers pass over `body_model`."""
    if people.gender:
        arrays = {**arrays, "gender": np.array([people.gender] * len(people.pose))}
    arrays = {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}
    np.savez_compressed(path, body_model=np.array(people.body_model), **arrays)
