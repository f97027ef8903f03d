"""Keypoint files of all kinds become the same BODY_25 people; whose they are, and of which photo, is never guessed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fitter.see.keypoint_checks import Found, of_this_photo, orientation_of, scattered
from fitter.see.keypoint_files import check_keypoints, find_keypoints, find_people, write_openpose
from fitter.see.keypoint_orders import ORDERS, keypoint_of, names_in_file, read_order
from fitter.see.keypoints import BODY_25, COCO_17, FEET, OPENPOSE_COCO_18, Person, to_body_25
from fitter.see.person_box import keypoint_box
from fitter.see.photos import Photo, result_names

RANDOM = np.random.default_rng(0)
# somebody who stands in a photo of 640 x 480, px
STANDING = {
    "Nose": (320, 80), "LEye": (326, 74), "REye": (314, 74), "LEar": (334, 78), "REar": (306, 78),
    "LShoulder": (360, 130), "RShoulder": (280, 130), "LElbow": (378, 190), "RElbow": (262, 190), "LWrist": (384, 245),
    "RWrist": (256, 245), "LHip": (345, 250), "RHip": (295, 250), "LKnee": (350, 340), "RKnee": (290, 340),
    "LAnkle": (352, 430), "RAnkle": (288, 430), "Neck": (320, 130), "MidHip": (320, 250), "LBigToe": (362, 445),
    "LSmallToe": (370, 442), "LHeel": (350, 440), "RBigToe": (278, 445), "RSmallToe": (270, 442), "RHeel": (290, 440),
}  # fmt: skip
SIZE = (640, 480)


def points(names, third=0.9) -> list[list[float]]:
    """STANDING in an order of names, [K, 3]; of other points something off the body."""
    return [[*STANDING[name], third] if name else [600, 10, third] for name in names]


def flat(names, third=0.9) -> list[float]:
    return [value for point in points(names, third) for value in point]


def dump(path: Path, data) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def photo(image: str, name: str | None = None) -> Photo:
    return Photo(Path("/photos") / image, image, name or image.rpartition(".")[0])


def some_keypoints(names) -> dict[str, list[float]]:
    """Keypoints within 10..400 px, confidence 0.1..1."""
    return {name: RANDOM.uniform([10, 10, 0.1], [400, 400, 1]).round(3).tolist() for name in names}


def openpose(path: Path, people: list, **more) -> Path:
    return dump(path, {"version": 1.3, "people": people, **more})


def openpose_person(keypoints: dict, names, **more) -> dict:
    return {"pose_keypoints_2d": [v for name in names for v in keypoints.get(name, [0, 0, 0])], **more}


def annotations(entries: list[dict], images=None, **more) -> dict:
    images = images or [{"id": 7, "file_name": "train/a.jpg"}, {"id": 8, "file_name": "b.jpg"}]
    return {"images": images, "annotations": entries, **more}


def stands(person: Person, names, shift=0.0) -> None:
    """The person is STANDING, in all points of the names that BODY_25 has."""
    for name in set(names) - {None}:
        np.testing.assert_allclose(
            person.keypoints_px[BODY_25.index(name), :2], np.add(STANDING[name], shift)
        )


# what is read


def test_openpose_body_25_is_taken_as_it_is(tmp_path):
    keypoints = some_keypoints(BODY_25)
    path = openpose(tmp_path / "a_keypoints.json", [openpose_person(keypoints, BODY_25, person_id=[-1])])
    (person,) = find_keypoints("a.jpg", path)
    np.testing.assert_array_equal(person.keypoints_px, [keypoints[name] for name in BODY_25])
    assert (person.id, person.source, person.derived) == ("0", "openpose", ())


@pytest.mark.parametrize("field", ["pose_keypoints_2d", "pose_keypoints"])
@pytest.mark.parametrize("names", [OPENPOSE_COCO_18, COCO_17 + ("x", "x") + FEET])
def test_openpose_other_layouts_land_on_the_same_names(tmp_path, names, field):
    keypoints = some_keypoints(set(names) & set(BODY_25))
    more = {"format": "BODY_25B"} if len(names) == 25 else {}
    entry = {field: openpose_person(keypoints, names)["pose_keypoints_2d"]}
    (person,) = find_keypoints("a.jpg", openpose(tmp_path / "a.json", [entry], **more))
    for name, value in keypoints.items():
        assert person.keypoints_px[BODY_25.index(name)].tolist() == value
    left, right = (np.array(keypoints[side]) for side in ("LHip", "RHip"))
    middle = person.keypoints_px[BODY_25.index("MidHip")]
    np.testing.assert_allclose(middle, [*(left[:2] + right[:2]) / 2, min(left[2], right[2])])
    assert "MidHip" in person.derived


def test_openpose_ids_tracked_or_by_index_and_people_without_points_said(tmp_path):
    people = [openpose_person(some_keypoints(BODY_25), BODY_25, person_id=[i]) for i in (5, 3)]
    path = openpose(tmp_path / "a.json", people)
    assert [p.id for p in find_keypoints("a.jpg", path)] == ["5", "3"]
    people[0]["person_id"] = [-1]
    people.insert(1, openpose_person({}, BODY_25))
    found = find_people(photo("b.jpg"), openpose(tmp_path / "b.json", people))
    assert [p.id for p in found.people] == ["0", "2"]
    assert found.left_out == [f"{tmp_path / 'b.json'}, person 1: no keypoint"]


def test_coco_annotation_visibility_and_pixel_centres(tmp_path):
    values = [v for i in range(17) for v in (100 + i, 200 + i, i % 3)]
    entries = [
        {"id": 31, "image_id": 7, "keypoints": values, "foot_kpts": [50, 60, 2] * 6},
        {"id": 32, "image_id": 7, "keypoints": values, "iscrowd": 1},
        {"id": 33, "image_id": 7, "keypoints": [0] * 51},
        {"id": 34, "image_id": 8, "keypoints": values},
    ]
    path = dump(tmp_path / "person_keypoints.json", annotations(entries))
    found = find_people(photo("a.jpg"), path)
    (person,) = found.people
    assert (person.id, person.source, person.derived) == ("31", "coco", ("Neck", "MidHip"))
    for i, name in enumerate(COCO_17):
        expected = [100.5 + i, 200.5 + i, i % 3 / 2] if i % 3 else [0, 0, 0]
        assert person.keypoints_px[BODY_25.index(name)].tolist() == expected, name
    assert person.keypoints_px[BODY_25.index("LSmallToe")].tolist() == [50.5, 60.5, 1]
    assert [reason.rpartition(", ")[2] for reason in found.left_out] == [
        "annotation 32: a crowd", "annotation 33: no keypoint"
    ]  # fmt: skip


def test_confidences_in_the_place_of_visibilities_are_taken_as_such(tmp_path):
    path = dump(tmp_path / "c.json", annotations([{"id": 1, "image_id": 8, "keypoints": flat(COCO_17, 0.7)}]))
    (person,) = find_keypoints("b.jpg", path)
    assert person.keypoints_px[BODY_25.index("RAnkle")].tolist() == [288, 430, 0.7]


@pytest.mark.parametrize("image_id", [139, "000000000139", "000000000139.jpg", "val2017/000000000139.jpg"])
@pytest.mark.parametrize("image", ["000000000139.jpg", "COCO_val2014_000000000139.jpg"])
def test_coco_results_by_image_id(tmp_path, image_id, image):
    values = [{"image_id": image_id, "category_id": 1, "keypoints": flat(COCO_17), "score": 0.7}]
    path = dump(tmp_path / "results.json", values)
    if image_id != 139 and image.startswith("COCO"):
        with pytest.raises(ValueError, match="found no entry for it"):
            find_keypoints(image, path)
        return
    (person,) = find_keypoints(image, path)
    assert person.score == 0.7
    stands(person, COCO_17)


NAMED = {"halpe_26": 26, "halpe_136": 136, "wholebody_133": 133, "coco": 17}


@pytest.mark.parametrize("order", NAMED)
def test_alphapose_and_vitpose_lists(tmp_path, order):
    names = ORDERS[order]
    assert len(names) == NAMED[order]
    entry = {"image_id": "a.jpg", "category_id": 1, "keypoints": flat(names), "score": 3.2, "idx": [0.0]}
    (person,) = find_keypoints("a.jpg", dump(tmp_path / "alphapose-results.json", [entry]))
    stands(person, names)
    assert person.score == 1 and person.source == "coco" and set(person.derived) == {"Neck", "MidHip"}


@pytest.mark.parametrize("layout", ["list", "info", "named", "nested"])
@pytest.mark.parametrize("order", ["coco", "halpe_26"])
def test_mmpose_predictions(tmp_path, layout, order):
    names = ORDERS[order]
    if layout == "named":
        names = names[::-1]
    places = [point[:2] for point in points(names)]
    entry = {
        "keypoints": places,
        "keypoint_scores": [0.8] * len(names),
        "bbox": [[0, 0, 9, 9]],
        "bbox_score": 0.6,
    }
    called = {str(at): name or f"point {at}" for at, name in enumerate(names)}
    data = {
        "list": [entry],
        "info": {"instance_info": [entry]},
        "named": {"meta_info": {"keypoint_id2name": called}, "instance_info": [entry]},
        "nested": [[entry]],
    }[layout]
    dump(tmp_path / "predictions" / "a.json", data)
    (person,) = find_keypoints("a.jpg", tmp_path / "predictions")
    stands(person, names)
    assert person.score == 0.6 and person.keypoints_px[0, 2] == 0.8


def test_crowdpose_by_its_names_or_the_users_word(tmp_path):
    names = ORDERS["crowdpose"]
    entry = {"id": 1, "image_id": 8, "category_id": 1, "keypoints": flat(names, 2)}
    bare = dump(tmp_path / "bare.json", annotations([entry]))
    with pytest.raises(ValueError, match="14 keypoints, expected 17, .*--keypoint-names FILE"):
        find_keypoints("b.jpg", bare)
    stands(find_people(photo("b.jpg"), bare, "crowdpose").people[0], names, 0.5)
    own = [f"{'left' if n[0] == 'L' else 'right'}_{n[1:].lower()}" for n in names[:12]] + ["head", "neck"]
    categories = [{"id": 1, "name": "person", "keypoints": own}]
    named = dump(tmp_path / "named.json", annotations([entry], categories=categories))
    stands(find_keypoints("b.jpg", named)[0], names, 0.5)


def test_the_names_of_a_category_go_before_the_count(tmp_path):
    names = COCO_17[::-1]
    categories = [{"id": 1, "name": "person", "keypoints": list(names)}]
    entry = {"id": 1, "image_id": 8, "category_id": 1, "keypoints": flat(names, 2)}
    path = dump(tmp_path / "c.json", annotations([entry], categories=categories))
    stands(find_keypoints("b.jpg", path)[0], names, 0.5)


def test_written_keypoints_say_whose_they_are(tmp_path):
    person = Person("0", np.tile([10.0, 20.0, 1.0], (25, 1)), "detector", np.array([0.0, 0, 20, 30]))
    write_openpose(tmp_path / "a.json", [person])
    assert find_keypoints("a.jpg", tmp_path / "a.json")[0].source == "detector"
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace("detector", "alphapose"))
    with pytest.raises(ValueError, match="keypoint_source of openpose, coco, detector, got 'alphapose'"):
        find_keypoints("a.jpg", tmp_path / "a.json")


# names


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((name, "LShoulder") for name in ("left_shoulder", "LShoulder", "l_shoulder", "shoulder.L", "lshoulder")),
        ("Left Shoulder", "LShoulder"), ("rightKnee", "RKnee"), ("R_Small_Toe", "RSmallToe"), ("REar", "REar"),
        ("rear", "REar"), ("pelvis", "MidHip"), ("hip", "MidHip"), ("Neck", "Neck"), ("left_foot_index", "LBigToe"),
        ("spine2", None), ("left_hand", None), ("head_top", None), (None, None), ("-", None), ("right_pinky_1", None),
    ],
)  # fmt: skip
def test_names_as_people_write_them(written, meant):
    assert keypoint_of(written) == meant


def test_any_order_by_a_file_of_names(tmp_path):
    names = (
        "RAnkle",
        None,
        "LWrist",
        "Nose",
        "LShoulder",
        "RShoulder",
        "LHip",
        "RHip",
        "LKnee",
        "RKnee",
        "LElbow",
        "RWrist",
    )
    path = openpose(tmp_path / "a.json", [{"pose_keypoints_2d": flat(names)}])
    with pytest.raises(ValueError, match="12 keypoints, expected 18, 25; say which is which"):
        find_keypoints("a.jpg", path)
    order = tmp_path / "order.yaml"
    order.write_text("\n".join(f"- {name or 'null'}" for name in names))
    person = find_people(photo("a.jpg"), path, str(order)).people[0]
    stands(person, names)
    assert person.source == "coco" and set(person.derived) == {"Neck", "MidHip"}
    order.write_text(f"source: openpose\nnames: [{', '.join(name or 'null' for name in names)}]")
    assert find_people(photo("a.jpg"), path, str(order)).people[0].source == "openpose"
    order.write_text("\n".join(f"- {name or 'null'}" for name in names[:-1]))
    with pytest.raises(ValueError, match="12 keypoints, expected 11, as --keypoint-names say"):
        find_people(photo("a.jpg"), path, str(order))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[left_sholder, nose]", "got 'left_sholder'; did you mean left_shoulder"),
        ("[nose, neck, nose, pelvis, left_hip]", "each keypoint once, .* got Nose twice"),
        ("[nose, neck]", "4 or more, got 2"),
        ("source: spin\nnames: [nose]", "expected a source of openpose, coco, detector, got 'spin'"),
        ("name: [nose]", "expected a list of names"),
        ("[nose", "expected YAML"),
    ],
)
def test_wrong_names_are_refused(tmp_path, text, expected):
    path = tmp_path / "order.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=expected) as error:
        read_order(str(path))
    assert "order.yaml" in str(error.value)
    with pytest.raises(ValueError, match="expected a YAML file or one of body_25, .*, got 'nothing'"):
        read_order("nothing")


def test_a_files_own_names_are_a_persons_or_none():
    arms = [f"{side}_{part}" for part in ("shoulder", "elbow", "wrist") for side in ("left", "right")]
    assert names_in_file([*arms, "neck"]) == (*COCO_17[5:11], None)
    assert names_in_file(["left_eye", "left_shoulder", "left_front_paw"]) is None


# what is refused


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{not json", "expected JSON"),
        ('{"people": 3}', "expected OpenPose JSON with a list 'people'"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "1 keypoints, expected 18, 25"),
        ('{"images": [], "annotations": [{"bbox": 1}]}', "expected annotations with 'keypoints'"),
        ('{"images": [{"id": 1, "file_name": "other.jpg"}], "annotations": []}', "'a.jpg' among its photos"),
        ("[1, 2]", "or MMPose's predictions .*, got a list of 2"),
        ('{"images": [3], "annotations": []}', "that are no such lists"),
        ('{"poses": []}', r"got an object with keys \['poses'\]"),
        ('[{"frame_id": 0, "instances": []}]', "frames of a video; write one file for each photo"),
        (json.dumps([{"image_id": "a", "keypoints": flat(COCO_17)}]), "nothing that says that they are COCO's"),
        ('[{"image_id": "b"}]', "found no entry"),
    ],
)  # fmt: skip
def test_bad_files_are_named_with_what_was_expected(tmp_path, content, expected):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=expected) as error:
        find_keypoints("a.jpg", path)
    assert "broken.json" in str(error.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected a_keypoints.json or a.json in .*, found none"):
        find_keypoints("x/a.jpg", tmp_path)
    with pytest.raises(ValueError, match="expected a JSON file or a folder"):
        find_keypoints("x/a.jpg", tmp_path / "none.json")


def human36m() -> list[list[float]]:
    """STANDING in Human3.6M's order, its head and spine in their places."""
    between = {7: (320, 190), 8: (320, 130), 9: (320, 95), 10: (320, 50)}
    names = ORDERS["human36m"]
    return [[*(STANDING[name] if name else between[at]), 0.9] for at, name in enumerate(names)]


