"""Which class was taken for which: a matrix of counts, shaded by each true class's own share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from seewhy.report import numbers

_LARGEST = 25  # classes of a matrix that a page can hold
_HEADED = 8  # classes whose names fit over the columns; more have numbers there
_NAMED = 5  # pairs of classes that are named in words


@dataclass(frozen=True)
class Cell:
    """Attributes:
    strength: "0.00" to "1.00", the share of the true class's photos.
    right: on the diagonal.
    """

    count: str
    strength: str
    right: bool
    said: str


@dataclass(frozen=True)
class Line:
    name: str
    total: str
    right: str
    cells: list[Cell]


@dataclass(frozen=True)
class Confusion:
    """Attributes:
    lines: one a true class; without cells where there are too many classes for a matrix.
    headed: the columns' heads have room for the classes' names.
    mistakes: the commonest, in words.
    """

    classes: list[str]
    lines: list[Line]
    mistakes: list[str]
    right: str
    matrix: bool
    headed: bool


def confusion(table: pa.Table, classes: Sequence[str]) -> Confusion:
    """`table`: (truth, predicted, count), classes by name.

    Raises:
        ValueError: a class that is none of `classes`.
    """
    counts = _counts(table, classes)
    totals = counts.sum(axis=1)
    matrix = len(classes) <= _LARGEST
    lines = []
    for i, name in enumerate(classes):
        cells = [_cell(counts[i], j, name, classes[j]) for j in range(len(classes))] if matrix else []
        hit = int(counts[i, i])
        lines.append(Line(name, numbers.count(int(totals[i])), numbers.share(hit, int(totals[i])), cells))
    return Confusion(
        classes=list(classes),
        lines=lines,
        mistakes=_mistakes(counts, classes),
        right=numbers.share(int(np.trace(counts)), int(counts.sum())),
        matrix=matrix,
        headed=len(classes) <= _HEADED,
    )


def _counts(table: pa.Table, classes: Sequence[str]) -> np.ndarray:
    """(K, K) true class by predicted class."""
    place = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for record in table.to_pylist():
        for key in ("truth", "predicted"):
            if record[key] not in place:
                raise ValueError(f"confusion holds the class {record[key]!r}; the classes are {', '.join(classes)}")
        counts[place[record["truth"]], place[record["predicted"]]] += record["count"]
    return counts


def _cell(row: np.ndarray, j: int, truth: str, predicted: str) -> Cell:
    count, total = int(row[j]), int(row.sum())
    share = count / total if total else 0.0
    return Cell(
        count=numbers.count(count),
        strength=f"{share:.2f}",
        right=truth == predicted,
        said=f"{numbers.share(count, total)} of {truth}, taken for {predicted}",
    )


def _mistakes(counts: np.ndarray, classes: Sequence[str]) -> list[str]:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = sorted(zip(*np.nonzero(wrong), strict=True), key=lambda at: (-wrong[at], at))[:_NAMED]
    return [
        f"{classes[i]} taken for {classes[j]}: {numbers.share(int(wrong[i, j]), int(counts[i].sum()))}"
        for i, j in order
    ]
