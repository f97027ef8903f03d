"""Where on people the shipped detector's keypoints lie: what fitter/see/keypoint_targets.py is made of.

    python -m benchmarks.keypoint_levels --photos DIR --without FILE

Photos: Clothing-Co-Parsing's street photos but those that `--without` lists (the standing people on whom posture is
measured). Of each photo the tallest person counts who stands straight and faces the camera: both eyes, shoulders, hips,
knees and ankles seen, legs straight in the picture and upright to 10 degrees, trunk to 6, ankles level, shoulders more
than half as wide as the trunk is long. Heights are read between the ankles and the eyes, which are given their places
on the mean adult of ANSUR II: eyes at 0.935 of stature; ankles at ANKLE, which shod feet do not show. A knee bent
towards the camera shortens thigh and shank alike, and a camera that looks down by 5 degrees shortens the shank by 1 to
2 % of itself.
"""

import argparse
import random
from pathlib import Path

import numpy as np

from benchmarks.report import Table, mean, write_results
from fitter.body.model import load_body
from fitter.config import FitConfig
from fitter.run import models_of
from fitter.see.keypoint_files import find_keypoints
from fitter.see.keypoint_targets import LAYOUTS
from fitter.see.keypoints import BODY_25
from fitter.see.picture import read_image
from priors.skeleton import JOINT_NAMES

EYES, ANKLE = 0.935, 0.050  # of stature
MIN_CONFIDENCE = 0.3
NEEDED = tuple(side + name for name in ("Eye", "Shoulder", "Hip", "Knee", "Ankle") for side in "LR")
SEGMENTS = (  # joint, and the next one along the limb
    ("Shoulder", "Hip"), ("Hip", "Knee"), ("Knee", "Ankle"), ("Ankle", "Knee"), ("Elbow", "Wrist"), ("Wrist", "Elbow"),
)  # fmt: skip
MEASURES = ("shoulder height", "hip height", "knee height", "hips' width", "shoulders' width")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos")
    parser.add_argument("--without", type=Path, help="file of photo names that are left out")
    parser.add_argument("--multiview", help="the folder of benchmarks.multiview, for how OpenPose differs")
    parser.add_argument("--count", type=int, help="so many photos, drawn at random; default: all")
    parser.add_argument("--quick", action="store_true", help="40 photos")
    options = parser.parse_args()
    left_out = set(options.without.read_text().split()) if options.without else set()
    photos = sorted(options.photos.glob("*.jpg"))
    random.Random(0).shuffle(photos)
    photos = [photo for photo in photos if not {photo.stem, photo.name} & left_out]
    photos = photos[: 40 if options.quick else options.count]
    detector = models_of(FitConfig(images="", parser="none")).detect
    rows = []
    for photo in photos:
        people = detector(read_image(photo))
        tallest = max(people, key=lambda person: np.ptp(person.box_px[1::2]), default=None)
        shares = None if tallest is None else upright_shares(tallest.keypoints_px)
        rows += [] if shares is None else [shares]
    differences = between_sources(options.multiview) if options.multiview else None
    name = "keypoint_levels_quick" if options.quick else "keypoint_levels"
    report(np.array(rows), len(photos), name, differences)


def between_sources(data: str) -> np.ndarray:
    """How much further along its limb (SEGMENTS) the detector sees a joint than OpenPose, shares of the limb. [N, 6].

    data: the trial of benchmarks.multiview; of its pictures only the 2D keypoints are used.
    """
    from benchmarks.multiview import read_views, the_man

    detector = models_of(FitConfig(images="", parser="none")).detect
    rows = []
    for view in read_views(data):
        seen = detector(read_image(view.photo)), find_keypoints(view.photo, Path(data) / "keypoints2d")
        ours, theirs = (the_man(view, people).keypoints_px[:, :2] for people in seen)
        shares = []
        for start, end in SEGMENTS:
            a, b = ([BODY_25.index(side + name) for side in "LR"] for name in (start, end))
            limb, off = theirs[b] - theirs[a], ours[a] - theirs[a]
            shares.append(((off * limb).sum(1) / (limb * limb).sum(1)).mean())
        rows.append(shares)
    return np.array(rows)


