"""The shipped open body: symmetric, closed, SMPL-format, in SMPL's T-pose; no anny needed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from priors.skeleton import JOINT_NAMES, JOINT_PARENTS, MIRROR_JOINTS
from synth.open_body import mesh as surgery
from synth.open_body.pictures import hand_made_poses, load_arrays, pose_body
from synth.open_body.pose import REST_LIMBS, smallest_rotation

BODY_PATH = Path(__file__).parents[1] / "fitter" / "data" / "open_body.npz"


@pytest.fixture(scope="module")
def body() -> dict[str, np.ndarray]:
    return load_arrays(BODY_PATH)


def _joints(body, betas=None) -> np.ndarray:
    betas = np.zeros(10) if betas is None else betas
    return body["J_regressor"].astype(float) @ (body["v_template"] + body["shapedirs"].astype(float) @ betas)


def test_file_is_small_and_needs_no_pickle(body):
    assert BODY_PATH.stat().st_size <= 3_000_000
    assert all(array.dtype != object for array in body.values())
    assert "CC0" in str(body["licence"])


def test_shapes_and_types(body):
    count, faces = len(body["v_template"]), len(body["f"])
    assert 6788 <= count <= 8000 and count != 6890  # smplx's own picks go up to 6787; not SMPL's topology
    assert faces == 2 * count - 4  # a triangulated sphere
    expected = {
        "v_template": (count, 3),
        "shapedirs": (count, 3, 10),
        "posedirs": (count, 3, 207),
        "J_regressor": (24, count),
        "J_regressor_h36m": (17, count),
        "weights": (count, 24),
        "kintree_table": (2, 24),
        "part_ids": (count,),
        "mirror_ids": (count,),
        "landmark_ids": (11,),
        "landmark_names": (11,),
    }
    assert {key: body[key].shape for key in expected} == expected
    assert body["kintree_table"][0, 0] == 4294967295
    assert body["kintree_table"][0, 1:].tolist() == list(JOINT_PARENTS)[1:]


def test_exactly_symmetric(body):
    mirror = body["mirror_ids"]
    flip = np.array([-1, 1, 1], np.float32)
    assert np.array_equal(mirror[mirror], np.arange(len(mirror)))
    assert np.array_equal(body["v_template"][mirror] * flip, body["v_template"])
    assert np.array_equal(body["shapedirs"][mirror] * flip[:, None], body["shapedirs"])
    assert np.array_equal(body["weights"][mirror][:, MIRROR_JOINTS], body["weights"])
    assert np.array_equal(body["J_regressor"][list(MIRROR_JOINTS)][:, mirror], body["J_regressor"])
    assert (body["v_template"][mirror == np.arange(len(mirror)), 0] == 0).all()

    def in_order(faces):
        first = faces.argmin(1)
        turned = np.stack([np.roll(face, -k) for face, k in zip(faces, first, strict=True)])
        return turned[np.lexsort(turned.T[::-1])]

    assert np.array_equal(in_order(mirror[body["f"]][:, ::-1]), in_order(body["f"]))


def test_parts_are_mirrored_off_the_middle(body):
    mirror = body["mirror_ids"]
    off = mirror != np.arange(len(mirror))
    assert np.array_equal(np.array(MIRROR_JOINTS)[body["part_ids"]][mirror][off], body["part_ids"][off])
    assert set(body["part_ids"].tolist()) == set(range(24))


def test_closed_oriented_single_surface(body):
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    vertices, faces = body["v_template"], body["f"]
    surgery.check_closed_surface(vertices, faces)
    count = len(vertices)
    links = coo_matrix(
        (np.ones(len(faces) * 2), (faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel())), (count,) * 2
    )
    assert connected_components(links, directed=False)[0] == 1
    corners = vertices[faces].astype(float)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert areas.min() > 1e-9
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.05 < volume < 0.09  # a 65 kg person


def test_check_closed_surface_names_a_hole(body):
    with pytest.raises(ValueError, match="every edge once in each direction"):
        surgery.check_closed_surface(body["v_template"], body["f"][1:])


def test_weights_and_regressors_sum_to_one(body):
    for key in ("weights", "J_regressor", "J_regressor_h36m"):
        assert (body[key] >= 0).all()
        np.testing.assert_allclose(body[key].sum(1), 1, atol=2e-6)
    assert (body["weights"] > 0).sum(1).max() <= 4
    assert (body["J_regressor"] > 0).sum(1).max() <= 80


def test_limbs_have_smpl_rest_directions(body):
    joints = _joints(body)
    flip = np.array([-1.0, 1.0, 1.0])
    for (upper, lower), direction in REST_LIMBS.items():
        for side, mirror in (("left_", 1.0), ("right_", flip)):
            names = [name.replace("left_", side) for name in (upper, lower)]
            bone = joints[JOINT_NAMES.index(names[1])] - joints[JOINT_NAMES.index(names[0])]
            wanted = np.array(direction) * mirror
            cosine = bone @ wanted / np.linalg.norm(bone) / np.linalg.norm(wanted)
            assert np.degrees(np.arccos(min(cosine, 1))) < 0.5, names


def test_stands_upright_in_metres_facing_z(body):
    joints = dict(zip(JOINT_NAMES, _joints(body), strict=True))
    stature = np.ptp(body["v_template"][:, 1])
    assert 1.6 < stature < 1.8
    assert joints["left_wrist"][0] > 0.6 and joints["head"][1] > joints["neck"][1] > joints["pelvis"][1]
    np.testing.assert_allclose(joints["pelvis"], 0, atol=5e-3)
    marks = dict(zip(body["landmark_names"].tolist(), body["v_template"][body["landmark_ids"]], strict=True))
    assert marks["nose"][2] > joints["head"][2] + 0.08
    assert marks["left_big_toe"][2] > marks["left_heel"][2] + 0.2


def test_mean_body_has_peoples_proportions(body):
    """ANSUR II (2012), means of men and women over stature; shoulder and neck joints as proportions.py takes them."""
    joints = dict(zip(JOINT_NAMES, _joints(body), strict=True))
    stature, sole = np.ptp(body["v_template"][:, 1]), body["v_template"][:, 1].min()
    heights = {"ankle": 0.040, "knee": 0.283, "hip": 0.516, "shoulder": 0.800}
    for name, expected in heights.items():
        assert (joints[f"left_{name}"][1] - sole) / stature == pytest.approx(expected, abs=0.006), name
    arms = {("shoulder", "elbow"): 0.164, ("elbow", "wrist"): 0.150}
    for (upper, lower), expected in arms.items():
        length = np.linalg.norm(joints[f"left_{upper}"] - joints[f"left_{lower}"]) / stature
        assert length == pytest.approx(expected, abs=0.004), upper


def test_limbs_are_straight_at_rest(body):
    joints = dict(zip(JOINT_NAMES, _joints(body), strict=True))
    for upper, middle, lower in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")):
        a, b = (joints[f"left_{i}"] - joints[f"left_{j}"] for i, j in ((middle, upper), (lower, middle)))
        bend = np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
        assert bend < 3, middle


@pytest.mark.parametrize("joint, axis, sign", [("left_elbow", 1, -1), ("right_knee", 0, 1)])
@pytest.mark.parametrize("degrees", [45, 90, 140])
def test_joints_regressed_from_a_bent_surface_are_the_bodys_own(body, joint, axis, sign, degrees):
    from fitter.body.model import load_body

    model, index = load_body(dtype=torch.float64), JOINT_NAMES.index(joint)
    pose = torch.zeros(1, 24, 3, dtype=torch.float64)
    pose[0, index, axis] = sign * np.radians(degrees)
    posed = model(torch.zeros(1, 10, dtype=torch.float64), pose.reshape(1, 72))
    for regressor, row, own in (
        (body["J_regressor"], index, index),
        (body["J_regressor_h36m"], _H36M[joint], index),
    ):
        found = regressor[row] @ posed.vertices[0].numpy()
        assert np.linalg.norm(found - posed.joints[0, own].numpy()) < 8e-3
    near = np.linalg.norm(body["v_template"] - _joints(body)[index], axis=1)
    assert near[body["J_regressor"][index] > 0].max() < 0.1


_H36M = {"left_elbow": 12, "right_knee": 2}


def test_smplx_loads_the_body_and_finds_its_landmarks(body, tmp_path):
    import smplx

    from fitter.body.model import LANDMARK_NAMES, load_body
    from fitter.body.smpl_file import main

    main(["--out", str(tmp_path / "SMPL_OPEN.pkl")])
    own = load_body(tmp_path / "SMPL_OPEN.pkl")
    assert own.name == load_body().name and own.joint_layout == load_body().joint_layout
    model = smplx.create(str(tmp_path / "SMPL_OPEN.pkl"), "smpl")
    pose = 0.3 * torch.randn(1, 72, generator=torch.Generator().manual_seed(0))
    betas = torch.randn(1, 10, generator=torch.Generator().manual_seed(1))
    theirs = model(betas=betas, global_orient=pose[:, :3], body_pose=pose[:, 3:])
    ours = load_body()(betas, pose)
    np.testing.assert_allclose(theirs.vertices.detach().numpy(), ours.vertices.numpy(), atol=1e-5)
    np.testing.assert_allclose(theirs.joints[0, :24].detach().numpy(), ours.joints[0].numpy(), atol=1e-5)
    order = "nose right_eye left_eye right_ear left_ear left_big_toe left_small_toe left_heel right_big_toe".split()
    for row, name in enumerate(order, 24):  # smplx.vertex_joint_selector
        expected = ours.landmarks[0, LANDMARK_NAMES.index(name)]
        np.testing.assert_allclose(theirs.joints[0, row].detach().numpy(), expected.numpy(), atol=1e-5)
    tips = theirs.joints[0, 35:].detach()  # five fingers of the left hand, of the right hand
    assert (tips[:5] - ours.joints[0, JOINT_NAMES.index("left_wrist")]).norm(dim=1).min() > 0.08


def test_landmarks_lie_on_their_side(body):
    names = body["landmark_names"].tolist()
    points = dict(zip(names, body["v_template"][body["landmark_ids"]], strict=True))
    assert points["nose"][0] == 0
    for name in names[1:]:
        assert (points[name][0] > 0.02) == name.startswith("left_"), name
        twin = name.replace("left_", "RIGHT_").replace("right_", "left_").replace("RIGHT_", "right_")
        assert np.array_equal(points[twin] * [-1, 1, 1], points[name])
    assert points["left_small_toe"][0] > points["left_big_toe"][0]
    assert points["nose"][1] < points["left_eye"][1]
    assert points["left_ear"][0] > points["left_eye"][0]


def test_first_component_is_size_and_sigma_is_plausible(body):
    heights = []
    for beta in (-1.0, 1.0):
        betas = np.zeros(10)
        betas[0] = beta
        heights.append(np.ptp(body["v_template"][:, 1] + body["shapedirs"][:, 1] @ betas))
    assert 0.06 < (heights[1] - heights[0]) / 2 < 0.13  # drawn adults: standard deviation 0.106 m
    strength = np.linalg.norm(body["shapedirs"].reshape(-1, 10), axis=0)
    assert (np.diff(strength[:5]) < 0).all()


def test_measured_on_held_out_adults(body):
    """Written while building: 1,000 adults drawn with another seed, in T-pose, fitted with 10 betas."""
    measured = json.loads(str(body["measured"]))
    assert measured["joint_error_mm"] < 6
    assert measured["surface_error_after_10_betas_mm"] < 6
    np.testing.assert_allclose(measured["beta_std"], 1, atol=0.1)  # beta ~ N(0, I)
    assert measured["variance_shares"][0] > 0.5


def test_every_drawn_shape_stays_right_side_out(body):
    rng = np.random.default_rng(0)
    for betas in rng.standard_normal((5, 10)):
        vertices = body["v_template"] + body["shapedirs"] @ betas
        surgery.check_closed_surface(vertices, body["f"])


def test_h36m_joints_in_order(body):
    points = body["J_regressor_h36m"] @ body["v_template"]
    joints = dict(zip(JOINT_NAMES, _joints(body), strict=True))
    np.testing.assert_allclose(points[1], joints["right_hip"], atol=1e-5)
    np.testing.assert_allclose(points[6], joints["left_ankle"], atol=1e-5)
    np.testing.assert_allclose(points[16], joints["right_wrist"], atol=1e-5)
    assert (np.diff(points[[0, 7, 8, 9, 10], 1]) > 0.05).all()  # hip, spine, thorax, nose, head top
    np.testing.assert_allclose(points[10, 1], body["v_template"][:, 1].max(), atol=1e-5)


@pytest.mark.parametrize("name", ["elbows 120", "knees 120", "hips 90", "arms up", "arms down"])
def test_bent_limbs_keep_their_volume(body, name):
    """Blend skinning loses volume in a bend, most at the hips (6 % at 90 degrees): never more than 8 %."""

    def volume(vertices):
        corners = vertices[body["f"]]
        return np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6

    posed = pose_body(body, np.zeros(10), hand_made_poses()[name])
    assert 0.92 < volume(posed) / volume(body["v_template"].astype(float)) < 1.05


def test_smplx_loads_it_and_agrees(body):
    smplx = pytest.importorskip("smplx")
    import torch
    from smplx.utils import Struct

    model = smplx.SMPL(model_path="", data_struct=Struct(**body), batch_size=1)
    betas = np.linspace(-1, 1, 10)
    pose = hand_made_poses()["squat"]
    rest = model(betas=torch.zeros(1, 10))
    np.testing.assert_allclose(rest.joints[0, :24].numpy(force=True), _joints(body), atol=1e-5)
    out = model(
        betas=torch.tensor(betas[None], dtype=torch.float32),
        global_orient=torch.tensor(pose[None, :3], dtype=torch.float32),
        body_pose=torch.tensor(pose[None, 3:], dtype=torch.float32),
    )
    np.testing.assert_allclose(out.vertices[0].numpy(force=True), pose_body(body, betas, pose), atol=1e-5)


def _dome() -> tuple[np.ndarray, np.ndarray]:
    """Half x >= 0 of a unit sphere, its border on x = 0."""
    steps, rings = 24, 8
    angles = 2 * np.pi * np.arange(steps) / steps
    vertices, faces = [[1.0, 0.0, 0.0]], []
    for i in range(1, rings + 1):
        polar = 0.5 * np.pi * i / rings
        x = 0.0 if i == rings else np.cos(polar)
        vertices += [[x, np.sin(polar) * np.cos(a), np.sin(polar) * np.sin(a)] for a in angles]
    for k in range(steps):
        after = (k + 1) % steps
        faces.append([0, 1 + k, 1 + after])
        for i in range(rings - 1):
            a, b = 1 + i * steps, 1 + (i + 1) * steps
            faces += [[a + k, b + k, b + after], [a + k, b + after, a + after]]
    return np.array(vertices), np.array(faces)


def test_decimated_dome_welds_to_a_closed_sphere():
    vertices, faces = _dome()
    kept = 60
    fewer = surgery.decimate_half(vertices, faces, [(np.ones(len(vertices), bool), kept)], keep=[0])
    ids = np.unique(fewer)
    assert len(ids) == kept and 0 in ids
    half = vertices[ids]
    whole, source, mirror = surgery.mirror_and_weld(np.searchsorted(ids, fewer), half[:, 0] == 0)
    points = half[source]
    points[len(ids) :, 0] *= -1
    surgery.check_closed_surface(points, whole)
    assert np.array_equal(points[mirror] * [-1, 1, 1], points)
    corners = points[whole]
    volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.85 < volume / (4 / 3 * np.pi) < 1


def test_caps_close_an_open_dome():
    vertices, faces = _dome()
    opened = faces[(faces != 0).all(1)]
    border = surgery.border_edges(opened)
    loops = surgery.chains(border[(vertices[border][:, :, 0] > 0).any(1)])
    assert len(loops) == 1 and len(loops[0]) == 24
    closed = np.concatenate([opened, surgery.fan_loop(loops[0], apex=0)])
    assert {tuple(sorted(f)) for f in closed.tolist()} == {tuple(sorted(f)) for f in faces.tolist()}
    assert len(surgery.border_edges(closed)) == 24


def test_smallest_rotation_turns_start_to_end():
    rng = np.random.default_rng(1)
    start, end = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.standard_normal((2, 50, 3)))
    rotation = smallest_rotation(start, end)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", rotation, start), end, atol=1e-9)
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-9
    )
    axis = np.cross(start, end)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", rotation, axis), axis, atol=1e-9)
