"""Do people who stand straight get bodies that stand straight? Knees, line, trunk and shanks of fits to photos.

    python -m benchmarks.posture --photos DIR --list FILE                  # every photo named in the list
    python -m benchmarks.posture ... --pictures DIR --cache DIR            # with contact sheets; detections kept
    python -m benchmarks.posture ... --quick                               # the first 8

Photos: those of Clothing-Co-Parsing (Yang, Luo, Lin, CVPR 2014) in which somebody stands upright; the list has a name a
line, with or without .jpg. The largest person of each, with the shipped detector and parser: keypoints alone, and with
DSR, from the same detection. There is no 3D truth: whoever stands has a nearly straight support leg and is upright,
and the camera is held about level, so far from 0 is wrong; a few degrees are not (a body's straight leg, heels,
a tilted camera).

Of the body's own joints, in the camera's frame, in degrees. Support knee: how far the straighter leg is from a straight
line hip - knee - ankle. Line: from the ankles' middle to the neck, against the camera's vertical; sagittal: the same as
seen from the side, positive where the top leans towards the camera. Trunk: from pelvis to neck. Shank: from the
support leg's ankle to its knee. A photo where nobody is found, or with no finite fit, is a failure: its knee counts
as more than 20 degrees, and it is left out of medians and percentiles.

A cache keeps what detector and parser say of each photo, so that only the fits are made again. A file in it is named by
what it was made from: the photo's bytes, the networks' and the code's about them.
"""

import argparse
import hashlib
import json
import os
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import fitter
from benchmarks.report import Table, write_results
from fitter.config import FitConfig
from fitter.label.soft_labels import SoftLabels
from fitter.method import Models
from fitter.people import Sighting, fit_clothing, fit_keypoints
from fitter.pipeline import labels_alone
from fitter.run import models_of
from fitter.see.camera_files import camera_of_photo
from fitter.see.keypoints import Person, select_people
from fitter.see.photos import PHOTO_SUFFIXES
from fitter.see.picture import read_image
from fitter.write.overlay import paint, side_view
from fitter.write.result import Fit, is_finite
from priors.skeleton import JOINT_NAMES

METHODS = ("keypoints", "dsr")
TITLES = {"keypoints": "keypoints alone", "dsr": "with DSR"}
MEASURES = ("support_knee", "line", "sagittal", "trunk", "shank")
BENT_DEG = 20.0
PANEL_PX = (240, 150)  # height, width of each of a tile's four pictures
CAPTION_PX = 34
ROWS, COLUMNS = 8, 3  # tiles of a page
MADE_BY = (
    "see/boxes",
    "see/crops",
    "see/detect",
    "see/each_once",
    "see/limbs",
    "see/networks",
    "label/parse",
)  # modules that decide what is kept


@dataclass(frozen=True)
class Result:
    """One photo: its angles by method (empty where nobody was fitted), why not, and its tile [H, W, 3] uint8."""

    photo: str
    angles: dict[str, dict[str, float]]
    failure: str = ""
    tile: np.ndarray | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True, help="folder of photos")
    parser.add_argument("--list", required=True, help="text file, a photo's name a line")
    parser.add_argument("--pictures", help="write contact sheets here")
    parser.add_argument("--cache", help="keep what detector and parser say here")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    photos = listed_photos(options.photos, options.list)
    photos = photos[:8] if options.quick else photos
    results = measure(photos, options.cache, bool(options.pictures), options.jobs)
    if options.pictures:
        save_sheets(Path(options.pictures), [result.tile for result in results])
    report(results, "posture_quick" if options.quick else "posture")


def listed_photos(folder: str | Path, listed: str | Path) -> list[Path]:
    """The photos that a text file names, in its order; FileNotFoundError: one is not in the folder, or none named."""
    names = [line.strip() for line in Path(listed).read_text().splitlines() if line.strip()]
    photos = []
    for name in names:
        places = [Path(folder) / f"{name}{suffix}" for suffix in ("", *PHOTO_SUFFIXES)]
        found = [place for place in places if place.is_file()]
        if not found:
            raise FileNotFoundError(f"{listed}: expected a photo {name!r} in {folder}, found none")
        photos.append(found[0])
    if not photos:
        raise FileNotFoundError(f"{listed}: expected a photo's name a line, found none")
    return photos


