"""Which fold each row belongs to, with rows of one group always in one fold."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold


def group_numbers(groups: Sequence[object]) -> tuple[np.ndarray, int]:
    """(N,) int64 number of each row's group, counted in order of first appearance, and how many groups there are."""
    seen: dict[object, int] = {}
    numbers = np.fromiter((seen.setdefault(group, len(seen)) for group in groups), dtype=np.int64, count=len(groups))
    return numbers, len(seen)


def grouped_folds(
    groups: Sequence[object], *, folds: int = 5, seed: int = 42, classes: Sequence[object] | None = None
) -> np.ndarray:
    """Deals the groups into folds; where every row is its own group this is scikit-learn's own assignment.

    Without `classes` the groups are dealt by ``KFold(folds, shuffle=True, random_state=seed)``. With `classes`, one per
    row, they are dealt by ``StratifiedKFold`` on each group's commonest class (the first seen of equals), so that the
    folds hold about the same share of every class. Groups count alike however many rows they have.

    Returns:
        (N,) int32, the fold in 0..folds-1 in which the row is held out.

    Raises:
        ValueError: fewer groups than folds, fewer than 2 folds, or as many `classes` as rows not given.
    """
    numbers, count = group_numbers(groups)
    if folds < 2:
        raise ValueError(f"folds is {folds}; cross-validation needs 2 or more")
    if count < folds:
        raise ValueError(f"{count} groups of rows cannot be dealt into {folds} folds; choose at most {count} folds")
    if classes is None:
        splits = KFold(folds, shuffle=True, random_state=seed).split(np.zeros((count, 1)))
    else:
        labels = _commonest(numbers, count, classes)
        most = int(np.bincount(labels).max())
        if most < folds:
            raise ValueError(f"the largest class has {most} groups of rows, fewer than the {folds} folds")
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros((count, 1)), labels)
    fold_of_group = np.empty(count, dtype=np.int32)
    for fold, (_, held_out) in enumerate(splits):
        fold_of_group[held_out] = fold
    return fold_of_group[numbers]


def _commonest(numbers: np.ndarray, count: int, classes: Sequence[object]) -> np.ndarray:
    """(G,) number of each group's commonest class."""
    if len(classes) != len(numbers):
        raise ValueError(f"{len(classes)} classes for {len(numbers)} rows; give one a row")
    labels, kinds = group_numbers(classes)
    votes = np.zeros((count, kinds), dtype=np.int64)
    np.add.at(votes, (numbers, labels), 1)
    return votes.argmax(axis=1)
