"""What the report shows of a probe: its table, and the texts and pictures of the examples."""

from collections.abc import Callable
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.report.results import FindSentence, ProbeResults
from seewhy.report.verdict import Verdict
from seewhy.sections import VisionModel
from seewhy.steps import probe, words
from seewhy.steps.joins import first_rows
from seewhy.steps.words import INSTEAD, TEXT, Texts
from seewhy.study import Study
from seewhy.table import read_rows
from seewhy.words.answers import place_of_line
from seewhy.words.probe_table import SCORE
from seewhy.words.tokens import load_tokenizer, sentence_with

ReadImages = Callable[[list[str]], dict[str, bytes]]


def probe_results(study: Study, texts: Texts, read_images: ReadImages | None = None) -> ProbeResults | None:
    """None where these texts could feed no probe. Raises Fatal where it is not complete."""
    found = probe.read(study, texts)
    if found is None:
        return None
    chosen = pc.unique(found.examples["id"])
    scored = pc.equal(found.table["feature"], SCORE)
    joined = found.verdict.model in (probe.SCORES, probe.WORDS_AND_SCORES)
    return ProbeResults(
        table=found.table.filter(pc.invert(scored)),
        concepts=found.table.filter(scored) if pc.any(scored).as_py() or joined else None,
        model=found.verdict.model,
        scores=found.scores,
        counted=found.texts,
        texts=texts_of(texts, chosen),
        examples=_examples(found.examples),
        targets=_targets(texts, chosen),
        subsamples=study.probe.subsamples,
        verdict=Verdict(**asdict(found.verdict)),
        text_lang=study.report.text_lang or language_of(study, texts),
        find_sentence=_finder(study, texts),
        read_images=read_images,
        described=texts.name != TEXT or study.manifest.text is None,
        answers=(study.probe.answers or "") if texts.name == TEXT else "",
        losses=texts.losses,
        notes=_notes(study) if texts.name == TEXT else [],
    )


def _notes(study: Study) -> list[str]:
    wrote: list[VisionModel] = [study.caption] if study.has_captions and study.probe.answers != INSTEAD else []
    if study.ask is not None and study.probe.answers is not None:
        wrote.append(study.ask)
    return list(dict.fromkeys(note for one in wrote for note in model_notes(one)))


def model_notes(asked: VisionModel) -> list[str]:
    """What is to be known of the model that wrote the texts."""
    if asked.backend != "tiny":
        return []
    return [
        "The texts are by the packaged tiny model, which knows the drawings of seewhy’s demo and nothing else: what it "
        "says of other images is not to be believed."
    ]


def _examples(table: pa.Table) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
    """(output, word) -> ids of hits, ids of misses."""
    found: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for row in table.to_pylist():
        hits, misses = found.setdefault((row["output"], row["word"]), ([], []))
        (hits if row["hit"] else misses).append(row["id"])
    return found


def texts_of(texts: Texts, ids: pa.Array) -> pa.Table:
    """id, text of a few of the texts; answers stand below it, a line each."""
    keys = texts.source.keys
    keys = keys.filter(pc.is_in(keys[schema.ID], value_set=ids))
    if texts.source.stored:
        stored = texts.source.stored[0]
        pieces = [piece["text"] for piece in read_rows(stored.parts, keys, ["text"])]
        values = [value for piece in pieces for value in piece.to_pylist()]
    else:
        values = keys["text"].to_pylist()
    if "answers" in keys.column_names:
        lines = keys["answers"].to_pylist()
        values = ["\n".join([*([text] if text else []), *told]) for text, told in zip(values, lines, strict=True)]
    return pa.table({schema.ID: keys[schema.ID], "text": pa.array(values, pa.string())})


def _targets(texts: Texts, ids: pa.Array) -> pa.Table:
    """id, target as in schema.PREDICTIONS; of rows that share a text the first counts."""
    rows = texts.examples.filter(pc.is_in(texts.examples[schema.ID], value_set=ids))
    numbers = rows["target"]
    if texts.classes:
        numbers = pc.index_in(numbers, value_set=pa.array(texts.classes, pa.string()))
    table = pa.table({schema.ID: rows[schema.ID], "target": pc.cast(numbers, pa.float64())})
    return first_rows(table, schema.ID)


def language_of(study: Study, texts: Texts) -> str:
    name, _ = words.tokenizer_of(study, texts)
    return {"janome": "ja", "sudachi": "ja", "english": "en"}.get(name, "")


def _finder(study: Study, texts: Texts) -> FindSentence:
    name, options = words.tokenizer_of(study, texts)
    tokenizer = load_tokenizer(name, **options)

    def find(word: str, text: str) -> tuple[int, int] | None:
        if texts.name == TEXT and study.probe.answers is not None and (found := place_of_line(word, text)):
            return found
        return sentence_with(word, text, tokenizer)

    return find
