"""The file that says what a study has spent on services, never less."""

import uuid
from datetime import UTC, datetime
from typing import Any

from seewhy.failure import Fatal
from seewhy.hiding import shown
from seewhy.storage import read_json, write_json

_STEPS = 100
"""The file is written ahead by a hundredth of the budget: what a desk that dies can lose of it."""
_STEP_USD = 1.0
"""And by so much where there is no budget."""


class Ledger:
    """Written ahead of spending, and put right when nothing is under way.

    A write whose answer was lost is made again, and the lost one may land after later ones: what stands in the file
    then is known by its number, and written over.

    A desk of another cluster may write to the same file: ask `heard_usd` before each write, so that neither forgets
    what the other has spent. Two that write in the same moment may.

    Args:
        url: of the file; made at the first write.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._name = uuid.uuid4().hex
        self._writes = 0
        self.at_most_usd = spent_at_most_usd(url)

    def cover(self, needed_usd: float, cap_usd: float) -> None:
        """Makes the file say at least so much; ahead of that, no more than the cap."""
        if needed_usd > self.at_most_usd:
            ahead = _STEP_USD if cap_usd == float("inf") else cap_usd / _STEPS
            self._write(max(needed_usd, min(cap_usd, needed_usd + ahead)))

    def heard_usd(self) -> float:
        """What others have written down since this was last read or written here; below 0 where they put it right."""
        found, before = _read(self._url), self.at_most_usd
        if found.get("by") == self._name and found.get("write") != self._writes:
            self._write(before)
            return 0.0
        self.at_most_usd = found["at_most_usd"]
        return self.at_most_usd - before

    def settle(self, spent_usd: float) -> None:
        """Makes the file say just this."""
        if spent_usd != self.at_most_usd:
            self._write(spent_usd)

    def _write(self, at_most_usd: float) -> None:
        self._writes += 1
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self._url, {"at_most_usd": at_most_usd, "as_of": now, "by": self._name, "write": self._writes})
        self.at_most_usd = at_most_usd


def spent_at_most_usd(url: str) -> float:
    """What a ledger says; 0 where there is none yet. Raises Fatal for a file that is none."""
    return float(_read(url)["at_most_usd"])


def _read(url: str) -> dict[str, Any]:
    try:
        found = read_json(url)
        return {"at_most_usd": 0.0} if found is None else {**found, "at_most_usd": float(found["at_most_usd"])}
    except (ValueError, KeyError, TypeError) as error:
        raise Fatal(
            f"{shown(url)}, which should say what was spent, is no ledger ({error}): put it right, as in "
            '{"at_most_usd": 12.5}, or delete it to count from 0'
        ) from error


def add_spent(url: str, usd: float) -> None:
    """Adds to what a ledger says, or takes back of it: for calls that no desk knows of. Raises Fatal as above."""
    ledger = Ledger(url)
    ledger.settle(max(0.0, ledger.at_most_usd + usd))
