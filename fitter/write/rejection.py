"""Which fits are left out of a dataset, by the rules of the tools that made such datasets (METHOD.md section 8).

Computed from what a fit saved:

| name       | a person is left out if                                          |
| ---------- | ---------------------------------------------------------------- |
| none       | its numbers are not finite; that holds for all the others too    |
| valid      | the fit's own `valid` is false: the limits that fit.py ran with  |
| spin       | `spin_loss` is not below 100, or a |beta| > 3                    |
| eft        | `eft_loss` is not below 5e-4, or a |beta| > 3                    |
| eft-strict | `eft_loss` is not below 3e-4, or a |beta| > 1                    |
| 4dhumans   | fewer than 4 observed keypoints have confidence > 0.3            |
| camsmplify | fewer than 8 observed keypoints have confidence > 0.3            |
"""

import json
from pathlib import Path

import numpy as np

from fitter.see.keypoints import BODY_25, confident
from fitter.see.person_box import spin_side
from fitter.write.result import Fit, fit_id

REJECTIONS = ("none", "valid", "spin", "eft", "eft-strict", "4dhumans", "camsmplify")
MIN_KEYPOINTS = {"4dhumans": 4, "camsmplify": 8}
MAX_LOSS_AND_BETA = {"spin": (100.0, 3.0), "eft": (5e-4, 3.0), "eft-strict": (3e-4, 1.0)}
SPIN_CROP_PX, SPIN_SIGMA_PX = 224, 100
SPIN_IGNORED = ("Neck", "RHip", "LHip")
EFT_TERMS = 49 * 2  # EFT averages over all 49 joints' x and y, seen or not
EFT_JOINTS = (
    "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist",
    "LKnee", "RKnee",
)  # fmt: skip


def rejection_reason(fit: dict, rejection: str) -> str:
    """Why a fit (as load_fit returns it) is left out, "" if it is not; the table is this module's docstring."""
    numbers = (getattr(fit, name) for name in ("pose", "betas", "transl_cam", "joints_cam", "keypoints_px"))
    if not all(np.isfinite(array).all() for array in numbers):
        return "numbers that are not finite"
    if rejection == "none":
        return ""
    if rejection == "valid":
        return "" if fit.valid else "; ".join(fit.reasons) or "not valid"
    if rejection in MIN_KEYPOINTS:
        seen, least = int(confident(fit.observed_px, fit.derived).sum()), MIN_KEYPOINTS[rejection]
        return "" if seen >= least else f"{seen} confident keypoints < {least}"
    loss = spin_loss(fit) if rejection == "spin" else eft_loss(fit)
    beta = float(np.abs(fit.betas).max())
    max_loss, max_beta = MAX_LOSS_AND_BETA[rejection]
    reasons = [] if loss < max_loss else [f"keypoint loss {loss:.3g} not below {max_loss:g}"]
    reasons += [f"|beta| {beta:.1f} > {max_beta:g}"] if beta > max_beta else []
    return "; ".join(reasons)


def read_decisions(path: str | Path) -> dict[str, str]:
    """The report's decisions.json: who was looked at, by `result.fit_id` -> "accept" or "reject".

    FileNotFoundError: no such file. ValueError: another file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"decisions {path}: expected the report's decisions.json, found no file")
    try:
        rows = json.loads(Path(path).read_text())["decisions"]
        decisions = {row["fit"]: row["decision"] for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        wrong = f"no {error}" if isinstance(error, KeyError) else f"something else ({error})"
        raise ValueError(
            f"decisions {path}: expected {{decisions: [{{name, fit, decision}}, ...]}} as report.html downloads it, "
            f"got {wrong}; `fit` is `fitter.write.result.fit_id` of a result"
        ) from error
    wrong = [decision for decision in decisions.values() if decision not in ("accept", "reject")]
    if wrong:
        raise ValueError(f"decisions {path}: expected accept or reject, got {wrong[0]!r}")
    return decisions


def reason_or_decision(fit: Fit, rejection: str, decisions: dict[str, str]) -> str:
    """`rejection_reason`, where nobody decided about this very fit; numbers that are not finite stay out."""
    decision = decisions.get(fit_id(fit))
    if decision == "reject":
        return "rejected in the report"
    return rejection_reason(fit, "none" if decision == "accept" else rejection)


def spin_loss(fit: dict) -> float:
    """SPIN's reprojection loss of a fit: the mean over BODY_25 of confidence^2 times the Geman-McClure error
    (sigma 100, x and y added) in px of the 224 px crop; hips and Neck count 0, as in SPIN, and so
    do means of other keypoints.

    SPIN averages over 49 joints, 25 OpenPose's and up to 24 annotated ones that show the same; here are the 25 alone.
    """
    squared = _crop_error(fit) ** 2 * (SPIN_CROP_PX / 2) ** 2
    robust = (SPIN_SIGMA_PX**2 * squared / (SPIN_SIGMA_PX**2 + squared)).sum(1)
    confidence = np.array(fit.observed_px[:, 2], np.float64)
    confidence[[BODY_25.index(name) for name in (*SPIN_IGNORED, *fit.derived)]] = 0
    return float((confidence**2 * robust).mean())


def eft_loss(fit: dict) -> float:
    """EFT's keypoint loss of a fit: confidence times squared distance in crop units (-1..1), summed over the 13 of
    COCO's keypoints that EFT fits (hips and ankles are left out there), over 49 x 2 terms.

    EFT's keypoints are annotated (confidence 0 or 1) and its projection weak-perspective; here they are those of the
    fit: as observed, and in its camera.
    """
    rows = [BODY_25.index(name) for name in EFT_JOINTS]
    squared = (_crop_error(fit)[rows] ** 2).sum(1)
    return float((fit.observed_px[rows, 2] * squared).sum() / EFT_TERMS)


def _crop_error(fit: dict) -> np.ndarray:
    """[25, 2] model's keypoints less the observed, in units of half the crop."""
    size = spin_side(np.asarray(fit.box_px, np.float64))
    return 2 * (np.asarray(fit.keypoints_px, np.float64) - fit.observed_px[:, :2]) / size
