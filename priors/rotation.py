"""Rotations as axis-angle, matrices and six numbers, with finite gradients everywhere.

Not the package roma: it has no left Jacobian, which the solver lives on, and its way from matrices to axis-angles picks
rows by a mask, for which a GPU's host must wait.
"""

from __future__ import annotations

import torch


def rotation_from_axis_angle(axis_angle: torch.Tensor) -> torch.Tensor:
    """[..., 3] rad -> [..., 3, 3]; Rodrigues' formula, smooth at 0 and exact under reflection."""
    squared = (axis_angle * axis_angle).sum(-1)[..., None, None]
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine_term = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    cosine_term = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / (angle * angle))
    cross = cross_matrix(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + sine_term * cross + cosine_term * (cross @ cross)


def rotation_and_jacobian(axis_angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`rotation_from_axis_angle` [..., 3, 3], and its left Jacobian [..., 3, 3]: d(rotation vector in fixed axes) /
    d(axis_angle), identity at 0. Together they cost little more than one."""
    squared = (axis_angle * axis_angle).sum(-1)[..., None, None]
    small = squared < 1e-6
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine = angle.sin() / angle
    first = torch.where(small, 1 - squared / 6 * (1 - squared / 20), sine)
    second = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / safe)
    third = torch.where(small, 1 / 6 - squared / 120, (1 - sine) / safe)
    cross = cross_matrix(axis_angle)
    twice = axis_angle[..., :, None] * axis_angle[..., None, :]
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    twice = twice - squared * eye  # cross @ cross
    return eye + first * cross + second * twice, eye + second * cross + third * twice


def cross_matrix(vector: torch.Tensor) -> torch.Tensor:
    """[..., 3] -> [..., 3, 3] with cross_matrix(a) @ b = a x b."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape, 3)


def _quaternion_from_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """Unit quaternions [N, 4], wxyz with w >= 0, of rotation matrices [N, 3, 3].

    Of the four ways to solve for a quaternion the one that divides by its largest entry is used, so that
    nothing is divided by less than 1/2.
    """
    m = matrix
    trace_terms = torch.stack(
        [
            1 + m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2],
            1 + m[:, 0, 0] - m[:, 1, 1] - m[:, 2, 2],
            1 - m[:, 0, 0] + m[:, 1, 1] - m[:, 2, 2],
            1 - m[:, 0, 0] - m[:, 1, 1] + m[:, 2, 2],
        ],
        dim=1,
    )  # 4 w^2, 4 x^2, 4 y^2, 4 z^2
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 1, 0] + m[:, 0, 1], m[:, 0, 2] + m[:, 2, 0], m[:, 2, 1] + m[:, 1, 2]
    ww, xx, yy, zz = trace_terms.unbind(1)
    rows = torch.stack(
        [
            torch.stack([ww, wx, wy, wz], 1),
            torch.stack([wx, xx, xy, xz], 1),
            torch.stack([wy, xy, yy, yz], 1),
            torch.stack([wz, xz, yz, zz], 1),
        ],
        dim=1,
    )  # row k: 4 q_k (w, x, y, z)
    largest = trace_terms.argmax(dim=1)
    quaternion = torch.nn.functional.normalize(rows[torch.arange(len(m), device=m.device), largest], dim=1)
    return torch.where(quaternion[:, :1] < 0, -quaternion, quaternion)


def axis_angle_from_matrix(matrix: torch.Tensor) -> torch.Tensor:
    """Rotation matrices [..., 3, 3] -> axis-angle [..., 3], radians, length in [0, pi].

    Values and gradients stay finite at angle 0; at exactly pi either of the two axes may be returned.
    """
    quaternion = _quaternion_from_matrix(matrix.reshape(-1, 3, 3))
    w, xyz = quaternion[:, :1], quaternion[:, 1:]
    squared = xyz.square().sum(1, keepdim=True)
    small = squared < 1e-12
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    angle = 2 * torch.atan2(sine, w)
    scale = torch.where(small, 2 / w.clamp(min=0.5), angle / sine)
    return (scale * xyz).reshape(*matrix.shape[:-2], 3)


def rotation_from_6d(sixd: torch.Tensor) -> torch.Tensor:
    """[..., 6] -> rotation matrices [..., 3, 3]: Gram-Schmidt (Zhou et al., CVPR 2019).

    SPIN's order, which EFT, DSR and VPoser share: the six numbers are the rows of a 3 x 2 matrix, a rotation's first
    two columns.
    """
    first, second = sixd.unflatten(-1, (3, 2)).unbind(-1)
    first = torch.nn.functional.normalize(first, dim=-1)
    second = torch.nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], -1)


def sixd_from_rotation(rotations: torch.Tensor) -> torch.Tensor:
    """[..., 3, 3] -> [..., 6], which `rotation_from_6d` turns back."""
    return rotations[..., :2].flatten(-2)
