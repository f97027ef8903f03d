"""What is done to pictures of people, their labels and keypoints, so that the parser learns from harder ones.

image [S, S, 3] uint8; ids [S, S] uint8: labels, HIDDEN, UNKNOWN; points [25, 3]: keypoints, px of the square; `one`: a
`synth.parser.data.Stored`.
"""

from dataclasses import replace

import cv2
import numpy as np

from fitter.label.label_files import UNKNOWN
from fitter.label.soft_labels import HIDDEN
from fitter.see.keypoints import BODY_25
from fitter.see.limbs import part_distances
from fitter.see.person_box import BOX_CONFIDENCE
from priors.clothing import LABELS

GUESSED = 0.15  # of a stored square's side: how far beyond the photo's edge keypoints are guessed at it
UPPER = tuple(map(LABELS.index, ("upper-clothes", "coat", "scarf")))
ONE_PIECE = tuple(map(LABELS.index, ("dress", "jumpsuits")))
SKIN = tuple(map(LABELS.index, ("face", "left-arm", "right-arm")))
BARE_LABELS = (
    13,
    HIDDEN,
    14,
    15,
    HIDDEN,
    HIDDEN,
)  # of skin nearest to each of PARTS: face, none, left, right arm
HIPS = tuple(map(BODY_25.index, ("MidHip", "RHip", "LHip")))
LIMBS = ((2, 3, 4), (5, 6, 7), (9, 10, 11, 22, 23, 24), (12, 13, 14, 19, 20, 21), (0, 15, 16, 17, 18))


