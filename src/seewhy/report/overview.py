"""What the overview page says of words and their pictures, worked out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from seewhy.report import numbers, strips
from seewhy.report.choose import Chosen, Ends, WordRow


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
