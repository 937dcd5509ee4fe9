"""The user's table of images: read from CSV, TSV, Parquet or JSON lines, every row accounted for."""

import io
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from seewhy import storage
from seewhy.failure import Fatal
from seewhy.table import digest_text

REGRESSION, CLASSIFICATION = "regression", "classification"

_MISSING = {"", "na", "n/a", "nan", "null", "none", "-", "#n/a"}
_NUMBER = re.compile(r"[+-]?(?=\.?\d)(\d+|\d{1,3}(,\d{3})+)?(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_FORMATS = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_NUMERIC_SHARE = 0.9  # of the targets given; below it a column of mixed values is taken for classes


@dataclass(frozen=True)
class Rows:
    """The usable rows of a manifest.

    Attributes:
        table: row (int64, position in the manifest), source (URL or null), source_id, text (or null), target (float64,
            or string for classes), then the columns that ride along as strings.
        task: `regression` or `classification`.
        classes: the class names, sorted; empty for regression.
        read: rows in the manifest (after `limit`).
        dropped: reason -> rows that cannot be used, so that read = len(table) + sum(dropped).
    """

    table: pa.Table
    task: str
    classes: tuple[str, ...]
    read: int
    dropped: dict[str, int]


def read_manifest(
    path: str,
    *,
    target: str,
    image: str | None = None,
    text: str | None = None,
    keep: Sequence[str] = (),
    format: str = "auto",
    task: str = "auto",
    encoding: str = "utf-8",
    limit: int | None = None,
) -> Rows:
    """Reads a manifest; thousands commas are understood, missing and unreadable targets counted and left out.

    Args:
        path: any fsspec URL.
        image: column with http(s) or storage URLs, or paths relative to the manifest's folder.
        text: column with a text that replaces captioning.
        keep: columns that ride along.
        task: `auto` takes a column for numbers when at least nine in ten of the values given are numbers.
        limit: only the first so many rows.

    Raises:
        Fatal: no such file or column, an unreadable file, or no usable row.
    """
    wanted = [name for name in (image, target, text, *keep) if name is not None]
    columns, broken = _read_columns(path, _format(path, format), list(dict.fromkeys(wanted)), encoding)
    length = len(columns[target])
    if limit is not None:
        length = min(length, limit)
        columns = {name: values[:length] for name, values in columns.items()}
    targets = [_clean(value) for value in columns[target]]
    task = _task(targets) if task == "auto" else task
    values: list[Any] = [None if v is None else parse_number(v) for v in targets] if task == REGRESSION else targets
    sources = [resolve(path, value) for value in columns[image]] if image else [None] * length
    texts = [_clean(value) for value in columns[text]] if text else [None] * length

    why = [
        _reason(raw, value, source, words, image=image if not text else None, text=text)
        for raw, value, source, words in zip(targets, values, sources, texts, strict=True)
    ]
    used = [i for i, reason in enumerate(why) if reason is None]
    dropped = dict(Counter(reason for reason in why if reason is not None))
    if broken:
        dropped["malformed line"] = broken
    if not used:
        raise Fatal(f"{path}: none of {length + broken} rows can be used: {dropped}")
    table = pa.table(
        {
            "row": pa.array(used, pa.int64()),
            "source": pa.array([sources[i] for i in used], pa.string()),
            "source_id": pa.array([s and digest_text(s) for s in (sources[i] for i in used)], pa.string()),
            "text": pa.array([texts[i] for i in used], pa.string()),
            "target": pa.array([values[i] for i in used], pa.float64() if task == REGRESSION else pa.string()),
        }
    )
    for name in keep:
        column = name if name not in table.column_names else f"{name} (manifest)"
        table = table.append_column(column, pa.array([columns[name][i] for i in used], pa.string()))
    classes = tuple(sorted(set(table.column("target").to_pylist()))) if task == CLASSIFICATION else ()
    if task == CLASSIFICATION and len(classes) < 2:
        raise Fatal(f"{path}: column {target!r} holds one class only, {classes[0]!r}: nothing to tell apart")
    return Rows(table, task, classes, length + broken, dropped)


def parse_number(value: str) -> float | None:
    """``1,234.5`` -> 1234.5; None for what is no finite number. A comma is a thousands mark and nothing else."""
    if not _NUMBER.fullmatch(value):
        return None
    number = float(value.replace(",", ""))
    return number if np.isfinite(number) else None


def resolve(manifest: str, value: str | None) -> str | None:
    """An image's URL: http(s) and storage URLs as they are, anything else relative to the manifest's folder."""
    value = _clean(value)
    if value is None or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value):
        return value
    if storage.scheme(manifest) == "file":
        folder = os.path.dirname(os.path.abspath(manifest.removeprefix("file://")))
        return os.path.join(folder, value)
    return storage.join(manifest.rsplit("/", 1)[0], value)


