"""A real HTTP server on the loopback that speaks Vertex AI's REST endpoint of Gemini, and fails as it is told to.

Which fault a request meets stands in ``plan``: by the text of its prompt, or by ``planned_by``, the faults of its calls
in order; calls beyond them, and prompts that are not there, are answered. It can also run by itself, beside a
benchmark:

    python -m tests.vlm.gemini_stub --port 8081 --delay 0.3
"""

import argparse
import asyncio
import base64
import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any

from aiohttp import web
from PIL import Image

IMAGE_TOKENS = 258
"""What the stub counts for an image; a word is a token."""


@dataclass(frozen=True)
class Call:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float


class Stub:
    """Counts calls and how many were open at once; `per_sec` limits calls in any second, and answers 429 beyond them.

    POST /token gives service accounts their token, with ``token_status``.

    Args:
        prompt_of: a request's body -> the text of its prompt.
        answer: a request's body -> the body of a 200, or of a 400 for an image that cannot be read.
        faults: by name, what happens to a call instead; the names of DROPS work everywhere.
        route: of the endpoint; more: others beside it.
        spelt: a request's body -> the same in one spelling.
    """

    def __init__(
        self,
        *,
        prompt_of: Callable[[dict[str, Any]], str],
        answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]],
        faults: dict[str, Callable[[], web.Response]],
        route: str,
        port: int = 0,
        spelt: Callable[[Any], Any] = lambda body: body,
        more: Sequence[web.RouteDef] = (),
    ) -> None:
        self._spelt = spelt
        self._prompt_of, self._answer, self._faults = prompt_of, answer, faults
        self.plan: dict[str, list[str]] = {}
        self.planned_by = prompt_of
        self.calls: list[Call] = []
        self.tokens_asked = 0
        self.token_status = 200
        self.delay_sec = 0.0
        self.per_sec: int | None = None
        self.keeps = True
        self.open = self.most = 0
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._start(route, port, more), self._loop).result()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])

    async def _start(self, route: str, port: int, more: Sequence[web.RouteDef]) -> web.AppRunner:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/token", self._token)
        app.router.add_post(route, self._talk)
        app.router.add_routes(more)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def asked(self, prompt: str) -> list[Call]:
        return [call for call in self.calls if self._prompt_of(call.body) == prompt]

    async def _token(self, request: web.Request) -> web.Response:
        self.tokens_asked += 1
        if self.token_status != 200:
            return web.json_response({"error": "invalid_grant", "error_description": "gone"}, status=self.token_status)
        return web.json_response({"access_token": "from-the-stub", "expires_in": 3600, "token_type": "Bearer"})

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        body = self._spelt(await request.json())
        now = time.monotonic()
        limited = self.per_sec is not None and sum(call.at > now - 1 for call in self.calls) >= self.per_sec
        if self.keeps:
            self.calls.append(Call(request.path, dict(request.headers), body, now))
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            faults = self.plan.get(self.planned_by(body))
            fault = faults.pop(0) if faults else None
            if limited:
                fault = "limited"
            await asyncio.sleep(3600 if fault == "hang" else self.delay_sec)
            if fault in ("drop", "half"):
                return await self._drop(request, half=fault == "half")
            if fault is not None:
                return self._faults[fault]()
            status, answer = self._answer(body)
            return web.json_response(answer, status=status)
        finally:
            self.open -= 1

    async def _drop(self, request: web.Request, *, half: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
        if half:
            await response.prepare(request)
            await response.write(b'{"candidates": [')
        request.transport.close()
        return response


def words_about(images: list[bytes], prompt: str) -> str:
    """A text that tells which images and prompt it answers."""
    return " ".join([*(hashlib.sha1(image).hexdigest()[:8] for image in images), *prompt.split()])


def unreadable(images: list[bytes]) -> bool:
    try:
        for image in images:
            Image.open(io.BytesIO(image)).load()
    except Exception:
        return True
    return False


def gemini_stub(port: int = 0, read_images: bool = True, more: Sequence[web.RouteDef] = ()) -> Stub:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return answer_to(body, read_images=read_images)

    route = "/{version}/projects/{project}/locations/{place}/publishers/google/models/{model}:generateContent"
    return Stub(prompt_of=_prompt_of, answer=answer, faults=FAULTS, route=route, port=port, spelt=_camel, more=more)


def answer_to(body: dict[str, Any], *, read_images: bool = True) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer to a request."""
    parts = body["contents"][0]["parts"]
    # Google's JSON takes both alphabets, and its client sends the URL-safe one
    given = [part["inlineData"] for part in parts if "inlineData" in part]
    images = [base64.urlsafe_b64decode(one["data"].translate(_URL_SAFE)) for one in given]
    pictures = [data for one, data in zip(given, images, strict=True) if one["mimeType"].startswith("image/")]
    if read_images and unreadable(pictures):
        return 400, error(400, "INVALID_ARGUMENT", "Unable to process input image.")
    images += [part["fileData"]["fileUri"].encode() for part in parts if "fileData" in part]
    text = words_about(images, _prompt_of(body))
    usage = {
        "promptTokenCount": IMAGE_TOKENS * len(images) + len(_prompt_of(body).split()),
        "candidatesTokenCount": len(text.split()),
    }
    return 200, {"candidates": [candidate("STOP", text)], "usageMetadata": usage, "modelVersion": "stub"}


_URL_SAFE = str.maketrans("+/", "-_")


def _camel(body: Any) -> Any:
    """Google's JSON takes a field's name as camelCase and as snake_case, and its client sends a mixture."""
    if isinstance(body, list):
        return [_camel(item) for item in body]
    if not isinstance(body, dict):
        return body
    words = {name: name.split("_") for name in body}
    return {first + "".join(map(str.capitalize, rest)): _camel(body[name]) for name, (first, *rest) in words.items()}


def _prompt_of(body: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in body["contents"][0]["parts"])


def candidate(finish: str | None, text: str | None = None, **more: Any) -> dict[str, Any]:
    made = {"content": {"role": "model"}} if text is None else {"content": {"parts": [{"text": text}], "role": "model"}}
    return made | ({} if finish is None else {"finishReason": finish}) | more


def error(code: int, status: str, message: str, details: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"error": {"code": code, "status": status, "message": message, "details": details or []}}


def _says(status: int, body: Any, **headers: str) -> Callable[[], web.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: web.json_response(body, status=status, headers=named)


def _text(status: int, text: str, kind: str = "text/html") -> Callable[[], web.Response]:
    return lambda: web.Response(status=status, text=text, content_type=kind)


READ = {"promptTokenCount": 262}
RATINGS = [
    {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True},
    {"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"},
]
SPENT = "RESOURCE_EXHAUSTED"


def _retry_info(delay: str) -> list[dict[str, Any]]:
    return [
        {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]


FAULTS: dict[str, Callable[[], web.Response]] = {
    "limited": _says(429, error(429, SPENT, "Quota exceeded.")),
    "limited_info": _says(429, error(429, SPENT, "Quota exceeded.", _retry_info("0.4s"))),
    "limited_header": _says(429, error(429, SPENT, "Quota exceeded."), Retry_After="1"),
    "limited_both": _says(429, error(429, SPENT, "Quota exceeded.", _retry_info("0.4s")), Retry_After="1"),
    "limited_long": _says(429, error(429, SPENT, "Quota exceeded.", _retry_info("3600s"))),
    "limited_odd": _says(429, error(429, SPENT, "Quota exceeded.", _retry_info("soon"))),  # no duration
    "500": _says(500, error(500, "INTERNAL", "Internal error.")),
    "503": _says(503, error(503, "UNAVAILABLE", "The model is overloaded.")),
    "502_page": _text(502, "<html>bad gateway</html>"),
    "503_not_json": _text(503, "{not json", "application/json"),
    "499": _says(499, error(499, "CANCELLED", "The operation was cancelled.")),
    "page": _text(200, "<html>log in to the hotel's network</html>"),
    "not_json": _text(200, '{"candidates": [', "application/json"),
    "nothing": _text(200, "", "application/json"),
    "list": _says(200, [1, 2]),
    "number": _says(200, 7),
    "odd_types": _says(200, {"candidates": {"0": 1}, "usageMetadata": READ}),
    "odd_parts": _says(200, {"candidates": [{"content": {"parts": "text"}, "finishReason": "STOP"}]}),
    "prompt_safety": _says(
        200, {"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": RATINGS}, "usageMetadata": READ}
    ),
    "prompt_prohibited": _says(200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": READ}),
    "safety": _says(
        200,
        {
            "candidates": [candidate("SAFETY", safetyRatings=RATINGS)],
            "usageMetadata": {**READ, "candidatesTokenCount": 5},
        },
    ),
    "safety_with_text": _says(200, {"candidates": [candidate("SAFETY", "half a")], "usageMetadata": READ}),
    "recitation": _says(
        200, {"candidates": [candidate("RECITATION")], "usageMetadata": {**READ, "candidatesTokenCount": 9}}
    ),
    "other": _says(200, {"candidates": [candidate("OTHER")], "usageMetadata": READ}),
    "new_reason": _says(200, {"candidates": [candidate("MOON_PHASE")], "usageMetadata": READ}),
    "max_tokens_text": _says(
        200,
        {"candidates": [candidate("MAX_TOKENS", "a cut te")], "usageMetadata": {**READ, "candidatesTokenCount": 3}},
    ),
    "max_tokens_thoughts": _says(
        200, {"candidates": [candidate("MAX_TOKENS")], "usageMetadata": {**READ, "thoughtsTokenCount": 1000}}
    ),
    "thoughts": _says(
        200,
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "hm", "thought": True}, {"text": "a "}, {"text": "dog"}]},
                    "finishReason": "STOP",
                }
            ],
            "usageMetadata": {**READ, "candidatesTokenCount": 2, "thoughtsTokenCount": 40},
        },
    ),
    "blank": _says(200, {"candidates": [candidate("STOP", " \n")], "usageMetadata": READ}),
    "no_parts": _says(200, {"candidates": [candidate("STOP")], "usageMetadata": READ}),
    "no_candidates": _says(200, {"candidates": [], "usageMetadata": READ}),
    "unfinished": _says(200, {"candidates": [candidate(None, "half")], "usageMetadata": READ}),
    "no_usage": _says(200, {"candidates": [candidate("STOP", "a dog")]}),
    "400": _says(400, error(400, "INVALID_ARGUMENT", "Unable to process input image.")),
    "413": _text(413, "too large"),
    "400_project": _says(400, error(400, "FAILED_PRECONDITION", "Billing is off.")),
    "401": _says(401, error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")),
    "403": _says(403, error(403, "PERMISSION_DENIED", "Permission denied.")),
    "404": _says(404, error(404, "NOT_FOUND", "Publisher Model was not found.")),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=8081)
    arguments.add_argument("--delay", type=float, default=0.3, help="seconds that an answer takes")
    arguments.add_argument("--per-sec", type=int, help="calls let through in any second")
    given = arguments.parse_args()
    stub = gemini_stub(given.port, read_images=False)
    stub.delay_sec, stub.per_sec = given.delay, given.per_sec
    stub.keeps = given.per_sec is not None  # bodies of a benchmark would fill the memory
    print(json.dumps({"url": stub.url}), flush=True)
    stub._thread.join()


if __name__ == "__main__":
    main()
