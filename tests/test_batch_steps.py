"""Rows through the batch service into a table: nothing lost, nothing doubled, nothing paid twice, whatever goes wrong.

The service is a server on the loopback that reads and writes files in an emulated bucket; the client is Google's own.
"""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials
from PIL import Image

from seewhy import schema, storage
from seewhy.caption import Caption, CaptionRequests
from seewhy.describe import Describe, DescribeRequests
from seewhy.failure import Fatal
from seewhy.prices import Budget, Price
from seewhy.progress import Counter, Reporter
from seewhy.quota.ledger import spent_at_most_usd
from seewhy.run import Source, Stored, read_block
from seewhy.steps import batch, caption, describe, pace, vision
from seewhy.steps.batch import Asker
from seewhy.steps.once import forget
from seewhy.steps.order import run_study
from seewhy.steps.shards import ASKING, COLLECTED, MADE, WRITTEN, Shard, Writing, open_shards, save
from seewhy.steps.vision import Asking
from seewhy.study import Study, check_study, load_study
from seewhy.table import Table, digest, missing_rows
from seewhy.vlm import gemini_batch
from seewhy.vlm.gemini_batch import BatchJobs
from tests.vlm.batch_stub import BAD_REQUEST, OVERLOADED, BatchStub, Course, _work, batch_stub, noise
from tests.vlm.gemini_stub import IMAGE_TOKENS, Stub, words_about

PROMPT = "What is it?"
PRICE = Price(usd_in=1.0, usd_out=4.0)
READ, WRITTEN_OUT = IMAGE_TOKENS + 3, 4  # an image and three words in; its hash and those words out


@pytest.fixture
def servers() -> Iterator[tuple[Stub, BatchStub]]:
    stub, batches = batch_stub()
    yield stub, batches
    stub.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "POLL_SEC", 0.01)
    monkeypatch.setattr(batch, "SETTLE_SEC", 0.05)


class Home:
    """Rows, their table, and the service; every asker is a new driver, as after a kill."""

    def __init__(self, tmp_path: Path, bucket: str, stub: Stub, *, rows: int = 10, lost: int = 0) -> None:
        self.images = {digest(number): noise(number) for number in range(rows)}
        images = Table(
            str(tmp_path / "images"), pa.schema([("id", pa.string()), ("image", pa.binary()), *schema.FAILURE_FIELDS])
        )
        stored = [b"<html>" if place < lost else one for place, one in enumerate(self.images.values())]
        ok = [None] * rows
        part = {"id": list(self.images), "image": stored, "error_kind": ok, "reason": ok, "detail": ok}
        images.append(pa.table(part, schema=images.schema), generation=1)
        keys = images.index().select(["id", "part", "position"])
        self.source = Source(keys, (Stored(tuple(images.parts()), {"image": "image"}),))
        self.table = Table(str(tmp_path / "caption" / "t1"), schema.CAPTIONS)
        self.folder = f"{bucket}/{tmp_path.name}"
        self.stream = io.StringIO()
        self.options = {"model": "m", "project": "p", "location": "here", "base_url": stub.url}

    def ask(
        self,
        *,
        bytes_a_job: int = 10**9,
        requests: Any = CaptionRequests,
        requests_args: dict[str, Any] | None = None,
        project: str = "p",
        **more: Any,
    ) -> Counter:
        writing = Writing(
            source=Source(self.source.keys.schema.empty_table(), self.source.stored),
            table=self.table,
            requests=requests,
            requests_args=requests_args or {"prompt": PROMPT},
            shared=gemini_batch.frame(model="m", max_new_tokens=100),
            folder=self.folder,
            rows_per_block=4,
            bytes_a_job=bytes_a_job,
        )
        jobs = BatchJobs(**{**self.options, "project": project}, credentials=Credentials(token="fake"))
        counter = Counter("caption", len(self.images), "rows")
        asker = Asker("caption", Reporter(stream=self.stream), jobs=jobs, writing=writing, **more)
        asker.answer(missing_rows(self.source.keys, self.table.done_ids()), counter)
        return counter

    def texts(self) -> dict[str, str]:
        rows = self.table.read(["id", "text"]).to_pylist()
        assert len({row["id"] for row in rows}) == len(rows)
        return {row["id"]: row["text"] for row in rows}

    def right(self) -> dict[str, str]:
        return {key: words_about([image], PROMPT) for key, image in self.images.items()}

    def outcomes(self) -> dict[str, int]:
        counts = self.table.counts(self.source.keys["id"])
        return {"ok": counts.ok, "missing": counts.missing, **counts.reasons}

    def said(self) -> str:
        return self.stream.getvalue()

    def records(self) -> list[dict[str, Any]]:
        folder = f"{self.table.url}/_batch"
        return [storage.read_json(f"{folder}/{name}") for name in storage.list_files(folder) if name.endswith(".json")]


