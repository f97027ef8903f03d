"""A lens as a camera file says it, brought to a photo: scaled, turned, or refused as another image's."""

import math
from dataclasses import dataclass, replace

from fitter.see.picture import SIDEWAYS

SAME_ASPECT = 0.01  # sides of a scaled photo are rounded
ALIKE = 0.08  # how nearly a principal point lies where another image's would, as a share
ALIKE_OUTSIDE = 0.25  # the same where it lies outside of the photo, and is another's anyway
OTHER_SIZE = 0.2  # share of the size from which another size is likelier than an odd lens


@dataclass(frozen=True)
class Lens:
    """What a camera file says: focal and centre (None: the middle) [2] px, OpenCV's coefficients, and the size (width,
    height) px of the images that these are of, None where it is not said."""

    focal: tuple[float, float]
    center: tuple[float, float] | None = None
    distortion: tuple[float, ...] = ()
    size: tuple[int, int] | None = None

    def turned(self, orientation: int) -> "Lens":
        """That of the images of `size` turned upright by their EXIF orientation, 6 or 8. ValueError: a tilted sensor or
        a thin prism in the distortion."""
        (fx, fy), (width, height) = self.focal, self.size
        cx, cy = self.center or (width / 2, height / 2)
        center = (height - cy, cx) if orientation == 6 else (cy, width - cx)
        distortion = list(self.distortion)
        if any(distortion[8:]):
            raise ValueError(
                "expected the camera of the upright photo, got a distortion that is not turned here"
            )
        if distortion:  # (p2, p1) is a vector in the image, and turns with it
            sign = 1 if orientation == 6 else -1
            distortion[2], distortion[3] = sign * distortion[3], -sign * distortion[2]
        return Lens((fy, fx), center, tuple(distortion), (height, width))

    def scaled(self, factor: float) -> "Lens":
        """That of the images resized by `factor`; the middle stays the middle."""
        focal, center = (
            pair and tuple(factor * value for value in pair) for pair in (self.focal, self.center)
        )
        return replace(self, focal=focal, center=center)


def of_photo(lens: Lens, width: int, height: int, orientation: int) -> tuple[Lens, tuple[str, ...]]:
    """A file's lens in px of a photo of width x height, and in words what was changed for that.

    ValueError: it cannot be this photo's, with the likeliest cause.
    """
    if lens.size is None:
        _refuse_foreign_center(lens.center, width, height, orientation)
        return lens, ()
    if min(lens.size) < 1:
        raise ValueError(f"expected a size of images in px, got {lens.size[0]} x {lens.size[1]}")
    said, notes = f"{lens.size[0]} x {lens.size[1]}", []
    if not _same_aspect(lens.size, (width, height)):
        if orientation not in (6, 8) or not _same_aspect(lens.size[::-1], (width, height)):
            raise ValueError(
                f"expected the camera of images of {width} x {height} px, as the photo is seen upright, or of that "
                f"scaled, got one of {said}"
                + ("; turn it as the photo was turned" * _same_aspect(lens.size[::-1], (width, height)))
            )
        lens = lens.turned(orientation)
        notes.append(f"camera of {said} images turned upright as the photo is by its EXIF")
    factor = math.sqrt(width * height / (lens.size[0] * lens.size[1]))
    if lens.size[0] == width or lens.size[1] == height:
        factor = 1.0  # some columns or rows were cut off: video's sides are multiples of 2, 8 or 16
    if abs(max(lens.size) * factor - max(lens.size)) > 0.5:
        lens = lens.scaled(factor)
        notes.append(f"camera of {said} images scaled by {factor:.4g} to the photo's {width} x {height}")
    return lens, tuple(notes)


def _same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) < SAME_ASPECT


def _refuse_foreign_center(center, width: int, height: int, orientation: int) -> None:
    """ValueError for a principal point [2] px that lies where that of another image would, or outside of the photo."""
    if center is None or not all(map(math.isfinite, center)):
        return  # the latter `Camera` refuses
    cx, cy = center
    got = f"principal point: expected px within the photo of {width} x {height}, got ({cx:g}, {cy:g})"
    give = "or write width and height of the images that it is of beside it"
    if max(abs(cx), abs(cy)) <= 1.5 and min(width, height) > 6:
        raise ValueError(
            f"{got}, which looks normalised; multiply it by the photo's sides (from -1..1: of its middle "
            f"({width / 2:g}, {height / 2:g}))"
        )
    ratio = cx / (width / 2), cy / (height / 2)
    turned = cx / (height / 2), cy / (width / 2)
    if _near(*ratio, ALIKE) and abs(math.sqrt(abs(ratio[0] * ratio[1])) - 1) <= OTHER_SIZE:
        return
    if width != height and all(abs(one - 1) < ALIKE for one in turned):
        because = "by its EXIF " if orientation in SIDEWAYS else ""
        raise ValueError(
            f"{got}, which looks like a camera of the photo before it was turned upright {because}"
            f"({height} x {width}); give that of the upright photo, {give}"
        )
    inside = 0 <= cx <= width and 0 <= cy <= height
    if _near(*ratio, ALIKE if inside else ALIKE_OUTSIDE):
        factor = math.sqrt(ratio[0] * ratio[1])
        raise ValueError(
            f"{got}, which looks like a camera of images {factor:.3g} times as large; divide focal length and "
            f"principal point by that, {give}"
        )
    if not inside:
        raise ValueError(f"{got}: the camera of other images, or of those that these were cut from; {give}")


def _near(one: float, other: float, alike: float) -> bool:
    """Whether two ratios are positive and the same up to a share `alike`."""
    return min(one, other) > 0 and abs(one / other - 1) < alike
