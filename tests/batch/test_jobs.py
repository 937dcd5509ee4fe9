"""Jobs are made, watched and found again: none lost, none made twice, wherever a driver dies."""

import time
from pathlib import Path

import pyarrow as pa
import pytest

from seewhy.failure import Fatal
from seewhy.steps import batch
from seewhy.steps.batch import Asker
from seewhy.steps.shards import ASKING, COLLECTED, MADE, WRITTEN, Shard, open_shards, save
from seewhy.table import Table
from seewhy.vlm.gemini_batch import BatchJobs
from tests.batch.home import Home, Interrupt, interrupted, left_at_work, rows_asked
from tests.vlm.batch_stub import BatchStub, Course
from tests.vlm.gemini_stub import Stub


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


def test_a_job_that_never_ends_ends_the_run(
    home: Home, servers: tuple[Stub, BatchStub], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers[1].courses = [Course(looks=None)]
    with monkeypatch.context() as patch:
        patch.setattr(batch, "LONGEST_JOB_SEC", 0.5)
        with pytest.raises(Fatal, match=r"batchPredictionJobs/1000 has not ended in .*: look at it"):
            home.ask()
    servers[1].jobs["1000"]["course"] = Course()
    home.ask()
    assert rows_asked(servers[1]) == [10]
    assert home.texts() == home.right()


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
    left_at_work(home, monkeypatch)
    with pytest.raises(Fatal, match="was made in project 'p' and not in 'q'"):
        home.ask(project="q")
    home.ask()
    assert rows_asked(servers[1]) == [10]
