"""What the overview page says, worked out: words and their pictures, scores beside baselines, rows gained and lost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from seewhy.report import numbers, strips
from seewhy.report.choose import Chosen, Ends, WordRow
from seewhy.report.verdict import LOWER_IS_BETTER, METRICS, Verdict, metric_name, model_name


@dataclass(frozen=True)
class WordLine:
    word: str
    value: str
    interval: str
    support: str
    mark: strips.Mark | None
    sure: bool


@dataclass(frozen=True)
class Picture:
    """An item beside a word: its page, its thumbnail if it has one, and the word's value there."""

    name: str
    has_image: bool
    text: str
    alt: str
    value: str
    sign: str
    facts: tuple[str, str]


@dataclass(frozen=True)
class PicturedWord:
    line: WordLine
    sign: str
    high: list[Picture]
    low: list[Picture]


@dataclass(frozen=True)
class Section:
    """The words of one output: the target, or one class."""

    name: str
    anchor: str
    lines: list[WordLine]
    ticks: list[strips.Tick]
    up: list[WordLine]  # sure ones only, strongest first
    down: list[WordLine]
    pictured: list[PicturedWord]
    note: str


def word_section(
    chosen: Chosen,
    *,
    name: str,
    anchor: str,
    ticks: list[strips.Tick],
    line: Callable[[WordRow], WordLine],
    min_items: int,
    holder: str,
    pictured: list[PicturedWord],
) -> Section:
    up, down = [line(row) for row in chosen.up], [line(row) for row in chosen.down]
    return Section(
        name=name,
        anchor=anchor,
        lines=[*up, *down[::-1]],
        ticks=ticks,
        up=[word for word in up if word.sure][:3],
        down=[word for word in down if word.sure][:3],
        pictured=pictured,
        note=_left_out(chosen, len(up) + len(down), min_items, holder),
    )


def _left_out(chosen: Chosen, shown: int, min_items: int, holder: str) -> str:
    """How many words there are, and why the others are not among those shown; empty where there are none."""
    if not chosen.words:
        return ""
    parts = [f"{numbers.of(shown, chosen.words)} words shown."]
    if chosen.rare:
        parts.append(
            f"Left out as too rare to trust (in fewer than {min_items} {holder}s): {numbers.count(chosen.rare)}."
        )
    if chosen.small:
        parts.append(f"Left out as hardly moving it (under 3% of the strongest word): {numbers.count(chosen.small)}.")
    weaker = chosen.words - shown - chosen.rare - chosen.small
    if weaker > 0:
        parts.append(f"Weaker than those shown: {numbers.count(weaker)}.")
    return " ".join(parts)


def word_line(row: WordRow, *, digits: int, scale: strips.Scale) -> WordLine:
    return WordLine(
        word=row.word,
        value=numbers.signed(row.value, digits),
        interval=numbers.interval(row.low, row.high, digits, plus=True),
        support=numbers.of(row.items, row.total),
        mark=scale.mark(row.value, row.low, row.high),
        sure=row.sure,
    )


def word_scale(chosen: Sequence[Chosen]) -> strips.Scale:
    """One scale for every output, so that sections can be compared."""
    rows = [row for c in chosen for row in (*c.up, *c.down)]
    return strips.symmetric(v for row in rows for v in (row.value, row.low, row.high))


def pictured_words(
    chosen: Chosen,
    ends: Mapping[str, Ends],
    *,
    most: int,
    line: Callable[[WordRow], WordLine],
    picture: Callable[[str, float], Picture | None],
) -> list[PicturedWord]:
    """The first `most` words on either side with the items at both ends; `picture` is None where no page is."""
    shown = []
    for sign, rows in (("pos", chosen.up[:most]), ("neg", chosen.down[:most])):
        for row in rows:
            end = ends.get(row.word, Ends())
            high, low = ([p for v, i in side if (p := picture(i, v))] for side in (end.high, end.low))
            if high or low:
                shown.append(PicturedWord(line(row), sign, high, low))
    return shown


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


def score_cards(scores: pa.Table, verdict: Verdict | None) -> list[ScoreCard]:
    """One card a metric, models in the order in which the table has them."""
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
                model=_called(r["model"], verdict),
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


def _called(model: str, verdict: Verdict | None) -> str:
    ours = verdict is not None and model == verdict.model
    return f"This model ({model_name(model)})" if ours else model_name(model)


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


def flow(losses: Sequence[tuple[str, int, str]]) -> list[FlowLine]:
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
