"""Which photos there are and what their results are called: nested folders, look-alikes, tars, and 20,000 of them."""

import hashlib
import io
import os
import random
import sys
import tarfile

import pytest

from fitter.fingerprint import _sha256, fingerprint, fingerprints
from fitter.see.photos import expand_braces, find_photos, list_photos, result_names


@pytest.fixture
def root(tmp_path):
    """Makes files (content: their own path) and gives the folder that they are in."""

    def make(*files):
        for file in files:
            path = tmp_path / "photos" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file)
        return tmp_path / "photos"

    return make


def images(photos):
    return [photo.image for photo in photos]


def test_a_folder_is_searched_with_all_folders_in_it_and_names_keep_them(root):
    folder = root("seqB/000001.jpg", "seqA/000001.JPG", "seqA/deep/er/x.png", "top.webp", "seqA/notes.txt")
    photos = list_photos(folder)
    assert [(photo.image, photo.name) for photo in photos] == [
        ("seqA/000001.JPG", "seqA/000001"),
        ("seqA/deep/er/x.png", "seqA/deep/er/x"),
        ("seqB/000001.jpg", "seqB/000001"),
        ("top.webp", "top"),
    ]
    assert photos[2].path == folder / "seqB" / "000001.jpg" and photos[2].read() == b"seqB/000001.jpg"
    assert photos[2].digest == hashlib.sha256(b"seqB/000001.jpg").hexdigest()
    assert list_photos(str(folder)) == photos
    alone = list_photos(folder / "seqB" / "000001.jpg")
    assert [(photo.image, photo.name) for photo in alone] == [("000001.jpg", "000001")]


def test_what_is_hidden_or_a_run_s_own_or_left_out_is_no_photo(root):
    folder = root(
        "a.jpg", ".b.jpg", "._a.jpg", ".git/c.jpg", "out/d.jpg", "labels/a.png", "deep/out/e.jpg",
        "earlier/index.jsonl", "earlier/overlays/a.png", "shared/index-00003-of-00016.jsonl", "shared/f.png",
    )  # fmt: skip
    skip = [folder / "out", None, str(folder / "labels")]
    assert images(list_photos(folder, skip)) == ["a.jpg", "deep/out/e.jpg"]
    assert images(list_photos(folder, [folder])) != [], "the folder of photos itself may hold the results"


def test_results_beside_the_photos_are_no_photos(root):
    folder = root(
        "a.jpg", "index.jsonl", "overlays/a.png", "export/x.png", "report/people/a.jpg", "seq/overlays/b.png"
    )
    assert images(list_photos(folder, [folder])) == ["a.jpg", "seq/overlays/b.png"]


@pytest.mark.parametrize("heic", [False, True])
def test_files_that_are_not_read_are_counted(root, monkeypatch, heic):
    monkeypatch.setattr("fitter.see.photos.reads_heic", lambda: heic)
    folder = root(
        "a.jpg", "b.HEIC", "c.heic", "seq/d.heic", "e.txt", "f", "seq/g.txt", "._b.HEIC", ".DS_Store", "Thumbs.db",
        "earlier/index.jsonl", "earlier/a_0.npz", "labels/a.txt",
    )  # fmt: skip
    photos, others = find_photos(folder, [folder / "labels"])
    assert len(photos) == (4 if heic else 1)
    said = "2 .txt; 1 without a suffix)"
    assert others == (
        f"3 files not read ({said}" if heic else f"6 files not read (3 .heic: pip install pillow-heif; {said}"
    )


def test_files_that_are_read_as_something_else_are_not_counted(root):
    folder = root(
        "a.jpg", "a.json", "coco.json", "kp/a_keypoints.json", "kp/deep/b.json", "kp/n.md", "cam/a.yml"
    )
    used = [folder / "kp", folder / "coco.json", None, "shipped"]
    assert find_photos(folder, used=used)[1] == "3 files not read (1 .json; 1 .md; 1 .yml)"
    assert find_photos(folder, used=[folder])[1] == "1 files not read (1 .md)"


def test_results_beside_the_photos_are_not_counted(root):
    folder = root(
        "a.jpg", "a.txt.md", "index.jsonl", "a_0.npz", "summary.jsonl", "config.json", "overlays/a.jpg"
    )
    photos, others = find_photos(folder, [folder])
    assert images(photos) == ["a.jpg"] and others == "1 files not read (1 .md)"


def test_where_no_photo_is_found_the_others_are_said(root, monkeypatch):
    monkeypatch.setattr("fitter.see.photos.reads_heic", lambda: False)
    with pytest.raises(
        FileNotFoundError, match=r"none \(1 files not read \(1 .heic: pip install pillow-heif\)\)"
    ):
        list_photos(root("a.heic"))