@pytest.fixture
def home(tmp_path: Path, bucket: str, servers: tuple[Stub, BatchStub]) -> Home:
    return Home(tmp_path, bucket, servers[0])


def test_a_job_with_a_long_request_sets_aside_the_price_of_long_ones(home: Home) -> None:
    """250,000 and 50,000 tokens read: 0.25 x 2 + 0.05 x 1 USD, and 100 written each. Their mean is not long, yet what
    is set aside covers it: 2 x (0.15 x 2 + 0.0001 x 15)."""
    price = Price(1.0, 10.0, 2.0, 15.0)
    writing = Writing(
        source=home.source,
        table=home.table,
        requests=CaptionRequests,
        requests_args={},
        shared=gemini_batch.frame(model="m", max_new_tokens=100),
        folder=home.folder,
        rows_per_block=1,
        bytes_a_job=1,
    )
    jobs = BatchJobs(**home.options, credentials=Credentials(token="fake"))
    asker = Asker("caption", Reporter(quiet=True), jobs=jobs, writing=writing, price=price)
    job = Shard("a", "gs://b/in", "gs://b/out", rows=2, size_bytes=1, tokens_in=300_000, longest_in=250_000)
    most = asker._most_usd(job)
    assert most == pytest.approx(2 * (0.15 * 2 + 0.0001 * 15))
    assert most > price.cost_usd(250_000, 100) + price.cost_usd(50_000, 100)
    short = asker._most_usd(replace(job, longest_in=160_000))
    assert short == pytest.approx(2 * (0.15 * 1 + 0.0001 * 10))


class Interrupt(BaseException):
    """A kill that a test can see."""


def interrupted(*_: Any, **__: Any) -> Any:
    raise Interrupt


def rows_asked(batches: BatchStub) -> list[int]:
    files = [job["inputConfig"]["gcsSource"]["uris"][0] for job in batches.jobs.values()]
    return [len(storage.read_whole(url).splitlines()) for url in files]


def test_every_row_gets_its_own_images_answer(home: Home, servers: tuple[Stub, BatchStub]) -> None:
    """The output comes shuffled in two files, so answers cannot be matched by order."""
    counter = home.ask(price=PRICE)
    assert home.texts() == home.right()
    assert counter.outcomes == {"ok": 10, "rejected": 0, "bad_input": 0}
    assert rows_asked(servers[1]) == [10]
    (record,) = home.records()
    assert record["state"] == COLLECTED
    assert record["ended"]["counts"]["ok"] == 10
    assert record["ended"]["tokens_in"] == 10 * READ
    cost = 10 * (READ * 1.0 + WRITTEN_OUT * 4.0) / 1e6
    assert record["ended"]["usd"] == pytest.approx(cost)
    assert f"{10 * READ:,} tokens read, {10 * WRITTEN_OUT} written, {cost:.6f} USD" in home.said()
    # at most: 1100 tokens for the image and 2 for the words, read; 100 written
    assert f"for {10 * (1102 * 1.0 + 100 * 4.0) / 1e6:.6f} USD at most" in home.said()
    home.ask()
    assert len(servers[1].jobs) == 1
    row = home.table.read().to_pylist()[0]
    assert (row["finish_reason"], row["tokens_in"], row["tokens_out"]) == ("stop", READ, WRITTEN_OUT)


def test_a_large_table_is_several_jobs_of_files_below_the_limit(home: Home, servers: tuple[Stub, BatchStub]) -> None:
    home.ask(bytes_a_job=40_000)
    asked = rows_asked(servers[1])
    assert len(asked) > 1
    assert sum(asked) == 10
    sizes = [record["size_bytes"] for record in home.records()]
    assert max(sizes) <= 40_000
    assert sorted(sizes)[1] + min(sizes) > 40_000  # none that would have fitted into another
    assert home.texts() == home.right()


def test_rows_are_cut_into_jobs_by_number_too(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "ROWS_A_JOB", 4)
    monkeypatch.setattr(batch, "ROWS_A_PART", 3)
    home.ask()
    assert rows_asked(servers[1]) == [4, 4, 2]
    assert len(home.table.parts()) == 2 + 2 + 1
    assert home.texts() == home.right()


