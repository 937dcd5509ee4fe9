"""Encoded bytes <-> RGB. Decoding decides what an image is: no file name, no content type and no header does.

What comes out is always 8-bit RGB, upright. Colours are converted without their ICC profile. What is transparent is
laid on white. Of an animation or a file of several pages, the first counts. Sixteen bits become eight by their high
byte, so that 65535 is 255 and nothing is clipped.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import xxhash
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from seewhy.failure import BAD_INPUT, TRANSIENT, Failure
from seewhy.near_duplicates import fingerprint

# What is not here is never opened: SVG, PDF, EPS (which would run Ghostscript) and forty more that Pillow knows.
OPENERS: dict[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    b"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"GIF87a": GifImagePlugin.GifImageFile,
    b"GIF89a": GifImagePlugin.GifImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
}
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MIMES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Format -> the type by which services want to be told of it; of those that all of them read."""
WEB_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body")

MAX_PIXELS = 100_000_000
"""What `check_image` lets pass unless told otherwise. What it passed is decoded later without a limit of its own."""
MAX_BYTES = 30_000_000
_LOOKED_AT = 64  # pixels of either side: with fewer the fingerprint is another one than that of the whole picture
MAX_SCANS = 200
"""Of a progressive JPEG: each costs a pass over the whole picture and may be a few bytes long. Real files have 10."""
MAX_SEGMENTS = 1000
"""Of a JPEG, before its first scan. Pillow joins those of EXIF one by one, in time that grows by their square."""
MAX_PAGES = 1000
"""Of a TIFF are counted: Pillow's own count takes time that grows by the square of their number."""

# EXIF 2.32, tag 0x0112: how a stored picture must be turned to stand upright. 1 is upright.
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)  # of a JPEG; before it may stand any number of 0xFF
_SCAN = 0xFFDA

# Pillow warns of odd metadata, once a file: noise in the log of a million images, and an exception where a caller
# turns warnings into errors.
warnings.filterwarnings("ignore", module=r"PIL\.")


T = TypeVar("T")


@dataclass(frozen=True)
class Checked:
    """An image that was decoded to its last pixel.

    Attributes:
        format: what the decoder found, one of FORMATS or "MPO" (a JPEG that holds several).
        width: pixels, upright.
        height: pixels, upright.
        frames: 1 unless the file is an animation or has several pages. A TIFF's are counted to MAX_PAGES.
        fingerprint: of near_duplicates, of the picture upright.
    """

    format: str
    width: int
    height: int
    frames: int
    fingerprint: bytes = field(default=b"", compare=False)


class BadImage(ValueError):
    """Bytes that are no image we can use; `failure` says why."""

    def __init__(self, reason: str, detail: str, kind: str = BAD_INPUT) -> None:
        super().__init__(f"{reason}: {detail}")
        self.failure = Failure(kind, reason, detail)


def image_id(data: bytes) -> str:
    """XXH128 of the encoded bytes, 32 hexadecimal digits."""
    return xxhash.xxh128_hexdigest(data)


