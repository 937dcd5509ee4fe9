"""A hub on the loopback that refuses every question, each in the way that the Hub has for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest

NO_SUCH_MODEL = (401, "RepoNotFound")


class Hub(BaseHTTPRequestHandler):
    """Terms not accepted, no such revision, or no such model, as the model's name asks for."""

    REFUSALS: ClassVar = {"gated": (403, "GatedRepo"), "tiny": (404, "RevisionNotFound")}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        names = [part for part in self.path.split("/") if part in self.REFUSALS]
        status, code = self.REFUSALS[names[0]] if names else NO_SUCH_MODEL
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_HEAD

    def log_message(self, *_: object) -> None: ...


@contextmanager
def refusing_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """huggingface_hub and transformers know this hub and this cache alone meanwhile; yields the paths asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # it would remember the other address
    huggingface_hub.close_session()
    Hub.asked.clear()
    yield Hub.asked
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()
