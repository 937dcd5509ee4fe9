"""The words of texts: those of the manifest, captions, or descriptions, cut once and counted by the probe."""

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema, urls
from seewhy.describe import MAP
from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.run import Source, Stored
from seewhy.steps import ask, caption, describe, fetch, score
from seewhy.steps.items import Items, gather
from seewhy.steps.joins import Losses, first_rows, joined, looked_up, manifest_losses
from seewhy.steps.photos import Photos, gather_photos
from seewhy.steps.plan import need_done, run_row_stage
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import Table, digest, read_rows
from seewhy.words.answers import VERSION as ANSWERS
from seewhy.words.tokenise import TokeniseWords
from seewhy.words.tokens import AUTO, choose_tokenizer, tokenizer_identity

TEXT = "text"
"""Texts that are no descriptions: captions, or a column of the manifest."""
BESIDE, INSTEAD = "beside", "instead"
"""Where `probe.answers` puts the answers to the study's questions: among the captions' words, or in their place."""
MAP_SAMPLE = "map_sample"
"""Descriptions beside the model's own maps, of the photos that the controls show: what those are compared with."""
_LOOKED_AT = 200  # texts, to choose a tokenizer


@dataclass(frozen=True)
class Texts:
    """One kind of texts of a study: what the words are counted in.

    Attributes:
        name: ``text``, ``map_sample``, or a control of describe: ``map``, ``random``, ``none``.
        examples: row, id, target, group: the manifest's rows with the text that each has; several may share one.
        source: id and text of the distinct texts, and where answers are words, those as lines (`words.answers`).
        made_by: names what wrote the texts.
    """

    name: str
    examples: pa.Table
    source: Source
    made_by: str
    task: str
    classes: tuple[str, ...]
    losses: Losses


def kinds(study: Study) -> list[str]:
    """The kinds of texts that a study has, in the order in which it shows them."""
    found = [TEXT] if study.has_texts else []
    if study.has_image_path:
        found.append(MAP)
        if study.describe.controls and study.describe.control_sample is not None:
            found.append(MAP_SAMPLE)
        found += study.describe.controls
    return found


def gather_texts(study: Study, kind: str, *, step: str) -> Texts:
    """Raises Fatal where a step that writes these texts is not complete."""
    if kind == TEXT:
        texts = _texts(study, step=step)
        return texts if study.probe.scores == "none" else _scored(study, texts)
    return _of_photos(study, gather_photos(study, step=step), kind)


def _texts(study: Study, *, step: str) -> Texts:
    if study.probe.answers is None:
        return _of_items(study, gather(study, step=step))
    need_done(fetch.table(study), fetch.source(study), step=step, before="fetch")
    need_done(ask.table(study), ask.source(study), step=step, before="ask")
    return _with_answers(study, step=step) if study.probe.answers == BESIDE else _of_answers(study)


def _of_items(study: Study, items: Items) -> Texts:
    if study.manifest.text is not None:
        source, made_by = Source(items.texts), "manifest"
    else:
        captions = caption.table(study)
        keys = captions.locate(items.texts[schema.ID])
        source, made_by = Source(keys, (Stored(captions.parts(), {"text": "text"}),)), digest(caption.config(study))
    examples = items.examples.select(["row", schema.ID, "target", "group"])
    return Texts(TEXT, examples, source, made_by, items.task, items.classes, items.losses)


def _scored(study: Study, texts: Texts) -> Texts:
    """Of the texts those whose image has scores, where scores join the probe."""
    scored = score.has_score(study, fetch.image_of_row(study, texts.examples["row"]))
    lost = len(scored) - int(scored.sum())
    if lost == len(scored):
        raise Fatal("the probe has nothing to work on: no row with a text has an image with scores")
    losses = [
        *texts.losses,
        *([("Without scores", -lost, "no image, or one that could not be scored")] if lost else []),
    ]
    return replace(texts, examples=texts.examples.filter(pa.array(scored)), losses=losses)


def _with_answers(study: Study, *, step: str) -> Texts:
    """Captions and the answers about their images, of the images that have both."""
    items = _of_items(study, gather(study, step=step))
    losses = list(items.losses)
    examples, told = _answered(study, items.examples, losses)
    losses.append(("Rows with all answers", len(examples), ""))
    keys = items.source.keys
    keys = keys.append_column("answers", looked_up(keys[schema.ID], told))
    source = Source(keys.filter(pc.is_valid(keys["answers"])), items.source.stored)
    made_by = digest([items.made_by, ask.config(study)])
    return Texts(TEXT, examples, source, made_by, items.task, items.classes, losses)