@pytest.mark.parametrize("kind", ["results", "annotations", "mmpose", "openpose"])
def test_17_points_in_another_order_are_not_taken_for_cocos(tmp_path, kind):
    values = [v for point in human36m() for v in point]
    data = {
        "results": [{"image_id": "a.jpg", "category_id": 1, "score": 1, "keypoints": values}],
        "annotations": annotations([{"id": 1, "image_id": 7, "category_id": 1, "keypoints": values}],
                                   categories=[{"id": 1, "name": "person"}]),
        "mmpose": [{"keypoints": [p[:2] for p in human36m()], "keypoint_scores": [0.9] * 17}],
        "openpose": {"people": [{"pose_keypoints_2d": values}]},
    }[kind]  # fmt: skip
    path = dump(tmp_path / "a.json", data)
    with pytest.raises(ValueError, match="--keypoint-names FILE .* human36m"):
        find_keypoints("a.jpg", path)
    person = find_people(photo("a.jpg"), path, "human36m").people[0]
    stands(person, ORDERS["human36m"])
    with pytest.raises(ValueError, match="do not make a body in the order in which they were read"):
        find_people(photo("a.jpg"), path, "coco")


def test_a_body_is_no_scatter_and_too_few_points_say_nothing():
    body, derived = to_body_25(np.array(points(COCO_17)), COCO_17)
    assert scattered(Person("0", body, "coco", keypoint_box(body), derived=derived)) == pytest.approx(
        1.23, abs=0.01
    )
    body[8:] = 0
    assert scattered(Person("0", body, "coco", keypoint_box(body), derived=derived)) is None


