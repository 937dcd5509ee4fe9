"""run_stage: rows of a source through a stage's workers into a keyed table. All that knows Ray Data.

A stage is a class built once per worker: ``__call__(batch: pa.Table) -> pa.Table``, the same ids out as in, in the same
order. The driver finds the rows that the table lacks and cuts them into blocks of keys, small enough that losing one is
cheap. A worker reads its block's rows itself, runs the stage, checks the ids and commits the block as one Parquet part
before it answers: the answer is a count. So images never travel through the object store, and what was paid for is
on storage before a killed node can lose it.

Ray Data keeps some 40 KB in the driver for every block of its own, so a large job hands it several of ours at a time.
What a kill can lose stays one of ours a worker: one that was committed already is not run again.

Ray starts a worker whose process died again, as often as it takes, and hands it the blocks it had. That the rows it
died of do not go round for ever is the business of `poison`.
"""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import logs
from seewhy.failure import KINDS, NOT_ASKED, TRANSIENT, Fatal
from seewhy.metrics import Meter
from seewhy.poison import Patience, Tally, Watch, clear, store_in_doubt
from seewhy.ray_cluster import check_room
from seewhy.schema import DETAIL, ERROR_KIND, ID, REASON
from seewhy.table import Counts, Table, digest_ids, missing_rows, read_rows


class Stage(Protocol):
    def __call__(self, batch: pa.Table) -> pa.Table: ...


@dataclass(frozen=True)
class Stored:
    """Columns of a source that lie in Parquet parts.

    Attributes:
        parts: URLs of the parts.
        columns: name for the stage -> name in the parts.
        part, position: columns of the keys that say in which part, and at which row of it (see `Table.index`).
    """

    parts: Sequence[str]
    columns: Mapping[str, str]
    part: str = "part"
    position: str = "position"


@dataclass(frozen=True)
class Source:
    """The rows a stage is to see.

    Attributes:
        keys: a column `id` without repeats, columns that travel with the key, and those that `stored` needs.
        stored: where the rest of a row lies; read by the worker.
    """

    keys: pa.Table
    stored: tuple[Stored, ...] = ()

    def rows_digest(self) -> str:
        """Names the set of rows, whatever their order."""
        return digest_ids(self.keys.column(ID))


_RAY_BLOCKS = 256
_PATIENCE = Patience()

Progress = Callable[[Mapping[str, int]], None]
"""Called in the driver as blocks are committed, with rows by outcome: `ok` or a kind of failure."""


def run_stage(
    stage: type[Stage],
    stage_args: Mapping[str, Any],
    source: Source,
    table: Table,
    *,
    rows_per_block: int,
    workers: int | tuple[int, int] = 1,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    memory_bytes: int | None = None,
    accelerator_type: str | None = None,
    retry: Collection[str] = (TRANSIENT,),
    retry_reasons: Collection[str] = (),
    max_failed_fraction: float = 1.0,
    progress: Progress | None = None,
) -> Counts:
    """Runs `stage` over the rows of `source` that `table` lacks, and marks the table done.

    A row that ends the process which works on it fails as `bad_input`, `crashed`.

    Args:
        stage: class of the stage; built in each worker with `stage_args`.
        rows_per_block: rows that one kill can lose, and that one part holds.
        workers: actors, or (fewest, most) of them.
        num_cpus, num_gpus, memory_bytes, accelerator_type: what each worker reserves.
        retry: kinds of failure to try again; retry_reasons: single reasons, whatever their kind.
        max_failed_fraction: above this share of failed rows (0..1) the stage raises Fatal once all rows are committed.

    Raises:
        Fatal: a table that does not add up, or too many failed rows. What a worker raised so, and what kept a stage
            from asking about rows (failure.NOT_ASKED), once all workers have committed what they have in hand. The
            processes of a worker died again and again, and no row came through in between (see `poison`).
    """
    todo = missing_rows(source.keys, table.done_ids(retry=retry, retry_reasons=retry_reasons))
    if len(todo):
        worker_args: dict[str, Any] = {
            "stage": stage,
            "stage_args": dict(stage_args),
            "source": Source(todo.schema.empty_table(), source.stored),
            "table": table,
            "generation": table.next_generation(),
            "log": logs.fields(stage_name(table)),
            "patience": _PATIENCE,
        }
        resources = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory_bytes}
        if accelerator_type:
            resources["accelerator_type"] = accelerator_type  # type: ignore[assignment]
        try:
            for counts in _map_blocks(todo, rows_per_block, worker_args, workers, resources):
                if progress:
                    progress(counts)
            store_in_doubt(table, generation=worker_args["generation"])
        finally:
            with suppress(Exception):  # what stays there does no harm, and what went wrong before is to be told
                clear(table)
    return reconcile(source, table, max_failed_fraction=max_failed_fraction)


