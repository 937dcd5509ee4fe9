"""A service with a limit, and workers that call it through a broker, on a clock of their own: hours in a second.

Nothing here waits. Events lie in a heap; the clock jumps from one to the next.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from seewhy.rates import Ask, Broker


class Limit(Protocol):
    def take(self, now: float) -> float | None:
        """None where the call is taken, else seconds until one may be."""
        ...


@dataclass
class Sliding:
    """At most `most` calls in any `window_sec`."""

    most: int
    window_sec: float = 60.0
    taken: deque[float] = field(default_factory=deque)

    def take(self, now: float) -> float | None:
        while self.taken and self.taken[0] <= now - self.window_sec:
            self.taken.popleft()
        if len(self.taken) >= self.most:
            return self.taken[len(self.taken) - self.most] + self.window_sec - now
        self.taken.append(now)
        return None


@dataclass
class Calendar:
    """At most `most` calls from one full minute to the next."""

    most: int
    window_sec: float = 60.0
    minute: int = -1
    taken: int = 0

    def take(self, now: float) -> float | None:
        if (minute := int(now // self.window_sec)) != self.minute:
            self.minute, self.taken = minute, 0
        if self.taken >= self.most:
            return (minute + 1) * self.window_sec - now
        self.taken += 1
        return None


@dataclass
class Bucket:
    """`most` calls a window that drip in evenly, of which a twelfth of a window's worth can be saved up."""

    most: int
    window_sec: float = 60.0
    level: float = 0.0
    at: float = -60.0

    def take(self, now: float) -> float | None:
        rate = self.most / self.window_sec
        self.level = min(self.most / 12, self.level + (now - self.at) * rate)
        self.at = now
        if self.level < 1:
            return (1 - self.level) / rate
        self.level -= 1
        return None


@dataclass
class ByChance:
    """So many calls of all are refused, whatever the rate, and of the rest those that a limit has no room for."""

    share: float
    limit: Limit | None = None
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    def take(self, now: float) -> float | None:
        if self.draw.random() < self.share:
            return 1.0
        return None if self.limit is None else self.limit.take(now)


@dataclass(frozen=True)
class Event:
    at: float
    caller: str
    limited: bool


def play(
    broker_of: Callable[[Callable[[], float]], Broker],
    limit: Limit,
    *,
    callers: int = 8,
    calls_each: int = 64,
    minutes: float = 12.0,
    answer_sec: float = 2.0,
    says_when: bool = False,
    changes: dict[float, int] | None = None,
    leave: dict[str, float] | None = None,
    seed: int = 0,
) -> list[Event]:
    """What the service saw: each call with its time and whether it was refused.

    Args:
        calls_each: of a caller that are waiting or under way at any time; refused ones are made again.
        answer_sec: that a good answer takes; a refusal takes a tenth of it; both vary by half.
        says_when: refusals carry the seconds to wait.
        changes: second -> the limit's new `most`.
        leave: caller -> second when it dies with all that it holds.
    """
    random_ = random.Random(seed)
    now = 0.0
    broker = broker_of(lambda: now)
    names = [f"w{i}" for i in range(callers)]
    heap: list[tuple[float, int, Callable[[], None]]] = []
    order, calls = count(), count()
    asks: dict[str, dict[str, Ask]] = {name: {} for name in names}
    seen: list[Event] = []
    next_look = float("inf")
    gone = leave or {}

    def later(delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(heap, (now + delay, next(order), action))

    def alive(name: str) -> bool:
        return now < gone.get(name, float("inf"))

    def want(name: str) -> None:
        ask = Ask(f"{name}-{next(calls)}", 100)
        asks[name][ask.id] = ask

    def arrive(name: str, call: str) -> None:
        wait_sec = limit.take(now)
        seen.append(Event(now, name, wait_sec is not None))
        vary = random_.uniform(0.5, 1.5)
        if alive(name):
            later(vary * answer_sec * (1.0 if wait_sec is None else 0.1), lambda: over(name, call, wait_sec))

    def over(name: str, call: str, wait_sec: float | None) -> None:
        if alive(name):
            broker.end(call, limited=wait_sec is not None, retry_after_sec=wait_sec if says_when else None)
            want(name)
            broker.wait(name, list(asks[name].values()))
            look()

    def look() -> None:
        nonlocal next_look
        for verdict in broker.decide():
            name, call = verdict.caller, verdict.id
            if alive(name):
                del asks[name][call]
                later(random_.uniform(0.0, 0.1), lambda name=name, call=call: arrive(name, call))
        at = broker.next_at_sec()
        if at is not None and (at < next_look or next_look <= now):
            next_look = at
            later(max(0.001, at - now), look)

    def poll() -> None:
        for name in filter(alive, names):
            broker.wait(name, list(asks[name].values()))
        look()
        later(5.0, poll)

    for name in names:
        for _ in range(calls_each):
            want(name)
    for second, most in (changes or {}).items():
        later(second, lambda most=most: setattr(limit, "most", most))
    poll()
    while heap and heap[0][0] < minutes * 60:
        now, _, action = heapq.heappop(heap)
        action()
    return seen


def taken_a_minute(seen: list[Event], start_min: float, end_min: float) -> float:
    inside = [one for one in seen if start_min * 60 <= one.at < end_min * 60 and not one.limited]
    return len(inside) / (end_min - start_min)


def refused_share(seen: list[Event], start_min: float, end_min: float) -> float:
    inside = [one for one in seen if start_min * 60 <= one.at < end_min * 60]
    return sum(one.limited for one in inside) / len(inside)


def least_share(seen: list[Event], start_min: float, end_min: float) -> float:
    """The calls of the caller that got the fewest, beside the mean."""
    inside = [one for one in seen if start_min * 60 <= one.at < end_min * 60 and not one.limited]
    got = Counter(one.caller for one in inside)
    names = {one.caller for one in seen}
    return min(got[name] for name in names) / (len(inside) / len(names))
