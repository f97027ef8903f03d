"""The people of a whole run as arrays, read fast: ten thousand files in two seconds of one core.

NumPy's reader of a .npz costs 3 ms a file, most of it for its own bookkeeping; here a file's members are taken from the
zip's directory, and what all files share (headers, names) is understood once.
"""

import ast
import gc
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fitter.write.result import Fit, body_of, load_fit, vertices_of
from fitter.write.store import results

if TYPE_CHECKING:
    from fitter.body.model import BodyModel

NUMBERS = ("pose", "betas", "transl_cam", "focal_px", "center_px", "image_size_px", "box_px", "joints_cam",
           "keypoints_px", "keypoints_cam", "observed_px", "joint_states", "valid",
           "runner_up")  # fmt: skip
TEXTS = ("image", "person", "name", "keypoint_source", "camera_source", "label_source", "body_model",
         "pose_prior")  # fmt: skip
JSON = ("energies", "quality", "reasons", "distortion", "open_limbs")
NO_POINTS, NOBODY = np.full((25, 3), np.nan, np.float32), np.full(85, np.nan, np.float32)
LATER = {  # not in files of older versions
    "label_source": "none", "name": "", "distortion": "[]", "open_limbs": "[]", "keypoints_cam": NO_POINTS,
    "runner_up": NOBODY,
}  # fmt: skip
WANTED = {*NUMBERS, *TEXTS, *JSON}
BATCH = 256  # bodies that are posed at a time


@dataclass(frozen=True)
class Fits:
    """N people, a row each, in the order of the run's summary; camera frame of the full photo, as in `Fit`.

    paths: of the files; image, person, name, keypoint_source, camera_source, label_source, body_model, pose_prior: [N]
    text; pose [N, 72] rad; betas [N, 10]; transl_cam [N, 3] m; focal_px, center_px, image_size_px [N, 2];
    box_px [N, 4]; joints_cam [N, 24, 3] m; keypoints_px [N, 25, 2]; keypoints_cam [N, 25, 3] m, NaN
    of older files; observed_px [N, 25, 3]; joint_states [N, 24] uint8;
    valid [N] bool; reasons: why not, distortion, open_limbs: N tuples; runner_up [N, 85], NaN without one
    energies, quality: [N] float64 by name, NaN where somebody has none of that name
    """

    paths: np.ndarray
    image: np.ndarray
    person: np.ndarray
    name: np.ndarray
    keypoint_source: np.ndarray
    camera_source: np.ndarray
    label_source: np.ndarray
    body_model: np.ndarray
    pose_prior: np.ndarray
    pose: np.ndarray
    betas: np.ndarray
    transl_cam: np.ndarray
    focal_px: np.ndarray
    center_px: np.ndarray
    image_size_px: np.ndarray
    box_px: np.ndarray
    joints_cam: np.ndarray
    keypoints_px: np.ndarray
    keypoints_cam: np.ndarray
    observed_px: np.ndarray
    joint_states: np.ndarray
    valid: np.ndarray
    runner_up: np.ndarray
    reasons: np.ndarray
    distortion: np.ndarray
    open_limbs: np.ndarray
    energies: dict[str, np.ndarray]
    quality: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.pose)

    @property
    def names(self) -> np.ndarray:
        """[N] text: <name>_<person>, what everybody is called in files and the report; `name` is the photo's part."""
        return np.array([f"{name}_{person}" for name, person in zip(self.name, self.person, strict=True)])

    def __getitem__(self, rows) -> "Fits":
        """Some of them: a slice, a mask [N] or numbers of rows. `fits[fits.valid]`, `fits[:100]`."""
        if isinstance(rows, int | np.integer):
            raise TypeError(f"fits[{rows}]: expected a slice, a mask or rows; one person is fits.fit({rows})")
        picked: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            several = isinstance(value, dict)
            picked[item.name] = {key: one[rows] for key, one in value.items()} if several else value[rows]
        return Fits(**picked)

    def fit(self, row: int) -> Fit:
        """One person's `Fit`, all of it, read from the file."""
        return load_fit(self.paths[row])

    def vertices_cam(self, body: "BodyModel | None" = None) -> np.ndarray:
        """[N, V, 3] float32 m in the camera frame, posed anew: 80 kB a person, so of some rows at a time.

        body: `fitter.load_body`'s; not given: the fits' own. ValueError: fits of several bodies, or of another one.
        """
        names = set(self.body_model.tolist())
        if len(names) > 1:
            raise ValueError(f"expected fits of one body, got {', '.join(sorted(names))}")
        if not len(self):
            raise ValueError("expected people, got none")
        body = body_of(names.pop(), {} if body else self.fit(0).configuration, body)
        parts = []
        for start in range(0, len(self), BATCH):
            rows = slice(start, start + BATCH)
            parts.append(vertices_of(self.betas[rows], self.pose[rows], self.transl_cam[rows], body))
        return np.concatenate(parts)


def load_fits(folder: str | Path) -> Fits:
    """Everybody of a run's folder, as its index lists them (without one, all results in it, by name).

    FileNotFoundError: no results. ValueError: a file that is none, by name.
    """
    paths = list(results(folder))
    if not paths:
        raise FileNotFoundError(f"fits {folder}: expected results of fit.py (*.npz), found none")
    with _without_collection():
        return _loaded(paths)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Hundreds of thousands of objects that all stay: Python would look through them again and again for circles."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _loaded(paths: list[Path]) -> Fits:
    layouts: dict[tuple[int, int], _Layout] = {}
    rows = [_entries(path, layouts) for path in paths]
    for row in rows:
        row["runner_up"] = row["runner_up"] if _data(row["runner_up"])[1] == NOBODY.shape else NOBODY
    texts = {name: [_text(row[name]) for row in rows] for name in (*TEXTS, *JSON)}
    parsed = {name: [json.loads(text) for text in texts[name]] for name in JSON}
    columns: dict[str, Any] = {name: np.array(texts[name]) for name in TEXTS}
    columns |= {name: _stacked([row[name] for row in rows], name, paths) for name in NUMBERS}
    columns |= {name: _objects(parsed[name]) for name in ("reasons", "distortion", "open_limbs")}
    columns |= {name: _table(parsed[name]) for name in ("energies", "quality")}
    return Fits(paths=np.array([str(path) for path in paths]), **columns)


