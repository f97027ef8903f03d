"""Each person once: which of several skeletons are people, by hand."""

import numpy as np
import pytest

from fitter.see.each_once import (
    BODY,
    MIRROR_17,
    SIGMAS,
    Refusal,
    Skeleton,
    crushed,
    each_once,
    is_another,
    likeness,
    no_person,
)
from fitter.see.keypoints import COCO_17
from fitter.see.person_box import BOX_PADDING
from tests.test_people import figure

SIDE_PX = 184 * (1 + 2 * BOX_PADDING)  # of `figure`'s box


def skeleton(x, confidence=0.8, score=0.7):
    return Skeleton(np.array([x - 40.0, 0, x + 40, 200]), score, figure(x, confidence=confidence))


def test_likeness_by_hand():
    one = figure(0)
    assert likeness(one, one) == 1 == likeness(one, one[MIRROR_17])
    other = one.copy()
    other[13, 1] -= 2 * SIGMAS[13] * BODY * SIDE_PX  # a knee, one sigma of COCO's
    for size in (1, 3):
        assert likeness(one * [size, size, 1], other * [size, size, 1]) == pytest.approx(
            (16 + np.exp(-0.5)) / 17
        )
    other[13, 2] = 0.2  # not seen
    assert likeness(one, other) == 1
    assert likeness(one, one * [1, 1, 0]) == 0


def test_the_same_person_is_kept_once_and_the_better_seen_one():
    found = [skeleton(0, 0.5, 0.9), skeleton(300), skeleton(4, 0.8, 0.6)]
    kept, refused = each_once(found)
    assert sorted(kept) == [1, 2]
    assert refused == {0: Refusal("the same person again as in x0 y0 x1 y1 = -36 0 44 200", 2)}
    assert each_once(found[::-1])[0] == [0, 1]  # [2, 1] of the same three


def test_somebody_half_behind_somebody_else_is_somebody():
    found = [skeleton(0), skeleton(22)]  # a shoulder's breadth apart: joints of the middle lie on each other
    assert 0.15 < likeness(found[0].joints, found[1].joints)
    assert each_once(found) == ([0, 1], {})


def test_what_the_networks_doubt_is_no_person():
    assert no_person(figure(0)) == ""
    few = figure(0)
    few[5:, 2] = 0.35
    assert no_person(few) == "5 joints of a confidence above 0.38, expected 6"
    kept, refused = each_once([Skeleton(np.arange(4.0), 0.9, few)])
    assert kept == [] and refused == {0: Refusal("5 joints of a confidence above 0.38, expected 6")}
    few[5, 2] = 0.39
    assert no_person(few) == ""


def test_a_head_is_no_person():
    joints = np.zeros((21, 3))
    trunk = [COCO_17.index(name) for name in ("LShoulder", "RShoulder", "LHip", "RHip")]
    joints[trunk] = [[60, 10, 0.4], [20, 10, 0.4], [95, 14, 0.4], [-5, 18, 0.4]]
    assert crushed(joints)
    joints[trunk[2:], 1] += 60
    assert not crushed(joints)
    joints[trunk[2:], 1] -= 60
    joints[trunk[2], 2] = 0.2  # of a hip that is not seen nothing is said
    assert not crushed(joints)
    joints[:, 2] = joints[:, 2].clip(0.4)
    assert no_person(joints) == "a trunk that is far wider than long"


def test_a_second_look_must_show_somebody_else():
    people = [figure(0), figure(300)]
    assert is_another(figure(150), people)
    assert not is_another(figure(150, confidence=0.3), people)
    assert 0.2 < likeness(figure(22), people[0]) < 0.5 and not is_another(figure(22), people)
