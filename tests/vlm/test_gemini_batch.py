"""Lines of requests and answers, and jobs by the real google-genai client against a server on the loopback."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.oauth2.credentials import Credentials

from seewhy.failure import Failure, Fatal
from seewhy.vlm.base import Media, Request
from seewhy.vlm.gemini import GeminiBackend
from seewhy.vlm.gemini_batch import BatchJobs, Job, Line, Output, frame, read_lines, request_line
from tests.vlm.batch_stub import BAD_REQUEST, OVERLOADED, BatchStub, Course, batch_stub, noise
from tests.vlm.gemini_stub import Stub, _camel, candidate

CLIP = Media("gs://bucket/clip", "video/mp4")


@pytest.fixture
def servers() -> Iterator[tuple[Stub, BatchStub]]:
    stub, batches = batch_stub()
    yield stub, batches
    stub.close()


def jobs_of(stub: Stub, **options: Any) -> BatchJobs:
    given = {"model": "gemini-stub", "project": "p", "location": "here", "base_url": stub.url}
    return BatchJobs(**{**given, "credentials": Credentials(token="fake"), **options})


def line_of(request: Request, **options: Any) -> Line:
    line = request_line(request, frame(**{"model": "m", **options}))
    assert isinstance(line, Line)
    return line


def read(line: Line) -> dict[str, Any]:
    assert line.text.endswith(b"\n")
    assert line.text.count(b"\n") == 1
    return json.loads(line.text)


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A request in one spelling, its images as their bytes' own base64."""
    body = _camel(body)
    for part in body["contents"][0]["parts"]:
        if "inlineData" in part:
            data = part["inlineData"]["data"].replace("+", "-").replace("/", "_")
            part["inlineData"]["data"] = base64.urlsafe_b64decode(data).hex()
    return body


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0, "max_new_tokens": 50},
        {
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 7,
            "system_prompt": "Be \N{LEFT DOUBLE QUOTATION MARK}brief\N{RIGHT DOUBLE QUOTATION MARK}.",
            "safety": "OFF",
            "media_resolution": "low",
            "thinking_budget": 0,
        },
    ],
)
def test_a_line_asks_what_an_online_call_asks(servers: tuple[Stub, BatchStub], options: dict[str, Any]) -> None:
    stub, _ = servers
    backend = GeminiBackend(
        model="m", project="p", location="here", base_url=stub.url, credentials=Credentials(token="t"), **options
    )
    for request in (
        Request("a1", (noise(0), noise(1)), "What?\nAnd 何?"),
        Request("a2", (CLIP, noise(2)), ""),
    ):
        assert backend.generate([request])[0].text
        made = read(line_of(request, project="p", concurrency=3, **options))
        assert made["key"] == request.id
        assert made["request"].pop("labels") == {"seewhy_row": request.id}
        assert plain(made["request"]) == plain(stub.calls[-1].body)
    backend.close()


def test_what_cannot_be_sent_is_told_at_once() -> None:
    cases = {
        "no_image": (),
        "html": (b"<html>",),
        "unknown_type": (Media("gs://bucket/x", "image/gif"),),
    }
    for reason, images in cases.items():
        failure = request_line(Request("a", images, "what"), frame(model="m"))
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.reason) == ("bad_input", reason)
    with pytest.raises(ValueError, match="top_p 2"):
        frame(model="m", top_p=2)


def test_the_tokens_of_a_job_are_guessed_from_its_pictures_and_words() -> None:
    images = (noise(0), noise(1))
    request = Request("a", images, "x" * 400)
    assert line_of(request).tokens_in == 2 * 1120 + 134  # a token for three letters, rather too many
    told = {"system_prompt": "y" * 50, "media_resolution": "low"}
    assert line_of(request, **told).tokens_in == 2 * 280 + 150


# Answers

REQUESTS = [Request(f"id-{number}", (noise(number),), "what") for number in range(4)]
LINES = {request.id: line_of(request) for request in REQUESTS}
ASKED = {key: line.digest for key, line in LINES.items()}


