"""What of a person is believed and seen: joints at the photo's edge, people cut off."""

import dataclasses

import numpy as np
import pytest

from fitter.people import Sighting, observe
from fitter.see.camera import default_camera
from fitter.see.keypoints import BODY_25, Person
from fitter.see.person_box import keypoint_box
from fitter.see.visibility import (
    EDGE,
    GUESSED,
    OUTSIDE,
    SEEN,
    believed,
    joint_states,
    scale_px,
    within_photo,
)
from priors.skeleton import JOINT_NAMES

SIZE = (400, 600)


def person(points: dict[str, tuple[float, float, float]], source: str = "detector") -> Person:
    keypoints = np.zeros((25, 3))
    for name, point in points.items():
        keypoints[BODY_25.index(name)] = point
    return Person("0", keypoints, source, keypoint_box(keypoints))


def standing() -> dict[str, tuple[float, float, float]]:
    """In px of a person 500 px tall whose eyes are at y = 50."""
    middle = {"Nose": (200, 55, 0.9)}
    sides = {"Eye": (8, 50), "Ear": (18, 52), "Shoulder": (48, 120), "Elbow": (60, 210), "Wrist": (64, 290),
             "Hip": (30, 275), "Knee": (30, 390), "Ankle": (30, 510)}  # fmt: skip
    return middle | {
        side + name: (200 + sign * x, y, 0.8)
        for name, (x, y) in sides.items()
        for side, sign in (("L", 1), ("R", -1))
    }


def test_detected_joints_fade_towards_the_edge_and_are_gone_beyond_it():
    points = standing()
    side = max(np.ptp(keypoint_box(person(points).keypoints_px).reshape(2, 2), axis=0))
    edge = 600 - np.array([-5, 0.25, 0.5, 1.0]) * [1, *[EDGE * side] * 3]
    for y, share in zip(edge, (0, 0.25, 0.5, 1), strict=True):
        one = person(points)
        one.keypoints_px[BODY_25.index("LKnee"), 1] = y  # after the box was made
        found = within_photo(one, SIZE)
        assert found[BODY_25.index("LKnee"), 2] == pytest.approx(0.8 * share, abs=1e-9)
        assert found[BODY_25.index("RKnee"), 2] == 0.8
        assert share > 0 or not found[BODY_25.index("LKnee")].any()
    given = dataclasses.replace(one, source="coco")
    np.testing.assert_array_equal(within_photo(given, SIZE), one.keypoints_px)


def test_a_derived_neck_is_as_sure_as_the_worse_shoulder():
    points = standing() | {"Neck": (200, 120, 0.8)}
    one = dataclasses.replace(person(points), derived=("Neck",))
    one.keypoints_px[BODY_25.index("LShoulder"), 0] = 400
    assert within_photo(one, SIZE)[BODY_25.index("Neck"), 2] == 0


def test_the_detectors_low_confidences_say_nothing():
    confidence = np.array([0, 0.1, 0.15, 0.3, 0.45, 0.9])
    np.testing.assert_allclose(believed(confidence, "detector"), [0, 0, 0.0375, 0.3, 0.45, 0.9])
    np.testing.assert_array_equal(believed(confidence, "openpose"), confidence)


def test_people_cut_off_are_as_large_as_they_are():
    whole = person(standing())
    above = ("Nose", "Eye", "Ear", "Shoulder", "Elbow")
    cut = person({name: point for name, point in standing().items() if name.endswith(above)})
    assert scale_px(whole) == pytest.approx(np.ptp(whole.box_px.reshape(2, 2), axis=0).max(), rel=0.15)
    assert np.ptp(cut.box_px.reshape(2, 2), axis=0).max() < 0.5 * scale_px(cut)
    assert scale_px(cut) == pytest.approx(scale_px(whole), rel=0.25)


def test_face_alone_is_sized_by_its_ears():
    face = person({name: p for name, p in standing().items() if name.endswith(("Nose", "Eye", "Ear"))})
    assert scale_px(face) == pytest.approx(36 / 0.09)


def test_what_is_observed_is_within_the_photo(toy_body):
    one = person(standing())
    one.keypoints_px[BODY_25.index("LAnkle"), 1] = 604
    seen = Sighting("a.jpg", one, default_camera(*SIZE))
    observation = observe([seen], toy_body)
    assert observation.confidence[0, BODY_25.index("LAnkle")] == 0
    assert observation.confidence[0, BODY_25.index("RAnkle")] > 0.5


def test_joints_are_seen_guessed_or_outside():
    confidence = np.where(np.isin(BODY_25, ["Nose", "LShoulder", "RShoulder", "LElbow", "RHip"]), 0.8, 0.2)
    joints = np.tile([200.0, 300.0], (24, 1))
    joints[[JOINT_NAMES.index(name) for name in ("left_knee", "left_elbow")]] = 200, 700
    joints[JOINT_NAMES.index("left_ankle")] = np.nan
    states = dict(zip(JOINT_NAMES, joint_states(confidence, joints, SIZE), strict=True))
    seen = {name for name, state in states.items() if state == SEEN}
    arms = {"left_shoulder", "left_collar", "left_elbow", "right_shoulder", "right_collar"}
    assert seen == {"pelvis", "spine1", "spine2", "spine3", "neck", "head", "right_hip"} | arms
    assert {name for name, state in states.items() if state == OUTSIDE} == {"left_knee", "left_ankle"}
    assert states["right_ankle"] == states["left_wrist"] == GUESSED
