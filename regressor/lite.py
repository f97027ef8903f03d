"""The network that ships: an EfficientNet-Lite2 that looks at the picture and corrects the lifter's answer.

The trunk (Tan and Le 2019, "lite" variant, without its last stage) is that of the shipped clothing parser, batch norms
folded: it has learned where people's parts are from human-made labels, and is told the person's limbs as there. The
head gets the trunk's features at each keypoint and half-way along the limbs, those of the whole crop, the keypoints
and all that the lifter (`priors.lifter`) makes of them; it begins at the lifter's orientation and pose, which an
untrained head gives as they are.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fitter.energy.losses import CROP_PX
from fitter.label.parse import LIMB_CHANNELS, LIMB_STRIDE
from fitter.people import lifter_like
from priors.lifter import LIMBS, PAIRS, SEEN_AT, SEEN_FROM, Lifted, Seen
from priors.rotation import sixd_from_rotation

SIDE = 128  # px that the crop is averaged down to
STEM = 32
STAGES = (  # blocks, kernel, stride, expansion, channels: Lite0's, 1.1 times as wide and 1.2 times as deep
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 48),
    (4, 3, 2, 6, 88),
    (4, 5, 1, 6, 120),
    (5, 5, 2, 6, 208),
)
LIMBS_AFTER = 3  # block after which the limb maps come in
FROZEN = 6  # last block that training leaves as the parser has it; EFT does not
TAPPED, TAPPED_CHANNELS, POINT_CHANNELS = 14, 120, 16  # block (stride 16) that is sampled at points
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0  # of the parser's input in 0..255
HIDDEN = 512
DROPOUT = 0.3  # of features: there are more of them than of people
ROTATIONS = 24 * 6
LIFTED = ROTATIONS + 5 * len(PAIRS)


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project; batch norms folded."""

    def __init__(self, before: int, channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = before * expansion
        self.expands, self.skips = expansion > 1, stride == 1 and before == channels
        if self.expands:
            self._expand_conv = nn.Conv2d(before, inner, 1)
        even = kernel // 2 if stride == 1 else 0
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, even, groups=inner)
        self._project_conv = nn.Conv2d(inner, channels, 1)
        low = (kernel - stride) // 2  # TensorFlow's "same" padding at even sizes
        self.padding = (low, kernel - stride - low) * 2 if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._expand_conv(x)) if self.expands else x
        inner = F.pad(inner, self.padding) if self.padding else inner
        inner = self._project_conv(F.relu6(self._depthwise_conv(inner)))
        return x + inner if self.skips else inner


class LiteTrunk(nn.Module):
    """Crops and keypoints -> features [N, `features`]: at each point POINT_CHANNELS, then the last map's mean."""

    features = (25 + len(LIMBS)) * POINT_CHANNELS + STAGES[-1][-1]

    def __init__(self):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2)
        blocks, before = [], STEM
        for count, kernel, stride, expansion, channels in STAGES:
            for number in range(count):
                blocks.append(Block(before, channels, kernel, stride if number == 0 else 1, expansion))
                before = channels
        self._blocks = nn.ModuleList(blocks)
        self.limbs = nn.Conv2d(LIMB_CHANNELS, STAGES[1][-1], 3, padding=1)
        self.points = nn.Linear(TAPPED_CHANNELS, POINT_CHANNELS)

    def forward(self, crops: Tensor, limbs: Tensor, keypoints: Tensor) -> Tensor:
        """crops [N, 3, P, P] in 0..255; limbs [N, 6, h, w]: `regressor.hmr.limb_input`; keypoints [N, 25, 3] px of
        the crop, P = CROP_PX, and confidence."""
        return self.features_of(*self.look(crops, limbs, keypoints), keypoints)

    def look(self, crops: Tensor, limbs: Tensor, keypoints: Tensor) -> tuple[Tensor, Tensor]:
        """The maps' values at points [N, 33, TAPPED_CHANNELS], and the last map's mean [N, 208]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._conv_stem.weight.requires_grad):
            small = F.interpolate(crops, (SIDE, SIDE), mode="bilinear", antialias=True)
            small = ((small - PIXEL_MEAN) / PIXEL_STD).contiguous(memory_format=torch.channels_last)
            maps = F.interpolate(limbs, (SIDE // LIMB_STRIDE,) * 2, mode="bilinear")
            maps = F.pad(maps, (0, 0, 0, 0, 0, LIMB_CHANNELS - maps.shape[1]))  # nobody else is told
            x = F.relu6(self._conv_stem(F.pad(small, (0, 1, 0, 1))))
            for number, block in enumerate(self._blocks[: FROZEN + 1]):
                x = block(x)
                if number == LIMBS_AFTER:
                    x = x + self.limbs(maps)
        for number, block in enumerate(self._blocks[FROZEN + 1 :], FROZEN + 1):
            x = block(x)
            if number == TAPPED:
                tapped = x
        grid = looked_at(keypoints)[0][:, :, None] * (2 / CROP_PX) - 1
        sampled = F.grid_sample(tapped, grid.to(tapped), align_corners=False)[..., 0]
        return sampled.transpose(1, 2), x.mean((2, 3))

    def features_of(self, sampled: Tensor, pooled: Tensor, keypoints: Tensor) -> Tensor:
        """[N, `features`] of what `look` gives; nothing of points that are not seen."""
        points = F.layer_norm(self.points(sampled), (POINT_CHANNELS,)) * looked_at(keypoints)[1][..., None]
        return torch.cat([points.flatten(1), F.layer_norm(pooled, (pooled.shape[1],))], 1)

    def freeze(self, frozen: bool) -> None:
        """Whether stem, limbs and the blocks up to FROZEN are left as they are by training."""
        for part in (self._conv_stem, self.limbs, *self._blocks[: FROZEN + 1]):
            part.requires_grad_(not frozen)


def looked_at(keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Keypoints [N, 25, 3] -> points [N, 33, 2], the keypoints and the limbs' middles, and what they are worth
    [N, 33] in 0..1."""
    ends = torch.tensor(list(LIMBS.values()), device=keypoints.device).T
    points, weight = keypoints[..., :2], worth(keypoints[..., 2])
    middles = (points[:, ends[0]] + points[:, ends[1]]) / 2
    return torch.cat([points, middles], 1), torch.cat([weight, weight[:, ends].amin(1)], 1)


