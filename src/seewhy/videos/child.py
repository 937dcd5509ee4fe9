"""The process that decodes: ``python -m seewhy.videos.child``. It answers on its standard output until its input ends.

A message is a line of JSON and then as many bytes as it says. In: what to do, with the video's bytes. Out: what it
came to, with the pixels of its pictures. Each piece of work may take so much memory and so many seconds of a core; a
process that takes more dies of it, and who asked sees that.
"""

import json
import resource
import sys
from typing import IO, Any

import numpy as np

from seewhy.videos import READY, decode


def serve(given: IO[bytes], answers: IO[bytes]) -> None:
    """Until `given` ends. Begins with READY, so that who asks can tell a process that cannot start from a video that
    ends it."""
    answers.write(READY)
    answers.flush()
    while line := given.readline():
        asked = json.loads(line)
        _unlimit_memory()  # what the last video was given may be less than this one's own bytes
        data = given.read(asked["bytes"])
        if len(data) < asked["bytes"]:
            return  # who asked is gone
        _limit(asked["memory_bytes"], asked["cpu_seconds"])
        told, pictures = _done(asked, data)
        told["shapes"] = [picture.shape for picture in pictures]
        answers.write(json.dumps(told).encode() + b"\n")
        for picture in pictures:
            answers.write(picture.tobytes())
        answers.flush()
        del data, pictures  # before the next one comes


def _done(asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    limits = decode.Limits(asked["max_pixels"], asked["max_seconds"], asked["max_frames"])
    try:
        if asked["count"] is None:
            about, pictures = decode.look(data, asked["demuxer"], limits, asked["size_px"])
            return {"about": about}, pictures
        return {}, decode.frames(data, asked["demuxer"], limits, asked["size_px"], asked["count"])
    except decode.BadVideo as error:
        return {"reason": error.reason, "detail": error.detail}, []
    except MemoryError:
        most = f"decoding takes more than {asked['memory_bytes']} bytes, or there are over {decode.MAX_STREAMS} streams"
        return {"reason": "too_much_memory", "detail": most}, []
    except Exception as error:  # PyAV's own faults: nobody could name them all
        return {"reason": "decoder_crashed", "detail": f"{type(error).__name__}: {error}"[:200]}, []


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    """From now on so many bytes more than there are, and so many seconds more than were spent."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    _soft(resource.RLIMIT_CPU, int(spent.ru_utime + spent.ru_stime) + cpu_seconds)
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
    except OSError:  # no Linux: there is no telling what is there already
        return
    _soft(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes)


def _unlimit_memory() -> None:
    _soft(resource.RLIMIT_AS, resource.RLIM_INFINITY)


def _soft(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        limit = hard if limit == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, hard))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
