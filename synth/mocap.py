"""Motion capture as SMPL poses: BVH and DeepMimic clips in, axis-angle [T, 72] out.

A mocap skeleton and SMPL agree on nothing but the names of the limbs: their rest bones point elsewhere (this BVH
skeleton's forearm lies 17 degrees forward of SMPL's), so local rotations cannot be copied. What is kept is where each
limb points in the world: with G the global rotation of a mocap joint and A the smallest rotation that takes SMPL's rest
bone onto that skeleton's rest bone, G_smpl = G A turns SMPL's bone into exactly the mocap bone's direction. The trunk
(pelvis, spine, neck, head, collars) stands upright at rest in all of these skeletons and its bones are only markers
along a curved spine, so there A = 1 and the rotation itself is what carries over.

Body frame throughout: metres, Y up, facing +Z, X to the person's left.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

SMPL_JOINTS = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot "
    "neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
    "left_hand right_hand"
).split()
SMPL_PARENTS = np.array([-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21])

# Mean rest joints of the neutral SMPL body [metres], made left/right symmetric; the right side is its mirror image.
_REST_MIDDLE = {
    "pelvis": (0.0, -0.223, 0.028),
    "spine1": (0.0, -0.114, 0.002),
    "spine2": (0.0, 0.021, 0.003),
    "spine3": (0.0, 0.074, 0.028),
    "neck": (0.0, 0.288, -0.015),
    "head": (0.0, 0.353, 0.037),
}
_REST_LEFT = {
    "hip": (0.0685, -0.3145, 0.0225),
    "knee": (0.105, -0.693, 0.016),
    "ankle": (0.090, -1.0915, -0.027),
    "foot": (0.116, -1.1435, 0.0945),
    "collar": (0.0805, 0.1945, -0.0085),
    "shoulder": (0.1735, 0.2255, -0.0175),
    "elbow": (0.4305, 0.2125, -0.0415),
    "wrist": (0.6825, 0.221, -0.0455),
    "hand": (0.767, 0.2135, -0.058),
}


def _rest_joints() -> np.ndarray:
    def position(name):
        side, _, joint = name.partition("_")
        if side not in ("left", "right"):
            return _REST_MIDDLE[name]
        x, y, z = _REST_LEFT[joint]
        return (x if side == "left" else -x, y, z)

    return np.array([position(name) for name in SMPL_JOINTS])


SMPL_REST_JOINTS = _rest_joints()
"""[24, 3] metres, body frame, exactly symmetric under x -> -x."""

# SMPL joint -> the BVH joint whose global rotation it takes; None keeps the parent's (local rotation 0).
BVH_SOURCE = {
    "pelvis": "hip",
    "spine1": "abdomen",
    "spine2": "chest",
    "neck": "neck",
    "head": "head",
    **{
        f"{side}_{joint}": side[0] + name
        for side in ("left", "right")
        for joint, name in {
            "hip": "Thigh",
            "knee": "Shin",
            "ankle": "Foot",
            "shoulder": "Shldr",
            "elbow": "ForeArm",
            "wrist": "Hand",
        }.items()
    },
}
# The limb bones whose direction is carried over: SMPL joint -> its SMPL child.
LIMB_CHILD = {
    f"{side}_{joint}": f"{side}_{child}"
    for side in ("left", "right")
    for joint, child in {
        "hip": "knee",
        "knee": "ankle",
        "ankle": "foot",
        "shoulder": "elbow",
        "elbow": "wrist",
        "wrist": "hand",
    }.items()
}

# Whole clips that no prior ever learns from. Three kinds: a person not seen in training (subjects 03, 08, 11), a motion
# not seen in training (boxing, directing traffic, washing windows, ankle on knee, ...), another take of a seen motion.
HELD_OUT_CLIPS = (
    *("03_*", "08_*", "11_*"),
    *("01_08", "05_04", "05_12", "05_20", "06_14", "06_15", "10_03", "13_01", "13_07", "13_08", "13_09"),
    *("13_16", "13_18", "13_26", "13_31", "13_33", "13_34", "13_42", "14_12", "14_30"),
    *(
        "acrnn_indian_07",
        "acrnn_indian_14",
        "acrnn_martial_05",
        "acrnn_salsa_05",
        "acrnn_salsa_17",
        "acrnn_salsa_28",
    ),
    *("humanoid3d_cartwheel", "humanoid3d_dance_b", "humanoid3d_getup_faceup", "humanoid3d_spinkick"),
)

# Larger angles [rad] than these are marker swaps or solver flips, not people (salsa wrists and ankles above all).
_LARGEST_ANGLE = {"ankle": 1.4, "neck": 1.4, "head": 1.6, "wrist": 1.9}
# (entry of pose [72], sign that makes bending negative): left and right elbow about y, left and right knee about x.
_HINGES = ((55, 1.0), (58, -1.0), (12, -1.0), (15, -1.0))
_BACKWARD_BEND = 0.25  # rad; straight limbs of a differently built skeleton land a little beyond 0

_MIRROR_JOINT = np.array(
    [
        SMPL_JOINTS.index(
            {"left": "right", "right": "left"}[name.partition("_")[0]] + "_" + name.partition("_")[2]
            if name.startswith(("left_", "right_"))
            else name
        )
        for name in SMPL_JOINTS
    ]
)


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


@dataclass(frozen=True)
class PoseClip:
    """One clip as SMPL poses: name, pose [T, 72] axis-angle (root first), held_out: never to be learned from.

    Frames that no body can take (`is_possible`) are left out; `dropped` counts them.
    """

    name: str
    pose: np.ndarray
    held_out: bool
    dropped: int = 0


def is_held_out(clip_name: str) -> bool:
    """Whether a clip (file stem) belongs to the motions kept back from learning."""
    return any(fnmatch(clip_name, pattern) for pattern in HELD_OUT_CLIPS)


def _parse_hierarchy(lines: list[str], path) -> tuple[list, list, list, dict, list, int]:
    """Skeleton part of a BVH: names, parents, offsets, end offsets, channels per joint, index of the MOTION line."""
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
            f"{path}: expected {frame_count} frames of {width} values, got {values.size} values; is it truncated?"
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


def global_rotations(local_rotations: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Rotations relative to the parent [T, J, 3, 3] -> relative to the world [T, J, 3, 3]."""
    result = local_rotations.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            result[:, joint] = result[:, parent] @ local_rotations[:, joint]
    return result


