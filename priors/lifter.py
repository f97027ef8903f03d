"""The lifter: what one picture's keypoints say about depth and pose, as a distribution learned from motion capture.

A small network reads viewing rays of the keypoints, not pixels, in a frame that looks at the person with gravity
upright in the picture; so it knows the camera, and neither focal length nor place in the picture matters. It gives

- for each of PAIRS of keypoints how much farther from the camera the second lies than the first, as a mixture of two:
  the nearer and the farther way that a limb may point. Their widths grow where keypoints are missing or contradict;
- the root's orientation and the joints' rotations, where a fit may begin.

Mirrored keypoints give the mirrored answer: both are asked and averaged. Learned by `python -m
synth.pose_priors.lifter`. Keypoints are numbered as BODY_25, landmarks as BlazePose's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, softplus

from priors.rotation import rotation_from_6d
from priors.skeleton import MIRROR_JOINTS

DEFAULT_PATH = Path(__file__).parent / "data" / "lifter.npz"
# fmt: off
MIRROR_KEYPOINTS = (0, 1, 5, 6, 7, 2, 3, 4, 8, 12, 13, 14, 9, 10, 11, 16, 15, 18, 17, 22, 23, 24, 19, 20, 21)
LIMBS = {  # keypoints at a limb's ends
    "left upper arm": (5, 6), "right upper arm": (2, 3), "left forearm": (6, 7), "right forearm": (3, 4),
    "left thigh": (12, 13), "right thigh": (9, 10), "left shank": (13, 14), "right shank": (10, 11),
}
PAIRS = (
    *LIMBS.values(), (8, 1), (1, 0), (1, 5), (1, 2), (8, 12), (8, 9), (14, 19), (11, 22),
    (8, 14), (8, 11), (1, 14), (1, 11), (5, 7), (2, 4),
)
LANDMARKS = (0, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32)  # of 33, whose depth is read
_MIRROR_LANDMARKS = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
# fmt: on
INPUTS = 50 + 25 + 17 + 1 + 6
PAIR_NUMBERS = 5
OUTPUTS = PAIR_NUMBERS * len(PAIRS) + 24 * 6
ROWS = 16  # rows are padded to a multiple of it: in other company products, and what is left over of whole vectors in
# exponentials, are rounded otherwise
LEAST_M, LARGEST_M = 0.01, 0.6  # of a width
SEEN_FROM, SEEN_AT = 0.05, 0.3  # confidence from which a keypoint is looked at, and from which it is believed


@dataclass(frozen=True)
class Seen:
    """What the lifter reads of N people, camera axes (x right, y down, z forward).

    rays [N, 25, 2]: (x, y) / z of the keypoints' viewing rays; confidence [N, 25], 0 = missing; down [N, 3] unit:
    where gravity points, as far as known; tilt_spread [N, 2] rad: how far pitch and roll may be off; precise [N] bool:
    keypoints as OpenPose or COCO define them (else the shipped detector's); landmarks_m [N, 33]: BlazePose's depth
    between the hips and each landmark, nan where there are none.
    """

    rays: Tensor
    confidence: Tensor
    down: Tensor
    tilt_spread: Tensor
    precise: Tensor
    landmarks_m: Tensor


@dataclass(frozen=True)
class Lifted:
    """The answer for N people.

    axis [N, 3]: the direction, in camera axes, along which depth is measured; near, far [N, P] m: both ways of PAIRS,
    near < far; near_width, far_width [N, P] m; log_odds [N, P] of far against near; orientation [N, 3, 3]: the root's,
    body to camera axes; rotations [N, 23, 3, 3] of joints 1..23.
    """

    axis: Tensor
    near: Tensor
    far: Tensor
    near_width: Tensor
    far_width: Tensor
    log_odds: Tensor
    orientation: Tensor
    rotations: Tensor


def depth_spread(lifted: Lifted) -> Tensor:
    """How far the answer leaves each of PAIRS' depths open, both ways and their widths together, [N, P] m."""
    far = torch.sigmoid(lifted.log_odds)
    within = (1 - far) * lifted.near_width.square() + far * lifted.far_width.square()
    return (within + far * (1 - far) * (lifted.far - lifted.near).square()).sqrt()


def features(seen: Seen) -> tuple[Tensor, Tensor]:
    """The network's inputs [N, INPUTS], and the frame that they are in, [N, 3, 3]: camera axes -> x right, y where
    gravity shows downward, z towards the person."""
    weight = ((seen.confidence - SEEN_FROM) / (SEEN_AT - SEEN_FROM)).clamp(0, 1)
    share = weight + 1e-6
    share = (share / share.sum(1, keepdim=True))[..., None]
    rays = torch.cat([seen.rays, torch.ones_like(seen.rays[..., :1])], -1)
    rays = rays / rays.norm(dim=-1, keepdim=True)
    z = torch.nn.functional.normalize((share * rays).sum(1), dim=-1)
    y = seen.down - (seen.down * z).sum(1, keepdim=True) * z
    y = y + 1e-3 * z.new_tensor([0.0, 1.0, 0.0])  # who is seen from straight above
    y = torch.nn.functional.normalize(y - (y * z).sum(1, keepdim=True) * z, dim=-1)
    frame = torch.stack([torch.linalg.cross(y, z, dim=-1), y, z], 1)
    turned = (rays[:, :, None] * frame[:, None]).sum(-1)
    flat = turned[..., :2] / turned[..., 2:].clamp(min=0.05)
    middle = (share * flat).sum(1, keepdim=True)
    size = (share * (flat - middle).square()).sum((1, 2)).sqrt().clamp(min=1e-4)
    flat = ((flat - middle) / size[:, None, None]).clamp(-6, 6) * (weight > 0)[..., None]
    known = seen.landmarks_m.isfinite().all(1, keepdim=True)
    depth = torch.where(known, seen.landmarks_m, 0.0)[:, list(LANDMARKS)]
    rise = (seen.down * z).sum(1)
    about = torch.stack([2 * rise, size.log() + 2, *(10 * seen.tilt_spread).unbind(1), seen.precise.to(z)], 1)
    others = torch.stack([weight.mean(1)], 1)
    return torch.cat([flat.flatten(1), weight, 2 * depth, known.to(z), about, others], 1), frame


def _mirrors() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Order and sign of inputs and outputs that mirror them left to right."""
    order, sign = [], []
    for keypoint in MIRROR_KEYPOINTS:
        order += [2 * keypoint, 2 * keypoint + 1]
        sign += [-1.0, 1.0]
    order += [50 + keypoint for keypoint in MIRROR_KEYPOINTS] + [75 + one for one in _MIRROR_LANDMARKS]
    order += range(92, INPUTS)
    sign += [1.0] * (INPUTS - 50)
    pairs = [PAIRS.index((MIRROR_KEYPOINTS[a], MIRROR_KEYPOINTS[b])) for a, b in PAIRS]
    out = [PAIR_NUMBERS * pair + number for pair in pairs for number in range(PAIR_NUMBERS)]
    start = len(out)
    out += [start + 6 * joint + entry for joint in MIRROR_JOINTS for entry in range(6)]
    out_sign = [1.0] * start + [
        1.0,
        -1.0,
        -1.0,
        1.0,
        -1.0,
        1.0,
    ] * 24  # of a rotation's rows, first two columns
    return torch.tensor(order), torch.tensor(sign), torch.tensor(out), torch.tensor(out_sign)


def _padded(part: Tensor) -> Tensor:
    """Rows [N, ...], the first one again and again up to a multiple of ROWS."""
    return torch.cat([part, part[:1].expand(-len(part) % ROWS, *part.shape[1:])])


class Trunk(nn.Module):
    """Residual network [N, INPUTS] -> [N, OUTPUTS]."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.first = nn.Linear(INPUTS, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.ins = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for norm, inside, outside in zip(self.norms, self.ins, self.outs, strict=True):
            x = x + outside(gelu(inside(norm(x))))
        return self.last(gelu(x))


class Lifter(nn.Module):
    """A trunk asked twice, about what is seen and about its mirror image."""

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk
        for name, value in zip(("order", "sign", "out_order", "out_sign"), _mirrors(), strict=True):
            self.register_buffer(name, value, persistent=False)

    def raw(self, inputs: Tensor) -> Tensor:
        """[N, OUTPUTS] of features [N, INPUTS]."""
        count, padded = len(inputs), _padded(inputs)
        mirrored = padded[:, self.order] * self.sign.to(padded)
        one, other = self.trunk(torch.cat([padded, mirrored])).chunk(2)
        return (0.5 * (one + other[:, self.out_order] * self.out_sign.to(other)))[:count]

    def forward(self, seen: Seen) -> Lifted:
        """Raises ValueError for other shapes."""
        if seen.rays.shape[1:] != (25, 2) or seen.landmarks_m.shape[1:] != (33,):
            raise ValueError(
                "lifter: expected rays [N, 25, 2] and landmarks [N, 33], got "
                f"{tuple(seen.rays.shape)} and {tuple(seen.landmarks_m.shape)}"
            )
        count = len(seen.rays)
        inputs, frame = features(Seen(*(_padded(part) for part in vars(seen).values())))
        found = answer(self.raw(inputs), frame)
        return Lifted(*(part[:count] for part in vars(found).values()))


def answer(raw: Tensor, frame: Tensor) -> Lifted:
    """The network's numbers [N, OUTPUTS] as a distribution, in camera axes; frame as of `features`."""
    middle, apart, near_width, far_width, log_odds = (
        raw[:, : PAIR_NUMBERS * len(PAIRS)].unflatten(1, (len(PAIRS), PAIR_NUMBERS)).unbind(-1)
    )
    near_width, far_width = ((width - 3).exp().clamp(LEAST_M, LARGEST_M) for width in (near_width, far_width))
    half = 0.1 * softplus(apart)
    turned = rotation_from_6d(raw[:, PAIR_NUMBERS * len(PAIRS) :].unflatten(1, (24, 6)))
    return Lifted(
        axis=frame[:, 2],
        near=0.1 * middle - half,
        far=0.1 * middle + half,
        near_width=near_width,
        far_width=far_width,
        log_odds=log_odds,
        orientation=frame.transpose(1, 2) @ turned[:, 0],
        rotations=turned[:, 1:],
    )


def depth_energy(lifted: Lifted, difference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """-log probability of PAIRS' differences in depth [N, P] m, with its first derivative and a positive second one.

    Up to a constant that makes it positive: `least_energy` is what is missing. Each way's is a hyperbola, quadratic
    within a width and linear beyond: wrong by far costs little more.
    """
    count = len(difference)
    difference = _padded(difference)
    lifted = Lifted(*(_padded(part) for part in vars(lifted).values()))
    values, slopes, bends = [], [], []
    log_share = (
        torch.nn.functional.logsigmoid(-lifted.log_odds),
        torch.nn.functional.logsigmoid(lifted.log_odds),
    )
    ways = (lifted.near, lifted.near_width), (lifted.far, lifted.far_width)
    for share, (middle, width) in zip(log_share, ways, strict=True):
        away = (difference - middle) / width
        root = (1 + away.square()).sqrt()
        values.append(root - 1 + width.log() - share)
        slopes.append(away / root / width)
        bends.append(1 / (root * width.square()))
    responsible = torch.softmax(-torch.stack(values), 0)
    value = -torch.logsumexp(-torch.stack(values), 0) - least_energy(lifted)
    slope = (responsible * torch.stack(slopes)).sum(0)
    bend = (responsible * torch.stack(bends)).sum(0)
    return value[:count], slope[:count], bend[:count]


def least_energy(lifted: Lifted) -> Tensor:
    """What no -log probability of PAIRS' depths is less than, [N, P]: both ways at their likeliest at once."""
    near = torch.nn.functional.logsigmoid(-lifted.log_odds) - lifted.near_width.log()
    far = torch.nn.functional.logsigmoid(lifted.log_odds) - lifted.far_width.log()
    return -torch.logaddexp(near, far)


def load_lifter(path: str | Path | None = None) -> Lifter:
    """The shipped lifter, or another's file. FileNotFoundError where there is none."""
    path = Path(path) if path is not None else DEFAULT_PATH
    if not path.is_file():
        raise FileNotFoundError(f"lifter {path}: no such file; python -m synth.pose_priors.lifter writes one")
    with np.load(path, allow_pickle=False) as data:
        weights = {
            name: torch.from_numpy(data[name].astype(np.float32)) for name in data.files if "." in name
        }
    blocks = sum(name.startswith("norms.") for name in weights) // 2
    trunk = Trunk(weights["first.weight"].shape[0], blocks)
    trunk.load_state_dict(weights)
    return Lifter(trunk).eval()
