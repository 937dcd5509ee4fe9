"""Memory of run_stage over 1x, 4x and 16x the rows: the driver's and the workers' peaks, each size in fresh processes.

python tests/benchmarks/memory.py [--quick]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = (1, 4, 16)
PAYLOAD_BYTES = 4096  # of each row, so that a leak of rows would show

CHILD = (
    """
import json, os, resource, sys
import pyarrow as pa
from seewhy.run import Source, connect, run_stage
from seewhy.table import Table
sys.path.insert(0, sys.argv[3])
from stage import SCHEMA, Copy
rows, folder = int(sys.argv[1]), sys.argv[2]
payload = Table(folder + "/in", SCHEMA)
for start in range(0, rows, 1000):
    ids = [f"{i:09d}" for i in range(start, min(start + 1000, rows))]
    nothing = pa.nulls(len(ids), pa.string())
    payload.append(pa.table([ids, [os.urandom(%d) for _ in ids], pa.nulls(len(ids), pa.int64()), nothing, nothing, nothing],
                            schema=SCHEMA), generation=1)
del nothing, ids
connect(num_cpus=2, object_store_bytes=100_000_000)
index = payload.index()
source = Source(index.select(["id", "part", "position"]), payload.parts(), {"data": "data"})
out = Table(folder + "/out", SCHEMA)
run_stage(Copy, {}, source, out, rows_per_block=100, workers=1, num_cpus=1)
worker = max(out.read(["peak_bytes"]).column("peak_bytes").to_pylist())
print(json.dumps({"driver": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "worker": worker}))
"""
    % PAYLOAD_BYTES
)

STAGE = '''
import resource
import pyarrow as pa
from seewhy import schema
SCHEMA = schema.row_stage(pa.field("data", pa.binary()), pa.field("peak_bytes", pa.int64()))

class Copy:
    """Copies the rows and notes the worker's peak resident size."""
    def __call__(self, batch):
        count = len(batch)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        nothing = pa.nulls(count, pa.string())
        columns = [batch.column("id"), batch.column("data"), [peak] * count, nothing, nothing, nothing]
        return pa.table(columns, schema=SCHEMA)
'''


def measure(rows: int) -> dict[str, int]:
    """Peak resident bytes of the driver and of the worker for a run over so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "stage.py").write_text(STAGE)
        command = [sys.executable, "-c", CHILD, str(rows), folder, folder]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    base = 300 if parser.parse_args().quick else 4000
    seen = {f"{size}x ({base * size} rows)": measure(base * size) for size in SIZES}
    peaks = list(seen.values())
    rows = []
    for who in ("driver", "worker"):
        ratio = max(p[who] for p in peaks) / min(p[who] for p in peaks)
        rows.append(
            {
                "work": f"memory of run_stage, {who}",
                "beside": "1x, 4x, 16x the rows",
                "ratio": round(ratio, 3),
                "must": "at most 1.2",
                "seen": {name: p[who] for name, p in seen.items()},
                "hardware": f"{platform.machine()}, CPU",
            }
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
