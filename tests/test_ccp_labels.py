"""Clothing-Co-Parsing's classes become the 20 labels."""

import json

import numpy as np
import pytest
from PIL import Image
from test_limbs import person_keypoints

from fitter.label.label_files import UNKNOWN, read_labels
from fitter.see.keypoints import BODY_25, Person
from fitter.see.person_box import keypoint_box
from priors.clothing import LABELS, MIRROR_LABELS
from synth.ccp_labels import CCP_CLASSES, CCP_TO_LABEL, convert, main, main_person

CLASS = {name: number for number, name in enumerate(CCP_CLASSES)}
LABEL = {name: number for number, name in enumerate(LABELS)}


def dressed() -> np.ndarray:
    """CCP classes of the standing person: shirt, trousers, bare head, hands and neck, shoes."""
    classes = np.zeros((380, 200), np.uint8)
    classes[20:75, 85:116] = CLASS["skin"]
    classes[15:30, 80:121] = CLASS["hair"]
    classes[75:185, 45:156] = CLASS["shirt"]
    classes[75:90, 95:106] = CLASS["skin"]  # an open collar
    classes[165:215, 40:60] = CLASS["skin"]
    classes[165:215, 140:160] = CLASS["skin"]
    classes[185:335, 70:131] = CLASS["jeans"]
    classes[335:360, 65:92] = CLASS["boots"]
    classes[335:360, 108:135] = CLASS["boots"]
    return classes


def test_the_table_names_every_class_once():
    assert len(CCP_CLASSES) == 59 and CCP_CLASSES[0] == "null"
    assert set(CCP_TO_LABEL.values()) <= set(LABELS) | {"unknown", "skin", "shoes", "tights", "bodysuit"}


def test_a_standing_person():
    ids, valid = convert(dressed(), person_keypoints())
    at = {(45, 100): "face", (20, 90): "hair", (120, 100): "upper-clothes", (190, 52): "right-arm"}
    at |= {(190, 148): "left-arm", (250, 90): "pants", (350, 70): "right-shoe", (350, 130): "left-shoe"}
    assert {where: LABELS[ids[where]] for where in at} == at
    assert ids[85, 100] == UNKNOWN  # the chest is nobody's skin
    assert ids[0, 0] == 0
    np.testing.assert_array_equal(valid, ids != UNKNOWN)


def test_mirrored_photo_gives_mirrored_labels():
    classes, keypoints = dressed(), person_keypoints()
    mirrored = keypoints.copy()
    for i, name in enumerate(BODY_25):
        twin = {"L": "R", "R": "L"}.get(name[0], name[0]) + name[1:]
        mirrored[i] = keypoints[BODY_25.index(twin if twin in BODY_25 else name)]
    mirrored[:, 0] = np.where(mirrored[:, 2] > 0, 200 - mirrored[:, 0], 0)
    swap = np.full(256, UNKNOWN)
    swap[:20] = MIRROR_LABELS
    expected = swap[convert(classes, keypoints)[0][:, ::-1]]
    assert (convert(classes[:, ::-1], mirrored)[0] == expected).mean() > 0.999  # but for ties


def test_skin_of_a_limb_without_keypoints_is_unknown():
    classes = dressed()
    keypoints = person_keypoints(missing=("LElbow", "LWrist"))
    ids, _ = convert(classes, keypoints)
    assert (ids[190:210, 145:155] == UNKNOWN).all() and LABELS[ids[190, 52]] == "right-arm"
    back = person_keypoints(missing=("Nose",))
    assert (convert(classes, back)[0] == LABEL["face"]).sum() == 0


def test_a_hand_on_the_thigh_is_no_leg_but_bare_legs_are():
    classes = np.zeros((380, 200), np.uint8)
    classes[200:220, 110:125] = CLASS["skin"]  # lies on the thigh, the wrist is 50 px away
    ids, _ = convert(classes, person_keypoints())
    assert not np.isin(ids, [LABEL["left-leg"], LABEL["right-leg"]]).any()
    classes[200:330, 110:130] = CLASS["skin"]
    ids, _ = convert(classes, person_keypoints())
    assert (ids[230:330, 110:130] == LABEL["left-leg"]).all()


