"""Each person once: which of the skeletons that the networks gave, one a box, are people, and why the others are not.

Networks that look for one person take the neighbour where two overlap, and put a body into a car's front where no
person is. What is here was chosen on composites of street photos (`benchmarks.people --development`).
"""

from dataclasses import dataclass

import numpy as np

from fitter.see.keypoints import COCO_17
from fitter.see.person_box import BOX_CONFIDENCE, box_side, padded_box

MIN_JOINTS = 6  # of a person: so many
SURE = 0.38  # with a confidence above this
LEAST_TRUNK = 0.25  # of the wider of shoulders and hips
SAME_PERSON = 0.5  # likeness of two skeletons, from which they are one person's
ANOTHER = 0.2  # likeness with everybody, below which a second look has found somebody
BODY = 0.4  # square root of a standing person's area / longer side of the box
SIGMAS = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
)  # COCO's, of COCO_17
MIRROR_17 = [COCO_17.index({"L": "R", "R": "L"}.get(name[0], "N") + name[1:]) for name in COCO_17]
TRUNK = [COCO_17.index(name) for name in ("LShoulder", "RShoulder", "LHip", "RHip")]


@dataclass(frozen=True)
class Skeleton:
    """What was seen in a box [4] px: joints [K >= 17, 3] px and confidence, COCO_17 first; score: the box's."""

    box: np.ndarray
    score: float
    joints: np.ndarray


@dataclass(frozen=True)
class Refusal:
    """Why a skeleton was refused, in words; first: the row whose person it shows again, if it does."""

    why: str
    first: int | None = None


def each_once(found: list[Skeleton]) -> tuple[list[int], dict[int, Refusal]]:
    """Rows of the people, best seen first, and what was refused, by row.

    Of several skeletons of one person the one with the most confidence in all its joints is kept.
    """
    kept: list[int] = []
    refused: dict[int, Refusal] = {}
    for row in np.argsort([-one.joints[:17, 2].sum() for one in found], kind="stable").tolist():
        joints = found[row].joints
        again = [other for other in kept if likeness(joints, found[other].joints) > SAME_PERSON]
        if why := no_person(joints):
            refused[row] = Refusal(why)
        elif again:
            refused[row] = Refusal(f"the same person again as in {place(found[again[0]].box)}", again[0])
        else:
            kept.append(row)
    return kept, refused


def is_another(joints: np.ndarray, people: list[np.ndarray]) -> bool:
    """Whether a second look, with a person hidden, shows somebody who is clearly none of the people."""
    return not no_person(joints) and all(likeness(joints, one) < ANOTHER for one in people)


def place(box: np.ndarray) -> str:
    return "x0 y0 x1 y1 = " + " ".join(f"{edge:.0f}" for edge in box)


def no_person(joints: np.ndarray) -> str:
    """Why joints [K >= 17, 3] px are no person's; "" if they may be."""
    sure = int((joints[:17, 2] > SURE).sum())
    if sure < MIN_JOINTS:
        return f"{sure} joints of a confidence above {SURE}, expected {MIN_JOINTS}"
    return "a trunk that is far wider than long" if crushed(joints) else ""


def crushed(joints: np.ndarray) -> bool:
    """Whether the trunk of joints [K >= 17, 3] px, seen whole, is shorter than any not seen from above: the networks
    were shown no person, or a head."""
    trunk = joints[TRUNK]
    if (trunk[:, 2] <= BOX_CONFIDENCE).any():
        return False
    left, right = trunk[::2, :2], trunk[1::2, :2]
    length = np.linalg.norm((left[0] + right[0] - left[1] - right[1]) / 2)
    return bool(length < LEAST_TRUNK * np.linalg.norm(left - right, axis=1).max())


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """0..1: COCO's object keypoint similarity of two skeletons [K >= 17, 3] px over the joints seen in both, at the
    smaller one's size, also with left and right exchanged."""
    first, second = first[:17], second[:17]
    seen = [joints[joints[:, 2] > BOX_CONFIDENCE] for joints in (first, second)]
    if not all(map(len, seen)):
        return 0.0
    side = min(box_side(padded_box(joints)) for joints in seen)
    alike = []
    for other in (second, second[MIRROR_17]):
        both = (first[:, 2] > BOX_CONFIDENCE) & (other[:, 2] > BOX_CONFIDENCE)
        if both.any():
            alike.append(similarity(first, other, (BODY * side) ** 2)[both].mean())
    return float(max(alike, default=0.0))


def similarity(joints: np.ndarray, others: np.ndarray, area_px: float) -> np.ndarray:
    """[17] 0..1: how near joints [17, >= 2] px are to others, as in COCO's keypoint similarity at a person's area."""
    squared = ((joints[:, :2] - others[:, :2]) ** 2).sum(1)
    return np.exp(-squared / (2 * max(area_px, 1.0) * (2 * SIGMAS) ** 2))
