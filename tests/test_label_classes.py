"""Orders of label ids: what they mean, and whether they can mean that where the keypoints are."""

import numpy as np
import pytest
from test_limbs import person_keypoints

from fitter.label.label_classes import (
    ORDERS,
    UNKNOWN,
    fitting,
    likelier_order,
    read_classes,
    skin_as_jumpsuits,
    table_of,
)
from fitter.label.label_files import read_ids, read_labels, write_labels
from fitter.label.person_labels import PersonLabels, doubt_of, load_labels
from fitter.see.keypoints import BODY_25, Person
from fitter.see.person_box import keypoint_box
from priors.clothing import LABELS, PALETTE

BODY = {  # x0, y0, x1, y1 of the person of `test_limbs`
    "face": (84, 24, 116, 62), "upper-clothes": (60, 74, 140, 200), "right-arm": (46, 130, 60, 195),
    "left-arm": (140, 130, 154, 195), "thighs": (70, 176, 130, 250), "shins": (70, 250, 130, 325),
    "right-shoe": (64, 325, 96, 360), "left-shoe": (104, 325, 136, 360),
}  # fmt: skip
LIP = {**{name: LABELS.index(name) for name in BODY if name in LABELS}, "thighs": 9, "shins": 9}
IDS = {  # as each parser writes this person
    "lip": LIP,
    "cihp": LIP,
    "atr": {"face": 11, "upper-clothes": 4, "left-arm": 14, "right-arm": 15, "thighs": 6, "shins": 6,
            "left-shoe": 9, "right-shoe": 10},
    "pascal": {"face": 1, "upper-clothes": 2, "left-arm": 4, "right-arm": 4, "thighs": 5, "shins": 6,
               "left-shoe": 6, "right-shoe": 6},
    "sapiens": {"face": 2, "upper-clothes": 22, "left-arm": 6, "right-arm": 15, "thighs": 12, "shins": 12,
                "left-shoe": 8, "right-shoe": 17},
}  # fmt: skip


def keypoints():
    points = person_keypoints()
    points[BODY_25.index("Neck")] = 100, 80, 1
    return points


def as_written_by(parser: str) -> np.ndarray:
    ids = np.zeros((400, 200), np.uint8)
    for name, (x0, y0, x1, y1) in BODY.items():
        ids[y0:y1, x0:x1] = IDS[parser][name]
    return ids


def labels_of(ids) -> PersonLabels:
    return PersonLabels(ids, (ids != UNKNOWN).astype(np.uint8), ())


@pytest.mark.parametrize("parser", ORDERS)
def test_every_order_means_the_same_person(parser):
    """What each parser calls these places, by our names: alike but for Pascal's, which knows no shoes."""
    ids = table_of(ORDERS[parser])[as_written_by(parser)]
    expected = as_written_by("lip")
    alike = ids == expected
    assert alike[expected == 0].all() and alike[expected == 13].all() and alike[expected == 5].all()
    assert alike.all() == (parser != "pascal")
    assert fitting(ids, keypoints()) == (19, 19)


def test_orders_have_the_published_lengths_and_cihps_ten_is_skin():
    lengths = {"lip": 20, "cihp": 20, "atr": 18, "pascal": 7, "sapiens": 28}
    assert {name: len(order) for name, order in ORDERS.items()} == lengths
    assert table_of(ORDERS["lip"])[10] == 10 and table_of(ORDERS["cihp"])[10] == UNKNOWN
    assert (np.delete(table_of(ORDERS["cihp"]), 10) == np.delete(table_of(ORDERS["lip"]), 10)).all()


@pytest.mark.parametrize("cut", ["whole", "upper body"])
@pytest.mark.parametrize("said", ["lip", "cihp", "atr", "pascal", "sapiens"])
@pytest.mark.parametrize("parser", ["lip", "atr", "pascal", "sapiens"])
def test_ids_in_another_order_are_told_by_the_keypoints(parser, said, cut):
    points = keypoints()
    if cut != "whole":
        points[[BODY_25.index(side + name) for side in "LR" for name in ("Knee", "Ankle")], 2] = 0
    likelier = likelier_order(as_written_by(parser), said, [points])
    same = parser == said or {parser, said} == {"lip", "cihp"}
    if cut == "whole" or same:
        assert likelier == ("" if same else parser)
    else:  # of few keypoints nothing, rather than something wrong
        assert likelier in ("", parser)