def answer(row: str, text: str | None = "yes", status: Any = "", **more: Any) -> dict[str, Any]:
    usage = {"promptTokenCount": 260, "candidatesTokenCount": 3}
    response = {"candidates": [candidate("STOP", text)], "usageMetadata": usage} if text is not None else {}
    return {**read(LINES[row]), "status": status, "response": response, **more}


def took(*lines: dict[str, Any] | bytes) -> Output:
    return read_lines([one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines], ASKED)


def test_answers_find_their_rows_in_any_order_by_key_label_or_what_was_asked() -> None:
    by_label = answer("id-1", "one")
    del by_label["key"], by_label["request"]["contents"]
    by_request = answer("id-2", "two", key=7)
    del by_request["request"]["labels"]
    # as the service might spell it: other alphabet, other names, other order of fields
    part = by_request["request"]["contents"][0]["parts"][0].pop("inlineData")
    data = part["data"].replace("+", "-").replace("/", "_").rstrip("=")
    by_request["request"]["contents"][0]["parts"][0]["inline_data"] = {"data": data, "mime_type": part["mimeType"]}
    output = took(answer("id-3", "three"), by_request, by_label, answer("id-0", "zero"))
    assert {key: one.text for key, one in output.answers.items()} == {
        "id-0": "zero",
        "id-1": "one",
        "id-2": "two",
        "id-3": "three",
    }
    assert {(one.tokens_in, one.tokens_out) for one in output.answers.values()} == {(260, 3)}
    assert (output.repeated, output.broken, output.foreign) == (0, 0, 0)


def test_rows_that_ask_the_same_thing_each_take_one_answer() -> None:
    twins = {"a": LINES["id-0"].digest, "b": LINES["id-0"].digest}
    line = answer("id-0", "x")
    del line["key"], line["request"]["labels"]
    texts = [json.dumps(line | {"response": {"candidates": [candidate("STOP", text)]}}).encode() for text in "xyz"]
    output = read_lines(texts, twins)
    assert {key: one.text for key, one in output.answers.items()} == {"a": "x", "b": "y"}
    assert output.repeated == 1


def test_lines_that_are_broken_or_nobodys_are_counted_and_take_nothing_away() -> None:
    nobody = answer("id-1", "?", key="id-9")
    nobody["request"] = {"contents": [{"parts": [{"text": "other"}]}]}
    whole = json.dumps(answer("id-2", "two")).encode()
    output = took(answer("id-0", "zero"), b"\n", nobody, b"[1]", b"7", b'"text"', {}, whole[: len(whole) // 2])
    assert list(output.answers) == ["id-0"]
    assert (output.repeated, output.broken, output.foreign) == (0, 1, 5)


def test_of_several_answers_the_best_stays_whatever_comes_first() -> None:
    passing, standing = answer("id-0", None, OVERLOADED), answer("id-0", None, BAD_REQUEST)
    good, other = answer("id-0", "good"), answer("id-0", "other")
    for lines in ((passing, standing, good, other), (good, other, standing, passing), (standing, good, passing, other)):
        output = took(*lines)
        assert output.answers["id-0"].text == "good"
        assert output.repeated == 3
    assert took(passing, standing).answers["id-0"].failure.kind == "bad_input"


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (BAD_REQUEST, "bad_input", "http_400"),
        (OVERLOADED, "transient", "http_503"),
        ({"code": 3, "message": "no such file"}, "bad_input", "http_400"),
        ({"code": 5, "message": "no such file"}, "bad_input", "http_404"),
        ({"code": 7}, "bad_input", "http_403"),
        ({"code": 8}, "transient", "http_429"),
        ({"code": 13}, "transient", "http_500"),
        ({"error": {"code": 14}}, "transient", "http_503"),
        ({"error": {"code": 429}}, "transient", "http_429"),
        ("INTERNAL: 400 {half", "transient", "batch_error"),
        ({"code": True}, "transient", "batch_error"),
        ({"code": 99999}, "transient", "batch_error"),
        ([1, 2], "transient", "batch_error"),
        ("Something happened.", "transient", "batch_error"),
    ],
)
def test_a_status_is_a_failure_by_its_code(status: Any, kind: str, reason: str) -> None:
    (found,) = took(answer("id-0", None, status)).answers.values()
    assert (found.failure.kind, found.failure.reason) == (kind, reason)
    assert found.failure.detail
    (same,) = took(answer("id-0", None, "", error=status)).answers.values()
    assert same.failure == found.failure


