"""Photos of several people whose keypoints are known: people cut out of labelled street photos, pasted onto a street.

Clothing-Co-Parsing labels one person a photo; its mask (all that is labelled, what the person carries included) cuts
them out, the shipped detector's keypoints of their own photo move with them. The street is the wider side strip of a
photo, its own person left out, mirrored again and again; only photos are taken whose strips, looked at one by one, show
nobody (SCENES). People stand on one ground, seen by a camera at the height of a head: who is farther is smaller and
higher up, and whoever is nearer is drawn over whoever is farther.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.parser import labelled_person
from fitter.label.label_files import read_labels
from fitter.see.keypoints import BODY_25, COCO_17
from fitter.see.person_box import BOX_CONFIDENCE, keypoint_box
from fitter.see.picture import read_image

# fmt: off
SCENES = {
    "test": ("0002", "0003", "0010", "0026", "0027", "0037", "0038", "0060", "0063", "0072", "0076", "0078", "0081",
             "0088"),
    "development": ("0107", "0119", "0125", "0130", "0134", "0136", "0148", "0149", "0174", "0175", "0181", "0187",
                    "0188", "0194", "0199"),
}
# fmt: on
IN_17 = [BODY_25.index(name) for name in COCO_17]
ANKLES = [COCO_17.index(name) for name in ("LAnkle", "RAnkle")]
STRIP_GAP_PX, EDGE_PX = 12, 2  # between strip and person; between a whole person and the photo's edge
NEAREST, FARTHEST = 1.0, 0.35  # of people's heights, as shares of that of the street's own person
APART = (0.35, 1.1)  # distance of neighbours, shares of the mean of their widths
MARGIN = (-0.1, 0.4)  # beside the outermost people, shares of the street's height
EYES = 0.85  # height of the camera / height of the street's own person
BORDER_PX = 0.9  # standard deviation of the pasted borders' blur


@dataclass(frozen=True)
class Cut:
    """One person: image [H, W, 3] uint8, mask [H, W] bool; joints [17, 3]: x, y in its px, 1 where known, else 0;
    box [4] px."""

    image: np.ndarray
    mask: np.ndarray
    joints: np.ndarray
    box: np.ndarray


@dataclass(frozen=True)
class Place:
    """Where somebody goes: middle of the mask's lower edge, px, and by how much they are scaled."""

    x: float
    y: float
    scale: float


@dataclass(frozen=True)
class Composite:
    """image [H, W, 3] uint8; owner [H, W]: 0 street, k the k-th person; joints [P, 17, 3]: x, y px, 1 where known,
    covered ones as well; visible [P, 17] bool; area_px and share [P]: the mask's visible pixels, and of all it has."""

    image: np.ndarray
    owner: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    area_px: np.ndarray
    share: np.ndarray


def read_cut(photo: Path, labels: str, keypoints: str) -> Cut | None:
    """The labelled person of a photo; None where the photo's edge or unsure ankles say that they are not whole."""
    ids = read_labels(Path(labels) / f"{photo.stem}.png")
    people, index = labelled_person(photo, keypoints, ids)
    found, mask = people[index].keypoints_px, ids > 0
    joints = found[IN_17] * (found[IN_17, 2:] > BOX_CONFIDENCE)
    inner = mask.copy()
    inner[EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX] = False
    if inner.any() or not joints[ANKLES, 2].all():
        return None
    joints[:, 2] = joints[:, 2] > 0
    return Cut(read_image(photo), mask, joints, keypoint_box(found))


def street(cut: Cut, width: int) -> np.ndarray:
    """[H, width, 3]: the wider of the strips beside a photo's person, mirrored again and again."""
    columns = np.nonzero(cut.mask.any(0))[0]
    strips = cut.image[:, : columns[0] - STRIP_GAP_PX], cut.image[:, columns[-1] + 1 + STRIP_GAP_PX :]
    strip = max(strips, key=lambda one: one.shape[1])
    return np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), mode="symmetric")


