"""Pictures beside the probe's words: items where a word fits and where it does not, each with the sentence it is in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.report import items, numbers
from seewhy.report.facts import Facts
from seewhy.report.pictures import Picture
from seewhy.report.results import About, ProbeResults
from seewhy.report.sentences import Quote, quote
from seewhy.report.words import Column, Line

_WHOLE = 1200  # characters of a description that a page carries


@dataclass(frozen=True)
class Figure:
    """An item beside a word.

    Attributes:
        picture: None where there is none; the sentence stands alone then.
        href: of the item's own page, if it has one.
        whole: the text, cut where it is very long; empty where the quote already is all of it.
        heat_of: what the heat map explains, said where that is not the predicted class.
        full_red: the raw value that full red stands for; empty without a heat map.
    """

    picture: Picture | None
    href: str
    alt: str
    quote: Quote
    whole: str
    actual: str
    predicted: str
    wrong: bool
    heat_of: str
    full_red: str


@dataclass(frozen=True)
class Pictured:
    """A word of a column and its items: those where it fits, and those where it does not, under their headings."""

    line: Line
    ends: list[tuple[str, list[Figure]]]


def pictured_lines(
    column: Column,
    at: int,
    shown: Mapping[tuple[int, str], tuple[list[str], list[str]]],
    figure: Callable[[str, str], Figure],
    about: About,
    noun: str,
) -> list[Pictured]:
    """The words of column number `at` that have examples; `noun` is what an item is called, in the plural."""
    found = []
    for line in column.lines:
        if (at, line.word) not in shown:
            continue
        headings = _headings(column, about, noun)
        ends = zip(headings, shown[at, line.word], strict=True)
        found.append(Pictured(line, [(label, [figure(i, line.word) for i in ids]) for label, ids in ends if ids]))
    return found


def _headings(column: Column, about: About, noun: str) -> tuple[str, str]:
    many = noun.capitalize()
    if about.classes:
        return f"{many} of {column.name} with this word", f"Other {noun} with this word"
    more, less = ("higher", "lower") if column.side > 0 else ("lower", "higher")
    target = about.target_name
    return f"{many} with this word and a {more} {target}", f"{many} with this word and a {less} {target} all the same"


def figures(
    ids: Sequence[str],
    probe: ProbeResults,
    about: About,
    facts: Facts,
    pictures: Mapping[str, Picture],
    *,
    href: Callable[[str], str] = lambda item_id: "",
) -> Callable[[str, str], Figure]:
    """(item id, word) -> its figure, for the items of `ids`."""
    mine = probe.texts.filter(pc.is_in(probe.texts[schema.ID], value_set=pa.array(ids, pa.string())))
    texts = dict(zip(mine[schema.ID].to_pylist(), mine["text"].to_pylist(), strict=True))

    def figure(item_id: str, word: str) -> Figure:
        text = texts.get(item_id) or ""
        said = quote(text, word, find=probe.find_sentence)
        picture = pictures.get(item_id)
        return Figure(
            picture=picture,
            href=href(item_id),
            alt=items.excerpt(text, 200) or "No description",
            quote=said,
            whole="" if said.text == " ".join(text.split()) else text[:_WHOLE] + ("…" if len(text) > _WHOLE else ""),
            actual=facts.actual(item_id),
            predicted=facts.predicted(item_id),
            wrong=facts.wrong(item_id),
            heat_of=_heat_of(picture, about, facts.predicted_output(item_id)),
            full_red=_full_red(picture),
        )

    return figure


def _heat_of(picture: Picture | None, about: About, predicted: int | None) -> str:
    if picture is None or picture.heat is None or not about.classes or picture.heat.explained == predicted:
        return ""
    return about.classes[picture.heat.explained]


def _full_red(picture: Picture | None) -> str:
    if picture is None or picture.heat is None or not picture.heat.drawn:
        return ""
    return numbers.number(picture.heat.scale, numbers.decimals([picture.heat.scale]))
