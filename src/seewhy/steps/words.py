"""The words of texts: those of the manifest, captions, or descriptions, cut once and counted by the probe."""

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema, storage
from seewhy.describe import MAP
from seewhy.failure import Fatal
from seewhy.progress import Reporter
from seewhy.run import Source, Stored
from seewhy.steps import caption, describe, fetch, score
from seewhy.steps.items import Items, gather
from seewhy.steps.joins import Losses
from seewhy.steps.photos import Photos, gather_photos
from seewhy.steps.plan import need_done, run_row_stage
from seewhy.study import Study
from seewhy.table import Table, digest, read_rows
from seewhy.words.tokenise import TokeniseWords
from seewhy.words.tokens import AUTO, choose_tokenizer, tokenizer_identity

TEXT = "text"
"""Texts that are no descriptions: captions, or a column of the manifest."""
MAP_SAMPLE = "map_sample"
"""Descriptions beside the model's own maps, of the photos that the controls show: what those are compared with."""
_LOOKED_AT = 200  # texts, to choose a tokenizer


@dataclass(frozen=True)
class Texts:
    """One kind of texts of a study: what the words are counted in.

    Attributes:
        name: ``text``, ``map_sample``, or a control of describe: ``map``, ``random``, ``none``.
        examples: row, id, target, group: the manifest's rows with the text that each has; several may share one.
        source: id and text of the distinct texts.
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
        texts = _of_items(study, gather(study, step=step))
        return texts if study.probe.scores == "none" else _scored(study, texts)
    return _of_photos(study, gather_photos(study, step=step), kind)


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
    return Table(storage.join(study.workspace, "words", digest(config(study, texts))[:12]), schema.TOKENS)


def config(study: Study, texts: Texts) -> dict[str, Any]:
    name, options = tokenizer_of(study, texts)
    return {"stage": "words", **tokenizer_identity(name, **options), "texts": texts.made_by}


def tokenizer_of(study: Study, texts: Texts) -> tuple[str, dict[str, Any]]:
    """The tokenizer's name, chosen by the texts where the study leaves it open, and its options."""
    if texts.name not in (TEXT, MAP):  # all descriptions are cut alike, to be compared
        texts = gather_texts(study, MAP, step="probe")
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
