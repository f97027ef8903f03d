"""Every box and square about a person, by their keypoints: the one place that says how much further each reaches.

Boxes are [4] float64 x0, y0, x1, y1 in photo px; pixel coordinates are continuous, 0 at the photo's edge. Squares are a
centre [2] and half a side.
"""

import numpy as np

BOX_CONFIDENCE = 0.3  # of keypoints that span the box (METHOD.md section 2)
ABOVE_EYES, BELOW_ANKLES, BESIDE = (
    0.07,
    0.05,
    0.03,
)  # of the longer side: what a box about the whole person adds
BOX_PADDING = 0.12  # of the longer side, on every side: crown and soles lie beyond eyes and ankles
SPIN_MARGIN = 1.2  # side of SPIN's and DSR's crops / longer side of the keypoints' extent
LABELS_GROWN = 30 / 224  # of that crop's side: how far beyond the keypoints supplement A.2 believes labels
COMPARED_MARGIN = 1.25  # side of the square in which labels and body are compared / longer side of the box


def keypoint_box(keypoints_px: np.ndarray) -> np.ndarray:
    """[K, 3] px -> [4]: extent of the keypoints of confidence > 0.3, padded by 12 % of its longer side: the person's
    scale everywhere. With fewer than two such, of all that are not missing. ValueError if all are missing."""
    return padded_box(_spanning(keypoints_px))


def padded_box(points_px: np.ndarray) -> np.ndarray:
    """Points [N, >= 2] px -> their extent, padded as `keypoint_box` does."""
    low, high = points_px[:, :2].min(0), points_px[:, :2].max(0)
    padding = BOX_PADDING * (high - low).max()
    return np.concatenate([low - padding, high + padding])


def person_extent(keypoints_px: np.ndarray) -> np.ndarray:
    """[K, 3] px -> [4]: about where a detector of people puts its box. ValueError if all are missing."""
    points = _spanning(keypoints_px)[:, :2]
    low, high = points.min(0), points.max(0)
    side = float((high - low).max())
    return np.concatenate(
        [low - [BESIDE * side, ABOVE_EYES * side], high + [BESIDE * side, BELOW_ANKLES * side]]
    )


def spin_side(box_px: np.ndarray) -> np.ndarray:
    """Sides [...], px, of SPIN's square crops about `keypoint_box`es [..., 4]; its `scale` is that / 200."""
    return SPIN_MARGIN * (box_px[..., 2:] - box_px[..., :2]).max(-1) / (1 + 2 * BOX_PADDING)


def label_box(keypoints_px: np.ndarray) -> tuple[np.ndarray, float]:
    """Where supplement A.2 believes a person's labels, [4], and the side, px, of its crop: the keypoints' extent, grown
    by 30/224 of the crop, 16 % of the longer side. ValueError: no keypoint."""
    points = _spanning(keypoints_px)
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    side = SPIN_MARGIN * max(float((high - low).max()), 1.0)
    return np.concatenate([low - LABELS_GROWN * side, high + LABELS_GROWN * side]), side


def compared_window(box_px: np.ndarray) -> np.ndarray:
    """[4]: the square about a box in which a person's labels and body are compared."""
    low, high = box_px[:2], box_px[2:]
    half = COMPARED_MARGIN * (high - low).max() / 2
    return np.concatenate([(low + high) / 2 - half, (low + high) / 2 + half])


def _spanning(keypoints_px: np.ndarray) -> np.ndarray:
    """The keypoints [N, 3] that say how large somebody is."""
    chosen = keypoints_px[:, 2] > BOX_CONFIDENCE
    chosen = chosen if chosen.sum() >= 2 else keypoints_px[:, 2] > 0
    if not chosen.any():
        raise ValueError("keypoints: expected one of confidence > 0, got none")
    return keypoints_px[chosen]


def widened(box: np.ndarray, share: float) -> np.ndarray:
    """A box [4] that reaches further on every side by a share of its longer side."""
    return box + share * box_side(box) * np.array([-1, -1, 1, 1])


def box_side(box: np.ndarray) -> float:
    return float((box[2:] - box[:2]).max())


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection of two boxes [4] as a share of the smaller one."""
    return _common(first, second) / min(float((box[2:] - box[:2]).prod()) for box in (first, second))


def box_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection of two boxes [4] as a share of their union."""
    both = _common(first, second)
    return both / max(float(sum((box[2:] - box[:2]).prod() for box in (first, second))) - both, 1e-9)


def _common(first: np.ndarray, second: np.ndarray) -> float:
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    return float(sides.clip(0).prod())
