"""A task that is no text: numbers in, a number out, by a small net with dropout. It can kill its own process once."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from seewhy.train.task import Batch, MakeBatch

ROWS, FOLDS = 96, 3


@dataclass(frozen=True)
class ToyFolds:
    """Attributes:
    log: folder in which each epoch that is begun leaves a file, so that a test can count work that was done twice.
    kill_epoch: the first process that reaches its middle kills itself, for each fold in `kill_folds` once.
    """

    dropout: float = 0.2
    batch_size: int = 16
    log: str | None = None
    kill_epoch: int = 0
    kill_folds: tuple[int, ...] = ()
    sleep_sec: float = 0.0
    x: np.ndarray = field(default_factory=lambda: np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32))

    def __call__(self, fold: int) -> "ToyTask":
        return ToyTask(self, fold)


class ToyTask:
    select_by = "rmse"
    width = 1

    def __init__(self, shared: ToyFolds, fold: int) -> None:
        self.shared, self.fold = shared, fold
        self.y = (shared.x @ np.array([1.0, -2.0, 0.5, 0.0]) + 3).astype(np.float32)
        self.train = np.flatnonzero(np.arange(ROWS) % FOLDS != fold)
        self.valid = np.flatnonzero(np.arange(ROWS) % FOLDS == fold)
        self.valid_rows = len(self.valid)
        self.identity = f"toy {fold} {shared.dropout} {shared.batch_size}"
        self.epoch = 0

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(self.shared.dropout), nn.Linear(8, 1))

    def new_parameters(self, model: nn.Module) -> list[str]:
        return ["3.weight", "3.bias"]

    def train_plan(self, epoch: int) -> list[np.ndarray]:
        self.epoch, self.steps = epoch + 1, 0
        order = np.random.default_rng(epoch).permutation(len(self.train))
        return np.array_split(order, -(-len(order) // self.shared.batch_size))

    def train_batches(self, epoch: int, plan: list[np.ndarray]) -> MakeBatch:
        return self.train_batch

    def train_batch(self, rows: np.ndarray) -> Batch:
        picked = self.train[rows]
        return {"x": torch.from_numpy(self.shared.x[picked]), "y": torch.from_numpy(self.y[picked])}

    def valid_plan(self) -> list[np.ndarray]:
        return np.array_split(np.arange(self.valid_rows)[::-1], 3)

    def valid_batches(self, plan: list[np.ndarray]) -> MakeBatch:
        return lambda rows: {"x": torch.from_numpy(self.shared.x[self.valid[rows]])}

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        self.steps += 1
        if self.shared.log and self.steps == 1:
            (Path(self.shared.log) / f"fold{self.fold}-epoch{self.epoch}-{time.monotonic_ns()}").touch()
        self._perhaps_die()
        time.sleep(self.shared.sleep_sec)
        return (model(batch["x"])[:, 0] - batch["y"]) ** 2

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return model(batch["x"])

    def score(self, outputs: np.ndarray) -> dict[str, float]:
        return {"rmse": float(np.sqrt(((outputs[:, 0] - self.y[self.valid]) ** 2).mean()))}

    def save(self, model: nn.Module, folder: Path) -> None:
        save_file(model.state_dict(), folder / "toy.safetensors")

    def load(self, folder: str) -> nn.Module:
        model = self.build_model()
        model.load_state_dict(load_file(Path(folder) / "toy.safetensors"))
        return model.eval()

    def _perhaps_die(self) -> None:
        if self.fold not in self.shared.kill_folds or self.epoch != self.shared.kill_epoch or self.steps < 3:
            return
        marker = Path(self.shared.log or "") / f"killed-{self.fold}"
        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def epochs_begun(log: Path, fold: int) -> list[int]:
    """Epochs in the order in which they were begun."""
    names = [path.name for path in log.iterdir() if path.name.startswith(f"fold{fold}-")]
    names.sort(key=lambda name: int(name.rsplit("-", 1)[1]))
    return [int(name.split("-")[1].removeprefix("epoch")) for name in names]
