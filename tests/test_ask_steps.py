"""The ask step on a real cluster: a table with a column a question, and its answers as words of the probe."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.steps import ask, caption, fetch, probe
from seewhy.steps.once import forget
from seewhy.steps.order import plans, run_study, tables
from seewhy.steps.words import TEXT, gather_texts
from seewhy.study import Study, check_study, load_study
from seewhy.vlm.base import Request
from seewhy.vlm.fake import FakeBackend
from tests.report.page import read_page

COUNT = 60
QUESTIONS = {"sky": "what is in the sky?", "people": "how many people are there?"}
SMALL = {"cpus_per_worker": 0.5, "rows_per_block": 20}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """60 photos: rows 1 and 2 share their bytes, row 3 is no image."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    lines = [["photo", "stars"]]
    for i in range(COUNT):
        noise = rng.integers(0, 255, (5, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
        Image.fromarray(noise.astype(np.uint8)).save(tmp_path / f"photos/{i}.png")
        lines.append([f"photos/{i}.png", str(i)])
    (tmp_path / "photos/2.png").write_bytes((tmp_path / "photos/1.png").read_bytes())
    (tmp_path / "photos/3.png").write_text("<html>gone</html>")
    with open(tmp_path / "photos.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    return tmp_path


def study_of(home: Path, *, changed: dict[str, Any] | None = None, **asked: Any) -> Study:
    value = {
        "title": "Photos",
        "workspace": "out",
        "path": "words",
        "manifest": {"path": "photos.csv", "image": "photo", "target": "stars"},
        "fetch": {"resources": SMALL},
        "caption": {"backend": "fake", "resources": SMALL},
        "ask": {"backend": "fake", "questions": QUESTIONS, "resources": SMALL, **asked},
        "probe": {"subsamples": 10, "resources": SMALL},
        **(changed or {}),
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    forget()
    return load_study(str(home / "study.yaml"))


def images_of(study: Study) -> dict[str, bytes]:
    rows = fetch.table(study).read(["image_id", "image"]).to_pylist()
    return {one["image_id"]: one["image"] for one in rows}


@pytest.mark.ray
def test_every_distinct_image_is_asked_once_and_a_rerun_does_nothing(ray_cluster: None, home: Path) -> None:
    study = study_of(home, prompts={"free": ""})
    waiting = {plan.step: plan for plan in plans(study)}["ask"]
    assert (waiting.new, waiting.note) == (None, "waits for fetch, which has 60 new rows")
    with pytest.raises(Fatal, match="ask needs fetch to be complete: 60 of 60 rows are missing"):
        ask.run(study, Reporter(quiet=True))
    run_study(study, Reporter(quiet=True), until="ask")
    assert ask.table(study).counts().ok == COUNT - 2
    images = images_of(study)
    for row in ask.table(study).read().to_pylist():
        for column, prompt in {"free": "", **QUESTIONS}.items():
            [answer] = FakeBackend().generate([Request("x", (images[row["id"]],), prompt)])
            assert row[column] == answer.text
    part = pq.read_table(ask.table(study).parts()[0])
    assert part.schema.names == ["id", "free", "sky", "people", "replies", *schema.row_stage().names[1:]]

    said = io.StringIO()
    ask.run(study_of(home, prompts={"free": ""}), Reporter(stream=said))
    assert said.getvalue().startswith("ask: nothing to do, 58 rows: 58 ok")
    other = study_of(home)
    assert {plan.step: plan.new for plan in plans(other)}["ask"] == 58
    found = {one["table"]: one for one in tables(other) if one["table"].startswith("ask/")}
    assert [(one["current"], one["counts"]["ok"], one["complete"]) for one in found.values()] == [(False, 58, True)]
    assert next(iter(found.values()))["config"]["questions"] == [list(pair) for pair in QUESTIONS.items()]


@pytest.mark.ray
def test_transient_answers_are_asked_again_on_the_next_run(ray_cluster: None, home: Path) -> None:
    shaky = study_of(home, options={"transient_fraction": 0.3}, chat=True, template="Question: {} Answer:")
    shaky = shaky.model_copy(update={"max_failed_fraction": 1.0})
    run_study(shaky, Reporter(quiet=True), until="ask")
    failed = ask.table(shaky).counts().failed["transient"]
    assert 10 < failed < 50
    steady = study_of(home, chat=True, template="Question: {} Answer:")
    assert {plan.step: plan.new for plan in plans(steady)}["ask"] == failed
    run_study(steady, Reporter(quiet=True), until="ask")
    assert ask.table(steady).counts(ask.source(steady).keys["id"]).ok == COUNT - 2
    assert ask.table(steady).url == ask.table(shaky).url


def plant(study: Study) -> dict[str, str]:
    """Writes answers that go with the stars into the table: a moon above the upper half, and one row without one."""
    stars = {}
    for row in fetch.images_of(study).to_pylist():
        stars.setdefault(row["image_id"], row)
    order = {image: place for place, image in enumerate(sorted(stars))}
    answers = {}
    for part in ask.table(study).parts():
        rows = pq.read_table(part).to_pylist()
        for row in rows:
            place = order[row["id"]]
            row["sky"] = "The Moon." if row["id"] in answers_of_upper(study) else "the sun"
            row["people"] = str(place % 3)
            answers[row["id"]] = row["sky"]
        pq.write_table(pq.read_table(part).from_pylist(rows, schema=ask.table(study).schema), part)
    return answers


def answers_of_upper(study: Study) -> set[str]:
    """Ids of the images of the upper half by stars."""
    found = fetch.images_of(study)
    number = {one["id"]: one["image_id"] for one in found.to_pylist()}
    from seewhy.steps.rows import manifest_rows

    rows = manifest_rows(study).table.to_pylist()
    return {number[row["source_id"]] for row in rows if row["target"] >= COUNT / 2 and row["source_id"] in number}


@pytest.mark.ray
def test_answers_instead_of_captions_are_the_probes_words(ray_cluster: None, home: Path) -> None:
    study = study_of(home, changed={"probe": {"answers": "instead", "subsamples": 10, "resources": SMALL}})
    assert [plan.step for plan in plans(study)] == ["fetch", "ask", "probe", "report"]
    run_study(study, Reporter(quiet=True), until="ask")
    plant(study)
    forget()
    run_study(study, Reporter(quiet=True))
    found = probe.read(study, gather_texts(study, TEXT, step="test"))
    assert found is not None
    words = {row["word"]: row for row in found.table.to_pylist()}
    assert set(words) <= {"sky=the moon", "sky=the sun", "people=0", "people=1", "people=2"}
    told = [row for row in words.values() if row["word"].startswith("sky") and row["rank"] is not None]
    # Stars 30 to 59 have a moon, 0 to 29 a sun, less rows 3 (no image): 44.5 - (435 - 3) / 29.
    assert abs(told[0]["difference"]) == pytest.approx(44.5 - 432 / 29)
    assert (told[0]["difference"] > 0) == (told[0]["word"] == "sky=the moon")
    assert not caption.table(study).parts()

    page = read_page(home / "out" / "report" / "index.html")
    assert "The words of the answers help to predict stars." in page.text
    assert "With the targets shuffled, which is chance" in page.text
    assert "from the answers, without the picture" in page.text
    assert "A model answered questions about each image. It was not told the stars." in page.text
    assert "An image’s text is the list of these answers." in page.text
    assert "caption" not in page.one("main").text
    shown = [q.text.replace(" .", ".") for q in page.all("q")]
    assert shown
    assert all(text in ("sky=The Moon.", "sky=the sun", "people=0", "people=1", "people=2") for text in shown)
    assert {mark.text.lower() for mark in page.all("mark")} <= set(words)
    assert "The texts are by the packaged tiny model" not in page.text


@pytest.mark.ray
def test_answers_beside_captions(ray_cluster: None, home: Path) -> None:
    study = study_of(home, changed={"probe": {"answers": "beside", "subsamples": 10, "resources": SMALL}})
    assert [plan.step for plan in plans(study)] == ["fetch", "caption", "ask", "probe", "report"]
    run_study(study, Reporter(quiet=True), until="ask")
    plant(study)
    forget()
    texts = gather_texts(study, TEXT, step="test")
    assert len(texts.examples) == COUNT - 1
    run_study(study, Reporter(quiet=True))
    found = probe.read(study, texts)
    assert found is not None
    words = {row["word"] for row in found.table.to_pylist()}
    assert words & {"sky=the moon", "sky=the sun"}
    assert any("=" not in word for word in words)  # of the captions
    page = read_page(home / "out" / "report" / "index.html")
    assert "from the words of the captions and the answers, without the picture" in page.text
    assert "An image’s text is its caption, and below it these answers." in page.text
    plain = study_of(home)
    assert probe.folder(plain, gather_texts(plain, TEXT, step="test")) != probe.folder(study, texts)


@pytest.mark.ray
def test_an_image_without_all_its_answers_is_no_row_of_the_probe(ray_cluster: None, home: Path) -> None:
    study = study_of(
        home,
        changed={"probe": {"answers": "instead"}, "max_failed_fraction": 1.0},
        options={"rejected_fraction": 0.2},
    )
    run_study(study, Reporter(quiet=True), until="ask")
    counts = ask.table(study).counts(ask.source(study).keys["id"])
    assert 5 < counts.failed["rejected"] < 40
    texts = gather_texts(study, TEXT, step="test")
    assert len(texts.source.keys) == counts.ok
    lost = [loss for loss in texts.losses if loss[0] == "Image not answered"]
    assert lost == [("Image not answered", len(texts.examples) - (COUNT - 1), "fake_rejected (rejected)")]


def test_a_study_without_the_section_has_no_such_stage(home: Path) -> None:
    study = study_of(home).model_copy(update={"ask": None})
    forget()
    with pytest.raises(Fatal, match="this study has no stage 'ask'"):
        run_study(study, Reporter(quiet=True), only="ask")
    with pytest.raises(Fatal, match="this study has no section `ask`"):
        ask.run(study, Reporter(quiet=True))
    assert "ask" not in [plan.step for plan in plans(study)]


def test_the_answers_words_leave_a_study_without_them_as_it_was(home: Path) -> None:
    """The setting is no part of the names of a probe that has none."""
    study = study_of(home)
    assert study.probe.answers is None
    assert "answers" not in study.probe.model_dump(exclude=probe._CUT_WORDS)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({}, "there is nothing to ask: name questions or prompts"),
        ({"questions": []}, "there is nothing to ask"),
        ({"questions": ["why?", "why?"]}, "'why?' is there twice"),
        ({"questions": {"a": " "}}, "the question of 'a' is blank"),
        ({"questions": {"id": "who?"}}, "the column 'id' is one that every table has"),
        ({"questions": {"a": "b"}, "prompts": {"A": ""}}, "the column 'A' is there twice"),
        ({"questions": {True: "is it day?"}}, "ask.questions"),
        ({"questions": ["a?"], "template": "Q:"}, "the template 'Q:' has no {} where the question goes"),
        ({"questions": ["a?"], "prompt": "x"}, "ask has no prompt of its own"),
        ({"questions": ["a?"], "question": ["b"]}, "ask.question: unknown key (did you mean questions?)"),
        ({"questions": ["a?"], "backend": "hf"}, "backend hf needs `model`"),
        (
            {"questions": ["a?"], "backend": "gemini", "model": "gemini-2.5-flash", "context": 99},
            "backend gemini takes no `context`",
        ),
    ],
)
def test_mistakes_in_the_section_are_named(asked: dict[str, Any], line: str) -> None:
    manifest = {"path": "films.csv", "image": "Poster", "target": "Rating"}
    with pytest.raises(Fatal) as error:
        check_study({"title": "Films", "workspace": "out", "manifest": manifest, "ask": asked})
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"ask": None}, "probe.answers needs a section ask with questions"),
        ({"ask": {"prompts": {"a": ""}}}, "probe.answers needs a section ask with questions"),
        ({"path": "image"}, "probe.answers needs path text, both or words"),
        ({"manifest": {"path": "f.csv", "image": "p", "text": "t", "target": "r"}}, "cannot go together"),
        ({"manifest": {"path": "f.csv", "text": "t", "target": "r"}}, "ask needs the column of the images"),
    ],
)
def test_answers_need_questions_and_captions_or_nothing(changed: dict[str, Any], line: str) -> None:
    value: dict[str, Any] = {
        "title": "Films",
        "workspace": "out",
        "manifest": {"path": "f.csv", "image": "p", "target": "r"},
        "ask": {"questions": ["what is it?"]},
        "probe": {"answers": "beside"},
    }
    with pytest.raises(Fatal) as error:
        check_study({**value, **changed})
    assert line in str(error.value)


def test_what_the_section_asks_of_a_model(home: Path) -> None:
    study = study_of(home)
    assert list(study.ask.questions.items()) == list(QUESTIONS.items())
    assert study_of(home, questions=["b?", "a?"]).ask.questions == {"b?": "b?", "a?": "a?"}
    assert study_of(home, backend="hf", model="./blip2").ask.model == str(home / "blip2")  # ./ is beside the study
    tiny = ask._arguments(study_of(home, backend="tiny"))
    assert (tiny["max_new_tokens"], tiny["temperature"]) == (32, 0.0)
    assert ask._arguments(study_of(home, backend="tiny", max_tokens=9))["max_new_tokens"] == 9
    gemini = ask._arguments(study_of(home, backend="gemini", model="gemini-2.5-flash"))
    assert "max_new_tokens" not in gemini
