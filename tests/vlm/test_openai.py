"""OpenAI-compatible servers: one on the loopback that fails as it is told to."""

import json
import logging

import pytest

from seewhy import vlm
from seewhy.failure import Fatal
from seewhy.vlm.base import DEFAULT_PROMPT, Request
from seewhy.vlm.openai import OpenAIBackend, identity
from tests.vlm.gemini_stub import IMAGE_TOKENS, Stub, words_about
from tests.vlm.models import picture
from tests.vlm.openai_stub import KEY, openai_stub


@pytest.fixture
def stub():
    stub = openai_stub()
    yield stub
    stub.close()


@pytest.fixture
def made(stub: Stub):
    """Makes backends that ask the stub, and closes them."""
    backends = []

    def make(**options) -> OpenAIBackend:
        given = {"model": "m", "base_url": f"{stub.url}/v1", "backoff_sec": 0.01, "tries": 3}
        backends.append(OpenAIBackend(**{**given, **options}))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()


def ask(prompt: str, number: int = 0) -> Request:
    return Request(f"id-{number}", (picture(number, 40, 48),), prompt)


def test_answers_come_in_the_order_of_requests_and_leave_neighbours_alone(stub, made):
    requests = [ask(f"number {number}", number) for number in range(12)]
    stub.plan = {"number 3": ["500"], "number 7": ["refusal"]}
    answers = made().generate(requests)
    good = [answer for place, answer in enumerate(answers) if place != 7]
    expected = [words_about(list(request.images), request.prompt) for request in requests if request.id != "id-7"]
    assert [answer.text for answer in good] == expected
    assert answers[7].failure.reason == "answer_refused"
    assert {(answer.tokens_in, answer.tokens_out, answer.finish_reason) for answer in good} == {
        (IMAGE_TOKENS + 2, 3, "stop")
    }


# fault -> kind, reason, finish reason, tokens read and written
STANDS = {
    "filtered_prompt": ("rejected", "prompt_blocked_content_filter", None, None, None),
    "filtered_answer": ("rejected", "answer_blocked_content_filter", "content_filter", 262, 2),
    "refusal": ("rejected", "answer_refused", "stop", 262, 6),
    "tool": ("rejected", "answer_stopped_tool_calls", "tool_calls", 262, 0),
    "cut_before_text": ("rejected", "cut_before_text", "length", 262, 1000),
    "blank": ("rejected", "empty_answer", "stop", 262, 1),
    "400": ("bad_input", "http_400", None, None, None),
    "422": ("bad_input", "http_422", None, None, None),
}
PASSES = {
    "limited": ("http_429", None),
    "429_in_200": ("http_429", None),
    "500": ("http_500", None),
    "503_text": ("http_503", None),
    "503_in_200": ("http_503", None),
    "drop": ("disconnected", None),
    "half": ("incomplete_body", None),
    "page": ("malformed_answer", None),
    "not_json": ("malformed_answer", None),
    "not_text": ("malformed_answer", None),
    "nothing": ("malformed_answer", None),
    "list": ("malformed_answer", None),
    "no_message": ("malformed_answer", 262),
    "odd_content": ("malformed_answer", 262),
    "no_choices": ("no_candidates", 262),
    "unfinished": ("unfinished", 262),
}


@pytest.mark.parametrize("fault", STANDS)
def test_what_another_try_would_not_change_is_asked_once_and_has_its_own_reason(fault, stub, made):
    stub.plan = {"what": [fault] * 3}
    (answer,) = made().generate([ask("what")])
    kind, reason, finish, read, written = STANDS[fault]
    assert (answer.failure.kind, answer.failure.reason, answer.finish_reason) == (kind, reason, finish)
    assert (answer.tokens_in, answer.tokens_out) == (read, written)
    assert len(stub.calls) == 1


@pytest.mark.parametrize("fault", PASSES)
def test_what_may_pass_is_tried_until_it_does_and_every_try_is_counted(fault, stub, made):
    reason, read = PASSES[fault]
    stub.plan = {"what": [fault] * 3, "again": [fault]}
    lost, found = made().generate([ask("what"), ask("again", 1)])
    assert (lost.failure.kind, lost.failure.reason) == ("transient", reason)
    assert len(stub.asked("what")) == 3
    assert lost.tokens_in == (read and 3 * read)
    assert found.text == words_about([picture(1, 40, 48)], "again")
    assert found.tokens_in == (read or 0) + IMAGE_TOKENS + 1


def test_a_call_that_hangs_ends_at_its_limit(stub, made):
    stub.plan = {"what": ["hang"] * 9, "again": ["hang"]}
    lost, found = made(timeout_sec=1.5, tries=2).generate([ask("what"), ask("again", 1)])
    assert (lost.failure.kind, lost.failure.reason) == ("transient", "timeout")
    assert found.failure is None


def test_the_server_is_left_alone_for_as_long_as_it_asks(stub, made):
    stub.plan = {"what": ["limited_header"], "long": ["limited_long"]}
    backend = made()
    (answer,) = backend.generate([ask("what")])
    assert answer.failure is None
    assert stub.calls[1].at - stub.calls[0].at >= 1
    (answer,) = backend.generate([ask("long")])
    assert answer.failure.reason == "http_429"
    assert len(stub.asked("long")) == 1


