"""How numbers are written in a report: one place, so that every page says them alike."""

import math
from collections.abc import Iterable
from typing import TypeGuard

import numpy as np

MINUS = "−"
NONE = "–"


def finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def decimals(values: Iterable[float | None]) -> int:
    """Decimal places by the largest of `values`: 0 from 100 on, 1 from 10, 2 from 0.1, else for two digits."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    if largest >= 10:
        return 0 if largest >= 100 else 1
    if largest >= 0.1 or largest == 0:
        return 2
    return min(8, 1 - math.floor(math.log10(largest) + 1e-9))


def spread_decimals(values: np.ndarray) -> tuple[int, int]:
    """Decimals of given values (N,), and of what is worked out of them: as many as the spread of the finite ones asks
    for, the given ones no more than they have.
    """
    seen = values[np.isfinite(values)]
    if len(seen) == 0:
        return 2, 2
    most = decimals([float(np.std(seen)) or float(np.abs(seen).max())])
    exact = next((d for d in range(most) if np.allclose(np.round(seen, d), seen, rtol=0, atol=1e-9)), most)
    return exact, most


def number(value: float | None, digits: int) -> str:
    """``1,234.5`` with a true minus sign; a dash where there is no value; never a negative zero."""
    if value is None or not math.isfinite(value):
        return NONE
    rounded = round(value, digits)
    text = f"{abs(rounded):,.{digits}f}"
    return MINUS + text if rounded < 0 else text


def signed(value: float | None, digits: int) -> str:
    """As `number`, with a plus sign on what is above zero after rounding."""
    text = number(value, digits)
    return "+" + text if value is not None and math.isfinite(value) and round(value, digits) > 0 else text


def interval(low: float | None, high: float | None, digits: int, plus: bool = False) -> str:
    """``0.20 to 0.48``, or empty where a bound is missing."""
    if not (finite(low) and finite(high)):
        return ""
    write = signed if plus else number
    return f"{write(low, digits)} to {write(high, digits)}"


def count(value: int) -> str:
    return f"{value:,}".replace("-", MINUS)


def of(part: int, total: int) -> str:
    """``12 of 600``."""
    return f"{count(part)} of {count(total)}"


def share(part: int, total: int) -> str:
    """``12 of 600 (2%)``: a share never stands without its counts."""
    if total <= 0:
        return of(part, total)
    return f"{of(part, total)} ({percent(part / total)})"


def percent(share: float | None) -> str:
    """``91%``; ``under 1%`` and ``over 99%`` where rounding would claim none or all."""
    if not finite(share):
        return NONE
    value = 100 * share
    if 0 < value < 1:
        return "under 1%"
    return "over 99%" if 99 < value < 100 else f"{value:.0f}%"


def percents(low: float | None, high: float | None) -> str:
    """``84% to 93%``, or empty where a bound is missing."""
    return f"{percent(low)} to {percent(high)}" if finite(low) and finite(high) else ""


def times(factor: float | None) -> str:
    """``3.6×``: how many times as often."""
    return NONE if not finite(factor) else number(factor, 1 if factor < 10 else 0) + "×"


def plural(n: int, noun: str) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{count(n)} {noun}" + ("" if n == 1 else "s")
