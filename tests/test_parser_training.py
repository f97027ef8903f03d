"""Training the clothing parser: pictures that stay with their labels, the loss, calibration, the exported network."""

import numpy as np
import pytest
import torch

from fitter.label.label_files import UNKNOWN
from fitter.label.parse import LIMB_CHANNELS
from fitter.label.soft_labels import CLASSES, HIDDEN, SoftLabels
from fitter.see.limbs import PARTS, part_distances
from priors.clothing import LABELS
from synth.parser.data import STORED_PX, Draw, crop_of, store_person
from synth.parser.export import folded
from synth.parser.net import ParserNet
from synth.parser.scores import GROUPS, group_scores, in_groups
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
