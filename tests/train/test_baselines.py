"""The baselines see the training rows only, and see what is there to be seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from seewhy.train.baselines import linear_outputs, word_outputs
from seewhy.train.crossfit import Split
from seewhy.train.scores import weighted_scores

TEXTS = [f"a {'dark' if i % 2 else 'bright'} scene {'with' if i % 3 else 'without'} people {i % 7}" for i in range(60)]
FOLDS = np.arange(60, dtype=np.int32) % 5
NUMBERS = np.where(np.arange(60) % 2, 2.0, 8.0)


def split(target: np.ndarray, classes: int = 0, chosen: Sequence[int] = range(5)) -> Split:
    return Split(tuple("abc"[:classes]), target, np.arange(60), FOLDS, tuple(chosen))


def outputs(target: np.ndarray, classes: int = 0, chosen: Sequence[int] = range(5), **words: Any) -> dict[str, Any]:
    return word_outputs(TEXTS, split(target, classes, chosen), **words)


def test_the_mean_is_that_of_the_other_folds() -> None:
    target = np.arange(60, dtype=float)
    found = outputs(target)["mean"]
    assert found[0, 0] == pytest.approx((target.sum() - target[0::5].sum()) / 48)
    assert weighted_scores(target, found, np.ones((1, 60)))["r2"][0] < 0


def test_ridge_finds_a_word_that_tells() -> None:
    found = outputs(NUMBERS)["ridge_words"]
    assert np.abs(found[:, 0] - NUMBERS).max() < 0.5


def test_held_out_targets_do_not_reach_their_own_predictions() -> None:
    changed = np.where(FOLDS == 2, NUMBERS + 100, NUMBERS)
    before, after = outputs(NUMBERS), outputs(changed)
    for name in ("mean", "ridge_words"):
        assert np.array_equal(before[name][FOLDS == 2], after[name][FOLDS == 2])
        assert np.abs(before[name][FOLDS != 2] - after[name][FOLDS != 2]).min() > 1


def test_noise_is_not_predicted() -> None:
    noise = np.random.default_rng(0).normal(size=60)
    assert weighted_scores(noise, outputs(noise)["ridge_words"], np.ones((1, 60)))["r2"][0] < 0.1


def test_classes() -> None:
    target = np.where(np.arange(60) % 2, 2.0, 0.0)  # class 1 of 3 never occurs
    target[0] = 2.0
    found = outputs(target, classes=3)
    assert found["majority"][1].tolist() == pytest.approx([23 / 48, 0, 25 / 48])  # row 1 is in fold 1, row 0 is not
    assert found["majority"][0].tolist() == pytest.approx([24 / 48, 0, 24 / 48])
    assert (found["logistic_words"].argmax(axis=1)[1:] == target[1:]).mean() > 0.95
    assert found["logistic_words"].sum(axis=1) == pytest.approx(1)
    assert (found["logistic_words"][:, 1] == 0).all()


def test_only_chosen_folds_are_predicted() -> None:
    found = outputs(NUMBERS, chosen=[1])["ridge_words"]
    assert np.array_equal(np.isnan(found[:, 0]), FOLDS != 1)


def test_japanese_needs_no_spaces() -> None:
    texts = [f"{'暗い' if i % 2 else '明るい'}街角の写真{chr(0x4E00 + i)}" for i in range(60)]
    by_script = word_outputs(texts, split(NUMBERS))["ridge_words"]
    by_word = word_outputs(texts, split(NUMBERS), words="word")["ridge_words"]
    assert np.abs(by_script[:, 0] - NUMBERS).max() < 2
    assert np.abs(by_word[:, 0] - NUMBERS).min() > 2.5  # each text is one word of its own
    own = word_outputs(texts, split(NUMBERS), words=lambda text: [text[:2]])["ridge_words"]
    assert np.abs(own[:, 0] - NUMBERS).max() < 1


def test_texts_without_a_word_are_worth_the_mean() -> None:
    found = word_outputs(["!"] * 60, split(NUMBERS), words="word")
    assert np.array_equal(found["ridge_words"], found["mean"])


def test_an_unknown_analyzer_is_named() -> None:
    with pytest.raises(ValueError, match="'bigram'"):
        outputs(NUMBERS, words="bigram")


def test_a_linear_model_of_a_sample_of_the_training_rows() -> None:
    seen: list[np.ndarray] = []

    def features(train: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(train)
        return NUMBERS[train][:, None], NUMBERS[held_out][:, None]

    found = linear_outputs(features, split(NUMBERS), name="numbers", most_rows=8)
    assert set(found) == {"mean", "ridge_numbers"}
    assert [len(rows) for rows in seen] == [8] * 5
    for fold, rows in enumerate(seen):
        assert (FOLDS[rows] != fold).all()
    assert found["mean"][0, 0] == pytest.approx(NUMBERS[FOLDS != 0].mean())  # of all training rows, not of the sample
    again = list(seen)
    linear_outputs(features, split(NUMBERS), name="numbers", most_rows=8)
    assert all(np.array_equal(a, b) for a, b in zip(again, seen[5:], strict=True))
