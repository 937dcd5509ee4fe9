"""Probes that did not see the texts that they are asked about, and the penalty of each.

For every fold a probe is fitted to the texts outside it, under a penalty that inner folds of those texts choose; so is
one to all texts, and, for the comparison with chance, one for every fold to targets that were dealt out anew by lot.
Every fit is a task of its own over one matrix. What the held-out texts hold reaches neither weights nor penalty.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from seewhy.tasks import Held, hold, map_tasks
from seewhy.train.folds import group_numbers, grouped_folds
from seewhy.words.design import design
from seewhy.words.linear import Fit, fit, mean_loss, penalty_path

_PENALTIES, _SMALLEST = 9, 0.02  # steps of the path of penalties, and its end as a share of its beginning
_PATIENCE = 3  # steps without a lower loss, behind which the path is left
_ONE_SPLIT_FROM = 20_000  # texts from which one inner fold is enough to choose the penalty


@dataclass(frozen=True)
class Texts:
    """What the tasks share.

    Attributes:
        x: (N, V) float64.
        target: (N,) numbers, or the index of the class.
        permuted: (N,) the same in another order.
        groups: (N,) int64, equal for texts that are always on one side of a split.
        folds: (N,) int32, where each text is held out.
        outputs: K, the number of classes; 1 for numbers.
        method: one of linear.METHODS.
        scores: (N, S) beside the words; None for none.
    """

    x: sparse.csr_matrix
    target: np.ndarray
    permuted: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    outputs: int
    method: str
    inner_folds: int
    seed: int
    scores: np.ndarray | None = None

    def columns(self, rows: np.ndarray, *, scaled_on: np.ndarray) -> sparse.csr_matrix:
        """(M, V + S), see `design`."""
        return design(self.x, self.scores, rows, scaled_on=scaled_on)


@dataclass(frozen=True)
class HeldOut:
    """Attributes:
    outputs: (N, K) of the probe that did not see the text.
    signs: fold -> (K, V + S) int8 signs of the weights of its probe.
    penalties: fold -> penalty of its probe.
    """

    outputs: np.ndarray
    signs: dict[int, np.ndarray]
    penalties: dict[int, float]


@dataclass(frozen=True)
class Models:
    """The probe of all texts with its penalty; those of the folds; and the folds' of permuted targets."""

    whole: Fit
    penalty: float
    real: HeldOut
    permuted: HeldOut


class _Wanted(NamedTuple):
    fold: int | None  # None: nothing held out
    permuted: bool


def fit_models(texts: Texts, *, here: bool = False) -> Models:
    """All probes of a study.

    Args:
        here: without the cluster. The result is the same.
    """
    held = hold(texts, here=here)
    folds = np.unique(texts.folds).tolist()
    wanted = [_Wanted(None, False), *(_Wanted(fold, permuted) for permuted in (False, True) for fold in folds)]
    penalties = _choose_penalties(held, wanted, here=here)
    fits = dict(zip(wanted, map_tasks(_fit, list(penalties.items()), shared=held, here=here), strict=True))
    real, permuted = (
        _put_together(texts, {fold: fits[_Wanted(fold, lot)] for fold in folds}, penalties, permuted=lot)
        for lot in (False, True)
    )
    return Models(fits[_Wanted(None, False)], penalties[_Wanted(None, False)], real, permuted)


def _put_together(texts: Texts, fits: dict[int, Fit], penalties: dict[_Wanted, float], *, permuted: bool) -> HeldOut:
    outputs = np.zeros((len(texts.folds), texts.outputs))
    for fold, found in fits.items():
        rows, seen = np.flatnonzero(texts.folds == fold), np.flatnonzero(texts.folds != fold)
        outputs[rows] = found.outputs(texts.columns(rows, scaled_on=seen))
    signs = {fold: np.sign(found.weights).astype(np.int8) for fold, found in fits.items()}
    return HeldOut(outputs, signs, {fold: penalties[_Wanted(fold, permuted)] for fold in fits})


def _choose_penalties(held: Held[Texts], wanted: list[_Wanted], *, here: bool) -> dict[_Wanted, float]:
    """The penalty of least mean loss over the texts of the inner folds; of equals the largest."""
    items = [(one, inner) for one in wanted for inner in range(_inner_count(held.value, one))]
    sums: dict[_Wanted, np.ndarray] = {}
    paths: dict[_Wanted, np.ndarray] = {}
    for (one, _), (path, losses) in zip(items, map_tasks(_path_losses, items, shared=held, here=here), strict=True):
        sums[one] = sums.get(one, np.zeros(len(path))) + losses
        paths[one] = path
    return {one: float(paths[one][sums[one].argmin()]) if one in paths else 0.0 for one in wanted}


def _inner_count(texts: Texts, wanted: _Wanted) -> int:
    rows = _training_rows(texts, wanted)
    most = min(texts.inner_folds, len(np.unique(texts.groups[rows])))
    return 0 if most < 2 else 1 if len(rows) >= _ONE_SPLIT_FROM else most


def _path_losses(item: tuple[_Wanted, int], texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    """The penalties, and for each the summed loss over the texts of an inner fold; infinite where the path was left."""
    wanted, inner = item
    rows = _training_rows(texts, wanted)
    numbers, count = group_numbers(texts.groups[rows].tolist())
    dealt = grouped_folds(numbers.tolist(), folds=min(texts.inner_folds, count), seed=texts.seed)
    known, asked = rows[dealt != inner], rows[dealt == inner]
    target = texts.permuted if wanted.permuted else texts.target
    path = penalty_path(
        texts.columns(rows, scaled_on=rows), target[rows], outputs=texts.outputs, count=_PENALTIES, smallest=_SMALLEST
    )
    losses = np.full(len(path), np.inf)
    x_known, x_asked = (texts.columns(some, scaled_on=known) for some in (known, asked))
    for step, found in enumerate(_fits_along(path, x_known, target[known], texts)):
        losses[step] = len(asked) * mean_loss(target[asked], found.outputs(x_asked))
        if step - losses.argmin() >= _PATIENCE:
            break
    return path, losses


def _fits_along(path: np.ndarray, x: sparse.csr_matrix, target: np.ndarray, texts: Texts) -> Iterator[Fit]:
    before = None
    for penalty in path:
        before = fit(x, target, method=texts.method, outputs=texts.outputs, penalty=penalty, start=before)
        yield before


def _fit(item: tuple[_Wanted, float], texts: Texts) -> Fit:
    wanted, penalty = item
    rows = _training_rows(texts, wanted)
    target = texts.permuted if wanted.permuted else texts.target
    x = texts.columns(rows, scaled_on=rows)
    return fit(x, target[rows], method=texts.method, outputs=texts.outputs, penalty=penalty)


def _training_rows(texts: Texts, wanted: _Wanted) -> np.ndarray:
    return np.arange(len(texts.folds)) if wanted.fold is None else np.flatnonzero(texts.folds != wanted.fold)
