"""What a trial shows, and what is borne with after it, by numbers worked out by hand."""

import pytest

from seewhy.chance import Chance, Verdict


def after_refusals(count: int, *, calls: int = 100, taken: float = 40.0) -> tuple[Chance, float | None]:
    """So many refusals that may say something about a limit, each with the calls before it; the rate of a trial."""
    chance, rate = Chance(window_sec=60.0), None
    for number in range(count):
        for call in range(calls - 1):
            chance.ended(f"taken-{number}-{call}", refused=False)
        chance.ended(f"refused-{number}", refused=True)
        assert not chance.bears()
        rate = chance.tries(taken, now=0.0)
    return chance, rate


def on_trial(refused: str, *, seconds_a_call: float = 1.0) -> tuple[Chance, list[Verdict | None]]:
    """A trial after 4 refusals in 400 calls, of 40 calls a window before it; "x" is a call that is refused."""
    chance, _ = after_refusals(4)
    verdicts = []
    for number, one in enumerate(refused, start=1):
        chance.started(f"trial-{number}")
        chance.ended(f"trial-{number}", refused=one == "x")
        verdicts.append(chance.verdict(number * seconds_a_call))
    return chance, verdicts


def test_the_fourth_refusal_sets_off_a_trial_at_half_as_much_again() -> None:
    assert after_refusals(3)[1] is None
    chance, rate = after_refusals(4)
    assert rate == 60.0
    assert chance.on_trial
    assert chance.bears()  # what is refused on trial makes nothing fall before the trial is over


def test_no_limit_where_a_window_passes_as_before() -> None:
    """1.05 windows are 63 s; 4 of 463 calls were refused."""
    chance, verdicts = on_trial("." * 63)
    assert verdicts[:-1] == [None] * 62
    assert verdicts[-1] == Verdict(40.0, limit=False)
    assert not chance.on_trial
    assert chance.share == pytest.approx(4 / 463)


def test_a_limit_where_three_of_six_are_refused() -> None:
    chance, verdicts = on_trial("...x..xx")
    assert verdicts == [None] * 7 + [Verdict(40.0, limit=True)]  # x..xx
    assert not chance.on_trial
    assert chance.share == 0.0


def test_the_run_is_counted_by_start_whatever_ends_first() -> None:
    chance, _ = after_refusals(4)
    for number in range(30):
        chance.started(f"{number}")
    for number in (5, 12, 0):  # far from each other
        chance.ended(f"{number}", refused=True)
        assert chance.verdict(1.0) is None
    for number in (3, 10):
        chance.ended(f"{number}", refused=True)
    assert chance.verdict(1.0) == Verdict(40.0, limit=True)  # 5 of 30: 2 and a tenth


def test_a_limit_where_more_than_a_tenth_and_two_are_refused() -> None:
    """Every sixth call: at 25 calls 4 refusals are short of 4.5, at 30 calls 5 are 5."""
    _, verdicts = on_trial(".....x" * 5)
    assert verdicts == [None] * 29 + [Verdict(40.0, limit=True)]


def test_nothing_is_known_where_callers_do_not_use_the_higher_rate() -> None:
    """A call each 2 s is 30 a window; 1.3 times 40 must be reached."""
    chance, verdicts = on_trial("." * 32, seconds_a_call=2.0)
    assert verdicts[-1] == Verdict(40.0, limit=True)
    assert chance.share == 0.0


def test_each_trial_that_finds_a_limit_makes_the_next_wait_for_twice_as_many() -> None:
    chance, _ = on_trial("xxx")
    waited = []
    for _ in range(5):
        count = 1
        while chance.tries(40.0, now=0.0) is None:
            count += 1
        waited.append(count)
        for number in range(3):
            chance.started(f"{number}")
            chance.ended(f"{number}", refused=True)
        assert chance.verdict(1.0) is not None
    assert waited == [8, 16, 32, 32, 32]


def known() -> Chance:
    """4 of 463 calls are refused by chance."""
    return on_trial("." * 63)[0]


def test_what_is_refused_by_chance_is_borne_with_until_it_is_more() -> None:
    """Each refusal in a row adds 1 less 2 x 4/463 less 0.01, 0.973: five come to 4.86, six to 5.84."""
    chance = known()
    for _ in range(5):
        chance.ended("one", refused=True)
        assert chance.bears()
    chance.ended("one", refused=True)
    assert not chance.bears()
    assert chance.share > 0  # a limit was met; chance goes on beside it


def test_refusals_at_the_share_are_borne_with_for_ever() -> None:
    chance = known()
    for number in range(10_000):
        chance.ended("one", refused=number % 115 == 0)
        assert chance.bears()
    assert chance.share > 0


def test_chance_is_forgotten_where_refusals_stop() -> None:
    """Each call adds 2/463: 2,315 come to 10."""
    chance = known()
    for _ in range(2_314):
        chance.ended("one", refused=False)
    assert chance.share > 0
    for _ in range(2):
        chance.ended("one", refused=False)
    assert chance.share == 0.0
    assert not chance.bears()


def test_no_more_than_a_share_of_fifteen_in_a_hundred_is_chance() -> None:
    chance, _ = after_refusals(4, calls=2)
    for number in range(63):
        chance.started(f"{number}")
    assert chance.verdict(63.0) == Verdict(40.0, limit=False)
    assert chance.share == 0.15
