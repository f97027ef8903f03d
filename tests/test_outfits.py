"""What people wear: the garments' regions, the two sets of garments, the draws, and the counts on photos."""

import json

import numpy as np
import pytest

from fitter.body.model import OPEN_BODY, load_body
from fitter.label.label_files import UNKNOWN, write_labels
from fitter.see.keypoints import BODY_25
from priors.clothing import LABELS
from priors.skeleton import JOINT_NAMES
from synth.clothes import counts as outfit_counts
from synth.clothes import outfits
from synth.clothes.counts import HEM_ENDS, SLEEVE_ENDS, kind_of
from synth.clothes.figures import face_labels, load_template
from synth.clothes.garments import SKIRT, load_garments
from synth.clothes.sets import HEM_M, HEMS, REACH_M, SLEEVES, shoes
from synth.clothes.wear import NO, SIDED, Choice, Cloth, Paint, Region

GENDERS = ("female", "male")


def layers_of(split: str) -> list[Cloth | Paint]:
    tables = [table for gender in GENDERS for table in outfits.tables(gender, split).values()]
    return [layer for table in tables for choice in table for layer in choice.layers]


def worn_pieces(split: str) -> set[tuple[str, int]]:
    """(file, connected piece) of all that is worn of meshes."""
    return {
        (layer.file, piece)
        for layer in layers_of(split)
        if isinstance(layer, Cloth) and layer.file != SKIRT
        for piece, label in enumerate(layer.labels)
        if label != NO
    }


def test_the_splits_share_no_mesh():
    """Nor meshes that are copies of each other: the same faces, bound within a millimetre of one another."""
    prior, benchmark = (worn_pieces(split) for split in outfits.SPLITS)
    files = [{file for file, _ in pieces} for pieces in (prior, benchmark)]
    assert not files[0] & files[1]
    assert min(map(len, files)) >= 10
    garments = {garment.name: garment for garment in load_garments()}
    for first in files[0]:
        for second in files[1]:
            a, b = garments[first], garments[second]
            if a.corners.shape == b.corners.shape:
                assert np.abs(a.offsets_dm - b.offsets_dm).max() > 0.01, (first, second)


@pytest.fixture(scope="module")
def template():
    return load_template(OPEN_BODY)


@pytest.fixture(scope="module")
def joints():
    body = load_body()
    return {name: body.joint_template[j].numpy() for j, name in enumerate(JOINT_NAMES)}


@pytest.mark.parametrize("split", outfits.SPLITS)
def test_sleeves_and_hems_end_where_the_bodys_limbs_do(joints, split):
    """Regions are in metres of the open body's T-pose: another body needs other numbers."""
    limbs = (("hip", "knee", "ankle"), [-joints[f"left_{n}"][1] for n in ("hip", "knee", "ankle")], HEM_M)
    arms = (
        ("shoulder", "elbow", "wrist"),
        [joints[f"left_{n}"][0] for n in ("shoulder", "elbow", "wrist")],
        REACH_M,
    )
    for names, at, table in (limbs, arms):
        ends = np.interp(np.abs(list(table[split].values())), at, [0, 1, 2])  # in limb segments
        kinds = dict(zip(table[split], ends, strict=True))
        edges = HEM_ENDS if table is HEM_M else SLEEVE_ENDS
        assert {kind: kind_of(end, edges) for kind, end in kinds.items()} == {kind: kind for kind in kinds}, (
            names
        )


@pytest.mark.parametrize("split", outfits.SPLITS)
def test_painted_shoes_cover_feet_and_no_more_than_their_kind(template, joints, split):
    parts = template.parts
    foot = np.isin(parts, ("ankle", "foot"))
    painted = {
        c.name: c.layers[0].region for c in shoes(split) if isinstance(c.layers and c.layers[0], Paint)
    }
    share = {
        name: region.holds(template.vertices_m, parts, template.anchors)[foot].mean()
        for name, region in painted.items()
    }
    assert 0.1 < share["sandals"] < share["pumps"] < share["low shoes"] < 1
    assert share["ankle boots"] == share["boots"] == 1
    assert (
        joints["left_ankle"][1] < painted["ankle boots"].high < painted["boots"].high < joints["left_knee"][1]
    )


