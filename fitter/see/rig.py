"""Several calibrated cameras before one scene: where each stands, which photo is whose, which photos are one instant.

A calibration is one file (JSON, YAML, Pose2Sim's TOML) of cameras by name, each with intrinsics as any camera file and
with R and t from the world to the camera, metres; or a folder with EasyMocap's `intri.yml` and `extri.yml`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fitter.see.camera import tilt_deg
from fitter.see.camera_files import first_of, named_cameras, numbers_of, read_camera_file
from fitter.see.photos import Photo

ROTATION = ("R", "Rot", "rotation", "rvec", "rotation_matrix")  # 3x3, or Rodrigues' 3 numbers
TRANSLATION = ("t", "T", "translation", "tvec", "translation_vector")
BOTH = ("RT", "extrinsic", "extrinsics", "world_to_camera", "w2c")  # 3x4 or 4x4
UPRIGHT_DEG = 35.0  # between an axis of the world and where cameras have up, on average: then up is that axis
FARTHEST_M = 200.0  # between cameras: beyond it the calibration is in millimetres
EXPECTED = "expected R (3x3, or Rodrigues' rvec) and t of each camera, world to camera, in metres"


@dataclass(frozen=True)
class RigCamera:
    """One camera: name; content: its part of the file, with the intrinsics; rotation [3, 3] and translation_m [3]:
    world to camera; tilt: pitch and roll in degrees, by where up is in the world."""

    name: str
    content: Mapping
    rotation: np.ndarray
    translation_m: np.ndarray
    tilt: tuple[float, float]


@dataclass(frozen=True)
class Rig:
    """cameras by name; up [3]: unit, where up is in the world; path: of the calibration."""

    cameras: dict[str, RigCamera]
    up: np.ndarray
    path: Path

    def place_of(self, image: str) -> tuple[str, str]:
        """A photo's camera and its instant: `cam1/0007.jpg`, `cam1_0007.jpg` and `cam1/cam1_0007.jpg` are camera cam1's
        at 0007. Names are compared without punctuation, case and leading zeros; in a folder called as a camera, numbers
        in the photo's own name are no cameras. ValueError: no camera's, or several's."""
        names = {_plain(name): name for name in self.cameras}
        *folders, file = image.split("/")
        stem = file.rpartition(".")[0] or file
        by_folder, by_file, parts = [], [], re.split(r"[_\-. ]+", stem)
        for at, folder in enumerate(folders):
            if _plain(folder) in names:
                by_folder.append((names[_plain(folder)], "/".join([*folders[:at], *folders[at + 1 :], stem])))
        for cut in range(1, len(parts)):
            for own, rest in ((parts[:cut], parts[cut:]), (parts[cut:], parts[:cut])):
                called = _plain("".join(own))
                if called in names and not (by_folder and called.isdecimal()):
                    left = [folder for folder in folders if _plain(folder) != called]
                    by_file.append((names[called], "/".join([*left, "_".join(rest)])))
        found = by_file + by_folder  # what the photo itself is called says more of the instant
        cameras = {name for name, _ in found}
        if len(cameras) != 1:
            got = f"it may be of {' or '.join(sorted(cameras))}" if cameras else "it names none"
            raise ValueError(
                f"views: expected {image} in a folder called as a camera of {self.path} ({', '.join(self.cameras)}), "
                f"or to begin with that name (<camera>_<instant>), but {got}"
            )
        return found[0]


def rig_files(path: str | Path) -> list[Path]:
    """The files that a calibration is in: itself, or of a folder EasyMocap's two. FileNotFoundError: they are not
    there."""
    path = Path(path)
    if not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"views {path}: expected a calibration file or a folder, found none")
        return [path]
    files = [path / name for name in ("intri.yml", "extri.yml")]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"views {path}: expected intri.yml and extri.yml (EasyMocap's) in a folder, found no "
            f"{' and no '.join(missing)}; or give one file with all cameras"
        )
    return files


