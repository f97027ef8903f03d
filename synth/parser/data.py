"""Pictures for training the clothing parser: stored once, then cut, mixed and spoilt anew at every look.

A `Store` holds people: a square of the photo about each, label ids with HIDDEN where something is before the person,
keypoints. `Draw` makes training samples of them: scales, turns, colours, people cut off by the photo's edge, pasted
neighbours and occluders, wrong and missing keypoints.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fitter.label.label_files import UNKNOWN, mirrored_ids
from fitter.label.parse import LIMB_STRIDE, MIRROR_LIMBS, limb_maps
from fitter.label.soft_labels import HIDDEN
from fitter.see.crops import CROP, apply_affine, between_pixels, crop_to_photo
from fitter.see.keypoints import MIRROR_25
from fitter.see.limbs import part_distances
from fitter.see.person_box import BOX_CONFIDENCE, parser_square
from synth.ccp_labels import CCP_CLASSES, convert, main_person, people_source, read_ccp, read_class_map

STORED_PX, STORED_MARGIN = 416, 1.35  # side of a stored square; its side / the parser's
CARRIED = ("accessories", "bag", "purse", "wallet")  # CCP's classes of things before the person
LIMBS = ((2, 3, 4), (5, 6, 7), (9, 10, 11, 22, 23, 24), (12, 13, 14, 19, 20, 21), (0, 15, 16, 17, 18))


@dataclass(frozen=True)
class Stored:
    """One person: image [S, S, 3]; ids [S, S]: labels, HIDDEN, UNKNOWN; whole [S, S]: 1 where anything of the person or
    carried by them is; keypoints [25, 3] and other people's [N, 25, 3], px of the square."""

    image: np.ndarray
    ids: np.ndarray
    whole: np.ndarray
    keypoints: np.ndarray
    others: np.ndarray


def store_person(image, ids, whole, keypoints_px, others_px) -> Stored:
    """Cuts the square of a photo; beyond the photo, labels are unknown."""
    centre, half = parser_square(keypoints_px)
    to_photo = crop_to_photo(centre, half * STORED_MARGIN, 0.0, STORED_PX)
    how = cv2.INTER_AREA if 2 * half * STORED_MARGIN > STORED_PX else cv2.INTER_LINEAR
    shrink = min(1.0, STORED_PX / (2 * half * STORED_MARGIN))
    small = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=how) if shrink < 0.7 else image
    scale = np.array(small.shape[1::-1]) / image.shape[1::-1]
    size = (STORED_PX, STORED_PX)
    inverse = cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(
        small, between_pixels(to_photo * scale[:, None]), size, flags=cv2.INTER_LINEAR | inverse
    )
    nearest = {"flags": cv2.INTER_NEAREST | inverse}
    ids = cv2.warpAffine(ids, between_pixels(to_photo), size, borderValue=UNKNOWN, **nearest)
    whole = cv2.warpAffine(whole.astype(np.uint8), between_pixels(to_photo), size, **nearest)
    to_square = cv2.invertAffineTransform(to_photo)
    people = [
        np.column_stack([apply_affine(to_square, k[:, :2]), k[:, 2]]) for k in (keypoints_px, *others_px)
    ]
    return Stored(picture, ids, whole, people[0], np.array(people[1:]).reshape(-1, 25, 3))


def ccp_people(ccp: Path, keypoints: str) -> list[tuple[str, Stored]]:
    """(photo's stem, person) of all of Clothing-Co-Parsing whose labelled person was detected.

    keypoints: folder of OpenPose files, or 'detector'."""
    from fitter.see.camera import read_image

    carried = np.isin(np.arange(len(CCP_CLASSES)), [CCP_CLASSES.index(name) for name in CARRIED])
    stored, find_people = [], people_source(keypoints)
    for photo, labels in read_ccp(ccp):
        people = find_people(photo)
        ccp_ids = read_class_map(labels)
        person = main_person(people, ccp_ids)
        if person is None:
            continue
        ids, _ = convert(ccp_ids, person.keypoints_px)
        ids[carried[ccp_ids]] = HIDDEN
        others = [other.keypoints_px for other in people if other is not person]
        row = store_person(read_image(photo), ids, ccp_ids > 0, person.keypoints_px, others)
        stored.append((photo.stem, row))
    return stored