def measure(photos: list[Path], cache: str | None, drawn: bool, jobs: int) -> list[Result]:
    """Every photo's result, in their order."""
    from joblib import Parallel, delayed

    return list(Parallel(n_jobs=jobs)(delayed(one_photo)(photo, cache, drawn) for photo in photos))


def one_photo(photo: Path, cache: str | None = None, drawn: bool = False) -> Result:
    """The largest person fitted with both methods and the defaults."""
    models, image = models_of(FitConfig(images="")), read_image(photo)
    people, answers = seen(photo, image, models, cache)
    if not people:
        return Result(photo.name, {}, "nobody found", failed_tile(image, photo.stem) if drawn else None)
    camera = camera_of_photo(photo, None, image.shape[1], image.shape[0])
    sightings = [Sighting(photo.name, person, camera) for person in people]
    first = fit_keypoints(models.objective, sightings, models.config)
    models = replace(models, parse=lambda image, people: answers)
    labels = labels_alone(photo, image, people, camera, models, first)
    largest = select_people(people, "largest")[0]
    row = [one is largest for one in people].index(True)
    seen_and_labelled = [replace(sightings[row], labels=labels[row])]
    dsr = fit_clothing(models.objective, seen_and_labelled, [first[row]], models.config)[0]
    fits = {"keypoints": first[row], "dsr": dsr}
    if not all(map(is_finite, fits.values())):
        return Result(photo.name, {}, "not finite", failed_tile(image, photo.stem) if drawn else None)
    angles = {method: angles_deg(fit.joints_cam) for method, fit in fits.items()}
    return Result(photo.name, angles, tile=person_tile(image, fits, angles, models.faces) if drawn else None)


def angles_deg(joints_cam: np.ndarray) -> dict[str, float]:
    """MEASURES of joints [24, 3] m, in the camera's frame (y down, z forward)."""
    at = dict(zip(JOINT_NAMES, joints_cam, strict=True))
    knees = {
        side: between_deg(at[f"{side}_hip"] - at[f"{side}_knee"], at[f"{side}_knee"] - at[f"{side}_ankle"])
        for side in ("left", "right")
    }
    support = min(knees, key=knees.__getitem__)
    line = at["neck"] - (at["left_ankle"] + at["right_ankle"]) / 2
    up = np.array([0.0, -1.0, 0.0])
    return {
        "support_knee": knees[support],
        "line": between_deg(line, up),
        "sagittal": float(np.degrees(np.arctan2(-line[2], -line[1]))),
        "trunk": between_deg(at["neck"] - at["pelvis"], up),
        "shank": between_deg(at[f"{support}_knee"] - at[f"{support}_ankle"], up),
    }


def between_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two vectors [3], 0..180."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def seen(
    photo: Path, image: np.ndarray, models: Models, cache: str | None
) -> tuple[list[Person], dict[str | None, SoftLabels]]:
    """Everybody the detector finds, and the parser's answer by person; from the cache where it has them."""
    path = Path(cache) / f"{kept_name(photo)}.npz" if cache else None
    if path and path.is_file():
        return load_seen(path)
    people = models.detect(image)
    answers = models.parse(image, people) if people else {}
    if path:
        save_seen(path, people, answers)
    return people, answers


def kept_name(photo: Path) -> str:
    """Hash of all that detector and parser read."""
    return hashlib.sha256(photo.read_bytes() + maker_digest()).hexdigest()[:32]


@lru_cache
def maker_digest() -> bytes:
    home = Path(fitter.__file__).parent
    files = [*(home / f"{name}.py" for name in MADE_BY), *sorted((home / "models").glob("*.onnx"))]
    return b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)