def test_the_neck_pit_lies_between_the_collar_bones(template, joints):
    anchors = template.anchors
    assert joints["left_shoulder"][1] < anchors["neck_pit"][1] < joints["neck"][1]
    assert anchors["neck_pit"][2] > anchors["neck"][2] > joints["spine3"][2]


def test_paint_and_skirts_are_cut_differently():
    cuts = []
    for split in outfits.SPLITS:
        skirts = {layer.region.low for layer in layers_of(split) if getattr(layer, "file", "") == SKIRT}
        reaches = {layer.region.reach for layer in layers_of(split) if isinstance(layer, Paint)}
        cuts.append(skirts | (reaches - {Region().reach}))
    assert not cuts[0] & cuts[1] and min(map(len, cuts)) > 8


@pytest.mark.parametrize("split", outfits.SPLITS)
def test_both_splits_have_everything(split):
    tables = outfits.tables("female", split)
    for name, kinds in {
        "top": SLEEVES,
        "dress top": SLEEVES,
        "pants": HEMS,
        "skirt": HEMS,
        "dress skirt": HEMS,
    }.items():
        assert {choice.kind for choice in tables[name]} == set(kinds), name
    assert {"boots", "low", "open"} <= {choice.kind for choice in tables["shoes"]}
    assert {f"{length} open" for length in outfit_counts.COAT_ENDS} <= {c.kind for c in tables["outer"]}
    for name in ("top", "pants", "skirt"):  # tight ones and loose ones
        cloths = [layer for choice in tables[name] for layer in choice.layers]
        assert any(isinstance(layer, Paint) for layer in cloths)
        assert any(isinstance(layer, Cloth) and layer.outset_m > 0 for layer in cloths)
    for layer in layers_of(split):
        names = {layer.label} if isinstance(layer, Paint) else set(layer.labels) - {NO}
        assert names and names <= set(LABELS) | set(SIDED)
    with pytest.raises(ValueError, match="'prior', 'benchmark'"):
        outfits.tables("female", "test")


@pytest.mark.parametrize("gender", GENDERS)
@pytest.mark.parametrize("split", outfits.SPLITS)
def test_outfits_come_as_often_as_counted(gender, split):
    count = 500
    drawn = outfits.draw_outfits(gender, count, np.random.default_rng(0), split)
    assert drawn == outfits.draw_outfits(gender, count, np.random.default_rng(0), split)
    shares = outfits.outfit_counts()[gender]
    for name in ("shoes", "outer", "hat", "scarf"):
        table = outfits.tables(gender, split)[name]
        for kind, share in shares[name].items():
            choices = [choice for choice in table if choice.kind == kind]
            seen = sum(any(choice in outfit for choice in choices) for outfit in drawn)
            assert abs(seen - count * share / sum(shares[name].values())) <= 1.001, (name, kind)
    dressed = sum(any(SKIRT == getattr(la, "file", "") for c in o for la in c.layers) for o in drawn)
    assert (dressed > 100) == (gender == "female")


def test_what_lies_under_a_coat_does_not_come_through_it():
    coats = 0
    for outfit in outfits.draw_outfits("female", 300, np.random.default_rng(1), "prior"):
        outer = [i for i, choice in enumerate(outfit) if choice.name.startswith("coat of")]
        if outer:
            coats += 1
            inner = [layer for choice in outfit[: outer[0]] for layer in choice.layers]
            assert all(
                layer.region.high <= outfits.JACKET_HEM_M
                for layer in inner
                if getattr(layer, "file", "") == SKIRT
            )
            upper = [
                la for la in inner if isinstance(la, Cloth) and set(la.labels) & {"upper-clothes", "dress"}
            ]
            assert all(layer.file == SKIRT or "jumpsuits" in layer.labels for layer in upper)
    assert coats > 100


