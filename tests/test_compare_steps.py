"""Two studies run to their end on a real cluster, and what `compare` tells of them."""

import csv
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from seewhy.cli import app
from seewhy.failure import Fatal
from seewhy.images import image_id
from seewhy.progress import Reporter
from seewhy.steps import ask, caption
from seewhy.steps.comparable import Asked
from seewhy.steps.compare import _outputs, _spent, compare, differences, write
from seewhy.steps.once import forget
from seewhy.steps.order import run_study
from seewhy.study import Study, load_study, read_changes
from tests.drawn_images import draw_images
from tests.train.encoders import save_tiny_bert
from tests.vlm.openai_stub import openai_stub

SMALL = {"cpus_per_worker": 0.5, "rows_per_block": 32}
COUNT = 48


def study_of(home: Path, name: str, **sections: object) -> Study:
    """A study file in `home`, in a workspace that all of them share."""
    value = {
        "title": "Films",
        "workspace": "out",
        "manifest": {"path": "films.csv", "image": "image", "target": "score"},
        "max_failed_fraction": 1.0,
        "fetch": {"resources": SMALL},
        "caption": {"backend": "fake", "resources": SMALL},
        "train_text": {"encoder": "./encoder", "epochs": 1, "folds": 3, "launcher": "here", "pooling": "mean"},
        "explain_words": {"max_evals": 10, "sample": 12, "resources": SMALL},
        "probe": {"min_texts": 2, "max_texts": 1.0, "subsamples": 5, "folds": 3, "resources": SMALL},
        "report": {"min_items": 2},
        **sections,
    }
    (home / name).write_text(yaml.safe_dump({key: one for key, one in value.items() if one is not None}))
    forget()
    return load_study(str(home / name))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    draw_images(tmp_path, COUNT, table="films.csv", columns=("image", "score"), height=12, width=10, numbers=7)
    save_tiny_bert(tmp_path / "encoder", positions=256)
    return tmp_path


