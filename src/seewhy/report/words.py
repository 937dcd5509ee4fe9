"""The probe's table as a reader sees it: for each class its words by rank, with counts, intervals and pictures.

Classification: a column a class, of the words that speak for it. Regression: two columns, the words that go with a
higher target and those that go with a lower one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy.report import numbers, strips
from seewhy.report.results import About, Extent, ProbeResults

_COLUMNS = 60  # classes that get a column: the commonest
_PICTURED = 100  # words with pictures, over all columns
_PALEST = 0.15  # shade of a word that is only just clear of chance

Row = dict[str, Any]
"""A row of schema.PROBE."""


@dataclass(frozen=True)
class Chosen:
    """The rows that a column shows, by rank.

    Attributes:
        side: 1 for words that speak for the output, -1 for those against it.
        ranked: words of that side that the probe puts forward.
        seldom: words of that side that have a weight and no rank.
        texts: that belong to the class; None for a number, and where no word of the class tells how many.
    """

    output: str
    side: int
    rows: list[Row]
    ranked: int
    seldom: int
    texts: int | None


@dataclass(frozen=True)
class Line:
    """A word of a column.

    Attributes:
        figure: hits/total, or the difference that the word makes.
        beside: the figure in other words: a share, or the means with and without it.
        between: 95% interval of the share or the difference.
        times: how many times as often as among all texts; empty for a number.
        support: texts that hold it, of all.
        again: subsamples that chose it, of all; empty without subsamples.
        held_out: hits/total of texts that the weights were not fitted to; empty where not counted.
        sure: the interval lies on the word's side of the base rate or of zero.
        strength: "0.00" to "1.00", of the shade: by the interval's end that is nearer to no effect.
    """

    word: str
    rank: int
    figure: str
    beside: str
    between: str
    times: str
    support: str
    again: str
    held_out: str
    mark: strips.Mark | None
    sign: str
    sure: bool
    strength: str


@dataclass(frozen=True)
class Column:
    """Attributes:
    name: the class, or the target with a direction.
    base: how many of all texts belong to the class; empty for a number, and where that is not known.
    note: how many words there are beside those shown.
    """

    name: str
    anchor: str
    side: int
    base: str
    lines: list[Line]
    ticks: list[strips.Tick]
    note: str


def choose(probe: ProbeResults, about: About, most: int) -> list[Chosen]:
    """The rows of each column, `most` at most; of very many classes the commonest, in the classes' order."""
    if not about.classes:
        return [_chosen(probe.table, about.target_name, side, most, None) for side in (1, -1)]
    n = probe.counted
    shares = zip(probe.table["output"].to_pylist(), probe.table["base_rate"].to_pylist(), strict=True)
    counts = {name: round(share * n) for name, share in shares if share is not None}
    common = set(sorted(about.classes, key=lambda name: -counts.get(name, 0))[:_COLUMNS])
    return [_chosen(probe.table, name, 1, most, counts.get(name)) for name in about.classes if name in common]


def _chosen(table: pa.Table, output: str, side: int, most: int, texts: int | None) -> Chosen:
    """Rows of the output with a weight of that sign, the largest weight first."""
    sided = pc.greater(pc.multiply(table["weight"], side), 0.0)
    mine = table.filter(pc.and_(pc.equal(table["output"], output), sided))
    ranked = mine.filter(pc.is_valid(mine["rank"]))
    rows = sorted(ranked.to_pylist(), key=lambda r: (-abs(r["weight"]), r["rank"]))
    return Chosen(output, side, rows[:most], len(rows), len(mine) - len(rows), texts)


def title(chosen: Chosen, about: About) -> str:
    """What a column is called."""
    if about.classes:
        return chosen.output
    return f"{'Higher' if chosen.side > 0 else 'Lower'} {chosen.output}"


def is_sure(row: Row, side: int) -> bool:
    """The 95% interval lies on the word's side: of the class's share of all texts, or of no difference."""
    low, high = interval(row)
    origin = row["base_rate"] if row["difference"] is None else 0.0
    if not (numbers.finite(low) and numbers.finite(high) and numbers.finite(origin)):
        return False
    return low > origin if side > 0 else high < origin


def interval(row: Row) -> tuple[float | None, float | None]:
    """Of the share of texts with the word that belong to the class, or of the difference that the word makes."""
    if row["difference"] is not None:
        return row["difference_low"], row["difference_high"]
    low, high, base = row["lift_low"], row["lift_high"], row["base_rate"]
    if low is None or high is None or base is None:
        return None, None
    return low * base, min(high * base, 1.0)


