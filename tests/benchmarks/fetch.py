"""Small images from a local server: seewhy.fetch beside img2dataset and a pool of 50 threads with urllib.

    python tests/benchmarks/fetch.py [--quick] [--images N] [--rounds N] [--img2dataset-python PYTHON]

Each gets the same JPEGs of about 20 KB with 50 requests at once from a server in a process of its own, in turn, round
after round, and leaves the bytes on disk; start-up is apart for all. What each does besides:

    seewhy       one process: checks every address, decodes every image, hashes it, writes Parquet parts of 250 rows
    threads      what the notebook did: one process, urllib, one file an image; nothing is checked
    img2dataset  two processes of 25 threads: decodes every image and keeps its bytes (skip_reencode), writes
                 Parquet parts of 250 rows; its time is from the start of its first part to the end of its last, so that
                 starting processes and importing OpenCV are not counted

img2dataset is not a dependency: PYTHON, or IMG2DATASET_PYTHON, names an environment that has it (`make bench` makes
one); without it its row says so.
"""

import argparse
import asyncio
import importlib.util
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from seewhy.fetch import Fetch

CONCURRENT = 50
BLOCK = 250
DISTINCT = 50


def pictures() -> list[bytes]:
    """256 x 256 pixels of smooth colour and a little grain: 20 KB, as thumbnails on the web are."""
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(DISTINCT):
        patches = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        smooth = np.asarray(patches.resize((256, 256), Image.Resampling.BICUBIC), dtype=np.float64)
        out = io.BytesIO()
        grainy = np.clip(smooth + rng.normal(0, 11, (256, 256, 1)), 0, 255).astype(np.uint8)
        Image.fromarray(grainy).save(out, "JPEG", quality=76)
        encoded.append(out.getvalue())
    return encoded


class Serving(asyncio.Protocol):
    """As little of HTTP as all three need: the server must not be what is measured."""

    images: list[bytes]
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while b"\r\n\r\n" in self.waiting:
            head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
            body = self.images[int(head.split(b" ", 2)[1].strip(b"/").removesuffix(b".jpg")) % DISTINCT]
            last = b"connection: close" in head.lower()
            close = b"Connection: close\r\n" if last else b""
            length = b"Content-Length: %d\r\n" % len(body)
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n" + length + close + b"\r\n" + body)
            if last:
                self.transport.close()


async def serve() -> None:
    Serving.images = pictures()
    server = await asyncio.get_running_loop().create_server(Serving, "127.0.0.1", 0, backlog=1024)
    mean = sum(map(len, Serving.images)) / DISTINCT
    print(json.dumps({"port": server.sockets[0].getsockname()[1], "mean_bytes": mean}), flush=True)
    await server.serve_forever()


@contextmanager
def running_server() -> Iterator[dict[str, float]]:
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def seewhy_seconds(urls: list[str], folder: Path, stage: Fetch) -> float:
    start = time.perf_counter()
    for part, at in enumerate(range(0, len(urls), BLOCK)):
        sources = urls[at : at + BLOCK]
        out = stage(pa.table({"id": sources, "source": sources}))
        assert out["error_kind"].null_count == len(sources), out["reason"].value_counts()
        pq.write_table(out, folder / f"{part}.parquet", compression="none", use_dictionary=False)
    return time.perf_counter() - start


def threads_seconds(urls: list[str], folder: Path) -> float:
    def download(url: str) -> int:
        with urllib.request.urlopen(url) as web_file, open(folder / url.rsplit("/", 1)[-1], "wb") as local_file:
            return local_file.write(web_file.read())

    start = time.perf_counter()
    with ThreadPoolExecutor(CONCURRENT) as executor:
        sizes = list(executor.map(download, urls))
    assert len(sizes) == len(urls)
    return time.perf_counter() - start


def img2dataset_seconds(urls: list[str], folder: Path, python: str) -> float:
    url_list = folder / "urls.txt"
    url_list.write_text("\n".join(urls))
    options = {
        "url_list": url_list,
        "output_folder": folder / "out",
        "processes_count": 2,
        "thread_count": CONCURRENT // 2,
        "resize_mode": "no",
        "skip_reencode": True,
        "output_format": "parquet",
        "number_sample_per_shard": BLOCK,
        "extract_exif": False,
        "compute_hash": "None",
        "enable_wandb": False,
    }
    command = [python, "-c", "from img2dataset.main import main; main()"]
    command += [f"--{name}={value}" for name, value in options.items()]
    quiet = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONPATH": "", "PYTHONWARNINGS": "ignore"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=quiet)
    stats = [json.loads(path.read_text()) for path in (folder / "out").glob("*_stats.json")]
    assert sum(part["successes"] for part in stats) == len(urls), stats
    return max(part["end_time"] for part in stats) - min(part["start_time"] for part in stats)


def has_img2dataset(python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec("img2dataset") is not None
    return subprocess.run([python, "-c", "import img2dataset"], capture_output=True).returncode == 0


def measure(images: int, rounds: int, python: str) -> dict[str, list[float]]:
    """Images a second, by contestant and round."""
    stage = Fetch(allow_private=["127.0.0.1"], concurrency=CONCURRENT, per_host=CONCURRENT)
    contestants: dict[str, Callable[[list[str], Path], float]] = {
        "seewhy": lambda urls, folder: seewhy_seconds(urls, folder, stage),
        "threads": threads_seconds,
    }
    if has_img2dataset(python):
        contestants["img2dataset"] = lambda urls, folder: img2dataset_seconds(urls, folder, python)
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    with running_server() as server:
        urls = [f"http://127.0.0.1:{server['port']}/{i}.jpg" for i in range(images)]
        print(f"{images} images of {server['mean_bytes'] / 1000:.1f} KB, {rounds} rounds", file=sys.stderr)
        for run in (contestants["seewhy"], contestants["threads"]):  # what a first request imports and loads
            with tempfile.TemporaryDirectory() as folder:
                run(urls[:DISTINCT], Path(folder))
        for _ in range(rounds):
            for name, run in contestants.items():
                with tempfile.TemporaryDirectory() as folder:
                    rates[name].append(images / run(urls, Path(folder)))
                print(f"{name}: {rates[name][-1]:.0f} images/s", file=sys.stderr)
    stage.close()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--img2dataset-python", default=os.environ.get("IMG2DATASET_PYTHON", sys.executable))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve())
        return
    images, rounds = (500, 1) if args.quick else (args.images, args.rounds)
    rates = measure(images, rounds, args.img2dataset_python)
    rows = []
    for name, work in (("threads", "the notebook's 50 threads"), ("img2dataset", "img2dataset, 2 x 25 threads")):
        ratio = [ours / theirs for ours, theirs in zip(rates["seewhy"], rates.get(name, []), strict=False)]
        rows.append(
            {
                "work": f"fetch of {images} small images from a local server",
                "beside": work if ratio else f"{work}: not installed",
                "ratio": round(statistics.median(ratio), 2) if ratio else None,
                "must": "at least 1.2",
                "seen": {f"{who}, images/s": [round(rate) for rate in rates.get(who, [])] for who in ("seewhy", name)},
                "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
            }
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
