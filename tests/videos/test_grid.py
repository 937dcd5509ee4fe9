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


def test_frames_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="2 shapes"):
        grid([plain(1), plain(1, width=4)])
    with pytest.raises(ValueError, match="0 shapes"):
        grid([])