def save_seen(path: Path, people: list[Person], answers: dict[str | None, SoftLabels]) -> None:
    """Arrays by "<row>.<field>", the rest as JSON; no pickle."""
    arrays, texts = {}, []
    for row, person in enumerate(people):
        entries = {item.name: getattr(person, item.name) for item in fields(person)}
        arrays |= {f"{row}.{k}": v for k, v in entries.items() if isinstance(v, np.ndarray)}
        texts.append({k: v for k, v in entries.items() if not isinstance(v, np.ndarray)})
        if person.id in answers:
            soft = answers[person.id]
            arrays |= {f"{row}.soft.prob": soft.prob, f"{row}.soft.window_px": soft.window_px}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    with open(unfinished, "wb") as file:
        np.savez_compressed(file, people=np.asarray(json.dumps(texts)), **arrays)
    unfinished.replace(path)


def load_seen(path: Path) -> tuple[list[Person], dict[str | None, SoftLabels]]:
    """What save_seen wrote."""
    people, answers = [], {}
    with np.load(path, allow_pickle=False) as file:
        for row, entries in enumerate(json.loads(str(file["people"]))):
            start = f"{row}."
            own = {key.removeprefix(start): file[key] for key in file.files if key.startswith(start)}
            soft = {key.removeprefix("soft."): own.pop(key) for key in list(own) if key.startswith("soft.")}
            entries["derived"] = tuple(entries["derived"])
            people.append(Person(**entries, **own))
            if soft:
                answers[people[-1].id] = SoftLabels(**soft)
    return people, answers


def person_tile(image: np.ndarray, fits: dict[str, Fit], angles: dict, faces: np.ndarray) -> np.ndarray:
    """photo | body with DSR over it | keypoints alone from the side | with DSR from the side, and the angles below."""
    fit = fits["dsr"]
    scale, origin = framing(fit)
    photo = cropped(image, scale, origin)
    center = (fit.center_px - origin) * scale
    body, covered = paint(fit.vertices_cam[None], faces, fit.focal_px * scale, center, PANEL_PX)
    over = np.where(covered[..., None], 0.15 * photo + 0.85 * 255 * body, photo).round().astype(np.uint8)
    sides = [side_view(fits[method], faces, PANEL_PX) for method in METHODS]
    tile = captioned(np.concatenate([photo, over, *sides], 1))
    write(tile, Path(fit.image).stem, 0, 0)
    for panel, method in enumerate(METHODS, 2):
        values = angles[method]
        write(tile, f"{TITLES[method]}: knee {values['support_knee']:.0f}", panel, 0)
        write(tile, f"line {values['line']:.0f}, sagittal {values['sagittal']:+.0f}", panel, 1)
    return tile


def framing(fit: Fit) -> tuple[float, np.ndarray]:
    """Pixels of a panel per pixel of the photo, and the photo's point [2] at the panel's top left corner: the detected
    person and the fitted body fill it."""
    body = fit.vertices_cam[:, :2] / fit.vertices_cam[:, 2:] * fit.focal_px + fit.center_px
    low, high = np.minimum(body.min(0), fit.box_px[:2]), np.maximum(body.max(0), fit.box_px[2:])
    size = np.array(PANEL_PX[::-1])
    scale = float((0.96 * size / (high - low)).min())
    return scale, (low + high) / 2 - size / scale / 2


def cropped(image: np.ndarray, scale: float, origin: np.ndarray) -> np.ndarray:
    """A panel of the photo, grey beyond it."""
    small = cv2.GaussianBlur(image, (0, 0), 0.4 / scale) if scale < 1 else image
    shift = -scale * origin + (scale - 1) / 2  # pixels' middles to pixels' middles
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(small, matrix, PANEL_PX[::-1], flags=cv2.INTER_LINEAR, borderValue=(160,) * 3)


