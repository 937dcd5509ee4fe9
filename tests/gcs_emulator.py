"""gs:// on the loopback: gcp-storage-emulator, with threads and connections that stay open."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from threading import RLock, Thread

import fsspec
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

_STORAGE_LOCK = RLock()  # the emulator's own server has one thread, and its storage is made for that


class _Handler(RequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Waits for a request without the lock, and answers it under the lock."""
        if self.rfile.peek(1):
            with _STORAGE_LOCK:
                super().handle_one_request()
        else:
            self.close_connection = True


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
