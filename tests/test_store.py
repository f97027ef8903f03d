"""What is kept and what is not: by content, never by name; and nothing is lost by a kill at any byte or a full disk."""

import errno
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fitter.write.export
import fitter.write.files
from fitter.fingerprint import fingerprints
from fitter.see.photos import Photo, list_photos
from fitter.write.files import StoreFull, write_files
from fitter.write.index import has_index, read_indexes
from fitter.write.store import Store, main, merge, parse_shard, results

ROOT = Path(__file__).parent.parent
SETTINGS = {"weights": {"pose": 1.0}, "yaws": (0.0, 90.0)}


@pytest.fixture
def photos(tmp_path):
    """Four photos in three folders; a model file."""
    for n, file in enumerate(("a.jpg", "seqA/1.jpg", "seqB/1.jpg", "z.png")):
        path = tmp_path / "photos" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"photo %d" % n)
    (tmp_path / "body.npz").write_bytes(b"body")
    return list_photos(tmp_path / "photos")


def inputs_of(photo, **more):
    """The model file lies beside the folder of photos."""
    folder = photo.path.parents[photo.image.count("/")]
    return fingerprints({"photo": photo, "body": folder.parent / "body.npz", **more})


def row(photo, **more):
    return {"image": photo.image, "person": 0, "status": "fitted", **more}


def fit(store, photo, people=(0,), **more):
    """As a run does: keeps what it can, else writes a file per person; returns whether it was kept."""
    inputs = inputs_of(photo, **more)
    if store.kept(photo.name, inputs) is not None:
        return True
    files = {f"{photo.name}_{n}.npz": lambda path, n=n: path.write_bytes(b"person %d" % n) for n in people}
    store.put(photo.name, inputs, [row(photo, person=n) for n in people], files)
    return False


def run(out, photos, settings=SETTINGS, **more):
    with Store(out, settings, **more) as store:
        for photo in store.expect(photos):
            fit(store, photo)
        return store.report()


def rows_of(out):
    return [json.loads(line) for line in (out / "summary.jsonl").read_text().splitlines()]


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_second_run_keeps_everything_and_says_so(photos, tmp_path):
    out = tmp_path / "made" / "for" / "it"
    assert run(out, photos) == "kept 0, fitted 4"
    written = {path: path.stat().st_mtime_ns for path in results(out)}
    assert run(out, photos) == "kept 4, fitted 0"
    assert {path: path.stat().st_mtime_ns for path in results(out)} == written
    assert tree(out) == [
        ".lock", "a_0.npz", "config.json", "index.jsonl", "photos.jsonl", "seqA/1_0.npz", "seqB/1_0.npz", "z_0.npz",
    ]  # fmt: skip
    assert json.loads((out / "config.json").read_text()) == {"weights": {"pose": 1.0}, "yaws": [0.0, 90.0]}
    entry = json.loads((out / "index.jsonl").read_text().splitlines()[1])
    assert (
        entry["name"] == "seqA/1"
        and entry["image"] == "seqA/1.jpg"
        and entry["files"] == [["seqA/1_0.npz", 8]]
    )
    assert entry["inputs"] == inputs_of(photos[1]) and entry["rows"] == [row(photos[1])]
    assert SETTINGS["yaws"] == (0.0, 90.0)


def test_another_folder_of_photos_with_the_same_names_is_fitted_again(photos, tmp_path):
    """B1: one --out for A/photos and B/photos gave B the fits of A."""
    run(tmp_path / "out", photos)
    photos[0].path.write_bytes(b"another photo")
    assert run(tmp_path / "out", photos) == "kept 3, fitted 1 (1 changed)"
    (tmp_path / "photos").rename(tmp_path / "moved")  # the same photos from another place are the same
    (tmp_path / "moved").rename(tmp_path / "photos")
    assert run(tmp_path / "out", list_photos(tmp_path / "photos")) == "kept 4, fitted 0"


