"""Gemini through the real google-genai client, against a server on the loopback that speaks its REST endpoint."""

import base64
import io
import json
import logging
import time

import pytest
from google.oauth2.credentials import Credentials
from PIL import Image

from seewhy import vlm
from seewhy.failure import Fatal
from seewhy.vlm.base import DEFAULT_PROMPT, Request
from seewhy.vlm.gemini import GeminiBackend, identity, read_response
from tests.vlm.gemini_stub import IMAGE_TOKENS, Stub, gemini_stub, words_about
from tests.vlm.models import picture


@pytest.fixture
def stub():
    stub = gemini_stub()
    yield stub
    stub.close()


@pytest.fixture
def made(stub: Stub):
    """Makes backends that ask the stub, and closes them."""
    backends = []

    def make(**options) -> GeminiBackend:
        given = {"model": "gemini-stub", "project": "p", "location": "here", "base_url": stub.url, "backoff_sec": 0.01}
        backends.append(GeminiBackend(**{**given, "credentials": Credentials(token="fake"), "tries": 3, **options}))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()


def ask(prompt: str, number: int = 0) -> Request:
    return Request(f"id-{number}", (picture(number, 40, 48),), prompt)


def test_answers_come_in_the_order_of_requests_and_leave_neighbours_alone(stub, made):
    requests = [ask(f"number {number}", number) for number in range(12)]
    stub.plan = {"number 3": ["500"], "number 7": ["safety"]}
    answers = made().generate(requests)
    good = [answer for place, answer in enumerate(answers) if place != 7]
    expected = [words_about(list(request.images), request.prompt) for request in requests if request.id != "id-7"]
    assert [answer.text for answer in good] == expected
    assert answers[7].failure.reason == "answer_blocked_safety"
    # an image and two words read; a hash and two words written
    assert {(answer.tokens_in, answer.tokens_out, answer.finish_reason) for answer in good} == {
        (IMAGE_TOKENS + 2, 3, "stop")
    }
    assert len(stub.calls) == 13


# fault -> kind, reason, finish reason, tokens read and written by one try
STANDS = {
    "prompt_safety": ("rejected", "prompt_blocked_safety", "prompt_safety", 262, 0),
    "prompt_prohibited": ("rejected", "prompt_blocked_prohibited_content", "prompt_prohibited_content", 262, 0),
    "safety": ("rejected", "answer_blocked_safety", "safety", 262, 5),
    "safety_with_text": ("rejected", "answer_blocked_safety", "safety", 262, 0),
    "recitation": ("rejected", "answer_blocked_recitation", "recitation", 262, 9),
    "other": ("rejected", "answer_stopped_other", "other", 262, 0),
    "new_reason": ("rejected", "answer_stopped_moon_phase", "moon_phase", 262, 0),
    "max_tokens_thoughts": ("rejected", "cut_before_text", "length", 262, 1000),
    "blank": ("rejected", "empty_answer", "stop", 262, 0),
    "no_parts": ("rejected", "empty_answer", "stop", 262, 0),
    "400": ("bad_input", "http_400", None, None, None),
    "413": ("bad_input", "http_413", None, None, None),
}
PASSES = {
    "limited": ("http_429", None),
    "limited_odd": ("http_429", None),
    "500": ("http_500", None),
    "503": ("http_503", None),
    "502_page": ("http_502", None),
    "499": ("http_499", None),
    "503_not_json": ("malformed_answer", None),
    "drop": ("disconnected", None),
    "half": ("incomplete_body", None),
    "page": ("malformed_answer", None),
    "not_json": ("malformed_answer", None),
    "nothing": ("malformed_answer", None),
    "list": ("malformed_answer", None),
    "number": ("malformed_answer", None),
    "odd_types": ("malformed_answer", 262),
    "odd_parts": ("malformed_answer", None),
    "no_candidates": ("no_candidates", 262),
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


@pytest.mark.parametrize(("fault", "least"), [("limited_info", 0.4), ("limited_header", 1.0), ("limited_both", 1.0)])
def test_the_service_is_left_alone_for_as_long_as_it_asks(fault, least, stub, made):
    stub.plan = {"what": [fault]}
    (answer,) = made().generate([ask("what")])
    assert answer.failure is None
    first, second = stub.calls
    assert least <= second.at - first.at < least + 5


def test_a_wait_beyond_what_is_allowed_leaves_the_row_to_the_next_run(stub, made):
    stub.plan = {"what": ["limited_long"]}
    (answer,) = made(max_wait_sec=30).generate([ask("what")])
    assert (answer.failure.kind, answer.failure.reason) == ("transient", "http_429")
    assert len(stub.calls) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [("401", "Log in again"), ("403", "roles/aiplatform.user"), ("404", "gemini-stub"), ("400_project", "Billing")],
)
def test_what_no_row_is_to_blame_for_stops_the_job(fault, says, stub, made):
    stub.plan = {"what": [fault]}
    with pytest.raises(Fatal, match=says):
        made().generate([ask("what"), *(ask("other", number) for number in range(5))])


