"""People of a photo as 2D keypoints: one format for OpenPose files, COCO files and the shipped detector.

All keypoints become OpenPose's BODY_25 order in full-image pixels: x right, y down, origin at the top left
corner of the top left pixel. `fitter/see/keypoint_targets.py` says what each is matched to on the body.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fitter.see.person_box import keypoint_box

# fmt: off
BODY_25 = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip",
    "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe",
    "LHeel", "RBigToe", "RSmallToe", "RHeel",
)
FEET = ("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel")  # COCO-WholeBody's foot_kpts
COCO_17 = (
    "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist",
    "LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle",
)
OPENPOSE_COCO_18 = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip", "RKnee",
    "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar",
)
# BODY_25B's own neck (between head and trunk) and head top are other points than BODY_25's: not taken over
OPENPOSE_BODY_25B = COCO_17 + (None, None) + FEET
# fmt: on
MIRROR_25 = tuple(
    BODY_25.index({"L": "R", "R": "L"}.get(n[0], n[0]) + n[1:] if n[1:2].isupper() else n) for n in BODY_25
)
DERIVED = {"Neck": ("LShoulder", "RShoulder"), "MidHip": ("LHip", "RHip")}
SOURCES = ("openpose", "coco", "detector")
COCO_CONFIDENCE = {0: 0.0, 1: 0.5, 2: 1.0}  # v: 0 not labelled, 1 labelled but hidden (a guess), 2 visible


@dataclass(frozen=True)
class Person:
    """One person seen in one photo.

    id: stable name, unique within the photo.
    keypoints_px: [25, 3] float64: x, y in full-image px, confidence 0..1; 0 = missing (then x = y = 0).
    source: 'openpose' | 'coco' | 'detector', the definition that the keypoints follow (`body_targets`).
    box_px: [4] float64 x0, y0, x1, y1: `keypoint_box`, the person's scale everywhere.
    landmarks_3d: [33, 3] metres, BlazePose's landmarks in camera axes (x right, y down, z away), origin
        between the hips, or None.
    score: 0..1, how sure the source is that this is a person (1 where it does not say).
    derived: BODY_25 names that are means of two others, not observed themselves.
    """

    id: str
    keypoints_px: np.ndarray
    source: str
    box_px: np.ndarray
    landmarks_3d: np.ndarray | None = None
    score: float = 1.0
    derived: tuple[str, ...] = ()


def to_body_25(keypoints_px: np.ndarray, names: tuple[str | None, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Keypoints [K, 3] of the given names -> [25, 3] in BODY_25 order and the names that were derived.

    Neck and MidHip, where the source has none, are the mean of both shoulders (hips), with the lower of their
    confidences. Missing ones are (0, 0, 0). Confidence is clipped to 0..1.
    """
    body = np.zeros((25, 3))
    for name, keypoint in zip(names, keypoints_px, strict=True):
        if name is not None:
            body[BODY_25.index(name)] = keypoint
    body[:, 2] = body[:, 2].clip(0, 1)
    derived = tuple(name for name in DERIVED if name not in names)
    for name in derived:
        left, right = (body[BODY_25.index(side)] for side in DERIVED[name])
        body[BODY_25.index(name)] = [*(left[:2] + right[:2]) / 2, min(left[2], right[2])]
    body[body[:, 2] <= 0] = 0
    return body, derived


def mirror_keypoints(keypoints_px: np.ndarray, width: int) -> np.ndarray:
    """[25, 3] px of a photo -> [25, 3] of the photo mirrored left to right: x -> width - x, sides swapped."""
    mirrored = keypoints_px[list(MIRROR_25)].copy()
    mirrored[:, 0] = np.where(mirrored[:, 2] > 0, width - mirrored[:, 0], 0)
    return mirrored


def select_people(people: list[Person], choice: str | int) -> list[Person]:
    """'all', 'largest', or N >= 1 for the N largest (by box area), in the order in which they came."""
    if choice == "all":
        return list(people)
    count = 1 if choice == "largest" else int(choice) if str(choice).isdecimal() else 0
    if count < 1:
        raise ValueError(f"people: expected 'all', 'largest' or a number of people from 1, got {choice!r}")
    areas = [-float(np.prod(person.box_px[2:] - person.box_px[:2])) for person in people]
    kept = sorted(sorted(range(len(people)), key=areas.__getitem__)[:count])
    return [people[i] for i in kept]


