"""Fits from Python: photos as paths or arrays in, `Fit`s out, by the same steps as `fit.py` (`fitter.pipeline`).

    from fitter import Fitter
    fits = Fitter(people="largest")("photo.jpg")
    fits[0].vertices_cam  # [V, 3] m in the photo's camera

docs/python.md shows all of it.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np

from fitter.config import Eft, FitConfig, Limits, Optimisation, Semantics, Weights
from fitter.jobs import single_thread, wait_quietly
from fitter.options import check_options, check_paths, network_in

wait_quietly()  # before torch is imported

from fitter.method import Models, View, load_models  # noqa: E402
from fitter.pipeline import RUN_ONLY, fit_views, in_photo, told  # noqa: E402
from fitter.see.camera_files import camera_of_photo  # noqa: E402
from fitter.see.keypoint_checks import Found, of_this_photo  # noqa: E402
from fitter.see.keypoint_orders import read_order  # noqa: E402
from fitter.see.keypoint_readers import BY_COUNT, OPENPOSE, Listed, people_of  # noqa: E402
from fitter.see.keypoints import Person  # noqa: E402
from fitter.see.photos import Photo  # noqa: E402
from fitter.see.picture import Picture, read_picture  # noqa: E402
from fitter.see.views import NobodyFound, keypoints_of, label_files_of, view_of  # noqa: E402
from fitter.write.result import Fit  # noqa: E402
from fitter.write.sequence import Sequence as Motions  # noqa: E402

Image: TypeAlias = str | Path | np.ndarray
Several: TypeAlias = list[str] | list[Path] | list[np.ndarray] | list[Image] | tuple[Image, ...]
Keypoints: TypeAlias = np.ndarray | Sequence[np.ndarray] | Sequence[Person]
Camera: TypeAlias = float | np.ndarray | Mapping[str, Any] | str | Path
Labels: TypeAlias = np.ndarray | str | Path | Mapping[str | None, np.ndarray | Path]


@dataclass(frozen=True)
class _Given:
    """One photo of a call, and what is said of it."""

    photo: Photo
    image_rgb: np.ndarray | None
    keypoints: Keypoints | None
    camera: Camera | None
    labels: Labels | None


class Fitter:
    """Fits SMPL bodies to the people in photos; networks, body and priors are loaded at the first call and kept.

        fitter = Fitter(parser="none", people="largest", weights={"pose": 5.0})
        fits = fitter(image, keypoints=points, camera=1450.0)

    config: a FitConfig, or a preset's name or YAML file as `fit.py --config` takes them
    settings: fit.py's, by the same names; groups (weights, optimisation, limits, ...) as mappings of what differs
    make_method: of `regressor.methods`, where a network takes part: fine_tuning for method="eft", network_alone for
        method="network", begun_by_network for init="network"

    ValueError: a setting that is not known, of another type, or without effect; FileNotFoundError: a file that is not
    there. `config` is what holds in the end.
    """

    def __init__(
        self, config: FitConfig | str | None = None, *, make_method: Callable | None = None, **settings: Any
    ):
        self.config = _configured(config, settings)
        if not make_method and network_in(self.config):
            raise ValueError(
                "Fitter: expected make_method for a method with a network, got none: "
                "regressor.methods.method_of(config)"
            )
        if self.config.views:
            raise ValueError("Fitter: views: expected single photos, got several cameras; run fit.py --views")
        check_paths(self.config)
        self._make_method = make_method
        self._models: dict[bool, Models] = {}

    @property
    def faces(self) -> np.ndarray:
        """[F, 3] int32: the triangles of every fit's vertices."""
        return self._loaded(False).faces

    @overload
    def __call__(
        self,
        photos: Image,
        keypoints: Keypoints | None = None,
        camera: Camera | None = None,
        labels: Labels | None = None,
    ) -> list[Fit]: ...

    @overload
    def __call__(
        self,
        photos: Several,
        keypoints: Sequence[Keypoints | None] | None = None,
        camera: Camera | Sequence[Camera | None] | None = None,
        labels: Sequence[Labels | None] | None = None,
    ) -> list[list[Fit]]: ...

    def __call__(self, photos, keypoints=None, camera=None, labels=None):
        """Everybody's fit in a photo, or in each of several photos, which then are one batch.

        photos: a path, or uint8 [H, W, 3], RGB and upright; or a list of these, as many as fit into memory at once
        keypoints: one person's [K, 3] (x px, y px, confidence 0..1), several people's [P, K, 3] or a list, or
            `Person`s; K = 25 is OpenPose's BODY_25, 18 its COCO, 17 COCO, 26 Halpe, 133 WholeBody, any other needs
            the setting keypoint_names. px: of the upright photo, the origin at its top left corner. Not given: the
            setting `keypoints`' files, else the detector
        camera: focal length in px, K [3, 3], a mapping with the fields of a camera file (distortion too), or such a
            file. Not given: the setting `camera`, else EXIF, else a guess
        labels: clothing label map [H, W] of ids in the order of the setting label_classes, or a file of one; or those
            of single people by their ids. Not given: the setting `labels`, else the parser
        For several photos each of these is a list of as many, None where nothing is known; a camera may be one for all.

        Returns a list of `Fit`, in px of the photo, with vertices_cam; empty where nobody is found. Doubtful ones are
        there too: `fit.valid`, `fit.reasons`. ValueError: what cannot be read or cannot be this photo's, by its name,
        before anything is fitted.
        """
        single = _is_photo(photos)
        given = _given([photos] if single else list(photos), keypoints, camera, labels, single)
        said = {
            name: "given"
            for name in ("keypoints", "labels")
            if any(getattr(one, name) is not None for one in given)
        }
        config = replace(self.config, **said)
        check_options(config)
        with single_thread():
            models = self._loaded("labels" in said)
            views = [_named(one, self._see, models) for one in given]
            fitted = fit_views(views, models)
        found = [[in_photo(fit, one.view) for fit in told(one.fits, one.view, config, {})] for one in fitted]
        return found[0] if single else found

    def sequence(self, clip: str | Path, fps: float = 0.0) -> list[Motions]:
        """Everybody's motion in a clip, one shape each: the largest person first.

        clip: a video, or a folder of frames in the order of the numbers in their names; fps: frames a second, 0: as the
        video says, 30 for a folder. Keypoints, camera and labels: the settings' files, else detector, EXIF and parser.
        ValueError: nobody, or frames that cannot be read; FileNotFoundError: no clip.
        """
        from fitter.see.clip import find_clips
        from fitter.sequences import see_clip, solve

        clips = find_clips(clip, fps)
        if len(clips) != 1:
            raise ValueError(f"sequence: expected one clip, got {len(clips)} in {clip}")
        with single_thread():
            models = self._loaded(False)
            lens, subjects, _ = see_clip(clips[0], models)
            return [result for _, result in solve(clips[0], lens, subjects, models, {})]

    def _loaded(self, with_labels: bool) -> Models:
        """The models, those for labels among them where labels are given in a call; one set of them is kept."""
        with_labels = with_labels and not self.config.labels and self.config.parser == "none"
        if with_labels not in self._models:
            config = replace(self.config, labels="given") if with_labels else self.config
            self._models = {with_labels: load_models(config, self._make_method)}
        return self._models[with_labels]

    def _see(self, given: _Given, models: Models) -> View:
        """A photo with what was said of it; one with nobody in it has trouble."""
        photo, config = given.photo, self.config
        source: Path | io.BytesIO = photo.path
        if given.image_rgb is None:
            picture = read_picture(photo.path)
        else:
            picture = Picture(given.image_rgb, given.image_rgb.shape[1], given.image_rgb.shape[0])
            source = io.BytesIO()  # nothing to read EXIF from
        size = picture.width, picture.height
        where, content = config.camera, given.camera
        if isinstance(content, str | Path):
            where, content = str(content), None
        elif content is not None and not isinstance(content, Mapping) and np.ndim(content) == 0:
            content = {"focal_px": float(content)}
        camera = camera_of_photo(photo.path, where, *size, source, content)
        found = None
        if given.keypoints is not None:
            found = of_this_photo(_found(given.keypoints, config.keypoint_names), size)
        elif config.keypoints:
            found = keypoints_of(photo, config, size)
        try:
            view = view_of(photo, picture, camera, models, found)
        except NobodyFound as error:
            if found is not None and found.left_out:
                raise
            return View(photo, trouble=str(error))
        files = label_files_of(photo, config)
        labels = files["labels"] if given.labels is None else _by_person(given.labels, view)
        return replace(view, labels=labels, ignore=files["ignore"])


