"""Is a clip fitted as one motion better than frame by frame: smoother, as true, and cheaper?

    python -m benchmarks.video --data DIR --truth DIR               # four clips of 48 frames
    python -m benchmarks.video --data DIR --truth DIR --quick       # the first clip's first 24 frames
    python -m benchmarks.video ... --keep DIR                       # frames fitted one by one are kept there

Data: the Pose2Sim trial of benchmarks.multiview as video, `treadmill_cam01..04.mp4`, 60 frames a second; the truth, 3D
joints at six of the frames, is that benchmark's. The same frames with the same cameras (intrinsics, pitch and roll
said) are fitted twice with all defaults, of the largest person: each as a photo, and the clip as a clip. What is
measured: the mean acceleration of the 24 joints in the camera's frame, by second differences (jitter; the man's own is
in it); the mean distance of the body's keypoints from the detector's sure ones, per cent of the person's box; PA-MPJPE
at the six frames; processor time a frame, from the file to results and overlays, everything that a clip costs once
divided by its frames (with --keep that of single frames was taken when they were fitted, on a machine as busy). Weights
of a clip's fit were chosen on motion capture seen through made keypoints (`python -m benchmarks.video_weights`), not
here.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.multiview import EVALUATED, evaluated_joints, joint_errors_mm, read_views
from benchmarks.report import Table, write_results
from fitter.config import FitConfig
from fitter.pipeline import fit_photos
from fitter.run import models_of
from fitter.see.clip import Clip, find_clips
from fitter.see.person_box import BOX_CONFIDENCE, box_side
from fitter.see.photos import Photo
from fitter.sequences import fit_clip
from fitter.write.result import Fit, load_fit
from fitter.write.sequence import Sequence, load_sequence

QUICK_FRAMES = 24
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with treadmill_cam01..04.mp4")
    parser.add_argument("--truth", required=True, help="benchmarks.multiview's --data")
    parser.add_argument(
        "--keep", help="folder for frames fitted one by one, taken from there if they are there"
    )
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    cameras = {view.name: view for view in read_views(options.truth)}
    clips = find_clips(options.data)
    if not clips:
        raise FileNotFoundError(f"{options.data}: expected treadmill_cam01..04.mp4, found none")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for clip in clips[:1] if options.quick else clips:
            name = clip.photo.name[-5:]
            views = {int(key[6:]): view for key, view in cameras.items() if key.startswith(name)}
            rows.append(
                compare(clip, views, Path(scratch), options.keep and Path(options.keep), options.quick)
            )
            print(rows[-1])
    report(rows, "video_quick" if options.quick else "video")


def compare(clip: Clip, views: dict, scratch: Path, keep: Path | None, quick: bool) -> dict:
    """One clip: measures of both ways, "single" and "clip", each a dict; views: benchmarks.multiview's by frame."""
    camera = next(iter(views.values())).camera
    said = {"focal_px": camera.focal_px, "center_px": camera.center_px, "pitch_deg": camera.pitch_deg,
            "roll_deg": camera.roll_deg}  # fmt: skip
    lens = scratch / f"{clip.photo.name}.json"
    lens.write_text(json.dumps(said))
    config = FitConfig(images="", camera=str(lens), people="largest", report=False)
    frames = scratch / clip.photo.name
    frames.mkdir()
    images = []
    for shot in clip.frames():
        if quick and shot.number == QUICK_FRAMES:
            break
        images.append(frames / f"{shot.number:06d}.png")
        cv2.imwrite(str(images[-1]), shot.image_rgb[..., ::-1])
    if quick:
        clip = replace(clip, files=tuple(images))
    models = models_of(replace(config, out=str(scratch / "clip")))
    fit_photos([Photo(images[0], "warm.png", "warm")], [{}], models)  # networks are loaded
    begun = time.process_time()
    outcome = fit_clip(clip, {}, models)
    spent = time.process_time() - begun
    if not outcome.finished:
        raise ValueError(outcome.rows[0]["reasons"])
    sequence = load_sequence(scratch / "clip" / f"{clip.photo.name}_0.sequence.npz")
    out = (keep or scratch) / f"single_{clip.photo.name}"
    if not (out / "cost.json").is_file():
        single = models_of(replace(config, out=str(out)))
        begun = time.process_time()
        for start in range(0, len(images), BATCH):
            photos = [Photo(path, path.name, path.stem) for path in images[start : start + BATCH]]
            fit_photos(photos, [{}] * len(photos), single)
        out.mkdir(parents=True, exist_ok=True)
        (out / "cost.json").write_text(json.dumps((time.process_time() - begun) / len(images)))
    fits = [load_fit(next(out.glob(f"{path.stem}_*.npz"))) for path in images]
    body = models.body
    return {
        "clip": clip.photo.name,
        "frames": len(images),
        "single": {**measures(fits, clip.fps), "pa": truth_mm(fits, views, body),
                   "cost": json.loads((out / "cost.json").read_text())},
        "clip_": {**measures(of_sequence(sequence, fits[0]), clip.fps),
                  "pa": truth_mm(of_sequence(sequence, fits[0]), views, body), "cost": spent / len(images)},
        "shape": float(np.ptp(np.stack([sequence.betas] * len(sequence)), 0).max()),
        "single shape": float(np.stack([fit.betas for fit in fits]).std(0).mean()),
    }  # fmt: skip


