"""The regressor: a photo's crop of one person -> rotations, shape and weak-perspective camera.

HMR (Kanazawa et al., CVPR 2018) with the 6D rotations of SPIN (Kolotouros et al., ICCV 2019): a ResNet (He et al., CVPR
2016) and a head that corrects the mean body in a few rounds. Parameters are named as in torchvision and SPIN, so that
their weights fit: `backbone.` + torchvision's names, `head.` + SPIN's.

Camera frame of the crop: x right, y down, z forward (OpenCV's), so a person who faces the camera has a root rotation of
pi about x. Crops are CROP_PX wide, and the focal length that goes with them is in those pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fitter.energy.losses import CROP_PX
from fitter.energy.starts import FACING_CAMERA
from fitter.label.parse import LIMB_STRIDE, limb_maps
from fitter.see.camera import project_points
from fitter.see.limbs import PARTS
from priors.rotation import rotation_from_6d, rotation_from_axis_angle, sixd_from_rotation
from priors.skeleton import JOINT_NAMES
from regressor.lite import LiftedHead, LiteTrunk, lift_crops

FOCAL_CROP_PX = 5000.0  # focal length of the crop's camera, px of the crop: nearly orthographic
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN_SCALE = 0.9  # s of the mean camera: a crop of 2 / s = 2.2 m
RELAXED_RAD = {  # axis-angle of the mean pose; all other joints 0
    "left_shoulder": (0.0, 0.0, -1.1),
    "right_shoulder": (0.0, 0.0, 1.1),
    "left_elbow": (0.0, -0.3, 0.0),
    "right_elbow": (0.0, 0.3, 0.0),
    "left_knee": (0.15, 0.0, 0.0),
    "right_knee": (0.15, 0.0, 0.0),
}
LIMB_CELL_PX = 8  # px of the crop that a cell of the limb maps covers
HIDDEN = 1024  # features between the head's layers


@dataclass(frozen=True)
class Architecture:
    """Of the backbone; the head follows from it.

    Args:
        bottleneck: blocks of three convolutions that widen fourfold (ResNet-50), else of two (ResNet-18)
        blocks: per stage
        width: channels of the first stage; each further stage has twice as many
        shrink: the crop is first averaged down by this factor
        limbs: the person's limb maps (`limb_input`) are further input channels: they say whom the crop is of and which
            side is left, without which a small network does not learn from a few thousand people
        dropout: probability, between the head's layers; a small network underfits and learns sooner without
        lite: `regressor.lite` in the place of ResNet and head; nothing of the above counts
    """

    bottleneck: bool = True
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = 64
    shrink: int = 1
    limbs: bool = False
    dropout: float = 0.5
    lite: bool = False

    @property
    def features(self) -> int:
        """Numbers that the head gets: 2048 for ResNet-50."""
        return 8 * self.width * (4 if self.bottleneck else 1)


ARCHITECTURES = {
    "resnet50": Architecture(),
    "lite": Architecture(lite=True),
}


@dataclass(frozen=True)
class Hints:
    """What networks may be told of N people beside the picture: limbs [N, 6, h, w]: their `limb_input`; keypoints
    [N, 25, 3]: px of the crop and confidence; lifted [N, LIFTED]: `regressor.lite.lifted_input`."""

    limbs: Tensor
    keypoints: Tensor
    lifted: Tensor

    def to(self, like: Tensor) -> "Hints":
        """The same on the device and in the dtype of `like`."""
        return Hints(*(part.to(like) for part in vars(self).values()))


SHOWN = ("image", "limbs", "shown_px", "to_rays", "down")  # entries of a sample that a network is told


def hints_of(batch: dict[str, Tensor]) -> Hints:
    """Of `regressor.data.load_sample`'s entries, stacked: limbs, shown_px, to_rays, down."""
    return Hints(
        batch["limbs"], batch["shown_px"], lift_crops(batch["shown_px"], batch["to_rays"], batch["down"])
    )


@dataclass(frozen=True)
class Prediction:
    """N people: rotations [N, 24, 3, 3], the root's in the crop's camera; betas [N, 10]; cam [N, 3] (s, tx, ty)."""

    rotations: Tensor
    betas: Tensor
    cam: Tensor

    def to(self, like: Tensor) -> "Prediction":
        """The same on the device and in the dtype of `like`."""
        return Prediction(self.rotations.to(like), self.betas.to(like), self.cam.to(like))


