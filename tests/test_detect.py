"""The detector: its geometry and its vote by hand, its joints on a photo against a person's annotation; boxes from
the shipped network, from one's own and from files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fitter.see import detect
from fitter.see.boxes import BoxCard, FileBoxes, NetworkBoxes, load_boxes, suppress
from fitter.see.crops import apply_affine, crop_to_photo, cut, cut_alone, letterbox, pyramid, rotation
from fitter.see.detect import Detector, Landmarks, Subject, crop_change, fuse, make_detector, tilt, vote
from fitter.see.keypoint_files import find_keypoints
from fitter.see.keypoints import BODY_25, COCO_17, mirror_keypoints, to_body_25
from fitter.see.person_box import box_iou, overlap
from fitter.see.picture import read_image
from tests.test_people import figure

SKIER = Path(__file__).parent.parent / "examples" / "photos" / "skier.jpg"
# COCO val2017 annotation 442619 (image 785): x, y of the 17 keypoints, all marked visible
SKIER_COCO = [
    [367, 81], [374, 73], [360, 75], [386, 78], [356, 81], [399, 108], [358, 129], [433, 142], [341, 159],
    [449, 165], [309, 178], [424, 203], [393, 214], [429, 294], [367, 273], [466, 362], [396, 341],
]  # fmt: skip


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def skier_rgb() -> np.ndarray:
    return read_image(SKIER)


@pytest.fixture(scope="module")
def skier(detector, skier_rgb):
    (person,) = detector(skier_rgb)
    return person


def box_side(person) -> float:
    return (person.box_px[2:] - person.box_px[:2]).max()


def test_joints_agree_with_the_annotation(skier):
    truth, _ = to_body_25(np.column_stack([SKIER_COCO, np.ones(17)]) + [0.5, 0.5, 0], COCO_17)
    seen = [BODY_25.index(name) for name in COCO_17]
    assert (skier.keypoints_px[seen, 2] > 0.3).all()
    error = np.linalg.norm(skier.keypoints_px[seen, :2] - truth[seen, :2], axis=1) / box_side(skier)
    assert np.median(error) < 0.02  # annotators differ by 1 to 2 %
    assert error.max() < 0.07


def test_a_person_has_feet_and_3d_landmarks(skier):
    by_name = dict(zip(BODY_25, skier.keypoints_px, strict=True))
    assert (skier.id, skier.source, skier.derived) == ("0", "detector", ("Neck", "MidHip"))
    for side in "LR":
        foot = [by_name[f"{side}{part}"] for part in ("Ankle", "BigToe", "Heel")]
        assert all(point[2] > 0.3 for point in foot)
        assert np.ptp([point[:2] for point in foot], axis=0).max() < 0.2 * box_side(skier)
        assert by_name[f"{side}SmallToe"].tolist() == [0, 0, 0]
    landmarks = skier.landmarks_3d
    assert landmarks.shape == (33, 3)
    assert landmarks[0, 1] < landmarks[[11, 12], 1].mean() < 0 < landmarks[[27, 28], 1].mean()  # y down
    assert 0.4 < np.linalg.norm(landmarks[[11, 12]].mean(0) - landmarks[[23, 24]].mean(0)) < 0.7  # torso, m


def test_the_same_photo_gives_the_same_people(detector, skier_rgb, skier):
    (again,) = detector(skier_rgb)
    np.testing.assert_array_equal(again.keypoints_px, skier.keypoints_px)
    np.testing.assert_array_equal(again.landmarks_3d, skier.landmarks_3d)


def test_a_mirrored_photo_gives_mirrored_people(detector, skier_rgb, skier):
    (mirrored,) = detector(np.ascontiguousarray(skier_rgb[:, ::-1]))
    expected = mirror_keypoints(skier.keypoints_px, skier_rgb.shape[1])
    apart = np.linalg.norm(mirrored.keypoints_px - expected, axis=1) / box_side(skier)
    assert np.median(apart) < 0.01  # the boxes differ a little, and BlazePose is not run on both sides
    assert apart.max() < 0.05


def test_a_photo_twice_the_size_gives_the_same_people(detector, skier_rgb, skier):
    (larger,) = detector(skier_rgb.repeat(2, 0).repeat(2, 1))
    apart = np.linalg.norm(larger.keypoints_px[:, :2] / 2 - skier.keypoints_px[:, :2], axis=1) / box_side(
        skier
    )
    assert np.median(apart) < 0.01
    assert apart.max() < 0.05


def test_nobody_in_an_empty_photo(detector):
    assert detector(np.full((120, 90, 3), 128, np.uint8)) == []


def test_another_array_is_refused(detector):
    with pytest.raises(ValueError, match=r"expected \[H, W, 3\] uint8 RGB, got \(4, 4\) float64"):
        detector(np.zeros((4, 4)))


def test_missing_networks_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="movenet_thunder.onnx: expected a network"):
        Detector(models=tmp_path)


def apart_in_boxes(person, expected_px: np.ndarray) -> np.ndarray:
    seen = (person.keypoints_px[:, 2] > 0.3) & (expected_px[:, 2] > 0.3)
    return np.linalg.norm(person.keypoints_px[seen, :2] - expected_px[seen, :2], axis=1) / box_side(person)


def test_a_person_who_lies_is_stood_up_and_seen_as_one_who_stands(detector, skier_rgb, skier, monkeypatch):
    angles = []
    look = Detector._thunder_look
    monkeypatch.setattr(
        Detector, "_thunder_look", lambda self, *of, **more: angles.append(of[2]) or look(self, *of, **more)
    )
    (lying,) = detector(np.ascontiguousarray(np.rot90(skier_rgb)))
    assert angles[0] == 0 and np.degrees(angles[1:]) == pytest.approx([-90, -90], abs=30)
    angles.clear()
    detector(skier_rgb)
    assert angles == [0, 0]
    x, y, confidence = skier.keypoints_px.T
    turned = np.column_stack([y, skier_rgb.shape[1] - x, confidence])
    apart = apart_in_boxes(lying, turned)
    assert len(apart) > 15
    assert np.median(apart) < 0.015 and apart.max() < 0.06


def test_two_people_close_together_are_two(detector, skier_rgb, skier):
    """The skier and, before him, his smaller twin, so near that the crop about each shows the other one too."""
    photo, small, corner = skier_rgb.copy(), skier_rgb[40:400:2, 270:510:2], np.array([230, 190])
    photo[corner[1] : corner[1] + len(small), corner[0] : corner[0] + small.shape[1]] = small
    people = detector(photo)
    twin = skier.keypoints_px * [0.5, 0.5, 1] + [*(corner - [135, 20]), 0]
    assert len(people) == 2
    assert np.median(apart_in_boxes(people[0], skier.keypoints_px)) < 0.02
    assert np.median(apart_in_boxes(people[1], twin)) < 0.02


def test_whoever_was_taken_for_somebody_else_is_looked_for_again(monkeypatch, tmp_path):
    """Both looks see the near person, until that one is painted black; the third box shows nobody."""
    near, far = (np.concatenate([figure(x), np.zeros((4, 3))]) for x in (100, 160))
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"a": [[60, 0, 140, 200], [120, 0, 200, 200], [300, 0, 350, 200]]}))

    def look(self, shape, subject):
        hidden = not subject.levels[0][100, 100].any()
        joints = near if subject.box[0] == 60 or not hidden else far
        doubt = 0 if subject.box[0] == 300 and not hidden else 1 - 0.001 * subject.box[0]
        return joints * [1, 1, doubt], landmarks_at(joints[:17, :2], 0.9)

    monkeypatch.setattr(Detector, "_look", look)
    photo = np.full((220, 400, 3), 200, np.uint8)
    people, refused = make_detector(str(path)).find_people(photo, "a")
    noses = [person.keypoints_px[BODY_25.index("Nose"), 0] for person in people]
    assert sorted(noses) == [100, 160] and [person.id for person in people] == ["0", "1"]
    assert refused == ["x0 y0 x1 y1 = 300 0 350 200: 0 joints of a confidence above 0.38, expected 6"]
    assert (photo == 200).all()
    far = near
    people, refused = make_detector(str(path)).find_people(photo, "a")
    assert len(people) == 1 and refused[0].startswith(
        "x0 y0 x1 y1 = 120 0 200 200: the same person again as in"
    )


def test_everybody_of_a_crowd_is_found(skier_rgb):
    crowd = np.tile(skier_rgb[60:400, 255:500], (4, 10, 1))
    boxes = NetworkBoxes()(pyramid(crowd))
    middles = [(box[:2] + box[2:]) / 2 // [245, 340] for _, box in boxes]
    assert len({tuple(middle) for middle in middles}) >= 38
    assert [score for score, _ in boxes] == sorted((score for score, _ in boxes), reverse=True)


def test_the_shipped_boxes_are_where_people_are(skier_rgb):
    annotated = np.array([280.8, 44.7, 499.5, 391.4])  # COCO val2017 annotation 442619
    for scale in (1, 3):
        ((score, box),) = NetworkBoxes()(pyramid(skier_rgb.repeat(scale, 0).repeat(scale, 1)))
        assert score > 0.7 and box_iou(box / scale, annotated) > 0.8


def test_a_crop_with_somebody_else_in_it_is_black_beyond_the_persons_box():
    levels = pyramid(np.full((400, 600, 3), 200, np.uint8))
    own, near, far = (
        np.array(box, float) for box in ([100, 100, 180, 300], [190, 80, 250, 300], [500, 0, 600, 90])
    )
    for angle in (0.0, 0.5):
        to_photo = crop_to_photo(np.array([140.0, 200.0]), 120.0, angle)
        everything = cut(levels, to_photo)
        np.testing.assert_array_equal(cut_alone(levels, to_photo, own, [far]), everything)
        np.testing.assert_array_equal(cut_alone(levels, to_photo, own, []), everything)
        alone = cut_alone(levels, to_photo, own, [far, near])
        y, x = np.indices((256, 256)).reshape(2, -1) + 0.5
        at = apply_affine(to_photo, np.stack([x, y], 1))
        inside = ((at > own[:2] + 2) & (at < own[2:] - 2)).all(1).reshape(256, 256)
        outside = ((at < own[:2] - 2) | (at > own[2:] + 2)).any(1).reshape(256, 256)
        assert (alone[inside] == 200).all() and not alone[outside].any()
        assert inside.sum() > 10000 and outside.sum() > 10000


def test_somebody_much_smaller_in_a_crop_changes_nothing():
    levels = pyramid(np.full((400, 600, 3), 200, np.uint8))
    own = np.array([100.0, 100, 180, 300])
    to_photo = crop_to_photo(np.array([140.0, 200.0]), 120.0, 0.0)
    for height, black in ((100, False), (150, True), (300, True)):
        other = np.array([200.0, 300 - height, 230, 300])
        assert (Subject(levels, own, [other]).crop(to_photo) == 0).any() == black


def test_crop_change_is_shift_growth_or_turn():
    crop = np.array([[50.0, 80.0], [50.0, 40.0]])
    assert crop_change(crop, crop) == pytest.approx(0)
    assert crop_change(crop, crop + [3, 4]) == pytest.approx(5 / 40)
    assert crop_change(crop, crop[0] + 1.3 * (crop - crop[0])) == pytest.approx(np.log(1.3))
    assert crop_change(crop, crop[0] + 0.7 * (crop - crop[0])) == pytest.approx(-np.log(0.7))
    assert crop_change(crop, crop[0] + (crop - crop[0]) @ rotation(-0.4)) == pytest.approx(0.4)
    assert crop_change(crop, crop[[0, 0]]) == np.inf


def test_blazepose_looks_again_only_where_it_asks_for_another_crop(detector, skier_rgb, monkeypatch):
    looks = []
    look = Detector._blaze_look
    monkeypatch.setattr(Detector, "_blaze_look", lambda self, *of: looks.append(of) or look(self, *of))
    detector(skier_rgb)
    assert len(looks) == 1
    monkeypatch.setattr(detect, "SAME_CROP", 0.0)
    detector(skier_rgb)
    assert len(looks) == 3


def test_suppression_keeps_the_best_of_boxes_that_overlap():
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4], [20, 0, 30, 10]])
    kept = suppress(boxes, np.array([0.5, 0.9, 0.8, 0.6]), 0.45)
    assert [score for score, _ in kept] == [0.9, 0.6]
    kept = suppress(boxes, np.array([0.5, 0.9, 0.8, 0.6]), 0.5)
    assert [score for score, _ in kept] == [0.9, 0.6, 0.5]


class Stub:
    """A network that is a function of its input."""

    path, input_names = Path("own.onnx"), ["x"]

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    def __call__(self, x):
        self.seen.append(x)
        return {"first": np.zeros((1, 3, 3)), "rows": np.asarray(self.answer, np.float32)[None]}


def test_ones_own_network_is_told_what_it_expects():
    rows = [[32, 16, 20, 10, 0.9, 0.3], [32, 16, 20, 10, 0.1, 0.8], [10, 30, 40, 20, 0, 0.7]]
    network = Stub(rows)
    card = BoxCard(size=64, person=1, edges="centre", square=True, numbers="float32", mean=(0, 0, 0), std=(1, 1, 0.5),
                   channels="bgr", layout="nchw", output="rows")  # fmt: skip
    photo = np.zeros((100, 200, 3), np.uint8)
    photo[..., 2] = 255
    boxes = NetworkBoxes(network, card)(pyramid(photo))
    assert network.seen[0].shape == (1, 3, 64, 64) and network.seen[0].dtype == np.float32
    np.testing.assert_allclose(network.seen[0][0, :, 5, 5], [2, 0, 0])
    assert not network.seen[0][0, :, 33:].any()
    assert [score for score, _ in boxes] == pytest.approx([0.8, 0.7])
    factor = 200 / 64
    np.testing.assert_allclose(boxes[0][1], np.array([22, 11, 42, 21]) * factor)
    np.testing.assert_allclose(boxes[1][1], [0, 20 * factor, 30 * factor, 100])  # clipped to the photo
    plain = Stub(np.zeros((2, 5)))
    assert NetworkBoxes(plain, BoxCard(size=64, output="rows"))(pyramid(photo)) == []
    assert plain.seen[0].shape == (1, 32, 64, 3) and plain.seen[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("scores", "found"),
    [((0.6, 0.3), [0.6]), ((0.3, 0.25), [0.3]), ((0.19, 0.18), []), ((0.45, 0.41), [0.45, 0.41])],
)
def test_the_best_box_of_a_photo_may_be_less_sure(scores, found):
    rows = [[32 * at, 0, 32 * at + 20, 30, score] for at, score in enumerate(scores)]
    photo = pyramid(np.zeros((64, 64, 3), np.uint8))
    boxes = NetworkBoxes(Stub(rows), BoxCard(size=64, score=0.4, output="rows"))(photo)
    assert [score for score, _ in boxes] == pytest.approx(found)


def test_what_is_wrong_with_ones_own_network_is_said(tmp_path):
    photo = pyramid(np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"own.onnx: expected an output \[1, N, 4 \+ C\].* C > 1 .*got \[1, 2, 5\]; "
    ):
        NetworkBoxes(Stub(np.zeros((2, 5))), BoxCard(size=64, person=1, output="rows"))(photo)
    with pytest.raises(ValueError, match=r"got \[1, 3, 3\]; correct `output`"):
        NetworkBoxes(Stub(np.zeros((2, 5))), BoxCard(size=64))(photo)
    with pytest.raises(ValueError, match=r"got outputs \['first', 'rows'\]; correct `output`"):
        NetworkBoxes(Stub(np.zeros((2, 5))), BoxCard(size=64, output="boxes"))(photo)
    with pytest.raises(FileNotFoundError, match="missing.onnx: expected a network .*--detector 'shipped'"):
        make_detector(str(tmp_path / "missing.onnx"))
    (tmp_path / "own.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"own.yaml: expected a YAML file beside the network .*`size: px`"):
        make_detector(str(tmp_path / "own.onnx"))
    for text, message in (
        ("size: 416\nscale: 2", "expected `size` and, if wanted, "),
        ("size: 416\nedges: middle", r"edges: expected one of \('corners', 'centre'\), got 'middle'"),
        ("size: 416\nnumbers: int8", "numbers: expected one of"),
        ("size: 400", "own.yaml: size: expected a multiple of 32, got 400"),
        ("size: [416, 416]", r"own.yaml: size: expected whole number, got \[416, 416\]"),
        ("size: 416\nscore: 40", "score and overlap: expected 0..1, got 40 and 0.45"),
    ):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            make_detector(str(tmp_path / "own.onnx"))
    (tmp_path / "own.yaml").write_text("size: 320\nmean: [0, 0, 0]\nnumbers: float32")
    assert load_boxes(str(tmp_path / "own.onnx")).card == BoxCard(size=320, mean=(0, 0, 0), numbers="float32")
    with pytest.raises(
        ValueError, match="detector: expected 'shipped', a .json file of boxes or an .onnx file, got 'yolo'"
    ):
        make_detector("yolo")


def test_boxes_come_from_a_file(tmp_path):
    def of(data, name):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(data))
        return [(score, box.tolist()) for score, box in load_boxes(str(path))([], name)]

    plain = {"a.jpg": [[1, 2, 3, 4.5], [5, 5, 9, 9, 0.25]], "b.jpg": []}
    assert of(plain, "a.jpg") == [(1.0, [1, 2, 3, 4.5]), (0.25, [5, 5, 9, 9])]
    assert of(plain, "b.jpg") == []
    entries = [
        {"image_id": 7, "bbox": [1, 2, 3, 4], "category_id": 1, "score": 0.5},
        {"image_id": 7, "bbox": [9, 9, 3, 4], "category_id": 3},
        {"image_id": 7, "bbox": [2, 2, 3, 4], "category_id": 1, "score": 0.75},
        {"image_id": 7, "bbox": [0, 0, 3, 4], "category_id": 1, "iscrowd": 1},
    ]
    expected = [(0.75, [2, 2, 5, 6]), (0.5, [1, 2, 4, 6])]
    assert of(entries, "000000000007.jpg") == expected
    assert of(entries, "7.jpg") == expected and of(entries, "8.jpg") == []
    images = [{"id": 7, "file_name": "val/a.jpg"}, {"id": 8, "file_name": "b.jpg"}]
    assert of({"images": images, "annotations": entries}, "a.jpg") == expected
    assert of({"images": images, "annotations": entries}, "b.jpg") == []
    named = {"images": images, "annotations": entries, "categories": [{"id": 3, "name": "person"}]}
    assert of(named, "a.jpg") == [(1.0, [9, 9, 12, 13])]
    cameras = {"one/a.jpg": [[0, 0, 1, 1]], "two/a.jpg": [[0, 0, 2, 2]]}
    assert of(cameras, "clip/two/a.jpg") == [(1.0, [0, 0, 2, 2])]
    with pytest.raises(
        ValueError, match="expected one entry for the photo a.jpg, got 'one/a.jpg' and 'two/a.jpg'"
    ):
        of(cameras, "a.jpg")


def test_boxes_of_a_file_are_looked_at(tmp_path, skier_rgb, skier):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"skier.jpg": [[280, 44, 500, 389, 0.6], [10, 10, 60, 90]]}))
    detector = make_detector(str(path))
    people, refused = detector.find_people(skier_rgb, "skier.jpg")
    assert [person.score for person in people] == [0.6]
    assert len(refused) == 1 and refused[0].startswith("x0 y0 x1 y1 = 10 10 60 90: ")
    assert np.median(apart_in_boxes(people[0], skier.keypoints_px)) < 0.01


def test_what_is_wrong_with_a_file_of_boxes_is_said(tmp_path):
    path = tmp_path / "boxes.json"
    with pytest.raises(FileNotFoundError, match="boxes.json: expected a JSON file of boxes, found none"):
        make_detector(str(path))
    path.write_text("{")
    with pytest.raises(ValueError, match="boxes.json: expected JSON, got a file that is not"):
        make_detector(str(path))
    for data, message in (
        (
            {"a.jpg": [[0, 0, 0, 5]]},
            r"a.jpg\[0\]: expected x0 < x1, y0 < y1 in px and a score 0..1 or none, got \[0, 0, 0, 5\]",
        ),
        ({"a.jpg": [[0, 0, 4, 5, 2]]}, r"a.jpg\[0\]: expected .* got \[0, 0, 4, 5, 2\]"),
        ({"a.jpg": [[0, 0, 4, 5], [0, 0, 4]]}, r"a.jpg\[1\]: expected .* got \[0, 0, 4\]"),
        ({"a.jpg": [[0, 0, 4, "x"]]}, r"got \[0, 0, 4, 'x'\]"),
        ({"a.jpg": [7]}, r"a.jpg\[0\]: expected .* got 7"),
        ([{"image_id": 1, "bbox": [0, 0, -1, 5]}], r"bbox of entry 0: expected x0 < x1"),
        (
            [{"image_id": 1, "bbox": [0, 0, 5]}],
            r"bbox of entry 0: expected x, y, width, height, got \[0, 0, 5\]",
        ),
        (
            [{"image_id": 1, "keypoints": []}],
            r"COCO list of results .*; got something else \(KeyError: 'bbox'\)",
        ),
        ({"images": [{"id": 1, "file_name": "a.jpg"}]}, r"got something else \(KeyError: 'annotations'\)"),
        ({"a.jpg": 5}, r"got something else \(KeyError: 'images'\)"),
        (3, r"got something else \(TypeError"),
    ):
        path.write_text(json.dumps(data))
        with pytest.raises(ValueError, match=message):
            make_detector(str(path))
    path.write_text(json.dumps({"a.jpg": []}))
    with pytest.raises(
        ValueError, match=r"expected 'b.jpg' among its photos, found none such; list it, with \[\]"
    ):
        FileBoxes(path)([], "b.jpg")


def opinion(x: float, confidence: float) -> np.ndarray:
    return np.array([[x, 0.0, confidence]])


def test_vote_averages_what_agrees():
    joint = vote(np.stack([opinion(0, 0.8), opinion(2, 0.8)]), np.array([0.5, 0.5]), 100)
    np.testing.assert_allclose(joint[0], [1, 0, 0.8 / (1 + (0.01 / detect.AGREE) ** 2)])


def test_vote_takes_the_side_with_more_support_and_trusts_it_less():
    opinions = np.stack([opinion(0, 0.6), opinion(0, 0.6), opinion(40, 0.9)])
    votes = np.array([0.5, 0.5, 1.0])
    joint = vote(opinions, votes, 100)
    assert joint[0, 0] == pytest.approx(40)
    assert joint[0, 2] == pytest.approx(0.45 + 0.3 / (1 + 0.4**2 / detect.AGREE**2))
    opinions[2, 0, 2] = 0.5
    assert vote(opinions, votes, 100)[0, 0] == pytest.approx(0)


def landmarks_at(xy: np.ndarray, confidence: float, presence: float = 1.0) -> Landmarks:
    points = np.zeros((39, 3))
    points[list(detect.BLAZE_17)] = np.column_stack([xy, np.full(17, confidence)])
    for side, foot in ((15, (31, 29)), (16, (32, 30))):
        points[list(foot)] = [*xy[side], confidence]
    return Landmarks(points, np.zeros((39, 3)), presence)


def test_fuse_keeps_thunders_hips_and_doubts_feet_of_a_doubted_ankle():
    xy = np.random.default_rng(1).uniform(50, 150, (17, 2))
    joints = np.stack([np.column_stack([xy, np.full(17, 0.7)])] * 2)
    other = xy.copy()
    other[[11, 12]] += [4, 0]
    other[16] += [30, 0]
    fused = fuse(joints, landmarks_at(other, 0.9), 100.0, (200, 200, 3))
    np.testing.assert_allclose(fused[:16, :2], xy[:16], atol=1e-9)
    left_foot, right_foot = fused[17, 2], fused[19, 2]
    assert left_foot == pytest.approx(0.9 * detect.BLAZE_TO_THUNDER)
    assert right_foot < 0.05


def test_fuse_without_blazepose_halves_confidence_and_has_no_feet():
    xy = np.random.default_rng(1).uniform(50, 150, (17, 2))
    joints = np.stack([np.column_stack([xy, np.full(17, 0.7)])] * 2)
    fused = fuse(joints, landmarks_at(xy + 50, 0.9, presence=0.1), 100.0, (200, 200, 3))
    np.testing.assert_allclose(fused[:17], np.column_stack([xy, np.full(17, 0.35)]))
    assert (fused[17:, 2] == 0).all()


def test_joints_outside_the_photo_are_missing():
    xy = np.full((17, 2), 100.0)
    xy[15:] = [[100, 201], [100, 203]]
    joints = np.stack([np.column_stack([xy, np.full(17, 0.7)])] * 2)
    fused = fuse(joints, landmarks_at(xy, 0.9), 100.0, (200, 200, 3))
    assert fused[15, 2] > 0.3 and fused[16, 2] == 0


def test_tilt_is_the_turn_that_stands_the_torso_up():
    joints = np.column_stack([np.zeros((17, 2)), np.ones(17)])
    joints[[5, 6], :2] = [[100, 40], [100, 60]]  # shoulders to the right of the hips
    joints[[11, 12], :2] = [[0, 40], [0, 60]]
    assert tilt(joints) == pytest.approx(np.pi / 2)
    to_photo = crop_to_photo(np.array([50.0, 50.0]), 100.0, tilt(joints))
    up_in_photo = apply_affine(to_photo, np.array([[128.0, 0.0]])) - apply_affine(
        to_photo, np.array([[128.0, 128.0]])
    )
    np.testing.assert_allclose(up_in_photo, [[100, 0]], atol=1e-9)
    joints[5, 2] = 0
    assert tilt(joints) == 0


def test_overlap_is_a_share_of_the_smaller_box():
    first, second = np.array([0.0, 0, 10, 10]), np.array([5.0, 5, 9, 30])
    assert overlap(first, second) == pytest.approx(4 * 5 / 100)
    assert overlap(first, first + 20) == 0


def test_letterbox_pads_to_multiples_of_32():
    padded, factors = letterbox([np.full((100, 200, 3), 9, np.uint8)], 256)
    assert padded.shape == (128, 256, 3) and (padded == 9).all()
    padded, factors = letterbox([np.full((100, 230, 3), 9, np.uint8)], 256)
    assert padded.shape == (128, 256, 3) and (padded[111:] == 0).all() and (padded[:111] == 9).all()
    np.testing.assert_allclose(factors, [256 / 230, 111 / 100])
    padded, factors = letterbox(pyramid(np.full((1200, 1800, 3), 9, np.uint8)), 256, square=True)
    assert padded.shape == (256, 256, 3) and (padded[:171] == 9).all() and not padded[171:].any()
    np.testing.assert_allclose(factors, [256 / 1800, 171 / 1200])


def test_letterbox_takes_a_level_that_still_shows_everything(skier_rgb):
    levels = pyramid(skier_rgb.repeat(3, 0).repeat(3, 1))
    padded, _ = letterbox(levels, 640)
    assert np.abs(padded[:425].astype(int) - skier_rgb).mean() < 3  # 4.7 from the level below


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_a_crop_shows_what_its_map_says_at_every_scale(scale):
    ramp = np.linspace(0, 255, 1200)
    image = np.repeat(np.broadcast_to(ramp, (1100, 1200))[..., None], 3, 2).round().astype(np.uint8)
    to_photo = crop_to_photo(np.array([600.0, 550.0]), 128 * scale, 0.0)
    crop = cut(pyramid(image), to_photo)
    columns = apply_affine(to_photo, np.column_stack([np.arange(256) + 0.5, np.full(256, 128.0)]))[:, 0]
    np.testing.assert_allclose(crop[128, :, 0], np.interp(columns - 0.5, np.arange(1200), ramp), atol=1)


def test_openpose_agrees_on_the_test_photos(detector):
    folder = os.environ.get("DSR_TEST_DATA")
    if not folder:
        pytest.skip("DSR_TEST_DATA names no folder with photos and OpenPose files of them")
    errors = []
    for path in sorted(Path(folder).rglob("*_keypoints.json"))[::6]:
        name = path.name.replace("_keypoints.json", ".jpg")
        photo = next(p for p in Path(folder).rglob(name))
        (truth,) = find_keypoints(name, path)
        people = [person.keypoints_px for person in detector(read_image(photo))]
        both = [(truth.keypoints_px[:, 2] > 0.4) & (keypoints[:, 2] > 0.3) for keypoints in people]
        apart = [
            np.linalg.norm(keypoints[b, :2] - truth.keypoints_px[b, :2], axis=1) / box_side(truth)
            for keypoints, b in zip(people, both, strict=True)
        ]
        errors += min(apart, key=np.mean).tolist()
    assert np.median(errors) < 0.02
    assert np.mean(np.array(errors) < 0.05) > 0.95


@pytest.mark.parametrize(
    "text, said",
    [
        ("[" * 30000, "expected JSON"),
        ('{"a.png": [[1, 2, 3, 1' + "0" * 400 + "]]}", "expected x0 < x1"),
        ('{"images": [{"id": 1, "file_name": 3}], "annotations": []}', "expected 'a.png' among its photos"),
    ],
)
def test_box_files_with_odd_values_are_refused_by_name(tmp_path, text, said):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(ValueError, match=rf"boxes\.json: .*{said}"):
        load_boxes(str(tmp_path / "boxes.json"))([], "a.png")