def _clean(value: str | None) -> str | None:
    if value is None or value.strip().lower() in _MISSING:
        return None
    return value.strip()


def _task(targets: list[str | None]) -> str:
    given = [value for value in targets if value is not None]
    numbers = sum(parse_number(value) is not None for value in given)
    return REGRESSION if given and numbers >= _NUMERIC_SHARE * len(given) else CLASSIFICATION


def _reason(
    raw: str | None, value: Any, source: str | None, words: str | None, *, image: str | None, text: str | None
) -> str | None:
    if raw is None:
        return "missing target"
    if value is None:
        return "target is no number"
    if text is not None and words is None:
        return "missing text"
    if image is not None and source is None:
        return "missing image"
    return None


def _format(path: str, format: str) -> str:
    if format != "auto":
        return format
    suffix = os.path.splitext(path.removesuffix(".gz"))[1].lower()
    if suffix not in _FORMATS:
        raise Fatal(
            f"{path}: cannot tell the format from {suffix!r}; set manifest.format to csv, tsv, parquet or jsonl"
        )
    return _FORMATS[suffix]


def _read_columns(path: str, format: str, wanted: list[str], encoding: str) -> tuple[dict[str, list[Any]], int]:
    """Columns as lists of strings or None, and how many lines could not be read."""
    try:
        data = storage.read_whole(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise Fatal(f"no manifest at {path}") from error
    if path.endswith(".gz"):
        data = pa.CompressedInputStream(pa.BufferReader(data), "gzip").read()
    if format == "parquet":
        return _from_parquet(path, data, wanted), 0
    if format == "jsonl":
        return _from_jsonl(path, data, wanted, encoding)
    return _from_csv(path, data, wanted, encoding, "," if format == "csv" else "\t")


def _need(path: str, wanted: list[str], found: Sequence[str]) -> None:
    lacking = [name for name in wanted if name not in found]
    if lacking:
        raise Fatal(f"{path} has no column {', '.join(map(repr, lacking))}; it has {', '.join(map(repr, found))}")


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and np.isnan(value):
        return None
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)


def _from_parquet(path: str, data: bytes, wanted: list[str]) -> dict[str, list[Any]]:
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        _need(path, wanted, file.schema_arrow.names)
        table = file.read(columns=wanted)
    except pa.ArrowInvalid as error:
        raise Fatal(f"{path} is not a Parquet file: {error}") from error
    return {name: [_as_text(value) for value in table.column(name).to_pylist()] for name in wanted}


def _from_jsonl(path: str, data: bytes, wanted: list[str], encoding: str) -> tuple[dict[str, list[Any]], int]:
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    broken, found = 0, dict[str, None]()
    for line in _decode(path, data, encoding).splitlines():
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            broken += 1
            continue
        found.update(dict.fromkeys(record))
        for name in wanted:
            columns[name].append(_as_text(record.get(name)))
    _need(path, wanted, list(found))
    return columns, broken


def _from_csv(
    path: str, data: bytes, wanted: list[str], encoding: str, delimiter: str
) -> tuple[dict[str, list[Any]], int]:
    broken = 0

    def skip(_: Any) -> str:
        nonlocal broken
        broken += 1
        return "skip"

    data = _decode(path, data, encoding).encode()
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=max(1 << 20, min(len(data) + 1, 1 << 30)))
    try:
        header = pyarrow.csv.open_csv(io.BytesIO(data), read_options=read, parse_options=parse).schema.names
        _need(path, wanted, header)
        broken = 0
        convert = pyarrow.csv.ConvertOptions(
            include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=False
        )
        table = pyarrow.csv.read_csv(io.BytesIO(data), read_options=read, parse_options=parse, convert_options=convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise Fatal(f"{path} cannot be read as {'CSV' if delimiter == ',' else 'TSV'}: {error}") from error
    return {name: table.column(name).to_pylist() for name in wanted}, broken


def _decode(path: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding).removeprefix("﻿")
    except (UnicodeDecodeError, LookupError) as error:
        raise Fatal(f"{path} is not {encoding}: {error}; set manifest.encoding") from error
