"""What a worker counts, by hand; that Prometheus gets it is tested where a head runs (cluster/test_entrypoint.py)."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seewhy import metrics, schema
from seewhy.metrics import COST, ROWS, SECONDS, TOKENS, Meter, Spending

DASHBOARD = Path(__file__).parents[1] / "cluster" / "grafana" / "seewhy.json"
Told = list[tuple[str, float, dict[str, str]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What a meter counted: name, amount, tags."""
    found: Told = []

    def add(_: Meter, name: str, amount: float, **tags: str) -> None:
        found.append((name, amount, tags))

    monkeypatch.setattr(Meter, "_add", add)
    return found


def test_rows_are_counted_by_outcome_and_given_back(told: Told) -> None:
    assert Meter("caption").rows({"ok": 5, "transient": 2}) == {"ok": 5, "transient": 2}
    assert told == [(ROWS, 5, {"outcome": "ok"}), (ROWS, 2, {"outcome": "transient"})]


def test_time_goes_to_one_part_after_the_other(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 103.0, 103.5, 110.0])
    monkeypatch.setattr(metrics.time, "monotonic", lambda: next(now))
    meter = Meter("caption")
    for part in ("wait", "read", "stage"):
        meter.mark(part)
    assert [(name, amount, tags["part"]) for name, amount, tags in told] == [
        (SECONDS, 3.0, "wait"),
        (SECONDS, 0.5, "read"),
        (SECONDS, 6.5, "stage"),
    ]


def test_tokens_of_captions_are_added_up(told: Told) -> None:
    rows = [{"id": "a", "tokens_in": 10, "tokens_out": 3}, {"id": "b"}, {"id": "c", "tokens_in": 5, "tokens_out": 4}]
    Meter("caption").tokens(pa.Table.from_pylist(rows, schema=schema.CAPTIONS))
    assert told == [(TOKENS, 15, {"direction": "in"}), (TOKENS, 7, {"direction": "out"})]


def test_tokens_of_questions_are_those_of_all_answers(told: Told) -> None:
    replies = [
        [
            {"column": "sky", "tokens_in": 10, "tokens_out": 1},
            {"column": "people", "tokens_in": 20, "tokens_out": None},
        ],
        [],
        [{"column": "sky", "tokens_in": 30, "tokens_out": 2}],
    ]
    rows = pa.Table.from_pylist(
        [{"id": str(i), "replies": one} for i, one in enumerate(replies)], schema=schema.answers(["sky", "who"])
    )
    Meter("ask").tokens(rows)
    assert told == [(TOKENS, 60, {"direction": "in"}), (TOKENS, 3, {"direction": "out"})]


def test_rows_without_tokens_count_none(told: Told) -> None:
    Meter("fetch").tokens(pa.table({"id": ["a"]}))
    assert told == []


def test_without_a_cluster_nobody_is_told() -> None:
    meter = Meter("fetch")
    meter.mark("wait")
    assert meter.rows({"ok": 1}) == {"ok": 1}
    Spending().tell({"openai m": 0.5})


def expressions() -> dict[str, str]:
    """Every expression of the dashboard, by its panel."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    return {f"{panel['title']} {one['refId']}": one["expr"] for panel in panels for one in panel["targets"]}


def test_the_dashboard_shows_what_is_counted() -> None:
    """Ours are all shown, by tags that they have; Ray's are ones that its agent has."""
    spec = importlib.util.find_spec("ray.dashboard.modules.reporter.reporter_agent")
    assert spec is not None
    agent = Path(str(spec.origin)).read_text(encoding="utf-8")
    shown: set[str] = set()
    for title, expression in expressions().items():
        assert expression.count("(") == expression.count(")"), title
        for name, tags in re.findall(r"ray_(\w+)\{([^}]*)\}", expression):
            labels = set(re.findall(r"(\w+)!?=~?", tags)) - {"ray_io_cluster"}
            by = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
            if name.startswith("seewhy_"):
                own = name.removesuffix("_total")
                assert name == (own if own == COST else f"{own}_total"), title
                assert labels | by <= ({"service"} if own == COST else {"stage", *metrics._TAGS[own]}), title
                shown.add(own)
            else:
                assert f'"{name}"' in agent, title
    assert shown == {ROWS, TOKENS, SECONDS, COST}
