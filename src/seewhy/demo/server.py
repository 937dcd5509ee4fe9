"""A folder on a free port of this machine, so that the demo's posters are fetched and not just opened."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open, as on a real server
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the fetch stage keeps its own account."""


@contextmanager
def serve(folder: Path, *, port: int = 0) -> Iterator[str]:
    """Serves `folder` on 127.0.0.1 while the context lasts; yields the address, without a slash at its end.

    Args:
        port: wanted, for instance the last run's, so that addresses stay the same; any free one where it is 0 or taken.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"cannot serve {folder}: not a folder")
    handler = partial(_Quiet, directory=str(folder))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
