"""The clothing parser: a photo and its people -> label probabilities of each person.

The shipped network (`fitter/models/clothing_parser.onnx`, its card in `fitter/models/README.md`) looks at a square crop
about one person's keypoints and is told whose pixels are asked for: the person's limbs are drawn into six channels,
everybody else's into a seventh. It answers with probabilities of the 20 labels and of a 21st class, "hidden": something
in front of the person. A user's own network is described by a YAML file beside it (`OwnParser`). Either sees every crop
as it is and mirrored, left and right exchanged, and the answers are averaged (DSR supplement A.2).
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fitter.label.soft_labels import CLASSES, HIDDEN, SoftLabels
from fitter.see.crops import CROP, apply_affine, crop_to_photo, cut, pyramid
from fitter.see.keypoints import Person
from fitter.see.limbs import PARTS, limb_capsules, segment_distance, standing_height_px
from fitter.see.networks import Network
from fitter.see.networks import read_card as read_yaml_card
from fitter.see.person_box import box_side, label_box
from fitter.see.visibility import SCALE_CONFIDENCE
from priors.clothing import LABELS, MIRROR_LABELS

Capsule = tuple[int, np.ndarray, np.ndarray, float]  # of `limb_capsules`
PARSER = Path(__file__).parents[1] / "models" / "clothing_parser.onnx"
MIRROR_CLASSES = (*MIRROR_LABELS, HIDDEN)
SQUARE_MARGIN = 0.95  # side of the crop / longer side of `label_box`
LEAST_STANDING = 0.66  # side of the crop / standing height, at least: chosen on 40 development photos
MOST_PX = 8192  # of the input of one's own network
LIMB_STRIDE = 4  # px of the crop that a cell of the limb maps covers
LIMB_CHANNELS = len(PARTS) + 1
LIMB_REACH = 6.0  # radii from a limb's axis, beyond which exp(-d^2 / 2) is nothing
MIRROR_LIMBS = (0, 1, 3, 2, 5, 4, 6)  # PARTS with left and right exchanged, then everybody else


def load_parser(choice: str) -> "Parser | OwnParser | None":
    """'shipped', 'none', or the path of an ONNX file with a YAML file of the same name beside it."""
    if choice == "none":
        return None
    return Parser() if choice == "shipped" else OwnParser(choice)


class Parser:
    """Parser()(image_rgb, people) -> SoftLabels by person id.

    scales: of the crop's resolution, merged (supplement A.2: 0.5, 0.75, 1, 1.5); more than one costs time. The default
    loses 0.0015 in mean IoU against 1.25 on the photos that calibrated the network, gains 0.01 on their close-ups, and
    takes a fifth less time.
    """

    def __init__(self, network: str | Path = PARSER, scales: tuple[float, ...] = (1.125,)):
        self._network = Network(network)
        self.scales = scales
        self._cells = max(map(side_px, scales)) // 2

    def __call__(self, image_rgb: np.ndarray, people: list[Person]) -> dict[str | None, SoftLabels]:
        """image_rgb: [H, W, 3] uint8; people: everybody seen in it, for the neighbours' sake."""
        levels = pyramid(image_rgb)
        capsules = [limb_capsules(person.keypoints_px) for person in people]
        return {person.id: self._one(levels, people[at], capsules, at) for at, person in enumerate(people)}

    def _one(
        self, levels: list[np.ndarray], person: Person, capsules: list[list[Capsule]], at: int
    ) -> SoftLabels:
        centre, half = parser_square(person.keypoints_px)
        others = [capsule for row, one in enumerate(capsules) if row != at for capsule in one]
        merged = 0.0
        for scale in self.scales:
            side = side_px(scale)
            to_photo = crop_to_photo(centre, half, 0.0, side)
            image = cut(levels, to_photo, (side, side))
            limbs = capsule_maps(capsules[at], others, to_photo, side // LIMB_STRIDE)
            looks = ((image, limbs), (image[:, ::-1], limbs[list(MIRROR_LIMBS), :, ::-1]))
            # one by one: a batch is no faster on one core
            prob = [self._network(image=image[None], limbs=limbs[None])["prob"][0] for image, limbs in looks]
            merged = merged + resized(unmirrored(*prob), self._cells) / len(self.scales)
        window = np.concatenate([centre - half, centre + half])
        return SoftLabels(np.ascontiguousarray(merged.transpose(1, 2, 0)), window)


@dataclass(frozen=True)
class ParserCard:
    """What the YAML file beside one's own network says.

    size: height, width of its input in px; classes: a name of `CLASSES` for each output channel ("hidden" for what is
    no label); crop: person = a crop about each, photo = the whole photo once; mean, std: of RGB values in 0..1;
    channels: their order; layout: of the input; logits: whether the output still needs a softmax; output: its name, the
    first one if not given.
    """

    size: tuple[int, int]
    classes: tuple[str, ...] = LABELS
    crop: str = "person"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    channels: str = "rgb"
    layout: str = "nchw"
    logits: bool = True
    output: str | None = None

    def __post_init__(self):
        if min(self.size) < 1 or max(self.size) > MOST_PX:
            raise ValueError(f"size: expected a height and a width of 1 to {MOST_PX} px, got {self.size}")
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise ValueError(
                f"mean and std: expected 3 numbers each, std > 0, got {self.mean} and {self.std}"
            )


CHOICES = {"crop": ("person", "photo"), "channels": ("rgb", "bgr"), "layout": ("nchw", "nhwc")}


class OwnParser:
    """A user's network (SCHP, Graphonomy, Sapiens, ...) in the place of the shipped one."""

    def __init__(self, network: str | Path):
        self._network = Network(network, "give --parser an ONNX file, 'shipped' or 'none'")
        self.card = read_card(Path(network).with_suffix(".yaml"))
        self._columns = np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index(n) for n in self.card.classes]]

    def __call__(self, image_rgb: np.ndarray, people: list[Person]) -> dict[str | None, SoftLabels]:
        """As `Parser`; under None, what a network that looks at the whole photo sees."""
        levels = pyramid(image_rgb)
        height, width = image_rgb.shape[:2]
        if self.card.crop == "photo":
            return {None: self._window(levels, np.array([0.0, 0.0, width, height]))}
        aspect = self.card.size[1] / self.card.size[0]
        found = {}
        for person in people:
            box, _ = label_box(person.keypoints_px)
            half = max((box[3] - box[1]) / 2, (box[2] - box[0]) / 2 / aspect) * np.array([aspect, 1.0])
            middle = (box[:2] + box[2:]) / 2
            found[person.id] = self._window(levels, np.concatenate([middle - half, middle + half]))
        return found

    def _window(self, levels: list[np.ndarray], window_px: np.ndarray) -> SoftLabels:
        size = np.array(self.card.size[::-1])
        to_photo = np.column_stack([np.diag((window_px[2:] - window_px[:2]) / size), window_px[:2]])
        crop = cut(levels, to_photo, tuple(self.card.size)) / 255.0
        values = ((crop - self.card.mean) / self.card.std).astype(np.float32)
        if self.card.channels == "bgr":
            values = values[..., ::-1]
        both = np.stack([values, values[:, ::-1]])
        if self.card.layout == "nchw":
            both = both.transpose(0, 3, 1, 2)
        answers = [self._answer(one[None]) for one in both]  # one by one: exports often fix the batch
        prob = unmirrored(*answers)
        return SoftLabels(np.ascontiguousarray(prob.transpose(1, 2, 0)), window_px)

    def _answer(self, image: np.ndarray) -> np.ndarray:
        """[21, h, w] probabilities."""
        outputs = self._network(**{self._network.input_names[0]: image})
        out = outputs[self.card.output] if self.card.output else next(iter(outputs.values()))
        if out.ndim != 4 or out.shape[1] != len(self.card.classes):
            raise ValueError(
                f"{self._network.path}: expected an output [1, {len(self.card.classes)}, h, w], one channel for each "
                f"of the YAML's classes, got {list(out.shape)}; name another `output` or correct `classes`"
            )
        if self.card.logits:
            out = np.exp(out - out.max(1, keepdims=True))
        prob = np.einsum("chw,cl->lhw", out[0], self._columns)
        return prob / np.maximum(prob.sum(0), 1e-9)


