"""Loss terms: values computed by hand on 4 x 4 pictures, float64 gradients, empty cases."""

import math
from types import SimpleNamespace

import pytest
import torch

from fitter.config import Semantics
from fitter.energy import losses
from fitter.energy.semantics import CENTRE_DEPTH, FORMS, MOST_DEPTH, Seen

SQUARE = torch.zeros(1, 4, 4, dtype=torch.float64)
SQUARE[:, 1:3, 1:3] = 1
NONE = torch.zeros_like(SQUARE)
ALL = torch.ones_like(SQUARE)


def one_hot(mask, classes=3):
    """Class 1 inside the mask, background elsewhere."""
    target = torch.zeros(*mask.shape, classes, dtype=mask.dtype)
    target[..., 1], target[..., 0] = mask, 1 - mask
    return target


def test_keypoint_energy_by_hand():
    seen = torch.zeros(1, 2, 2, dtype=torch.float64)
    model = torch.tensor([[[3.0, 4.0], [100.0, 0.0]]], dtype=torch.float64)
    box = torch.tensor([224.0], dtype=torch.float64)
    energy = losses.keypoint_energy(model, seen, torch.tensor([[1.0, 0.5]]), box, sigma=100.0)
    expected = 1e4 * 9 / (1e4 + 9) + 1e4 * 16 / (1e4 + 16) + 0.25 * 1e4 * 1e4 / 2e4
    assert energy.item() == pytest.approx(expected)
    doubled = losses.keypoint_energy(2 * model, seen, torch.tensor([[1.0, 0.5]]), 2 * box, sigma=100.0)
    assert doubled.item() == pytest.approx(expected)


def test_silhouette_iou_by_hand():
    assert losses.silhouette_iou(SQUARE, SQUARE).item() == 0
    shifted = SQUARE.roll(1, 2)
    assert losses.silhouette_iou(shifted, SQUARE).item() == pytest.approx(1 - 2 / 6)
    assert losses.silhouette_iou(0.5 * SQUARE, SQUARE).item() == pytest.approx(0.5)


def test_silhouette_distance_by_hand():
    distance = torch.arange(4.0, dtype=torch.float64).expand(1, 4, 4)
    assert losses.silhouette_distance(SQUARE, distance).item() == pytest.approx((2 * 1 + 2 * 2) / 4**1.5)
    assert losses.silhouette_distance(SQUARE, NONE).item() == 0


def test_silhouette_bce_by_hand():
    half = losses.silhouette_bce(0.5 * ALL, SQUARE, ALL).item()
    assert half == pytest.approx(math.log(2))
    assert losses.silhouette_bce(SQUARE, SQUARE, ALL).item() == pytest.approx(-math.log(1 - losses.FLOOR))


def test_clothing_forms_by_hand():
    perfect = one_hot(SQUARE).clone()
    perfect[..., 0] = 0  # nothing is rendered outside the body
    target = one_hot(SQUARE)
    e = math.e
    published = (4 * -math.log(e / (e + 2)) + 12 * math.log(3)) / 16
    assert losses.clothing_published(perfect, target, ALL).item() == pytest.approx(published)
    assert losses.clothing_composited(perfect, target, ALL).item() == pytest.approx(0)
    assert losses.clothing_one_sided(perfect, target, ALL).item() == pytest.approx(0)
    outside = one_hot(SQUARE.roll(1, 2))
    outside[..., 0] = 0
    composited = -4 * math.log(losses.FLOOR) / 16  # 2 body pixels on background, 2 free pixels on clothing
    assert losses.clothing_composited(outside, target, ALL).item() == pytest.approx(composited)
    one_sided = -2 * math.log(losses.FLOOR) / 4  # clothing that the body does not reach costs nothing
    assert losses.clothing_one_sided(outside, target, ALL).item() == pytest.approx(one_sided)