def test_links_are_followed_but_not_in_a_circle(root, tmp_path):
    folder = root("seq/a.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.jpg").touch()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "seq" / "up").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(
        folder / "nothing"
    )  # the run is to name it as a photo that cannot be read
    photos = list_photos(folder)
    assert images(photos) == ["gone.jpg", "linked/b.jpg", "seq/a.jpg"]
    with pytest.raises(
        ValueError, match="image gone.jpg: expected a file that can be read, got: No such file"
    ):
        photos[0].read()
    with pytest.raises(ValueError, match="expected a file that can be read, got: No such file"):
        photos[0].fingerprint()


@pytest.mark.parametrize("made", ["notes.txt", "seq/.hidden.jpg"])
def test_no_photo_is_said(root, made):
    with pytest.raises(FileNotFoundError, match=r"expected a photo or a folder of .jpg, .*; found none"):
        list_photos(root(made))
    with pytest.raises(FileNotFoundError, match="found none"):
        list_photos("/nowhere/at/all")


def test_look_alikes_have_names_of_their_own():
    assert result_names(["b.jpg", "s/a.jpg", "s/b.tar.gz.jpg", "s/.x"]) == ["b", "s/a", "s/b.tar.gz", "s/.x"]
    assert result_names(["a.jpg", "a.png", "a_jpg.png", "a_jpg_2.png"]) == [
        "a_jpg_3",
        "a_png",
        "a_jpg",
        "a_jpg_2",
    ]
    assert result_names(["a.jpg", "a.png", "a_jpg.png"]) == ["a_jpg_2", "a_png", "a_jpg"]
    assert result_names(["a.b.jpg", "a.b.png", "a_b.jpg", "a_b.png"]) == [
        "a_b_jpg",
        "a_b_png",
        "a_b_jpg_2",
        "a_b_png_2",
    ]


def test_names_differ_whatever_the_files_and_do_not_change_with_other_folders():
    chance = random.Random(0)
    parts = ["a", "b", "_jpg", "_png", ".jpg", ".png", "_2", "."]
    for _ in range(300):
        files = {"".join(chance.choices(parts, k=chance.randint(1, 4))) + ".jpg" for _ in range(12)}
        files |= {file.removesuffix(".jpg") + ".png" for file in files if chance.random() < 0.5}
        files = sorted(files)
        names = result_names(files)
        assert len(set(names)) == len(files), files
        inside = [f"s/{file}" for file in files]
        assert result_names(inside) == [f"s/{name}" for name in names]
        assert result_names([*inside, *files])[len(files) :] == names
        assert result_names([*files, "unlike the others.jpg"])[:-1] == names


def calls(function, *arguments) -> int:
    """How many functions are called, Python's and built in, while this one runs; a list's `count` and the like, which
    look at every item, as many times as it has items."""
    count = 0

    def each(_, event, called):
        nonlocal count
        searched = event == "c_call" and called.__name__ in ("count", "index", "remove")
        count += len(called.__self__) if searched else event in ("call", "c_call")

    sys.setprofile(each)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return count


def test_names_cost_the_same_for_each_of_20_000_photos_as_of_2_000():
    def photos(count):
        return [f"seq{n % 7}/{n // 2:06d}{'.png' if n % 2 else '.jpg'}" for n in range(count)]

    assert calls(result_names, photos(20_000)) < 10.5 * calls(result_names, photos(2_000))


def test_a_folder_is_listed_once_and_no_photo_is_opened_or_looked_up(root, monkeypatch):
    folder = root(*(f"seq{n % 3}/{n:04d}.jpg" for n in range(600)))
    count = {"scandir": 0, "stat": 0, "lstat": 0, "open": 0}
    for name in count:
        real = getattr(os, name)

        def counted(*given, real=real, name=name, **more):
            count[name] += 1
            return real(*given, **more)

        monkeypatch.setattr(os, name, counted)
    assert len(list_photos(folder)) == 600
    assert count["scandir"] == 4 and count["open"] == 0
    assert count["stat"] + count["lstat"] < 100  # of folders alone


@pytest.fixture
def tar(tmp_path):
    def make(name, members, how="w", **more):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, how, **more) as file:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
        return path

    return make


