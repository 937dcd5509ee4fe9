"""Keys, tokens and signed URLs are in no answer and no message, though the service that is asked tells all."""

import base64
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest

from seewhy.failure import Fatal
from seewhy.hiding import HIDDEN, shown, told, without
from seewhy.manifest import read_manifest
from seewhy.study import load_study
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


CANARY = "canary0123456789abcdef"


def messages(read: Callable[[str], Any], *urls: str) -> list[str]:
    found = []
    for url in urls:
        with pytest.raises(Fatal) as refused:
            read(url)
        found.append(str(refused.value))
    return found


def read(path: str, format: str = "auto") -> Any:
    return read_manifest(path, image="image", target="target", format=format)


@pytest.mark.parametrize("what", [read, load_study])
def test_no_message_tells_what_opens_the_manifest_or_the_study(what: Callable[[str], Any]) -> None:
    """Nobody answers on the port, the protocol is unknown, or its package is not installed."""
    said = messages(
        what,
        f"https://user:{CANARY}@127.0.0.1:9/films.csv",
        f"http://127.0.0.1:9/films.csv?X-Goog-Signature={CANARY}",
        f"http://127.0.0.1:9/films?X-Goog-Signature={CANARY}",
        f"ftp://user:{CANARY}@127.0.0.1:9/films.csv",
        f"nosuch://user:{CANARY}@h/films.csv?{CANARY}",
        f"simplecache::nosuch://user:{CANARY}@h/films.csv?{CANARY}",
    )
    assert all(CANARY not in one for one in said), said
    assert "127.0.0.1:9/films.csv" in said[0]


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """From a path, a status and a body to the URL of a server that answers so."""
    answers: dict[str, tuple[int, bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path.partition("?")[0]]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def url(path: str, status: int, body: bytes = b"") -> str:
        answers[path] = status, body
        return f"http://user:{CANARY}@127.0.0.1:{server.server_port}{path}?X-Goog-Signature={CANARY}/x"

    yield url
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_no_message_tells_what_a_server_was_asked_with(answering: Callable[..., str], status: int) -> None:
    for what in (read, load_study):
        [said] = messages(what, answering("/films.csv", status))
        assert CANARY not in said, said


def test_a_signed_manifest_is_read_by_the_name_before_its_signature(answering: Callable[..., str]) -> None:
    table = b"image,target\na/1.jpg,1\n"
    for name, body in (("/in/films.csv", table), ("/in/films.csv.gz", gzip.compress(table))):
        url = answering(name, 200, body)
        source = read(url).table["source"][0].as_py()
        assert source == f"{url.partition(name)[0]}/in/a/1.jpg"
    for body in (b"", b"other,target\nx,1\n", b"image,target\na.jpg,x\n", b'image,target\n"a.jpg,x\n', b"\xff"):
        [said] = messages(read, answering("/in/films.csv", 200, body))
        assert "/in/films.csv" in said
        assert CANARY not in said, said
    for form in ("parquet", "jsonl"):
        with pytest.raises(Fatal) as refused:
            read(answering("/in/films.csv", 200, b"{}"), format=form)
        assert CANARY not in str(refused.value)


def test_long_words_are_no_work() -> None:
    text = "a" * 1_000_000
    assert told(text) == shown(text) == text
