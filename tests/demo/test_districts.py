import itertools

import numpy as np
import pytest
from janome.tokenizer import Tokenizer

from seewhy.demo import districts
from seewhy.demo.districts import (
    DISTRICTS,
    NEVER_MATTERS,
    OBJECTS,
    PAVEMENTS,
    PLACES,
    PLAIN,
    SETTS,
    TYPICAL,
    Scene,
    all_scenes,
    best_accuracy,
    draw_any,
    draw_district,
    likelihood,
    planted_words,
    posterior,
)


def share(district: str, *names: str) -> float:
    """Probability that a photo of the district holds all of the names, summed over all scenes."""
    return sum(likelihood(scene, district) for scene in all_scenes() if {*names} <= {*scene.objects, scene.pavement})


def test_ten_words_are_planted_each_in_one_district():
    words = [word for planted in planted_words().values() for word in planted]
    assert len(words) == len(set(words)) == 10
    assert planted_words()["丘の手"] == ("鳥居", "石畳")
    assert not {*words} & {NEVER_MATTERS, *PLAIN}


@pytest.mark.parametrize("word", [*OBJECTS, *PAVEMENTS])
def test_every_word_is_one_noun_to_janome(word):
    tokens = list(Tokenizer().tokenize(f"写真では{word}と{word}が強調されています。背景は{word}です。"))
    same = [token for token in tokens if token.surface == word]
    assert len(same) == 3
    assert {token.part_of_speech.split(",")[0] for token in same} == {"名詞"}


def test_probabilities_sum_to_one():
    for district in DISTRICTS:
        assert sum(likelihood(scene, district) for scene in all_scenes()) == pytest.approx(1)
    assert sum(posterior(all_scenes()[77]).values()) == pytest.approx(1)


def test_likelihood_by_hand_where_everything_fits():
    """No plain object leaves six places: only six to nine typical ones of nine would not fit, and seldom do."""
    scene = Scene(("鳥居",), SETTS)
    plain = 0.6**3 * 0.65
    typical = 0.9 * 0.9**8
    # Nine typical objects, one at 0.9 and eight at 0.1: more than six of them.
    eight = [0.1**k * 0.9 ** (8 - k) * n for k, n in enumerate((1, 8, 28, 56, 70, 56, 28, 8, 1))]
    fits = 0.1 * sum(eight[:7]) + 0.9 * sum(eight[:6])
    assert likelihood(scene, "丘の手") == pytest.approx(plain * typical / fits * 0.85, rel=1e-9)


def test_plain_objects_tell_nothing():
    for name, chance in PLAIN.items():
        assert [share(district, name) for district in DISTRICTS] == pytest.approx([chance] * 4)
    together = [share(district, "電柱", NEVER_MATTERS) for district in DISTRICTS]
    assert together == pytest.approx([0.4 * 0.35] * 4)


def test_typical_objects_are_at_home():
    for home, name in [(home, name) for home, names in planted_words().items() for name in names]:
        assert share(home, name) > 0.7
        assert max(share(other, name) for other in DISTRICTS if other != home) <= 0.1 + 1e-9


def test_draws_follow_the_probabilities():
    rng = np.random.default_rng(0)
    for district in DISTRICTS:
        scenes = [draw_district(rng, district) for _ in range(2000)]
        for name in (*OBJECTS, SETTS):
            found = np.mean([name in (*scene.objects, scene.pavement) for scene in scenes])
            assert found == pytest.approx(share(district, name), abs=4 * 0.5 / 2000**0.5)


def test_best_accuracy_is_what_the_best_guess_reaches():
    assert best_accuracy() == pytest.approx(0.923, abs=0.001)
    rng = np.random.default_rng(1)
    right = 0
    for district, _ in itertools.product(DISTRICTS, range(500)):
        chances = posterior(draw_district(rng, district))
        right += max(chances, key=chances.__getitem__) == district
    assert right / 2000 == pytest.approx(best_accuracy(), abs=0.02)


def test_best_accuracy_without_differences_is_chance(monkeypatch):
    monkeypatch.setattr(districts, "AT_HOME", dict.fromkeys(DISTRICTS, 0.1))
    monkeypatch.setattr(districts, "SETTS_AT", dict.fromkeys(DISTRICTS, 0.5))
    districts._fits.cache_clear()
    try:
        assert best_accuracy.__wrapped__() == pytest.approx(0.25)
    finally:
        districts._fits.cache_clear()


def test_any_scene_fits_and_any_object_comes():
    rng = np.random.default_rng(2)
    scenes = [draw_any(rng) for _ in range(600)]
    assert {len(scene.objects) for scene in scenes} == set(range(PLACES + 1))
    counts = [sum(name in scene.objects for scene in scenes) for name in OBJECTS]
    # Three objects of thirteen on average, whatever the object.
    assert min(counts) > 600 * 3 / 13 * 0.7
    assert max(counts) < 600 * 3 / 13 * 1.3


def test_what_is_no_scene_is_refused():
    with pytest.raises(ValueError, match="order"):
        Scene(("灯台", "船"), SETTS)
    with pytest.raises(ValueError, match="at most 6"):
        Scene(OBJECTS[:7], SETTS)
    with pytest.raises(ValueError, match="砂利"):
        Scene((), "砂利")
    with pytest.raises(KeyError, match="港町"):
        draw_district(np.random.default_rng(0), "港町")
    assert set(TYPICAL) == set(DISTRICTS)