def test_text_and_thoughts(stub, made):
    stub.plan = {"think": ["thoughts"], "long": ["max_tokens_text"], "free": ["no_usage"]}
    think, long, free = made().generate([ask("think"), ask("long"), ask("free")])
    assert (think.text, think.finish_reason, think.tokens_in, think.tokens_out) == ("a dog", "stop", 262, 42)
    assert (long.text, long.finish_reason, long.tokens_out) == ("a cut te", "length", 3)
    assert (free.text, free.tokens_in, free.tokens_out) == ("a dog", None, None)


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


def test_what_is_asked_is_what_the_study_says(stub, made):
    made(
        temperature=0.5,
        top_p=0.9,
        max_new_tokens=77,
        seed=5,
        system_prompt="be plain",
        safety={"HARASSMENT": "BLOCK_NONE", "harm_category_hate_speech": "off"},
        media_resolution="low",
        thinking_budget=0,
    ).generate([Request("a", (picture(0, 40, 48), picture(1, 40, 48)), "what")])
    (call,) = stub.calls
    assert call.path == "/v1/projects/p/locations/here/publishers/google/models/gemini-stub:generateContent"
    assert call.headers["Authorization"] == "Bearer fake"
    kinds = [next(iter(part)) for part in call.body["contents"][0]["parts"]]
    assert kinds == ["inlineData", "inlineData", "text"]
    assert call.body["systemInstruction"]["parts"] == [{"text": "be plain"}]
    assert call.body["safetySettings"] == [
        {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"},
        {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "OFF"},
    ]
    assert call.body["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "maxOutputTokens": 77,
        "seed": 5,
        "candidateCount": 1,
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
        "thinkingConfig": {"thinkingBudget": 0},
    }


def test_greedy_sends_what_its_identity_holds(stub, made):
    made(temperature=0).generate([ask("what")])
    (call,) = stub.calls
    assert call.body["generationConfig"] == {"temperature": 0, "maxOutputTokens": 1000, "candidateCount": 1}
    assert "safetySettings" not in call.body


def test_a_gs_uri_is_named_and_not_read(stub, made):
    stub.plan = {"gone": ["404"]}
    requests = [Request("a", ("gs://b/x.JPG",), "what"), Request("b", ("gs://b/clip.mp4",), "what")]
    odd = [Request("c", (uri,), "what") for uri in ("gs://b/x.exe", "https://x/y.jpg")]
    first, second, *rest = made().generate([*requests, *odd, Request("d", ("gs://b/x.png",), "gone")])
    assert first.text == words_about([b"gs://b/x.JPG"], "what")
    assert second.failure is None
    assert [answer.failure.reason for answer in rest] == ["unknown_type", "unknown_type", "http_404"]
    assert {answer.failure.kind for answer in rest} == {"bad_input"}
    sent = {call.body["contents"][0]["parts"][0]["fileData"]["mimeType"] for call in stub.asked("what")}
    assert sent == {"image/jpeg", "video/mp4"}


def test_a_picture_that_lies_is_sent_upright_and_a_gif_as_png(stub, made):
    lying, gif = io.BytesIO(), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20), "red").save(lying, "JPEG", exif=exif)
    Image.new("RGB", (30, 20), "red").save(gif, "GIF")
    made().generate([Request("a", (lying.getvalue(), gif.getvalue()), "what")])
    sent = [part["inlineData"] for part in stub.calls[0].body["contents"][0]["parts"][:2]]
    assert [part["mimeType"] for part in sent] == ["image/jpeg", "image/png"]
    sizes = [Image.open(io.BytesIO(base64.urlsafe_b64decode(part["data"]))).size for part in sent]
    assert sizes == [(20, 30), (30, 20)]


