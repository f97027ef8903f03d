"""The detector: its geometry and its vote by hand, its joints on a photo against a person's annotation."""

import os
from pathlib import Path

import numpy as np
import pytest

from fitter.see import detect
from fitter.see.camera import read_image
from fitter.see.crops import apply_affine, crop_to_photo, cut, letterbox, overlap, pyramid
from fitter.see.detect import Detector, Landmarks, fuse, same_person, tilt, vote
from fitter.see.keypoints import BODY_25, COCO_17, MIRROR_25, find_keypoints, mirror_keypoints, to_body_25

SKIER = Path(__file__).parent.parent / "examples" / "skier.jpg"
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


def test_a_person_has_feet_mask_and_3d_landmarks(skier, skier_rgb):
    by_name = dict(zip(BODY_25, skier.keypoints_px, strict=True))
    assert (skier.id, skier.source, skier.derived) == ("0", "detector", ("Neck", "MidHip"))
    for side in "LR":
        foot = [by_name[f"{side}{part}"] for part in ("Ankle", "BigToe", "Heel")]
        assert all(point[2] > 0.3 for point in foot)
        assert np.ptp([point[:2] for point in foot], axis=0).max() < 0.2 * box_side(skier)
        assert by_name[f"{side}SmallToe"].tolist() == [0, 0, 0]
    assert (skier.mask.shape, skier.mask.dtype) == (skier_rgb.shape[:2], np.uint8)
    inside = [skier.mask[int(y), int(x)] for x, y, c in skier.keypoints_px if c > 0.5]
    assert np.mean(np.array(inside) > 127) > 0.9
    landmarks = skier.landmarks_3d
    assert landmarks.shape == (33, 3)
    assert landmarks[0, 1] < landmarks[[11, 12], 1].mean() < 0 < landmarks[[27, 28], 1].mean()  # y down
    assert 0.4 < np.linalg.norm(landmarks[[11, 12]].mean(0) - landmarks[[23, 24]].mean(0)) < 0.7  # torso, m


def test_the_same_photo_gives_the_same_people(detector, skier_rgb, skier):
    (again,) = detector(skier_rgb)
    np.testing.assert_array_equal(again.keypoints_px, skier.keypoints_px)
    np.testing.assert_array_equal(again.mask, skier.mask)


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
    with pytest.raises(FileNotFoundError, match="movenet_multipose.onnx: expected a network"):
        Detector(tmp_path)(np.zeros((64, 64, 3), np.uint8))


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
    return Landmarks(points, np.zeros((39, 3)), presence, np.zeros((200, 200)))


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


def test_same_person_also_with_sides_exchanged():
    keypoints = np.column_stack([np.random.default_rng(2).uniform(0, 100, (25, 2)), np.ones(25)])
    assert same_person(keypoints, keypoints + [5, 0, 0])
    assert same_person(keypoints, keypoints[list(MIRROR_25)])
    assert not same_person(keypoints, keypoints + [60, 0, 0])


def test_overlap_is_a_share_of_the_smaller_box():
    first, second = np.array([0.0, 0, 10, 10]), np.array([5.0, 5, 9, 30])
    assert overlap(first, second) == pytest.approx(4 * 5 / 100)
    assert overlap(first, first + 20) == 0


def test_letterbox_pads_to_multiples_of_32():
    padded, factors = letterbox(np.full((100, 200, 3), 9, np.uint8), 256)
    assert padded.shape == (128, 256, 3) and (padded == 9).all()
    padded, factors = letterbox(np.full((100, 230, 3), 9, np.uint8), 256)
    assert padded.shape == (128, 256, 3) and (padded[111:] == 0).all() and (padded[:111] == 9).all()
    np.testing.assert_allclose(factors, [256 / 230, 111 / 100])


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
