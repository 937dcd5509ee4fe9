"""Videos decoded in a process of their own: the right frames, and for broken and hostile ones a reason, soon."""

import http.server
import io
import os
import pickle
import resource
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread, Timer

import av
import numpy as np
import pytest

from seewhy.failure import Failure, Fatal
from seewhy.videos import decode
from seewhy.videos import decoder as module
from seewhy.videos.container import AVI, HEAD_BYTES, MOV, MP4, Container, container_of
from seewhy.videos.decoder import Decoder
from tests.videos.made import (
    at,
    colour,
    growing,
    video,
    with_claimed_frames,
    with_claimed_jpeg_size,
    with_claimed_size,
    with_hidden_start,
    with_pictures_elsewhere,
    with_second_stream,
    with_streams,
)

CLIP = video(20)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


def container(data: bytes) -> Container:
    found = container_of(data[:HEAD_BYTES])
    assert found is not None
    return found


def reason(found: object) -> tuple[str, str]:
    assert isinstance(found, Failure), found
    return found.kind, found.reason


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "mjpeg"),
        ("webm", "libvpx"),
        ("webm", "libvpx-vp9"),
        ("matroska", "libx264"),
        ("avi", "mpeg4"),
    ],
)
def test_frames_are_those_of_the_middles(decoder: Decoder, form: str, codec: str) -> None:
    """Of 20 frames with known colours: 2, 7, 12, 17 stand for four parts, and 10 for the whole."""
    data = video(20, form=form, codec=codec)
    shown = decoder.frames(data, container(data), count=4, size_px=64)
    assert not isinstance(shown, Failure)
    assert [colour(frame) for frame in shown] == at([2, 7, 12, 17])
    assert {frame.shape for frame in shown} == {(48, 64, 3)}
    looked = decoder.look(data, container(data), size_px=32)
    assert not isinstance(looked, Failure)
    assert (looked.width, looked.height, looked.frames, looked.audio) == (64, 48, 20, False)
    assert looked.seconds == pytest.approx(2.0, abs=0.002)
    assert (looked.middle.shape, colour(looked.middle)) == ((24, 32, 3), at([10])[0])


