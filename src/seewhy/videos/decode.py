"""The decoder's work, by PyAV (FFmpeg): what a video is, and its frames as pixels. Runs in the child process only."""

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from seewhy.videos.container import MP4, is_cut
from seewhy.videos.sampling import middles

_OF_THE_WEB = ("h264", "hevc", "av1", "libdav1d", "vp8", "libvpx", "vp9", "libvpx-vp9")
_OF_CAMERAS = ("mjpeg", "prores", "dnxhd", "mpeg2video", "mpeg4", "h263")
_OLDER = ("mpeg1video", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "wmv3", "vc1", "theora", "svq3")
CODECS = frozenset((*_OF_THE_WEB, *_OF_CAMERAS, *_OLDER))
"""What is not here is never decoded: FFmpeg has some two hundred video decoders, of games and of the nineties."""
MAX_STREAMS = 200
"""Real files have ten, or some more with fonts for subtitles, which count; each takes memory and time."""


class BadVideo(ValueError):
    """A video that cannot be used: a reason in snake case, and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Limits:
    """Attributes:
    max_pixels: of a frame, whatever the file or its stream says; a decoder that meets more refuses.
    max_seconds: of the video.
    max_frames: packets of pictures that are read.
    """

    max_pixels: int
    max_seconds: float
    max_frames: int


@dataclass(frozen=True)
class Survey:
    """When each frame is shown, from all packets of the stream and not from what a header says.

    Attributes:
        times: beginnings, ascending, in units of `unit` seconds.
        keys: of these, those that can be decoded without others, ascending.
        end: of the last frame.
    """

    times: list[int]
    keys: list[int]
    end: int
    unit: Fraction

    @property
    def seconds(self) -> float:
        return float((self.end - self.times[0]) * self.unit)


def look(data: bytes, demuxer: str, limits: Limits, size_px: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What the video is, and the frame of its middle.

    All packets are read; of the frames the one of the middle is decoded, and those that it needs.

    Returns:
        width, height (pixels, upright), seconds, frames, audio (whether there is sound); and the picture, see `frames`.

    Raises:
        BadVideo: no_video_stream, unsupported_codec, too_many_pixels, too_long, too_many_frames, truncated, corrupt,
            bad_header, no_frames.
    """
    with _opened(data, demuxer, limits) as (container, stream):
        survey = _survey(container, stream, limits, _lists_what_is_shown(data, demuxer))
        (picture,) = _pictures(container, stream, survey, middles(survey.times, survey.end, 1), size_px)
        width, height = _shown_size(stream, stream.codec_context.width, stream.codec_context.height)
        if (picture.shape[0] > picture.shape[1]) != (height > width):
            width, height = height, width  # the frame says that it is to be turned
        about = {
            "width": width,
            "height": height,
            "seconds": survey.seconds,
            "frames": len(survey.times),
            "audio": any(one.type == "audio" for one in container.streams),
        }
        return about, [picture]


def frames(data: bytes, demuxer: str, limits: Limits, size_px: int, count: int) -> list[np.ndarray]:
    """The frames of `sampling.middles`: `count` of (H, W, 3) uint8 RGB, upright, in square pixels, their longer side
    `size_px` at most. Raises BadVideo as `look`."""
    with _opened(data, demuxer, limits) as (container, stream):
        survey = _survey(container, stream, limits, _lists_what_is_shown(data, demuxer))
        return _pictures(container, stream, survey, middles(survey.times, survey.end, count), size_px)


@contextmanager
def _opened(data: bytes, demuxer: str, limits: Limits) -> Iterator[tuple[Any, Any]]:
    """The container and its best stream of pictures, whose decoder refuses larger frames than allowed."""
    most = {"max_pixels": str(limits.max_pixels)}
    # To open a file FFmpeg tries decoders of all its streams, sound too; and a MOV may say that its pictures lie in
    # another file or at an address. These say what may be tried, and that nothing else may be opened.
    allowed = {"codec_whitelist": ",".join(sorted(CODECS)), "max_streams": str(MAX_STREAMS)}
    closed = {"protocol_whitelist": "none", "format_whitelist": demuxer}
    closed |= {"enable_drefs": "0"} if demuxer == "mov" else {}
    options = {**most, **allowed, **closed}
    try:
        with av.open(io.BytesIO(data), format=demuxer, options=options, metadata_errors="replace") as container:
            stream: Any = container.streams.best("video")
            if stream is None or stream.disposition & Disposition.attached_pic:
                raise BadVideo("no_video_stream", "there are no moving pictures in it")
            codec = stream.codec_context
            if codec is None or codec.name not in CODECS:
                raise BadVideo("unsupported_codec", f"{getattr(codec, 'name', None)!r} is none of {sorted(CODECS)}")
            if codec.width * codec.height > limits.max_pixels:
                raise BadVideo(
                    "too_many_pixels", f"{codec.width} x {codec.height} pixels, allowed are {limits.max_pixels} in all"
                )
            codec.options = most
            codec.thread_count = 1  # there are as many rows as cores, and each thread holds frames of its own
            yield container, stream
    except (av.FFmpegError, ValueError, OverflowError, ZeroDivisionError) as error:
        if isinstance(error, BadVideo | MemoryError):
            raise
        raise BadVideo("bad_header", _said(error)) from error


