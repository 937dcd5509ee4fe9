"""The page of the image path: what it says against the tables that it was given."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from seewhy import schema
from seewhy.heat import heat_of
from seewhy.images import decode
from seewhy.overlay import overlay
from seewhy.report import Extent, build_report
from tests.report.page import Element, read_page
from tests.report.photo_sample import DISTRICTS, Photos, about, class_rows, number_rows, photo_id, photo_results
from tests.report.sample import report_of, sample
from tests.report.test_build import check_links, files, flow_rows

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def drawn() -> Photos:
    return Photos()


@pytest.fixture(scope="session")
def streets(drawn: Photos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on 120 photos of four districts; not to be changed."""
    out = tmp_path_factory.mktemp("streets") / "report"
    return Path(build_report(str(out), about=about(), photos=photo_results(drawn))).parent


@pytest.fixture
def make(drawn: Photos, tmp_path: Path) -> Make:
    """Builds a report on the drawn photos, with fields of PhotoResults changed, and returns its folder."""

    def made(task: str = "classification", extent: Extent | None = None, beats: bool = True, **changed: Any) -> Path:
        given = dataclasses.replace(photo_results(drawn, task=task, beats=beats), **changed)
        return Path(build_report(str(tmp_path / "report"), about=about(task), photos=given, extent=extent)).parent

    return made


@pytest.fixture(scope="session")
def page(streets: Path) -> Element:
    return read_page(streets / "index.html")


def chosen(rows: list[dict[str, Any]], output: str) -> list[dict[str, Any]]:
    return sorted((r for r in rows if r["output"] == output and r["weight"] > 0), key=lambda r: r["rank"])


def test_the_table_of_words_is_the_probes(page: Element, drawn: Photos) -> None:
    rows = class_rows(drawn.held("map"), drawn.district, DISTRICTS)
    columns = page.one("section", id="words").all("div", "word-column")
    assert [c.one("a").text for c in columns] == DISTRICTS
    for column, name in zip(columns, DISTRICTS, strict=True):
        assert column.one("small").text == "30 of 120 (25%)"
        mine = chosen(rows, name)[:10]
        lines = column.all("li")
        assert [li.one("span", "word").text for li in lines] == [r["word"] for r in mine]
        assert [li.one("span", "hits").text for li in lines] == [f"{r['hits']}/{r['total']}" for r in mine]
        sure = [r["lift_low"] > 1 for r in mine]
        assert [li.attributes["class"] == "sure" for li in lines] == sure
        assert [("may be chance" in li.text) for li in lines] == [not s for s in sure]
        for li, row in zip(lines, mine, strict=True):
            # by the lower end of the share's interval: 0.15 just above the base rate of a quarter, 1 at all
            above = (row["lift_low"] * 0.25 - 0.25) / 0.75
            shade = 0.15 + 0.85 * above if above > 0 else 0.0
            assert float(li.attributes["style"].removeprefix("--s:")) == pytest.approx(shade, abs=0.006)
    assert {li.attributes["class"] for c in columns for li in c.all("li")} == {"sure", "unsure"}


def test_each_word_has_its_share_interval_lift_and_stability(page: Element, drawn: Photos) -> None:
    rows = class_rows(drawn.held("map"), drawn.district, DISTRICTS)
    for k, name in enumerate(DISTRICTS):
        lines = page.one("section", id=f"words-{k}").one("table", "probe-chart").one("tbody").all("tr")
        for line, row in zip(lines, chosen(rows, name), strict=True):
            assert line.one("span", "word").text == row["word"]
            assert line.one("th").one("small").text == f"{row['total']} of 120 descriptions"
            base, dot = line.one("line", "zero"), line.one("circle")
            assert base.attributes["x1"] == "27.00%"  # a quarter of the scale, which leaves 4% free at either end
            assert dot.attributes["cx"] == f"{4 + 92 * row['hits'] / row['total']:.2f}%"
            assert ("unsure" in dot.attributes["class"]) == (row["lift_low"] <= 1)
            share, times, held, again = (td.text for td in line.all("td", "num"))
            low, high = row["lift_low"] * 25, min(row["lift_high"] * 25, 100)
            assert share == (
                f"{row['hits']}/{row['total']} {100 * row['hits'] / row['total']:.0f}% ({low:.0f}% to {high:.0f}%)"
            )
            assert times == f"{row['lift']:.1f}×"
            assert held == (f"{row['held_out_hits']}/{row['held_out_total']}" if row["held_out_total"] else "–")
            assert again == f"{round(50 * row['selection'])} of 50"


