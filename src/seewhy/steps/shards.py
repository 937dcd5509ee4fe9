"""The files that rows go to the batch service in and come back from it, and the record of each: see `batch`.

caption/3f9c2a71b04e/
    _batch/seewhy-8d0c....json           what is known of a job's making, see Shard
    _batch/seewhy-8d0c....keys.parquet   its rows: id, id of the request, digest of what it shows and asks
gs://bucket/folder/caption-3f9c2a71b04e/seewhy-8d0c..../
    input.jsonl                          the requests
    output/...                           the service's answers; nothing of both is ever deleted here
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seewhy import schema, storage, urls
from seewhy.caption import caption_row
from seewhy.failure import KINDS, TRANSIENT, Failure
from seewhy.prices import Price
from seewhy.run import Source, read_block
from seewhy.schema import ID
from seewhy.table import Table, digest, read_part
from seewhy.vlm import gemini_batch
from seewhy.vlm.base import Answer, Request
from seewhy.vlm.gemini_batch import Line, Output

Asks = Callable[[pa.Table], Sequence[Request | Failure]]

WRITTEN, ASKING, MADE, COLLECTED = "written", "asking", "made", "collected"


@dataclass(frozen=True)
class Shard:
    """Rows that one job is asked about: its record, a JSON file.

    Attributes:
        name: the job's display name.
        input, output: URL of the file of requests, and of the folder for the answers.
        rows, size_bytes: of the file.
        tokens_in: that the job will read, about; longest_in: of these, its longest request.
        most_usd: what was set aside for the job when it was asked for; None where nobody knew its price.
        state: written (the file is whole), asking (the service was asked to make the job, and may have), made,
            collected (what it answered is in the table).
        asked_at: seconds since 1970 when it was last asked to.
        project: that the job was asked for in.
        job: the service's name of it.
        ended: how it ended, and what it came to, for people.
    """

    name: str
    input: str
    output: str
    rows: int
    size_bytes: int
    tokens_in: int
    most_usd: float | None = None
    state: str = WRITTEN
    asked_at: float | None = None
    project: str | None = None
    job: str | None = None
    ended: dict[str, Any] | None = None
    longest_in: int = 0


@dataclass(frozen=True)
class Writing:
    """What the tasks that write requests share.

    Attributes:
        requests, requests_args: class, and its arguments, of a function from a block of rows to a request a row, or
            why there is none.
        shared: what all requests have in common, of `gemini_batch.frame`.
        folder: where files go.
        rows_per_block: rows whose images a task holds at once.
        bytes_a_job: a file is no larger.
        stamp: of this writing, so that its jobs are none of an earlier one's.
        generation: of the parts of rows that cannot be asked about.
    """

    source: Source
    table: Table
    requests: Callable[..., Asks]
    requests_args: Mapping[str, Any]
    shared: Mapping[str, Any]
    folder: str
    rows_per_block: int
    bytes_a_job: int
    stamp: str = ""
    generation: int = 1


@dataclass(frozen=True)
class Reading:
    """What the tasks that read answers share."""

    table: Table
    generation: int
    price: Price | None
    rows_a_part: int


@dataclass(frozen=True)
class Collected:
    """What a job came to.

    Attributes:
        counts: rows by outcome, of those that were still wanted.
        settled: ids of those that need not be asked again.
        unanswered: rows without a line.
        tokens_in, tokens_out, usd: of all answers; usd None without a price. A line whose tokens nobody can read counts
            as what was set aside for it.
        repeated, broken, foreign: lines, see `gemini_batch.Output`.
    """

    counts: dict[str, int]
    settled: list[str]
    unanswered: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    repeated: int
    broken: int
    foreign: int


def open_shards(table: Table) -> list[Shard]:
    """The table's jobs that have not been collected yet, made or not."""
    folder = urls.join(table.url, _RECORDS)
    names = [name for name in sorted(storage.list_files(folder)) if name.endswith(".json")]
    shards = [Shard(**storage.read_json(urls.join(folder, name)) or {}) for name in names]
    return [shard for shard in shards if shard.state != COLLECTED]


def write_shards(rows: pa.Table, shared: Writing) -> tuple[list[Shard], dict[str, str]]:
    """Writes the requests of rows (keys of a source) to files, each with its record, which comes last.

    Returns:
        Shards, in the order of the rows; and of the rows that cannot be asked about, which are in the table when this
        returns, id -> kind of failure.
    """
    requests = shared.requests(**shared.requests_args)
    refused: dict[str, Failure] = {}
    lines = _Ahead(_lines(rows, requests, shared, refused))
    shards = []
    while not lines.ended:
        shards.append(_write_shard(lines, shared))
    if refused:
        failed = [caption_row(key, Answer(failure=failure)) for key, failure in refused.items()]
        shared.table.append(pa.Table.from_pylist(failed, schema=schema.CAPTIONS), generation=shared.generation)
    return shards, {key: failure.kind for key, failure in refused.items()}


