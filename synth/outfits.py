"""What people wear, for the clothing prior: tables of garments with weights, and draws from them.

A garment is a CC0 MakeHuman mesh with labels for its connected pieces, or paint on the skin for what fits
tightly (a vest, leggings, gloves). Where it is cut off (sleeves, hems) is said by a Region of the open body's
T-pose, in metres, so that one length serves every shape. The weights are guesses of what is seen in street
photos: upper arms bare in about 35 %, forearms 50 %; trousers 60 %, skirts and dresses 25 %, shorts 15 %;
shoes 95 %.
"""

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
SKIRT, LONG_HAIR = "helper-skirt", "helper-hair"  # pieces of the base mesh itself


@dataclass(frozen=True)
class Region:
    """Points of the T-posed open body, metres.

    Heights low..high, arms only up to |x| = reach, of the named parts (all if empty), further than `neckline`
    from the neck pit, and, if an anchor is named by `near`, within `radius` of it or of its mirror image.
    """

    low: float = -9.0
    high: float = 9.0
    reach: float = 9.0
    parts: tuple[str, ...] = ()
    neckline: float = 0.0
    near: str = ""
    radius: float = 0.0

    def holds(self, points: np.ndarray, parts: np.ndarray, anchors: Mapping[str, np.ndarray]) -> np.ndarray:
        """points: [N, 3], parts: [N] part names without side, anchors: name -> [3] -> [N] bool."""
        inside = (points[:, 1] >= self.low) & (points[:, 1] <= self.high)
        inside &= ~(np.isin(parts, ARMS) & (np.abs(points[:, 0]) > self.reach))
        if self.parts:
            inside &= np.isin(parts, self.parts)
        if self.neckline:
            inside &= np.linalg.norm(points - anchors["neck_pit"], axis=1) > self.neckline
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
    """One of several things to wear; weights of a table need not sum to 1."""

    weight: float
    name: str
    layers: tuple[Cloth | Paint, ...] = ()


def _tops(low: float, reach: float, neckline: float = 0.06, label: str = "upper-clothes") -> Paint:
    return Paint(label, Region(low=low, reach=reach, parts=TRUNK + ARMS, neckline=neckline))


def _bottoms(low: float, high: float, label: str = "pants") -> Paint:
    return Paint(label, Region(low=low, high=high, parts=("pelvis", "spine1", "spine2") + LEGS))


def _dress(hem: float, reach: float, neckline: float) -> tuple[Cloth | Paint, ...]:
    return _tops(-0.42, reach, neckline, "dress"), Cloth(
        SKIRT, ("dress",), Region(low=hem), covers_skin=False
    )


def _skirt(hem: float) -> tuple[Cloth | Paint, ...]:
    return _bottoms(-0.40, -0.03, "skirt"), Cloth(SKIRT, ("skirt",), Region(low=hem), covers_skin=False)


SLEEVELESS, SHORT, ELBOW, THREE_QUARTER, LONG = 0.17, 0.31, 0.43, 0.56, 0.70
ABOVE_KNEE, KNEE, CALF, ANKLE_HEIGHT = -0.55, -0.68, -0.88, -1.06
_F1, _F2, _F3 = "female_casualsuit01", "female_casualsuit02", "female_sportsuit01"
_M1, _M2, _M3, _M4, _M5 = (f"male_casualsuit0{i}" for i in range(1, 6))
_SUIT, _WORK = "male_elegantsuit01", "male_worksuit01"
BELT = -0.165  # where male_casualsuit01, shirt and jeans in one piece, is divided
NO = ""  # a piece of the mesh that is not worn

