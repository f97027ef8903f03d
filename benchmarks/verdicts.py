"""What was found in a picture whose people are known: everybody once, twice, mixed up, or nobody there; and a drawing.

The rules are told in `benchmarks/people.py`.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.composites import IN_17, Composite
from fitter.see.each_once import MIRROR_17, similarity
from fitter.see.keypoints import Person
from fitter.see.person_box import BOX_CONFIDENCE

LEAST_JOINTS, LEAST_SHARE = 6, 0.35  # of a person who counts
FOUND_OKS, FALSE_OKS = 0.5, 0.1
LIKE, UNLIKE, STRANGE_JOINTS = (
    0.5,
    0.1,
    3,
)  # a joint's similarity with one person and with another; how many merge two
WRONG = ("duplicates", "merged", "false")
LIMBS = (
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (5, 11),
    (11, 13),
    (13, 15),
    (6, 12),
    (12, 14),
    (14, 16),
    (5, 6),
    (11, 12),
    (0, 5),
    (0, 6),
)


@dataclass(frozen=True)
class Verdict:
    """What was found of one picture. oks [P] of whom each is matched with, 0 without; match [P]: row found, or -1;
    counted [P] bool; duplicates, merged, false: rows found."""

    oks: np.ndarray
    match: np.ndarray
    counted: np.ndarray
    duplicates: list[int]
    merged: list[int]
    false: list[int]


def oks(found: np.ndarray, joints: np.ndarray, area_px: float, used: np.ndarray) -> float:
    """Mean similarity over the joints `used` [17] bool; 0 without any."""
    return float(similarity(found, joints, area_px)[used].mean()) if used.any() else 0.0


def judge(found: list[np.ndarray], scores: list[float], truth: Composite) -> Verdict:
    """found: joints [17, 3] px, confidence."""
    people = len(truth.joints)
    counted = (truth.visible.sum(1) >= LEAST_JOINTS) & (truth.share >= LEAST_SHARE)
    shape = len(found), people
    alike, anywhere = np.zeros(shape), np.zeros(shape)
    whole = truth.area_px / np.maximum(truth.share, 1e-9)
    for row, one in enumerate(found):
        for p in range(people):
            alike[row, p] = oks(one, truth.joints[p], truth.area_px[p], truth.visible[p])
            anywhere[row, p] = oks(one, truth.joints[p], whole[p], truth.joints[p, :, 2] > 0)
    match = np.full(people, -1)
    for row in np.argsort(-np.asarray(scores), kind="stable"):
        free = np.where(counted & (match < 0), alike[row], 0)
        if free.size and free.max() >= FOUND_OKS:
            match[free.argmax()] = row
    duplicates, merged, false = [], [], []
    for row, one in enumerate(found):
        owner = int(np.argmax(match == row)) if (match == row).any() else int(anywhere[row].argmax())
        if of_two(one, truth, whole, owner):
            merged.append(row)
        elif (match == row).any():
            continue
        elif anywhere[row].max() < FALSE_OKS:
            middle = one[one[:, 2] > BOX_CONFIDENCE, :2].mean(0)
            if not any(holds(truth.joints[p], middle) for p in np.nonzero(~counted)[0]):
                false.append(row)
        elif match[owner] >= 0:
            duplicates.append(row)
    matched = np.array([alike[match[p], p] if match[p] >= 0 else 0.0 for p in range(people)])
    return Verdict(matched, match, counted, duplicates, merged, false)


def of_two(found: np.ndarray, truth: Composite, whole_px: np.ndarray, owner: int) -> bool:
    """Whether confident joints of a skeleton are those of somebody else than its owner."""
    sure = found[:, 2] > BOX_CONFIDENCE
    own = truth.joints[owner]
    known = own[:, 2] * own[MIRROR_17, 2] > 0
    near = np.maximum(
        similarity(found, own, whole_px[owner]), similarity(found, own[MIRROR_17], whole_px[owner])
    )
    others = [p for p in range(len(truth.joints)) if p != owner]
    for p in others:
        theirs = (similarity(found, truth.joints[p], whole_px[p]) > LIKE) & (truth.joints[p, :, 2] > 0)
        if (theirs & sure & known & (near < UNLIKE)).sum() >= STRANGE_JOINTS:
            return True
    return False


def holds(joints: np.ndarray, point: np.ndarray) -> bool:
    known = joints[joints[:, 2] > 0, :2]
    return bool(((point >= known.min(0)) & (point <= known.max(0))).all())


def joints_17(person: Person) -> np.ndarray:
    return person.keypoints_px[IN_17]


def draw(path: Path, truth: Composite, people: list[Person], verdict: Verdict, refused: list[str]) -> None:
    """The picture; true joints as rings, white where they count, and skeletons found: green matched, red not, magenta
    duplicates, yellow merged, blue false."""
    picture = truth.image.copy()
    for p, joints in enumerate(truth.joints):
        colour = (255, 255, 255) if verdict.counted[p] else (120, 120, 120)
        for x, y in joints[truth.visible[p], :2]:
            cv2.circle(picture, (int(x), int(y)), 5, colour, 1, cv2.LINE_AA)
        if verdict.counted[p]:
            x, y = joints[joints[:, 2] > 0, :2].min(0)
            missed = verdict.match[p] < 0
            text = "missed" if missed else f"{verdict.oks[p]:.2f}"
            cv2.putText(
                picture,
                text,
                (int(x), max(int(y) - 12, 12)),
                0,
                0.5,
                (255, 0, 0) if missed else (0, 90, 0),
                2,
            )
    for row, person in enumerate(people):
        kinds = (
            (verdict.merged, (255, 255, 0)),
            (verdict.duplicates, (255, 0, 255)),
            (verdict.false, (0, 0, 255)),
        )
        colour = next(
            (c for rows, c in kinds if row in rows), (0, 220, 0) if row in verdict.match else (255, 0, 0)
        )
        joints = joints_17(person)
        for a, b in LIMBS:
            if min(joints[a, 2], joints[b, 2]) > BOX_CONFIDENCE:
                cv2.line(
                    picture, *(tuple(int(v) for v in joints[j, :2]) for j in (a, b)), colour, 2, cv2.LINE_AA
                )
    for line, text in enumerate(refused):
        cv2.putText(picture, text, (5, 15 + 15 * line), 0, 0.42, (255, 0, 0), 1, cv2.LINE_AA)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
