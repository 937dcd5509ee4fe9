"""Files at any fsspec URL: whole-object writes, fresh listings, storage errors that say what to do."""

import errno
import json
import logging
import os
import posixpath
import random
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeVar

# gcsfs probes the bucket's type over gRPC at first use unless told not to; must be set before gcsfs is imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

import fsspec
from fsspec.implementations.local import LocalFileSystem

from seewhy.failure import Fatal
from seewhy.hiding import shown, told

T = TypeVar("T")

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}

GIVE_UP_SEC = 300.0
"""After so long no new try is begun: an outage of minutes is waited for, a longer one ends the job, to be run again."""
_FIRST_WAIT_SEC = 1.0
_LONGEST_WAIT_SEC = 30.0
_SILENCE_SEC = 60.0
"""gcsfs would wait five minutes for an answer that does not come, and then not ask again."""
_LONGEST_REQUEST_SEC = 900.0
_AT_ONCE = 16
"""Requests, where many files are deleted."""
_PROBE_BYTES = 1 << 20
_GOOGLE = ("gs", "gcs")
_FOREIGN = ("http", "https")
"""Other people's servers: manifests are read from them, nothing is kept there; a wrong name must be told at once."""

_log = logging.getLogger(__name__)


def scheme(url: str) -> str:
    """``gs`` for ``gs://bucket/x``; ``file`` for paths without a scheme, and for ``local``, as fsspec calls it too.

    Of chained ones all but the last URL's path: ``simplecache::gs`` for ``simplecache::gs://bucket/x``.
    """
    named = url.split("://", 1)[0].lower() if "://" in url else "file"
    return "file" if named == "local" else named


def local_path(url: str) -> str:
    """The path that a URL of the scheme ``file`` names; a path is one already."""
    return url.partition("://")[2] if "://" in url else url


def is_chained(url: str) -> bool:
    """Whether fsspec would reach it through one file system in another, as in ``zip://a.png::gs://bucket/x.zip``."""
    return "::" in url and scheme(url) != "file"


def join(folder: str, *names: str) -> str:
    return posixpath.join(folder.rstrip("/") or "/", *names)


def without_query(url: str) -> str:
    """A URL up to its path's end; all of paths and of gs:// URLs, in which a question mark is part of a name."""
    return url if scheme(url) in ("file", *_GOOGLE) else re.split("[?#]", url, maxsplit=1)[0]


