"""How files get in place: written beside it under a name of their own, then renamed, so that none is half there."""

import errno
import math
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_BYTES = 1 << 16  # a disk with less left is taken for full where an error does not say why
UNFIT_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class StoreFull(OSError):
    """No room is left on the disk of the results. What the index names is whole; a later run goes on from there."""

    def __str__(self) -> str:
        return self.strerror


def write_files(
    out: str | Path, files: Mapping[str, Callable[[Path], None]], tag: str = ""
) -> list[tuple[str, int]]:
    """Writes files whole or not at all, also in a worker process; returns their relative paths and sizes, bytes.

    files: path relative to `out`, with slashes -> function that writes to a path given to it, of the same suffix
    tag: of the store, `Store.tag`

    ValueError: a name that is too long for the file system, not one inside of `out`, or a place that cannot be written.
    StoreFull: no room left. Either way nothing unfinished stays behind.
    """
    out = Path(out)
    places = {path: _place(out, path) for path in files}
    begun: dict[str, Path] = {}
    written = []
    try:
        for path, write in files.items():
            place = places[path]
            with clear_errors(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                begun[path] = place.parent / f".fit-{tag}{uuid.uuid4().hex[:16]}.part{place.suffix}"
                write(begun[path])
                written.append((path, _sync(begun[path])))
        for path in files:
            with clear_errors(places[path]):
                os.replace(begun[path], places[path])
            del begun[path]
    finally:
        for unfinished in begun.values():
            unfinished.unlink(missing_ok=True)
    return written


def write_text(out: str | Path, name: str, lines: Iterable[str], tag: str = "") -> None:
    """Writes a text file of `out` as `write_files` does, from lines with their ends."""

    def write(path: Path) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(lines)

    write_files(out, {name: write}, tag)


def remove_unfinished(out: Path, tag: str = "") -> None:
    """Removes what runs that were killed had begun to write: those of this tag, or without one all."""
    ours = re.compile(rf"\.fit-{tag or '([0-9]{5}-of-[0-9]{5}-)?'}[0-9a-f]{{16}}\.part(\.\w+)?")
    for folder, _, files in os.walk(out):
        for file in files:
            if ours.fullmatch(file):
                Path(folder, file).unlink(missing_ok=True)


@contextmanager
def clear_errors(place: Path) -> Iterator[None]:
    """Turns the system's errors about a place into ours: StoreFull for no room, ValueError for what cannot be there."""
    try:
        yield
    except StoreFull:
        raise
    except Exception as error:
        if _is_full(error, place):
            raise StoreFull(
                errno.ENOSPC,
                f"out {place}: no room left on this disk; make room and start again, what is finished is kept",
            ) from error
        number = error.errno if isinstance(error, OSError) else None
        if number in UNFIT_NAME:
            raise ValueError(
                f"file {place}: expected a name that can be written, got: {error.strerror}"
            ) from error
        if number in READ_ONLY:
            raise ValueError(
                f"out {place}: expected a folder that can be written, got: {error.strerror}"
            ) from error
        raise


def _is_full(error: BaseException | None, place: Path) -> bool:
    """Whether an error, or one that it came from, is about a full disk; encoders of pictures give no reason."""
    while error is not None:
        if isinstance(error, OSError):
            if error.errno in FULL:
                return True
            if error.errno is None and _free_bytes(place) < FULL_BYTES:
                return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _free_bytes(place: Path) -> float:
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        found = os.statvfs(place)
    except OSError:
        return math.inf
    return found.f_bavail * found.f_frsize


def _place(out: Path, path: str) -> Path:
    """Where a file goes; ValueError if that is outside of `out`, or a name that the file system does not take."""
    if os.path.isabs(path) or not path or ".." in path.split("/"):
        raise ValueError(f"file {path!r}: expected a path inside of the folder of results {out}")
    with clear_errors(out / path):
        try:
            if stat.S_ISDIR(os.lstat(out / path).st_mode):
                raise IsADirectoryError(errno.EISDIR, "a folder has this name")
        except FileNotFoundError:
            pass
    return out / path


def _sync(path: Path) -> int:
    """Waits until a file is on the disk, where a full one may show only now; returns its size, bytes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        return os.fstat(fd).st_size
    finally:
        os.close(fd)