def columns(chosen: Sequence[Chosen], probe: ProbeResults, about: About) -> list[Column]:
    """What is shown of the rows, on one scale for all columns."""
    scale = strips.Scale(0.0, 1.0)
    digits = 0
    if not about.classes:
        rows = [row for one in chosen for row in one.rows]
        scale = strips.symmetric(r[k] for r in rows for k in ("difference", "difference_low", "difference_high"))
        digits = numbers.decimals(r["difference"] for r in rows)
    return [
        Column(
            name=title(one, about),
            anchor=f"words-{k}",
            side=one.side,
            base="" if one.texts is None else numbers.share(one.texts, probe.counted),
            lines=[
                _line(row, rank, one.side, probe, scale, digits=digits if not about.classes else None)
                for rank, row in enumerate(one.rows, start=1)
            ],
            ticks=_share_ticks(scale) if about.classes else scale.ticks(4),
            note=_note(one),
        )
        for k, one in enumerate(chosen)
    ]


def _share_ticks(scale: strips.Scale) -> list[strips.Tick]:
    return [strips.Tick(scale.css(share), f"{share:.0%}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]


def _line(row: Row, rank: int, side: int, probe: ProbeResults, scale: strips.Scale, *, digits: int | None) -> Line:
    """`digits`: of a number's differences; None for a class."""
    low, high = interval(row)
    sure = is_sure(row, side)
    if digits is None:
        value, origin, said = _of_class(row)
        reach = 1.0 - origin
    else:
        value, origin, said = _of_number(row, digits)
        reach = scale.high
    nearer = (low if side > 0 else high) or 0.0
    strength = _PALEST + (1 - _PALEST) * side * (nearer - origin) / reach if sure and reach > 0 else 0.0
    m = probe.subsamples
    return Line(
        word=row["word"],
        rank=rank,
        support=numbers.of(row["total"], probe.counted),
        again=numbers.of(round(row["selection"] * m), m) if m and row["selection"] is not None else "",
        held_out=hits_of(row["held_out_hits"], row["held_out_total"]),
        mark=scale.mark(value, low, high, origin=origin),
        sign="pos" if side > 0 else "neg",
        sure=sure,
        strength=f"{min(max(strength, 0.0), 1.0):.2f}",
        **said,
    )


def _of_class(row: Row) -> tuple[float | None, float, dict[str, str]]:
    """The share of the class among texts with the word, among all texts, and what is said of them."""
    low, high = interval(row)
    share = row["hits"] / row["total"] if row["total"] else None
    said = {
        "figure": hits_of(row["hits"], row["total"]),
        "beside": numbers.percent(share),
        "between": numbers.percents(low, high),
        "times": numbers.times(row["lift"]),
    }
    return share, row["base_rate"] or 0.0, said


def _of_number(row: Row, digits: int) -> tuple[float | None, float, dict[str, str]]:
    """The difference that the word makes, zero, and what is said of it."""
    low, high = interval(row)
    inside, outside = (numbers.number(row[name], digits) for name in ("mean_with", "mean_without"))
    said = {
        "figure": numbers.signed(row["difference"], digits),
        "beside": f"{inside} with, {outside} without",
        "between": numbers.interval(low, high, digits, plus=True),
        "times": "",
    }
    return row["difference"], 0.0, said


def hits_of(hits: int | None, total: int | None) -> str:
    return "" if hits is None or not total else f"{numbers.count(hits)}/{numbers.count(total)}"


def _note(chosen: Chosen) -> str:
    """How many words there are, and why the others are not shown."""
    parts = []
    if chosen.rows:
        parts.append(f"Shown: {numbers.of(len(chosen.rows), chosen.ranked)} words that the word model puts forward.")
    else:
        parts.append("The word model puts no word forward here.")
    if chosen.seldom:
        parts.append(f"Left out as seldom found again: {numbers.count(chosen.seldom)}.")
    return " ".join(parts)


def pictured(
    chosen: Sequence[Chosen], probe: ProbeResults, extent: Extent
) -> dict[tuple[int, str], tuple[list[str], list[str]]]:
    """(column, word) -> ids of its examples: where it fits, and where it does not. The first words of each column."""
    most = max(1, _PICTURED // max(1, len(chosen)))
    shown = {}
    for k, one in enumerate(chosen):
        for row in one.rows[:most]:
            fits, misfits = probe.examples.get((one.output, row["word"]), ((), ()))
            ends = (list(fits)[: extent.per_end], list(misfits)[: extent.per_end])
            if ends[0] or ends[1]:
                shown[k, row["word"]] = ends
    return shown
