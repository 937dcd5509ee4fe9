"""A study of drawn posters by questions alone: the packaged model's answers, and what the probe makes of them."""

import csv
from pathlib import Path

import pytest
import yaml

from seewhy.demo.factors import FACTORS, NULL_FACTOR
from seewhy.demo.posters import write_posters
from seewhy.demo.questions import POSTER_QUESTIONS, poster_answer
from seewhy.progress import Reporter
from seewhy.steps import ask, fetch, probe
from seewhy.steps.once import forget
from seewhy.steps.order import run_study
from seewhy.steps.rows import manifest_rows
from seewhy.steps.words import TEXT, gather_texts
from seewhy.study import Study, load_study

COUNT = 400
QUESTIONS = {asked.factor: asked.wordings[0] for asked in POSTER_QUESTIONS}
"""One a factor."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Study:
    home = tmp_path_factory.mktemp("posters")
    write_posters(home, COUNT, 5)
    value = {
        "title": "What moves a poster's rating?",
        "workspace": "out",
        "path": "words",
        "manifest": {"path": "manifest.csv", "image": "poster", "target": "rating"},
        "ask": {"backend": "tiny", "questions": QUESTIONS, "resources": {"rows_per_block": 100}},
        "probe": {"answers": "instead", "subsamples": 20},
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    forget()
    study = load_study(str(home / "study.yaml"))
    run_study(study, Reporter(quiet=True))
    return study


def drawn(study: Study) -> dict[str, dict[str, str]]:
    """Image id -> the factors of its poster."""
    with open(Path(study.workspace).parent / "truth.csv", newline="") as file:
        truth = {row.pop("poster"): row for row in csv.DictReader(file)}
    image_of = dict(zip(*(fetch.images_of(study)[name].to_pylist() for name in ("id", "image_id")), strict=True))
    rows = manifest_rows(study).table.to_pylist()
    return {image_of[row["source_id"]]: truth["posters/" + row["source"].rsplit("/", 1)[1]] for row in rows}


@pytest.mark.ray
@pytest.mark.slow
def test_answers_tell_what_was_drawn(study: Study) -> None:
    truth = drawn(study)
    found = ask.table(study).read().to_pylist()
    assert len(found) == len(truth) == COUNT
    for name, question in QUESTIONS.items():
        right = sum(row[name] == poster_answer(question, truth[row["id"]]) for row in found)
        assert right >= 0.95 * COUNT, name


@pytest.mark.ray
@pytest.mark.slow
def test_the_probe_finds_the_planted_effects_in_the_answers(study: Study) -> None:
    """Every word is worth its factor's effect, with the sign of its level; the one without an effect is worth none."""
    found = probe.read(study, gather_texts(study, TEXT, step="test"))
    assert found is not None
    assert found.verdict.beats
    rows = {row["word"]: row for row in found.table.to_pylist()}
    chosen = {word.split("=")[0] for word, row in rows.items() if row["rank"] is not None}
    assert chosen >= {name for name, factor in FACTORS.items() if abs(factor.effect) >= 0.6}  # in halves of 200 too
    assert NULL_FACTOR not in chosen
    assert len({word.split("=")[0] for word in rows}) == len(rows)  # of two answers one is counted
    for name, question in QUESTIONS.items():
        factor = FACTORS[name]
        asked = next(one for one in POSTER_QUESTIONS if question in one.wordings)
        for level, sign in zip(factor.levels, (-1, 1), strict=True):
            row = rows.get(f"{name}={asked.answers[level]}")
            if row is not None:
                assert row["difference_low"] - 0.15 < sign * factor.effect < row["difference_high"] + 0.15