def joint_positions(
    rotations_global: np.ndarray, parents: np.ndarray, offsets: np.ndarray, root_position: np.ndarray
) -> np.ndarray:
    """Forward kinematics: global rotations [T, J, 3, 3], rest offsets [J, 3], root [T, 3] -> positions [T, J, 3]."""
    positions = np.empty(rotations_global.shape[:2] + (3,))
    positions[:, 0] = root_position
    for joint in range(1, len(parents)):
        parent = parents[joint]
        positions[:, joint] = positions[:, parent] + rotations_global[:, parent] @ offsets[joint]
    return positions


def bvh_joint_positions(clip: BvhClip) -> dict[str, np.ndarray]:
    """World positions [T, 3] of every joint, and of end sites as `<joint>_end`, in the file's unit."""
    rotations = global_rotations(clip.local_rotations, clip.parents)
    positions = joint_positions(rotations, clip.parents, clip.offsets, clip.root_position)
    named = {name: positions[:, joint] for joint, name in enumerate(clip.names)}
    for name, offset in clip.end_offsets.items():
        joint = clip.names.index(name)
        named[f"{name}_end"] = positions[:, joint] + rotations[:, joint] @ offset
    return named


def smallest_rotation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest rotation [3, 3] that turns direction `source` [3] into direction `target` [3].

    Raises ValueError for opposite directions, where it is not unique.
    """
    source, target = source / np.linalg.norm(source), target / np.linalg.norm(target)
    cosine = float(source @ target)
    if cosine < -1 + 1e-9:
        raise ValueError(
            "smallest_rotation: expected directions less than 180 degrees apart, got opposite ones"
        )
    x, y, z = np.cross(source, target)
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + skew + skew @ skew / (1.0 + cosine)


def smpl_bone(joint: str) -> np.ndarray:
    """SMPL's rest bone [3] metres from a limb joint to its child."""
    return SMPL_REST_JOINTS[SMPL_JOINTS.index(LIMB_CHILD[joint])] - SMPL_REST_JOINTS[SMPL_JOINTS.index(joint)]


def pose_from_globals(rotations_global: np.ndarray) -> np.ndarray:
    """Global rotations of SMPL's joints [T, 24, 3, 3] -> SMPL pose [T, 72], axis-angle in (-pi, pi]."""
    local = rotations_global.copy()
    for joint in range(1, 24):
        parent = rotations_global[:, SMPL_PARENTS[joint]]
        local[:, joint] = np.swapaxes(parent, 1, 2) @ rotations_global[:, joint]
    rotvec = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec()
    return rotvec.reshape(len(local), 72)


