"""Pictures of fits: the photo, the bodies over it, and every body from the side."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from fitter.raster.rasterizer import NEAR_M, Rasterizer, clip_from_camera, make_rasterizer
from fitter.write.layout import PANEL_PX, PAPER, panels, write_captions
from fitter.write.result import Fit
from priors.clothing import PALETTE
from priors.skeleton import JOINT_NAMES

SKIN_RGB = (
    (0.65, 0.74, 0.86),
    (0.93, 0.72, 0.60),
    (0.72, 0.84, 0.66),
    (0.86, 0.72, 0.85),
    (0.90, 0.86, 0.60),
)
LIGHT = np.array([0.25, -0.45, -0.86])
PALETTE_RGB = (PALETTE / 255).astype(np.float32)
SIDE_DISTANCE_M = 6.0
REACH_M = 1.25  # above and below the pelvis, in a clip's side views
OVER, FAINT = 0.85, 0.3  # share of a body's colour over the photo; of that, what is left for limbs not seen
PLUMB_RGB = (200, 60, 60)
ANKLES = [JOINT_NAMES.index(f"{side}_ankle") for side in ("left", "right")]


def overlay(
    image_rgb: np.ndarray,
    fits: Sequence[Fit],
    faces: np.ndarray,
    clothes: "Clothes | None" = None,
    seen: np.ndarray | None = None,
) -> np.ndarray:
    """The photo, bodies over it, and every body from the side, in the people's order; uint8 [H, W, 3], at most 2520 px
    wide (`fitter.write.layout`).

    With clothes below them the labels over the photo, and over those the bodies in their rendered classes. seen: [P, V]
    in 0..1, how far each vertex belongs to limbs that the photo shows (`vertices_seen`); the others are drawn faintly.
    """
    at = panels(image_rgb.shape[1::-1], len(fits), clothes is not None)
    width, height = at.photo[2] - at.photo[0], at.photo[3] - at.photo[1]
    photo = _resize(image_rgb, (width, height))
    if not fits:
        return photo
    scale = width / image_rgb.shape[1], height / image_rgb.shape[0]
    vertices = np.stack([fit.vertices_cam for fit in fits])
    focal, center = fits[0].focal_px * scale, fits[0].center_px * scale
    skin = [SKIN_RGB[person % len(SKIN_RGB)] for person in range(len(fits))]
    colors = np.broadcast_to(np.array(skin)[:, None], vertices.shape)
    if clothes is not None:
        colors = np.concatenate([colors, clothes.vertex_rgb], -1)
    seen = np.ones(vertices.shape[:2]) if seen is None else seen
    front, covered = paint(vertices, faces, focal, center, (height, width), colors, _share(seen))
    share = OVER * front[..., -1]
    parts = [(at.photo, photo), (at.over, _blend(photo, covered, front[..., :3], share))]
    for person, (fit, box) in enumerate(zip(fits, at.sides, strict=True)):
        size = box[3] - box[1], box[2] - box[0]
        parts.append((box, side_view(fit, faces, size, skin[person], seen[person])))
    shown: list[int] = []
    if clothes is not None:
        ids = _nearest(clothes.ids, (width, height))
        labels = _blend(photo, ids > 0, PALETTE_RGB[ids], 0.6)
        parts += [(at.labels, labels), (at.classes, _blend(labels, covered, front[..., 3:6], share))]
        shown = sorted({*map(int, np.unique(ids)), *_labels_of(clothes.vertex_rgb)} - {0})
    picture = np.full((*at.size[::-1], 3), PAPER, np.uint8)
    for (x0, y0, x1, y1), part in parts:
        picture[y0:y1, x0:x1] = part
    return write_captions(picture, at, [fit.person for fit in fits], shown)


def _labels_of(rgb: np.ndarray) -> set[int]:
    """The labels whose colours [..., 3] in 0..1 are there."""
    colors = {tuple(color): label for label, color in enumerate(PALETTE.tolist())}
    found = np.unique(np.round(255 * rgb.reshape(-1, 3)).astype(int), axis=0)
    return {colors[color] for color in map(tuple, found.tolist()) if color in colors}


@dataclass(frozen=True)
class Clothes:
    """What the DSR terms compared: ids [H, W] labels of the photo, 0 where there are none; vertex_rgb [P, V, 3] in
    0..1, the colour of every vertex's most likely label."""

    ids: np.ndarray
    vertex_rgb: np.ndarray


def _share(seen: np.ndarray) -> np.ndarray:
    """Of a vertex's colour in the picture, by how far it is seen; the same shape."""
    return FAINT + (1 - FAINT) * seen


