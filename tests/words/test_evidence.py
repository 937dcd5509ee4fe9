"""Hits, intervals and means worked out by hand; the bootstrap against the textbook's."""

import numpy as np
import pytest
from scipy import sparse

from seewhy.intervals import wilson
from seewhy.words.evidence import groups_by_word, hits_by_class, means_by_word, presence

# six texts over four words: sky, tower, lamp, and one that no text holds
COUNTS = sparse.csr_matrix(
    [[2, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0]], dtype=np.int32
)
CLASSES = np.array([0, 0, 1, 1, 1, 1])


def test_presence_is_1_however_often():
    found = presence(COUNTS)
    assert found.toarray().tolist() == np.minimum(COUNTS.toarray(), 1).tolist()
    assert found.dtype == np.float64
    assert COUNTS[0, 0] == 2  # not written to


def test_hits_by_hand():
    # sky: texts 0 and 1 of class 0, 3 of class 1; tower: 1, and 2 and 4; lamp: 0, and 4
    assert hits_by_class(presence(COUNTS), CLASSES, 3).tolist() == [[2, 1, 1, 0], [1, 2, 1, 0], [0, 0, 0, 0]]


def test_wilson_by_hand():
    # マンション(8/12): p = 2/3, z^2 = 3.8415; (0.6667 + 0.1601 -+ 0.3111) / 1.3201
    low, high = wilson(np.array([8, 0, 3, 9, 0]), np.array([12, 10, 3, 28, 0]))
    assert low[:4] == pytest.approx([0.3906, 0.0, 0.4385, 0.1793], abs=1e-4)
    assert high[:4] == pytest.approx([0.8619, 0.2775, 1.0, 0.5066], abs=1e-4)
    assert np.isnan([low[4], high[4]]).all()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_wilson_covers_the_truth_about_as_often_as_it_says(share):
    hits = np.random.default_rng(0).binomial(40, share, size=20_000)
    low, high = wilson(hits, np.full(len(hits), 40))
    assert 0.92 < ((low <= share) & (share <= high)).mean() < 0.98


def test_means_by_hand():
    target = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 12.0])
    found = means_by_word(presence(COUNTS), target, np.arange(6), resamples=50)
    assert found.with_word[:3] == pytest.approx([7 / 3, 10 / 3, 3])
    assert found.without[:3] == pytest.approx([20 / 3, 17 / 3, 21 / 4])
    assert found.difference[:3] == pytest.approx([-13 / 3, -7 / 3, -9 / 4])
    assert np.isnan([found.with_word[3], found.difference[3], found.low[3], found.high[3]]).all()
    assert found.without[3] == pytest.approx(27 / 6)
    everywhere = means_by_word(sparse.csr_matrix(np.ones((6, 1))), target, np.arange(6), resamples=50)
    assert everywhere.with_word[0] == pytest.approx(27 / 6)
    assert np.isnan([everywhere.without[0], everywhere.difference[0], everywhere.low[0]]).all()


@pytest.mark.parametrize("texts", [300, 4000])  # more groups than bins, too
def test_the_interval_is_that_of_two_means(texts):
    rng = np.random.default_rng(texts)
    holds = rng.random(texts) < 0.3
    target = 1e6 + rng.exponential(size=texts) + holds
    found = means_by_word(sparse.csr_matrix(holds[:, None].astype(float)), target, np.arange(texts), resamples=4000)
    groups = target[holds], target[~holds]
    half = 1.96 * np.sqrt(sum(one.var() / len(one) for one in groups))
    difference = groups[0].mean() - groups[1].mean()
    assert found.difference[0] == pytest.approx(difference, rel=1e-6)
    np.testing.assert_allclose([found.low[0], found.high[0]], [difference - half, difference + half], atol=0.12 * half)


@pytest.mark.parametrize("images", [100, 1500])  # more than bins, too
def test_texts_of_one_image_widen_the_interval(images):
    rng = np.random.default_rng(5)
    holds, target = rng.random(images) < 0.4, rng.normal(size=images)
    many = sparse.csr_matrix(np.tile(holds, 9)[:, None].astype(float))
    alone = means_by_word(many, np.tile(target, 9), np.arange(9 * images))
    grouped = means_by_word(many, np.tile(target, 9), np.tile(np.arange(images), 9))
    assert grouped.high[0] - grouped.low[0] == pytest.approx(3 * (alone.high[0] - alone.low[0]), rel=0.15)
    assert grouped.difference[0] == pytest.approx(alone.difference[0])


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(6)
    present, target = sparse.csr_matrix((rng.random((50, 2)) < 0.5).astype(float)), rng.normal(size=50)
    first, again, other = (means_by_word(present, target, np.arange(50), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.low, again.low)
    assert not np.array_equal(first.low, other.low)


def test_groups_that_hold_a_word_by_hand():
    present = sparse.csr_matrix([[1, 0], [1, 1], [0, 1], [0, 1.0]])
    assert groups_by_word(present, np.array([0, 0, 1, 2])).tolist() == [1, 3]


def test_the_interval_of_five_texts_holds_the_truth_though_the_numbers_are_skewed():
    """Plain percentiles of 5 exponential draws hold it in 82 of 100."""
    rng = np.random.default_rng(0)
    present = sparse.csr_matrix((np.arange(200) < 5)[:, None].astype(float))
    held = 0
    for draw in range(200):
        found = means_by_word(present, rng.exponential(size=200), np.arange(200), resamples=2000, seed=draw)
        held += found.low[0] <= 0 <= found.high[0]
    assert held >= 180
