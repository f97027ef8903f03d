"""Do the DSR terms help, or harm, on real video with 3D joints from several cameras? Single view in, and all four.

    python -m benchmarks.multiview --data DIR             # 4 cameras x 6 frames
    python -m benchmarks.multiview --data DIR --quick     # the first frame of every camera

In the last part one body is fitted to all four pictures of an instant at once (`fitter.several`), each camera where
the trial's own calibration says, which is not the one that the truth's bundle adjustment ends with.

`multiview_trust_auc`: of one fit that is right (PA error below 60 mm) and one that is not, how often the right one is
trusted more (`benchmarks/trust.py`), over single pictures, both sources of keypoints, with and without DSR.

Data: the demo trial of Pose2Sim (Pagnon, Domalain, Reveret 2022; BSD-3-Clause), one man in shorts on a treadmill.
Each picture is fitted alone with its true intrinsics, pitch (18 to 25 degrees down) and roll (up to 26); lens
distortion moves no pixel by more than 0.3 px and is ignored. Truth: joints of a bundle adjustment of the four
cameras' extrinsics and the joints together on the OpenPose keypoints (`joints3d/joints3d_adjusted.json`, joints in
each camera's frame); the joints that the trial publishes contradict their own keypoints by 8-17 px, these by 5-7, and
rigid bones keep their length better (last table). The body's counterparts are the keypoint mapping's points
(`fitter/see/keypoint_targets.py`), for SMPL's hip joints are not OpenPose's hips; how OpenPose's keypoints differ from
the detector's was measured on the 2D keypoints of these very pictures, not on their truth. PA-MPJPE and pelvis-
centred MPJPE (the pelvis half way between the hips) in mm over shoulders, elbows, wrists, hips, knees, ankles. Bare
as he is, the man should fill his mask: its covered share, and the body's share outside of it, show whether the fit is
too thin.

The labels are NOT human-made: a network's person mask, split by the man's own colours at his detected keypoints (skin,
shorts, bathing cap) and by the nearest limb; bare chest and back, skin of the head seen from behind, and colours near
none of the three are unknown. The rule was made by looking at the label maps, never at a 3D error, and no weight of
the fit was chosen on these frames. The faces are pixelated in the data. The man wears next to nothing, so this is a
test of doing no harm, not of clothing. 24 frames of one man within 0.7 s are few and correlated: the bootstrap over
frames draws its intervals too narrow for any wider claim.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import tomllib
from PIL import Image

from benchmarks.report import Table, write_results
from benchmarks.trust import auc
from fitter.config import FitConfig
from fitter.label.label_files import UNKNOWN
from fitter.label.person_labels import PersonLabels, clean_labels
from fitter.method import Models
from fitter.people import Sighting, fit_keypoints, fit_people
from fitter.run import models_of
from fitter.see.camera import Camera, tilt_deg
from fitter.see.keypoint_files import find_keypoints
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import BODY_25, Person
from fitter.see.limbs import PARTS, part_distances
from fitter.see.picture import read_image
from fitter.see.rig import read_rig
from fitter.several import Look, one_body, same_people
from fitter.trust import RIGHT_MM
from fitter.write.overlay import covered_by, overlay
from priors.clothing import LABELS, PALETTE
from regressor.metrics import procrustes
from synth.ccp_labels import main_person, split_skin

EVALUATED = tuple(
    side + name for name in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle") for side in "LR"
)
SOURCES = ("detector", "openpose")
# fmt: off
TITLES = {
    "pa": "PA-MPJPE, mm", "pelvis": "MPJPE, pelvis-centred, mm", "covered": "mask covered by the body, %",
    "outside": "body outside the mask, %",
}
SAMPLES = {  # colour: segments between keypoints and how far along, where the man certainly shows it
    "skin": (("Elbow", "Wrist", 0.5), ("Shoulder", "Elbow", 0.6), ("Knee", "Ankle", 0.4), ("Knee", "Ankle", 0.6)),
    "shorts": (("Hip", "Knee", 0.15), ("Hip", "Knee", 0.35)),
}
# fmt: on
CAP_RISE = 0.8  # the cap is sampled this far beyond the face's middle, in distances of face and shoulders
SAMPLE_PX = 4  # half side of a sample
LIGHTNESS = 0.5  # of Lab's three axes, L counts half: shading
MAX_COLOR_DISTANCE = 40.0  # from the nearest of the three colours, in Lab
FRINGE = np.ones((7, 7), np.uint8)  # px: skin narrower than this is a fringe of mixed colours
MAX_PART_BEYOND = 0.08  # shorts and cap: standing heights beyond the torso or leg, the head


@dataclass(frozen=True)
class View:
    """One picture: its files, its camera, and the truth.

    name: camNN_FFFF; distortion [4] OpenCV's k1 k2 p1 p2; joints_cam: BODY_25 name -> [3] m in the camera's frame.
    """

    name: str
    photo: Path
    mask: Path
    camera: Camera
    distortion: np.ndarray
    joints_cam: dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", required=True, help="folder with frames, keypoints2d, joints3d, calibration"
    )
    parser.add_argument("--pictures", help="write label maps and before/after pictures of all frames here")
    parser.add_argument(
        "--tilt-unknown", action="store_true", help="the fit is not told the cameras' pitch and roll"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    views = read_views(options.data)
    if options.quick:
        views = [view for view in views if view.name.endswith("_0000")]
    from joblib import Parallel, delayed

    data = Path(options.data)
    if options.tilt_unknown:
        views = [replace(view, camera=replace(view.camera, pitch_deg=None, roll_deg=None)) for view in views]
    parallel = Parallel(n_jobs=options.jobs)
    work = parallel(delayed(measure)(view, data, options.pictures) for view in views)
    rows = [row for found in work for row in found]
    instants = [[view for view in views if view.name[6:] == at] for at in sorted({v.name[6:] for v in views})]
    work = parallel(delayed(measure_together)(one, data, options.pictures) for one in instants)
    together = [row for found in work for row in found]
    name = "multiview_tilt_unknown" if options.tilt_unknown else "multiview"
    report(rows, together, views, f"{name}_quick" if options.quick else name)


def read_views(data: str | Path) -> list[View]:
    """All pictures of the data's folder, by camera and frame; FileNotFoundError if there are none."""
    data = Path(data)
    photos = sorted((data / "frames").glob("cam*_*.jpg"))
    if not photos:
        raise FileNotFoundError(f"{data}/frames: expected camNN_FFFF.jpg of the Pose2Sim trial, found none")
    cameras = tomllib.loads((data / "calibration" / "Calib_qualisys.toml").read_text())
    truth = json.loads((data / "joints3d" / "joints3d_adjusted.json").read_text())
    views = []
    for photo in photos:
        number, frame = photo.stem.split("_")
        calibration = cameras[f"cam_{number[3:]}"]
        with Image.open(photo) as image:
            width, height = image.size
        k = np.array(calibration["matrix"])
        points = np.array(truth["frames"][frame][number], np.float64)
        down = cv2.Rodrigues(np.array(calibration["rotation"]))[0] @ [0.0, 0.0, -1.0]
        tilt = tilt_deg(down)
        views.append(
            View(
                name=photo.stem,
                photo=photo,
                mask=photo.with_name(f"{photo.stem}_personmask.png"),
                camera=Camera(k[0, 0], k[1, 1], k[0, 2], k[1, 2], width, height, "user", *tilt),
                distortion=np.array(calibration["distortions"]),
                joints_cam=dict(zip(truth["joint_names"], points, strict=True)),
            )
        )
    return views


