import csv

import numpy as np
import pytest
from PIL import Image

from seewhy.demo.posters import FACTORS, draw_factors, draw_poster, draw_title, expected_rating, write_posters

FACTS = {name: factor.levels[0] for name, factor in FACTORS.items()}


def poster(seed: int = 0, **levels: str) -> np.ndarray:
    image = draw_poster({**FACTS, **levels}, np.random.default_rng(seed), title="LAST FERRY")
    return np.asarray(image.resize((96, 96), Image.Resampling.BICUBIC)).astype(float)


def test_lighting_and_palette_are_what_they_say():
    assert poster(lighting="bright").mean() > 1.8 * poster(lighting="dark").mean()
    warm, cold = (poster(lighting="bright", palette=palette)[:48] for palette in ("warm", "cold"))
    assert warm[..., 0].mean() > 1.3 * warm[..., 2].mean()
    assert cold[..., 2].mean() > 1.2 * cold[..., 0].mean()


def test_frame_surrounds_the_poster():
    framed, free = poster(frame="thick"), poster(frame="none")
    top = framed[0, :, :]
    assert np.abs(top - top[0]).max() < 3  # one colour from corner to corner
    assert np.abs(free[0] - free[0, 0]).max() > 20  # snow in the sky


@pytest.mark.parametrize("name", list(FACTORS))
def test_every_factor_shows_at_the_size_the_models_see(name):
    first, second = FACTORS[name].levels
    changed = np.abs(poster(seed=4, **{name: first}) - poster(seed=4, **{name: second})).max(-1)
    assert (changed > 40).sum() > 150  # of 9,216 pixels


def test_same_seed_same_poster_and_chance_elsewhere():
    assert np.array_equal(poster(seed=1), poster(seed=1))
    assert not np.array_equal(poster(seed=1), poster(seed=2))
    small = draw_poster(FACTS, np.random.default_rng(0), size=(128, 192))
    assert small.size == (128, 192)
    assert small.mode == "RGB"


def test_manifest_keeps_the_truth_to_itself(tmp_path):
    manifest = write_posters(tmp_path, 40, seed=11)
    with manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "truth.csv").open(encoding="utf-8") as file:
        truth = list(csv.DictReader(file))
    assert list(rows[0]) == ["poster", "title", "rating", "year", "genre"]
    assert [row["poster"] for row in rows] == [row["poster"] for row in truth]
    residuals = []
    for row, facts in zip(rows, truth, strict=True):
        assert Image.open(tmp_path / row["poster"]).size == (256, 384)
        residuals.append(float(row["rating"]) - expected_rating({name: facts[name] for name in FACTORS}))
    assert 0.25 < np.std(residuals) < 0.55  # the planted noise of 0.4, 40 times
    assert len({row["title"] for row in rows}) > 20


def test_titles_have_two_words():
    rng = np.random.default_rng(0)
    assert all(len(draw_title(rng).split()) == 2 for _ in range(50))
    assert draw_factors(rng).keys() == FACTORS.keys()
