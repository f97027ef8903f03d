"""What keypoint files of all kinds say: the people of each photo. The page docs/inputs.md lists the kinds.

A file says what it is by its fields: `people` (OpenPose), `images` and `annotations` (COCO), a list of `image_id` and
`keypoints` (COCO's results, AlphaPose, ViTPose), `instance_info` or a list of `keypoints` and `keypoint_scores`
(MMPose). Which keypoint is which is said by the user (`--keypoint-names`), else by the file's own names, else by
OpenPose's models or by COCO's order and those that go on from it; of the latter the points must make a body
(`keypoint_checks.scattered`).
"""

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from fitter.see.keypoint_checks import Found, refuse_scattered
from fitter.see.keypoint_orders import ORDERS, Names, Order, names_in_file
from fitter.see.keypoints import COCO_17, FEET, SOURCES, Person, to_body_25
from fitter.see.person_box import keypoint_box
from fitter.see.photos import by_file_name

COCO_CONFIDENCE = {0: 0.0, 1: 0.5, 2: 1.0}  # v: 0 not labelled, 1 labelled but hidden (a guess), 2 visible
FARTHEST_PX = 1e6  # that a keypoint can be
MOST_CONFIDENCE = 10.0  # networks' scores pass 1 a little, per cent pass this
PEOPLE = ("person", "people", "human", "pedestrian")  # names of a category
BY_COUNT = {
    len(ORDERS[name]): ORDERS[name]
    for name in ("coco", "coco_feet", "halpe_26", "wholebody_133", "halpe_136")
}
OPENPOSE = {len(ORDERS[name]): ORDERS[name] for name in ("openpose_18", "body_25")}
REMEDY = f"say which is which with --keypoint-names FILE (YAML), or one of {', '.join(ORDERS)}"
KINDS = (
    "OpenPose's 'people', COCO's 'images' (id, file_name) and 'annotations' (image_id, keypoints), a list of results "
    "(image_id, category_id, keypoints), or MMPose's predictions (keypoints, keypoint_scores)"
)


@dataclass(frozen=True)
class Listed:
    """What a file says of photos. annotated: by people, not by a network; entries: by the photo's name in the file, its
    number as text, or "" in a file of one photo; sizes_px: width, height of pictures, by the same; orders: the names of
    a category's keypoints, by its id, () for those that are no people; source: of the keypoints; strangers: how many
    entries are of photos that the file does not list."""

    kind: str
    entries: dict[str, list[dict]]
    sizes_px: dict[str, tuple[float, float]] = field(default_factory=dict)
    orders: dict[str, Names | None] = field(default_factory=dict)
    counts: dict[int, Names] = field(default_factory=lambda: BY_COUNT)
    source: str = "coco"
    annotated: bool = False
    strangers: int = 0
    names: dict[str, list[str]] = field(default_factory=dict)


