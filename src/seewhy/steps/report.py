"""report: what all steps found -> one folder of static HTML, and the word table beside it for other tools."""

import io
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from seewhy import __version__, schema, storage
from seewhy.manifest import REGRESSION
from seewhy.progress import Reporter
from seewhy.report.build import build_report
from seewhy.report.folder import MARKER
from seewhy.report.verdict import Verdict
from seewhy.steps import caption, explain_words, fetch, train_text
from seewhy.steps.items import Items, gather
from seewhy.steps.plan import Plan, need_done
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import digest, digest_text, read_rows
from seewhy.words.corpus import CorpusWords, corpus_words

_DONE = "_done.json"
"""Names what the report shows; written last."""


def plan(study: Study) -> Plan:
    before = explain_words.plan(study)
    where = storage.join(study.workspace, "report")
    if before.new or not before.folder:
        return Plan("report", where, None, None, before.note or "waits for explain_words")
    new = 0 if _mark(study) == identity(study, gather(study, step="report")) else before.rows
    return Plan("report", where, before.rows, new)


def run(study: Study, reporter: Reporter, *, anew: bool = False) -> None:
    """Writes the report unless the one that is there shows the same; with `anew` in any case."""
    items = gather(study, step="report")
    page = storage.join(study.workspace, "report", "index.html")
    if not anew and _mark(study) == identity(study, items):
        reporter.say(f"report: nothing to do, {page}")
        return
    write(study, items)
    reporter.say(f"report: {page}")


def write(study: Study, items: Items) -> None:
    """Builds the report beside and puts it in its place.

    Raises:
        Fatal: an earlier step is not complete, or other files lie in the report's place.
    """
    where = train_text.folder(study, items)
    explanations = explain_words.table(study, items)
    source = explain_words.source(study, items)
    explained = need_done(explanations, source, step="report", before="explain_words")
    found = find_words(study, items)
    losses = [*items.losses, *_explained_losses(explained.ok, explained.reasons, explained.rows_in, items)]
    verdict = train_text.read_verdict(where)
    rows = _rows(study, items)
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "report")
        build_report(
            out,
            title=study.title,
            question=study.question,
            target_name=study.manifest.target,
            task=items.task,
            classes=items.classes,
            losses=losses,
            scores=train_text.read_table(where, "scores"),
            verdict=Verdict(**asdict(verdict)),
            words=found.table,
            predictions=train_text.read_table(where, "predictions"),
            texts=items.texts,
            explanations=explanations.batches(schema.EXPLANATIONS.names, ids=source.keys[schema.ID]),
            rows=rows,
            configs=_provenance(study, items, found),
            read_images=pictures(study, items),
            described=study.manifest.text is None,
            max_evals=study.explain_words.max_evals,
            notes=picture_notes(study, items),
            title_column=study.report.title_column or next(iter(rows.column_names[_OWN:]), ""),
            text_lang=study.report.text_lang,
            min_items=study.report.min_items,
            top_words=study.report.top,
            max_pages=study.report.max_pages,
            seed=study.report.seed,
        )
        _write_words(os.path.join(out, "words"), found.table)
        storage.write_json(os.path.join(out, _DONE), {"identity": identity(study, items)})
        storage.put_folder(out, storage.join(study.workspace, "report"), marker=MARKER, done=_DONE)


def find_words(study: Study, items: Items) -> CorpusWords:
    """The words of the texts that this study explains, which may be fewer than its table holds."""
    asked = explain_words.source(study, items).keys[schema.ID]
    chunks = explain_words.table(study, items).batches([schema.ID, "words", schema.ERROR_KIND], ids=asked)
    names = [study.manifest.target] if items.task == REGRESSION else list(items.classes)
    return corpus_words(chunks, output_names=names, min_items=study.report.min_items, seed=study.report.seed)


