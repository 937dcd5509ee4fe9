"""No label, path, file name or prediction reaches the model that describes a photo, whatever holds it."""

import io

import pyarrow as pa
import pytest
from PIL import Image, PngImagePlugin
from PIL.ExifTags import Base

from seewhy.describe import CONTROLS, Describe
from tests.describing import batch, encoded, outputs, photo
from tests.describing import recorder as recorder

CANARY = "CANARY-7f3a"


def smuggling_jpeg() -> bytes:
    """A JPEG that says its label in every place that a JPEG has for words, and after its end."""
    exif = Image.Exif()
    for tag in (Base.ImageDescription, Base.DocumentName, Base.Artist, Base.XPTitle, Base.UserComment):
        exif[tag] = f"{CANARY} district".encode("utf-16-le") if tag == Base.XPTitle else f"{CANARY} district"
    data = encoded(
        photo(0),
        "JPEG",
        quality=95,
        exif=exif,
        comment=f"{CANARY} comment".encode(),
        icc_profile=f"{CANARY} profile".encode() * 4,
        xmp=f"<x:xmpmeta>{CANARY}</x:xmpmeta>".encode(),
    )
    assert data.count(CANARY.encode()) >= 6
    return data + f"{CANARY} after the end".encode()


def smuggling_png() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", f"{CANARY} title")
    info.add_itxt("Source", f"/data/{CANARY}/1.png")
    return encoded(photo(0), pnginfo=info)


def strings_in(value: object) -> list[bytes]:
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, str):
        return [value.encode()]
    if isinstance(value, (list, tuple)):
        return [found for one in value for found in strings_in(one)]
    if isinstance(value, dict):
        return [found for pair in value.items() for found in strings_in(pair)]
    return [repr(value).encode()]


def holds_canary(value: object) -> bool:
    spellings = [CANARY, CANARY.lower(), CANARY.upper(), CANARY.replace("-", "")]
    tokens = [one.encode(code) for one in spellings for code in ("utf-8", "utf-16-le", "utf-16-be")]
    return any(token in found for found in strings_in(value) for token in tokens)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("max_images", [1, 2])
@pytest.mark.parametrize("smuggler", [smuggling_jpeg, smuggling_png])
def test_no_label_path_or_file_name_can_reach_the_backend(recorder, control, max_images, smuggler):
    recorder.max_images = max_images
    image = smuggler()
    assert holds_canary(image)
    assert holds_canary({"a": [(CANARY.lower().encode("utf-16-le"),)]})
    given = batch([image, image], outputs=outputs([0.1, 0.9], [0.9, 0.1]))
    for name in ("id", "label", "path", "source", "file_name", "target", "class", "detail", "fold", "explained"):
        column = pa.array([f"{CANARY}/{name}.jpg", f"{CANARY} {name}"])
        place = given.schema.get_field_index(name)
        given = given.append_column(name, column) if place < 0 else given.set_column(place, name, column)
    stage = Describe(backend="recorder", control=control, classes=[CANARY, f"{CANARY} 2"], temperature=0.5)
    rows = stage(given).to_pylist()
    assert [row["text"] for row in rows] == ["text 0", "text 1"]
    assert [row["id"] for row in rows] == given["id"].to_pylist()
    assert recorder.options == {"temperature": 0.5}
    assert len(recorder.seen) == 2
    for request in recorder.seen:
        assert not holds_canary(vars(request))
        for picture in request.images:
            opened = Image.open(io.BytesIO(picture))
            assert opened.format == "JPEG"
            assert not opened.getexif()
            assert set(opened.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
            assert picture.endswith(b"\xff\xd9")
    # rows that differ by id, label and prediction alone are one question
    first, second = recorder.seen
    assert first.prompt == second.prompt
    assert first.id != second.id  # so that draws differ
    if control != "random":
        assert first.images == second.images


def test_what_was_predicted_changes_nothing_that_the_backend_gets(recorder):
    for found in ([0.9, 0.1], [0.1, 0.9], None):
        given = batch([encoded(photo(0))], outputs=outputs(found), explained=pa.array([0], pa.int32()))
        Describe(backend="recorder", classes=["a", "b"])(given)
    assert recorder.seen[0] == recorder.seen[1] == recorder.seen[2]
