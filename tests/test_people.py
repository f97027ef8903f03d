"""benchmarks/people.py, verdicts.py and composites.py: likeness, verdicts and pasted people by hand."""

import numpy as np
import pytest

from benchmarks.composites import Composite, Cut, Place, choose_places, compose, street
from benchmarks.people import company_table, composite_table, people_of
from benchmarks.verdicts import judge, oks
from fitter.see.each_once import MIRROR_17, SIGMAS
from fitter.see.keypoints import COCO_17

AREA_PX = 12_000.0
# fmt: off
STANDING = np.array([
    [0, -90], [4, -94], [-4, -94], [8, -92], [-8, -92], [20, -70], [-20, -70], [25, -40], [-25, -40], [27, -12],
    [-27, -12], [12, -10], [-12, -10], [13, 40], [-13, 40], [14, 90], [-14, 90],
])
# fmt: on


def figure(x, y=100.0, confidence=0.9):
    return np.column_stack([STANDING + [x, y], np.full(17, confidence)])


def group(*places, share=1.0, visible=None):
    """People who stand at these x, y, seen whole if nothing else is said."""
    joints = np.stack([figure(x, 100, 1) for x in places])
    seen = np.ones(joints.shape[:2], bool) if visible is None else np.asarray(visible)
    shares = np.broadcast_to(share, len(places)).astype(float)
    return Composite(
        np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), joints, seen, AREA_PX * shares, shares
    )


def test_likeness_by_hand():
    truth, used = figure(0, confidence=1), np.ones(17, bool)
    assert oks(figure(0), truth, AREA_PX, used) == 1
    one = truth.copy()
    one[5, 0] += 2 * SIGMAS[5] * np.sqrt(AREA_PX)  # one sigma of COCO's: exp(-1/2)
    assert oks(one, truth, AREA_PX, used) == pytest.approx((16 + np.exp(-0.5)) / 17)
    assert oks(one, truth, AREA_PX, used & (np.arange(17) != 5)) == 1
    assert oks(one, truth, AREA_PX, ~used) == 0


def test_sides_are_exchanged_by_name():
    assert [COCO_17[i] for i in MIRROR_17[:3]] == ["Nose", "REye", "LEye"]
    np.testing.assert_array_equal(STANDING[MIRROR_17][:, 0], -STANDING[:, 0])


def test_everybody_found_once():
    found = [figure(202), figure(0), figure(101)]
    verdict = judge(found, [0.5, 0.9, 0.8], group(0, 100, 200))
    assert verdict.match.tolist() == [1, 2, 0] and verdict.counted.all()
    assert verdict.oks[0] == 1 and 0.9 < verdict.oks[2] < verdict.oks[1] < 1
    assert not verdict.duplicates and not verdict.merged and not verdict.false


def test_the_surest_is_matched_and_the_other_is_a_duplicate():
    verdict = judge([figure(3), figure(0)], [0.9, 0.5], group(0, 300))
    assert verdict.match.tolist() == [0, -1] and verdict.duplicates == [1]
    assert not verdict.false and not verdict.merged


def test_somebody_where_nobody_is():
    assert judge([figure(0), figure(900)], [0.9, 0.5], group(0)).false == [1]
    ignored = group(0, 900, share=np.array([1.0, 0.2]))
    verdict = judge([figure(0), figure(905, 160)], [0.9, 0.5], ignored)
    assert verdict.counted.tolist() == [True, False] and not verdict.false and not verdict.duplicates


def test_a_skeleton_of_two_people_is_merged():
    found, truth = figure(0), group(0, 120)
    found[13:, 0] += 120  # the other one's legs
    verdict = judge([found], [0.9], truth)
    assert verdict.merged == [0] and not verdict.duplicates
    assert not judge([figure(0)[MIRROR_17]], [0.9], truth).merged
    found[:, 2] = np.where(np.arange(17) < 13, 0.9, 0.2)
    assert not judge([found], [0.9], truth).merged