def choose_places(cuts: list[Cut], scene: Cut, rng: np.random.Generator) -> tuple[list[Place], int]:
    """A place for each of the people, and the width of the picture that holds them."""
    height = scene.image.shape[0]
    own = np.ptp(np.nonzero(scene.mask.any(1))[0])
    feet = np.nonzero(scene.mask.any(1))[0].max()
    horizon = feet - EYES * own
    tall = own * rng.uniform(FARTHEST, NEAREST, len(cuts))
    scales = tall / [np.ptp(np.nonzero(cut.mask.any(1))[0]) for cut in cuts]
    widths = scales * [np.ptp(np.nonzero(cut.mask.any(0))[0]) for cut in cuts]
    steps = rng.uniform(*APART, len(cuts) - 1) * (widths[1:] + widths[:-1]) / 2
    x = np.concatenate([[0.0], np.cumsum(steps)])
    left, right = rng.uniform(*MARGIN, 2) * height
    x = x - (x - widths / 2).min() + left
    width = max(int((x + widths / 2).max() + right), height // 2)
    y = horizon + EYES * tall
    return [Place(*one) for one in zip(x, y, scales, strict=True)], width


def compose(background: np.ndarray, cuts: list[Cut], places: list[Place]) -> Composite:
    """People pasted onto a background [H, W, 3], those whose feet are lower over the others."""
    image = background.copy()
    size = image.shape[1::-1]
    owner = np.zeros(image.shape[:2], np.uint8)
    joints, whole = np.zeros((len(cuts), 17, 3)), np.zeros(len(cuts))
    for row in np.argsort([place.y for place in places], kind="stable"):
        cut, place = cuts[row], places[row]
        y, x = np.nonzero(cut.mask)
        foot = np.array([(x.min() + x.max() + 1) / 2, y.max() + 1])
        shift = np.array([place.x, place.y]) - place.scale * foot
        move = np.array([[place.scale, 0, shift[0]], [0, place.scale, shift[1]]])
        between = np.column_stack([move[:, :2], move[:, 2] + (place.scale - 1) / 2])  # pixels' middles
        blur = 0.5 * max(1 / place.scale - 1, 0)
        source = cv2.GaussianBlur(cut.image, (0, 0), blur) if blur > 0.1 else cut.image
        pasted = cv2.warpAffine(
            source, between, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        share = cv2.warpAffine(cut.mask.astype(np.float32), between, size, flags=cv2.INTER_LINEAR)
        front = share > 0.5
        share = cv2.GaussianBlur(front.astype(np.float32), (5, 5), BORDER_PX)
        image = cv2.blendLinear(pasted, image, share, 1 - share)
        owner[front] = row + 1
        joints[row] = cut.joints
        joints[row, :, :2] = cut.joints[:, :2] * place.scale + shift
        whole[row] = cut.mask.sum() * place.scale**2
    at = np.floor(joints[..., :2]).astype(int)
    inside = ((at >= 0) & (at < size)).all(-1)
    seen_at = owner[at[..., 1].clip(0, size[1] - 1), at[..., 0].clip(0, size[0] - 1)]
    own = (seen_at == 0) | (seen_at == np.arange(1, len(cuts) + 1)[:, None])
    area = np.array([(owner == row + 1).sum() for row in range(len(cuts))], float)
    return Composite(image, owner, joints, inside & own & (joints[..., 2] > 0), area, area / whole)


def scene_of(number: int, people: int, photos: dict[str, Cut], part: str):
    """What the composite of a number is made of: the streets' names, its own first, the cuts, their places, its width.

    photos: whole people by name."""
    rng = np.random.default_rng([number, people])
    streets = [name for name in SCENES[part] if name in photos]
    streets = list(rng.permutation(streets))
    chosen = rng.permutation([name for name in photos if name != streets[0]])[:people]
    cuts = [photos[name] for name in chosen]
    return streets, cuts, *choose_places(cuts, photos[streets[0]], rng)