def read_card(path: Path) -> ParserCard:
    """ParserCard from its YAML file. ValueError: something missing, unknown or of another kind."""
    card = read_yaml_card(path, ParserCard, CHOICES)
    wrong = [name for name in card.classes if name not in CLASSES]
    if wrong:
        raise ValueError(f"{path}: classes: expected names of {CLASSES}, got {wrong}")
    return card


def parser_square(keypoints_px: np.ndarray) -> tuple[np.ndarray, float]:
    """The square about a person [25, 3] that the shipped parser looks at: middle [2] and half a side, px.

    Of somebody cut off it shows more than the keypoints span, for the parser has learned from whole people: nearer ones
    it takes for other things."""
    box, _ = label_box(keypoints_px)
    whole = LEAST_STANDING * standing_height_px(keypoints_px, SCALE_CONFIDENCE)
    return (box[:2] + box[2:]) / 2, max(SQUARE_MARGIN * box_side(box), whole) / 2


def side_px(scale: float) -> int:
    """Side of the crop at a scale: the network wants multiples of 32."""
    return round(CROP * scale / 32) * 32


def unmirrored(prob: np.ndarray, of_mirror: np.ndarray) -> np.ndarray:
    """Mean of the answers [21, h, w] to a crop and to its mirror image."""
    return (prob + of_mirror[list(MIRROR_CLASSES), :, ::-1]) / 2


