"""Fine-tunes a text encoder, one model a fold, and scores what each says of the rows that it did not see.

The model and its files stand in text_model.py, its batches and loss in text_task.py, the loop in fit.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from seewhy import schema
from seewhy.train import scores
from seewhy.train.baselines import Analyzer, baseline_outputs
from seewhy.train.fit import Recipe
from seewhy.train.folder import FoldResult
from seewhy.train.folds import grouped_folds
from seewhy.train.loop import OnEpoch, fit_folds
from seewhy.train.text_model import TextModel, find_encoder, load_text_model
from seewhy.train.text_task import TextFolds, tokenise
from seewhy.train.tracking import Tracking

__all__ = ["TextModel", "TextTraining", "load_text_model", "train_text"]

KINDS = ("regression", "classification")
HISTORY = pa.schema(
    [
        pa.field("fold", pa.int32()),
        pa.field("epoch", pa.int32()),  # from 1
        pa.field("metric", pa.string()),  # train_loss, learning_rate, seconds, and the validation scores
        pa.field("value", pa.float64()),
        pa.field("kept", pa.bool_()),  # the epoch whose model was kept
    ]
)


@dataclass(frozen=True)
class TextTraining:
    """Attributes:
    predictions: schema.PREDICTIONS, held-out outputs of every row of the chosen folds, in the order of the table.
    history: HISTORY.
    scores: schema.SCORES, the baselines and the model on the rows of `predictions`.
    verdict: the model against the best baseline, by rmse or macro_f1.
    models: fold -> URL of its model's folder, for load_text_model.
    classes: names of the outputs; empty for regression.
    truncated: texts that were cut to the maximal length.
    """

    predictions: pa.Table
    history: pa.Table
    scores: pa.Table
    verdict: scores.Verdict
    models: dict[int, str]
    classes: tuple[str, ...]
    truncated: int


def train_text(
    table: pa.Table,
    *,
    kind: str,
    out: str,
    classes: Sequence[str] = (),
    encoder: str = "google-bert/bert-base-cased",
    revision: str | None = None,
    pooling: str = "first",
    max_length: int = 500,
    folds: int = 5,
    chosen_folds: Sequence[int] | None = None,
    seed: int = 42,
    epochs: int = 5,
    batch_size: int = 32,
    learning_rate: float = 5e-5,
    weight_decay: float = 0.01,
    warmup_fraction: float = 0.0,
    clip_norm: float = 1.0,
    keep: str = "best",
    launcher: str = "auto",
    workers: int = 1,
    cpus_per_worker: int | None = None,
    gpus_per_worker: float | None = None,
    max_failures: int = 3,
    tracking: Tracking | None = None,
    on_epoch: OnEpoch | None = None,
    words: Analyzer = "auto",
    resamples: int = 1000,
) -> TextTraining:
    """Fine-tunes one model a fold and scores what each says of the rows that it did not see.

    Args:
        table: columns `row`, `id`, `text`, `target` (numbers, or class names), none of them null, and optionally
            `group`; rows of one group, by default of one `id`, are never in different folds.
        kind: one of KINDS.
        out: folder for checkpoints and models, any fsspec URL; a call with the same goes on where the last one ended.
        classes: allowed class names in the order of the outputs; by default those of the table, sorted.
        encoder: hub name, local folder, or ``tiny``, the packaged one.
        chosen_folds: folds to train; by default all. The rows of others get no prediction.
        words: how the baseline finds words, see baselines.baseline_outputs.

    The other arguments are those of fit.Recipe and loop.fit_folds.

    Raises:
        ValueError: a column, a target or an option is not as it should be.
        Fatal: no such encoder, or training diverged.
    """
    names, targets = _targets(table, kind, classes)
    texts, ids = table["text"].to_pylist(), table["id"].to_pylist()
    groups = table["group"].to_pylist() if "group" in table.column_names else ids
    fold_of_row = grouped_folds(groups, folds=folds, seed=seed, classes=targets.tolist() if names else None)
    chosen = sorted(set(range(folds) if chosen_folds is None else chosen_folds))
    if not chosen or chosen[0] < 0 or chosen[-1] >= folds:
        raise ValueError(f"chosen_folds is {chosen_folds}; choose from 0 to {folds - 1}")
    found = find_encoder(encoder, revision=revision)
    limit = min(max_length, found.max_length)
    tokens = tokenise(found.tokenizer(), texts, max_length=limit)
    recipe = Recipe(epochs, learning_rate, weight_decay, warmup_fraction, clip_norm, seed, keep)
    results = fit_folds(
        TextFolds(found, pooling, limit, names, tokens, targets, fold_of_row, batch_size, seed),
        chosen,
        out=out,
        recipe=recipe,
        launcher=launcher,
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        max_failures=max_failures,
        tracking=tracking,
        on_epoch=on_epoch,
    )
    outputs = np.full((table.num_rows, max(1, len(names))), np.nan, dtype=np.float32)
    for result in results:
        outputs[fold_of_row == result.fold] = result.outputs
    rivals = baseline_outputs(
        texts, targets, fold_of_row, chosen=chosen, classes=len(names), groups=groups, words=words, seed=seed
    )
    held_out = np.flatnonzero(np.isin(fold_of_row, chosen))
    comparison = scores.compare(
        targets[held_out],
        {name: said[held_out] for name, said in {**rivals, encoder: outputs}.items()},
        groups=[groups[i] for i in held_out],
        resamples=resamples,
        seed=seed,
        unranked=["mean"],
    )
    metric = "macro_f1" if names else "rmse"
    return TextTraining(
        predictions=_predictions(table, held_out, fold_of_row, targets, outputs),
        history=_history(results),
        scores=comparison.table,
        verdict=scores.beats_baselines(comparison, model=encoder, baselines=list(rivals), metric=metric),
        models={result.fold: result.model for result in results},
        classes=names,
        truncated=tokens.truncated,
    )


def _targets(table: pa.Table, kind: str, classes: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names (none for regression) and the (N,) float64 targets, after a check of the columns."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")
    for column in ("row", "id", "text", "target"):
        if table[column].null_count:
            raise ValueError(f"column {column!r} has {table[column].null_count} nulls of {table.num_rows} rows")
    targets = table["target"].to_pylist()
    if kind == "regression":
        values = np.asarray(targets, dtype=np.float64)
        if not np.isfinite(values).all():
            at = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"row {table['row'][at]} has the target {targets[at]}; it must be finite")
        return (), values
    names = tuple(classes) or tuple(sorted(set(targets)))
    index = {name: number for number, name in enumerate(names)}
    if len(names) < 2:
        raise ValueError(f"classification needs 2 or more classes, not {list(names)}")
    unknown = sorted(set(targets) - index.keys())
    if unknown:
        raise ValueError(f"target {unknown[0]!r} is none of the classes {list(names)}")
    return names, np.array([index[target] for target in targets], dtype=np.float64)


def _predictions(
    table: pa.Table, held_out: np.ndarray, folds: np.ndarray, targets: np.ndarray, outputs: np.ndarray
) -> pa.Table:
    width = outputs.shape[1]
    offsets = np.arange(len(held_out) + 1, dtype=np.int32) * width
    picked = table.select(["row", "id"]).take(held_out)
    columns = [
        picked["row"].cast(pa.int64()),
        picked["id"],
        pa.array(folds[held_out]),
        pa.array(targets[held_out]),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(outputs[held_out].ravel())),
    ]
    return pa.table(columns, schema=schema.PREDICTIONS)


def _history(results: Sequence[FoldResult]) -> pa.Table:
    rows = [
        {
            "fold": result.fold,
            "epoch": row["epoch"],
            "metric": name,
            "value": value,
            "kept": row["epoch"] == result.best_epoch,
        }
        for result in results
        for row in result.history
        for name, value in row.items()
        if name != "epoch"
    ]
    return pa.Table.from_pylist(rows, HISTORY)
