"""BVH files: skeleton, motion, joint positions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from synth.pose_priors.skeleton import global_rotations, joint_positions


@dataclass(frozen=True)
class BvhClip:
    """One BVH file: skeleton and motion, in the file's own unit (about centimetres for CMU).

    names, parents: J joints, parents before children, root parent -1.
    offsets: [J, 3] rest offset from the parent.
    end_offsets: offset of the end site of joints that carry one, by joint name.
    root_position: [T, 3].
    local_rotations: [T, J, 3, 3].
    frame_time_s: seconds between frames.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    offsets: np.ndarray
    end_offsets: dict[str, np.ndarray]
    root_position: np.ndarray
    local_rotations: np.ndarray
    frame_time_s: float


def _parse_hierarchy(lines: list[str], path) -> tuple[list, list, list, dict, list, int]:
    """Skeleton of a BVH: names, parents, offsets, end offsets, channels per joint, line of MOTION."""
    names, parents, offsets, channels, end_offsets = [], [], [], [], {}
    stack: list[int | None] = []  # None marks an end site
    opening: int | None = None
    for number, line in enumerate(lines):
        words = line.split()
        if not words:
            continue
        key = words[0].upper()
        if key in ("ROOT", "JOINT"):
            parents.append(stack[-1] if stack else -1)
            names.append(words[1])
            offsets.append(None)
            channels.append([])
            opening = len(names) - 1
        elif key == "END":
            opening = None
        elif key == "{":
            stack.append(opening)
        elif key == "}":
            stack.pop()
        elif key == "OFFSET":
            value = np.array([float(word) for word in words[1:4]])
            if stack[-1] is None:
                end_offsets[names[stack[-2]]] = value
            else:
                offsets[stack[-1]] = value
        elif key == "CHANNELS":
            channels[stack[-1]] = words[2:]
        elif key == "MOTION":
            return names, parents, offsets, end_offsets, channels, number
    raise ValueError(f"{path}: expected a MOTION section after the HIERARCHY, got none; is this a BVH file?")


def read_bvh(path: str | Path) -> BvhClip:
    """Parse a BVH file.

    Euler channels are intrinsic rotations in the order of each CHANNELS line, in degrees.

    Raises ValueError where the file has no MOTION section, or its values do not match its channels.
    """
    lines = Path(path).read_text().splitlines()
    names, parents, offsets, end_offsets, channels, motion = _parse_hierarchy(lines, path)
    frame_count = int(lines[motion + 1].split()[1])
    frame_time_s = float(lines[motion + 2].split()[2])
    width = sum(len(joint_channels) for joint_channels in channels)
    values = np.array(" ".join(lines[motion + 3 :]).split(), dtype=np.float64)
    if values.size != frame_count * width:
        raise ValueError(
            f"{path}: expected {frame_count} frames of {width} values, got {values.size}; is it truncated?"
        )
    values = values.reshape(frame_count, width)

    root_position = np.tile(offsets[0], (frame_count, 1))
    local_rotations = np.tile(np.eye(3), (frame_count, len(names), 1, 1))
    column = 0
    for joint, joint_channels in enumerate(channels):
        block = values[:, column : column + len(joint_channels)]
        column += len(joint_channels)
        for axis, letter in enumerate("XYZ"):
            if joint == 0 and f"{letter}position" in joint_channels:
                root_position[:, axis] = block[:, joint_channels.index(f"{letter}position")]
        rotating = [index for index, channel in enumerate(joint_channels) if channel.endswith("rotation")]
        if rotating:
            order = "".join(joint_channels[index][0] for index in rotating)
            local_rotations[:, joint] = Rotation.from_euler(
                order, block[:, rotating], degrees=True
            ).as_matrix()
    return BvhClip(
        names=tuple(names),
        parents=np.array(parents),
        offsets=np.array(offsets),
        end_offsets=end_offsets,
        root_position=root_position,
        local_rotations=local_rotations,
        frame_time_s=frame_time_s,
    )


def bvh_joint_positions(clip: BvhClip) -> dict[str, np.ndarray]:
    """World positions [T, 3] of every joint, and of end sites as `<joint>_end`, in the file's unit."""
    rotations = global_rotations(clip.local_rotations, clip.parents)
    positions = joint_positions(rotations, clip.parents, clip.offsets, clip.root_position)
    named = {name: positions[:, joint] for joint, name in enumerate(clip.names)}
    for name, offset in clip.end_offsets.items():
        joint = clip.names.index(name)
        named[f"{name}_end"] = positions[:, joint] + rotations[:, joint] @ offset
    return named
