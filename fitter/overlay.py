"""Pictures of fits: the photo, the bodies over it, and the same bodies from the side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fitter.raster import clip_from_camera, make_rasterizer
from fitter.result import Fit
from priors.clothing import PALETTE

SKIN_RGB = (
    (0.65, 0.74, 0.86),
    (0.93, 0.72, 0.60),
    (0.72, 0.84, 0.66),
    (0.86, 0.72, 0.85),
    (0.90, 0.86, 0.60),
)
PANEL_PX = 720  # height of an overlay; photos are scaled to it
MOST_SIDES = 4


def overlay(
    image_rgb: np.ndarray, fits: Sequence[Fit], faces: np.ndarray, clothes: "Clothes | None" = None
) -> np.ndarray:
    """photo | bodies over the photo | each body from the side (at most the four largest); uint8 [720, W, 3].

    With clothes two more: the labels over the photo, and over those the bodies in their rendered classes.
    """
    scale = PANEL_PX / image_rgb.shape[0]
    width = max(1, round(image_rgb.shape[1] * scale))
    photo = _resize(image_rgb, (width, PANEL_PX))
    if not fits:
        return photo
    vertices = np.stack([fit.vertices_cam for fit in fits])
    focal, center = fits[0].focal_px * scale, fits[0].center_px * scale
    front, covered = paint(vertices, faces, focal, center, (PANEL_PX, width))
    over = np.where(covered[..., None], 0.15 * photo / 255 + 0.85 * front, photo / 255)
    shown = sorted(range(len(fits)), key=lambda p: -np.ptp(vertices[p, :, 1] / vertices[p, :, 2]))[
        :MOST_SIDES
    ]
    sides = [_side(vertices[p], faces, SKIN_RGB[p % len(SKIN_RGB)]) for p in sorted(shown)]
    over = (over * 255).round().astype(np.uint8)
    if clothes is None:
        return np.concatenate([photo, over, *sides], 1)
    labels = _blend(photo, PALETTE[_nearest(clothes.ids, (width, PANEL_PX))] / 255, 0.6)
    worn, covered = paint(vertices, faces, focal, center, (PANEL_PX, width), clothes.vertex_rgb)
    worn = np.where(covered[..., None], (0.85 * worn + 0.15 * labels / 255), labels / 255)
    return np.concatenate([photo, over, *sides, labels, (worn * 255).round().astype(np.uint8)], 1)


@dataclass(frozen=True)
class Clothes:
    """What the DSR terms compared: ids [H, W] labels of the photo, 0 where there are none; vertex_rgb [P, V, 3] in
    0..1, the colour of every vertex's most likely label."""

    ids: np.ndarray
    vertex_rgb: np.ndarray


def _blend(photo: np.ndarray, color: np.ndarray, share: float) -> np.ndarray:
    """uint8 photo with a colour over it, where the colour is not black."""
    mixed = (1 - share) * photo / 255 + share * color
    return (np.where(color.any(-1, keepdims=True), mixed, photo / 255) * 255).round().astype(np.uint8)


def paint(vertices_cam, faces, focal_px, center_px, size: tuple[int, int], colors=None):
    """Shaded bodies [P, V, 3] m in camera axes -> rgb [H, W, 3] in 0..1 and where they cover [H, W].

    colors: [P, V, 3] in 0..1, or one pale colour per person.
    """
    people, count = vertices_cam.shape[:2]
    height, width = size
    if colors is None:
        colors = np.stack([np.tile(SKIN_RGB[p % len(SKIN_RGB)], (count, 1)) for p in range(people)])
    normals = np.stack([vertex_normals(v, faces) for v in vertices_cam])
    light = np.array([0.25, -0.45, -0.86])
    shade = 0.35 + 0.65 * np.clip(normals @ light, 0, 1)
    scene = torch.as_tensor(vertices_cam.reshape(1, -1, 3), dtype=torch.float32)
    color = torch.as_tensor((colors * shade[..., None]).reshape(1, -1, 3), dtype=torch.float32)
    triangles = torch.as_tensor(np.concatenate([faces + p * count for p in range(people)]).astype(np.int32))
    window = torch.tensor([[0.0, 0.0, width, height]])
    focal, center = (torch.as_tensor(np.asarray(a)[None], dtype=torch.float32) for a in (focal_px, center_px))
    rasterizer = make_rasterizer("cpu")
    clip = clip_from_camera(scene, focal, center, window)
    rast = rasterizer.rasterize(clip, triangles, size)
    image = rasterizer.interpolate(color, rast, triangles)
    image = rasterizer.antialias(image, rast, clip, triangles)
    upright = torch.flip(image, [1])[0].clamp(0, 1).numpy()
    return upright, torch.flip(rast[..., 3] > 0, [1])[0].numpy()


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3], area weighted."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _side(vertices_cam: np.ndarray, faces: np.ndarray, color) -> np.ndarray:
    """One body turned by 90 degrees about the vertical through its middle, filling a panel on white."""
    low, high = vertices_cam.min(0), vertices_cam.max(0)
    centred = vertices_cam - (low + high) / 2
    turned = np.stack([centred[:, 2], centred[:, 1], -centred[:, 0]], -1)
    reach = np.abs(turned).max(0)
    distance = 6.0 + reach[2]
    width = PANEL_PX * 5 // 8
    focal = 0.92 * distance * min(PANEL_PX / 2 / reach[1], width / 2 / reach[0]) * (6.0 / distance)
    place, color = np.array([0, 0, distance]), np.broadcast_to(color, (1, *vertices_cam.shape))
    center = np.array([width / 2, PANEL_PX / 2])
    side, covered = paint((turned + place)[None], faces, np.full(2, focal), center, (PANEL_PX, width), color)
    return (np.where(covered[..., None], side, 1.0) * 255).round().astype(np.uint8)


def _nearest(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    return cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)


def _resize(image_rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    shrinks = size[1] < image_rgb.shape[0]
    return cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
