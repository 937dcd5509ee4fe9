"""Which words a sparse probe chooses again when it sees other texts: stability selection.

The probe is fitted, under one penalty, to many random halves of the texts, drawn without replacement and by groups, for
texts of one image are not two witnesses. A word's selection is the share of the halves whose probe gave it a weight of
one sign (N. Meinshausen and P. Buehlmann, Stability selection, 2010).

The penalty that predicts best lets in many a word by chance, and then chance words are chosen again and again as well.
So selection asks for fewer words: no more than sqrt(0.8 V) of V, as Meinshausen and Buehlmann propose, with which of
the words that 9 in 10 halves choose one in all is expected to be false.

Each half is a task over one matrix, which all tasks of a node read in place; a task sends back the words it chose.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from seewhy.tasks import hold, map_tasks
from seewhy.words.design import design
from seewhy.words.linear import fit, largest_penalty

_STEPS = 6  # halvings of the way between a penalty that lets no word in and the one that predicts best
_HALVES = 4  # that each step is tried on


@dataclass(frozen=True)
class Stability:
    """Attributes:
    above: (K, V) share of the subsamples in which the word's weight was above 0.
    below: (K, V) and below 0.
    chosen: (K,) mean number of words with a weight in a subsample.
    subsamples: how many there were.
    penalty: of their probes.
    """

    above: np.ndarray
    below: np.ndarray
    chosen: np.ndarray
    subsamples: int
    penalty: float

    def expected_false(self, share: float) -> np.ndarray:
        """(K,) bound on how many words without any bearing are selected in `share` of the subsamples or more.

        Theorem 1 of Meinshausen and Buehlmann: q^2 / ((2 share - 1) V) for q words chosen of V, under their assumption
        that such words are alike and no better than drawn by lot. One sign or the other; share above 1/2.
        """
        if not 0.5 < share <= 1.0:
            raise ValueError(f"share is {share!r}; above 0.5, and 1.0 at most, is allowed")
        return self.chosen**2 / ((2 * share - 1) * max(1, self.above.shape[1]))


@dataclass(frozen=True)
class _Texts:
    """What the tasks share."""

    x: sparse.csr_matrix
    target: np.ndarray
    groups: np.ndarray
    method: str
    outputs: int
    seed: int
    scores: np.ndarray | None

    def columns(self, rows: np.ndarray) -> sparse.csr_matrix:
        return design(self.x, self.scores, rows, scaled_on=rows)


def stability_selection(
    x: sparse.csr_matrix,
    target: np.ndarray,
    *,
    groups: np.ndarray,
    method: str,
    outputs: int,
    penalty: float,
    scores: np.ndarray | None = None,
    subsamples: int = 100,
    seed: int = 42,
    here: bool = False,
) -> Stability:
    """Fits the probe to random halves of the groups.

    Args:
        x, target, method, outputs, penalty: of linear.fit.
        groups: (N,) int64 number of each text's group, from 0.
        scores: (N, S) beside the words, scaled within each half; None for none.
        here: without the cluster. The result is the same.

    Raises:
        ValueError: fewer than 2 groups, or no subsamples.
    """
    if subsamples < 1:
        raise ValueError(f"subsamples={subsamples!r}: 1 or more is allowed")
    if not len(groups) or groups.max() < 1:
        raise ValueError("1 group of texts: a random half of the groups needs 2 or more")
    width = x.shape[1] + (0 if scores is None else scores.shape[1])
    above, below = (np.zeros((outputs, width), np.int64) for _ in range(2))
    shared = _Texts(x, target, groups, method, outputs, seed, scores)
    halves = [(number, penalty) for number in range(subsamples)]
    for found in map_tasks(_fit_half, halves, shared=shared, here=here):
        for one, (more, less) in enumerate(found):
            above[one, more] += 1
            below[one, less] += 1
    chosen = (above + below).sum(axis=1) / subsamples
    return Stability(above / subsamples, below / subsamples, chosen, subsamples, penalty)


def selection_penalty(
    x: sparse.csr_matrix,
    target: np.ndarray,
    *,
    groups: np.ndarray,
    method: str,
    outputs: int,
    at_least: float,
    scores: np.ndarray | None = None,
    most_words: float | None = None,
    seed: int = 42,
    here: bool = False,
) -> float:
    """About the weakest penalty, `at_least` or above, under which halves of the groups choose `most_words` at most.

    That is a mean of the outputs, and of the first few halves that `stability_selection` draws by the same seed.

    Args:
        at_least: the penalty that predicts best.
        scores: as for `stability_selection`; they count as words.
        most_words: None: sqrt(0.8 V), with which `Stability.expected_false` at 0.9 is 1.
    """
    texts = _Texts(x, target, groups, method, outputs, seed, scores)
    whole = texts.columns(np.arange(len(target)))
    most_words = np.sqrt(0.8 * whole.shape[1]) if most_words is None else most_words
    largest = largest_penalty(whole, target, outputs=outputs)
    if not 0 < at_least < largest:
        return at_least
    held = hold(texts, here=here)

    def words(penalty: float) -> float:
        halves = map_tasks(_fit_half, [(number, penalty) for number in range(_HALVES)], shared=held, here=here)
        return sum(len(one) for half in halves for signs in half for one in signs) / (_HALVES * outputs)

    if words(at_least) <= most_words:
        return at_least
    weak, strong = at_least, largest
    for _ in range(_STEPS):
        middle = float(np.sqrt(weak * strong))
        weak, strong = (weak, middle) if words(middle) <= most_words else (middle, strong)
    return strong


def half_of_groups(groups: np.ndarray, number: int, *, seed: int) -> np.ndarray:
    """Rows of subsample `number`: those of half of the groups, the smaller half where their number is odd."""
    count = int(groups.max()) + 1
    drawn = np.zeros(count, dtype=bool)
    drawn[np.random.default_rng([seed, number]).permutation(count)[: count // 2]] = True
    return np.flatnonzero(drawn[groups])


def _fit_half(half: tuple[int, float], texts: _Texts) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each output the words with a weight above 0, and those with one below."""
    number, penalty = half
    rows = half_of_groups(texts.groups, number, seed=texts.seed)
    found = fit(texts.columns(rows), texts.target[rows], method=texts.method, outputs=texts.outputs, penalty=penalty)
    return [
        (np.flatnonzero(one > 0).astype(np.int32), np.flatnonzero(one < 0).astype(np.int32)) for one in found.weights
    ]
