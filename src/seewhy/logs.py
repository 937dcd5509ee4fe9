"""Logs for machines: each line one JSON object, that tells which study, stage and job it is of.

Inside a job of Ray's, or where SEEWHY_LOG is ``json``, they go to standard error, beside the lines for people, which go
to standard output then. SEEWHY_LOG=plain leaves them out. Programs beside us, such as Ray's core, may write lines of
their own there: ours begin with a brace. The driver's and the workers' have the same fields:

    time, level      of day in UTC; info, warning or error
    study, workspace its title and where it lies
    job              the submission id inside a job of Ray's, else host and process
    stage            such as caption; null where a line is of none
    message          what people are told
    rows, total, unit, rate, failures      of lines that tell of progress: rows done, of how many, a second, by kind
"""

import json
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

VARIABLE = "SEEWHY_LOG"
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Which Ray sets, by this very name, for the driver of a job that was submitted."""

_about: dict[str, Any] = {"study": None, "workspace": None}


def structured() -> bool:
    """Whether there are logs for machines in this process."""
    return os.environ.get(VARIABLE, "json" if _JOB in os.environ else "plain") == "json"


def begin(*, study: str, workspace: str) -> None:
    """From now on lines tell of this study. What libraries log and warn of becomes such lines too."""
    _about.update(study=study, workspace=workspace)
    if not structured():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())  # type: ignore[arg-type]
    for name in ("", "ray", "ray.data", "ray.train"):
        logging.getLogger(name).handlers = [handler] if not name else []
        logging.getLogger(name).propagate = True
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, trace: log(
        "error", "".join(traceback.format_exception(kind, error, trace)), None
    )


def fields(stage: str) -> dict[str, Any] | None:
    """What a worker of the stage needs so that its lines are like the driver's; None where there are to be none."""
    return {**_about, "job": _job(), "stage": stage} if structured() else None


def log(level: str, message: str, stage: str | None, **more: Any) -> None:
    """One line of this process's own."""
    write(level, message, {**_about, "job": _job(), "stage": stage}, **more)


def write(level: str, message: str, about: Mapping[str, Any], **more: Any) -> None:
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, **about}
    text = json.dumps({**line, "message": message, **more}, ensure_ascii=True, default=str)
    print(text, file=sys.stderr, flush=True)


class BlockLog:
    """A worker's: a line for every block that it committed, and one for what stopped it.

    Args:
        about: of `fields`; None for no lines.
    """

    def __init__(self, about: Mapping[str, Any] | None) -> None:
        self._about = about
        self._marked = time.monotonic()
        self._stopped: str | None = None

    def told(self, counts: Mapping[str, int], stopped: str | None) -> None:
        """Rows by outcome of a block, and why the worker does no more, where that is so."""
        if self._about is None:
            return
        now = time.monotonic()
        rows, seconds = sum(counts.values()), now - self._marked
        self._marked = now
        if rows:
            facts = progress(counts, rows=rows, rate=rows / seconds if seconds > 0 else 0.0)
            write("info", f"{rows:,} rows committed", self._about, **facts)
        if stopped is not None and stopped != self._stopped:
            write("error", stopped, self._about)
        self._stopped = stopped


def progress(outcomes: Mapping[str, int], *, rows: int, rate: float) -> dict[str, Any]:
    """The fields of a line that tells of progress, from rows by outcome: `ok` or a kind of failure."""
    failures = {kind: count for kind, count in sorted(outcomes.items()) if kind != "ok" and count}
    return {"rows": rows, "rate": round(rate, 3), "failures": failures}


class _Formatter:
    """Makes such lines of what Python's logging hands it."""

    def format(self, record: logging.LogRecord) -> str:
        level = "warning" if record.levelno >= logging.WARNING else "info"
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": "error" if record.levelno >= logging.ERROR else level,
            **_about,
            "job": _job(),
            "stage": None,
            "message": logging.Formatter().format(record),
            "logger": record.name,
        }
        return json.dumps(line, default=str)


def _job() -> str:
    return submitted_job() or f"{socket.gethostname()}-{os.getpid()}"


def submitted_job() -> str | None:
    """Id of the job of Ray's that this process is the driver of; None where it is of none that was submitted."""
    try:
        return str(json.loads(os.environ[_JOB])["metadata"]["job_submission_id"])
    except (KeyError, TypeError, ValueError):
        return None
