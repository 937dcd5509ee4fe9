"""The probe's table where it stands alone, and as a section of the text path."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.report import About, Extent, ProbeResults, build_report
from seewhy.report.words import choose, columns
from tests.report.page import Element, read_page
from tests.report.photo_sample import DISTRICTS, Photos, about, class_rows, examples, number_rows, photo_results, scores
from tests.report.sample import CLASSES, item_id, report_of, sample
from tests.report.test_build import check_links


def poster_probe(given: dict[str, Any], **changed: Any) -> ProbeResults:
    """The words of the posters' captions, counted by class."""
    texts = given["texts"].to_pylist()
    truth = {r["id"]: int(r["target"]) for r in given["predictions"].to_pylist()}
    targets = [truth[t["id"]] for t in texts]
    held: dict[str, set[int]] = {}
    for i, text in enumerate(texts):
        for word in set(re.findall(r"[a-z]+", text["text"].lower())):
            held.setdefault(word, set()).add(i)
    held = {word: found for word, found in held.items() if len(found) >= 4}
    rows = class_rows(held, targets, CLASSES)

    def fits(row: Any, i: int) -> bool:
        return CLASSES[targets[i]] == row["output"]

    fields: dict[str, Any] = {
        "table": pa.Table.from_pylist(rows, schema.PROBE),
        "scores": scores([("words", "accuracy", 0.6, 0.5, 0.7), ("majority", "accuracy", 0.4, 0.3, 0.45)], 60),
        "counted": len(texts),
        "texts": given["texts"],
        "examples": examples(rows, held, fits, name=item_id),
        "text_lang": "en",
    }
    return ProbeResults(**{**fields, **changed})


def words_of(column: Element) -> list[tuple[str, str]]:
    return [(li.one("span", "word").text, li.one("span", "hits").text) for li in column.all("li")]


def test_the_text_path_has_the_table_as_a_section(tmp_path: Path) -> None:
    given = sample(task="classification")
    probe = poster_probe(given)
    folder = report_of(tmp_path / "report", given, probe=probe)
    page = read_page(folder / "index.html")
    table = probe.table.to_pylist()
    shown = page.one("section", id="counted").all("div", "word-column")
    for column, name in zip(shown, CLASSES, strict=True):
        mine = sorted((r for r in table if r["output"] == name and r["weight"] > 0), key=lambda r: r["rank"])[:10]
        assert words_of(column) == [(r["word"], f"{r['hits']}/{r['total']}") for r in mine]
    assert page.one("section", id="counted").one("h2").text == "Words that predict genre, counted"
    card = page.one("section", id="scores").all("table")[0]
    rows = {r.one("th").text: r.one("td", "num").text for r in card.one("tbody").all("tr")}
    assert rows["Words alone"] == "0.60 0.50 to 0.70"
    details = page.one("section", id="words-0").all("details", "of-word")[0]
    figure = details.all("figure")[0]
    shown_id = figure.one("a").attributes["href"].removeprefix("items/").removesuffix(".html")
    assert figure.one("img").attributes["src"] == f"examples/{shown_id}.jpg"
    word = details.all("summary")[0].one("span", "name").text
    assert figure.one("mark").text.lower() == word
    truth = {r["id"]: CLASSES[int(r["target"])] for r in given["predictions"].to_pylist()}
    assert figure.one("span", "facts-line").all("bdi")[0].text == truth[shown_id] == "drama"
    assert not figure.all("span", "noheat")
    assert "heat" not in page.one("main").text
    check_links(folder)


