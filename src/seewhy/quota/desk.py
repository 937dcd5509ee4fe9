"""The desk: the actor that decides for all callers, and the messages that they exchange with it."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from seewhy.failure import Fatal
from seewhy.metrics import Spending
from seewhy.prices import Budget
from seewhy.quota.ledger import Ledger
from seewhy.rates import Ask, Broker

NAMESPACE = "seewhy"
LISTEN_SEC = 5.0
"""How long the desk keeps a caller on the line that has to wait."""
_RECALL_SEC = 1.0
"""A desk that learns that it had a forerunner waits so long for the other callers' memories."""
_EARLIER = "earlier runs"
_IDLE_SEC = 900.0
_QUIET_SEC = 1.0
"""Object stores take about one write a second to the same file."""


@dataclass(frozen=True)
class Terms:
    """What a caller's service allows, and what all of a study's services may cost; see ``Quota``."""

    service: str
    requests: float | None = None
    tokens: float | None = None
    window_sec: float = 60.0
    first_requests: float = 60.0
    lease_sec: float = 900.0
    budget_usd: float | None = None
    ledger: str | None = None

    def broker(self, budget: Budget | None = None) -> Broker:
        """Raises ValueError where a limit is out of range."""
        return Broker(
            clock=time.monotonic,
            requests=self.requests,
            tokens=self.tokens,
            window_sec=self.window_sec,
            first_requests=self.first_requests,
            lease_sec=self.lease_sec,
            budget=budget,
        )


@dataclass(frozen=True)
class End:
    """A call is over; see ``Broker.end``."""

    call: str
    limited: bool = False
    retry_after_sec: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True)
class Reply:
    """To a caller: calls that may start, refusals by call, calls a window that are allowed, what stops the job."""

    go: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    allowance: float | None = None
    fatal: str | None = None


def desk_name(name: str) -> str:
    """The actor's name: any text makes one, and two texts two."""
    return f"quota-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@dataclass
class _Caller:
    service: str
    number: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    refused: dict[str, str] = field(default_factory=dict)


