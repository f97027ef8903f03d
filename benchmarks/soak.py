"""Does a long run lose, spoil or repeat anything when it is killed again and again? And does it grow?

    python -m benchmarks.soak                        # 1,000 photos, 50 kills, shards, clusters
    python -m benchmarks.soak --count 300            # fewer photos
    python -m benchmarks.soak --quick                # 40 photos, 5 kills, no clusters

Photos: grey, 320 x 240, in folders of folders, each with an OpenPose file of one or two open bodies in random poses
about the prior's mean; every 20th is damaged or shows nobody. `fit.py --parser none --overlay false` with two starts,
as a user runs it: once undisturbed; and once killed with SIGKILL, all its processes at once, at random moments, a fifth
of them before anything is written, and started again until it is done.

Mismatches, of the second folder against the first: results with a number that differs by more than 1e-6, or that only
one of them has; rows of the summary that differ, are lost, or stand there twice; photos that were fitted although they
were finished; files that neither a result nor the index accounts for. Shards with their merge, and clusters, are
compared in the same way on a few photos.

Memory: resident, of all processes of the undisturbed run together, ten times a second from /proc; by how much the
highest mean of ten samples after the first fifth of the photos lies above the mean of the ten at it. Batches: the
largest difference of pose, shape and place between fits in batches of 1, 4 and 8, of the default settings.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as fit.py computes

import numpy as np
import torch
from PIL import Image

from benchmarks.report import Table, write_results
from fitter.body.model import load_body
from fitter.config import FitConfig
from fitter.jobs import ENVIRONMENT
from fitter.people import Sighting, fit_keypoints
from fitter.see.camera import default_camera, project_points
from fitter.see.keypoint_files import find_keypoints
from fitter.see.keypoint_targets import body_targets
from priors.pose import load_pose_prior

SIZE = (320, 240)
FIT = Path(__file__).parents[1] / "fit.py"
CHEAP = (
    "--parser none --overlay false --jobs 2 --optimisation.starts 2 --optimisation.yaws [0.0,180.0]".split()
)
ALIKE = 1e-6
SOME = 24  # photos for shards, clusters and batches
EARLY = 0.2  # share of kills before anything is written
SMOOTHED = 10
ARRAYS = ("pose", "betas", "transl_cam")


@dataclass(frozen=True)
class Samples:
    """Of an undisturbed run: seconds it took; finished photos and resident bytes, sample by sample."""

    seconds: float
    photos: list[int]
    resident: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="photos")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    count, kills = (40, 5) if options.quick else (options.count, options.kills)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), count, kills, options.seed, options.quick)


def measure(folder: Path, count: int, kills: int, seed: int, quick: bool) -> None:
    rng = np.random.default_rng(seed)
    make_photos(folder, count, rng)
    samples = undisturbed(folder)
    killed, seconds = disturbed(folder, kills, count, rng)
    faults = differences(folder / "calm", folder / "killed")
    rows = [("undisturbed", count, 0, samples.seconds, 0), ("killed", count, killed, seconds, len(faults))]
    told = list(faults)
    if not quick:
        make_photos(folder / "some", SOME, np.random.default_rng(seed + 1))
        for name, arguments in others():
            row, found = compared(folder / "some", name, arguments)
            rows.append(row)
            told += found
    compared_batches = 8 if quick else SOME
    batches = batch_difference(folder / "keypoints", compared_batches)
    growth = growth_pct(samples, count)
    figures = {
        "soak_photos": (float(count), "photos"),
        "soak_kills": (float(killed), "SIGKILLs of the whole run"),
        "soak_mismatches": (float(len(faults)), "against the undisturbed run"),
        "soak_other_mismatches": (float(len(told) - len(faults)), "shards and clusters, against one process"),
        "soak_memory_growth_pct": (growth, "% after the first fifth of the photos"),
        "soak_memory_mb": (max(samples.resident) / 2**20, "MiB resident at most, all processes"),
        "batch_difference_max": (max(batches.values()), "rad, m or shape, batches of 1, 4 and 8"),
    }
    if quick:
        del figures["soak_other_mismatches"]
    tables = [
        Table("Runs", ("run", "photos", "kills", "seconds", "mismatches"), rows),
        Table("Mismatches", ("what",), [(fault,) for fault in told[:50]]),
        Table(f"Batches, {compared_batches} photos", ("batch", "difference"), list(batches.items())),
    ]  # fmt: skip
    write_results("soak_quick" if quick else "soak", __doc__, figures, tables)


def make_photos(folder: Path, count: int, rng: np.random.Generator) -> None:
    """photos/<day>/<camera>/<number>.jpg and keypoints/ with the same folders."""
    body, prior = load_body(), load_pose_prior("gmm", None, torch.float32)
    camera = default_camera(*SIZE)
    matrix = torch.tensor(body_targets("openpose", *body.joint_layout)[0]).float()
    pixels = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    for number in range(count):
        name = f"day{number // 100:02d}/camera{number % 3}/{number:05d}"
        photo, places = folder / "photos" / f"{name}.jpg", folder / "keypoints" / f"{name}_keypoints.json"
        for path in (photo, places):
            path.parent.mkdir(parents=True, exist_ok=True)
        people = [somebody(body, prior, matrix, camera, rng) for _ in range(1 + (number % 5 == 1))]
        if number % 40 == 7:
            photo.write_bytes(b"\xff\xd8\xff not a photo")
        else:
            pixels[0, 0] = number % 256, number // 256, 0
            Image.fromarray(pixels).save(photo)
        entries = [{"person_id": [-1], "pose_keypoints_2d": points.reshape(-1).tolist()} for points in people]
        places.write_text(json.dumps({"people": [] if number % 40 == 27 else entries}))


def somebody(body, prior, matrix: torch.Tensor, camera, rng: np.random.Generator) -> np.ndarray:
    """[25, 3] keypoints of a body about the prior's mean pose, seen with an error of a pixel."""
    pose = np.concatenate([[0, rng.uniform(-1, 1), 0], rng.normal(prior.starts(1)[0].numpy(), 0.15)])
    pose, betas = (torch.tensor(part[None]).float() for part in (pose, rng.normal(size=10)))
    points = body.points(body(betas, pose, with_vertices=False)) * torch.tensor([1.0, -1, -1])
    points = points + torch.tensor([rng.uniform(-0.6, 0.6), -0.08, rng.uniform(3.3, 4.5)]).float()
    focal, center = torch.tensor([camera.focal_px]).float(), torch.tensor([camera.center_px]).float()
    pixels = project_points(matrix @ points, focal, center)[0].numpy() + rng.normal(size=(25, 2))
    return np.column_stack([pixels, np.full(25, 0.9)])