# one bad entry costs nobody else


def test_one_bad_entry_is_left_out_and_said(tmp_path):
    good = {"image_id": 7, "category_id": 1, "keypoints": flat(COCO_17, 2)}
    broken = flat(COCO_17, 2)
    broken[3] = float("nan")
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    entries = [
        {**good, "id": 1},
        {**good, "id": 2, "keypoints": flat(COCO_17, 2)[:50]},
        {**good, "id": 3, "keypoints": broken},
        {**good, "id": 4, "keypoints": [9, 9, 3] * 17},
        {**good, "id": 5, "category_id": 2},
        {**good, "id": 6, "keypoints": [9, 9, 2] * 20},
        {**good, "id": 7, "keypoints": ["a"] * 51},
        {**good, "id": 8, "image_id": 99},
        {**good, "id": 9, "keypoints": None},
        "no entry at all",
    ]
    path = dump(tmp_path / "c.json", annotations(entries, categories=categories))
    found = find_people(photo("a.jpg"), path)
    assert [person.id for person in found.people] == ["1"]
    reasons = {
        2: "a list of 50 values, expected x, y",
        3: "keypoint 1 is [nan, 74.0], expected px",
        4: "v of 3",
        5: "category 2's keypoints are not a person's",
        6: "20 keypoints, expected 17",
        7: "expected numbers",
        9: "keypoints of None",
    }
    assert len(found.left_out) == len(reasons)
    for said, (number, reason) in zip(found.left_out, reasons.items(), strict=True):
        assert f"annotation {number}: " in said and reason in said
    assert check_keypoints([photo("a.jpg")], path, None) == [
        f"keypoints {path}: 1 entry is left out, of no photo that it lists"
    ]


