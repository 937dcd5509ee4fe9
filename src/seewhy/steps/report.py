"""report: what all steps found -> one folder of static HTML, and the word table beside it for other tools."""

import io
import os
import tempfile
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
from seewhy.report.verdict import Verdict
from seewhy.steps import caption, explain_words, fetch, train_text
from seewhy.steps.items import Items, gather
from seewhy.steps.plan import Plan, need_done
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import digest, digest_text, read_rows
from seewhy.words.corpus import CorpusWords, corpus_words


def plan(study: Study) -> Plan:
    before = explain_words.plan(study)
    where = storage.join(study.workspace, "report")
    if before.new or not before.folder:
        return Plan("report", where, None, None, before.note or "waits for explain_words")
    new = 0 if _mark(study) == _identity(study, gather(study, step="report")) else before.rows
    return Plan("report", where, before.rows, new)


def run(study: Study, reporter: Reporter) -> None:
    """Writes the report unless the one that is there shows the same."""
    items = gather(study, step="report")
    identity = _identity(study, items)
    page = storage.join(study.workspace, "report", "index.html")
    if _mark(study) == identity:
        reporter.say(f"report: nothing to do, {page}")
        return
    write(study, items, identity)
    reporter.say(f"report: {page}")


def write(study: Study, items: Items, identity: str) -> None:
    where = train_text.folder(study, items)
    explanations = explain_words.table(study, items)
    source = explain_words.source(study, items)
    explained = need_done(explanations, source, step="report", before="explain_words")
    found = find_words(study, items)
    losses = [*items.losses, *_explained_losses(explained.ok, explained.reasons, explained.rows_in, items)]
    verdict = train_text.read_verdict(where)
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
            rows=_rows(study, items),
            configs=_provenance(study, items, found),
            read_images=pictures(study, items),
            title_column=study.report.title_column or next(iter(study.manifest.keep), ""),
            text_lang=study.report.text_lang,
            min_items=study.report.min_items,
            top_words=study.report.top,
            max_pages=study.report.max_pages,
            seed=study.report.seed,
        )
        _write_words(os.path.join(out, "words"), found.table)
        storage.put_folder(out, storage.join(study.workspace, "report"))
    storage.write_json(storage.join(study.workspace, "report", "_done.json"), {"identity": identity})


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
    images = fetch.table(study)
    parts = images.parts()
    found = caption.images_of(study)
    if study.manifest.text is None:
        item_of = dict(zip(found[schema.ID].to_pylist(), found["image_id"].to_pylist(), strict=True))
    else:
        rows = manifest_rows(study).table
        item_of = {
            s: digest_text(t) for s, t in zip(rows["source_id"].to_pylist(), rows["text"].to_pylist(), strict=True)
        }
    owners = pa.array([item_of.get(one) for one in found[schema.ID].to_pylist()], pa.string())
    places = found.select(["part", "position"]).append_column("item", owners)

    def read(ids: list[str]) -> dict[str, bytes]:
        where = places.filter(pc.is_in(places["item"], value_set=pa.array(ids, pa.string())))
        got: dict[str, bytes] = {}
        if len(where):
            stored = pa.concat_tables(list(read_rows(parts, where, ["image"])))
            got = dict(zip(where["item"].to_pylist(), stored["image"].to_pylist(), strict=True))
        return got

    return read


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


def _identity(study: Study, items: Items) -> str:
    """Names all that the report shows."""
    shown = study.model_dump(include={"title", "question", "report", "manifest"}, mode="json")
    explained = explain_words.table(study, items).done_mark()
    return digest([__version__, shown, explain_words.config(study, items), explained, items.losses])


def _mark(study: Study) -> str | None:
    return (storage.read_json(storage.join(study.workspace, "report", "_done.json")) or {}).get("identity")
