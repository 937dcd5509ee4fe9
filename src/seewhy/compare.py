"""Two ways to make the same study, held against each other: scores on the same rows, words, answers and what they cost.

The rows are those that both have, each predicted by models that did not see it. Both are scored in the same draws of
the bootstrap, so that its interval is that of their difference: what makes a row easy or hard for both cancels out
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993).

Here are arrays and names; which study they come from is not known.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Spent:
    """What the answers to the images that both were asked about took, for one of the two.

    Attributes:
        counted: answers, refused ones too, whose tokens the backend told.
        tokens_in, tokens_out: their sums.
        usd: what they cost by the service's list price; None where that is not known.
        about: of the price: where it is from, or why there is none.
    """

    counted: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    about: str


@dataclass(frozen=True)
class Said:
    """What one of the two read of a row, and what it made of it.

    Attributes:
        item: id of what it read.
        text: that it read; empty where it is not known.
        value: the number that it predicted, or the probability that it gave the true class.
        output: the class that it predicted; empty for a number.
    """

    item: str
    text: str
    value: float
    output: str


@dataclass(frozen=True)
class Example:
    """A row that one of the two comes closer to.

    Attributes:
        row: its place in the first one's manifest, from 0.
        target: the number, or the class.
        closer: how much closer the second comes, see `closer_by`.
    """

    row: int
    target: float | str
    first: Said
    second: Said
    closer: float


@dataclass(frozen=True)
class ModelPair:
    """A model of each, on the rows that both predicted without having seen them.

    Attributes:
        name: what both are, such as ``text model``.
        first, second: what each is called.
        first_beats, second_beats: it is better than its own best baseline, on all of its own rows.
        rows: that both predicted, for the same target.
        groups: of rows that one split may not part, by either.
        only_first, only_second: rows that the other lacks.
        other_target: rows of both that do not have the same target in both, left out.
        moved: of `rows`, those that are in another fold in the second than in the first.
        scores: one a metric.
        first_closer, second_closer: the rows that either comes closer to by most; not told of every pair.
    """

    name: str
    first: str
    second: str
    first_beats: bool
    second_beats: bool
    rows: int
    groups: int
    only_first: int
    only_second: int
    other_target: int
    moved: int
    scores: list[PairedScore]
    first_closer: list[Example] = field(default_factory=list)
    second_closer: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class WordPair:
    """The words of each by one way to find them.

    Attributes:
        name: where the words come from, such as ``words of the captions``.
        value: what the words' values are.
        signs: words speak against an output too; False: only those for it are told.
        note: what to know before one reads them; may be empty.
    """

    name: str
    value: str
    signs: bool
    both: list[tuple[Word, Word]]
    turned: list[tuple[Word, Word]]
    only_first: list[Alone]
    only_second: list[Alone]
    note: str = ""


@dataclass(frozen=True)
class AnswerPair:
    """What became of the images that both asked a vision-language model about.

    Attributes:
        name: what was asked for, such as ``captions``.
        whole: what an image has that counts as answered.
        only_first, only_second: images that the other did not ask about; they are not counted.
        both_answered, neither: images with a text of both, and of neither.
        first_alone, second_alone: images with a text of that one only.
    """

    name: str
    only_first: int
    only_second: int
    first: Answers
    second: Answers
    first_spent: Spent
    second_spent: Spent
    both_answered: int
    neither: int
    first_alone: int
    second_alone: int
    whole: str = "a text"


@dataclass(frozen=True)
class Setting:
    """A setting that is not the same in both; ``default`` where the study leaves it open."""

    key: str
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """All that was compared.

    Attributes:
        first, second: what each study is called.
        target, task, classes: as in a report.
        left_out: what could not be compared, and why.
        notes: what to know of the whole.
    """

    first: str
    second: str
    title: str
    target: str
    task: str
    classes: tuple[str, ...]
    settings: list[Setting]
    models: list[ModelPair]
    words: list[WordPair]
    answers: list[AnswerPair]
    left_out: list[str]
    notes: list[str]
