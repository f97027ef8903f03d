"""Is everyone in a photo found, each once, and what do fits make of people who are half seen?

    python -m benchmarks.people --photos DIR --labels DIR --keypoints DIR                 # composites, people cut, fits
    python -m benchmarks.people ... --coco FILE --images DIR                              # and human-made keypoints
    python -m benchmarks.people ... --development                                         # photos after the first 100
    python -m benchmarks.people ... --only composites --pictures DIR                      # with pictures
    python -m benchmarks.people ... --quick                                               # a few of each

Photos, labels and keypoints as in `benchmarks.parser`. Composites (`benchmarks/composites.py`): 30 of 2 to 4 people, 30
of 5 to 8, each made by its number. Keypoints covered by somebody or outside the picture are not labelled. A person
counts with 6 visible keypoints or more and 35 % of the own pixels visible; whoever does not is ignored. The truth is
what the shipped detector said of each person alone, so recall says what company costs, not how right a joint is.

Recall: object keypoint similarity (OKS, COCO's sigmas, area of the visible mask) of 0.5 or more, matched as COCO does,
surest first. Of all skeletons found: merged, if 3 or more confident joints lie where another person has them and the
own person (sides exchanged or not) does not; duplicate, if matched with nobody and nearest to somebody whom another
skeleton has; false, if OKS with everybody, covered joints included, is below 0.1 and the middle of the joints lies in
no ignored person's box. All as per cent of the people that count.

Cut photos: of 20 street photos all below hips, waist or chest is taken away, camera and all else as in any photo.
Trunk: pelvis to neck; its lean against the camera's vertical, compared with the whole photo's fit. Reprojection: mean
distance of the keypoints seen in both, as a share of the whole person's box, by each fit of its own photo. A photo
where nobody is found counts as 90 degrees.

Fits: people of composites of 2 to 4, against the same person at the same place of the same street alone; the noise
floor is that person alone on two streets. Mean distance of 24 joints, mm, pelvis on pelvis, and aligned (PA).

Seconds: detector, keypoints included, on composites of 1 to 6 people of 1280 x 720 px, processor time of its one
thread: the median with one, and the slope over the number found.
"""

import argparse
import json
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from benchmarks.composites import Cut, compose, read_cut, scene_of, street
from benchmarks.posture import angles_deg, between_deg
from benchmarks.report import Table, write_results
from benchmarks.verdicts import FOUND_OKS, WRONG, Verdict, draw, joints_17, judge, oks
from fitter.config import FitConfig
from fitter.people import Sighting, fit_clothing, fit_keypoints
from fitter.pipeline import labels_alone
from fitter.run import models_of
from fitter.see.camera import default_camera
from fitter.see.keypoints import COCO_17, Person
from fitter.see.person_box import BOX_CONFIDENCE, box_side
from fitter.see.photos import list_photos
from fitter.see.picture import read_image
from fitter.write.result import Fit
from priors.skeleton import JOINT_NAMES
from regressor.metrics import mpjpe_mm, pa_mpjpe_mm

TEST_PHOTOS, COMPOSITES, FITTED, CUT_PHOTOS, TIMED = 100, 60, 12, 20, 24
CUTS = {"hip": 0.0, "waist": 0.35, "chest": 0.65}  # from hips to shoulders
LEAN_BAR_DEG = 8.0
METHODS = ("keypoints", "dsr")
SEEN_WHOLE = 0.9  # share of the own pixels that nobody covers
PARTS = ("composites", "cut", "company", "speed")


@lru_cache(maxsize=1)
def defaults():
    return models_of(FitConfig(images=""))


@lru_cache(maxsize=1)
def whole_people(photos: tuple[Path, ...], labels: str, keypoints: str) -> dict[str, Cut]:
    cuts = {photo.stem: read_cut(photo, labels, keypoints) for photo in photos}
    return {name: cut for name, cut in cuts.items() if cut is not None}


def people_of(number: int) -> int:
    """How many people the composite of a number has: 2 to 4 below half of COMPOSITES, 5 to 8 from there."""
    return 2 + number % 3 if number < COMPOSITES // 2 else 5 + number % 4


def one_composite(number: int, inputs: tuple, part: str, pictures: str | None = None) -> Verdict:
    streets, cuts, places, width = scene_of(number, people_of(number), whole_people(*inputs), part)
    truth = compose(street(whole_people(*inputs)[streets[0]], width), cuts, places)
    people, refused = defaults().detect.find_people(truth.image)
    verdict = judge([joints_17(p) for p in people], [p.score for p in people], truth)
    if pictures:
        draw(Path(pictures) / f"{part}_{number:02d}.png", truth, people, verdict, refused)
    return verdict


