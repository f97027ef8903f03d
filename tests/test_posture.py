"""benchmarks/posture.py on hand-made joints, and the overlay's side views."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.posture import (
    Result,
    angles_deg,
    figures_of,
    kept_name,
    listed_photos,
    load_seen,
    person_tile,
    save_seen,
)
from fitter.label.soft_labels import SoftLabels
from fitter.see.keypoints import Person
from fitter.see.visibility import GUESSED, SEEN, vertices_seen
from fitter.write.layout import PANEL_PX, WIDEST_PX, panels
from fitter.write.overlay import PLUMB_RGB, SKIN_RGB, Clothes, overlay, side_view
from priors.clothing import PALETTE
from priors.skeleton import JOINT_NAMES

# fmt: off
UPRIGHT = {  # m, camera axes: y down, z away; ankles, knees, hips straight above each other
    "pelvis": (0, 0, 5), "left_hip": (.1, .1, 5), "right_hip": (-.1, .1, 5), "left_knee": (.1, .5, 5),
    "right_knee": (-.1, .5, 5), "left_ankle": (.1, .9, 5), "right_ankle": (-.1, .9, 5), "neck": (0, -.5, 5),
}
# fmt: on


def joints(**moved):
    at = np.zeros((24, 3))
    for name, place in (UPRIGHT | moved).items():
        at[JOINT_NAMES.index(name)] = place
    return at


def leaning(points, degrees):
    """Turned about the x axis through the ankles' middle: the top comes towards the camera by so many degrees."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    ankles = np.array([0, 0.9, 5])
    return (points - ankles) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T + ankles


def lifted(degrees, length=0.4):
    """Where an ankle is whose knee, at the same hip and x, is bent backwards by so many degrees."""
    angle = np.radians(degrees)
    return np.array([0, 0.5 + length * np.cos(angle), 5 + length * np.sin(angle)])


def test_a_straight_figure_has_no_angles():
    for value in angles_deg(joints()).values():
        assert value == pytest.approx(0, abs=1e-9)


def test_the_straighter_leg_supports():
    bent = lifted(30)
    both = joints(left_ankle=bent + [0.1, 0, 0], right_ankle=bent - [0.1, 0, 0])
    angles = angles_deg(both)
    assert angles["support_knee"] == pytest.approx(30) and angles["shank"] == pytest.approx(30)
    angles = angles_deg(joints(left_ankle=bent + [0.1, 0, 0]))
    assert angles["support_knee"] == pytest.approx(0, abs=1e-9)
    assert angles["shank"] == pytest.approx(0, abs=1e-9)  # the right one's


@pytest.mark.parametrize("degrees", (10, -10))
def test_leaning_to_the_camera_is_positive(degrees):
    angles = angles_deg(leaning(joints(), degrees))
    assert angles["sagittal"] == pytest.approx(degrees)
    for name in ("line", "trunk", "shank"):
        assert angles[name] == pytest.approx(10)
    assert angles["support_knee"] == pytest.approx(0, abs=1e-6)


def test_leaning_sideways_is_no_sagittal_lean():
    x = (0.5 + 0.9) * np.tan(np.radians(20))
    angles = angles_deg(joints(neck=(x, -0.5, 5)))
    assert angles["line"] == pytest.approx(20) and angles["sagittal"] == pytest.approx(0, abs=1e-9)


def test_failures_count_as_bent_and_are_counted():
    straight, bent = (dict.fromkeys(("line", "sagittal", "trunk", "shank"), 4.0) for _ in range(2))
    straight["support_knee"], bent["support_knee"] = 10.0, 40.0
    results = [Result("a", {"keypoints": bent, "dsr": straight}), Result("b", {}, "nobody found")]
    figures = figures_of(results)
    assert figures["found"] == (1.0, "of 2 photos")
    assert figures["support_knee_le20_share"][0] == 0.5
    assert figures["support_knee_le20_share_keypoints"][0] == 0
    assert (
        figures["support_knee_median_deg"][0] == 10 and figures["support_knee_median_deg_keypoints"][0] == 40
    )


def test_a_photo_that_is_missing_is_named(tmp_path):
    (tmp_path / "0001.jpg").write_bytes(b"one")
    (tmp_path / "list.txt").write_text("0001\n0001.jpg\n")
    assert listed_photos(tmp_path, tmp_path / "list.txt") == [tmp_path / "0001.jpg"] * 2
    (tmp_path / "list.txt").write_text("0001\n0002\n")
    with pytest.raises(FileNotFoundError, match="expected a photo '0002'"):
        listed_photos(tmp_path, tmp_path / "list.txt")


