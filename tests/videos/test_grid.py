"""Frames in one picture: where each of them lies."""

import numpy as np
import pytest

from seewhy.videos.grid import columns_of, grid


def plain(value: int, height: int = 2, width: int = 3) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_frames_lie_row_by_row_and_places_left_over_are_black() -> None:
    laid = grid([plain(value) for value in (10, 20, 30, 40, 50)])
    assert laid.shape == (4, 9, 3)  # 3 columns, 2 rows of frames of 2 x 3
    corners = [laid[row, column, 0] for row in (0, 2) for column in (0, 3, 6)]
    assert corners == [10, 20, 30, 40, 50, 0]
    assert int(laid.astype(int).sum()) == 18 * (10 + 20 + 30 + 40 + 50)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (8, 3), (9, 3), (10, 4), (16, 4)])
def test_columns(count: int, columns: int) -> None:
    assert columns_of(count) == columns


def test_one_frame_is_itself() -> None:
    assert np.array_equal(grid([plain(7)]), plain(7))


def test_smaller_frames_lie_in_the_middle_of_their_place() -> None:
    """A video may change its size on the way: here from 2 x 3 to 4 x 5, so every place is 4 x 5."""
    laid = grid([plain(10), plain(20, 4, 5)])[:, :, 0]
    assert laid.shape == (4, 10)
    assert np.array_equal(laid[:, 5:], np.full((4, 5), 20))
    first = np.zeros((4, 5), np.uint8)
    first[1:3, 1:4] = 10
    assert np.array_equal(laid[:, :5], first)


def test_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="no frame"):
        grid([])
