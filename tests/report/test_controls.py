"""Which words owe something to the model's map: rows of a probe made by hand, read by their intervals."""

from typing import Any

import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.report import About, ProbeResults
from seewhy.report.controls import CHANCE, EITHER, LOOKED, UNDECIDED, origins, reading
from seewhy.report.words import choose
from tests.report.photo_sample import scores

ABOUT = About("t", "q", "district", "classification", ["north", "south"])
NUMBER = About("t", "q", "rent", "regression")


def of_class(word: str, low: float, high: float, *, rank: int | None = 1, weight: float = 1.0) -> dict[str, Any]:
    """60 of 100 texts with the word are north; the interval of that share is given. Half of all texts are north."""
    lifts = {"lift": 1.2, "lift_low": low / 0.5, "lift_high": high / 0.5}
    counts = {"hits": 60, "total": 100, "base_rate": 0.5, "selection": 0.9}
    return {"output": "north", "word": word, "rank": rank, "weight": weight, **counts, **lifts}


def row(table: dict[str, Any]) -> dict[str, Any]:
    full: dict[str, Any] = pa.Table.from_pylist([table], schema.PROBE).to_pylist()[0]
    return full


def probe(*rows: dict[str, Any], counted: int = 200) -> ProbeResults:
    table = pa.Table.from_pylist(list(rows), schema.PROBE)
    return ProbeResults(table, scores([], 0), counted, pa.table({"id": pa.array([], pa.string()), "text": []}))


CLEAR, STRONG, UNCLEAR, AGAINST = (0.55, 0.65), (0.7, 0.8), (0.45, 0.69), (0.2, 0.4)


OFTEN, RARELY = (0.8, 0.95), (0.1, 0.3)


def read(own: tuple[float, float], control: tuple[float, float] | None, *, said: tuple[float, float] = OFTEN) -> str:
    """Of a word that the describer says of most photos of the class beside the model's map."""
    other = None if control is None else {**row(of_class("w", *control)), "said": said}
    return reading({**row(of_class("w", *own)), "said": OFTEN}, other, 1)


@pytest.mark.parametrize(
    ("own", "control", "expected"),
    [
        (STRONG, UNCLEAR, LOOKED),
        (STRONG, CLEAR, LOOKED),
        (CLEAR, AGAINST, LOOKED),
        (CLEAR, UNCLEAR, UNDECIDED),  # not clear there, but it may be as much to the point
        (CLEAR, None, UNDECIDED),
        (CLEAR, CLEAR, EITHER),
        (CLEAR, STRONG, EITHER),
        (UNCLEAR, CLEAR, CHANCE),
        ((0.5, 0.6), None, CHANCE),  # the base rate itself is in the interval
    ],
)
def test_readings(own: tuple[float, float], control: tuple[float, float] | None, expected: str) -> None:
    assert read(own, control) == expected


def test_a_word_that_is_seldom_said_beside_another_map_comes_from_where_the_model_looks() -> None:
    assert read(CLEAR, CLEAR, said=RARELY) == LOOKED  # to the point when it is said, but that is seldom
    assert read(CLEAR, CLEAR, said=(0.3, 0.81)) == EITHER
    assert read(UNCLEAR, CLEAR, said=RARELY) == CHANCE


@pytest.mark.parametrize("ends", [CLEAR, STRONG, UNCLEAR, (0.505, 0.95)])
def test_equal_descriptions_never_speak_for_the_map(ends: tuple[float, float]) -> None:
    assert read(ends, ends) in (CHANCE, EITHER)


def test_the_map_is_compared_on_the_photos_of_the_controls() -> None:
    """Beside 200 descriptions the 2,000 of all photos are clear by their number alone."""
    whole, part = probe(of_class("tower", *STRONG), counted=2000), probe(of_class("tower", *UNCLEAR), counted=200)
    probes = {"map": whole, "map_sample": part, "none": part}
    found = origins(choose(whole, ABOUT, 10), probes, ABOUT)
    assert found is not None
    assert found.labels == [("Model’s map", 200), ("No map", 200)]
    assert found.groups[0].sources[0].reading == CHANCE


