"""Whether the heat maps show what the model uses: checks on a sample of photos, put into sentences."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.report import numbers, strips

_ALIKE, _SOMEWHAT = 0.9, 0.5  # rank correlations from which maps are called alike, or somewhat alike


@dataclass(frozen=True)
class Line:
    name: str
    value: str
    interval: str
    mark: strips.Mark | None
    ours: bool


@dataclass(frozen=True)
class Check:
    """One check of real maps beside random ones. `passed`: None where the interval holds zero."""

    title: str
    meaning: str
    lines: list[Line]
    ticks: list[strips.Tick]
    sentence: str
    passed: bool | None


@dataclass(frozen=True)
class Faithful:
    """Attributes:
    photos: how many were checked, and why others were not.
    randomised: the sentence on maps of a model whose last layer was drawn anew; empty where not measured.
    same_without_model: those maps are nearly the real ones: the maps say little of what was learned.
    headline: all of it in one sentence.
    """

    photos: str
    checks: list[Check]
    randomised: str
    same_without_model: bool
    headline: str


def faithful(table: pa.Table, *, classes: bool) -> Faithful | None:
    """`table`: schema.FAITHFULNESS. None where nothing was checked."""
    ok = table.filter(pc.is_null(table[schema.ERROR_KIND]))
    checks = [
        check
        for check in (
            _check(ok, "deletion", sign=-1, classes=classes),
            _check(ok, "insertion", sign=1, classes=classes),
        )
        if check is not None
    ]
    if not checks:
        return None
    correlation = _finite(ok, "randomised")
    alike = len(correlation) > 0 and float(np.mean(correlation)) >= _ALIKE
    failed = len(table) - len(ok)
    photos = f"{numbers.plural(len(ok), 'photo')} checked" + (
        f", {numbers.count(failed)} could not be" if failed else ""
    )
    return Faithful(photos, checks, _randomised(correlation), alike, _headline(checks, alike))


def _finite(table: pa.Table, *names: str) -> np.ndarray:
    """(N, columns), rows with a null left out; (N,) for one column."""
    columns = np.stack([table[n].to_numpy(zero_copy_only=False).astype(np.float64) for n in names], axis=1)
    kept = columns[np.isfinite(columns).all(axis=1)]
    return kept[:, 0] if len(names) == 1 else kept


def _check(table: pa.Table, name: str, *, sign: int, classes: bool) -> Check | None:
    """`sign`: 1 where a larger area is the better one.

    The gain is the mean over photos of real minus random (times `sign`), with mean +- 1.96 s / sqrt(n).
    """
    pairs = _finite(table, name, f"{name}_random")
    n = len(pairs)
    if not n:
        return None
    gains = sign * (pairs[:, 0] - pairs[:, 1])
    half = 1.96 * float(np.std(gains, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    gain, better = float(gains.mean()), int((gains > 0).sum())
    passed = True if gain - half > 0 else False if gain + half < 0 else None
    scale = strips.around([*pairs.mean(axis=0)], include_zero=True)
    digits = numbers.decimals([*pairs.mean(axis=0)])
    lines = [
        Line(label, numbers.number(float(value), digits), "", scale.mark(float(value)), ours)
        for label, value, ours in zip(
            ("The model’s maps", "Random maps"), pairs.mean(axis=0), (True, False), strict=True
        )
    ]
    what = "the model’s certainty" if classes else "the prediction"
    title, meaning, verb = {
        "deletion": (
            "Covering the hottest parts first",
            f"Average of {what} while more and more is covered: lower is better",
            "falls faster",
        ),
        "insertion": (
            "Uncovering the hottest parts first",
            f"Average of {what} while more and more is uncovered: higher is better",
            "rises faster",
        ),
    }[name]
    between = numbers.interval(gain - half, gain + half, digits, plus=True) if n > 1 else ""
    sentence = (
        f"{what.capitalize()} {verb} than with random maps of the same heat for {numbers.share(better, n)} photos; "
        f"on average by {numbers.signed(gain, digits)}" + (f" (95% interval {between})." if between else ".")
    )
    return Check(title, meaning, lines, scale.ticks(4), sentence, passed)


def _randomised(correlation: np.ndarray) -> str:
    if not len(correlation):
        return ""
    mean = float(correlation.mean())
    verdict = "nearly the same" if mean >= _ALIKE else "somewhat alike" if mean >= _SOMEWHAT else "different"
    return (
        f"When the model’s last layer is drawn anew, so that it knows nothing, its maps are {verdict}: they agree with "
        f"the real ones to {numbers.number(mean, 2)} on average (1 is the same order of hot and cold places, 0 none; "
        f"{numbers.plural(len(correlation), 'photo')})."
    )


def _headline(checks: list[Check], alike: bool) -> str:
    if all(check.passed for check in checks) and not alike:
        return "The heat maps show places that this model uses: better than random maps do."
    if alike:
        return "The heat maps hardly depend on what the model learned: do not take them for its reasons."
    if any(check.passed is False for check in checks):
        return "The heat maps do worse than random ones in a check: do not take them for the model’s reasons."
    return (
        "It is not certain that the heat maps show what this model uses: they are not clearly better than random ones."
    )
