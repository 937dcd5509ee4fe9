"""Rows that two studies predict differently, with their pictures: what each read, and what it made of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seewhy.comparison import Comparison, Example, ModelPair, Said
from seewhy.report import numbers
from seewhy.report.items import excerpt
from seewhy.report.pictures import Picture

_TEXT = 400  # characters of a text that a card carries


@dataclass(frozen=True)
class Side:
    """What one of the two read and predicted; `text` is empty where it is not known."""

    letter: str
    predicted: str
    text: str


@dataclass(frozen=True)
class Card:
    """A row that one of the two comes closer to; `picture` is None where there is none."""

    picture: Picture | None
    actual: str
    row: str
    sides: list[Side]


@dataclass(frozen=True)
class End:
    """The rows that one of the two comes closer to by most."""

    label: str
    cards: list[Card]


def picture_ids(comparison: Comparison) -> list[str]:
    """Ids under which the examples' pictures are asked for."""
    shown = (one for pair in comparison.models for one in (*pair.first_closer, *pair.second_closer))
    return list(dict.fromkeys(item for one in shown for item in (one.first.item, one.second.item)))


def example_ends(pair: ModelPair, target: str, pictures: Mapping[str, Picture]) -> list[End]:
    """Of A and of B, those without a row left out."""
    both = (("A comes closer", pair.first_closer), ("B comes closer", pair.second_closer))
    given, made = _decimals(pair)
    return [
        End(label, [_card(one, target, pictures, given=given, made=made) for one in rows])
        for label, rows in both
        if rows
    ]


def _decimals(pair: ModelPair) -> tuple[int, int]:
    """Of targets, no more than they have, and of predictions: as the typical miss asks for."""
    made = numbers.decimals([one.first.value for one in pair.scores if one.metric == "rmse"])
    targets = [one.target for one in (*pair.first_closer, *pair.second_closer) if isinstance(one.target, float | int)]
    exact = (d for d in range(made) if np.allclose(np.round(targets, d), targets, rtol=0, atol=1e-9))
    return next(exact, made), made


def _card(example: Example, target: str, pictures: Mapping[str, Picture], *, given: int, made: int) -> Card:
    picture = pictures.get(example.first.item) or pictures.get(example.second.item)
    actual = example.target if isinstance(example.target, str) else numbers.number(example.target, given)
    sides = [Side(letter, _predicted(one, made), excerpt(one.text, _TEXT)) for letter, one in _ends(example)]
    return Card(picture, f"{target} {actual}", f"row {numbers.count(example.row + 1)}", sides)


def _ends(example: Example) -> list[tuple[str, Said]]:
    return [("A", example.first), ("B", example.second)]


def _predicted(said: Said, digits: int) -> str:
    """``predicted 6.1``, or ``took it for Ueno; 0.12 for the true class``."""
    if not said.output:
        return f"predicted {numbers.number(said.value, digits)}"
    return f"took it for {said.output}; {numbers.number(said.value, 2)} for the true class"