def test_one_sided_charges_against_the_best_of_the_surface():
    prob = torch.zeros(1, 4, 4, 3, dtype=torch.float64)
    prob[..., 1], prob[..., 2] = 0.8, 0.2
    expected = math.log(0.8 / 0.2)
    target = torch.zeros_like(prob)
    target[..., 2] = 1
    assert losses.clothing_one_sided(prob, target, ALL).item() == pytest.approx(expected)
    target = target.roll(-1, -1)
    assert losses.clothing_one_sided(prob, target, ALL).item() == pytest.approx(0)


SLEEVE = torch.zeros(1, 4, 4, 3, dtype=torch.float64)
SLEEVE[..., 1] = 1  # as wide as the picture
DEPTH = torch.tensor([1.0, 2.0, 2.0, 1.0], dtype=torch.float64).expand(1, 4, 4)  # from its two edges


def limb(*columns):
    prob = torch.zeros_like(SLEEVE)
    prob[:, :, list(columns), 1] = 1
    return prob


def test_a_limb_lies_in_the_middle_of_its_sleeve_by_hand():
    middle, edge = limb(1, 2), limb(0, 1)
    for prob in (middle, edge):  # without depth: 8 free pixels to 8 of the body
        assert losses.clothing_one_sided(prob, SLEEVE, ALL, fill=0.3).item() == pytest.approx(0.3)
        assert losses.clothing_one_sided(prob, SLEEVE, ALL, 0.3, ALL).item() == pytest.approx(0.3)
        assert losses.clothing_one_sided(prob, SLEEVE, ALL, 0.0, DEPTH).item() == pytest.approx(0)
    # 4 rows of free pixels, of depth 1 and 1 beside the one limb, 2 and 1 beside the other
    for prob, expected in ((middle, 0.3 * 4 * 2 / 8), (edge, 0.3 * 4 * 3 / 8)):
        assert losses.clothing_one_sided(prob, SLEEVE, ALL, 0.3, DEPTH).item() == pytest.approx(expected)
    unknown = ALL.clone()
    unknown[:, :, 2] = 0  # the free column of depth 2 beside the edge
    cost = losses.clothing_one_sided(edge, SLEEVE, unknown, 0.3, DEPTH).item()
    assert cost == pytest.approx(0.3 * 4 * 1 / 8)


@pytest.mark.parametrize("centre", [0.0, 0.4, 1.0])
def test_centre_is_the_share_that_grows_with_depth(centre):
    def clothing(prob, depth):
        targets = SimpleNamespace(
            classes=SLEEVE, class_weight=torch.ones(1, SLEEVE.shape[-1]), valid=ALL, person_depth=depth
        )
        settings = Semantics(c="one-sided", fill=0.3, centre=centre)
        return FORMS["c"]["one-sided"](Seen(prob, prob[..., 0], targets, settings)).item()

    depth = CENTRE_DEPTH * DEPTH
    middle, edge = (clothing(limb(*at), depth) for at in ((1, 2), (0, 1)))
    assert middle == pytest.approx(0.3)
    assert edge == pytest.approx(0.3 * (1 - centre) + 0.3 * centre * 1.5)
    assert (middle < edge) == (centre > 0)
    deepest = clothing(limb(0, 1), 100 * depth)
    assert deepest == pytest.approx(0.3 * (1 - centre) + 0.3 * centre * MOST_DEPTH)


def test_clothing_gradient_with_depth():
    generator = torch.Generator().manual_seed(0)
    prob = torch.rand(1, 4, 4, 3, generator=generator, dtype=torch.float64).softmax(-1) * 0.9
    assert torch.autograd.gradcheck(
        lambda p: losses.clothing_one_sided(p, SLEEVE, ALL, 0.3, DEPTH), prob.requires_grad_()
    )


CLOTHING = [losses.clothing_published, losses.clothing_composited, losses.clothing_one_sided]
SILHOUETTE = {
    "iou": losses.silhouette_iou,
    "distance": losses.silhouette_distance,
    "bce": lambda prob, mask: losses.silhouette_bce(prob, mask, ALL.expand_as(mask)),
}


