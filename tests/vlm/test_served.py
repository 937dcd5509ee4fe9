"""OpenAIBackend against a real server, transformers' own: it says there what HfBackend says of the same model here."""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from seewhy.vlm.base import Request
from seewhy.vlm.hf import HfBackend
from seewhy.vlm.openai import OpenAIBackend
from tests.vlm.models import picture

NEEDED = ("fastapi", "uvicorn", "openai", "accelerate")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"transformers serve needs {', '.join(MISSING)}"),
]

SERVE = (
    "import os, sys, threading; "
    "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start(); "
    "from transformers.cli.transformers import main; main()"
)
"""Ends when its standard input does: with the tests, however these end."""
RUNNING = re.compile(r"Uvicorn running on (http://127\.0\.0\.1:\d+)")
ONLY_TEXT = (
    "{% for message in messages %}{% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endfor %}{% endfor %}"
)
"""For a BLIP-2: its processor puts the image before whatever text there is, and reads no template from its folder."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address, on a port that it chose itself. It loads whichever folder a request names as its model."""
    log = tmp_path_factory.mktemp("server") / "log"
    asked = ["serve", "--host", "127.0.0.1", "--port", "0", "--device", "cpu", "--dtype", "float32"]
    with (
        open(log, "wb") as written,
        subprocess.Popen(
            [sys.executable, "-c", SERVE, *asked],
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        ) as process,
    ):
        try:
            yield _address(process, log)
        finally:
            process.kill()


def _address(process: subprocess.Popen[bytes], log: Path, limit_sec: float = 180) -> str:
    deadline = time.monotonic() + limit_sec
    while time.monotonic() < deadline:
        said = log.read_text(errors="replace")
        if found := RUNNING.search(said):
            return found[1]
        if process.poll() is not None:
            pytest.fail(f"transformers serve ended with {process.returncode}:\n{said[-3000:]}")
        time.sleep(0.2)
    pytest.fail(f"transformers serve did not start in {limit_sec} s:\n{log.read_text(errors='replace')[-3000:]}")


def requests(prompt: str) -> list[Request]:
    shapes = [(40, 48), (48, 40), (120, 60), (64, 64)]
    return [Request(f"id-{i}", (picture(i, *shape),), prompt) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize(("name", "prompt"), [("llava", "what is this"), ("idefics3", "what is this"), ("tiny", "")])
def test_a_server_says_what_the_model_says_here(
    name: str, prompt: str, server: str, model_folder: Callable[[str], Path]
) -> None:
    packaged = name == "tiny"
    folder = str(files("seewhy.demo") / "tiny_vlm" if packaged else model_folder(name))
    decoding = {"temperature": 0.0, "max_new_tokens": 60 if packaged else 8}
    body = {"chat_template_kwargs": {"chat_template": ONLY_TEXT}} if packaged else None
    here = HfBackend(model=folder, dtype="float32", device="cpu", batch_size=1, **decoding).generate(requests(prompt))
    backend = OpenAIBackend(model=folder, base_url=f"{server}/v1", concurrency=4, tries=1, body=body, **decoding)
    try:
        there = backend.generate(requests(prompt))
    finally:
        backend.close()
    assert [answer.failure for answer in there] == [None] * 4
    assert there == here
    assert len({answer.text for answer in there}) > 1, "the answers do not depend on the image"


def test_a_model_that_the_server_lacks_costs_the_row_its_answer(server: str, tmp_path: Path) -> None:
    backend = OpenAIBackend(model=str(tmp_path / "none"), base_url=f"{server}/v1", tries=1)
    try:
        (answer,) = backend.generate(requests("what")[:1])
    finally:
        backend.close()
    assert (answer.failure.kind, answer.failure.reason) == ("transient", "http_500")
