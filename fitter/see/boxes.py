"""Who is in a photo: a box about each person, from the shipped network, from one's own, or from a file.

Each of these is a function of the photo and of its name: find_boxes(levels, name) -> [(score 0..1, box [4] px), ...],
best score first; levels: of `fitter.see.crops.pyramid`, the first is the photo itself.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitter.see.crops import STRIDE, letterbox
from fitter.see.networks import Network, read_card
from fitter.see.person_box import box_iou
from fitter.see.photos import by_file_name, coco_number, entry_of

MODELS = Path(__file__).parents[1] / "models"
SHIPPED = MODELS / "nanodet_plus_m15.onnx"
Boxes = list[tuple[float, np.ndarray]]
FindBoxes = Callable[[list[np.ndarray], str], Boxes]
REMEDY = "give --detector 'shipped', a JSON file of boxes, or an ONNX file"
DIM = 0.5  # where no box has the score that is asked for, the best counts from this share of it on
PERSON_CATEGORY = 1  # of COCO, where a file does not name its categories


@dataclass(frozen=True)
class BoxCard:
    """What the YAML file beside one's own network says; the defaults are the shipped one's.

    Its output is [1, N, 4 + C], N boxes in px of its input, then C scores 0..1.
    size: longer side of the photo given to it, px; score: least score of a person, of the best box of a photo DIM of
    it; overlap: of two boxes, as a share of their union, above which the worse one is dropped; person: which of the C
    scores is the person's; edges: corners = x0, y0, x1, y1, centre = x, y of the middle, width, height; square: whether
    the input is padded to size x size, or only to multiples of 32; numbers: uint8 = the photo as it is, float32 = (RGB
    in 0..1 - mean) / std; channels: their order; layout: of the input; output: its name, the first one if not given.
    """

    size: int
    score: float = 0.35
    overlap: float = 0.45
    person: int = 0
    edges: str = "corners"
    square: bool = False
    numbers: str = "uint8"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    channels: str = "rgb"
    layout: str = "nhwc"
    output: str | None = None

    def __post_init__(self):
        if not isinstance(self.size, int) or self.size % STRIDE or self.size <= 0:
            raise ValueError(f"size: expected a multiple of {STRIDE}, got {self.size}")
        if self.person < 0:
            raise ValueError(f"person: expected a column from 0, got {self.person}")
        if not (0 <= self.score <= 1 and 0 <= self.overlap <= 1):
            raise ValueError(f"score and overlap: expected 0..1, got {self.score} and {self.overlap}")


CHOICES = {
    "edges": ("corners", "centre"),
    "numbers": ("uint8", "float32"),
    "channels": ("rgb", "bgr"),
    "layout": ("nchw", "nhwc"),
}


SHIPPED_CARD = BoxCard(size=640)


class NetworkBoxes:
    """Boxes by a network: NetworkBoxes(network, card)(levels) -> boxes."""

    def __init__(self, network: Network | None = None, card: BoxCard = SHIPPED_CARD):
        self._network, self.card = network or Network(SHIPPED), card

    def __call__(self, levels: list[np.ndarray], name: str = "") -> Boxes:
        card = self.card
        padded, factors = letterbox(levels, card.size, card.square)
        rows = self._rows(padded)
        boxes, scores = rows[:, :4], rows[:, 4 + card.person]
        best = scores.max(initial=0.0)
        kept = scores > card.score if best > card.score else (scores == best) & (best > DIM * card.score)
        boxes, scores = boxes[kept], scores[kept]
        if card.edges == "centre":
            boxes = np.column_stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])
        size = np.array(levels[0].shape[1::-1])
        boxes = (boxes.reshape(-1, 2, 2) / factors).clip(0, size).reshape(-1, 4)
        return suppress(boxes, scores, card.overlap)

    def _rows(self, padded: np.ndarray) -> np.ndarray:
        """What the network says about a letterboxed photo: [N, 4 + C] float64."""
        card, values = self.card, padded
        if card.numbers == "float32":
            values = ((padded / 255.0 - card.mean) / card.std).astype(np.float32)
        values = values[..., ::-1] if card.channels == "bgr" else values
        values = values.transpose(2, 0, 1) if card.layout == "nchw" else values
        outputs = self._network(**{self._network.input_names[0]: values[None]})
        out = outputs.get(card.output or next(iter(outputs)))
        if out is None or out.ndim != 3 or out.shape[2] < 5 + card.person:
            got = f"outputs {sorted(outputs)}" if out is None else list(out.shape)
            raise ValueError(
                f"{self._network.path}: expected an output [1, N, 4 + C] of boxes and of C > {card.person} scores, "
                f"got {got}; correct `output` or `person` in the YAML file"
            )
        return out[0].astype(np.float64)


class FileBoxes:
    """Boxes from a JSON file: FileBoxes(file)(levels, name) -> boxes.

    {"photo.jpg": [[x0, y0, x1, y1], [x0, y0, x1, y1, score], ...], ...} in px; or COCO: annotations (`images`,
    `annotations` with `bbox`), or a list of results, whose `image_id` is the image's name, its stem, or the number of
    COCO's own names (000000000139.jpg). Names may have folders before them (`entry_of`). COCO's other categories, and
    crowds, are left out. FileNotFoundError, ValueError: no such file.
    """

    def __init__(self, file: str | Path):
        self.path = Path(file)
        if not self.path.is_file():
            raise FileNotFoundError(f"detector {file}: expected a JSON file of boxes, found none")
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: expected JSON, got a file that is not ({error})") from error
        self._listed, self._boxes = boxes_by_photo(data, self.path)
        self._names = by_file_name(self._boxes)

    def __call__(self, levels: list[np.ndarray], name: str = "") -> Boxes:
        """ValueError: a file that names its photos does not name this one, or names two that may be it."""
        try:
            entry = entry_of(self._names, name)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        if entry is None and self._listed:
            raise ValueError(
                f"{self.path}: expected '{name}' among its photos, found none such; list it, with [] if nobody is there"
            )
        found = self._boxes.get(entry, self._boxes.get(coco_number(name), []))
        return sorted(found, key=lambda one: -one[0])


def boxes_by_photo(data, path: Path) -> tuple[bool, dict[str, Boxes]]:
    """Whether the JSON names its photos, and the boxes by the photo's name (results: by its id as text)."""
    by_photo: dict[str, Boxes] = {}
    if isinstance(data, dict) and "images" not in data and all(isinstance(e, list) for e in data.values()):
        for name, rows in data.items():
            by_photo[name] = [_box(row, f"{path}: {name}[{at}]") for at, row in enumerate(rows)]
        return True, by_photo
    is_list = isinstance(data, list)
    try:
        names = {} if is_list else {image["id"]: str(image["file_name"]) for image in data["images"]}
        people = _people_categories({} if is_list else data)
        by_photo = {name: [] for name in names.values()}
        for at, entry in enumerate(data if is_list else data["annotations"]):
            if entry.get("iscrowd") or entry.get("category_id", min(people)) not in people:
                continue
            box, where = entry["bbox"], f"{path}: bbox of entry {at}"
            if len(box) != 4:
                raise ValueError(f"{where}: expected x, y, width, height, got {box}")
            x, y, width, height = box
            name = str(entry["image_id"]) if is_list else names[entry["image_id"]]
            row = [x, y, x + width, y + height, entry.get("score", 1.0)]
            by_photo.setdefault(name, []).append(_box(row, where))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path}: expected {{"photo.jpg": [[x0, y0, x1, y1, score], ...]}}, COCO `images` (id, file_name) and '
            f"`annotations` (image_id, bbox), or a COCO list of results (image_id, bbox, score); got something else "
            f"({type(error).__name__}: {error})"
        ) from error
    return not is_list, by_photo


