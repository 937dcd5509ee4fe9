"""A keyed table: a folder of Parquet parts whose rows each carry an id, written part by part, never changed.

    captions/3f9c2a71b04e/
        _config.json                    all that changes a result, in words; the folder's name is its hash
        part-000001-8d0c....parquet     generation 1; the rest of the name is the hash of the part's ids
        part-000002-11fe....parquet     generation 2: a later run, for rows new or tried again
        _done.json                      written last; reconciles rows in = ok + rejected + failed

A part appears only when whole, and one that is written twice (a block computed again after a node was lost) lands on
the same name. Where an id stands in several parts, the newest generation holds. Pages carry checksums, and so does the
footer, in a seal before it: a part that storage has changed is an error, and never other rows. Beside the parts
`_held-...` may lie, what workers note of rows that end their process (see poison).
"""

import io
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from seewhy import storage, urls
from seewhy.failure import KINDS, REJECTED, TRANSIENT, Fatal
from seewhy.hiding import shown
from seewhy.parquet import open_parquet
from seewhy.schema import ERROR_KIND, ID, REASON

_GROUP_BYTES = 1 << 20  # of a row group: one image can be read without all others of its part
_INDEX_THREADS = 16  # opening parts on object storage is all waiting
_SEAL = b"seewhy 1"
_TAIL_BYTES = 8  # the footer's length and PAR1
_FOOTER_READ = 1 << 16  # what Arrow reads of a file to begin with
_REMEDY = "delete it and run again"
_PART = re.compile(r"part-(\d{6})-[0-9a-f]{32}\.parquet")


def digest(value: Any) -> str:
    """32 hexadecimal digits (XXH128) of a JSON-able value, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())


def digest_ids(ids: pa.Array | pa.ChunkedArray) -> str:
    """Names a set of ids, whatever their order."""
    whole = xxhash.xxh3_128()
    order = pc.sort_indices(ids)
    for start in range(0, len(order), 100_000):
        whole.update("".join(f"{one}\n" for one in pc.take(ids, order.slice(start, 100_000)).to_pylist()).encode())
    return whole.hexdigest()


def digest_text(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Counts:
    """Rows of a table by outcome; `rows_in` of them were asked for."""

    rows_in: int
    ok: int
    failed: dict[str, int]  # kind -> rows, all of failure.KINDS
    reasons: dict[str, int]  # "kind/reason" -> rows

    @property
    def missing(self) -> int:
        return self.rows_in - self.ok - sum(self.failed.values())

    @property
    def failed_fraction(self) -> float:
        """Share of rows that failed; a rejected row is an answer of the model's, not a failure of the job."""
        failed = sum(n for kind, n in self.failed.items() if kind != REJECTED)
        return failed / self.rows_in if self.rows_in else 0.0


