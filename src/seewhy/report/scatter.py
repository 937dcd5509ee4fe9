"""Numbers predicted beside the true ones: a point a row, and the same in words for each fifth of the true values."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from seewhy.report import numbers, strips
from seewhy.report.choose import prediction_matrix

_POINTS = 1500
_PARTS = 5


@dataclass(frozen=True)
class Part:
    label: str
    predicted: str
    rows: str


@dataclass(frozen=True)
class Scatter:
    """Attributes:
    points: (x, y) as CSS per cents, true values to the right, predicted ones upwards.
    diagonal: both ends of the line where predicted equals true, as (x, y).
    shown: how many of the rows are drawn.
    parts: a line for each fifth of the true values.
    """

    points: list[tuple[str, str]]
    diagonal: tuple[tuple[str, str], tuple[str, str]]
    x_ticks: list[strips.Tick]
    y_ticks: list[strips.Tick]
    shown: str
    sampled: bool
    parts: list[Part]


def scatter(predictions: pa.Table, *, seed: int) -> Scatter | None:
    """`predictions`: schema.PREDICTIONS of a number. None without a row that has both values."""
    target = predictions["target"].to_numpy(zero_copy_only=False).astype(np.float64)
    predicted = prediction_matrix(predictions)[:, 0] if len(predictions) else np.zeros(0)
    both = np.isfinite(target) & np.isfinite(predicted)
    target, predicted = target[both], predicted[both]
    if not len(target):
        return None
    scale = strips.around([edge(v) for v in (target, predicted) for edge in (np.min, np.max)])
    places = np.arange(len(target))
    if len(places) > _POINTS:
        places = np.sort(np.random.default_rng(seed).choice(len(target), _POINTS, replace=False))
    ticks = scale.ticks(5)
    return Scatter(
        points=[(scale.css(target[i]), _up(scale, predicted[i])) for i in places],
        diagonal=((scale.css(scale.low), _up(scale, scale.low)), (scale.css(scale.high), _up(scale, scale.high))),
        x_ticks=ticks,
        y_ticks=[strips.Tick(f"{100 - float(t.at[:-1]):.2f}%", t.label) for t in ticks],
        shown=numbers.of(len(places), len(target)),
        sampled=len(places) < len(target),
        parts=_parts(target, predicted),
    )


def _up(scale: strips.Scale, value: float) -> str:
    return f"{100 - scale.percent(value):.2f}%"


def _parts(target: np.ndarray, predicted: np.ndarray) -> list[Part]:
    """Rows in the order of their true value, cut into fifths."""
    order = np.argsort(target, kind="stable")
    exact, digits = numbers.spread_decimals(target)
    made = []
    for part in np.array_split(order, min(_PARTS, len(order))):
        low, high = (numbers.number(float(v), exact) for v in (target[part[0]], target[part[-1]]))
        made.append(
            Part(
                label=low if low == high else f"{low} to {high}",
                predicted=numbers.number(float(predicted[part].mean()), digits),
                rows=numbers.count(len(part)),
            )
        )
    return made
