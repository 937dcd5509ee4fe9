"""Lines for machines beside those for people, by hand; a whole run's are read in safety/test_hostile_study.py."""

import json
import logging
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime

import pytest

from seewhy import logs
from seewhy.cli import stop_on_fatal
from seewhy.failure import Fatal
from seewhy.progress import Reporter

JOB = json.dumps({"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1"}})


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(logs.VARIABLE, raising=False)
    monkeypatch.delenv(logs._JOB, raising=False)
    monkeypatch.setattr(logs, "_about", {"study": None, "workspace": None})
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    names = ("", "ray", "ray.data", "ray.train")
    before = {name: (list(logging.getLogger(name).handlers), logging.getLogger(name).propagate) for name in names}
    yield
    logging.captureWarnings(False)
    for name, (handlers, propagate) in before.items():
        logging.getLogger(name).handlers, logging.getLogger(name).propagate = handlers, propagate


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_inside_a_job_machines_are_told_and_elsewhere_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not logs.structured()
    monkeypatch.setenv(logs.VARIABLE, "json")
    assert logs.structured()
    monkeypatch.delenv(logs.VARIABLE)
    monkeypatch.setenv(logs._JOB, JOB)
    assert logs.structured()
    monkeypatch.setenv(logs.VARIABLE, "plain")
    assert not logs.structured()
    assert logs.fields("caption") is None


def test_people_and_machines_are_told_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(logs._JOB, JOB)
    logs.begin(study="Films", workspace="gs://b/out")
    reporter = Reporter()
    reporter.say("manifest: 10 rows")
    with reporter.stage("probe of captions", 10, "fits") as progress:
        progress({"ok": 6, "transient": 0})
        progress({"ok": 2, "transient": 1, "bad_input": 1})
    said = capsys.readouterr()
    told = lines(said.err)
    assert [line["message"] for line in told] == said.out.splitlines()
    about = {"study": "Films", "workspace": "gs://b/out", "job": "raysubmit_1", "level": "info"}
    assert all({name: line[name] for name in about} == about for line in told)
    assert [line["stage"] for line in told] == ["manifest", "probe", "probe"]
    assert "rows" not in told[0]
    assert [(line["rows"], line["total"], line["unit"]) for line in told[1:]] == [(0, 10, "fits"), (10, 10, "fits")]
    assert told[-1]["failures"] == {"bad_input": 1, "transient": 1}
    assert told[-1]["rate"] > 0
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in told)


def test_without_them_people_are_told_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().say("manifest: 10 rows")
    Reporter(quiet=True).say("nothing")
    assert capsys.readouterr() == ("", "manifest: 10 rows\n")


def test_a_worker_tells_of_its_blocks_and_of_what_stopped_it_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([100.0, 102.0, 103.0, 104.0, 105.0])
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(now))
    about = {"study": "Films", "workspace": "out", "job": "raysubmit_1", "stage": "caption"}
    log = logs.BlockLog(about)
    log.told({"ok": 5, "transient": 1}, None)
    log.told({"ok": 0}, "no money")
    log.told({"ok": 0}, "no money")
    block, stopped = lines(capsys.readouterr().err)
    assert {name: block[name] for name in about} == about
    assert (block["rows"], block["rate"], block["failures"]) == (6, 3.0, {"transient": 1})
    assert (stopped["level"], stopped["message"], stopped["stage"]) == ("error", "no money", "caption")
    logs.BlockLog(None).told({"ok": 5}, "quiet")
    assert capsys.readouterr().err == ""


def test_what_stops_a_run_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    logs.begin(study="Films", workspace="out")
    with pytest.raises(SystemExit), stop_on_fatal():
        raise Fatal("no manifest\nat all")
    said = capsys.readouterr()
    assert said.out == "seewhy: no manifest\nat all\n"
    (line,) = lines(said.err)
    assert (line["level"], line["message"], line["study"]) == ("error", "no manifest\nat all", "Films")
    sys.excepthook(KeyError, KeyError("a bug of ours"), None)
    (line,) = lines(capsys.readouterr().err)
    assert line["level"] == "error"
    assert "a bug of ours" in line["message"]


def test_what_libraries_say_is_a_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    logs.begin(study="Films", workspace="out")
    logging.getLogger("some.library").warning("slow %s", "disk")
    logging.getLogger("ray").error("gone")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn('old "quotes"\nand lines', stacklevel=1)
    slow, gone, old = lines(capsys.readouterr().err)
    assert (slow["level"], slow["message"], slow["logger"], slow["study"]) == (
        "warning", "slow disk", "some.library", "Films",
    )  # fmt: skip
    assert (gone["level"], gone["logger"]) == ("error", "ray")
    assert 'old "quotes"\nand lines' in old["message"]
