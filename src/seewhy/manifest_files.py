"""Tables in CSV, TSV, Parquet or JSON lines, gzipped or not, that strangers may have written: columns, no bombs."""

import codecs
import csv
import io
import json
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seewhy import storage, urls
from seewhy.failure import Fatal
from seewhy.hiding import shown
from seewhy.parquet import open_parquet

_QUOTED = re.compile(r'"((?:[^"]|"")*+)"')
_CSV_FIELD = re.compile(r'(?:"(?:[^"]++|"")*+"|[^",][^,]*+)?+,')
_MOST_BREAKS = 1000  # line breaks that one CSV field may hold; with more, a quote was forgotten
_MOST_NAMES, _LONGEST_NAME = 100, 100  # columns that a message names
_FREE_TO_UNPACK = 100_000_000
_MOST_UNPACKED = 100  # times its own size; text shrinks to a tenth, and a bomb to a thousandth
_FREE_ROWS = 1_000_000
_MOST_ROWS = 20  # a byte of Parquet; numbered names and sorted targets take a tenth of a byte a row
_ROWS_AT_ONCE = 100  # of Parquet: a long value that is written once is unpacked for each of them before it is counted
_FORMATS = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True)
class Columns:
    """The columns asked for, as strings or None, the position of each row, and how many rows there were in all."""

    values: dict[str, list[str | None]]
    positions: Sequence[int]
    read: int


def read_columns(path: str, format: str, wanted: list[str], encoding: str, limit: int | None) -> Columns:
    """Reads the columns `wanted`; see `manifest.read_manifest` for the rest, and for what is raised."""
    format = _format(path, format)
    name = shown(path)
    data = storage.read_named(path, "manifest")
    if urls.without_query(path).endswith(".gz"):
        data = _unpacked(name, data)
    if format == "parquet":
        return _from_parquet(name, data, wanted, limit)
    read = _from_jsonl if format == "jsonl" else _from_csv if format == "csv" else _from_tsv
    return read(name, _utf8(name, data, encoding), wanted, limit)


def _format(path: str, format: str) -> str:
    if format != "auto":
        return format
    suffix = os.path.splitext(urls.without_query(path).removesuffix(".gz"))[1].lower()
    if suffix not in _FORMATS:
        raise Fatal(
            f"{shown(path)}: cannot tell the format from {suffix!r}; set manifest.format to csv, tsv, parquet or jsonl"
        )
    return _FORMATS[suffix]


def _unpacked(path: str, data: bytes) -> bytes:
    most = max(_FREE_TO_UNPACK, _MOST_UNPACKED * len(data))
    pieces, size = [], 0
    try:
        stream = pa.CompressedInputStream(pa.BufferReader(data), "gzip")
        while piece := stream.read(1 << 24):
            size += len(piece)
            if size > most:
                raise Fatal(_unpacks_to_much(path, data))
            pieces.append(piece)
    except (OSError, pa.ArrowException) as error:
        raise Fatal(f"{path} is not whole gzip: {error}") from error
    return b"".join(pieces)


def _unpacks_to_much(path: str, data: bytes) -> str:
    return f"{path} unpacks to more than {_MOST_UNPACKED} times its {len(data):,} bytes: is it text?"


def _need(path: str, wanted: list[str], found: Sequence[str]) -> None:
    lacking = [name for name in wanted if name not in found]
    if lacking:
        shown = ", ".join(repr(name)[:_LONGEST_NAME] for name in found[:_MOST_NAMES])
        more = f" and {len(found) - _MOST_NAMES:,} more" if len(found) > _MOST_NAMES else ""
        raise Fatal(f"{path} has no column {', '.join(map(repr, lacking))}; it has {shown}{more}")
    for name in wanted:
        if found.count(name) > 1:
            raise Fatal(f"{path} has {found.count(name)} columns {name!r}: which one is meant cannot be told")


