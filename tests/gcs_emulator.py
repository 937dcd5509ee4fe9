"""gs:// on the loopback: gcp-storage-emulator, with threads, connections that stay open, preconditions and faults."""

import json
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from threading import Lock, RLock, Thread
from typing import Any

import fsspec
from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

_STORAGE_LOCK = RLock()  # the emulator's own server has one thread, and its storage is made for that

UNAVAILABLE, FORBIDDEN, HANGS, CLOSED, LOST = "503", "403", "hangs", "closed", "lost"
"""What can befall a request: it is refused, for now or for good; not answered until the caller gives up; its connection
is closed before it is heard; or after it was done, so that the caller does not know that it was."""


@dataclass
class Faults:
    """A seeded share of all requests, each of which has one of the kinds.

    Attributes:
        at_most: requests that are hit.
        methods: of requests that may be hit; none named: all.
        seen: how often each kind befell a request; and how many requests there were in all, as `requests`.
    """

    share: float
    kinds: Sequence[str] = (UNAVAILABLE, CLOSED, LOST)
    seed: int = 0
    hang_sec: float = 30.0
    at_most: float = float("inf")
    methods: Sequence[str] = ()
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = Lock()

    def draw(self, request: bytes) -> str | None:
        """What befalls a request, of which this is the beginning."""
        if self.methods and request.split(b" ", 1)[0].decode() not in self.methods:
            return None
        with self._lock:
            self.seen["requests"] += 1
            if self._random.random() >= self.share or self.hit >= self.at_most:
                return None
            kind = self._random.choice(list(self.kinds))
            self.seen[kind] += 1
            return kind

    @property
    def hit(self) -> int:
        return self.seen.total() - self.seen["requests"]


_FAULTS: list[Faults] = []


@contextmanager
def disturbed(share: float, **options: Any) -> Iterator[Faults]:
    """Lets faults befall the requests to all emulated buckets of this process while this lasts; see Faults."""
    faults = Faults(share, **options)
    _FAULTS.append(faults)
    try:
        yield faults
    finally:
        _FAULTS.remove(faults)


class _Handler(RequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Waits for a request without the lock, and answers it under the lock."""
        if not (begun := self.rfile.peek(1)):
            self.close_connection = True
            return
        fault = _FAULTS[-1].draw(begun) if _FAULTS else None
        if fault == HANGS:
            time.sleep(_FAULTS[-1].hang_sec if _FAULTS else 0.0)
        if fault in (HANGS, CLOSED):
            self._hang_up()
        elif fault in (UNAVAILABLE, FORBIDDEN):
            self._refuse(int(fault))
        elif fault == LOST:
            self._lose_answer()
        else:
            with _STORAGE_LOCK:
                super().handle_one_request()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _refuse(self, code: int) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.parse_request():
            return
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = json.dumps({"error": {"code": code, "message": HTTPStatus(code).phrase}}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def _lose_answer(self) -> None:
        wfile, self.wfile = self.wfile, open(os.devnull, "wb")  # noqa: SIM115
        try:
            with _STORAGE_LOCK:
                super().handle_one_request()
        finally:
            self.wfile.close()
            self.wfile = wfile
        self._hang_up()


def _with_preconditions(handle: Any) -> Any:
    """ifGenerationMatch=0, as the real service has it: 412 where the object is there already. The emulator's own would
    write over it."""

    def handled(request: Any, response: Any, storage: Storage, *rest: Any, **options: Any) -> Any:
        if request.query.get("ifGenerationMatch") == ["0"]:
            name = (request.query.get("name") or [None])[0] or request.data["meta"]["name"]
            try:
                storage.get_file_obj(request.params["bucket_name"], name)
            except NotFound:
                pass
            else:
                response.status = HTTPStatus.PRECONDITION_FAILED
                response.json({"error": {"code": 412, "message": "conditionNotMet"}})
                return None
        return handle(request, response, storage, *rest, **options)

    return handled


def _cancel_upload(request: Any, response: Any, storage: Storage, *_: Any, **__: Any) -> None:
    """Of an upload in pieces; the emulator's own knows none."""
    storage.delete_resumable_file_obj(request.query["upload_id"][0])
    response.status = HTTPStatus.NO_CONTENT


def _mended(methods: dict[str, Any]) -> dict[str, Any]:
    if methods.get("POST") is not objects.insert:
        return methods
    return {**methods, "POST": _with_preconditions(objects.insert), "DELETE": _cancel_upload}


emulator.HANDLERS = tuple((path, _mended(methods)) for path, methods in emulator.HANDLERS)


@contextmanager
def emulated(bucket: str) -> Iterator[str]:
    """The URL of an empty bucket, while this lasts; child processes find it by their environment."""
    storage = Storage(use_memory_fs=True)
    buckets.create_bucket(bucket, storage)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, storage))
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    before, settings = dict(os.environ), dict(fsspec.config.conf.get("gs", {}))  # there may be another one
    os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{server.server_address[1]}"
    os.environ["FSSPEC_GS_TOKEN"] = "anon"  # for child processes: fsspec reads it when it is imported
    fsspec.config.conf["gs"] = {**settings, "token": "anon"}
    fsspec.get_filesystem_class("gs").clear_instance_cache()  # those that speak to another
    try:
        yield f"gs://{bucket}"
    finally:
        fsspec.get_filesystem_class("gs").clear_instance_cache()
        fsspec.config.conf["gs"] = settings
        for name in ("STORAGE_EMULATOR_HOST", "FSSPEC_GS_TOKEN"):
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]
        server.shutdown()
        thread.join()
        server.server_close()
