"""The library grad-cam, which maps are held against. It imports torchvision, but needs none of it here."""

import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

HOW = "grad-cam is not installed: pip install --no-deps grad-cam ttach opencv-python-headless"


def library() -> Any:
    """The module `pytorch_grad_cam`. Raises ImportError where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _stand_ins():
            import pytorch_grad_cam

            return pytorch_grad_cam


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Modules in the place of torchvision's, gone when the import is done: others ask whether it is there."""
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    if "pytorch_grad_cam" in sys.modules or "torchvision" in sys.modules:
        yield
        return
    made = {name: types.ModuleType(name) for name in names}
    for name, module in made.items():
        vars(module).update(dict.fromkeys(("Compose", "Normalize", "ToTensor", "resize")))
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(made[parent], child, module)
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


class Logits(nn.Module):
    """A model of transformers as the library calls one."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.inner(pixels).logits
