"""Real encoded files in, RGB or a reason out: made here, cut, flipped and blown up."""

import io
import random
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFile, PngImagePlugin

from seewhy.failure import BAD_INPUT, KINDS, Failure
from seewhy.images import MAX_PIXELS, BadImage, Checked, check_image, decode, image_id, thumbnail
from seewhy.sections import TrainImage

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL")  # as images.py sets it, which pytest resets


def encoded(picture: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def quarters(width: int = 32, height: int = 16, mode: str = "RGB") -> Image.Image:
    """Red and green above, blue and white below: a turn or a flip is seen at once."""
    picture = Image.new("RGB", (width, height), "red")
    picture.paste("lime", (width // 2, 0, width, height))
    picture.paste("blue", (0, height // 2, width // 2, height))
    picture.paste("white", (width // 2, height // 2, width, height))
    return picture.convert(mode)


def noise(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def corners(pixels: np.ndarray) -> list[str]:
    """The colour of each quarter's middle, in reading order."""
    height, width = pixels.shape[:2]
    names = {(1, 0, 0): "red", (0, 1, 0): "lime", (0, 0, 1): "blue", (1, 1, 1): "white"}
    points = [(height * y // 4, width * x // 4) for y in (1, 3) for x in (1, 3)]
    return [names[tuple(int(v > 127) for v in pixels[point])] for point in points]  # type: ignore[index]


def reason(data: bytes, **limits: int) -> str:
    found = check_image(data, **limits)
    assert isinstance(found, Failure), f"{found} is no failure"
    assert found.kind == BAD_INPUT
    with pytest.raises(BadImage):
        decode(data, max_pixels=limits.get("max_pixels", MAX_PIXELS)) if "max_bytes" not in limits else decode(b"")
    return found.reason


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
    ],
)
def test_every_format_comes_out_as_the_same_rgb(format, options):
    data = encoded(quarters(), format, **options)
    assert check_image(data) == Checked(format, 32, 16, 1)
    pixels = decode(data)
    assert (pixels.shape, pixels.dtype) == ((16, 32, 3), np.uint8)
    assert corners(pixels) == ["red", "lime", "blue", "white"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_every_colour_mode_becomes_rgb(mode):
    format = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    data = encoded(quarters(mode=mode), format)
    assert check_image(data) == Checked(format, 32, 16, 1)
    pixels = decode(data)
    expected = [255, 255, 255] if mode == "1" else [74, 74, 74] if mode == "L" else [255, 0, 0]
    if mode == "1":
        assert pixels[12, 24].tolist() == expected
    else:
        assert np.abs(pixels[4, 8].astype(int) - (76 if mode == "L" else expected)).max() <= 6


def test_sixteen_bits_are_scaled_not_clipped():
    grey = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for format in ("PNG", "TIFF"):
        assert decode(encoded(Image.fromarray(grey), format))[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)  # 2 x 1 pixels, 16 bits, RGB
    row = b"\0" + struct.pack(">6H", 65535, 32768, 256, 0, 255, 4660)
    assert decode(png(header, zlib.compress(row))).tolist() == [[[255, 128, 1], [0, 0, 18]]]


def test_floats_and_wide_integers_keep_their_order():
    unit = encoded(Image.fromarray(np.array([[0.0, 0.2, 1.0]], np.float32)), "TIFF")
    assert decode(unit)[0, :, 0].tolist() == [0, 51, 255]
    sixteen = encoded(Image.fromarray(np.array([[0, 25700, 65535]], np.int32)), "TIFF")
    assert decode(sixteen)[0, :, 0].tolist() == [0, 100, 255]
    wide = encoded(Image.fromarray(np.array([[-100, 100, 0, 155]], np.int32)), "TIFF")
    assert decode(wide)[0, :, 0].tolist() == [0, 200, 100, 255]
    unknown = encoded(Image.fromarray(np.array([[np.nan, 1.0, 0.0]], np.float32)), "TIFF")
    assert decode(unknown)[0, :, 0].tolist() == [0, 255, 0]


def test_what_is_transparent_is_laid_on_white():
    half = encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 51)), "PNG")  # a fifth of red, four fifths of white
    assert decode(half)[0, 0].tolist() == [255, 204, 204]
    grey = encoded(Image.new("LA", (4, 4), (0, 0)), "PNG")
    assert decode(grey)[0, 0].tolist() == [255, 255, 255]
    webp = encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "WEBP", lossless=True)
    assert decode(webp)[0, 0].tolist() == [255, 255, 255]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 0, 0, 255])
    for format in ("PNG", "GIF"):
        assert decode(encoded(palette, format, transparency=1))[0, 0].tolist() == [255, 255, 255]
        assert decode(encoded(palette, format, transparency=0))[0, 0].tolist() == [0, 0, 255]


# Each stands upright as quarters() does, once turned as EXIF 2.32 says.
TURNED = {
    1: ["red", "lime", "blue", "white"],
    2: ["lime", "red", "white", "blue"],
    3: ["white", "blue", "lime", "red"],
    4: ["blue", "white", "red", "lime"],
    5: ["red", "blue", "lime", "white"],
    6: ["blue", "red", "white", "lime"],
    7: ["white", "lime", "blue", "red"],
    8: ["lime", "white", "red", "blue"],
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(quarters(), format, exif=exif)
    width, height = (16, 32) if orientation > 4 else (32, 16)
    assert check_image(data) == Checked(format, width, height, 1)
    assert decode(data).shape == (height, width, 3)
    assert corners(decode(data)) == TURNED[orientation]
    assert corners(np.asarray(Image.open(io.BytesIO(thumbnail(data, size_px=32))))) == TURNED[orientation]


def test_broken_metadata_does_not_spoil_a_picture():
    whole = encoded(quarters(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff")
    assert check_image(whole) == Checked("JPEG", 32, 16, 1)
    assert corners(decode(whole)) == TURNED[1]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(format):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert check_image(data) == Checked(format, 8, 6, 3)
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_a_file_cut_anywhere_is_truncated(format, options):
    data = encoded(noise(), format, **options)
    for kept in (0.3, 0.5, 0.75, 0.95):
        assert reason(data[: int(len(data) * kept)]) == "truncated", kept


def test_things_that_are_no_image():
    assert reason(b"") == "empty"
    assert reason(b"<!DOCTYPE html><html><body>403</body></html>") == "html"
    assert reason(b"\xef\xbb\xbf\n  <html lang=ja>") == "html"
    for data in (
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b'<svg xmlns="x"/>',
        b"{}",
        b"\0" * 99,
    ):
        assert reason(data) == "not_an_image"
    assert reason(b"RIFF\x24\0\0\0WAVEfmt ") == "not_an_image"
    assert reason(encoded(quarters(), "ICO")) == "not_an_image"  # Pillow knows it; it is not among FORMATS
    assert reason(encoded(quarters(), "TGA")) == "not_an_image"
    assert reason(encoded(quarters(), "EPS")) == "not_an_image"


def test_bytes_are_capped_to_the_byte():
    data = encoded(quarters(), "PNG")
    assert isinstance(check_image(data, max_bytes=len(data)), Checked)
    assert reason(data, max_bytes=len(data) - 1) == "too_large"


def test_pixels_are_capped_to_the_pixel():
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        data = encoded(quarters(), format)
        assert isinstance(check_image(data, max_pixels=512), Checked)
        assert reason(data, max_pixels=511) == "too_many_pixels"


def test_what_a_higher_limit_let_pass_is_not_refused_later():
    data = encoded(Image.new("L", (MAX_PIXELS // 10_000 + 1, 10_000), 90), "JPEG")
    assert reason(data) == "too_many_pixels"
    assert isinstance(check_image(data, max_pixels=2 * MAX_PIXELS), Checked)
    assert Image.open(io.BytesIO(thumbnail(data, size_px=50))).size == (50, 50)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(header: bytes, pixels: bytes, *others: bytes) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(others) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def test_bombs_are_refused_before_they_go_off():
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)  # 7 GB of pixels
    bomb_png = png(header, zlib.compress(b"\0" * 1_000_000))
    dot = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0;"
    bomb_gif = b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0x80, 0, 0) + b"\0" * 6 + dot
    wide = struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0)  # a frame far wider than the screen of the file
    bomb_frame = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0" * 6 + b"," + wide + b"\x02\x02\x44\x01\0;"
    canvas = (16_000 - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas + encoded(quarters(), "WEBP")[12:]
    bomb_webp = b"RIFF" + struct.pack("<I", len(body)) + body
    small = encoded(quarters(), "JPEG")
    at = small.index(b"\xff\xc0") + 5
    bomb_jpeg = small[:at] + struct.pack(">HH", 65_000, 65_000) + small[at + 4 :]
    before = resident_mib()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in (bomb_png, bomb_gif, bomb_frame, bomb_webp, bomb_jpeg):
            assert reason(data) == "too_many_pixels", data[:4]
    assert resident_mib() - before < 200


def tiled_tiff(size: int, tile: int) -> bytes:
    """A grey picture of `size` x `size` pixels, all 0, in one tile."""
    pixels = zlib.compress(bytes(tile * tile))
    values = {256: size, 257: size, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 0, 325: len(pixels)}
    values[324] = 8 + 2 + 12 * len(values) + 4  # where the tile begins: after the header and the directory
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + tags + bytes(4) + pixels


def test_a_tile_counts_by_its_own_size_however_small_the_picture():
    data = tiled_tiff(16, 1024)
    assert check_image(data, max_pixels=1024**2) == Checked("TIFF", 16, 16, 1)
    assert reason(data, max_pixels=1024**2 - 1) == "too_many_pixels"
    assert reason(tiled_tiff(16, 10_016)) == "too_many_pixels"


def test_bombs_in_metadata_are_refused():
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    flood = zlib.compress(b"\0" * 100_000_000, 9)  # 100 MB in 97 KB
    before = resident_mib()
    for other in (chunk(b"iCCP", b"icc\0\0" + flood), chunk(b"zTXt", b"Comment\0\0" + flood)):
        assert reason(png(header, zlib.compress(b"\0\0"), other)) == "bad_header"
    assert resident_mib() - before < 60


def test_a_jpeg_of_endless_scans_is_refused():
    data = encoded(noise(), "JPEG", progressive=True)
    scan = data.index(b"\xff\xda")
    assert isinstance(check_image(data), Checked)
    assert reason(data[:scan] + data[scan:-2] * 60 + data[-2:]) == "too_many_scans"


EXIF = b"\xff\xe1\0\x12Exif\0\0" + bytes(10)
COMMENT = b"\xff\xfe\0\2"


def with_segments(segment: bytes, count: int) -> bytes:
    whole = encoded(quarters(), "JPEG")
    return whole[:2] + segment * count + whole[2:]


def test_a_jpeg_of_endless_segments_is_refused():
    began = time.perf_counter()
    for segment in (EXIF, COMMENT, b"\xff" + EXIF, COMMENT + b"x", b"\xff\0" + EXIF, b"\xff\xd0\xff\xfe\0\0"):
        assert reason(with_segments(segment, 200_000)) == "too_many_segments", segment
    assert time.perf_counter() - began < 2
    for few in (EXIF, COMMENT + b"x\xff", b"\xff\xfe\x10\0" + COMMENT * 1024):  # the last: one that holds others
        assert check_image(with_segments(few, 900)) == Checked("JPEG", 32, 16, 1)


def tiff_of_pages(count: int, order: str = "<") -> bytes:
    """Pages of three tags each: width, height and where the one strip lies, which the first 8 bytes are followed by."""
    pages = [
        struct.pack(
            f"{order}H" + "HHII" * 3 + "I",
            *(3, 256, 4, 1, 8, 257, 4, 1, 8, 273, 4, 1, 8),
            16 + 42 * (i + 1) if i < count - 1 else 0,
        )
        for i in range(count)
    ]
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 16) + bytes(8) + b"".join(pages)


def test_endless_pages_of_a_tiff_are_counted_to_a_limit():
    for order in "<>":
        assert check_image(tiff_of_pages(3, order)) == Checked("TIFF", 8, 8, 3)
    began = time.perf_counter()
    assert check_image(tiff_of_pages(100_000)) == Checked("TIFF", 8, 8, 1000)
    assert time.perf_counter() - began < 2
    circle = tiff_of_pages(3)
    assert check_image(circle[:-4] + struct.pack("<I", 16)) == Checked("TIFF", 8, 8, 3)


def test_broken_middles_are_corrupt():
    data = encoded(noise(), "PNG")
    middle = len(data) // 2
    assert reason(data[:middle] + bytes(64) + data[middle + 64 :]) == "corrupt"
    jpeg = encoded(noise(), "JPEG")
    tables = jpeg.index(b"\xff\xdb")  # of quantisation: made a comment, they are missing
    assert reason(jpeg[:tables] + b"\xff\xfe" + jpeg[tables + 2 :].replace(b"\xff\xdb", b"\xff\xfe")) == "corrupt"
    assert reason(encoded(Image.new("LAB", (4, 4)), "TIFF")) == "unsupported_colours"


@pytest.mark.parametrize(
    "error",
    [struct.error("x"), SyntaxError("x"), OverflowError("x"), ValueError("x"), KeyError("x"), RecursionError("x")],
)
def test_whatever_a_decoder_raises_is_a_failure(monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert reason(encoded(quarters(), "PNG")) == "corrupt"


def test_lack_of_memory_is_not_held_against_the_image(monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "_open", fail)
    found = check_image(encoded(quarters(), "PNG"))
    assert isinstance(found, Failure)
    assert (found.kind, found.reason) == ("transient", "out_of_memory")


FUZZED = [
    encoded(noise(16, 12), format, **options)
    for format, options in [
        ("JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {"save_all": True, "append_images": [noise(16, 12, 1)]}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"save_all": True, "append_images": [noise(16, 12, 1)] * 20}),
    ]
]
FUZZED += [with_segments(EXIF, 500), tiff_of_pages(500)]


def checks_and_decoding_agree(data: bytes) -> bool:
    found = check_image(data, max_pixels=1_000_000)
    if isinstance(found, Failure):
        assert found.kind in KINDS
        return False
    assert decode(data, max_pixels=1_000_000).shape == (found.height, found.width, 3)
    return True


@pytest.mark.parametrize("index", range(len(FUZZED)))
def test_flipped_bytes_never_escape_as_an_exception(index):
    rng = random.Random(index)
    passed = 0
    for _ in range(300):
        data = bytearray(FUZZED[index])
        for _ in range(rng.choice((1, 2, 8, 32))):
            data[int(len(data) * rng.random() ** 2)] = rng.randrange(256)  # headers more often than pixels
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        passed += checks_and_decoding_agree(bytes(data))
    assert passed < 300
    assert passed or FUZZED[index].startswith(b"\x89PNG")  # whose checksums find nearly every flip


def test_flipped_bytes_behind_right_checksums():
    rng = random.Random(0)
    header = struct.pack(">IIBBBBB", 12, 9, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\4" + rng.randbytes(36) for _ in range(9)), 0)
    passed = 0
    for _ in range(300):
        flipped = [bytearray(header), bytearray(rows), bytearray(b"icc\0\0" + rows)]
        chosen = rng.choice(flipped)
        chosen[rng.randrange(len(chosen))] = rng.randrange(256)
        passed += checks_and_decoding_agree(
            png(bytes(flipped[0]), bytes(flipped[1]), chunk(b"iCCP", bytes(flipped[2])))
        )
    assert 0 < passed < 300


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from([data[:12] for data in FUZZED] + [b""]), st.binary(max_size=300))
def test_any_bytes_behind_any_magic_number(magic, rest):
    assert not checks_and_decoding_agree(magic + rest), "so few bytes are no image"


def scene(seed: int, width: int = 182, height: int = 268) -> Image.Image:
    """Smooth noise at six scales, the coarse ones stronger, as in a photo."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells in (2, 4, 8, 16, 32, 64):
        for colour in range(3):
            layer = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
            total[..., colour] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC)) / cells**0.7
    total = (total - total.min()) / (total.max() - total.min())
    return Image.fromarray((255 * total).astype(np.uint8))


def thing_on_white(seed: int, width: int = 360, height: int = 300) -> Image.Image:
    """Most of its steps are none, and must stay none in a file that rounds them."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (width, height), "white")
    for _ in range(3):
        x, y = int(rng.integers(140, 200)), int(rng.integers(120, 170))
        across, down = (int(one) for one in rng.integers(30, 90, 2))
        colour = tuple(int(one) for one in rng.integers(0, 200, 3))
        ImageDraw.Draw(picture).ellipse((x - across, y - down, x + across, y + down), fill=colour)
    return picture


def unlike_bits(one: bytes, other: bytes) -> int:
    found = [check_image(data) for data in (one, other)]
    prints = [int.from_bytes(each.fingerprint, "big") for each in found if isinstance(each, Checked)]
    return (prints[0] ^ prints[1]).bit_count()


@pytest.mark.parametrize("draw", [scene, thing_on_white])
def test_fingerprints_outlive_a_change_of_format_or_size(draw):
    """A JPEG is looked at through a reduced picture, a PNG pixel by pixel: both must come to the same."""
    allowed = TrainImage().near_duplicates
    assert allowed is not None
    for seed in range(40):
        jpeg = encoded(draw(seed), "JPEG", quality=85)
        pixels = Image.fromarray(decode(jpeg))
        third = pixels.resize((pixels.width // 3, pixels.height // 3), Image.Resampling.LANCZOS)
        for copy in (
            encoded(pixels, "PNG"),
            encoded(pixels, "WEBP", quality=75),
            encoded(third, "JPEG", quality=75),
            encoded(third, "PNG"),
        ):
            assert unlike_bits(jpeg, copy) <= allowed, seed
        assert unlike_bits(jpeg, encoded(draw(seed + 1000), "JPEG")) > 2 * allowed, seed


def test_image_id_is_xxh128_in_hexadecimal():
    assert image_id(b"") == "99aa06d3014798d86001c324468d497f"  # the empty string's, from the XXH3 reference


def test_thumbnail_keeps_the_ratio_and_never_enlarges():
    small = Image.open(io.BytesIO(thumbnail(encoded(noise(640, 320), "JPEG"), size_px=100)))
    assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (100, 50))
    same = Image.open(io.BytesIO(thumbnail(encoded(quarters(), "PNG"), size_px=100)))
    assert same.size == (32, 16)
    pixels = np.asarray(Image.open(io.BytesIO(thumbnail(encoded(quarters(320, 160), "JPEG"), size_px=64))))
    assert corners(pixels) == ["red", "lime", "blue", "white"]
    fine, coarse = (len(thumbnail(encoded(noise(), "PNG"), size_px=64, quality=q)) for q in (95, 30))
    assert coarse < fine / 2
