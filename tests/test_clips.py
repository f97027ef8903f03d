"""Clips: frames in order, people tracked over gaps, one shape and a smooth motion, and a clip on the command line."""

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pygltflib
import pytest
import torch
from PIL import Image

from fitter import Fitter, clips, load_fits, load_sequence
from fitter.body.model import load_body
from fitter.cli import main
from fitter.config import FitConfig
from fitter.energy.tied import Course
from fitter.run import reader_of_clip_inputs
from fitter.see.camera import default_camera
from fitter.see.clip import Clip, VideoWriter, find_clips, search_clips
from fitter.see.keypoint_files import file_of
from fitter.see.keypoint_targets import body_targets
from fitter.see.keypoints import Person
from fitter.see.person_box import keypoint_box
from fitter.see.photos import Photo, list_photos
from fitter.see.tracks import Tracker
from fitter.write.export import main as export
from fitter.write.rigged import motion_files
from fitter.write.sequence import save_amass
from priors.rotation import axis_angle_from_matrix, rotation_from_axis_angle

SIZE, FRAMES, FPS = (320, 240), 14, 30.0


@pytest.fixture(scope="module")
def walk():
    """A body that swings its limbs, seen by the default camera: exact keypoints [T, 25, 3] and joints [T, 24, 3] m."""
    body = load_body(dtype=torch.float64)
    time = np.arange(FRAMES) / FPS
    pose = torch.zeros(FRAMES, 72, dtype=torch.float64)
    pose[:, [50, 53]] = torch.tensor([-1.2, 1.2], dtype=torch.float64)
    for entry, swing in ((3, 0.5), (6, -0.5), (12, 0.3), (15, 0.3)):
        pose[:, entry] = torch.tensor(swing * np.sin(2 * np.pi * time))
    points = body.points(body(torch.zeros(FRAMES, 10).double(), pose, with_vertices=False)).numpy()
    points = points * [1, -1, -1] + np.stack([0.1 + 0.5 * time, 0 * time - 0.08, 0 * time + 3.5], 1)[:, None]
    camera = default_camera(*SIZE)
    seen = body_targets("openpose", *body.joint_layout)[0] @ points
    px = seen[..., :2] / seen[..., 2:] * camera.focal_px + camera.center_px
    return np.concatenate([px, np.ones((FRAMES, 25, 1))], 2), points[:, :24]


@pytest.fixture
def folder(tmp_path, walk):
    """walk/ with 14 grey frames and OpenPose's keypoints, shaken by a pixel; nobody in frames 5 and 6."""
    rng = np.random.default_rng(0)
    keypoints = tmp_path / "keypoints" / "walk"
    (tmp_path / "photos" / "walk").mkdir(parents=True), keypoints.mkdir(parents=True)
    for number, points in enumerate(walk[0]):
        name = f"frame{number}"
        Image.new("RGB", SIZE, "gray").save(tmp_path / "photos" / "walk" / f"{name}.png")
        shaken = points + np.column_stack([rng.normal(0, 1, (25, 2)), np.zeros(25)])
        people = [] if number in (5, 6) else [{"pose_keypoints_2d": shaken.reshape(-1).tolist()}]
        (keypoints / f"{name}_keypoints.json").write_text(json.dumps({"people": people}))
    return tmp_path


def run(folder, *more):
    given = ["--images", folder / "photos", "--keypoints", folder / "keypoints", "--out", folder / "out"]
    return main([str(word) for word in (*given, "--jobs", 1, "--parser", "none", *more)])


def jitter(joints):
    return np.linalg.norm(joints[2:] - 2 * joints[1:-1] + joints[:-2], axis=-1).mean() * FPS**2


