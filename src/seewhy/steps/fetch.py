"""fetch: every distinct image or video URL of the manifest -> its checked bytes, or the reason why not."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema, storage, urls
from seewhy.fetch import VERSION, VIDEO, Fetch
from seewhy.progress import Reporter
from seewhy.run import Source, Stored
from seewhy.sections import Resources
from seewhy.steps.joins import first_rows, looked_up
from seewhy.steps.once import once_a_run
from seewhy.steps.plan import Plan, plan_stage, run_row_stage
from seewhy.steps.rows import manifest_rows, tell
from seewhy.study import Study
from seewhy.table import Table, digest

_VIDEO_TIMEOUT_SEC = 300.0
_VIDEOS_PER_BLOCK = 8
"""Where the study does not say: a worker holds its block."""


def table(study: Study) -> Table:
    columns = schema.IMAGES if study.manifest.video is None else schema.VIDEOS
    return Table(urls.join(study.workspace, "fetch", digest(_config(study))[:12]), columns)


def parts(study: Study) -> tuple[str, ...]:
    """URLs of the images' or videos' parts; none for a study without."""
    return tuple(table(study).parts()) if study.manifest.media is not None else ()


@once_a_run
def source(study: Study) -> Source:
    """Distinct sources in the order of the manifest."""
    rows = manifest_rows(study).table
    keys = rows.select(["source_id", "source"]).rename_columns([schema.ID, "source"])
    keys = keys.filter(pc.is_valid(keys.column(schema.ID)))
    return Source(first_rows(keys, schema.ID))


def images_of(study: Study) -> pa.Table:
    """source id -> image id, fingerprint, part and position of the images or videos that were fetched."""
    return _images_of(study, parts(study))


@once_a_run
def _images_of(study: Study, _parts: tuple[str, ...]) -> pa.Table:
    return table(study).locate(source(study).keys.column(schema.ID), ["image_id", "fingerprint"])


def image_of_row(study: Study, rows: pa.ChunkedArray) -> pa.Array:
    """image id of each row of the manifest, null where it has none that was fetched."""
    sources = looked_up(rows, manifest_rows(study).table.select(["row", "source_id"]))
    return looked_up(pa.chunked_array([sources]), images_of(study).select([schema.ID, "image_id"]))


def distinct_images(study: Study) -> Source:
    """image id and bytes of the images or videos that were fetched: one that stands behind several URLs comes once.

    Beside the bytes of videos, and of objects that were left where they are, come the columns that tell of them.
    """
    return _distinct_images(study, parts(study))


@once_a_run
def _distinct_images(study: Study, parts: tuple[str, ...]) -> Source:
    keys = first_rows(images_of(study).select(["image_id", "part", "position"]), "image_id")
    keys = keys.rename_columns([schema.ID, "part", "position"])
    names = ["image"] if study.manifest.video is None else ["video", "seconds"]
    if study.manifest.video is not None or study.fetch.by_uri:
        names += ["source", "format"]
    return Source(keys, (Stored(parts, {name: name for name in names}),))


def shown_column(study: Study) -> str:
    """Column of the table that holds what a report shows: the image, or a frame of the video; null where neither is."""
    return "image" if study.manifest.video is None else "frame"


def block_of(study: Study, resources: Resources) -> Resources:
    """A worker's resources, with smaller blocks for videos that are held, where the study does not say how large."""
    if study.manifest.video is None or study.fetch.by_uri or "rows_per_block" in resources.model_fields_set:
        return resources
    return resources.model_copy(update={"rows_per_block": _VIDEOS_PER_BLOCK})


def plan_for_images(step: str, study: Study, table: Table) -> Plan:
    """What a stage over all distinct images would do."""
    waiting = plan(study).new
    if waiting:
        return Plan(step, table.url, None, None, f"waits for fetch, which has {waiting:,} new rows")
    return plan_stage(step, study, distinct_images(study), table)


def plan(study: Study) -> Plan:
    return plan_stage("fetch", study, source(study), table(study), retry_reasons=_allowed_now(study))


def run(study: Study, reporter: Reporter, some: Source | None = None) -> None:
    """All the study's images, or `some` of `source`."""
    tell(study, reporter)
    run_row_stage(
        "fetch",
        study,
        reporter,
        stage=Fetch,
        stage_args=arguments(study),
        source=some or source(study),
        table=table(study),
        config=_config(study),
        resources=block_of(study, study.fetch.resources),
        retry_reasons=_allowed_now(study),
    )
    where = urls.join(table(study).url, _POLICY)
    if storage.read_json(where) != _policy(study):
        storage.write_json(where, _policy(study))


def arguments(study: Study) -> dict[str, Any]:
    """What the study allows and how patient it is, as the stage takes it."""
    settings = study.fetch
    patient = study.manifest.video is not None and "timeout_sec" not in settings.model_fields_set
    return {
        **_limits(study),
        "timeout_sec": _VIDEO_TIMEOUT_SEC if patient else settings.timeout_sec,
        "connect_timeout_sec": settings.connect_timeout_sec,
        "tries": settings.tries,
        "concurrency": settings.concurrency,
        "per_host": settings.per_host,
        "allow_private": settings.allow_private,
        "schemes": schemes(study),
        "roots": roots(study),
    }


def schemes(study: Study) -> list[str]:
    """What may be fetched: the web, the schemes of the study's own storage unless it is chained, and those it names."""
    own = [urls.scheme(url) for url in (study.manifest.path, study.workspace) if not urls.is_chained(url)]
    return sorted({"http", "https", *own, *study.fetch.schemes})


def roots(study: Study) -> list[str]:
    """Folders that local images may be read from: the manifest's own, and those the study names."""
    manifest = study.manifest.path
    own = [urls.local_path(manifest).rsplit("/", 1)[0]] if urls.scheme(manifest) == "file" else []
    return [*own, *study.fetch.roots]


_POLICY = "_policy.json"
_REFUSALS = ("forbidden_address", "forbidden_path", "forbidden_scheme", "redirect_forbidden_scheme")


def _policy(study: Study) -> dict[str, object]:
    """What the study allows to be fetched."""
    return {"allow_private": study.fetch.allow_private, "schemes": schemes(study), "roots": roots(study)}


def _allowed_now(study: Study) -> tuple[str, ...]:
    """Reasons to try again: refusals, where the study allows other things than when they were made."""
    before = storage.read_json(urls.join(table(study).url, _POLICY))
    return () if before is None or before == _policy(study) else _REFUSALS


def _config(study: Study) -> dict[str, object]:
    """Time-outs, tries and the like are left out: they change whether a row comes, never what it holds."""
    return {"stage": "fetch", "stage_code": VERSION, **_limits(study)}


def _limits(study: Study) -> dict[str, Any]:
    """What is fetched, and how much of it is let pass. Of images only what is not as it always was is named."""
    asked = study.fetch
    by_uri = {"by_uri": True} if asked.by_uri else {}
    if study.manifest.video is None:
        return {"max_bytes": asked.max_bytes, "max_pixels": asked.max_pixels, **by_uri}
    return {
        "media": VIDEO,
        "max_bytes": asked.max_video_bytes,
        "max_pixels": asked.max_video_pixels,
        "max_seconds": asked.max_video_seconds,
        **by_uri,
    }