_LONG_COAT = (
    Paint("coat", Region(low=-0.5, reach=LONG, parts=TRUNK + ARMS + ("hip",), neckline=0.08)),
    Cloth(SKIRT, ("coat",), Region(low=-0.62), outset_m=0.015, covers_skin=False),
)
_JACKET = (Cloth(_M5, ("coat", NO, "upper-clothes", "coat")), _tops(-0.15, LONG))
_TOPS = {
    "female": (
        Choice(13, "vest", (_tops(-0.20, SLEEVELESS, 0.09),)),
        Choice(5, "strap top", (_tops(-0.12, 0.13, 0.13),)),
        Choice(14, "t-shirt", (Cloth(_F1, ("upper-clothes", NO)),)),
        Choice(10, "t-shirt tucked in", (_tops(-0.19, SHORT, 0.09),)),
        Choice(5, "crop top", (Cloth(_F3, ("upper-clothes", NO)),)),
        Choice(11, "elbow sleeves", (_tops(-0.16, THREE_QUARTER, 0.10),)),
        Choice(14, "long sleeves", (_tops(-0.20, LONG, 0.07),)),
        Choice(8, "blouse", (Cloth(_M3, ("upper-clothes", NO)),)),
        Choice(12, "jacket", _JACKET),
        Choice(8, "long coat", _LONG_COAT),
    ),
    "male": (
        Choice(5, "vest", (_tops(-0.22, SLEEVELESS, 0.09),)),
        Choice(30, "t-shirt", (Cloth(_M4, (NO, "upper-clothes")),)),
        Choice(6, "shirt, sleeves rolled up", (Cloth(_M3, ("upper-clothes", NO), Region(reach=ELBOW)),)),
        Choice(15, "long-sleeved shirt", (Cloth(_M2, ("upper-clothes", NO)),)),
        Choice(14, "striped shirt", (Cloth(_M3, ("upper-clothes", NO)),)),
        Choice(8, "shirt in the belt", (Cloth(_M1, ("upper-clothes",), Region(low=BELT)),)),
        Choice(9, "jacket", _JACKET),
        Choice(9, "suit", (Cloth(_SUIT, ("coat", NO)), _tops(-0.15, LONG, 0.05))),
        Choice(4, "long coat", _LONG_COAT),
    ),
}
_BOTTOMS = {
    "female": (
        Choice(20, "trousers", (Cloth(_F1, (NO, "pants")),)),
        Choice(14, "leggings", (_bottoms(ANKLE_HEIGHT, -0.08),)),
        Choice(9, "wide trousers", (Cloth(_M2, (NO, "pants")),)),
        Choice(5, "cropped trousers", (_bottoms(CALF, -0.10),)),
        Choice(9, "short shorts", (Cloth(_F2, ("pants", NO, "pants")),)),
        Choice(9, "high shorts", (_bottoms(-0.42, -0.05),)),
        Choice(12, "short skirt", _skirt(ABOVE_KNEE + 0.06)),
        Choice(9, "knee skirt", _skirt(KNEE)),
        Choice(4, "long skirt", _skirt(-1.0)),
    ),
    "male": (
        Choice(20, "trousers", (Cloth(_M2, (NO, "pants")),)),
        Choice(20, "trousers", (Cloth(_M4, ("pants", NO)),)),
        Choice(16, "suit trousers", (Cloth(_SUIT, (NO, "pants"), Region(high=-0.19)),)),
        Choice(20, "jeans", (Cloth(_M1, ("pants",), Region(high=BELT)), _bottoms(-0.3, BELT))),
        Choice(8, "tight trousers", (_bottoms(ANKLE_HEIGHT, -0.12),)),
        Choice(14, "shorts to the knee", (Cloth(_M4, ("pants", NO), Region(low=KNEE + 0.03)),)),
        Choice(4, "short shorts", (Cloth(_M3, (NO, "pants"), Region(low=-0.48)),)),
    ),
}
_DUNGAREES = (Cloth(_WORK, ("jumpsuits", "upper-clothes", "jumpsuits")), _tops(-0.1, SLEEVELESS, 0.08))
_OUTFITS = {  # whole outfits; "separates" takes a top and a bottom
    "female": (
        Choice(72, "separates"),
        Choice(6, "dress, sleeveless, short", _dress(ABOVE_KNEE, SLEEVELESS, 0.10)),
        Choice(5, "dress, straps, knee", _dress(KNEE, 0.13, 0.13)),
        Choice(7, "dress, short sleeves, knee", _dress(KNEE + 0.05, SHORT, 0.09)),
        Choice(5, "dress, long sleeves, short", _dress(ABOVE_KNEE, LONG, 0.07)),
        Choice(2, "dress, sleeveless, long", _dress(-1.02, SLEEVELESS, 0.11)),
        Choice(
            2,
            "jumpsuit",
            (_tops(-0.1, SLEEVELESS, 0.1, "jumpsuits"), _bottoms(ANKLE_HEIGHT, -0.05, "jumpsuits")),
        ),
        Choice(1, "dungarees", _DUNGAREES),
    ),
    "male": (Choice(96, "separates"), Choice(4, "dungarees", _DUNGAREES)),
}
_SHOE_LABELS = ("shoe", "shoe", "socks", "socks", "shoe")
_FOOT = ("ankle", "foot")
_SHOES = {
    "female": (
        *(Choice(9, f"shoes0{i}", (Cloth(f"shoes0{i}", _SHOE_LABELS),)) for i in (1, 2, 3)),
        Choice(14, "shoes, no socks", (Cloth("shoes03", ("shoe", "shoe", NO, NO, "shoe")),)),
        Choice(10, "ankle boots", (Paint("shoe", Region(high=-0.98, parts=LEGS)),)),
        Choice(9, "boots", (Paint("shoe", Region(high=-0.78, parts=LEGS)),)),
        Choice(20, "pumps", (Paint("shoe", Region(high=-1.075, parts=_FOOT)),)),
        Choice(12, "low shoes", (Paint("shoe", Region(high=-1.045, parts=_FOOT)),)),
        Choice(8, "barefoot or sandals"),
    ),
    "male": (
        *(Choice(14, f"shoes0{i}", (Cloth(f"shoes0{i}", _SHOE_LABELS),)) for i in range(1, 7)),
        Choice(7, "low shoes", (Paint("shoe", Region(high=-1.045, parts=_FOOT)),)),
        Choice(5, "boots", (Paint("shoe", Region(high=-0.95, parts=LEGS)),)),
        Choice(4, "barefoot"),
    ),
}


