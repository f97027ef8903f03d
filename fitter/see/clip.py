"""Clips: videos, and folders of numbered frames, read as a stream; of no clip more than a frame is held here."""

import hashlib
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from fitter.fingerprint import fingerprint
from fitter.options import VIDEO_SUFFIXES
from fitter.see.photos import Photo, photos_among, result_names, search
from fitter.see.picture import read_picture

FOLDER_FPS = 30.0  # of folders of frames, where nobody says another
FPS = 0.1, 1000.0  # that a clip may have; a file's own word beyond it is nonsense


@dataclass(frozen=True)
class Frame:
    """One frame: number in the clip, from 0; image: its name, `<clip>_<12 digits>.png` of a video, as OpenPose counts;
    path: its file, or the video; image_rgb [H, W, 3] uint8, upright."""

    number: int
    image: str
    path: Path
    image_rgb: np.ndarray


@dataclass(frozen=True)
class Clip:
    """photo: what it is called, with path the video or the folder; files: a folder's frames, in order, empty for a
    video; fps: frames a second; names: of the files, relative to `--images`."""

    photo: Photo
    files: tuple[Path, ...]
    fps: float
    names: tuple[str, ...] = ()

    def name_of(self, number: int) -> str:
        """A frame's, with the folders of the clip."""
        stem = self.photo.image.rpartition(".")[0] or self.photo.image
        return self.names[number] if self.files else f"{stem}_{number:012d}.png"

    def said(self) -> int:
        """How many frames there are, of a video by its own word, which may be wrong; 0: it says nothing."""
        if self.files:
            return len(self.files)
        video = cv2.VideoCapture(str(self.photo.path))
        try:
            return int(max(0.0, video.get(cv2.CAP_PROP_FRAME_COUNT)))
        finally:
            video.release()

    def photos(self, most: int | None = None) -> list[Photo]:
        """Its frames, the first `most` of them, as files of single frames are looked for; one at least."""
        names = [self.name_of(number) for number in range(max(1, self.said()) if most is None else most)]
        paths = self.files or (self.photo.path,) * len(names)
        return [Photo(path, name, Path(name).stem) for path, name in zip(paths, names, strict=False)]

    def doubts(self, read: int) -> list[str]:
        """In words, that frames seem to be missing; read: how many there were."""
        if not self.files:
            said = self.said()
            if read + max(2, said // 50) >= said:
                return []
            return [f"of {said} frames that the video says it has {read} could be read: it may be cut off"]
        numbers = [re.findall(r"\d+", Path(name).stem)[-1:] for name in self.names]
        steps = [int(b[0]) - int(a[0]) for a, b in pairwise(numbers) if a and b]
        if len(steps) < len(numbers) - 1 or not steps or min(steps) == max(steps):
            return []
        at = next(row for row, step in enumerate(steps) if step != statistics.mode(steps))
        ends = " and ".join(Path(name).name for name in self.names[at : at + 2])
        return [f"its frames are not evenly numbered, as {ends}: they are taken to follow each other evenly"]

    def frames(self) -> Iterator[Frame]:
        """Every frame once, in order. ValueError: one that cannot be read, or of another size than the first."""
        size = None
        for frame in self._folder() if self.files else self._video():
            size = size or frame.image_rgb.shape
            if frame.image_rgb.shape != size:
                got = "{1} x {0}".format(*frame.image_rgb.shape)
                raise ValueError(
                    f"{frame.image}: expected {size[1]} x {size[0]} px as the clip's first frame has, got {got}"
                )
            yield frame

    def _folder(self) -> Iterator[Frame]:
        for number, (path, name) in enumerate(zip(self.files, self.names, strict=True)):
            picture = read_picture(path)
            if picture.reduced != 1:
                raise ValueError(f"{path.name}: expected a frame of a clip, got a photo of very many pixels")
            yield Frame(number, name, path, picture.image_rgb)

    def _video(self) -> Iterator[Frame]:
        video = cv2.VideoCapture(str(self.photo.path))
        try:
            number = 0
            while True:
                read, image = video.read()
                if not read:
                    break
                yield Frame(
                    number, self.name_of(number), self.photo.path, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                )
                number += 1
        finally:
            video.release()
        if not number:
            raise ValueError(f"{self.photo.image}: expected a video that OpenCV reads, got no frame of it")

    def fingerprint(self) -> dict:
        """{path, size, sha256}: of the video, or of all frames of the folder together."""
        if not self.files:
            return self.photo.fingerprint()
        whole, size = hashlib.sha256(), 0
        for path in self.files:
            about = fingerprint(path)
            whole.update(f"{path.name} {about['sha256']}\n".encode())
            size += about["size"]
        return {"path": self.photo.image, "size": size, "sha256": whole.hexdigest()}


def is_video(path: str | Path) -> bool:
    """By its suffix."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def find_clips(images: str | Path, fps: float = 0.0, skip=(), used=()) -> list[Clip]:
    """Clips of `images`: a video; or a folder, in which every folder with photos is a clip of frames in the order of
    the numbers in their names, and every video one as well.

    fps: of all of them, 0: as the videos say, FOLDER_FPS for folders. FileNotFoundError: none. ValueError: no video, no
    such fps.
    """
    return search_clips(images, fps, skip, used)[0]


def search_clips(images: str | Path, fps: float = 0.0, skip=(), used=()) -> tuple[list[Clip], str]:
    """`find_clips`, and in words how many other files lie among them; skip, used: as of `find_photos`."""
    where = Path(images)
    if fps and not FPS[0] <= fps <= FPS[1]:
        raise ValueError(f"fps: expected {FPS[0]:g} to {FPS[1]:g} frames a second, got {fps:g}")
    if where.is_file():
        if not is_video(where):
            raise ValueError(
                f"images {where}: expected a video ({', '.join(VIDEO_SUFFIXES)}) or a folder for --sequence"
            )
        said = _fps_of(where)
        if not said:
            raise ValueError(f"{where}: expected a video that OpenCV reads, got another file")
        return [Clip(Photo(where, where.name, where.stem), (), fps or said)], ""
    if not where.is_dir():
        raise FileNotFoundError(f"images {where}: expected a video or a folder of frames, found none")
    files = sorted(search(str(where), skip, used))
    videos = [file for file in files if is_video(file)]
    photos, unread = photos_among(file for file in files if not is_video(file))
    folders: dict[str, list[str]] = {}
    for image in photos:
        folders.setdefault(image.rpartition("/")[0], []).append(image)
    clips, taken = [], {folder for folder in folders if folder}

    def free(name: str, kind: str) -> str:
        name += f"_{kind}" * (name in taken)
        while name in taken:
            name += "_2"
        taken.add(name)
        return name

    for folder in sorted(folders, key=lambda folder: folder.split("/")):
        image = folder or where.resolve().name
        names = tuple(sorted(folders[folder], key=_numbered))
        own = Photo(where / folder, image, folder or free(image, "frames"))
        clips.append(Clip(own, tuple(where / name for name in names), fps or FOLDER_FPS, names))
    for image, name in zip(videos, result_names(videos), strict=True):
        own = Photo(where / image, image, free(name, "video"))
        clips.append(Clip(own, (), fps or _fps_of(where / image) or FOLDER_FPS))
    if not clips:
        more = f" ({unread})" if unread else ""
        raise FileNotFoundError(f"images {where}: expected folders of frames or videos, found none{more}")
    return clips, unread


def _numbered(image: str) -> list:
    """frame2 before frame10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", image)]


def _fps_of(path: Path) -> float:
    """What a video says; 0: it is none."""
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            return 0.0
        said = video.get(cv2.CAP_PROP_FPS)
    finally:
        video.release()
    return said if FPS[0] <= said <= FPS[1] else FOLDER_FPS


class VideoWriter:
    """An mp4 of frames uint8 [H, W, 3] RGB, all of the size of the first; `write` and `close`."""

    def __init__(self, path: Path, fps: float):
        self.path, self.fps = path, fps
        self._file, self._size = None, (0, 0)

    def write(self, image_rgb: np.ndarray) -> None:
        """ValueError: OpenCV cannot write here."""
        if self._file is None:
            self._size = tuple(side // 2 * 2 for side in image_rgb.shape[1::-1])  # codecs want even sides
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._file = cv2.VideoWriter(str(self.path), code, self.fps, self._size)
            if not self._file.isOpened():
                raise ValueError(
                    f"{self.path}: expected OpenCV to write an mp4 there; --overlay false writes none"
                )
        width, height = self._size
        self._file.write(cv2.cvtColor(np.ascontiguousarray(image_rgb[:height, :width]), cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._file is not None:
            self._file.release()
