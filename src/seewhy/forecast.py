"""What the rest of a stage will take, from a random sample of its rows: tokens, money, time, each with an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A sum to come, and the 95% interval that it should lie in; without one where there was too little to judge by."""

    middle: float
    low: float | None = None
    high: float | None = None

    def times(self, factor: float) -> "Estimate":
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Estimate(self.middle * factor, low, high)

    def at_least(self, floor: float) -> "Estimate":
        """Where something else sets a lower bound."""
        low, high = (None if end is None else max(end, floor) for end in (self.low, self.high))
        return Estimate(max(self.middle, floor), low, high)


def total(seen: Sequence[float] | np.ndarray, rows: float) -> Estimate:
    """The sum over `rows` rows to come, by the values of a random sample of n rows.

    A 95% prediction interval: with mean m, standard deviation s and Student's t of n - 1 degrees of freedom,
        rows m -+ t s rows sqrt(1/n + 1/rows)
    (see Hahn and Meeker, Statistical Intervals, 1991, section 4.8). It takes the rows' values for normal, or their
    mean for one of many; it is cut at 0.

    Raises:
        ValueError: nothing was seen.
    """
    values = np.asarray(seen, dtype=np.float64)
    if not len(values):
        raise ValueError("no row was seen")
    middle = rows * float(values.mean())
    if len(values) < 2 or rows <= 0:
        return Estimate(middle)
    spread = float(values.std(ddof=1)) * rows * math.sqrt(1 / len(values) + 1 / rows)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    return Estimate(middle, max(0.0, middle - half), middle + half)


def block_seconds(
    seconds: Sequence[float], rows: Sequence[int], *, in_flight: int | None, rows_per_block: int
) -> list[float]:
    """What a block of the study would have taken, by each block of a pilot.

    Args:
        seconds, rows: of the pilot's blocks.
        in_flight: rows that a worker asks a service about at once: a block takes as long as its slowest answer, and as
            many times that as it has turns. None for a model that runs here, whose time grows with the rows.
    """
    if in_flight is None:
        return [took / count * rows_per_block for took, count in zip(seconds, rows, strict=True)]
    turns = [math.ceil(count / in_flight) for count in rows]
    return [took / had * math.ceil(rows_per_block / in_flight) for took, had in zip(seconds, turns, strict=True)]


def least_seconds(rows: float, tokens: float, *, per_minute: float | None, tokens_per_minute: float | None) -> float:
    """Below which a service's limits allow no end, however many workers ask."""
    by_requests = 0.0 if per_minute is None else 60 * rows / per_minute
    by_tokens = 0.0 if tokens_per_minute is None else 60 * tokens / tokens_per_minute
    return max(by_requests, by_tokens)
