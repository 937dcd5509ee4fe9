"""A whole study that everybody is out to get, run as a command: captions, titles and classes that would run in whatever
shows them, and a service that tells its caller's key. What is looked at is all that the run leaves."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from seewhy.steps import caption
from seewhy.study import load_study
from tests.report.browsing import settle
from tests.report.conftest import browser as browser
from tests.report.conftest import tab as tab
from tests.safety.hostile_service import HOSTILE, hostile_stub
from tests.safety.leaking_service import KEY, KEY_OF_A_FILE, OTHERS, holding
from tests.vlm.batch_stub import noise

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
ROOT = Path(__file__).parents[2]
COUNT = 26
HIDDEN = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f\ufeff\0")
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
SMALL = {"cpus_per_worker": 0.5, "rows_per_block": 13}
TOLD = ["400", "500", "refusal", "finish", "php", "cut late", "200"]
"""Faults that the first calls meet, each with the key in it."""


@dataclass(frozen=True)
class Run:
    """What a run left: its files, those of Ray, and what it said."""

    home: Path
    ray: Path
    said: "subprocess.CompletedProcess[str]"

    @property
    def report(self) -> Path:
        return self.home / "out" / "report"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home, secrets = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("secrets")
    ray = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))  # Ray's sockets lie in it, and their paths must be short
    stub = hostile_stub(KEY)
    stub.plan["What is it?"] = list(TOLD)
    write_study(home, f"{stub.url}/v1")
    (secrets / "key.json").write_text(json.dumps({"type": "service_account", "private_key": KEY_OF_A_FILE}))
    env = {
        **os.environ, **OTHERS, "THE_KEY": KEY, "GOOGLE_APPLICATION_CREDENTIALS": str(secrets / "key.json"),
        "WANDB_MODE": "offline", "WANDB_DIR": str(home / "track"), "RAY_TMPDIR": str(ray), "SEEWHY_LOG": "json",
    }  # fmt: skip
    env.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "seewhy.cli", "run", str(home / "study.yaml")]
    try:
        said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)
        assert said.returncode == 0, said.stdout + said.stderr
        yield Run(home, ray, said)
    finally:
        stub.close()
        shutil.rmtree(ray, ignore_errors=True)


def write_study(home: Path, base_url: str) -> None:
    with open(home / "ads.csv", "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["ad", "class", "name"])
        for i in range(COUNT):
            (home / f"{i}.png").write_bytes(noise(i))
            lines.writerow([f"{i}.png", ["=1+1", "@x"][i % 2], HOSTILE[i % len(HOSTILE)]])
    (home / "track").mkdir()
    options = {"base_url": base_url, "api_key_env": "THE_KEY", "tries": 2, "backoff_sec": 0.01}
    study = {
        "title": HOSTILE[0],
        "question": HOSTILE[1] + HOSTILE[7],
        "workspace": "out",
        "manifest": {"path": "ads.csv", "image": "ad", "target": "class", "keep": ["name"]},
        "max_failed_fraction": 1.0,
        "fetch": {"resources": SMALL},
        "caption": {
            "backend": "openai", "model": "m", "prompt": "What is it?", "options": options, "resources": SMALL,
        },
        "train_text": {
            "encoder": "tiny", "pooling": "mean", "epochs": 1, "folds": 2, "launcher": "here", "tracking": "wandb",
        },
        "explain_words": {"max_evals": 4, "resources": SMALL},
        "probe": {"subsamples": 2, "min_texts": 1, "folds": 2, "resources": SMALL},
        "report": {"min_items": 1},
    }  # fmt: skip
    (home / "study.yaml").write_text(yaml.safe_dump(study, allow_unicode=True), encoding="utf-8")


@pytest.mark.browser
def test_no_page_of_the_report_runs_what_a_caption_says(run: Run, tab: Any) -> None:
    tab.add_init_script("window.pwned = undefined")
    pages = sorted(run.report.rglob("*.html"))
    assert len(pages) > COUNT - len(TOLD)
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


def test_no_cell_of_a_table_for_spreadsheets_is_a_formula(run: Run) -> None:
    tables = sorted(run.home.joinpath("out").rglob("*.csv"))
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


def test_no_secret_is_anywhere(run: Run) -> None:
    """Keys in the environment and in a file, against all that a run leaves: tables, report, the tracker's files, what
    it prints, Ray's own logs."""
    secrets = [KEY, *OTHERS.values(), KEY_OF_A_FILE]
    assert holding(run.said.stdout + run.said.stderr, secrets) == []
    files = [path for folder in (run.home, run.ray) for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert any(path.name.startswith("worker-") for path in files)
    assert sum(path.suffix == ".parquet" for path in files) > 5
    assert {str(path) for path in files if holding(unpacked(path), secrets)} == set()
    rows = caption.table(load_study(str(run.home / "study.yaml"))).read(only_ok=False).to_pylist()
    assert sum("***" in (row["text"] or "") for row in rows) > COUNT - len(TOLD)
    assert sum("***" in (row["detail"] or "") for row in rows) >= 3


def unpacked(path: Path) -> bytes:
    """A file's bytes; of a Parquet file what it holds, which lies there compressed."""
    data = path.read_bytes()
    if path.suffix != ".parquet":
        return data
    columns = [name for name in pq.read_schema(path).names if name not in ("image", "fingerprint")]
    return data + repr(pq.read_table(path, columns=columns).to_pylist()).encode()


NOT_OURS = re.compile(r"\[\d{4}-\d\d-\d\d [\d:,]+ [A-Z] |wandb: ")
"""How lines begin of Ray's core, in C++, and of the tracker: they go to standard error past Python's logging."""
FIELDS = {"time", "level", "study", "workspace", "job", "stage", "message"}


def read_lines(text: str) -> list[dict[str, Any]]:
    ours = [line for line in text.splitlines() if not NOT_OURS.match(line)]
    lines = [json.loads(line) for line in ours]
    for line in lines:
        assert set(line) >= FIELDS
        assert (line["study"], line["level"]) == (HOSTILE[0], "info"), line
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
    return lines


def test_every_line_for_machines_says_what_it_is_of(run: Run) -> None:
    """Those of the driver, all that is on standard error; and those of the workers, in Ray's logs."""
    lines = read_lines(run.said.stderr)
    people = run.said.stdout.splitlines()
    assert [line["message"] for line in lines] == people
    assert {line["workspace"] for line in lines} == {str(run.home / "out")}
    (job,) = {line["job"] for line in lines}
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    assert stages == ["manifest", "fetch", "caption", "train_text", "explain_words", "words", "probe", "report"]
    told = [line for line in lines if line["stage"] == "caption" and "rows" in line]
    assert (told[0]["rows"], told[0]["total"], told[0]["unit"]) == (0, COUNT, "rows")
    assert told[-1]["rows"] == COUNT
    assert told[-1]["rate"] > 0
    assert sum(told[-1]["failures"].values()) >= 3
    assert set(told[-1]["failures"]) <= {"transient", "rejected", "bad_input"}
    workers = [
        json.loads(line)
        for path in run.ray.rglob("worker-*.err")
        for line in path.read_text(errors="replace").splitlines()
        if line.startswith('{"time"')
    ]
    assert {line["job"] for line in workers} == {job}
    assert {line["study"] for line in workers} == {HOSTILE[0]}
    rows = {stage: sum(line["rows"] for line in workers if line["stage"] == stage) for stage in stages}
    assert (rows["fetch"], rows["caption"]) == (COUNT, COUNT)
    assert all(set(line) >= {*FIELDS, "rate", "failures"} for line in workers)
