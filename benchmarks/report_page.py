"""How long the report of 2,000 people takes to open, and to write: a run of made-up people, in headless Chromium.

    python -m benchmarks.report_page [--quick]

Open means: from the click on the file until the pictures of the first screen are there, and a sort and a filter have
been answered. Needs Chromium and the package playwright; without them only the writing is measured.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.report import Table, write_results
from fitter.body.model import load_body
from fitter.see.photos import Photo
from fitter.write.overlay import Clothes, overlay
from fitter.write.report import write_report
from fitter.write.result import Fit, save_fit, summary_row
from fitter.write.store import Store, merge

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# in a container, and WebGL without a GPU
OPTIONS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
WIDTH, HEIGHT = 480, 640  # of the photos, px
FOCAL_PX, CENTER_PX = np.full(2, 800.0), np.array([WIDTH, HEIGHT]) / 2
DRAWN = 21  # photos; the others show the same, a multiple of three
OPENINGS = 5


def made_up_run(out: Path, photos: int, seed: int = 0) -> int:
    """Writes a folder as fit.py does, without fitting: photos of one, two and three people in turn, every fourth of
    the people doubtful; returns how many people."""
    rng = np.random.default_rng(seed)
    body, pictures, count = load_body(), [], 0
    names = [f"p{number:05d}" for number in range(photos)]
    with Store(out, {"made": "up"}, settings={"body": None, "weights": {"pose": 10.0}}) as store:
        store.expect([Photo(Path(f"{name}.jpg"), f"{name}.jpg", name) for name in names])
        for number, name in enumerate(names):
            fits = made_up_people(name, 1 + number % 3, body, rng, count)
            count += len(fits)
            if number < DRAWN:
                pictures.append(_picture(fits, body, rng))
            files = {f"{name}_{fit.person}.npz": lambda path, fit=fit: save_fit(path, fit) for fit in fits}
            files[f"overlays/{name}.jpg"] = lambda path, n=number % DRAWN: path.write_bytes(pictures[n])
            store.put(name, fits[0].inputs, [summary_row(fit) for fit in fits], files)
    merge(out)
    return count


def made_up_people(name: str, people: int, body, rng, first: int = 0) -> list[Fit]:
    """People in a row, standing in poses drawn at random, seen from the front."""
    pose = rng.normal(0, 0.15, (people, 72)).astype(np.float32)
    pose[:, :3] = [np.pi, 0, 0]
    pose[:, [50, 53]] += [-1.2, 1.2]  # arms down
    betas = rng.normal(0, 0.7, (people, 10)).astype(np.float32)
    place = np.stack(
        [(np.arange(people) - (people - 1) / 2) * 0.8, np.zeros(people), np.full(people, 3.0 + people)], 1
    )
    with torch.no_grad():
        posed = body(torch.tensor(betas), torch.tensor(pose))
    fits = []
    for row in range(people):
        joints, vertices = (part[row].numpy() + place[row] for part in (posed.joints, posed.vertices))
        keypoints = np.concatenate([joints, vertices[:1]])
        px = keypoints[:, :2] / keypoints[:, 2:] * FOCAL_PX + CENTER_PX
        doubtful = (first + row) % 4 == 3
        energy = float(rng.gamma(2, 100))
        states = np.full(24, 2, np.uint8)
        states[rng.permutation(24)[: rng.integers(12)]] = 1
        fits.append(
            Fit(
                image=f"{name}.jpg", name=name, person=str(row), people_in_photo=people, body_model=body.name,
                keypoint_source="detector", camera_source="default", label_source="parser", pose_prior="gmm",
                pose=pose[row], betas=betas[row], transl_cam=place[row], focal_px=FOCAL_PX, center_px=CENTER_PX,
                image_size_px=np.array([WIDTH, HEIGHT]), box_px=np.concatenate([px.min(0), px.max(0)]),
                joints_cam=joints, vertices_cam=vertices, keypoints_px=px, joint_states=states,
                observed_px=np.column_stack([px, np.ones(25)]),
                inputs={"photo": {"path": f"{name}.jpg", "size": 1, "sha256": name}},
                energies={"keypoints": 0.2 * energy, "pose": 0.3 * energy, "mc": 0.5 * energy},
                quality={"reprojection_pct": float(rng.gamma(2, 0.5)), "energy": energy},
                valid=not doubtful, reasons=("largest |beta| 3.4 > 3",) if doubtful else (),
            )
        )  # fmt: skip
    return fits


def _picture(fits: list[Fit], body, rng) -> bytes:
    """The overlay of a photo of noise, labels included, JPEG."""
    photo = cv2.resize(
        rng.integers(60, 220, (12, 9, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for fit in fits:
        x0, y0, x1, y1 = np.clip(fit.box_px, 0, HEIGHT).astype(int)
        ids[y0:y1, x0:x1] = 5
    rgb = np.broadcast_to([0.2, 0.5, 0.8], (len(fits), len(fits[0].vertices_cam), 3))
    picture = overlay(photo, fits, body.faces.numpy(), Clothes(ids, rgb))
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def chromium(playwright):
    """A headless Chromium, this machine's or playwright's own; playwright's Error if there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return playwright.chromium.launch(executable_path=found, args=list(OPTIONS))


def opening_s(browser, page: Path) -> float:
    """Seconds from nothing until the page has answered a sort and a filter."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    began = time.perf_counter()
    tab.goto(page.as_uri())
    pictures = """() => {
        const all = [...document.querySelectorAll("img.strip")];
        return all.length && all.every((one) => one.complete && one.naturalWidth);
    }"""
    tab.wait_for_function(pictures)
    tab.select_option("#sort", "energy")
    tab.select_option("#valid", "0")
    tab.wait_for_function(pictures)
    taken = time.perf_counter() - began
    context.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 photos")
    given = parser.parse_args()
    photos = 100 if given.quick else 1001  # 2001 people
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        people = made_up_run(out, photos)
        began = time.process_time()
        page = write_report(out)
        written = time.process_time() - began
        began = time.process_time()
        write_report(out)
        again = time.process_time() - began
        size = sum(path.stat().st_size for path in (out / "report").rglob("*") if path.is_file())
        rows = [
            ("people", people),
            ("written the first time, CPU ms a person", 1000 * written / people),
            ("written again with nothing new, CPU ms a person", 1000 * again / people),
            ("on the disk, kB a person", size / 1000 / people),
        ]
        figures = {"report_write_ms_per_person": (1000 * written / people, "ms")}
        try:
            from playwright.sync_api import Error, sync_playwright

            with sync_playwright() as playwright:
                browser = chromium(playwright)
                taken = [opening_s(browser, page) for _ in range(OPENINGS)]
                browser.close()
            rows.append(("opened, s, each time", ", ".join(f"{one:.2f}" for one in taken)))
            if not given.quick:
                figures["report_2000_load_s"] = (float(np.median(taken)), "s")
        except ImportError:
            print("opening is not measured: pip install playwright")
        except Error as error:
            print(f"opening is not measured: no Chromium ({str(error).splitlines()[0]})")
    name = "report_page_quick" if given.quick else "report_page"
    about = "The report of a run of made-up people (photos of noise, with one to three people each), opened from disk."
    write_results(name, about, figures, [Table("The report", ("what", "value"), rows)])


if __name__ == "__main__":
    main()
