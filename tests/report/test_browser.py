"""The report in a real browser, opened from disk: hostile input, layout, contrast, search and sort."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.report import Verdict
from seewhy.shapley import owen_values, text_predict
from seewhy.steps.closer import plot_page
from tests.report.browsing import CONTRAST, HOSTILE, SCHEMES, SIZES, settle, too_wide
from tests.report.conftest import Build
from tests.report.sample import explain, item_id, report_of, sample
from tests.text_models import reader, wordpiece

pytestmark = pytest.mark.browser


def pages(folder: Path) -> list[Path]:
    return [folder / "index.html", folder / "items.html", folder / "items" / f"{item_id(3)}.html"]


def hostile(task: str) -> dict[str, Any]:
    """The sample with hostile text in each field that comes from outside."""
    given = sample(items=12, task=task)
    classes = [HOSTILE, HOSTILE + "2", HOSTILE + "3"] if task == "classification" else []
    name = HOSTILE + " target"
    outputs = dict(zip(given["classes"] or ["rating"], classes or [name], strict=True))
    text = f"neon {HOSTILE} neon"
    ids = {item_id(i): f"../{HOSTILE}{i}" if i % 2 else item_id(i) for i in range(12)}

    def renamed(table: pa.Table) -> list[dict[str, Any]]:
        return [{**r, "id": ids[r["id"]]} for r in table.to_pylist()]

    words = given["words"].to_pylist()
    hostile_words = [
        {**r, "word": HOSTILE if r["word"] == "neon" else r["word"], "output": outputs[r["output"]]} for r in words
    ]
    explanations = [
        {
            **r,
            **{k: v for k, v in explain(text, 0, np.random.default_rng(1), len(outputs)).items() if k != "id"},
        }
        for r in renamed(given["explanations"])
    ]
    for row in explanations:
        row["words"] = [{**row["words"][0], "text": HOSTILE, "start": 0, "end": len(text)}, *row["words"]]
    ride = {
        HOSTILE: HOSTILE,
        "link": "javascript:window.ran=7",
        "web": f'https://a.example/"{HOSTILE[:40]}'.replace(" ", ""),
    }
    rows = [
        {**r, "source": "javascript:window.ran=8//" + HOSTILE, "title": HOSTILE, **ride} for r in renamed(given["rows"])
    ]
    scores = [{**r, "model": HOSTILE, "metric": HOSTILE} for r in given["scores"].to_pylist()]
    read = given["read_images"]
    return {
        **given,
        "title": HOSTILE,
        "question": HOSTILE,
        "target_name": name,
        "classes": classes,
        "unit": HOSTILE,
        "losses": [(HOSTILE, 20, HOSTILE), (HOSTILE, -8, HOSTILE), (HOSTILE, 12, HOSTILE)],
        "scores": pa.Table.from_pylist(scores, schema.SCORES),
        "verdict": Verdict(True, HOSTILE, 0.1, 0.05, 0.2, HOSTILE, HOSTILE),
        "words": pa.Table.from_pylist(hostile_words, schema.WORDS),
        "predictions": pa.Table.from_pylist(renamed(given["predictions"]), schema.PREDICTIONS),
        "texts": pa.Table.from_pylist([{"id": i, "text": text} for i in ids.values()]),
        "explanations": pa.Table.from_pylist(explanations, schema.EXPLANATIONS),
        "rows": pa.Table.from_pylist(rows),
        "configs": {HOSTILE: {HOSTILE: HOSTILE}, "lone": "\ud800" + HOSTILE},
        "read_images": lambda asked: {ids[k]: v for k, v in read(list(ids)).items() if ids[k] in asked},
        "word_key": lambda t: t,
        "min_items": 1,
    }


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_nothing_from_outside_runs_or_leaves_the_page(tab: Any, tmp_path: Path, task: str) -> None:
    folder = report_of(tmp_path / "report", hostile(task))
    opened = sorted(folder.rglob("*.html"))
    assert len(opened) == 14
    assert sorted(tmp_path.iterdir()) == [folder]
    for path in opened:
        settle(tab, path)
        assert tab.evaluate("window.ran") is None, path.name
        found = tab.evaluate(
            """() => ({
                scripts: [...document.scripts].map(s => s.getAttribute("src")),
                odd: document.querySelectorAll("iframe, base, style, object, embed, form, textarea").length,
                handlers: [...document.querySelectorAll("*")].flatMap(e => e.getAttributeNames())
                    .filter(n => n.startsWith("on")).length,
                links: [...document.links].map(a => a.protocol),
                outside: [...document.links].filter(a => a.protocol.startsWith("http")).map(a => a.rel),
                images: [...document.images].map(i => i.naturalWidth),
                text: document.body.innerText,
            })"""
        )
        assert all(s in ("assets/items-data.js", "assets/items.js") for s in found["scripts"])
        assert (found["odd"], found["handlers"]) == (0, 0)
        assert set(found["links"]) <= {"file:", "https:"}
        assert all(rel == "noopener noreferrer" for rel in found["outside"])
        assert all(width > 0 for width in found["images"])
        assert "49" not in found["text"].split("7*7")[1][:10]
        assert "<script>window.ran=1</script>" in found["text"]
        assert "[U+202E]gpj.exe[U+200B]" in found["text"]
        assert not set("\u202e\u200b\u2028\x07") & set(found["text"])
    tab.goto((folder / "items.html").as_uri())
    tab.fill("#search", "<script>window.ran=1")
    assert tab.locator("#cards li").count() == 12
    assert tab.evaluate("window.ran") is None


def test_the_policy_stops_scripts_that_escaping_let_through(browser: Any, posters: Path) -> None:
    """Defence in depth: what would happen if a template did forget to escape."""
    context = browser.new_context()
    page = context.new_page()
    page.goto((posters / "index.html").as_uri())
    page.evaluate(
        """() => {
            const made = document.createElement("div");
            made.innerHTML = '<img src="data:image/png,x" onerror="window.ran=1"><img src="http://127.0.0.1:9/x.png">';
            document.body.append(made);
            const script = document.createElement("script");
            script.textContent = "window.ran=2";
            document.body.append(script);
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    context.close()


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_pages_fit_their_width_and_can_be_read(tab: Any, posters: Path, width: int, scheme: str) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)
    for path in [*pages(posters), posters / "items" / f"{item_id(5)}.html"]:
        settle(tab, path)
        tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert too_wide(tab) == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        poor = tab.evaluate(CONTRAST)
        assert poor["seen"] > 40
        assert poor["worst"] == []


