"""probe: the words of each kind of texts -> which of them tell the target, with the evidence for each."""

import io
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse

from seewhy import schema, storage, urls
from seewhy.failure import Fatal
from seewhy.manifest import REGRESSION
from seewhy.progress import Reporter, format_seconds
from seewhy.ray_cluster import connect
from seewhy.steps import ask, caption, describe, fetch, score, train_image, training, words
from seewhy.steps.photos import gather_photos
from seewhy.steps.plan import Plan
from seewhy.steps.words import TEXT, Texts, gather_texts, kinds
from seewhy.study import Study
from seewhy.table import Table, digest
from seewhy.train.folds import group_numbers
from seewhy.train.scores import Verdict
from seewhy.words.answers import spare_answers
from seewhy.words.counts import count_table
from seewhy.words.evidence import groups_by_word, presence
from seewhy.words.probe import Probe, fit_probe
from seewhy.words.probe_table import counted_rows
from seewhy.words.ranking import stable_ranks

VERSION = 3
"""Goes up with every change of the probe's code that changes its results."""

_FEWEST_GROUPS = 5
"""Groups that must hold a word; with one alone, random halves of the groups would choose it in every second."""

WORDS_AND_SCORES, SCORES = "words and scores", "scores"
"""What the scores of held-out rows call a probe with the study's image scores beside its words, or instead of them."""

_CUT_WORDS = {"answers", "resources", "scores", "tokenizer", "form", "parts_of_speech", "stop_words", "user_dictionary"}
"""Settings that are no part of the probe's own name: they are in the words', or change nothing."""


@dataclass(frozen=True)
class Found:
    """What the probe found in one kind of texts, read back. The tables are those of `words.probe.Probe`."""

    kind: str
    table: pa.Table
    examples: pa.Table
    scores: pa.Table
    verdict: Verdict
    texts: int


def folder(study: Study, texts: Texts) -> str:
    return urls.join(study.workspace, "probe", digest(config(study, texts))[:12])


def config(study: Study, texts: Texts) -> dict[str, Any]:
    columns = ["row", schema.ID, "target", "group"]
    pieces = texts.examples.select(columns).to_batches(max_chunksize=10_000)
    return {
        "stage": "probe",
        "stage_code": VERSION,
        "texts": texts.name,
        **study.probe.model_dump(exclude=_CUT_WORDS),
        "words": words.config(study, texts),
        "scores": study.probe.scores if _joins(study, texts) else "none",
        "score": digest(score.config(study)) if _joins(study, texts) else None,
        "data": digest([digest(piece.to_pydict()) for piece in pieces]),
        "rows": len(texts.examples),
        "task": texts.task,
        "classes": list(texts.classes),
        "target": None if texts.classes else study.manifest.target,
        "folds_of": _folds_of(study, texts),
        "beside": _beside(study, texts),
    }


def plan(study: Study) -> Plan:
    waits = _first_waiting(study)
    if waits is not None:
        return Plan("probe", "", None, None, waits.note or f"waits for {waits.step}")
    rows, new = 0, 0
    for kind in kinds(study):
        texts = gather_texts(study, kind, step="probe")
        rows += len(texts.examples)
        new += 0 if training.is_done(folder(study, texts)) else len(texts.examples)
    return Plan("probe", urls.join(study.workspace, "probe"), rows, new, f"of: {', '.join(kinds(study))}")


def _first_waiting(study: Study) -> Plan | None:
    """The step before that is not done."""
    before = [describe.plan] if study.has_image_path else []
    if study.probe.scores != "none":
        before = [score.plan, *before]
    if study.probe.answers is not None:
        before = [ask.plan, *before]
    if study.has_captions:
        before = [caption.plan, *before]
    if study.has_captions or study.probe.answers is not None or study.probe.scores != "none":
        before = [fetch.plan, *before]
    return next((one for step in before if (one := step(study)).new or not one.folder), None)