class HMR(nn.Module):
    """Backbone and head; `make_hmr` builds one by name."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.architecture = architecture
        if architecture.lite:
            self.backbone = LiteTrunk()
            self.head = LiftedHead(LiteTrunk.features, *mean_parameters()[1:])
        else:
            self.backbone = ResNet(architecture)
            self.head = Head(architecture.features, architecture.dropout)
        self.to(memory_format=torch.channels_last)  # in which convolutions are faster

    def forward(self, images: Tensor, hints: Hints | None = None, rounds: int = 3) -> Prediction:
        """images [N, 3, P, P], normalised by `to_input`; P = CROP_PX, though a ResNet runs on any P >= 32 * shrink.
        hints: for networks that were trained with them. ValueError: one that is not told."""
        if hints is None and (self.architecture.limbs or self.architecture.lite):
            raise ValueError(
                "HMR: expected the people's hints, which this network was trained with, got None"
            )
        if self.architecture.lite:
            features = self.backbone(from_input(images), hints.limbs, hints.keypoints)
            return self.corrected(features, hints.keypoints, hints.lifted)
        images = images.contiguous(memory_format=torch.channels_last)
        shown = nn.functional.avg_pool2d(images, self.architecture.shrink)
        if self.architecture.limbs:
            maps = nn.functional.interpolate(hints.limbs.to(shown), shown.shape[-2:], mode="bilinear")
            shown = torch.cat([shown, maps], 1)
        return self.head(self.backbone(shown), rounds)

    def corrected(self, features: Tensor, keypoints: Tensor, lifted: Tensor) -> Prediction:
        """`lite`'s answer by the trunk's features and the hints."""
        pose, shape, cam = self.head(features, keypoints, lifted)
        return Prediction(rotation_from_6d(pose.unflatten(1, (24, 6))), shape, cam)


def make_hmr(name: str) -> HMR:
    """An untrained network, `resnet50` or `lite`. ValueError: another name."""
    if name not in ARCHITECTURES:
        raise ValueError(f"backbone: expected one of {', '.join(ARCHITECTURES)}, got {name!r}")
    return HMR(ARCHITECTURES[name])


# Our own, not torchvision's: its wheel on the package index is built for CUDA and does not import beside the pinned CPU
# torch ("operator torchvision::nms does not exist"), and its ResNet cannot be made narrower.
class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions round a shortcut."""

    def __init__(self, channels_in: int, planes: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = convolution(channels_in, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = convolution(planes, planes, 3, 1), nn.BatchNorm2d(planes)
        self.downsample = shortcut(channels_in, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(inner)) + self.downsample(x)).relu()


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions round a shortcut; torchvision's, which strides in the middle one."""

    def __init__(self, channels_in: int, planes: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = convolution(channels_in, planes, 1, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = convolution(planes, planes, 3, stride), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = convolution(planes, 4 * planes, 1, 1), nn.BatchNorm2d(4 * planes)
        self.downsample = shortcut(channels_in, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn1(self.conv1(x)).relu()
        inner = self.bn2(self.conv2(inner)).relu()
        return (self.bn3(self.conv3(inner)) + self.downsample(x)).relu()


def convolution(channels_in: int, channels_out: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)


def shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """What a block adds to its output: its input, projected where the shapes differ."""
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(convolution(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))


class ResNet(nn.Module):
    """Images [N, 3, P, P] -> features [N, architecture.features], averaged over the last map. Without `fc`."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        block, expansion = (Bottleneck, 4) if architecture.bottleneck else (BasicBlock, 1)
        channels_in = 3 + len(PARTS) * architecture.limbs
        self.conv1 = convolution(channels_in, architecture.width, 7, 2)
        self.bn1 = nn.BatchNorm2d(architecture.width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        channels = architecture.width
        for stage, count in enumerate(architecture.blocks):
            planes, layers = architecture.width * 2**stage, []
            for index in range(count):
                layers.append(block(channels, planes, 2 if stage and not index else 1))
                channels = planes * expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.bn1(self.conv1(images)).relu())
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


class Head(nn.Module):
    """Features [N, F] and the parameters so far -> their correction, `rounds` times from the mean parameters."""

    def __init__(self, features: int, dropout: float = 0.5):
        super().__init__()
        pose, shape, cam = mean_parameters()
        self.fc1 = nn.Linear(features + pose.shape[1] + shape.shape[1] + cam.shape[1], HIDDEN)
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.drop2 = nn.Dropout(dropout)
        for name, mean in (("pose", pose), ("shape", shape), ("cam", cam)):
            decoder = nn.Linear(HIDDEN, mean.shape[1])
            nn.init.xavier_uniform_(decoder.weight, gain=0.01)
            self.add_module(f"dec{name}", decoder)
            self.register_buffer(f"init_{name}", mean)

    def forward(self, features: Tensor, rounds: int = 3) -> Prediction:
        count = len(features)
        pose, shape, cam = (
            mean.expand(count, -1) for mean in (self.init_pose, self.init_shape, self.init_cam)
        )
        for _ in range(rounds):
            hidden = self.drop1(self.fc1(torch.cat([features, pose, shape, cam], 1)))
            hidden = self.drop2(self.fc2(hidden))
            pose, shape, cam = (
                pose + self.decpose(hidden),
                shape + self.decshape(hidden),
                cam + self.deccam(hidden),
            )
        return Prediction(rotation_from_6d(pose.reshape(count, 24, 6)), shape, cam)


def mean_parameters() -> tuple[Tensor, Tensor, Tensor]:
    """Where the head starts: pose [1, 144] as 6D, shape [1, 10], camera [1, 3].

    Ours, in place of SPIN's licensed file: a relaxed stand, upright and facing the camera, mean shape. A checkpoint
    brings its own (`init_pose`, `init_shape`, `init_cam`).
    """
    pose = torch.zeros(24, 3)
    for name, axis_angle in RELAXED_RAD.items():
        pose[JOINT_NAMES.index(name)] = torch.tensor(axis_angle)
    rotations = rotation_from_axis_angle(pose)
    rotations[0] = torch.tensor(FACING_CAMERA)
    return (
        sixd_from_rotation(rotations).reshape(1, 144),
        torch.zeros(1, 10),
        torch.tensor([[MEAN_SCALE, 0, 0]]),
    )


def limb_input(keypoints_px: np.ndarray) -> np.ndarray:
    """BODY_25 keypoints [25, 3] in px of the crop -> [6, 28, 28] float32 in 0..1: nearness to each of the person's
    parts (`fitter.label.parse.limb_maps`); all 0 without any keypoint."""
    cells = CROP_PX // LIMB_CELL_PX
    if not (keypoints_px[:, 2] > 0).any():
        return np.zeros((len(PARTS), cells, cells), np.float32)
    to_crop = np.eye(2, 3) * LIMB_CELL_PX / LIMB_STRIDE
    return limb_maps(keypoints_px, [], to_crop, cells)[: len(PARTS)]


def to_input(crops: Tensor) -> Tensor:
    """RGB crops [N, P, P, 3] in 0..1 -> the network's input [N, 3, P, P], normalised as ImageNet's."""
    mean, std = (crops.new_tensor(values) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((crops - mean) / std).permute(0, 3, 1, 2).contiguous()


def from_input(images: Tensor) -> Tensor:
    """`to_input`'s [N, 3, P, P] -> RGB in 0..255."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return 255 * (images * std + mean)


def crop_translation(cam: Tensor) -> Tensor:
    """cam [N, 3] (s, tx, ty) -> translation [N, 3] m in the crop's camera: [tx, ty, 2 f / (s * 224)], f = 5000.

    At that distance a metre is s * 112 px of the crop. Added after posing, as SMPL's `transl`.
    """
    depth_m = 2 * FOCAL_CROP_PX / (CROP_PX * cam[:, 0] + 1e-9)
    return torch.stack([cam[:, 1], cam[:, 2], depth_m], 1)


def project_crop(points_m: Tensor, cam: Tensor) -> Tensor:
    """points_m [N, K, 3] m as posed, root rotation included; cam [N, 3] -> [N, K, 2] px of the crop, 0..224."""
    focal_px, center_px = (points_m.new_full((len(cam), 2), px) for px in (FOCAL_CROP_PX, CROP_PX / 2))
    return project_points(points_m + crop_translation(cam)[:, None], focal_px, center_px)


def full_translation(
    cam: Tensor, square_center_px: Tensor, square_side_px: Tensor, focal_px: Tensor, center_px: Tensor
) -> Tensor:
    """cam [N, 3] of a crop -> translation [N, 3] m in the photo's own camera (CLIFF, Li et al., ECCV 2022).

    square_center_px [N, 2], square_side_px [N]: the crop in the photo; focal_px, center_px [N, 2]: the photo's camera.
    The body keeps its size and place in the picture, at the distance that the true focal length asks for. The same
    picture exactly, where that is 5000 / 224 of the square's side and the square lies at the camera's centre;
    elsewhere the true camera's perspective takes the place of the crop's. The root's rotation stays as predicted, as in
    CLIFF: towards the photo's edge the ray to the person turns away from z, which an optimiser has to make good.
    """
    depth_m = 2 * focal_px.mean(1) / (square_side_px * cam[:, 0] + 1e-9)
    beside_m = (square_center_px - center_px) * depth_m[:, None] / focal_px
    return torch.cat([cam[:, 1:] + beside_m, depth_m[:, None]], 1)