def test_a_map_of_one_label_tells_no_order_and_is_doubted():
    ids = np.full((400, 200), LABELS.index("upper-clothes"), np.uint8)
    assert likelier_order(ids, "lip", [keypoints()]) == ""
    spotted = ids.copy()
    spotted[320:345], spotted[160:200, 40:60] = (
        18,
        15,
    )  # of Sapiens' ids, a hand, a sock and an arm, at the nose too
    assert likelier_order(spotted, "lip", [keypoints()]) == ""
    assert "7 of 19 places on labels that are not seen there" in doubt_of(labels_of(ids), keypoints())
    assert doubt_of(labels_of(as_written_by("lip")), keypoints()) == ""
    assert doubt_of(labels_of(np.zeros_like(ids)), keypoints()) == "", "background says nothing"


def test_jumpsuits_at_the_neck_alone_are_cihps_skin():
    ids = as_written_by("cihp")
    ids[62:80, 88:112] = 10
    assert skin_as_jumpsuits(ids, [keypoints()])
    assert "--label-classes cihp" in doubt_of(labels_of(ids), keypoints())
    assert doubt_of(labels_of(table_of(ORDERS["cihp"]).astype(np.uint8)[ids]), keypoints()) == ""
    ids[74:325, 60:140] = 10  # a jumpsuit
    assert not skin_as_jumpsuits(ids, [keypoints()])


def test_a_file_says_what_ids_mean(tmp_path):
    (tmp_path / "mine.yaml").write_text("{0: background, 3: face, 7: unknown, 2: pants}\n")
    choice = str(tmp_path / "mine.yaml")
    assert read_classes(choice) == ("background", None, "pants", "face", None, None, None, "unknown")
    np.save(tmp_path / "a.npy", np.array([[0, 3], [7, 2]]))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.npy", choice), [[0, 13], [UNKNOWN, 9]])
    np.save(tmp_path / "b.npy", np.array([[1, 3]]))
    with pytest.raises(
        ValueError, match=r"b\.npy: expected ids 0-7 of .*mine\.yaml, got id 1; --label-classes lip"
    ):
        read_labels(tmp_path / "b.npy", choice)


@pytest.mark.parametrize(("text", "reason"), [
    ("[1, 2]", "as `0: background`, got list"), ("{0: backgrund}", "got 0: backgrund"), ("{face: 3}", "got face: 3"),
    ("{300: face}", "got 300: face"), ("{0: [", "a YAML file of ids and labels, got:"), ("", "got NoneType"),
])  # fmt: skip
def test_another_content_is_refused(tmp_path, text, reason):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=reason.replace("[", r"\[")):
        read_classes(str(tmp_path / "mine.yaml"))
    with pytest.raises(ValueError, match="expected lip, cihp, atr, pascal, sapiens, or a YAML file"):
        read_classes("lipp")


def test_ids_beyond_an_order_name_the_orders_that_have_them(tmp_path):
    np.save(tmp_path / "a.npy", as_written_by("sapiens"))
    with pytest.raises(
        ValueError, match=r"expected ids 0-19 or the LIP palette, got id 22; --label-classes sapiens\?"
    ):
        read_ids(tmp_path / "a.npy")
    write_labels(
        tmp_path / "a.png", as_written_by("lip")
    )  # under a colour table: indices, where colours mean nothing
    np.testing.assert_array_equal(read_ids(tmp_path / "a.png", "sapiens"), as_written_by("lip"))
    write_labels(tmp_path / "b.png", np.full((2, 2), 10, np.uint8))
    assert (read_labels(tmp_path / "b.png", "cihp") == UNKNOWN).all(), "its colours are LIP's"
    from PIL import Image

    Image.fromarray(PALETTE[as_written_by("lip")]).save(tmp_path / "c.png")
    with pytest.raises(ValueError, match=r"expected ids 0-17 of atr, got colour \(0, 0, 255\)"):
        read_ids(tmp_path / "c.png", "atr")


def test_a_file_in_another_order_is_refused_with_its_name(tmp_path):
    np.save(tmp_path / "a.npy", as_written_by("atr"))
    points = keypoints()
    people = [Person("0", points, "openpose", keypoint_box(points))]
    with pytest.raises(
        ValueError, match=r"a\.npy: expected ids in the order of lip.*ATR's: --label-classes atr"
    ):
        load_labels({None: tmp_path / "a.npy"}, (400, 200), "lip", people)
    maps = load_labels({None: tmp_path / "a.npy"}, (400, 200), "atr", people)
    np.testing.assert_array_equal(maps[None], as_written_by("lip"))


@pytest.mark.parametrize(("ids", "nothing"), [
    (np.zeros((4, 4)), "nothing but background"), (np.full((4, 4), UNKNOWN), "all unknown"),
    (np.array([[0, UNKNOWN]]), "nothing but background"), (np.array([[0, 5]]), ""),
])  # fmt: skip
def test_a_map_that_shows_nothing_says_so(ids, nothing):
    assert labels_of(ids.astype(np.uint8)).nothing == nothing
