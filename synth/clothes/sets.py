"""Two disjoint sets of garments to draw outfits from, each as tables of choices by what kind they are.

A garment is a CC0 MakeHuman mesh with labels for its connected pieces, or paint on the skin for what fits
tightly (a vest, leggings, gloves). Where it is cut off (sleeves, hems) is said by a Region of the open body's
T-pose, in metres, so that one length serves every shape; outset_m makes it looser.

"prior" is what the shipped clothing prior learns from, "benchmark" what the people wear that fits are measured
on. No mesh of clothes, shoes, hair or hats is in both, nor a copy of one under another name: male_casualsuit02
to 05 have the same trousers, female_casualsuit01 and sportsuit01 too, casualsuit01 and 02 all but the same
shirt; shoes01 and 04 are one mesh, shoes02, 05 and 06 another. The base mesh's skirt, the only one there is,
is in both with other hems and widths. Weights within a kind are ours; how often each kind is worn is counted on
photos (synth/clothes/counts.py).
"""

from itertools import product

from synth.clothes.garments import LONG_HAIR, SKIRT
from synth.clothes.wear import ARMS, LEGS, NO, TRUNK, Choice, Cloth, Paint, Region

SLEEVES = ("none", "short", "elbow", "three-quarter", "long")
HEMS = ("thigh", "above knee", "knee", "calf", "ankle")
# how far from the middle sleeves reach, and how low hems hang, on the T-posed open body, by split
REACH_M = {
    "prior": dict(zip(SLEEVES, (0.163, 0.311, 0.44, 0.584, 0.735), strict=True)),
    "benchmark": dict(zip(SLEEVES, (0.172, 0.29, 0.419, 0.606, 0.725), strict=True)),
}
HEM_M = {
    "prior": dict(zip(HEMS, (-0.187, -0.303, -0.438, -0.62, -0.821), strict=True)),
    "benchmark": dict(zip(HEMS, (-0.208, -0.335, -0.467, -0.658, -0.802), strict=True)),
}
# half the widths of what coats worn open show, a quarter, half and most of the shoulders' width
OPENING_M = {"prior": (0.045, 0.095, 0.13), "benchmark": (0.04, 0.085, 0.12)}
# how far from the neck pit closed coats begin: a third each at the neck, 4 cm and 10 cm below the shoulders' line
COAT_NECKLINE_M = {"prior": (0.0, 0.08, 0.14), "benchmark": (0.0, 0.07, 0.13)}
BELT = 0.059  # where male_casualsuit01, shirt and jeans in one piece, is divided
FOOT = ("ankle", "foot")
WOMAN_1, WOMAN_2, WOMAN_3 = "female_casualsuit01", "female_casualsuit02", "female_sportsuit01"
MAN_1, MAN_2, MAN_3, MAN_4, MAN_5 = (f"male_casualsuit0{i}" for i in range(1, 6))
SUIT, WORK = "male_elegantsuit01", "male_worksuit01"


def _upper(low: float, reach: float, neckline: float, label: str) -> Paint:
    return Paint(label, Region(low=low, reach=reach, parts=TRUNK + ARMS, neckline=neckline))


def _lower(low: float, high: float, label: str) -> Paint:
    return Paint(label, Region(low=low, high=high, parts=("pelvis", "spine1", "spine2") + LEGS))


def _flare(label: str, hem: float, outset_m: float = 0.0) -> Cloth:
    return Cloth(SKIRT, (label,), Region(low=hem), outset_m, covers_skin=False)


