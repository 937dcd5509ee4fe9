"""Folds: scikit-learn's where rows are alone, whole groups together where they are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold

from seewhy.train.folds import group_numbers, grouped_folds


def test_group_numbers_follow_first_appearance() -> None:
    numbers, count = group_numbers(["b", "a", "b", "c"])
    assert numbers.tolist() == [0, 1, 0, 2]
    assert count == 3


@pytest.mark.parametrize("seed", [42, 7])
def test_rows_that_are_all_alone_get_the_folds_of_kfold(seed: int) -> None:
    names = [f"image {i * 37 % 101}" for i in range(101)]
    expected = np.empty(101, dtype=int)
    for fold, (_, held_out) in enumerate(KFold(5, shuffle=True, random_state=seed).split(names)):
        expected[held_out] = fold
    found = grouped_folds(names, folds=5, seed=seed)
    assert found.dtype == np.int32
    assert found.tolist() == expected.tolist()


def test_classes_are_dealt_as_stratified_kfold_deals_them() -> None:
    classes = ["cat"] * 30 + ["dog"] * 10
    expected = np.empty(40, dtype=int)
    for fold, (_, held_out) in enumerate(StratifiedKFold(5, shuffle=True, random_state=42).split(classes, classes)):
        expected[held_out] = fold
    found = grouped_folds(range(40), classes=classes)
    assert found.tolist() == expected.tolist()
    for fold in range(5):
        assert [classes[i] for i in np.flatnonzero(found == fold)].count("dog") == 2


def test_a_group_is_dealt_by_its_commonest_class() -> None:
    groups = np.repeat(np.arange(20), 3)
    classes = np.repeat(["a", "b"], 30).tolist()
    for row in range(0, 60, 3):
        classes[row] = "c"  # one of three: never the commonest
    found = grouped_folds(groups.tolist(), folds=5, classes=classes)
    for fold in range(5):
        held = {int(g) for g in groups[found == fold]}
        assert len([g for g in held if g < 10]) == 2
        assert len([g for g in held if g >= 10]) == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=20, max_size=80), st.integers(2, 5), st.booleans())
def test_no_group_is_ever_split_and_no_fold_is_empty(groups: list[int], folds: int, stratify: bool) -> None:
    if len(set(groups)) < max(folds, 10):
        return
    classes = [group % 2 for group in groups] if stratify else None
    if stratify and max(len({g for g in groups if g % 2 == one}) for one in (0, 1)) < folds:
        return
    found = grouped_folds(groups, folds=folds, classes=classes)
    for group in set(groups):
        assert len({int(f) for f, g in zip(found, groups, strict=True) if g == group}) == 1
    assert set(found.tolist()) == set(range(folds))


def test_too_few_groups_say_how_many_there_are() -> None:
    with pytest.raises(ValueError, match="3 groups of rows cannot be dealt into 5 folds"):
        grouped_folds(["a", "a", "b", "c", "c", "c"])
    with pytest.raises(ValueError, match="folds is 1"):
        grouped_folds(["a", "b"], folds=1)
    with pytest.raises(ValueError, match="the largest class has 4 groups"):
        grouped_folds(range(8), classes=["a", "b"] * 4)
    with pytest.raises(ValueError, match="2 classes for 8 rows"):
        grouped_folds(range(8), folds=2, classes=["a", "b"])
