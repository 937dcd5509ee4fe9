"""An epoch's state as safetensors and JSON: nothing is pickled, so nothing read back can run code."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

STATE = "state.json"
"""Written last: a folder that has it is a whole checkpoint."""


@dataclass(frozen=True)
class Progress:
    """How far training has come, and the best epoch so far.

    Attributes:
        epoch: epochs done.
        history: one row an epoch.
        best_epoch: 0 before the first.
        best_score: of that epoch, lower is better.
        best_weights: that epoch's state_dict, copied to the CPU.
        best_outputs: (N, K) float32 of the validation rows.
    """

    epoch: int = 0
    history: tuple[dict[str, float], ...] = ()
    best_epoch: int = 0
    best_score: float = float("inf")
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    best_outputs: np.ndarray | None = field(default=None, repr=False)

    def next(self, epoch: int, row: dict[str, float]) -> "Progress":
        return replace(self, epoch=epoch, history=(*self.history, row))

    def with_best(self, epoch: int, score: float, model: nn.Module, outputs: np.ndarray) -> "Progress":
        return replace(self, best_epoch=epoch, best_score=score, best_weights=_weights(model), best_outputs=outputs)

    def facts(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "history": list(self.history),
        }


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    # clone: tied tensors share memory, which safetensors refuses, and training goes on in place
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}


def save_checkpoint(folder: Path, progress: Progress, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Everything but STATE, which whoever owns the folder writes when the rest has arrived."""
    best_is_last = progress.best_epoch == progress.epoch
    save_file(progress.best_weights if best_is_last else _weights(model), folder / "weights.safetensors")
    if not best_is_last:
        save_file(progress.best_weights, folder / "best.safetensors")
    moments = {
        f"{index}/{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    save_file(moments, folder / "optimizer.safetensors")
    save_file({"outputs": torch.from_numpy(progress.best_outputs)}, folder / "outputs.safetensors")


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Sets `model` and `optimizer` to the state in `folder` and returns how far it had come."""
    facts = json.loads((folder / STATE).read_text())
    weights = load_file(folder / "weights.safetensors")
    model.load_state_dict(weights)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(folder / "optimizer.safetensors").items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = _laid_out_as(parameters[int(index)], value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    best_is_last = facts["best_epoch"] == facts["epoch"]
    return Progress(
        epoch=facts["epoch"],
        history=tuple(facts["history"]),
        best_epoch=facts["best_epoch"],
        best_score=facts["best_score"],
        best_weights=weights if best_is_last else load_file(folder / "best.safetensors"),
        best_outputs=load_file(folder / "outputs.safetensors")["outputs"].numpy(),
    )


def _laid_out_as(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The moments of a channels-last parameter in its order of bytes: AdamW's fused step takes both as they lie."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device="cpu").copy_(value)
