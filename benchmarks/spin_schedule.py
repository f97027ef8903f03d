"""SPIN's schedule of SMPLify on the package smplx: what our fits are timed against.

Written afresh from its description (Kolotouros et al., ICCV 2019, after Bogo et al., ECCV 2016). First 100 iterations
of Adam, learning rate 1e-2, on global orientation and camera translation, with the torso's four joints and a distance
held near the first; then 100 on pose, shape and orientation, the camera fixed, with all joints: reprojection of robust
width 100 px in a 224 px crop, confidences squared; max-mixture prior of 8 Gaussians 4.78^2, bending knees and elbows
15.2^2, shape 5^2. In float32; every iteration poses all vertices, as smplx does. People of a batch do not influence
each other.
"""

from typing import NamedTuple

import smplx
import torch
from torch import Tensor

from fitter.body.smpl_file import main as write_smplx_file

ITERATIONS, RATE = 100, 1e-2
SIGMA_PX, CROP_PX = 100.0, 224
POSE, ANGLE, SHAPE, DEPTH = 4.78**2, 15.2**2, 5.0**2, 100.0**2
TORSO = [2, 5, 9, 12]  # BODY_25: shoulders and hips
BENDING, SIGNS = [52, 55, 9, 12], (1.0, -1.0, -1.0, -1.0)  # of body pose: elbows, knees; negative = natural


class Bodies(NamedTuple):
    """orientation [B, 3], pose [B, 69] axis-angle rad; transl [B, 3] m, camera axes; betas [B, 10]."""

    orientation: Tensor
    transl: Tensor
    pose: Tensor
    betas: Tensor


class Seen(NamedTuple):
    """keypoints_px [B, 25, 2] BODY_25, confidence [B, 25], targets [B, 25, 35] weights over joints and landmarks,
    box_px [B] longer side of the person's box, focal_px [B, 2], center_px [B, 2]."""

    keypoints_px: Tensor
    confidence: Tensor
    targets: Tensor
    box_px: Tensor
    focal_px: Tensor
    center_px: Tensor


class Gaussians(NamedTuple):
    """means [M, 69] rad, precisions [M, 69, 69], neg_log_weights [M], those of the determinants included."""

    means: Tensor
    precisions: Tensor
    neg_log_weights: Tensor

    def energy(self, pose: Tensor) -> Tensor:
        """The smallest over the components, [B, 69] -> [B]."""
        off = pose[:, None] - self.means
        halved = 0.5 * (torch.einsum("mij,bmj->bmi", self.precisions, off) * off).sum(-1)
        return (halved + self.neg_log_weights).amin(1)


class Spin:
    """A body in the package smplx, and the prior: `fit` runs the schedule."""

    def __init__(self, file: str, landmark_ids: Tensor, prior: Gaussians, device: str = "cpu"):
        """file: where to write the open body as smplx reads it, SMPL*.pkl."""
        write_smplx_file(["--out", file])
        self.body = smplx.create(file, "smpl", create_transl=False, num_betas=10).to(device)
        self.landmark_ids, self.device = landmark_ids.to(device), device
        self.prior = Gaussians(*(part.to(device, torch.float32) for part in prior))

    def fit(self, seen: Seen, start: Bodies, iterations: int = ITERATIONS) -> Bodies:
        """B people at once, from `start`."""
        seen, start = (type(x)(*(part.to(self.device, torch.float32) for part in x)) for x in (seen, start))
        fitted = two_stages(
            start,
            lambda bodies: self.camera_energy(seen, bodies, start.transl[:, 2]),
            lambda bodies: self.body_energy(seen, bodies),
            iterations,
        )
        with torch.no_grad():
            self.points(fitted)  # the vertices and joints that the caller gets
        return fitted

    def points(self, bodies: Bodies) -> Tensor:
        """Joints and landmarks in camera axes, [B, 35, 3] m, all vertices posed on the way."""
        posed = self.body(global_orient=bodies.orientation, body_pose=bodies.pose, betas=bodies.betas)
        points = torch.cat([posed.joints[:, :24], posed.vertices[:, self.landmark_ids]], 1)
        return points + bodies.transl[:, None]

    def residual_px(self, seen: Seen, bodies: Bodies) -> Tensor:
        """[B, 25, 2] in px of a 224 px crop."""
        points = seen.targets @ self.points(bodies)
        at = points[..., :2] / points[..., 2:] * seen.focal_px[:, None] + seen.center_px[:, None]
        return (at - seen.keypoints_px) * (CROP_PX / seen.box_px)[:, None, None]

    def camera_energy(self, seen: Seen, bodies: Bodies, depth_m: Tensor) -> Tensor:
        """First stage, [B]; the torso's joints, or where one is missing all that are seen."""
        squared = self.residual_px(seen, bodies).square().sum(-1)
        whole = (seen.confidence[:, TORSO] > 0).all(1)
        torso = torch.where(whole, squared[:, TORSO].sum(1), (squared * (seen.confidence > 0)).sum(1))
        return torso + DEPTH * (bodies.transl[:, 2] - depth_m).square()

    def body_energy(self, seen: Seen, bodies: Bodies) -> Tensor:
        """Second stage, [B]."""
        squared = self.residual_px(seen, bodies).square()
        robust = SIGMA_PX**2 * squared / (SIGMA_PX**2 + squared)
        bent = bodies.pose[:, BENDING] * bodies.pose.new_tensor(SIGNS)
        return (
            (seen.confidence.square() * robust.sum(-1)).sum(-1)
            + POSE * self.prior.energy(bodies.pose)
            + ANGLE * bent.exp().square().sum(1)
            + SHAPE * bodies.betas.square().sum(1)
        )


def two_stages(
    start: Bodies,
    camera_energy,
    body_energy,
    iterations: int = ITERATIONS,
    always: tuple[Tensor, ...] = (),
    camera_fixed: bool = True,
) -> Bodies:
    """The schedule for any two energies, each Bodies -> [B].

    always: tensors that move in both stages, in place; camera_fixed: whether the second leaves the translation.
    """
    bodies = Bodies(*(part.detach().clone() for part in start))
    second = [bodies.pose, bodies.betas, bodies.orientation, *([] if camera_fixed else [bodies.transl])]
    for energy, moved in ((camera_energy, [bodies.orientation, bodies.transl]), (body_energy, second)):
        moved = [*moved, *always]
        for part in moved:
            part.requires_grad_()
        optimizer = torch.optim.Adam(moved, lr=RATE)
        for _ in range(iterations):
            optimizer.zero_grad()
            energy(bodies).sum().backward()
            optimizer.step()
        for part in moved:
            part.requires_grad_(False)
    return bodies
