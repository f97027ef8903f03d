"""Crops of a photo that networks look at, by affine maps between their pixels and the photo's."""

import cv2
import numpy as np

from fitter.see.person_box import overlap

CROP = 256  # px, side of a crop
STRIDE = 32  # a letterboxed photo's sides are multiples of this


def letterbox(levels: list[np.ndarray], size: int, square: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The photo with its longer side at `size`, zeros to the right and below up to multiples of STRIDE, or up to a
    square; and the factors [2] by which x and y were scaled. levels: of `pyramid`."""
    height, width = levels[0].shape[:2]
    level = [one for one in levels if max(one.shape[:2]) >= min(size, max(height, width))][-1]
    factor = size / max(height, width)
    new = [max(1, round(width * factor)), max(1, round(height * factor))]
    sides = (size, size) if square else [-(-edge // STRIDE) * STRIDE for edge in new[::-1]]
    padded = np.zeros((*sides, 3), np.uint8)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    padded[: new[1], : new[0]] = cv2.resize(level, new, interpolation=how)
    return padded, np.array(new) / [width, height]


def pyramid(image_rgb: np.ndarray) -> list[np.ndarray]:
    """The photo, and halved again and again by averaging: a crop is cut from the level near its own scale."""
    levels = [image_rgb]
    while min(levels[-1].shape[:2]) >= 2 * CROP:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    return levels


def cut(levels: list[np.ndarray], to_photo: np.ndarray, size: tuple[int, int] = (CROP, CROP)) -> np.ndarray:
    """The crop [h, w, 3] whose pixels `to_photo` [2, 3] maps to the photo; black outside the photo.

    size: (h, w). levels: of `pyramid`."""
    scale = np.sqrt(abs(np.linalg.det(to_photo[:, :2])))
    level = levels[int(np.clip(np.log2(max(scale, 1e-9)), 0, len(levels) - 1))]
    shrink = np.array(level.shape[1::-1]) / levels[0].shape[1::-1]
    to_level = between_pixels(to_photo * shrink[:, None])
    return cv2.warpAffine(level, to_level, size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def cut_alone(
    levels: list[np.ndarray], to_photo: np.ndarray, own: np.ndarray, others: list[np.ndarray]
) -> np.ndarray:
    """As `cut`, for networks that look for one person: black outside the person's box `own` [4], if the box of anybody
    else reaches into the crop."""
    crop = cut(levels, to_photo)
    corners = apply_affine(to_photo, CROP * np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]))
    extent = np.concatenate([corners.min(0), corners.max(0)])
    if not any(overlap(extent, other) > 0 for other in others):
        return crop
    edges = own[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
    inside = np.zeros(crop.shape[:2], np.uint8)
    to_crop = cv2.invertAffineTransform(to_photo)
    cv2.fillConvexPoly(inside, np.round(apply_affine(to_crop, edges)).astype(np.int32), 1)
    return crop * inside[..., None]


def crop_to_photo(centre: np.ndarray, half: float, angle: float, side: int = CROP) -> np.ndarray:
    """[2, 3]: crop px (0..side) -> photo px, of the square about `centre`, turned by `angle` rad."""
    linear = rotation(angle) * (2 * half / side)
    return np.column_stack([linear, centre - linear @ [side / 2, side / 2]])


def between_pixels(affine: np.ndarray) -> np.ndarray:
    """The same map [2, 3] between pixel indices, which is what OpenCV takes: pixel i lies at i + 0.5."""
    return np.column_stack([affine[:, :2], affine[:, 2] + affine[:, :2] @ [0.5, 0.5] - 0.5])


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ affine[:, :2].T + affine[:, 2]


def rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
