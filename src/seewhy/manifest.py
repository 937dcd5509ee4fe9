"""The user's table of images: what it is a study of, every row accounted for."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from seewhy import schema, urls
from seewhy.failure import Fatal
from seewhy.hiding import shown
from seewhy.manifest_files import read_columns
from seewhy.table import digest_text

REGRESSION, CLASSIFICATION = "regression", "classification"

_MISSING = {"", "na", "n/a", "nan", "null", "none", "-", "#n/a"}  # in any case
_NO_CLASS = {"", "NA", "N/A", "n/a", "NaN", "null", "#N/A", "#n/a"}  # as written: None, none, - and Nan name classes
_NUMBER = re.compile(r"[+-]?(?=\.?\d)(\d+|\d{1,3}(,\d{3})+)?(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
# Full-width forms and other signs of minus. NFKC would do more than is wanted: it reads 10² as 102.
_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | dict.fromkeys((0x2212, 0xFE63), "-")
_NUMERIC_SHARE = 0.9  # of the targets given; below it a column of mixed values is taken for classes


@dataclass(frozen=True)
class Rows:
    """The usable rows of a manifest.

    Attributes:
        table: row (int64, position in the manifest from 0, lines that cannot be read counted too), source (URL or
            null), source_id, text (or null), target (float64, or string for classes), then the columns that ride along
            as strings; one named like these or `id` gets " (manifest)" after its name.
        task: `regression` or `classification`.
        classes: the class names, sorted; empty for regression.
        read: rows in the manifest (after `limit`), lines that cannot be read counted too.
        dropped: reason -> rows that cannot be used, so that read = len(table) + sum(dropped).
        why: how the task was chosen, in one sentence.
    """

    table: pa.Table
    task: str
    classes: tuple[str, ...]
    read: int
    dropped: dict[str, int]
    why: str


def read_manifest(
    path: str,
    *,
    target: str,
    image: str | None = None,
    thing: str = "image",
    text: str | None = None,
    keep: Sequence[str] = (),
    format: str = "auto",
    task: str = "auto",
    encoding: str = "utf-8",
    limit: int | None = None,
) -> Rows:
    """Reads a manifest; thousands commas are understood, missing and unreadable targets counted and left out.

    CSV is as RFC 4180 has it: a field that begins with a quote ends with one and may hold commas and line breaks. In
    TSV a field never holds a tab or a line break, and quotes are part of the text unless the whole field is properly
    quoted. A line that is no JSON object, or has more or fewer fields than the header, is a malformed line; one that
    spans several lines counts as so many, for it may be as many rows.

    Missing are, in any case, empty values and NA, N/A, #N/A, NaN, null, None and -. Where the target is a class, only
    empty values and NA, N/A, n/a, #N/A, #n/a, NaN and null written so: None, none and - are classes.

    Args:
        path: any fsspec URL.
        image: column with http(s) or storage URLs, or paths relative to the manifest's folder.
        thing: what these are, for people: image or video.
        text: column with a text that replaces captioning.
        keep: columns that ride along; one named twice rides once.
        task: `auto` takes a column for numbers when at least nine in ten of the values given are numbers.
        limit: only the first so many rows, malformed lines among them.

    Raises:
        Fatal: no such file or column, an unreadable file, one that unpacks to far more than its size, a quote that is
            not closed, or no usable row.
    """
    keep = list(dict.fromkeys(keep))
    wanted = [name for name in (image, target, text, *keep) if name is not None]
    found = read_columns(path, format, list(dict.fromkeys(wanted)), encoding, limit)
    columns, length = found.values, len(found.positions)
    task, why = _task(columns[target]) if task == "auto" else (task, f"{task}: as the study says")
    targets = [_clean(value) if task == REGRESSION else _class(value) for value in columns[target]]
    values: list[Any] = [None if v is None else parse_number(v) for v in targets] if task == REGRESSION else targets
    sources = [resolve(path, value) for value in columns[image]] if image else [None] * length
    texts = [_clean(value) for value in columns[text]] if text else [None] * length

    reasons = [
        _reason(raw, value, source, words, thing=thing if image and not text else None, text=text)
        for raw, value, source, words in zip(targets, values, sources, texts, strict=True)
    ]
    used = [i for i, reason in enumerate(reasons) if reason is None]
    dropped = dict(Counter(reason for reason in reasons if reason is not None))
    if found.read > length:
        dropped["malformed line"] = found.read - length
    if not used:
        raise Fatal(f"{shown(path)}: none of {found.read} rows can be used: {dropped}")
    own = {
        "row": pa.array([found.positions[i] for i in used], pa.int64()),
        "source": pa.array([sources[i] for i in used], pa.string()),
        "source_id": pa.array([s and digest_text(s) for s in (sources[i] for i in used)], pa.string()),
        "text": pa.array([texts[i] for i in used], pa.string()),
        "target": pa.array([values[i] for i in used], pa.float64() if task == REGRESSION else pa.string()),
    }
    table = _with_kept(own, {name: pa.array([columns[name][i] for i in used], pa.string()) for name in keep})
    classes = tuple(sorted(set(table.column("target").to_pylist()))) if task == CLASSIFICATION else ()
    if task == CLASSIFICATION and len(classes) < 2:
        raise Fatal(f"{shown(path)}: column {target!r} holds one class only, {classes[0]!r}: nothing to tell apart")
    return Rows(table, task, classes, found.read, dropped, why)


def _with_kept(own: dict[str, pa.Array], kept: dict[str, pa.Array]) -> pa.Table:
    """One table of both; a kept column whose name is taken, or will be by the item id, is renamed."""
    columns = dict(own)
    for name, values in kept.items():
        while name in columns or name == schema.ID:
            name += " (manifest)"
        columns[name] = values
    return pa.table(columns)


def parse_number(value: str) -> float | None:
    """``1,234.5`` -> 1234.5; None for what is no finite number. A comma is a thousands mark and nothing else.

    Full-width digits and signs and the minus sign U+2212 are read as their ASCII forms.
    """
    value = value if value.isascii() else value.translate(_PLAIN)
    if not _NUMBER.fullmatch(value):
        return None
    number = float(value.replace(",", ""))
    return number if np.isfinite(number) else None


def resolve(manifest: str, value: str | None) -> str | None:
    """An image's URL: http(s) and storage URLs as they are, anything else relative to the manifest's folder."""
    value = _clean(value)
    if value is None or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value):
        return value
    if urls.scheme(manifest) == "file":
        folder = os.path.dirname(os.path.abspath(urls.local_path(manifest)))
        return os.path.join(folder, value)
    return urls.join(urls.without_query(manifest).rsplit("/", 1)[0], value)


def _clean(value: str | None) -> str | None:
    if value is None or value.strip().lower() in _MISSING:
        return None
    return value.strip()


def _class(value: str | None) -> str | None:
    return None if value is None or value.strip() in _NO_CLASS else value.strip()


def _task(column: list[str | None]) -> tuple[str, str]:
    """The task that a column of targets asks for, and why."""
    given = [value for value in map(_clean, column) if value is not None]
    numbers = sum(parse_number(value) is not None for value in given)
    if given and numbers >= _NUMERIC_SHARE * len(given):
        return REGRESSION, f"{REGRESSION}: {numbers:,} of {len(given):,} targets are numbers"
    classes = sum(_class(value) is not None for value in column)
    if not numbers:
        return CLASSIFICATION, f"{CLASSIFICATION}: none of {classes:,} targets is a number"
    mixed = f"the column is mixed, {numbers:,} of {classes:,} targets are numbers, under nine in ten"
    return CLASSIFICATION, f"{CLASSIFICATION}: {mixed}"


def _reason(
    raw: str | None, value: Any, source: str | None, words: str | None, *, thing: str | None, text: str | None
) -> str | None:
    if raw is None:
        return "missing target"
    if value is None:
        return "target is no number"
    if text is not None and words is None:
        return "missing text"
    if thing is not None and source is None:
        return f"missing {thing}"
    return None
