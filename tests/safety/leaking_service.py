"""Secrets, how they may be spelt, and a server of the chat completions endpoint that tells everybody its caller's."""

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from aiohttp import web

from seewhy.vlm.online import LONGEST_DETAIL
from tests.vlm.gemini_stub import Stub
from tests.vlm.openai_stub import choice, error, prompt_of

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
    "cut early": _json(400, error("x" * (LONGEST_DETAIL - 45) + KEY, "invalid_request_error", None)),
    "cut late": _json(400, error("x" * (LONGEST_DETAIL - 25) + KEY, "invalid_request_error", None)),
    "php": lambda: web.Response(status=422, text='{"error": "' + KEY.replace("/", "\\/") + '"}'),
    "refusal": _json(200, {"choices": [choice("stop", None, refusal=f"not with {KEY}")], "usage": {}}),
    "finish": _json(200, {"choices": [choice(KEY, "x")], "usage": {}}),
    "200": _json(200, error(f"no instance for {KEY}", "provider", 503)),
}
