"""Studies of 10,000 rows beside one of 1,000,000: what a row costs, how memory goes, how fast the tables read.

python tests/benchmarks/million.py [--rows 10000 10000 1000000 10000] [--folder FOLDER]

Takes about half an hour on 2 cores, so `run.py` leaves it out. The images are small files on disk; the stages are
fetch, which reads, checks and stores them, and caption with the `fake` backend. Each study runs by the command line in
a process of its own, and again, when nothing is left to do. A line for each, then one of what must be, which ends the
program with 1 where it is not:

    growth    what each row over the small studies' takes beside what one takes there, less 1. There it is the reading
              of the manifest, and what lies between the first and the last part of fetch and of caption (the median of
              the small studies), for the rest of a small one is Ray's start; of the rows above it is the whole run.
              At most 0.10.
    memory    of the driver and of the largest worker, the most that was seen while a stage of the large study wrote
              its parts, beside the most in the first quarter of that time. At most 1.2. Of each process its own is
              counted; what it shares with all of its machine, which is Ray's object store with the keys of all rows,
              stands behind it.
    read_sec  the caption table's texts, all of them. At most 10.
"""

import argparse
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = (10_000, 10_000, 1_000_000, 10_000)
MOST_GROWTH, MOST_MEMORY, MOST_READ_SEC = 0.10, 1.2, 10.0
FILES = 1_000
PER_FOLDER = 10_000
ROWS_PER_BLOCK = 500
STUDY = f"""title: many
workspace: workspace
max_failed_fraction: 0
manifest: {{path: manifest.csv, image: image, target: target}}
fetch: {{resources: {{workers: 1, rows_per_block: {ROWS_PER_BLOCK}}}}}
caption: {{backend: fake, resources: {{workers: 1, rows_per_block: {ROWS_PER_BLOCK}}}}}
"""
READ = """
import json, sys, time
from seewhy.study import load_study
from seewhy.steps import caption
from seewhy.steps.rows import manifest_rows
study = load_study(sys.argv[1])
begun = time.monotonic()
manifest_rows(study)
manifest_sec = time.monotonic() - begun
table = caption.table(study)
begun = time.monotonic()
counts = table.counts()
counted = time.monotonic()
texts = table.read(["text"])
print(json.dumps({"rows": len(texts), "ok": counts.ok, "parts": len(table.parts()), "count_sec": counted - begun,
                  "read_sec": time.monotonic() - counted, "manifest_sec": manifest_sec}))
"""


