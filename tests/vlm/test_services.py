"""What every backend that asks a service does, against a server on the loopback that answers and fails as it does."""

import logging
import re
import time
from typing import Any

import pytest

from seewhy import vlm
from seewhy.failure import NOT_ASKED, Fatal
from seewhy.table import digest
from seewhy.vlm.base import Request
from tests.vlm.gemini_stub import IMAGE_TOKENS, words_about
from tests.vlm.models import picture
from tests.vlm.services import SERVICES, ask


def each(table: str) -> pytest.MarkDecorator:
    """Every entry of that table of every service."""
    pairs = [(name, key) for name, service in SERVICES.items() for key in getattr(service, table)]
    return pytest.mark.parametrize(("name", "fault"), pairs)


@pytest.fixture(params=SERVICES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_answers_come_in_the_order_of_requests_and_leave_neighbours_alone(name, stub, made):
    fault, reason = SERVICES[name].refusal
    requests = [ask(f"number {number}", number) for number in range(12)]
    stub.plan = {"number 3": ["500"], "number 7": [fault]}
    answers = made().generate(requests)
    good = [answer for place, answer in enumerate(answers) if place != 7]
    expected = [words_about(list(request.images), request.prompt) for request in requests if request.id != "id-7"]
    assert [answer.text for answer in good] == expected
    assert answers[7].failure.reason == reason
    # an image and two words read; a hash and two words written
    assert {(answer.tokens_in, answer.tokens_out, answer.finish_reason) for answer in good} == {
        (IMAGE_TOKENS + 2, 3, "stop")
    }
    assert len(stub.calls) == 13


def test_as_many_calls_as_allowed_are_in_flight(stub, made):
    stub.delay_sec = 0.3
    image = picture(0, 40, 48)
    answers = made(concurrency=64).generate([Request(str(number), (image,), "what") for number in range(256)])
    assert all(answer.failure is None for answer in answers)
    assert len(stub.calls) == 256
    assert 58 <= stub.most <= 64  # 90% of what is allowed, and never more


@each("stands")
def test_what_another_try_would_not_change_is_asked_once_and_has_its_own_reason(name, fault, stub, made):
    stub.plan = {"what": [fault] * 3}
    (answer,) = made().generate([ask("what")])
    kind, reason, finish, read, written = SERVICES[name].stands[fault]
    assert (answer.failure.kind, answer.failure.reason, answer.finish_reason) == (kind, reason, finish)
    assert (answer.tokens_in, answer.tokens_out) == (read, written)
    assert len(stub.calls) == 1


@each("passes")
def test_what_may_pass_is_tried_until_it_does_and_every_try_is_counted(name, fault, stub, made):
    reason, read = SERVICES[name].passes[fault]
    stub.plan = {"what": [fault] * 3, "again": [fault]}
    lost, found = made().generate([ask("what"), ask("again", 1)])
    assert (lost.failure.kind, lost.failure.reason) == ("transient", reason)
    assert lost.failure.detail.endswith("(tries: 3)")
    assert len(stub.asked("what")) == 3
    assert lost.tokens_in == (read and 3 * read)
    assert found.text == words_about([picture(1, 40, 48)], "again")
    assert len(stub.asked("again")) == 2
    assert found.tokens_in == (read or 0) + IMAGE_TOKENS + 1


def test_a_call_that_hangs_ends_at_its_limit_and_is_tried_again(stub, made):
    stub.plan = {"what": ["hang"] * 9, "again": ["hang"]}
    start = time.monotonic()
    lost, found = made(timeout_sec=1.5, tries=2).generate([ask("what"), ask("again", 1)])
    assert (lost.failure.kind, lost.failure.reason) == ("transient", "timeout")
    assert found.failure is None
    assert time.monotonic() - start >= 3
    assert len(stub.asked("what")) == 2


@each("waits")
def test_the_service_is_left_alone_for_as_long_as_it_asks(name, fault, stub, made):
    stub.plan = {"what": [fault]}
    (answer,) = made().generate([ask("what")])
    assert answer.failure is None
    first, second = stub.calls
    assert SERVICES[name].waits[fault] <= second.at - first.at < SERVICES[name].waits[fault] + 5


def test_a_wait_beyond_what_is_allowed_leaves_the_row_to_the_next_run(stub, made):
    stub.plan = {"what": ["limited_long"]}
    (answer,) = made(max_wait_sec=30).generate([ask("what")])
    assert (answer.failure.kind, answer.failure.reason) == ("transient", "http_429")
    assert len(stub.calls) == 1


def test_nobody_listens(name, made):
    (answer,) = made(**SERVICES[name].options("http://127.0.0.1:9")).generate([ask("what")])
    assert (answer.failure.kind, answer.failure.reason) == ("transient", "connect_failed")


@each("stops")
def test_what_no_row_is_to_blame_for_stops_the_job(name, fault, stub, made):
    stub.plan = {"what": [fault] * 2}
    backend = made()
    with pytest.raises(Fatal, match=SERVICES[name].stops[fault]):
        backend.generate([ask("what")])
    stub.delay_sec = 0.3
    stopped, *others = backend.generate([ask("what"), *(ask("other", number) for number in range(5))])
    assert (stopped.failure.kind, stopped.failure.reason) == ("transient", NOT_ASKED)
    assert re.search(SERVICES[name].stops[fault], stopped.failure.detail)
    assert all(answer.text for answer in others)  # they were under way, and are paid for


@each("texts")
def test_texts_and_what_they_cost(name, fault, stub, made):
    stub.plan = {"what": [fault]}
    (answer,) = made().generate([ask("what")])
    assert (answer.text, answer.finish_reason, answer.tokens_in, answer.tokens_out) == SERVICES[name].texts[fault]


def test_a_broken_image_is_its_own_rows_fault(stub, made):
    whole = picture(1, 40, 48)
    rows = [whole[:60], b"words", whole, None, b"", b"<html>"]
    requests = [Request(f"{place}", () if row is None else (row,), "what") for place, row in enumerate(rows)]
    answers = made().generate(requests)
    assert [answer.failure and (answer.failure.kind, answer.failure.reason) for answer in answers] == [
        ("bad_input", "http_400"),
        ("bad_input", "not_an_image"),
        None,
        ("bad_input", "no_image"),
        ("bad_input", "empty"),
        ("bad_input", "html"),
    ]
    assert len(stub.calls) == 2


def test_nothing_is_logged_of_what_is_asked(name, stub, made, caplog):
    caplog.set_level(logging.WARNING)
    stub.plan = {"what": ["500", SERVICES[name].refusal[0]]}
    made().generate([ask("what")])
    assert caplog.records == []


def test_its_identity_holds_what_changes_an_answer_and_nothing_else(name):
    service = SERVICES[name]

    def identity(**options: Any) -> dict[str, object]:
        prompt = options.pop("prompt", "what")
        return vlm.identity(name, prompt, **{**service.named, **options})

    decoding = [{"prompt": "who"}, {"temperature": 0.5}, {"top_p": 0.5}, {"max_new_tokens": 5}, {"seed": 1}]
    for changed in [*service.changes, *decoding]:
        assert identity(**changed) != identity(), changed
    for same in [*service.keeps, {"concurrency": 3, "timeout_sec": 9}]:
        assert identity(**same) == identity(), same


def test_tables_keep_their_names(name):
    """Another digest means that every caption of every study is asked, and paid, anew."""
    for options, known in SERVICES[name].digests:
        assert digest(vlm.identity(name, "what", **SERVICES[name].named, **options)) == known


def test_options_that_are_none_are_refused(name):
    named = SERVICES[name].named
    for wrong, says in (
        ({"concurrency": 0}, "concurrency is 0"),
        ({"tries": 0}, "tries is 0"),
        ({"timeout_sec": 0}, "timeout_sec is 0"),
        ({"max_wait_sec": -1}, "max_wait_sec is -1"),
        ({"temperature": -1}, "temperature -1"),
    ):
        with pytest.raises(ValueError, match=says):
            vlm.load(name, **named, **wrong)
        with pytest.raises(Fatal, match=says):
            vlm.identity(name, "what", **named, **wrong)
    with pytest.raises(TypeError, match=r"there is no option concurency; there are .*concurrency"):
        vlm.load(name, **named, concurency=3)
    with pytest.raises(Fatal, match=r"cannot be set up so: there is no option concurency"):
        vlm.identity(name, "what", **named, concurency=3)
    with pytest.raises(Fatal, match=r"the option model.* is missing"):
        vlm.identity(name, "what")
