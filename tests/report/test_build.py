import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.report import Verdict
from tests.report.conftest import Build
from tests.report.page import Element, read_page
from tests.report.sample import CLASSES, explain, item_id, report_of, sample


def figure(text: str) -> float:
    """The first number in a text of the report."""
    found = re.search(r"[+−]?[\d,]+(\.\d+)?", text)
    assert found, text
    return float(found.group().replace(",", "").replace("−", "-"))


def index_of(folder: Path) -> dict[str, Any]:
    script = (folder / "assets" / "items-data.js").read_text(encoding="utf-8")
    read: dict[str, Any] = json.loads(script.removeprefix("window.SEEWHY=").removesuffix(";\n"))
    return read


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def word_rows(section: Element) -> dict[str, list[str]]:
    """Word to [support, effect with interval]."""
    rows = section.one("table", "word-chart").one("tbody").all("tr")
    return {r.one("a").text: [r.one("th").one("small").text, r.one("td", "num").text] for r in rows}


def check_links(folder: Path) -> int:
    """Every page reads well, and each link and picture that is not on the web is there; returns how many there are."""
    seen = 0
    for page in folder.rglob("*.html"):
        read = read_page(page)
        targets = [e.attributes["href"] for e in (*read.all("a"), *read.all("link"))]
        targets += [e.attributes["src"] for e in (*read.all("img"), *read.all("script"))]
        for target in targets:
            if target.startswith(("https://", "http://", "#", "data:,")):
                continue
            assert (page.parent / target.split("#")[0]).is_file(), f"{page.name} leads to {target}"
            seen += 1
    return seen


def test_every_link_leads_somewhere(posters: Path) -> None:
    assert check_links(posters) > 500


def test_the_words_carry_effect_interval_and_support(posters: Path) -> None:
    table = sample()["words"].to_pylist()
    shown = word_rows(read_page(posters / "index.html").one("section", id="output-0"))
    by_word = {r["word"]: r for r in table}
    assert [*shown][:: len(shown) - 1] == ["neon", "grey"]
    effects = [figure(effect) for _, effect in shown.values()]
    assert effects == sorted(effects, reverse=True)
    for word, (support, effect) in shown.items():
        row = by_word[word]
        assert support == f"{row['items']} of 60 captions"
        value, low, high = (float(x.replace("−", "-")) for x in re.findall(r"[+−]?\d+\.\d+", effect))
        assert [value, low, high] == [round(row[k], 2) + 0.0 for k in ("mean_value", "low", "high")]
        assert row["items"] >= 5


def test_the_takeaways_are_the_strongest_sure_words(posters: Path) -> None:
    tiles = read_page(posters / "index.html").all("div", "tile")
    assert [t.one("h3").text for t in tiles] == ["Raises the predicted rating", "Lowers the predicted rating"]
    assert [[li.one("span").text for li in t.all("li")] for t in tiles] == [
        ["neon", "couple", "golden"],
        ["grey", "crowd", "sword"],
    ]


def test_each_pictured_word_shows_the_items_at_both_ends(posters: Path) -> None:
    values: dict[str, float] = {}
    for row in sample()["explanations"].to_pylist():
        for word in row["words"]:
            if word["text"] == "neon":
                values[row["id"]] = values.get(row["id"], 0.0) + word["values"][0]
    best = sorted(values, key=lambda i: -values[i])
    side = read_page(posters / "index.html").one("section", id="output-0").all("div", "side")[0]
    neon = side.all("details")[0]
    assert neon.one("summary").text.startswith("neon +")
    figures = neon.all("figure")
    links = [f.one("a").attributes["href"] for f in figures]
    assert links == [f"items/{i}.html" for i in (*best[:3], *best[::-1][:3])]
    assert [figure(f.one("b").text) for f in figures] == [round(values[i], 2) for i in (*best[:3], *best[::-1][:3])]
    target = {r["id"]: r["target"] for r in sample()["predictions"].to_pylist()}
    assert [figure(f.all("span")[-2].text) for f in figures] == [target[i] for i in (*best[:3], *best[::-1][:3])]
    assert all("neon" in f.one("img").attributes["alt"] for f in figures)


