"""One run at a time in a workspace: a small file there, which the run that holds it writes anew again and again.

    _lease/000007.json    who holds the workspace, since when, and how often it was renewed; or that it is free

The highest number holds. Who comes next makes the file of the next number, by exclusive creation, of which there is one
winner; but only once the one before is free, or its run is dead. Dead is a run whose process is gone from this very
machine; and one of another machine whose file has not changed for EXPIRE_SEC by the clock of the one who watches, so
that no two machines' clocks are ever compared. A run whose file changes is alive, as is one whose process is there on
this machine, stopped or not; the one who came second is told about it and ends. The file of the highest number is not
deleted but on a full disk, so that numbers only go up.

What this cannot do is to stop a run at once that was taken for dead and is not: a paused machine that wakes. Before
each stage, each block that is told and whatever else it says, a run that has not been renewed for half of EXPIRE_SEC
looks first whether it still holds; its thread finds a higher number within RENEW_SEC. Until then it may write, and so
may its workers until they end. The worst of it: rows are computed, and paid for, twice. None is doubled: parts are
whole, parts of the same rows land on the same name, and of an id that stands in several parts one row counts. A page of
the report, or a checkpoint, may come from the one run and the next from the other; the rows they were made of are the
same, and `seewhy report` writes the pages anew. Where a file system has no exclusive creation (see storage.create) two
runs that begin in the same moment may both be let in, until the first of them to renew finds that its file is not its
own.

Costs a listing, a read and a write of some 500 bytes each RENEW_SEC.
"""

import getpass
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from seewhy import storage, urls
from seewhy.failure import Fatal
from seewhy.hiding import shown
from seewhy.logs import submitted_job

FOLDER = "_lease"
RENEW_SEC = 10.0
"""So long at most does a run that came second have to look before it is told that the first one lives."""
EXPIRE_SEC = 60.0
"""Five renewals may fail, as many seconds as gcsfs goes on trying each of them; and a run that follows a cluster that
was lost waits no longer than a node takes to start."""
_RELEASE_SEC = 20.0
"""An end waits so long for a renewal that is under way."""
_NAME = re.compile(r"(\d{6})\.json")


class Lease:
    """A workspace that this process holds; see `hold`. Its methods may be called from several threads."""

    def __init__(
        self, workspace: str, number: int, record: dict[str, Any], *, renew_sec: float, expire_sec: float
    ) -> None:
        self._workspace = workspace
        self._number = number
        self._record = record
        self._renew_sec, self._expire_sec = renew_sec, expire_sec
        self._renewed_at = _seconds()
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="seewhy-lease", daemon=True)
        self._thread.start()

    def at(self, stage: str) -> None:
        """Has the file say where the run is, from the next renewal on; and checks, see `check`."""
        self._record["stage"] = stage
        self.check()

    def check(self) -> None:
        """Returns while this run may write.

        Raises:
            Fatal: another run has taken over, or the file cannot be renewed.
        """
        if self._lost is None and _seconds() - self._renewed_at > self._expire_sec / 2:
            self._renew()
        if self._lost is not None:
            raise Fatal(
                f"this run has lost {shown(self._workspace)}: it stood still for longer than {self._expire_sec:g} s, "
                f"and {self._lost}. It ends here and leaves the rest to that one"
            )

    def _keep(self) -> None:
        while not self._over.wait(self._renew_sec):
            with suppress(Exception):  # tried again; `check` tries too before it is too late, and raises
                self._renew()

    def _renew(self) -> None:
        with self._lock:
            if self._lost is not None or self._over.is_set():
                return
            began = _seconds()
            self._lost = self._taken_by()
            if self._lost is None:
                self._record["renewals"] += 1
                storage.write_whole(_url(self._workspace, self._number), _bytes(self._record))
                self._renewed_at = began

    def _taken_by(self) -> str | None:
        highest = max(_numbers(self._workspace), default=0)
        found = _read(self._workspace, highest) if highest else None
        if found is not None and found["run"] == self._record["run"]:
            return None
        return f"its file in {FOLDER} is gone" if found is None else f"{_told(found)} has taken over"

    def end(self) -> None:
        """Marks the workspace free, where it is still held; where that fails the file expires."""
        self._over.set()
        if not self._lock.acquire(timeout=_RELEASE_SEC):
            return
        try:
            with suppress(Exception):
                if self._lost is None and self._taken_by() is None:
                    self._free()
        finally:
            self._lock.release()

    def _free(self) -> None:
        url = _url(self._workspace, self._number)
        try:
            storage.write_whole(url, _bytes({**self._record, "free": True, "ended": _now()}))
        except Fatal:  # a full disk has no room for a word more, and still lets go
            storage.remove(url)


@contextmanager
def hold(
    workspace: str,
    *,
    study: str,
    say: Callable[[str], None] = lambda line: None,
    renew_sec: float = RENEW_SEC,
    expire_sec: float = EXPIRE_SEC,
) -> Iterator[Lease]:
    """Holds a workspace while this lasts, whatever ends it: an exception, Ctrl-C, SIGTERM.

    Args:
        study: by what name others are told about this run.
        say: told when another run is there that has to be watched.
        expire_sec: the same for all who share the workspace.

    Raises:
        Fatal: another run holds it and is alive; or nothing can be written there.
    """
    number, record = _take(workspace, _mine(study), say, expire_sec)
    with _ended_by_sigterm():
        lease = Lease(workspace, number, record, renew_sec=renew_sec, expire_sec=expire_sec)
        try:
            yield lease
        finally:
            lease.end()


