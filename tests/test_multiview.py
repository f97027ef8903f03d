"""benchmarks/multiview.py and benchmarks/keypoint_noise.py on made data."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks.keypoint_noise import (
    Errors,
    correlation,
    errors,
    hat_sigma,
    hidden_joints,
    outliers,
    project,
    shared_shift,
    variants,
)
from benchmarks.multiview import (
    EVALUATED,
    evaluated_joints,
    faces_camera,
    interval,
    joint_errors_mm,
    label_by_color,
    largest_region,
    read_views,
)
from fitter.label.label_files import UNKNOWN
from fitter.see.camera import Camera
from fitter.see.keypoints import BODY_25, Person
from fitter.see.person_box import keypoint_box
from priors.clothing import LABELS

# fmt: off
STANDING = {  # a man who faces the camera, px; his left is the picture's right
    "Nose": (100, 40), "LEye": (104, 36), "REye": (96, 36), "LEar": (110, 38), "REar": (90, 38), "Neck": (100, 70),
    "LShoulder": (125, 70), "RShoulder": (75, 70), "LElbow": (140, 110), "RElbow": (60, 110), "LWrist": (145, 150),
    "RWrist": (55, 150), "MidHip": (100, 150), "LHip": (113, 150), "RHip": (87, 150), "LKnee": (115, 210),
    "RKnee": (85, 210), "LAnkle": (117, 270), "RAnkle": (83, 270), "LBigToe": (120, 282), "RBigToe": (80, 282),
    "LHeel": (116, 276), "RHeel": (84, 276),
}
# fmt: on
SKIN, SHORTS, CAP, WALL = (205, 150, 120), (25, 25, 30), (20, 140, 150), (240, 240, 240)


def keypoints(at=STANDING):
    found = np.zeros((25, 3))
    for name, (x, y) in at.items():
        found[BODY_25.index(name)] = x, y, 0.9
    return found


def a_person(found):
    return Person("0", found, "detector", keypoint_box(found))


def painted():
    """A drawn man in shorts and cap: picture and mask, 300 x 200 px; a white lamp stands at his right hand."""
    import cv2

    image = np.full((300, 200, 3), 90, np.uint8)
    mask = np.zeros((300, 200), np.uint8)

    def line(a, b, thickness, color):
        for target, value in ((image, color), (mask, 1)):
            cv2.line(target, STANDING[a], STANDING[b], value, thickness)

    for x in (90, 100, 110):
        for target, value in ((image, SKIN), (mask, 1)):
            cv2.line(target, (x, 75), (x, 145), value, 28)
    for s in "LR":
        line(s + "Shoulder", s + "Elbow", 16, SKIN)
        line(s + "Elbow", s + "Wrist", 14, SKIN)
        line(s + "Knee", s + "Ankle", 16, SKIN)
        line(s + "Ankle", s + "BigToe", 12, SKIN)
        line(s + "Hip", s + "Knee", 26, SHORTS)
    for centre, radius, color in (((100, 42), 18, SKIN), ((40, 165), 8, WALL)):
        cv2.circle(image, centre, radius, color, -1)
        cv2.circle(mask, centre, radius, 1, -1)
    image[14:30, 85:116], mask[14:30, 85:116] = CAP, 1
    cv2.line(mask, (42, 165), (55, 152), 1, 4)
    return image, mask > 0


def test_labels_follow_color_and_limb():
    image, mask = painted()
    ids = label_by_color(image, mask, keypoints())

    def at(x, y):
        return "unknown" if ids[y, x] == UNKNOWN else LABELS[ids[y, x]]

    assert at(142, 130) == "left-arm" and at(57, 130) == "right-arm"
    assert at(116, 240) == "left-leg" and at(84, 240) == "right-leg"
    assert at(114, 180) == "pants" and at(100, 50) == "face" and at(100, 20) == "hat"
    assert at(100, 110) == "unknown", "a bare chest has no label"
    assert at(38, 165) == "unknown", "white is none of the man's colours"
    assert (ids[~mask] == 0).all() and (ids[mask] != 0).all()


def test_no_face_from_behind():
    image, mask = painted()
    behind = {
        {"L": "R", "R": "L"}.get(n[0], n[0]) + n[1:] if n[1].isupper() else n: p for n, p in STANDING.items()
    }
    assert faces_camera(keypoints()) and not faces_camera(keypoints(behind))
    ids = label_by_color(image, mask, keypoints(behind))
    assert not (ids == LABELS.index("face")).any() and (ids == LABELS.index("left-arm")).any()


def test_without_seen_colors_the_man_is_unknown():
    image, mask = painted()
    blind = keypoints()
    blind[:, 2] = 0.1
    blind[0, 2] = 0.9
    assert (label_by_color(image, mask, blind)[mask] == UNKNOWN).all()


def test_largest_region_leaves_specks():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 1:4] = mask[5, 7] = True
    assert largest_region(mask).sum() == 9 and not largest_region(mask)[5, 7]
    assert not largest_region(np.zeros((3, 3), bool)).any()


def test_errors_of_moved_bodies_are_known():
    true = np.random.default_rng(0).normal(size=(12, 3))
    moved = joint_errors_mm(true + [1.0, 2, 3], true)
    np.testing.assert_allclose(moved["pelvis"], 0, atol=1e-9)
    turned = 1.3 * true[:, [1, 2, 0]]
    assert joint_errors_mm(turned, true)["pa"].max() < 1e-6 < joint_errors_mm(turned, true)["pelvis"].min()
    raised = true.copy()
    raised[EVALUATED.index("LWrist"), 1] += 0.12
    found = joint_errors_mm(raised, true)["pelvis"]
    assert found[EVALUATED.index("LWrist")] == pytest.approx(120) and np.count_nonzero(found > 1e-6) == 1


def test_evaluated_joints_are_the_bodys_own(toy_body):
    import torch

    posed = toy_body(torch.zeros(1, 10).double(), torch.zeros(1, 72).double())
    fit = SimpleNamespace(
        keypoint_source="detector", joints_cam=posed.joints[0].numpy(), vertices_cam=posed.vertices[0].numpy()
    )
    joints = evaluated_joints(fit, toy_body)
    for name, number in (("LKnee", 4), ("RAnkle", 8), ("LWrist", 20), ("RElbow", 19)):
        np.testing.assert_allclose(joints[EVALUATED.index(name)], fit.joints_cam[number], atol=1e-9)
    hips = joints[[EVALUATED.index("LHip"), EVALUATED.index("RHip")], 0]
    np.testing.assert_allclose(hips, [0.105, -0.105], atol=1e-3)  # keypoint_targets' half width, left is +x


@pytest.fixture
def data(tmp_path):
    for folder in ("frames", "calibration", "joints3d"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((200, 100, 3), np.uint8)).save(tmp_path / "frames" / "cam01_0000.jpg")
    (tmp_path / "calibration" / "Calib_qualisys.toml").write_text(
        "[cam_01]\nmatrix = [[150.0, 0.0, 52.0], [0.0, 160.0, 98.0], [0.0, 0.0, 1.0]]\n"
        "distortions = [0.0, 0.0, 0.0, 0.0]\nrotation = [0.0, 0.0, 1.5707963267948966]\ntranslation = [0.1, 0.2, 3.0]\n"
    )
    truth = {"joint_names": ["LHip", "Neck"], "frames": {"0000": {"cam01": [[-1.9, 1.2, 3.5], [0, 0, 3]]}}}
    (tmp_path / "joints3d" / "joints3d_adjusted.json").write_text(json.dumps(truth))
    return tmp_path


def test_views_have_joints_in_the_camera(data):
    (view,) = read_views(data)
    np.testing.assert_allclose(view.joints_cam["LHip"], [-1.9, 1.2, 3.5], atol=1e-9)
    assert view.camera.focal_px == (150, 160) and (view.camera.width, view.camera.height) == (100, 200)
    found = project(view)
    np.testing.assert_allclose(found[BODY_25.index("LHip")], [52 - 150 * 1.9 / 3.5, 98 + 160 * 1.2 / 3.5, 1])
    assert found[:, 2].sum() == 1, "Neck is another point in BODY_25B"


def test_folder_without_frames_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="camNN_FFFF"):
        read_views(tmp_path)


def test_interval_holds_the_mean():
    values = np.arange(24.0)
    low, high = interval(values)
    assert low < values.mean() < high and high - low == pytest.approx(
        2 * 1.96 * values.std() / 24**0.5, rel=0.15
    )


def simulated(count=400, shared=0.0, offset=(0.0, 0.0), seed=0):
    """Errors of `count` standing people from three independent sources of sigma 1, 0.5 and 0.8 %."""
    rng = np.random.default_rng(seed)
    people = [a_person(keypoints())] * count
    true = keypoints()
    side = (people[0].box_px[2:] - people[0].box_px[:2]).max() / 100

    def noisy(sigma, common=0.0):
        noise = rng.normal(size=(count, 25, 2)) * sigma + rng.normal(size=(count, 1, 2)) * common
        return [np.concatenate([true[:, :2] + side * n, true[:, 2:]], 1) for n in noise]

    ours, others, truth = noisy(1.0, shared), noisy(0.5), noisy(0.8)
    for found in ours:
        found[BODY_25.index("LHip"), :2] += side * np.array(offset)
        found[BODY_25.index("RHip"), :2] += side * np.array(offset) * [-1, 1]
    return [errors(people, a, b) for a, b in ((ours, truth), (ours, others), (others, truth))]


def test_hat_parts_detector_from_truth():
    detector, truth = hat_sigma(*simulated(), "knees")
    assert detector == pytest.approx(1.0, abs=0.08) and truth == pytest.approx(0.8, abs=0.08)


def test_mirrored_offset_is_found_and_taken_off():
    projected, *_ = simulated(offset=(2.0, 1.5))
    np.testing.assert_allclose(projected.offsets_pct["Hip"], [2.0, 1.5], atol=0.15)
    np.testing.assert_allclose(projected.offsets_pct["Knee"], 0, atol=0.15)
    assert np.abs(np.median(projected.residual_pct[:, BODY_25.index("RHip")], 0)).max() < 0.15


def test_shared_shift_and_correlation():
    apart, *_ = simulated()
    together, *_ = simulated(shared=1.0)
    assert abs(correlation(apart, "LHip", "LKnee")) < 0.15
    assert correlation(together, "LHip", "LKnee") == pytest.approx(1 / (1 + 1 + 0.64), abs=0.1)
    found, independent = shared_shift(together)
    assert found == pytest.approx(1.0, rel=0.15) and independent < 0.5
    assert shared_shift(apart)[0] == pytest.approx(shared_shift(apart)[1], rel=0.15)


def test_outlier_must_show_against_both():
    projected, openpose, _ = simulated()
    knee = BODY_25.index("LKnee")

    def with_jump(found, rows):
        moved = found.error_pct.copy()
        moved[rows, knee] += 12
        return Errors(moved, found.known, found.confidence, found.axes)

    jumps = outliers(with_jump(projected, [3, 5]), with_jump(openpose, [5]), "knees")
    assert jumps.sum() == 1 and jumps[2 * 5] and len(jumps) == 800


def test_what_lies_before_a_joint_hides_it():
    camera = Camera(500.0, 500.0, 100.0, 150.0, 200, 300, "user")
    joints = {n: np.array([(x - 100) / 150, (y - 150) / 150, 4.0]) for n, (x, y) in STANDING.items()}
    view = SimpleNamespace(joints_cam=joints, camera=camera)
    assert not hidden_joints(view, keypoints()).any()
    joints["RWrist"] = np.array([0.0, -0.2, 4.5])  # behind his back
    hidden = hidden_joints(view, keypoints())
    assert hidden[BODY_25.index("RWrist")] and hidden.sum() == 1


def test_variants_lead_back_to_the_photo():
    image = np.zeros((100, 80, 3), np.uint8)
    image[40:44, 20:24] = 255  # its middle: x 22, y 42
    for changed, back in variants(image):
        rows, columns = np.nonzero(changed[..., 0] > 127)
        point = np.tile([columns.mean() + 0.5, rows.mean() + 0.5, 1.0], (25, 1))
        np.testing.assert_allclose(back(point)[0], [22, 42, 1], atol=0.6)