def test_a_model_that_beats_no_baseline_says_so_first(build: Build) -> None:
    page = read_page(build(sample(beats=False)) / "index.html")
    main = page.one("main")
    verdict = main.one("div", id="verdict")
    said = main.text
    assert verdict.all("p")[0].text == "The model does not predict rating better than its best baseline."
    assert said.index("does not predict rating") < 200
    assert "“Word counts (ridge)”: −0.02 (95% interval −0.10 to +0.06)" in verdict.text
    assert "They are not findings about rating" in verdict.text
    assert not main.all("div", "tile")
    assert main.one("section", id="output-0").one("h2").text == "Words this model uses (not findings)"
    assert "words that move" not in said.lower()


def test_an_unmeasured_model_has_no_findings_either(build: Build) -> None:
    main = read_page(build(verdict=None) / "index.html").one("main")
    assert "was not measured" in main.one("div", id="verdict").text
    assert not main.all("div", "tile")


def test_scores_stand_beside_baselines_with_intervals(posters: Path) -> None:
    tables = read_page(posters / "index.html").one("section", id="scores").all("table")
    assert [t.one("caption").one("b").text for t in tables] == ["R²", "RMSE", "Spearman"]
    rows = {r.one("th").text: r.one("td", "num").text for r in tables[0].one("tbody").all("tr")}
    assert rows == {
        "Always the average": "−0.01 −0.04 to 0.00",
        "Word counts (ridge)": "0.31 0.19 to 0.41",
        "This model (bert)": "0.44 0.33 to 0.53",
    }
    assert "lower is better · 66 rows" in tables[1].one("caption").text


def flow_rows(folder: Path) -> list[tuple[str, str, str]]:
    rows = read_page(folder / "index.html").one("table", "flow").one("tbody").all("tr")
    return [(r.attributes["class"], r.one("th").one("span").text, r.one("td", "num").text) for r in rows]


def test_every_lost_row_is_accounted_for(posters: Path) -> None:
    rows = flow_rows(posters)
    assert rows[:5] == [
        ("left", "Rows in the manifest", "80"),
        ("lost", "lost: no target", "−3 of 80 (4%)"),
        ("lost", "lost: image not found", "−5 of 80 (6%)"),
        ("lost", "lost: image cut short", "−2 of 80 (2%)"),
        ("left", "Images fetched", "70 of 80 (88%)"),
    ]
    assert rows[-1] == ("left", "Rows explained", "66 of 80 (82%)")
    first, last = figure(rows[0][2]), figure(rows[-1][2])
    assert first + sum(figure(n) for kind, _, n in rows if kind == "lost") == last
    assert not [r for r in rows if r[0] == "missing"]


def test_rows_gone_without_a_reason_are_shown(build: Build) -> None:
    rows = flow_rows(build(losses=[("In", 100, ""), ("refused", -10, ""), ("Out", 85, ""), ("More", 90, "")]))
    assert [r for r in rows if r[0] == "missing"] == [
        ("missing", "No reason recorded", "5 of 100 (5%)"),
        ("missing", "Counted twice", "5 of 100 (5%)"),
    ]


def test_an_items_steps_and_words_add_up_to_its_prediction(posters: Path) -> None:
    for row in sample()["explanations"].to_pylist():
        page = read_page(posters / "items" / f"{row['id']}.html")
        steps = [figure(r.one("td", "num").text) for r in page.one("table", "waterfall").one("tbody").all("tr")]
        assert steps[0] == 6.4
        assert steps[-1] == round(row["outputs"][0], 2)
        assert sum(steps[:-1]) == pytest.approx(steps[-1], abs=0.005 * len(steps))
        words = page.one("details", "word-values").one("tbody").all("tr")
        values = [figure(r.one("td", "num").text) for r in words]
        assert 6.4 + sum(values) == pytest.approx(row["outputs"][0], abs=0.005 * (len(values) + 1))
        assert [abs(v) for v in values] == sorted((abs(v) for v in values), reverse=True)


