"""A study whose captions a service writes: settings reach the backend, outcomes their rows, and the key no table."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.forecast import Estimate
from seewhy.prices import Price
from seewhy.progress import Reporter
from seewhy.steps import caption, pace, pilot
from seewhy.steps.once import forget
from seewhy.steps.order import plans, run_study
from seewhy.steps.vision import used
from seewhy.study import Study, check_study, load_study
from seewhy.table import Table
from tests.drawn_images import draw_images
from tests.vlm.gemini_stub import Stub
from tests.vlm.openai_stub import KEY, openai_stub

IMAGES = 6


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = openai_stub()
    yield server
    server.close()


def study_of(home: Path, more: dict[str, object] | None = None, **caption_section: object) -> Study:
    draw_images(home, IMAGES, table="ads.csv", columns=("ad", "clicks"), height=20, width=30, numbers=IMAGES)
    small = {"cpus_per_worker": 0.5, "rows_per_block": 16}
    value = {
        "title": "Ads",
        "workspace": "out",
        "manifest": {"path": "ads.csv", "image": "ad", "target": "clicks"},
        "max_failed_fraction": 0.5,
        "fetch": {"resources": small},
        "caption": {
            "backend": "openai",
            "model": "qwen",
            "prompt": "What is it?",
            "resources": small,
            **caption_section,
        },
        **(more or {}),
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    forget()
    return load_study(str(home / "study.yaml"))


@pytest.mark.ray
def test_captions_by_a_service(ray_cluster: None, tmp_path: Path, stub: Stub) -> None:
    options = {"base_url": f"{stub.url}/v1", "tries": 2, "backoff_sec": 0.01, "concurrency": 1}
    study = study_of(tmp_path, temperature=0, max_tokens=50, options=options, revision="r1")
    # Of six images, one at a time: the first is refused by a filter, the second fails twice.
    stub.plan["What is it?"] = ["filtered_prompt", "limited", "limited"]
    run_study(study, Reporter(quiet=True), until="caption")
    rows = caption.table(study).read(only_ok=False).to_pylist()
    assert sorted((row["error_kind"] or "ok", row["reason"]) for row in rows) == [
        *[("ok", None)] * 4,
        ("rejected", "prompt_blocked_content_filter"),
        ("transient", "http_429"),
    ]
    assert all(row["text"].endswith("What is it?") and row["tokens_out"] > 0 for row in rows if row["text"])
    body = stub.calls[-1].body
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("qwen", 0, 50)
    told = caption.config(study)
    assert (told["served"], told["revision"], told["temperature"]) == (None, "r1", 0.0)

    forget()
    run_study(study, Reporter(quiet=True), until="caption")  # the refused one stays refused, unasked
    assert len(stub.calls) == 3 + 4 + 1
    assert caption.table(study).counts(caption.source(study).keys["id"]).ok == 5


@pytest.mark.ray
def test_a_budget_stops_the_stage_clean_and_raised_it_goes_on(ray_cluster: None, tmp_path: Path, stub: Stub) -> None:
    """An answer costs 261 tokens read and 4 written at 1,000 USD a million: 0.265. Set aside are 1,003 (a guess) and
    the 50 that may be written: of 2.2 USD there is room for five, and what is left then is less than 1.053."""
    options = {"base_url": f"{stub.url}/v1", "concurrency": 1}
    prices = {"qwen": {"in": 1000, "out": "1000 USD"}}

    def run(budget: object) -> Study:
        study = study_of(
            tmp_path, {"budget": budget, "prices": prices}, temperature=0, max_tokens=50, options=options, revision="r1"
        )
        run_study(study, Reporter(quiet=True), until="caption")
        return study

    with pytest.raises(Fatal, match=r"the budget is used up: 1.33 USD of 2.20 USD spent, .* up to 1.05 USD"):
        run("2.2 USD")
    assert len(stub.calls) == 5
    study = study_of(tmp_path, temperature=0, max_tokens=50, options=options, revision="r1")
    counts = caption.table(study).counts(caption.source(study).keys["id"])
    assert (counts.ok, counts.missing, sum(counts.failed.values())) == (5, 1, 0)
    assert json.loads((tmp_path / "out" / "spent.json").read_text())["at_most_usd"] == pytest.approx(5 * 0.265)
    with pytest.raises(Fatal, match="the budget is used up"):
        run(2.2)
    assert len(stub.calls) == 5
    study = run(2.5)
    assert len(stub.calls) == 6
    assert caption.table(study).counts(caption.source(study).keys["id"]).ok == IMAGES
    assert json.loads((tmp_path / "out" / "spent.json").read_text())["at_most_usd"] == pytest.approx(6 * 0.265)


@pytest.mark.ray
def test_what_was_answered_when_the_money_ran_out_is_kept(ray_cluster: None, tmp_path: Path, stub: Stub) -> None:
    """All calls of a block at once, each with a guess of 1.053 set aside: of 1.45 USD there is room for one, once that
    has cost 0.265 for another, and then for none, in whichever block. The answers are paid, and in the table."""
    stub.delay_sec = 0.2
    small = {"cpus_per_worker": 0.5, "rows_per_block": 3, "workers": 2}
    more = {"budget": 1.45, "prices": {"qwen": {"in": 1000, "out": 1000}}}
    options = {"base_url": f"{stub.url}/v1"}
    study = study_of(tmp_path, more, temperature=0, max_tokens=50, options=options, revision="r1", resources=small)
    with pytest.raises(Fatal, match="the budget is used up"):
        run_study(study, Reporter(quiet=True), until="caption")
    counts = caption.table(study).counts(caption.source(study).keys["id"])
    assert (counts.ok, counts.missing, len(stub.calls)) == (2, IMAGES - 2, 2)


@pytest.mark.ray
def test_the_cost_is_told(ray_cluster: None, tmp_path: Path, stub: Stub) -> None:
    options = {"base_url": f"{stub.url}/v1"}
    more = {"budget": "20 USD", "prices": {"qwen": {"in": 1000, "out": 1000}}}
    study = study_of(tmp_path, more, temperature=0, max_tokens=50, options=options, revision="r1")
    said = io.StringIO()
    run_study(study, Reporter(stream=said), until="caption")
    assert (
        "caption: 1,566 tokens read and 24 written for these rows, about 1.59 USD; 1.59 USD of the budget of 20.00 USD "
        "spent" in said.getvalue()
    )


@pytest.mark.ray
def test_a_pilot_forecasts_the_rest_and_is_part_of_it(ray_cluster: None, tmp_path: Path, stub: Stub) -> None:
    """Four of six images: each 261 tokens read and 4 written, at 1,000 USD a million 0.265 USD."""
    options = {"base_url": f"{stub.url}/v1"}
    more = {"budget": 20, "prices": {"qwen": {"in": 1000, "out": 1000}}}
    section = {"temperature": 0, "max_tokens": 50, "options": options, "revision": "r1", "requests_per_minute": 60}
    study = study_of(tmp_path, more, **section)
    (found,) = pilot.run(study, 4, Reporter(quiet=True))
    assert len(stub.calls) == 4
    assert (found.rows, found.counts.ok, found.todo, found.about) == (4, 4, 2, True)
    assert (found.tokens_in, found.tokens_out) == (Estimate(522, 522, 522), Estimate(8, 8, 8))
    (online,) = found.ways
    assert online.cost is not None
    assert online.cost.middle == pytest.approx(0.53)
    assert online.seconds is not None
    assert online.seconds.middle >= 2
    assert (found.spent_usd, found.enough_for) == (pytest.approx(4 * 0.265), 2)
    assert pilot.told(found)[:3] == [
        "pilot of caption: 4 rows: 4 ok",
        "left: about 2 rows, a call each and one more for each try again",
        "tokens read: 522 (522 to 522), written: 8 (8 to 8)",
    ]
    assert pilot.told(found)[-1] == "budget: 1.06 USD of 20.00 USD spent, enough for the rest"

    poor = study_of(tmp_path, {**more, "budget": 1.4}, **section)
    (found,) = pilot.run(poor, 4, Reporter(quiet=True))  # its rows are there: nothing is asked, or timed
    assert len(stub.calls) == 4
    assert pilot.told(found)[3] == "online: not timed: no row was new; 0.53 USD (0.53 USD to 0.53 USD)"
    assert pilot.told(found)[-1] == "budget: 1.06 USD of 1.40 USD spent, enough for about 1 of the rest"

    forget()
    run_study(study_of(tmp_path, more, **section), Reporter(quiet=True), until="caption")
    assert len(stub.calls) == 6
    (found,) = pilot.run(study_of(tmp_path, more, **section), 4, Reporter(quiet=True))
    assert pilot.told(found)[-1] == "nothing is left to do"


@pytest.mark.ray
def test_a_pilot_of_a_model_that_runs_here(ray_cluster: None, tmp_path: Path) -> None:
    study = study_of(tmp_path, {"usd_per_gpu_hour": 2}, backend="tiny", model=None, prompt=None, temperature=0)
    (found,) = pilot.run(study, 4, Reporter(quiet=True))
    (here,) = found.ways
    assert (here.name, here.cost, found.gpu_hours, found.todo) == ("here", None, None, 2)  # no GPU was asked for
    assert here.seconds is not None
    assert here.seconds.middle > 0
    assert found.tokens_out.middle > 0


@pytest.mark.parametrize("step", ["run", "plan", "pilot"])
def test_a_budget_without_a_price_is_refused_before_anything_is_done(tmp_path: Path, step: str) -> None:
    study = study_of(tmp_path, {"budget": 1}, options={"base_url": "http://127.0.0.1:1/v1"})
    steps: dict[str, Callable[[], object]] = {
        "run": lambda: run_study(study, Reporter(quiet=True)),
        "plan": lambda: plans(study),
        "pilot": lambda: pilot.run(study, 4, Reporter(quiet=True)),
    }
    with pytest.raises(Fatal, match="a budget needs a price"):
        steps[step]()
    assert not (tmp_path / "out").exists()
    pace.check_prices(study, ["fetch"])  # a run that ends before needs none


def test_the_most_that_an_answer_may_hold_is_what_the_backend_is_told(tmp_path: Path) -> None:
    options = {"base_url": "http://127.0.0.1:1/v1"}
    assert pace._most_written(study_of(tmp_path, options=options).caption) == 1000
    assert pace._most_written(study_of(tmp_path, options={**options, "max_new_tokens": 4000}).caption) == 4000
    assert pace._most_written(study_of(tmp_path, max_tokens=50, options=options).caption) == 50


def test_a_sum_of_short_calls_is_no_long_call(tmp_path: Path) -> None:
    """Two calls of 150 tokens are below 200 each: 2 x (150 x 1 + 10 x 2) millionths; one of 300 is not."""
    table = Table(str(tmp_path / "t"), schema.CAPTIONS)
    price = Price(1.0, 2.0, 10.0, 20.0, long_above_tokens=200)
    rows = dict.fromkeys(table.schema.names, [None] * 4)
    rows |= {"id": list("abcd"), "tokens_in": [150, 150, None, 300], "tokens_out": [10, 10, None, None]}
    table.append(pa.table(rows, schema=table.schema), generation=1)
    found = used(table, pa.chunked_array([["a", "b", "c"]]), price)
    assert (found.rows, found.tokens_in, found.tokens_out) == (2, 300, 20)
    assert found.usd == pytest.approx(340e-6)
    assert used(table, pa.chunked_array([["d"]]), price).usd == pytest.approx(3000e-6)
    assert used(table, pa.chunked_array([["d"]]), None).usd is None


def test_a_budget_needs_a_price(tmp_path: Path) -> None:
    study = study_of(tmp_path, {"budget": 1}, options={"base_url": "http://127.0.0.1:1/v1"})
    with pytest.raises(Fatal, match=r"a budget needs a price: no price is known for the model 'qwen'"):
        pace.quota(study, study.caption)
    free = study_of(tmp_path, options={"base_url": "http://127.0.0.1:1/v1"})
    assert pace.price(free, free.caption) is None


@pytest.mark.parametrize("budget", ["25 EUR", "much", -1, "nan USD"])
def test_a_budget_is_a_sum_of_usd(tmp_path: Path, budget: object) -> None:
    with pytest.raises(Fatal, match="budget: "):
        study_of(tmp_path, {"budget": budget})


def test_an_option_that_the_backend_lacks_is_named(tmp_path: Path) -> None:
    study = study_of(tmp_path, options={"base_url": "http://127.0.0.1:1/v1", "temprature": 1})
    with pytest.raises(Fatal, match=r"backend openai cannot be set up so: .*temprature"):
        caption.config(study)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"backend": "gemini"}, "needs `model`"),
        ({"backend": "openai", "model": "m"}, "base_url"),
        ({"backend": "gemini", "model": "gemini-2.5-flash", "revision": "1"}, "takes no `revision`"),
    ],
)
def test_what_a_service_needs_is_asked_for_at_once(section: dict[str, object], complaint: str) -> None:
    manifest = {"path": "ads.csv", "image": "ad", "target": "clicks"}
    with pytest.raises(Fatal, match=complaint):
        check_study({"title": "Ads", "workspace": "out", "manifest": manifest, "caption": section})


def test_gemini_is_named_by_what_changes_its_answers(tmp_path: Path) -> None:
    told = caption.config(
        study_of(tmp_path, backend="gemini", model="gemini-2.5-flash", options={"location": "us-central1"})
    )
    assert (told["model"], told["location"], told["prompt"]) == ("gemini-2.5-flash", "us-central1", "What is it?")
    assert KEY not in str(told)
