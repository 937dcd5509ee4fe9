"""A stage tried on a random sample of its rows: what came of them, and what the others will take.

What the pilot asks is asked as the study would, and kept: a run after it has these rows already.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema, steps, storage, urls
from seewhy.failure import Fatal
from seewhy.forecast import Estimate, block_seconds, least_seconds, total
from seewhy.prices import Price, format_usd
from seewhy.progress import Reporter, format_seconds
from seewhy.quota.ledger import spent_at_most_usd
from seewhy.ray_cluster import connect
from seewhy.run import Source, Stage, run_stage
from seewhy.sections import ONLINE
from seewhy.steps import ask, caption, describe, fetch, pace
from seewhy.steps.once import forget
from seewhy.steps.photos import gather_photos
from seewhy.steps.plan import describe as describe_counts
from seewhy.steps.sample import sampled
from seewhy.steps.vision import Asking, costs_usd, row_tokens
from seewhy.study import Study
from seewhy.table import Counts, missing_rows
from seewhy.vlm.online import Calls

_BLOCKS = 5
"""Blocks of a pilot: their times differ, and that is all there is to judge a time by."""
_SEED = 0


@dataclass(frozen=True)
class Way:
    """One way to have the rest done.

    Attributes:
        name: `online`, `batch` or `here`.
        cost: USD; None where no price is known.
        seconds: None where nobody knows.
    """

    name: str
    cost: Estimate | None
    seconds: Estimate | None


@dataclass(frozen=True)
class Forecast:
    """What a pilot of a stage found.

    Attributes:
        rows: of the pilot; counts: what came of them.
        todo: rows that are left, about so many where images are still to be fetched.
        tokens_in, tokens_out: that the rest will read and write.
        budget_usd, spent_usd: of the study; None without a budget.
        enough_for: rows of the rest that the budget pays for online; None without a budget or a price.
    """

    step: str
    rows: int
    counts: Counts
    todo: int
    about: bool
    tokens_in: Estimate
    tokens_out: Estimate
    ways: tuple[Way, ...]
    gpu_hours: Estimate | None
    budget_usd: float | None
    spent_usd: float | None
    enough_for: int | None


def run(study: Study, rows: int, reporter: Reporter) -> list[Forecast]:
    """Tries `rows` random rows of each stage that asks a vision-language model and has what it needs.

    Raises:
        Fatal: no stage of the study does, or none of the sampled images could be fetched; or what the stage raised.
    """
    forget()
    pace.check_prices(study, steps.wanted(study))
    connect()
    found = [_try(study, work, all_rows, rows, reporter) for work, all_rows in _works(study, rows, reporter)]
    if not found:
        raise Fatal("no stage of this study asks a vision-language model: there is nothing to forecast")
    return found


def _works(study: Study, rows: int, reporter: Reporter) -> list[tuple[Asking, int | None]]:
    """Stages, and how many rows each will have, where that is not just those of its source."""
    works: list[tuple[Asking, int | None]] = []
    if study.has_captions or study.ask is not None:
        expected = _fetch_some(study, rows, reporter)
        works += [(caption.asking(study), expected)] if study.has_captions else []
        works += [(ask.asking(study), expected)] if study.ask is not None else []
    if study.has_image_path:
        before = describe.plan(study)
        if before.new is None:
            reporter.say(f"describe: no pilot, it {before.note}")
        else:
            photos = gather_photos(study, step="describe")
            works += [(describe.asking(study, photos, one), None) for one in describe.controls(study)]
    return works


def _fetch_some(study: Study, rows: int, reporter: Reporter) -> int | None:
    """Images that there will be, by the share of a sample that came; None where all have been tried."""
    whole = fetch.source(study)
    if not fetch.plan(study).new:
        return None
    some = Source(sampled(whole.keys, rows, _SEED), whole.stored)
    fetch.run(study, reporter, some)
    counts = fetch.table(study).counts(some.keys[schema.ID])
    if not counts.ok:
        raise Fatal(f"none of {counts.rows_in} sampled images could be fetched: {counts.reasons}")
    return round(len(whole.keys) * counts.ok / counts.rows_in)


def _try(study: Study, work: Asking, all_rows: int | None, rows: int, reporter: Reporter) -> Forecast:
    keys = sampled(work.source.keys, rows, _SEED)
    asked = Source(keys, work.source.stored)
    new = missing_rows(keys, work.table.done_ids(retry=study.retry))
    log = urls.join(work.table.url, "pilot", uuid.uuid4().hex)
    if len(new):
        _run(study, work, asked, log, reporter)
    counts = work.table.counts(keys[schema.ID])
    left = missing_rows(work.source.keys, work.table.done_ids(retry=study.retry))
    todo = len(left) if all_rows is None else max(0, all_rows - counts.ok)
    tokens = _tokens(work, keys)
    read, written = (total(column, todo) for column in tokens)
    blocks = [one for name in storage.list_files(log) if (one := storage.read_json(urls.join(log, name)))]
    here = _seconds(study, work, blocks, todo)
    gpus = _workers(work) * work.asked.resources.gpus_per_worker
    ways, enough = _ways(study, work, tokens, todo, here)
    return Forecast(
        step=work.step,
        rows=len(keys),
        counts=counts,
        todo=todo,
        about=all_rows is not None,
        tokens_in=read,
        tokens_out=written,
        ways=ways,
        gpu_hours=here.times(gpus / 3600) if here is not None and gpus else None,
        budget_usd=study.budget,
        spent_usd=None if study.budget is None else spent_at_most_usd(pace.ledger(study)),
        enough_for=enough,
    )


def _run(study: Study, work: Asking, asked: Source, log: str, reporter: Reporter) -> None:
    quota = pace.quota(study, work.asked)
    resources = work.asked.resources
    work.table.write_config(dict(work.config))
    with reporter.stage(f"pilot of {work.step}", len(asked.keys)) as progress:
        try:
            run_stage(
                Timed,
                {"stage": work.stage, "stage_args": work.arguments(quota), "log": log},
                asked,
                work.table,
                rows_per_block=min(resources.rows_per_block, -(-len(asked.keys) // _BLOCKS)),
                workers=1,
                num_cpus=resources.cpus_per_worker,
                num_gpus=resources.gpus_per_worker,
                memory_bytes=resources.memory_per_worker,
                accelerator_type=resources.accelerator_type,
                retry=study.retry,
                progress=progress,
            )
        finally:
            if quota is not None:
                quota.settle()


class Timed:
    """A stage that writes down how long each of its blocks took, one small file a block.

    Args:
        stage, stage_args: the stage that does the work.
        log: URL of a folder.
    """

    def __init__(self, *, stage: type[Stage], stage_args: Mapping[str, Any], log: str) -> None:
        self._stage = stage(**stage_args)
        self._log = log

    def __call__(self, batch: pa.Table) -> pa.Table:
        began = time.monotonic()
        rows = self._stage(batch)
        told = {"rows": len(rows), "seconds": time.monotonic() - began}
        storage.write_json(urls.join(self._log, f"{uuid.uuid4().hex}.json"), told)
        return rows


def _tokens(work: Asking, keys: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(n,) read and (n,) written, 0 for a row that no model was run for."""
    table = pa.concat_tables(row_tokens(work.table, keys[schema.ID]))
    read, written = (pc.fill_null(table[name], 0).to_numpy() for name in ("tokens_in", "tokens_out"))
    return read, written


