"""The way of a clip: see every frame, track people, find each one's shape, then window by window the motion, written as
it is found. The clip is read as a stream two or three times; no more of its pictures than a small window is held.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from fitter import clips
from fitter.energy.tied import Course
from fitter.label.person_labels import PersonLabels
from fitter.method import Models, View
from fitter.people import Sighting
from fitter.pipeline import Outcome, doubted, draw, label, marked, skipped_by, told, worth
from fitter.see.camera_files import camera_of_photo
from fitter.see.clip import Clip, VideoWriter
from fitter.see.clip import Frame as Shot
from fitter.see.frame import Frame, frame_of
from fitter.see.keypoint_checks import elsewhere, of_this_photo
from fitter.see.keypoint_files import find_people
from fitter.see.keypoints import Person
from fitter.see.photos import Photo
from fitter.see.picture import Picture
from fitter.see.tracks import Track, Tracker
from fitter.see.views import NobodyFound, label_files_of
from fitter.see.visibility import vertices_seen
from fitter.write.files import StoreFull, write_files
from fitter.write.layout import PANEL_PX
from fitter.write.overlay import motion_panels
from fitter.write.result import Fit, is_finite, noted_row, save_fit, summary_row
from fitter.write.rigged import motion_files
from fitter.write.sequence import Sequence as Result
from fitter.write.sequence import save_sequence, sequence_of
from fitter.write.store import SEQUENCE

SHOWN = 4  # people whose side views the overlay shows


@dataclass
class Subject:
    """A tracked person: id; track without gaps; found [T] bool, where they were seen; sightings of every frame; course:
    the bodies so far; fits: those that are final, by frame; labelled: frames with labels; doubt: what speaks against
    all of the clip's keypoints."""

    id: str
    track: Track
    found: list[bool]
    sightings: list[Sighting]
    course: Course
    fits: dict[int, Fit] = field(default_factory=dict)
    labelled: set[int] = field(default_factory=set)
    doubt: str = ""

    @property
    def start(self) -> int:
        return self.track.frames[0]

    def rows(self, first: int, end: int) -> range:
        """Of the frames from `first` to before `end`, those where the person is, counted from the track's first."""
        return range(max(0, first - self.start), max(0, min(end - self.start, len(self.sightings))))

    def at(self, frame: int) -> Sighting | None:
        """The sighting in a frame; None where they were not found."""
        row = frame - self.start
        return self.sightings[row] if 0 <= row < len(self.found) and self.found[row] else None


def fit_clip(clip: Clip, inputs: dict, models: Models, tag: str = "") -> Outcome:
    """All steps for one clip; inputs, tag and trouble as of `pipeline.fit_photos`."""
    config, name = models.config, clip.photo.name
    try:
        lens, subjects, notes = see_clip(clip, models)
        files: dict[str, Callable[[Path], None]] = {}
        results: dict[str, Result] = {}

        def solved(path: Path | None) -> None:
            writer = VideoWriter(path, clip.fps) if path else None
            try:
                for subject, result in solve(clip, lens, subjects, models, inputs, writer):
                    results[subject.id] = result
            finally:
                if writer:
                    writer.close()

        if config.overlay:
            files[f"overlays/{name}.mp4"] = solved
        else:
            solved(None)
        middle = shown_frame(subjects)
        for subject in subjects:
            at = f"{name}_{subject.id}"
            files[f"{at}{SEQUENCE}"] = lambda path, who=subject.id: save_sequence(path, results[who])
            files[f"{at}.npz"] = lambda path, one=subject: save_fit(
                path, one_fit(one, middle, lens, len(subjects))
            )
        if config.save_mesh:
            ids = [one.id for one in subjects]
            files |= motion_files(name, ids, lambda who: results[who].motion, config.save_mesh, models.body)
        if config.overlay:
            files[f"overlays/{name}.jpg"] = partial(
                poster, clip=clip, at=middle, lens=lens, subjects=subjects, models=models
            )
        written = write_files(config.out, files, tag)
    except StoreFull:
        raise
    except Exception as error:
        return skipped_by(clip.photo, error)
    rows = [
        summary_row(one_fit(subject, middle, lens, len(subjects)))
        | about(results[subject.id], f"{name}_{subject.id}")
        for subject in subjects
    ]
    rows += [noted_row(clip.photo.image, note) for note in (*lens.camera.notes, *notes)]
    return Outcome(clip.photo, rows, written)


