"""The random models of models.py, made once a session."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.vlm.models import MAKERS


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name in MAKERS -> a folder that ``from_pretrained`` loads. Do not write into it."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")

    def get(name: str) -> Path:
        if not (root / name).exists():
            MAKERS[name](root / name)
        return root / name

    return get
