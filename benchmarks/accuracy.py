"""How near do fits come to the true bodies of clothed people? Exact truth, clothes and motions never learned from.

    python -m benchmarks.accuracy                       # 40 people: five to ten minutes on two cores
    python -m benchmarks.accuracy --table ablation      # the paper's Table 1 as a fit, fewer people
    python -m benchmarks.accuracy --table company       # occluders and neighbours, 100 people
    python -m benchmarks.accuracy --table spoilt        # label noise, occluders and neighbours not looked for
    python -m benchmarks.accuracy --table bounds        # told more than a photo tells: what the gain is bounded by
    python -m benchmarks.accuracy --quick               # 6 people
    python -m benchmarks.accuracy --pairs DIR           # and before/after pictures of the first 12

People: synth.scenes, recipe BENCHMARK below: shapes of Anny's full space, garments of the `benchmark` set, motions held
out of every prior. Keypoints: true ones with the noise and drop-out of synth.noise; labels: exact, or at noise level
1 or 2. The camera is known. Row by row the same people. Nothing was chosen on them: weights come from other seeds and
the clothes and motions that priors learn from (DEVELOPMENT).

Against the truth: MPJPE (24 joints, pelvis on pelvis), PA-MPJPE, PVE over the naked surface's vertices and its parts
across and along the line of sight, PVE-T-SC (shape alone, T-posed, scaled), height and girths; all in mm. Against the
exact labels: IoU of bare (MC) and clothed (C) regions, share of the body outside. Intervals: 95 %, bootstrap over
people, paired between rows.
"""

import argparse
import atexit
import tempfile
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.labelled_photos import agreement
from benchmarks.report import Table, change_mm, gain_pct, mean, write_results
from fitter.cli import read_config
from fitter.jobs import one_thread
from fitter.label.label_files import UNKNOWN
from fitter.label.person_labels import clean_labels
from fitter.people import fit_people
from fitter.pipeline import labels_alone
from fitter.see.keypoints import Person
from fitter.see.person_box import BOX_CONFIDENCE, keypoint_box
from fitter.write.result import Fit
from priors.clothing import LABELS
from priors.skeleton import JOINT_NAMES
from regressor.metrics import Tape, mpjpe_mm, pa_mpjpe_mm, pve_mm, pve_t_sc_mm
from synth.noise import noisy_keypoints, noisy_labels
from synth.scenes import TARGET, Recipe, Scene

BENCHMARK = Recipe(
    seed=2021, clothes="benchmark", poses="testing", image_px=(512, 512), occluder=0, neighbour=0
)
DEVELOPMENT = replace(BENCHMARK, seed=7, clothes="prior", poses="learning")
PRESETS = Path(__file__).parents[1] / "configs" / "ablation"
PEOPLE, SOME, MANY = 40, 40, 100  # of the main rows, of the others, of those in company
NAKED = -1
TITLES = {
    "keypoints": "keypoints", "fb": "+ FB", "fb_distm": "+ FB (s-DistM)", "mc_distm": "+ MC (s-DistM)",
    "mc_iou": "+ MC (s-IoU)", "c_published": "+ C published", "c_composited": "+ C composited",
    "c_onesided": "+ C one-sided", "mvp": "+ MVP", "c_mc_published": "+ C published + MC",
    "c_mc_composited": "+ C composited + MC", "c_mc": "+ C + MC (default)",
}  # fmt: skip
METRICS = (
    "pve",
    "pve_sideways",
    "pve_depth",
    "pve_t_sc",
    "mpjpe",
    "pa_mpjpe",
    "height",
    "chest",
    "waist",
    "hips",
    "mc_iou",
    "c_iou",
    "outside",
)


@dataclass(frozen=True)
class Row:
    """One row of a table: a preset of configs/ablation, on scenes drawn and spoilt in one way.

    labels: noise level 0, 1, 2, or NAKED: the exact silhouette of the naked body, which no photo of clothed people
    shows; unknown: FitConfig.unknown; neighbour_known: whether its keypoints are; true_prior: what this person really
    wears at every vertex in place of the clothing prior.
    """

    name: str
    preset: str
    recipe: Recipe
    people: int
    labels: int = 1
    unknown: str = "found"
    neighbour_known: bool = True
    true_prior: bool = False

    @property
    def spoiling(self) -> tuple:
        return self.recipe, self.labels, self.neighbour_known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=sorted(TABLES), default="people")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=Path, help="folder for before/after pictures of the first 12 people")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    rows, report = TABLES[options.table]
    name = "accuracy" if options.table == "people" else f"accuracy_{options.table}"
    results = measure(rows(BENCHMARK), options.jobs, 6 if options.quick else None, options.pairs)
    report(results, f"{name}_quick" if options.quick else name)


