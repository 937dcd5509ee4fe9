"""Files at any fsspec URL: whole-object writes, fresh listings, storage errors that say what to do."""

import errno
import json
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

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


@lru_cache(maxsize=64)
def _filesystem(protocol: str, bucket: str) -> fsspec.AbstractFileSystem:
    options: dict[str, Any] = {} if protocol == "file" else {"use_listings_cache": False}
    if protocol in ("http", "https"):
        options = {}
    try:
        return fsspec.filesystem(protocol, **options)
    except (ImportError, ValueError) as error:
        raise Fatal(f"no file system for {protocol}:// URLs ({error}); install the fsspec package for it") from error


def open_fs(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of `url` and the path inside it. Listing caches are off: other processes write too."""
    protocol = scheme(url)
    if protocol == "file":
        path = url.removeprefix("file://")
        return _filesystem("file", ""), os.path.abspath(path)
    fs = _filesystem(protocol, url.split("://", 1)[1].split("/", 1)[0])
    return fs, fs._strip_protocol(url)


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


def read_whole(url: str) -> bytes:
    """The bytes of a file; FileNotFoundError where there is none."""
    fs, path = open_fs(url)
    return fs.cat_file(path)


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


def put_folder(local: str, url: str) -> None:
    """Makes `url` hold just what the local folder holds: swapped in on disk, uploaded and then cleared elsewhere."""
    fs, path = open_fs(url)
    with _explained(url, "writing"):
        if isinstance(fs, LocalFileSystem):
            fresh, old = f"{path}.{uuid.uuid4().hex}.new", f"{path}.{uuid.uuid4().hex}.old"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            shutil.copytree(local, fresh)
            if os.path.exists(path):
                os.rename(path, old)
            os.rename(fresh, path)
            shutil.rmtree(old, ignore_errors=True)
            return
        names = [os.path.relpath(os.path.join(at, one), local) for at, _, files in os.walk(local) for one in files]
        fs.put([os.path.join(local, n) for n in names], [posixpath.join(path, *n.split(os.sep)) for n in names])
        kept = {posixpath.join(path, *n.split(os.sep)) for n in names}
        stale = [one for one in fs.find(path) if one.lstrip("/") not in {k.lstrip("/") for k in kept}]
        if stale:
            fs.rm(stale)
