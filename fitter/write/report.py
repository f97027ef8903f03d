"""The report of a run: `OUT/report.html`, opened from disk, to look through people and to accept or reject them.

    dsr-report OUT      (python -m fitter.write.report) of a run that had --report false, or by an earlier version

The page and what it reads lie in `OUT/report`: `people.js` has everyone's numbers; `people/<digest>.jpg` is a person's
row of pictures, cut from the overlay, and the .js of that name holds what the person's own view shows: body, photo,
what was read. The digest is of the fit's file and the overlay: while these are the same, so are both files.
"""

import base64
import hashlib
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fitter.see.visibility import SEEN
from fitter.write.files import write_files, write_text
from fitter.write.index import entries_in_order, has_index, json_line, plain, run_of
from fitter.write.layout import Panels, panels_in
from fitter.write.overlay import SKIN_RGB
from fitter.write.result import VERSION, Fit, fit_id, load_fit
from fitter.write.store import CONFIG, SUMMARY, is_result, results
from priors.skeleton import JOINT_NAMES

PAGE = Path(__file__).parent / "page"
FOLDER = "report"
CELL_PX = (224, 168)  # height, width of one picture in a person's row
MARGIN, AROUND = 0.12, 0.35  # about a person in pictures and behind the body, shares of the longer side
BEYOND_RGB = 118  # grey where a row's picture leaves the photo
TEXTURE_PX = 420  # longer side of the photo behind the body, at most
STEP_M = 0.0005  # to which vertices are rounded
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 82]
PHOTOS_A_JOB = 200  # fewer are not worth another process


