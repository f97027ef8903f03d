"""`python -m regressor.predict --images dir/ --out dir/`: the regressor's bodies, as fits in files.

The files are fit.py's own (`fitter.write.result`), so that a fit can start from them.
"""

import sys
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import torch

from fitter.body.model import BodyModel
from fitter.config import FitConfig, Limits
from fitter.energy.losses import CROP_PX
from fitter.energy.objective import Objective
from fitter.people import Bodies, Sighting, lifter_like, make_fits, observe
from fitter.see.camera import Camera
from fitter.see.crops import crop_to_photo, cut, pyramid
from fitter.see.keypoints import Person
from fitter.see.person_box import spin_side
from fitter.write.result import Fit
from priors.lifter import Lifted
from priors.rotation import axis_angle_from_matrix
from regressor.hmr import HMR, Hints, Prediction, full_translation, limb_input, to_input
from regressor.lite import lifted_input

LEAST_SIDE_PX = 2.0


@dataclass(frozen=True)
class PredictConfig:
    """Predict SMPL bodies for the people in a folder of photos.

    Args:
        images: folder of photos, or one photo
        out: folder for the results
        checkpoint: of the regressor: our own, SPIN's, EFT's or DSR's; the shipped network if not given
        mean_params: SPIN's smpl_mean_params.npz, for checkpoints without mean parameters
        keypoints, keypoint_names: as of fit.py; the shipped detector runs if not given
        camera: JSON/YAML/npz of intrinsics in px, or a folder of one per photo; else EXIF, else sqrt(w^2 + h^2)
        body: SMPL model file (.npz or official .pkl); the open body if not given
        people: which people of a photo: all, largest, or the N largest
        overlay: write a picture of every photo's bodies
        device: cpu, cuda, or auto: the GPU if there is one
    """

    images: str
    out: str
    checkpoint: str | None = None
    mean_params: str | None = None
    keypoints: str | None = None
    keypoint_names: str | None = None
    camera: str | None = None
    body: str | None = None
    people: Literal["all", "largest"] | int = "all"
    overlay: bool = True
    device: Literal["auto", "cpu", "cuda"] = "cpu"


def square_of(person: Person) -> tuple[np.ndarray, float]:
    """The crop of a person: its centre [2] and side, px of the photo.

    About the middle of the box; the side is 1.2 of the longer extent of the confident keypoints, as in SPIN, whose
    `scale` is this side / 200 px.
    """
    low, high = person.box_px[:2], person.box_px[2:]
    return (low + high) / 2, max(float(spin_side(person.box_px)), LEAST_SIDE_PX)


def hints_about(seen: list[Sighting], body: BodyModel) -> Hints:
    """What a network is told of people in the crops of `square_of`."""
    lifter = lifter_like(body.template.dtype, body.template.device)
    observation = observe(seen, body, lifter=lifter)
    center, side = zip(*(square_of(one.person) for one in seen), strict=True)
    side, center = np.array(side)[:, None, None], np.stack(center)[:, None]
    points = (observation.keypoints_px.cpu().numpy() - center) * CROP_PX / side + CROP_PX / 2
    points = np.concatenate([points, observation.confidence.cpu().numpy()[..., None]], 2)
    limbs = [
        limb_input(np.column_stack([own[:, :2], one.person.keypoints_px[:, 2]]))
        for own, one in zip(points, seen, strict=True)
    ]
    return Hints(
        torch.from_numpy(np.stack(limbs)),
        torch.from_numpy(points),
        lifted_input(Lifted(**observation.lifted)),
    )


def predict(
    net: HMR,
    image_rgb: np.ndarray,
    people: list[Person],
    camera: Camera,
    objective: Objective,
    limits: Limits | None = None,
    image: str = "",
) -> list[Fit]:
    """The network's bodies of one photo's people, in their order, as fits in the photo's camera.

    net: in eval mode (ValueError otherwise: it would normalise by this photo alone), on any device.
    objective: whose body it is, and whose prior the results are judged by, as fits are; image: the photo's name.
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
    crops = torch.from_numpy(np.stack(crops)).to(next(net.parameters()))
    seen = [Sighting(image, person, camera) for person in people]
    with torch.no_grad():
        prediction = net(to_input(crops / 255), hints_about(seen, objective.body).to(crops))
    return as_fits(prediction, squares, seen, objective, limits)


@torch.no_grad()
def as_fits(
    prediction: Prediction,
    squares: list[tuple[np.ndarray, float]],
    seen: list[Sighting],
    objective: Objective,
    limits: Limits | None = None,
) -> list[Fit]:
    """A prediction for the crops `squares` (`square_of`) of people, as fits; see `predict`."""
    like = objective.body.template
    prediction, observation = prediction.to(like), observe(seen, objective.body)
    center_px = torch.tensor(np.stack([center for center, _ in squares])).to(like)
    side_px = torch.tensor([side for _, side in squares]).to(like)
    transl = full_translation(prediction.cam, center_px, side_px, observation.focal_px, observation.center_px)
    pose = axis_angle_from_matrix(prediction.rotations).reshape(-1, 72)
    failures = [failure_of(prediction, row) for row in range(len(seen))]
    bodies = Bodies(pose, prediction.betas, transl, {}, {}, failures)
    fits = make_fits(bodies, seen, observation, objective, limits or Limits())
    return [replace(fit, pose_prior="none") for fit in fits]


def failure_of(prediction: Prediction, row: int) -> str:
    """What makes a person's prediction no body at all; "" if nothing does."""
    for name, value in vars(prediction).items():
        if not bool(value[row].isfinite().all()):
            return f"the regressor's {name} are not finite"
    scale = float(prediction.cam[row, 0])
    return "" if scale > 0 else f"the regressor's camera scale is {scale:.3g}, behind the camera"


def predict_folder(config: PredictConfig) -> int:
    """Predicts all photos of `config.images`, as `fit.py --method network` does; returns how many were skipped."""
    from fitter.run import run_folder
    from regressor.methods import network_alone

    given = {name: value for name, value in asdict(config).items() if name != "device"}
    return run_folder(
        FitConfig(**given, method="network", parser="none", device=config.device), network_alone
    )


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 all photos predicted, 3 some skipped (the summary names them), 2 wrong usage."""
    from fitter.cli import read_config
    from fitter.help import called

    words, name = sys.argv[1:] if arguments is None else arguments, called("regressor.predict")
    try:
        config = read_config(words, PredictConfig, name, "Predict bodies for the people in photos.", None)
        return 3 if predict_folder(config) else 0
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