def measure(view: View, data: Path, pictures: str | None = None) -> list[dict]:
    """One picture fitted with each source of keypoints: errors of keypoints alone ("before") and with DSR ("after")."""
    models, image, rows = models_for(data), read_image(view.photo), []
    for source in SOURCES:
        person, labels = man_and_clothes(view, source, data, models)
        arguments = (view.photo.name, [person], view.camera, models.body, models.prior, models.config)
        fits = fit_people(*arguments)[0], fit_people(*arguments, [labels], models.semantics)[0]
        before, after = (errors_of(fit, view, models) for fit in fits)
        valid = tuple(fit.valid for fit in fits)
        trust = tuple(fit.quality["trust"] for fit in fits)
        rows.append(
            {
                "view": view.name,
                "source": source,
                "before": before,
                "after": after,
                "valid": valid,
                "trust": trust,
            }
        )
        if pictures:
            save_pictures(Path(pictures), f"{view.name}_{source}", image, labels, fits, models)
    return rows


def measure_together(views: list[View], data: Path, pictures: str | None = None) -> list[dict]:
    """All pictures of one instant fitted with one body: rows as of `measure`."""
    models, rig = models_for(data), read_rig(data / "calibration" / "Calib_qualisys.toml")
    rows = []
    for source in SOURCES:
        bare, worn = [], []
        for view in views:
            person, labels = man_and_clothes(view, source, data, models)
            sighting = Sighting(view.photo.name, person, view.camera)
            (alone,) = fit_keypoints(models.objective, [sighting], models.config)
            bare.append(Look(sighting, rig.cameras[rig.place_of(view.photo.name)[0]], alone))
            worn.append(replace(bare[-1], sighting=replace(sighting, labels=labels)))
        (same,) = same_people(bare)
        before = one_body([bare[at] for at in same], models.objective, models.config)
        after = one_body([worn[at] for at in same], models.objective, models.config, before)
        for view, *fits in zip(views, before.fits, after.fits, strict=True):
            errors = [errors_of(fit, view, models) for fit in fits]
            valid = tuple(fit.valid for fit in fits)
            rows.append(
                {"view": view.name, "source": source, "before": errors[0], "after": errors[1], "valid": valid}
            )
            if pictures:
                labels = worn[views.index(view)].sighting.labels
                name = f"{view.name}_{source}_together"
                save_pictures(Path(pictures), name, read_image(view.photo), labels, fits, models)
    return rows


