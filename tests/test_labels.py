"""Labels of people: finding, cleaning, telling people apart, crops and distances."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from test_limbs import person_keypoints

from fitter.label.label_files import UNKNOWN, write_labels
from fitter.label.order import covered_keypoints, in_front
from fitter.label.person_labels import (
    MINE,
    OTHERS,
    clean_labels,
    crop_labels,
    distance_px,
    labels_of_people,
    load_labels,
    own_pixels,
)
from fitter.see.keypoints import BODY_25, Person
from fitter.see.person_box import keypoint_box, label_box

SHIRT, PANTS, FACE, LEFT_ARM, RIGHT_ARM, LEFT_SHOE = 5, 9, 13, 14, 15, 18


def person(name="0", **about) -> Person:
    keypoints = person_keypoints(**about)
    return Person(name, keypoints, "openpose", keypoint_box(keypoints))


def test_loaded_maps_have_the_photos_size(tmp_path):
    write_labels(tmp_path / "a.png", np.full((4, 4), SHIRT, np.uint8))
    maps = load_labels({None: tmp_path / "a.png"}, (8, 8))
    np.testing.assert_array_equal(maps[None], np.full((8, 8), SHIRT))


def test_the_box_grows_with_the_person_not_the_photo():
    keypoints = person_keypoints()
    box, side = label_box(keypoints)
    assert side == pytest.approx(1.2 * (352 - 36))
    np.testing.assert_allclose(box, np.array([52, 36, 148, 352]) + 30 / 224 * side * np.array([-1, -1, 1, 1]))
    doubled, _ = label_box(keypoints * [2, 2, 1])
    np.testing.assert_allclose(doubled, 2 * box)
    keypoints[7, 2] = 0.3  # not confident: as if absent
    assert label_box(keypoints)[0][2] < box[2]


def test_cleaning_forgets_what_is_outside_the_box_and_tiny_mc_labels():
    ids = np.zeros((400, 400), np.uint8)
    ids[30:60, 80:120] = FACE
    ids[100:180, 50:60] = RIGHT_ARM
    ids[150:160, 140:150] = LEFT_ARM  # 100 px: 35 of the crop's
    ids[100:200, 300:350] = SHIRT  # a neighbour
    before = ids.copy()
    labels = clean_labels(ids, person_keypoints())
    assert labels.mc_labels == (FACE, RIGHT_ARM)
    assert (labels.ids[before == SHIRT] == UNKNOWN).all() and (
        labels.ids[before == LEFT_ARM] == UNKNOWN
    ).all()
    np.testing.assert_array_equal(labels.valid, labels.ids != UNKNOWN)
    kept = np.isin(before, (0, FACE, RIGHT_ARM))
    np.testing.assert_array_equal(labels.ids[kept], before[kept])
    np.testing.assert_array_equal(ids, before)


def test_cleaning_does_not_depend_on_the_photos_resolution():
    ids = np.random.default_rng(0).choice([0, SHIRT, FACE], (400, 200)).astype(np.uint8)
    ids[200:208, 140:150] = LEFT_ARM
    small = clean_labels(ids, person_keypoints())
    large = clean_labels(ids.repeat(2, 0).repeat(2, 1), person_keypoints() * [2, 2, 1])
    assert small.mc_labels == large.mc_labels == (FACE,)
    assert (small.ids == large.ids[::2, ::2]).mean() > 0.98  # but for the box's rounded border


def test_neighbours_each_get_their_own_shirt():
    ids = np.zeros((400, 330), np.uint8)
    ids[80:180, 60:140] = SHIRT
    ids[80:180, 140:240] = SHIRT  # touches the first: one connected region
    people = [person("0"), person("1", shift_px=(94, 0))]
    own = own_pixels(ids, people)
    assert (own[0][80:180, 70:135] == MINE).all() and (own[1][80:180, 70:135] == OTHERS).all()
    assert (own[1][80:180, 165:230] == MINE).all() and (own[0][80:180, 165:230] == OTHERS).all()
    assert (own[:, ids == 0] == 0).all()
    np.testing.assert_array_equal(own_pixels(ids, people[::-1]), own[::-1])


def test_a_region_that_is_nearly_all_one_persons_goes_whole():
    ids = np.zeros((400, 330), np.uint8)
    ids[80:180, 60:150] = SHIRT  # a wide sleeve of the first, before the second's arm
    ids[80:180, 170:220] = PANTS
    own = own_pixels(ids, [person("0"), person("1", shift_px=(95, 0))])
    assert (own[0][ids == SHIRT] == MINE).all() and (own[1][ids == PANTS] == MINE).all()


def test_rendered_bodies_overrule_skeletons():
    ids = np.zeros((400, 330), np.uint8)
    ids[80:180, 145:160] = PANTS  # between the two, nearer to the first's skeleton than to the second's
    people = [person("0"), person("1", shift_px=(95, 0))]
    bodies = np.zeros((2, 400, 330))
    bodies[0, 40:340, 70:120] = bodies[1, 40:340, 150:260] = 1
    own = own_pixels(ids, people, bodies)
    assert (own[1][ids == PANTS] == MINE).all()
    with pytest.raises(ValueError, match="expected bodies"):
        own_pixels(ids, people, bodies[:1])
    empty = np.zeros_like(bodies)  # no body yet: skeletons
    np.testing.assert_array_equal(own_pixels(ids, people, empty), own_pixels(ids, people))


def test_labels_of_nobody_and_of_pixels_far_from_everybody():
    ids = np.full((400, 600), SHIRT, np.uint8)
    assert own_pixels(ids, []).shape == (0, 400, 600)
    own = own_pixels(ids, [person("0"), person("1", shift_px=(95, 0))])
    assert (own[:, :, 400:] == 0).all()


def test_a_neighbours_pixels_are_unknown_not_background():
    ids = np.zeros((400, 330), np.uint8)
    ids[80:180, 70:135] = SHIRT
    ids[80:180, 165:230] = PANTS
    first, second = labels_of_people({None: ids}, [person("0"), person("1", shift_px=(95, 0))])
    assert (first.ids[ids == SHIRT] == SHIRT).all() and (first.valid[ids == PANTS] == 0).all()
    assert (second.ids[ids == PANTS] == PANTS).all() and (second.valid[ids == SHIRT] == 0).all()


def test_own_maps_win_and_mark_what_is_a_neighbours():
    mine, theirs = np.zeros((2, 400, 330), np.uint8)
    mine[80:180, 70:135] = SHIRT
    theirs[80:180, 130:230] = PANTS
    people = [person("0"), person("1", shift_px=(95, 0)), person("2")]
    first, second, third = labels_of_people({"0": mine, "1": theirs}, people)
    assert third is None
    assert (first.ids[mine > 0] == SHIRT).all()  # where both claim a pixel, one's own map holds
    assert (first.ids[(mine == 0) & (theirs > 0)] == UNKNOWN).all()
    assert (second.ids[theirs > 0] == PANTS).all()


def test_whose_labels_show_where_two_bodies_overlap_stands_in_front():
    bodies, shown = np.zeros((2, 3, 200, 300))
    shown = shown > 0
    bodies[0, 20:180, 20:90] = bodies[1, 20:180, 70:150] = bodies[2, 20:180, 200:260] = 1
    shown[0, 20:180, 20:75], shown[1, 20:180, 75:150], shown[2, 20:180, 200:260] = True, True, True
    depth, heights = np.array([3.0, 4.0, 6.0]), np.full(3, 160.0)
    before = in_front(bodies, shown, depth, heights)  # 15 of 20 columns of the overlap are the second's
    assert before.tolist() == [[False, False, True], [True, False, True], [False, False, False]]
    shown[:, 20:180, 70:90] = False
    shown[0, 20:180, 70:80] = shown[1, 20:180, 80:90] = True  # as much of one as of the other
    assert not in_front(bodies, shown, depth, heights)[:2, :2].any()
    assert not in_front(bodies, shown, np.array([3.0, 4.0, 4.2]), heights)[1, 2]  # hardly nearer


def test_whoever_stands_behind_is_background_to_whoever_is_before():
    ids = np.zeros((400, 330), np.uint8)
    ids[80:180, 70:150], ids[80:180, 150:230] = SHIRT, PANTS
    people = [person("0"), person("1", shift_px=(95, 0))]
    bodies = np.zeros((2, 400, 330))
    bodies[0, 80:180, 70:150] = bodies[1, 80:180, 120:230] = 1
    maps = {"0": np.where(ids == SHIRT, ids, 0), "1": np.where(ids == PANTS, ids, 0)}
    first, second = labels_of_people(maps, people, bodies, depth_m=np.array([3.0, 3.1]))
    assert first.valid.all() and (first.ids == maps["0"]).all()
    assert (second.valid[ids == SHIRT] == 0).all() and (second.ids[ids == PANTS] == PANTS).all()


def test_keypoints_before_which_somebody_else_shows_are_covered():
    one = person("0")
    ids = np.zeros((400, 330), np.uint8)
    unknown = np.zeros(ids.shape, bool)
    x, y = one.keypoints_px[BODY_25.index("LWrist"), :2].astype(int)
    unknown[y - 20 : y + 20, x - 20 : x + 20] = True
    found = covered_keypoints(one.keypoints_px, ids, unknown)
    assert found[BODY_25.index("LWrist")] and not found[BODY_25.index("Nose")]
    ids[y, x + 1] = SHIRT
    unknown[y, x + 1] = False  # the person shows beside it
    assert not covered_keypoints(one.keypoints_px, ids, unknown)[BODY_25.index("LWrist")]


def slow_crop(ids, valid, window, size, fine=20):
    """Mean over a fine grid of points in each cell."""
    h, w = size
    x0, y0, x1, y1 = window
    x = np.floor(x0 + (np.arange(w * fine) + 0.5) / (w * fine) * (x1 - x0)).astype(int)
    y = np.floor(y0 + (np.arange(h * fine) + 0.5) / (h * fine) * (y1 - y0)).astype(int)
    inside = ((y >= 0) & (y < ids.shape[0]))[:, None] & ((x >= 0) & (x < ids.shape[1]))
    at = np.ix_(y.clip(0, ids.shape[0] - 1), x.clip(0, ids.shape[1] - 1))
    seen = inside & (valid[at] > 0) & (ids[at] != UNKNOWN)
    share = np.stack([(ids[at] == label) & seen for label in range(20)], -1)
    share = share.reshape(h, fine, w, fine, 20).mean((1, 3))
    known = share.sum(-1)
    return share / np.maximum(known, 1e-9)[..., None], known


@pytest.mark.parametrize(
    "window", [(0, 0, 30, 40), (2.5, 3.25, 27.1, 38.0), (-6.5, -3, 33, 55.5), (10.2, 10.1, 13.4, 14.9)]
)
def test_crops_average_areas(window):
    rng = np.random.default_rng(1)
    ids = rng.choice([0, SHIRT, FACE, UNKNOWN], (40, 30)).astype(np.uint8)
    valid = (rng.random((40, 30)) > 0.1).astype(np.uint8)
    prob, known = crop_labels(ids, valid, window, (12, 9))
    slow_prob, slow_known = slow_crop(ids, valid, window, (12, 9))
    assert prob.shape == (12, 9, 20) and prob.dtype == known.dtype == np.float32
    np.testing.assert_allclose(known, slow_known, atol=0.06)  # the grid of 20 x 20 points is that coarse
    weight = slow_known[..., None]
    np.testing.assert_allclose(prob * weight, slow_prob * weight, atol=0.06)
    np.testing.assert_allclose(prob.sum(-1)[known > 0], 1, atol=1e-5)


def test_a_crop_at_the_photos_own_pixels_is_exact():
    ids = np.random.default_rng(2).choice([0, SHIRT, FACE, UNKNOWN], (40, 30)).astype(np.uint8)
    prob, known = crop_labels(ids, np.ones_like(ids), (5, 7, 25, 37), (30, 20))
    there = ids[7:37, 5:25]
    np.testing.assert_allclose(known, there != UNKNOWN, atol=1e-6)
    np.testing.assert_allclose(prob[there == SHIRT][:, SHIRT], 1, atol=1e-6)
    assert (prob[there == UNKNOWN] == 0).all()


def test_a_crop_beyond_the_photo_knows_nothing():
    prob, known = crop_labels(np.ones((5, 5), np.uint8), np.ones((5, 5)), (10, 0, 20, 10), (4, 4))
    assert (prob == 0).all() and (known == 0).all()
    with pytest.raises(ValueError, match="expected a window"):
        crop_labels(np.ones((5, 5), np.uint8), np.ones((5, 5)), (3, 0, 3, 4), (4, 4))


def test_distances_by_hand():
    mask = np.zeros((4, 5))
    mask[1, 1] = 1
    y, x = np.mgrid[0:4, 0:5]
    np.testing.assert_allclose(distance_px(mask), np.hypot(y - 1, x - 1), atol=1e-6)
    assert (distance_px(np.zeros((3, 3))) == 0).all() and (distance_px(np.ones((3, 3))) == 0).all()


def test_distance_is_the_nearest_number_wherever_in_memory_the_mask_lies():
    mask = np.random.default_rng(0).random((150, 151)) > 0.999
    squared = np.rint(distance_transform_edt(~mask) ** 2)
    np.testing.assert_array_equal(distance_px(mask), np.sqrt(squared).astype(np.float32))