def main_rows(recipe: Recipe) -> list[Row]:
    """The comparison that the claims rest on."""
    return [Row(name, name, recipe, PEOPLE) for name in ("keypoints", "fb", "c_mc")]


def ablation_rows(recipe: Recipe) -> list[Row]:
    """Table 1 of the paper as a fit."""
    return [Row(name, name, recipe, SOME) for name in TITLES]


def company_rows(recipe: Recipe) -> list[Row]:
    """Everybody alone, with something before them, and with a second person."""
    occluder, neighbour = replace(recipe, occluder=1.0), replace(recipe, neighbour=1.0)
    return [
        Row("keypoints", "keypoints", recipe, MANY),
        Row("c_mc", "c_mc", recipe, MANY),
        Row("occluder, keypoints", "keypoints", occluder, MANY),
        Row("occluder, found", "c_mc", occluder, MANY),
        Row("neighbour, keypoints", "keypoints", neighbour, MANY),
        Row("neighbour, known", "c_mc", neighbour, MANY),
    ]


def spoilt_rows(recipe: Recipe) -> list[Row]:
    """Better and worse labels; what is lost without looking for occluders and neighbours."""
    occluder, neighbour = replace(recipe, occluder=1.0), replace(recipe, neighbour=1.0)
    hidden = {"people": SOME, "neighbour_known": False}
    return [
        Row("keypoints", "keypoints", recipe, SOME),
        Row("c_mc", "c_mc", recipe, SOME),
        Row("labels exact", "c_mc", recipe, SOME, labels=0),
        Row("labels of a poor parser", "c_mc", recipe, SOME, labels=2),
        Row("occluder, not looked for", "c_mc", occluder, SOME, unknown="given"),
        Row("neighbour, unknown", "c_mc", neighbour, **hidden),
        Row("neighbour, unknown, not looked for", "c_mc", neighbour, unknown="given", **hidden),
    ]


def measure(wanted: list[Row], jobs: int, at_most: int | None = None, pairs: Path | None = None) -> dict:
    """{row name: {metric: [people]}}; people in the same order in all rows, shorter rows end earlier."""
    from joblib import Parallel, delayed

    kinds: dict[tuple, list[Row]] = {}
    for row in wanted:
        kinds.setdefault(row.spoiling, []).append(row)
    tasks = [
        (number, [row for row in group if number < row.people], pairs if number < 12 else None)
        for group in kinds.values()
        for number in range(min(at_most or MANY, max(row.people for row in group)))
    ]
    run = Parallel(n_jobs=jobs, batch_size=1, return_as="generator")
    done = tqdm(run(delayed(one_person)(*task) for task in tasks), total=len(tasks), mininterval=30)
    results: dict[str, list] = {}
    for measured in done:
        for name, values in measured.items():
            results.setdefault(name, []).append(values)
    return {
        name: {key: np.array([v[key] for v in values]) for key in values[0]}
        for name, values in results.items()
    }


def one_person(number: int, wanted: list[Row], pairs: Path | None) -> dict[str, dict[str, float]]:
    """One scene, fitted as every row says."""
    from synth.dataset import scene_maker

    one_thread()
    recipe, level, known = wanted[0].spoiling
    scene = scene_maker(recipe)(number)
    people = scene_people(scene, number, known)
    labels = {way: scene_labels(scene, people, number, level, way) for way in {row.unknown for row in wanted}}
    fits, measured = {}, {}
    for row in wanted:
        models = session_of(row.preset, row.unknown)
        semantics = told_clothes(models, scene) if row.true_prior else models.semantics
        fits[row.name] = fit_people(
            str(number), people[:1], scene.camera, models.body, models.prior, models.config,
            labels[row.unknown][:1], semantics,
        )[0]  # fmt: skip
        measured[row.name] = against_truth(fits[row.name], scene, models)
    if pairs and {"keypoints", "c_mc"} <= fits.keys():
        save_pair(pairs / f"{number:03d}.png", scene, fits["keypoints"], fits["c_mc"])
    return measured


