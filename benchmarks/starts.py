"""What are the lifter and a trained regressor worth to a fit? Without either, from the lifter, from the network's body,
EFT, and the network alone.

    python -m benchmarks.starts [--checkpoint FILE] [--people 60] [--jobs 2]
    python -m benchmarks.starts --quick

Without a checkpoint the lifter alone is measured.

The first people of `benchmarks.accuracy` (recipe BENCHMARK: clothes and motions that neither priors nor
configs/synthetic.yaml learn from), with the same noisy keypoints, labels of noise level 1 and known camera; the network
sees the picture and the noisy keypoints' box. Seconds are of the fit alone, one thread, `--jobs` people at a time.
Intervals: 95 %, bootstrap over people, paired with the row from scratch that uses the same evidence.
"""

import argparse
import time
from dataclasses import replace
from functools import lru_cache

import numpy as np

from benchmarks.accuracy import (
    BENCHMARK,
    against_truth,
    scene_labels,
    scene_people,
    session_of,
)
from benchmarks.report import Table, bootstrap, change_mm, mean, write_results
from fitter.config import Eft
from fitter.jobs import one_thread
from fitter.people import fit_people
from regressor.checkpoints import load_hmr
from regressor.eft import fine_tuned, make_criterion
from regressor.predict import as_fits, predict, square_of
from synth.dataset import scene_maker

PEOPLE, LEVEL = 60, 1
COMPARED = {  # row: the row that it is compared with
    "keypoints, from the lifter": "keypoints, without the lifter",
    "DSR, from the lifter": "DSR, without the lifter",
    "keypoints, from the network": "keypoints, from the lifter",
    "DSR, from the network": "DSR, from the lifter",
    "EFT": "network alone",
    "EFT with DSR": "EFT",
}
EFT = Eft()
EFT_DSR = 1.0  # the DSR terms weigh what they weigh in a fit
METRICS = ("pve", "mpjpe", "pa_mpjpe", "mc_iou", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="of a regressor")
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
        for name, other in COMPARED.items()
        if name in rows
    ]  # fmt: skip
    figures = {
        f"{metric}_{name.replace(', ', '_').replace(' ', '_').lower()}": (mean(values[metric])[0], unit)
        for name, values in rows.items()
        for metric, unit in (("pa_mpjpe", "mm"), ("pve", "mm"), ("seconds", "s"))
    }
    lifted, without = (rows[f"keypoints, {way} the lifter"] for way in ("from", "without"))
    figures["lifter_pa_gain_mm"] = (mean(without["pa_mpjpe"] - lifted["pa_mpjpe"])[0], "mm")
    figures["lifter_speedup"] = (float(without["seconds"].sum() / lifted["seconds"].sum()), "x")
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
def network(checkpoint: str | None):
    return load_hmr(checkpoint)


@lru_cache(maxsize=1)
def eft_criterion():
    models = session_of("c_mc", "found")
    return make_criterion(models.body, models.config.semantics)


@lru_cache(maxsize=1)
def warmed_up(checkpoint: str | None) -> None:
    """What is compiled or loaded at its first use in a process, before anything is timed."""
    models, scene = session_of("c_mc", "found"), scene_maker(BENCHMARK)(0)
    people = scene_people(scene, 0, True)[:1]
    labels = scene_labels(scene, people, 0, LEVEL, "found")[:1]
    fit_people("", people, scene.camera, models.body, models.prior, models.config, labels, models.semantics)
    if checkpoint:
        fine_tuned(
            network(checkpoint), scene.image, people[0], labels[0], eft_criterion(), replace(EFT, steps=1)
        )


def one_person(number: int, checkpoint: str | None) -> dict[str, dict[str, float]]:
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
        "keypoints, without the lifter": lambda: fit_people(*plain[:-1], unlifted),
        "keypoints, from the lifter": lambda: fit_people(*plain),
        "DSR, without the lifter": lambda: fit_people(*plain[:-1], unlifted, *with_dsr[-2:]),
        "DSR, from the lifter": lambda: fit_people(*with_dsr),
    }

    warmed_up(checkpoint)
    if checkpoint:
        ways |= network_ways(network(checkpoint), scene, people, labels[0], plain, with_dsr)
    measured = {}
    for name, way in ways.items():
        started = time.perf_counter()
        fit = way()[0]
        seconds = time.perf_counter() - started
        measured[name] = against_truth(fit, scene, models) | {"seconds": seconds}
    return measured


def network_ways(net, scene, people, labels, plain: tuple, with_dsr: tuple) -> dict:
    """The rows with a regressor."""
    body = plain[3]

    def eft(known, settings):
        prediction, *_ = fine_tuned(net, scene.image, people[0], known, eft_criterion(), settings)
        return as_fits(prediction, [square_of(people[0])], people, scene.camera, body)

    begun = predict(net, scene.image, people, scene.camera, body)
    return {
        "network alone": lambda: predict(net, scene.image, people, scene.camera, body),
        "EFT": lambda: eft(None, EFT),
        "EFT with DSR": lambda: eft(labels, replace(EFT, semantics=EFT_DSR)),
        "keypoints, from the network": lambda: fit_people(*plain, start=[begun[0]], turned=True),
        "DSR, from the network": lambda: fit_people(*with_dsr, start=[begun[0]], turned=True),
    }


if __name__ == "__main__":
    from benchmarks.starts import main as by_name  # worker processes find its functions by this name

    by_name()