def sleeved(split: str, gender: str, label: str, low: float) -> tuple[Choice, ...]:
    """Upper parts labelled `label`, tight ones down to `low`, of every length of sleeve."""
    reach = REACH_M[split]
    top = (label, NO)

    def tight(sleeves: str, neckline: float, weight: float = 1.0) -> Choice:
        return Choice(weight, f"tight {label}", (_upper(low, reach[sleeves], neckline, label),), sleeves)

    def mesh(
        file: str, labels: tuple[str, ...], sleeves: str, outset_m: float = 0.0, neckline: float = 0.0
    ) -> Choice:
        region = Region(reach=reach[sleeves], neckline=neckline)
        name = f"{file} {label}" + (" loose" if outset_m else "")
        return Choice(1, name, (Cloth(file, labels, region, outset_m),), sleeves)

    if split == "prior":
        choices = (
            tight("none", 0.08),
            mesh(WOMAN_1, top, "none"),
            mesh(WOMAN_1, top, "short"),
            mesh(WOMAN_2, (NO, label, NO), "short", 0.015),
            tight("short", 0.04),
            mesh(MAN_3, top, "elbow", 0.01),
            tight("elbow", 0.05),
            mesh(MAN_3, top, "three-quarter", 0.015),
            tight("three-quarter", 0.07),
            mesh(MAN_3, top, "long"),
            mesh(MAN_3, top, "long", 0.025),
            Choice(1, f"{MAN_1} {label}", (Cloth(MAN_1, (label,), Region(low=BELT)),), "long"),
            tight("long", 0.03),
        )
        female = (Choice(1, f"straps {label}", (_upper(low, 0.124, 0.13, label),), "none"),)
        if label == "upper-clothes":
            female += (Choice(0.7, f"{WOMAN_3} crop top", (Cloth(WOMAN_3, top),), "short"),)
    else:
        choices = (
            tight("none", 0.07),
            mesh(MAN_4, (NO, label), "none"),
            mesh(MAN_4, (NO, label), "short"),
            mesh(MAN_4, (NO, label), "short", 0.02),
            tight("short", 0.05),
            mesh(MAN_2, top, "elbow"),
            tight("elbow", 0.04),
            mesh(MAN_2, top, "three-quarter", 0.02),
            tight("three-quarter", 0.08),
            mesh(MAN_2, top, "long"),
            mesh(MAN_2, top, "long", 0.03),
            tight("long", 0.035),
        )
        female = (Choice(1, f"straps {label}", (_upper(low, 0.134, 0.12, label),), "none"),)
        if label == "upper-clothes":
            bare = Region(reach=reach["short"], low=0.227)
            female += (Choice(0.7, f"{MAN_4} cropped", (Cloth(MAN_4, (NO, label), bare),), "short"),)
    return choices + female if gender == "female" else choices


def tops(split: str, gender: str) -> tuple[Choice, ...]:
    low, tunic = {"prior": (0.023, -0.145), "benchmark": (0.044, -0.124)}[split]
    file, labels = {"prior": (MAN_3, ("upper-clothes", NO)), "benchmark": (MAN_2, ("upper-clothes", NO))}[
        split
    ]
    long_top = (_flare("upper-clothes", tunic), Cloth(file, labels))
    tunics = (Choice(0.7, "tunic", long_top, "long"),) if gender == "female" else ()
    return sleeved(split, gender, "upper-clothes", low) + tunics


def skirts(split: str, label: str) -> tuple[Choice, ...]:
    """Skirts, or the skirts of dresses, of every length."""
    waist = (_lower(-0.187, 0.197 if split == "prior" else 0.167, label),)
    outsets_m = (0.0, 0.02) if split == "prior" else (0.01, 0.03)
    hems = HEM_M[split].items()
    flared = [
        Choice(1, f"{label} {hem}", (*waist, _flare(label, low, o)), hem)
        for hem, low in hems
        for o in outsets_m
    ]
    # a tight one clings to the thighs
    tight = Choice(1, f"tight {label}", (_lower(HEM_M[split]["thigh"], 0.187, label),), "thigh")
    return (*flared, tight)


