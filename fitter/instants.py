"""The way of an instant that several calibrated cameras saw: `fitter.pipeline`'s steps, one body for all photos.

Beside every photo's results, as of any photo, each person has `<instant>_<person>.world.npz` (docs/views.md).
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from fitter.method import Models, View
from fitter.pipeline import (
    FittedView,
    Outcome,
    attempt,
    doubted,
    label,
    marked,
    sightings,
    skipped_by,
    worth,
    write,
)
from fitter.see.photos import Photo
from fitter.see.rig import Rig, read_rig
from fitter.see.views import see
from fitter.several import Look, World, one_body, same_people
from fitter.write.files import StoreFull, write_files
from fitter.write.result import VERSION, Fit, noted_row
from fitter.write.store import WORLD

ALONE = (
    "nobody here is whom another camera sees at this moment: their keypoints do not meet in space. If that cannot be: "
    "cameras exchanged, R and t not from world to camera or not in metres, another moment, or --people took others"
)


def fit_instant(
    photos: Sequence[Photo], inputs: Sequence[dict], models: Models, tag: str = ""
) -> list[Outcome]:
    """All steps for the photos of one instant; arguments and trouble as of `pipeline.fit_photos`."""
    rig = _rig(models.config.views)
    try:
        places = [rig.place_of(photo.image) for photo in photos]
        cameras = [rig.cameras[name] for name, _ in places]
        views = [
            attempt(partial(see, given=_lens(camera)), photo, models, made)
            for photo, made, camera in zip(photos, inputs, cameras, strict=True)
        ]
        fitted, worlds = fit_together(views, cameras, models)
        outcomes = [
            write(one.view, list(one.fits), list(one.labels), made, models, tag)
            for one, made in zip(fitted, inputs, strict=True)
        ]
        files = {
            f"{places[0][1]}_{world.fits[0].person}{WORLD}": partial(save_world, world=world, up=rig.up)
            for world in worlds
        }
        outcomes = [
            replace(outcome, rows=[*outcome.rows, noted_row(outcome.photo.image, ALONE)]) if lone else outcome
            for outcome, lone in zip(outcomes, alone(fitted, worlds), strict=True)
        ]
        written = write_files(models.config.out, files, tag)
        home = next((at for at, one in enumerate(outcomes) if one.finished), 0)
        outcomes[home] = replace(outcomes[home], files=[*outcomes[home].files, *written])
        return outcomes
    except StoreFull:
        raise
    except Exception as error:
        return [skipped_by(photo, error) for photo in photos]


def alone(fitted: Sequence[FittedView], worlds: Sequence[World]) -> list[bool]:
    """Which photos have people, but nobody whom another has that has people as well."""
    met = {fit.name for world in worlds for fit in world.fits}
    some = [bool(one.fits) for one in fitted]
    return [
        there and sum(some) > 1 and one.view.photo.name not in met
        for there, one in zip(some, fitted, strict=True)
    ]


def fit_together(
    views: Sequence[View], cameras: Sequence, models: Models
) -> tuple[list[FittedView], list[World]]:
    """Bodies of the chosen people of an instant's photos, and in the world those that several cameras see, whose ids
    are the same in all photos; the others are fitted to their photo alone. cameras: RigCamera of each view."""
    method, config = models.method, models.config
    seen = [sightings(view, method.begin(view)) for view in views]
    alone = iter(method.first([one for own in seen for one in own]))
    first = [[next(alone) for _ in own] for own in seen]
    places = [(view, row) for view, one in enumerate(views) for row in one.chosen]
    looks = [Look(seen[view][row], cameras[view], first[view][row]) for view, row in places]
    groups = same_people(looks)
    worlds = {}
    for number, group in enumerate(groups):
        if len(group) > 1:
            worlds[number] = one_body([looks[at] for at in group], models.objective, config)
            _put(first, worlds[number], [places[at] for at in group])
    labels = [[None] * len(view.people) for view in views]
    if method.clothe:
        labels = [label(view, own, models) for view, own in zip(views, first, strict=True)]
        for number, group in enumerate(groups):
            at = [places[row] for row in group]
            worn = [replace(seen[view][row], labels=worth(labels[view][row])) for view, row in at]
            if number not in worlds:
                (first[at[0][0]][at[0][1]],) = method.clothe(worn, [first[at[0][0]][at[0][1]]])
            elif any(one.labels is not None for one in worn):
                dressed = [replace(looks[row], sighting=one) for row, one in zip(group, worn, strict=True)]
                worlds[number] = one_body(dressed, models.objective, config, worlds[number])
                _put(first, worlds[number], at)
    named = {places[row]: str(number) for number, group in enumerate(groups) for row in group}
    fitted = []
    for number, (view, own, known) in enumerate(zip(views, first, labels, strict=True)):
        fits = [doubted(marked(own[row], known[row]), view.doubt) for row in view.chosen]
        fits = [replace(fit, person=named[number, row]) for fit, row in zip(fits, view.chosen, strict=True)]
        fitted.append(FittedView(view, tuple(fits), tuple(known[row] for row in view.chosen)))
    whole = []
    for number, world in worlds.items():
        at = [places[row] for row in groups[number]]
        fits = [fitted[view].fits[views[view].chosen.index(row)] for view, row in at]
        names = [replace(fit, name=views[view].photo.name) for fit, (view, _) in zip(fits, at, strict=True)]
        whole.append(replace(world, fits=tuple(names)))
    return fitted, whole


def _put(fits: list[list[Fit]], world: World, places: list[tuple[int, int]]) -> None:
    for fit, (view, row) in zip(world.fits, places, strict=True):
        quality = fit.quality | {"cameras": float(len(world.fits))}
        fits[view][row] = replace(fit, quality=quality)


def _lens(camera) -> dict:
    """A camera's content for `camera_from`, with the tilt that its place in the world says."""
    return {**camera.content, "pitch_deg": camera.tilt[0], "roll_deg": camera.tilt[1]}


@lru_cache(maxsize=2)
def _rig(path: str) -> Rig:
    return read_rig(path)


def save_world(path: Path, world: World, up: np.ndarray) -> None:
    """A person's body in the world and what each camera saw, V of them, as .npz without pickle."""
    fits, cameras = world.fits, world.cameras
    entries = {
        "pose": world.pose, "betas": world.betas, "transl": world.transl_m, "joints": world.joints_m,
        "keypoints": world.keypoints_m, "up": up,
        "camera_rotation": np.stack([camera.rotation for camera in cameras]),
        "camera_translation": np.stack([camera.translation_m for camera in cameras]),
        **{name: np.stack([getattr(fit, name) for fit in fits])
           for name in ("focal_px", "center_px", "image_size_px", "observed_px", "keypoints_px")},
        "reprojection_pct": np.array([fit.quality["reprojection_pct"] for fit in fits]),
    }  # fmt: skip
    entries = {name: value.astype(np.float32) for name, value in entries.items()}
    texts = {
        "camera": [camera.name for camera in cameras],
        "image": [fit.image for fit in fits],
        "result": [f"{fit.name}_{fit.person}.npz" for fit in fits],
    }
    entries |= {name: np.array(value) for name, value in texts.items()}
    entries |= {
        "valid": np.array([fit.valid for fit in fits]),
        "reasons": np.array([json.dumps(list(fit.reasons)) for fit in fits]),
        "person": np.array(fits[0].person),
        "body_model": np.array(fits[0].body_model),
        "version": np.array(VERSION),
    }
    with open(path, "wb") as file:
        np.savez_compressed(file, **entries)
