"""Keypoint files of all kinds become the same BODY_25 people; bad files say what is wrong with them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fitter.see.keypoint_targets import LAYOUTS, TARGET_NAMES, body_targets
from fitter.see.keypoints import (
    BODY_25,
    COCO_17,
    FEET,
    MIRROR_25,
    OPENPOSE_COCO_18,
    SOURCES,
    Person,
    find_keypoints,
    mirror_keypoints,
    read_coco,
    read_openpose,
    select_people,
    to_body_25,
)
from fitter.see.person_box import keypoint_box
from priors.skeleton import JOINT_NAMES, MIRROR_JOINTS

RANDOM = np.random.default_rng(0)


def some_keypoints(names) -> dict[str, list[float]]:
    """Keypoints within 10..400 px, confidence 0.1..1."""
    return {name: RANDOM.uniform([10, 10, 0.1], [400, 400, 1]).round(3).tolist() for name in names}


def write_openpose(path: Path, people: list, **more) -> Path:
    path.write_text(json.dumps({"version": 1.3, "people": people, **more}))
    return path


def openpose_person(keypoints: dict, names, **more) -> dict:
    return {"pose_keypoints_2d": [v for name in names for v in keypoints.get(name, [0, 0, 0])], **more}


def coco_annotations(entries: list[dict]) -> dict:
    images = [{"id": 7, "file_name": "train/a.jpg"}, {"id": 8, "file_name": "b.jpg"}]
    return {"images": images, "annotations": entries}


def test_openpose_body_25_is_taken_as_it_is(tmp_path):
    keypoints = some_keypoints(BODY_25)
    path = write_openpose(
        tmp_path / "a_keypoints.json", [openpose_person(keypoints, BODY_25, person_id=[-1])]
    )
    (person,) = read_openpose(path)
    np.testing.assert_array_equal(person.keypoints_px, [keypoints[name] for name in BODY_25])
    assert (person.id, person.source, person.derived) == ("0", "openpose", ())


@pytest.mark.parametrize("names", [OPENPOSE_COCO_18, COCO_17 + ("x", "x") + FEET])
def test_openpose_other_layouts_land_on_the_same_names(tmp_path, names):
    keypoints = some_keypoints(set(names) & set(BODY_25))
    more = {"format": "BODY_25B"} if len(names) == 25 else {}
    path = write_openpose(tmp_path / "a.json", [openpose_person(keypoints, names)], **more)
    (person,) = read_openpose(path)
    for name, value in keypoints.items():
        assert person.keypoints_px[BODY_25.index(name)].tolist() == value
    left, right = (np.array(keypoints[side]) for side in ("LHip", "RHip"))
    middle = person.keypoints_px[BODY_25.index("MidHip")]
    np.testing.assert_allclose(middle, [*(left[:2] + right[:2]) / 2, min(left[2], right[2])])
    assert "MidHip" in person.derived


def test_openpose_ids_tracked_or_by_index_and_empty_people_left_out(tmp_path):
    people = [openpose_person(some_keypoints(BODY_25), BODY_25, person_id=[i]) for i in (5, 3)]
    assert [p.id for p in read_openpose(write_openpose(tmp_path / "a.json", people))] == ["5", "3"]
    people[0]["person_id"] = [-1]
    people.insert(1, openpose_person({}, BODY_25))
    assert [p.id for p in read_openpose(write_openpose(tmp_path / "b.json", people))] == ["0", "2"]


def test_coco_annotation_visibility_and_pixel_centres(tmp_path):
    flat = [v for i in range(17) for v in (100 + i, 200 + i, i % 3)]
    entries = [
        {"id": 31, "image_id": 7, "keypoints": flat, "foot_kpts": [50, 60, 2] * 6},
        {"id": 32, "image_id": 7, "keypoints": flat, "iscrowd": 1},
        {"id": 33, "image_id": 7, "keypoints": [0] * 51},
        {"id": 34, "image_id": 8, "keypoints": flat},
    ]
    path = tmp_path / "person_keypoints.json"
    path.write_text(json.dumps(coco_annotations(entries)))
    (person,) = find_keypoints("photos/a.jpg", path)
    assert (person.id, person.source, person.derived) == ("31", "coco", ("Neck", "MidHip"))
    for i, name in enumerate(COCO_17):
        expected = [100.5 + i, 200.5 + i, i % 3 / 2] if i % 3 else [0, 0, 0]
        assert person.keypoints_px[BODY_25.index(name)].tolist() == expected, name
    assert person.keypoints_px[BODY_25.index("LSmallToe")].tolist() == [50.5, 60.5, 1]


def test_coco_derived_points_are_missing_when_one_side_is(tmp_path):
    keypoints = np.column_stack([RANDOM.uniform(0, 99, (17, 2)), np.ones(17)])
    keypoints[COCO_17.index("LHip"), 2] = 0
    body, _ = to_body_25(keypoints, COCO_17)
    assert body[BODY_25.index("MidHip")].tolist() == [0, 0, 0]
    assert body[BODY_25.index("Neck"), 2] == 1


@pytest.mark.parametrize("image_id", [139, "000000000139", "000000000139.jpg"])
def test_coco_results_by_image_id(tmp_path, image_id):
    path = tmp_path / "results.json"
    flat = [v for i in range(17) for v in (i, 2 * i + 1, 0.9)]
    path.write_text(json.dumps([{"image_id": image_id, "category_id": 1, "keypoints": flat, "score": 0.7}]))
    (person,) = find_keypoints("000000000139.jpg", path)
    assert person.score == 0.7
    assert person.keypoints_px[BODY_25.index("RAnkle")].tolist() == [16, 33, 0.9]
    assert find_keypoints("000000000140.jpg", path) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{not json", "expected JSON"),
        ('{"people": 3}', "expected OpenPose JSON with a list 'people'"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', r"expected 25 \(BODY_25\) or 18"),
        ('{"people": [{"pose_keypoints_2d": ["a"]}]}', r"people\[0\]"),
        (
            '{"people": [{"pose_keypoints_2d": [' + "NaN, " * 74 + "1]}]}",
            "expected finite numbers, got nan",
        ),
        ('{"images": [], "annotations": [{"bbox": 1}]}', "expected annotations with 'keypoints'"),
        ('{"images": [{"id": 1, "file_name": "other.jpg"}], "annotations": []}', "expected 'a.jpg' among"),
        ("[1, 2]", "or a COCO results list, got a list of 2"),
        ('{"images": [], "annotations": [{"image_id": 9, "keypoints": []}]}', "KeyError"),
        ('[{"image_id": "a", "keypoints": [1, 2]}]', r"expected 17 \(COCO\)"),
    ],
)
def test_bad_files_are_named_with_what_was_expected(tmp_path, content, expected):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=expected) as error:
        find_keypoints("a.jpg", path)
    assert "broken.json" in str(error.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected a_keypoints.json in .*, found none"):
        find_keypoints("x/a.jpg", tmp_path)
    with pytest.raises(ValueError, match="expected a COCO JSON file or a folder"):
        find_keypoints("x/a.jpg", tmp_path / "none.json")


def test_bad_visibility_is_refused(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(coco_annotations([{"id": 1, "image_id": 7, "keypoints": [9, 9, 3] * 17}])))
    with pytest.raises(ValueError, match="visibility v of 0, 1 or 2"):
        read_coco(path, "a.jpg")


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


def test_written_keypoints_say_whose_they_are(tmp_path):
    from fitter.see import keypoints

    person = Person("0", np.tile([10.0, 20.0, 1.0], (25, 1)), "detector", np.array([0.0, 0, 20, 30]))
    keypoints.write_openpose(tmp_path / "a.json", [person])
    assert read_openpose(tmp_path / "a.json")[0].source == "detector"
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace("detector", "alphapose"))
    with pytest.raises(ValueError, match="keypoint_source of openpose, coco, detector, got 'alphapose'"):
        read_openpose(tmp_path / "a.json")


def test_unknown_source_is_refused():
    with pytest.raises(ValueError, match="expected one of openpose, coco, detector, got 'alphapose'"):
        body_targets("alphapose", 0.07, 0.17)
    with pytest.raises(ValueError, match="expected one of open, smpl, got 'star'"):
        body_targets("coco", 0.07, 0.17, "star")


def test_real_files_read():
    folder = os.environ.get("DSR_TEST_DATA")
    if not folder:
        pytest.skip("DSR_TEST_DATA names no folder with photos and their OpenPose files")
    files = sorted(Path(folder).rglob("*_keypoints.json"))
    assert files
    for path in files:
        (person,) = find_keypoints(path.name.replace("_keypoints.json", ".jpg"), path.parent)
        assert (person.keypoints_px[:, 2] > 0.3).sum() >= 20
