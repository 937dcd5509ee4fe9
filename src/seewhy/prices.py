"""What tokens cost, and a cap on the sum.

Prices lie in ``prices.json`` beside this file, with the day and the public page they were read from. A study can give
its own. The service answers with token counts, never with money: all sums here are counts times prices.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any, Protocol

import numpy as np

from seewhy.failure import Fatal

_MILLION = 1_000_000
_DUST_USD = 1e-9
"""Far below a token's price: what floats leave over when sums that should be equal are not."""


@dataclass(frozen=True)
class Price:
    """USD a million tokens.

    Attributes:
        usd_in, usd_out: of tokens read and written; thinking counts as written.
        long_usd_in, long_usd_out: of all tokens of a call that reads more than ``long_above_tokens``; None for the
            same as any other.
    """

    usd_in: float
    usd_out: float
    long_usd_in: float | None = None
    long_usd_out: float | None = None
    long_above_tokens: int = 200_000

    def __post_init__(self) -> None:
        for name in ("usd_in", "usd_out", "long_usd_in", "long_usd_out"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} {value} is no price: USD a million tokens, 0 or more")

    def cost_usd(self, tokens_in: int, tokens_out: int) -> float:
        """Of one call, or of many that are all short: USD."""
        usd_in, usd_out = self.usd_in, self.usd_out
        if tokens_in > self.long_above_tokens:
            usd_in = usd_in if self.long_usd_in is None else self.long_usd_in
            usd_out = usd_out if self.long_usd_out is None else self.long_usd_out
        return (tokens_in * usd_in + tokens_out * usd_out) / _MILLION

    def when_long(self) -> "Price":
        """The price of a call that reads more than ``long_above_tokens``, for calls of any length."""
        usd_in = self.usd_in if self.long_usd_in is None else self.long_usd_in
        usd_out = self.usd_out if self.long_usd_out is None else self.long_usd_out
        return Price(usd_in, usd_out)

    def most_usd(self, tokens: int, tokens_out_most: int | None = None) -> float:
        """The most that a call of so many tokens can cost, read and written together: USD.

        Args:
            tokens_out_most: of them, those that may be written. None: any of them, so all count at the dearer price.
        """
        out = tokens if tokens_out_most is None else min(tokens, tokens_out_most)
        splits = {(tokens - out, out), (tokens, 0)}
        if tokens - out <= self.long_above_tokens < tokens:  # just long enough for the other price, the rest written
            splits.add((self.long_above_tokens + 1, tokens - self.long_above_tokens - 1))
        return max(self.cost_usd(read, written) for read, written in splits)


def price_of(
    model: str, *, batch: bool = False, on: date, overrides: Mapping[str, Mapping[Any, float]] | None = None
) -> Price:
    """The price of a model on a day.

    Args:
        model: its name, or the last part of a path of it; a number of three digits at its end (a version) may be there
            or not.
        batch: of the batch service.
        on: the day of the call; a model whose price changes has several.
        overrides: by model, ``{"in": USD, "out": USD}`` a million tokens, for online and batch alike: the study's own.

    Raises:
        Fatal: nobody gave a price. The message names the models that have one.
    """
    names = _names(model)
    for name in names:
        if overrides and name in overrides:
            own = overrides[name]
            if not {"in", "out"} <= set(own):
                raise Fatal(f"the price of {name} needs USD a million tokens for both in and out, not {dict(own)}")
            return Price(own["in"], own["out"])
    listed = price_list()
    for name in names:
        spans = listed["models"].get(name, [])
        begun = [span for span in spans if date.fromisoformat(span["from"]) <= on]
        if begun:
            found = max(begun, key=lambda span: span["from"])["batch" if batch else "online"]
            more = found.get("long", {})
            return Price(found["in"], found["out"], more.get("in"), more.get("out"), listed["long_above_tokens"])
    raise Fatal(
        f"no price is known for the model {model!r} on {on}; as of {listed['as_of']} there are prices for "
        f"{', '.join(sorted(listed['models']))}. Give the study its own: USD a million tokens, in and out"
    )


def price_list() -> dict[str, Any]:
    """``prices.json`` as it is: ``as_of``, ``source``, ``verified``, and spans of prices by model."""
    return json.loads((files("seewhy") / "prices.json").read_text(encoding="utf-8"))


def _names(model: str) -> list[str]:
    last = model.rstrip("/").rsplit("/", 1)[-1]
    bare = re.sub(r"-\d{3}$", "", last)
    return list(dict.fromkeys((model, last, bare)))


class Purse(Protocol):
    """What large things that are paid for, such as the jobs of a batch service, are paid from."""

    def set_aside(self, call: str, most_usd: float) -> str | None:
        """Sets aside the most that `call` can cost, or says why it may not start. Asking twice is asking once."""
        ...

    def recall(self, call: str, most_usd: float, *, counted: bool = True) -> None:
        """A call that an earlier process began, and which is still under way.

        Args:
            most_usd: that it can cost.
            counted: so much was set aside for it, and has counted as spent wherever that was forgotten since; False
                for one that nothing was ever set aside for.
        """
        ...

    def settle(self, call: str, cost_usd: float | None) -> None:
        """The call is over: it cost so much, or, None, as much as can be known: what was set aside."""
        ...


