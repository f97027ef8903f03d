r"""Write a dataset of clothed people: photos, labels, masks, depth and a SPIN-format npz with the truth.

    dsr-data --out DIR --count 1000 [--recipe.seed 0] [--recipe.image_px '[256, 256]'] [--jobs 2]
    python -m synth.dataset ...                      the same

    DIR/images/000000.jpg      photo                      DIR/masks/000000.png   the person's own pixels
    DIR/labels/000000.png      20 labels, 255 unknown     DIR/depth/000000.png   millimetres, 0 = nothing
    DIR/dataset.npz            SPIN's keys (imgname, center, scale, pose, shape, part, openpose, S, ...), and more
    DIR/recipe.json, DIR/rows  what they were drawn by, and each scene's row: a run that was stopped goes on from there,
                               and a larger count adds to what is there

Scene i depends on the recipe and on i alone. Needs the extra `build` (the package anny).
"""

import importlib.util
import json
import sys
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from fitter.body.spin_joints import spin_joints
from fitter.cli import read_config
from fitter.help import called
from fitter.jobs import cores, one_thread, parallel
from fitter.write.index import plain
from synth.open_body.source import load_anny
from synth.scenes import TARGET, Recipe, Scene, SceneMaker

BODIES, BODY_SEEDS = 2000, {"prior": 21, "benchmark": 22}  # whom a recipe draws from
JPEG_QUALITY = 95
NEEDS = "anny"  # package
FOLDERS = ("images", "labels", "masks", "depth", "rows")
ELSE = "give another --out"


@lru_cache(maxsize=2)
def scene_maker(recipe: Recipe) -> SceneMaker:
    """The maker of a recipe's scenes, built once a process."""

    from fitter.body.model import OPEN_BODY, load_body
    from synth.clothes.figures import load_template, load_wardrobe
    from synth.clothes.people import Tailor

    one_thread()
    wardrobe = load_wardrobe(None, load_template(OPEN_BODY), BODIES, BODY_SEEDS[recipe.clothes])
    return SceneMaker(recipe, Tailor(wardrobe, load_body()))


def spin_row(scene: Scene, name: str, maker: SceneMaker) -> dict[str, np.ndarray]:
    """The target person as one row of a SPIN npz, and what goes beyond it: camera, vertices' residual, clothes."""
    person, place, camera = scene.people[0], scene.place_m[0], scene.camera
    keypoints = scene.keypoints_px[0]
    points = np.concatenate([person.joints_m, person.naked_m[maker.landmarks]])
    joints = spin_joints(points[None], person.naked_m[None])[0]
    px = (joints + place)[:, :2] / (joints + place)[:, 2:] * camera.fx_px + [camera.cx_px, camera.cy_px]
    low, high = keypoints[:, :2].min(0), keypoints[:, :2].max(0)
    return {
        "imgname": np.array(f"images/{name}.jpg"),
        "maskname": np.array(f"masks/{name}.png"),
        "center": (low + high) / 2,
        "scale": np.array(1.2 * (high - low).max() / 200),
        "pose": person.pose,
        "shape": person.betas,
        "has_smpl": np.array(1),
        "part": np.column_stack([px, np.ones(24)]),
        "openpose": keypoints,
        "S": np.column_stack([joints - joints[14], np.ones(24)]),
        "gender": np.array(person.gender[0]),
        "joints_cam": person.joints_m + place,
        "betas_residual_mm": np.array(person.residual_mm),
        "focal_px": np.array(camera.focal_px),
        "center_px": np.array(camera.center_px),
        "tilt_deg": np.array([camera.pitch_deg, camera.roll_deg]),
        "clothes": np.array(", ".join(person.clothes)),
    }


def write_scene(number: int, recipe: Recipe, out: Path) -> None:
    """Draws and writes one scene, last its row, which is there when all the rest is."""
    import cv2

    maker = scene_maker(recipe)
    scene, name = maker(number), f"{number:06d}"
    depth = np.where(np.isfinite(scene.depth_m), 1000 * scene.depth_m, 0).clip(0, 65535)
    cv2.imwrite(
        str(out / "images" / f"{name}.jpg"), scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    cv2.imwrite(str(out / "labels" / f"{name}.png"), scene.labels)
    cv2.imwrite(str(out / "masks" / f"{name}.png"), np.where(scene.owner == TARGET, 255, 0).astype(np.uint8))
    cv2.imwrite(str(out / "depth" / f"{name}.png"), depth.astype(np.uint16))
    save_whole(row_file(out, number), spin_row(scene, name, maker))


def row_file(out: Path, number: int) -> Path:
    return out / "rows" / f"{number:06d}.npz"


def save_whole(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """An npz that is there whole or not at all."""
    with open(path.with_suffix(".part"), "wb") as file:
        np.savez_compressed(file, **arrays)
    path.with_suffix(".part").replace(path)


def write_dataset(out: Path, count: int, recipe: Recipe, jobs: int = 0, first: int = 0) -> int:
    """Scenes first .. first + count - 1 of a recipe, those that are there already kept; returns how many it drew.

    jobs: processes, 0 = one per core. ValueError: the folder holds another recipe's people."""
    from tqdm import tqdm

    missing = [number for number in range(first, first + count) if not row_file(out, number).is_file()]
    about = json.dumps({"first": first, "recipe": plain(asdict(recipe))})
    noted = out / "recipe.json"
    if noted.is_file() and noted.read_text() != about:
        raise ValueError(
            f"{out}: expected people of the recipe {about}, it holds those of {noted.read_text()}; {ELSE}"
        )
    if not noted.is_file() and (out / "dataset.npz").is_file():
        raise ValueError(f"{out}: expected an empty folder, it holds people of an unknown recipe; {ELSE}")
    if not missing and (out / "dataset.npz").is_file():
        return 0
    if importlib.util.find_spec(NEEDS) is None:
        raise ValueError(
            "expected the package anny to make people, found none; in the checkout: pip install -c constraints.txt -e "
            "'.[build]'"
        )
    for folder in FOLDERS:
        (out / folder).mkdir(parents=True, exist_ok=True)
    noted.write_text(about)
    load_anny()  # once, before there are several processes that would
    with parallel(min(jobs or cores(), len(missing) or 1)) as each:
        progress = tqdm(total=count, initial=count - len(missing), unit="person", desc=str(out))
        for _ in each(partial(write_scene, recipe=recipe, out=out), missing):
            progress.update()
        progress.close()
    rows = [np.load(path) for path in sorted((out / "rows").glob("*.npz"))]
    save_whole(out / "dataset.npz", {key: np.stack([row[key] for row in rows]) for key in rows[0].files})
    return len(missing)


@dataclass(frozen=True)
class DataConfig:
    """Make photos of clothed people, with labels and the truth about their bodies.

    Args:
        out: folder for them
        count: how many
        first: number of the first scene
        jobs: processes; 0 = one per core
        recipe: how scenes are drawn
    """

    out: str
    count: int = 100
    first: int = 0
    jobs: int = 0
    recipe: Recipe = field(default_factory=Recipe)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 2 wrong usage, 130 stopped by Ctrl-C."""
    words, name = sys.argv[1:] if arguments is None else arguments, called("synth.dataset")
    try:
        given = read_config(words, DataConfig, name, "Make photos of clothed people.", None)
        drawn = write_dataset(Path(given.out), given.count, given.recipe, given.jobs, given.first)
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    print(f"{given.out}: {given.count} people, {drawn} of them new")
    return 0


if __name__ == "__main__":
    from synth.dataset import main as by_name  # worker processes find its functions by this name

    raise SystemExit(by_name())
