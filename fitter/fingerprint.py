"""What a file holds, in a line: by this, and never by its name, a result is known to be of the same input."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

BLOCK = 1 << 20  # bytes read at a time
REMEMBERED = 4096  # files whose hash a process keeps; a model file, asked for with every photo, stays


def fingerprint(path: str | Path) -> dict:
    """A file as {path, size, sha256}: its path as given, its size in bytes.

    A file is read once per process as long as its size and its time of change stay (mtime, ns).
    ValueError: it cannot be read.
    """
    try:
        stat = os.stat(path)
        digest = _sha256(os.fspath(path), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ValueError(f"input {path}: expected a file that can be read, got: {error.strerror}") from error
    return {"path": os.fspath(path), "size": stat.st_size, "sha256": digest}


def fingerprints(sources: Mapping) -> dict[str, dict]:
    """Role -> fingerprint, for all that a result was made from.

    sources: role -> a path; a folder, of which every file counts (`role/<file>`); several paths (`role.0`, `role.1`);
    something with a `fingerprint()` of its own, as a Photo; or None, which is left out.
    ValueError: one of them cannot be read.
    """
    found = {}
    for role, source in sources.items():
        if source is None:
            continue
        if hasattr(source, "fingerprint"):
            found[role] = source.fingerprint()
        elif isinstance(source, Iterable) and not isinstance(source, str | Path):
            found |= {f"{role}.{n}": fingerprint(path) for n, path in enumerate(source)}
        elif os.path.isdir(source):
            files = sorted(path for path in Path(source).rglob("*") if path.is_file())
            found |= {f"{role}/{path.relative_to(source).as_posix()}": fingerprint(path) for path in files}
        else:
            found[role] = fingerprint(source)
    return found


@lru_cache(maxsize=REMEMBERED)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    """Hex digest of a file's bytes; size and mtime_ns: part of the cache's key alone."""
    digest, block = hashlib.sha256(), bytearray(BLOCK)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(memoryview(block)[:count])
    return digest.hexdigest()
