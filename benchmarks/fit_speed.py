"""How long does a fit take, against SPIN's schedule of SMPLify, and where does the time go?

    python -m benchmarks.fit_speed --photos DIR                            # the first 64 photos of a folder
    python -m benchmarks.fit_speed --photos DIR --list FILE                # those named in the list, a name a line
    python -m benchmarks.fit_speed --quick                                 # the example photos, within about a minute

Photos of any size are scaled and padded with grey to 1280 x 720 and saved as JPEG, so that a person stands in an
ordinary picture; the shipped detector finds the people. All times but those of two jobs are of one process held to one
core, after a warm-up, the two sides of every ratio taken in turn.

A photo (`photo_s`, `photo_s_without_dsr`): from the compressed file to the saved result and overlay, defaults, on
photos where exactly one person is found, in the program's batches; medians over batches, a photo's share. The table's
steps are timed in further runs of the same photos.

Two jobs (`two_jobs_speedup`): the command line on many and on a few photos with --jobs 1 and 2; what the many take
longer is the time of their photos alone, without start-up.

Keypoint fits (`keypoint_speedup_b1`, `_b8`): the largest person of each photo, one and eight at a time; SPIN's schedule
(`benchmarks/spin_schedule.py`: 100 + 100 iterations of Adam in float32 on the package smplx) against what the program
calls, multiple starts and the assembled result included; medians of the ratios. SPIN begins at the prior's mean pose,
facing the camera, its distance by its size. Its time does not depend on where it begins; that it begins once, while we
try several orientations and poses, is to its advantage.

Energy (`keypoint_energy_not_worse_pct`): two minimisers compare only on one energy, and SPIN's weights are not our
defaults. So Adam's 100 + 100 steps from the same start also minimise our energy itself, all its terms at their default
weights: first the camera stage's energy by orientation and translation, then the last keypoint stage's by pose, shape
and orientation; the camera's tilt, which SPIN does not have and our energy does, moves in both, which can only help.
The figure is the share of people whose energy after our fit is at most 0.1 % above that. Beside it in the table: the
same with the translation free to the end, and our energy at what SPIN's own energy led to.
"""

import argparse
import copy
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.posture import listed_photos
from benchmarks.report import Table, write_results
from benchmarks.spin_schedule import Bodies, Gaussians, Seen, Spin, two_stages
from fitter.config import FitConfig
from fitter.energy.observation import Variables
from fitter.energy.starts import first_starts
from fitter.jobs import one_thread
from fitter.method import Models
from fitter.people import Sighting, fit_clothing, observe
from fitter.people import fit_keypoints as fit_sightings
from fitter.pipeline import clothes_of, draw, fit_photos, labels_alone
from fitter.run import batch_size, models_of
from fitter.see.camera import Camera
from fitter.see.camera_files import camera_of_photo
from fitter.see.keypoints import Person, select_people
from fitter.see.photos import Photo, list_photos
from fitter.see.picture import read_image
from fitter.write.result import Fit, save_fit
from priors.skeleton import mirror_pose

ROOT = Path(__file__).parent.parent
SIZE_PX = (720, 1280)  # height, width
GREY = 128
STEPS = ("read", "detect", "keypoint solve", "parse, labels", "DSR solve", "overlay", "save")
GPU_BATCHES = (1, 8, 64, 256)
NOT_WORSE = 1.001
FULL = {"photos": 64, "timed": 12, "single": 24, "groups": 8, "many": 56, "few": 8, "rounds": 2}
QUICK = {"photos": 4, "timed": 2, "single": 2, "groups": 1, "many": 4, "few": 2, "rounds": 1}


# Everything that touches the fitter's insides: what is timed, and the energy that is compared.


def default_config(out: Path, dsr: bool = True) -> FitConfig:
    return FitConfig(images="", out=str(out), parser="shipped" if dsr else "none", device="cpu")


def some_photos(photos: list[Path], config: FitConfig) -> None:
    """As the program does it in one batch, from the files to the saved results and overlays."""
    whole = [Photo(photo, photo.name, f"{number:03d}") for number, photo in enumerate(photos)]
    for outcome in fit_photos(whole, [{}] * len(whole), models_of(config)):
        if not outcome.finished:
            raise ValueError(f"{outcome.photo.name}: expected a fit, got {outcome.rows[0]['reasons']}")


