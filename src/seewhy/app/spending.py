"""What calls by hand cost: said before they are made, kept to the study's budget, and written down with all others.

The ledger is the study's own, `spent.json`, which runs write too: see `quota.ledger`.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from seewhy.prices import Budget, Price, format_usd
from seewhy.quota.ledger import add_spent, spent_at_most_usd
from seewhy.sections import ONLINE, VisionModel
from seewhy.steps import pace
from seewhy.study import Study
from seewhy.vlm.base import Decoding
from seewhy.vlm.pace import Outcome, OutOfBudget

_READ_TOKENS = 1_500
"""That a picture and a question are, about: services count 250 to 1,500 for most pictures."""


@dataclass(frozen=True)
class Terms:
    """What a service is paid from.

    Attributes:
        price: None where nobody knows it; its calls count as free then.
        tokens_out_most: that a call may write.
        budget_usd: of the study, for all calls; None for any sum.
        ledger: URL of the file that says what was spent.
    """

    price: Price | None
    tokens_out_most: int
    budget_usd: float | None
    ledger: str

    def about_usd(self) -> float | None:
        """What a call costs about, at most."""
        most = self.tokens_out_most
        return None if self.price is None else self.price.most_usd(_READ_TOKENS + most, most)


def terms_of(study: Study, asked: VisionModel) -> Terms | None:
    """None for a model that runs here.

    Raises:
        Fatal: the study has a budget and nobody knows the model's price.
    """
    if asked.backend not in ONLINE:
        return None
    most = asked.max_tokens or asked.options.get("max_new_tokens") or Decoding().max_new_tokens
    return Terms(pace.price(study, asked), most, study.budget, pace.ledger(study))


def told(terms: Terms, calls: int = 1) -> str:
    """``It costs about 0.003 USD at most. 1.20 USD of the study's budget of 25.00 USD are spent.``"""
    usd = terms.about_usd()
    if usd is None:
        return "What it costs is not known: the study names no price for the model."
    said = f"{'It costs' if calls == 1 else 'They cost'} about {format_usd(calls * usd)} at most."
    if terms.budget_usd is None:
        return said
    spent = spent_at_most_usd(terms.ledger)
    return f"{said} {format_usd(spent)} of the study’s budget of {format_usd(terms.budget_usd)} are spent."


class Till:
    """A `Pace` for calls that are made one after the other, by hand.

    The most that a call can cost is added to the ledger before it starts, and set right after it; what runs spend
    meanwhile is read anew each time. Limits a minute are not kept: a person clicks slowly.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._held_usd = 0.0

    async def begin(self, tokens: int) -> None:
        """See `Pace.begin`."""
        await asyncio.to_thread(self._set_aside, tokens)

    async def end(self, outcome: Outcome) -> None:
        """See `Pace.end`."""
        await asyncio.to_thread(self._settle, outcome)

    def _set_aside(self, tokens: int) -> None:
        terms = self._terms
        if terms.price is None:
            return
        most = terms.price.most_usd(tokens, terms.tokens_out_most)
        if terms.budget_usd is not None:
            budget = Budget(cap_usd=terms.budget_usd, spent_usd=spent_at_most_usd(terms.ledger))
            if not budget.has_room(most):
                raise OutOfBudget(budget.refusal(most))
        add_spent(terms.ledger, most)
        self._held_usd = most

    def _settle(self, outcome: Outcome) -> None:
        price = self._terms.price
        if price is None:
            return
        cost = self._held_usd
        if outcome.tokens_in is not None and outcome.tokens_out is not None:
            cost = price.cost_usd(outcome.tokens_in, outcome.tokens_out)
        elif outcome.limited:
            cost = 0.0
        add_spent(self._terms.ledger, cost - self._held_usd)
        self._held_usd = 0.0


def paid(terms: Terms | None) -> dict[str, Any]:
    """What a backend is told of it: an argument of its own, or none for a model that runs here."""
    return {} if terms is None else {"pace": Till(terms)}
