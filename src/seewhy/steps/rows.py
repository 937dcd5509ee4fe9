"""The manifest's rows, read once a process."""

import os
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa

from seewhy import urls
from seewhy.explain_images import PREDICTED, TRUE, class_asked
from seewhy.failure import Fatal
from seewhy.manifest import Rows, read_manifest
from seewhy.progress import Reporter
from seewhy.steps.once import once_a_run
from seewhy.study import Manifest, Study
from seewhy.table import digest_text


@once_a_run
def _read(manifest: str, limit: int | None) -> Rows:
    asked = Manifest.model_validate_json(manifest)
    rows = read_manifest(
        asked.path,
        target=asked.target,
        image=asked.media,
        thing=asked.thing,
        text=asked.text,
        keep=tuple(asked.keep),
        format=asked.format,
        task=asked.task,
        encoding=asked.encoding,
        limit=limit,
    )
    return replace(rows, table=_with_file_times(rows.table))


def _with_file_times(table: pa.Table) -> pa.Table:
    """Source ids that change when a local file does: its size and time go into them. URLs are taken at their word."""
    ids = table["source_id"].to_pylist()
    for place, source in enumerate(table["source"].to_pylist()):
        if source is not None and urls.scheme(source) == "file":
            with suppress(OSError):
                facts = os.stat(urls.local_path(source))
                ids[place] = digest_text(f"{source} {facts.st_size} {facts.st_mtime_ns}")
    return table.set_column(table.schema.get_field_index("source_id"), "source_id", pa.array(ids, pa.string()))


def tell(study: Study, reporter: Reporter) -> None:
    """Says how the target was taken, and which rows cannot be used."""
    rows = manifest_rows(study)
    reporter.say(f"manifest: {rows.read:,} rows; {rows.why}")
    for reason, count in rows.dropped.items():
        reporter.say(f"manifest: {count:,} rows left out: {reason}")


def manifest_rows(study: Study) -> Rows:
    """See `manifest.read_manifest`.

    Raises:
        Fatal: heat maps are asked for a class that no row has: better said now than after a training.
    """
    rows = _read(study.manifest.model_dump_json(), study.limit)
    asked = class_asked(study.explain_images.explain) if study.has_image_path and rows.classes else None
    if asked is not None and asked not in rows.classes:
        raise Fatal(
            f"explain_images.explain: there is no class {asked!r} in the column {study.manifest.target!r}; "
            f"allowed: {PREDICTED}, {TRUE}, {', '.join(rows.classes)}"
        )
    return rows
