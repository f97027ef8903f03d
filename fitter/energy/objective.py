"""The energy of a person's fit as a visible list of terms (METHOD: E = sum of weight x term).

N rows are fitted at once and independently; a row is one start of one person. Letters as in losses.py.
"""

import copy
import math
from dataclasses import dataclass, field, fields
from functools import lru_cache

import torch
from torch import Tensor

from fitter.body.model import BodyModel, cross_matrix, rotation_from_axis_angle
from fitter.body.points import PointModel, left_jacobian
from fitter.config import Stage, Weights
from fitter.energy.losses import CROP_PX, keypoint_energy
from fitter.energy.semantics import SemanticTerms
from fitter.see.camera import project_points
from priors.pose import PosePrior
from priors.simple import (
    LIMIT_SOFTNESS_DEG,
    angle_energy,
    down_in_camera,
    limit_energy,
    limit_excess,
    shape_energy,
)

TORSO = (2, 5, 9, 12)  # BODY_25: right and left shoulder, right and left hip
LIMIT_SOFTNESS = math.radians(LIMIT_SOFTNESS_DEG)
NEAREST_M = 0.1  # points nearer to the camera, or behind it, are projected as if at this depth


class Rows:
    """Dataclasses of tensors [N, ...], and dicts of such, whose rows can be picked."""

    def rows(self, index):
        return type(self)(*(_rows(getattr(self, f.name), index) for f in fields(self)))

    def replaced(self, rows: Tensor, other):
        """A copy with the rows where `rows` (bool [N]) holds taken from `other`."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return type(self)(*(torch.where(rows.reshape(-1, *[1] * (a.dim() - 1)), b, a) for a, b in pairs))


def _rows(value, index):
    return {key: part.rows(index) for key, part in value.items()} if isinstance(value, dict) else value[index]


@dataclass(frozen=True)
class Observation(Rows):
    """What is seen of N people, and with which camera.

    keypoints_px [N, 25, 2]; confidence [N, 25], 0 = missing, the mapping's trust multiplied in;
    targets [N, 25, 35] weights over body joints and landmarks; box_px [N] longer side of the person's box;
    focal_px [N, 2]; center_px [N, 2]; tilt [N, 2] rad: the camera's pitch and roll, expected, and tilt_spread [N, 2]
    how far they may be off; targets_at: what the DSR terms compare with, by crop_px (semantics.Targets).
    """

    keypoints_px: Tensor
    confidence: Tensor
    targets: Tensor
    box_px: Tensor
    focal_px: Tensor
    center_px: Tensor
    tilt: Tensor
    tilt_spread: Tensor
    targets_at: dict = field(default_factory=dict)


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
        """Free variables in one row, [N, P], P = 3 + 3 + D + 10 + 2."""
        return torch.cat([self.turn, self.shift, self.latent, self.betas, self.tilt], 1)

    def with_flat(self, flat: Tensor) -> "Variables":
        parts = flat.split([3, 3, self.latent.shape[1], 10, 2], 1)
        return Variables(*parts, self.start_orientation, self.start_place_m)

    def free(self, groups: tuple[str, ...]) -> Tensor:
        """Which entries of `flat` belong to these groups, bool [P]."""
        sizes = {"orientation": 3, "place": 3, "pose": self.latent.shape[1], "shape": 10, "level": 2}
        groups = (*groups, "level") if "orientation" in groups else groups
        return torch.cat([torch.full((size,), group in groups) for group, size in sizes.items()])

    def down(self) -> Tensor:
        """Direction of gravity in the pelvis's frame, [N, 3] unit."""
        return torch.einsum("nba,nb->na", self.orientation(), down_in_camera(self.tilt))

    def orientation(self) -> Tensor:
        """Root rotation, body frame -> camera frame, [N, 3, 3]."""
        return rotation_from_axis_angle(self.turn) @ self.start_orientation

    def place_m(self, observation: Observation) -> Tensor:
        """Where the pelvis joint lies in the camera frame, [N, 3] m."""
        depth = self.start_place_m[:, 2] * self.shift[:, 2].exp()
        unit = observation.box_px[:, None] / observation.focal_px
        ray = self.start_place_m[:, :2] / self.start_place_m[:, 2:] + self.shift[:, :2] * unit
        return torch.cat([ray * depth[:, None], depth[:, None]], 1)


@dataclass(frozen=True)
class Evaluation(Rows):
    """energy [N]; its gradient [N, P] and a positive (Gauss-Newton) curvature [N, P, P] by Variables.flat."""

    energy: Tensor
    gradient: Tensor
    curvature: Tensor

    def finite(self) -> Tensor:
        """bool [N]"""
        return self.energy.isfinite() & self.gradient.isfinite().all(1)


