"""How well the districts' typical words came back: the words that a probe ranked beside those that were planted."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from seewhy.demo.districts import NEVER_MATTERS, best_accuracy, planted_words

TOP = 10
"""Ranks in which a planted word must come back, and in which the word that never matters must not."""
MUST_FIND = 9
"""Of the ten planted words."""


@dataclass(frozen=True)
class Planted:
    """One planted word.

    Attributes:
        rank: in its own district, from 1; None where the probe gave the word no place there.
        hits, total: texts of the district that hold the word, and all that hold it; None without a rank.
    """

    district: str
    word: str
    rank: int | None
    hits: int | None
    total: int | None

    @property
    def found(self) -> bool:
        return self.rank is not None and self.rank <= TOP


@dataclass(frozen=True)
class PhotoComparison:
    """What came back of the planted words, and how well words alone tell the districts.

    Attributes:
        rows: planted words, district by district.
        never_ranks: district -> rank of the word that never matters, where it has one.
        words_accuracy: of the probe on texts that it was not fitted to, 0 to 1; None where it is not known.
        image_accuracy: of the image model out of fold, the same.
        best: the accuracy that no model can beat in expectation.
    """

    rows: tuple[Planted, ...]
    never_ranks: Mapping[str, int]
    words_accuracy: float | None
    image_accuracy: float | None
    best: float

    @property
    def found(self) -> int:
        return sum(row.found for row in self.rows)

    @property
    def never_absent(self) -> bool:
        """Whether the word that never matters is in no district's first TOP."""
        return all(rank > TOP for rank in self.never_ranks.values())

    @property
    def passed(self) -> bool:
        return self.found >= MUST_FIND and self.never_absent

    def lines(self) -> list[str]:
        """The comparison as plain text, one line a planted word and one for each of the demands."""
        lines = [f"{'district':<8} {'word':<8} {'rank':>4} {'hits/total':>11}"]
        for row in self.rows:
            rank, counts = ("none", "") if row.rank is None else (str(row.rank), f"{row.hits}/{row.total}")
            verdict = f"in the top {TOP}" if row.found else f"NOT in the top {TOP}"
            lines.append(f"{_wide(row.district, 8)} {_wide(row.word, 8)} {rank:>4} {counts:>11}  {verdict}")
        lines.append(f"planted words in the top {TOP} of their district: {self.found} of {len(self.rows)}")
        lines.append(f"{NEVER_MATTERS}, which never matters, in no top {TOP}: {'yes' if self.never_absent else 'NO'}")
        lines += [f"  its rank in {district}: {place}" for district, place in self.never_ranks.items()]
        lines.append(
            f"accuracy: words alone {_share(self.words_accuracy)}, image model {_share(self.image_accuracy)}, "
            f"best possible {self.best:.3f}"
        )
        return lines


def compare_photos(
    probe: pa.Table, *, words_accuracy: float | None = None, image_accuracy: float | None = None
) -> PhotoComparison:
    """The planted words beside the probe's.

    Args:
        probe: schema.PROBE over the districts, one row an output and word; words that speak against a district
            (weight 0 or less) have no place in it, whatever their rank.

    Raises:
        ValueError: the table holds none of the districts.
    """
    ranks: dict[tuple[str, str], tuple[int, int | None, int | None]] = {}
    for row in probe.select(["output", "rank", "word", "weight", "hits", "total"]).to_pylist():
        if row["weight"] > 0 and row["rank"] is not None:
            ranks[row["output"], row["word"]] = (row["rank"], row["hits"], row["total"])
    planted = planted_words()
    if not {output for output, _ in ranks} & planted.keys():
        outputs = sorted(set(probe.column("output").to_pylist()))
        raise ValueError(f"the probe is about {outputs}, must be about {list(planted)}")
    rows = tuple(
        Planted(district, word, *ranks.get((district, word), (None, None, None)))
        for district, words in planted.items()
        for word in words
    )
    never = {district: ranks[district, NEVER_MATTERS][0] for district in planted if (district, NEVER_MATTERS) in ranks}
    return PhotoComparison(rows, never, words_accuracy, image_accuracy, best_accuracy())


def _wide(text: str, width: int) -> str:
    """Padded on the right; a Japanese character takes two columns of a terminal."""
    return text + " " * max(0, width - 2 * len(text))


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"
