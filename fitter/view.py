"""The people of a run in 3D, in the browser: `dsr-view OUT` (`python -m fitter.view OUT`).

Everybody of a photo stands in the photo's camera, before the photo and on a level floor. Shape and pose of the chosen
one follow sliders; nothing is written. Clips play. Needs the package viser (the extra `view`).
"""

import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from fitter.write.overlay import SKIN_RGB
from fitter.write.report import overlay_file, panels_of, people_by_photo
from fitter.write.result import Fit, body_of, load_fit, vertices_of
from fitter.write.sequence import Sequence, load_sequence
from fitter.write.store import SEQUENCE
from priors.skeleton import JOINT_NAMES

PORT = 8080
BEHIND = 1.15  # the photo's distance, in that of the farthest point of anybody
MOST_BETA, MOST_DEG, PLACES_M = 5.0, 180.0, 2.0  # how far sliders go
CHOSEN, FITTED, RUNNER_UP = (255, 176, 96), "fitted", "runner-up"
# where the eye stands about the middle of all people, in metres away from it by its distance from the camera
SIDES = {"the camera": None, "the left": (-1, -0.1, 0), "the right": (1, -0.1, 0),
         "above": (0, -1, -0.01)}  # fmt: skip


class Viewer:
    """A server with one page, which all browsers that open it share; it serves from when it is made.

    out: folder of a run; body: SMPL file of the fits, if it has moved since; port, host: where it serves; the next free
    port if that is taken

    ImportError: no viser. FileNotFoundError: no fits, or no body. ValueError: fits of another body, no
    such port or host.
    """

    def __init__(self, out: str | Path, body: str | None = None, port: int = PORT, host: str = "127.0.0.1"):
        self.out = Path(out)
        self.photos: dict[str, list[Path]] = {}
        for people in people_by_photo(self.out):
            if people:
                image = people[0][1].relative_to(self.out).with_suffix("").as_posix().rpartition("_")[0]
                self.photos[image] = [path for _, path in people]
        if not self.photos:
            raise FileNotFoundError(f"{self.out}: expected results of fit.py (*.npz), found none")
        first = load_fit(next(iter(self.photos.values()))[0])
        given = None
        if body:
            from fitter.body.model import load_body

            given = load_body(body)
        self.body = body_of(first.body_model, first.configuration, given)
        self.faces = self.body.faces.cpu().numpy()
        check_place(host, port)
        self.server = _viser().ViserServer(
            host=host, port=port, label=f"dsr-view {self.out.name}", verbose=False
        )
        self.server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        self.server.scene.set_up_direction("-y")
        self.fits: list[Fit] = []
        self.changed: list[Fit] = []  # as the sliders have them
        self.meshes: list = []
        self.stage: dict = {}  # what stands about them
        self.clip: dict[str, Sequence] = {}  # of a clip, everybody's motion by their id
        self._lock, self._quiet = threading.RLock(), False  # each event comes in a thread of its own
        self._controls()
        self.show(next(iter(self.photos)))
        self.server.on_client_connect(lambda client: self._look("the camera", [client]))

    def show(self, photo: str) -> None:
        """Another photo, by its name in the results."""
        fits = [load_fit(path) for path in self.photos[photo]]
        strangers = {fit.body_model for fit in fits} - {self.body.name}
        if strangers:
            raise ValueError(
                f"{photo}: expected fits of the body {self.body.name!r}, got {strangers.pop()!r}"
            )
        files = {fit.person: self.out / f"{fit.name}_{fit.person}{SEQUENCE}" for fit in fits}
        self.clip = {who: load_sequence(file) for who, file in files.items() if file.is_file()}
        self.fits, self.changed = fits, list(fits)
        self.playing.value = False
        vertices = [self._vertices(fit) for fit in self.fits]
        with self.server.atomic():
            self.server.scene.reset()
            self.stage.clear()
            self.meshes = [
                self.server.scene.add_mesh_simple(f"/people/{fit.person}", points, self.faces)
                for fit, points in zip(self.fits, vertices, strict=True)
            ]
            for person, mesh in enumerate(self.meshes):
                mesh.on_click(
                    lambda _, person=person: setattr(self.person, "value", self.person.options[person])
                )
            self._stage(np.concatenate(vertices))
            with self._quietly():
                self.photo.value = photo
                self.person.options = [fit.person for fit in self.fits]
                self.person.value = self.fits[0].person
                self.frame.visible = self.playing.visible = bool(self.clip)
                if self.clip:
                    self.frame.min = int(min(one.frames[0] for one in self.clip.values()))
                    self.frame.max = int(max(one.frames[-1] for one in self.clip.values()))
                    self.frame.value = int(self.fits[0].quality.get("frame", self.frame.min))
        self._choose()
        self._look("the camera", self.server.get_clients().values())

    def go(self, frame: int) -> None:
        """A clip's people and picture in another frame; who is not there is not shown. What was moved is as fitted."""
        for row, fit in enumerate(self.fits):
            motion = self.clip.get(fit.person)
            at = frame - int(motion.frames[0]) if motion else -1
            self.meshes[row].visible = there = bool(motion) and 0 <= at < len(motion)
            if motion and there:
                numbers = {name: float(values[at]) for name, values in motion.quality.items()}
                self.fits[row] = self.changed[row] = replace(
                    fit, pose=motion.pose[at], transl_cam=motion.transl_cam[at], quality=numbers,
                    valid=bool(motion.valid[at]), reasons=motion.reasons[at], runner_up=np.zeros(0),
                )  # fmt: skip
        image = self._picture(frame)
        if image is not None and "photo plane" in self.stage:
            self.stage["photo plane"].image = image
        self._choose()

    def reset(self) -> None:
        """The chosen person as fitted."""
        self.changed[self.chosen] = self.fits[self.chosen]
        self._choose()

    @property
    def chosen(self) -> int:
        """Number of the chosen person in the photo."""
        return list(self.person.options).index(self.person.value)

    def _controls(self) -> None:
        """What stands at the right of the page."""
        gui = self.server.gui
        self.photo = gui.add_dropdown("photo", tuple(self.photos))
        self.photo.on_update(self._unless_quiet(lambda: self.show(self.photo.value)))
        steps = gui.add_button_group("", ("previous", "next"))
        steps.on_click(self._unless_quiet(lambda: self._step({"previous": -1, "next": 1}[steps.value])))
        self.frame = gui.add_slider("frame", 0, 1, 1, 0, visible=False)
        self.frame.on_update(self._unless_quiet(lambda: self.go(self.frame.value)))
        self.playing = gui.add_checkbox("play", False, visible=False)
        self.playing.on_update(lambda _: threading.Thread(target=self._play, daemon=True).start())
        self.person = gui.add_dropdown("person", ("0",))
        self.person.on_update(self._unless_quiet(self._choose))
        self.about = gui.add_markdown("")
        self.seen_from = gui.add_button_group("from", tuple(SIDES))
        self.seen_from.on_click(
            lambda event: self._look(event.target.value, [event.client] if event.client else [])
        )
        self.shown = {name: gui.add_checkbox(name, True) for name in ("photo plane", "floor")}
        for box in self.shown.values():
            box.on_update(self._unless_quiet(self._toggle))
        self.which = gui.add_dropdown(
            "body", (FITTED,), hint="the runner-up is another body that the keypoints allow"
        )
        self.which.on_update(self._unless_quiet(self._swap))
        gui.add_button("reset this person").on_click(self._unless_quiet(self.reset))
        with gui.add_folder("pose"):
            self.joint = gui.add_dropdown("joint", JOINT_NAMES)
            self.joint.on_update(self._unless_quiet(self._choose))
            self.turn = [gui.add_slider(f"{axis}, °", -MOST_DEG, MOST_DEG, 1.0, 0.0) for axis in "xyz"]
        with gui.add_folder("shape"):
            self.betas = [gui.add_slider(f"beta {n}", -MOST_BETA, MOST_BETA, 0.05, 0.0) for n in range(10)]
        with gui.add_folder("place", expand_by_default=False):
            self.place = [gui.add_slider(f"{axis}, m", -PLACES_M, PLACES_M, 0.01, 0.0) for axis in "xyz"]
        for slider in (*self.turn, *self.betas, *self.place):
            slider.on_update(self._unless_quiet(partial(self._apply, slider)))

    @contextmanager
    def _quietly(self):
        """Within, values that the program sets are not taken for the user's."""
        with self._lock:
            before, self._quiet = self._quiet, True
            try:
                yield
            finally:
                self._quiet = before

    def _unless_quiet(self, step: Callable[[], None]) -> Callable:
        """What is done when the user changes something; the page says what cannot be read any more."""

        def changed(_) -> None:
            with self._lock:
                if not self._quiet:
                    try:
                        step()
                    except (ValueError, OSError) as error:
                        self.about.content = f"**{error}**"

        return changed

    def _play(self) -> None:
        """Goes from frame to frame, round and round, as long as the box is ticked."""
        while self.playing.value and self.clip:
            started = time.monotonic()
            after = self.frame.value + 1
            self.frame.value = after if after <= self.frame.max else self.frame.min
            time.sleep(max(0.0, 1 / next(iter(self.clip.values())).fps - (time.monotonic() - started)))

    def _step(self, by: int) -> None:
        names = list(self.photos)
        self.show(names[(names.index(self.photo.value) + by) % len(names)])

    def _choose(self) -> None:
        """Colours, numbers and sliders of the chosen person and joint."""
        for person, mesh in enumerate(self.meshes):
            pale = tuple(round(255 * value) for value in SKIN_RGB[person % len(SKIN_RGB)])
            mesh.color = CHOSEN if person == self.chosen else pale
            mesh.vertices = self._vertices(self.changed[person])
        fit, now = self.fits[self.chosen], self.changed[self.chosen]
        at = 3 * JOINT_NAMES.index(self.joint.value)
        with self._quietly():
            self.about.content = _about(fit)
            self.which.options = (FITTED, RUNNER_UP) if fit.runner_up.size else (FITTED,)
            ours = fit.runner_up.size and np.array_equal(now.pose, fit.runner_up[:72])
            self.which.value = RUNNER_UP if ours else FITTED
            values = (*np.degrees(now.pose[at : at + 3]), *now.betas, *(now.transl_cam - fit.transl_cam))
            for slider, value in zip((*self.turn, *self.betas, *self.place), values, strict=True):
                slider.value = float(np.clip(value, slider.min, slider.max))

    def _apply(self, slider) -> None:
        """The chosen person as one slider says; the others may stand for values beyond their ends."""
        now = self.changed[self.chosen]
        pose, betas, place = now.pose.copy(), now.betas.copy(), now.transl_cam.copy()
        if slider in self.turn:
            pose[3 * JOINT_NAMES.index(self.joint.value) + self.turn.index(slider)] = np.radians(slider.value)
        elif slider in self.betas:
            betas[self.betas.index(slider)] = slider.value
        else:
            axis = self.place.index(slider)
            place[axis] = self.fits[self.chosen].transl_cam[axis] + slider.value
        self.changed[self.chosen] = replace(now, pose=pose, betas=betas, transl_cam=place)
        self.meshes[self.chosen].vertices = self._vertices(self.changed[self.chosen])

    def _swap(self) -> None:
        fit = self.fits[self.chosen]
        if self.which.value == RUNNER_UP:
            pose, betas, place = np.split(fit.runner_up, (72, 82))
            fit = replace(fit, pose=pose, betas=betas, transl_cam=place)
        self.changed[self.chosen] = fit
        self._choose()

    def _vertices(self, fit: Fit) -> np.ndarray:
        return vertices_of(fit.betas[None], fit.pose[None], fit.transl_cam[None], self.body)[0]

    def _stage(self, points: np.ndarray) -> None:
        """Photo, floor and camera about people's points [N, 3] m."""
        scene, fit = self.server.scene, self.fits[0]
        (width, height), (fx, fy), (cx, cy) = fit.image_size_px, fit.focal_px, fit.center_px
        far = BEHIND * points[:, 2].max()
        image = self._photo(fit)
        if image is not None:
            middle = far * (width / 2 - cx) / fx, far * (height / 2 - cy) / fy, far
            self.stage["photo plane"] = scene.add_image(
                "/photo", image, far * width / fx, far * height / fy, position=middle,
                cast_shadow=False, receive_shadow=False,
            )  # fmt: skip
        self._middle = (points.min(0) + points.max(0)) / 2
        down, side = _down(fit), 2.0 * np.ceil((points.max(0) - points.min(0))[[0, 2]].max() / 2 + 1)
        below = self._middle + down * (points @ down - self._middle @ down).max()
        self.stage["floor"] = scene.add_grid(
            "/floor", side, side, plane="xz", position=tuple(below), wxyz=_turned_to(-down), fade_strength=0.0
        )
        self._toggle()

    def _toggle(self) -> None:
        for name, thing in self.stage.items():
            thing.visible = self.shown[name].value

    def _photo(self, fit: Fit) -> np.ndarray | None:
        """The photo as the overlay shows it, [H, W, 3] RGB; None of a run without overlays."""
        data = overlay_file(self.out / f"overlays/{fit.name}.jpg", fit)
        if not data:
            return None
        picture = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
        x0, y0, x1, y1 = panels_of(picture, fit).photo
        return picture[y0:y1, x0:x1]

    def _picture(self, frame: int) -> np.ndarray | None:
        """A frame of the clip as its overlay shows it, [H, W, 3] RGB; None without."""
        fit = self.fits[0]
        video = cv2.VideoCapture(str(self.out / f"overlays/{fit.name}.mp4"))
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        there, picture = video.read()
        video.release()
        width, height = fit.image_size_px
        return picture[:, : round(len(picture) * width / height), ::-1] if there else None

    def _look(self, side: str, clients) -> None:
        """Moves eyes to one of SIDES."""
        fit, away = self.fits[0], SIDES[side]
        for client in clients:
            with client.atomic():
                client.camera.up_direction = (0.0, -1.0, 0.0)
                if away is None:
                    client.camera.position = (0.0, 0.0, 0.0)
                    client.camera.look_at = (0.0, 0.0, float(self._middle[2]))
                    client.camera.fov = 2 * np.arctan(float(fit.image_size_px[1] / 2 / fit.focal_px[1]))
                else:
                    client.camera.position = tuple(self._middle + np.array(away) * self._middle[2])
                    client.camera.look_at = tuple(self._middle)


