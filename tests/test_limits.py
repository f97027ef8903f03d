"""Joint limits by hand, and which way is down for a tilted camera."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from priors.pose_gmm import load_pose_gmm
from priors.simple import (
    LIMIT_SOFTNESS_DEG,
    LIMITS_DEG,
    down_in_camera,
    joint_limits,
    limit_energy,
    limit_excess,
)
from priors.skeleton import JOINT_NAMES, mirror_pose

HELD_OUT = Path(__file__).parent / "data" / "heldout_poses.npz"


def bent(joint: str, axis: str, degrees: float) -> torch.Tensor:
    """Body pose [1, 69] with one joint turned about x, y or z."""
    pose = torch.zeros(1, 23, 3, dtype=torch.float64)
    pose[0, JOINT_NAMES.index(joint) - 1, "xyz".index(axis)] = math.radians(degrees)
    return pose.reshape(1, 69)


def random_poses(count: int, spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return spread * torch.randn(count, 69, generator=generator, dtype=torch.float64)


# --- joint limits


def test_nothing_is_charged_within_the_limits():
    assert limit_energy(torch.zeros(1, 69)).item() == 0
    low, high = (torch.tensor(ends).clamp(-10, 10)[None] for ends in joint_limits())
    for share in (0.001, 0.3, 0.999):
        assert limit_energy(low + share * (high - low)).item() == 0
    for name in ("left_hip", "right_shoulder", "left_wrist"):  # nothing limits these
        for axis in "xyz":
            assert limit_energy(bent(name, axis, 500)).item() == 0


@pytest.mark.parametrize(
    ("joint", "axis", "end", "way"),
    [
        ("left_knee", "x", -3, -1),  # backward
        ("right_knee", "x", -3, -1),
        ("left_knee", "x", 150, 1),
        ("left_elbow", "y", 5, 1),  # backward
        ("right_elbow", "y", -5, -1),
        ("right_elbow", "y", 150, 1),
        ("right_knee", "z", 8, 1),
        ("left_ankle", "x", 55, 1),
        ("spine2", "x", -20, -1),
        ("head", "z", 35, 1),
    ],
)
@pytest.mark.parametrize("beyond", [0.0, 3.0, 7.5])
def test_half_the_squared_excess_in_units_of_three_degrees(joint, axis, end, way, beyond):
    pose = bent(joint, axis, end + way * beyond)
    assert limit_energy(pose).item() == pytest.approx(0.5 * (beyond / 3) ** 2, abs=1e-9)
    excess = limit_excess(pose)
    assert excess.sum().item() == pytest.approx(way * beyond / 3, abs=1e-9)
    assert (excess.abs() > 1e-9).sum() == (beyond > 0)
    assert limit_energy(bent(joint, axis, end - way * 1.0)).item() == 0  # a degree inside


def test_excesses_add_up_and_people_do_not_influence_each_other():
    poses = torch.cat([bent("left_knee", "x", -6), bent("head", "z", 41), torch.zeros(1, 69).double()])
    energy = limit_energy(poses)
    torch.testing.assert_close(energy, torch.tensor([0.5, 2.0, 0.0]).double())
    torch.testing.assert_close(limit_energy(poses[:1] + poses[1:2]), energy[:1] + energy[1:2])
    assert LIMIT_SOFTNESS_DEG == 3


def test_limits_are_the_tables_and_mirrored():
    low, high = (ends.reshape(23, 3) for ends in joint_limits())
    limited = {JOINT_NAMES[j + 1] for j in range(23) if np.isfinite(high[j]).any()}
    assert limited == {
        name for name in JOINT_NAMES if name.removeprefix("left_").removeprefix("right_") in LIMITS_DEG
    }
    assert (low < 0).all() and (high > 0).all()  # the rest pose is within
    poses = random_poses(20, 1.0)
    assert (limit_energy(poses) > 10).all()
    torch.testing.assert_close(limit_energy(mirror_pose(poses)), limit_energy(poses))
    torch.testing.assert_close(limit_excess(mirror_pose(poses)).square().sum(1), 2 * limit_energy(poses))


def test_limit_gradient():
    poses = random_poses(2, 0.8)
    distance = torch.stack([(poses - torch.tensor(ends)).abs() for ends in joint_limits()])
    assert distance.min() > 1e-3  # kinks of the second derivative lie away, gradcheck moves by 1e-6
    assert torch.autograd.gradcheck(limit_energy, poses.requires_grad_())
    assert torch.autograd.gradgradcheck(limit_energy, poses)


def test_people_keep_within_the_limits():
    """Motion capture: noise and other definitions of a joint's axes leave some degrees, on some people."""
    with np.load(HELD_OUT, allow_pickle=False) as data:
        energy = limit_energy(torch.tensor(data["pose"][:, 3:]).double())
    assert energy.median() < 0.1 and energy.quantile(0.9) < 5
    assert limit_energy(load_pose_gmm().means.double()).max() < 0.5  # what the prior likes best
    assert limit_energy(bent("left_knee", "x", -30)).item() > 40


# --- gravity in the camera's frame


def down(pitch_deg: float, roll_deg: float) -> list[float]:
    return down_in_camera(torch.tensor([[pitch_deg, roll_deg]], dtype=torch.float64).deg2rad())[0].tolist()


def test_down_by_hand():
    assert down(0, 0) == pytest.approx([0, 1, 0])
    s, c = math.sin(math.radians(10)), math.cos(math.radians(10))
    assert down(10, 0) == pytest.approx([0, c, s])  # looking down: the floor lies ahead
    assert down(0, 10) == pytest.approx([-s, c, 0])  # the horizon falls to the picture's right
    assert down(90, 0) == pytest.approx([0, 0, 1], abs=1e-12)


def test_down_is_where_a_turned_camera_finds_it():
    """World to camera: turned by pitch about the camera's x axis, then by roll about its view."""
    pitch, roll = math.radians(17), math.radians(-6)
    about_x = np.array(
        [[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]]
    )
    about_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    assert down(17, -6) == pytest.approx((about_z @ about_x @ [0, 1, 0]).tolist())


def test_down_is_a_unit_vector_with_a_gradient_and_mirrors():
    tilt = random_poses(4, 0.4)[:, :2]
    torch.testing.assert_close(down_in_camera(tilt).norm(dim=1), torch.ones(4).double())
    mirrored = down_in_camera(tilt * torch.tensor([1.0, -1.0]).double())
    torch.testing.assert_close(mirrored, down_in_camera(tilt) * torch.tensor([-1.0, 1.0, 1.0]).double())
    assert torch.autograd.gradcheck(down_in_camera, tilt.requires_grad_())
