"""A real HTTP server that allows so many calls in any window, and workers that call it through a quota."""

import asyncio
import http.client
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

from seewhy.quota import Quota
from seewhy.vlm.pace import Outcome
from tests.simulated_service import Sliding


class Service:
    """Answers 200 to `most` posts in any `window_sec`, 429 to the others, and keeps (second, path, status)."""

    def __init__(self, most: int | None, window_sec: float) -> None:
        self._limit = None if most is None else Sliding(most, window_sec)
        self._lock = Lock()
        self.seen: list[tuple[float, str, int]] = []

    def post(self, path: str) -> int:
        with self._lock:
            now = time.monotonic()
            status = 200 if self._limit is None or self._limit.take(now) is None else 429
            self.seen.append((now, path, status))
        return status


@contextmanager
def serving(most: int | None = None, window_sec: float = 60.0) -> Iterator[tuple[Service, int]]:
    """The service and its port on the loopback."""
    service = Service(most, window_sec)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            status = service.post(self.path)
            time.sleep(0.05 if status == 200 else 0.005)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service, server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Worker:
    """Makes calls through its own copy of the quota. It has no coroutine: Ray would give it an event loop."""

    def __init__(self, name: str, quota: Quota, port: int) -> None:
        self._name, self._quota, self._port = name, quota, port

    def work(self, calls: int, at_once: int, seconds: float) -> dict[str, int]:
        """Tries by call, of those that were taken within the time; a new event loop each time, as backends have."""
        until = time.monotonic() + seconds
        return asyncio.run(make_calls(self._name, self._quota, self._port, calls, at_once, until))


async def make_calls(name: str, quota: Quota, port: int, calls: int, at_once: int, until: float) -> dict[str, int]:
    """So many calls, some at a time, each again until it is taken."""
    tries: Counter[str] = Counter()
    taken: set[str] = set()
    left = iter(range(calls))

    async def lane() -> None:
        for number in left:
            call, status = f"/{name}/{number}", 0
            while status != 200:
                if time.monotonic() > until:
                    return
                await quota.begin(100)
                tries[call] += 1
                status = await asyncio.to_thread(post, port, call)
                await quota.end(Outcome(status == 429, None, 60, 40))
            taken.add(call)

    await asyncio.gather(*(lane() for _ in range(at_once)))
    return {call: count for call, count in tries.items() if call in taken}


def post(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path)
        return connection.getresponse().status
    finally:
        connection.close()
