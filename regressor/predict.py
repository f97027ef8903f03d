"""`python -m regressor.predict --images dir/ --checkpoint FILE --out dir/`: the regressor's bodies, as fits in files.

The files are fit.py's own (`fitter.write.result`), so that a fit can start from them.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from fitter.body.model import BodyModel
from fitter.config import FitConfig, Limits
from fitter.energy.losses import CROP_PX
from fitter.people import observe, reasons_against, reprojection_pct
from fitter.run import Session, list_photos, report, result_names
from fitter.see.camera import Camera, camera_of_photo, project_points, read_image
from fitter.see.crops import crop_to_photo, cut, pyramid
from fitter.see.keypoints import BOX_CONFIDENCE, BOX_PADDING, Person, select_people
from fitter.write.result import Fit, is_finite, save_fit, skipped_row, summary_row
from priors.pose import PosePrior, load_pose_prior
from priors.rotation import axis_angle_from_matrix
from regressor.checkpoints import load_hmr
from regressor.hmr import HMR, Prediction, full_translation, limb_input, to_input

SQUARE_PER_EXTENT = 1.2  # SPIN's crops: 1.2 of the keypoints' extent
LEAST_SIDE_PX = 2.0


@dataclass(frozen=True)
class PredictConfig:
    """Predict SMPL bodies for the people in a folder of photos.

    Args:
        images: folder of photos, or one photo
        checkpoint: of the regressor: our own, SPIN's, EFT's or DSR's
        out: folder for the results
        mean_params: SPIN's smpl_mean_params.npz, for checkpoints without mean parameters
        keypoints: folder of OpenPose JSON, or a COCO JSON file; the shipped detector runs if not given
        camera: JSON/YAML/npz of intrinsics in px, or a folder of one per photo; else EXIF, else sqrt(w^2 + h^2)
        body: SMPL model file (.npz or official .pkl); the open body if not given
        people: which people of a photo: all, largest, or the N largest
        overlay: write a picture of every photo's bodies
        device: cpu or cuda, for the network
    """

    images: str
    checkpoint: str
    out: str
    mean_params: str | None = None
    keypoints: str | None = None
    camera: str | None = None
    body: str | None = None
    people: Literal["all", "largest"] | int = "all"
    overlay: bool = True
    device: str = "cpu"


def square_of(person: Person) -> tuple[np.ndarray, float]:
    """The crop of a person: its centre [2] and side, px of the photo.

    About the middle of the box; the side is 1.2 of the longer extent of the confident keypoints, as in SPIN, whose
    `scale` is this side / 200 px.
    """
    low, high = person.box_px[:2], person.box_px[2:]
    extent_px = float((high - low).max()) / (1 + 2 * BOX_PADDING)
    return (low + high) / 2, max(SQUARE_PER_EXTENT * extent_px, LEAST_SIDE_PX)


def crop_limbs(person: Person, center: np.ndarray, side: float) -> np.ndarray:
    """`limb_input` of a person in the crop of `square_of`."""
    points = (person.keypoints_px[:, :2] - center) * CROP_PX / side + CROP_PX / 2
    return limb_input(np.column_stack([points, person.keypoints_px[:, 2]]))


def predict(
    net: HMR,
    image_rgb: np.ndarray,
    people: list[Person],
    camera: Camera,
    body: BodyModel,
    image: str = "",
    prior: PosePrior | None = None,
    limits: Limits | None = None,
) -> list[Fit]:
    """The network's bodies of one photo's people, in their order, as fits in the photo's camera.

    net: in eval mode (ValueError otherwise: it would normalise by this photo alone), on any device.
    image: the photo's file name; prior, limits: by which the results are judged, as fits are (the GMM, the defaults).
    """
    if net.training:
        raise ValueError(
            "predict: expected a network in eval mode, got one in training mode; call net.eval()"
        )
    if not people:
        return []
    squares = [square_of(person) for person in people]
    levels, size = pyramid(image_rgb), (CROP_PX, CROP_PX)
    crops = [cut(levels, crop_to_photo(center, side / 2, 0.0, CROP_PX), size) for center, side in squares]
    crops = torch.from_numpy(np.stack(crops)).to(net.head.fc1.weight)
    limbs = [crop_limbs(person, center, side) for person, (center, side) in zip(people, squares, strict=True)]
    with torch.no_grad():
        prediction = net(to_input(crops / 255), torch.from_numpy(np.stack(limbs)).to(crops))
    return as_fits(prediction, squares, people, camera, body, image, prior, limits)


@torch.no_grad()
def as_fits(
    prediction: Prediction,
    squares: list[tuple[np.ndarray, float]],
    people: list[Person],
    camera: Camera,
    body: BodyModel,
    image: str = "",
    prior: PosePrior | None = None,
    limits: Limits | None = None,
) -> list[Fit]:
    """A prediction for the crops `squares` (`square_of`) of a photo's people, as fits; see `predict`."""
    like = body.template
    prior = prior or load_pose_prior("gmm", None, like.dtype)
    prediction, seen = prediction.to(like), observe(people, camera, body)
    center_px = torch.tensor(np.stack([center for center, _ in squares])).to(like)
    side_px = torch.tensor([side for _, side in squares]).to(like)
    transl = full_translation(prediction.cam, center_px, side_px, seen.focal_px, seen.center_px)
    pose = axis_angle_from_matrix(prediction.rotations).reshape(-1, 72)
    posed = body(prediction.betas, pose)
    points = body.points(posed) + transl[:, None]
    keypoints_px = project_points(seen.targets @ points, seen.focal_px, seen.center_px).numpy()
    energy, percentile = prior.rank(pose[:, 3:])
    fits = []
    for row, person in enumerate(people):
        quality = {
            "reprojection_pct": reprojection_pct(keypoints_px[row], person, seen.confidence[row].numpy()),
            "keypoints_confident": float((person.keypoints_px[:, 2] > BOX_CONFIDENCE).sum()),
            "pose_energy": float(energy[row]),
            "pose_percentile": float(percentile[row]),
            "max_abs_beta": float(prediction.betas[row].abs().max()),
        }
        reasons = reasons_against(quality, failure_of(prediction, row), limits or Limits())
        fits.append(
            Fit(
                image=image,
                person=person.id,
                keypoint_source=person.source,
                pose=pose[row].numpy(),
                betas=prediction.betas[row].numpy(),
                transl_cam=transl[row].numpy(),
                focal_px=seen.focal_px[row].numpy(),
                center_px=seen.center_px[row].numpy(),
                image_size_px=np.array([camera.width, camera.height]),
                box_px=person.box_px,
                joints_cam=(posed.joints + transl[:, None])[row].numpy(),
                vertices_cam=(posed.vertices + transl[:, None])[row].numpy(),
                keypoints_px=keypoints_px[row],
                observed_px=person.keypoints_px,
                energies={},
                quality=quality,
                valid=not reasons,
                reasons=tuple(reasons),
                body_model=body.name,
                pose_prior="none",
                camera_source=camera.source,
            )
        )
    return fits


