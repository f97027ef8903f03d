"""The way from photos to fits, in plain steps over a batch of photos: see, solve, label, solve again, write.

Each step takes data and gives data; people of any photos share a batch. What a process has loaded and how people get
bodies is in `fitter.method`.
"""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from fitter.config import FitConfig
from fitter.energy.semantics import make_targets
from fitter.label.label_files import write_labels
from fitter.label.person_labels import PersonLabels, doubt_of, labels_of_people, load_labels, load_masks
from fitter.label.soft_labels import likeliest
from fitter.method import Models, View
from fitter.people import Sighting, fit_keypoints
from fitter.see.camera import Camera
from fitter.see.frame import BEYOND_LABELS, BEYOND_MASK
from fitter.see.keypoints import Person
from fitter.see.photos import Photo
from fitter.see.views import label_files_of, see
from fitter.see.visibility import vertices_seen
from fitter.write.export import LABEL_MAPS
from fitter.write.files import StoreFull, write_files
from fitter.write.result import (
    Fit,
    is_finite,
    mesh_files,
    noted_row,
    refused_row,
    save_fit,
    skipped_row,
    summary_row,
)

COVERAGE_PX = 1024  # longer side of the picture in which it is seen whose a pixel is


@dataclass(frozen=True)
class Outcome:
    """A photo's rows of the summary and the files written for it, relative path and size; finished: not skipped."""

    photo: Photo
    rows: list[dict]
    files: list[tuple[str, int]] = field(default_factory=list)
    finished: bool = True


@dataclass(frozen=True)
class FittedView:
    """A view's chosen people: their bodies in the picture's px, and their labels, None for those without."""

    view: View
    fits: tuple[Fit, ...] = ()
    labels: tuple[PersonLabels | None, ...] = ()


def fit_photos(
    photos: Sequence[Photo], inputs: Sequence[dict], models: Models, tag: str = ""
) -> list[Outcome]:
    """All steps, for a batch of photos. inputs: what each was made from (`Store.record`'s).

    Trouble with one photo makes it a skipped one; with a batch, its photos are fitted one by one. tag: `Store.tag`.
    StoreFull: no room for the files.
    """
    views = [attempt(see, photo, models, made) for photo, made in zip(photos, inputs, strict=True)]
    try:
        fitted = fit_views(views, models)
        return [
            write(one.view, list(one.fits), list(one.labels), made, models, tag)
            for one, made in zip(fitted, inputs, strict=True)
        ]
    except StoreFull:
        raise
    except Exception as error:
        if len(views) > 1:
            return [fit_photos([p], [i], models, tag)[0] for p, i in zip(photos, inputs, strict=True)]
        return [skipped_by(photos[0], error)]


def fit_views(views: Sequence[View], models: Models) -> list[FittedView]:
    """Bodies of the chosen people of a batch of photos, in its order: keypoints, then labels, then both. Views with
    trouble have nobody. What the steps find wrong is an exception for all of the batch."""
    method = models.method
    if not method.clothe:  # then nobody asks where the others are
        views = [only_chosen(view) for view in views]
    seen = [sightings(view, method.begin(view)) for view in views]
    first = _by_view(method.first([one for view in seen for one in view]), views)
    labels: list[list[PersonLabels | None]] = [[None] * len(view.people) for view in views]
    fits = first
    if method.clothe:
        labels = [label(view, own, models) for view, own in zip(views, first, strict=True)]
        worn = [
            [replace(one, labels=worth(known)) for one, known in zip(view, own, strict=True)]
            for view, own in zip(seen, labels, strict=True)
        ]
        everybody = [(view, row) for view, one in enumerate(views) for row in one.chosen]
        found = method.clothe(
            [worn[view][row] for view, row in everybody], [first[view][row] for view, row in everybody]
        )
        fits = [list(own) for own in first]
        for (view, row), fit in zip(everybody, found, strict=True):
            fits[view][row] = fit
    return [
        FittedView(
            view,
            tuple(doubted(marked(own[row], known[row]), view.doubt) for row in view.chosen),
            tuple(known[row] for row in view.chosen),
        )
        for view, own, known in zip(views, fits, labels, strict=True)
    ]


def only_chosen(view: View) -> View:
    """Without the people who are not to be fitted."""
    people = tuple(view.people[row] for row in view.chosen)
    return replace(view, people=people, chosen=tuple(range(len(people))))


def attempt(step: Callable, photo: Photo, *arguments) -> View:
    """step(photo, ...), its trouble in the view."""
    try:
        return step(photo, *arguments)
    except Exception as error:
        return View(photo, trouble=_reason(error))


def _reason(error: Exception) -> str:
    """Why a photo is skipped, for the summary; what nobody foresaw goes to the log as well."""
    if isinstance(error, ValueError | OSError | MemoryError):
        return str(error) or type(error).__name__
    traceback.print_exception(error, file=sys.stderr)
    return f"a fault of this program, {type(error).__name__}: {error}; the log has the traceback"


