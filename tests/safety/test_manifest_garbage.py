"""Manifests as nobody should write them: rows or a message, and all rows accounted for."""

import gzip
import io
import json
import math
import os
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy import manifest_files
from seewhy.failure import Fatal
from seewhy.manifest import read_manifest
from tests.safety.watching import efforts, fuzzed, watched

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7", "latin-1", "cp1252", "shift_jis", "big5", "ascii"]
ODD_ENCODINGS = ["unicode_escape", "raw_unicode_escape", "punycode", "idna", "undefined", "hex", "rot13", "\0", "", "x"]
CELLS = [
    "1e308", "-1e308", "1e309", "nan", "inf", "1,234.5", "１２３", "0x10", "9" * 400, "null", "-", "../../etc/passwd",
    "file:///etc/passwd", "C:\\x", "gs://bucket/x", "javascript:alert(1)", "\0", '"', '""', "a,b", "a\tb", "\r", "\n",
    "\u2028", "\ufeff", "\u202e", "=1+1", " ", "日本", "🎬", "x" * 5000,
]  # fmt: skip

cells = st.sampled_from(CELLS) | st.text(max_size=8) | st.integers().map(str) | st.floats().map(str)
names = st.sampled_from(["image", "target", "text", "title", "id", "row", "source", "", "target", "=x", "é"])


def written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def looked_at(path: str, **options: Any) -> None:
    """Reads it, and holds the reader to what it promises."""
    said, rows = "", None
    with watched() as seen:
        try:
            rows = read_manifest(path, **{"target": "target", "image": "image", "keep": ["title"], **options})
        except Fatal as error:
            said = str(error)
    assert len(said) < 20_000
    assert seen.opened <= {os.path.realpath(path)}
    assert (seen.changed, seen.connected, seen.started) == (set(), [], [])
    if rows is None:
        return
    table = rows.table
    table.validate(full=True)
    assert rows.read == len(table) + sum(rows.dropped.values())
    assert rows.read <= (options.get("limit") or rows.read)
    positions = table["row"].to_pylist()
    assert positions == sorted(set(positions))
    assert all(0 <= one < rows.read for one in positions)
    targets = table["target"].to_pylist()
    assert all(math.isfinite(one) if rows.task == "regression" else one.strip() for one in targets)
    for source in table["source"].to_pylist():
        assert source is None or os.path.isabs(source) or ":" in source


@st.composite
def delimited(draw: Any) -> tuple[bytes, str, str]:
    """Bytes, encoding, ending of a file of lines that may or may not hold together."""
    mark = draw(st.sampled_from([",", "\t"]))
    header = draw(st.lists(names, min_size=1, max_size=5) | st.just(["image", "target", "title"]))
    rows = draw(st.lists(st.lists(cells, max_size=5), max_size=6))
    quote = draw(st.booleans())

    def line(fields: list[str]) -> str:
        return mark.join('"' + one.replace('"', '""') + '"' if quote else one for one in fields)

    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    encoding = draw(st.sampled_from(ENCODINGS + ODD_ENCODINGS))
    text = end.join(map(line, [header, *rows]))
    try:
        data = text.encode(draw(st.sampled_from([encoding, "utf-8"])), "replace")
    except (LookupError, ValueError):
        data = text.encode("utf-8", "replace")
    return mutated(draw, data), encoding, draw(st.sampled_from(["csv", "tsv"]))


