"""Pictures of what a pose prior believes: bodies drawn from it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from synth.open_body.pictures import load_arrays, paint, pose_body

TILE_PX = (260, 200)
COLUMNS = 8
YAW_DEG = 30.0


def samples_picture(rows: dict[str, np.ndarray], body_path: Path, path: Path) -> None:
    """Write one PNG with the body in body poses [N, 69] of each titled group, eight in a row."""
    body = load_arrays(body_path)
    strips = []
    for title, body_poses in rows.items():
        bar = np.full((24, COLUMNS * TILE_PX[1], 3), 255, np.uint8)
        cv2.putText(bar, title, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
        strips.append(bar)
        tiles = [_tile(body, body_pose) for body_pose in body_poses]
        for start in range(0, len(tiles), COLUMNS):
            row = tiles[start : start + COLUMNS]
            row += [np.full_like(tiles[0], 255)] * (COLUMNS - len(row))
            strips.append(np.concatenate(row, axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(strips)[..., ::-1])


def _tile(body: dict, body_pose: np.ndarray) -> np.ndarray:
    vertices = pose_body(body, np.zeros(10), np.concatenate([np.zeros(3), body_pose]))
    centre = (vertices.min(0) + vertices.max(0)) / 2
    return paint(vertices, body["f"], YAW_DEG, TILE_PX, 1.95, centre)
