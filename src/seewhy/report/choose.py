"""Which words a report puts forward, and which items get a page, from tables of any length in one pass.

Memory follows the number of pages and words put forward, not the number of items.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from seewhy import schema


@dataclass(frozen=True)
class WordRow:
    word: str
    value: float
    low: float | None
    high: float | None
    items: int
    total: int

    @property
    def sure(self) -> bool:
        """The interval is there and lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def strength(self) -> float:
        """The end of the interval nearer to zero, so that a wide interval does not win by luck."""
        if self.low is None or self.high is None:
            return abs(self.value)
        return self.low if self.value > 0 else -self.high


_NEGLIGIBLE = 0.03  # of the largest effect: "the" and "of" with tiny, narrow intervals are not worth a reader's time


@dataclass(frozen=True)
class Chosen:
    """The words put forward for one output, strongest first on either side."""

    up: list[WordRow]
    down: list[WordRow]
    words: int  # in the table for this output
    rare: int  # of them held by fewer than `min_items` items
    small: int  # of the others, those whose effect is under 3% of the largest


def choose_words(words: pa.Table, *, output: str, top: int, min_items: int) -> Chosen:
    """The `top` words that raise `output` and the `top` that lower it, among those held by `min_items` or more."""
    table = words.filter(pc.equal(words["output"], output))
    enough = table.filter(pc.greater_equal(table["items"], min_items))
    found = [
        WordRow(r["word"], r["mean_value"], _number(r["low"]), _number(r["high"]), r["items"], r["total"])
        for r in enough.select(["word", "mean_value", "low", "high", "items", "total"]).to_pylist()
        if _number(r["mean_value"]) is not None
    ]
    least = _NEGLIGIBLE * max((abs(r.value) for r in found), default=0.0)
    ranked = sorted((r for r in found if abs(r.value) >= least), key=lambda r: (-r.strength, r.word))
    chosen = [[r for r in ranked if r.value * side > 0][:top] for side in (1, -1)]
    up, down = (sorted(rows, key=lambda r: (-abs(r.value), r.word)) for rows in chosen)
    return Chosen(up, down, table.num_rows, table.num_rows - enough.num_rows, len(found) - len(ranked))


