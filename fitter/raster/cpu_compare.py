"""What a rendered picture costs beside its labels, on the CPU: value and gradient in one pass over the pixels.

In torch every product and sum of DSR-C is a picture of its own, there and back.
"""

import math

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from fitter.raster.cpu_fill import kernel
from fitter.raster.cpu_images import as_numpy, each_image, empty


def one_sided(prob, target, valid, depth, fill, floor):
    """`fitter.energy.losses.clothing_one_sided` [B], differentiable in prob [B, H, W, C] alone; target [B, H, W, C],
    valid and depth [B, H, W]; floor: least probability whose logarithm is taken."""
    return _OneSided.apply(prob, target, valid, depth, fill, floor)


class _OneSided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, prob, target, valid, depth, fill, floor):
        prob_np = prob.detach().numpy()  # a part of the channels is read where it lies
        target_np, valid_np, depth_np = (as_numpy(t) for t in (target, valid, depth))
        grad = empty(prob.shape, prob.dtype)
        grad_np = grad.numpy()

        def one(b):
            return one_sided_grad(prob_np[b], target_np[b], valid_np[b], depth_np[b], fill, floor, grad_np[b])

        ctx.grad = grad
        return prob.new_tensor(each_image(one, len(prob)))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        return ctx.grad * grad_out[:, None, None, None], None, None, None, None, None


@kernel
def one_sided_grad(prob, target, valid, depth, fill, floor, grad):
    """One picture's loss; its gradient goes into grad [H, W, C]."""
    height, width, classes = grad.shape
    cost, area, labelled = 0.0, 0.0, False
    log_floor = math.log(floor)  # of most pixels, which the body leaves free
    for row in range(height):
        for col in range(width):
            known = np.float64(valid[row, col])
            total, clothed = 0.0, 0.0
            for c in range(classes):
                total += prob[row, col, c]
            for c in range(1, classes):
                clothed += target[row, col, c]
            labelled |= clothed * known > 0.0
            coverage = max(total, 0.0)
            scale = 1.0 / max(coverage, floor)
            best, ties = floor, 0
            for c in range(classes):
                surface = min(max(prob[row, col, c] * scale, floor), 1.0)
                if surface > best:
                    best, ties = surface, 0
                ties += surface == best
            # by the surface's share of each class, then by its probabilities
            worse, along = math.log(best) if best > floor else log_floor, 0.0
            for c in range(classes):
                raw = prob[row, col, c] * scale
                surface = min(max(raw, floor), 1.0)
                if target[row, col, c] != 0.0:
                    worse -= target[row, col, c] * (math.log(surface) if surface > floor else log_floor)
                slope = 0.0
                if floor <= raw <= 1.0:
                    slope = ((surface == best) / (ties * best) - target[row, col, c] / surface) * scale
                along += slope * raw
                grad[row, col, c] = known * coverage * slope
            free = fill * clothed * depth[row, col]
            cost += known * (coverage * worse + free * (1.0 - coverage))
            area += known * coverage
            if total >= 0.0:
                common = known * (worse - free - (coverage * along if coverage >= floor else 0.0))
                for c in range(classes):
                    grad[row, col, c] += common
    share = 1.0 / max(area, 1.0)
    shift = cost * share * share if area >= 1.0 else 0.0
    if not labelled:
        cost, share, shift = 0.0, 0.0, 0.0
    for row in range(height):
        for col in range(width):
            total = 0.0
            for c in range(classes):
                total += prob[row, col, c]
            less = shift * valid[row, col] if total >= 0.0 else 0.0
            for c in range(classes):
                grad[row, col, c] = grad[row, col, c] * share - less
    return cost * share
