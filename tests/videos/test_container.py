"""A container is told by its first bytes."""

import pytest

from seewhy.videos.container import HEAD_BYTES, MP4, claimed_seconds, container_of, is_cut
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


@pytest.mark.parametrize(("form", "codec"), [("mp4", "libx264"), ("mov", "mjpeg"), ("avi", "mpeg4")])
def test_a_file_without_its_end_is_cut(form: str, codec: str) -> None:
    data = video(20, form=form, codec=codec)
    found = container_of(data)
    assert found is not None
    assert not is_cut(data, found)
    assert not is_cut(data + bytes(3), found)
    assert all(is_cut(data[:-left], found) for left in (1, 100, len(data) // 2))


@pytest.mark.parametrize(
    ("form", "codec", "options"),
    [
        ("mp4", "libx264", {}),
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("mov", "mjpeg", {}),
        ("webm", "libvpx", {}),
        ("matroska", "libx264", {}),
    ],
)
def test_a_header_says_how_long(form: str, codec: str, options: dict[str, str]) -> None:
    data = video(30, form=form, codec=codec, options=options)
    found = container_of(data)
    assert found is not None
    read: list[int] = []

    def part(start: int, end: int) -> bytes:
        read.append(end - start)
        return data[start:end]

    assert claimed_seconds(found, data[:HEAD_BYTES], part) == pytest.approx(3.0)
    assert sum(read) <= 16 * 160
    assert claimed_seconds(found, data[:40], lambda start, end: data[:40][start:end]) is None


def test_a_header_that_never_ends_is_left() -> None:
    loop = b"\0\0\0\x08free" * 1000
    asked: list[int] = []
    assert claimed_seconds(MP4, loop, lambda start, end: asked.append(start) or loop[start:end]) is None  # type: ignore
    assert len(asked) == 16


def test_a_header_cut_anywhere_or_of_any_bytes_is_read_without_a_fault() -> None:
    """Each end that a file may have, and each byte of its headers set to each extreme."""
    for form, codec in (("mp4", "libx264"), ("webm", "libvpx")):
        data = video(3, form=form, codec=codec, options={"movflags": "faststart"} if form == "mp4" else {})[:400]
        found = container_of(data)
        assert found is not None
        wrong = [data[:end] for end in range(len(data))]
        wrong += [data[:at] + bytes([to]) + data[at + 1 :] for at in range(len(data)) for to in (0, 1, 127, 128, 255)]
        for one in wrong:
            said = claimed_seconds(found, one, lambda start, end, one=one: one[start:end])  # type: ignore[misc]
            assert said is None or 0 < said < 2**64
            is_cut(one, found)


def test_an_old_quicktime_file_has_no_brand() -> None:
    found = container_of(b"\0\0\0\x08wide\0\0\x10\0mdat")
    assert found is not None
    assert (found.name, found.mime) == ("MOV", "video/quicktime")