def smpl_joints(pose: np.ndarray) -> np.ndarray:
    """Joints [T, 24, 3] metres of the mean SMPL skeleton in poses [T, 72], pelvis at the origin."""
    local = Rotation.from_rotvec(np.asarray(pose, dtype=np.float64).reshape(-1, 3)).as_matrix()
    rotations = global_rotations(local.reshape(-1, 24, 3, 3), SMPL_PARENTS)
    offsets = SMPL_REST_JOINTS - SMPL_REST_JOINTS[np.maximum(SMPL_PARENTS, 0)]
    return joint_positions(rotations, SMPL_PARENTS, offsets, np.zeros((len(rotations), 3)))


def mirror_pose(pose: np.ndarray) -> np.ndarray:
    """The left/right mirror image of poses [T, 72], or of body poses without the root [T, 69]."""
    joints = pose.shape[-1] // 3
    if pose.shape[-1] not in (69, 72):
        raise ValueError(f"mirror_pose: expected [..., 72] or [..., 69], got {pose.shape}")
    twin = _MIRROR_JOINT if joints == 24 else _MIRROR_JOINT[1:] - 1
    mirrored = pose.reshape(*pose.shape[:-1], joints, 3)[..., twin, :] * np.array([1.0, -1.0, -1.0])
    return mirrored.reshape(pose.shape).astype(pose.dtype)


def _bvh_child_offset(clip: BvhClip, name: str) -> np.ndarray:
    """Rest offset of a limb joint's only child, or of its end site."""
    joint = clip.names.index(name)
    children = np.flatnonzero(clip.parents == joint)
    return clip.offsets[children[0]] if len(children) else clip.end_offsets[name]


def retarget_bvh(clip: BvhClip) -> np.ndarray:
    """SMPL poses [T, 72] with the limb directions of a BVH clip on the CMU skeleton.

    Raises ValueError naming the joints that the skeleton lacks.
    """
    missing = sorted(set(BVH_SOURCE.values()) - set(clip.names))
    if missing:
        raise ValueError(f"BVH skeleton: expected the CMU joint names, got none called {', '.join(missing)}")
    source = global_rotations(clip.local_rotations, clip.parents)
    target = np.empty((len(source), 24, 3, 3))
    for joint, name in enumerate(SMPL_JOINTS):
        if name not in BVH_SOURCE:
            target[:, joint] = target[:, SMPL_PARENTS[joint]]
            continue
        target[:, joint] = source[:, clip.names.index(BVH_SOURCE[name])]
        if name in LIMB_CHILD:
            rest = _bvh_child_offset(clip, BVH_SOURCE[name])
            target[:, joint] = target[:, joint] @ smallest_rotation(smpl_bone(name), rest)
    return pose_from_globals(target)


# DeepMimic's world (X forward, Y up, Z right) in the body frame (X left, Y up, Z forward).
_DEEPMIMIC_AXES = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def _deepmimic_locals(frames: np.ndarray) -> dict[str, Rotation]:
    """Local rotations of DeepMimic's joints, in its own axes, from frames [T, 44]."""

    def quaternion(column):
        w, x, y, z = frames[:, column : column + 4].T
        return Rotation.from_quat(np.stack([x, y, z, w], axis=1))

    def hinge(column):
        return Rotation.from_rotvec(frames[:, column, None] * np.array([0.0, 0.0, 1.0]))

    result = {"root": quaternion(4), "chest": quaternion(8), "neck": quaternion(12)}
    for side, start in (("right", 16), ("left", 30)):
        result |= {
            f"{side}_hip": quaternion(start),
            f"{side}_knee": hinge(start + 4),
            f"{side}_ankle": quaternion(start + 5),
            f"{side}_shoulder": quaternion(start + 9),
            f"{side}_elbow": hinge(start + 13),
        }
    return result


