"""What a report is made of: one frozen dataclass for each path's results, and what all pages share."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from seewhy.report.verdict import Verdict

ReadImages = Callable[[list[str]], dict[str, bytes]]
"""Item ids -> their images' encoded bytes, as many as there are."""
ReadMaps = Callable[[list[str]], pa.Table]
"""Item ids -> their rows of schema.MAPS, as many as there are, in any order."""
FindSentence = Callable[[str, str], tuple[int, int] | None]
"""(word, text) -> where the sentence stands in the text that holds the word, in whichever form; None: nowhere."""
Loss = tuple[str, int, str]
"""(label, count, note). A count of zero or more says how many rows are left at that point, a negative one how many were
lost on the way to the next, and the note why."""

TASKS = ("regression", "classification")
MAP, RANDOM, NONE = "map", "random", "none"
CONTROLS = (MAP, RANDOM, NONE)
"""What the describer saw beside the photo: the model's own heat map, a random one, or none."""
MAP_SAMPLE = "map_sample"
"""The model's own map, of the photos that the controls show, where these are not all."""


def plain_word(text: str) -> str:
    """A word as `seewhy.words.corpus` names it: lower case, NFC; empty where it has no letter or digit."""
    return unicodedata.normalize("NFC", text.lower()) if any(letter.isalnum() for letter in text) else ""


@dataclass(frozen=True)
class About:
    """What every page says.

    Attributes:
        question: what was asked, in words; the first paragraph.
        target_name: the column of the target.
        task: one of TASKS.
        classes: in the order of the models' outputs; classification only.
        configs: shown as provenance: models, revisions, prompts, seeds, code version.
        thing: what captions were written for: image or video.
    """

    title: str
    question: str
    target_name: str
    task: str
    classes: Sequence[str] = ()
    configs: Mapping[str, Any] = field(default_factory=dict)
    thing: str = "image"

    @property
    def outputs(self) -> list[str]:
        return list(self.classes) or [self.target_name]


@dataclass(frozen=True)
class Extent:
    """How much is shown.

    Attributes:
        top_words: words on either side that the text model's sections put forward.
        min_items: words that fewer items hold are not put forward there.
        probe_words: words of each class that the probe's table shows.
        per_end: pictures at either end of a word.
        max_pages: most item pages, thumbnails and lines of the text path's index.
        thumbnail_px: longer side of a picture.
        seed: of every sample that a page shows.
    """

    top_words: int = 15
    min_items: int = 10
    probe_words: int = 10
    per_end: int = 3
    max_pages: int = 2000
    thumbnail_px: int = 400
    thumbnail_quality: int = 80
    seed: int = 0


@dataclass(frozen=True)
class TextResults:
    """The text path: a text an item, a model of texts, the values of words.

    Attributes:
        losses: from manifest rows to rows explained.
        scores: schema.SCORES. predictions: schema.PREDICTIONS. words: schema.WORDS, whose `output` is a class or the
            target's name. explanations: schema.EXPLANATIONS, read once.
        verdict: the model beside its best baseline; None where that was not measured.
        texts: (id, text). rows: (row, id, source, target, and columns that ride along).
        read_images: None for a study of texts.
        described: the texts are a model's captions of the images; False: they came with the data.
        max_evals: masked texts that a text could be read as; said where a text reached it.
        notes: sentences under the losses, about rows that are not lost.
        unit: of the word values; the target's name (or "probability") if empty.
        title_column: ride-along column that names an item; the start of its text if empty.
        text_lang: language tag of the texts ("ja", "en"), so that browsers pick the right glyphs.
        word_key: turns a word as written in a text into `words`' spelling.
    """

    losses: Sequence[Loss]
    scores: pa.Table
    verdict: Verdict | None
    words: pa.Table
    predictions: pa.Table
    texts: pa.Table
    explanations: pa.Table | Iterable[pa.Table]
    rows: pa.Table
    read_images: ReadImages | None = None
    described: bool = True
    max_evals: int | None = None
    notes: Sequence[str] = ()
    unit: str = ""
    title_column: str = ""
    text_lang: str = ""
    word_key: Callable[[str], str] = plain_word


