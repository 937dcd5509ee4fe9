"""The batch service is a server on the loopback that reads and writes files in an emulated bucket."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from seewhy.steps import batch
from tests.batch.home import Home
from tests.vlm.batch_stub import BatchStub, batch_stub
from tests.vlm.gemini_stub import Stub


@pytest.fixture
def servers() -> Iterator[tuple[Stub, BatchStub]]:
    stub, batches = batch_stub()
    yield stub, batches
    stub.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "POLL_SEC", 0.01)
    monkeypatch.setattr(batch, "SETTLE_SEC", 0.05)


@pytest.fixture
def home(tmp_path: Path, bucket: str, servers: tuple[Stub, BatchStub]) -> Home:
    return Home(tmp_path, bucket, servers[0])