def test_a_bare_trunk_keeps_what_is_worn_below():
    """Men in trousers lose tops and jackets and nothing else; in a dress or jumpsuit they stay as they are."""
    stripped = 0
    for outfit in outfits.draw_outfits("male", 100, np.random.default_rng(2), "prior"):
        bare = outfits.bare_trunk(outfit)
        if bare == outfit:
            continue
        stripped += 1
        lost = [choice for choice in outfit if choice not in bare]
        assert lost and all(outfits._labels(choice) & outfits.ON_TRUNK for choice in lost)
        assert not any(outfits._labels(choice) & outfits.ON_TRUNK for choice in bare)
        assert any("pants" in outfits._labels(choice) for choice in bare)
    assert stripped > 60


def test_a_kind_that_was_counted_must_be_there(monkeypatch):
    with pytest.raises(ValueError, match="hat has no \\['crown'\\]"):
        outfits._weighted("hat", (Choice(1, "hat", kind="worn"),), {"worn": 0.5, "crown": 0.5})
    weighted = outfits._weighted("hat", (Choice(1, "a", kind="x"), Choice(3, "b", kind="x")), {"x": 0.8})
    assert [round(choice.weight, 6) for choice in weighted] == [0.2, 0.6]


# --- counts


def person(**points: tuple[float, float]) -> np.ndarray:
    keypoints = np.zeros((25, 3))
    for name, (x, y) in points.items():
        keypoints[BODY_25.index(name)] = x, y, 1.0
    return keypoints


def test_sleeves_and_hems_end_where_skin_begins():
    labels = np.zeros((240, 60), np.uint8)
    labels[:130, :20] = LABELS.index("upper-clothes")  # the arm runs down from 0 over 100 to 200
    labels[130:, :20] = LABELS.index("left-arm")
    labels[:80, 40:] = LABELS.index("skirt")
    labels[80:190, 40:] = LABELS.index("left-leg")
    labels[190:, 40:] = LABELS.index("left-shoe")
    keypoints = person(
        LShoulder=(10, 0), LElbow=(10, 100), LWrist=(10, 200), LHip=(50, 0), LKnee=(50, 100), LAnkle=(50, 200),
        LBigToe=(50, 220),
    )  # fmt: skip
    found = outfit_counts.lengths(labels, keypoints)
    assert found["sleeve"] == pytest.approx([1.3], abs=0.03)
    assert found["skirt"] == pytest.approx([0.8], abs=0.03)
    assert found["shoe"] == pytest.approx([1.9], abs=0.03)
    assert set(found) == {"sleeve", "skirt", "shoe"}
    assert outfit_counts.kind_of(1.3, outfit_counts.SLEEVE_ENDS) == "three-quarter"
    labels[:, :20] = UNKNOWN
    assert "sleeve" not in outfit_counts.lengths(labels, keypoints)


def test_a_coat_hides_what_the_sleeves_under_it_are():
    labels = np.full((200, 40), LABELS.index("coat"), np.uint8)
    labels[60:, 8:32] = LABELS.index("upper-clothes")  # open in front
    keypoints = person(Nose=(20, 20), Neck=(20, 50), MidHip=(20, 120), LShoulder=(38, 50), RShoulder=(2, 50))
    assert outfit_counts.coat_on_midline(labels, keypoints) == 0
    labels[:, 8:32] = LABELS.index("coat")
    assert outfit_counts.coat_on_midline(labels, keypoints) == 1
    keypoints[BODY_25.index("LShoulder"), 0] = 20  # seen from the side
    assert outfit_counts.coat_on_midline(labels, keypoints) is None


def test_hair_is_measured_from_nose_to_shoulders():
    labels = np.zeros((100, 40), np.uint8)
    labels[10:60, 5:10] = LABELS.index("hair")
    keypoints = person(Nose=(20, 20), Neck=(20, 40), MidHip=(20, 90), LShoulder=(38, 40), RShoulder=(2, 40))
    assert outfit_counts.hair_end(labels, keypoints) == pytest.approx(2, abs=0.15)
    labels[30:] = 0
    assert outfit_counts.hair_end(labels, keypoints) < 0.5