def _people_categories(data: dict) -> set[int]:
    named = {one["id"] for one in data.get("categories", ()) if one["name"].lower() in ("person", "people")}
    return named or {PERSON_CATEGORY}


def _box(row, where: str) -> tuple[float, np.ndarray]:
    """x0, y0, x1, y1 px and, if given, a score -> score and box."""
    try:
        *edges, score = [float(value) for value in row] if len(row) == 5 else [*map(float, row), 1.0]
    except (TypeError, ValueError, OverflowError):
        edges, score = [], np.nan
    whole = len(edges) == 4 and np.isfinite(edges).all() and edges[0] < edges[2] and edges[1] < edges[3]
    if not whole or not 0 <= score <= 1:
        raise ValueError(f"{where}: expected x0 < x1, y0 < y1 in px and a score 0..1 or none, got {row}")
    return score, np.array(edges)


def load_boxes(choice: str) -> FindBoxes:
    """'shipped'; a JSON file of boxes (`FileBoxes`); or an ONNX file with a YAML file (`BoxCard`) beside it."""
    if choice == "shipped":
        return NetworkBoxes()
    suffix = Path(choice).suffix.lower()
    if suffix == ".json":
        return FileBoxes(choice)
    if suffix == ".onnx":
        network = Network(choice, REMEDY)
        return NetworkBoxes(network, read_card(network.path.with_suffix(".yaml"), BoxCard, CHOICES))
    raise ValueError(f"detector: expected 'shipped', a .json file of boxes or an .onnx file, got {choice!r}")


def suppress(boxes: np.ndarray, scores: np.ndarray, most: float) -> Boxes:
    """Boxes [N, 4], scores [N] -> the best first, without those whose overlap with a better one, as a share of their
    union, is more than `most`."""
    kept: Boxes = []
    for row in np.argsort(-scores, kind="stable"):
        if all(box_iou(boxes[row], other) <= most for _, other in kept):
            kept.append((float(scores[row]), boxes[row]))
    return kept
