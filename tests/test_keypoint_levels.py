"""benchmarks/keypoint_levels.py: whose heights are read, and how, on hand-made keypoints."""

import numpy as np
import pytest

from benchmarks.keypoint_levels import upright_shares
from fitter.see.keypoints import BODY_25, mirror_keypoints

HEIGHTS_PX = {"Eye": 100.0, "Shoulder": 170.0, "Hip": 300.0, "Knee": 420.0, "Ankle": 540.0}
HALF_PX = {"Eye": 8.0, "Shoulder": 50.0, "Hip": 30.0, "Knee": 32.0, "Ankle": 30.0}


def figure(**moved):
    """[25, 3]: somebody who stands straight and faces the camera, some points moved by (x, y) px."""
    keypoints = np.zeros((25, 3))
    for name, y in HEIGHTS_PX.items():
        for side, sign in (("L", 1), ("R", -1)):
            keypoints[BODY_25.index(side + name)] = 200 + sign * HALF_PX[name], y, 1
    for name, offset in moved.items():
        keypoints[BODY_25.index(name), :2] += offset
    return keypoints


EXPECTED = np.array([540 - 170, 540 - 300, 540 - 420, 60, 100]) / 440


def test_shares_by_hand():
    np.testing.assert_allclose(upright_shares(figure()), EXPECTED)
    np.testing.assert_allclose(upright_shares(figure() * [2, 2, 1] + [7, -30, 0]), EXPECTED)
    np.testing.assert_allclose(upright_shares(mirror_keypoints(figure(), 400)), EXPECTED)
    # one side lower than the other: the middle counts
    lower = upright_shares(figure(LKnee=(0, 8), RKnee=(0, 4)))
    np.testing.assert_allclose(lower, EXPECTED - np.array([0, 0, 6 / 440, 0, 0]))


@pytest.mark.parametrize(
    ("why", "moved"),
    {
        "a bent leg": {"RKnee": (-30, 0)},
        "a bent leg, the other": {"LKnee": (30, 0)},
        "legs apart": {"LKnee": (25, 0), "LAnkle": (50, 0)},
        "a leaning trunk": {"LShoulder": (16, 0), "RShoulder": (16, 0)},
        "a foot raised": {"LAnkle": (0, -20)},
        "from the side": {"LShoulder": (-20, 0), "RShoulder": (20, 0)},
    }.items(),
)
def test_who_does_not_stand_straight_does_not_count(why, moved):
    assert upright_shares(figure(**moved)) is None, why


@pytest.mark.parametrize("name", ["REye", "LAnkle", "RHip"])
def test_who_is_not_seen_whole_does_not_count(name):
    keypoints = figure()
    keypoints[BODY_25.index(name), 2] = 0.29
    assert upright_shares(keypoints) is None
