"""A study whose probe takes the images' scores beside its words, or instead of them, from manifest to report."""

import csv
import io
from pathlib import Path

import pytest
import yaml

from seewhy.demo.posters import write_posters
from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.steps import probe
from seewhy.steps.once import forget
from seewhy.steps.order import plans, run_study
from seewhy.steps.words import gather_texts
from seewhy.study import Study, check_study, load_study
from tests.report.page import read_page

SMALL = {"cpus_per_worker": 1, "rows_per_block": 64}
TEXTS = [
    "a dog",
    "a car",
    "the sun",
    "the moon",
    "a dark scene",
    "a bright scene",
    "a frameless layout",
    "a framed layout",
]
POSTERS = 100


def study_of(home: Path, scores: str, **changed: object) -> Study:
    value = {
        "title": "Posters",
        "workspace": "out",
        "path": "words",
        "manifest": {"path": "manifest.csv", "image": "poster", "target": "rating"},
        "max_failed_fraction": 0.5,
        "fetch": {"resources": SMALL},
        "caption": {"backend": "tiny", "temperature": 0, "resources": SMALL},
        "score": {"model": "tiny", "texts": TEXTS, "resources": SMALL},
        "probe": {"scores": scores, "subsamples": 20, "resources": SMALL},
        **changed,
    }
    (home / "study.yaml").write_text(yaml.safe_dump({key: one for key, one in value.items() if one is not None}))
    forget()
    return load_study(str(home / "study.yaml"))


@pytest.mark.ray
@pytest.mark.slow
def test_scores_beside_words_and_instead_of_them(ray_cluster: None, tmp_path: Path) -> None:
    write_posters(tmp_path, POSTERS, 3)
    study = study_of(tmp_path, "beside")
    assert [plan.step for plan in plans(study)] == ["fetch", "caption", "score", "probe", "report"]
    run_study(study, Reporter(quiet=True), until="score")
    with open(tmp_path / "manifest.csv", "a", newline="") as file:  # a row whose image is none, after the scores
        csv.writer(file).writerow(["posters/none.jpg", "x", 5, 1999, "drama"])
    study = study_of(tmp_path, "beside")
    run_study(study, Reporter(quiet=True))
    texts = gather_texts(study, "text", step="test")
    found = probe.read(study, texts)
    assert found is not None
    assert (found.texts, found.verdict.model) == (POSTERS, "words and scores")
    assert set(found.table["feature"].to_pylist()) == {"word", "score"}
    scores = [row for row in found.table.to_pylist() if row["feature"] == "score"]
    assert {row["word"] for row in scores} <= set(TEXTS)
    assert all(row["total"] is None and -1 <= row["correlation"] <= 1 for row in scores)
    page = read_page(tmp_path / "out/report/index.html")
    assert (
        page.one("p", "headline").text
        == "The words of the captions and the scores of the images help to predict rating."
    )
    shown = page.one("section", id="concepts")
    named = {row.one("th").all("span")[0].text for table in shown.all("table") for row in table.one("tbody").all("tr")}
    ranked = {row["word"] for row in scores if row["rank"] is not None}
    assert named == ranked
    assert named & {"a dog", "a car"}  # the factor that moves the rating most
    assert not {"a frameless layout", "a framed layout"} & ranked
    words = page.one("section", id="words")
    assert not any(text in words.text for text in TEXTS)
    with open(tmp_path / "out/report/probe.csv", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert {row["feature"] for row in rows} == {"word", "score"}

    other = study_of(tmp_path, "beside", score={"model": "tiny", "texts": TEXTS[:3], "resources": SMALL})
    assert probe.plan(other).new is None  # it waits for the new scores
    none = study_of(tmp_path, "none")
    assert probe.plan(none).new == POSTERS

    instead = study_of(tmp_path, "instead")
    run_study(instead, Reporter(quiet=True))
    found = probe.read(instead, gather_texts(instead, "text", step="test"))
    assert found is not None
    assert found.verdict.model == "scores"
    assert set(found.table["feature"].to_pylist()) == {"score"}
    page = read_page(tmp_path / "out/report/index.html")
    assert page.one("p", "headline").text == "The scores of the images help to predict rating."
    assert not page.all("section", id="words")
    assert page.one("section", id="concepts").all("table", "concepts")
    again = io.StringIO()
    run_study(study_of(tmp_path, "instead"), Reporter(stream=again))
    assert again.getvalue().count("nothing to do") == 5


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"score": None}, "probe.scores is beside: name the texts to score in the section `score`"),
        ({"path": "image"}, "scores join the probe of captions or texts, which path image has not"),
        ({"probe": {"scores": "both"}}, "probe.scores: 'both' is not allowed"),
    ],
)
def test_scores_that_cannot_join_are_refused(changed: dict[str, object], complaint: str) -> None:
    value = {
        "title": "Posters",
        "workspace": "out",
        "manifest": {"path": "manifest.csv", "image": "poster", "target": "rating"},
        "score": {"texts": ["a dog"]},
        "probe": {"scores": "beside"},
        **changed,
    }
    with pytest.raises(Fatal) as error:
        check_study(value)
    assert complaint in str(error.value)