def test_each_word_shows_its_photos_their_maps_and_its_sentence(page: Element, drawn: Photos) -> None:
    probe = drawn.probe("map")
    seen = []
    for k, name in enumerate(DISTRICTS):
        for block in page.one("section", id=f"words-{k}").all("details", "of-word"):
            word = block.all("summary")[0].one("span", "name").text
            hits, misses = probe.examples[name, word]
            wanted = [*hits[:3], *misses[:3]]
            figures = block.all("figure")
            assert [p.text for p in block.all("p", "end")] == [
                label
                for label, ids in ((f"Photos of {name} with this word", hits), ("Other photos with this word", misses))
                if ids
            ]
            for figure, item_id in zip(figures, wanted, strict=True):
                i = drawn.ids.index(item_id)
                check_figure(figure, i, word, drawn)
                seen.append(i)
    assert len(seen) > 60
    assert {2, 3, 7} <= set(seen)  # without heat, without a map, without a picture


def check_figure(figure: Element, i: int, word: str, drawn: Photos) -> None:
    images = figure.all("img")
    if i == 7:
        assert figure.one("span", "noimage").text == "no picture"
    elif i in (2, 3) or not drawn.hot[i]:
        said = "no heat map" if i == 3 else "no heat: nothing here speaks for its answer"
        assert figure.one("span", "noheat").text == said
        assert len(images) == 1
    else:
        assert [e.attributes["src"] for e in images] == [f"examples/{drawn.ids[i]}{end}.jpg" for end in ("", "-heat")]
        assert images[0].attributes["alt"] == drawn.texts["map"][i]
        assert "where the model looked" in images[1].attributes["alt"]
        scale = drawn.maps([drawn.ids[i]]).to_pylist()[0]["scale"]
        assert figure.one("p", "scale").text.startswith(f"Full red stands for a raw value of {scale:.2f}.")
    assert all(e.attributes["loading"] == "lazy" for e in images)
    assert all((e.attributes["width"], e.attributes["height"]) == ("160", "240") for e in images)
    text = drawn.texts["map"][i]
    sentence = next(s for s in re.findall("[^。]+。", text) if word in s)
    quote = figure.one("q")
    assert "".join(c if isinstance(c, str) else "".join(map(str, c.children)) for c in quote.children) == sentence
    assert quote.one("mark").text == word
    assert quote.attributes["lang"] == "ja"
    actual, best = DISTRICTS[drawn.district[i]], int(np.argmax(drawn.outputs[i]))
    facts = [e.text for e in figure.one("span", "facts-line").all("bdi")]
    assert facts == [actual, f"{DISTRICTS[best]} ({max(drawn.outputs[i]):.2f})"]
    assert ("mistaken" in figure.attributes.get("class", "")) == (actual != DISTRICTS[best])


def test_an_overlay_is_the_photo_under_its_own_map(streets: Path, drawn: Photos) -> None:
    written = sorted((streets / "examples").glob("*-heat.jpg"))
    assert len(written) > 20
    for path in written[:5]:
        item_id = path.name.removesuffix("-heat.jpg")
        row = drawn.maps([item_id]).to_pylist()[0]
        photo = decode((streets / "examples" / f"{item_id}.jpg").read_bytes())
        heat = heat_of(row["map"], row["height"], row["width"])
        expected = overlay(photo, heat).astype(float)
        shown = np.asarray(Image.open(path)).astype(float)
        assert shown.shape == (240, 160, 3)
        assert np.abs(shown - expected).mean() < 6  # JPEG
        assert np.abs(shown - photo).mean() > 20


