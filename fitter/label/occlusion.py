"""What a label map gets wrong about one person: an occluder called background, a stranger's clothes.

Both are found from where the person must be by the keypoints alone, and are to be treated as unknown. Lengths are
shares of the person's standing height. The thresholds lie beyond what unoccluded people of real photos show.
"""

import cv2
import numpy as np

from fitter.label.label_files import UNKNOWN
from fitter.see.limbs import PARTS, limb_capsules, part_distances, standing_height_px
from fitter.see.person_box import BOX_CONFIDENCE

CELLS = 200  # per standing height: the resolution that this is judged at
AXIS_BARE = 0.030  # a limb's axis between confident keypoints so far from any label is hidden
BODY_BARE = 0.05  # the same for the fitted body, which is surer of its middle than of its outline
REACH = 0.09  # around what is hidden beyond doubt, the rest of the body on background is hidden too
SLIVER = 0.02  # half the width of what the body may cover of the background beside labels
GROWN = 0.04  # about a limb's radius: room for the fit to move in, where it is nearer than any label
LEAST = 0.0005  # of the squared standing height: fewer pixels are noise
FAR = 0.04  # a region of one label of which less than NEAR_SHARE is nearer than that is a stranger's
NEAR_SHARE = 0.30
VERY_FAR = 0.10  # so far skirts reach; what hangs together with farther pixels, and is FAR, goes with them
MARGIN = 0.25  # around the person: labels beyond are a stranger's
GUESSED = 0.10  # how far off a part may be that is placed by the pose prior, not by keypoints
ARMS = (PARTS.index("left-arm"), PARTS.index("right-arm"))  # too free to be placed by anything but keypoints
OWN_PARTS = {  # where the minimally-clothed labels must lie
    13: ("head",),
    14: ("left-arm", "right-arm"),
    15: ("left-arm", "right-arm"),
    18: ("left-leg", "right-leg"),
    19: ("left-leg", "right-leg"),
}


