"""The describe stage: what a backend is shown and asked, and what becomes of its answers."""

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from PIL.ExifTags import Base

from seewhy import schema
from seewhy.describe import LANGUAGES, VERSION, Describe, default_prompt, identity
from seewhy.failure import Failure, Fatal
from seewhy.heat import heat_of, random_heat
from seewhy.images import decode
from seewhy.overlay import overlay, side_by_side
from seewhy.vlm.base import Answer, answered
from seewhy.vlm.fake import FakeBackend
from seewhy.vlm.hf import HfBackend
from tests.describing import MAP, batch, encoded, outputs, photo
from tests.describing import recorder as recorder
from tests.vlm import models


def assert_looks_like(data: bytes, expected: np.ndarray) -> None:
    found = decode(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4  # a JPEG of it


# what is shown


def test_photo_and_overlay_are_two_pictures_for_a_backend_that_takes_two(recorder):
    Describe(backend="recorder")(batch([encoded(photo(0)), encoded(photo(1))]))
    assert [len(request.images) for request in recorder.seen] == [2, 2]
    for seed, request in enumerate(recorder.seen):
        plain = np.asarray(photo(seed))
        assert_looks_like(request.images[0], plain)
        assert_looks_like(request.images[1], overlay(plain, heat_of(MAP, 2, 3)))
        assert request.prompt == default_prompt("ja", "map")


def test_and_one_side_by_side_for_a_backend_that_takes_one(recorder):
    recorder.max_images = 1
    Describe(backend="recorder", language="en")(batch([encoded(photo(0))]))
    (request,) = recorder.seen
    plain = np.asarray(photo(0))
    (picture,) = request.images
    assert_looks_like(picture, side_by_side(plain, overlay(plain, heat_of(MAP, 2, 3))))
    assert request.prompt == default_prompt("en", "map", stitched=True) != default_prompt("en", "map")


@pytest.mark.parametrize(("max_images", "stitched", "count"), [(2, True, 1), (1, False, 2), (2, None, 2), (1, None, 1)])
def test_the_user_may_choose_between_them(recorder, max_images, stitched, count):
    recorder.max_images = max_images
    Describe(backend="recorder", stitched=stitched)(batch([encoded(photo(0))]))
    (request,) = recorder.seen
    assert len(request.images) == count
    assert request.prompt == default_prompt(stitched=count == 1)


def test_the_random_control_shows_the_same_values_elsewhere_with_the_same_words(recorder):
    given = batch([encoded(photo(0)), encoded(photo(0))])
    Describe(backend="recorder", control="random")(given)
    plain = np.asarray(photo(0))
    for row, request in zip(given.to_pylist(), recorder.seen, strict=True):
        heat = random_heat(heat_of(MAP, 2, 3), row["id"])
        assert_looks_like(request.images[0], plain)
        assert_looks_like(request.images[1], overlay(plain, heat))
        assert request.prompt == default_prompt("ja", "map")
    again = [request.images for request in recorder.seen]
    recorder.seen.clear()
    Describe(backend="recorder", control="random")(given.take([1, 0]))
    assert [request.images for request in recorder.seen] == again[::-1]
    assert again[0] != again[1]


def test_the_control_without_a_map_shows_the_photo_alone_and_needs_no_map(recorder):
    given = batch([encoded(photo(0))], maps=[None])
    Describe(backend="recorder", control="none")(given)
    Describe(backend="recorder", control="none")(given.select(["id", "image"]))
    for request in recorder.seen:
        (picture,) = request.images
        assert_looks_like(picture, np.asarray(photo(0)))
        assert request.prompt == default_prompt("ja", "none")


def test_a_map_lies_over_the_photo_as_it_stands_upright(recorder):
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    turned = photo(0).transpose(Image.Transpose.ROTATE_90)
    Describe(backend="recorder")(batch([encoded(turned, "JPEG", exif=exif, quality=95)]))
    (request,) = recorder.seen
    assert_looks_like(request.images[1], overlay(np.asarray(photo(0)), heat_of(MAP, 2, 3)))


def test_large_photos_are_reduced_and_small_ones_are_not_enlarged(recorder):
    sizes = [(60, 40), (40, 60), (30, 20), (600, 9)]
    Describe(backend="recorder", size_px=30)(batch([encoded(photo(0, width=w, height=h)) for w, h in sizes]))
    shapes = [decode(request.images[0]).shape[:2] for request in recorder.seen]
    assert shapes == [(20, 30), (30, 20), (20, 30), (1, 30)]
    assert [decode(request.images[1]).shape[:2] for request in recorder.seen] == shapes


# what is asked


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_default_prompts_ask_for_what_is_under_the_hot_places(language):
    words = {"ja": ("写真", "赤", "物", "特徴"), "en": ("photo", "red", "things", "shape")}[language]
    two, one, none = (
        default_prompt(language, "map"),
        default_prompt(language, "map", stitched=True),
        default_prompt(language, "none"),
    )
    assert default_prompt(language, "random") == two
    for word in words:
        assert word in two.lower()
        assert word in one.lower()
        assert (word in none.lower()) == (word != words[1])
    assert {"ja": "2枚目", "en": "second"}[language] in two
    assert {"ja": "右", "en": "right half"}[language] in one
    for prompt in (two, one, none):
        assert "{" not in prompt
        assert ("  " in prompt, prompt == prompt.strip()) == (False, True)
        if language == "en":
            assert ". " in prompt


def test_a_users_prompt_is_asked_as_it_is(recorder):
    Describe(backend="recorder", prompt="何が見えますか。{color}")(batch([encoded(photo(0))]))
    Describe(backend="recorder", prompt="", control="none")(batch([encoded(photo(0))]))
    assert [request.prompt for request in recorder.seen] == ["何が見えますか。{color}", ""]


def test_the_prediction_is_told_only_when_asked_for(recorder):
    given = batch([encoded(photo(i)) for i in range(2)], outputs=outputs([0.2, 0.7, 0.1], [0.5, 0.3, 0.2]))
    classes = ["港", "森", "丘"]
    Describe(backend="recorder", classes=classes)(given)
    assert [request.prompt for request in recorder.seen] == [default_prompt()] * 2
    recorder.seen.clear()
    Describe(backend="recorder", classes=classes, reveal_prediction=True)(given)
    for request, name in zip(recorder.seen, ["森", "港"], strict=True):
        assert request.prompt.startswith(default_prompt())
        assert f"「{name}」" in request.prompt
        assert not any(other in request.prompt for other in classes if other != name)
    recorder.seen.clear()
    Describe(backend="recorder", classes=classes, reveal_prediction=True, prompt="なぜ{prediction}ですか。")(given)
    assert [request.prompt for request in recorder.seen] == ["なぜ森ですか。", "なぜ港ですか。"]
    recorder.seen.clear()
    Describe(backend="recorder", classes=classes, reveal_prediction=True, prompt="Why?", language="en")(given)
    assert recorder.seen[0].prompt.startswith('Why? The model\'s answer was "森".')


def test_a_predicted_number_is_told_as_one(recorder):
    given = batch([encoded(photo(0))], outputs=outputs([6.5432]))
    Describe(backend="recorder", reveal_prediction=True, prompt="Why {prediction}?")(given)
    assert recorder.seen[0].prompt == "Why 6.54?"


def test_classes_that_are_not_the_models_stop_the_job(recorder):
    given = batch([encoded(photo(0))], outputs=outputs([0.2, 0.7, 0.1]))
    for classes in ([], ["a", "b"]):
        with pytest.raises(Fatal, match=f"3 outputs, and {len(classes)} classes"):
            Describe(backend="recorder", reveal_prediction=True, classes=classes)(given)


@pytest.mark.parametrize(("make", "count"), [(models.blip2_opt, 1), (models.llava, 2), (models.idefics3, 2)])
def test_real_models_are_given_what_they_take_and_no_id(make: Callable, count, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    make(folder)
    settings = {"temperature": 0.0, "max_new_tokens": 6, "device": "cpu"}
    stage = Describe(backend="hf", model=str(folder), prompt="what is this", **settings)
    encoded_rows = []
    encode = HfBackend._encode

    def keep(self, rows):
        made = encode(self, rows)
        encoded_rows.append(
            ([len(images) for _, _, images in rows], self._processor.tokenizer.decode(made["input_ids"][0]))
        )
        return made

    monkeypatch.setattr(HfBackend, "_encode", keep)
    given = batch([encoded(photo(0)), encoded(photo(1))])
    table = stage(given)
    assert table["error_kind"].to_pylist() == [None, None]
    ((counts, read),) = encoded_rows
    assert counts == [count, count]
    assert "what is this" in read
    renamed = given.set_column(0, "id", pa.array(["another", "name"]))
    assert stage(renamed)["text"].to_pylist() == table["text"].to_pylist()
    assert encoded_rows[1] == encoded_rows[0]


# rows


def test_every_row_comes_back_in_its_place_with_its_own_text_or_failure(monkeypatch):
    images = [encoded(photo(0)), None, b"no image", encoded(photo(1)), encoded(photo(2))[:100], encoded(photo(3))]
    given = batch(images, maps=[MAP, MAP, MAP, None, MAP, MAP])
    table = Describe(backend="fake")(given)
    assert table.schema == schema.CAPTIONS
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == given["id"].to_pylist()
    assert [row["reason"] for row in rows] == [None, "no_image", "not_an_image", "no_map", "truncated", None]
    assert [row["error_kind"] for row in rows] == [None, *["bad_input"] * 4, None]
    assert [row["text"] is None for row in rows] == [False, True, True, True, True, False]
    for place in (0, 5):
        (alone,) = Describe(backend="fake")(given.slice(place, 1)).to_pylist()
        assert alone == rows[place]
    assert rows[0]["text"] != rows[5]["text"]


@pytest.mark.parametrize("images", [[], [None, b"no image"]])
def test_a_batch_without_pictures_needs_no_backend_call(images, monkeypatch):
    monkeypatch.setattr(FakeBackend, "generate", lambda self, requests: pytest.fail("called"))
    assert Describe(backend="fake")(batch(images)).num_rows == len(images)


def test_what_the_backend_writes_is_tidied_and_its_failures_are_kept(recorder, monkeypatch):
    answers = [
        Answer("  照明\t と\r\n\n 配管\x00 ", None, "length", 1, 2),
        Answer(failure=Failure("transient", "http_503", "the server said \x00 twice")),
        answered("\x07\x00"),
    ]
    monkeypatch.setattr(recorder, "generate", lambda requests: answers)
    rows = Describe(backend="recorder")(batch([encoded(photo(i)) for i in range(3)])).to_pylist()
    assert (rows[0]["text"], rows[0]["finish_reason"], rows[0]["tokens_in"]) == ("照明 と\n配管", "length", 1)
    assert (rows[1]["error_kind"], rows[1]["reason"], rows[1]["detail"]) == (
        "transient",
        "http_503",
        "the server said twice",
    )
    assert (rows[2]["error_kind"], rows[2]["reason"]) == ("rejected", "empty_answer")


@pytest.mark.parametrize("change", [1, -1])
def test_a_backend_that_loses_or_invents_an_answer_is_an_error(recorder, monkeypatch, change):
    monkeypatch.setattr(recorder, "generate", lambda requests: [Answer("x")] * (len(requests) + change))
    with pytest.raises(ValueError, match="zip"):
        Describe(backend="recorder")(batch([encoded(photo(i)) for i in range(2)]))


def test_a_map_of_another_size_than_it_says_is_an_error(recorder):
    with pytest.raises(ValueError, match="5 bytes is not one of 2 x 3"):
        Describe(backend="recorder")(batch([encoded(photo(0))], maps=[MAP[:5]]))


def test_settings_out_of_range_are_named():
    for name, value in (("language", "de"), ("control", "blank"), ("size_px", 3), ("decode_threads", 0)):
        with pytest.raises(ValueError, match=f"{name}={value!r}"):
            Describe(backend="fake", **{name: value})
    with pytest.raises(ValueError, match="unknown backend 'nobody'"):
        Describe(backend="nobody")


# identity


def test_its_identity_is_plain_and_follows_what_changes_a_description():
    plain = identity(backend="fake", prompt="say")
    assert plain == {
        "stage": "describe",
        "stage_code": 1,
        "backend": "fake",
        "code": 1,
        "prompt": "say",
        "control": "map",
        "stitched": None,
        "size_px": 1024,
    }
    assert json.loads(json.dumps(plain)) == plain
    asked = {"backend": "fake"}
    variants = [
        plain,
        identity(**asked),
        *(identity(**asked, **{name: value}) for name, value in (
            ("language", "en"),
            ("control", "random"),
            ("control", "none"),
            ("stitched", True),
            ("size_px", 512),
            ("reveal_prediction", True),
        )),
        identity(**asked, reveal_prediction=True, classes=["a"]),
    ]  # fmt: skip
    assert len({json.dumps(one, sort_keys=True) for one in variants}) == len(variants)
    assert identity(**asked, classes=["a"]) == identity(**asked)  # not told, so they change nothing
    assert identity(**asked, decode_threads=9) == identity(**asked)
    with pytest.raises(ValueError, match="control='blank'"):
        identity(**asked, control="blank")


def test_the_identity_holds_every_word_that_may_be_asked():
    made = identity(backend="fake", language="en", reveal_prediction=True)
    assert made["prompt"] == default_prompt("en")
    assert made["prompt_stitched"] == default_prompt("en", stitched=True)
    assert "{prediction}" in made["reveal"]
    assert "prompt_stitched" not in identity(backend="fake", control="none")
    assert made["stage_code"] == VERSION