def test_a_map_of_another_class_than_the_prediction_says_so(make: Make, drawn: Photos) -> None:
    def true_class(ids: list[str]) -> pa.Table:
        rows = drawn.maps(ids).to_pylist()
        return pa.Table.from_pylist([{**r, "explained": 2} for r in rows], schema.MAPS)

    page = read_page(make(read_maps=true_class) / "index.html")
    for figure in page.all("figure"):
        facts = figure.one("span", "facts-line")
        other = not facts.all("bdi")[1].text.startswith("丘の手")
        assert ("heat map of 丘の手" in facts.text) == (other and len(figure.all("img")) == 2)
        for empty in figure.all("span", "noheat"):
            assert empty.text in (
                "no heat map",
                f"no heat: nothing here speaks for {'丘の手' if other else 'its answer'}",
            )


def test_words_by_control(page: Element, drawn: Photos) -> None:
    section = page.one("section", id="sources")
    tables = {
        c: {(r["output"], r["word"]): r for r in class_rows(drawn.held(c), drawn.district, DISTRICTS)}
        for c in drawn.said
    }
    shown = {}
    for body in section.one("table").all("tbody"):
        name = body.one("tr", "group").one("th").one("span").text
        for line in body.all("tr"):
            if line.attributes.get("class"):
                continue
            word = line.one("th").one("span").text
            cells = line.all("td", "num")
            for cell, control in zip(cells, ("map", "random", "none"), strict=True):
                row = tables[control].get((name, word))
                figure = f"{row['hits']}/{row['total']}" if row else "–"
                rank = f"rank {row['rank']}" if row and row["weight"] > 0 else "not chosen"
                assert cell.text == f"{figure} {rank}"
                assert ("unsure" not in cell.attributes["class"]) == bool(row and row["lift_low"] > 1)
            shown[name, word] = line.one("td", "reading").text
    assert shown["丘の手", "石段"] == "too few descriptions to tell"
    assert shown["川辺町", "橋"] == "from where the model looks"
    assert shown["浜風区", "灯台"] == "from where the model looks"
    tally = {li.text.split(" words ")[1]: int(li.one("b").text) for li in section.one("ul", "tally").all("li")}
    assert tally == {reading: list(shown.values()).count(reading) for reading in set(shown.values())}
    assert "自転車 (random map" in section.text  # the model does not look at bicycles


def test_without_controls_the_page_says_what_nobody_can_tell(make: Make, drawn: Photos) -> None:
    page = read_page(make(probes={"map": drawn.probe("map")}) / "index.html")
    assert not page.one("section", id="sources").all("table")
    assert "nobody can tell which words come from where the model looked" in page.one("section", id="sources").text
    assert "The model’s map" not in page.one("div", id="verdict").text


def test_the_matrix_counts_what_was_taken_for_what(page: Element, drawn: Photos) -> None:
    counts = np.zeros((4, 4), int)
    for truth, outputs in zip(drawn.district, drawn.outputs, strict=True):
        counts[truth, int(np.argmax(outputs))] += 1
    section = page.one("section", id="confusion")
    lines = section.one("table", "matrix").one("tbody").all("tr")
    assert [[int(td.text) for td in line.all("td", "cell")] for line in lines] == counts.tolist()
    assert [line.one("th").all("span")[-1].text for line in lines] == DISTRICTS
    for line, row in zip(lines, counts, strict=True):
        shades = [float(td.attributes["style"].removeprefix("--s:")) for td in line.all("td", "cell")]
        assert shades == [round(c / row.sum(), 2) for c in row]
    right = int(np.trace(counts))
    assert section.one("p", "explain").text.startswith(f"{right} of 120 ({100 * right / 120:.0f}%) photos")
    assert f"{right} of 120 photos" in page.one("div", id="verdict").one("p", "headline").text