def _number(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


@dataclass
class Ends:
    """Items whose text holds a word: those where it raised the output most, and those where it did least."""

    high: list[tuple[float, str]] = field(default_factory=list)  # (value, item id), highest first
    low: list[tuple[float, str]] = field(default_factory=list)  # lowest first, none of them in `high`


@dataclass
class Scan:
    explained: int  # items with an explanation
    ends: dict[tuple[str, int], Ends]  # by word and output
    kept: dict[str, pa.Table]  # explanations by item id, one row each: wanted, sampled, and at the ends
    sampled: list[str]  # a seeded random sample of the explained items
    residual: float  # the largest of all: base value and values add up to the prediction within it
    evaluations: int  # the most masked texts that one text was read as


@dataclass
class _Candidates:
    """The best so far; twice as many as are shown, so that no item needs to stand at both ends."""

    most: int
    high: list[tuple[float, str, pa.Table]] = field(default_factory=list)
    low: list[tuple[float, str, pa.Table]] = field(default_factory=list)

    def add(self, ids: list[str], values: np.ndarray, row: Callable[[int], pa.Table], at: np.ndarray) -> None:
        order = sorted(range(len(values)), key=lambda i: (-values[i], ids[at[i]]))
        picked = dict.fromkeys(order[: self.most] + order[::-1][: self.most])
        new = [(float(values[i]), ids[at[i]], row(int(at[i]))) for i in picked]
        self.high = sorted(self.high + new, key=lambda c: (-c[0], c[1]))[: self.most]
        self.low = sorted(self.low + new, key=lambda c: (c[0], c[1]))[: self.most]

    def ends(self) -> Ends:
        half = self.most // 2
        seen = list({c[1]: c for c in [*self.high, *self.low]}.values())
        seen.sort(key=lambda c: (-c[0], c[1]))
        high = seen[: min(half, (len(seen) + 1) // 2)]
        low = seen[len(high) :][::-1][:half]
        return Ends([(v, i) for v, i, _ in high], [(v, i) for v, i, _ in low])


def scan(
    explanations: Iterable[pa.Table],
    *,
    words: Iterable[tuple[str, int]],
    wanted: Iterable[str],
    sample: int,
    per_end: int,
    outputs: int,
    seed: int,
    word_key: Callable[[str], str],
) -> Scan:
    """One pass over `explanations`: what the overview and the item pages need, and no more.

    Args:
        words: (word, output index) whose extreme items are sought; a word as `word_key` gives it.
        wanted: item ids to keep in any case.
        sample: size of the random sample, the same for the same seed in whatever order the tables come.
    """
    pairs = list(words)
    candidates = {pair: _Candidates(2 * per_end) for pair in pairs}
    codes = {word: i for i, word in enumerate(dict.fromkeys(w for w, _ in pairs))}
    by_word: dict[str, list[int]] = {}
    for word, output in pairs:
        by_word.setdefault(word, []).append(output)
    wanted_ids = pa.array(sorted(set(wanted)), pa.string())
    kept: dict[str, pa.Table] = {}
    sampled: list[tuple[int, str, pa.Table]] = []
    explained, residual, evaluations = 0, 0.0, 0
    for table in _usable(explanations):
        ids = table[schema.ID].to_pylist()
        explained += len(ids)
        residual = max(residual, pc.max(table["residual"]).as_py() or 0.0)
        evaluations = max(evaluations, pc.max(table["evaluations"]).as_py() or 0)
        row = _row_of(table)
        for i in np.flatnonzero(pc.is_in(table[schema.ID], value_set=wanted_ids).to_numpy(zero_copy_only=False)):
            kept[ids[i]] = row(int(i))
        sampled = _merge_sample(sampled, ids, row, sample, seed)
        for code, at, sums in _word_sums(table, codes, outputs, word_key):
            word = list(codes)[code]
            for output in by_word[word]:
                candidates[word, output].add(ids, sums[:, output], row, at)
    kept.update({item_id: one for _, item_id, one in sampled})
    ends = {pair: c.ends() for pair, c in candidates.items()}
    for c in candidates.values():
        kept.update({item_id: one for _, item_id, one in [*c.high, *c.low]})
    return Scan(explained, ends, kept, [item_id for _, item_id, _ in sampled], residual, evaluations)


def _usable(explanations: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows that carry an explanation, in tables small enough to take apart."""
    columns = [schema.ID, "fold", "base_values", "outputs", "residual", "evaluations", "words", "sentences"]
    for table in explanations:
        ok = table.filter(pc.is_null(table[schema.ERROR_KIND])).select(columns)
        for start in range(0, ok.num_rows, 4096):
            yield ok.slice(start, 4096).combine_chunks()


def _row_of(table: pa.Table) -> Callable[[int], pa.Table]:
    """Row `i` as a table of its own: copied, for a slice would keep the whole batch alive."""
    made: dict[int, pa.Table] = {}

    def row(i: int) -> pa.Table:
        if i not in made:
            made[i] = table.take([i])
        return made[i]

    return row


def _merge_sample(
    sampled: list[tuple[int, str, pa.Table]], ids: list[str], row: Callable[[int], pa.Table], most: int, seed: int
) -> list[tuple[int, str, pa.Table]]:
    """The `most` items with the smallest seeded hashes: a uniform sample that no order of arrival changes."""
    if most <= 0:
        return []
    limit = sampled[-1][0] if len(sampled) >= most else None
    ranks = [(seeded_rank(item_id, seed), i) for i, item_id in enumerate(ids)]
    better = sorted((rank, ids[i], i) for rank, i in ranks if limit is None or rank <= limit)[:most]
    new = [(rank, item_id, row(i)) for rank, item_id, i in better]
    return sorted(sampled + new, key=lambda s: s[:2])[:most]


def seeded_rank(item_id: str, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(item_id.encode("utf-8", "surrogatepass"), seed=seed)


def _word_sums(
    table: pa.Table, codes: dict[str, int], outputs: int, word_key: Callable[[str], str]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each sought word in the batch: (code, row numbers that hold it, (rows, K) its summed values there)."""
    column = table["words"].combine_chunks()
    flat = pc.list_flatten(column)
    if not codes or len(flat) == 0:
        return
    parents = pc.list_parent_indices(column).to_numpy()
    forms = flat.field("text").dictionary_encode()
    # A few thousand distinct forms a batch: normalising those is cheap, normalising every occurrence is not.
    code_of_form = np.array([codes.get(word_key(f or ""), -1) for f in forms.dictionary.to_pylist()], dtype=np.int64)
    found = code_of_form[forms.indices.to_numpy(zero_copy_only=False)]
    held = np.flatnonzero(found >= 0)
    values = pc.list_flatten(flat.field("values").take(pa.array(held))).to_numpy(zero_copy_only=False)
    if len(values) != len(held) * outputs:
        raise ValueError(f"explanations hold {len(values)} values for {len(held)} words, not {outputs} for each")
    keys, where = np.unique(found[held] * table.num_rows + parents[held], return_inverse=True)
    sums = np.zeros((len(keys), outputs))
    np.add.at(sums, where, np.nan_to_num(values.reshape(-1, outputs), nan=0.0, posinf=0.0, neginf=0.0))
    for code in np.unique(keys // table.num_rows):
        mine = np.flatnonzero(keys // table.num_rows == code)
        yield int(code), keys[mine] % table.num_rows, sums[mine]


def extreme_ids(predictions: pa.Table, *, classes: bool, most: int) -> list[str]:
    """Ids with the highest and lowest target, prediction and error, `most` of each, without repeats."""
    if predictions.num_rows == 0:
        return []
    target = predictions["target"].to_numpy()
    outputs = prediction_matrix(predictions)
    if classes:
        measures = [true_class_probability(target, outputs)]
    else:
        measures = [target, outputs[:, 0], np.abs(target - outputs[:, 0])]
    at: list[int] = []
    for measure in measures:
        order = np.argsort(measure, kind="stable")
        order = order[np.isfinite(measure[order])]
        at += [*order[:most].tolist(), *order[::-1][:most].tolist()]
    return list(dict.fromkeys(predictions[schema.ID].take(at).to_pylist()))


def prediction_matrix(predictions: pa.Table) -> np.ndarray:
    """(N, K) outputs."""
    flat = pc.list_flatten(predictions["outputs"].combine_chunks()).to_numpy(zero_copy_only=False)
    return flat.reshape(predictions.num_rows, -1).astype(np.float64)


def true_class_probability(target: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """(N,) NaN where the row has no target."""
    known = np.isfinite(target)
    at = np.where(known, target, 0).astype(np.int64)
    return np.where(known, outputs[np.arange(len(at)), at], np.nan)


def choose_pages(*, must: Sequence[str], sampled: Sequence[str], others: Iterable[str], max_pages: int) -> list[str]:
    """Ids that get a page: those of `must` first, then of the sample, then of `others`; at most `max_pages`."""
    pages: dict[str, Any] = dict.fromkeys(must[:max_pages])
    for item_id in (*sampled, *others):
        if len(pages) >= max_pages:
            break
        pages.setdefault(item_id)
    return list(pages)
