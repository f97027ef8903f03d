"""Clothing labels of the people in a photo: whose they are, cleaning (DSR supplement A.2), crops, distances.

A label map is [H, W] uint8, see `fitter/label/label_files.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from fitter.label.label_classes import (
    JUDGED,
    POOR,
    UNKNOWN,
    fitting,
    likelier_order,
    read_classes,
    skin_as_jumpsuits,
    table_of,
)
from fitter.label.label_files import called, read_ids, read_mask, to_photo_size
from fitter.label.occlusion import doubtful_pixels
from fitter.label.order import covered_keypoints, in_front
from fitter.label.soft_labels import SoftLabels
from fitter.see.keypoints import Person
from fitter.see.limbs import part_distances, standing_height_px
from fitter.see.person_box import label_box
from priors.clothing import LABELS, MC_LABELS

CROP_PX = 224  # the crop whose pixels supplement A.2 counts in
MIN_MC_PX = 60  # A.2, at CROP_PX
ROUNDING = 1e-6  # share of a cell that is nothing
MINE, OTHERS = 1, 2  # values of `own_pixels`
WHOLE_REGION = 0.9  # of a connected region nearest to one person: then all of it is theirs
TIE_BREAK = 1e-3  # standing heights per radius of a part: matters only inside several people
NOWHERE = 1e3  # standing heights: someone of whom no part is seen
ASSIGN_PX = 400  # longer side at which pixels are told apart by skeletons


@dataclass(frozen=True)
class PersonLabels:
    """One person's labels in one photo, cleaned.

    ids: [H, W] uint8, 0..19 or UNKNOWN.
    valid: [H, W] uint8, 1 where the label is known to be this person's or background, 0 where `ids` is
        UNKNOWN. Losses count the pixels that are 1.
    mc_labels: the MC labels that this photo shows of the person, in the order of MC_LABELS; may be empty.
    soft: the parser's probabilities, of which `ids` are the likeliest; None where labels came from a file.
    covered: [25] bool, keypoints that somebody or something is seen in front of; None where nobody looked.
    source: "parser", or the file; doubt: why they should not be trusted, "" where nothing speaks against them.
    """

    ids: np.ndarray
    valid: np.ndarray
    mc_labels: tuple[int, ...]
    soft: SoftLabels | None = None
    covered: np.ndarray | None = None
    source: str = ""
    doubt: str = ""

    @property
    def nothing(self) -> str:
        """What they show where they show nothing of the person, in words; "" where they do."""
        counts = np.bincount(self.ids.reshape(-1), minlength=256)
        if counts[1:UNKNOWN].any():
            return ""
        return "nothing but background" if counts[0] else "all unknown"


def load_labels(
    files: Mapping[str | None, Path | np.ndarray],
    size: tuple[int, int],
    classes: str = "lip",
    people: Sequence[Person] = (),
    place: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str | None, np.ndarray]:
    """Label maps by person, None for the whole photo's, as `label_files` found them: read, in our ids, at the photo's
    size (height, width).

    classes: the order of the files' ids; place: brings a map to the picture that is fitted (`Frame.straight`).
    ValueError: where people are given, ids that are clearly of another order, by the keypoints of those whose map it
    is.
    """
    maps = {}
    table = table_of(read_classes(classes)).astype(np.uint8)
    for person, path in files.items():
        ids = to_photo_size(read_ids(path, classes), size, called(path))
        ids = place(ids) if place else ids
        whose = [one.keypoints_px for one in people if person in (None, one.id)]
        likelier = likelier_order(ids, classes, whose)
        if likelier:
            raise ValueError(
                f"labels {called(path)}: expected ids in the order of {classes}, by the keypoints they look like "
                f"{likelier.upper()}'s: --label-classes {likelier}"
            )
        maps[person] = table[ids]
    return maps


def doubt_of(labels: "PersonLabels", keypoints_px: np.ndarray) -> str:
    """Why one person's labels should not be trusted, by their keypoints [25, 3]; "" if nothing speaks against them."""
    fit, judged = fitting(labels.ids, keypoints_px)
    if judged >= JUDGED and fit < POOR * judged:
        return (
            f"labels: {judged - fit} of {judged} places on labels that are not seen there; another photo's, or ids "
            "in another order (--label-classes)"
        )
    if skin_as_jumpsuits(labels.ids, [keypoints_px]):
        return "labels: jumpsuits at the neck alone; CIHP's skin: --label-classes cihp"
    return ""


def load_masks(
    files: Mapping[str | None, Path | np.ndarray],
    size: tuple[int, int],
    place: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str | None, np.ndarray]:
    """Masks that `label_files` found in a folder of them, as `load_labels`: [H, W] uint8 of 0 and 1."""
    masks = {person: to_photo_size(read_mask(path), size, called(path)) for person, path in files.items()}
    return {person: place(mask) if place else mask for person, mask in masks.items()}


