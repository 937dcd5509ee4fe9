"""Columns of types whose values code makes: `import ray.data` registers one that unpickles them; all are refused."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data  # noqa: F401  registers its types

from seewhy import schema
from seewhy.failure import Fatal
from seewhy.manifest import read_manifest
from seewhy.parquet import open_parquet
from seewhy.run import Source, Stored, read_block
from seewhy.steps import training
from seewhy.steps.shards import keys_of
from seewhy.table import Table
from tests.safety.test_pickles import Payload
from tests.safety.watching import watched

NAMED = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}


def pickled(name: str) -> pa.Field:
    """Bytes for who writes the file, which needs no Ray, and a pickle for who reads it."""
    return pa.field(name, pa.large_binary(), metadata=NAMED)


TYPES: dict[str, pa.Field] = {
    "itself": pickled("x"),
    "in lists": pa.field("x", pa.list_(pickled("item"))),
    "in structs": pa.field("x", pa.struct([pickled("a")])),
    "in maps": pa.field("x", pa.map_(pa.string(), pickled("value"))),
    "in structs in lists": pa.field("x", pa.list_(pa.struct([pa.field("b", pa.int32()), pickled("a")]))),
}


def around(kind: pa.DataType, data: bytes) -> Any:
    """A value of a type that holds the bytes somewhere."""
    if pa.types.is_map(kind):
        return [("k", data)]
    if pa.types.is_list(kind):
        return [around(kind.value_type, data)]
    if pa.types.is_struct(kind):
        return {one.name: around(one.type, data) for one in kind}
    return 1 if pa.types.is_int32(kind) else data


def with_column(path: Path, name: str, field: pa.Field, data: bytes) -> None:
    """Puts a column of `field`'s type in the place of the one of that name."""
    table = pq.ParquetFile(path).read()
    values = pa.array([around(field.type, data)] * len(table), field.type)
    at = table.schema.get_field_index(name)
    pq.write_table(table.set_column(at, field.with_name(name), values), path)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "pwned"


@pytest.fixture
def data(mark: Path) -> bytes:
    return pickle.dumps(Payload(mark))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    one = Table(str(tmp_path / "caption" / "0"), schema.TOKENS)
    nothing = [None] * 2
    rows = {"id": ["a", "b"], "words": [["x"]] * 2, "error_kind": nothing, "reason": nothing, "detail": nothing}
    one.append(pa.table(rows, schema=schema.TOKENS), generation=1)
    return one


@pytest.mark.parametrize("kind", TYPES)
def test_they_run_where_nobody_looks(kind: str, tmp_path: Path, mark: Path, data: bytes) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    with_column(path, "x", TYPES[kind], data)
    pq.ParquetFile(path).read().to_pydict()
    assert mark.exists()


@pytest.mark.parametrize("column", ["words", "detail", "id"])
@pytest.mark.parametrize("kind", TYPES)
def test_in_a_part_they_are_refused(kind: str, column: str, table: Table, mark: Path, data: bytes) -> None:
    (part,) = table.parts()
    with_column(Path(part), column, TYPES[kind], data)
    where = pa.table({"id": ["a"], "part": pa.array([0], pa.int32()), "position": pa.array([0], pa.int32())})
    source = Source(where, (Stored([part], {"text": column}),))
    told = rf"part-.* is not a whole Parquet file \(column '{column}' is of type .*, which runs code"
    with watched() as seen:
        for read in (table.index, table.read, lambda: read_block(source, where).to_pydict()):
            with pytest.raises(Fatal, match=told):
                read()
    assert not mark.exists()
    assert seen.unpickled == []


def test_in_the_tables_of_a_training_they_are_refused(tmp_path: Path, mark: Path, data: bytes) -> None:
    path = tmp_path / "predictions.parquet"
    pq.write_table(pa.table({"id": ["a"], "fold": [0], "target": ["x"]}), path)
    assert training.fold_of_item(str(tmp_path)).to_pylist() == [{"id": "a", "fold": 0, "target": "x"}]
    with_column(path, "target", TYPES["itself"], data)
    with pytest.raises(Fatal, match=f"'target' is of type .* delete {tmp_path} and run again"):
        training.read_table(str(tmp_path), "predictions")
    assert not mark.exists()


