"""How often each word stands in each text, for any number of texts: two passes over the parts of a table of words.

The first pass counts in how many texts each word stands, part by part, and adds the parts up. From that follows the
vocabulary. The second counts the vocabulary's words in each text. Texts are read where they lie and never gathered or
shuffled; what travels are counts, and the vocabulary, once a node.

Both passes are tasks over parts (`tasks`), not a Ray Dataset: a part's counts come back in the order of the
parts, the vocabulary is shared without being copied into every block, and the same functions run without a cluster.

The order of the result depends on nothing but the texts: rows in the order asked, words by the number of texts that
hold them, most first, equals in the order of their characters.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from seewhy.schema import ERROR_KIND, ID
from seewhy.table import Table, read_rows
from seewhy.tasks import map_tasks

WORDS = "words"

_T = TypeVar("_T")
_Place = tuple[str, np.ndarray]
"""URL of a part, and the rows of it that are asked for, (M,) ascending."""


@dataclass(frozen=True)
class Frequencies:
    """In how many of `total` texts each word stands."""

    texts: Counter[str]
    total: int


@dataclass(frozen=True)
class Vocabulary:
    """Words that are counted, in the order of the columns.

    Attributes:
        words: V of them.
        texts: (V,) int64, in how many of `total` texts each stands.
    """

    words: tuple[str, ...]
    texts: np.ndarray
    total: int


@dataclass(frozen=True)
class WordCounts:
    """Attributes:
    ids: (N,) the texts, as they were asked for; one that was asked for twice stands twice.
    matrix: (N, V) int32, compressed rows with sorted columns.
    """

    ids: pa.Array
    vocabulary: Vocabulary
    matrix: sparse.csr_matrix


def count_words(
    batches: Sequence[pa.Table],
    ids: pa.Array | pa.ChunkedArray | None = None,
    *,
    min_texts: float = 5,
    max_texts: float = 1.0,
    most: int | None = 20_000,
    words: Sequence[str] | None = None,
) -> WordCounts:
    """Counts words of texts in memory. The arguments are those of `count_table`.

    Args:
        batches: columns `id` (without repeats over all of them) and `words`.
        ids: None: all, in the order of the batches.
    """
    if ids is not None:
        batches = [batch.filter(pc.is_in(batch[ID], value_set=_array(ids))) for batch in batches]
    held = pa.chunked_array([chunk for batch in batches for chunk in batch[ID].chunks], pa.string())
    cut = _Cut(min_texts, max_texts, most, words)
    return _two_passes(batches, _itself, held, ids, cut, here=True)


def count_table(
    table: Table,
    ids: pa.Array | pa.ChunkedArray | None = None,
    *,
    min_texts: float = 5,
    max_texts: float = 1.0,
    most: int | None = 20_000,
    words: Sequence[str] | None = None,
    texts_per_task: int = 20_000,
    here: bool = False,
) -> WordCounts:
    """Counts words of a table of schema.TOKENS, on the cluster where this process has joined one.

    Args:
        ids: the texts asked for, in the order of the rows wanted; may repeat. None: all that are ok, in the table's
            order.
        min_texts: words in fewer texts are left out: a whole number of texts, or a float for a share (0.01 is 1%).
            Each text counts once, however often it is asked for.
        max_texts: and words in more than that.
        most: of the words left, those that stand in the most texts.
        words: count these, in this order, in however many texts they stand.
        texts_per_task: parts are put together up to so many texts.
        here: without the cluster.

    Raises:
        ValueError: a setting out of range, or an id whose words the table lacks.
    """
    index = table.index()
    index = index.filter(pc.is_null(index[ERROR_KIND]))
    if ids is not None:
        index = index.filter(pc.is_in(index[ID], value_set=_array(ids)))
    places = _places(table.parts(), index, texts_per_task)
    return _two_passes(places, _read, index[ID], ids, _Cut(min_texts, max_texts, most, words), here=here)


def document_frequencies(batches: Iterable[pa.Table]) -> Frequencies:
    """In how many of the texts each word stands. Reads the batches once, whatever their number."""
    texts: Counter[str] = Counter()
    total = 0
    for batch in batches:
        total += len(batch)
        words, text = _flat(batch)
        coded = pc.dictionary_encode(words)
        size = max(1, len(coded.dictionary))
        pairs = np.unique(text.astype(np.int64) * size + coded.indices.to_numpy(zero_copy_only=False))
        holding = np.bincount(pairs % size, minlength=size)
        texts.update(dict(zip(coded.dictionary.to_pylist(), holding.tolist(), strict=False)))
    return Frequencies(texts, total)


def cut_vocabulary(
    found: Frequencies, *, min_texts: float = 5, max_texts: float = 1.0, most: int | None = 20_000
) -> Vocabulary:
    """The words that enough texts hold, and not too many; see `count_table`."""
    fewest = _limit("min_texts", min_texts, found.total, math.ceil)
    largest = _limit("max_texts", max_texts, found.total, math.floor)
    if most is not None and most < 1:
        raise ValueError(f"most={most!r}: 1 or more is allowed, or None")
    kept = [(-texts, word) for word, texts in found.texts.items() if fewest <= texts <= largest]
    kept = sorted(kept)[:most]
    texts = np.array([-minus for minus, _ in kept], dtype=np.int64)
    return Vocabulary(tuple(word for _, word in kept), texts, found.total)


def count_rows(batches: Iterable[pa.Table], vocabulary: Vocabulary) -> sparse.csr_matrix:
    """(N, V) int32: how often each of the vocabulary's words stands in each text of the batches, in their order."""
    columns = pa.array(vocabulary.words, pa.string())
    rows = [_count_batch(batch, columns) for batch in batches]
    return _stacked(rows, len(columns))