def check_image(data: bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Checked | Failure:
    """Decode all of `data`, and say what it is or why it cannot be used. Never raises; safe in threads.

    Reasons: empty, too_large (bytes), html, not_an_image, bad_header (metadata that is broken or unpacks to too
    much), too_many_pixels (read from the header, before anything is decoded), too_many_scans,
    too_many_segments, truncated, corrupt, unsupported_colours; and out_of_memory, which alone is transient.
    """
    if len(data) > max_bytes:
        return Failure(BAD_INPUT, "too_large", f"{len(data)} bytes, allowed are {max_bytes}")
    try:
        image = _open(data, max_pixels)
        width, height = image.size
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            # Reduced and in grey: the whole entropy-coded stream is still read, which is what can be broken.
            image.draft("L", (_LOOKED_AT, _LOOKED_AT))
            _guarded(image.load, data, image)
            seen: Image.Image = image
        else:
            seen = _guarded(lambda: _rgb(image), data, image)
            width, height = image.size  # a TIFF, which Pillow itself turns upright, may have changed it
    except BadImage as error:
        return error.failure
    orientation = _orientation(image)
    if orientation in SIDEWAYS:
        width, height = height, width
    seen = seen.convert("L")
    if turn := UPRIGHT.get(orientation):
        seen = seen.transpose(turn)
    return Checked(str(image.format), width, height, _frames(image, data), fingerprint(np.asarray(seen)))


def decode(data: bytes, *, max_pixels: int | None = None) -> np.ndarray:
    """The picture as (H, W, 3) uint8 RGB, upright. What `check_image` passed, under whatever limit, this decodes.

    Args:
        max_pixels: for bytes that were never checked: a header may promise more pixels than there is memory.

    Raises:
        BadImage: with the reasons of `check_image`.
    """
    return np.asarray(_upright(_open(data, max_pixels), data))


def thumbnail(data: bytes, *, size_px: int, quality: int = 80, max_pixels: int | None = None) -> bytes:
    """A JPEG whose longer side is `size_px` pixels at most (never enlarged). `max_pixels` as in `decode`.

    Raises:
        BadImage: as `decode`.
    """
    image = _open(data, max_pixels)
    image.draft("RGB", (2 * size_px, 2 * size_px))
    small = _upright(image, data)
    small.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height in pixels as the header tells, before any turning; BadImage as of `decode`."""
    width, height = _open(data, None).size
    return width, height


def format_of(head: bytes) -> str | None:
    """The format that first bytes tell, of those in MIMES; None for all others."""
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    return "WEBP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def _open(data: bytes, max_pixels: int | None) -> ImageFile.ImageFile:
    """Read the header alone. Image.open is not used: its limit on pixels is one for the process, and it warns."""
    if not data:
        raise BadImage("empty", "0 bytes")
    opener = next((opener for magic, opener in OPENERS.items() if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        opener = WebPImagePlugin.WebPImageFile
    if opener is None:
        if data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(WEB_PAGE):
            raise BadImage("html", "a web page, not an image")
        raise BadImage("not_an_image", f"none of {', '.join(FORMATS)}; starts with {data[:16]!r}")
    if opener is JpegImagePlugin.jpeg_factory and _segments(data) > MAX_SEGMENTS:
        raise BadImage("too_many_segments", f"a JPEG of more than {MAX_SEGMENTS} segments before its first scan")
    image = _guarded(lambda: opener(io.BytesIO(data)), data, None)
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        raise BadImage("too_many_pixels", f"{width} x {height} pixels, allowed are {max_pixels} in all")
    if max_pixels is not None and isinstance(image, TiffImagePlugin.TiffImageFile):
        _refuse_tiles(image.tag_v2, max_pixels)
    scans = data.count(b"\xff\xda") if isinstance(image, JpegImagePlugin.JpegImageFile) else 0
    if scans > MAX_SCANS:
        raise BadImage("too_many_scans", f"a JPEG of {scans} scans, allowed are {MAX_SCANS}")
    return image


def _segments(data: bytes) -> int:
    """Of a JPEG, up to its first scan and to MAX_SEGMENTS + 1, told apart just as Pillow does."""
    at, found = 2, 0
    while found <= MAX_SEGMENTS and (marker := _MARKER.search(data, at)):
        code = 0xFF00 + marker[1][0]
        if code not in JpegImagePlugin.MARKER or code == _SCAN:
            break
        has_body = JpegImagePlugin.MARKER[code][2] is not None
        at = marker.end() + (max(2, int.from_bytes(data[marker.end() : marker.end() + 2], "big")) if has_body else 0)
        found += 1
    return found


def _refuse_tiles(tags: TiffImagePlugin.ImageFileDirectory_v2, max_pixels: int) -> None:
    """Raises BadImage for tiles of more than `max_pixels`: each is unpacked whole, however small the picture is."""
    width, height = (tags.get(tag) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
    if isinstance(width, int) and isinstance(height, int) and width * height > max_pixels:
        raise BadImage("too_many_pixels", f"tiles of {width} x {height} pixels, allowed are {max_pixels}")


def _guarded(work: Callable[[], T], data: bytes, image: ImageFile.ImageFile | None) -> T:
    """Do a decoder's work. On broken bytes decoders raise nearly any type of error: each is the image's, not ours."""
    try:
        return work()
    except BadImage:
        raise
    except MemoryError as error:
        raise BadImage("out_of_memory", "decoding needs more memory than there is", TRANSIENT) from error
    except Image.DecompressionBombError as error:
        raise BadImage("too_many_pixels", str(error)) from error
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"[:200]
        whole = "bad_header" if image is None else "corrupt"
        raise BadImage("truncated" if _is_cut(data, image) else whole, detail) from error


def _is_cut(data: bytes, image: ImageFile.ImageFile | None) -> bool:
    """Whether the end is missing, by each format's own mark of an end. Only asked once decoding has failed."""
    if data[:3] == b"\xff\xd8\xff":
        return not data.rstrip(b"\0\r\n").endswith(b"\xff\xd9")
    if data[:4] == b"\x89PNG":
        return b"IEND" not in data[-64:]
    if data[:4] == b"RIFF":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data[:4] == b"GIF8":
        return not data.rstrip(b"\0").endswith(b";")
    if data[:2] == b"BM":
        return len(data) < int.from_bytes(data[2:6], "little")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return any(end > len(data) for end in _strip_ends(image.tag_v2))
    return int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big") + 6 > len(data)  # no directory of tags


def _strip_ends(tags: TiffImagePlugin.ImageFileDirectory_v2) -> list[int]:
    """Where the strips or tiles of a TIFF end, in bytes. Tags of a broken file may hold anything."""
    starts = tags.get(TiffImagePlugin.STRIPOFFSETS) or tags.get(TiffImagePlugin.TILEOFFSETS)
    sizes = tags.get(TiffImagePlugin.STRIPBYTECOUNTS) or tags.get(TiffImagePlugin.TILEBYTECOUNTS)
    if not isinstance(starts, tuple) or not isinstance(sizes, tuple):
        return []
    return [a + b for a, b in zip(starts, sizes, strict=False) if isinstance(a, int) and isinstance(b, int)]


def _upright(image: ImageFile.ImageFile, data: bytes) -> Image.Image:
    rgb = _guarded(lambda: _rgb(image), data, image)
    turn = UPRIGHT.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: ImageFile.ImageFile) -> int:
    """1 to 8. Asked after loading: Pillow turns a TIFF itself then, and drops the tag."""
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # metadata that cannot be read does not spoil a picture that can
        return 1


