"""A whole study whose captions, titles and classes are out to run in whatever shows them: pages and spreadsheets."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from seewhy.app.scoring import Trial, as_csv
from seewhy.progress import Reporter
from seewhy.report.safe import cell
from seewhy.steps import caption
from seewhy.steps.once import forget
from seewhy.steps.order import run_study
from seewhy.study import load_study
from tests.report.browsing import settle
from tests.report.conftest import browser as browser
from tests.report.conftest import tab as tab
from tests.safety.hostile_service import HOSTILE, hostile_stub
from tests.vlm.batch_stub import noise

COUNT = 26
HIDDEN = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f\ufeff\0")
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
SMALL = {"cpus_per_worker": 0.5, "rows_per_block": 13}


@pytest.fixture(scope="module")
def report(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report, of classes that are formulas, on captions by the hostile service."""
    home = tmp_path_factory.mktemp("hostile")
    stub = hostile_stub()
    with open(home / "ads.csv", "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["ad", "class", "name"])
        for i in range(COUNT):
            (home / f"{i}.png").write_bytes(noise(i))
            lines.writerow([f"{i}.png", ["=1+1", "@x"][i % 2], HOSTILE[i % len(HOSTILE)]])
    study = {
        "title": HOSTILE[0],
        "question": HOSTILE[1] + HOSTILE[7],
        "workspace": "out",
        "manifest": {"path": "ads.csv", "image": "ad", "target": "class", "keep": ["name"]},
        "fetch": {"resources": SMALL},
        "caption": {
            "backend": "openai",
            "model": "m",
            "prompt": "What is it?",
            "options": {"base_url": f"{stub.url}/v1"},
            "resources": SMALL,
        },
        "train_text": {"encoder": "tiny", "pooling": "mean", "epochs": 1, "folds": 2, "launcher": "here"},
        "explain_words": {"max_evals": 10, "resources": SMALL},
        "probe": {"subsamples": 5, "min_texts": 1, "folds": 2, "resources": SMALL},
        "report": {"min_items": 1},
    }
    (home / "study.yaml").write_text(yaml.safe_dump(study, allow_unicode=True), encoding="utf-8")
    forget()
    loaded = load_study(str(home / "study.yaml"))
    run_study(loaded, Reporter(quiet=True))
    assert caption.table(loaded).counts().ok == COUNT
    stub.close()
    return home / "out" / "report"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.browser
def test_no_page_of_the_report_runs_what_a_caption_says(report: Path, tab: Any) -> None:
    tab.add_init_script("window.pwned = undefined")
    pages = sorted(report.rglob("*.html"))
    assert len(pages) > COUNT
    texts = []
    for path in pages:
        settle(tab, path)
        found = tab.evaluate(
            """() => ({
                pwned: window.pwned,
                odd: document.querySelectorAll("iframe, base, style, object, embed, form, textarea").length,
                handlers: [...document.querySelectorAll("*")].flatMap(e => e.getAttributeNames())
                    .filter(n => n.startsWith("on")).length,
                links: [...document.links].map(a => a.protocol),
                text: document.body.innerText,
                // text that runs from right to left, in an element that gives it a direction of its own
                turned: [...document.querySelectorAll("body *")]
                    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && /[\\u0590-\\u05ff]/.test(n.data)))
                    .map(e => !!e.closest("[dir], bdi") || getComputedStyle(e).unicodeBidi !== "normal"),
            })"""
        )
        assert found["pwned"] is None, path.name
        assert (found["odd"], found["handlers"]) == (0, 0), path.name
        assert set(found["links"]) <= {"file:"}, path.name
        assert all(found["turned"]), path.name
        assert not HIDDEN & set(found["text"]), path.name
        texts.append(found["text"])
    whole = "\n".join(texts)
    for shown in ("<script>window.pwned=1</script>", "[U+202E]gpj.exe[U+202C]", "ne[U+200B]on", "שלום", "{{ 7*7 }}"):
        assert shown in whole


@pytest.mark.ray
@pytest.mark.slow
def test_no_cell_of_a_table_for_spreadsheets_is_a_formula(report: Path) -> None:
    tables = sorted(report.parent.rglob("*.csv"))
    assert tables
    quoted = 0
    for path in tables:
        for row in csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")):
            for one in row:
                if one.startswith(FORMULAS):
                    float(one)  # a number below zero
                quoted += one.startswith("'")
                assert not HIDDEN & set(one)
    assert quoted > 0  # the classes, at least


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠", " =", "  @"])
def test_a_cell_that_begins_as_a_formula_is_quoted(start: str) -> None:
    assert cell(f"{start}1+1") == f"'{start}1+1"


def test_other_cells_stay_and_hidden_characters_are_written_out() -> None:
    for text in ("neon", "a=b", "1-2", "", "'x", "日本", "5"):
        assert cell(text) == text
    assert cell("\u202e=1") == "[U+202E]=1"
    assert cell("\r=1") == "[U+000D]=1"


def test_the_apps_own_table_quotes_formulas_and_leaves_numbers() -> None:
    trial = Trial("=1+1", -2.5, "@x.png", "0", "-m", ("+{}",), False)
    (row,) = list(csv.DictReader(io.StringIO(as_csv([trial]).decode("utf-8-sig"))))
    assert (row["text"], row["image"], row["model"], row["templates"]) == ("'=1+1", "'@x.png", "'-m", "'+{}")
    assert (float(row["logit"]), row["no"]) == (-2.5, "1")
