"""Gemini's batch service on Vertex AI: files of requests in, files of answers out, at half the price of online calls.

A job reads one file of JSON lines from Cloud Storage, a request a line, and writes files of JSON lines, in an order of
its own, of which each holds a request as it was given, and its response or a status that says why there is none:

    {"key": ..., "request": {"contents": [...], "generationConfig": {...}, "labels": {...}}}
    {"key": ..., "request": {...}, "status": "", "response": {"candidates": [...], ...}, "processed_time": ...}

Answers find their requests by id and never by order. The id stands in the line itself, whose own keys the service is
not documented to keep, and in the request's labels, which come back with it; where both are gone, the pictures and
the prompt tell.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from google.auth import exceptions as auth_errors
from google.genai import errors, types

from seewhy.failure import TRANSIENT, Failure, Fatal
from seewhy.images import BadImage
from seewhy.vlm import gemini, online
from seewhy.vlm.base import Answer, Decoding, Media, Request
from seewhy.vlm.gemini import Settings
from seewhy.vlm.gemini_tokens import tokens_read
from seewhy.vlm.online import Calls
from seewhy.vlm.settings import dealt

# https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/batch-prediction-gemini, "Quotas and limits": 200,000
# requests a job and 1 GB a file; a job waits in the queue for up to 72 hours, then expires; what is not answered 24
# hours after its start is cancelled, and only what was answered is charged. One large job is done sooner than many
# small ones.
MOST_LINES = 200_000
MOST_BYTES = 1_000_000_000
LONGEST_RUN_SEC = 23 * 3600
"""A job that was cancelled after running so long was cancelled by the service, which says 24 hours."""

LABEL = "seewhy_row"
"""Of a request: lower-case letters, digits, _ and -, as its value, which may be 63 characters long."""

_BESIDE_GENERATION = ("systemInstruction", "safetySettings")
_NOT_SENT = ("automaticFunctionCalling", "shouldReturnHttpResponse", "httpOptions")

# google/rpc/code.proto, where the HTTP status of each code is given
_HTTP_OF_CODE = {
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}


# Lines


@dataclass(frozen=True)
class Line:
    """A request as a job reads it.

    Attributes:
        text: the line, with its end.
        digest: of what the model is shown and asked.
        tokens_in: that it will read, about.
    """

    text: bytes
    digest: str
    tokens_in: int


def frame(**options: Any) -> dict[str, Any]:
    """What all requests share, as REST spells it, from the options of ``GeminiBackend``: the same as it sends online.

    Raises:
        TypeError, ValueError: see there.
    """
    asked, decoding, _ = dealt(options, Settings, Decoding, Calls)
    config = gemini.generation_config(asked, decoding)
    fields = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    shared = {name: fields.pop(name) for name in _BESIDE_GENERATION if name in fields}
    if "systemInstruction" in shared:
        shared["systemInstruction"] = {"role": "user", "parts": [{"text": asked.system_prompt}]}
    return {**shared, "generationConfig": {name: value for name, value in fields.items() if name not in _NOT_SENT}}


def request_line(request: Request, shared: Mapping[str, Any]) -> Line | Failure:
    """The line of a request, or why its images cannot be sent: see ``GeminiBackend``. `shared` is of ``frame``."""
    if not request.images:
        return online.no_image()
    try:
        parts = [_part(image) for image in request.images]
    except BadImage as error:
        return error.failure
    if request.prompt:
        parts.append({"text": request.prompt})
    body = {"contents": [{"role": "user", "parts": parts}], **shared, "labels": {LABEL: request.id}}
    text = json.dumps({"key": request.id, "request": body}, ensure_ascii=False, separators=(",", ":"))
    digest = _digest(body)
    assert digest is not None
    return Line(text.encode("utf-8", "replace") + b"\n", digest, _tokens_read(request, shared))


def _tokens_read(request: Request, shared: Mapping[str, Any]) -> int:
    told = [part["text"] for part in shared.get("systemInstruction", {}).get("parts", [])]
    resolution = shared["generationConfig"].get("mediaResolution", "").removeprefix("MEDIA_RESOLUTION_").lower()
    return tokens_read(request, system_prompt="".join(told), resolution=resolution or None)


def _part(image: bytes | Media) -> dict[str, Any]:
    part = gemini.part_of(image)
    if part.inline_data is None:
        return part.model_dump(mode="json", by_alias=True, exclude_none=True)
    data = base64.b64encode(part.inline_data.data or b"").decode()
    return {"inlineData": {"mimeType": part.inline_data.mime_type, "data": data}}


@dataclass
class Output:
    """What a job's files hold.

    Attributes:
        answers: by the request's id: of several, the first that has a text, else the first that will not pass.
        repeated: lines whose request had been answered by another.
        broken: lines that are no whole JSON object.
        foreign: lines that belong to no request that was asked about.
        uncounted: lines with a response that does not say how many tokens it took.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    repeated: int = 0
    broken: int = 0
    foreign: int = 0
    uncounted: int = 0


