"""A folder that appears whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = "seewhy-report.json"
"""Stands in every report's folder. Only a folder that holds it is ever replaced."""


@contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """Yields an empty folder beside `out` to write into; on success it takes the place of `out`.

    On an exception `out` stays as it was. The swap is two renames, so a reader sees the old folder, for an instant
    none, then the new one, and never a mixture.

    Raises:
        ValueError: `out` is a file, or a folder with something in it that is not a report.
    """
    check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new-"))
    try:
        # mkdtemp makes a private folder; a report is to be read by whoever may read its neighbours.
        umask = os.umask(0)
        os.umask(umask)
        fresh.chmod(0o777 & ~umask)
        yield fresh
        (fresh / MARKER).stat()
        _swap(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ValueError(f"{str(out)!r} is not a folder: give a new folder, or one that holds an earlier report")
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise ValueError(f"{str(out)!r} holds files that are no report: give a new folder, or an earlier report's")


def _swap(fresh: Path, out: Path) -> None:
    if not out.exists():
        os.rename(fresh, out)
        return
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old-"))
    os.rename(out, old / out.name)
    try:
        os.rename(fresh, out)
    except OSError:
        os.rename(old / out.name, out)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