def open_fs(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of `url`, chained ones too, and the path inside it. Listing caches are off: others write as well.

    Raises:
        Fatal: there is no such kind of URL, its package is not installed, or it cannot be read.
    """
    protocol = scheme(url)
    if protocol == "file":
        return fsspec.filesystem("file"), os.path.abspath(local_path(url))
    options: dict[str, Any] = {} if protocol in _FOREIGN or is_chained(url) else {"use_listings_cache": False}
    if protocol in _GOOGLE and not is_chained(url) and "requests_timeout" not in fsspec.config.conf.get("gs", {}):
        from aiohttp import ClientTimeout

        options["requests_timeout"] = ClientTimeout(total=_LONGEST_REQUEST_SEC, sock_read=_SILENCE_SEC)
    try:
        return fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError, TypeError) as error:
        raise Fatal(f"cannot open {shown(url)}: {told(error, url)}") from error


def installed(scheme: str) -> bool:
    """Whether there is a file system for URLs of a scheme, and its package is here."""
    try:
        fsspec.get_filesystem_class(scheme)
    except (ImportError, ValueError):
        return False
    return True


@contextmanager
def _explained(url: str, doing: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in _NO_SPACE:
            raise Fatal(f"no space left while {doing} {shown(url)}: free some or choose another workspace") from error
        if number in _NOT_WRITABLE or isinstance(error, PermissionError) or _is_refused(error):
            why = getattr(error, "strerror", None) or told(error, url).strip()[:300]
            raise Fatal(f"not allowed while {doing} {shown(url)}: {why}") from error
        raise


def _is_refused(error: Exception) -> bool:
    """gcsfs tells a 401 by a code, and a 403 by nothing but the first word of an OSError without a number."""
    without_number = isinstance(error, OSError) and error.errno is None
    return getattr(error, "code", None) in (401, 403) or (without_number and str(error).startswith("Forbidden"))


def _may_pass(error: Exception) -> bool:
    """Whether the same request may do later, by the error's type or status: what gcsfs tries again, and time-outs."""
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    from gcsfs.retry import is_retriable

    return bool(is_retriable(error))


def _tried(url: str, doing: str, act: Callable[[], T]) -> T:
    """What `act` returns, which must do no harm when it is done again after an answer that was lost.

    gcsfs tries each of its requests six times, within half a minute, after 408, 429, 5xx and broken connections, and
    not at all after a time-out. This goes on for GIVE_UP_SEC, on any file system that is reached by a network.

    Raises:
        Fatal: it never worked; or no space, or no permission. What is no fault of the network's comes as itself.
    """
    began, wait = time.monotonic(), _FIRST_WAIT_SEC
    while True:
        try:
            with _explained(url, doing):
                return act()
        except Exception as error:
            if isinstance(error, Fatal) or scheme(url) in ("file", *_FOREIGN) or not _may_pass(error):
                raise
            why, tried_sec = told(error, url).strip()[:300] or type(error).__name__, time.monotonic() - began
            if tried_sec + wait > GIVE_UP_SEC:
                raise Fatal(
                    f"{doing} {shown(url)} failed again and again for {tried_sec:.0f} s, the last time by: {why}. "
                    "What was written before is whole: run again to go on from there"
                ) from error
            _log.warning("%s %s failed (%s), and is tried again", doing, shown(url), why)
        time.sleep(wait * random.uniform(0.5, 1.0))  # so that a cluster's workers do not come back all at once
        wait = min(2 * wait, _LONGEST_WAIT_SEC)


def write_whole(url: str, data: bytes) -> None:
    """Writes a file that appears only when complete: temporary file and rename on disk, one object put elsewhere."""
    fs, path = open_fs(url)
    if isinstance(fs, LocalFileSystem):
        with _explained(url, "writing"):
            _write_beside(path, data)
        return
    _tried(url, "writing", lambda: _put(fs, url, path, data))


def _write_beside(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _put(fs: fsspec.AbstractFileSystem, url: str, path: str, data: bytes, **options: Any) -> None:
    try:
        fs.pipe_file(path, data, **options)
    except FileNotFoundError as error:
        raise Fatal(f"nothing can be written to {shown(url)}: is there such a bucket?") from error


def create(url: str, data: bytes) -> bool:
    """Writes a file where there is none. Of several that try, on any machines, one is told True.

    On disk a reader may find the file before its bytes are in it. Elsewhere than on disk and on gs://, where the file
    system has no exclusive creation, it is looked first, written and read back: two that do so in the same moment may
    both be told True.

    Args:
        data: no two callers' may be equal, so that one whose answer was lost knows its own.
    """
    fs, path = open_fs(url)
    if isinstance(fs, LocalFileSystem):
        with _explained(url, "writing"):
            return _create_on_disk(path, data)
    try:
        _tried(url, "writing", lambda: _put(fs, url, path, data, mode="create"))
    except FileExistsError:
        pass
    except (TypeError, ValueError, NotImplementedError):  # knows no such mode
        if not exists(url):
            write_whole(url, data)
    try:
        return read_whole(url) == data
    except FileNotFoundError:
        return False


def _create_on_disk(path: str, data: bytes) -> bool:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    return True


def remove(url: str) -> None:
    """Deletes a file, if it is there."""
    fs, path = open_fs(url)
    with suppress(FileNotFoundError):
        _tried(url, "deleting", lambda: fs.rm_file(path))


def put_file(local: str, url: str) -> None:
    """Uploads a file that is too large to hold, to other places than disks."""
    fs, path = open_fs(url)
    _tried(url, "writing", lambda: fs.put_file(local, path))


def get_file(url: str, local: str) -> None:
    """Downloads a file that is too large to hold."""
    fs, path = open_fs(url)
    _tried(url, "reading", lambda: fs.get_file(path, local))


def remove_tree(url: str) -> None:
    """Deletes a file or a folder with all that is in it, if it is there."""
    fs, path = open_fs(url)
    with suppress(FileNotFoundError):
        if not isinstance(fs, LocalFileSystem):
            _remove_each(url, fs, _tried(url, "listing", lambda: fs.find(path)))
        _tried(url, "deleting", lambda: fs.rm(path, recursive=True))  # elsewhere than on disk, what folders are left


def _remove_each(url: str, fs: fsspec.AbstractFileSystem, paths: Sequence[str]) -> None:
    """One request a file. Google's batches answer for a hundred of them at once, and gcsfs tells of what failed in one
    by an error that has no status, so that it could not be known whether to try again."""

    def remove_one(path: str) -> None:
        with suppress(FileNotFoundError):  # it is gone: the answer to an earlier try was lost
            _tried(url, "deleting", lambda: fs.rm_file(path))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(remove_one, paths))


@contextmanager
def filling(folder: str) -> Iterator[None]:
    """Around code of others that writes into a local folder.

    Raises:
        Fatal: no space, or no permission.
    """
    with _explained(folder, "writing"):
        try:
            yield
        except Exception as error:
            if not isinstance(error, (Fatal, OSError)):  # safetensors' and tokenizers' have no number: Python's will
                _check_takes_more(folder)
            raise


def _check_takes_more(folder: str) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"x" * _PROBE_BYTES)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def writing(url: str) -> Iterator[IO[bytes]]:
    """A file to write that is too large to hold. On disk it is seen while it grows: tell of it once it is whole.

    Where an exception ends the writing, nothing is left of it.
    """
    fs, path = open_fs(url)
    with _explained(url, "writing"):
        local = isinstance(fs, LocalFileSystem)
        if local:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        file = fs.open(path, "wb")
        try:
            yield file
            file.close()
        except BaseException:
            _abandon(file, path if local else None)
            raise