def limb_maps(
    keypoints_px: np.ndarray, others: list[np.ndarray], to_photo: np.ndarray, cells: int
) -> np.ndarray:
    """[7, cells, cells] float32 in 0..1: nearness to each of the person's PARTS, and to anybody else.

    keypoints_px: [25, 3] px of the photo; others: the same of everybody else; to_photo: [2, 3], from px of the crop,
    whose side is LIMB_STRIDE * cells. exp(-d^2 / 2) at d radii from a limb's axis; 0 for limbs not seen.
    """
    strangers = [capsule for other in others for capsule in limb_capsules(other)]
    return capsule_maps(limb_capsules(keypoints_px), strangers, to_photo, cells)


def capsule_maps(own: list[Capsule], others: list[Capsule], to_photo: np.ndarray, cells: int) -> np.ndarray:
    """`limb_maps` of what `limb_capsules` makes of the person and of everybody else. A capsule is looked at only where
    it counts: up to LIMB_REACH radii from its axis."""
    to_cells = cv2.invertAffineTransform(to_photo) / LIMB_STRIDE
    scale = np.sqrt(abs(np.linalg.det(to_cells[:, :2])))
    middles = (np.indices((cells, cells))[::-1].transpose(1, 2, 0) + 0.5).astype(np.float32)
    radii = np.full((LIMB_CHANNELS, cells, cells), np.inf, np.float32)
    for channel, capsules in ((None, own), (LIMB_CHANNELS - 1, others)):
        for part, start, end, radius_px in capsules:
            ends, radius = apply_affine(to_cells, np.stack([start, end])), scale * radius_px
            low = (ends.min(0) - LIMB_REACH * radius).clip(0, cells).astype(int)
            high = np.ceil((ends.max(0) + LIMB_REACH * radius).clip(0, cells)).astype(int)
            if (low < high).all():
                window = np.s_[low[1] : high[1], low[0] : high[0]]
                distance = segment_distance(middles[window].reshape(-1, 2), *ends) / np.float32(radius)
                nearest = radii[part if channel is None else channel][window]
                np.minimum(nearest, distance.reshape(nearest.shape), out=nearest)
    return np.exp(-0.5 * np.square(radii))


def resized(prob: np.ndarray, side: int) -> np.ndarray:
    """[C, h, w] -> [C, side, side] by bilinear interpolation; itself if it has that size."""
    if prob.shape[1:] == (side, side):
        return prob
    return np.stack([cv2.resize(plane, (side, side), interpolation=cv2.INTER_LINEAR) for plane in prob])
