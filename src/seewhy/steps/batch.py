"""Rows answered by Gemini's batch service: rows -> files of requests -> jobs -> the table that online answers fill too.

The record of a job (see `shards`) is written whole before and after each step, so that a driver that was killed goes on
where it was. A job whose making was asked for and never confirmed is looked for by its name before it is asked for
again: it may be running, and be paid for. What a job has answered is committed however the job ended. Rows without an
answer, and those whose failure may pass, are asked again in a job of their own; what is then still open is a transient
row, for the next run.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import urls
from seewhy.failure import TRANSIENT, Failure, Fatal
from seewhy.prices import Price, Purse, format_usd
from seewhy.progress import Reporter, format_seconds
from seewhy.ray_cluster import connect
from seewhy.run import Progress, Source, reconcile
from seewhy.schema import ID
from seewhy.sections import VisionModel
from seewhy.steps.plan import describe
from seewhy.steps.shards import (
    ASKING,
    COLLECTED,
    MADE,
    WRITTEN,
    Asks,
    Collected,
    Reading,
    Shard,
    Writing,
    keys_of,
    open_shards,
    read_shard,
    save,
    write_shards,
)
from seewhy.study import Study
from seewhy.table import Counts, Table, missing_rows
from seewhy.tasks import map_tasks
from seewhy.vlm import gemini_batch
from seewhy.vlm.gemini_batch import BatchJobs, Job

ROUNDS = 3
"""Jobs that a row can be part of in one run."""
ROWS_A_JOB = 20_000
BYTES_A_JOB = 900_000_000
"""Of a job's file: with images inline it is this that ends a job. See gemini_batch for the service's own limits."""
ROWS_A_PART = 5_000
POLL_SEC = 30.0
SETTLE_SEC = 60.0
"""So long after its making was asked for a job that no list shows may still come."""
GIVE_UP_SEC = 3600.0
"""Without a word from the service."""
LONGEST_JOB_SEC = 5 * 86_400.0
"""The service lets a job wait for three days and run for one: see gemini_batch."""


def run_batch(
    step: str,
    study: Study,
    reporter: Reporter,
    *,
    asked: VisionModel,
    requests: Callable[..., Asks],
    requests_args: Mapping[str, Any],
    options: Mapping[str, Any],
    source: Source,
    table: Table,
    config: Mapping[str, Any],
    price: Price | None,
    purse: Purse | None = None,
) -> Counts:
    """Asks the batch service about what the table lacks, waits for its jobs, and says what came of it.

    Args:
        asked: names the folder (`batch`), the model and the workers' resources.
        requests, requests_args: what makes a row a request, see Writing.
        options: of `GeminiBackend`.
        price: of the batch service; None where nobody knows it.
        purse: each job sets aside the most that it can cost before it is made; one that it has no room for is not
            made, and the run ends when those that were made have ended.

    Raises:
        Fatal: the service refuses, somebody cancelled a job, the budget has no room, or too many rows failed. What was
            answered until then is in the table, and another run goes on from there.
    """
    table.write_config(dict(config))
    todo = missing_rows(source.keys, table.done_ids(retry=study.retry))
    if not len(todo) and not open_shards(table):
        counts = reconcile(source, table, max_failed_fraction=study.max_failed_fraction)
        reporter.say(f"{step}: nothing to do, {describe(counts)}")
        return counts
    resources = asked.resources
    stage, name = table.url.rstrip("/").rsplit("/", 2)[-2:]
    writing = Writing(
        source=Source(todo.schema.empty_table(), source.stored),
        table=table,
        requests=requests,
        requests_args=dict(requests_args),
        shared=_frame(options),
        folder=urls.join(str(asked.batch), f"{stage}-{name}"),
        rows_per_block=resources.rows_per_block,
        bytes_a_job=min(BYTES_A_JOB, gemini_batch.MOST_BYTES),
    )
    asker = Asker(
        step,
        reporter,
        jobs=BatchJobs(**options),
        writing=writing,
        num_cpus=resources.cpus_per_worker,
        most_tasks=resources.workers if isinstance(resources.workers, int) else resources.workers[1],
        price=price,
        purse=purse,
    )
    connect()
    with reporter.stage(step, len(todo)) as progress:
        asker.answer(todo, progress)
    counts = reconcile(source, table, max_failed_fraction=study.max_failed_fraction)
    reporter.say(f"{step}: done in {format_seconds(progress.seconds())}, {describe(counts)}")
    return counts


def under_way(table: Table) -> str:
    """What earlier runs have left with the service, for people; empty where that is nothing."""
    asked = [shard for shard in open_shards(table) if shard.state != WRITTEN]
    rows = sum(shard.rows for shard in asked)
    return f"{rows:,} rows are with the batch service, in {len(asked)} jobs" if asked else ""


class Asker:
    """Brings rows to the batch service and its answers to the table, and says so.

    Args:
        step: its name, for people.
        writing: how a row becomes a request, and where files and answers go.
        num_cpus, most_tasks: of the tasks that write and read files.
        price: of the batch service; None where nobody knows it.
        purse: see `run_batch`.
    """

    def __init__(
        self,
        step: str,
        reporter: Reporter,
        *,
        jobs: BatchJobs,
        writing: Writing,
        num_cpus: float = 1.0,
        most_tasks: int | None = None,
        price: Price | None = None,
        purse: Purse | None = None,
    ) -> None:
        self._step, self._reporter = step, reporter
        self._jobs, self._writing, self._table = jobs, writing, writing.table
        self._tasks: dict[str, Any] = {"num_cpus": num_cpus, "at_most": most_tasks}
        self._price, self._purse = price, purse
        self._refusal: str | None = None
        self._heard_at = time.monotonic()
        self._trouble = "it has not been asked yet"
        self._states: dict[str, str] = {}

    def answer(self, todo: pa.Table, progress: Progress) -> None:
        """Until every row of `todo` has an outcome in the table; see `run_batch` for the errors."""
        waiting = set(todo.column(ID).to_pylist())
        for turn in range(1, ROUNDS + 1):
            shards, held = self._left_over(waiting)
            fresh = pc.is_in(todo.column(ID), value_set=pa.array(waiting - held, pa.string()))
            written, refused = self._write(todo.filter(fresh))
            waiting -= refused.keys()
            progress(Counter(refused.values()))
            for came in self._watch([*shards, *written]):
                waiting.difference_update(came.settled)
                progress({name: count for name, count in came.counts.items() if name != TRANSIENT})
            if self._refusal is not None:
                raise Fatal(self._refusal)
            if not waiting:
                return
            if turn < ROUNDS:
                self._say(f"{len(waiting):,} rows are asked again (round {turn + 1} of {ROUNDS})")
        self._say(f"{len(waiting):,} rows have no answer after {ROUNDS} rounds; the next run asks them again")
        progress({TRANSIENT: len(waiting)})

    def _left_over(self, waiting: Collection[str]) -> tuple[list[Shard], set[str]]:
        """Jobs of an earlier run that have not been collected, and the ids of their rows.

        A file that no job was asked for goes unused if some of its rows are not to be asked about any more.
        """
        shards: list[Shard] = []
        held: set[str] = set()
        for shard in open_shards(self._table):
            if shard.state != WRITTEN and shard.project != self._jobs.project:
                raise Fatal(
                    f"the batch job {shard.name} was made in project {shard.project!r} and not in "
                    f"{self._jobs.project!r}: name that project until its answers are collected"
                )
            ids = set(keys_of(self._table, shard).column(ID).to_pylist())
            if shard.state == WRITTEN and not ids <= set(waiting):
                save(self._table, replace(shard, state=COLLECTED, ended={"state": "never asked for"}))
                continue
            shards.append(shard)
            held |= ids
        if shards:
            asked = sum(shard.state != WRITTEN for shard in shards)
            self._say(f"an earlier run left {len(shards)} files of {len(held):,} rows; jobs were asked for of {asked}")
        return shards, held

    def _write(self, rows: pa.Table) -> tuple[list[Shard], dict[str, str]]:
        """Files and records of jobs; and of the rows that cannot be asked about, id -> kind of failure."""
        shards: list[Shard] = []
        refused: dict[str, str] = {}
        if not len(rows):
            return shards, refused
        generation = self._table.next_generation()
        stamp = f"{generation} {datetime.now(UTC).isoformat()}"
        writing = replace(self._writing, generation=generation, stamp=stamp)
        most = min(ROWS_A_JOB, gemini_batch.MOST_LINES)
        items = [rows.slice(start, most) for start in range(0, len(rows), most)]
        for more, kinds in map_tasks(write_shards, items, shared=writing, **self._tasks):
            shards += more
            refused |= kinds
        size = sum(shard.size_bytes for shard in shards)
        self._say(
            f"{sum(shard.rows for shard in shards):,} rows written to {len(shards)} files, {size / 1e6:,.1f} MB, in "
            f"{writing.folder}"
        )
        return shards, refused

    def _watch(self, shards: list[Shard]) -> Iterator[Collected]:
        """Has the jobs made, and yields what each came to once it has ended and its answers are in the table."""
        self._heard_at = time.monotonic()
        shards = [self._recalled(shard) for shard in shards]
        while True:
            shards = [self._advanced(shard) for shard in shards]
            if self._refusal is not None:
                shards = [shard for shard in shards if shard.state != WRITTEN]
            ended: list[tuple[Shard, Job]] = []
            going = []
            for shard in shards:
                job = self._heard(self._jobs.get(shard.job)) if shard.job else None
                if isinstance(job, Job) and job.ended:
                    ended.append((shard, job))
                else:
                    going.append(shard)
                    self._follow(job)
            yield from self._collect(ended)
            shards = going
            if not shards:
                return
            if late := [shard for shard in shards if time.time() - (shard.asked_at or time.time()) > LONGEST_JOB_SEC]:
                raise Fatal(
                    f"the batch job {late[0].job or late[0].name} has not ended in {format_seconds(LONGEST_JOB_SEC)}: "
                    "look at it in Google Cloud's console. Once it has ended there, or was cancelled, run again"
                )
            if time.monotonic() - self._heard_at > GIVE_UP_SEC:
                raise Fatal(
                    f"Vertex AI has done nothing for {format_seconds(GIVE_UP_SEC)}: {self._trouble}. Jobs that "
                    "were made go on; run again to collect their answers and make the others"
                )
            time.sleep(POLL_SEC)

    def _follow(self, job: Job | Failure | None) -> None:
        """Says so when a job that goes on has come to another state: waits in the queue, runs, is paused."""
        if isinstance(job, Job) and self._states.get(job.name) != job.state:
            self._states[job.name] = job.state
            self._say(f"{job.name} is {job.state}")

    def _advanced(self, shard: Shard) -> Shard:
        """The shard a step nearer to a job, or as it was where that step cannot be taken yet."""
        if shard.state == WRITTEN and self._has_room(shard):
            return self._make(shard)
        if shard.state == ASKING:
            found = self._heard(self._jobs.find(shard.name, source=shard.input))
            if isinstance(found, Job):
                return self._made(shard, found)
            if found is None and time.time() - (shard.asked_at or 0.0) >= SETTLE_SEC:
                return self._make(shard)
        return shard

    def _make(self, shard: Shard) -> Shard:
        most_usd = shard.most_usd if shard.state == ASKING or not self._price else self._most_usd(shard)
        shard = replace(shard, state=ASKING, asked_at=time.time(), project=self._jobs.project, most_usd=most_usd)
        save(self._table, shard)
        try:
            made = self._heard(self._jobs.create(shard.name, source=shard.input, output=shard.output))
        except Fatal:
            save(self._table, replace(shard, state=WRITTEN))
            self._pay(shard, 0.0)
            raise
        if isinstance(made, Job):
            return self._made(shard, made)
        if made.reason == "http_429":  # it was not made; when others have ended it may be
            shard = replace(shard, state=WRITTEN)
            save(self._table, shard)
            self._pay(shard, 0.0)
        return shard

    def _made(self, shard: Shard, job: Job) -> Shard:
        shard = replace(shard, state=MADE, job=job.name)
        save(self._table, shard)
        cost = "" if shard.most_usd is None else f", for {format_usd(shard.most_usd)} at most"
        self._say(f"{job.name} ({shard.name}) is asked about {shard.rows:,} rows{cost}")
        return shard

    def _has_room(self, shard: Shard) -> bool:
        """The one place where the budget is asked, before a job is made. Without room no further one is made."""
        if self._purse is not None and self._refusal is None:
            self._refusal = self._purse.set_aside(shard.name, self._most_usd(shard))
        return self._refusal is None

    def _recalled(self, shard: Shard) -> Shard:
        """Has the money of a job that an earlier run asked for stand where it can be settled."""
        if self._purse is None or shard.state == WRITTEN:
            return shard
        if shard.most_usd is not None:
            self._purse.recall(shard.name, shard.most_usd)
            return shard
        shard = replace(shard, most_usd=self._most_usd(shard))  # nobody knew a price then, so nothing was set aside
        self._purse.recall(shard.name, self._most_usd(shard), counted=False)
        save(self._table, shard)
        return shard

    def _pay(self, shard: Shard, cost_usd: float | None) -> None:
        if self._purse is not None and shard.most_usd is not None:
            self._purse.recall(shard.name, shard.most_usd)  # should who keeps it have been lost since
            self._purse.settle(shard.name, cost_usd)

    def _most_usd(self, shard: Shard) -> float:
        """What the job can cost: what it reads, about, and all that it may write.

        Where a request is so long that it costs more a token, as one with a long video may, all count as such.
        """
        if self._price is None:
            raise Fatal(f"a budget needs the price of {self._step}'s model: give the study its own")
        written = self._writing.shared["generationConfig"]["maxOutputTokens"]
        price = self._price.when_long() if shard.longest_in > self._price.long_above_tokens else self._price
        return shard.rows * price.most_usd(-(-shard.tokens_in // shard.rows) + written, written)

    def _collect(self, ended: list[tuple[Shard, Job]]) -> Iterator[Collected]:
        """Commits what the jobs have answered, each before its record says so."""
        if not ended:
            return
        reading = Reading(self._table, self._table.next_generation(), self._price, ROWS_A_PART)
        items = []
        for shard, job in ended:
            keys = keys_of(self._table, shard)
            have = self._table.locate(keys.column(ID)).column(ID)  # answered online in the meantime: that answer stays
            wanted = pc.invert(pc.is_in(keys.column(ID), value_set=have.combine_chunks()))
            items.append((shard, keys.append_column("wanted", wanted), _unanswered(job)))
        stops = None
        for (shard, job), came in zip(ended, map_tasks(read_shard, items, shared=reading, **self._tasks), strict=True):
            told = {name: value for name, value in asdict(came).items() if name != "settled"}
            save(self._table, replace(shard, state=COLLECTED, ended={"state": job.state, "said": job.message, **told}))
            self._pay(shard, came.usd)
            self._tell(job, came)
            stops = stops or _stops(shard, job)
            yield came
        if stops is not None:
            raise Fatal(stops)

    def _tell(self, job: Job, came: Collected) -> None:
        outcomes = ", ".join(f"{count:,} {name}" for name, count in came.counts.items() if count)
        odd = {
            "rows without an answer": came.unanswered,
            "answered again": came.repeated,
            "lines that are not whole": came.broken,
            "lines of no row": came.foreign,
        }
        self._say(
            f"{job.name} ended as {job.state}"
            + (f" after {format_seconds(job.ran_sec)}" if job.ran_sec is not None else "")
            + f": {outcomes or 'no row that still needed an answer'}; {came.tokens_in:,} tokens read, "
            + f"{came.tokens_out:,} written"
            + (f", {format_usd(came.usd)}" if came.usd is not None else "")
            + "".join(f"; {count:,} {what}" for what, count in odd.items() if count)
            + (f"; {job.message}" if job.message else "")
        )

    def _heard(self, said: Any) -> Any:
        """Notes that the service did what it was asked, or what kept it from doing so."""
        if isinstance(said, Failure):
            self._trouble = said.detail
        else:
            self._heard_at = time.monotonic()
        return said

    def _say(self, line: str) -> None:
        self._reporter.say(f"{self._step}: {line}")


def _frame(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return gemini_batch.frame(**options)
    except (TypeError, ValueError) as error:
        raise Fatal(f"backend gemini cannot be set up so: {error}") from error


def _unanswered(job: Job) -> Failure:
    """For a row of the job's that it has not answered."""
    said = f": {job.message}" if job.message else ""
    return Failure(TRANSIENT, "unanswered", f"the batch job ended as {job.state} without an answer{said}"[:500])


def _stops(shard: Shard, job: Job) -> str | None:
    """Why a job's end is the end of the run, for people: another job would end so too, or is not wanted."""
    kept = f"what it answered is kept; its files are in {shard.output}"
    if job.was_stopped:
        return f"the batch job {job.name} was cancelled, and no more are made: {kept}. Run again to ask the rest"
    if job.state == "FAILED" and job.code is not None and job.code < 500 and job.code not in (408, 409, 429, 499):
        return f"the batch job {job.name} failed ({job.code} {job.message}); {kept}. Mend that and run again"
    return None
