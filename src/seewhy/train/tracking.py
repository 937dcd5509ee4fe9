"""What a run looks like while it trains, sent to a tracker: one tracker's run a fold, no tracker by default."""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from seewhy.failure import Fatal

TRACKERS = ("wandb",)


class Tracker(Protocol):
    def log(self, values: Mapping[str, float]) -> None:
        """One row. A row with `step` is of a step, a row with `epoch` of an epoch."""


@dataclass(frozen=True)
class Tracking:
    """Which tracker, and how the runs are called.

    Attributes:
        tracker: one of TRACKERS.
        project: the tracker's project.
        group: what the folds of one training share.
        mode: ``online``, ``offline`` or ``disabled``; None leaves it to the tracker's own settings.
        folder: local folder for the tracker's files; None is the tracker's choice.
        config: hyperparameters to show. Never credentials: the tracker finds those by itself.
    """

    tracker: str
    project: str = "seewhy"
    group: str = ""
    mode: str | None = None
    folder: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tracker not in TRACKERS:
            raise ValueError(f"tracking is {self.tracker!r}; allowed: {', '.join(TRACKERS)}")


def require(tracking: Tracking | None) -> None:
    """Raises Fatal where the tracker is not installed: before any work, not after the first epoch."""
    if tracking is not None and importlib.util.find_spec(tracking.tracker) is None:
        raise Fatal(f"tracking with {tracking.tracker} needs an extra: pip install 'seewhy[{tracking.tracker}]'")


@contextmanager
def open_tracker(tracking: Tracking | None, *, name: str, identity: str) -> Iterator[Tracker | None]:
    """The tracker for one fold's training, closed at the end; a resumed training goes on in its own run."""
    if tracking is None:
        yield None
        return
    require(tracking)
    import wandb

    settings = wandb.Settings(
        disable_git=True, save_code=False, console="off", x_disable_meta=True, x_disable_stats=True, silent=True
    )
    with wandb.init(
        project=tracking.project,
        group=tracking.group or None,
        name=name,
        id=identity[:16],
        resume="allow",
        job_type="train",
        mode=tracking.mode,  # type: ignore[arg-type]
        dir=tracking.folder,
        config=dict(tracking.config),
        settings=settings,
    ) as run:
        # A step's and an epoch's rows come in one stream and each has an axis of its own.
        run.define_metric("*", step_metric="epoch")
        run.define_metric("step_*", step_metric="step")
        yield _Wandb(run)


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, values: Mapping[str, float]) -> None:
        self._run.log(dict(values))
