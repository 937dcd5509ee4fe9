"""report: what all steps found -> one folder of static HTML, and the word tables beside it for other tools."""

import io
import os
import tempfile
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from seewhy import __version__, folder_swap, schema, storage, urls
from seewhy.hiding import shown
from seewhy.progress import Reporter
from seewhy.report.build import build_report
from seewhy.report.folder import MARKER
from seewhy.report.results import About, Extent, PhotoResults, ProbeResults, TextResults
from seewhy.report.safe import cell
from seewhy.report.verdict import Verdict
from seewhy.steps import ask, explain_words, fetch, probe, train_text, training
from seewhy.steps.items import gather
from seewhy.steps.photos import gather_photos
from seewhy.steps.plan import Plan, need_done
from seewhy.steps.report_photos import photo_configs, photo_identity, photo_results
from seewhy.steps.report_texts import (
    explained_losses,
    find_words,
    own_columns,
    picture_notes,
    pictures,
    rows_of,
    text_configs,
    text_identity,
)
from seewhy.steps.report_words import language_of, model_notes, probe_results
from seewhy.steps.words import TEXT, Texts, gather_texts, kinds
from seewhy.study import Study
from seewhy.table import digest

_DONE = "_done.json"
"""Names what the report shows; written last."""


def plan(study: Study) -> Plan:
    where = urls.join(study.workspace, "report")
    before = [explain_words.plan(study)] if study.has_text_path else []
    for one in (*before, probe.plan(study)):
        if one.new or not one.folder:
            return Plan("report", where, None, None, one.note or f"waits for {one.step}")
    rows = sum(len(gather_texts(study, kind, step="report").examples) for kind in kinds(study)[:1])
    return Plan("report", where, rows, 0 if _mark(study) == identity(study) else rows)


def run(study: Study, reporter: Reporter, *, anew: bool = False) -> None:
    """Writes the report unless the one that is there shows the same; with `anew` in any case."""
    page = urls.join(study.workspace, "report", "index.html")
    if not anew and _mark(study) == identity(study):
        reporter.say(f"report: nothing to do, {shown(page)}")
        return
    write(study)
    reporter.say(f"report: {shown(page)}")


def write(study: Study) -> None:
    """Builds the report beside and puts it in its place.

    Raises:
        Fatal: an earlier step is not complete, or other files lie in the report's place.
    """
    texts = gather_texts(study, kinds(study)[0], step="report")
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "report")
        text, photos, words = _text(study), _photos(study), _probe(study)
        build_report(out, about=_about(study, texts), text=text, photos=photos, probe=words, extent=_extent(study))
        tables = {} if text is None else {"words": text.words}
        tables |= {} if words is None else {"probe": _all_rows(words)}
        tables |= {} if photos is None else {f"probe-{name}": one.table for name, one in photos.probes.items()}
        for name, table in tables.items():
            _write_words(os.path.join(out, name), table)
        storage.write_json(os.path.join(out, _DONE), {"identity": identity(study)})
        folder_swap.put_folder(out, urls.join(study.workspace, "report"), marker=MARKER, done=_DONE)


def _about(study: Study, texts: Texts) -> About:
    configs: dict[str, Any] = {"seewhy": __version__}
    if study.has_text_path:
        configs |= text_configs(study, gather(study, step="report"))
    if study.has_image_path:
        configs |= photo_configs(study, gather_photos(study, step="report"))
    if study.probe.answers is not None:
        configs["ask"] = ask.table(study).config()
    for kind in kinds(study):
        configs[f"probe ({kind})"] = probe.config(study, gather_texts(study, kind, step="report"))
    thing = study.manifest.thing
    return About(study.title, study.question, study.manifest.target, texts.task, texts.classes, configs, thing)


def _extent(study: Study) -> Extent:
    asked = study.report
    return Extent(top_words=asked.top, min_items=asked.min_items, max_pages=asked.max_pages, seed=asked.seed)


def _text(study: Study) -> TextResults | None:
    if not study.has_text_path:
        return None
    items = gather(study, step="report")
    where = train_text.folder(study, items)
    explanations, source = explain_words.table(study, items), explain_words.source(study, items)
    explained = need_done(explanations, source, step="report", before="explain_words")
    rows = rows_of(study, items)
    return TextResults(
        losses=[*items.losses, *explained_losses(explained.ok, explained.reasons, explained.rows_in, items)],
        scores=training.read_table(where, "scores"),
        verdict=Verdict(**asdict(training.read_verdict(where))),
        words=find_words(study, items).table,
        predictions=training.read_table(where, "predictions"),
        texts=items.texts,
        explanations=explanations.batches(schema.EXPLANATIONS.names, ids=source.keys[schema.ID]),
        rows=rows,
        read_images=pictures(study),
        described=study.manifest.text is None,
        max_evals=study.explain_words.max_evals,
        notes=[*picture_notes(study, items), *([] if study.manifest.text else model_notes(study.caption))],
        title_column=study.report.title_column or next(iter(own_columns(rows)), ""),
        text_lang=study.report.text_lang or language_of(study, gather_texts(study, TEXT, step="report")),
    )


def _photos(study: Study) -> PhotoResults | None:
    return photo_results(study, gather_photos(study, step="report")) if study.has_image_path else None


def _probe(study: Study) -> ProbeResults | None:
    if not study.has_texts:
        return None
    return probe_results(study, gather_texts(study, TEXT, step="report"), pictures(study))


def _all_rows(probe: ProbeResults) -> pa.Table:
    """Words, and scores behind them."""
    return probe.table if probe.concepts is None else pa.concat_tables([probe.table, probe.concepts])


def _write_words(base: str, table: pa.Table) -> None:
    """A word table as Parquet and as CSV; a cell that a spreadsheet would take for a formula is quoted as text."""
    pq.write_table(table, f"{base}.parquet")
    for name in ("output", "word"):
        cells = [cell(word) for word in table[name].to_pylist()]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(cells, pa.string()))
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    with open(f"{base}.csv", "wb") as file:
        file.write(b"\xef\xbb\xbf" + buffer.getvalue())  # the mark by which spreadsheets know UTF-8


def identity(study: Study) -> str:
    """Names all that the report shows."""
    parts: list[Any] = [__version__, _settings(study)]
    if study.has_text_path:
        parts.append(text_identity(study, gather(study, step="report")))
    if study.has_image_path:
        parts.append(photo_identity(study, gather_photos(study, step="report")))
    if study.has_texts:
        losses = gather_texts(study, TEXT, step="report").losses
        parts.append([losses, study.manifest.media and fetch.table(study).done_mark()])
    parts += [digest(probe.config(study, gather_texts(study, kind, step="report"))) for kind in kinds(study)]
    return digest(parts)


def _settings(study: Study) -> dict[str, Any]:
    shown = study.model_dump(include={"title", "question", "path", "report", "manifest"}, mode="json")
    if study.manifest.video is None:  # a report of images shows what it showed before there were videos
        del shown["manifest"]["video"]
    return shown


def _mark(study: Study) -> str | None:
    """The identity of the report that is there and whole."""
    where = urls.join(study.workspace, "report")
    if "index.html" not in storage.list_files(where):
        return None
    return (storage.read_json(urls.join(where, _DONE)) or {}).get("identity")
