"""Videos fetched as images are: from the web, from files, from storage, whole or left where they are."""

import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from seewhy import schema, storage
from seewhy.failure import Failure
from seewhy.fetch import Fetch
from seewhy.fetch.objects import describe_object
from seewhy.images import decode, image_id
from tests.gcs_emulator import emulated
from tests.videos.made import at, colour, video

CLIP = video(20, sound=True)


def fetched(sources: list[str], **options: object) -> list[dict]:
    stage = Fetch(media="video", tries=1, **options)  # type: ignore[arg-type]
    batch = pa.table({"id": [str(place) for place in range(len(sources))], "source": sources})
    try:
        rows = stage(batch)
    finally:
        stage.close()
    assert rows.schema == schema.VIDEOS
    assert rows["id"].to_pylist() == batch["id"].to_pylist()
    return rows.to_pylist()


def test_a_file_is_kept_whole_with_a_frame_of_its_middle(tmp_path: Path) -> None:
    (tmp_path / "clip.txt").write_bytes(CLIP)  # the name says nothing
    (row,) = fetched([str(tmp_path / "clip.txt")], roots=[str(tmp_path)], schemes=["file"])
    assert row["error_kind"] is None
    assert (row["video"], row["image_id"]) == (CLIP, image_id(CLIP))
    assert (row["format"], row["width"], row["height"], row["frames"], row["audio"]) == ("MP4", 64, 48, 20, True)
    assert row["seconds"] == pytest.approx(2.0)
    assert colour(decode(row["frame"])) == at([10])[0]
    assert len(row["fingerprint"]) == 16


def test_what_is_no_video_says_so(tmp_path: Path) -> None:
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    files = {
        "page.mp4": b"<!DOCTYPE html><html>gone</html>",
        "picture.mp4": png.getvalue(),
        "playlist.mp4": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "empty.mp4": b"",
        "cut.mp4": CLIP[: len(CLIP) // 2],
        "large.mp4": CLIP + bytes(len(CLIP)),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    sources = [str(tmp_path / name) for name in files]
    rows = fetched(sources, roots=[str(tmp_path)], schemes=["file"], max_bytes=len(CLIP))
    assert [(row["error_kind"], row["reason"]) for row in rows] == [
        ("bad_input", "html"),
        ("bad_input", "not_a_video"),
        ("bad_input", "not_a_video"),
        ("bad_input", "empty"),
        ("bad_input", "truncated"),
        ("bad_input", "too_large"),
    ]
    assert all(row["video"] is None and row["image_id"] is None for row in rows)
    (row,) = fetched(sources[:1], schemes=["file"])
    assert row["reason"] == "forbidden_path"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "clip.mp4").write_bytes(CLIP)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_private_addresses_are_for_those_that_the_study_names(served: str) -> None:
    (row,) = fetched([f"{served}/clip.mp4"])
    assert row["reason"] == "forbidden_address"
    (row,) = fetched([f"{served}/clip.mp4"], allow_private=["127.0.0.1"])
    assert row["video"] == CLIP
    (row,) = fetched([f"{served}/clip.mp4"], allow_private=["127.0.0.1"], max_seconds=1.9)
    assert row["reason"] == "too_long"


def test_objects_are_left_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(CLIP)
    with emulated("films") as bucket:
        storage.write_whole(f"{bucket}/a.bin", CLIP)
        storage.write_whole(f"{bucket}/page.mp4", b"<html>")
        sources = [f"{bucket}/a.bin", f"{bucket}/none.mp4", f"{bucket}/page.mp4", str(tmp_path / "clip.mp4")]
        options = {"schemes": ["gs", "file"], "roots": [str(tmp_path)], "by_uri": True}
        left, none, page, local = fetched(sources, **options)
        assert (left["error_kind"], left["format"], left["video"], left["frame"]) == (None, "MP4", None, None)
        assert left["seconds"] == pytest.approx(2.0, abs=0.2)  # sound may go on a little longer
        (long,) = fetched(sources[:1], **options, max_seconds=1.0)
        assert long["reason"] == "too_long"
        assert len(left["image_id"]) == 32
        assert left["image_id"] != image_id(CLIP)
        assert (none["reason"], page["reason"]) == ("not_found", "html")
        assert local["video"] == CLIP  # the service could not read it

        (again,) = fetched(sources[:1], **options)
        assert again["image_id"] == left["image_id"]
        storage.write_whole(f"{bucket}/a.bin", video(5))
        (anew,) = fetched(sources[:1], **options)
        assert anew["image_id"] != left["image_id"]
        (whole,) = fetched(sources[:1], schemes=["gs"])
        assert whole["video"] == video(5) or whole["frames"] == 5
        (outside,) = fetched(sources[:1], schemes=["gs"], roots=["gs://films/folder"], by_uri=True)
        assert outside["reason"] == "forbidden_path"


def test_images_are_left_where_they_are_too() -> None:
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    with emulated("posters") as bucket:
        storage.write_whole(f"{bucket}/a", png.getvalue())
        storage.write_whole(f"{bucket}/b", b"GIF89a")
        stage = Fetch(schemes=["gs"], by_uri=True, tries=1)
        rows = stage(pa.table({"id": ["a", "b"], "source": [f"{bucket}/a", f"{bucket}/b"]})).to_pylist()
        stage.close()
    assert [(row["format"], row["image"], row["reason"]) for row in rows] == [
        ("PNG", None, None),
        (None, None, "not_an_image"),
    ]


class Forbidding:
    """A file system that may say nothing of its objects."""

    def info(self, path: str) -> dict:
        raise PermissionError(path)


def test_what_may_not_be_read_is_taken_at_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "open_fs", lambda url: (Forbidding(), url))
    found = describe_object("gs://b/x.webm", roots=(), video=True)
    assert not isinstance(found, Failure)
    assert found.format == "WEBM"
    assert "changes go unnoticed" in found.unseen
    lost = describe_object("gs://b/x.bin", roots=(), video=True)
    assert isinstance(lost, Failure)
    assert lost.reason == "forbidden"
