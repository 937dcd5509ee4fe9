"""The caption stage: ids, order, failures and the text as it is stored."""

import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from seewhy import schema
from seewhy.caption import Caption, identity, tidy
from seewhy.failure import Failure
from seewhy.fetch import Fetch
from seewhy.images import MAX_PIXELS
from seewhy.vlm.base import DEFAULT_PROMPT, Answer, Request
from seewhy.vlm.fake import FakeBackend


def batch(images: list[bytes | None]) -> pa.Table:
    ids = [f"id-{i}" for i in range(len(images))]
    return pa.table({"id": ids, "image": pa.array(images, pa.binary()), "width": [1] * len(ids)})


def test_every_row_comes_back_in_its_place_with_its_own_images_text():
    images = [b"one", None, b"two", b"three", None]
    table = Caption(backend="fake", prompt="say")(batch(images))
    assert table.schema == schema.CAPTIONS
    assert table["id"].to_pylist() == [f"id-{i}" for i in range(5)]
    alone = FakeBackend().generate([Request("x", (image,), "say") for image in images if image])
    texts = [answer.text for answer in alone]
    assert table["text"].to_pylist() == [texts[0], None, texts[1], texts[2], None]
    assert table["reason"].to_pylist() == [None, "no_image", None, None, "no_image"]
    assert table["error_kind"].to_pylist() == [None, "bad_input", None, None, "bad_input"]
    assert table["finish_reason"].to_pylist() == ["stop", None, "stop", "stop", None]
    assert table["tokens_in"].to_pylist() == [2, None, 2, 2, None]
    assert table["tokens_out"][0].as_py() == len(texts[0].split())


@pytest.mark.parametrize("images", [[], [None, None]])
def test_a_batch_without_images_needs_no_backend_call(images, monkeypatch):
    stage = Caption(backend="fake")
    monkeypatch.setattr(stage._backend, "generate", lambda requests: pytest.fail("called"))
    assert stage(batch(images)).num_rows == len(images)


def test_chunks_and_wide_binary_columns_are_read_alike():
    whole = batch([b"one", b"two", None, b"three"])
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    wide = whole.set_column(1, "image", whole["image"].cast(pa.large_binary()))
    stage = Caption(backend="fake")
    assert stage(chunked).equals(stage(whole))
    assert stage(wide).equals(stage(whole))


def test_no_prompt_asks_with_the_backends_own_and_an_empty_one_is_kept():
    image = batch([b"one"])
    assert Caption(backend="fake")(image).equals(Caption(backend="fake", prompt=DEFAULT_PROMPT)(image))
    assert not Caption(backend="fake", prompt="")(image).equals(Caption(backend="fake")(image))


def test_a_failed_row_keeps_its_kind_and_its_neighbours():
    images = [str(i).encode() for i in range(200)]
    table = Caption(backend="fake", transient_fraction=0.3, rejected_fraction=0.3)(batch(images))
    good = Caption(backend="fake")(batch(images))
    kinds = table["error_kind"].to_pylist()
    assert {"transient", "rejected", None} == set(kinds)
    for row, clean, kind in zip(table.to_pylist(), good.to_pylist(), kinds, strict=True):
        if kind is None:
            assert row == clean
        else:
            assert (row["text"], row["reason"]) == (None, f"fake_{kind}")
            assert row["detail"]


def test_garbage_is_stored_clean_and_blank_garbage_is_rejected(tmp_path):
    table = Caption(backend="fake", garbage_fraction=1)(batch([str(i).encode() for i in range(60)]))
    texts = {text for text in table["text"].to_pylist() if text is not None}
    assert {"<script>alert(1)</script>", "broken", "\u202eright to left", "a nul"} <= texts
    assert {"\x00\x07", "a nul \x00"}.isdisjoint(texts)
    blank = [row for row in table.to_pylist() if row["text"] is None]
    assert {(row["error_kind"], row["reason"]) for row in blank} == {("rejected", "empty_answer")}
    assert len(blank) > 10, "neither control characters nor spaces alone are a text"
    assert {row["finish_reason"] for row in blank} == {"stop"}


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("  A dark sea. \n", "A dark sea."),
        ("A dark\t\tsea.\r\n\r\n\r\nIt  is calm.", "A dark sea.\nIt is calm."),
        ("- bold\n \n- calm\u2028- far", "- bold\n- calm\n- far"),
        ("暗い　海\u3000。", "暗い 海 。"),
        ("a\x00b\x1b[0m \ud83d c", "ab[0m c"),
        (
            "family \U0001f468\u200d\U0001f469\u200d\U0001f467 ok",
            "family \U0001f468\u200d\U0001f469\u200d\U0001f467 ok",
        ),
        ("\x07 \n\x00", ""),
    ],
)
def test_a_text_is_tidied(written, stored):
    assert tidy(written) == stored
    assert tidy(stored) == stored
    stored.encode()


def test_a_backend_that_loses_an_answer_is_an_error(monkeypatch):
    stage = Caption(backend="fake")
    monkeypatch.setattr(stage._backend, "generate", lambda requests: FakeBackend().generate(requests)[:-1])
    with pytest.raises(ValueError, match="zip"):
        stage(batch([b"one", b"two"]))


def test_a_failures_detail_can_be_stored_whatever_it_quotes(monkeypatch):
    stage = Caption(backend="fake")
    failed = Answer(failure=Failure("transient", "http_503", "the server said \ud83d\x00 twice"))
    monkeypatch.setattr(stage._backend, "generate", lambda requests: [failed])
    assert stage(batch([b"one"]))["detail"].to_pylist() == ["the server said twice"]


def test_its_identity_is_plain_and_follows_what_changes_a_caption():
    plain = identity(backend="fake", prompt="say")
    assert plain == {"stage": "caption", "stage_code": 1, "backend": "fake", "code": 1, "prompt": "say"}
    assert identity(backend="fake") == identity(backend="fake", prompt=DEFAULT_PROMPT) != plain
    assert pickle.loads(pickle.dumps(plain)) == plain


@pytest.mark.slow
def test_an_image_as_large_as_the_study_lets_it_be_is_captioned(tmp_path: Path) -> None:
    """Fetched under a limit above the one of `images`, which must not come back when a model looks at it."""
    path = tmp_path / "wide.png"
    Image.new("1", (MAX_PIXELS // 10_000 + 1, 10_000), 1).save(path)
    stage = Fetch(schemes=["file"], roots=[str(tmp_path)], max_pixels=2 * MAX_PIXELS)
    fetched = stage(pa.table({"id": ["a"], "source": [str(path)]}))
    stage.close()
    assert fetched["reason"].to_pylist() == [None]
    (row,) = Caption(backend="tiny", device="cpu")(fetched).to_pylist()
    assert (row["reason"], bool(row["text"])) == (None, True)
