"""Trainings whose workers are killed in mid-epoch go on from the last epoch, on the same folds, to the same end."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seewhy import storage
from seewhy.train.image import train_image
from seewhy.train.text import train_text
from tests.train.encoders import save_tiny_bert
from tests.train.image_models import noisy, save_model, save_photos

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]

EPOCHS, FOLDS = 12, 2
BEFORE = 3
"""Epochs that every fold has behind it when its worker is killed."""
History = list[dict[str, float]]


@dataclass
class Killed:
    """Attributes:
    pids: of the workers that were killed, all in one moment.
    histories: of each fold, its epochs that were told by then, with the seconds that each took.
    """

    pids: list[int] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)


def histories(out: Path, name: str = "history.json") -> list[History]:
    """Of the folds in their order, as far as they are told."""
    found = [storage.read_json(str(path / name)) or [] for path in sorted(out.glob("fold-*"))]
    return [one["history"] if isinstance(one, dict) else one for one in found]


def training_workers() -> list[int]:
    """Processes of this one's cluster that train a fold."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if (folder / "cmdline").read_bytes().startswith(b"ray::_fold_alone") and _is_below(int(folder.name)):
                    found.append(int(folder.name))
    return found


def _is_below(pid: int) -> bool:
    while pid not in (0, 1, os.getpid()):
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return pid == os.getpid()


@contextlib.contextmanager
def killing(out: Path) -> Iterator[Killed]:
    """Kills the workers of all folds in the middle of an epoch, once."""
    killed, stopped = Killed(), threading.Event()

    def watch() -> None:
        while not stopped.wait(0.005):
            told = histories(out)
            if len(told) == FOLDS and min(map(len, told)) >= BEFORE:
                time.sleep(min(one[-1]["seconds"] for one in told) / 2)
                pids = training_workers()
                killed.histories = histories(out)
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                killed.pids = pids
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        stopped.set()
        thread.join()


def assert_goes_on(train: Callable[..., Any], folder: Path, record_property: Callable[[str, object], None]) -> None:
    started = time.monotonic()
    whole = train(out=str(folder / "whole"))
    undisturbed = time.monotonic() - started
    started = time.monotonic()
    with killing(folder / "killed") as killed:
        found = train(out=str(folder / "killed"))
    seconds = time.monotonic() - started

    assert len(killed.pids) == FOLDS
    ended = histories(folder / "killed", "done.json")
    for before, after in zip(killed.histories, ended, strict=True):
        assert BEFORE <= len(before) < EPOCHS, "the training was over before the kill"
        assert after[: len(before)] == before  # with the seconds that they took then: none was done again
        assert [row["epoch"] for row in after] == list(range(1, EPOCHS + 1))
    assert found.predictions["fold"].equals(whole.predictions["fold"])
    assert found.predictions.equals(whole.predictions)
    assert found.scores.equals(whole.scores)
    told = {
        "epochs at the kill": [len(one) for one in killed.histories],
        "epochs": [len(one) for one in ended],
        "seconds": round(seconds, 1),
        "undisturbed": round(undisturbed, 1),
    }
    record_property("told", told)
    print(told)


OPTIONS: dict[str, Any] = {
    "kind": "regression", "epochs": EPOCHS, "folds": FOLDS, "launcher": "task", "cpus_per_worker": 1,
    "gpus_per_worker": 0, "max_failures": 1, "resamples": 50,
}  # fmt: skip


def test_texts(ray_cluster: None, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    bert = save_tiny_bert(tmp_path / "bert")
    texts = [f"a {'dark' if i % 2 else 'bright'} scene with {'people ' * (i % 40)}" for i in range(400)]
    columns = {"row": range(400), "id": [f"{i:032x}" for i in range(400)], "text": texts}
    table = pa.table({**columns, "target": [float(i % 2 + i % 7) for i in range(400)]})

    def train(out: str) -> Any:
        return train_text(table, out=out, encoder=bert, batch_size=4, learning_rate=3e-3, **OPTIONS)

    assert_goes_on(train, tmp_path, record_property)


def test_images(ray_cluster: None, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    images = [noisy((40, 40, 110) if i % 2 else (220, 210, 130), i) for i in range(60)]
    photos, model = save_photos(tmp_path, images), save_model(tmp_path / "resnet")
    table = photos.with_targets([float(i % 2 + i % 7) for i in range(60)])

    def train(out: str) -> Any:
        options = {"batch_size": 4, "learning_rate": 1e-2, "scratch": True, **OPTIONS}
        return train_image(table, parts=photos.parts, out=out, model=model, **options)

    assert_goes_on(train, tmp_path, record_property)