def write_report(out: str | Path, body: str | None = None, jobs: int = 1) -> Path:
    """Writes `<out>/report.html` and what it reads, returns it; only of the people of the last run.

    body: SMPL file of the fits, if it has moved since; jobs: processes, 0 = one per core
    FileNotFoundError: no fits, or no body. ValueError: fits of another body than given.
    """
    from fitter.jobs import cores, parallel

    out = Path(out)
    photos = list(people_by_photo(out))
    first = next((path for people in photos for _, path in people), None)
    if first is None:
        raise FileNotFoundError(f"report {out}: expected results of fit.py (*.npz), found none")
    folder = out / FOLDER / "people"
    folder.mkdir(parents=True, exist_ok=True)
    body = body or load_fit(first).configuration.get("body")
    body_of(body)  # a file that is not there ends this here
    jobs = max(1, min(jobs or cores(), len(photos) // PHOTOS_A_JOB))
    with parallel(jobs) as each:
        rows = [row for of_photo in each(partial(pictured, out=out, body=body), photos) for row in of_photo]
    settings = out / CONFIG
    data = {
        "title": out.resolve().name,
        "run": run_of(out).get("configuration", "")[:16],
        "version": VERSION,
        "joints": JOINT_NAMES,
        "skin": SKIN_RGB,
        "cells": max(row["cells"] for row in rows) or 4,
        "settings": json.loads(settings.read_text()) if settings.is_file() else {},
        "not_fitted": not_fitted(out),
        **as_columns(rows),
    }
    faces = np.asarray(body_of(body).faces.cpu(), np.uint32)
    write_text(out / FOLDER, "people.js", ["RUN = ", json_line(plain(data))])
    write_text(out / FOLDER, "faces.js", [f'FACES = "{_packed(faces)}";\n'])
    for path in PAGE.iterdir():
        place = "report.html" if path.suffix == ".html" else f"{FOLDER}/{path.name}"
        write_files(out, {place: partial(shutil.copyfile, path)})
    used = {row["file"] for row in rows}
    for path in folder.iterdir():
        if path.stem not in used:
            path.unlink()
    return out / "report.html"


def people_by_photo(out: Path) -> Iterator[list[tuple[int, Path]]]:
    """Each photo's people of the last run, as their places in the overlay and their files; without an index all that
    the folder holds, by name."""
    if has_index(out):
        for _, entry in entries_in_order(out):
            files = [path for path, _ in entry["files"] if is_result(path)] if entry else []
            yield [(place, out / path) for place, path in enumerate(files) if (out / path).is_file()]
        return
    found: dict[str, list[Path]] = defaultdict(list)
    for path in results(out):
        found[str(path).rpartition("_")[0]].append(path)
    yield from (list(enumerate(people)) for people in found.values())


@lru_cache(maxsize=1)
def body_of(path: str | None):
    """`load_body`, once a process."""
    from fitter.body.model import load_body

    return load_body(path)


def pictured(people: list[tuple[int, Path]], out: Path, body: str | None) -> list[dict]:
    """Rows of the report of a photo's people (place in the overlay, file), their pictures and bodies written."""
    if not people:
        return []
    fits = [load_fit(path) for _, path in people]
    name = fits[0].name or str(people[0][1].relative_to(out)).rpartition("_")[0]
    overlay = f"overlays/{name}.jpg"
    data = overlay_file(out / overlay, fits[0])
    made_from = hashlib.sha256(VERSION.encode() + data)
    rows, picture = [], None
    for (place, path), fit in zip(people, fits, strict=True):
        digest = made_from.copy()
        digest.update(path.read_bytes())
        stem = digest.hexdigest()[:20]
        row = row_of(fit, str(path.relative_to(out).with_suffix("")), place) | {"file": stem}
        files = [f"{FOLDER}/people/{stem}{end}" for end in (".js", *([".jpg"] if data else []))]
        if picture is None and data and not all((out / file).is_file() for file in files):
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if not all((out / file).is_file() for file in files):
            about = view_of(fit, picture, place, body) | {"overlay": overlay if data else ""}
            text = f'VIEW("{stem}", {json_line(plain(about)).strip()});\n'
            write = {files[0]: lambda path, text=text: path.write_text(text)}
            if data:
                strip = cv2.imencode(".jpg", row_of_pictures(picture, fit, place), QUALITY)[1].tobytes()
                write[files[1]] = lambda path, strip=strip: path.write_bytes(strip)
            write_files(out, write)
        rows.append(row | {"cells": cells_of(out / files[1]) if data else 0})
    return rows


def overlay_file(path: Path, fit: Fit) -> bytes:
    """A photo's overlay as it lies there; nothing if it does not, or is not of today's layout."""
    try:
        with Image.open(path) as file:
            width, height = file.size
    except OSError:
        return b""
    found = panels_in(_size(fit), fit.people_in_photo, (width, height))
    return path.read_bytes() if found else b""


def panels_of(picture: np.ndarray, fit: Fit) -> Panels:
    """Where an overlay of `overlay_file`, decoded, shows what."""
    height, width = picture.shape[:2]
    found = panels_in(_size(fit), fit.people_in_photo, (width, height))
    assert found
    return found


def row_of(fit: Fit, name: str, place: int) -> dict:
    """What the gallery sorts, filters and shows of a person."""
    numbers = {
        "joints_seen": int((fit.joint_states == SEEN).sum()),
        **fit.quality,
        **{f"energy_{term}": value for term, value in fit.energies.items()},
    }
    return {
        "name": name,
        "image": fit.image,
        "person": str(fit.person),
        "fit": fit_id(fit),
        "place": place,
        "valid": fit.valid,
        "reasons": fit.reasons,
        "states": "".join(str(int(one)) for one in fit.joint_states),
        "sources": [fit.keypoint_source, fit.camera_source, fit.label_source],
        "numbers": {name: float(f"{value:.5g}") for name, value in numbers.items()},
    }


def cells_of(path: Path) -> int:
    """How many pictures a person's row has."""
    with Image.open(path) as file:
        return file.width // CELL_PX[1]


def as_columns(rows: list[dict]) -> dict:
    """Rows with their numbers as one list per name, None where a person has none."""
    names = list(dict.fromkeys(name for row in rows for name in row["numbers"]))
    numbers = {name: [row["numbers"].get(name) for row in rows] for name in names}
    return {"people": [{k: v for k, v in row.items() if k != "numbers"} for row in rows], "numbers": numbers}


def not_fitted(out: Path) -> list[tuple[str, str]]:
    """(photo, why) of those that the run skipped."""
    if not (out / SUMMARY).is_file():
        return []
    rows = (json.loads(line) for line in (out / SUMMARY).read_text().splitlines())
    return [
        (row["image"], "; ".join(row["reasons"]))
        for row in rows
        if row["status"] == "skipped" and not row.get("earlier")
    ]


def view_of(fit: Fit, picture: np.ndarray | None, place: int, body: str | None) -> dict:
    """What a person's own view shows, picture: the overlay, BGR."""
    import torch

    if fit.body_model != body_of(body).name:
        raise ValueError(
            f"report: expected fits of the body {body_of(body).name!r}, {fit.name}_{fit.person} is of "
            f"{fit.body_model!r}; give its file with --body"
        )
    with torch.no_grad():
        given = (torch.as_tensor(array)[None].to(body_of(body).template) for array in (fit.betas, fit.pose))
        vertices = body_of(body)(*given).vertices[0].cpu().numpy() + fit.transl_cam
    low = vertices.min(0)
    view = {
        "low_m": low,
        "step_m": STEP_M,
        "vertices": _packed(np.round((vertices - low) / STEP_M).astype(np.uint16)),
        "focal_px": fit.focal_px,
        "center_px": fit.center_px,
        "body": fit.body_model,
        "prior": fit.pose_prior,
        "betas": np.round(fit.betas, 2),
        "size_px": fit.image_size_px,
        "inputs": fit.inputs,
    }
    if picture is None:
        return view
    found = panels_of(picture, fit)
    x0, y0, x1, y1 = found.photo
    size = np.array(_size(fit) * 2)
    scale = np.array([x1 - x0, y1 - y0] * 2) / size
    near, wide = (np.clip(_about(fit, margin), 0, size) * scale for margin in (MARGIN, AROUND))
    a, b, c, d = np.round(wide).astype(int)
    texture = picture[y0:y1, x0:x1][b : max(d, b + 1), a : max(c, a + 1)]
    smaller = min(1.0, TEXTURE_PX / max(texture.shape[:2]))
    if smaller < 1:
        texture = cv2.resize(texture, None, fx=smaller, fy=smaller, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", texture, QUALITY)[1].tobytes()
    places = {"photo": found.photo, "over": found.over, "labels": found.labels, "classes": found.classes}
    return view | {
        "photo": "data:image/jpeg;base64," + base64.b64encode(jpeg).decode(),
        "photo_box_px": np.array([a, b, c, d]) / scale,
        "panels": {name: box for name, box in places.items() if box},
        "side": found.sides[place] if place < len(found.sides) else None,
        "crop": np.round(near),
    }


def row_of_pictures(picture: np.ndarray, fit: Fit, place: int) -> np.ndarray:
    """photo | body | side view | labels of one person, [CELL_PX[0], 3 or 4 * CELL_PX[1], 3] BGR from an overlay."""
    found = panels_of(picture, fit)
    scale = (found.photo[2] - found.photo[0]) / _size(fit)[0]
    box = np.array(_about(fit, MARGIN, CELL_PX[1] / CELL_PX[0])) * scale
    cells = [_cut(picture, panel, box) for panel in (found.photo, found.over)]
    x0, y0, x1, y1 = found.sides[min(place, len(found.sides) - 1)]
    cells.append(cv2.resize(picture[y0:y1, x0:x1], CELL_PX[::-1], interpolation=cv2.INTER_AREA))
    if found.labels:
        cells.append(_cut(picture, found.labels, box))
    return np.concatenate(cells, 1)


def _cut(picture: np.ndarray, panel: tuple[int, int, int, int], box: np.ndarray) -> np.ndarray:
    """A box x0 y0 x1 y1 px of a panel as one cell; grey beyond the panel."""
    x0, y0, x1, y1 = panel
    scale = CELL_PX[0] / (box[3] - box[1])
    part = picture[y0:y1, x0:x1]
    if scale < 0.5:  # or pixels would be left out
        part = cv2.resize(part, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        box, scale = box * 2 * scale, 0.5
    matrix = np.array([[scale, 0, -box[0] * scale], [0, scale, -box[1] * scale]])
    return cv2.warpAffine(part, matrix, CELL_PX[::-1], borderValue=(BEYOND_RGB,) * 3)


def _about(fit: Fit, margin: float, aspect: float | None = None) -> tuple[float, float, float, float]:
    """x0 y0 x1 y1 px about a person's keypoints in the photo, with a margin; aspect: width / height."""
    points = np.concatenate([fit.keypoints_px, np.reshape(fit.box_px, (2, 2))])
    width, height = _size(fit)
    points = np.clip(points, 0, [width, height])
    low, high = points.min(0), points.max(0)
    middle, side = (low + high) / 2, np.maximum(high - low, 8) + 2 * margin * (high - low).max()
    if aspect is not None:
        side = np.maximum(side, side[::-1] * [aspect, 1 / aspect])
        least = max(
            height / side[1], (high - low)[0] / side[0]
        )  # no higher than the photo, unless they are wider
        side = side * min(1.0, least)
        room = np.array([width, height]) - side
        middle = np.where(
            room < 0, np.array([width, height]) / 2, middle.clip(side / 2, np.abs(room) + side / 2)
        )
    return *(middle - side / 2), *(middle + side / 2)


def _size(fit: Fit) -> tuple[int, int]:
    return int(fit.image_size_px[0]), int(fit.image_size_px[1])


def _packed(array: np.ndarray) -> str:
    """Little-endian numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code, 2 for wrong usage."""
    from fitter.help import command_line

    parser = command_line("dsr-report", __doc__)
    parser.add_argument("out", help="folder of fits: fit.py's --out")
    parser.add_argument("--body", help="SMPL file, if it has moved since the fit")
    parser.add_argument("--jobs", type=int, default=0, help="processes; 0 = one per core")
    given = parser.parse_args(arguments)
    try:
        print(write_report(given.out, given.body, given.jobs))
    except (ValueError, OSError) as error:
        print(f"dsr-report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
