"""Two ways to make the same study, held against each other: scores on the same rows, words, answers and what they cost.

The rows are those that both have, each predicted by models that did not see it. Both are scored in the same draws of
the bootstrap, so that its interval is that of their difference: what makes a row easy or hard for both cancels out
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993).

Here are arrays and names; which study they come from is not known.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seewhy.failure import REJECTED
from seewhy.intervals import bootstrap_tails
from seewhy.train.folds import group_numbers
from seewhy.train.scores import LOWER_IS_BETTER, group_weights, weighted_scores

NUMBER_METRICS = ("r2", "rmse")
CLASS_METRICS = ("accuracy", "macro_f1", "log_loss")
"""The first is what one asks first; rmse and macro_f1 are those of the verdicts."""

EMPTY = ("empty_answer", "cut_before_text")
"""Reasons of rejected answers that hold no text though nobody blocked them."""

_SURE = 1e-12  # least probability that the log loss takes a model at its word for


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval; the bounds are None where there are not two groups of rows to draw from."""

    value: float
    low: float | None
    high: float | None

    @property
    def clear(self) -> bool:
        """The interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class PairedScore:
    """One metric of both on the same rows.

    Attributes:
        gain: of the second over the first in the metric's unit, positive where the second is better.
    """

    metric: str
    first: Estimate
    second: Estimate
    gain: Estimate


def matched(first: Sequence[Hashable], second: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Places (M,) in `first` and (M,) in `second` of the keys that both hold, in the order of `first`.

    The k-th of several equal keys goes with the k-th.
    """
    places = {key: place for place, key in enumerate(_numbered(second))}
    pairs = [(place, places[key]) for place, key in enumerate(_numbered(first)) if key in places]
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _numbered(keys: Sequence[Hashable]) -> list[tuple[Hashable, int]]:
    seen: Counter[Hashable] = Counter()
    found = []
    for key in keys:
        found.append((key, seen[key]))
        seen[key] += 1
    return found


def joint_groups(first: Sequence[Hashable], second: Sequence[Hashable]) -> np.ndarray:
    """(N,) int64 number of each row's group, where rows are tied that either names alike, by way of others too."""
    ones, count = group_numbers(first)
    others, more = group_numbers(second)
    ties = coo_array((np.ones(len(ones), np.int8), (ones, others + count)), shape=(count + more, count + more))
    _, component = connected_components(ties, directed=False)
    return component[ones].astype(np.int64) if len(ones) else ones


def paired_scores(
    target: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray,
    resamples: int = 2000,
    seed: int = 42,
) -> list[PairedScore]:
    """Both models' scores on the same rows, by NUMBER_METRICS or CLASS_METRICS.

    Percentile intervals over draws of whole groups, widened for few groups by `intervals.bootstrap_tails`; a draw in
    which a metric has no value (all targets of it alike) does not count.

    Args:
        target: (N,) the number, or the index of the class.
        first, second: (N, K) the prediction for K = 1, else the probability of each class, in the same order.
        groups: (N,) whatever names each row's group.

    Raises:
        ValueError: no rows, or shapes that differ.
    """
    if not len(target) or first.shape != second.shape or len(first) != len(target) or len(groups) != len(target):
        raise ValueError(f"{len(target)} targets, {first.shape} and {second.shape} outputs, {len(groups)} groups")
    numbers, count = group_numbers(groups.tolist())
    both = (first, second)
    values = [_scores(target, one, np.ones((1, len(target)))) for one in both]
    drawn: list[dict[str, list[np.ndarray]]] = [{metric: [] for metric in values[0]} for _ in both]
    if count > 1:
        for weights in group_weights(numbers, count, resamples=resamples, seed=seed):
            for one, kept in zip(both, drawn, strict=True):
                for metric, value in _scores(target, one, weights).items():
                    kept[metric].append(value)
    tail = float(bootstrap_tails(np.array([count]))[0])
    found = []
    for metric in values[0]:
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        draws = [np.concatenate(kept[metric]) if kept[metric] else np.empty(0) for kept in drawn]
        with np.errstate(invalid="ignore"):  # a draw without a value
            gained = sign * (draws[1] - draws[0])
        ends = [float(of[metric][0]) for of in values]
        found.append(
            PairedScore(
                metric,
                _estimate(ends[0], draws[0], tail),
                _estimate(ends[1], draws[1], tail),
                _estimate(sign * (ends[1] - ends[0]), gained, tail),
            )
        )
    return found