def test_what_was_seen_is_kept_by_the_photos_bytes(tmp_path):
    rng = np.random.default_rng(0)
    people = [
        Person("0", rng.random((25, 3)), "detector", rng.random(4), rng.random((33, 3))),
        Person("1", rng.random((25, 3)), "detector", rng.random(4), score=0.3, derived=("Neck",)),
    ]  # fmt: skip
    answers = {"0": SoftLabels(rng.random((8, 8, 21)).astype(np.float32), rng.random(4))}
    save_seen(tmp_path / "a.npz", people, answers)
    again, answered = load_seen(tmp_path / "a.npz")
    for one, other in zip(people, again, strict=True):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(getattr(other, name), value)
            assert type(getattr(other, name)) is type(value)
    assert answered.keys() == {"0"} and answered["0"].prob.dtype == np.float32
    np.testing.assert_array_equal(answered["0"].prob, answers["0"].prob)
    save_seen(tmp_path / "nobody.npz", [], {})
    assert load_seen(tmp_path / "nobody.npz") == ([], {})
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"one")
    first = kept_name(photo)
    assert kept_name(photo.rename(tmp_path / "b.jpg")) == first
    photo.write_bytes(b"two")
    assert kept_name(photo) != first


@pytest.fixture
def fit_of(toy_body):
    """degrees -> a toy body that leans towards the camera by so many degrees, as a fit of a 200 x 300 px photo."""

    def make(degrees, x=0.0):
        posed = toy_body(*(torch.zeros(1, n, dtype=torch.float64) for n in (10, 72)))
        vertices, at = (
            leaning(p[0].numpy() * [1, -1, -1] + [0, 0, 5], degrees) + [x, 0, 0]
            for p in (posed.vertices, posed.joints)
        )
        return SimpleNamespace(
            person="",
            image="a.jpg",
            vertices_cam=vertices,
            joints_cam=at,
            focal_px=np.full(2, 600.0),
            center_px=np.array([100.0, 150.0]),
            box_px=np.array([60.0, 60.0, 140.0, 290.0]),
        )

    return make


def lean_px(panel):
    """How far left of its lowest fifth the body's highest fifth is, and the body's height."""
    y, x = np.nonzero((panel != 255).any(-1) & (panel != PLUMB_RGB).any(-1))
    height = np.ptp(y)
    return x[y > y.max() - height / 5].mean() - x[y < y.min() + height / 5].mean(), height


@pytest.mark.parametrize("degrees", (15, -15))
def test_the_side_view_leans_as_the_body_does(fit_of, toy_body, degrees):
    panels = [side_view(fit_of(d), toy_body.faces.numpy(), (300, 200)) for d in (0, degrees)]
    (none, _), (lean, height) = map(lean_px, panels)
    assert height > 200
    turned = np.degrees(np.arctan((lean - none) / (0.8 * height)))  # the fifths' middles are 4/5 apart
    assert turned == pytest.approx(degrees, abs=3)  # a coarse body: its fifths are not its head and feet


def test_a_vertical_line_goes_through_the_ankles(fit_of, toy_body):
    panel = side_view(fit_of(15), toy_body.faces.numpy(), (300, 200))
    columns = np.nonzero((panel == PLUMB_RGB).all(-1).any(0))[0]
    assert len(columns) == 2 and (panel[:5, columns] == PLUMB_RGB).all()
    y, x = np.nonzero((panel != 255).any(-1) & (panel != PLUMB_RGB).any(-1))
    feet = x[y > y.max() - 0.1 * np.ptp(y)]
    assert feet.min() - 3 <= columns.mean() <= feet.max() + 3


