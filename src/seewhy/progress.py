"""What a person sees while a stage runs: a bar with rate and time left, plain lines without a terminal, or nothing.

Where logs are asked for (see ``logs``), each line is told there too.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from seewhy import logs

_PLAIN_EVERY_SEC = 10.0
_STAGE = re.compile(r"(\w+)(?: of \w+)?: ")
"""How a line begins that is of a stage."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0.0:,.1f}/s")


def _go_on() -> None:
    pass


class Reporter:
    """Prints to standard error, so that what a command answers on standard output stays clean.

    Args:
        quiet: only errors are shown.
        stream: standard error by default; standard output where logs for machines go to standard error.
    """

    def __init__(self, *, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self._quiet = quiet
        self._logged = logs.structured()
        self._stream = stream or (sys.stdout if self._logged else sys.stderr)
        self._console = Console(file=self._stream, highlight=False)
        self._bars = self._console.is_terminal and not self._logged
        self._check: Callable[[], None] = _go_on

    @contextmanager
    def checking(self, check: Callable[[], None]) -> Iterator[None]:
        """Calls `check` before anything is told, in quiet too, while this lasts: what it raises ends the run there."""
        before, self._check = self._check, check
        try:
            yield
        finally:
            self._check = before

    def say(self, line: str, **facts: Any) -> None:
        """A line for people; `facts` are what of it machines are told as fields."""
        self._check()
        if self._quiet:
            return
        self._console.print(line, markup=False, soft_wrap=True)
        if self._logged:
            stage = _STAGE.match(line)
            logs.log("info", line, stage and stage[1], **facts)

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "rows") -> Iterator["Counter"]:
        """A bar from 0 to `total`; the Counter it yields is called with rows by outcome."""
        self._check()
        counter = Counter(name, total, unit, check=self._check)
        if self._quiet:
            yield counter
        elif self._bars:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[failures]}"),
            )
            with Progress(*columns, console=self._console, transient=False) as bars:
                task = bars.add_task(f"{name} ({unit})", total=total, failures="")
                counter.show = lambda: bars.update(task, completed=counter.seen, failures=counter.failures())
                yield counter
        else:
            counter.show = lambda: self._line(counter)
            self.say(f"{name}: {total:,} {unit} to do", **counter.facts())
            yield counter

    def _line(self, counter: "Counter") -> None:
        now = time.monotonic()
        if counter.seen < counter.total and now - counter.shown_at < _PLAIN_EVERY_SEC:
            return
        counter.shown_at = now
        spent = counter.seconds()
        rate = counter.seen / spent if spent > 0 else 0.0
        left = (counter.total - counter.seen) / rate if rate else float("inf")
        self.say(
            f"{counter.name}: {counter.seen:,} of {counter.total:,} {counter.unit}, {rate:,.1f}/s, "
            f"{format_seconds(left)} left{counter.failures(', ')}",
            **counter.facts(),
        )


class Counter:
    """Adds up outcomes as blocks come in; called with rows by outcome (`ok` or a kind of failure)."""

    def __init__(self, name: str, total: int, unit: str, check: Callable[[], None] = _go_on) -> None:
        self._check = check
        self.name, self.total, self.unit = name, total, unit
        self.outcomes: dict[str, int] = {}
        self.started = self.shown_at = time.monotonic()
        self.show = lambda: None

    @property
    def seen(self) -> int:
        return sum(self.outcomes.values())

    def seconds(self) -> float:
        """Since the stage began."""
        return time.monotonic() - self.started

    def __call__(self, counts: Mapping[str, int]) -> None:
        self._check()
        for name, count in counts.items():
            self.outcomes[name] = self.outcomes.get(name, 0) + count
        self.show()

    def facts(self) -> dict[str, Any]:
        """The same for machines."""
        spent = self.seconds()
        told = logs.progress(self.outcomes, rows=self.seen, rate=self.seen / spent if spent > 0 else 0.0)
        return {**told, "total": self.total, "unit": self.unit}

    def failures(self, before: str = "") -> str:
        shown = [f"{count:,} {name}" for name, count in sorted(self.outcomes.items()) if name != "ok" and count]
        return before + ", ".join(shown) if shown else ""


def format_seconds(seconds: float) -> str:
    """``90`` -> ``1m30s``."""
    if seconds == float("inf"):
        return "unknown"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