def test_words_that_do_not_predict_are_no_findings_on_the_text_path_either(tmp_path: Path) -> None:
    given = sample(task="classification", images=False)
    weak = scores([("words", "accuracy", 0.42, 0.35, 0.5), ("majority", "accuracy", 0.4, 0.3, 0.45)], 60)
    page = read_page(report_of(tmp_path / "report", given, probe=poster_probe(given, scores=weak)) / "index.html")
    assert page.one("section", id="counted").one("h2").text == "Words of the texts, counted (not findings)"
    assert not page.one("section", id="words-0").all("img")
    assert page.one("section", id="words-0").all("q")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            "beside",
            "The same captions once more, and with each the answers of a model that was asked the same questions",
        ),
        ("instead", "What a model answered when it was asked the same questions about every image, each answer a word"),
    ],
)
def test_words_that_are_answers_are_told_from_words_of_captions(tmp_path: Path, answers: str, said: str) -> None:
    given = sample(task="classification")
    page = read_page(report_of(tmp_path / "r", given, probe=poster_probe(given, answers=answers)) / "index.html")
    intro = page.one("section", id="counted")
    assert intro.one("p", "explain").text.startswith(said)
    assert intro.one("p", "explain").text.endswith(
        "which words, counted, go with each class."
        if answers == "beside"
        else "which of them, counted, go with each class."
    )
    assert "images whose text holds the word" in page.one("section", id="words-0").text
    assert "caption" not in page.one("section", id="words-0").text


def test_a_page_of_answers_alone_speaks_of_answers(drawn: Photos, tmp_path: Path) -> None:
    for answers, noun in (("beside", "captions and answers"), ("instead", "answers")):
        probe = dataclasses.replace(
            drawn.probe("map"), read_images=lambda ids: {i: drawn.images[i] for i in ids}, answers=answers
        )
        page = read_page(Path(build_report(str(tmp_path / answers), about=about(), probe=probe)))
        assert page.one("div", id="verdict").all("p")[0].text == f"The words of the {noun} help to predict district."
        read = page.one("section", id="reading").text
        assert ("An image’s text is its caption, and below it these answers." in read) is (answers == "beside")
        assert ("An image’s text is the list of these answers." in read) is (answers == "instead")
        assert ("are cut into words" in read) is (answers == "beside")


@pytest.fixture(scope="module")
def drawn() -> Photos:
    return Photos()


def test_a_probe_alone_is_the_whole_report(drawn: Photos, tmp_path: Path) -> None:
    targets = drawn.predictions("classification").select(["id", "target"])
    rows = [("Rows in the manifest", 125, ""), ("no text", -5, ""), ("Texts", 120, "")]
    probe = dataclasses.replace(drawn.probe("none"), described=False, targets=targets, losses=rows, notes=["One note."])
    one = dataclasses.replace(probe, examples=drawn.probe("map").examples)
    asked = about(question="Which words?", configs={})
    out = Path(build_report(str(tmp_path / "report"), about=asked, probe=one))
    page = read_page(out)
    assert page.one("div", id="verdict").all("p")[0].text == "The words of the texts help to predict district."
    assert "108 of 120 right (90%; 95% interval 84% to 96%), from the words alone." in page.text
    assert not page.all("img")
    said = page.one("main").text
    assert not re.search(r"\b(photo|image|caption|description|heat)", said)
    table = class_rows(drawn.held("none"), drawn.district, DISTRICTS)
    for column, name in zip(page.all("div", "word-column"), DISTRICTS, strict=True):
        mine = [r for r in table if r["output"] == name and r["weight"] > 0][:10]
        assert words_of(column) == [(r["word"], f"{r['hits']}/{r['total']}") for r in mine]
    figure = page.one("section", id="words-0").all("figure")[0]
    assert figure.one("span", "facts-line").text == "actual 浜風区"
    assert "One note." in page.one("section", id="rows").text
    assert sorted(p.name for p in out.parent.iterdir()) == ["assets", "index.html", "seewhy-report.json"]
    check_links(out.parent)


def test_captions_alone_have_their_pictures(drawn: Photos, tmp_path: Path) -> None:
    probe = dataclasses.replace(drawn.probe("map"), read_images=lambda ids: {i: drawn.images[i] for i in ids})
    page = read_page(Path(build_report(str(tmp_path / "report"), about=about(), probe=probe)))
    assert "The words of the captions help to predict district." in page.text
    assert page.all("img")
    assert "actual" not in page.one("section", id="words-0").text  # no targets were given


