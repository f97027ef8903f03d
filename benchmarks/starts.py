"""What are the lifter and the network worth to a fit? Without either, from the lifter, from the network's body, EFT,
and both alone.

    python -m benchmarks.starts [--checkpoint FILE] [--people 60] [--jobs 2]
    python -m benchmarks.starts --quick

Without a checkpoint it is the network that ships.

The first people of `benchmarks.accuracy` (recipe BENCHMARK: clothes and motions that neither priors nor
configs learn from), with the same noisy keypoints, labels of noise level 1 and known camera; the network
sees the picture and the noisy keypoints' box. Seconds are of the fit alone, one thread, `--jobs` people at a time.
Intervals: 95 %, bootstrap over people, paired with the row from scratch that uses the same evidence.
"""

import argparse
import time
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from benchmarks.accuracy import (
    BENCHMARK,
    against_truth,
    scene_labels,
    scene_people,
    session_of,
)
from benchmarks.report import Table, bootstrap, change_mm, mean, write_results
from fitter.config import Eft
from fitter.energy.objective import Objective
from fitter.jobs import one_thread
from fitter.people import Sighting, fit_clothing, fit_people, lifter_like, observe
from priors.lifter import Lifted
from regressor.checkpoints import load_hmr
from regressor.eft import fine_tuned, make_criterion
from regressor.hmr import Prediction
from regressor.methods import lower_of_both
from regressor.predict import as_fits, predict, square_of
from synth.dataset import scene_maker

