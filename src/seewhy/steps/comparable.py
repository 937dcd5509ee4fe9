"""What one study has that can be held against another's: held-out predictions, words, answers of its models."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.compare import Word
from seewhy.describe import MAP, NONE, RANDOM
from seewhy.failure import Fatal
from seewhy.report.choose import choose_words
from seewhy.report.results import ReadImages
from seewhy.sections import VisionModel
from seewhy.steps import ask, caption, describe, explain_words, fetch, probe, train_image, train_text, training, words
from seewhy.steps.items import Items, gather
from seewhy.steps.joins import looked_up
from seewhy.steps.photos import Photos, gather_photos
from seewhy.steps.plan import need_done
from seewhy.steps.report_photos import image_reader, photo_configs
from seewhy.steps.report_texts import find_words, pictures, text_configs
from seewhy.steps.report_words import language_of, texts_of
from seewhy.steps.rows import manifest_rows
from seewhy.steps.words import INSTEAD, TEXT, Texts, gather_texts
from seewhy.study import Study
from seewhy.table import Table
from seewhy.words.counts import count_table
from seewhy.words.evidence import presence
from seewhy.words.probe_table import WORD

_STEP = "compare"
_DESCRIPTIONS = {
    MAP: "descriptions beside the model's map",
    RANDOM: "descriptions beside a random map",
    NONE: "descriptions without a map",
}


@dataclass(frozen=True)
class HeldOut:
    """What a model said of the rows that it had not seen.

    Attributes:
        called: the model's own name.
        beats: it is better than its best baseline.
        rows: row, id, fold, group, and target: the number, or the class's name.
        outputs: (N, K) of those rows.
        reads: kind of the texts that stand beside its predictions: TEXT or MAP.
        texts: ids -> those texts, as many as there are.
        read_images: ids -> encoded bytes, as many as there are; None for a study of texts alone.
    """

    called: str
    beats: bool
    rows: pa.Table
    outputs: np.ndarray
    reads: str
    texts: Callable[[list[str]], dict[str, str]]
    read_images: ReadImages | None


@dataclass(frozen=True)
class FoundWords:
    """Words that one way to find them puts forward.

    Attributes:
        value: what their values are.
        signs: words speak against an output too; False: only those for it are told.
        cut_by: all that says how texts became words.
        texts_with: words -> in how many texts each stands, of how many; a word that is left out is in too few to know.
    """

    value: str
    signs: bool
    found: list[Word]
    cut_by: Any
    texts_with: Callable[[Sequence[str]], tuple[dict[str, int], int]]


@dataclass(frozen=True)
class Asked:
    """Attributes:
    table: schema.CAPTIONS, or schema.answers.
    ids: of the images that it was asked for.
    by: the model that was asked.
    prices: the study's own, as `prices.price_of` takes them.
    whole: what an image has that counts as answered.
    """

    table: Table
    ids: pa.ChunkedArray
    by: VisionModel
    prices: Mapping[str, Mapping[Any, float]]
    whole: str = "a text"


@dataclass
class Side:
    """Attributes:
    models, words, answers: by what each is called; of two studies those of one name are compared.
    lacks: what the study asks for that is not there yet -> why.
    configs: provenance, by step.
    language: of the texts, as a language tag; empty where it is not known.
    """

    study: Study
    task: str
    classes: tuple[str, ...]
    models: dict[str, HeldOut] = field(default_factory=dict)
    words: dict[str, FoundWords] = field(default_factory=dict)
    answers: dict[str, Asked] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)
    configs: dict[str, Any] = field(default_factory=dict)
    language: str = ""

    def add(self, part: dict[str, Any], name: str, read: Callable[[], Any]) -> None:
        """Reads a thing, or notes why it is not there."""
        try:
            part[name] = read()
        except Fatal as error:
            self.lacks[name] = str(error)


def read_sides(first: Study, second: Study) -> tuple[Side, Side]:
    """Reads all that is there of both, one study whole before the other, so that what its steps share is joined once.

    A step that is not complete leaves out what hangs on it.
    """
    both = first, second
    noun = "captions" if all(study.manifest.text is None for study in both) else "texts"
    counted = {"answers" if study.probe.answers == INSTEAD else noun for study in both}
    of_probe = counted.pop() if len(counted) == 1 else "texts"
    return _read_side(first, noun, of_probe), _read_side(second, noun, of_probe)


def _read_side(study: Study, noun: str, of_probe: str) -> Side:
    """`noun` is what captions, or the texts of the manifest, are called, `of_probe` what the probe counts words in."""
    rows = manifest_rows(study)
    side = Side(study, rows.task, rows.classes)
    if study.has_texts:
        _of_texts(study, side, noun, of_probe)
    if study.has_image_path:
        _of_photos(study, side)
    if study.ask is not None:
        side.add(side.answers, "answers to the questions", lambda: _answers(study))
    return side


def _of_texts(study: Study, side: Side, noun: str, of_probe: str) -> None:
    if study.has_captions:
        side.add(side.answers, noun, lambda: _captions(study))
    if study.has_text_path:
        side.add(side.models, "text model", lambda: _text_model(study, gather(study, step=_STEP)))
        side.add(side.words, f"words of the {noun}, by the text model", lambda: _valued(study))
    _of_probe(study, side, TEXT, of_probe)
    if study.has_text_path and not side.lacks:
        side.configs |= text_configs(study, gather(study, step=_STEP))


def _of_photos(study: Study, side: Side) -> None:
    for control in describe.controls(study):
        side.add(side.answers, _DESCRIPTIONS[control], partial(_descriptions, study, control))
    side.add(side.models, "image model", lambda: _image_model(study, gather_photos(study, step=_STEP)))
    _of_probe(study, side, MAP, "descriptions")
    if not side.lacks:
        side.configs |= photo_configs(study, gather_photos(study, step=_STEP))


def _of_probe(study: Study, side: Side, kind: str, noun: str) -> None:
    side.add(side.models, f"probe of the {noun}", lambda: _probe_model(study, kind))
    side.add(side.words, f"words of the {noun}, counted", lambda: _counted(study, kind))
    with suppress(Fatal):  # what is lacking is noted above
        side.language = side.language or language_of(study, gather_texts(study, kind, step=_STEP))


def _captions(study: Study) -> Asked:
    need_done(fetch.table(study), fetch.source(study), step=_STEP, before="fetch")
    source = caption.source(study)
    need_done(caption.table(study), source, step=_STEP, before="caption")
    return Asked(caption.table(study), source.keys[schema.ID], study.caption, study.prices)


def _descriptions(study: Study, control: str) -> Asked:
    photos = gather_photos(study, step=_STEP)
    training.models(train_image.folder(study, photos))  # without it nobody knows which photos were to be described
    source, table = describe.source(study, photos, control), describe.table(study, photos, control)
    need_done(table, source, step=_STEP, before="describe")
    return Asked(table, source.keys[schema.ID], study.describe, study.prices)


def _answers(study: Study) -> Asked:
    need_done(fetch.table(study), fetch.source(study), step=_STEP, before="fetch")
    asked, source, table = study.ask, ask.source(study), ask.table(study)
    assert asked is not None
    need_done(table, source, step=_STEP, before="ask")
    return Asked(table, source.keys[schema.ID], asked, study.prices, whole="all answers")


def _text_model(study: Study, items: Items) -> HeldOut:
    where = train_text.folder(study, items)
    training.models(where)  # complete, or Fatal
    texts = partial(_of_ids, items.texts)
    return _held_out(where, items.examples, items.classes, reads=TEXT, texts=texts, read_images=pictures(study))


def _image_model(study: Study, photos: Photos) -> HeldOut:
    where = train_image.folder(study, photos)
    training.models(where)  # complete, or Fatal
    told = describe.table(study, photos, MAP)

    def texts(ids: list[str]) -> dict[str, str]:
        found = list(told.batches([schema.ID, "text"], ids=pa.array(ids, pa.string())))
        return _of_ids(pa.concat_tables(found), ids) if found else {}

    read_images = image_reader(photos)
    return _held_out(where, photos.examples, photos.classes, reads=MAP, texts=texts, read_images=read_images)


def _probe_model(study: Study, kind: str) -> HeldOut:
    found = gather_texts(study, kind, step=_STEP)
    _probe_of(study, found)

    def texts(ids: list[str]) -> dict[str, str]:
        return _of_ids(texts_of(found, pa.array(ids, pa.string())), ids)

    read_images = pictures(study) if kind == TEXT else image_reader(gather_photos(study, step=_STEP))
    where = probe.folder(study, found)
    return _held_out(where, found.examples, found.classes, reads=kind, texts=texts, read_images=read_images)


def _of_ids(table: pa.Table, ids: list[str]) -> dict[str, str]:
    """Of columns id and text."""
    found = table.filter(pc.is_in(table[schema.ID], value_set=pa.array(ids, pa.string())))
    return dict(zip(found[schema.ID].to_pylist(), found["text"].to_pylist(), strict=True))


def _probe_of(study: Study, texts: Texts) -> probe.Found:
    found = probe.read(study, texts)
    if found is None:
        raise Fatal("these texts could feed no probe")
    return found


def _held_out(where: str, examples: pa.Table, classes: Sequence[str], **shown: Any) -> HeldOut:
    """Of the training or probe in the folder `where`; `shown` is the last of `HeldOut`'s attributes."""
    verdict = training.read_verdict(where)
    told = training.read_table(where, "predictions")
    target = told["target"].combine_chunks()
    if classes:
        target = pa.array(classes, pa.string()).take(target.cast(pa.int64()))
    groups = looked_up(told["row"], examples.select(["row", "group"]))
    rows = told.select(["row", schema.ID, "fold"]).append_column("group", groups).append_column("target", target)
    flat = told["outputs"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return HeldOut(verdict.model, verdict.beats, rows, flat.reshape(len(told), -1), **shown)


def _counted(study: Study, kind: str) -> FoundWords:
    """The words that the probe puts forward. Of a class those that speak for it, as its report shows them."""
    texts = gather_texts(study, kind, step=_STEP)
    found = _probe_of(study, texts)
    table, ids = words.table(study, texts), texts.examples[schema.ID]
    of_words = found.table.filter(pc.equal(found.table["feature"], WORD))  # scores of images are no words
    ranked = of_words.filter(pc.is_valid(of_words["rank"])).to_pylist()
    told = [(row["output"], row["word"], row["weight"], row["total"]) for row in ranked]
    kept = [row for row in told if row[2] > 0 or not texts.classes]

    def texts_with(asked: Sequence[str]) -> tuple[dict[str, int], int]:
        counted = count_table(table, ids, words=asked, here=True)
        holding = np.asarray(presence(counted.matrix).sum(axis=0)).ravel().astype(int)
        return dict(zip(asked, holding.tolist(), strict=True)), len(ids)

    return FoundWords(
        value="weight in the word model",
        signs=not texts.classes,
        found=_ranked([(*row, found.texts) for row in kept]),
        cut_by={name: value for name, value in words.config(study, texts).items() if name != "texts"},
        texts_with=texts_with,
    )


def _valued(study: Study) -> FoundWords:
    """The words whose mean Shapley value is clear of zero, as the report chooses them, however many."""
    items = gather(study, step=_STEP)
    training.models(train_text.folder(study, items))
    explanations, source = explain_words.table(study, items), explain_words.source(study, items)
    need_done(explanations, source, step=_STEP, before="explain_words")
    table = find_words(study, items).table
    told = []
    for output in items.classes or (study.manifest.target,):
        chosen = choose_words(table, output=output, top=len(table), min_items=study.report.min_items)
        sure = [row for row in (*chosen.up, *chosen.down) if row.sure]
        told += [(output, row.word, row.value, row.items, row.total) for row in sure]
    holding = dict(zip(table["word"].to_pylist(), table["items"].to_pylist(), strict=True))
    total = table["total"][0].as_py() if len(table) else 0
    return FoundWords(
        value="mean Shapley value",
        signs=True,
        found=_ranked(told),
        cut_by=None,
        texts_with=lambda asked: ({word: holding[word] for word in asked if word in holding}, total),
    )


def _ranked(told: Sequence[tuple[str, str, float, int, int]]) -> list[Word]:
    """Words of output, word, value, texts and total, ranked by size within each output and sign."""
    found: list[Word] = []
    ranks: Counter[tuple[str, int]] = Counter()
    for output, word, value, holding, total in sorted(told, key=lambda row: (-abs(row[2]), row[1])):
        sign = 1 if value > 0 else -1
        ranks[output, sign] += 1
        found.append(Word(output, word, sign, ranks[output, sign], value, holding, total))
    return found