def covered(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Label ids where something is within a mask that is not the person's."""
    return np.where(mask, np.where((ids > 0) & (ids != UNKNOWN), HIDDEN, 0), ids).astype(np.uint8)


def bared(one):
    """The person with the upper garments painted as skin: limbs' labels on limbs, HIDDEN on the trunk: no label."""
    garment, skin = np.isin(one.ids, UPPER), np.isin(one.ids, SKIN)
    if min(skin.sum(), garment.sum()) < 100 or np.isin(one.ids, ONE_PIECE).any():
        return one
    rows, columns = np.nonzero(garment)
    distances = part_distances(np.stack([columns, rows], 1) + 0.5, one.keypoints)[0]
    shade = cv2.GaussianBlur(one.image, (0, 0), 3.0)[garment].mean(-1, keepdims=True)
    shade = np.clip(shade / shade.mean(), 0.5, 1.6) ** 0.35
    image, ids = one.image.copy(), one.ids.copy()
    image[garment] = np.clip(np.median(one.image[skin], 0) * shade, 0, 255)
    ids[garment] = np.array(BARE_LABELS, np.uint8)[distances.argmin(1)]
    return replace(one, image=image, ids=ids)


def blended(front: np.ndarray, behind: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One picture before another within a mask, its border a little soft."""
    share = cv2.GaussianBlur(mask.astype(np.float32), (5, 5), 0.9)
    return cv2.blendLinear(front, behind, share, 1 - share)


def fainter(points: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keypoints [25, 3] of which half of those under a mask [S, S] are not detected."""
    points = points.copy()
    column, row = np.floor(points[:, :2]).astype(int).clip(0, len(mask) - 1).T
    points[mask[row, column] & (rng.random(25) < 0.5), 2] = 0
    return points


def cut_off(image, ids, points, rng: np.random.Generator):
    """The photo ends somewhere within the person, mostly below: black and unknown beyond. Keypoints there are lost, or
    the nearest of them guessed at the edge."""
    seen = points[points[:, 2] > BOX_CONFIDENCE, :2]
    if len(seen) < 6:
        return image, ids, points
    low, high = seen.min(0), seen.max(0)
    axis, share = rng.choice(2, p=[0.2, 0.8]), rng.uniform(0.12, 0.95)
    after = rng.random() < (0.85 if axis else 0.5)
    at = low[axis] + share * (high[axis] - low[axis]) if after else high[axis] - share * (high - low)[axis]
    return ended(image, ids, points, int(axis), at, after, rng if rng.random() < 0.35 else None)


def ended(image, ids, points, axis: int, at: float, after: bool, rng: np.random.Generator | None):
    """What is left of a picture and its keypoints where it ends at `at` px of an axis (1: the height). With `rng`,
    keypoints a little beyond are guessed near the edge. As it was if fewer than five keypoints would stay."""
    beyond = points[:, axis] > at if after else points[:, axis] < at
    if (points[~beyond, 2] > BOX_CONFIDENCE).sum() < 5:
        return image, ids, points
    image, ids, points = image.copy(), ids.copy(), points.copy()
    part = slice(max(int(at), 0), None) if after else slice(0, max(int(at), 0))
    where = (part, slice(None)) if axis else (slice(None), part)
    image[where], ids[where] = 0, UNKNOWN
    if rng is not None:
        near = beyond & (np.abs(points[:, axis] - at) < GUESSED * len(ids))
        points[near, axis] = at + rng.normal(0, 0.01 * len(ids), int(near.sum()))
        beyond &= ~near
    points[beyond, 2] = 0
    return image, ids, points


def close_up(one):
    """The person in a photo that ends at the hips' height; as they are if no hip was seen."""
    hips = one.keypoints[list(HIPS)]
    if not (hips[:, 2] > BOX_CONFIDENCE).any():
        return one
    at = hips[hips[:, 2] > BOX_CONFIDENCE, 1].mean()
    image, ids, points = ended(one.image, one.ids, one.keypoints, 1, at + 1, True, None)
    return replace(one, image=image, ids=ids, keypoints=points)


def wrong_keypoints(points: np.ndarray, others: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Keypoints as a poorer detector would give them, sometimes with a limb of somebody else; at least four stay."""
    points = points.copy()
    side = np.ptp(points[points[:, 2] > BOX_CONFIDENCE, :2], axis=0).max(initial=1.0)
    if others and rng.random() < 0.12:
        limb = list(LIMBS[rng.integers(len(LIMBS))])
        points[limb] = others[rng.integers(len(others))][limb]
    sigma = rng.choice([0.0, 0.006, 0.015], p=[0.3, 0.5, 0.2]) * side
    points[:, :2] += rng.normal(0, sigma, (25, 2)) if sigma else 0
    wild = rng.random(25) < 0.01
    points[wild, :2] += rng.normal(0, 0.08 * side, (int(wild.sum()), 2))
    lost = rng.random(25) < 0.04
    if rng.random() < 0.12:
        lost[list(LIMBS[rng.integers(len(LIMBS))])] = True
    kept = np.where(lost, 0, points[:, 2])
    if (kept > BOX_CONFIDENCE).sum() >= 4:
        points[:, 2] = kept
    return points


def other_colors(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure, contrast, white balance and saturation; sometimes grey, dark, blurred, small, noisy or badly
    compressed, and seldom so much so that hardly anything is to be seen."""
    values, outside = image.astype(np.float32), cv2.inRange(image, 0, 0) > 0
    dark, lost = rng.random(2) < (0.1, 0.03)
    gain, contrast = rng.uniform(0.6, 1.4) * rng.normal(1, 0.07, 3), rng.uniform(0.6, 1.3)
    if dark:
        gain *= rng.uniform(0.12, 0.6) * np.exp(rng.normal(0, 0.25, 3))
    if lost:
        contrast *= rng.uniform(0, 0.15)
    mean = values.mean() * gain.mean()
    values = values * (gain * contrast).astype(np.float32) + np.float32(
        mean * (1 - contrast) + rng.normal(0, 5 if dark else 12)
    )
    grey = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None]
    values = grey + (values - grey) * np.float32(0 if rng.random() < 0.1 else rng.uniform(0.4, 1.5))
    spoil = rng.random()
    if spoil < 0.12:
        values = cv2.GaussianBlur(values, (0, 0), np.exp(rng.uniform(-0.7, 2.5 if lost else 1.0)))
    elif spoil < 0.2 or dark or lost:
        values = values + rng.uniform(3, 60 if lost else 14) * rng.standard_normal(values.shape, np.float32)
    values = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        _, coded = cv2.imencode(".jpg", values, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 60))])
        values = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    values[outside] = 0
    return values
