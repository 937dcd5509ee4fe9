"""What calls by hand cost: worked out on paper, by a service that counts its calls, and in a ledger that others use."""

import json
from pathlib import Path

import pytest

from seewhy.app.spending import Terms, paid, terms_of, told
from seewhy.app.talking import Speaker
from seewhy.failure import Fatal
from seewhy.prices import Price
from seewhy.quota.ledger import Ledger, add_spent, spent_at_most_usd
from seewhy.sections import Ask
from seewhy.study import load_study
from seewhy.vlm.openai import LEAST_AN_IMAGE
from tests.app.sample import write_study
from tests.app.test_talking import picture
from tests.vlm.gemini_stub import IMAGE_TOKENS, Stub
from tests.vlm.openai_stub import openai_stub

PRICE = Price(1000.0, 5000.0)
"""A dear model: a tenth of a cent a token read, half a cent a token written."""


def terms(folder: Path, **changed: object) -> Terms:
    given = {"price": PRICE, "tokens_out_most": 20, "budget_usd": None, "ledger": str(folder / "spent.json")}
    return Terms(**{**given, **changed})  # type: ignore[arg-type]


@pytest.fixture
def stub():
    made = openai_stub()
    yield made
    made.close()


def speaker(stub: Stub, asked: Terms) -> Speaker:
    options = {"base_url": f"{stub.url}/v1", "tries": 2, "backoff_sec": 0.001, "max_new_tokens": 20}
    return Speaker(backend="openai", model="gpt", **options, **paid(asked))


def test_what_a_call_costs_is_written_down_and_what_a_failed_one_may_have(stub: Stub, tmp_path: Path) -> None:
    asked = terms(tmp_path)
    mine = speaker(stub, asked)
    said = mine.ask("a", picture(), [], "What is this?")
    assert (said.tokens_in, said.failure) == (IMAGE_TOKENS + 3, None)
    cost = PRICE.cost_usd(said.tokens_in or 0, said.tokens_out or 0)
    assert spent_at_most_usd(asked.ledger) == pytest.approx(cost)
    stub.plan["Limited?"] = ["limited", "limited"]  # a refusal for being one too many costs nothing
    assert mine.ask("a", picture(), [], "Limited?").failure is not None
    assert spent_at_most_usd(asked.ledger) == pytest.approx(cost)
    stub.plan["Gone?"] = ["drop", "drop"]  # of a call that was cut off nobody knows: what was set aside counts, twice
    assert mine.ask("a", picture(), [], "Gone?").failure is not None
    most = PRICE.cost_usd(LEAST_AN_IMAGE + 1, 20)  # by the image's size, whatever the first call read
    assert spent_at_most_usd(asked.ledger) == pytest.approx(cost + 2 * most)


def test_no_call_is_made_that_could_break_the_budget(stub: Stub, tmp_path: Path) -> None:
    asked = terms(tmp_path, budget_usd=1.5)  # a call is guessed to read 1,000 tokens and a few: up to 1.1 USD
    mine = speaker(stub, asked)
    (tmp_path / "spent.json").write_text(json.dumps({"at_most_usd": 1.2}))  # by a run
    said = mine.ask("a", picture(), [], "What is this?")
    assert said.failure is not None
    assert said.failure.reason == "not_asked"
    assert "the budget is used up: 1.20 USD of 1.50 USD spent" in said.failure.detail
    assert stub.calls == []
    assert spent_at_most_usd(asked.ledger) == 1.2
    (tmp_path / "spent.json").write_text(json.dumps({"at_most_usd": 0.2}))
    assert mine.ask("a", picture(), [], "What is this?").text is not None
    assert spent_at_most_usd(asked.ledger) > 0.2 + PRICE.cost_usd(IMAGE_TOKENS, 1)


def test_what_runs_spend_meanwhile_is_counted(stub: Stub, tmp_path: Path) -> None:
    asked = terms(tmp_path, budget_usd=10.0)
    mine, desk = speaker(stub, asked), Ledger(asked.ledger)
    desk.cover(2.0, cap_usd=10.0)  # a hundredth of the cap ahead
    said = mine.ask("a", picture(), [], "What is this?")
    cost = PRICE.cost_usd(said.tokens_in or 0, said.tokens_out or 0)
    assert spent_at_most_usd(asked.ledger) == pytest.approx(2.1 + cost)
    Ledger(asked.ledger).settle(9.9)
    failure = mine.ask("a", picture(), [], "And now?").failure
    assert failure is not None
    assert "9.90 USD of 10.00 USD spent" in failure.detail
    add_spent(asked.ledger, -20.0)
    assert spent_at_most_usd(asked.ledger) == 0.0


def test_what_a_click_costs_is_said_before_it_is_made(tmp_path: Path) -> None:
    # 1,500 tokens read at 0.001 and 20 written at 0.005
    asked = terms(tmp_path)
    assert asked.about_usd() == pytest.approx(1.6)
    assert told(asked) == "It costs about 1.60 USD at most."
    Ledger(asked.ledger).settle(7.25)
    assert told(terms(tmp_path, budget_usd=25.0), 5) == (
        "They cost about 8.00 USD at most. 7.25 USD of the study’s budget of 25.00 USD are spent."
    )
    assert told(terms(tmp_path, price=None)) == "What it costs is not known: the study names no price for the model."
    assert paid(None) == {}


def test_the_terms_are_those_of_a_run(tmp_path: Path) -> None:
    path = write_study(tmp_path / "ten", budget="3 USD", prices={"gpt": {"in": 1, "out": 2}})
    study = load_study(str(path))
    service = {"backend": "openai", "options": {"base_url": "http://x/v1"}, "questions": ["why?"]}
    asked = Ask(**service, model="gpt", max_tokens=9)
    ledger = str(tmp_path / "ten/out/spent.json")
    assert terms_of(study, asked) == Terms(Price(1.0, 2.0), 9, 3.0, ledger)
    assert terms_of(study, study.caption) is None
    with pytest.raises(Fatal, match="a budget needs a price"):
        terms_of(study, Ask(**service, model="other"))
    free = study.model_copy(update={"budget": None})
    assert terms_of(free, Ask(**service, model="other")) == Terms(None, 1000, None, ledger)