def labels_of_people(
    maps: Mapping[str | None, np.ndarray],
    people: list[Person],
    bodies: np.ndarray | None = None,
    fitted_px: np.ndarray | None = None,
    ignore: Mapping[str | None, np.ndarray] | None = None,
    depth_m: np.ndarray | None = None,
) -> list[PersonLabels | None]:
    """Each person's labels from all maps of the photo (`load_labels`); None for those without any.

    people: everybody seen in the photo, not only those to fit, so that a neighbour's shirt finds its owner.
    bodies: [P, H, W], see `own_pixels`; depth_m: [P], how far away they are. A person's own map wins over the photo's;
    where another shows, this person's label is unknown, and background if this person stands before that one
    (`in_front`). fitted_px: [P, 25, 2], the keypoints of those bodies; with them, what `doubtful_pixels` finds is
    unknown. ignore: masks [H, W], non-zero where nothing is to be judged (`load_masks`), of the whole photo (None) and
    of single people.
    """
    ignore = ignore or {}
    whole = maps.get(None)
    own = own_pixels(whole, people, bodies) if whole is not None and len(people) > 1 else None
    shown = shown_of(maps, people, own)
    before = np.zeros((len(people), len(people)), bool)
    if bodies is not None and depth_m is not None and len(people) > 1:
        heights = np.array([standing_height_px(person.keypoints_px) for person in people])
        before = in_front(bodies, shown, depth_m, heights)
    result: list[PersonLabels | None] = []
    for index, person in enumerate(people):
        mine = maps.get(person.id)
        ids = whole if mine is None else mine
        if ids is None:
            result.append(None)
            continue
        ids, named = ids.copy(), ids != UNKNOWN
        if mine is None and own is not None:
            ids[own[index] == OTHERS] = UNKNOWN
        for other in range(len(people)):
            if other == index or (whole is None and people[other].id not in maps):
                continue
            theirs = shown[other] & (ids == 0) if mine is not None else shown[other] & ~shown[index]
            ids[theirs] = 0 if before[index, other] else UNKNOWN
        for whose in {None, person.id} & ignore.keys():
            ids[ignore[whose] > 0] = UNKNOWN
        if fitted_px is not None:
            ids[doubtful_pixels(ids, person.keypoints_px, fitted_px[index], bodies[index])] = UNKNOWN
        covered = covered_keypoints(person.keypoints_px, ids, named & (ids == UNKNOWN))
        result.append(replace(clean_labels(ids, person.keypoints_px), covered=covered))
    return result


def shown_of(
    maps: Mapping[str | None, np.ndarray], people: list[Person], own: np.ndarray | None
) -> np.ndarray:
    """Whose label each pixel has, [P, H, W] bool: by their own map, or the photo's with `own_pixels`."""
    shape = next(iter(maps.values())).shape if maps else (1, 1)
    shown = np.zeros((len(people), *shape), bool)
    for index, person in enumerate(people):
        if person.id in maps:
            shown[index] = (maps[person.id] > 0) & (maps[person.id] != UNKNOWN)
        elif own is not None:
            shown[index] = own[index] == MINE
    return shown


def clean_labels(ids: np.ndarray, keypoints_px: np.ndarray) -> PersonLabels:
    """Supplement A.2, scaled to the person: ids [H, W] of one person (0..19, UNKNOWN), keypoints_px [25, 3].

    A labelled pixel outside `label_box` becomes unknown, not background: it is a neighbour, who may stand
    before this person, or a limb whose keypoints were missed. An MC label of fewer than 60 px of the 224 px
    crop is dropped: its pixels become unknown too.
    """
    box, side = label_box(keypoints_px)
    height, width = ids.shape
    x0, y0, x1, y1 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int)
    cleaned = np.where(ids > 0, UNKNOWN, 0).astype(np.uint8)
    cleaned[y0:y1, x0:x1] = ids[y0:y1, x0:x1]
    counts = np.bincount(cleaned.reshape(-1), minlength=256)
    enough = MIN_MC_PX * (side / CROP_PX) ** 2
    shown = tuple(label for label in MC_LABELS if counts[label] >= enough)
    dropped = [label for label in MC_LABELS if 0 < counts[label] and label not in shown]
    if dropped:
        cleaned[np.isin(cleaned, dropped)] = UNKNOWN
    return PersonLabels(cleaned, (cleaned != UNKNOWN).astype(np.uint8), shown)