class Budget:
    """A cap on what calls may cost: what was spent and what is in flight stay below it together.

    A call sets aside the most that it can cost, and gives the difference back when its real cost is known. Where calls
    cost more than they had set aside, later ones set aside as many times more as the worst of them did. A call of a
    worker ends in minutes, and others may wait for what it gives back; for that of a job (`set_aside`), which may go on
    for days, nobody waits.

    Args:
        cap_usd: never to be exceeded.
        spent_usd: by earlier runs.
    """

    def __init__(self, *, cap_usd: float, spent_usd: float = 0.0) -> None:
        if not (cap_usd >= 0 and spent_usd >= 0):
            raise ValueError(f"a budget of {cap_usd} USD with {spent_usd} USD spent: both are 0 or more")
        self.cap_usd = cap_usd
        self.spent_usd = spent_usd
        self._held: dict[str, float] = {}
        self._estimates: dict[str, float] = {}
        self._jobs: set[str] = set()  # of those held
        self._in_flight_usd = 0.0
        self._scale = 1.0

    @property
    def in_flight_usd(self) -> float:
        return self._in_flight_usd

    @property
    def jobs_usd(self) -> float:
        """Of what is in flight, that of jobs."""
        return sum(self._held[job] for job in self._jobs)

    def needs_usd(self, most_usd: float) -> float:
        """What a call sets aside that should cost so much at most."""
        return most_usd * self._scale

    def has_room(self, most_usd: float) -> bool:
        """Whether the call may start now."""
        return self._fits(self._in_flight_usd + self.needs_usd(most_usd))

    def may_have_room(self, most_usd: float) -> bool:
        """Whether it may start soon, should the calls in flight turn out to cost nothing."""
        return self._fits(self.jobs_usd + self.needs_usd(most_usd))

    def _fits(self, usd: float) -> bool:
        return self.spent_usd + usd <= self.cap_usd + _DUST_USD

    def set_aside(self, call: str, most_usd: float) -> str | None:
        """See ``Purse``."""
        if call in self._held:
            return None
        if not self.has_room(most_usd):
            return self.refusal(most_usd, beside_usd=self._in_flight_usd)
        self.hold(call, most_usd)
        self._jobs.add(call)
        return None

    def recall(self, call: str, most_usd: float, *, counted: bool = True) -> None:
        """See ``Purse``. Gives back no more than was set aside, whatever later calls set aside now."""
        if call in self._held:
            return
        if counted:
            self.spent_usd = max(0.0, self.spent_usd - most_usd)
        self._hold(call, most_usd, most_usd)
        self._jobs.add(call)

    def hold(self, call: str, most_usd: float) -> None:
        """Sets the call's most aside; ``settle`` it by the same name."""
        if call in self._held:
            raise ValueError(f"call {call!r} has money set aside already")
        self._hold(call, most_usd, self.needs_usd(most_usd))

    def _hold(self, call: str, most_usd: float, held_usd: float) -> None:
        self._estimates[call] = most_usd
        self._held[call] = held_usd
        self._in_flight_usd += held_usd

    def settle(self, call: str, cost_usd: float | None) -> None:
        """The call is over: it cost so much, or, None, as much as can be known: what it had set aside.

        A call that has nothing set aside, for instance because it was settled before, changes nothing.
        """
        if call not in self._held:
            return
        held, estimate = self._held.pop(call), self._estimates.pop(call)
        self._jobs.discard(call)
        self._in_flight_usd = self._in_flight_usd - held if self._held else 0.0
        self.spent_usd += held if cost_usd is None else cost_usd
        if cost_usd is not None and estimate > 0:
            self._scale = max(self._scale, cost_usd / estimate)

    def refusal(self, most_usd: float, *, beside_usd: float | None = None) -> str:
        """Why a call is not made, for people.

        Args:
            beside_usd: of what is in flight, that which it would not wait for; None for that of jobs.
        """
        beside = self.jobs_usd if beside_usd is None else beside_usd
        under_way = f", {format_usd(beside)} set aside for what is under way" if beside else ""
        return (
            f"the budget is used up: {format_usd(self.spent_usd)} of {format_usd(self.cap_usd)} spent{under_way}, and "
            f"one more call can cost up to {format_usd(self.needs_usd(most_usd))}. What was answered is kept: raise "
            f"the budget above {format_usd(self.spent_usd + beside + self.needs_usd(most_usd))} and run again to go "
            "on from there"
        )


def format_usd(amount: float) -> str:
    """Cents from a dollar on, and three digits below: 1.33 USD, 0.70 USD, 0.000387 USD."""
    if amount >= 1 or amount == 0:
        return f"{amount:,.2f} USD"
    whole, _, rest = np.format_float_positional(amount, precision=3, fractional=False, trim="-").partition(".")
    return f"{whole}.{rest:0<2} USD"
