"""Whether bytes are a video that can be used, and what of it tables keep beside the bytes."""

from dataclasses import dataclass

from seewhy.failure import BAD_INPUT, Failure
from seewhy.images import WEB_PAGE
from seewhy.near_duplicates import fingerprint
from seewhy.overlay import encode_jpeg
from seewhy.videos.container import CONTAINERS, HEAD_BYTES, container_of, is_cut
from seewhy.videos.decoder import Decoder

FRAME_PX = 800
"""Longer side of the frame that reports show."""


@dataclass(frozen=True)
class CheckedVideo:
    """A video of which all packets were read and the middle frame was decoded.

    Attributes:
        format: a name in `container.CONTAINERS`.
        width, height: pixels, upright.
        seconds, frames, audio: as in `decoder.Looked`.
        frame: a JPEG of the middle frame, its longer side FRAME_PX at most.
        fingerprint: of near_duplicates, of that frame.
    """

    format: str
    width: int
    height: int
    seconds: float
    frames: int
    audio: bool
    frame: bytes
    fingerprint: bytes


def check_video(data: bytes, decoder: Decoder, *, max_bytes: int) -> CheckedVideo | Failure:
    """What a video is, or why it cannot be used. Raises Fatal where nothing can be decoded, see `Decoder`.

    Reasons: empty, too_large (bytes), html, not_a_video, and those of `Decoder`. What is broken between the middle
    frame and the others shows when those are decoded.
    """
    if len(data) > max_bytes:
        return Failure(BAD_INPUT, "too_large", f"{len(data)} bytes, allowed are {max_bytes}")
    if not data:
        return Failure(BAD_INPUT, "empty", "0 bytes")
    container = container_of(data[:HEAD_BYTES])
    if container is None:
        return no_video(data)
    looked = decoder.look(data, container, size_px=FRAME_PX)
    if isinstance(looked, Failure):
        cut = looked.reason in ("bad_header", "no_video_stream", "no_frames", "corrupt") and is_cut(data, container)
        return Failure(BAD_INPUT, "truncated", looked.detail) if cut else looked
    return CheckedVideo(
        format=container.name,
        width=looked.width,
        height=looked.height,
        seconds=looked.seconds,
        frames=looked.frames,
        audio=looked.audio,
        frame=encode_jpeg(looked.middle),
        fingerprint=fingerprint(looked.middle),
    )


def no_video(head: bytes) -> Failure:
    """For bytes that begin like none."""
    if head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(WEB_PAGE):
        return Failure(BAD_INPUT, "html", "a web page, not a video")
    return Failure(BAD_INPUT, "not_a_video", f"none of {', '.join(CONTAINERS)}; starts with {head[:16]!r}")
