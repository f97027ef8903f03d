"""The parser: soft labels as maps and crops, whose pixels are asked for, one's own network by a YAML file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fitter.config import Semantics
from fitter.energy.semantics import make_targets
from fitter.label.label_files import UNKNOWN
from fitter.label.parse import (
    LIMB_CHANNELS,
    LIMB_STRIDE,
    MIRROR_LIMBS,
    OwnParser,
    Parser,
    ParserCard,
    limb_maps,
    load_parser,
    read_card,
)
from fitter.label.person_labels import PersonLabels, crop_labels
from fitter.label.soft_labels import CLASSES, HIDDEN, SoftLabels, crop_soft, likeliest
from fitter.see.crops import apply_affine, crop_to_photo
from fitter.see.detect import Detector
from fitter.see.keypoints import MIRROR_25, Person, mirror_keypoints
from fitter.see.limbs import part_distances
from fitter.see.person_box import keypoint_box
from priors.clothing import LABELS, MIRROR_LABELS

PHOTO = Path(__file__).parent.parent / "examples" / "photos" / "skier.jpg"


def one_hot(ids: np.ndarray) -> np.ndarray:
    return np.eye(len(CLASSES), dtype=np.float32)[np.where(ids == UNKNOWN, HIDDEN, ids)]


def standing(x: float = 100.0, height: float = 180.0) -> np.ndarray:
    """BODY_25 keypoints of somebody who stands at x, facing the camera."""
    middle = {
        0: 0.05,
        1: 0.2,
        8: 0.5,
    }  # keypoint: down, in heights; and of the right side and its twin: across, down
    paired = {(2, 5): (0.1, 0.2), (3, 6): (0.13, 0.36), (4, 7): (0.14, 0.5), (9, 12): (0.05, 0.5),
              (10, 13): (0.05, 0.74), (11, 14): (0.05, 0.97), (15, 16): (0.02, 0.03),
              (17, 18): (0.04, 0.04)}  # fmt: skip
    rows = {row: (0.0, down) for row, down in middle.items()}
    for (right, left), (across, down) in paired.items():
        rows |= {right: (-across, down), left: (across, down)}
    points = np.zeros((25, 3))
    for row, (across, down) in rows.items():
        points[row] = x + across * height, 10 + down * height, 0.9
    return points


def somebody(name: str, points: np.ndarray) -> Person:
    return Person(name, points, "openpose", keypoint_box(points))


@pytest.fixture(scope="module")
def skier():
    image = np.array(Image.open(PHOTO).convert("RGB"))
    return image, Detector()(image)[:1]


def test_the_likeliest_labels_of_a_sure_answer_are_the_labels():
    ids = np.random.default_rng(0).integers(0, 20, (6, 8)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
    ids[:10, :10] = UNKNOWN
    soft = SoftLabels(one_hot(ids), np.array([10.0, 20.0, 90.0, 80.0]))
    found = likeliest(soft, (100, 120))
    assert (found[20:80, 10:90] == ids).mean() > 0.99
    assert not found[:20].any() and not found[:, 90:].any()


def test_a_window_beyond_the_photo_is_cut():
    soft = SoftLabels(one_hot(np.full((16, 16), 5)), np.array([-30.0, -30.0, 50.0, 50.0]))
    found = likeliest(soft, (40, 40))
    assert found.shape == (40, 40) and (found == 5).all()
    assert not likeliest(SoftLabels(soft.prob, np.array([90.0, 90, 99, 99])), (40, 40)).any()


def test_a_sure_answer_crops_as_a_label_map_does():
    ids = np.random.default_rng(1).integers(0, 20, (48, 64)).astype(np.uint8)
    soft = SoftLabels(one_hot(ids), np.array([0.0, 0.0, 64.0, 48.0]))
    for window, size in (((3.3, 2.1, 55.2, 41.9), (17, 23)), ((10.0, 10.0, 20.0, 20.0), (40, 40))):
        expected, _ = crop_labels(ids, np.ones_like(ids), np.array(window), size)
        prob, seen = crop_soft(soft, np.array(window), size)
        np.testing.assert_allclose(prob, expected, atol=1e-5)
        assert (seen == 1).all()


def test_beyond_the_window_is_background_and_what_is_hidden_is_not_seen():
    soft = SoftLabels(one_hot(np.full((4, 4), HIDDEN)), np.array([10.0, 10.0, 20.0, 20.0]))
    prob, seen = crop_soft(soft, np.array([0.0, 10.0, 20.0, 20.0]), (2, 4))
    np.testing.assert_allclose(seen, [[1, 1, 0, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(prob[:, :2, 0], 1)


def test_an_unsure_parser_gives_the_losses_less_to_pull_at():
    points = standing()
    person, ids = somebody("0", points), np.zeros((200, 200), np.uint8)
    ids[40:100, 80:120] = LABELS.index("upper-clothes")
    window = np.array([0.0, 0.0, 200.0, 200.0])
    unsure = 0.6 * one_hot(ids) + 0.4 / len(LABELS) * (np.arange(len(CLASSES)) < HIDDEN)
    targets = []
    for soft in (None, SoftLabels(one_hot(ids), window), SoftLabels(unsure.astype(np.float32), window)):
        known = PersonLabels(ids, np.ones_like(ids), (), soft)
        targets.append(make_targets([person], [known], Semantics(), 64, torch.float32))
    torch.testing.assert_close(targets[1].valid, targets[0].valid, atol=1e-4, rtol=0)
    known = targets[0].valid[..., None] > 0
    torch.testing.assert_close(targets[1].classes * known, targets[0].classes * known, atol=1e-4, rtol=0)
    upper = targets[2].classes[0, ..., 2]
    assert upper.max() == pytest.approx(0.6 + 0.4 * 4 / 20, abs=1e-3)
    assert targets[2].classes.sum(-1)[targets[2].valid > 0].sub(1).abs().max() < 1e-5


def test_confidence_is_that_of_the_persons_pixels():
    prob = np.zeros((2, 2, len(CLASSES)), np.float32)
    prob[..., 0] = 1
    prob[0, 0] = 0
    prob[0, 0, 5], prob[0, 0, 7] = 0.7, 0.3
    assert SoftLabels(prob, np.zeros(4)).confidence == pytest.approx(0.7)
    assert SoftLabels(np.eye(len(CLASSES))[[[0]]], np.zeros(4)).confidence == 0


def test_limb_maps_show_the_person_asked_for_and_apart_everybody_else():
    one, other = standing(70.0), standing(160.0)
    to_photo = crop_to_photo(np.array([100.0, 100.0]), 100.0, 0.0, 128)
    maps = limb_maps(one, [other], to_photo, 32)
    assert maps.shape == (LIMB_CHANNELS, 32, 32) and maps.min() >= 0 and maps.max() <= 1
    alone = limb_maps(one, [], to_photo, 32)
    np.testing.assert_allclose(maps[:-1], alone[:-1], atol=1e-5)
    assert not alone[-1].any() and maps[-1, :, 24:].max() > 0.9 and maps[:-1, :, 26:].max() < 0.1
    mirrored = limb_maps(mirror_keypoints(one, 200), [], to_photo, 32)
    np.testing.assert_allclose(mirrored[list(MIRROR_LIMBS), :, ::-1], alone, atol=1e-5)


def test_limb_maps_are_the_distances_to_every_capsule_everywhere():
    """`part_distances` at every cell is the plain version."""
    rng, cells = np.random.default_rng(3), 40
    people = [
        standing(x, height) + [*rng.normal(0, 4, 2), 0] for x, height in ((90, 180), (150, 160), (700, 60))
    ]
    people[1][[4, 7], 2] = 0
    for angle in (0.0, 0.4):
        to_photo = crop_to_photo(np.array([110.0, 100.0]), 90.0, angle, cells * LIMB_STRIDE)
        y, x = np.indices((cells, cells)).reshape(2, -1)
        points = apply_affine(to_photo, LIMB_STRIDE * (np.stack([x, y], 1) + 0.5))
        near = [part_distances(points, person)[0] for person in people]
        expected = np.column_stack([near[0], np.min([near[1].min(1), near[2].min(1)], 0)])
        expected = np.exp(-0.5 * expected**2).T.reshape(LIMB_CHANNELS, cells, cells)
        np.testing.assert_allclose(limb_maps(people[0], people[1:], to_photo, cells), expected, atol=1e-4)


def test_the_shipped_parser_is_asked_about_each_person_and_told_of_the_others(skier):
    """Nobody's answer depends on the order of people or on somebody far away."""
    image, (person,) = skier
    wide = np.concatenate([image, image], 1)
    right = somebody("1", person.keypoints_px + [image.shape[1], 0, 0] * (person.keypoints_px[:, 2:] > 0))
    answers = Parser()(wide, [person, right])
    swapped = Parser()(wide, [right, person])
    alone = Parser()(wide, [person])
    assert list(answers) == ["0", "1"]
    for name in answers:
        np.testing.assert_array_equal(answers[name].prob, swapped[name].prob)
    np.testing.assert_allclose(answers["0"].prob, alone["0"].prob, atol=1e-6)
    np.testing.assert_allclose(answers["0"].prob, answers["1"].prob, atol=0.2)
    beside = Parser()(wide, [person, somebody("1", person.keypoints_px + [60, 0, 0])])
    assert np.abs(beside["0"].prob - alone["0"].prob).max() > 0.5