def test_search_and_sort_and_paging(tab: Any, posters: Path) -> None:
    settle(tab, posters / "items.html")
    targets = {r["id"]: r["target"] for r in sample()["predictions"].to_pylist()}
    texts = {r["id"]: r["text"] for r in sample()["texts"].to_pylist()}

    def shown() -> list[str]:
        links: list[str] = tab.eval_on_selector_all("#cards a", "all => all.map(a => a.getAttribute('href'))")
        return [link.removeprefix("items/").removesuffix(".html") for link in links]

    first = shown()
    assert len(first) == 48
    assert [targets[i] for i in first] == sorted(targets.values(), reverse=True)[:48]
    assert tab.inner_text("#where") == "Page 1 of 2"
    tab.click("#next")
    assert len(shown()) == 12
    assert sorted(first + shown()) == sorted(targets)
    assert tab.is_disabled("#next")
    tab.click("#back")
    assert shown() == first
    tab.select_option("#sort", "target:1")
    assert [targets[i] for i in shown()] == sorted(targets.values())[:48]
    tab.fill("#search", "NEON  couple")
    holders = {i for i, text in texts.items() if "neon" in text.lower() and "couple" in text.lower()}
    assert set(shown()) == holders
    assert holders
    assert tab.inner_text("#found") == f"{len(holders)} of 60 found"
    assert tab.is_hidden("#pager")
    tab.fill("#search", "ネオン")
    assert shown() == [item_id(4)]
    tab.fill("#search", "")
    errors = {r["id"]: abs(r["outputs"][0] - r["target"]) for r in sample()["predictions"].to_pylist()}
    tab.select_option("#sort", "error:-1")
    assert shown()[:5] == sorted(errors, key=lambda i: -errors[i])[:5]
    strongest = {
        r["id"]: max((w["values"][0] for w in r["words"]), key=abs) for r in sample()["explanations"].to_pylist()
    }
    tab.select_option("#sort", "value:1")
    assert shown()[:5] == sorted(strongest, key=lambda i: strongest[i])[:5]


def test_a_word_of_the_overview_leads_to_its_captions(tab: Any, posters: Path) -> None:
    settle(tab, posters / "index.html")
    tab.click("table.word-chart >> text=golden")
    tab.wait_for_selector("#cards li")
    assert tab.input_value("#search") == "golden"
    count = sum("golden" in r["text"] for r in sample()["texts"].to_pylist())
    assert tab.locator("#cards li").count() == count


def test_without_javascript_pages_still_lead_on(browser: Any, posters: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((posters / "items.html").as_uri())
    assert page.locator("#cards li").count() == 24
    assert page.is_hidden("#tools")
    page.click("#cards li:first-child a")
    visited = set()
    while page.url not in visited and page.locator("a[rel=next]").count():
        visited.add(page.url)
        page.click("a[rel=next]")
    assert len(visited) == 59
    context.close()


def test_word_values_show_on_hover_and_by_keyboard(tab: Any, posters: Path) -> None:
    settle(tab, posters / "items" / f"{item_id(0)}.html")
    word = tab.locator(".w", has_text="neon").first
    shown = "e => getComputedStyle(e, '::after').content"
    assert word.evaluate(shown) == "none"
    word.hover()
    assert word.evaluate(shown) == f'"{word.get_attribute("data-v")}"'
    tab.mouse.move(0, 0)
    word.focus()
    assert word.evaluate(shown) == f'"{word.get_attribute("data-v")}"'
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className").startswith("w ")


def test_arabic_runs_from_the_right_and_japanese_has_its_language(tab: Any, build: Build) -> None:
    folder = build(text_lang="ja")
    settle(tab, folder / "items" / f"{item_id(5)}.html")
    assert tab.eval_on_selector(".caption-text", "e => getComputedStyle(e).direction") == "rtl"
    settle(tab, folder / "items" / f"{item_id(4)}.html")
    assert tab.eval_on_selector(".caption-text", "e => [getComputedStyle(e).direction, e.lang].join()") == "ltr,ja"
    assert tab.eval_on_selector("html", "e => e.lang") == "en"


def test_the_plot_of_one_text_runs_nothing_from_outside(tab: Any, tmp_path: Path) -> None:
    tokenizer = wordpiece()
    predict = text_predict(reader(tokenizer, outputs=2), tokenizer, softmax=True)
    text = "dark <script>alert(4)</script> <img src=x onerror=alert(5)>"
    explained = owen_values([text], predict=predict, tokenizer=tokenizer, max_evals=40)
    path = tmp_path / "plot.html"
    path.write_text(plot_page(explained, output_names=["<img src=x onerror=alert(3)>", "drama"], title="one"), "utf-8")
    tab.goto(path.as_uri())
    assert "<img src=x onerror=alert(3)>" in tab.evaluate("document.body.innerText")
    assert tab.evaluate("document.images.length") == 0
