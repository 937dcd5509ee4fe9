"""What a study's calls to a service must keep to: one desk for its workspace, a limit a service, one budget for all."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from seewhy import urls
from seewhy.failure import Fatal
from seewhy.prices import Price, price_of
from seewhy.quota import Quota, SharedPurse
from seewhy.sections import ONLINE, VisionModel
from seewhy.study import Study
from seewhy.vlm.base import Decoding

_FIRST_A_MINUTE = 600.0
"""Calls a minute that a service of unknown limit is asked to begin with: ten a second."""


def quota(study: Study, asked: VisionModel) -> Quota | None:
    """None for a model that runs here.

    Raises:
        Fatal: the study has a budget and nobody knows the model's price.
    """
    if asked.backend not in ONLINE:
        return None
    return Quota(
        name=desk(study),
        service=service(asked),
        requests_per_window=asked.requests_per_minute,
        tokens_per_window=asked.tokens_per_minute,
        first_requests=_FIRST_A_MINUTE,
        budget_usd=study.budget,
        price=price(study, asked),
        tokens_out_most=_most_written(asked),
        ledger=ledger(study),
    )


def _most_written(asked: VisionModel) -> int:
    """Tokens of an answer, thinking included: as the backend is told, see ``steps.caption.backend_arguments``."""
    return asked.max_tokens or asked.options.get("max_new_tokens") or Decoding().max_new_tokens


def purse(study: Study, asked: VisionModel) -> SharedPurse | None:
    """What batch jobs are paid from; None where nobody knows what they cost. Raises Fatal as `quota` does."""
    if price(study, asked, batch=True) is None:
        return None
    return SharedPurse(
        name=desk(study), service=f"{service(asked)} batch", ledger=ledger(study), budget_usd=study.budget
    )


def desk(study: Study) -> str:
    return urls.join(study.workspace, "quota")


def service(asked: VisionModel) -> str:
    """What has a limit of its own: a model, in the place where it is served."""
    places: list[Any] = [asked.options.get(name) for name in ("project", "location", "base_url")]
    return " ".join(str(one) for one in (asked.backend, asked.model, *places) if one)


def price(study: Study, asked: VisionModel, *, batch: bool = False) -> Price | None:
    """Of today. None where it is not known and there is no budget that needs it."""
    try:
        return price_of(asked.model or "", batch=batch, on=datetime.now(UTC).date(), overrides=study.prices)
    except Fatal as error:
        if study.budget is None:
            return None
        raise Fatal(
            f"a budget needs a price: {error}, as in prices: {{{asked.model}: {{in: 0.3, out: 2.5}}}}, 0 and 0 for a "
            "server of your own"
        ) from error


def check_prices(study: Study, steps: Collection[str]) -> None:
    """Raises Fatal where the study has a budget, and one of these steps asks a service whose price nobody knows."""
    sections = {"caption": study.caption, "describe": study.describe, "ask": study.ask}
    for step, asked in sections.items():
        if step in steps and asked is not None and asked.backend in ONLINE:
            price(study, asked, batch=asked.batch is not None)


def ledger(study: Study) -> str:
    return urls.join(study.workspace, "spent.json")
