"""A folder put in another's place: whole or not at all, and only where nothing of anybody else's lies."""

import os
import posixpath
import re
import shutil
import uuid
from collections.abc import Collection
from contextlib import suppress

from fsspec.implementations.local import LocalFileSystem

from seewhy.attempts import explained, tried
from seewhy.failure import Fatal
from seewhy.hiding import shown
from seewhy.storage import open_fs, remove_each


def put_folder(local: str, url: str, *, marker: str, done: str) -> None:
    """Makes `url` hold just what the local folder holds: swapped in on disk, uploaded and then cleared elsewhere.

    Args:
        marker: name of a file in every folder that may be replaced; `local` holds it too.
        done: name of the file in `local` that says that all the others are there. Elsewhere than on disk the old one
            goes first and the new one comes last, so that an upload that was killed never counts as done.

    Raises:
        Fatal: something lies at `url` that is neither empty nor a folder with the marker.
    """
    fs, path = open_fs(url)
    if isinstance(fs, LocalFileSystem):
        with explained(url, "writing"):
            _refuse_foreign(url, os.listdir(path) if os.path.isdir(path) else _itself(path), marker)
            _swap_in(local, path)
        return
    root = path.strip("/") + "/"
    before = tried(url, "listing", lambda: fs.find(path))
    old = {one.lstrip("/").removeprefix(root): one for one in before if one.strip("/") + "/" != root}
    _refuse_foreign(url, old, marker)

    def put(name: str) -> None:
        tried(url, "writing", lambda: fs.put_file(os.path.join(local, name), posixpath.join(path, name)))

    if done in old:
        remove_each(url, fs, [old.pop(done)])
    found = [os.path.relpath(os.path.join(at, one), local) for at, _, files in os.walk(local) for one in files]
    names = [name.replace(os.sep, "/") for name in found]
    put(marker)  # first: what a killed upload leaves can then be replaced by the next one
    if others := [name for name in names if name not in (marker, done)]:
        here, there = ([posixpath.join(at, name) for name in others] for at in (local, path))
        tried(url, "writing", lambda: fs.put(here, there))
    if stale := [name for name in old if name not in names]:
        remove_each(url, fs, [old[name] for name in stale])
    put(done)


def _itself(path: str) -> list[str]:
    return [os.path.basename(path)] if os.path.lexists(path) else []


def _refuse_foreign(url: str, names: Collection[str], marker: str) -> None:
    if names and marker not in names:
        raise Fatal(
            f"{shown(url)} holds files that seewhy did not write, {min(names)!r} for one, and would be replaced: move "
            "them away, or choose another workspace"
        )


def _swap_in(local: str, path: str) -> None:
    fresh, old = f"{path}.{uuid.uuid4().hex}.new", f"{path}.{uuid.uuid4().hex}.old"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _clear_away(path)
    try:
        _copy_tree(local, fresh)
        if os.path.exists(path):
            os.rename(path, old)
        try:
            os.rename(fresh, path)
        except BaseException:
            with suppress(OSError):
                os.rename(old, path)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _clear_away(path: str) -> None:
    """What a process left that was killed while it swapped."""
    above, name = os.path.split(path)
    left = re.compile(re.escape(name) + r"\.[0-9a-f]{32}\.(new|old)")
    for one in os.listdir(above):
        if left.fullmatch(one):
            shutil.rmtree(os.path.join(above, one), ignore_errors=True)


def _copy_tree(local: str, fresh: str) -> None:
    """shutil's would go on after a disk is full, and not say that it was."""
    for at, _, files in os.walk(local):
        into = os.path.join(fresh, os.path.relpath(at, local))
        os.makedirs(into)
        for name in files:
            shutil.copy2(os.path.join(at, name), os.path.join(into, name))
