"""The caption stage for videos: one text a video out, by a model that sees it whole or frames of it.

A service that takes videos is sent the whole one: inline, or, where it is too large for a request or was left where it
lies, by its gs:// URI. Every other model is shown frames from the middles of equal parts of the video's time, in their
order, as so many images; a model that sees only one is shown them in one picture, row by row.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from seewhy import schema, vlm
from seewhy.caption import answered_rows
from seewhy.failure import BAD_INPUT, Failure
from seewhy.overlay import encode_jpeg, reduced
from seewhy.videos.container import CONTAINERS
from seewhy.videos.decoder import MAX_PIXELS, MAX_SECONDS, Decoder
from seewhy.videos.grid import grid
from seewhy.vlm.base import MOST_INLINE_BYTES, Media, Request

VERSION = 1
"""Goes up with every change of what a backend is shown and asked."""

FRAMES = 8
"""What a model that takes no videos is shown, where the study does not say."""
FRAME_PX = 768
"""Longer side of a frame that is shown alone, at most."""
GRID_PX = 1536
"""Longer side of a picture of several, at most."""

_ASKED = (
    "in a few plain sentences. Say what happens in it, what mood it sets, what would draw a viewer to it, and what "
    "makes it stand out from other videos. Leave out names of people, places, brands and titles, and use no figures or "
    "dates."
)
WHOLE_PROMPT = f"Describe this video {_ASKED}"
FRAMES_PROMPT = f"These pictures are frames of one video, in their order. Describe the video {_ASKED}"
GRID_PROMPT = (
    f"This picture shows frames of one video, in their order row by row, from the top left. Describe the video {_ASKED}"
)


class CaptionVideos:
    """Captions videos: ``__call__(batch)`` with columns ``id``, ``video``, ``source``, ``format`` and ``seconds`` ->
    ``schema.CAPTIONS``.

    The same ids come out, in the same order. A row is bad input that holds no bytes and no gs:// URI (``no_video``), or
    bytes whose frames cannot be decoded (see ``videos.decoder``), or that is too large for a request and has no gs://
    URI (``too_large_inline``).

    Args:
        backend: a name in ``seewhy.vlm.LOADERS``.
        prompt: the instruction; None for WHOLE_PROMPT, FRAMES_PROMPT or GRID_PROMPT, but for a model that captions
            without one; empty to caption without one, where the model can.
        frames: shown in place of the video. None: the whole video, where the backend takes one, else FRAMES.
        max_pixels, max_seconds: see ``videos.decode.Limits``; what fetch let pass, under the same limits, is decoded.
        decode_threads: videos whose frames are decoded at once.
        options: flat keyword arguments of that backend (model, revision, temperature, batch_size, ...).

    Raises:
        Fatal: the backend cannot be had, or PyAV where frames are needed; the message says what to do.
    """

    def __init__(
        self,
        *,
        backend: str,
        prompt: str | None = None,
        frames: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_seconds: float = MAX_SECONDS,
        decode_threads: int = 2,
        **options: Any,
    ) -> None:
        self._backend = vlm.load(backend, **options)
        count = frames_shown(backend, frames)
        one_picture = count is not None and self._backend.max_images < count
        if prompt is None:
            prompt = default_prompt(count, one_picture=one_picture) if self._backend.default_prompt else ""
        self._requests = VideoRequests(
            prompt=prompt,
            frames=count,
            one_picture=one_picture,
            max_pixels=max_pixels,
            max_seconds=max_seconds,
            decode_threads=decode_threads,
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        return answered_rows(batch.column(schema.ID).to_pylist(), self._requests(batch), self._backend.generate)


SHOWN = ("prompt", "frames", "max_pixels", "max_seconds", "decode_threads")
"""Arguments of ``CaptionVideos`` that are not the backend's."""


