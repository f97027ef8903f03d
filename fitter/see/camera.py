"""The camera of a photo, one full-image pinhole for all people in it: the user's, EXIF's, or a guess.

Camera frame as OpenCV's: x right, y down, z forward, metres. Pixels: origin at the top left corner of the
top left pixel, so the image's middle is (width / 2, height / 2).
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL.ExifTags import Base

from fitter.see.picture import SIDEWAYS, read_exif

FULL_FRAME_DIAGONAL_MM = math.hypot(36, 24)
MEASURED_SPREAD_DEG = 0.5  # of a pitch or roll that is given
MOST_ASPECT = 2.0  # of fx and fy: squeezed video has 1.1 to 1.5
MIN_FOCAL_FRACTION = (
    0.2  # of the longer side in px: a field of view of 136 degrees; less is taken for millimetres
)
NORMALISED_BELOW = (
    10.0  # px: no photo of a person is that small, and the shortest lens in millimetres is longer
)
PLANE_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # EXIF: inch, cm; seen besides: mm, micrometre


@dataclass(frozen=True)
class Camera:
    """Pinhole camera of a photo of width x height px; all lengths in px.

    source: 'user' | 'exif' | 'default', where the focal length comes from. pitch_deg, positive looking down, and
    roll_deg, positive where the horizon falls to the picture's right: against gravity, None where not known.
    distortion: OpenCV's coefficients (k1, k2, p1, p2, k3, ...), empty for a lens without; notes: what was changed or
    left out on the way to this camera, in words.
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
    distortion: tuple[float, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

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
        ratio = self.fx_px / self.fy_px
        if not 1 / MOST_ASPECT <= ratio <= MOST_ASPECT:
            raise ValueError(
                f"camera: expected fx and fy of about the same size (pixels are about square), got {self.fx_px:g} and "
                f"{self.fy_px:g}; one of them has a digit too many, or is of another image"
            )
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
        if focal_px < NORMALISED_BELOW:
            raise ValueError(
                f"focal_px: expected pixels, got {focal_px:g} for an image of {width} x {height}, which looks "
                f"normalised; multiply it by the length that it was divided by: by the width it is "
                f"{focal_px * width:.0f}, by the height {focal_px * height:.0f}."
            )
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


def exif_camera(image_path: str | Path, width: int, height: int) -> Camera | None:
    """The camera by the photo's EXIF, or None if it says too little or nothing that can be.

    First FocalLengthIn35mmFilm, read as the 35 mm equivalent by diagonal (CIPA DCG-001); else FocalLength
    with FocalPlaneXResolution, whose pixels are those of the picture as taken. width, height: the upright
    photo, px, resized or not; a crop (another aspect than EXIF's own size) cannot be trusted and gives None.
    """
    return camera_of_tags(read_exif(image_path)[0], width, height)[0]


def camera_of_tags(tags: dict, width: int, height: int) -> tuple[Camera | None, tuple[str, ...]]:
    """`exif_camera` of tags that were read, and in words which of them were left out."""
    wanted = (Base.ExifImageWidth, Base.ExifImageHeight, Base.FocalLengthIn35mmFilm, Base.FocalLength,
              Base.FocalPlaneXResolution)  # fmt: skip
    notes = [f"EXIF: {tag.name} is {str(tags[tag])[:40]}, left out" for tag in wanted if _is_odd(tags, tag)]
    focal = _exif_focal(tags, width, height)
    try:
        camera = focal and Camera(focal, focal, width / 2, height / 2, width, height, "exif")
    except ValueError:
        camera, notes = None, [*notes, f"EXIF: a focal length of {focal:.4g} px cannot be, left out"]
    return camera or None, tuple(notes)


def _exif_focal(tags: dict, width: int, height: int) -> float | None:
    taken_width, taken_height = _number(tags, Base.ExifImageWidth), _number(tags, Base.ExifImageHeight)
    if tags.get(Base.Orientation) in SIDEWAYS:
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
    unit_mm = PLANE_UNIT_MM.get(_number(tags, Base.FocalPlaneResolutionUnit) or 2)
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


def _is_odd(tags: dict, tag: int) -> bool:
    """Whether a tag is there and says what cannot be, other than EXIF's 0 for unknown."""
    return tag in tags and _number(tags, tag) is None and getattr(tags[tag], "numerator", tags[tag]) != 0


def project_points(points_cam, focal_px, center_px):
    """Pinhole projection in torch: points_cam [B, N, 3] m, focal_px and center_px [B, 2] -> [B, N, 2] px.

    Differentiable. Points at or behind the camera (z <= 0) give values without meaning.
    """
    return points_cam[..., :2] / points_cam[..., 2:] * focal_px[:, None] + center_px[:, None]
