"""What a piece of work touches, by Python's audit events: files, addresses, programs, pickles; and a limit of time."""

import os
import signal
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import seewhy

_LIBRARIES = tuple(
    {
        os.path.realpath(one)
        for one in (*sysconfig.get_paths().values(), *site.getsitepackages(), os.path.dirname(seewhy.__file__))
    }
)
_SYSTEM = ("/dev/", "/etc/localtime", "/proc/", "/sys/", "/usr/lib/", "/usr/share/")


@dataclass
class Seen:
    """Of the work in a `with watched()`.

    Attributes:
        opened: files that were opened, those of Python, its packages and the system left out.
        changed: files and folders that were written, moved or removed.
        connected: addresses that a socket was connected to.
        started: programs.
        unpickled: names that a pickle asked for.
    """

    opened: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    connected: list[Any] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    unpickled: list[str] = field(default_factory=list)


_watching: list[Seen] = []


def _path(given: Any) -> str:
    return os.path.realpath(os.fsdecode(given)) if isinstance(given, (str, bytes, os.PathLike)) else ""


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    seen = _watching[-1]
    if event == "open" and (path := _path(arguments[0])) and "__pycache__" not in path:
        if not path.startswith((*_LIBRARIES, *_SYSTEM)):
            seen.opened.add(path)
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            seen.changed.add(path)
    elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate"):
        seen.changed |= {_path(one) for one in arguments[:2] if isinstance(one, (str, bytes, os.PathLike))}
    elif event == "socket.connect":
        seen.connected.append(arguments[1])
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        seen.started.append(str(arguments[0]))
    elif event == "pickle.find_class":
        seen.unpickled.append(f"{arguments[0]}.{arguments[1]}")


sys.addaudithook(_hear)  # for the life of the process: it listens only while something is watched


@contextmanager
def watched(*, at_most_sec: float = 20.0) -> Iterator[Seen]:
    """In a main thread. Fails where the work takes longer, which is a hang: it is stopped then."""

    def stop(*_: object) -> None:
        raise AssertionError(f"not done in {at_most_sec:g} s")

    seen = Seen()
    _watching.append(seen)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, at_most_sec)
    try:
        yield seen
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _watching.pop()


def fuzzed(examples: int) -> Callable[[Any], Any]:
    """The same examples at each run, so many of them."""
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


def efforts(few: int, many: int) -> pytest.MarkDecorator:
    """A test with few examples, and the same with many where there is time."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.long)])