def of_sequence(sequence: Sequence, like: Fit) -> list[Fit]:
    """Its frames as fits."""
    return [
        replace(
            like,
            joints_cam=sequence.joints_cam[at],
            keypoints_px=sequence.keypoints_px[at],
            observed_px=sequence.observed_px[at],
            box_px=sequence.box_px[at],
            pose=sequence.pose[at],
            betas=sequence.betas,
            transl_cam=sequence.transl_cam[at],
            vertices_cam=None,
        )
        for at in range(len(sequence))
    ]


def measures(fits: list[Fit], fps: float) -> dict[str, float]:
    """Jitter, m/s^2, and keypoint error, per cent of the box."""
    joints = np.stack([fit.joints_cam for fit in fits])
    bent = joints[2:] - 2 * joints[1:-1] + joints[:-2]
    errors = []
    for fit in fits:
        sure = fit.observed_px[:, 2] > BOX_CONFIDENCE
        away = np.linalg.norm(fit.keypoints_px - fit.observed_px[:, :2], axis=1)
        errors.append(100 * away[sure].mean() / box_side(fit.box_px))
    return {
        "jitter": float(np.linalg.norm(bent, axis=-1).mean() * fps**2),
        "keypoints": float(np.mean(errors)),
    }


def truth_mm(fits: list[Fit], views: dict, body) -> float:
    """PA-MPJPE at the frames whose truth is known."""
    found = []
    for frame, view in views.items():
        if frame < len(fits):
            true = np.stack([view.joints_cam[name] for name in EVALUATED])
            found.append(joint_errors_mm(evaluated_joints(fits[frame].posed(body), body), true)["pa"].mean())
    return float(np.mean(found))


def report(rows: list[dict], name: str) -> dict[str, float]:
    """Writes the tables; returns the figures by name."""
    mean = {
        way: {key: float(np.mean([row[way][key] for row in rows])) for key in rows[0][way]}
        for way in ("single", "clip_")
    }
    table = [
        (row["clip"], what, *(row[way][key] for way in ("single", "clip_")))
        for row in rows
        for key, what in (("jitter", "mean joint acceleration, m/s²"), ("keypoints", "keypoint error, % of the box"),
                          ("pa", "PA-MPJPE at the known frames, mm"), ("cost", "processor time a frame, s"))
    ]  # fmt: skip
    ratio = {key: mean["clip_"][key] / mean["single"][key] for key in ("jitter", "keypoints", "cost")}
    figures = {
        "jitter_ratio": (ratio["jitter"], ""),
        "keypoint_error_ratio": (ratio["keypoints"], ""),
        "video_pa_mpjpe_mm": (mean["clip_"]["pa"], "mm"),
        "video_single_pa_mpjpe_mm": (mean["single"]["pa"], "mm"),
        "video_shape_spread": (max(row["shape"] for row in rows), ""),
        "frame_cost_ratio": (ratio["cost"], ""),
    }
    tables = [Table("Clip by clip", ("clip", "measure", "frame by frame", "as a clip"), table)]
    write_results(name, __doc__, figures, tables)
    return {key: value for key, (value, _) in figures.items()}


if __name__ == "__main__":
    main()
