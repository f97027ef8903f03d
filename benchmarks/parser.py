"""How right is the shipped clothing parser, how fast, and what is it worth to a fit? On photos it was not trained on.

    python -m benchmarks.parser --photos DIR --labels DIR --keypoints DIR     # the first 100 photos with labels
    python -m benchmarks.parser ... --quick                                   # the first 8

Labels: Clothing-Co-Parsing converted by `python -m synth.ccp_labels`; keypoints: the shipped detector's, as OpenPose
files. These hundred photos were left out of training and of every choice (`synth/parser/train.py`). Pixels whose truth
is unknown (bags, belts, bare trunks, what keypoints could not split) count nowhere; left, right, face, arm and leg are
the conversion's, not a human's. The other photos of the data set show the same kind of street, and some of the same
people.

A pixel's group is the likeliest one, its labels' probabilities added, as the DSR terms see it. Separation: two test
people of one height, one pasted before or beside the other, each with the keypoints of their own photo and a detector's
noise on top (`synth.noise`); the share of a person's visible pixels that the other's label map claims. Close-ups: each
photo cut to what lies above the labelled person's hips and about as wide as the upper body, keypoints outside lost, and
scored as the whole photos are; groups that are not there count nowhere. Knowing nothing: the same photos blurred until
nobody can be made out, noise in their place, and a plain grey; the keypoints are as before. Gain kept: the
same photos fitted with keypoints alone, with the human-made labels, with the parser's; all three measured against the
human-made ones (`benchmarks.labelled_photos`); the parser's gain over the human labels' gain in minimally-clothed IoU.
"""

import argparse
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from benchmarks.labelled_photos import agreement
from benchmarks.report import Table, write_results
from fitter.config import FitConfig
from fitter.label.label_files import UNKNOWN, read_labels
from fitter.label.parse import Parser
from fitter.label.soft_labels import CLASSES, HIDDEN, SoftLabels, likeliest
from fitter.people import fit_people
from fitter.pipeline import labels_alone
from fitter.run import models_of
from fitter.see.camera import default_camera
from fitter.see.keypoint_files import find_keypoints
from fitter.see.keypoints import BODY_25, Person
from fitter.see.person_box import BOX_CONFIDENCE, keypoint_box
from fitter.see.photos import list_photos
from fitter.see.picture import read_image
from priors.clothing import LABELS
from synth.noise import noisy_keypoints
from synth.parser.scores import GROUPS, LEAST_PIXELS, confusion, group_iou, in_groups, mean_iou

PHOTOS, COMPOSITES, TIMED = 100, 60, 20
BINS = np.linspace(0, 1, 11)  # of confidence
HIPS = tuple(map(BODY_25.index, ("MidHip", "RHip", "LHip")))
BESIDE = (
    0.3  # of the longer side of the upper body's keypoints: how much further a close-up reaches at the sides
)
BLUR = 0.1  # of the person's longer side: the cells over which a photo is averaged until nothing is left
APART = (0.12, 0.45)  # distance of pasted people, shares of the person's height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--keypoints", required=True)
    parser.add_argument("--fits", action="store_true", help="also what the labels are worth to fits (long)")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    from joblib import Parallel, delayed

    labels = Path(options.labels)
    photos = [
        p
        for p in [photo.path for photo in list_photos(options.photos)]
        if (labels / f"{p.stem}.png").is_file()
    ]
    photos = photos[: 8 if options.quick else PHOTOS]
    inputs = options.labels, options.keypoints
    parsed = Parallel(n_jobs=2)(delayed(one_photo)(p, *inputs) for p in photos)
    others = photos[1:] + photos[:1]
    pairs = list(zip(photos, others, range(COMPOSITES), strict=False))
    claimed = Parallel(n_jobs=2)(delayed(one_composite)(a, b, n, *inputs) for a, b, n in pairs)
    tables = label_tables(parsed)
    figures = headlines(parsed, milliseconds(photos[:TIMED], options.keypoints))
    close = Parallel(n_jobs=2)(delayed(one_close_up)(p, *inputs) for p in photos)
    close = [table for table in close if table is not None]
    figures["parser_closeup_miou"] = mean_iou(sum(close)), ""
    tables.append(close_up_table(close))
    nothing = Parallel(n_jobs=2)(delayed(one_nothing)(p, n, *inputs) for n, p in enumerate(photos))
    tables.append(nothing_table([row["confidence"] for row in parsed], nothing))
    tables.append(separation_table(claimed))
    if options.fits:
        fitted = Parallel(n_jobs=2)(delayed(three_fits)(p, *inputs) for p in photos)
        table, kept = gain_table([row for row in fitted if row])
        tables.append(table)
        figures["parser_gain_kept_pct"] = (kept, "%")
    write_results("parser_quick" if options.quick else "parser", __doc__, figures, tables)


