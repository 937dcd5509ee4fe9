"""Captions and descriptions of whole studies by the batch service: the same rows, requests and tables as online."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from google.oauth2.credentials import Credentials
from PIL import Image

from seewhy import schema, storage
from seewhy.caption import Caption
from seewhy.describe import SHOWN, Describe, DescribeRequests
from seewhy.failure import Fatal
from seewhy.prices import format_usd
from seewhy.progress import Reporter
from seewhy.quota.ledger import spent_at_most_usd
from seewhy.run import Source, Stored, read_block
from seewhy.steps import caption, describe, pace, vision
from seewhy.steps.once import forget
from seewhy.steps.order import run_study
from seewhy.steps.vision import Asking
from seewhy.study import Study, check_study, load_study
from seewhy.table import Table
from seewhy.vlm import gemini_batch
from tests.batch.home import PROMPT, READ, WRITTEN_OUT, Home, rows_asked
from tests.vlm.batch_stub import BatchStub, Course
from tests.vlm.gemini_stub import Stub
from tests.vlm.key_file import key_file


def test_two_pictures_a_row_are_described_as_online_and_no_rows_id_leaves(
    home: Home, servers: tuple[Stub, BatchStub], tmp_path: Path
) -> None:
    columns = {"image": pa.binary(), "map": pa.binary(), "height": pa.int32(), "width": pa.int32()}
    maps = Table(str(tmp_path / "maps"), schema.row_stage(*(pa.field(*one) for one in columns.items())))
    heat = [bytes([0, 50, 255, 100, 20, number]) for number in range(10)]
    heat[4] = None
    none = [None] * 10
    rows = {"id": list(home.images), "image": list(home.images.values()), "map": heat, "height": [2] * 10}
    failures = dict.fromkeys(("error_kind", "reason", "detail"), none)
    maps.append(pa.table(rows | {"width": [3] * 10} | failures, schema=maps.schema), generation=1)
    keys = maps.index().select(["id", "part", "position"])
    home.source = Source(keys, (Stored(tuple(maps.parts()), {name: name for name in columns}),))
    shown = {"language": "en", "size_px": 32}
    home.ask(requests=DescribeRequests, requests_args=shown)
    assert home.outcomes() == {"ok": 9, "missing": 0, "bad_input/no_map": 1}

    credentials = Credentials(token="fake")
    online = Describe(backend="gemini", **shown, **home.options, max_new_tokens=100, credentials=credentials)
    expected = online(read_block(home.source, keys))
    assert home.table.read(only_ok=False).sort_by("id").equals(expected.sort_by("id"))
    (job,) = servers[1].jobs.values()
    sent = storage.read_whole(job["inputConfig"]["gcsSource"]["uris"][0]).decode()
    assert sent.count('"inlineData"') == 2 * 9
    assert not [key for key in home.images if key in sent]


def test_what_is_shown_and_what_the_backend_is_told_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"backend": "gemini", "model": "m", "batch": "gs://b/f", "temperature": 0.5, "reveal_prediction": True}
    options = {"location": "here", "size_px": 512, "stitched": True, "tries": 2}
    manifest = {"path": "a.csv", "image": "photo", "target": "town"}
    study = check_study(
        {
            "title": "T",
            "workspace": "o",
            "path": "image",
            "manifest": manifest,
            "describe": asked | {"options": options},
        }
    )
    asked_for: dict[str, Any] = {}
    monkeypatch.setattr(vision, "run_batch", lambda *_, **given: asked_for.update(given))
    arguments = describe._arguments(study, ["Akai", "Aoi"], "map")
    nothing = Source(pa.table({"id": pa.array([], pa.string())}))
    table = Table("t", schema.CAPTIONS)
    vision.run_vision_stage(
        study,
        Reporter(quiet=True),
        Asking("describe", study.describe, Describe, arguments, nothing, table, {}, DescribeRequests, SHOWN),
    )
    shown, told = asked_for["requests_args"], asked_for["options"]
    assert told == {"model": "m", "location": "here", "tries": 2, "temperature": 0.5, "seed": 0}
    assert (shown["size_px"], shown["stitched"], shown["classes"]) == (512, True, ["Akai", "Aoi"])
    assert asked_for["requests"] is DescribeRequests
    DescribeRequests(**shown)
    assert gemini_batch.frame(**told)["generationConfig"]["temperature"] == 0.5


# A study


def study_of(home: Path, stub: Stub, folder: str | None, **sections: Any) -> Study:
    rng = np.random.default_rng(0)
    (home / "ads").mkdir(exist_ok=True)
    with open(home / "ads.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["ad", "clicks"])
        for number in range(8):
            Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(home / f"ads/{number}.png")
            lines.writerow([f"ads/{number}.png", number])
    small = {"cpus_per_worker": 0.5, "rows_per_block": 3}
    value = {
        "title": "Ads",
        "workspace": "out",
        "manifest": {"path": "ads.csv", "image": "ad", "target": "clicks"},
        "budget": "5 USD",
        "fetch": {"resources": small},
        "caption": {
            "backend": "gemini",
            "model": "gemini-2.5-flash",
            "prompt": PROMPT,
            "batch": folder,
            "options": {"location": "here", "base_url": stub.url, "tries": 1, "concurrency": 1},
            "resources": small,
        },
        **sections,
    }
    (home / "study.yaml").write_text(yaml.safe_dump(value))
    forget()
    return load_study(str(home / "study.yaml"))


@pytest.mark.ray
def test_a_study_by_batch_is_the_study_online_and_each_goes_on_where_the_other_stopped(
    ray_cluster: None, bucket: str, tmp_path: Path, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, batches = servers
    key_file(tmp_path, stub, monkeypatch)
    online = study_of(tmp_path, stub, None)
    run_study(online, Reporter(quiet=True), until="fetch")
    stage = Caption(**caption._arguments(online))  # here: the cluster's workers have no credentials for the stub
    source = caption.source(online)
    some = source.keys.slice(2, 3)
    caption.table(online).append(stage(read_block(source, some)), generation=1)
    assert caption.table(online).counts().ok == 3

    by_batch = study_of(tmp_path, stub, f"{bucket}/{tmp_path.name}")
    assert caption.table(by_batch).url == caption.table(online).url
    stream = io.StringIO()
    run_study(by_batch, Reporter(stream=stream), until="caption")
    assert rows_asked(batches) == [5]
    table = caption.table(by_batch)
    rows = table.read().to_pylist()
    assert len(rows) == 8
    assert all(row["text"].endswith(PROMPT) for row in rows)
    assert len({row["text"] for row in rows}) == 8
    assert table.is_done(caption.source(by_batch).rows_digest())
    cost = 5 * (READ * 0.15 + WRITTEN_OUT * 1.25) / 1e6  # half the price, of the packaged list
    assert f"{5 * READ:,} tokens read, {5 * WRITTEN_OUT} written, {format_usd(cost)}" in stream.getvalue()
    assert "caption: done in" in stream.getvalue()
    assert spent_at_most_usd(pace.ledger(by_batch)) == pytest.approx(cost)
    (job,) = batches.jobs.values()
    assert "/projects/of-the-key/" in f"/{job['name']}"

    stream = io.StringIO()
    for study in (by_batch, online):
        forget()
        run_study(study, Reporter(stream=stream), until="caption")
    assert stream.getvalue().count("caption: nothing to do, 8 rows: 8 ok") == 2
    assert len(batches.jobs) == 1
    assert caption.table(online).done_mark()["ok"] == 8


DRIVER = """
import sys
from seewhy.progress import Reporter
from seewhy.ray_cluster import connect
from seewhy.steps import batch
from seewhy.steps.order import run_study
from seewhy.study import load_study
batch.POLL_SEC, batch.SETTLE_SEC = 0.05, 0.2
connect(num_cpus=2, object_store_bytes=100_000_000)
run_study(load_study(sys.argv[1]), Reporter(), until="caption")
"""


@pytest.mark.ray
@pytest.mark.parametrize("fault", [pytest.param(None, marks=pytest.mark.long), "made_hang"])
def test_killed_drivers_find_their_jobs_again(
    bucket: str, tmp_path: Path, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch, fault: str | None
) -> None:
    """SIGKILL while a job runs, or while the call that makes it hangs; then a rerun: one job, and every row once."""
    stub, batches = servers
    key_file(tmp_path, stub, monkeypatch)
    study_of(tmp_path, stub, f"{bucket}/{tmp_path.name}")
    batches.courses, batches.faults = [Course(looks=None)], [fault]
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "study.yaml")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    env.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        deadline = time.monotonic() + 180
        while not (batches.jobs if fault else batches.looks.get("1000", 0) >= 3):
            assert time.monotonic() < deadline, "no job was made and looked at in three minutes"
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    study = load_study(str(tmp_path / "study.yaml"))
    forget()
    assert caption.plan(study).note == "8 rows are with the batch service, in 1 jobs"
    batches.jobs["1000"]["course"] = Course()
    time.sleep(1.0)  # Ray's own processes notice that their driver is gone
    subprocess.run(command, env=env, check=True, timeout=180)
    assert rows_asked(batches) == [8]
    rows = caption.table(study).read().to_pylist()
    assert len(rows) == 8
    assert len({row["text"] for row in rows}) == 8
    cost = 8 * (READ * 0.15 + WRITTEN_OUT * 1.25) / 1e6
    assert cost <= spent_at_most_usd(pace.ledger(study)) <= cost + 0.05  # ahead by a hundredth when it was killed
    forget()
    assert caption.plan(study).note == ""


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"backend": "tiny", "batch": "gs://bucket/folder"}, "backend tiny has no batch service here"),
        ({"backend": "gemini", "model": "m", "batch": "s3://bucket/folder"}, "no folder that Vertex AI can read"),
        ({"backend": "gemini", "model": "m", "batch": "/data/folder"}, "no folder that Vertex AI can read"),
        ({"backend": "gemini", "model": "m", "batch": "gs://"}, "no folder that Vertex AI can read"),
    ],
)
def test_a_folder_that_no_job_could_read_is_refused_at_once(section: dict[str, object], complaint: str) -> None:
    manifest = {"path": "ads.csv", "image": "ad", "target": "clicks"}
    for step in ("caption", "describe"):
        with pytest.raises(Fatal, match=complaint):
            check_study({"title": "Ads", "workspace": "out", "manifest": manifest, step: section})


def test_the_batch_service_is_in_no_tables_name(tmp_path: Path, servers: tuple[Stub, BatchStub]) -> None:
    online, by_batch = study_of(tmp_path, servers[0], None), study_of(tmp_path, servers[0], "gs://b/f")
    assert caption.config(online) == caption.config(by_batch)
