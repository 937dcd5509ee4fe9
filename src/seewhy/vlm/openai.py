"""Any server with an OpenAI-compatible chat endpoint: vLLM, SGLang, TGI, Ray Serve LLM, hosted ones.

Spoken over plain HTTP: the endpoint is one POST, and the servers differ in what they add to it.
"""

import asyncio
import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from seewhy.failure import REJECTED, TRANSIENT, Failure, Fatal
from seewhy.fetch.reasons import retry_after_sec
from seewhy.hiding import without
from seewhy.images import BadImage, size_of
from seewhy.vlm import online
from seewhy.vlm.base import DEFAULT_PROMPT, MANY_IMAGES, Answer, Decoding, Request, answered, only_images
from seewhy.vlm.online import Calls, Online, Reply, refused
from seewhy.vlm.settings import dealt

VERSION = 1
"""Goes up with every change of what the same model, image and prompt give."""

FILTERED = ("content_filter", "content_policy_violation", "moderation_blocked")
"""Codes of an error by which hosted services say that a filter held the prompt or the image back."""
NO_CREDIT = "insufficient_quota"
"""Code of the 429 that no waiting helps against: the account has nothing left."""
LIMITS = ("max_tokens", "max_completion_tokens")
OURS = {"model", "messages", "n", "stream", "temperature", "top_p", "seed", *LIMITS}
"""Fields of a request that `body` may not set."""
SECRET = re.compile(r"api[_-]?key|authorization|password|secret|(access|auth|bearer)[_-]?token", re.IGNORECASE)
"""Fields that would carry a key; `body` goes into identities."""
SHORTEST_KEY = 12
"""Characters of a key that is taken out of answers too, and not out of refusals alone."""
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)
LEAST_AN_IMAGE, MOST_AN_IMAGE, PIXELS_A_TOKEN = 1000, 16_384, 28 * 28
"""Tokens that an image may have, rather too many than too few: those of Qwen's models grow with its pixels, up to that
many; of others it is a few hundred to a few thousand. Where it is still more, the first answer tells."""
MOST_BYTES = 32_000_000
"""Of an answer: a server that sends more is not answering a question about an image."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which server is asked for which model, and what it is told beside the prompt and ``Decoding``.

    Attributes:
        model: the name that the server gives it.
        base_url: up to and with ``/v1``, without user, password and query.
        revision: what the server runs, in the study's own words. With it the same table is used wherever the server
            stands; without it, `base_url` is part of the table's name.
        api_key_env: name of the environment variable that holds the key, in capitals; None for a server that wants
            none. The key itself is in no identity, message or table, and is taken out of what the server says.
        system_prompt: a turn before the user's.
        detail: ``low``, ``high`` or ``auto``, for servers that know it; None says nothing.
        limit: what the server calls ``max_new_tokens``, one of LIMITS.
        body: further fields of the request, such as ``{"chat_template_kwargs": {"enable_thinking": False}}``.

    Raises:
        ValueError: a value out of range, or `body` sets a field that has a setting of its own.
    """

    model: str
    base_url: str
    revision: str | None = None
    api_key_env: str | None = None
    system_prompt: str | None = None
    detail: str | None = None
    limit: str = "max_tokens"
    body: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_address(self.base_url)
        if self.limit not in LIMITS:
            raise ValueError(f"limit {self.limit!r} is not one of {', '.join(LIMITS)}")
        if twice := sorted(set(self.body or {}) & OURS):
            raise ValueError(f"body sets {', '.join(twice)}, which have settings of their own or must stay as they are")
        if secret := next((name for name in self.body or {} if SECRET.search(name)), None):
            raise ValueError(f"body sets {secret}: name the variable that holds the key as api_key_env")
        if self.api_key_env is not None and not VARIABLE.fullmatch(self.api_key_env):
            raise ValueError("api_key_env is no name of an environment variable: it must not be the key itself")

    @property
    def address(self) -> str:
        """One spelling of `base_url`, without a slash at its end."""
        return self.base_url.rstrip("/")


