"""A container is told by its first bytes."""

import pytest

from seewhy.videos.container import HEAD_BYTES, container_of
from tests.videos.made import video


@pytest.mark.parametrize(
    ("form", "codec", "name"),
    [
        ("mp4", "libx264", "MP4"),
        ("mov", "mpeg4", "MOV"),
        ("3gp", "mpeg4", "3GP"),
        ("webm", "libvpx", "WEBM"),
        ("matroska", "libx264", "MKV"),
        ("avi", "mpeg4", "AVI"),
        ("mpeg", "mpeg2video", "MPEG"),
    ],
)
def test_of_what_is_written_by_ffmpeg(form: str, codec: str, name: str) -> None:
    found = container_of(video(3, form=form, codec=codec, fps=25)[:HEAD_BYTES])
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<!doctype html>",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"RIFF\x10\0\0\0WEBP",
        b"RIFF\x10\0\0\0WAVE",
        b"\0\0\0\x1cftypavif",
        b"\0\0\0\x1cftypheic",
        b"#EXTM3U\nhttp://127.0.0.1/",
        b"ffconcat version 1.0\nfile /etc/passwd",
        b"Exec=video.mp4",
    ],
)
def test_what_is_no_video_is_none(head: bytes) -> None:
    assert container_of(head) is None


def test_an_old_quicktime_file_has_no_brand() -> None:
    found = container_of(b"\0\0\0\x08wide\0\0\x10\0mdat")
    assert found is not None
    assert (found.name, found.mime) == ("MOV", "video/quicktime")