def synthetic_people(folder: Path) -> list[Stored]:
    """People of a folder that `synth.dataset` wrote. Where someone else or an occluder stands before a limb, the person
    is hidden."""
    with np.load(folder / "dataset.npz", allow_pickle=False) as file:
        names, keypoints = file["imgname"], file["openpose"].astype(float)
    stored = []
    for name, points in zip(names, keypoints, strict=True):
        stem = Path(str(name)).stem
        image = cv2.imread(str(folder / "images" / f"{stem}.jpg"))[..., ::-1]
        labels = cv2.imread(str(folder / "labels" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE)
        own = cv2.imread(str(folder / "masks" / f"{stem}.png"), cv2.IMREAD_GRAYSCALE) > 0
        points[:, 2] = np.where(points[:, 2] > 0, 0.7, 0.4)
        rows, columns = np.nonzero(~own)
        inside = part_distances(np.stack([columns, rows], 1) + 0.5, points)[0].min(1) < 1
        ids = np.where(own, labels, 0).astype(np.uint8)
        ids[rows[inside], columns[inside]] = HIDDEN
        stored.append(store_person(np.ascontiguousarray(image), ids, own, points, []))
    return stored


class Draw:
    """Draw(people)(index, rng, side) -> what `crop_of` gives; the first `textures` people go into others' pictures."""

    def __init__(self, people: list[Stored], textures: int):
        self.people, self.textures = people, textures

    def __call__(self, index: int, rng: np.random.Generator, side: int = CROP):
        image, ids, points, others = self.mixed(index, rng)
        if rng.random() < 0.25:
            image, ids, points = self.occluded(image, ids, points, rng)
        if rng.random() < 0.25:
            image, ids, points = cut_off(image, ids, points, rng)
        points = wrong_keypoints(points, rng)
        others = [wrong_keypoints(other, rng) for other in others if rng.random() < 0.85]
        return crop_of(image, ids, points, others, rng, side)

    def mixed(self, index: int, rng: np.random.Generator):
        """The person; or with another pasted beside, before or behind; or pasted before another picture."""
        one = self.people[index]
        image, ids, points = one.image, one.ids, one.keypoints
        others = list(one.others)
        kind = rng.choice(["alone", "beside", "elsewhere"], p=[0.55, 0.25, 0.2])
        if kind == "alone":
            return image, ids, points, others
        other = self.people[rng.integers(self.textures)]
        mirror = rng.random() < 0.5
        if kind == "elsewhere":  # an enlarged part of another picture as the background
            zoom = rng.uniform(1.5, 3.0)
            part = crop_to_photo(rng.uniform(0.25, 0.75, 2) * STORED_PX, STORED_PX / 2 / zoom, 0.0, STORED_PX)
            behind = cv2.warpAffine(
                other.image, between_pixels(part), (STORED_PX,) * 2, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )  # fmt: skip
            whole = (one.whole > 0) | (ids == HIDDEN)
            return blended(image, behind, whole), np.where(whole, ids, 0).astype(np.uint8), points, []
        shift = rng.choice([-1, 1]) * rng.uniform(0.08, 0.4) * STORED_PX, rng.normal(0, 0.05) * STORED_PX
        scale = rng.uniform(0.8, 1.2)
        moved = np.array([[-scale if mirror else scale, 0, 0], [0, scale, 0]])
        middle = np.full(2, STORED_PX / 2)
        moved[:, 2] = middle + shift - moved[:, :2] @ middle
        size = (STORED_PX, STORED_PX)
        picture = cv2.warpAffine(other.image, between_pixels(moved), size, flags=cv2.INTER_LINEAR)
        whole = cv2.warpAffine(other.whole, between_pixels(moved), size, flags=cv2.INTER_NEAREST) > 0
        theirs = np.column_stack([apply_affine(moved, other.keypoints[:, :2]), other.keypoints[:, 2]])
        if mirror:
            theirs = theirs[list(MIRROR_25)]
        if rng.random() < 0.5:  # the other stands behind
            whole &= (one.whole == 0) & (ids != HIDDEN)
        ids = np.where(whole, np.where((ids > 0) & (ids != UNKNOWN), HIDDEN, 0), ids).astype(np.uint8)
        image = blended(picture, image, whole)
        return image, ids, fainter(points, whole, rng), [*others, theirs]

    def occluded(self, image, ids, points, rng: np.random.Generator):
        """A patch of another picture, of any shape, over some of the person."""
        other = self.people[rng.integers(self.textures)].image
        mask = np.zeros(ids.shape, np.uint8)
        person = np.argwhere((ids > 0) & (ids < HIDDEN))
        if not len(person):
            return image, ids, points
        row, column = person[rng.integers(len(person))]
        size = rng.uniform(0.06, 0.25, 2) * STORED_PX
        angle = rng.uniform(0, 180)
        if rng.random() < 0.5:
            axes = tuple(np.maximum(size / 2, 2).astype(int).tolist())
            cv2.ellipse(mask, (int(column), int(row)), axes, angle, 0, 360, 1, -1)
        else:
            box = cv2.boxPoints(((float(column), float(row)), tuple(size.tolist()), angle))
            cv2.fillPoly(mask, [box.astype(np.int32)], 1)
        if rng.random() < 0.4:
            texture = np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), image.shape)
        else:
            texture = np.roll(other[::-1], rng.integers(STORED_PX, size=2), (0, 1))
        hit, image = mask > 0, image.copy()
        image[hit] = texture[hit]
        ids = np.where(hit, np.where((ids > 0) & (ids != UNKNOWN), HIDDEN, 0), ids).astype(np.uint8)
        return image, ids, fainter(points, hit, rng)