@pytest.mark.parametrize(("count", "rows"), ((1, 1), (2, 1), (3, 2), (9, 3)))
def test_the_overlay_shows_everybody_from_the_side(fit_of, toy_body, count, rows):
    fits = [fit_of(5 * p, 0.1 * p) for p in range(count)]
    faces = toy_body.faces.numpy()
    picture = overlay(np.full((300, 200, 3), 90, np.uint8), fits, faces)
    at = panels((200, 300), count, False)
    height = PANEL_PX // rows
    assert picture.shape[1::-1] == at.size and at.size[0] <= 3 * WIDEST_PX
    assert at.sides[0][0] == 2 * round(200 * PANEL_PX / 300)  # right of the photo, and of the bodies over it
    for p, (fit, (x0, y0, x1, y1)) in enumerate(zip(fits, at.sides, strict=True)):
        assert (y1 - y0, x1 - x0) == (height, height * 3 // 4)
        expected = side_view(fit, faces, (height, height * 3 // 4), SKIN_RGB[p % len(SKIN_RGB)])
        np.testing.assert_array_equal(picture[y0:y1, x0:x1], expected)
        assert lean_px(picture[y0:y1, x0:x1])[1] > 120


@pytest.mark.parametrize("size", [(4000, 300), (300, 4000), (640, 480)])
def test_overlays_are_bounded_and_no_panel_covers_another(size):
    for people in (1, 2, 7, 40, 300):
        for labelled in (False, True):
            found = panels(size, people, labelled)
            assert found.size[0] <= 3 * WIDEST_PX and found.size[1] <= 2 * (PANEL_PX + 26)
            boxes = [
                found.photo,
                found.over,
                *found.sides,
                *filter(None, (found.labels, found.classes, found.legend)),
            ]
            covered = np.zeros(found.size[::-1], int)
            for x0, y0, x1, y1 in boxes:
                assert 0 <= x0 < x1 <= found.size[0] and 20 < y0 < y1 <= found.size[1]
                covered[y0:y1, x0:x1] += 1
            assert covered.max() == 1


def test_an_overlay_says_what_it_shows(fit_of, toy_body):
    """The same with other names and labels differs where these are written, and nowhere else."""
    faces, photo = toy_body.faces.numpy(), np.full((300, 200, 3), 90, np.uint8)
    ids = np.zeros((300, 200), np.uint8)
    ids[:, :100] = 5
    red = np.broadcast_to(PALETTE[5] / 255, (1, len(toy_body.template), 3))

    def drawn(person: str, ids: np.ndarray) -> np.ndarray:
        fit = fit_of(0)
        fit.person = person
        return overlay(photo, [fit], faces, Clothes(ids, red)).astype(int)

    at, picture = panels((200, 300), 1, True), drawn("", ids)
    for x0, y0, x1, _ in (at.photo, at.over, at.sides[0], at.labels, at.classes):
        assert (picture[y0 - 22 : y0 - 4, x0:x1] < 128).any()  # captions
    x0, y0, x1, y1 = at.legend
    assert (picture[y0:y1, x0:x1] == PALETTE[5]).all(-1).sum() >= 18 * 18  # its colour
    assert not (picture[y0:y1, x0:x1] == PALETTE[6]).all(-1).any()
    named = np.argwhere((drawn("17", ids) != picture).any(-1))
    x0, y0, x1, _ = at.sides[0]
    assert len(named) and (named >= [y0, x0]).all() and (named < [y0 + 30, x0 + 60]).all()
    both = ids.copy()
    both[:, 100:] = 6
    x0, y0, x1, y1 = at.legend
    assert (drawn("", both)[y0:y1, x0:x1] == PALETTE[6]).all(-1).any()


def test_a_tile_shows_both_bodies_from_the_side(fit_of, toy_body):
    fits = {"keypoints": fit_of(0), "dsr": fit_of(15)}
    angles = {method: angles_deg(fit.joints_cam) for method, fit in fits.items()}
    tile = person_tile(np.full((300, 200, 3), 90, np.uint8), fits, angles, toy_body.faces.numpy())
    upright, lean = (tile[:240, 150 * k : 150 * (k + 1)] for k in (2, 3))
    assert lean_px(lean)[0] > lean_px(upright)[0] + 20
    assert (tile[240:] < 128).any()  # written below


def test_limbs_that_are_not_seen_are_drawn_faintly(fit_of, toy_body):
    fit, faces, photo = fit_of(0), toy_body.faces.numpy(), np.zeros((300, 200, 3), np.uint8)
    states = np.full(24, SEEN)
    states[[n for n, name in enumerate(JOINT_NAMES) if name.endswith(("knee", "ankle", "foot"))]] = GUESSED
    weights = toy_body.weights.numpy()
    whole, part = (
        overlay(photo, [fit], faces, seen=vertices_seen(one, weights)[None]).astype(int)
        for one in (np.full(24, SEEN), states)
    )
    np.testing.assert_array_equal(whole, overlay(photo, [fit], faces))
    width = round(200 * PANEL_PX / 300)
    over, faint = (picture[26:, width : 2 * width] for picture in (whole, part))  # the bodies over the photo
    rows = np.flatnonzero(over.any((1, 2)))
    high, low = (rows[round(share * len(rows))] for share in (0.2, 0.9))
    np.testing.assert_array_equal(over[high], faint[high])
    assert 0 < faint[low].sum() < 0.6 * over[low].sum()
    side = [picture[:, 2 * width :] for picture in (whole, part)]
    assert side[1].sum() > side[0].sum()  # paler on white
