"""Joints and landmarks of the body with their derivatives, in closed form: what the keypoint fit moves.

All 35 points are skinned points: a joint hangs on its parent, a landmark on its vertex's weights. With G_j the
joints' rotations and p_j their places, x_k = sum_j w_kj (G_j (r_k - r_j) + p_j). A turn omega about joint j moves
what hangs below j by omega x (x - p_j).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.body.model import BodyModel, cross_matrix, rotation_from_axis_angle
from priors.skeleton import JOINT_PARENTS


@dataclass(frozen=True)
class PosedPoints:
    """points [N, 35, 3] m about the pelvis joint; d_pose [N, 35, 3, 69] m/rad; d_betas [N, 35, 3, 10] m."""

    points: Tensor
    d_pose: Tensor
    d_betas: Tensor


class PointModel:
    """The 24 joints and 11 landmarks of a BodyModel."""

    def __init__(self, body: BodyModel):
        dtype = body.template.dtype
        parents = [0, *JOINT_PARENTS[1:]]
        self.levels = joint_levels()
        self.parents = torch.tensor(parents)
        below = torch.eye(24, dtype=dtype)  # below[j, i] = 1 where i hangs on j, or is j
        for joint in range(23, 0, -1):
            below[parents[joint]] += below[joint]
        self.below = below
        hang = torch.eye(24, dtype=dtype)[self.parents]
        self.weights = torch.cat([hang, body.weights[body.landmark_ids]])
        self.rest = torch.cat([body.joint_template, body.template[body.landmark_ids]])
        self.rest_dirs = torch.cat([body.joint_shape_dirs, body.shape_dirs[body.landmark_ids]])
        self.pose_dirs = None
        if body.has_pose_dirs:
            self.pose_dirs = body.pose_dirs.reshape(207, -1, 3)[:, body.landmark_ids]

    def __call__(self, betas: Tensor, body_pose: Tensor) -> PosedPoints:
        """betas [N, 10], body_pose [N, 69] rad, root unturned -> PosedPoints.

        The derivatives leave out SMPL's pose-dependent landmark offsets (millimetres); the points do not.
        """
        rotations = rotation_from_axis_angle(body_pose.reshape(-1, 23, 3))
        rest = self.rest + torch.einsum("kcs,ns->nkc", self.rest_dirs, betas)
        turned = self._chain(rotations)
        parent_turned = turned[:, self.parents]
        bones = (rest[:, :24] - rest[:, self.parents])[..., None]
        places = torch.einsum("ji,njc->nic", self.below, (parent_turned @ bones)[..., 0])
        if self.pose_dirs is not None:
            features = (rotations - torch.eye(3, dtype=betas.dtype)).reshape(-1, 207)
            offsets = torch.einsum("nf,fkc->nkc", features, self.pose_dirs)
            rest = torch.cat([rest[:, :24], rest[:, 24:] + offsets], 1)
        arms = rest[:, :, None] - rest[:, None, :24]
        parts = torch.einsum("njab,nkjb->nkja", turned, arms) + places[:, None]
        parts = parts * self.weights[:, :, None]
        points = parts.sum(2)
        return PosedPoints(
            points,
            self._d_pose(parts, places, parent_turned, body_pose),
            self._d_betas(turned, parent_turned),
        )

    def _chain(self, rotations: Tensor) -> Tensor:
        """Rotation of every joint against the root, [N, 24, 3, 3], level by level."""
        turned = [torch.eye(3, dtype=rotations.dtype).expand(len(rotations), 1, 3, 3)]
        order = [0]
        for level in self.levels:
            above = torch.cat(turned, 1)[:, [order.index(JOINT_PARENTS[j]) for j in level]]
            turned.append(above @ rotations[:, [j - 1 for j in level]])
            order += level
        inverse = [order.index(j) for j in range(24)]
        return torch.cat(turned, 1)[:, inverse]

    def _d_pose(self, parts: Tensor, places: Tensor, parent_turned: Tensor, body_pose: Tensor) -> Tensor:
        moved = torch.einsum("ji,nkic->nkjc", self.below[1:], parts)
        moved = moved - (self.weights @ self.below[1:].T)[:, :, None] * places[:, None, 1:]
        axes = parent_turned[:, 1:] @ left_jacobian(
            body_pose.reshape(-1, 23, 3)
        )  # [N, 23, 3, 3]: columns = axes
        turn = torch.linalg.cross(axes[:, None], moved[..., None].expand(*moved.shape, 3), dim=-2)
        return turn.transpose(2, 3).flatten(3)

    def _d_betas(self, turned: Tensor, parent_turned: Tensor) -> Tensor:
        joint_dirs = self.rest_dirs[:24]
        steps = torch.einsum("njab,jbs->njas", parent_turned, joint_dirs - joint_dirs[self.parents])
        place_dirs = torch.einsum("ji,njas->nias", self.below, steps)
        own = torch.einsum("kj,njab->nkab", self.weights, turned) @ self.rest_dirs
        joint_part = place_dirs - torch.einsum("njab,jbs->njas", turned, joint_dirs)
        return own + torch.einsum("kj,njas->nkas", self.weights, joint_part)


def joint_levels() -> list[list[int]]:
    """Joints 1..23 by their distance from the root."""
    depth = [0]
    for joint in range(1, 24):
        depth.append(depth[JOINT_PARENTS[joint]] + 1)
    return [[j for j in range(24) if depth[j] == level] for level in range(1, max(depth) + 1)]


def left_jacobian(axis_angle: Tensor) -> Tensor:
    """d(rotation vector in fixed axes) / d(axis_angle), [..., 3] -> [..., 3, 3]; identity at 0."""
    squared = (axis_angle * axis_angle).sum(-1)[..., None, None]
    small = squared < 1e-6
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / safe)
    second = torch.where(small, 1 / 6 - squared / 120, (angle - angle.sin()) / (safe * angle))
    cross = cross_matrix(axis_angle)
    return torch.eye(3, dtype=axis_angle.dtype) + first * cross + second * (cross @ cross)