def number(word: str, weight: float, low: float, high: float) -> dict[str, Any]:
    figures = {"mean_with": 1.0, "mean_without": 0.0, "difference": (low + high) / 2}
    ends = {"difference_low": low, "difference_high": high}
    return {
        "output": "rent",
        "word": word,
        "rank": 1,
        "weight": weight,
        "total": 9,
        "selection": 1.0,
        **figures,
        **ends,
    }


def test_a_word_that_lowers_a_number_is_read_downwards() -> None:
    def told(weight: float, low: float, high: float) -> dict[str, Any]:
        return {**row(number("w", weight, low, high)), "said": OFTEN}

    own = told(-1, -3.0, -2.0)
    assert reading(own, told(-1, -1.5, -0.5), -1) == LOOKED
    assert reading(own, told(-1, -2.5, -1.5), -1) == EITHER
    assert reading(own, told(1, 0.5, 1.5), -1) == LOOKED
    assert reading(told(-1, -1.0, 0.1), None, -1) == CHANCE


def test_figures_ranks_and_what_only_a_control_shows() -> None:
    real = probe(of_class("tower", *STRONG), of_class("sky", *UNCLEAR, rank=2, weight=0.5))
    random = probe(of_class("tower", *UNCLEAR, rank=None, weight=0.0), of_class("sky", *CLEAR), counted=150)
    none = probe(
        of_class("bench", *STRONG, weight=3.0),
        of_class("tower", *CLEAR, rank=2),
        of_class("road", *CLEAR, rank=None, weight=0.0),  # clear, but not chosen
        of_class("fog", *CLEAR, rank=4, weight=-1.0),  # speaks against the class
        of_class("haze", *UNCLEAR, rank=3),
    )
    found = origins(choose(real, ABOUT, 10), {"none": none, "map": real, "random": random}, ABOUT)
    assert found is not None
    assert [group.photos for group in found.groups] == [100, None]
    assert found.labels == [("Model’s map", 200), ("Random map", 150), ("No map", 200)]
    north, south = found.groups
    assert [(s.word, s.reading) for s in north.sources] == [("tower", LOOKED), ("sky", CHANCE)]
    assert [(c.figure, c.rank, c.sure) for c in north.sources[0].cells] == [
        ("60/100", "rank 1", True),
        ("60/100", "not chosen", False),
        ("60/100", "rank 2", True),
    ]
    assert [(c.figure, c.rank) for c in north.sources[1].cells] == [
        ("60/100", "rank 2"),
        ("60/100", "rank 1"),
        ("–", "not chosen"),
    ]
    assert north.elsewhere == [("bench", "no map 60/100"), ("sky", "random map 60/100")]
    assert (south.sources, south.elsewhere) == ([], [])
    assert found.tally == {LOOKED: 1, CHANCE: 1}


def test_ranks_of_words_that_lower_a_number_count_from_the_strongest() -> None:
    real = probe(number("up", 2.0, 1, 2), number("down", -1.0, -2, -1), number("deep", -3.0, -4, -3))
    found = origins(choose(real, NUMBER, 10), {"map": real, "none": real}, NUMBER)
    assert found is not None
    assert [g.name for g in found.groups] == ["Higher rent", "Lower rent"]
    lower = found.groups[1].sources
    assert [(s.word, s.cells[1].rank, s.cells[1].figure) for s in lower] == [
        ("deep", "rank 1", "−3.50"),
        ("down", "rank 2", "−1.50"),
    ]


def test_without_controls_there_is_nothing_to_compare() -> None:
    real = probe(of_class("tower", *STRONG))
    assert origins(choose(real, ABOUT, 10), {"map": real}, ABOUT) is None
