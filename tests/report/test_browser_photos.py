"""The image path's page in a real browser: hostile input, layout, contrast, keyboard, Japanese letters."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.report import About, PhotoResults, Verdict, build_report
from tests.report.browsing import CONTRAST, HOSTILE, SCHEMES, SIZES, settle, too_wide
from tests.report.photo_sample import DISTRICTS, Photos, about, photo_results

pytestmark = pytest.mark.browser
LONG = "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 3


@pytest.fixture(scope="module")
def drawn() -> Photos:
    return Photos()


@pytest.fixture(scope="module")
def streets(drawn: Photos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("streets") / "report"
    return Path(build_report(str(out), about=about(), photos=photo_results(drawn)))


@pytest.fixture(scope="module")
def rents(drawn: Photos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rents") / "report"
    return Path(build_report(str(out), about=about("regression"), photos=photo_results(drawn, task="regression")))


def renamed(table: pa.Table, names: dict[str, dict[str, str]]) -> pa.Table:
    """Values of string columns replaced, by column."""
    rows = [
        {k: names.get(k, {}).get(v, v) if isinstance(v, str) else v for k, v in r.items()} for r in table.to_pylist()
    ]
    return pa.Table.from_pylist(rows, table.schema)


def hostile(drawn: Photos, task: str, *, text: str = HOSTILE) -> tuple[About, PhotoResults]:
    """The sample with `text` in each field that comes from outside."""
    given = photo_results(drawn, task=task)
    classes = {name: f"{text}{k}" for k, name in enumerate(DISTRICTS)} if task == "classification" else {}
    outputs = classes or {"rent": f"{text} rent"}
    ids = {i: f"../{text}{k}" for k, i in enumerate(drawn.ids)}
    back = {new: old for old, new in ids.items()}
    names = {"output": outputs, "word": {"橋": text, "船": text + "2"}, "id": ids, "model": {"mobilenet_v2": text}}

    def probe(control: str) -> Any:
        one = given.probes[control]
        said = [f"{text} {t.replace('橋', text)}" for t in one.texts["text"].to_pylist()]
        examples = {
            (outputs[o], names["word"].get(w, w)): tuple([ids[i] for i in end] for end in ends)
            for (o, w), ends in one.examples.items()
        }
        texts = pa.table({"id": [ids[i] for i in one.texts["id"].to_pylist()], "text": said})
        table = renamed(one.table, names)
        return dataclasses.replace(one, table=table, texts=texts, examples=examples, text_lang="")

    confusion = None
    if given.confusion is not None:
        confusion = renamed(given.confusion, {"truth": classes, "predicted": classes})
    verdict = Verdict(True, text, 0.1, 0.05, 0.2, text, text)
    photos = dataclasses.replace(
        given,
        losses=[(text, 20, text), (text, -8, text), (text, 12, text)],
        scores=renamed(given.scores, {"model": names["model"], "metric": {"macro_f1": text}}),
        verdict=verdict,
        predictions=renamed(given.predictions, {"id": ids}),
        probes={control: probe(control) for control in given.probes},
        read_images=lambda asked: {ids[k]: v for k, v in given.read_images([back[i] for i in asked]).items()},
        read_maps=lambda asked: renamed(given.read_maps([back[i] for i in asked]), {"id": ids}),
        confusion=confusion,
        notes=[text],
    )
    asked = About(
        text, text, outputs.get("rent", text), task, list(classes.values()), {text: {text: text}, "lone": text}
    )
    return asked, photos


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_nothing_from_outside_runs_or_leaves_the_page(tab: Any, drawn: Photos, tmp_path: Path, task: str) -> None:
    asked, photos = hostile(drawn, task)
    page = Path(build_report(str(tmp_path / "report"), about=asked, photos=photos))
    assert sorted(tmp_path.iterdir()) == [page.parent]
    settle(tab, page)
    tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = tab.evaluate(
        """() => ({
            ran: window.ran,
            scripts: document.scripts.length,
            odd: document.querySelectorAll("iframe, base, style, object, embed, form, textarea, input").length,
            handlers: [...document.querySelectorAll("*")].flatMap(e => e.getAttributeNames())
                .filter(n => n.startsWith("on")).length,
            links: [...document.links].map(a => a.protocol),
            images: [...document.images].map(i => i.naturalWidth),
            styles: [...document.querySelectorAll("[style]")].map(e => e.getAttribute("style")),
            text: document.body.innerText,
        })"""
    )
    assert (found.get("ran"), found["scripts"], found["odd"], found["handlers"]) == (None, 0, 0, 0)
    assert set(found["links"]) == {"file:"}
    assert len(found["images"]) > 40
    assert all(width > 0 for width in found["images"])
    assert not [s for s in found["styles"] if "script" in s or "url" in s]
    assert "<script>window.ran=1</script>" in found["text"]
    assert "[U+202E]gpj.exe[U+200B]" in found["text"]
    assert not set("\u202e\u200b\u2028\x07") & set(found["text"])
    assert "49" not in found["text"].split("7*7")[1][:10]
    assert tab.locator("mark").count() > 3


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["streets", "rents"])
def test_the_page_fits_its_width_and_can_be_read(
    tab: Any, request: pytest.FixtureRequest, kind: str, width: int, scheme: str
) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)
    settle(tab, request.getfixturevalue(kind))
    tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert too_wide(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    if kind == "streets":  # four classes need no scrolling
        assert tab.eval_on_selector(".scroll-x", "e => e.scrollWidth - e.clientWidth") <= 1
    poor = tab.evaluate(CONTRAST)
    assert poor["seen"] > 300
    assert poor["worst"] == []
    assert clipped(tab) == []


def clipped(tab: Any) -> list[str]:
    """Elements whose own text is wider or higher than their box, and cannot be scrolled to."""
    found: list[str] = tab.evaluate(
        """() => [...document.querySelectorAll("main :is(td, th, li, h3, dd, summary, q, p)")]
            .filter(e => e.checkVisibility() && !e.closest(".hidden, .axis, .scatter"))
            .filter(e => e.scrollWidth > e.clientWidth + 2 && !e.querySelector(".axis, .strip"))
            .map(e => e.outerHTML.slice(0, 160))"""
    )
    return found


@pytest.mark.parametrize("width", SIZES)
def test_words_and_classes_of_any_length_stay_inside(tab: Any, drawn: Photos, tmp_path: Path, width: int) -> None:
    asked, photos = hostile(drawn, "classification", text=LONG)
    page = Path(build_report(str(tmp_path / "report"), about=asked, photos=photos))
    tab.set_viewport_size({"width": width, "height": 900})
    settle(tab, page)
    tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert too_wide(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_words_descriptions_and_the_matrix(tab: Any, streets: Path) -> None:
    settle(tab, streets)
    closed = tab.query_selector("details.of-word:not([open]) > summary")
    closed.focus()
    tab.keyboard.press("Enter")
    assert closed.evaluate("e => e.parentElement.open")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "whole description"
    tab.keyboard.press("Space")
    assert tab.evaluate("document.activeElement.parentElement.open")
    tab.locator(".scroll-x").focus()
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')") == "Confusion matrix"
    tab.locator(".word-column h3 a").nth(2).focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("location.hash") == "#words-2"


def test_pictures_wait_until_they_are_seen_and_keep_their_place(tab: Any, streets: Path) -> None:
    tab.goto(streets.as_uri())
    images = tab.evaluate(
        "[...document.images].map(i => [i.loading, i.complete && i.naturalWidth > 0, i.alt.length > 0])"
    )
    assert all(loading == "lazy" and alt for loading, _, alt in images)
    assert sum(loaded for _, loaded, _ in images) < len(images) / 2
    before = tab.evaluate("document.documentElement.scrollHeight")
    settle(tab, streets)
    assert tab.evaluate("document.documentElement.scrollHeight") == before


def test_japanese_is_set_in_japanese_letters(tab: Any, streets: Path) -> None:
    """Not in the Chinese forms of the same characters, and not in boxes."""
    settle(tab, streets)
    session = tab.context.new_cdp_session(tab)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    for selector in ("h1", ".word-column .word", ".word-column h3", "q", ".matrix th[scope=row]", ".facts-line bdi"):
        node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
        fonts = [f["familyName"] for f in session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]]
        if not any("CJK" in font for font in fonts):
            pytest.skip(f"no font of Debian's fonts-noto-cjk is installed: {fonts}")
        assert any(font.endswith("CJK JP") for font in fonts), (selector, fonts)
        lang = tab.eval_on_selector(selector, "e => (e.querySelector('[lang]') || e.closest('[lang]')).lang")
        assert lang == "ja", selector


def test_a_matrix_of_many_classes_scrolls_by_itself(tab: Any, tmp_path: Path, drawn: Photos) -> None:
    names = [f"quarter number {k}" for k in range(20)]
    rows = [{"truth": a, "predicted": b, "count": 100 + k} for a in names for k, b in enumerate(names)]
    predictions = [{"row": 0, "id": drawn.ids[0], "fold": 0, "target": 1.0, "outputs": [0.05] * 20}]
    photos = dataclasses.replace(
        photo_results(drawn),
        confusion=pa.Table.from_pylist(rows),
        predictions=pa.Table.from_pylist(predictions, schema.PREDICTIONS),
    )
    page = Path(build_report(str(tmp_path / "report"), about=about(classes=names), photos=photos))
    tab.set_viewport_size({"width": 390, "height": 900})
    settle(tab, page)
    assert too_wide(tab) == []
    assert tab.eval_on_selector(".scroll-x", "e => e.scrollWidth > e.clientWidth + 100")
    tab.locator(".scroll-x").focus()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(500)
    assert tab.eval_on_selector(".scroll-x", "e => e.scrollLeft") > 0
