"""train_image: images and targets -> a model a fold, held-out predictions, and scores beside baselines."""

from functools import lru_cache
from typing import Any

from seewhy import urls
from seewhy.progress import Reporter
from seewhy.steps import fetch, training
from seewhy.steps.photos import Photos, gather_photos
from seewhy.steps.plan import Plan
from seewhy.steps.rows import manifest_rows
from seewhy.study import Study
from seewhy.table import digest
from seewhy.train.image import ImageTraining, train_image
from seewhy.train.image_model import ImageBackbone, find_image_model
from seewhy.train.loop import OnEpoch

VERSION = 1
"""Goes up with every change of the training code that changes its results."""


def folder(study: Study, photos: Photos) -> str:
    """Named by the hash of the data, the model and the settings."""
    return urls.join(study.workspace, "train_image", digest(config(study, photos))[:12])


def config(study: Study, photos: Photos) -> dict[str, Any]:
    asked = study.train_image
    backbone = _backbone(asked.model, asked.revision, asked.height, asked.width)
    return {
        "stage": "train_image",
        "stage_code": VERSION,
        **asked.model_dump(exclude=training.SAME_RESULT),
        "model": training.local_name(asked.model),
        "revision": backbone.revision,
        "model_identity": backbone.identity,
        "data": photos.identity,
        "rows": len(photos.examples),
        "task": photos.task,
        "classes": list(photos.classes),
    }


@lru_cache(maxsize=8)
def _backbone(name: str, revision: str | None, height: int | None, width: int | None) -> ImageBackbone:
    return find_image_model(name, revision=revision, height=height, width=width)


def plan(study: Study) -> Plan:
    rows = len(manifest_rows(study).table)
    before = fetch.plan(study)
    if before.new:
        return Plan("train_image", "", rows, None, f"waits for fetch, which has {before.new:,} new rows")
    photos = gather_photos(study, step="train_image")
    return training.plan_training("train_image", folder(study, photos), len(photos.examples))


def run(study: Study, reporter: Reporter) -> None:
    photos = gather_photos(study, step="train_image")
    where = folder(study, photos)
    if training.is_done(where):
        reporter.say(f"train_image: nothing to do, {training.summary(training.read_verdict(where))}")
        return
    settings = config(study, photos)

    def train(on_epoch: OnEpoch) -> ImageTraining:
        return _train(study, photos, where, settings, on_epoch)

    fitted = training.run_training("train_image", reporter, study.train_image, where, settings, train)
    tables = {"confusion": fitted.confusion, "calibration": fitted.calibration} if photos.classes else {}
    training.write(where, fitted, settings["model"], tables=tables)


def _train(study: Study, photos: Photos, where: str, settings: dict[str, Any], on_epoch: OnEpoch) -> ImageTraining:
    asked = study.train_image
    return train_image(
        photos.examples,
        parts=photos.parts,
        kind=photos.task,
        classes=photos.classes,
        out=urls.join(where, "folds"),
        model=asked.model,
        revision=settings["revision"],
        scratch=asked.scratch,
        height=asked.height,
        width=asked.width,
        augment=asked.augment,
        **training.arguments(asked, where, settings),
        on_epoch=on_epoch,
    )