def run(study: Study, reporter: Reporter) -> None:
    for kind in kinds(study):
        texts = gather_texts(study, kind, step="probe")
        where = folder(study, texts)
        if training.is_done(where):
            reporter.say(f"probe: nothing to do, {_told(read(study, texts), kind)}")
            continue
        table = words.cut(study, texts, reporter)
        storage.write_json(urls.join(where, "_config.json"), config(study, texts))
        connect()
        with reporter.stage(f"probe of {kind}", 1, "fits") as progress:
            try:
                found = _fit(study, texts, table)
            except ValueError as error:
                if kind == describe.MAP or (kind == TEXT and not study.has_text_path):
                    raise Fatal(f"probe of {kind}: {error}") from error
                # There are findings without it: a probe that so few texts cannot feed must not stop the study.
                _write_why_not(where, str(error), len(texts.examples))
                reporter.say(f"probe of {kind}: left out, {error}")
                continue
            progress({"ok": 1})
        told = stable_ranks(found.table, min_selection=study.probe.min_selection)
        told = pa.concat_tables([told, _words_of_the_map(study, texts, table, told)])
        _write(where, found, told, _predictions(texts, found))
        reporter.say(f"probe: done in {format_seconds(progress.seconds())}, {_told(read(study, texts), kind)}")


def _joins(study: Study, texts: Texts) -> bool:
    """Whether image scores join the probe of these texts. Descriptions are compared with their controls by words."""
    return texts.name == TEXT and study.probe.scores != "none"


def _counted(study: Study, texts: Texts, table: Table) -> tuple[sparse.csr_matrix, list[str]]:
    """(N, V) counts, and the V words."""
    asked = study.probe
    examples = texts.examples
    if _joins(study, texts) and asked.scores == "instead":
        return sparse.csr_matrix((len(examples), 0), dtype=np.int32), []
    counted = count_table(
        table, examples[schema.ID], min_texts=asked.min_texts, max_texts=asked.max_texts, most=asked.max_words
    )
    groups, _ = group_numbers(examples["group"].to_pylist())
    # Texts of one image, or of its copies, are one witness.
    fewest = _FEWEST_GROUPS if isinstance(asked.min_texts, float) else min(asked.min_texts, _FEWEST_GROUPS)
    enough = np.flatnonzero(groups_by_word(presence(counted.matrix), groups) >= fewest)
    if texts.name == TEXT and asked.answers is not None:
        told = [counted.vocabulary.words[column] for column in enough]
        enough = np.delete(enough, spare_answers(told, presence(counted.matrix[:, enough])))
    if not len(enough):
        raise ValueError(f"no word stands in {asked.min_texts:g} texts or more of {len(examples)}")
    return counted.matrix[:, enough], [counted.vocabulary.words[column] for column in enough]


def _fit(study: Study, texts: Texts, table: Table) -> Probe:
    asked = study.probe
    examples = texts.examples
    counts, known = _counted(study, texts, table)
    joined: dict[str, Any] = {}
    if _joins(study, texts) and study.score is not None:
        joined = {
            "scores_of_text": score.logits(study, fetch.image_of_row(study, examples["row"])),
            "score_names": study.score.texts,
            "called": WORDS_AND_SCORES if known else SCORES,
        }
    return fit_probe(
        counts,
        known,
        _target(texts),
        ids=examples[schema.ID].to_pylist(),
        classes=texts.classes,
        target_name=study.manifest.target,
        groups=examples["group"].to_pylist(),
        fold_of_text=_folds(study, texts),
        folds=asked.folds,
        multinomial=asked.multinomial,
        features=asked.features,
        subsamples=asked.subsamples,
        seed=asked.seed,
        **joined,
    )


def _target(texts: Texts) -> np.ndarray:
    """(N,) numbers, or the index of each text's class."""
    numbers = texts.examples["target"].to_pylist()
    if texts.task != REGRESSION:
        place = {name: number for number, name in enumerate(texts.classes)}
        numbers = [place[one] for one in numbers]
    return np.asarray(numbers, dtype=np.float64)


