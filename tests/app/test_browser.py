"""The page in a real browser, end to end, on a small finished study served by the command itself."""

import http.client
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seewhy.demo.posters import draw_factors, draw_poster
from tests.app.sample import TITLES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WAIT_SEC = 120


@dataclass(frozen=True)
class App:
    url: str
    port: int
    log: Path


@pytest.fixture(scope="module")
def app(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """`seewhy app` in a process of its own, which must end clean when it is interrupted."""
    pytest.importorskip("streamlit", reason="streamlit is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("served")
    log = folder / "log"
    env = {**os.environ, "HOME": str(folder)}
    with open(log, "w") as out:
        asked = [sys.executable, "-m", "seewhy.cli", "app", str(finished), "--port", str(port)]
        server = subprocess.Popen(asked, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait_for(port, server, log)
        yield App(f"http://127.0.0.1:{port}/", port, log)
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def _wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + WAIT_SEC
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(log.read_text())


@pytest.fixture
def page(browser: Any, app: App) -> Iterator[Any]:
    """The page once it is at rest. Fails the test where it logs an error, or anything but its own server is asked."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda e: wrong.append(str(e)))
    own = (app.url, app.url.replace("http", "ws", 1), "data:", "blob:")
    tab.on("request", lambda r: None if r.url.startswith(own) else wrong.append(r.url))
    tab.set_default_timeout(WAIT_SEC * 1000)
    tab.goto(app.url)
    tab.wait_for_selector(".app-title")
    rest(tab)
    yield tab
    ran = tab.evaluate("window.ran")
    context.close()
    assert ran is None
    assert wrong == []


def rest(tab: Any) -> None:
    """Until the script has run to its end: a click reaches the server a moment after it was made."""
    tab.wait_for_timeout(300)
    tab.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def open_tab(tab: Any, name: str) -> None:
    tab.get_by_role("tab", name=name).click()
    rest(tab)


def score(tab: Any, text: str) -> None:
    tab.get_by_label("A text, in any language").fill(text)
    tab.get_by_role("button", name="Score", exact=True).click()
    first = (
        """text => document.querySelector('[data-testid="stDataFrame"] table tbody tr')?.textContent.includes(text)"""
    )
    tab.wait_for_function(first, arg=text)
    rest(tab)


def cells(tab: Any) -> list[list[str]]:
    """The history's rows as the table gives them to those who cannot see it."""
    rows = tab.locator('[data-testid="stDataFrame"] table tbody tr')
    return [row.locator("td").all_inner_texts() for row in rows.all()]


def poster() -> bytes:
    rng = np.random.default_rng(77)
    out = io.BytesIO()
    draw_poster(draw_factors(rng), rng, (128, 192)).save(out, "PNG")
    return out.getvalue()


def test_texts_are_scored_into_a_history_that_can_be_taken_home(page: Any) -> None:
    score(page, "a dark poster")
    score(page, "a bright poster")
    rows = cells(page)
    assert [row[:2] for row in rows] == [["2", "a bright poster"], ["1", "a dark poster"]]
    with page.expect_download() as download:
        page.get_by_text("Download as CSV").click()
    lines = Path(download.value.path()).read_text("utf-8-sig").splitlines()
    assert lines[0] == "no,text,logit,probability,image,image_id,model,templates"
    assert lines[1].startswith("1,a dark poster,")
    assert lines[2].split(",")[4] == "Amber Harbor"
    logit, probability = map(float, lines[1].split(",")[2:4])
    assert probability == pytest.approx(1 / (1 + np.exp(-logit)))


def test_an_uploaded_poster_is_scored_and_asked_about(page: Any) -> None:
    page.get_by_text("A file", exact=True).click()
    rest(page)
    chooser = page.locator('input[type="file"]')
    chooser.set_input_files({"name": "page.png", "mimeType": "image/png", "buffer": b"<html>no</html>"})
    page.get_by_text("a web page, not an image").wait_for()
    chooser.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": poster()})
    page.locator(".app-name", has_text="mine.png").wait_for()
    rest(page)
    score(page, "a poster")
    assert cells(page)[0][4] == "mine.png"
    open_tab(page, "Ask")
    for number, question in enumerate(("What is it?", "<b>And</b> above?"), start=1):
        box = page.get_by_placeholder("A question about the picture")
        box.fill(question)
        box.press("Enter")
        page.wait_for_function(
            "n => document.querySelectorAll('[data-testid=\"stChatMessage\"]').length === n", arg=2 * number
        )
        rest(page)
    said = page.locator('[data-testid="stChatMessage"] .app-text').all_inner_texts()
    assert (said[0], said[2]) == ("What is it?", "<b>And</b> above?")
    assert len(said) == 4
    assert all(said)
    page.get_by_text("What the model was sent last").click()
    prompt = page.locator("code.app-code").inner_text()
    assert prompt.startswith("Question: What is it? Answer: ")
    assert prompt.endswith("Question: <b>And</b> above? Answer:")
    open_tab(page, "What the study found")
    page.get_by_text("This picture is not one of the study’s own").wait_for()


def test_what_was_found_of_a_poster_is_shown_and_harms_nobody(page: Any) -> None:
    page.get_by_label("Search by title").fill("onerror")
    page.get_by_label("Search by title").press("Enter")
    page.get_by_text("1 of 10 images").wait_for()
    rest(page)
    page.get_by_role("button", name="Choose", exact=True).click()
    page.locator(".app-name", has_text="onerror").first.wait_for()
    assert page.locator(".app-name").first.inner_text() == '<img src=x onerror="window.ran=1">…'
    open_tab(page, "What the study found")
    page.locator(".caption-text .w").first.wait_for()
    text = page.locator("body").inner_text()
    for part in (
        "![x](http://evil.example/x.png) :red[a] $b$ [U+202E]</p><script>",
        "Predicted minus actual",
        "Where the image model looked",
        "Description",
        "a bright poster",
    ):
        assert part in text
    assert page.locator(".app-missing").count() == 0
    assert page.get_by_alt_text("The picture, tinted by the heat map").evaluate("i => i.naturalWidth") > 0


def test_a_changed_prompt_stands_beside_the_old_captions(page: Any) -> None:
    open_tab(page, "Try a prompt")
    page.get_by_text("A click makes 5 calls to tiny.").wait_for()
    assert page.get_by_text("from the study’s table").count() == 5
    page.get_by_label("Prompt", exact=True).fill("Question: What is in the sky? Answer:")
    page.get_by_role("button", name="Caption these 5 images").click()
    page.get_by_text("5 calls in").wait_for()
    rest(page)
    assert page.get_by_text("from the study’s table").count() == 5
    assert page.get_by_text("tokens in").count() == 5


def test_a_refused_address_is_a_message(page: Any) -> None:
    page.get_by_text("A web address", exact=True).click()
    page.get_by_label("Web address of an image").fill("file:///etc/passwd")
    page.get_by_role("button", name="Fetch").click()
    page.get_by_text("forbidden_scheme (bad_input)").wait_for()
    assert page.get_by_text("forbidden_scheme (bad_input)").count() == 1


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_width(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    rest(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".app-title").inner_text() == "Ten posters"
    cards = page.locator('[class*="st-key-choose-"]')
    assert cards.count() == 6
    tops = {round(card.bounding_box()["y"]) for card in cards.all()}
    assert len(tops) == 2  # three in a row
    assert TITLES[0] in page.locator("body").inner_text()


def test_it_listens_on_this_machines_own_address_alone_and_to_its_own_page(app: App) -> None:
    with pytest.raises(ConnectionRefusedError):  # of all of 127/8, this is the one that is bound
        socket.create_connection(("127.0.0.2", app.port), 5).close()
    for host, origin, status in (
        ("127.0.0.1", f"http://127.0.0.1:{app.port}", 101),
        ("evil.example", f"http://evil.example:{app.port}", 403),
    ):
        asked = http.client.HTTPConnection("127.0.0.1", app.port, timeout=30)
        headers = {
            "Host": f"{host}:{app.port}",
            "Origin": origin,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        asked.request("GET", "/_stcore/stream", headers=headers)
        assert asked.getresponse().status == status
        asked.close()