def doubtful_pixels(
    ids: np.ndarray, keypoints_px: np.ndarray, fitted_px: np.ndarray, body: np.ndarray
) -> np.ndarray:
    """Where one person's labels should not be believed, [H, W] bool: an occluder's background, a stranger's clothes.

    ids: [H, W] uint8, 0..19 or UNKNOWN. keypoints_px: [25, 3], as detected. fitted_px, body: [25, 2] and [H, W], the
    keypoints and the coverage (0..1) of the person's body as fitted to the keypoints alone. A limb between
    confident keypoints, or a part of the body other than an arm, that lies on background away from all labels is
    hidden there: the footprint of the person and a margin are doubtful. Labelled regions that lie away from the body
    are a stranger's.
    ValueError: shapes that do not fit.
    """
    if body.shape != ids.shape or fitted_px.shape != (25, 2):
        raise ValueError(
            f"doubtful_pixels: expected a body {ids.shape} and 25 x 2 fitted keypoints, got {body.shape} and "
            f"{fitted_px.shape}; give the fit of this photo"
        )
    height_px = standing_height_px(keypoints_px)
    step = max(1, int(height_px / CELLS))
    filled = filled_keypoints(keypoints_px, fitted_px)
    x0, y0, x1, y1 = _window(filled, body, ids.shape, MARGIN * height_px)
    result = (ids > 0) & (ids != UNKNOWN)  # so beyond the window
    cells = ids[y0:y1, x0:x1][step // 2 :: step, step // 2 :: step].copy()
    covered = body[y0:y1, x0:x1][step // 2 :: step, step // 2 :: step] > 0.5
    if not cells.size:
        return result
    place = np.array([x0, y0, 0])
    scaled = [(points - place) / [step, step, 1] for points in (keypoints_px, filled)]
    height = height_px / step
    relative, beyond = _part_distances(scaled[1], cells.shape)
    strange = _strangers(cells, scaled[0], beyond, covered, height)
    cells[strange] = UNKNOWN
    steady = covered & ~np.isin(relative.argmin(-1), ARMS)
    doubtful = strange | _hidden(cells, scaled[0], covered | (beyond.min(-1) < 0), steady, height)
    fine = doubtful.repeat(step, 0).repeat(step, 1)[: y1 - y0, : x1 - x0]
    fine = np.pad(fine, [(0, y1 - y0 - fine.shape[0]), (0, x1 - x0 - fine.shape[1])], mode="edge")
    result[y0:y1, x0:x1] = fine
    return result


def filled_keypoints(keypoints_px: np.ndarray, fitted_px: np.ndarray) -> np.ndarray:
    """Keypoints [25, 3] of confidence 1: detected where that is confident, else the fit's [25, 2]."""
    known = keypoints_px[:, 2:] > BOX_CONFIDENCE
    return np.concatenate([np.where(known, keypoints_px[:, :2], fitted_px), np.ones((25, 1))], 1)


def _hidden(ids, keypoints, place, steady, height: float) -> np.ndarray:
    """Background [h, w] before which the person stands unseen. place, steady: [h, w] bool, where the person must be,
    and the part of it that the keypoints settle."""
    background = ids == 0
    bare = _distance(~background) / height
    axes = np.zeros(ids.shape, np.uint8)
    points = keypoints[keypoints[:, 2] > BOX_CONFIDENCE, :2]
    for _, *ends, _ in limb_capsules(keypoints):
        if all((points == end).all(1).any() for end in ends):  # not to where the fingers may be
            cv2.line(axes, *(tuple(int(v) for v in np.floor(end)) for end in ends), 1)
    sure = background & (((axes > 0) & (bare > AXIS_BARE)) | (steady & (bare > BODY_BARE)))
    if not sure.any():
        return sure
    core = _distance(~(background & place)) > SLIVER * height
    footprint = (
        background & place & (_distance(core) <= SLIVER * height)
    )  # opened: a stout body's outline is none
    hidden = sure | (footprint & (_distance(sure) < REACH * height))
    if hidden.sum() < LEAST * height**2:
        return np.zeros_like(hidden)
    margin = _distance(hidden)
    return background & (margin <= GROWN * height) & (margin <= _distance(~background))


def _strangers(ids, keypoints, beyond, body, height: float) -> np.ndarray:
    """Labelled cells [h, w] that are not this person's. beyond: [h, w, 6] standing heights from each part."""
    labelled = (ids > 0) & (ids != UNKNOWN)
    seen = {part for part, *_ in limb_capsules(keypoints)}
    slack = np.array([0 if part in seen else GUESSED for part in range(len(PARTS))], np.float32)
    anywhere = np.minimum((beyond - slack).min(-1), _distance(body) / height)
    strange = np.zeros(ids.shape, bool)
    for label in np.unique(ids[labelled]):
        own = [PARTS.index(part) for part in OWN_PARTS.get(int(label), ())]
        far = beyond[..., own].min(-1) if own and seen.issuperset(own) else anywhere
        of_label = ids == label
        count, regions = cv2.connectedComponents(of_label.astype(np.uint8))
        for region in range(1, count):
            inside = regions == region
            if np.quantile(far[inside], NEAR_SHARE) > FAR:
                strange |= inside
                continue
            beyond_doubt = inside & (anywhere > VERY_FAR)
            if beyond_doubt.sum() >= LEAST * height**2:
                strange |= inside & (_distance(beyond_doubt) < VERY_FAR * height) & (anywhere > FAR)
    return strange


def _part_distances(keypoints, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`part_distances` of all cells: two [h, w, 6]."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    points = np.stack([x.reshape(-1), y.reshape(-1)], 1) + 0.5
    return tuple(table.reshape(*shape, len(PARTS)) for table in part_distances(points, keypoints))


def _distance(mask: np.ndarray) -> np.ndarray:
    """Cells from the nearest one of a mask [h, w] bool; infinite if it is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _window(keypoints_px, body, shape: tuple[int, int], margin_px: float) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 px of the part of a photo that a person's keypoints and body lie in, with a margin."""
    low, high = keypoints_px[:, :2].min(0), keypoints_px[:, :2].max(0)
    x, y = (np.flatnonzero((body > 0.5).any(axis)) for axis in (0, 1))
    if len(x):
        low, high = np.minimum(low, [x[0], y[0]]), np.maximum(high, [x[-1] + 1, y[-1] + 1])
    window = np.concatenate([low - margin_px, high + margin_px])
    return tuple(np.clip(np.round(window), 0, [*shape[::-1], *shape[::-1]]).astype(int).tolist())
