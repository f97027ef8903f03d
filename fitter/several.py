"""One instant in several calibrated cameras: who of the people seen is whom, and one body in all of their photos."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch

from fitter.config import BODY, FitConfig
from fitter.energy.objective import Objective
from fitter.energy.semantics import make_targets
from fitter.energy.tied import Course, Found, Tied, fit_tied
from fitter.people import Sighting, bodies_of_rows, make_fits, observe
from fitter.see.person_box import BOX_CONFIDENCE, box_side
from fitter.see.rig import RigCamera
from fitter.write.result import Fit
from priors.rotation import axis_angle_from_matrix, rotation_from_axis_angle

SAME_POINT = 0.06  # of the box's longer side: median distance of keypoints of two photos from one place each
FEWEST = 5  # keypoints that both photos show, of one person
REACH_M = 0.15, 1.3  # median distance of a person's keypoints from their middle


@dataclass(frozen=True)
class Look:
    """A person in one camera's photo: the sighting, where the camera stands, and their fit to this photo alone."""

    sighting: Sighting
    camera: RigCamera
    alone: Fit

    def projection(self) -> np.ndarray:
        """[3, 4]: from the world, m, to px of the picture that was fitted."""
        lens = self.sighting.camera
        k = np.array([[lens.fx_px, 0, lens.cx_px], [0, lens.fy_px, lens.cy_px], [0, 0, 1]])
        return k @ np.column_stack([self.camera.rotation, self.camera.translation_m])


@dataclass(frozen=True)
class World:
    """One person at one instant in the world of the calibration: pose [72] rad, root to world; betas [10]; transl_m
    [3], added after posing; joints_m [24, 3]; keypoints_m [25, 3]; fits: the same body in each camera's photo; cameras:
    of these, in their order."""

    pose: np.ndarray
    betas: np.ndarray
    transl_m: np.ndarray
    joints_m: np.ndarray
    keypoints_m: np.ndarray
    fits: tuple[Fit, ...]
    cameras: tuple[RigCamera, ...]


def same_people(seen: Sequence[Look]) -> list[list[int]]:
    """Who of all photos of an instant is one person: row numbers of `seen`, at most one a camera, whoever is in several
    photos first, larger before smaller."""
    groups = [[row] for row in range(len(seen))]
    costs = {}
    for a, b in combinations(range(len(seen)), 2):
        if seen[a].camera.name != seen[b].camera.name:
            costs[a, b] = apart(seen[a], seen[b])
    while True:
        best = None
        for one, other in combinations(groups, 2):
            names = [seen[row].camera.name for row in (*one, *other)]
            if len(set(names)) == len(names):
                cost = np.mean([costs[min(a, b), max(a, b)] for a in one for b in other])
                if cost < SAME_POINT and (best is None or cost < best[0]):
                    best = cost, one, other
        if best is None:
            break
        groups = [group for group in groups if group is not best[1] and group is not best[2]]
        groups.append(sorted(best[1] + best[2]))
    size = {
        tuple(group): np.mean([box_side(seen[row].sighting.person.box_px) for row in group])
        for group in groups
    }
    return sorted(groups, key=lambda group: (len(group) == 1, -size[tuple(group)]))


def apart(one: Look, other: Look) -> float:
    """How far two photos are from showing one person: `SAME_POINT`'s measure; inf where they cannot."""
    points = np.stack([part.sighting.keypoints_px for part in (one, other)])
    both = (points[..., 2] > BOX_CONFIDENCE).all(0)
    if both.sum() < FEWEST:
        return np.inf
    places, away = triangulate(points, np.stack([one.projection(), other.projection()]))
    reach = np.median(np.linalg.norm(places[both] - np.median(places[both], 0), axis=1))
    if not REACH_M[0] < reach < REACH_M[1]:
        return np.inf
    sides = np.array([box_side(part.sighting.person.box_px) for part in (one, other)])
    return float(np.median((away[:, both] / sides[:, None]).max(0)))


