"""Clothing-Co-Parsing's 59 classes -> the 20 labels, left and right and bare skin told apart by keypoints.

    python -m synth.ccp_labels --ccp DIR --keypoints DIR|detector --out DIR [--save-keypoints DIR]

writes one indexed PNG a photo (index = id, 255 = unknown, colour table = the LIP palette with white for
unknown), and everybody's keypoints as OpenPose files where asked. Clothing-Co-Parsing (Yang, Luo, Lin, CVPR
2014) labels one person a photo. Where a class is not one of the 20, or its name is used loosely in the data,
the table in this file says what was seen and chosen.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from fitter.label.label_files import UNKNOWN, write_labels
from fitter.see.keypoint_files import write_openpose
from fitter.see.keypoints import BODY_25, Person
from fitter.see.limbs import PARTS, part_distances
from fitter.see.person_box import BOX_CONFIDENCE, label_box
from priors.clothing import LABELS

SPLIT_SKIN, SPLIT_SHOES, SPLIT_TIGHTS, SPLIT_BODYSUIT = "skin", "shoes", "tights", "bodysuit"
# fmt: off
CCP_TO_LABEL = {  # in the order of the data set's class numbers, 0..58
    "null": "background",
    "accessories": "unknown",  # phones, clutches, jewellery: they hide the body, and are no clothing
    "bag": "unknown", "belt": "unknown",  # a belt lies on the border of upper and lower clothes
    "blazer": "coat", "blouse": "upper-clothes",
    "bodysuit": SPLIT_BODYSUIT,  # used for jumpsuits, short dresses and plain shirts
    "boots": SPLIT_SHOES, "bra": "upper-clothes",
    "bracelet": SPLIT_SKIN,  # worn on the skin: the limb under it
    "cape": "coat", "cardigan": "coat", "clogs": SPLIT_SHOES, "coat": "coat", "dress": "dress",
    "earrings": "unknown",  # between face and hair
    "flats": SPLIT_SHOES,
    "glasses": "sunglasses",  # as LIP, which has one label for both
    "gloves": "glove", "hair": "hair", "hat": "hat", "heels": SPLIT_SHOES,
    "hoodie": "upper-clothes", "intimate": "upper-clothes",  # not in the data; underwear
    "jacket": "coat", "jeans": "pants", "jumper": "upper-clothes", "leggings": "pants",
    "loafers": SPLIT_SHOES,
    "necklace": "unknown",  # on skin or on clothes
    "panties": "pants", "pants": "pants", "pumps": SPLIT_SHOES, "purse": "unknown",
    "ring": SPLIT_SKIN, "romper": "jumpsuits", "sandals": SPLIT_SHOES, "scarf": "scarf",
    "shirt": "upper-clothes", "shoes": SPLIT_SHOES, "shorts": "pants", "skin": SPLIT_SKIN, "skirt": "skirt",
    "sneakers": SPLIT_SHOES, "socks": "socks",
    "stockings": "socks",  # from knee socks to pantyhose: skin-tight, so MinimalClothing
    "suit": "coat",  # used for the jacket, the trousers being "pants"
    "sunglasses": "sunglasses", "sweater": "upper-clothes", "sweatshirt": "upper-clothes",
    "swimwear": "upper-clothes", "t-shirt": "upper-clothes", "tie": "upper-clothes",
    "tights": SPLIT_TIGHTS,  # used for leggings and for tight tops
    "top": "upper-clothes",
    "vest": "coat",  # used for open sleeveless jackets
    "wallet": "unknown",
    "watch": SPLIT_SKIN, "wedges": SPLIT_SHOES,
}
# fmt: on
CCP_CLASSES = tuple(CCP_TO_LABEL)
SKIN_LABELS = ("face", "unknown", "left-arm", "right-arm", "left-leg", "right-leg")  # of each of PARTS
SPLIT_CONFIDENCE = (
    0.15  # the labels already say where skin and shoes are: a keypoint need only be about there
)
MAX_BEYOND = 0.06  # standing heights outside the nearest limb's capsule: then nobody's skin
THIGH_SHARE = 0.8  # of the way from hip to knee: bare thighs go on down to the knee, hands do not
MAX_SHOE_BEYOND = 0.12  # the same for shoes
WHOLE_SHOE = 0.85  # of a region nearest to one foot: then it is one shoe
MIN_PAIR = 0.25  # second largest shoe region / largest: then the two are a pair
LEG_SHARE = 0.3  # of a bodysuit's pixels on the legs: then it has legs


def convert(ccp_ids: np.ndarray, keypoints_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A CCP label map -> ids [H, W] uint8 of the 20 labels, UNKNOWN (255) where none fits, and valid [H, W]
    uint8, 0 exactly there.

    ccp_ids: [H, W] of 0..58; keypoints_px: [25, 3] of the labelled person, BODY_25, full-image px. Skin
    goes to the limb whose capsule is nearest (`fitter.see.limbs`): head and neck down to the collar to the
    face, and only if the nose is seen; chest, belly and back to nobody; bare feet to the legs. Without
    confident keypoints of a limb its skin and shoe are unknown. ValueError: a class that does not exist.
    """
    if ccp_ids.max(initial=0) >= len(CCP_CLASSES):
        raise ValueError(f"CCP labels: expected classes 0-{len(CCP_CLASSES) - 1}, got {int(ccp_ids.max())}")
    table = np.full(len(CCP_CLASSES), UNKNOWN, np.uint8)
    for number, target in enumerate(CCP_TO_LABEL.values()):
        if target in LABELS:
            table[number] = LABELS.index(target)
    ids = table[ccp_ids]
    skin = _pixels_of(ccp_ids, SPLIT_SKIN)
    ids[skin] = split_skin(skin, keypoints_px)
    shoes = _pixels_of(ccp_ids, SPLIT_SHOES)
    ids[shoes] = split_shoes(shoes, keypoints_px)
    tights = _pixels_of(ccp_ids, SPLIT_TIGHTS)
    on_legs = _on_legs(tights, keypoints_px)
    ids[tights] = np.where(on_legs, LABELS.index("pants"), LABELS.index("upper-clothes"))
    bodysuit = _pixels_of(ccp_ids, SPLIT_BODYSUIT)
    if bodysuit.any():
        has_legs = _on_legs(bodysuit, keypoints_px).mean() > LEG_SHARE
        ids[bodysuit] = LABELS.index("jumpsuits" if has_legs else "upper-clothes")
    return ids, (ids != UNKNOWN).astype(np.uint8)