def test_photos_of_a_tar_are_read_where_they_lie(tar):
    long = "seq/" + "y" * 150  # a name that needs a header of its own
    path = tar("photos.tar", [
        ("b.png", b"second"), ("b.json", b"{}"), ("./a.jpg", b"first" * 300), ("b.txt", b"?"), ("._a.jpg", b"?"),
        (f"{long}.jpg", b"third"), ("a.jpg", b"newer"),
    ])  # fmt: skip
    photos = list_photos(path)
    assert [(p.image, p.name, p.read(), p.read_notes()) for p in photos] == [
        ("photos.tar/a.jpg", "photos/a", b"newer", None),
        ("photos.tar/b.png", "photos/b", b"second", b"{}"),
        (f"photos.tar/{long}.jpg", f"photos/{long}", b"third", None),
    ]
    assert photos[0].fingerprint() == {
        "path": "photos.tar/a.jpg",
        "size": 5,
        "sha256": hashlib.sha256(b"newer").hexdigest(),
    }
    path.write_bytes(path.read_bytes()[: photos[2].place[0] + 2])
    with pytest.raises(ValueError, match=r"expected 5 bytes in .*photos.tar, which ends early"):
        photos[2].read()


def test_shards_are_named_by_their_first_and_last(tar, tmp_path):
    for n in (8, 9, 10):
        tar(f"photos-{n:02d}.tar", [("x.jpg", b"%d" % n), ("seq/x.jpg", b"-")])
    photos = list_photos(f"{tmp_path}/photos-{{08..10}}.tar")
    assert [p.name for p in photos] == [f"photos-{n}/{x}" for n in ("08", "09", "10") for x in ("seq/x", "x")]
    assert [p.read() for p in photos[1::2]] == [b"8", b"9", b"10"]
    with pytest.raises(
        FileNotFoundError, match=r"expected 4 tar files, 1 are missing, first .*photos-11.tar"
    ):
        list_photos(f"{tmp_path}/photos-{{08..11}}.tar")
    tar("part0/p.tar", [("x.jpg", b"0")]), tar("part1/p.tar", [("x.jpg", b"1")])
    assert images(list_photos(f"{tmp_path}/part{{0..1}}/p.tar")) == ["part0/p.tar/x.jpg", "part1/p.tar/x.jpg"]
    assert expand_braces("a{1..2}b{01..02}") == ["a1b01", "a1b02", "a2b01", "a2b02"]


def test_tars_that_are_none_are_said(tar, tmp_path):
    (tmp_path / "text.tar").write_text("no tar at all" * 100)
    for path, reason in (
        (tmp_path / "text.tar", "expected an uncompressed tar, got"),
        (tar("packed.tar", [("a.jpg", b"1")], "w:gz"), "expected an uncompressed tar, got"),
        (tar("up.tar", [("../a.jpg", b"1")]), "expected members inside the tar, got '../a.jpg'"),
    ):
        with pytest.raises(ValueError, match=reason):
            list_photos(path)
    others = find_photos(
        tar("more.tar", [("a.jpg", b"1"), ("a.json", b"1"), ("b.json", b"1"), ("._a.jpg", b"1")])
    )[1]
    assert others == "1 files not read (1 .json)"
    with pytest.raises(FileNotFoundError, match="expected members .jpg"):
        list_photos(tar("none.tar", [("a.txt", b"1")]))


def test_a_fingerprint_is_of_the_content_and_a_file_is_read_once(tmp_path):
    path = tmp_path / "model.npz"
    path.write_bytes(b"x" * 3_000_000)
    expected = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    before = _sha256.cache_info().misses
    for _ in range(50):
        assert fingerprint(path) == {"path": str(path), "size": 3_000_000, "sha256": expected}
    assert _sha256.cache_info().misses == before + 1
    for n in range(100):  # nor if it is asked for between photos
        (tmp_path / "photo.jpg").write_bytes(b"%d" % n)
        fingerprint(tmp_path / "photo.jpg"), fingerprint(path)
    assert _sha256.cache_info().misses <= before + 101
    path.write_bytes(b"y" * 3_000_000)
    os.utime(path, ns=(1, 1))  # a file copied over it, with its own time
    assert fingerprint(path)["sha256"] == hashlib.sha256(b"y" * 3_000_000).hexdigest()


def test_all_that_a_result_was_made_from_is_named_by_its_role(root, tmp_path):
    folder = root("a.jpg", "vposer/x/weights.pt", "vposer/settings.ini", "l1.png", "l2.png")
    found = fingerprints({
        "photo": list_photos(folder)[0],
        "camera": None,
        "body": folder / "l1.png",
        "labels": [folder / "l1.png", folder / "l2.png"],
        "vposer": folder / "vposer",
    })  # fmt: skip
    assert list(found) == [
        "photo",
        "body",
        "labels.0",
        "labels.1",
        "vposer/settings.ini",
        "vposer/x/weights.pt",
    ]
    assert found["photo"]["path"] == "a.jpg" and found["body"]["sha256"] == found["labels.0"]["sha256"]
    with pytest.raises(ValueError, match="input /none: expected a file that can be read, got: No such file"):
        fingerprints({"body": "/none"})