def fitted(image: np.ndarray, name: str, people: list[Person], dsr: bool = True) -> list[dict[str, Fit]]:
    """Everybody's fits by method, with the defaults."""
    models = defaults()
    camera = default_camera(image.shape[1], image.shape[0])
    seen = [Sighting(name, person, camera) for person in people]
    first = fit_keypoints(models.objective, seen, models.config)
    if not dsr:
        return [{"keypoints": fit} for fit in first]
    labels = labels_alone(name, image, people, camera, models, first)
    seen = [replace(one, labels=known) for one, known in zip(seen, labels, strict=True)]
    clothed = fit_clothing(models.objective, seen, first, models.config)
    return [dict(zip(METHODS, pair, strict=True)) for pair in zip(first, clothed, strict=True)]


def one_cut(photo: Path, inputs: tuple) -> list[tuple]:
    """Rows (photo, cut, method, lean's difference, trunks apart, deg; reprojection here and in the whole photo, % of
    the whole person's box; box's side / the whole one's, share of it outside the photo)."""
    image = whole_people(*inputs)[photo.stem].image
    whole, fits = largest(image, photo.name)
    at = dict(zip(COCO_17, joints_17(whole), strict=True))
    hip, shoulder = (((at["L" + name] + at["R" + name]) / 2)[1] for name in ("Hip", "Shoulder"))
    rows = []
    for cut, share in CUTS.items():
        shown = np.ascontiguousarray(image[: round(hip + share * (shoulder - hip))])
        person, found = largest(shown, photo.name)
        for method in METHODS:
            if person is None:
                rows.append((photo.stem, cut, method, 90.0, 90.0, np.nan, np.nan, np.nan, np.nan))
                continue
            pair = found[method], fits[method]
            both = np.all([fit.observed_px[:, 2] > BOX_CONFIDENCE for fit in pair], axis=0)
            distances = [
                100 * np.linalg.norm((fit.keypoints_px - fit.observed_px[:, :2])[both], axis=1).mean()
                / box_side(whole.box_px)
                for fit in pair
            ]  # fmt: skip
            trunks = [trunk(one[method]) for one in (found, fits)]
            leans = [angles_deg(one[method].joints_cam)["trunk"] for one in (found, fits)]
            below = np.clip(person.box_px[3] - len(shown), 0, None) / np.ptp(person.box_px[1::2])
            rows.append((photo.stem, cut, method, abs(leans[0] - leans[1]), between_deg(*trunks), *distances,
                         box_side(person.box_px) / box_side(whole.box_px), below))  # fmt: skip
    return rows


def largest(image: np.ndarray, name: str) -> tuple[Person | None, dict[str, Fit]]:
    people = defaults().detect(image)
    return (people[0], fitted(image, name, people[:1])[0]) if people else (None, {})


def trunk(fit: Fit) -> np.ndarray:
    """From pelvis to neck [3], m."""
    return fit.joints_cam[JOINT_NAMES.index("neck")] - fit.joints_cam[JOINT_NAMES.index("pelvis")]


def one_company(number: int, inputs: tuple, part: str) -> list[tuple]:
    """Rows (composite, person, method, share of the person that is seen; mm and PA mm from the fit alone, and both
    again of alone on another street)."""
    photos = whole_people(*inputs)
    streets, cuts, places, width = scene_of(number, people_of(number), photos, part)
    here, elsewhere = (street(photos[name], width) for name in streets[:2])
    height = len(here)
    elsewhere = cv2.copyMakeBorder(elsewhere, 0, max(height - len(elsewhere), 0), 0, 0, cv2.BORDER_REFLECT)[
        :height
    ]
    truth = compose(here, cuts, places)
    people = defaults().detect(truth.image)
    verdict = judge([joints_17(p) for p in people], [p.score for p in people], truth)
    fits = fitted(truth.image, f"company {number}", people) if people else []
    rows = []
    for p, (cut, place) in enumerate(zip(cuts, places, strict=True)):
        if verdict.match[p] < 0:
            continue
        alone = [largest(compose(back, [cut], [place]).image, "alone")[1] for back in (here, elsewhere)]
        if not all(alone):
            continue
        for method in METHODS:
            joints = [one[method].joints_cam[None] for one in (fits[verdict.match[p]], *alone)]
            numbers = [
                float(f(a, joints[1])[0]) for a in (joints[0], joints[2]) for f in (mpjpe_mm, pa_mpjpe_mm)
            ]
            rows.append((number, p, method, float(truth.share[p]), *numbers))
    return rows


