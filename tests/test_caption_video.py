"""The caption stage for videos: what a model is shown of one, and what names the table."""

import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

from seewhy import caption_video
from seewhy.caption_video import FRAMES_PROMPT, GRID_PROMPT, WHOLE_PROMPT, CaptionVideos, VideoRequests, identity
from seewhy.failure import Failure
from seewhy.images import decode
from seewhy.vlm import base
from seewhy.vlm.base import Media, Request
from tests.videos.made import at, colour, growing, video

CLIP = video(20)


def rows(*given: tuple[bytes | None, str | None, str | None, float | None]) -> pa.Table:
    videos, sources, formats, seconds = zip(*given, strict=True)
    return pa.table(
        {
            "id": [str(place) for place in range(len(given))],
            "video": pa.array(videos, pa.large_binary()),
            "source": pa.array(sources, pa.string()),
            "format": pa.array(formats, pa.string()),
            "seconds": pa.array(seconds, pa.float64()),
        }
    )


def asked(batch: pa.Table, **options: Any) -> Request:
    (request,) = VideoRequests(**options)(batch)
    assert isinstance(request, Request), request
    return request


def test_frames_are_shown_in_their_order() -> None:
    request = asked(rows((CLIP, "x.mp4", "MP4", 2.0)), frames=4)
    assert request.prompt == FRAMES_PROMPT
    assert [colour(decode(image)) for image in request.images if isinstance(image, bytes)] == at([2, 7, 12, 17])


def test_a_model_that_sees_one_picture_is_shown_a_grid() -> None:
    request = asked(rows((CLIP, "x.mp4", "MP4", 2.0)), frames=4, one_picture=True)
    assert request.prompt == GRID_PROMPT
    (picture,) = request.images
    assert isinstance(picture, bytes)
    shown = decode(picture)
    assert shown.shape == (96, 128, 3)
    places = [(0, 0), (0, 64), (48, 0), (48, 64)]
    assert [colour(shown[y + 8 : y + 40, x + 8 : x + 56]) for y, x in places] == at([2, 7, 12, 17])


def test_a_whole_video_goes_inline_or_by_its_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_video, "MOST_INLINE_BYTES", len(CLIP))
    batch = rows(
        (CLIP, "gs://b/x.mp4", "MP4", 2.0),
        (CLIP + b"\0", "gs://b/x.mp4", "MOV", 2.0),
        (CLIP + b"\0", "x.mp4", "MP4", 2.0),
        (None, "gs://b/y", "WEBM", None),
        (None, "y.mp4", "MP4", None),
        (None, None, None, None),
    )
    found = VideoRequests()(batch)
    assert [one.images if isinstance(one, Request) else one.reason for one in found] == [
        (Media(CLIP, "video/mp4", 2.0),),
        (Media("gs://b/x.mp4", "video/quicktime", 2.0),),
        (Media(CLIP + b"\0", "video/mp4", 2.0),),  # the backend says that it is too large
        (Media("gs://b/y", "video/webm", None),),
        "no_video",
        "no_video",
    ]
    assert {one.prompt for one in found if isinstance(one, Request)} == {WHOLE_PROMPT}


def test_frames_need_bytes_that_can_be_decoded() -> None:
    batch = rows((None, "gs://b/y", "MP4", None), (CLIP[:1000], "x.mp4", "MP4", 2.0), (CLIP, "x.mp4", "MP4", 2.0))
    first, second, third = VideoRequests(frames=2, prompt="what?")(batch)
    assert isinstance(first, Failure)
    assert first.reason == "no_video"
    assert isinstance(second, Failure)
    assert (second.kind, second.reason) == ("bad_input", "bad_header")
    assert isinstance(third, Request)
    assert third.prompt == "what?"


def test_a_video_that_grows_on_the_way_makes_a_grid() -> None:
    """Half of the frames are 64 x 48, the others 640 x 480."""
    request = asked(rows((growing(10, 10), "x.avi", "AVI", 2.0)), frames=4, one_picture=True)
    (picture,) = request.images
    assert isinstance(picture, bytes)
    assert decode(picture).shape == (960, 1280, 3)


def test_the_same_ids_come_out_in_order() -> None:
    stage = CaptionVideos(backend="fake", frames=2)
    table = stage(rows((CLIP, "x.mp4", "MP4", 2.0), (None, None, None, None), (video(5), "y.mp4", "MP4", 0.5)))
    assert table["id"].to_pylist() == ["0", "1", "2"]
    assert table["reason"].to_pylist() == [None, "no_video", None]
    assert [text is None for text in table["text"].to_pylist()] == [False, True, False]


def test_who_works_with_images_alone_loads_no_decoder_of_videos() -> None:
    code = "import sys, seewhy.fetch, seewhy.caption, seewhy.steps.fetch; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_image_s_backend_is_shown_no_video() -> None:
    found = base.only_images(Request("a", (b"x", Media(CLIP, "video/mp4", 2.0)), ""))
    assert isinstance(found, Failure)
    assert found.reason == "not_an_image"


def test_what_changes_an_answer_names_the_table() -> None:
    gemini: dict[str, Any] = {"backend": "gemini", "model": "m"}
    names = [
        identity(**gemini),
        identity(**gemini, frames=8),
        identity(**gemini, frames=4),
        identity(**gemini, prompt="what?"),
        identity(backend="fake"),
        identity(backend="fake", frames=4),
    ]
    assert len({str(sorted(one.items(), key=str)) for one in names}) == len(names)
    assert identity(backend="fake") == identity(backend="fake", frames=8, max_pixels=1, decode_threads=9)
    assert (names[0]["shown"], names[0]["prompt"]) == ("the whole video", WHOLE_PROMPT)
    assert (names[1]["frames"], names[1]["prompt"], names[1]["prompt_grid"]) == (8, FRAMES_PROMPT, GRID_PROMPT)
    assert identity(backend="tiny")["prompt"] == ""  # a BLIP-2 captions without one
