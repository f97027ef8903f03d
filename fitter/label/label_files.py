"""Label maps as files: images of the 20 labels' ids, or of the LIP palette's colours.

A label map is [H, W] uint8 of the ids of `priors.clothing.LABELS`; 255 (UNKNOWN) is a pixel that nothing is
said about, white in the palette.
"""

from pathlib import Path

import cv2
import numpy as np

from priors.clothing import LABELS, MIRROR_LABELS, PALETTE

UNKNOWN = 255
UNKNOWN_RGB = (255, 255, 255)


def mirrored_ids(ids: np.ndarray) -> np.ndarray:
    """The mirror image of a label map [H, W], left and right labels exchanged; ids beyond the 20 stay."""
    table = np.arange(256, dtype=np.uint8)
    table[: len(MIRROR_LABELS)] = MIRROR_LABELS
    return np.ascontiguousarray(table[ids[:, ::-1]])


def read_labels(path: str | Path) -> np.ndarray:
    """[H, W] uint8 of ids 0..19 or UNKNOWN (255) from an image of ids, or of the LIP palette's colours.

    Greyscale values are ids. RGB(A) pixels are colours (alpha is not looked at), ids where all three are
    equal. An indexed image has colours where its colour table, up to the highest index used, holds the LIP
    palette's only, else its indices are ids: many tools save ids under another colour table. ValueError:
    anything else.
    """
    from PIL import Image, UnidentifiedImageError

    expected = "expected ids 0-19 or the LIP palette"
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image)
            table = image.getpalette("RGB") if mode == "P" else None
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"labels {path}: {expected} in a PNG, got no readable image ({error})") from error
    if mode == "P":
        colors = np.array(table, np.uint8).reshape(-1, 3)
        used = int(pixels[pixels != UNKNOWN].max(initial=0))
        if used < len(colors) and (_ids_of_colors(colors[: used + 1]) >= 0).all():
            lookup = np.full(256, UNKNOWN)
            known = _ids_of_colors(colors)
            lookup[: len(known)] = np.where(known >= 0, known, UNKNOWN)
            return lookup[pixels].astype(np.uint8)
    elif mode in ("RGB", "RGBA"):
        colors = pixels[..., :3]
        if (colors != colors[..., :1]).any():
            return _by_palette(colors, f"labels {path}: {expected}")
        pixels = colors[..., 0]
    elif mode not in ("L", "I;16", "I", "1"):
        raise ValueError(f"labels {path}: {expected} in a greyscale, indexed or RGB image, got mode {mode}")
    wrong = pixels[(pixels >= len(LABELS)) & (pixels != UNKNOWN)]
    if wrong.size:
        got = f"id {int(wrong[0])}" if mode != "P" else f"index {int(wrong[0])} with another colour table"
        raise ValueError(f"labels {path}: {expected}, got {got}")
    return pixels.astype(np.uint8)


def read_mask(path: str | Path) -> np.ndarray:
    """[H, W] uint8 from an image: 1 where a channel other than alpha (or the index) is not 0. ValueError: no image."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            alpha = image.mode in ("LA", "RGBA")
            pixels = np.asarray(image)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"mask {path}: expected a PNG, got no readable image ({error})") from error
    channels = pixels.reshape(*pixels.shape[:2], -1)
    return (channels[..., :-1] if alpha else channels).any(-1).astype(np.uint8)


def to_photo_size(ids: np.ndarray, size: tuple[int, int], name: str | Path = "") -> np.ndarray:
    """A label map at the photo's size (height, width): nearest neighbour if it is a scaled copy, up to
    rounding of 1 px. ValueError: another shape."""
    if ids.shape == tuple(size):
        return ids
    (h, w), (height, width) = ids.shape, size
    # some scale must explain both sides within 1 px of the smaller of the two images
    small, large = ((h, w), (height, width)) if h * w < height * width else ((height, width), (h, w))
    low = max((s - 1) / big for s, big in zip(small, large, strict=True))
    high = min((s + 1) / big for s, big in zip(small, large, strict=True))
    if low > high:
        raise ValueError(
            f"labels {name}: expected the photo's size {width} x {height} px, or that scaled, got {w} x {h}"
        )
    return cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def write_labels(path: str | Path, ids: np.ndarray) -> None:
    """ids [H, W] of 0..19 and UNKNOWN as an indexed PNG in the LIP palette."""
    from PIL import Image

    colors = np.zeros((256, 3), np.uint8)
    colors[: len(PALETTE)] = PALETTE
    colors[UNKNOWN] = UNKNOWN_RGB
    image = Image.fromarray(np.ascontiguousarray(ids, np.uint8))
    image.putpalette(colors.tobytes())
    image.save(path, optimize=True)


def _ids_of_colors(colors: np.ndarray) -> np.ndarray:
    """[..., 3] uint8 -> [...] int: id of the LIP palette, UNKNOWN for white, -1 for any other colour."""
    table = {tuple(color): label for label, color in enumerate(PALETTE.tolist())} | {UNKNOWN_RGB: UNKNOWN}
    unique, inverse = np.unique(_packed(colors), return_inverse=True)
    known = [table.get((code >> 16, code >> 8 & 255, code & 255), -1) for code in unique.tolist()]
    return np.array(known)[inverse].reshape(colors.shape[:-1])


def _by_palette(colors: np.ndarray, expected: str) -> np.ndarray:
    ids = _ids_of_colors(colors)
    if (ids < 0).any():
        raise ValueError(f"{expected}, got colour {tuple(colors[ids < 0][0].tolist())}")
    return ids.astype(np.uint8)


def _packed(colors: np.ndarray) -> np.ndarray:
    return colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
