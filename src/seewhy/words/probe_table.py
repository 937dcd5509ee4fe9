"""The probe's words as tables: weights with the evidence beside them, and texts to look at."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from seewhy import schema
from seewhy.intervals import wilson
from seewhy.train.folds import group_numbers
from seewhy.words.evidence import (
    groups_by_word,
    hits_by_class,
    means_by_word,
    presence,
    rank_correlations,
    score_gaps,
)
from seewhy.words.held_out import Models, Texts
from seewhy.words.stability import Stability

WORD, SCORE = "word", "score"
"""What a row of the probe's table is about."""

EXAMPLES = pa.schema(
    [
        pa.field("output", pa.string()),
        pa.field("word", pa.string()),
        pa.field("hit", pa.bool_()),  # a text of the class; of numbers, one on the weight's side of the mean
        pa.field("id", pa.string()),
    ]
)


def probe_table(
    texts: Texts,
    present: sparse.csr_matrix,
    words: Sequence[str],
    outputs: Sequence[str],
    models: Models,
    stability: Stability,
    *,
    resamples: int,
    score_names: Sequence[str] = (),
) -> pa.Table:
    """schema.PROBE: of each output every word with a weight, the largest weight first, those below 0 last, and after
    them its scores in the same way.

    Args:
        present: (N, V) 1 where the text holds the word.
        outputs: K names.
        score_names: of the columns behind the words.
    """
    count = len(words)
    weights = models.whole.weights[:, :count]
    total = np.asarray(present.sum(axis=0)).ravel().astype(np.int64)
    selection = np.where(models.whole.weights > 0, stability.above, stability.below)
    witnesses = groups_by_word(present, texts.groups)
    hits = held_out = None
    if texts.outputs > 1:
        hits, held_out = hits_by_class(present, texts.target, texts.outputs), _held_out(texts, present, models)
    pieces = []
    for one, output in enumerate(outputs):
        columns = ranked(weights[one], words)
        told = {
            "output": [output] * len(columns),
            "rank": np.arange(1, len(columns) + 1),
            "feature": [WORD] * len(columns),
            "word": [words[column] for column in columns],
            "weight": weights[one, columns],
            "total": total[columns],
            "selection": selection[one, columns],
        }
        if hits is not None and held_out is not None:
            share = float((texts.target == one).mean())
            told |= _of_class(hits[one, columns], total[columns], witnesses[columns], share=share)
            told |= {"held_out_hits": held_out[0, one, columns], "held_out_total": held_out[1, one, columns]}
        else:
            told |= _of_number(present[:, columns], texts.target, texts.groups, resamples=resamples, seed=texts.seed)
        pieces.append(_table(told, len(columns)))
        if len(score_names):
            own = models.whole.weights[one, count:]
            pieces.append(_scores(texts, one, output, own, selection[one, count:], score_names, resamples=resamples))
    return pa.concat_tables(pieces)


def _scores(
    texts: Texts,
    one: int,
    output: str,
    weights: np.ndarray,
    selection: np.ndarray,
    names: Sequence[str],
    *,
    resamples: int,
) -> pa.Table:
    """The rows of one output's scores: no text holds a score, so what speaks for it is how it differs."""
    assert texts.scores is not None
    columns = ranked(weights, names)
    known, settings = texts.scores[:, columns], {"resamples": resamples, "seed": texts.seed}
    told: dict[str, Any] = {
        "output": [output] * len(columns),
        "rank": np.arange(1, len(columns) + 1),
        "feature": [SCORE] * len(columns),
        "word": [names[column] for column in columns],
        "weight": weights[columns],
        "selection": selection[columns],
    }
    if texts.outputs > 1:
        gaps = score_gaps(known, texts.target == one, texts.groups, **settings)
        told |= {"score_in": gaps.with_word, "score_out": gaps.without, "score_gap": gaps.difference}
        told |= {"score_gap_low": gaps.low, "score_gap_high": gaps.high}
        told["base_rate"] = np.full(len(columns), float((texts.target == one).mean()))
    else:
        value, low, high = rank_correlations(known, texts.target, texts.groups, **settings)
        told |= {"correlation": value, "correlation_low": low, "correlation_high": high}
    return _table(told, len(columns))