def stepwise(photos: list[Path], config: FitConfig) -> dict[str, float]:
    """Seconds of each of STEPS: `fitter.pipeline.fit_photos`, a step at a time."""
    models, seconds, wanted = models_of(config), {}, []
    settings, objective = models.config, models.objective
    for photo in photos:
        with timed(seconds, "read"):
            image = read_image(photo)
            camera = camera_of_photo(photo, None, image.shape[1], image.shape[0])
        with timed(seconds, "detect"):
            people = models.detect(image)
        wanted.append((image, [Sighting(photo.name, person, camera) for person in people]))
    seen = [one for _, own in wanted for one in own]
    with timed(seconds, "keypoint solve"):
        first = fit_sightings(objective, seen, settings)
    with timed(seconds, "parse, labels"):
        bodies, labels = iter(first), []
        for image, own in wanted:
            fits = [next(bodies) for _ in own]
            people = [one.person for one in own]
            labels += labels_alone(own[0].image, image, people, own[0].camera, models, fits)
    seen = [replace(one, labels=label) for one, label in zip(seen, labels, strict=True)]
    with timed(seconds, "DSR solve"):
        fits = iter(fit_clothing(objective, seen, first, settings))
    for image, own in wanted:
        found = [next(fits) for _ in own]
        known = [one.labels for one in seen if one.image == own[0].image]
        with timed(seconds, "overlay"):
            clothes = clothes_of([one.person for one in own], known, models)
            draw(Path(config.out) / f"{own[0].image}.jpg", image, found, models, clothes)
        with timed(seconds, "save"):
            for fit in found:
                save_fit(Path(config.out) / f"{own[0].image}_{fit.person}.npz", fit)
    return seconds


@lru_cache(maxsize=1)
def session() -> Models:
    """Body, prior and detector with the defaults; in float64, in which energies are compared."""
    models = models_of(FitConfig(images="", device="cpu"))
    return replace(models, objective=copy.deepcopy(models.objective).double())


def keypoint_stages() -> tuple:
    """The default stages without clothing, in their order."""
    return tuple(stage for stage in session().config.optimisation.stages if not stage.crop_px)


def fit_keypoints(people: list[Person], camera: Camera, device: str = "cpu") -> list[Fit]:
    """Our keypoint fit of people of pictures with the same camera."""
    models = models_of(FitConfig(images="", device=device))
    return fit_sightings(models.objective, sightings_of(people, camera), models.config)


def sightings_of(people: list[Person], camera: Camera) -> list[Sighting]:
    """Each the only one in a photo of their own: people of one photo would be given one tilt of its camera."""
    return [Sighting(f"{number}", person, camera) for number, person in enumerate(people)]


def observation_of(people: list[Person], camera: Camera):
    """What our objective is given."""
    models = session()
    return observe(
        sightings_of(people, camera), models.body, models.config.optimisation, models.objective.lifter
    )


def seen_of(people: list[Person], camera: Camera) -> Seen:
    """What both sides are given."""
    observation = observation_of(people, camera)
    targets = session().objective.keypoints.targets[observation.source]
    return Seen(**{n: getattr(observation, n) for n in Seen._fields if n != "targets"}, targets=targets)


def start_of(people: list[Person], camera: Camera) -> Bodies:
    """The prior's mean pose and shape, facing the camera, as far away as it looks large."""
    settings = session().config.optimisation
    first = first_starts(session().objective, observation_of(people, camera), settings)
    first = first.rows(torch.arange(len(people)) * len(settings.yaws))  # the first yaw, 0
    vectors = [cv2.Rodrigues(matrix.double().numpy())[0][:, 0] for matrix in first.orientation()]
    orientation = torch.tensor(np.stack(vectors)).to(first.betas)
    return Bodies(orientation, first.start_place_m - pelvis_of(first.betas), first.latent, first.betas)


def pelvis_of(betas: torch.Tensor) -> torch.Tensor:
    """Where the pelvis joint lies in the body's frame, [B, 3] m."""
    body = session().body
    return body.joint_template[0] + betas @ body.joint_shape_dirs[0].T


