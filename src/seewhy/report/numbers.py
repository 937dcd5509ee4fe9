"""How numbers are written in a report: one place, so that every page says them alike."""

import math
from collections.abc import Iterable

MINUS = "−"
NONE = "–"


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def decimals(values: Iterable[float | None]) -> int:
    """Decimal places by the largest of `values`: 0 from 100 on, 1 from 10, 2 from 0.1, else for two digits."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    if largest >= 10:
        return 0 if largest >= 100 else 1
    if largest >= 0.1 or largest == 0:
        return 2
    return min(8, 1 - math.floor(math.log10(largest) + 1e-9))


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
    percent = 100 * part / total
    if 0 < percent < 1:
        return f"{of(part, total)} (under 1%)"
    if 99 < percent < 100:
        return f"{of(part, total)} (over 99%)"
    return f"{of(part, total)} ({percent:.0f}%)"


def plural(n: int, noun: str) -> str:
    """``1 image``, ``2,000 images``."""
    return f"{count(n)} {noun}" + ("" if n == 1 else "s")
