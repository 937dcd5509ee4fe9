"""The random models of models.py, made once a session, and the services' stubs, one a test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seewhy import vlm
from tests.vlm.gemini_stub import Stub
from tests.vlm.models import MAKERS, wide_llava
from tests.vlm.services import SERVICES


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name in MAKERS, or ``wide_llava`` -> a folder that ``from_pretrained`` loads. Do not write into it."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")

    def get(name: str) -> Path:
        if not (root / name).exists():
            (MAKERS | {"wide_llava": wide_llava})[name](root / name)
        return root / name

    return get


@pytest.fixture
def stub(name: str) -> Iterator[Stub]:
    """That of the service `name`, which a module says."""
    stub = SERVICES[name].start()
    yield stub
    stub.close()


@pytest.fixture
def made(name: str, stub: Stub) -> Iterator[Callable[..., Any]]:
    """Makes backends that ask the stub, and closes them."""
    backends = []

    def make(**options: Any) -> Any:
        given = {**SERVICES[name].options(stub.url), "backoff_sec": 0.01, "tries": 3}
        backends.append(vlm.load(name, **{**given, **options}))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()