def find_keypoints(image_path: str | Path, keypoints_path: str | Path) -> list[Person]:
    """People of one photo: a folder of OpenPose files `<stem>_keypoints.json`, one such file, or a COCO file.

    An empty list: the file says that nobody is there. ValueError: no file for this photo, or not such a file.
    """
    image, where = Path(image_path), Path(keypoints_path)
    if where.is_dir():
        candidates = [where / f"{image.stem}_keypoints.json", where / f"{image.stem}.json"]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise ValueError(
                f"keypoints of {image.name}: expected {candidates[0].name} in {where}, found none"
            )
        where = found
    elif not where.is_file():
        raise ValueError(
            f"keypoints {where}: expected a COCO JSON file or a folder of OpenPose files, found none"
        )
    if isinstance(_read_json(where), dict) and "people" in _read_json(where):
        return read_openpose(where)
    return read_coco(where, image.name)


def read_openpose(path: str | Path) -> list[Person]:
    """People of an OpenPose file: BODY_25, the older 18 COCO points, or BODY_25B if its `format` says so.

    The id is OpenPose's `person_id` where all have one (>= 0, tracking was on), else the index. Entries
    without any keypoint are left out. ValueError: not such a file.
    """
    path = Path(path)
    data = _read_json(path)
    people = data.get("people") if isinstance(data, dict) else None
    if not isinstance(people, list) or not all(isinstance(entry, dict) for entry in people):
        raise ValueError(f"{path}: expected OpenPose JSON with a list 'people', got {_outline(data)}")
    is_25b = str(data.get("format", "")).upper().startswith("BODY_25B")
    layouts = {25: OPENPOSE_BODY_25B if is_25b else BODY_25, 18: OPENPOSE_COCO_18}
    tracked = [_tracking_id(entry) for entry in people]
    use_tracked = min(tracked, default=-1) >= 0 and len(set(tracked)) == len(tracked)
    source = data.get("keypoint_source", "openpose")
    if source not in SOURCES:
        raise ValueError(f"{path}: expected a keypoint_source of {', '.join(SOURCES)}, got {source!r}")
    result = []
    for index, entry in enumerate(people):
        where = f"{path}: people[{index}].pose_keypoints_2d"
        keypoints = _triplets(
            entry.get("pose_keypoints_2d"), where, "25 (BODY_25) or 18 (COCO)", set(layouts)
        )
        body, derived = to_body_25(keypoints, layouts[len(keypoints)])
        if (body[:, 2] > 0).any():
            name = str(tracked[index] if use_tracked else index)
            result.append(Person(name, body, source, keypoint_box(body), derived=derived))
    return result


def write_openpose(path: str | Path, people: list[Person]) -> None:
    """People as an OpenPose file (BODY_25, version 1.3), their order kept; `read_openpose` reads it back.

    `keypoint_source` beside them says whose definitions they follow, which OpenPose's own files leave out.
    """
    entries = [
        {"person_id": [-1], "pose_keypoints_2d": person.keypoints_px.reshape(-1).round(4).tolist()}
        for person in people
    ]
    sources = {person.source for person in people}
    source = {"keypoint_source": sources.pop()} if len(sources) == 1 else {}
    Path(path).write_text(json.dumps({"version": 1.3, **source, "people": entries}))


def read_coco(path: str | Path, image_name: str) -> list[Person]:
    """People of one photo in a COCO file: annotations (`images`, `annotations`) or a results list.

    path: annotations are found by `file_name`, results by `image_id`, which must be the image's name, its
        stem, or the number at the end of its stem (COCO's own names).
    Visibility v becomes confidence: 0 -> 0, hidden (1) -> 0.5, visible (2) -> 1; results carry scores. COCO's
    annotated keypoints name pixels, so 0.5 is added to reach the pixel's middle; results stay as they are.
    `foot_kpts` (COCO-WholeBody), or feet as keypoints 18-23, are used where present. Crowds and people
    without labelled keypoints are left out. The id is the annotation's id, or the index among this photo's
    results.
    ValueError: not such a file, or annotations that do not list this image.
    """
    path = Path(path)
    is_annotations, by_image = _coco_by_image(path, path.stat().st_mtime_ns)
    stem = Path(image_name).stem
    number = stem[len(stem.rstrip("0123456789")) :]
    keys = (image_name,) if is_annotations else (image_name, stem, str(int(number)) if number else stem)
    if is_annotations and image_name not in by_image:
        raise ValueError(f"{path}: expected '{image_name}' among its images' file_name, found none such")
    entries = next((by_image[key] for key in keys if key in by_image), [])
    result = []
    for index, entry in enumerate(entries):
        person = _coco_person(
            entry, str(entry.get("id", index)), is_annotations, f"{path}: {image_name}[{index}]"
        )
        if person is not None:
            result.append(person)
    return result