@dataclass(frozen=True)
class Table:
    """A keyed table at an fsspec URL.

    Attributes:
        url: the folder of this configuration's parts.
        schema: Arrow schema of the rows; starts with `id`, and ends with the three failure columns.
    """

    url: str
    schema: pa.Schema

    def parts(self, *, generation: int | None = None) -> list[str]:
        """URLs of the parts, or of one generation's, oldest generation first, then by name."""
        names = [match for n in sorted(storage.list_files(self.url)) if (match := _PART.fullmatch(n))]
        return [urls.join(self.url, m[0]) for m in names if generation is None or int(m[1]) == generation]

    def size_bytes(self) -> int:
        return sum(size for name, size in storage.list_files(self.url).items() if _PART.fullmatch(name))

    def next_generation(self) -> int:
        names = [m for n in storage.list_files(self.url) if (m := _PART.fullmatch(n))]
        return 1 + max((int(m[1]) for m in names), default=0)

    def append(self, rows: pa.Table, *, generation: int, block: pa.ChunkedArray | None = None) -> str:
        """Writes one part whole and returns its URL; the same ids in the same generation land on the same name.

        Args:
            block: ids that name the part, where it holds only some of them: for `committed`, those are then done.
        """
        ids = rows.column(ID).to_pylist()
        if len(set(ids)) != len(ids):
            raise ValueError(f"a part of {shown(self.url)} would hold an id twice: {_first_repeated(ids)!r}")
        named = ids if block is None else block.to_pylist()
        url = urls.join(self.url, _part_name(named, generation))
        write_part(url, rows, self.schema)
        return url

    def committed(self, ids: pa.ChunkedArray, *, generation: int) -> pa.ChunkedArray | None:
        """The outcomes (kind of failure, or null) of the part of these ids in this order; None where there is none."""
        url = urls.join(self.url, _part_name(ids.to_pylist(), generation))
        return read_part(url, [ERROR_KIND]).column(ERROR_KIND) if storage.exists(url) else None

    def index(self) -> pa.Table:
        """Where every id's newest row is, in the order of the parts.

        Returns:
            Columns id, part (index into `parts()`), position (row in the part), error_kind, reason.
        """
        return index_parts(self.parts())

    def locate(self, ids: pa.Array | pa.ChunkedArray, columns: Sequence[str] = ()) -> pa.Table:
        """Where the rows of `ids` lie that are there and ok: id, part, position, and `columns` read along."""
        index = self.index()
        index = index.filter(
            pc.and_(pc.is_null(index.column(ERROR_KIND)), pc.is_in(index.column(ID), value_set=_chunk(ids)))
        )
        found = index.select([ID, "part", "position"])
        if columns and len(found):
            stored = pa.concat_tables(list(read_rows(self.parts(), index, columns)))
            for name in columns:
                found = found.append_column(name, stored.column(name))
        elif columns:
            for name in columns:
                found = found.append_column(self.schema.field(name), pa.nulls(0, self.schema.field(name).type))
        return found

    def is_done(self, rows_digest: str) -> bool:
        """Whether the table is marked complete for just these rows."""
        return (self.done_mark() or {}).get("rows") == rows_digest

    def counts(self, asked: pa.Array | pa.ChunkedArray | None = None) -> Counts:
        """Outcomes of the rows asked for (all rows of the table by default)."""
        index = self.index()
        rows_in = len(index) if asked is None else len(asked)
        if asked is not None:
            index = index.filter(pc.is_in(index.column(ID), value_set=_chunk(asked)))
        failed = dict.fromkeys(KINDS, 0)
        reasons: dict[str, int] = {}
        ok = 0
        why = pc.binary_join_element_wise(index.column(ERROR_KIND), index.column(REASON), "/", null_handling="replace")
        for outcome in pc.value_counts(why).to_pylist():
            kind, count = outcome["values"].split("/", 1)[0], outcome["counts"]
            if kind:
                failed[kind] += count
                reasons[outcome["values"]] = count
            else:
                ok += count
        return Counts(rows_in=rows_in, ok=ok, failed=failed, reasons=dict(sorted(reasons.items())))

    def done_ids(
        self, *, retry: Collection[str] = (TRANSIENT,), retry_reasons: Collection[str] = ()
    ) -> pa.ChunkedArray:
        """Ids that need no more work: ok, or failed of a kind, and for a reason, that is not to be tried again."""
        index = self.index()
        again = pc.is_in(index.column(ERROR_KIND), value_set=pa.array(sorted(retry), pa.string()))
        failed = pc.is_valid(index.column(ERROR_KIND))
        why = pc.is_in(index.column(REASON), value_set=pa.array(sorted(retry_reasons), pa.string()))
        again = pc.or_(again, pc.and_(failed, why))
        return index.filter(pc.invert(again)).column(ID)

    def read(self, columns: Sequence[str] | None = None, *, only_ok: bool = True) -> pa.Table:
        """The newest row of every id, whole in memory."""
        names = list(columns) if columns is not None else self.schema.names
        pieces = list(self.batches(names, only_ok=only_ok))
        schema = pa.schema([self.schema.field(n) for n in names])
        return pa.concat_tables([p.cast(schema) for p in pieces]) if pieces else schema.empty_table()

    def batches(
        self, columns: Sequence[str], *, only_ok: bool = True, ids: pa.Array | pa.ChunkedArray | None = None
    ) -> Iterator[pa.Table]:
        """The newest rows, or those of `ids`, part by part, for tables larger than memory."""
        parts = self.parts()
        index = index_parts(parts)
        if ids is not None:
            index = index.filter(pc.is_in(index.column(ID), value_set=_chunk(ids)))
        if only_ok:
            index = index.filter(pc.is_null(index.column(ERROR_KIND)))
        yield from read_rows(parts, index, columns)

    def write_config(self, config: dict[str, Any]) -> None:
        url = urls.join(self.url, "_config.json")
        if storage.read_json(url) is None:
            storage.write_json(url, config)

    def config(self) -> dict[str, Any] | None:
        return storage.read_json(urls.join(self.url, "_config.json"))

    def mark_done(self, counts: Counts, *, rows_digest: str) -> None:
        """Writes `_done.json`, after which the table is complete for the rows that `rows_digest` names."""
        if counts.missing:
            raise Fatal(
                f"{shown(self.url)} does not add up: {counts.rows_in} rows in, {counts.ok} ok, {counts.failed} failed, "
                f"{counts.missing} missing; run the stage again"
            )
        mark = {"rows_in": counts.rows_in, "ok": counts.ok, "failed": counts.failed, "rows": rows_digest}
        if mark != self.done_mark():
            storage.write_json(urls.join(self.url, "_done.json"), mark)

    def done_mark(self) -> dict[str, Any] | None:
        return storage.read_json(urls.join(self.url, "_done.json"))