def pants(split: str, gender: str) -> tuple[Choice, ...]:
    """Trousers and shorts of every length."""
    hems = HEM_M[split]

    def cut(
        file: str, labels: tuple[str, ...], hem: str, outset_m: float = 0.0, weight: float = 1.0
    ) -> Choice:
        region = Region(low=hems[hem] if hem != "ankle" else -9.0)
        return Choice(weight, f"{file} {hem}", (Cloth(file, labels, region, outset_m),), hem)

    def tight(hem: str, high: float, weight: float = 1.0) -> Choice:
        return Choice(weight, f"tight pants {hem}", (_lower(hems[hem], high, "pants"),), hem)

    if split == "prior":
        jeans = Cloth(MAN_1, ("pants",), Region(high=BELT)), _lower(-0.081, BELT, "pants")
        return (
            cut(WOMAN_2, ("pants", NO, "pants"), "thigh"),
            tight("thigh", 0.177, 0.5),
            cut(WOMAN_1, (NO, "pants"), "above knee", 0.02),
            cut(WOMAN_1, (NO, "pants"), "knee", 0.015),
            tight("knee", 0.126, 0.5),
            cut(WOMAN_1, (NO, "pants"), "calf"),
            tight("calf", 0.126),
            cut(WOMAN_1, (NO, "pants"), "ankle", weight=2),
            cut(WOMAN_1, (NO, "pants"), "ankle", 0.02),
            Choice(2, "jeans", jeans, "ankle"),
            tight("ankle", 0.147, 2 if gender == "female" else 0.5),
        )
    return (
        cut(MAN_4, ("pants", NO), "thigh", 0.01),
        tight("thigh", 0.147, 0.5),
        cut(MAN_4, ("pants", NO), "above knee", 0.01),
        cut(MAN_2, (NO, "pants"), "knee"),
        tight("knee", 0.147, 0.5),
        cut(MAN_2, (NO, "pants"), "calf"),
        tight("calf", 0.106),
        cut(MAN_2, (NO, "pants"), "ankle", weight=2),
        cut(MAN_4, ("pants", NO), "ankle", 0.02),
        cut(SUIT, (NO, "pants"), "ankle"),
        tight("ankle", 0.126, 2 if gender == "female" else 0.5),
    )


def jumpsuits(split: str) -> tuple[Choice, ...]:
    reach = REACH_M[split]
    if split == "prior":
        suit = (
            _upper(0.126, reach["none"], 0.1, "jumpsuits"),
            _lower(HEM_M[split]["ankle"], 0.177, "jumpsuits"),
        )
        short = (
            Cloth(WOMAN_2, ("jumpsuits", NO, "jumpsuits"), outset_m=0.01),
            Cloth(WOMAN_1, ("jumpsuits", NO), outset_m=0.01),
        )
        return Choice(1, "jumpsuit", suit), Choice(1, "playsuit", short)
    dungarees = (
        Cloth(WORK, ("jumpsuits", "upper-clothes", "jumpsuits")),
        _upper(0.126, reach["none"], 0.08, "upper-clothes"),
    )
    short = (Cloth(WORK, ("jumpsuits",), Region(low=HEM_M[split]["thigh"])),)
    return Choice(1, "dungarees", dungarees), Choice(1, "playsuit", short)


def outers(split: str) -> tuple[Choice, ...]:
    """Coats and jackets of every length, closed or open in front, some without sleeves or with short ones."""
    if split == "prior":
        meshes = (MAN_5, ("coat", NO, NO, "coat"), 0.0), (MAN_3, ("coat", NO), 0.03)
        shut = (MAN_5, ("coat", NO, "coat", "coat"), 0.0), meshes[1]
    else:
        meshes = (SUIT, ("coat", NO), 0.01), (MAN_2, ("coat", NO), 0.035)
        shut = meshes
    reach, hems = REACH_M[split], HEM_M[split]
    lengths = {"hip": None, "thigh": "thigh", "above knee": "above knee", "below knee": "calf"}
    sleeves = (("none", 0.1), ("elbow", 0.08), ("three-quarter", 0.08), ("long", 0.74))
    choices = []
    for (kind, hem), (cut, weight) in product(lengths.items(), sleeves):
        fronts = [("closed", 0.0, deep, mesh) for deep, mesh in product(COAT_NECKLINE_M[split], shut)]
        fronts += [("open", gap, gap, mesh) for gap, mesh in product(OPENING_M[split], meshes)]
        for front, gap, deep, (file, labels, outset_m) in fronts:
            far = 9.0 if cut == "long" else reach[cut]
            layers = (Cloth(file, labels, Region(reach=far, opening=gap, neckline=deep), outset_m),)
            if hem:
                below = Region(low=hems[hem], opening=gap)
                layers += (Cloth(SKIRT, ("coat",), below, 0.035, covers_skin=False),)
            name = f"coat of {file}, {kind}, {front}, sleeves {cut}"
            choices.append(Choice(weight, name, layers, f"{kind} {front}"))
    return tuple(choices)