def test_a_line_without_status_and_response_is_malformed_and_a_block_is_rejected() -> None:
    empty, blocked = answer("id-0", None), answer("id-1", None)
    blocked["response"] = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}}
    nothing = answer("id-2", None)
    del nothing["response"]
    output = took(empty, blocked, nothing)
    reasons = {key: (one.failure.kind, one.failure.reason) for key, one in output.answers.items()}
    assert reasons == {
        "id-0": ("transient", "no_candidates"),
        "id-1": ("rejected", "prompt_blocked_safety"),
        "id-2": ("transient", "no_candidates"),
    }
    assert output.answers["id-1"].tokens_in == 9


# Jobs


def test_a_job_is_made_with_what_it_reads_and_where_it_writes(servers: tuple[Stub, BatchStub]) -> None:
    stub, batches = servers
    batches.courses = [Course(looks=None)]
    made = jobs_of(stub).create("seewhy-a", source="gs://b/in.jsonl", output="gs://b/out")
    assert isinstance(made, Job)
    assert (made.name, made.state, made.ended) == (
        "projects/p/locations/here/batchPredictionJobs/1000",
        "PENDING",
        False,
    )
    (asked,) = batches.jobs.values()
    assert asked["model"] == "publishers/google/models/gemini-stub"
    assert asked["inputConfig"] == {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://b/in.jsonl"]}}
    assert asked["outputConfig"] == {
        "predictionsFormat": "jsonl",
        "gcsDestination": {"outputUriPrefix": "gs://b/out"},
    }
    assert jobs_of(stub).get(made.name).state == "RUNNING"


def test_a_job_is_found_by_name_and_file_over_all_pages(servers: tuple[Stub, BatchStub]) -> None:
    stub, batches = servers
    batches.courses = [Course(looks=None)] * 6
    jobs = jobs_of(stub)
    first = jobs.create("seewhy-a", source="gs://b/in", output="gs://b/out")
    for source in ("gs://b/in", "gs://b/in", "gs://b/other", "gs://b/other"):
        jobs.create("seewhy-a", source=source, output="gs://b/out")
    jobs.create("seewhy-b", source="gs://b/in", output="gs://b/out")
    assert jobs.find("seewhy-a", source="gs://b/in").name == first.name  # the oldest
    assert batches.lists == 3
    assert jobs.find("seewhy-c", source="gs://b/in") is None
    assert jobs.find("seewhy-a", source="gs://b/third") is None


def test_what_may_pass_is_a_value_and_the_rest_stops(servers: tuple[Stub, BatchStub]) -> None:
    stub, batches = servers
    jobs = jobs_of(stub)
    batches.faults = ["429", "503", "400"]
    for reason in ("http_429", "http_503"):
        failure = jobs.create("seewhy-a", source="gs://b/in", output="gs://b/out")
        assert (failure.kind, failure.reason) == ("transient", reason)
    with pytest.raises(Fatal, match=r"'gemini-stub' in 'here' for project 'p': 400 INVALID_ARGUMENT: planned 400"):
        jobs.create("seewhy-a", source="gs://b/in", output="gs://b/out")
    assert jobs.get("projects/p/locations/here/batchPredictionJobs/77").state == "GONE"
    assert jobs_of(stub, base_url="http://127.0.0.1:9").get("77").reason == "disconnected"


def test_a_job_that_was_cancelled_tells_whether_by_somebody() -> None:
    assert Job("j", "CANCELLED", ran_sec=3600).was_stopped
    assert Job("j", "CANCELLED").was_stopped
    assert not Job("j", "CANCELLED", ran_sec=24 * 3600).was_stopped  # the service itself, after a day
    assert not Job("j", "FAILED", ran_sec=3600).was_stopped