def read_deepmimic(path: str | Path) -> np.ndarray:
    """SMPL poses [T, 72] of a DeepMimic `humanoid3d_*.txt` clip.

    The chest's rotation is shared out over spine1 and spine2, the neck's over neck and head.

    Raises ValueError where the frames are not rows of 44 numbers.
    """
    frames = np.array(json.loads(Path(path).read_text())["Frames"], dtype=np.float64)
    if frames.ndim != 2 or frames.shape[1] != 44:
        raise ValueError(f"{path}: expected Frames as rows of 44 numbers, got shape {frames.shape}")
    local = {
        name: Rotation.from_matrix(_DEEPMIMIC_AXES @ rotation.as_matrix() @ _DEEPMIMIC_AXES.T)
        for name, rotation in _deepmimic_locals(frames).items()
    }
    half_chest = Rotation.from_rotvec(local["chest"].as_rotvec() / 2)
    half_neck = Rotation.from_rotvec(local["neck"].as_rotvec() / 2)
    spine = {
        "pelvis": local["root"],
        "spine1": half_chest,
        "spine2": half_chest,
        "neck": half_neck,
        "head": half_neck,
    }
    world: dict[str, Rotation] = {}  # limbs as DeepMimic hangs them; A is applied on the way out
    target = np.empty((len(frames), 24, 3, 3))
    down = np.array([0.0, -1.0, 0.0])
    for joint, name in enumerate(SMPL_JOINTS):
        parent = world[SMPL_JOINTS[SMPL_PARENTS[joint]]] if joint else Rotation.identity(len(frames))
        own = local[name] if name in local else spine.get(name, Rotation.identity(len(frames)))
        world[name] = parent * own
        limb = name.partition("_")[2]
        # Arms hang and legs stand straight down at rest; feet are flat like SMPL's; hands go on from the forearm.
        source_limb = {"wrist": "elbow", "hand": "elbow"}.get(limb, limb)
        align = np.eye(3)
        if source_limb in ("hip", "knee", "shoulder", "elbow"):
            align = smallest_rotation(smpl_bone(name.replace(limb, source_limb)), down)
        target[:, joint] = world[name].as_matrix() @ align
    return pose_from_globals(target)


def is_possible(pose: np.ndarray) -> np.ndarray:
    """Which poses [T, 72] a body could take -> [T] bool.

    Elbows and knees do not bend backward (three CMU clips come with an arm bent the wrong way throughout), and ankles,
    neck, head and wrists stay within an angle.
    """
    possible = np.ones(len(pose), dtype=bool)
    for entry, sign in _HINGES:
        possible &= sign * pose[:, entry] < _BACKWARD_BEND
    angles = np.linalg.norm(pose.reshape(-1, 24, 3), axis=2)
    for joint, name in enumerate(SMPL_JOINTS):
        limit = _LARGEST_ANGLE.get(name.removeprefix("left_").removeprefix("right_"))
        if limit is not None:
            possible &= angles[:, joint] < limit
    return possible


def read_clips(mocap_dir: str | Path) -> list[PoseClip]:
    """All clips of a mocap folder (`cmu_bvh30/*.bvh`, `deepmimic/humanoid3d_*.txt`), sorted by name.

    Raises FileNotFoundError where the folder holds neither.
    """
    folder = Path(mocap_dir)
    paths = sorted(folder.glob("cmu_bvh30/*.bvh")) + sorted(folder.glob("deepmimic/humanoid3d_*.txt"))
    if not paths:
        raise FileNotFoundError(
            f"{folder}: expected cmu_bvh30/*.bvh or deepmimic/humanoid3d_*.txt, got neither; give the mocap folder"
        )
    clips = []
    for path in paths:
        pose = retarget_bvh(read_bvh(path)) if path.suffix == ".bvh" else read_deepmimic(path)
        good = is_possible(pose)
        clips.append(PoseClip(path.stem, pose[good], is_held_out(path.stem), dropped=int((~good).sum())))
    return clips


def diverse_frames(body_pose: np.ndarray, spacing_m: float) -> np.ndarray:
    """Indices of frames that lie apart: each kept one lies further than spacing_m from every earlier kept one.

    body_pose: [T, 69]. The distance of two frames is the root mean square distance of their joints [metres], the body
    facing forward in both. Standing still counts once, a fast motion frame by frame.
    """
    pose = np.concatenate([np.zeros((len(body_pose), 3)), body_pose], axis=1)
    joints = smpl_joints(pose).reshape(len(pose), -1)
    kept = np.empty_like(joints)
    indices: list[int] = []
    for frame, position in enumerate(joints):
        squared = ((kept[: len(indices)] - position) ** 2).sum(1) / 24
        if not indices or squared.min() > spacing_m**2:
            kept[len(indices)] = position
            indices.append(frame)
    return np.array(indices)
