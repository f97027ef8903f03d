"""Label maps of dressed figures from views around them, and what the body underneath sees of them."""

from dataclasses import dataclass

import numpy as np

from priors.clothing import LABELS

VIEWS = 10
ELEVATIONS_DEG = (0, 12, -8, 5, 20)  # in turn round the figure
IMAGE_PX = (576, 512)
DISTANCE_M = 4.0
FRAMED_M = 2.1  # height of the scene that fills the image


def camera_views(turn_deg: float) -> np.ndarray:
    """World to OpenCV camera rotations, the first turned by turn_deg about Y. -> [VIEWS, 3, 3]."""
    views = []
    for k in range(VIEWS):
        azimuth = np.radians(turn_deg + 360 * k / VIEWS)
        tilt = np.radians(ELEVATIONS_DEG[k % len(ELEVATIONS_DEG)])
        turn = np.array(
            [[np.cos(azimuth), 0, np.sin(azimuth)], [0, 1, 0], [-np.sin(azimuth), 0, np.cos(azimuth)]]
        )
        lean = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        views.append(np.diag([1.0, -1.0, -1.0]) @ lean @ turn)
    return np.array(views)


def render_ids(rasterizer, vertices_m: np.ndarray, faces: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Which triangle each pixel sees, for a figure centred on the origin, from DISTANCE_M away.

    vertices_m: [N, 3], faces: [F, 3], rotations: [B, 3, 3] world to camera. -> [B, H, W, 3], as `seen_ids`.
    """
    height, width = IMAGE_PX
    points_cam = np.einsum("bij,nj->bni", rotations, vertices_m) + [0, 0, DISTANCE_M]
    focal_px = np.full(2, height * DISTANCE_M / FRAMED_M)
    return seen_ids(rasterizer, points_cam, faces, focal_px, np.array([width / 2, height / 2]), IMAGE_PX)


def seen_ids(
    rasterizer,
    points_cam: np.ndarray,
    faces: np.ndarray,
    focal_px: np.ndarray,
    center_px: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """Which triangle each pixel of a pinhole's full image sees.

    points_cam: [B, N, 3] m, faces: [F, 3], focal_px and center_px: [2], size: (height, width). -> [B, H, W, 3]:
    weights of the triangle's first two corners, triangle index + 1 (0: none); row 0 at the top.
    """
    import torch

    from fitter.raster.rasterizer import clip_from_camera

    count = len(points_cam)

    def rows(*values: float) -> torch.Tensor:
        return torch.tensor([values] * count, dtype=torch.float32)

    clip = clip_from_camera(
        torch.tensor(points_cam, dtype=torch.float32),
        rows(*focal_px),
        rows(*center_px),
        rows(0, 0, size[1], size[0]),
    )
    rast = rasterizer.rasterize(clip, torch.tensor(faces.astype(np.int32)), tuple(size)).numpy()
    return rast[:, ::-1][..., [0, 1, 3]]


@dataclass(frozen=True)
class BodyView:
    """What one view sees of the body underneath.

    pixels: [P] flat index; corners: [P, 3] vertices of the triangle there; weights: [P, 3] barycentrics.
    """

    pixels: np.ndarray
    corners: np.ndarray
    weights: np.ndarray


def body_views(images: np.ndarray, faces: np.ndarray) -> list[BodyView]:
    """From render_ids of the naked body."""
    views = []
    for image in images.reshape(len(images), -1, 3):
        pixels = np.nonzero(image[:, 2] > 0)[0]
        first, second, index = image[pixels].T
        weights = np.clip(np.stack([first, second, 1 - first - second], 1), 0, 1)
        views.append(BodyView(pixels, faces[index.astype(int) - 1], weights))
    return views


def view_votes(view: BodyView, label_image: np.ndarray, count: int) -> np.ndarray:
    """One view's votes: one a visible vertex, divided among the labels seen round it. -> [count, 20].

    What falls on background is lost. label_image: [H, W] ids.
    """
    labels = label_image.reshape(-1)[view.pixels].astype(int)
    cells = view.corners * len(LABELS) + labels[:, None]
    votes = np.bincount(cells.ravel(), view.weights.ravel(), count * len(LABELS)).reshape(count, len(LABELS))
    total = votes.sum(1, keepdims=True)
    votes = votes / np.where(total > 0, total, 1)
    votes[:, 0] = 0
    return votes
