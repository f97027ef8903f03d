r"""Count on labelled photos what people wear, how long it is, and how much skin shows.

    python -m synth.clothes.counts --ccp DIR --labels DIR --keypoints DIR [--skip 199] \
        [--out synth/clothes/data/outfit_counts.json]

--ccp: Clothing-Co-Parsing (images, labels, labels.json), all of whose photos but the first `--skip` by name
are counted for what is worn; --labels, --keypoints: photos converted by synth.ccp_labels and their OpenPose
files, on which lengths are measured: a label map is read along shoulder, elbow, wrist and along hip, knee,
ankle, toe, and a garment ends where one cut best divides its samples from those of skin (and shoes) below.
Prints the table that it writes. The numbers are facts about the photos; the photos stay where they are.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from fitter.label.label_files import UNKNOWN, read_labels
from fitter.see.keypoint_files import find_keypoints
from fitter.see.keypoints import BODY_25
from priors.clothing import LABELS
from synth.ccp_labels import CCP_CLASSES, CCP_TO_LABEL, main_person, read_ccp, read_class_map
from synth.clothes.sets import HEMS, SLEEVES

LEAST_SHARE = 0.01  # of a person's labelled pixels, for a garment to count as worn
SMALL_SHARE = 0.002  # the same for hats, glasses, gloves, socks
CONFIDENCE = 0.3
STEPS = 20  # samples a bone
LEAST_KNOWN = 0.6  # of a limb's samples
# classes that only women wear in these photos: "male" counts photos without them
FEMALE = (
    "dress",
    "skirt",
    "romper",
    "leggings",
    "tights",
    "stockings",
    "heels",
    "pumps",
    "wedges",
    "sandals",
)
# where a kind ends: bone number + share of the bone
SLEEVE_ENDS = dict(zip(SLEEVES, (0.15, 0.75, 1.2, 1.75, np.inf), strict=True))
HEM_ENDS = dict(zip(HEMS, (0.6, 0.9, 1.25, 1.7, np.inf), strict=True))
COAT_ENDS = {"hip": 0.3, "thigh": 0.6, "above knee": 1.0, "below knee": np.inf}
HAIR_ENDS = {"short": 0.45, "neck": 1.0, "long": np.inf}  # of the way from the nose to the shoulders' line
FRONTAL = 0.35  # width of the shoulders / length of the trunk from here on
CHEST = (0.25, 0.85)  # of the way from the neck to the hips: where a coat is open or closed
NECKLINE_ENDS = {"at the neck": 0.025, "5 cm": 0.1, "7 cm": 0.15, "deeper": np.inf}  # of neck to hips, 0.47 m
SHOE_STARTS = {"boots": 1.75, "ankle boots": 1.95, "low": 2.5, "open": 2.95, "bare": np.inf}
ARM, LEG = ("Shoulder", "Elbow", "Wrist"), ("Hip", "Knee", "Ankle", "BigToe")
MEASURED = ("sleeve", "coat sleeve", "pants", "skirt", "dress", "coat", "coat front", "shoe", "hair")
UPPER, LOWER = ("upper-clothes", "dress", "jumpsuits"), ("pants", "skirt", "dress", "jumpsuits")


def ids_of(*names: str) -> list[int]:
    return [LABELS.index(name) for name in names]


def along_limb(labels: np.ndarray, keypoints_px: np.ndarray, names: tuple[str, ...], side: str) -> np.ndarray:
    """Labels [STEPS per bone] along a limb, UNKNOWN where a keypoint or the label is not known.

    labels: [H, W] ids; keypoints_px: [25, 3]; names: keypoints without their side.
    """
    points = [keypoints_px[BODY_25.index(side + name)] for name in names]
    bones = [along(labels, *ends) for ends in zip(points, points[1:], strict=False)]
    return np.concatenate(bones)


def along(labels: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Labels [STEPS] on the way between two keypoints, [3] each; UNKNOWN where one or the label is not known."""
    samples = np.full(STEPS, UNKNOWN)
    if min(start[2], end[2]) > CONFIDENCE:
        at = start[:2] + (np.arange(STEPS)[:, None] + 0.5) / STEPS * (end - start)[:2]
        x, y = np.floor(at).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < labels.shape[1]) & (y < labels.shape[0])
        samples[inside] = labels[y[inside], x[inside]]
    return samples


