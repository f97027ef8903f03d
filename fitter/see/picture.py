"""A photo's file decoded, of any format that Pillow reads (HEIC by pillow-heif): upright, 8-bit RGB; and its EXIF."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL.ExifTags import IFD, Base

# Pillow's names of formats that photos come in; its others are never tried: some start programs, as EPS does
FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "JPEG2000", "PPM", "QOI", "HEIF", "TGA",
)  # fmt: skip
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
NO_HEIC = "pip install pillow-heif"  # what HEIC takes
MOST_PX = 400_000_000  # of a photo that is decoded at all: 1.2 GB
FITTED_PX = 64_000_000  # photos of more are fitted at half the width and height, or a quarter
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class Picture:
    """A decoded photo: image_rgb [H, W, 3] uint8, upright; width, height of the upright photo, px; reduced: how many
    px of that a side of the image's pixels is, 1, 2, 4, ..."""

    image_rgb: np.ndarray
    width: int
    height: int
    reduced: int = 1


def reads_heic() -> bool:
    """Whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def read_image(source) -> np.ndarray:
    """A photo, by its path or as a file object -> [H, W, 3] uint8 RGB, upright by its EXIF orientation.

    Grey becomes RGB, 16 bits become 8, transparent shows white, of several frames the first counts. ValueError: not
    readable, or of more than MOST_PX, with the reason.
    """
    return read_picture(source, MOST_PX).image_rgb


def read_picture(source, at_most_px: int = FITTED_PX) -> Picture:
    """As `read_image`, of at most so many pixels: larger photos are halved until they are."""
    name = source if isinstance(source, str | Path) else "of a tar"
    try:
        with _without_warnings(), open_photo(source) as opened:
            width, height = opened.size
            if width * height > MOST_PX:
                raise ValueError(
                    f"expected at most {MOST_PX // 10**6} megapixels, got {width} x {height} px; scale it down"
                )
            reduced = 1
            while (width // reduced) * (height // reduced) > at_most_px:
                reduced *= 2
            if reduced > 1:  # a JPEG is then decoded at that size
                opened.draft(None, (width // reduced, height // reduced))
            done = round(width / opened.size[0])
            orientation = orientation_of(opened)
            rgb = upright(_rgb(opened), orientation)
    except FileNotFoundError as error:
        raise ValueError(f"image {name}: expected a file, found none") from error
    except Exception as error:  # damaged, too large, or no photo: Pillow's decoders raise many types
        raise ValueError(f"image {name}: {_why_not(name, error)}") from error
    if reduced > done:
        from PIL import Image

        rgb = np.asarray(Image.fromarray(rgb).reduce(reduced // done))
    size = (height, width) if orientation in SIDEWAYS else (width, height)
    return Picture(np.ascontiguousarray(rgb), *size, reduced)


def _why_not(name, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if not isinstance(error, UnidentifiedImageError):
        return f"expected a whole photo, cannot be decoded ({error})"
    if str(name).lower().endswith(HEIC_SUFFIXES) and not reads_heic():
        return f"HEIC is read with the package pillow-heif: {NO_HEIC}"
    return "expected a photo (JPEG, PNG, ...), got another kind of file"


def open_photo(source):
    """A photo's file, by its path or as a file object, opened by Pillow, not decoded yet. Raises what Pillow does."""
    from PIL import Image

    Image.init()
    if reads_heic():
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # `read_picture` has a limit of its own, without Pillow's warning below it
    return Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN])


def orientation_of(opened) -> int:
    """An opened photo's EXIF orientation, 1 to 8; 1 where it has none that can be read."""
    try:
        with _without_warnings():
            orientation = opened.getexif().get(Base.Orientation, 1)
    except Exception:  # whatever is damaged in there, the picture is none the worse; `read_exif` says so
        return 1
    return orientation if orientation in range(1, 9) else 1


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Without Pillow's warnings of damaged EXIF, which `read_exif` says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [H, W, ...] as they are stored -> as they are seen, by the EXIF orientation, 1 to 8."""
    if orientation in SIDEWAYS:
        stored = stored.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    return stored[::-1] if orientation in (3, 4, 7, 8) else stored


def upright_size(path: str | Path) -> tuple[tuple[int, int], int]:
    """Width and height, px, of a photo as it is seen, and its EXIF orientation, without decoding it. Raises what Pillow
    does."""
    with open_photo(path) as opened:
        orientation = orientation_of(opened)
        return (opened.size[::-1] if orientation in SIDEWAYS else opened.size), orientation


def read_exif(source) -> tuple[dict[int, object], tuple[str, ...]]:
    """A photo's EXIF tags (of the file and of its Exif part) by number; and, in words, what was left out as damaged.

    Empty where the photo cannot be opened.
    """
    tags, notes = {}, []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            opened = open_photo(source)
        except Exception:  # `read_image` says why
            return {}, ()
        with opened:
            for part in (lambda: opened.getexif(), lambda: opened.getexif().get_ifd(IFD.Exif)):
                try:
                    tags |= dict(part())
                except Exception as error:  # Pillow's reader raises many types
                    notes.append(f"EXIF: a part cannot be read and is left out ({_brief(error)})")
    if warned and not notes:
        notes.append(f"EXIF: what is damaged is left out ({_brief(warned[0].message)})")
    return tags, tuple(dict.fromkeys(notes))


def _brief(error) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__


def _rgb(image) -> np.ndarray:
    """An opened photo's pixels as stored, [H, W, 3] uint8."""
    from PIL import Image

    image.load()
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return _grey_to_rgb(np.asarray(image, np.float64))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """Grey in a wide type, 0..65535, 0..255 or 0..1 by its greatest value -> [H, W, 3] uint8."""
    top = grey.max(initial=0)
    scale = 255.0 if top <= 1 else 1.0 if top <= 255 else 255 / 65535
    return np.repeat((grey * scale).round().clip(0, 255).astype(np.uint8)[..., None], 3, -1)
