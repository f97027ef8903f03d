"""Cameras as files: which file and which camera in it belongs to a photo, what it says, and whether that can be.

Read are JSON, YAML (also OpenCV's FileStorage), npz, npy and txt; docs/camera.md lists the fields.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL.ExifTags import Base

from fitter.see.camera import Camera, camera_of_tags, default_camera, exif_camera
from fitter.see.lens import Lens, of_photo
from fitter.see.picture import read_exif
from fitter.yaml_files import load_yaml

CAMERA_SUFFIXES = (".json", ".yaml", ".yml", ".toml", ".npz", ".npy", ".txt")
OF_ALL = "intri"  # a file of several cameras that a folder of camera files may hold, as EasyMocap calls it
EXPECTED = (
    "expected {focal_px: [fx, fy], center_px: [cx, cy]}, {fx, fy, cx, cy} or a 3x3 K [[fx, 0, cx], [0, fy, cy], "
    "[0, 0, 1]]"
)
MATRIX = ("K", "camera_matrix", "cameraMatrix", "intrinsics", "intrinsic", "intrinsic_matrix", "cam_intrinsics",
          "mtx", "matrix")  # fmt: skip
FOCAL = ("focal_px", ("fx", "fy"), ("fl_x", "fl_y"), "focal_length", "focal", "f")
CENTER = ("center_px", ("cx", "cy"), "principal_point", "center")
SIZE = (("image_width", "image_height"), ("width", "height"), ("w", "h"), ("W", "H"), "image_size", "img_size",
        "resolution", "size")  # fmt: skip
DISTORTION = ("distortion_coefficients", "distortion", "distortions", "dist", "dist_coeffs", "distCoeffs", "distCoef",
              "dist_coef", "D")  # fmt: skip
SINGLY = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")  # in OpenCV's order
LENGTHS = (4, 5, 8, 12, 14)  # how many coefficients OpenCV's model has
OPENCV_MODELS = (
    "plumb_bob",
    "rational_polynomial",
    "opencv",
    "brown",
    "brown_conrady",
    "radtan",
    "pinhole",
    "",
)


def camera_of_photo(
    image_path: str | Path, camera_path: str | Path | None, width: int, height: int, source=None, given=None
) -> Camera:
    """The user's camera if given (`read_camera` of a path, `camera_from` of what is `given`), else EXIF's,
    else `default_camera`; the upright photo's size in px.

    source: a file object with the photo, where it does not lie at image_path.
    """
    tags, notes = read_exif(source or image_path)
    own, odd = camera_of_tags(tags, width, height)
    own = own or default_camera(width, height)
    if camera_path is None and given is None:
        return replace(own, notes=notes + odd)
    about = image_path, width, height, tags.get(Base.Orientation, 1), own
    camera = read_camera(camera_path, *about) if given is None else camera_from(given, *about)
    return replace(camera, notes=notes + camera.notes)


def read_camera(
    camera_path: str | Path,
    image_path: str | Path,
    width: int,
    height: int,
    orientation: int = 1,
    own: Camera | None = None,
) -> Camera:
    """The user's camera for one photo, in px of the photo as it is seen upright, width x height.

    camera_path: a file, of one camera for all photos or of several by name, or a folder of files (`camera_file`);
    orientation: the photo's EXIF orientation, 1 to 8; own: whose focal length holds where the file has only a tilt
    (EXIF's, else the default).
    A file that says the size of its images is scaled, and turned upright by EXIF, to the photo, and `notes` say so.
    ValueError: no file or camera for this photo, another content, skew, a lens that OpenCV's model does not cover, and
    what cannot be this photo's: a principal point where another image's would be, a focal length in mm or normalised.
    """
    path = camera_file(camera_path, image_path)
    content = read_camera_file(path)
    try:
        return camera_from(content, image_path, width, height, orientation, own)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def camera_from(
    content,
    image_path: str | Path,
    width: int,
    height: int,
    orientation: int = 1,
    own: Camera | None = None,
) -> Camera:
    """`read_camera` of a file's content, or of what says the same in Python: a mapping, or K as an array."""
    try:
        data = _camera_in(content, image_path)
        tilt = [_angle(data, name) for name in ("pitch_deg", "roll_deg")]
        if tilt != [None, None] and first_of(data, (*MATRIX, *FOCAL, *CENTER, *DISTORTION, *SINGLY)) is None:
            own = own or exif_camera(image_path, width, height) or default_camera(width, height)
            return replace(own, pitch_deg=tilt[0], roll_deg=tilt[1])
        lens, notes = of_photo(_lens(data), width, height, orientation)
        center = lens.center or (width / 2, height / 2)
        return Camera(
            *lens.focal, *center, width, height, "user", *tilt, distortion=lens.distortion, notes=notes
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error


def check_camera_path(path: str | Path) -> None:
    """ValueError: a camera file that cannot be read, or a folder without any; what is wrong for all photos."""
    if not Path(path).is_dir():
        read_camera_file(Path(path))
    elif not any(file.suffix.lower() in CAMERA_SUFFIXES for file in Path(path).rglob("*")):
        raise ValueError(
            f"camera {path}: expected a folder with files {', '.join(CAMERA_SUFFIXES)}, found none"
        )


def camera_file(camera_path: str | Path, image_path: str | Path) -> Path:
    """The file with a photo's camera: `camera_path` itself; or of that folder the one called as the photo
    (`<stem>.json`, ...), else as a folder that the photo lies in, else `intri.yml`. ValueError: none, or several."""
    where = Path(camera_path)
    if not where.is_dir():
        return where
    files: dict[str, list[Path]] = {}
    for path in sorted(where.iterdir()):
        if path.suffix.lower() in CAMERA_SUFFIXES and not path.name.startswith("."):
            files.setdefault(path.stem, []).append(path)
    name = _name_of(files, image_path) or (OF_ALL if OF_ALL in files else None)
    if name is None:
        raise ValueError(
            f"camera of {Path(image_path).name}: expected {where / Path(image_path).stem}.json, .yaml or .npz, found "
            "none"
        )
    if len(files[name]) > 1:
        both = " and ".join(path.name for path in files[name])
        raise ValueError(f"camera of {Path(image_path).name}: expected one file in {where}, got {both}")
    return files[name][0]


def _name_of(names: Iterable[str], image_path: str | Path) -> str | None:
    """Which of some cameras' names is a photo's: its own, or of the folders that it lies in the nearest; None: neither.

    ValueError: the photo is called as one camera and its folder as another.
    """
    path, names = Path(image_path), set(names)
    folder = next((part for part in reversed(path.parts[:-1]) if part in names), None)
    own = path.stem if path.stem in names else None
    if own and folder and own != folder:
        raise ValueError(
            f"camera of {Path(*path.parts[-2:])}: may be {own!r}, as the photo is called, or {folder!r}, as its folder "
            "is; rename one"
        )
    return own or folder


def read_camera_file(path: Path):
    suffix = path.suffix.lower()
    if suffix not in CAMERA_SUFFIXES or not path.is_file():
        raise ValueError(
            f"camera {path}: expected an existing file {', '.join(CAMERA_SUFFIXES)}, or a folder of such"
        )
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        if suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if suffix == ".txt":
            return np.loadtxt(path, delimiter="," if "," in path.read_text(encoding="utf-8") else None)
        text = path.read_text(encoding="utf-8")
        if suffix == ".toml":
            return _load_toml(text)
        return json.loads(text) if suffix == ".json" else _load_yaml(text)
    except Exception as error:  # whatever the parsers raise, the file is what is wrong
        raise ValueError(f"camera {path}: expected a readable {suffix} file, got: {error}") from error


def _load_toml(text: str):
    """TOML, as Pose2Sim writes its calibration."""
    try:
        import tomllib
    except ImportError as error:  # Python 3.10
        raise ValueError("TOML is read from Python 3.11 on; write the cameras as JSON or YAML") from error
    return tomllib.loads(text)


def _load_yaml(text: str):
    """YAML, also as OpenCV's FileStorage writes it: with `%YAML:1.0`, which is not YAML's, and matrices by a tag."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor(
        "tag:yaml.org,2002:opencv-matrix", lambda loader, node: loader.construct_mapping(node, deep=True)
    )
    return load_yaml(re.sub(r"\A\ufeff?%YAML[: ]\d\.\d", "", text), Loader)


def _camera_in(data, image_path: str | Path):
    """A photo's camera in a file's content; the content itself where it is of one camera. ValueError: no such."""
    named = named_cameras(data)
    if not named:
        return data
    name = _name_of(named, image_path)
    if name is None and len(named) > 1:
        raise ValueError(
            f"expected a camera called as the photo {Path(image_path).name} or as a folder that it lies in, got "
            f"{', '.join(sorted(named)[:12])}"
        )
    return named[name or next(iter(named))]


def named_cameras(data) -> dict[str, object]:
    """Cameras by name, where a file has such: K_<name>, dist_<name>, or R_<name>, T_<name> (EasyMocap), {name: {...}},
    or a list of {name, ...}; else empty."""
    if isinstance(data, Mapping):
        flat = list(
            dict.fromkeys(key[2:] for key in data if isinstance(key, str) and key[:2] in ("K_", "T_"))
        )
        if flat:
            return {
                name: {
                    key.removesuffix(f"_{name}"): data[key] for key in data if str(key).endswith(f"_{name}")
                }
                for name in flat
            }
        if "cameras" in data:
            return named_cameras(data["cameras"])
        named = {str(key): value for key, value in data.items() if _is_camera(value)}
        return {} if _is_camera(data) else named
    if isinstance(data, list) and data and all(_is_camera(one) for one in data):
        return {str(one.get("name", one.get("id", number))): one for number, one in enumerate(data)}
    return {}


def _is_camera(value) -> bool:
    return (
        isinstance(value, Mapping) and first_of(value, (*MATRIX, *FOCAL, "pitch_deg", "roll_deg")) is not None
    )


def first_of(data: Mapping, names: Iterable) -> object | None:
    """Which of some names of a field a file has; a pair of names stands for a field in two parts."""
    return next(
        (n for n in names if (n in data if isinstance(n, str) else all(part in data for part in n))), None
    )


def numbers_of(data: Mapping, name) -> np.ndarray:
    """A field's numbers in their shape, float64; {rows, cols, data} is OpenCV's and ROS's. ValueError: no such."""
    value = data[name] if isinstance(name, str) else [data[part] for part in name]
    try:
        if isinstance(value, Mapping):
            return np.asarray(value["data"], np.float64).reshape(int(value["rows"]), int(value["cols"]))
        return np.asarray(value, np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected numbers for {name}, got {str(value)[:60]}") from error


def _lens(data) -> Lens:
    """A camera's content. ValueError, KeyError, TypeError: it is none."""
    if not isinstance(data, Mapping):
        try:
            matrix = np.asarray(data, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{EXPECTED}, got {str(data)[:60]!r}") from error
        return Lens(*_pinhole(matrix))
    inner = data.get(first_of(data, MATRIX))
    if isinstance(inner, Mapping) and "data" not in inner:  # {intrinsics: {fx, ...}}
        data = {name: value for name, value in data.items() if value is not inner} | dict(inner)
    matrix, focal, center, size = (first_of(data, names) for names in (MATRIX, FOCAL, CENTER, SIZE))
    if matrix:
        pair, middle = _pinhole(numbers_of(data, matrix))
    elif focal:
        pair = _pair(numbers_of(data, focal), focal)
        middle = _pair(numbers_of(data, center), center) if center else None
    else:
        raise ValueError(f"{EXPECTED}, got {', '.join(map(str, list(data)[:8])) or 'nothing'}")
    size = size and _pair(numbers_of(data, size), size)
    return Lens(pair, middle, _distortion(data), size and tuple(round(side) for side in size))


def _pair(values: np.ndarray, name) -> tuple[float, float]:
    if values.size not in (1, 2) or (values.size == 1 and name in CENTER):
        raise ValueError(f"{EXPECTED}, got {name} of {values.size} numbers")
    return tuple(map(float, np.broadcast_to(values.reshape(-1), 2)))


def _pinhole(matrix: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """K, 3x3, or 3x4 or 4x4 with nothing but zeros beyond it (or its 9, 12 or 16 numbers in a row) -> focal, centre."""
    shapes = {9: (3, 3), 12: (3, 4), 16: (4, 4)}
    k = matrix.reshape(shapes[matrix.size]) if matrix.ndim == 1 and matrix.size in shapes else matrix
    if k.shape not in shapes.values():
        raise ValueError(f"{EXPECTED}, got K of shape {k.shape}: {k.tolist()}"[:400])
    rest = k.copy()
    rest[:3, :3] = 0
    upper = np.allclose(k[2, :3], [0, 0, 1]) and k[1, 0] == 0
    if not upper or not np.allclose(rest, np.diag([0, 0, 0, 1])[: k.shape[0], : k.shape[1]]):
        why = (
            ""
            if k.shape == (3, 3)
            else ", a projection or a pose: give K alone (cv2.decomposeProjectionMatrix)"
        )
        raise ValueError(f"{EXPECTED}, got K of shape {k.shape}: {k.tolist()}{why}")
    if abs(k[0, 1]) > 1e-3 * abs(k[0, 0]):
        raise ValueError(f"skew {k[0, 1]:g} is not supported")
    return (float(k[0, 0]), float(k[1, 1])), (float(k[0, 2]), float(k[1, 2]))


def _distortion(data: Mapping) -> tuple[float, ...]:
    """OpenCV's coefficients, empty where they are all 0 or not there. ValueError: another model's."""
    model = str(data.get("distortion_model", data.get("camera_model", ""))).lower()
    odd = [
        n for n in data if re.match("(?i)dist(?!ance)", str(n)) and n not in (*DISTORTION, "distortion_model")
    ]
    if odd:
        raise ValueError(
            f"expected lens distortion as {DISTORTION[0]} or {', '.join(SINGLY[:5])}, got {odd[0]}"
        )
    name, singly = first_of(data, DISTORTION), [float(data.get(one) or 0) for one in SINGLY]
    values = numbers_of(data, name).reshape(-1) if name and data[name] is not None else np.array([])
    if not values.any() and any(singly):
        values = np.array(singly[:5] if not any(singly[5:]) else singly)
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite distortion coefficients, got {values.tolist()}")
    if not values.any():
        return ()
    if model not in OPENCV_MODELS or True in (data.get("is_fisheye"), data.get("fisheye")):
        raise ValueError(
            f"expected lens distortion of OpenCV's model (k1, k2, p1, p2, k3, ...), got {model or 'fisheye'!r}; "
            "undistort the photos first (cv2.fisheye.undistortImage for equidistant lenses) and give their K"
        )
    if len(values) not in LENGTHS:
        raise ValueError(
            f"expected {', '.join(map(str, LENGTHS))} distortion coefficients, OpenCV's (k1, k2, p1, p2, k3, ...), got "
            f"{len(values)}"
        )
    return tuple(values.tolist())


def _angle(data, name: str) -> float | None:
    """Degrees by that name in a camera file's content; None: not there, or null. ValueError: no such angle."""
    value = data.get(name) if isinstance(data, Mapping) else None
    if value is None:
        return None
    try:
        angle = float(np.asarray(value, np.float64).reshape(()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {name} as a number of degrees, got {value!r}") from error
    if not math.isfinite(angle):
        raise ValueError(f"expected {name} as a finite number of degrees, got {value!r}")
    return angle