def _by_person(labels: Labels, view: View) -> dict[str | None, Path | np.ndarray]:
    """Label maps of a photo, the whole photo's under None. ValueError: of people who are not there."""
    found = labels if isinstance(labels, Mapping) else {None: labels}
    ids = [person.id for person in view.people]
    strangers = [who for who in found if who is not None and who not in ids]
    if strangers:
        raise ValueError(f"labels: expected labels of people of {ids}, got {strangers}")
    return {who: Path(one) if isinstance(one, str) else one for who, one in found.items()}


def _configured(config: FitConfig | str | None, settings: Mapping[str, Any]) -> FitConfig:
    """The configuration, its values' types checked as on the command line."""
    from fitter.cli import checked, read_config, refuse_unknown

    preset = ["--config", config] if isinstance(config, str) else []
    base: FitConfig = config if isinstance(config, FitConfig) else read_config(["--images", "", *preset])
    of_run = [name for name in settings if name in RUN_ONLY]
    if of_run:
        raise ValueError(f"Fitter: {', '.join(of_run)}: settings of a run of fit.py, not of a fit")
    values = {}
    for name, value in settings.items():
        group = getattr(base, name, None)
        if isinstance(group, Weights | Semantics | Optimisation | Eft | Limits):
            value = vars(value) if isinstance(value, type(group)) else value
            if not isinstance(value, Mapping):
                raise ValueError(f"{name}: expected a mapping of its settings, got {value!r}")
            refuse_unknown(value, type(group), f"{name}.")
            value = {**asdict(group), **value}
        values[name] = str(value) if isinstance(value, Path) else value
    parsed = checked(values)
    return replace(base, **{name: getattr(parsed, name) for name in settings})


