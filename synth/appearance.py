"""How synthetic people and their surroundings look: colours and patterns of cloth, light, backgrounds, occluders.

Nothing here is a photo: backgrounds are drawn, unless a folder of photos is given.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from priors.clothing import LABELS

SKIN_RGB = np.array([(96, 64, 48), (141, 98, 72), (190, 142, 112), (224, 180, 150), (241, 205, 180)], float)
HAIR_RGB = np.array([(22, 18, 16), (58, 40, 28), (104, 72, 44), (186, 150, 98), (150, 148, 146)], float)
PATTERNS = ("plain", "stripes", "rings", "checks", "dots", "mottled")
PATTERN_SHARES = (0.55, 0.1, 0.1, 0.1, 0.05, 0.1)
SHADED = 0.55  # how dark the side away from the light is at least
WRINKLES_PER_M, WRINKLE = 55.0, 0.22


@dataclass(frozen=True)
class Cloth:
    """One material: two colours [3] in 0..255, how they alternate, over how many metres, and along which axes."""

    colors: np.ndarray
    pattern: str
    period_m: float
    wrinkled: bool


def draw_cloth(rng: np.random.Generator) -> Cloth:
    """A cloth of any colour; half of them grey, black, white, blue or brown, as clothes are."""
    sober = rng.random() < 0.5
    hue = rng.choice([15, 110, 115]) if sober else rng.integers(180)
    saturation = rng.integers(0, 70) if sober else rng.integers(40, 220)
    hsv = np.array([[[hue, saturation, rng.integers(15, 250)]]], np.uint8)
    first = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(float)
    second = np.clip(first + rng.normal(0, 70, 3), 0, 255)
    return Cloth(
        np.stack([first, second]), str(rng.choice(PATTERNS, p=PATTERN_SHARES)), rng.uniform(0.02, 0.12), True
    )


def draw_tone(tones: np.ndarray, rng: np.random.Generator) -> Cloth:
    """A plain material between two neighbours of a list of colours [N, 3]: skin, hair."""
    at = rng.uniform(0, len(tones) - 1)
    low = min(int(at), len(tones) - 2)
    color = tones[low] + (at - low) * (tones[low + 1] - tones[low])
    color = np.clip(color + rng.normal(0, 5, 3), 0, 255)
    return Cloth(np.stack([color, color]), "plain", 1.0, False)


def is_skin(label: int) -> bool:
    """Whether a label id is bare skin; the trunk's is 0, for which LIP has no name."""
    return LABELS[label] in ("background", "face", "left-arm", "right-arm", "left-leg", "right-leg")


def albedo(cloth: Cloth, rest_m: np.ndarray) -> np.ndarray:
    """Colours [P, 3] of points [P, 3] of a cloth at rest."""
    x, y, z = (rest_m / cloth.period_m).T
    phase = {
        "plain": lambda: np.zeros(len(x)),
        "stripes": lambda: np.floor(x + 0.3 * z) % 2,
        "rings": lambda: np.floor(y) % 2,
        "checks": lambda: (np.floor(x + 0.3 * z) + np.floor(y)) % 2,
        "dots": lambda: ((x + 0.3 * z) % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.08,
        "mottled": lambda: (
            0.5 + 0.5 * np.sin(2.1 * x + np.sin(1.7 * y)) * np.sin(1.3 * y + np.sin(2.3 * z + x))
        ),
    }[cloth.pattern]()
    phase = np.asarray(phase, float)[:, None]
    return cloth.colors[0] + phase * (cloth.colors[1] - cloth.colors[0])


def shading(normals: np.ndarray, rest_m: np.ndarray, wrinkled: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Brightness [P] of points with normals [P, 3] under light from a unit direction [3]; wrinkled: [P] bool."""
    a, b, c = (WRINKLES_PER_M * rest_m).T
    bumps = np.stack(
        [np.sin(a + 2 * np.sin(0.4 * b)), np.sin(0.8 * b + np.sin(0.7 * a)), np.sin(c + 0.5 * b)], 1
    )
    normals = normals + WRINKLE * wrinkled[:, None] * bumps
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return SHADED + (1 - SHADED) * (0.5 + 0.5 * normals @ light)


def draw_background(size: tuple[int, int], rng: np.random.Generator, photos: list[Path]) -> np.ndarray:
    """[H, W, 3] uint8: a crop of one of the photos, else a drawn wall, floor and furniture."""
    height, width = size
    if photos:
        photo = cv2.cvtColor(cv2.imread(str(photos[rng.integers(len(photos))])), cv2.COLOR_BGR2RGB)
        grow = max(height / photo.shape[0], width / photo.shape[1]) * rng.uniform(1.0, 1.5)
        photo = cv2.resize(photo, None, fx=grow, fy=grow)
        y, x = (rng.integers(have - want + 1) for have, want in zip(photo.shape[:2], size, strict=True))
        return photo[y : y + height, x : x + width]
    canvas = np.empty((height, width, 3))
    canvas[:] = draw_paint(rng)
    floor = int(height * rng.uniform(0.55, 0.9))
    canvas[floor:] = draw_paint(rng)
    for _ in range(rng.integers(4, 14)):
        paint_block(canvas, rng)
    for cell in (8, 32, 96):
        coarse = rng.normal(0, 9, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        canvas += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.5, height / 100))
    return np.clip(canvas + rng.normal(0, 3, canvas.shape), 0, 255).astype(np.uint8)


def draw_paint(rng: np.random.Generator) -> np.ndarray:
    """A colour [3] of walls, floors and furniture: any brightness, mostly near grey."""
    return np.clip(rng.uniform(30, 235) + rng.normal(0, 25, 3), 0, 255)


def paint_block(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """A window, door, box or pole somewhere on the canvas [H, W, 3], in place."""
    height, width = canvas.shape[:2]
    size = rng.uniform(0.04, 0.5, 2) * (width, height)
    low = rng.uniform(-0.2, 1.0, 2) * (width, height)
    corners = low + size * [(0, 0), (1, 0), (1, 1), (0, 1)] + rng.normal(0, 0.02 * height, (4, 2))
    cv2.fillConvexPoly(canvas, corners.astype(np.int32), draw_paint(rng).tolist())


def draw_occluder(
    mask: np.ndarray, rng: np.random.Generator, hidden: tuple[float, float] = (0.15, 0.35)
) -> np.ndarray:
    """A box, pole, rail or boulder before a person: bool [H, W] that covers this share (least, most) of mask [H, W].

    The share is met by growing the object where it stands; an empty mask gives an empty object.
    """
    ys, xs = np.nonzero(mask)
    shape = np.zeros(mask.shape, np.uint8)
    if not len(ys):
        return shape > 0
    height, width = np.ptp(ys) + 1, np.ptp(xs) + 1
    pick = rng.integers(len(ys))
    middle = np.array([xs[pick], ys[pick]], float)
    aspect = np.array([(1.0, 1.0), (0.12, 6.0), (6.0, 0.12), (1.0, 0.7)][kind := int(rng.integers(4))])
    tilt, goal = rng.normal(0, 12), rng.uniform(*hidden)
    for grown in np.geomspace(0.05, 8, 80):
        shape[:] = 0
        half = np.maximum(grown * aspect * 0.5 * np.sqrt(height * width), 1)
        if kind == 3:
            cv2.ellipse(shape, (tuple(middle), tuple(2 * half), tilt), 1, -1)
        else:
            cv2.fillConvexPoly(
                shape, cv2.boxPoints((tuple(middle), tuple(2 * half), tilt)).astype(np.int32), 1
            )
        if (shape[mask > 0] > 0).mean() >= goal:
            break
    return shape > 0
