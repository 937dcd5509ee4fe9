"""How good predictions are, with intervals, and whether they are better than what needs no model of language.

All models are compared on the same held-out rows. Intervals are percentile bootstraps that draw whole groups of rows
(rows that share an image are not independent), the same draws for every model, so that differences can be judged
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from seewhy import schema
from seewhy.train.classes import calibration_error
from seewhy.train.folds import group_numbers

LOWER_IS_BETTER = ("rmse", "mae", "log_loss", "calibration_error")
_CELLS = 4_000_000  # weights held at once
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    table: schema.SCORES.
    draws: model -> metric -> (R,) value in each bootstrap draw; draw r is of the same rows for all models.
    """

    table: pa.Table
    draws: dict[str, dict[str, np.ndarray]]

    def value(self, model: str, metric: str) -> float:
        rows = self.table.to_pylist()
        return next(row["value"] for row in rows if row["model"] == model and row["metric"] == metric)


@dataclass(frozen=True)
class Verdict:
    """How much better the model is than the best baseline, in the metric's unit; positive is better.

    Attributes:
        value: the difference, with `low` and `high`, its 95% interval over the paired draws.
        beats: the whole interval is above 0.
    """

    metric: str
    model: str
    baseline: str
    value: float
    low: float
    high: float
    beats: bool


