"""The training loss: the fitter's own terms on the network's bodies, and supervision where there is any.

Reprojection, DSR-MC, DSR-C and the silhouette baseline are `fitter.energy.losses`, rendered by the fitter's renderer;
only the terms on 3D joints and parameters live here. Every term is [N], and 0 for people whom it does not concern.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fitter.body.model import LANDMARK_NAMES, BodyModel, PosedBody
from fitter.body.spin_joints import (
    H36M_NAMES,
    HIPS,
    PELVIS,
    REGRESSED,
    SPIN_24,
    SPIN_24_OF_SMPL,
    h36m_regressor,
    open_body_name,
)
from fitter.config import Semantics
from fitter.energy.losses import CROP_PX, keypoint_energy
from fitter.energy.semantics import SemanticTerms, Targets
from fitter.raster.rasterizer import make_rasterizer
from fitter.see.camera import project_points
from fitter.see.keypoint_targets import body_targets
from priors.clothing import load_clothing_prior
from priors.skeleton import JOINT_NAMES
from regressor.config import LossWeights
from regressor.hmr import FOCAL_CROP_PX, Prediction, crop_translation, full_translation

SIGMA = 1e4  # px of the crop: so wide that the robust keypoint term is the plain squared error


@dataclass(frozen=True)
class Bodies:
    """What the network's answer looks like, N people: vertices_cam [N, V, 3] m in the crop's camera; keypoints_px
    [N, 25, 2] of the crop; joints_m [N, 24, 3]: SPIN's joints in camera axes."""

    vertices_cam: Tensor
    keypoints_px: Tensor
    joints_m: Tensor


@dataclass(frozen=True)
class PhotoCrop:
    """N crops and their photos' cameras, photo px: square_center_px [N, 2], square_side_px [N], focal_px, center_px
    [N, 2]."""

    square_center_px: Tensor
    square_side_px: Tensor
    focal_px: Tensor
    center_px: Tensor

    def place_m(self, cam: Tensor) -> Tensor:
        """`full_translation` of a network's cameras [N, 3]."""
        return full_translation(
            cam, self.square_center_px, self.square_side_px, self.focal_px, self.center_px
        )

    def to_crop(self, points_px: Tensor) -> Tensor:
        """[N, K, 2] px of the photo -> of the crop, CROP_PX wide."""
        scale = CROP_PX / self.square_side_px[:, None, None]
        return (points_px - self.square_center_px[:, None]) * scale + CROP_PX / 2


class SpinJoints(nn.Module):
    """SPIN's 24 joints of posed bodies, [N, 24, 3] m, and confidence [24] (`fitter.body.spin_joints`), differentiable.

    regressor: [17, V] of a body other than the open one; without it, joints that need it have confidence 0.
    """

    def __init__(self, body: BodyModel, regressor: np.ndarray | None = None):
        super().__init__()
        if regressor is None and body.name == open_body_name():
            regressor = h36m_regressor()
        self.regressor, self.body = regressor, body
        names = JOINT_NAMES + LANDMARK_NAMES
        own = np.eye(len(names))[[names.index(name) for name in SPIN_24_OF_SMPL]]
        confidence, surface = torch.ones(24), np.zeros((24, 0))
        if regressor is None:
            own[PELVIS] = own[list(HIPS)].mean(0)
            confidence[list(REGRESSED)] = 0
        else:
            landmarks = dict(zip(LANDMARK_NAMES, body.landmark_ids.tolist(), strict=True))
            rows = {name: regressor[i] for i, name in enumerate(H36M_NAMES)}
            rows |= {name: np.eye(1, body.vertex_count, vertex)[0] for name, vertex in landmarks.items()}
            surface = np.stack([rows[name] for name in SPIN_24])
            own[list(REGRESSED)] = 0
        self.register_buffer("own", torch.tensor(own).to(body.template))
        self.register_buffer("surface", torch.tensor(surface).to(body.template))
        self.register_buffer("nine", self.surface * torch.tensor(own.sum(1) == 0)[:, None])
        self.register_buffer("confidence", confidence.to(body.template))

    def forward(self, posed: PosedBody) -> Tensor:
        """By SPIN's joint map, as its trainer and its datasets have them."""
        joints = self.own @ self.body.points(posed)
        return joints if self.regressor is None else joints + self.nine @ posed.vertices

    def evaluated(self, joints: Tensor, vertices: Tensor) -> Tensor:
        """As the datasets' evaluations have them: all from the surface [N, V, 3], if there is a regressor; else
        `forward`'s joints, same frame."""
        return joints if self.regressor is None else self.surface @ vertices