def test_two_shoes_beside_one_foot_are_still_a_pair():
    classes = np.zeros((380, 240), np.uint8)
    classes[340:360, 100:130] = CLASS["shoes"]
    classes[340:360, 140:170] = CLASS["shoes"]
    ids, _ = convert(classes, person_keypoints())
    assert (ids[340:360, 100:130] == LABEL["right-shoe"]).all()
    assert (ids[340:360, 140:170] == LABEL["left-shoe"]).all()


def test_a_shoe_beyond_the_only_foot_seen_is_unknown():
    classes = np.zeros((380, 240), np.uint8)
    classes[335:360, 65:92] = classes[335:360, 100:135] = CLASS["shoes"]
    ids, _ = convert(classes, person_keypoints(missing=("LHip", "LKnee", "LAnkle", "LBigToe", "LHeel")))
    assert (ids[335:360, 65:92] == LABEL["right-shoe"]).all() and (ids[335:360, 100:135] == UNKNOWN).all()


def test_loosely_named_classes_go_by_place():
    classes = np.zeros((380, 200), np.uint8)
    classes[90:170, 80:120] = classes[200:330, 110:130] = CLASS["tights"]
    ids, _ = convert(classes, person_keypoints())
    assert LABELS[ids[120, 100]] == "upper-clothes" and LABELS[ids[300, 120]] == "pants"
    classes = np.zeros((380, 200), np.uint8)
    classes[90:200, 70:130] = CLASS["bodysuit"]
    assert LABELS[convert(classes, person_keypoints())[0][120, 100]] == "upper-clothes"
    classes[90:330, 70:130] = CLASS["bodysuit"]
    assert LABELS[convert(classes, person_keypoints())[0][120, 100]] == "jumpsuits"


def test_a_bag_is_neither_background_nor_clothing():
    classes = dressed()
    classes[100:150, 80:120] = CLASS["bag"]
    ids, valid = convert(classes, person_keypoints())
    assert (ids[100:150, 80:120] == UNKNOWN).all() and (valid[100:150, 80:120] == 0).all()


def test_classes_beyond_the_table_are_refused():
    with pytest.raises(ValueError, match="expected classes 0-58, got 59"):
        convert(np.full((4, 4), 59, np.uint8), person_keypoints())


def test_labels_belong_to_the_person_under_them():
    keypoints = [person_keypoints(shift_px=(300, 0)), person_keypoints()]
    people = [Person(str(i), k, "openpose", keypoint_box(k)) for i, k in enumerate(keypoints)]
    assert main_person(people, dressed()).id == "1"
    assert main_person(people[:1], dressed()) is None
    only_head = np.where(np.arange(25) == 0, 1, 0)[:, None] * person_keypoints()
    assert main_person([Person("2", only_head, "openpose", keypoint_box(only_head))], dressed()) is None


def test_the_command_writes_what_the_fitter_reads(tmp_path, capsys):
    for name in ("images", "labels", "keypoints"):
        (tmp_path / name).mkdir()
    (tmp_path / "labels.json").write_text(json.dumps({"labels": CCP_CLASSES}))
    for stem in ("0001", "0002"):
        Image.fromarray(np.zeros((380, 200, 3), np.uint8)).save(tmp_path / "images" / f"{stem}.jpg")
        Image.fromarray(dressed()).save(tmp_path / "labels" / f"{stem}.png")
    people = [{"pose_keypoints_2d": person_keypoints().reshape(-1).tolist()}]
    (tmp_path / "keypoints" / "0001_keypoints.json").write_text(json.dumps({"people": people}))
    out = tmp_path / "out"
    main(["--ccp", str(tmp_path), "--keypoints", str(tmp_path / "keypoints"), "--out", str(out)])
    np.testing.assert_array_equal(read_labels(out / "0001.png"), convert(dressed(), person_keypoints())[0])
    printed = capsys.readouterr().out
    assert "left out 0002.jpg" in printed and "1 of 2 label maps" in printed
