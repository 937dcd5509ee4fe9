"""What one number does not say of a classifier: which classes it takes for which, and whether its probabilities hold.

Calibration as in Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017: rows are sorted
into bins of equal width by the probability p of the class that was said, bin b holding (b - 1) / B < p <= b / B.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

BINS = 15

CONFUSION = pa.schema(
    [
        pa.field("model", pa.string()),
        pa.field("truth", pa.string()),
        pa.field("said", pa.string()),
        pa.field("rows", pa.int64()),  # held-out rows of class `truth` that the model takes for `said`; may be 0
        pa.field("of", pa.int64()),  # held-out rows of class `truth`
    ]
)

CALIBRATION = pa.schema(
    [
        pa.field("model", pa.string()),
        pa.field("low", pa.float64()),  # the bin holds low < probability <= high
        pa.field("high", pa.float64()),
        pa.field("rows", pa.int64()),
        pa.field("confidence", pa.float64()),  # mean probability of the class that was said; null for an empty bin
        pa.field("accuracy", pa.float64()),  # share of the rows where it was right; null for an empty bin
    ]
)


def confusion(model: str, target: np.ndarray, outputs: np.ndarray, classes: Sequence[str]) -> pa.Table:
    """CONFUSION of all pairs of classes, empty ones too: the classes in their order, for each what was said in order.

    Args:
        target: (N,) index of each row's class.
        outputs: (N, K) probabilities; the largest is what was said, the first of equals.
    """
    width = len(classes)
    pairs = target.astype(np.int64) * width + outputs.argmax(axis=1)
    counts = np.bincount(pairs, minlength=width * width).reshape(width, width)
    columns = [
        pa.array([model] * width**2, pa.string()),
        pa.array(np.repeat(np.asarray(list(classes), dtype=object), width), pa.string()),
        pa.array(np.tile(np.asarray(list(classes), dtype=object), width), pa.string()),
        pa.array(counts.ravel()),
        pa.array(np.repeat(counts.sum(axis=1), width)),
    ]
    return pa.table(columns, schema=CONFUSION)


def calibration(model: str, target: np.ndarray, outputs: np.ndarray, *, bins: int = BINS) -> pa.Table:
    """CALIBRATION, one row a bin from the lowest; arguments as in `confusion`."""
    hit, sure, where = _binned(target, outputs, bins)
    rows = np.bincount(where, minlength=bins)
    some = rows > 0
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(where, sure, bins) / rows
        accuracy = np.bincount(where, hit, bins) / rows
    columns = [
        pa.array([model] * bins, pa.string()),
        pa.array(np.arange(bins) / bins),
        pa.array(np.arange(1, bins + 1) / bins),
        pa.array(rows),
        pa.array(confidence, mask=~some),
        pa.array(accuracy, mask=~some),
    ]
    return pa.table(columns, schema=CALIBRATION)


def calibration_error(target: np.ndarray, outputs: np.ndarray, *, bins: int = BINS) -> float:
    """Expected calibration error, the sum over the bins of n_b / N * |accuracy_b - confidence_b|."""
    hit, sure, where = _binned(target, outputs, bins)
    return float(np.abs(np.bincount(where, hit - sure, bins)).sum() / len(target))


def _binned(target: np.ndarray, outputs: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row: 1 where it was right, the probability of what was said, and its bin."""
    sure = outputs.max(axis=1).astype(np.float64)
    hit = (outputs.argmax(axis=1) == target.astype(np.int64)).astype(np.float64)
    return hit, sure, np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
