"""From a folder of fits to a dataset file (pseudo-ground-truth) that other tools train on.

    dsr-export --fits out --images photos --format spin --out mine/streets.npz [--rejection valid]
    python -m fitter.write.export ...                the same

Formats: spin (CLIFF), eft, bedlam, camerahmr, 4dhumans (ProHMR), 4dhumans-tars, humandata, neuralannot, amass: what
each file holds is said in `export_formats`, whom a rejection leaves out in `rejection`. `--as smpl` refuses fits of
another body than SMPL.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from fitter.write import export_formats as formats
from fitter.write.export_people import People
from fitter.write.index import has_index
from fitter.write.rejection import REJECTIONS, read_decisions, reason_or_decision
from fitter.write.result import Fit, fit_id, load_fit
from fitter.write.store import results

FORMATS = {
    "spin": (formats.write_spin, ".npz"),
    "eft": (formats.write_eft, ".json"),
    "bedlam": (formats.write_bedlam, ".npz"),
    "camerahmr": (formats.write_camerahmr, ".npz"),
    "4dhumans": (formats.write_4dhumans, ".npz"),
    "4dhumans-tars": (formats.write_4dhumans_tars, ".tar"),
    "humandata": (formats.write_humandata, ".npz"),
    "neuralannot": (formats.write_neuralannot, ".json"),
    "amass": (formats.write_amass, ""),
}
LABEL_MAPS = "export/labels"  # folder in that of the fits: maps of single people, as their fits used them
LABELLED = ("spin", "eft")  # formats that name them
SMPL_VERTICES = 6890
MAX_BODY_CHANGE_M = 0.002  # saved joints against the same body posed again
BATCH = 64
UNDISTORTED = "its px are the undistorted photo's, not the photo's: undistort the photos and fit those"
REPORTED = 20  # rejected people that are named; the others are counted


def export_fits(
    fits_dir: str | Path,
    images_dir: str | Path,
    fmt: str,
    rejection: str = "valid",
    out: str | Path | None = None,
    body: str | Path | None = None,
    betas_as: str | None = None,
    decisions: str | Path | None = None,
) -> Path:
    """Writes the people that fit.py fitted as one dataset file, prints what was left out and why, returns the file.

    fits_dir: fit.py's `--out`; only the people of its last run are taken, as its index or summary.jsonl says
    images_dir: the photos that were fitted (or the one photo); names in the file are relative to this folder
    fmt, rejection: one of FORMATS, REJECTIONS
    out: the file; `<fits_dir>/export/<fmt>.npz|json|tar` if not given (tars are numbered, amass is a folder)
    body: the SMPL file of the fits, if it is no longer where fit.py found it
    betas_as: "smpl" = write only what has SMPL's betas; None = write them, and say in the file whose they are
    decisions: the report's decisions.json: who is rejected there is left out, who is accepted is taken, and `rejection`
        says of the others

    FileNotFoundError: no fits, photos missing, no body file. ValueError: an unknown name, another body than the fits',
    photos of another size than fitted, everybody rejected, betas that are not SMPL's where those are asked for.
    """
    if fmt not in FORMATS:
        raise ValueError(f"export: expected one of {', '.join(FORMATS)}, got {fmt!r}")
    if rejection not in REJECTIONS:
        raise ValueError(f"rejection: expected one of {', '.join(REJECTIONS)}, got {rejection!r}")
    write, suffix = FORMATS[fmt]
    fits_dir, images = Path(fits_dir), Path(images_dir)
    images = images.parent if images.is_file() else images
    out = Path(out) if out else fits_dir / "export" / f"{fmt}{suffix}"
    if out.suffix != suffix or out.parent.resolve() == fits_dir.resolve():
        raise ValueError(f"export {out}: expected a {suffix} file outside of the folder of fits {fits_dir}")
    fits = fits_in(fits_dir)
    clip = next((fit.image for fit in fits if "frame" in fit.quality), None)
    if clip:
        raise ValueError(
            f"fits {fits_dir}: expected fits of photos, got of clips, as {clip}; a motion is saved by "
            "fitter.write.sequence.save_amass (docs/video.md)"
        )
    decided = read_decisions(decisions) if decisions else {}
    reasons = [UNDISTORTED if fit.distortion else reason_or_decision(fit, rejection, decided) for fit in fits]
    others = decided.keys() - {fit_id(fit) for fit in fits}
    kept = [fit for fit, reason in zip(fits, reasons, strict=True) if not reason]
    rejected = [(fit, reason) for fit, reason in zip(fits, reasons, strict=True) if reason]
    report = [f"{fit.name}_{fit.person}: {reason}" for fit, reason in rejected]
    if not kept:
        remedy = "" if set(reasons) == {UNDISTORTED} else "; another rejection may suit, e.g. none"
        raise ValueError(
            f"export: expected people that pass rejection {rejection!r}, all {len(fits)} were rejected "
            f"({report[0]}){remedy}"
        )
    sideways = check_photos(kept, images)
    fitted_body = load_body_of(kept, body)
    check_betas(fitted_body, betas_as)
    people = gather(kept, fitted_body, annotation_ids(fits), images)
    people = replace(people, labelname=label_names(kept, fits_dir))
    out.parent.mkdir(parents=True, exist_ok=True)
    files = write(people, out)
    where = f"{len(files)} files {files[0]} ..." if files else out
    print(f"exported {len(kept)} of {len(fits)} people to {where}; {len(rejected)} left out")
    labelled = int((people.labelname != "").sum())
    if labelled and fmt in LABELLED:
        print(f"label maps of {labelled} of them: {fits_dir / LABEL_MAPS}, named in the file as `labelname`")
    missing = int(sum(not fit.label_source.startswith("none") for fit in kept)) - labelled
    if missing and fmt in LABELLED:
        print(
            f"no label maps of {missing} of them, fitted by a run without --export: --overwrite true makes them"
        )
    more = [f"and {len(report) - REPORTED} more"] if len(report) > REPORTED else []
    stale = [f"{len(others)} of {len(decided)} decisions are about other fits than these"] if others else []
    notes = more + stale + warnings(people, sideways) + left_over(out, files or [out])
    for line in report[:REPORTED] + notes:
        print(f"  {line}")
    return out


def label_names(fits: list[Fit], fits_dir: Path) -> np.ndarray:
    """[N] names of the people's own label maps below LABEL_MAPS, "" of those without: fitted without labels, or by a
    run that did not export."""
    names = [f"{fit.name}_{fit.person}.png" for fit in fits]
    worn = [not fit.label_source.startswith("none") for fit in fits]
    there = [(fits_dir / LABEL_MAPS / name).is_file() for name in names]
    return np.array(
        [name if own and file else "" for name, own, file in zip(names, worn, there, strict=True)]
    )


def left_over(out: Path, files: list[Path]) -> list[str]:
    """Says which files of an earlier export lie among those of this one, where it has several."""
    there = out.rglob("*.npz") if out.is_dir() else out.parent.glob(f"{out.stem}-[0-9]*.tar")
    older = sorted(set(there) - set(files))
    return [f"{len(older)} files there are not of this export: {older[0]} ..."] if older else []


def fits_in(fits_dir: Path) -> list[Fit]:
    """All fits of a folder, as its index lists them; without one by file name, of the people in its summary.jsonl
    alone, if it has that."""
    fits = [load_fit(path) for path in results(fits_dir)]
    summary = fits_dir / "summary.jsonl"
    if summary.is_file() and not has_index(fits_dir):
        rows = [json.loads(line) for line in summary.read_text().splitlines()]
        of_run = {(row["image"], row["person"]) for row in rows}
        fits = [fit for fit in fits if (fit.image, str(fit.person)) in of_run]
    if not fits:
        raise FileNotFoundError(f"fits {fits_dir}: expected results of fit.py (*.npz), found none")
    return fits


def check_photos(fits: list[Fit], images: Path) -> int:
    """Whether the photos are there and as large as when fitted; returns how many are stored turned (EXIF)."""
    from fitter.see.picture import upright_size

    sizes = {fit.image: tuple(int(side) for side in fit.image_size_px) for fit in fits}
    missing = [name for name in sizes if not (images / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"images {images}: expected the {len(sizes)} fitted photos, {len(missing)} are missing, first {missing[0]}"
        )
    sideways = 0
    for name, expected in sizes.items():
        size, orientation = upright_size(images / name)
        if size != expected:
            raise ValueError(
                f"images {images / name}: expected the fitted photo of {expected[0]} x {expected[1]} px, got "
                f"{size[0]} x {size[1]}; give the folder that was fitted"
            )
        sideways += orientation != 1
    return sideways


def load_body_of(fits: list[Fit], path: str | Path | None):
    """The body that the fits are of, from `path` or where fit.py found it; ValueError if it is another."""
    from fitter.body.model import load_body

    names = {fit.body_model for fit in fits}
    if len(names) > 1:
        raise ValueError(f"export: expected fits of one body model, got {', '.join(sorted(names))}")
    body = load_body(path or fits[0].configuration.get("body"))
    if body.name not in names:
        raise ValueError(
            f"export: expected the fits' body {names.pop()!r}, got {body.name!r}; give it with --body"
        )
    return body


def is_smpl(body) -> bool:
    """Whether a body is SMPL, by its mesh and name: then its betas mean what other tools take them for."""
    from fitter.body.spin_joints import open_body_name

    return body.vertex_count == SMPL_VERTICES and body.name != open_body_name()


def check_betas(body, betas_as: str | None) -> None:
    """ValueError: SMPL's betas are asked for, and the body is another one."""
    if betas_as not in (None, "smpl"):
        raise ValueError(f"export as: expected smpl, got {betas_as!r}")
    if betas_as and not is_smpl(body):
        raise ValueError(
            f"export as smpl: expected fits of SMPL, got the body {body.name!r} of {body.vertex_count} vertices, whose "
            f"betas are other shapes in SMPL; fit with --body SMPL_NEUTRAL.pkl, or leave --as away: the file then says "
            f"has_smpl = 0"
        )