def reconcile(source: Source, table: Table, *, max_failed_fraction: float) -> Counts:
    """Marks the table done for the rows of `source`, all of which it must hold.

    Raises:
        Fatal: it does not add up, or too many rows failed.
    """
    counts = table.counts(source.keys.column(ID))
    table.mark_done(counts, rows_digest=source.rows_digest())
    if counts.failed_fraction > max_failed_fraction:
        raise Fatal(
            f"{_failed(counts)} of {counts.rows_in} rows failed in {table.url}, more than the allowed share of "
            f"{max_failed_fraction:g}; reasons: {counts.reasons}. Raise max_failed_fraction to go on without them"
        )
    return counts


def _failed(counts: Counts) -> int:
    return round(counts.failed_fraction * counts.rows_in)


def _at_most(workers: int | tuple[int, int], blocks: int) -> tuple[int, int]:
    low, high = (workers, workers) if isinstance(workers, int) else workers
    return max(1, min(low, blocks)), max(1, min(high, blocks))


def _handed_over(rows: int, rows_per_block: int, most_workers: int) -> int:
    """Rows of a block of Ray Data: a multiple of ours, so that there are few of them and still several a worker."""
    blocks = -(-rows // rows_per_block)
    return rows_per_block * -(-blocks // max(_RAY_BLOCKS, 16 * most_workers))


def _map_blocks(
    todo: pa.Table,
    rows_per_block: int,
    worker_args: dict[str, Any],
    workers: int | tuple[int, int],
    resources: dict[str, Any],
) -> Iterator[dict[str, int]]:
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    check_room(**{k: v for k, v in resources.items() if v is not None})
    DataContext.get_current().enable_progress_bars = False
    fewest, most = _at_most(workers, -(-len(todo) // rows_per_block))
    at_once = _handed_over(len(todo), rows_per_block, most)
    blocks = [todo.slice(start, at_once) for start in range(0, len(todo), at_once)]
    dataset = ray.data.from_arrow(blocks).map_batches(
        _Worker,
        batch_size=rows_per_block,  # one call a block of ours
        batch_format="pyarrow",
        fn_constructor_kwargs=worker_args,
        compute=ActorPoolStrategy(min_size=fewest, max_size=most),
        **{name: value for name, value in resources.items() if value is not None},
    )
    stopped = None
    for row in dataset.iter_rows():
        told = row.pop("stopped")
        stopped = stopped or told
        yield {name: count for name, count in row.items() if count}
    if stopped is not None:
        raise Fatal(stopped)


def stage_name(table: Table) -> str:
    """Such as ``caption``: tables lie in a folder of their stage."""
    return table.url.rsplit("/", 2)[-2]


class _Worker:
    """Lives in an actor: reads a block's rows, runs the stage, commits the result, returns the counts.

    Fatal travels as a value: Ray would wrap the exception, and start an actor again and again whose constructor raised.
    After one, or once its stage has left a row unasked, a worker does nothing more: it lets the blocks pass that are
    left, while others finish theirs, which may be paid for.
    """

    def __init__(
        self,
        stage: type[Stage],
        stage_args: dict[str, Any],
        source: Source,
        table: Table,
        generation: int,
        patience: Patience = _PATIENCE,
        log: dict[str, Any] | None = None,
    ) -> None:
        self._meter = Meter(stage_name(table))
        self._log = logs.BlockLog(log)
        self._source = source
        self._table = table
        self._generation = generation
        self._stopped: str | None = None
        self._tally: Tally | None = None
        self._patience = patience
        self._runs = stage.__name__
        try:
            again = _worker_started_again()
            if again is not None:
                self._tally = self._tally_of(again)
                self._tally.died()
            self._stage = stage(**stage_args)
        except Fatal as error:
            self._stopped = str(error)
        except (TypeError, ValueError) as error:
            self._stopped = f"{stage.__name__} cannot be set up so: {error}"

    def __call__(self, keys: pa.Table) -> pa.Table:
        self._meter.mark("wait")
        counts = dict.fromkeys(("ok", *KINDS), 0)
        try:
            if self._stopped is None:
                counts = self._commit(keys)
            elif self._tally is not None:
                watch = self._watch(keys, self._tally)
                watch.pick_up()  # an earlier process of it may have come half through
                self._keep(watch, keys, self._tally)
        except Fatal as error:
            self._stopped = str(error)
        self._log.told(counts, self._stopped)
        told = pa.array([self._stopped], pa.string())
        return pa.table({"stopped": told, **{name: [count] for name, count in counts.items()}})

    def _commit(self, keys: pa.Table) -> dict[str, int]:
        kinds = self._table.committed(keys.column(ID), generation=self._generation)
        if kinds is None:
            kinds = self._done(keys).column(ERROR_KIND)
        self._meter.mark("write")
        outcomes = [kind or "ok" for kind in kinds.to_pylist()]
        return self._meter.rows({name: outcomes.count(name) for name in ("ok", *KINDS)})

    def _done(self, keys: pa.Table) -> pa.Table:
        """The block's outcomes, committed."""
        if self._tally is None:
            try:
                return self._written(self._work(keys), keys)
            except MemoryError:
                self._tally = self._tally_of(uuid.uuid4().hex)
        watch = self._watch(keys, self._tally)
        try:
            watch.work_through(self._work)
        except Fatal:
            self._keep(watch, keys, self._tally)  # some may be paid for; the next run finds the others missing
            raise
        return self._keep(watch, keys, self._tally)

    def _tally_of(self, worker: str) -> Tally:
        return Tally(self._table, worker, generation=self._generation, patience=self._patience, runs=self._runs)

    def _watch(self, keys: pa.Table, tally: Tally) -> Watch:
        apart_sec = self._patience.apart_sec
        return Watch(self._table, keys, generation=self._generation, apart_sec=apart_sec, tally=tally)

    def _keep(self, watch: Watch, keys: pa.Table, tally: Tally) -> pa.Table:
        """The block's outcomes, committed but for those in doubt. Where there are no others, it stays noted."""
        rows, in_doubt = watch.outcomes(), watch.in_doubt()
        tally.doubt(in_doubt)
        sure = rows.filter(pc.invert(pc.is_in(rows.column(ID), value_set=pa.array(in_doubt, pa.string()))))
        if len(self._written(sure, keys)):
            watch.forget()
        return rows

    def _written(self, rows: pa.Table, keys: pa.Table) -> pa.Table:
        if len(rows):
            self._table.append(rows, generation=self._generation, block=keys.column(ID))
        return rows

    def _work(self, keys: pa.Table) -> pa.Table:
        """Outcomes of keys; without those that nobody was asked about."""
        batch = read_block(self._source, keys)
        self._meter.mark("read")
        rows = self._stage(batch)
        self._meter.mark("stage")
        check_ids(self._stage, keys, rows)
        rows = self._asked(rows)
        self._meter.tokens(rows)
        return rows

    def _asked(self, rows: pa.Table) -> pa.Table:
        """Without those that nobody was asked about: they have no outcome, and the next run finds them missing."""
        unasked = pc.fill_null(pc.equal(rows.column(REASON), NOT_ASKED), False)
        if pc.any(unasked).as_py():
            self._stopped = rows.filter(unasked).column(DETAIL)[0].as_py()
        return rows.filter(pc.invert(unasked))


def _worker_started_again() -> str | None:
    """Name of this actor, where an earlier process of it died; None where none did, and outside of an actor."""
    import ray

    if not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    worker = context.get_actor_id()
    return worker if worker is not None and context.was_current_actor_reconstructed else None


def read_block(source: Source, keys: pa.Table) -> pa.Table:
    """The stage's input for a block of keys: what travels with the key, and what the parts hold, renamed."""
    places = {name for one in source.stored for name in (one.part, one.position)}
    rows = keys.select([name for name in keys.column_names if name not in places])
    for one in source.stored:
        where = keys.select([one.part, one.position]).rename_columns(["part", "position"])
        found = pa.concat_tables(list(read_rows(one.parts, where, list(one.columns.values()))))
        for name, stored_name in one.columns.items():
            rows = rows.append_column(name, found.column(stored_name))
    return rows


def check_ids(stage: Stage, keys: pa.Table, rows: pa.Table) -> None:
    """The law of a stage: the same ids out as in, in the same order."""
    given, returned = keys.column(ID).to_pylist(), rows.column(ID).to_pylist()
    if given == returned:
        return
    lost, added = sorted(set(given) - set(returned)), sorted(set(returned) - set(given))
    raise ValueError(
        f"{type(stage).__name__} got {len(given)} ids and returned {len(returned)}: {len(lost)} lost {lost[:3]}, "
        f"{len(added)} new {added[:3]}" + ("" if lost or added else ", out of order or repeated")
    )
