"""What people wear: outfits of one of two disjoint sets of garments, drawn as often as real photos show.

How often each kind is worn is counted on Clothing-Co-Parsing (synth/clothes/counts.py writes
data/outfit_counts.json). Those photos are mostly of women: "female" takes the shares of all of them, "male" of
those who wear nothing that only women there wear, and both are drawn half and half.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from synth.clothes.garments import SKIRT
from synth.clothes.sets import extras, hair, jumpsuits, outers, pants, shoes, skirts, sleeved, tops
from synth.clothes.wear import Choice, Cloth, Paint

COUNTS = Path(__file__).parent / "data" / "outfit_counts.json"
SPLITS = ("prior", "benchmark")
EXTRAS = ("scarf", "gloves", "sunglasses", "hat")
ON_TRUNK = {"upper-clothes", "dress", "coat", "jumpsuits", "scarf"}
JACKET_HEM_M = -0.081  # a jacket hides what flares above this height


@cache
def outfit_counts() -> dict:
    """The shares counted on photos: gender -> table -> kind -> share."""
    return json.loads(COUNTS.read_text())["shares"]


def tables(gender: str, split: str) -> dict[str, tuple[Choice, ...]]:
    """The tables for "female" or "male" of "prior" or "benchmark", each choice weighted as often as it is worn.

    ValueError: no such split, or people were counted in a kind that the split has nothing of.
    """
    if split not in SPLITS:
        raise ValueError(f"outfits: expected a split of {SPLITS}, got {split!r}")
    whole = tuple(Choice(1, name, kind=name) for name in ("separates", "dress", "jumpsuit"))
    lower = tuple(Choice(1, name, kind=name) for name in ("pants", "skirt"))
    named = {
        "outfit": whole,
        "lower": lower,
        "top": tops(split, gender),
        "pants": pants(split, gender),
        "skirt": skirts(split, "skirt"),
        "dress top": sleeved(split, gender, "dress", -0.187),
        "dress skirt": skirts(split, "dress"),
        "top under coat": _tight_only(tops(split, gender)),
        "dress top under coat": _tight_only(sleeved(split, gender, "dress", -0.187)),
        "jumpsuit": jumpsuits(split),
        "outer": (*outers(split), Choice(1, "no coat", kind="none")),
        "shoes": shoes(split),
        "hair": hair(split, gender),
        **extras(split),
    }
    shares = outfit_counts()[gender]
    return {name: _weighted(name, table, shares.get(name)) for name, table in named.items()}


def _weighted(name: str, table: tuple[Choice, ...], shares: dict[str, float] | None) -> tuple[Choice, ...]:
    """Weights such that each kind comes as often as its share; as given where nothing was counted."""
    if not shares:
        return table
    table = tuple(
        sorted(table, key=lambda choice: choice.kind)
    )  # so that draws keep the kinds' shares exactly
    total = {kind: sum(c.weight for c in table if c.kind == kind) for kind in shares}
    lost = [kind for kind, share in shares.items() if share > 0 and not total[kind]]
    if lost:
        raise ValueError(f"outfits: expected something to wear of every kind counted, {name} has no {lost}")
    weights = [shares.get(c.kind, 0.0) * c.weight / max(total.get(c.kind, 0.0), 1e-12) for c in table]
    return tuple(
        Choice(weight, c.name, c.layers, c.kind)
        for weight, c in zip(weights, table, strict=True)
        if weight > 0
    )


def draw_outfits(gender: str, count: int, rng: np.random.Generator, split: str) -> list[tuple[Choice, ...]]:
    """`count` outfits in which every table's choices come as often as their weights say, to within one.

    split: "prior" or "benchmark". Each outfit is ordered from the inside out: paint of a later choice covers an
    earlier one's.
    """
    drawn = {}
    for name, table in tables(gender, split).items():
        ends = np.cumsum([choice.weight for choice in table])
        at = (np.arange(count) + rng.random()) / count * ends[-1]
        picks = np.minimum(np.searchsorted(ends, at, side="right"), len(table) - 1)
        drawn[name] = [table[i] for i in rng.permutation(picks)]
    return [_put_together({name: choices[i] for name, choices in drawn.items()}) for i in range(count)]


def bare_trunk(outfit: tuple[Choice, ...]) -> tuple[Choice, ...]:
    """The outfit without what clothes the trunk; itself if nothing would be left below."""
    rest = tuple(choice for choice in outfit if not _labels(choice) & ON_TRUNK)
    return rest if any("pants" in _labels(choice) for choice in rest) else outfit


def _labels(choice: Choice) -> set[str]:
    return {
        label
        for layer in choice.layers
        for label in ((layer.label,) if isinstance(layer, Paint) else layer.labels)
    }


def _tight_only(table: tuple[Choice, ...]) -> tuple[Choice, ...]:
    """What fits under a jacket without coming through it."""
    return tuple(c for c in table if all(isinstance(layer, Paint) for layer in c.layers))


def _below_coat(choice: Choice) -> Choice:
    """The same with skirts cut off where a jacket lies over them."""
    layers = tuple(
        replace(layer, region=replace(layer.region, high=JACKET_HEM_M)) if _is_flare(layer) else layer
        for layer in choice.layers
    )
    return replace(choice, layers=layers)


def _is_flare(layer: Cloth | Paint) -> bool:
    return isinstance(layer, Cloth) and layer.file == SKIRT


def _put_together(pick: dict[str, Choice]) -> tuple[Choice, ...]:
    """One outfit from a choice of every table; a person takes from those tables that go together."""
    whole, lower = pick["outfit"].name, pick["lower"].name
    coat = pick["outer"].kind != "none"
    under = " under coat" if coat else ""
    if whole == "separates":
        clothes = pick[lower], pick["top" + under]
    elif whole == "dress":
        clothes = pick["dress skirt"], pick["dress top" + under]
    else:
        clothes = (pick["jumpsuit"],)
    clothes = tuple(map(_below_coat, clothes)) if coat else clothes
    legs_shown = whole == "dress" or (
        whole == "separates" and (lower == "skirt" or clothes[0].kind == "thigh")
    )
    stockings = (pick["stockings"],) if legs_shown else ()
    outer = tuple(pick[name] for name in ("outer", "shoes", *EXTRAS[:2], "hair", *EXTRAS[2:]))
    return (*stockings, *clothes, *outer)