def split_skin(mask: np.ndarray, keypoints_px: np.ndarray) -> np.ndarray:
    """Labels [N] uint8 of the N bare pixels of a mask [H, W]: face, arms, legs, or UNKNOWN.

    A connected region that keeps to the upper thighs is no leg but a hand before it, its wrist wrong.
    """
    relative, beyond = part_distances(_centres(mask), keypoints_px, SPLIT_CONFIDENCE)
    legs = slice(PARTS.index("left-leg"), None)
    region = cv2.connectedComponents(mask.astype(np.uint8))[1][mask]
    share = _share_of_thigh(_centres(mask), keypoints_px)
    for number in np.unique(region[share < THIGH_SHARE]):
        there = region == number
        if share[there].max() < THIGH_SHARE:
            relative[there, legs] = np.inf
    nearest = relative.argmin(1)
    near = np.take_along_axis(beyond, nearest[:, None], 1)[:, 0] < MAX_BEYOND
    near &= np.isfinite(relative.min(1))
    labels = np.array([LABELS.index(n) if n in LABELS else UNKNOWN for n in SKIN_LABELS], np.uint8)
    if keypoints_px[BODY_25.index("Nose"), 2] <= SPLIT_CONFIDENCE:
        labels[PARTS.index("head")] = UNKNOWN
    return np.where(near, labels[nearest], UNKNOWN).astype(np.uint8)


