"""SMPL's skeleton: names, parents and mirror images of its 24 joints. Body frame: X left, Y up, Z to the front."""

# fmt: off
JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
    "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hand", "right_hand",
)
JOINT_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
MIRROR_JOINTS = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22)
# fmt: on


def mirror_pose(pose):
    """The body reflected at x = 0: poses [..., 72] rad, or [..., 69] without the root (numpy or torch).

    Its own inverse. ValueError for another width.
    """
    if pose.shape[-1] not in (69, 72):
        raise ValueError(f"mirror_pose: expected [..., 72] or [..., 69], got {tuple(pose.shape)}")
    root = 24 - pose.shape[-1] // 3
    joints = pose.reshape(*pose.shape[:-1], -1, 3)[..., [joint - root for joint in MIRROR_JOINTS[root:]], :]
    sign = joints[..., :1, :] * 0 + 1
    sign[..., 1:] = -1
    return (joints * sign).reshape(pose.shape)
