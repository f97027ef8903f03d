"""Pieces of clothing and where they are cut off; the labels that they and bare skin take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from priors.clothing import LABELS

SIDED = {
    "arm": ("left-arm", "right-arm"),
    "leg": ("left-leg", "right-leg"),
    "shoe": ("left-shoe", "right-shoe"),
}
# body part (SMPL joint without its side) -> what its bare skin is called; LIP has no label for a bare trunk
SKIN_OF_PART = {
    **dict.fromkeys(("neck", "head"), "face"),
    **dict.fromkeys(("shoulder", "elbow", "wrist", "hand"), "arm"),
    **dict.fromkeys(("hip", "knee", "ankle", "foot"), "leg"),
    **dict.fromkeys(("pelvis", "spine1", "spine2", "spine3", "collar"), "background"),
}
ARMS = ("shoulder", "elbow", "wrist", "hand")
TRUNK = ("pelvis", "spine1", "spine2", "spine3", "collar")
LEGS = ("hip", "knee", "ankle", "foot")
NO = ""  # a piece of a mesh that is not worn


@dataclass(frozen=True)
class Region:
    """Points of the T-posed open body, metres.

    Heights low..high, arms only up to |x| = reach, of the named parts (all if empty), further than `neckline`
    from the neck pit, and, if an anchor is named by `near`, within `radius` of it or of its mirror image.
    opening: half the width of a gap down the front, before the neck's middle.
    """

    low: float = -9.0
    high: float = 9.0
    reach: float = 9.0
    parts: tuple[str, ...] = ()
    neckline: float = 0.0
    near: str = ""
    radius: float = 0.0
    opening: float = 0.0

    def holds(self, points: np.ndarray, parts: np.ndarray, anchors: Mapping[str, np.ndarray]) -> np.ndarray:
        """points: [N, 3], parts: [N] part names without side, anchors: name -> [3] -> [N] bool."""
        inside = (points[:, 1] >= self.low) & (points[:, 1] <= self.high)
        inside &= ~(np.isin(parts, ARMS) & (np.abs(points[:, 0]) > self.reach))
        if self.parts:
            inside &= np.isin(parts, self.parts)
        if self.neckline:
            inside &= np.linalg.norm(points - anchors["neck_pit"], axis=1) > self.neckline
        if self.opening:
            inside &= (np.abs(points[:, 0]) > self.opening) | (points[:, 2] < anchors["neck"][2])
        if self.near:
            folded = np.stack([np.abs(points[:, 0]), points[:, 1], points[:, 2]], 1)
            inside &= np.linalg.norm(folded - anchors[self.near], axis=1) < self.radius
        return inside


@dataclass(frozen=True)
class Cloth:
    """A garment mesh: labels by connected piece, most vertices first, the last for all that follow.

    outset_m: how much further out than its file says; covers_skin: False for what hangs free: hair, skirts.
    """

    file: str
    labels: tuple[str, ...]
    region: Region = field(default_factory=Region)
    outset_m: float = 0.0
    covers_skin: bool = True


@dataclass(frozen=True)
class Paint:
    """Skin that is labelled as a tight garment."""

    label: str
    region: Region


@dataclass(frozen=True)
class Choice:
    """One of several things to wear; weights of a table need not sum to 1.

    kind: what the counts of real photos call it.
    """

    weight: float
    name: str
    layers: tuple[Cloth | Paint, ...] = ()
    kind: str = ""


def label_ids(name: str, on_left: np.ndarray) -> np.ndarray:
    """Ids of a label name at points; on_left: [N] bool, whether on the person's left. -> [N]."""
    left, right = SIDED.get(name, (name, name))
    return np.where(on_left, LABELS.index(left), LABELS.index(right))


def part_names(part_ids: np.ndarray, joint_names: Sequence[str]) -> np.ndarray:
    """Names of the parts without left_ and right_. [V] -> [V] str."""
    bare = np.array([name.removeprefix("left_").removeprefix("right_") for name in joint_names])
    return bare[part_ids]