def _part_name(ids: Sequence[str], generation: int) -> str:
    return f"part-{generation:06d}-{digest(ids)}.parquet"


def _group_rows(rows: pa.Table) -> int:
    groups = max(1, rows.nbytes // _GROUP_BYTES)
    return max(1, len(rows) // groups)


def index_parts(parts: Sequence[str]) -> pa.Table:
    """See `Table.index`. Parts never change, so what was read of the same parts is kept."""
    return _read_index(tuple(parts))


@lru_cache(maxsize=4)
def _read_index(parts: tuple[str, ...]) -> pa.Table:
    """Only the key and failure columns are read, never the images or texts beside them."""
    if not parts:
        fields = [(ID, pa.string()), (ERROR_KIND, pa.string()), (REASON, pa.string())]
        return pa.schema([*fields, ("part", pa.int32()), ("position", pa.int32())]).empty_table()
    threads = 1 if urls.scheme(parts[0]) == "file" else _INDEX_THREADS
    with ThreadPoolExecutor(min(len(parts), threads)) as pool:
        keys = list(pool.map(lambda url: read_part(url, [ID, ERROR_KIND, REASON]).combine_chunks(), parts))
    lengths = [len(piece) for piece in keys]
    index = pa.concat_tables(keys).combine_chunks()
    index = index.append_column("part", pa.array(np.repeat(np.arange(len(parts), dtype=np.int32), lengths)))
    positions = [np.arange(length, dtype=np.int32) for length in lengths]
    index = index.append_column("position", pa.array(np.concatenate(positions)))
    if pc.count_distinct(index.column(ID)).as_py() == len(index):
        return index
    order = index.select([ID]).append_column("order", pa.array(np.arange(len(index), dtype=np.int64)))
    newest = order.group_by(ID).aggregate([("order", "max")]).column("order_max")
    return index.take(pa.array(np.sort(newest.to_numpy())))


def write_part(url: str, rows: pa.Table, schema: pa.Schema) -> None:
    """A file of rows that appears only when whole."""
    buffer = io.BytesIO()
    pq.write_table(
        rows.cast(schema), buffer, compression="zstd", row_group_size=_group_rows(rows), write_page_checksum=True
    )
    storage.write_whole(url, _sealed(buffer.getvalue()))


def read_part(url: str, columns: Sequence[str] | None, *, remedy: str = _REMEDY) -> pa.Table:
    """One part's columns, no more of the file than they need; a part that cannot be read is Fatal: parts are whole.

    Any other file of the workspace is read so too, with what to do where it is broken as its `remedy`.
    """
    return _read(url, lambda file: file.read(columns=list(columns) if columns else None, use_threads=False), remedy)


def _read(url: str, read: Callable[[pq.ParquetFile], pa.Table], remedy: str = _REMEDY) -> pa.Table:
    """ParquetFile, not read_table, which would start a pool of threads and its arenas for each small part."""
    try:
        return storage.read_with(url, lambda file: read(_checked(file)))
    except (pa.ArrowException, ArithmeticError, LookupError, OSError, ValueError) as error:
        if isinstance(error, OSError) and (error.errno is not None or isinstance(error, FileNotFoundError)):
            raise  # storage's own; Arrow's have no number
        raise Fatal(f"{shown(url)} is not a whole Parquet file ({error}); {remedy}") from error


def _checked(file: IO[bytes]) -> pq.ParquetFile:
    _check_seal(file)
    return open_parquet(file, page_checksum_verification=True)


def _sealed(part: bytes) -> bytes:
    """Parquet knows checksums of pages and none of the footer, which says where pages lie and what they are.

    Readers find the footer by its length from the end of the file, so there is room for one before it.
    """
    at = len(part) - _TAIL_BYTES - int.from_bytes(part[-8:-4], "little")
    return b"".join((part[:at], _SEAL, xxhash.xxh3_64_digest(part[at:]), part[at:]))


def _check_seal(file: IO[bytes]) -> None:
    """Raises ValueError where the footer is not the one that was sealed. Parts of old have no seal.

    What is read here ParquetFile reads again, in the same piece, which files on object storage have kept.
    """
    size = file.seek(0, os.SEEK_END)
    tail = _last(file, size, _FOOTER_READ)
    footer = _TAIL_BYTES + int.from_bytes(tail[-8:-4], "little")
    seal = footer + len(_SEAL) + 8
    if seal > size:
        return
    if seal > len(tail):
        tail = _last(file, size, seal)
    if tail[-seal:].startswith(_SEAL) and tail[-footer - 8 : -footer] != xxhash.xxh3_64_digest(tail[-footer:]):
        raise ValueError("its footer was changed")


def _last(file: IO[bytes], size: int, count: int) -> bytes:
    file.seek(max(0, size - count))
    return file.read(count)


def read_rows(parts: Sequence[str], where: pa.Table, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows that `where` (columns part, position) points to, a table a run of equal parts, in its order."""
    part = where.column("part").to_numpy()
    position = where.column("position").to_numpy()
    edges = np.flatnonzero(np.diff(part)) + 1
    for start, end in zip(np.r_[0, edges], np.r_[edges, len(part)], strict=True):
        if start < end:
            yield _read_positions(parts[part[start]], position[start:end], columns)


def _read_positions(url: str, positions: np.ndarray, columns: Sequence[str]) -> pa.Table:
    """Rows of one part in the order of `positions`; reads the row groups that hold them and no others."""

    def read(file: pq.ParquetFile) -> pa.Table:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(groups)
        group = np.searchsorted(ends, positions, side="right")
        wanted = np.unique(group)
        starts = np.zeros(len(groups), np.int64)  # where each group that is read begins among the rows read
        starts[wanted] = np.cumsum([0, *(groups[i] for i in wanted[:-1])])
        found = file.read_row_groups(wanted.tolist(), columns=list(columns), use_threads=False)
        return found.take(pa.array(starts[group] + positions - (ends[group] - np.asarray(groups)[group])))

    return _read(url, read)


def missing_rows(wanted: pa.Table, done: pa.ChunkedArray) -> pa.Table:
    """The rows of `wanted` whose id is not among `done`: the anti-join that makes a rerun cheap."""
    return wanted.filter(pc.invert(pc.is_in(wanted.column(ID), value_set=_chunk(done))))


def _chunk(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    return ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids


def _first_repeated(ids: list[str]) -> str:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            return one
        seen.add(one)
    return ""