def annotation_ids(fits: list[Fit]) -> dict[tuple[str, str], int] | None:
    """(name, person) -> COCO's annotation id, None unless all people came from COCO annotations, whose ids alone are
    unique over all photos."""
    people = [str(fit.person) for fit in fits]
    from_coco = all(fit.keypoint_source == "coco" for fit in fits) and all(id.isdecimal() for id in people)
    if not from_coco or len(set(people)) < len(people):
        return None
    return {(fit.name, person): int(person) for fit, person in zip(fits, people, strict=True)}


def gather(fits: list[Fit], body, ids: dict[tuple[str, str], int] | None, images: Path) -> People:
    """The fits as arrays, their bodies posed again for what a fit does not keep."""
    stacked = {
        name: np.stack([getattr(fit, name) for fit in fits]).astype(np.float64)
        for name in (
            "pose", "betas", "transl_cam", "joints_cam", "focal_px", "center_px", "image_size_px", "box_px",
            "observed_px", "joint_states",
        )
    }  # fmt: skip
    landmarks, spin, joints = pose_again(stacked["betas"], stacked["pose"], body)
    transl = stacked["transl_cam"][:, None]
    change = np.abs(joints + transl - stacked["joints_cam"]).max()
    if change > MAX_BODY_CHANGE_M:
        raise ValueError(
            f"export: expected the body that the fits are of, got one whose joints lie up to {1000 * change:.0f} mm "
            f"elsewhere; give the right file with --body"
        )
    spin[..., :3] += transl
    names = [(fit.name, str(fit.person)) for fit in fits]
    return People(
        **stacked,
        images=images,
        imgname=np.array([fit.image for fit in fits]),
        photo=np.array([fit.name for fit in fits]),
        name=np.array(["_".join(name) for name in names]),
        annot_id=None if ids is None else np.array([ids[name] for name in names]),
        landmarks_cam=landmarks + transl,
        spin_cam=spin,
        body_model=fits[0].body_model,
        is_smpl=is_smpl(body),
        gender=gender_of(fits[0].body_model),
    )