class OpenAIBackend:
    """Answers requests with the model behind ``POST {base_url}/chat/completions``, many at once.

    Images go as data URLs, before the prompt, in one turn of a user.

    Failures, beside those of ``images.decode`` (bad_input):
        rejected: prompt_blocked_* and answer_blocked_* with the server's code for why, answer_refused (the model's own
            refusal), answer_stopped_* (finish reasons other than stop and length), cut_before_text, empty_answer
        transient, once all tries are spent: http_429, http_5xx, those of ``online.by_error``, malformed_answer,
            no_candidates, unfinished
        bad_input: http_400, http_413, http_415, http_422, no_image

    Args:
        options: those of ``Settings``, of ``Decoding`` and of ``online.Calls``, by name.

    Raises:
        TypeError: an unknown option, or no model or address.
        ValueError: an option is out of range.
        Fatal: the variable that should hold the key does not; and of `generate`, where the server refuses the key, has
            no such model or endpoint, or wants money. The message says what to do.
    """

    def __init__(self, **options: Any) -> None:
        asked, decoding, calls = dealt(options, Settings, Decoding, Calls)
        self.default_prompt = DEFAULT_PROMPT
        self.max_images = MANY_IMAGES
        self._model = asked.model
        self._url = f"{asked.address}/chat/completions"
        self._key = _key(asked.api_key_env)
        self._key_from = asked.api_key_env
        self._fields = {"model": asked.model, **_decoding(asked.limit, decoding), **(asked.body or {})}
        self._system_prompt = asked.system_prompt or ""
        self._system = [{"role": "system", "content": asked.system_prompt}] if asked.system_prompt else []
        self._detail = {} if asked.detail is None else {"detail": asked.detail}
        self._session: aiohttp.ClientSession | None = None
        self._online = Online(self._ask, self._guess, decoding.max_new_tokens, self._end, calls)

    def generate(self, requests: list[Request]) -> list[Answer]:
        """As many answers as requests, in order; failures as values. Raises ``Fatal`` to stop the job."""
        return self._online.generate(requests)

    def close(self) -> None:
        """Ends connections and the thread. A later ``generate`` opens new ones."""
        self._online.close()

    async def _end(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _guess(self, request: Request) -> int:
        text = len(f"{self._system_prompt}{request.prompt}".encode("utf-8", "replace"))
        images = (image for image in request.images if isinstance(image, bytes))
        return sum(map(_tokens_of, images)) + text // 3

    async def _ask(self, request: Request) -> Reply:
        images = only_images(request)
        if isinstance(images, Failure):
            return refused(images)
        try:
            content = [await self._shown(image) for image in images]
        except BadImage as error:
            return refused(error.failure)
        if request.prompt:
            content.append({"type": "text", "text": request.prompt})
        question = {**self._fields, "messages": [*self._system, {"role": "user", "content": content}]}
        try:
            # A redirect is not followed: the key and the images are for the server that the study names.
            async with self._connected().post(self._url, json=question, allow_redirects=False) as response:
                body = self._without_key(await _text(response))
        except (aiohttp.ClientError, OSError) as error:
            return online.by_error(error)
        except ValueError as error:  # no text in the encoding that it names, or too much of it
            return Reply(online.malformed(f"{type(error).__name__}: {error}"))
        if response.status == 200:
            return self._read(body)
        return self._refused(response.status, _error(body), body, response.headers.get("Retry-After"))

    async def _shown(self, image: bytes) -> dict[str, Any]:
        mime, data = await asyncio.to_thread(online.picture, image)
        url = f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
        return {"type": "image_url", "image_url": {"url": url, **self._detail}}

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:  # built on the loop that it belongs to
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,  # company proxies
            )
        return self._session

    def _read(self, body: str) -> Reply:
        try:
            response = json.loads(body)
        except (ValueError, RecursionError) as error:
            return Reply(online.malformed(f"{type(error).__name__}: {error}"))
        said = response.get("error") if isinstance(response, dict) else None
        if isinstance(said, dict) and not response.get("choices"):
            # gateways answer 200 before they know, and put the status where a code would be
            code = online.whole(said.get("code"))
            return self._refused(code if code and 400 <= code < 600 else 500, said, body, None)
        return Reply(read_response(response))

    def _refused(self, status: int, error: dict[str, Any], body: str, wait: str | None) -> Reply:
        """By status, and by the error's code where one status stands for several things."""
        said = without(f"{status}: {error.get('message') or body}", self._key)[: online.LONGEST_DETAIL]
        codes = [error.get(name) for name in ("code", "type")]
        filtered = next((code for code in codes if code in FILTERED), None)
        if filtered:
            return refused(Failure(REJECTED, f"prompt_blocked_{filtered}", said))
        if status in (401, 403):
            where = f"environment variable {self._key_from}" if self._key_from else "api_key_env, which names none yet"
            raise Fatal(f"{self._url} refuses the API key: {said}. See {where}")
        if status == 402 or NO_CREDIT in codes:
            raise Fatal(f"{self._url} has no credit left for this key: {said}")
        if status in (404, 405, 410) or status < 400:
            raise Fatal(
                f"no model {self._model!r} at {self._url}: {said}. Ask its /models, and see that base_url is right"
            )
        limited = status == 429
        return online.refused_by_status(status, said, limited=limited, retry_after_sec=retry_after_sec(wait))

    def _without_key(self, body: str) -> str:
        """Not a short one, such as EMPTY, which may well be a word of a caption."""
        return without(body, self._key) if len(self._key or "") >= SHORTEST_KEY else body


