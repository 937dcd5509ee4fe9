"""When a call to a paid or limited service may start: what a backend asks, whoever answers.

A backend that calls a service awaits ``begin`` before each call and ``end`` after it, whatever came of it, in the same
asyncio task. It tries nothing again without a new ``begin``: a call that was refused and is made again is two calls.
"""

from dataclasses import dataclass
from typing import Protocol

from seewhy.failure import Fatal


class OutOfBudget(Fatal):
    """The next call could break the budget. The message says what was spent, the cap, and how to go on."""


@dataclass(frozen=True)
class Outcome:
    """What a call came to, as far as limits and money are concerned.

    Attributes:
        limited: the service refused it for being one too many (HTTP 429, RESOURCE_EXHAUSTED).
        retry_after_sec: seconds that the service asked to wait, from Retry-After or RetryInfo; None where it said
            nothing.
        tokens_in: tokens read, as the service counted them.
        tokens_out: tokens written, those of thinking included, as the service counted them. One of both None: not
            known, so a limited call is taken to cost nothing and any other what was set aside for it; a backend that
            knows that nothing is charged says 0 and 0.
    """

    limited: bool
    retry_after_sec: float | None
    tokens_in: int | None
    tokens_out: int | None


class Pace(Protocol):
    """Lets calls start as the service's limits and the study's budget allow."""

    async def begin(self, tokens: int) -> None:
        """Returns when a call may start.

        Args:
            tokens: that it will read and write, about; an upper bound keeps a budget to the cent.

        Raises:
            OutOfBudget: the call could break the budget, and so could every later one of its size. Calls in flight
                go on.
        """
        ...

    async def end(self, outcome: Outcome) -> None:
        """Tells what a call came to that ``begin`` let start: that of this asyncio task, else the oldest."""
        ...