def test_as_many_frames_as_asked_whatever_the_key_frames(decoder: Decoder) -> None:
    data = video(20)
    for count in (1, 2, 8, 20, 40):
        shown = decoder.frames(data, MP4, count=count, size_px=64)
        assert not isinstance(shown, Failure)
        assert [colour(frame) for frame in shown] == at([(2 * i + 1) * 20 // (2 * count) for i in range(count)])


def test_frames_of_unequal_length(decoder: Decoder) -> None:
    """Frames that begin at 0, 9 and 10 tenths of a second, the last one as long as the one before it: at a quarter and
    three quarters of 1.1 s the first is on the screen, in the last of ten parts the third."""
    data = video(3, form="matroska", begins=[0, 9, 10])
    shown = decoder.frames(data, container(data), count=10, size_px=64)
    assert not isinstance(shown, Failure)
    assert [colour(frame) for frame in shown] == at([0] * 8 + [1, 2])


def test_an_mpeg_program_stream_is_read_by_its_own_times(decoder: Decoder) -> None:
    """FFmpeg's writer leaves a gap of one frame after the sixteenth: of 21/25 s the third quarter's middle, at 0.525 s,
    lies 13 frames from the beginning."""
    data = video(20, form="mpeg", codec="mpeg2video", fps=25)
    shown = decoder.frames(data, container(data), count=4, size_px=64)
    assert not isinstance(shown, Failure)
    assert [colour(frame) for frame in shown] == at([2, 7, 13, 17])
    looked = decoder.look(data, container(data), size_px=64)
    assert not isinstance(looked, Failure)
    assert looked.seconds == pytest.approx(0.84)


def test_sound_is_heard_of(decoder: Decoder) -> None:
    looked = decoder.look(video(20, sound=True), MP4, size_px=64)
    assert not isinstance(looked, Failure)
    assert looked.audio


def test_a_video_that_lies_on_its_side_stands_upright(decoder: Decoder) -> None:
    """The left half of the stored picture is red: shown a quarter turn to the left it is the lower half."""
    import av

    from tests.videos import made

    halves = np.zeros((48, 64, 3), np.uint8)
    halves[:, :32, 0] = 255
    real, av.VideoFrame.from_ndarray = av.VideoFrame.from_ndarray, None  # type: ignore[assignment]
    av.VideoFrame.from_ndarray = lambda picture, format: real(halves, format=format)
    try:
        data = made.video(5, turned=90)
    finally:
        av.VideoFrame.from_ndarray = real
    looked = decoder.look(data, MP4, size_px=64)
    assert not isinstance(looked, Failure)
    assert (looked.width, looked.height, looked.middle.shape) == (48, 64, (64, 48, 3))
    upper, lower = looked.middle[8:24].mean(axis=(0, 1)), looked.middle[40:56].mean(axis=(0, 1))
    assert upper[0] < 30
    assert lower[0] > 200


def test_broken_files_have_a_reason(decoder: Decoder) -> None:
    data = video(40, size=(320, 240))
    early = video(40, size=(320, 240), options={"movflags": "faststart"})
    assert reason(decoder.look(data[: len(data) // 2], MP4, size_px=64)) == ("bad_input", "bad_header")
    assert reason(decoder.look(early[: len(early) * 3 // 4], MP4, size_px=64)) == ("bad_input", "truncated")
    assert reason(decoder.look(data[:40] + bytes(2000), MP4, size_px=64)) == ("bad_input", "bad_header")
    film = video(40, form="matroska", size=(320, 240))
    assert reason(decoder.look(film[: len(film) // 2], container(film), size_px=64)) == ("bad_input", "truncated")


def test_frames_that_are_missing_at_the_end_are_counted(decoder: Decoder) -> None:
    """Cut between two of the last packets, so that every packet is whole and the time is nearly right."""
    import io

    import av

    data = video(40, options={"movflags": "faststart"})
    with av.open(io.BytesIO(data), format="mov") as file:
        places = sorted(packet.pos for packet in file.demux(video=0) if packet.size)
    found = decoder.look(data[: places[-2]], MP4, size_px=64)
    assert reason(found) == ("bad_input", "truncated")
    assert isinstance(found, Failure)
    assert found.detail == "38 of 40 frames are there"


def test_a_video_of_sound_alone_is_none(decoder: Decoder) -> None:
    import io
    from fractions import Fraction

    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        voice = file.add_stream("aac", rate=8000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = 8000, 0, Fraction(1, 8000)
        file.mux(voice.encode(block))
        file.mux(voice.encode(None))
    assert reason(decoder.look(out.getvalue(), MP4, size_px=64)) == ("bad_input", "no_video_stream")


def test_a_codec_of_no_list_is_not_decoded(decoder: Decoder) -> None:
    data = video(3, form="matroska", codec="ffv1")
    assert reason(decoder.look(data, container(data), size_px=64)) == ("bad_input", "unsupported_codec")


def test_limits_hold_for_what_is_there(decoder: Decoder) -> None:
    data = video(20)
    assert reason(Decoder(max_pixels=64 * 48 - 1).look(data, MP4, size_px=64)) == ("bad_input", "too_many_pixels")
    assert reason(Decoder(max_seconds=1.9).look(data, MP4, size_px=64)) == ("bad_input", "too_long")
    assert not isinstance(Decoder(max_pixels=64 * 48, max_seconds=2).look(data, MP4, size_px=64), Failure)


def test_limits_hold_for_what_is_claimed(decoder: Decoder) -> None:
    """A billion frames, and frames of 60,000 x 60,000 pixels, in a few thousand bytes: refused within seconds, and by a
    process that never held what was claimed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    start = time.monotonic()
    data = video(20)
    many = decoder.look(with_claimed_frames(data, 1_000_000_000), MP4, size_px=64)
    assert reason(many)[0] == "bad_input"
    assert reason(many)[1] in ("too_long", "too_many_frames", "too_much_memory", "bad_header")
    large = with_claimed_jpeg_size(video(20, form="avi", codec="mjpeg"), 60_000, 60_000)
    assert reason(decoder.look(large, AVI, size_px=64)) == ("bad_input", "corrupt")  # in the decoder's own words
    decoder.close()
    assert time.monotonic() - start < 20
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before < 700_000  # KiB


def test_frames_that_grow_in_the_middle_are_refused(decoder: Decoder) -> None:
    """The container and the first frames say 64 x 48, the later frames 640 x 480."""
    data = growing(small=4, large=16)
    assert reason(Decoder(max_pixels=10_000).look(data, AVI, size_px=640)) == ("bad_input", "corrupt")
    looked = decoder.look(data, AVI, size_px=640)
    assert not isinstance(looked, Failure)
    assert looked.middle.shape == (480, 640, 3)


def test_a_size_that_only_the_container_claims_is_not_believed(decoder: Decoder) -> None:
    """The stream itself says 64 x 48: nothing is drawn at the size that is claimed."""
    found = decoder.look(with_claimed_size(video(20), 60_000, 60_000), MP4, size_px=64)
    assert not isinstance(found, Failure)
    assert found.height == 48
    assert found.width <= 4 * 64  # it takes the pixels for oblong
    assert colour(found.middle) == at([10])[0]


def test_a_decoder_that_takes_too_long_or_dies_costs_its_row_alone() -> None:
    data = video(20, size=(640, 480))
    slow = Decoder(wall_seconds=0.0)
    assert reason(slow.look(data, MP4, size_px=64)) == ("bad_input", "too_slow")
    small = Decoder(memory_bytes=1_000_000)
    assert reason(small.look(data, MP4, size_px=64))[0] == "bad_input"  # libraries say it in several ways
    decoder = Decoder()
    assert not isinstance(decoder.look(data, MP4, size_px=64), Failure)
    for ends in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        child = decoder._idle.get()
        child.send_signal(signal.SIGSTOP)
        decoder._idle.put(child)
        late = Timer(0.3, lambda child=child, ends=ends: (child.send_signal(ends), child.send_signal(signal.SIGCONT)))
        late.start()
        found = decoder.look(data, MP4, size_px=64)  # asked before it is ended, or as it is ended
        if not isinstance(found, Failure):  # it caught the signal between two steps and had answered
            assert ends == signal.SIGINT
        else:
            assert reason(found) == ("transient", "decoder_killed")
        late.join()
        assert not isinstance(decoder.look(data, MP4, size_px=64), Failure)  # by another process
    decoder.close()


def test_a_process_that_died_while_it_waited_costs_no_row() -> None:
    decoder = Decoder()
    assert not isinstance(decoder.look(CLIP, MP4, size_px=64), Failure)
    child = decoder._idle.get()
    child.kill()
    child.wait()
    decoder._idle.put(child)
    assert not isinstance(decoder.look(CLIP, MP4, size_px=64), Failure)
    decoder.close()


def test_what_keeps_a_process_from_starting_is_no_video_s_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder with a module of the same name as one of ours is not asked; what cannot start at all stops the job."""
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    decoder = Decoder()
    assert not isinstance(decoder.look(CLIP, MP4, size_px=64), Failure)
    decoder.close()
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    with pytest.raises(Fatal, match="ends with 1 before it has seen one"):
        decoder.look(CLIP, MP4, size_px=64)
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "none"))
    assert reason(decoder.look(CLIP, MP4, size_px=64)) == ("transient", "decoder_not_started")


def test_a_video_may_be_larger_than_the_one_before_it_was_allowed_to_be() -> None:
    """The memory that decoding may take comes on top of the bytes of each video."""
    decoder = Decoder(memory_bytes=200_000_000)
    assert not isinstance(decoder.look(CLIP, MP4, size_px=64), Failure)
    large = CLIP + struct.pack(">I", 300_000_008) + b"free" + bytes(300_000_000)
    found = decoder.look(large, MP4, size_px=64)
    decoder.close()
    assert not isinstance(found, Failure), found


def children() -> set[str]:
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_processes_and_pipes_do_not_pile_up() -> None:
    """Sixty videos, of which each third is broken and each third ends its process."""
    decoder = Decoder()
    small = Decoder(memory_bytes=1_000_000)
    before, others = len(os.listdir("/proc/self/fd")), children()
    for place in range(60):
        asked, data = (decoder, CLIP) if place % 3 == 0 else (decoder, CLIP[:1000]) if place % 3 == 1 else (small, CLIP)
        asked.look(data, MP4, size_px=64)
    decoder.close()
    small.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert children() <= others


def test_frames_that_an_edit_list_hides_do_not_count(decoder: Decoder) -> None:
    """Two seconds of which the first is cut away, as a phone does it: of frames 10 to 19, 11 13 16 18 stand for four
    parts, and 15 for the whole."""
    data = with_hidden_start(CLIP, seconds=1.0)
    looked = decoder.look(data, MP4, size_px=64)
    assert not isinstance(looked, Failure), looked
    assert (looked.frames, colour(looked.middle)) == (10, at([15])[0])
    assert looked.seconds == pytest.approx(1.0)
    shown = decoder.frames(data, MP4, count=4, size_px=64)
    assert not isinstance(shown, Failure)
    assert [colour(frame) for frame in shown] == at([11, 13, 16, 18])


def test_many_streams_are_refused_soon(decoder: Decoder) -> None:
    start = time.monotonic()
    assert reason(decoder.look(with_streams(CLIP, 3000), MP4, size_px=64)) == ("bad_input", "too_much_memory")
    assert time.monotonic() - start < 10


def test_no_decoder_that_is_on_no_list_is_opened() -> None:
    """FFmpeg opens a file's decoders to learn what is in it, before anyone could look at their names."""
    data = with_second_stream(video(3, form="matroska"), "ffv1")
    with av.open(io.BytesIO(data), format="matroska") as file:
        assert file.streams.video[1].codec_context.pix_fmt == "yuv420p"  # it was decoded
    with decode._opened(data, "matroska", decode.Limits(10**6, 60, 1000)) as (container, stream):
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert container.streams.video[1].codec_context.pix_fmt is None


@pytest.mark.parametrize("where", ["file", "address"])
def test_a_video_that_lies_elsewhere_is_not_looked_for(decoder: Decoder, tmp_path: Path, where: str) -> None:
    """A MOV may name another file, or an address, that its pictures lie in (ISO 14496-12, 8.7.2). FFmpeg opens the
    file where it is told to, as is shown first; with what the decoder is told it does not, even then."""
    data = video(20, form="mov")
    (tmp_path / "secret.mov").write_bytes(data)
    asked: list[str] = []

    class Kept(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kept) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        elsewhere = {
            "file": str(tmp_path / "secret.mov"),
            "address": f"http://127.0.0.1:{server.server_address[1]}/secret.mov",
        }[where]
        hostile = with_pictures_elsewhere(data, elsewhere)
        told = {"enable_drefs": "1", "use_absolute_path": "1"}
        with av.open(io.BytesIO(hostile), format="mov", options=told) as file:
            found = sum(packet.size for packet in file.demux(video=0))
        assert (found > 0) == (where == "file")  # an address it takes for folders of a Macintosh, parted by colons
        assert reason(decoder.look(hostile, MOV, size_px=64))[0] == "bad_input"
        assert isinstance(decoder.frames(hostile, MOV, count=2, size_px=64), Failure)
        refused = {"protocol_whitelist": "none", "format_whitelist": "mov"}
        with av.open(io.BytesIO(hostile), format="mov", options={**told, **refused}) as file:
            assert sum(packet.size for packet in file.demux(video=0)) == 0
        server.shutdown()
    assert asked == []


def test_a_core_s_seconds_are_counted() -> None:
    """To start a process took some of them; with no more allowed it ends at the first video."""
    decoder = Decoder(cpu_seconds=0)
    assert reason(decoder.look(video(3), MP4, size_px=64)) == ("bad_input", "too_slow")


def test_a_decoder_can_be_sent_to_a_worker(decoder: Decoder) -> None:
    sent = pickle.loads(pickle.dumps(decoder))
    assert not isinstance(sent.look(video(3), MP4, size_px=64), Failure)
    sent.close()


def test_without_pyav_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Fatal, match=r"seewhy\[video\]"):
        Decoder()
