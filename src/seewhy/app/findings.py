"""What the study's steps found of one image, looked up in their tables; what is missing, and the command that makes it.

One row is read from each table. The tables' keys are read once and kept until a table has grown.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema, steps
from seewhy.describe import MAP
from seewhy.failure import TRANSIENT, Fatal
from seewhy.heat import heat_of
from seewhy.report import numbers
from seewhy.report.items import Account, Item, account, load_items, word_limit
from seewhy.report.results import plain_word
from seewhy.steps import (
    ask,
    caption,
    describe,
    explain_images,
    explain_words,
    fetch,
    score,
    train_image,
    train_text,
    training,
)
from seewhy.steps.items import Items, gather
from seewhy.steps.photos import Photos, gather_photos
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import Table, digest_text, index_parts, read_part, read_rows

T = TypeVar("T")

_LIMIT_ROWS = 300  # explained texts of which the scale of the colours is taken


@dataclass(frozen=True)
class Missing:
    """Attributes:
    what: the result that is not there. why: untrusted where a model or a file said it.
    command: that makes it; empty where none would.
    """

    what: str
    why: str
    command: str = ""


@dataclass(frozen=True)
class Told:
    """A text that a model wrote for the image, or that came with the data; untrusted."""

    text: str
    by: str


@dataclass(frozen=True)
class Prediction:
    """A held-out prediction beside what is true. facts: (label, value), untrusted."""

    facts: list[tuple[str, str]]


@dataclass(frozen=True)
class Words:
    """How the words of the image's text moved the prediction.

    Attributes:
        accounts: for the predicted class, and for the actual one where they differ; else for the one output.
        limit: the value of full colour, as text. unit: of the values. text_lang: language tag, or empty.
    """

    accounts: list[Account]
    limit: str
    unit: str
    text_lang: str


@dataclass(frozen=True)
class Heat:
    """Where the image model looked. heat: (h, w) of 0 to 1 over the whole image. explained: the output, untrusted."""

    heat: np.ndarray
    explained: str


@dataclass(frozen=True)
class Answered:
    """What the study asked of the image: question or prompt, and the answer, untrusted; or else why there is none."""

    question: str
    answer: str | None
    why: str


@dataclass(frozen=True)
class TextScore:
    text: str
    logit: float
    probability: float


class Findings:
    """Looks up a study's results by image id.

    Args:
        path: of the study's file, for the commands that are shown.
    """

    def __init__(self, study: Study, path: str) -> None:
        self._study, self._path = study, path
        self._indexes: dict[str, tuple[list[str], pa.Table]] = {}
        self._limit = lru_cache(maxsize=2)(_colour_limit)

    def rows(self, image: str) -> list[dict[str, Any]]:
        """The manifest's rows that show this image, or none of it: row, source, text, target, and what rides along."""
        if self._study.manifest.image is None:
            return []
        found = fetch.images_of(self._study)
        sources = found.filter(pc.equal(found["image_id"], image))[schema.ID].combine_chunks()
        table = manifest_rows(self._study).table
        return table.filter(pc.is_in(table["source_id"], value_set=sources)).drop(["source_id"]).to_pylist()

    def caption(self, image: str) -> Told | Missing:
        """The caption, or where the manifest brings texts the first one that belongs to the image."""
        if self._study.manifest.text is not None:
            texts = [row["text"] for row in self.rows(image) if row["text"]]
            missing = Missing("text", "no row of the manifest that has a text shows this image")
            return Told(texts[0], self._study.manifest.text) if texts else missing
        asked = self._study.caption
        return self._told("caption", "caption", asked.model or asked.backend, lambda: caption.table(self._study), image)

    def description(self, image: str) -> Told | Missing:
        """What a model saw under the heat map."""
        asked = self._study.describe

        def table() -> Table:
            return describe.table(self._study, gather_photos(self._study, step="describe"), MAP)

        return self._told("description", "describe", asked.model or asked.backend, table, image)

    def text_prediction(self, image: str) -> Prediction | Missing:
        def look() -> Prediction | Missing:
            item, items, where = self._item(image)
            if item is None or item.outputs is None:
                return Missing("prediction from the text", "it was not predicted: its fold was not trained, or no text")
            return Prediction(self._facts(item, items.task, items.classes, where))

        return self._sought("prediction from the text", "train_text", look)

    def photo_prediction(self, image: str) -> Prediction | Missing:
        def look() -> Prediction | Missing:
            photos = gather_photos(self._study, step="train_image")
            where = train_image.folder(self._study, photos)
            item = self._load(image, "", photos.task, _of_id(_predictions(where), image))
            if item.outputs is None:
                return Missing("prediction from the image", "it was not predicted: its fold was not trained")
            return Prediction(self._facts(item, photos.task, photos.classes, where))

        return self._sought("prediction from the image", "train_image", look)

    def words(self, image: str) -> Words | Missing:
        def look() -> Words | Missing:
            item, items, _ = self._item(image)
            table = explain_words.table(self._study, items)
            row = None if item is None else self._row(table, item.id, schema.EXPLANATIONS.names)
            if item is None or row is None:
                return self._absent("word values", "explain_words", table)
            if row[schema.ERROR_KIND] is not None:
                return self._failed("word values", "explain_words", row)
            explained = replace(item, explanation=row)
            return self._words(explained, items, table)

        return self._sought("word values", "explain_words", look)

    def heat(self, image: str) -> Heat | Missing:
        def look() -> Heat | Missing:
            photos = gather_photos(self._study, step="explain_images")
            table = explain_images.table(self._study, photos)
            row = self._row(table, image, schema.MAPS.names)
            if row is None:
                return self._absent("heat map", "explain_images", table)
            if row[schema.ERROR_KIND] is not None:
                return self._failed("heat map", "explain_images", row)
            return Heat(heat_of(row["map"], row["height"], row["width"]), self._output(photos, row["explained"]))

        return self._sought("heat map", "explain_images", look)

    def scores(self, image: str) -> list[TextScore] | Missing:
        def look() -> list[TextScore] | Missing:
            table = score.table(self._study)
            row = self._row(table, image, schema.SCORED.names)
            if row is None:
                return self._absent("scores", "score", table)
            if row[schema.ERROR_KIND] is not None:
                return self._failed("scores", "score", row)
            texts = self._study.score.texts if self._study.score else []
            return [TextScore(*one) for one in zip(texts, row["logits"], row["probabilities"], strict=True)]

        return self._sought("scores", "score", look)

    def answers(self, image: str) -> list[Answered] | Missing:
        """Also those of an image of which some are missing."""

        def look() -> list[Answered] | Missing:
            asked, table, columns = self._study.ask, ask.table(self._study), ask.columns(self._study)
            row = self._row(table, image, [*columns, "replies"])
            if asked is None or row is None:
                return self._absent("answers", "ask", table)
            said = {**asked.prompts, **asked.questions}
            return [
                Answered(said[reply["column"]] or reply["column"], row[reply["column"]], _why_not(reply))
                for reply in row["replies"]
            ]

        return self._sought("answers", "ask", look)

    def command(self, step: str) -> str:
        """What computes the results of a step and of those before it."""
        limit = "" if self._study.limit is None else f" --limit {self._study.limit}"
        return f"seewhy run {shlex.quote(self._path)} --until {step}{limit}"

    def _told(self, what: str, step: str, by: str, table: Callable[[], Table], image: str) -> Told | Missing:
        def look() -> Told | Missing:
            found = table()
            row = self._row(found, image, schema.CAPTIONS.names)
            if row is None:
                return self._absent(what, step, found)
            if row[schema.ERROR_KIND] is not None:
                return self._failed(what, step, row)
            return Told(row["text"], by)

        return self._sought(what, step, look)

    def _sought(self, what: str, step: str, look: Callable[[], T | Missing]) -> T | Missing:
        """What `look` finds; why not where the study does not ask for it, or a step before it is not complete."""
        if step not in steps.wanted(self._study):
            return Missing(what, _not_asked(self._study, step))
        try:
            return look()
        except FileNotFoundError:
            return Missing(what, "it is not computed yet", self.command(step))
        except Fatal as error:
            return Missing(what, str(error), self.command(step))

    def _absent(self, what: str, step: str, table: Table) -> Missing:
        if table.done_mark() is None:
            return Missing(what, "it is not computed yet", self.command(step))
        return Missing(what, "this image is outside the sample, or came after that step ran", self.command(step))

    def _failed(self, what: str, step: str, row: dict[str, Any]) -> Missing:
        why = f"it failed as {_why_not(row)}"
        return Missing(what, why, self.command(step) if row[schema.ERROR_KIND] == TRANSIENT else "")

    def _row(self, table: Table, key: str, columns: list[str]) -> dict[str, Any] | None:
        """The newest row of that id, also one that failed."""
        parts = table.parts()
        kept = self._indexes.get(table.url)
        if kept is None or kept[0] != parts:
            kept = self._indexes[table.url] = (parts, index_parts(parts))
        place = pc.index(kept[1][schema.ID], key).as_py()
        return None if place < 0 else next(read_rows(parts, kept[1].slice(place, 1), columns)).to_pylist()[0]

    def _item(self, image: str) -> tuple[Item | None, Items, str]:
        """The text that the text model read for this image, with its prediction."""
        items = gather(self._study, step="train_text")
        where = train_text.folder(self._study, items)
        predictions = _predictions(where)
        key = image
        if self._study.manifest.text is not None:
            texts = [row["text"] for row in self.rows(image) if row["text"]]
            if not texts:
                return None, items, where
            key = digest_text(texts[0])
        text = items.texts.filter(pc.equal(items.texts[schema.ID], key)).to_pylist()
        if not text:
            return None, items, where
        return self._load(key, text[0]["text"], items.task, _of_id(predictions, key)), items, where

    def _load(self, key: str, text: str, task: str, predictions: pa.Table) -> Item:
        return load_items(
            [key],
            task=task,
            texts=pa.table({schema.ID: [key], "text": [text]}),
            rows=pa.table({schema.ID: pa.array([], pa.string())}),
            predictions=predictions,
            explanations={},
            title_column="",
        )[0]

    def _words(self, item: Item, items: Items, table: Table) -> Words:
        assert item.explanation is not None
        limit = self._limit(tuple(table.parts()))
        wanted = [0]
        if items.classes:
            given = item.outputs or item.explanation["outputs"]
            actual = [] if item.target is None else [int(item.target)]
            wanted = list(dict.fromkeys([int(np.argmax(given)), *actual]))
        names = list(items.classes) or [self._study.manifest.target]
        digits = numbers.decimals([limit])
        return Words(
            accounts=[
                account(item, output=k, output_name=names[k], limit=limit, digits=digits, word_key=plain_word)
                for k in wanted
            ],
            limit=numbers.number(limit, digits) if limit else "",
            unit="probability" if items.classes else self._study.manifest.target,
            text_lang=self._study.report.text_lang or language_of(item.text),
        )

    def _facts(self, item: Item, task: str, classes: tuple[str, ...], where: str) -> list[tuple[str, str]]:
        """(label, value) as an item's page in the report has them."""
        assert item.outputs is not None
        target = self._study.manifest.target
        if classes:
            best = int(np.argmax(item.outputs))
            actual = "unknown" if item.target is None else classes[int(item.target)]
            facts = [
                (f"Actual {target}", actual),
                ("Predicted", f"{classes[best]} ({numbers.number(item.outputs[best], 2)})"),
            ]
            if item.target is not None:
                chance = item.outputs[int(item.target)]
                facts.append(("Probability of the actual class", numbers.number(chance, 2)))
        else:
            given, made = numbers.spread_decimals(np.asarray(_predictions(where)["target"], dtype=np.float64))
            facts = [
                (f"Actual {target}", numbers.number(item.target, given)),
                ("Predicted", numbers.number(item.outputs[0], made)),
            ]
            if item.target is not None:
                facts.append(("Predicted minus actual", numbers.signed(item.outputs[0] - item.target, made)))
        return facts if item.fold is None else [*facts, ("Held-out fold", str(item.fold))]

    def _output(self, photos: Photos, output: int) -> str:
        return photos.classes[output] if photos.classes else self._study.manifest.target


