import math

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
