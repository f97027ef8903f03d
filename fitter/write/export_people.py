"""Fitted people as arrays, the way dataset formats want them: crops, joints in the photo, about the pelvis."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fitter.body.model import LANDMARK_NAMES
from fitter.body.spin_joints import PELVIS, SPIN_24_OF_SMPL
from fitter.see.person_box import spin_side
from fitter.see.visibility import SEEN
from priors.skeleton import JOINT_NAMES

# BODY_25 as SMPL's own joints and landmarks, the way SPIN, 4D-Humans and CameraHMR take them from the model
BODY_25_OF_SMPL = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe",
    "right_heel",
)  # fmt: skip


@dataclass(frozen=True)
class People:
    """N fitted people, row by row.

    images: the folder of photos; imgname [N] relative to it; photo [N], the photo's name in results; name [N] unique;
    annot_id [N] COCO's annotation ids, None if there are none; pose [N, 72], betas [N, 10], transl_cam [N, 3] m (added
    after posing, as SMPL does); joints_cam [N, 24, 3], landmarks_cam [N, 11, 3], spin_cam [N, 24, 4] m with confidence
    (see `spin_joints_of`); focal_px, center_px, image_size_px [N, 2]; box_px [N, 4] x0 y0 x1 y1 of the seen keypoints,
    padded; observed_px [N, 25, 3] with confidence; joint_states [N, 24] of `fitter.see.visibility`: what was not seen
    has confidence 0 everywhere; body_model: its name; is_smpl: whether that is SMPL, so that `betas` mean what readers
    take them for; gender: 'm', 'f', or None where the body is neutral; labelname [N]: each one's own label map below
    `export.LABEL_MAPS`, "" for none
    """

    images: Path
    imgname: np.ndarray
    photo: np.ndarray
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
    is_smpl: bool
    gender: str | None
    labelname: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pose)

    @property
    def has_smpl(self) -> np.ndarray:
        """[N] uint8: 1 where pose and betas are SMPL's."""
        return np.full(len(self), self.is_smpl, np.uint8)

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