def _is_photo(photos) -> bool:
    return isinstance(photos, str | Path) or (isinstance(photos, np.ndarray) and photos.ndim <= 3)


def _given(photos: list, keypoints, camera, labels, single: bool) -> list[_Given]:
    """A call's photos, each with its own of what was said. ValueError: not as many of one as of photos, a photo of
    another kind, or one that is there twice."""
    parts = {"keypoints": keypoints, "camera": camera, "labels": labels}
    for name, part in parts.items():
        alone = name == "camera" and not isinstance(part, list | tuple)
        if single or part is None or alone:
            parts[name] = [part] * len(photos)
        elif not isinstance(part, Sequence) or isinstance(part, str) or len(part) != len(photos):
            got = f"{len(part)}" if isinstance(part, list | tuple) else type(part).__name__
            raise ValueError(f"{name}: expected a list of one per photo, {len(photos)}, got {got}")
    paths = [Path(photo) if isinstance(photo, str | Path) else None for photo in photos]
    twice = Counter(path.name for path in paths if path)
    result = []
    for at, (photo, path) in enumerate(zip(photos, paths, strict=True)):
        if path is None:
            _refuse_odd(photo)
            image = f"photo{at}"
            kept, pixels = Photo(Path(image), image, image), np.ascontiguousarray(photo)
        else:
            image = path.name if twice[path.name] == 1 else path.as_posix()
            kept, pixels = Photo(path, image, str(Path(image).with_suffix(""))), None
        result.append(_Given(kept, pixels, *(part[at] for part in parts.values())))
    same = [name for name, count in Counter(one.photo.image for one in result).items() if count > 1]
    if same:
        raise ValueError(f"photos: expected each once in a call, got {same[0]} several times")
    return result


def _refuse_odd(image) -> None:
    expected = "photo: expected a path or uint8 [H, W, 3] in RGB order"
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{expected}, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        remedy = "; of floats in 0..1 take (255 * image).round().astype(np.uint8)" * (image.dtype.kind == "f")
        raise ValueError(f"{expected}, got {image.dtype} {list(image.shape)}{remedy}")


def _found(keypoints: Keypoints, names: str | None) -> Found:
    """People by arrays or as they are."""
    if isinstance(keypoints, np.ndarray) and keypoints.ndim == 2:
        keypoints = [keypoints]
    people = [one for one in keypoints if isinstance(one, Person)]
    if len(people) == len(keypoints):
        return Found(people)
    arrays = [np.asarray(one) for one in keypoints]
    openpose = arrays[0].ndim == 2 and len(arrays[0]) in OPENPOSE
    counts, source = (OPENPOSE, "openpose") if openpose else (BY_COUNT, "coco")
    listed = Listed("arrays", {"": [{"keypoints": one} for one in arrays]}, counts=counts, source=source)
    return people_of(listed, "", read_order(names), "keypoints")


def _named(given: _Given, step: Callable, models: Models) -> View:
    """step(given, models), the photo's name before what it finds wrong."""
    try:
        return step(given, models)
    except ValueError as error:
        raise ValueError(f"{given.photo.image}: {error}") from error
