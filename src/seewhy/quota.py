"""One desk for a whole cluster: every worker of every job of a study asks it before it calls a limited or paid service.

The desk is a named Ray actor around a ``Broker``. It belongs to no driver: jobs come and go, the desk stays until
nobody has asked for a while, is started again where it dies, and made anew where it is gone. Workers hold a ``Quota``,
which gathers what its process asks and reports into one message, and says it again until it is heard: asking twice for
the same call is asking once. A desk that starts without a past is told it by the callers: which calls they started in
the last window, and how many were allowed. What was spent it reads from a ledger file, written before the money can be
spent.
"""

import asyncio
import hashlib
import time
import uuid
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock, Thread
from typing import Any

from seewhy.failure import Fatal
from seewhy.prices import Budget, Price
from seewhy.rates import Ask, Broker
from seewhy.storage import read_json, write_json
from seewhy.vlm.pace import Outcome

NAMESPACE = "seewhy"
_GATHER_SEC = 0.005
"""How long a worker waits for more to say before it speaks."""
_LISTEN_SEC = 5.0
"""How long the desk keeps a caller on the line that has to wait."""
_LOST_SEC = 30.0
"""Beyond that: a message without an answer is taken for lost, and said again."""
_AGAIN_SEC = 0.2
_END_SEC = 5.0
"""How long ``end`` waits for the desk to have heard; the message is delivered all the same."""
_RECALL_SEC = 1.0
"""A desk that learns that it had a forerunner waits so long for the other callers' memories."""
_IDLE_SEC = 900.0
_QUIET_SEC = 1.0
"""Object stores take about one write a second to the same file."""
_LEDGER_STEPS = 100
"""The ledger is written ahead by a hundredth of the budget: what a desk that dies can lose of it."""


@dataclass(frozen=True)
class Limits:
    """What a desk keeps to; see ``Quota``."""

    requests: float | None = None
    tokens: float | None = None
    window_sec: float = 60.0
    lease_sec: float = 900.0
    budget_usd: float | None = None
    ledger: str | None = None


@dataclass(frozen=True)
class _End:
    call: str
    limited: bool = False
    retry_after_sec: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True)
class _Reply:
    """To a caller: calls that may start, refusals by call, calls a window that are allowed, what stops the job."""

    go: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    allowance: float | None = None
    fatal: str | None = None


class Quota:
    """A ``Pace`` for the whole cluster. Picklable: each process that gets a copy is a caller of its own.

    Args:
        name: of the desk: all that share a service's limit and a budget give the same, for instance the workspace's
            URL with the service's name.
        requests_per_window: calls that the service allows; None: not known, to be found out from refusals.
        tokens_per_window: tokens that it allows, read and written together; None: not known.
        window_sec: that these are for; a minute, where a test has no time to shorten it.
        lease_sec: longest that a call takes; after that its worker is taken for dead.
        budget_usd: what all calls may cost together, those of earlier runs included; None for any sum.
        price: of the model; needed where there is a budget.
        tokens_out_most: tokens that a call may write, thinking included; what it sets aside is less than for any
            tokens. None: any of the call's tokens may be written ones.
        ledger: URL of the file that says what was spent; needed where there is a budget.

    Raises:
        ValueError: a budget without a price or a ledger.
    """

    def __init__(
        self,
        *,
        name: str,
        requests_per_window: float | None = None,
        tokens_per_window: float | None = None,
        window_sec: float = 60.0,
        lease_sec: float = 900.0,
        budget_usd: float | None = None,
        price: Price | None = None,
        tokens_out_most: int | None = None,
        ledger: str | None = None,
    ) -> None:
        if budget_usd is not None and (price is None or ledger is None):
            raise ValueError(f"a budget of {budget_usd} USD needs the price of a token and a ledger file")
        self._limits = Limits(requests_per_window, tokens_per_window, window_sec, lease_sec, budget_usd, ledger)
        # checks the limits here, where the study is read, and not in an actor
        Broker(
            clock=time.monotonic,
            requests=requests_per_window,
            tokens=tokens_per_window,
            window_sec=window_sec,
            lease_sec=lease_sec,
        )
        self._name = desk_name(name)
        self._price = price
        self._tokens_out_most = tokens_out_most
        self._line: _Line | None = None
        self._lock = Lock()
        self._open: dict[str, weakref.ref[Any] | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_line": None, "_lock": None, "_open": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_lock": Lock()}

    async def begin(self, tokens: int) -> None:
        """See ``Pace.begin``.

        Raises:
            Fatal: also where this process has joined no cluster, and where the ledger cannot be written.
        """
        line = self._connected()
        most_usd = 0.0 if self._price is None else self._price.most_usd(tokens, self._tokens_out_most)
        ask = Ask(uuid.uuid4().hex, tokens, most_usd)
        try:
            refusal = await asyncio.wrap_future(line.ask(ask))
        except asyncio.CancelledError:
            line.withdraw(ask.id)
            raise
        if refusal is not None:
            raise Fatal(refusal)
        task = asyncio.current_task()
        self._open[ask.id] = None if task is None else weakref.ref(task)

    async def end(self, outcome: Outcome) -> None:
        """See ``Pace.end``. Raises ValueError where no call is under way."""
        call = self._under_way()
        tokens, cost_usd = None, None
        if outcome.tokens_in is not None or outcome.tokens_out is not None:
            read, written = outcome.tokens_in or 0, outcome.tokens_out or 0
            tokens = read + written
            cost_usd = None if self._price is None else self._price.cost_usd(read, written)
        elif outcome.limited:
            cost_usd = 0.0
        heard = self._connected().end(_End(call, outcome.limited, outcome.retry_after_sec, tokens, cost_usd))
        await asyncio.wait([asyncio.wrap_future(heard)], timeout=_END_SEC)

    def _under_way(self) -> str:
        task = asyncio.current_task()
        mine = (call for call, of in self._open.items() if of is not None and of() is task)
        call = next(mine, None) or next(iter(self._open), None)
        if call is None:
            raise ValueError("end without a begin: no call is under way")
        del self._open[call]
        return call

    def _connected(self) -> "_Line":
        with self._lock:
            if self._line is None:
                self._line = _Line(self._name, self._limits)
            return self._line


