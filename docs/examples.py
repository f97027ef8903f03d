"""Makes docs/examples.jpg, the README's picture: four people of examples/photos, each with the body over them and from
the side.

    PYTHONPATH=. python docs/examples.py
"""

from pathlib import Path

import cv2
import numpy as np

from fitter import Fitter
from fitter.see.picture import read_image
from fitter.write.overlay import OVER, SKIN_RGB, paint, side_view

ROOT = Path(__file__).parents[1]
CELL_PX, GAP_PX = (360, 270), 10  # height, width of one of a person's three pictures; between people
MARGIN = 0.1  # about a body, of its height
PEOPLE = (("skier.jpg", "0"), *(("flickr_51960182045_edrost88_CC-BY-2.0.jpg", who) for who in "406"))


def crop_of(fit) -> tuple[np.ndarray, float]:
    """Top left corner [2] px of the part of a photo that shows a body, of a cell's shape, and px of the cell a px."""
    at = fit.vertices_cam[:, :2] / fit.vertices_cam[:, 2:] * fit.focal_px + fit.center_px
    low, high = at.min(0), np.minimum(at.max(0), fit.image_size_px)
    scale = min(np.array(CELL_PX[::-1]) / (high - low + 2 * MARGIN * (high - low)[1]))
    size = np.array(CELL_PX[::-1]) / scale
    return np.clip((low + high - size) / 2, 0, fit.image_size_px - size), scale


def row_of(image_rgb: np.ndarray, fit, faces: np.ndarray, color) -> np.ndarray:
    """photo | body over it | from the photo's right, one person's."""
    corner, scale = crop_of(fit)
    matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
    photo = cv2.warpAffine(image_rgb, matrix, CELL_PX[::-1], flags=cv2.INTER_CUBIC)
    colors = np.broadcast_to(color, (1, *fit.vertices_cam.shape))
    lens = fit.focal_px * scale, (fit.center_px - corner) * scale
    body, covered = paint(fit.vertices_cam[None], faces, *lens, CELL_PX, colors)
    over = np.where(covered[..., None], (1 - OVER) * photo + 255 * OVER * body, photo)
    return np.concatenate([photo, over.round().astype(np.uint8), side_view(fit, faces, CELL_PX, color)], 1)


def main() -> None:
    fitter, rows = Fitter(), []
    images = {name: read_image(ROOT / "examples" / "photos" / name) for name, _ in PEOPLE}
    fits = {name: {fit.person: fit for fit in fitter(image)} for name, image in images.items()}
    for at, (name, person) in enumerate(PEOPLE):
        rows.append(row_of(images[name], fits[name][person], fitter.faces, SKIN_RGB[at]))
    gap = np.full((CELL_PX[0], GAP_PX, 3), 255, np.uint8)
    pairs = [np.concatenate([rows[at], gap, rows[at + 1]], 1) for at in (0, 2)]
    picture = np.concatenate([pairs[0], np.full((GAP_PX, pairs[0].shape[1], 3), 255, np.uint8), pairs[1]])
    cv2.imwrite(str(ROOT / "docs" / "examples.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
