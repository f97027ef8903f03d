"""A photo as it is seen: decoded, its camera, its people, and the label maps and masks that are its own."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from fitter.config import FitConfig
from fitter.label.label_files import label_files
from fitter.method import Models, View
from fitter.see.camera import Camera
from fitter.see.camera_files import camera_of_photo
from fitter.see.frame import frame_of
from fitter.see.keypoint_checks import Found, elsewhere, of_this_photo, orientation_of
from fitter.see.keypoint_files import find_people
from fitter.see.keypoints import select_people
from fitter.see.photos import Photo
from fitter.see.picture import Picture, read_picture


class NobodyFound(ValueError):
    """A photo with nobody to fit."""


def see(
    photo: Photo,
    models: Models,
    inputs: Mapping[str, Mapping] = MappingProxyType({}),
    given: Mapping | None = None,
) -> View:
    """Decode, camera, people, label files. inputs: what the photo's fits are made from, `run.reader_of_inputs`'s, of
    which "labels " and "ignore " are the photo's own files and "labels 1" those of its person 1; given: what a camera
    file would say, where that is known.

    ValueError: no photo, nobody in it, or keypoints or camera that cannot be read.
    """
    config = models.config
    source = photo.path if photo.place is None else io.BytesIO(photo.read())
    picture = read_picture(source)
    size = picture.width, picture.height
    camera = camera_of_photo(own_path(photo), beside(config.camera, photo), *size, source, given)
    found = keypoints_of(photo, config, size) if config.keypoints else None
    view = view_of(photo, picture, camera, models, found)
    return replace(view, **{what: files_in(inputs, what) for what in ("labels", "ignore")})


def view_of(
    photo: Photo, picture: Picture, camera: Camera, models: Models, found: Found | None = None
) -> View:
    """A decoded photo, its own camera known, with its people: `found` in px of the photo, else the detector's.

    NobodyFound: there is nobody.
    """
    frame = frame_of(picture, camera)
    image = frame.straight(picture.image_rgb)
    if found is None:
        people, refused = models.detect.find_people(image, photo.image, frame.box)
    else:
        people, refused = frame.people(found.people), found.left_out
    if not people:
        said = f" by keypoints {models.config.keypoints}" if models.config.keypoints else ""
        raise NobodyFound("; ".join([f"nobody found in this photo{said}", *refused]))
    chosen = select_people(people, models.config.people)
    rows = tuple(row for row, person in enumerate(people) if any(person is one for one in chosen))
    view = View(photo, image, frame.camera, tuple(people), rows, tuple(refused), frame=frame)
    if found is None:
        return view
    boxes = models.detect.boxes(image, photo.image, frame.box)
    return replace(view, doubt=elsewhere(people, boxes, (frame.camera.width, frame.camera.height)))


def keypoints_of(photo: Photo, config: FitConfig, size_px: tuple[int, int]) -> Found:
    """A photo's people from files, in px of the photo, width x height; ValueError if they cannot be this photo's."""
    source = photo.path if photo.place is None else io.BytesIO(photo.read())
    found = find_people(photo, config.keypoints, config.keypoint_names)
    return of_this_photo(found, size_px, orientation_of(source))


def own_path(photo: Photo) -> Path:
    """What its own files are looked for by: where it lies, or what it is called in its tar."""
    return photo.path if photo.place is None else Path(photo.image)


def beside(where: str | None, photo: Photo) -> str | None:
    """The folder in which a photo's own files lie: `where`, or the one in it that is called as the photo's."""
    if not where:
        return None
    inside = Path(where) / Path(photo.image).parent
    return str(inside) if inside.is_dir() else where


def files_in(inputs: Mapping[str, Mapping], what: str) -> dict[str | None, Path]:
    """The photo's own files of a setting among its inputs, by person, the whole photo's under None."""
    return {
        role.removeprefix(f"{what} ") or None: Path(about["path"])
        for role, about in inputs.items()
        if role.startswith(f"{what} ")
    }


def label_files_of(photo: Photo, config: FitConfig) -> dict[str, dict[str | None, Path]]:
    """A photo's own files of `labels` and `ignore`, by person, as a View has them."""
    return {
        what: label_files([photo], folder, what, needed=False).get(photo.image, {}) if folder else {}
        for what, folder in (("labels", config.labels), ("ignore", config.ignore))
    }
