"""In which order files list keypoints: the known orders, and any other by its names.

Names are written as people write them: left_shoulder, LShoulder, l_shoulder, shoulder.L, "Left Shoulder". A point that
is none of BODY_25's (head top, spine, a hand) is None: read and not used.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fitter.see.keypoints import BODY_25, COCO_17, DERIVED, FEET, OPENPOSE_BODY_25B, OPENPOSE_COCO_18, SOURCES
from fitter.yaml_files import read_yaml

Names = tuple[str | None, ...]
NONE = (None,)
# fmt: off
# Halpe's, CrowdPose's and Human3.6M's necks and heads are other points than BODY_25's, and Halpe's hip is a mean
HALPE_26 = COCO_17 + NONE * 3 + ("LBigToe", "RBigToe", "LSmallToe", "RSmallToe", "LHeel", "RHeel")
CROWDPOSE_14 = (
    "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LHip", "RHip", "LKnee", "RKnee", "LAnkle",
    "RAnkle", None, None,
)
HUMAN36M_17 = (
    "MidHip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", None, None, None, None, "LShoulder", "LElbow",
    "LWrist", "RShoulder", "RElbow", "RWrist",
)
# fmt: on
ORDERS: dict[str, Names] = {
    "body_25": BODY_25,
    "body_25b": OPENPOSE_BODY_25B,
    "openpose_18": OPENPOSE_COCO_18,
    "coco": COCO_17,
    "coco_feet": COCO_17 + FEET,
    "wholebody_133": COCO_17 + FEET + NONE * 110,
    "halpe_26": HALPE_26,
    "halpe_136": HALPE_26 + NONE * 110,
    "crowdpose": CROWDPOSE_14,
    "human36m": HUMAN36M_17,
}
BODY_PARTS = dict.fromkeys(name if name in ("Nose", "Neck", "MidHip") else name[1:] for name in BODY_25)
PARTS = {part.lower(): part for part in BODY_PARTS} | {  # what a name is without its side
    "pelvis": "MidHip", "root": "MidHip", "hips": "MidHip", "hipcenter": "MidHip", "centerhip": "MidHip",
    "midshoulder": "Neck", "littletoe": "SmallToe", "footindex": "BigToe",
}  # fmt: skip
UNUSED = {
    "background", "chest", "chin", "clavicle", "collar", "eyeinner", "eyeouter", "finger", "foot", "forehead", "hand",
    "head", "headbottom", "headtop", "tophead", "index", "jaw", "middle", "mouth", "pinky", "ring", "spine", "spine1",
    "spine2", "spine3", "thorax", "thumb", "toe", "torso", "upperneck",
}  # fmt: skip
SIDES = {"l": "L", "left": "L", "r": "R", "right": "R"}
MIDDLE = ("Nose", "Neck", "MidHip")


@dataclass(frozen=True)
class Order:
    """What each keypoint of a file is: names, BODY_25's or None; source: one of SOURCES, whose definitions they
    follow."""

    names: Names
    source: str = "coco"


def keypoint_of(name: str | None) -> str | None:
    """A keypoint's name as people write it -> BODY_25's, None for one that is not used. ValueError: not known."""
    if name is None or str(name).strip(" -_") == "":
        return None
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", str(name))
    words = [word.lower() for word in words]
    sides = [word for word in words if word in SIDES]
    part = "".join(word for word in words if word not in SIDES)
    glued = re.fullmatch(r"(left|right|l|r)(.+)", part)  # lshoulder, leftknee
    if not sides and part not in PARTS and glued and glued[2] in PARTS:
        sides, part = [glued[1]], glued[2]
    if part == "hip" and not sides:
        return "MidHip"
    known = PARTS.get(part)
    if known in MIDDLE and not sides:
        return known
    if known and known not in MIDDLE and len(sides) == 1:
        return SIDES[sides[0]] + known
    if re.sub(r"\d+$", "", part) in UNUSED or part in UNUSED:
        return None
    readable = [*(f"left_{part}" for part in PARTS if PARTS[part] not in MIDDLE), "nose", "neck", "pelvis"]
    near = difflib.get_close_matches(f"left_{part}" if sides else part, readable, 1)
    raise ValueError(
        f"expected a keypoint such as left_shoulder, nose or pelvis, or null for one that is not to be used, got "
        f"{name!r}" + (f"; did you mean {near[0]}?" if near else "")
    )


def names_in_file(names: Sequence) -> Names | None:
    """The order by a file's own list of names (COCO's categories, MMPose's meta_info); None if it is no body's.

    Points of other names are not used, nor are necks and middle hips, whose definitions differ: the means of both sides
    stand for them.
    """

    def one(name) -> str | None:
        try:
            found = keypoint_of(name)
        except ValueError:
            return None
        return None if found in DERIVED else found

    found = tuple(one(name) for name in names)
    known = [name for name in found if name]
    limbs = {"LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist"} <= set(known)
    return found if limbs and len(known) == len(set(known)) else None


def read_order(choice: str | None) -> Order | None:
    """`--keypoint-names`: one of ORDERS by name, or a YAML file: a list of names in the order of the keypoints, or that
    under `names` with `source`, one of SOURCES. None: nothing chosen.

    ValueError: no such file, a name that is not known or is there twice, or hardly any keypoint.
    """
    if not choice:
        return None
    if choice in ORDERS:
        source = "openpose" if choice in ("body_25", "body_25b", "openpose_18") else "coco"
        return Order(ORDERS[choice], source)
    path = Path(choice)
    if not path.is_file():
        raise ValueError(
            f"keypoint_names: expected a YAML file or one of {', '.join(ORDERS)}, got {choice!r}"
        )
    try:
        data = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"keypoint_names {error}") from error
    data = data if isinstance(data, dict) else {"names": data}
    names, source = data.get("names"), data.get("source", "coco")
    if not isinstance(names, list) or set(data) - {"names", "source"}:
        raise ValueError(
            f"keypoint_names {path}: expected a list of names in the order of the keypoints, or `names` and `source`"
        )
    if source not in SOURCES:
        raise ValueError(f"keypoint_names {path}: expected a source of {', '.join(SOURCES)}, got {source!r}")
    try:
        found = tuple(keypoint_of(name) for name in names)
    except ValueError as error:
        raise ValueError(f"keypoint_names {path}: {error}") from None
    known = [name for name in found if name]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice or len(known) < 4:
        got = f"{twice[0]} twice" if twice else f"{len(known)} of BODY_25's"
        raise ValueError(f"keypoint_names {path}: expected each keypoint once, and 4 or more, got {got}")
    return Order(found, source)
