"""Many calls in flight: how many at once, how often again, how long, and what the pace is told."""

import asyncio
import re
import threading
import time
from dataclasses import dataclass, field

import pytest

from seewhy.failure import BAD_INPUT, NOT_ASKED, TRANSIENT, Failure, Fatal
from seewhy.vlm.base import Answer, Request
from seewhy.vlm.online import Calls, Online, Reply, cut_off, refused, refused_by_status
from seewhy.vlm.pace import Outcome, OutOfBudget

BUSY = refused(Failure(TRANSIENT, "busy", "later"), limited=True)


async def nothing() -> None: ...


def online(ask, **settings) -> Online:
    return Online(ask, lambda request: 100, 7, nothing, Calls(**{"backoff_sec": 0.001, **settings}))


def asks(count: int) -> list[Request]:
    return [Request(str(number), (b"x",), "what") for number in range(count)]


@dataclass
class Watch:
    """A pace that writes down what it hears."""

    begun: list[int] = field(default_factory=list)
    ended: list[Outcome] = field(default_factory=list)
    wait_sec: float = 0.0
    most: int | None = None
    then: Fatal = field(default_factory=lambda: Fatal("the desk is gone"))

    async def begin(self, tokens: int) -> None:
        if self.most is not None and len(self.begun) >= self.most:
            raise self.then
        self.begun.append(tokens)
        await asyncio.sleep(self.wait_sec)

    async def end(self, outcome: Outcome) -> None:
        self.ended.append(outcome)


def test_calls_are_sent_one_after_the_other_not_prepared_together_and_sent_last():
    """A client that needs five turns of the loop to send: all are sent before the next one is begun, and then wait."""
    done = []
    all_sent = asyncio.Event()

    async def ask(request: Request) -> Reply:
        done.append(("begun", request.id))
        for _ in range(5):
            await asyncio.sleep(0)
        done.append(("sent", request.id))
        if len(done) == 2 * 6:
            all_sent.set()
        await all_sent.wait()  # they are in flight together all the same
        return Reply(Answer(request.id))

    backend = online(ask)
    backend.generate(asks(6))
    backend.close()
    assert done == [(what, str(number)) for number in range(6) for what in ("begun", "sent")]


def test_never_more_than_allowed_and_answers_in_order():
    seen = {"open": 0, "most": 0}

    async def ask(request: Request) -> Reply:
        seen["open"] += 1
        seen["most"] = max(seen["most"], seen["open"])
        await asyncio.sleep(0.001 * (10 - int(request.id) % 10))  # the later answer first
        seen["open"] -= 1
        return Reply(Answer(request.id))

    before = threading.active_count()
    backend = online(ask, concurrency=5)
    assert [answer.text for answer in backend.generate(asks(40))] == [str(number) for number in range(40)]
    assert seen == {"open": 0, "most": 5}
    assert backend.generate([]) == []
    assert threading.active_count() == before + 1
    backend.close()
    assert threading.active_count() == before
    assert backend.generate(asks(1))[0].text == "0"
    backend.close()


def test_the_pace_is_asked_before_and_told_after_every_call():
    replies = {
        "0": [Reply(Answer("a", None, "stop", 30, 4))],
        "1": [
            refused(BUSY.answer.failure, limited=True, retry_after_sec=0.01),
            Reply(Answer("b", None, "stop", 50, 5)),
        ],
        "2": [cut_off(Failure(TRANSIENT, "gone"))] * 2,
        "3": [refused(Failure(BAD_INPUT, "http_400"))],
    }

    async def ask(request: Request) -> Reply:
        return replies[request.id].pop(0)

    watch = Watch()
    backend = online(ask, tries=2, concurrency=1, pace=watch)
    answers = backend.generate(asks(4))
    backend.close()
    assert [answer.text for answer in answers] == ["a", "b", None, None]
    # guessed 100 + at most 7 written; what was read so far is less, and the next request may be a larger one
    assert watch.begun == [107] * 6
    assert watch.ended == [
        Outcome(False, None, 30, 4),
        Outcome(True, 0.01, 0, 0),  # refused: nothing is charged
        Outcome(False, None, 50, 5),
        Outcome(False, None, None, None),  # nobody knows
        Outcome(False, None, None, None),
        Outcome(False, None, 0, 0),
    ]


