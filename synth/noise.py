"""What a detector and a parser get wrong: noise on true keypoints and label maps, at stated levels.

The keypoint magnitudes are those of the shipped detector on real photos (benchmarks/results/keypoint_noise.md).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from fitter.label.label_files import UNKNOWN
from fitter.see.keypoints import BODY_25
from fitter.see.person_box import keypoint_box
from priors.clothing import LABELS, MIRROR_LABELS


@dataclass(frozen=True)
class JointNoise:
    """Per cent of the person's box, a coordinate: deviation; share of outliers and theirs; share not detected."""

    sigma_pct: float
    outliers: float
    outlier_pct: float
    dropped: float


KEYPOINT_NOISE = {
    "face": JointNoise(0.8, 0.01, 4.0, 0.0),
    "shoulder": JointNoise(0.85, 0.01, 4.0, 0.0),
    "elbow": JointNoise(0.8, 0.01, 4.0, 0.06),
    "wrist": JointNoise(0.7, 0.02, 8.0, 0.12),
    "hip": JointNoise(0.85, 0.01, 4.0, 0.0),
    "knee": JointNoise(0.85, 0.01, 4.0, 0.01),
    "ankle": JointNoise(0.9, 0.01, 4.0, 0.01),
    "foot": JointNoise(1.3, 0.015, 4.0, 0.15),
}
TOGETHER_PCT = 0.3  # of the box: a shift that all keypoints of a person share
HIDDEN_WORSE, HIDDEN_DROPPED = 1.8, 0.1  # hidden joints: factor on the noise, further share not detected
CONFIDENCE_SEEN, CONFIDENCE_HIDDEN = (0.55, 0.87), (0.35, 0.75)
_GROUP = {
    "Nose": "face", "Eye": "face", "Ear": "face", "Neck": "shoulder", "Shoulder": "shoulder", "Elbow": "elbow",
    "Wrist": "wrist", "MidHip": "hip", "Hip": "hip", "Knee": "knee", "Ankle": "ankle", "BigToe": "foot",
    "SmallToe": "foot", "Heel": "foot",
}  # fmt: skip


@dataclass(frozen=True)
class LabelNoise:
    """How wrong a label map is.

    boundary: standard deviation of how far boundaries are shifted, share of the person's height; confused: chance
    that a label is taken for its likeliest confusion; swapped: that left and right of a limb are; blobs: mean
    number of patches of another label or of background on the person; blob: their radius, share of the height.
    """

    boundary: float
    confused: float
    swapped: float
    blobs: float
    blob: float


LABEL_NOISE = (
    LabelNoise(0.0, 0.0, 0.0, 0.0, 0.0),  # exact
    LabelNoise(0.006, 0.05, 0.03, 0.5, 0.02),  # a careful annotator, a good parser
    LabelNoise(0.015, 0.2, 0.12, 3.0, 0.04),  # a poor one
)
_CONFUSIONS = {
    "hat": "hair", "scarf": "upper-clothes", "upper-clothes": "coat", "coat": "upper-clothes", "dress": "upper-clothes",
    "jumpsuits": "pants", "pants": "skirt", "skirt": "dress", "socks": "pants", "sunglasses": "face", "glove": "coat",
}  # fmt: skip


def noisy_keypoints(keypoints_px: np.ndarray, rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
    """What a detector makes of true keypoints.

    keypoints_px: [25, 3] x, y, 1 seen / 0 hidden; scale: factor on all deviations. -> [25, 3] with confidence, 0 where
    nothing was detected. Neck and MidHip are the middles of what was detected at their sides.
    """
    x0, y0, x1, y1 = keypoint_box(np.column_stack([keypoints_px[:, :2], np.ones(25)]))
    unit = scale * max(x1 - x0, y1 - y0) / 100
    noise = [KEYPOINT_NOISE[_GROUP[name] if name in _GROUP else _GROUP[name[1:]]] for name in BODY_25]
    seen = keypoints_px[:, 2] > 0
    sigma = np.array([n.sigma_pct for n in noise])
    wild = rng.random(25) < [n.outliers for n in noise]
    sigma = np.where(wild, [n.outlier_pct for n in noise], sigma) * np.where(seen, 1, HIDDEN_WORSE)
    shift = rng.normal(0, 1, (25, 2)) * sigma[:, None] + TOGETHER_PCT * rng.normal(0, 1, 2)
    moved = keypoints_px[:, :2] + unit * shift
    dropped = rng.random(25) < np.array([n.dropped for n in noise]) + np.where(seen, 0, HIDDEN_DROPPED)
    low, high = np.where(seen[:, None], CONFIDENCE_SEEN, CONFIDENCE_HIDDEN).T
    result = np.column_stack([moved, rng.uniform(low, high)])
    result[dropped] = 0
    for middle, sides in (("Neck", ("LShoulder", "RShoulder")), ("MidHip", ("LHip", "RHip"))):
        pair = result[[BODY_25.index(side) for side in sides]]
        row = BODY_25.index(middle)
        result[row] = [*pair[:, :2].mean(0), pair[:, 2].min()] if (pair[:, 2] > 0).all() else 0
    return result


def noisy_labels(ids: np.ndarray, rng: np.random.Generator, level: int) -> np.ndarray:
    """What a parser makes of a true label map [H, W] uint8 at a level of LABEL_NOISE. -> [H, W] uint8."""
    noise = LABEL_NOISE[level]
    rows = np.nonzero((ids > 0).any(1))[0]
    if level == 0 or not len(rows):
        return ids.copy()
    height = float(np.ptp(rows) + 1)
    result = ids.copy()
    for name, other in _CONFUSIONS.items():
        if rng.random() < noise.confused:
            result[ids == LABELS.index(name)] = LABELS.index(other)
    for left in (14, 16, 18):
        if rng.random() < noise.swapped:
            pair = np.isin(ids, (left, left + 1))
            result[pair] = np.array(MIRROR_LABELS)[ids[pair]]
    result = shifted_boundaries(result, noise.boundary * height, rng)
    for _ in range(rng.poisson(noise.blobs)):
        ys, xs = np.nonzero((ids > 0) & (ids != UNKNOWN))
        if not len(ys):
            break
        at = rng.integers(len(ys))
        radius = max(1, round(noise.blob * height * rng.uniform(0.5, 1.5)))
        label = 0 if rng.random() < 0.5 else int(rng.integers(1, len(LABELS)))
        cv2.circle(result, (int(xs[at]), int(ys[at])), radius, label, -1)
    return result


def shifted_boundaries(ids: np.ndarray, sigma_px: float, rng: np.random.Generator) -> np.ndarray:
    """A label map whose pixels are taken from smoothly varying places around: [H, W] -> [H, W]."""
    cell = max(2.0, 2.5 * sigma_px)
    coarse = tuple(int(np.ceil(side / cell)) + 3 for side in ids.shape)
    rows, columns = np.mgrid[: ids.shape[0], : ids.shape[1]].astype(np.float32)
    shift = [
        cv2.resize(
            rng.normal(0, sigma_px, coarse).astype(np.float32), ids.shape[::-1], interpolation=cv2.INTER_CUBIC
        )
        for _ in range(2)
    ]
    return cv2.remap(
        ids, columns + shift[0], rows + shift[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
