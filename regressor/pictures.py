"""Pictures of what the regressor learns from, and of what it answers."""

import cv2
import numpy as np
import torch

from fitter.energy.losses import CROP_PX
from fitter.label.label_files import UNKNOWN
from fitter.see.keypoints import BODY_25
from fitter.see.picture import read_image
from fitter.write.overlay import paint
from priors.clothing import LABELS, PALETTE
from regressor.config import Augmentation
from regressor.data import Change, People, cropped_labels, draw_change, load_sample
from regressor.hmr import FOCAL_CROP_PX, HMR, SHOWN, hints_of, to_input
from regressor.losses import Criterion

COLORS = {"L": (255, 40, 40), "R": (60, 90, 255), "": (0, 220, 0)}
PICTURED = 8  # people of a validation, spread evenly over it


def contact_sheet(people: People, seed: int = 0) -> np.ndarray:
    """[4 * 224, 8 * 224, 3]: 16 samples as training sees them, each beside its labels; keypoints of the body's left are
    red, of its right blue."""
    rng = np.random.default_rng(seed)
    tiles = []
    for number in range(16):
        row = int(rng.integers(len(people)))
        change = Change() if number < 4 else draw_change(Augmentation(), rng)
        sample = load_sample(people, row, change)
        image = (255 * sample["image"]).astype(np.uint8)
        beside = np.zeros_like(image)
        if people.labels[row] is not None:
            ids = cropped_labels(people, row, change, read_image(people.images[row]).shape[:2])
            colors = np.zeros((256, 3), np.uint8)
            colors[: len(LABELS)], colors[UNKNOWN] = PALETTE, 255
            beside = colors[ids]
        for picture in (image, beside):
            for name, (x, y, confidence) in zip(BODY_25, sample["keypoints_px"], strict=True):
                if confidence > 0:
                    color = COLORS.get(name[0] if name[1].isupper() else "", COLORS[""])
                    cv2.circle(picture, (round(float(x)), round(float(y))), 3, color, -1, cv2.LINE_AA)
        tiles.append(np.concatenate([image, beside], 1))
    return np.concatenate([np.concatenate(tiles[4 * r : 4 * r + 4], 1) for r in range(4)])


@torch.no_grad()
def predicted_sheet(net: HMR, people: People, criterion: Criterion, device: str) -> np.ndarray:
    """[2 * 224, 8 * 224, 3]: eight people's crops, and below them the predicted bodies over the crops."""
    net.eval()
    rows = np.unique(np.linspace(0, len(people) - 1, PICTURED).round().astype(int))
    samples = [load_sample(people, row, Change()) for row in rows]
    shown = {k: torch.from_numpy(np.stack([s[k] for s in samples])).to(device) for k in SHOWN}
    bodies = criterion.bodies(net(to_input(shown["image"]), hints_of(shown)))
    faces = criterion.body.faces.cpu().numpy()
    focal, center = np.full(2, FOCAL_CROP_PX), np.full(2, CROP_PX / 2)
    columns = []
    for crop, vertices in zip(shown["image"].cpu().numpy(), bodies.vertices_cam.cpu().numpy(), strict=True):
        body, covered = paint(vertices[None], faces, focal, center, (CROP_PX, CROP_PX))
        columns.append(np.concatenate([crop, np.where(covered[..., None], 0.2 * crop + 0.8 * body, crop)]))
    return (255 * np.concatenate(columns, 1)).round().astype(np.uint8)