def our_energy(people: list[Person], camera: Camera, start: Bodies):
    """Function (Bodies, tilt [B, 2] rad, one of keypoint_stages) -> [B], differentiable; and the tilt expected."""
    objective, observation = session().objective, observation_of(people, camera)
    first_place = start.transl + pelvis_of(start.betas)
    unit = observation.box_px[:, None] / observation.focal_px
    level = torch.eye(3, dtype=unit.dtype).expand(len(people), 3, 3)

    def energy(bodies: Bodies, tilt: torch.Tensor, stage) -> torch.Tensor:
        place = bodies.transl + pelvis_of(bodies.betas)
        sideways = (place[:, :2] / place[:, 2:] - first_place[:, :2] / first_place[:, 2:]) / unit
        shift = torch.cat([sideways, (place[:, 2:] / first_place[:, 2:]).log()], 1)
        latent = objective.prior.latent(bodies.pose)
        at = Variables(bodies.orientation, shift, latent, bodies.betas, tilt, level, first_place)
        found, flat = objective.evaluate(at, observation, stage), at.flat()
        return found.energy + (found.gradient * (flat - flat.detach())).sum(1)  # value and gradient, no more

    return energy, observation.tilt


def bodies_of(fits: list[Fit]) -> tuple[Bodies, torch.Tensor]:
    """Results as tensors, and the camera's tilt [B, 2] rad that they were fitted with."""
    pose, betas, transl = (
        torch.tensor(np.stack([getattr(fit, name) for fit in fits])).double()
        for name in ("pose", "betas", "transl_cam")
    )
    tilt = [[fit.quality[f"camera_{name}_deg"] for name in ("pitch", "roll")] for fit in fits]
    return Bodies(pose[:, :3], transl, pose[:, 3:], betas), torch.tensor(tilt, dtype=pose.dtype).deg2rad()


def eight_gaussians() -> Gaussians:
    """SPIN's prior has eight components: four of the shipped mixture and their mirror images, over the pose alone."""
    gmm = session().prior.gmm
    means = torch.cat([gmm.means, mirror_pose(gmm.means)])
    chosen = [*range(4), *range(len(gmm.means), len(gmm.means) + 4)]
    at_means = gmm.component_energies(means).diagonal()  # no distance there: the weight is left
    return Gaussians(means[chosen], gmm.precisions[chosen], at_means[chosen])


# What is measured.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", default=str(ROOT / "examples" / "photos"), help="folder of photos")
    parser.add_argument("--list", help="text file, a photo's name a line; else the folder's first")
    parser.add_argument("--jobs-photos", type=int, help="photos of the longer runs with one and two jobs")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    counts = dict(QUICK if options.quick else FULL)
    counts["many"] = options.jobs_photos or counts["many"]
    photos = (
        listed_photos(options.photos, options.list)
        if options.list
        else [photo.path for photo in list_photos(options.photos)]
    )
    with tempfile.TemporaryDirectory() as work:
        pictures, people, alone = prepared(photos[: counts["photos"]], Path(work) / "photos")
        figures, tables = measure(pictures, people, alone, counts, Path(work))
    write_results("fit_speed_quick" if options.quick else "fit_speed", __doc__, figures, tables)


def measure(pictures, people, alone, counts: dict[str, int], work: Path):
    """Figures and tables; pictures, people, alone: see `prepared`."""
    camera = camera_of_photo(pictures[0], None, *SIZE_PX[::-1])
    some_photos(
        alone[:1], default_config(work / "first")
    )  # compiles and keeps what the command line then finds
    figures, tables = two_jobs(alone, counts, work)  # on all cores
    hold_to_one_core()
    one_thread()
    spin = Spin(str(work / "SMPL_OPEN.pkl"), session().body.landmark_ids, eight_gaussians())
    parts = (
        photo_times(repeated(alone, min(len(alone), counts["timed"])), work),
        keypoint_times(people, camera, spin, counts),
        energy_comparison(people, camera, spin),
        ({}, [gpu_rates(people, camera, work)]),
    )
    for more_figures, more_tables in parts:
        figures, tables = figures | more_figures, tables + more_tables
    order = (
        "photo_s",
        "photo_s_without_dsr",
        "two_jobs_speedup",
        "keypoint_speedup_b1",
        "keypoint_speedup_b8",
    )
    return {name: figures[name] for name in (*order, *figures) if name in figures}, tables


def prepared(photos: list[Path], folder: Path) -> tuple[list[Path], list[Person], list[Path]]:
    """The photos as 1280 x 720 JPEG in `folder`: all where somebody is found, the largest person of each, and those of
    them where exactly one is found. ValueError: there is none of these."""
    folder.mkdir(parents=True)
    pictures, largest, alone = [], [], []
    for number, photo in enumerate(photos):
        picture = folder / f"{number:04d}.jpg"
        Image.fromarray(letterbox(read_image(photo), SIZE_PX)).save(picture, quality=95)
        people = session().detect(read_image(picture))
        if people:
            pictures.append(picture)
            largest.append(select_people(people, "largest")[0])
        if len(people) == 1:
            alone.append(picture)
    if not alone:
        raise ValueError(f"photos: expected one with exactly one person, found none in {len(photos)}")
    return pictures, largest, alone


