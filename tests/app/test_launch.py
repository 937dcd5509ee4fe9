"""How the page is served: on this machine, closed, and with a plain message where it cannot be."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

import seewhy.app
from seewhy.app.launch import command, launch
from seewhy.app.markup import STYLE, block, facts, missing, problem, table
from seewhy.failure import Fatal
from seewhy.report.fragment import style
from seewhy.study import check_study
from tests.app.sample import HOSTILE

STUDY = check_study({"title": "x", "workspace": "out", "manifest": {"path": "a.csv", "image": "p", "target": "t"}})


def flags(
    host: str = "127.0.0.1", port: int | None = None, limit: int | None = None
) -> tuple[dict[str, str], list[str]]:
    made = command(STUDY, "s.yaml", host=host, port=port, limit=limit)
    at = made.index("--")
    pairs = [flag.removeprefix("--").split("=", 1) for flag in made if flag.startswith("--") and flag != "--"]
    return dict(pairs), made[at + 1 :]


def test_the_server_is_closed_to_others() -> None:
    asked, rest = flags()
    assert asked["server.address"] == "127.0.0.1"
    assert asked["server.headless"] == asked["server.enableCORS"] == asked["server.enableXsrfProtection"] == "true"
    assert asked["browser.gatherUsageStats"] == asked["server.enableStaticServing"] == "false"
    assert asked["client.showErrorDetails"] == "none"
    assert asked["server.maxUploadSize"] == "20"  # the study's fetch.max_bytes in MB
    assert "server.port" not in asked
    assert rest == ["s.yaml"]
    asked, rest = flags("0.0.0.0", 9000, 7)
    assert (asked["server.address"], asked["server.port"]) == ("0.0.0.0", "9000")
    assert "server.allowedHosts" not in asked  # nobody knows by which names others reach it
    assert rest == ["s.yaml", "7"]


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "streamlit" else pytest.fail(name))
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("a server was started"))
    with pytest.raises(Fatal, match=r"pip install seewhy\[app\]"):
        launch(STUDY, "s.yaml")


def test_another_address_comes_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(os, "execv", lambda _, given: started.append(given))
    launch(STUDY, "s.yaml")
    assert capsys.readouterr().err == ""
    launch(STUDY, "s.yaml", host="0.0.0.0")
    assert "whoever reaches 0.0.0.0 can see the study's images" in capsys.readouterr().err
    assert [given[0] for given in started] == [sys.executable] * 2


def test_no_file_of_the_page_hides_a_module_of_python() -> None:
    """Streamlit puts the script's folder first on the path that imports are sought on."""
    names = {path.stem for path in Path(seewhy.app.__file__).parent.glob("*.py")} - {"__init__"}
    assert names & set(sys.stdlib_module_names) == set()
    assert {name for name in names if importlib.util.find_spec(name)} == set()


def test_nothing_from_outside_becomes_html() -> None:
    for made in (
        block(HOSTILE),
        problem(HOSTILE),
        missing(HOSTILE, HOSTILE, HOSTILE),
        facts([(HOSTILE, HOSTILE)]),
        table([(HOSTILE, HOSTILE, HOSTILE)], (HOSTILE, "b", "c")),
    ):
        assert "<img" not in made
        assert "<script" not in made
        assert '="window' not in made
        assert "&lt;img src=x onerror=&quot;window.ran=1&quot;&gt;" in made
        assert "[U+202E]" in made


def test_the_reports_style_reaches_its_own_pieces_only() -> None:
    assert style().startswith(".seewhy {")
    assert ":root" not in style()
    assert style().count("{") == style().count("}")
    assert "</style>" not in STYLE.removesuffix("</style>")
