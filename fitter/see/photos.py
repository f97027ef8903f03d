"""Which photos there are: a file, a folder with all folders in it, or the members of tar shards; and what their results
are called.

Nothing is opened or decoded here but the tars' headers, and every step is linear in the number of photos.
"""

import hashlib
import itertools
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fitter.fingerprint import fingerprint
from fitter.options import VIDEO_SUFFIXES
from fitter.see.picture import HEIC_SUFFIXES, NO_HEIC, reads_heic

PHOTO_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif", ".avif", ".jp2", ".j2k",
    ".jpx", ".ppm", ".pgm", ".qoi", ".tga", ".mpo",
)  # fmt: skip
OF_THE_SYSTEM = ("thumbs.db", "desktop.ini")  # which nobody misses, as the hidden ones
INDEX = re.compile(r"index(-\d{5}-of-\d{5})?\.jsonl")  # in a folder with such a file are results, not photos
DATA_SUFFIXES = (".json", ".jsonl", ".yaml", ".yml", ".npz", ".npy", ".txt", ".xml", ".pkl", ".onnx", ".obj", ".ply",
                 ".glb", ".mtl")  # fmt: skip
VIDEOS = ": --sequence true reads videos"
MADE_BY_A_RUN = ("overlays", "export", "report")  # folders with pictures in a folder of results
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class Photo:
    """One photo, not read yet.

    path: its file, or the tar that it lies in; image: what it is called in results, relative to what was given as
    `--images`, with slashes; name: of its result files, with the same folders (`seqA/000001`).
    place: offset and length in the tar, bytes, None for a file; notes: the same of the JSON beside it there, if any
    """

    path: Path
    image: str
    name: str
    place: tuple[int, int] | None = None
    notes: tuple[int, int] | None = None

    def read(self) -> bytes:
        """The photo's file as it is; ValueError if it cannot be read or the tar ends early."""
        try:
            if self.place is None:
                return self.path.read_bytes()
            return self._part(self.place)
        except OSError as error:
            raise ValueError(
                f"image {self.image}: expected a file that can be read, got: {error.strerror}"
            ) from error

    def read_notes(self) -> bytes | None:
        """The JSON file that stands beside it in the tar, None without one."""
        return None if self.notes is None else self._part(self.notes)

    def fingerprint(self) -> dict:
        """{path, size, sha256}; path is `image`, which stays when the folder of photos is moved.

        ValueError: as `read`.
        """
        if self.place is None:
            return fingerprint(self.path) | {"path": self.image}
        data = self.read()
        return {"path": self.image, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    @property
    def digest(self) -> str:
        """SHA-256 of the photo's file, hex."""
        return self.fingerprint()["sha256"]

    def _part(self, place: tuple[int, int]) -> bytes:
        offset, size = place
        with open(self.path, "rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise ValueError(f"image {self.image}: expected {size} bytes in {self.path}, which ends early")
        return data


def list_photos(images: str | Path, skip: Iterable[str | Path | None] = ()) -> list[Photo]:
    """All photos of `images`, in the order of their folders and names.

    images: a photo; a folder, searched with all folders in it; a .tar, or several as `photos-{000..010}.tar`, whose
    members are `<key>.jpg` (any suffix of PHOTO_SUFFIXES) with or without a `<key>.json`
    skip: folders not to look into, such as `out` and `labels`. Neither hidden ones are, nor the results of other runs.

    FileNotFoundError: no photo, or a shard is missing. ValueError: a folder or tar that cannot be read.
    """
    return find_photos(images, skip)[0]


def find_photos(
    images: str | Path, skip: Iterable[str | Path | None] = (), used: Iterable[str | Path | None] = ()
) -> tuple[list[Photo], str]:
    """`list_photos`, and in words how many other files lie among them, "" if none do.

    used: files, and folders of files, that are read as something else: of those DATA_SUFFIXES are not counted.
    """
    images = str(images)
    if images.endswith(".tar"):
        return _of_shards(images)
    where = Path(images)
    if where.is_file():
        return [Photo(where, where.name, where.stem)], ""
    files = list(search(images, skip, used)) if where.is_dir() else []
    found, others = photos_among(files)
    found.sort(key=lambda image: image.split("/"))
    if not found:
        more = f" ({others})" if others else ""
        raise FileNotFoundError(
            f"images {where}: expected a photo or a folder of {', '.join(PHOTO_SUFFIXES)}; found none{more}"
        )
    names = result_names(found)
    return [Photo(where / image, image, name) for image, name in zip(found, names, strict=True)], others


def photos_among(files: Iterable[str]) -> tuple[list[str], str]:
    """Which files are photos by their suffix, HEIC if pillow-heif is there; and in words how many others there are."""
    heic = reads_heic()
    suffixes = {*PHOTO_SUFFIXES, *HEIC_SUFFIXES} if heic else {*PHOTO_SUFFIXES}
    found, others = [], Counter()
    for file in files:
        suffix = os.path.splitext(file)[1].lower()
        if suffix in suffixes:
            found.append(file)
        elif file.rpartition("/")[2].lower() not in OF_THE_SYSTEM:
            others[suffix or "without a suffix"] += 1
    said = [
        f"{count} {suffix}"
        + (f": {NO_HEIC}" if suffix in HEIC_SUFFIXES else VIDEOS * (suffix in VIDEO_SUFFIXES))
        for suffix, count in sorted(others.items(), key=lambda one: (-one[1], one[0]))
    ]
    return found, f"{sum(others.values())} files not read ({'; '.join(said)})" if said else ""


def result_names(images: list[str]) -> list[str]:
    """What each photo's files are called, by its path relative to `--images`: without the suffix, or with it (a_jpg)
    where two photos of a folder share a stem, or counted (a_jpg_2) where that is another's.

    A name depends on no other folder, and in its own only on the photos that it would be mistaken for.
    """
    split = [image.rpartition("/") for image in images]
    stems = [(folder, file.rpartition(".")[0] or file) for folder, _, file in split]
    photos_with: dict[tuple[str, str], int] = {}
    for stem in stems:
        photos_with[stem] = photos_with.get(stem, 0) + 1
    taken = {stem for stem, count in photos_with.items() if count == 1}
    names = []
    for (folder, slash, file), stem in zip(split, stems, strict=True):
        name = stem[1]
        if photos_with[stem] > 1:
            whole = name = file.replace(".", "_")
            counter = itertools.count(2)
            while (folder, name) in taken:
                name = f"{whole}_{next(counter)}"
            taken.add((folder, name))
        names.append(folder + slash + name)
    return names


def by_file_name(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of photos in somebody's file, such as train/000001.jpg, by the last part of each."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.split(r"[/\\]", name)[-1], []).append(name)
    return found


def entry_of(names: Mapping[str, list[str]], image: str, path: str | Path = "") -> str | None:
    """Which of the names of photos in a file is a photo's: the one that agrees with its path's end in most folders.

    names: `by_file_name`, with or without the suffix; image: the photo's path below `--images`; path: the whole of it,
    if known. Folders below `--images` must agree as far as the name has any: camA/17.jpg is never camB/17.jpg. None:
    there is none. ValueError: two agree equally well.
    """
    below = image.split("/")
    own = Path(path).parts if path else below
    best: dict[tuple[int, bool], list[str]] = {}
    stem = below[-1].rpartition(".")[0] or below[-1]
    for name in names.get(below[-1]) or names.get(stem, ()):
        parts = re.split(r"[/\\]", name)
        pairs = zip(reversed(parts[:-1]), reversed(own[:-1]), strict=False)
        agreed = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if agreed >= min(len(parts), len(below)) - 1:
            best.setdefault((agreed, agreed == len(parts) - 1), []).append(name)
    found = list(dict.fromkeys(best[max(best)])) if best else [None]
    if len(found) > 1:
        raise ValueError(f"expected one entry for the photo {image}, got '{found[0]}' and '{found[1]}'")
    return found[0]


def coco_number(image: str) -> str | None:
    """139 of COCO's own file names 000000000139.jpg and COCO_val2014_000000000139.jpg; None of any other, for the
    number that it ends with may be another camera's as well."""
    match = re.fullmatch(r"(?:COCO_[a-z]+\d{4}_)?(\d+)", Path(image).stem)
    return str(int(match[1])) if match else None


def search(root: str, skip: Iterable[str | Path | None], used: Iterable[str | Path | None]) -> Iterator[str]:
    """Paths of the files under a folder, relative to it, in no order; links are followed, but not in a circle."""
    left_out, used = ({os.path.realpath(path) for path in paths if path} for paths in (skip, used))
    above = os.path.realpath(root)
    waiting = [("", (above,), not used.isdisjoint([above, *map(str, Path(above).parents)]))]
    while waiting:
        folder, above, data = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                entries = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise ValueError(
                f"images {os.path.join(root, folder)}: expected a folder that can be read, got: {error.strerror}"
            ) from error
        of_a_run = any(INDEX.fullmatch(entry.name) for entry in entries)
        if of_a_run and folder:
            continue
        for entry in entries:
            if entry.is_dir():
                inside = os.path.realpath(entry.path)
                if (
                    inside not in left_out
                    and inside not in above
                    and not (of_a_run and entry.name in MADE_BY_A_RUN)
                ):
                    waiting.append((f"{folder}{entry.name}/", (*above, inside), data or inside in used))
            elif not (
                entry.name.lower().endswith(DATA_SUFFIXES)
                and (data or of_a_run or os.path.join(above[-1], entry.name) in used)
            ):
                yield folder + entry.name


def expand_braces(pattern: str) -> list[str]:
    """photos-{08..10}.tar -> photos-08.tar, photos-09.tar, photos-10.tar: as many digits as the first number has."""
    match = BRACES.search(pattern)
    if not match:
        return [pattern]
    first, last = match.groups()
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    ends = expand_braces(pattern[match.end() :])
    return [pattern[: match.start()] + number + end for number in numbers for end in ends]


def _of_shards(pattern: str) -> tuple[list[Photo], str]:
    """The photos in tars, called `<shard>.tar/<member>`, by shard and then by member; and in words how many others."""
    tars = expand_braces(pattern)
    missing = [tar for tar in tars if not os.path.isfile(tar)]
    if missing or not tars:
        raise FileNotFoundError(
            f"images {pattern}: expected {len(tars)} tar files, {len(missing)} are missing, first "
            f"{missing[0] if missing else pattern}"
        )
    root = os.path.dirname(pattern.partition("{")[0])
    photos, rest = [], []
    for tar in tars:
        shard = os.path.relpath(tar, root or ".").replace(os.sep, "/")
        members = _members(tar)
        shown = [member for member in members if not member.rpartition("/")[2].startswith(".")]
        keys = sorted(photos_among(shown)[0])
        for key, name in zip(keys, result_names(keys), strict=True):
            notes = members.get(key.rpartition(".")[0] + ".json")
            name = f"{shard.removesuffix('.tar')}/{name}"
            photos.append(Photo(Path(tar), f"{shard}/{key}", name, members[key], notes))
        read = {*keys, *(f"{key.rpartition('.')[0]}.json" for key in keys)}
        rest += [member for member in shown if member not in read]
    if not photos:
        raise FileNotFoundError(f"images {pattern}: expected members {', '.join(PHOTO_SUFFIXES)}; found none")
    return photos, photos_among(rest)[1]


def _members(path: str) -> dict[str, tuple[int, int]]:
    """Member -> offset and length of its bytes in an uncompressed tar; of members of one name the last counts.

    ValueError: not such a tar, a member stored with holes, or one that would lie outside of the results.
    """
    found = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.issparse():
                    raise ValueError(
                        f"images {path}: member {name} is stored sparse; make the tar without that"
                    )
                if member.isfile():
                    if name.startswith("/") or ".." in name.split("/"):
                        raise ValueError(f"images {path}: expected members inside the tar, got {name!r}")
                    found[name] = (member.offset_data, member.size)
                tar.members = []  # or it keeps every header
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"images {path}: expected an uncompressed tar, got: {error}") from error
    return found
