"""What is known of the items beside pictures: their targets, and what a model predicted for them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seewhy import schema
from seewhy.report import numbers
from seewhy.report.choose import prediction_matrix
from seewhy.report.items import shared_target
from seewhy.report.results import About


class Facts:
    """Targets and predictions of a few items, written as a report writes them.

    Args:
        ids: the items that are asked for later.
        targets: (id, target), rows that share an item several times; None: no targets.
        predictions: schema.PREDICTIONS; None: no model predicted.
    """

    def __init__(
        self, about: About, ids: Sequence[str], targets: pa.Table | None, predictions: pa.Table | None = None
    ) -> None:
        self._classes = list(about.classes)
        self._digits = (0, 2)
        self._targets: dict[str, list[float | None]] = {}
        self._outputs: dict[str, list[float]] = {}
        wanted = pa.array(ids, pa.string())
        if targets is not None:
            if not self._classes:
                self._digits = numbers.spread_decimals(targets["target"].drop_null().to_numpy())
            mine = targets.filter(pc.is_in(targets[schema.ID], value_set=wanted))
            for item_id, target in zip(mine[schema.ID].to_pylist(), mine["target"].to_pylist(), strict=True):
                self._targets.setdefault(item_id, []).append(target)
        if predictions is not None:
            mine = predictions.filter(pc.is_in(predictions[schema.ID], value_set=wanted))
            if len(mine):
                self._outputs = dict(zip(mine[schema.ID].to_pylist(), prediction_matrix(mine).tolist(), strict=True))

    def target(self, item_id: str) -> float | None:
        """The mean of its rows, or the index of their commonest class."""
        return shared_target(self._targets.get(item_id, []), "classification" if self._classes else "regression")

    def actual(self, item_id: str) -> str:
        """Empty where it is not known."""
        target = self.target(item_id)
        if target is None:
            return ""
        return self._classes[int(target)] if self._classes else numbers.number(target, self._digits[0])

    def predicted(self, item_id: str) -> str:
        """Empty where nothing was predicted."""
        outputs = self._outputs.get(item_id)
        if outputs is None:
            return ""
        if not self._classes:
            return numbers.number(outputs[0], self._digits[1])
        best = int(np.argmax(outputs))
        return f"{self._classes[best]} ({numbers.number(outputs[best], 2)})"

    def predicted_output(self, item_id: str) -> int | None:
        outputs = self._outputs.get(item_id)
        return None if outputs is None else int(np.argmax(outputs))

    def wrong(self, item_id: str) -> bool:
        """A class was predicted, and not the item's own."""
        target, best = self.target(item_id), self.predicted_output(item_id)
        return bool(self._classes) and target is not None and best is not None and best != int(target)
