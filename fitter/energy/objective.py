"""The energy of fits with its gradient and curvature: terms.py and semantics.py, chained to what is moved.

N rows are evaluated at once and independently; a row is one start of one person. Letters as in losses.py.
"""

import copy
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from fitter.body.model import BodyModel
from fitter.body.points import KeypointModel
from fitter.config import Stage, Weights
from fitter.energy.observation import NEAREST_M, Observation, Variables
from fitter.energy.semantics import SemanticTerms
from fitter.energy.terms import TERMS, State, stage_confidence
from fitter.rows import Rows, as_of_several
from fitter.see.camera import project_points
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import SOURCES
from fitter.see.person_box import COMPARED_MARGIN
from priors.lifter import PAIRS, Lifter
from priors.pose import PosePrior
from priors.rotation import cross_matrix, rotation_and_jacobian, rotation_from_axis_angle
from priors.simple import down_by_tilt, down_in_camera


@dataclass(frozen=True)
class Evaluation(Rows):
    """energy [N]; its gradient [N, P] and a positive curvature [N, P, P] by Variables.flat, without what is rendered;
    rendered_gradient [N, P]: of that; sight [N, P, P]: the keypoint term's part of the curvature, empty where nothing
    is rendered; terms [N, T]: weighted, in the order of Objective.term_names, which sum to the energy."""

    energy: Tensor
    gradient: Tensor
    curvature: Tensor
    rendered_gradient: Tensor
    sight: Tensor
    terms: Tensor

    def finite(self) -> Tensor:
        """bool [N]"""
        return (
            self.energy.isfinite()
            & self.gradient.isfinite().all(1)
            & self.rendered_gradient.isfinite().all(1)
        )


