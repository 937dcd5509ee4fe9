"""A study as a whole: all its steps in order, what each would do, and what its workspace holds."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from seewhy import schema, steps, storage, urls
from seewhy.failure import Fatal
from seewhy.lease import Lease, hold
from seewhy.progress import Reporter
from seewhy.run import Source
from seewhy.steps import (
    ask,
    caption,
    describe,
    explain_images,
    explain_words,
    fetch,
    probe,
    score,
    train_image,
    train_text,
    training,
    words,
)
from seewhy.steps.items import gather
from seewhy.steps.once import forget
from seewhy.steps.pace import check_prices
from seewhy.steps.photos import gather_photos
from seewhy.steps.plan import Plan
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import Table


def run_study(study: Study, reporter: Reporter, *, until: str | None = None, only: str | None = None) -> None:
    """Runs the steps that the study needs, in order; what is done already is told in a line and costs seconds.

    Raises:
        Fatal: what cannot be run, before anything is written; another run holds the workspace, or nothing can be
            written there, before anything is paid for; and what the steps raise.
    """
    forget()
    names = steps.wanted(study)
    for name in (until, only):
        if name is not None and name not in names:
            raise Fatal(f"this study has no stage {name!r}; its stages are {', '.join(names)}")
    if until is not None and only is not None:
        raise Fatal(f"give --until {until} or --only {only}, not both")
    if only is not None:
        names = [only]
    elif until is not None:
        names = names[: names.index(until) + 1]
    check_prices(study, names)  # now, and not when fetch has run for hours
    manifest_rows(study)
    with holding(study, reporter) as lease:
        for name in names:
            lease.at(name)
            steps.RUN[name](study, reporter)


@contextmanager
def holding(study: Study, reporter: Reporter) -> Iterator[Lease]:
    """The study's workspace for this run alone, as long as this lasts; see `lease`. For all that writes its tables."""
    with hold(study.workspace, study=study.title, say=reporter.say) as lease, reporter.checking(lease.check):
        yield lease


def plans(study: Study) -> list[Plan]:
    forget()
    names = steps.wanted(study)
    check_prices(study, names)
    return [steps.PLAN[name](study) for name in names]


_SCHEMAS = {
    "fetch": schema.row_stage(),  # of images or of videos: only what all tables have is read
    "caption": schema.CAPTIONS,
    "explain_words": schema.EXPLANATIONS,
    "explain_images": schema.MAPS,
    "check_maps": schema.FAITHFULNESS,
    "describe": schema.CAPTIONS,
    "score": schema.SCORED,
    "ask": schema.row_stage(),  # the other columns are the study's own
    "words": schema.TOKENS,
}


def tables(study: Study) -> Iterator[dict[str, Any]]:
    """One record a table of the workspace: those of this study's configuration, and older ones beside them.

    A current table counts the rows that this study asks for, any other all that it holds.
    """
    forget()
    current = _current(study)
    for name, columns in _SCHEMAS.items():
        folder = urls.join(study.workspace, name)
        for one in storage.list_folders(folder):
            table = Table(urls.join(folder, one), columns)
            source = current.get(table.url)
            counts = table.counts(source.keys[schema.ID] if source else None)
            yield {
                "table": f"{name}/{one}",
                "current": table.url in current,
                "counts": {"rows in": counts.rows_in, "ok": counts.ok, **counts.failed},
                "reasons": counts.reasons,
                "complete": counts.missing == 0 if source else table.done_mark() is not None,
                "size_bytes": table.size_bytes(),
                "config": table.config() or {},
            }
    for step in ("train_text", "train_image", "probe"):
        yield from training.results(study, step, current)


def _current(study: Study) -> dict[str, Source | None]:
    """Folder -> the rows asked of it, as far as the steps before have come; None for a training or a probe."""
    found: dict[str, Source | None] = {}
    for look in (_current_images, _current_texts, _current_photos, _current_words):
        with suppress(Fatal, FileNotFoundError):  # a step before has not run to its end
            for url, source in look(study):
                found[url] = source
    return found


_Current = Iterator[tuple[str, Source | None]]


def _current_images(study: Study) -> _Current:
    names = steps.wanted(study)
    if "fetch" in names:
        yield fetch.table(study).url, fetch.source(study)
    if "caption" in names:
        yield caption.table(study).url, caption.source(study)
    if "score" in names:
        yield score.table(study).url, score.source(study)
    if "ask" in names:
        yield ask.table(study).url, ask.source(study)


def _current_texts(study: Study) -> _Current:
    if study.has_text_path:
        items = gather(study, step="status")
        yield train_text.folder(study, items), None
        yield explain_words.table(study, items).url, explain_words.source(study, items)


def _current_photos(study: Study) -> _Current:
    if study.has_image_path:
        photos = gather_photos(study, step="status")
        yield train_image.folder(study, photos), None
        yield explain_images.table(study, photos).url, explain_images.source(study, photos)
        yield explain_images.checks(study, photos).url, explain_images.check_source(study, photos)
        for control in describe.controls(study):
            yield describe.table(study, photos, control).url, describe.source(study, photos, control)


def _current_words(study: Study) -> _Current:
    for kind in words.kinds(study):
        texts = words.gather_texts(study, kind, step="status")
        yield words.table(study, texts).url, texts.source
        yield probe.folder(study, texts), None
