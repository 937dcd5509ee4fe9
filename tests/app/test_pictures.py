"""Pictures from outside: by the study's limits, and never by a way that the study forbids."""

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from seewhy.app.pictures import Picture, WebPictures, uploaded
from seewhy.failure import Failure
from seewhy.images import image_id
from seewhy.study import Study, check_study


def study(folder: Path, **fetch: object) -> Study:
    manifest = {"path": str(folder / "films.csv"), "image": "poster", "target": "rating"}
    return check_study({"title": "x", "workspace": str(folder / "out"), "manifest": manifest, "fetch": fetch})


def png(width: int = 20) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, 10), "teal").save(out, "PNG")
    return out.getvalue()


def test_an_upload_is_what_its_bytes_say(tmp_path: Path) -> None:
    found = uploaded(study(tmp_path), "cat.jpg", png())
    assert found == Picture(image_id(png()), "cat.jpg", png())
    for asked, data, reason in (
        ({}, b"<html>no</html>", "html"),
        ({}, b"", "empty"),
        ({}, png()[:50], "truncated"),
        ({"max_bytes": 20}, png(), "too_large"),
        ({"max_pixels": 199}, png(), "too_many_pixels"),
    ):
        failed = uploaded(study(tmp_path, **asked), "cat.png", data)
        assert isinstance(failed, Failure)
        assert failed.reason == reason


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.asked.append(self.path)  # type: ignore[attr-defined]
            self.send_response(200 if self.path == "/a.png" else 503)
            self.end_headers()
            self.wfile.write(png())

        def log_message(self, *_: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()
    thread.join()


def test_an_address_is_fetched_by_the_studys_rules_and_once(tmp_path: Path, server: ThreadingHTTPServer) -> None:
    address = f"http://127.0.0.1:{server.server_port}"
    closed, opened = WebPictures(study(tmp_path)), WebPictures(study(tmp_path, allow_private=["127.0.0.1"]))
    try:
        refused = closed.get(f"{address}/a.png")
        assert isinstance(refused, Failure)
        assert refused.reason == "forbidden_address"
        assert server.asked == []
        assert opened.get(f" {address}/a.png ") == Picture(image_id(png()), "a.png", png())
        down = opened.get(f"{address}/b.png")
        assert isinstance(down, Failure)
        assert down.reason == "http_503"
        assert server.asked == ["/a.png", "/b.png"]
    finally:
        closed.close()
        opened.close()


def test_no_file_of_this_machine_can_be_asked_for(tmp_path: Path) -> None:
    """Though the study itself may read images beside its manifest."""
    (tmp_path / "a.png").write_bytes(png())
    web = WebPictures(study(tmp_path))
    try:
        for source in (str(tmp_path / "a.png"), f"file://{tmp_path}/a.png", "gs://bucket/a.png", "a.png"):
            found = web.get(source)
            assert isinstance(found, Failure)
            assert found.reason == "forbidden_scheme"
    finally:
        web.close()
