"""Gemini on Vertex AI, by google-genai: many images in flight, every way in which an answer can fail in its place."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import google.auth
from google import genai
from google.auth import exceptions as auth_errors
from google.genai import errors, types

from seewhy.failure import REJECTED, TRANSIENT, Failure, Fatal
from seewhy.fetch.reasons import retry_after_sec
from seewhy.images import MIMES, BadImage
from seewhy.vlm import online
from seewhy.vlm.base import DEFAULT_PROMPT, MANY_IMAGES, MOST_INLINE_BYTES, Answer, Decoding, Media, Request, answered
from seewhy.vlm.gemini_tokens import tokens_read
from seewhy.vlm.online import Calls, Online, Reply, refused
from seewhy.vlm.settings import dealt

VERSION = 1
"""Goes up with every change of what the same model, image and prompt give."""

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
CATEGORIES = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
"""Those that a study may set; the service has no filter of a user's own for others."""
THRESHOLDS = ("BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF")
RESOLUTIONS = ("low", "medium", "high")
BLOCKS = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR")
"""Finish reasons of an answer that a filter held back. After all others but STOP and MAX_TOKENS it merely stopped."""

VIDEO_TYPES = ("video/mp4", "video/quicktime", "video/3gpp", "video/webm", "video/mpeg")
"""Of those that are told here, what the service reads: see "MIME types" on
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/video-understanding, as of November 2026."""
IMAGE_TYPES = tuple(MIMES.values())


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which Gemini is asked, and what it is told beside the prompt and ``Decoding``.

    Attributes:
        model: a name such as ``gemini-2.5-flash``, or the whole resource name of a tuned model's endpoint.
        project: of Google Cloud; None for that of the credentials or of the environment.
        location: a region, or ``global``.
        system_prompt: instruction above the prompt.
        safety: category (see CATEGORIES) -> threshold (see THRESHOLDS), or one threshold for all; None for the
            service's own.
        media_resolution: ``low``, ``medium`` or ``high``: tokens that an image gets; None for the model's own.
        thinking_budget: tokens of thought; 0 for none, -1 for as many as the model likes; None for the model's own.
        base_url: another address of the service, such as a private endpoint's.
        credentials: of google-auth; None for the application default credentials.

    Raises:
        ValueError: a value that the service does not know.
    """

    model: str
    project: str | None = None
    location: str = "global"
    system_prompt: str | None = None
    safety: Mapping[str, str] | str | None = None
    media_resolution: str | None = None
    thinking_budget: int | None = None
    base_url: str | None = None
    credentials: Any = None

    def __post_init__(self) -> None:
        thresholds(self.safety)
        if self.media_resolution not in (None, *RESOLUTIONS):
            raise ValueError(f"media_resolution {self.media_resolution!r} is not one of {', '.join(RESOLUTIONS)}")


class GeminiBackend:
    """Answers requests with a Gemini model on Vertex AI, by ``generateContent``, many at once.

    Images go inline. ``Media`` are videos, inline or by the gs:// URI of an object that the service fetches itself, and
    images by URI. Safety filters: an answer that they hold back is a rejected row and never an empty text. A model that
    thinks spends ``max_new_tokens`` on its thoughts too.

    Failures, beside those of ``images.decode`` (bad_input):
        rejected: prompt_blocked_* and answer_blocked_* with the service's word for why (safety, recitation, ...),
            answer_stopped_* for its other reasons, cut_before_text (the token limit came before any text, mostly
            because the model's thinking counts), empty_answer
        transient, once all tries are spent: http_429, http_5xx, those of ``online.by_error``, malformed_answer,
            no_candidates, unfinished, credentials_unreachable
        bad_input: http_400 (the service cannot read this image), http_413, no_image, unknown_type (of ``Media``),
            too_large_inline (a video), http_404 of a request with a gs:// URI

    Args:
        options: those of ``Settings``, of ``Decoding`` and of ``online.Calls``, by name.

    Raises:
        TypeError: an unknown option, or no model.
        ValueError: an option is out of range.
        Fatal: there are no credentials, or no project; and of `generate`, where the service refuses the credentials
            or has no such model. The message says what to do.
    """

    def __init__(self, **options: Any) -> None:
        asked, decoding, calls = dealt(options, Settings, Decoding, Calls)
        self.default_prompt = DEFAULT_PROMPT
        self.max_images = MANY_IMAGES
        self._asked = asked
        self._model, self._location = asked.model, asked.location
        self._config = generation_config(asked, decoding)
        self._online = Online(self._ask, self._guess, decoding.max_new_tokens, self._end, calls)
        self._client, self._project = client_of(asked)

    def generate(self, requests: list[Request]) -> list[Answer]:
        """As many answers as requests, in order; failures as values. Raises ``Fatal`` to stop the job."""
        return self._online.generate(requests)

    def close(self) -> None:
        """Ends connections and the thread. A later ``generate`` opens new ones."""
        self._online.close()

    async def _end(self) -> None:
        await self._client.aio.aclose()

    def _guess(self, request: Request) -> int:
        asked = self._asked
        return tokens_read(request, system_prompt=asked.system_prompt, resolution=asked.media_resolution)

    async def _ask(self, request: Request) -> Reply:
        if not request.images:
            return refused(online.no_image())
        try:
            parts = [await asyncio.to_thread(part_of, image) for image in request.images]
        except BadImage as error:
            return refused(error.failure)
        if request.prompt:
            parts.append(types.Part(text=request.prompt))
        try:
            response = await self._client.aio.models.generate_content(
                model=self._model, contents=types.Content(role="user", parts=parts), config=self._config
            )
        except errors.APIError as error:
            return self._refused(error, request)
        except auth_errors.GoogleAuthError as error:
            return refused(no_token(error))
        except (aiohttp.ClientError, OSError) as error:
            return online.by_error(error)
        except ValueError as error:  # the body of a refusal is not what its header says
            return Reply(online.malformed(f"{type(error).__name__}: {error}"))
        return Reply(read_body(response.sdk_http_response.body if response.sdk_http_response else None))

    def _refused(self, error: errors.APIError, request: Request) -> Reply:
        """By status alone. A 403 or 404 for what holds a gs:// URI may be of that object ("permission denied while
        accessing input file") or of all, and leaves the job to its failed rows."""
        said = f"{error.code} {error.status}: {error.message}"
        stored = any(isinstance(image, Media) and isinstance(image.content, str) for image in request.images)
        if error.code == 401 or (error.code == 403 and not stored):
            raise Fatal(
                f"Vertex AI refuses the credentials for project {self._project!r}: {said}. Log in again (gcloud auth "
                "application-default login), or give the service account the role roles/aiplatform.user, and see that "
                "the project has the Vertex AI API and billing"
            ) from error
        if error.code == 404 and not stored:
            raise Fatal(
                f"Vertex AI has no model {self._model!r} in {self._location!r} for project {self._project!r}: {said}. "
                "Look the name and its regions up in Model Garden"
            ) from error
        if error.code == 400 and error.status == "FAILED_PRECONDITION":  # the project's or the place's fault, no row's
            raise Fatal(f"Vertex AI cannot serve project {self._project!r} in {self._location!r}: {said}") from error
        limited = error.code == 429 or error.status == "RESOURCE_EXHAUSTED"
        return online.refused_by_status(error.code, said, limited=limited, retry_after_sec=_asked_to_wait(error))


def identity(*, prompt: str | None = None, **options: Any) -> dict[str, object]:
    """All that changes an answer, from the options of ``GeminiBackend`` and the prompt; asks nobody.

    The project, the address, the credentials and how the service is asked change none, and are left out.
    """
    asked, decoding, _ = dealt(options, Settings, Decoding, Calls)
    limits = sorted(thresholds(asked.safety).items())
    return {
        "code": VERSION,
        "model": asked.model,
        "location": asked.location,
        "prompt": DEFAULT_PROMPT if prompt is None else prompt,
        "system_prompt": asked.system_prompt,
        "safety": ", ".join(f"{category}={limit}" for category, limit in limits) or None,
        "media_resolution": asked.media_resolution,
        "thinking_budget": asked.thinking_budget,
        **decoding.identity(),
    }


def read_body(body: str | None) -> Answer:
    """The answer that the body of a 200 holds; what is no such body is transient ``malformed_answer``."""
    try:
        return read_response(json.loads(body or ""))
    except (ValueError, RecursionError) as error:
        return online.malformed(f"{type(error).__name__}: {error}")


def read_response(response: Any) -> Answer:
    """The answer in a GenerateContentResponse, as REST (and a line of a batch's output) spells it, parsed from JSON.

    Tokens are counted on whatever came: a blocked prompt has been read, and thoughts are written and paid as text is.
    """
    if not isinstance(response, dict):
        return online.malformed(f"a JSON {type(response).__name__}, not an object")
    usage = response.get("usageMetadata")
    tokens_in, tokens_out = _tokens(usage if isinstance(usage, dict) else {})
    try:
        return _read(response, tokens_in, tokens_out)
    except (AttributeError, TypeError, KeyError, IndexError) as error:  # some field is not of its type
        return online.malformed(f"{type(error).__name__}: {error}", tokens_in, tokens_out)


def _read(response: dict[str, Any], tokens_in: int | None, tokens_out: int | None) -> Answer:
    def no_text(kind: str, reason: str, detail: str, finish: str | None = None) -> Answer:
        return Answer(None, Failure(kind, reason, detail[: online.LONGEST_DETAIL]), finish, tokens_in, tokens_out)

    feedback = response.get("promptFeedback") or {}
    if blocked := feedback.get("blockReason"):
        detail = f"the prompt or its image was blocked: {blocked}{_ratings(feedback)}"
        return no_text(REJECTED, f"prompt_blocked_{blocked.lower()}", detail, f"prompt_{blocked.lower()}")
    candidates = response.get("candidates") or []
    if not candidates:
        return no_text(TRANSIENT, "no_candidates", "no candidate, and no word of why")
    candidate = candidates[0]
    parts = (candidate.get("content") or {}).get("parts") or []
    text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
    reason = candidate.get("finishReason")
    if reason is None or reason == "FINISH_REASON_UNSPECIFIED":
        return no_text(TRANSIENT, "unfinished", "the candidate has no finish reason, so it may be half an answer")
    if reason == "STOP":
        return answered(text, "stop", tokens_in, tokens_out)
    if reason == "MAX_TOKENS":
        if text.strip():
            return answered(text, "length", tokens_in, tokens_out)
        thoughts = (response.get("usageMetadata") or {}).get("thoughtsTokenCount")
        detail = f"no text before the token limit ({thoughts or 0} tokens went to thoughts): raise it, or think less"
        return no_text(REJECTED, "cut_before_text", detail, "length")
    word = reason.lower()
    said = f": {candidate['finishMessage']}" if candidate.get("finishMessage") else ""
    held = "blocked" if reason in BLOCKS else "stopped"
    return no_text(
        REJECTED, f"answer_{held}_{word}", f"the answer was {held}: {reason}{_ratings(candidate)}{said}", word
    )


def _tokens(usage: dict[str, Any]) -> tuple[int | None, int | None]:
    """Read and written, thoughts included. The service leaves out a count of 0."""
    read = online.whole(usage.get("promptTokenCount"))
    if read is None:
        return None, None
    written = (online.whole(usage.get(name)) or 0 for name in ("candidatesTokenCount", "thoughtsTokenCount"))
    return read, sum(written)


def _ratings(judged: dict[str, Any]) -> str:
    """Which categories a filter blocked, where it says so."""
    ratings = [rating for rating in judged.get("safetyRatings") or [] if rating.get("blocked")]
    named = ", ".join(f"{rating.get('category')} {rating.get('probability')}" for rating in ratings)
    return f" ({named})" if named else ""


def part_of(image: bytes | Media) -> types.Part:
    """An image or a video as a part of a request; BadImage where it cannot be sent."""
    if isinstance(image, Media):
        return _part_of_media(image)
    mime, data = online.picture(image)
    return types.Part(inline_data=types.Blob(mime_type=mime, data=data))


def _part_of_media(media: Media) -> types.Part:
    allowed = VIDEO_TYPES if media.is_video else IMAGE_TYPES
    if media.mime not in allowed:
        raise BadImage("unknown_type", f"{media.mime}; the service reads {', '.join(allowed)}")
    if isinstance(media.content, str):
        return types.Part(file_data=types.FileData(file_uri=media.content, mime_type=media.mime))
    if len(media.content) > MOST_INLINE_BYTES:
        raise BadImage(
            "too_large_inline",
            f"{len(media.content)} bytes, {MOST_INLINE_BYTES} fit into a request: put it at a gs:// URI",
        )
    return types.Part(inline_data=types.Blob(mime_type=media.mime, data=media.content))


def client_of(asked: Settings, *, timeout_sec: float | None = None) -> tuple[genai.Client, str]:
    """google-genai's client, which makes each call once, and the project. `timeout_sec`: of a call, where it has none.

    Raises:
        Fatal: there are no credentials, or no project.
    """
    credentials, project = _credentials_of(asked.credentials, asked.project)
    client = genai.Client(
        vertexai=True,
        project=project,
        location=asked.location,
        credentials=credentials,
        http_options=types.HttpOptions(
            base_url=asked.base_url,
            api_version="v1",
            timeout=None if timeout_sec is None else round(timeout_sec * 1000),
            retry_options=types.HttpRetryOptions(attempts=1),  # its own would ignore what the service asks for
        ),
    )
    return client, project


def _credentials_of(credentials: Any, project: str | None) -> tuple[Any, str]:
    found = None
    if credentials is None:
        try:
            credentials, found = google.auth.default(scopes=[SCOPE], quota_project_id=project)
        except auth_errors.GoogleAuthError as error:
            raise Fatal(
                f"no Google Cloud credentials: {error} Run `gcloud auth application-default login`, or name a key file "
                "in GOOGLE_APPLICATION_CREDENTIALS; on GKE bind the pod's service account to a Google one"
            ) from error
    project = project or found
    if not project:
        raise Fatal("no Google Cloud project: name one in the study, or set GOOGLE_CLOUD_PROJECT")
    return credentials, project


def no_token(error: auth_errors.GoogleAuthError) -> Failure:
    """What may pass of the trouble to get a token.

    Raises:
        Fatal: the credentials have expired, were revoked, or are no credentials.
    """
    if isinstance(error, auth_errors.TransportError) or error.retryable:
        return Failure(TRANSIENT, "credentials_unreachable", f"{error}"[: online.LONGEST_DETAIL])
    raise Fatal(
        f"the Google Cloud credentials give no token: {error}. Log in again (gcloud auth application-default login), "
        "or renew the key that GOOGLE_APPLICATION_CREDENTIALS names"
    ) from error


def _asked_to_wait(error: errors.APIError) -> float | None:
    """Seconds, by the header Retry-After or by google.rpc.RetryInfo in the body; the longer where there are both."""
    headers = getattr(error.response, "headers", None) or {}
    waits = [retry_after_sec(headers.get("retry-after"))]
    body = error.details.get("error") if isinstance(error.details, dict) else None
    details = body.get("details") if isinstance(body, dict) else None
    for detail in details if isinstance(details, list) else []:
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and delay.endswith("s"):
            waits.append(retry_after_sec(delay[:-1]) if delay[:1].isdigit() else None)
    return max((wait for wait in waits if wait is not None), default=None)


def thresholds(safety: Mapping[str, str] | str | None) -> dict[str, str]:
    """Category -> threshold, in the service's words without its prefix; empty for the service's own.

    Raises:
        ValueError: an unknown category or threshold.
    """
    asked = dict.fromkeys(CATEGORIES, safety) if isinstance(safety, str) else dict(safety or {})
    plain = {name.upper().removeprefix("HARM_CATEGORY_"): limit.upper() for name, limit in asked.items()}
    for name, limit in plain.items():
        if name not in CATEGORIES:
            raise ValueError(f"safety category {name!r} is not one of {', '.join(CATEGORIES)}")
        if limit not in THRESHOLDS:
            raise ValueError(f"safety threshold {limit!r} is not one of {', '.join(THRESHOLDS)}")
    return plain


def generation_config(asked: Settings, decoding: Decoding) -> types.GenerateContentConfig:
    resolution, thinking = asked.media_resolution, asked.thinking_budget
    return types.GenerateContentConfig(
        temperature=decoding.temperature,
        top_p=None if decoding.greedy else decoding.top_p,
        seed=None if decoding.greedy else decoding.seed,
        max_output_tokens=decoding.max_new_tokens,
        candidate_count=1,
        system_instruction=asked.system_prompt,
        safety_settings=[
            types.SafetySetting(
                category=types.HarmCategory(f"HARM_CATEGORY_{name}"), threshold=types.HarmBlockThreshold(limit)
            )
            for name, limit in thresholds(asked.safety).items()
        ]
        or None,
        media_resolution=types.MediaResolution(f"MEDIA_RESOLUTION_{resolution.upper()}") if resolution else None,
        thinking_config=None if thinking is None else types.ThinkingConfig(thinking_budget=thinking),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        should_return_http_response=True,  # we read the body: a malformed one is the service's fault, not the client's
    )
