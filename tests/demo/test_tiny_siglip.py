"""The packaged tiny SigLIP tells every factor of fresh posters by short texts, in other words than its plainest too."""

from pathlib import Path

import numpy as np
import pytest
import torch

import seewhy.demo
from seewhy.demo.factors import FACTORS
from seewhy.demo.posters import draw_factors, draw_poster
from seewhy.demo.train_siglip import LEVELS, TEMPLATES, fits, level_text, phrase, texts_of_a_step
from seewhy.siglip import TextImageModel

FOLDER = Path(seewhy.demo.__file__).parent / "tiny_siglip"


def area(yes: torch.Tensor, no: torch.Tensor) -> float:
    """Of a yes scoring above a no, ties counted half: the area under the ROC curve."""
    return ((yes[:, None] > no).float() + 0.5 * (yes[:, None] == no).float()).mean().item()


def test_area_by_hand() -> None:
    assert area(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0, 2.0])) == pytest.approx((1.5 + 3) / 6)


def test_a_claim_fits_where_all_of_it_is_there() -> None:
    drawn = torch.zeros(2, len(FACTORS), dtype=torch.int64)
    drawn[1, list(FACTORS).index("object")] = 1  # a dark poster with a car, and one with a dog
    claims = [{"object": "dog"}, {"object": "dog", "lighting": "dark"}, {"object": "dog", "lighting": "bright"}, {}]
    assert fits(drawn, claims).tolist() == [[False] * 4, [True, True, False, False]]
    texts, claimed = texts_of_a_step(np.random.default_rng(0))
    assert len(texts) == len(claimed)
    assert [claim for claim in claimed if len(claim) == 1] == [{factor: level} for factor, level in LEVELS]


@pytest.mark.slow
def test_every_factor_of_fresh_posters_is_told() -> None:
    model, rng = TextImageModel(model="tiny", device="cpu"), np.random.default_rng(99)
    drawn = [draw_factors(rng) for _ in range(150)]
    images = [model.prepared(np.asarray(draw_poster(factors, rng))) for factors in drawn]
    seen = model.image_embeddings(images)
    plain = [level_text(*level) for level in LEVELS]
    other = [phrase(*level, np.random.default_rng(5)) for level in LEVELS]
    for texts, templates in ((plain, ["{}"]), (other, TEMPLATES)):
        logits = model.logits(seen, model.text_embeddings(texts, templates=templates))
        for place, (factor, level) in enumerate(LEVELS):
            there = torch.tensor([factors[factor] == level for factors in drawn])
            assert area(logits[there, place], logits[~there, place]) >= 0.9, (texts[place], templates)
    absent = model.probabilities(model.logits(seen, model.text_embeddings(["a bicycle", "a cat"])))
    assert absent.mean() < 0.1


def test_it_is_small() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size < 3_000_000