def _coco_person(entry: dict, name: str, is_annotation: bool, where: str) -> Person | None:
    counts = {17, 23, 133}
    keypoints = _triplets(
        entry.get("keypoints"), f"{where}.keypoints", "17 (COCO), 23 or 133 (WholeBody)", counts
    )
    names = COCO_17 + FEET if len(keypoints) > 17 else COCO_17
    keypoints = keypoints[: len(names)]
    if entry.get("foot_kpts") and len(names) == 17:
        feet = _triplets(entry["foot_kpts"], f"{where}.foot_kpts", "6", {6})
        keypoints, names = np.concatenate([keypoints, feet]), COCO_17 + FEET
    if is_annotation:
        visibility = keypoints[:, 2]
        if not np.isin(visibility, list(COCO_CONFIDENCE)).all():
            raise ValueError(f"{where}: expected visibility v of 0, 1 or 2, got {visibility.tolist()}")
        confidence = [COCO_CONFIDENCE[int(v)] for v in visibility]
        keypoints = np.column_stack([keypoints[:, :2] + 0.5, confidence])
    body, derived = to_body_25(keypoints, names)
    if entry.get("iscrowd") or not (body[:, 2] > 0).any():
        return None
    score = float(np.clip(entry.get("score", 1.0), 0, 1))
    return Person(name, body, "coco", keypoint_box(body), score=score, derived=derived)


@lru_cache(maxsize=4)
def _coco_by_image(path: Path, modified_ns: int) -> tuple[bool, dict[str, list[dict]]]:
    """Whether these are annotations, and the entries by the image's name (results: by its id as text)."""
    data = _read_json(path)
    if isinstance(data, list) and all(
        isinstance(e, dict) and {"image_id", "keypoints"} <= set(e) for e in data
    ):
        by_image: dict[str, list[dict]] = {}
        for entry in data:
            by_image.setdefault(str(entry["image_id"]), []).append(entry)
        return False, by_image
    try:
        names = {image["id"]: Path(image["file_name"]).name for image in data["images"]}
        entries = [entry for entry in data["annotations"] if "keypoints" in entry]
        by_image = {name: [] for name in names.values()}
        for entry in entries:
            by_image[names[entry["image_id"]]].append(entry)
    except (KeyError, TypeError) as error:
        expected = (
            "OpenPose 'people', COCO 'images' (id, file_name) and 'annotations' (image_id, keypoints), or a"
        )
        raise ValueError(
            f"{path}: expected {expected} COCO results list, got {_outline(data)} ({error!r})"
        ) from error
    if data["annotations"] and not entries:
        raise ValueError(
            f"{path}: expected annotations with 'keypoints', got none (an instances or captions file?)"
        )
    return True, by_image


def _read_json(path: Path):
    return _parse_json(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _parse_json(path: Path, modified_ns: int):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected JSON, got a file that is not ({error})") from error


def _triplets(values, where: str, expected: str, counts: set[int]) -> np.ndarray:
    """Flat list of x, y, c -> [K, 3] float64, K among `counts`, all finite; ValueError otherwise."""
    try:
        array = np.asarray(values, np.float64).reshape(-1)
    except (TypeError, ValueError):
        array = np.array([np.nan])
    if array.size % 3 or array.size // 3 not in counts:
        raise ValueError(f"{where}: expected {expected} x (x, y, confidence), got {_outline(values)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: expected finite numbers, got {array[~np.isfinite(array)][0]}")
    return array.reshape(-1, 3)


def _tracking_id(entry: dict) -> int:
    value = entry.get("person_id", -1)
    value = value[0] if isinstance(value, list) and value else value
    return int(value) if isinstance(value, int | float) else -1


def _outline(data) -> str:
    """What a JSON value is, in a few words, for messages."""
    if isinstance(data, dict):
        return f"an object with keys {sorted(data)[:8]}"
    if isinstance(data, list):
        return f"a list of {len(data)} values"
    return repr(data)[:40]
