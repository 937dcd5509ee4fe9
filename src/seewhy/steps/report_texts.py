"""What the report shows of the text path: the words of the explained texts, their pictures, and every row's fate."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.manifest import REGRESSION
from seewhy.steps import caption, explain_words, fetch, train_text
from seewhy.steps.items import Items
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import digest, digest_text, read_rows
from seewhy.words.corpus import CorpusWords, corpus_words


def find_words(study: Study, items: Items) -> CorpusWords:
    """The words of the texts that this study explains, which may be fewer than its table holds."""
    asked = explain_words.source(study, items).keys[schema.ID]
    chunks = explain_words.table(study, items).batches([schema.ID, "words", schema.ERROR_KIND], ids=asked)
    names = [study.manifest.target] if items.task == REGRESSION else list(items.classes)
    return corpus_words(chunks, output_names=names, min_items=study.report.min_items, seed=study.report.seed)


def pictures(study: Study) -> Callable[[list[str]], dict[str, bytes]] | None:
    """item ids -> encoded bytes of their images, or of a frame of their videos, as many as there are; None for a study
    of texts alone."""
    if study.manifest.media is None:
        return None
    column = fetch.shown_column(study)
    parts = fetch.table(study).parts()
    found = fetch.images_of(study)
    source_of = _source_of_item(study, found)
    place = pc.index_in(pa.array(list(source_of.values()), pa.string()), value_set=found[schema.ID].combine_chunks())
    places = found.select(["part", "position"]).take(place)
    places = places.append_column("item", pa.array(list(source_of), pa.string()))
    places = places.sort_by([("part", "ascending"), ("position", "ascending")])  # so that each part is opened once

    def read(ids: list[str]) -> dict[str, bytes]:
        where = places.filter(pc.is_in(places["item"], value_set=pa.array(ids, pa.string())))
        got: dict[str, bytes] = {}
        if len(where):
            stored = pa.concat_tables(list(read_rows(parts, where, [column])))
            got = dict(zip(where["item"].to_pylist(), stored[column].to_pylist(), strict=True))
        return {item: shown for item, shown in got.items() if shown is not None}

    return read


def picture_notes(study: Study, items: Items) -> list[str]:
    """How many rows of a study of texts with an image column have no picture, and why; they are not lost."""
    if study.manifest.media is None or study.manifest.text is None:
        return []
    pictured = _source_of_item(study, fetch.images_of(study))
    index = fetch.table(study).index()
    failed = index.filter(pc.is_valid(index[schema.ERROR_KIND]))
    why_not = dict(zip(failed[schema.ID].to_pylist(), failed[schema.REASON].to_pylist(), strict=True))
    rows = manifest_rows(study).table
    reasons = Counter(
        f"no {study.manifest.thing} named" if source is None else why_not.get(source, "not fetched")
        for source, text in zip(rows["source_id"].to_pylist(), rows["text"].to_pylist(), strict=True)
        if digest_text(text) not in pictured
    )
    if not reasons:
        return []
    listed = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
    return [
        f"{reasons.total():,} of {len(items.examples):,} rows have no picture ({listed}). They count all the same: "
        "the model reads the texts alone."
    ]


def _source_of_item(study: Study, found: pa.Table) -> dict[str, str]:
    """item id -> the first of its sources that was fetched; one source may belong to several texts."""
    if study.manifest.text is None:
        pairs = list(zip(found["image_id"].to_pylist(), found[schema.ID].to_pylist(), strict=True))
    else:
        there = set(found[schema.ID].to_pylist())
        rows = manifest_rows(study).table
        sources, texts = rows["source_id"].to_pylist(), rows["text"].to_pylist()
        pairs = [(digest_text(t), s) for s, t in zip(sources, texts, strict=True) if s in there]
    first: dict[str, str] = {}
    for item, source in pairs:
        first.setdefault(item, source)
    return first


_OWN = 4  # columns of _rows before those that ride along


def rows_of(study: Study, items: Items) -> pa.Table:
    """row, id, source, target and the columns that ride along, of the rows that have a text."""
    rows = manifest_rows(study).table.drop(["source_id", "text"])
    place = pc.index_in(items.examples["row"], value_set=rows["row"].combine_chunks())
    return rows.take(place).add_column(1, schema.ID, items.examples[schema.ID])


def explained_losses(ok: int, reasons: dict[str, int], asked: int, items: Items) -> list[tuple[str, int, str]]:
    losses = []
    if asked < len(items.texts):
        losses.append(
            ("Not explained", asked - len(items.texts), "outside the sample, or in a fold that was not trained")
        )
    losses += [
        ("Not explained", -count, reason.split("/", 1)[1])
        for reason, count in reasons.items()
        if "/" in reason and reason[0] != "/"
    ]
    return [*losses, ("Texts explained", ok, "")]


def own_columns(rows: pa.Table) -> list[str]:
    """Of `rows_of`, the columns that ride along."""
    return rows.column_names[_OWN:]


def text_configs(study: Study, items: Items) -> dict[str, Any]:
    """Provenance."""
    configs: dict[str, Any] = {}
    if study.manifest.media is not None:
        configs["fetch"] = fetch.table(study).config()
    if study.manifest.text is None:
        configs["caption"] = caption.table(study).config()
    configs["train_text"] = train_text.config(study, items)
    configs["explain_words"] = explain_words.config(study, items)
    configs["words"] = {"fewest items": study.report.min_items, "seed": study.report.seed}
    return configs


def text_identity(study: Study, items: Items) -> str:
    """Names all that the report shows of the text path, the probe apart."""
    source = explain_words.source(study, items)
    counts = explain_words.table(study, items).counts(source.keys[schema.ID])
    explained = [source.rows_digest(), counts.ok, counts.reasons]
    fetched = None if study.manifest.media is None else fetch.table(study).done_mark()
    rows = rows_of(study, items)
    columns = {name: digest(rows[name].to_pylist()) for name in rows.column_names}
    return digest([explain_words.config(study, items), explained, items.losses, fetched, columns])