@cache
def scratch() -> str:
    """This process's folder for label maps, gone when it ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder.name


@cache
def session_of(preset: str, unknown: str):
    """The tool itself under a preset of configs/ablation."""
    from fitter.run import models_of

    config = read_config(["--images", "", "--config", str(PRESETS / f"{preset}.yaml"), "--unknown", unknown])
    return models_of(replace(config, labels=scratch(), parser="none"))


def scene_people(scene: Scene, number: int, neighbour_known: bool) -> list[Person]:
    """Those whom the detector finds, the target first, with noisy keypoints."""
    rng = np.random.default_rng([number, 1])
    people = []
    for index, truth in enumerate(scene.keypoints_px[: 2 if neighbour_known else 1]):
        keypoints = noisy_keypoints(truth, rng)
        if index == 0 or (keypoints[:, 2] > BOX_CONFIDENCE).sum() >= 4:
            people.append(Person(str(index), keypoints, "openpose", keypoint_box(keypoints)))
    return people


def scene_labels(scene: Scene, people: list[Person], number: int, level: int, unknown: str) -> list:
    """The people's labels as fit.py reads them from a label map of the whole photo, which a parser got wrong."""
    if level == NAKED:
        return [clean_labels(naked_silhouette(scene), people[0].keypoints_px)]
    ids = noisy_labels(scene.labels, np.random.default_rng([number, 2]), level)
    Image.fromarray(ids).save(Path(scratch()) / f"{number}.png")
    return labels_alone(Path(f"{number}.png"), scene.image, people, scene.camera, session_of("c_mc", unknown))


def naked_silhouette(scene: Scene) -> np.ndarray:
    """[H, W] label map in which the target's naked body is one garment."""
    from fitter.write.overlay import covered_by

    camera, vertices = scene.camera, scene.people[0].naked_m + scene.place_m[0]
    size, faces = (camera.height, camera.width), session_of("fb", "found").faces
    covered = covered_by(vertices[None], faces, camera.focal_px, camera.center_px, size)
    return np.where(covered, LABELS.index("upper-clothes"), 0).astype(np.uint8)


def told_clothes(models, scene: Scene):
    """The models's SemanticTerms with the target's own clothes as the prior."""
    from fitter.energy.semantics import SemanticTerms

    person, prob = scene.people[0], models.semantics.prob.numpy()
    skin = slice(len(models.faces))  # the first faces of a clothed person are the body's, labelled as worn
    votes = np.zeros_like(prob)
    for corner in range(3):
        np.add.at(votes, (person.faces[skin, corner], person.labels[skin]), 1.0)
    votes[:, 0] = 0  # bare trunk: LIP has no name for it
    total = votes.sum(1, keepdims=True)
    worn = np.where(total > 0, votes / np.maximum(total, 1), prob / (1 - prob[:, :1]))
    told = np.concatenate([prob[:, :1], (1 - prob[:, :1]) * worn[:, 1:]], 1)
    return SemanticTerms(models.semantics.rasterizer, models.body.faces, told, models.config.semantics)


def against_truth(fit: Fit, scene: Scene, models) -> dict[str, float]:
    """METRICS of one fit of the target."""
    true, body = scene.people[0], models.body
    joints = true.joints_m
    shaped = body.template.numpy() + body.shape_dirs.numpy() @ fit.betas
    tape, true_tape = tape_of(body)(shaped), tape_of(body)(true.naked_t_m + tape_offset(body))
    keypoints = np.column_stack([scene.keypoints_px[0][:, :2], np.ones(25)])
    own = np.where(scene.owner == TARGET, scene.labels, np.where(scene.owner == 0, 0, UNKNOWN)).astype(
        np.uint8
    )
    person = Person("0", keypoints, "openpose", keypoint_box(keypoints))
    found = agreement(fit, person, clean_labels(own, keypoints), session_of("c_mc", "found"))
    offset = (fit.vertices_cam - fit.joints_cam[0]) - (true.naked_m - joints[0])
    return {
        "pve_sideways": float(1000 * np.linalg.norm(offset[:, :2], axis=1).mean()),
        "pve_depth": float(1000 * np.abs(offset[:, 2]).mean()),
        "pve": float(pve_mm(fit.vertices_cam, true.naked_m, fit.joints_cam[0], joints[0])),
        "pve_t_sc": float(pve_t_sc_mm(shaped, true.naked_t_m)),
        "mpjpe": float(mpjpe_mm(fit.joints_cam, joints)),
        "pa_mpjpe": float(pa_mpjpe_mm(fit.joints_cam, joints)),
        **{name: abs(tape[name] - true_tape[name]) for name in tape},
        **{f"{name}_signed": tape[name] - true_tape[name] for name in tape},
        **{name: found[name] for name in ("mc_iou", "c_iou", "outside")},
    }


@lru_cache(maxsize=1)
def tape_of(body) -> Tape:
    return Tape(body.template.numpy(), body.faces.numpy(), body.part_ids.numpy(), JOINT_NAMES)


def tape_offset(body) -> np.ndarray:
    """Where the template's pelvis lies: truths are relative to theirs."""
    return body.joint_template[0].numpy()


