"""Trying what may fail: again where it may pass, and with what to do about it where it does not."""

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from seewhy.failure import Fatal
from seewhy.hiding import shown, told
from seewhy.urls import FOREIGN, scheme

T = TypeVar("T")

GIVE_UP_SEC = 300.0
"""After so long no new try is begun: an outage of minutes is waited for, a longer one ends the job, to be run again."""
_FIRST_WAIT_SEC = 1.0
_LONGEST_WAIT_SEC = 30.0
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}

_log = logging.getLogger(__name__)


@contextmanager
def explained(url: str, doing: str) -> Iterator[None]:
    """Around what may fail: `doing` is what it does, such as writing.

    Raises:
        Fatal: no space, or no permission; anything else comes as itself.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in _NO_SPACE:
            raise Fatal(f"no space left while {doing} {shown(url)}: free some or choose another workspace") from error
        if number in _NOT_WRITABLE or isinstance(error, PermissionError) or _is_refused(error):
            why = getattr(error, "strerror", None) or told(error, url).strip()[:300]
            raise Fatal(f"not allowed while {doing} {shown(url)}: {why}") from error
        raise


def _is_refused(error: Exception) -> bool:
    """gcsfs tells a 401 by a code, and a 403 by nothing but the first word of an OSError without a number."""
    without_number = isinstance(error, OSError) and error.errno is None
    return getattr(error, "code", None) in (401, 403) or (without_number and str(error).startswith("Forbidden"))


def may_pass(error: Exception) -> bool:
    """Whether the same request may do later, by the error's type or status: what gcsfs tries again, and time-outs."""
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    from gcsfs.retry import is_retriable

    return bool(is_retriable(error))


def tried(url: str, doing: str, act: Callable[[], T]) -> T:
    """What `act` returns, which must do no harm when it is done again after an answer that was lost.

    gcsfs tries each of its requests six times, within half a minute, after 408, 429, 5xx and broken connections, and
    not at all after a time-out. This goes on for GIVE_UP_SEC, on any file system that is reached by a network.

    Raises:
        Fatal: it never worked; or no space, or no permission. What is no fault of the network's comes as itself.
    """
    began, wait = time.monotonic(), _FIRST_WAIT_SEC
    while True:
        try:
            with explained(url, doing):
                return act()
        except Exception as error:
            if isinstance(error, Fatal) or scheme(url) in ("file", *FOREIGN) or not may_pass(error):
                raise
            why, tried_sec = told(error, url).strip()[:300] or type(error).__name__, time.monotonic() - began
            if tried_sec + wait > GIVE_UP_SEC:
                raise Fatal(
                    f"{doing} {shown(url)} failed again and again for {tried_sec:.0f} s, the last time by: {why}. "
                    "What was written before is whole: run again to go on from there"
                ) from error
            _log.warning("%s %s failed (%s), and is tried again", doing, shown(url), why)
        time.sleep(wait * random.uniform(0.5, 1.0))  # so that a cluster's workers do not come back all at once
        wait = min(2 * wait, _LONGEST_WAIT_SEC)