def read_listed(path: Path) -> Listed:
    """A file's content. ValueError: not JSON, or none of KINDS."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, modified_ns: int) -> Listed:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got a file that is not ({error})") from error
    if isinstance(data, dict) and "people" in data:
        return _openpose(data, path)
    if isinstance(data, dict) and {"images", "annotations"} <= set(data):
        return _annotations(data, path)
    if isinstance(data, dict) and "instance_info" in data:
        return _mmpose(data["instance_info"], path, data.get("meta_info"))
    if isinstance(data, list):
        data = data[0] if len(data) == 1 and isinstance(data[0], list) else data
        if any(isinstance(entry, dict) and "image_id" in entry for entry in data):
            return _results(data)
        return _mmpose(data, path)
    raise ValueError(f"{path}: expected {KINDS}, got {_outline(data)}")


def _openpose(data: dict, path: Path) -> Listed:
    people = data["people"]
    if not isinstance(people, list):
        raise ValueError(f"{path}: expected OpenPose JSON with a list 'people', got {_outline(people)}")
    source = data.get("keypoint_source", "openpose")
    if source not in SOURCES:
        raise ValueError(f"{path}: expected a keypoint_source of {', '.join(SOURCES)}, got {source!r}")
    is_25b = str(data.get("format", "")).upper().startswith("BODY_25B")
    counts = OPENPOSE | ({25: ORDERS["body_25b"]} if is_25b else {})
    tracked = [_tracking_id(entry) for entry in people]
    entries = []
    for entry, number in zip(people, tracked, strict=True):
        points = next((entry[k] for k in ("pose_keypoints_2d", "pose_keypoints") if k in entry), None) if isinstance(
            entry, dict) else None  # fmt: skip
        entries.append({"keypoints": points, "id": number if min(tracked) >= 0 else None})
    return Listed("OpenPose", {"": entries}, counts=counts, source=source)


def _annotations(data: dict, path: Path) -> Listed:
    images, found = data["images"], data["annotations"]
    whole = isinstance(images, list) and isinstance(found, list)
    images = (
        [one for one in images if isinstance(one, dict) and {"id", "file_name"} <= set(one)] if whole else []
    )
    if not whole or (data["images"] and not images):
        raise ValueError(f"{path}: expected {KINDS}, got 'images' or 'annotations' that are no such lists")
    names = {str(one["id"]): str(one["file_name"]) for one in images}
    entries: dict[str, list[dict]] = {name: [] for name in names.values()}
    strangers = 0
    found = [entry for entry in found if isinstance(entry, dict) and "keypoints" in entry]
    if data["annotations"] and not found:
        raise ValueError(
            f"{path}: expected annotations with 'keypoints', got none (an instances or captions file?)"
        )
    for entry in found:
        name = names.get(str(entry.get("image_id")))
        strangers += name is None
        if name is not None:
            entries[name].append(entry)
    sizes = {names[str(one["id"])]: (one.get("width"), one.get("height")) for one in images}
    sizes = {
        name: size
        for name, size in sizes.items()
        if all(isinstance(s, int | float) and 0 < s <= FARTHEST_PX for s in size)
    }
    return Listed("COCO", entries, sizes, _categories(data.get("categories")), annotated=not _scored(found),
                  strangers=strangers, names=by_file_name(entries))  # fmt: skip


def _results(data: list) -> Listed:
    entries: dict[str, list[dict]] = {}
    for entry in data:
        if isinstance(entry, dict) and "image_id" in entry:
            entries.setdefault(str(entry["image_id"]), []).append(entry)
    strangers = len(data) - sum(map(len, entries.values()))
    return Listed("results", entries, strangers=strangers, names=by_file_name(entries))


def _mmpose(data, path: Path, about=None) -> Listed:
    if not isinstance(data, list) or not all(
        isinstance(entry, dict) and "keypoints" in entry and _scores(entry) is not None for entry in data
    ):
        video = isinstance(data, list) and any(
            isinstance(entry, dict) and "instances" in entry for entry in data
        )
        got = "the frames of a video; write one file for each photo" if video else _outline(data)
        raise ValueError(f"{path}: expected {KINDS}, got {got}")
    called = about.get("keypoint_id2name") if isinstance(about, dict) else None
    names = None
    if isinstance(called, dict) and all(str(at) in called for at in range(len(called))):
        names = names_in_file([called[str(at)] for at in range(len(called))]) or ()
    return Listed("MMPose", {"": data}, orders={"": names} if called else {})


def people_of(listed: Listed, key: str, order: Order | None, where: str) -> Found:
    """People of one entry of a file; order: the user's; where: how messages call it. ValueError: nothing of it can be
    read."""
    found, left_out, people, unsure, unknown = listed.entries[key], [], [], [], 0
    points = [_points(entry, listed.annotated) for entry in found]
    most = max((float(p[:, 2].max(initial=0)) for p in points if not isinstance(p, str)), default=0.0)
    if most > MOST_CONFIDENCE:
        likely = "; they may be per cent, divide them by 100" if most <= 100 else ""
        raise ValueError(f"{where}: expected confidences of 0..1, got up to {most:g}{likely}")
    for entry, own, name in zip(found, points, _ids(found), strict=True):
        who = f"person {name}" if listed.kind != "COCO" else f"annotation {name}"
        try:
            if isinstance(own, str):
                raise ValueError(own)
            names = _order(listed, entry, len(own), order)
            feet = entry.get("foot_kpts") if names is COCO_17 else None
            if feet is not None and isinstance(
                feet := _points({"keypoints": feet}, listed.annotated), np.ndarray
            ):
                own, names = (np.concatenate([own, feet]), COCO_17 + FEET) if len(feet) == 6 else (own, names)
            body, derived = to_body_25(own, names)
            if entry.get("iscrowd"):
                raise ValueError("a crowd")
            if not (body[:, 2] > 0).any():
                raise ValueError("no keypoint")
        except ValueError as error:
            left_out.append(f"{where}, {who}: {error}")
            unknown += isinstance(error, UnknownOrder)
            continue
        source = order.source if order else listed.source
        score = entry.get("score", entry.get("bbox_score", 1.0))
        score = float(np.clip(score, 0, 1)) if isinstance(score, int | float) and score == score else 1.0
        people.append(Person(name, body, source, keypoint_box(body), score=score, derived=derived))
        if order or names is listed.counts.get(len(own)) and listed.kind != "OpenPose":
            unsure.append(people[-1])
    if found and unknown == len(found):
        raise ValueError(left_out[0])
    refuse_scattered(unsure, where, REMEDY)
    return Found(people, left_out, listed.sizes_px.get(key), where)


class UnknownOrder(ValueError):
    """Keypoints of which nobody says which is which."""


def _order(listed: Listed, entry: dict, count: int, order: Order | None) -> Names:
    """Which keypoint is which in an entry of `count` keypoints. ValueError: it is no person; UnknownOrder."""
    category = str(entry.get("category_id", "")) if listed.kind != "MMPose" else ""
    named = listed.orders.get(category)
    if named == ():
        whose = f"category {category}'s" if category else "the file's"
        raise ValueError(f"{whose} keypoints are not a person's")
    if order or named:
        names = order.names if order else named
        if len(names) == count:
            return names
        whose = "--keypoint-names" if order else "the file's own names"
        if order or count not in listed.counts:
            raise UnknownOrder(f"{count} keypoints, expected {len(names)}, as {whose} say")
    sign = listed.kind != "results" or category == "1" or {"idx", "box", "bbox"} & set(entry)
    if count in listed.counts and (sign or count != len(COCO_17)):
        return listed.counts[count]
    known = ", ".join(str(n) for n in listed.counts)
    unsigned = (
        " with nothing that says that they are COCO's (category_id 1)" if count in listed.counts else ""
    )
    raise UnknownOrder(f"{count} keypoints, expected {known}{unsigned}; {REMEDY}")


def _points(entry, annotated: bool) -> np.ndarray | str:
    """An entry's keypoints [K, 3]: x, y px, confidence, 0 for missing ones; or in words why they are none."""
    values = entry.get("keypoints") if isinstance(entry, dict) else None
    scores = _scores(entry) if isinstance(entry, dict) else None
    try:
        array = np.asarray(values, np.float64)
        if array.ndim == 2 and scores is not None and array.shape[1] == 2:
            array = np.column_stack([array, np.asarray(scores, np.float64)])
        elif array.ndim == 2 and scores is not None:
            return f"keypoints of {array.shape[1]} numbers beside their scores, expected x, y (3D ones do not serve)"
        elif array.ndim not in (1, 2) or array.size % 3 or (array.ndim == 2 and array.shape[1] != 3):
            shape = list(array.shape) if array.ndim == 2 else _outline(values)
            return f"keypoints of {shape}, expected x, y, confidence of each: [K, 3]"
    except (TypeError, ValueError, OverflowError):
        return f"keypoints of {_outline(values)}, expected numbers"
    array = array.reshape(-1, 3).copy()
    missing = ~(array[:, 2] > 0)  # what is not a number is missing
    array[missing] = 0
    wild = np.flatnonzero(~(np.abs(array) <= FARTHEST_PX).all(1))
    if len(wild):
        return f"keypoint {wild[0]} is {array[wild[0], :2].tolist()}, expected px or a confidence of 0"
    if annotated:
        visibility = array[:, 2]
        if not np.isin(visibility, list(COCO_CONFIDENCE)).all():
            return f"visibility v of {visibility.max():g}, expected 0, 1 or 2"
        array[:, 2] = [COCO_CONFIDENCE[int(v)] for v in visibility]
        array[:, :2] += 0.5 * ~missing[:, None]  # annotations name pixels; this is a pixel's middle
    return array


