"""What a worker holds of the desk: a ``Pace`` that every process of the cluster shares."""

import asyncio
import uuid
import weakref
from threading import Lock
from typing import Any

from seewhy.prices import Price
from seewhy.quota.desk import NAMESPACE, End, Terms, desk_name
from seewhy.quota.line import Line
from seewhy.rates import Ask
from seewhy.vlm.pace import Outcome, OutOfBudget

_END_SEC = 5.0
"""How long ``end`` waits for the desk to have heard; the message is delivered all the same."""
_SETTLE_SEC = 10.0


class Quota:
    """A ``Pace`` for the whole cluster. Picklable: each process that gets a copy is a caller of its own.

    Args:
        name: of the desk: all that share a budget give the same, for instance the workspace's URL.
        service: whose limits these are; callers of another service have limits of their own.
        requests_per_window: calls that the service allows; None: not known, to be found out from refusals.
        tokens_per_window: tokens that it allows, read and written together; None: not known.
        window_sec: that these are for; a minute, where a test has no time to shorten it.
        first_requests: calls a window to begin with where the limit is not known.
        lease_sec: longest that a call takes; after that its worker is taken for dead.
        budget_usd: what all calls may cost together, those of earlier runs included; None for any sum.
        price: of the model; needed where there is a budget. None: its calls count as free.
        tokens_out_most: tokens that a call may write, thinking included; what it sets aside is less than for any
            tokens. None: any of the call's tokens may be written ones.
        ledger: URL of the file that says what all services together have cost; needed where there is a budget, and
            kept without one too, so that a budget that comes later knows.

    Raises:
        ValueError: a budget without a price or a ledger.
    """

    def __init__(
        self,
        *,
        name: str,
        service: str,
        requests_per_window: float | None = None,
        tokens_per_window: float | None = None,
        window_sec: float = 60.0,
        first_requests: float = 60.0,
        lease_sec: float = 900.0,
        budget_usd: float | None = None,
        price: Price | None = None,
        tokens_out_most: int | None = None,
        ledger: str | None = None,
    ) -> None:
        if budget_usd is not None and (price is None or ledger is None):
            raise ValueError(f"a budget of {budget_usd} USD needs the price of a token and a ledger file")
        self._terms = Terms(
            service, requests_per_window, tokens_per_window, window_sec, first_requests, lease_sec, budget_usd, ledger
        )
        self._terms.broker()  # checks the limits here, where the study is read, and not in an actor
        self._name = desk_name(name)
        self._price = price
        self._tokens_out_most = tokens_out_most
        self._line: Line | None = None
        self._lock = Lock()
        self._open: dict[str, weakref.ref[Any] | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_line": None, "_lock": None, "_open": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_lock": Lock()}

    async def begin(self, tokens: int) -> None:
        """See ``Pace.begin``.

        Raises:
            OutOfBudget: see there.
            Fatal: where this process has joined no cluster, and where the ledger cannot be written.
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
            raise OutOfBudget(refusal)
        task = asyncio.current_task()
        self._open[ask.id] = None if task is None else weakref.ref(task)

    async def end(self, outcome: Outcome) -> None:
        """See ``Pace.end``. Raises ValueError where no call is under way."""
        call = self._under_way()
        tokens, cost_usd = None, None
        if outcome.tokens_in is not None and outcome.tokens_out is not None:
            tokens = outcome.tokens_in + outcome.tokens_out
            price = self._price
            cost_usd = None if price is None else price.cost_usd(outcome.tokens_in, outcome.tokens_out)
        elif outcome.limited:
            cost_usd = 0.0
        heard = self._connected().end(End(call, outcome.limited, outcome.retry_after_sec, tokens, cost_usd))
        await asyncio.wait([asyncio.wrap_future(heard)], timeout=_END_SEC)

    def _under_way(self) -> str:
        task = asyncio.current_task()
        mine = (call for call, of in self._open.items() if of is not None and of() is task)
        call = next(mine, None) or next(iter(self._open), None)
        if call is None:
            raise ValueError("end without a begin: no call is under way")
        del self._open[call]
        return call

    def _connected(self) -> Line:
        with self._lock:
            if self._line is None:
                self._line = Line(self._name, self._terms)
            return self._line

    def settle(self) -> float | None:
        """For a driver whose workers are through: has the ledger say what was spent, and gives it back in USD.

        None: there is no desk that could tell, since nothing was asked.
        """
        import ray

        if not ray.is_initialized():
            return None
        try:
            desk = ray.get_actor(self._name, namespace=NAMESPACE)
            spent: Any = ray.get(desk.settle.remote(), timeout=_SETTLE_SEC)
            return float(spent)
        except (ValueError, ray.exceptions.RayError):  # it settles by itself as soon as it can
            return None
