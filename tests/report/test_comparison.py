"""The page and the lines of two studies held against each other: every figure in its place, and what is made of it."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from seewhy.compare import Alone, Estimate
from seewhy.comparison import Comparison, Example, Said, Setting
from seewhy.report.comparison import first_lines, verdict_of, write_comparison
from seewhy.report.comparison_lines import comparison_lines
from tests.report.browsing import CONTRAST, HOSTILE, SCHEMES, SIZES, settle, too_wide
from tests.report.comparison_sample import (
    CLASSES,
    answers,
    class_example,
    comparison,
    example,
    text_model,
    word,
    words,
)
from tests.report.page import Element, read_page


def page_of(folder: Path, given: Comparison, **more: Any) -> Element:
    write_comparison(str(folder), given, **more)
    return read_page(folder / "index.html")


def cells(table: Element) -> list[list[str]]:
    return [[cell.text for cell in row.all("th") + row.all("td")] for row in table.all("tr")]


def test_every_figure_is_in_its_place(tmp_path: Path) -> None:
    page = page_of(tmp_path / "page", comparison(), configs={"A: caption": {"model": "tiny"}})
    assert page.one("p", "headline").text == "B predicts rent better than A."
    claims = dict(
        zip((d.text for d in page.one("dl", "claims").all("dt")), page.one("dl", "claims").all("dd"), strict=True)
    )
    assert claims["Text model"].text == (
        "R² 0.612 for A, 0.655 for B on the same 590 rows. B is better by 0.043 (95% interval 0.021 to 0.066)."
    )
    assert claims["Words of the captions, counted"].text == (
        "2 by both, 1 by both with opposite signs, 2 by A alone, 1 by B alone."
    )
    assert claims["Captions"].text == "590 of 598 (99%) by A; 585 of 598 (98%) by B for 0.255 USD."
    r2, rmse = page.one("section", id="scores").all("table", "gains")
    assert cells(r2)[1:3] == [["A", "", "0.612 0.550 to 0.670"], ["B", "", "0.655 0.600 to 0.710"]]
    assert cells(r2)[-1] == ["Gain of B", "", "+0.043 +0.021 to +0.066"]
    assert cells(rmse)[-1] == ["Gain of B", "", "+0.008 −0.020 to +0.035"]
    assert [bool(table.all("circle", "unsure")) for table in (r2, rmse)] == [False, True]
    notes = [note.text for note in page.one("section", id="scores").all("p", "note")]
    assert notes[0].startswith("466 of 590 (79%) rows are in another fold in B than in A")
    assert notes[1].startswith("Not scored: 10 rows only in A, 4 only in B.")
    assert cells(page.one("table", "settings"))[1] == ["caption.prompt", "default", "何が目立ちますか"]
    shown = cells(page.one("table", "shared-words"))
    assert shown == [
        ["Word", "A", "B"],
        ["Both find 2 words"],
        ["橋 +", "no. 1 120 of 590", "no. 2 60 of 590"],
        ["rain −", "no. 1 120 of 590", "no. 1 120 of 590"],
        ["Both find, with opposite signs 1 word"],
        ["neon", "+ no. 3 40 of 590", "− no. 2 60 of 590"],
        ["Only A finds 2 words"],
        ["灯り +", "no. 2 60 of 590", "not put forward in no text"],
        ["tower +", "no. 4 30 of 590", "not put forward 31 of 585"],
        ["Only B finds 1 word"],
        ["bridge +", "not put forward in few texts, or none", "no. 1 120 of 590"],
    ]
    told = {row[0]: row[1:] for row in cells(page.one("table", "answers"))}
    assert told["With a text"] == ["590 of 598 (99%)", "585 of 598 (98%)"]
    assert told["Refused"] == ["4 of 598 (under 1%)", "13 of 598 (2%)"]
    assert told["rejected/prompt_blocked_safety"] == ["0", "13"]
    assert told["Tokens read"] == ["171,936 (288 an answer)", "600,000 (1,003 an answer)"]
    assert told["Cost"] == ["not known", "0.255 USD"]
    assert "Not compared: image model: B has none" in page.one("ul", "gaps").text
    assert page.one("section", id="provenance").one("table", "pairs").text == "model tiny"


def test_words_stand_by_class_and_in_their_language(tmp_path: Path) -> None:
    page = page_of(tmp_path / "page", comparison(CLASSES), language="ja")
    section = page.one("section", id="words")
    assert [one.text for one in section.all("h3")] == [f"Words of the captions, counted: {name}" for name in CLASSES]
    tagged = {one.text: one.attributes.get("lang") for one in section.all("span")}
    assert (tagged["橋"], tagged["灯り"], tagged["rain"]) == ("ja", "ja", None)
    assert (tagged["浅草"], tagged["Kōtō"]) == ("ja", None)
    assert page.one("h1").attributes["lang"] == "ja"


def test_a_long_list_is_counted(tmp_path: Path) -> None:
    many = [Alone(word(f"word{number}", rank=number), 0, 590) for number in range(1, 101)]
    page = page_of(tmp_path / "page", comparison(words=[words(only_first=many)]))
    rows = cells(page.one("table", "shared-words"))
    assert ["Only A finds 100 words"] in rows
    assert ["and 60 more: they are in comparison.json"] in rows
    assert len(rows) == 1 + 3 + 2 + 1 + 40 + 1 + 2
    line = next(one for one in comparison_lines(comparison(words=[words(only_first=many)])) if "only A:" in one)
    assert line.endswith(" and 88 more")


@pytest.mark.parametrize(
    ("changed", "headline", "good"),
    [
        ({}, "B predicts rent better than A.", True),
        ({"gain": (-0.1, -0.15, -0.05)}, "A predicts rent better than B.", True),
        ({"gain": (0.1, -0.01, 0.2)}, "Neither predicts rent clearly better than the other.", False),
        ({"gain": (0.1, None, None)}, "Neither predicts rent clearly better than the other.", False),
        ({"first_beats": False, "second_beats": False}, "Neither predicts rent better than its best baseline.", False),
        ({"first_beats": False}, "B predicts rent better than A.", True),
    ],
)
def test_the_headline_says_no_more_than_the_interval(changed: dict[str, Any], headline: str, good: bool) -> None:
    lines = first_lines(comparison(models=[text_model(**changed)]))
    assert (lines.headline, lines.good) == (headline, good)
    if changed.keys() == {"first_beats"}:
        assert lines.claims[0].text.endswith("A is no better than its best baseline.")


def jpeg(size: tuple[int, int] = (80, 120)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "teal").save(out, "JPEG")
    return out.getvalue()


def test_rows_where_the_two_differ_stand_with_picture_and_both_texts(tmp_path: Path) -> None:
    near, far = example("aa"), example("bb", -0.5, target=5.5)
    pair = text_model(first_closer=[far], second_closer=[near])
    asked: list[list[str]] = []

    def read(ids: list[str]) -> dict[str, bytes]:
        asked.append(ids)
        return {"aa": jpeg(), "bb": b"no image"}

    page = page_of(tmp_path / "page", comparison(models=[pair]), read_images=read)
    assert asked == [["bb", "aa"]]
    apart = page.one("details", "apart")
    assert [one.text for one in apart.all("h4")] == ["A comes closer", "B comes closer"]
    first, second = apart.all("li")
    assert first.one("p", "actual").text == "rent 5.5 row 1,205"
    assert second.one("p", "actual").text == "rent 6.0 row 1,205"
    assert [one.text for one in second.all("dt")] == ["A", "B"]
    assert [one.text for one in second.all("span", "predicted")] == ["predicted 4.25", "predicted 5.50"]
    long, short = (one.text for one in second.all("q"))
    assert long.endswith("…")
    assert 380 < len(long) <= 400
    assert short == "橋の上の灯り"
    assert first.all("img") == []
    (image,) = second.all("img")
    assert image.attributes["src"] == "images/aa.jpg"
    assert Image.open(tmp_path / "page" / image.attributes["src"]).size == (80, 120)
    assert page_of(tmp_path / "none", comparison()).all("details", "apart") == []
    alike = text_model(second_closer=[example("aa", target=6.4), example("bb", target=6.4)])  # no spread to go by
    page = page_of(tmp_path / "alike", comparison(models=[alike]))
    assert page.one("details", "apart").all("p", "actual")[0].text == "rent 6.4 row 1,205"
    assert page.one("details", "apart").all("span", "predicted")[0].text == "predicted 4.25"


def test_rows_of_classes_say_what_each_took_them_for(tmp_path: Path) -> None:
    pair = text_model(second_closer=[class_example()])
    page = page_of(tmp_path / "page", comparison(CLASSES, models=[pair]), language="ja")
    (row,) = page.one("details", "apart").all("li")
    assert row.one("p", "actual").text == "district 浅草 row 1,205"
    assert [one.text for one in row.all("span", "predicted")] == [
        "took it for 上野; 0.12 for the true class",
        "took it for 浅草; 0.50 for the true class",
    ]
    assert [one.text for one in row.all("q")] == ["屋台が並ぶ"]  # of B nothing is known


def test_a_model_that_is_worth_nothing_does_not_lead() -> None:
    weak = text_model(first_beats=False, second_beats=False)
    probe = text_model((-0.6, -0.7, -0.5), name="probe of the captions", second_beats=False)
    lines = first_lines(comparison(models=[weak, probe]))
    assert lines.headline == "A predicts rent better than B."
    assert lines.stance.endswith("That is by the probe of the captions: the text model tells nothing.")
    assert lines.good


def test_a_gain_is_said_in_words() -> None:
    score = text_model().scores[0]
    worse = replace(score, gain=Estimate(-0.5, -0.6, -0.4))
    assert verdict_of(worse) == "A is better by 0.50 (95% interval 0.40 to 0.60)."
    unclear = replace(score, gain=Estimate(0.0, 0.0, 0.0))
    assert verdict_of(unclear) == "The gain of B, 0.00 (95% interval 0.00 to 0.00), is not clear of zero."


def test_the_terminal_says_what_the_page_says() -> None:
    told = comparison_lines(comparison())
    assert told[:2] == ["A  films.yaml", "B  films.yaml with caption.prompt=What stands out?"]
    assert "   caption.prompt: A default, B 何が目立ちますか" in told
    assert "  R²        A   0.612 [0.550 to 0.670]   B   0.655 [0.600 to 0.710]" in told
    assert "            B is better by 0.043 (95% interval 0.021 to 0.066)." in told
    assert "  both: +橋, −rain" in told
    assert "  only A: +灯り [the other: in no text], +tower [the other: 31 of 585]" in told
    assert "not compared: image model: B has none" in told
    assert "    600,000 tokens read, 30,000 written, 0.255 USD" in told
    hidden = comparison_lines(comparison(first="a\u202eb"))
    assert hidden[0] == "A  a[U+202E]b"


def _hostile_row() -> Example:
    said = Said(HOSTILE, HOSTILE, 0.1, HOSTILE)
    return example(target=HOSTILE, first=said, second=said)


def hostile() -> Comparison:
    """The sample with hostile text wherever text from outside comes."""
    given = comparison((HOSTILE, HOSTILE + "2"))
    bad = words(
        HOSTILE,
        both=[(word(HOSTILE, HOSTILE), word(HOSTILE, HOSTILE))],
        only_first=[Alone(word(HOSTILE + "3", HOSTILE), 1, 2)],
    )
    reasons = {f"rejected/{HOSTILE}": 4}
    spent = replace(answers().first_spent, about=HOSTILE)
    return replace(
        given,
        first=HOSTILE,
        second=HOSTILE,
        title=HOSTILE,
        target=HOSTILE,
        settings=[Setting("caption.prompt", HOSTILE, HOSTILE)],
        models=[text_model(first=HOSTILE, second=HOSTILE + "4", first_closer=[_hostile_row()])],
        words=[bad],
        answers=[answers(first=replace(answers().first, reasons=reasons), first_spent=spent)],
        left_out=[HOSTILE],
        notes=[HOSTILE],
    )


@pytest.mark.browser
def test_nothing_from_outside_runs(tab: Any, tmp_path: Path) -> None:
    page_of(tmp_path / "page", hostile(), configs={HOSTILE: {HOSTILE: HOSTILE}})
    settle(tab, tmp_path / "page/index.html")
    found = tab.evaluate(
        """() => ({
            ran: window.ran === undefined,
            scripts: document.scripts.length,
            odd: document.querySelectorAll("iframe, base, style, object, embed, form, textarea, img").length,
            handlers: [...document.querySelectorAll("*")].flatMap(e => e.getAttributeNames())
                .filter(n => n.startsWith("on")).length,
            links: [...document.links].map(a => a.protocol),
            text: document.body.innerText,
        })"""
    )
    assert (found["ran"], found["scripts"], found["odd"], found["handlers"]) == (True, 0, 0, 0)
    assert set(found["links"]) <= {"file:"}
    assert found["text"].count("<script>window.ran=1</script>") > 10
    assert not set("\u202e\u200b\u2028\x07") & set(found["text"])


@pytest.mark.browser
@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_fits_and_can_be_read(tab: Any, tmp_path: Path, width: int, scheme: str) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)
    model = text_model(first_closer=[class_example("a"), class_example("b")], second_closer=[class_example("c")])
    given = comparison(CLASSES, models=[model])
    read = {"a": jpeg(), "b": jpeg((300, 90)), "c": jpeg()}
    configs = {"A: caption": {"model": "tiny"}}
    page_of(tmp_path / "page", given, language="ja", configs=configs, read_images=lambda _: read)
    settle(tab, tmp_path / "page/index.html")
    tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert too_wide(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    poor = tab.evaluate(CONTRAST)
    assert poor["seen"] > 100
    assert poor["worst"] == []
