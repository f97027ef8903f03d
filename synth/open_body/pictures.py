"""Pictures of the open body: its shape components, poses, and body parts, by a small z-buffer painter.

python -m synth.open_body.pictures --body fitter/data/open_body.npz --out docs
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

CLAY = np.array([0.70, 0.73, 0.78])
VIEWS = {"front": 0.0, "half": 40.0, "side": 90.0, "back": 180.0}


def rotation_matrices(axis_angles: np.ndarray) -> np.ndarray:
    """Rodrigues. axis_angles: [N, 3] rad -> [N, 3, 3]."""
    angle = np.linalg.norm(axis_angles, axis=1)
    x, y, z = (axis_angles / np.maximum(angle, 1e-12)[:, None]).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)


def pose_body(body: dict, betas: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Linear blend skinning of an SMPL-format body. betas: [10], pose: [72] rad -> vertices [V, 3] m."""
    shaped = body["v_template"] + body["shapedirs"].astype(float) @ betas
    joints = body["J_regressor"] @ shaped
    parents = body["kintree_table"][0].astype(np.int64)
    rotations = rotation_matrices(np.asarray(pose, float).reshape(-1, 3))
    linear, moved = rotations.copy(), joints.copy()
    for j in range(1, len(joints)):
        p = parents[j]
        linear[j] = linear[p] @ rotations[j]
        moved[j] = moved[p] + linear[p] @ (joints[j] - joints[p])
    offset = moved - np.einsum("jab,jb->ja", linear, joints)
    blended = np.tensordot(body["weights"], np.concatenate([linear, offset[..., None]], -1), 1)
    return np.einsum("vab,vb->va", blended[..., :3], shaped) + blended[..., 3]


