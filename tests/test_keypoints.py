"""What keypoints are, and what each is matched to on the body."""

import numpy as np
import pytest

from fitter.see.keypoint_targets import LAYOUTS, TARGET_NAMES, body_targets
from fitter.see.keypoints import (
    BODY_25,
    COCO_17,
    MIRROR_25,
    SOURCES,
    Person,
    confident,
    mirror_keypoints,
    select_people,
    to_body_25,
)
from fitter.see.person_box import keypoint_box
from priors.skeleton import JOINT_NAMES, MIRROR_JOINTS

RANDOM = np.random.default_rng(0)


def test_derived_points_are_missing_when_one_side_is():
    keypoints = np.column_stack([RANDOM.uniform(0, 99, (17, 2)), np.ones(17)])
    keypoints[COCO_17.index("LHip"), 2] = 0
    body, _ = to_body_25(keypoints, COCO_17)
    assert body[BODY_25.index("MidHip")].tolist() == [0, 0, 0]
    assert body[BODY_25.index("Neck"), 2] == 1


def test_only_what_was_seen_for_itself_counts():
    keypoints = np.ones((17, 3)) * [[50, 60, 0.9]]
    keypoints[:5, 2] = 0.3
    body, derived = to_body_25(keypoints, COCO_17)
    assert body[BODY_25.index("Neck"), 2] == 0.9 and confident(body, ()).sum() == 14
    assert confident(body, derived).sum() == 12


def person_of_size(name: str, size: float) -> Person:
    keypoints = np.zeros((25, 3))
    keypoints[:2] = [[0, 0, 1], [size, size, 1]]
    return Person(name, keypoints, "coco", keypoint_box(keypoints))


def test_select_people():
    people = [person_of_size(name, size) for name, size in zip("abcd", (3, 9, 1, 5), strict=True)]
    chosen = {
        choice: "".join(p.id for p in select_people(people, choice)) for choice in ("all", "largest", 2, "3")
    }
    assert chosen == {"all": "abcd", "largest": "b", 2: "bd", "3": "abd"}
    assert select_people([], "largest") == []
    for wrong in ("some", 0, -1):
        with pytest.raises(ValueError, match="expected 'all', 'largest' or a number"):
            select_people(people, wrong)


def test_box_spans_the_confident_keypoints_with_padding():
    keypoints = np.zeros((25, 3))
    keypoints[:3] = [[100, 100, 1], [200, 300, 0.5], [900, 900, 0.2]]
    np.testing.assert_allclose(keypoint_box(keypoints), [76, 76, 224, 324])
    with pytest.raises(ValueError, match="confidence > 0, got none"):
        keypoint_box(np.zeros((25, 3)))


def test_mirroring_twice_is_nothing_and_swaps_sides():
    keypoints = np.column_stack([RANDOM.uniform(1, 99, (25, 2)), np.ones(25)])
    keypoints[3] = 0
    mirrored = mirror_keypoints(keypoints, 100)
    assert mirrored[BODY_25.index("LWrist"), 0] == pytest.approx(100 - keypoints[BODY_25.index("RWrist"), 0])
    np.testing.assert_allclose(mirror_keypoints(mirrored, 100), keypoints)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("source", SOURCES)
def test_targets_are_symmetric_and_sum_to_one(source, layout):
    matrix, trust = body_targets(source, 0.07, 0.17, layout)
    landmark_mirror = [TARGET_NAMES.index(swapped(name)) for name in TARGET_NAMES]
    assert landmark_mirror[:24] == list(MIRROR_JOINTS)
    np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_allclose(matrix[list(MIRROR_25)][:, landmark_mirror], matrix)
    np.testing.assert_array_equal(trust[list(MIRROR_25)], trust)
    assert ((trust >= 0) & (trust <= 1)).all()


def swapped(name: str) -> str:
    side = {"left": "right", "right": "left"}.get(name.split("_")[0])
    return f"{side}_{name.split('_', 1)[1]}" if side else name


@pytest.mark.parametrize(("hip", "shoulder"), [(0.07, 0.17), (0.11, 0.19)])
def test_hips_and_shoulders_lie_where_keypoints_do_on_any_body(hip, shoulder):
    matrix, _ = body_targets("coco", hip, shoulder)
    points = np.zeros((len(TARGET_NAMES), 3))
    points[JOINT_NAMES.index("neck")] = [0, 0.3, 0]
    for sign, side in ((1, "left"), (-1, "right")):
        points[JOINT_NAMES.index(f"{side}_hip")] = [sign * hip, -0.3, 0]
        points[JOINT_NAMES.index(f"{side}_shoulder")] = [sign * shoulder, 0.2, 0]
    keypoints = dict(zip(BODY_25, matrix @ points, strict=True))
    layout = LAYOUTS["smpl"]["coco"]
    np.testing.assert_allclose(keypoints["LHip"], [layout.hip_half_m, -0.3, 0])
    risen = 0.2 + 0.1 * layout.shoulder_rise
    np.testing.assert_allclose(keypoints["RShoulder"], [-layout.shoulder_half_m, risen, 0])
    np.testing.assert_allclose(keypoints["Neck"], [0, risen, 0], atol=1e-12)


def test_knees_and_ankles_are_smpls_own_and_shifted_on_the_open_body():
    points = np.zeros((len(TARGET_NAMES), 3))
    for name, height in (("hip", 0.9), ("knee", 0.5), ("ankle", 0.1)):
        points[TARGET_NAMES.index(f"left_{name}"), 1] = height
    rows = [BODY_25.index(name) for name in ("LHip", "LKnee", "LAnkle")]
    own, shifted = (
        (body_targets("detector", 0.1, 0.17, name)[0] @ points)[rows, 1] for name in ("smpl", "open")
    )
    np.testing.assert_allclose(own[1:], [0.5, 0.1])
    open_body = LAYOUTS["open"]["detector"]
    np.testing.assert_allclose(
        shifted[1:], [0.5 - 0.4 * open_body.knee_drop, 0.1 + 0.4 * open_body.ankle_rise]
    )
    assert shifted[0] < own[0]  # the thigh starts below the hip joint


def test_sources_differ_on_the_open_body():
    knee = BODY_25.index("LKnee")
    by_source = {source: body_targets(source, 0.1, 0.17, "open")[0][knee] for source in SOURCES}
    np.testing.assert_array_equal(by_source["openpose"], by_source["coco"])
    assert by_source["openpose"][TARGET_NAMES.index("left_knee")] == 1
    assert by_source["detector"][TARGET_NAMES.index("left_ankle")] > 0.05


def test_unknown_source_is_refused():
    with pytest.raises(ValueError, match="expected one of openpose, coco, detector, got 'alphapose'"):
        body_targets("alphapose", 0.07, 0.17)
    with pytest.raises(ValueError, match="expected one of open, smpl, got 'star'"):
        body_targets("coco", 0.07, 0.17, "star")
