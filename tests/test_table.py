"""The keyed table: newest generation wins, parts are whole, counts add up. Numbers worked out by hand."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seewhy import schema, storage
from seewhy.failure import Fatal
from seewhy.table import Table, digest, digest_ids, missing_rows, read_rows

SCHEMA = schema.row_stage(pa.field("text", pa.string()))


def rows(*triples: tuple[str, str | None, str | None]) -> pa.Table:
    """(id, text, kind) -> rows."""
    return pa.table(
        {
            "id": [t[0] for t in triples],
            "text": [t[1] for t in triples],
            "error_kind": pa.array([t[2] for t in triples], pa.string()),
            "reason": pa.array([t[2] and "because" for t in triples], pa.string()),
            "detail": pa.nulls(len(triples), pa.string()),
        },
        schema=SCHEMA,
    )


@pytest.fixture(params=["disk", "memory"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    if request.param == "disk":
        return Table(str(tmp_path / "captions" / "abc"), SCHEMA)
    return Table(f"memory://bucket-{tmp_path.name}/captions/abc", SCHEMA)


def test_newest_generation_holds(table: Table) -> None:
    table.append(rows(("a", None, "transient"), ("b", "one", None)), generation=table.next_generation())
    table.append(rows(("c", None, "bad_input")), generation=1)
    assert table.next_generation() == 2
    table.append(rows(("a", "again", None)), generation=2)
    assert table.read(["id", "text"]).to_pydict() == {"id": ["b", "a"], "text": ["one", "again"]}
    counts = table.counts()
    assert (counts.rows_in, counts.ok, counts.missing) == (3, 2, 0)
    assert counts.failed == {"transient": 0, "rejected": 0, "bad_input": 1}
    assert counts.reasons == {"bad_input/because": 1}


def test_a_block_written_twice_is_there_once(table: Table) -> None:
    first = table.append(rows(("a", "x", None), ("b", "y", None)), generation=1)
    second = table.append(rows(("a", "x", None), ("b", "y", None)), generation=1)
    assert first == second
    assert len(table.parts()) == 1
    assert table.counts().ok == 2


def test_an_id_that_two_runs_wrote_in_one_generation_counts_once(table: Table) -> None:
    """A run that was taken for dead and woke: it cut its blocks otherwise than the one that went on."""
    parts = [rows(("a", "x", None), ("b", "y", None)), rows(("b", "z", None), ("c", "z", None))]
    urls = [table.append(part, generation=1) for part in parts]
    last = parts[urls.index(max(urls))].to_pydict()
    assert table.counts().ok == 3
    read = table.read(["id", "text"]).to_pydict()
    assert sorted(read["id"]) == ["a", "b", "c"]
    assert read["text"][read["id"].index("b")] == last["text"][last["id"].index("b")]  # of the part last by name


def test_done_and_retry(table: Table) -> None:
    table.append(
        rows(("a", None, "transient"), ("b", None, "rejected"), ("c", None, "bad_input"), ("d", "x", None)),
        generation=1,
    )
    wanted = pa.table({"id": ["a", "b", "c", "d", "e"]})
    assert missing_rows(wanted, table.done_ids()).column("id").to_pylist() == ["a", "e"]
    again = table.done_ids(retry=("transient", "rejected"))
    assert missing_rows(wanted, again).column("id").to_pylist() == ["a", "b", "e"]


def test_counts_of_the_rows_asked_for(table: Table) -> None:
    table.append(rows(("a", "x", None), ("b", None, "bad_input"), ("c", "z", None)), generation=1)
    counts = table.counts(pa.array(["a", "b", "q"]))
    assert (counts.rows_in, counts.ok, counts.failed["bad_input"], counts.missing) == (3, 1, 1, 1)
    assert counts.failed_fraction == pytest.approx(1 / 3)
    with pytest.raises(Fatal, match="1 missing"):
        table.mark_done(counts, rows_digest="0")
    assert table.done_mark() is None


def test_a_rejected_row_is_no_failure_of_the_job(table: Table) -> None:
    table.append(rows(("a", None, "rejected"), ("b", None, "transient")), generation=1)
    assert table.counts().failed_fraction == 0.5


def test_an_id_twice_in_a_part_is_refused(table: Table) -> None:
    with pytest.raises(ValueError, match="'b'"):
        table.append(rows(("a", "x", None), ("b", "x", None), ("b", "y", None)), generation=1)


def test_an_unfinished_write_is_no_part(tmp_path: Path) -> None:
    table = Table(str(tmp_path), SCHEMA)
    url = table.append(rows(("a", "x", None)), generation=1)
    (tmp_path / f".{os.path.basename(url)}.0123.tmp").write_bytes(b"half")
    (tmp_path / "part-000002-notes.parquet").write_bytes(b"somebody's file")
    assert table.parts() == [url]


def test_a_torn_part_is_fatal_and_named(tmp_path: Path) -> None:
    table = Table(str(tmp_path), SCHEMA)
    url = table.append(rows(("a", "x", None)), generation=1)
    Path(url).write_bytes(Path(url).read_bytes()[:-20])
    with pytest.raises(Fatal, match=os.path.basename(url)):
        table.read()


def test_index_reads_no_heavy_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(str(tmp_path), SCHEMA)
    table.append(rows(("a", "x", None)), generation=1)
    asked: list[list[str] | None] = []
    real = pq.ParquetFile.read

    def read(self: pq.ParquetFile, columns: list[str] | None = None, **options: bool) -> pa.Table:
        asked.append(columns)
        return real(self, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", read)
    table.index()
    assert asked == [["id", "error_kind", "reason"]]


def test_digest_is_stable() -> None:
    assert digest({"b": 1, "a": [1.5, "é"]}) == digest({"a": [1.5, "é"], "b": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_set_of_ids_has_one_name() -> None:
    assert digest_ids(pa.array(["b", "a"])) == digest_ids(pa.chunked_array([["a"], ["b"]]))
    assert digest_ids(pa.array(["a", "b"])) != digest_ids(pa.array(["ab"]))


def test_a_full_disk_is_fatal_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Fatal, match="no space left"):
        storage.write_whole(str(tmp_path / "x" / "file"), b"data")
    assert list((tmp_path / "x").iterdir()) == []


def test_one_row_is_read_without_its_heavy_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rows of a megabyte: a row group each, of which the wanted ones alone are read, in the order asked for."""
    table = Table(str(tmp_path), schema.row_stage(pa.field("data", pa.binary())))
    data = [bytes([i]) * (1 << 20) for i in range(8)]
    nothing = pa.nulls(8, pa.string())
    columns = [[f"{i}" for i in range(8)], data, nothing, nothing, nothing]
    table.append(pa.table(columns, schema=table.schema), generation=1)
    asked: list[list[int]] = []
    real = pq.ParquetFile.read_row_groups

    def read(self: pq.ParquetFile, groups: list[int], **options: object) -> pa.Table:
        asked.append(groups)
        return real(self, groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", read)
    where = pa.table({"part": pa.array([0, 0, 0], pa.int32()), "position": pa.array([5, 2, 5], pa.int32())})
    found = pa.concat_tables(list(read_rows(table.parts(), where, ["id", "data"])))
    assert found["id"].to_pylist() == ["5", "2", "5"]
    assert [value[:1] for value in found["data"].to_pylist()] == [b"\x05", b"\x02", b"\x05"]
    assert asked == [[2, 5]]
