"""How far a fit may be believed: the probability that its joints are right, by what the fit says about itself.

A logistic regression on its residuals, how rare its pose and shape are, how much of the person was seen, how far the
lifter leaves depth open and how far the fit is from its answer. Learned, and judged on other motions, by
`python -m benchmarks.trust`: right means PA-MPJPE, joints aligned as well as they can be, below RIGHT_MM.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor

from fitter.config import Limits
from fitter.energy.starts import limb_joints
from fitter.see.visibility import SEEN
from fitter.write.result import Fit
from priors.lifter import PAIRS, Lifted, depth_energy, depth_spread
from priors.rotation import rotation_from_axis_angle

SHIPPED = Path(__file__).parent / "data" / "trust.npz"
RIGHT_MM = 60.0
LEARNED_WITH = "gmm"  # pose prior
OPTIMISED = {"keypoints", "shape"}  # terms that an optimiser's fit has
NAMED = 3  # of what speaks against a fit, so many are said


@dataclass(frozen=True)
class Feature:
    """One thing that a fit says about itself: a number of it, and what is said where it is what speaks against it."""

    number: Callable[[Fit], float]
    words: str


def _log(value: float) -> float:
    return float(np.log1p(max(value, 0.0)))


FEATURES = {
    "depth_spread": Feature(lambda f: np.log(f.quality["depth_spread_mm"]), "the keypoints leave depth open"),
    "surprise": Feature(lambda f: _log(f.quality["depth_surprise"]), "depth is not what the lifter expects"),
    "apart": Feature(lambda f: f.quality["lifter_apart_deg"], "limbs are not where the lifter has them"),
    "open": Feature(lambda f: float(len(f.open_limbs)), "limbs may point the other way in depth"),
    "seen": Feature(lambda f: (f.joint_states == SEEN).mean(), "little of the person is seen"),
    "size": Feature(lambda f: np.log(f.quality["size_px"]), "the person is small in the photo"),
    "keypoints": Feature(
        lambda f: _log(f.energies["keypoints"] / max(f.quality["keypoints_confident"], 1)),
        "the keypoints do not make a body",
    ),
    "rare": Feature(lambda f: f.quality["pose_percentile"] / 100, "the pose is rare"),
    "shape": Feature(lambda f: _log(f.energies["shape"]), "the shape is rare"),
}


@dataclass(frozen=True)
class Trust:
    """middle, scale, weight [F] of FEATURES, in their order, and bias: log odds of being right."""

    middle: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: float

    def parts(self, numbers: np.ndarray) -> np.ndarray:
        """What each of FEATURES [..., F] adds to the log odds, [..., F]."""
        return self.weight * (numbers - self.middle) / self.scale

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Probability of being right, [...], of FEATURES [..., F]."""
        return 1 / (1 + np.exp(-(self.parts(numbers).sum(-1) + self.bias)))


def beside_lifter(lifted: Lifted, pose: Tensor, keypoints_m: Tensor) -> dict[str, Tensor]:
    """What the lifter thinks of fits, [N] each: how far it leaves depths open, how unlikely it finds theirs, and by how
    much limbs are turned otherwise. pose [N, 72] rad; keypoints_m [N, 25, 3] m, camera axes."""
    first, second = (list(column) for column in zip(*PAIRS, strict=True))
    apart_m = ((keypoints_m[:, second] - keypoints_m[:, first]) * lifted.axis[:, None]).sum(-1)
    limbs = [start - 1 for start, _ in limb_joints().values()]
    turned = rotation_from_axis_angle(pose[:, 3:].unflatten(1, (23, 3))[:, limbs])
    cosine = ((lifted.rotations[:, limbs] * turned).sum((2, 3)) - 1) / 2
    return {
        "depth_spread_mm": 1000 * depth_spread(lifted).mean(1),
        "depth_surprise": depth_energy(lifted, apart_m)[0].sum(1),
        "lifter_apart_deg": cosine.clamp(-1, 1).acos().rad2deg().mean(1),
    }


def numbers_of(fit: Fit) -> np.ndarray | None:
    """FEATURES of a fit, [F]; None: it was made without the lifter or by no optimiser, or is not finite."""
    if "depth_spread_mm" not in fit.quality or not OPTIMISED <= fit.energies.keys():
        return None
    numbers = np.array([one.number(fit) for one in FEATURES.values()], np.float64)
    return numbers if np.isfinite(numbers).all() else None


def trust_in(fit: Fit, trust: Trust | None = None) -> tuple[float | None, str]:
    """How likely a fit is right, 0..1, and in words what speaks most against it; None, "": nothing is known.

    trust: the shipped one if not given.
    """
    numbers = numbers_of(fit)
    if numbers is None:
        return None, ""
    trust = trust or load_trust()
    parts = trust.parts(numbers)
    against = [row for row in np.argsort(parts)[:NAMED] if parts[row] < 0]
    words = [list(FEATURES.values())[row].words for row in against]
    return float(trust(numbers)), ", ".join(words)


@lru_cache(maxsize=1)
def load_trust(path: str | Path = SHIPPED) -> Trust:
    """ValueError: a file of other features."""
    with np.load(path, allow_pickle=False) as file:
        if tuple(file["names"]) != tuple(FEATURES):
            got = ", ".join(file["names"])
            raise ValueError(
                f"{path}: expected {', '.join(FEATURES)}, got {got}; learn it anew: benchmarks.trust"
            )
        return Trust(file["middle"], file["scale"], file["weight"], float(file["bias"]))


def judged(fit: Fit, failure: str, limits: Limits, usual: bool) -> Fit:
    """A fit with `quality["trust"]`, whether it is valid, and the reasons against it; failure: why the solver stopped,
    "" if it did not; usual: it was made with the weights and the prior that trust was learned with."""
    reasons, quality = reasons_against(fit.quality, failure, limits), fit.quality
    trust, words = trust_in(fit) if usual else (None, "")
    if trust is not None:
        quality = {**quality, "trust": trust}
        if trust < limits.min_trust:
            reasons.append(f"right with a probability of {trust:.2f} < {limits.min_trust:g}: {words}")
    return replace(fit, quality=quality, reasons=tuple(reasons), valid=not reasons)


def reasons_against(quality: dict[str, float], failure: str, limits: Limits) -> list[str]:
    """Why a fit should not be trusted; empty = valid."""
    reasons = [failure] if failure else []
    if quality["keypoints_confident"] < limits.min_keypoints:
        reasons.append(f"{quality['keypoints_confident']:.0f} confident keypoints < {limits.min_keypoints}")
    if not quality["reprojection_pct"] <= limits.max_reprojection_pct:
        reasons.append(f"reprojection {quality['reprojection_pct']:.1f} % > {limits.max_reprojection_pct} %")
    if not quality["max_abs_beta"] <= limits.max_abs_beta:
        reasons.append(f"|beta| {quality['max_abs_beta']:.2f} > {limits.max_abs_beta}")
    if not quality["pose_percentile"] <= limits.max_pose_percentile:
        reasons.append(f"pose rarer than {limits.max_pose_percentile} % of motion capture")
    if not quality["size_px"] >= limits.min_size_px:
        reasons.append(f"{quality['size_px']:.1f} px large < {limits.min_size_px:g}")
    if not 0 < quality["distance_m"] <= limits.max_distance_m:
        where = f"{quality['distance_m']:.0f} m away > {limits.max_distance_m:g}"
        reasons.append(where if quality["distance_m"] > 0 else "behind the camera")
    return reasons