def blended(front: np.ndarray, behind: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One picture before another within a mask, its border a little soft."""
    share = cv2.GaussianBlur(mask.astype(np.float32), (5, 5), 0.9)
    return cv2.blendLinear(front, behind, share, 1 - share)


def fainter(points: np.ndarray, covered: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keypoints [25, 3] of which half of those under a mask [S, S] are not detected."""
    points = points.copy()
    column, row = np.floor(points[:, :2]).astype(int).clip(0, STORED_PX - 1).T
    points[covered[row, column] & (rng.random(25) < 0.5), 2] = 0
    return points


def cut_off(image, ids, points, rng: np.random.Generator):
    """The photo ends somewhere within the person: black and unknown beyond."""
    seen = points[points[:, 2] > BOX_CONFIDENCE, :2]
    if len(seen) < 8:
        return image, ids, points
    low, high = seen.min(0), seen.max(0)
    axis = rng.choice(2, p=[0.25, 0.75])
    at = low[axis] + rng.uniform(0.35, 0.95) * (high[axis] - low[axis])
    after = rng.random() < (0.85 if axis else 0.5)
    beyond = points[:, axis] > at if after else points[:, axis] < at
    if (points[~beyond, 2] > BOX_CONFIDENCE).sum() < 6:
        return image, ids, points
    image, ids, points = image.copy(), ids.copy(), points.copy()
    part = slice(int(at), None) if after else slice(0, int(at))
    where = (part, slice(None)) if axis else (slice(None), part)
    image[where], ids[where] = 0, UNKNOWN
    points[beyond, 2] = 0
    return image, ids, points


def wrong_keypoints(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keypoints as a poorer detector would give them; at least four stay."""
    points = points.copy()
    side = np.ptp(points[points[:, 2] > BOX_CONFIDENCE, :2], axis=0).max(initial=1.0)
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


def crop_of(image, ids, points, others, rng: np.random.Generator | None = None, side: int = CROP):
    """The parser's inputs image [side, side, 3] and limbs [7, side / 4, side / 4], and target ids of half that size;
    with `rng` also scaled, turned, shifted, mirrored and of other colours."""
    centre, half = parser_square(points)
    angle = 0.0
    if rng is not None:
        half *= rng.uniform(0.88, 1.25)
        centre = centre + rng.normal(0, 0.06, 2) * half
        angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.08 else rng.normal(0, 0.17)
    to_photo = crop_to_photo(centre, half, angle, side)
    to_target, cells = crop_to_photo(centre, half, angle, side // 2), (side // 2, side // 2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(image, between_pixels(to_photo), (side, side), flags=flags)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    target = cv2.warpAffine(ids, between_pixels(to_target), cells, flags=flags, borderValue=UNKNOWN)
    limbs = limb_maps(points, others, to_photo, side // LIMB_STRIDE)
    if rng is not None:
        picture = other_colors(picture, rng)
        if rng.random() < 0.5:
            picture, target = picture[:, ::-1], mirrored_ids(target)
            limbs = limbs[list(MIRROR_LIMBS), :, ::-1]
    return tuple(np.ascontiguousarray(one) for one in (picture, limbs, target))


def other_colors(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another exposure, contrast, white balance and saturation; sometimes grey, blurred, noisy or badly compressed."""
    values, outside = image.astype(np.float32), cv2.inRange(image, 0, 0) > 0
    gain, contrast = rng.uniform(0.6, 1.4) * rng.normal(1, 0.07, 3), rng.uniform(0.7, 1.3)
    mean = values.mean() * gain.mean()
    values = values * (gain * contrast).astype(np.float32) + np.float32(
        mean * (1 - contrast) + rng.normal(0, 12)
    )
    grey = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)[..., None]
    values = grey + (values - grey) * np.float32(0 if rng.random() < 0.05 else rng.uniform(0.4, 1.5))
    spoil = rng.random()
    if spoil < 0.1:
        values = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.5, 1.8))
    elif spoil < 0.2:
        values = values + rng.uniform(3, 14) * rng.standard_normal(values.shape, np.float32)
    values = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        _, coded = cv2.imencode(".jpg", values, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 60))])
        values = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    values[outside] = 0
    return values
