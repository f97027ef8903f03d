"""Who stands before whom in a photo, and whose keypoints somebody or something else covers.

shown [P, H, W] bool: whose label a pixel has; bodies [P, H, W]: where each person's body, fitted to the keypoints
alone, lies, 0..1. Where two bodies overlap, whoever's labels show there stands in front.
"""

import numpy as np

from fitter.see.limbs import standing_height_px

CELLS = 100  # per standing height of the smallest: the resolution at which bodies are compared
CLEAR = 2.0  # times as many pixels as the other shows
LEAST = 0.001  # of the squared standing height: a smaller overlap tells nothing
APART = 0.1  # share of the distance by which somebody must be nearer whose body overlaps nobody's
REACH = 0.015  # standing heights about a keypoint within which the person must show


def in_front(
    bodies: np.ndarray, shown: np.ndarray, depth_m: np.ndarray, heights_px: np.ndarray
) -> np.ndarray:
    """[P, P] bool: the first surely stands before the second. depth_m: [P] of the pelvis; heights_px: [P], standing."""
    step = max(1, int(heights_px.min() / CELLS))
    bodies, shown = bodies[:, ::step, ::step] > 0.5, shown[:, ::step, ::step]
    result = np.zeros((len(bodies), len(bodies)), bool)
    for i in range(len(bodies)):
        for j in range(i):
            both = bodies[i] & bodies[j]
            mine, theirs = ((both & shown[one] & ~shown[other]).sum() for one, other in ((i, j), (j, i)))
            if (mine + theirs) * step**2 >= LEAST * min(heights_px[i], heights_px[j]) ** 2:
                result[i, j], result[j, i] = mine > CLEAR * theirs, theirs > CLEAR * mine
            elif not both.any():
                near = depth_m[[i, j]] < (1 - APART) * depth_m[[j, i]]
                result[i, j], result[j, i] = near
    return result


def covered_keypoints(keypoints_px: np.ndarray, ids: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """[25] bool: keypoints in the photo about which the person does not show, for something else does.

    keypoints_px: [25, 3]; ids: [H, W], the person's labels; unknown: [H, W] bool, where somebody or something is before
    them, or may be."""
    reach = max(1, round(REACH * standing_height_px(keypoints_px)))
    height, width = ids.shape
    covered = np.zeros(len(keypoints_px), bool)
    for row, (x, y) in enumerate(np.floor(keypoints_px[:, :2]).astype(int)):
        if keypoints_px[row, 2] > 0 and 0 <= x < width and 0 <= y < height and unknown[y, x]:
            about = np.s_[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
            covered[row] = not ((ids[about] > 0) & ~unknown[about]).any()
    return covered
