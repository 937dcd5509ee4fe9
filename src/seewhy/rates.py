"""Which caller may start its call, and when: limits that are known or must be found out, turns, leases, money.

No threads, no clock and no cluster of its own: whoever drives the broker brings the clock, so that hours can be played
through in a test.

The rule that finds an unknown limit is that of TCP's congestion control (additive increase, multiplicative decrease:
Chiu and Jain 1989, doi:10.1016/0169-7552(89)90019-6; slow start: RFC 5681), on calls a window instead of packets in
flight:

- until the first refusal the allowance doubles every sixth of a window, from ``first_requests``;
- at a refusal it falls to 0.95 of itself, or of what the service took in the last window where that is less, but never
  below half: once for all refusals of calls that had started by then, so once a burst. If that was not enough, single
  calls find out when the service answers again, unless it says so itself; then the allowance falls to what was taken;
- while callers wait for it, it rises by 0.03 of itself in the first window after a fall, by twice as much in each
  window after that, by 0.5 at most, so that a limit that was raised is found too;
- refusals that come whatever the rate are found by trials and borne with (see `chance`): after one that found no limit
  the allowance doubles again, as long as callers keep up with it. A service that says how long to wait is believed.

An allowance of L holds twice over: starts are L to the window apart on average, and no more than L lie in any stretch
of 1.02 windows. The second is the sum that the service itself keeps, with room for the way there; so a pause does not
earn a burst, and what comes after a slow start does not run into what it took.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from seewhy.chance import Chance
from seewhy.prices import Budget

_MARGIN = 0.02
"""Of a window: how much longer a start counts here than at the service, which sees it a moment later."""
_AT_ONCE = 1 / 60
"""Of a window: starts of this stretch may come together."""
_FALL, _NEXT_FALL = 0.95, 0.85
_DEEPEST = 0.5
_SOON = 0.25
"""Of a window: a refusal this soon after a fall says that the fall was not enough."""
_RISE, _MOST_RISE = 0.03, 0.5
_DOUBLING = 1 / 6
"""Of a window, in slow start."""
_AHEAD = 2.0
"""Of what started in the last window: how far slow start goes after a trial, when the service has been busy already."""
_FIRST_BACKOFF, _MOST_BACKOFF = 1 / 60, 0.5
"""Of a window: between single tries where a service that does not say how long to wait refuses everything."""
_LONGEST_PAUSE = 10.0
"""Windows: a service that asks for more is asked again after so long. It may have meant one caller, or milliseconds;
where it did not, its next refusal is the next pause."""


@dataclass(frozen=True)
class Ask:
    """A call that wants to start.

    Attributes:
        id: of the call, unique among all callers.
        tokens: that it will read and write, about.
        most_usd: that it can cost, where there is a budget.
    """

    id: str
    tokens: int
    most_usd: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What was decided about a call: it may start, or, with ``refusal``, never may.

    Attributes:
        id: of the call.
        caller: whose it is.
        refusal: why it may not start, for people; None where it may.
    """

    id: str
    caller: str
    refusal: str | None = None


@dataclass(frozen=True)
class Start:
    """A call that was let go, as it is remembered.

    Attributes:
        ask: the call.
        caller: whose it is.
        at_sec: when it was let go, by the broker's clock.
        probe: whether it is the single try at a service that refuses everything.
    """

    ask: Ask
    caller: str
    at_sec: float
    probe: bool = False