PEOPLE, LEVEL = 60, 1
COMPARED = {  # row: the row that it is compared with
    "keypoints, from the lifter": "keypoints, without the lifter",
    "DSR, from the lifter": "DSR, without the lifter",
    "keypoints, from the network": "keypoints, from the lifter",
    "DSR, from the network": "DSR, from the lifter",
    "network alone": "lifter alone",
    "EFT": "network alone",
    "EFT with DSR": "EFT",
}
SCRATCH = {  # row: that of the same evidence from scratch, which it must not be worse than
    "EFT": "keypoints, from the lifter",
    "EFT with DSR": "DSR, from the lifter",
}
EFT = Eft()
EFT_DSR = 1.0  # the DSR terms weigh what they weigh in a fit
METRICS = ("pve", "mpjpe", "pa_mpjpe", "mc_iou", "seconds", "energy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="shipped", help="of a regressor")
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    from joblib import Parallel, delayed

    count = 4 if options.quick else options.people
    found = Parallel(n_jobs=options.jobs, batch_size=1)(
        delayed(one_person)(number, options.checkpoint) for number in range(count)
    )
    rows = {name: {key: np.array([one[name][key] for one in found]) for key in METRICS} for name in found[0]}
    lines = [(name, *(float(np.nanmean(values[key])) for key in METRICS)) for name, values in rows.items()]
    changes = [
        (name, other, *(change_mm(rows[name][key], rows[other][key]) for key in ("pve", "pa_mpjpe")),
         faster(rows[name]["seconds"], rows[other]["seconds"]))
        for name, other in (*COMPARED.items(), *SCRATCH.items())
    ]  # fmt: skip
    figures = {
        f"{metric}_{name.replace(', ', '_').replace(' ', '_').lower()}": (mean(values[metric])[0], unit)
        for name, values in rows.items()
        for metric, unit in (("pa_mpjpe", "mm"), ("pve", "mm"), ("seconds", "s"))
    }
    lifted, without = (rows[f"keypoints, {way} the lifter"] for way in ("from", "without"))
    figures["lifter_pa_gain_mm"] = (mean(without["pa_mpjpe"] - lifted["pa_mpjpe"])[0], "mm")
    figures["lifter_speedup"] = (float(without["seconds"].sum() / lifted["seconds"].sum()), "x")
    figures["network_pa_mpjpe_mm"] = (mean(rows["network alone"]["pa_mpjpe"])[0], "mm")
    for evidence in ("keypoints", "DSR"):
        begun, scratch = (rows[f"{evidence}, from the {start}"]["energy"] for start in ("network", "lifter"))
        figures[f"network_start_higher_{evidence.lower()}_pct"] = (
            100 * float((begun > 1.001 * scratch).mean()),
            "%",
        )
    tables = [
        Table(f"{count} people", ("row", *METRICS), lines),
        Table("Paired differences, mm, and ratio of times",
              ("row", "against", "PVE", "PA-MPJPE", "time"), changes),
    ]  # fmt: skip
    write_results("starts_quick" if options.quick else "starts", __doc__, figures, tables)


def faster(seconds: np.ndarray, against: np.ndarray) -> str:
    """Ratio of the sums of times and its interval, as text."""
    low, high = bootstrap(lambda rows: seconds[rows].sum() / against[rows].sum(), len(seconds))
    return f"x {seconds.sum() / against.sum():.2f} ({low:.2f}..{high:.2f})"


@lru_cache(maxsize=1)
def network(checkpoint: str):
    return load_hmr(checkpoint)


@lru_cache(maxsize=1)
def eft_criterion():
    models = session_of("c_mc", "found")
    return make_criterion(models.body, models.config.semantics)


@lru_cache(maxsize=1)
def warmed_up(checkpoint: str) -> None:
    """What is compiled or loaded at its first use in a process, before anything is timed."""
    models, scene = session_of("c_mc", "found"), scene_maker(BENCHMARK)(0)
    people = scene_people(scene, 0, True)[:1]
    labels = scene_labels(scene, people, 0, LEVEL, "found")[:1]
    fit_people("", people, scene.camera, models.body, models.prior, models.config, labels, models.semantics)
    for way in network_ways(network(checkpoint), scene, people, labels[0], models).values():
        way()


def one_person(number: int, checkpoint: str) -> dict[str, dict[str, float]]:
    """Every row of one person."""
    one_thread()
    scene = scene_maker(BENCHMARK)(number)
    people = scene_people(scene, number, True)[:1]
    models = session_of("c_mc", "found")
    labels = scene_labels(scene, people, number, LEVEL, "found")[:1]
    plain = ("", people, scene.camera, models.body, models.prior, models.config)
    with_dsr = (*plain, labels, models.semantics)
    unlifted = replace(models.config, optimisation=replace(models.config.optimisation, lifter=False))
    ways = {
        "keypoints, without the lifter": lambda: fit_people(*plain[:-1], unlifted)[0],
        "keypoints, from the lifter": lambda: fit_people(*plain)[0],
        "DSR, without the lifter": lambda: fit_people(*plain[:-1], unlifted, *with_dsr[-2:])[0],
        "DSR, from the lifter": lambda: fit_people(*with_dsr)[0],
    }

    warmed_up(checkpoint)
    ways |= network_ways(network(checkpoint), scene, people, labels[0], models)
    measured = {}
    for name, way in ways.items():
        started = time.perf_counter()
        fit = way()
        seconds = time.perf_counter() - started
        energy = fit.quality.get("energy", np.nan)
        measured[name] = against_truth(fit, scene, models) | {"seconds": seconds, "energy": energy}
    return measured


def network_ways(net, scene, people: list, labels, models) -> dict:
    """The rows with a regressor, and the lifter's body as it is."""
    objective, config = objective_of(models), models.config
    seen = Sighting("", people[0], scene.camera, labels=labels)

    def lifted():
        lifted = Lifted(**observe([seen], objective.body, lifter=objective.lifter).lifted)
        rotations = torch.cat([lifted.orientation[:, None], lifted.rotations], 1)
        body = Prediction(rotations, rotations.new_zeros(1, 10), rotations.new_tensor([[0.9, 0.0, 0.0]]))
        return as_fits(body, [square_of(people[0])], [seen], objective)[0]

    def answer():
        return predict(net, scene.image, people, scene.camera, objective)[0]

    def eft(known, settings):
        found, first, last = fine_tuned(
            net, replace(seen, image_rgb=scene.image, labels=known), eft_criterion(), settings
        )
        return as_fits(found, [square_of(people[0])], [seen], objective)[0]

    def begun():
        return lower_of_both(objective, [replace(seen, start=answer())], config)

    def clothed():
        first = begun()
        return fit_clothing(objective, [replace(seen, start=answer())], first, config)[0]

    return {
        "lifter alone": lifted,
        "network alone": answer,
        "EFT": lambda: eft(None, EFT),
        "EFT with DSR": lambda: eft(labels, replace(EFT, semantics=EFT_DSR)),
        "keypoints, from the network": lambda: begun()[0],
        "DSR, from the network": clothed,
    }


@lru_cache(maxsize=1)
def objective_of(models) -> Objective:
    """The fit's, with the lifter."""
    lifter = lifter_like(models.body.template.dtype, models.body.template.device)
    settings = models.config.optimisation
    return Objective(
        models.body, models.prior, models.config.weights, settings.sigma, models.semantics, lifter
    )


if __name__ == "__main__":
    from benchmarks.starts import main as by_name  # worker processes find its functions by this name

    by_name()
