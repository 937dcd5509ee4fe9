"""Objects in Google Cloud Storage that are left where they are: what names them, and what they are."""

import math
from dataclasses import dataclass
from typing import Any

import xxhash

from seewhy.failure import BAD_INPUT, Failure
from seewhy.fetch.files import by_error, open_object, within
from seewhy.images import MIMES, format_of
from seewhy.videos.check import no_video
from seewhy.videos.container import HEAD_BYTES, claimed_seconds, container_of

GS = "gs"

_ENDS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}
_VIDEO_ENDS = {"mp4": "MP4", "m4v": "MP4", "mov": "MOV", "3gp": "3GP", "webm": "WEBM", "mpg": "MPEG", "mpeg": "MPEG"}


@dataclass(frozen=True)
class Described:
    """An object that was not read.

    Attributes:
        id: hash of its URI, generation, checksum and size: another one as soon as the object is written anew.
        format: JPEG, PNG or WEBP, or a name in `container.CONTAINERS`.
        seconds: how long a video's header says that it is; None where nobody knows.
        unseen: why its facts are not known, for people; empty where they are. Its id is then one of the URI alone,
            so that nobody notices when the object is written anew, and its format is what its name says.
    """

    id: str
    format: str
    seconds: float | None = None
    unseen: str = ""


def describe_object(
    source: str, *, roots: tuple[str, ...], video: bool, max_seconds: float = math.inf
) -> Described | Failure:
    """Two requests, its metadata and its first bytes, and a few more for a video whose header lies elsewhere. Blocks:
    call it in a thread.

    Args:
        source: a gs:// URI.
        roots: as of `files.read_stored`.
        max_seconds: that a video's header may say.

    Raises:
        Fatal: no file system for the scheme is installed.
    """
    if not within(source, roots):
        return Failure(BAD_INPUT, "forbidden_path", f"outside of {list(roots)}")
    opened = open_object(source)
    if isinstance(opened, Failure):
        return opened
    fs, path = opened
    try:
        facts = fs.info(path)
        if facts.get("type") == "directory":
            return Failure(BAD_INPUT, "not_a_file", "a folder")
        head = fs.cat_file(path, start=0, end=HEAD_BYTES)
        size = facts.get("size") or 0
        container = container_of(head) if video else None
        seconds = None
        if container is not None:
            seconds = claimed_seconds(container, head, lambda start, end: _part(fs, path, start, end, size))
    except Exception as error:  # file systems raise nearly any type; each is told by its type or status
        failure = by_error(error)
        return _unseen(source, video) if failure.reason in ("forbidden", "http_401", "http_403") else failure
    if not head:
        return Failure(BAD_INPUT, "empty", "0 bytes")
    if video:
        if container is None:
            return no_video(head)
        if seconds is not None and seconds > max_seconds:
            return Failure(BAD_INPUT, "too_long", f"it says {seconds:.0f} s, allowed are {max_seconds:g}")
        return Described(_identity(source, facts), container.name, seconds)
    format_ = format_of(head)
    return _no_image(head) if format_ is None else Described(_identity(source, facts), format_)


def _part(fs: Any, path: str, start: int, end: int, size: int) -> bytes:
    """Stores answer a range beyond an object's end with an error."""
    return fs.cat_file(path, start=start, end=min(end, size)) if start < size else b""


def _identity(source: str, facts: dict[str, Any]) -> str:
    named = [source, *(f"{name}={facts.get(name)}" for name in ("generation", "crc32c", "size"))]
    return xxhash.xxh128_hexdigest("\0".join(named).encode("utf-8", "surrogatepass"))


def _unseen(source: str, video: bool) -> Described | Failure:
    """The service may be allowed to read what we are not."""
    ends = _VIDEO_ENDS if video else _ENDS
    format_ = ends.get(source.rpartition(".")[2].lower())
    if format_ is None:
        return Failure(BAD_INPUT, "forbidden", f"not allowed to read it; its name ends in none of {', '.join(ends)}")
    return Described(_identity(source, {}), format_, None, "not readable here: taken at its name, changes go unnoticed")


def _no_image(head: bytes) -> Failure:
    return Failure(BAD_INPUT, "not_an_image", f"none of {', '.join(MIMES)}; starts with {head[:16]!r}")
