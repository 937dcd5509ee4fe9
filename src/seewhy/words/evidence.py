"""What speaks for a word, counted in the texts: hits and totals, shares with intervals, means with and without it."""

from dataclasses import dataclass, fields

import numpy as np
from scipy import sparse

from seewhy.intervals import bootstrap_tails
from seewhy.train.scores import group_weights, weighted_scores

_BINS = 1000  # of groups in the bootstrap
_DRAWN_AT_ONCE = 20_000_000  # numbers, in the bootstrap's largest array


def presence(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """(N, V) float64: 1 where the text holds the word."""
    found = counts.astype(np.float64)
    found.eliminate_zeros()
    found.data[:] = 1.0
    return found


def hits_by_class(present: sparse.csr_matrix, target: np.ndarray, classes: int) -> np.ndarray:
    """(K, V) int64: texts of each class that hold each word. Their sum over the classes is the word's total."""
    of_class = sparse.csr_matrix(np.eye(classes)[target.astype(np.int64)])
    return np.asarray((of_class.T @ present).todense()).round().astype(np.int64)


def groups_by_word(present: sparse.csr_matrix, groups: np.ndarray) -> np.ndarray:
    """(V,) int64: how many groups hold each word in any of their texts. Texts of one image are one witness.

    Args:
        groups: (N,) int64 number of each text's group, from 0.
    """
    count = int(groups.max()) + 1 if len(groups) else 0
    into = sparse.csr_matrix((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(count, len(groups)))
    return np.asarray((into @ present > 0).sum(axis=0)).ravel().astype(np.int64)


@dataclass(frozen=True)
class Means:
    """Of W words: the target's mean over the texts that hold each and over those that do not, NaN where there are none;
    their difference, and its 95% interval."""

    with_word: np.ndarray
    without: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray


def means_by_word(
    present: sparse.csr_matrix, target: np.ndarray, groups: np.ndarray, *, resamples: int = 1000, seed: int = 42
) -> Means:
    """Means of a number with and without each of W words, with percentile bootstraps that draw groups of texts.

    The interval is widened by `intervals.bootstrap_tails`, of the groups on the word's rarer side.

    Of more than 1,000 groups as many bins are drawn instead, to which the groups were dealt by lot: a bin's sums vary
    as its groups' do, so the interval keeps its width (see words.corpus).

    Args:
        present: (N, W) of 0 and 1.
        groups: (N,) int64 number of each text's group, from 0.
    """
    if not len(groups):
        return Means(*(np.full(present.shape[1], np.nan) for _ in range(5)))
    count = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    bins = min(count, _BINS)
    bin_of_text = (rng.permutation(count) % bins)[groups] if count > bins else groups
    into = sparse.csr_matrix((np.ones(len(groups)), (bin_of_text, np.arange(len(groups)))), shape=(bins, len(groups)))
    middle = target.mean()  # taken off first: large numbers would cost digits
    held = np.asarray((into @ present).todense())  # (bins, W) texts with the word
    sums = np.asarray((into @ present.multiply((target - middle)[:, None])).todense())
    texts, whole = np.asarray(into.sum(axis=1)), np.asarray(into @ (target - middle)[:, None])  # (bins, 1)
    mean_with, mean_without = _two_means(np.ones((1, bins)), held, sums, texts, whole)
    weights = rng.multinomial(bins, np.full(bins, 1 / bins), size=resamples).astype(np.float64)
    low, high = (np.full(present.shape[1], np.nan) for _ in range(2))
    holding = groups_by_word(present, groups)
    tails = bootstrap_tails(np.minimum(holding, np.maximum(count - holding, 1)))
    at_once = max(1, _DRAWN_AT_ONCE // max(1, resamples))
    for start in range(0, present.shape[1], at_once):
        some = slice(start, start + at_once)
        more, less = _two_means(weights, held[:, some], sums[:, some], texts, whole)
        known = np.isfinite(mean_with[0, some] - mean_without[0, some])
        drawn = np.sort(np.where(known, more - less, 0.0), axis=0)  # a draw without the word is NaN and goes last
        for end, levels in ((low, tails[some]), (high, 1 - tails[some])):
            end[some] = np.where(known, _quantiles(drawn, levels), np.nan)
    return Means(mean_with[0] + middle, mean_without[0] + middle, (mean_with - mean_without)[0], low, high)


def score_gaps(
    scores: np.ndarray, of_class: np.ndarray, groups: np.ndarray, *, resamples: int = 1000, seed: int = 42
) -> Means:
    """Of S scores the mean over the items of a class and over all others, and their difference, as `means_by_word` has
    a target's over the texts with a word and without.

    Args:
        scores: (N, S). of_class: (N,) bool.
    """
    members = sparse.csr_matrix(of_class[:, None].astype(np.float64))
    found = [means_by_word(members, one, groups, resamples=resamples, seed=seed) for one in scores.T]
    if not found:
        return Means(*(np.empty(0) for _ in range(5)))
    return Means(*(np.concatenate([getattr(one, part.name) for one in found]) for part in fields(Means)))


def rank_correlations(
    scores: np.ndarray, target: np.ndarray, groups: np.ndarray, *, resamples: int = 1000, seed: int = 42
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(S,) Spearman's correlation of each of (N, S) scores with a number, and its 95% interval over drawn groups, each
    draw ranked anew; widened by `intervals.bootstrap_tails`. NaN where a score or the target is always the same."""
    count = int(groups.max()) + 1 if len(groups) else 0
    tail = float(bootstrap_tails(np.array([count]))[0])
    values, lows, highs = (np.full(scores.shape[1], np.nan) for _ in range(3))
    for column, one in enumerate(scores.T):
        value = weighted_scores(target, one[:, None], np.ones((1, len(target))))["spearman"][0]
        weights = group_weights(groups, count, resamples=resamples, seed=seed)
        drawn = np.concatenate([weighted_scores(target, one[:, None], some)["spearman"] for some in weights])
        known = drawn[np.isfinite(drawn)]
        if np.isfinite(value) and len(known):
            values[column] = value
            lows[column], highs[column] = np.quantile(known, [tail, 1 - tail])
    return values, lows, highs


def _quantiles(drawn: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(W,) the quantile of its own level of each column of (R, W) sorted draws, NaN at their ends; between two draws by
    a straight line."""
    count = np.isfinite(drawn).sum(axis=0)
    place = np.clip(levels * (count - 1), 0, np.maximum(count - 1, 0))
    below = place.astype(np.int64)
    columns = np.arange(drawn.shape[1])
    one, next_one = drawn[below, columns], drawn[np.minimum(below + 1, np.maximum(count - 1, 0)), columns]
    return one + (place - below) * (next_one - one)


def _two_means(
    weights: np.ndarray, held: np.ndarray, sums: np.ndarray, texts: np.ndarray, whole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(R, W) means with and without each word in samples that hold bin b weights[r, b] times; NaN where no text is."""
    count, total = weights @ held, weights @ sums
    return _mean(total, count), _mean(weights @ whole - total, weights @ texts - count)


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0.5)  # whole numbers, as floats