def draw(folder: Path, rows: int) -> None:
    """A manifest of `rows` image files. Of each FILES of them the pixels are the same, and the bytes differ: a comment
    in the file holds its number, so that every image is one of its own."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(FILES):
        whole = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((64, 96)).save(whole, "JPEG")
        drawn.append(whole.getvalue())
    lines = ["image,target"]
    for i in range(rows):
        place = f"images/{i // PER_FOLDER:04d}"
        if i % PER_FOLDER == 0:
            (folder / place).mkdir(parents=True)
        start, rest = drawn[i % FILES][:2], drawn[i % FILES][2:]
        comment = b"\xff\xfe" + (2 + 8).to_bytes(2) + b"%08d" % i
        (folder / place / f"{i:07d}.jpg").write_bytes(start + comment + rest)
        lines.append(f"{place}/{i:07d}.jpg,{i % 10}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (folder / "study.yaml").write_text(STUDY)


def resident(process: int) -> tuple[int, int]:
    """Bytes of a process, its own and those shared with others; 0 where it is gone."""
    try:
        told = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0, 0
    found = {name: int(size) * 1024 for name, size in re.findall(r"(VmRSS|RssShmem):\s+(\d+) kB", told)}
    shared = found.get("RssShmem", 0)
    return found.get("VmRSS", shared) - shared, shared


def children(process: int) -> list[int]:
    """All processes under it."""
    parents: dict[int, list[int]] = {}
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            try:
                parent = int((one / "stat").read_text().rpartition(") ")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(one.name))
    found = list(parents.get(process, []))
    for child in found:
        found.extend(parents.get(child, []))
    return found


Seen = tuple[float, tuple[int, int], tuple[int, int]]


def watch(process: int, seen: list[Seen], ended: threading.Event) -> None:
    """(time, bytes of the driver, of the largest worker) each second; bytes as of `resident`."""
    while not ended.wait(1):
        workers = [one for one in children(process) if "ray::" in _title(one)]
        seen.append((time.time(), resident(process), max(map(resident, workers), default=(0, 0))))


def _title(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def stage_seconds(folder: Path, stage: str) -> tuple[float, float, int]:
    """When the first part was written and when the last, and the rows that were written in between."""
    parts = sorted(one.stat().st_mtime for one in folder.glob(f"workspace/{stage}/*/part-*.parquet"))
    return parts[0], parts[-1], (len(parts) - 1) * ROWS_PER_BLOCK


def measure(folder: Path, rows: int) -> dict[str, object]:
    folder.mkdir(parents=True)
    draw(folder, rows)
    command = [sys.executable, "-m", "seewhy.cli", "run", "study.yaml", "--until", "caption"]
    begun = time.monotonic()
    seen: list[Seen] = []
    ended = threading.Event()
    with subprocess.Popen(command, cwd=folder) as running:
        watcher = threading.Thread(target=watch, args=(running.pid, seen, ended))
        watcher.start()
        code = running.wait()
        ended.set()
        watcher.join()
    if code:
        sys.exit(f"the study of {rows} rows ended with {code}")
    whole = time.monotonic() - begun
    found: dict[str, object] = {"rows": rows, "whole_sec": round(whole, 1)}
    for stage in ("fetch", "caption"):
        first, last, between = stage_seconds(folder, stage)
        found[f"{stage}_usec_a_row"] = round(1e6 * (last - first) / between, 1)
        during = [one for one in seen if first <= one[0] <= last] or seen[-1:]
        for who, column in (("driver", 1), ("worker", 2)):
            quarter = during[: max(1, len(during) // 4)]
            found[f"{stage}_{who}_mib"] = [
                round(max(one[column][0] for one in quarter) / 2**20),
                round(max(one[column][0] for one in during) / 2**20),
            ]
            found[f"{stage}_{who}_shared_mib"] = round(max(one[column][1] for one in during) / 2**20)
    begun = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found["rerun_sec"] = round(time.monotonic() - begun, 1)
    read = subprocess.run(
        [sys.executable, "-c", READ, "study.yaml"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    return {**found, **{k: round(v, 3) for k, v in json.loads(read.stdout.splitlines()[-1]).items() if k != "rows"}}


def judge(studies: list[dict]) -> dict[str, object]:
    """What the largest study shows beside the smaller ones, and whether it is as it must be."""
    large = max(studies, key=lambda one: one["rows"])
    small = [one for one in studies if one["rows"] < large["rows"]]
    before = statistics.median(
        1e6 * one["manifest_sec"] / one["rows"] + one["fetch_usec_a_row"] + one["caption_usec_a_row"] for one in small
    )
    rows, seconds = (statistics.median(one[name] for one in small) for name in ("rows", "whole_sec"))
    after = 1e6 * (large["whole_sec"] - seconds) / (large["rows"] - rows)
    memory = [(large[name][1], large[name][0]) for name in large if isinstance(large[name], list)]
    seen = {
        "usec_a_row": [round(before, 1), round(after, 1)],
        "growth": round(after / before - 1, 3),
        "memory": round(max((most / first for most, first in memory if first), default=1.0), 3),
        "read_sec": large["read_sec"],
    }
    fine = seen["growth"] <= MOST_GROWTH and seen["memory"] <= MOST_MEMORY and seen["read_sec"] <= MOST_READ_SEC
    return {**seen, "as_it_must": fine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--folder", help="where to work; kept afterwards. A temporary one by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        studies = []
        for number, rows in enumerate(given.rows):
            studies.append(measure(Path(given.folder or temporary).absolute() / f"{number}-{rows}", rows))
            print(json.dumps(studies[-1]), flush=True)
    if len(set(given.rows)) > 1:
        seen = judge(studies)
        print(json.dumps(seen))
        if not seen["as_it_must"]:
            sys.exit(1)


if __name__ == "__main__":
    main()
