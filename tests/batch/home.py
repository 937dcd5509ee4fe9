"""Rows, their table and the batch service beside them: what its tests ask about."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.oauth2.credentials import Credentials

from seewhy import schema, storage
from seewhy.caption import CaptionRequests
from seewhy.prices import Price
from seewhy.progress import Counter, Reporter
from seewhy.run import Source, Stored
from seewhy.steps.batch import Asker
from seewhy.steps.shards import Writing
from seewhy.table import Table, digest, missing_rows
from seewhy.vlm import gemini_batch
from seewhy.vlm.gemini_batch import BatchJobs
from tests.vlm.batch_stub import BatchStub, noise
from tests.vlm.gemini_stub import IMAGE_TOKENS, Stub, words_about

PROMPT = "What is it?"
PRICE = Price(usd_in=1.0, usd_out=4.0)
READ, WRITTEN_OUT = IMAGE_TOKENS + 3, 4  # an image and three words in; its hash and those words out


class Home:
    """Rows, their table, and the service; every asker is a new driver, as after a kill."""

    def __init__(self, tmp_path: Path, bucket: str, stub: Stub, *, rows: int = 10, lost: int = 0) -> None:
        self.images = {digest(number): noise(number) for number in range(rows)}
        images = Table(
            str(tmp_path / "images"), pa.schema([("id", pa.string()), ("image", pa.binary()), *schema.FAILURE_FIELDS])
        )
        stored = [b"<html>" if place < lost else one for place, one in enumerate(self.images.values())]
        ok = [None] * rows
        part = {"id": list(self.images), "image": stored, "error_kind": ok, "reason": ok, "detail": ok}
        images.append(pa.table(part, schema=images.schema), generation=1)
        keys = images.index().select(["id", "part", "position"])
        self.source = Source(keys, (Stored(tuple(images.parts()), {"image": "image"}),))
        self.table = Table(str(tmp_path / "caption" / "t1"), schema.CAPTIONS)
        self.folder = f"{bucket}/{tmp_path.name}"
        self.stream = io.StringIO()
        self.options = {"model": "m", "project": "p", "location": "here", "base_url": stub.url}

    def ask(self, **more: Any) -> Counter:
        counter = Counter("caption", len(self.images), "rows")
        self.asker(**more).answer(missing_rows(self.source.keys, self.table.done_ids()), counter)
        return counter

    def asker(
        self,
        *,
        bytes_a_job: int = 10**9,
        requests: Any = CaptionRequests,
        requests_args: dict[str, Any] | None = None,
        project: str = "p",
        **more: Any,
    ) -> Asker:
        writing = Writing(
            source=Source(self.source.keys.schema.empty_table(), self.source.stored),
            table=self.table,
            requests=requests,
            requests_args=requests_args or {"prompt": PROMPT},
            shared=gemini_batch.frame(model="m", max_new_tokens=100),
            folder=self.folder,
            rows_per_block=4,
            bytes_a_job=bytes_a_job,
        )
        jobs = BatchJobs(**{**self.options, "project": project}, credentials=Credentials(token="fake"))
        return Asker("caption", Reporter(stream=self.stream), jobs=jobs, writing=writing, **more)

    def texts(self) -> dict[str, str]:
        rows = self.table.read(["id", "text"]).to_pylist()
        assert len({row["id"] for row in rows}) == len(rows)
        return {row["id"]: row["text"] for row in rows}

    def right(self) -> dict[str, str]:
        return {key: words_about([image], PROMPT) for key, image in self.images.items()}

    def outcomes(self) -> dict[str, int]:
        counts = self.table.counts(self.source.keys["id"])
        return {"ok": counts.ok, "missing": counts.missing, **counts.reasons}

    def said(self) -> str:
        return self.stream.getvalue()

    def records(self) -> list[dict[str, Any]]:
        folder = f"{self.table.url}/_batch"
        return [storage.read_json(f"{folder}/{name}") for name in storage.list_files(folder) if name.endswith(".json")]


class Interrupt(BaseException):
    """A kill that a test can see."""


def interrupted(*_: Any, **__: Any) -> Any:
    raise Interrupt


def rows_asked(batches: BatchStub) -> list[int]:
    files = [job["inputConfig"]["gcsSource"]["uris"][0] for job in batches.jobs.values()]
    return [len(storage.read_whole(url).splitlines()) for url in files]


def left_at_work(home: Home, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """A driver that dies while its job runs."""
    with monkeypatch.context() as patch:
        patch.setattr(BatchJobs, "get", interrupted)
        with pytest.raises(Interrupt):
            home.ask(**more)
