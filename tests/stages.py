"""Stages for the tests of the runner: small, and each with one fault that can be switched on."""

import os
import time
from pathlib import Path

import pyarrow as pa

from seewhy import schema
from seewhy.failure import NOT_ASKED, Fatal

SHOUT = schema.row_stage(pa.field("text", pa.string()))
KINDS = {"flaky": "transient", "poison": "bad_input", "unpaid": "transient"}
REASONS = {"unpaid": NOT_ASKED}


class Shout:
    """Upper-cases `text`; logs each row it works on, so that a test can count work that was done twice."""

    def __init__(
        self, log: str | None = None, sleep_sec: float = 0.0, drop: str | None = None, fatal: str | None = None
    ) -> None:
        self.log, self.sleep_sec, self.drop, self.fatal = log, sleep_sec, drop, fatal

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids, texts = batch.column("id").to_pylist(), batch.column("text").to_pylist()
        if self.fatal is not None and self.fatal in ids:
            raise Fatal("no such model: choose another")
        time.sleep(self.sleep_sec)
        if self.log:
            (Path(self.log) / f"{os.getpid()}-{time.monotonic_ns()}").write_text("\n".join(ids))
        kinds = [KINDS.get(text) for text in texts]
        keep = [i for i, one in enumerate(ids) if one != self.drop]
        table = pa.table(
            {
                "id": ids,
                "text": [None if k else t.upper() for t, k in zip(texts, kinds, strict=True)],
                "error_kind": pa.array(kinds, pa.string()),
                "reason": pa.array(
                    [k and REASONS.get(t, "planned") for t, k in zip(texts, kinds, strict=True)], pa.string()
                ),
                "detail": pa.array([k and f"row {i}" for i, k in zip(ids, kinds, strict=True)], pa.string()),
            },
            schema=SHOUT,
        )
        return table.take(keep)
