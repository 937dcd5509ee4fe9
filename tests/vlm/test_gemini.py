"""What is Gemini's own, through the real google-genai client; what it shares with others is in test_services.py."""

import base64
import io

import pytest
from google.oauth2.credentials import Credentials
from PIL import Image

from seewhy.failure import Fatal
from seewhy.vlm import gemini
from seewhy.vlm.base import DEFAULT_PROMPT, Media, Request
from seewhy.vlm.gemini import GeminiBackend, identity, read_response
from tests.vlm.gemini_stub import words_about
from tests.vlm.key_file import key_file
from tests.vlm.models import picture
from tests.vlm.services import ask


@pytest.fixture
def name() -> str:
    return "gemini"


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


def test_an_object_that_the_service_reads_itself_may_be_gone_or_closed(stub, made):
    stub.plan = {"gone": ["404"], "closed": ["403", "403"]}
    stored = Media("gs://b/x", "image/jpeg")
    first, second, third = made().generate(
        [Request(prompt, (stored,), prompt) for prompt in ("what", "gone", "closed")]
    )
    assert first.text == words_about([b"gs://b/x"], "what")
    assert (second.failure.kind, second.failure.reason) == ("bad_input", "http_404")
    assert (third.failure.kind, third.failure.reason, third.failure.detail) == (
        "bad_input",
        "http_403",
        "403 PERMISSION_DENIED: Permission denied.",
    )
    with pytest.raises(Fatal):
        made().generate([ask("closed")])  # of what is sent along there is nothing to be closed


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


@pytest.fixture
def account(stub, tmp_path, monkeypatch):
    key_file(tmp_path, stub, monkeypatch)


def test_application_default_credentials_bring_token_and_project(account, stub, made):
    (answer,) = made(credentials=None, project=None).generate([ask("what")])
    assert answer.failure is None
    assert stub.calls[0].headers["Authorization"] == "Bearer from-the-stub"
    assert "/projects/of-the-key/" in stub.calls[0].path
    assert stub.tokens_asked == 1


def test_credentials_that_were_revoked_stop_the_job(account, stub, made):
    stub.token_status = 400
    with pytest.raises(Fatal, match="give no token"):
        made(credentials=None).generate([ask("what", number) for number in range(3)])
    assert stub.calls == []


def test_no_credentials_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(Fatal, match="gcloud auth application-default login"):
        GeminiBackend(model="m", project="p")


# Identity


def test_one_threshold_stands_for_all_categories_in_any_spelling():
    all_off = dict.fromkeys(("HATE_SPEECH", "HARASSMENT", "DANGEROUS_CONTENT", "SEXUALLY_EXPLICIT"), "OFF")
    assert identity(model="m", safety="off") == identity(model="m", safety=all_off)
    assert identity(model="m")["prompt"] == DEFAULT_PROMPT


def test_settings_that_the_service_does_not_know_are_refused():
    for wrong, says in (
        ({"safety": "ALWAYS"}, "ALWAYS"),
        ({"safety": {"WEATHER": "OFF"}}, "WEATHER"),
        ({"media_resolution": "huge"}, "huge"),
    ):
        with pytest.raises(ValueError, match=says):
            identity(model="m", **wrong)
        with pytest.raises(ValueError, match=says):
            GeminiBackend(model="m", credentials=Credentials(token="x"), project="p", **wrong)


def test_videos_go_inline_and_by_uri_as_what_they_are(stub, made, monkeypatch):
    monkeypatch.setattr(gemini, "MOST_INLINE_BYTES", 10)
    shown = [
        Media(b"ten bytes.", "video/mp4", 2.0),
        Media("gs://b/clip", "video/webm", 2.0),
        Media("gs://b/poster", "image/png"),
        Media(b"eleven byte", "video/mp4", 2.0),
        Media(b"x", "video/x-matroska", 2.0),
        Media("gs://b/x", "image/gif"),
    ]
    answers = made().generate([Request(str(place), (one,), "what") for place, one in enumerate(shown)])
    assert [answer.failure and answer.failure.reason for answer in answers] == [
        None,
        None,
        None,
        "too_large_inline",
        "unknown_type",
        "unknown_type",
    ]
    parts = [call.body["contents"][0]["parts"][0] for call in stub.asked("what")]
    inline = [part["inlineData"] for part in parts if "inlineData" in part]
    assert [(one["mimeType"], base64.urlsafe_b64decode(one["data"])) for one in inline] == [
        ("video/mp4", b"ten bytes.")
    ]
    stored = {(part["fileData"]["fileUri"], part["fileData"]["mimeType"]) for part in parts if "fileData" in part}
    assert stored == {("gs://b/clip", "video/webm"), ("gs://b/poster", "image/png")}


class Noted:
    """A pace that lets everything begin, and writes down what it was told."""

    def __init__(self):
        self.tokens = []

    async def begin(self, tokens):
        self.tokens.append(tokens)

    async def end(self, outcome):
        pass


def test_what_one_video_came_to_says_nothing_of_the_next(made):
    """Each counts by its own length, with 2 tokens of prompt and 100 of the answer, whatever the stub counted."""
    noted = Noted()
    backend = made(pace=noted, concurrency=1, max_new_tokens=100)
    for seconds in (10.0, 1.0, 20.0):
        backend.generate([Request("a", (Media(b"x", "video/mp4", seconds),), "what")])
    assert noted.tokens == [3630 + 102, 660 + 102, 6930 + 102]
    backend.generate([ask("what")])
    assert noted.tokens[-1] == 1120 + 102
