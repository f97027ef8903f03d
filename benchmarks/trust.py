"""Does a fit know when it failed? Its probability of being right, learned on some people and judged on others.

    python -m benchmarks.trust                          # judge what ships
    python -m benchmarks.trust --learn                  # learn it anew, and judge that
    python -m benchmarks.trust --quick                  # 6 people

People: synth.scenes, the garments of the `benchmark` set, motions held out of every prior, one half of the clips to
learn from and the other half to judge on. A fifth with something before them, a fifth with a second person; half with
a camera whose tilt is not said. Keypoints with a detector's noise (`synth.noise`), and of most people spoilt further
(SPOILT): three times the noise; a third of the keypoints hidden, at random or all about one of them; the legs or more
outside the photo; left and right exchanged; a copy of another size; an arm or a leg somewhere else. Three in five are
fitted with DSR, to labels at noise level 1 or 2, the others to keypoints alone.

Right: PA-MPJPE of 24 joints below 60 mm. AUC: how often of one right and one wrong fit the right one is trusted more;
calibration: mean distance of the probability from the share that is right in ten groups of as many people; the best
80 % by trust against all, PA-MPJPE. Turned: the trunk faces another way than the truth by more than 60 degrees; far
off: PA-MPJPE above 100 mm; both of people who are whole, and of those with a third hidden.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.stats import rankdata

from benchmarks.accuracy import BENCHMARK, scene_labels, scene_people, session_of
from benchmarks.report import Table, write_results
from fitter.jobs import one_thread
from fitter.people import fit_people
from fitter.see.keypoints import BODY_25
from fitter.see.person_box import box_side, keypoint_box
from fitter.trust import FEATURES, RIGHT_MM, SHIPPED, Trust, load_trust, numbers_of
from priors.skeleton import JOINT_NAMES
from regressor.metrics import pa_mpjpe_mm

LEARNING = replace(BENCHMARK, seed=31, poses="calibrating", occluder=0.2, neighbour=0.2)
JUDGING = replace(LEARNING, seed=32, poses="judging")
LEARN_FROM, JUDGE_ON = 700, 300
SPOILT = {
    "whole": 0.4, "noisy": 0.1, "hidden": 0.2, "cut": 0.12, "exchanged": 0.06, "enlarged": 0.06, "moved": 0.06,
}  # fmt: skip
SIDES = [(BODY_25.index(name), BODY_25.index(f"R{name[1:]}")) for name in BODY_25 if name.startswith("L")]
LIMBS = (("Elbow", "Wrist"), ("Knee", "Ankle"))
SHRINKAGE = 3.0  # of the weights, in people
FAR_OFF_MM, TURNED_DEG = 100.0, 60.0
GROUPS = 10


def spoilt(keypoints_px: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """Keypoints [25, 3] as they are after what SPOILT names went wrong."""
    points = keypoints_px.copy()
    seen = points[:, 2] > 0
    box = keypoint_box(points)
    side = box_side(box)
    if how == "noisy":
        points[:, :2] += rng.normal(0, rng.uniform(0.01, 0.03) * side, (25, 2))
    elif how == "hidden":
        count = round(seen.sum() / 3)
        order = rng.permutation(np.flatnonzero(seen))
        if rng.random() < 0.5:  # what is near one of them
            order = np.argsort(np.linalg.norm(points[:, :2] - points[order[0], :2], axis=1) + 1e9 * ~seen)
        points[order[:count], 2] = 0
    elif how == "cut":
        points[points[:, 1] > box[1] + rng.uniform(0.35, 0.8) * (box[3] - box[1]), 2] = 0
    elif how == "exchanged":
        for left, right in SIDES:
            points[[left, right]] = points[[right, left]]
    elif how == "enlarged":
        middle = (box[:2] + box[2:]) / 2
        points[:, :2] = (points[:, :2] - middle) * rng.choice([0.5, 0.7, 1.4]) + middle
    elif how == "moved":
        limb = [BODY_25.index(rng.choice(["L", "R"]) + name) for name in rng.choice(LIMBS)]
        points[limb, :2] += rng.normal(0, 0.15 * side, 2)
    return points


def one_person(number: int, recipe) -> dict | None:
    """One scene, spoilt and fitted, as `row_of`; None: spoilt so that keypoints and labels contradict, and refused."""
    from synth.dataset import scene_maker

    one_thread()
    rng = np.random.default_rng([recipe.seed, number, 9])
    scene = scene_maker(recipe)(number)
    people = scene_people(scene, number, True)
    how = str(rng.choice(list(SPOILT), p=list(SPOILT.values())))
    points = spoilt(people[0].keypoints_px, how, rng)
    people[0] = replace(people[0], keypoints_px=points, box_px=keypoint_box(points))
    dsr = rng.random() < 0.6
    camera = scene.camera if rng.random() < 0.5 else replace(scene.camera, pitch_deg=None, roll_deg=None)
    scene = replace(scene, camera=camera)
    models = session_of("c_mc" if dsr else "keypoints", "found")
    labels, semantics = None, None
    if dsr:
        try:
            labels = scene_labels(scene, people, number, 1 + int(rng.random() < 0.3), "found")[:1]
        except ValueError:
            return None
        semantics = models.semantics
    fit = fit_people(
        str(number), people[:1], camera, models.body, models.prior, models.config, labels, semantics
    )[0]
    return row_of(fit, scene.people[0].joints_m, how)


def row_of(fit, truth_m: np.ndarray, how: str) -> dict:
    """A fit against the truth [24, 3]."""
    cosine = np.clip(facing(fit.joints_cam) @ facing(truth_m), -1, 1)
    pa_mm = float(pa_mpjpe_mm(fit.joints_cam, truth_m))
    return {
        "numbers": numbers_of(fit), "pa_mm": pa_mm, "turned_deg": float(np.degrees(np.arccos(cosine))), "how": how,
        "valid": fit.valid,
    }  # fmt: skip


def facing(joints_m: np.ndarray) -> np.ndarray:
    """Where a trunk faces, [3] unit; joints [24, 3]."""
    at = {name: joints_m[number] for number, name in enumerate(JOINT_NAMES)}
    across = at["left_hip"] - at["right_hip"] + at["left_shoulder"] - at["right_shoulder"]
    forward = np.cross(across, at["neck"] - at["pelvis"])
    return forward / np.linalg.norm(forward)


def learned(numbers: np.ndarray, right: np.ndarray) -> Trust:
    """The logistic regression of right [N] on FEATURES [N, F], its weights shrunk."""
    middle, scale = numbers.mean(0), np.maximum(numbers.std(0), 1e-3)
    inputs, sign = (numbers - middle) / scale, np.where(right, 1.0, -1.0)

    def loss(weights: np.ndarray) -> float:
        odds = sign * (inputs @ weights[1:] + weights[0])
        return np.logaddexp(0, -odds).sum() + SHRINKAGE * np.square(weights[1:]).sum()

    weights = minimize(loss, np.zeros(len(FEATURES) + 1), method="L-BFGS-B").x
    return Trust(middle, scale, weights[1:], float(weights[0]))


def save(trust: Trust, path: Path) -> None:
    arrays = {name: np.asarray(value, np.float32) for name, value in vars(trust).items()}
    np.savez(path, names=np.array(list(FEATURES)), **arrays)


def auc(trust: np.ndarray, right: np.ndarray) -> float:
    """Area under the ROC curve; NaN where all are right or none is."""
    ranks, count = rankdata(trust), right.sum()
    pairs = count * (len(right) - count)
    return float((ranks[right].sum() - count * (count + 1) / 2) / pairs) if pairs else float("nan")


def judge(rows: list[dict], trust: Trust) -> tuple[dict[str, tuple], list[Table]]:
    """Figures and tables of fits that `trust` was not learned on."""
    known = [row for row in rows if row["numbers"] is not None]
    likely = trust(np.stack([row["numbers"] for row in known]))
    pa_mm, right = (np.array([row["pa_mm"] for row in known]) for _ in range(2))
    right = right < RIGHT_MM
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(known), len(known)) for _ in range(1000)]
    low, high = np.nanpercentile([auc(likely[some], right[some]) for some in drawn], (2.5, 97.5))
    order = np.argsort(-likely)
    groups = np.array_split(order, min(GROUPS, len(known)))
    lines = [(likely[g].mean(), right[g].mean(), pa_mm[g].mean(), len(g)) for g in groups]
    off = np.average([abs(line[0] - line[1]) for line in lines], weights=[len(g) for g in groups])
    best = order[: round(0.8 * len(order))]
    figures = {
        "quality_auc": (auc(likely, right), f"{low:.2f} to {high:.2f}"),
        "quality_calibration_points": (100 * float(off), "per cent"),
        "quality_best80_gain_pct": (100 * (1 - float(pa_mm[best].mean() / pa_mm.mean())), "% of PA-MPJPE"),
    }
    kinds = {how: [row for row in rows if row["how"] == how] for how in SPOILT}
    for name, how, key, most in (
        ("flips_pct", "whole", "turned_deg", TURNED_DEG), ("far_off_pct", "whole", "pa_mm", FAR_OFF_MM),
        ("far_off_hidden_pct", "hidden", "pa_mm", FAR_OFF_MM),
    ):  # fmt: skip
        figures[name] = (share_above(kinds[how], key, most), "% of people")
    table = [
        (how, len(some), float(np.mean([row["pa_mm"] for row in some])), share_above(some, "pa_mm", RIGHT_MM),
         share_above(some, "pa_mm", FAR_OFF_MM), share_above(some, "turned_deg", TURNED_DEG),
         100 * float(np.mean([not row["valid"] for row in some])))
        for how, some in kinds.items() if some
    ]  # fmt: skip
    columns = (
        "spoilt",
        "people",
        "PA-MPJPE, mm",
        "above 60 mm, %",
        "above 100 mm, %",
        "turned, %",
        "not valid, %",
    )
    weights = sorted(zip(FEATURES, trust.weight.tolist(), strict=True), key=lambda pair: -abs(pair[1]))
    return figures, [
        Table(f"{len(known)} people, most trusted first", ("trust", "right", "PA-MPJPE, mm", "people"), lines),
        Table("By what was spoilt", columns, table),
        Table("What speaks for a fit, log odds a standard deviation", ("feature", "weight"), weights),
    ]  # fmt: skip


def share_above(rows: list[dict], key: str, most: float) -> float:
    return 100 * float(np.mean([row[key] > most for row in rows])) if rows else float("nan")


def main() -> None:
    from joblib import Parallel, delayed
    from tqdm import tqdm

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learn", action="store_true", help=f"write {SHIPPED.name} anew")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    run = Parallel(n_jobs=options.jobs, batch_size=1, return_as="generator")

    def people(recipe, count: int) -> list[dict]:
        tasks = (delayed(one_person)(number, recipe) for number in range(6 if options.quick else count))
        return [row for row in tqdm(run(tasks), total=count, mininterval=30) if row is not None]

    if options.learn:
        rows = [row for row in people(LEARNING, LEARN_FROM) if row["numbers"] is not None]
        right = np.array([row["pa_mm"] < RIGHT_MM for row in rows])
        save(learned(np.stack([row["numbers"] for row in rows]), right), SHIPPED)
        load_trust.cache_clear()
    figures, tables = judge(people(JUDGING, JUDGE_ON), load_trust())
    write_results("trust_quick" if options.quick else "trust", __doc__, figures, tables)


if __name__ == "__main__":
    from benchmarks.trust import main as by_name  # worker processes find its functions by this name

    by_name()