def test_nan_beside_confidence_0_is_a_missing_keypoint(tmp_path):
    values = flat(BODY_25)
    values[:6] = [float("nan"), float("nan"), 0, None, None, None]
    (person,) = find_keypoints("a.jpg", openpose(tmp_path / "a.json", [{"pose_keypoints_2d": values}]))
    assert person.keypoints_px[:2].tolist() == [[0, 0, 0]] * 2 and (person.keypoints_px[2:, 2] == 0.9).all()


def test_ids_that_are_there_twice_or_no_file_name_are_made_such(tmp_path):
    entries = [
        {"id": number, "image_id": 8, "keypoints": flat(COCO_17, 2)} for number in (5, 5, "../x_1", "", "5-2")
    ]
    path = dump(tmp_path / "c.json", annotations(entries))
    assert [person.id for person in find_keypoints("b.jpg", path)] == ["5", "5-2", "x-1", "3", "5-2-2"]


# whose keypoints


def entry(image: str, shift: float) -> dict:
    values = (np.array(points(COCO_17, 2)) + [shift, 0, 0]).reshape(-1).tolist()
    return {"id": int(shift), "image_id": image, "keypoints": values}


def coco_of(path: Path, images: list[str]) -> Path:
    """A COCO file with somebody in each photo, whose id is the photo's place + 1."""
    listed = [{"id": image, "file_name": image} for image in images]
    return dump(path, annotations([entry(image, at + 1) for at, image in enumerate(images)], listed))


