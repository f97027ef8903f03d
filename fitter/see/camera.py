"""The camera of a photo, one full-image pinhole for all people in it, and the photo itself, upright.

Camera frame as OpenCV's: x right, y down, z forward, metres. Pixels: origin at the top left corner of the
top left pixel, so the image's middle is (width / 2, height / 2).
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL.ExifTags import IFD, Base

CAMERA_SUFFIXES = (".json", ".yaml", ".yml", ".npz")
FULL_FRAME_DIAGONAL_MM = math.hypot(36, 24)
MEASURED_SPREAD_DEG = 0.5  # of a pitch or roll that is given
MIN_FOCAL_FRACTION = (
    0.2  # of the longer side in px: a field of view of 136 degrees; less is taken for millimetres
)
PLANE_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # EXIF: inch, cm; seen besides: mm, micrometre
SIDEWAYS_ORIENTATIONS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera of a photo of width x height px; all lengths in px.

    source: 'user' | 'exif' | 'default', where the focal length comes from. pitch_deg, positive looking down, and
    roll_deg, positive where the horizon falls to the picture's right: against gravity, None where not known.
    ValueError: a length that is not finite or not positive, or a focal length that looks like millimetres.
    """

    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    width: int
    height: int
    source: str
    pitch_deg: float | None = None
    roll_deg: float | None = None

    def __post_init__(self):
        if self.source not in ("user", "exif", "default"):
            raise ValueError(f"camera: expected source 'user', 'exif' or 'default', got {self.source!r}")
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"camera: expected an image of at least 1 x 1 px, got {self.width} x {self.height}"
            )
        if not (math.isfinite(self.cx_px) and math.isfinite(self.cy_px)):
            raise ValueError(f"camera: expected a finite center_px, got {self.cx_px}, {self.cy_px}")
        for focal in (self.fx_px, self.fy_px):
            refuse_odd_focal(focal, self.width, self.height)
        for name, most in (("pitch_deg", 90), ("roll_deg", 180)):
            angle = getattr(self, name)
            if angle is not None and not abs(angle) <= most:
                raise ValueError(f"camera: expected {name} within -{most}..{most} degrees, got {angle}")

    @property
    def focal_px(self) -> tuple[float, float]:
        return self.fx_px, self.fy_px

    @property
    def center_px(self) -> tuple[float, float]:
        return self.cx_px, self.cy_px

    def tilt(self, pitch_spread_deg: float, roll_spread_deg: float) -> tuple[list[float], list[float]]:
        """Pitch and roll as expected, and how far they may be off, rad: level within the spreads where not known."""
        known = (self.pitch_deg, self.roll_deg)
        spreads = (pitch_spread_deg, roll_spread_deg)
        expected = [math.radians(angle or 0.0) for angle in known]
        return expected, [
            math.radians(spread if angle is None else MEASURED_SPREAD_DEG)
            for angle, spread in zip(known, spreads, strict=True)
        ]

    def scaled(self, factor: float) -> "Camera":
        """The camera of the same photo resized by `factor`."""
        size = {"width": round(self.width * factor), "height": round(self.height * factor)}
        lengths = {n: getattr(self, n) * factor for n in ("fx_px", "fy_px", "cx_px", "cy_px")}
        return replace(self, **size, **lengths)

    def mirrored(self) -> "Camera":
        """The camera of the same photo mirrored left to right (x -> width - x)."""
        roll = None if self.roll_deg is None else -self.roll_deg
        return replace(self, cx_px=self.width - self.cx_px, roll_deg=roll)


def tilt_deg(down_cam) -> tuple[float, float]:
    """A camera's pitch and roll in degrees by the direction [3] of gravity in its frame."""
    x, y, z = (float(value) for value in down_cam)
    return math.degrees(math.asin(z)), math.degrees(math.atan2(-x, y))


def refuse_odd_focal(focal_px: float, width: int, height: int) -> None:
    """ValueError for a focal length that is not finite and positive, or short enough to be millimetres."""
    longer = max(width, height)
    if not (math.isfinite(focal_px) and focal_px > 0):
        raise ValueError(f"focal_px: expected a positive number of pixels, got {focal_px}")
    if focal_px < MIN_FOCAL_FRACTION * longer:
        converted = focal_px * math.hypot(width, height) / FULL_FRAME_DIAGONAL_MM
        raise ValueError(
            f"focal_px: expected pixels, got {focal_px:g} for an image of {width} x {height}, which looks "
            f"like millimetres. focal_px = focal_mm * image width in px / sensor width in mm; if "
            f"{focal_px:g} mm is the 35 mm equivalent, give {converted:.0f}."
        )


