"""What trainings on texts and on images share: every row is predicted by a model that did not see it, beside baselines.

Which rows are held out together, the models of all folds, their held-out outputs put together again, the scores.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from seewhy import schema
from seewhy.train import scores
from seewhy.train.fit import Recipe
from seewhy.train.folder import FoldResult
from seewhy.train.folds import grouped_folds
from seewhy.train.loop import MakeTask, OnEpoch, fit_folds
from seewhy.train.tracking import Tracking

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
class Split:
    """Which rows are held out together, and what is asked of them.

    Attributes:
        classes: names of the outputs; empty for regression.
        targets: (N,) float64, the number, or the index into `classes`.
        groups: (N,) int64, equal for rows that are never in different folds.
        folds: (N,) int32, where each row is held out.
        chosen: the folds that are trained.
    """

    classes: tuple[str, ...]
    targets: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    chosen: tuple[int, ...]

    @property
    def width(self) -> int:
        """K, outputs per row."""
        return max(1, len(self.classes))

    def held_out(self) -> np.ndarray:
        """Rows of the chosen folds, in order."""
        return np.flatnonzero(np.isin(self.folds, self.chosen))


@dataclass(frozen=True)
class Launch:
    """Where and how the folds run: the arguments of loop.fit_folds by these names."""

    out: str
    launcher: str = "auto"
    workers: int = 1
    cpus_per_worker: int | None = None
    gpus_per_worker: float | None = None
    max_failures: int = 3
    tracking: Tracking | None = None
    on_epoch: OnEpoch | None = None


@dataclass(frozen=True)
class Crossfit:
    """Attributes:
    predictions: schema.PREDICTIONS, held-out outputs of every row of the chosen folds, in the order of the table.
    history: HISTORY.
    scores: schema.SCORES, the baselines and the model on the rows of `predictions`.
    verdict: the model against the best baseline, by rmse or macro_f1.
    models: fold -> URL of its model's folder.
    classes: names of the outputs; empty for regression.
    """

    predictions: pa.Table
    history: pa.Table
    scores: pa.Table
    verdict: scores.Verdict
    models: dict[int, str]
    classes: tuple[str, ...]


def split_rows(
    table: pa.Table,
    *,
    kind: str,
    columns: Sequence[str],
    classes: Sequence[str],
    folds: int,
    chosen_folds: Sequence[int] | None,
    seed: int,
) -> Split:
    """Checks the table and deals its rows into folds, stratified by class, groups kept whole.

    Args:
        table: has `columns`, `target`, and perhaps `group`; without it rows of one `id` are a group.
        columns: may not hold nulls.

    Raises:
        ValueError: a column, a target or an option is not as it should be.
    """
    group = "group" if "group" in table.column_names else "id"
    names, targets = _targets(table, kind, dict.fromkeys([*columns, group]), classes)
    groups = table[group].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    dealt = grouped_folds(groups.tolist(), folds=folds, seed=seed, classes=targets.tolist() if names else None)
    chosen = sorted(set(range(folds) if chosen_folds is None else chosen_folds))
    if not chosen or chosen[0] < 0 or chosen[-1] >= folds:
        raise ValueError(f"chosen_folds is {chosen_folds}; choose from 0 to {folds - 1}")
    return Split(names, targets, groups, dealt, tuple(chosen))


def crossfit(
    table: pa.Table,
    split: Split,
    make_task: MakeTask,
    baselines: Callable[[], Mapping[str, np.ndarray]],
    *,
    model: str,
    recipe: Recipe,
    launch: Launch,
    resamples: int,
) -> Crossfit:
    """Trains the chosen folds and scores what each model says of the rows that it did not see.

    Args:
        table: columns `row` and `id`, of the same rows as `split`.
        baselines: asked after the training for name -> (N, K) held-out outputs.
        model: what the scores and the verdict call the model that is trained.
        resamples: bootstrap draws.
    """
    results = fit_folds(make_task, split.chosen, recipe=recipe, **vars(launch))
    outputs = np.full((len(split.folds), split.width), np.nan, dtype=np.float32)
    for result in results:
        outputs[split.folds == result.fold] = result.outputs
    rivals = baselines()
    held_out = split.held_out()
    comparison = scores.compare(
        split.targets[held_out],
        {name: said[held_out] for name, said in {**rivals, model: outputs}.items()},
        groups=split.groups[held_out].tolist(),
        resamples=resamples,
        seed=recipe.seed,
        unranked=["mean"],
    )
    metric = "macro_f1" if split.classes else "rmse"
    return Crossfit(
        predictions=_predictions(table, held_out, split, outputs),
        history=_history(results),
        scores=comparison.table,
        verdict=scores.beats_baselines(comparison, model=model, baselines=list(rivals), metric=metric),
        models={result.fold: result.model for result in results},
        classes=split.classes,
    )


def _targets(
    table: pa.Table, kind: str, columns: Iterable[str], classes: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names (none for regression) and the (N,) float64 targets, after a check of the columns."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")
    for column in (*columns, "target"):
        if column not in table.column_names:
            raise ValueError(f"the table has no column {column!r}; it has {', '.join(table.column_names)}")
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


def _predictions(table: pa.Table, held_out: np.ndarray, split: Split, outputs: np.ndarray) -> pa.Table:
    offsets = np.arange(len(held_out) + 1, dtype=np.int32) * split.width
    picked = table.select(["row", "id"]).take(held_out)
    columns = [
        picked["row"].cast(pa.int64()),
        picked["id"],
        pa.array(split.folds[held_out]),
        pa.array(split.targets[held_out]),
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