def cut_between(samples: np.ndarray, above: list[int], below: list[int]) -> float | None:
    """Where a limb's labels [N] turn from `above` to `below`, in bones from its start; None: too few known.

    The cut that has fewest samples of the other kind on either side; the middle of the cuts that are as good.
    """
    first, second = np.isin(samples, above), np.isin(samples, below)
    if (first | second).sum() < LEAST_KNOWN * len(samples):
        return None
    wrong = np.append(0, np.cumsum(second)) + np.append(np.cumsum(first[::-1])[::-1], 0)
    best = np.nonzero(wrong == wrong.min())[0]
    return float((best[0] + best[-1]) / 2 / STEPS)


def kind_of(value: float, ends: dict[str, float]) -> str:
    """The first kind that ends after the value."""
    return next(kind for kind, end in ends.items() if value < end)


def worn_classes(ccp_ids: np.ndarray) -> dict[str, float]:
    """Share of the labelled pixels of each class of a CCP class map."""
    pixels = np.bincount(ccp_ids.reshape(-1), minlength=len(CCP_CLASSES)).astype(float)
    pixels /= max(pixels[1:].sum(), 1)
    return dict(zip(CCP_CLASSES, pixels, strict=True))


def worn_labels(shares: dict[str, float]) -> dict[str, float]:
    """The same summed by label; classes whose label depends on the place left out."""
    total: dict[str, float] = Counter()
    for name, share in shares.items():
        total[CCP_TO_LABEL[name]] += share
    return total


def what_is_worn(shares: dict[str, float]) -> dict[str, str | None]:
    """Table -> kind of one person, from the shares of each CCP class; None where it does not apply."""
    label = worn_labels(shares)
    lower = max(("pants", "skirt"), key=lambda name: label[name])
    whole = max((lower, "dress", "jumpsuits"), key=lambda name: label[name])
    separates = whole == lower
    legs_shown = whole == "dress" or lower == "skirt" or shares["shorts"] > LEAST_SHARE

    def seen(share: float, least: float = SMALL_SHARE) -> str:
        return "worn" if share > least else "not"

    return {
        "outfit": {"dress": "dress", "jumpsuits": "jumpsuit"}.get(whole, "separates"),
        "lower": lower if separates and label[lower] > LEAST_SHARE else None,
        "outer": "worn" if label["coat"] > LEAST_SHARE else "none",
        "stockings": seen(shares["stockings"] + shares["tights"], LEAST_SHARE) if legs_shown else None,
        "scarf": seen(label["scarf"]),
        "gloves": seen(label["glove"]),
        "sunglasses": seen(label["sunglasses"]),
        "hat": seen(label["hat"]),
    }


def lengths(labels: np.ndarray, keypoints_px: np.ndarray) -> dict[str, list[float]]:
    """How far down each garment of one person reaches, a value per limb seen, in bones from its start.

    labels: [H, W] ids. Keys: sleeve, coat sleeve, pants, skirt, dress, coat, shoe (where it begins); hair and
    coat front as hair_end and coat_on_midline say.
    """
    found: dict[str, list[float]] = {}
    coat, skin = ids_of("coat"), {"L": ids_of("left-arm"), "R": ids_of("right-arm")}
    legs = {"L": ids_of("left-leg", "left-shoe"), "R": ids_of("right-leg", "right-shoe")}
    socks = ids_of("socks")
    for side in "LR":
        arm = along_limb(labels, keypoints_px, ARM, side)
        name = "coat sleeve" if np.isin(arm, coat).sum() > np.isin(arm, ids_of(*UPPER)).sum() else "sleeve"
        if name == "coat sleeve" or not np.isin(labels, coat).any():
            _add(found, name, cut_between(arm, coat + ids_of(*UPPER, "glove"), skin[side]))
        leg = along_limb(labels, keypoints_px, LEG, side)
        shank = leg[: 2 * STEPS]
        garment = max(LOWER, key=lambda n: np.isin(shank, ids_of(n)).sum())
        _add(found, garment, cut_between(shank, ids_of(*LOWER) + coat, legs[side] + socks))
        if np.isin(labels, coat).mean() > LEAST_SHARE * (labels > 0).mean():
            _add(found, "coat", cut_between(shank, coat, legs[side] + socks + ids_of(*LOWER)))
        _add(found, "shoe", cut_between(leg, ids_of(*LOWER) + coat + legs[side][:1] + socks, legs[side][1:]))
    _add(found, "hair", hair_end(labels, keypoints_px))
    _add(found, "coat front", coat_on_midline(labels, keypoints_px))
    _add(found, *neckline(labels, keypoints_px))
    return found