def test_an_image_that_cannot_be_sent_is_no_part_of_a_job(
    tmp_path: Path, bucket: str, servers: tuple[Stub, BatchStub]
) -> None:
    home = Home(tmp_path, bucket, servers[0], lost=3)
    counter = home.ask()
    assert home.outcomes() == {"ok": 7, "missing": 0, "bad_input/html": 3}
    assert counter.outcomes["bad_input"] == 3
    assert rows_asked(servers[1]) == [7]
    nothing = Home(tmp_path / "all", bucket, servers[0], lost=10)
    nothing.ask()
    assert nothing.outcomes() == {"ok": 0, "missing": 0, "bad_input/html": 10}
    assert len(servers[1].jobs) == 1


def test_a_success_with_failed_missing_doubled_and_broken_rows_is_found_out(
    home: Home, servers: tuple[Stub, BatchStub]
) -> None:
    servers[1].courses = [
        Course(failing=[BAD_REQUEST, OVERLOADED], answers=["safety"], unwritten=2, repeated=2, cut=True)
    ]
    counter = home.ask()
    # Of ten: one cannot be read, one is blocked; an outage, two without a line and that of half a line are asked again.
    assert rows_asked(servers[1])[0] == 10
    assert rows_asked(servers[1])[1:] in ([3], [4])  # the half line may be of a row that has another
    assert home.outcomes() == {
        "ok": 8,
        "missing": 0,
        "bad_input/http_400": 1,
        "rejected/answer_blocked_safety": 1,
    }
    assert home.texts().items() <= home.right().items()
    assert counter.outcomes == {"ok": 8, "bad_input": 1, "rejected": 1}
    assert "ended as SUCCEEDED after 1h00m" in home.said()
    assert "1 lines that are not whole" in home.said()
    assert "rows are asked again (round 2 of 3)" in home.said()


@pytest.mark.parametrize("forgets", [["key"], ["key", "labels"]])
def test_answers_find_their_rows_without_the_key(home: Home, servers: tuple[Stub, BatchStub], forgets: list) -> None:
    servers[1].courses = [Course(forgets=forgets)]
    home.ask()
    assert home.texts() == home.right()
    assert len(servers[1].jobs) == 1


@pytest.mark.parametrize(("state", "code"), [("FAILED", 13), ("FAILED", None), ("EXPIRED", None)])
def test_what_a_failed_job_answered_is_kept_and_the_rest_asked_again(
    home: Home, servers: tuple[Stub, BatchStub], state: str, code: int | None
) -> None:
    servers[1].courses = [Course(state=state, code=code, message="Internal error.", unwritten=6)]
    home.ask()
    assert rows_asked(servers[1]) == [10, 6]
    assert home.texts() == home.right()
    assert f"ended as {state} after 1h00m: 4 ok, 6 transient" in home.said()


def test_rows_that_never_come_are_transient_after_some_rounds(home: Home, servers: tuple[Stub, BatchStub]) -> None:
    servers[1].courses = [Course(unwritten=2)] * 3
    counter = home.ask()
    assert rows_asked(servers[1]) == [10, 2, 2]
    assert home.outcomes() == {"ok": 8, "missing": 0, "transient/unanswered": 2}
    assert counter.outcomes == {"ok": 8, "rejected": 0, "bad_input": 0, "transient": 2}
    home.ask()  # another run
    assert rows_asked(servers[1]) == [10, 2, 2, 2]
    assert home.texts() == home.right()


@pytest.mark.parametrize(
    ("course", "complaint"),
    [
        (Course(state="CANCELLED", unwritten=6, hours=2), "was cancelled, and no more are made"),
        (
            Course(state="FAILED", code=7, message="No access to the bucket.", unwritten=6),
            "403 No access to the bucket",
        ),
    ],
)
def test_a_job_that_another_could_not_better_ends_the_run_with_what_it_answered(
    home: Home, servers: tuple[Stub, BatchStub], course: Course, complaint: str
) -> None:
    servers[1].courses = [course]
    with pytest.raises(Fatal, match=complaint):
        home.ask()
    assert home.outcomes() == {"ok": 4, "missing": 0, "transient/unanswered": 6}
    home.ask()
    assert rows_asked(servers[1]) == [10, 6]
    assert home.texts() == home.right()


