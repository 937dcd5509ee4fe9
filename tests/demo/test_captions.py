import numpy as np

from seewhy.demo.captions import CONTRADICTION, caption, level_words, mentioned
from seewhy.demo.factors import FACTORS, draw_factors


def test_every_caption_tells_every_factor_and_nothing_else():
    rng = np.random.default_rng(1)
    for _ in range(2000):
        factors = draw_factors(rng)
        text = caption(factors, rng)
        assert mentioned(text) == factors, text
        assert 30 <= len(text.split()) <= 60, text


def test_captions_of_one_poster_differ():
    rng = np.random.default_rng(2)
    factors = draw_factors(rng)
    assert len({caption(factors, rng) for _ in range(200)}) > 150


def test_articles_fit():
    rng = np.random.default_rng(3)
    text = " ".join(caption(draw_factors(rng), rng).lower() for _ in range(500))
    assert " a unframed" not in text
    assert " an unframed" in text
    assert " an dark" not in text


def test_mentioned_reads_words_not_letters():
    assert mentioned("Darkness fell. A hotdog, carefully framed!") == {"frame": "thick"}
    assert mentioned("A DARK road; the Moon.") == {"lighting": "dark", "sky": "moon"}
    assert mentioned("A dark, bright image with a dog") == {"lighting": CONTRADICTION, "object": "dog"}
    assert mentioned("a bright, dark, bright one") == {"lighting": CONTRADICTION}
    assert mentioned("") == {}


def test_level_words_stand_in_captions_of_their_level_alone():
    rng = np.random.default_rng(4)
    owned = level_words()
    assert owned["object", "dog"] == {"dog", "hound", "puppy", "patient", "faithful", "curious"}
    assert owned["people", "one"] == {"lone", "solitary", "single", "figure"}
    for _ in range(500):
        factors = draw_factors(rng)
        words = set(caption(factors, rng).lower().replace(",", " ").replace(".", " ").split())
        for name, factor in FACTORS.items():
            for level in factor.levels:
                assert bool(words & owned[name, level]) == (factors[name] == level)