def letterbox(image: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """[H, W, 3] uint8 scaled to fit into (height, width), in the middle, grey about it."""
    scale = min(size_px[0] / image.shape[0], size_px[1] / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    whole = np.full((*size_px, 3), GREY, np.uint8)
    top, left = (size_px[0] - height) // 2, (size_px[1] - width) // 2
    whole[top : top + height, left : left + width] = small
    return whole


def hold_to_one_core() -> None:
    """All threads of this process, those to come included, on the last of its cores."""
    if hasattr(os, "sched_setaffinity"):
        core = {max(os.sched_getaffinity(0))}
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), core)


@contextmanager
def timed(seconds: dict[str, float], name: str):
    """Adds how long the block takes to seconds[name]."""
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


def load() -> str:
    """How many processes wanted to run in the last minute, ours included: more than cores, and seconds are too long."""
    return f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""


def seconds_of(call, *arguments) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def repeated(items: list, count: int) -> list:
    """So many, over again from the first where there are fewer."""
    return list(islice(cycle(items), count))


def two_jobs(photos: list[Path], counts: dict[str, int], work: Path):
    """The command line with one and with two jobs on many and few photos, `rounds` times, in turn."""
    few, many = counts["few"], counts["many"]
    title = f"Two jobs: the command line on {many} photos and on {few}{load()}"
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < 2:
        return {}, [Table(title, ("not measured",), [("this process has one core",)])]
    folders = {count: folder_of(repeated(photos, count), work / f"photos_{count}") for count in (few, many)}
    rows, ratios = [], []
    for round_number in range(counts["rounds"]):
        seconds = {
            (jobs, count): seconds_of(run_command, folders[count], work, jobs)
            for count in (few, many)
            for jobs in (1, 2)
        }
        added = {jobs: seconds[jobs, many] - seconds[jobs, few] for jobs in (1, 2)}
        ratios += (
            [added[1] / added[2]] if min(added.values()) > 0 else []
        )  # else it was busy with other things
        rows += [
            (round_number + 1, jobs, seconds[jobs, few], seconds[jobs, many], added[jobs] / (many - few))
            for jobs in (1, 2)
        ]
    table = Table(title, ("round", "jobs", f"s, {few}", f"s, {many}", "s a further photo"), rows)
    return {"two_jobs_speedup": (float(np.median(ratios)), "x")} if ratios else {}, [table]


def folder_of(photos: list[Path], folder: Path) -> Path:
    folder.mkdir()
    for number, photo in enumerate(photos):
        shutil.copy(photo, folder / f"{number:04d}.jpg")
    return folder


def run_command(photos: Path, work: Path, jobs: int) -> None:
    """`fit.py` with the defaults. RuntimeError: it did not fit all."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        command = [sys.executable, "fit.py", "--images", str(photos), "--out", out, "--jobs", str(jobs)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"fit.py: expected exit code 0, got {run.returncode}: {run.stderr[-500:]}")


def photo_times(photos: list[Path], work: Path):
    """Whole photos with and without DSR, and the steps of the former, in turn; the first batch once before."""
    configs = {
        name: default_config(work / name, dsr)
        for name, dsr in (("photo_s", True), ("photo_s_without_dsr", False))
    }
    size = batch_size(configs["photo_s"])
    groups = [photos[first : first + size] for first in range(0, len(photos), size)]
    times: dict[str, list[float]] = {name: [] for name in (*configs, *STEPS)}
    for index, group in enumerate([groups[0], *groups]):
        found = {name: seconds_of(some_photos, group, config) for name, config in configs.items()}
        found |= stepwise(group, configs["photo_s"])
        for name, seconds in found.items() if index else ():
            times[name].append(seconds / len(group))
    together = sum(np.median(times[step]) for step in STEPS)
    rows = [(step, *quartiles(times[step]), 100 * float(np.median(times[step]) / together)) for step in STEPS]
    rows += [("whole photo", *quartiles(times["photo_s"]), "")]
    rows += [("whole photo without DSR", *quartiles(times["photo_s_without_dsr"]), "")]
    title = f"Seconds a photo, {len(photos)} photos in batches of {size}, one core{load()}"
    table = Table(title, ("step", "median", "25 %", "75 %", "% of the steps"), rows)
    return {name: (float(np.median(times[name])), "s") for name in configs}, [table]


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Median, 25th and 75th percentile."""
    return tuple(float(np.percentile(values, share)) for share in (50, 25, 75))