def test_a_job_that_somebody_cancels_while_it_runs_ends_the_run(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers[1].courses = [Course(looks=None)]
    console = genai.Client(
        vertexai=True,
        project="p",
        location="here",
        credentials=Credentials(token="fake"),
        http_options=types.HttpOptions(base_url=servers[0].url, api_version="v1"),
    )
    monkeypatch.setattr(batch.time, "sleep", lambda _: console.batches.cancel(name="1000"))
    with pytest.raises(Fatal, match="batchPredictionJobs/1000 was cancelled"):
        home.ask()
    assert home.outcomes() == {"ok": 9, "missing": 0, "transient/unanswered": 1}


def test_a_job_that_the_service_stopped_after_a_day_goes_on_in_another(
    home: Home, servers: tuple[Stub, BatchStub]
) -> None:
    servers[1].courses = [Course(state="CANCELLED", unwritten=6, hours=24)]
    home.ask()
    assert rows_asked(servers[1]) == [10, 6]


def test_a_job_that_somebody_deleted_still_gives_what_it_wrote(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BatchJobs, "get", interrupted)
        with pytest.raises(Interrupt):
            home.ask()
    _work(servers[1].jobs.pop("1000"), Course(unwritten=3))
    home.ask()
    assert rows_asked(servers[1]) == [3]
    assert "ended as GONE: 7 ok, 3 transient" in home.said()
    assert home.texts() == home.right()


# Making jobs


def test_a_job_that_was_made_though_the_call_failed_is_not_made_again(
    home: Home, servers: tuple[Stub, BatchStub]
) -> None:
    servers[1].faults = ["made_503"]
    home.ask()
    assert rows_asked(servers[1]) == [10]
    assert home.texts() == home.right()


def test_a_job_that_was_not_made_is_asked_for_again_once_it_cannot_come_any_more(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "SETTLE_SEC", 0.5)
    servers[1].faults = ["503", "503"]
    start = time.monotonic()
    home.ask()
    assert time.monotonic() - start >= 1.0
    assert rows_asked(servers[1]) == [10]
    assert servers[1].lists > 2


def test_a_refusal_for_now_waits_for_room_and_one_for_good_stops(home: Home, servers: tuple[Stub, BatchStub]) -> None:
    servers[1].faults = ["429", "429", "400"]
    with pytest.raises(Fatal, match="planned 400"):
        home.ask()
    assert [shard.state for shard in open_shards(home.table)] == [WRITTEN]
    assert servers[1].lists == 0  # nobody can have made one
    home.ask()  # with the file that is there
    assert rows_asked(servers[1]) == [10]
    assert len(home.records()) == 1


def test_an_outage_is_waited_out_and_a_long_one_ends_the_run(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers[1].outages = 5
    servers[1].courses = [Course(looks=3)]
    home.ask()
    assert home.said().count("batchPredictionJobs/1000 is RUNNING") == 1
    assert home.texts() == home.right()
    monkeypatch.setattr(batch, "GIVE_UP_SEC", 0.2)
    other = Home(Path(home.table.url).parents[1] / "other", home.folder, servers[0])
    servers[1].outages = 10**6
    with pytest.raises(Fatal, match=r"Vertex AI has done nothing for 0s: 503 UNAVAILABLE: planned 503"):
        other.ask()
    servers[1].outages = 0
    other.ask()
    assert rows_asked(servers[1]) == [10, 10]
    assert other.texts() == other.right()


# A driver that is killed


@pytest.mark.parametrize("place", ["before_create", "after_create", "while_polling", "after_commit"])
def test_a_driver_that_is_stopped_anywhere_goes_on_without_a_second_job(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def uncollected(table: Table, shard: Shard) -> None:
        if shard.state != COLLECTED:
            save(table, shard)

    with monkeypatch.context() as patch:
        if place == "before_create":
            patch.setattr(BatchJobs, "create", interrupted)
        elif place == "after_create":
            patch.setattr(Asker, "_made", interrupted)
        elif place == "while_polling":
            patch.setattr(BatchJobs, "get", interrupted)
        else:
            patch.setattr(Asker, "_tell", interrupted)
            patch.setattr(batch, "save", uncollected)
        with pytest.raises(Interrupt):
            home.ask()
    (shard,) = open_shards(home.table)
    assert shard.state == (ASKING if place in ("before_create", "after_create") else MADE)
    home.ask()
    assert rows_asked(servers[1]) == [10]
    assert home.texts() == home.right()
    assert "an earlier run left 1 files of 10 rows; jobs were asked for of 1" in home.said()
    assert open_shards(home.table) == []


def test_a_kill_amid_files_and_jobs_costs_nothing_twice(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five jobs the second is never made, as the driver dies; the files of all are used by the next."""
    monkeypatch.setattr(batch, "ROWS_A_JOB", 2)
    make = BatchJobs.create
    with monkeypatch.context() as patch:
        patch.setattr(
            BatchJobs, "create", lambda self, *a, **k: interrupted() if servers[1].jobs else make(self, *a, **k)
        )
        with pytest.raises(Interrupt):
            home.ask()
    assert sorted(shard.state for shard in open_shards(home.table)) == [ASKING, MADE, WRITTEN, WRITTEN, WRITTEN]
    home.ask()
    assert rows_asked(servers[1]) == [2] * 5
    assert len(home.records()) == 5
    assert home.texts() == home.right()


def test_rows_that_were_answered_online_meanwhile_are_not_asked_and_not_overwritten(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "ROWS_A_JOB", 5)
    with monkeypatch.context() as patch:
        patch.setattr(Asker, "_has_room", lambda self, shard: len(servers[1].jobs) < 1 or interrupted())
        with pytest.raises(Interrupt):
            home.ask()
    assert sorted(shard.state for shard in open_shards(home.table)) == [MADE, WRITTEN]
    first, *_, last = home.images  # one of the job that runs, one of the file that waits
    ok = {name: [None, None] for name in home.table.schema.names}
    home.table.append(
        pa.table(ok | {"id": [first, last], "text": ["online"] * 2}, schema=home.table.schema), generation=9
    )
    home.ask()
    assert sorted(rows_asked(servers[1])) == [4, 5]  # the waiting file held `last` too, so a new one was written
    assert home.texts() == home.right() | {first: "online", last: "online"}


def test_a_job_of_another_project_is_waited_for_there(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BatchJobs, "get", interrupted)
        with pytest.raises(Interrupt):
            home.ask()
    with pytest.raises(Fatal, match="was made in project 'p' and not in 'q'"):
        home.ask(project="q")
    home.ask()
    assert rows_asked(servers[1]) == [10]


# Money


def test_a_job_that_the_budget_has_no_room_for_is_not_made(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows a job, 0.003004 USD at most each; the first two fit, and cost less once they have ended."""
    monkeypatch.setattr(batch, "ROWS_A_JOB", 2)
    most, cost = 2 * (1102 + 4 * 100) / 1e6, 2 * (READ + 4 * WRITTEN_OUT) / 1e6
    budget = Budget(cap_usd=2.5 * most)
    with pytest.raises(Fatal, match="the budget is used up"):
        home.ask(price=PRICE, purse=budget)
    assert rows_asked(servers[1]) == [2, 2]
    assert home.outcomes() == {"ok": 4, "missing": 6}
    assert budget.spent_usd == pytest.approx(2 * cost)
    assert budget.in_flight_usd == 0
    home.ask(price=PRICE, purse=Budget(cap_usd=1.0, spent_usd=budget.spent_usd))
    assert rows_asked(servers[1]) == [2] * 5
    assert len(home.records()) == 5
    assert home.texts() == home.right()


def test_a_budget_without_a_price_makes_no_job(home: Home, servers: tuple[Stub, BatchStub]) -> None:
    with pytest.raises(Fatal, match="a budget needs the price"):
        home.ask(purse=Budget(cap_usd=1e9))
    assert servers[1].jobs == {}


def test_a_job_that_a_killed_driver_left_still_counts(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BatchJobs, "get", interrupted)
        with pytest.raises(Interrupt):
            home.ask(price=PRICE, purse=Budget(cap_usd=1.0))
    budget = Budget(cap_usd=1.0)
    home.ask(price=PRICE, purse=budget)
    assert budget.spent_usd == pytest.approx(10 * (READ + 4 * WRITTEN_OUT) / 1e6)


# Descriptions


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
        study, Reporter(quiet=True), Asking("describe", study.describe, Describe, arguments, nothing, table, {})
    )
    shown, told = asked_for["requests_args"], asked_for["options"]
    assert told == {"model": "m", "location": "here", "tries": 2, "temperature": 0.5, "seed": 0}
    assert (shown["size_px"], shown["stitched"], shown["classes"]) == (512, True, ["Akai", "Aoi"])
    assert asked_for["requests"] is DescribeRequests
    DescribeRequests(**shown)
    assert gemini_batch.frame(**told)["generationConfig"]["temperature"] == 0.5


# A study


def key_file(home: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Application default credentials whose tokens the stub gives."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "of-the-key",
        "client_email": "a@b.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "token_uri": f"{stub.url}/token",
    }
    (home / "key.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(home / "key.json"))


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
    assert f"{5 * READ:,} tokens read, {5 * WRITTEN_OUT} written, {cost:.6f} USD" in stream.getvalue()
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
from seewhy.run import connect
from seewhy.steps import batch
from seewhy.steps.order import run_study
from seewhy.study import load_study
batch.POLL_SEC, batch.SETTLE_SEC = 0.05, 0.2
connect(num_cpus=2, object_store_bytes=100_000_000)
run_study(load_study(sys.argv[1]), Reporter(), until="caption")
"""


@pytest.mark.ray
@pytest.mark.parametrize("fault", [None, "made_hang"])
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
