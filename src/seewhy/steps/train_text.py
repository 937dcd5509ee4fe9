"""train_text: texts and targets -> a model a fold, held-out predictions, and scores beside baselines."""

from functools import lru_cache
from typing import Any

from seewhy import urls
from seewhy.progress import Reporter
from seewhy.steps import caption, fetch, training
from seewhy.steps.items import Items, gather
from seewhy.steps.plan import Plan
from seewhy.steps.rows import manifest_rows, tell
from seewhy.study import Study
from seewhy.table import digest
from seewhy.train.loop import OnEpoch
from seewhy.train.text import TextTraining, train_text
from seewhy.train.text_model import Encoder, find_encoder

VERSION = 1
"""Goes up with every change of the training code that changes its results."""


def folder(study: Study, items: Items) -> str:
    """Named by the hash of the data, the encoder and the settings."""
    return urls.join(study.workspace, "train_text", digest(config(study, items))[:12])


def config(study: Study, items: Items) -> dict[str, Any]:
    asked = study.train_text
    encoder = _encoder(asked.encoder, asked.revision)
    return {
        "stage": "train_text",
        "stage_code": VERSION,
        **asked.model_dump(exclude=training.SAME_RESULT),
        "encoder": training.local_name(asked.encoder),
        "revision": encoder.revision,
        "encoder_identity": encoder.identity,
        "data": items.identity,
        "rows": len(items.examples),
        "task": items.task,
        "classes": list(items.classes),
    }


@lru_cache(maxsize=8)
def _encoder(name: str, revision: str | None) -> Encoder:
    return find_encoder(name, revision=revision)


def plan(study: Study) -> Plan:
    rows = len(manifest_rows(study).table)
    if study.manifest.text is None:
        waits = [p for p in (fetch.plan(study), caption.plan(study)) if p.new]
        if waits:
            return Plan("train_text", "", rows, None, f"waits for {waits[0].step}, which has {waits[0].new:,} new rows")
    items = gather(study, step="train_text")
    return training.plan_training("train_text", folder(study, items), len(items.examples))


def run(study: Study, reporter: Reporter) -> None:
    if study.manifest.media is None:
        tell(study, reporter)
    items = gather(study, step="train_text")
    where = folder(study, items)
    if training.is_done(where):
        reporter.say(f"train_text: nothing to do, {training.summary(training.read_verdict(where))}")
        return
    settings = config(study, items)

    def train(on_epoch: OnEpoch) -> TextTraining:
        return _train(study, items, where, settings, on_epoch)

    fitted = training.run_training("train_text", reporter, study.train_text, where, settings, train)
    training.write(where, fitted, settings["encoder"], facts={"truncated": fitted.truncated})
    if fitted.truncated:
        reporter.say(f"train_text: {fitted.truncated:,} texts were cut to the longest that the encoder reads")


def _train(study: Study, items: Items, where: str, settings: dict[str, Any], on_epoch: OnEpoch) -> TextTraining:
    asked = study.train_text
    return train_text(
        items.examples,
        kind=items.task,
        classes=items.classes,
        out=urls.join(where, "folds"),
        encoder=asked.encoder,
        revision=settings["revision"],
        pooling=asked.pooling,
        max_length=asked.max_length,
        **training.arguments(asked, where, settings),
        on_epoch=on_epoch,
    )