def _add(found: dict[str, list[float]], name: str, value: float | None) -> None:
    if value is not None:
        found.setdefault(name, []).append(value)


def seen_from_the_front(keypoints_px: np.ndarray) -> dict[str, np.ndarray] | None:
    """Trunk keypoints by name, [3] each; None where they are not known or the person turns aside."""
    points = {n: keypoints_px[BODY_25.index(n)] for n in ("Nose", "Neck", "MidHip", "LShoulder", "RShoulder")}
    if min(point[2] for point in points.values()) <= CONFIDENCE:
        return None
    width = abs(points["LShoulder"][0] - points["RShoulder"][0])
    return points if width > FRONTAL * abs(points["MidHip"][1] - points["Neck"][1]) else None


def hair_end(labels: np.ndarray, keypoints_px: np.ndarray) -> float | None:
    """How far down the hair reaches: 0 at the nose, 1 at the shoulders' line; None where that is not seen."""
    points = seen_from_the_front(keypoints_px)
    rows = np.nonzero(labels == LABELS.index("hair"))[0]
    if points is None or not len(rows):
        return None
    nose, neck = points["Nose"][1], points["Neck"][1]
    return float((np.percentile(rows, 97) - nose) / max(neck - nose, 1.0))


def coat_on_midline(labels: np.ndarray, keypoints_px: np.ndarray) -> float | None:
    """Share of the chest's midline that shows the coat; None without a coat or from the side."""
    points, coat = seen_from_the_front(keypoints_px), labels == LABELS.index("coat")
    if points is None or coat.sum() <= 0.03 * (labels > 0).sum():
        return None
    neck, hips = points["Neck"], points["MidHip"]
    samples = along(labels, *(neck + share * (hips - neck) for share in CHEST))
    known = np.isin(samples, ids_of("coat", *UPPER, *LOWER))
    return (
        float((samples[known] == LABELS.index("coat")).mean()) if known.sum() > LEAST_KNOWN * STEPS else None
    )


def neckline(labels: np.ndarray, keypoints_px: np.ndarray) -> tuple[str, float | None]:
    """ "coat neckline" where a closed coat is worn, else "neckline", and how far down skin shows: 0 at the
    shoulders' line, 1 at the hips; None from the side, and for a coat that is open."""
    points, front = seen_from_the_front(keypoints_px), coat_on_midline(labels, keypoints_px)
    name = "neckline" if front is None else "coat neckline"
    if points is None or (front is not None and front < 0.5):
        return name, None
    samples = along(labels, points["Neck"], points["MidHip"])
    cloth = ids_of("coat") if front is not None else ids_of(*UPPER, *LOWER, "coat")
    return name, cut_between(samples, [id for id in (*range(len(LABELS)), UNKNOWN) if id not in cloth], cloth)


def shares_of(kinds: list[str], order: tuple[str, ...]) -> dict[str, float]:
    """Share of each kind, 3 decimals; empty where nothing was counted."""
    return {kind: round(kinds.count(kind) / len(kinds), 3) for kind in order} if kinds else {}


