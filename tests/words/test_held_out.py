"""Nothing of a held-out text reaches the probe that is asked about it; chance stays chance."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from seewhy.words.held_out import Texts, _path_losses, _Wanted, fit_models
from seewhy.words.linear import mean_loss


def texts(method: str, *, count: int = 200, noise: bool = False) -> Texts:
    rng = np.random.default_rng(3)
    x = (rng.random((count, 25)) < 0.3).astype(float)
    tells = x[:, 0] + 2 * x[:, 1] + 0.3 * rng.normal(size=count)
    target = tells if method == "lasso" else np.digitize(tells, [0.5, 1.5]).astype(float)
    if noise:
        target = rng.permutation(target)
    return Texts(
        x=sparse.csr_matrix(x),
        target=target,
        permuted=rng.permutation(target),
        groups=np.arange(count) // 2,
        folds=(np.arange(count) // 2 % 4).astype(np.int32),
        outputs=1 if method == "lasso" else 3,
        method=method,
        inner_folds=3,
        seed=42,
    )


@pytest.mark.parametrize("method", ["one_vs_rest", "multinomial", "lasso"])
def test_what_tells_is_found_and_what_was_dealt_out_anew_is_not(method):
    given = texts(method)
    found = fit_models(given, here=True)
    shares = np.bincount(given.target.astype(int)) / len(given.target)
    guess = np.tile(shares if given.outputs > 1 else given.target.mean(), (len(given.target), 1))
    plain = mean_loss(given.target, guess)
    assert mean_loss(given.target, found.real.outputs) < 0.6 * plain
    assert 0.97 * plain < mean_loss(given.permuted, found.permuted.outputs) < 1.1 * plain
    tellers = [(0, 0), (0, 1)] if method == "lasso" else [(1, 0), (2, 1)]  # output and word
    assert all(found.whole.weights[teller] > 0 for teller in tellers)
    assert set(found.real.signs) == set(found.real.penalties) == {0, 1, 2, 3}
    assert all(signs[teller] == 1 for signs in found.real.signs.values() for teller in tellers)


@pytest.mark.parametrize("method", ["one_vs_rest", "lasso"])
def test_held_out_targets_do_not_reach_their_own_probe(method):
    given = texts(method)
    mine = given.folds == 2
    other = given.target.copy()
    other[mine] = (other[mine] + 1) % 3 if method == "one_vs_rest" else other[mine] + 50
    before, after = fit_models(given, here=True), fit_models(replace(given, target=other), here=True)
    assert before.real.penalties[2] == after.real.penalties[2]
    assert np.array_equal(before.real.signs[2], after.real.signs[2])
    assert np.array_equal(before.real.outputs[mine], after.real.outputs[mine])
    assert not np.allclose(before.real.outputs[~mine], after.real.outputs[~mine])
    assert np.array_equal(before.permuted.outputs, after.permuted.outputs)


def test_nor_do_held_out_words():
    given = texts("one_vs_rest")
    mine = np.flatnonzero(given.folds == 1)
    changed = given.x.toarray()
    changed[mine[0]] = 1 - changed[mine[0]]
    before, after = fit_models(given, here=True), fit_models(replace(given, x=sparse.csr_matrix(changed)), here=True)
    assert before.real.penalties[1] == after.real.penalties[1]
    assert np.array_equal(before.real.signs[1], after.real.signs[1])
    assert np.array_equal(before.real.outputs[mine[1:]], after.real.outputs[mine[1:]])


def test_of_noise_next_to_nothing_is_learnt():
    given = texts("one_vs_rest", count=400, noise=True)
    found = fit_models(given, here=True)
    shares = np.bincount(given.target.astype(int)) / len(given.target)
    plain = mean_loss(given.target, np.tile(shares, (len(given.target), 1)))
    assert mean_loss(given.target, found.real.outputs) > 0.97 * plain


def test_inner_splits_keep_groups_together_too():
    """Each text twice, with a word of its own: that word foretells its twin, and no one else."""
    count = 60
    target = np.repeat(np.random.default_rng(4).normal(size=count), 2)
    alone = Texts(
        x=sparse.kron(sparse.identity(count), np.ones((2, 1))).tocsr(),
        target=target,
        permuted=target,
        groups=np.arange(2 * count),
        folds=np.repeat(np.arange(count) % 3, 2).astype(np.int32),
        outputs=1,
        method="lasso",
        inner_folds=3,
        seed=1,
    )
    gains = []
    for given in (alone, replace(alone, groups=np.repeat(np.arange(count), 2))):
        _, losses = _path_losses((_Wanted(0, False), 0), given)
        gains.append(1 - losses.min() / losses[0])
    assert gains[0] > 0.5
    assert gains[1] < 0.05


def test_too_few_groups_to_choose_by_leave_no_words():
    given = texts("lasso", count=8)
    found = fit_models(replace(given, groups=np.arange(8) // 4, folds=(np.arange(8) // 4).astype(np.int32)), here=True)
    assert not any(signs.any() for signs in found.real.signs.values())
    np.testing.assert_allclose(found.real.outputs[:4, 0], given.target[4:].mean())


@pytest.mark.ray
def test_on_the_cluster_as_here(ray_cluster: None):
    given = texts("one_vs_rest")
    there, here = fit_models(given), fit_models(given, here=True)
    assert np.array_equal(there.whole.weights, here.whole.weights)
    assert np.array_equal(there.real.outputs, here.real.outputs)
    assert np.array_equal(there.permuted.outputs, here.permuted.outputs)
    assert there.real.penalties == here.real.penalties
