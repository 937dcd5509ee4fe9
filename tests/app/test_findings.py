"""What was found of one image: the very numbers of the study's tables, or what is missing and how to make it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from seewhy import schema
from seewhy.app.findings import Answered, Findings, Heat, Missing, Prediction, TextScore, Told, Words, language_of
from seewhy.heat import heat_of
from seewhy.images import image_id
from seewhy.report import numbers
from seewhy.steps import ask, caption, describe, explain_images, explain_words, fetch, score, train_image, train_text
from seewhy.steps.items import gather
from seewhy.steps.once import forget
from seewhy.steps.photos import gather_photos
from seewhy.steps.training import read_table
from seewhy.study import Study, load_study
from seewhy.table import Table
from tests.app.sample import SCORE_TEXTS, TITLES, write_study


def study_of(path: Path, **changed: object) -> Study:
    forget()
    return load_study(str(path)).model_copy(update=changed)


def row_of(table: Table, key: str) -> dict:
    return table.read().filter(pc.equal(table.read()["id"], key)).to_pylist()[0]


@pytest.mark.slow
def test_everything_that_was_found_of_an_image_is_that_images(finished: Path) -> None:
    study = study_of(finished)
    found = Findings(study, str(finished))
    images = [image_id((finished.parent / f"posters/{i}.png").read_bytes()) for i in range(10)]
    items, photos = gather(study, step="test"), gather_photos(study, step="test")
    for place in (0, 2, 9):
        key = images[place]
        (row,) = found.rows(key)
        assert row["row"] == place
        assert row["title"] == TITLES[place]

        told = found.caption(key)
        assert told == Told(row_of(caption.table(study), key)["text"], "tiny")
        assert found.description(key) == Told(row_of(describe.table(study, photos, "map"), key)["text"], "tiny")

        scored = row_of(score.table(study), key)
        assert found.scores(key) == [
            TextScore(*one) for one in zip(SCORE_TEXTS, scored["logits"], scored["probabilities"], strict=True)
        ]

        heat, kept = found.heat(key), row_of(explain_images.table(study, photos), key)
        assert isinstance(heat, Heat)
        assert np.array_equal(heat.heat, heat_of(kept["map"], kept["height"], kept["width"]))
        assert heat.explained == "rating"

        explained = row_of(explain_words.table(study, items), key)
        words = found.words(key)
        assert isinstance(words, Words)
        assert isinstance(told, Told)
        (account,) = words.accounts
        assert "".join(segment.text for segment in account.segments) == told.text
        given = sorted(abs(word["values"][0]) for word in explained["words"])
        digits = numbers.decimals([float(words.limit)])
        assert numbers.number(given[-1], digits) in {segment.value.lstrip("+−") for segment in account.segments}
        assert words.unit == "rating"

        for folder, look in (
            (train_text.folder(study, items), found.text_prediction),
            (train_image.folder(study, photos), found.photo_prediction),
        ):
            predictions = read_table(folder, "predictions")
            (held_out,) = predictions.filter(pc.equal(predictions["id"], key)).to_pylist()
            prediction = look(key)
            assert isinstance(prediction, Prediction)
            facts = dict(prediction.facts)
            given_digits, made_digits = numbers.spread_decimals(np.asarray(predictions["target"]))
            assert facts["Actual rating"] == numbers.number(held_out["target"], given_digits)
            assert float(facts["Actual rating"]) == row["target"]
            assert facts["Predicted"] == numbers.number(held_out["outputs"][0], made_digits)
            assert facts["Held-out fold"] == str(held_out["fold"])


@pytest.mark.slow
def test_what_another_setting_has_not_computed_is_missing_with_its_command(finished: Path) -> None:
    study = study_of(finished)
    key = fetch.images_of(study)["image_id"][0].as_py()
    other = study.model_copy(
        update={
            "caption": study.caption.model_copy(update={"prompt": "another"}),
            "explain_images": study.explain_images.model_copy(update={"method": "layercam"}),
            "limit": None,
        }
    )
    found = Findings(other, "my study.yaml")
    assert found.caption(key) == Missing(
        "caption", "it is not computed yet", "seewhy run 'my study.yaml' --until caption"
    )
    words = found.words(key)
    assert isinstance(words, Missing)
    assert words.why.startswith("train_text needs caption to be complete: 10 of 10") or "caption" in words.why
    assert words.command == "seewhy run 'my study.yaml' --until explain_words"
    heat = found.heat(key)
    assert heat == Missing("heat map", "it is not computed yet", "seewhy run 'my study.yaml' --until explain_images")
    limited = Findings(study.model_copy(update={"limit": 7}), "s.yaml").command("score")
    assert limited == "seewhy run s.yaml --until score --limit 7"


@pytest.mark.slow
def test_a_picture_from_elsewhere_has_no_results(finished: Path) -> None:
    found = Findings(study_of(finished), str(finished))
    assert found.rows("0" * 32) == []
    told = found.caption("0" * 32)
    assert isinstance(told, Missing)
    assert told.why == "this image is outside the sample, or came after that step ran"
    assert isinstance(found.text_prediction("0" * 32), Missing)
    assert isinstance(found.photo_prediction("0" * 32), Missing)


def test_what_the_study_does_not_ask_for_has_no_command(tmp_path: Path) -> None:
    path = write_study(tmp_path / "ten", path="text", score=None)
    found = Findings(study_of(path), str(path))
    for missing in (found.scores("a"), found.heat("a"), found.description("a"), found.photo_prediction("a")):
        assert isinstance(missing, Missing)
        assert missing.command == ""
    assert found.scores("a").why.startswith("the study has no section score")  # type: ignore[union-attr]
    assert "its path is text" in found.heat("a").why  # type: ignore[union-attr]


def test_a_failed_row_says_why_and_whether_another_run_helps(tmp_path: Path) -> None:
    path = write_study(tmp_path / "ten", caption={"backend": "fake"})
    study = study_of(path)
    found = Findings(study, "s.yaml")
    assert found.caption("a").why == "it is not computed yet"  # type: ignore[union-attr]

    def append(key: str, generation: int, **values: str) -> None:
        row = {"id": key, **values}
        caption.table(study).append(pa.Table.from_pylist([row], schema.CAPTIONS), generation=generation)

    append("a", 1, error_kind="rejected", reason="safety", detail="blocked")
    assert found.caption("a") == Missing("caption", "it failed as safety (rejected): blocked")
    append("b", 1, error_kind="transient", reason="http_503")
    told = found.caption("b")
    assert told == Missing("caption", "it failed as http_503 (transient)", "seewhy run s.yaml --until caption")
    append("b", 2, text="a film")  # the run after it: what was read before has grown
    assert found.caption("b") == Told("a film", "fake")


def test_the_studys_own_questions_and_what_each_brought(tmp_path: Path) -> None:
    asked = {"backend": "fake", "prompts": {"plain": ""}, "questions": {"sky": "what is in the sky?", "who": "who?"}}
    path = write_study(tmp_path / "ten", ask=asked)
    study = study_of(path)
    found = Findings(study, "s.yaml")
    assert found.answers("a") == Missing("answers", "it is not computed yet", "seewhy run s.yaml --until ask")
    replies = [
        {"column": "plain"},
        {"column": "sky"},
        {"column": "who", "error_kind": "rejected", "reason": "safety", "detail": "blocked"},
    ]
    row = {"id": "a", "plain": "a film", "sky": "moon", "replies": replies, "error_kind": "rejected"}
    ask.table(study).append(pa.Table.from_pylist([row], ask.table(study).schema), generation=1)
    assert found.answers("a") == [
        Answered("plain", "a film", ""),
        Answered("what is in the sky?", "moon", ""),
        Answered("who?", None, "safety (rejected): blocked"),
    ]
    none = Findings(study_of(write_study(tmp_path / "none")), "s.yaml").answers("a")
    assert none == Missing(
        "answers", "the study has no section ask: name questions there, as in ask: {questions: [who?]}"
    )


def test_texts_of_the_manifest_stand_for_captions(tmp_path: Path) -> None:
    manifest = {"path": "films.csv", "image": "poster", "text": "title", "target": "rating"}
    path = write_study(tmp_path / "ten", manifest=manifest, path="text", score=None)
    study = study_of(path)
    stage = fetch.Fetch(**fetch.arguments(study))
    fetch.table(study).append(stage(fetch.source(study).keys), generation=1)
    stage.close()
    found = Findings(study, str(path))
    keys = [image_id((path.parent / f"posters/{i}.png").read_bytes()) for i in range(2)]
    assert [found.caption(key) for key in keys] == [Told("Amber Harbor", "title"), Told("Velvet Tide", "title")]
    assert found.caption("0" * 32) == Missing("text", "no row of the manifest that has a text shows this image")
    assert language_of("ポスター") == "ja"
    assert language_of("poster") == ""