def test_an_answer_is_read_the_same_from_a_batchs_line():
    answer = read_response({"candidates": [{"content": {"parts": [{"text": "a dog"}]}, "finishReason": "STOP"}]})
    assert answer.text == "a dog"


# Application default credentials, for real: a key file, and a token from the stub


@pytest.fixture
def key_file(stub, tmp_path, monkeypatch):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "of-the-key",
        "client_email": "a@b.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "token_uri": f"{stub.url}/token",
    }
    (tmp_path / "key.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)


def test_application_default_credentials_bring_token_and_project(key_file, stub, made):
    (answer,) = made(credentials=None, project=None).generate([ask("what")])
    assert answer.failure is None
    assert stub.calls[0].headers["Authorization"] == "Bearer from-the-stub"
    assert "/projects/of-the-key/" in stub.calls[0].path
    assert stub.tokens_asked == 1


def test_credentials_that_were_revoked_stop_the_job(key_file, stub, made):
    stub.token_status = 400
    with pytest.raises(Fatal, match="give no token"):
        made(credentials=None).generate([ask("what", number) for number in range(3)])
    assert stub.calls == []


def test_no_credentials_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(Fatal, match="gcloud auth application-default login"):
        GeminiBackend(model="m", project="p")


# Identity


def test_its_identity_holds_what_changes_an_answer_and_nothing_else():
    plain = identity(model="m", prompt="what")
    for changed in (
        {"model": "n"},
        {"prompt": "who"},
        {"location": "us-central1"},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"max_new_tokens": 5},
        {"seed": 1},
        {"safety": "OFF"},
        {"system_prompt": "x"},
        {"media_resolution": "low"},
        {"thinking_budget": 0},
    ):
        assert identity(**{"model": "m", "prompt": "what", **changed}) != plain, changed
    for same in ({"project": "p"}, {"base_url": "http://x"}, {"concurrency": 3, "timeout_sec": 9}, {"credentials": 1}):
        assert identity(model="m", prompt="what", **same) == plain, same
    assert all(isinstance(value, str | int | float | None) for value in plain.values())
    assert identity(model="m")["prompt"] == DEFAULT_PROMPT
    assert vlm.identity("gemini", "what", model="m") == {"backend": "gemini", **plain}
    all_off = dict.fromkeys(("HATE_SPEECH", "HARASSMENT", "DANGEROUS_CONTENT", "SEXUALLY_EXPLICIT"), "OFF")
    assert identity(model="m", safety="off") == identity(model="m", safety=all_off)


def test_settings_that_are_none_are_refused():
    for wrong, says in (
        ({"safety": "ALWAYS"}, "ALWAYS"),
        ({"safety": {"WEATHER": "OFF"}}, "WEATHER"),
        ({"media_resolution": "huge"}, "huge"),
        ({"concurrency": 0}, "concurrency"),
        ({"temperature": -1}, "temperature"),
    ):
        with pytest.raises(ValueError, match=says):
            identity(model="m", **wrong)
        with pytest.raises(ValueError, match=says):
            GeminiBackend(model="m", credentials=Credentials(token="x"), project="p", **wrong)
    with pytest.raises(TypeError, match="concurency"):
        identity(model="m", concurency=3)


def test_nothing_is_logged_of_what_is_asked(stub, made, caplog):
    caplog.set_level(logging.WARNING)
    stub.plan = {"what": ["500", "new_reason"]}
    made().generate([ask("what")])
    assert caplog.records == []