def test_a_caption_is_whole_and_coloured_by_its_words_values(posters: Path) -> None:
    row = sample()["explanations"].to_pylist()[0]
    text = sample()["texts"].to_pylist()[0]["text"]
    caption = read_page(posters / "items" / f"{item_id(0)}.html").one("p", "caption-text")
    assert "".join(c if isinstance(c, str) else "".join(map(str, c.children)) for c in caption.children) == text
    spans = caption.all("span", "w")
    assert [s.text for s in spans] == [w["text"] for w in row["words"]]
    for span, word in zip(spans, row["words"], strict=True):
        value = word["values"][0]
        assert figure(span.attributes["data-v"]) == round(value, 2)
        assert ("pos" if value > 0 else "neg") in span.attributes["class"]
    strengths = [float(s.attributes["style"].removeprefix("--s:")) for s in spans]
    assert np.argsort(strengths)[-1] == np.argsort([abs(w["values"][0]) for w in row["words"]])[-1]
    focusable = [s for s in spans if "tabindex" in s.attributes]
    assert len(focusable) == 12
    assert all(s.attributes["aria-label"] == f"{s.text}: {s.attributes['data-v']}" for s in focusable)


def test_spans_that_do_not_fit_the_text_leave_it_whole(build: Build) -> None:
    given = sample(items=1)
    rows = given["explanations"].to_pylist()
    words = rows[0]["words"]
    words += [
        {**words[0], "start": 0, "end": 5},
        {**words[0], "start": 3, "end": 9000},
        {**words[0], "start": -4, "end": 2},
    ]
    given["explanations"] = pa.Table.from_pylist(rows, schema.EXPLANATIONS)
    caption = read_page(build(given) / "items" / f"{item_id(0)}.html").one("p", "caption-text")
    shown = "".join(c if isinstance(c, str) else "".join(map(str, c.children)) for c in caption.children)
    assert shown == given["texts"].to_pylist()[0]["text"]


def test_rows_that_share_an_image_share_a_page(posters: Path) -> None:
    page = read_page(posters / "items" / f"{item_id(3)}.html")
    assert page.one("section", "from-table").one("h2").text == "From the table: 2 rows share this image"
    assert [t.all("td")[0].text for t in page.one("section", "from-table").all("table")] == ["3", "4"]
    assert "(mean of 2 rows)" in page.one("dl").text
    link = page.one("section", "from-table").all("a")[0].attributes
    assert link == {"href": "https://images.example.com/posters/1003.jpg", "rel": "noopener noreferrer"}


def test_an_image_that_is_not_there_or_cannot_be_read_is_said_to_be_missing(build: Build) -> None:
    given = sample()
    read = given["read_images"]
    folder = build(given, read_images=lambda ids: {**read(ids), item_id(0): b"GIF89a cut sh"})
    for gone in (item_id(0), item_id(11)):
        page = read_page(folder / "items" / f"{gone}.html")
        assert page.one("p", "noimage").text == "no picture"
        assert not page.all("img")
        assert not (folder / "thumbs" / f"{gone}.jpg").exists()
    assert len(list((folder / "thumbs").iterdir())) == 58
    assert check_links(folder) > 500


def test_a_study_of_texts_speaks_of_texts(build: Build) -> None:
    folder = build(sample(images=False), losses=[], configs={})
    assert not (folder / "thumbs").exists()
    for path in folder.rglob("*.html"):
        page = read_page(path)
        assert not page.all("img")
        assert "image" not in page.text.replace("images.example.com", "")
    assert read_page(folder / "index.html").all("span", "textcard")
    check_links(folder)


def test_texts_that_came_with_the_data_are_no_captions_also_beside_pictures(build: Build) -> None:
    folder = build(described=False, losses=[], configs={}, notes=["3 rows have no <picture>."])
    for path in folder.rglob("*.html"):
        said = read_page(path).text.replace("images.example.com", "")
        assert "caption" not in said
        assert "image" not in said
    page = read_page(folder / "index.html")
    assert "no model wrote it. The pictures only stand beside" in page.one("section", id="reading").text
    assert page.one("section", id="rows").one("p", "note").text == "3 rows have no <picture>."
    assert page.all("img")


