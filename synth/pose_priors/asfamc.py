"""ASF/AMC files, the CMU database's own format: skeleton, motion, bone directions."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

INCH_M = 0.0254


@dataclass(frozen=True)
class AsfSkeleton:
    """One performer: bones, parents before children; the root comes first and has no extent.

    names: B bones. parents: [B], -1 for the root.
    directions: [B, 3] unit, of each bone in the rest pose's world. lengths_m: [B].
    axes: [B, 3, 3], each bone's own axes in the rest pose's world; its angles turn about them.
    channels: per bone, which of rx, ry, rz (for the root also tx, ty, tz) its motion gives, in the file's order.
    metres_per_unit: of the root's translation.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    directions: np.ndarray
    lengths_m: np.ndarray
    axes: np.ndarray
    channels: tuple[tuple[str, ...], ...]
    metres_per_unit: float


@dataclass(frozen=True)
class AsfClip:
    """root_position: [T, 3] metres. rotations: [T, B, 3, 3], each bone from its rest pose to the world."""

    skeleton: AsfSkeleton
    root_position: np.ndarray
    rotations: np.ndarray


def _blocks(lines: list[str]):
    """Words of the lines between each `begin` and `end`."""
    block: list[list[str]] | None = None
    for line in lines:
        words = line.split()
        if words == ["begin"]:
            block = []
        elif words == ["end"]:
            yield block
        elif block is not None and words:
            block.append(words)


def _euler(degrees) -> np.ndarray:
    """Rotation by angles [..., 3] about the fixed x, then y, then z axis."""
    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


def read_asf(path: str | Path) -> AsfSkeleton:
    """Parse an ASF skeleton with angles in degrees; one unit of length is an inch / its `length`.

    Raises ValueError where sections are missing.
    """
    sections: dict[str, list[str]] = {}
    for line in Path(path).read_text().splitlines():
        if line.startswith(":"):
            lines = sections.setdefault(line.split()[0], [])
        elif sections:
            lines.append(line)
    missing = {":units", ":root", ":bonedata", ":hierarchy"} - set(sections)
    if missing:
        raise ValueError(f"{path}: expected an ASF skeleton, got none of {', '.join(sorted(missing))}")
    units = dict(line.split()[:2] for line in sections[":units"] if line.strip())
    root = {words[0]: words[1:] for words in map(str.split, sections[":root"]) if words}
    if units["angle"] != "deg" or root["axis"] != ["XYZ"]:
        raise ValueError(f"{path}: expected degrees about XYZ, got {units['angle']} about {root['axis']}")
    metres = INCH_M / float(units["length"])
    bones = {}
    for block in _blocks(sections[":bonedata"]):
        bone = {words[0]: words[1:] for words in block}
        bones[bone["name"][0]] = bone
    names, parents = ["root"], [-1]
    for parent, *children in next(_blocks(sections[":hierarchy"])):
        names += children
        parents += [names.index(parent)] * len(children)
    directions, lengths = np.zeros((len(names), 3)), np.zeros(len(names))
    axes = [_euler([float(word) for word in root["orientation"]])]
    channels = [tuple(word.lower() for word in root["order"])]
    for row, name in enumerate(names[1:], 1):
        bone = bones[name]
        direction = np.array(bone["direction"], dtype=float)
        directions[row] = direction / np.linalg.norm(direction)
        lengths[row] = float(bone["length"][0]) * metres
        axes.append(_euler([float(word) for word in bone["axis"][:3]]))
        channels.append(tuple(bone.get("dof", ())))
    return AsfSkeleton(
        tuple(names), np.array(parents), directions, lengths, np.array(axes), tuple(channels), metres
    )


def read_amc(path: str | Path, skeleton: AsfSkeleton) -> AsfClip:
    """Parse an AMC motion (plain, or gzip where the name ends so) of a skeleton.

    Raises ValueError where a bone's line does not hold as many values as it has channels.
    """
    data = Path(path).read_bytes()
    text = gzip.decompress(data) if Path(path).suffix == ".gz" else data
    rows = [
        words for words in map(str.split, text.decode().splitlines()) if words and words[0][0] not in "#:"
    ]
    count = sum(len(words) == 1 for words in rows)
    values = {name: [] for name in skeleton.names}
    for words in rows:
        if len(words) > 1:
            values[words[0]].append([float(word) for word in words[1:]])
    position = np.zeros((count, 3))
    rotations = np.empty((count, len(skeleton.names), 3, 3))
    for bone, (name, channels) in enumerate(zip(skeleton.names, skeleton.channels, strict=True)):
        degrees = np.zeros((count, 3))
        if channels:
            table = np.array(values[name])
            if table.shape != (count, len(channels)):
                raise ValueError(
                    f"{path}: expected {count} frames of {len(channels)} values for {name}, got {table.shape}"
                )
            for column, channel in enumerate(channels):
                (position if channel[0] == "t" else degrees)[:, "xyz".index(channel[1])] = table[:, column]
        axes = skeleton.axes[bone]
        own = axes @ _euler(degrees) @ axes.T
        parent = skeleton.parents[bone]
        rotations[:, bone] = own if parent < 0 else rotations[:, parent] @ own
    return AsfClip(skeleton, position * skeleton.metres_per_unit, rotations)


def bone_ends(clip: AsfClip) -> np.ndarray:
    """Where each bone ends [T, B, 3] metres; the root at its own position."""
    skeleton = clip.skeleton
    ends = np.empty(clip.rotations.shape[:3])
    ends[:, 0] = clip.root_position
    for bone in range(1, len(skeleton.names)):
        reach = skeleton.directions[bone] * skeleton.lengths_m[bone]
        ends[:, bone] = ends[:, skeleton.parents[bone]] + clip.rotations[:, bone] @ reach
    return ends