def _of_answers(study: Study) -> Texts:
    """Answers alone. Rows that share an image stay in one fold."""
    rows = manifest_rows(study)
    losses = manifest_losses(rows)
    table = rows.table.select(["row", "source_id", "target"])
    images = fetch.images_of(study).select([schema.ID, "image_id"])
    table = joined(table, "source_id", images, fetch.table(study).index(), "fetched", losses)
    losses.append(("Rows with an image", len(table), ""))
    table = table.select(["row", "image_id", "target"]).rename_columns(["row", schema.ID, "target"])
    examples, told = _answered(study, table.append_column("group", table[schema.ID]), losses)
    losses.append(("Rows with all answers and a target", len(examples), ""))
    if not len(examples):
        raise Fatal("probe has nothing to work on: no row has all its answers")
    keys = first_rows(examples.select([schema.ID]), schema.ID)
    keys = keys.append_column("text", pa.nulls(len(keys), pa.string()))
    keys = keys.append_column("answers", looked_up(keys[schema.ID], told))
    return Texts(TEXT, examples, Source(keys), digest(ask.config(study)), rows.task, rows.classes, losses)


def _answered(study: Study, examples: pa.Table, losses: Losses) -> tuple[pa.Table, pa.Table]:
    """The examples whose image has all its answers, and image id -> answers."""
    told = ask.answered(study)
    found = joined(examples, schema.ID, told, ask.table(study).index(), "answered", losses)
    return found.drop(["answers"]), told


def _of_photos(study: Study, photos: Photos, kind: str) -> Texts:
    control = MAP if kind == MAP_SAMPLE else kind
    descriptions = describe.table(study, photos, control)
    asked = describe.source(study, photos, control)
    need_done(descriptions, asked, step="probe", before="describe")
    keys = descriptions.locate(asked.keys[schema.ID])
    if kind == MAP_SAMPLE:
        others = describe.source(study, photos, study.describe.controls[0]).keys
        keys = keys.filter(pc.is_in(keys[schema.ID], value_set=others[schema.ID].combine_chunks()))
    examples = photos.examples.select(["row", schema.ID, "target", "group"])
    examples = examples.filter(pc.is_in(examples[schema.ID], value_set=keys[schema.ID].combine_chunks()))
    lost = len(photos.examples) - len(examples)
    losses = [*photos.losses, *([("Not described", -lost, "see the table's reasons")] if lost else [])]
    return Texts(
        kind,
        examples,
        Source(keys, (Stored(descriptions.parts(), {"text": "text"}),)),
        digest(describe.config(study, photos, control)),
        photos.task,
        photos.classes,
        losses,
    )


def table(study: Study, texts: Texts) -> Table:
    return Table(urls.join(study.workspace, "words", digest(config(study, texts))[:12]), schema.TOKENS)


def config(study: Study, texts: Texts) -> dict[str, Any]:
    name, options = tokenizer_of(study, texts)
    told = {"answers": {"code": ANSWERS, "words": study.probe.answers}} if _has_answers(study, texts) else {}
    return {"stage": "words", **tokenizer_identity(name, **options), "texts": texts.made_by, **told}


def _has_answers(study: Study, texts: Texts) -> bool:
    return texts.name == TEXT and study.probe.answers is not None


def tokenizer_of(study: Study, texts: Texts) -> tuple[str, dict[str, Any]]:
    """The tokenizer's name, chosen by the texts where the study leaves it open, and its options."""
    if texts.name not in (TEXT, MAP):  # all descriptions are cut alike, to be compared
        texts = gather_texts(study, MAP, step="probe")
    if _has_answers(study, texts) and study.probe.answers == INSTEAD:  # there is no text to cut
        return "words", {}
    asked = study.probe
    options = {
        "form": asked.form,
        "parts_of_speech": asked.parts_of_speech,
        "stop_words": asked.stop_words,
        "user_dictionary": asked.user_dictionary,
    }
    name = asked.tokenizer
    return (choose_tokenizer(_some(texts.source)) if name == AUTO else name), options


def _some(source: Source) -> list[str]:
    """Some texts, at equal distances, so that no more of a large table is read."""
    count = min(len(source.keys), _LOOKED_AT)
    keys = source.keys.take([i * len(source.keys) // count for i in range(count)])
    if not source.stored:
        return keys["text"].to_pylist()
    pieces = read_rows(source.stored[0].parts, keys, ["text"])
    return [text for piece in pieces for text in piece["text"].to_pylist()]


def cut(study: Study, texts: Texts, reporter: Reporter) -> Table:
    """Cuts the texts that are not cut yet and returns the table of their words."""
    words = table(study, texts)
    if texts.name == MAP_SAMPLE:  # they are among those of MAP, which are cut
        return words
    name, options = tokenizer_of(study, texts)
    run_row_stage(
        f"words of {texts.name}",
        study,
        reporter,
        stage=TokeniseWords,
        stage_args={"tokenizer": name, **options},
        source=texts.source,
        table=words,
        config=config(study, texts),
        resources=study.probe.resources,
    )
    return words
