import itertools

import numpy as np
import pytest

from seewhy.demo.factors import FACTORS, NULL_FACTOR, ceiling, draw_factors, expected_rating, rating

FIRST = {name: factor.levels[0] for name, factor in FACTORS.items()}
SECOND = {name: factor.levels[1] for name, factor in FACTORS.items()}


def test_rating_without_noise_by_hand():
    # Effects sum to 0.6 + 0.5 - 0.4 - 0.3 + 0.8 + 0.45 + 0.35 - 0.35 - 0.5 + 0 = 1.15, half of it either way.
    # Dark with a sun, and bright with a moon, do not agree: -0.25 in both.
    assert expected_rating(FIRST) == pytest.approx(6 - 0.575 - 0.25)
    assert expected_rating(SECOND) == pytest.approx(6 + 0.575 - 0.25)
    # A moon in the dark agrees: its own 0.45 and twice 0.25.
    assert expected_rating({**FIRST, "sky": "moon"}) == pytest.approx(6 - 0.575 - 0.25 + 0.45 + 0.5)
    assert expected_rating({**FIRST, NULL_FACTOR: "thick"}) == pytest.approx(expected_rating(FIRST))


def test_all_posters_stay_on_the_scale_and_average_the_mean():
    levels = [factor.levels for factor in FACTORS.values()]
    every = [expected_rating(dict(zip(FACTORS, row, strict=True))) for row in itertools.product(*levels)]
    assert len(every) == 1024
    assert np.mean(every) == pytest.approx(6.0)
    assert min(every) > 1 + 3 * 0.4
    assert max(every) < 10 - 3 * 0.4
    # The ceiling is the share of variance that the truth explains: 0.16 is the noise's.
    assert ceiling() == pytest.approx(np.var(every) / (np.var(every) + 0.16))
    assert 0.75 < ceiling() < 0.85


def test_noise_has_the_size_that_the_ceiling_assumes():
    rng = np.random.default_rng(3)
    residuals = [rating(FIRST, rng) - expected_rating(FIRST) for _ in range(4000)]
    assert np.mean(residuals) == pytest.approx(0, abs=0.03)
    assert np.std(residuals) == pytest.approx(0.4, abs=0.02)


def test_draws_are_balanced_and_independent():
    rng = np.random.default_rng(5)
    drawn = [draw_factors(rng) for _ in range(4000)]
    table = np.array([[factors[name] == factor.levels[1] for name, factor in FACTORS.items()] for factors in drawn])
    assert np.abs(table.mean(0) - 0.5).max() < 0.04
    correlation = np.corrcoef(table.T) - np.eye(len(FACTORS))
    assert np.abs(correlation).max() < 0.07  # 4.4 standard errors


def test_unknown_level_is_refused():
    with pytest.raises(ValueError, match="purple"):
        expected_rating({**FIRST, "sky": "purple"})


def test_telling_words_belong_to_one_level():
    words = [word for factor in FACTORS.values() for level in factor.words.values() for word in level]
    assert len(words) == len(set(words))
    assert FACTORS[NULL_FACTOR].effect == 0
    assert sum(abs(factor.effect) >= 0.3 for factor in FACTORS.values()) == len(FACTORS) - 1
