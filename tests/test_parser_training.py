"""Training the clothing parser: pictures that stay with their labels, the loss, calibration, the exported network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.parser import upper_box, within
from fitter.label.label_files import UNKNOWN
from fitter.label.parse import LEAST_STANDING, LIMB_CHANNELS, parser_square
from fitter.label.soft_labels import CLASSES, HIDDEN, SoftLabels
from fitter.see.keypoints import BODY_25, Person
from fitter.see.limbs import PARTS, part_distances, standing_height_px
from fitter.see.person_box import keypoint_box
from priors.clothing import LABELS
from synth.parser.data import STORED_PX, Draw, crop_of, store_person
from synth.parser.export import export, folded, load_exported
from synth.parser.net import ParserNet
from synth.parser.scores import GROUPS, confusion, group_scores, in_groups, mean_iou
from synth.parser.spoil import bared, close_up
from synth.parser.train import calibrated, group_overlap, unweighted
from tests.test_parse import standing

LIMB_LABELS = {part: LABELS.index(part) for part in PARTS if part in LABELS}
COLOR = {label: 40 + 45 * number for number, label in enumerate(LIMB_LABELS.values())}  # of arms and legs


@pytest.fixture(scope="module")
def person():
    """Somebody in a photo whose arms and legs are painted, each in a grey of its own, on black."""
    size, keypoints = 400, standing(200.0, 360.0)
    y, x = np.indices((size, size)).reshape(2, -1)
    distances = part_distances(np.stack([x, y], 1) + 0.5, keypoints)[0]
    nearest = np.array([LIMB_LABELS.get(part, 0) for part in PARTS])[distances.argmin(1)]
    ids = np.where(distances.min(1) < 1, nearest, 0).astype(np.uint8).reshape(size, size)
    table = np.zeros(256, np.uint8)
    table[list(COLOR)] = list(COLOR.values())
    return store_person(np.repeat(table[ids][..., None], 3, -1), ids, ids > 0, keypoints, [])


def test_a_changed_picture_its_labels_and_its_limbs_belong_together(person, monkeypatch):
    """Scaled, turned and mirrored: a limb's pixels carry its label, or after mirroring its twin's, where its map is."""
    monkeypatch.setattr("synth.parser.data.other_colors", lambda image, rng: image)
    twin = {LIMB_LABELS[f"{a}-{part}"]: COLOR[LIMB_LABELS[f"{b}-{part}"]]
            for part in ("arm", "leg") for a, b in (("left", "right"), ("right", "left"))}  # fmt: skip
    mirrored = 0
    for seed in range(12):
        image, limbs, ids = crop_of(
            person.image, person.ids, person.keypoints, [], np.random.default_rng(seed)
        )
        small = image[::2, ::2, 0].astype(int)
        flipped = None
        for part, label in LIMB_LABELS.items():
            inside = ids == label
            near = limbs[PARTS.index(part)].repeat(2, 0).repeat(2, 1)[inside]
            assert near.mean() > 0.6
            own, other = (np.abs(small[inside] - color).mean() for color in (COLOR[label], twin[label]))
            assert min(own, other) < 8
            assert flipped in (None, other < own)
            flipped = other < own
        mirrored += flipped
    assert 2 < mirrored < 10


def test_spoilt_pictures_keep_to_what_is_known(person):
    """Every kind of mixing: labels stay labels, whatever covers the person is HIDDEN, keypoints keep at least four."""
    draw, seen = Draw([person, person], 2), set()
    for seed in range(40):
        image, limbs, ids = draw(0, np.random.default_rng(seed), 64)
        assert image.shape == (64, 64, 3) and limbs.shape == (LIMB_CHANNELS, 16, 16) and ids.shape == (32, 32)
        seen |= set(np.unique(ids).tolist())
    assert seen <= {0, HIDDEN, UNKNOWN, *LIMB_LABELS.values()} and {0, HIDDEN, UNKNOWN, 14, 15} <= seen
    assert person.image.shape == (STORED_PX, STORED_PX, 3)


def test_overlap_is_the_groups_mean_of_one_minus_soft_iou():
    """By hand: of 4 pixels two are coat and two background. All certain: 0. Coat called dress, same group: still 0. One
    coat pixel called background: upper 1 - 1/2, background 1 - 2/3. Unknown pixels count nowhere."""
    coat, dress = LABELS.index("coat"), LABELS.index("dress")
    ids = torch.tensor([[[coat, coat], [0, 0]]])

    def certain(labels):
        return 50.0 * torch.nn.functional.one_hot(labels, len(CLASSES)).permute(0, 3, 1, 2)

    assert group_overlap(certain(ids), ids) == pytest.approx(0, abs=1e-6)
    assert group_overlap(certain(torch.where(ids == coat, dress, ids)), ids) == pytest.approx(0, abs=1e-6)
    missed = torch.tensor([[[coat, 0], [0, 0]]])
    assert group_overlap(certain(missed), ids) == pytest.approx((1 / 2 + 1 / 3) / 2, abs=1e-5)
    partly = torch.tensor([[[coat, UNKNOWN], [0, 0]]])
    assert group_overlap(certain(missed), partly) == pytest.approx(0, abs=1e-6)
    assert set(GROUPS) == {"background", "upper", "lower", "skin", "shoes", "hair"}


def test_calibration_finds_the_temperature_and_the_biases(person, monkeypatch):
    """Labels drawn from known probabilities; the answers are those, sharpened twice and one class pushed."""
    rng = torch.Generator().manual_seed(0)
    right = 1.5 * torch.randn(4, len(CLASSES), 64, 64, generator=rng)
    prob = right.softmax(1).permute(0, 2, 3, 1).reshape(-1, len(CLASSES))
    ids = torch.multinomial(prob, 1, generator=rng).reshape(4, 64, 64)
    pushed = 2.0 * right
    pushed[:, 3] += 1.0
    monkeypatch.setattr("synth.parser.train.answers", lambda net, people: (pushed, ids))
    net = ParserNet().eval()
    before = net.head.bias.detach().clone()
    better, temperature = calibrated(net, [person])
    assert temperature == pytest.approx(2.0, rel=0.05)
    moved = (better.head.bias - before).detach()
    moved = moved - moved.mean()
    assert moved[3] == pytest.approx(-1.0, abs=0.15) and moved[[0, 1, 2, 4]].abs().max() < 0.15
    torch.testing.assert_close(net.head.bias, before)


def test_weights_of_the_loss_are_undone(person):
    """What weighted cross-entropy makes of probabilities p is w p / sum; less log w gives p back."""
    weight = torch.linspace(0.5, 3, len(CLASSES))
    net = ParserNet().eval()
    inputs = torch.rand(1, 3, 32, 32) * 255, torch.rand(1, LIMB_CHANNELS, 8, 8)
    with torch.no_grad():
        prob = net(*inputs).softmax(1)
        fair = unweighted(net, weight)(*inputs).softmax(1)
    expected = prob / weight[:, None, None]
    torch.testing.assert_close(fair, expected / expected.sum(1, keepdim=True))


def test_folded_batch_norms_change_nothing():
    net = ParserNet()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    image, limbs = torch.rand(2, 3, 64, 64) * 255, torch.rand(2, LIMB_CHANNELS, 16, 16)
    with torch.no_grad():
        expected = net.eval()(image, limbs)
        torch.testing.assert_close(folded(net)(image, limbs), expected, rtol=1e-3, atol=1e-3)
    assert expected.shape == (2, len(CLASSES), 32, 32)


def test_scores_by_hand():
    """Four pixels: upper right, upper called lower, background right, one hidden and left out."""
    true = np.array([[5, 5], [0, HIDDEN]], np.uint8)
    scores = group_scores(np.array([[7, 9], [0, 0]], np.uint8), true)
    assert scores["upper"] == pytest.approx(1 / 2) and scores["background"] == 1 and scores["lower"] == 0
    assert scores["accuracy"] == pytest.approx(2 / 3) and scores["label_accuracy"] == pytest.approx(1 / 3)


def test_the_likeliest_group_need_not_hold_the_likeliest_label():
    """Coat 0.3 and dress 0.25 against trousers 0.4; what hides stays what it is."""
    prob = np.zeros((1, 2, len(CLASSES)), np.float32)
    prob[0, 0, [LABELS.index("coat"), LABELS.index("dress"), LABELS.index("pants"), 0]] = 0.3, 0.25, 0.4, 0.05
    prob[0, 1, HIDDEN] = 1
    grouped = in_groups(SoftLabels(prob, np.array([0.0, 0, 2, 1])))
    assert LABELS[grouped.prob[0, 0].argmax()] in GROUPS["upper"]
    assert grouped.prob.sum(-1) == pytest.approx(1) and grouped.prob[0, 1, HIDDEN] == 1


def test_a_close_up_ends_at_the_hips(person):
    """Below: black, unknown, keypoints lost. Above: as it was; and the crop looks nearer."""
    near, hips = close_up(person), [index for index, name in enumerate(BODY_25) if name.endswith("Hip")]
    end = int(person.keypoints[hips, 1].mean() + 1)
    assert (near.ids[end:] == UNKNOWN).all() and not near.image[end:].any()
    assert (near.ids[:end] == person.ids[:end]).all() and (near.image[:end] == person.image[:end]).all()
    below = person.keypoints[:, 1] > end
    assert below.sum() >= 4 and not near.keypoints[below, 2].any()
    assert (near.keypoints[~below] == person.keypoints[~below]).all()
    # the crop looks nearer, but no nearer than LEAST_STANDING
    height = standing_height_px(near.keypoints)
    assert parser_square(near.keypoints)[1] < 0.8 * parser_square(person.keypoints)[1]
    assert parser_square(near.keypoints)[1] >= LEAST_STANDING * height / 2 * (1 - 1e-9)


def test_a_bare_trunk_has_no_label_and_bare_arms_are_arms(person):
    """Everything between shoulders and hips painted as one coat, the face a skin of (200, 150, 120)."""
    points = np.argwhere(np.ones(person.ids.shape))[:, ::-1] + 0.5
    nearest = part_distances(points, person.keypoints)[0]
    part = np.where(nearest.min(1) < 1, nearest.argmin(1), -1).reshape(person.ids.shape)
    labels = {"head": "face", "torso": "coat", "left-arm": "coat", "right-arm": "coat"}
    ids, image = np.zeros_like(person.ids), np.full_like(person.image, 60)
    for name, label in labels.items():
        ids[part == PARTS.index(name)] = LABELS.index(label)
    image[ids == LABELS.index("face")] = 200, 150, 120
    bare = bared(replace(person, ids=ids, image=image))
    assert (bare.ids[part == PARTS.index("torso")] == HIDDEN).all()
    for name in ("head", "left-arm", "right-arm"):
        assert (
            bare.ids[part == PARTS.index(name)] == LABELS.index(labels[name] if name == "head" else name)
        ).all()
    assert np.abs(bare.image[ids == LABELS.index("coat")].mean(0) - (200, 150, 120)).max() < 15
    assert (bare.image[ids == 0] == 60).all() and (ids == LABELS.index("coat")).any()
    dressed = np.where(ids == LABELS.index("coat"), LABELS.index("dress"), ids).astype(np.uint8)
    one = replace(person, ids=dressed)
    assert bared(one) is one


def test_an_exported_network_is_taken_up_again(tmp_path):
    """Batch norms folded, written in half precision, read into another network: the same answers, in training too."""
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    first, second = ParserNet(), ParserNet()
    for parameter in first.limbs.parameters():  # which begin at 0, and zeros are no weights of a file
        torch.nn.init.normal_(parameter, std=0.1)
    for module in first.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    export(first.eval(), 1.0, tmp_path / "net.onnx")
    image, limbs = torch.rand(2, 3, 64, 64) * 255, torch.rand(2, LIMB_CHANNELS, 16, 16)
    load_exported(second, tmp_path / "net.onnx", image, limbs)
    with torch.no_grad():
        expected = first(image, limbs)
        torch.testing.assert_close(second.eval()(image, limbs), expected, rtol=0.02, atol=0.02)
        torch.testing.assert_close(second.train()(image, limbs), expected, rtol=0.02, atol=0.02)


def test_groups_that_are_not_there_are_not_scored():
    """Half of the coat is missed; nothing else but background is there."""
    true, predicted = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    true[0], predicted[0, :2] = LABELS.index("coat"), LABELS.index("coat")
    assert mean_iou(confusion(predicted, true)) == pytest.approx((1 / 2 + 12 / 14) / 2)


def test_the_benchmarks_close_up_ends_at_the_hips_and_loses_who_is_outside():
    """Somebody in the middle; a neighbour far to the right is not in the cut photo."""
    points = standing(200.0, 360.0)
    person = Person("0", points, "openpose", keypoint_box(points))
    far = replace(person, id="1", keypoints_px=points + [2000.0, 0, 0])
    seen = points[:, 2] > 0
    x0, y0, x1, y1 = box = upper_box(points, (400, 400))
    hips = points[[index for index, name in enumerate(BODY_25) if name.endswith("Hip")]]
    assert (
        y0 == 0 and y1 == int(hips[:, 1].mean()) and x0 < points[seen, 0].min() and points[seen, 0].max() < x1
    )
    kept = within(person, box).keypoints_px
    above = seen & (points[:, 1] < y1)
    assert (kept[above] == points[above] - [x0, y0, 0]).all() and not kept[points[:, 1] > y1].any()
    assert within(far, box) is None
    points = points.copy()
    points[[BODY_25.index(name) for name in ("MidHip", "LHip", "RHip")], 2] = 0
    assert upper_box(points, (400, 400)) is None