def test_what_is_worn_is_told_by_its_pixels():
    nothing = dict.fromkeys(outfit_counts.CCP_CLASSES, 0.0)
    worn = outfit_counts.what_is_worn(nothing | {"jeans": 0.3, "shirt": 0.2, "coat": 0.005, "hat": 0.01})
    assert (worn["outfit"], worn["lower"], worn["outer"], worn["hat"]) == (
        "separates",
        "pants",
        "none",
        "worn",
    )
    assert worn["stockings"] is None
    worn = outfit_counts.what_is_worn(nothing | {"dress": 0.4, "blazer": 0.2, "stockings": 0.1})
    assert (worn["outfit"], worn["lower"], worn["outer"]) == ("dress", None, "worn")
    assert worn["stockings"] == "worn"


def test_counts_of_a_folder(tmp_path):
    from PIL import Image

    classes = outfit_counts.CCP_CLASSES
    for folder in ("images", "labels", "converted", "keypoints"):
        (tmp_path / folder).mkdir()
    (tmp_path / "labels.json").write_text(json.dumps({"labels": list(classes)}))
    for number, lower in enumerate(("skirt", "jeans", "jeans", "jeans")):
        ids = np.zeros((60, 40), np.uint8)
        ids[5:30, 10:30], ids[30:55, 10:30] = classes.index("shirt"), classes.index(lower)
        Image.fromarray(ids).save(tmp_path / "labels" / f"{number:04d}.png")
        Image.fromarray(ids).save(tmp_path / "images" / f"{number:04d}.jpg")
        converted = np.where(ids == classes.index("shirt"), LABELS.index("upper-clothes"), 0)
        converted[30:55, 10:30] = LABELS.index("skirt" if lower == "skirt" else "pants")
        write_labels(tmp_path / "converted" / f"{number:04d}.png", converted)
        points = person(
            LShoulder=(15, 10),
            LElbow=(15, 20),
            LWrist=(15, 28),
            LHip=(20, 30),
            LKnee=(20, 42),
            LAnkle=(20, 54),
        )
        people = {"people": [{"person_id": [-1], "pose_keypoints_2d": points.ravel().tolist()}]}
        (tmp_path / "keypoints" / f"{number:04d}_keypoints.json").write_text(json.dumps(people))
    data = outfit_counts.count(tmp_path, tmp_path / "converted", tmp_path / "keypoints", skip=0)
    assert data["shares"]["female"]["lower"] == {"pants": 0.75, "skirt": 0.25}
    assert data["shares"]["male"]["lower"] == {"pants": 1.0, "skirt": 0.0}
    assert data["shares"]["female"]["top"]["long"] == 1
    assert data["photos"]["male"]["worn"] == 3 and data["photos"]["female"]["lengths"] == 4
    fewer = outfit_counts.count(tmp_path, tmp_path / "converted", tmp_path / "keypoints", skip=1)
    assert fewer["photos"]["female"]["worn"] == 3


# --- regions


def test_regions():
    points = np.array([[0, 0, 0], [0.3, 0.2, 0], [0.6, 0.2, 0], [0.1, -0.9, 0], [-0.03, 0.45, 0.15]])
    parts = np.array(["spine1", "shoulder", "elbow", "knee", "head"])
    anchors = {"neck_pit": np.array([0, 0.1, 0]), "left_eye": np.array([0.03, 0.45, 0.15])}
    shirt = Region(low=-0.2, reach=0.4, parts=("spine1", "shoulder", "elbow"))
    assert shirt.holds(points, parts, anchors).tolist() == [True, True, False, False, False]
    assert Region(neckline=0.15).holds(points, parts, anchors).tolist() == [
        False,
        True,
        True,
        True,
        True,
    ]
    glasses = Region(near="left_eye", radius=0.02)
    assert glasses.holds(points, parts, anchors).tolist() == [False] * 4 + [True]
    assert face_labels(np.array([1, 2, 2, 3]), np.array([[0, 1, 2], [0, 1, 3]])).tolist() == [2, 1]
    gap = Region(opening=0.05)
    front_and_back = np.array([[0.02, 0.1, 0.12], [0.2, 0.1, 0.12], [0.02, 0.1, -0.1]])
    held = gap.holds(front_and_back, np.array(["spine3"] * 3), {"neck": np.zeros(3)})
    assert held.tolist() == [False, True, True]
