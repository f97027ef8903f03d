"""The body model against smplx, its symmetry, and the safe reading of model files."""

import pickle
import sys
import types

import numpy as np
import pytest
import scipy.sparse
import smplx
import torch
from conftest import toy_arrays
from scipy.spatial.transform import Rotation

from fitter.body.model import LANDMARK_NAMES, OPEN_BODY, BodyModel, load_body
from fitter.body.smpl_file import _SPARSE, REQUIRED, _ArrayUnpickler, _plain, read_smpl_file
from fitter.body.spin_joints import SPIN_24_OF_SMPL, h36m_regressor, spin_joints_of
from priors.clothing import load_clothing_prior
from priors.rotation import rotation_from_axis_angle
from priors.skeleton import JOINT_NAMES, JOINT_PARENTS, mirror_pose


def random_parameters(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    betas = torch.randn(count, 10, generator=generator, dtype=torch.float64)
    return betas, 0.5 * torch.randn(count, 72, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, np.pi - 1e-7, np.pi, 4.0])
def test_rotation_matches_scipy_and_has_a_gradient(angle):
    axis_angle = torch.tensor([[0.6, -0.64, 0.48]], dtype=torch.float64) * angle
    axis_angle.requires_grad_()
    matrix = rotation_from_axis_angle(axis_angle)
    np.testing.assert_allclose(
        matrix[0].detach(), Rotation.from_rotvec(axis_angle[0].detach()).as_matrix(), atol=1e-9
    )
    assert torch.autograd.gradcheck(rotation_from_axis_angle, axis_angle, atol=1e-6)


def test_body_equals_smplx_with_pose_dependent_shape():
    arrays = {**toy_arrays(), "weights": np.full((144, 24), 1 / 24)}
    arrays["posedirs"] = 0.01 * np.random.default_rng(0).standard_normal((144, 3, 207))
    body = BodyModel(arrays, "toy").double()
    tips = dict.fromkeys(
        smplx.vertex_ids.vertex_ids["smplh"], 0
    )  # smplx adds vertices of SMPL as extra joints
    struct = smplx.utils.Struct(**arrays)
    theirs = smplx.SMPL("", data_struct=struct, dtype=torch.float64, batch_size=3, vertex_ids=tips)
    betas, pose = random_parameters(3)
    ours = body(betas, pose)
    expected = theirs(betas=betas, global_orient=pose[:, :3], body_pose=pose[:, 3:])
    torch.testing.assert_close(
        ours.vertices, expected.vertices, atol=1e-7, rtol=0
    )  # smplx adds 1e-8 to angles
    torch.testing.assert_close(ours.joints, expected.joints[:, :24], atol=1e-7, rtol=0)
    landmarks_alone = body(betas, pose, with_vertices=False).landmarks
    torch.testing.assert_close(landmarks_alone, ours.landmarks, atol=1e-12, rtol=0)