def read_lines(lines: Iterable[bytes], asked: Mapping[str, str]) -> Output:
    """The answers to the requests `asked`: id -> digest of its line."""
    output = Output()
    unnamed: dict[str, list[str]] = {}  # of requests that are equal, each answer is as good as another
    for name, digest in asked.items():
        unnamed.setdefault(digest, []).append(name)
    for line in lines:
        if not line.strip():
            continue
        try:
            read = json.loads(line)
        except (ValueError, RecursionError):
            output.broken += 1
            continue
        key = _key(read, asked, unnamed, output.answers)
        if key is None:
            output.foreign += 1
            continue
        answer = _answer(read)
        output.uncounted += answer.tokens_in is None and bool(read.get("response"))
        before = output.answers.get(key)
        output.repeated += before is not None
        if before is None or _worth(answer) > _worth(before):
            output.answers[key] = answer
    return output


def _key(
    line: Any, asked: Mapping[str, str], unnamed: Mapping[str, list[str]], answers: Mapping[str, Answer]
) -> str | None:
    if not isinstance(line, dict):
        return None
    body = line.get("request")
    labels = body.get("labels") if isinstance(body, dict) else None
    for named in (line.get("key"), labels.get(LABEL) if isinstance(labels, dict) else None):
        if isinstance(named, str) and named in asked:
            return named
    equal = unnamed.get(_digest(body) or "", [])
    return next((key for key in equal if key not in answers), equal[0] if equal else None)


def _answer(line: dict[str, Any]) -> Answer:
    response, status = line.get("response"), line.get("status") or line.get("error")
    if response or not status:
        return gemini.read_response(response if response is not None else {})
    return Answer(failure=_by_status(status))


