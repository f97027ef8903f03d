"""From the people of one photo to their fits: observation -> stages -> result."""

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from fitter.body.model import BodyModel, rotation_from_axis_angle
from fitter.config import FitConfig, Limits, Optimisation
from fitter.energy.objective import Objective, Observation, Variables
from fitter.energy.semantics import SemanticTerms, make_targets
from fitter.energy.stages import Fitted, fit
from fitter.label.person_labels import PersonLabels
from fitter.see.camera import Camera, project_points
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import BODY_25, BOX_CONFIDENCE, Person
from fitter.write.result import Fit
from priors.pose import PosePrior


def fit_people(
    image: str,
    people: list[Person],
    camera: Camera,
    body: BodyModel,
    prior: PosePrior,
    config: FitConfig,
    labels: list[PersonLabels | None] | None = None,
    semantics: SemanticTerms | None = None,
    start: list[dict] | None = None,
    turned: bool = False,
) -> list[Fit]:
    """Fits of all people of one photo, in their order. The model and prior decide the dtype.

    labels: each person's clothing labels, None for those without; used where `semantics` is given too. start: each
    person's pose [72], betas [10] and transl_cam [3] to begin from (as `load_fit` gives them); turned: and from
    the same turned half round.
    """
    labelled = semantics is not None and labels is not None and any(known is not None for known in labels)
    labelled = labelled and config.semantics.used
    weights, settings = config.weights, config.optimisation
    objective = Objective(body, prior, weights, settings.sigma, semantics if labelled else None)
    observation = observe(people, camera, body, settings)
    if labelled:
        sizes = {stage.crop_px for stage in settings.stages} - {0}
        at = {s: make_targets(people, labels, config.semantics, s, torch.float32) for s in sorted(sizes)}
        observation = replace(observation, targets_at=at)
    else:
        settings = replace(settings, stages=tuple(stage for stage in settings.stages if not stage.crop_px))
    begun = None if start is None else variables_of(start, objective, observation.tilt)
    fitted = fit(objective, observation, settings, begun, turned)
    with torch.no_grad():
        return [
            _as_fit(image, person, known, camera, objective, observation, fitted, row, config)
            for row, (person, known) in enumerate(zip(people, labels or [None] * len(people), strict=True))
        ]


def variables_of(bodies: list[dict], objective: Objective, tilt: Tensor) -> Variables:
    """The optimiser's variables of known bodies: pose [72] rad, betas [10], transl_cam [3] m each.

    tilt [N, 2] rad: the camera's, of bodies whose `quality` does not say what they were fitted with.
    """
    like = objective.body.template
    pose, betas, transl = (
        torch.tensor(np.stack([body[name] for body in bodies])).to(like)
        for name in ("pose", "betas", "transl_cam")
    )
    pelvis = objective.body(betas, pose, with_vertices=False).joints[:, 0] + transl
    zero = torch.zeros_like(transl)
    found = [
        [body.get("quality", {}).get(f"camera_{n}_deg", np.nan) for n in ("pitch", "roll")] for body in bodies
    ]
    found = torch.tensor(found, dtype=like.dtype).deg2rad()
    tilt = torch.where(found.isfinite(), found, tilt)
    latent = objective.prior.latent(pose[:, 3:])
    return Variables(zero, zero, latent, betas, tilt, rotation_from_axis_angle(pose[:, :3]), pelvis)


def observe(
    people: list[Person], camera: Camera, body: BodyModel, settings: Optimisation | None = None
) -> Observation:
    """Tensors of what is seen, in the body's dtype; one row per person."""
    settings = settings or Optimisation()
    tilt, spread = camera.tilt(settings.pitch_spread_deg, settings.roll_spread_deg)
    dtype = body.template.dtype
    tables = [body_targets(person.source, *body.joint_layout) for person in people]
    keypoints = torch.tensor(np.stack([person.keypoints_px for person in people]), dtype=dtype)
    trust = torch.tensor(np.stack([weights for _, weights in tables]), dtype=dtype)
    boxes = np.stack([person.box_px for person in people])
    count = len(people)
    for row, person in enumerate(people):  # means of two keypoints carry nothing that those do not
        trust[row, [BODY_25.index(name) for name in person.derived]] = 0
    return Observation(
        keypoints_px=keypoints[..., :2],
        confidence=keypoints[..., 2] * trust,
        targets=torch.tensor(np.stack([matrix for matrix, _ in tables]), dtype=dtype),
        box_px=torch.tensor((boxes[:, 2:] - boxes[:, :2]).max(1), dtype=dtype),
        focal_px=torch.tensor([[camera.fx_px, camera.fy_px]] * count, dtype=dtype),
        center_px=torch.tensor([[camera.cx_px, camera.cy_px]] * count, dtype=dtype),
        tilt=torch.tensor([tilt] * count, dtype=dtype),
        tilt_spread=torch.tensor([spread] * count, dtype=dtype),
    )


