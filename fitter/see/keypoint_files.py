"""Which file, and which entry of it, holds a photo's keypoints: nobody gets another photo's people."""

import json
from collections.abc import Sequence
from pathlib import Path

from fitter.see.keypoint_checks import Found
from fitter.see.keypoint_orders import read_order
from fitter.see.keypoint_readers import people_of, read_listed
from fitter.see.keypoints import Person
from fitter.see.photos import Photo, coco_number, entry_of


def find_keypoints(image_path: str | Path, keypoints_path: str | Path) -> list[Person]:
    """`find_people` of a photo by its path: the people alone."""
    path = Path(image_path)
    return find_people(Photo(path, path.name, path.stem), keypoints_path).people


def find_people(photo: Photo, where: str | Path, names: str | None = None) -> Found:
    """People of one photo by a file of many photos, of this one, or a folder of files `<photo>_keypoints.json` or
    `<photo>.json`; names: `--keypoint-names`.

    Nobody found: the file says so. ValueError: no file or no entry for this photo, or nothing that can be read.
    """
    path = file_of(photo, where)
    listed = read_listed(path)
    key = key_of(photo, path)
    if key is None:
        hint = "" if listed.annotated else "; nobody may be there, but a list of results does not say so"
        raise ValueError(f"{path}: expected '{photo.image}' among its photos, found no entry for it{hint}")
    return people_of(listed, key, read_order(names), f"{path}: {photo.image}" if key else str(path))


def file_of(photo: Photo, where: str | Path) -> Path:
    """The file that speaks of a photo: `where`, or the one in that folder that is called as the photo, in the same
    folders or in none. ValueError: there is none."""
    where, image = Path(where), Path(photo.image)
    if where.is_file():
        return where
    if not where.is_dir():
        raise ValueError(f"keypoints {where}: expected a JSON file or a folder of such, found none")
    called = dict.fromkeys([Path(photo.name).name, image.stem, image.name])
    files = [name + end for name in called for end in ("_keypoints.json", ".json")]
    found = (folder / file for folder in (where / image.parent, where) for file in files)
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        other = next(where.glob("*.json"), None)
        got = f"none but others, such as {other.name}" if other else "none"
        raise ValueError(
            f"keypoints of {photo.image}: expected {image.stem}_keypoints.json or {image.stem}.json in {where}, found "
            f"{got}. One file for all photos is given itself, not its folder"
        )
    return path


def key_of(photo: Photo, path: Path) -> str | None:
    """Which entry of a file is a photo's; "" in a file of one photo, None if there is none. ValueError: two may be."""
    listed = read_listed(path)
    if "" in listed.entries:
        return ""
    try:
        entry = entry_of(listed.names, photo.image, photo.path.absolute() if photo.place is None else "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    number = None if listed.annotated else coco_number(photo.image)
    return number if entry is None and number in listed.entries else entry


def check_keypoints(photos: Sequence[Photo], where: str | None, names: str | None) -> list[str]:
    """What would spoil many photos, once before all: ValueError for a file or `names` that cannot be read, and for two
    photos that would take the same entry or file. Returns what else is to be said."""
    order = read_order(names)
    if not where:
        return []
    taken: dict[tuple[Path, str], Photo] = {}
    for photo in photos:
        try:
            path = file_of(photo, where)
        except ValueError:
            continue  # that photo is skipped
        key = key_of(photo, path) if Path(where).is_file() else ""
        if key is None:
            continue
        other = taken.setdefault((path, key), photo)
        if other is not photo:
            called = [Path(one.name).name for one in (other, photo)]
            remedy = "put them into folders as the photos'"
            if key:
                remedy = "write the photos' folders before the names in the file"
            elif called[0] != called[1]:
                remedy = f"call them {called[0]}_keypoints.json and {called[1]}_keypoints.json"
            raise ValueError(
                f"keypoints {path}{f', {key}' if key else ''}: expected to be of one photo, got two that it may be of, "
                f"{other.image} and {photo.image}; {remedy}"
            )
    if not Path(where).is_file():
        return []
    listed, troubles = read_listed(Path(where)), []
    if not taken:
        others = list(listed.entries)[:3]
        numbers = all(name.isdecimal() for name in others)
        hint = (
            "; numbers are those of COCO's own names, 000000000139.jpg: write file names" if numbers else ""
        )
        raise ValueError(
            f"keypoints {where}: expected the photos, such as {photos[0].image}, got none of them but "
            f"{', '.join(others) or 'nothing'}{hint if others else ''}"
        )
    for path, key in list(taken)[:20]:
        try:
            people_of(listed, key, order, str(path))
            break
        except ValueError as error:
            troubles.append(str(error))
    else:
        if troubles:
            raise ValueError(troubles[0])
    several = "entries are" if listed.strangers > 1 else "entry is"
    said = f"keypoints {where}: {listed.strangers} {several} left out, of no photo that it lists"
    return [said] if listed.strangers else []


def write_openpose(path: str | Path, people: list[Person]) -> None:
    """People as an OpenPose file (BODY_25, version 1.3), their order kept; `find_keypoints` reads it back.

    `keypoint_source` beside them says whose definitions they follow, which OpenPose's own files leave out.
    """
    entries = [
        {"person_id": [-1], "pose_keypoints_2d": person.keypoints_px.reshape(-1).round(4).tolist()}
        for person in people
    ]
    sources = {person.source for person in people}
    source = {"keypoint_source": sources.pop()} if len(sources) == 1 else {}
    Path(path).write_text(json.dumps({"version": 1.3, **source, "people": entries}))