def default_camera(width: int, height: int) -> Camera:
    """Focal length = the image's diagonal (Li et al., CLIFF, 2022: about 53 degrees across), centred."""
    focal = math.hypot(width, height)
    return Camera(focal, focal, width / 2, height / 2, width, height, "default")


def camera_of_photo(
    image_path: str | Path, camera_path: str | Path | None, width: int, height: int, source=None
) -> Camera:
    """The user's camera if given, else EXIF's, else `default_camera`; the upright photo's size in px.

    source: a file object with the photo, where it does not lie at image_path.
    """
    if camera_path is not None:
        return read_camera(camera_path, image_path, width, height)
    return exif_camera(source or image_path, width, height) or default_camera(width, height)


def read_camera(camera_path: str | Path, image_path: str | Path, width: int, height: int) -> Camera:
    """The user's intrinsics for one photo.

    camera_path: a folder with one file per image (`<stem>.json|yaml|yml|npz`), or one file for all photos.
    JSON or YAML: `{focal_px: [fx, fy] or f, center_px: [cx, cy]}` (centre: the image's middle if left out),
    `{K: 3x3}`, or a bare 3x3 list; npz: `K`, or `focal_px` with `center_px`; beside them, or alone, `pitch_deg`
    and `roll_deg`, where they are known. In px of the photo as it is seen
    upright. ValueError: no file, another content, lens skew, or millimetres (`refuse_odd_focal`).
    """
    path = Path(camera_path)
    if path.is_dir():
        stem = Path(image_path).stem
        found = [path / (stem + suffix) for suffix in CAMERA_SUFFIXES if (path / (stem + suffix)).is_file()]
        if not found:
            raise ValueError(
                f"camera of {Path(image_path).name}: expected {path / stem}.json, .yaml or .npz, found none"
            )
        path = found[0]
    data = _read_camera_file(path)
    tilt = [_angle(data, name, path) for name in ("pitch_deg", "roll_deg")]
    if isinstance(data, dict) and not {"K", "focal_px"} & set(data) and tilt != [None, None]:
        own = exif_camera(image_path, width, height) or default_camera(width, height)
        return replace(own, pitch_deg=tilt[0], roll_deg=tilt[1])
    try:
        focal, center = _intrinsics(data, width, height)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected {{focal_px: [fx, fy], center_px: [cx, cy]}} or a 3x3 K "
            f"[[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got something else ({error})"
        ) from error
    try:
        return Camera(*map(float, focal), *map(float, center), width, height, "user", *tilt)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _angle(data, name: str, path: Path) -> float | None:
    """Degrees by that name in a camera file's content; None: not there, or null. ValueError: no such angle."""
    value = data.get(name) if isinstance(data, dict) else None
    if value is None:
        return None
    try:
        angle = float(np.asarray(value, np.float64).reshape(()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected {name} as a number of degrees, got {value!r}") from error
    if not math.isfinite(angle):
        raise ValueError(f"{path}: expected {name} as a finite number of degrees, got {value!r}")
    return angle


def _read_camera_file(path: Path):
    if path.suffix not in CAMERA_SUFFIXES or not path.is_file():
        raise ValueError(
            f"camera {path}: expected an existing file .json, .yaml, .yml or .npz, or a folder of such"
        )
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        if path.suffix == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        import yaml

        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # whatever the three parsers raise, the file is what is wrong
        raise ValueError(f"camera {path}: expected a readable {path.suffix} file, got: {error}") from error


def _intrinsics(data, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A camera file's content -> focal [2], centre [2], px; KeyError, TypeError, ValueError if it is none."""
    matrix = data.get("K") if isinstance(data, dict) else data
    if matrix is not None:
        k = np.asarray(matrix, np.float64)
        if k.shape != (3, 3) or not np.allclose(k[2], [0, 0, 1]) or k[1, 0] != 0:
            raise ValueError(f"got K of shape {k.shape}: {k.tolist()}")
        if abs(k[0, 1]) > 1e-3 * abs(k[0, 0]):
            raise ValueError(f"skew {k[0, 1]:g} is not supported")
        return k[[0, 1], [0, 1]], k[:2, 2]
    focal = np.broadcast_to(np.asarray(data["focal_px"], np.float64).reshape(-1), 2)
    center = np.asarray(data.get("center_px", [width / 2, height / 2]), np.float64)
    if center.shape != (2,):
        raise ValueError(f"center_px of shape {center.shape}")
    return focal, center


def exif_camera(image_path: str | Path, width: int, height: int) -> Camera | None:
    """The camera by the photo's EXIF, or None if it says too little or nothing that can be.

    First FocalLengthIn35mmFilm, read as the 35 mm equivalent by diagonal (CIPA DCG-001); else FocalLength
    with FocalPlaneXResolution, whose pixels are those of the picture as taken. width, height: the upright
    photo, px, resized or not; a crop (another aspect than EXIF's own size) cannot be trusted and gives None.
    """
    from PIL import Image

    try:
        with Image.open(image_path) as image:
            exif = image.getexif()
            tags = {**dict(exif), **dict(exif.get_ifd(IFD.Exif))}
    except (OSError, ValueError, SyntaxError):
        return None
    focal = _exif_focal(tags, width, height)
    try:
        return None if focal is None else Camera(focal, focal, width / 2, height / 2, width, height, "exif")
    except ValueError:
        return None


def _exif_focal(tags: dict, width: int, height: int) -> float | None:
    taken_width, taken_height = _number(tags, Base.ExifImageWidth), _number(tags, Base.ExifImageHeight)
    if tags.get(Base.Orientation) in SIDEWAYS_ORIENTATIONS:
        width, height = height, width
    if taken_width and taken_height:
        aspects = (
            sorted([taken_width, taken_height])[0] / max(taken_width, taken_height),
            min(width, height) / max(width, height),
        )
        if abs(aspects[0] - aspects[1]) > 0.02:
            return None
    equivalent_mm = _number(tags, Base.FocalLengthIn35mmFilm)
    if equivalent_mm:
        return equivalent_mm / FULL_FRAME_DIAGONAL_MM * math.hypot(width, height)
    focal_mm, per_unit = _number(tags, Base.FocalLength), _number(tags, Base.FocalPlaneXResolution)
    unit_mm = PLANE_UNIT_MM.get(tags.get(Base.FocalPlaneResolutionUnit, 2))
    if not (focal_mm and per_unit and unit_mm and taken_width and taken_height):
        return None
    return focal_mm * per_unit / unit_mm * max(width, height) / max(taken_width, taken_height)


def _number(tags: dict, tag: int) -> float | None:
    """A tag's value if it is a positive finite number (EXIF writes 0 for unknown)."""
    try:
        value = float(tags[tag])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def read_image(path) -> np.ndarray:
    """A photo, by its path or as a file object -> [H, W, 3] uint8 RGB, upright by its EXIF orientation.

    Grey becomes RGB, 16 bits become 8, transparent shows white. ValueError: not readable, with the reason.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path) if isinstance(path, str) else path
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
            if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
                return _grey_to_rgb(np.asarray(image, np.float64))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise ValueError(f"image {path}: expected a file, found none") from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"image {path}: expected a photo (JPEG, PNG, ...), got another kind of file"
        ) from error
    except Exception as error:  # truncated or damaged: Pillow's decoders raise many types
        raise ValueError(f"image {path}: expected a whole photo, cannot be decoded ({error})") from error


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """Grey in a wide type, 0..65535, 0..255 or 0..1 by its greatest value -> [H, W, 3] uint8."""
    top = grey.max(initial=0)
    scale = 255.0 if top <= 1 else 1.0 if top <= 255 else 255 / 65535
    return np.repeat((grey * scale).round().clip(0, 255).astype(np.uint8)[..., None], 3, -1)


def project_points(points_cam, focal_px, center_px):
    """Pinhole projection in torch: points_cam [B, N, 3] m, focal_px and center_px [B, 2] -> [B, N, 2] px.

    Differentiable. Points at or behind the camera (z <= 0) give values without meaning.
    """
    return points_cam[..., :2] / points_cam[..., 2:] * focal_px[:, None] + center_px[:, None]
