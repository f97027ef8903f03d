"""How smooth should a clip's motion be? Motion capture held back from learning, seen through made keypoints.

    python -m benchmarks.video_weights --mocap DIR             # clips of 90 frames, all weights
    python -m benchmarks.video_weights --mocap DIR --quick     # the first two clips, two weights

Each clip's poses and way (CMU's BVH, 30 frames a second) are put on a body of random shape before a level camera and
projected. Keypoints are off by what the detector's are (`synth.pose_priors.lifter`'s spreads, per cent
of the box): most of it slow, kept for some tenths of a second, the rest anew in every frame. The clip is fitted with
each weight, by keypoints alone. Measured: how far joints are off (pelvis on pelvis), how far their accelerations are
off, and their acceleration against the true one. The default of `optimisation.smoothness`, 0.02, was chosen here: then
accelerations are as large as the true ones on average, and hardly farther from them than with any other. So was that
priors weigh less in a clip than in a photo (`fitter.clips.PRIOR`): of five of the clips with what they weigh there
joints were off by 52, 56, 52, 80 and 76 mm, with 0.4 of it by 47, 53, 44, 73 and 69.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import Table, write_results
from fitter import clips
from fitter.body.model import load_body
from fitter.config import FitConfig
from fitter.energy.tied import Course
from fitter.method import load_objective
from fitter.people import Sighting
from fitter.see.camera import Camera
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import DERIVED, Person
from fitter.see.person_box import keypoint_box
from synth.pose_priors.bvh import read_bvh
from synth.pose_priors.lifter import Maker, Poses
from synth.pose_priors.mocap import is_held_out, retarget_bvh

WEIGHTS = (0.0, 0.0005, 0.002, 0.008, 0.02, 0.05, 0.15)
FRAMES, FPS = 90, 30.0
SLOW_S, SLOW_SHARE = 0.3, 0.7  # how long keypoints stay off by the same, and share of the variance that does
CAMERA = Camera(1400.0, 1400.0, 960.0, 540.0, 1920, 1080, "user", 0.0, 0.0)
DEPTH_M, CM = 5.0, 0.056  # of the BVH skeleton's unit: CMU's is an inch / 0.45


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mocap", required=True, help="folder with cmu_bvh30/*.bvh")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    files = [path for path in sorted(Path(options.mocap).glob("cmu_bvh30/*.bvh")) if is_held_out(path.stem)]
    files = files[:2] if options.quick else files[:: max(1, len(files) // 10)]
    weights = WEIGHTS[1:4:2] if options.quick else WEIGHTS
    objective = load_objective(FitConfig(images="", parser="none"))
    rows = [row for seed, path in enumerate(files) for row in measure(path, seed, weights, objective)]
    report(rows, weights, "video_weights_quick" if options.quick else "video_weights")


def measure(path: Path, seed: int, weights, objective) -> list[tuple]:
    """(clip, weight, joints off mm, accelerations off m/s^2, acceleration over the true one) of each weight."""
    people, joints = made(path, seed)
    config = FitConfig(images="", parser="none")
    seen = [Sighting("clip", person, CAMERA) for person in people]
    first = clips.first_bodies(seen, objective, config, 1 / FPS)
    rows = torch.linspace(0, len(seen) - 1, clips.SHAPE_FRAMES).round().long()
    part = Course(*(value[rows] for value in vars(first).values()))
    shape = clips.fit_shape([seen[row] for row in rows], part, objective, config, False)
    found = []
    for weight in weights:
        settings = replace(config, optimisation=replace(config.optimisation, smoothness=weight))
        start = replace(first, betas=shape.betas, tilt=shape.tilt[:1].expand(len(seen), 2))
        solution, tied = clips.fit_window(seen, start, 0, objective, settings, 1 / FPS, False)
        fits = clips.fits_of(solution, tied, seen, settings)
        fitted = np.stack([fit.joints_cam for fit in fits])
        off = (fitted - fitted[:, :1]) - (joints - joints[:, :1])
        bent, true = (FPS**2 * (one[2:] - 2 * one[1:-1] + one[:-2]) for one in (fitted, joints))
        size = [float(np.linalg.norm(one, axis=-1).mean()) for one in (off, bent - true, bent, true)]
        found.append((path.stem, weight, 1000 * size[0], size[1], size[2] / size[3]))
        print(found[-1], flush=True)
    return found


def made(path: Path, seed: int) -> tuple[list[Person], np.ndarray]:
    """What a detector would see of a clip, and the true joints [T, 24, 3] m in the camera's frame."""
    rng, body = np.random.default_rng(seed), load_body()
    clip = read_bvh(path)
    start = (len(clip.root_position) - FRAMES) // 2 if len(clip.root_position) > FRAMES else 0
    chosen = slice(start, start + FRAMES)
    pose = torch.tensor(retarget_bvh(clip)[chosen]).float()
    way = CM * clip.root_position[chosen]
    betas = torch.tensor(rng.normal(0, 0.8, 10)).float().expand(len(pose), 10)
    posed = body(betas, pose, with_vertices=False)
    turn = 2 * np.pi * rng.uniform()
    c, s = np.cos(turn), np.sin(turn)
    to_camera = np.array([[c, 0, s], [0, -1, 0], [s, 0, -c]])
    points = body.points(posed).numpy() - posed.joints[:, :1].numpy()
    away = (way - (way.min(0) + way.max(0)) / 2) @ to_camera.T
    away += [0, 0.1, max(DEPTH_M, np.ptp(away[:, 2]) + 1.2 * np.ptp(away[:, 0]))]  # all of it in the picture
    points = points @ to_camera.T + away[:, None]
    matrix = body_targets("detector", *body.joint_layout)[0]
    keypoints = matrix @ points
    px = keypoints[..., :2] / keypoints[..., 2:] * CAMERA.focal_px + CAMERA.center_px
    spread = Maker(Poses(torch.zeros(1, 72), torch.ones(1)), 0).sigma.numpy()
    side = np.ptp(px, axis=1).max(1)[:, None, None] / 100
    keep = np.exp(-1 / (SLOW_S * FPS))
    slow = rng.normal(size=(len(px), 25, 2))
    for frame in range(1, len(slow)):
        slow[frame] = keep * slow[frame - 1] + np.sqrt(1 - keep**2) * slow[frame]
    noise = np.sqrt(SLOW_SHARE) * slow + np.sqrt(1 - SLOW_SHARE) * rng.normal(size=slow.shape)
    px = px + side * spread[:, None] * noise
    people = []
    for frame in px:
        seen = np.column_stack([frame, np.full(25, 0.8)])
        people.append(Person("0", seen, "detector", keypoint_box(seen), derived=tuple(DERIVED)))
    return people, points[:, :24]


def report(rows: list[tuple], weights, name: str) -> dict[str, float]:
    """Writes the tables; returns the figures by name."""
    means = [
        (weight, *(float(np.mean([row[column] for row in rows if row[1] == weight])) for column in (2, 3, 4)))
        for weight in weights
    ]
    columns = ("joints off, mm", "acceleration off, m/s²", "acceleration / true")
    tables = [
        Table("Mean of all clips", ("weight", *columns), means),
        Table("Clip by clip", ("clip", "weight", *columns), rows),
    ]
    best = min(means, key=lambda row: row[2])
    figures = {"video_best_weight": (best[0], ""), "video_acceleration_off": (best[2], "m/s^2")}
    write_results(name, __doc__, figures, tables)
    return {key: value for key, (value, _) in figures.items()}


if __name__ == "__main__":
    main()