def identity(*, prompt: str | None = None, **options: Any) -> dict[str, object]:
    """All that changes an answer, from the options of ``OpenAIBackend`` and the prompt; asks nobody, reads no key.

    The same name may stand for another model at another address, so the address counts, unless `revision` says what
    is served.
    """
    asked, decoding, _ = dealt(options, Settings, Decoding, Calls)
    return {
        "code": VERSION,
        "model": asked.model,
        "served": asked.address if asked.revision is None else None,
        "revision": asked.revision,
        "prompt": DEFAULT_PROMPT if prompt is None else prompt,
        "system_prompt": asked.system_prompt,
        "detail": asked.detail,
        "body": json.dumps(dict(asked.body), sort_keys=True, ensure_ascii=False) if asked.body else None,
        **decoding.identity(),
    }


def read_response(response: Any) -> Answer:
    """The answer in a chat completion, parsed from JSON. Tokens are counted on whatever came."""
    if not isinstance(response, dict):
        return online.malformed(f"a JSON {type(response).__name__}, not an object")
    usage = response.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out = _tokens(usage)
    try:
        return _read(response, tokens_in, tokens_out)
    except (AttributeError, TypeError, KeyError, IndexError) as error:  # some field is not of its type
        return online.malformed(f"{type(error).__name__}: {error}", tokens_in, tokens_out)


def _tokens_of(image: bytes) -> int:
    try:
        width, height = size_of(image)
    except BadImage:  # the server will not read it
        return LEAST_AN_IMAGE
    return min(max(LEAST_AN_IMAGE, width * height // PIXELS_A_TOKEN), MOST_AN_IMAGE)


def _tokens(usage: dict[str, Any]) -> tuple[int | None, int | None]:
    """Read and written. Some servers count a model's thoughts in the total alone; they are written, and paid so."""
    read, written, both = (
        online.whole(usage.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if read is not None and both is not None:
        written = max(written or 0, both - read)
    return read, written


def _read(response: dict[str, Any], tokens_in: int | None, tokens_out: int | None) -> Answer:
    def no_text(kind: str, reason: str, detail: str, finish: str | None = None) -> Answer:
        return Answer(None, Failure(kind, reason, detail[: online.LONGEST_DETAIL]), finish, tokens_in, tokens_out)

    choices = response.get("choices") or []
    if not choices:
        return no_text(TRANSIENT, "no_candidates", "no choice, and no word of why")
    choice = choices[0]
    message = choice["message"]
    finish = choice.get("finish_reason")
    if finish is None:
        return no_text(TRANSIENT, "unfinished", "the choice has no finish reason, so it may be half an answer")
    if message.get("refusal"):
        return no_text(REJECTED, "answer_refused", f"the model refused: {message['refusal']}", finish)
    text = _written(message.get("content"))
    if finish in ("stop", "eos_token", "stop_sequence"):  # TGI's words for the same
        return answered(text, "stop", tokens_in, tokens_out)
    if finish == "length":
        if text.strip():
            return answered(text, "length", tokens_in, tokens_out)
        detail = "no text before the token limit: raise it, or let the model think less"
        return no_text(REJECTED, "cut_before_text", detail, finish)
    held = "blocked" if finish in FILTERED else "stopped"
    return no_text(REJECTED, f"answer_{held}_{finish.lower()}", f"the answer was {held}: {finish}", finish)


def _written(content: Any) -> str:
    """A text, or a list of parts of which some are text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _decoding(limit: str, decoding: Decoding) -> dict[str, Any]:
    """As fields of the request: those that the identity holds and no others."""
    fields = decoding.identity()
    fields[limit] = fields.pop("max_new_tokens")
    return fields


def _check_address(base_url: str) -> None:
    """It goes into identities and messages, so it may hold no secret."""
    url = URL(base_url)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"base_url is no http(s) URL such as http://localhost:8000/v1: {url.scheme}://{url.host}")
    if url.user or url.password or url.query_string or url.fragment:
        raise ValueError(
            f"base_url holds a user, a password, a query or a fragment; put the key of {url.host} into the "
            "environment variable that api_key_env names"
        )


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise Fatal(f"the environment variable {name} should hold the API key and is not set, on this worker at least")
    return key


async def _text(response: aiohttp.ClientResponse) -> str:
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > MOST_BYTES:
            raise ValueError(f"an answer of more than {MOST_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces).decode("utf-8")


def _error(body: str) -> dict[str, Any]:
    """OpenAI puts an object under ``error``; vLLM of old puts its fields at the top, TGI a text."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    inner = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if isinstance(inner, dict):
        return inner
    return {"message": str(inner)} if inner else {}
