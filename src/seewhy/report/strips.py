"""Geometry of the report's charts: values to per cent of a strip's width. The drawing itself is templates/charts.html.

Every chart is a column of strips that share one scale, so marks in different rows can be compared, and each row keeps
its number in words beside it. Positions are per cent of the width, so a strip fits any screen without scripts.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from seewhy.report import numbers

_MARGIN = 4.0  # per cent left free at either end, for the mark's own radius


@dataclass(frozen=True)
class Tick:
    at: str
    label: str


@dataclass(frozen=True)
class Mark:
    """A dot with whiskers, or a bar; positions as CSS per cents.

    Attributes:
        zero: where the origin is, if it is inside the scale.
        sign: "pos", "neg" or "zero", for colour and shape: above, below or at the origin.
        sure: False where the interval holds the origin or is missing: drawn hollow.
    """

    at: str
    low: str | None
    high: str | None
    zero: str | None
    bar_from: str
    bar_width: str
    sign: str
    sure: bool


@dataclass(frozen=True)
class Scale:
    low: float
    high: float

    def percent(self, value: float) -> float:
        span = self.high - self.low
        share = 0.5 if span <= 0 else (min(max(value, self.low), self.high) - self.low) / span
        return _MARGIN + (100 - 2 * _MARGIN) * share

    def css(self, value: float) -> str:
        return f"{self.percent(value):.2f}%"

    def ticks(self, most: int = 5) -> list[Tick]:
        """Round values inside the scale, zero among them if it is inside."""
        span = self.high - self.low
        if span <= 0:
            return []
        raw = span / most
        magnitude = 10.0 ** math.floor(math.log10(raw))
        step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        digits += 0 if math.isclose(step * 10**digits, round(step * 10**digits)) else 1
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [Tick(self.css(k * step), numbers.number(k * step, digits)) for k in range(first, last + 1)]

    def mark(
        self, value: float | None, low: float | None = None, high: float | None = None, origin: float = 0.0
    ) -> Mark | None:
        """The mark of `value`, held against `origin`; None where there is no value to draw."""
        if value is None or not math.isfinite(value):
            return None
        whole = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
        start = min(max(origin, self.low), self.high)
        a, b = sorted((self.percent(start), self.percent(value)))
        return Mark(
            at=self.css(value),
            low=self.css(low) if whole and low is not None else None,
            high=self.css(high) if whole and high is not None else None,
            zero=self.css(origin) if self.low <= origin <= self.high else None,
            bar_from=f"{a:.2f}%",
            bar_width=f"{b - a:.2f}%",
            sign="pos" if value > origin else "neg" if value < origin else "zero",
            sure=bool(whole and low is not None and high is not None and (low > origin or high < origin)),
        )


def symmetric(values: Iterable[float | None]) -> Scale:
    """Zero in the middle, so that left and right lengths can be compared."""
    reach = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0) or 1.0
    return Scale(-reach, reach)


def around(values: Iterable[float | None], include_zero: bool = False) -> Scale:
    """From the smallest to the largest of `values`, widened by a twentieth; never empty."""
    seen = [v for v in values if v is not None and math.isfinite(v)] + ([0.0] if include_zero else [])
    if not seen:
        return Scale(0.0, 1.0)
    low, high = min(seen), max(seen)
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return Scale(0.0 if include_zero and low == 0 else low - pad, 0.0 if include_zero and high == 0 else high + pad)
