"""How well the planted effects came back: the words that a study found beside the factors that were drawn."""

import re
from dataclasses import dataclass

import pyarrow as pa

from seewhy.demo.captions import level_words
from seewhy.demo.factors import FACTORS, NULL_FACTOR, ceiling

MUST_SHOW = 0.3
"""Rating points: every planted effect of this size or more must come back with its sign, above the null factor's."""
R2_SLACK = 0.1
"""How far below the ceiling the out-of-fold R2 may stay."""


@dataclass(frozen=True)
class Recovered:
    """One factor. Effects are rating points of `level` over the factor's other level."""

    factor: str
    level: str
    planted: float
    recovered: float | None
    """None: the words of one of the two levels occur in no explained caption."""

    @property
    def sign_right(self) -> bool:
        return self.recovered is not None and self.planted * self.recovered > 0


@dataclass(frozen=True)
class Comparison:
    """All factors, largest planted effect first, and the fit beside the best possible."""

    rows: tuple[Recovered, ...]
    r2: float | None
    ceiling: float

    @property
    def signs_right(self) -> bool:
        return all(row.sign_right for row in self.rows if abs(row.planted) >= MUST_SHOW)

    @property
    def null_below(self) -> bool:
        """Whether the factor without effect was found smaller than every factor with an effect that must show."""
        sizes = {row.factor: abs(row.recovered) for row in self.rows if row.recovered is not None}
        shown = [row.factor for row in self.rows if abs(row.planted) >= MUST_SHOW]
        null = sizes.get(NULL_FACTOR, 0.0)
        return all(name in sizes and sizes[name] > null for name in shown)

    @property
    def fit_near_ceiling(self) -> bool:
        return self.r2 is not None and self.r2 >= self.ceiling - R2_SLACK

    @property
    def passed(self) -> bool:
        return self.signs_right and self.null_below and self.fit_near_ceiling

    def lines(self) -> list[str]:
        """The comparison as plain text, one line a factor and one each for the three demands."""
        lines = [f"{'factor':<10} {'level':<8} {'planted':>8} {'found':>8}"]
        for row in self.rows:
            found = "none" if row.recovered is None else f"{row.recovered:+.2f}"
            verdict = "no effect planted" if row.planted == 0 else "sign right" if row.sign_right else "SIGN WRONG"
            lines.append(f"{row.factor:<10} {row.level:<8} {row.planted:>+8.2f} {found:>8}  {verdict}")
        right = sum(row.sign_right for row in self.rows if abs(row.planted) >= MUST_SHOW)
        must = sum(abs(row.planted) >= MUST_SHOW for row in self.rows)
        fit = "none" if self.r2 is None else f"{self.r2:.3f}"
        lines.append(f"signs right: {right} of {must} planted effects of {MUST_SHOW} or more")
        lines.append(f"{NULL_FACTOR}, which has no effect, below all of those: {'yes' if self.null_below else 'NO'}")
        lines.append(f"out-of-fold R2 {fit}, ceiling {self.ceiling:.3f}, must be {self.ceiling - R2_SLACK:.3f} or more")
        return lines


def compare(words: pa.Table, *, r2: float | None = None) -> Comparison:
    """The found effects beside the planted ones.

    A level's value is the sum of the Shapley values of the words that only it brings, per caption that tells it; the
    found effect is the second level's value less the first's.

    Args:
        words: the word table (schema.WORDS), for one output.
        r2: out-of-fold R2 of the model that was explained, where known.
    """
    outputs = set(words.column("output").to_pylist())
    if len(outputs) > 1:
        raise ValueError(f"the word table is about {sorted(outputs)}, must be about one output")
    sums, items = _sums(words)
    rows = []
    for name, factor in FACTORS.items():
        first, second = (_level_value(name, level, sums, items) for level in factor.levels)
        found = None if first is None or second is None else second - first
        rows.append(Recovered(name, factor.levels[1], factor.effect, found))
    rows.sort(key=lambda row: -abs(row.planted))
    return Comparison(tuple(rows), r2, ceiling())


def _sums(words: pa.Table) -> tuple[dict[str, float], dict[str, int]]:
    """Word in lower case, without punctuation -> its values summed over captions, and the captions that hold it."""
    sums: dict[str, float] = {}
    items: dict[str, int] = {}
    for row in words.select(["word", "mean_value", "items"]).to_pylist():
        word = "".join(re.findall(r"\w+", row["word"].lower()))
        sums[word] = sums.get(word, 0.0) + row["mean_value"] * row["items"]
        items[word] = items.get(word, 0) + row["items"]
    return sums, items


def _level_value(name: str, level: str, sums: dict[str, float], items: dict[str, int]) -> float | None:
    told = sum(items.get(word, 0) for word in FACTORS[name].words[level])
    if told == 0:
        return None
    return sum(sums.get(word, 0.0) for word in level_words()[name, level]) / told
