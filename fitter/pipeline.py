"""The way from photos to fits, in plain steps over a batch of photos: see, solve, label, solve again, write.

Each step takes data and gives data; people of any photos share a batch. What a process has loaded and how people get
bodies is in `fitter.method`.
"""

import io
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
from fitter.label.label_files import label_files
from fitter.label.person_labels import PersonLabels, doubt_of, labels_of_people, load_labels, load_masks
from fitter.label.soft_labels import likeliest
from fitter.method import Models, View
from fitter.people import Sighting, fit_keypoints
from fitter.see.camera import Camera, camera_of_photo
from fitter.see.frame import BEYOND_LABELS, BEYOND_MASK, Frame, frame_of
from fitter.see.keypoint_checks import of_this_photo, orientation_of
from fitter.see.keypoint_files import find_people
from fitter.see.keypoints import Person, select_people
from fitter.see.photos import Photo
from fitter.see.picture import read_picture
from fitter.see.visibility import vertices_seen
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


def fit_photos(
    photos: Sequence[Photo], inputs: Sequence[dict], models: Models, tag: str = ""
) -> list[Outcome]:
    """All steps, for a batch of photos. inputs: what each was made from (`Store.record`'s).

    Trouble with one photo makes it a skipped one; with a batch, its photos are fitted one by one. tag: `Store.tag`.
    StoreFull: no room for the files.
    """
    views = [attempt(see, photo, models) for photo in photos]
    try:
        return _fit_views(views, inputs, models, tag)
    except StoreFull:
        raise
    except Exception as error:
        if len(views) > 1:
            return [fit_photos([p], [i], models, tag)[0] for p, i in zip(photos, inputs, strict=True)]
        return [skipped(photos[0], _reason(error))]


def _fit_views(views: list[View], inputs: Sequence[dict], models: Models, tag: str) -> list[Outcome]:
    method = models.method
    if not method.clothe:  # then nobody asks where the others are
        views = [only_chosen(view) for view in views]
    seen = [sightings(view, method.begin(view)) for view in views]
    first = _by_view(method.first([one for view in seen for one in view]), views)
    labels: list[list[PersonLabels | None]] = [[None] * len(view.people) for view in views]
    fits = first
    if method.clothe:
        labels = [
            label(view, own, models, made) for view, own, made in zip(views, first, inputs, strict=True)
        ]
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
        write(view, [own[row] for row in view.chosen], [known[row] for row in view.chosen], made, models, tag)
        for view, own, known, made in zip(views, fits, labels, inputs, strict=True)
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


def skipped(photo: Photo, reason: str) -> Outcome:
    """The outcome of a photo that cannot be fitted."""
    row = {"image": photo.image, "person": None, "status": "skipped", "reasons": [reason]}
    return Outcome(photo, [row], finished=False)


def see(photo: Photo, models: Models) -> View:
    """Decode, camera, people. ValueError: no photo, nobody in it, or keypoints or camera that cannot be read."""
    config = models.config
    source = photo.path if photo.place is None else io.BytesIO(photo.read())
    picture = read_picture(source)
    size = picture.width, picture.height
    frame = frame_of(picture, camera_of_photo(own_path(photo), beside(config.camera, photo), *size, source))
    image = frame.straight(picture.image_rgb)
    people, refused = people_in(photo, image, models, frame)
    chosen = select_people(people, config.people)
    rows = tuple(row for row, person in enumerate(people) if any(person is one for one in chosen))
    return View(photo, image, frame.camera, tuple(people), rows, tuple(refused), frame=frame)


def people_in(
    photo: Photo, image_rgb: np.ndarray, models: Models, frame: Frame | None = None
) -> tuple[list[Person], list[str]]:
    """Everybody in a photo's picture, from files or by the detector, and in words who was left out; ValueError if there
    is nobody, or if the keypoints of a file cannot be this photo's."""
    config = models.config
    if config.keypoints:
        found = find_people(photo, config.keypoints, config.keypoint_names)
        source = photo.path if photo.place is None else io.BytesIO(photo.read())
        size = (frame.photo.width, frame.photo.height) if frame else image_rgb.shape[1::-1]
        found = of_this_photo(found, size, orientation_of(source))
        people, refused = found.people, found.left_out
        people = frame.people(people) if frame else people
    else:
        people, refused = models.detect.find_people(image_rgb, photo.image, frame and frame.box)
    if not people:
        said = f" by keypoints {config.keypoints}" if config.keypoints else ""
        raise ValueError("; ".join([f"nobody found in this photo{said}", *refused]))
    return people, refused


