"""From the words of each text to the words of the corpus: what each is worth where it stands, and how sure that is.

A word's value in an item is the sum of its occurrences' values there. Its mean runs over the items that hold it. The
interval of the mean is a percentile bootstrap in which items are drawn again with replacement (B. Efron, 1979).

Tables come in chunks and are read once. What is kept for a word does not grow with the number of items: up to `bins`
values, one an item; from then on the values are dealt to the bins in turn and only each bin's sum and number is kept,
and the bootstrap draws bins instead of items. A bin's mean varies as its items do, divided by their number, so the
interval keeps its width; with 1,000 bins it is as good as any.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema

_DRAWN_AT_ONCE = 20_000_000  # numbers, in the bootstrap's largest array


@dataclass(frozen=True)
class CorpusWords:
    """The words, and what the table does not show."""

    table: pa.Table  # schema.WORDS, largest |mean_value| first
    items: int  # explained items that were read: the table's `total`
    failed: int  # rows that hold a failure instead
    rare: int  # words that too few items hold, left out of the table
    rare_occurrences: int


class _Word:
    """Running figures of one word over the items that hold it."""

    __slots__ = ("absolute", "count", "items", "sums")

    def __init__(self, outputs: int) -> None:
        self.items = 0
        self.count = 0
        self.absolute = np.zeros(outputs)
        self.sums = np.zeros((1, outputs))  # (bins in use or more, K)

    def add(self, values: np.ndarray, *, count: int, bins: int) -> None:
        """Takes in (M, K) values of M further items and the number of occurrences behind them."""
        places = np.arange(self.items, self.items + len(values)) % bins
        self.items += len(values)
        self.count += count
        self.absolute += np.abs(values).sum(axis=0)
        if (needed := min(self.items, bins)) > len(self.sums):
            grown = np.zeros((min(max(needed, 2 * len(self.sums)), bins), self.sums.shape[1]))
            grown[: len(self.sums)] = self.sums
            self.sums = grown
        np.add.at(self.sums, places, values)


def corpus_words(
    chunks: Iterable[pa.Table],
    *,
    output_names: Sequence[str],
    min_items: int = 5,
    replicates: int = 1000,
    bins: int = 1000,
    seed: int = 42,
) -> CorpusWords:
    """Mean values of a corpus's words, lower-cased; words without a letter or digit are left out.

    Args:
        chunks: tables of schema.EXPLANATIONS, read once, in order.
        output_names: K names, the classes or the target's name.
        min_items: words that fewer items hold are counted and left out.
        replicates: of the bootstrap.
        bins: values kept a word, see the head of this file.

    Raises:
        ValueError: a setting out of range, or values that are not as many as the names.
    """
    for name, value in (("min_items", min_items), ("replicates", replicates), ("bins", bins)):
        if value < 1:
            raise ValueError(f"{name}={value!r}: 1 or more is allowed")
    words: dict[str, _Word] = {}
    items = failed = 0
    for chunk in chunks:
        ok = chunk.filter(pc.is_null(chunk[schema.ERROR_KIND]))
        items += len(ok)
        failed += len(chunk) - len(ok)
        for word, values, count in _per_item(ok, outputs=len(output_names)):
            words.setdefault(word, _Word(len(output_names))).add(values, count=count, bins=bins)
    kept = {word: figures for word, figures in words.items() if figures.items >= min_items}
    rows = _rows(kept, output_names=output_names, total=items, replicates=replicates, bins=bins, seed=seed)
    return CorpusWords(
        table=pa.Table.from_pylist(rows, schema=schema.WORDS),
        items=items,
        failed=failed,
        rare=len(words) - len(kept),
        rare_occurrences=sum(figures.count for word, figures in words.items() if word not in kept),
    )


def _per_item(table: pa.Table, *, outputs: int) -> Iterator[tuple[str, np.ndarray, int]]:
    """For each word of the chunk: its summed value in each item that holds it, (M, K), and its occurrences."""
    column = table["words"].combine_chunks()
    spans = pc.list_flatten(column)
    if not len(spans):
        return
    item = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    numbers = pc.struct_field(spans, "values")
    if wrong := set(pc.unique(pc.list_value_length(numbers)).to_pylist()) - {outputs}:
        raise ValueError(f"a word has {min(wrong)} values for {outputs} output names")
    values = pc.list_flatten(numbers).to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, outputs)
    coded = pc.dictionary_encode(pc.struct_field(spans, "text"))
    surfaces = [_normal(surface) for surface in coded.dictionary.to_pylist()]
    names = sorted({surface for surface in surfaces if surface})
    place = {name: i for i, name in enumerate(names)}
    code = np.array([place.get(surface, -1) for surface in surfaces])[coded.indices.to_numpy(zero_copy_only=False)]
    shown = code >= 0
    # words in order, items in order within a word
    keys, where, counts = np.unique(
        code[shown].astype(np.int64) * len(table) + item[shown], return_inverse=True, return_counts=True
    )
    sums = np.stack([np.bincount(where, weights=column, minlength=len(keys)) for column in values[shown].T], axis=1)
    edges = np.searchsorted(keys, np.arange(len(names) + 1) * len(table))
    for i, name in enumerate(names):
        yield name, sums[edges[i] : edges[i + 1]], int(counts[edges[i] : edges[i + 1]].sum())


def _normal(surface: str) -> str:
    """Lower case, one form for letters that can be written in two ways; empty where there is no letter or digit."""
    return unicodedata.normalize("NFC", surface.lower()) if any(letter.isalnum() for letter in surface) else ""


def _rows(
    words: dict[str, _Word], *, output_names: Sequence[str], total: int, replicates: int, bins: int, seed: int
) -> list[dict[str, object]]:
    intervals = _intervals(words, replicates=replicates, bins=bins, seed=seed)
    rows: list[dict[str, object]] = []
    for word, figures in words.items():
        means = figures.sums.sum(axis=0) / figures.items
        for k, output in enumerate(output_names):
            rows.append(
                {
                    "word": word,
                    "output": output,
                    "mean_value": float(means[k]),
                    "mean_abs_value": float(figures.absolute[k] / figures.items),
                    "low": float(intervals[word][0, k]),
                    "high": float(intervals[word][1, k]),
                    "count": figures.count,
                    "items": figures.items,
                    "total": total,
                }
            )
    order = {name: k for k, name in enumerate(output_names)}
    rows.sort(key=lambda row: (-abs(row["mean_value"]), row["word"], order[row["output"]]))  # type: ignore[arg-type, index]
    return rows


def _intervals(words: dict[str, _Word], *, replicates: int, bins: int, seed: int) -> dict[str, np.ndarray]:
    """word -> (2, K) the 2.5% and 97.5% quantiles of its bootstrapped means.

    Words that equally many items hold share their draws: a product of matrices then does all of them at once, and
    each word's own interval is what it would be alone.
    """
    by_items: dict[int, list[str]] = {}
    for word, figures in words.items():
        by_items.setdefault(figures.items, []).append(word)
    found: dict[str, np.ndarray] = {}
    for items, group in by_items.items():
        used = min(items, bins)
        weights = np.random.default_rng([seed, items]).multinomial(used, np.full(used, 1 / used), size=replicates)
        held = items // bins + (np.arange(used) < items % bins) if items > bins else np.ones(used)
        drawn = weights @ held  # items behind each replicate
        at_once = max(1, _DRAWN_AT_ONCE // (replicates * len(words[group[0]].absolute)))
        for start in range(0, len(group), at_once):
            some = group[start : start + at_once]
            sums = np.stack([words[word].sums[:used] for word in some], axis=1)  # (bins, W, K)
            means = np.tensordot(weights.astype(float), sums, axes=1) / drawn[:, None, None]
            quantiles = np.quantile(means, [0.025, 0.975], axis=0)  # (2, W, K)
            found.update({word: quantiles[:, i] for i, word in enumerate(some)})
    return found