def who(photos: list[str], path: Path) -> list[str]:
    found = [photo(image) for image in photos]
    check_keypoints(found, path, None)
    return [find_people(one, path).people[0].id for one in found]


def test_names_in_several_folders_are_told_apart(tmp_path):
    images = ["seqA/000001.jpg", "seqB/000001.jpg", "000001.jpg"]
    path = coco_of(tmp_path / "c.json", images)
    assert who(images, path) == ["1", "2", "3"]
    assert who(images[::-1], path) == ["3", "2", "1"]
    longer = coco_of(tmp_path / "d.json", ["all/seqA/000001.jpg", "all/seqB/000001.jpg"])
    assert who(images[:2], longer) == ["1", "2"]
    with pytest.raises(ValueError, match="'all/seqA/000001.jpg' and 'all/seqB/000001.jpg'"):
        who(images[2:], longer)
    bare = coco_of(tmp_path / "e.json", ["000001.jpg"])
    assert who(images[1:2], bare) == ["1"]
    with pytest.raises(ValueError, match="got two that it may be of, seqA/000001.jpg and seqB/000001.jpg"):
        who(images[:2], bare)
    with pytest.raises(ValueError, match="'seqC/000001.jpg' among its photos, found no entry"):
        find_people(photo("seqC/000001.jpg"), coco_of(tmp_path / "f.json", ["seqA/000001.jpg"]))