def coco_rows(file: str, images: str) -> list[tuple]:
    """Rows (image, annotation, labelled keypoints, OKS or 0) of everybody with labelled keypoints, and how many
    skeletons nobody is like."""
    data, rows = json.loads(Path(file).read_text()), []
    for image in data["images"]:
        entries = [e for e in data["annotations"] if e["image_id"] == image["id"] and not e["iscrowd"]]
        people = defaults().detect(read_image(Path(images) / image["file_name"]))
        people = sorted(people, key=lambda person: -person.score)
        truth = [np.reshape(e["keypoints"], (17, 3)) + [0.5, 0.5, 0] for e in entries]
        best = np.zeros(len(entries))
        for person in people:
            alike = [oks(joints_17(person), t, e["area"], t[:, 2] > 0) * (known == 0)
                     for t, e, known in zip(truth, entries, best, strict=True)]  # fmt: skip
            if max(alike, default=0) >= FOUND_OKS:
                best[int(np.argmax(alike))] = max(alike)
        rows += [(image["file_name"], e["id"], e["num_keypoints"], float(value))
                 for e, value in zip(entries, best, strict=True) if e["num_keypoints"]]  # fmt: skip
    return rows


def seconds(inputs: tuple, part: str) -> list[tuple[int, float]]:
    """(people found, seconds) of pictures of 1280 x 720 px."""
    photos, taken = whole_people(*inputs), []
    for number in range(TIMED + 1):
        streets, cuts, places, width = scene_of(1000 + number, 1 + number % 6, photos, part)
        picture = compose(street(photos[streets[0]], width), cuts, places).image
        factor = min(1280 / picture.shape[1], 720 / picture.shape[0])
        small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        beyond = ((0, 720 - small.shape[0]), (0, 1280 - small.shape[1]), (0, 0))
        small = np.pad(small, beyond, mode="edge")
        started = time.process_time()
        people = defaults().detect(small)
        taken.append((len(people), time.process_time() - started))
    return taken[1:]  # the first has loaded the networks


def composite_table(verdicts: list[Verdict]) -> tuple[dict, list[Table]]:
    figures, rows = {}, []
    for name, low, high in (("2_4", 2, 4), ("5_8", 5, 8), ("all", 2, 8)):
        chosen = [v for v in verdicts if low <= len(v.oks) <= high]
        counted = sum(int(v.counted.sum()) for v in chosen)
        if not counted:
            continue
        found = np.concatenate([v.oks[v.counted & (v.match >= 0)] for v in chosen])
        kinds = [100 * sum(len(getattr(v, kind)) for v in chosen) / counted for kind in WRONG]
        rows.append(
            (
                name.replace("_", " to "),
                len(chosen),
                counted,
                len(found) / counted,
                float(found.mean()),
                *kinds,
            )
        )
        if name != "all":
            figures[f"composite_recall_{name}"] = (len(found) / counted, "of people, OKS 0.5")
    figures["composite_oks"] = (rows[-1][4], "mean of those found")
    figures["duplicates_pct"] = (rows[-1][5] + rows[-1][6], "% of people, merged ones included")
    figures["false_people_pct"] = (rows[-1][7], "% of people")
    columns = ("people", "composites", "who count", "recall", "OKS", *(f"{kind}, %" for kind in WRONG))
    each = [(n, len(v.oks), int(v.counted.sum()), int((v.counted & (v.match >= 0)).sum()),
             *(len(getattr(v, kind)) for kind in WRONG)) for n, v in enumerate(verdicts)]  # fmt: skip
    each = Table("Every composite", ("number", "people", "who count", "found", *WRONG), each)
    return figures, [Table("Composites", columns, rows), each]


def cut_table(rows: list[tuple]) -> tuple[dict, list[Table]]:
    figures, lines = {}, []
    for method, suffix in (("keypoints", "_keypoints"), ("dsr", "")):
        for cut in (*CUTS, "all"):
            own = np.array([row[3:] for row in rows if row[2] == method and cut in (row[1], "all")])
            lean, apart, here, whole, size, below = own.T
            p90, share = float(np.percentile(lean, 90)), float((lean <= LEAN_BAR_DEG).mean())
            ratio = float(np.nanmean(here) / np.nanmean(whole))
            lines.append((cut, method, len(own), float(np.median(lean)), p90, share, float(np.percentile(apart, 90)),
                          ratio, float(np.nanmedian(size)), float(np.nanmedian(below))))  # fmt: skip
        figures[f"cut_lean_p90_deg{suffix}"] = (p90, "deg")
        figures[f"cut_lean_le8_share{suffix}"] = (share, "of photos and cuts")
        figures[f"cut_reprojection_ratio{suffix}"] = (ratio, "of the whole photo's")
    columns = ("cut", "method", "photos", "lean: difference, deg", "p90", "within 8", "trunks apart, p90 deg",
               "reprojection / whole photo's", "box side / whole one's", "box below the photo")  # fmt: skip
    names = ("photo", "cut", "method", "lean", "apart", "reprojection", "whole photo's", "box", "below")
    each = [(*row[:3], *(round(float(value), 3) for value in row[3:])) for row in rows]
    return figures, [Table("People cut off", columns, lines), Table("Every photo, cut off", names, each)]