class Broker:
    """Lets calls start, in turn, as fast as limits allow.

    With a budget the first call goes alone, and shows what such calls cost.

    Callers take turns: the one that waits longest since its last turn is next, with the oldest of its calls. Nobody
    overtakes, so a call of many tokens gets its place too. A caller that is not heard of for ``patience_sec`` loses its
    place in the queue. A call that is not reported ended after ``lease_sec`` counts as ended with costs unknown.

    Args:
        clock: seconds, from any start, never backwards.
        requests: calls a window that the service allows; None: not known, to be found out.
        tokens: tokens a window that it allows; None: not known, and only refusals tell, by fewer calls.
        window_sec: seconds that the limits are for.
        first_requests: calls a window to begin with where ``requests`` is not known.
        lease_sec: seconds that a call may take, tries of the client library included.
        patience_sec: seconds that a caller may be silent while it waits.
        budget: what calls may cost; None for any sum.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        requests: float | None = None,
        tokens: float | None = None,
        window_sec: float = 60.0,
        first_requests: float = 60.0,
        lease_sec: float = 900.0,
        patience_sec: float = 30.0,
        budget: Budget | None = None,
    ) -> None:
        for name, value in (("requests", requests), ("tokens", tokens), ("first_requests", first_requests)):
            if value is not None and not value >= 1:
                raise ValueError(f"{name} {value} a window is below 1; None stands for not known")
        for name, value in (("window_sec", window_sec), ("lease_sec", lease_sec), ("patience_sec", patience_sec)):
            if not value > 0:
                raise ValueError(f"{name} {value} is not above 0")
        self._clock = clock
        self._most_requests = requests
        self._most_tokens = tokens
        self._window_sec = window_sec
        self._lease_sec = lease_sec
        self._patience_sec = patience_sec
        self._budget = budget
        self._chance = Chance(window_sec=window_sec)

        self._allowance = self._rises_by = float(first_requests if requests is None else requests)
        self._recalled = False
        self._slow_start = requests is None
        self._rises_from = self._grown_at = clock()
        self._fell_at = float("-inf")
        self._wants_more = False  # callers wait for the allowance, and for nothing else
        self._spaced_at = float("-inf")
        self._paused_until = float("-inf")
        self._measured = False  # a call has shown what its like cost
        self._backoff_sec: float | None = None  # set while single tries find out whether the service answers again
        self._probing: str | None = None

        self._window: dict[str, Start] = {}  # by time
        self._window_tokens = 0
        self._open: dict[str, Start] = {}  # by time
        self._waiting: OrderedDict[str, dict[str, Ask]] = OrderedDict()  # by turn, then by age
        self._heard_at: dict[str, float] = {}

    @property
    def allowance(self) -> float:
        """Calls a window that are allowed now."""
        return self._allowance

    @property
    def in_flight(self) -> int:
        return len(self._open)

    @property
    def waiting(self) -> int:
        return sum(len(asks) for asks in self._waiting.values())

    def wait(self, caller: str, asks: Sequence[Ask]) -> list[Verdict]:
        """The caller waits for these calls and for no others; gives back those that were let go already.

        Saying the same again changes nothing but that the caller was heard of.
        """
        now = self._clock()
        self._heard_at[caller] = now
        wanted = {ask.id: ask for ask in asks}
        before = self._waiting.get(caller, {})
        kept = {one: ask for one, ask in before.items() if one in wanted}
        kept |= {one: ask for one, ask in wanted.items() if one not in kept and one not in self._open}
        if kept:
            self._waiting[caller] = kept  # keeps its turn; a new caller gets the last one
        else:
            self._waiting.pop(caller, None)
        return [Verdict(one, caller) for one in wanted if one in self._open]

    def decide(self) -> list[Verdict]:
        """The calls that may start now, in turn, and those that the budget rules out."""
        now = self._clock()
        self._forget(now)
        self._rise(now)
        verdicts = []
        self._wants_more = False
        while self._waiting:
            caller, asks = next(iter(self._waiting.items()))
            ask = next(iter(asks.values()))
            if self._budget is not None and not self._budget.may_have_room(ask.most_usd):
                verdicts.append(Verdict(ask.id, caller, self._budget.refusal(ask.most_usd)))
            else:
                by_limits, by_others = self._opens_at(ask, now)
                if max(by_limits, by_others) > now:
                    self._wants_more = by_others <= now
                    break
                if not self._has_money(ask, now):
                    break
                self._start(caller, ask, now)
                verdicts.append(Verdict(ask.id, caller))
            del asks[ask.id]
            self._waiting.move_to_end(caller)
            if not asks:
                del self._waiting[caller]
        return verdicts

    def next_at_sec(self) -> float | None:
        """When ``decide`` has something to decide although nothing else happens; None for never."""
        if not self._waiting:
            return None
        ask = next(iter(next(iter(self._waiting.values())).values()))
        times = [max(self._opens_at(ask, self._clock()))]
        if not self._has_money(ask, self._clock()):
            times = []
        times += [start.at_sec + self._lease_sec for start in islice(self._open.values(), 1)]
        return min((at for at in times if at < float("inf")), default=None)

    def end(
        self,
        call: str,
        *,
        limited: bool = False,
        retry_after_sec: float | None = None,
        tokens: int | None = None,
        cost_usd: float | None = None,
    ) -> bool:
        """What a call came to; False where it is not open: ended before, or taken for dead and its cost counted so.

        Args:
            limited: the service refused it for being one too many.
            retry_after_sec: seconds it asked to wait: nobody starts before, or for ten windows, where that is less.
            tokens: that it read and wrote, where known.
            cost_usd: USD; None where not known.
        """
        now = self._clock()
        self._forget(now)
        start = self._open.pop(call, None)
        if start is None:
            return False
        if retry_after_sec is not None and retry_after_sec > 0:
            pause = min(retry_after_sec, _LONGEST_PAUSE * self._window_sec)
            self._paused_until = max(self._paused_until, now + pause)
        if self._budget is not None:
            self._budget.settle(call, cost_usd)
        self._measured |= cost_usd is None or cost_usd > 0
        if call == self._probing:
            self._probing = None
        self._chance.ended(call, refused=limited)
        if limited:
            self._out_of_window(call)
            self._fall(start, now, told_to_wait=retry_after_sec is not None)
        else:
            self._answered(start, tokens)
        if (verdict := self._chance.verdict(now)) is not None:
            if verdict.limit:
                self._fell_at = now
                self._set_allowance(_FALL * verdict.taken, now)
            else:
                self._slow_start = True
        return True

    def withdraw(self, call: str) -> None:
        """A call that was let go and never made."""
        if self._open.pop(call, None) is not None:
            self._out_of_window(call)
            if self._probing == call:
                self._probing = None
            if self._budget is not None:
                self._budget.settle(call, 0.0)

    def limit(self, *, requests: float | None, tokens: float | None) -> None:
        """Other limits from now on, as in the constructor; what is not known goes on from where it stands."""
        if requests is not None and requests != self._most_requests:
            self._allowance = self._rises_by = float(requests)
            self._slow_start = False
        self._most_requests, self._most_tokens = requests, tokens

    def recall(self, caller: str, *, allowance: float | None, starts: Sequence[tuple[Ask, float, bool]]) -> None:
        """What a caller remembers of a broker that died: its allowance, and the calls that it let this caller start.

        Their money is not set aside anew: what the dead broker had promised counts as spent, see the ledger.

        Args:
            allowance: calls a window; None where the caller never heard of one.
            starts: call, seconds since it was let go, whether it is still open.
        """
        now = self._clock()
        if allowance is not None and not self._recalled:  # all callers remember the same one
            self._recalled = True
            self._set_allowance(_FALL * allowance, now)
        for ask, age_sec, is_open in starts:
            start = Start(ask, caller, now - age_sec)
            if ask.id not in self._window:
                self._window[ask.id] = start
                self._window_tokens += ask.tokens
            if is_open:
                self._open.setdefault(ask.id, start)
        self._window = dict(sorted(self._window.items(), key=lambda item: item[1].at_sec))
        self._open = dict(sorted(self._open.items(), key=lambda item: item[1].at_sec))

    def _set_allowance(self, calls: float, now: float) -> None:
        """From here it rises slowly, by shares of what it is now."""
        most = float("inf") if self._most_requests is None else self._most_requests
        self._allowance = self._rises_by = min(max(1.0, calls), most)
        self._rises_from = now
        self._slow_start = False

    def _start(self, caller: str, ask: Ask, now: float) -> None:
        probe = self._backoff_sec is not None
        self._open[ask.id] = self._window[ask.id] = Start(ask, caller, now, probe)
        self._window_tokens += ask.tokens
        self._spaced_at = max(self._spaced_at, now) + self._window_sec / self._allowance
        self._chance.started(ask.id)
        if probe:
            self._probing = ask.id
        if self._budget is not None:
            self._budget.hold(ask.id, ask.most_usd)

    def _has_money(self, ask: Ask, now: float) -> bool:
        """Until one call has shown what its like cost, under a budget it is out alone: many at once, of which each
        costs ten times what it was thought to cost, could break a small one. It is waited for a window at most."""
        if self._budget is None:
            return True
        if not self._measured and self._open and ask.most_usd > 0 and self._budget.cap_usd < float("inf"):
            last = next(reversed(self._open.values()))
            if now - last.at_sec < self._window_sec:
                return False
        return self._budget.has_room(ask.most_usd)

    def _opens_at(self, ask: Ask, now: float) -> tuple[float, float]:
        """When the call may start by the allowance, and by all else: token limit, pauses, tries under way."""
        allowance = max(1, int(self._allowance))
        by_limits = self._spaced_at - self._window_sec * _AT_ONCE
        if (over := len(self._window) - allowance) >= 0:
            by_limits = max(by_limits, self._leaves_at(next(islice(self._window.values(), over, None))))
        by_others = self._paused_until
        if self._most_tokens is not None:
            left = self._window_tokens
            for start in self._window.values():
                if left + ask.tokens <= self._most_tokens:
                    break
                left -= start.ask.tokens  # a call larger than the limit waits for an empty window
                by_others = max(by_others, self._leaves_at(start))
        if self._probing is not None:
            by_others = float("inf")
        return by_limits, by_others

    def _leaves_at(self, start: Start) -> float:
        return start.at_sec + self._window_sec * (1 + _MARGIN)

    def _rise(self, now: float) -> None:
        passed, self._grown_at = now - self._grown_at, now
        if not self._wants_more or passed <= 0 or self._chance.on_trial:
            return
        windows = passed / self._window_sec
        if self._slow_start:
            self._allowance *= 2 ** (windows / _DOUBLING)
            if self._chance.share:
                self._allowance = min(self._allowance, _AHEAD * max(1, len(self._window)))
        else:
            since = (now - self._rises_from) / self._window_sec
            self._allowance += self._rises_by * windows * min(_MOST_RISE, _RISE * 2 ** min(since, 10))
        if self._most_requests is not None:
            self._allowance = min(self._allowance, self._most_requests)

    def _fall(self, start: Start, now: float, *, told_to_wait: bool) -> None:
        """The service refused a call."""
        if start.probe and self._backoff_sec is not None:
            self._backoff_sec = min(2 * self._backoff_sec, _MOST_BACKOFF * self._window_sec)
            self._paused_until = max(self._paused_until, now + self._backoff_sec)
            return
        if start.at_sec <= self._fell_at:
            return  # it had started before the fall that its burst set off
        if self._chance.bears():
            return
        soon = now - self._fell_at < _SOON * self._window_sec
        self._fell_at = now
        taken = min(self._allowance, len(self._window))
        plain = not (soon or told_to_wait) and self._backoff_sec is None
        if plain and (rate := self._chance.tries(taken, now)) is not None:
            self._set_allowance(rate, now)
            return
        if soon and not told_to_wait and self._backoff_sec is None:
            self._backoff_sec = _FIRST_BACKOFF * self._window_sec
            self._paused_until = max(self._paused_until, now + self._backoff_sec)
        else:
            self._set_allowance(max(_DEEPEST * self._allowance, _FALL * taken), now)

    def _answered(self, start: Start, tokens: int | None) -> None:
        """The service took a call."""
        if tokens is not None and start.ask.id in self._window:
            self._window_tokens += tokens - self._window[start.ask.id].ask.tokens
            self._window[start.ask.id] = replace(start, ask=replace(start.ask, tokens=tokens))
        if start.probe and self._backoff_sec is not None:
            taken = min(self._allowance, len(self._window))
            if self._backoff_sec <= _FIRST_BACKOFF * self._window_sec:  # a limit by the second, the sum says nothing
                taken = min(taken, _NEXT_FALL * self._allowance)
            self._set_allowance(max(_DEEPEST * self._allowance, taken), self._clock())
            self._backoff_sec = None

    def _forget(self, now: float) -> None:
        """What is out of the window, calls that never ended, callers that fell silent."""
        while self._window and self._leaves_at(first := next(iter(self._window.values()))) <= now:
            self._out_of_window(first.ask.id)
        while self._open and (first := next(iter(self._open.values()))).at_sec + self._lease_sec <= now:
            del self._open[first.ask.id]
            if self._probing == first.ask.id:
                self._probing = None
            if self._budget is not None:
                self._budget.settle(first.ask.id, None)
        self.forget_silent({one for one in self._waiting if now - self._heard_at[one] > self._patience_sec})

    def forget_silent(self, callers: Collection[str]) -> None:
        """Callers that are known to be gone lose their places in the queue."""
        for one in callers:
            self._waiting.pop(one, None)
            self._heard_at.pop(one, None)

    def _out_of_window(self, call: str) -> None:
        if (start := self._window.pop(call, None)) is not None:
            self._window_tokens -= start.ask.tokens