def _entries(path: Path, layouts: "dict[tuple[int, int], _Layout]") -> dict[str, Any]:
    """The members of a file that Fits has, as .npy bytes; LATER's for those that older versions did not write."""
    try:
        found = _members(_content(path), layouts)
        if len(found) == len(WANTED):
            return found
        lacking = WANTED - found.keys() - LATER.keys()
        if lacking:
            raise ValueError(f"no {', '.join(sorted(lacking))}")
        return LATER | found
    except (OSError, ValueError, struct.error, zlib.error) as error:
        raise ValueError(f"{path}: expected a fit as written by fit.py (.npz), got: {error}") from error


def _content(path: Path) -> bytes:
    """A file's bytes: `read_bytes` with fewer calls of the system, which count for small files."""
    fd = os.open(path, os.O_RDONLY)
    try:
        parts = [os.read(fd, 1 << 16)]
        while len(parts[-1]) == 1 << 16:
            parts.append(os.read(fd, 1 << 16))
        return b"".join(parts)
    finally:
        os.close(fd)


class _Layout(NamedTuple):
    """A zip's directory, as files have it that hold members of the same names: names, in the file's order; read: all
    of it at once, six values a member: method, crc, size packed and whole, place, name; rows: of wanted members."""

    names: tuple[bytes, ...]
    read: struct.Struct
    rows: tuple[tuple[int, str], ...]


def _layout(data: bytes, at: int, count: int) -> _Layout:
    names, form = [], "<"
    for _ in range(count):
        named, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        names.append(data[at + 46 : at + 46 + named])
        form += f"10xH4xIII14xI{named}s{extra + comment}x"
        at += 46 + named + extra + comment
    plain = [name.removesuffix(b".npy").decode() for name in names]
    return _Layout(
        tuple(names),
        struct.Struct(form),
        tuple((row, name) for row, name in enumerate(plain) if name in WANTED),
    )


def _members(data: bytes, layouts: dict[tuple[int, int], _Layout]) -> dict[str, bytes]:
    """The wanted members of a zip file as `np.savez` writes it: one after the other, less than 4 GB. layouts: those met
    so far. ValueError: no zip file, another kind of one, or a damaged one."""
    end = data.rfind(b"PK\5\6")
    if end < 0:
        raise ValueError("no zip file, or a part of one")
    count, length, at = struct.unpack_from("<HII", data, end + 10)
    layout = layouts.get((count, length)) or _layout(data, at, count)
    values = layout.read.unpack_from(data, at)
    if values[5::6] != layout.names:
        layout = _layout(data, at, count)
        values = layout.read.unpack_from(data, at)
    layouts[count, length] = layout
    ends = (*values[10::6], at)
    found = {}
    for row, name in layout.rows:
        method, crc, packed, size = values[6 * row : 6 * row + 4]
        content = data[ends[row] - packed : ends[row]]
        if method:
            content = zlib.decompress(content, -15, size)
        if zlib.crc32(content) != crc:
            raise ValueError(f"a damaged {name}")
        found[name] = content
    return found


@lru_cache(maxsize=4096)
def _header(start: bytes) -> tuple[np.dtype, tuple[int, ...]]:
    """Type and shape by the header of a .npy file."""
    about = ast.literal_eval(start[10:].decode("latin1"))
    return np.dtype(about["descr"]), about["shape"]


def _data(content: bytes | np.ndarray) -> tuple[np.dtype, tuple[int, ...], bytes]:
    """Type, shape and data of a .npy file, or of what stands for it."""
    if isinstance(content, np.ndarray):
        return content.dtype, content.shape, content.tobytes()
    end = 10 + int.from_bytes(content[8:10], "little")
    return *_header(content[:end]), content[end:]


@lru_cache(maxsize=4096)
def _text(content: bytes | str) -> str:
    """The one text of a .npy file, or what stands for it."""
    return content if isinstance(content, str) else _data(content)[2].decode("utf-32-le").rstrip("\0")


def _stacked(contents: Sequence[bytes], name: str, paths: Sequence[Path]) -> np.ndarray:
    """[N, ...] of N .npy files."""
    parts = [_data(content) for content in contents]
    kind, shape, _ = parts[0]
    other = next((row for row, part in enumerate(parts) if part[1] != shape), None)
    if other is not None:
        raise ValueError(
            f"{paths[other]}: expected {name} {list(shape)} as of the others, got {list(parts[other][1])}"
        )
    if all(part[0] == kind for part in parts):
        return np.frombuffer(b"".join(part[2] for part in parts), kind).reshape(-1, *shape).copy()
    return np.stack([np.frombuffer(data, own).reshape(shape) for own, _, data in parts])


def _objects(values: list[list]) -> np.ndarray:
    """[N] of tuples."""
    array = np.empty(len(values), object)
    array[:] = [tuple(value) for value in values]
    return array


def _table(rows: list[dict]) -> dict[str, np.ndarray]:
    """[N] float64 by name, in the order in which the names come; NaN where a row has none, or null."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name) for row in rows], np.float64) for name in names}