def test_scores_of_words_stand_beside_the_image_models(page: Element) -> None:
    card = page.one("section", id="scores").all("table")[0]
    rows = {r.one("th").text: r.one("td", "num").text for r in card.one("tbody").all("tr")}
    assert list(rows)[:2] == ["Always the commonest class", "Colours alone"]
    assert rows["Words alone (model’s map)"] == "0.85 0.79 to 0.91"
    assert rows["Words alone (random map)"] == "0.50 0.44 to 0.56"
    assert rows["Words alone (no map)"] == "0.90 0.84 to 0.96"
    assert rows["Words, targets shuffled"].startswith("0.23")
    assert "Image model (mobilenet_v2)" in rows


def test_rows_notes_checks_and_settings_are_all_there(page: Element, streets: Path) -> None:
    assert flow_rows(streets)[-2:] == [
        ("lost", "lost: not described", "−3 of 129 (2%)"),
        ("left", "Photos described", "120 of 129 (93%)"),
    ]
    assert page.one("section", id="rows").one("p", "note").text.startswith("2 photos are byte for byte the same")
    assert "Photos described: 120 of 129 (93%)" in page.one("div", id="verdict").text
    assert "40 photos checked, 2 could not be." in page.one("section", id="maps").text
    pairs = {r.one("th").text: r.one("td").text for r in page.one("section", id="provenance").all("tr")}
    assert pairs["prompt"] == "モデルが注目している物を日本語で述べてください。"
    assert pairs["reveal_prediction"] == "False"
    bins = page.one("section", id="calibration").one("tbody").all("tr")
    assert sum(int(b.one("td", "num").text.split(" of ")[1].split()[0]) for b in bins) == 120


def test_a_model_that_beats_nothing_gives_no_findings(make: Make) -> None:
    page = read_page(make(beats=False) / "index.html")
    verdict = page.one("div", id="verdict")
    assert "caution" in verdict.attributes["class"]
    assert verdict.all("p")[0].text == "The image model does not predict district better than its best baseline."
    heads = [h.text for h in page.all("h2")]
    assert "Words in the descriptions (not findings)" in heads
    assert "浜風区 (not findings)" in heads
    assert not any(h.startswith("Words that predict") for h in heads)


def test_what_was_not_measured_is_said_or_left_out(make: Make) -> None:
    page = read_page(make(confusion=None, calibration=None, faithfulness=None, losses=[], verdict=None) / "index.html")
    assert page.one("section", id="maps").one("p", "empty").text == "The heat maps were not checked."
    assert not page.all("section", id="confusion") + page.all("section", id="calibration")
    assert "No counts were given." in page.one("section", id="rows").text
    assert "was not measured" in page.one("div", id="verdict").text


def test_a_number_has_words_for_more_and_for_less_and_a_plot(make: Make, drawn: Photos) -> None:
    page = read_page(make("regression") / "index.html")
    rows = number_rows(drawn.held("map"), drawn.rent, "rent")
    columns = page.one("section", id="words").all("div", "word-column")
    assert [c.one("a").text for c in columns] == ["Higher rent", "Lower rent"]
    for column, side in zip(columns, (1, -1), strict=True):
        mine = sorted((r for r in rows if side * r["weight"] > 0), key=lambda r: -abs(r["weight"]))[:10]
        assert [li.one("span", "word").text for li in column.all("li")] == [r["word"] for r in mine]
        said = [float(li.one("span", "hits").text.replace("−", "-")) for li in column.all("li")]
        assert said == [pytest.approx(r["difference"], abs=0.0051) for r in mine]
        clear = [side * r["difference_low" if side > 0 else "difference_high"] > 0 for r in mine]
        assert [li.attributes["class"] == "sure" for li in column.all("li")] == clear
    line = page.one("section", id="words-0").one("tbody").all("tr")[0]
    best = max(rows, key=lambda r: r["weight"])
    assert f"{best['mean_with']:.2f} with, {best['mean_without']:.2f} without" in line.text
    assert f"+{best['difference_low']:.2f} to +{best['difference_high']:.2f}" in line.text
    plot = page.one("section", id="scatter")
    assert len(plot.all("circle")) == 120
    assert "120 of 120 rows are drawn" in plot.text
    assert not page.all("section", id="confusion")
    end = page.one("section", id="words-1").all("p", "end")[0].text
    assert end == "Photos with this word and a lower rent"