def save_pair(path: Path, scene: Scene, before: Fit, after: Fit) -> None:
    """Photo, labels, keypoints-alone fit and DSR fit side by side."""
    from fitter.write.overlay import overlay
    from priors.clothing import PALETTE

    labels = PALETTE[np.where(scene.labels < len(PALETTE), scene.labels, 0)]
    fits = [overlay(scene.image, [fit], session_of("c_mc", "found").faces) for fit in (before, after)]
    height = fits[0].shape[0]
    size = (round(scene.image.shape[1] * height / scene.image.shape[0]), height)
    shown = [np.asarray(Image.fromarray(a).resize(size, Image.NEAREST)) for a in (scene.image, labels)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([*shown, *fits], 1)).save(path)


def bound_rows(recipe: Recipe) -> list[Row]:
    """How far better labels, a better prior, or no clothes at all would get the same fit."""
    return [
        Row("keypoints", "keypoints", recipe, SOME),
        Row("c_mc", "c_mc", recipe, SOME),
        Row("exact labels", "c_mc", recipe, SOME, labels=0),
        Row("exact labels, own clothes as prior", "c_mc", recipe, SOME, labels=0, true_prior=True),
        Row("naked silhouette", "fb", recipe, SOME, labels=NAKED),
        Row("naked silhouette, 4 x the weight", "fb_strong", recipe, SOME, labels=NAKED),
    ]


def report_people(results: dict[str, dict[str, np.ndarray]], name: str) -> None:
    """The main table and its figures."""
    keypoints, default = results["keypoints"], results["c_mc"]
    figures = {
        "pve_gain_pct": (*gain_pct(keypoints["pve"], default["pve"]), "%"),
        "pve_t_sc_gain_pct": (*gain_pct(keypoints["pve_t_sc"], default["pve_t_sc"]), "%"),
        "pa_mpjpe_mm": (*mean(default["pa_mpjpe"]), "mm"),
        "pve_mm": (*mean(default["pve"]), "mm"),
    }
    tables = [comparison(f"{len(keypoints['pve'])} people", results, "keypoints"), signed(results)]
    write(name, figures, tables)


def report_rows(title: str, against: str, results: dict[str, dict[str, np.ndarray]], name: str) -> None:
    """A table without figures."""
    people = len(results[against]["pve"])
    write(name, {}, [comparison(f"{title}: {people} people", results, against), signed(results)])


def report_company(results: dict[str, dict[str, np.ndarray]], name: str) -> None:
    """Losses against the same people alone."""
    clean = results["c_mc"]["pve"]
    figures = {
        "occluder_loss_pct": (*gain_pct(results["occluder, found"]["pve"], clean, loss=True), "%"),
        "second_person_loss_pct": (*gain_pct(results["neighbour, known"]["pve"], clean, loss=True), "%"),
    }
    title = f"Occluders and neighbours: {len(clean)} people"
    write(name, figures, [comparison(title, results, "c_mc"), signed(results)])


TABLES = {
    "people": (main_rows, report_people),
    "ablation": (ablation_rows, partial(report_rows, "Table 1 as a fit", "keypoints")),
    "bounds": (bound_rows, partial(report_rows, "Told more than a photo tells", "keypoints")),
    "company": (company_rows, report_company),
    "spoilt": (spoilt_rows, partial(report_rows, "Labels, and what is not looked for", "c_mc")),
}


def write(name: str, figures: dict[str, tuple], tables: list[Table]) -> None:
    """figures: name -> (value, low, high, unit)."""
    intervals = Table("95 % intervals", ("figure", "low", "high"), [(k, *v[1:3]) for k, v in figures.items()])
    write_results(name, __doc__, {k: (v[0], v[3]) for k, v in figures.items()}, [*tables, intervals])


def comparison(title: str, results: dict, against: str) -> Table:
    """Means of METRICS a row, and the changes against one row with their intervals."""
    lines = []
    for name, values in results.items():
        changes = [change_mm(values[key], results[against][key]) for key in ("pve", "pve_t_sc", "pa_mpjpe")]
        lines.append((TITLES.get(name, name), *(float(np.nanmean(values[key])) for key in METRICS), *changes))
    change = tuple(f"{key} against {TITLES[against]}" for key in ("PVE", "PVE-T-SC", "PA-MPJPE"))
    return Table(title, ("row", *METRICS, *change), lines)


def signed(results: dict) -> Table:
    """Whether bodies come out too tall or too stout: mean of fit minus truth, mm."""
    names = ("height", "chest", "waist", "hips")
    lines = [
        (TITLES.get(row, row), *(float(v[f"{n}_signed"].mean()) for n in names)) for row, v in results.items()
    ]
    return Table("Mean of fit minus truth, mm", ("row", *names), lines)


if __name__ == "__main__":
    from benchmarks.accuracy import main as by_name  # worker processes find its functions by this name

    by_name()
