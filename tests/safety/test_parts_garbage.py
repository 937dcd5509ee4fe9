"""Parts of tables that storage changed: an error that names the part, or the right rows; never other rows."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seewhy import schema
from seewhy import table as table_module
from seewhy.failure import Fatal
from seewhy.table import Table, read_part
from tests.safety.watching import efforts

ROOT = Path(__file__).parents[2]
ROWS = {"id": ["a", "b"], "words": [["x"], ["y"]], "error_kind": [None] * 2, "reason": [None] * 2, "detail": [None] * 2}


@efforts(300, 5_000)
def test_a_changed_part_is_told_or_harmless(tmp_path: Path, examples: int) -> None:
    """In a process of its own, with bounded memory: Arrow reads in C++, where a fault ends the process."""
    command = [sys.executable, "-m", "tests.safety.changed_parts", str(tmp_path), str(examples), "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 + examples)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found.get("other", 0) == 0, found
    assert found["told"] > examples  # of three tables
    assert found["told"] + found.get("right", 0) == 3 * examples


def test_parts_from_before_there_were_seals_are_read(tmp_path: Path) -> None:
    table = Table(str(tmp_path), schema.TOKENS)
    url = table.append(pa.table(ROWS, schema=schema.TOKENS), generation=1)
    pq.write_table(pa.table(ROWS, schema=schema.TOKENS), url, compression="zstd")
    assert table.read(["id", "words"]).to_pydict() == {"id": ["a", "b"], "words": [["x"], ["y"]]}


def test_a_sealed_part_is_parquet_for_everybody_else(tmp_path: Path) -> None:
    url = Table(str(tmp_path), schema.TOKENS).append(pa.table(ROWS, schema=schema.TOKENS), generation=1)
    assert pq.read_table(url).to_pydict() == ROWS
    data = Path(url).read_bytes()
    at = data.index(b"seewhy 1")
    assert data[at + 16 :] == data[-len(data[at + 16 :]) :]
    footer = int.from_bytes(data[-8:-4], "little")
    assert at + 16 == len(data) - 8 - footer


@pytest.mark.parametrize("data", [b"", b"PAR1", b"\x80\x04cos\nsystem\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_at_all_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "part.parquet").write_bytes(data)
    with pytest.raises(Fatal, match=r"part\.parquet is not a whole Parquet file"):
        read_part(str(tmp_path / "part.parquet"), None)


def test_a_footer_longer_than_what_is_read_at_first_is_checked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "_FOOTER_READ", 64)
    url = Table(str(tmp_path), schema.TOKENS).append(pa.table(ROWS, schema=schema.TOKENS), generation=1)
    assert read_part(url, ["id"])["id"].to_pylist() == ["a", "b"]
    data = bytearray(Path(url).read_bytes())
    footer = int.from_bytes(data[-8:-4], "little")
    assert footer > 10 * 64
    for at in (0, footer // 2, footer - 1):
        changed = bytearray(data)
        changed[-8 - footer + at] ^= 1
        Path(url).write_bytes(changed)
        with pytest.raises(Fatal, match="its footer was changed"):
            read_part(url, ["id"])