def pictures(study: Study, items: Items) -> Callable[[list[str]], dict[str, bytes]] | None:
    """item ids -> encoded bytes of their images, as many as there are; None for a study of texts alone."""
    if study.manifest.image is None:
        return None
    parts = fetch.table(study).parts()
    found = caption.images_of(study)
    source_of = _source_of_item(study, found)
    place = pc.index_in(pa.array(list(source_of.values()), pa.string()), value_set=found[schema.ID].combine_chunks())
    places = found.select(["part", "position"]).take(place)
    places = places.append_column("item", pa.array(list(source_of), pa.string()))
    places = places.sort_by([("part", "ascending"), ("position", "ascending")])  # so that each part is opened once

    def read(ids: list[str]) -> dict[str, bytes]:
        where = places.filter(pc.is_in(places["item"], value_set=pa.array(ids, pa.string())))
        got: dict[str, bytes] = {}
        if len(where):
            stored = pa.concat_tables(list(read_rows(parts, where, ["image"])))
            got = dict(zip(where["item"].to_pylist(), stored["image"].to_pylist(), strict=True))
        return got

    return read


def picture_notes(study: Study, items: Items) -> list[str]:
    """How many rows of a study of texts with an image column have no picture, and why; they are not lost."""
    if study.manifest.image is None or study.manifest.text is None:
        return []
    pictured = _source_of_item(study, caption.images_of(study))
    index = fetch.table(study).index()
    failed = index.filter(pc.is_valid(index[schema.ERROR_KIND]))
    why_not = dict(zip(failed[schema.ID].to_pylist(), failed[schema.REASON].to_pylist(), strict=True))
    rows = manifest_rows(study).table
    reasons = Counter(
        "no image named" if source is None else why_not.get(source, "not fetched")
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


def _rows(study: Study, items: Items) -> pa.Table:
    """row, id, source, target and the columns that ride along, of the rows that have a text."""
    rows = manifest_rows(study).table.drop(["source_id", "text"])
    place = pc.index_in(items.examples["row"], value_set=rows["row"].combine_chunks())
    return rows.take(place).add_column(1, schema.ID, items.examples[schema.ID])


def _explained_losses(ok: int, reasons: dict[str, int], asked: int, items: Items) -> list[tuple[str, int, str]]:
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


def _provenance(study: Study, items: Items, found: CorpusWords) -> dict[str, Any]:
    configs: dict[str, Any] = {"seewhy": __version__}
    if study.manifest.image is not None:
        configs["fetch"] = fetch.table(study).config()
    if study.manifest.text is None:
        configs["caption"] = caption.table(study).config()
    configs["train_text"] = train_text.config(study, items)
    configs["explain_words"] = explain_words.config(study, items)
    configs["words"] = {
        "fewest items": study.report.min_items,
        "rarer words left out": found.rare,
        "seed": study.report.seed,
    }
    return configs


def _write_words(base: str, table: pa.Table) -> None:
    """The word table as Parquet and as CSV; a cell that a spreadsheet would take for a formula is quoted as text."""
    pq.write_table(table, f"{base}.parquet")
    safe = [f"'{w}" if w[:1] in ("=", "+", "-", "@", "\t", "\r") else w for w in table["word"].to_pylist()]
    place = table.schema.get_field_index("word")
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table.set_column(place, "word", pa.array(safe, pa.string())), buffer)
    with open(f"{base}.csv", "wb") as file:
        file.write(b"\xef\xbb\xbf" + buffer.getvalue())  # the mark by which spreadsheets know UTF-8


def identity(study: Study, items: Items) -> str:
    """Names all that the report shows."""
    shown = study.model_dump(include={"title", "question", "report", "manifest"}, mode="json")
    source = explain_words.source(study, items)
    counts = explain_words.table(study, items).counts(source.keys[schema.ID])
    explained = [source.rows_digest(), counts.ok, counts.reasons]
    fetched = None if study.manifest.image is None else fetch.table(study).done_mark()
    rows = _rows(study, items)
    columns = {name: digest(rows[name].to_pylist()) for name in rows.column_names}
    return digest([__version__, shown, explain_words.config(study, items), explained, items.losses, fetched, columns])


def _mark(study: Study) -> str | None:
    """The identity of the report that is there and whole."""
    where = storage.join(study.workspace, "report")
    if "index.html" not in storage.list_files(where):
        return None
    return (storage.read_json(storage.join(where, _DONE)) or {}).get("identity")