@lru_cache(maxsize=1)
def shipped() -> Parser:
    return Parser()


def labelled_person(photo: Path, keypoints: str, ids: np.ndarray) -> tuple[list[Person], int]:
    """People of a photo, and which of them the label map is of: most of whose keypoints lie on it."""
    people = find_keypoints(photo, keypoints)
    height, width = ids.shape
    counts = []
    for person in people:
        seen = person.keypoints_px[person.keypoints_px[:, 2] > 0.3, :2].astype(int)
        seen = seen[((seen >= 0) & (seen < [width, height])).all(1)]
        counts.append((ids[seen[:, 1], seen[:, 0]] > 0).sum())
    return people, int(np.argmax(counts))


def one_photo(photo: Path, labels: str, keypoints: str) -> dict:
    """Confusions, calibration and the parser's own confidence for one photo."""
    truth, image = read_labels(Path(labels) / f"{photo.stem}.png"), read_image(photo)
    people, index = labelled_person(photo, keypoints, truth)
    soft = shipped()(image, people)[people[index].id]
    predicted = likeliest(soft, truth.shape)
    known = truth != UNKNOWN
    fine = np.where(predicted == UNKNOWN, HIDDEN, predicted)
    table = np.bincount(truth[known].astype(int) * len(CLASSES) + fine[known], minlength=20 * len(CLASSES))
    groups = confusion(likeliest(in_groups(soft), truth.shape), truth)
    right, sure = calibration(soft, truth)
    person = np.diag(groups)[1:].sum() / max(groups[1:].sum(), 1)
    return {
        "photo": photo.stem,
        "labels": table.reshape(20, -1),
        "groups": groups,
        "groups_by_label": confusion(predicted, truth),
        "right": right,
        "sure": sure,
        "confidence": soft.confidence,
        "person_accuracy": float(person),
    }


def one_close_up(photo: Path, labels: str, keypoints: str) -> np.ndarray | None:
    """Confusion of the groups in the close-up of one photo; None if no hip was seen."""
    truth, image = read_labels(Path(labels) / f"{photo.stem}.png"), read_image(photo)
    people, index = labelled_person(photo, keypoints, truth)
    box = upper_box(people[index].keypoints_px, truth.shape)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    inside = [within(person, box) for person in people]
    name = people[index].id
    soft = shipped()(np.ascontiguousarray(image[y0:y1, x0:x1]), [person for person in inside if person])[name]
    truth = np.ascontiguousarray(truth[y0:y1, x0:x1])
    return confusion(likeliest(in_groups(soft), truth.shape), truth)