class Objective(nn.Module):
    """Body, pose prior, weights and, with labels, the DSR terms."""

    def __init__(
        self,
        body: BodyModel,
        prior: PosePrior,
        weights: Weights,
        sigma: float,
        semantics: SemanticTerms | None = None,
        lifter: Lifter | None = None,
    ):
        super().__init__()
        self.body, self.prior, self.weights, self.sigma = body, prior, weights, sigma
        self.semantics = semantics
        self.lifter = lifter
        self.rendered_body = single_precision(body) if semantics else None  # what is rendered needs no more
        self.keypoints = keypoint_model(body)
        first, second = torch.tensor(PAIRS).T
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)

    @property
    def term_names(self) -> tuple[str, ...]:
        """In the order of Evaluation.terms."""
        return (*(term.name for term in TERMS), *(self.semantics.names if self.semantics else ()))

    @torch.no_grad()
    def evaluate(self, variables: Variables, observation: Observation, stage: Stage) -> Evaluation:
        """Everything about one point of every row."""
        without = replace(observation, targets_at={})
        at = as_of_several(lambda *rows: self._keypoints_and_priors(*rows, stage), variables, without)
        if not self.semantics:
            return at
        rendered = torch.zeros_like(at.terms[:, :1]).expand(-1, len(self.semantics.names))
        if stage.crop_px:
            values, gradient = self._rendered(variables, observation, stage)
            rendered, at = torch.stack(values, 1), replace(at, rendered_gradient=gradient)
        terms = torch.cat([at.terms, rendered], 1)
        return replace(at, energy=terms.sum(1), terms=terms)

    def _keypoints_and_priors(
        self, variables: Variables, observation: Observation, stage: Stage
    ) -> Evaluation:
        """The terms that need no picture."""
        state, d_px, d_apart, d_down = self._state(variables, observation, stage)
        chain = _Chain(variables)
        sight = torch.zeros_like(chain.curvature) if stage.crop_px else chain.curvature[:, :0]
        terms, nothing = [], torch.zeros_like(observation.box_px)
        for term in TERMS:
            weight = term.weight(self.weights, stage)
            if not weight or (term.of == "apart" and not observation.lifted):
                terms.append(nothing)
                continue
            quadratic = term.at(state)
            terms.append(weight * quadratic.value)
            if term.of == "latent and down":
                chain.by_latent_and_down(weight, quadratic.gradient, quadratic.curvature, d_down)
                continue
            gradient, curvature = weight * quadratic.gradient, weight * quadratic.curvature
            if term.of == "points":
                chain.along(d_px.flatten(1, 2), gradient, curvature)
                sight = chain.curvature.clone() if stage.crop_px else sight
            elif term.of == "apart":
                chain.along(d_apart, gradient, curvature)
            elif term.of == "pose":
                self._by_pose(chain, variables, gradient, curvature)
            else:
                chain.own(chain.where[term.of], gradient, curvature)
        terms = torch.stack(terms, 1)
        unrendered = torch.zeros_like(chain.gradient)
        return Evaluation(terms.sum(1), chain.gradient, chain.curvature, unrendered, sight, terms)

    def vertices_cam(self, variables: Variables, observation: Observation) -> Tensor:
        """The posed body in the camera frame, [N, V, 3] m, float32."""
        body_pose = self.prior.body_pose(variables.latent)
        pose = torch.cat([torch.zeros_like(body_pose[:, :3]), body_pose], 1).float()
        posed = self.rendered_body(variables.betas.float(), pose)
        centred = posed.vertices - posed.joints[:, :1]
        turned = centred @ variables.orientation().transpose(1, 2).float()
        return turned + variables.place_m(observation)[:, None].float()

    def joints_cam(self, variables: Variables, observation: Observation) -> Tensor:
        """Joints about the pelvis in camera axes, [N, 24, 3] m."""
        return self._posed(variables, observation).joints @ variables.orientation().transpose(1, 2)

    def keypoints_m(self, variables: Variables, observation: Observation) -> Tensor:
        """The model's keypoints about the pelvis in camera axes, [N, 25, 3] m."""
        return self._posed(variables, observation).points @ variables.orientation().transpose(1, 2)

    def _posed(self, variables: Variables, observation: Observation):
        rotations = rotation_from_axis_angle(self.prior.body_pose(variables.latent).reshape(-1, 23, 3))
        return self.keypoints(variables.betas, rotations, observation.source)

    def _state(
        self, variables: Variables, observation: Observation, stage: Stage
    ) -> tuple[State, Tensor, Tensor, Tensor]:
        """The State; derivatives by Variables.flat of its points_px [N, 25, 2, P] and apart_m [N, pairs, P], and of its
        down by turn and tilt [N, 3, 5]."""
        body_pose = self.prior.body_pose(variables.latent)
        turns = torch.cat([variables.turn, body_pose], 1).reshape(-1, 24, 3)
        rotations, jacobians = rotation_and_jacobian(turns)
        orientation = rotations[:, 0] @ variables.start_orientation
        posed = self.keypoints(variables.betas, rotations[:, 1:], observation.source)
        place = variables.place_m(observation)
        turned = posed.points @ orientation.transpose(1, 2)
        points = turned + place[:, None]
        z = points[..., 2:].clamp(min=NEAREST_M)
        points = torch.cat([points[..., :2], z], -1)
        focal = observation.focal_px[:, None] / z  # px per m at the point
        slope = -points[..., :2] * focal / z * (turned[..., 2:] + place[:, None, 2:] > NEAREST_M)
        rows = torch.cat([torch.diag_embed(focal), slope[..., None]], -1)  # [N, 25, 2, 3]: px by camera frame
        apart = turned[:, :0, 0]
        if observation.lifted:
            axis = observation.lifted["axis"][:, None]
            depth = (turned * axis).sum(-1)
            apart = depth[:, self.second] - depth[:, self.first]
            rows = torch.cat([rows, axis[:, :, None].expand(-1, rows.shape[1], 1, 3)], 2)
        cross = torch.linalg.cross(turned[:, :, None].expand_as(rows), rows, dim=-1)
        flat = rows.flatten(1, 2)  # [N, 50 or 75, 3]
        d_turn = torch.bmm(cross.flatten(1, 2), jacobians[:, 0]).reshape(rows.shape)
        d_shift = torch.bmm(flat, self.d_shift(place, observation)).reshape(rows.shape)
        d_body = rows.new_zeros(*rows.shape[:-1], variables.latent.shape[1] + 10)
        if {"pose", "shape"} & set(stage.free):
            in_body = torch.bmm(flat, orientation).reshape(rows.shape)
            d_pose, d_shape = self.keypoints.jacobian(posed, in_body, jacobians[:, 1:])
            d_body = torch.cat([self.prior.chain(d_pose, variables.latent), d_shape], -1)
        d_rows = torch.cat([d_turn, d_shift, d_body, rows.new_zeros(*rows.shape[:-1], 2)], -1)
        d_px, d_depth = d_rows[:, :, :2], d_rows[:, :, -1]
        d_apart = d_depth[:, self.second] - d_depth[:, self.first] if observation.lifted else d_depth[:, :0]
        down = down_in_camera(variables.tilt)
        by_turn = cross_matrix(down) @ jacobians[:, 0]
        d_down = torch.cat([by_turn, down_by_tilt(variables.tilt)], -1)
        state = State(
            variables=variables,
            observation=observation,
            prior=self.prior,
            sigma=self.sigma,
            points_px=project_points(points, observation.focal_px, observation.center_px),
            seen=stage_confidence(observation.confidence, stage),
            body_pose=body_pose,
            down=(down[:, None] @ orientation)[:, 0],
            apart_m=apart,
        )
        return state, d_px, d_apart, orientation.transpose(1, 2) @ d_down

    @staticmethod
    def d_shift(place: Tensor, observation: Observation) -> Tensor:
        """Derivative [N, 3, 3] of place_m by shift."""
        sideways = torch.diag_embed(observation.box_px[:, None] / observation.focal_px * place[:, 2:])
        sideways = torch.cat([sideways, torch.zeros_like(sideways[:, :1])], 1)
        return torch.cat([sideways, place[:, :, None]], 2)

    def _by_pose(self, chain: "_Chain", variables: Variables, gradient: Tensor, curvature: Tensor) -> None:
        where = variables.slices()["pose"]
        if variables.latent.shape[1] == gradient.shape[1]:
            chain.own(where, gradient, curvature)
            return
        d_latent = self.prior.chain(torch.diag_embed(torch.ones_like(gradient)), variables.latent)
        weighted = d_latent * curvature[:, :, None]
        chain.own(where, (d_latent * gradient[:, :, None]).sum(1), d_latent.transpose(1, 2) @ weighted)

    def _rendered(self, variables, observation, stage: Stage) -> tuple[list[Tensor], Tensor]:
        """The DSR terms, weighted, each [N], and their gradient [N, P] by Variables.flat.

        Of somebody cut off the crop shows less than a person, so that the same distance is more of it: there they count
        less by the square of that, as the keypoints do.
        """
        targets = observation.targets_at[stage.crop_px]
        side = (targets.window_px[:, 2] - targets.window_px[:, 0]) / COMPARED_MARGIN
        cut = (side / observation.box_px).square().clamp(max=1)
        flat = variables.flat().detach().requires_grad_()
        with torch.enable_grad():
            vertices = self.vertices_cam(variables.with_flat(flat), observation)
            focal, center = observation.focal_px.float(), observation.center_px.float()
            values = self.semantics(vertices, focal, center, targets)
            terms = [
                getattr(self.weights, name) * cut * values[name].to(flat) for name in self.semantics.names
            ]
            (gradient,) = torch.autograd.grad(sum(terms).sum(), flat)
        return [value.detach() for value in terms], gradient


