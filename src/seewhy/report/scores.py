"""Scores beside baselines, and rows gained and lost: what every page of a report accounts for alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seewhy.report import numbers, strips
from seewhy.report.results import Loss
from seewhy.report.verdict import LOWER_IS_BETTER, METRICS, Verdict, metric_name, model_name


@dataclass(frozen=True)
class ScoreLine:
    model: str
    value: str
    interval: str
    mark: strips.Mark | None
    ours: bool


@dataclass(frozen=True)
class ScoreCard:
    metric: str
    meaning: str
    direction: str
    rows: str
    lines: list[ScoreLine]
    ticks: list[strips.Tick]


def score_cards(scores: pa.Table, verdict: Verdict | None, ours: str = "This model") -> list[ScoreCard]:
    """One card a metric, models in the order in which the table has them; `ours` is what the verdict's is called."""
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for record in scores.to_pylist():
        by_metric.setdefault(record["metric"], []).append(record)
    cards = []
    for metric, records in by_metric.items():
        values = [r[k] for r in records for k in ("value", "low", "high")]
        scale = strips.around(values, include_zero=True)
        digits = numbers.decimals(r["value"] for r in records)
        lines = [
            ScoreLine(
                model=_called(r["model"], verdict, ours),
                value=numbers.number(r["value"], digits),
                interval=numbers.interval(r["low"], r["high"], digits),
                mark=scale.mark(r["value"], r["low"], r["high"]),
                ours=verdict is not None and r["model"] == verdict.model,
            )
            for r in records
        ]
        counts = sorted({r["rows"] for r in records if r["rows"] is not None})
        cards.append(
            ScoreCard(
                metric=metric_name(metric),
                meaning=METRICS.get(metric, ("", ""))[1],
                direction="lower is better" if metric in LOWER_IS_BETTER else "higher is better",
                rows=" and ".join(numbers.plural(c, "row") for c in counts),
                lines=lines,
                ticks=scale.ticks(4),
            )
        )
    return cards


def _called(model: str, verdict: Verdict | None, ours: str) -> str:
    is_ours = verdict is not None and model == verdict.model
    return f"{ours} ({model_name(model)})" if is_ours else model_name(model)


def verdict_figure(verdict: Verdict | None) -> str:
    """The gain over the best baseline in words, with its interval."""
    if verdict is None:
        return ""
    digits = numbers.decimals([verdict.value, verdict.low, verdict.high])
    between = numbers.interval(verdict.low, verdict.high, digits, plus=True)
    gain = f"{metric_name(verdict.metric)} against “{model_name(verdict.baseline)}”"
    return f"{gain}: {numbers.signed(verdict.value, digits)}" + (f" (95% interval {between})" if between else "")


@dataclass(frozen=True)
class FlowLine:
    label: str
    count: str
    note: str
    kind: str  # "left", "lost", or "missing": rows that no reason accounts for
    width: str


def flow(losses: Sequence[Loss]) -> list[FlowLine]:
    """Rows left and rows lost, in order; what the given reasons do not explain becomes a line of its own."""
    lines: list[FlowLine] = []
    first = next((c for _, c, _ in losses if c >= 0), 0)
    left: int | None = None

    def add(label: str, count: int, note: str, kind: str) -> None:
        share = 100 * abs(count) / first if first else 0.0
        shown = numbers.share(abs(count), first) if left is not None else numbers.count(abs(count))
        lines.append(FlowLine(label, shown, note, kind, f"{min(share, 100):.2f}%"))

    for label, count, note in losses:
        if count < 0:
            add(label, count, note, "lost")
            left = (left or 0) + count
            continue
        if left is not None and count < left:
            add("No reason recorded", left - count, "gone without a reason: please report this", "missing")
        if left is not None and count > left:
            add("Counted twice", count - left, "more rows than the step before had: please report this", "missing")
        add(label, count, note, "left")
        left = count
    return lines


def provenance(configs: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A block a top-level key; nested keys joined by dots; single values together in a first block."""
    blocks: list[tuple[str, list[tuple[str, str]]]] = []
    single = [(str(k), _shown(v)) for k, v in configs.items() if not isinstance(v, Mapping)]
    if single:
        blocks.append(("study", single))
    blocks += [(str(k), _flat(v, "")) for k, v in configs.items() if isinstance(v, Mapping)]
    return blocks


def _flat(value: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        pairs += _flat(inner, name + ".") if isinstance(inner, Mapping) else [(name, _shown(inner))]
    return pairs


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value)
    return numbers.NONE if value is None else str(value)