def see_clip(clip: Clip, models: Models) -> tuple[Frame, list[Subject], list[str]]:
    """How its pictures lie in its frames, the chosen people with the bodies of single frames, and in words what was
    left out. ValueError: nobody, frames that cannot be read."""
    config, tracker, lens = models.config, Tracker(clip.fps), None
    doubts: list[str] = []  # of a frame a second
    left_out: list[str] = []
    for shot in _shown(clip, "seeing"):
        lens = lens or _lens(clip, shot, models)
        people, refused = _people(shot, lens, models)
        left_out += [f"{shot.image}: {why}" for why in refused]
        tracker.add(people)
        if config.keypoints and people and shot.number % max(1, round(clip.fps)) == 0:
            boxes = models.detect.boxes(lens.straight(shot.image_rgb), shot.image, lens.box)
            doubts.append(elsewhere(people, boxes, (lens.camera.width, lens.camera.height)))
    if lens is None:
        raise ValueError(f"{clip.photo.image}: expected a clip with frames, got none")
    tracks, short = tracker.found(config.people)
    notes = clip.doubts(tracker.frames)
    if short:
        notes.append(f"{short} people were seen for too few frames")
    if left_out:
        notes.append(f"{len(left_out)} times somebody was left out of a frame, first {left_out[0]}")
    if not tracks:
        raise NobodyFound("; ".join([f"nobody found for long enough in {tracker.frames} frames", *notes]))
    doubt = max(doubts, key=bool, default="") if 2 * sum(map(bool, doubts)) > len(doubts) else ""
    subjects = []
    for number, track in enumerate(tracks):
        whole = track.filled()
        people = [replace(person, id=str(number)) for person in whole.people]
        seen = [Sighting(clip.photo.image, person, lens.camera) for person in people]
        there = set(track.frames)
        found = [frame in there for frame in whole.frames]
        course = clips.first_bodies(seen, models.objective, config, 1 / clip.fps)
        subjects.append(Subject(str(number), whole, found, seen, course, doubt=doubt))
    return lens, subjects, notes


def solve(
    clip: Clip,
    lens: Frame,
    subjects: list[Subject],
    models: Models,
    inputs: dict,
    writer: VideoWriter | None = None,
) -> list[tuple[Subject, Result]]:
    """Everybody's shape and motion; the overlay is written as the motion is found."""
    config, seconds, clothe = models.config, 1 / clip.fps, bool(models.method.clothe)
    find_shapes(clip, lens, subjects, models)
    end = 1 + max(subject.track.frames[-1] for subject in subjects)
    keys = range(0, end, max(2, round(config.optimisation.key_frames_s * clip.fps)))
    shots, small, labels = _shown(clip, "fitting"), {}, {}
    for first, kept, last, beyond in clips.windows(end):
        work = []
        for subject in subjects:
            rows = subject.rows(first, beyond)
            if not len(subject.rows(kept, beyond)):
                continue
            held = len(subject.rows(first, kept))
            found, tied = clips.fit_window(
                [subject.sightings[row] for row in rows], _part(subject.course, rows), held, models.objective, config,
                seconds, False,
            )  # fmt: skip
            _put(subject.course, rows, found.motion)
            work.append((subject, rows, held, found, tied))
        last_read = max(small, default=kept - 1)
        for shot in _next(shots, beyond - 1 - last_read):
            wanted = clothe and shot.number in keys
            if wanted or writer:
                picture = lens.straight(shot.image_rgb)
            if wanted:
                there = [
                    (one, found, tied, rows) for one, rows, _, found, tied in work if one.at(shot.number)
                ]
                labels[shot.number] = _labelled(clip, shot, picture, lens, there, models)
            small[shot.number] = _small(picture) if writer else np.zeros(0)
        for subject, rows, held, found, tied in work:
            seen = [subject.sightings[row] for row in rows]
            if clothe:
                known = [labels.get(subject.start + row, {}).get(subject.id) for row in rows]
                seen = [replace(one, labels=worth(own)) for one, own in zip(seen, known, strict=True)]
                if any(one.labels is not None for one in seen):
                    found, tied = clips.fit_window(
                        seen, found.motion, held, models.objective, config, seconds, True
                    )
                    _put(subject.course, rows, found.motion)
            for row, fit in zip(rows, clips.fits_of(found, tied, seen, config), strict=True):
                frame = subject.start + row
                if kept <= frame < last:
                    own = labels.get(frame, {}).get(subject.id)
                    subject.labelled |= {frame} if own is not None else set()
                    subject.fits[frame] = doubted(marked(fit, own), subject.doubt)
        for frame in range(kept, last):
            if writer:
                writer.write(_drawn(small[frame], frame, lens, subjects, models))
            for one in subjects:
                if frame in one.fits:
                    one.fits[frame] = replace(one.fits[frame], vertices_cam=None)
            small.pop(frame, None)
            labels.pop(frame, None)
    view = View(clip.photo, frame=lens)
    found = []
    for subject in subjects:
        if not all(map(is_finite, subject.fits.values())):
            raise ValueError(f"person {subject.id}: the motion that was found is not finite")
        frames, fits = list(subject.fits), told(list(subject.fits.values()), view, config, inputs)
        subject.fits = dict(zip(frames, fits, strict=True))
        fits = [lens.to_photo(one) for one in fits]
        labelled = [frame in subject.labelled for frame in frames]
        found.append((subject, sequence_of(fits, frames, clip.fps, subject.found, labelled)))
    return found


