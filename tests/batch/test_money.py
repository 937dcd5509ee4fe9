"""What jobs may cost is set aside before they are made, and what they did cost is counted once."""

from dataclasses import replace

import pytest

from seewhy.failure import Fatal
from seewhy.prices import Budget, Price
from seewhy.steps import batch
from seewhy.steps.shards import Shard
from seewhy.vlm.gemini_batch import BatchJobs
from tests.batch.home import PRICE, READ, WRITTEN_OUT, Home, Interrupt, interrupted, left_at_work, rows_asked
from tests.vlm.batch_stub import BatchStub, Course
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


def test_what_was_set_aside_is_given_back_though_the_price_has_changed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1 USD spent, the job's most is what was set aside at the old price; it cost what it costs at the new one."""
    most = 10 * (1124 + 4 * 100) / 1e6
    left_at_work(home, monkeypatch, price=PRICE, purse=Budget(cap_usd=5.0))
    assert home.records()[0]["most_usd"] == pytest.approx(most)
    later = Budget(cap_usd=5.0, spent_usd=1.0 + most)
    home.ask(price=Price(usd_in=3.0, usd_out=12.0), purse=later)
    assert later.spent_usd == pytest.approx(1.0 + 10 * (3 * READ + 12 * WRITTEN_OUT) / 1e6)


def test_a_job_that_nothing_was_set_aside_for_is_paid_all_the_same(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was made when nobody knew a price; then the study gives one, and a budget of which 1 USD is spent."""
    left_at_work(home, monkeypatch)
    assert home.records()[0]["most_usd"] is None
    first = Budget(cap_usd=5.0, spent_usd=1.0)
    left_at_work(home, monkeypatch, price=PRICE, purse=first)
    assert first.in_flight_usd == pytest.approx(10 * (1124 + 4 * 100) / 1e6)
    later = Budget(cap_usd=5.0, spent_usd=1.0 + first.in_flight_usd)
    home.ask(price=PRICE, purse=later)
    assert later.spent_usd == pytest.approx(1.0 + 10 * (READ + 4 * WRITTEN_OUT) / 1e6)


def test_lines_whose_tokens_nobody_can_read_count_as_what_was_set_aside_for_them(
    home: Home, servers: tuple[Stub, BatchStub]
) -> None:
    """One answer without its tokens; half a line, whose row is asked and paid again."""
    servers[1].courses = [Course(answers=["no_usage"], cut=True)]
    budget = Budget(cap_usd=5.0)
    home.ask(price=PRICE, purse=budget)
    most, cost = (1124 + 4 * 100) / 1e6, (READ + 4 * WRITTEN_OUT) / 1e6
    records = sorted(home.records(), key=lambda record: record["rows"])
    assert [record["rows"] for record in records] == [1, 10]
    # the half line may be the one that did not tell its tokens
    assert budget.spent_usd == pytest.approx(2 * most + 9 * cost) or budget.spent_usd == pytest.approx(most + 10 * cost)


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


def test_a_job_with_a_long_request_sets_aside_the_price_of_long_ones(home: Home) -> None:
    """250,000 and 50,000 tokens read: 0.25 x 2 + 0.05 x 1 USD, and 100 written each. Their mean is not long, yet what
    is set aside covers it: 2 x (0.15 x 2 + 0.0001 x 15)."""
    price = Price(1.0, 10.0, 2.0, 15.0)
    asker = home.asker(price=price)
    job = Shard("a", "gs://b/in", "gs://b/out", rows=2, size_bytes=1, tokens_in=300_000, longest_in=250_000)
    most = asker._most_usd(job)
    assert most == pytest.approx(2 * (0.15 * 2 + 0.0001 * 15))
    assert most > price.cost_usd(250_000, 100) + price.cost_usd(50_000, 100)
    short = asker._most_usd(replace(job, longest_in=160_000))
    assert short == pytest.approx(2 * (0.15 * 1 + 0.0001 * 10))
