"""How people get bodies, and what a process loads for it once: body, priors, DSR terms, detector, parser.

A `Method` is a value: the optimiser's own is `optimizer`; those with a network are composed in `regressor.methods`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fitter.body.model import BodyModel
from fitter.config import FitConfig
from fitter.energy.objective import Objective
from fitter.energy.semantics import SemanticTerms
from fitter.options import labelled
from fitter.people import Sighting, fit_clothing, fit_keypoints
from fitter.see.camera import Camera
from fitter.see.frame import Frame
from fitter.see.keypoints import Person
from fitter.see.person_box import overlap
from fitter.see.photos import Photo
from fitter.write.result import Fit, load_fit
from priors.pose import PosePrior

if TYPE_CHECKING:
    from fitter.see.detect import Detector

SAME_BOX = 0.5  # overlap of the boxes of one person, as a share of the smaller one


@dataclass(frozen=True)
class View:
    """One photo as it was seen: people, everybody in it; chosen: which of them are to be fitted; refused: what was no
    person after all, and why; trouble: why it is skipped, "" if it is not; doubt: what speaks against everybody's
    keypoints, "" if nothing does; frame: how the picture here lies in the
    photo, None: it is the photo; labels, ignore: clothing label maps and masks that were given, by person, the whole
    photo's under None, as files or arrays [H, W]."""

    photo: Photo
    image_rgb: np.ndarray | None = None
    camera: Camera | None = None
    people: tuple[Person, ...] = ()
    chosen: tuple[int, ...] = ()
    refused: tuple[str, ...] = ()
    trouble: str = ""
    doubt: str = ""
    frame: Frame | None = None
    labels: Mapping[str | None, Path | np.ndarray] = field(default_factory=dict)
    ignore: Mapping[str | None, Path | np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """How people get bodies.

    begin: a view's people -> the body that each is begun from, or None; first: sightings -> fits without labels;
    clothe: sightings with labels, and their first fits -> fits, or None for a method that looks at no labels.
    """

    begin: Callable[[View], list[Fit | None]]
    first: Callable[[list[Sighting]], list[Fit]]
    clothe: Callable[[list[Sighting], list[Fit]], list[Fit]] | None


@dataclass(frozen=True)
class Models:
    """What a process loads once for a configuration: the objective with body, prior and DSR terms, and whoever sees
    people and clothes."""

    config: FitConfig
    objective: Objective
    detect: "Detector"
    parse: Callable | None
    method: Method

    @property
    def body(self) -> BodyModel:
        return self.objective.body

    @property
    def prior(self) -> PosePrior:
        return self.objective.prior

    @property
    def semantics(self) -> SemanticTerms | None:
        """The DSR terms; None where labels are not used."""
        return self.objective.semantics

    @property
    def faces(self) -> np.ndarray:
        return self.body.faces.cpu().numpy()


def load_models(config: FitConfig, method: Callable[[FitConfig, Objective], Method] | None = None) -> Models:
    """method: makes the Method; the optimiser's if not given. Detector and parser are loaded when first used."""
    from fitter.label.parse import load_parser
    from fitter.see.detect import make_detector

    objective = load_objective(config)
    chosen = (method or optimizer)(config, objective)
    parse = load_parser(config.parser) if labelled(config) else None
    return Models(config, objective, make_detector(config.detector), parse, chosen)


def load_objective(config: FitConfig) -> Objective:
    """Body, pose prior and, where labels are used, the DSR terms, on `config.device`, in float32."""
    import torch

    from fitter.body.model import load_body
    from fitter.raster.rasterizer import make_rasterizer
    from priors.clothing import load_clothing_prior
    from priors.lifter import load_lifter
    from priors.pose import load_pose_prior

    device = device_of(config.device)
    body = load_body(config.body, torch.float32)
    prior = load_pose_prior(config.pose_prior, config.vposer, torch.float32)
    semantics = None
    if labelled(config):
        clothing = load_clothing_prior(config.clothing_prior, body.template.numpy(), body.faces.numpy())
        rasterizer = make_rasterizer(device=device)
        semantics = SemanticTerms(rasterizer, body.faces, clothing.prob.astype(np.float32), config.semantics)
    lifter = load_lifter() if config.optimisation.lifter else None
    return Objective(body, prior, config.weights, config.optimisation.sigma, semantics, lifter).to(device)


def device_of(name: str) -> str:
    """auto: the GPU if there is one. RuntimeError: cuda is asked for and is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: expected a CUDA GPU for 'cuda', found none; use cpu or auto")
    return name


def optimizer(config: FitConfig, objective: Objective) -> Method:
    """Fits by optimisation, begun from `config.init`'s results where there are any."""
    return Method(
        begin=lambda view: saved_fits(view, config.init),
        first=lambda seen: fit_keypoints(objective, seen, config),
        clothe=(lambda seen, first: fit_clothing(objective, seen, first, config))
        if labelled(config)
        else None,
    )


def saved_fits(view: View, folder: str | None) -> list[Fit | None]:
    """The bodies in a folder of results to begin each person's fit from; None where there is none.

    ValueError: a result of somebody else's.
    """
    return [_saved(view, person, folder) for person in view.people]


def _saved(view: View, person: Person, folder: str | None) -> Fit | None:
    path = Path(folder or "") / f"{view.photo.name}_{person.id}.npz"
    if not folder or not path.is_file():
        return None
    start = load_fit(path)
    start = view.frame.from_photo(start) if view.frame else start
    if overlap(start.box_px, person.box_px) < SAME_BOX:
        raise ValueError(f"init {path}: expected person {person.id} of this photo, got a box elsewhere")
    finite = all(np.isfinite(part).all() for part in (start.pose, start.betas, start.transl_cam))
    return start if finite and start.transl_cam[2] > 0 else None