def company_table(rows: list[tuple]) -> tuple[dict, list[Table]]:
    figures, lines = {}, []
    for method, suffix in (("keypoints", "_keypoints"), ("dsr", "")):
        for seen, least, most in (
            ("half covered", 0, SEEN_WHOLE),
            ("seen whole", SEEN_WHOLE, 2),
            ("all", 0, 2),
        ):
            own = np.array([row[4:] for row in rows if row[2] == method and least <= row[3] < most])
            if not len(own):
                continue
            middle, worst = (np.percentile(own, share, axis=0).tolist() for share in (50, 90))
            lines.append((method, seen, len(own), *middle, *worst))
        figures[f"company_mm{suffix}"] = (middle[0], "mm, median distance from the fit alone")
        figures[f"company_floor_mm{suffix}"] = (middle[2], "mm, the same of alone on two streets")
    names = ("in company", "in company, PA", "floor", "floor, PA")
    columns = (
        "method",
        "who",
        "people",
        *(f"{name}, {what}" for what in ("median mm", "p90") for name in names),
    )
    return figures, [Table("Fits in company and alone", columns, lines)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--keypoints", required=True)
    parser.add_argument("--coco", help="COCO annotations of people")
    parser.add_argument("--images", help="their photos")
    parser.add_argument("--development", action="store_true", help="photos after the first 100, to choose by")
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--pictures", help="write the composites, and what was found, here")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    from joblib import Parallel, delayed

    labelled = [photo.path for photo in list_photos(options.photos)]
    labelled = [photo for photo in labelled if (Path(options.labels) / f"{photo.stem}.png").is_file()]
    chosen = labelled[TEST_PHOTOS:] if options.development else labelled[:TEST_PHOTOS]
    inputs, part = (
        (tuple(chosen), options.labels, options.keypoints),
        ("test", "development")[options.development],
    )
    numbers = range(0, COMPOSITES, 10 if options.quick else 1)
    whole = [photo for photo in chosen if photo.stem in whole_people(*inputs)]
    figures, tables, run = {}, [], Parallel(n_jobs=options.jobs)
    if "composites" in options.only:
        verdicts = run(delayed(one_composite)(n, inputs, part, options.pictures) for n in numbers)
        add(figures, tables, *composite_table(verdicts))
    if "cut" in options.only:
        rows = run(delayed(one_cut)(photo, inputs) for photo in whole[: 2 if options.quick else CUT_PHOTOS])
        add(figures, tables, *cut_table([row for own in rows for row in own]))
    if "company" in options.only:
        rows = run(delayed(one_company)(n, inputs, part) for n in range(1 if options.quick else FITTED))
        add(figures, tables, *company_table([row for own in rows for row in own]))
    if options.coco:
        rows = coco_rows(options.coco, options.images)
        alike = np.array([row[3] for row in rows])
        add(figures, tables, {"coco_recall": (float((alike > 0).mean()), f"of {len(rows)} people, OKS 0.5"),
                              "coco_oks_least": (float(alike.min()), "0 where somebody is not found")},
            [Table("Human-made keypoints", ("image", "annotation", "keypoints", "OKS"), rows)])  # fmt: skip
    if "speed" in options.only:
        taken = np.array(seconds(inputs, part))
        further, _ = np.polyfit(*taken.T, 1)
        add(figures, tables, {"detect_s_one": (float(np.median(taken[taken[:, 0] == 1, 1])), "s"),
                              "detect_s_further": (float(further), "s")}, [])  # fmt: skip
    some = [] if set(options.only) == set(PARTS) else options.only
    switched = ["development"] * options.development + ["quick"] * options.quick
    name = "_".join(["people", *some, *switched])
    write_results(name, __doc__, figures, tables)


def add(figures: dict, tables: list[Table], more: dict, further: list[Table]) -> None:
    figures |= more
    tables += further


if __name__ == "__main__":
    from benchmarks.people import main as by_name  # worker processes find its functions by this name

    by_name()
