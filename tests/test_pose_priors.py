"""Body-pose priors: mixture, VPoser, bending axes, and the small things that they stand on."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from priors.checkpoint import read_state_dict
from priors.pose_gmm import PERCENTILES, PoseGMM, load_pose_gmm, mirror_joint
from priors.rotation import axis_angle_from_matrix, rotation_from_axis_angle
from priors.simple import angle_energy, shape_energy
from priors.skeleton import mirror_pose
from priors.vposer import VPoserV2, load_vposer_prior
from synth.pose_priors import gmm_fit
from synth.pose_priors.compare import torch_joints
from synth.pose_priors.skeleton import smpl_joints

HELD_OUT = Path(__file__).parent / "data" / "heldout_poses.npz"
needs_human_body_prior = pytest.mark.skipif(
    importlib.util.find_spec("human_body_prior") is None, reason="the extra `vposer` is not installed"
)


@pytest.fixture(scope="module")
def held_out() -> torch.Tensor:
    with np.load(HELD_OUT, allow_pickle=False) as data:
        return torch.tensor(data["pose"][:, 3:])


@pytest.fixture(scope="module")
def gmm() -> PoseGMM:
    return load_pose_gmm()


def small_mixture(seed=0, count=3):
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 0.1, (count, 69, 69))
    covars = factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(69)
    return rng.normal(0, 0.3, (count, 69)), covars, rng.dirichlet(np.ones(count))


# --- the mixture


def test_energy_is_smplifys_formula():
    means, covars, weights = small_mixture()
    pose = np.random.default_rng(1).normal(0, 0.4, (5, 69))
    root_dets = np.sqrt(np.linalg.det(covars))
    g = weights / (root_dets / root_dets.min())
    expected = [
        min(
            0.5 * (p - m) @ np.linalg.inv(c) @ (p - m) - np.log(k)
            for m, c, k in zip(means, covars, g, strict=True)
        )
        for p in pose
    ]
    gmm = PoseGMM(means, covars, weights)
    np.testing.assert_allclose(gmm.energy(torch.tensor(pose).float()), expected, rtol=1e-4)
    assert (gmm.energy(gmm.means) >= 0).all()


def test_energy_of_a_mirrored_pose_is_the_same_to_the_bit(gmm, held_out):
    noisy = held_out + 0.3 * torch.randn(held_out.shape, generator=torch.Generator().manual_seed(0))
    for pose in (held_out, noisy):
        assert torch.equal(gmm.energy(pose), gmm.energy(mirror_pose(pose)))
    assert torch.equal(gmm.mean, mirror_pose(gmm.mean[None])[0])
    whole = torch.cat([torch.zeros(len(held_out), 3), held_out], 1)
    assert torch.equal(mirror_pose(held_out), mirror_pose(whole)[:, 3:])


def test_energy_gradient():
    gmm = PoseGMM(*small_mixture(), mirrored=True).double()
    pose = 0.3 * torch.randn(2, 69, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(gmm.energy, pose.requires_grad_(), fast_mode=True)


def test_batch_of_one_equals_batch_of_many(gmm, held_out):
    before = held_out.clone()
    singly = torch.cat([gmm.energy(pose[None]) for pose in held_out[:8]])
    torch.testing.assert_close(singly, gmm.energy(held_out[:8]))
    assert torch.equal(before, held_out)


def test_shipped_mixture_knows_people_from_nonsense(gmm, held_out):
    levels = [gmm.energy_percentiles[level] for level in PERCENTILES]
    assert levels == sorted(levels) and len(gmm.energy_percentiles) == 5
    energies = gmm.energy(held_out)
    assert (energies > gmm.energy_percentiles[99.9]).float().mean() < 0.03, (
        "motions never seen are still people"
    )
    shuffled = held_out[:, torch.randperm(69, generator=torch.Generator().manual_seed(0))]
    assert (gmm.energy(shuffled) > gmm.energy_percentiles[99.9]).float().mean() > 0.9
    # A knee bent the wrong way is rare, but not out of the question: knees move so much that only the bending
    # axes' own term (priors.simple) settles it.
    backward = held_out.clone()
    backward[:, 9] -= 2.0
    assert (gmm.energy(backward) > gmm.energy_percentiles[95.0]).float().mean() > 0.9
    standing = torch.zeros(1, 69)
    standing[0, 3 * 15 + 2], standing[0, 3 * 16 + 2] = -1.2, 1.2  # arms hanging
    assert gmm.energy(standing) < gmm.energy_percentiles[90.0]


def test_samples_are_typical(gmm):
    energies = gmm.energy(gmm.sample(500, torch.Generator().manual_seed(0)))
    # Samples fill all 69 dimensions with the floor's noise, 69 / 2 on average; mocap poses do not.
    assert 30 < energies.median() < 60


def test_mixture_files(tmp_path):
    means, covars, weights = small_mixture()
    np.savez(tmp_path / "smplify.npz", means=means, covars=covars, weights=weights)
    loaded = load_pose_gmm(tmp_path / "smplify.npz")
    assert not loaded.mirrored and loaded.energy_percentiles == {} and loaded.means.shape == (3, 69)
    np.savez(tmp_path / "part.npz", means=means)
    with pytest.raises(ValueError, match="expected keys means, covars, weights, got no covars, weights"):
        load_pose_gmm(tmp_path / "part.npz")
    with pytest.raises(ValueError, match="got a pickle.*numpy.savez"):
        load_pose_gmm(tmp_path / "gmm_08.pkl")
    with pytest.raises(FileNotFoundError, match="leave the path out"):
        load_pose_gmm(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="positive definite"):
        PoseGMM(means, -covars, weights)
    with pytest.raises(ValueError, match=r"expected body_pose \[B, 69\], got \(2, 72\)"):
        loaded.energy(torch.zeros(2, 72))


def test_em_finds_mirror_pairs():
    rng = np.random.default_rng(3)
    centre = np.zeros(69)
    centre[52] = -1.5  # left elbow bent
    poses = centre + rng.normal(0, 0.1, (300, 69))
    mixture = gmm_fit.fit_symmetric_mixture(poses, components=2, restarts=1)
    one_sided = mixture.means[0] if mixture.means[0][52] < -1 else gmm_fit.mirror_rows(mixture.means)[0]
    np.testing.assert_allclose(one_sided, centre, atol=0.05)
    assert np.linalg.eigvalsh(mixture.covars[0]).min() >= gmm_fit.MOTION_FLOOR**2
    assert mixture.weights.sum() == pytest.approx(0.5)
    mirrored = gmm_fit.log_likelihood(gmm_fit.mirror_rows(poses), mixture)
    np.testing.assert_allclose(gmm_fit.log_likelihood(poses, mixture), mirrored)


def test_groups_keep_their_shares_and_floors():
    rng = np.random.default_rng(5)
    upright = np.concatenate([np.zeros(69), [0, -1, 0]])
    sitting = upright.copy()
    sitting[[0, 3]], sitting[[9, 12]] = -1.5, 1.5
    groups = [
        gmm_fit.Group("sitting", sitting + rng.normal(0, 0.02, (200, 72)), 1.0, 1, 0.09),
        gmm_fit.Group("standing", upright + rng.normal(0, 0.02, (200, 72)), 3.0, 1, 0.04),
    ]
    mixture = gmm_fit.fit_groups(groups)
    np.testing.assert_allclose(mixture.weights, [0.125, 0.375])
    np.testing.assert_allclose(mixture.means, [sitting, upright], atol=0.01)
    std = np.sqrt(np.diagonal(mixture.covars, axis1=1, axis2=2))
    for entry in (0, 9, 18, 69, 71):  # a hip's, a knee's, an ankle's bend and the tilt against gravity
        assert std[0, entry] == pytest.approx(np.hypot(0.09, 0.02), abs=0.004)
        assert std[1, entry] == pytest.approx(np.hypot(0.04, 0.02), abs=0.004)
    assert std[1, 1] == pytest.approx(np.hypot(0.09, 0.02), abs=0.004), "a hip's twist keeps the wide floor"
    gmm = PoseGMM(mixture.means, mixture.covars, mixture.weights, mirrored=True)
    np.testing.assert_allclose(gmm.mean, np.zeros(69), atol=0.01, err_msg="people stand")


# --- gravity


def gravity_mixture(mirrored=False, seed=7, count=3):
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 0.1, (count, 72, 72))
    covars = factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(72)
    means = np.concatenate([rng.normal(0, 0.3, (count, 69)), rng.normal([0, -1, 0], 0.2, (count, 3))], 1)
    return PoseGMM(means, covars, rng.dirichlet(np.ones(count)) / (1 + mirrored), mirrored), means, covars


def poses_and_downs(count=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(8)
    pose = 0.3 * torch.randn(count, 69, generator=generator, dtype=dtype)
    down = torch.nn.functional.normalize(
        torch.randn(count, 3, generator=generator, dtype=dtype) - torch.tensor([0, 2, 0], dtype=dtype), dim=1
    )
    return pose, down


def test_energy_without_down_is_the_marginals():
    gmm, means, covars = gravity_mixture()
    alone = PoseGMM(means[:, :69], covars[:, :69, :69], gmm.weights.numpy())
    pose, down = poses_and_downs()
    torch.testing.assert_close(gmm.energy(pose), alone.energy(pose))
    torch.testing.assert_close(gmm.precisions, alone.precisions)
    assert gmm.knows_gravity and not alone.knows_gravity
    assert gmm.means.shape == (3, 69) and gmm.joint_means.shape == (3, 72)
    with pytest.raises(
        ValueError, match="72 entries for the direction down, got one of 69; leave `down` out"
    ):
        alone.energy(pose, down)
    with pytest.raises(ValueError, match=r"expected down \[6, 3\], got \(2, 3\)"):
        gmm.energy(pose, down[:2])


def test_joint_energy_is_smplifys_formula_over_72_entries():
    gmm, means, covars = gravity_mixture()
    pose, down = poses_and_downs()
    rows = torch.cat([pose, down], 1).numpy()
    root_dets = np.exp(0.5 * np.linalg.slogdet(covars)[1])
    g = gmm.weights.numpy() * root_dets.min() / root_dets
    distance = np.einsum(
        "bmi,mij,bmj->bm", rows[:, None] - means, np.linalg.inv(covars), rows[:, None] - means
    )
    np.testing.assert_allclose(gmm.component_energies(pose, down), 0.5 * distance - np.log(g), rtol=1e-4)
    np.testing.assert_allclose(gmm.joint_precisions, np.linalg.inv(covars), rtol=1e-3, atol=1e-3)


def test_gravity_energy_is_the_conditional():
    gmm, means, covars = gravity_mixture(count=1)
    pose, down = poses_and_downs()
    gain = covars[0, 69:, :69] @ np.linalg.inv(covars[0, :69, :69])
    rest = down.numpy() - means[0, 69:] - (pose.numpy() - means[0, :69]) @ gain.T
    precision = np.linalg.inv(covars[0, 69:, 69:] - gain @ covars[0, :69, 69:])
    np.testing.assert_allclose(
        gmm.gravity_energy(pose, down),
        0.5 * np.einsum("bi,ij,bj->b", rest, precision, rest),
        rtol=1e-3,
        atol=1e-3,
    )


def test_mirrored_pose_and_gravity_have_the_same_energy():
    gmm, *_ = gravity_mixture(mirrored=True)
    pose, down = poses_and_downs()
    joint = torch.cat([pose, down], 1)
    turned = mirror_joint(joint)
    assert torch.equal(turned[:, 69:], down * torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.equal(mirror_joint(turned), joint)
    for energy in (gmm.energy, gmm.gravity_energy):
        torch.testing.assert_close(energy(pose, down), energy(turned[:, :69], turned[:, 69:]))
    assert gmm.component_energies(pose, down).shape == (6, 6)
    assert gmm.precisions.shape == (6, 69, 69) and gmm.joint_precisions.shape == (6, 72, 72)


def test_precisions_are_the_energies_curvature():
    gmm = gravity_mixture(mirrored=True)[0].double()
    pose, down = poses_and_downs(1, torch.float64)
    row = torch.cat([pose, down], 1)[0]
    for component in range(6):
        hessian = torch.autograd.functional.hessian(
            lambda x, c=component: gmm.component_energies(x[None, :69], x[None, 69:])[0, c], row
        )
        torch.testing.assert_close(hessian, gmm.joint_precisions[component], rtol=1e-4, atol=1e-4)
    pose.requires_grad_(), down.requires_grad_()
    for arguments, own in (((pose, down), gmm.joint_precisions), ((pose,), gmm.precisions)):
        value, gradient, precision = gmm.quadratic(*arguments)
        assert torch.equal(value, gmm.energy(*arguments))
        expected = torch.cat(torch.autograd.grad(value.sum(), arguments), 1)
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(precision, own[gmm.component_energies(*arguments).argmin(1)])
    assert torch.autograd.gradcheck(
        gmm.gravity_energy, (pose.requires_grad_(), down.requires_grad_()), fast_mode=True
    )


# --- bending axes and shape


def test_angle_energy_by_hand():
    pose = torch.zeros(3, 69)
    pose[1, 52], pose[1, 55], pose[1, 9], pose[1, 12] = -1, 1, 1, 1  # all bent naturally
    pose[2, 9] = -1  # left knee backward
    expected = [4.0, 4 * np.exp(-2), 3 + np.exp(2)]
    np.testing.assert_allclose(angle_energy(pose), expected, rtol=1e-6)
    double = pose.double().requires_grad_()
    assert torch.autograd.gradcheck(angle_energy, double)
    with pytest.raises(ValueError, match=r"expected body_pose \[B, 69\]"):
        angle_energy(torch.zeros(1, 72))


def test_people_bend_the_way_that_angle_energy_likes(held_out):
    assert angle_energy(held_out).median() < 2
    assert angle_energy(held_out).max() < 8


def test_shape_energy_by_hand():
    np.testing.assert_allclose(shape_energy(torch.tensor([[3.0, 4.0], [0.0, 0.0]])), [25, 0])


# --- rotations and checkpoints


def test_axis_angle_at_nothing_at_pi_and_between():
    generator = torch.Generator().manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(400, 3, dtype=torch.float64, generator=generator), dim=1)
    angle = torch.cat([torch.rand(397, 1, dtype=torch.float64, generator=generator) * np.pi])
    angle = torch.cat([angle, torch.tensor([[0.0], [1e-9], [np.pi]], dtype=torch.float64)])
    matrix = rotation_from_axis_angle(axis * angle)
    found = axis_angle_from_matrix(matrix)
    torch.testing.assert_close(rotation_from_axis_angle(found), matrix, atol=1e-9, rtol=0)
    torch.testing.assert_close(found[:398], (axis * angle)[:398], atol=1e-8, rtol=0)
    corners = torch.stack(
        [torch.diag(torch.tensor(d)) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])]
    )
    torch.testing.assert_close(axis_angle_from_matrix(corners).abs(), np.pi * torch.eye(3))


def test_axis_angle_gradient_is_finite_at_identity_and_right_elsewhere():
    eye = torch.eye(3)[None].requires_grad_()
    axis_angle_from_matrix(eye).sum().backward()
    assert eye.grad.isfinite().all()

    def there_and_back(axis_angle):
        return axis_angle_from_matrix(rotation_from_axis_angle(axis_angle))

    angles = torch.tensor([[0.3, -1.0, 0.2], [2.0, 1.0, -1.5], [1e-3, 0, 0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(there_and_back, angles.requires_grad_())


class _Bomb:
    def __reduce__(self):
        return (exec, ("import builtins; builtins.bomb_went_off = True",))


def test_checkpoints_load_without_running_their_code(tmp_path):
    import builtins

    weights = {"a.weight": torch.arange(6.0).reshape(2, 3)}
    torch.save({"state_dict": weights, "settings": _Bomb()}, tmp_path / "trainer.ckpt")
    loaded = read_state_dict(tmp_path / "trainer.ckpt")
    assert not hasattr(builtins, "bomb_went_off")
    assert loaded.keys() == {"a.weight"} and torch.equal(loaded["a.weight"], weights["a.weight"])
    torch.save(weights, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_state_dict(tmp_path / "old.pt")["a.weight"], weights["a.weight"])
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="expected a PyTorch checkpoint"):
        read_state_dict(tmp_path / "text.pt")
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "none.pt")


# --- VPoser


def v2_checkpoint(tmp_path, drop=()) -> tuple[Path, VPoserV2]:
    torch.manual_seed(0)
    network = VPoserV2(neurons=16, latent=8).eval()
    state = {f"vp_model.{k}": v for k, v in network.state_dict().items() if k not in drop}
    path = tmp_path / "v2.ckpt"
    torch.save({"state_dict": state | {"bm_train.f": torch.zeros(3)}, "hyper_parameters": _Bomb()}, path)
    return path, network


def test_v2_checkpoint_loads_by_path(tmp_path):
    path, network = v2_checkpoint(tmp_path)
    prior = load_vposer_prior(path)
    z = torch.randn(4, 8)
    rotations = rotation_from_axis_angle(prior.decode(z)[:, :63].reshape(4, 21, 3))
    torch.testing.assert_close(rotations, network.decode(z), atol=1e-5, rtol=0)
    assert (prior.decode(z)[:, 63:] == 0).all(), "hands rest"
    pose = 0.3 * torch.randn(4, 69)
    torch.testing.assert_close(prior.encode(pose), network.encode(pose[:, :63]).mean)


def test_incomplete_or_foreign_vposer_files_are_named(tmp_path):
    path, _ = v2_checkpoint(tmp_path, drop=("decoder_net.3.bias",))
    with pytest.raises(ValueError, match=r"got none called decoder_net\.3\.bias"):
        load_vposer_prior(path)
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"bodyprior_\* \(v1\) or encoder_net\.\* \(v2\), got conv1\.weight"):
        load_vposer_prior(tmp_path / "other.pt")
    with pytest.raises(ValueError, match="got a folder"):
        load_vposer_prior(tmp_path)


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "human_body_prior", None)
    monkeypatch.setitem(sys.modules, "human_body_prior.train.vposer_smpl", None)
    with pytest.raises(ImportError, match="pip install --no-deps human-body-prior"):
        load_vposer_prior()


def test_chain_is_the_decoders_derivative(tmp_path):
    prior = load_vposer_prior(v2_checkpoint(tmp_path)[0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    z, step = torch.randn(2, 3, 8, dtype=torch.float64, generator=generator).unbind()
    d_pose = torch.eye(69, dtype=torch.float64).expand(3, -1, -1)
    slope = torch.einsum("bpl,bl->bp", prior.chain(d_pose, z), step)
    numeric = (prior.decode(z + 1e-6 * step) - prior.decode(z - 1e-6 * step)) / 2e-6
    torch.testing.assert_close(slope, numeric, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(prior.energy(z), (z**2).sum(1))
    prior.gmm = gravity_mixture(mirrored=True)[0].double()
    down = torch.tensor([[0.0, -1.0, 0.0]], dtype=torch.float64).expand(3, -1)
    gravity = prior.energy(z, down) - prior.energy(z)
    torch.testing.assert_close(gravity, 2 * prior.gmm.gravity_energy(prior.decode(z), down))
    value, gradient, curvature = prior.quadratic(z, down)
    torch.testing.assert_close(value, prior.energy(z, down))
    ahead, behind = (prior.energy(z + sign * 1e-6 * step, down) for sign in (1, -1))
    torch.testing.assert_close((gradient[:, :8] * step).sum(1), (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-5)
    assert torch.equal(curvature[0, :8, :8], 2 * torch.eye(8, dtype=torch.float64))
    precision = prior.gmm.quadratic(prior.decode(z), down)[2]
    torch.testing.assert_close(curvature[:, 8:, 8:], 2 * precision[:, 69:, 69:])


@needs_human_body_prior
def test_shipped_vposer_rebuilds_held_out_poses(held_out):
    prior = load_vposer_prior()
    assert not prior.train().network.training
    with torch.no_grad():
        rebuilt = prior.decode(prior.encode(held_out))
    root = torch.zeros(len(held_out), 3)
    errors = torch_joints(torch.cat([root, rebuilt], 1)) - torch_joints(torch.cat([root, held_out], 1))
    mean_mm = 1000 * errors[:, :22].norm(dim=2).mean()
    # Learned poses come back to 18 mm; these are motions that it has not seen.
    assert mean_mm < 40
    assert prior.starts(3).shape == (3, 32) and (prior.starts(3)[0] == 0).all()


def test_torch_joints_are_the_same_skeleton(held_out):
    pose = torch.cat([torch.ones(len(held_out), 3), held_out], 1).double()
    np.testing.assert_allclose(torch_joints(pose), smpl_joints(pose.numpy()), atol=1e-7)
