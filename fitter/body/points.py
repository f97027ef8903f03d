"""Keypoints of the body with their derivatives, in closed form: what the keypoint fit moves.

A keypoint is a weighted sum of joints and landmarks, and those are skinned points, so y_k = sum_j (G_j q_kj + m_kj p_j)
with G_j the joints' rotations, p_j their places, m_kj the share of keypoint k that hangs on joint j and q_kj the arm
from joint j to that share, linear in the shape. A turn omega about joint j moves what hangs below it by omega x (.).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fitter.body.model import BodyModel
from fitter.rows import product
from priors.skeleton import JOINT_PARENTS


@dataclass(frozen=True)
class PosedKeypoints:
    """points [N, K, 3] and joints [N, 24, 3] m about the pelvis joint, root unturned; the rest is for `jacobian`."""

    points: Tensor
    joints: Tensor
    kind: Tensor  # [N]
    parts: Tensor  # [N, K, 3, 24]: what of each keypoint hangs on each joint
    turned: Tensor  # [N, 3, 3, 24]
    parent_turned: Tensor  # [N, 3, 3, 24]


class KeypointModel(nn.Module):
    """Keypoints of a BodyModel: of each of S kinds K weighted sums of its 24 joints and 11 landmarks, targets
    [S, K, 35]."""

    def __init__(self, body: BodyModel, targets: Tensor):
        super().__init__()
        targets = targets.to(body.template)
        parents = [0, *JOINT_PARENTS[1:]]
        self.levels = joint_levels()
        below = torch.eye(24, dtype=body.template.dtype)  # below[j, i] = 1 where i hangs on j, or is j
        for joint in range(23, 0, -1):
            below[parents[joint]] += below[joint]
        self.register_buffer("parents", torch.tensor(parents))
        self.register_buffer("hung_on", below)  # [j, i]: summed over j, steps become places
        self.register_buffer(
            "sums_below", below[1:].T.contiguous()
        )  # [i, j]: summed over i, what hangs below j
        hang = torch.eye(24, dtype=body.template.dtype)[self.parents]
        ids = body.landmark_ids.cpu()
        weights = torch.cat([hang, body.weights.cpu()[ids]])
        rest = torch.cat([body.joint_template.cpu(), body.template.cpu()[ids]])
        dirs = torch.cat([body.joint_shape_dirs.cpu(), body.shape_dirs.cpu()[ids]])
        rest = torch.cat([rest[..., None], dirs], -1)  # [35, 3, 11]: for the mean body, and by shape
        self.register_buffer("bones", (rest[:24] - rest[self.parents]).permute(1, 0, 2).contiguous())
        pose_dirs = torch.zeros(0, 11, 3, dtype=body.template.dtype)
        if body.has_pose_dirs:
            pose_dirs = body.pose_dirs.cpu().reshape(207, -1, 3)[:, ids]
        self.register_buffer("pose_dirs", pose_dirs)
        self.register_buffer("targets", targets.cpu())
        self.register_buffer("landmark_weights", weights[24:])
        share = self.targets @ weights
        self.register_buffer("share", share)  # [S, K, 24] of each joint
        # by entry of the body pose, three a joint: of its joint and all that hang on it
        self.register_buffer("entries_below", self.sums_below.repeat_interleave(3, 1))  # [i, 69]
        self.register_buffer("entry_below", share @ self.entries_below)  # [S, K, 69]
        self.register_buffer("places", share @ self.hung_on.T)  # [S, K, 24]
        arms = torch.einsum("skt,tj,tcb->skcjb", self.targets, weights, rest)
        arms = arms - torch.einsum("skj,jcb->skcjb", share, rest[:24])  # [S, K, 3, 24, 11] m
        self.register_buffer("arms", arms.permute(0, 4, 1, 2, 3).flatten(2).contiguous())  # by shape
        self.register_buffer(
            "arms_by", arms[..., 1:].permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2).contiguous()
        )
        order = [0, *(joint for level in self.levels for joint in level)]
        self.register_buffer("inverse_order", torch.tensor([order.index(joint) for joint in range(24)]))
        at = {joint: place for level in [[0], *self.levels] for place, joint in enumerate(level)}
        for number, level in enumerate(self.levels):
            above = torch.tensor([at[JOINT_PARENTS[joint]] for joint in level])
            self.register_buffer(f"above_{number}", above)
            self.register_buffer(f"level_{number}", torch.tensor(level) - 1)
        self.to(body.template.device)

    def forward(self, betas: Tensor, rotations: Tensor, kind: Tensor) -> PosedKeypoints:
        """betas [N, 10], rotations [N, 23, 3, 3] of joints 1..23 against their parents, root unturned; kind [N] int64,
        which of the S each row's keypoints are of.

        SMPL's pose-dependent offsets of landmarks (millimetres) are in the points and not in the derivatives.
        """
        people, count = len(betas), self.targets.shape[1]
        shape = torch.cat([torch.ones_like(betas[:, :1]), betas], 1)
        turned = self._chain(rotations).permute(0, 2, 3, 1).contiguous()
        parent_turned = turned[..., self.parents]
        bones = (self.bones * shape[:, None, None]).sum(-1)  # [N, 3, 24]
        joints = _turned(parent_turned, bones) @ self.hung_on
        arms = self._of_kind(shape, self.arms, kind).reshape(people, count, 3, 24)
        if len(self.pose_dirs):
            arms = arms + self._offsets(rotations, self.targets[kind])
        parts = _turned(turned[:, None], arms) + self.share[kind][:, :, None] * joints[:, None]
        return PosedKeypoints(parts.sum(-1), joints.transpose(1, 2), kind, parts, turned, parent_turned)

    def jacobian(self, posed: PosedKeypoints, rows: Tensor, left_jacobians: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of rows [N, K, R, 3] times the keypoints: by body pose [N, K, R, 69] and by shape
        [N, K, R, 10]. left_jacobians: [N, 23, 3, 3] of the joints' axis-angles (`priors.rotation`)."""
        people, count = rows.shape[:2]
        joints = posed.joints.transpose(1, 2)[:, None, :, 1:].repeat_interleave(3, -1)
        hanging = posed.parts @ self.entries_below - self.entry_below[posed.kind][:, :, None] * joints
        axes = posed.parent_turned[..., 1:].permute(0, 3, 1, 2) @ left_jacobians
        a, b, c = axes.transpose(1, 2).reshape(people, 3, 1, 69).unbind(1)  # [N, 1, entry] each
        x, y, z = hanging.unbind(2)  # [N, K, entry] each
        # as the entry turns what hangs below its joint
        turned = (b * z - c * y, c * x - a * z, a * y - b * x)
        by_x, by_y, by_z = (row[..., None] for row in rows.unbind(-1))  # [N, K, R, 1] each
        d_pose = by_x * turned[0][:, :, None]
        d_pose.addcmul_(by_y, turned[1][:, :, None]).addcmul_(by_z, turned[2][:, :, None])
        d_shape = self._of_kind(
            posed.turned.reshape(3 * people, 72), self.arms_by, posed.kind.repeat_interleave(3)
        )
        d_shape = d_shape.reshape(people, 3, count, 10).transpose(1, 2)
        steps = (posed.parent_turned[..., None] * self.bones[..., 1:]).sum(2)  # [N, 3, 24, 10]
        places = torch.bmm(self.places[posed.kind], steps.transpose(1, 2).reshape(people, 24, 30))
        return d_pose, rows @ (d_shape + places.reshape(people, count, 3, 10))

    def _of_kind(self, rows: Tensor, matrices: Tensor, kind: Tensor) -> Tensor:
        """Each of rows [N, I] times its kind's of matrices [S, I, O]: all times all, quicker than to gather; on a CPU
        all times those of the kinds that are there."""
        there = set(kind.tolist()) if kind.device.type == "cpu" else range(len(matrices))
        first, *others = sorted(there) or [0]
        found = product(rows, matrices[first])
        for number in others:
            found = torch.where((kind == number)[:, None], product(rows, matrices[number]), found)
        return found

    def _offsets(self, rotations: Tensor, targets: Tensor) -> Tensor:
        """How pose-dependent offsets of landmarks lengthen the arms, [N, K, 3, 24]."""
        eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        features = (rotations - eye).reshape(-1, 207)
        moved = torch.einsum("nf,flc->nlc", features, self.pose_dirs)
        return torch.einsum("nkl,lj,nlc->nkcj", targets[..., 24:], self.landmark_weights, moved)

    def _chain(self, rotations: Tensor) -> Tensor:
        """Rotation of every joint against the root, [N, 24, 3, 3], level by level."""
        root = torch.eye(3, dtype=rotations.dtype, device=rotations.device).expand(len(rotations), 1, 3, 3)
        turned = [root]
        for number in range(len(self.levels)):
            above, own = getattr(self, f"above_{number}"), getattr(self, f"level_{number}")
            turned.append(turned[-1].index_select(1, above) @ rotations.index_select(1, own))
        return torch.cat(turned, 1).index_select(1, self.inverse_order)


def _turned(rotations: Tensor, vectors: Tensor) -> Tensor:
    """[..., 3, 3, J] and [..., 3, J] -> [..., 3, J]; written out, for thousands of 3 x 3 products cost more."""
    x, y, z = (rotations[..., i, :] * vectors[..., i : i + 1, :] for i in range(3))
    return x + y + z


def joint_levels() -> list[list[int]]:
    """Joints 1..23 by their distance from the root; a joint's parent is in the level before."""
    depth = [0]
    for joint in range(1, 24):
        depth.append(depth[JOINT_PARENTS[joint]] + 1)
    return [[j for j in range(24) if depth[j] == level] for level in range(1, max(depth) + 1)]