def _share_of_thigh(points: np.ndarray, keypoints_px: np.ndarray) -> np.ndarray:
    """[N] how far down points [N, 2] lie: 0 at the hip, 1 at the knee, the smaller of both thighs; infinite
    where neither is seen."""
    share = np.full(len(points), np.inf)
    for side in "LR":
        hip, knee = (keypoints_px[BODY_25.index(side + name)] for name in ("Hip", "Knee"))
        if min(hip[2], knee[2]) > SPLIT_CONFIDENCE:
            along = knee[:2] - hip[:2]
            share = np.minimum(share, (points - hip[:2]) @ along / max(float(along @ along), 1e-6))
    return share


def split_shoes(mask: np.ndarray, keypoints_px: np.ndarray) -> np.ndarray:
    """Labels [N] uint8 of the N pixels of a mask [H, W] of shoes and boots: left, right, or UNKNOWN.

    A connected region is one shoe if nearly all of it is nearest to one leg; two regions of like size are a
    pair.
    """
    left, right = LABELS.index("left-shoe"), LABELS.index("right-shoe")
    _, beyond = part_distances(_centres(mask), keypoints_px, SPLIT_CONFIDENCE)
    legs = beyond[:, [PARTS.index("left-leg"), PARTS.index("right-leg")]].astype(np.float64)
    side = legs.argmin(1)
    labels = np.where(legs.min(1) < MAX_SHOE_BEYOND, np.where(side == 0, left, right), UNKNOWN)
    if not len(labels) or not np.isfinite(legs.min()):
        return labels.astype(np.uint8)
    region = cv2.connectedComponents(mask.astype(np.uint8))[1][mask]
    counts = np.bincount(region)
    if not np.isfinite(legs).all():  # one leg is not seen: the nearest shoe is the other's, more is not known
        nearest = region[legs.min(1).argmin()]
        return np.where(region == nearest, labels, UNKNOWN).astype(np.uint8)
    for number in np.unique(region):
        there = region == number
        share = side[there].mean()
        if share > WHOLE_SHOE or share < 1 - WHOLE_SHOE:
            labels[there] = right if share > 0.5 else left
    first, second = np.argsort(-counts)[:2] if (counts > 0).sum() > 1 else (0, 0)
    if counts[second] >= MIN_PAIR * counts[first] and first != second:
        cost = np.array([legs[region == n].mean(0) for n in (first, second)])
        swapped = cost[0, 1] + cost[1, 0] < cost[0, 0] + cost[1, 1]
        labels[region == first], labels[region == second] = (right, left) if swapped else (left, right)
    return labels.astype(np.uint8)


def main_person(people: list[Person], ccp_ids: np.ndarray) -> Person | None:
    """Whom the labels are of: the person most of whose confident keypoints lie on labelled pixels.

    None if nobody's labels could be theirs: at least half of the keypoints lie on labelled pixels, and at
    least half of the labelled pixels in the person's `label_box`.
    """
    height, width = ccp_ids.shape
    labelled = ccp_ids > 0
    best, most = None, 0
    for person in people:
        seen = person.keypoints_px[person.keypoints_px[:, 2] > BOX_CONFIDENCE]
        x, y = np.floor(seen[:, :2]).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        count = int(labelled[y[inside], x[inside]].sum())
        x0, y0, x1, y1 = label_box(person.keypoints_px)[0].clip(0).astype(int)
        held = labelled[y0:y1, x0:x1].sum()
        if count > most and count >= len(seen) / 2 and held >= labelled.sum() / 2:
            best, most = person, count
    return best