class _Chain:
    """Gradient [N, P] and curvature [N, P, P] by Variables.flat, as terms add to them."""

    def __init__(self, variables: Variables):
        flat = variables.flat()
        self.where = variables.slices()
        self.gradient = torch.zeros_like(flat)
        self.curvature = flat.new_zeros(*flat.shape, flat.shape[1])

    def own(self, where: slice, gradient: Tensor, curvature: Tensor) -> None:
        """Of entries of `flat` themselves."""
        self.gradient[:, where] += gradient
        if curvature.dim() == 2:
            self.curvature.diagonal(dim1=1, dim2=2)[:, where] += curvature
        else:
            self.curvature[:, where, where] += curvature

    def along(self, jacobian: Tensor, gradient: Tensor, curvature: Tensor) -> None:
        """Of coordinates [N, Q] with derivatives [N, Q, P]; curvature [N, Q]."""
        self.gradient += torch.bmm(gradient[:, None], jacobian)[:, 0]
        rows = jacobian * curvature.sqrt()[:, :, None]
        self.curvature.baddbmm_(rows.transpose(1, 2), rows)

    def by_latent_and_down(self, weight: float, gradient: Tensor, curvature: Tensor, d_down: Tensor) -> None:
        """`weight` times that of the latent and of down; d_down [N, 3, 5] by turn and tilt."""
        latent, turn, tilt = self.where["pose"], self.where["orientation"], self.where["level"]
        size = gradient.shape[1] - 3
        self.curvature[:, latent, latent].add_(curvature[:, :size, :size], alpha=weight)
        gradient, curvature = weight * gradient, weight * curvature[:, :, size:]
        self.gradient[:, latent] += gradient[:, :size]
        moved = torch.bmm(gradient[:, None, size:], d_down)[:, 0]
        self.gradient[:, turn] += moved[:, :3]
        self.gradient[:, tilt] += moved[:, 3:]
        mixed = curvature[:, :size] @ d_down
        square = d_down.transpose(1, 2) @ curvature[:, size:] @ d_down
        for one, part in ((turn, slice(0, 3)), (tilt, slice(3, 5))):
            self.curvature[:, latent, one] += mixed[:, :, part]
            self.curvature[:, one, latent] += mixed[:, :, part].transpose(1, 2)
            for other, rest in ((turn, slice(0, 3)), (tilt, slice(3, 5))):
                self.curvature[:, one, other] += square[:, part, rest]


@lru_cache(maxsize=2)
def single_precision(body: BodyModel) -> BodyModel:
    """A float32 copy, made once for a body, not for every photo."""
    return body if body.template.dtype == torch.float32 else copy.deepcopy(body).float()


@lru_cache(maxsize=2)
def keypoint_model(body: BodyModel) -> KeypointModel:
    """The body's KeypointModel for the keypoints of each of SOURCES, made once."""
    targets = np.stack([body_targets(source, *body.joint_layout)[0] for source in SOURCES])
    return KeypointModel(body, torch.as_tensor(targets))