def read_rig(path: str | Path) -> Rig:
    """A calibration's cameras. FileNotFoundError, ValueError: no such file, cameras without a place, fewer than two,
    lengths that are no metres."""
    path = Path(path)
    parts = [named_cameras(read_camera_file(file)) for file in rig_files(path)]
    if len(parts) > 1 and set(parts[0]) != set(parts[-1]):
        both = " and ".join(", ".join(sorted(part)) or "none" for part in parts)
        raise ValueError(f"views {path}: expected the same cameras in intri.yml and extri.yml, got {both}")
    named = {name: {**dict(one), **dict(parts[-1].get(name, {}))} for name, one in parts[0].items()}
    if len(named) < 2:
        raise ValueError(
            f"views {path}: expected two cameras or more by name, each with intrinsics, R and t, got {len(named)}"
        )
    places = {}
    for name, content in named.items():
        try:
            places[name] = _placed(content)
        except ValueError as error:
            raise ValueError(f"views {path}, camera {name}: {error}") from error
    centres = np.stack([-rotation.T @ shift for rotation, shift in places.values()])
    widest = np.linalg.norm(centres[:, None] - centres[None], axis=-1).max()
    if not 0 < widest <= FARTHEST_M:
        raise ValueError(
            f"views {path}: expected cameras some metres apart, got {widest:.4g}; "
            + (
                "all have one place"
                if widest == 0
                else "divide translations in millimetres by 1000, in centimetres by 100"
            )
        )
    up = up_of([rotation for rotation, _ in places.values()])
    cameras = {
        name: RigCamera(name, named[name], rotation, shift, tilt_deg(rotation @ -up))
        for name, (rotation, shift) in places.items()
    }
    return Rig(cameras, up, path)


def up_of(rotations: Iterable[np.ndarray]) -> np.ndarray:
    """Where up is in the world, [3] unit: the axis nearest to where cameras (world to camera, [3, 3]) have up on
    average, or that average where no axis is near."""
    mean = -np.mean([rotation[1] for rotation in rotations], 0)
    mean = mean / max(float(np.linalg.norm(mean)), 1e-9)
    axis = np.zeros(3)
    longest = np.abs(mean).argmax()
    axis[longest] = np.sign(mean[longest])
    return axis if axis @ mean > np.cos(np.radians(UPRIGHT_DEG)) else mean


def instants(photos: Iterable[Photo], rig: Rig) -> dict[str, list[Photo]]:
    """Photos of one instant together, in the order of the photos. ValueError: as `Rig.place_of`, or two photos of one
    camera and instant; no instant that two cameras have."""
    found: dict[str, dict[str, Photo]] = {}
    for photo in photos:
        camera, instant = rig.place_of(photo.image)
        other = found.setdefault(instant, {}).setdefault(camera, photo)
        if other is not photo:
            raise ValueError(
                f"views: expected one photo of camera {camera} at {instant}, got {other.image} and {photo.image}"
            )
    if found and max(map(len, found.values())) < 2:
        some = {camera: photo.image for views in found.values() for camera, photo in views.items()}
        raise ValueError(
            f"views: expected photos of two cameras with one name at one moment, as cam1/0007.jpg and cam2/0007.jpg, "
            f"got none, but {' and '.join(list(some.values())[:2])}"
        )
    return {instant: list(views.values()) for instant, views in found.items()}


def _placed(content: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """A camera's rotation [3, 3] and translation [3]. ValueError: none, or no rotation."""
    both = first_of(content, BOTH)
    turn, shift = (first_of(content, names) for names in (ROTATION, TRANSLATION))
    if turn and shift:
        rotation, translation = (numbers_of(content, name) for name in (turn, shift))
        if rotation.size == 3:
            rotation = cv2.Rodrigues(rotation.reshape(3))[0]
    elif both:
        matrix = numbers_of(content, both)
        if matrix.shape not in ((3, 4), (4, 4)):
            raise ValueError(f"{EXPECTED}, got {both} of shape {matrix.shape}")
        rotation, translation = matrix[:3, :3], matrix[:3, 3]
    else:
        raise ValueError(f"{EXPECTED}, got {', '.join(map(str, list(content)[:8]))}")
    if (
        rotation.size != 9
        or translation.size != 3
        or not np.isfinite([*rotation.flat, *translation.flat]).all()
    ):
        raise ValueError(f"{EXPECTED}, got {rotation.size} and {translation.size} numbers")
    rotation = rotation.reshape(3, 3)
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
        raise ValueError(f"{EXPECTED}, got an R that is no rotation: {rotation.tolist()}"[:300])
    return rotation, translation.reshape(3)


def _plain(name: str) -> str:
    """cam_01, Cam1 and cam01 are one name."""
    return re.sub(r"0+(?=\d)", "", re.sub(r"[\W_]+", "", name.lower()))