def mutated(draw: Any, data: bytes) -> bytes:
    """The same, or with some bytes changed, or cut."""
    changed = bytearray(data)
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        if changed:
            changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.sampled_from([len(changed)] * 3 + [len(changed) // 2]))])


@efforts(150, 5_000)
def test_any_bytes_are_rows_or_a_message(tmp_path: Path, examples: int) -> None:
    endings = st.sampled_from(["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz", "txt"])

    @fuzzed(examples)
    @given(st.binary(max_size=200), endings, st.sampled_from(ENCODINGS + ODD_ENCODINGS))
    def check(data: bytes, ending: str, encoding: str) -> None:
        looked_at(written(tmp_path / f"m.{ending}", data), encoding=encoding)

    check()


@efforts(250, 8_000)
def test_lines_of_any_cells(tmp_path: Path, examples: int) -> None:
    @fuzzed(examples)
    @given(delimited(), st.none() | st.integers(1, 5), st.sampled_from(["auto", "regression", "classification"]))
    def check(given_file: tuple[bytes, str, str], limit: int | None, task: str) -> None:
        data, encoding, ending = given_file
        looked_at(written(tmp_path / f"m.{ending}", data), encoding=encoding, limit=limit, task=task)

    check()


surrogates = st.text(st.characters(codec=None), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | cells | surrogates,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(surrogates, inner, max_size=3),
    max_leaves=6,
)
ODD_LINES = [
    "{", "[]", "7", "null", "\0", '{"image": "a", "image": "b", "target": 1}', '{"target": 1' + "0" * 5000 + "}",
    '{"target": ' + "[" * 3000 + "]" * 3000 + "}", '{"target": "\\ud800"}', '{"target": 1e999}',
]  # fmt: skip


@efforts(250, 8_000)
def test_json_lines_of_any_values(tmp_path: Path, examples: int) -> None:
    keys = st.fixed_dictionaries({}, optional={"image": values, "target": values, "title": values})
    lines = keys.map(json.dumps) | st.sampled_from(ODD_LINES)

    @fuzzed(examples)
    @given(st.lists(lines, min_size=1, max_size=6))
    def check(lines: list[str]) -> None:
        looked_at(written(tmp_path / "m.jsonl", "\n".join(lines).encode("utf-8", "replace")))

    check()


def test_nested_values_are_texts_whole_to_the_last_character(tmp_path: Path) -> None:
    lines = [{"image": "a.png", "target": i, "title": {"t": ["\ud800", "é"]}} for i in (1, 2)]
    path = written(tmp_path / "m.jsonl", "\n".join(map(json.dumps, lines)).encode())
    rows = read_manifest(path, target="target", image="image", keep=["title"])
    assert rows.table["title"].to_pylist() == ['{"t": ["?", "é"]}'] * 2


COLUMNS: dict[str, list[Any]] = {
    "int": [1, 2, None],
    "float": [1e308, float("nan"), float("inf")],
    "text": ["a.png", "../../x", None],
    "bytes": [b"a.png", b"\xff\xfe", None],
    "bool": [True, False, None],
    "date": [date(1, 1, 1), date(9999, 12, 31), None],
    "time": [datetime(2026, 1, 1), None, datetime(1, 1, 1)],
    "money": [Decimal("1.5"), Decimal("-0"), None],
    "list": [["a"], [], None],
    "struct": [{"at": datetime(2026, 1, 1), "of": b"x"}, None, {"at": None, "of": b"\xff"}],
    "nothing": [None, None, None],
}
FAR = pa.array([2**62, -(2**62), 0], pa.int64())
ARRAYS: dict[str, pa.Array] = {
    **{name: pa.array(column) for name, column in COLUMNS.items()},
    "nanoseconds": FAR.cast(pa.timestamp("ns")),
    "far": FAR.cast(pa.timestamp("us")),
    "nowhere": pa.array([0, 1, 2], pa.timestamp("us", "Mars/Olympus")),
    "no text": pa.StringArray.from_buffers(3, pa.array([b"\xff", b"\xc3", b"a"]).buffers()[1],
                                           pa.array([b"\xff", b"\xc3", b"a"]).buffers()[2]),
    "span": pa.array([1, 2, 3], pa.duration("ns")),
    "coded": pa.array(["x", "y", "x"]).dictionary_encode(),
}  # fmt: skip


@pytest.mark.parametrize("image", ARRAYS)
def test_parquet_of_any_types(tmp_path: Path, image: str) -> None:
    for target in ARRAYS:
        table = pa.table([ARRAYS[image], ARRAYS[target], ARRAYS["struct"]], ["image", "target", "title"])
        pq.write_table(table, tmp_path / "m.parquet")
        looked_at(str(tmp_path / "m.parquet"))


def test_texts_that_a_writer_called_bytes_are_texts(tmp_path: Path) -> None:
    far = pa.array([320_000_000_000] * 2, pa.timestamp("s"))
    table = pa.table({"image": [b"a.png", b"b.png"], "target": [1, 2], "when": far})
    pq.write_table(table, tmp_path / "m.parquet")
    rows = read_manifest(str(tmp_path / "m.parquet"), target="target", image="image", keep=["when"]).table
    assert rows["source"].to_pylist() == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert rows["when"].to_pylist()[0].startswith("12110-")  # past the years of Python's own dates


@pytest.mark.parametrize("name", ["x\0.csv", "x" * 300 + ".csv", "m.csv/below.csv", "."])
def test_names_that_no_file_has(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.csv").write_text("a,b\n")
    with pytest.raises(Fatal, match="manifest"):
        read_manifest(str(tmp_path / name), target="a", image="b", format="csv")


def test_half_a_gzip_is_no_manifest_and_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "image,target\n" + "".join(f"{i}.png,{i * 7919 % 1000}\n" for i in range(500))
    whole = gzip.compress(lines.encode())
    assert read_manifest(written(tmp_path / "m.csv.gz", whole), target="target", image="image").read == 500
    for cut in range(0, len(whole), 97):
        with pytest.raises(Fatal):
            read_manifest(written(tmp_path / "m.csv.gz", whole[:cut]), target="target", image="image")
    monkeypatch.setattr(manifest_files, "_FREE_TO_UNPACK", 1_000_000)
    bomb = io.BytesIO()
    with gzip.open(bomb, "wb") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    path = written(tmp_path / "bomb.csv.gz", bomb.getvalue())
    with watched() as seen, pytest.raises(Fatal, match="unpacks to more than 100 times"):
        read_manifest(path, target="target", image="image")
    assert seen.changed == set()


def repeated(path: Path, rows: int, text: str) -> str:
    """A file of equal rows, which takes hardly more room than one of them."""
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [text])
    pq.write_table(pa.table({"image": one, "target": one}), path, compression="zstd", store_schema=False)
    return str(path)


def test_parquet_of_very_many_rows_in_hardly_any_bytes_is_refused(tmp_path: Path) -> None:
    path = repeated(tmp_path / "bomb.parquet", 4_000_000, "1")
    assert os.path.getsize(path) < 50_000
    with watched(at_most_sec=5), pytest.raises(Fatal, match=r"holds 4,000,000 rows in .* bytes, more than 20 a byte"):
        read_manifest(path, target="target", image="image")
    with watched(at_most_sec=5):
        assert read_manifest(path, target="target", image="image", limit=250).read == 250


def test_parquet_of_one_long_text_in_very_many_rows_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = repeated(tmp_path / "bomb.parquet", 50_000, "x" * 100_000)  # 10 GB
    assert os.path.getsize(path) < 5_000
    with watched(at_most_sec=10), pytest.raises(Fatal, match="unpacks to more than 100 times"):
        read_manifest(path, target="target", image="image")
    monkeypatch.setattr(manifest_files, "_FREE_TO_UNPACK", 1_000_000)
    with watched(at_most_sec=5), pytest.raises(Fatal, match="unpacks to more than 100 times"):
        read_manifest(path, target="target", image="image", limit=10)


@pytest.mark.parametrize("limit", [None, 1, 100, 130, 250, 1000])
def test_parquet_is_read_as_far_as_the_limit_over_all_its_row_groups(tmp_path: Path, limit: int | None) -> None:
    table = pa.table({"image": [f"{i}.png" for i in range(300)], "target": range(300)})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=130)
    rows = read_manifest(str(tmp_path / "m.parquet"), target="target", image="image", limit=limit)
    expected = list(range(300))[:limit]
    assert rows.read == len(expected)
    assert rows.table["row"].to_pylist() == expected
    assert rows.table["target"].to_pylist() == expected


def test_a_table_of_very_many_columns_is_named_in_short(tmp_path: Path) -> None:
    path = written(tmp_path / "m.csv", (",".join(f"c{i}" for i in range(50_000)) + "\n").encode())
    with pytest.raises(Fatal, match="'c99' and 49,900 more") as error:
        read_manifest(path, target="target", image="image")
    assert len(str(error.value)) < 5000