def test_nobody_listens(made):
    (answer,) = made(base_url="http://127.0.0.1:9/v1").generate([ask("what")])
    assert (answer.failure.kind, answer.failure.reason) == ("transient", "connect_failed")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("401", "refuses the API key"),
        ("403", "refuses the API key"),
        ("404", "no model 'm'"),
        ("402", "no credit"),
        ("no_credit", "no credit"),
        ("redirect", "base_url"),
    ],
)
def test_what_no_row_is_to_blame_for_stops_the_job(fault, says, stub, made):
    stub.plan = {"what": [fault]}
    with pytest.raises(Fatal, match=says):
        made().generate([ask("what"), *(ask("other", number) for number in range(5))])


def test_the_key_goes_to_the_server_and_nowhere_else(stub, made, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SOME_KEY", KEY)
    backend = made(api_key_env="SOME_KEY")
    backend.generate([ask("what")])
    assert stub.calls[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(identity(model="m", base_url=stub.url, api_key_env="SOME_KEY"))
    stub.plan = {"what": ["401"]}  # a server that repeats the key
    with pytest.raises(Fatal, match="SOME_KEY") as caught:
        backend.generate([ask("what")])
    assert "provided: ***" in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text
    made().generate([ask("open")])
    assert "Authorization" not in stub.asked("open")[0].headers
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(Fatal, match="SOME_KEY"):
        made(api_key_env="SOME_KEY")


def test_texts_of_other_makes(stub, made):
    stub.plan = {fault: [fault] for fault in ("parts", "tgi", "no_usage", "cut")}
    parts, tgi, no_usage, cut = made().generate([ask(fault) for fault in stub.plan])
    assert [answer.text for answer in (parts, tgi, no_usage, cut)] == ["a dog", "a dog", "a dog", "a cut te"]
    assert [answer.finish_reason for answer in (parts, tgi, no_usage, cut)] == ["stop", "stop", "stop", "length"]
    assert no_usage.tokens_in is None


def test_a_broken_image_is_its_own_rows_fault(stub, made):
    whole = picture(1, 40, 48)
    rows = [whole[:60], b"words", whole, None]
    requests = [Request(f"{place}", () if row is None else (row,), "what") for place, row in enumerate(rows)]
    answers = made().generate(requests)
    assert [answer.failure and answer.failure.reason for answer in answers] == [
        "http_400",
        "not_an_image",
        None,
        "no_image",
    ]
    assert {answer.failure.kind for answer in answers if answer.failure} == {"bad_input"}


def test_what_is_asked_is_what_the_study_says(stub, made):
    made(
        temperature=0.5,
        top_p=0.9,
        max_new_tokens=77,
        seed=5,
        system_prompt="be plain",
        detail="low",
        limit="max_completion_tokens",
        body={"chat_template_kwargs": {"enable_thinking": False}},
    ).generate([Request("a", (picture(0, 40, 48), picture(1, 40, 48)), "what")])
    made(temperature=0).generate([ask("greedy")])
    body = stub.calls[0].body
    system, user = body.pop("messages")
    assert body == {
        "model": "m",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 77,
        "seed": 5,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert system == {"role": "system", "content": "be plain"}
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    assert user["content"][0]["image_url"]["detail"] == "low"
    assert user["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    greedy = stub.calls[1].body
    assert {name: greedy[name] for name in greedy if name != "messages"} == {
        "model": "m",
        "temperature": 0,
        "max_tokens": 1000,
    }
    assert len(greedy["messages"]) == 1


def test_its_identity_holds_what_changes_an_answer_and_nothing_else():
    given = {"model": "m", "base_url": "http://h:1/v1", "prompt": "what"}
    plain = identity(**given)
    for changed in (
        {"model": "n"},
        {"prompt": "who"},
        {"base_url": "http://other/v1"},
        {"revision": "sha"},
        {"temperature": 0.5},
        {"seed": 1},
        {"system_prompt": "x"},
        {"detail": "low"},
        {"body": {"min_p": 0.1}},
    ):
        assert identity(**{**given, **changed}) != plain, changed
    for same in ({"api_key_env": "X"}, {"concurrency": 3}, {"base_url": "http://h:1/v1/"}, {"body": {}}):
        assert identity(**{**given, **same}) == plain, same
    vouched = {**given, "revision": "sha"}
    assert identity(**{**vouched, "base_url": "http://other/v1"}) == identity(**vouched)
    assert all(isinstance(value, str | int | float | None) for value in plain.values())
    assert identity(model="m", base_url="http://h/v1")["prompt"] == DEFAULT_PROMPT
    assert vlm.identity("openai", "what", model="m", base_url="http://h:1/v1") == {"backend": "openai", **plain}


def test_settings_that_are_none_are_refused():
    for wrong, says in (
        ({"limit": "most"}, "most"),
        ({"body": {"model": "x"}}, "model"),
        ({"body": {"temperature": 1}}, "temperature"),
        ({"base_url": "h:1/v1"}, "no http"),
        ({"base_url": "http://u:hush@h/v1"}, "api_key_env"),
        ({"base_url": "http://h/v1?key=hush"}, "api_key_env"),
        ({"tries": 0}, "tries"),
    ):
        for made in (identity, OpenAIBackend):
            with pytest.raises(ValueError, match=says) as caught:
                made(**{"model": "m", "base_url": "http://h/v1", **wrong})
            assert "hush" not in str(caught.value)
