import itertools
import re

import numpy as np
import pytest
from janome.tokenizer import Tokenizer

from seewhy.demo.descriptions import describe, named, names_setts
from seewhy.demo.districts import DISTRICTS, OBJECTS, PAVEMENTS, SETTS, draw_any


def test_a_description_is_read_back_whatever_its_wording():
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = draw_any(rng)
        for heat in (True, False):
            text = describe(scene.objects, scene.pavement, rng, heat=heat)
            assert named(text) == set(scene.objects)
            assert names_setts(text) == (scene.pavement == SETTS)
            assert text.endswith("。")


def test_a_name_within_a_name_is_not_meant():
    assert named("自転車が見えます。") == {"自転車"}
    assert named("自転車と車と信号") == {"自転車", "車", "信号"}
    assert named("写真には何もありません") == set()


def test_wordings_vary_and_nothing_hints_at_a_district():
    rng = np.random.default_rng(1)
    texts = {describe(("船", "箱"), SETTS, rng, heat=heat) for heat in (True, False) for _ in range(400)}
    assert len(texts) > 80
    every = "".join(texts) + "".join(describe((), PAVEMENTS[1], rng, heat=heat) for heat in (True, False) * 50)
    assert not any(district in every or district[:-1] in every for district in DISTRICTS)


def test_objects_stand_in_the_order_of_the_table():
    rng = np.random.default_rng(2)
    text = describe(("船", "鳥居", "車"), SETTS, rng)
    assert text.index("船") < text.index("鳥居") < text.index("車")


@pytest.mark.parametrize("heat", [True, False])
def test_without_objects_it_says_so(heat):
    rng = np.random.default_rng(3)
    texts = {describe((), SETTS, rng, heat=heat) for _ in range(60)}
    assert all(not named(text) and SETTS in text for text in texts)
    assert all(re.search("ません|物はない", text) for text in texts)
    assert len(texts) >= 8


def test_no_name_hides_in_the_wordings():
    """Fixed parts of the templates must not hold an object's name: every name read was meant."""
    rng = np.random.default_rng(4)
    for first, heat in itertools.product(OBJECTS, (True, False)):
        for _ in range(30):
            assert named(describe((first,), SETTS, rng, heat=heat)) == {first}


def test_asphalt_is_told_by_no_word_of_its_own():
    """Else a probe could take that word's absence for 石畳: texts of the two pavements differ in 石畳 and と alone."""
    janome = Tokenizer()

    def words(pavement: str) -> set[str]:
        rng = np.random.default_rng(5)
        texts = "".join(describe(("船",), pavement, rng, heat=heat) for heat in (True, False) * 60)
        return {token.surface for token in janome.tokenize(texts)}

    assert words(PAVEMENTS[0]) - words(PAVEMENTS[1]) <= {SETTS, "と"}
    assert words(PAVEMENTS[1]) <= words(PAVEMENTS[0])
