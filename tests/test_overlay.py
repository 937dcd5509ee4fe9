"""Colours, blending and enlargement against numbers worked out by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from seewhy.overlay import encode_jpeg, enlarged, jet, overlay, reduced, side_by_side


def test_colours_at_the_ends_the_middle_and_the_corners_between():
    found = jet(np.array([0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]))
    expected = [
        [0, 0, 0.5],
        [0, 0, 1],
        [0, 0.5, 1],
        [0, 1, 1],
        [0.5, 1, 0.5],
        [1, 1, 0],
        [1, 0.5, 0],
        [1, 0, 0],
        [0.5, 0, 0],
    ]
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))


def test_blending_keeps_the_share_of_the_picture_that_alpha_leaves():
    image = np.array([[[200, 100, 0]]], dtype=np.uint8)
    # jet(0.5) is (127.5, 255, 127.5)
    assert overlay(image, np.array([[0.5]])).tolist() == [[[164, 178, 64]]]
    assert overlay(image, np.array([[0.5]]), alpha=0.25).tolist() == [[[182, 139, 32]]]
    assert overlay(image, np.array([[0.5]]), alpha=0).tolist() == image.tolist()
    assert overlay(image, np.array([[1.0]]), alpha=1).tolist() == [[[128, 0, 0]]]
    assert overlay(image, np.array([[0.0]]), alpha=1).tolist() == [[[0, 0, 128]]]


def test_a_grid_covers_the_whole_picture_with_its_corners_in_the_corners():
    found = enlarged(np.array([[0.0, 1.0], [0.5, 0.25]]), 4, 4)
    # centres of the cells at 1/4 and 3/4: the pixels' centres at 1/8, 3/8, 5/8, 7/8 take 0, 1/4, 3/4, 1 of the way
    rows = np.array([0, 0.25, 0.75, 1])[:, None]
    columns = np.array([0, 0.25, 0.75, 1])[None]
    top, bottom = 0.0 + columns * 1.0, 0.5 + columns * -0.25
    np.testing.assert_allclose(found, top + rows * (bottom - top), atol=1e-6)

    image = np.zeros((6, 9, 3), dtype=np.uint8)
    heat = np.array([[1.0, 0, 0.5], [0, 0, 0], [0.25, 0, 0.75]])
    painted = overlay(image, heat, alpha=1)
    assert painted[0, 0].tolist() == [128, 0, 0]
    assert painted[0, -1].tolist() == [128, 255, 128]
    assert painted[-1, 0].tolist() == [0, 128, 255]
    assert painted[-1, -1].tolist() == [255, 128, 0]


def test_a_grid_finer_than_the_picture_is_averaged():
    fine = np.zeros((8, 8))
    fine[:, ::2] = 1
    np.testing.assert_allclose(enlarged(fine, 2, 2), 0.5, atol=0.08)  # picking single cells would give 0 or 1


def test_a_picture_that_is_a_view_is_painted_alike():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    heat = rng.random((3, 4))
    flipped = overlay(image[:, ::-1], heat[:, ::-1])
    np.testing.assert_allclose(flipped[:, ::-1].astype(int), overlay(image, heat), atol=1)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("heat", [np.array([[1.01]]), np.array([[-0.01]]), np.array([[np.nan]]), np.zeros((1, 1, 1))])
def test_heat_that_is_none_is_refused(heat):
    with pytest.raises(ValueError, match="heat"):
        overlay(np.zeros((2, 2, 3), dtype=np.uint8), heat)


def test_pictures_and_alphas_that_are_none_are_refused():
    heat, grey = np.zeros((1, 1)), np.zeros((2, 2), dtype=np.uint8)
    for image in (grey, np.zeros((2, 2, 3)), np.zeros((2, 2, 4), dtype=np.uint8)):
        with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
            overlay(image, heat)
    with pytest.raises(ValueError, match=r"alpha=1\.5"):
        overlay(np.zeros((2, 2, 3), dtype=np.uint8), heat, alpha=1.5)


def test_side_by_side_is_left_then_right_without_a_gap():
    left, right = np.full((2, 1, 3), 7, dtype=np.uint8), np.full((2, 3, 3), 9, dtype=np.uint8)
    assert side_by_side(left, right)[:, :, 0].tolist() == [[7, 9, 9, 9], [7, 9, 9, 9]]
    with pytest.raises(ValueError, match="2 and 3 rows"):
        side_by_side(left, np.zeros((3, 3, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("width", "height", "expected"), [(60, 40, (30, 20)), (40, 60, (20, 30)), (30, 9, (30, 9)), (12, 8, (12, 8))]
)
def test_a_large_picture_is_reduced_and_a_small_one_is_not_touched(width, height, expected):
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[:, : width // 2] = 240
    found = reduced(image, 30)
    assert (found.shape[1], found.shape[0]) == expected
    assert found[:, 0].min() > 235
    assert found[:, -1].max() < 5
    assert reduced(np.zeros((2, 900, 3), dtype=np.uint8), 30).shape == (1, 30, 3)


def test_a_jpeg_holds_the_pixels_in_rgb_and_nothing_else():
    image = np.zeros((40, 30, 3), dtype=np.uint8)
    image[:, :] = (200, 30, 60)
    data = encode_jpeg(image)
    opened = Image.open(io.BytesIO(data))
    assert (opened.format, opened.size, opened.mode) == ("JPEG", (30, 40), "RGB")
    np.testing.assert_allclose(np.asarray(opened, dtype=int), image, atol=4)
    assert not opened.getexif()
    assert set(opened.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(encode_jpeg(noise, quality=30)) < len(encode_jpeg(noise))
