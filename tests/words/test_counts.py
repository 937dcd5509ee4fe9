"""Counts of a handful of texts by hand; the same ones however the texts are cut up, stored or asked for."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy import schema
from seewhy.table import Table
from seewhy.words.counts import (
    Frequencies,
    _places,
    count_rows,
    count_table,
    count_words,
    cut_vocabulary,
    document_frequencies,
)

TEXTS = {
    "a": ["sky", "sky", "low"],
    "b": ["sky", "tower"],
    "c": [],
    "d": ["low", "sky", "lamp", "low"],
    "e": ["tower", "lamp"],
}


def batch(ids: str) -> pa.Table:
    return pa.table(
        {"id": pa.array(list(ids), pa.string()), "words": pa.array([TEXTS[one] for one in ids], pa.list_(pa.string()))}
    )


def stored(folder: str, parts: list[str], failed: str = "") -> Table:
    table = Table(folder, schema.TOKENS)
    for generation, ids in enumerate(parts, 1):
        rows = [
            {"id": one, "words": None, "error_kind": "bad_input", "reason": "x"}
            if one in failed
            else {"id": one, "words": TEXTS[one]}
            for one in ids
        ]
        table.append(pa.Table.from_pylist(rows, schema.TOKENS), generation=generation)
    return table


@pytest.mark.parametrize("cut", [["abcde"], ["ab", "", "cd", "e"], ["a", "b", "c", "d", "e"]])
def test_counts_by_hand_however_the_texts_are_batched(cut):
    found = count_words([batch(ids) for ids in cut], min_texts=1)
    assert found.vocabulary.words == ("sky", "lamp", "low", "tower")  # in 3, 2, 2 and 2 texts; equals by letter
    assert found.vocabulary.texts.tolist() == [3, 2, 2, 2]
    assert found.vocabulary.total == 5
    assert found.ids.to_pylist() == list("abcde")
    assert found.matrix.toarray().tolist() == [[2, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 2, 0], [0, 1, 0, 1]]
    assert found.matrix.dtype == found.matrix.indices.dtype == np.int32
    assert found.matrix.has_sorted_indices


def test_rows_come_as_they_are_asked_for_and_a_text_asked_for_twice_is_one_text():
    found = count_words([batch("ab"), batch("cde")], pa.array(["d", "b", "d"]), min_texts=1)
    assert found.ids.to_pylist() == ["d", "b", "d"]
    words = list(found.vocabulary.words)
    expected = [[TEXTS[one].count(word) for word in words] for one in "dbd"]
    assert found.matrix.toarray().tolist() == expected
    only = count_words([batch("ab"), batch("cde")], pa.array(["d", "d", "d"]), min_texts=1)
    assert only.vocabulary.texts.tolist() == [1, 1, 1]
    assert only.vocabulary.total == 1


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"min_texts": 1}, "four three two one"),
        ({"min_texts": 2}, "four three two"),
        ({"min_texts": 0.5}, "four three two"),  # 2 of 4 texts
        ({"min_texts": 0.51}, "four three"),
        ({"min_texts": 1, "max_texts": 3}, "three two one"),
        ({"min_texts": 1, "max_texts": 0.75}, "three two one"),
        ({"min_texts": 1, "max_texts": 0.74}, "two one"),
        ({"min_texts": 1, "most": 2}, "four three"),
        ({"min_texts": 1, "max_texts": 3, "most": 1}, "three"),
        ({"min_texts": 3, "max_texts": 2}, ""),
    ],
)
def test_the_vocabulary_is_cut_by_texts_and_by_number(settings_, words):
    found = Frequencies(Counter({"one": 1, "two": 2, "three": 3, "four": 4}), 4)
    assert cut_vocabulary(found, **settings_).words == tuple(words.split())


@pytest.mark.parametrize(
    "wrong", [{"min_texts": 0}, {"min_texts": 1.5}, {"max_texts": -0.1}, {"max_texts": 0}, {"most": 0}]
)
def test_limits_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        cut_vocabulary(Frequencies(Counter(), 0), **wrong)


def test_texts_that_have_no_words_in_the_table_are_named(tmp_path):
    with pytest.raises(ValueError, match="1 of 2 texts have no words in the table: x is one"):
        count_words([batch("ab")], pa.array(["a", "x"]))
    table = stored(str(tmp_path), ["ab"], failed="b")
    with pytest.raises(ValueError, match="b is one"):
        count_table(table, pa.array(["a", "b"]), here=True)


def test_words_that_are_asked_for_are_counted_in_however_many_texts_they_stand():
    found = count_words([batch("ab"), batch("cde")], min_texts=3, words=["tower", "sea", "low"])
    assert found.vocabulary.words == ("tower", "sea", "low")
    assert found.vocabulary.texts.tolist() == [2, 0, 2]
    assert found.matrix.toarray().tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 2], [1, 0, 0]]


def test_nothing_counted_is_nothing():
    found = count_words([], min_texts=1)
    assert found.matrix.shape == (0, 0)
    assert count_words([batch("c")], min_texts=1).matrix.shape == (1, 0)


@pytest.mark.parametrize("texts_per_task", [1, 3, 100])
def test_a_tables_newest_rows_are_counted(tmp_path, texts_per_task):
    table = stored(str(tmp_path), ["ab", "dc", "e"])
    newest = pa.Table.from_pylist([{"id": "b", "words": ["lamp"]}], schema.TOKENS)
    table.append(newest, generation=9)
    found = count_table(table, min_texts=1, texts_per_task=texts_per_task, here=True)
    assert dict(zip(found.vocabulary.words, found.vocabulary.texts.tolist(), strict=True)) == {
        "lamp": 3,
        "low": 2,
        "sky": 2,
        "tower": 1,
    }
    rows = dict(zip(found.ids.to_pylist(), found.matrix.toarray().tolist(), strict=True))
    assert rows["b"] == [1, 0, 0, 0]
    some = count_table(table, pa.array(["e", "a"]), min_texts=1, here=True)
    assert some.vocabulary.words == ("lamp", "low", "sky", "tower")
    assert some.vocabulary.total == 2
    assert some.matrix.toarray().tolist() == [[1, 0, 0, 1], [0, 1, 2, 0]]


def test_parts_are_put_together_into_tasks(tmp_path):
    index = stored(str(tmp_path), ["ab", "dc", "e"]).index()
    sizes = {most: [[len(rows) for _, rows in task] for task in _places(["x"] * 3, index, most)] for most in (1, 4, 9)}
    assert sizes == {1: [[2], [2], [1]], 4: [[2, 2], [1]], 9: [[2, 2, 1]]}


@pytest.mark.ray
def test_on_the_cluster_as_here(ray_cluster: None, tmp_path):
    table = stored(str(tmp_path), list("abcde"))
    asked = pa.array(["e", "d", "a", "d"])
    there = count_table(table, asked, min_texts=1, texts_per_task=2)
    here = count_table(table, asked, min_texts=1, here=True)
    assert there.vocabulary.words == here.vocabulary.words
    assert (there.matrix != here.matrix).nnz == 0
    assert here.matrix.toarray().tolist() == [[1, 0, 0, 1], [1, 2, 1, 0], [0, 1, 2, 0], [1, 2, 1, 0]]


words = st.lists(st.lists(st.sampled_from(["空", "海", "sea", "é", ""]), max_size=6), max_size=12)


@settings(max_examples=100, deadline=None)
@given(texts=words, cut=st.integers(1, 5))
def test_any_texts_as_a_plain_loop_counts_them(texts, cut):
    whole = pa.table({"id": [str(i) for i in range(len(texts))], "words": pa.array(texts, pa.list_(pa.string()))})
    batches = [whole.slice(start, cut) for start in range(0, len(texts), cut)]
    found = document_frequencies(batches)
    assert found.total == len(texts)
    assert found.texts == Counter(word for text in texts for word in set(text))
    vocabulary = cut_vocabulary(found, min_texts=1)
    matrix = count_rows(batches, vocabulary).toarray()
    expected = [[text.count(word) for word in vocabulary.words] for text in texts]
    assert matrix.tolist() == expected
