"""Image scores on the probe's page: figures of their own, never a count of texts, and words apart from them."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.report import ProbeResults, build_report
from tests.report.browsing import CONTRAST, HOSTILE, SCHEMES, SIZES, settle, too_wide
from tests.report.page import Element, read_page
from tests.report.photo_sample import DISTRICTS, Photos, about, scores
from tests.report.sample import report_of, sample


def concept(text: str, output: str, weight: float, rank: int | None, **evidence: float) -> dict[str, Any]:
    row = {"feature": "score", "word": text, "output": output, "weight": weight, "rank": rank, "selection": 0.98}
    return {**row, **evidence}


def gap(within: float, without: float, half: float) -> dict[str, float]:
    value = within - without
    return {
        "score_in": within,
        "score_out": without,
        "score_gap": value,
        "score_gap_low": value - half,
        "score_gap_high": value + half,
    }


def correlation(value: float, half: float) -> dict[str, float]:
    return {"correlation": value, "correlation_low": value - half, "correlation_high": value + half}


BY_CLASS = [
    concept("橋の写真", DISTRICTS[0], 0.9, 1, **gap(-8.0, -12.5, 1.0)),
    concept("a boat", DISTRICTS[0], 0.2, 2, **gap(-10.0, -10.5, 1.0)),
    concept("seldom", DISTRICTS[0], 0.1, None, **gap(-10.0, -10.5, 1.0)),
    concept("against", DISTRICTS[0], -0.7, 3, **gap(-12.0, -10.5, 0.5)),
]
BY_NUMBER = [
    concept("a dog", "rent", 0.4, 1, **correlation(0.55, 0.1)),
    concept("a wall", "rent", 0.1, 2, **correlation(-0.05, 0.1)),
    concept("a ruin", "rent", -0.3, 3, **correlation(-0.41, 0.1)),
]


def results(task: str, rows: list[dict[str, Any]], model: str) -> ProbeResults:
    probe = Photos(40).probe("map", task)
    lines = scores([(model, "accuracy" if task == "classification" else "r2", 0.6, 0.5, 0.7)], 40)
    table = probe.table if model == "words and scores" else probe.table.slice(0, 0)
    return dataclasses.replace(
        probe,
        table=table,
        concepts=pa.Table.from_pylist(rows, schema.PROBE),
        model=model,
        scores=lines,
        subsamples=50,
        verdict=None,
        examples=probe.examples if model == "words and scores" else {},
        text_lang="ja",
    )


def page_of(folder: Path, task: str, rows: list[dict[str, Any]], model: str) -> Element:
    return read_page(Path(build_report(str(folder), about=about(task), probe=results(task, rows, model))))


def lines_of(section: Element) -> list[list[str]]:
    return [[row.one("th").text, row.one("td", "num").text] for part in section.all("tbody") for row in part.all("tr")]


def test_classes_show_gaps_of_logits(tmp_path: Path) -> None:
    page = page_of(tmp_path / "report", "classification", BY_CLASS, "words and scores")
    section = page.one("section", id="concepts")
    assert lines_of(section) == [
        ["橋の写真 49 of 50", "+4.50 +3.50 to +5.50 −8.00 against −12.50"],
        ["a boat 49 of 50", "+0.50 −0.50 to +1.50 −10.00 against −10.50"],
    ]
    assert [bool(row.all("circle", "unsure")) for row in section.all("tbody")[0].all("tr")] == [False, True]
    assert [row.attributes.get("class") for row in section.all("tbody")[0].all("tr")] == [None, "unsure"]
    assert "Left out as seldom found again: 1." in section.text
    assert section.all("span", lang="ja")[0].text == "橋の写真"
    words = page.one("section", id="words")
    assert not {"橋の写真", "a boat"} & {one.text for one in words.all("span", "word")}
    assert not re.search(r"in \d+ of \d+ (texts|descriptions|captions)", section.text)
    claims = page.one("dl", "claims")
    assert claims.one("dt").text == "Words and scores"
    assert "from how well texts of the study fit the images, and from words" in claims.text


def test_numbers_show_rank_correlations_and_no_words_where_there_are_none(tmp_path: Path) -> None:
    page = page_of(tmp_path / "report", "regression", BY_NUMBER, "scores")
    section = page.one("section", id="concepts")
    assert [h.text for h in section.all("h3")] == ["Higher rent", "Lower rent"]
    assert lines_of(section) == [
        ["a dog 49 of 50", "+0.55 +0.45 to +0.65"],
        ["a wall 49 of 50", "−0.05 −0.15 to +0.05"],
        ["a ruin 49 of 50", "−0.41 −0.51 to −0.31"],
    ]
    unsure = [row.one("th").text for row in section.all("tr", "unsure")]
    assert unsure == ["a wall 49 of 50"]  # its interval lies on the other side of its weight
    assert not page.all("section", id="words")
    assert "Whether the scores of the images predict rent was not measured." in page.text
    assert page.one("dl", "claims").one("dt").text == "Scores alone"
    assert "The scores below say what the word model uses." in page.one("div", id="verdict").text


def test_the_text_path_has_them_too(tmp_path: Path) -> None:
    given = sample(items=20)
    output = given["target_name"]
    rows = [{**row, "output": output} for row in BY_NUMBER]
    probe = dataclasses.replace(results("regression", rows, "scores"), read_images=None)
    page = read_page(report_of(tmp_path / "report", given, probe=probe) / "index.html")
    assert lines_of(page.one("section", id="concepts"))[0][0] == "a dog 49 of 50"
    assert not page.all("section", id="counted")


@pytest.mark.browser
@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_section_fits_and_can_be_read(tab: Any, tmp_path: Path, width: int, scheme: str) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)
    rows = [*BY_CLASS, concept(HOSTILE, DISTRICTS[1], 0.5, 1, **gap(-8.0, -12.5, 1.0))]
    page_of(tmp_path / "report", "classification", rows, "scores")
    settle(tab, tmp_path / "report/index.html")
    assert tab.evaluate("window.ran") is None
    assert too_wide(tab) == []
    spilt = "() => [...document.querySelectorAll('.concepts td')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert tab.evaluate(spilt) == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    poor = tab.evaluate(CONTRAST)
    assert poor["seen"] > 40
    assert poor["worst"] == []
