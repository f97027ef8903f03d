"""Motion capture: the BVH parser, forward kinematics, and the transfer of limb directions to SMPL's skeleton.

Set MOCAP_DIR to a folder with cmu_bvh30/ and fk_check.json to check against the real clips as well.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fitter.body import JOINT_NAMES
from synth.pose_priors import mocap
from synth.pose_priors.bvh import bvh_joint_positions, read_bvh
from synth.pose_priors.skeleton import REST_JOINTS, mirror_pose, smpl_joints

MOCAP_DIR = os.environ.get("MOCAP_DIR")

TWO_BONES = """HIERARCHY
ROOT hip
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT arm
  {
    OFFSET 0 2 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 3 0 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
1 2 3 0 0 0 0 0 0
1 2 3 90 0 0 0 90 90
"""


def cmu_like_bvh(rng, frames=3) -> str:
    """A clip on CMU's joint names, its rest bones bent away from SMPL's, with random rotations."""
    children = {
        "hip": [("abdomen", (0, 20, -1)), ("rButtock", (-8, 4, 1)), ("lButtock", (8, 4, 1))],
        "abdomen": [("chest", (0, 12, 0))],
        "chest": [("neck", (0, 22, -2)), ("rCollar", (-3, 19, -5)), ("lCollar", (3, 19, -5))],
        "neck": [("head", (0, 7, 1))],
        "head": [(None, (0, 16, 2))],
    }
    for side, sign in (("r", -1), ("l", 1)):
        chain = [
            ("Collar", "Shldr", (9, -2, 1)),
            ("Shldr", "ForeArm", (28, -2, 0)),
            ("ForeArm", "Hand", (22, 1, 7)),
        ]
        chain += [
            ("Buttock", "Thigh", (0, -2, -2)),
            ("Thigh", "Shin", (0, -37, 1)),
            ("Shin", "Foot", (-1, -45, -5)),
        ]
        for parent, child, (x, y, z) in chain:
            children[side + parent] = [(side + child, (sign * x, y, z))]
        children[side + "Hand"] = [(None, (sign * 14, 0, 2))]
        children[side + "Foot"] = [(None, (sign * 1, -4, 12))]
    joints = 0

    def lines(name, offset, key):
        nonlocal joints
        joints += 1
        position = "Xposition Yposition Zposition " if key == "ROOT" else ""
        order = "Zrotation Yrotation Xrotation" if key == "ROOT" else "Zrotation Xrotation Yrotation"
        yield from (f"{key} {name}", "{", "OFFSET {} {} {}".format(*offset))
        yield f"CHANNELS {6 if position else 3} {position}{order}"
        for child, child_offset in children[name]:
            if child is None:
                yield from ("End Site", "{", "OFFSET {} {} {}".format(*child_offset), "}")
            else:
                yield from lines(child, child_offset, "JOINT")
        yield "}"

    text = ["HIERARCHY", *lines("hip", (0, 0, 0), "ROOT"), "MOTION", f"Frames: {frames}", "Frame Time: 0.033"]
    values = rng.uniform(-70, 70, (frames, 3 + 3 * joints))
    return "\n".join([*text, *(" ".join(f"{v:.4f}" for v in row) for row in values)])


def write(tmp_path, text) -> Path:
    path = tmp_path / "clip.bvh"
    path.write_text(text)
    return path


def angle_deg(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_bvh_positions_by_hand(tmp_path):
    positions = bvh_joint_positions(read_bvh(write(tmp_path, TWO_BONES)))
    np.testing.assert_allclose(positions["arm"], [[1, 4, 3], [-1, 2, 3]], atol=1e-12)
    # Second frame: the arm's own turn, intrinsic X then Y, takes its +X to -Z (Y) and on to +Y (X); the hip's
    # 90 degrees about Z turn that to -X.
    np.testing.assert_allclose(positions["arm_end"], [[4, 4, 3], [-4, 2, 3]], atol=1e-12)


def test_truncated_bvh_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected 2 frames of 9 values, got 17.*truncated"):
        read_bvh(write(tmp_path, TWO_BONES.rsplit(" ", 1)[0]))
    with pytest.raises(ValueError, match="MOTION"):
        read_bvh(write(tmp_path, "HIERARCHY\nROOT hip\n{\nOFFSET 0 0 0\n}\n"))


def test_skeleton_with_other_names_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none called.*lForeArm"):
        mocap.retarget_bvh(read_bvh(write(tmp_path, TWO_BONES)))


def test_limbs_point_where_the_mocap_limbs_point(tmp_path):
    clip = read_bvh(write(tmp_path, cmu_like_bvh(np.random.default_rng(0))))
    theirs = bvh_joint_positions(clip)
    ours = smpl_joints(mocap.retarget_bvh(clip))
    for joint, child in mocap.LIMB_CHILD.items():
        source = mocap.BVH_SOURCE[joint]
        end = mocap.BVH_SOURCE.get(child, f"{source}_end")
        bone = ours[:, JOINT_NAMES.index(child)] - ours[:, JOINT_NAMES.index(joint)]
        assert angle_deg(bone, theirs[end] - theirs[source]).max() < 1e-4, joint


def test_smallest_rotation_turns_and_does_not_twist():
    source, target = np.array([1.0, 2.0, 0.5]), np.array([-1.0, 0.5, 3.0])
    rotation = mocap.smallest_rotation(source, target)
    assert angle_deg(rotation @ source, target) < 1e-5
    assert np.degrees(Rotation.from_matrix(rotation).magnitude()) == pytest.approx(angle_deg(source, target))
    with pytest.raises(ValueError, match="opposite"):
        mocap.smallest_rotation(source, -source)


def deepmimic_clip(tmp_path, **columns) -> Path:
    frame = np.zeros(44)
    frame[[4, 8, 12, 16, 21, 25, 30, 35, 39]] = 1  # identity quaternions, wxyz
    for column, value in columns.items():
        frame[int(column[1:])] = value
    path = tmp_path / "humanoid3d_x.txt"
    path.write_text(json.dumps({"Loop": "none", "Frames": [frame.tolist()]}))
    return path


def test_deepmimic_rest_stands_with_hanging_arms(tmp_path):
    joints = smpl_joints(mocap.read_deepmimic(deepmimic_clip(tmp_path)))[0]
    for upper, lower in (("left_shoulder", "left_wrist"), ("right_hip", "right_ankle")):
        bone = joints[JOINT_NAMES.index(lower)] - joints[JOINT_NAMES.index(upper)]
        assert angle_deg(bone, np.array([0, -1.0, 0])) < 0.01
    assert joints[JOINT_NAMES.index("left_foot"), 2] > joints[JOINT_NAMES.index("left_ankle"), 2]


def test_deepmimic_joints_bend_the_natural_way(tmp_path):
    # Columns: right knee 20, right elbow 29, left knee 34, left elbow 43 (hinges, radians).
    pose = mocap.read_deepmimic(deepmimic_clip(tmp_path, c20=-1, c34=-1, c29=1, c43=1))
    joints = smpl_joints(pose)[0]
    place = dict(zip(JOINT_NAMES, joints, strict=True))
    for side in ("left", "right"):
        assert place[f"{side}_wrist"][2] - place[f"{side}_elbow"][2] > 0.15, "forearm forward"
        assert place[f"{side}_ankle"][2] - place[f"{side}_knee"][2] < -0.25, "shin backward"
    assert mocap.is_possible(pose).all()
    # The bending axes that priors.simple punishes: left elbow -y, right elbow +y, knees +x.
    assert pose[0, 55] < -0.5 and pose[0, 58] > 0.5 and pose[0, 12] > 0.5 and pose[0, 15] > 0.5


def test_impossible_frames_are_named():
    pose = np.zeros((5, 72))
    pose[1, 55] = 0.6  # left elbow backward
    pose[2, 15] = -0.6  # right knee backward
    pose[3, 3 * JOINT_NAMES.index("left_wrist")] = 2.5
    pose[4, 3 * JOINT_NAMES.index("left_shoulder")] = 2.5  # shoulders do turn that far
    assert mocap.is_possible(pose).tolist() == [True, False, False, False, True]


def test_mirror_reflects_the_joints():
    pose = np.random.default_rng(1).normal(0, 0.5, (4, 72))
    reflected = smpl_joints(pose) * [-1, 1, 1]
    twins = [JOINT_NAMES.index(_twin(name)) for name in JOINT_NAMES]
    np.testing.assert_allclose(smpl_joints(mirror_pose(pose)), reflected[:, twins], atol=1e-12)
    np.testing.assert_array_equal(mirror_pose(mirror_pose(pose)), pose)
    np.testing.assert_array_equal(mirror_pose(pose[:, 3:]), mirror_pose(pose)[:, 3:])
    assert (REST_JOINTS[twins] == REST_JOINTS * [-1, 1, 1]).all()


def _twin(name):
    return name.replace("left_", "L").replace("right_", "left_").replace("L", "right_")


def test_diverse_frames_lie_apart():
    rng = np.random.default_rng(2)
    still = np.repeat(rng.normal(0, 0.3, (1, 69)), 20, axis=0)
    moving = np.cumsum(rng.normal(0, 0.1, (30, 69)), axis=0)
    body_pose = np.concatenate([still, moving])
    kept = mocap.diverse_frames(body_pose, 0.05)
    assert kept[0] == 0 and (kept[1:] >= 20).all() and len(kept) > 10
    joints = smpl_joints(np.concatenate([np.zeros((len(kept), 3)), body_pose[kept]], 1)).reshape(
        len(kept), -1
    )
    apart = np.sqrt(((joints[:, None] - joints) ** 2).sum(2) / 24)
    assert apart[~np.eye(len(kept), dtype=bool)].min() > 0.05


def test_split_is_by_clip():
    assert (
        mocap.is_held_out("03_01") and mocap.is_held_out("14_12") and mocap.is_held_out("humanoid3d_spinkick")
    )
    assert not mocap.is_held_out("13_03") and not mocap.is_held_out("07_01")


@pytest.mark.skipif(
    not MOCAP_DIR, reason="MOCAP_DIR is not set: the mocap clips are not part of the repository"
)
def test_real_clips_match_the_published_positions():
    for name, frames in json.loads((Path(MOCAP_DIR) / "fk_check.json").read_text())["clips"].items():
        positions = bvh_joint_positions(read_bvh(Path(MOCAP_DIR) / "cmu_bvh30" / f"{name}.bvh"))
        for frame, joints in frames.items():
            for joint, expected in joints.items():
                np.testing.assert_allclose(positions[joint][int(frame)], expected, atol=1e-3)
