"""Videos made by PyAV whose frames have known colours, and the same with lies in their headers."""

import io
import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COLOURS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (0, 255, 255),
    (255, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
]
"""Frame i of `video` has colour i mod 8: neighbours are far apart, so that a frame next to the right one is not it."""


def video(
    count: int = 20,
    *,
    form: str = "mp4",
    codec: str = "libx264",
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    sound: bool = False,
    turned: int = 0,
    colours: Sequence[tuple[int, int, int]] = COLOURS,
    options: dict[str, str] | None = None,
    begins: Sequence[int] | None = None,
) -> bytes:
    """`count` plain frames, `fps` a second. A `turned` one says that it is to be shown so many degrees to the left.

    Args:
        begins: when each frame begins, in 1/fps seconds, where they are not of one length.
    """
    width, height = size
    with tempfile.NamedTemporaryFile() as kept, av.open(kept.name, "w", format=form, options=options or {}) as file:
        stream = file.add_stream(codec, rate=fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        stream.codec_context.gop_size = 7  # so that key frames and sampled frames do not fall together
        if turned:
            stream.set_display_rotation(turned)
        voice = file.add_stream("aac", rate=8000, layout="mono") if sound else None
        for place in range(count):
            picture = np.full((height, width, 3), colours[place % len(colours)], np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = begins[place] if begins else place, Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if voice is not None:
            tone = np.zeros((1, 8000 * count // fps), np.float32)
            for start in range(0, tone.shape[1], 1024):
                block = av.AudioFrame.from_ndarray(tone[:, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = 8000, start, Fraction(1, 8000)
                file.mux(voice.encode(block))
            file.mux(voice.encode(None))
        file.close()
        return Path(kept.name).read_bytes()


def film(pictures: Sequence[np.ndarray], *, fps: int = 5) -> bytes:
    """An MP4 of (H, W, 3) uint8 pictures, next to lossless."""
    with tempfile.NamedTemporaryFile() as kept, av.open(kept.name, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=fps, options={"crf": "4"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
        file.close()
        return Path(kept.name).read_bytes()


def growing(small: int, large: int) -> bytes:
    """An AVI of JPEGs: so many of 64 x 48 pixels, and then so many of 640 x 480."""
    pieces = []
    for count, size in ((small, (64, 48)), (large, (640, 480))):
        with av.open(io.BytesIO(video(count, form="avi", codec="mjpeg", size=size)), format="avi") as file:
            pieces += [bytes(packet) for packet in file.demux(video=0) if packet.size]
    out = io.BytesIO()
    with av.open(out, "w", format="avi") as file:
        stream = file.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for place, piece in enumerate(pieces):
            packet = av.Packet(piece)
            packet.pts = packet.dts = place
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10), stream, True
            file.mux(packet)
    return out.getvalue()


def colour(picture: np.ndarray) -> tuple[int, int, int]:
    """The one colour of a picture: of the nearest in COLOURS, which it must be close to all over."""
    place = int(np.abs(np.asarray(COLOURS) - picture.reshape(-1, 3).mean(axis=0)).sum(axis=1).argmin())
    assert np.abs(picture.astype(int) - COLOURS[place]).max() < 24, picture.reshape(-1, 3).mean(axis=0)
    return COLOURS[place]


def at(places: Sequence[int]) -> list[tuple[int, int, int]]:
    return [COLOURS[place % len(COLOURS)] for place in places]


def with_claimed_frames(mp4: bytes, claimed: int) -> bytes:
    """An MP4 whose table of times and table of sizes say that there are so many frames, all of one size."""
    data = bytearray(mp4)
    times, sizes = data.index(b"stts"), data.index(b"stsz")
    struct.pack_into(">III", data, times + 8, 1, claimed, struct.unpack_from(">I", data, times + 16)[0])
    struct.pack_into(">II", data, sizes + 8, 100, claimed)  # 100 bytes each: no list of sizes
    return bytes(data)


def with_claimed_size(mp4: bytes, width: int, height: int) -> bytes:
    """An MP4 whose description of the stream says another size."""
    data = bytearray(mp4)
    struct.pack_into(">HH", data, data.index(b"avc1", data.index(b"stsd")) + 28, width, height)
    return bytes(data)


def with_claimed_jpeg_size(avi: bytes, width: int, height: int) -> bytes:
    """An AVI of JPEGs each of which says in its own header that it is so large."""
    data = bytearray(avi)
    place = -1
    while (place := data.find(b"\xff\xc0\x00\x11\x08", place + 1)) >= 0:
        struct.pack_into(">HH", data, place + 5, height, width)
    return bytes(data)
