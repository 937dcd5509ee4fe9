"""Files at any fsspec URL: whole-object writes, fresh listings, storage errors that say what to do."""

import json
import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeVar

# gcsfs probes the bucket's type over gRPC at first use unless told not to; must be set before gcsfs is imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

import fsspec
from fsspec.implementations.local import LocalFileSystem

from seewhy import urls
from seewhy.attempts import explained, tried
from seewhy.failure import Fatal
from seewhy.hiding import shown, told

T = TypeVar("T")

_SILENCE_SEC = 60.0
"""gcsfs would wait five minutes for an answer that does not come, and then not ask again."""
_LONGEST_REQUEST_SEC = 900.0
_AT_ONCE = 16
"""Requests, where many files are deleted."""
_PROBE_BYTES = 1 << 20
_READ_AT_ONCE = 1 << 24


def open_fs(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of `url`, chained ones too, and the path inside it. Listing caches are off: others write as well.

    Raises:
        Fatal: there is no such kind of URL, its package is not installed, or it cannot be read.
    """
    protocol = urls.scheme(url)
    if protocol == "file":
        return fsspec.filesystem("file"), os.path.abspath(urls.local_path(url))
    options: dict[str, Any] = {} if protocol in urls.FOREIGN or urls.is_chained(url) else {"use_listings_cache": False}
    told_how_long = "requests_timeout" in fsspec.config.conf.get("gs", {})
    if protocol in urls.GOOGLE and not urls.is_chained(url) and not told_how_long:
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


def write_whole(url: str, data: bytes) -> None:
    """Writes a file that appears only when complete: temporary file and rename on disk, one object put elsewhere."""
    fs, path = open_fs(url)
    if isinstance(fs, LocalFileSystem):
        with explained(url, "writing"):
            _write_beside(path, data)
        return
    tried(url, "writing", lambda: _put(fs, url, path, data))


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
        raise Fatal(_no_bucket(url)) from error


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
        with explained(url, "writing"):
            return _create_on_disk(path, data)
    try:
        tried(url, "writing", lambda: _put(fs, url, path, data, mode="create"))
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
        tried(url, "deleting", lambda: fs.rm_file(path))


def put_file(local: str, url: str) -> None:
    """Copies a file of this disk that is too large to hold to where it then appears whole."""
    fs, path = open_fs(url)
    if isinstance(fs, LocalFileSystem):
        with open(local, "rb") as source, writing(url) as file:
            shutil.copyfileobj(source, file, _READ_AT_ONCE)
        return
    _upload(fs, url, local, path)


def _upload(fs: fsspec.AbstractFileSystem, url: str, local: str, path: str) -> None:
    os.stat(local)  # so that a file that is missing here is not taken for a bucket that is
    try:
        tried(url, "writing", lambda: fs.put_file(local, path))
    except FileNotFoundError as error:
        raise Fatal(_no_bucket(url)) from error


def _no_bucket(url: str) -> str:
    return f"nothing can be written to {shown(url)}: is there such a bucket?"


def get_file(url: str, local: str) -> None:
    """Downloads a file that is too large to hold."""
    fs, path = open_fs(url)
    tried(url, "reading", lambda: fs.get_file(path, local))


def remove_tree(url: str) -> None:
    """Deletes a file or a folder with all that is in it, if it is there."""
    fs, path = open_fs(url)
    with suppress(FileNotFoundError):
        if not isinstance(fs, LocalFileSystem):
            remove_each(url, fs, tried(url, "listing", lambda: fs.find(path)))
        tried(url, "deleting", lambda: fs.rm(path, recursive=True))  # elsewhere than on disk, what folders are left


def remove_each(url: str, fs: fsspec.AbstractFileSystem, paths: Sequence[str]) -> None:
    """One request a file. Google's batches answer for a hundred of them at once, and gcsfs tells of what failed in one
    by an error that has no status, so that it could not be known whether to try again."""

    def remove_one(path: str) -> None:
        with suppress(FileNotFoundError):  # it is gone: the answer to an earlier try was lost
            tried(url, "deleting", lambda: fs.rm_file(path))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(remove_one, paths))


@contextmanager
def filling(folder: str) -> Iterator[None]:
    """Around code of others that writes into a local folder.

    Raises:
        Fatal: no space, or no permission.
    """
    with explained(folder, "writing"):
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
    """A file to write that is too large to hold; it appears only when complete.

    Until then it lies beside its place, or, elsewhere than on disk, among this machine's temporary files. Where an
    exception ends the writing, nothing is left of it; what a kill leaves beside a place, the next writing replaces.
    """
    fs, path = open_fs(url)
    if isinstance(fs, LocalFileSystem):
        with explained(url, "writing"):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            grown = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.writing")
            try:
                with _grown(grown) as file:
                    yield file
                os.replace(grown, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(grown)
                raise
        return
    with tempfile.TemporaryDirectory(prefix="seewhy-") as folder:
        grown = os.path.join(folder, "file")
        with explained(folder, "writing"), _grown(grown) as file:
            yield file
        _upload(fs, url, grown, path)


@contextmanager
def _grown(path: str) -> Iterator[IO[bytes]]:
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def read_lines(url: str) -> Iterator[bytes]:
    """The lines of a file that is too large to hold, each with its end."""
    fs, path = open_fs(url)
    size = tried(url, "reading", lambda: int(fs.size(path)))
    begun: list[bytes] = []
    for start in range(0, size, _READ_AT_ONCE):
        piece = _range_of(url, fs, path, start, min(start + _READ_AT_ONCE, size))
        first, *others = piece.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun) + b"\n"
            yield from (line + b"\n" for line in others[:-1])
            begun = others[-1:]
    if last := b"".join(begun):
        yield last


def _range_of(url: str, fs: fsspec.AbstractFileSystem, path: str, start: int, end: int) -> bytes:
    return tried(url, "reading", lambda: bytes(fs.cat_file(path, start=start, end=end)))


def read_with(url: str, read: Callable[[IO[bytes]], T]) -> T:
    """What `read` returns of the open file; it may be called several times."""
    fs, path = open_fs(url)

    def once() -> T:
        with fs.open(path, "rb") as file:
            return read(file)

    return tried(url, "reading", once)


def find_files(url: str) -> list[str]:
    """URLs of all files under a folder, sorted; empty where there is none."""
    fs, path = open_fs(url)
    try:
        return sorted(fs.unstrip_protocol(one) for one in tried(url, "listing", lambda: fs.find(path)))
    except FileNotFoundError:
        return []


def read_whole(url: str) -> bytes:
    """The bytes of a file; FileNotFoundError where there is none."""
    fs, path = open_fs(url)
    return tried(url, "reading", lambda: bytes(fs.cat_file(path)))


def read_named(url: str, what: str) -> bytes:
    """The bytes of a file that the user named: `what` it is to be, for the message.

    Raises:
        Fatal: there is none, or it cannot be read.
    """
    from aiohttp import ClientError

    name = shown(url)
    try:
        return read_whole(url)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise Fatal(f"no {what} at {name}") from error
    except (OSError, ValueError, ClientError) as error:  # no right to read it; a name that no file can have
        raise Fatal(f"cannot read the {what} at {name!r}: {told(error, url)}") from error


def exists(url: str) -> bool:
    fs, path = open_fs(url)
    return tried(url, "looking for", lambda: bool(fs.exists(path)))


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
        return tried(url, "listing", lambda: list(fs.ls(path, detail=True)))
    except (FileNotFoundError, NotADirectoryError):
        return []


def tree_bytes(url: str) -> int:
    """Bytes of all files under a folder."""
    fs, path = open_fs(url)
    try:
        return int(sum(tried(url, "listing", lambda: fs.du(path, total=False)).values()))
    except FileNotFoundError:
        return 0