def test_more_tokens_than_were_guessed_are_reckoned_with_from_then_on():
    """Three times the guess of 100, so of a request that is ten times as large 3,000 are expected."""

    async def ask(request: Request) -> Reply:
        return Reply(Answer("a", None, "stop", 300, 4))

    watch = Watch()
    backend = Online(ask, lambda request: 100 * len(request.images), 7, nothing, Calls(concurrency=1, pace=watch))
    backend.generate([*asks(2), Request("large", (b"x",) * 10, "what"), *asks(1)])
    backend.close()
    assert watch.begun == [107, 307, 3007, 307]


def test_what_stops_the_job_leaves_what_was_answered_and_hears_the_end_of_what_was_begun():
    """Three calls are out when the pace stops the job; one of them fails, and is not tried again."""

    async def ask(request: Request) -> Reply:
        await asyncio.sleep(0.3)
        return BUSY if request.id == "1" else Reply(Answer(f"a{request.id}", None, "stop", 30, 4))

    watch = Watch(most=3)
    backend = online(ask, pace=watch)
    answers = backend.generate(asks(6))
    assert [answer.text for answer in answers] == ["a0", None, "a2", None, None, None]
    assert answers[1].failure.reason == "busy"
    assert {answer.failure for answer in answers[3:]} == {Failure(TRANSIENT, NOT_ASKED, "the desk is gone")}
    assert len(watch.begun) == len(watch.ended) == 3
    with pytest.raises(Fatal, match="the desk is gone"):
        backend.generate(asks(2))
    backend.close()


def test_what_waits_when_the_job_stops_is_not_waited_for():
    """One waits for its next try, one for the pace, both for long; the call that is out is answered."""

    async def ask(request: Request) -> Reply:
        if request.id == "0":
            return BUSY
        if request.id == "1":
            await asyncio.sleep(0.3)
            return Reply(Answer("a"))
        await asyncio.sleep(0.1)
        raise Fatal("no such model")

    class Slow(Watch):
        async def begin(self, tokens: int) -> None:
            if len(self.begun) == 3:
                await asyncio.sleep(60)
            await super().begin(tokens)

    start = time.monotonic()
    backend = online(ask, pace=Slow(), backoff_sec=60.0, max_wait_sec=60.0)
    answers = backend.generate(asks(5))
    backend.close()
    assert [answer.text for answer in answers] == [None, "a", None, None, None]
    assert {answer.failure.reason for answer in answers if answer.failure} == {NOT_ASKED}
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(("status", "free"), [(503, True), (429, True), (400, True), (504, False), (408, False)])
def test_a_call_that_somebody_gave_up_waiting_for_may_have_cost(status: int, free: bool):
    async def ask(request: Request) -> Reply:
        return refused_by_status(status, "no")

    watch = Watch()
    backend = online(ask, tries=1, pace=watch)
    backend.generate(asks(1))
    backend.close()
    assert watch.ended == [Outcome(False, None, *((0, 0) if free else (None, None)))]


def test_when_the_money_runs_out_calls_in_flight_are_answered_and_the_others_not_asked():
    async def ask(request: Request) -> Reply:
        await asyncio.sleep(0.3)
        return Reply(Answer(f"a{request.id}", None, "stop", 30, 4))

    watch = Watch(most=3, then=OutOfBudget("the budget is used up"))
    backend = online(ask, pace=watch)
    answers = backend.generate(asks(5))
    backend.close()
    assert [answer.text for answer in answers] == ["a0", "a1", "a2", None, None]
    assert [answer.failure for answer in answers[3:]] == [Failure(TRANSIENT, NOT_ASKED, "the budget is used up")] * 2
    assert len(watch.ended) == 3


