"""Sums to come, by hand and by their coverage."""

import math

import numpy as np
import pytest

from seewhy.forecast import Estimate, block_seconds, least_seconds, total


def test_a_sum_and_its_interval_by_hand() -> None:
    """Mean 2 and standard deviation 1 of three rows; t of 2 degrees of freedom is 4.302653."""
    found = total([1, 2, 3], 12)
    half = 4.302653 * 12 * math.sqrt(1 / 3 + 1 / 12)
    assert found.middle == 24
    assert found.high == pytest.approx(24 + half, rel=1e-6)
    assert found.low == 0.0  # 24 - 33.3: no fewer tokens than none


def test_rows_that_are_all_alike_leave_no_doubt() -> None:
    assert total([5.0] * 50, 1000) == Estimate(5000.0, 5000.0, 5000.0)


def test_the_interval_holds_the_sum_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        rows = draw.normal(300.0, 40.0, 250)
        found = total(rows[:50], 200)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= rows[50:].sum() <= found.high
    assert 0.935 <= inside / 2000 <= 0.965  # 3 standard errors of a share of 0.95


def test_one_row_or_none_to_do_has_no_interval() -> None:
    assert total([7.0], 3) == Estimate(21.0)
    assert total([7.0, 8.0], 0) == Estimate(0.0)
    with pytest.raises(ValueError, match="no row"):
        total([], 3)


def test_the_time_of_a_block_grows_with_its_rows_or_with_its_turns() -> None:
    assert block_seconds([2.0, 6.0], [10, 20], in_flight=None, rows_per_block=60) == [12.0, 18.0]
    # 10 at once: the pilot's 10 rows are one turn, its 20 two, and the study's 60 six
    assert block_seconds([2.0, 6.0], [10, 20], in_flight=10, rows_per_block=60) == [12.0, 18.0]
    # 64 at once: all are one turn
    assert block_seconds([2.0, 6.0], [10, 20], in_flight=64, rows_per_block=60) == [2.0, 6.0]


def test_limits_set_a_floor() -> None:
    assert least_seconds(600, 90_000, per_minute=300, tokens_per_minute=None) == 120
    assert least_seconds(600, 90_000, per_minute=300, tokens_per_minute=30_000) == 180
    assert least_seconds(600, 90_000, per_minute=None, tokens_per_minute=None) == 0
    assert Estimate(100.0, 50.0, 200.0).at_least(120.0) == Estimate(120.0, 120.0, 200.0)
    assert Estimate(100.0, 50.0, 200.0).times(0.5) == Estimate(50.0, 25.0, 100.0)