def test_who_is_hardly_seen_does_not_count():
    visible = np.ones((2, 17), bool)
    visible[1, 5:] = False
    assert judge([], [], group(0, 100, visible=visible)).counted.tolist() == [True, False]
    figures, _ = composite_table([judge([figure(0)], [1.0], group(0, 100, visible=visible))] * 2)
    assert figures["composite_recall_2_4"][0] == 1 and figures["false_people_pct"][0] == 0
    assert "composite_recall_5_8" not in figures


def block(value, height=40, width=20):
    """A person of one colour in a photo of zeros; a joint in each quarter, the others unknown."""
    image, mask = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60), bool)
    mask[10 : 10 + height, 20 : 20 + width] = True
    image[mask] = value
    joints = np.zeros((17, 3))
    joints[:4] = [[22, 12, 1], [38, 12, 1], [22, 48, 1], [38, 48, 1]]
    return Cut(image, mask, joints, np.array([20.0, 10, 40, 50]))


def test_people_are_pasted_where_they_stand_and_cover_each_other():
    background = np.full((100, 200, 3), 50, np.uint8)
    near, far = block(250), block(150)
    truth = compose(background, [near, far], [Place(60, 90, 1), Place(72, 80, 0.5)])
    assert (truth.owner == 1).sum() == 800 and truth.image[70, 60, 0] == 250
    assert (truth.owner[:, 70:77] == 2).sum() == 7 * 20 and truth.image[70, 74, 0] == 150
    assert truth.image[20, 20, 0] == 50 and (background == 50).all()
    np.testing.assert_allclose(truth.joints[0, :4, :2], [[52, 52], [68, 52], [52, 88], [68, 88]])
    np.testing.assert_allclose(truth.joints[1, :4, :2], [[68, 61], [76, 61], [68, 79], [76, 79]])
    assert truth.visible[0, :4].all() and truth.visible[1, :4].tolist() == [False, True, False, True]
    assert not truth.visible[:, 4:].any()
    np.testing.assert_allclose(truth.share, [1, 0.7])
    cut_off = compose(background, [near], [Place(5, 90, 1)])
    assert cut_off.visible[0, :4].tolist() == [False, True, False, True] and cut_off.share[0] == 0.75


def test_a_street_shows_nobody_and_places_stand_on_it():
    photo = block(250)
    back = street(photo, 150)
    assert back.shape == (60, 150, 3) and not back.any()
    places, width = choose_places([photo] * 5, photo, np.random.default_rng(0))
    x, y, scale = (np.array([getattr(place, name) for place in places]) for name in ("x", "y", "scale"))
    assert (np.diff(x) > 0).all() and (scale > 0.3).all() and (scale <= 1).all() and x[-1] < width + 20
    np.testing.assert_allclose(y - 40 * 0.85 * scale, (y - 40 * 0.85 * scale)[0], atol=1.0)  # one horizon
    again, _ = choose_places([photo] * 5, photo, np.random.default_rng(0))
    assert again == places


def test_half_of_the_composites_are_of_few():
    assert [people_of(n) for n in (0, 1, 2, 29, 30, 33, 59)] == [2, 3, 4, 4, 7, 6, 8]


def test_who_is_covered_stands_apart_from_who_is_not():
    rows = [(0, p, method, share, mm, mm, 5.0, 4.0) for method in ("keypoints", "dsr")
            for p, (share, mm) in enumerate(((1.0, 10.0), (0.95, 20.0), (0.5, 90.0)))]  # fmt: skip
    figures, (table,) = company_table(rows)
    assert figures["company_mm"][0] == 20 and figures["company_floor_mm"][0] == 5
    assert [row[:4] for row in table.rows[:3]] == [
        ("keypoints", "half covered", 1, 90), ("keypoints", "seen whole", 2, 15), ("keypoints", "all", 3, 20)
    ]  # fmt: skip
