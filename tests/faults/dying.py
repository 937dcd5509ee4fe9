"""Stages that end their own process at some rows, as a decoder does that crashes or eats all memory."""

import ctypes
import os
import resource
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from seewhy.failure import Fatal
from tests.stages import SHOUT, Shout


def begin_life(log: Path, lives: int) -> None:
    """Counts processes: a test is to end, and be told, where they go on dying.

    Raises:
        Fatal: there were more of them than `lives`.
    """
    (log / f"{uuid.uuid4().hex}.life").touch()
    if count_lives(log) > lives:
        raise Fatal(f"more than {lives} processes")


def count_lives(log: Path) -> int:
    return len(list(log.glob("*.life")))


def segfault() -> None:
    ctypes.string_at(0)


def kill() -> None:
    """As the kernel does when memory is short, and Ray's monitor of memory before it."""
    os.kill(os.getpid(), signal.SIGKILL)


def hoard() -> None:
    """MemoryError: takes a quarter of a gigabyte more than there is, where no more than that is allowed."""
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 28), before[1]))
    kept = []
    try:
        while True:
            kept.append(bytearray(1 << 24))
    finally:
        kept.clear()
        resource.setrlimit(resource.RLIMIT_AS, before)


def abort() -> None:
    """As a decoder in C++ does that finds no memory."""
    try:
        hoard()
    except MemoryError:
        os.abort()


WAYS: dict[str, Callable[[], None]] = {"segfault": segfault, "kill": kill, "hoard": hoard, "abort": abort}


class Dying:
    """Upper-cases `text`, one row after the other; at a row whose text is one of WAYS it goes that way. One whose text
    is ``kill 3`` is killed there three times, and comes through from then on.

    Args:
        log: folder of a file a call, with a line for each row that it came to, and of one for each process.
        lives: processes at most.
        setup: one of WAYS, gone when a worker is set up.
    """

    def __init__(self, *, log: str, lives: int, setup: str | None = None) -> None:
        self._log = Path(log)
        begin_life(self._log, lives)
        if setup is not None:
            WAYS[setup]()

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids, texts = batch.column("id").to_pylist(), batch.column("text").to_pylist()
        call = f"{os.getpid()}-{time.monotonic_ns()}"
        for key, text in zip(ids, texts, strict=True):
            self._came_to(key, call)
            way, _, times = text.partition(" ")
            if way in WAYS and (not times or came_to(self._log).count(key) <= int(times)):
                WAYS[way]()
        nothing = pa.nulls(len(ids), pa.string())
        columns: dict[str, Any] = {"id": ids, "text": [text.upper() for text in texts]}
        return pa.table(columns | dict.fromkeys(SHOUT.names[2:], nothing), schema=SHOUT)

    def _came_to(self, key: str, call: str) -> None:
        with (self._log / f"{call}.call").open("a") as file:
            file.write(f"{key}\n")


class Breaking:
    """Upper-cases `text` until it comes to the row `breaks_at`. From then on every process is killed, at whatever row
    it comes to, or, if `setup`, when a worker is set up.
    """

    def __init__(self, *, log: str, lives: int, breaks_at: str, setup: bool) -> None:
        self._log, self._breaks_at = Path(log), breaks_at
        begin_life(self._log, lives)
        if setup and (self._log / "broken").exists():
            kill()

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self._breaks_at in batch["id"].to_pylist():
            (self._log / "broken").touch()
        if (self._log / "broken").exists():
            kill()
        return Shout()(batch)


def came_to(log: Path) -> list[str]:
    """Rows that stages came to, each as often as they did."""
    return [line for file in log.glob("*.call") for line in file.read_text().splitlines()]