def upright_shares(keypoints_px: np.ndarray) -> np.ndarray | None:
    """MEASURES [5] of one person as shares of the height from ankles to eyes; None where they do not stand straight.

    keypoints_px: [25, 3], BODY_25.
    """
    at = {name: keypoints_px[BODY_25.index(name)] for name in NEEDED}
    if min(point[2] for point in at.values()) < MIN_CONFIDENCE:
        return None
    at = {name: point[:2] for name, point in at.items()}
    middle = {
        name: (at["L" + name] + at["R" + name]) / 2 for name in ("Eye", "Shoulder", "Hip", "Knee", "Ankle")
    }
    trunk = middle["Hip"] - middle["Shoulder"]
    width = {name: abs(at["L" + name][0] - at["R" + name][0]) for name in ("Shoulder", "Hip")}
    for side in "LR":
        thigh, shank = (at[side + b] - at[side + a] for a, b in (("Hip", "Knee"), ("Knee", "Ankle")))
        if _degrees(thigh, shank) > 8 or _degrees(thigh + shank, np.array([0.0, 1.0])) > 10:
            return None
    level = abs(at["LAnkle"][1] - at["RAnkle"][1]) < 0.12 * trunk[1]
    if _degrees(trunk, np.array([0.0, 1.0])) > 6 or width["Shoulder"] < 0.55 * trunk[1] or not level:
        return None
    height = middle["Ankle"][1] - middle["Eye"][1]
    heights = [middle["Ankle"][1] - middle[name][1] for name in ("Shoulder", "Hip", "Knee")]
    return np.array([*heights, width["Hip"], width["Shoulder"]]) / height


def _degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


def body_levels() -> dict[str, float]:
    """Heights of the open body's joints at rest, and half their widths, as shares of its stature."""
    body = load_body()
    low, high = float(body.template[:, 1].min()), float(body.template[:, 1].max())
    joint = {name: body.joint_template[JOINT_NAMES.index(f"left_{name}")].numpy()
             for name in ("shoulder", "hip", "knee", "ankle")}  # fmt: skip
    levels = {name: (float(point[1]) - low) / (high - low) for name, point in joint.items()}
    neck = float(body.joint_template[JOINT_NAMES.index("neck"), 1])
    return levels | {"neck": (neck - low) / (high - low), "stature_m": high - low}


def report(shares: np.ndarray, photos: int, name: str, differences: np.ndarray | None = None) -> None:
    """shares: [N, 5] of upright_shares; differences: [N, 6] of between_sources."""
    stature = shares * (EYES - ANKLE) + np.array([ANKLE] * 3 + [0, 0])
    shoulder, hip, knee, hips, shoulders = np.median(stature, 0)
    body = body_levels()
    leg, shank = body["hip"] - body["knee"], body["knee"] - body["ankle"]
    implied = {
        "hip_half_m": hips / 2 * body["stature_m"],
        "hip_drop": (body["hip"] - hip) / leg,
        "shoulder_half_m": shoulders / 2 * body["stature_m"],
        "shoulder_rise": (shoulder - body["shoulder"]) / (body["neck"] - body["shoulder"]),
        "knee_drop": (body["knee"] - knee) / shank,
        "ankle_rise": (ANKLE - body["ankle"]) / shank,
    }
    rows = [
        (title, float(np.median(values)), "{1:.4f} to {2:.4f}".format(*mean(values)), float(values.std()))
        for title, values in zip(MEASURES, stature.T, strict=True)
    ]
    tables = [
        Table(f"Keypoints of {len(shares)} people who stand straight, of {photos} photos, in statures",
              ("", "median", "mean, 95 %", "standard deviation"), rows),
        Table("What that says of the open body's layout", ("", "measured", "in use"),
              [(key, float(value), getattr(LAYOUTS["open"]["detector"], key)) for key, value in implied.items()]),
    ]  # fmt: skip
    if differences is not None:
        error = differences.std(0) / np.sqrt(len(differences))
        beyond = [
            (f"{a}, {b}", *map(float, both))
            for (a, b), *both in zip(SEGMENTS, differences.mean(0), error, strict=True)
        ]
        title = f"The detector's joint beyond OpenPose's, shares of the limb, {len(differences)} pictures"
        tables.append(Table(title, ("joint, towards", "mean", "standard error"), beyond))
    figures = {
        "keypoint_levels_people": (float(len(shares)), ""),
        "keypoint_knee_height": (float(knee), "of stature"),
        "keypoint_thigh_to_shank": (float((hip - knee) / (knee - ANKLE)), ""),
    }
    write_results(name, __doc__, figures, tables)


if __name__ == "__main__":
    main()
