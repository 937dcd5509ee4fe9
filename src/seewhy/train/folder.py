"""Where a fold's training lives: its checkpoints while it runs, then its model, outputs and completion mark.

    fold-0-<identity>/
        epoch-0003/         the last whole checkpoint
        history.json        one row an epoch, for whoever watches
        model/              of the best epoch
        outputs.safetensors (N, K) of the validation rows
        done.json           written last: the fold is finished

Any fsspec URL. Files are written whole and never renamed, so that object stores serve as well as disks.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from fsspec.implementations.local import LocalFileSystem
from safetensors.numpy import load, save

from seewhy import storage, urls
from seewhy.train.checkpoint import STATE


class Checkpoints(Protocol):
    def latest(self) -> AbstractContextManager[Path | None]:
        """A local folder with the last whole checkpoint, or None."""

    def commit(self, epoch: int, facts: dict[str, Any], write: Callable[[Path], None] | None) -> None:
        """Keeps a checkpoint: `write` fills a local folder (None on all processes but the first)."""


@dataclass(frozen=True)
class FoldResult:
    """Attributes:
    best_epoch: the epoch whose model was kept, from 1.
    history: one row an epoch.
    outputs: (N, K) float32 for the fold's validation rows, in their order.
    model: URL of the model's folder.
    """

    fold: int
    best_epoch: int
    history: list[dict[str, float]]
    outputs: np.ndarray
    model: str


class FoldFolder:
    """One fold of one training in the folder `out`; another `identity` is another folder."""

    def __init__(self, out: str, fold: int, identity: str) -> None:
        self.fold, self.identity = fold, identity
        self.name = f"fold-{fold}-{identity[:16]}"
        self.url = urls.join(out, self.name)

    @contextmanager
    def latest(self) -> Iterator[Path | None]:
        whole = [name for name in self._epochs() if STATE in storage.list_files(urls.join(self.url, name))]
        if not whole:
            yield None
            return
        with local_copy(urls.join(self.url, whole[-1])) as path:
            yield path

    def commit(self, epoch: int, facts: dict[str, Any], write: Callable[[Path], None] | None) -> None:
        if write is None:
            return
        name = f"epoch-{epoch:04d}"
        _fill(urls.join(self.url, name), write)
        storage.write_json(urls.join(self.url, name, STATE), facts)
        self._drop_epochs(keep=name)

    def show_progress(self, history: tuple[dict[str, float], ...]) -> None:
        storage.write_json(urls.join(self.url, "history.json"), list(history))

    def progress(self) -> list[dict[str, float]]:
        return storage.read_json(urls.join(self.url, "history.json")) or []

    def finish(self, facts: dict[str, Any], outputs: np.ndarray, write_model: Callable[[Path], None]) -> None:
        _fill(urls.join(self.url, "model"), write_model)
        storage.write_whole(urls.join(self.url, "outputs.safetensors"), save({"outputs": outputs}))
        storage.write_json(urls.join(self.url, "done.json"), facts)
        self._drop_epochs(keep=None)

    def done(self) -> bool:
        return storage.read_json(urls.join(self.url, "done.json")) is not None

    def result(self) -> FoldResult:
        facts = storage.read_json(urls.join(self.url, "done.json"))
        if facts is None:
            raise FileNotFoundError(f"{self.url} has no done.json: the fold is not finished")
        return FoldResult(
            fold=self.fold,
            best_epoch=facts["best_epoch"],
            history=facts["history"],
            outputs=load(storage.read_whole(urls.join(self.url, "outputs.safetensors")))["outputs"],
            model=urls.join(self.url, "model"),
        )

    def drop(self, prefix: str, keep: str | None = None) -> None:
        """Deletes the files and folders whose names begin with `prefix`, but `keep`."""
        for name in [*storage.list_folders(self.url), *storage.list_files(self.url)]:
            if name.startswith(prefix) and name != keep:
                storage.remove_tree(urls.join(self.url, name))

    def _epochs(self) -> list[str]:
        return [name for name in storage.list_folders(self.url) if name.startswith("epoch-")]

    def _drop_epochs(self, keep: str | None) -> None:
        self.drop("epoch-", keep)


@contextmanager
def local_copy(url: str) -> Iterator[Path]:
    """A local folder with the files of `url`: the folder itself on a disk, else a copy for as long as it is needed."""
    fs, path = storage.open_fs(url)
    if isinstance(fs, LocalFileSystem):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as temporary:
        for name in storage.list_files(url):
            storage.get_file(urls.join(url, name), f"{temporary}/{name}")
        yield Path(temporary)


def _fill(url: str, write: Callable[[Path], None]) -> None:
    """Replaces the folder by what `write` puts into it.

    Raises:
        Fatal: no space for it, or no permission.
    """
    fs, path = storage.open_fs(url)
    if isinstance(fs, LocalFileSystem):
        shutil.rmtree(path, ignore_errors=True)
        try:
            with storage.filling(path):
                Path(path).mkdir(parents=True)
                write(Path(path))
        except BaseException:  # half a model on a full disk helps nobody
            shutil.rmtree(path, ignore_errors=True)
            raise
        return
    with storage.filling(tempfile.gettempdir()), tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary))
        for file in sorted(Path(temporary).iterdir()):
            storage.put_file(str(file), urls.join(url, file.name))
