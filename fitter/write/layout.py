"""Where an overlay shows what, and what is written in it.

    photo  | bodies  | side views, in rows
    labels | classes | the labels' colours         with labels only

Each panel has its caption above it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from priors.clothing import LABELS, PALETTE

PANEL_PX = 560  # most height of a panel; photos are scaled to it
WIDEST_PX = 840  # most width of the photo, and of all side views: an overlay is at most three times that wide
CAPTION_PX, LETTERS_PX = 26, 15
INK, PAPER = (60, 60, 60), 255
SWATCH_PX, ENTRY_PX = 18, (200, 26)  # of the legend: a colour; a colour with its name, width and height


@dataclass(frozen=True)
class Panels:
    """Where a picture of `overlay` shows what, x0 y0 x1 y1 px: the photo, the bodies over it, the labels and the bodies
    in their classes (None where there are none), the colours' names, and each person's side view; size: width, height
    of it all."""

    photo: tuple[int, int, int, int]
    over: tuple[int, int, int, int]
    labels: tuple[int, int, int, int] | None
    classes: tuple[int, int, int, int] | None
    legend: tuple[int, int, int, int] | None
    sides: tuple[tuple[int, int, int, int], ...]
    size: tuple[int, int]


def panels(size_px: tuple[int, int], people: int, labelled: bool) -> Panels:
    """Of the overlay of a photo of size_px (width, height) with so many people, with labels or without."""
    scale = min(PANEL_PX / size_px[1], WIDEST_PX / size_px[0])
    width, height = (max(1, round(side * scale)) for side in size_px)
    _, columns, (tall, wide) = side_tiles(people)
    top, left = CAPTION_PX, 2 * width
    sides = tuple(
        (left + column * wide, top + row * tall, left + (column + 1) * wide, top + (row + 1) * tall)
        for row, column in (divmod(person, columns) for person in range(people))
    )
    right, low = left + columns * wide, top + PANEL_PX
    photo, over = ((x, top, x + width, top + height) for x in (0, width))
    if not labelled:
        return Panels(photo, over, None, None, None, sides, (right, low))
    below = low + CAPTION_PX
    labels, classes = ((x, below, x + width, below + height) for x in (0, width))
    end = below + PANEL_PX
    return Panels(photo, over, labels, classes, (left, below, right, end), sides, (right, end))


def panels_in(size_px: tuple[int, int], people: int, overlay_px: tuple[int, int]) -> Panels | None:
    """`panels` of an overlay of that size (width, height); None if it is of another layout, photo or number of
    people."""
    return next(
        (
            one
            for one in (panels(size_px, people, known) for known in (False, True))
            if one.size == overlay_px
        ),
        None,
    )


def side_tiles(people: int) -> tuple[int, int, tuple[int, int]]:
    """Rows and columns of side views, and the size (H, W) of each: as large as fits beside each other."""
    rows = int(np.ceil(np.sqrt(people * PANEL_PX * 3 / 4 / WIDEST_PX))) or 1
    return rows, -(-people // rows), (PANEL_PX // rows, PANEL_PX // rows * 3 // 4)


def write_captions(
    picture: np.ndarray, found: Panels, people: Iterable[str], ids: Iterable[int]
) -> np.ndarray:
    """A picture with its captions, and its colours' names: uint8 [H, W, 3].

    people: what each person is called; ids: of the labels that it shows
    """
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(LETTERS_PX)

    def caption(box: tuple[int, int, int, int] | None, words: str) -> None:
        room = box and box[2] - box[0] - 8
        while room and words and draw.textlength(words, font) > room:
            words = words.rpartition(" ")[0]
        if box and words:
            draw.text((box[0] + 4, box[1] - CAPTION_PX + 4), words, INK, font)

    caption(found.photo, "photo")
    caption(found.over, "bodies (faint: not seen)")
    x0, y0, x1, _ = found.sides[0]
    caption((x0, y0, found.size[0], y0), "from the photo's right (red: the photo's vertical)")
    caption(found.labels, "labels")
    caption(found.classes, "bodies' likeliest labels")
    for box, name in zip(found.sides, people, strict=True):
        draw.text((box[0] + 6, box[1] + 4), name, INK, font)
    if found.legend:
        x0, y0, x1, _ = found.legend
        columns = max(1, (x1 - x0) // ENTRY_PX[0])
        for at, one in enumerate(ids):
            row, column = divmod(at, columns)
            x, y = x0 + 8 + column * ENTRY_PX[0], y0 + 4 + row * ENTRY_PX[1]
            draw.rectangle((x, y, x + SWATCH_PX, y + SWATCH_PX), tuple(map(int, PALETTE[one])))
            draw.text((x + SWATCH_PX + 6, y), LABELS[one], INK, font)
    return np.array(image)