@pytest.mark.parametrize("change", ["body", "more labels", "fewer", "settings", "version", "name", "outputs"])
def test_all_that_a_fit_depends_on_is_looked_at(photos, tmp_path, change):
    label, out = tmp_path / "label.png", tmp_path / "out"
    label.write_bytes(b"label")
    photo, given, more = photos[0], {"labels": [label]}, {"outputs": ["npz"]}
    with Store(out, SETTINGS, **more) as store:
        fit(store, photo, **given)
        assert fit(store, photo, **given), "what was just finished is kept"
    with Store(out, dict(reversed(SETTINGS.items())), **more) as store:
        assert fit(store, photo, **given), "the order of settings does not count"
        (tmp_path / "other").mkdir()
        same = tmp_path / "other" / "same.png"
        same.write_bytes(b"label")
        assert fit(store, photo, labels=[same]), "nor where a file is"
    settings = SETTINGS
    if change == "body":
        (tmp_path / "body.npz").write_bytes(b"Body")  # as long as before
    elif change == "more labels":
        given = {"labels": [label, label]}
    elif change == "fewer":
        given = {}
    elif change == "settings":
        settings = {**SETTINGS, "weights": {"pose": 2.0}}
    elif change == "version":
        more["version"] = "0.0.0"
    elif change == "name":
        photo = Photo(photo.path, "a.jpeg", photo.name)
    elif change == "outputs":
        more["outputs"] = ["npz", "overlay"]
    with Store(out, settings, **more) as store:
        assert not fit(store, photo, **given)
        assert fit(store, photo, **given)
    with Store(out, settings, **(more | {"outputs": []})) as store:
        assert fit(store, photo, **given), "less than there is was asked for"


def test_a_file_that_is_gone_or_of_another_size_is_written_again(photos, tmp_path):
    out = tmp_path / "out"
    run(out, photos)
    (out / "a_0.npz").unlink()
    (out / "seqA" / "1_0.npz").write_bytes(b"person")
    assert run(out, photos) == "kept 2, fitted 2 (2 lost)"
    assert (out / "seqA" / "1_0.npz").read_bytes() == b"person 0"


def test_a_photo_with_a_lost_person_or_without_a_single_file_is_finished(photos, tmp_path):
    """B15: a photo with one lost person was fitted again by every run. B16: its row was no JSON."""
    lost = {"image": "a.jpg", "person": 1, "status": "skipped", "energy": float("nan")}
    numbers = {
        "pct": np.float32(0.5),
        "bad": np.array([np.inf, 1]),
        "count": np.int64(3),
        "ok": np.bool_(True),
    }
    plain = {"pct": 0.5, "bad": [None, 1.0], "count": 3, "ok": True}
    with Store(tmp_path / "out", SETTINGS) as store:
        files = {"a_0.npz": lambda path: path.write_bytes(b"1")}
        put = store.put("a", inputs_of(photos[0]), [row(photos[0], **numbers), lost], files)
        assert put == [row(photos[0], **plain), lost | {"energy": None}]
        store.put(photos[1].name, inputs_of(photos[1]), [lost], {})
    with Store(tmp_path / "out", SETTINGS) as store:
        assert store.kept("a", inputs_of(photos[0])) == put
        assert store.kept(photos[1].name, inputs_of(photos[1])) == [lost | {"energy": None}]
    text = (tmp_path / "out" / "index.jsonl").read_text()
    json.loads(text.splitlines()[0], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_skipped_photo_is_in_the_summary_and_tried_again(photos, tmp_path):
    out = tmp_path / "out"
    with Store(out, SETTINGS) as store:
        store.expect(photos[:1])
        store.record("a", {}, [row(photos[0], status="skipped")], [], finished=False)
        assert store.report() == "kept 0, fitted 0, skipped 1"
    assert merge(out).missing == () and rows_of(out)[0]["status"] == "skipped"
    with Store(out, SETTINGS) as store:
        assert store.kept("a", {}) is None
        store.put("a", {}, [row(photos[0])], {})
        assert store.report() == "kept 0, fitted 1 (1 tried again)"


def test_the_last_of_two_lines_counts_and_files_of_the_first_are_not_left(photos, tmp_path):
    out = tmp_path / "out"
    run(out, photos)
    with Store(out, {"other": 1}) as store:
        fit(store, photos[0], people=(1, 2))
        assert store.report() == "kept 0, fitted 1 (1 other settings)"
        assert fit(store, photos[0], people=(1, 2))
    with Store(out, {"other": 1}) as store:
        assert store.kept("a", inputs_of(photos[0])) == [row(photos[0], person=n) for n in (1, 2)]
    assert [file for file in tree(out) if file.startswith("a_")] == ["a_1.npz", "a_2.npz"]
    assert len((out / "index.jsonl").read_text().splitlines()) == 5


def test_a_run_killed_at_any_byte_of_a_line_goes_on(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # the disk is not what is tested, and slow
    out = tmp_path / "out"
    run(out, photos[:3])
    whole = (out / "index.jsonl").read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole) + 1):
        (out / "index.jsonl").write_bytes(whole[:end])
        assert len(read_indexes(out)[0]) == (3 if end == len(whole) else 2)  # a reader beside the run
        with Store(out, SETTINGS) as store:
            kept = [fit(store, photo) for photo in photos[:3]]
        assert kept == [True, True, end == len(whole)], end
        with Store(out, SETTINGS) as store:
            assert store.damaged == 0 and all(fit(store, photo) for photo in photos[:3])
        assert (out / "index.jsonl").read_bytes()[:last] == whole[:last]