def models_for(data: Path) -> Models:
    return models_of(FitConfig(images="", labels=str(data), parser="none", people="largest"))


def man_and_clothes(view: View, source: str, data: Path, models: Models) -> tuple[Person, PersonLabels]:
    """The man as one of SOURCES sees him, and his labels."""
    image, mask = read_image(view.photo), read_mask(view)
    if source == "detector":
        people = models.detect(image)
    else:
        people = find_keypoints(view.photo, data / "keypoints2d")
    person = the_man(view, people)
    return person, clean_labels(label_by_color(image, mask, person.keypoints_px), person.keypoints_px)


def errors_of(fit, view: View, models: Models) -> dict:
    """`joint_errors_mm` and `mask_shares` of a fit."""
    true = np.stack([view.joints_cam[name] for name in EVALUATED])
    found = joint_errors_mm(evaluated_joints(fit, models.body), true)
    return found | mask_shares(fit, models.faces, read_mask(view))


def read_mask(view: View) -> np.ndarray:
    """[H, W] bool: the man, by a network."""
    return np.asarray(Image.open(view.mask).convert("L")) > 127


def the_man(view: View, people: list[Person]) -> Person:
    """Who of a picture's people is the man of the mask; ValueError: nobody."""
    person = main_person(people, read_mask(view).astype(np.uint8))
    if person is None:
        raise ValueError(f"{view.name}: expected the man of the mask among {len(people)} people, found none")
    return person


def evaluated_joints(fit, body) -> np.ndarray:
    """The fitted body's counterparts of EVALUATED, [12, 3] m in the camera's frame."""
    matrix, _ = body_targets(fit.keypoint_source, *body.joint_layout)
    points = np.concatenate([fit.joints_cam, fit.vertices_cam[body.landmark_ids.numpy()]])
    return (matrix @ points)[[BODY_25.index(name) for name in EVALUATED]]