def test_a_number_at_the_end_is_nobodys(tmp_path):
    """camA_17 and camB_17 took each other's people."""
    results = [{"image_id": 17, "category_id": 1, "keypoints": flat(COCO_17), "score": 1}]
    path = dump(tmp_path / "r.json", results)
    for name in ("camA_17.jpg", "camB_17.jpg"):
        with pytest.raises(
            ValueError, match="found no entry for it; nobody may be there, but a list of results"
        ):
            find_people(photo(name), path)
    assert len(find_people(photo("000017.jpg"), path).people) == 1
    with pytest.raises(ValueError, match="two that it may be of, a/17.jpg and b/17.jpg"):
        check_keypoints([photo("a/17.jpg"), photo("b/17.jpg")], path, None)


def test_no_entry_is_not_nobody(tmp_path):
    path = dump(tmp_path / "c.json", annotations([], [{"id": 1, "file_name": "a.jpg"}]))
    assert find_people(photo("a.jpg"), path).people == []
    with pytest.raises(ValueError, match="expected 'b.jpg' among its photos, found no entry for it"):
        find_people(photo("b.jpg"), path)
    with pytest.raises(ValueError, match="expected the photos, such as b.jpg, got none of them but a.jpg"):
        check_keypoints([photo("b.jpg")], path, None)


