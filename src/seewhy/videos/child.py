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

from seewhy.videos import decode


def serve(given: IO[bytes], answers: IO[bytes]) -> None:
    """Until `given` ends."""
    while line := given.readline():
        asked = json.loads(line)
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
        return {"reason": "too_much_memory", "detail": f"decoding takes more than {asked['memory_bytes']} bytes"}, []


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


def _soft(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
