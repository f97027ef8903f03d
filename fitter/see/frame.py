"""The picture in which the people of a photo are fitted: with fewer pixels if it is very large, and straight where its
lens bent lines, for bodies are projected by a pinhole."""

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from fitter.see.camera import Camera
from fitter.see.keypoints import Person
from fitter.see.person_box import keypoint_box
from fitter.see.picture import Picture
from fitter.write.result import Fit

UNDONE_PX = 1.0  # how far from its place a pixel may end if distortion is undone and done again
ROUNDS = 100  # of undoing the distortion: each takes off what is still wrong
UNDONE_SHARE = 0.5  # of a photo's pixels: with fewer, the coefficients are of another lens or model
BEYOND_LABELS, BEYOND_MASK = 255, 1  # what is beyond the photo's edge: nothing is known there
STRAIGHTENED = (
    "lens distortion undone: pixels of its results and overlay are the undistorted photo's (cv2.undistort)"
)


@dataclass(frozen=True)
class Frame:
    """How the fitted picture lies in the photo. photo: the photo's own camera, with distortion; reduced: how many px of
    the photo a side of the picture's pixels is; size: width, height of the picture, px.

    ValueError: a distortion that cannot be undone in most of the photo.
    """

    photo: Camera
    reduced: int
    size: tuple[int, int]

    def __post_init__(self):
        if self.photo.distortion:
            x, y = (np.linspace(0, side, 9) for side in self.size)
            share = self._undistorted(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))[1].mean()
            if share < UNDONE_SHARE:
                raise ValueError(
                    f"camera: expected OpenCV's distortion coefficients of this lens, got {self.photo.distortion}, "
                    f"which bend {1 - share:.0%} of the photo beyond what can be undone"
                )

    @cached_property
    def camera(self) -> Camera:
        """The picture's pinhole camera."""
        notes = (*self.photo.notes, *self.notes)
        width, height = self.size
        scaled = self.photo.scaled(1 / self.reduced)
        return replace(scaled, width=width, height=height, distortion=(), notes=notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """In words, how the picture differs from the photo."""
        smaller = (
            f"photo of {self.photo.width} x {self.photo.height} px fitted at 1/{self.reduced} of its sides"
        )
        return (smaller,) * (self.reduced > 1) + (STRAIGHTENED,) * bool(self.photo.distortion)

    def straight(self, image: np.ndarray, beyond: int = 0, nearest: bool = False) -> np.ndarray:
        """Pixels [H, W, ...] of the picture as the lens gave it -> undistorted; beyond: what stands where it saw
        nothing; nearest: for labels, which have no means."""
        if not self.photo.distortion:
            return image
        how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        return cv2.remap(image, *self._maps(), how, borderMode=cv2.BORDER_CONSTANT, borderValue=[beyond] * 4)

    @property
    def is_photo(self) -> bool:
        """Whether the picture is the photo itself."""
        return self.reduced == 1 and not self.photo.distortion

    def box(self, box_px: np.ndarray) -> np.ndarray:
        """x0, y0, x1, y1 px in the photo -> of what is in it, in the picture."""
        if self.is_photo:
            return box_px
        x0, y0, x1, y1 = np.asarray(box_px) / self.reduced
        if self.photo.distortion:
            along = np.linspace(0, 1, 9)
            grid = np.stack(np.meshgrid(x0 + along * (x1 - x0), y0 + along * (y1 - y0)), -1).reshape(-1, 2)
            points, whole = self._undistorted(grid)
            if whole.any():
                (x0, y0), (x1, y1) = points[whole].min(0), points[whole].max(0)
        return np.array([x0, y0, x1, y1])

    def people(self, people: list[Person]) -> list[Person]:
        """People of the photo, in px of the picture. Keypoints where the distortion cannot be undone are missing."""
        if self.is_photo:
            return people
        return [moved for moved in map(self._person, people) if moved is not None]

    def _person(self, person: Person) -> Person | None:
        points = person.keypoints_px / [self.reduced, self.reduced, 1]
        if self.photo.distortion:
            points[:, :2], whole = self._undistorted(points[:, :2])
            points[~whole | (points[:, 2] <= 0)] = 0
        if not points[:, 2].any():
            return None
        return replace(person, keypoints_px=points, box_px=keypoint_box(points))

    def to_photo(self, fit: Fit) -> Fit:
        """A fit in the picture, in px of the photo (undistorted)."""
        size = np.array([self.photo.width, self.photo.height])
        return replace(_times(fit, self.reduced), image_size_px=size, distortion=self.photo.distortion)

    def from_photo(self, fit: Fit) -> Fit:
        """A fit in px of the photo (undistorted), in the picture."""
        return replace(_times(fit, 1 / self.reduced), image_size_px=np.array(self.size))

    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        """cv2.remap's: whence each pixel comes. OpenCV counts from the first pixel's middle, we from its corner."""
        matrix = self._matrix - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
        bent = np.array(self.photo.distortion)
        return cv2.initUndistortRectifyMap(matrix, bent, None, matrix, self.size, cv2.CV_32FC1)

    @property
    def _matrix(self) -> np.ndarray:
        fx, fy, cx, cy = (value / self.reduced for value in (*self.photo.focal_px, *self.photo.center_px))
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    def _undistorted(self, points_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, 2] px of the picture -> undistorted, and whether each comes back where it was."""
        matrix, bent = self._matrix, np.array(self.photo.distortion)
        focal, center = matrix[[0, 1], [0, 1]], matrix[:2, 2]
        rays = (points_px - center) / focal
        off = np.zeros_like(rays)
        with np.errstate(all="ignore"):  # where nothing leads back they run away
            for _ in range(ROUNDS):
                rays = rays + off
                seen = np.column_stack([rays, np.ones(len(rays))])[:, None]
                again = cv2.projectPoints(seen, np.zeros(3), np.zeros(3), matrix, bent)[0][:, 0]
                off = (points_px - again) / focal
            whole = np.abs(points_px - again).max(1) < UNDONE_PX  # not so for NaN
        return rays * focal + center, whole


def frame_of(picture: Picture, photo: Camera) -> Frame:
    """How a decoded picture lies in its photo, whose camera this is."""
    return Frame(photo, picture.reduced, picture.image_rgb.shape[1::-1])


def _times(fit: Fit, factor: float) -> Fit:
    """A fit's px multiplied."""
    if factor == 1:
        return fit
    lengths = ("focal_px", "center_px", "box_px", "keypoints_px")
    observed = fit.observed_px * [factor, factor, 1]
    return replace(fit, observed_px=observed, **{name: getattr(fit, name) * factor for name in lengths})
