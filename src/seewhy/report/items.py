"""One item (an image or a text) as its page shows it: coloured words, steps from base value to prediction, facts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import hiding, schema
from seewhy.report import numbers, safe, strips
from seewhy.report.choose import prediction_matrix

_FOCUSABLE = 12  # words a text that the keyboard stops at; every word is in the table below it anyway
_STEPS = 10  # rows of the waterfall before the smaller ones are added up
_FIXED = ("row", "id", "source", "target")


@dataclass(frozen=True)
class Item:
    """What is known of one item.

    Attributes:
        rows: the manifest rows that share it, each with `row`, `source`, `target` and the ride-along columns.
        target: mean over its rows; classification: index of the commonest class; None where there is none.
        outputs: (K,) prediction, None where it was not predicted.
        explanation: one row of schema.EXPLANATIONS, None where it was not explained.
    """

    id: str
    name: str
    title: str
    text: str
    rows: list[dict[str, Any]]
    target: float | None
    outputs: list[float] | None
    fold: int | None
    explanation: dict[str, Any] | None


@dataclass(frozen=True)
class Segment:
    """A piece of the text; `value` is empty for what lies between words."""

    text: str
    value: str = ""
    sign: str = ""
    strength: str = "0"
    focus: bool = False


@dataclass(frozen=True)
class Step:
    label: str
    value: str
    mark: strips.Mark | None
    total: bool = False


@dataclass(frozen=True)
class WordValue:
    text: str
    times: int
    value: str
    mark: strips.Mark | None


@dataclass(frozen=True)
class Account:
    """How the text led to one output."""

    output: str
    segments: list[Segment]
    steps: list[Step]
    ticks: list[strips.Tick]
    words: list[WordValue]


def load_items(
    ids: Sequence[str],
    *,
    task: str,
    texts: pa.Table,
    rows: pa.Table,
    predictions: pa.Table,
    explanations: dict[str, pa.Table],
    title_column: str,
) -> list[Item]:
    """The items of `ids`, in that order; only their rows are taken out of the tables."""
    wanted = pa.array(ids, pa.string())
    text_of = dict(zip(*_columns(_of_ids(texts, wanted), "id", "text"), strict=True))
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for record in _of_ids(rows, wanted).to_pylist():
        rows_of.setdefault(record["id"], []).append(record)
    mine = _of_ids(predictions, wanted)
    outputs = prediction_matrix(mine) if mine.num_rows else np.zeros((0, 1))
    predicted: dict[str, list[tuple[float | None, int | None, list[float]]]] = {}
    for record, output in zip(mine.drop_columns(["outputs"]).to_pylist(), outputs.tolist(), strict=True):
        predicted.setdefault(record["id"], []).append((record["target"], record["fold"], output))
    items = []
    for item_id in ids:
        its, found = rows_of.get(item_id, []), predicted.get(item_id, [])
        text = text_of.get(item_id) or ""
        items.append(
            Item(
                id=item_id,
                name=safe.file_name(item_id),
                title=_title(its, title_column, text, item_id),
                text=text,
                rows=its,
                target=shared_target([t for t, _, _ in found], task),
                outputs=found[0][2] if found else None,
                fold=found[0][1] if found else None,
                explanation=explanations[item_id].to_pylist()[0] if item_id in explanations else None,
            )
        )
    return items


def _of_ids(table: pa.Table, ids: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table[schema.ID], value_set=ids))


def _columns(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


def shared_target(targets: list[float | None], task: str) -> float | None:
    known = [t for t in targets if t is not None and np.isfinite(t)]
    if not known:
        return None
    if task == "regression":
        return float(np.mean(known))
    return max(dict.fromkeys(known), key=known.count)


def _title(rows: list[dict[str, Any]], column: str, text: str, item_id: str) -> str:
    for record in rows if column else ():
        if record.get(column):
            return hiding.told(record[column])
    return excerpt(text, 64) or f"Item {item_id[:12]}"


def excerpt(text: str, most: int) -> str:
    """The start of `text` on one line, cut at a word where there is one."""
    line = " ".join(text[: 8 * most + 8].split())
    if len(line) <= most:
        return line
    cut = line[: most - 1]
    return cut[: cut.rfind(" ")] + "…" if " " in cut[most // 2 :] else cut + "…"


def word_limit(items: Sequence[Item]) -> float:
    """The value that gets the full colour in every page alike: the 98th percentile of |word value|."""
    values = [abs(v) for i in items if i.explanation for w in i.explanation["words"] or () for v in w["values"]]
    finite = [v for v in values if np.isfinite(v)]
    return float(np.quantile(finite, 0.98)) if finite else 0.0


def account(
    item: Item, *, output: int, output_name: str, limit: float, digits: int, word_key: Callable[[str], str]
) -> Account:
    """Colours, steps and table for output number `output` of an explained item."""
    assert item.explanation is not None
    words = [(w, w["values"][output]) for w in item.explanation["words"] or ()]
    steps, ticks = _waterfall(item.explanation, output, limit, digits)
    return Account(
        output=output_name,
        segments=_segments(item.text, words, limit, digits),
        steps=steps,
        ticks=ticks,
        words=_word_table(words, limit, digits, word_key),
    )


def _segments(text: str, words: list[tuple[dict[str, Any], float]], limit: float, digits: int) -> list[Segment]:
    """The whole text in order. A span that overlaps an earlier one or runs past the end is not coloured."""
    strongest = sorted((abs(v) for _, v in words), reverse=True)[:_FOCUSABLE]
    least = max(strongest[-1], 1e-12) if strongest else 0.0
    pieces, at = [], 0
    for word, value in sorted(words, key=lambda w: (w[0]["start"], w[0]["end"])):
        start, end = word["start"], word["end"]
        if not at <= start < end <= len(text):
            continue
        if start > at:
            pieces.append(Segment(text[at:start]))
        strength = min(1.0, abs(value) / limit) if limit > 0 else 0.0
        sign = "pos" if value > 0 else "neg" if value < 0 else ""
        shown = numbers.signed(value, digits)
        pieces.append(Segment(text[start:end], shown, sign, f"{strength:.2f}", abs(value) >= least))
        at = end
    if at < len(text):
        pieces.append(Segment(text[at:]))
    return pieces


def _waterfall(
    explanation: dict[str, Any], output: int, limit: float, digits: int
) -> tuple[list[Step], list[strips.Tick]]:
    """Base value, then each sentence in order, then the prediction; the small ones are added up, not dropped.

    The scale spans `limit` on either side of the base value at least, so that tiny moves look tiny.
    """
    base, end = explanation["base_values"][output], explanation["outputs"][output]
    moves = [(s["text"].strip(), float(s["values"][output])) for s in explanation["sentences"] or ()]
    if len(moves) > _STEPS:
        by_size = sorted(range(len(moves)), key=lambda i: -abs(moves[i][1]))
        shown, others = sorted(by_size[: _STEPS - 1]), by_size[_STEPS - 1 :]
        rest = sum(moves[i][1] for i in others)
        moves = [moves[i] for i in shown] + [(f"{len(others)} other sentences together", rest)]
    gap = end - base - sum(m for _, m in moves)
    if abs(gap) > 0.5 * 10**-digits:
        moves.append(("Not attributed to any sentence", gap))
    levels = np.cumsum([base, *(m for _, m in moves)]).tolist()
    scale = strips.around([*levels, end, base - limit, base + limit])
    steps = [Step("Before reading anything", numbers.number(base, digits), _between(scale, base, base), True)]
    for (label, move), before, after in zip(moves, levels[:-1], levels[1:], strict=True):
        steps.append(Step(label, numbers.signed(move, digits), _between(scale, before, after)))
    steps.append(Step("Prediction", numbers.number(end, digits), _between(scale, end, end), True))
    return steps, scale.ticks(4)


def _between(scale: strips.Scale, before: float, after: float) -> strips.Mark:
    a, b = sorted((scale.percent(before), scale.percent(after)))
    sign = "pos" if after > before else "neg" if after < before else "zero"
    return strips.Mark(scale.css(after), None, None, None, f"{a:.2f}%", f"{max(b - a, 0.4):.2f}%", sign, True)


def _word_table(
    words: list[tuple[dict[str, Any], float]], limit: float, digits: int, word_key: Callable[[str], str]
) -> list[WordValue]:
    """Equal words added up, strongest first; the scale is `limit` or wider."""
    sums: dict[str, list[Any]] = {}
    for word, value in words:
        entry = sums.setdefault(word_key(word["text"]) or word["text"], [0, 0.0])
        entry[0] += 1
        entry[1] += value
    scale = strips.symmetric([limit, *(v for _, v in sums.values())])
    ranked = sorted(sums.items(), key=lambda s: (-abs(s[1][1]), s[0]))
    return [WordValue(w, times, numbers.signed(v, digits), scale.mark(v)) for w, (times, v) in ranked]


def ride_along(item: Item) -> list[list[tuple[str, str, str | None]]]:
    """For each manifest row: (column, value as text, link or None), the source first, empty values left out.

    What URLs hold of secrets is left out of the values, and such a URL is no link.
    """
    rows = []
    for record in item.rows:
        source = record.get("source")
        kept = [(k, hiding.told(v), safe.web_link(v)) for k, v in record.items() if k not in _FIXED and v is not None]
        rows.append(
            [("row", numbers.count(record["row"]), None)]
            + ([("source", hiding.shown(source), safe.web_link(source))] if source else [])
            + [cell for cell in kept if cell[1]]
        )
    return rows
