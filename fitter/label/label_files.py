"""Label maps as files: images of ids, or of the LIP palette's colours, or arrays of ids; and whose they are.

A label map is [H, W] uint8 of the ids of `priors.clothing.LABELS`; 255 (UNKNOWN) is a pixel that nothing is
said about, white in the palette. A file's ids may be in another order: `fitter/label/label_classes.py`.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fitter.label.label_classes import ORDERS, UNKNOWN, read_classes, table_of
from fitter.see.photo_files import files_of_photos
from fitter.see.photos import Photo
from priors.clothing import MIRROR_LABELS, PALETTE

UNKNOWN_RGB = (255, 255, 255)
SUFFIXES = (".png", ".npy", ".bmp", ".tif", ".tiff")  # of maps and masks, the likeliest first
LOSSY = (".jpg", ".jpeg", ".webp")
ADDED = (
    "_gray",
    "_seg",
    "",
)  # to the photo's name, by tools that write pictures of the labels beside their ids
PALETTE_ORDERS = ("lip", "cihp")


def mirrored_ids(ids: np.ndarray) -> np.ndarray:
    """The mirror image of a label map [H, W], left and right labels exchanged; ids beyond the 20 stay."""
    table = np.arange(256, dtype=np.uint8)
    table[: len(MIRROR_LABELS)] = MIRROR_LABELS
    return np.ascontiguousarray(table[ids[:, ::-1]])


def read_labels(path: str | Path, classes: str = "lip") -> np.ndarray:
    """[H, W] uint8 of ids 0..19 or UNKNOWN (255) from a file of `read_ids`. classes: the order of its ids, of
    `label_classes.read_classes`."""
    return table_of(read_classes(classes)).astype(np.uint8)[read_ids(path, classes)]


def read_ids(path: str | Path | np.ndarray, classes: str = "lip") -> np.ndarray:
    """[H, W] uint8 of ids as they are in a file, or UNKNOWN, from an image or an array [H, W] of ids, in .npy or given.

    Greyscale values are ids. RGB(A) pixels are colours of the LIP palette (alpha is not looked at), ids where all three
    are equal. An indexed image has colours where its colour table, up to the highest index used, holds the LIP
    palette's only, else its indices are ids: many tools save ids under another colour table. ValueError: anything else,
    and an id that the order does not have.
    """
    order = read_classes(classes)
    colours = classes in PALETTE_ORDERS
    ids = f"ids 0-{len(order) - 1}" + (f" of {classes}" if classes != "lip" else "")
    expected = f"labels {called(path)}: expected {ids}" + (" or the LIP palette" if colours else "")
    mode, pixels, table = _picture(path, expected)
    if mode == "P" and colours:
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
            return _by_palette(colors, expected, colours)
        pixels = colors[..., 0]
    elif mode not in ("P", "L", "I;16", "I", "1"):
        raise ValueError(f"{expected} in a greyscale, indexed or RGB image, got mode {mode}")
    pixels = pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels
    present = np.unique(pixels)
    wrong = present[(present < 0) | (present > UNKNOWN)]
    if not wrong.size:
        wrong = present[table_of(order)[present] < 0]
    if wrong.size:
        others = _orders_with(present)
        got = f"id {int(wrong[0])}" if mode != "P" else f"index {int(wrong[0])} with another colour table"
        remedy = (
            f"; --label-classes {' or '.join(others)}?"
            if others
            else "; --label-classes FILE says what they are"
        )
        raise ValueError(f"{expected}, got {got}{remedy}")
    return pixels.astype(np.uint8)


def called(path: str | Path | np.ndarray) -> str | Path:
    """How messages name a map: its file, or that it was given as an array."""
    return "given" if isinstance(path, np.ndarray) else path


def read_mask(path: str | Path | np.ndarray) -> np.ndarray:
    """[H, W] uint8 from a file: 1 where a channel other than alpha (or the index) is not 0. ValueError: no image."""
    mode, pixels, _ = _picture(path, f"mask {called(path)}: expected a PNG or an array [H, W]")
    channels = pixels.reshape(*pixels.shape[:2], -1)
    return (channels[..., :-1] if mode in ("LA", "RGBA") else channels).any(-1).astype(np.uint8)


def _picture(path: str | Path | np.ndarray, expected: str) -> tuple[str, np.ndarray, list[int] | None]:
    """Pillow's mode, pixels and, if mode is P, colour table of an image; of an array its integers as mode I."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(path, np.ndarray) or Path(path).suffix.lower() == ".npy":
        try:
            pixels = path if isinstance(path, np.ndarray) else np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{expected}, got no readable array ({error})") from error
        if pixels.ndim != 2 or pixels.dtype.kind not in "iub" or not pixels.size:
            raise ValueError(
                f"{expected} as an integer array [H, W], got {pixels.dtype} {list(pixels.shape)}; of probabilities "
                "take the argmax"
            )
        return ("1" if pixels.dtype.kind == "b" else "I"), pixels, None
    try:
        with Image.open(path) as image:
            return image.mode, np.asarray(image), image.getpalette("RGB") if image.mode == "P" else None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{expected} in a PNG, got no readable image ({error})") from error


def _orders_with(present: np.ndarray) -> list[str]:
    """Names of the orders that have all these ids."""
    inside = ((present >= 0) & (present <= UNKNOWN)).all()
    return [name for name, order in ORDERS.items() if inside and (table_of(order)[present] >= 0).all()]


def label_files(
    photos: Sequence[Photo], folder: str | Path, what: str = "labels", needed: bool = True
) -> dict[str, dict[str | None, Path]]:
    """`files_of_photos` of label maps or masks."""
    return files_of_photos(photos, folder, what, SUFFIXES, LOSSY, ADDED, needed)


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
    """ids [H, W] of 0..19 and UNKNOWN as a grey PNG, whose values every reader of pictures takes for the ids."""
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(ids, np.uint8)).save(path, optimize=True)


def _ids_of_colors(colors: np.ndarray) -> np.ndarray:
    """[..., 3] uint8 -> [...] int: id of the LIP palette, UNKNOWN for white, -1 for any other colour."""
    table = {tuple(color): label for label, color in enumerate(PALETTE.tolist())} | {UNKNOWN_RGB: UNKNOWN}
    unique, inverse = np.unique(_packed(colors), return_inverse=True)
    known = [table.get((code >> 16, code >> 8 & 255, code & 255), -1) for code in unique.tolist()]
    return np.array(known)[inverse].reshape(colors.shape[:-1])


def _by_palette(colors: np.ndarray, expected: str, allowed: bool) -> np.ndarray:
    ids = _ids_of_colors(colors)
    wrong = colors[ids < 0] if allowed else colors[(colors != colors[..., :1]).any(-1)]
    if len(wrong):
        raise ValueError(f"{expected}, got colour {tuple(wrong[0].tolist())}")
    return ids.astype(np.uint8)


def _packed(colors: np.ndarray) -> np.ndarray:
    return colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
