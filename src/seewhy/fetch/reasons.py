"""Why something was not fetched: the exception that carries a Failure, and what a status or a header says."""

import re
import time
from email.utils import parsedate_to_datetime

from seewhy.failure import BAD_INPUT, TRANSIENT, Failure

TRANSIENT_STATUS = (408, 425, 429)
"""Beside all of 500 and above: request time-out, too early, too many requests."""


class NotFetched(Exception):
    """Ends a try. `retry_after_sec` is what the server asked for, or None."""

    def __init__(self, kind: str, reason: str, detail: str, *, retry_after_sec: float | None = None) -> None:
        super().__init__(reason)
        self.failure = Failure(kind, reason, detail)
        self.retry_after_sec = retry_after_sec

    @classmethod
    def of(cls, failure: Failure, *, retry_after_sec: float | None = None) -> "NotFetched":
        return cls(failure.kind, failure.reason, failure.detail, retry_after_sec=retry_after_sec)


def by_status(status: int) -> Failure:
    """The failure that an HTTP status other than 2xx stands for."""
    transient = status >= 500 or status in TRANSIENT_STATUS
    return Failure(TRANSIENT if transient else BAD_INPUT, f"http_{status}", f"the server answered {status}")


def retry_after_sec(header: str | None) -> float | None:
    """Seconds to wait from now: RFC 9110's number of seconds (fractions too) or date. None: it says nothing."""
    if header is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}(\.\d+)?\s*", header):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