class _Ahead:
    """An iterator that can be asked what comes next."""

    def __init__(self, lines: Iterator[tuple[str, str, Line]]) -> None:
        self._lines = lines
        self.head = next(lines, None)

    @property
    def ended(self) -> bool:
        return self.head is None

    def take(self) -> tuple[str, str, Line]:
        taken = self.head
        assert taken is not None
        self.head = next(self._lines, None)
        return taken


def _lines(
    rows: pa.Table, requests: Asks, shared: Writing, refused: dict[str, Failure]
) -> Iterator[tuple[str, str, Line]]:
    """(id of the row, id of its request, line), a block of images in memory at a time."""
    for start in range(0, len(rows), shared.rows_per_block):
        block = read_block(shared.source, rows.slice(start, shared.rows_per_block))
        for key, made in zip(block.column(ID).to_pylist(), requests(block), strict=True):
            line = made if isinstance(made, Failure) else gemini_batch.request_line(made, shared.shared)
            if isinstance(line, Failure):
                refused[key] = line
            elif isinstance(made, Request):
                yield key, made.id, line


def _write_shard(lines: _Ahead, shared: Writing) -> Shard:
    """One file, until it would be too large: the same for the same rows and stamp."""
    first = lines.head
    assert first is not None
    name = f"seewhy-{digest([shared.table.url, shared.stamp, first[0]])}"
    folder = urls.join(shared.folder, name)
    url = urls.join(folder, "input.jsonl")
    keys: dict[str, list[str]] = {ID: [], "request": [], "digest": []}
    size = tokens = longest = 0
    with storage.writing(url) as file:
        while lines.head is not None and (not size or size + len(lines.head[2].text) <= shared.bytes_a_job):
            key, request, line = lines.take()
            file.write(line.text)
            size += len(line.text)
            tokens += line.tokens_in
            longest = max(longest, line.tokens_in)
            for column, value in zip(keys.values(), (key, request, line.digest), strict=True):
                column.append(value)
    buffer = io.BytesIO()
    pq.write_table(pa.table(keys), buffer, compression="zstd")
    storage.write_whole(_record(shared.table, name, ".keys.parquet"), buffer.getvalue())
    shard = Shard(name, url, urls.join(folder, "output"), len(keys[ID]), size, tokens, longest_in=longest)
    save(shared.table, shard)
    return shard


def read_shard(item: tuple[Shard, pa.Table, Failure], shared: Reading) -> Collected:
    """Commits what a job has answered to the rows that are `wanted` of its own (columns id, request, digest, wanted).

    A row without an answer gets the failure that comes with them.
    """
    shard, keys, unanswered = item
    rows = keys.to_pylist()
    lines = chain.from_iterable(storage.read_lines(url) for url in storage.find_files(shard.output))
    output = gemini_batch.read_lines(lines, {row["request"]: row["digest"] for row in rows})
    counts = dict.fromkeys(("ok", *KINDS), 0)
    settled, made = [], []
    for row in rows:
        if not row["wanted"]:
            settled.append(row[ID])
            continue
        found = caption_row(row[ID], output.answers.get(row["request"], Answer(failure=unanswered)))
        made.append(found)
        kind = found[schema.ERROR_KIND]
        counts[str(kind or "ok")] += 1
        if kind != TRANSIENT:
            settled.append(row[ID])
    for start in range(0, len(made), shared.rows_a_part):
        part = pa.Table.from_pylist(made[start : start + shared.rows_a_part], schema=schema.CAPTIONS)
        shared.table.append(part, generation=shared.generation)
    return Collected(
        counts=counts,
        settled=settled,
        unanswered=len(rows) - len(output.answers),
        tokens_in=sum(answer.tokens_in or 0 for answer in output.answers.values()),
        tokens_out=sum(answer.tokens_out or 0 for answer in output.answers.values()),
        usd=_cost(output, shared.price, shard),
        repeated=output.repeated,
        broken=output.broken,
        foreign=output.foreign,
    )


def _cost(output: Output, price: Price | None, shard: Shard) -> float | None:
    if price is None:
        return None
    counted = sum(price.cost_usd(answer.tokens_in or 0, answer.tokens_out or 0) for answer in output.answers.values())
    return counted + (output.broken + output.uncounted) * (shard.most_usd or 0.0) / shard.rows


_RECORDS = "_batch"


def _record(table: Table, name: str, end: str = ".json") -> str:
    return urls.join(table.url, _RECORDS, name + end)


def save(table: Table, shard: Shard) -> None:
    storage.write_json(_record(table, shard.name), asdict(shard))


def keys_of(table: Table, shard: Shard) -> pa.Table:
    """Columns id, request, digest, in the order of the file."""
    remedy = f"without it no row of the job {shard.name} is known; delete the record to ask for all of them again"
    return read_part(_record(table, shard.name, ".keys.parquet"), None, remedy=remedy)
