"""Texts tried by hand: the model's own logits, probabilities worked out on paper, a table that is safe to open."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seewhy.app.scoring import Scorer, Trial, as_csv, probabilities, rows_of
from seewhy.failure import Failure, Fatal
from seewhy.images import decode
from seewhy.siglip import TextImageModel
from tests.siglip_models import MAKERS

ONE = Trial("a dog", 0.0, "dog.png", "d0", "siglip", ("{}",), False)


def test_a_sigmoid_of_each_by_itself() -> None:
    given = [ONE, replace(ONE, text="b", logit=math.log(3)), replace(ONE, text="c", logit=-1000.0)]
    assert probabilities(given) == pytest.approx([0.5, 0.75, 0.0])


def test_clip_shares_among_the_texts_of_a_picture() -> None:
    clip = replace(ONE, softmax=True)
    given = [
        clip,
        replace(clip, text="b", logit=math.log(3)),
        replace(clip, text="b", logit=math.log(3)),  # tried twice: counted once
        replace(clip, text="c", logit=5000.0, picture_id="other"),
        replace(clip, text="d", logit=7.0, templates=("a photo of {}",)),
        replace(clip, text="e", logit=7.0, model="another"),
    ]
    assert probabilities(given) == pytest.approx([0.25, 0.75, 0.75, 1.0, 1.0, 1.0])


def test_the_table_is_numbered_and_a_spreadsheet_takes_no_cell_for_a_formula() -> None:
    given = [replace(ONE, text='=HYPERLINK("http://evil.example")'), replace(ONE, picture="@x", text="a, b\nc")]
    assert [row["no"] for row in rows_of(given)] == [1, 2]
    data = as_csv(given)
    assert data.startswith(b"\xef\xbb\xbf")
    read = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert read[0]["text"] == '\'=HYPERLINK("http://evil.example")'
    assert (read[1]["text"], read[1]["image"], read[1]["logit"], read[1]["probability"]) == (
        "a, b\nc",
        "'@x",
        "0.0",
        "0.5",
    )


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_a_logit_is_the_models_own(tmp_path: Path, kind: str) -> None:
    MAKERS[kind](tmp_path / kind)
    data = _png(0)
    scorer = Scorer(model=str(tmp_path / kind), device="cpu")
    model = TextImageModel(model=str(tmp_path / kind), device="cpu")
    for number, key in ((0, "a"), (1, "b"), (0, "a")):  # back and forth: what was kept of a picture is that picture's
        found = scorer.score("red", ["{}", "a {}"], data=_png(number), picture="x", picture_id=key)
        texts = model.text_embeddings(["red"], templates=["{}", "a {}"])
        logits = model.logits(model.image_embeddings([model.prepared(decode(_png(number)))]), texts)
        assert isinstance(found, Trial)
        assert found.logit == pytest.approx(logits.item(), abs=1e-5)
        assert found.softmax == (kind == "clip")
    with pytest.raises(Fatal, match="shorten it"):
        scorer.score("red " * 500, ["{}"], data=data, picture="x", picture_id="a")
    broken = scorer.score("red", ["{}"], data=data[:60], picture="x", picture_id="c")
    assert isinstance(broken, Failure)


def _png(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (40, 32, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    return out.getvalue()
