"""The page without a browser, where a study has nothing to show or a mistake in it: messages, and no tracebacks."""

import sys
from pathlib import Path
from typing import Any

import pytest

from seewhy.app.launch import PAGE
from seewhy.steps.once import forget
from tests.app.sample import write_study

testing = pytest.importorskip("streamlit.testing.v1", reason="streamlit is not installed")


def opened(study: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    """The page at rest, and all HTML on it."""
    forget()
    monkeypatch.setattr(sys, "argv", [str(PAGE), str(study)])
    page = testing.AppTest.from_file(str(PAGE), default_timeout=120).run()
    assert not page.exception
    return page, "\n".join(str(one.proto.body) for one in page.get("html"))


def test_a_study_of_texts_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = {"path": "films.csv", "text": "title", "target": "rating"}
    study = write_study(tmp_path / "texts", manifest=manifest, path="text", score=None)
    page, shown = opened(study, monkeypatch)
    assert "This study has texts and no images" in shown
    assert "No picture is chosen yet" in shown
    assert [one.label for one in page.radio] == ["Picture from"]


def test_a_study_that_has_not_begun_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_study(tmp_path / "ten")
    page, shown = opened(study, monkeypatch)
    assert "No image of this study has been fetched yet" in shown
    assert f"seewhy run {study} --until fetch" in shown
    page.text_input(key="text").input("a dog")
    page.button[[one.label for one in page.button].index("Score")].click().run()
    assert not page.exception
    assert "Choose a picture first." in "\n".join(str(one.proto.body) for one in page.get("html"))


def test_mistakes_in_the_study_are_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_study(tmp_path / "ten")
    study.write_text(study.read_text("utf-8").replace("title: Ten posters", "titel: Ten <b>posters</b>"), "utf-8")
    _, shown = opened(study, monkeypatch)
    assert "titel: unknown key (did you mean title?)" in shown
    (tmp_path / "ten" / "films.csv").unlink()
    gone = write_study(tmp_path / "other")
    (tmp_path / "other" / "films.csv").unlink()
    _, shown = opened(gone, monkeypatch)
    assert 'role="alert"' in shown
    assert "films.csv" in shown
