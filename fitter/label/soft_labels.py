"""A parser's answer about one person: label probabilities on a grid over a window of the photo."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import csr_array

from fitter.label.label_files import UNKNOWN
from priors.clothing import LABELS

CLASSES = (*LABELS, "hidden")  # the last: something in front of the person
HIDDEN = CLASSES.index("hidden")
LARGEST_PX = 512  # side of the grid on which the likeliest label is looked for


@dataclass(frozen=True)
class SoftLabels:
    """prob [h, w, 21]: probability of each of CLASSES in each cell, sums to 1; window_px [4]: x0, y0, x1, y1 of the
    photo that the grid covers, may reach beyond it. Outside the window is background."""

    prob: np.ndarray
    window_px: np.ndarray

    @property
    def confidence(self) -> float:
        """How sure the parser is of this person, 0..1: mean probability of the likeliest class over the person's
        cells; 0 if it sees nobody."""
        likeliest = self.prob.argmax(-1)
        person = (likeliest > 0) & (likeliest != HIDDEN)
        return float(self.prob.max(-1)[person].mean()) if person.any() else 0.0


def likeliest(soft: SoftLabels, size: tuple[int, int]) -> np.ndarray:
    """Label map [H, W] uint8 of a photo of that size (height, width); UNKNOWN where the person is hidden."""
    height, width = size
    ids = np.zeros(size, np.uint8)
    x0, y0, x1, y1 = soft.window_px
    left, top = max(int(np.ceil(x0)), 0), max(int(np.ceil(y0)), 0)
    right, bottom = min(int(x1), width), min(int(y1), height)
    if right <= left or bottom <= top:
        return ids
    step = max((right - left) / LARGEST_PX, (bottom - top) / LARGEST_PX, 1.0)
    columns, rows = round((right - left) / step), round((bottom - top) / step)
    inside = np.array([left, top, right, bottom], float)
    scale = np.array(soft.prob.shape[1::-1]) / [x1 - x0, y1 - y0]
    corner, cell = (inside[:2] - [x0, y0]) * scale, (inside[2:] - inside[:2]) * scale / [columns, rows]
    at_x = ((np.arange(columns) + 0.5) * cell[0] + corner[0] - 0.5).astype(np.float32)
    at_y = ((np.arange(rows) + 0.5) * cell[1] + corner[1] - 0.5).astype(np.float32)
    best, most = np.zeros((rows, columns), np.uint8), np.zeros((rows, columns), np.float32)
    for label in np.flatnonzero(soft.prob.max((0, 1)) > 1 / len(CLASSES)):
        plane = np.ascontiguousarray(soft.prob[..., label])
        grid = np.meshgrid(at_x, at_y)
        plane = cv2.remap(plane, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        best[plane > most] = label if label != HIDDEN else UNKNOWN
        np.maximum(most, plane, out=most)
    ids[top:bottom, left:right] = cv2.resize(
        best, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return ids


def crop_soft(
    soft: SoftLabels, window_px: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """As `crop_labels`: prob [h, w, 20] float32 of the labels of a window, by exact area averaging, sum 1; and
    [h, w] float32, how probably the cell is not hidden."""
    x0, y0, x1, y1 = soft.window_px
    across = _shares(window_px[[0, 2]], size[1], (x0, x1), soft.prob.shape[1])
    down = _shares(window_px[[1, 3]], size[0], (y0, y1), soft.prob.shape[0])
    rows, columns = soft.prob.shape[:2]
    prob = down @ soft.prob[..., 1:].reshape(rows, -1)  # [h, columns x 20]
    prob = prob.reshape(size[0], columns, -1).transpose(1, 0, 2).reshape(columns, -1)
    prob = (across @ prob).reshape(size[1], size[0], -1).transpose(1, 0, 2)
    labels, hidden = np.empty_like(prob), prob[..., HIDDEN - 1]
    every = np.ones(prob.shape[-1], np.float32)
    np.clip(1 - prob @ every, 0, 1, out=labels[..., 0])
    labels[..., 1:] = prob[..., : HIDDEN - 1]
    labels /= np.maximum(labels @ every, 1e-6)[..., None]
    return labels, (1 - hidden).clip(0, 1)


def _shares(target: np.ndarray, count: int, source: tuple[float, float], cells: int) -> csr_array:
    """Sparse [count, cells]: how much of each of `count` equal parts of an interval lies in each cell of another."""
    edges = (np.linspace(*target, count + 1) - source[0]) / (source[1] - source[0]) * cells
    low, high = edges[:-1, None], edges[1:, None]
    start = np.arange(cells)
    covered = np.minimum(high, start + 1) - np.maximum(low, start)
    return csr_array((covered.clip(0) / (high - low)).astype(np.float32))
