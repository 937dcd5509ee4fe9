"""What a stage's workers tell Prometheus, by way of Ray: rows by outcome, tokens, and where the time goes.

And what the desk tells, that of money. Ray's agent on each node shows them on the port of its own metrics, as ``ray_``
and the name; after that of a counter stands ``_total``.
"""

import time
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

ROWS = "seewhy_rows"
"""Rows that were committed; tags stage, and outcome: ``ok`` or a kind of failure."""
TOKENS = "seewhy_tokens"
"""Tokens of the models that were asked; tags stage, and direction: ``in`` or ``out``."""
SECONDS = "seewhy_seconds"
"""Seconds of all workers; tags stage, gpu (yes or no: whether the worker holds one) and part: ``wait`` for a block of
rows, ``read`` it, ``stage``, ``write`` the part. A GPU computes in ``stage`` alone, and waits in the others."""

COST = "seewhy_cost_usd"
"""USD that a service has cost; tag service: backend, model and where it is served. What the workspace's ledger told at
first is ``earlier runs``. The sum of all is what the budget counts as spent."""

_TAGS = {ROWS: ("outcome",), TOKENS: ("direction",), SECONDS: ("part", "gpu")}


class Spending:
    """What the desk tells: how much each service has cost so far. Nobody, in a process that has joined no cluster."""

    def __init__(self) -> None:
        import ray
        from ray.util.metrics import Gauge

        self._gauge = Gauge(COST, tag_keys=("service",)) if ray.is_initialized() else None

    def tell(self, costs: Mapping[str, float]) -> None:
        """USD by service. To be told again and again: Ray's agent forgets a gauge once it has shown it."""
        if self._gauge is not None:
            for service, usd in costs.items():
                self._gauge.set(usd, {"service": service})


class Meter:
    """Of one worker; it tells nobody in a process that has joined no cluster.

    Args:
        stage: name of the table, such as ``caption``.
    """

    def __init__(self, stage: str) -> None:
        import ray
        from ray.util.metrics import Counter

        self._counters: dict[str, Counter] = {}
        self._gpu = "no"
        self._marked = time.monotonic()
        if ray.is_initialized():
            self._gpu = "yes" if ray.get_gpu_ids() else "no"
            for name, tag_keys in _TAGS.items():
                self._counters[name] = Counter(name, tag_keys=("stage", *tag_keys))
                self._counters[name].set_default_tags({"stage": stage})

    def mark(self, part: str) -> None:
        """The time since the last mark, or since the worker was made, went to `part`."""
        now = time.monotonic()
        self._add(SECONDS, now - self._marked, part=part, gpu=self._gpu)
        self._marked = now

    def rows(self, counts: dict[str, int]) -> dict[str, int]:
        """Rows by outcome, as they were given."""
        for outcome, count in counts.items():
            self._add(ROWS, count, outcome=outcome)
        return counts

    def tokens(self, rows: pa.Table) -> None:
        """Of the answers in `rows`, where there are such columns; paid for whether or not the part is written."""
        answers = rows
        if "replies" in rows.column_names:  # of questions: a list of answers a row
            answers = pa.Table.from_struct_array(pc.list_flatten(rows.column("replies").combine_chunks()))
        for direction in ("in", "out"):
            if f"tokens_{direction}" in answers.column_names:
                self._add(TOKENS, pc.sum(answers.column(f"tokens_{direction}")).as_py() or 0, direction=direction)

    def _add(self, name: str, amount: float, **tags: str) -> None:
        if name in self._counters and amount > 0:
            self._counters[name].inc(amount, tags)
