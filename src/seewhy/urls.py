"""The forms of a URL: its scheme, the path that it names on this disk, a name below it."""

import posixpath
import re

GOOGLE = ("gs", "gcs")
FOREIGN = ("http", "https")
"""Other people's servers: manifests are read from them, nothing is kept there; a wrong name must be told at once."""


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
    return url if scheme(url) in ("file", *GOOGLE) else re.split("[?#]", url, maxsplit=1)[0]
