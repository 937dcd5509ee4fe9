"""A study from manifest to report on a real cluster, with the `fake` captioner and a small encoder made here."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from seewhy.cli import app
from seewhy.failure import Fatal
from seewhy.lease import FOLDER
from seewhy.progress import Reporter
from seewhy.steps import caption, explain_words, fetch, report, train_text, training
from seewhy.steps.closer import look
from seewhy.steps.items import gather
from seewhy.steps.once import forget
from seewhy.steps.order import plans, run_study, tables
from seewhy.study import Study, load_study
from seewhy.table import read_part
from tests.train.encoders import save_tiny_bert

pytestmark = pytest.mark.ray

COUNT = 40


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """40 rows: rows 1 and 2 share an image's bytes, row 3 is no image, row 4 has no target, row 5 no file."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    lines = [["image", "score", "title"]]
    for i in range(COUNT):
        name = f"images/{i}.jpg"
        pixels = rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, quality=90)
        lines.append([name, f"{1000 + i:,}", f"film {i}"])
    (tmp_path / "images/2.jpg").write_bytes((tmp_path / "images/1.jpg").read_bytes())
    (tmp_path / "images/3.jpg").write_text("<html>gone</html>")
    lines[1 + 4][1] = ""
    (tmp_path / "images/5.jpg").unlink()
    with open(tmp_path / "films.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    return tmp_path


def study_of(home: Path, **sections: object) -> Study:
    value = {
        "title": "Films",
        "workspace": "out",
        "manifest": {"path": "films.csv", "image": "image", "target": "score", "keep": ["title"]},
        "fetch": {"resources": {"cpus_per_worker": 0.5, "rows_per_block": 16}},
        "caption": {"backend": "fake", "resources": {"cpus_per_worker": 0.5, "rows_per_block": 8}},
        "train_text": {"encoder": "./encoder", "epochs": 1, "folds": 2, "launcher": "here", "pooling": "mean"},
        "explain_words": {"max_evals": 20, "sample": 10, "resources": {"cpus_per_worker": 0.5, "rows_per_block": 5}},
        "report": {"min_items": 2},
        **sections,
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    if not (home / "encoder").exists():
        save_tiny_bert(home / "encoder", positions=256)
    forget()  # the same path holds other films in the next test
    return load_study(str(home / "study.yaml"))


def snapshot(home: Path) -> dict[str, int]:
    """When each file was written; who ran last is left out."""
    files = [p for p in (home / "out").rglob("*") if p.is_file() and p.parent.name != FOLDER]
    return {str(p.relative_to(home)): p.stat().st_mtime_ns for p in files}


def test_every_row_is_accounted_for_and_a_rerun_touches_nothing(ray_cluster: None, home: Path) -> None:
    study = study_of(home)
    said = io.StringIO()
    run_study(study, Reporter(stream=said))
    items = gather(study, step="test")
    assert [(label, count) for label, count, _ in items.losses] == [
        ("Rows in the manifest", 40),
        ("Left out", -1),
        ("Rows that can be used", 39),
        ("Image not fetched", -1),
        ("Image not fetched", -1),
        ("Rows with an image", 37),
        ("Rows with a text and a target", 37),
        ("Share their image with an earlier row", -1),
        ("Distinct images", 36),
    ]
    assert [note for label, _, note in items.losses if label == "Image not fetched"] == [
        "html (bad_input)",
        "not_found (bad_input)",
    ]

    counts = caption.table(study).counts()
    assert (counts.rows_in, counts.ok) == (36, 36)  # 37 rows, two of which share an image
    predictions = training.read_table(train_text.folder(study, items), "predictions")
    assert sorted(predictions["row"].to_pylist()) == [i for i in range(40) if i not in (3, 4, 5)]
    folds = dict(zip(predictions["row"].to_pylist(), predictions["fold"].to_pylist(), strict=True))
    assert folds[1] == folds[2]
    explained = explain_words.table(study, items).read()
    assert len(explained) == 10
    assert max(explained["residual"].to_pylist()) < 1e-2  # of scores around 1,000
    first = dict(zip(predictions["id"].to_pylist(), predictions["outputs"].to_pylist(), strict=True))
    for row in explained.to_pylist():
        assert row["outputs"] == pytest.approx(first[row["id"]], rel=1e-5)  # explained by the model that did not see it
    page = (home / "out/report/index.html").read_text()
    assert "Films" in page
    with open(home / "out/report/words.csv", encoding="utf-8-sig") as file:
        assert next(csv.reader(file))[:2] == ["word", "output"]

    before = snapshot(home)
    again = io.StringIO()
    run_study(study, Reporter(stream=again))
    written = {name for name, at in snapshot(home).items() if before.get(name) != at}
    assert {os.path.basename(name) for name in written} <= {"_done.json"}
    assert again.getvalue().count("nothing to do") == 6
    assert [plan.new for plan in plans(study)] == [0] * 6


def test_a_changed_prompt_recomputes_captions_and_what_hangs_on_them(ray_cluster: None, home: Path) -> None:
    run_study(study_of(home), Reporter(quiet=True), until="caption")
    before = snapshot(home)
    study = study_of(home, caption={"backend": "fake", "prompt": "Other.", "resources": {"rows_per_block": 8}})
    assert [(p.step, p.new) for p in plans(study)][:2] == [("fetch", 0), ("caption", 36)]
    run_study(study, Reporter(quiet=True), until="caption")
    after = snapshot(home)
    kept = {name for name in before if not name.endswith("_done.json")}
    assert {name for name in kept if after[name] == before[name]} == kept  # the old captions stay, fetch is untouched
    found = [(r["table"].split("/")[0], r["current"], r["counts"]["ok"], r["complete"]) for r in tables(study)]
    assert sorted(found) == [("caption", False, 36, True), ("caption", True, 36, True), ("fetch", True, 37, True)]


def test_text_from_the_manifest_needs_no_images(ray_cluster: None, home: Path) -> None:
    manifest = {"path": "films.csv", "text": "title", "target": "score", "image": None}
    study = study_of(home, manifest=manifest)
    run_study(study, Reporter(quiet=True))
    assert [p.step for p in plans(study)] == ["train_text", "explain_words", "probe", "report"]
    assert gather(study, step="test").examples["text"].to_pylist()[:2] == ["film 0", "film 1"]
    assert (home / "out/report/index.html").exists()
    assert not (home / "out/fetch").exists()


def test_a_stage_out_of_turn_says_what_to_run_first(ray_cluster: None, home: Path) -> None:
    study = study_of(home)
    with pytest.raises(Fatal, match="caption needs fetch to be complete: 39 of 39 rows are missing"):
        run_study(study, Reporter(quiet=True), only="caption")
    with pytest.raises(Fatal, match="no stage 'captions'; its stages are fetch, caption, train_text"):
        run_study(study, Reporter(quiet=True), until="captions")
    fetch.run(study, Reporter(quiet=True))
    with pytest.raises(Fatal, match="train_text needs caption"):
        train_text.run(study, Reporter(quiet=True))
    caption.run(study, Reporter(quiet=True))
    with pytest.raises(Fatal, match="not complete: run train_text first"):
        explain_words.run(study, Reporter(quiet=True))
    assert report.plan(study).note.startswith("waits")


def test_plan_and_status_on_the_command_line(ray_cluster: None, home: Path) -> None:
    from typer.testing import CliRunner

    study_of(home)
    run = CliRunner().invoke(app, ["plan", str(home / "study.yaml"), "--limit", "20"])
    assert run.exit_code == 0, run.output
    assert run.output.splitlines()[1].split()[:3] == ["fetch", "19", "19"]
    run = CliRunner().invoke(app, ["run", str(home / "study.yaml"), "--limit", "20", "--until", "caption", "--quiet"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(app, ["status", str(home / "study.yaml"), "--limit", "20", "--json"])
    found = [json.loads(line) for line in run.output.splitlines()]
    assert [(one["table"].split("/")[0], one["counts"]) for one in found] == [
        ("fetch", {"rows in": 19, "ok": 17, "transient": 0, "rejected": 0, "bad_input": 2}),
        ("caption", {"rows in": 16, "ok": 16, "transient": 0, "rejected": 0, "bad_input": 0}),
    ]


def test_a_driver_killed_in_mid_caption_loses_and_doubles_nothing(home: Path) -> None:
    """The job jobs/caption.py as a process of its own, SIGKILLed when some blocks are in, then run again."""
    slow = {"backend": "fake", "options": {"seconds_per_request": 0.25}}
    study = study_of(home, caption={**slow, "resources": {"workers": 2, "cpus_per_worker": 1, "rows_per_block": 3}})
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    job = [sys.executable, str(Path("jobs/caption.py").absolute()), str(home / "study.yaml"), "--quiet"]
    first = [sys.executable, str(Path("jobs/fetch.py").absolute()), str(home / "study.yaml"), "--quiet"]
    subprocess.run(first, env=env, check=True, timeout=240)
    table = caption.table(study)
    process = subprocess.Popen(job, env=env, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while len(table.parts()) < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    committed = set(table.read(["id"])["id"].to_pylist())
    assert 9 <= len(committed) < 36
    first_parts = table.parts()
    time.sleep(1.0)
    subprocess.run(job, env=env, check=True, timeout=240)
    counts = table.counts()
    assert (counts.rows_in, counts.ok, counts.missing) == (36, 36, 0)
    assert table.done_mark()["rows_in"] == 36
    assert sum(len(read_part(url, ["id"])) for url in table.parts()) == 36  # nothing was captioned twice into the table
    assert set(first_parts) <= set(table.parts())


def test_one_text_looked_at_closely(ray_cluster: None, home: Path) -> None:
    study = study_of(home)
    run_study(study, Reporter(quiet=True))
    row = explain_words.table(study, gather(study, step="test")).read().to_pylist()[0]
    found = look(study, row["id"][:12])
    assert (found.item, found.fold) == (row["id"], row["fold"])
    matrix = found.interactions["score"]
    assert len(matrix) == len(found.sentences) == len(row["sentences"])
    # Shapley values of the sentences add up to what the text adds to the base value
    assert matrix.diagonal().sum() == pytest.approx(row["outputs"][0] - row["base_values"][0], abs=1e-2)
    assert found.sentences[0] in row["sentences"][0]["text"]
    assert "<svg" in found.plot
    with pytest.raises(Fatal, match="0 texts"):
        look(study, "no such id")


def test_the_report_shows_this_study_s_sample_and_no_more(ray_cluster: None, home: Path) -> None:
    few = {"max_evals": 20, "sample": 4, "resources": {"cpus_per_worker": 0.5, "rows_per_block": 5}}
    run_study(study_of(home), Reporter(quiet=True))
    study = study_of(home, explain_words=few)
    items = gather(study, step="test")
    assert explain_words.plan(study).new == 0  # the smaller sample is part of the larger one
    assert report.find_words(study, items).table["total"].to_pylist()[0] == 4
    assert report.plan(study).new == 37  # the rows that it is about


def test_rows_that_share_an_image_or_a_text_are_one_group(ray_cluster: None, home: Path) -> None:
    lines = [["image", "score", "title"]]
    for i in range(20):  # two texts an image; row 19's text is that of row 0, whose image it does not share
        lines.append([f"images/{6 + i // 2}.jpg", str(i), "text 0" if i == 19 else f"text {i}"])
    with open(home / "films.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    study = study_of(home, manifest={"path": "films.csv", "image": "image", "text": "title", "target": "score"})
    run_study(study, Reporter(quiet=True), until="fetch")
    groups = gather(study, step="test").examples["group"].to_pylist()
    assert len(set(groups)) == 9
    assert groups[0] == groups[1] == groups[18] == groups[19]
    assert groups[2] == groups[3] != groups[4]
    run_study(study, Reporter(quiet=True), only="train_text")
    where = train_text.folder(study, gather(study, step="test"))
    folds = training.read_table(where, "predictions")["fold"].to_pylist()
    assert all(len({f for f, g in zip(folds, groups, strict=True) if g == one}) == 1 for one in groups)


def test_a_refusal_is_lifted_when_the_study_allows_it(ray_cluster: None, home: Path) -> None:
    aside = home / "aside"
    aside.mkdir()
    (home / "films.csv").rename(aside / "films.csv")
    text = (aside / "films.csv").read_text().replace("images/", "../images/")
    (aside / "films.csv").write_text(text)
    manifest = {"path": "aside/films.csv", "image": "image", "target": "score"}
    few = {"cpus_per_worker": 0.5, "rows_per_block": 16}
    study = study_of(home, manifest=manifest, max_failed_fraction=1.0)
    run_study(study, Reporter(quiet=True), only="fetch")
    assert fetch.table(study).counts().reasons == {"bad_input/forbidden_path": 39}
    study = study_of(home, manifest=manifest, max_failed_fraction=1.0, fetch={"roots": ["images"], "resources": few})
    assert fetch.plan(study).new == 39
    run_study(study, Reporter(quiet=True), only="fetch")
    assert fetch.table(study).counts(fetch.source(study).keys["id"]).ok == 37
    assert fetch.plan(study).new == 0


def test_an_image_that_changed_in_place_is_read_again(ray_cluster: None, home: Path) -> None:
    study = study_of(home)
    run_study(study, Reporter(quiet=True), until="fetch")
    Image.new("RGB", (9, 9), "red").save(home / "images/0.jpg")
    study = study_of(home)
    assert fetch.plan(study).new == 1


def test_a_moved_workspace_goes_on(ray_cluster: None, home: Path) -> None:
    run_study(study_of(home), Reporter(quiet=True), until="train_text")
    (home / "out").rename(home / "elsewhere")
    study = study_of(home, workspace="elsewhere")
    assert train_text.plan(study).new == 0
    run_study(study, Reporter(quiet=True), until="explain_words")
    assert explain_words.plan(study).new == 0
