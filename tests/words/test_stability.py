"""A planted word is chosen from every half, noise from few; halves are halves of the groups."""

import numpy as np
import pytest
from scipy import sparse

from seewhy.words.linear import fit, largest_penalty
from seewhy.words.stability import Stability, half_of_groups, selection_penalty, stability_selection


def planted(texts: int = 400, words: int = 30) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Word 0 speaks for class 0 (of 3), word 1 against it and for the number, the others for nothing."""
    rng = np.random.default_rng(1)
    x = (rng.random((texts, words)) < 0.3).astype(float)
    odds = 3.0 * x[:, 0] - 3.0 * x[:, 1]
    classes = np.where(rng.random(texts) < 1 / (1 + np.exp(-odds)), 0, rng.integers(1, 3, texts))
    return sparse.csr_matrix(x), classes.astype(float), 2 * x[:, 1] + rng.normal(size=texts)


def selected(method: str, **changes: object) -> Stability:
    x, classes, numbers = planted()
    target, outputs = (numbers, 1) if method == "lasso" else (classes, 3)
    penalty = 0.4 * largest_penalty(x, target, outputs=outputs)
    settings = {"groups": np.arange(len(target)), "subsamples": 60, "here": True} | changes
    return stability_selection(x, target, method=method, outputs=outputs, penalty=penalty, **settings)


@pytest.mark.parametrize("method", ["one_vs_rest", "multinomial"])
def test_planted_words_are_chosen_from_every_half_and_noise_is_not(method):
    found = selected(method)
    assert found.above[0, 0] == 1.0
    assert found.below[0, 1] == 1.0
    assert found.below[0, 0] == found.above[0, 1] == 0.0
    assert (found.above + found.below)[:, 2:].max() < 0.35
    np.testing.assert_allclose(found.chosen, (found.above + found.below).sum(axis=1))


def test_of_numbers_too():
    found = selected("lasso")
    assert found.above.shape == (1, 30)
    assert found.above[0, 1] == 1.0
    assert (found.above + found.below)[0, 2:].max() < 0.35


def test_halves_hold_whole_groups_and_half_of_them():
    groups = np.array([0, 1, 1, 2, 3, 3, 3, 4])
    seen = np.zeros(5)
    for number in range(400):
        rows = half_of_groups(groups, number, seed=7)
        held = set(groups[rows].tolist())
        assert len(held) == 2  # of 5
        assert len(rows) == sum((groups == group).sum() for group in held)
        seen[list(held)] += 1
    assert np.abs(seen / 400 - 0.4).max() < 0.1  # none is drawn more often than others
    assert np.array_equal(half_of_groups(groups, 3, seed=7), half_of_groups(groups, 3, seed=7))
    drawn = [half_of_groups(np.arange(40), 3, seed=seed).tolist() for seed in (1, 2)]
    assert drawn[0] != drawn[1]


def test_texts_of_one_image_are_one_witness():
    """With all texts ten times over as groups of ten nothing changes; as groups of one noise would look sure."""
    x, classes, _ = planted(120)
    many, again = sparse.vstack([x] * 10).tocsr(), np.tile(classes, 10)
    settings = {"method": "one_vs_rest", "outputs": 3, "penalty": 0.02, "subsamples": 30, "here": True}
    once = stability_selection(x, classes, groups=np.arange(120), **settings)
    grouped = stability_selection(many, again, groups=np.tile(np.arange(120), 10), **settings)
    alone = stability_selection(many, again, groups=np.arange(1200), **settings)
    np.testing.assert_allclose(grouped.above, once.above, atol=0.04)
    surely = [((one.above + one.below)[:, 2:] > 0.95).sum() for one in (once, alone)]
    assert surely[1] > surely[0] + 10


@pytest.mark.parametrize("most_words", [1.0, 3.0, 1e9])
def test_the_penalty_lets_few_words_in(most_words):
    x, _, numbers = planted()
    settings = {"groups": np.arange(400), "method": "lasso", "outputs": 1, "here": True}
    weakest = 0.1 * largest_penalty(x, numbers, outputs=1)
    found = selection_penalty(x, numbers, at_least=weakest, most_words=most_words, **settings)
    halves = [half_of_groups(np.arange(400), number, seed=42) for number in range(4)]

    def words(penalty: float) -> float:
        fits = [fit(x[half], numbers[half], method="lasso", outputs=1, penalty=penalty) for half in halves]
        return np.mean([np.count_nonzero(one.weights) for one in fits])

    assert words(found) <= most_words
    if most_words < 1e9:
        assert words(found * 0.1 ** (1 / 64)) > most_words  # halved 6 times
    else:
        assert found == pytest.approx(weakest)
    assert selection_penalty(x, numbers, at_least=1e9, **settings) == 1e9


def test_with_few_words_let_in_at_most_about_one_false_one_is_sure():
    """V = 200 words of noise: at 0.9 the bound is one; what is seen is less."""
    rng = np.random.default_rng(5)
    x, target = sparse.csr_matrix((rng.random((300, 200)) < 0.3).astype(float)), rng.normal(size=300)
    settings = {"groups": np.arange(300), "method": "lasso", "outputs": 1, "here": True}
    penalty = selection_penalty(x, target, at_least=1e-3, **settings)
    found = stability_selection(x, target, penalty=penalty, subsamples=50, **settings)
    assert 5 < found.chosen[0] < 20  # about sqrt(160); other halves choose other numbers
    assert (np.maximum(found.above, found.below) >= 0.9).sum() <= 1


@pytest.mark.ray
@pytest.mark.parametrize("method", ["one_vs_rest", "lasso"])
def test_on_the_cluster_as_here(ray_cluster: None, method):
    there, here = selected(method, subsamples=8, here=False), selected(method, subsamples=8)
    assert np.array_equal(there.above, here.above)
    assert np.array_equal(there.below, here.below)


def test_the_bound_on_false_selections_by_hand():
    found = Stability(np.zeros((2, 1000)), np.zeros((2, 1000)), np.array([20.0, 0.0]), 100, 0.1)
    assert found.expected_false(0.9) == pytest.approx([0.5, 0.0])  # 400 / (0.8 * 1000)
    assert found.expected_false(1.0) == pytest.approx([0.4, 0.0])
    with pytest.raises(ValueError, match=r"share is 0\.5"):
        found.expected_false(0.5)


def test_what_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="1 group"):
        selected("lasso", groups=np.zeros(400, np.int64))
    with pytest.raises(ValueError, match="subsamples=0"):
        selected("lasso", subsamples=0)
