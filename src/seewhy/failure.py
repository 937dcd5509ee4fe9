"""What went wrong with a row, as a value; and the one exception that stops a job.

A failure is recorded in the row that it hit and never only in a log. Its kind decides what a rerun does with the row
and is set where the error is caught, from the error's type or status, never from the text of its message.
"""

from dataclasses import dataclass

TRANSIENT = "transient"
"""Time-out, 429, 5xx: tried again on the next run."""
REJECTED = "rejected"
"""Safety block, empty answer: recorded, tried again only when asked."""
BAD_INPUT = "bad_input"
"""Not an image, too large, 404: recorded, never tried again unless its source changes."""

NOT_ASKED = "not_asked"
"""Reason of a row that something kept from being asked about, such as money that ran out: no outcome, never stored, and
the stage stops, with the row's detail as its message."""

KINDS = (TRANSIENT, REJECTED, BAD_INPUT)


@dataclass(frozen=True)
class Failure:
    """Why a row has no result.

    Attributes:
        kind: one of KINDS.
        reason: a short code in snake case that can be counted, for instance ``http_404`` or ``truncated``.
        detail: a sentence for people. May hold untrusted text: escape it wherever it is shown.
    """

    kind: str
    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"failure kind {self.kind!r} is not one of {KINDS}")


class Fatal(Exception):
    """Stops the job: no credentials, no such model, a full disk. Its message tells the user what to do about it."""