def test_a_folder_of_frames_from_the_command_line(folder, walk, capsys):
    assert run(folder, "--sequence", "true", "--save-mesh", "rigged") == 0
    found = load_sequence(folder / "out" / "walk_0.sequence.npz")
    assert found.frames.tolist() == list(range(FRAMES)) and found.fps == 30
    unseen = np.isin(np.arange(FRAMES), (5, 6))
    assert (found.seen == ~unseen).all() and (found.valid == ~unseen).all() and not found.labelled.any()
    # what was not seen is filled in between, about as far off (depth of limbs) as elsewhere
    off = np.linalg.norm(
        (found.joints_cam - found.joints_cam[:, :1]) - (walk[1] - walk[1][:, :1]), axis=-1
    ).mean(1)
    assert off[unseen].max() < off[~unseen].max() + 0.01 and off.max() < 0.08
    again = load_fits(folder / "out")  # the clip as one photo, by a frame of it
    assert len(again) == 1 and again.name[0] == "walk" and (again.betas[0] == found.betas).all()
    row = json.loads((folder / "out" / "summary.jsonl").read_text().splitlines()[0])
    assert row["sequence"] == "walk_0.sequence.npz" and row["frames"] == FRAMES and row["frames_seen"] == 12
    video = cv2.VideoCapture(str(folder / "out" / "overlays" / "walk.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES and video.get(cv2.CAP_PROP_FPS) == 30
    assert (folder / "out" / "report.html").is_file()
    assert (
        export(["--fits", str(folder / "out"), "--images", str(folder / "photos"), "--format", "spin"]) == 2
    )
    assert "expected fits of photos, got of clips, as walk; a motion is saved" in capsys.readouterr().err
    glb = pygltflib.GLTF2().load(str(folder / "out" / "walk_0.glb"))
    assert len(glb.animations) == 1 and [one.name for one in glb.meshes] == ["walk_0"]
    for kind, names in (("bvh", ["walk_0.bvh", "walk_1.bvh"]), ("scene", ["walk_people.glb"])):
        files = motion_files("walk", ["0", "1"], lambda who: found.motion, kind, load_body())
        assert list(files) == names
        files[names[0]](folder / names[0])
    assert f"Frames: {FRAMES}\n" in (folder / "walk_0.bvh").read_text()
    assert len(pygltflib.GLTF2().load(str(folder / "walk_people.glb")).meshes) == 2
    save_amass(folder / "amass.npz", found)
    with np.load(folder / "amass.npz") as amass:
        assert amass["poses"].shape == (FRAMES, 156) and amass["mocap_framerate"] == 30
        np.testing.assert_allclose(amass["poses"][:, 3:66], found.pose[:, 3:66], atol=1e-6)
    motion = found.motion
    assert motion.name == "walk_0" and motion.fps == 30 and motion.pose.shape == (FRAMES, 72)
    capsys.readouterr()
    assert run(folder, "--sequence", "true") == 0 and "kept 1, fitted 0" in capsys.readouterr().out
    Image.new("RGB", SIZE, "blue").save(folder / "photos" / "walk" / "frame3.png")
    assert run(folder, "--sequence", "true") == 0 and "(1 changed)" in capsys.readouterr().out


def test_a_clip_is_smoother_than_its_frames(folder, walk):
    fitter = Fitter(keypoints=str(folder / "keypoints" / "walk"), parser="none")
    (found,) = fitter.sequence(folder / "photos" / "walk", fps=FPS)
    numbers = [number for number in range(FRAMES) if number not in (5, 6)]
    alone = fitter([folder / "photos" / "walk" / f"frame{number}.png" for number in numbers])
    rough = np.stack([fits[0].joints_cam for fits in alone])[5:]  # 7 .. 13, without a gap
    assert jitter(walk[1]) < jitter(found.joints_cam) < 0.35 * jitter(rough)
    assert np.ptp(np.stack([fits[0].betas for fits in alone]), axis=0).max() > 0.01
    assert found.vertices_cam(slice(3, 5)).shape == (2, len(load_body().template), 3)
    np.testing.assert_allclose(
        found.vertices_cam(slice(3, 5))[0].mean(0), found.joints_cam[3].mean(0), atol=0.2
    )


def test_what_has_no_effect_on_a_clip_is_said(folder, capsys):
    assert run(folder, "--sequence", "true", "--export", "spin") == 2
    assert "--export has no effect on a clip" in capsys.readouterr().err
    assert run(folder, "--sequence", "true", "--save-mesh", "obj") == 2
    assert "--save-mesh obj: expected rigged, scene or bvh of a clip" in capsys.readouterr().err
    assert run(folder, "--fps", "25") == 2
    assert "--fps has no effect without a video or --sequence" in capsys.readouterr().err


def test_a_video_of_nobody_is_skipped(tmp_path, capsys):
    path = tmp_path / "clip.mp4"
    writer = VideoWriter(path, 12.0)
    for shade in range(6):
        writer.write(np.full((61, 81, 3), 40 * shade, np.uint8))  # odd sides
    writer.close()
    (clip,) = find_clips(path)
    shots = list(clip.frames())
    assert clip.fps == 12 and len(shots) == 6 and shots[0].image_rgb.shape == (60, 80, 3)
    assert shots[3].image == "clip_000000000003.png" and abs(int(shots[3].image_rgb.mean()) - 120) < 6
    assert (
        main(["--images", str(path), "--out", str(tmp_path / "out"), "--jobs", "1", "--parser", "none"]) == 3
    )
    assert "clip.mp4: nobody found for long enough in 6 frames" in capsys.readouterr().out
    (tmp_path / "no.mp4").write_text("no video")
    with pytest.raises(ValueError, match="expected a video that OpenCV reads"):
        find_clips(tmp_path / "no.mp4")


def test_a_clip_of_one_frame(folder):
    for number in range(1, FRAMES):
        (folder / "photos" / "walk" / f"frame{number}.png").unlink()
    assert run(folder, "--sequence", "true", "--save-mesh", "bvh") == 0
    assert len(load_sequence(folder / "out" / "walk_0.sequence.npz")) == 1
    assert "Frames: 1\n" in (folder / "out" / "walk_0.bvh").read_text()


def test_keypoints_of_another_clip_are_doubted(folder, monkeypatch):
    from fitter.see.detect import Detector

    far = [(0.9, np.array([0.0, 0, 30, 60]))]  # whom the detector surely sees, and nobody's keypoints
    monkeypatch.setattr(Detector, "boxes", lambda *_: far)
    assert run(folder, "--sequence", "true", "--overlay", "false") == 0
    found = load_sequence(folder / "out" / "walk_0.sequence.npz")
    assert not found.valid.any() and "nobody's keypoints are where the detector sees" in str(found.reasons[0])


def test_who_is_left_out_of_frames_is_said_and_labels_of_no_frame_end_the_run(folder, capsys):
    for path in sorted((folder / "keypoints" / "walk").iterdir()):
        points = [[0.0, 0, 0]] * 24 + [[50.0, 60, 1]]
        path.write_text(json.dumps({"people": [{"pose_keypoints_2d": np.ravel(points).tolist()}]}))
    assert run(folder, "--sequence", "true") == 3
    said = capsys.readouterr().out
    assert (
        "nobody found for long enough in 14 frames; 14 times somebody was left out of a frame, first walk/f"
        in said
    )
    (folder / "labels").mkdir()
    assert run(folder, "--sequence", "true", "--labels", folder / "labels") == 2
    assert "expected files named as the photos, as frame0.png; found no .png" in capsys.readouterr().err


def test_every_clip_has_a_name_of_its_own_and_nothing_else_is_one(tmp_path):
    clip = tmp_path / "clips" / "walk" / "walk.mp4"  # beside a folder and frames of that name
    for folder in (clip.parent.parent, clip.parent, clip.parent / "walk"):
        folder.mkdir()
    writer = VideoWriter(clip, 12.0)
    writer.write(np.zeros((8, 8, 3), np.uint8))
    writer.close()
    for other in ("._walk.mp4", "fits/overlays/old.mp4", "out/overlays/new.mp4"):  # hidden, of runs
        path = clip.parent / other
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, path)
    (clip.parent / "fits" / "index.jsonl").touch()
    for frame in ("0.png", "walk/0.png"):
        Image.new("RGB", (8, 6)).save(clip.parent / frame)
    (clip.parent / "no.mp4").write_text("no video")
    (clip.parent / "notes.txt").touch()
    found, unread = search_clips(clip.parent, skip=[clip.parent / "out"])
    assert {one.photo.name: one.photo.image for one in found} == {
        "walk": "walk",
        "walk_frames": "walk",
        "no": "no.mp4",  # skipped when it is its turn
        "walk_video": "walk.mp4",
    }
    assert unread == "1 files not read (1 .txt)"
    assert find_clips(clip.parent.parent)[-1].photos(1)[0].image == "walk/walk_000000000000.png"
    with pytest.raises(FileNotFoundError, match=r"found none \(1 files not read \(1 .mp4: --sequence true"):
        (tmp_path / "videos").mkdir()
        shutil.copy(clip, tmp_path / "videos")
        list_photos(tmp_path / "videos")


@pytest.mark.parametrize("fps", ["-5", "0.01", "1e9"])
def test_fps_that_cannot_be_end_the_run(folder, capsys, fps):
    assert run(folder, "--sequence", "true", "--fps", fps) == 2
    assert "fps: expected 0.1 to 1000 frames a second" in capsys.readouterr().err


def test_missing_frames_are_said(tmp_path):
    def noted(*names):
        return Clip(Photo(tmp_path, "walk", "walk"), (tmp_path,) * len(names), 30.0, names).doubts(len(names))

    assert not noted("a/2_f008.png", "a/2_f016.png", "a/2_f024.png") and not noted("a.png", "b.png")
    assert "as f2.png and f7.png: they are taken" in noted("f1.png", "f2.png", "f7.png", "f8.png")[0]
    assert "as f1.png and f1_mask.png" in noted("f0.png", "f1.png", "f1_mask.png", "f2.png")[0]
    path = tmp_path / "cut.avi"
    file = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    for noise in np.random.default_rng(0).integers(0, 255, (14, 48, 64, 3), np.uint8):
        file.write(noise)
    file.release()
    (clip,) = find_clips(path)
    assert not clip.doubts(sum(1 for _ in clip.frames()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = sum(1 for _ in clip.frames())
    assert 2 < read < 12
    assert clip.doubts(read) == [
        f"of 14 frames that the video says it has {read} could be read: it may be cut off"
    ]


def test_files_of_frames_lie_in_the_folders_of_their_clip(tmp_path, capsys):
    """Clips of one name in two folders have keypoints of their own, and each of these counts."""
    for folder in "ab":
        (
            (tmp_path / "clips" / folder).mkdir(parents=True),
            (tmp_path / "keypoints" / folder).mkdir(parents=True),
        )
        Image.new("RGB", SIZE, "gray").save(tmp_path / "clips" / folder / "0.png")
        writer = VideoWriter(tmp_path / "clips" / folder / "clip.mp4", FPS)
        writer.write(np.full((240, 320, 3), 99, np.uint8))
        writer.close()
        for name in ("0", "clip_000000000000"):
            (tmp_path / "keypoints" / folder / f"{name}_keypoints.json").write_text('{"people": []}')
    config = FitConfig(str(tmp_path / "clips"), sequence=True, keypoints=str(tmp_path / "keypoints"))
    found = {clip.photo.name: clip for clip in find_clips(config.images)}
    assert {file_of(one.photos()[0], config.keypoints).parent.name for one in found.values()} == {"a", "b"}
    before = reader_of_clip_inputs(config, found)(found["a/clip"].photo)
    (tmp_path / "keypoints" / "a" / "0_keypoints.json").write_text('{"people":  []}')
    assert reader_of_clip_inputs(config, found)(found["a/clip"].photo) != before
    (tmp_path / "keypoints" / "a").rename(tmp_path / "flat")
    shutil.rmtree(tmp_path / "keypoints")
    (tmp_path / "flat").rename(tmp_path / "keypoints")
    given = ["--images", tmp_path / "clips", "--keypoints", tmp_path / "keypoints", "--out", tmp_path / "out"]
    assert main([str(word) for word in (*given, "--sequence", "true")]) == 2
    assert "of one photo, got two that it may be of" in capsys.readouterr().err


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("b/f10.png", "b/f2.png", "a/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    first, second = find_clips(tmp_path, fps=25)
    assert (first.photo.image, second.photo.image) == ("a", "b") and second.fps == 25
    assert [shot.image for shot in second.frames()] == ["b/f2.png", "b/f10.png"]
    Image.new("RGB", (9, 6)).save(tmp_path / "b" / "f10.png")
    with pytest.raises(
        ValueError, match=r"b/f10.png: expected 8 x 6 px as the clip's first frame has, got 9 x 6"
    ):
        list(second.frames())
    with pytest.raises(FileNotFoundError, match="expected folders of frames or videos, found none"):
        (tmp_path / "empty").mkdir()
        find_clips(tmp_path / "empty")


def person(walk, x, size=1.0):
    points = walk[0][0] * [size, size, 1] + [x, 0, 0]
    return Person("0", points, "openpose", keypoint_box(points))


def test_people_are_tracked_past_each_other_and_over_gaps(walk):
    tracker = Tracker(FPS)
    for frame in range(30):
        there = [person(walk, 6 * frame), person(walk, 174 - 6 * frame, 0.7)]
        if 10 <= frame < 14:
            there = there[1:]  # the first one is out of sight
        if frame == 20:
            there.append(person(walk, 400))  # a moment's mistake
        tracker.add(there[::-1] if frame % 2 else there)
    tracks, short = tracker.found("all")
    assert short == 1 and [len(track.frames) for track in tracks] == [26, 30]
    for track, way, start in zip(tracks, (6, -6), (0, 174), strict=True):
        base = walk[0][0][0, 0] * (1 if way > 0 else 0.7)
        at = np.array([one.keypoints_px[0, 0] - base for one in track.people])
        np.testing.assert_allclose(at, start + way * np.array(track.frames))
    whole = tracks[0].filled()
    assert whole.frames == list(range(30))
    between = whole.people[11]
    assert not between.keypoints_px[:, 2].any()
    np.testing.assert_allclose(between.keypoints_px[:, :2], walk[0][0][:, :2] + [66, 0], atol=1e-9)
    assert [len(track.frames) for track in tracker.found("largest")[0]] == [26]


def test_of_two_ways_the_one_that_moves_less():
    joints = np.zeros((4, 2, 24, 3))
    joints[:, 1, 7] = 0.4  # a limb the other way
    energy = np.array([[0.0, 30], [0, 30], [9, 0], [0, 30]])  # in one frame the other way is a little better
    assert clips._smoothest(energy, joints, 1 / FPS).tolist() == [0, 0, 0, 0]
    energy[1:, 0] = 200  # in all from the second on, by far
    assert clips._smoothest(energy, joints, 1 / FPS).tolist() == [1, 1, 1, 1]


def test_unknown_frames_lie_between_the_known():
    turns = torch.tensor([[0.0, 0, 0], [9, 9, 9], [0.0, 0.6, 0]], dtype=torch.float64)
    place = torch.tensor([[0.0, 0, 4], [0, 0, 900], [1, 0, 5]], dtype=torch.float64)
    course = Course(rotation_from_axis_angle(turns), place, place, place, place[:, :2])
    filled = clips._filled(course, np.array([True, False, True]))
    np.testing.assert_allclose(filled.place_m[1], [0.5, 0, 4.5])
    np.testing.assert_allclose(axis_angle_from_matrix(filled.orientation)[1], [0, 0.3, 0], atol=1e-9)
    lone = clips._filled(course, np.array([True, False, False]))  # after the last, as there
    np.testing.assert_allclose(lone.place_m, np.tile([0, 0, 4.0], (3, 1)))


def test_windows_keep_every_frame_once():
    kept = []
    for first, start, end, beyond in clips.windows(200):
        assert first == max(0, start - clips.BEHIND) and beyond == min(200, end + clips.AHEAD)
        kept += range(start, end)
    assert kept == list(range(200))


def test_a_window_goes_on_where_the_last_ended(folder, walk, monkeypatch):
    """Cut into windows of four frames, the motion is nearly the one found at once, and as smooth where it is cut."""
    fitter = Fitter(keypoints=str(folder / "keypoints" / "walk"), parser="none")
    (whole,) = fitter.sequence(folder / "photos" / "walk", fps=FPS)
    monkeypatch.setattr(clips, "WINDOW", 4)
    monkeypatch.setattr(clips, "AHEAD", 4)
    (parts,) = fitter.sequence(folder / "photos" / "walk", fps=FPS)
    assert np.linalg.norm(parts.joints_cam - whole.joints_cam, axis=-1).mean() < 0.01
    assert jitter(parts.joints_cam) < 1.5 * jitter(whole.joints_cam)


def test_a_sequence_file_is_checked(tmp_path):
    np.savez(tmp_path / "x.sequence.npz", pose=np.zeros((3, 72)))
    with pytest.raises(ValueError, match="expected a person's sequence as written by fit.py"):
        load_sequence(tmp_path / "x.sequence.npz")


def test_what_the_benchmark_measures(walk):

    from benchmarks.video import measures

    seen, joints = walk
    time = np.arange(FRAMES) / FPS
    falling = joints[0] + (0.5 * 9.81 * time**2)[:, None, None] * [0, 1, 0]
    off = seen[0] + [3, 4, 0]  # 5 px
    box = np.array([0.0, 0, 100, 200])
    fits = [
        SimpleNamespace(joints_cam=at, observed_px=seen[0], keypoints_px=off[:, :2], box_px=box)
        for at in falling
    ]
    found = measures(fits, FPS)
    assert found["jitter"] == pytest.approx(9.81, rel=1e-6) and found["keypoints"] == pytest.approx(2.5)
