import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.sample import report_of, sample

Build = Callable[..., Path]

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on 60 posters with a numeric target; not to be changed."""
    out = tmp_path_factory.mktemp("posters") / "report"
    return report_of(out, sample())


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Builds a report on the sample, with arguments changed, and returns its folder."""

    def made(arguments: dict[str, Any] | None = None, **changed: Any) -> Path:
        given = sample() if arguments is None else arguments
        return report_of(tmp_path / "report", {**given, **changed})

    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no chromium at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        # A launch without a user data folder of its own makes a fresh one in a temporary place and removes it.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A tab that fails the test if a page logs an error, opens a dialog or asks for anything but a file."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("dialog", lambda d: (wrong.append(d.message), d.dismiss()))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:,")) else wrong.append(r.url))
    page.on("requestfailed", lambda r: wrong.append(f"failed: {r.url}"))
    yield page
    context.close()
    assert wrong == []