def test_mirrored_pose_gives_the_mirrored_body():
    body = load_body(dtype=torch.float64)
    betas, pose = random_parameters(2, seed=1)
    joints = body(betas, pose).joints
    mirrored = body(betas, mirror_pose(pose)).joints
    swapped = mirror_pose(joints.reshape(2, 72)).reshape(2, 24, 3) * torch.tensor([-1.0, -1, -1])
    torch.testing.assert_close(mirrored, swapped.double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(mirror_pose(mirror_pose(pose)), pose)


def official_like_pickle(path, protocol=2):
    """Written as SMPL's own files are: protocol 2, chumpy arrays, a scipy.sparse regressor."""
    module = types.ModuleType("chumpy.ch")
    module.Ch = type("Ch", (), {"__module__": "chumpy.ch", "__qualname__": "Ch"})
    sys.modules.update({"chumpy": types.ModuleType("chumpy"), "chumpy.ch": module})
    try:
        arrays = toy_arrays()
        wrapped = module.Ch()
        wrapped.x = arrays["shapedirs"]
        entries = {
            **arrays,
            "shapedirs": wrapped,
            "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        }
        path.write_bytes(pickle.dumps({**entries, "bs_style": "lbs"}, protocol=protocol))
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_is_read_without_chumpy(tmp_path, protocol):
    official_like_pickle(tmp_path / "SMPL.pkl", protocol)
    arrays = read_smpl_file(tmp_path / "SMPL.pkl")
    assert "chumpy" not in sys.modules
    for key in ("shapedirs", "J_regressor", "weights"):
        np.testing.assert_array_equal(arrays[key], toy_arrays()[key])


@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix", "csc_array"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickle_cleaned_of_chumpy_is_read_in_any_protocol(tmp_path, protocol, kind):
    """What the usual script leaves: plain arrays and a sparse regressor, by Python 2's default in protocol 0."""
    arrays = toy_arrays()
    sparse = {"J_regressor": getattr(scipy.sparse, kind)(arrays["J_regressor"])}
    (tmp_path / "SMPL.PKL").write_bytes(pickle.dumps({**arrays, **sparse, "bs_type": "lrotmin"}, protocol))
    found = read_smpl_file(tmp_path / "SMPL.PKL")
    for key in REQUIRED:
        np.testing.assert_array_equal(found[key], arrays[key])


def test_pickle_by_python_2_is_read(tmp_path):
    """Protocol 0 as Python 2 writes it: copy_reg, __builtin__, and an array's bytes as text."""
    values = np.arange(6.0).tobytes().decode("latin1")
    escaped = values.encode("unicode_escape").replace(b"'", b"\\'")
    (tmp_path / "two.pkl").write_bytes(
        b"(dp0\nS'v_template'\np1\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\n"
        b"I3\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'" + escaped + b"'\ntbs"
        b"S'J_regressor'\nccopy_reg\n_reconstructor\n(cscipy.sparse.csc\ncsc_matrix\nc__builtin__\nobject\nNtR"
        b"(dS'_shape'\n(I1\nI2\ntsS'data'\n(lF2.5\nasS'indices'\n(lI0\nasS'indptr'\n(lI0\naI0\naI1\nasbs."
    )  # fmt: skip
    with open(tmp_path / "two.pkl", "rb") as file:
        raw = _ArrayUnpickler(file, encoding="latin1").load()
    np.testing.assert_array_equal(_plain(raw["v_template"]), np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(_plain(raw["J_regressor"]), [[0, 2.5]])


def test_arrays_of_objects_in_an_npz_are_read_without_pickles_code(tmp_path, capsys):
    arrays = toy_arrays()
    objects = {"J_regressor": np.array(scipy.sparse.csc_matrix(arrays["J_regressor"]), object)}
    np.savez(tmp_path / "body.npz", **{**arrays, **objects, "bs_style": np.array({"not": "read"}, object)})
    found = read_smpl_file(tmp_path / "body.npz")
    np.testing.assert_array_equal(found["J_regressor"], arrays["J_regressor"])
    np.savez(tmp_path / "evil.npz", **{**arrays, "J_regressor": np.array(Evil(), object)})
    with pytest.raises(ValueError, match="refused to build .*print"):
        read_smpl_file(tmp_path / "evil.npz")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("spoilt", [{"indices": [99999]}, {"indptr": [0, 5, 9]}, {"data": None}])
def test_a_spoilt_sparse_matrix_is_refused_and_nothing_is_written_where_it_says(tmp_path, spoilt):
    matrix = _SPARSE["csc"]()
    matrix.state = {"_shape": (24, 2), "data": [1.0], "indices": [3], "indptr": [0, 1, 1], **spoilt}
    with pytest.raises((ValueError, TypeError)):
        _plain(matrix)


def test_a_pickle_that_asks_for_absurd_room_is_refused_before_it_is_given(tmp_path):
    (tmp_path / "memo.pkl").write_bytes(b"\x80\x02}r" + (3 * 10**8).to_bytes(4, "little") + b".")
    with pytest.raises(ValueError, match="refused room for 300000000 objects"):
        read_smpl_file(tmp_path / "memo.pkl")
    matrix = _SPARSE["csc"]()
    matrix.state = {"_shape": (24, 10**12), "data": [], "indices": [], "indptr": [0]}
    with pytest.raises(ValueError, match="expected a sparse matrix of .24, V., found .24, 1000000000000."):
        _plain(matrix)


def test_a_folder_given_for_a_file_names_what_is_in_it(tmp_path):
    with pytest.raises(ValueError, match="found a folder without such"):
        read_smpl_file(tmp_path)
    official_like_pickle(tmp_path / "SMPL_MALE.pkl")
    with pytest.raises(ValueError, match="found a folder; give one of its files: SMPL_MALE.pkl"):
        read_smpl_file(tmp_path)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_pickle_that_wants_code_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"v_template": Evil()}, protocol=2))
    with pytest.raises(ValueError, match="refused to build .*print"):
        read_smpl_file(tmp_path / "evil.pkl")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weights": np.zeros((144, 52))}, r"expected weights of shape .* found \(144, 52\)"),
        ({"J_regressor": np.zeros((52, 144))}, "this is SMPL-H; give SMPL"),
        ({"J_regressor": np.zeros((55, 144))}, "this is SMPL-X; give SMPL"),
        ({"v_template": np.zeros((10475, 3))}, "this is SMPL-X; give SMPL"),
        ({"v_template": np.zeros((778, 3))}, "this is MANO; give SMPL"),
        ({"posedirs": np.zeros((144, 3, 93))}, "this is STAR; give SMPL"),
        ({"v_template": np.array(3.0)}, "expected v_template of shape"),
        ({"v_template": np.full((144, 3), np.nan)}, "expected v_template of finite numbers"),
        ({"f": np.zeros((0, 3))}, "face indices in 0..143"),
        (
            {"kintree_table": np.array([[4294967295, *JOINT_PARENTS[1:23], 0], range(24)])},
            "expected SMPL's skeleton in kintree_table, found 0 for the parent of right_hand, not 21",
        ),
        ({"J_regressor": None}, "J_regressor missing"),
        ({"f": np.array([[0, 1, 999]])}, "face indices in 0..143"),
        ({"part_ids": np.full(144, "head")}, "expected part_ids of 144 whole numbers in 0..23 .*, found <U4"),
        ({"landmark_ids": np.full(11, 144)}, r"expected landmark_ids of 11 whole numbers in 0..143"),
        (
            {"landmark_ids": None},
            "landmark_ids of 11 .* where there are not SMPL's 6890 vertices, found none",
        ),
    ],
)
def test_wrong_npz_says_what_was_expected_and_found(tmp_path, change, message):
    arrays = {key: value for key, value in {**toy_arrays(), **change}.items() if value is not None}
    np.savez(tmp_path / "body.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_smpl_file(tmp_path / "body.npz")


def test_missing_file_says_where_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="smpl.is.tue.mpg.de"):
        read_smpl_file(tmp_path / "SMPL_NEUTRAL.pkl")