def shoes(split: str) -> tuple[Choice, ...]:
    bare, socks = ("shoe", "shoe", NO, NO, "shoe"), ("shoe", "shoe", "socks", "socks", "shoe")
    files = ("shoes01", "shoes03") if split == "prior" else ("shoes02",)
    down = 0.0 if split == "prior" else 0.01
    meshes = [
        Choice(w / len(files), f"{file}{name}", (Cloth(file, labels),), "low")
        for file in files
        for w, name, labels in ((1, "", bare), (1, ", socks", socks))
    ]
    return (
        *meshes,
        Choice(1, "low shoes", (Paint("shoe", Region(high=-0.826 - down, parts=FOOT)),), "low"),
        Choice(1, "pumps", (Paint("shoe", Region(high=-0.85 - down, parts=FOOT)),), "open"),
        Choice(1, "sandals", (Paint("shoe", Region(high=-0.873, parts=FOOT)),), "open"),
        Choice(1, "ankle boots", (Paint("shoe", Region(high=-0.754 - down, parts=LEGS)),), "ankle boots"),
        Choice(1, "boots", (Paint("shoe", Region(high=-0.572 - down, parts=LEGS)),), "boots"),
        Choice(1, "barefoot", kind="bare"),
    )


def hair(split: str, gender: str) -> tuple[Choice, ...]:
    """Hair, for women as far down as it reaches: tied or short, to the neck, below the shoulders."""

    def worn(weight: float, file: str, kind: str, low: float = -9.0) -> Choice:
        return Choice(weight, file, (Cloth(file, ("hair",), Region(low=low), covers_skin=False),), kind)

    if gender == "male":
        files = (("short01", 4), ("short03", 2)) if split == "prior" else (("short02", 3), ("short04", 3))
        odd = ("ponytail01", "long01") if split == "prior" else ("afro01", "braid01")
        rest = *(worn(0.3, file, "male") for file in odd), Choice(0.8, "bald", kind="male")
        return *(worn(weight, file, "male") for file, weight in files), *rest
    if split == "prior":
        return (
            worn(3, "ponytail01", "short", 0.467),
            worn(1, "short01", "short"),
            worn(0.5, "short03", "short"),
            worn(1, "bob01", "neck"),
            worn(0.7, "long01", "neck", 0.492),
            worn(0.7, LONG_HAIR, "neck", 0.492),
            *(worn(1, "long01", "long", low) for low in (0.332, 0.421)),
            *(worn(1, LONG_HAIR, "long", low) for low in (0.371, 0.454)),
        )
    return (
        worn(1.5, "short02", "short"),
        worn(1, "short04", "short"),
        worn(0.5, "afro01", "short"),
        worn(1, "bob02", "neck"),
        worn(0.7, "braid01", "neck", 0.492),
        worn(1, "braid01", "long"),
    )


def extras(split: str) -> dict[str, tuple[Choice, ...]]:
    """What is worn or not, each on its own."""
    prior = split == "prior"
    hat = Cloth("fedora" if prior else "fedora_cocked", ("hat",))
    glasses = Region(near="left_eye", radius=0.028 if prior else 0.024)
    scarf = Region(low=0.437 if prior else 0.421, high=0.592, near="neck", radius=0.13)
    sheer = Region(high=-0.081, parts=LEGS)
    worn = {
        "scarf": Paint("scarf", scarf),
        "gloves": Paint("glove", Region(parts=("wrist", "hand"))),
        "sunglasses": Paint("sunglasses", glasses),
        "hat": hat,
        "stockings": Paint("socks", sheer),
    }
    return {
        name: (Choice(1, name, (layer,), "worn"), Choice(1, f"no {name}", kind="not"))
        for name, layer in worn.items()
    }