def test_the_shipped_parser_sees_the_skier(skier):
    image, people = skier
    answer = Parser()(image, people)[people[0].id]
    np.testing.assert_allclose(answer.prob.sum(-1), 1, atol=1e-4)
    ids = likeliest(answer, image.shape[:2])
    x, y = people[0].keypoints_px[[0, 1, 10, 13], :2].astype(int).T
    clothes = [LABELS.index(name) for name in ("upper-clothes", "coat", "pants", "jumpsuits", "dress")]
    assert np.isin(ids[y[1:], x[1:]], clothes).all() and ids[y[0], x[0]] not in (0, *clothes)
    assert answer.confidence > 0.5
    box = people[0].box_px.astype(int)
    outside = np.ones(ids.shape, bool)
    outside[box[1] : box[3], box[0] : box[2]] = False
    assert (ids[outside] > 0).mean() < 0.02


def test_the_mirrored_photo_gives_the_mirrored_answer(skier):
    image, people = skier
    width = image.shape[1]
    mirrored = somebody("0", mirror_keypoints(people[0].keypoints_px, width))
    answer = Parser()(image, people)[people[0].id].prob
    other = Parser()(np.ascontiguousarray(image[:, ::-1]), [mirrored])["0"].prob
    np.testing.assert_allclose(other[:, ::-1][..., [*MIRROR_LABELS, HIDDEN]], answer, atol=0.05)
    assert len(MIRROR_25) == 25