def test_both_paths_have_a_page_each(drawn: Photos, tmp_path: Path) -> None:
    photos = photo_results(drawn, task="regression", target="rating")
    folder = report_of(tmp_path / "report", sample(items=12), photos=photos)
    for name in ("index.html", "photos.html", "items.html"):
        links = read_page(folder / name).one("nav", **{"aria-label": "Report"}).all("a")
        assert [(a.text, a.attributes["href"]) for a in links] == [
            ("Overview", "index.html"),
            ("All images", "items.html"),
            ("Photos", "photos.html"),
        ]
        assert [a.text for a in links if "aria-current" in a.attributes] == [
            {"index.html": "Overview", "photos.html": "Photos", "items.html": "All images"}[name]
        ]
    assert "Higher rating" in read_page(folder / "photos.html").text
    assert check_links(folder) > 200


def test_links_files_and_bytes(streets: Path, make: Make) -> None:
    assert check_links(streets) > 50
    again = files(make())
    assert again == files(streets)
    assert json.loads(again["seewhy-report.json"]) == {"seewhy_report": 1}
    assert not [f for f in again if f.startswith(("items", "thumbs"))]
    assert not read_page(streets / "index.html").all("nav", **{"aria-label": "Report"})


def test_the_page_stays_small_for_a_large_study(drawn: Photos, tmp_path: Path) -> None:
    """200 classes of 60 words each, with 50 examples either way, over 20,000 rows."""
    names = [f"class {k}" for k in range(200)]
    words = [f"word{w}" for w in range(60)]
    figures = {
        "weight": 1.0,
        "hits": 9,
        "total": 20,
        "base_rate": 0.005,
        "lift": 90.0,
        "lift_low": 50.0,
        "lift_high": 99.0,
    }
    rows = [{"output": n, "word": w, "rank": r, **figures} for n in names for r, w in enumerate(words, start=1)]
    examples = {(n, w): (drawn.ids[:50], drawn.ids[50:100]) for n in names for w in words}
    probe = dataclasses.replace(
        drawn.probe("map"), table=pa.Table.from_pylist(rows, schema.PROBE), examples=examples, counted=20_000
    )
    count = 20_000
    targets = np.arange(count) % 200
    flat = np.random.default_rng(0).random(count * 200).astype(np.float32)
    predictions = pa.table(
        {
            "row": np.arange(count),
            "id": [photo_id(i) for i in range(120)] + [f"x{i}" for i in range(count - 120)],
            "fold": np.zeros(count, np.int32),
            "target": targets.astype(float),
            "outputs": pa.ListArray.from_arrays(np.arange(0, count * 200 + 1, 200, dtype=np.int32), flat),
        },
        schema=schema.PREDICTIONS,
    )
    asked: list[str] = []

    def read(ids: list[str]) -> dict[str, bytes]:
        asked.extend(ids)
        return {i: drawn.images[i] for i in ids}

    given = dataclasses.replace(
        photo_results(drawn),
        probes={"map": probe, "none": probe},
        predictions=predictions,
        read_images=read,
        confusion=None,
    )
    page = Path(build_report(str(tmp_path / "report"), about=about(classes=names), photos=given))
    assert page.stat().st_size < 3_000_000
    read_back = read_page(page)
    assert len(read_back.all("div", "word-column")) == 60
    assert "Shown are the 60 commonest classes; 140 more have no column." in read_back.text
    assert len(read_back.all("figure")) <= 6 * 100
    assert len(asked) == len(set(asked)) == 6