def test_body_of_smpls_topology_loads_with_smplx_landmarks_and_parts(tmp_path):
    """The official file has 6890 vertices and no landmarks: stood in for by vertices of the open body."""
    with np.load(OPEN_BODY) as file:
        arrays = {key: file[key] for key in REQUIRED}
    arrays["f"] = arrays["f"][(arrays["f"] < 6890).all(1)]
    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        arrays[key] = arrays[key][:6890]
    regressor = np.maximum(arrays["J_regressor"][:, :6890], 1e-9)
    arrays["J_regressor"] = scipy.sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True))
    (tmp_path / "SMPL_NEUTRAL.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    body = load_body(tmp_path / "SMPL_NEUTRAL.pkl")
    assert body.name == "SMPL_NEUTRAL" and body.vertex_count == 6890
    assert body.landmark_ids[0] == 332  # smplx's nose
    posed = body(*(p.float() for p in random_parameters(2)))
    assert posed.vertices.shape == (2, 6890, 3) and torch.isfinite(posed.vertices).all()
    prior = load_clothing_prior(None, body.template.numpy(), body.faces.numpy())
    np.testing.assert_allclose(prior.prob.sum(1), 1)


def test_a_body_is_the_same_to_the_bit_in_any_batch():
    """A fit amplifies rounding, so that a resumed run, whose photos share other batches, would end elsewhere."""
    body, generator = load_body(), torch.Generator().manual_seed(3)
    betas, pose = (
        torch.randn(6, size, generator=generator) * scale for size, scale in ((10, 1.0), (72, 0.3))
    )
    alone = torch.cat([body(betas[row : row + 1], pose[row : row + 1]).vertices for row in range(6)])
    for count in range(2, 7):
        assert torch.equal(body(betas[:count], pose[:count]).vertices, alone[:count])


def test_spins_joint_map_takes_15_joints_of_the_body_and_9_of_its_surface():
    body = load_body(dtype=torch.float64)
    rng = np.random.default_rng(3)
    pose = torch.tensor(rng.normal(0, 0.5, (1, 72)))
    posed = body(torch.zeros(1, 10, dtype=torch.float64), pose)
    joints = spin_joints_of(posed, body)[0, :, :3]
    surface = h36m_regressor() @ posed.vertices[0].numpy()
    own = dict(zip(JOINT_NAMES + LANDMARK_NAMES, body.points(posed)[0].numpy(), strict=True))
    regressed = {2: 1, 3: 4, 12: 8, 13: 10, 14: 0, 15: 8, 16: 7, 17: 9, 18: 10}  # row: Human3.6M's joint
    for row, name in enumerate(SPIN_24_OF_SMPL):
        true = surface[regressed[row]] if row in regressed else own[name]
        np.testing.assert_allclose(joints[row], true, atol=1e-6, err_msg=name)
    limbs = np.linalg.norm(joints[[0, 1, 7, 8]] - surface[[3, 2, 15, 14]], axis=1)
    assert limbs.max() > 2e-3  # in a pose, a regressor's limb joints are not the body's
