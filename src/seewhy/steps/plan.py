"""What a step would do, and running a row stage so that nothing to do takes no cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seewhy.failure import Fatal
from seewhy.progress import Reporter, format_seconds
from seewhy.ray_cluster import connect
from seewhy.run import Source, Stage, run_stage
from seewhy.schema import ID
from seewhy.sections import Resources
from seewhy.study import Study
from seewhy.table import Counts, Table, missing_rows


@dataclass(frozen=True)
class Plan:
    """What a step would do if it ran now.

    Attributes:
        folder: where its result lies or will lie; empty while an earlier step must run first to know.
        rows: rows that it is asked for, as far as known.
        new: of these, how many have no result yet.
        note: what it waits for, or what else there is to say.
    """

    step: str
    folder: str
    rows: int | None
    new: int | None
    note: str = ""


def plan_stage(step: str, study: Study, source: Source, table: Table, retry_reasons: Sequence[str] = ()) -> Plan:
    todo = missing_rows(source.keys, table.done_ids(retry=study.retry, retry_reasons=retry_reasons))
    return Plan(step, table.url, len(source.keys), len(todo))


def run_row_stage(
    step: str,
    study: Study,
    reporter: Reporter,
    *,
    stage: type[Stage],
    stage_args: Mapping[str, Any],
    source: Source,
    table: Table,
    config: Mapping[str, Any],
    resources: Resources,
    retry_reasons: Sequence[str] = (),
) -> Counts:
    """Runs a stage over what its table lacks, on the cluster there is or one of its own, and says what came of it."""
    todo = len(missing_rows(source.keys, table.done_ids(retry=study.retry, retry_reasons=retry_reasons)))
    table.write_config(dict(config))
    arguments: dict[str, Any] = {
        "rows_per_block": resources.rows_per_block,
        "workers": resources.workers,
        "num_cpus": resources.cpus_per_worker,
        "num_gpus": resources.gpus_per_worker,
        "memory_bytes": resources.memory_per_worker,
        "accelerator_type": resources.accelerator_type,
        "retry": study.retry,
        "retry_reasons": retry_reasons,
        "max_failed_fraction": study.max_failed_fraction,
    }
    if not todo:
        counts = run_stage(stage, stage_args, source, table, **arguments)
        reporter.say(f"{step}: nothing to do, {describe(counts)}")
        return counts
    connect()
    with reporter.stage(step, todo) as progress:
        counts = run_stage(stage, stage_args, source, table, progress=progress, **arguments)
    reporter.say(f"{step}: done in {format_seconds(progress.seconds())}, {describe(counts)}")
    return counts


def describe(counts: Counts) -> str:
    """``600 rows: 590 ok, 10 bad_input (http_404 8, truncated 2)``."""
    parts = [f"{counts.ok:,} ok"]
    for kind, number in counts.failed.items():
        if number:
            why = [f"{r.split('/', 1)[1]} {n:,}" for r, n in counts.reasons.items() if r.startswith(f"{kind}/")]
            parts.append(f"{number:,} {kind} ({', '.join(why)})")
    return f"{counts.rows_in:,} rows: {', '.join(parts)}"


def need_done(table: Table, source: Source, *, step: str, before: str) -> Counts:
    """The counts of an earlier step's table, which must be complete for the rows of this study."""
    counts = table.counts(source.keys.column(ID))
    if counts.missing:
        raise Fatal(
            f"{step} needs {before} to be complete: {counts.missing:,} of {counts.rows_in:,} rows are missing in "
            f"{table.url}; run {before} first"
        )
    if not counts.ok:
        raise Fatal(f"{step} has nothing to work on: no row of {table.url} is ok: {counts.reasons}")
    return counts
