"""Whose a file is: by the longest end of its path, or an error that names both."""

from pathlib import Path

import pytest

from fitter.label.label_files import label_files
from fitter.see.photos import list_photos


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(tmp_path, photos: str, labels: str, inside: str = "") -> dict:
    """The files of each photo, by person; both are made."""
    images = made(tmp_path / "photos", *photos.split()) / inside
    folder = made(tmp_path / "labels", *labels.split())
    files = label_files(list_photos(images), folder)
    return {
        image: {person: path.relative_to(folder).as_posix() for person, path in own.items()}
        for image, own in files.items()
    }


@pytest.mark.parametrize(("photos", "labels", "expected"), [
    ("a.jpg b.jpg", "a.png a_1.png c.png", {"a.jpg": {None: "a.png", "1": "a_1.png"}}),
    ("a.jpg a_1.jpg", "a.png a_1.png", {"a.jpg": {None: "a.png"}, "a_1.jpg": {None: "a_1.png"}}),
    ("A/1.jpg B/1.jpg", "A/1.png B/1.png", {"A/1.jpg": {None: "A/1.png"}, "B/1.jpg": {None: "B/1.png"}}),
    ("A/1.jpg B/1.jpg", "A/1.png", {"A/1.jpg": {None: "A/1.png"}}),  # and B's has none
    ("1.jpg A/1.jpg", "1.png", {"1.jpg": {None: "1.png"}}),
    ("A/1.jpg", "1.png", {"A/1.jpg": {None: "1.png"}}),
    ("1.jpg", "other/1.png 1.png", {"1.jpg": {None: "1.png"}}),
    ("a.jpg", "a_gray.png a.png", {"a.jpg": {None: "a_gray.png"}}),
    ("a.jpg", "a.npy a_seg.npy a.png", {"a.jpg": {None: "a_seg.npy"}}),
    ("a.jpg a_gray.jpg", "a_gray.png", {"a_gray.jpg": {None: "a_gray.png"}}),
    ("a.jpg a.png", "a_jpg.png", {"a.jpg": {None: "a_jpg.png"}}),
    ("a.jpg", "a_x_2.png", {"a.jpg": {"x_2": "a_x_2.png"}}),
    ("a.jpg", ".a.png a.PNG a_vis.txt", {"a.jpg": {None: "a.PNG"}}),
])  # fmt: skip
def test_a_file_belongs_to_the_photo_with_the_longest_common_end(tmp_path, photos, labels, expected):
    assert found(tmp_path, photos, labels) == expected


def test_a_folder_of_the_photos_is_enough_to_choose_among_labels(tmp_path):
    assert found(tmp_path, "A/1.jpg B/1.jpg", "A/1.png B/1.png", "B") == {"1.jpg": {None: "B/1.png"}}


@pytest.mark.parametrize(("photos", "labels", "reason"), [
    ("A/1.jpg B/1.jpg", "1.png", "1.png: expected the file of one photo, it may be A/1.jpg's or B/1.jpg's; use"),
    ("a.jpg a.png", "a.png", "it may be a.jpg's or a.png's; call it a_jpg or a_png"),
    ("1.jpg", "cat/1.png inst/1.png", "expected one file for 1.jpg, got cat/1.png and inst/1.png; keep one"),
    ("a.jpg", "a.jpg", "expected .png or .npy for a.jpg, got a.jpg, whose compression changes ids; save it as PNG"),
    ("a.jpg", "b.png c.png", "files named as the photos, as a.png; none of its 2 is, the first is b.png"),
    ("a.jpg", "readme.txt", "found no .png, .npy"),
])  # fmt: skip
def test_what_may_be_two_photos_or_nobodys_is_an_error(tmp_path, photos, labels, reason):
    with pytest.raises(ValueError) as error:
        found(tmp_path, photos, labels)
    assert reason in str(error.value)
    with pytest.raises(ValueError, match="expected a folder"):
        label_files(list_photos(tmp_path / "photos"), tmp_path / "nothing")


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    folder = made(tmp_path / "labels", "b.png")
    (folder / "again").symlink_to(folder)
    (folder / "more").symlink_to(made(tmp_path / "elsewhere", "a.png"))
    assert found(tmp_path, "a.jpg", "b.png") == {"a.jpg": {None: "more/a.png"}}


def test_a_jpeg_beside_a_map_is_a_picture_of_it(tmp_path):
    assert found(tmp_path, "a.jpg", "a.jpg a.png") == {"a.jpg": {None: "a.png"}}


def test_photos_among_the_labels_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"found no \.png"):
        label_files(list_photos(made(tmp_path, "a.png")), tmp_path)
