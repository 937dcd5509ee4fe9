"""What jobs may cost is set aside before they are made, and what they did cost is counted once."""

import pytest

from seewhy.failure import Fatal
from seewhy.prices import Budget
from seewhy.steps import batch
from seewhy.vlm.gemini_batch import BatchJobs
from tests.batch.home import PRICE, READ, WRITTEN_OUT, Home, Interrupt, interrupted, rows_asked
from tests.vlm.batch_stub import BatchStub
from tests.vlm.gemini_stub import Stub


def test_a_job_that_the_budget_has_no_room_for_is_not_made(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows a job, 0.003048 USD at most each; the first two fit, and cost less once they have ended."""
    monkeypatch.setattr(batch, "ROWS_A_JOB", 2)
    most, cost = 2 * (1124 + 4 * 100) / 1e6, 2 * (READ + 4 * WRITTEN_OUT) / 1e6
    budget = Budget(cap_usd=2.5 * most)
    with pytest.raises(Fatal, match="the budget is used up"):
        home.ask(price=PRICE, purse=budget)
    assert rows_asked(servers[1]) == [2, 2]
    assert home.outcomes() == {"ok": 4, "missing": 6}
    assert budget.spent_usd == pytest.approx(2 * cost)
    assert budget.in_flight_usd == 0
    home.ask(price=PRICE, purse=Budget(cap_usd=1.0, spent_usd=budget.spent_usd))
    assert rows_asked(servers[1]) == [2] * 5
    assert len(home.records()) == 5
    assert home.texts() == home.right()


def test_a_budget_without_a_price_makes_no_job(home: Home, servers: tuple[Stub, BatchStub]) -> None:
    with pytest.raises(Fatal, match="a budget needs the price"):
        home.ask(purse=Budget(cap_usd=1e9))
    assert servers[1].jobs == {}


def test_a_job_that_a_killed_driver_left_still_counts(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BatchJobs, "get", interrupted)
        with pytest.raises(Interrupt):
            home.ask(price=PRICE, purse=Budget(cap_usd=1.0))
    budget = Budget(cap_usd=1.0)
    home.ask(price=PRICE, purse=budget)
    assert budget.spent_usd == pytest.approx(10 * (READ + 4 * WRITTEN_OUT) / 1e6)