class Criterion(nn.Module):
    """Bodies of predictions, and their loss terms.

    regressor: see `SpinJoints`; clothing_prior: a file, else the shipped one."""

    def __init__(
        self,
        body: BodyModel,
        semantics: Semantics,
        device: str = "cpu",
        regressor: np.ndarray | None = None,
        clothing_prior: str | None = None,
    ):
        super().__init__()
        self.body = body.float()
        like, faces = body.template, body.faces
        self.register_buffer(
            "targets", torch.tensor(body_targets("openpose", *body.joint_layout)[0]).to(like)
        )
        self.joints = SpinJoints(body, regressor)
        self.semantics = None
        if semantics.used:
            prior = load_clothing_prior(clothing_prior, like.cpu().numpy(), faces.cpu().numpy())
            self.semantics = SemanticTerms(make_rasterizer(device=device), faces, prior.prob, semantics)
        self.to(device)

    def bodies(
        self, prediction: Prediction, targets: Tensor | None = None, photo: PhotoCrop | None = None
    ) -> Bodies:
        """targets [25, 35]: of keypoints of another definition than OpenPose's (`fitter.see.keypoint_targets`); photo:
        the bodies stand before the photo's own camera, in whose axes vertices_cam are then."""
        posed = self.body(prediction.betas, prediction.rotations)
        place = crop_translation(prediction.cam) if photo is None else photo.place_m(prediction.cam)
        points = (self.targets if targets is None else targets) @ (self.body.points(posed) + place[:, None])
        focal, center = crop_camera(points) if photo is None else (photo.focal_px, photo.center_px)
        px = project_points(points, focal, center)
        px = px if photo is None else photo.to_crop(px)
        return Bodies(posed.vertices + place[:, None], px, self.joints(posed))

    def forward(self, prediction: Prediction, bodies: Bodies, batch: dict[str, Tensor], dsr: bool) -> dict:
        """Unweighted terms by name, each [N].

        batch: `regressor.data.load_sample`'s entries, stacked; dsr: whether the rendered terms count yet.
        """
        has = batch["has_smpl"]
        terms = {
            "keypoints": reprojection(bodies.keypoints_px, batch["keypoints_px"]),
            "joints": joint_error(bodies.joints_m, batch["joints_m"], self.joints.confidence),
            "pose": has * (prediction.rotations - batch["rotations"]).square().mean((1, 2, 3)),
            "shape": has * (prediction.betas - batch["betas"]).square().mean(1),
            "camera": torch.exp(-10 * prediction.cam[:, 0]).square(),
        }
        if dsr and self.semantics is not None:
            targets = targets_of(batch)
            focal, center = crop_camera(bodies.vertices_cam)
            terms |= self.semantics(bodies.vertices_cam, focal, center, targets)
        return terms


def reprojection(points_px: Tensor, keypoints_px: Tensor) -> Tensor:
    """[N, 25, 2] and [N, 25, 3] in the crop -> [N]: the fitter's keypoint energy, per coordinate and in units of half
    a crop, squared."""
    side = torch.full_like(points_px[:, 0, 0], CROP_PX)
    energy = keypoint_energy(points_px, keypoints_px[..., :2], keypoints_px[..., 2], side, SIGMA)
    return energy / fit_scale(points_px)


def fit_scale(points_px: Tensor) -> float:
    """How many times the fitter's keypoint energy is as large as `reprojection` of the same points [N, K, 2]."""
    return points_px[0].numel() * (CROP_PX / 2) ** 2


def joint_error(joints_m: Tensor, true_m: Tensor, trust: Tensor) -> Tensor:
    """[N, 24, 3] and [N, 24, 4] with confidence -> [N] m^2: mean squared coordinate error, both centred between the
    hips; 0 where the hips are not known. trust: [24], of the predicted joints' definition."""
    confidence = true_m[..., 3] * trust
    hips = slice(HIPS[0], HIPS[1] + 1)  # a view: a list of numbers would be brought to the device first
    known = (true_m[:, hips, 3] > 0).all(1)
    predicted = joints_m - joints_m[:, hips].mean(1, keepdim=True)
    true = true_m[..., :3] - true_m[:, hips, :3].mean(1, keepdim=True)
    return known * (confidence[..., None] * (predicted - true).square()).mean((1, 2))


def targets_of(batch: dict[str, Tensor]) -> Targets:
    """The labels' part of a batch."""
    prefix = "targets."
    return Targets(**{k.removeprefix(prefix): v for k, v in batch.items() if k.startswith(prefix)})


def crop_camera(like: Tensor) -> tuple[Tensor, Tensor]:
    """Focal length and centre [N, 2] px of the crop's camera."""
    return like.new_full((len(like), 2), FOCAL_CROP_PX), like.new_full((len(like), 2), CROP_PX / 2)


def total(terms: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """[N] -> scalar: overall x sum of weight x mean."""
    return weights.overall * sum(getattr(weights, name) * term.mean() for name, term in terms.items())


def weighted(terms: dict[str, Tensor], weights: LossWeights) -> dict[str, float]:
    """The parts of `total` by name."""
    return {name: weights.overall * getattr(weights, name) * float(np.float64(t.mean().item()))
            for name, t in terms.items()}  # fmt: skip
