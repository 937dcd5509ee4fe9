"""Fetch, with a decoder that crashes at bytes that hold MAGIC."""

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa

from seewhy.failure import Fatal
from seewhy.fetch import Fetch, stage
from seewhy.images import check_image
from tests.faults.dying import MOST, segfault

MAGIC = b"crashes the decoder"


class FragileFetch:
    """
    Args:
        log: folder of a file a time that it was set up.
    """

    def __init__(self, *, log: str, **arguments: Any) -> None:
        (Path(log) / uuid.uuid4().hex).touch()
        if len(list(Path(log).iterdir())) > MOST:
            raise Fatal("its process goes on dying")
        self._fetch = Fetch(**arguments)
        stage.check_image = _fragile  # of this process alone

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self._fetch(batch)


def _fragile(data: bytes, **limits: int) -> Any:
    if MAGIC in data:
        segfault()
    return check_image(data, **limits)
