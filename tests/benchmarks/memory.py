"""Memory of run_stage over 1x, 4x and 16x the rows: the driver's and the workers' peaks, each size in fresh processes.

python tests/benchmarks/memory.py [--quick]
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = (1, 4, 16)


def measure(rows: int) -> dict[str, int]:
    """Peak resident bytes of the driver and of the worker for a run over so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).with_name("copy_rows.py")), str(rows), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
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