def planted(home: Path) -> None:
    """120 rows, two texts each: of `told` a word says whether the score is high, of `noise` none does."""
    rng = np.random.default_rng(3)
    lines: list[list[object]] = [["told", "noise", "score", "kind"]]
    for number in range(120):
        high = number % 2
        filler = " ".join(rng.choice(["house", "road", "tree", "lamp", "cloud", "wall"], 3).tolist())
        lines.append(
            [
                f"a {'red ' * high}{filler} {number}",
                f"a grey {filler} {number}",
                round(2 * high + 0.3 * rng.normal(), 3),
                "high" if high else "low",
            ]
        )
    with open(home / "texts.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)


def words_study(home: Path, name: str, text: str, target: str = "score", **sections: object) -> Study:
    manifest = {"path": "texts.csv", "text": text, "target": target}
    return study_of(home, name, path="words", manifest=manifest, caption=None, **sections)


@pytest.mark.ray
def test_the_study_whose_words_tell_is_better_by_what_was_planted(ray_cluster: None, tmp_path: Path) -> None:
    planted(tmp_path)
    first, second = words_study(tmp_path, "one.yaml", "noise"), words_study(tmp_path, "two.yaml", "told")
    for study in (first, second):
        run_study(study, Reporter(quiet=True), until="probe")
    found = compare(first, second, names=("one.yaml", "two.yaml")).comparison
    assert [(one.key, one.first, one.second) for one in found.settings] == [("manifest.text", "noise", "told")]
    pair = found.models[0]
    assert (pair.name, pair.rows, pair.only_first, pair.only_second) == ("probe of the texts", 120, 0, 0)
    scores = {score.metric: score for score in pair.scores}
    # of a variance of 1 + 0.09 the words tell 1
    assert scores["r2"].second.value == pytest.approx(1 / 1.09, abs=0.05)
    assert scores["r2"].first.value < 0.1
    assert scores["r2"].gain.low > 0.6
    assert scores["rmse"].gain.value == pytest.approx(np.sqrt(1.09) - 0.3, abs=0.1)
    assert (pair.first_beats, pair.second_beats) == (False, True)
    # what B knows and A does not is 1 point either way: only noise brings A closer, and never by so much
    assert all(-1 < row.closer < 0 for row in pair.first_closer)
    assert len(pair.second_closer) == 4
    for row in pair.second_closer:
        assert row.closer > 0.5
        assert row.closer == pytest.approx(abs(row.first.value - row.target) - abs(row.second.value - row.target))
        assert row.first.text.startswith("a grey")
        assert row.second.text.endswith(f" {row.row}")
        assert row.second.text.startswith("a red") == (row.row % 2 == 1)
    words = found.words[0]
    (red,) = words.only_second
    assert (red.found.word, red.found.sign, red.found.rank, red.found.texts) == ("red", 1, 1, 60)
    assert (red.texts, red.total) == (0, 120)


@pytest.mark.ray
def test_a_study_is_no_better_than_itself(ray_cluster: None, tmp_path: Path) -> None:
    planted(tmp_path)
    study = words_study(tmp_path, "one.yaml", "told", target="kind")
    run_study(study, Reporter(quiet=True), until="probe")
    found = compare(study, study, names=("one.yaml", "one.yaml")).comparison
    assert found.settings == []
    for pair in found.models:
        assert (pair.rows, pair.only_first, pair.only_second, pair.moved) == (120, 0, 0, 0)
        for score in pair.scores:
            assert (score.gain.value, score.gain.low, score.gain.high) == (0, 0, 0)
    words = found.words[0]
    assert ("high", "red") in {(one.output, one.word) for one, _ in words.both}
    assert all(one == other for one, other in words.both)
    assert (words.turned, words.only_first, words.only_second) == ([], [], [])


@pytest.mark.ray
def test_rows_of_another_manifest_are_matched_by_their_text(ray_cluster: None, tmp_path: Path) -> None:
    planted(tmp_path)
    lines = (tmp_path / "texts.csv").read_text().splitlines()
    other = tmp_path / "other"
    other.mkdir()
    # the rows from behind, without the first ten, and one with another target
    kept = [lines[0], *reversed(lines[11:])]
    kept[1] = kept[1].rsplit(",", 2)[0] + ",9.0,high"
    (other / "texts.csv").write_text("\n".join(kept) + "\n")
    first, second = words_study(tmp_path, "one.yaml", "told"), words_study(other, "two.yaml", "told")
    for study in (first, second):
        run_study(study, Reporter(quiet=True), until="probe")
    forget()
    found = compare(first, second, names=("one", "two")).comparison
    pair = found.models[0]
    assert (pair.rows, pair.only_first, pair.only_second, pair.other_target) == (109, 10, 0, 1)
    assert 0 < pair.moved < 109
    assert "manifests differ" in found.notes[0]


@pytest.mark.ray
def test_two_prompts_of_one_study(ray_cluster: None, films: Path) -> None:
    """Captions, an encoder and its words of each; the second prompt is refused for some of the images."""
    study = study_of(films, "one.yaml")
    changed = {"caption.prompt": "What stands out?", "caption.options": {"rejected_fraction": 0.25}}
    other = load_study(str(films / "one.yaml"), changed=changed)
    for one in (study, other):
        forget()
        run_study(one, Reporter(quiet=True))
    found = compare(study, other, names=("one.yaml", "the other"), on=date(2026, 11, 21)).comparison
    assert [one.key for one in found.settings] == ["caption.prompt", "caption.options.rejected_fraction"]
    assert [one.name for one in found.models] == ["text model", "probe of the captions"]
    assert [one.name for one in found.words] == [
        "words of the captions, by the text model",
        "words of the captions, counted",
    ]
    rows = caption.table(other).read(only_ok=False).to_pylist()
    refused = sum(row["error_kind"] == "rejected" for row in rows)
    assert 0 < refused < COUNT
    (answers,) = found.answers
    assert (answers.first.answered, answers.second.answered, answers.second.refused) == (
        COUNT,
        COUNT - refused,
        refused,
    )
    assert answers.second.reasons == {"rejected/fake_rejected": refused}
    assert (answers.both_answered, answers.first_alone, answers.second_alone) == (COUNT - refused, refused, 0)
    assert answers.second_spent.counted == COUNT - refused
    assert answers.second_spent.tokens_out == sum(row["tokens_out"] or 0 for row in rows)
    assert (answers.second_spent.usd, answers.second_spent.about[:4]) == (None, "fake")
    for pair in found.models:
        assert (pair.rows, pair.only_first, pair.only_second) == (COUNT - refused, refused, 0)
        assert pair.moved > 0  # other rows, dealt anew
    assert found.left_out == []
    texts = {row["id"]: row["text"] for row in rows}
    numbered = {image_id((films / f"{number}.png").read_bytes()): number for number in range(COUNT)}
    model, counted = found.models
    shown = [*model.first_closer, *model.second_closer]
    assert shown
    assert counted.first_closer == counted.second_closer == []  # the same rows are not shown twice
    for one in shown:
        assert one.first.item == one.second.item
        assert (numbered[one.first.item], one.row % 7) == (one.row, one.target)
        assert one.second.text == texts[one.second.item]
        assert one.first.text not in ("", one.second.text)
    page = write(compare(study, other, names=("a", "b")), str(films / "page"))
    drawn = {path.stem for path in Path(page).parent.glob("images/*.jpg")}
    assert drawn == {one.first.item for one in shown}


@pytest.mark.ray
def test_studies_of_questions_alone(ray_cluster: None, films: Path) -> None:
    """No captions are asked for and none are missed: the answers are what both have."""
    asked = {"backend": "fake", "questions": ["what?", "where?"], "resources": SMALL}
    probed = {"min_texts": 1, "max_texts": 1.0, "subsamples": 5, "folds": 3, "answers": "instead", "resources": SMALL}
    sections = {"path": "words", "caption": None, "train_text": None, "ask": asked, "probe": probed}
    study = study_of(films, "one.yaml", **sections)
    changed = {"ask.template": "Say: {}", "ask.options": {"rejected_fraction": 0.25}}
    other = load_study(str(films / "one.yaml"), changed=changed)
    for one in (study, other):
        forget()
        run_study(one, Reporter(quiet=True), until="probe")
    found = compare(study, other, names=("a", "b")).comparison
    assert found.left_out == []
    assert [one.name for one in found.models] == ["probe of the answers"]
    assert [one.name for one in found.words] == ["words of the answers, counted"]
    (answers,) = found.answers
    rows = ask.table(other).read(only_ok=False).to_pylist()
    whole = sum(row["error_kind"] is None for row in rows)
    assert 0 < whole < COUNT
    assert (answers.name, answers.whole) == ("answers to the questions", "all answers")
    assert (answers.first.answered, answers.second.answered, answers.second.refused) == (COUNT, whole, COUNT - whole)
    told = [reply["tokens_out"] for row in rows for reply in row["replies"] if reply["tokens_out"] is not None]
    assert answers.second_spent.tokens_out == sum(told)
    (model,) = found.models
    for one in (*model.first_closer, *model.second_closer):
        assert [line.split("=")[0] for line in one.second.text.split("\n")] == ["what?", "where?"]


def read_page(home: Path) -> str:
    return (home / "out/compare/index.html").read_text()


@pytest.mark.ray
def test_the_command_line_writes_page_and_numbers(ray_cluster: None, tmp_path: Path) -> None:
    planted(tmp_path)
    words_study(tmp_path, "one.yaml", "noise")
    study = str(tmp_path / "one.yaml")
    change = ["--set", "manifest.text=told"]
    for more in ([], change):
        ran = CliRunner().invoke(app, ["run", study, "--until", "probe", "--quiet", *more])
        assert ran.exit_code == 0, ran.output
    ran = CliRunner().invoke(app, ["compare", study, *change, "--json", str(tmp_path / "numbers.json")])
    assert ran.exit_code == 0, ran.output
    assert "B predicts score better than A." in ran.output
    assert "  only B: +red [the other: in no text]" in ran.output
    told = json.loads((tmp_path / "numbers.json").read_text())
    assert told == json.loads((tmp_path / "out/compare/comparison.json").read_text())
    assert told["models"][0]["scores"][0]["metric"] == "r2"
    assert told["models"][0]["scores"][0]["gain"]["low"] > 0.5
    assert f"{study} with manifest.text=told" in read_page(tmp_path)
    again = CliRunner().invoke(app, ["compare", study, *change])  # the page is replaced
    assert again.exit_code == 0
    with pytest.raises(Fatal, match="name a second study, or a setting"):
        CliRunner().invoke(app, ["compare", study], catch_exceptions=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("keep")
    with pytest.raises(Fatal, match="files that seewhy did not write"):
        CliRunner().invoke(app, ["compare", study, *change, "--out", str(tmp_path / "mine")], catch_exceptions=False)
    assert (tmp_path / "mine/letter.txt").read_text() == "keep"


@pytest.mark.ray
def test_what_is_not_finished_is_named(ray_cluster: None, films: Path) -> None:
    study = study_of(films, "one.yaml")
    other = load_study(str(films / "one.yaml"), changed={"caption.prompt": "Other."})
    with pytest.raises(Fatal, match="nothing can be compared yet") as error:
        compare(study, other, names=("one.yaml", "two.yaml"))
    assert "captions: one.yaml is not complete: compare needs fetch to be complete" in str(error.value)
    run_study(study, Reporter(quiet=True), until="probe")
    forget()
    run_study(other, Reporter(quiet=True), until="train_text")
    found = compare(study, other, names=("one.yaml", "two.yaml")).comparison
    assert [one.name for one in found.models] == ["text model"]
    assert [one.name for one in found.answers] == ["captions"]
    told = "\n".join(found.left_out)
    assert "words of the captions, by the text model: two.yaml is not complete: compare needs explain_words" in told
    assert "probe of the captions: two.yaml is not complete: the probe in " in told
    assert "run probe first" in told
    assert "one.yaml" not in told


def test_studies_that_predict_other_things_are_not_compared(tmp_path: Path) -> None:
    planted(tmp_path)
    numbers, classes = (words_study(tmp_path, f"{one}.yaml", "told", target=one) for one in ("score", "kind"))
    with pytest.raises(Fatal, match=r"score\.yaml predicts numbers in the column 'score', kind\.yaml classes"):
        compare(numbers, classes, names=("score.yaml", "kind.yaml"))


@pytest.mark.ray
def test_tokens_and_cost_by_the_list_price(ray_cluster: None, films: Path) -> None:
    stub = openai_stub()
    try:
        options = {"base_url": f"{stub.url}/v1", "tries": 1, "backoff_sec": 0.01}
        service = {"backend": "openai", "prompt": "What is it?", "options": options, "resources": SMALL}
        priced = study_of(films, "one.yaml", caption={**service, "model": "gemini-2.5-flash"})
        unknown = study_of(films, "two.yaml", caption={**service, "model": "qwen"})
        for study in (priced, unknown):
            run_study(study, Reporter(quiet=True), until="caption")
    finally:
        stub.close()
    (answers,) = compare(priced, unknown, names=("a", "b"), on=date(2026, 11, 21)).comparison.answers
    rows = caption.table(priced).read(["tokens_in", "tokens_out"]).to_pylist()
    sums = [sum(row[name] for row in rows) for name in ("tokens_in", "tokens_out")]
    assert [answers.first_spent.tokens_in, answers.first_spent.tokens_out] == sums
    assert min(sums) > 0
    # 0.30 and 2.50 USD a million tokens, as prices.json has it
    assert answers.first_spent.usd == pytest.approx((0.3 * sums[0] + 2.5 * sums[1]) / 1e6)
    assert answers.first_spent.about == "gemini-2.5-flash, list price as of 2026-10-07, on line"
    assert (answers.second_spent.usd, answers.second_spent.about) == (None, "no price is known for qwen")
    own = load_study(str(films / "two.yaml"), changed={"prices": {"qwen": {"in": 1, "out": 4}}})
    (answers,) = compare(priced, own, names=("a", "b")).comparison.answers
    spent = answers.second_spent
    assert spent.usd == pytest.approx((spent.tokens_in + 4 * spent.tokens_out) / 1e6)
    assert spent.about == "qwen, the study's own price"
    asked = Asked(caption.table(priced), caption.source(priced).keys["id"], priced.caption, {})
    gemini = priced.caption.model_copy(update={"backend": "gemini", "batch": "gs://bucket/folder"})
    halved = _spent(replace(asked, by=gemini), asked.ids, date(2026, 11, 21))
    assert halved.usd == pytest.approx((0.15 * sums[0] + 1.25 * sums[1]) / 1e6)
    assert halved.about == "gemini-2.5-flash, list price as of 2026-10-07, batch"


def test_changed_settings_are_read_as_in_a_study(films: Path) -> None:
    given = [
        "caption.prompt=Say: what is it?",
        "caption.temperature=0",
        "caption.options={seconds_per_request: 0.5}",
        "report.top=7",
        "score.texts=[a dog, a car]",
    ]
    study_of(films, "one.yaml")
    study = load_study(str(films / "one.yaml"), changed=read_changes(given))
    assert study.caption.prompt == "Say: what is it?"
    assert study.caption.temperature == 0
    assert study.caption.options == {"seconds_per_request": 0.5}
    assert study.caption.backend == "fake"  # the section's other settings stay
    assert (study.report.top, study.report.min_items) == (7, 2)
    assert study.score is not None
    assert study.score.texts == ["a dog", "a car"]
    with pytest.raises(Fatal, match=r"caption\.promt: unknown key"):
        load_study(str(films / "one.yaml"), changed={"caption.promt": "x"})
    for wrong in ("caption.prompt", "=1", "caption.=1"):
        with pytest.raises(Fatal, match="must be key=value"):
            read_changes([wrong])


def test_settings_that_change_no_result_are_no_difference(films: Path) -> None:
    one = study_of(films, "one.yaml")
    other = study_of(
        films,
        "two.yaml",
        title="Other",
        workspace="elsewhere",
        caption={"backend": "fake", "prompt": "P", "resources": {"rows_per_block": 3}},
    )
    assert [(one.key, one.first, one.second) for one in differences(one, other)] == [("caption.prompt", "default", "P")]


def test_classes_that_only_one_study_knows_have_no_probability_in_the_other() -> None:
    said = np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32)
    found = _outputs(said, ["b", "a"], ["a", "b", "c"])
    assert found.tolist() == [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0]]
    assert _outputs(said, ["a", "b"], ["a", "b"]) is said