def failure_of(prediction: Prediction, row: int) -> str:
    """What makes a person's prediction no body at all; "" if nothing does."""
    for name, value in vars(prediction).items():
        if not bool(value[row].isfinite().all()):
            return f"the regressor's {name} are not finite"
    scale = float(prediction.cam[row, 0])
    return "" if scale > 0 else f"the regressor's camera scale is {scale:.3g}, behind the camera"


def predict_folder(config: PredictConfig) -> int:
    """Predicts all photos of `config.images`; returns how many were skipped.

    Writes `<out>/<photo>_<person>.npz`, `<out>/overlays/<photo>.png`, `<out>/summary.jsonl`, `<out>/config.json`.
    Errors: of what would spoil every photo (no photos, wrong body, wrong checkpoint).
    """
    from tqdm import tqdm

    photos, out = list_photos(config.images), Path(config.out)
    net = load_hmr(config.checkpoint, config.mean_params).to(config.device)
    session = Session(FitConfig(config.images, keypoints=config.keypoints, body=config.body, parser="none"))
    (out / "overlays").mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    rows = []
    for photo, name in tqdm(list(zip(photos, result_names(photos), strict=True)), unit="photo"):
        rows += predict_photo(photo, name, net, session, config)
    (out / "summary.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return report(rows, out)


def predict_photo(photo: Path, name: str, net: HMR, session: Session, config: PredictConfig) -> list[dict]:
    """Predicts one photo, writes its files, and returns its rows of the summary; trouble makes a row "skipped"."""
    out, about = Path(config.out), json.dumps({"method": "regressor", "checkpoint": config.checkpoint})
    try:
        image = read_image(photo)
        people = select_people(session.people(photo, image), config.people)
        camera = camera_of_photo(photo, config.camera, image.shape[1], image.shape[0])
        fits = predict(net, image, people, camera, session.body, photo.name, session.prior)
    except Exception as error:  # one bad photo must not end the run; the summary names it
        reason = str(error) or type(error).__name__
        return [{"image": photo.name, "person": None, "status": "skipped", "reasons": [reason]}]
    lost = [skipped_row(photo.name, fit) for fit in fits if not is_finite(fit)]
    fits = [fit for fit in fits if is_finite(fit)]
    fits = [replace(fit, name=name, people_in_photo=len(fits), configuration=about) for fit in fits]
    if config.overlay:
        session.draw(out / "overlays" / f"{name}.png", image, fits, [], [])
    for fit in fits:
        save_fit(out / f"{name}_{fit.person}.npz", fit)
    return [summary_row(vars(fit)) for fit in fits] + lost


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 all photos predicted, 3 some skipped (the summary names them), 2 wrong usage."""
    from jsonargparse import auto_cli

    config = auto_cli(PredictConfig, as_positional=False, args=arguments)
    try:
        return 3 if predict_folder(config) else 0
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"regressor.predict: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