def _beside(study: Study, texts: Texts) -> str | None:
    """The probe whose words the texts beside it tell of too."""
    if texts.name in (TEXT, describe.MAP):
        return None
    return digest(config(study, gather_texts(study, describe.MAP, step="probe")))


def _words_of_the_map(study: Study, texts: Texts, table: Table, told: pa.Table) -> pa.Table:
    """What these texts say of the words that the model's own maps brought up, where their own probe left them out."""
    found = None if _beside(study, texts) is None else read(study, gather_texts(study, describe.MAP, step="probe"))
    if found is None:
        return schema.PROBE.empty_table()
    known = set(zip(told["output"].to_pylist(), told["word"].to_pylist(), strict=True))
    brought_up = found.table.filter(pc.is_valid(found.table["rank"]))
    pairs = zip(brought_up["output"].to_pylist(), brought_up["word"].to_pylist(), strict=True)
    lacking = [pair for pair in pairs if pair not in known]
    counted = count_table(table, texts.examples[schema.ID], words=sorted({word for _, word in lacking}))
    return counted_rows(
        counted.matrix,
        counted.vocabulary.words,
        _target(texts),
        lacking,
        classes=texts.classes,
        groups=texts.examples["group"].to_pylist(),
        seed=study.probe.seed,
    )


def _folds_of(study: Study, texts: Texts) -> str:
    """Descriptions are dealt into the image model's folds, so that words and pixels are compared row by row."""
    if texts.name == TEXT or len(training.chosen_folds(study.train_image)) < 2:
        return "own"
    return digest(train_image.config(study, gather_photos(study, step="probe")))


def _folds(study: Study, texts: Texts) -> np.ndarray | None:
    if _folds_of(study, texts) == "own":
        return None
    photos = gather_photos(study, step="probe")
    held_out = training.read_table(train_image.folder(study, photos), "predictions")
    place = pc.index_in(texts.examples["row"], value_set=held_out["row"].combine_chunks())
    return held_out["fold"].take(place).to_numpy()


def _predictions(texts: Texts, found: Probe) -> pa.Table:
    """schema.PREDICTIONS of every text, by the probe that did not see it."""
    count, width = found.outputs.shape
    columns = [
        texts.examples["row"],
        texts.examples[schema.ID],
        pa.array(found.folds),
        pa.array(_target(texts)),
        pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * width), found.outputs.ravel()),
    ]
    return pa.table(columns, schema=schema.PREDICTIONS)


def _write(where: str, found: Probe, words_table: pa.Table, predictions: pa.Table) -> None:
    tables = {"words": words_table, "examples": found.examples, "scores": found.scores, "predictions": predictions}
    for name, table in tables.items():
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        storage.write_whole(urls.join(where, f"{name}.parquet"), buffer.getvalue())
    storage.write_json(urls.join(where, "verdict.json"), asdict(found.verdict))
    done = {"rows": len(predictions), "penalty": found.penalty, "words": len(found.table)}
    storage.write_json(urls.join(where, "_done.json"), done)


def _write_why_not(where: str, why_not: str, texts: int) -> None:
    storage.write_json(urls.join(where, "_done.json"), {"rows": texts, "words": 0, "why_not": why_not})


def read(study: Study, texts: Texts) -> Found | None:
    """None where these texts could feed no probe. Raises Fatal where it is not complete."""
    where = folder(study, texts)
    done = storage.read_json(urls.join(where, "_done.json"))
    if done is None:
        raise Fatal(f"the probe in {where} is not complete: run probe first")
    if "why_not" in done:
        return None
    return Found(
        kind=texts.name,
        table=training.read_table(where, "words"),
        examples=training.read_table(where, "examples"),
        scores=training.read_table(where, "scores"),
        verdict=training.read_verdict(where),
        texts=done["rows"],
    )


def _told(found: Found | None, kind: str) -> str:
    if found is None:
        return f"words of {kind}: left out"
    ranked, weighted = (len(found.table) - found.table[name].null_count for name in ("rank", "weight"))
    return f"words of {kind}: {ranked:,} of {weighted:,} chosen again, {training.summary(found.verdict)}"
