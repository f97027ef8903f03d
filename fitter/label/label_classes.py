"""What the ids of a label map mean: the orders of the common parsers, or a user's own; and whether they can mean that,
compared with where the keypoints are.

An order is a tuple of names by id: those of `priors.clothing.LABELS`, or UNKNOWN_NAME for what none of them is.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from fitter.see.keypoints import BODY_25
from fitter.see.limbs import segment_distance, standing_height_px
from fitter.see.person_box import BOX_CONFIDENCE
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
_BELOW = (*_OVER_ALL, "pants", "skirt", "socks", *_LEGS)
CAN_LIE_AT = {  # keypoint without its side -> labels that are seen there; only of where a label says something
    "Nose": ("face", "sunglasses", "hair"),
    "Shoulder": (*_OVER_ALL, "upper-clothes", "scarf", "hair"),
    "Hip": (*_BELOW, "upper-clothes", "glove"),
    "Knee": (*_BELOW, *_SHOES),
    "Ankle": (*_BELOW, *_SHOES),
}
JUMPSUITS = LABELS.index("jumpsuits")
NECK_REACH = 0.1  # standing heights from the line between neck and nose: so far neck and neckline reach
NECK_SHARE = 0.8  # of the pixels called jumpsuits
NECK_LEAST = 60 / 224**2  # of the squared standing height: fewer are noise
KINDS = 3  # different ids at them, at least, to tell orders apart
JUDGED = 4  # keypoints on labels, at least, before anything is said
CLEARER = 3  # so many more of them must another order explain, and CLEARER_SHARE of them
CLEARER_SHARE = 0.2
EXPLAINED = 0.8  # of the keypoints that an order explains which is the right one
POOR = 0.5  # of those that a map explains which is this person's


@lru_cache(maxsize=8)
def read_classes(choice: str) -> tuple[str, ...]:
    """The order of a name in ORDERS, or of a YAML file `{0: background, 1: hat, ...}` whose values are our labels or
    "unknown"; ids that it leaves out are None there. ValueError: neither, or another content."""
    import yaml

    if choice in ORDERS:
        return ORDERS[choice]
    expected = f"label classes {choice}: expected {', '.join(ORDERS)}, or a YAML file of ids and labels"
    if not Path(choice).is_file():
        raise ValueError(f"{expected}, found no such file")
    try:
        entries = yaml.safe_load(Path(choice).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{expected}, got: {' '.join(str(error).split())}") from error
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
    """Of one person's sure keypoints [25, 3] that lie on a label of a map [H, W], how many lie on one that can be
    there; and how many lie on any. Background and unknown pixels say nothing."""
    fit = judged = 0
    for name, label in _labels_at(ids, keypoints_px):
        allowed = CAN_LIE_AT.get(name.lstrip("LR"))
        if allowed and 0 < label < len(LABELS):
            judged += 1
            fit += LABELS[label] in allowed
    return fit, judged


def likelier_order(ids: np.ndarray, classes: str, people: Iterable[np.ndarray]) -> str:
    """The name of the order that ids [H, W] of a file have by the keypoints [25, 3] of the people in it, "" if that is
    the one they are said to have (`classes`, of `read_classes`) or no other is clearly better."""
    people, present = list(people), np.unique(ids)
    shown = {
        label for one in people for name, label in _labels_at(ids, one) if name.lstrip("LR") in CAN_LIE_AT
    }
    if len(shown - {0, UNKNOWN}) < KINDS:
        return ""
    given = _explained(ids, read_classes(classes), people)
    best, most = "", (0, 0)
    for name, order in ORDERS.items():
        table = table_of(order)
        if name == classes or (table[present] < 0).any():
            continue
        fit, judged = _explained(ids, order, people)
        if judged >= JUDGED and fit >= EXPLAINED * judged and fit > most[0]:
            best, most = name, (fit, judged)
    return best if most[0] - given[0] >= max(CLEARER, CLEARER_SHARE * given[1]) else ""


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


def _explained(ids: np.ndarray, order: tuple[str | None, ...], people: list[np.ndarray]) -> tuple[int, int]:
    known = np.where(table_of(order) < 0, UNKNOWN, table_of(order))[ids]
    counts = [fitting(known, keypoints) for keypoints in people]
    return sum(fit for fit, _ in counts), sum(judged for _, judged in counts)


def _labels_at(ids: np.ndarray, keypoints_px: np.ndarray):
    """(name of BODY_25, id of the pixel that it lies in) of the sure keypoints within a map."""
    height, width = ids.shape
    for name, (x, y, confidence) in zip(BODY_25, keypoints_px, strict=True):
        if confidence > BOX_CONFIDENCE and 0 <= x < width and 0 <= y < height:
            yield name, int(ids[int(y), int(x)])
