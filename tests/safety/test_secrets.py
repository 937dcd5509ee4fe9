"""Keys and tokens are in no answer and no message, though the service that is asked tells them to everybody."""

import base64
import json
from urllib.parse import quote

import pytest

from seewhy.failure import Fatal
from seewhy.hiding import HIDDEN, shown, told, without
from seewhy.vlm.openai import OpenAIBackend
from seewhy.vlm.openai import identity as openai_identity
from tests.safety.leaking_service import FAULTS, KEY, KEY_OF_A_FILE, OTHERS, holding, leaking_stub
from tests.vlm.services import ask


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_service_says_of_a_key_is_left_out(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Wherever a message is cut: half a key is a secret too."""
    monkeypatch.setenv("THE_KEY", KEY)
    stub = leaking_stub([fault])
    backend = OpenAIBackend(model="m", base_url=f"{stub.url}/v1", api_key_env="THE_KEY", tries=1)
    try:
        (answer,) = backend.generate([ask("What is it?")])
        said = repr(answer)
    except Fatal as stopped:
        said = str(stopped)
    finally:
        backend.close()
        stub.close()
    assert holding(said, [KEY]) == []
    assert KEY[:12] not in said
    assert any(f"Bearer {KEY}" in value for call in stub.calls for value in call.headers.values())  # it was sent


def test_an_answer_with_the_key_in_it_is_stored_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    stub = leaking_stub([])
    backend = OpenAIBackend(model="m", base_url=f"{stub.url}/v1", api_key_env="THE_KEY", tries=1)
    (answer,) = backend.generate([ask("What is it?")])
    backend.close()
    monkeypatch.setenv("THE_KEY", "dark")  # short: a word of many captions, which stays
    backend = OpenAIBackend(model="m", base_url=f"{stub.url}/v1", api_key_env="THE_KEY", tries=1)
    (short,) = backend.generate([ask("What is it?")])
    backend.close()
    stub.close()
    assert answer.text == f"a neon sign that says {HIDDEN} in the 1 dark"
    assert short.text is not None
    assert short.text.endswith("dark")


@pytest.mark.parametrize("secret", [KEY, *OTHERS.values(), KEY_OF_A_FILE])
def test_every_spelling_is_found(secret: str) -> None:
    for before in ("", "u:", "xyz", "Bearer "):
        for after in ("", "\n", "abc", "}"):
            for spelt in (
                f"{before}{secret}{after}",
                base64.b64encode(f"{before}{secret}{after}".encode()).decode(),
                base64.urlsafe_b64encode(f"{before}{secret}{after}".encode()).decode(),
                quote(f"{before}{secret}{after}", safe=""),
                json.dumps(f"{before}{secret}{after}"),
            ):
                left = without(f"<{spelt}>", secret)
                assert HIDDEN in left
                assert holding(left, [secret]) == []
    assert without("nothing of it", secret) == "nothing of it"
    assert without("as it is", None) == without("as it is", "") == "as it is"


@pytest.mark.parametrize("name", [KEY, OTHERS["HF_TOKEN"], "sk-live", "a b", ""])
def test_a_key_in_the_place_of_its_variables_name_is_refused_and_not_told(name: str) -> None:
    with pytest.raises(ValueError, match="api_key_env is no name of an environment variable") as refused:
        openai_identity(model="m", base_url="http://h/v1", api_key_env=name)
    assert not name or name not in str(refused.value)


@pytest.mark.parametrize("field", ["api_key", "apiKey", "Authorization", "access_token", "client_secret"])
def test_a_key_in_the_body_is_refused_and_not_told(field: str) -> None:
    with pytest.raises(ValueError, match=f"body sets {field}") as refused:
        openai_identity(model="m", base_url="http://h/v1", body={field: KEY})
    assert KEY not in str(refused.value)
    openai_identity(model="m", base_url="http://h/v1", body={"skip_special_tokens": True, "stop_token_ids": [1]})


@pytest.mark.parametrize(
    ("url", "left"),
    [
        ("https://user:canary@h:8/a@b.jpg", "https://h:8/a@b.jpg"),
        ("https://h/a b.jpg?sig=canary#x", "https://h/a b.jpg?***"),
        ("https://h/a.jpg#canary", "https://h/a.jpg?***"),
        ("http://[::1]:9/x?canary", "http://[::1]:9/x?***"),
        ("zip://a.csv?canary::https://u:canary@h/z.zip?canary", "zip://a.csv?***::https://h/z.zip?***"),
        ("simplecache::https://h/a?canary", "simplecache::https://h/a?***"),
        ("s3://AKIA:canary@bucket/x.csv", "s3://bucket/x.csv"),
        ("https://user:can/ary@h/a", "https://***"),  # half a password, in what would be the place of a port
        ("https://user:can?ary@h/a", "https://***"),
        ("gs://bucket/x.csv", "gs://bucket/x.csv"),
        ("/data/a?b#c.csv", "/data/a?b#c.csv"),
        ("file:///data/a?b.csv", "file:///data/a?b.csv"),
    ],
)
def test_a_url_is_told_without_what_opens_it(url: str, left: str) -> None:
    assert shown(url) == left
    assert "canary" not in told(f"{url}: not found, see https://u:canary@h/why?canary", url)


def test_long_words_are_no_work() -> None:
    text = "a" * 1_000_000
    assert told(text) == shown(text) == text