def epoch_scores(target: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Scores of one epoch's (N, K) outputs, by which epochs are told apart.

    Returns:
        For K = 1 rmse, mae and r2, else log_loss, accuracy, macro_f1 and calibration_error.
    """
    all_once = np.ones((1, len(target)))
    values = {name: float(value[0]) for name, value in weighted_scores(target, outputs, all_once, ranks=False).items()}
    if outputs.shape[1] > 1:
        of_truth = outputs[np.arange(len(target)), target.astype(int)]
        values["log_loss"] = float(-np.log(np.clip(of_truth, 1e-12, 1.0)).mean())
        values["calibration_error"] = calibration_error(target, outputs)
    return values


def weighted_scores(
    target: np.ndarray, outputs: np.ndarray, weights: np.ndarray, *, ranks: bool = True
) -> dict[str, np.ndarray]:
    """The scores of a sample in which row i stands ``weights[r, i]`` times, for each r.

    Args:
        target: (N,) the number, or the index of the class.
        outputs: (N, K) the prediction for K = 1, else the probability of each class.
        weights: (R, N) whole numbers.
        ranks: compute Spearman's correlation too, the one score that needs sorting.

    Returns:
        metric -> (R,). Regression: rmse, mae, r2 = 1 - sum of squared errors / sum of squared deviations from the mean
        (below 0 for a constant that is not the sample's own mean), spearman. Classes: accuracy, and macro_f1, the plain
        mean of F1 over the classes that occur in truth or prediction.
    """
    target = np.asarray(target, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        if outputs.shape[1] > 1:
            return _class_scores(target.astype(np.int64), outputs.argmax(axis=1), weights, outputs.shape[1])
        return _number_scores(target, np.asarray(outputs[:, 0], dtype=np.float64), weights, ranks)


def _number_scores(
    target: np.ndarray, predicted: np.ndarray, weights: np.ndarray, ranks: bool
) -> dict[str, np.ndarray]:
    total = weights.sum(axis=1)
    errors = predicted - target
    deviations = target - target.mean()  # centred first: the sum of squares below would lose digits otherwise
    squared = weights @ errors**2
    spread = weights @ deviations**2 - (weights @ deviations) ** 2 / total
    found = {"rmse": np.sqrt(squared / total), "mae": weights @ np.abs(errors) / total, "r2": 1 - squared / spread}
    if ranks:
        a, b = _midranks(target, weights), _midranks(predicted, weights)
        a -= ((weights * a).sum(axis=1) / total)[:, None]
        b -= ((weights * b).sum(axis=1) / total)[:, None]
        both = (weights * a * b).sum(axis=1)
        found["spearman"] = both / np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    return found


def _midranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R, N) rank of each row in each weighted sample; equal values share the middle of their ranks."""
    distinct, which = np.unique(values, return_inverse=True)
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(len(distinct)))
    counts = np.add.reduceat(weights[:, order], starts, axis=1).astype(np.float64)
    middle = counts.cumsum(axis=1) - counts / 2 + 0.5
    return middle[:, which]


def _class_scores(
    target: np.ndarray, predicted: np.ndarray, weights: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    hit = target == predicted
    total = weights.sum(axis=1)
    f1 = np.full((classes, len(weights)), np.nan)
    for one in range(classes):
        hits = weights @ (hit & (target == one))
        truth_and_said = weights @ (target == one) + weights @ (predicted == one)
        f1[one] = np.where(truth_and_said > 0, 2 * hits / truth_and_said, np.nan)
    return {"accuracy": weights @ hit / total, "macro_f1": np.nanmean(f1, axis=0)}


def compare(
    target: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    *,
    groups: Sequence[object],
    resamples: int = 1000,
    seed: int = 42,
    unranked: Sequence[str] = (),
) -> Comparison:
    """Scores each model's (N, K) outputs on the same N rows, with bootstrap 95% intervals over the groups of rows.

    The models in `unranked` get no spearman. The mean is one: it says a little more for the folds whose own rows lie a
    little lower, so over all folds its correlation is below 0 and means nothing. The calibration error gets no
    interval: chance alone raises it, in a draw more than in the rows themselves.
    """
    numbers, count = group_numbers(groups)
    once = np.ones((1, len(target)))
    values = {model: weighted_scores(target, out, once) for model, out in outputs.items()}
    drawn: dict[str, dict[str, list[np.ndarray]]] = {model: {} for model in outputs}
    for weights in group_weights(numbers, count, resamples=resamples, seed=seed):
        for model, out in outputs.items():
            for metric, value in weighted_scores(target, out, weights).items():
                drawn[model].setdefault(metric, []).append(value)
    draws = {model: {metric: np.concatenate(v) for metric, v in of.items()} for model, of in drawn.items()}
    rows = []
    for model, of in values.items():
        for metric, value in of.items():
            if np.isfinite(value[0]) and not (metric == "spearman" and model in unranked):
                low, high = _interval(draws[model][metric])
                rows.append([model, metric, float(value[0]), low, high, len(target)])
        if outputs[model].shape[1] > 1:
            error = calibration_error(target, outputs[model])
            rows.append([model, "calibration_error", error, None, None, len(target)])
    table = pa.Table.from_pylist([dict(zip(schema.SCORES.names, row, strict=True)) for row in rows], schema.SCORES)
    return Comparison(table, draws)


def group_weights(numbers: np.ndarray, count: int, *, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """(r, N) weights at a time, `resamples` rows in all: how often each row's group was drawn.

    Args:
        numbers: (N,) int64 number of each row's group, from 0 to `count` less 1.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS // max(1, len(numbers)))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        picked = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        counts = np.bincount(picked.ravel(), minlength=size * count).reshape(size, count)
        yield counts[:, numbers].astype(np.float64)


def _interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(draws, _INTERVAL)
    return float(low), float(high)


def beats_baselines(comparison: Comparison, *, model: str, baselines: Sequence[str], metric: str) -> Verdict:
    """Compares a model with the baseline that does best by `metric`.

    Raises:
        ValueError: no baseline has that metric.
    """
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    rows = comparison.table.to_pylist()
    values = {row["model"]: row["value"] for row in rows if row["metric"] == metric and row["model"] in baselines}
    if not values:
        raise ValueError(f"none of the baselines {list(baselines)} has a score for {metric!r}")
    best = max(values, key=lambda name: sign * values[name])
    low, high = _interval(sign * (comparison.draws[model][metric] - comparison.draws[best][metric]))
    value = sign * (comparison.value(model, metric) - values[best])
    return Verdict(metric, model, best, value, low, high, bool(low > 0))
