import math

import numpy as np
import pytest

from seewhy.report import numbers


@pytest.mark.parametrize(
    ("values", "digits"),
    [([0.43, -0.1], 2), ([7.3], 2), ([45.2, 1.0], 1), ([3500.0], 0), ([0.05], 3), ([0.0021], 4), ([], 2), ([0.0], 2)],
)
def test_decimals_follow_the_largest_value(values: list[float], digits: int) -> None:
    assert numbers.decimals(values) == digits


def test_decimals_look_past_what_is_missing() -> None:
    assert numbers.decimals([None, math.nan, math.inf, 0.05]) == 3


def test_numbers_have_a_true_minus_and_no_negative_zero() -> None:
    assert numbers.number(-1234.56, 1) == "−1,234.6"
    assert numbers.number(-0.004, 2) == "0.00"
    assert numbers.signed(0.004, 2) == "0.00"
    assert numbers.signed(0.006, 2) == "+0.01"
    assert numbers.signed(-0.3, 2) == "−0.30"
    assert numbers.number(None, 2) == numbers.signed(math.nan, 2) == "–"


def test_an_interval_needs_both_bounds() -> None:
    assert numbers.interval(-0.2, 0.48, 2, plus=True) == "−0.20 to +0.48"
    assert numbers.interval(0.2, 0.48, 2) == "0.20 to 0.48"
    assert numbers.interval(None, 0.48, 2) == numbers.interval(0.2, math.nan, 2) == ""


def test_a_share_keeps_its_counts_and_never_rounds_to_all_or_nothing() -> None:
    assert numbers.share(12, 600) == "12 of 600 (2%)"
    assert numbers.share(1, 2_000) == "1 of 2,000 (under 1%)"
    assert numbers.share(1_999, 2_000) == "1,999 of 2,000 (over 99%)"
    assert numbers.share(2_000, 2_000) == "2,000 of 2,000 (100%)"
    assert numbers.share(0, 0) == "0 of 0"
    assert numbers.plural(1, "word") == "1 word"
    assert numbers.plural(2_000, "word") == "2,000 words"


@pytest.mark.parametrize(
    ("share", "written"),
    [(0.0, "0%"), (0.004, "under 1%"), (0.01, "1%"), (0.915, "92%"), (0.995, "over 99%"), (1.0, "100%"), (None, "–")],
)
def test_a_share_is_never_rounded_to_none_or_all(share: float | None, written: str) -> None:
    assert numbers.percent(share) == written


def test_intervals_of_shares_and_times() -> None:
    assert numbers.percents(0.84, 0.934) == "84% to 93%"
    assert numbers.percents(None, 0.9) == numbers.percents(0.1, math.nan) == ""
    assert [numbers.times(x) for x in (3.64, 0.5, 12.4, None)] == ["3.6×", "0.5×", "12×", "–"]


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([1.0, 2.0, 3.0], (0, 2)),
        ([1.5, 2.5, 9.5], (1, 2)),
        ([100.0, 500.0], (0, 0)),
        ([0.011, 0.012], (3, 5)),
        ([], (2, 2)),
    ],
)
def test_decimals_follow_the_spread(values: list[float], decimals: tuple[int, int]) -> None:
    assert numbers.spread_decimals(np.array([*values, math.nan])) == decimals