@lru_cache(maxsize=2)
def _read_predictions(where: str, _size: int) -> pa.Table:
    return training.read_table(where, "predictions")


def _predictions(where: str) -> pa.Table:
    """Held-out predictions of a training, whole. Raises Fatal where it is not complete."""
    return _read_predictions(where, len(training.models(where)))


def _of_id(table: pa.Table, key: str) -> pa.Table:
    return table.filter(pc.equal(table[schema.ID], key))


def _colour_limit(parts: tuple[str, ...]) -> float:
    """The word value of full colour: of the first few hundred explained texts, so that every image has the same."""
    seen: list[Item] = []
    for url in parts:
        rows = read_part(url, ["words", schema.ERROR_KIND]).to_pylist()
        seen += [Item("", "", "", "", [], None, None, None, row) for row in rows if row[schema.ERROR_KIND] is None]
        if len(seen) >= _LIMIT_ROWS:
            break
    return word_limit(seen[:_LIMIT_ROWS])


def language_of(text: str) -> str:
    """`ja` for a text with kana, so that browsers choose Japanese glyphs; empty for any other."""
    return "ja" if any("\u3041" <= c <= "\u30ff" for c in text) else ""


def _why_not(row: dict[str, Any]) -> str:
    """``http_503 (transient): busy``; empty for a row that is ok."""
    if row[schema.ERROR_KIND] is None:
        return ""
    return f"{row[schema.REASON]} ({row[schema.ERROR_KIND]})" + (
        f": {row[schema.DETAIL]}" if row[schema.DETAIL] else ""
    )


def _not_asked(study: Study, step: str) -> str:
    if step == "score":
        return "the study has no section score: name texts there, as in score: {texts: [a dog, a car]}"
    if step == "ask":
        return "the study has no section ask: name questions there, as in ask: {questions: [who?]}"
    return f"the study does not ask for it: its path is {study.path}, and {step} belongs to another"