def paint(
    vertices: np.ndarray,
    faces: np.ndarray,
    yaw_deg: float,
    size: tuple[int, int],
    metres: float,
    centre: np.ndarray,
    colours: np.ndarray | None = None,
) -> np.ndarray:
    """Orthographic picture with a z-buffer and one lamp.

    vertices: [V, 3] m; size: (height, width) px; metres: height of the picture; centre: [3] m shown in the
    middle; colours: [V, 3] in 0..1. -> [height, width, 3] uint8.
    """
    height, width = size
    scale = 2  # supersampling
    h, w = height * scale, width * scale
    yaw = np.radians(yaw_deg)
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]])
    seen = (vertices - centre) @ turn.T
    pixels = np.stack([w / 2 + seen[:, 0] * h / metres, h / 2 - seen[:, 1] * h / metres, seen[:, 2]], 1)
    corners = seen[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(seen)
    for i in range(3):
        np.add.at(normals, faces[:, i], flat)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    lamp = np.array([0.35, 0.45, 0.82])
    shade = 0.25 + 0.75 * np.clip(normals @ (lamp / np.linalg.norm(lamp)), 0, 1)
    colours = np.broadcast_to(CLAY, vertices.shape) if colours is None else colours
    lit = shade[:, None] * colours
    back = np.array([0.55, 0.1, 0.1])  # the inside of the surface shows red
    image = _fill(pixels, faces, lit, back, h, w)
    image = image.reshape(height, scale, width, scale, 3).mean((1, 3))
    return (255 * np.clip(image, 0, 1)).astype(np.uint8)


def _fill(pixels, faces, lit, back, height, width):
    """Fill triangles into a z-buffer. -> [height, width, 3] float in 0..1, white background."""
    from numba import njit

    @njit(cache=False)
    def fill(pixels, faces, lit, back, height, width):
        image = np.ones((height, width, 3))
        depth = np.full((height, width), -1e9)
        for f in range(len(faces)):
            a, b, c = pixels[faces[f, 0]], pixels[faces[f, 1]], pixels[faces[f, 2]]
            area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
            if abs(area) < 1e-9:
                continue
            for y in range(
                max(0, int(min(a[1], b[1], c[1]))), min(height - 1, int(max(a[1], b[1], c[1])) + 1) + 1
            ):
                for x in range(
                    max(0, int(min(a[0], b[0], c[0]))), min(width - 1, int(max(a[0], b[0], c[0])) + 1) + 1
                ):
                    px, py = x + 0.5, y + 0.5
                    u = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area
                    v = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area
                    t = 1 - u - v
                    if u < 0 or v < 0 or t < 0:
                        continue
                    z = u * a[2] + v * b[2] + t * c[2]
                    if z > depth[y, x]:
                        depth[y, x] = z
                        if area > 0:  # y points down: a face seen from behind
                            image[y, x] = back
                        else:
                            image[y, x] = u * lit[faces[f, 0]] + v * lit[faces[f, 1]] + t * lit[faces[f, 2]]
        return image

    return fill(pixels, faces, lit, back, height, width)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The npz as a dictionary of arrays."""
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def _write(path: Path, rows: list[list[np.ndarray]], titles: list[list[str]]) -> None:
    """Tile pictures with a line of text above each, as PNG."""
    import cv2

    tiles = []
    for row, row_titles in zip(rows, titles, strict=True):
        labelled = []
        for image, title in zip(row, row_titles, strict=True):
            bar = np.full((18, image.shape[1], 3), 255, np.uint8)
            cv2.putText(bar, title, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, cv2.LINE_AA)
            labelled.append(np.concatenate([bar, image]))
        tiles.append(np.concatenate(labelled, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(tiles)[..., ::-1])


def shapes_picture(body: dict, path: Path) -> None:
    """-2 and +2 sigma of the first five components and the mean, front and side."""
    rows, titles = [], []
    for view in ("front", "side"):
        width = 210 if view == "front" else 130
        for sign in (-2, 2):
            row = []
            for k in range(5):
                betas = np.zeros(10)
                betas[k] = sign
                vertices = pose_body(body, betas, _standing())
                row.append(
                    paint(vertices, body["f"], VIEWS[view], (330, width), 2.3, np.array([0, -0.03, 0]))
                )
            rows.append(row)
            titles.append([f"{view}, beta {k} = {sign:+d}" for k in range(5)])
    both = [rows[0] + rows[2], rows[1] + rows[3]]
    _write(path, both, [titles[0] + titles[2], titles[1] + titles[3]])


def _standing() -> np.ndarray:
    """T-pose with the arms lowered to 50 degrees, so that ten bodies fit in a row. -> [72] rad."""
    pose = np.zeros((24, 3))
    pose[16, 2], pose[17, 2] = np.radians(-50), np.radians(50)
    return pose.ravel()


def hand_made_poses() -> dict[str, np.ndarray]:
    """Poses that strain the skinning: name -> [72] rad. Axes: x to the left, y up, z forward."""

    def posed(**turns) -> np.ndarray:
        pose = np.zeros((24, 3))
        for joint, degrees in turns.items():
            pose[int(joint[1:])] = np.radians(degrees)
        return pose.ravel()

    return {
        "T-pose": posed(),
        "arms down": posed(j16=(0, 0, -75), j17=(0, 0, 75)),
        "arms up": posed(j16=(0, 0, 75), j17=(0, 0, -75), j13=(0, 0, 12), j14=(0, 0, -12)),
        "elbows 120": posed(j18=(0, -120, 0), j19=(0, 120, 0)),
        "knees 120": posed(j4=(120, 0, 0), j5=(120, 0, 0), j1=(-30, 0, 0), j2=(-30, 0, 0)),
        "hips 90": posed(j1=(-90, 0, 0), j2=(-90, 0, 0), j4=(90, 0, 0), j5=(90, 0, 0)),
        "squat": posed(j1=(-110, 0, 20), j2=(-110, 0, -20), j4=(120, 0, 0), j5=(120, 0, 0), j3=(30, 0, 0)),
        "arms forward": posed(j16=(0, -80, 0), j17=(0, 80, 0)),
        "hands on hips": posed(j16=(0, 0, -50), j17=(0, 0, 50), j18=(0, -60, -60), j19=(0, 60, 60)),
        "bow": posed(j3=(30, 0, 0), j6=(20, 0, 0), j9=(10, 0, 0), j1=(-45, 0, 0), j2=(-45, 0, 0)),
        "twist": posed(j3=(0, 20, 0), j6=(0, 20, 0), j9=(0, 15, 0), j15=(0, 40, 0), j20=(60, 0, 0)),
        "split": posed(j1=(0, 0, 50), j2=(0, 0, -50), j7=(-30, 0, 0), j8=(30, 0, 0)),
    }


def poses_picture(body: dict, poses: dict[str, np.ndarray], path: Path, views=("half", "side")) -> None:
    """Twelve poses, two views each, six poses in a row."""
    rows, titles = [], []
    names = list(poses)
    for start in range(0, len(names), 6):
        for view in views:
            row = []
            for name in names[start : start + 6]:
                vertices = pose_body(body, np.zeros(10), poses[name])
                centre = 0.5 * (vertices.min(0) + vertices.max(0))
                row.append(paint(vertices, body["f"], VIEWS[view], (330, 300), 2.0, centre))
            rows.append(row)
            titles.append([f"{name} ({view})" for name in names[start : start + 6]])
    _write(path, rows, titles)


# the mocap poses shown: file below the mocap folder and how far into the clip (0..1)
MOCAP_SHOWN = (
    ("cmu_bvh30/07_01.bvh", 0.4),
    ("cmu_bvh30/06_15.bvh", 0.65),
    ("cmu_bvh30/05_04.bvh", 0.5),
    ("cmu_bvh30/10_01.bvh", 0.5),
    ("cmu_bvh30/01_08.bvh", 0.5),
    ("cmu_bvh30/05_20.bvh", 0.6),
    ("deepmimic/humanoid3d_crawl.txt", 0.3),
    ("deepmimic/humanoid3d_cartwheel.txt", 0.35),
    ("deepmimic/humanoid3d_getup_facedown.txt", 0.5),
    ("deepmimic/humanoid3d_jump.txt", 0.3),
    ("deepmimic/humanoid3d_spinkick.txt", 0.5),
    ("deepmimic/humanoid3d_run.txt", 0.4),
)


def mocap_poses(folder: Path) -> dict[str, np.ndarray]:
    """MOCAP_SHOWN as SMPL poses, turned about the vertical to face +Z. -> name -> [72] rad."""
    from scipy.spatial.transform import Rotation

    from synth.pose_priors.bvh import read_bvh
    from synth.pose_priors.mocap import read_deepmimic, retarget_bvh

    poses = {}
    for name, fraction in MOCAP_SHOWN:
        path = folder / name
        clip = retarget_bvh(read_bvh(path)) if path.suffix == ".bvh" else read_deepmimic(path)
        pose = clip[int(fraction * (len(clip) - 1))].copy()
        root = Rotation.from_rotvec(pose[:3])
        facing = root.apply([0.0, 0.0, 1.0])
        yaw = Rotation.from_euler("y", -np.arctan2(facing[0], facing[2]))
        pose[:3] = (yaw * root).as_rotvec()
        poses[path.stem.removeprefix("humanoid3d_")] = pose
    return poses


def write_pictures(body_path: Path, folder: Path, mocap_folder: Path | None) -> None:
    """open_body_shapes.png and open_body_poses.png (mocap poses where a folder is given, else hand-made)."""
    body = load_arrays(body_path)
    shapes_picture(body, folder / "open_body_shapes.png")
    poses = mocap_poses(mocap_folder) if mocap_folder else hand_made_poses()
    poses_picture(body, poses, folder / "open_body_poses.png")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNGs")
    parser.add_argument("--mocap", type=Path, help="mocap folder; without it the poses are hand-made")
    options = parser.parse_args(arguments)
    write_pictures(options.body, options.out, options.mocap)


if __name__ == "__main__":
    main()