def worth(confidence: Tensor) -> Tensor:
    """How much keypoints of a confidence are believed, 0..1: as the lifter does."""
    return ((confidence - SEEN_FROM) / (SEEN_AT - SEEN_FROM)).clamp(0, 1)


class LiftedHead(nn.Module):
    """Features, keypoints and the lifter's answer -> pose [N, 144] as 6D, shape [N, 10], camera [N, 3]."""

    def __init__(self, features: int, shape: Tensor, cam: Tensor):
        super().__init__()
        self.first = nn.Linear(features + 75 + LIFTED, HIDDEN)
        self.drop, self.norm = nn.Dropout(DROPOUT), nn.LayerNorm(HIDDEN)
        self.inside, self.outside = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, ROTATIONS + 13)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.register_buffer("init_shape", shape)
        self.register_buffer("init_cam", cam)

    def forward(self, features: Tensor, keypoints: Tensor, lifted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight = worth(keypoints[..., 2:])
        places = weight * (keypoints[..., :2] * (2 / CROP_PX) - 1).clamp(-2, 2)
        x = self.first(torch.cat([self.drop(features), places.flatten(1), weight.flatten(1), lifted], 1))
        x = x + self.outside(F.gelu(self.inside(self.norm(x))))
        pose, shape, cam = self.last(F.gelu(x)).split([ROTATIONS, 10, 3], 1)
        return lifted[:, :ROTATIONS] + pose, self.init_shape + shape, self.init_cam + cam


def lifted_input(lifted: Lifted) -> Tensor:
    """[N, LIFTED] of the lifter's answer: orientation and pose as 6D, then the depths' mixtures, scaled to about 1."""
    rotations = torch.cat([lifted.orientation[:, None], lifted.rotations], 1)
    depths = (
        3 * lifted.near,
        3 * lifted.far,
        5 * lifted.near_width,
        5 * lifted.far_width,
        0.2 * lifted.log_odds,
    )
    return torch.cat([sixd_from_rotation(rotations).flatten(1), *depths], 1)


@torch.no_grad()
def lift_crops(keypoints: Tensor, to_rays: Tensor, down: Tensor) -> Tensor:
    """`lifted_input` of people: keypoints [N, 25, 3] px of the crop; to_rays [N, 2, 3]: such px -> (x, y) / z of rays,
    camera axes; down [N, 5]: `regressor.data.gravity`. Whoever has a neck was seen by OpenPose."""
    rays = keypoints[..., :2] @ to_rays[:, :, :2].transpose(1, 2) + to_rays[:, None, :, 2]
    seen = Seen(
        rays=rays,
        confidence=keypoints[..., 2],
        down=down[:, :3],
        tilt_spread=down[:, 3:],
        precise=keypoints[:, 1, 2] > 0,
        landmarks_m=rays.new_full((len(rays), 33), torch.nan),
    )
    return lifted_input(lifter_like(rays.dtype, rays.device)(seen))


def parser_trunk(path: Path) -> dict[str, Tensor]:
    """The trunk's tensors by their names here, of an exported parser. ImportError: the package onnx is missing."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ImportError(
            "start parser: expected the package onnx to read it; pip install -e '.[build]'"
        ) from error
    stored = {
        tensor.name.removeprefix("net.").removesuffix("_half"): numpy_helper.to_array(tensor)
        for tensor in onnx.load(str(path)).graph.initializer
    }
    names = [name for name in LiteTrunk().state_dict() if not name.startswith("points.")]
    return {name: torch.tensor(stored[name].astype(np.float32)) for name in names}