def _down(fit: Fit) -> np.ndarray:
    """[3] unit: where gravity points in the camera's frame, as far as the fit knows."""
    known = (fit.quality.get(f"camera_{name}_deg", 0.0) for name in ("pitch", "roll"))
    pitch, roll = (np.radians(value if np.isfinite(value) else 0.0) for value in known)
    return np.array([-np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch), np.sin(pitch)])


def _turned_to(up: np.ndarray) -> tuple[float, ...]:
    """Quaternion w x y z of a turn that brings Y to `up`."""
    turn, _ = Rotation.align_vectors(up[None], [[0.0, 1.0, 0.0]])
    x, y, z, w = turn.as_quat()
    return w, x, y, z


def _about(fit: Fit) -> str:
    """A person's numbers, as the page shows them."""
    numbers = {
        "reprojection_pct": "keypoints off, %",
        "distance_m": "distance, m",
        "max_abs_beta": "largest beta",
    }
    rows = [
        f"| {words} | {fit.quality[name]:.1f} |" for name, words in numbers.items() if name in fit.quality
    ]
    if "trust" in fit.quality:
        rows.insert(0, f"| probability of being right | {fit.quality['trust']:.0%} |")
    verdict = "valid" if fit.valid else "doubtful: " + "; ".join(fit.reasons)
    table = ["", "| | |", "| --- | --- |", *rows] if rows else []
    return "\n".join([f"**{verdict}**", *table])