def counted_rows(
    counts: sparse.csr_matrix,
    words: Sequence[str],
    target: np.ndarray,
    pairs: Iterable[tuple[str, str]],
    *,
    classes: Sequence[str] = (),
    groups: Sequence[object] | None = None,
    resamples: int = 1000,
    seed: int = 42,
) -> pa.Table:
    """schema.PROBE of words that no probe put forward here: what is counted, without rank, weight and selection.

    So one can ask of texts what has become in them of the words that other texts brought up.

    Args:
        counts: (N, V) how often each word stands in each text.
        words: V of them.
        target: (N,) numbers, or where `classes` are given the index of each text's class.
        pairs: (output, word) of each row wanted. For numbers the output is only a name.
        groups, resamples, seed: as for the probe.
    """
    present, column = presence(counts), {word: number for number, word in enumerate(words)}
    numbers, _ = group_numbers(range(len(target)) if groups is None else groups)
    wanted: dict[str, list[str]] = {}
    for output, word in pairs:
        wanted.setdefault(output, []).append(word)
    pieces = [schema.PROBE.empty_table()]
    for output, asked in wanted.items():
        columns = [column[word] for word in asked]
        total = np.asarray(present[:, columns].sum(axis=0)).ravel().astype(np.int64)
        told = {"output": [output] * len(asked), "feature": [WORD] * len(asked), "word": asked, "total": total}
        if classes:
            one = list(classes).index(output)
            hits = hits_by_class(present[:, columns], target, len(classes))[one]
            witnesses = groups_by_word(present[:, columns], numbers)
            told |= _of_class(hits, total, witnesses, share=float((target == one).mean()))
        else:
            told |= _of_number(present[:, columns], target, numbers, resamples=resamples, seed=seed)
        pieces.append(_table(told, len(asked)))
    return pa.concat_tables(pieces)


def _table(told: Mapping[str, Any], rows: int) -> pa.Table:
    """Fields that are not told are null."""
    columns = [
        pa.array(told[field.name], field.type, from_pandas=True) if field.name in told else pa.nulls(rows, field.type)
        for field in schema.PROBE
    ]
    return pa.table(columns, schema=schema.PROBE)


def ranked(weights: np.ndarray, words: Sequence[str]) -> list[int]:
    """Words with a weight, the largest first, those below 0 last; equals in the order of their characters."""
    return sorted(np.flatnonzero(weights).tolist(), key=lambda column: (-weights[column], words[column]))


def _of_class(hits: np.ndarray, total: np.ndarray, witnesses: np.ndarray, *, share: float) -> dict[str, np.ndarray]:
    """The lift is the share of the class among the texts with the word, over its share among all texts, taken as known:
    its interval is that of the first, of as many witnesses as there are groups that hold the word."""
    with np.errstate(invalid="ignore"):  # a word that no text holds has no lift
        shares = hits / total
    low, high = wilson(shares * witnesses, witnesses)
    return {
        "hits": hits,
        "base_rate": np.full(len(hits), share),
        "lift": shares / share,
        "lift_low": low / share,
        "lift_high": high / share,
    }


def _of_number(
    present: sparse.csr_matrix, target: np.ndarray, groups: np.ndarray, *, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    means = means_by_word(present, target, groups, resamples=resamples, seed=seed)
    return {
        "mean_with": means.with_word,
        "mean_without": means.without,
        "difference": means.difference,
        "difference_low": means.low,
        "difference_high": means.high,
    }


def _held_out(texts: Texts, present: sparse.csr_matrix, models: Models) -> np.ndarray:
    """(2, K, V) hits and totals over the folds whose own probe gave the word a weight of the final one's sign."""
    count = present.shape[1]
    final = np.sign(models.whole.weights[:, :count])
    found = np.zeros((2, *final.shape), dtype=np.int64)
    for fold, signs in models.real.signs.items():
        rows = np.flatnonzero(texts.folds == fold)
        hits = hits_by_class(present[rows], texts.target[rows], texts.outputs)
        found += (signs[:, :count] == final) * np.stack([hits, np.broadcast_to(hits.sum(axis=0), hits.shape)])
    return found


def probe_examples(
    texts: Texts,
    present: sparse.csr_matrix,
    words: Sequence[str],
    outputs: Sequence[str],
    models: Models,
    *,
    ids: Sequence[str],
    most: int,
) -> pa.Table:
    """EXAMPLES: for each row of the table up to `most` hits and as many misses among the texts that hold the word.

    They are drawn by lot, each id once.
    """
    by_word = present.tocsc()
    rows: list[dict[str, object]] = []
    for one, output in enumerate(outputs):
        weights = models.whole.weights[one, : len(words)]
        for column in ranked(weights, words):
            holding = np.sort(by_word.indices[by_word.indptr[column] : by_word.indptr[column + 1]])
            if texts.outputs > 1:
                speaks = texts.target[holding] == one
            else:
                speaks = np.sign(texts.target[holding] - texts.target.mean()) == np.sign(weights[column])
            rng = np.random.default_rng([texts.seed, one, column])
            for hit in (True, False):
                drawn = _distinct(rng.permutation(holding[speaks == hit]).tolist(), ids, most)
                rows += [{"output": output, "word": words[column], "hit": hit, "id": id} for id in drawn]
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


def _distinct(texts: list[int], ids: Sequence[str], most: int) -> list[str]:
    found: dict[str, None] = {}
    for text in texts:
        if len(found) == most:
            break
        found[ids[text]] = None
    return list(found)
