"""Files at any fsspec URL: whole-object writes, fresh listings, storage errors that say what to do."""

import errno
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

# gcsfs probes the bucket's type over gRPC at first use unless told not to; must be set before gcsfs is imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

import fsspec
from fsspec.implementations.local import LocalFileSystem

from seewhy.failure import Fatal

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}


def scheme(url: str) -> str:
    """``gs`` for ``gs://bucket/x``; ``file`` for paths without a scheme."""
    return url.split("://", 1)[0].lower() if "://" in url else "file"


def join(folder: str, *names: str) -> str:
    return posixpath.join(folder.rstrip("/") or "/", *names)


def open_fs(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of `url`, chained ones too, and the path inside it. Listing caches are off: others write as well.

    Raises:
        Fatal: there is no such kind of URL, its package is not installed, or it cannot be read.
    """
    protocol = scheme(url)
    if protocol == "file":
        return fsspec.filesystem("file"), os.path.abspath(url.removeprefix("file://"))
    options = {} if protocol in ("http", "https") or "::" in url else {"use_listings_cache": False}
    try:
        return fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError, TypeError) as error:
        raise Fatal(f"cannot open {url}: {error}") from error


@contextmanager
def _explained(url: str, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise Fatal(f"no space left while {doing} {url}: free some or choose another workspace") from error
        if error.errno in _NOT_WRITABLE or isinstance(error, PermissionError):
            raise Fatal(f"not allowed while {doing} {url}: {error.strerror or error}") from error
        raise


def write_whole(url: str, data: bytes) -> None:
    """Writes a file that appears only when complete: temporary file and rename on disk, one object put elsewhere."""
    fs, path = open_fs(url)
    with _explained(url, "writing"):
        if not isinstance(fs, LocalFileSystem):
            fs.pipe_file(path, data)
            return
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


@contextmanager
def writing(url: str) -> Iterator[IO[bytes]]:
    """A file to write that is too large to hold. On disk it is seen while it grows: tell of it once it is whole."""
    fs, path = open_fs(url)
    with _explained(url, "writing"):
        if isinstance(fs, LocalFileSystem):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with fs.open(path, "wb") as file:
            yield file


def read_lines(url: str) -> Iterator[bytes]:
    """The lines of a file that is too large to hold."""
    fs, path = open_fs(url)
    with fs.open(path, "rb", cache_type="readahead") as file:
        yield from file


def find_files(url: str) -> list[str]:
    """URLs of all files under a folder, sorted; empty where there is none."""
    fs, path = open_fs(url)
    try:
        return sorted(fs.unstrip_protocol(one) for one in fs.find(path))
    except FileNotFoundError:
        return []


def read_whole(url: str) -> bytes:
    """The bytes of a file; FileNotFoundError where there is none."""
    fs, path = open_fs(url)
    return fs.cat_file(path)


def exists(url: str) -> bool:
    fs, path = open_fs(url)
    return fs.exists(path)


def remove(url: str) -> None:
    """Removes a file; there may be none."""
    fs, path = open_fs(url)
    with suppress(FileNotFoundError), _explained(url, "removing"):
        fs.rm_file(path)


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
    fs, path = open_fs(url)
    try:
        entries = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {posixpath.basename(e["name"]): int(e["size"] or 0) for e in entries if e["type"] == "file"}


def list_folders(url: str) -> list[str]:
    """Names of the folders directly in a folder, sorted."""
    fs, path = open_fs(url)
    try:
        entries = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(posixpath.basename(e["name"].rstrip("/")) for e in entries if e["type"] == "directory")


def tree_bytes(url: str) -> int:
    """Bytes of all files under a folder."""
    fs, path = open_fs(url)
    try:
        return int(sum(fs.du(path, total=False).values()))
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
    with _explained(url, "writing"):
        if isinstance(fs, LocalFileSystem):
            _refuse_foreign(url, os.listdir(path) if os.path.isdir(path) else _itself(path), marker)
            _swap_in(local, path)
            return
        root = path.strip("/") + "/"
        old = {one.lstrip("/").removeprefix(root): one for one in fs.find(path) if one.strip("/") + "/" != root}
        _refuse_foreign(url, old, marker)
        if done in old:
            fs.rm(old.pop(done))
        found = [os.path.relpath(os.path.join(at, one), local) for at, _, files in os.walk(local) for one in files]
        names = [name.replace(os.sep, "/") for name in found]
        # the marker first: what a killed upload leaves can then be replaced by the next one
        fs.put_file(os.path.join(local, marker), posixpath.join(path, marker))
        others = [name for name in names if name not in (marker, done)]
        if others:
            fs.put([os.path.join(local, name) for name in others], [posixpath.join(path, name) for name in others])
        if stale := [one for name, one in old.items() if name not in names]:
            fs.rm(stale)
        fs.put_file(os.path.join(local, done), posixpath.join(path, done))


def _itself(path: str) -> list[str]:
    return [os.path.basename(path)] if os.path.lexists(path) else []


def _refuse_foreign(url: str, names: Collection[str], marker: str) -> None:
    if names and marker not in names:
        raise Fatal(
            f"{url} holds files that seewhy did not write, {min(names)!r} for one, and would be replaced: move them "
            "away, or choose another workspace"
        )


def _swap_in(local: str, path: str) -> None:
    fresh, old = f"{path}.{uuid.uuid4().hex}.new", f"{path}.{uuid.uuid4().hex}.old"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shutil.copytree(local, fresh)
    if os.path.exists(path):
        os.rename(path, old)
    os.rename(fresh, path)
    shutil.rmtree(old, ignore_errors=True)
