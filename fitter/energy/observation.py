"""What is seen and what is moved: rows of tensors, one row a start of one person.

Letters as in losses.py: N rows, P = 3 + 3 + D + 10 + 2 free variables, D the pose prior's own.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fitter.rows import Rows
from priors.rotation import rotation_from_axis_angle
from priors.simple import down_in_camera

NEAREST_M = 0.1  # points nearer to the camera, or behind it, are projected as if at this depth
GROUPS = ("orientation", "place", "pose", "shape", "level")


@dataclass(frozen=True)
class Observation(Rows):
    """What is seen of N people, and with which camera.

    keypoints_px [N, 25, 2]; confidence [N, 25], 0 = missing, the mapping's trust multiplied in;
    source [N] int64: which of SOURCES the keypoints are of; box_px [N] the person's size (`scale_px`);
    focal_px [N, 2]; center_px [N, 2]; tilt [N, 2] rad: the camera's pitch and roll, expected, and tilt_spread [N, 2]
    how far they may be off; photo, camera, body [N] int64: which photo, camera and body a row is of, numbers within
    this batch; targets_at: what the DSR terms compare with, by crop_px (semantics.Targets); lifted: the lifter's answer
    (`priors.lifter.Lifted`) by its fields' names, empty where it is not asked.
    """

    keypoints_px: Tensor
    confidence: Tensor
    source: Tensor
    box_px: Tensor
    focal_px: Tensor
    center_px: Tensor
    tilt: Tensor
    tilt_spread: Tensor
    photo: Tensor
    camera: Tensor
    body: Tensor
    targets_at: dict = field(default_factory=dict)
    lifted: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Variables(Rows):
    """What the optimiser moves, N rows, and the start that it moves from.

    turn [N, 3]: rotation (axis-angle) applied after start_orientation [N, 3, 3]
    shift [N, 3]: sideways and down in units of box / focal, and log of distance, from start_place_m [N, 3]
    latent [N, D]: the pose prior's own variable; betas [N, 10]; tilt [N, 2] rad: the camera's pitch and roll
    """

    turn: Tensor
    shift: Tensor
    latent: Tensor
    betas: Tensor
    tilt: Tensor
    start_orientation: Tensor
    start_place_m: Tensor

    def flat(self) -> Tensor:
        """Free variables in one row, [N, P]."""
        return torch.cat([self.turn, self.shift, self.latent, self.betas, self.tilt], 1)

    def with_flat(self, flat: Tensor) -> "Variables":
        parts = flat.split([3, 3, self.latent.shape[1], 10, 2], 1)
        return Variables(*parts, self.start_orientation, self.start_place_m)

    def slices(self) -> dict[str, slice]:
        """Where each of GROUPS stands in `flat`."""
        ends = [0, 3, 6, 6 + self.latent.shape[1], 16 + self.latent.shape[1], 18 + self.latent.shape[1]]
        return {name: slice(*ends[i : i + 2]) for i, name in enumerate(GROUPS)}

    def free(self, groups: tuple[str, ...]) -> Tensor:
        """Which entries of `flat` belong to these groups, [F] int64, ascending."""
        where = self.slices()
        entries = torch.arange(where["level"].stop, device=self.latent.device)
        return torch.cat([entries[where[name]] for name in GROUPS if name in groups])

    def down(self) -> Tensor:
        """Direction of gravity in the pelvis's frame, [N, 3] unit."""
        return (down_in_camera(self.tilt)[:, :, None] * self.orientation()).sum(1)

    def orientation(self) -> Tensor:
        """Root rotation, body frame -> camera frame, [N, 3, 3]."""
        return rotation_from_axis_angle(self.turn) @ self.start_orientation

    def place_m(self, observation: Observation) -> Tensor:
        """Where the pelvis joint lies in the camera frame, [N, 3] m."""
        depth = self.start_place_m[:, 2] * self.shift[:, 2].exp()
        unit = observation.box_px[:, None] / observation.focal_px
        ray = self.start_place_m[:, :2] / self.start_place_m[:, 2:] + self.shift[:, :2] * unit
        return torch.cat([ray * depth[:, None], depth[:, None]], 1)
