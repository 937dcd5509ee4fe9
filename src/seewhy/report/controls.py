"""Where the words come from: the same words counted in what the describer said beside other maps, or none.

A word that predicts the target when the describer sees the model's own heat map may come from where the model looked,
or just from the photo. The controls tell which: beside a random map, or none, the describer knows nothing of the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seewhy.intervals import wilson
from seewhy.report import numbers
from seewhy.report.results import CONTROLS, MAP, MAP_SAMPLE, About, ProbeResults
from seewhy.report.words import Chosen, Row, hits_of, interval, is_sure, title

LABELS = {"map": "Model’s map", "random": "Random map", "none": "No map"}
LOOKED, EITHER = "from where the model looks", "from the photo, wherever the model looks"
UNDECIDED, CHANCE = "too few descriptions to tell", "may be chance"
READINGS = (LOOKED, EITHER, UNDECIDED, CHANCE)
_ELSEWHERE = 5  # words a class that are clear under a control only


@dataclass(frozen=True)
class Cell:
    """A word under one description: hits/total or difference, its rank, and whether it is clear of chance."""

    figure: str
    rank: str
    sure: bool


@dataclass(frozen=True)
class Source:
    word: str
    cells: list[Cell]
    reading: str


@dataclass(frozen=True)
class Group:
    """A column's words.

    Attributes:
        photos: of the class, among those described; None for a number.
        elsewhere: words clear under a control alone, with label and figure.
    """

    name: str
    photos: int | None
    sources: list[Source]
    elsewhere: list[tuple[str, str]]


@dataclass(frozen=True)
class Origins:
    """Attributes:
    labels: what was seen beside the photo, and how many descriptions there are.
    tally: reading -> how many of the words shown, those that occur.
    """

    labels: list[tuple[str, int]]
    groups: list[Group]
    tally: dict[str, int]


def origins(chosen: Sequence[Chosen], probes: Mapping[str, ProbeResults], about: About) -> Origins | None:
    """None where there is no control to compare with."""
    there = [control for control in CONTROLS if control in probes]
    if len(there) < 2:
        return None
    probes = {**probes, MAP: probes.get(MAP_SAMPLE, probes[MAP])}  # the same photos for all
    rows = {control: _by_word(probes[control]) for control in there}
    digits = numbers.decimals(r["difference"] for c in chosen for r in c.rows)
    groups = [
        Group(
            name=title(one, about),
            photos=_photos(rows[MAP], one.output, probes[MAP].counted),
            sources=[_source(row, one, rows, there, digits) for row in one.rows],
            elsewhere=_elsewhere(one, rows, there[1:], digits),
        )
        for one in chosen
    ]
    readings = [source.reading for group in groups for source in group.sources]
    tally = {reading: readings.count(reading) for reading in READINGS if reading in readings}
    labels = [(LABELS[c], probes[c].counted) for c in there]
    return Origins(labels, groups, tally)


def _photos(rows: Mapping[tuple[str, str], Row], output: str, counted: int) -> int | None:
    shares = [row["base_rate"] for (name, _), row in rows.items() if name == output and row["base_rate"] is not None]
    return round(shares[0] * counted) if shares else None


def _by_word(probe: ProbeResults) -> dict[tuple[str, str], Row]:
    """The table's rows, each with its `place` among the chosen words of its output and sign, and with the interval of
    the share of photos, of the class where there is one, that the word is `said` of."""
    found = {(r["output"], r["word"]): {**r, "place": None} for r in probe.table.to_pylist()}
    for row in found.values():
        of_class = row["hits"] is not None and row["base_rate"] is not None
        held, photos = (
            (row["hits"], round(row["base_rate"] * probe.counted)) if of_class else (row["total"], probe.counted)
        )
        row["said"] = tuple(float(end[0]) for end in wilson(np.array([held]), np.array([photos])))
    chosen = sorted((r for r in found.values() if r["rank"] is not None), key=lambda r: (-abs(r["weight"]), r["rank"]))
    places: dict[tuple[str, bool], int] = {}
    for row in chosen:
        side = (row["output"], row["weight"] > 0)
        row["place"] = places[side] = places.get(side, 0) + 1
    return found


def _source(
    row: Row, chosen: Chosen, rows: Mapping[str, dict[tuple[str, str], Row]], there: Sequence[str], digits: int
) -> Source:
    found = {control: rows[control].get((chosen.output, row["word"])) for control in there}
    cells = [_cell(found[control], chosen.side, digits) for control in there]
    return Source(row["word"], cells, reading(found[MAP], found[there[1]], chosen.side))


def reading(row: Row | None, control: Row | None, side: int) -> str:
    """What the word owes to the model's map: one of READINGS, by 95% intervals over the same photos.

    Args:
        row, control: of `_by_word`, beside the model's map and beside a random one (or none, where that is all there
            is). With no map a describer names what there is to see: that tells what is in the photo, and not where the
            model looked.

    CHANCE: the word's interval beside the model's map does not lie on the word's side. LOOKED: the describer says the
    word of clearly fewer of the class's photos without that map, or what it says there is clearly less to the point,
    without overlap of the intervals. EITHER: it is as much to the point there. UNDECIDED: neither is clear.
    """
    if row is None or not is_sure(row, side):
        return CHANCE
    if control is None:
        return UNDECIDED
    if row["said"][0] > control["said"][1] or _less_to_the_point(control, row, side):
        return LOOKED
    return EITHER if is_sure(control, side) else UNDECIDED


def _less_to_the_point(control: Row, row: Row, side: int) -> bool:
    """The interval of the class's share, or of the difference, lies nearer to no effect."""
    near, far = interval(row)[0 if side > 0 else 1], interval(control)[1 if side > 0 else 0]
    return near is not None and far is not None and side * far < side * near


def _cell(row: Row | None, side: int, digits: int) -> Cell:
    if row is None:
        return Cell(numbers.NONE, "not chosen", False)
    if row["difference"] is not None:
        figure = numbers.signed(row["difference"], digits)
    else:
        figure = hits_of(row["hits"], row["total"]) or numbers.NONE
    chosen = row["place"] is not None and row["weight"] * side > 0
    rank = f"rank {row['place']}" if chosen else "not chosen" if row["total"] else "never said"
    return Cell(figure, rank, is_sure(row, side))


def _elsewhere(
    chosen: Chosen, rows: Mapping[str, dict[tuple[str, str], Row]], controls: Sequence[str], digits: int
) -> list[tuple[str, str]]:
    """Words that a control chose and that are clear there, but not with the model's map; the surest first."""
    found: dict[str, tuple[float, list[str]]] = {}
    for control in controls:
        for (output, word), row in rows[control].items():
            mine = rows[MAP].get((output, word))
            if output != chosen.output or row["rank"] is None or row["weight"] * chosen.side <= 0:
                continue
            if not is_sure(row, chosen.side) or (mine is not None and is_sure(mine, chosen.side)):
                continue
            near = interval(row)[0 if chosen.side > 0 else 1] or 0.0
            said = f"{LABELS[control].lower()} {_cell(row, chosen.side, digits).figure}"
            best, parts = found.get(word, (0.0, []))
            found[word] = (max(best, abs(near)), [*parts, said])
    ranked = sorted(found.items(), key=lambda f: (-f[1][0], f[0]))[:_ELSEWHERE]
    return [(word, ", ".join(parts)) for word, (_, parts) in ranked]