def _as_fit(
    image, person: Person, labels, camera, objective, observation, fitted: Fitted, row: int, config
) -> Fit:
    index = torch.tensor([row])
    variables, seen = fitted.variables.rows(index), observation.rows(index)
    body_pose = objective.prior.body_pose(variables.latent)
    root = torch.tensor(Rotation.from_matrix(variables.orientation()[0].numpy()).as_rotvec()[None]).to(
        body_pose
    )
    pose = torch.cat([root, body_pose], 1)
    posed = objective.body(variables.betas, pose)
    transl = variables.place_m(seen) - posed.joints[:, 0]
    points = objective.body.points(posed) + transl[:, None]
    keypoints_px = project_points(seen.targets @ points, seen.focal_px, seen.center_px)[0].numpy()
    energies = {name: float(value[row]) for name, value in fitted.energies.items()}
    pose_energy, percentile = objective.prior.rank(body_pose)
    quality = {
        **({"parser_confidence": labels.soft.confidence} if labels and labels.soft else {}),
        "reprojection_pct": reprojection_pct(keypoints_px, person, seen.confidence[0].numpy()),
        "keypoints_confident": float((person.keypoints_px[:, 2] > BOX_CONFIDENCE).sum()),
        "pose_energy": float(pose_energy[0]),
        "pose_percentile": float(percentile[0]),
        "max_abs_beta": float(variables.betas.abs().max()),
        "energy": float(sum(energies.values())),
        "energy_start": float(fitted.energy_start[row]),
        "camera_pitch_deg": float(variables.tilt[0, 0].rad2deg()),
        "camera_roll_deg": float(variables.tilt[0, 1].rad2deg()),
    }
    reasons = reasons_against(quality, fitted.failure[row], config.limits)
    return Fit(
        image=image,
        person=person.id,
        keypoint_source=person.source,
        pose=pose[0].numpy(),
        betas=variables.betas[0].numpy(),
        transl_cam=transl[0].numpy(),
        focal_px=seen.focal_px[0].numpy(),
        center_px=seen.center_px[0].numpy(),
        image_size_px=np.array([camera.width, camera.height]),
        box_px=person.box_px,
        joints_cam=(posed.joints + transl[:, None])[0].numpy(),
        vertices_cam=(posed.vertices + transl[:, None])[0].numpy(),
        keypoints_px=keypoints_px,
        observed_px=person.keypoints_px,
        energies=energies,
        quality=quality,
        valid=not reasons,
        reasons=tuple(reasons),
        body_model=objective.body.name,
        pose_prior=objective.prior.name,
        camera_source=camera.source,
    )


def reprojection_pct(model_px: np.ndarray, person: Person, confidence: np.ndarray) -> float:
    """Median distance [per cent of the box's longer side] over confident keypoints that the mapping trusts.

    model_px: [25, 2]; confidence: [25], the mapping's trust multiplied in.
    """
    used = (person.keypoints_px[:, 2] > BOX_CONFIDENCE) & (confidence > 0)
    if not used.any():
        return float("inf")
    distance = np.linalg.norm(model_px[used] - person.keypoints_px[used, :2], axis=1)
    return float(100 * np.median(distance) / (person.box_px[2:] - person.box_px[:2]).max())


def reasons_against(quality: dict[str, float], failure: str, limits: Limits) -> list[str]:
    """Why a fit should not be trusted; empty = valid."""
    reasons = [failure] if failure else []
    if quality["keypoints_confident"] < limits.min_keypoints:
        reasons.append(f"{quality['keypoints_confident']:.0f} confident keypoints < {limits.min_keypoints}")
    if not quality["reprojection_pct"] <= limits.max_reprojection_pct:
        reasons.append(f"reprojection {quality['reprojection_pct']:.1f} % > {limits.max_reprojection_pct} %")
    if not quality["max_abs_beta"] <= limits.max_abs_beta:
        reasons.append(f"|beta| {quality['max_abs_beta']:.1f} > {limits.max_abs_beta}")
    if not quality["pose_percentile"] <= limits.max_pose_percentile:
        reasons.append(f"pose rarer than {limits.max_pose_percentile} % of motion capture")
    return reasons
