"""Sums of money, by hand."""

from datetime import date

import pytest

from seewhy.failure import Fatal
from seewhy.prices import Budget, Price, format_usd, price_list, price_of

DAY = date(2026, 11, 21)


def test_a_call_costs_its_tokens_at_their_prices() -> None:
    flash = price_of("gemini-2.5-flash", on=DAY)
    assert (flash.usd_in, flash.usd_out) == (0.3, 2.5)
    # 1,290 tokens of an image and a prompt: 0.000387 USD; 200 of an answer: 0.0005 USD
    assert flash.cost_usd(1290, 200) == pytest.approx(0.000387 + 0.0005)
    assert price_of("gemini-2.5-flash", batch=True, on=DAY).cost_usd(1290, 200) == pytest.approx(0.000887 / 2)


def test_a_long_prompt_has_its_own_price_for_all_its_tokens() -> None:
    pro = price_of("gemini-2.5-pro", on=DAY)
    assert pro.cost_usd(200_000, 1000) == pytest.approx(0.2 * 1.25 + 0.001 * 10)
    assert pro.cost_usd(200_001, 1000) == pytest.approx(0.200001 * 2.5 + 0.001 * 15)
    assert Price(1.0, 2.0).cost_usd(300_000, 0) == pytest.approx(0.3)


def test_calls_that_all_count_as_long() -> None:
    long = Price(1.0, 10.0, 2.0, 15.0, long_above_tokens=1000).when_long()
    assert long.cost_usd(10, 10) == pytest.approx(10e-6 * 2 + 10e-6 * 15)
    assert Price(1.0, 10.0).when_long().cost_usd(10, 10) == pytest.approx(10e-6 * 1 + 10e-6 * 10)


def test_the_most_that_a_call_can_cost() -> None:
    price = Price(1.0, 10.0, 2.0, 15.0, long_above_tokens=1000)
    assert price.most_usd(500) == pytest.approx(500e-6 * 10)  # any token may be a written one
    assert price.most_usd(500, 100) == pytest.approx(400e-6 + 100e-6 * 10)
    assert price.most_usd(1500, 100) == pytest.approx(1400e-6 * 2 + 100e-6 * 15)
    # 1,050 tokens of which 100 may be written: dearest with 1,001 read and 49 written, just over the bound
    assert price.most_usd(1050, 100) == pytest.approx(1001e-6 * 2 + 49e-6 * 15)
    assert Price(5.0, 1.0).most_usd(500, 100) == pytest.approx(500e-6 * 5)


def test_names_and_days() -> None:
    assert price_of("publishers/google/models/gemini-2.5-pro-001", on=DAY) == price_of("gemini-2.5-pro", on=DAY)
    assert price_of("gemini-3.8-flash", on=date(2026, 12, 31)).usd_in == 0.75
    assert price_of("gemini-3.8-flash", on=date(2027, 1, 1)).usd_in == 1.5
    with pytest.raises(Fatal, match=r"no price is known for the model 'gemini-2.5-pro-large' on 2026-11-21; as of"):
        price_of("gemini-2.5-pro-large", on=DAY)
    with pytest.raises(Fatal, match="no price is known"):
        price_of("gemini-2.5-pro", on=date(2024, 1, 1))


def test_a_study_may_bring_its_own_prices() -> None:
    own = {"house-model": {"in": 0.1, "out": 0.2}, "gemini-2.5-pro": {"in": 9.0, "out": 9.0}}
    assert price_of("house-model", on=DAY, overrides=own) == Price(0.1, 0.2)
    assert price_of("gemini-2.5-pro", on=DAY, overrides=own) == Price(9.0, 9.0)
    with pytest.raises(Fatal, match="needs USD a million tokens for both in and out"):
        price_of("house-model", on=DAY, overrides={"house-model": {"in": 0.1}})
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="is no price"):
            Price(wrong, 1.0)


def test_the_list_says_where_and_when_and_batch_is_half() -> None:
    listed = price_list()
    assert date.fromisoformat(listed["as_of"]) <= DAY
    assert listed["source"].startswith("https://ai.google.dev/")
    for name in listed["models"]:
        online, batch = (price_of(name, batch=batch, on=date(2027, 6, 1)) for batch in (False, True))
        assert (batch.usd_in, batch.usd_out) == (online.usd_in / 2, online.usd_out / 2), name
        assert online.usd_out > online.usd_in, name
        if online.long_usd_in is not None and online.long_usd_out is not None:
            assert batch.long_usd_in == online.long_usd_in / 2
            assert batch.long_usd_out == online.long_usd_out / 2
            assert online.long_usd_in > online.usd_in


def test_spent_and_in_flight_stay_below_the_cap() -> None:
    budget = Budget(cap_usd=1.0, spent_usd=0.4)
    assert budget.has_room(0.6)  # to the cent
    budget.hold("a", 0.3)
    assert budget.has_room(0.3)
    assert not budget.has_room(0.31)
    assert budget.may_have_room(0.6)  # should a cost nothing
    assert not budget.may_have_room(0.61)
    budget.settle("a", 0.1)
    assert (budget.spent_usd, budget.in_flight_usd) == (0.5, 0.0)
    budget.hold("b", 0.2)
    budget.settle("b", None)  # nobody knows: what it had set aside
    assert budget.spent_usd == pytest.approx(0.7)
    budget.settle("b", 0.2)  # said twice
    assert budget.spent_usd == pytest.approx(0.7)
    assert "0.70 USD of 1.00 USD spent" in budget.refusal(0.4)
    assert "raise the budget above 1.10 USD" in budget.refusal(0.4)


def test_money_of_a_job_counts_once_whoever_keeps_the_budget() -> None:
    """A budget that was lost had counted what it set aside as spent: so much and no more is given back."""
    budget = Budget(cap_usd=10.0, spent_usd=5.0)  # 4 of them set aside for the job
    budget.hold("a", 1.0)
    budget.settle("a", 2.0)  # calls cost twice what they should: from now on they set aside as much
    budget.recall("job", 4.0)
    budget.recall("job", 4.0)
    assert (budget.spent_usd, budget.in_flight_usd, budget.jobs_usd) == (3.0, 4.0, 4.0)
    budget.settle("job", 1.5)
    assert (budget.spent_usd, budget.in_flight_usd, budget.jobs_usd) == (4.5, 0.0, 0.0)
    budget.recall("unpaid", 2.0, counted=False)  # nothing was ever set aside for it
    assert (budget.spent_usd, budget.in_flight_usd) == (4.5, 2.0)
    assert budget.set_aside("next", 1.0) is None
    assert budget.in_flight_usd == 4.0
    why = budget.set_aside("more", 1.0)
    assert why is not None
    assert "4.50 USD of 10.00 USD spent, 4.00 USD set aside for what is under way" in why
    assert "raise the budget above 10.50 USD" in why


def test_estimates_that_were_too_low_grow() -> None:
    budget = Budget(cap_usd=10.0)
    budget.hold("a", 1.0)
    budget.settle("a", 2.5)
    budget.hold("b", 1.0)
    assert budget.in_flight_usd == 2.5
    assert budget.has_room(2.0)
    assert not budget.has_room(2.1)


@pytest.mark.parametrize(
    ("usd", "told"),
    [(0, "0.00"), (1234.567, "1,234.57"), (0.7, "0.70"), (0.2554, "0.255"), (0.000387, "0.000387"), (0.99999, "1.00")],
)
def test_money_is_told_to_the_cent_or_to_three_digits(usd: float, told: str) -> None:
    assert format_usd(usd) == f"{told} USD"