def _abandon(file: Any, local: str | None) -> None:
    """Elsewhere than on disk a file that is closed, and be it by the garbage collector, would be put in its place."""
    with suppress(Exception):
        if local is None:
            file.discard()
            file.closed = True
        else:
            try:
                file.close()
            finally:
                os.unlink(local)


def read_lines(url: str) -> Iterator[bytes]:
    """The lines of a file that is too large to hold."""
    fs, path = open_fs(url)
    with fs.open(path, "rb", cache_type="readahead") as file:
        yield from file


def read_with(url: str, read: Callable[[IO[bytes]], T]) -> T:
    """What `read` returns of the open file; it may be called several times."""
    fs, path = open_fs(url)

    def once() -> T:
        with fs.open(path, "rb") as file:
            return read(file)

    return _tried(url, "reading", once)


def find_files(url: str) -> list[str]:
    """URLs of all files under a folder, sorted; empty where there is none."""
    fs, path = open_fs(url)
    try:
        return sorted(fs.unstrip_protocol(one) for one in _tried(url, "listing", lambda: fs.find(path)))
    except FileNotFoundError:
        return []


def read_whole(url: str) -> bytes:
    """The bytes of a file; FileNotFoundError where there is none."""
    fs, path = open_fs(url)
    return _tried(url, "reading", lambda: bytes(fs.cat_file(path)))


def exists(url: str) -> bool:
    fs, path = open_fs(url)
    return _tried(url, "looking for", lambda: bool(fs.exists(path)))


def write_json(url: str, value: Any) -> None:
    write_whole(url, (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode())


def read_json(url: str) -> Any | None:
    """The parsed file, or None where there is none."""
    try:
        return json.loads(read_whole(url))
    except FileNotFoundError:
        return None


def list_files(url: str) -> dict[str, int]:
    """Name -> size in bytes of the files directly in a folder; empty where there is no folder."""
    entries = _entries(url)
    return {posixpath.basename(e["name"]): int(e["size"] or 0) for e in entries if e["type"] == "file"}


def list_folders(url: str) -> list[str]:
    """Names of the folders directly in a folder, sorted."""
    return sorted(posixpath.basename(e["name"].rstrip("/")) for e in _entries(url) if e["type"] == "directory")


def _entries(url: str) -> list[dict[str, Any]]:
    fs, path = open_fs(url)
    try:
        return _tried(url, "listing", lambda: list(fs.ls(path, detail=True)))
    except (FileNotFoundError, NotADirectoryError):
        return []


def tree_bytes(url: str) -> int:
    """Bytes of all files under a folder."""
    fs, path = open_fs(url)
    try:
        return int(sum(_tried(url, "listing", lambda: fs.du(path, total=False)).values()))
    except FileNotFoundError:
        return 0


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
        with _explained(url, "writing"):
            _refuse_foreign(url, os.listdir(path) if os.path.isdir(path) else _itself(path), marker)
            _swap_in(local, path)
        return
    root = path.strip("/") + "/"
    before = _tried(url, "listing", lambda: fs.find(path))
    old = {one.lstrip("/").removeprefix(root): one for one in before if one.strip("/") + "/" != root}
    _refuse_foreign(url, old, marker)

    def put(name: str) -> None:
        _tried(url, "writing", lambda: fs.put_file(os.path.join(local, name), posixpath.join(path, name)))

    if done in old:
        _remove_each(url, fs, [old.pop(done)])
    found = [os.path.relpath(os.path.join(at, one), local) for at, _, files in os.walk(local) for one in files]
    names = [name.replace(os.sep, "/") for name in found]
    put(marker)  # first: what a killed upload leaves can then be replaced by the next one
    if others := [name for name in names if name not in (marker, done)]:
        here, there = ([posixpath.join(at, name) for name in others] for at in (local, path))
        _tried(url, "writing", lambda: fs.put(here, there))
    if stale := [name for name in old if name not in names]:
        _remove_each(url, fs, [old[name] for name in stale])
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
