"""Every loss term that the fitter and the regressor share: pure, weightless, one value per person.

B people, K keypoints, H, W pixels, C classes. Equations are those of the DSR paper (ICCV 2021) and of SMPLify
(ECCV 2016). `prob` is a rendered probability, never a logit. A person without labels gets 0 and no gradient; a body
that is nowhere in the picture has no gradient either, but pays what it leaves uncovered.
"""

import torch
from torch import Tensor

from fitter.raster import cpu_compare

CROP_PX = 224  # the crop that SPIN's and DSR's published weights and sigmas refer to
FLOOR = 1e-3  # probabilities are held above it before a logarithm; antialiasing leaves [0, 1] slightly


def keypoint_energy(
    points_px: Tensor, keypoints_px: Tensor, confidence: Tensor, box_px: Tensor, sigma: float
) -> Tensor:
    """Robust reprojection energy: sum_k c_k^2 rho(e_k), rho(e) = s^2 e^2 / (s^2 + e^2) per coordinate.

    points_px, keypoints_px: [B, K, 2]; confidence: [B, K], >= 0, 0 = missing; box_px: [B] longer side of the
    person's box. Residuals are in units of a 224 px crop of that box, as is sigma (SPIN: 100). Returns [B].
    Geman and McClure (1987); SMPLify eq. 2.
    """
    residual = (points_px - keypoints_px) * (CROP_PX / box_px)[:, None, None]
    squared = residual * residual
    robust = sigma**2 * squared / (sigma**2 + squared)
    return (confidence**2 * robust.sum(-1)).sum(-1)


def silhouette_iou(prob: Tensor, mask: Tensor) -> Tensor:
    """Soft-IoU loss, DSR eq. 3: 1 - sum P G / sum (P + G - P G).

    prob, mask: [B, H, W] in 0..1; a mask may be soft. Returns [B] in 0..1; 0 where the mask is empty, 1 without a
    gradient where the body is nowhere in the picture.
    """
    both = (prob * mask).sum((1, 2))
    either = (prob + mask - prob * mask).sum((1, 2))
    present = (mask > 0).flatten(1).any(1)
    return torch.where(present, 1 - both / either.clamp(min=FLOOR), torch.zeros_like(both))


def silhouette_distance(prob: Tensor, distance_px: Tensor) -> Tensor:
    """Soft distance-map loss, DSR eq. 2: sum R d(G) / (sum R)^(3/2).

    prob: [B, H, W] in 0..1; distance_px: [B, H, W], each pixel's distance to the mask, 0 inside, all 0 without a
    mask. Returns [B], >= 0.
    """
    area = prob.sum((1, 2))
    present = (prob > 0).flatten(1).any(1)
    safe = torch.where(present, area, torch.ones_like(area)).clamp(min=FLOOR)
    return torch.where(present, (prob * distance_px).sum((1, 2)) / safe**1.5, torch.zeros_like(area))


def silhouette_bce(coverage: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """Full-body baseline of Table 1 (DSR-FB): per-pixel binary cross-entropy, mean over the valid pixels.

    coverage, mask, valid: [B, H, W] in 0..1. Returns [B], >= 0.
    """
    inside = coverage.clamp(FLOOR, 1 - FLOOR)
    loss = -(mask * inside.log() + (1 - mask) * (1 - inside).log())
    present = (mask > 0).flatten(1).any(1)
    return torch.where(present, _mean(loss, valid), torch.zeros_like(loss[:, 0, 0]))


def clothing_published(prob: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """DSR-C as published (eq. 4): the rendered class probabilities pass through a log-softmax, then NLL.

    prob: [B, H, W, C], rendered class probabilities, 0 outside the body; target: [B, H, W, C], the label's class
    probabilities, class 0 the background; valid: [B, H, W], 0 = unknown. Mean over valid pixels, [B].
    """
    loss = -(target * prob.log_softmax(-1)).sum(-1)
    return _where_labelled(_mean(loss, valid), target, valid)


def clothing_composited(prob: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """DSR-C on a whole picture: what the body leaves free is background, so classes sum to 1; then NLL.

    Arguments and result as clothing_published.
    """
    free = (1 - prob.sum(-1, keepdim=True)).clamp(min=0)
    whole = torch.cat([prob[..., :1] + free, prob[..., 1:]], -1).clamp(FLOOR, 1)
    return _where_labelled(_mean(-(target * whole.log()).sum(-1), valid), target, valid)


def clothing_one_sided(
    prob: Tensor, target: Tensor, valid: Tensor, fill: float = 0.0, depth: Tensor | None = None
) -> Tensor:
    """DSR-C as the text reads ("inside"): only where the body is, against the best that surface point could score.

    fill: what a pixel of the person costs that the body leaves free; without it a thin body is always inside. depth
    [B, H, W]: factor of that cost, growing with a pixel's distance from the outline: where a margin is left on both
    sides of a limb, the wider one costs more, so the limb comes to lie in the middle of its sleeve or trouser leg. So
    that a thin body is no cheaper than a stout one, the mean is over the body's pixels, not over the crop's. Other
    arguments and result as clothing_published. Gradients reach prob alone.
    """
    depth = torch.ones_like(valid) if depth is None else depth
    if prob.device.type == "cpu":
        return cpu_compare.one_sided(prob, target, valid, depth, fill, FLOOR)
    return one_sided_in_torch(prob, target, valid, fill, depth)


def one_sided_in_torch(prob: Tensor, target: Tensor, valid: Tensor, fill: float, depth: Tensor) -> Tensor:
    """`clothing_one_sided`, wherever the tensors are."""
    coverage = prob.sum(-1).clamp(min=0)
    surface = (prob / coverage[..., None].clamp(min=FLOOR)).clamp(FLOOR, 1)
    worse = surface.amax(-1).log() - (target * surface.log()).sum(-1)
    area = (coverage * valid).sum((1, 2)).clamp(min=1)
    free = fill * target[..., 1:].sum(-1) * (1 - coverage) * depth
    return _where_labelled(((coverage * worse + free) * valid).sum((1, 2)) / area, target, valid)


def _mean(loss: Tensor, valid: Tensor) -> Tensor:
    return (loss * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)


def _where_labelled(loss: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """0 for people without any valid pixel that is labelled as theirs."""
    labelled = (target[..., 1:].sum(-1) * valid > 0).flatten(1).any(1)
    return torch.where(labelled, loss, torch.zeros_like(loss))
