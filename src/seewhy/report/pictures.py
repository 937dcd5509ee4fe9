"""Pictures of a report: thumbnails, and beside them the same pictures with their heat maps laid over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from seewhy import schema
from seewhy.report.results import ReadImages, ReadMaps
from seewhy.report.safe import file_name

_AT_ONCE = 64


@dataclass(frozen=True)
class Heat:
    """What a heat map of a picture explains.

    Attributes:
        drawn: False where nothing in the picture speaks for the output; there is no second picture then.
        explained: the output that the map explains.
        scale: raw value at full red.
    """

    drawn: bool
    explained: int
    scale: float


@dataclass(frozen=True)
class Picture:
    """A picture in the report's folder: `name`.jpg, and `name`-heat.jpg where its heat is drawn."""

    name: str
    width: int
    height: int
    heat: Heat | None


def write_thumbnails(
    folder: Path, ids: Sequence[str], read_images: ReadImages, *, size_px: int, quality: int
) -> dict[str, Picture]:
    """One JPEG for each item whose bytes are there and can be read; by item id."""
    made = {}
    for item_id, jpeg in _small(ids, read_images, size_px, quality):
        made[item_id] = _write(folder, item_id, jpeg, None, quality)
    return made


def write_heated(
    folder: Path, ids: Sequence[str], read_images: ReadImages, read_maps: ReadMaps, *, size_px: int, quality: int
) -> dict[str, Picture]:
    """As `write_thumbnails`, with the picture under its heat map beside each one that has a map."""
    made = {}
    for start in range(0, len(ids), _AT_ONCE):
        asked = list(ids[start : start + _AT_ONCE])
        maps = read_maps(asked)
        rows = {r[schema.ID]: r for r in maps.filter(pc.is_null(maps[schema.ERROR_KIND])).to_pylist()}
        for item_id, jpeg in _small(asked, read_images, size_px, quality):
            made[item_id] = _write(folder, item_id, jpeg, rows.get(item_id), quality)
    return made


def _small(ids: Sequence[str], read_images: ReadImages, size_px: int, quality: int) -> Iterator[tuple[str, bytes]]:
    from seewhy.images import BadImage, thumbnail

    for start in range(0, len(ids), _AT_ONCE):
        asked = list(ids[start : start + _AT_ONCE])
        got = read_images(asked)
        for item_id in asked:
            try:
                if item_id in got:
                    yield item_id, thumbnail(got[item_id], size_px=size_px, quality=quality)
            except BadImage:
                continue  # the page says that there is no picture


def _write(folder: Path, item_id: str, jpeg: bytes, row: dict[str, Any] | None, quality: int) -> Picture:
    """`row`: the item's row of schema.MAPS, None where it has no map."""
    from seewhy.heat import heat_of
    from seewhy.images import decode
    from seewhy.overlay import encode_jpeg, overlay

    name = file_name(item_id)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jpg").write_bytes(jpeg)
    pixels = decode(jpeg)
    height, width = pixels.shape[:2]
    if row is None:
        return Picture(name, width, height, None)
    heat = Heat(row["scale"] > 0, row["explained"], row["scale"])
    if heat.drawn:
        laid = overlay(pixels, heat_of(row["map"], row["height"], row["width"]))
        (folder / f"{name}-heat.jpg").write_bytes(encode_jpeg(laid, quality=quality))
    return Picture(name, width, height, heat)
