"""How far is the shipped clothing prior from the first one, and from what real people wear?

    git show 5f5bc85:priors/data/clothing_prior.npz > first.npz
    python fit.py --images PHOTOS --keypoints DIR --people largest --out fits
    python fit.py --images PHOTOS --keypoints DIR --labels DIR --people largest --out fits_dsr
    python -m benchmarks.clothing_prior --labels DIR --fits fits --fits_dsr fits_dsr --first first.npz

PHOTOS: Clothing-Co-Parsing 0110 to 0199; --labels: made of its labels by `python -m synth.ccp_labels`. The real
priors are voted by the code that makes the shipped one (`python -m synth.clothing_prior --fits`): every visible
vertex of a fit takes the label under it. One view a person leaves the backs unseen, so priors are compared only
where the real one has 10 votes or more (the mirrored vertex's counted). Fits with DSR saw the first prior.

Distance: total variation, half the sum of absolute differences of the probabilities, background left out, mean
over vertices; "classes": of DSR-C's lower, upper, minimal; "MC": of DSR-MC's labels, which is what fits use.

What people wear was counted on other photos (0200 and later), sleeves, hems, hair and coats' fronts on 0200 to
0419. The photos show mostly women and the shipped prior is half men: "women's half" is the prior of the female
figures alone, who wear what all photos show. "One half of the photos, the other" says what distance chance makes.

These tables were looked at twice before the end. That real coats are open in front, necks bare and hair in front
of the shoulders was seen here, then counted on the other photos and put into the outfits by those counts. What
still differs: dresses and hair round the face (half are men), the neck (scarves are worn under coats here, hair
falls behind), and the wrist: real sleeves end 0.12 forearms below it in the middle, as here, so that the clothes
seen there are probably those behind hands that the fits put beside the real ones.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.report import Table, write_results
from fitter.body.model import OPEN_BODY, load_body
from priors.clothing import LABELS, MC_LABELS, OPEN_PRIOR, class_matrix
from priors.skeleton import JOINT_NAMES
from synth.clothes.figures import Template, load_template, load_wardrobe
from synth.clothing_prior.build import counted_votes, prior_from_votes
from synth.clothing_prior.votes import OUTFITS_PER_SHAPE, SHAPES_PER_GENDER, collect_votes, votes_of_fits

LEAST_VOTES = 10
LEAST_SHARE = 0.01  # of a part's labels, to be listed


def without_background(prob: np.ndarray) -> np.ndarray:
    """[V, 20] -> the same of all labels but background, rows sum to 1."""
    prob = np.where(np.arange(len(LABELS)) > 0, prob, 0.0)
    return prob / prob.sum(1, keepdims=True)


def variation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Total variation [V] between the rows of two priors [V, C]."""
    return np.abs(first - second).sum(1) / 2


def distances(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> tuple[float, float, float]:
    """Mean over vertices `where` [V] bool: of all labels, of the DSR-C classes, of MC or not."""
    mc = list(MC_LABELS)
    return (
        float(variation(first, second)[where].mean()),
        float(variation(first @ class_matrix(), second @ class_matrix())[where].mean()),
        float(np.abs(first[:, mc].sum(1) - second[:, mc].sum(1))[where].mean()),
    )


def parts_of(template: Template) -> dict[str, np.ndarray]:
    """Part name -> [V] bool, of the left side and the middle: the right side is their mirror image."""
    masks = {
        name: template.part_ids == i for i, name in enumerate(JOINT_NAMES) if not name.startswith("right_")
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def label_table(priors: dict[str, np.ndarray], template: Template, seen: np.ndarray) -> Table:
    """Mean probability of each label over the vertices of each part that are `seen` [V] bool, a column per prior."""
    rows = []
    for part, inside in parts_of(template).items():
        if not (inside & seen).any():
            continue
        means = np.stack([prob[inside & seen].mean(0) for prob in priors.values()])
        for label in np.argsort(-means[0], kind="stable"):
            if means[:, label].max() >= LEAST_SHARE:
                rows.append((part, LABELS[label], *(round(float(mean), 3) for mean in means[:, label])))
    return Table(
        "Mean probability of each label by body part, where the photos show it",
        ("part", "label", *priors),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=Path, required=True, help="label maps named as the photos")
    parser.add_argument("--fits", type=Path, required=True, help="fits to keypoints alone")
    parser.add_argument("--fits_dsr", type=Path, required=True, help="fits with the DSR terms")
    parser.add_argument("--first", type=Path, required=True, help="the first prior's npz, from git")
    parser.add_argument("--quick", action="store_true", help="8 photos, 8 women")
    options = parser.parse_args()
    most = 8 if options.quick else None
    template, body = load_template(OPEN_BODY), load_body()

    def voted(files: list[Path]) -> tuple[np.ndarray, np.ndarray, int]:
        votes, count = votes_of_fits(files, options.labels, body)
        seen = counted_votes(votes, template).sum(1) >= LEAST_VOTES
        return without_background(prior_from_votes(votes, template)), seen, count

    def read(path: Path) -> np.ndarray:
        with np.load(path) as file:
            return without_background(file["prob"].astype(float))

    files = sorted(options.fits.glob("*.npz"))[:most]
    real, seen, photos = voted(files)
    real_dsr, seen_dsr, _ = voted(sorted(options.fits_dsr.glob("*.npz"))[:most])
    halves = [voted(files[start::2]) for start in (0, 1)]
    shape = (2, 4) if options.quick else (SHAPES_PER_GENDER, OUTFITS_PER_SHAPE)
    women = collect_votes(load_wardrobe(None, template), *shape, genders=("female",))
    women = without_background(prior_from_votes(women, template))
    first, shipped = read(options.first), read(OPEN_PRIOR)
    everywhere = np.ones(len(first), bool)
    both = halves[0][1] & halves[1][1]
    pairs = {
        "shipped, first": (shipped, first, everywhere),
        "first, real by keypoints": (first, real, seen),
        "shipped, real by keypoints": (shipped, real, seen),
        "women's half, real by keypoints": (women, real, seen),
        "first, real by DSR": (first, real_dsr, seen_dsr),
        "shipped, real by DSR": (shipped, real_dsr, seen_dsr),
        "women's half, real by DSR": (women, real_dsr, seen_dsr),
        "real by keypoints, real by DSR": (real, real_dsr, seen & seen_dsr),
        "one half of the photos, the other": (halves[0][0], halves[1][0], both),
    }
    rows = [
        (name, *(round(d, 3) for d in distances(a, b, where)), round(float(where.mean()), 3))
        for name, (a, b, where) in pairs.items()
    ]
    per_part = []
    for part, inside in parts_of(template).items():
        row = [variation(a, b)[inside & where] for a, b, where in pairs.values()]
        per_part.append((part, *(round(float(values.mean()), 3) if len(values) else "" for values in row)))
    named = {
        "shipped": shipped,
        "first": first,
        "women's half": women,
        "real, keypoints": real,
        "real, DSR": real_dsr,
    }
    write_results(
        "clothing_prior" + ("_quick" if options.quick else ""),
        __doc__,
        {
            "photos": (photos, ""),
            "first_to_real": (rows[1][1], "total variation"),
            "shipped_to_real": (rows[2][1], "total variation"),
            "shipped_to_first": (rows[0][1], "total variation"),
        },
        [
            Table("Mean distance", ("between", "labels", "classes", "MC", "share of vertices"), rows),
            Table("Distance of labels by body part", ("part", *pairs), per_part),
            label_table(named, template, seen),
        ],
    )


if __name__ == "__main__":
    main()
