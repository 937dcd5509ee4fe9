"""Images that do not come over the web: local files beneath the allowed folders, and objects in a study's storage."""

import os
import stat
from collections.abc import Collection, Sequence

from seewhy import storage, urls
from seewhy.failure import BAD_INPUT, TRANSIENT, Failure, Fatal
from seewhy.fetch.reasons import by_status


def read_local(source: str, *, roots: Sequence[str], max_bytes: int) -> bytes | Failure:
    """A file's bytes, if it lies beneath one of `roots` once `..` and symbolic links are resolved.

    Args:
        source: an absolute path, or one as a file:// URL.
        roots: folders. None given means that no local file may be read.
    """
    path = urls.local_path(source).removeprefix("localhost") if "://" in source else source
    if not os.path.isabs(path) or "\0" in path:
        return Failure(BAD_INPUT, "bad_path", "not an absolute path")
    real = os.path.realpath(path)
    if not any(os.path.commonpath([root, real]) == root for root in map(os.path.realpath, roots)):
        return Failure(BAD_INPUT, "forbidden_path", f"it leads to {real}, outside of {list(roots)}")
    try:
        # Neither follows a link that was put there just now, nor waits for a pipe's other end.
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return Failure(BAD_INPUT, "not_a_file", real)
            data = file.read(max_bytes + 1)
    except OSError as error:
        return by_error(error)
    return _capped(data, max_bytes)


def read_stored(sources: Sequence[str], *, roots: Sequence[str], max_bytes: int) -> list[bytes | Failure]:
    """The bytes of objects of one scheme, many at once. Blocks: call it in a thread.

    Raises:
        Fatal: no file system for the scheme is installed.
    """
    results: list[bytes | Failure] = [Failure(BAD_INPUT, "forbidden_path", f"outside of {list(roots)}")] * len(sources)
    by_bucket: dict[int, tuple[storage.fsspec.AbstractFileSystem, dict[int, str]]] = {}
    for i, source in enumerate(sources):
        if within(source, roots):
            opened = open_object(source)
            if isinstance(opened, Failure):
                results[i] = opened
            else:
                fs, path = opened
                by_bucket.setdefault(id(fs), (fs, {}))[1][i] = path
    for fs, paths in by_bucket.values():
        # One byte more than allowed tells a file that is too large, and never reads the rest of it.
        answers = fs.cat_ranges(list(paths.values()), 0, max_bytes + 1, on_error="return")
        for i, answer in zip(paths, answers, strict=True):
            results[i] = by_error(answer) if isinstance(answer, BaseException) else _capped(bytes(answer), max_bytes)
    return results


def open_object(source: str) -> tuple[storage.fsspec.AbstractFileSystem, str] | Failure:
    """The file system of a row's URL and the path inside it; or why there is none, which is that row's matter alone.

    Chained file systems are refused: the inner one may be anywhere, a private address or a file outside of all roots,
    and each of them would be kept for the life of the process.

    Raises:
        Fatal: no file system for the scheme is installed.
    """
    if urls.is_chained(source):
        return Failure(BAD_INPUT, "bad_url", "file systems chained by ::")
    try:
        return storage.open_fs(source)
    except Fatal:
        if not storage.installed(urls.scheme(source)):
            raise
        return Failure(BAD_INPUT, "bad_url", f"no URL of {urls.scheme(source)}")
    except Exception as error:  # file systems raise nearly any type
        return by_error(error)


def by_error(error: BaseException) -> Failure:
    """A file system's error by its type or its status; never its text, which may hold credentials."""
    status = getattr(error, "code", None) or getattr(error, "status", None)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Failure(BAD_INPUT, "not_found", "no such file")
    if isinstance(error, IsADirectoryError):
        return Failure(BAD_INPUT, "not_a_file", "a folder")
    if isinstance(error, PermissionError):
        return Failure(BAD_INPUT, "forbidden", "not allowed to read it")
    if isinstance(status, int) and status == 416:
        return Failure(BAD_INPUT, "empty", "0 bytes")  # an object without a first byte
    if isinstance(status, int) and status >= 400:
        return by_status(status)
    said = getattr(error, "strerror", None)
    return Failure(TRANSIENT, "read_failed", type(error).__name__ + (f": {said}" if said else ""))


def within(source: str, roots: Collection[str]) -> bool:
    """Roots bind a scheme only if one of them has it: a study's buckets are allowed whole unless it names folders."""
    scheme = urls.scheme(source)
    mine = [root.rstrip("/") + "/" for root in roots if urls.scheme(root) == scheme]
    return not mine or (".." not in source.split("/") and any(source.startswith(root) for root in mine))


def _capped(data: bytes, max_bytes: int) -> bytes | Failure:
    if len(data) > max_bytes:
        return Failure(BAD_INPUT, "too_large", f"more than the {max_bytes} bytes allowed")
    return data
