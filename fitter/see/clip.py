"""Clips: videos, and folders of numbered frames, read as a stream; of no clip more than a frame is held here."""

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fitter.fingerprint import fingerprint
from fitter.options import VIDEO_SUFFIXES
from fitter.see.photos import Photo, find_photos, result_names
from fitter.see.picture import read_picture

FOLDER_FPS = 30.0  # of folders of frames, where nobody says another
MOST_FPS = 1000.0  # beyond it a file's own word is nonsense


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
                name = f"{self.photo.path.stem}_{number:012d}.png"
                yield Frame(number, name, self.photo.path, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
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

    fps: of all of them, 0: as the videos say, FOLDER_FPS for folders. FileNotFoundError: none. ValueError: no video.
    """
    where = Path(images)
    if where.is_file():
        if not is_video(where):
            raise ValueError(
                f"images {where}: expected a video ({', '.join(VIDEO_SUFFIXES)}) or a folder for --sequence"
            )
        return [Clip(Photo(where, where.name, where.stem), (), fps or _fps_of(where))]
    if not where.is_dir():
        raise FileNotFoundError(f"images {where}: expected a video or a folder of frames, found none")
    folders: dict[str, list[str]] = {}
    try:
        for photo in find_photos(where, skip, used)[0]:
            folders.setdefault(photo.image.rpartition("/")[0], []).append(photo.image)
    except FileNotFoundError:
        pass  # videos alone
    out = {Path(folder).resolve() for folder in skip if folder}
    videos = sorted(
        path.relative_to(where).as_posix()
        for path in where.rglob("*")
        if is_video(path) and path.is_file() and out.isdisjoint(path.resolve().parents)
    )
    clips = []
    for folder, images_in in folders.items():
        name = folder or where.resolve().name
        names = tuple(sorted(images_in, key=_numbered))
        files = tuple(where / image for image in names)
        clips.append(Clip(Photo(where / folder, name, name), files, fps or FOLDER_FPS, names))
    for image, name in zip(videos, result_names(videos), strict=True):
        taken = name in folders
        photo = Photo(where / image, image, name + "_video" * taken)
        clips.append(Clip(photo, (), fps or _fps_of(where / image)))
    if not clips:
        raise FileNotFoundError(f"images {where}: expected folders of frames or videos, found none")
    return clips


def _numbered(image: str) -> list:
    """frame2 before frame10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", image)]


def _fps_of(path: Path) -> float:
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise ValueError(f"{path}: expected a video that OpenCV reads, got another file")
        said = video.get(cv2.CAP_PROP_FPS)
    finally:
        video.release()
    return said if math.isfinite(said) and 0 < said <= MOST_FPS else FOLDER_FPS


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