def _seconds(study: Study, work: Asking, blocks: Sequence[Mapping[str, Any]], todo: int) -> Estimate | None:
    """None where the pilot's rows were there already, so that nothing was timed."""
    if not blocks:
        return None
    asked = work.asked
    online = asked.backend in ONLINE
    took = block_seconds(
        [one["seconds"] for one in blocks],
        [one["rows"] for one in blocks],
        in_flight=asked.options.get("concurrency", Calls().concurrency) if online else None,
        rows_per_block=asked.resources.rows_per_block,
    )
    return total(took, todo / asked.resources.rows_per_block).times(1 / _workers(work))


def _workers(work: Asking) -> int:
    workers = work.asked.resources.workers
    return workers if isinstance(workers, int) else workers[1]


def _ways(
    study: Study, work: Asking, tokens: tuple[np.ndarray, np.ndarray], todo: int, here: Estimate | None
) -> tuple[tuple[Way, ...], int | None]:
    asked = work.asked
    if asked.backend not in ONLINE:
        usd = study.usd_per_gpu_hour
        gpus = _workers(work) * asked.resources.gpus_per_worker
        cost = None if usd is None or here is None or not gpus else here.times(usd * gpus / 3600)
        return (Way("here", cost, here),), None
    both = float((tokens[0] + tokens[1]).mean()) * todo
    floor = least_seconds(todo, both, per_minute=asked.requests_per_minute, tokens_per_minute=asked.tokens_per_minute)
    online = pace.price(study, asked)
    ways = [Way("online", _cost(online, tokens, todo), None if here is None else here.at_least(floor))]
    if asked.backend == "gemini":
        ways.append(Way("batch", _cost(pace.price(study, asked, batch=True), tokens, todo), None))
    if study.budget is None or online is None:
        return tuple(ways), None
    left = study.budget - spent_at_most_usd(pace.ledger(study))
    each = float(costs_usd(online, *tokens).mean())
    return tuple(ways), int(min(todo, max(0.0, left) / each)) if each else todo


def _cost(price: Price | None, tokens: tuple[np.ndarray, np.ndarray], todo: int) -> Estimate | None:
    return None if price is None else total(costs_usd(price, *tokens), todo)


def told(found: Forecast) -> list[str]:
    """For people: what the pilot came to, and the rest by each way to have it done."""
    left = f"{'about ' if found.about else ''}{found.todo:,} rows"
    if not found.todo:
        return [f"pilot of {found.step}: {describe_counts(found.counts)}", "nothing is left to do"]
    lines = [
        f"pilot of {found.step}: {describe_counts(found.counts)}",
        f"left: {left}, a call each and one more for each try again",
        f"tokens read: {_between(found.tokens_in, _short)}, written: {_between(found.tokens_out, _short)}",
    ]
    for way in found.ways:
        cost = "no price known" if way.cost is None else _between(way.cost, format_usd)
        time_ = "within a day, as the service says" if way.name == "batch" else "not timed: no row was new"
        if way.seconds is not None:
            time_ = _between(way.seconds, format_seconds)
        lines.append(f"{way.name}: {time_}; {cost}")
    if found.gpu_hours is not None:
        lines.append(f"GPU hours: {_between(found.gpu_hours, lambda hours: f'{hours:,.1f}')}")
    if found.budget_usd is not None:
        lines.append(
            f"budget: {format_usd(found.spent_usd or 0.0)} of {format_usd(found.budget_usd)} spent{_reach(found)}"
        )
    return lines


def _reach(found: Forecast) -> str:
    if found.enough_for is None:
        return ""
    if found.enough_for >= found.todo:
        return ", enough for the rest"
    return f", enough for about {found.enough_for:,} of the rest"


def _between(one: Estimate, shown: Callable[[float], str]) -> str:
    if one.low is None or one.high is None:
        return f"about {shown(one.middle)}"
    return f"{shown(one.middle)} ({shown(one.low)} to {shown(one.high)})"


def _short(number: float) -> str:
    """``1234567`` -> ``1.23M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"