def skipped_by(photo: Photo, error: Exception) -> Outcome:
    """`skipped`, by what went wrong."""
    return skipped(photo, _reason(error))


def skipped(photo: Photo, reason: str) -> Outcome:
    """The outcome of a photo that cannot be fitted."""
    row = {"image": photo.image, "person": None, "status": "skipped", "reasons": [reason]}
    return Outcome(photo, [row], finished=False)


def sightings(view: View, start: Sequence[Fit | None]) -> list[Sighting]:
    """A view's people, everybody."""
    return [
        Sighting(view.photo.image, person, view.camera, start=one, image_rgb=view.image_rgb)
        for person, one in zip(view.people, start, strict=True)
    ]


def labels_alone(
    photo: str | Path, image_rgb: np.ndarray, people: list[Person], camera: Camera, models: Models, first=None
) -> list[PersonLabels | None]:
    """`label` of one photo that is already seen; first: everybody's fits to keypoints, made here if not given."""
    path = Path(photo)
    view = View(
        Photo(path, path.name, path.stem), image_rgb, camera, tuple(people), tuple(range(len(people)))
    )
    if first is None:
        first = fit_keypoints(models.objective, sightings(view, [None] * len(people)), models.config)
    view = replace(view, **label_files_of(view.photo, models.config))
    return [worth(known) for known in label(view, first, models)]


def worth(labels: PersonLabels | None) -> PersonLabels | None:
    """Labels, unless they show nothing of the person: then keypoints alone say more."""
    return None if labels is None or labels.nothing else labels


def label(view: View, first: list[Fit], models: Models) -> list[PersonLabels | None]:
    """Each person's clothing labels, None for those without: the view's own, and of whom these say nothing, by the
    parser.

    first: everybody's body fitted to the keypoints alone; they say whose a pixel is where one map shows several people,
    and where `config.unknown` is "found", which background hides a person and which labels are a stranger's.
    """
    if view.trouble:
        return []
    config, people, camera = models.config, list(view.people), view.camera
    ids, size = [person.id for person in people], (camera.height, camera.width)
    found, masks = (
        {who: one for who, one in maps.items() if who in (None, *ids)} for maps in (view.labels, view.ignore)
    )
    maps, soft = load_labels(found, size, config.label_classes, people, placed(view, BEYOND_LABELS)), {}
    if models.parse and None not in maps and set(ids) - maps.keys():
        parsed = models.parse(view.image_rgb, people)
        soft = {person: answer for person, answer in parsed.items() if person not in maps}
        maps |= {person: likeliest(answer, size) for person, answer in soft.items()}
    bodies = fitted_px = None
    look = config.unknown == "found"
    if maps and (look or (None in maps and len(people) > 1)):
        bodies = coverage(first, camera, models.faces)
        fitted_px = np.stack([fit.keypoints_px for fit in first])
    depth_m = np.array([fit.transl_cam[2] for fit in first])
    hidden = load_masks(masks, size, placed(view, BEYOND_MASK))
    labels = labels_of_people(maps, people, bodies, fitted_px if look else None, hidden, depth_m)
    result: list[PersonLabels | None] = []
    for person, known in zip(people, labels, strict=True):
        whose = person.id if person.id in maps else None
        if known is not None:
            source = getattr(found[whose], "name", "given") if whose in found else "parser"
            known = replace(known, soft=soft.get(whose), source=source)
            if whose in found or config.parser != "shipped":
                known = replace(known, doubt=doubt_of(known, person.keypoints_px))
        result.append(known)
    return result


