"""The caption stage over 2,000 images beside a bare loop over the same batches with the same model, start-up apart.

    python tests/benchmarks/caption.py [--quick]

Both sides read the same Parquet parts, decode the same JPEGs and decode greedily; the stage besides checks ids, commits
its blocks and reports progress through one Ray actor. Its clock starts when its first block is in, the loop's when its
first batch is, so that neither pays for loading. Both have one thread. Measured in turns, the medians compared.
"""

import argparse
import io
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from seewhy import schema, vlm
from seewhy.caption import Caption
from seewhy.demo.posters import draw_factors, draw_poster
from seewhy.images import image_id
from seewhy.ray_cluster import connect
from seewhy.run import Source, Stored, run_stage
from seewhy.table import Table
from seewhy.vlm.base import Request

BATCH = 64
ROUNDS = 3


def posters(folder: Path, count: int) -> Table:
    """A fetch table of drawn posters."""
    rng, rows = np.random.default_rng(7), []
    for _ in range(count):
        buffer = io.BytesIO()
        draw_poster(draw_factors(rng), rng).save(buffer, "JPEG", quality=88)
        data = buffer.getvalue()
        rows.append({"id": image_id(data), "image_id": image_id(data), "image": data, "format": "JPEG", "tries": 1})
    table = Table(str(folder / "images"), schema.IMAGES)
    for start in range(0, count, BATCH):
        table.append(pa.Table.from_pylist(rows[start : start + BATCH], schema=schema.IMAGES), generation=1)
    return table


def bare_loop(images: Table, options: dict) -> float:
    """Images a second of a plain loop, after its first batch."""
    backend, done, started = vlm.load("tiny", **options), 0, 0.0
    for part in images.batches(["id", "image"]):
        ids, data = part.column("id").to_pylist(), part.column("image").to_pylist()
        backend.generate([Request(one, (image,), "") for one, image in zip(ids, data, strict=True)])
        if started:
            done += len(ids)
        else:
            started = time.monotonic()
    return done / (time.monotonic() - started)


def stage(images: Table, options: dict, folder: str) -> float:
    """Images a second of the stage, after its first block."""
    index = images.index()
    source = Source(index.select(["id", "part", "position"]), (Stored(images.parts(), {"image": "image"}),))
    stamps: list[tuple[float, int]] = []
    run_stage(
        Caption,
        {"backend": "tiny", "prompt": "", **options},
        source,
        Table(folder, schema.CAPTIONS),
        rows_per_block=BATCH,
        workers=1,
        num_cpus=1,
        progress=lambda counts: stamps.append((time.monotonic(), sum(counts.values()))),
    )
    return sum(n for _, n in stamps[1:]) / (stamps[-1][0] - stamps[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    count = 256 if quick else 2000
    torch.set_num_threads(1)
    options = {"temperature": 0.0, "batch_size": BATCH}
    connect(num_cpus=2, object_store_bytes=100_000_000)
    loop, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        images = posters(Path(folder), count)
        for turn in range(1 if quick else ROUNDS):
            loop.append(bare_loop(images, options))
            ours.append(stage(images, options, f"{folder}/captions-{turn}"))
    ratio = statistics.median(ours) / statistics.median(loop)
    row = {
        "work": f"caption stage over {count} images",
        "beside": "a bare loop over the same batches with the same model",
        "ratio": round(ratio, 3),
        "must": "0.9 or more",
        "seen": {"stage_images_per_sec": ours, "loop_images_per_sec": loop},
        "hardware": f"{platform.machine()}, CPU, one thread a side",
    }
    print(json.dumps([row]))


if __name__ == "__main__":
    main()
