"""Label maps as files: what is an id, what is a colour, and what is refused."""

import cv2
import numpy as np
import pytest
from PIL import Image

from fitter.label.label_files import UNKNOWN, read_labels, read_mask, to_photo_size, write_labels
from priors.clothing import PALETTE


@pytest.fixture
def ids():
    """Every label, and unknown, once or more: [5, 6]."""
    values = np.r_[0:20, 0:9, UNKNOWN].astype(np.uint8)
    return np.random.default_rng(0).permutation(values).reshape(5, 6)


def colors_of(ids):
    table = np.full((256, 3), 255, np.uint8)
    table[:20] = PALETTE
    return table[ids]


def indexed(indices, table):
    image = Image.fromarray(indices)
    image.putpalette(np.asarray(table, np.uint8).tobytes())
    return image


def test_the_written_file_reads_back(tmp_path, ids):
    write_labels(tmp_path / "a.png", ids)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids)
    for flag in (cv2.IMREAD_UNCHANGED, cv2.IMREAD_GRAYSCALE):  # other readers' too
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"), flag), ids)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., 0], ids)


@pytest.mark.parametrize("kind", ["grey", "grey as rgb", "rgb", "rgba"])
def test_ids_and_colours_read_the_same(tmp_path, ids, kind):
    image = {
        "grey": Image.fromarray(ids),
        "grey as rgb": Image.fromarray(np.repeat(ids[..., None], 3, 2)),
        "rgb": Image.fromarray(colors_of(ids)),
        "rgba": Image.fromarray(colors_of(ids)).convert("RGBA"),
    }[kind]
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids)


def test_indices_under_another_colour_table_are_ids(tmp_path):
    ids = np.array([[0, 5, 9], [13, 19, 0]], np.uint8)
    voc = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]] + [[7, i, 9] for i in range(251)]
    indexed(ids, voc).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids)


def test_palette_colours_in_another_order_are_colours(tmp_path):
    indexed(np.array([[0, 1, 2]], np.uint8), PALETTE[[13, 0, 5]]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), [[13, 0, 5]])


def test_what_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[[0, 0, 0], [12, 9, 77]]], np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=r"a\.png: expected ids 0-19 or the LIP palette, got colour \(12, 9, 77\)"
    ):
        read_labels(path)
    Image.fromarray(np.array([[0, 20]], np.uint8)).save(path)
    with pytest.raises(ValueError, match="got id 20"):
        read_labels(path)
    indexed(np.array([[0, 30]], np.uint8), [[i, 0, 1] for i in range(256)]).save(path)
    with pytest.raises(ValueError, match="got index 30"):
        read_labels(path)
    path.write_text("no image")
    with pytest.raises(ValueError, match="no readable image"):
        read_labels(path)


def test_a_scaled_map_is_brought_to_the_photo(ids):
    assert to_photo_size(ids, ids.shape) is ids
    np.testing.assert_array_equal(to_photo_size(ids, (15, 18)), ids.repeat(3, 0).repeat(3, 1))
    assert to_photo_size(np.zeros((333, 500), np.uint8), (683, 1024)).shape == (
        683,
        1024,
    )  # both sides rounded
    with pytest.raises(
        ValueError, match="b.png: expected the photo's size 60 x 80 px, or that scaled, got 80 x 60"
    ):
        to_photo_size(np.zeros((60, 80), np.uint8), (80, 60), "b.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_masks_of_any_kind(tmp_path, mode):
    """What is not black is masked, and alpha says nothing."""
    mask = np.zeros((6, 8), np.uint8)
    mask[1:3, 2:5] = 255
    Image.fromarray(mask).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask > 0)
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(ValueError, match="expected a PNG"):
        read_mask(tmp_path / "b.png")


def test_arrays_of_ids_are_read_and_other_arrays_refused(tmp_path, ids):
    for kind in (np.uint8, np.int64, np.uint16):
        np.save(tmp_path / "a.npy", ids.astype(kind))
        np.testing.assert_array_equal(read_labels(tmp_path / "a.npy"), ids)
    np.save(tmp_path / "a.npy", ids == 0)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.npy"), ids == 0)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.npy"), ids == 0)
    for array in (np.zeros((5, 6, 20)), np.zeros((5, 6)), np.zeros((0, 6), int), np.array([[None]])):
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        with pytest.raises(ValueError, match=r"a\.npy: expected ids 0-19 or the LIP palette"):
            read_labels(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", ids.astype(np.int16) - 300)
    with pytest.raises(ValueError, match="got id -300; --label-classes FILE"):
        read_labels(tmp_path / "a.npy")