def triangulate(points: np.ndarray, projections: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places [K, 3] m of points [V, K, 3] (px, confidence) seen by V cameras [V, 3, 4], and how far each view has them
    from where it should [V, K] px; NaN seen by fewer than two, inf behind a camera."""
    rows = points[..., :2, None] * projections[:, None, None, 2] - projections[:, None, :2]
    rows = rows / np.linalg.norm(rows[..., :3], axis=-1, keepdims=True) * points[..., 2, None, None]
    _, _, right = np.linalg.svd(rows.transpose(1, 0, 2, 3).reshape(points.shape[1], -1, 4))
    last = right[:, -1]
    with np.errstate(all="ignore"):
        places = last[:, :3] / last[:, 3:]
        seen = np.einsum("vij,kj->vki", projections, np.column_stack([places, np.ones(len(places))]))
        away = np.linalg.norm(seen[..., :2] / seen[..., 2:] - points[..., :2], axis=-1)
    away[seen[..., 2] <= 0] = np.inf
    places[(points[..., 2] > 0).sum(0) < 2] = np.nan
    return places, away


def one_body(
    seen: Sequence[Look], objective: Objective, config: FitConfig, start: World | None = None
) -> World:
    """One person's body in all their photos: with labels by the DSR terms, begun at `start`, what was found without;
    else by the keypoints, begun at each photo's own fit, the best of which is kept."""
    sightings = [one.sighting for one in seen]
    observation = observe(sightings, objective.body, config.optimisation, objective.lifter)
    like = objective.body.template
    turned, moved = (
        torch.as_tensor(np.stack([getattr(one.camera, name) for one in seen])).to(like)
        for name in ("rotation", "translation_m")
    )
    count = len(seen)
    tied = Tied(
        objective,
        observation,
        instant=torch.zeros(count, dtype=torch.int64, device=like.device),
        turned=turned,
        moved_m=moved,
        bends=torch.zeros(0, 1, dtype=torch.float64),
        held=torch.zeros(1, dtype=torch.bool),
    )
    stages = [
        replace(stage, free=BODY, pose_scale=stage.pose_scale / count, shape_scale=stage.shape_scale / count)
        for stage in config.optimisation.stages
        if "pose" in stage.free
    ]  # what is believed of the body counts once, not once a photo
    if start is None:
        chosen = tuple(stage for stage in stages if not stage.crop_px)
        found = [fit_tied(tied, one, chosen) for one in _starts(seen, objective, observation.tilt)]
        best = min(found, key=lambda one: one.energy if np.isfinite(one.energy) else np.inf)
    else:
        chosen = tuple(stage for stage in stages if stage.crop_px)
        dressed = [row for row, one in enumerate(sightings) if one.labels is not None]
        people, labels = (
            [sightings[row].person for row in dressed],
            [sightings[row].labels for row in dressed],
        )
        at = {
            size: make_targets(people, labels, config.semantics, size).to(like.device)
            for size in sorted({stage.crop_px for stage in chosen})
        }
        worn = replace(observation.rows(dressed), targets_at=at)
        tied = replace(
            tied,
            dressed=torch.tensor(dressed, device=like.device),
            worn=worn,
        )
        best = fit_tied(
            tied, _motion_of(start.pose, start.betas, start.transl_m, objective, observation.tilt), chosen
        )
    return _world(best, tied, seen, config)


def _motion_of(pose, betas, transl, objective: Objective, tilt) -> Course:
    like = objective.body.template
    pose, betas, transl = (torch.as_tensor(np.asarray(part))[None].to(like) for part in (pose, betas, transl))
    pelvis = objective.body(betas, pose, with_vertices=False).joints[:, 0] + transl
    return Course(
        rotation_from_axis_angle(pose[:, :3]), pelvis, objective.prior.latent(pose[:, 3:]), betas, tilt
    )


def _starts(seen: Sequence[Look], objective: Objective, tilt) -> list[Course]:
    """Each photo's own fit in the world, moved and turned to where all photos see its keypoints."""
    points = np.stack([one.sighting.keypoints_px for one in seen])
    places, _ = triangulate(points, np.stack([one.projection() for one in seen]))
    weight = np.where(
        np.isfinite(places).all(1),
        (points[..., 2] ** 2).sum(0) * ((points[..., 2] > BOX_CONFIDENCE).sum(0) > 1),
        0,
    )
    mean = np.mean([one.alone.betas for one in seen], 0)
    found = []
    for one in seen:
        back = one.camera.rotation.T
        motion = _motion_of(one.alone.pose, one.alone.betas, one.alone.transl_cam, objective, tilt)
        own = (one.alone.keypoints_cam - one.camera.translation_m) @ back.T
        turn, shift = _laid_upon(own, places, weight)
        pelvis = (motion.place_m[0].cpu().numpy() - one.camera.translation_m) @ back.T
        found.append(
            replace(
                motion,
                orientation=torch.as_tensor(turn @ back).to(motion.orientation) @ motion.orientation,
                place_m=torch.as_tensor(turn @ pelvis + shift)[None].to(motion.place_m),
                betas=torch.as_tensor(mean)[None].to(motion.betas),
            )
        )
    return found


def _laid_upon(points: np.ndarray, places: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [3, 3] and shift [3] that lay points [K, 3] on places [K, 3], weighted [K]; none where fewer than four
    count."""
    if (weight > 0).sum() < 4:
        return np.eye(3), np.zeros(3)
    share = (weight / weight.sum())[:, None]
    places = np.where(share > 0, places, 0)
    middle, onto = (share * points).sum(0), (share * places).sum(0)
    u, _, vt = np.linalg.svd((share * (points - middle)).T @ (places - onto))
    turn = vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T
    return turn, onto - turn @ middle


def _world(found: Found, tied: Tied, seen: Sequence[Look], config: FitConfig) -> World:
    objective, motion, rows = tied.objective, found.motion, tied.rows_of(found.motion)
    energies = {name: value for name, value in found.energies.items() if name != "smooth"}
    bodies = bodies_of_rows(objective, tied.seen, rows, energies, [found.failure] * len(seen))
    fits = make_fits(bodies, [one.sighting for one in seen], tied.seen, objective, config.limits, alone=False)
    pose = torch.cat(
        [axis_angle_from_matrix(motion.orientation), objective.prior.body_pose(motion.latent)], 1
    )
    posed = objective.body(motion.betas, pose, with_vertices=False)
    shift = motion.place_m - posed.joints[:, 0]
    camera, first = seen[0].camera, fits[0]
    return World(
        pose=pose[0].cpu().numpy(),
        betas=motion.betas[0].cpu().numpy(),
        transl_m=shift[0].cpu().numpy(),
        joints_m=(posed.joints + shift[:, None])[0].cpu().numpy(),
        keypoints_m=(first.keypoints_cam - camera.translation_m) @ camera.rotation,
        fits=tuple(fits),
        cameras=tuple(one.camera for one in seen),
    )