def own_path(photo: Photo) -> Path:
    """What its own files are looked for by: where it lies, or what it is called in its tar."""
    return photo.path if photo.place is None else Path(photo.image)


def beside(where: str | None, photo: Photo) -> str | None:
    """The folder in which a photo's own files lie: `where`, or the one in it that is called as the photo's."""
    if not where:
        return None
    inside = Path(where) / Path(photo.image).parent
    return str(inside) if inside.is_dir() else where


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
    made = {}
    for what, folder in (("labels", models.config.labels), ("ignore", models.config.ignore)):
        found = label_files([view.photo], folder, what, needed=False) if folder else {}
        made |= {f"{what} {one or ''}": {"path": file} for one, file in found.get(path.name, {}).items()}
    return [worth(known) for known in label(view, first, models, made)]


def worth(labels: PersonLabels | None) -> PersonLabels | None:
    """Labels, unless they show nothing of the person: then keypoints alone say more."""
    return None if labels is None or labels.nothing else labels


def label(
    view: View, first: list[Fit], models: Models, inputs: Mapping[str, Mapping]
) -> list[PersonLabels | None]:
    """Each person's clothing labels, None for those without: from files, and of whom these say nothing, by the parser.

    inputs: what the photo's fits are made from, `run.reader_of_inputs`'s, of which "labels " and "ignore " are the
    photo's own files and "labels 1" those of its person 1. first: everybody's body fitted to the keypoints alone; they
    say whose a pixel is where one map shows several people, and where `config.unknown` is "found", which background
    hides a person and which labels are a stranger's.
    """
    if view.trouble:
        return []
    config, people, camera = models.config, list(view.people), view.camera
    ids, size = [person.id for person in people], (camera.height, camera.width)
    found, masks = (files_in(inputs, what, ids) for what in ("labels", "ignore"))
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
            source = found[whose].name if whose in found else "parser"
            known = replace(known, soft=soft.get(whose), source=source)
            if whose in found or config.parser != "shipped":
                known = replace(known, doubt=doubt_of(known, person.keypoints_px))
        result.append(known)
    return result


def files_in(inputs: Mapping[str, Mapping], what: str, people: Sequence[str]) -> dict[str | None, Path]:
    """The photo's own files of a setting among its inputs, by person, the whole photo's under None; of these people."""
    found = {
        role.removeprefix(f"{what} ") or None: Path(about["path"])
        for role, about in inputs.items()
        if role.startswith(f"{what} ")
    }
    return {person: path for person, path in found.items() if person is None or person in people}


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
    fits = [marked(fit, known) for fit, known in zip(fits, labels, strict=True)]
    labels = [worth(known) for known in labels]
    about = {
        "name": name,
        "people_in_photo": len(fits),
        "configuration": configuration_of(config),
        "inputs": inputs,
    }
    fits = [replace(fit, **about) for fit in fits]
    of_photo = [view.frame.to_photo(fit) if view.frame else fit for fit in fits]
    files = {f"{name}_{fit.person}.npz": lambda path, fit=fit: save_fit(path, fit) for fit in of_photo}
    if config.save_mesh:
        for fit in fits:
            files |= mesh_files(f"{name}_{fit.person}", fit, models.faces, config.save_mesh)
    if config.overlay:
        clothes = clothes_of(people, labels, models) if any(known is not None for known in labels) else None
        files[f"overlays/{name}.jpg"] = lambda path: draw(path, view.image_rgb, fits, models, clothes)
    try:
        written = write_files(config.out, files, tag)
    except ValueError as error:
        return skipped(view.photo, str(error))
    return Outcome(view.photo, [summary_row(fit) for fit in fits] + lost, written)


def marked(fit: Fit, labels: PersonLabels | None) -> Fit:
    """A fit with where its labels came from, and what speaks against them."""
    if labels is None:
        return replace(fit, label_source="none")
    if labels.nothing:
        return replace(fit, label_source=f"none; {labels.source}: {labels.nothing}")
    reasons = (*fit.reasons, labels.doubt) if labels.doubt else fit.reasons
    return replace(fit, label_source=labels.source, reasons=reasons, valid=not reasons)


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
RUN_ONLY = ("images", "out", "jobs", "cluster", "shard", "batch", "overwrite", "overlay", "save_mesh", "export",
            "export_as", "rejection")  # fmt: skip


def configuration_of(config: FitConfig) -> dict:
    """The resolved configuration as results carry it; without what does not change a result."""
    from dataclasses import asdict

    return {name: value for name, value in asdict(config).items() if name not in RUN_ONLY}