def test_one_file_for_two_photos_is_refused(tmp_path):
    images = ["a.jpg", "a.png"]
    photos = [photo(image, name) for image, name in zip(images, result_names(images), strict=True)]
    openpose(tmp_path / "k" / "a_keypoints.json", [{"pose_keypoints_2d": flat(BODY_25)}])
    with pytest.raises(
        ValueError, match="a.jpg and a.png; call them a_jpg_keypoints.json and a_png_keypoints.json"
    ):
        check_keypoints(photos, tmp_path / "k", None)
    openpose(tmp_path / "k" / "a_png_keypoints.json", [])
    check_keypoints(photos, tmp_path / "k", None)
    assert [len(find_people(one, tmp_path / "k").people) for one in photos] == [1, 0]
    nested = [photo("s/x.jpg"), photo("t/x.jpg")]
    openpose(tmp_path / "k" / "x_keypoints.json", [])
    with pytest.raises(ValueError, match="s/x.jpg and t/x.jpg; put them into folders as the photos'"):
        check_keypoints(nested, tmp_path / "k", None)
    openpose(tmp_path / "k" / "t" / "x_keypoints.json", [{"pose_keypoints_2d": flat(BODY_25)}])
    check_keypoints(nested, tmp_path / "k", None)
    assert [len(find_people(one, tmp_path / "k").people) for one in nested] == [0, 1]
    with pytest.raises(ValueError, match="may be of, s/x.jpg and t/x.jpg"):
        check_keypoints(nested, tmp_path / "k" / "x_keypoints.json", None)


def test_results_of_photos_that_share_a_stem_have_names_of_their_own():
    names = result_names(["a.jpg", "a.png", "a_jpg.png"])
    assert len(set(names)) == 3 and names[2] == "a_jpg"


def test_a_file_that_spoils_every_photo_ends_the_run(tmp_path):
    path = dump(tmp_path / "r.json", [{"image_id": "a.jpg", "keypoints": flat(COCO_17)}])
    with pytest.raises(ValueError, match="nothing that says that they are COCO's"):
        check_keypoints([photo("a.jpg")], path, None)
    assert check_keypoints([photo("a.jpg")], path, "coco") == []


# keypoints of another picture


def found_at(scale=(1, 1), shift=(0, 0), size_px=None, third=0.9) -> Found:
    body, derived = to_body_25(np.array(points(COCO_17, third)) * [*scale, 1] + [*shift, 0], COCO_17)
    return Found([Person("0", body, "coco", keypoint_box(body), derived=derived)], [], size_px)


def test_keypoints_in_the_photo_are_taken_up_to_its_edge():
    assert len(of_this_photo(found_at(), SIZE).people) == 1
    legs_beyond = found_at(shift=(0, 140))  # the ankles of somebody cut off
    assert len(of_this_photo(legs_beyond, SIZE).people) == 1


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (found_at((3, 3)), "100% beyond its edges, up to x, y = .*640 x 480 px. .*picture of another size"),
        (found_at((1 / 640, 1 / 480)), r"within 0.15..0.9, .*normalised to 0..1: multiply them by"),
        (found_at((2 / 640, 2 / 480), (-1, -1)), r"normalised to -1..1: .*after adding 1 and halving"),
        (found_at(size_px=(1920, 1440)), "entry of one of 1920 x 1440 px: divide the keypoints by 3"),
        (found_at(size_px=(900, 480)), "entry of one of 900 x 480 px: another picture"),
    ],
)
def test_keypoints_of_another_size_are_refused_with_the_cause(found, expected):
    with pytest.raises(ValueError, match=expected):
        of_this_photo(found, SIZE)


