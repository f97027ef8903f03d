"""Where fits begin: the lifter's answer, or the prior's mean turned all ways, upright along the seen torso."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from fitter.config import Optimisation
from fitter.energy.objective import Objective
from fitter.energy.observation import Observation, Variables
from fitter.energy.terms import TORSO
from fitter.rows import as_of_several
from priors.lifter import LIMBS, PAIRS, Lifted
from priors.rotation import axis_angle_from_matrix, rotation_from_axis_angle
from priors.simple import down_in_camera
from priors.skeleton import JOINT_NAMES, JOINT_PARENTS

FACING_CAMERA = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))  # body Y up, +Z front -> camera


def first_starts(objective: Objective, observation: Observation, settings: Optimisation) -> Variables:
    """One row per person and yaw: the prior's mean pose, upright along the seen torso, at the seen size."""
    like = observation.keypoints_px
    angles = like.new_tensor(settings.yaws) * (math.pi / 180)
    people, count = len(like), len(angles)
    observation = observation.rows(torch.arange(people, device=like.device).repeat_interleave(count))
    facing = like.new_tensor(FACING_CAMERA)
    roll = torso_roll(observation.keypoints_px, observation.confidence)
    orientation = _about("z", roll) @ facing @ _about("y", angles).repeat(people, 1, 1)
    latent = objective.prior.starts(1).to(like).expand(len(roll), -1)
    return at_seen_size(orientation, latent, objective, observation)


LIMB_JOINTS = {  # the joint that turns a limb, and the joint at its end
    "upper arm": ("shoulder", "elbow"), "forearm": ("elbow", "wrist"), "thigh": ("hip", "knee"),
    "shank": ("knee", "ankle"),
}  # fmt: skip
FACING = tuple(PAIRS.index(pair) for pair in ((1, 5), (1, 2), (8, 12), (8, 9)))  # half shoulders and hips
HIPS, SEEN = (9, 12), 0.2  # BODY_25; confidence from which they are
APART_M = 0.06  # ways of a limb nearer to each other are one


def limb_joints() -> dict[str, tuple[int, int]]:
    """Of each of `priors.lifter.LIMBS` the joint that turns it and the joint at its end."""
    found = {}
    for name in LIMBS:
        side, _, part = name.partition(" ")
        start, end = (JOINT_NAMES.index(f"{side}_{joint}") for joint in LIMB_JOINTS[part])
        found[name] = start, end
    return found


def lifted_starts(objective: Objective, observation: Observation, settings: Optimisation) -> Variables:
    """Rows per person, at the seen size: the lifter's pose and orientation; the same with what is most open the other
    way, one limb or the whole person; and the prior's poses (all but two of `starts`) in the lifter's orientation."""
    orientations, latents = as_of_several(
        lambda seen: _begun(objective, seen, max(0, settings.starts - 2)), observation
    )
    people, count = latents.shape[:2]
    seen = observation.rows(torch.arange(people, device=latents.device).repeat_interleave(count))
    return at_seen_size(orientations.flatten(0, 1), latents.flatten(0, 1), objective, seen)


def _begun(objective: Objective, observation: Observation, count: int) -> tuple[Tensor, Tensor]:
    """Orientations [N, S, 3, 3] and latents [N, S, D] of `lifted_starts`, `count` of the prior's poses last."""
    lifted, latent_of = Lifted(**observation.lifted), objective.prior.latent
    latent = latent_of(axis_angle_from_matrix(lifted.rotations).flatten(1))
    first = at_seen_size(lifted.orientation, latent, objective, observation)
    orientation, rotations = _other_way(lifted, objective.joints_cam(first, observation))
    other = latent_of(axis_angle_from_matrix(rotations).flatten(1))
    poses = objective.prior.starts(count).to(latent).expand(len(latent), -1, -1)
    latents = torch.cat([latent[:, None], other[:, None], poses], 1)
    orientations = lifted.orientation[:, None].repeat(1, latents.shape[1], 1, 1)
    orientations[:, 1] = orientation
    cut = (
        observation.confidence[:, HIPS].amin(1) < SEEN
    )  # what a trunk without hips leans by is anybody's guess
    return torch.where(
        cut[:, None, None, None], _upright(orientations, observation.tilt), orientations
    ), latents


def _upright(orientation: Tensor, tilt: Tensor) -> Tensor:
    """Orientations [N, S, 3, 3] turned about as little as makes the body's y point up, by tilt [N, 2] of the camera."""
    up = -down_in_camera(tilt)[:, None].expand(orientation.shape[:-1])
    side = torch.nn.functional.normalize(torch.linalg.cross(up, orientation[..., 2]), dim=-1)
    return torch.stack([side, up, torch.linalg.cross(side, up)], -1)


def at_seen_size(
    orientation: Tensor, latent: Tensor, objective: Objective, observation: Observation
) -> Variables:
    """The mean body in root orientations [N, 3, 3] and poses [N, D], where it is as large as the seen one."""
    zero, betas = latent.new_zeros(len(latent), 3), latent.new_zeros(len(latent), 10)
    place = latent.new_tensor([0.0, 0.0, 1.0]).expand(len(latent), 3)
    variables = Variables(zero, zero, latent, betas, observation.tilt, orientation, place)
    place = place_by_size(objective.keypoints_m(variables, observation), observation)
    return replace(variables, start_place_m=place)


