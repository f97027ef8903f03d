"""Motion capture: the BVH parser, forward kinematics, and the transfer of limb directions to SMPL's skeleton.

Set MOCAP_DIR to a folder with cmu_bvh30/, cmu_asfamc/ and fk_check.json to check against the real clips as well.
"""

import dataclasses
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from priors.skeleton import JOINT_NAMES, mirror_pose
from synth.pose_priors import asfamc, bias, mocap, postures, sessions
from synth.pose_priors.bvh import bvh_joint_positions, read_bvh
from synth.pose_priors.knees import bend_knees, knee_flexion
from synth.pose_priors.skeleton import REST_JOINTS, smpl_joints

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
    ours = smpl_joints(mocap.retarget_bvh(clip, mocap.rest_directions(clip)))
    for joint, child in mocap.LIMB_CHILD.items():
        if joint.endswith("ankle"):
            continue  # the foot stands flat as theirs does: test_feet_are_flat_where_theirs_are
        source = mocap.BVH_SOURCE[joint]
        end = mocap.BVH_SOURCE.get(child, f"{source}_end")
        bone = ours[:, JOINT_NAMES.index(child)] - ours[:, JOINT_NAMES.index(joint)]
        assert angle_deg(bone, theirs[end] - theirs[source]).max() < 1e-4, joint


def test_feet_are_flat_where_theirs_are(tmp_path):
    clip = read_bvh(write(tmp_path, cmu_like_bvh(np.random.default_rng(0), frames=1)))
    flat = np.tile(np.eye(3), (1, len(clip.names), 1, 1))
    clip = dataclasses.replace(clip, local_rotations=flat)
    pose = mocap.retarget_bvh(clip, mocap.rest_directions(clip))
    rest = (smpl_joints(np.zeros((1, 72))), smpl_joints(pose))
    heights = [np.ptp(joints[0, [7, 10], 1]) for joints in rest]  # ankle over toes
    assert heights[1] == pytest.approx(heights[0], abs=1e-9)
    toes = rest[1][0, 10] - rest[1][0, 7]
    assert toes[0] / toes[2] == pytest.approx(1 / 12, abs=1e-9), "turned out as the file's foot is"


def test_measured_directions_make_straight_limbs(tmp_path):
    clip = read_bvh(write(tmp_path, cmu_like_bvh(np.random.default_rng(0), frames=1)))
    clip = dataclasses.replace(clip, local_rotations=np.tile(np.eye(3), (1, len(clip.names), 1, 1)))
    as_is, mended = mocap.retarget_bvh(clip, mocap.rest_directions(clip)), mocap.retarget_bvh(clip)
    assert np.degrees(knee_flexion(as_is)).min() > 6
    np.testing.assert_allclose(np.degrees(knee_flexion(mended)), 0, atol=1)


# --- ASF/AMC

ASF = """:version 1.10
:units
  mass 1.0
  length 0.5
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name thigh
     direction 0 -2 0
     length 10
     axis 0 0 90  XYZ
    dof rx rz
    limits (-160.0 20.0)
           (-70.0 70.0)
  end
  begin
     id 2
     name shank
     direction 0 -1 0
     length 10
     axis 0 0 0  XYZ
    dof rx
    limits (-10.0 170.0)
  end
  begin
     id 3
     name toes
     direction 0 0 1
     length 1
     axis 0 0 0  XYZ
  end
:hierarchy
  begin
    root thigh
    thigh shank
    shank toes
  end
"""
AMC = """#!OML:ASF somewhere
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 0
thigh 0 0
shank 90
5
root 0 0 0 0 90 0
thigh 90 0
shank 0
"""


def asf_amc(tmp_path, amc=AMC):
    (tmp_path / "x.asf").write_text(ASF)
    (tmp_path / "x.amc.gz").write_bytes(gzip.compress(amc.encode()))
    return asfamc.read_amc(tmp_path / "x.amc.gz", asfamc.read_asf(tmp_path / "x.asf"))