class Desk:
    """The actor. Time is its own machine's; callers send ages, never times."""

    def __init__(self) -> None:
        self._terms: dict[str, Terms] = {}
        self._brokers: dict[str, Broker] = {}
        self._ledger: Ledger | None = None
        self._ledger_url: str | None = None
        self._budget = Budget(cap_usd=float("inf"))
        self._costs: dict[str, float] = {}  # USD by service; their sum is what the budget counts as spent
        self._spending = Spending()
        self._callers: dict[str, _Caller] = {}
        self._opens_at = float("-inf")
        self._heard_at = time.monotonic()
        self._fatal: str | None = None
        self._news = asyncio.Event()
        self._clock_task: asyncio.Task[None] | None = None

    async def introduce(
        self, caller: str, terms: Terms, allowance: float | None, past: list[tuple[Ask, float, bool]]
    ) -> None:
        """A caller that this desk does not know yet, and what it remembers of another."""
        if caller in self._callers:
            return
        self._callers[caller] = _Caller(terms.service)
        self._agree(terms)
        if past and self._opens_at == float("-inf"):
            self._opens_at = time.monotonic() + min(_RECALL_SEC, terms.window_sec / 10)
        self._brokers[terms.service].recall(caller, allowance=allowance, starts=past)

    def _agree(self, terms: Terms) -> None:
        """What the newest caller says holds from now on: it may be of a later job, of other settings."""
        if terms.ledger is not None:
            self._open_ledger(terms.ledger, terms.budget_usd)
        if terms.service not in self._brokers:
            self._brokers[terms.service] = terms.broker(self._budget)
        elif terms != self._terms[terms.service]:
            self._brokers[terms.service].limit(requests=terms.requests, tokens=terms.tokens)
        self._terms[terms.service] = terms

    def _open_ledger(self, url: str, budget_usd: float | None) -> None:
        if self._ledger is None:
            self._ledger, self._ledger_url = Ledger(url), url
            with self._cost_of(_EARLIER):
                self._budget.spent_usd += self._ledger.at_most_usd
        self._budget.cap_usd = float("inf") if budget_usd is None else budget_usd

    async def set_aside(self, ledger: str, budget_usd: float | None, call: str, most_usd: float) -> str | None:
        """See ``Purse``; written down before it is answered."""
        self._hear()
        self._open_ledger(ledger, budget_usd)
        refusal = self._budget.set_aside(call, most_usd)
        if refusal is None and not self._cover():
            self._budget.settle(call, 0.0)
            return self._fatal or self._budget.refusal(most_usd)
        return refusal

    async def recall(
        self, ledger: str, budget_usd: float | None, call: str, most_usd: float, counted: bool = True
    ) -> None:
        """See ``Purse``."""
        self._hear()
        self._open_ledger(ledger, budget_usd)
        with self._cost_of(_EARLIER):
            self._budget.recall(call, most_usd, counted=counted)
        self._cover()

    async def pay(self, call: str, cost_usd: float | None, service: str) -> None:
        """See ``Purse.settle``."""
        self._hear()
        with self._cost_of(service):
            self._budget.settle(call, cost_usd)
        self._news.set()

    @contextmanager
    def _cost_of(self, service: str) -> Iterator[None]:
        """What the budget counts as spent meanwhile is the service's cost."""
        before = self._budget.spent_usd
        try:
            yield
        finally:
            self._costs[service] = self._costs.get(service, 0.0) + self._budget.spent_usd - before
            self._spending.tell(self._costs)

    def _hear(self) -> None:
        """Somebody is there: the clock runs, and with it the time until nobody has been for long."""
        self._heard_at = time.monotonic()
        if self._clock_task is None:
            self._clock_task = asyncio.get_running_loop().create_task(self._keep_time())

    async def turn(
        self, caller: str, number: int, asks: list[Ask], ends: list[End], withdrawn: list[str]
    ) -> Reply | None:
        """All that a caller has to say; an answer as soon as one of its calls is decided on, or after a while.

        None: the caller must introduce itself first, nothing was heard.
        """
        if caller not in self._callers:
            return None
        self._hear()
        known = self._callers[caller]
        broker = self._brokers[known.service]
        with self._cost_of(known.service):
            for end in ends:
                broker.end(
                    end.call,
                    limited=end.limited,
                    retry_after_sec=end.retry_after_sec,
                    tokens=end.tokens,
                    cost_usd=end.cost_usd,
                )
            for call in withdrawn:
                broker.withdraw(call)
        if number < known.number:
            return Reply()
        known.number = number
        known.wake.set()  # lets an older turn of the same caller go
        ids = {ask.id for ask in asks}
        known.refused = {call: why for call, why in known.refused.items() if call in ids}
        until = time.monotonic() + LISTEN_SEC
        broker.wait(caller, [ask for ask in asks if ask.id not in known.refused])
        self._decide()
        self._news.set()
        while True:
            known.wake.clear()
            if number < known.number:
                return Reply()
            if self._fatal is not None:
                broker.wait(caller, [])  # it asks no more: nothing may be let go that nobody makes
                return Reply(fatal=self._fatal)
            go = broker.wait(caller, [ask for ask in asks if ask.id not in known.refused])
            left = until - time.monotonic()
            if go or known.refused or not asks or left <= 0:
                let_go = tuple(verdict.id for verdict in go)
                return Reply(let_go, dict(known.refused), broker.allowance)
            with suppress(TimeoutError):
                await asyncio.wait_for(known.wake.wait(), left)

    async def settle(self) -> float:
        """USD spent, and that alone written down, with what calls under way may still cost."""
        self._settle()
        return self._budget.spent_usd

    async def state(self) -> dict[str, Any]:
        """What people and tests may want to know: USD spent, and by service how much is allowed, open and waiting."""
        return {
            "spent_usd": self._budget.spent_usd,
            "costs_usd": dict(self._costs),
            "services": {
                service: {"allowance": broker.allowance, "in_flight": broker.in_flight, "waiting": broker.waiting}
                for service, broker in self._brokers.items()
            },
        }

    def _decide(self) -> None:
        if time.monotonic() < self._opens_at:
            return
        decided = []
        for service, broker in self._brokers.items():
            with self._cost_of(service):  # of calls that are taken for dead now
                decided += [(broker, verdict) for verdict in broker.decide()]
        covered = self._cover()
        for broker, verdict in decided:
            if not covered and verdict.refusal is None:
                broker.withdraw(verdict.id)  # who waits for it asks again, or is told why not
            if (known := self._callers.get(verdict.caller)) is not None:
                if verdict.refusal is not None:
                    known.refused[verdict.id] = verdict.refusal
                known.wake.set()

    def _cover(self) -> bool:
        """Whether the ledger says enough for all that is under way, so that what was just decided may begin."""
        if self._ledger is None:
            return True
        needed = self._budget.spent_usd + self._budget.in_flight_usd
        if needed <= self._ledger.at_most_usd and self._fatal is None:
            return True
        try:
            heard = self._ledger.heard_usd()
            with self._cost_of(_EARLIER):
                self._budget.spent_usd = max(0.0, self._budget.spent_usd + heard)
            if heard > 0 and needed + heard > self._budget.cap_usd:
                return False
            self._ledger.cover(needed + heard, self._budget.cap_usd)
        except (Fatal, OSError) as error:
            self._fatal = f"the ledger {self._ledger_url} of what was spent cannot be written: {error}"
            return False
        self._fatal = None
        return True

    def _settle(self) -> None:
        budget, ledger = self._budget, self._ledger
        if ledger is not None and ledger.at_most_usd != budget.spent_usd + budget.in_flight_usd:
            with self._cost_of(_EARLIER):
                budget.spent_usd = max(0.0, budget.spent_usd + ledger.heard_usd())
            ledger.settle(budget.spent_usd + budget.in_flight_usd)

    @property
    def _in_flight(self) -> int:
        return sum(broker.in_flight for broker in self._brokers.values())

    async def _keep_time(self) -> None:
        while True:
            self._news.clear()
            self._decide()
            self._spending.tell(self._costs)
            now = time.monotonic()
            opens = [self._opens_at] if now < self._opens_at else [b.next_at_sec() for b in self._brokers.values()]
            wait = min([1.0, *(max(0.001, at - now) for at in opens if at is not None)])
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
            quiet = self._in_flight == 0 and now - self._heard_at > _QUIET_SEC
            if quiet and self._ledger is not None:
                with suppress(Fatal, OSError):  # said by the next write that matters
                    self._settle()
            if now - self._heard_at > _IDLE_SEC and self._in_flight == 0:
                import ray

                ray.kill(ray.get_runtime_context().current_actor)


def find_desk(name: str) -> Any:
    """The desk of that `desk_name`, made where there is none. Raises Fatal in a process that has joined no cluster."""
    import ray

    if not ray.is_initialized():
        raise Fatal("a quota needs a Ray cluster, and this process has joined none: call ray_cluster.connect")
    return (
        ray.remote(Desk)
        .options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            max_concurrency=10_000,
            num_cpus=0,
        )
        .remote()
    )
