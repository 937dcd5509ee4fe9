"""The report's step over tables made by hand: pictures of a study of texts, and when the report is written anew."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from seewhy import schema, storage, urls
from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.steps import explain_words, fetch, probe, report, train_text
from seewhy.steps.items import gather
from seewhy.steps.once import forget
from seewhy.steps.words import TEXT, gather_texts
from seewhy.study import Study, load_study
from seewhy.table import digest_text
from tests.report.page import read_page
from tests.report.sample import draw_poster, explain, score_table
from tests.train.encoders import save_tiny_bert

SHARED, TWICE, BROKEN, ALONE = "neon city", "golden ocean", "grey desert", "red forest"
FILMS = [
    # image, text: a picture of two texts, a text of two rows of which one has a picture, and two without any
    ("a.jpg", SHARED, 7.0, "one"),
    ("a.jpg", TWICE + " too", 6.0, "two"),
    ("gone.jpg", TWICE, 5.0, "three"),
    ("b.jpg", TWICE, 5.5, "four"),
    ("gone.jpg", BROKEN, 3.0, "five"),
    ("", ALONE, 4.0, "six"),
]
WORDS = {"light": "dark", "people": "couple", "place": "city", "palette": "red", "thing": "moon", "mood": "quiet"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    save_tiny_bert(tmp_path / "encoder")
    return tmp_path


def study_of(home: Path, *, films: list[tuple[str, str, float, str]] = FILMS) -> Study:
    names = ("image", "text", "score", "title")
    pq.write_table(
        pa.Table.from_pylist([dict(zip(names, film, strict=True)) for film in films]), home / "films.parquet"
    )
    value = {
        "title": "Films",
        "workspace": "out",
        "manifest": {
            "path": "films.parquet",
            "image": "image",
            "text": "text",
            "target": "score",
            "keep": ["title"],
            "task": "regression",
        },
        "train_text": {"encoder": "./encoder", "folds": 2},
        "explain_words": {"max_evals": 20},
        "report": {"min_items": 1},
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    forget()
    return load_study(str(home / "study.yaml"))


def pictures_of(study: Study) -> dict[str, bytes]:
    """File name -> the bytes put into the fetch table; gone.jpg failed."""
    rng = np.random.default_rng(0)
    pictures = {name: draw_poster({**WORDS, "palette": p}, rng) for name, p in (("a.jpg", "red"), ("b.jpg", "blue"))}
    records = []
    for source_id, source in zip(*(fetch.source(study).keys[n].to_pylist() for n in ("id", "source")), strict=True):
        name = source.rsplit("/", 1)[1]
        if name in pictures:
            records.append({"id": source_id, "source": source, "image_id": name * 4, "image": pictures[name]})
        else:
            records.append({"id": source_id, "source": source, "error_kind": "bad_input", "reason": "no_such_file"})
    fetch.table(study).append(pa.Table.from_pylist(records, schema.IMAGES), generation=1)
    return pictures


def trained(study: Study, *, evaluations: int = 12, residual: float = 2e-7) -> None:
    """What training and explanation would leave behind."""
    items = gather(study, step="test")
    where = train_text.folder(study, items)
    predictions = [
        {"row": e["row"], "id": e["id"], "fold": 0, "target": e["target"], "outputs": [5.0]}
        for e in items.examples.to_pylist()
    ]
    for name, table in (
        ("predictions", pa.Table.from_pylist(predictions, schema.PREDICTIONS)),
        ("scores", score_table("regression")),
    ):
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        storage.write_whole(urls.join(where, f"{name}.parquet"), buffer.getvalue())
    verdict = {"beats": True, "metric": "r2", "value": 0.2, "low": 0.1, "high": 0.3, "baseline": "mean", "model": "b"}
    storage.write_json(urls.join(where, "verdict.json"), verdict)
    storage.write_json(urls.join(where, "_done.json"), {"models": {}, "truncated": 0, "rows": len(predictions)})
    rng = np.random.default_rng(0)
    found = [
        {**explain(t["text"], 0, rng, 1), "id": t["id"], "evaluations": evaluations, "residual": residual}
        for t in items.texts.to_pylist()
    ]
    table = pa.Table.from_pylist(found, schema.EXPLANATIONS)
    explain_words.table(study, items).append(table, generation=1)
    # Six texts feed no probe.
    where = probe.folder(study, gather_texts(study, TEXT, step="test"))
    storage.write_json(urls.join(where, "_done.json"), {"rows": 6, "words": 0, "why_not": "too few texts"})


def write(study: Study, *, anew: bool = False) -> bool:
    """Whether the report was written."""
    said = io.StringIO()
    report.run(study, Reporter(stream=said), anew=anew)
    return "nothing to do" not in said.getvalue()


def test_each_text_with_a_fetched_image_has_its_picture(home: Path) -> None:
    study = study_of(home)
    pictures = pictures_of(study)
    read = report.pictures(study)
    assert read is not None
    got = read([digest_text(t) for t in (TWICE, ALONE, TWICE + " too", BROKEN, SHARED)])
    assert got == {
        digest_text(SHARED): pictures["a.jpg"],
        digest_text(TWICE + " too"): pictures["a.jpg"],
        digest_text(TWICE): pictures["b.jpg"],  # the first of its two sources was not fetched
    }
    assert read([digest_text(BROKEN)]) == {}


def test_a_study_of_texts_says_so_and_counts_the_rows_without_a_picture(home: Path) -> None:
    study = study_of(home)
    pictures_of(study)
    trained(study)
    assert write(study)
    page = read_page(home / "out/report/index.html")
    rows_section = page.one("section", id="rows")
    said = rows_section.text
    # row 5's image is gone, row 6 names none; row 3's text has row 4's picture
    assert "2 of 6 rows have no picture (no image named 1, no_such_file 1)." in said
    assert "picture" not in rows_section.one("table").text  # none of them is lost
    reading = page.one("section", id="reading").text
    assert "Each text came with the data; no model wrote it. The pictures only stand beside the texts" in reading
    assert "described" not in reading
    assert "second model" not in reading
    assert "caption" not in page.one("main").text
    assert len(list((home / "out/report/thumbs").iterdir())) == 3


def test_a_report_is_written_again_when_what_it_shows_changed(home: Path) -> None:
    study = study_of(home)
    pictures_of(study)
    trained(study)
    assert write(study)
    assert not write(study)
    assert report.plan(study).new == 0
    assert write(study, anew=True)
    (home / "out/report/index.html").unlink()
    assert report.plan(study).new == 6  # rows
    assert write(study)

    retitled = study_of(home, films=[*FILMS[:-1], (*FILMS[-1][:3], "sixth")])
    assert write(retitled)
    assert "sixth" in (home / "out/report/items" / f"{digest_text(ALONE)}.html").read_text()
    assert not write(retitled)

    images = fetch.table(study)
    ids = fetch.source(study).keys["id"]
    images.mark_done(images.counts(ids), rows_digest="later")
    assert write(retitled)


def test_a_users_own_report_folder_is_left_alone(home: Path) -> None:
    study = study_of(home)
    pictures_of(study)
    trained(study)
    (home / "out/report").mkdir()
    (home / "out/report/index.html").write_text("mine")
    with pytest.raises(Fatal, match=r"'index\.html' for one"):
        write(study)
    assert (home / "out/report/index.html").read_text() == "mine"


@pytest.mark.parametrize(("evaluations", "said"), [(19, False), (20, True)])
def test_a_spent_budget_is_said_and_so_is_the_largest_residual(home: Path, evaluations: int, said: bool) -> None:
    study = study_of(home)
    pictures_of(study)
    trained(study, evaluations=evaluations, residual=0.0312)
    write(study)
    page = read_page(home / "out/report/index.html")
    assert ("spread evenly over its tokens" in page.one("section", id="reading").text) is said
    assert "add up to the prediction within 0.03." in page.one("section", id="provenance").text
