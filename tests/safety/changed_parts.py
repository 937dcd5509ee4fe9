"""Reads parts that storage has changed, in a process of its own, for a reader that crashes takes its process along.

    python -m tests.safety.changed_parts FOLDER EXAMPLES SEED

Prints as JSON how many reads told that the part is broken, how many gave the right rows and how many gave others.
"""

import json
import random
import resource
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seewhy import schema, table
from seewhy.failure import Fatal
from seewhy.table import Table

MEMORY = 3 << 30
"""Bytes of address space. What Python, Arrow and numpy map is 1 GB of it."""


def write_parts(folder: Path) -> list[tuple[Table, list[str], Any]]:
    """Tables of one part each with the columns to read, and what they hold: short rows, pixels, and lists."""
    rng = np.random.default_rng(0)
    nothing = [None] * 8
    failed = {
        "error_kind": ["transient", *nothing[1:]],
        "reason": ["http_503", *nothing[1:]],
        "detail": ["x", *nothing[1:]],
    }
    ids = [f"{i:032x}" for i in range(8)]
    captions = {**dict.fromkeys(schema.CAPTIONS.names, nothing), "id": ids, "tokens_in": list(range(8)), **failed}
    captions["text"] = ["a dog", "", *["é" * 9] * 6]
    pixels = schema.row_stage(pa.field("image", pa.binary()))
    images = {"id": ids, "image": [rng.bytes(400_000) for _ in ids], **failed}
    tokens = {"id": ids, "words": [["a", "dog"], [], None, ["x"] * 50, *[["y"]] * 4], **failed}
    made = []
    for name, columns, given in (
        ("caption", schema.CAPTIONS, captions),
        ("fetch", pixels, images),
        ("words", schema.TOKENS, tokens),
    ):
        one = Table(str(folder / name / "0"), columns)
        one.append(pa.table(given, schema=columns), generation=1)
        heavy = "image" if name == "fetch" else "text" if name == "caption" else "words"
        made.append((one, ["id", heavy, "error_kind", "reason"], read(one, ["id", heavy, "error_kind", "reason"])))
    return made


def read(one: Table, columns: list[str]) -> Any:
    """As runs do: the index, the rows of some positions, and all rows, each turned into Python's own values."""
    table._read_index.cache_clear()
    index = one.index()
    where = pa.table({"part": pa.array([0, 0], pa.int32()), "position": pa.array([6, 1], pa.int32())})
    some = pa.concat_tables(list(table.read_rows(one.parts(), where, columns)))
    whole = one.read(columns, only_ok=False)
    return index.to_pydict(), some.to_pydict(), whole.to_pydict()


def changed(data: bytes, rng: random.Random) -> bytes:
    """Cut, or with flipped bits, other bytes, a piece of zeros, or two pieces that changed places."""
    way, at = rng.random(), rng.randrange(len(data))
    # of what says how the rest is to be read, at the end and between the pages, oftener than of the rest
    at = len(data) - 1 - int(rng.random() ** 2 * min(len(data), 3000)) if rng.random() < 0.6 else at
    if way < 0.1:
        return data[:at]
    out = bytearray(data)
    if way < 0.5:
        out[at] ^= 1 << rng.randrange(8)
    elif way < 0.85:
        out[at] = rng.randrange(256)
    elif way < 0.93:
        out[at : at + 64] = bytes(len(out[at : at + 64]))
    else:
        to = rng.randrange(len(data))
        out[at : at + 16], out[to : to + 16] = out[to : to + 16], out[at : at + 16]
        del out[len(data) :]
    return bytes(out)


def main() -> None:
    folder, examples, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    others: list[str] = []
    for one, columns, right in write_parts(folder):
        part = Path(one.parts()[0])
        whole = part.read_bytes()
        for number in range(examples):
            broken = changed(whole, rng)
            part.write_bytes(broken)
            try:
                same = read(one, columns) == right
                counts["right" if same else "other"] += 1
                if not same:
                    kept = folder / f"other-{seed}-{number}.parquet"
                    kept.write_bytes(broken)
                    others.append(str(kept))
            except Fatal:
                counts["told"] += 1
        part.write_bytes(whole)
        assert read(one, columns) == right
    print(json.dumps({**counts, "others": others}))


if __name__ == "__main__":
    main()
