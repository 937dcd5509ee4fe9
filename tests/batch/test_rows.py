"""Every row gets its own image's answer by the batch service, or the reason why it has none."""

from pathlib import Path

import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from seewhy.failure import Fatal
from seewhy.prices import format_usd
from seewhy.steps import batch
from seewhy.steps.shards import COLLECTED
from tests.batch.home import PRICE, READ, WRITTEN_OUT, Home, left_at_work, rows_asked
from tests.vlm.batch_stub import BAD_REQUEST, OVERLOADED, BatchStub, Course, _work
from tests.vlm.gemini_stub import Stub


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
    assert f"{10 * READ:,} tokens read, {10 * WRITTEN_OUT} written, {format_usd(cost)}" in home.said()
    # at most: 1120 tokens for the image and 4 for the words, read; 100 written
    assert f"for {format_usd(10 * (1124 * 1.0 + 100 * 4.0) / 1e6)} at most" in home.said()
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
    left_at_work(home, monkeypatch)
    _work(servers[1].jobs.pop("1000"), Course(unwritten=3))
    home.ask()
    assert rows_asked(servers[1]) == [3]
    assert "ended as GONE: 7 ok, 3 transient" in home.said()
    assert home.texts() == home.right()