def _frames(image: ImageFile.ImageFile, data: bytes) -> int:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _pages(data)
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # only the first frame is used, and that one is whole
        return 1


def _pages(data: bytes) -> int:
    """Directories of a TIFF (TIFF 6.0, section 2): each says how many tags of 12 bytes it has, then where the next is.

    What leads out of the file, or back, ends them.
    """
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    at, seen = int.from_bytes(data[4:8], order), set[int]()
    while 0 < at <= len(data) - 2 and at not in seen and len(seen) < MAX_PAGES:
        seen.add(at)
        end = at + 2 + 12 * int.from_bytes(data[at : at + 2], order)
        at = int.from_bytes(data[end : end + 4], order) if end <= len(data) - 4 else 0
    return max(1, len(seen))


def _rgb(image: ImageFile.ImageFile) -> Image.Image:
    image.load()
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_eight_bits(np.asarray(image, dtype=np.float32))).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    if image.mode == "LAB":
        raise BadImage("unsupported_colours", "CIE L*a*b*")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """32-bit samples name no range: 0 to 1 and 0 to 65535 are taken for what they look like, all else is stretched."""
    values = np.nan_to_num(values, posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        values, scale = values - low, 255 / max(high - low, 1e-30)
    else:
        scale = 255 if high <= 1 else 255 / 65535
    return np.rint(values * scale).astype(np.uint8)
