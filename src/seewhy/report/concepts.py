"""The image scores that joined the probe: which of the study's texts, held against the images, go with the target.

A score is not a word: no text holds it, and it is no count. What speaks for it is how the logits of the class's images
differ from those of all others, or for a number how the order of the logits goes with that of the target.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from seewhy.report import numbers, strips
from seewhy.report.results import About, ProbeResults
from seewhy.report.words import Row

_SHOWN = 30  # scores of a class, or of one sign of a number


@dataclass(frozen=True)
class ConceptLine:
    """Attributes:
    figure: the gap of the mean logits, or the rank correlation.
    beside: the two means; empty for a number.
    between: its 95% interval.
    again: subsamples that chose it, of all.
    """

    text: str
    figure: str
    beside: str
    between: str
    again: str
    mark: strips.Mark | None
    sure: bool


@dataclass(frozen=True)
class ConceptColumn:
    name: str
    lines: list[ConceptLine]
    note: str


@dataclass(frozen=True)
class ConceptSection:
    """What templates/concept_parts.html draws; `findings` says whether the page stands behind them."""

    columns: list[ConceptColumn]
    ticks: list[strips.Tick]
    classes: bool
    subsamples: int
    findings: bool
    beside_words: bool


def concept_section(probe: ProbeResults, about: About, *, findings: bool) -> ConceptSection | None:
    """None where no scores joined the probe. Of a class those with a weight for it; of a number both signs."""
    if probe.concepts is None:
        return None
    value = "score_gap" if about.classes else "correlation"
    ends = (f"{value}_low", f"{value}_high")
    ranked = probe.concepts.filter(pc.is_valid(probe.concepts["rank"]))
    sides = [(name, name, 1) for name in about.classes] or [
        (f"Higher {about.target_name}", about.target_name, 1),
        (f"Lower {about.target_name}", about.target_name, -1),
    ]
    shown = [
        (name, side, _rows(ranked, output, side), _rows(probe.concepts, output, side)) for name, output, side in sides
    ]
    figures = [row[key] for _, _, rows, _ in shown for row in rows for key in (value, *ends)]
    scale = strips.symmetric(figures) if about.classes else strips.Scale(-1.0, 1.0)
    digits = numbers.decimals(figures) if about.classes else 2
    columns = [
        ConceptColumn(
            name=name,
            lines=[_line(row, value, side, scale, digits, probe.subsamples) for row in rows[:_SHOWN]],
            note=_note(len(rows), len(weighted) - len(rows)),
        )
        for name, side, rows, weighted in shown
    ]
    return ConceptSection(
        columns, scale.ticks(4), bool(about.classes), probe.subsamples, findings, beside_words=probe.model != "scores"
    )


def _rows(table: pa.Table, output: str, side: int) -> list[Row]:
    """Those of an output whose weight has that sign, the largest first."""
    mine = table.filter(pc.and_(pc.equal(table["output"], output), pc.greater(pc.multiply(table["weight"], side), 0.0)))
    return sorted(mine.to_pylist(), key=lambda row: -abs(row["weight"]))


def _line(row: Row, value: str, side: int, scale: strips.Scale, digits: int, subsamples: int) -> ConceptLine:
    low, high = row[f"{value}_low"], row[f"{value}_high"]
    within, without = (numbers.number(row[name], digits) for name in ("score_in", "score_out"))
    return ConceptLine(
        text=row["word"],
        figure=numbers.signed(row[value], digits),
        beside=f"{within} against {without}" if value == "score_gap" else "",
        between=numbers.interval(low, high, digits, plus=True),
        again=numbers.of(round(row["selection"] * subsamples), subsamples) if subsamples else "",
        mark=scale.mark(row[value], low, high),
        sure=numbers.finite(low) and numbers.finite(high) and (low > 0 if side > 0 else high < 0),
    )


def _note(shown: int, seldom: int) -> str:
    parts = [] if shown else ["No score is put forward here."]
    if shown > _SHOWN:
        parts.append(f"Shown: {numbers.of(_SHOWN, shown)}.")
    if seldom:
        parts.append(f"Left out as seldom found again: {numbers.count(seldom)}.")
    return " ".join(parts)
