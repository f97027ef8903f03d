"""The viewer: what its sliders do to the bodies, and that a browser shows them where the photo has them (that one skips
where playwright or Chromium is not installed)."""

import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks.report_page import chromium, made_up_people
from fitter.body.model import load_body
from fitter.view import CHOSEN, FITTED, RUNNER_UP, Viewer, _down, main
from fitter.write.overlay import covered_by, overlay
from fitter.write.result import save_fit, vertices_of
from fitter.write.sequence import save_sequence, sequence_of
from priors.skeleton import JOINT_NAMES

pytest.importorskip("viser")
SIZE = (480, 640)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two photos, of two people and of one; the second of the first photo has a runner-up."""
    out, body, rng = tmp_path_factory.mktemp("out"), load_body(), np.random.default_rng(0)
    (out / "overlays").mkdir()
    for name, people in (("a", 2), ("b", 1)):
        fits = made_up_people(name, people, body, rng)
        other = np.concatenate([-fits[-1].pose, fits[-1].betas, fits[-1].transl_cam]).astype(np.float32)
        fits[-1] = replace(fits[-1], runner_up=other)
        fits = [replace(fit, name=name, image=f"{name}.jpg") for fit in fits]
        photo = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
        photo[:, : SIZE[0] // 2] = 160
        cv2.imwrite(str(out / "overlays" / f"{name}.jpg"), overlay(photo, fits, body.faces.numpy()))
        for person, fit in enumerate(fits):
            save_fit(out / f"{name}_{person}.npz", fit)
    return out


@pytest.fixture
def viewer(out):
    viewer = Viewer(out, port=8790)
    yield viewer
    viewer.server.stop()


def stands(viewer, person: int) -> np.ndarray:
    return np.asarray(viewer.meshes[person].vertices)


def test_everybody_is_as_fitted_until_something_is_moved(viewer):
    body = load_body()
    assert list(viewer.photos) == ["a", "b"] and list(viewer.person.options) == ["0", "1"]
    for person, fit in enumerate(viewer.fits):
        posed = vertices_of(fit.betas[None], fit.pose[None], fit.transl_cam[None], body)[0]
        np.testing.assert_allclose(stands(viewer, person), posed, atol=1e-6)
    assert [mesh.color == CHOSEN for mesh in viewer.meshes] == [True, False]


def test_sliders_move_the_chosen_person_alone_and_reset_undoes_it(viewer):
    fit, body = viewer.fits[1], load_body()
    before = [stands(viewer, person).copy() for person in range(2)]
    viewer.person.value = "1"
    viewer.joint.value = "left_elbow"
    viewer.turn[1].value = -90.0
    viewer.betas[0].value = 2.5
    viewer.place[2].value = 0.5
    pose, betas = fit.pose.copy(), fit.betas.copy()
    pose[3 * JOINT_NAMES.index("left_elbow") + 1] = np.radians(-90)
    betas[0] = 2.5
    expected = vertices_of(betas[None], pose[None], (fit.transl_cam + [0, 0, 0.5])[None], body)[0]
    np.testing.assert_allclose(stands(viewer, 1), expected, atol=1e-5)
    np.testing.assert_array_equal(stands(viewer, 0), before[0])
    viewer.person.value = "0"
    viewer.person.value = "1"  # what was moved stays so
    assert viewer.betas[0].value == 2.5
    viewer.reset()
    np.testing.assert_array_equal(stands(viewer, 1), before[1])
    assert (
        viewer.betas[0].value == pytest.approx(float(fit.betas[0]), abs=1e-6) and viewer.place[2].value == 0
    )


def test_the_runner_up_takes_the_place_of_the_fit(viewer):
    assert viewer.which.options == (FITTED,)  # the first has none
    viewer.person.value = "1"
    viewer.which.value = RUNNER_UP
    fit, body = viewer.fits[1], load_body()
    other = vertices_of(fit.betas[None], -fit.pose[None], fit.transl_cam[None], body)[0]
    np.testing.assert_allclose(stands(viewer, 1), other, atol=1e-6)
    viewer.reset()
    assert viewer.which.value == FITTED


def test_another_photo_and_the_floor_under_everybody(viewer):
    viewer.photo.value = "b"
    assert len(viewer.meshes) == 1 and list(viewer.person.options) == ["0"]
    fit, down = viewer.fits[0], _down(viewer.fits[0])
    floor = viewer.stage["floor"]
    assert np.asarray(floor.position) @ down == pytest.approx((stands(viewer, 0) @ down).max(), abs=1e-5)
    w, x, y, z = floor.wxyz
    up = np.array([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)])  # of its Y axis
    np.testing.assert_allclose(up, -down, atol=1e-6)
    tilted = replace(fit, quality={"camera_pitch_deg": 90.0, "camera_roll_deg": 0.0})
    np.testing.assert_allclose(_down(tilted), [0, 0, 1], atol=1e-9)  # looking straight down
    viewer.shown["floor"].value = False
    assert not floor.visible and viewer.stage["photo plane"].visible


def test_a_clip_goes_from_frame_to_frame(tmp_path, out):
    body, frames = load_body(), [5, 6, 7]
    fits = made_up_people("walk", 2, body, np.random.default_rng(1))
    for who, made in enumerate(fits):
        fit = replace(made, keypoints_cam=np.zeros((25, 3)))
        moved = [replace(fit, transl_cam=fit.transl_cam + [0.1 * at, 0, 0], name="walk") for at in range(3)]
        there = slice(0, 3 - who)  # the second goes before the last frame
        sequence = sequence_of(moved[there], frames[there], 25.0, [True] * (3 - who), [False] * (3 - who))
        save_sequence(tmp_path / f"walk_{who}.sequence.npz", sequence)
        save_fit(tmp_path / f"walk_{who}.npz", replace(moved[1], quality={"frame": 6.0}))
    viewer = Viewer(tmp_path, port=8795)
    try:
        assert (viewer.frame.min, viewer.frame.max, viewer.frame.value) == (5, 7, 6) and viewer.frame.visible
        first = stands(viewer, 0).copy()
        viewer.frame.value = 7
        np.testing.assert_allclose(
            stands(viewer, 0) - first, np.broadcast_to([0.1, 0, 0], first.shape), atol=1e-5
        )
        assert [mesh.visible for mesh in viewer.meshes] == [True, False]
        viewer.playing.value = True  # round and round
        shown = {7}
        for _ in range(100):
            shown.add(viewer.frame.value)
            time.sleep(0.02)
            if len(shown) == 3:
                break
        viewer.playing.value = False
        assert shown == {5, 6, 7}
    finally:
        viewer.server.stop()
    still = Viewer(out, port=8796)
    assert not still.frame.visible
    still.server.stop()


def test_trouble_is_one_line(tmp_path, capsys, monkeypatch):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert (
        capsys.readouterr().err
        == f"dsr-view: {tmp_path / 'nowhere'}: expected results of fit.py (*.npz), found none\n"
    )
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setitem(__import__("sys").modules, "viser", None)
    assert main([str(tmp_path)]) == 2


@pytest.mark.parametrize(
    "more, said",
    [
        (("--port", "99999"), "--port: expected 1 to 65535, got 99999"),
        (("--port", "0"), "--port: expected 1 to 65535, got 0"),
        (
            ("--host", "192.0.2.1"),
            "--host: expected an address of this machine, as 127.0.0.1 or 0.0.0.0, got 192.0.2.1",
        ),
    ],
)
def test_a_place_where_nothing_can_be_served_is_no_wait_without_end(out, capsys, more, said):
    assert main([str(out), *more]) == 2
    assert capsys.readouterr().err.startswith(f"dsr-view: {said}")


def test_a_file_that_is_spoilt_later_is_said_on_the_page(viewer, out, tmp_path):
    spoilt = tmp_path / "b_0.npz"
    spoilt.write_text("no fit")
    viewer.photos = {"a": viewer.photos["a"], "b": [spoilt]}
    viewer._unless_quiet(lambda: viewer._step(1))(None)
    assert "b_0.npz: expected a fit as written by fit.py" in viewer.about.content
    assert [fit.name for fit in viewer.fits] == ["a", "a"] and len(viewer.changed) == 2


def test_a_browser_shows_the_body_where_the_photo_has_it(viewer):
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright and Chromium")
    viewer.show("b")
    fit, rendered = viewer.fits[0], {}
    width, height = (int(side) for side in fit.image_size_px)
    fov = 2 * np.arctan(height / 2 / fit.focal_px[1])

    def render(client, name):
        rendered[name] = client.get_render(height, width, position=(0, 0, 0), wxyz=(1, 0, 0, 0), fov=fov)

    with api.sync_playwright() as playwright:
        try:
            browser = chromium(playwright)
        except api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        page = browser.new_page(viewport={"width": 600, "height": 500})
        troubles = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(f"http://127.0.0.1:{viewer.server.get_port()}")
        page.get_by_text("reset this person").wait_for()
        while not viewer.server.get_clients():
            page.wait_for_timeout(100)
        (client,) = viewer.server.get_clients().values()
        for name, hidden in (("photo", viewer.meshes), ("body", list(viewer.stage.values()))):
            for thing in hidden:
                thing.visible = False
            page.wait_for_timeout(1000)
            thread = threading.Thread(target=render, args=(client, name))
            thread.start()
            while thread.is_alive():
                page.wait_for_timeout(100)
            for thing in hidden:
                thing.visible = True
        browser.close()
    assert not troubles
    body = np.abs(rendered["body"][..., :3].astype(int) - rendered["body"][0, 0, :3]).sum(-1) > 60
    expected = covered_by(stands(viewer, 0)[None], viewer.faces, fit.focal_px, fit.center_px, (height, width))
    assert (body & expected).sum() / (body | expected).sum() > 0.9
    grey = rendered["photo"][..., :3].astype(int).mean(-1)
    assert abs(grey[20, 100] - 160) < 12 and abs(grey[20, 400] - 90) < 12  # light to the left, as the photo