def _scores(entry: dict):
    """Scores that stand beside the keypoints, as MMPose and ViTPose write them."""
    return next((entry[name] for name in ("keypoint_scores", "scores") if name in entry), None)


def _scored(entries: list[dict]) -> bool:
    """Whether annotations hold a network's confidences in the place of COCO's 0, 1, 2."""
    for entry in entries:
        points = entry["keypoints"]
        third = points[2::3] if isinstance(points, list) else []
        if any(isinstance(value, float) and 0 < value < 1 for value in third):
            return True
    return False


def _categories(categories) -> dict[str, Names | None]:
    """Category id -> its keypoints' names, None where they have none, () for one that is not people."""
    listed = categories if isinstance(categories, list) else []
    listed = [one for one in listed if isinstance(one, dict) and "id" in one]
    found: dict[str, Names | None] = {}
    for one in listed:
        own = one.get("keypoints")
        names = names_in_file(own) if isinstance(own, list) and own else None
        people = str(one.get("name", "")).lower() in PEOPLE
        alone = len(listed) == 1 and not (own and names is None)
        found[str(one["id"])] = names if people or alone else ()
    return found


def _ids(entries: list) -> list[str]:
    """A name for each, fit for a file's: the entry's id, else its place; a second one of a name gets a number."""
    names: list[str] = []
    for at, entry in enumerate(entries):
        own = entry.get("id") if isinstance(entry, dict) else None
        own = re.sub(r"[^0-9A-Za-z-]+", "-", str(at if own is None else own))[:40].strip("-") or str(at)
        name, number = own, 2
        while name in names:
            name, number = f"{own}-{number}", number + 1
        names.append(name)
    return names


def _tracking_id(entry) -> int:
    value = entry.get("person_id", -1) if isinstance(entry, dict) else -1
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _outline(data) -> str:
    """What a JSON value is, in a few words, for messages."""
    if isinstance(data, dict):
        return f"an object with keys {sorted(map(str, data))[:8]}"
    if isinstance(data, list):
        return f"a list of {len(data)} values"
    return repr(data)[:40]
