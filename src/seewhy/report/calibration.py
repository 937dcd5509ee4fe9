"""Whether the model is as often right as it says: its confidence beside its accuracy, bin by bin."""

from dataclasses import dataclass

import pyarrow as pa

from seewhy.report import numbers, strips

_SCALE = strips.Scale(0.0, 1.0)
_FEW = 10  # photos below which a bin says little


@dataclass(frozen=True)
class Bin:
    """Attributes:
    said: where the mean confidence of its photos lies on the strip.
    few: too few photos to say much.
    """

    label: str
    right: str
    accuracy: str
    confidence: str
    mark: strips.Mark | None
    said: str
    few: bool


@dataclass(frozen=True)
class Calibration:
    """Attributes:
    error: expected calibration error.
    leaning: whether it says too much or too little, in words.
    """

    error: str
    photos: str
    leaning: str
    bins: list[Bin]
    ticks: list[strips.Tick]


def calibration(table: pa.Table) -> Calibration | None:
    """None where no bin holds a photo.

    The expected calibration error is ``sum(count * |accuracy - confidence|) / sum(count)`` over the bins (C. Guo, G.
    Pleiss, Y. Sun and K. Weinberger, On calibration of modern neural networks, 2017).
    """
    filled = [r for r in table.to_pylist() if r["count"]]
    n = sum(r["count"] for r in filled)
    if not n:
        return None
    error = sum(r["count"] * abs(r["accuracy"] - r["confidence"]) for r in filled) / n
    lean = sum(r["count"] * (r["confidence"] - r["accuracy"]) for r in filled) / n
    return Calibration(
        error=f"{100 * error:.1f}",
        photos=numbers.plural(n, "photo"),
        leaning=_leaning(100 * lean),
        bins=[_bin(r) for r in filled],
        ticks=[strips.Tick(_SCALE.css(s), f"{s:.0%}") for s in (0.0, 0.5, 1.0)],
    )


def _leaning(points: float) -> str:
    if abs(points) < 1:
        return "On the whole it is neither too sure nor too little sure."
    how = "surer than it should be" if points > 0 else "less sure than it could be"
    return f"On the whole it is {how}, by {abs(points):.0f} points."


def _bin(row: dict[str, float]) -> Bin:
    count = int(row["count"])
    return Bin(
        label=f"{row['bin_low']:.0%} to {row['bin_high']:.0%}",
        right=numbers.of(round(row["accuracy"] * count), count),
        accuracy=numbers.percent(row["accuracy"]),
        confidence=numbers.percent(row["confidence"]),
        mark=_SCALE.mark(row["accuracy"]),
        said=_SCALE.css(row["confidence"]),
        few=count < _FEW,
    )
