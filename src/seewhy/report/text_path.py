"""The pages of the text path: the words that move a text model's prediction, an index, and a page an item."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from seewhy.report import choose
from seewhy.report.claims import leading_metric, permuted, words_predict
from seewhy.report.concepts import concept_section
from seewhy.report.items import load_items, word_limit
from seewhy.report.pages import Pages, Study
from seewhy.report.pictures import write_thumbnails
from seewhy.report.results import About, Extent, ProbeResults, TextResults
from seewhy.report.safe import language_tag
from seewhy.report.section import Nouns, WordsSection, words_section
from seewhy.report.site import Site

_PICTURED = 24  # words with pictures on the overview, over all classes


def write_texts(site: Site, text: TextResults, probe: ProbeResults | None, extent: Extent) -> dict[str, int]:
    """Writes index.html, items.html and the items' pages; counts items: all, those explained, those with a page."""
    study = study_of(site.about, text, extent)
    picked = _pick(study, text, extent)
    items = load_items(
        picked.ids,
        task=site.about.task,
        texts=text.texts,
        rows=text.rows,
        predictions=text.predictions,
        explanations=picked.found.kept,
        title_column=text.title_column,
    )
    up = -1 if site.about.task == "regression" else 1  # the index's own order: highest target first, or class by class
    items.sort(key=lambda i: (i.target is None, up * (i.target or 0.0), -max(i.outputs or [0.0]), i.id))
    images: set[str] = set()
    if text.read_images is not None:
        size_px, quality = extent.thumbnail_px, extent.thumbnail_quality
        thumbs = site.folder / "thumbs"
        images = set(write_thumbnails(thumbs, picked.ids, text.read_images, size_px=size_px, quality=quality))
    pages = Pages(
        study,
        items,
        total=picked.total,
        explained=picked.found.explained,
        residual=picked.found.residual,
        partial=text.max_evals is not None and picked.found.evaluations >= text.max_evals,
        images=images,
        limit=word_limit(items),
        site=site,
    )
    pages.write_items()
    pages.write_index()
    pages.write_overview(
        pages.sections(picked.chosen, picked.found.ends, picked.pictured),
        losses=text.losses,
        scores=_scores(text, probe),
        verdict=text.verdict,
        notes=text.notes,
        section=_section(site, text, probe, extent, study, pages)
        if probe is not None and probe.words_counted
        else None,
        concepts=None if probe is None else concept_section(probe, site.about, findings=_predicts(site.about, probe)),
    )
    return {"items": picked.total, "explained": picked.found.explained, "pages": len(items)}


def study_of(about: About, text: TextResults, extent: Extent) -> Study:
    return Study(
        target_name=about.target_name,
        classes=list(about.classes),
        unit=text.unit or (about.target_name if about.task == "regression" else "probability"),
        text_lang=language_tag(text.text_lang),
        with_images=text.read_images is not None,
        described=text.described,
        word_key=text.word_key,
        min_items=extent.min_items,
        seed=extent.seed,
        shown=about.thing,
    )


def _section(
    site: Site, text: TextResults, probe: ProbeResults, extent: Extent, study: Study, pages: Pages
) -> WordsSection:
    """The probe's words on the same texts; its pictures lead to the items' pages where those exist."""

    def href(item_id: str) -> str:
        item = pages.by_id.get(item_id)
        return f"items/{item.name}.html" if item else ""

    return words_section(
        site.folder,
        site.about,
        probe,
        extent,
        nouns=Nouns(study.thing, "text" if probe.answers else study.holder),
        findings=_predicts(site.about, probe),
        read_images=probe.read_images or text.read_images,
        predictions=text.predictions,
        href=href,
    )


def _predicts(about: About, probe: ProbeResults) -> bool:
    return words_predict(probe, leading_metric(about)) is True


def _scores(text: TextResults, probe: ProbeResults | None) -> pa.Table:
    if probe is None:
        return text.scores
    rows = [r for r in probe.scores.to_pylist() if r["model"] in (probe.model, permuted(probe))]
    return pa.Table.from_pylist([*text.scores.to_pylist(), *rows], text.scores.schema)


@dataclass(frozen=True)
class _Picked:
    chosen: list[choose.Chosen]  # by output
    pictured: int  # words on either side of an output that get pictures
    found: choose.Scan
    ids: list[str]  # items that get a page
    total: int  # items in all


def _pick(study: Study, text: TextResults, extent: Extent) -> _Picked:
    """The words and items that the report shows; the only pass over the explanations."""
    outputs, max_pages = study.outputs, extent.max_pages
    explanations: Iterable[pa.Table] = text.explanations
    if isinstance(text.explanations, pa.Table):
        explanations = [text.explanations]
    chosen = [
        choose.choose_words(text.words, output=o, top=extent.top_words, min_items=study.min_items) for o in outputs
    ]
    pictured = max(1, min(extent.top_words, _PICTURED // (2 * len(outputs))))
    shown = [(r.word, k) for k, c in enumerate(chosen) for r in (*c.up[:pictured], *c.down[:pictured])]
    extremes = choose.extreme_ids(text.predictions, classes=bool(study.classes), most=max(1, max_pages // 40))
    found = choose.scan(
        explanations,
        words=shown,
        wanted=extremes,
        sample=max_pages,
        per_end=extent.per_end,
        outputs=len(outputs),
        seed=study.seed,
        word_key=study.word_key,
    )
    at_ends = [i for pair in shown for _, i in (*found.ends[pair].high, *found.ends[pair].low)]
    unique = text.predictions["id"].unique()
    others: list[str] = []
    if found.explained < max_pages:
        others = sorted(unique.to_pylist(), key=lambda i: (choose.seeded_rank(i, study.seed), i))[: 2 * max_pages]
    ids = choose.choose_pages(
        must=list(dict.fromkeys([*at_ends, *extremes])), sampled=found.sampled, others=others, max_pages=max_pages
    )
    return _Picked(chosen, pictured, found, ids, max(len(unique), found.explained))
