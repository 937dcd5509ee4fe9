"""Keys and tokens are in no file, no message and no page, though the service that is asked tells them to everybody."""

import base64
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from aiohttp import web

from seewhy.failure import Fatal
from seewhy.hiding import HIDDEN, without
from seewhy.vlm.openai import OpenAIBackend
from seewhy.vlm.openai import identity as openai_identity
from tests.vlm.batch_stub import noise
from tests.vlm.gemini_stub import Stub
from tests.vlm.openai_stub import choice, error, prompt_of
from tests.vlm.services import ask

ROOT = Path(__file__).parents[2]
KEY = "sk-canary+of/the=service-0123456789abcdef"
OTHERS = {
    "HF_TOKEN": "hf_canaryOfTheHub0123456789abcdef",
    "WANDB_API_KEY": "canary0of0the0tracker0123456789abcdef01234",
    "AWS_SECRET_ACCESS_KEY": "canary/of+another/cloud0123456789",
}
KEY_OF_A_FILE = "canary-private-key-0123456789abcdef"


def forms(secret: str) -> list[str]:
    """A secret in every spelling that is looked for here; made by other means than those of the code under test."""
    data = secret.encode()
    inner = []
    for before in (b"", b"a", b"ab"):
        text = base64.b64encode(before + data + b"zzz").decode()
        start = {0: 0, 1: 2, 2: 3}[len(before)]
        inner.append(text[start : start + 4 * (len(data) // 3) - 4])
    both = [*inner, *(one.replace("+", "-").replace("/", "_") for one in inner)]
    return [secret, quote(secret, safe=""), quote(secret), secret.replace("/", "\\/"), data.hex(), secret[:24], *both]


def holding(text: str | bytes, secrets: list[str]) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    return [form for secret in secrets for form in forms(secret) if form.encode() in data]


def leaking_stub(told: list[Callable[[], web.Response]]) -> Stub:
    """Each call meets the next of `told`, and an answer that holds the key once they are through."""

    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        usage = {"prompt_tokens": 300, "completion_tokens": 5}
        text = f"a neon sign that says {KEY} in the {len(body['messages'])} dark"
        return 200, {"object": "chat.completion", "choices": [choice("stop", text)], "usage": usage}

    stub = Stub(prompt_of=prompt_of, answer=answer, faults=FAULTS, route="/v1/chat/completions")
    stub.plan["What is it?"] = list(told)
    return stub


def _json(status: int, body: Any) -> Callable[[], web.Response]:
    return lambda: web.json_response(body, status=status)


B64 = base64.b64encode(f"user:{KEY}".encode()).decode()
FAULTS: dict[str, Callable[[], web.Response]] = {
    "401": _json(401, error(f"Incorrect API key provided: {KEY}", "invalid_request_error", "invalid_api_key")),
    "403": _json(403, error(f"Basic {B64} may not; see /keys?key={quote(KEY, safe='')}", "permission", None)),
    "400": _json(400, error(f"header Authorization: Bearer {KEY}", "invalid_request_error", None)),
    "500": lambda: web.Response(status=500, text=f"<pre>Authorization: Bearer {KEY}\n{B64}</pre>"),
    "cut": _json(400, error("x" * 270 + KEY, "invalid_request_error", None)),  # just where messages are cut
    "php": lambda: web.Response(status=422, text='{"error": "' + KEY.replace("/", "\\/") + '"}'),
    "refusal": _json(200, {"choices": [choice("stop", None, refusal=f"not with {KEY}")], "usage": {}}),
    "finish": _json(200, {"choices": [choice(KEY, "x")], "usage": {}}),
    "200": _json(200, error(f"no instance for {KEY}", "provider", 503)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", range(0, 45, 11))
def test_what_a_service_says_of_a_key_is_left_out(monkeypatch: pytest.MonkeyPatch, fault: str, before: int) -> None:
    """Wherever a message is cut: half a key is a secret too."""
    monkeypatch.setenv("THE_KEY", KEY)
    stub = leaking_stub([fault])
    long_name = "m" * (1 + before)
    backend = OpenAIBackend(model=long_name, base_url=f"{stub.url}/v1", api_key_env="THE_KEY", tries=1)
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


SMALL = {"cpus_per_worker": 0.5, "rows_per_block": 8}


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder of a short name: Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.slow
def test_a_whole_study_leaves_no_secret_anywhere(tmp_path: Path, short: Path) -> None:
    """Keys in the environment and in a file, a service that tells them, and all that a run leaves: tables, report,
    tracker's files, what it prints, Ray's own logs."""
    told = ["400", "500", "refusal", "finish", "php", "cut", "200"]
    stub = leaking_stub(told)
    home = tmp_path / "home"
    (home / "track").mkdir(parents=True)
    with open(home / "ads.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["ad", "clicks"])
        for i in range(24):
            (home / f"{i}.png").write_bytes(noise(i))
            lines.writerow([f"{i}.png", i])
    options = {"base_url": f"{stub.url}/v1", "api_key_env": "THE_KEY", "tries": 2, "backoff_sec": 0.01}
    study = {
        "title": "Ads",
        "workspace": "out",
        "manifest": {"path": "ads.csv", "image": "ad", "target": "clicks"},
        "max_failed_fraction": 1.0,
        "fetch": {"resources": SMALL},
        "caption": {
            "backend": "openai", "model": "m", "prompt": "What is it?", "options": options, "resources": SMALL,
        },
        "train_text": {
            "encoder": "tiny", "pooling": "mean", "epochs": 1, "folds": 2, "launcher": "here", "tracking": "wandb",
        },
        "explain_words": {"max_evals": 4, "resources": SMALL},
        "probe": {"subsamples": 2, "min_texts": 1, "folds": 2, "resources": SMALL},
        "report": {"min_items": 1},
    }  # fmt: skip
    (home / "study.yaml").write_text(yaml.safe_dump(study))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "key.json").write_text(json.dumps({"type": "service_account", "private_key": KEY_OF_A_FILE}))
    env = {
        **os.environ, **OTHERS, "THE_KEY": KEY, "GOOGLE_APPLICATION_CREDENTIALS": str(secrets / "key.json"),
        "WANDB_MODE": "offline", "WANDB_DIR": str(home / "track"), "RAY_TMPDIR": str(short), "SEEWHY_LOG": "json",
    }  # fmt: skip
    env.pop("RAY_ADDRESS", None)

    command = [sys.executable, "-m", "seewhy.cli", "run", str(home / "study.yaml")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400)
    stub.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (home / "out/report/index.html").exists()
    assert len(stub.calls) > 24

    secret = [KEY, *OTHERS.values(), KEY_OF_A_FILE]
    for text in (done.stdout, done.stderr):
        assert holding(text, secret) == []
    files = [path for folder in (home, short) for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert sum(path.suffix == ".parquet" for path in files) > 5
    assert {str(path) for path in files if holding(unpacked(path), secret)} == set()


def unpacked(path: Path) -> bytes:
    """A file's bytes; of a Parquet file what it holds, which lies there compressed."""
    data = path.read_bytes()
    if path.suffix != ".parquet":
        return data
    import pyarrow.parquet as pq

    columns = [name for name in pq.read_schema(path).names if name not in ("image", "fingerprint")]
    return data + repr(pq.read_table(path, columns=columns).to_pylist()).encode()
