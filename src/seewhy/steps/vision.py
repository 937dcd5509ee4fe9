"""Running a stage that asks a vision-language model: the exact revision, the pace of a service, and what it came to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import caption, caption_video, describe
from seewhy.caption import Caption, CaptionRequests
from seewhy.caption_video import CaptionVideos, VideoRequests
from seewhy.describe import Describe, DescribeRequests
from seewhy.prices import Price, format_usd
from seewhy.progress import Reporter
from seewhy.quota import Quota
from seewhy.run import Source, Stage
from seewhy.schema import ID
from seewhy.sections import VisionModel
from seewhy.steps import pace
from seewhy.steps.batch import run_batch
from seewhy.steps.plan import run_row_stage
from seewhy.steps.shards import Asks
from seewhy.study import Study
from seewhy.table import Table


@dataclass(frozen=True)
class Used:
    """Tokens of a table's rows, where they were counted.

    Attributes:
        rows: that carry a count, failed ones among them: a refusal is paid for too.
    """

    rows: int
    tokens_in: int
    tokens_out: int

    def cost_usd(self, price: Price) -> float:
        return price.cost_usd(self.tokens_in, self.tokens_out) if self.rows else 0.0


@dataclass(frozen=True)
class Asking:
    """A stage that asks a model, over all rows that a study has for it."""

    step: str
    asked: VisionModel
    stage: type[Stage]
    stage_args: Mapping[str, Any]
    source: Source
    table: Table
    config: Mapping[str, Any]

    def arguments(self, quota: Quota | None) -> dict[str, Any]:
        """Of the stage, with what its name and its study settle."""
        arguments = dict(self.stage_args)
        if self.config.get("revision"):
            arguments["revision"] = self.config["revision"]  # the exact commit: every worker runs what the name says
        if quota is not None:
            arguments["pace"] = quota
        return arguments


_BY_BATCH: dict[type[Stage], tuple[Callable[..., Asks], tuple[str, ...]]] = {
    Caption: (CaptionRequests, caption.SHOWN),
    CaptionVideos: (VideoRequests, caption_video.SHOWN),
    Describe: (DescribeRequests, describe.SHOWN),
}
"""Stage -> what makes its rows requests, and which of its arguments that takes."""


def run_vision_stage(study: Study, reporter: Reporter, work: Asking) -> None:
    """``run_row_stage``, at the pace of the service; says what the answers cost where a service gave them.

    By its batch service instead, where the study says so.
    """
    if work.asked.batch is not None:
        requests, shown = _BY_BATCH[work.stage]
        arguments = work.arguments(None)
        run_batch(
            work.step,
            study,
            reporter,
            asked=work.asked,
            requests=requests,
            requests_args={name: value for name, value in arguments.items() if name in shown},
            options={name: value for name, value in arguments.items() if name not in (*shown, "backend")},
            source=work.source,
            table=work.table,
            config=work.config,
            price=pace.price(study, work.asked, batch=True),
            purse=pace.purse(study, work.asked),
        )
        return
    quota = pace.quota(study, work.asked)
    try:
        run_row_stage(
            work.step,
            study,
            reporter,
            stage=work.stage,
            stage_args=work.arguments(quota),
            source=work.source,
            table=work.table,
            config=work.config,
            resources=work.asked.resources,
        )
    finally:
        spent = None if quota is None else quota.settle()
    if quota is not None:
        tokens = used(work.table, work.source.keys.column(ID))
        reporter.say(f"{work.step}: {_told(study, work.asked, tokens, spent)}")


def used(table: Table, ids: pa.ChunkedArray) -> Used:
    """By the rows of `ids` as they stand now; an earlier try of a row that was asked again is not in it."""
    rows = read = written = 0
    for tokens in row_tokens(table, ids):
        known = tokens.filter(pc.is_valid(tokens["tokens_in"]))
        rows += len(known)
        read += pc.sum(known["tokens_in"]).as_py() or 0
        written += pc.sum(known["tokens_out"]).as_py() or 0
    return Used(rows, read, written)


def row_tokens(table: Table, ids: pa.ChunkedArray) -> Iterator[pa.Table]:
    """tokens_in and tokens_out of each row of `ids`, part by part; null where none were counted.

    Those of a row with several answers are all of theirs.
    """
    names = ["tokens_in", "tokens_out"]
    if "replies" not in table.schema.names:
        yield from table.batches(names, only_ok=False, ids=ids)
        return
    for batch in table.batches(["replies"], only_ok=False, ids=ids):
        replies = batch["replies"].combine_chunks()
        row = pa.table({"row": pc.list_parent_indices(replies), **_fields(pc.list_flatten(replies), names)})
        sums = row.group_by("row").aggregate([(name, "sum") for name in names]).sort_by("row")
        yield sums.select([f"{name}_sum" for name in names]).rename_columns(names)


def _fields(structs: pa.StructArray, names: Sequence[str]) -> dict[str, pa.Array]:
    return {name: structs.field(name) for name in names}


def _told(study: Study, asked: VisionModel, tokens: Used, spent: float | None) -> str:
    price = pace.price(study, asked)
    cost = "of no known price" if price is None else f"about {format_usd(tokens.cost_usd(price))}"
    said = f"{tokens.tokens_in:,} tokens read and {tokens.tokens_out:,} written for these rows, {cost}"
    if study.budget is not None and spent is not None:
        said += f"; {format_usd(spent)} of the budget of {format_usd(study.budget)} spent"
    return said