def own_pixels(ids: np.ndarray, people: list[Person], bodies: np.ndarray | None = None) -> np.ndarray:
    """Whose the labelled pixels of a photo are: [P, H, W] uint8, MINE 1, OTHERS 2, else 0 (or nobody's).

    ids: [H, W]. people: everybody seen in the photo. bodies: [P, H, W], coverage 0..1 of the currently
    rendered bodies, or None before there are any; a person whose plane is empty is judged by their
    skeleton. A pixel belongs to a person within whose `label_box` it lies; within several, to the person
    whose rendered body, else skeleton, is nearest in their own scale. A connected region of one label goes
    as a whole to the person who has 90 % of it.
    """
    if bodies is not None and bodies.shape != (len(people), *ids.shape):
        raise ValueError(f"own_pixels: expected bodies {(len(people), *ids.shape)}, got {bodies.shape}")
    labelled = (ids > 0) & (ids != UNKNOWN)
    result = np.zeros((len(people), *ids.shape), np.uint8)
    if not people:
        return result
    near = np.stack([labelled & _inside(label_box(person.keypoints_px)[0], ids.shape) for person in people])
    owner = np.where(near.any(0), near.argmax(0), -1)
    contested = near.sum(0) > 1
    if contested.any():
        distance = [
            _distances(contested, person.keypoints_px, None if bodies is None else bodies[p])
            for p, person in enumerate(people)
        ]
        owner[contested] = np.where(near[:, contested], distance, np.inf).argmin(0)
        owner = _whole_regions(ids, owner, near, contested)
    for p in range(len(people)):
        result[p][owner == p] = MINE
        result[p][(owner >= 0) & (owner != p)] = OTHERS
    return result