def check_place(host: str, port: int) -> None:
    """ValueError: nothing can be served there; the server itself would wait without end."""
    if not 0 < port < 65536:
        raise ValueError(f"--port: expected 1 to 65535, got {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as own:
            own.bind((host, 0))
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"--host: expected an address of this machine, as 127.0.0.1 or 0.0.0.0, got {host}: {error}"
        ) from error


def _viser():
    try:
        import viser
    except ImportError as error:
        raise ImportError(
            "expected the package viser, found none: pip install viser (the extra `view`)"
        ) from error
    return viser


def main(arguments: list[str] | None = None) -> int:
    """Command line; serves until it is stopped. Returns the exit code, 2 for wrong usage."""
    from fitter.help import command_line

    parser = command_line("dsr-view", __doc__)
    parser.add_argument("out", help="folder of fits: dsr-fit's --out")
    parser.add_argument("--port", type=int, default=PORT, help=f"where the page is served; {PORT}")
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 = for other machines too; this one alone"
    )
    parser.add_argument("--body", help="SMPL file, if it has moved since the fit")
    given = parser.parse_args(arguments)
    try:
        viewer = Viewer(given.out, given.body, given.port, given.host)
    except (ValueError, OSError, ImportError) as error:
        print(f"dsr-view: {error}", file=sys.stderr)
        return 2
    print(f"{len(viewer.photos)} photos at http://{given.host}:{viewer.server.get_port()}; Ctrl-C ends it")
    try:
        viewer.server.sleep_forever()
    except KeyboardInterrupt:
        viewer.server.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
