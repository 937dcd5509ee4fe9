"""Tables of known words; intervals against the bootstrap worked out and against the textbook's."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.words.corpus import corpus_words


def table(items: list[list[tuple[str, list[float]]] | None]) -> pa.Table:
    """One row an item; None is a failure."""
    rows = []
    for i, words in enumerate(items):
        row = {"id": f"{i:032x}", "words": None, "error_kind": "bad_input", "reason": "empty_text"}
        if words is not None:
            spans = [{"text": text, "start": 0, "end": 1, "values": values} for text, values in words]
            row = {"id": f"{i:032x}", "words": spans}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema.EXPLANATIONS)


ITEMS = [
    [("Dark", [1.0, -1.0]), ("sea", [0.5, 0.0]), ("dark", [2.0, -2.0]), (".", [9.0, 9.0])],
    [("DARK", [-1.0, 1.0]), ("-", [5.0, 5.0]), ("rare", [50.0, 0.0]), ("rare", [50.0, 0.0])],
    None,
    [("sea", [0.25, 0.5]), ("sea", [0.25, 0.0])],
    [],
]


def by_key(found: pa.Table) -> dict[tuple[str, str], dict[str, float]]:
    return {(row["word"], row["output"]): row for row in found.to_pylist()}


@pytest.mark.parametrize("sizes", [[5], [1, 1, 1, 1, 1], [2, 0, 3]])
def test_figures_worked_out_by_hand_however_the_rows_are_chunked(sizes):
    whole = table(ITEMS)
    starts = itertools.accumulate(sizes, initial=0)
    chunks = [whole.slice(start, size) for start, size in zip(starts, sizes, strict=False)]
    found = corpus_words(iter(chunks), output_names=["good", "bad"], min_items=2)
    assert (found.items, found.failed, found.rare, found.rare_occurrences) == (4, 1, 1, 2)
    rows = by_key(found.table)
    assert set(rows) == {(word, output) for word in ("dark", "sea") for output in ("good", "bad")}
    dark = rows["dark", "good"]  # 1 + 2 in the first item, -1 in the second
    assert (dark["mean_value"], dark["mean_abs_value"]) == (1.0, 2.0)
    assert (dark["count"], dark["items"], dark["total"]) == (3, 2, 4)
    assert (dark["low"], dark["high"]) == (-1.0, 3.0)  # two items: a quarter of the draws takes one of them twice
    assert rows["dark", "bad"]["mean_value"] == -1.0
    sea = rows["sea", "good"]
    assert (sea["mean_value"], sea["mean_abs_value"], sea["low"], sea["high"]) == (0.5, 0.5, 0.5, 0.5)
    assert (sea["count"], sea["items"]) == (3, 2)
    assert found.table.schema == schema.WORDS
    sizes_in_order = [abs(row["mean_value"]) for row in found.table.to_pylist()]
    assert sizes_in_order == sorted(sizes_in_order, reverse=True)


def test_nothing_read_gives_an_empty_table():
    found = corpus_words([table([None, []])], output_names=["rating"])
    assert (len(found.table), found.items, found.failed) == (0, 1, 1)
    assert len(corpus_words([], output_names=["rating"]).table) == 0


def test_settings_and_values_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="min_items=0"):
        corpus_words([], output_names=["rating"], min_items=0)
    with pytest.raises(ValueError, match="2 values for 1 output names"):
        corpus_words([table(ITEMS)], output_names=["rating"])


def one_word(values: np.ndarray, *, chunk: int, **settings) -> dict[str, float]:
    whole = table([[("dark", [float(value)])] for value in values])
    chunks = [whole.slice(start, chunk) for start in range(0, len(whole), chunk)]
    (row,) = corpus_words(chunks, output_names=["rating"], **settings).table.to_pylist()
    return row


def test_the_interval_is_the_bootstraps():
    values = np.random.default_rng(1).exponential(size=60)
    draws = np.random.default_rng(2).choice(values, (200_000, 60)).mean(axis=1)
    row = one_word(values, chunk=7, replicates=50_000)
    np.testing.assert_allclose([row["low"], row["high"]], np.quantile(draws, [0.025, 0.975]), rtol=0.01)


def test_more_items_than_bins_keep_the_intervals_width_and_the_mean():
    values = np.random.default_rng(3).exponential(size=5003)
    row = one_word(values, chunk=900, bins=500, replicates=4000)
    assert row["mean_value"] == pytest.approx(values.astype(np.float32).mean(), rel=1e-6)
    assert row["items"] == 5003
    half = 1.96 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose([row["low"], row["high"]], values.mean() + np.array([-half, half]), atol=0.12 * half)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    truth, words = 0.3, 400
    items = [[(f"w{word}", [value]) for word, value in enumerate(rng.normal(truth, 1, words))] for _ in range(60)]
    rows = corpus_words([table(items)], output_names=["rating"]).table.to_pylist()
    covered = np.mean([row["low"] <= truth <= row["high"] for row in rows])
    assert 0.9 < covered < 0.98


def test_the_same_seed_gives_the_same_table():
    items = [[("dark", [value])] for value in (1.0, 2.0, 4.0, 8.0, 16.0)]
    first, again = (corpus_words([table(items)], output_names=["rating"], seed=1).table for _ in range(2))
    assert first.equals(again)
    assert not first.equals(corpus_words([table(items)], output_names=["rating"], seed=2, replicates=50).table)