def read_ccp(folder: str | Path) -> list[tuple[Path, Path]]:
    """(photo, label map) of all of a CCP folder `images/NNNN.jpg`, `labels/NNNN.png`, `labels.json`, by name.

    ValueError: no such folder, or other classes than the table's.
    """
    folder = Path(folder)
    if not (folder / "labels.json").is_file():
        raise ValueError(f"{folder}: expected images/, labels/ and labels.json, found no labels.json")
    names = json.loads((folder / "labels.json").read_text())["labels"]
    if tuple(names) != CCP_CLASSES:
        raise ValueError(f"{folder}/labels.json: expected CCP's 59 classes in order, got {names}")
    photos = sorted((folder / "images").glob("*.jpg"))
    pairs = [(photo, folder / "labels" / f"{photo.stem}.png") for photo in photos]
    return [(photo, labels) for photo, labels in pairs if labels.is_file()]


def _pixels_of(ccp_ids: np.ndarray, target: str) -> np.ndarray:
    return np.array([t == target for t in CCP_TO_LABEL.values()])[ccp_ids]


def _centres(mask: np.ndarray) -> np.ndarray:
    """[N, 2] px x, y of the middles of a mask's pixels, in row order."""
    return np.argwhere(mask)[:, ::-1].astype(np.float32) + 0.5


def _on_legs(mask: np.ndarray, keypoints_px: np.ndarray) -> np.ndarray:
    """[N] bool: which of the N pixels of a mask are nearer to a leg than to anything else of the person."""
    relative, _ = part_distances(_centres(mask), keypoints_px, SPLIT_CONFIDENCE)
    return relative.argmin(1) >= PARTS.index("left-leg")


def main(arguments: list[str] | None = None) -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--ccp", type=Path, required=True, help="folder with images/, labels/, labels.json")
    parser.add_argument("--keypoints", required=True, help="folder of OpenPose files, or 'detector'")
    parser.add_argument("--out", type=Path, required=True, help="where <photo>.png goes")
    parser.add_argument("--save-keypoints", type=Path, help="where <photo>_keypoints.json goes")
    parser.add_argument("--limit", type=int, help="only the first so many photos")
    options = parser.parse_args(arguments)

    pairs = read_ccp(options.ccp)[: options.limit]
    find_people = people_source(options.keypoints)
    for folder in filter(None, (options.out, options.save_keypoints)):
        folder.mkdir(parents=True, exist_ok=True)
    pixels, written = np.zeros(256, np.int64), 0
    for photo, labels in pairs:
        ccp_ids = read_class_map(labels)
        try:
            people = find_people(photo)
            if options.save_keypoints:
                write_openpose(options.save_keypoints / f"{photo.stem}_keypoints.json", people)
            person = main_person(people, ccp_ids)
        except ValueError as error:
            print(f"left out {photo.name}: {error}")
            continue
        if person is None:
            print(f"left out {photo.name}: nobody's keypoints fit the labelled person")
            continue
        ids, _ = convert(ccp_ids, person.keypoints_px)
        write_labels(options.out / f"{photo.stem}.png", ids)
        pixels += np.bincount(ids.reshape(-1), minlength=256)
        written += 1
    print(f"{written} of {len(pairs)} label maps in {options.out}; share of labelled pixels:")
    for label in [*range(1, len(LABELS)), UNKNOWN]:
        name = LABELS[label] if label != UNKNOWN else "unknown"
        print(f"  {name:14s}{100 * pixels[label] / max(pixels[1:].sum(), 1):6.2f} %")


def read_class_map(path: str | Path) -> np.ndarray:
    """[H, W] uint8 of CCP classes from their indexed PNG."""
    from PIL import Image

    with Image.open(path) as image:
        if image.mode not in ("P", "L"):
            raise ValueError(f"{path}: expected an indexed PNG of CCP classes, got mode {image.mode}")
        return np.asarray(image)


def people_source(choice: str):
    """photo path -> list[Person], by the shipped detector or from files."""
    if choice != "detector":
        from fitter.see.keypoint_files import find_keypoints

        return lambda photo: find_keypoints(photo, choice)
    from fitter.see.detect import Detector
    from fitter.see.picture import read_image

    detector = Detector()
    return lambda photo: detector(read_image(photo))


if __name__ == "__main__":
    main()
