"""Rotation matrices to axis-angle, with finite gradients everywhere, and from and to six numbers."""

from __future__ import annotations

import torch


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
    quaternion = torch.nn.functional.normalize(rows[torch.arange(len(m)), largest], dim=1)
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
