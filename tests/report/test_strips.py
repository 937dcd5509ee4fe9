import pytest

from seewhy.report import strips


def test_a_symmetric_scale_has_zero_in_the_middle() -> None:
    scale = strips.symmetric([0.1, -0.4, None, float("nan")])
    assert (scale.low, scale.high) == (-0.4, 0.4)
    assert scale.percent(0.0) == 50
    assert scale.percent(-0.4) == 4
    assert scale.percent(0.4) == 96
    assert scale.percent(0.2) == pytest.approx(73)
    assert scale.percent(9.0) == 96


def test_ticks_are_round_and_hold_zero() -> None:
    assert [t.label for t in strips.Scale(-0.46, 0.46).ticks(4)] == ["−0.25", "0.00", "0.25"]
    assert [t.label for t in strips.Scale(-1.0, 1.0).ticks(4)] == ["−1.0", "−0.5", "0.0", "0.5", "1.0"]
    assert [t.label for t in strips.Scale(0.0, 12.0).ticks(4)] == ["0", "5", "10"]
    assert [t.label for t in strips.Scale(0.0, 9.0).ticks(4)] == ["0.0", "2.5", "5.0", "7.5"]
    assert strips.Scale(-1.0, 1.0).ticks(4)[2].at == "50.00%"


def test_a_mark_is_sure_only_if_its_interval_is_there_and_clear_of_zero() -> None:
    scale = strips.Scale(-1.0, 1.0)
    clear = scale.mark(0.5, 0.25, 0.75)
    assert clear is not None
    assert (clear.at, clear.low, clear.high, clear.zero) == ("73.00%", "61.50%", "84.50%", "50.00%")
    assert (clear.sign, clear.sure, clear.bar_from, clear.bar_width) == ("pos", True, "50.00%", "23.00%")
    down = scale.mark(-0.5, -0.75, 0.25)
    assert down is not None
    assert (down.sign, down.sure, down.bar_from, down.bar_width) == ("neg", False, "27.00%", "23.00%")
    bare = scale.mark(0.5)
    assert bare is not None
    assert (bare.low, bare.high, bare.sure) == (None, None, False)
    assert scale.mark(None) is None
    assert scale.mark(float("nan")) is None


def test_a_scale_around_nothing_or_one_value_is_not_empty() -> None:
    assert strips.around([]) == strips.Scale(0.0, 1.0)
    one = strips.around([3.0])
    assert one.low < 3.0 < one.high
    assert strips.around([0.2, 0.4], include_zero=True).low == 0.0
    assert strips.around([-0.4], include_zero=True).high == 0.0
