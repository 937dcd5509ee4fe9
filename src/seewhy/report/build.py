"""`build_report`: a study's results in, one folder of static HTML out.

The folder needs no network and no server; only search, sort and paging need JavaScript. Nothing in it is larger for a
study of ten million images than for one of a few thousand: pages are sampled, thumbnails are made for them alone.
"""

import json
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from seewhy.report import choose
from seewhy.report.folder import MARKER, check_replaceable, replaced_folder
from seewhy.report.items import load_items, word_limit
from seewhy.report.pages import Pages, Study
from seewhy.report.safe import file_name, language_tag
from seewhy.report.verdict import Verdict

ReadImages = Callable[[list[str]], dict[str, bytes]]

TASKS = ("regression", "classification")
_IMAGES_AT_ONCE = 64
_PICTURED = 24  # words with pictures on the overview, over all classes


def plain_word(text: str) -> str:
    """A word as `seewhy.words.corpus` names it: lower case, NFC; empty where it has no letter or digit."""
    return unicodedata.normalize("NFC", text.lower()) if any(letter.isalnum() for letter in text) else ""


def build_report(
    out: str,
    *,
    title: str,
    question: str,
    target_name: str,
    task: str,
    losses: Sequence[tuple[str, int, str]],
    scores: pa.Table,
    verdict: Verdict | None,
    words: pa.Table,
    predictions: pa.Table,
    texts: pa.Table,
    explanations: pa.Table | Iterable[pa.Table],
    rows: pa.Table,
    configs: Mapping[str, Any],
    classes: Sequence[str] = (),
    read_images: ReadImages | None = None,
    described: bool = True,
    max_evals: int | None = None,
    notes: Sequence[str] = (),
    unit: str = "",
    title_column: str = "",
    text_lang: str = "",
    word_key: Callable[[str], str] = plain_word,
    min_items: int = 10,
    top_words: int = 15,
    per_end: int = 3,
    max_pages: int = 2000,
    thumbnail_px: int = 400,
    thumbnail_quality: int = 80,
    seed: int = 0,
) -> str:
    """Writes the report and returns the path of its first page.

    Args:
        out: local folder; made anew, or put in the place of an earlier report.
        question: what was asked, in words; the overview's first paragraph.
        task: "regression" or "classification".
        losses: (label, count, note) from manifest rows to rows explained. A count of zero or more says how many rows
            are left at that point, a negative one how many were lost on the way to the next, and the note why.
        scores: schema.SCORES. predictions: schema.PREDICTIONS. words: schema.WORDS, whose `output` is a class, or
            `target_name`. explanations: schema.EXPLANATIONS, read once.
        verdict: the model beside its best baseline; None where that was not measured.
        texts: (id, text). rows: (row, id, source, target, and columns that ride along).
        configs: shown as provenance: models, revisions, prompts, seeds, code version.
        classes: in the order of the outputs; classification only.
        read_images: item ids to encoded bytes, as many as there are; None for a study of texts.
        described: the texts are a model's captions of the images; False: they came with the data.
        max_evals: masked texts that a text could be read as; said where a text reached it.
        notes: sentences under the losses, about rows that are not lost.
        unit: of the word values; the target's name (or "probability") if empty.
        title_column: ride-along column that names an item; the start of its text if empty.
        text_lang: language tag of the texts ("ja", "en"), so that browsers pick the right glyphs.
        word_key: turns a word as written in a text into `words`' spelling.
        min_items: words held by fewer items are not put forward.
        max_pages: most item pages, thumbnails and lines of the index.

    Raises:
        ValueError: an argument out of its range, or `out` holds files that are no report.
    """
    _check(task=task, classes=classes, max_pages=max_pages, per_end=per_end, top_words=top_words)
    folder = Path(out).absolute()
    check_replaceable(folder)
    study = Study(
        title=title,
        question=question,
        target_name=target_name,
        classes=list(classes),
        unit=unit or (target_name if task == "regression" else "probability"),
        text_lang=language_tag(text_lang),
        with_images=read_images is not None,
        described=described,
        word_key=word_key,
        min_items=min_items,
        seed=seed,
    )
    picked = _pick(
        study,
        words=words,
        predictions=predictions,
        explanations=[explanations] if isinstance(explanations, pa.Table) else explanations,
        top_words=top_words,
        per_end=per_end,
        max_pages=max_pages,
    )
    items = load_items(
        picked.ids,
        task=task,
        texts=texts,
        rows=rows,
        predictions=predictions,
        explanations=picked.found.kept,
        title_column=title_column,
    )
    up = -1 if task == "regression" else 1  # the index's own order: highest target first, or class by class
    items.sort(key=lambda i: (i.target is None, up * (i.target or 0.0), -max(i.outputs or [0.0]), i.id))
    with replaced_folder(folder) as fresh:
        shutil.copytree(Path(__file__).parent / "assets", fresh / "assets")
        images = _write_thumbnails(fresh / "thumbs", picked.ids, read_images, thumbnail_px, thumbnail_quality)
        pages = Pages(
            study,
            items,
            total=picked.total,
            explained=picked.found.explained,
            residual=picked.found.residual,
            partial=max_evals is not None and picked.found.evaluations >= max_evals,
            images=images,
            limit=word_limit(items),
            folder=fresh,
        )
        pages.write_items()
        pages.write_index()
        sections = pages.sections(picked.chosen, picked.found.ends, picked.pictured)
        pages.write_overview(sections, losses=losses, scores=scores, verdict=verdict, configs=configs, notes=notes)
        about = {"seewhy_report": 1, "items": picked.total, "explained": picked.found.explained, "pages": len(items)}
        (fresh / MARKER).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return str(folder / "index.html")


