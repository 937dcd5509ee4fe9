"""A real HTTP server on the loopback that speaks the chat completions endpoint, and fails as it is told to."""

import base64
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.vlm.gemini_stub import IMAGE_TOKENS, Stub, unreadable, words_about

KEY = "sk-secret-of-the-test"


def openai_stub(port: int = 0, read_images: bool = True) -> Stub:
    def answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        content = body["messages"][-1]["content"]
        urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
        images = [base64.b64decode(url.partition(";base64,")[2], validate=True) for url in urls]
        if read_images and unreadable(images):
            return 400, error("cannot identify image", "BadRequestError", 400)
        text = words_about(images, prompt_of(body))
        usage = {
            "prompt_tokens": IMAGE_TOKENS * len(images) + len(prompt_of(body).split()),
            "completion_tokens": len(text.split()),
        }
        return 200, {"object": "chat.completion", "choices": [choice("stop", text)], "usage": usage}

    return Stub(prompt_of=prompt_of, answer=answer, faults=FAULTS, route="/v1/chat/completions", port=port)


def prompt_of(body: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in body["messages"][-1]["content"])


def choice(finish: str | None, content: Any, **more: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **more}}


def error(message: str, kind: str, code: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _says(status: int, body: Any, **headers: str) -> Callable[[], web.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: web.json_response(body, status=status, headers=named)


def _text(status: int, text: str, kind: str = "text/html") -> Callable[[], web.Response]:
    return lambda: web.Response(status=status, text=text, content_type=kind)


def _chose(finish: str | None, content: Any, written: int = 0, **more: Any) -> Callable[[], web.Response]:
    usage = {"prompt_tokens": 262, "completion_tokens": written}
    return _says(200, {"choices": [choice(finish, content, **more)], "usage": usage})


FAULTS: dict[str, Callable[[], web.Response]] = {
    "limited": _says(429, error("slow down", "requests", "rate_limit_exceeded")),
    "limited_header": _says(429, error("slow down", "requests", "rate_limit_exceeded"), Retry_After="1"),
    "limited_long": _says(429, error("slow down", "requests", "rate_limit_exceeded"), Retry_After="3600"),
    "no_credit": _says(429, error("check your plan", "insufficient_quota", "insufficient_quota")),
    "402": _says(402, error("pay", "billing", 402)),
    "500": _says(500, error("oops", "InternalServerError", 500)),
    "503_text": _text(503, "starting", "text/plain"),
    "503_in_200": _says(200, error("no instance", "provider", 503)),
    "429_in_200": _says(200, error("slow down", "provider", 429)),
    "page": _text(200, "<html>log in</html>"),
    "not_json": _text(200, '{"choices": [', "application/json"),
    "not_text": lambda: web.Response(body=b"\xff\xfe\xff", content_type="application/json"),
    "nothing": _text(200, "", "application/json"),
    "list": _says(200, []),
    "no_message": _says(200, {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 262}}),
    "odd_content": _chose("stop", 7),
    "no_choices": _says(200, {"choices": [], "usage": {"prompt_tokens": 262, "completion_tokens": 0}}),
    "unfinished": _chose(None, "half"),
    "filtered_prompt": _says(400, error("content management policy", "invalid_request_error", "content_filter")),
    "filtered_answer": _chose("content_filter", "half a", 2),
    "refusal": _chose("stop", None, 6, refusal="I can't help with that."),
    "tool": _chose("tool_calls", None),
    "cut": _chose("length", "a cut te", 3),
    "cut_before_text": _chose("length", None, 1000, reasoning_content="hm"),
    "blank": _chose("stop", " \n", 1),
    "parts": _chose("stop", [{"type": "text", "text": "a "}, {"type": "text", "text": "dog"}], 2),
    "tgi": _chose("eos_token", "a dog", 2),
    "thoughts": _says(
        200,
        {
            "choices": [choice("stop", "a dog")],
            "usage": {"prompt_tokens": 262, "completion_tokens": 2, "total_tokens": 304},
        },
    ),
    "no_usage": _says(200, {"choices": [choice("stop", "a dog")]}),
    "400": _says(400, error("too many tokens", "invalid_request_error", "context_length_exceeded")),
    "422": _says(422, {"error": "Input validation error", "error_type": "validation"}),
    "401": _says(401, error(f"Incorrect API key provided: {KEY}", "invalid_request_error", "invalid_api_key")),
    "403": _says(403, error("no", "permission", None)),
    "404": _says(404, {"object": "error", "message": "The model does not exist.", "code": 404}),
    "redirect": lambda: web.Response(status=307, headers={"Location": "http://127.0.0.1:9/"}),
}
