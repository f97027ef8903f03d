"""Pictures of the clothing prior and of the dressed figures that it was learned from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from priors.clothing import LABELS, MC_LABELS, PALETTE
from synth.clothes.figures import Template
from synth.clothing_prior.views import IMAGE_PX, render_ids

WHITE = 255
MAPS = {  # title -> labels whose probabilities are added
    "upper-clothes, coat, dress": (5, 6, 7, 10),
    "pants, skirt": (9, 12),
    "face, arms, shoes (MC)": MC_LABELS,
    "legs": (16, 17),
    "hair": (2,),
}
FRONT_AND_BACK = np.stack([np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, -1.0, 1.0])])


def _text(image: np.ndarray, text: str, at: tuple[int, int], scale: float = 0.5) -> np.ndarray:
    import cv2

    return cv2.putText(
        np.ascontiguousarray(image), text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA
    )


def _views(template: Template, colours: np.ndarray) -> np.ndarray:
    """Front and back side by side, a colour per vertex, plain shading. colours: [V, 3] -> [H, 2W, 3]."""
    from fitter.raster.rasterizer import make_rasterizer

    vertices = template.vertices_m - (template.vertices_m.min(0) + template.vertices_m.max(0)) / 2
    seen = render_ids(make_rasterizer("cpu"), vertices, template.faces, FRONT_AND_BACK)
    corners = vertices[template.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    shade = 0.55 + 0.45 * np.abs(normals[:, 2])
    images = np.full((2, *IMAGE_PX, 3), float(WHITE))
    inside = seen[..., 2] > 0
    face = seen[inside][:, 2].astype(int) - 1
    weights = np.stack(
        [seen[inside][:, 0], seen[inside][:, 1], 1 - seen[inside][:, 0] - seen[inside][:, 1]], 1
    )
    colour = np.einsum("pk,pkc->pc", weights, colours[template.faces[face]].astype(float))
    images[inside] = colour * shade[face][:, None]
    return np.concatenate(list(images), 1).clip(0, 255).astype(np.uint8)


def write_prior(path: Path, prob: np.ndarray, template: Template) -> None:
    """The most likely label per vertex (but background), front and back, and maps of added probabilities."""
    import cv2
    from matplotlib import colormaps

    best = 1 + prob[:, 1:].argmax(1)
    first = _text(_views(template, PALETTE[best]), "most likely label (left: front, right: back)", (10, 24))
    for row, label in enumerate(sorted(set(best.tolist()))):
        first[320 + 26 * row : 340 + 26 * row, 10:40] = PALETTE[label]
        first = _text(first, LABELS[label], (48, 336 + 26 * row))
    tiles = [first]
    for title, labels in MAPS.items():
        heat = 255 * colormaps["viridis"](prob[:, list(labels)].sum(1))[:, :3]
        tiles.append(_text(_views(template, heat), f"P({title})", (10, 24)))
    tiles[1][320:340, 10:138] = 255 * colormaps["viridis"](np.linspace(0, 1, 128))[:, :3]
    tiles[1] = _text(_text(tiles[1], "0", (10, 358)), "1", (130, 358))
    sheet = np.concatenate([np.concatenate(tiles[k : k + 2], 1) for k in range(0, len(tiles), 2)])
    sheet = cv2.resize(sheet, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), sheet[..., ::-1])


def write_figures(
    path: Path, seen: Sequence[tuple[str, np.ndarray]], columns: int = 6, most: int = 48
) -> None:
    """Label maps of dressed figures, (name, ids [views, H, W]) each: `most` of them, evenly picked."""
    import cv2

    colours = PALETTE.copy()
    colours[0] = 235
    tiles = []
    for k in np.linspace(0, len(seen) - 1, min(most, len(seen))).astype(int):
        name, images = seen[k]
        tile = np.concatenate([colours[image[::2, 80:432:2]] for image in images], 1)
        for line, start in enumerate(range(0, len(name), 75)):
            tile = _text(tile, name[start : start + 75], (4, 12 + 12 * line), 0.36)
        tiles.append(tile)
    tiles += [np.full_like(tiles[0], WHITE)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[k : k + columns], 1) for k in range(0, len(tiles), columns)]
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])