def test_several_scales_are_merged(skier):
    image, people = skier
    merged = Parser(scales=(1.0, 1.125))(image, people)[people[0].id].prob
    np.testing.assert_allclose(merged.sum(-1), 1, atol=1e-4)
    assert (merged.argmax(-1) == Parser()(image, people)[people[0].id].prob.argmax(-1)).mean() > 0.93


def own(card: ParserCard, answer) -> OwnParser:
    """OwnParser whose network is a function: image -> output [1, C, h, w]."""
    parser = OwnParser.__new__(OwnParser)

    class Stub:
        path, input_names = Path("own.onnx"), ["x"]

        def __call__(self, x):
            return {"first": answer(x)}

    parser._network, parser.card = Stub(), card
    parser._columns = np.eye(len(CLASSES), dtype=np.float32)[[CLASSES.index(n) for n in card.classes]]
    return parser


def test_ones_own_network_is_told_what_it_expects_and_its_classes_are_mapped():
    seen = []

    def answer(x):
        seen.append(x)
        logits = np.full((1, 3, 8, 4), -20.0, np.float32)
        logits[:, 1, :, :2], logits[:, 2, :, 2:] = 20, 20
        logits[:, 0, :4] = 40
        return logits

    card = ParserCard(size=(64, 32), classes=("background", "left-arm", "hidden"), channels="bgr", mean=(0, 0, 0),
                      std=(1, 1, 1), layout="nhwc")  # fmt: skip
    image = np.zeros((200, 200, 3), np.uint8)
    image[..., 0] = 255
    found = own(card, answer)(image, [somebody("7", standing())])
    assert seen[0].shape == (1, 64, 32, 3) and seen[0].dtype == np.float32
    np.testing.assert_allclose(seen[0][0, 32, 16], [0, 0, 1])
    prob = found["7"].prob
    np.testing.assert_allclose(prob[:4, :, 0], 1, atol=1e-4)
    # the mirrored look says right arm on the other side
    np.testing.assert_allclose(prob[4:, :2, LABELS.index("left-arm")], 0.5, atol=1e-4)
    np.testing.assert_allclose(prob[4:, 2:, LABELS.index("right-arm")], 0.5, atol=1e-4)
    x0, y0, x1, y1 = found["7"].window_px
    assert (y1 - y0) / (x1 - x0) == pytest.approx(2)
    whole = own(ParserCard(size=(64, 32), classes=card.classes, crop="photo"), answer)(image, [])
    assert list(whole) == [None] and whole[None].window_px.tolist() == [0, 0, 200, 200]


def test_what_is_wrong_with_ones_own_network_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.onnx: expected a network .*shipped"):
        load_parser(str(tmp_path / "missing.onnx"))
    (tmp_path / "own.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"own.yaml: expected a YAML file beside .*size"):
        load_parser(str(tmp_path / "own.onnx"))
    for text, message in (
        ("size: [473, 473]\nscale: 2", "expected `size` and"),
        ("size: [473, 473]\nclasses: [background, torso]", r"got \['torso'\]"),
        ("size: [473, 473]\nchannels: grb", "channels: expected one of"),
    ):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_card(tmp_path / "own.yaml")
    narrow = own(ParserCard(size=(8, 8)), lambda x: np.zeros((1, 7, 8, 8)))
    with pytest.raises(ValueError, match=r"expected an output \[1, 20, h, w\].*got \[1, 7, 8, 8\]"):
        narrow(np.zeros((20, 20, 3), np.uint8), [somebody("0", standing())])
    assert load_parser("none") is None
