"""Vertex AI's REST endpoint of batch jobs, beside that of Gemini: reads a job's file and writes its answers, shuffled.

What goes wrong with a job stands in its course; the courses are taken in the order in which jobs are made.
"""

import asyncio
import io
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from aiohttp import web
from PIL import Image

from seewhy import storage
from tests.vlm.gemini_stub import FAULTS, Stub, _camel, answer_to, error, gemini_stub

BAD_REQUEST = 'Bad Request: {"error": {"code": 400, "message": "Unable to process input image.", "status": "INVALID"}}'
OVERLOADED = 'Error: {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}'


@dataclass(frozen=True)
class Course:
    """How a job goes. Rows are counted in the order of its file: first those that fail, and so on.

    Attributes:
        looks: at the job until it has ended; None: it never does.
        state, code, message, hours: how it ends.
        failing: rows with this status instead of an answer; answers: rows with these faults of FAULTS as answers.
        unwritten: rows without a line; repeated: rows with two, of which the second is another answer's.
        cut: the last line is half a line.
        forgets: fields that a line comes back without: key, labels, request.
    """

    looks: int | None = 1
    state: str = "SUCCEEDED"
    code: int | None = None
    message: str = ""
    hours: float = 1.0
    failing: Sequence[str] = ()
    answers: Sequence[str] = ()
    unwritten: int = 0
    repeated: int = 0
    cut: bool = False
    forgets: Sequence[str] = ()


@dataclass
class BatchStub:
    """`faults`: what the next calls that make a job meet: 429, 503, 400, made_503 (it is made all the same), made_hang.

    `outages`: how many of the next calls that look at jobs or list them are answered 503.
    """

    courses: list[Course] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    outages: int = 0
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    lists: int = 0

    def routes(self) -> list[web.RouteDef]:
        root = "/{version}/projects/{project}/locations/{place}/batchPredictionJobs"
        return [
            web.post(root, self._create),
            web.get(root, self._list),
            web.get(root + "/{job:[0-9]+}", self._get),
            web.post(root + "/{job:[0-9]+}:cancel", self._cancel),
        ]

    def named(self, display_name: str) -> list[dict[str, Any]]:
        return [job for job in self.jobs.values() if job["displayName"] == display_name]

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        fault = self.faults.pop(0) if self.faults else None
        if fault in ("429", "503", "400"):
            return _says(int(fault))
        where = "projects/{project}/locations/{place}".format(**request.match_info)
        number = str(1000 + len(self.jobs))
        now = datetime.now(UTC)
        self.jobs[number] = {
            **{name: body[name] for name in ("displayName", "model", "inputConfig", "outputConfig")},
            "name": f"{where}/batchPredictionJobs/{number}",
            "state": "JOB_STATE_PENDING",
            "createTime": now.isoformat(),
            "startTime": now.isoformat(),
            "course": self.courses.pop(0) if self.courses else Course(),
        }
        if fault == "made_503":
            return _says(503)
        if fault == "made_hang":
            await asyncio.sleep(3600)
        return web.json_response(_shown(self.jobs[number]))

    async def _list(self, request: web.Request) -> web.Response:
        """Two jobs a page, the newest first."""
        self.lists += 1
        if self._out():
            return _says(503)
        asked = re.fullmatch(r'display_name="(.*)"', request.query["filter"])
        found = [job for job in reversed(self.jobs.values()) if asked and job["displayName"] == asked[1]]
        start = int(request.query.get("pageToken") or 0)
        more = {"nextPageToken": str(start + 2)} if start + 2 < len(found) else {}
        return web.json_response({"batchPredictionJobs": [_shown(job) for job in found[start : start + 2]], **more})

    async def _get(self, request: web.Request) -> web.Response:
        number = request.match_info["job"]
        if self._out():
            return _says(503)
        if number not in self.jobs:
            return _says(404)
        self.looks[number] = self.looks.get(number, 0) + 1
        job = self.jobs[number]
        course = job["course"]
        if job["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
            job["state"] = "JOB_STATE_RUNNING"
            if course.looks is not None and self.looks[number] >= course.looks:
                await asyncio.to_thread(_work, job, course)
        return web.json_response(_shown(job))

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self.jobs[request.match_info["job"]]
        job["course"] = Course(state="CANCELLED", unwritten=1, hours=0.5)
        await asyncio.to_thread(_work, job, job["course"])
        return web.json_response({})

    def _out(self) -> bool:
        self.outages -= self.outages > 0
        return self.outages > 0


def noise(number: int) -> bytes:
    """A PNG of 40 x 48 pixels, some 6 KB, of its own for every number."""
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def batch_stub() -> tuple[Stub, BatchStub]:
    """The server of online calls, and what it does of batch jobs."""
    jobs = BatchStub()
    return gemini_stub(more=jobs.routes()), jobs


def _says(status: int) -> web.Response:
    said = {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}[status]
    return web.json_response(error(status, said, f"planned {status}"), status=status)


def _shown(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name != "course"}


def _work(job: dict[str, Any], course: Course) -> None:
    """Reads the job's file, and writes its answers to a folder of its own, in two files."""
    (source,) = job["inputConfig"]["gcsSource"]["uris"]
    assert job["inputConfig"]["instancesFormat"] == job["outputConfig"]["predictionsFormat"] == "jsonl"
    asked = [json.loads(line) for line in storage.read_whole(source).splitlines()]
    statuses, answers = list(course.failing), list(course.answers)
    unwritten, repeated = course.unwritten, course.repeated
    lines = []
    for line in asked:
        line["processed_time"] = datetime.now(UTC).isoformat()
        if statuses:
            lines.append(line | {"status": statuses.pop(0), "response": {}})
            continue
        if answers:
            lines.append(line | {"status": "", "response": json.loads(FAULTS[answers.pop(0)]().text)})
            continue
        if unwritten:
            unwritten -= 1
            continue
        status, body = answer_to(_camel(line["request"]))
        lines.append(line | ({"status": "", "response": body} if status == 200 else {"status": json.dumps(body)}))
        if repeated:
            repeated -= 1
            lines.append(line | {"status": OVERLOADED, "response": {}})
    texts = [json.dumps(_without(line, course.forgets)).encode() + b"\n" for line in lines]
    random.Random(len(texts)).shuffle(texts)
    if course.cut and texts:
        texts[-1] = texts[-1][: len(texts[-1]) // 2]
    folder = f"{job['outputConfig']['gcsDestination']['outputUriPrefix']}/prediction-model-2026-11-21T10:00:00.000001Z"
    half = len(texts) // 2
    for name, part in (("predictions_00.jsonl", texts[:half]), ("predictions_01.jsonl", texts[half:])):
        if part:
            storage.write_whole(f"{folder}/{name}", b"".join(part))
    job["state"] = f"JOB_STATE_{course.state}"
    job["endTime"] = (datetime.fromisoformat(job["startTime"]) + timedelta(hours=course.hours)).isoformat()
    if course.code is not None:
        job["error"] = {"code": course.code, "message": course.message}
    if course.state == "SUCCEEDED":
        job["outputInfo"] = {"gcsOutputDirectory": folder}


def _without(line: dict[str, Any], forgotten: Sequence[str]) -> dict[str, Any]:
    kept = {name: value for name, value in line.items() if name not in forgotten}
    if "labels" in forgotten and "request" in kept:
        kept["request"] = {name: value for name, value in kept["request"].items() if name != "labels"}
    return kept