def begun(folder: Path, out: str, *more: str) -> subprocess.Popen:
    """fit.py on a folder of make_photos, in a process group of its own."""
    given = ["--images", folder / "photos", "--keypoints", folder / "keypoints", "--out", folder / out]
    return subprocess.Popen(
        [sys.executable, str(FIT), *map(str, given), *CHEAP, *more],
        stdout=subprocess.DEVNULL, stderr=open(folder / f"{out}.log", "ab"), start_new_session=True,
        env=os.environ | ENVIRONMENT,
    )  # fmt: skip


def ended(run: subprocess.Popen, log: Path) -> None:
    """Waits for a run; RuntimeError if it did not come to its end."""
    if run.wait() not in (0, 3):
        raise RuntimeError(f"fit.py ended with {run.returncode}: {log.read_text()[-2000:]}")


def undisturbed(folder: Path) -> Samples:
    start, photos, resident = time.monotonic(), [], []
    run = begun(folder, "calm")
    while run.poll() is None:
        photos.append(lines_in(folder / "calm"))
        resident.append(resident_bytes(run.pid))
        time.sleep(0.1)
    ended(run, folder / "calm.log")
    return Samples(time.monotonic() - start, photos, resident)


def disturbed(folder: Path, kills: int, count: int, rng: np.random.Generator) -> tuple[int, float]:
    """How many times the run was killed, at most `kills`, before it came to its end; and seconds."""
    start, killed = time.monotonic(), 0
    while killed < kills:
        before = lines_in(folder / "killed")
        early = rng.random() < EARLY
        new = 0 if early else rng.integers(1, max(2, round(0.8 * count / kills)))
        wait = rng.uniform(0, 5 if early else 0.5)
        run = begun(folder, "killed")
        while run.poll() is None and lines_in(folder / "killed") < before + new:
            time.sleep(0.01)
        try:
            run.wait(wait)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            killed += 1
        else:
            ended(run, folder / "killed.log")
            if not early:
                break
    ended(begun(folder, "killed"), folder / "killed.log")
    return killed, time.monotonic() - start


def lines_in(out: Path) -> int:
    """Lines of a run's index."""
    index = out / "index.jsonl"
    return index.read_bytes().count(b"\n") if index.exists() else 0


