"""caption: every distinct image -> a text by a vision-language model."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema, storage
from seewhy.caption import Caption, identity
from seewhy.progress import Reporter
from seewhy.run import Source
from seewhy.steps import fetch
from seewhy.steps.once import once_a_run
from seewhy.steps.plan import Plan, need_done, plan_stage, run_row_stage
from seewhy.study import Study
from seewhy.table import Table, digest


def table(study: Study) -> Table:
    return Table(storage.join(study.workspace, "caption", digest(config(study))[:12]), schema.CAPTIONS)


def config(study: Study) -> dict[str, Any]:
    return identity(**_arguments(study))


def parts(study: Study) -> tuple[str, ...]:
    return tuple(table(study).parts()) if study.manifest.text is None else ()


def images_of(study: Study) -> pa.Table:
    """source id -> image id, part and position of the images that were fetched."""
    return _images_of(study, fetch.parts(study))


@once_a_run
def _images_of(study: Study, _parts: tuple[str, ...]) -> pa.Table:
    return fetch.table(study).locate(fetch.source(study).keys.column(schema.ID), ["image_id"])


def source(study: Study) -> Source:
    """Distinct images: one that stands behind several URLs is captioned once."""
    return _source(study, fetch.parts(study))


@once_a_run
def _source(study: Study, _parts: tuple[str, ...]) -> Source:
    found = images_of(study)
    order = found.append_column("order", pa.array(range(len(found)), pa.int64()))
    first = order.group_by("image_id").aggregate([("order", "min")]).column("order_min").sort()
    keys = found.take(first).select(["image_id", "part", "position"]).rename_columns([schema.ID, "part", "position"])
    return Source(keys, fetch.table(study).parts(), {"image": "image"})


def plan(study: Study) -> Plan:
    waiting = fetch.plan(study).new
    if waiting:
        return Plan("caption", table(study).url, None, None, f"waits for fetch, which has {waiting:,} new rows")
    return plan_stage("caption", study, source(study), table(study))


def run(study: Study, reporter: Reporter) -> None:
    need_done(fetch.table(study), fetch.source(study), step="caption", before="fetch")
    settings = config(study)
    arguments = _arguments(study)
    if "revision" in settings:
        arguments["revision"] = settings["revision"]  # the exact commit, so that every worker runs what the name says
    run_row_stage(
        "caption",
        study,
        reporter,
        stage=Caption,
        stage_args=arguments,
        source=source(study),
        table=table(study),
        config=settings,
        resources=study.caption.resources,
    )


def _arguments(study: Study) -> dict[str, Any]:
    settings = study.caption
    arguments: dict[str, Any] = {**settings.options, "backend": settings.backend, "prompt": settings.prompt}
    if settings.backend == "fake":
        return arguments
    given = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_new_tokens": settings.max_tokens,
        "seed": settings.seed,
        "dtype": settings.dtype,
        "device": settings.device,
        "batch_size": settings.batch_size,
    }
    arguments |= {name: value for name, value in given.items() if value is not None}
    if settings.backend == "hf":
        arguments |= {
            "model": settings.model,
            "revision": settings.revision,
            "trust_remote_code": settings.trust_remote_code,
        }
    return arguments


def captioned(study: Study) -> pa.Table:
    """image id, text of the captions that are ok, for the images of this study."""
    ids = source(study).keys.column(schema.ID)
    found = table(study).locate(ids, ["text"])
    return found.select([schema.ID, "text"]).filter(pc.is_valid(found.column("text")))