def upper_box(keypoints_px: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of a photo [H, W] from its top to the hips, as wide as the keypoints above and some more."""
    seen = keypoints_px[:, 2] > BOX_CONFIDENCE
    hips = [index for index in HIPS if seen[index]]
    if not hips:
        return None
    bottom = keypoints_px[hips, 1].mean()
    upper = keypoints_px[seen & (keypoints_px[:, 1] <= bottom), :2]
    if len(upper) < 4:
        return None
    margin = BESIDE * np.ptp(upper, axis=0).max()
    left, right = upper[:, 0].min() - margin, upper[:, 0].max() + margin
    return int(max(left, 0)), 0, int(min(right, size[1])), int(min(bottom, size[0]))


def within(person: Person, box: tuple[int, int, int, int]) -> Person | None:
    """The person in the photo cut to a box, keypoints outside lost; None where fewer than four are left."""
    points = person.keypoints_px - [*box[:2], 0]
    size = np.array(box[2:]) - box[:2]
    points[~((points[:, :2] >= 0) & (points[:, :2] < size)).all(1)] = 0
    if (points[:, 2] > BOX_CONFIDENCE).sum() < 4:
        return None
    return replace(person, keypoints_px=points, box_px=keypoint_box(points))


def one_nothing(photo: Path, number: int, labels: str, keypoints: str) -> tuple[float, float, float]:
    """The parser's confidence where the photo is blurred away, is noise, is plain grey."""
    truth, image = read_labels(Path(labels) / f"{photo.stem}.png"), read_image(photo)
    people, index = labelled_person(photo, keypoints, truth)
    person = people[index]
    cell = BLUR * float((person.box_px[2:] - person.box_px[:2]).max())
    cells = [max(round(edge / cell), 1) for edge in image.shape[1::-1]]
    blurred = cv2.resize(cv2.resize(image, cells, interpolation=cv2.INTER_AREA), image.shape[1::-1])
    noise = np.random.default_rng(number).integers(0, 256, image.shape, np.uint8)
    pictures = blurred, noise, np.full_like(image, 128)
    return tuple(shipped()(picture, people)[person.id].confidence for picture in pictures)


def calibration(soft: SoftLabels, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By BINS of the likeliest class's probability within the window: right pixels, and [count, sum of probability]."""
    height, width = truth.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x0, y0, x1, y1 = soft.window_px
    column = np.floor((x - x0) / (x1 - x0) * soft.prob.shape[1]).astype(int)
    row = np.floor((y - y0) / (y1 - y0) * soft.prob.shape[0]).astype(int)
    inside = (column >= 0) & (column < soft.prob.shape[1]) & (row >= 0) & (row < soft.prob.shape[0])
    inside &= truth != UNKNOWN
    prob = soft.prob[row[inside], column[inside]]
    best, most = prob.argmax(-1), prob.max(-1)
    number = np.clip(np.digitize(most, BINS) - 1, 0, len(BINS) - 2)
    right = np.bincount(number, best == truth[inside], minlength=len(BINS) - 1)
    count = np.bincount(number, minlength=len(BINS) - 1)
    return right, np.stack([count, np.bincount(number, most, minlength=len(BINS) - 1)])


def composite(first: Path, second: Path, number: int, labels: str, keypoints: str):
    """The second photo's person pasted on the first: image, owner [H, W] (0, 1, 2), both people's keypoints."""
    rng = np.random.default_rng(number)
    images, maps, points = [], [], []
    for photo in (first, second):
        ids = read_labels(Path(labels) / f"{photo.stem}.png")
        people, index = labelled_person(photo, keypoints, ids)
        images.append(read_image(photo)), maps.append(ids > 0), points.append(people[index].keypoints_px)
    boxes = [keypoint_box(p) for p in points]
    heights = [box[3] - box[1] for box in boxes]
    scale = heights[0] / heights[1] * rng.uniform(0.9, 1.1)
    aside = rng.choice([-1, 1]) * rng.uniform(*APART) * heights[0]
    middles = [(box[:2] + box[2:]) / 2 for box in boxes]
    move = np.array([[scale, 0, 0], [0, scale, 0]])
    move[:, 2] = middles[0] + [aside, 0] - move[:, :2] @ middles[1]
    size = images[0].shape[1::-1]
    pasted = cv2.warpAffine(images[1], move, size, flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    front = cv2.warpAffine(maps[1].astype(np.uint8), move, size, flags=cv2.INTER_NEAREST) > 0
    owner = np.where(front, 2, maps[0]).astype(np.uint8)
    share = cv2.GaussianBlur(front.astype(np.float32), (5, 5), 0.9)
    moved = points[1].copy()
    moved[:, :2] = moved[:, :2] @ move[:, :2].T + move[:, 2]
    return cv2.blendLinear(pasted, images[0], share, 1 - share), owner, [points[0], moved]


def one_composite(first: Path, second: Path, number: int, labels: str, keypoints: str) -> list[tuple]:
    """Share of each person's visible pixels that the other's map claims, and that their own does."""
    image, owner, points = composite(first, second, number, labels, keypoints)
    rng = np.random.default_rng([number, 1])
    people = []
    for name, truth in zip("01", points, strict=True):
        seen = truth[:, 2:] > BOX_CONFIDENCE
        found = noisy_keypoints(np.column_stack([truth[:, :2], seen]), rng) * seen
        people.append(Person(name, found, "openpose", keypoint_box(found)))
    answers = shipped()(image, people)
    claims = [likeliest(answers[person.id], owner.shape) for person in people]
    claims = [(ids > 0) & (ids != UNKNOWN) for ids in claims]
    return [
        (claims[1 - k][owner == k + 1].mean(), claims[k][owner == k + 1].mean())
        for k in (0, 1)
        if (owner == k + 1).any()
    ]


def three_fits(photo: Path, labels: str, keypoints: str) -> tuple | None:
    """Measures of the fits with keypoints alone, human-made labels, the parser's, each against the human-made."""
    config = FitConfig(images="", labels=labels, keypoints=keypoints, parser="none")
    human, parsed = (models_of(c) for c in (config, replace(config, labels=None, parser="shipped")))
    image = read_image(photo)
    people, index = labelled_person(photo, keypoints, read_labels(Path(labels) / f"{photo.stem}.png"))
    camera = default_camera(image.shape[1], image.shape[0])
    known = [labels_alone(photo, image, people, camera, models)[index] for models in (human, parsed)]
    if known[0] is None:
        return None
    arguments = (photo.name, [people[index]], camera, human.body, human.prior, config)
    fits = [fit_people(*arguments), *(fit_people(*arguments, [k], human.semantics) for k in known)]
    return tuple(agreement(fit[0], people[index], known[0], human) for fit in fits)


def milliseconds(photos: list[Path], keypoints: str) -> float:
    """Median time of one person on one core, mirror image included, network loaded."""
    taken = []
    for photo in photos:
        image, people = read_image(photo), find_keypoints(photo, keypoints)[:1]
        started = time.perf_counter()
        shipped()(image, people)
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken[1:]))


def headlines(parsed: list[dict], ms: float) -> dict[str, tuple[float, str]]:
    table = sum(row["groups"] for row in parsed)
    return {
        "parser_miou": (mean_iou(table), ""),
        "parser_pixel_accuracy": (float(np.diag(table).sum() / table.sum()), ""),
        "parser_ms": (ms, "ms"),
    }


def label_tables(parsed: list[dict]) -> list[Table]:
    groups = sum(row["groups"] for row in parsed)
    labels = sum(row["labels"] for row in parsed)
    each = np.stack([row["groups"] for row in parsed])
    rng = np.random.default_rng(0)
    draws = [group_iou(each[rng.integers(len(each), size=len(each))].sum(0)).mean() for _ in range(1000)]
    iou = group_iou(groups)
    by_label = float(group_iou(sum(row["groups_by_label"] for row in parsed)).mean())
    hit = np.diag(labels)
    union = labels.sum(1) + labels[:, :20].sum(0) - hit
    right = sum(row["right"] for row in parsed)
    count, sure = sum(row["sure"] for row in parsed)
    gap = np.abs(right - sure)[count > 0].sum() / count.sum()
    quality = np.array([(row["confidence"], row["person_accuracy"]) for row in parsed])
    rank = np.argsort(np.argsort(quality, 0), 0)
    fine = [
        (name, float(hit[i] / union[i]), float(hit[i] / labels[i].sum()), int(labels[i].sum()))
        for i, name in enumerate(LABELS)
        if labels[i].sum()
    ]
    return [
        Table("IoU by group", ("group", "IoU"), [*zip(GROUPS, iou.tolist(), strict=True),
              ("mean, 95 % low", float(np.percentile(draws, 2.5))),
              ("mean, 95 % high", float(np.percentile(draws, 97.5))),
              ("mean, by the likeliest label instead of the likeliest group", by_label)]),
        Table("Where pixels of each group go, % of the row", ("truth", *GROUPS, "hidden"),
              [(name, *(100 * row / row.sum())) for name, row in zip(GROUPS, groups, strict=True)]),
        Table("By label", ("label", "IoU", "recall", "pixels"), fine),
        Table("Where pixels of each label go, % of the row, 1 % and more", ("truth", "predicted"),
              [(name, spread(labels[i])) for i, name in enumerate(LABELS) if labels[i].sum()]),
        Table("Calibration: probability given and share that was right", ("probability", "right", "share of pixels"),
              [(float(s / n), float(r / n), float(n / count.sum()))
               for s, r, n in zip(sure, right, count, strict=True) if n]),
        Table("How sure it is", ("quantity", "value"),
              [("mean gap between probability and share that was right", float(gap)),
               ("rank correlation of a person's confidence and accuracy", float(np.corrcoef(rank.T)[0, 1]))]),
    ]  # fmt: skip


def spread(row: np.ndarray) -> str:
    share = 100 * row / row.sum()
    return ", ".join(f"{CLASSES[i]} {share[i]:.0f}" for i in np.argsort(-share) if share[i] >= 1)


def close_up_table(close: list[np.ndarray]) -> Table:
    table = sum(close)
    scored = table.sum(1) >= LEAST_PIXELS * table.sum()
    iou = group_iou(table)
    rng = np.random.default_rng(0)
    draws = [mean_iou(sum(close[i] for i in rng.integers(len(close), size=len(close)))) for _ in range(1000)]
    rows = [
        (name, float(value) if there else "none there", *(100 * row / max(row.sum(), 1)))
        for name, value, there, row in zip(GROUPS, iou, scored, table, strict=True)
    ]
    blank = [""] * (len(GROUPS) + 1)
    ends = zip(("mean, 95 % low", "mean, 95 % high"), np.percentile(draws, [2.5, 97.5]), strict=True)
    rows += [(name, float(value), *blank) for name, value in ends]
    columns = ("group", "IoU", *(f"seen as {name}, %" for name in (*GROUPS, "hidden")))
    return Table(f"Close-ups of {len(close)} photos", columns, rows)


def nothing_table(photos: list[float], nothing: list[tuple[float, float, float]]) -> Table:
    """Confidence on the photos and where there is nothing to be seen."""
    columns = list(zip(*nothing, strict=True))
    rows = [("the photos", float(np.mean(photos)), "")]
    for name, values in zip(("blurred away", "noise", "plain grey"), columns, strict=True):
        below = 100 * float(np.mean(np.array(values) < photos))
        rows.append((name, float(np.mean(values)), below))
    return Table(
        "Its confidence where it knows nothing", ("picture", "mean confidence", "below the photo's, %"), rows
    )


def separation_table(claimed: list[list[tuple]]) -> Table:
    found = np.array([share for pair in claimed for share in pair])
    return Table(
        "Two people, one pasted before the other",
        ("quantity", "value"),
        [
            ("composites", len(claimed)),
            ("pixels of a person that the other's map claims, %", float(100 * found[:, 0].mean())),
            ("the same, worst tenth of people, %", float(100 * np.percentile(found[:, 0], 90))),
            ("pixels of a person that their own map has, %", float(100 * found[:, 1].mean())),
        ],
    )


def gain_table(fitted: list[tuple]) -> tuple[Table, float]:
    """Means of the three fits, and per cent of the human labels' gain in MC IoU that the parser's keep."""
    keys = ("mc_iou", "c_iou", "outside", "keypoint_pct", "pose_percentile", "girth_beta", "finite")
    values = {key: np.array([[fit[key] for fit in row] for row in fitted]) for key in keys}
    iou = values["mc_iou"][np.isfinite(values["mc_iou"]).all(1)]
    means = iou.mean(0)
    kept = 100 * (means[2] - means[0]) / (means[1] - means[0])
    rng = np.random.default_rng(0)
    draws = [iou[rng.integers(len(iou), size=len(iou))].mean(0) for _ in range(1000)]
    low, high = np.percentile([100 * (m[2] - m[0]) / (m[1] - m[0]) for m in draws], [2.5, 97.5])
    rows = [(key, *(float(v) for v in np.nanmean(values[key], 0))) for key in keys]
    outside = values["outside"].mean(0)
    rows.append(("gain kept in MC IoU, %", "", f"95 %: {low:.0f} to {high:.0f}", float(kept)))
    rows.append(
        ("gain kept in pixels outside, %", "", "", float(100 * (outside[0] - outside[2]) / (outside[0] - outside[1])))
    )  # fmt: skip
    columns = ("measure", "keypoints alone", "human-made labels", "parser's labels")
    return Table(f"Fits of {len(fitted)} photos, measured against human-made labels", columns, rows), float(
        kept
    )


if __name__ == "__main__":
    from benchmarks.parser import main as by_name  # worker processes find its functions by this name

    by_name()
