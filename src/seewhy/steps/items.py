"""The rows joined with what the earlier steps made of them: texts with targets, and every row lost on the way."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.manifest import Rows
from seewhy.steps import caption, fetch
from seewhy.steps.joins import Losses, first_rows, joined, manifest_losses
from seewhy.steps.once import once_a_run
from seewhy.steps.plan import need_done
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import digest, digest_text


@dataclass(frozen=True)
class Items:
    """What a model is trained on and what the report shows.

    Attributes:
        examples: row, id (item id), text, target, group; one row for each usable row of the manifest, in its order.
            Rows of one group share an image or a text, directly or by way of others: no split may part them.
        texts: id, text; distinct.
        task, classes: as in `manifest.Rows`.
        losses: from the rows of the manifest to `texts`.
    """

    examples: pa.Table
    texts: pa.Table
    task: str
    classes: tuple[str, ...]
    losses: Losses

    @cached_property
    def identity(self) -> str:
        """Names the data: rows, ids, groups, texts and targets."""
        columns = ("row", schema.ID, "group", "target", "text")
        pieces = self.examples.select(columns).to_batches(max_chunksize=10_000)
        return digest([digest(piece.to_pydict()) for piece in pieces])


def gather(study: Study, *, step: str) -> Items:
    """Joins manifest, images and captions. Raises Fatal where a step before `step` is not complete.

    Several steps of one run ask for the same: what was joined last is kept as long as the tables have not grown.
    """
    if study.manifest.text is None:
        need_done(fetch.table(study), fetch.source(study), step=step, before="fetch")
        need_done(caption.table(study), caption.source(study), step=step, before="caption")
    items = _gather(study, fetch.parts(study), caption.parts(study))
    if not len(items.examples):
        raise Fatal(f"{step} has nothing to work on: no row has a text")
    return items


@once_a_run
def _gather(study: Study, *_parts: tuple[str, ...]) -> Items:
    rows = manifest_rows(study)
    losses = manifest_losses(rows)
    if study.manifest.text is not None:
        table = rows.table.select(["row", "text", "target"])
        ids = pa.array([digest_text(text) for text in table.column("text").to_pylist()], pa.string())
        examples = table.add_column(1, schema.ID, ids)
        examples = examples.append_column("group", _groups(study, rows, ids))
    else:
        examples = _with_captions(study, rows, losses)
    losses.append(("Rows with a text and a target", len(examples), ""))
    texts = first_rows(examples.select([schema.ID, "text"]), schema.ID)
    if len(texts) < len(examples):
        thing = "text" if study.manifest.text else study.manifest.thing
        losses.append((f"Share their {thing} with an earlier row", len(texts) - len(examples), "explained once"))
        losses.append((f"Distinct {thing}s", len(texts), ""))
    return Items(examples, texts, rows.task, rows.classes, losses)


def _with_captions(study: Study, rows: Rows, losses: Losses) -> pa.Table:
    table = rows.table.select(["row", "source_id", "target"])
    images = fetch.images_of(study).select([schema.ID, "image_id"])
    thing = study.manifest.thing
    table = joined(table, "source_id", images, fetch.table(study).index(), "fetched", losses, thing)
    losses.append((f"Rows with {'an image' if thing == 'image' else f'a {thing}'}", len(table), ""))
    captions = caption.table(study).index()
    table = joined(table, "image_id", caption.captioned(study), captions, "captioned", losses, thing)
    table = table.select(["row", "image_id", "text", "target"]).rename_columns(["row", schema.ID, "text", "target"])
    return table.append_column("group", table.column(schema.ID))


def _groups(study: Study, rows: Rows, ids: pa.Array) -> pa.Array:
    """A name for each set of rows that are tied by a text or an image: the connected components of both."""
    sources = rows.table["source_id"].to_pylist()
    pictures: dict[str, str] = {}
    if study.manifest.media is not None:
        found = fetch.images_of(study)
        pictures = dict(zip(found[schema.ID].to_pylist(), found["image_id"].to_pylist(), strict=True))
    nodes: dict[str, int] = {}
    texts, images = [], []
    for place, (text, source) in enumerate(zip(ids.to_pylist(), sources, strict=True)):
        image = f"image {pictures.get(source, source)}" if source else f"row {place}"
        texts.append(nodes.setdefault(f"text {text}", len(nodes)))
        images.append(nodes.setdefault(image, len(nodes)))
    ties = coo_array((np.ones(len(texts), np.int8), (texts, images)), shape=(len(nodes), len(nodes)))
    _, component = connected_components(ties, directed=False)
    return pa.array([str(component[text]) for text in texts], pa.string())