def _take(
    workspace: str, record: dict[str, Any], say: Callable[[str], None], expire_sec: float
) -> tuple[int, dict[str, Any]]:
    while True:
        highest = max(_numbers(workspace), default=0)
        if highest:
            _see_it_end(workspace, highest, say, expire_sec)
        mine = highest + 1
        if not storage.create(_url(workspace, mine), _bytes(record)):
            continue  # somebody was faster
        there = _numbers(workspace)
        if max(there, default=0) == mine:
            for old in there[:-1]:
                storage.remove(_url(workspace, old))
            return mine, record
        storage.remove(_url(workspace, mine))  # others took it, ended and tidied up while this one looked


def _see_it_end(workspace: str, number: int, say: Callable[[str], None], expire_sec: float) -> None:
    """Returns when the holder is no more: at once, or after it has stood still for `expire_sec`. Raises Fatal if it
    lives."""
    seen: bytes | None = None
    since = _seconds()
    while True:
        try:
            data = storage.read_whole(_url(workspace, number))
        except FileNotFoundError:
            return
        found = _parsed(data)
        if found["free"] or _is_gone(found["process"]):
            return
        if seen is None:
            seen = data
            say(f"{shown(workspace)} is held by {_told(found)}: seeing for up to {expire_sec:g} s whether it is alive")
        elif data != seen:
            raise Fatal(
                f"{shown(workspace)} is held by {_told(found)}. It is alive, and nothing was touched. Wait until it "
                "has ended, or end it, and run again; or give this study another workspace"
            )
        if _seconds() - since > expire_sec:
            if _stands_still(found["process"]):
                raise Fatal(
                    f"{workspace} is held by {_told(found)}. It stands still, and may go on at any moment. "
                    "Have it go on (`fg`, where Ctrl-Z stopped it) or end it, and run again"
                )
            say(f"that run has not been heard of for {expire_sec:g} s: its lease is taken over")
            return
        time.sleep(min(1.0, expire_sec / 20))


def _numbers(workspace: str) -> list[int]:
    names = storage.list_files(urls.join(workspace, FOLDER))
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def _url(workspace: str, number: int) -> str:
    return urls.join(workspace, FOLDER, f"{number:06d}.json")


def _read(workspace: str, number: int) -> dict[str, Any] | None:
    try:
        return _parsed(storage.read_whole(_url(workspace, number)))
    except FileNotFoundError:
        return None


def _bytes(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


_UNKNOWN = dict.fromkeys(("run", "free", "process", "study", "host", "pid", "user", "job", "since", "stage"))


def _parsed(data: bytes) -> dict[str, Any]:
    """A file that is not whole yet, or was spoilt, is held by somebody unknown."""
    with suppress(ValueError):
        found = json.loads(data)
        if isinstance(found, dict):
            return {**_UNKNOWN, **found}
    return dict(_UNKNOWN)


def _mine(study: str) -> dict[str, Any]:
    user = None
    with suppress(OSError, KeyError):
        user = getpass.getuser()
    return {
        "run": uuid.uuid4().hex,
        "free": False,
        "study": study,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "user": user,
        "job": submitted_job(),
        "process": _process(),
        "since": _now(),
        "stage": None,
        "renewals": 0,
    }


def _seconds() -> float:
    """Since some start, those included in which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _told(found: dict[str, Any]) -> str:
    """``the run "Films" (process 812 on node-3 of ann, Ray job raysubmit_x; since 2026-11-22T10:00:00+00:00)``"""
    if found["run"] is None:
        return "a run that does not say which"
    who = f"process {found['pid']} on {found['host']}"
    who += f" of {found['user']}" if found["user"] else ""
    who += f", Ray job {found['job']}" if found["job"] else ""
    at = f", at {found['stage']}" if found["stage"] else ""
    return f'the run "{found["study"]}" ({who}; since {found["since"]}{at})'


def _process() -> dict[str, Any] | None:
    """This process, so that others on the same running machine can tell whether it is gone; None without a /proc.

    A machine's name would not do: containers may share one, and see nothing of one another's processes.
    """
    machine, stat = _machine(), _stat(os.getpid())
    return None if machine is None or stat is None else {"machine": machine, "pid": os.getpid(), "started": stat[1]}


def _machine() -> str | None:
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    return None


def _stat(pid: int) -> tuple[str, str] | None:
    """Its state, and when it started in ticks since the machine did; None where it is no more, or cannot be seen.

    Fields 3 and 22 of proc(5), counted here behind the last bracket of the name, which is the second.
    """
    with suppress(OSError), open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
        return fields[0], fields[19]
    return None


def _is_gone(process: dict[str, Any] | None) -> bool:
    """Whether a process is known to be no more: only of this machine, and where it can be seen at all."""
    if not process or process["machine"] != _machine():
        return False
    stat = _stat(process["pid"])
    if stat is not None:
        return stat[0] in "ZX" or stat[1] != process["started"]
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, hidden by how /proc is mounted
        pass
    return False


def _stands_still(process: dict[str, Any] | None) -> bool:
    """Whether a process of this machine is seen to be there, stopped or not."""
    if not process or process["machine"] != _machine():
        return False
    stat = _stat(process["pid"])
    return stat is not None and stat[0] not in "ZX" and stat[1] == process["started"]


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM, which a cluster sends first, would end a process without a word unless somebody listens, as Ray does."""
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
