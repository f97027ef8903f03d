"""From people in photos to their fits: observation -> stages -> result. People of any photos share a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from fitter.body.model import BodyModel
from fitter.config import FitConfig, Limits, Optimisation, Weights
from fitter.energy.objective import Objective
from fitter.energy.observation import Observation, Variables
from fitter.energy.semantics import SemanticTerms, make_targets
from fitter.energy.shared import agree
from fitter.energy.stages import Fitted, refine, search
from fitter.energy.starts import APART_M, limb_joints
from fitter.label.person_labels import PersonLabels
from fitter.see.camera import Camera, project_points
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import BODY_25, SOURCES, Person, confident
from fitter.see.person_box import BOX_CONFIDENCE, box_side
from fitter.see.visibility import believed, joint_states, scale_px, within_photo
from fitter.trust import LEARNED_WITH, beside_lifter, judged
from fitter.write.result import Fit
from priors.lifter import Lifted, Lifter, Seen, load_lifter
from priors.pose import PosePrior
from priors.rotation import axis_angle_from_matrix, rotation_from_axis_angle
from priors.simple import down_in_camera

CLOSE = 22.0  # energy: 10 a nat, so that the runner-up is at least a tenth as likely


@dataclass(frozen=True)
class Sighting:
    """One person in one photo: image, the photo's name; labels of their clothes, None without; start, a body to begin
    from (pose [72] rad, betas [10], transl_cam [3] m in `Fit`'s fields), None to search for one; image_rgb: the photo,
    for methods that look at it."""

    image: str
    person: Person
    camera: Camera
    labels: PersonLabels | None = None
    start: Fit | None = None
    image_rgb: np.ndarray | None = None

    @cached_property
    def keypoints_px(self) -> np.ndarray:
        """The person's keypoints [25, 3] px, less sure near the photo's edge: `within_photo`."""
        return within_photo(self.person, (self.camera.width, self.camera.height))


@dataclass(frozen=True)
class Bodies:
    """N people's bodies: pose [N, 72] rad, betas [N, 10], transl_cam [N, 3] m; energies: weighted terms by name [N];
    quality: further numbers by name [N]; failures: in words, "" where there is none; runner_up: the second best, if it
    was looked for, and in `behind` [N] how much more energy it has."""

    pose: Tensor
    betas: Tensor
    transl_cam: Tensor
    energies: dict[str, Tensor]
    quality: dict[str, Tensor]
    failures: Sequence[str]
    runner_up: "Bodies | None" = None
    behind: Tensor | None = None


def fit_people(
    image: str,
    people: list[Person],
    camera: Camera,
    body: BodyModel,
    prior: PosePrior,
    config: FitConfig,
    labels: list[PersonLabels | None] | None = None,
    semantics: SemanticTerms | None = None,
    start: list[Fit] | None = None,
    turned: bool = False,
) -> list[Fit]:
    """`fit_sightings` of all people of one photo, in their order."""
    labels, begun = labels or [None] * len(people), start or [None] * len(people)
    seen = [
        Sighting(image, person, camera, known, one)
        for person, known, one in zip(people, labels, begun, strict=True)
    ]
    settings = config.optimisation
    lifter = lifter_like(body.template.dtype, body.template.device) if settings.lifter else None
    objective = Objective(body, prior, config.weights, settings.sigma, semantics, lifter)
    first = fit_keypoints(objective, seen, config, turned)
    dsr = semantics is not None and config.semantics.used
    return fit_clothing(objective, seen, first, config) if dsr else first


def fit_keypoints(
    objective: Objective, seen: list[Sighting], config: FitConfig, turned: bool = False
) -> list[Fit]:
    """Fits to keypoints alone, in their order. Model and prior decide dtype and device.

    Whoever has a `start` is begun there (turned: and turned half round), the others are searched for.
    """
    stages = tuple(stage for stage in config.optimisation.stages if not stage.crop_px)
    later = tuple(stage for stage in stages if stage.keep == 1)  # the others choose among starts
    if not seen:
        return []
    observation = observe(seen, objective.body, config.optimisation, objective.lifter)
    parts, order, failures = [], [], [""] * len(seen)
    for begun in (True, False):
        rows = [row for row, one in enumerate(seen) if (one.start is not None) == begun]
        if not rows:
            continue
        part = observation.rows(rows)
        if begun:
            start = variables_of([seen[row].start for row in rows], objective, part.tilt)
            fitted = refine(objective, part, later, start, turned)
        else:
            fitted = search(objective, part, config.optimisation)
        parts, order = [*parts, fitted], [*order, *rows]
        for row, failure in zip(rows, fitted.failures(later if begun else stages), strict=True):
            failures[row] = failure
    fitted = parts[0].cat(*parts[1:]).rows(np.argsort(order).tolist())
    fitted = agree(objective, observation, fitted, later[-1])
    bodies = bodies_of(objective, observation, fitted, failures)
    return make_fits(bodies, seen, observation, objective, config.limits)


def fit_clothing(
    objective: Objective, seen: list[Sighting], first: list[Fit], config: FitConfig
) -> list[Fit]:
    """Fits with the DSR terms, begun at `first`, what `fit_keypoints` found; whoever has no labels keeps that.

    No fit ends above the energy of `first`, nor of the `start` it had.
    """
    rows = [row for row, one in enumerate(seen) if one.labels is not None]
    stages = tuple(stage for stage in config.optimisation.stages if stage.crop_px)
    if not rows or not stages:
        return first
    own = [seen[row] for row in rows]
    observation = observe(own, objective.body, config.optimisation, objective.lifter)
    people, labels = [one.person for one in own], [one.labels for one in own]
    at = {
        size: make_targets(people, labels, config.semantics, size).to(observation.box_px.device)
        for size in sorted({stage.crop_px for stage in stages})
    }
    observation = replace(observation, targets_at=at)
    begun = variables_of([first[row] for row in rows], objective, observation.tilt)
    given = variables_of([one.start or first[row] for row, one in zip(rows, own, strict=True)],
                         objective, observation.tilt)  # fmt: skip
    fitted = refine(objective, observation, stages, begun, given=given)
    failures = [
        next((reason for reason in first[row].reasons if "is not finite" in reason), "") or failure
        for row, failure in zip(rows, fitted.failures(stages), strict=True)
    ]
    fits = make_fits(
        bodies_of(objective, observation, fitted, failures), own, observation, objective, config.limits
    )
    result = list(first)
    for row, fit in zip(rows, fits, strict=True):
        result[row] = replace(fit, runner_up=first[row].runner_up, open_limbs=first[row].open_limbs)
    return result


def variables_of(bodies: Sequence[Fit], objective: Objective, tilt: Tensor) -> Variables:
    """The optimiser's variables of known bodies; tilt [N, 2] rad: the camera's, of bodies whose `quality` does not say
    what they were fitted with."""
    like = objective.body.template
    pose, betas, transl = (
        torch.tensor(np.stack([getattr(body, name) for body in bodies])).to(like)
        for name in ("pose", "betas", "transl_cam")
    )
    pelvis = objective.body(betas, pose, with_vertices=False).joints[:, 0] + transl
    zero = torch.zeros_like(transl)
    found = [[body.quality.get(f"camera_{n}_deg", np.nan) for n in ("pitch", "roll")] for body in bodies]
    found = torch.tensor(found, dtype=like.dtype, device=like.device).deg2rad()
    tilt = torch.where(found.isfinite(), found, tilt)
    latent = objective.prior.latent(pose[:, 3:])
    return Variables(zero, zero, latent, betas, tilt, rotation_from_axis_angle(pose[:, :3]), pelvis)


@lru_cache(maxsize=2)
def lifter_like(dtype: torch.dtype, device: torch.device) -> Lifter:
    """The shipped lifter, loaded once."""
    return load_lifter().to(device, dtype)


def observe(
    seen: Sequence[Sighting],
    body: BodyModel,
    settings: Optimisation | None = None,
    lifter: Lifter | None = None,
) -> Observation:
    """Tensors of what is seen, on the body's device and in its dtype; one row per sighting. With what the lifter makes
    of it, if there is one."""
    settings = settings or Optimisation()
    people, cameras = [one.person for one in seen], [one.camera for one in seen]
    keypoints = np.stack([one.keypoints_px for one in seen])
    sure = np.stack([believed(k[:, 2], person.source) for k, person in zip(keypoints, people, strict=True)])
    trust = np.stack([body_targets(person.source, *body.joint_layout)[1] for person in people])
    for row, person in enumerate(people):  # means of two keypoints carry nothing that those do not
        trust[row, [BODY_25.index(name) for name in person.derived]] = 0
    tilts = [camera.tilt(settings.pitch_spread_deg, settings.roll_spread_deg) for camera in cameras]

    def tensor(array) -> Tensor:
        return torch.as_tensor(np.asarray(array)).to(body.template)

    def number(things: list, known: Sequence | None = None) -> Tensor:
        known = known or list(dict.fromkeys(things))
        return torch.tensor([known.index(one) for one in things], device=body.template.device)

    observation = Observation(
        keypoints_px=tensor(keypoints[..., :2]),
        confidence=tensor(sure * trust),
        source=number([person.source for person in people], SOURCES),
        box_px=tensor([scale_px(person) for person in people]),
        focal_px=tensor([[camera.fx_px, camera.fy_px] for camera in cameras]),
        center_px=tensor([[camera.cx_px, camera.cy_px] for camera in cameras]),
        tilt=tensor([tilt for tilt, _ in tilts]),
        tilt_spread=tensor([spread for _, spread in tilts]),
        photo=number([one.image for one in seen]),
        camera=number([(one.image, id(one.camera)) for one in seen]),  # another photo, another tilt
        body=torch.arange(len(people), device=body.template.device),
    )
    if lifter is None:
        return observation
    unknown = np.full(33, np.nan)
    landmarks = [unknown if p.landmarks_3d is None else p.landmarks_3d[:, 2] for p in people]
    return replace(observation, lifted=lift(lifter, observation, tensor(np.stack(landmarks))))


@torch.no_grad()
def lift(lifter: Lifter, observation: Observation, landmarks_m: Tensor) -> dict[str, Tensor]:
    """`Observation.lifted`; landmarks_m [N, 33]: BlazePose's depths, nan where there are none."""
    seen = Seen(
        rays=(observation.keypoints_px - observation.center_px[:, None]) / observation.focal_px[:, None],
        confidence=observation.confidence,
        down=down_in_camera(observation.tilt),
        tilt_spread=observation.tilt_spread,
        precise=observation.source != SOURCES.index("detector"),
        landmarks_m=landmarks_m,
    )
    return vars(lifter(seen))


def bodies_of(objective: Objective, observation: Observation, fitted: Fitted, failures: list[str]) -> Bodies:
    """What the optimiser found, as bodies, with the runners-up of its last stage."""
    bodies = bodies_of_rows(objective, observation, fitted.variables, fitted.energies, failures)
    quality = bodies.quality | {"energy_start": fitted.energy_start}
    runner_up = _as_bodies(objective, observation, fitted.runner_up)
    return replace(bodies, quality=quality, runner_up=runner_up, behind=fitted.behind)


def bodies_of_rows(
    objective: Objective,
    observation: Observation,
    variables: Variables,
    energies: dict[str, Tensor],
    failures: list[str],
) -> Bodies:
    """The optimiser's variables as bodies, with their energies, weighted terms by name [N]."""
    quality = {
        "energy": torch.stack(list(energies.values()), 1).sum(1),  # row by row, so in any company
        "camera_pitch_deg": variables.tilt[:, 0].rad2deg(),
        "camera_roll_deg": variables.tilt[:, 1].rad2deg(),
    }
    bodies = _as_bodies(objective, observation, variables)
    return replace(bodies, energies=energies, quality=quality, failures=failures)


def _as_bodies(objective: Objective, observation: Observation, variables: Variables) -> Bodies:
    body_pose = objective.prior.body_pose(variables.latent)
    pose = torch.cat([axis_angle_from_matrix(variables.orientation()), body_pose], 1)
    joints = objective.body(variables.betas, pose, with_vertices=False).joints
    transl = variables.place_m(observation) - joints[:, 0]
    return Bodies(pose, variables.betas, transl, {}, {}, [""] * len(pose))


@torch.no_grad()
def make_fits(
    bodies: Bodies,
    seen: Sequence[Sighting],
    observation: Observation,
    objective: Objective,
    limits: Limits,
    alone: bool = True,
) -> list[Fit]:
    """Bodies as results, measured against what was seen; alone: by one photo each, so that `trust` can be asked."""
    body, prior = objective.body, objective.prior
    posed = body(bodies.betas, bodies.pose)
    place = bodies.transl_cam[:, None]
    joints, vertices, points = (part + place for part in (posed.joints, posed.vertices, body.points(posed)))
    targets = objective.keypoints.targets[observation.source]
    lens = observation.focal_px, observation.center_px
    keypoints_cam = targets @ points
    keypoints = project_points(keypoints_cam, *lens)
    joints_px = project_points(joints, *lens).where(joints[..., 2:] > 0, joints.new_tensor(torch.nan))
    joints_px = joints_px.cpu().numpy()
    pose_energy, percentile = prior.rank(bodies.pose[:, 3:])
    numbers = {
        "pose_energy": pose_energy,
        "pose_percentile": percentile,
        "max_abs_beta": bodies.betas.abs().amax(1),
        **bodies.quality,
    }
    if observation.lifted:
        numbers |= beside_lifter(Lifted(**observation.lifted), bodies.pose, keypoints_cam)
    numbers = {name: value.tolist() for name, value in numbers.items()}
    energies = {name: value.tolist() for name, value in bodies.energies.items()}
    arrays = {
        "pose": bodies.pose,
        "betas": bodies.betas,
        "transl_cam": bodies.transl_cam,
        "focal_px": observation.focal_px,
        "center_px": observation.center_px,
        "joints_cam": joints,
        "vertices_cam": vertices,
        "keypoints_cam": keypoints_cam,
        "keypoints_px": keypoints,
    }
    arrays = {name: value.cpu().numpy() for name, value in arrays.items()}
    confidence = observation.confidence.cpu().numpy()
    others = runners_up(bodies, joints, body)
    usual = alone and objective.weights == Weights() and prior.name == LEARNED_WITH
    fits = []
    for row, one in enumerate(seen):
        person, labels = one.person, one.labels
        observed, size = one.keypoints_px, (one.camera.width, one.camera.height)
        hidden = labels.covered if labels and labels.covered is not None else np.zeros(25, bool)
        quality = {
            **({"parser_confidence": labels.soft.confidence} if labels and labels.soft else {}),
            "reprojection_pct": reprojection_pct(
                arrays["keypoints_px"][row], observed, confidence[row], person.box_px
            ),
            "keypoints_confident": float(confident(observed, person.derived).sum()),
            "size_px": box_side(person.box_px),
            "distance_m": float(arrays["joints_cam"][row, 0, 2]),
            **{name: float(values[row]) for name, values in numbers.items()},
        }
        fit = Fit(
            image=one.image,
            person=person.id,
            keypoint_source=person.source,
            image_size_px=np.array([one.camera.width, one.camera.height]),
            box_px=person.box_px,
            observed_px=observed,
            joint_states=joint_states(np.where(hidden, 0, observed[:, 2]), joints_px[row], size),
            derived=person.derived,
            energies={name: values[row] for name, values in energies.items()},
            quality=quality,
            valid=True,
            reasons=(),
            body_model=body.name,
            pose_prior=prior.name,
            camera_source=one.camera.source,
            **others[row],
            **{name: value[row] for name, value in arrays.items()},
        )
        fits.append(judged(fit, bodies.failures[row], limits, usual))
    return fits


def runners_up(bodies: Bodies, joints_cam: Tensor, body: BodyModel) -> list[dict]:
    """`Fit`'s runner_up and open_limbs of every row; empty where no other body is nearly as likely.

    joints_cam [N, 24, 3]: of the bodies themselves."""
    if bodies.runner_up is None:
        return [{}] * len(joints_cam)
    other = bodies.runner_up
    theirs = body(other.betas, other.pose, with_vertices=False).joints + other.transl_cam[:, None]
    close = ((bodies.behind > 0) & (bodies.behind < CLOSE)).tolist()
    kept = torch.cat([other.pose, other.betas, other.transl_cam], 1).cpu().numpy()
    found: list[dict] = []
    for row, is_close in enumerate(close):
        names = open_limbs(joints_cam[row], theirs[row]) if is_close else ()
        found.append({"runner_up": kept[row], "open_limbs": names} if is_close else {})
    return found


def open_limbs(joints_m: Tensor, other_m: Tensor) -> tuple[str, ...]:
    """Which of `priors.lifter.LIMBS` point nearer in one body and farther in the other; joints [24, 3] m each, camera
    axes."""
    names = []
    for limb, (start, end) in limb_joints().items():
        ways = [float(joints[end, 2] - joints[start, 2]) for joints in (joints_m, other_m)]
        if ways[0] * ways[1] < 0 and abs(ways[0] - ways[1]) > APART_M:
            names.append(limb)
    return tuple(names)


def reprojection_pct(
    model_px: np.ndarray, keypoints_px: np.ndarray, confidence: np.ndarray, box_px: np.ndarray
) -> float:
    """Median distance [per cent of the box's longer side] over confident keypoints that the mapping trusts.

    model_px: [25, 2]; keypoints_px: [25, 3]; confidence: [25], the mapping's trust multiplied in; box_px: [4].
    """
    used = (keypoints_px[:, 2] > BOX_CONFIDENCE) & (confidence > 0)
    if not used.any():
        return float("inf")
    distance = np.linalg.norm(model_px[used] - keypoints_px[used, :2], axis=1)
    return float(100 * np.median(distance) / box_side(box_px))
