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
from fitter.label.parse import LIMB_STRIDE, MIRROR_LIMBS, limb_maps, parser_square
from fitter.label.soft_labels import HIDDEN
from fitter.see.crops import CROP, apply_affine, between_pixels, crop_to_photo
from fitter.see.keypoints import MIRROR_25
from fitter.see.limbs import part_distances
from synth.ccp_labels import CCP_CLASSES, convert, main_person, people_source, read_ccp, read_class_map
from synth.parser.spoil import bared, blended, covered, cut_off, fainter, other_colors, wrong_keypoints

STORED_PX, STORED_MARGIN = 576, 1.35  # side of a stored square; its side / the parser's
CARRIED = ("accessories", "bag", "purse", "wallet")  # CCP's classes of things before the person
BARED = 0.04  # of the looks at people: painted as bare above the trousers
CUT = (0.45, 0.15)  # how often the photo ends within the person, and once more
NEIGHBOURS = (0.6, 0.22, 0.12, 0.06)  # how often 0, 1, 2, 3 people are pasted beside the person
LEAST_SEEN = 0.35  # share of the person that a pasted neighbour leaves


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
    from fitter.see.picture import read_image

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
    """People of a folder that `synth.dataset` wrote. HIDDEN: limbs with someone else or an occluder before them, and
    bare trunks, which no label names."""
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
        ids = np.where(own, np.where(labels == UNKNOWN, HIDDEN, labels), 0).astype(np.uint8)
        ids[rows[inside], columns[inside]] = HIDDEN
        stored.append(store_person(np.ascontiguousarray(image), ids, own, points, []))
    return stored


class Draw:
    """Draw(people)(index, rng, side) -> what `crop_of` gives; the first `textures` people go into others' pictures."""

    def __init__(self, people: list[Stored], textures: int):
        self.people, self.textures = people, textures

    def __call__(self, index: int, rng: np.random.Generator, side: int = CROP):
        one = self.people[index]
        if rng.random() < BARED:
            one = bared(one)
        image, ids, points, others = self.among_others(one, rng)
        if rng.random() < 0.2:
            image, ids, points = self.occluded(image, ids, points, rng)
        for often in CUT:
            if rng.random() < often:
                image, ids, points = cut_off(image, ids, points, rng)
        points = wrong_keypoints(points, others, rng)
        others = [wrong_keypoints(other, [], rng) for other in others if rng.random() < 0.85]
        return crop_of(image, ids, points, others, rng, side)

    def among_others(self, one: Stored, rng: np.random.Generator):
        """The person, sometimes pasted into somebody else's picture; then neighbours pasted before and behind."""
        image, ids, points, others = one.image, one.ids, one.keypoints, list(one.others)
        own = (one.whole > 0) | (ids == HIDDEN)
        if rng.random() < 0.3:
            zoom = np.exp(rng.uniform(-0.2, 1.1))
            behind, _, theirs = self.placed(zoom, rng.normal(0, 0.15, 2) * zoom, rng)
            image, ids = blended(image, behind, own), np.where(own, ids, 0).astype(np.uint8)
            others = [theirs]
        for _ in range(rng.choice(len(NEIGHBOURS), p=NEIGHBOURS)):
            shift = rng.choice([-1, 1]) * rng.uniform(0.05, 0.35), rng.normal(0, 0.06)
            picture, front, theirs = self.placed(np.exp(rng.normal(0.05, 0.2)), shift, rng)
            if rng.random() < 0.5:
                front &= ~own
            person = (ids > 0) & (ids < HIDDEN)
            if (person & ~front).sum() < LEAST_SEEN * person.sum():
                continue
            image, ids = blended(picture, image, front), covered(ids, front)
            points = fainter(points, front, rng)
            others.append(theirs)
        return image, ids, points, others

    def placed(self, scale: float, shift, rng: np.random.Generator):
        """Somebody else: picture [S, S, 3], theirs [S, S] bool and keypoints, scaled, moved by shares of S, perhaps
        mirrored."""
        other = self.people[rng.integers(self.textures)]
        mirror = rng.random() < 0.5
        moved = np.array([[-scale if mirror else scale, 0, 0], [0, scale, 0]])
        middle = np.full(2, STORED_PX / 2)
        moved[:, 2] = middle + STORED_PX * np.array(shift) - moved[:, :2] @ middle
        size = (STORED_PX, STORED_PX)
        picture = cv2.warpAffine(other.image, between_pixels(moved), size, flags=cv2.INTER_LINEAR)
        whole = cv2.warpAffine(other.whole, between_pixels(moved), size, flags=cv2.INTER_NEAREST) > 0
        theirs = np.column_stack([apply_affine(moved, other.keypoints[:, :2]), other.keypoints[:, 2]])
        return picture, whole, theirs[list(MIRROR_25)] if mirror else theirs

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
        return image, covered(ids, hit), fainter(points, hit, rng)


def crop_of(image, ids, points, others, rng: np.random.Generator | None = None, side: int = CROP):
    """The parser's inputs image [side, side, 3] and limbs [7, side / 4, side / 4], and target ids of half that size;
    with `rng` also scaled, turned, shifted, mirrored and of other colours."""
    centre, half = parser_square(points)
    angle = 0.0
    if rng is not None:
        half *= rng.uniform(0.85, 1.3)
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
