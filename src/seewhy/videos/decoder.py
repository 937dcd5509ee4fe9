"""Asking the process that decodes: bytes in, pictures out, or why not. It may hang, grow or die; this one does not."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Timer
from typing import Any

import numpy as np

from seewhy.failure import BAD_INPUT, TRANSIENT, Failure, Fatal
from seewhy.videos import READY
from seewhy.videos.container import Container

MAX_PIXELS = 36_000_000
"""Of a frame: 8K is 7,680 x 4,320."""
MAX_SECONDS = 3600.0
MAX_FRAMES = 1_000_000
"""An hour at 240 frames a second has 864,000."""
MEMORY_BYTES = 1_500_000_000
"""That decoding may take beyond the video's own bytes: seventeen frames of 8K, as H.264 may need, are 0.9 GB."""
CPU_SECONDS = 120
WALL_SECONDS = 300.0
"""On a machine that is busy with other things."""


@dataclass(frozen=True)
class Looked:
    """What a video is.

    Attributes:
        width, height: pixels, upright.
        seconds: from the beginning of the first frame to the end of the last.
        frames: how many there are.
        audio: whether there is sound.
        middle: (H, W, 3) uint8 RGB, the frame shown in the middle of the time.
    """

    width: int
    height: int
    seconds: float
    frames: int
    audio: bool
    middle: np.ndarray


class Decoder:
    """Decodes videos in processes of its own, one for each caller's thread at a time. Thread-safe, picklable.

    Failures, as values: bad_input with the reasons of `decode.look`, and too_much_memory, too_slow (it took all the
    time that one video gets), decoder_crashed; transient decoder_killed (from outside, as by a machine without memory)
    and decoder_not_started (the machine has no room for a process).

    Args:
        max_pixels, max_seconds: see `decode.Limits`.
        memory_bytes, cpu_seconds, wall_seconds: for one video; on Linux, elsewhere the memory is not limited.

    Raises:
        Fatal: PyAV is not installed; with the first video, it is there and does not start.
    """

    def __init__(
        self,
        *,
        max_pixels: int = MAX_PIXELS,
        max_seconds: float = MAX_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        cpu_seconds: int = CPU_SECONDS,
        wall_seconds: float = WALL_SECONDS,
    ) -> None:
        if importlib.util.find_spec("av") is None:
            raise Fatal('videos need the package av: pip install "seewhy[video]"')
        self._limits = {"max_pixels": max_pixels, "max_seconds": max_seconds, "max_frames": MAX_FRAMES}
        self._limits |= {"memory_bytes": memory_bytes, "cpu_seconds": cpu_seconds}
        self._wall_seconds = wall_seconds
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_idle"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_idle": SimpleQueue()}

    def look(self, data: bytes, container: Container, *, size_px: int) -> Looked | Failure:
        """What the video is, with its middle frame at a longer side of `size_px` at most."""
        done = self._ask(data, {"demuxer": container.demuxer, "count": None, "size_px": size_px})
        if isinstance(done, Failure):
            return done
        told, (middle,) = done
        return Looked(**told["about"], middle=middle)

    def frames(self, data: bytes, container: Container, *, count: int, size_px: int) -> list[np.ndarray] | Failure:
        """`count` frames, see `sampling.middles`: (H, W, 3) uint8 RGB, their longer side `size_px` at most."""
        done = self._ask(data, {"demuxer": container.demuxer, "count": count, "size_px": size_px})
        return done if isinstance(done, Failure) else done[1]

    def close(self) -> None:
        """Ends the processes. A later call starts new ones."""
        with suppress(Empty):
            while True:
                _end(self._idle.get_nowait())

    def _a_child(self) -> tuple["subprocess.Popen[bytes]", bool]:
        """An idle process that lives, or a new one; and whether it is new."""
        with suppress(Empty):
            while (child := self._idle.get_nowait()).poll() is not None:
                _end(child)  # killed while it waited: it was no video's fault
            return child, False
        return _started(), True

    def _ask(self, data: bytes, work: Mapping[str, Any]) -> tuple[dict[str, Any], list[np.ndarray]] | Failure:
        try:
            child, is_new = self._a_child()
        except OSError as error:
            return Failure(TRANSIENT, "decoder_not_started", f"no process to decode in: {error}")
        told: dict[str, Any] | None = None
        began = time.monotonic()
        late = Timer(self._wall_seconds, child.kill)
        late.start()
        try:
            if is_new:
                _need_ready(child)
            head = json.dumps({**work, **self._limits, "bytes": len(data)}).encode() + b"\n"
            told, pictures = _answer(child, head, data)
        except (OSError, ValueError):  # its end of the pipes is gone, or it fell silent in mid-sentence
            is_late = time.monotonic() - began >= self._wall_seconds
            _end(child)
            return _death(child.returncode, late_sec=self._wall_seconds if is_late else None)
        finally:
            late.cancel()
        self._idle.put(child)
        if "reason" in told:
            return Failure(BAD_INPUT, told["reason"], told["detail"])
        return told, pictures


def _started() -> "subprocess.Popen[bytes]":
    paths = os.pathsep.join(path for path in sys.path if path)  # a worker's own may hold more than its environment says
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "seewhy.videos.child"],  # no module of the folder where the user stands
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # FFmpeg has much to say of broken files
        env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
    )


def _need_ready(child: "subprocess.Popen[bytes]") -> None:
    """Raises Fatal where it ended of its own accord before it had seen a video, OSError where something ended it."""
    assert child.stdout is not None
    if child.stdout.readline() == READY:
        return
    _end(child)
    if child.returncode >= 0:
        raise Fatal(
            f"the process that decodes videos ends with {child.returncode} before it has seen one: see what "
            f"`{sys.executable} -m seewhy.videos.child` says; most often PyAV (the package av) is not whole"
        )
    raise OSError("ended while it started")


def _answer(child: "subprocess.Popen[bytes]", head: bytes, data: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Raises OSError or ValueError where the process does not answer to the end."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(head)
    child.stdin.write(data)
    child.stdin.flush()
    told = json.loads(child.stdout.readline())
    pictures = []
    for shape in told["shapes"]:
        pixels = np.frombuffer(child.stdout.read(int(np.prod(shape))), np.uint8)
        pictures.append(pixels.reshape(shape))
    return told, pictures


def _end(child: "subprocess.Popen[bytes]") -> None:
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    try:
        child.wait(timeout=1.0)  # it ends with its input
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What people and machines end processes with; none of it is a video's doing."""


def _death(code: int, *, late_sec: float | None) -> Failure:
    """What a process that did not answer died of."""
    if late_sec is not None:
        return Failure(BAD_INPUT, "too_slow", f"not decoded within {late_sec:g} s")
    if code == -signal.SIGXCPU:
        return Failure(BAD_INPUT, "too_slow", "decoding takes more than the seconds of a core that one video gets")
    if -code in _FROM_OUTSIDE:
        return Failure(TRANSIENT, "decoder_killed", "the process that decodes was killed")
    return Failure(BAD_INPUT, "decoder_crashed", f"the process that decodes ended with {code}")
