"""Who may start and when: hours of a service's limit played through on a simulated clock."""

from collections.abc import Callable

import pytest

from seewhy.prices import Budget
from seewhy.rates import Ask, Broker
from tests.simulated_service import (
    Bucket,
    ByChance,
    Calendar,
    Limit,
    Sliding,
    least_share,
    play,
    refused_share,
    taken_a_minute,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def asks(caller: str, count: int, tokens: int = 1, most_usd: float = 0.0) -> list[Ask]:
    return [Ask(f"{caller}{i}", tokens, most_usd) for i in range(count)]


def started(broker: Broker) -> list[str]:
    return [verdict.id for verdict in broker.decide()]


def measured(broker: Broker) -> Broker:
    """After a call that has shown what its like cost, here next to nothing."""
    broker.wait("first", [Ask("first", 1)])
    assert started(broker) == ["first"]
    broker.end("first", cost_usd=1e-12)
    return broker


def unknown(clock: Callable[[], float]) -> Broker:
    return Broker(clock=clock)


@pytest.mark.parametrize("says_when", [False, True], ids=["silent", "retry-after"])
@pytest.mark.parametrize("most", [60, 600])
@pytest.mark.parametrize("kind", [Sliding, Calendar])
def test_an_unknown_limit_is_found_and_kept_close_to(kind: type, most: int, says_when: bool) -> None:
    """8 callers; from the first minute on fewer than 2% are refused; settled, 90% to 100% of the limit."""
    seen = play(unknown, kind(most), minutes=16, calls_each=16, says_when=says_when)
    assert 0.90 <= taken_a_minute(seen, 5, 16) / most <= 1.0
    assert refused_share(seen, 1, 16) < 0.02
    assert least_share(seen, 1, 16) >= 0.8


def test_a_limit_by_the_second_is_found_too() -> None:
    """What drips in evenly may give a little more than its share while the bucket empties."""
    seen = play(unknown, Bucket(600), minutes=16, calls_each=16)
    assert 0.90 <= taken_a_minute(seen, 6, 16) / 600 <= 1.02
    assert refused_share(seen, 1, 16) < 0.02
    assert least_share(seen, 1, 16) >= 0.8


@pytest.mark.parametrize("new", [300, 1200])
@pytest.mark.parametrize("kind", [Sliding, Calendar, Bucket])
def test_a_limit_that_changes_is_followed(kind: type, new: int) -> None:
    seen = play(unknown, kind(600), minutes=20, calls_each=16, changes={480.0: new})
    assert 0.90 <= taken_a_minute(seen, 14, 20) / new <= 1.02
    assert refused_share(seen, 9, 20) < 0.02
    assert least_share(seen, 9, 20) >= 0.8


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_refusals_by_chance_hold_nobody_back(share: float) -> None:
    """64 calls of 2 s at a time are 1,870 a minute; asked less at each refusal, it would be one call for each."""
    seen = play(unknown, ByChance(share), minutes=30, callers=4, calls_each=16)
    free = play(unknown, ByChance(0.0), minutes=5, callers=4, calls_each=16)
    assert taken_a_minute(seen, 20, 30) >= 0.9 * (1 - share) * taken_a_minute(free, 2, 5)
    assert refused_share(seen, 20, 30) == pytest.approx(share, rel=0.25)


@pytest.mark.parametrize("kind", [Sliding, Calendar, Bucket])
@pytest.mark.parametrize("share", [0.01, 0.03])
def test_a_limit_is_found_beside_refusals_by_chance(kind: type, share: float) -> None:
    seen = play(unknown, ByChance(share, kind(600)), minutes=30, calls_each=16)
    assert 0.90 <= taken_a_minute(seen, 15, 30) / 600 <= 1.02
    assert refused_share(seen, 15, 30) < share + 0.02


def test_a_service_that_stops_to_refuse_by_chance_is_followed() -> None:
    """From the 20th minute on nothing is refused but by the limit: hardly more than where chance never was."""
    service = ByChance(0.03, Sliding(600))

    def take(now: float) -> float | None:
        service.share = 0.03 if now < 1200 else 0.0
        return ByChance.take(service, now)

    service.take = take  # type: ignore[method-assign]
    seen = play(unknown, service, minutes=60, calls_each=16)
    assert taken_a_minute(seen, 40, 60) / 600 >= 0.90
    assert refused_share(seen, 40, 60) < 0.02


@pytest.mark.parametrize("limit", [Sliding(600), Calendar(600), Bucket(600)], ids=lambda limit: type(limit).__name__)
def test_a_known_limit_is_never_run_into(limit: Limit) -> None:
    seen = play(lambda clock: Broker(clock=clock, requests=600), limit, minutes=6, calls_each=16)
    assert not any(one.limited for one in seen)
    assert 0.95 <= taken_a_minute(seen, 1, 6) / 600 <= 1.0


def test_callers_that_die_block_nobody() -> None:
    """Three of 8 die with all that they hold; the others share what they leave."""
    gone = {"w1": 100.0, "w4": 130.0, "w6": 130.0}
    seen = play(lambda clock: Broker(clock=clock, requests=600, lease_sec=60.0), Sliding(600), minutes=8, leave=gone)
    after = [one for one in seen if one.at >= 240]
    assert {one.caller for one in after} == {"w0", "w2", "w3", "w5", "w7"}
    assert taken_a_minute(seen, 4, 8) / 600 >= 0.95


def test_callers_take_turns_whatever_they_ask_for() -> None:
    clock = Clock()
    broker = Broker(clock=clock, requests=6000)
    broker.wait("a", asks("a", 4))
    broker.wait("b", asks("b", 2))
    broker.wait("c", asks("c", 1))
    assert started(broker) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_starts_are_spaced_and_summed() -> None:
    """6 a minute: a second's worth is less than a call, so one each 10 s; the seventh when the first is 61.2 s old."""
    clock = Clock()
    broker = Broker(clock=clock, requests=6, patience_sec=1e9)
    broker.wait("a", asks("a", 7))
    times = []
    while broker.waiting:
        for call in started(broker):
            broker.end(call)
            times.append(clock.now)
        at = broker.next_at_sec()
        clock.now = clock.now if at is None else at
    assert times[:6] == pytest.approx([0, 9, 19, 29, 39, 49])  # a second early is allowed, and not saved up
    assert times[6] == pytest.approx(61.2)


def test_tokens_are_limited_by_what_calls_really_took() -> None:
    clock = Clock()
    broker = Broker(clock=clock, requests=6000, tokens=100, patience_sec=1e9)
    broker.wait("a", asks("a", 3, tokens=50))
    assert started(broker) == ["a0", "a1"]
    broker.end("a0", tokens=0)
    assert started(broker) == ["a2"]
    broker.wait("a", [Ask("small", 1), Ask("huge", 1000)])
    assert started(broker) == []
    assert broker.next_at_sec() == pytest.approx(61.2)
    clock.now = 61.3
    assert started(broker) == ["small"]  # huge is more than the limit: it waits for an empty window, not for ever
    clock.now = 61.3 + 61.2
    broker.wait("a", [Ask("huge", 1000)])
    assert started(broker) == ["huge"]


def test_one_burst_is_one_fall() -> None:
    clock = Clock()
    broker = Broker(clock=clock, requests=6000)
    broker.wait("a", asks("a", 100))
    calls = started(broker)
    assert len(calls) == 100
    clock.now = 1.0
    for call in calls[:50]:
        broker.end(call, limited=True)
    # 99 others were taken or under way at the first: less than half of 6,000, so it falls to half, and once
    assert broker.allowance == 3000


def left_alone(*, retry_after_sec: float) -> tuple[Clock, Broker]:
    """The service asked at 0 to be left alone, by way of a; b waits."""
    clock = Clock()
    broker = Broker(clock=clock, requests=60, patience_sec=1e9)
    broker.wait("a", asks("a", 1))
    assert started(broker) == ["a0"]
    broker.end("a0", limited=True, retry_after_sec=retry_after_sec)
    broker.wait("b", asks("b", 1))
    return clock, broker


def test_everyone_waits_as_long_as_the_service_asks() -> None:
    clock, broker = left_alone(retry_after_sec=30.0)
    clock.now = 29.9
    assert started(broker) == []
    assert broker.next_at_sec() == pytest.approx(30.0)
    clock.now = 30.1
    assert started(broker) == ["b0"]


@pytest.mark.parametrize("asked_sec", [365 * 86400.0, float("inf")])
def test_a_year_is_waited_for_ten_minutes(asked_sec: float) -> None:
    clock, broker = left_alone(retry_after_sec=asked_sec)
    assert broker.next_at_sec() == pytest.approx(600.0)
    clock.now = 599.0
    assert started(broker) == []
    clock.now = 600.1
    assert started(broker) == ["b0"]


def test_an_end_that_is_said_again_does_not_ask_for_another_pause() -> None:
    clock, broker = left_alone(retry_after_sec=30.0)
    clock.now = 20.0
    assert not broker.end("a0", limited=True, retry_after_sec=30.0)
    assert broker.next_at_sec() == pytest.approx(30.0)


def test_asking_again_is_asking_once() -> None:
    clock = Clock()
    broker = Broker(clock=clock, requests=6000)
    broker.wait("a", asks("a", 2))
    assert started(broker) == ["a0", "a1"]
    assert [verdict.id for verdict in broker.wait("a", asks("a", 3))] == ["a0", "a1"]
    assert started(broker) == ["a2"]
    assert broker.in_flight == 3
    assert broker.end("a0")
    assert not broker.end("a0")
    assert broker.in_flight == 2


def test_silent_callers_and_calls_that_never_end_are_forgotten() -> None:
    clock = Clock()
    budget = Budget(cap_usd=1.0)
    broker = measured(Broker(clock=clock, requests=6000, lease_sec=100.0, patience_sec=30.0, budget=budget))
    broker.wait("a", asks("a", 2, most_usd=0.5))
    assert started(broker) == ["a0", "a1"]
    broker.wait("b", asks("b", 1, most_usd=0.4))
    clock.now = 31.0
    assert started(broker) == []
    assert broker.waiting == 0  # b was not heard of
    broker.end("a1", cost_usd=0.1)
    clock.now = 99.0
    broker.wait("b", asks("b", 1, most_usd=0.4))
    assert started(broker) == ["b0"]
    assert budget.in_flight_usd == pytest.approx(0.9)
    clock.now = 100.0
    started(broker)
    assert budget.spent_usd == pytest.approx(0.6)  # a0 may have cost all that it had set aside


def test_money_in_flight_is_waited_for_and_then_refused() -> None:
    clock = Clock()
    budget = Budget(cap_usd=1.0)
    broker = measured(Broker(clock=clock, requests=6000, budget=budget))
    broker.wait("a", asks("a", 4, most_usd=0.4))
    assert started(broker) == ["a0", "a1"]
    assert started(broker) == []  # 0.8 in flight: a2 would make 1.2, but may still fit
    broker.end("a0", cost_usd=0.2)
    assert started(broker) == ["a2"]
    broker.end("a1", cost_usd=0.3)
    broker.end("a2", cost_usd=0.4)
    [no] = broker.decide()
    assert no.id == "a3"
    assert no.refusal is not None
    assert no.refusal.startswith("the budget is used up: 0.90 USD of 1.00 USD spent")
    assert "raise the budget above 1.30 USD and run again" in no.refusal
    assert broker.waiting == 0


def test_the_first_call_goes_alone_and_shows_what_its_like_cost() -> None:
    """Ten calls that should cost 0.1 each fit a budget of 1; the first costs 0.3, so two more fit beside it."""
    clock = Clock()
    budget = Budget(cap_usd=1.0)
    broker = Broker(clock=clock, requests=6000, budget=budget)
    broker.wait("a", asks("a", 10, most_usd=0.1))
    assert started(broker) == ["a0"]
    broker.end("a0", limited=True, cost_usd=0.0)  # a refusal shows nothing
    broker.wait("a", asks("a", 10, most_usd=0.1)[1:])
    clock.now = 10.0
    assert started(broker) == ["a1"]
    assert started(broker) == []
    broker.end("a1", cost_usd=0.3)
    assert started(broker) == ["a2", "a3"]
    for call in ("a2", "a3"):
        broker.end(call, cost_usd=0.3)
    assert budget.spent_usd == pytest.approx(0.9)
    [no, *_] = broker.decide()
    assert no.refusal is not None
    assert "up to 0.30 USD" in no.refusal


def test_the_first_call_is_waited_for_a_window_at_most() -> None:
    clock = Clock()
    broker = Broker(clock=clock, requests=6000, budget=Budget(cap_usd=1.0), patience_sec=1e9)
    broker.wait("a", asks("a", 3, most_usd=0.1))
    assert started(broker) == ["a0"]
    clock.now = 59.0
    assert started(broker) == []
    clock.now = 60.0
    assert started(broker) == ["a1"]


@pytest.mark.parametrize("cap_usd", [float("inf"), 1.0])
def test_nobody_goes_alone_where_calls_cost_nothing_or_may_cost_anything(cap_usd: float) -> None:
    broker = Broker(clock=Clock(), requests=6000, budget=Budget(cap_usd=cap_usd))
    broker.wait("a", asks("a", 3, most_usd=0.1 if cap_usd > 1 else 0.0))
    assert started(broker) == ["a0", "a1", "a2"]


def test_money_of_a_job_is_not_waited_for() -> None:
    """A job may go on for days: who needs its money hears so at once."""
    budget = Budget(cap_usd=1.0)
    broker = measured(Broker(clock=Clock(), requests=6000, budget=budget))
    assert budget.set_aside("job", 0.7) is None
    broker.wait("a", asks("a", 2, most_usd=0.2))
    assert started(broker) == ["a0"]
    assert started(broker) == []  # 0.1 is left; a0 may give some back
    broker.end("a0", cost_usd=0.15)
    [no] = broker.decide()
    assert no.refusal is not None
    assert "0.15 USD of 1.00 USD spent, 0.70 USD set aside for what is under way, and" in no.refusal
    assert "raise the budget above 1.05 USD" in no.refusal


@pytest.mark.parametrize("seed", range(5))
def test_no_run_of_calls_breaks_the_budget(seed: int) -> None:
    """Calls cost anything up to what they set aside; the sum of what they cost never exceeds the cap."""
    import random

    draw = random.Random(seed)
    clock, budget = Clock(), Budget(cap_usd=5.0)
    broker = Broker(clock=clock, requests=60_000, budget=budget)
    waiting = [Ask(f"a{i}", 1, draw.uniform(0.01, 0.5)) for i in range(200)]
    most = {ask.id: ask.most_usd for ask in waiting}
    refused, under_way, paid = 0, [], 0.0
    while waiting or under_way:
        broker.wait("a", waiting)
        for verdict in broker.decide():
            waiting = [ask for ask in waiting if ask.id != verdict.id]
            if verdict.refusal is None:
                under_way.append(verdict.id)
            else:
                refused += 1
        assert paid + sum(most[call] for call in under_way) <= 5.0 + 1e-9
        if under_way:
            call = under_way.pop(draw.randrange(len(under_way)))
            cost = most[call] * draw.random()
            paid += cost
            broker.end(call, cost_usd=cost)
        clock.now += 1.0
    assert budget.spent_usd == pytest.approx(paid)
    assert refused > 0
    assert paid > 4.0


def test_a_new_broker_learns_from_the_callers() -> None:
    """60 a minute, 40 of them started in the last minute under the broker that died: 20 are left, then it waits."""
    clock = Clock()
    clock.now = 1000.0
    broker = Broker(clock=clock)
    for caller in ("a", "b"):
        past = [(Ask(f"{caller}-old{i}", 1), 20.0, i < 2) for i in range(20)]
        broker.recall(caller, allowance=100.0, starts=past)
        broker.recall(caller, allowance=100.0, starts=past)
    assert broker.allowance == pytest.approx(95.0)  # once, not once a caller
    assert broker.in_flight == 4
    broker.wait("a", asks("a", 100))
    count = 0
    while clock.now < 1041.0:
        clock.now += 0.1
        count += len(started(broker))
        broker.wait("a", asks("a", 100)[count:])
    assert 55 <= count <= 57  # 95 less 40, and what it rose by meanwhile


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"requests": 0}, {"tokens": float("nan")}, {"window_sec": 0}, {"lease_sec": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Broker(clock=Clock(), **wrong)  # type: ignore[arg-type]