def test_a_class_without_words_and_a_number_without_intervals(tmp_path: Path) -> None:
    drawn = Photos(40)
    rows = [r for r in class_rows(drawn.held("map"), drawn.district, DISTRICTS) if r["output"] != DISTRICTS[1]]
    bare = [
        {**r, "lift_low": None, "lift_high": None, "selection": None, "held_out_hits": 0, "held_out_total": 0}
        for r in rows
    ]
    probe = dataclasses.replace(drawn.probe("map"), table=pa.Table.from_pylist(bare, schema.PROBE))
    page = read_page(Path(build_report(str(tmp_path / "report"), about=about(), probe=probe)))
    empty = page.all("div", "word-column")[1]
    assert [li.text for li in empty.all("li")] == ["none"]
    assert not empty.all("small")  # nothing says how many texts the class has
    assert "The word model puts no word forward here." in page.one("section", id="words-1").text
    first = page.one("section", id="words-0").one("tbody").all("tr")[0]
    assert first.attributes["class"] == "unsure"
    assert [td.text for td in first.all("td", "extra")][1:] == ["–", "–"]
    assert not page.one("section", id="words-0").all("line", "whisker")


def test_words_that_are_seldom_found_again_are_counted_not_shown(tmp_path: Path) -> None:
    drawn = Photos(40)
    rows = class_rows(drawn.held("map"), drawn.district, DISTRICTS)
    ends = {"浜風区": 2, "市場通": 0}  # words that keep their rank
    kept = [{**r, "rank": r.get("rank") if r.get("rank", 99) <= ends.get(r["output"], 99) else None} for r in rows]
    probe = dataclasses.replace(drawn.probe("map"), table=pa.Table.from_pylist(kept, schema.PROBE))
    page = read_page(Path(build_report(str(tmp_path / "r"), about=about(), probe=probe, extent=Extent(probe_words=1))))
    of = {name: len([r for r in rows if r["output"] == name and r["weight"] > 0]) for name in DISTRICTS}
    assert [len(c.all("li", "sure") + c.all("li", "unsure")) for c in page.all("div", "word-column")] == [1, 0, 1, 1]
    first, second, third = (page.one("section", id=f"words-{k}").text for k in range(3))
    left = f"Left out as seldom found again: {of['浜風区'] - 2}."
    assert f"Shown: 1 of 2 words that the word model puts forward. {left}" in first
    assert f"puts no word forward here. Left out as seldom found again: {of['市場通']}." in second
    assert f"Shown: 1 of {of['丘の手']} words" in third
    assert "Left out" not in third


def test_words_that_lower_a_number_stand_strongest_first() -> None:
    found = number_rows({"up": {0, 1}, "down": {2, 3}, "deep": {4}}, [9.0, 8.0, 3.0, 2.0, 0.0, 6.0], "rent")
    probe = dataclasses.replace(Photos(8).probe("map", "regression"), table=pa.Table.from_pylist(found, schema.PROBE))
    given = About("t", "q", "rent", "regression")
    higher, lower = columns(choose(probe, given, 10), probe, given)
    assert [line.word for line in higher.lines] == ["up"]
    assert [line.word for line in lower.lines] == ["deep", "down"]
    assert [line.figure for line in lower.lines] == ["−5.60", "−3.25"]  # 0 - 28/5, 2.5 - 23/4
    assert lower.lines[0].beside == "0.00 with, 5.60 without"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"probe": None}, "nothing to report"),
        ({"extent": Extent(probe_words=0)}, "probe_words is 0"),
        ({"about": About("t", "q", "x", "ranking")}, "'ranking' is not one of"),
    ],
)
def test_wrong_arguments_are_named(drawn: Photos, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_report(str(tmp_path / "report"), **{"about": about(), "probe": drawn.probe("map"), **changed})
    assert not list(tmp_path.iterdir())


def test_a_photo_path_needs_its_own_map_and_known_controls(drawn: Photos, tmp_path: Path) -> None:
    given = photo_results(drawn)
    for probes, message in (
        ({"none": drawn.probe("none")}, "photos.probes has no 'map'"),
        ({"map": drawn.probe("map"), "blind": drawn.probe("none")}, "allowed are map, random, none"),
    ):
        with pytest.raises(ValueError, match=message):
            build_report(str(tmp_path / "r"), about=about(), photos=dataclasses.replace(given, probes=probes))
