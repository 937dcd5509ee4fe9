"""Which frames stand for a video, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.videos.sampling import middles


def test_the_middles_of_equal_parts() -> None:
    twenty = list(range(0, 200, 10))
    assert middles(twenty, 200, 1) == [10]  # at 100 the frame that begins there
    assert middles(twenty, 200, 4) == [2, 7, 12, 17]  # at 25, 75, 125, 175
    assert middles(twenty, 200, 8) == [1, 3, 6, 8, 11, 13, 16, 18]  # at 12.5, 37.5, 62.5, ...
    assert middles([5, 15], 25, 2) == [0, 1]  # at 10 and 20: a video need not begin at 0


def test_frames_of_unequal_length_count_by_their_time() -> None:
    assert middles([0, 90, 95], 100, 2) == [0, 0]  # at 25 and 75 the first is on the screen
    assert middles([0, 90, 95], 100, 10) == [0] * 9 + [2]  # at 5, 15, ..., 85, and 95


def test_with_more_parts_than_frames_some_come_again() -> None:
    assert middles([0, 10, 20], 30, 6) == [0, 0, 1, 1, 2, 2]
    assert middles([7], 8, 3) == [0, 0, 0]


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 1001))
def test_of_frames_of_one_length_they_are_told_by_a_formula(frames: int, count: int, length: int) -> None:
    found = middles(range(0, frames * length, length), frames * length, count)
    assert found == [(2 * i + 1) * frames // (2 * count) for i in range(count)]


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more of 1 or more"):
        middles([], 0, 1)
    with pytest.raises(ValueError, match="0 of 1 frames"):
        middles([0], 1, 0)
