"""How many tokens Gemini will read for a request, rather too many than too few: a budget sets them aside.

An image of the models before Gemini 3 is 258 tokens where no side is longer than 384 pixels. Any other is reduced to
3,072 pixels a side and cut into tiles of 258 tokens, whose side is the image's shorter one divided by 1.5, but at least
256 and at most 768 pixels (https://ai.google.dev/gemini-api/docs/image-understanding and Vertex AI's page of the same
name). From Gemini 3 on an image has as many as its media resolution says, whatever its size
(https://ai.google.dev/gemini-api/docs/media-resolution). The larger of both is taken.

A video is one frame a second and its sound (https://ai.google.dev/gemini-api/docs/video-understanding).
"""

import math

from seewhy.images import BadImage, size_of
from seewhy.vlm.base import Media, Request

BY_RESOLUTION = {"low": 280, "medium": 560, "high": 1120}
"""Of an image, from Gemini 3 on, which takes ``high`` where it is told nothing; before that fewer at low and medium."""
A_TILE = 258
_WHOLE_SIDE, _LONGEST_SIDE = 384, 3072
_TILE_SIDES = (256, 768)
A_SECOND = 330
"""Of a video at most: one frame (258; 280 for a Gemini 3 at high resolution), sound (32), and a time stamp. The pages
speak, as of November 2026, of about 300 in all, of 100 at low resolution, and of 70 a frame where a model's default is
lower."""
MOST_A_VIDEO = 1_048_576
"""Of a video whose length nobody knows: the longest context there is, which is about an hour."""
_BYTES_A_TOKEN = 3
"""Of UTF-8: some four letters of English and one character of Japanese are a token."""


def tokens_read(request: Request, *, system_prompt: str | None = None, resolution: str | None = None) -> int:
    """Of images, videos, prompt and system prompt. `resolution` is one of BY_RESOLUTION or None."""
    text = len(f"{system_prompt or ''}{request.prompt}".encode("utf-8", "replace"))
    return sum(_tokens_of(shown, resolution) for shown in request.images) + math.ceil(text / _BYTES_A_TOKEN)


def _tokens_of(shown: bytes | Media, resolution: str | None) -> int:
    if not isinstance(shown, Media):
        return tokens_of_image(shown, resolution)
    if not shown.is_video:
        return tokens_of_image(shown.content, resolution)
    return MOST_A_VIDEO if shown.seconds is None else tokens_of_video(shown.seconds)


def tokens_of_video(seconds: float) -> int:
    """Both ends of a second are frames."""
    return min(MOST_A_VIDEO, A_SECOND * (math.ceil(seconds) + 1))


def tokens_of_image(image: bytes | str, resolution: str | None) -> int:
    """Of a gs:// URI the most that an image can have, since nobody here sees how large it is."""
    fixed = BY_RESOLUTION[resolution or "high"]
    if resolution in ("low", "medium"):
        return fixed
    if isinstance(image, str):
        return max(fixed, A_TILE * _tiles(_LONGEST_SIDE, _LONGEST_SIDE))
    try:
        return max(fixed, A_TILE * _tiles(*size_of(image)))
    except BadImage:  # the service will not read it
        return fixed


def _tiles(width: int, height: int) -> int:
    if max(width, height) <= _WHOLE_SIDE:
        return 1
    scale = min(1.0, _LONGEST_SIDE / max(width, height))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    side = min(max(min(width, height) / 1.5, _TILE_SIDES[0]), _TILE_SIDES[1])
    return math.ceil(width / side) * math.ceil(height / side)