def crop_labels(
    ids: np.ndarray, valid: np.ndarray, window_px: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Soft labels of a window of the photo at a crop's resolution, by exact area averaging.

    ids: [H, W] 0..19 or UNKNOWN; valid: [H, W], 0 = not to be counted. window_px: x0, y0, x1, y1 in the
    photo, may be fractional and reach beyond it. size: (h, w) of the crop. Returns prob [h, w, 20] float32,
    the shares of the labels in the known part of each cell (sum 1, or 0 where nothing is known), and valid
    [h, w] float32, the share of the cell that is known: 0 beyond the photo. A window that is enlarged keeps
    its pixels' edges. ValueError: an empty or non-finite window.
    """
    part, rows, columns = _cells(ids.shape, window_px, size)
    areas = np.zeros((len(LABELS), *size), np.float32)  # px of each label in each cell
    inside = ids[part].copy()
    inside[valid[part] == 0] = UNKNOWN
    if inside.size:
        counts = cv2.calcHist([inside], [0], None, [256], [0, 256]).reshape(-1)[: len(LABELS)]
        for label in np.flatnonzero(counts):
            _add_areas(areas[label], (inside == label).view(np.uint8), rows, columns)
    total = areas.sum(0)
    known, least = _share(total, rows, columns)
    areas *= np.where(total > least, 1 / np.maximum(total, least), 0)
    return np.ascontiguousarray(areas.transpose(1, 2, 0)), known


def crop_known(known: np.ndarray, window_px: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The second result of `crop_labels` alone: known [H, W], 0 = not to be counted -> [h, w] float32."""
    part, rows, columns = _cells(known.shape, window_px, size)
    total = np.zeros(size, np.float32)
    if known[part].size:
        _add_areas(total, (known[part] != 0).view(np.uint8), rows, columns)
    return _share(total, rows, columns)[0]


def _cells(shape: tuple[int, int], window_px: np.ndarray, size: tuple[int, int]):
    """The part of a picture [H, W] that a window touches, as an index; and the borders [h + 1], [w + 1] of the window's
    cells in px of that part."""
    x0, y0, x1, y1 = (float(v) for v in window_px)
    if not (x1 > x0 and y1 > y0 and np.isfinite([x0, y0, x1, y1]).all()):
        raise ValueError(f"crop_labels: expected a window x0 < x1, y0 < y1, got {[x0, y0, x1, y1]}")
    rows, columns = np.linspace(y0, y1, size[0] + 1), np.linspace(x0, x1, size[1] + 1)
    left, top = max(int(np.floor(x0)), 0), max(int(np.floor(y0)), 0)
    right, bottom = max(min(int(np.ceil(x1)), shape[1]), 0), max(min(int(np.ceil(y1)), shape[0]), 0)
    return np.s_[top:bottom, left:right], rows - top, columns - left


def _share(total: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, float]:
    """What share of its cell an area [h, w] px is, float32, 0 where it is only rounding; and up to where it is."""
    cell_px = (rows[-1] - rows[0]) * (columns[-1] - columns[0]) / total.size
    least = ROUNDING * cell_px
    return np.where(total > least, np.minimum(total / cell_px, 1), 0).astype(np.float32), least


def distance_px(mask: np.ndarray) -> np.ndarray:
    """Euclidean distance [h, w] float32, px, of each pixel from the nearest one of a mask [h, w]: 0 on the
    mask, and everywhere if it is empty. The d(G) of soft-DistM (paper, eq. 2)."""
    outside = (np.asarray(mask) == 0).astype(np.uint8)
    if outside.all():
        return np.zeros(outside.shape, np.float32)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # the root of a whole number; OpenCV rounds it one way or the other by where in memory the mask lies
    return np.sqrt(np.rint(np.square(distance, dtype=np.float64))).astype(np.float32)


def _inside(box_px: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """[H, W] bool: pixels whose middles lie in a box x0, y0, x1, y1."""
    x, y = np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5
    return ((y >= box_px[1]) & (y <= box_px[3]))[:, None] & ((x >= box_px[0]) & (x <= box_px[2]))[None]


def _distances(where: np.ndarray, keypoints_px: np.ndarray, body: np.ndarray | None) -> np.ndarray:
    """How far the N pixels of a mask [H, W] are from one person, [N], in standing heights.

    From the rendered body, or without one from the skeleton's capsules; inside several people, the
    skeleton's axes decide. Skeletons are looked at in blocks of pixels that keep the picture within
    ASSIGN_PX.
    """
    step = -(-max(where.shape) // ASSIGN_PX)
    y, x = np.nonzero(where)
    width = where.shape[1] // step + 1
    blocks, back = np.unique(y // step * width + x // step, return_inverse=True)
    middles = (np.stack([blocks % width, blocks // width], 1) + 0.5) * step
    relative, beyond = (d.min(1)[back] for d in part_distances(middles, keypoints_px))
    tie_break = np.where(np.isfinite(relative), TIE_BREAK * relative, 0)
    if body is not None and (body > 0.5).any():
        beyond = distance_px(body > 0.5)[where] / np.float32(standing_height_px(keypoints_px))
    return np.clip(beyond, 0, NOWHERE) + tie_break


def _whole_regions(ids, owner: np.ndarray, near: np.ndarray, contested: np.ndarray) -> np.ndarray:
    """Owners [H, W] (-1 nobody), a region's contested pixels given to the person who has all but a few of
    it, as far as they are near [P, H, W] to them."""
    owner = owner.copy()
    for label in np.unique(ids[contested]):
        count, regions = cv2.connectedComponents(((ids == label) & (owner >= 0)).astype(np.uint8))
        there = regions > 0
        votes = np.bincount(regions[there] * len(near) + owner[there], minlength=count * len(near))
        votes = votes.reshape(count, len(near))
        clear = votes.max(1) >= WHOLE_REGION * np.maximum(votes.sum(1), 1)
        winner = votes.argmax(1)[regions]
        take = there & contested & clear[regions] & np.take_along_axis(near, winner[None], 0)[0]
        owner[take] = winner[take]
    return owner


def _add_areas(areas: np.ndarray, mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Adds to areas [h, w] the px of a mask [H, W] of 0 and 1 in each cell between borders [h + 1], [w + 1].

    A summed-area table is bilinear within a pixel, so that reading it between pixels is exact. Only the
    mask's bounding rectangle is looked at.
    """
    x, y, width, height = cv2.boundingRect(mask)
    first, last = np.searchsorted(rows, [y, y + height], "right")
    rows = rows[max(first - 1, 0) : last + 1]
    begin, end = np.searchsorted(columns, [x, x + width], "right")
    columns = columns[max(begin - 1, 0) : end + 1]
    table = cv2.integral(mask[y : y + height, x : x + width])
    (down, i), (across, j) = _between(rows - y, height), _between(columns - x, width)
    index, step, flat = i[:, None] * (width + 1) + j, width + 1, table.reshape(-1)
    upper, lower = flat[index], flat[index + step]
    upper = upper + (flat[index + 1] - upper) * across
    lower = lower + (flat[index + step + 1] - lower) * across
    corner = upper + (lower - upper) * down[:, None]
    strip = corner[1:] - corner[:-1]
    block = areas[max(first - 1, 0) : max(first - 1, 0) + len(rows) - 1, max(begin - 1, 0) :]
    block[:, : len(columns) - 1] += strip[:, 1:] - strip[:, :-1]


def _between(borders: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Borders cut to 0..length as a rest 0..1 and the whole pixel, at most length - 1."""
    cut = borders.clip(0, length)
    whole = np.minimum(cut.astype(np.int64), length - 1)
    return cut - whole, whole