def test_classes_have_a_section_each_and_items_an_account_of_predicted_and_actual(build: Build) -> None:
    given = sample(task="classification")
    folder = build(given)
    page = read_page(folder / "index.html")
    for k, name in enumerate(CLASSES):
        section = page.one("section", id=f"output-{k}")
        assert section.one("h2").text == f"Words that move the probability of {name}"
        mine = {r["word"]: r for r in given["words"].to_pylist() if r["output"] == name}
        for word, (support, effect) in word_rows(section).items():
            assert support == f"{mine[word]['items']} of 60 captions"
            assert figure(effect) == round(mine[word]["mean_value"], 2)
    for row in given["predictions"].to_pylist():
        item = read_page(folder / "items" / f"{row['id']}.html")
        best, actual = CLASSES[int(np.argmax(row["outputs"]))], CLASSES[int(row["target"])]
        heads = [a.one("h2").text for a in item.all("section", "account")]
        assert heads == [f"What speaks for {c}" for c in dict.fromkeys([best, actual])]
        facts = {d.one("dt").text: d.one("dd").text for d in item.one("dl").all("div")}
        assert facts["Actual genre"] == actual
        assert facts["Predicted"] == f"{best} ({max(row['outputs']):.2f})"
    index = index_of(folder)["items"]
    assert all(line[8] == pytest.approx(1 - line[7], abs=1e-5) for line in index if line[5].startswith(line[4]))


def test_words_without_intervals_are_shown_as_unsure(build: Build) -> None:
    given = sample()
    empty = pa.nulls(given["words"].num_rows, pa.float64())
    table = given["words"]
    for name in ("low", "high"):
        table = table.set_column(table.column_names.index(name), name, empty)
    page = read_page(build(given, words=table) / "index.html")
    section = page.one("section", id="output-0")
    assert len(section.all("circle", "unsure")) == len(section.all("circle")) > 10
    assert not section.all("line", "whisker")
    assert "no word with an interval clear of zero" in page.all("div", "tile")[0].text
    assert all(re.fullmatch(r"[+−]\d+\.\d\d", effect) for _, effect in word_rows(section).values())


def test_nothing_to_show_is_still_a_report(build: Build) -> None:
    given = sample(items=0)
    folder = build(given, scores=schema.SCORES.empty_table(), losses=[], configs={})
    page = read_page(folder / "index.html")
    assert "No word is held by enough captions" in page.one("section", id="output-0").text
    assert "Nothing to show." in read_page(folder / "items.html").text
    assert index_of(folder)["items"] == []
    check_links(folder)


def test_items_without_an_explanation_still_have_a_page(build: Build) -> None:
    given = sample()
    few = given["explanations"].slice(0, 10)
    folder = build(given, explanations=few)
    assert len(list((folder / "items").iterdir())) == 60
    page = read_page(folder / "items" / f"{item_id(30)}.html")
    assert page.one("p", "caption-text").text == given["texts"].to_pylist()[30]["text"]
    assert "not explained" in page.one("section", "account").text


def test_the_same_inputs_give_the_same_bytes(build: Build, posters: Path) -> None:
    again = files(build())
    assert again == files(posters)
    tables = [sample()["explanations"].slice(i, 7) for i in range(56, -1, -7)]
    assert files(build(explanations=iter(tables))) == again


