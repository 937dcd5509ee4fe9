"""A stage that tells which rows it begins, and takes its time, so that a kill can be timed and its work counted."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from seewhy.run import Stage

_NEW = ".new"


class Watched:
    """Any stage, with a file in the folder `log` for each block that it begins: who began it, and the ids.

    Args:
        pause_sec: between the file and the work.
    """

    def __init__(self, *, stage: type[Stage], stage_args: Mapping[str, Any], log: str, pause_sec: float) -> None:
        self._stage = stage(**stage_args)
        self._log, self._pause_sec = Path(log), pause_sec

    def __call__(self, batch: pa.Table) -> pa.Table:
        name = f"{time.monotonic_ns():020d}-{os.getpid()}"
        (self._log / f"{name}{_NEW}").write_text("\n".join(batch["id"].to_pylist()))
        os.rename(self._log / f"{name}{_NEW}", self._log / name)
        time.sleep(self._pause_sec)
        return self._stage(batch)


def begun(log: Path) -> list[tuple[int, int, list[str]]]:
    """When (time.monotonic_ns), by which process and with which ids each block was begun, in their order."""
    names = sorted(path.name for path in log.iterdir() if not path.name.endswith(_NEW))
    return [(*map(int, name.split("-")), (log / name).read_text().split("\n")) for name in names]
