"""Scores of images in the probe, beside words or instead of them: their scale, their evidence, and what is chosen."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import spearmanr

from seewhy.words.design import design
from seewhy.words.evidence import rank_correlations, score_gaps
from seewhy.words.held_out import Texts, fit_models
from seewhy.words.probe import Probe, fit_probe
from seewhy.words.ranking import stable_ranks

WORDS = sparse.csr_matrix(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]))


def test_scores_are_scaled_by_the_rows_of_the_fit_alone() -> None:
    scores = np.array([[1.0, 5.0], [3.0, 5.0], [100.0, 5.0], [-7.0, 9.0]])
    found = design(WORDS, scores, np.array([0, 2, 3]), scaled_on=np.array([0, 1])).toarray()
    # rows 0 and 1: mean 2, deviation 1; the second score is the same in both
    assert found.tolist() == [[1, 0, -1, 0], [1, 1, 98, 0], [0, 0, -9, 0]]
    assert (design(WORDS, None, np.array([1, 2]), scaled_on=np.array([0])) != WORDS[[1, 2]]).nnz == 0


def texts(scores: np.ndarray | None) -> Texts:
    rng = np.random.default_rng(0)
    count = 160
    x = (rng.random((count, 12)) < 0.3).astype(float)
    target = x[:, 0] + 0.3 * rng.normal(size=count)
    return Texts(
        x=sparse.csr_matrix(x),
        target=target,
        permuted=rng.permutation(target),
        groups=np.arange(count),
        folds=(np.arange(count) % 4).astype(np.int32),
        outputs=1,
        method="lasso",
        inner_folds=3,
        seed=1,
        scores=scores,
    )


def test_a_held_out_score_reaches_nothing_but_its_own_prediction() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(160, 3))
    other = scores.copy()
    other[0] += 50.0  # held out in fold 0
    one, two = (fit_models(texts(given), here=True).real for given in (scores, other))
    assert (one.signs[0] == two.signs[0]).all()
    assert one.penalties[0] == two.penalties[0]
    rest = np.flatnonzero(np.arange(160) % 4 == 0)[1:]
    assert one.outputs[rest] == pytest.approx(two.outputs[rest])


def test_scores_that_never_differ_change_nothing() -> None:
    without, beside = (fit_models(texts(given), here=True) for given in (None, np.full((160, 2), 3.0)))
    assert beside.real.outputs == pytest.approx(without.real.outputs)
    assert beside.whole.weights[:, :12] == pytest.approx(without.whole.weights)
    assert (beside.whole.weights[:, 12:] == 0).all()


def test_the_evidence_of_scores_by_hand() -> None:
    rng = np.random.default_rng(5)
    scores, mine = rng.normal(size=(80, 2)), np.arange(80) % 4 == 0
    gaps = score_gaps(scores, mine, np.arange(80))
    assert gaps.with_word == pytest.approx(scores[mine].mean(axis=0))
    assert gaps.without == pytest.approx(scores[~mine].mean(axis=0))
    assert gaps.difference == pytest.approx(gaps.with_word - gaps.without)
    assert (gaps.low < gaps.difference).all()
    assert (gaps.high > gaps.difference).all()
    target = rng.normal(size=80) + scores[:, 0]
    value, low, high = rank_correlations(scores, target, np.arange(80))
    assert value == pytest.approx([spearmanr(one, target).statistic for one in scores.T])
    # ranks know no scale
    again = rank_correlations(np.exp(3 * scores), target, np.arange(80))
    for one, other in zip((value, low, high), again, strict=True):
        assert other == pytest.approx(one)
    assert low[0] > 0
    assert low[1] < 0 < high[1]
    constant = rank_correlations(np.ones((80, 1)), target, np.arange(80))
    assert all(np.isnan(one).all() for one in constant)


def probed(*, classes: bool, with_words: bool = True) -> Probe:
    """A word tells half of the target and a score the other half; 20 words and 20 scores tell nothing."""
    rng = np.random.default_rng(6)
    count = 300
    held = (rng.random((count, 21 if with_words else 0)) < 0.4).astype(int)
    scores = rng.normal(size=(count, 21)) * 5 - 12
    target = (scores[:, 5] + 12) / 5 + 0.5 * rng.normal(size=count) + (2 * held[:, 0] if with_words else 0)
    return fit_probe(
        sparse.csr_matrix(held),
        [f"word{n}" for n in range(held.shape[1])],
        (target > np.median(target)).astype(float) if classes else target,
        ids=[str(n) for n in range(count)],
        classes=("low", "high") if classes else (),
        target_name="stars",
        scores_of_text=scores,
        score_names=["a dog" if n == 5 else f"thing {n}" for n in range(21)],
        called="words and scores" if with_words else "scores",
        subsamples=30,
        resamples=200,
        here=True,
    )


def test_a_score_that_tells_is_chosen_beside_the_words() -> None:
    found = probed(classes=False)
    rows = stable_ranks(found.table, min_selection=0.9).to_pylist()
    ranked = {(row["feature"], row["word"]): row for row in rows if row["rank"] is not None}
    assert set(ranked) == {("word", "word0"), ("score", "a dog")}
    assert {row["rank"] for row in ranked.values()} == {1}
    word, score = ranked["word", "word0"], ranked["score", "a dog"]
    assert word["difference_low"] > 1
    assert word["correlation"] is None
    assert score["correlation_low"] > 0.4
    assert [score[name] for name in ("total", "hits", "difference", "lift", "mean_with")] == [None] * 5
    assert score["selection"] == 1.0
    assert score["weight"] == pytest.approx(1.0, abs=0.15)  # of the target by a deviation of the score
    assert not {row["word"] for row in found.examples.to_pylist()} - {f"word{n}" for n in range(21)}
    assert found.verdict.model == "words and scores"
    assert "words and scores, targets permuted" in found.scores["model"].to_pylist()
    assert found.verdict.beats


def test_scores_instead_of_words_tell_classes_apart() -> None:
    found = probed(classes=True, with_words=False)
    rows = [row for row in found.table.to_pylist() if row["output"] == "high" and row["weight"] > 0]
    assert {row["feature"] for row in found.table.to_pylist()} == {"score"}
    best = max(rows, key=lambda row: row["weight"])
    assert (best["word"], best["selection"]) == ("a dog", 1.0)
    assert best["score_gap"] == pytest.approx(best["score_in"] - best["score_out"])
    assert best["score_gap_low"] > 2
    assert found.verdict.model == "scores"
    assert found.verdict.beats


def test_as_many_names_as_scores_are_needed() -> None:
    with pytest.raises(ValueError, match="1 score_names"):
        fit_probe(
            WORDS,
            ["a", "b"],
            np.arange(4.0),
            ids=list("abcd"),
            scores_of_text=np.zeros((4, 2)),
            score_names=["x"],
            here=True,
        )


def test_a_probe_without_scores_is_what_it_was() -> None:
    given = texts(None)
    assert replace(given, scores=None).columns(np.arange(3), scaled_on=np.arange(160)).shape == (3, 12)
