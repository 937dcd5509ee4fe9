"""What the trainings of texts and of images have in common: where the result lies, its files, and reading them back."""

import io
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from seewhy import schema, storage, urls
from seewhy.failure import Fatal
from seewhy.progress import Reporter, format_seconds
from seewhy.ray_cluster import check_room, connect
from seewhy.sections import Training
from seewhy.steps.joins import first_rows
from seewhy.steps.plan import Plan
from seewhy.study import Study
from seewhy.table import read_part
from seewhy.train.crossfit import Crossfit
from seewhy.train.loop import OnEpoch
from seewhy.train.scores import Verdict
from seewhy.train.tracking import Tracking

T = TypeVar("T", bound=Crossfit)

SAME_RESULT = {"launcher", "cpus_per_worker", "gpus_per_worker", "max_failures", "tracking", "project"}
"""Settings that change how a result comes, never what it is."""


def local_name(model: str) -> str:
    """A local folder goes by its own name: its content names it, not where it lies."""
    return os.path.basename(model.rstrip("/")) if os.path.isdir(model) else model


def is_done(where: str) -> bool:
    return storage.read_json(urls.join(where, "_done.json")) is not None


def plan_training(step: str, where: str, rows: int) -> Plan:
    return Plan(step, where, rows, 0 if is_done(where) else rows)


def run_training(
    step: str, reporter: Reporter, asked: Training, where: str, config: Mapping[str, Any], train: Callable[[OnEpoch], T]
) -> T:
    """Calls `train` with whom to tell of each epoch, on the cluster there is or one of its own.

    Raises:
        Fatal: no node has room for a worker, or `train` was given what it cannot work with.
    """
    storage.write_json(urls.join(where, "_config.json"), config)
    if asked.launcher != "here":
        connect()
        check_room(num_cpus=asked.cpus_per_worker or 0, num_gpus=asked.gpus_per_worker or 0)
    with reporter.stage(step, len(chosen_folds(asked)) * asked.epochs, "epochs") as progress:
        try:
            fitted = train(lambda *_: progress({"ok": 1}))
        except ValueError as error:
            raise Fatal(f"{step}: {error}") from error
    reporter.say(f"{step}: done in {format_seconds(progress.seconds())}, {summary(fitted.verdict)}")
    return fitted


def chosen_folds(asked: Training) -> list[int]:
    return list(range(asked.folds)) if asked.train_folds is None else list(asked.train_folds)


def summary(verdict: Verdict) -> str:
    """``rmse better than ridge_words by 0.21 [0.15, 0.28]``."""
    word = "better" if verdict.value > 0 else "worse"
    return (
        f"{verdict.metric} {word} than the best baseline ({verdict.baseline}) by {abs(verdict.value):.3f}, "
        f"95% interval of the gain [{verdict.low:.3f}, {verdict.high:.3f}]"
    )


def _tracking(asked: Training, where: str, config: dict[str, Any]) -> Tracking | None:
    if asked.tracking == "none":
        return None
    group = where.rsplit("/", 1)[1]
    mode = os.environ.get("WANDB_MODE")  # workers do not see what was set after the cluster started
    return Tracking(asked.tracking, project=asked.project, group=group, mode=mode, config=config)


def arguments(asked: Training, where: str, config: dict[str, Any]) -> dict[str, Any]:
    """What `train_text` and `train_image` take alike."""
    return {
        "folds": asked.folds,
        "chosen_folds": chosen_folds(asked),
        "seed": asked.seed,
        "epochs": asked.epochs,
        "batch_size": asked.batch_size,
        "learning_rate": asked.learning_rate,
        "weight_decay": asked.weight_decay,
        "warmup_fraction": asked.warmup_fraction,
        "clip_norm": asked.max_grad_norm,
        "keep": asked.keep,
        "launcher": asked.launcher,
        "workers": asked.workers_per_fold,
        "cpus_per_worker": asked.cpus_per_worker,
        "gpus_per_worker": asked.gpus_per_worker,
        "max_failures": asked.max_failures,
        "tracking": _tracking(asked, where, config),
    }


def write(
    where: str,
    fitted: Crossfit,
    model: str,
    *,
    tables: Mapping[str, pa.Table] = MappingProxyType({}),
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """The result's files, the mark that makes them count last. `model` is what they call the one that was trained."""
    verdict = fitted.verdict
    files = {"predictions": fitted.predictions, "scores": fitted.scores, "history": fitted.history, **tables}
    for name, table in files.items():
        if "model" in table.column_names:
            names = [model if one == verdict.model else one for one in table["model"].to_pylist()]
            table = table.set_column(table.schema.get_field_index("model"), "model", pa.array(names, pa.string()))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        storage.write_whole(urls.join(where, f"{name}.parquet"), buffer.getvalue())
    storage.write_json(urls.join(where, "verdict.json"), {**asdict(verdict), "model": model})
    models = {str(fold): model.removeprefix(where).lstrip("/") for fold, model in fitted.models.items()}
    done = {"models": models, "rows": len(fitted.predictions), **facts}
    storage.write_json(urls.join(where, "_done.json"), done)


def read_table(where: str, name: str) -> pa.Table:
    """`predictions`, `scores` or `history` of a finished training."""
    return read_part(urls.join(where, f"{name}.parquet"), None, remedy=f"delete {where} and run again")


def read_verdict(where: str) -> Verdict:
    found = storage.read_json(urls.join(where, "verdict.json"))
    if found is None:
        raise _not_complete(where)
    return Verdict(**found)


def models(where: str) -> dict[int, str]:
    """Fold -> folder of its model. They are stored relative to the training's own, so that a workspace can be moved."""
    done = storage.read_json(urls.join(where, "_done.json"))
    if done is None:
        raise _not_complete(where)
    return {int(fold): urls.join(where, model) for fold, model in done["models"].items()}


def _not_complete(where: str) -> Fatal:
    return Fatal(f"the training in {where} is not complete: run {where.split('/')[-2]} first")


def results(study: Study, step: str, current: Collection[str]) -> Iterator[dict[str, Any]]:
    """A record for each training of the workspace, as `order.tables` yields them."""
    parent = urls.join(study.workspace, step)
    for one in storage.list_folders(parent):
        where = urls.join(parent, one)
        done = storage.read_json(urls.join(where, "_done.json"))
        settings = storage.read_json(urls.join(where, "_config.json")) or {}
        yield {
            "table": f"{step}/{one}",
            "current": where in current,
            "counts": {"rows in": settings.get("rows", 0), "predicted": done["rows"] if done else 0},
            "reasons": {},
            "complete": done is not None,
            "size_bytes": storage.tree_bytes(where),
            "config": settings,
        }


def fold_of_item(where: str) -> pa.Table:
    """id, fold, target of every item with a held-out prediction; rows that share an item share its fold, and the
    first of them gives the target."""
    return first_rows(read_table(where, "predictions").select([schema.ID, "fold", "target"]), schema.ID)