@dataclass(frozen=True)
class ProbeResults:
    """A sparse linear probe on the words of one set of texts: the article's table and what backs it.

    Attributes:
        table: schema.PROBE; `output` is a class or the target's name. Classification: the words of positive weight are
            shown, by rank. Regression: both signs, by size. A row without a rank is a word that was counted but is
            not put forward: of a control, such rows tell how it uses the words of the model's map.
        scores: schema.SCORES of held-out texts. Looked at are `model` and "`model`, targets permuted" (the
            same probe on shuffled targets), "majority" and "mean".
        counted: texts that were counted, the rows of the probe.
        texts: (id, text) of the examples at least.
        examples: (output, word) -> ids of items that hold the word, best first: those where it fits (its class;
            for a number a target on the word's side), and those where it does not.
        targets: (id, target) of the examples, as in schema.PREDICTIONS; None: the pictures say no target.
        subsamples: behind the table's `selection`; 0 where no subsamples were drawn.
        verdict: words alone beside their best baseline. None: judged from the intervals of `scores`.
        text_lang: language tag of the texts.
        find_sentence: None looks for the word as it is spelt.
        read_images: for a probe that has a page or a section of its own; a photo path brings its own.
        described: the texts are a model's words for images; False: they came with the data.
        concepts: schema.PROBE of the image scores that joined the words, or stand instead of them; None: none did.
        model: what `scores` call the probe: "words", "words and scores" or "scores".
        answers: whether answers to the study's questions are words, such as sky=moon: "beside" those of captions,
            "instead" of them, or not at all (""). They stand at the end of the texts, a line each.
        losses, notes: as of TextResults, for a probe that has a page of its own.
    """

    table: pa.Table
    scores: pa.Table
    counted: int
    texts: pa.Table
    examples: Mapping[tuple[str, str], tuple[Sequence[str], Sequence[str]]] = field(default_factory=dict)
    targets: pa.Table | None = None
    subsamples: int = 0
    verdict: Verdict | None = None
    text_lang: str = ""
    find_sentence: FindSentence | None = None
    read_images: ReadImages | None = None
    described: bool = True
    concepts: pa.Table | None = None
    model: str = "words"
    answers: str = ""
    losses: Sequence[Loss] = ()
    notes: Sequence[str] = ()

    @property
    def words_counted(self) -> bool:
        """Whether there are words to show: not where scores stand instead of them."""
        return self.model != "scores"


@dataclass(frozen=True)
class PhotoResults:
    """The image path: a model of photos, its heat maps, descriptions of photo and map, and the words that tell.

    Attributes:
        losses: from manifest rows to photos described and counted.
        scores: schema.SCORES of the image model and its baselines, held out.
        verdict: the image model beside its best baseline; None where that was not measured.
        predictions: schema.PREDICTIONS, held out.
        probes: by what the describer saw, see CONTROLS; "map" is always there, and where the controls show only some of
            its photos, MAP_SAMPLE: only the same photos can be compared.
        read_images, read_maps: asked for the ids of examples only.
        confusion: (truth, predicted, count), classes by name; pairs that never came may be missing. Classification.
        calibration: (bin_low, bin_high, count, confidence, accuracy), a row a bin of the highest probability; the mean
            of it and the share that was right, null in empty bins. None: not measured.
        faithfulness: schema.FAITHFULNESS of the photos checked; None: not checked.
        told: what gave the describer the answer, or the model's, as a sentence; empty: nothing did. With it no word is
            put forward as a finding.
        notes: sentences under the losses.
    """

    losses: Sequence[Loss]
    scores: pa.Table
    verdict: Verdict | None
    predictions: pa.Table
    probes: Mapping[str, ProbeResults]
    read_images: ReadImages
    read_maps: ReadMaps
    confusion: pa.Table | None = None
    calibration: pa.Table | None = None
    faithfulness: pa.Table | None = None
    told: str = ""
    notes: Sequence[str] = ()
