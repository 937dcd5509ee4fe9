"""What kind of file a video is, told by its first bytes alone: no name and no content type is asked."""

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