def test_a_build_that_fails_leaves_the_earlier_report(build: Build) -> None:
    folder = build()
    before = files(folder)

    def broken(ids: list[str]) -> dict[str, bytes]:
        raise ConnectionError("the storage is away")

    with pytest.raises(ConnectionError):
        build(read_images=broken)
    assert files(folder) == before
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"task": "ranking"}, "'ranking' is not one of"),
        ({"classes": ["a"]}, "was given 1 classes"),
        ({"task": "classification"}, "was given 0 classes"),
        ({"max_pages": 0}, "max_pages is 0"),
        ({"text_lang": "japanese!"}, "'japanese!' is not a language tag"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report_of(tmp_path / "report", {**sample(items=2), **changed})
    assert not list(tmp_path.iterdir())


def test_a_study_of_20000_gives_a_report_of_50(build: Build) -> None:
    many = 20_000
    rng = np.random.default_rng(0)
    few = sample(items=40)
    texts = [t["text"] for t in few["texts"].to_pylist()]
    ids = [item_id(i) for i in range(many)]
    asked: list[str] = []

    def read(wanted: list[str]) -> dict[str, bytes]:
        asked.extend(wanted)
        return few["read_images"]([item_id(0)]) and {i: few["read_images"]([item_id(0)])[item_id(0)] for i in wanted}

    def batches() -> Any:
        explained = [explain(t, 0, rng, 1) for t in texts]
        for start in range(0, many, 2000):
            part = [{**explained[i % 40], "id": ids[i]} for i in range(start, start + 2000)]
            yield pa.Table.from_pylist(part, schema.EXPLANATIONS)

    numbered = {"row": range(many), "id": ids}
    targets = rng.normal(6, 1, many)
    folder = build(
        few,
        max_pages=50,
        per_end=1,
        texts=pa.table({"id": ids, "text": [texts[i % 40] for i in range(many)]}),
        explanations=batches(),
        predictions=pa.table(
            {**numbered, "fold": [0] * many, "target": targets, "outputs": [[t] for t in rng.normal(6, 1, many)]},
            schema=schema.PREDICTIONS,
        ),
        rows=pa.table({**numbered, "source": ["a.jpg"] * many, "target": targets.astype(str), "title": ["T"] * many}),
        read_images=read,
    )
    written = files(folder)
    assert len([f for f in written if f.startswith("items/")]) == 50
    assert len([f for f in written if f.startswith("thumbs/")]) == 50
    assert len(asked) == len(set(asked)) == 50
    assert len(written) == 50 + 50 + 2 + 3 + 1
    assert sum(map(len, written.values())) < 4_000_000
    assert len(written["assets/items-data.js"]) < 50 * 1_000
    said = "Showing 50 of 20,000, sampled with seed 0"
    assert said in read_page(folder / "items.html").one("p", id="scope").text
    shown = {line[0] for line in index_of(folder)["items"]}
    assert {ids[int(np.argmax(targets))], ids[int(np.argmin(targets))]} <= shown
    check_links(folder)


def test_the_index_stays_small_when_texts_are_long(build: Build) -> None:
    given = sample(items=60, images=False)
    long = pa.table({"id": given["texts"]["id"], "text": ["雨の夜 " * 30_000] * 60})
    folder = build(given, texts=long, explanations=given["explanations"].slice(0, 0))
    assert (folder / "assets" / "items-data.js").stat().st_size < 3_000_000


def test_small_targets_keep_their_digits(build: Build) -> None:
    given = sample()
    rates = [
        {**r, "target": r["target"] / 5000, "outputs": [r["outputs"][0] / 5000]}
        for r in given["predictions"].to_pylist()
    ]
    folder = build(given, predictions=pa.Table.from_pylist(rates, schema.PREDICTIONS))
    for line, row in zip(index_of(folder)["items"][:3], sorted(rates, key=lambda r: -r["target"])[:3], strict=True):
        assert float(line[4]) == pytest.approx(row["target"], rel=0.02)


def test_provenance_is_shown_as_given(posters: Path) -> None:
    section = read_page(posters / "index.html").one("section", id="provenance")
    pairs = {r.one("th").text: r.one("td") for t in section.all("table") for r in t.all("tr")}
    assert pairs["decoding.temperature"].text == "1.0"
    assert pairs["revision"].text == "59a1ef6"
    assert "concisely.\n- Avoid" in str(pairs["prompt"].children[0])
    assert [h.text for h in section.all("h3")] == ["study", "caption", "train_text"]


def test_the_verdict_is_the_callers(build: Build) -> None:
    tie = Verdict(False, "rmse", 12.5, None, None, "mean", "bert")
    said = read_page(build(verdict=tie) / "index.html").one("div", id="verdict").text
    assert "RMSE against “Always the average”: +12.5" in said
    assert "interval" not in said
