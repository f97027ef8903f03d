"""What is found to be an occluder or a stranger's clothes, on made-up label maps."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from test_limbs import person_keypoints

from fitter.config import FitConfig
from fitter.label.label_files import UNKNOWN
from fitter.label.occlusion import doubtful_pixels, filled_keypoints
from fitter.label.person_labels import labels_of_people
from fitter.pipeline import labels_alone
from fitter.see.camera import default_camera
from fitter.see.keypoints import BODY_25, Person
from fitter.see.limbs import PARTS, limb_capsules
from fitter.see.person_box import keypoint_box

SHIRT, PANTS, FACE, LEFT_LEG, RIGHT_LEG = 5, 9, 13, 16, 17
WEARS = {
    "head": FACE,
    "torso": SHIRT,
    "left-arm": 14,
    "right-arm": 15,
    "left-leg": LEFT_LEG,
    "right-leg": RIGHT_LEG,
}
SIZE = (400, 420)
SHIN = (slice(262, 330), slice(95, 150))  # the left one, of a bare leg


def painted(keypoints, size=SIZE, wider=1.0) -> np.ndarray:
    """A label map of the capsules of a person."""
    ids = np.zeros(size, np.uint8)
    for part, start, end, radius in limb_capsules(keypoints):
        ends = (tuple(int(v) for v in point) for point in (start, end))
        cv2.line(ids, *ends, WEARS[PARTS[part]], max(1, round(2 * radius * wider)))
    return ids


def standing(hidden=(), shift_px=(0, 0)):
    """Keypoints as detected, as fitted, and the body, of a person whose `hidden` keypoints were not found."""
    keypoints = person_keypoints(shift_px=shift_px)
    body = (painted(keypoints) > 0).astype(float)
    fitted = keypoints[:, :2].copy()
    keypoints[[BODY_25.index(name) for name in hidden]] = 0
    return keypoints, fitted, body


def test_a_person_fully_labelled_is_believed():
    keypoints, fitted, body = standing()
    for wider in (0.8, 1.0, 2.5):  # thin arms, and loose clothes
        assert not doubtful_pixels(painted(keypoints, wider=wider), keypoints, fitted, body).any()


def test_holes_and_a_limb_beside_its_label_are_believed():
    keypoints, fitted, body = standing()
    ids = painted(keypoints)
    ids[120:132, 90:102] = 0
    assert not doubtful_pixels(ids, keypoints, fitted, np.roll(body, 6, 1)).any()


@pytest.mark.parametrize("hidden", [(), ("LAnkle", "LKnee", "LHeel", "LBigToe")])
def test_an_occluded_shin_becomes_unknown(hidden):
    """Seen through by keypoints that are confident, or in the place where the fit without them has it."""
    keypoints, fitted, body = standing(hidden)
    ids = painted(person_keypoints())
    ids[SHIN] = 0
    doubtful = doubtful_pixels(ids, keypoints, fitted, body)
    shin = np.zeros(SIZE, bool)
    shin[SHIN] = body[SHIN] > 0
    assert doubtful[shin].mean() > 0.95
    assert not doubtful[ids > 0].any() and not doubtful[:230].any()
    assert doubtful.sum() < 3 * shin.sum()


def test_a_neighbours_blob_is_doubtful():
    keypoints, fitted, body = standing()
    mine, theirs = painted(keypoints), painted(person_keypoints(shift_px=(150, 0)))
    doubtful = doubtful_pixels(np.maximum(mine, theirs), keypoints, fitted, body)
    assert doubtful[theirs > 0].all() and not doubtful[theirs == 0].any()


def test_the_far_part_of_a_merged_blob_is_doubtful():
    keypoints, fitted, body = standing()
    ids = painted(keypoints)
    ids[90:170, 100:320] = SHIRT
    doubtful = doubtful_pixels(ids, keypoints, fitted, body)
    assert doubtful[95:165, 190:320].all() and not doubtful[:, :155].any()


def test_a_second_face_over_the_shoulder_is_doubtful():
    """Close to the arm, but no face is there."""
    keypoints, fitted, body = standing()
    ids = painted(keypoints)
    cv2.circle(ids, (170, 88), 20, FACE, -1)
    doubtful = doubtful_pixels(ids, keypoints, fitted, body)
    assert doubtful[80:96, 162:188].all() and not doubtful[:, :130].any()


def test_bare_legs_that_the_detector_missed_are_believed():
    """The pose prior guesses them straight; they are labelled to the side."""
    missing = [side + name for side in "LR" for name in ("Knee", "Ankle", "Heel", "BigToe")]
    keypoints, fitted, body = standing(missing)
    ids = painted(person_keypoints())
    moved = np.roll(ids, 25, 1)
    ids[230:] = moved[230:]
    assert not doubtful_pixels(ids, keypoints, fitted, body)[ids > 0].any()


def test_an_arm_that_is_only_guessed_hides_nothing():
    """The fit flings it up, the labels hold it at the side."""
    keypoints, fitted, body = standing(("LElbow", "LWrist"))
    raised = person_keypoints()
    raised[[BODY_25.index("LElbow"), BODY_25.index("LWrist")], :2] = (180, 60), (225, 30)
    body = (painted(raised) > 0).astype(float)
    ids = painted(person_keypoints())
    assert not doubtful_pixels(ids, keypoints, raised[:, :2], body).any()


def test_any_scale_gives_the_same():
    keypoints, fitted, body = standing()
    ids = painted(keypoints)
    ids[SHIN] = 0
    small = doubtful_pixels(ids, keypoints, fitted, body)
    large = doubtful_pixels(
        ids.repeat(3, 0).repeat(3, 1), keypoints * [3, 3, 1], 3 * fitted, body.repeat(3, 0).repeat(3, 1)
    )
    assert small.any() and (large[1::3, 1::3] == small).mean() > 0.99


def test_inputs_stay_and_repeats_agree():
    keypoints, fitted, body = standing()
    ids = painted(keypoints)
    ids[SHIN] = 0
    given = ids, keypoints, fitted, body
    copies = [array.copy() for array in given]
    first, second = doubtful_pixels(*given), doubtful_pixels(*given)
    np.testing.assert_array_equal(first, second)
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    with pytest.raises(ValueError, match="expected a body"):
        doubtful_pixels(ids, keypoints, fitted, body[:10])


def test_to_a_person_beyond_the_photo_all_labels_are_a_strangers():
    keypoints, fitted, body = standing(shift_px=(2000, 0))
    ids = painted(person_keypoints())
    np.testing.assert_array_equal(doubtful_pixels(ids, keypoints, fitted, 0 * body), ids > 0)


def test_filling_keeps_what_is_detected():
    keypoints, fitted, _ = standing(("LKnee",))
    filled = filled_keypoints(keypoints, fitted + 5)
    knee, hip = BODY_25.index("LKnee"), BODY_25.index("LHip")
    np.testing.assert_array_equal(filled[knee], [*(fitted[knee] + 5), 1])
    np.testing.assert_array_equal(filled[hip], keypoints[hip])


def test_labels_of_people_forget_what_is_doubtful_or_masked():
    keypoints, fitted, body = standing()
    ids = painted(keypoints)
    ids[SHIN] = 0
    people = [Person("0", keypoints, "openpose", keypoint_box(keypoints))]
    plain = labels_of_people({None: ids}, people)[0]
    found = labels_of_people({None: ids}, people, body[None], fitted[None])[0]
    assert plain.valid.all() and (found.ids[290:310, 118:123] == UNKNOWN).all()
    np.testing.assert_array_equal(found.valid, found.ids != UNKNOWN)
    mask = np.zeros(SIZE, np.uint8)
    mask[:75] = 1
    for masks in ({None: mask}, {"0": mask}):
        masked = labels_of_people({None: ids}, people, ignore=masks)[0]
        assert (masked.ids[mask > 0] == UNKNOWN).all() and FACE not in masked.mc_labels
        rest = (mask == 0) & (ids != FACE)  # the face is too small now: it goes altogether
        np.testing.assert_array_equal(masked.ids[rest], plain.ids[rest])
    other = labels_of_people({None: ids}, people, ignore={"1": mask})[0]
    np.testing.assert_array_equal(other.ids, plain.ids)


def test_the_settings_reach_the_labels(tmp_path, monkeypatch):
    """`ignore` and `unknown`, with a stand-in for the fit to the keypoints."""
    keypoints, fitted, body = standing()
    ids = painted(keypoints)
    ids[SHIN] = 0
    mask = np.zeros(SIZE, np.uint8)
    mask[120:130] = 7
    for folder, picture in (("labels", ids), ("masks", mask)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), picture)
    people = [Person("0", keypoints, "openpose", keypoint_box(keypoints))]
    camera = default_camera(SIZE[1], SIZE[0])

    def labels(**settings):
        config = FitConfig(images="", labels=str(tmp_path / "labels"), **settings)
        first = [SimpleNamespace(keypoints_px=fitted, transl_cam=np.array([0, 0, 3.0]))]
        models = SimpleNamespace(config=config, parse=None, faces=None)
        image = np.zeros((*SIZE, 3), np.uint8)
        return labels_alone(tmp_path / "a.jpg", image, people, camera, models, first)[0].valid

    monkeypatch.setattr("fitter.pipeline.coverage", lambda *_: body[None])
    assert labels(unknown="given").all()
    assert not labels()[290:310, 118:123].any() and labels()[:230].all()
    masked = labels(unknown="given", ignore=str(tmp_path / "masks"))
    np.testing.assert_array_equal(masked == 0, mask > 0)