def test_asf_positions_by_hand(tmp_path):
    clip = asf_amc(tmp_path)
    inch = 0.0254 / 0.5
    assert clip.skeleton.names == ("root", "thigh", "shank", "toes")
    ends = asfamc.bone_ends(clip) / inch
    # First frame: the shank's 90 degrees about x take it from down to back, and the toes from ahead to down.
    np.testing.assert_allclose(ends[0], [[1, 2, 3], [1, -8, 3], [1, -8, -7], [1, -9, -7]], atol=1e-9)
    # Second frame: the thigh's x axis is the world's y (axis 0 0 90), so that its turn about it leaves it hanging and
    # takes the toes from ahead to the left; the root's 90 degrees about y take them on to the back.
    np.testing.assert_allclose(ends[1], [[0, 0, 0], [0, -10, 0], [0, -20, 0], [0, -20, -1]], atol=1e-9)


def test_asf_errors_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected 2 frames of 2 values for thigh, got"):
        asf_amc(tmp_path, AMC.replace("thigh 90 0\n", ""))
    (tmp_path / "no.asf").write_text(":units\n")
    with pytest.raises(
        ValueError, match="expected an ASF skeleton, got none of :bonedata, :hierarchy, :root"
    ):
        asfamc.read_asf(tmp_path / "no.asf")


# --- knees and legs


def some_poses(count=20):
    pose = np.random.default_rng(4).normal(0, 0.3, (count, 72))
    for joint in (4, 5):
        pose[:, 3 * joint : 3 * joint + 3] = 0
        pose[:, 3 * joint] = np.linspace(0.1, 2, count)
    return pose


def test_knee_flexion_is_the_angle_of_thigh_and_shank():
    pose = some_poses()
    joints = smpl_joints(pose)
    expected = angle_deg(joints[:, 4] - joints[:, 1], joints[:, 7] - joints[:, 4])
    np.testing.assert_allclose(np.abs(np.degrees(knee_flexion(pose)[:, 0])), expected, atol=1e-5)
    backward = np.zeros((1, 72))
    backward[0, 12] = backward[0, 15] = -0.6
    assert (knee_flexion(backward) < -0.3).all()


def test_bending_knees_moves_neither_feet_nor_the_leg():
    pose = some_poses()
    by = np.stack([np.linspace(-0.3, 0.3, len(pose)), np.full(len(pose), 0.2)], 1)
    bent = bend_knees(pose, by)
    before, after = smpl_joints(pose), smpl_joints(bent)
    flexion = knee_flexion(pose)
    far = (
        flexion[:, 0] > 0.5
    )  # nearer to straight the bending axis is the thigh's, not quite across thigh and shank
    np.testing.assert_allclose((knee_flexion(bent) - flexion)[far], by[far], atol=0.01)
    for hip, ankle, foot in ((1, 7, 10), (2, 8, 11)):
        assert angle_deg(before[:, ankle] - before[:, hip], after[:, ankle] - after[:, hip]).max() < 1e-4
        np.testing.assert_allclose(
            after[:, foot] - after[:, ankle], before[:, foot] - before[:, ankle], atol=1e-9
        )
    assert bent[:, 27:30] == pytest.approx(pose[:, 27:30]), "spine"
    np.testing.assert_allclose(bend_knees(pose, np.zeros(2)), pose, atol=1e-9)


