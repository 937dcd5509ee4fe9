"""Runs every benchmark beside this file, prints one table and writes one JSON of results.

python tests/benchmarks/run.py [--quick] [--out bench/results.json] [NAME ...]
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SUBJECTS = (
    "shapley",
    "train",
    "fetch",
    "caption",
    "memory",
    "cam",
    "japanese",
    "stability",
    "score",
    "gemini",
    "quota",
)


def run_one(name: str, *, quick: bool) -> list[dict]:
    """The rows that a benchmark prints as its last line; what else it prints goes through."""
    command = [sys.executable, str(HERE / f"{name}.py"), *(["--quick"] if quick else [])]
    paths = [str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]  # some share a server with the tests
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return [{"work": name, "beside": "", "ratio": None, "must": "", "seen": {"failed": done.returncode}}]
    return json.loads(lines[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(SUBJECTS)}")
    parser.add_argument("--quick", action="store_true", help="a smoke run: figures mean nothing")
    parser.add_argument("--out", default="bench/results.json")
    given = parser.parse_args()
    rows = []
    for name in given.names or SUBJECTS:
        print(f"{name} ...", flush=True)
        for row in run_one(name, quick=given.quick):
            rows.append({"benchmark": name, **row})
            print(f"  {row['work']} | beside {row['beside']} | ratio {row['ratio']} | must {row['must']}", flush=True)
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "quick": given.quick,
    }
    out = Path(given.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")
    print(f"written to {out}")
    if any(row["ratio"] is None for row in rows if "not installed" not in json.dumps(row)):
        sys.exit(1)


if __name__ == "__main__":
    main()
