"""Whether a service refuses by chance: calls that it would refuse at any rate, as one does whose capacity is shared by
all its customers. To ask less then helps nobody, and who asks less at each refusal ends at one call for each.

A trial settles it: where a refusal would make the rate fall, it rises by half instead, for a window. If there is a
limit, one call in three is refused now, or all once a minute's worth is used up; if not, as few as before. That costs a
handful of refusals where there is a limit, so each trial that finds one makes the next wait for twice as many.

What is refused by chance is borne with as long as it is about that share. More, or less, is found by one-sided
cumulative sums (Page 1954, doi:10.1093/biomet/41.1-2.100).
"""

from dataclasses import dataclass

_FIRST, _MOST = 4, 32
"""Refusals from which on there is a trial: the first one, and any after trials that found a limit."""
_HIGHER, _REACHED = 1.5, 1.3
"""The rate on trial, of what the service took before, and the one that callers must have made use of."""
_WINDOWS, _CALLS = 1.05, 20
"""How long a trial lasts, at least: a limit by the calendar shows when a minute ends."""
_SOME, _SHARE = 2, 0.1
"""Refusals that show a limit: so many, and this share of the calls of the trial."""
_RUN, _OF_RUN = 6, 3
"""Calls started one after another, and how many refused among them show one too."""
_LARGEST = 0.15
"""Share of refusals that can be chance."""
_BORNE, _BESIDE = 2.0, 0.01
"""Share of refusals from which on they are too many, if that goes on: so many times what is by chance, and so much."""
_GONE = 0.5
"""Share under which they are too few, of what is by chance."""
_TOO_MANY, _TOO_FEW = 5.0, 10.0
"""Refusals: how far the sums of what is too many and too few may rise."""


@dataclass(frozen=True)
class Verdict:
    """What a trial showed.

    Attributes:
        taken: calls a window that the service took before it.
        limit: whether it has a limit, or callers made too little use of the higher rate to tell.
    """

    taken: float
    limit: bool


class _Trial:
    """A higher rate, and what became of the calls that started since."""

    def __init__(self, taken: float, now: float) -> None:
        self.taken = taken
        self._since_sec = now
        self._place: dict[str, int] = {}  # of a call, by start
        self._refused: list[bool] = []  # by place
        self._count = 0
        self._run = False

    def started(self, call: str) -> None:
        self._place[call] = len(self._refused)
        self._refused.append(False)

    def refused(self, call: str) -> None:
        if (place := self._place.get(call)) is not None:
            self._refused[place] = True
            self._count += 1
            firsts = range(max(0, place - _RUN + 1), place + 1)
            self._run |= any(sum(self._refused[first : first + _RUN]) >= _OF_RUN for first in firsts)

    def verdict(self, now: float, window_sec: float) -> Verdict | None:
        calls = len(self._refused)
        if self._run or self._count >= _SOME + _SHARE * calls:
            return Verdict(self.taken, limit=True)
        windows = (now - self._since_sec) / window_sec
        if windows < _WINDOWS or calls < _CALLS:
            return None
        return Verdict(self.taken, limit=calls < _REACHED * self.taken * windows)


class Chance:
    """What is known of refusals by chance.

    Args:
        window_sec: seconds that rates are for.

    Attributes:
        share: of calls that are refused at any rate; 0.0 where none is known.
    """

    def __init__(self, *, window_sec: float) -> None:
        self._window_sec = window_sec
        self.share = 0.0
        self._trial: _Trial | None = None
        self._after = _FIRST
        self._start_over()

    def _start_over(self) -> None:
        self._too_many = self._too_few = 0.0
        self._calls = self._refused = self._telling = 0

    @property
    def on_trial(self) -> bool:
        """Whether a trial is under way: the rate is to stay as it is."""
        return self._trial is not None

    def started(self, call: str) -> None:
        if self._trial is not None:
            self._trial.started(call)

    def ended(self, call: str, *, refused: bool) -> None:
        self._calls += 1
        self._refused += refused
        if self._trial is not None and refused:
            self._trial.refused(call)
        if self.share:
            self._too_many = max(0.0, self._too_many + refused - _BORNE * self.share - _BESIDE)
            self._too_few = max(0.0, self._too_few - refused + _GONE * self.share)
            if self._too_few > _TOO_FEW:
                self.share = 0.0

    def bears(self) -> bool:
        """Whether a refusal, counted as ended, says nothing about a limit: by chance, or on a trial that goes on."""
        if self._trial is not None:
            return True
        if not self.share:
            return False
        if self._too_many <= _TOO_MANY:
            return True
        self._too_many = 0.0
        return False

    def tries(self, taken: float, now: float) -> float | None:
        """The rate of a trial, calls a window, that begins now; None where this refusal does not set one off.

        Args:
            taken: calls that the service took in the window before the refusal, which may say something about a limit.
        """
        self._telling += 1
        if self._telling < self._after:
            return None
        self._trial = _Trial(max(1.0, taken), now)
        return _HIGHER * self._trial.taken

    def verdict(self, now: float) -> Verdict | None:
        """What a trial showed that is over now; None where none is. Without a limit, ``share`` is set."""
        verdict = None if self._trial is None else self._trial.verdict(now, self._window_sec)
        if verdict is None:
            return None
        if verdict.limit:
            self._after = min(2 * self._after, _MOST)
        else:
            self.share, self._after = min(_LARGEST, self._refused / self._calls), _FIRST
        self._start_over()
        self._trial = None
        return verdict
