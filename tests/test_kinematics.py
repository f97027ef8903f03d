"""Closed-form points and derivatives against the body model and autograd."""

import torch
from conftest import toy_arrays

from fitter.body.model import BodyModel
from fitter.body.points import KeypointModel
from priors.rotation import rotation_and_jacobian, rotation_from_axis_angle


def body_points(body, betas, body_pose):
    pose = torch.cat([torch.zeros_like(body_pose[:, :3]), body_pose], 1)
    points = body.points(body(betas, pose, with_vertices=False))
    return points - points[:, :1]


def test_points_and_derivatives_equal_autograd():
    arrays = toy_arrays()
    generator = torch.Generator().manual_seed(0)
    arrays["weights"] = torch.rand(144, 24, generator=generator, dtype=torch.float64).softmax(1).numpy()
    body = BodyModel(arrays, "toy").double()
    betas = torch.randn(2, 10, generator=generator, dtype=torch.float64)
    pose = 0.8 * torch.randn(2, 69, generator=generator, dtype=torch.float64)
    pose[0, :9] = 0  # the series at angle 0
    model, kind = KeypointModel(body, torch.eye(35)[None]), torch.tensor([0, 0])
    rotations, jacobians = rotation_and_jacobian(pose.reshape(2, 23, 3))
    posed = model(betas, rotations, kind)
    torch.testing.assert_close(posed.points, body_points(body, betas, pose), atol=1e-12, rtol=0)
    torch.testing.assert_close(posed.joints, posed.points[:, :24], atol=1e-12, rtol=0)
    d_betas, d_pose = torch.autograd.functional.jacobian(lambda b, p: body_points(body, b, p), (betas, pose))
    rows = torch.arange(2)
    turned = torch.randn(2, 35, 2, 3, generator=generator, dtype=torch.float64)
    by_pose, by_shape = model.jacobian(posed, turned, jacobians)
    torch.testing.assert_close(by_pose, turned @ d_pose[rows, :, :, rows], atol=1e-9, rtol=0)
    torch.testing.assert_close(by_shape, turned @ d_betas[rows, :, :, rows], atol=1e-12, rtol=0)


def test_keypoints_are_the_mapping_of_the_points():
    body, generator = BodyModel(toy_arrays(), "toy").double(), torch.Generator().manual_seed(2)
    targets = torch.rand(3, 25, 35, generator=generator, dtype=torch.float64).softmax(-1)
    betas, pose = (torch.randn(3, size, generator=generator, dtype=torch.float64) for size in (10, 69))
    model, kind = KeypointModel(body, targets), torch.tensor([2, 0, 1])
    rotations, jacobians = rotation_and_jacobian(pose.reshape(3, 23, 3))
    posed = model(betas, rotations, kind)
    eye = torch.eye(3, dtype=torch.float64).expand(3, 25, 3, 3)
    alone = KeypointModel(body, targets[2:])
    first = alone(betas[:1], rotations[:1], torch.tensor([0]))
    for found, expected in zip(
        model.jacobian(posed, eye, jacobians), alone.jacobian(first, eye[:1], jacobians[:1]), strict=True
    ):
        torch.testing.assert_close(found[:1], expected)
    torch.testing.assert_close(
        posed.points, targets[kind] @ body_points(body, betas, pose), atol=1e-12, rtol=0
    )


def test_points_include_pose_dependent_offsets():
    arrays = toy_arrays()
    generator = torch.Generator().manual_seed(1)
    arrays["posedirs"] = 0.01 * torch.randn(144, 3, 207, generator=generator).numpy()
    body = BodyModel(arrays, "toy").double()
    betas, pose = torch.zeros(1, 10).double(), 0.3 * torch.ones(1, 69).double()
    model = KeypointModel(body, torch.eye(35)[None])
    rotations = rotation_from_axis_angle(pose.reshape(1, 23, 3))
    points = model(betas, rotations, torch.tensor([0])).points
    torch.testing.assert_close(points, body_points(body, betas, pose), atol=1e-12, rtol=0)


def test_left_jacobian_is_the_derivative_of_the_rotation():
    axis_angle = torch.tensor([[0.3, -1.2, 2.0], [0, 0, 0]], dtype=torch.float64)
    step = torch.tensor([1e-6, 2e-6, -1e-6], dtype=torch.float64)
    relative = rotation_from_axis_angle(axis_angle + step) @ rotation_from_axis_angle(axis_angle).transpose(
        1, 2
    )
    omega = torch.stack([relative[:, 2, 1], relative[:, 0, 2], relative[:, 1, 0]], -1)
    torch.testing.assert_close(rotation_and_jacobian(axis_angle)[1] @ step, omega, atol=1e-11, rtol=0)