class VideoRequests:
    """What is asked about a block of rows: ``__call__(batch)`` -> a Request a row, or why there is none, in order.

    Args:
        frames: shown in place of the video; None: the whole video.
        one_picture: they come as one.
        prompt: None for the default of what is shown.
        The others are those of ``CaptionVideos``.
    """

    def __init__(
        self,
        *,
        prompt: str | None = None,
        frames: int | None = None,
        one_picture: bool = False,
        max_pixels: int = MAX_PIXELS,
        max_seconds: float = MAX_SECONDS,
        decode_threads: int = 2,
    ) -> None:
        self._prompt = default_prompt(frames, one_picture=one_picture) if prompt is None else prompt
        self._frames, self._one_picture = frames, one_picture
        self._decoder = None if frames is None else Decoder(max_pixels=max_pixels, max_seconds=max_seconds)
        self._pool = ThreadPoolExecutor(decode_threads)

    def __call__(self, batch: pa.Table) -> list[Request | Failure]:
        names = [schema.ID, "source", "format", "seconds"]
        columns = [batch.column(name).to_pylist() for name in names]
        rows = [(*row, video) for *row, video in zip(*columns, batch.column("video"), strict=True)]
        return list(self._pool.map(lambda row: self._request(*row), rows))

    def _request(
        self, key: str, source: str | None, format_: str | None, seconds: float | None, video: pa.Scalar
    ) -> Request | Failure:
        by_uri = source is not None and source.startswith("gs://")
        if format_ is None or not (video.is_valid or by_uri):
            return Failure(BAD_INPUT, "no_video", "the row holds no video bytes and no gs:// URI")
        if self._decoder is None:
            mime = CONTAINERS[format_].mime
            fits = video.is_valid and (not by_uri or len(video.as_buffer()) <= MOST_INLINE_BYTES)
            shown = Media(video.as_py() if fits else str(source), mime, seconds)
            return Request(key, (shown,), self._prompt)
        if not video.is_valid:
            return Failure(BAD_INPUT, "no_video", "frames cannot be taken from an object that was not fetched")
        return self._of_frames(key, self._decoder, format_, video.as_py())

    def _of_frames(self, key: str, decoder: Decoder, format_: str, video: bytes) -> Request | Failure:
        assert self._frames is not None
        shown = decoder.frames(video, CONTAINERS[format_], count=self._frames, size_px=FRAME_PX)
        if isinstance(shown, Failure):
            return shown
        if self._one_picture:
            shown = [reduced(grid(shown), GRID_PX)]
        return Request(key, tuple(encode_jpeg(frame) for frame in shown), self._prompt)


def frames_shown(backend: str, frames: int | None) -> int | None:
    """None: the whole video."""
    return FRAMES if frames is None and not vlm.takes_videos(backend) else frames


def default_prompt(frames: int | None, *, one_picture: bool = False) -> str:
    """By what is shown: the whole video (None), frames, or frames in one picture."""
    return WHOLE_PROMPT if frames is None else GRID_PROMPT if one_picture else FRAMES_PROMPT


def identity(
    *,
    backend: str,
    prompt: str | None = None,
    frames: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float = MAX_SECONDS,
    decode_threads: int = 2,
    **options: Any,
) -> dict[str, object]:
    """All that changes a caption, for the name of its table; see ``caption.identity``.

    Whether frames come as one picture is settled by the model, whose name is in it. Limits change whether a row is
    there, never what it says.
    """
    count = frames_shown(backend, frames)
    shown: dict[str, object] = {"shown": "the whole video"}
    if count is not None:
        shown = {"shown": "frames", "frames": count, "frame_px": FRAME_PX, "grid_px": GRID_PX}
    named = vlm.identity(backend, prompt, **options)
    if prompt is None and named["prompt"]:  # the backend's own speaks of an image
        named["prompt"] = default_prompt(count)
        shown |= {} if count is None else {"prompt_grid": GRID_PROMPT}
    return {"stage": "caption", "media": "video", "stage_code": VERSION, **named, **shown}
