"""Body parts as capsules along the keypoints."""

import numpy as np
import pytest

from fitter.see.keypoints import BODY_25
from fitter.see.limbs import PARTS, limb_capsules, part_distances, segment_distance, standing_height_px

# fmt: off
STANDING = {  # a person facing the camera, 330 px tall, the right side at the left
    "Nose": (100, 40), "REye": (95, 36), "LEye": (105, 36), "REar": (86, 40), "LEar": (114, 40),
    "RShoulder": (67, 80), "LShoulder": (133, 80), "RElbow": (57, 130), "LElbow": (143, 130),
    "RWrist": (52, 180), "LWrist": (148, 180), "RHip": (82, 182), "LHip": (118, 182), "RKnee": (80, 256),
    "LKnee": (120, 256), "RAnkle": (80, 335), "LAnkle": (120, 335), "RHeel": (80, 342), "LHeel": (120, 342),
    "RBigToe": (70, 352), "LBigToe": (130, 352),
}
# fmt: on


def person_keypoints(missing=(), shift_px=(0, 0)) -> np.ndarray:
    keypoints = np.zeros((25, 3))
    for name, (x, y) in STANDING.items():
        if name not in missing:
            keypoints[BODY_25.index(name)] = x + shift_px[0], y + shift_px[1], 1
    return keypoints


def nearest(points, keypoints):
    relative, _ = part_distances(np.array(points, float), keypoints)
    return [PARTS[i] for i in relative.argmin(1)]


def test_each_place_belongs_to_its_part():
    points = [(100, 30), (100, 60), (100, 120), (146, 160), (150, 200), (54, 150), (121, 300), (70, 350)]
    parts = ["head", "head", "torso", "left-arm", "left-arm", "right-arm", "left-leg", "right-leg"]
    assert nearest(points, person_keypoints()) == parts


def test_a_hand_before_the_thigh_is_the_hand():
    keypoints = person_keypoints()
    keypoints[BODY_25.index("LElbow"), :2] = 145, 140
    keypoints[BODY_25.index("LWrist"), :2] = 127, 190
    assert nearest([(121, 205)], keypoints) == ["left-arm"]


def test_parts_without_keypoints_are_infinitely_far():
    relative, beyond = part_distances(np.zeros((1, 2)), person_keypoints(missing=("LElbow", "LWrist")))
    for table in (relative, beyond):
        assert np.isinf(table[0, PARTS.index("left-arm")]) and np.isfinite(np.delete(table, 2, 1)).all()


def test_a_little_trusted_keypoint_counts_if_asked_for():
    keypoints = person_keypoints()
    keypoints[BODY_25.index("LElbow"), 2] = keypoints[BODY_25.index("LWrist"), 2] = 0.2
    parts = {part for part, *_ in limb_capsules(keypoints)}
    assert PARTS.index("left-arm") not in parts
    assert PARTS.index("left-arm") in {part for part, *_ in limb_capsules(keypoints, 0.15)}


def test_feet_of_the_other_leg_are_left_out():
    keypoints = person_keypoints()
    left, right = BODY_25.index("LBigToe"), BODY_25.index("RBigToe")
    assert nearest([(70, 350)], keypoints) == ["right-leg"]
    keypoints[[left, right]] = keypoints[[right, left]]
    assert nearest([(70, 350)], keypoints) == ["right-leg"]


def test_the_standing_height_is_that_of_the_longest_bones():
    keypoints = person_keypoints()
    height = standing_height_px(keypoints)
    assert 300 < height < 360
    keypoints[BODY_25.index("LElbow"), :2] = 140, 90  # an arm pointing at the camera
    assert standing_height_px(keypoints) == pytest.approx(height)
    scaled = keypoints * [2, 2, 1]
    assert standing_height_px(scaled) == pytest.approx(2 * height)
    only_nose = np.zeros((25, 3))
    only_nose[0] = 5, 5, 1
    assert standing_height_px(only_nose) == 1
    with pytest.raises(ValueError, match="expected a keypoint"):
        standing_height_px(np.zeros((25, 3)))


def test_segment_distance_by_hand():
    points = np.array([[0, 1], [-3, 4], [5, 0], [1, 0]], float)
    np.testing.assert_allclose(segment_distance(points, np.zeros(2), np.array([2.0, 0])), [1, 5, 3, 0])
    np.testing.assert_allclose(segment_distance(points, np.zeros(2), np.zeros(2)), [1, 5, 5, 1])
