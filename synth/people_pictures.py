"""A contact sheet of synthetic people: photo with keypoints (green seen, red hidden) and labels, side by side.

python -m synth.people_pictures --out docs/clothed_people.jpg [--clothes prior|benchmark]
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from priors.clothing import PALETTE
from synth.scenes import OCCLUDER, Recipe, Scene

ACROSS, DOWN = 6, 6
UNKNOWN_RGB, OCCLUDER_RGB = (255, 0, 255), (90, 90, 90)


def tile(scene: Scene) -> np.ndarray:
    """[H, 2 W, 3] uint8."""
    photo = scene.image.copy()
    for x, y, seen in scene.keypoints_px[0]:
        cv2.circle(photo, (round(x), round(y)), 2, (0, 255, 0) if seen else (255, 0, 0), -1)
    known = scene.labels < len(PALETTE)
    labels = np.where(known[..., None], PALETTE[np.where(known, scene.labels, 0)], UNKNOWN_RGB)
    labels = np.where((scene.owner == OCCLUDER)[..., None], OCCLUDER_RGB, labels)
    return np.concatenate([photo, labels.astype(np.uint8)], 1)


def main() -> None:
    """Command line."""
    from synth.dataset import scene_maker

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clothes", choices=("prior", "benchmark"), default="prior")
    options = parser.parse_args()
    poses = {"prior": "learning", "benchmark": "testing"}[options.clothes]
    maker = scene_maker(Recipe(clothes=options.clothes, poses=poses, image_px=(256, 192)))
    tiles = [tile(maker(number)) for number in range(ACROSS * DOWN)]
    rows = [np.concatenate(tiles[row * ACROSS : (row + 1) * ACROSS], 1) for row in range(DOWN)]
    Image.fromarray(np.concatenate(rows)).save(options.out)


if __name__ == "__main__":
    main()