def failed_tile(image: np.ndarray, name: str) -> np.ndarray:
    """The whole photo, and that nobody was fitted."""
    size = np.array(PANEL_PX[::-1])
    scale = float((size / image.shape[1::-1]).min())
    photo = cropped(image, scale, (image.shape[1::-1] - size / scale) / 2)
    tile = captioned(np.concatenate([photo, np.full((PANEL_PX[0], 3 * PANEL_PX[1], 3), 255, np.uint8)], 1))
    write(tile, f"{name}: failed", 0, 0)
    return tile


def captioned(pictures: np.ndarray) -> np.ndarray:
    """With room for two lines below and a margin at the right."""
    return np.pad(pictures, ((0, CAPTION_PX), (0, 10), (0, 0)), constant_values=255)


def write(tile: np.ndarray, text: str, panel: int, line: int) -> None:
    """Draws on the tile, below one of its panels."""
    at = (panel * PANEL_PX[1] + 2, PANEL_PX[0] + 13 + 15 * line)
    cv2.putText(tile, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)


def save_sheets(folder: Path, tiles: list[np.ndarray]) -> None:
    """Pages of 24 tiles, posture_01.png and on."""
    folder.mkdir(parents=True, exist_ok=True)
    count = ROWS * COLUMNS
    for page, start in enumerate(range(0, len(tiles), count), 1):
        shown = tiles[start : start + count]
        shown = shown + [np.full_like(tiles[0], 255)] * (-len(shown) % COLUMNS)
        rows = [np.concatenate(shown[i : i + COLUMNS], 1) for i in range(0, len(shown), COLUMNS)]
        Image.fromarray(np.concatenate(rows)).save(folder / f"posture_{page:02d}.png")


def figures_of(results: list[Result]) -> dict[str, tuple[float, str]]:
    """Headlines of both methods; of the photos where nobody was fitted, only the share of straight knees knows."""
    fitted = [result.angles for result in results if result.angles]
    figures = {"found": (float(len(fitted)), f"of {len(results)} photos")}
    for method, suffix in (("dsr", ""), ("keypoints", "_keypoints")):
        values = {key: np.array([angles[method][key] for angles in fitted]) for key in MEASURES}
        straight = float((values["support_knee"] <= BENT_DEG).sum() / len(results))
        if fitted:
            figures[f"support_knee_median_deg{suffix}"] = (float(np.median(values["support_knee"])), "deg")
        figures[f"support_knee_le20_share{suffix}"] = (straight, "of all photos, 0..1")
        if fitted:
            figures |= {
                f"line_p90_deg{suffix}": (float(np.percentile(values["line"], 90)), "deg"),
                f"trunk_median_deg{suffix}": (float(np.median(values["trunk"])), "deg"),
                f"shank_p90_deg{suffix}": (float(np.percentile(values["shank"], 90)), "deg"),
            }
    return figures


def report(results: list[Result], name: str) -> dict[str, float]:
    """Writes the tables; returns the figures by name."""
    fitted = [result.angles for result in results if result.angles]
    summary = []
    for key in MEASURES if fitted else ():
        values = [np.array([angles[method][key] for angles in fitted]) for method in METHODS]
        spread = [float(np.percentile(each, share)) for each in values for share in (50, 90)]
        summary.append((key, *spread))
    columns = [f"{TITLES[method]}, {statistic}" for method in METHODS for statistic in ("median", "p90")]
    tables = [
        Table(f"Degrees; found {len(fitted)} of {len(results)} photos", ("angle", *columns), summary),
        Table("Failures", ("photo", "why"), [(r.photo, r.failure) for r in results if not r.angles]),
        Table(
            "Every photo, degrees",
            ("photo", *(f"{key} {method}" for key in MEASURES for method in METHODS)),
            [(r.photo, *(round(r.angles[m][k], 1) if r.angles else "-" for k in MEASURES for m in METHODS))
             for r in results],
        ),
    ]  # fmt: skip
    figures = figures_of(results)
    write_results(name, __doc__, figures, tables)
    return {key: value for key, (value, _) in figures.items()}


if __name__ == "__main__":
    from benchmarks.posture import main as by_name  # worker processes find its functions by this name

    by_name()