def keypoint_times(people: list[Person], camera: Camera, spin: Spin, counts: dict[str, int]):
    """SPIN's schedule and our keypoint fit in turn, one person and eight at a time."""
    figures, rows = {}, []
    for batch, count in ((1, counts["single"]), (8, counts["groups"])):
        groups = np.array_split(np.arange(batch * count) % len(people), count)
        seconds = []
        for rows_of_group in groups[:1] + groups:  # the first to warm up
            group = [people[row] for row in rows_of_group]
            seen, start = seen_of(group, camera), start_of(group, camera)
            seconds.append((seconds_of(spin.fit, seen, start), seconds_of(fit_keypoints, group, camera)))
        theirs, ours = np.array(seconds[1:]).T / batch
        ratio = quartiles(theirs / ours)
        figures[f"keypoint_speedup_b{batch}"] = (ratio[0], "x")
        rows.append((batch, count, float(np.median(theirs)), float(np.median(ours)), *ratio))
    columns = ("batch", "batches", "SPIN's, s a person", "ours, s a person", "ratio, median", "25 %", "75 %")
    return figures, [Table("Keypoint fits, medians, one core", columns, rows)]


def energy_comparison(people: list[Person], camera: Camera, spin: Spin):
    """Our energy at our fits and at what Adam's steps lead to."""
    start = start_of(people, camera)
    energy, level = our_energy(people, camera, start)
    stages = keypoint_stages()
    fits = fit_keypoints(people, camera)
    with torch.no_grad():
        ours = energy(*bodies_of(fits), stages[-1]).numpy()
        begun = energy(start, level, stages[-1]).numpy()
    results = {}
    for name, fixed in (("Adam on our energy", True), ("the same, translation free to the end", False)):
        tilt = level.clone()
        staged = (
            lambda bodies, stage=stage, tilt=tilt: energy(bodies, tilt, stage)
            for stage in (stages[0], stages[-1])
        )
        found = two_stages(start, *staged, always=(tilt,), camera_fixed=fixed)
        results[name] = (found, tilt)
    found = spin.fit(seen_of(people, camera), start)
    results["SPIN's schedule on its own energy"] = (Bodies(*(part.to(level) for part in found)), level)
    rows = [("start", float(np.median(begun)), "", ""), ("our fit", float(np.median(ours)), "", "")]
    shares = {}
    for name, (bodies, tilt) in results.items():
        with torch.no_grad():
            theirs = energy(bodies, tilt, stages[-1]).numpy()
        shares[name] = not_worse_pct(ours, theirs)
        rows.append((name, float(np.median(theirs)), shares[name], float(np.median(ours / theirs))))
    columns = ("after", "energy, median", "ours not worse, % of people", "ours / theirs, median")
    table = Table(f"Our keypoint energy, {len(people)} people", columns, rows)
    return {"keypoint_energy_not_worse_pct": (shares["Adam on our energy"], "% of people")}, [table]


def not_worse_pct(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of people for whom our energy is at most 0.1 % above theirs; one that is not finite is worse."""
    return float(
        100 * (~np.isfinite(theirs) | (ours <= NOT_WORSE * theirs))[np.isfinite(ours)].sum() / len(ours)
    )


def gpu_rates(people: list[Person], camera: Camera, work: Path) -> Table:
    """Keypoint fits a second on a GPU, ours and SPIN's, or why there is none."""
    title = "Keypoint fits a second on a GPU"
    if not torch.cuda.is_available():
        return Table(title, ("not measured",), [("no GPU on this machine",)])
    spin = Spin(str(work / "SMPL_GPU.pkl"), session().body.landmark_ids, eight_gaussians(), "cuda")
    rows = []
    for batch in GPU_BATCHES:
        group = repeated(people, batch)
        seen, start = seen_of(group, camera), start_of(group, camera)
        rate = []
        for fit in (lambda g=group: fit_keypoints(g, camera, "cuda"), lambda s=seen, t=start: spin.fit(s, t)):
            fit()  # to warm up
            rate.append(batch / seconds_of(lambda fit=fit: (fit(), torch.cuda.synchronize())))
        rows.append((batch, *rate))
    return Table(f"{title}, {torch.cuda.get_device_name()}", ("batch", "ours", "SPIN's schedule"), rows)


if __name__ == "__main__":
    main()