def test_in_the_record_of_a_batch_job_they_are_refused(table: Table, mark: Path, data: bytes) -> None:
    path = Path(table.url) / "_batch" / "job.keys.parquet"
    path.parent.mkdir()
    rows = {"id": ["a"], "request": ["b"], "digest": ["c"]}
    pq.write_table(pa.table(rows), path)
    shard: Any = SimpleNamespace(name="job")
    assert keys_of(table, shard).to_pydict() == rows
    with_column(path, "request", TYPES["itself"], data)
    with pytest.raises(Fatal, match=r"'request' is of type .*; without it no row of the job job is known"):
        keys_of(table, shard)
    assert not mark.exists()


@pytest.mark.parametrize("kind", TYPES)
def test_in_a_manifest_they_are_refused_where_they_are_read(kind: str, tmp_path: Path, mark: Path, data: bytes) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "target": [1, 2], "other": [1, 2]}), path)
    with_column(path, "other", TYPES[kind], data)
    assert read_manifest(str(path), image="image", target="target").read == 2
    for columns in ({"target": "other"}, {"target": "target", "keep": ["other"]}):
        with watched() as seen, pytest.raises(Fatal, match=r"column 'other' is of type .*, which runs code to be read"):
            read_manifest(str(path), image="image", **columns)
        assert seen.unpickled == []
    assert not mark.exists()


@pytest.mark.parametrize("name", [b"ray.data.arrow_tensor", b"ray.data.arrow_tensor_v2"])
def test_what_describes_a_type_is_not_unpickled_as_a_file_is_opened(
    name: bytes, tmp_path: Path, mark: Path, data: bytes
) -> None:
    """Arrow asks a library for its type before anybody can look at it: this holds by Ray's own care, from 2.55 on."""
    path = tmp_path / "x.parquet"
    kind = pa.list_(pa.int64()) if name.endswith(b"tensor") else pa.large_list(pa.int64())
    named = {b"ARROW:extension:name": name, b"ARROW:extension:metadata": data}
    pq.write_table(pa.table([pa.array([[1]], kind)], schema=pa.schema([pa.field("x", kind, metadata=named)])), path)
    with watched() as seen, path.open("rb") as file, pytest.raises(ValueError, match="Unable to deserialize shape"):
        open_parquet(file)
    assert not mark.exists()
    assert seen.unpickled == []


def test_arrows_own_types_are_read(tmp_path: Path) -> None:
    """Other programs write them: uuid and JSON are types of Parquet's too."""
    path = tmp_path / "m.parquet"
    of = pa.array([b"0123456789abcdef", b"fedcba9876543210"], pa.binary(16)).cast(pa.uuid())
    told = pa.array(['{"a": 1}', "2"]).cast(pa.json_())
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "target": [1, 2], "of": of, "told": told}), path)
    rows = read_manifest(str(path), image="image", target="target", keep=["of", "told"]).table
    assert rows["of"].to_pylist() == ["30313233-3435-3637-3839-616263646566", "66656463-6261-3938-3736-353433323130"]
    assert rows["told"].to_pylist() == ['{"a": 1}', "2"]


def test_dictionaries_of_them_are_refused(tmp_path: Path) -> None:
    """Parquet as it is written today gives none of these, so only the look is tried."""
    from seewhy.parquet import _runs_code

    ours = TYPES["itself"]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table([pa.array([b"x"], pa.large_binary())], schema=pa.schema([ours])), path)
    with path.open("rb") as file:
        kind = pq.ParquetFile(file).schema_arrow.field(0).type
        assert open_parquet(file, columns=["another"]).metadata.num_rows == 1
        with pytest.raises(ValueError, match=r"'x' is of type extension<ray\.data"):
            open_parquet(file)
    for holding in (pa.dictionary(pa.int32(), kind), pa.run_end_encoded(pa.int32(), kind), pa.opaque(kind, "a", "b")):
        assert _runs_code(pa.list_(holding))
    assert not _runs_code(pa.list_(pa.dictionary(pa.int32(), pa.uuid())))