def resident_bytes(group: int) -> int:
    """Of all processes of a group; 0 where there is no /proc."""
    pages = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                pages += int((path / "statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it has ended
    return pages * os.sysconf("SC_PAGE_SIZE")


def growth_pct(samples: Samples, count: int) -> float:
    """See the module's docstring."""
    after = [size for done, size in zip(samples.photos, samples.resident, strict=True) if done >= count / 5]
    if len(after) < SMOOTHED:
        return float("nan")
    curve = np.convolve(after, np.full(SMOOTHED, 1 / SMOOTHED), "valid")
    return float(100 * (curve.max() / curve[0] - 1))


def differences(calm: Path, other: Path) -> list[str]:
    """What the second folder has otherwise than the first, a line each."""
    found = []
    files = [{p.relative_to(out) for p in out.rglob("*") if p.is_file()} for out in (calm, other)]
    for one, where in ((files[0] - files[1], "lost"), (files[1] - files[0], "left over")):
        found += [f"{where}: {path}" for path in sorted(one) if not made_by_the_run(path)]
    for path in sorted(files[0] & files[1]):
        if path.suffix == ".npz" and (worst := difference(calm / path, other / path)) > ALIKE:
            found.append(f"differs by {worst:.3g}: {path}")
    rows = [(out / "summary.jsonl").read_text().splitlines() for out in (calm, other)]
    if rows[0] != rows[1]:
        found += [f"row: {row}" for row in sorted((Counter(rows[0]) - Counter(rows[1])).elements())]
        found += [f"row too many: {row}" for row in sorted((Counter(rows[1]) - Counter(rows[0])).elements())]
        found += ["rows in another order"] * (sorted(rows[0]) == sorted(rows[1]))
    times = Counter(
        entry["name"]
        for index in other.glob("index*.jsonl")
        for entry in map(json.loads, index.read_text().splitlines())
        if entry["finished"]
    )
    return found + [f"fitted {count} times: {name}" for name, count in times.items() if count > 1]


def made_by_the_run(path: Path) -> bool:
    """Locks and indexes, which shards have others of."""
    return path.suffix == ".lock" or path.name == ".lock" or path.name.startswith("index")


def difference(one: Path, other: Path) -> float:
    """Largest of two results' arrays; inf where one has another array, or other text."""
    with np.load(one) as a, np.load(other) as b:
        if a.files != b.files:
            return np.inf
        worst = 0.0
        for key in a.files:
            if a[key].shape != b[key].shape or (a[key].dtype.kind in "US" and a[key] != b[key]):
                return np.inf
            if a[key].dtype.kind == "f" and a[key].size:
                worst = max(worst, float(np.abs(a[key] - b[key]).max()))
        return worst


def others() -> list[tuple[str, list[list[str]]]]:
    """Name and the command lines, one after the other, of runs that are to be like the first."""
    shards = [["--shard", f"{k}/3"] for k in range(3)]
    return [
        ("one process", [["--jobs", "1", "--batch", "8"]]),
        ("shards 0/3, 1/3, 2/3", shards),
        ("dask://local", [["--cluster", "dask://local"]]),
        ("ray://local", [["--cluster", "ray://local"]]),
    ]


def compared(folder: Path, name: str, runs: list[list[str]]) -> tuple[tuple, list[str]]:
    """A row of the table, and mismatches against an ordinary run of the same photos."""
    package = {"dask": "distributed", "ray": "ray"}.get(name.partition(":")[0])
    if package and not find_spec(package):
        return (f"{name}: skipped, {package} is not installed", SOME, 0, "-", "-"), []
    if not (folder / "calm").exists():
        ended(begun(folder, "calm"), folder / "calm.log")
    start, out = time.monotonic(), "".join(filter(str.isalnum, name))
    for arguments in runs:
        run = begun(folder, out, *arguments)
        ended(run, folder / f"{out}.log")
    seconds = time.monotonic() - start
    subprocess.run([sys.executable, "-m", "fitter.write.store", str(folder / out)], check=True, cwd=FIT.parent,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    found = [f"{name}: {fault}" for fault in differences(folder / "calm", folder / out)]
    return (name, SOME, 0, seconds, len(found)), found


def batch_difference(keypoints: Path, count: int) -> dict[int, float]:
    """Batch size -> largest difference of its people's pose, betas and transl_cam from batches of one photo."""
    from fitter.run import models_of

    models = models_of(FitConfig(images="", parser="none"))
    camera = default_camera(*SIZE)
    files = sorted(keypoints.rglob("*.json"))[:count]
    photos = [
        [Sighting(path.stem, person, camera) for person in find_keypoints(path, path)] for path in files
    ]
    fits = {}
    for size in (1, 4, 8):
        batches = [sum(photos[at : at + size], []) for at in range(0, len(photos), size)]
        fits[size] = [fit for seen in batches for fit in fit_keypoints(models.objective, seen, models.config)]
    return {
        size: max(
            float(np.abs(getattr(one, name) - getattr(other, name)).max())
            for one, other in zip(fits[1], fits[size], strict=True)
            for name in ARRAYS
        )
        for size in (4, 8)
    }


if __name__ == "__main__":
    main()
