"""The score stage: ids out as in, every image scored or with the reason why not, a name that tells what counts."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.images import decode
from seewhy.score import Score, identity
from seewhy.siglip import TextImageModel
from tests.siglip_models import MAKERS
from tests.vlm.models import picture

TEXTS = ["a photo of a cat", "dog", "薔薇"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("models") / "siglip"
    MAKERS["siglip"](found)
    return found


def narrow() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 2), "red").save(buffer, "PNG")
    return buffer.getvalue()


def table(images: list[bytes | None]) -> pa.Table:
    ids = [f"id{i}" for i in range(len(images))]
    return pa.table({"id": ids, "image": pa.array(images, pa.binary())})


def test_every_row_comes_back_in_its_place(folder: Path) -> None:
    images = [picture(0), b"<html>", picture(1), None, picture(2, 90, 31), narrow(), picture(3)[:-40], picture(4)]
    found = Score(model=str(folder), texts=TEXTS, batch_size=2, device="cpu")(table(images))
    assert found.schema.equals(schema.SCORED)
    assert found["id"].to_pylist() == [f"id{i}" for i in range(8)]
    ok, bad = None, "bad_input"
    assert found["error_kind"].to_pylist() == [ok, bad, ok, bad, ok, bad, bad, ok]
    assert found["reason"].to_pylist() == [ok, "html", ok, "no_image", ok, "too_narrow", "truncated", ok]
    model = TextImageModel(model=str(folder), device="cpu")
    texts = model.text_embeddings(TEXTS)
    for place in (0, 2, 4, 7):
        logits = model.logits(model.image_embeddings([model.prepared(decode(images[place]))]), texts)
        row = found.slice(place, 1).to_pylist()[0]
        assert row["logits"] == pytest.approx(logits[0].tolist(), abs=1e-5)
        assert row["probabilities"] == pytest.approx(torch.sigmoid(logits)[0].tolist(), abs=1e-6)
        assert len(set(row["logits"])) == 3
    assert found["logits"][1].as_py() is None


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_size_of_a_batch_changes_nothing(folder: Path, count: int) -> None:
    images = table([picture(seed, 30 + seed, 40) for seed in range(count)])
    one, three = (Score(model=str(folder), texts=TEXTS, batch_size=size, device="cpu")(images) for size in (1, 3))
    assert len(one) == len(three) == count
    assert one["id"].equals(three["id"])
    for a, b in zip(one["logits"].to_pylist(), three["logits"].to_pylist(), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_clip_shares_out_one_among_the_texts(tmp_path: Path) -> None:
    MAKERS["clip"](tmp_path)
    found = Score(model=str(tmp_path), texts=TEXTS, device="cpu")(table([picture(0), picture(1)]))
    for row in found.to_pylist():
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-6)
        ratio = np.log(row["probabilities"][0] / row["probabilities"][1])
        assert ratio == pytest.approx(row["logits"][0] - row["logits"][1], abs=1e-4)


def test_out_of_memory_halves_the_batch_and_fails_what_does_not_fit_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for two images at once, and none for the picture whose first value is that of picture 3."""
    stage = Score(model=str(folder), texts=TEXTS, batch_size=8, device="cpu")
    whole = stage(table([picture(seed) for seed in range(5)]))
    real = TextImageModel.image_embeddings
    large = TextImageModel(model=str(folder), device="cpu").prepared(decode(picture(3)))["pixel_values"][0, 0, 0, 0]
    sizes = []

    def small(self: TextImageModel, images: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 2 or any(one["pixel_values"][0, 0, 0, 0] == large for one in images):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, images)

    monkeypatch.setattr(TextImageModel, "image_embeddings", small)
    found = stage(table([picture(seed) for seed in range(5)]))
    assert sizes == [5, 2, 3, 1, 2, 1, 1]
    assert found["reason"].to_pylist() == [None, None, None, "out_of_memory", None]
    assert found["error_kind"].to_pylist()[3] == "transient"
    for place in (0, 1, 2, 4):
        assert found["logits"][place].as_py() == pytest.approx(whole["logits"][place].as_py(), abs=1e-5)


def test_a_model_that_answers_with_no_number_fails_its_rows(tmp_path: Path) -> None:
    MAKERS["siglip"](tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["logit_bias"] = torch.tensor([float("nan")])
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = Score(model=str(tmp_path), texts=TEXTS, device="cpu")(table([picture(0)]))
    assert found["reason"].to_pylist() == ["not_finite"]
    assert found["logits"].to_pylist() == [None]


def test_the_identity_holds_what_changes_a_score(folder: Path) -> None:
    def named(**given: object) -> dict[str, object]:
        return identity(**{"model": str(folder), "texts": TEXTS, **given})

    base = named()
    assert (base["model"], base["revision"], base["texts"], base["templates"]) == ("siglip", None, TEXTS, ["{}"])
    assert base["probability"] == "sigmoid"
    for other in ({"texts": TEXTS[::-1]}, {"templates": ["a photo of {}"]}, {"dtype": "bfloat16"}):
        assert named(**other) != base


def test_settings_out_of_range(folder: Path) -> None:
    with pytest.raises(ValueError, match="batch_size=0, decode_threads=4: 1 or more is allowed"):
        Score(model=str(folder), texts=TEXTS, batch_size=0)
    with pytest.raises(ValueError, match="0 texts"):
        Score(model=str(folder), texts=[], device="cpu")
    with pytest.raises(Fatal, match="shorten it"):
        Score(model=str(folder), texts=["cat " * 70], device="cpu")