@dataclass(frozen=True)
class _Picked:
    chosen: list[choose.Chosen]  # by output
    pictured: int  # words on either side of an output that get pictures
    found: choose.Scan
    ids: list[str]  # items that get a page
    total: int  # items in all


def _pick(
    study: Study,
    *,
    words: pa.Table,
    predictions: pa.Table,
    explanations: Iterable[pa.Table],
    top_words: int,
    per_end: int,
    max_pages: int,
) -> _Picked:
    """The words and items that the report shows; the only pass over the explanations."""
    outputs = study.outputs
    chosen = [choose.choose_words(words, output=o, top=top_words, min_items=study.min_items) for o in outputs]
    pictured = max(1, min(top_words, _PICTURED // (2 * len(outputs))))
    shown = [(r.word, k) for k, c in enumerate(chosen) for r in (*c.up[:pictured], *c.down[:pictured])]
    extremes = choose.extreme_ids(predictions, classes=bool(study.classes), most=max(1, max_pages // 40))
    found = choose.scan(
        explanations,
        words=shown,
        wanted=extremes,
        sample=max_pages,
        per_end=per_end,
        outputs=len(outputs),
        seed=study.seed,
        word_key=study.word_key,
    )
    at_ends = [i for pair in shown for _, i in (*found.ends[pair].high, *found.ends[pair].low)]
    unique = predictions["id"].unique()
    others: list[str] = []
    if found.explained < max_pages:
        others = sorted(unique.to_pylist(), key=lambda i: (choose.seeded_rank(i, study.seed), i))[: 2 * max_pages]
    ids = choose.choose_pages(
        must=list(dict.fromkeys([*at_ends, *extremes])), sampled=found.sampled, others=others, max_pages=max_pages
    )
    return _Picked(chosen, pictured, found, ids, max(len(unique), found.explained))


def _check(*, task: str, classes: Sequence[str], max_pages: int, per_end: int, top_words: int) -> None:
    if task not in TASKS:
        raise ValueError(f"task {task!r} is not one of {TASKS}")
    if (task == "classification") != (len(classes) > 0):
        raise ValueError(f"task {task!r} was given {len(classes)} classes; classification needs them, regression none")
    for name, value in (("max_pages", max_pages), ("per_end", per_end), ("top_words", top_words)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")


def _write_thumbnails(
    folder: Path, ids: list[str], read_images: ReadImages | None, size_px: int, quality: int
) -> set[str]:
    """One JPEG for each item whose bytes are there and can be read; returns those items' ids."""
    if read_images is None:
        return set()
    from seewhy.images import BadImage, thumbnail

    folder.mkdir()
    made = set()
    for start in range(0, len(ids), _IMAGES_AT_ONCE):
        asked = ids[start : start + _IMAGES_AT_ONCE]
        for item_id, data in read_images(asked).items():
            try:
                jpeg = thumbnail(data, size_px=size_px, quality=quality)
            except BadImage:
                continue  # the page says that there is no picture
            (folder / f"{file_name(item_id)}.jpg").write_bytes(jpeg)
            made.add(item_id)
    return made