class Objective:
    """Body, pose prior and weights; `terms` is the energy."""

    def __init__(
        self,
        body: BodyModel,
        prior: PosePrior,
        weights: Weights,
        sigma: float,
        semantics: SemanticTerms | None = None,
    ):
        self.body, self.prior, self.weights, self.sigma = body, prior, weights, sigma
        self.semantics = semantics
        self.rendered_body = single_precision(body) if semantics else None  # what is rendered needs no more
        self.point_model = PointModel(body)

    def terms(
        self, points_px: Tensor, variables: Variables, observation: Observation, stage: Stage
    ) -> dict[str, Tensor]:
        """Weighted terms by name, each [N]; their sum is the energy. points_px: [N, 25, 2], see `keypoints_px`."""
        weights, seen = self.weights, stage_confidence(observation.confidence, stage)
        box, sigma = observation.box_px, self.sigma
        body_pose = self.prior.body_pose(variables.latent)
        terms = {
            "keypoints": weights.keypoints
            * keypoint_energy(points_px, observation.keypoints_px, seen, box, sigma),
            "pose": weights.pose * stage.pose_scale * self.prior.energy(variables.latent, variables.down()),
            "limits": weights.limits * limit_energy(body_pose),
            "angle": weights.angle * angle_energy(body_pose),
            "level": weights.level * level_energy(variables.tilt, observation),
            "shape": weights.shape * stage.shape_scale * shape_energy(variables.betas),
            "depth": weights.depth * stage.depth_scale * variables.shift[:, 2] ** 2,
        }
        if stage.crop_px and self.semantics:
            vertices = self.vertices_cam(variables, observation)
            focal, center = observation.focal_px.float(), observation.center_px.float()
            rendered = self.semantics(vertices, focal, center, observation.targets_at[stage.crop_px])
            for name, value in rendered.items():
                terms[name] = getattr(weights, name) * value.to(box.dtype)
        return terms

    def vertices_cam(self, variables: Variables, observation: Observation) -> Tensor:
        """The posed body in the camera frame, [N, V, 3] m, float32."""
        body_pose = self.prior.body_pose(variables.latent)
        pose = torch.cat([torch.zeros_like(body_pose[:, :3]), body_pose], 1).float()
        posed = self.rendered_body(variables.betas.float(), pose)
        centred = posed.vertices - posed.joints[:, :1]
        turned = centred @ variables.orientation().transpose(1, 2).float()
        return turned + variables.place_m(observation)[:, None].float()

    def joints_cam(self, variables: Variables) -> Tensor:
        """Joints about the pelvis in camera axes, [N, 24, 3] m."""
        posed = self.point_model(variables.betas, self.prior.body_pose(variables.latent))
        return posed.points[:, :24] @ variables.orientation().transpose(1, 2)

    def keypoints_px(self, variables: Variables, observation: Observation) -> tuple[Tensor, Tensor]:
        """The model's keypoints [N, 25, 2] in the photo and their derivatives [N, 25, 2, P] by Variables.flat."""
        body_pose = self.prior.body_pose(variables.latent)
        posed = self.point_model(variables.betas, body_pose)
        d_latent = self.prior.chain(posed.d_pose, variables.latent)
        orientation, place = variables.orientation(), variables.place_m(observation)
        turned = torch.einsum("nab,nkb->nka", orientation, posed.points)
        d_turn = -cross_matrix(turned) @ left_jacobian(variables.turn)[:, None]
        d_shift = self._d_shift(place, observation)[:, None].expand(-1, turned.shape[1], -1, -1)
        inner = torch.cat([d_latent, posed.d_betas], -1)
        d_inner = torch.einsum("nab,nkbp->nkap", orientation, inner)
        jacobian = torch.cat([d_turn, d_shift, d_inner, d_inner.new_zeros(*d_inner.shape[:-1], 2)], -1)
        points = observation.targets @ (turned + place[:, None])
        jacobian = torch.einsum("nkt,ntap->nkap", observation.targets, jacobian)
        depth = points[..., 2:].clamp(min=NEAREST_M)
        points = torch.cat([points[..., :2], depth], -1)
        focal = observation.focal_px[:, None, :, None]
        slope = (points[..., :2] / depth)[..., None]
        d_px = focal * (jacobian[:, :, :2] - slope * jacobian[:, :, 2:]) / depth[..., None]
        return project_points(points, observation.focal_px, observation.center_px), d_px

    @staticmethod
    def _d_shift(place: Tensor, observation: Observation) -> Tensor:
        """Derivative [N, 3, 3] of place_m by shift."""
        sideways = torch.diag_embed(observation.box_px[:, None] / observation.focal_px * place[:, 2:])
        sideways = torch.cat([sideways, torch.zeros_like(sideways[:, :1])], 1)
        return torch.cat([sideways, place[:, :, None]], 2)

    def evaluate(self, variables: Variables, observation: Observation, stage: Stage):
        """(Evaluation, terms by name [N]) at one point of every row."""
        points_px, d_px = self.keypoints_px(variables, observation)
        points_px = points_px.detach().requires_grad_()
        flat = variables.flat().detach().requires_grad_()
        terms = self.terms(points_px, variables.with_flat(flat), observation, stage)
        energy = torch.stack(list(terms.values())).sum(0)
        by_points, direct = torch.autograd.grad(energy.sum(), [points_px, flat])
        gradient = direct + torch.einsum("nkap,nka->np", d_px, by_points)
        curvature = self._curvature(points_px.detach(), d_px, variables, observation, stage)
        return Evaluation(energy.detach(), gradient, curvature), {k: v.detach() for k, v in terms.items()}

    def _curvature(self, points_px, d_px, variables, observation, stage) -> Tensor:
        """Gauss-Newton curvature of all terms: robust weights and mixture component held, second orders dropped."""
        scale = (CROP_PX / observation.box_px)[:, None, None]
        squared = ((points_px - observation.keypoints_px) * scale) ** 2
        robust = 2 * (self.sigma**2 / (self.sigma**2 + squared)) ** 2
        seen = stage_confidence(observation.confidence, stage)[..., None]
        weight = self.weights.keypoints * robust * (seen * scale) ** 2
        rows = (d_px * weight.sqrt()[..., None]).flatten(1, 2)
        curvature = rows.transpose(1, 2) @ rows
        size = variables.latent.shape[1]
        by_latent = self._d_pose_and_down(variables)
        pose = self.weights.pose * stage.pose_scale * self.prior.curvature(variables.latent, variables.down())
        curvature = curvature + by_latent.transpose(1, 2) @ pose @ by_latent
        if self.weights.limits:
            body_pose = self.prior.body_pose(variables.latent)
            beyond = (limit_excess(body_pose) != 0).to(body_pose) / LIMIT_SOFTNESS**2
            d_latent = self.prior.chain(torch.diag_embed(beyond.sqrt()), variables.latent)
            limits = self.weights.limits * d_latent.transpose(1, 2) @ d_latent
            curvature[:, 6 : 6 + size, 6 : 6 + size] += limits
        diagonal = torch.zeros_like(curvature[:, 0])
        diagonal[:, 5] = 2 * self.weights.depth * stage.depth_scale
        diagonal[:, 6 + size : 16 + size] = 2 * self.weights.shape * stage.shape_scale
        diagonal[:, 16 + size :] = self.weights.level / observation.tilt_spread**2
        return curvature + torch.diag_embed(diagonal)

    @staticmethod
    def _d_pose_and_down(variables: Variables) -> Tensor:
        """Derivative [N, D + 3, P] of latent and Variables.down by Variables.flat."""
        people, size = variables.latent.shape
        orientation, down = variables.orientation(), down_in_camera(variables.tilt)
        by_turn = cross_matrix(down) @ left_jacobian(variables.turn)
        pitch, roll = variables.tilt.unbind(-1)
        zero = torch.zeros_like(pitch)
        by_pitch = torch.stack([roll.sin() * pitch.sin(), -roll.cos() * pitch.sin(), pitch.cos()], -1)
        by_roll = torch.stack([-roll.cos() * pitch.cos(), -roll.sin() * pitch.cos(), zero], -1)
        whole = down.new_zeros(people, size + 3, 6 + size + 10 + 2)
        whole[:, :size, 6 : 6 + size] = torch.eye(size, dtype=down.dtype)
        whole[:, size:, :3] = orientation.transpose(1, 2) @ by_turn
        whole[:, size:, -2:] = orientation.transpose(1, 2) @ torch.stack([by_pitch, by_roll], -1)
        return whole


def level_energy(tilt: Tensor, observation: Observation) -> Tensor:
    """Half the squared difference of pitch and roll [N, 2] rad from what is expected, in its spreads. -> [N]."""
    return 0.5 * ((tilt - observation.tilt) / observation.tilt_spread).square().sum(1)


@lru_cache(maxsize=1)
def single_precision(body: BodyModel) -> BodyModel:
    """A float32 copy, made once for a body, not for every photo."""
    return copy.deepcopy(body).float()


def stage_confidence(confidence: Tensor, stage: Stage) -> Tensor:
    """[N, 25]; for `torso` stages all but shoulders and hips are 0, for people of whom all four are seen."""
    if stage.joints == "all":
        return confidence
    torso = torch.zeros_like(confidence)
    torso[:, TORSO] = confidence[:, TORSO]
    seen = (confidence[:, TORSO] > 0.1).all(1, keepdim=True)
    return torch.where(seen, torso, confidence)
