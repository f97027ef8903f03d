"""People of a photo as 2D keypoints: one format for files of all kinds (`keypoint_files`) and the shipped detector.

All keypoints become OpenPose's BODY_25 order in full-image pixels: x right, y down, origin at the top left
corner of the top left pixel. `fitter/see/keypoint_targets.py` says what each is matched to on the body.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fitter.see.person_box import BOX_CONFIDENCE

# fmt: off
BODY_25 = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip",
    "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe",
    "LHeel", "RBigToe", "RSmallToe", "RHeel",
)
FEET = ("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel")  # COCO-WholeBody's foot_kpts
COCO_17 = (
    "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist",
    "LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle",
)
OPENPOSE_COCO_18 = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip", "RKnee",
    "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar",
)
# BODY_25B's own neck (between head and trunk) and head top are other points than BODY_25's: not taken over
OPENPOSE_BODY_25B = COCO_17 + (None, None) + FEET
# fmt: on
MIRROR_25 = tuple(
    BODY_25.index({"L": "R", "R": "L"}.get(n[0], n[0]) + n[1:] if n[1:2].isupper() else n) for n in BODY_25
)
DERIVED = {"Neck": ("LShoulder", "RShoulder"), "MidHip": ("LHip", "RHip")}
SOURCES = ("openpose", "coco", "detector")


@dataclass(frozen=True)
class Person:
    """One person seen in one photo.

    id: stable name, unique within the photo.
    keypoints_px: [25, 3] float64: x, y in full-image px, confidence 0..1; 0 = missing (then x = y = 0).
    source: 'openpose' | 'coco' | 'detector', the definition that the keypoints follow (`body_targets`).
    box_px: [4] float64 x0, y0, x1, y1: `keypoint_box`, the person's scale everywhere.
    landmarks_3d: [33, 3] metres, BlazePose's landmarks in camera axes (x right, y down, z away), origin
        between the hips, or None.
    score: 0..1, how sure the source is that this is a person (1 where it does not say).
    derived: BODY_25 names that are means of two others, not observed themselves.
    """

    id: str
    keypoints_px: np.ndarray
    source: str
    box_px: np.ndarray
    landmarks_3d: np.ndarray | None = None
    score: float = 1.0
    derived: tuple[str, ...] = ()


def to_body_25(keypoints_px: np.ndarray, names: tuple[str | None, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Keypoints [K, 3] of the given names -> [25, 3] in BODY_25 order and the names that were derived.

    Neck and MidHip, where the source has none, are the mean of both shoulders (hips), with the lower of their
    confidences. Missing ones are (0, 0, 0). Confidence is clipped to 0..1.
    """
    body = np.zeros((25, 3))
    for name, keypoint in zip(names, keypoints_px, strict=True):
        if name is not None:
            body[BODY_25.index(name)] = keypoint
    body[:, 2] = body[:, 2].clip(0, 1)
    derived = tuple(name for name in DERIVED if name not in names)
    for name in derived:
        left, right = (body[BODY_25.index(side)] for side in DERIVED[name])
        body[BODY_25.index(name)] = [*(left[:2] + right[:2]) / 2, min(left[2], right[2])]
    body[body[:, 2] <= 0] = 0
    return body, derived


def confident(keypoints_px: np.ndarray, derived: Sequence[str]) -> np.ndarray:
    """[25] bool: keypoints [25, 3] that were seen for themselves, and surely."""
    return ~np.isin(BODY_25, derived) & (keypoints_px[:, 2] > BOX_CONFIDENCE)


def mirror_keypoints(keypoints_px: np.ndarray, width: int) -> np.ndarray:
    """[25, 3] px of a photo -> [25, 3] of the photo mirrored left to right: x -> width - x, sides swapped."""
    mirrored = keypoints_px[list(MIRROR_25)].copy()
    mirrored[:, 0] = np.where(mirrored[:, 2] > 0, width - mirrored[:, 0], 0)
    return mirrored


def select_people(people: list[Person], choice: str | int) -> list[Person]:
    """'all', 'largest', or N >= 1 for the N largest (by box area), in the order in which they came."""
    if choice == "all":
        return list(people)
    count = 1 if choice == "largest" else int(choice) if str(choice).isdecimal() else 0
    if count < 1:
        raise ValueError(f"people: expected 'all', 'largest' or a number of people from 1, got {choice!r}")
    areas = [-float(np.prod(person.box_px[2:] - person.box_px[:2])) for person in people]
    kept = sorted(sorted(range(len(people)), key=areas.__getitem__)[:count])
    return [people[i] for i in kept]
