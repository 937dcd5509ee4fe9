"""Fits are told from their optimality conditions: at the minimum of a convex loss with an L1 penalty the loss falls by
the penalty along every word with a weight, and by no more than that along every other."""

import numpy as np
import pytest
from scipy import sparse

from seewhy.words.linear import Fit, fit, largest_penalty, mean_loss, penalty_path

CLASSES = 3


def made(texts: int = 240, words: int = 40, seed: int = 0) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Texts of 0 and 1, a class that words 0, 1 and 2 tell, and a number that words 3 and 4 move, far from 0."""
    rng = np.random.default_rng(seed)
    x = (rng.random((texts, words)) < 0.2).astype(float)
    classes = np.where(rng.random(texts) < 0.7, np.argmax(x[:, :3] + 0.1 * rng.random((texts, 3)), axis=1), 0)
    numbers = 1000 + 5 * x[:, 3] - 3 * x[:, 4] + rng.normal(size=texts)
    return sparse.csr_matrix(x), classes.astype(float), numbers


def slopes(x: sparse.csr_matrix, target: np.ndarray, found: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the mean loss along each weight, (K, V), and along each intercept, (K,)."""
    scores = x @ found.weights.T + found.intercepts
    if found.method == "lasso":
        errors = scores - target[:, None]
    elif found.method == "multinomial":
        odds = np.exp(scores)
        errors = odds / odds.sum(axis=1, keepdims=True) - np.eye(CLASSES)[target.astype(int)]
    else:
        errors = 1 / (1 + np.exp(-scores)) - np.eye(CLASSES)[target.astype(int)]
    return (x.T @ errors).T / len(target), errors.mean(axis=0)


@pytest.mark.parametrize("method", ["one_vs_rest", "multinomial", "lasso"])
@pytest.mark.parametrize("share", [0.6, 0.2, 0.05])
def test_optimality(method, share):
    x, classes, numbers = made()
    target, outputs = (numbers, 1) if method == "lasso" else (classes, CLASSES)
    penalty = share * largest_penalty(x, target, outputs=outputs)
    found = fit(x, target, method=method, outputs=outputs, penalty=penalty)
    along, intercepts = slopes(x, target, found)
    chosen = found.weights != 0
    assert 0 < chosen.sum() < chosen.size
    np.testing.assert_allclose(along[chosen], -penalty * np.sign(found.weights[chosen]), atol=0.01 * penalty)
    assert np.abs(along[~chosen]).max() <= 1.01 * penalty
    # the intercept goes free: of liblinear's penalty on it a hundredth is left
    assert np.abs(intercepts).max() <= 0.02 * penalty


@pytest.mark.parametrize("method", ["one_vs_rest", "multinomial", "lasso"])
def test_the_path_begins_where_the_first_word_comes_in(method):
    x, classes, numbers = made()
    target, outputs = (numbers, 1) if method == "lasso" else (classes, CLASSES)
    largest = largest_penalty(x, target, outputs=outputs)
    none, some = (fit(x, target, method=method, outputs=outputs, penalty=largest * near) for near in (1.02, 0.97))
    assert not none.weights.any()
    assert (some.weights != 0).sum() == 1
    path = penalty_path(x, target, outputs=outputs, count=3, smallest=0.01)
    np.testing.assert_allclose(path, largest * np.array([1, 0.1, 0.01]))


def test_without_words_a_guess_by_share_or_mean_is_left():
    x, classes, numbers = made()
    shares = np.bincount(classes.astype(int)) / len(classes)
    none = 1.1 * largest_penalty(x, classes, outputs=CLASSES)
    for method in ("one_vs_rest", "multinomial"):
        found = fit(x, classes, method=method, outputs=CLASSES, penalty=none)
        np.testing.assert_allclose(found.outputs(x), np.tile(shares, (len(classes), 1)), atol=0.01)
    np.testing.assert_allclose(fit(x, numbers, method="lasso", outputs=1, penalty=1e6).outputs(x), numbers.mean())
    nothing = sparse.csr_matrix((len(classes), 0))
    for method, target, outputs in (("one_vs_rest", classes, CLASSES), ("lasso", numbers, 1)):
        found = fit(nothing, target, method=method, outputs=outputs, penalty=0.1)
        assert found.weights.shape == (outputs, 0)
        assert mean_loss(target, found.outputs(nothing)) > 0


@pytest.mark.parametrize("method", ["one_vs_rest", "multinomial", "lasso"])
def test_one_penalty_means_the_same_for_more_texts(method):
    x, classes, numbers = made()
    target, outputs = (numbers, 1) if method == "lasso" else (classes, CLASSES)
    penalty = 0.2 * largest_penalty(x, target, outputs=outputs)
    once = fit(x, target, method=method, outputs=outputs, penalty=penalty)
    thrice = fit(sparse.vstack([x] * 3).tocsr(), np.tile(target, 3), method=method, outputs=outputs, penalty=penalty)
    np.testing.assert_allclose(thrice.weights, once.weights, atol=0.02 * np.abs(once.weights).max())
    assert ((thrice.weights != 0) == (once.weights != 0)).mean() > 0.95


def test_two_classes_are_one_model_in_a_mirror():
    x, classes, _ = made()
    target = (classes == 1).astype(float)
    found = fit(x, target, method="multinomial", outputs=2, penalty=0.01)
    assert found.weights[1].any()
    assert np.array_equal(found.weights[0], -found.weights[1])
    np.testing.assert_allclose(found.outputs(x)[:, 1], 1 / (1 + np.exp(-(x @ found.weights[1] + found.intercepts[1]))))


@pytest.mark.parametrize("method", ["one_vs_rest", "multinomial"])
@pytest.mark.parametrize("kept", [(0, 1), (1,)])
def test_a_class_without_texts_is_next_to_impossible(method, kept):
    x, classes, _ = made()
    rows = np.flatnonzero(np.isin(classes, kept))
    found = fit(x[rows], classes[rows], method=method, outputs=CLASSES, penalty=0.01)
    outputs = found.outputs(x)
    assert outputs.sum(axis=1) == pytest.approx(1)
    assert outputs[:, 2].max() < 0.05
    assert not found.weights[2].any()
    if kept == (1,):
        assert outputs[:, 1].min() > 0.9


@pytest.mark.parametrize("method", ["multinomial", "lasso"])
def test_whoever_sets_out_from_a_neighbour_ends_at_the_same_place(method):
    x, classes, numbers = made()
    target, outputs = (numbers, 1) if method == "lasso" else (classes, CLASSES)
    far, cold = (fit(x, target, method=method, outputs=outputs, penalty=penalty) for penalty in (0.05, 0.01))
    warm = fit(x, target, method=method, outputs=outputs, penalty=0.01, start=far)
    np.testing.assert_allclose(warm.weights, cold.weights, atol=0.02 * np.abs(cold.weights).max())
    assert np.abs(far.weights - warm.weights).max() > 0.1


def test_losses_by_hand():
    assert mean_loss(np.array([1.0, 3.0]), np.array([[2.0], [5.0]])) == 2.5
    assert mean_loss(np.array([0, 1]), np.array([[0.5, 0.5], [0.75, 0.25]])) == pytest.approx(np.log(2) * 1.5)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="'ridge'; allowed: one_vs_rest, multinomial, lasso"):
        fit(sparse.csr_matrix((2, 1)), np.zeros(2), method="ridge", outputs=2, penalty=1.0)