def standing_with_bent_knees(degrees, frames=30):
    """Upright, the knees ahead of the line from hip to ankle."""
    half = np.radians(degrees) / 2
    thigh, shank = np.array([[0, -np.cos(half), sign * np.sin(half)] for sign in (1, -1)])
    still = np.tile(np.eye(3), (frames, 1, 1))
    joints = [f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle")]
    rest = {"hip": thigh, "knee": shank, "ankle": np.array([0.0, 0, 1])}
    return mocap.retarget(
        {"pelvis": still} | {name: still for name in joints},
        {name: rest[name.partition("_")[2]] for name in joints},
    )


def test_sessions_that_stand_bent_are_straightened_and_deep_bends_stay():
    clip = standing_with_bent_knees(25)
    excess = sessions.knee_excess({"99_01": clip, "99_02": clip[:1], "98_01": clip[:1]})
    assert all(np.degrees(found) == pytest.approx([24.7, 24.7], abs=0.1) for found in excess.values())
    stood = np.degrees(knee_flexion(sessions.shorten_legs(clip, excess["99_01"])))
    assert (3 < stood).all() and (stood < 8).all()
    deep = sessions.shorten_legs(standing_with_bent_knees(100), excess["99_01"])
    assert np.degrees(knee_flexion(deep)) == pytest.approx(np.sqrt(100**2 - 24.7**2), abs=0.1)
    straight = standing_with_bent_knees(3)
    np.testing.assert_allclose(sessions.shorten_legs(straight, np.zeros(2)), straight, atol=1e-9)
    assert (sessions.knee_excess({"99_01": straight})["99_01"] == 0).all()
    bends = np.linspace(0, 140, 50)
    legs = np.concatenate([standing_with_bent_knees(bend, 1) for bend in bends])
    assert (np.diff(knee_flexion(sessions.shorten_legs(legs, np.radians([25, 25])))[:, 0]) > 0).all()


def test_bent_stances_on_purpose_are_no_evidence():
    assert sessions.clip_excess("acrnn_martial_03", standing_with_bent_knees(25)) is None
    assert sessions.clip_excess("13_18", standing_with_bent_knees(60)) is None


# --- postures


def test_postures_by_hand():
    stand = np.zeros((1, 72))
    walk = stand.copy()
    walk[0, 3], walk[0, 6], walk[0, 15] = -0.4, 0.3, 0.3
    sit = stand.copy()
    sit[0, [3, 6]], sit[0, [12, 15]] = -1.5, 1.5
    lean = stand.copy()
    lean[0, 0], lean[0, [3, 6]] = 0.8, -0.8
    lie = stand.copy()
    lie[0, 0] = -1.57
    found = postures.classify(np.concatenate([stand, walk, sit, lean, lie]))
    assert [postures.POSTURES[index] for index in found] == list(postures.POSTURES)
    np.testing.assert_allclose(postures.down_in_pelvis(stand), [[0, -1, 0]])
    # Who bends forward has down ahead of the pelvis.
    np.testing.assert_allclose(postures.down_in_pelvis(lean), [[0, -np.cos(0.8), np.sin(0.8)]], atol=1e-12)
    turned = stand.copy()
    turned[0, 1] = 2.0
    assert postures.classify(turned) == 0, "whichever way they face"


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


needs_mocap = pytest.mark.skipif(
    not MOCAP_DIR, reason="MOCAP_DIR is not set: the mocap clips are not part of the repository"
)


@needs_mocap
def test_the_conversions_bias_is_what_was_measured():
    clips = bias.shared_clips(Path(MOCAP_DIR))
    for joint, direction in bias.measure_rest(clips).items():
        assert angle_deg(direction, np.array(mocap.CMU_REST[joint])) < 0.5, joint
    for name, (bvh, asf) in clips.items():
        truth = bias.sagittal_angles(mocap.retarget_asf(asf))["knee"]
        as_is = bias.sagittal_angles(mocap.retarget_bvh(bvh, mocap.rest_directions(bvh)))["knee"]
        mended = bias.sagittal_angles(mocap.retarget_bvh(bvh))["knee"]
        assert 7 < np.median(as_is - truth) < 9.5, name
        assert abs(np.median(mended - truth)) < 1, name


@needs_mocap
def test_real_clips_match_the_published_positions():
    for name, frames in json.loads((Path(MOCAP_DIR) / "fk_check.json").read_text())["clips"].items():
        positions = bvh_joint_positions(read_bvh(Path(MOCAP_DIR) / "cmu_bvh30" / f"{name}.bvh"))
        for frame, joints in frames.items():
            for joint, expected in joints.items():
                np.testing.assert_allclose(positions[joint][int(frame)], expected, atol=1e-3)
