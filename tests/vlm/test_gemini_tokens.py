"""Tokens that Gemini will read, by the rules that its pages give."""

import io

import pytest
from PIL import Image

from seewhy.vlm.base import Media, Request
from seewhy.vlm.gemini_tokens import tokens_of_image, tokens_read


def blank(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (384, 200, 1120),  # one tile of 258, but Gemini 3 takes 1,120 for any image
        (960, 540, 6 * 258),  # tiles of 540 / 1.5 = 360: 3 x 2, the example of Google's page
        (182, 268, 1120),
        (500, 750, 6 * 258),  # a poster: 500 / 1.5 = 333: 2 x 3
        (2000, 2000, 9 * 258),  # tiles are 768 at most: 3 x 3
        (6000, 6000, 16 * 258),  # reduced to 3,072: 4 x 4
        (3000, 90, 12 * 258),  # tiles are 256 at least: 12 x 1
        (8000, 2, 12 * 258),
    ],
)
def test_an_image_has_the_tokens_of_its_tiles(width: int, height: int, tokens: int) -> None:
    assert tokens_of_image(blank(width, height), None) == tokens
    assert tokens_of_image(blank(width, height), "high") == tokens
    assert tokens_of_image(blank(width, height), "medium") == 560
    assert tokens_of_image(blank(width, height), "low") == 280


def test_what_cannot_be_measured_counts_as_the_most_that_it_can_be() -> None:
    assert tokens_of_image("gs://b/x.jpg", None) == 16 * 258
    assert tokens_of_image(b"no image", None) == 1120


def test_images_prompts_and_the_system_prompt_are_read() -> None:
    request = Request("a", (blank(10, 10), blank(960, 540)), "何?")
    assert tokens_read(request) == 1120 + 1548 + 2  # four bytes
    assert tokens_read(request, system_prompt="x" * 11, resolution="low") == 560 + 5


@pytest.mark.parametrize(
    ("seconds", "tokens"),
    [(10.0, 3630), (9.1, 3630), (0.0, 330), (None, 1_048_576), (7200.0, 1_048_576)],
)
def test_a_video_has_the_tokens_of_its_seconds(seconds: float | None, tokens: int) -> None:
    """Eleven frames of ten seconds, at 330 tokens; a whole context where nobody knows how long it is, or longer."""
    video = Media(b"x", "video/mp4", seconds)
    assert tokens_read(Request("a", (video,), "")) == tokens
    assert tokens_read(Request("a", (video, blank(10, 10)), "12345")) == tokens + 1120 + 2
    assert tokens_read(Request("a", (Media("gs://b/x", "image/png"),), "")) == 16 * 258