def _scores(target: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """metric -> (R,) of samples in which row i stands weights[r, i] times."""
    found = weighted_scores(target, outputs, weights, ranks=False)
    if outputs.shape[1] == 1:
        return {metric: found[metric] for metric in NUMBER_METRICS}
    said = np.asarray(outputs, dtype=np.float64)[np.arange(len(target)), target.astype(np.int64)]
    found["log_loss"] = weights @ -np.log(np.clip(said, _SURE, 1.0)) / weights.sum(axis=1)
    return {metric: found[metric] for metric in CLASS_METRICS}


def _estimate(value: float, draws: np.ndarray, tail: float) -> Estimate:
    known = draws[np.isfinite(draws)]
    if not len(known):
        return Estimate(value, None, None)
    low, high = np.quantile(known, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def closer_by(target: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) how much closer the second comes to each row's target: by the size of its error, or for classes by the
    probability that it gives the true one.

    Args:
        target, first, second: as for `paired_scores`.
    """
    if first.shape[1] == 1:
        ends = np.asarray(target, dtype=np.float64)
        return np.abs(first[:, 0] - ends) - np.abs(second[:, 0] - ends)
    places = np.arange(len(target)), target.astype(np.int64)
    return second[places].astype(np.float64) - first[places]


def furthest_apart(closer: np.ndarray, items: Sequence[Hashable], *, most: int) -> tuple[list[int], list[int]]:
    """Places of the rows that the first, and that the second comes closer to by most: `most` of each, the largest
    difference first, of several rows of one item only the first.

    Args:
        closer: (N,) of `closer_by`.
        items: what each row shows.
    """
    by_first, by_second = (np.argsort(signed, kind="stable") for signed in (closer, -closer))
    return (
        _of_distinct(by_first[closer[by_first] < 0].tolist(), items, most),
        _of_distinct(by_second[closer[by_second] > 0].tolist(), items, most),
    )


def _of_distinct(places: Iterable[int], items: Sequence[Hashable], most: int) -> list[int]:
    found: dict[Hashable, int] = {}
    for place in places:
        if len(found) == most:
            break
        found.setdefault(items[place], place)
    return list(found.values())


@dataclass(frozen=True)
class Word:
    """A word that one of the two puts forward.

    Attributes:
        output: class, or the target's name.
        sign: 1 where it speaks for the output, -1 where against it.
        rank: from 1, among the words of that output and sign.
        value: by which it was ranked.
        texts: of `total` texts, those that hold it.
    """

    output: str
    word: str
    sign: int
    rank: int
    value: float
    texts: int
    total: int


@dataclass(frozen=True)
class Alone:
    """A word that the other does not put forward. `texts` of the other's `total` hold it all the same; None: that is
    not known."""

    found: Word
    texts: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class SharedWords:
    """Words of two lists.

    Attributes:
        both: of equal output and sign, by the better of their two ranks.
        turned: of equal output, and of the other sign.
        only_first, only_second: in the order of their list.
    """

    both: list[tuple[Word, Word]]
    turned: list[tuple[Word, Word]]
    only_first: list[Word]
    only_second: list[Word]


def shared_words(first: Sequence[Word], second: Sequence[Word]) -> SharedWords:
    """Which words stand in both lists. No list holds an output's word twice."""
    ones, others = ({(one.output, one.word): one for one in words} for words in (first, second))
    pairs = [(one, others[key]) for key, one in ones.items() if key in others]
    both = [pair for pair in pairs if pair[0].sign == pair[1].sign]
    return SharedWords(
        both=sorted(both, key=lambda pair: min(pair[0].rank, pair[1].rank)),
        turned=[pair for pair in pairs if pair[0].sign != pair[1].sign],
        only_first=[one for key, one in ones.items() if key not in others],
        only_second=[one for key, one in others.items() if key not in ones],
    )


@dataclass(frozen=True)
class Answers:
    """What became of the images that both were asked about, for one of the two.

    Attributes:
        answered: those with a text; asked = answered + empty + refused + failed.
        empty: the model wrote nothing, or was cut before it wrote any.
        refused: the model, or a filter before or behind it, would not answer.
        failed: no answer came, or the image could not be used.
        reasons: ``kind/reason`` -> images, of all without a text.
    """

    asked: int
    answered: int
    empty: int
    refused: int
    failed: int
    reasons: dict[str, int]


def count_answers(kinds: Sequence[str | None], reasons: Sequence[str | None]) -> Answers:
    """Args:
    kinds: one of failure.KINDS for each image, None where there is a text.
    reasons: why there is none.
    """
    lost = [(kind, reason or "") for kind, reason in zip(kinds, reasons, strict=True) if kind is not None]
    empty = sum(kind == REJECTED and reason in EMPTY for kind, reason in lost)
    refused = sum(kind == REJECTED for kind, _ in lost) - empty
    counted = Counter(f"{kind}/{reason}" for kind, reason in lost)
    return Answers(
        asked=len(kinds),
        answered=len(kinds) - len(lost),
        empty=empty,
        refused=refused,
        failed=len(lost) - empty - refused,
        reasons=dict(sorted(counted.items())),
    )
