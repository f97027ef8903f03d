"""What the ids of a label map mean: the orders of the common parsers, or a user's own; and whether they can mean that,
compared with where the keypoints are.

An order is a tuple of names by id: those of `priors.clothing.LABELS`, or UNKNOWN_NAME for what none of them is.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from fitter.see.keypoints import BODY_25
from fitter.see.limbs import segment_distance, standing_height_px
from fitter.see.person_box import BOX_CONFIDENCE
from fitter.yaml_files import read_yaml
from priors.clothing import LABELS

UNKNOWN = 255
UNKNOWN_NAME = "unknown"
PASCAL = "pascal"  # knows no clothing

_ARMS, _LEGS, _SHOES = (
    tuple(f"{side}-{part}" for side in ("left", "right")) for part in ("arm", "leg", "shoe")
)
# fmt: off
ORDERS: dict[str, tuple[str, ...]] = {
    "lip": LABELS,
    "cihp": (*LABELS[:10], UNKNOWN_NAME, *LABELS[11:]),  # 10 is the trunk's skin
    "atr": (
        "background", "hat", "hair", "sunglasses", "upper-clothes", "skirt", "pants", "dress", UNKNOWN_NAME,
        *_SHOES, "face", *_LEGS, *_ARMS, UNKNOWN_NAME, "scarf",  # 8 is a belt, 16 a bag
    ),
    # head, torso, upper and lower arms, upper and lower legs: stand-ins of their places, good for silhouettes
    PASCAL: ("background", "face", "upper-clothes", *_ARMS, "pants", "pants"),
    "sapiens": (
        "background", UNKNOWN_NAME, "face", "hair", "left-leg", "left-arm", "left-arm", "left-leg", "left-shoe",
        "socks", "left-arm", "left-leg", "pants", "right-leg", "right-arm", "right-arm", "right-leg", "right-shoe",
        "socks", "right-arm", "right-leg", UNKNOWN_NAME, "upper-clothes", *["face"] * 5,
    ),  # 1 is apparel of any kind, 21 the trunk's skin
}
# fmt: on
_OVER_ALL = ("dress", "coat", "jumpsuits", *_ARMS)
_CLOTHES = (*_OVER_ALL, "upper-clothes", "scarf")
_BELOW = (*_OVER_ALL, "pants", "skirt", *_LEGS)
# what can be seen halfway between two keypoints of a side (one of them, where both are the same)
PLACES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Nose", "Nose", ("face", "sunglasses", "hair")),
    ("Shoulder", "Shoulder", (*_CLOTHES, "hair")),
    ("Shoulder", "Hip", _CLOTHES),
    ("Shoulder", "Elbow", _CLOTHES),
    ("Elbow", "Wrist", (*_CLOTHES, "glove", "pants", "skirt")),
    ("Hip", "Hip", (*_BELOW, "upper-clothes", "glove")),
    ("Hip", "Knee", (*_BELOW, "upper-clothes", "glove")),
    ("Knee", "Knee", (*_BELOW, "socks", *_SHOES)),
    ("Knee", "Ankle", (*_BELOW, "socks", *_SHOES)),
    ("Ankle", "Ankle", (*_BELOW, "socks", *_SHOES)),
)
JUMPSUITS = LABELS.index("jumpsuits")
NECK_REACH = 0.1  # standing heights from the line between neck and nose: so far neck and neckline reach
NECK_SHARE = 0.8  # of the pixels called jumpsuits
NECK_LEAST = 60 / 224**2  # of the squared standing height: fewer are noise
SAME = {"lip": ("lip", "cihp"), "cihp": ("lip", "cihp")}  # told apart by `skin_as_jumpsuits` alone
KINDS = 3  # different ids at the places, at least, to tell orders apart
JUDGED = 5  # places with labels, at least, before anything is said
CLEARER = 2  # so many fewer of them must another order leave unexplained, and CLEARER_SHARE of them
CLEARER_SHARE = 0.1
EXPLAINED = 0.8  # of the places that an order explains which is the right one
POOR = 0.7  # of those that a map explains which is this person's


@lru_cache(maxsize=8)
def read_classes(choice: str) -> tuple[str, ...]:
    """The order of a name in ORDERS, or of a YAML file `{0: background, 1: hat, ...}` whose values are our labels or
    "unknown"; ids that it leaves out are None there. ValueError: neither, or another content."""
    if choice in ORDERS:
        return ORDERS[choice]
    expected = f"label classes {choice}: expected {', '.join(ORDERS)}, or a YAML file of ids and labels"
    if not Path(choice).is_file():
        raise ValueError(f"{expected}, found no such file")
    try:
        entries = read_yaml(choice)
    except ValueError as error:
        raise ValueError(f"{expected}, got: {error}") from error
    if not isinstance(entries, dict) or not entries:
        raise ValueError(f"{expected}, as `0: background`, got {type(entries).__name__}")
    for key, name in entries.items():
        if not (isinstance(key, int) and 0 <= key < UNKNOWN) or name not in (*LABELS, UNKNOWN_NAME):
            raise ValueError(
                f"{expected}: ids 0-254, and of labels {', '.join(LABELS)}, unknown; got {key}: {name}"
            )
    return tuple(entries.get(id_) for id_ in range(max(entries) + 1))


def table_of(order: Iterable[str | None]) -> np.ndarray:
    """[256] int: what each id of an order is among our ids, UNKNOWN (255 too), or -1 where the order has none."""
    table = np.full(256, -1)
    table[UNKNOWN] = UNKNOWN
    for id_, name in enumerate(order):
        if name is not None:
            table[id_] = UNKNOWN if name == UNKNOWN_NAME else LABELS.index(name)
    return table


def fitting(ids: np.ndarray, keypoints_px: np.ndarray) -> tuple[int, int]:
    """Of the PLACES between one person's sure keypoints [25, 3] that have a label in a map [H, W], how many have one
    that can be seen there; and how many there are. Background and unknown pixels say nothing."""
    return _count(ids, table_of(LABELS), keypoints_px)


def likelier_order(ids: np.ndarray, classes: str, people: Iterable[np.ndarray]) -> str:
    """The name of the order that ids [H, W] of a file have by the keypoints [25, 3] of the people in it, "" if that is
    the one they are said to have (`classes`, of `read_classes`) or no other is clearly better."""
    people, present = list(people), np.flatnonzero(np.bincount(ids.reshape(-1), minlength=256))
    shown = {label for one in people for label, _ in _labels_at(ids, one)}
    if len(shown - {0, UNKNOWN}) < KINDS:
        return ""
    given = _explained(ids, read_classes(classes), people)
    best, most = "", 0
    for name, order in ORDERS.items():
        if name in SAME.get(classes, (classes,)) or (table_of(order)[present] < 0).any():
            continue
        fit, judged = _explained(ids, order, people)
        faces, noses = _explained(ids, order, people, PLACES[:1])
        if 2 * faces < noses:
            continue
        if judged >= JUDGED and fit >= EXPLAINED * judged and fit > most:
            clearer = (given[1] - given[0]) - (judged - fit) >= max(CLEARER, CLEARER_SHARE * judged)
            best, most = name if clearer else "", fit
    return best


def skin_as_jumpsuits(ids: np.ndarray, people: Iterable[np.ndarray]) -> bool:
    """Whether what LIP calls jumpsuits in a map [H, W] lies about people's necks: then it is CIHP's bare skin."""
    y, x = np.nonzero(ids == JUMPSUITS)
    points, near, least = np.stack([x, y], 1) + 0.5, np.zeros(len(x), bool), 0.0
    for keypoints in people:
        nose, neck = (keypoints[BODY_25.index(name)] for name in ("Nose", "Neck"))
        if min(nose[2], neck[2]) > BOX_CONFIDENCE:
            height = standing_height_px(keypoints)
            near |= segment_distance(points, neck[:2], nose[:2]) < NECK_REACH * height
            least = max(least, NECK_LEAST * height**2)
    return bool(near.any()) and near.sum() >= max(least, NECK_SHARE * len(near))


def _explained(ids: np.ndarray, order: tuple[str | None, ...], people: list[np.ndarray], places=PLACES):
    """`fitting` of several people under an order, summed; one of its ids that the order lacks can be seen nowhere."""
    counts = [_count(ids, table_of(order), keypoints, places) for keypoints in people]
    return sum(fit for fit, _ in counts), sum(judged for _, judged in counts)


def _count(ids: np.ndarray, table: np.ndarray, keypoints_px: np.ndarray, places=PLACES) -> tuple[int, int]:
    known = [(table[id_], allowed) for id_, allowed in _labels_at(ids, keypoints_px, places)]
    judged = [(label, allowed) for label, allowed in known if label not in (0, UNKNOWN)]
    return sum(label >= 0 and LABELS[label] in allowed for label, allowed in judged), len(judged)


def _labels_at(
    ids: np.ndarray, keypoints_px: np.ndarray, places=PLACES
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(id of the pixel, labels that can be seen there) of the PLACES within a map."""
    height, width = ids.shape
    for first, second, allowed in places:
        for side in ("",) if first in BODY_25 else ("L", "R"):
            ends = keypoints_px[[BODY_25.index(side + first), BODY_25.index(side + second)]]
            x, y = ends[:, :2].mean(0)
            if ends[:, 2].min() > BOX_CONFIDENCE and 0 <= x < width and 0 <= y < height:
                yield int(ids[int(y), int(x)]), allowed