def _by_status(status: Any) -> Failure:
    """By the code that the status holds: as an object, or in a text that ends in one. Without a code it may pass."""
    said = status if isinstance(status, str) else json.dumps(status)
    error = _object_in(status) if isinstance(status, str) else status
    error = error.get("error", error) if isinstance(error, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and not isinstance(code, bool):
        http = _HTTP_OF_CODE.get(code, code)
        if 400 <= http < 600:
            return online.by_answer(http, said)
    return Failure(TRANSIENT, "batch_error", said[: online.LONGEST_DETAIL])


def _object_in(text: str) -> Any:
    """The JSON object that a text ends in, as in ``Bad Request: {"error": {"code": 400, ...}}``."""
    start = text.find("{")
    try:
        return json.loads(text[start:]) if start >= 0 else None
    except (ValueError, RecursionError):
        return None


def _worth(answer: Answer) -> int:
    return 2 if answer.failure is None else int(answer.failure.kind != TRANSIENT)


def _digest(body: Any) -> str | None:
    """Names what a request shows and asks, however its fields and its base64 are spelt; None for what is no request."""
    try:
        parts = [_camel(part) for content in body["contents"] for part in content["parts"]]
        pieces = [piece for part in parts for piece in _pieces(part)]
    except (TypeError, KeyError, AttributeError, binascii.Error, ValueError):
        return None
    return hashlib.sha256(json.dumps(pieces).encode()).hexdigest()[:32]


def _pieces(part: dict[str, Any]) -> Iterator[str]:
    if "inlineData" in part:
        data = part["inlineData"]["data"].replace("-", "+").replace("_", "/")
        yield "image " + hashlib.sha256(base64.b64decode(data + "=" * (-len(data) % 4))).hexdigest()
    elif "fileData" in part:
        yield "file " + part["fileData"]["fileUri"]
    else:
        yield "text " + part["text"]


def _camel(value: Any) -> Any:
    """Google's JSON takes a field's name as camelCase and as snake_case."""
    if not isinstance(value, dict):
        return value
    return {re.sub(r"_(\w)", lambda m: m[1].upper(), name): _camel(inner) for name, inner in value.items()}


# Jobs


@dataclass(frozen=True)
class Job:
    """A job as the service tells of it.

    Attributes:
        name: the service's, ``projects/.../batchPredictionJobs/...``.
        state: without its prefix: QUEUED, PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED, EXPIRED, ...
        code: HTTP status of what it failed of, None if it says none; `message`: in words.
        source: URIs of what it reads.
        ran_sec: from its start to its end, as far as both are known.
    """

    name: str
    state: str
    code: int | None = None
    message: str = ""
    source: tuple[str, ...] = ()
    ran_sec: float | None = None

    @property
    def ended(self) -> bool:
        return self.state in ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", GONE)

    @property
    def was_stopped(self) -> bool:
        """Somebody cancelled it, as the service itself does only after a day."""
        return self.state == "CANCELLED" and (self.ran_sec is None or self.ran_sec < LONGEST_RUN_SEC)


GONE = "GONE"
"""State of a job that the service does not know any more, because somebody deleted it."""


class BatchJobs:
    """Makes and watches jobs of one model by google-genai.

    Every call is made once. What may pass comes back as a transient failure.

    Args:
        options: of ``GeminiBackend``; of these ``timeout_sec`` is that of one call.

    Raises:
        TypeError, ValueError: see there.
        Fatal: there are no credentials or no project; and of every call, where the service refuses it for good.
    """

    def __init__(self, **options: Any) -> None:
        asked, _, calls = dealt(options, Settings, Decoding, Calls)
        self._model, self._location = asked.model, asked.location
        self._client, self.project = gemini.client_of(asked, timeout_sec=calls.timeout_sec)

    def create(self, display_name: str, *, source: str, output: str) -> Job | Failure:
        """Makes a job that reads the file `source` and writes below the folder `output`.

        After a failure the job may be there all the same, except for ``http_429``: look for it by ``find``.
        """
        return self._asked(
            "make a batch job",
            lambda: self._client.batches.create(
                model=self._model,
                # the typed source: a plain list of URIs is taken for inline requests
                src=types.BatchJobSource(format="jsonl", gcs_uri=[source]),
                config=types.CreateBatchJobConfig(
                    display_name=display_name, dest=types.BatchJobDestination(format="jsonl", gcs_uri=output)
                ),
            ),
        )

    def find(self, display_name: str, *, source: str) -> Job | Failure | None:
        """The first job of that name that reads `source`, None where there is none."""

        def oldest() -> types.BatchJob | None:
            pages = self._client.batches.list(
                config=types.ListBatchJobsConfig(filter=f'display_name="{display_name}"', page_size=100)
            )
            ours = [job for job in pages if job.display_name == display_name and source in _sources(job)]
            return min(ours, key=lambda job: (job.create_time is None, job.create_time, job.name), default=None)

        return self._asked("list batch jobs", oldest)

    def get(self, name: str) -> Job | Failure:
        """The job as it is now; of state GONE if nobody knows it."""
        return self._asked("look at a batch job", lambda: self._client.batches.get(name=name), gone=Job(name, GONE))

    def _asked(self, doing: str, call: Any, gone: Job | None = None) -> Any:
        try:
            found = call()
        except errors.APIError as error:
            if error.code == 404 and gone is not None:
                return gone
            return self._refused(doing, error)
        except auth_errors.GoogleAuthError as error:
            return gemini.no_token(error)
        except (httpx.HTTPError, OSError) as error:
            return Failure(TRANSIENT, "disconnected", f"{type(error).__name__}: {error}"[: online.LONGEST_DETAIL])
        except ValueError as error:  # the body is not what its header says
            return Failure(TRANSIENT, "malformed_answer", f"{error}"[: online.LONGEST_DETAIL])
        return _job(found) if isinstance(found, types.BatchJob) else found

    def _refused(self, doing: str, error: errors.APIError) -> Failure:
        said = f"{error.code} {error.status}: {error.message}"
        failure = online.by_answer(error.code, said)
        if failure.kind == TRANSIENT:
            return failure
        raise Fatal(
            f"Vertex AI refuses to {doing} of {self._model!r} in {self._location!r} for project {self.project!r}: "
            f"{said}. The project needs the Vertex AI API and billing, the credentials the role roles/aiplatform.user, "
            "and the model and the place must be ones that take batch jobs"
        ) from error


def _sources(job: types.BatchJob) -> tuple[str, ...]:
    return tuple((job.src.gcs_uri if job.src else None) or ())


def _job(found: types.BatchJob) -> Job:
    code = found.error.code if found.error else None
    ran = (found.end_time - found.start_time).total_seconds() if found.end_time and found.start_time else None
    return Job(
        name=found.name or "",
        state=found.state.value.removeprefix("JOB_STATE_") if found.state else "UNSPECIFIED",
        code=_HTTP_OF_CODE.get(code, code) if code else None,
        message=(found.error.message if found.error else None) or "",
        source=_sources(found),
        ran_sec=ran,
    )
