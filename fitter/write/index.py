"""The index of a folder of results: JSON lines that only ever grow, one per finished photo, read back whole or not at
all. Of two lines about one photo the later counts."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fitter.see.photos import INDEX

PHOTOS = "photos.jsonl"  # what a run is to fit: a line about it, then one per photo
ENTRY = {
    "name", "image", "time", "finished", "configuration", "version", "outputs", "inputs", "rows", "files",
}  # fmt: skip
BLOCK = 1 << 16


class Line(NamedTuple):
    """Where an index says something about a photo: file, offset and length in bytes; when it was written, s."""

    index: Path
    offset: int
    length: int
    time: float


def has_index(out: str | Path) -> bool:
    """Whether a folder holds an index of results."""
    return os.path.isdir(out) and any(INDEX.fullmatch(file) for file in os.listdir(out))


def read_indexes(out: Path) -> tuple[dict[str, Line], int]:
    """Where each photo's last line stands, over all indexes of a folder; and how many lines are no entries.

    A last line without an end is none: it was not finished, or is being written.
    """
    lines: dict[str, Line] = {}
    damaged = 0
    for index in sorted(path for path in out.iterdir() if INDEX.fullmatch(path.name)):
        offset = 0
        with open(index, "rb") as file:
            for text in file:
                if not text.endswith(b"\n"):
                    break
                line = Line(index, offset, len(text), 0.0)
                offset += len(text)
                try:
                    entry = json.loads(text)
                    name, line = entry["name"], line._replace(time=float(entry["time"]))
                    whole = entry.keys() >= ENTRY
                except (ValueError, KeyError, TypeError, AttributeError):
                    whole = False
                if not whole:
                    damaged += 1
                elif name not in lines or lines[name].index == index or lines[name].time <= line.time:
                    lines[name] = line
    return lines, damaged


def read_line(line: Line) -> dict:
    """The entry that stands there."""
    with line_reader() as read:
        return read(line)


@contextmanager
def line_reader() -> Iterator[Callable[[Line], dict]]:
    """Gives `read_line` for many lines: each index is opened once."""
    with ExitStack() as stack:
        files: dict[Path, BinaryIO] = {}

        def read(line: Line) -> dict:
            if line.index not in files:
                files[line.index] = stack.enter_context(open(line.index, "rb"))
            files[line.index].seek(line.offset)
            return json.loads(files[line.index].read(line.length))

        yield read


def entries_in_order(out: Path) -> Iterator[tuple[str, dict | None]]:
    """The photos of a run in order: image, and its entry; None where it is missing or of other settings.

    Without `photos.jsonl`, the photos in the indexes, by name. ValueError: no index.
    """
    if not has_index(out):
        raise ValueError(f"out {out}: expected a folder of results with an index (index*.jsonl), found none")
    lines, _ = read_indexes(out)
    if not (out / PHOTOS).is_file():
        for name in sorted(lines):
            entry = read_line(lines[name])
            yield entry["image"], entry
        return
    with open(out / PHOTOS, "rb") as file, line_reader() as read:
        run = json.loads(next(file))
        for text in file:
            photo = json.loads(text)
            entry = read(lines[photo["name"]]) if photo["name"] in lines else None
            of_run = entry and all(entry[key] == run[key] for key in ("configuration", "version"))
            yield photo["image"], entry if of_run else None


def earlier_entries(out: Path) -> Iterator[dict]:
    """What a folder holds beside the results of its run, by name: entries with files, of photos that were not asked for
    last, or made with other settings or by another version."""
    if not (out / PHOTOS).is_file():
        return
    lines, _ = read_indexes(out)
    with open(out / PHOTOS, "rb") as file:
        run = json.loads(next(file))
        asked = {json.loads(text)["name"] for text in file}
    for name in sorted(lines):
        entry = read_line(lines[name])
        of_run = name in asked and all(entry[key] == run[key] for key in ("configuration", "version"))
        if not of_run and any((out / path).is_file() for path, _ in entry["files"]):
            yield entry


def run_of(out: Path) -> dict:
    """What `photos.jsonl` says of the run that wrote it: photos, configuration, version; empty without one."""
    try:
        with open(out / PHOTOS, "rb") as file:
            return json.loads(file.readline())
    except (OSError, ValueError):
        return {}


def cut_torn_line(index: Path) -> int:
    """Shortens an index to its last whole line; returns its length in bytes, 0 if there is none."""
    if not index.exists():
        return 0
    with open(index, "r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        newline = -1
        while end and newline < 0:
            start = max(0, end - BLOCK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            end = start + newline + 1
        if end < size:
            file.truncate(end)
    return end


def append(index: int, end: int, line: bytes) -> None:
    """Adds one line to an index, at its end, so that it is on the disk; or, with an exception, nothing.

    index: descriptor of the file, opened to append; end: its length in bytes
    """
    os.ftruncate(index, end)  # what an append that failed may have left
    try:
        written = os.write(index, line)
        while written < len(line):  # a disk that is full takes a part, and says so the next time
            written += os.write(index, line[written:])
        os.fsync(index)
    except BaseException:
        os.ftruncate(index, end)
        raise


def json_line(value) -> str:
    """JSON that any reader takes: ValueError for NaN."""
    return json.dumps(value, allow_nan=False) + "\n"


def plain(value):
    """The same as JSON can hold: arrays and numpy's numbers as Python's, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return plain(value.tolist()) if hasattr(value, "tolist") else value