def _as_text(value: Any) -> str | None:
    if value is None:
        return value
    if isinstance(value, bytes):  # of a Parquet file whose writer did not say that they are text
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and np.isnan(value):
        return None
    if isinstance(value, (list, dict)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return _whole_characters(str(value))


def _whole_characters(text: str) -> str:
    """JSON can spell half a surrogate pair, which no text file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _from_parquet(path: str, data: bytes, wanted: list[str], limit: int | None) -> Columns:
    columns: dict[str, list[str | None]] = {name: [] for name in wanted}
    read = size = 0
    try:
        file = open_parquet(io.BytesIO(data), columns=wanted)
        _need(path, wanted, file.schema_arrow.names)
        rows = _rows_to_read(path, file.metadata, len(data), limit)
        batches = file.iter_batches(_ROWS_AT_ONCE, columns=wanted, use_threads=False)
        while read < rows and (batch := next(batches, None)):
            batch = batch.slice(0, rows - read)
            read += len(batch)
            for name in wanted:
                texts = [_as_text(value) for value in _values(batch.column(name))]
                size += sum(len(text) for text in texts if text)
                columns[name] += texts
            if size > max(_FREE_TO_UNPACK, _MOST_UNPACKED * len(data)):
                raise Fatal(_unpacks_to_much(path, data))
    except (pa.ArrowException, ArithmeticError, LookupError, OSError, RecursionError, ValueError) as error:
        # broken files and odd types: Arrow's errors, and Python's on texts that are no UTF-8 and dates past its own
        raise Fatal(f"{path} is not a Parquet file that can be read: {type(error).__name__}: {error}") from error
    return Columns(columns, range(read), read)


def _rows_to_read(path: str, told: pq.FileMetaData, size: int, limit: int | None) -> int:
    """Rows that repeat what stands before them take no room in Parquet, so a small file can hold very many."""
    rows = sum(told.row_group(i).num_rows for i in range(told.num_row_groups))
    rows = rows if limit is None else min(limit, rows)
    if rows > max(_FREE_ROWS, _MOST_ROWS * size):
        raise Fatal(f"{path} holds {rows:,} rows in {size:,} bytes, more than {_MOST_ROWS} a byte: are these images?")
    return rows


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except (OverflowError, ValueError):
        if not pa.types.is_temporal(column.type):
            raise
        return column.cast(pa.string()).to_pylist()  # Python's own times end with the year 9999


def _from_jsonl(path: str, data: bytes, wanted: list[str], limit: int | None) -> Columns:
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    positions = array("q")
    read, names = 0, dict[str, None]()
    for line in _lines(data, newline="\n"):  # str.splitlines would split on characters that JSON allows in strings
        if not line.strip():
            continue
        # Past the limit only names are looked for: a column may well be absent from the first rows.
        within = limit is None or read < limit
        if not within and all(name in names for name in wanted):
            break
        try:
            record = json.loads(line)
            values = [_as_text(record.get(name)) for name in wanted] if isinstance(record, dict) else None
        except (ValueError, RecursionError):
            values = None
        if values is not None:
            names.update(dict.fromkeys(record))
            if within:
                positions.append(read)
                for name, value in zip(wanted, values, strict=True):
                    columns[name].append(value)
        read += within
    _need(path, wanted, list(names))
    return Columns(columns, positions, read)


def _from_tsv(path: str, data: bytes, wanted: list[str], limit: int | None) -> Columns:
    lines = csv.reader(_lines(data, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    return _from_records(path, _unquoted(lines), wanted, limit)


def _from_csv(path: str, data: bytes, wanted: list[str], limit: int | None) -> Columns:
    return _from_records(path, _csv_records(path, data), wanted, limit)


def _from_records(path: str, records: Iterator[tuple[list[str], int]], wanted: list[str], limit: int | None) -> Columns:
    """`records` are (fields, lines spanned), the header first."""
    header, _ = next(records, (None, 0))
    if header is None:
        raise Fatal(f"{path} is empty: it has no header")
    _need(path, wanted, header)
    places = [(header.index(name), list[str | None]()) for name in wanted]
    positions = array("q")
    read = 0
    while read != limit and (record := next(records, None)):
        fields, lines = record
        if len(fields) != len(header):
            read = read + lines if limit is None else min(read + lines, limit)
            continue
        positions.append(read)
        read += 1
        for place, values in places:
            values.append(fields[place])
    return Columns({name: values for name, (_, values) in zip(wanted, places, strict=True)}, positions, read)


def _unquoted(lines: Iterator[list[str]]) -> Iterator[tuple[list[str], int]]:
    for fields in lines:
        if not fields:
            continue
        for i, field in enumerate(fields):
            if field[:1] == '"' and (whole := _QUOTED.fullmatch(field)):
                fields[i] = whole[1].replace('""', '"')
        yield fields, 1


def _csv_records(path: str, data: bytes) -> Iterator[tuple[list[str], int]]:
    """(fields, lines spanned) of every record but blank lines; no fields for one line that breaks the rules.

    Raises:
        Fatal: a quote that is not closed, or so late that another quote must have closed it. Rows would be lost in it.
    """
    csv.field_size_limit(2**31 - 1)  # a C long, 32 bits wide on some systems; the default refuses long texts
    reader = csv.reader(_lines(data, newline=""), strict=True)
    while True:
        start = reader.line_num
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines = reader.line_num - start
            if lines > 1 or "end of data" in str(error):
                record = "".join(islice(_lines(data, newline=""), start, reader.line_num))
                line = start + 1 + _breaks(record[: _bad_field(record)])
                raise Fatal(
                    f"{path}: the quote that opens on line {line} is not closed as CSV asks: {error}"
                ) from error
            yield [], 1
            continue
        lines = reader.line_num - start
        if lines > _MOST_BREAKS:
            breaks = [_breaks(field) for field in fields]
            if max(breaks) > _MOST_BREAKS:
                line = start + 1 + sum(breaks[: breaks.index(max(breaks))])
                raise Fatal(f"{path}: the quote that opens on line {line} is not closed for {max(breaks):,} lines")
        if fields:
            yield fields, lines


def _bad_field(record: str) -> int:
    """Where the first field begins that is not written as CSV asks."""
    at = 0
    while field := _CSV_FIELD.match(record, at):
        at = field.end()
    return at


def _breaks(text: str) -> int:
    return max(text.count("\n"), text.count("\r"))


def _utf8(path: str, data: bytes, encoding: str) -> bytes:
    """The text as UTF-8 without a mark of its byte order: a character takes a string, or a StringIO, up to 4 bytes."""
    try:
        text = data.decode(encoding)
    except (ValueError, LookupError) as error:
        raise Fatal(f"{path} is not {encoding}: {error}; set manifest.encoding") from error
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        data = text.encode("utf-8", "replace")  # some can spell half a surrogate pair
    return data.removeprefix(codecs.BOM_UTF8)


def _lines(data: bytes, *, newline: str) -> io.TextIOWrapper:
    """What StringIO would give of the text, without holding all of it."""
    return io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=newline)