def find_shapes(clip: Clip, lens: Frame, subjects: list[Subject], models: Models) -> None:
    """Puts one shape and one tilt of the camera into everybody's course: of keypoints on frames spread over the track,
    then of labels as well."""
    config, objective = models.config, models.objective
    chosen: dict[str, list[int]] = {}
    most = max(clips.FEWEST_FRAMES, min(clips.SHAPE_FRAMES, 4 * clips.SHAPE_FRAMES // len(subjects)))
    for subject in subjects:
        there = [row for row, one in enumerate(subject.sightings) if clips.clear(one)]
        there = there or [row for row, found in enumerate(subject.found) if found]
        at = np.linspace(0, len(there) - 1, min(most, len(there))).round().astype(int)
        rows = chosen[subject.id] = [there[one] for one in at]
        found = clips.fit_shape(
            [subject.sightings[row] for row in rows], _part(subject.course, rows), objective, config, False
        )
        _put(subject.course, rows, found)
        _hold(subject.course, found)
    if not models.method.clothe:
        return
    wanted = {subject.start + row for subject in subjects for row in chosen[subject.id]}
    labels = {}
    for shot in clip.frames():
        if shot.number in wanted:
            there = []
            for subject in subjects:
                if subject.at(shot.number):
                    row = shot.number - subject.start
                    there.append((subject, *_as_found(subject, row, models), range(row, row + 1)))
            known = _labelled(clip, shot, lens.straight(shot.image_rgb), lens, there, models)
            own = [one.id for one in subjects if shot.number - one.start in chosen[one.id]]
            labels[shot.number] = {who: one for who, one in known.items() if who in own}
        if shot.number >= max(wanted):
            break
    for subject in subjects:
        rows = chosen[subject.id]
        known = [worth(labels[subject.start + row].get(subject.id)) for row in rows]
        seen = [replace(subject.sightings[row], labels=own) for row, own in zip(rows, known, strict=True)]
        if any(own is not None for own in known):
            found = clips.fit_shape(seen, _part(subject.course, rows), objective, config, True)
            _hold(subject.course, found)


def _as_found(subject: Subject, row: int, models: Models):
    return clips.as_found(
        [subject.sightings[row]], _part(subject.course, range(row, row + 1)), models.objective, models.config
    )


def _labelled(
    clip: Clip, shot: Shot, picture: np.ndarray, lens: Frame, there: list, models: Models
) -> dict[str, PersonLabels]:
    """Labels by person, of those who are in a frame: (subject, what was found of some frames, its rows)."""
    people, fits = [], []
    for subject, found, tied, rows in there:
        seen = [subject.sightings[row] for row in rows]
        at = shot.number - subject.start - rows[0]
        people.append(seen[at].person)
        fits.append(clips.fits_of(found, tied, seen, models.config, at)[0])
    if not people:
        return {}
    photo = Photo(shot.path, shot.image, Path(shot.image).stem)
    files = label_files_of(photo, models.config)
    view = View(
        photo, picture, lens.camera, tuple(people), tuple(range(len(people))), frame=lens,
        labels=files["labels"], ignore=files["ignore"],
    )  # fmt: skip
    known = label(view, fits, models)
    return {person.id: own for person, own in zip(people, known, strict=True) if own is not None}


def _lens(clip: Clip, shot: Shot, models: Models) -> Frame:
    """The clip's camera, by its first frame."""
    height, width = shot.image_rgb.shape[:2]
    source = None if clip.files else io.BytesIO()  # a video has no EXIF
    camera = camera_of_photo(shot.path, models.config.camera, width, height, source)
    return frame_of(Picture(shot.image_rgb, width, height), camera)


def _people(shot: Shot, lens: Frame, models: Models) -> tuple[list[Person], list[str]]:
    """Who is in a frame, in px of its picture, and in words who was left out."""
    config = models.config
    if not config.keypoints:
        return models.detect.find_people(lens.straight(shot.image_rgb), shot.image, lens.box)
    photo = Photo(shot.path, shot.image, Path(shot.image).stem)
    found = of_this_photo(
        find_people(photo, config.keypoints, config.keypoint_names), (lens.photo.width, lens.photo.height)
    )
    return lens.people(found.people), found.left_out


def _shown(clip: Clip, step: str) -> Iterator[Shot]:
    """The clip's frames, with a bar where somebody looks."""
    from tqdm import tqdm

    count = len(clip.files) or None
    return iter(
        tqdm(clip.frames(), f"{clip.photo.image}: {step}", count, leave=False, unit="frame", disable=None)
    )


def _next(shots: Iterator[Shot], count: int) -> Iterator[Shot]:
    for _, shot in zip(range(count), shots, strict=False):
        yield shot


def _part(course: Course, rows: Sequence[int]) -> Course:
    at = torch.as_tensor(list(rows))
    return Course(*(part if len(part) == 1 else part[at] for part in vars(course).values()))


def _put(course: Course, rows: Sequence[int], part: Course) -> None:
    """Bodies of some frames into the course of all."""
    at = torch.as_tensor(list(rows))
    for name in ("orientation", "place_m", "latent"):
        getattr(course, name)[at] = getattr(part, name).clone()  # of a single frame it may be the same tensor


def _hold(course: Course, found: Course) -> None:
    """One shape and tilt for all frames."""
    course.betas[:] = found.betas
    course.tilt[:] = found.tilt[:1]


def shown_frame(subjects: Sequence[Subject]) -> int:
    """The frame that stands for the clip: of those with most people the middle one."""
    count: dict[int, int] = {}
    for subject in subjects:
        for row, found in enumerate(subject.found):
            count[subject.start + row] = count.get(subject.start + row, 0) + found
    best = [frame for frame, people in sorted(count.items()) if people == max(count.values())]
    return best[len(best) // 2]


def one_fit(subject: Subject, frame: int, lens: Frame, people: int) -> Fit:
    """A person's fit in a frame, or in the nearest where they were found; what stands for the clip in a run's lists."""
    frame = _nearest(subject, frame)
    fit = subject.fits[frame]
    return lens.to_photo(replace(fit, people_in_photo=people, quality=fit.quality | {"frame": float(frame)}))


def about(result: Result, name: str) -> dict:
    """What the summary says of a person's whole sequence."""
    return {
        "sequence": f"{name}{SEQUENCE}",
        "first_frame": int(result.frames[0]),
        "frames": len(result),
        "frames_seen": int(result.seen.sum()),
        "frames_valid": int(result.valid.sum()),
        "fps": round(result.fps, 3),
    }


def poster(path: Path, clip: Clip, at: int, lens: Frame, subjects: Sequence[Subject], models: Models) -> None:
    """The overlay of the frame that stands for the clip."""
    image = next(shot.image_rgb for shot in clip.frames() if shot.number == at)
    fits = [subject.fits[_nearest(subject, at)] for subject in subjects]
    draw(path, lens.straight(image), [fit.posed(models.body) for fit in fits], models)


def _nearest(subject: Subject, frame: int) -> int:
    there = [subject.start + row for row, found in enumerate(subject.found) if found]
    return min(there, key=lambda one: abs(one - frame))


def _small(picture: np.ndarray) -> np.ndarray:
    """As high as an overlay's panel."""
    width = max(2, round(picture.shape[1] * PANEL_PX / picture.shape[0]))
    return cv2.resize(picture, (width, PANEL_PX), interpolation=cv2.INTER_AREA)


def _drawn(
    picture: np.ndarray, frame: int, lens: Frame, subjects: Sequence[Subject], models: Models
) -> np.ndarray:
    """A frame's overlay: the picture, bodies over it, and side views, everybody always in the same place."""
    scale = len(picture) / lens.size[1]
    fits: list[Fit | None] = []
    for subject in subjects:
        fit = subject.fits.get(frame)
        fits.append(fit and replace(fit, focal_px=fit.focal_px * scale, center_px=fit.center_px * scale))
    weights = models.body.weights.cpu().numpy()
    seen = [None if fit is None else vertices_seen(fit.joint_states, weights) for fit in fits]
    return motion_panels(picture, fits, models.faces, seen, SHOWN)