def pose_again(betas: np.ndarray, pose: np.ndarray, body) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """betas [N, 10], pose [N, 72] -> landmarks [N, 11, 3], SPIN's joints [N, 24, 4], joints [N, 24, 3]."""
    import torch

    from fitter.body.spin_joints import spin_joints_of

    batches = []
    for start in range(0, len(pose), BATCH):
        rows = slice(start, start + BATCH)
        given = (torch.tensor(array[rows]).to(body.template) for array in (betas, pose))
        with torch.no_grad():
            posed = body(*given)
        batches.append((posed.landmarks.numpy(), spin_joints_of(posed, body), posed.joints.numpy()))
    landmarks, spin, joints = (
        np.concatenate(parts).astype(np.float64) for parts in zip(*batches, strict=True)
    )
    return landmarks, spin, joints


def gender_of(body_model: str) -> str | None:
    """'m' or 'f' by the name of SMPL's official files (SMPL_MALE, basicModel_f_lbs_...), None if neutral."""
    found = re.search(r"(?:^|_)(male|female|m|f)(?:_|$)", body_model.lower())
    return found[1][0] if found else None


def warnings(people: People, sideways: int) -> list[str]:
    """What the people's future readers would get wrong."""
    lines = []
    if not people.is_smpl:
        lines.append(
            f"NOT SMPL: betas are of the body {people.body_model!r}, has_smpl and has_betas are 0; readers that pass "
            f"over that (EFT, BEDLAM, CameraHMR, NeuralAnnot, AMASS) get poses alike, other shapes"
        )
    if not people.spin_cam[..., 3].all():
        lines.append(
            "hips, neck, head top, pelvis, thorax, spine, jaw and head among SPIN's 24 joints have confidence 0: this "
            "body has no regressor for them"
        )
    off = np.abs(people.center_px - people.image_size_px / 2).max(1) > 1
    if off.any():
        lines.append(
            f"{off.sum()} people's camera is not centred: readers without a principal point assume it is"
        )
    if sideways:
        lines.append(
            f"{sideways} photos are stored turned (EXIF): fits are of the upright picture, and readers that pass over "
            f"EXIF (CameraHMR) need upright copies"
        )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code, 2 for wrong usage."""
    from fitter.help import command_line

    parser = command_line("dsr-export", __doc__)
    parser.add_argument("--fits", required=True, help="folder of fits: fit.py's --out")
    parser.add_argument("--images", required=True, help="the photos that were fitted")
    parser.add_argument("--format", choices=list(FORMATS), required=True)
    parser.add_argument("--out", help="file; <fits>/export/<format> if not given")
    parser.add_argument("--rejection", choices=list(REJECTIONS), default="valid", help="who is left out")
    parser.add_argument("--body", help="SMPL file, if it has moved since the fit")
    parser.add_argument("--as", dest="betas_as", choices=["smpl"], help="refuse betas that are not SMPL's")
    parser.add_argument("--decisions", help="the report's decisions.json: goes before --rejection")
    given = parser.parse_args(arguments)
    try:
        export_fits(
            given.fits, given.images, given.format, given.rejection, given.out, given.body, given.betas_as,
            given.decisions,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        print(f"dsr-export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