def _lists_what_is_shown(data: bytes, demuxer: str) -> bool:
    """Whether fewer frames than the header lists means that some are missing. A MOV lists also those that an edit list
    cuts away, as phones do; whether its end is there its boxes tell."""
    return demuxer != "mov" or is_cut(data, MP4)


def _survey(container: Any, stream: Any, limits: Limits, lists_shown: bool) -> Survey:
    claimed = stream.duration and stream.time_base and float(stream.duration * stream.time_base)
    if claimed and claimed > limits.max_seconds:
        raise BadVideo("too_long", f"it says {claimed:.0f} s, allowed are {limits.max_seconds:g}")
    if stream.frames > limits.max_frames:
        raise BadVideo("too_many_frames", f"it says {stream.frames}, allowed are {limits.max_frames}")
    times: list[int] = []
    keys: list[int] = []
    found, last_length, end_of_all = 0, 0, 0.0
    for packet in _packets(container):
        if packet.is_corrupt:
            raise BadVideo("truncated", "a packet ends early")
        at = packet.pts if packet.pts is not None else packet.dts
        if at is None:
            continue
        length = packet.duration or 0
        end_of_all = max(end_of_all, float((at + length) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        found += 1
        if packet.is_keyframe:
            keys.append(at)
        if not packet.is_discard:  # an edit list may hide frames that others need
            times.append(at)
            last_length = length or last_length
        if found > limits.max_frames:
            raise BadVideo("too_many_frames", f"more than the {limits.max_frames} allowed")
    if not times or not keys:
        raise BadVideo("no_frames", f"{len(times)} frames, {len(keys)} of them whole in themselves")
    times.sort()
    keys.sort()
    if not last_length and len(times) > 1:
        last_length = (times[-1] - times[0]) // (len(times) - 1)
    survey = Survey(times, keys, times[-1] + max(1, last_length), stream.time_base)
    if survey.seconds > limits.max_seconds:
        raise BadVideo("too_long", f"{survey.seconds:.0f} s, allowed are {limits.max_seconds:g}")
    _need_whole(container, stream, found if lists_shown else stream.frames, end_of_all)
    return survey


def _packets(container: Any) -> Iterator[Any]:
    try:
        yield from container.demux()
    except av.FFmpegError as error:
        raise BadVideo("truncated", _said(error)) from error


def _need_whole(container: Any, stream: Any, found: int, end_sec: float) -> None:
    """Raises BadVideo where a header that lists its frames lists more, or one that says how long it is says much more.

    A second, and a twentieth, are let pass: writers round, and edit lists cut.
    """
    if stream.frames > found:
        raise BadVideo("truncated", f"{found} of {stream.frames} frames are there")
    said = container.duration / av.time_base if container.duration else 0.0
    start = (container.start_time or 0) / av.time_base
    if said - (end_sec - start) > 1 + said / 20:
        raise BadVideo("truncated", f"it says {said:.1f} s and ends after {end_sec - start:.1f}")


def _pictures(container: Any, stream: Any, survey: Survey, places: Sequence[int], size_px: int) -> list[np.ndarray]:
    """The frames at ascending places. Decodes on where the next one lies ahead before another key frame does."""
    made: list[np.ndarray] = []
    coming: Iterator[Any] = iter(())
    shown: Any = None
    for place in places:
        wanted = survey.times[place]
        key = survey.keys[max(0, bisect_right(survey.keys, wanted) - 1)]
        if shown is None or _time(shown) < key:
            coming = _from(container, stream, key)
            shown = next(coming, None)
            if shown is not None and _time(shown) > wanted:  # an index that lies; the beginning is always there
                coming = _from(container, stream, survey.times[0])
                shown = next(coming, None)
        while shown is not None and _time(shown) < wanted:
            after = next(coming, None)
            if after is None:  # decoders may keep the very last frames to themselves
                break
            shown = after
        if shown is None or shown.is_corrupt:
            raise BadVideo("corrupt", f"the frame at {float((wanted - survey.times[0]) * survey.unit):.2f} s")
        made.append(_picture(shown, stream, size_px))
    return made


def _from(container: Any, stream: Any, time: int) -> Iterator[Any]:
    """Frames from the key frame at or before a time on."""
    try:
        container.seek(time, stream=stream, backward=True)
        yield from container.decode(stream)
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise BadVideo("corrupt", _said(error)) from error


def _time(frame: Any) -> int:
    return frame.pts if frame.pts is not None else frame.dts or 0


def _picture(frame: Any, stream: Any, size_px: int) -> np.ndarray:
    width, height = _shown_size(stream, frame.width, frame.height)
    scale = min(1.0, size_px / max(width, height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(rgb, k=round(frame.rotation / 90)))


def _shown_size(stream: Any, width: int, height: int) -> tuple[int, int]:
    """In square pixels, before any turn. An aspect that no screen has is taken for a mistake."""
    aspect = stream.sample_aspect_ratio
    if aspect is None or not Fraction(1, 4) <= aspect <= 4:
        return width, height
    return max(1, round(width * aspect)), height


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
