"""Photos of every format and size come upright, 8-bit RGB, whatever their EXIF is like."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fitter.see.picture import MOST_PX, NO_HEIC, read_exif, read_image, read_picture, reads_heic, upright_size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_come_upright(tmp_path, orientation):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = 255
    # how a camera held so stores the upright picture: the inverse of what the tag asks for
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1), 7: upright.swapaxes(0, 1)[::-1, ::-1], 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), upright)


@pytest.mark.parametrize(
    ("array", "mode", "expected"),
    [
        (np.full((2, 3), 77, np.uint8), None, (77, 77, 77)),
        (np.full((2, 3), 65535, np.uint16), None, (255, 255, 255)),
        (np.full((2, 3), 1000, np.uint16), None, (4, 4, 4)),
        (np.full((2, 3, 4), (255, 0, 0, 128), np.uint8), None, (255, 127, 127)),
        (np.full((2, 3, 2), (0, 0), np.uint8), "LA", (255, 255, 255)),
    ],
    ids=["grey", "16 bit", "16 bit dark", "alpha", "grey alpha"],
)
def test_every_kind_of_image_becomes_rgb(tmp_path, array, mode, expected):
    Image.fromarray(array).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.shape, image.dtype) == ((2, 3, 3), np.uint8)
    np.testing.assert_allclose(image, np.broadcast_to(expected, (2, 3, 3)), atol=1)


def test_unreadable_images_are_named_with_the_reason(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        tmp_path / "whole.png"
    )
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:5000])
    for name, reason in {
        "text.jpg": "another kind of file",
        "cut.png": "decoded",
        "none.jpg": "found none",
    }.items():
        with pytest.raises(ValueError, match=reason) as error:
            read_image(tmp_path / name)
        assert name in str(error.value)


@pytest.mark.parametrize("suffix", ["avif", "jp2", "gif", "webp", "bmp", "ppm", "tga", "qoi", "tiff"])
def test_what_pillow_reads_is_read(tmp_path, suffix):
    picture = np.zeros((40, 64, 3), np.uint8)
    picture[:, :32] = 200
    try:
        Image.fromarray(picture).save(tmp_path / f"a.{suffix}")
    except (OSError, ValueError, KeyError):
        pytest.skip(f"this Pillow does not write {suffix}")
    np.testing.assert_allclose(read_image(tmp_path / f"a.{suffix}").astype(int), picture, atol=12)


def test_of_several_frames_the_first_counts(tmp_path):
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif") == (255, 0, 0)).all()


def test_heic_is_read_or_says_what_that_takes(tmp_path):
    if reads_heic():
        from pillow_heif import register_heif_opener

        register_heif_opener()
        Image.new("RGB", (64, 48), "red").save(tmp_path / "a.heic")
        assert read_image(tmp_path / "a.heic").shape == (48, 64, 3)
    else:
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
        with pytest.raises(ValueError, match=NO_HEIC):
            read_image(tmp_path / "a.heic")


def test_a_program_s_file_is_not_run_whatever_it_is_called(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(ValueError, match="another kind of file"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_photo_of_too_many_pixels_is_halved(tmp_path, suffix, orientation):
    y, x = np.mgrid[:96, :160]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.stack([x, y, x + y], -1).astype(np.uint8)).save(tmp_path / f"a.{suffix}", exif=exif)
    whole, small = (read_picture(tmp_path / f"a.{suffix}", at_most) for at_most in (96 * 160, 96 * 160 - 1))
    assert (whole.reduced, small.reduced) == (1, 2)
    assert (small.width, small.height) == (whole.width, whole.height) == whole.image_rgb.shape[1::-1]
    height, width = small.image_rgb.shape[:2]
    assert (2 * width, 2 * height) == (small.width, small.height)
    means = whole.image_rgb.reshape(height, 2, width, 2, 3).mean((1, 3))
    np.testing.assert_allclose(small.image_rgb, means, atol=3)
    assert upright_size(tmp_path / f"a.{suffix}") == ((whole.width, whole.height), orientation)


def test_a_photo_too_large_for_the_memory_is_refused_by_its_header(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, MOST_PX // 40_000 + 1, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b""))
    with pytest.raises(ValueError, match="expected at most 400 megapixels, got 40000 x 10001 px"):
        read_image(tmp_path / "bomb.png")


def with_exif(*tags) -> io.BytesIO:
    """A JPEG of 60 x 40 px to be turned (orientation 6), with tags (number, type, count, 4 or 8 bytes) in its EXIF."""
    tags = [(0x0112, 3, 1, struct.pack("<H", 6)), *tags]
    beyond = 10 + 12 * len(tags) + 4
    body, more = struct.pack("<H", len(tags)), b""
    for number, kind, count, data in tags:
        body += struct.pack("<HHI", number, kind, count)
        body += data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", beyond + len(more))
        more += data if len(data) > 4 else b""
    file = io.BytesIO()
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + body + bytes(4) + more
    Image.new("RGB", (60, 40), "red").save(file, "JPEG", exif=exif)
    return file


@pytest.mark.parametrize(
    ("tag", "note"),
    [
        ((0x011A, 10, 1, struct.pack("<ii", -1, 3)), None),  # a negative rational where none belongs
        ((0x0100, 2, 3, b"ab\0"), None),  # a width in letters
        ((0x9999, 99, 1, b"abcd"), None),
        ((0x010F, 2, 10**9, struct.pack("<I", 500)), "EXIF: what is damaged is left out"),
        ((0x8769, 4, 1, struct.pack("<I", 99999)), "EXIF: "),  # its part about the camera is beyond the file
    ],
)
def test_damaged_exif_costs_the_tag_and_not_the_photo(tag, note):
    file = with_exif(tag)
    assert read_image(file).shape == (60, 40, 3)
    tags, notes = read_exif(file)
    assert tags[0x0112] == 6
    assert [text.startswith(note) for text in notes] == [True] if note else notes == ()


def test_exif_that_is_none_is_left_out(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + bytes(range(100)))
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)
    assert read_exif(tmp_path / "none.jpg") == ({}, ())
