"""GeminiBackend against a stub of the service that answers in 300 ms: beside what the stub can do, and threads.

    PYTHONPATH=. python tests/benchmarks/gemini.py [--quick]

The stub is a process of its own. Its ceiling is what a bare HTTP client gets that sends the same bodies, made
beforehand, with as many in flight, and reads no answer. The threads are five, each of which asks by the same client
library for one image at a time. Images are 60 KB, as a poster's JPEG is. All sides in turns, the medians compared.
"""

import argparse
import asyncio
import base64
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from seewhy.vlm.base import Request
from seewhy.vlm.gemini import GeminiBackend

IN_FLIGHT = 64
DELAY_SEC = 0.3
MODEL = "gemini-2.5-flash"
PATH = f"/v1/projects/p/locations/global/publishers/google/models/{MODEL}:generateContent"
PROMPT = "What is it?"


def images(count: int) -> list[bytes]:
    """What begins as a JPEG does; the stub reads none of it."""
    draw = random.Random(0)
    return [b"\xff\xd8\xff" + draw.randbytes(60_000) for _ in range(count)]


def by_backend(url: str, given: list[bytes]) -> float:
    backend = GeminiBackend(
        model=MODEL,
        project="p",
        base_url=url,
        credentials=Credentials(token="of-the-benchmark"),
        temperature=0.0,
        concurrency=IN_FLIGHT,
    )
    requests = [Request(str(number), (image,), PROMPT) for number, image in enumerate(given)]
    backend.generate(requests[:IN_FLIGHT])  # connections
    started = time.monotonic()
    answers = backend.generate(requests)
    rate = len(requests) / (time.monotonic() - started)
    backend.close()
    assert all(answer.text for answer in answers)
    return rate


def by_bare_client(url: str, given: list[bytes]) -> float:
    async def all_of(bodies: list[bytes]) -> float:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def lane(mine: list[bytes]) -> None:
                for body in mine:
                    async with session.post(
                        url + PATH, data=body, headers={"Content-Type": "application/json"}
                    ) as response:
                        await response.read()
                        assert response.status == 200

            await asyncio.gather(*(lane(bodies[at : at + 1]) for at in range(IN_FLIGHT)))
            started = time.monotonic()
            await asyncio.gather(*(lane(bodies[at::IN_FLIGHT]) for at in range(IN_FLIGHT)))
            return len(bodies) / (time.monotonic() - started)

    def body(image: bytes) -> bytes:
        data = base64.urlsafe_b64encode(image).decode()
        parts = [{"inlineData": {"mimeType": "image/jpeg", "data": data}}, {"text": PROMPT}]
        return json.dumps({"contents": [{"role": "user", "parts": parts}]}).encode()

    return asyncio.run(all_of([body(image) for image in given]))


def by_threads(url: str, given: list[bytes]) -> float:
    options = types.HttpOptions(base_url=url, api_version="v1")
    client = genai.Client(
        vertexai=True,
        project="p",
        location="global",
        credentials=Credentials(token="of-the-benchmark"),
        http_options=options,
    )

    def ask(image: bytes) -> str | None:
        part = types.Part(inline_data=types.Blob(mime_type="image/jpeg", data=image))
        return client.models.generate_content(model=MODEL, contents=[part, types.Part(text=PROMPT)]).text

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(ask, given[:5]))
        started = time.monotonic()
        texts = list(pool.map(ask, given))
        rate = len(given) / (time.monotonic() - started)
    assert all(texts)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    given = images(128 if quick else 1024)
    stub = subprocess.Popen(
        [sys.executable, "-m", "tests.vlm.gemini_stub", "--port", "0", "--delay", str(DELAY_SEC)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert stub.stdout is not None
        url = json.loads(stub.stdout.readline())["url"]
        ours, bare = [], []
        for _ in range(1 if quick else 3):
            bare.append(by_bare_client(url, given))
            ours.append(by_backend(url, given))
        threads = by_threads(url, given[: 10 if quick else 100])
    finally:
        stub.terminate()
        stub.wait()
    seen = {"ours_per_sec": ours, "bare_per_sec": bare, "threads_per_sec": threads, "in_flight": IN_FLIGHT}
    about = {"seen": seen, "hardware": f"{platform.machine()}, CPU, the stub on the same machine"}
    rows = [
        {
            "work": f"gemini online, {IN_FLIGHT} in flight, a stub that takes {DELAY_SEC:g} s",
            "beside": "a bare HTTP client with as many in flight: the stub's ceiling",
            "ratio": round(statistics.median(ours) / statistics.median(bare), 3),
            "must": "0.95 or more",
            **about,
        },
        {
            "work": f"gemini online, {IN_FLIGHT} in flight, a stub that takes {DELAY_SEC:g} s",
            "beside": "five threads with the same client library, one image each",
            "ratio": round(statistics.median(ours) / threads, 2),
            "must": "",
            **about,
        },
    ]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