def test_the_only_line_torn_and_a_long_line_torn(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for torn in (b'{"name"', b"\0" * 100, b"x" * 300_000):
        (out / "index.jsonl").write_bytes(torn)
        with Store(out, SETTINGS) as store:
            assert not fit(store, photos[0])
        whole = (out / "index.jsonl").read_bytes()
        (out / "index.jsonl").write_bytes(whole + torn)
        with Store(out, SETTINGS) as store:
            assert fit(store, photos[0]) and (out / "index.jsonl").read_bytes() == whole


@pytest.mark.parametrize(
    "damage", [b"\0" * 40, b"5", b"{}", b'{"name": "a", "time": 1}', b"\xff\xfe", b'{"name": 1']
)
def test_a_line_that_is_no_entry_costs_only_its_photo(photos, tmp_path, damage):
    out = tmp_path / "out"
    run(out, photos)
    lines = (out / "index.jsonl").read_bytes().splitlines()
    lines[1] = damage
    (out / "index.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    with Store(out, SETTINGS) as store:
        assert store.damaged == 1
        assert [fit(store, photo) for photo in photos] == [True, False, True, True]


def test_a_run_killed_for_real_loses_only_what_was_under_way(photos, tmp_path):
    out = tmp_path / "out"
    code = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from test_store import *
def die(path):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
photos = list_photos({str(tmp_path / "photos")!r})
store = Store({str(out)!r}, SETTINGS)
fit(store, photos[0]), fit(store, photos[1])
store.put(photos[2].name, inputs_of(photos[2]), [], {{photos[2].name + "_0.npz": die}})
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert [file for file in tree(out) if ".part" in file], "it had begun to write"
    (out / ".fit-notes.part").touch(), (out / "mine.part.npz").touch()  # not ours
    assert run(out, photos) == "kept 2, fitted 2"  # and the lock is free
    assert [file for file in tree(out) if ".part" in file] == [".fit-notes.part", "mine.part.npz"]


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_a_file_is_written(photos, tmp_path):
    out = tmp_path / "out"
    run(out, photos[:1])

    def half(path):
        path.write_bytes(b"half")
        no_room()

    before = tree(out), (out / "index.jsonl").read_bytes()
    with Store(out, SETTINGS) as store:
        files = {"seqA/1_0.npz": lambda path: path.write_bytes(b"1"), "overlays/seqA/1.png": half}
        with pytest.raises(StoreFull, match="no room left on this disk; make room and start again") as caught:
            store.put(photos[1].name, inputs_of(photos[1]), [], files)
        again = pickle.loads(pickle.dumps(caught.value))  # as it comes from a worker
        assert again.errno == errno.ENOSPC and str(again) == str(caught.value)
        assert str(again).startswith("out ") and "\n" not in str(again)
        assert (tree(out), (out / "index.jsonl").read_bytes()) == before
        assert fit(store, photos[0]) and not fit(store, photos[1])
    assert run(out, photos[:2]) == "kept 2, fitted 0"


@pytest.mark.parametrize(("free_bytes", "full"), [(0, True), (1 << 30, False)])
def test_a_full_disk_that_a_library_does_not_name(tmp_path, monkeypatch, free_bytes, full):
    """Encoders of pictures fail without a number, archives fail once more when they are closed."""
    free = os.statvfs_result((1, 1, 9, free_bytes, free_bytes, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: free)

    def encode(path):
        raise OSError("encoder error -2 when writing image file")

    def archive(path):
        try:
            no_room()
        finally:
            raise ValueError("Can't close the ZIP file")

    with pytest.raises(StoreFull if full else OSError, match="no room left" if full else "encoder error"):
        write_files(tmp_path, {"a.png": encode})
    with pytest.raises(StoreFull):
        write_files(tmp_path, {"a.npz": archive})
    assert tree(tmp_path) == []


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_full_disk_that_shows_late(photos, tmp_path, monkeypatch, place):
    with Store(tmp_path / "out", SETTINGS) as store:
        before = tree(tmp_path / "out")
        monkeypatch.setattr(fitter.write.files.os, place, no_room)
        with pytest.raises(StoreFull):
            fit(store, photos[0])
        assert tree(tmp_path / "out") == before
        monkeypatch.undo()
        assert not fit(store, photos[0]) and fit(store, photos[0])


@pytest.mark.parametrize("truncates", [True, False])
@pytest.mark.parametrize("part", [0, 1, 100, None])
def test_a_full_disk_while_the_index_grows(photos, tmp_path, monkeypatch, part, truncates):
    """part: how many bytes of the line the disk takes before it is full, None: all, and fsync fails."""
    out = tmp_path / "out"
    run(out, photos[:2])
    whole = (out / "index.jsonl").read_bytes()
    real_write, real_sync = os.write, os.fsync
    left = [len(whole) if part is None else part]

    def write(fd, data):
        if left[0] == 0:
            no_room()
        count = real_write(fd, data[: left[0]])
        left[0] -= count
        return count

    with Store(out, SETTINGS) as store:
        size = write_files(out, {"seqB/1_0.npz": lambda path: path.write_bytes(b"person 0")})
        monkeypatch.setattr(os, "write", write)
        if part is None:
            monkeypatch.setattr(os, "fsync", no_room)
        if not truncates:  # killed at that moment, as it were
            monkeypatch.setattr(os, "ftruncate", lambda *_: None)
        with pytest.raises(StoreFull):
            store.record(photos[2].name, inputs_of(photos[2]), [row(photos[2])], size)
        monkeypatch.undo()
        now = (out / "index.jsonl").read_bytes()
        assert now == whole if truncates else now.startswith(whole)
        assert fit(store, photos[0]) and not fit(store, photos[3]), "the same run may go on"
    assert real_sync is os.fsync
    assert run(out, photos) == "kept 3, fitted 1"
    assert read_indexes(out)[1] == 0
    assert [json.loads(line)["name"] for line in (out / "index.jsonl").read_text().splitlines()] == [
        "a", "seqA/1", "z", "seqB/1",
    ]  # fmt: skip


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KB, if this user may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["bytes", "npz", "png", "jpg", "obj"])
def test_a_disk_that_is_full_for_real(photos, small_disk, kind):
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    write = {
        "bytes": lambda path: path.write_bytes(noise.tobytes()),
        "npz": lambda path: np.savez_compressed(path, noise=noise),
        "png": lambda path: Image.fromarray(noise).save(path),
        "jpg": lambda path: Image.fromarray(np.tile(noise, (2, 2, 1))).save(path, quality=100),
        "obj": lambda path: path.write_text(str(noise.tolist())),
    }[kind]
    out = small_disk / "out"
    run(out, photos[:1])
    before = tree(out)
    with Store(out, SETTINGS) as store:
        with pytest.raises(StoreFull, match="no room left"):
            store.put("b", {}, [], {f"b.{kind}": write})
        assert tree(out) == before
    (small_disk / "filler").write_bytes(b"")
    with open(small_disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 512)
    with pytest.raises(StoreFull):
        run(out, photos)
    (small_disk / "filler").unlink()
    assert run(out, photos) == "kept 1, fitted 3"


def test_a_second_run_in_the_folder_is_refused_in_a_line(photos, tmp_path):
    out = tmp_path / "out"
    with Store(out, SETTINGS):
        with pytest.raises(
            ValueError, match=rf"no other run writes to, process {os.getpid()} on .* does; wait"
        ) as no:
            Store(out, SETTINGS)
        assert "\n" not in str(no.value)
        with pytest.raises(ValueError, match="no other run writes to"):
            Store(out, SETTINGS, shard="0/2")
    with Store(out, SETTINGS, shard="0/2"), Store(out, SETTINGS, shard="1/2"):
        for shard in ("0/2", None, "0/3"):
            with pytest.raises(ValueError, match="no other run writes to"):
                Store(out, SETTINGS, shard=shard)
    run(out, photos)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_fit_each_photo_once_and_are_merged_in_order(photos, tmp_path, count):
    out = tmp_path / "out"
    stores = [Store(out, SETTINGS, shard=f"{k}/{count}") for k in range(count)]
    taken = []
    for store in reversed(stores):
        mine = store.expect(photos)
        taken += mine
        for photo in mine:
            fit(store, photo, people=(0, 1))
    assert sorted(taken, key=photos.index) == photos
    merged = merge(out)  # while they are still at work
    for store in stores:
        store.close()
    assert (merged.photos, merged.rows, merged.missing) == (4, 8, ())
    assert [(r["image"], r["person"]) for r in rows_of(out)] == [(p.image, n) for p in photos for n in (0, 1)]
    assert [path.relative_to(out).as_posix() for path in results(out)] == [
        f"{photo.name}_{n}.npz" for photo in photos for n in (0, 1)
    ]
    assert run(out, photos) == "kept 4, fitted 0", "by whatever run or shard a photo was finished"


def test_a_shard_leaves_the_others_unfinished_files_alone(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    token = "0123456789abcdef.part"
    theirs = [f".fit-00001-of-00002-{token}.npz", f".fit-{token}.png"]
    for name in (*theirs, f".fit-00000-of-00002-{token}.npz"):
        (out / name).touch()
    with Store(out, SETTINGS, shard="0/2"):
        assert [file for file in tree(out) if "part" in file] == theirs
    with Store(out, SETTINGS):
        assert not [file for file in tree(out) if "part" in file]


def test_what_is_missing_is_reported(photos, tmp_path, capsys):
    out = tmp_path / "out"
    with Store(out, SETTINGS, shard="0/2") as store:
        for photo in store.expect(photos):
            fit(store, photo)
    assert merge(out).missing == ("seqA/1.jpg", "z.png")
    assert main([str(out)]) == 3
    printed = capsys.readouterr().out
    assert "2 rows of 4 photos" in printed and "2 missing" in printed and "  missing   z.png" in printed
    run(out, photos[1:])
    assert main([str(out)]) == 0
    *asked, last = rows_of(out)
    assert [r["image"] for r in asked] == [photo.image for photo in photos[1:]]
    assert last == row(photos[0], earlier=True), "a.jpg is no longer asked for"
    with Store(out, {"other": 1}) as store:
        store.expect(photos)
        fit(store, photos[3])
    assert merge(out).missing == ("a.jpg", "seqA/1.jpg", "seqB/1.jpg"), "a mix of settings is no run"
    assert [path.name for path in results(out)] == ["z_0.npz"]


def test_merge_from_the_command_line(photos, tmp_path):
    run(tmp_path / "out", photos)
    command = [sys.executable, "-m", "fitter.write.store"]
    done = subprocess.run([*command, tmp_path / "out"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "4 rows of 4 photos" in done.stdout, done.stderr
    assert main([]) == 2 and main([str(tmp_path / "photos")]) == 2 and main([str(tmp_path / "nowhere")]) == 2


def test_an_earlier_shard_of_a_clock_that_is_ahead_does_not_win(photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with Store(out, SETTINGS, shard="0/1") as store:
        monkeypatch.setattr("time.time", lambda: 5e9)
        fit(store, photos[0])
        monkeypatch.undo()
    with Store(out, {"other": 1}) as store:
        assert not fit(store, photos[0])
    with Store(out, {"other": 1}) as store:
        assert fit(store, photos[0])


def test_of_several_indexes_the_line_written_last_counts(photos, tmp_path):
    out = tmp_path / "out"
    for settings, shard in ((SETTINGS, None), ({"other": 1}, "0/1"), (SETTINGS, "0/2"), ({"other": 1}, None)):
        for kept in (False, True):
            with Store(out, settings, shard=shard) as store:
                assert fit(store, photos[0]) == kept, (settings, shard)


def test_results_without_an_index_are_all_there_are(tmp_path):
    files = (
        "b_0.npz",
        "a_0.npz",
        "seq/1_0.npz",
        "export/spin.npz",
        "overlays/x.npz",
        ".fit-1.part.npz",
        "c.txt",
    )
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert not has_index(tmp_path) and not has_index(tmp_path / "none")
    found = [path.relative_to(tmp_path).as_posix() for path in results(tmp_path)]
    assert found == ["a_0.npz", "b_0.npz", "seq/1_0.npz"]


def test_a_result_that_the_user_took_away_is_left_out(photos, tmp_path):
    run(tmp_path / "out", photos)
    (tmp_path / "out" / "seqA" / "1_0.npz").unlink()
    assert [path.name for path in results(tmp_path / "out")] == ["a_0.npz", "1_0.npz", "z_0.npz"]


def test_an_export_follows_the_index(photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(out, photos)
    (out / "old_0.npz").touch()  # of a photo that is no longer there
    (out / "summary.jsonl").write_text("")  # as long as the shards are not merged
    monkeypatch.setattr(fitter.write.export, "load_fit", lambda path: {"path": path})
    found = [fit["path"].relative_to(out).as_posix() for fit in fitter.write.export.fits_in(out)]
    assert found == ["a_0.npz", "seqA/1_0.npz", "seqB/1_0.npz", "z_0.npz"]


def test_files_are_written_in_a_worker_too_and_whole_or_not_at_all(tmp_path):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_in_worker, (tmp_path,)) == [("deep/er/a.npz", 5), ("b.obj", 2)]
    assert (tmp_path / "deep" / "er" / "a.npz").read_bytes() == b"again"

    def fail(path):
        assert path.suffix == ".obj" and path.parent == tmp_path
        path.write_bytes(b"half")
        raise KeyError("pose")

    with pytest.raises(KeyError):  # a mistake of ours is not made a photo's
        write_files(tmp_path, {"deep/er/a.npz": lambda path: path.write_bytes(b"new"), "b.obj": fail})
    assert (tmp_path / "deep" / "er" / "a.npz").read_bytes() == b"again"
    assert tree(tmp_path) == ["b.obj", "deep/er/a.npz"]


def _in_worker(out):
    files = {
        "deep/er/a.npz": lambda path: path.write_bytes(b"again"),
        "b.obj": lambda path: path.write_bytes(b"ob"),
    }
    return write_files(out, files)


@pytest.mark.parametrize(("name", "reason"), [
    ("x" * 300 + ".npz", "expected a name that can be written, got: File name too long"),
    ("x" * 254 + "/a.npz", None),  # a folder of that name can be made
    ("y" * 300 + "/a.npz", "got: File name too long"),
    ("/a.npz", "expected a path inside of the folder of results"),
    ("a/../../b.npz", "expected a path inside of the folder of results"),
    ("file/a.npz", "expected a name that can be written, got: Not a directory"),
    ("folder", "expected a name that can be written, got: a folder has this name"),
])  # fmt: skip
def test_a_name_that_cannot_be_written_is_one_photo_s_trouble(tmp_path, name, reason):
    out = tmp_path / "out"
    (out / "folder").mkdir(parents=True), (out / "file").touch()
    files = {"good.npz": lambda path: path.write_bytes(b"1"), name: lambda path: path.write_bytes(b"1")}
    if reason is None:
        write_files(out, files)
        return
    with pytest.raises(ValueError, match=reason):
        write_files(out, files)
    assert tree(out) == ["file"]


def test_the_longest_name_that_fits_is_written(tmp_path):
    name = "x" * 251 + ".npz"
    assert write_files(tmp_path, {name: lambda path: path.write_bytes(b"1")}) == [(name, 1)]


def test_a_folder_that_cannot_be_written_is_said_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(
            ValueError, match=r"file .*: expected a name that can be written, got: "
        ) as caught:
            Store(out, SETTINGS)
        assert "\n" not in str(caught.value)

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(ValueError, match="expected a folder that can be written, got: Read-only file system"):
        Store(tmp_path / "out", SETTINGS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_said(tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="expected a folder that can be written, got: Permission denied"):
        Store(tmp_path / "out", SETTINGS)


@pytest.mark.parametrize("shard", ["16/16", "3", "-1/2", "1/0", "a/b", "1/2/3", ""])
def test_no_shard_is_said(shard, tmp_path):
    with pytest.raises(ValueError, match="expected k/n with k from 0 to n-1"):
        Store(tmp_path / "out", SETTINGS, shard=shard)
    assert parse_shard("15/16") == (15, 16) and parse_shard(None) == (0, 1)


def test_names_of_any_letters_come_back(tmp_path):
    names = ["naïve ☃", "tab\tnew\nline", 'quote"', os.fsdecode(b"latin\xe9")]
    with Store(tmp_path / "out", SETTINGS) as store:
        for name in names:
            store.put(name, {}, [{"image": name}], {f"{name}_0.npz": lambda path: path.write_bytes(b"1")})
    with Store(tmp_path / "out", SETTINGS) as store:
        assert [store.kept(name, {}) for name in names] == [[{"image": name}] for name in names]


def test_asking_for_each_photo_does_not_read_the_index_again(photos, tmp_path):
    """B21: every photo listed the whole folder, so that 100,000 took hours to find that nothing was to do."""
    from test_photos import calls

    def cost(count):
        out = tmp_path / str(count)
        with Store(out, SETTINGS) as store:
            for n in range(count):
                store.put(f"{n:04d}", {}, [{"image": "x"}], {})
        with Store(out, SETTINGS) as store:
            return calls(lambda: [store.kept(f"{n:04d}", {}) for n in range(count)])

    assert cost(500) < 10.5 * cost(50)


def test_one_photo_fitted_into_an_old_folder_leaves_the_others_in_the_summary_with_their_settings(
    photos, tmp_path, capsys
):
    out = tmp_path / "out"
    run(out, photos)
    merge(out)
    assert tree(out) == sorted(".lock a_0.npz config.json index.jsonl photos.jsonl seqA/1_0.npz seqB/1_0.npz "
                               "summary.jsonl z_0.npz".split())  # fmt: skip
    run(out, photos[1:2], {"weights": {"pose": 2.0}})
    assert (merge(out).rows, merge(out).earlier) == (1, 3)
    first, *others = rows_of(out)
    assert first == row(photos[1])
    kept = next(path.name for path in out.glob("config-*.json"))
    assert others == [row(photos[n], earlier=True, config=kept) for n in (0, 2, 3)]
    pose = [json.loads((out / name).read_text())["weights"]["pose"] for name in ("config.json", kept)]
    assert pose == [2.0, 1.0]
    assert [path.name for path in results(out)] == ["1_0.npz"], "what an export takes"
    assert main([str(out)]) == 0 and "3 photos of earlier runs" in capsys.readouterr().out
    run(out, photos, {"weights": {"pose": 2.0}})
    assert merge(out).earlier == 0 and not list(out.glob("config-*.json"))
    assert [r.get("earlier") for r in rows_of(out)] == [None] * 4


def test_an_emptied_folder_is_removed(photos, tmp_path):
    out = tmp_path / "out"
    with Store(out, SETTINGS, outputs=["overlay"]) as store:
        store.put("a", {}, [], {"overlays/a.jpg": lambda path: path.write_bytes(b"1")})
    with Store(out, SETTINGS) as store:
        store.put("a", {}, [], {"a_0.npz": lambda path: path.write_bytes(b"1")})
    assert not (out / "overlays").exists() and (out / "a_0.npz").is_file()
