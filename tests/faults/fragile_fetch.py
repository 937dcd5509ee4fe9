"""Fetch, with a decoder that crashes at bytes that hold MAGIC."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from seewhy.fetch import Fetch, stage
from seewhy.images import check_image
from tests.faults.dying import begin_life, segfault

MAGIC = b"crashes the decoder"


class FragileFetch:
    """
    Args:
        log, lives: see `begin_life`.
    """

    def __init__(self, *, log: str, lives: int, **arguments: Any) -> None:
        begin_life(Path(log), lives)
        self._fetch = Fetch(**arguments)
        stage.check_image = _fragile  # of this process alone

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self._fetch(batch)


def _fragile(data: bytes, **limits: int) -> Any:
    if MAGIC in data:
        segfault()
    return check_image(data, **limits)