def tables_of(worn: list[dict], measured: list[dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """The tables that synth.clothes.outfits weights by, from what each photo's person wears and how long it is.

    Necklines and coats' sleeves are not weighted by: synth.clothes.sets was cut to look like them.
    """

    def told(table: str, order: tuple[str, ...]) -> dict[str, float]:
        return shares_of([w[table] for w in worn if w[table] is not None], order)

    def ends(name: str, limits: dict[str, float]) -> dict[str, float]:
        each = [value for found in measured for value in found.get(name, ())]
        return shares_of([kind_of(value, limits) for value in each], tuple(limits))

    coats = told("outer", ("worn", "none"))
    fronts = ends("coat front", {"open": 0.5, "closed": np.inf})
    coat_kinds = {
        f"{length} {front}": round(coats["worn"] * a * b, 4)
        for length, a in ends("coat", COAT_ENDS).items()
        for front, b in fronts.items()
    }
    sleeves = ends("sleeve", SLEEVE_ENDS)
    return {
        "outfit": told("outfit", ("separates", "dress", "jumpsuit")),
        "lower": told("lower", ("pants", "skirt")),
        "top": sleeves,
        "dress top": sleeves,
        "pants": ends("pants", HEM_ENDS),
        "skirt": ends("skirt", HEM_ENDS),
        "dress skirt": ends("dress", HEM_ENDS),
        "outer": coat_kinds | {"none": coats["none"]},
        "shoes": ends("shoe", SHOE_STARTS),
        "neckline": ends("neckline", NECKLINE_ENDS),
        "coat neckline": ends("coat neckline", NECKLINE_ENDS),
        "coat sleeve": ends("coat sleeve", SLEEVE_ENDS),
        "hair": ends("hair", HAIR_ENDS),
        **{
            name: told(name, ("worn", "not"))
            for name in ("stockings", "scarf", "gloves", "sunglasses", "hat")
        },
    }


def count(ccp: Path, labels: Path, keypoints: Path, skip: int) -> dict:
    """Everything that the json holds: {"about", "photos": {...}, "shares": {gender: {table: {kind: share}}}}."""
    photos = read_ccp(ccp)
    classes = {photo.stem: worn_classes(read_class_map(path)) for photo, path in photos[skip:]}
    measured = {}
    for photo, path in photos:
        converted = labels / f"{photo.stem}.png"
        if photo.stem in classes and converted.is_file():
            person = main_person(find_keypoints(photo, str(keypoints)), read_class_map(path))
            if person is not None:
                measured[photo.stem] = lengths(read_labels(converted), person.keypoints_px)
    shares, counted = {}, {}
    for gender in ("female", "male"):
        names = [
            name
            for name, c in classes.items()
            if gender == "female" or all(c[one] <= SMALL_SHARE for one in FEMALE)
        ]
        found = [measured[name] for name in names if name in measured]
        tables = tables_of([what_is_worn(classes[name]) for name in names], found)
        known = {
            name: table for name, table in tables.items() if table and (name, gender) != ("hair", "male")
        }
        shares[gender] = known  # those "male" photos still show many women: their hair says nothing of men's
        counted[gender] = {"worn": len(names), "lengths": len(found)}
        counted[gender] |= {"limbs": {k: sum(len(f.get(k, ())) for f in found) for k in MEASURED}}
    about = (
        "Shares counted by synth.clothes.counts on Clothing-Co-Parsing; male: photos without "
        + ", ".join(FEMALE)
    )
    return {"about": about, "photos": counted, "shares": shares}


def main(arguments: list[str] | None = None) -> None:
    """Command line: count, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ccp", type=Path, required=True, help="folder with images/, labels/, labels.json")
    parser.add_argument("--labels", type=Path, required=True, help="what synth.ccp_labels wrote")
    parser.add_argument("--keypoints", type=Path, required=True, help="folder of their OpenPose files")
    parser.add_argument("--skip", type=int, default=0, help="so many photos are kept for measuring on")
    parser.add_argument("--out", type=Path, help="the json to write")
    options = parser.parse_args(arguments)
    data = count(options.ccp, options.labels, options.keypoints, options.skip)
    print(json.dumps(data["photos"]))
    for gender, named in data["shares"].items():
        for name, shares in named.items():
            print(f"{gender:7s}{name:12s}" + "  ".join(f"{k} {100 * v:.1f} %" for k, v in shares.items()))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