def desk_name(name: str) -> str:
    """The actor's name: any text makes one, and two texts two."""
    return f"quota-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class _Line:
    """A process's connection to the desk, on a thread of its own: event loops of callers come and go.

    All state is touched by that thread alone.
    """

    def __init__(self, name: str, limits: Limits) -> None:
        self._name, self._limits = name, limits
        self._caller = uuid.uuid4().hex
        self._desk: Any = None
        self._number = 0
        self._asks: dict[str, tuple[Ask, Future[str | None]]] = {}
        self._ends: dict[str, tuple[_End, Future[None]]] = {}
        self._withdrawn: set[str] = set()
        self._started: dict[str, tuple[Ask, float]] = {}  # by time: let go within the last window, or still open
        self._under_way: set[str] = set()
        self._allowance: float | None = None
        self._replies: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._news = asyncio.Event()
        Thread(target=self._run, name="seewhy-quota", daemon=True).start()

    def ask(self, ask: Ask) -> "Future[str | None]":
        """Comes to None when the call may start, else to why it never may."""
        future: Future[str | None] = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled: withdraw says so to the desk as well
        self._soon(self._asks.__setitem__, ask.id, (ask, future))
        return future

    def end(self, end: _End) -> "Future[None]":
        """Comes to None when the desk has heard."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        self._soon(self._ended, end, future)
        return future

    def withdraw(self, call: str) -> None:
        self._soon(self._withdraw, call)

    def _soon(self, action: Any, *args: Any) -> None:
        def act() -> None:
            action(*args)
            self._news.set()

        self._loop.call_soon_threadsafe(act)

    def _ended(self, end: _End, future: "Future[None]") -> None:
        self._under_way.discard(end.call)
        self._ends[end.call] = (end, future)

    def _withdraw(self, call: str) -> None:
        self._asks.pop(call, None)
        self._started.pop(call, None)
        self._under_way.discard(call)
        self._withdrawn.add(call)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._speak())

    async def _speak(self) -> None:
        while True:
            if not (self._asks or self._ends or self._withdrawn):
                await self._news.wait()
            await asyncio.sleep(_GATHER_SEC)
            self._news.clear()
            reply = asyncio.create_task(self._turn())
            self._replies.add(reply)
            reply.add_done_callback(self._replies.discard)
            news = asyncio.create_task(self._news.wait())
            # An older turn that is still on the line is let go by the desk as soon as it hears a newer one.
            await asyncio.wait([reply, news], return_when=asyncio.FIRST_COMPLETED)
            news.cancel()

    async def _turn(self) -> None:
        from ray.exceptions import RayActorError

        self._number += 1
        asks = [ask for ask, _ in self._asks.values()]
        ends = [end for end, _ in self._ends.values()]
        withdrawn = list(self._withdrawn)
        try:
            desk = self._found()
            sent = desk.turn.remote(self._caller, self._number, asks, ends, withdrawn)
            reply: _Reply | None = await asyncio.wait_for(sent, _LISTEN_SEC + _LOST_SEC)
            if reply is None:  # a desk that has never heard of this caller
                past = self._past()
                await asyncio.wait_for(
                    desk.introduce.remote(self._caller, self._limits, self._allowance, past), _LOST_SEC
                )
                return
        except (RayActorError, TimeoutError, ValueError):  # ValueError: its name is free, or about to be
            self._desk = None
            await asyncio.sleep(_AGAIN_SEC)
            return
        except Exception as error:  # not a lost desk but a fault: those who wait must hear of it
            self._fail(error if isinstance(error, Fatal) else Fatal(f"the quota desk failed: {error}"))
            return
        if reply.fatal is not None:
            self._fail(Fatal(reply.fatal))
            return
        self._heard(reply, ends, withdrawn)

    def _heard(self, reply: _Reply, ends: Sequence[_End], withdrawn: Sequence[str]) -> None:
        self._withdrawn.difference_update(withdrawn)
        for end in ends:
            if (told := self._ends.pop(end.call, None)) is not None:
                told[1].set_result(None)
        if reply.allowance is not None:
            self._allowance = reply.allowance
        now = time.monotonic()
        for call in reply.go:
            if (waiting := self._asks.pop(call, None)) is not None:
                self._started[call] = (waiting[0], now)
                self._under_way.add(call)
                waiting[1].set_result(None)
        for call, why in reply.refused.items():
            if (waiting := self._asks.pop(call, None)) is not None:
                waiting[1].set_result(why)
        self._trim(now)

    def _fail(self, error: Exception) -> None:
        for _, waiting in self._asks.values():
            waiting.set_exception(error)
        for _, told in self._ends.values():
            told.set_result(None)
        self._asks.clear()
        self._ends.clear()
        self._withdrawn.clear()

    def _trim(self, now: float) -> None:
        """Forgets calls that are out of the window and over."""
        while self._started:
            call, (_, at) = next(iter(self._started.items()))
            if now - at < self._limits.window_sec * 1.1:
                return
            if call in self._under_way and now - at < self._limits.lease_sec:
                return
            del self._started[call]
            self._under_way.discard(call)

    def _past(self) -> list[tuple[Ask, float, bool]]:
        now = time.monotonic()
        return [(ask, now - at, call in self._under_way) for call, (ask, at) in self._started.items()]

    def _found(self) -> Any:
        import ray

        if not ray.is_initialized():
            raise Fatal("a quota needs a Ray cluster, and this process has joined none: call seewhy.run.connect first")
        if self._desk is None:
            self._desk = (
                ray.remote(_Desk)
                .options(
                    name=self._name,
                    namespace=NAMESPACE,
                    get_if_exists=True,
                    lifetime="detached",
                    max_restarts=-1,
                    max_concurrency=10_000,
                    num_cpus=0,
                )
                .remote(self._limits)
            )
        return self._desk


@dataclass
class _Caller:
    number: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    refused: dict[str, str] = field(default_factory=dict)


class _Desk:
    """The actor. Time is its own machine's; callers send ages, never times."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._ledger = None if limits.ledger is None else Ledger(limits.ledger)
        self._budget = _budget(limits, self._ledger)
        self._broker = Broker(
            clock=time.monotonic,
            requests=limits.requests,
            tokens=limits.tokens,
            window_sec=limits.window_sec,
            lease_sec=limits.lease_sec,
            budget=self._budget,
        )
        self._callers: dict[str, _Caller] = {}
        self._opens_at = float("-inf")
        self._heard_at = time.monotonic()
        self._fatal: str | None = None
        self._news = asyncio.Event()
        self._clock_task: asyncio.Task[None] | None = None

    async def introduce(
        self, caller: str, limits: Limits, allowance: float | None, past: list[tuple[Ask, float, bool]]
    ) -> None:
        """A caller that this desk does not know yet, and what it remembers of another."""
        if caller in self._callers:
            return
        self._callers[caller] = _Caller()
        if past and self._opens_at == float("-inf"):
            self._opens_at = time.monotonic() + min(_RECALL_SEC, self._limits.window_sec / 10)
        self._broker.recall(caller, allowance=allowance, starts=past)
        if limits != self._limits:  # a later job of the study, whose settings hold from now on
            self._limits = limits
            self._broker.limit(requests=limits.requests, tokens=limits.tokens)
            if self._budget is not None and limits.budget_usd is not None:
                self._budget.cap_usd = limits.budget_usd

    async def turn(
        self, caller: str, number: int, asks: list[Ask], ends: list[_End], withdrawn: list[str]
    ) -> _Reply | None:
        """All that a caller has to say; an answer as soon as one of its calls is decided on, or after a while.

        None: the caller must introduce itself first, nothing was heard.
        """
        self._heard_at = time.monotonic()
        if caller not in self._callers:
            return None
        if self._clock_task is None:
            self._clock_task = asyncio.get_running_loop().create_task(self._keep_time())
        known = self._callers[caller]
        for end in ends:
            self._broker.end(
                end.call,
                limited=end.limited,
                retry_after_sec=end.retry_after_sec,
                tokens=end.tokens,
                cost_usd=end.cost_usd,
            )
        for call in withdrawn:
            self._broker.withdraw(call)
        if number < known.number:
            return _Reply()
        known.number = number
        known.wake.set()  # lets an older turn of the same caller go
        ids = {ask.id for ask in asks}
        known.refused = {call: why for call, why in known.refused.items() if call in ids}
        until = time.monotonic() + _LISTEN_SEC
        self._broker.wait(caller, [ask for ask in asks if ask.id not in known.refused])
        self._decide()
        self._news.set()
        while True:
            known.wake.clear()
            if number < known.number:
                return _Reply()
            go = self._broker.wait(caller, [ask for ask in asks if ask.id not in known.refused])
            left = until - time.monotonic()
            if go or known.refused or not asks or left <= 0 or self._fatal is not None:
                let_go = tuple(verdict.id for verdict in go)
                return _Reply(let_go, dict(known.refused), self._broker.allowance, self._fatal)
            with suppress(TimeoutError):
                await asyncio.wait_for(known.wake.wait(), left)

    async def state(self) -> dict[str, Any]:
        """What people and tests may want to know."""
        return {
            "allowance": self._broker.allowance,
            "in_flight": self._broker.in_flight,
            "waiting": self._broker.waiting,
            "spent_usd": None if self._budget is None else self._budget.spent_usd,
        }

    def _decide(self) -> None:
        if time.monotonic() < self._opens_at:
            return
        verdicts = self._broker.decide()
        if self._budget is not None and self._ledger is not None:
            try:
                self._ledger.cover(self._budget.spent_usd + self._budget.in_flight_usd, self._budget.cap_usd)
            except (Fatal, OSError) as error:
                self._fatal = f"the ledger {self._limits.ledger} of what was spent cannot be written: {error}"
        for verdict in verdicts:
            if (known := self._callers.get(verdict.caller)) is not None:
                if verdict.refusal is not None:
                    known.refused[verdict.id] = verdict.refusal
                known.wake.set()

    async def _keep_time(self) -> None:
        while True:
            self._news.clear()
            self._decide()
            now = time.monotonic()
            at = self._opens_at if now < self._opens_at else self._broker.next_at_sec()
            wait = 1.0 if at is None else min(1.0, max(0.001, at - now))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
            quiet = self._broker.in_flight == 0 and now - self._heard_at > _QUIET_SEC
            if quiet and self._budget is not None and self._ledger is not None:
                with suppress(Fatal, OSError):  # said by the next write that matters
                    self._ledger.settle(self._budget.spent_usd)
            if now - self._heard_at > _IDLE_SEC and self._broker.in_flight == 0:
                import ray

                ray.kill(ray.get_runtime_context().current_actor)


def _budget(limits: Limits, ledger: "Ledger | None") -> Budget | None:
    if limits.budget_usd is None or ledger is None:
        return None
    return Budget(cap_usd=limits.budget_usd, spent_usd=ledger.at_most_usd)


class Ledger:
    """A file that says what was spent, never less: written ahead of spending, and put right when nothing is under way.

    Args:
        url: of the file; made at the first write.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        found = read_json(url)
        self.at_most_usd = 0.0 if found is None else float(found["at_most_usd"])

    def cover(self, needed_usd: float, cap_usd: float) -> None:
        """Makes the file say at least so much."""
        if needed_usd > self.at_most_usd:
            self._write(max(needed_usd, min(cap_usd, needed_usd + cap_usd / _LEDGER_STEPS)))

    def settle(self, spent_usd: float) -> None:
        """Makes the file say just this."""
        if spent_usd != self.at_most_usd:
            self._write(spent_usd)

    def _write(self, at_most_usd: float) -> None:
        write_json(self._url, {"at_most_usd": at_most_usd, "as_of": datetime.now(UTC).isoformat(timespec="seconds")})
        self.at_most_usd = at_most_usd
