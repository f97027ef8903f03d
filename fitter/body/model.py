"""The body: an SMPL-format model as typed stages, betas and pose -> joints and vertices.

Loper et al., SMPL (2015), equations 2-10. Body frame: metres, Y up, facing +Z, +X to the person's left.

Not smplx.SMPL: that unpickles its file, skins all 6,890 vertices to get at the joints, and gives no derivatives but
autograd's; a keypoint fit needs 35 points with theirs (`kinematics.py`), some hundred times a person, bit for bit the
same in any batch. Its landmark table is used, `tests/test_body.py` holds both equal, and `smpl_file` writes what it
reads.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from smplx.vertex_ids import vertex_ids as smplx_vertex_ids
from torch import Tensor, nn

from fitter.body.smpl_file import OPEN_BODY, read_smpl_file
from fitter.rows import as_of_several, product
from priors.rotation import rotation_from_axis_angle
from priors.skeleton import JOINT_PARENTS

# fmt: off
LANDMARK_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)
SMPLX_LANDMARKS = ("nose", "leye", "reye", "lear", "rear", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
                   "RSmallToe", "RHeel")
# fmt: on


@dataclass(frozen=True)
class PosedBody:
    """joints [B, 24, 3] m, landmarks [B, 11, 3] m (LANDMARK_NAMES), vertices [B, V, 3] m or None; body frame."""

    joints: Tensor
    landmarks: Tensor
    vertices: Tensor | None


class BodyModel(nn.Module):
    """An SMPL-format body with 10 shape components; build it with `load_body`."""

    template: Tensor  # [V, 3] m
    faces: Tensor  # [F, 3] int32

    def __init__(self, arrays: dict[str, np.ndarray], name: str):
        super().__init__()
        self.name = name
        self.vertex_count = len(arrays["v_template"])
        regressor = np.asarray(arrays["J_regressor"], np.float64)
        shape_dirs = np.asarray(arrays["shapedirs"][:, :, :10], np.float64)
        template = np.asarray(arrays["v_template"], np.float64)
        self._keep("template", template)
        self._keep("shape_dirs", shape_dirs)
        self._keep("pose_dirs", arrays["posedirs"].reshape(-1, 207).T)
        self._keep("weights", arrays["weights"])
        self._keep("joint_template", regressor @ template)
        self._keep("joint_shape_dirs", np.einsum("jv,vcs->jcs", regressor, shape_dirs))
        self.has_pose_dirs = bool(np.abs(arrays["posedirs"]).max() > 0)
        by_axis = self.shape_dirs.permute(2, 1, 0).contiguous()  # [10, 3, V]
        self.register_buffer("dirs_by_axis", by_axis, persistent=False)
        self.register_buffer("faces", torch.as_tensor(arrays["f"], dtype=torch.int32))
        self.register_buffer("landmark_ids", torch.as_tensor(arrays["landmark_ids"], dtype=torch.int64))
        self.register_buffer("part_ids", torch.as_tensor(arrays["part_ids"], dtype=torch.int64))
        self.register_buffer("parents", torch.tensor(JOINT_PARENTS))

    def _keep(self, name: str, array) -> None:
        self.register_buffer(name, torch.as_tensor(np.asarray(array, np.float64)).contiguous())

    def forward(self, betas: Tensor, pose: Tensor, with_vertices: bool = True) -> PosedBody:
        """betas [B, 10], pose [B, 72] axis-angle rad or [B, 24, 3, 3] rotations (root first) -> PosedBody in metres.

        Without vertices only the landmarks are skinned, which costs about a hundredth.
        """
        batch = len(betas)
        joints_rest = self.joint_template + (self.joint_shape_dirs * betas[:, None, None]).sum(-1)
        rotations = pose if pose.dim() == 4 else rotation_from_axis_angle(pose.reshape(batch, 24, 3))
        joints, transforms = as_of_several(self._turn, rotations, joints_rest)
        ids = None if with_vertices else self.landmark_ids
        skinned = self._skin(betas, rotations, transforms, ids)
        if with_vertices:
            return PosedBody(joints, skinned[:, self.landmark_ids], skinned)
        return PosedBody(joints, skinned, None)

    def _turn(self, rotations: Tensor, joints_rest: Tensor) -> tuple[Tensor, Tensor]:
        """Posed joints [B, 24, 3], and what moves the surface from rest, [B, 24, 4, 4]; smplx's batch_rigid_transform,
        but which joint hangs on which is known to the host, so that nothing waits for the device."""
        bones = torch.cat([joints_rest[:, :1], joints_rest[:, 1:] - joints_rest[:, self.parents[1:]]], 1)
        pad = torch.nn.functional.pad
        last = pad(torch.ones_like(bones[..., :1]), (3, 0))  # 0 0 0 1
        own = torch.cat([torch.cat([rotations, bones[..., None]], -1), last[..., None, :]], -2)
        chain = [own[:, 0]]
        for joint in range(1, 24):
            chain.append(torch.matmul(chain[JOINT_PARENTS[joint]], own[:, joint]))
        placed = torch.stack(chain, 1)
        rest = torch.matmul(placed, pad(joints_rest[..., None], (0, 0, 0, 1)))
        return placed[..., :3, 3], placed - pad(rest, (3, 0))

    def _skin(self, betas: Tensor, rotations: Tensor, transforms: Tensor, ids: Tensor | None) -> Tensor:
        """Linear blend skinning of all vertices, or of `ids`."""
        pick = (lambda buffer: buffer) if ids is None else (lambda buffer: buffer[ids])
        batch = len(betas)
        dirs = self.dirs_by_axis if ids is None else self.dirs_by_axis[..., ids]
        shaped = product(betas, dirs.flatten(1)).reshape(batch, 3, -1) + pick(self.template).T
        if self.has_pose_dirs:
            identity = torch.eye(3, dtype=betas.dtype, device=betas.device)
            features = (rotations[:, 1:] - identity).reshape(batch, 207)
            dirs = (
                self.pose_dirs if ids is None else self.pose_dirs.reshape(207, -1, 3)[:, ids].reshape(207, -1)
            )
            shaped = shaped + product(features, dirs).reshape(batch, -1, 3).transpose(1, 2)
        blended = product(transforms[:, :, :3].transpose(1, 3).reshape(batch * 12, 24), pick(self.weights).T)
        columns = blended.reshape(batch, 4, 3, -1).unbind(1)  # each of [B, 3, V]
        # written out, since a product of thousands of 3 x 3 matrices costs several times as much
        x, y, z = shaped[:, :, None].unbind(1)
        skinned = columns[0] * x + columns[1] * y + columns[2] * z + columns[3]
        return skinned.transpose(1, 2).contiguous()

    @property
    def joint_layout(self) -> tuple[float, float, str]:
        """How far the rest body's hip and shoulder joints lie from the middle, m, and whose joints they are
        (`keypoint_targets.LAYOUTS`)."""
        rest = self.joint_template
        halves = (round(float(rest[left, 0] - rest[left + 1, 0]) / 2, 4) for left in (1, 16))
        return *halves, "open" if self.name.startswith("open_body") else "smpl"

    def points(self, posed: PosedBody) -> Tensor:
        """Joints and landmarks together, [B, 35, 3] m: the columns of keypoints.body_targets."""
        return torch.cat([posed.joints, posed.landmarks], 1)


def _with_parts_and_landmarks(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds what SMPL's own files lack: landmark vertices (smplx's published ids) and parts (largest weight)."""
    arrays = dict(arrays)
    if "landmark_ids" not in arrays:
        ids = smplx_vertex_ids["smplh"]
        arrays["landmark_ids"] = np.array([ids[name] for name in SMPLX_LANDMARKS])
    if "part_ids" not in arrays:
        arrays["part_ids"] = arrays["weights"].argmax(1)
    return arrays


def load_body(path: str | Path | None = None, dtype: torch.dtype = torch.float32) -> BodyModel:
    """The open body that ships with the package, or an SMPL `.npz`/`.pkl` by path (errors: see smpl_file)."""
    arrays = read_smpl_file(path or OPEN_BODY)
    name = str(arrays["name"]) if "name" in arrays else Path(path).stem
    return BodyModel(_with_parts_and_landmarks(arrays), name).to(dtype).eval()
