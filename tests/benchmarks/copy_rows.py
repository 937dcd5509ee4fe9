"""One run of run_stage in a process of its own, for memory.py: copies rows and prints the peaks in bytes as JSON.

python tests/benchmarks/copy_rows.py ROWS FOLDER
"""

import json
import os
import resource
import sys

import pyarrow as pa

from seewhy import schema
from seewhy.ray_cluster import connect
from seewhy.run import Source, Stored, run_stage
from seewhy.table import Table

SCHEMA = schema.row_stage(pa.field("data", pa.binary()), pa.field("peak_bytes", pa.int64()))
PAYLOAD_BYTES = 4096  # of each row, so that a leak of rows would show
PART_ROWS = 1000


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Copy:
    """Copies the rows and notes the worker's peak resident size."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _rows(batch.column("id"), batch.column("data"), [peak_bytes()] * len(batch))


def _rows(ids: object, data: object, peaks: list[int]) -> pa.Table:
    nothing = pa.nulls(len(peaks), pa.string())
    return pa.table([ids, data, peaks, nothing, nothing, nothing], schema=SCHEMA)


def main() -> None:
    rows, folder = int(sys.argv[1]), sys.argv[2]
    given, copied = Table(f"{folder}/in", SCHEMA), Table(f"{folder}/out", SCHEMA)
    for start in range(0, rows, PART_ROWS):
        ids = [f"{i:09d}" for i in range(start, min(start + PART_ROWS, rows))]
        given.append(_rows(ids, [os.urandom(PAYLOAD_BYTES) for _ in ids], [0] * len(ids)), generation=1)
    connect(num_cpus=2, object_store_bytes=100_000_000)
    source = Source(given.index().select(["id", "part", "position"]), (Stored(given.parts(), {"data": "data"}),))
    run_stage(Copy, {}, source, copied, rows_per_block=100, workers=1, num_cpus=1)
    worker = max(copied.read(["peak_bytes"]).column("peak_bytes").to_pylist())
    print(json.dumps({"driver": peak_bytes(), "worker": worker}))


if __name__ == "__main__":
    main()