def _blend(photo: np.ndarray, where: np.ndarray, color: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """uint8 photo [H, W, 3] with a share (or [H, W] of them) of colours [H, W, 3] float32 in 0..1 over the pixels of a
    mask [H, W]."""
    mixed = photo.copy()
    x, y, width, height = cv2.boundingRect(where.astype(np.uint8))
    part = np.s_[y : y + height, x : x + width]
    if width and height:
        under, over = photo[part].astype(np.float32), color[part]
        if isinstance(share, float):
            both = cv2.addWeighted(under, 1 - share, over, 255 * share, 0)
        else:
            both = cv2.blendLinear(255 * over, under, share[part], 1 - share[part])
        np.copyto(mixed[part], both.round().astype(np.uint8), where=where[part][..., None])
    return mixed


def paint(vertices_cam, faces, focal_px, center_px, size: tuple[int, int], colors=None, shares=None):
    """Shaded bodies [P, V, 3] m in camera axes -> rgb [H, W, 3] float32 in 0..1 and where they cover [H, W].

    colors: [P, V, 3] in 0..1, or one pale colour per person; [P, V, 3 K] makes K pictures [H, W, 3 K]; shares: [P, V],
    one more channel, without light. Only the part of the picture where they are is drawn.
    """
    people, count = vertices_cam.shape[:2]
    if colors is None:
        colors = np.stack([np.tile(SKIN_RGB[p % len(SKIN_RGB)], (count, 1)) for p in range(people)])
    normals = np.stack([vertex_normals(v, faces) for v in vertices_cam])
    shade = 0.35 + 0.65 * np.clip(normals @ LIGHT, 0, 1)
    values = colors * shade[..., None]
    if shares is not None:
        values = np.concatenate([values, shares[..., None]], -1)
    values = torch.as_tensor(values.reshape(1, people * count, -1), dtype=torch.float32)
    scene = _Scene.of(vertices_cam, faces, focal_px, center_px, size)
    image = scene.rasterizer.interpolate(values, scene.rast, scene.triangles)
    image = scene.rasterizer.antialias(image, scene.rast, scene.clip, scene.triangles)
    return scene.placed(image.clamp(0, 1)), scene.placed(scene.rast[..., 3] > 0)


def covered_by(vertices_cam, faces, focal_px, center_px, size: tuple[int, int]) -> np.ndarray:
    """Where bodies [P, V, 3] m in camera axes cover a picture, [H, W] bool: `paint`'s, without painting."""
    scene = _Scene.of(vertices_cam, faces, focal_px, center_px, size)
    return scene.placed(scene.rast[..., 3] > 0)


@dataclass(frozen=True)
class _Scene:
    """Bodies rasterised in the part of a picture (H, W) that they can touch, x0 y0 x1 y1 px."""

    rasterizer: Rasterizer
    clip: torch.Tensor
    triangles: torch.Tensor
    rast: torch.Tensor
    part: tuple[int, int, int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, vertices_cam, faces, focal_px, center_px, size: tuple[int, int]) -> "_Scene":
        people, count = vertices_cam.shape[:2]
        part = x0, y0, x1, y1 = _extent(vertices_cam, np.asarray(focal_px), np.asarray(center_px), size)
        scene = torch.as_tensor(vertices_cam.reshape(1, -1, 3), dtype=torch.float32)
        triangles = np.concatenate([faces + p * count for p in range(people)]).astype(np.int32)
        window = torch.tensor([part], dtype=torch.float32)
        lens = (torch.as_tensor(np.asarray(a)[None], dtype=torch.float32) for a in (focal_px, center_px))
        rasterizer, triangles = make_rasterizer("cpu"), torch.as_tensor(triangles)
        clip = clip_from_camera(scene, *lens, window)
        rast = rasterizer.rasterize(clip, triangles, (y1 - y0, x1 - x0))
        return cls(rasterizer, clip, triangles, rast, part, size)

    def placed(self, image: torch.Tensor) -> np.ndarray:
        """An image [1, h, w, ...] of the part, rows upwards, as the whole picture's [H, W, ...]; else 0."""
        part = torch.flip(image, [1])[0].numpy()
        whole = np.zeros((*self.size, *part.shape[2:]), part.dtype)
        x0, y0, x1, y1 = self.part
        whole[y0:y1, x0:x1] = part
        return whole


def _extent(vertices_cam, focal_px, center_px, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 px of the part of a picture (H, W) that bodies [P, V, 3] m can touch, at least a pixel."""
    height, width = size
    points = vertices_cam.reshape(-1, 3)
    if points[:, 2].min() < NEAR_M:
        return 0, 0, width, height
    at = points[:, :2] / points[:, 2:] * focal_px + center_px
    low, high = np.floor(at.min(0)) - 1, np.ceil(at.max(0)) + 1
    x0, y0 = (int(np.clip(low[k], 0, side - 1)) for k, side in enumerate((width, height)))
    return x0, y0, int(np.clip(high[0], x0 + 1, width)), int(np.clip(high[1], y0 + 1, height))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3], area weighted."""
    points, corners = torch.as_tensor(vertices), torch.as_tensor(np.asarray(faces, np.int64))
    a, b, c = (points[corners[:, k]] for k in range(3))
    face = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(points)
    for k in range(3):
        normals.index_add_(0, corners[:, k], face)
    return (normals / normals.norm(dim=1, keepdim=True).clamp(min=1e-12)).numpy()


def motion_panels(
    image_rgb: np.ndarray,
    fits: Sequence[Fit | None],
    faces: np.ndarray,
    seen: Sequence[np.ndarray | None],
    most: int,
) -> np.ndarray:
    """A frame of a clip's overlay: picture | bodies over it | the first `most` people from the side, at one scale about
    the pelvis; None: not in this frame. uint8 [PANEL_PX, W, 3], of one width for as many people; the fits' lens is in
    px of the picture [PANEL_PX, w, 3]; seen: [V] each, as of `overlay`."""
    there = [row for row, fit in enumerate(fits) if fit is not None]
    over = image_rgb
    if there:
        vertices = np.stack([fits[row].vertices_cam for row in there])
        skin = np.array([SKIN_RGB[row % len(SKIN_RGB)] for row in there])
        colors = np.broadcast_to(skin[:, None], vertices.shape)
        first, shares = fits[there[0]], _share(np.stack([seen[row] for row in there]))
        size = image_rgb.shape[:2]
        front, covered = paint(vertices, faces, first.focal_px, first.center_px, size, colors, shares)
        over = _blend(image_rgb, covered, front[..., :3], OVER * front[..., 3])
    size = (PANEL_PX, PANEL_PX * 3 // 4)
    sides = [
        np.full((*size, 3), 255, np.uint8)
        if fit is None
        else side_view(fit, faces, size, SKIN_RGB[row % len(SKIN_RGB)], seen[row], REACH_M)
        for row, fit in enumerate(fits[:most])
    ]
    return np.concatenate([image_rgb, over, *sides], 1)


def side_view(
    fit: Fit,
    faces: np.ndarray,
    size: tuple[int, int],
    color=SKIN_RGB[0],
    seen: np.ndarray | None = None,
    reach_m: float | None = None,
) -> np.ndarray:
    """One body seen from the photo's right: the camera stands at the left of the panel, so who leans to the left leans
    towards it. uint8 [H, W, 3], size (H, W); the body fills the panel.

    The line through the ankles' middle is the camera's vertical. color: [3] in 0..1; seen: [V], of `overlay`; reach_m:
    what the panel shows above and below the pelvis, instead of the body whole.
    """
    low, high = fit.vertices_cam.min(0), fit.vertices_cam.max(0)
    if reach_m:
        low = high = fit.joints_cam[0]
    turned = _from_the_side(fit.vertices_cam - (low + high) / 2)
    reach = np.abs(turned).max(0)
    if reach_m:
        reach = np.array([reach_m * size[1] / size[0], reach_m, 0.0])
    distance = SIDE_DISTANCE_M + reach[2]
    height, width = size
    focal = 0.92 * SIDE_DISTANCE_M * min(height / 2 / reach[1], width / 2 / reach[0])
    center, place = np.array([width / 2, height / 2]), np.array([0, 0, distance])
    color = np.broadcast_to(color, (1, *turned.shape))
    share = _share(np.ones(len(turned)) if seen is None else seen)
    side, covered = paint((turned + place)[None], faces, np.full(2, focal), center, size, color, share[None])
    plumb = place + _from_the_side(fit.joints_cam[ANKLES].mean(0) - (low + high) / 2)
    column = int(np.clip(round(center[0] + focal * plumb[0] / plumb[2]), 1, width - 2))
    panel = np.full((*size, 3), 255, np.uint8)
    panel[:, column - 1 : column + 1] = PLUMB_RGB
    return _blend(panel, covered, side[..., :3], side[..., 3])


def _from_the_side(points_cam: np.ndarray) -> np.ndarray:
    """[..., 3] m turned by 90 degrees about the vertical: x is what was away from the camera, y stays."""
    return np.stack([points_cam[..., 2], points_cam[..., 1], -points_cam[..., 0]], -1)


def _nearest(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)


def _resize(image_rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """By averaging where pixels would be left out, else by the four nearest: that costs a sixth."""
    halves = 2 * size[1] < image_rgb.shape[0]
    return cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA if halves else cv2.INTER_LINEAR)