def _hair(weight: float, file: str, low: float = -9.0) -> Choice:
    """Hair down to a height on the T-posed body."""
    return Choice(weight, file, (Cloth(file, ("hair",), Region(low=low), covers_skin=False),))


_HAIR = {
    "female": (
        *(_hair(12, "long01", low) for low in (0.10, 0.20)),
        *(_hair(7, LONG_HAIR, low) for low in (0.14, 0.24)),
        *(_hair(w, n) for w, n in ((16, "ponytail01"), (8, "braid01"), (9, "bob01"), (8, "bob02"))),
        *(_hair(w, n) for w, n in ((7, "short01"), (7, "short02"), (4, "short03"), (3, "afro01"))),
    ),
    "male": (
        *(
            _hair(w, n)
            for w, n in ((26, "short01"), (28, "short02"), (6, "short03"), (24, "short04"), (4, "afro01"))
        ),
        *(_hair(w, n, 0.2) for w, n in ((2, "ponytail01"), (2, "long01"))),
        Choice(8, "bald"),
    ),
}
_EXTRAS = {  # each worn or not, on its own
    "hat": Choice(8, "hat", (Cloth("fedora", ("hat",)),)),
    "sunglasses": Choice(10, "sunglasses", (Paint("sunglasses", Region(near="left_eye", radius=0.028)),)),
    "scarf": Choice(5, "scarf", (Paint("scarf", Region(low=0.22, high=0.36, near="neck", radius=0.13)),)),
    "gloves": Choice(2, "gloves", (Paint("glove", Region(parts=("wrist", "hand"))),)),
}


def tables(gender: str) -> dict[str, tuple[Choice, ...]]:
    """The tables for "female" or "male"; an extra is a table of worn and not worn."""
    extras = {name: (extra, Choice(100 - extra.weight, f"no {name}")) for name, extra in _EXTRAS.items()}
    named = {"outfit": _OUTFITS, "top": _TOPS, "bottom": _BOTTOMS, "shoes": _SHOES, "hair": _HAIR}
    return {**{name: table[gender] for name, table in named.items()}, **extras}


def draw_outfits(gender: str, count: int, rng: np.random.Generator) -> list[tuple[Choice, ...]]:
    """`count` outfits in which every table's choices come as often as their weights say, to within one.

    Each is ordered from the inside out: paint of a later choice covers an earlier one's.
    """
    drawn = {}
    for name, table in tables(gender).items():
        ends = np.cumsum([choice.weight for choice in table])
        at = (np.arange(count) + rng.random()) / count * ends[-1]
        picks = np.minimum(np.searchsorted(ends, at, side="right"), len(table) - 1)
        drawn[name] = [table[i] for i in rng.permutation(picks)]
    outfits = []
    for i in range(count):
        pick = {name: choices[i] for name, choices in drawn.items()}
        clothes = (pick["bottom"], pick["top"]) if pick["outfit"].name == "separates" else (pick["outfit"],)
        outfits.append(
            (*clothes, *(pick[name] for name in ("shoes", "scarf", "gloves", "hair", "sunglasses", "hat")))
        )
    return outfits


def label_ids(name: str, on_left: np.ndarray) -> np.ndarray:
    """Ids of a label name at points; on_left: [N] bool, whether on the person's left. -> [N]."""
    left, right = SIDED.get(name, (name, name))
    return np.where(on_left, LABELS.index(left), LABELS.index(right))


def part_names(part_ids: np.ndarray, joint_names: Sequence[str]) -> np.ndarray:
    """Names of the parts without left_ and right_. [V] -> [V] str."""
    bare = np.array([name.removeprefix("left_").removeprefix("right_") for name in joint_names])
    return bare[part_ids]
