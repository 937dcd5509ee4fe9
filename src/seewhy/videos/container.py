"""What kind of file a video is, told by its first bytes alone: no name and no content type is asked."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

HEAD_BYTES = 4096
"""As many first bytes tell a container."""


@dataclass(frozen=True)
class Container:
    """Attributes:
    name: for tables and people.
    mime: the type that services want to be told.
    demuxer: the one of FFmpeg's that reads it; no other is ever tried, playlists and scripts among them.
    """

    name: str
    mime: str
    demuxer: str


MP4 = Container("MP4", "video/mp4", "mov")
MOV = Container("MOV", "video/quicktime", "mov")
THREE_GP = Container("3GP", "video/3gpp", "mov")
WEBM = Container("WEBM", "video/webm", "matroska")
MKV = Container("MKV", "video/x-matroska", "matroska")
AVI = Container("AVI", "video/x-msvideo", "avi")
MPEG = Container("MPEG", "video/mpeg", "mpeg")
CONTAINERS = {one.name: one for one in (MP4, MOV, THREE_GP, WEBM, MKV, AVI, MPEG)}

_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of ISO 14496-12 files that hold pictures."""
_OLD_MOV = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
"""Boxes that a QuickTime file from before brands may begin with."""


def container_of(head: bytes) -> Container | None:
    """None for what is no video that can be read here. `head`: the first HEAD_BYTES, or all there are."""
    box = head[4:8]
    if box == b"ftyp":
        brand = head[8:12]
        if brand in _PICTURES:
            return None
        return MOV if brand == b"qt  " else THREE_GP if brand[:3] in (b"3gp", b"3g2") else MP4
    if box in _OLD_MOV:
        return MOV
    if head[:4] == b"\x1a\x45\xdf\xa3":  # EBML; its header names the kind of document
        return WEBM if b"\x42\x82\x84webm" in head[:64] else MKV
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return AVI
    return MPEG if head[:4] == b"\x00\x00\x01\xba" else None


def is_cut(data: bytes, container: Container) -> bool:
    """Whether the end is missing, by what the container itself says of its length. Matroska and MPEG do not say."""
    if container.demuxer == "avi":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if container.demuxer != "mov":
        return False
    at = 0
    while at < len(data):  # a box is its size, its name and so on: ISO 14496-12
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        elif size == 0:  # to the end
            return False
        if size < 8:
            return False  # it is no box, so something else is broken
        at += size
    return at > len(data)


def claimed_seconds(container: Container, head: bytes, read: Callable[[int, int], bytes]) -> float | None:
    """How long a video's header says that it is; None where none says so, or where it is not looked for.

    For videos that are not read whole. A header may say anything.

    Args:
        head: the first HEAD_BYTES.
        read: (start, end) -> those bytes of the file, fewer at its end. Asked a few times at most, for a few bytes.
    """
    if container.demuxer == "mov":
        return _movie_seconds(read)
    return _matroska_seconds(head) if container.demuxer == "matroska" else None


_MOST_BOXES = 16


def _movie_seconds(read: Callable[[int, int], bytes]) -> float | None:
    """By the movie header box, ISO 14496-12, 8.2.2: it opens `moov`, which lies before or after the pictures."""
    at = 0
    for _ in range(_MOST_BOXES):
        box = read(at, at + 160)
        if len(box) < 8:
            return None
        size, start = int.from_bytes(box[:4], "big"), 8
        if size == 1:
            size, start = int.from_bytes(box[8:16], "big"), 16
        if box[4:8] == b"moov":
            header = box[start:]
            if header[4:8] != b"mvhd" or len(header) < 48:
                return None
            wide = header[8] == 1  # its version
            places = (28, 32, 40) if wide else (20, 24, 28)
            scale = int.from_bytes(header[places[0] : places[1]], "big")
            length = int.from_bytes(header[places[1] : places[2]], "big")
            unknown = length == 2 ** (64 if wide else 32) - 1
            return None if unknown or not scale or not length else length / scale
        if size < 8:
            return None
        at += size
    return None


def _matroska_seconds(head: bytes) -> float | None:
    """By Duration, in units of TimestampScale nanoseconds (RFC 9559, 5.1.2), where Info lies in the first bytes."""
    info = head.find(b"\x15\x49\xa9\x66")
    length = head.find(b"\x44\x89", info) if info >= 0 else -1
    if length < 0 or head[length + 2 : length + 3] not in (b"\x84", b"\x88"):
        return None
    size = head[length + 2] & 0x7F
    value = head[length + 3 : length + 3 + size]
    scale = head.find(b"\x2a\xd7\xb1", info)
    digits = head[scale + 3] & 0x7F if 0 <= scale < len(head) - 3 else 0
    unit = int.from_bytes(head[scale + 4 : scale + 4 + digits], "big") if digits else 1_000_000
    if len(value) < size:
        return None
    seconds = struct.unpack(">f" if size == 4 else ">d", value)[0] * unit / 1e9
    return seconds if 0 < seconds < 1e9 else None
