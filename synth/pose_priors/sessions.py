"""Legs that a capture session took too long: how far knees are bent when people merely stand, and mending it.

A leg model whose bones are too long for the performer bends its knees to reach the ground: at full stretch by
`excess`, hardly at all in a deep bend, since the reach is what was measured. With bones of like length,
reach = 2 L cos(bend / 2), and bones long by a factor make bend^2 = true^2 + excess^2 nearly. It shows in the data:
sessions that stand at 25-30 degrees reach 60-75 in the swing of walking, where people reach 60 and stand at 0-8; taking
a constant off would leave 40.
"""

from __future__ import annotations

from fnmatch import fnmatch

import numpy as np

from synth.pose_priors.knees import bend_knees, knee_flexion
from synth.pose_priors.postures import is_upright, stands_quietly

WALKING_CLIPS = ("05_01", "06_01", "07_*", "08_*", "10_04")
BENT_ON_PURPOSE = ("acrnn_indian_*", "acrnn_martial_*")
"""Dances and fights in bent stances: how they stand says nothing about their legs."""

STANDING = np.radians(4.0)
"""Bend of the straighter knee of who stands at ease; people have 0-8 degrees."""
WALKING = np.radians(8.0)
"""Bend of the straighter knee at the median of level walking (stance bends to 15-20 degrees and back to 3-8)."""
LARGEST_ROUNDING = np.radians(5.0)
"""Bend left where the shortened leg just reaches: a quarter of the excess, at most this."""
FEWEST_FRAMES = 5
LARGEST_STANDING = np.radians(42.0)
LARGEST_DIFFERENCE = np.radians(15.0)  # between the knees; more is a pose


def _excess(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(found**2 - expected**2, 0.0))


def clip_excess(name: str, pose: np.ndarray) -> np.ndarray | None:
    """Excess bend [2] rad (left, right) that a clip [T, 72] itself gives evidence of, or None.

    From standing quietly: the straighter knee should be at STANDING, the other one's lead is believed by half. From
    level walking: the straighter knee's median should be at WALKING.
    """
    if any(fnmatch(name, pattern) for pattern in BENT_ON_PURPOSE):
        return None
    bends = knee_flexion(pose)
    if any(fnmatch(name, pattern) for pattern in WALKING_CLIPS):
        frames = is_upright(pose)
        if frames.sum() < FEWEST_FRAMES:
            return None
        return np.repeat(_excess(np.median(bends[frames].min(1)), WALKING), 2)
    frames = stands_quietly(pose)
    frames &= np.ptp(bends, axis=1) < LARGEST_DIFFERENCE
    if frames.sum() < FEWEST_FRAMES:
        return None
    found = np.median(bends[frames], axis=0)
    if found.max() > LARGEST_STANDING:
        return None
    return _excess(found, STANDING + (found - found.min()) / 2)


def subject_of(name: str) -> str:
    """CMU's subject, or the source of other clips: `07_03` -> `07`, `acrnn_salsa_05` -> `acrnn_salsa`."""
    return name.rpartition("_")[0]


def knee_excess(clips: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Excess bend [2] rad of every clip: by its own evidence, else its subject's median, else the median subject's."""
    own = {name: clip_excess(name, pose) for name, pose in clips.items()}
    subjects: dict[str, list[np.ndarray]] = {}
    for name, found in own.items():
        if found is not None:
            subjects.setdefault(subject_of(name), []).append(found)
    medians = {subject: np.median(found, axis=0) for subject, found in subjects.items()}
    pooled = np.median(list(medians.values()), axis=0).mean().repeat(2) if medians else np.zeros(2)
    return {
        name: medians.get(subject_of(name), pooled) if found is None else found for name, found in own.items()
    }


def shorten_legs(pose: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Poses [T, 72] as if the leg's bones had the right length: `excess` [2] rad taken off, in quadrature.

    Hip, ankle and foot stay (`knees.bend_knees`). No excess changes nothing.
    """
    bends = knee_flexion(pose)
    squared, rounding = bends**2 - excess**2, np.minimum(excess / 4, LARGEST_ROUNDING)
    true = np.sqrt((squared + np.sqrt(squared**2 + 4 * rounding**4)) / 2)
    return bend_knees(pose, np.where(excess > 0, true - bends, 0.0))
