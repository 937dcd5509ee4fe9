"""train_text: texts and targets -> a model a fold, held-out predictions, and scores beside baselines."""

import io
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seewhy import schema, storage
from seewhy.failure import Fatal
from seewhy.progress import Reporter, format_seconds
from seewhy.run import check_room, connect
from seewhy.steps import caption, fetch
from seewhy.steps.items import Items, gather
from seewhy.steps.plan import Plan
from seewhy.steps.rows import manifest_rows, tell
from seewhy.study import Study
from seewhy.table import digest
from seewhy.train.loop import OnEpoch
from seewhy.train.scores import Verdict
from seewhy.train.text import TextTraining, train_text
from seewhy.train.text_model import Encoder, find_encoder
from seewhy.train.tracking import Tracking

VERSION = 1
"""Goes up with every change of the training code that changes its results."""


def folder(study: Study, items: Items) -> str:
    """Named by the hash of the data, the encoder and the settings."""
    return storage.join(study.workspace, "train_text", digest(config(study, items))[:12])


def config(study: Study, items: Items) -> dict[str, Any]:
    asked = study.train_text
    same_result = {"launcher", "cpus_per_worker", "gpus_per_worker", "max_failures", "tracking", "project"}
    settings = asked.model_dump(exclude=same_result)
    encoder = _encoder(asked.encoder, asked.revision)
    if os.path.isdir(asked.encoder):
        settings["encoder"] = os.path.basename(asked.encoder.rstrip("/"))  # its content names it, not where it lies
    return {
        "stage": "train_text",
        "stage_code": VERSION,
        **settings,
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
    where = folder(study, items)
    done = storage.read_json(storage.join(where, "_done.json")) is not None
    return Plan("train_text", where, len(items.examples), 0 if done else len(items.examples))


def run(study: Study, reporter: Reporter) -> None:
    asked = study.train_text
    if study.manifest.image is None:
        tell(study, reporter)
    items = gather(study, step="train_text")
    where = folder(study, items)
    if storage.read_json(storage.join(where, "_done.json")) is not None:
        reporter.say(f"train_text: nothing to do, {summary(read_verdict(where))}")
        return
    settings = config(study, items)
    storage.write_json(storage.join(where, "_config.json"), settings)
    folds = list(range(asked.folds)) if asked.train_folds is None else asked.train_folds
    if asked.launcher != "here":
        connect()
        check_room(num_cpus=asked.cpus_per_worker or 0, num_gpus=asked.gpus_per_worker or 0)
    with reporter.stage("train_text", len(folds) * asked.epochs, "epochs") as progress:
        try:
            training = _train(study, items, where, settings, folds, lambda *_: progress({"ok": 1}))
        except ValueError as error:
            raise Fatal(f"train_text: {error}") from error
    _write(where, training, settings["encoder"])
    reporter.say(f"train_text: done in {format_seconds(progress.seconds())}, {summary(training.verdict)}")
    if training.truncated:
        reporter.say(f"train_text: {training.truncated:,} texts were cut to the longest that the encoder reads")


def _train(
    study: Study, items: Items, where: str, settings: dict[str, Any], folds: list[int], on_epoch: OnEpoch
) -> TextTraining:
    asked = study.train_text
    return train_text(
        items.examples,
        kind=items.task,
        classes=items.classes,
        out=storage.join(where, "folds"),
        encoder=asked.encoder,
        revision=settings["revision"],
        pooling=asked.pooling,
        max_length=asked.max_length,
        folds=asked.folds,
        chosen_folds=folds,
        seed=asked.seed,
        epochs=asked.epochs,
        batch_size=asked.batch_size,
        learning_rate=asked.learning_rate,
        weight_decay=asked.weight_decay,
        warmup_fraction=asked.warmup_fraction,
        clip_norm=asked.max_grad_norm,
        keep=asked.keep,
        launcher=asked.launcher,
        workers=asked.workers_per_fold,
        cpus_per_worker=asked.cpus_per_worker,
        gpus_per_worker=asked.gpus_per_worker,
        max_failures=asked.max_failures,
        tracking=_tracking(study, where, settings),
        on_epoch=on_epoch,
    )


def summary(verdict: Verdict) -> str:
    """``rmse better than ridge_words by 0.21 [0.15, 0.28]``."""
    word = "better" if verdict.value > 0 else "worse"
    return (
        f"{verdict.metric} {word} than the best baseline ({verdict.baseline}) by {abs(verdict.value):.3f}, "
        f"95% interval of the gain [{verdict.low:.3f}, {verdict.high:.3f}]"
    )


def _tracking(study: Study, where: str, settings: dict[str, Any]) -> Tracking | None:
    asked = study.train_text
    if asked.tracking == "none":
        return None
    group = where.rsplit("/", 1)[1]
    mode = os.environ.get("WANDB_MODE")  # workers do not see what was set after the cluster started
    return Tracking(asked.tracking, project=asked.project, group=group, mode=mode, config=settings)


def _write(where: str, training: TextTraining, model: str) -> None:
    """The result's files, the mark that makes them count last. `model` is what they call the one that was trained."""
    verdict, scores = training.verdict, training.scores
    names = [model if name == verdict.model else name for name in scores["model"].to_pylist()]
    scores = scores.set_column(scores.schema.get_field_index("model"), "model", pa.array(names, pa.string()))
    for name, table in (("predictions", training.predictions), ("scores", scores), ("history", training.history)):
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        storage.write_whole(storage.join(where, f"{name}.parquet"), buffer.getvalue())
    storage.write_json(storage.join(where, "verdict.json"), {**asdict(verdict), "model": model})
    models = {str(fold): model.removeprefix(where).lstrip("/") for fold, model in training.models.items()}
    done = {"models": models, "truncated": training.truncated, "rows": len(training.predictions)}
    storage.write_json(storage.join(where, "_done.json"), done)


def read_table(where: str, name: str) -> pa.Table:
    """`predictions`, `scores` or `history` of a finished training."""
    return pq.read_table(io.BytesIO(storage.read_whole(storage.join(where, f"{name}.parquet"))))


def read_verdict(where: str) -> Verdict:
    found = storage.read_json(storage.join(where, "verdict.json"))
    if found is None:
        raise Fatal(f"the training in {where} is not complete: run train_text first")
    return Verdict(**found)


def models(where: str) -> dict[int, str]:
    """Fold -> folder of its model. They are stored relative to the training's own, so that a workspace can be moved."""
    done = storage.read_json(storage.join(where, "_done.json"))
    if done is None:
        raise Fatal(f"the training in {where} is not complete: run train_text first")
    return {int(fold): storage.join(where, model) for fold, model in done["models"].items()}


def results(study: Study, current: Collection[str]) -> Iterator[dict[str, Any]]:
    """A record for each training of the workspace, as `order.tables` yields them."""
    parent = storage.join(study.workspace, "train_text")
    for one in storage.list_folders(parent):
        where = storage.join(parent, one)
        done = storage.read_json(storage.join(where, "_done.json"))
        settings = storage.read_json(storage.join(where, "_config.json")) or {}
        yield {
            "table": f"train_text/{one}",
            "current": where in current,
            "counts": {"rows in": settings.get("rows", 0), "predicted": done["rows"] if done else 0},
            "reasons": {},
            "complete": done is not None,
            "size_bytes": storage.tree_bytes(where),
            "config": settings,
        }


def fold_of_item(where: str) -> pa.Table:
    """id, fold of every item with a held-out prediction; rows that share an item share its fold."""
    found = read_table(where, "predictions").select([schema.ID, "fold"])
    return found.group_by(schema.ID, use_threads=False).aggregate([("fold", "min")]).rename_columns([schema.ID, "fold"])