def _count_batch(batch: pa.Table, columns: pa.Array) -> sparse.csr_matrix:
    words, text = _flat(batch)
    column = pc.index_in(words, value_set=columns)
    known = pc.is_valid(column).to_numpy(zero_copy_only=False)
    at = (text[known], column.drop_null().to_numpy())
    found = sparse.coo_matrix((np.ones(len(at[0]), np.int32), at), shape=(len(batch), len(columns))).tocsr()
    found.sort_indices()
    return found


def _flat(batch: pa.Table) -> tuple[pa.Array, np.ndarray]:
    """All words of a batch, and the row of each."""
    lists = _array(batch[WORDS])
    return pc.list_flatten(lists), pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)


class _Cut(NamedTuple):
    """How the vocabulary follows from the frequencies; see `count_table`."""

    min_texts: float
    max_texts: float
    most: int | None
    words: Sequence[str] | None

    def __call__(self, found: Frequencies) -> Vocabulary:
        if self.words is None:
            return cut_vocabulary(found, min_texts=self.min_texts, max_texts=self.max_texts, most=self.most)
        texts = np.array([found.texts[word] for word in self.words], dtype=np.int64)
        return Vocabulary(tuple(self.words), texts, found.total)


def _two_passes(
    pieces: Sequence[_T],
    read: Callable[[_T], Iterable[pa.Table]],
    held: pa.ChunkedArray,
    ids: pa.Array | pa.ChunkedArray | None,
    cut: _Cut,
    *,
    here: bool,
) -> WordCounts:
    """`held` are the ids of the rows that the pieces give, in their order."""
    asked = _array(held if ids is None else ids)
    place = None if ids is None else _places_of(asked, _array(held))
    texts: Counter[str] = Counter()
    total = 0
    for one in map_tasks(_first_pass, pieces, shared=read, here=here):
        texts.update(one.texts)
        total += one.total
    vocabulary = cut(Frequencies(texts, total))
    rows = list(map_tasks(_second_pass, pieces, shared=(read, vocabulary), here=here))
    matrix = _stacked(rows, len(vocabulary.words))
    return WordCounts(asked, vocabulary, matrix if place is None else matrix[place])


def _first_pass(piece: Any, read: Callable[[Any], Iterable[pa.Table]]) -> Frequencies:
    return document_frequencies(read(piece))


def _second_pass(piece: Any, shared: tuple[Callable[[Any], Iterable[pa.Table]], Vocabulary]) -> sparse.csr_matrix:
    read, vocabulary = shared
    return count_rows(read(piece), vocabulary)


def _itself(batch: pa.Table) -> Iterable[pa.Table]:
    return [batch]


def _read(places: Sequence[_Place]) -> Iterable[pa.Table]:
    for url, positions in places:
        where = pa.table({"part": np.zeros(len(positions), np.int32), "position": positions})
        yield from read_rows([url], where, [WORDS])


def _places(parts: Sequence[str], index: pa.Table, texts_per_task: int) -> list[list[_Place]]:
    """The index's rows by part, in its order, put together up to `texts_per_task`."""
    part, position = index["part"].to_numpy(), index["position"].to_numpy()
    edges = np.flatnonzero(np.diff(part)) + 1
    places: list[list[_Place]] = []
    room = 0
    for start, end in zip(np.r_[0, edges], np.r_[edges, len(part)], strict=True):
        if start == end:
            continue
        if end - start > room:
            places.append([])
            room = texts_per_task
        places[-1].append((parts[part[start]], position[start:end]))
        room -= end - start
    return places


def _places_of(asked: pa.Array, held: pa.Array) -> np.ndarray:
    """(N,) where each id asked for stands among those held."""
    place = pc.index_in(asked, value_set=held)
    if place.null_count:
        lacking = asked.filter(pc.is_null(place))
        raise ValueError(f"{len(lacking)} of {len(asked)} texts have no words in the table: {lacking[0]} is one")
    return place.to_numpy()


def _limit(name: str, value: float, total: int, rounded: Callable[[float], int]) -> int:
    if isinstance(value, float):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}={value!r}: a share from 0.0 to 1.0, or a whole number of texts, is allowed")
        return rounded(round(value * total, 6))
    if value < 1:
        raise ValueError(f"{name}={value!r}: 1 text or more, or a share from 0.0 to 1.0, is allowed")
    return value


def _stacked(rows: Sequence[sparse.csr_matrix], width: int) -> sparse.csr_matrix:
    if not rows:
        return sparse.csr_matrix((0, width), dtype=np.int32)
    return sparse.vstack(rows, format="csr", dtype=np.int32)


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