def test_a_service_that_answers_nothing_for_long_stops_the_job():
    """Two at a time, 0.1 s each: four fail in the first 0.2 s, and nothing is asked once 0.3 s have passed."""
    calls = []

    async def ask(request: Request) -> Reply:
        calls.append(request.id)
        await asyncio.sleep(0.1)
        return Reply(Answer("a")) if request.id == "well" else BUSY

    backend = online(ask, tries=1, concurrency=2, give_up_sec=0.3)
    answers = backend.generate(asks(30))
    told = [answer.failure.reason for answer in answers]
    assert 4 <= told.count("busy") < 30
    assert 4 <= len(calls) < 30
    assert told[-1] == NOT_ASKED
    assert re.match(
        r"the service has answered none of the last \d+ requests, .*: busy, later", answers[-1].failure.detail
    )
    backend.generate([Request("well", (b"x",), "what")])
    assert backend.generate(asks(2))[1].failure.reason == "busy"  # it had answered just now
    backend.close()


def test_waiting_for_the_pace_uses_up_no_time():
    async def ask(request: Request) -> Reply:
        await asyncio.sleep(0.01)
        return Reply(Answer("a"))

    backend = online(ask, pace=Watch(wait_sec=0.5), timeout_sec=0.2, total_timeout_sec=0.2)
    assert backend.generate(asks(1))[0].text == "a"
    backend.close()


def test_a_request_ends_in_time_however_many_tries_are_left():
    calls = []

    async def ask(request: Request) -> Reply:
        calls.append(request)
        await asyncio.sleep(0.2)
        return BUSY

    backend = online(ask, tries=1000, total_timeout_sec=1.0)
    (answer,) = backend.generate(asks(1))
    backend.close()
    assert (answer.failure.kind, answer.failure.reason) in ((TRANSIENT, "busy"), (TRANSIENT, "timeout"))
    assert 2 <= len(calls) <= 5


def test_a_pause_that_one_request_meets_holds_the_others_too():
    at: dict[str, list[float]] = {"0": [], "1": [], "2": []}

    async def ask(request: Request) -> Reply:
        at[request.id].append(asyncio.get_running_loop().time())
        if request.id == "0" and len(at["0"]) == 1:
            await asyncio.sleep(0.01)  # until "1" has begun too
            return refused(BUSY.answer.failure, limited=True, retry_after_sec=0.5)
        await asyncio.sleep(0.05)
        return Reply(Answer("a"))

    backend = online(ask, concurrency=2)  # "2" gets the place of "1", while "0" waits in its own
    assert [answer.text for answer in backend.generate(asks(3))] == ["a", "a", "a"]
    backend.close()
    asked = at["0"][0]
    assert at["1"][0] - asked < 0.5
    assert at["2"][0] - asked >= 0.5
    assert at["0"][1] - asked >= 0.5


def test_random_waits_are_bounded_by_a_doubling_cap(monkeypatch):
    bounds = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return 0.0

    monkeypatch.setattr("seewhy.vlm.online.random.uniform", uniform)

    async def ask(request: Request) -> Reply:
        return BUSY

    backend = online(ask, tries=6, backoff_sec=1.0, max_wait_sec=5.0)
    backend.generate(asks(1))
    backend.close()
    assert bounds == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5), (0, 5)]


def test_settings_that_are_none_are_refused():
    for name, value in (
        ("concurrency", 0),
        ("tries", 0),
        ("timeout_sec", 0),
        ("backoff_sec", -1),
        ("max_wait_sec", -1),
        ("give_up_sec", 0),
    ):
        with pytest.raises(ValueError, match=name):
            Calls(**{name: value})
