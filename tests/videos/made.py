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


def with_streams(mp4: bytes, count: int) -> bytes:
    """An MP4 whose index comes last, with its stream so many times more."""
    movie, track = mp4.index(b"moov") - 4, mp4.index(b"trak") - 4
    (of_movie,), (of_track,) = struct.unpack_from(">I", mp4, movie), struct.unpack_from(">I", mp4, track)
    head = mp4[:movie] + struct.pack(">I", of_movie + of_track * count) + mp4[movie + 4 : track]
    return head + mp4[track : track + of_track] * (count + 1) + mp4[track + of_track :]


def with_hidden_start(mp4: bytes, seconds: float) -> bytes:
    """An MP4 whose edit list begins so much later."""
    data = bytearray(mp4)
    of_movie, of_track, edit = data.index(b"mvhd"), data.index(b"mdhd"), data.index(b"elst")
    (movie_scale,) = struct.unpack_from(">I", data, of_movie + 16)
    (scale,) = struct.unpack_from(">I", data, of_track + 16)
    length, begins = struct.unpack_from(">Ii", data, edit + 12)
    struct.pack_into(">Ii", data, edit + 12, length - int(seconds * movie_scale), begins + int(seconds * scale))
    return bytes(data)


def with_second_stream(mkv: bytes, codec: str) -> bytes:
    """A Matroska file with a smaller stream of that codec beside its own."""
    out = io.BytesIO()
    with av.open(io.BytesIO(mkv)) as given, av.open(out, "w", format="matroska") as file:
        kept = file.add_stream_from_template(given.streams.video[0])
        other = file.add_stream(codec, rate=10)
        other.width, other.height, other.pix_fmt = 16, 16, "yuv420p"
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = kept
                file.mux(packet)
        for place in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 10)
            file.mux(other.encode(frame.reformat(format="yuv420p")))
        file.mux(other.encode(None))
    return out.getvalue()


def with_pictures_elsewhere(mov: bytes, where: str) -> bytes:
    """A MOV that says that its pictures lie in the file or at the address `where`: a Macintosh alias (``alis``), of
    which FFmpeg reads the names of volume and file and the whole path."""
    path, name = where.encode(), where.rpartition("/")[2].encode()
    alias = bytes(10) + b"\4Home".ljust(28, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    alias += bytes(16) + struct.pack(">hh", -1, -1) + bytes(16)  # no way from here to there, so the path counts
    alias += struct.pack(">hH", 2, len(path)) + path + bytes(len(path) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I", 12 + len(alias)) + b"alis" + bytes(4) + alias
    data = bytearray(mov)
    old = data.index(b"dref") - 4
    (size,) = struct.unpack_from(">I", data, old)
    box = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        place = data.index(name, old - 40 if name == b"dinf" else 0) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(box) - size)
    return bytes(data[:old]) + box + bytes(data[old + size :])
