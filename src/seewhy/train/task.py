"""What the training loop is told of texts or of images: data, model and loss of one fold."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

Batch = dict[str, torch.Tensor]
MakeBatch = Callable[[np.ndarray], Batch]


class Task(Protocol):
    """Data, model and loss of one fold. Rows are positions, 0 to N-1, within the training or the validation rows.

    Attributes:
        identity: hash of everything that changes the result, apart from the recipe.
        valid_rows: number of validation rows.
        width: K, outputs per row.
        select_by: the score, lower is better, that tells the best epoch.
    """

    identity: str
    valid_rows: int
    width: int
    select_by: str

    def build_model(self) -> nn.Module:
        """A fresh model on the CPU; called with torch seeded."""

    def new_parameters(self, model: nn.Module) -> Collection[str]:
        """Names of the parameters that were drawn while others were pretrained."""

    def train_plan(self, epoch: int) -> list[np.ndarray]:
        """Training rows of each batch, equal for equal `epoch`; as many batches in every epoch."""

    def train_batches(self, epoch: int, plan: list[np.ndarray]) -> MakeBatch:
        """What makes CPU tensors of training rows; called from threads, so it draws no global random numbers.

        Args:
            plan: this process' share of each batch of `train_plan(epoch)`: what will be asked for, in about this order.
        """

    def valid_plan(self) -> list[np.ndarray]:
        """Validation rows of each batch; every row once."""

    def valid_batches(self, plan: list[np.ndarray]) -> MakeBatch:
        """As `train_batches`, for this process' share of the batches of `valid_plan`."""

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B,) loss of each row."""

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B, K) what the model says of each row."""

    def score(self, outputs: np.ndarray) -> dict[str, float]:
        """Scores of the (N, K) validation outputs, `select_by` among them."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes the model so that it can be loaded without this task."""
