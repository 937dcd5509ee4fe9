"""The packaged tiny SigLIP's scores of the demo's posters, instead of words: which factors move the planted rating."""

import numpy as np
import pytest
from scipy import sparse

from seewhy.demo.factors import FACTORS, NULL_FACTOR, draw_factors, rating
from seewhy.demo.posters import draw_poster, draw_title
from seewhy.demo.train_siglip import LEVELS, level_text
from seewhy.siglip import TextImageModel
from seewhy.words.probe import fit_probe
from seewhy.words.ranking import stable_ranks

POSTERS = 240

pytestmark = pytest.mark.slow


def test_the_factors_that_move_the_rating_are_chosen_and_the_null_factor_is_not() -> None:
    rng = np.random.default_rng(12)
    model = TextImageModel(model="tiny", device="cpu")
    ratings, prepared = [], []
    for _ in range(POSTERS):
        factors = draw_factors(rng)
        ratings.append(rating(factors, rng))
        prepared.append(model.prepared(np.asarray(draw_poster(factors, rng, title=draw_title(rng)))))
    names = [level_text(*one) for one in LEVELS]
    texts = model.text_embeddings(names)
    pieces = [model.logits(model.image_embeddings(prepared[n : n + 40]), texts).numpy() for n in range(0, POSTERS, 40)]
    found = fit_probe(
        sparse.csr_matrix((POSTERS, 0)),
        [],
        np.array(ratings),
        ids=[str(number) for number in range(POSTERS)],
        target_name="rating",
        scores_of_text=np.concatenate(pieces).astype(np.float64),
        score_names=names,
        called="scores",
        subsamples=50,
        resamples=300,
        here=True,
    )
    assert found.verdict.beats
    factor_of = {level_text(*one): one for one in LEVELS}
    rows = stable_ranks(found.table, min_selection=0.5).to_pylist()
    ranked = [row for row in rows if row["rank"] is not None]
    chosen = {factor_of[row["word"]][0] for row in ranked}
    assert NULL_FACTOR not in chosen
    assert chosen >= {"object", "lighting"}, chosen  # the two that move it most
    for row in ranked:
        name, level = factor_of[row["word"]]
        rises = (FACTORS[name].effect > 0) == (level == FACTORS[name].levels[1])
        assert (row["weight"] > 0) == rises, row["word"]
        assert (row["correlation_low"] > 0) if rises else (row["correlation_high"] < 0), row["word"]