@pytest.mark.parametrize("name", SILHOUETTE)
def test_silhouette_gradients(name):
    generator = torch.Generator().manual_seed(0)
    prob = torch.rand(2, 4, 4, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    mask = SQUARE.expand(2, 4, 4)
    assert torch.autograd.gradcheck(lambda p: SILHOUETTE[name](p, mask), prob.requires_grad_())


@pytest.mark.parametrize("loss", CLOTHING)
def test_clothing_gradients(loss):
    generator = torch.Generator().manual_seed(0)
    prob = torch.rand(2, 4, 4, 3, generator=generator, dtype=torch.float64).softmax(-1) * 0.9
    target = one_hot(SQUARE.expand(2, 4, 4))
    assert torch.autograd.gradcheck(lambda p: loss(p, target, ALL.expand(2, 4, 4)), prob.requires_grad_())


def of_nothing_or_not(name, body, mask):
    if name not in CLOTHING:
        return SILHOUETTE[name](body, mask)
    fill = (0.3,) if name is losses.clothing_one_sided else ()
    return name(torch.stack([0 * body, body, 0 * body], -1), one_hot(mask), ALL, *fill)


@pytest.mark.parametrize("name", [*SILHOUETTE, *CLOTHING])
def test_without_labels_is_zero_without_gradient(name):
    body = (0.7 * SQUARE).clone().requires_grad_()
    value = of_nothing_or_not(name, body, NONE)
    value.sum().backward()
    assert value.item() == 0
    assert torch.equal(body.grad, torch.zeros_like(body))


@pytest.mark.parametrize("name", [*SILHOUETTE, *CLOTHING])
def test_a_body_out_of_sight_gains_nothing_by_leaving(name):
    """A trace of body far from the mask and none at all cost alike; the distance map's loss alone knows no absence."""
    away = NONE.clone()
    away[..., 0, 0] = 1e-9
    gone, far = (of_nothing_or_not(name, body, SQUARE) for body in (NONE, away))
    assert gone.isfinite() and (name == "distance" or gone.item() == pytest.approx(far.item(), abs=1e-6))
    assert name == "distance" or gone > of_nothing_or_not(name, SQUARE, SQUARE)


@pytest.mark.parametrize("loss", CLOTHING)
def test_unknown_pixels_and_neighbours_in_the_batch_change_nothing(loss):
    generator = torch.Generator().manual_seed(1)
    prob = torch.rand(3, 4, 4, 3, generator=generator, dtype=torch.float64).softmax(-1)
    target, valid = one_hot(SQUARE.expand(3, 4, 4).clone()), ALL.expand(3, 4, 4).clone()
    valid[:, 3] = 0
    together = loss(prob, target, valid)
    alone = torch.cat([loss(prob[i : i + 1], target[i : i + 1], valid[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-15)
    changed = prob.clone()
    changed[:, 3] = 0.1
    torch.testing.assert_close(loss(changed, target, valid), together, rtol=0, atol=1e-15)


def test_one_sided_on_the_cpu_is_what_torch_makes_of_it():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(2, 9, 8, *shape, generator=generator, dtype=torch.float64)

    prob = (random(4) - 0.3).clamp(min=-0.01) * (random(1) > 0.3)
    prob[0, :2], prob[1, 0] = (
        0,
        torch.tensor([0.4, 0.4, 0.0, 0.0], dtype=torch.float64),
    )  # empty, and two alike
    prob[1, 1] = torch.tensor([0.0, 0.7, 0.0, 0.0], dtype=torch.float64)  # one alone
    target, valid, depth = random(4), random() * (random() > 0.2), random() + 0.5
    for scale in (1.0, 1e-3):  # the body covers some pixels, and less than one
        pair = [(prob * scale).requires_grad_() for _ in range(2)]
        ours = losses.clothing_one_sided(pair[0], target, valid, 0.3, depth)
        plain = losses.one_sided_in_torch(pair[1], target, valid, 0.3, depth)
        torch.testing.assert_close(ours, plain)
        for loss in (ours, plain):
            (loss * torch.tensor([1.0, 2.0])).sum().backward()
        torch.testing.assert_close(pair[0].grad, pair[1].grad)