def as_stored(orientation: int) -> Found:
    """STANDING on an upright photo of 640 x 480, as keypoints of the photo as it is stored, by EXIF's orientation."""
    found = found_at()
    body = found.people[0].keypoints_px.copy()
    x, y = body[:, 0].copy(), body[:, 1].copy()
    width, height = SIZE
    body[:, 0], body[:, 1] = {3: (width - x, height - y), 6: (y, width - x), 8: (height - y, x)}[orientation]
    return Found([Person("0", body, "coco", keypoint_box(body), derived=found.people[0].derived)])


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_keypoints_of_the_unrotated_photo_are_refused(orientation, tmp_path):
    with pytest.raises(ValueError, match="as it is stored, unrotated: its EXIF tag turns it"):
        of_this_photo(as_stored(orientation), SIZE, orientation)
    assert of_this_photo(
        as_stored(orientation), SIZE
    ).people  # somebody lying, or upside down: no tag says otherwise
    assert of_this_photo(found_at(), SIZE, orientation).people
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=exif)
    assert orientation_of(tmp_path / "a.jpg") == orientation


def test_a_file_says_that_it_is_of_the_unrotated_photo():
    with pytest.raises(
        ValueError, match="one of 480 x 640 px: They look as if made on the photo as it is stored"
    ):
        of_this_photo(found_at(size_px=(480, 640)), SIZE, 6)


def test_who_is_hardly_there_is_left_out():
    good, few = found_at().people[0], np.zeros((25, 3))
    few[4] = [300, 200, 0.9]
    spot = few.copy()
    spot[7] = [300.5, 200, 0.9]
    beyond = found_at(shift=(0, 400)).people[0]
    people = [
        good,
        *(Person(str(at), some, "coco", keypoint_box(some)) for at, some in enumerate((few, spot), 1)),
    ]
    found = of_this_photo(Found([*people, *[good] * 3, beyond]), SIZE)
    assert found.people == [good] * 4
    assert [reason.removeprefix("keypoints, ").split(",")[0] for reason in found.left_out] == [
        "person 1: 1 keypoint", "person 2: all keypoints within 0.5 px of each other",
        "person 0: 74% of the sure keypoints beyond the photo's edges",
    ]  # fmt: skip


def test_confidences_in_per_cent_are_refused(tmp_path):
    entry = {"image_id": "a.jpg", "category_id": 1, "keypoints": flat(COCO_17, 87)}
    path = dump(tmp_path / "r.json", [entry])
    with pytest.raises(
        ValueError, match="confidences of 0..1, got up to 87; they may be per cent, divide them by 100"
    ):
        find_keypoints("a.jpg", path)
    entry["keypoints"] = flat(COCO_17, 1.2)  # a heatmap's peak may pass 1
    assert find_keypoints("a.jpg", dump(path, [entry]))[0].keypoints_px[0, 2] == 1


def test_real_files_read():
    folder = os.environ.get("DSR_TEST_DATA")
    if not folder:
        pytest.skip("DSR_TEST_DATA names no folder with photos and their OpenPose files")
    files = sorted(Path(folder).rglob("*_keypoints.json"))
    assert files
    for path in files:
        (person,) = find_keypoints(path.name.replace("_keypoints.json", ".jpg"), path.parent)
        assert (person.keypoints_px[:, 2] > 0.3).sum() >= 20