def other_way_odds(lifted: Lifted) -> Tensor:
    """How likely each of LIMBS points the less likely way, [N, 8] in 0..1/2; 0 where both ways are one."""
    ways = slice(len(LIMBS))
    apart = (lifted.far - lifted.near)[:, ways] > APART_M
    return torch.sigmoid(-lifted.log_odds[:, ways].abs()) * apart


def _other_way(lifted: Lifted, joints_m: Tensor) -> tuple[Tensor, Tensor]:
    """Orientation and rotations of whoever has their most open limb reflected in depth, or, where it is more open, is
    turned half round. joints_m [N, 24, 3]: of the lifter's body, camera axes."""
    open_limbs, facing = other_way_odds(lifted), torch.sigmoid(-lifted.log_odds[:, FACING].abs()).mean(1)
    chance, limb = open_limbs.max(1)
    turned = lifted.orientation.clone()
    rotations = lifted.rotations.clone()
    whole = [lifted.orientation]
    for joint in range(1, 24):
        whole.append(whole[JOINT_PARENTS[joint]] @ lifted.rotations[:, joint - 1])
    for number, (start, end) in enumerate(limb_joints().values()):
        bone = torch.nn.functional.normalize(joints_m[:, end] - joints_m[:, start], dim=-1)
        along = (bone * lifted.axis).sum(1, keepdim=True)
        across = torch.nn.functional.normalize(torch.linalg.cross(bone, lifted.axis, dim=-1), dim=-1)
        turn = rotation_from_axis_angle(across * (2 * torch.asin(along.clamp(-1, 1))))
        turn = turn.transpose(1, 2)
        moved = turn @ whole[start]
        chosen = ((limb == number) & (chance >= facing))[:, None, None]
        parent = whole[JOINT_PARENTS[start]]
        rotations[:, start - 1] = torch.where(chosen, parent.transpose(1, 2) @ moved, rotations[:, start - 1])
        rotations[:, end - 1] = torch.where(chosen, moved.transpose(1, 2) @ whole[end], rotations[:, end - 1])
    half = _about("y", lifted.axis.new_tensor([math.pi]))
    turned = torch.where((chance < facing)[:, None, None], turned @ half, turned)
    return turned, rotations


def _about(axis: str, angle: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] by `angle` [N] rad about the camera's z or the body's y axis."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    entries = (
        [c, -s, zero, s, c, zero, zero, zero, one]
        if axis == "z"
        else [c, zero, s, zero, one, zero, -s, zero, c]
    )
    return torch.stack(entries, -1).reshape(-1, 3, 3)


def torso_roll(keypoints_px: Tensor, confidence: Tensor) -> Tensor:
    """Angle [N] rad by which the seen torso is turned in the picture; 0 = upright or not seen."""
    weight = torch.stack([confidence[:, joint] for joint in TORSO], 1)
    shoulders, hips = ((keypoints_px[:, a] + keypoints_px[:, b]) / 2 for a, b in (TORSO[:2], TORSO[2:]))
    up = shoulders - hips
    return torch.where((weight > 0.2).all(1), torch.atan2(up[:, 0], -up[:, 1]), torch.zeros_like(up[:, 0]))


def place_by_size(points_m: Tensor, observation: Observation) -> Tensor:
    """Pelvis position [N, 3] m at which the body's seen keypoints have the picture's spread and centre.

    points_m [N, 25, 3]: the body's keypoints, camera axes, about the pelvis.
    """
    model = points_m[..., :2]
    weight = (observation.confidence * (observation.confidence > 0.2))[..., None]
    weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, observation.confidence[..., None] + 1e-6)
    weight = weight / weight.sum(1, keepdim=True)
    mean_px, mean_m = (weight * observation.keypoints_px).sum(1), (weight * model).sum(1)
    spread_px = (weight * (observation.keypoints_px - mean_px[:, None]) ** 2).sum((1, 2)).sqrt()
    spread_m = (weight * (model - mean_m[:, None]) ** 2).sum((1, 2)).sqrt()
    depth = observation.focal_px.mean(1) * spread_m.clamp(min=0.05) / spread_px.clamp(min=1.0)
    centre = (mean_px - observation.center_px) / observation.focal_px * depth[:, None] - mean_m
    return torch.cat([centre, depth[:, None]], 1)


def with_turned(start: Variables) -> Variables:
    """Every row, and after it the same turned by 180 degrees about the body's own vertical."""
    count, device = len(start.betas), start.betas.device
    half = _about("y", start.betas.new_tensor([math.pi]))
    is_turned = (torch.arange(2 * count, device=device) % 2 == 1)[:, None, None]
    both = start.rows(torch.arange(count, device=device).repeat_interleave(2))
    orientation = torch.where(is_turned, both.start_orientation @ half, both.start_orientation)
    return replace(both, start_orientation=orientation)