def joint_errors_mm(predicted_m: np.ndarray, true_m: np.ndarray) -> dict[str, np.ndarray]:
    """Errors of EVALUATED joints [12, 3] m by measure: pa (similarity-aligned), pelvis (hips' middles laid on each
    other), each [12] mm."""
    hips = [EVALUATED.index(side + "Hip") for side in "LR"]
    centred = predicted_m - predicted_m[hips].mean(0) + true_m[hips].mean(0)
    aligned = {"pa": procrustes(predicted_m, true_m), "pelvis": centred}
    return {name: 1000 * np.linalg.norm(points - true_m, axis=-1) for name, points in aligned.items()}


def mask_shares(fit, faces: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Per cent: of the mask [H, W] that the body covers, and of the body outside of the mask."""
    body = covered_by(fit.vertices_cam[None], faces, fit.focal_px, fit.center_px, mask.shape)
    return {
        "covered": float(100 * (body & mask).sum() / mask.sum()),
        "outside": float(100 * (body & ~mask).sum() / max(body.sum(), 1)),
    }


def label_by_color(image_rgb: np.ndarray, mask: np.ndarray, keypoints_px: np.ndarray) -> np.ndarray:
    """Label ids [H, W] uint8 of the man, 0 where the mask [H, W] is false; see the module's first lines.

    image_rgb [H, W, 3] uint8; keypoints_px [25, 3]. All of the mask is unknown if the keypoints show no skin or
    shorts.
    """
    ids = np.where(mask, UNKNOWN, 0).astype(np.uint8)
    lab = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2LAB).astype(np.float32) * (LIGHTNESS, 1, 1)
    lab = cv2.GaussianBlur(lab, (0, 0), 2)
    places = {name: sample_places(keypoints_px, segments) for name, segments in SAMPLES.items()}
    places["cap"] = cap_place(keypoints_px)
    colors = {name: sample_colors(lab, mask, points) for name, points in places.items()}
    if any(len(colors[name]) == 0 for name in SAMPLES):
        return ids
    regions, count = largest_region(mask), {name: len(found) for name, found in colors.items()}
    pixels = lab[regions]
    distance = np.stack(
        [np.linalg.norm(pixels[:, None] - found[None], axis=-1).min(1) if count[name] else np.full(len(pixels), np.inf)
         for name, found in colors.items()]
    )  # fmt: skip
    nearest = np.where(distance.min(0) < MAX_COLOR_DISTANCE, distance.argmin(0), -1)
    y, x = np.nonzero(regions)
    relative, beyond = part_distances(np.stack([x, y], 1) + 0.5, keypoints_px)
    part = np.array(PARTS)[relative.argmin(1)]
    near = beyond.min(1) < MAX_PART_BEYOND
    labels = np.full(len(pixels), UNKNOWN, np.uint8)
    below = np.isin(part, ("torso", "left-leg", "right-leg", "left-arm", "right-arm"))
    labels[(nearest == 1) & near & below] = LABELS.index("pants")
    labels[(nearest == 2) & (part == "head")] = LABELS.index("hat")
    ids[regions] = labels
    skin = np.zeros(mask.shape, bool)
    skin[regions] = nearest == 0
    skin = cv2.morphologyEx(skin.astype(np.uint8), cv2.MORPH_OPEN, FRINGE) > 0
    ids[skin] = split_skin(skin, keypoints_px)
    if not faces_camera(keypoints_px):
        ids[ids == LABELS.index("face")] = UNKNOWN
    return ids


def sample_places(keypoints_px: np.ndarray, segments) -> np.ndarray:
    """[N, 2] px on both sides' segments (start, end, share of the way) whose ends are seen."""
    places = []
    for start, end, share in segments:
        for side in "LR":
            a, b = (keypoints_px[BODY_25.index(side + name)] for name in (start, end))
            if min(a[2], b[2]) > 0.3:
                places.append(a[:2] + share * (b[:2] - a[:2]))
    return np.array(places).reshape(-1, 2)


def cap_place(keypoints_px: np.ndarray) -> np.ndarray:
    """[1, 2] px on the cap: beyond the middle of the ears, as seen from the shoulders; [0, 2] if not seen."""
    ears, shoulders = (
        keypoints_px[[BODY_25.index(side + name) for side in "LR"]] for name in ("Ear", "Shoulder")
    )
    if min(ears[:, 2].min(), shoulders[:, 2].min()) <= 0.3:
        return np.zeros((0, 2))
    face, below = ears[:, :2].mean(0), shoulders[:, :2].mean(0)
    return (face + CAP_RISE * (face - below) / 2)[None]


def sample_colors(lab: np.ndarray, mask: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[N, 3] median colours of small squares of lab [H, W, 3] round the places [N, 2] px that lie on the mask."""
    colors = []
    for x, y in np.round(places).astype(int):
        square = (
            slice(max(y - SAMPLE_PX, 0), y + SAMPLE_PX + 1),
            slice(max(x - SAMPLE_PX, 0), x + SAMPLE_PX + 1),
        )
        if mask[square].any() and mask[square].mean() > 0.9:
            colors.append(np.median(lab[square].reshape(-1, 3), 0))
    return np.array(colors).reshape(-1, 3)


def largest_region(mask: np.ndarray) -> np.ndarray:
    """The mask's largest connected region, [H, W] bool; all of an empty mask."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return mask if count < 2 else regions == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()


def faces_camera(keypoints_px: np.ndarray) -> bool:
    """Whether the man's chest is seen: with the head up, his left shoulder lies to the right in the picture."""
    left, right, neck, hips = (
        keypoints_px[BODY_25.index(n), :2] for n in ("LShoulder", "RShoulder", "Neck", "MidHip")
    )
    across, down = left - right, hips - neck
    return bool(across[0] * down[1] - across[1] * down[0] > 0)


def save_pictures(folder: Path, name: str, image, labels: PersonLabels, fits, models: Models) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shades = np.where(labels.valid[..., None] > 0, PALETTE[np.where(labels.valid > 0, labels.ids, 0)], 255)
    painted = np.where((labels.ids > 0)[..., None], 0.35 * image + 0.65 * shades, image).astype(np.uint8)
    Image.fromarray(painted).save(folder / f"{name}_labels.png")
    pair = np.concatenate([overlay(image, [fit], models.faces) for fit in fits], 1)
    Image.fromarray(pair).save(folder / f"{name}.png")


def bone_lengths(views: list[View]) -> list[tuple]:
    """(bone, mean length, standard deviation over the frames, both mm) of the true joints: what is rigid tells of their
    noise."""
    frames = [view for view in views if view.name[:5] == views[0].name[:5]]  # every camera has the same truth
    rows = []
    for start, end in (("Shoulder", "Elbow"), ("Elbow", "Wrist"), ("Hip", "Knee"), ("Knee", "Ankle")):
        for side in "LR":
            vectors = [view.joints_cam[side + start] - view.joints_cam[side + end] for view in frames]
            lengths = 1000 * np.linalg.norm(vectors, axis=1)
            rows.append((f"{side}{start} - {side}{end}", float(lengths.mean()), float(lengths.std())))
    return rows


def stacked(rows: list[dict], source: str, measure_name: str) -> tuple[np.ndarray, np.ndarray]:
    """A measure of all frames with one source's keypoints, before and after: each [N] or [N, 12]."""
    mine = [row for row in rows if row["source"] == source]
    return tuple(np.array([row[when][measure_name] for row in mine]) for when in ("before", "after"))


def summary_row(rows: list[dict], source: str, measure_name: str, title: str) -> tuple:
    before, after = (
        values.reshape(len(values), -1).mean(1) for values in stacked(rows, source, measure_name)
    )
    cells = []
    for values in (before, after, after - before):
        low, high = interval(values)
        cells.append(f"{values.mean():.3g} [{low:.3g}, {high:.3g}]")
    medians = f"{np.median(before):.3g} / {np.median(after):.3g}"
    return source, title, *cells, medians, f"{(after < before).sum()} of {len(before)}"


def report(rows: list[dict], together: list[dict], views: list[View], name: str) -> dict[str, float]:
    """Writes the tables; returns the figures by name."""
    pa = {source: stacked(rows, source, "pa") for source in SOURCES}
    cameras = np.array([view.name[:5] for view in views])
    sides = ("keypoints alone", "with DSR")
    tables = [
        Table(
            f"Mean over {len(views)} frames [95 % bootstrap over frames]",
            ("keypoints from", "measure", *sides, "change", "medians", "frames that fall"),
            [summary_row(rows, source, *item) for source in SOURCES for item in TITLES.items()],
        ),
        Table(
            "One body in all four pictures of an instant: the same",
            ("keypoints from", "measure", *sides, "change", "medians", "frames that fall"),
            [summary_row(together, source, *item) for source in SOURCES for item in TITLES.items()],
        ),
        Table(
            "PA error by camera, mm",
            ("keypoints from", "camera", *sides),
            [(source, camera, *(float(v[cameras == camera].mean()) for v in pair))
             for source, pair in pa.items() for camera in sorted(set(cameras))],
        ),
        Table(
            "PA error by joint, mm",
            ("keypoints from", "joint", *sides),
            [(source, joint, *(float(v[:, column].mean()) for v in pair))
             for source, pair in pa.items() for column, joint in enumerate(EVALUATED)],
        ),
        Table(
            "Every frame",
            ("frame", "keypoints from", "PA before", "PA after", "pelvis before", "pelvis after", "called valid"),
            [(row["view"], row["source"],
              *(round(float(row[when][m].mean()), 1) for m in ("pa", "pelvis") for when in ("before", "after")),
              "/".join("yes" if valid else "no" for valid in row["valid"]))
             for row in rows],
        ),
        Table("Bones of the truth, mm", ("bone", "mean length", "standard deviation"), bone_lengths(views)),
    ]  # fmt: skip
    figures = {}
    for source, (before, after) in pa.items():
        low, high = interval((after - before).mean(1))
        figures |= {
            f"multiview_pa_mpjpe_{source}_keypoints_mm": (float(before.mean()), "mm"),
            f"multiview_pa_mpjpe_{source}_dsr_mm": (float(after.mean()), "mm"),
            f"multiview_pa_mpjpe_{source}_change_low_mm": (low, "mm"),
            f"multiview_pa_mpjpe_{source}_change_high_mm": (high, "mm"),
        }
    trust = np.array([row["trust"] for row in rows]).reshape(-1)
    error = np.array([[row[when]["pa"].mean() for when in ("before", "after")] for row in rows]).reshape(-1)
    right = error < RIGHT_MM
    figures |= {
        "multiview_trust_auc": (auc(trust, right), f"{len(right)} fits"),
        "multiview_trust_mean": (float(trust.mean()), f"{right.mean():.2f} are right"),
    }
    for source, suffix in zip(SOURCES, ("", "_openpose"), strict=True):
        before, after = (float(part.mean()) for part in stacked(together, source, "pa"))
        figures |= {
            f"views_pa_mpjpe{suffix}_mm": (after, "mm"),
            f"views_pa_mpjpe{suffix}_keypoints_mm": (before, "mm"),
        }
    write_results(name, __doc__, figures, tables)
    return {key: value for key, (value, _) in figures.items()}


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of values [N]; the same draws for every measure of N frames."""
    draws = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    from benchmarks.multiview import main as by_name  # worker processes find its functions by this name

    by_name()