def placed(view: View, beyond: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """What brings a map [H, W] of a photo to the view's picture; beyond: its value where the photo ends."""
    return partial(view.frame.straight, beyond=beyond, nearest=True) if view.frame else None


def coverage(fits: list[Fit], camera: Camera, faces: np.ndarray) -> np.ndarray:
    """Where each body lies in the photo, [P, H, W] uint8 of 0 and 1; drawn at COVERAGE_PX at most."""
    from fitter.write.overlay import covered_by

    scale = min(1.0, COVERAGE_PX / max(camera.width, camera.height))
    size = (max(1, round(camera.height * scale)), max(1, round(camera.width * scale)))
    shapes = []
    for fit in fits:
        covered = covered_by(fit.vertices_cam[None], faces, fit.focal_px * scale, fit.center_px * scale, size)
        covered = covered.astype(np.uint8)
        if scale < 1:
            covered = cv2.resize(covered, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
        shapes.append(covered)
    return np.stack(shapes)


def write(
    view: View,
    fits: list[Fit],
    labels: list[PersonLabels | None],
    inputs: dict,
    models: Models,
    tag: str = "",
) -> Outcome:
    """A photo's files put in place, and its rows of the summary."""
    if view.trouble:
        return skipped(view.photo, view.trouble)
    config, name = models.config, view.photo.name
    lost = [skipped_row(view.photo.image, fit) for fit in fits if not is_finite(fit)]
    lost += [refused_row(view.photo.image, reason) for reason in view.refused]
    lost += [noted_row(view.photo.image, note) for note in view.camera.notes]
    whole = [row for row, fit in enumerate(fits) if is_finite(fit)]
    people = [view.people[row] for row in view.chosen]
    fits, labels, people = ([every[row] for row in whole] for every in (fits, labels, people))
    labels = [worth(known) for known in labels]
    fits = told(fits, view, config, inputs)
    of_photo = [in_photo(fit, view) for fit in fits]
    files = {f"{name}_{fit.person}.npz": lambda path, fit=fit: save_fit(path, fit) for fit in of_photo}
    if config.save_mesh in ("rigged", "scene"):
        from fitter.write.rigged import save_rigged

        rig = partial(save_rigged, body=models.body)
        together = {f"{name}_people.glb": partial(rig, people=fits)} if fits else {}
        alone = {f"{name}_{fit.person}.glb": partial(rig, people=[fit]) for fit in fits}
        files |= together if config.save_mesh == "scene" else alone
    elif config.save_mesh:
        for fit in fits:
            files |= mesh_files(f"{name}_{fit.person}", fit, models.faces, config.save_mesh)
    if config.export:
        files |= {
            f"{LABEL_MAPS}/{name}_{fit.person}.png": partial(write_labels, ids=known.ids)
            for fit, known in zip(fits, labels, strict=True)
            if known is not None
        }
    if config.overlay:
        clothes = clothes_of(people, labels, models) if any(known is not None for known in labels) else None
        files[f"overlays/{name}.jpg"] = lambda path: draw(path, view.image_rgb, fits, models, clothes)
    try:
        written = write_files(config.out, files, tag)
    except ValueError as error:
        return skipped(view.photo, str(error))
    return Outcome(view.photo, [summary_row(fit) for fit in fits] + lost, written)


def told(fits: Sequence[Fit], view: View, config: FitConfig, inputs: Mapping) -> list[Fit]:
    """A photo's fits with what all of them were made from."""
    about = {"configuration": configuration_of(config), "inputs": inputs}
    return [replace(fit, name=view.photo.name, people_in_photo=len(fits), **about) for fit in fits]


def in_photo(fit: Fit, view: View) -> Fit:
    """A fit in px of the photo, not of the picture of it in which it was fitted."""
    return view.frame.to_photo(fit) if view.frame else fit


def marked(fit: Fit, labels: PersonLabels | None) -> Fit:
    """A fit with where its labels came from, and what speaks against them."""
    if labels is None:
        return replace(fit, label_source="none")
    if labels.nothing:
        return replace(fit, label_source=f"none; {labels.source}: {labels.nothing}")
    return doubted(replace(fit, label_source=labels.source), labels.doubt)


def doubted(fit: Fit, reason: str) -> Fit:
    """A fit that something speaks against, "": nothing does."""
    return replace(fit, reasons=(*fit.reasons, reason), valid=False) if reason else fit


def draw(path: Path, image_rgb: np.ndarray, fits: list[Fit], models: Models, clothes=None) -> None:
    """The overlay of one photo as a picture file."""
    from fitter.write.overlay import overlay

    weights = models.body.weights.cpu().numpy()
    seen = np.array([vertices_seen(fit.joint_states, weights) for fit in fits])
    picture = cv2.cvtColor(overlay(image_rgb, fits, models.faces, clothes, seen), cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(path.suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())


def clothes_of(people: list[Person], labels: list[PersonLabels | None], models: Models):
    """Labels and most likely vertex labels as colours, for the overlay."""
    import torch

    from fitter.write.overlay import Clothes
    from priors.clothing import PALETTE

    semantics = models.objective.semantics
    known = [one for one in labels if one is not None]
    ids = np.max([np.where(one.valid > 0, one.ids, 0) for one in known], axis=0).astype(np.uint8)
    targets = make_targets(people, labels, semantics.settings, 64).to(
        semantics.prob.device, semantics.prob.dtype
    )
    every = torch.eye(len(PALETTE)).to(semantics.prob)[None]
    likely = semantics.person_prob(targets, every)[..., 1:].argmax(-1).cpu().numpy() + 1
    return Clothes(ids, PALETTE[likely] / 255)


def _by_view(fits: list[Fit], views: list[View]) -> list[list[Fit]]:
    """A batch's fits, photo by photo."""
    ends = np.cumsum([0, *(len(view.people) for view in views)])
    return [fits[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]


# settings that change no result
RUN_ONLY = ("images", "out", "jobs", "cluster", "shard", "batch", "overwrite", "overlay", "report", "save_mesh",
            "export", "export_as", "rejection", "decisions")  # fmt: skip


def configuration_of(config: FitConfig) -> dict:
    """The resolved configuration as results carry it; without what does not change a result."""
    from dataclasses import asdict

    return {name: value for name, value in asdict(config).items() if name not in RUN_ONLY}
