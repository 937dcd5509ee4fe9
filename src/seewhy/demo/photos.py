"""Street photos drawn with Pillow from the scenes of `districts.py`: three terraces, two objects wide.

A terrace is a row of pale houses, a strip of pavement, and up to two objects on it. Which object stands where, its hue,
size and side, the houses and the light are left to chance; only objects and pavement follow the district.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from seewhy.demo.districts import DISTRICTS, OBJECTS, PLACES, SETTS, Scene, draw_district
from seewhy.demo.sheet import Color, Sheet, tint
from seewhy.demo.street_objects import DRAWERS, Spot

UNITS = (160, 240)
"""Width and height in which a photo is drawn."""
SIZE = (240, 360)
"""Width and height of a photo, pixels."""
TERRACE = 80
"""Height of one of the three terraces, units; its pavement is the lowest PAVED of them."""
PAVED = 24

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the photo's width and height."""

_SKIES: tuple[Color, ...] = ((170, 206, 236), (196, 216, 232), (226, 214, 196), (180, 196, 214))
_WALLS: tuple[Color, ...] = (
    (222, 212, 196), (206, 212, 214), (214, 200, 190), (200, 206, 190), (226, 220, 210), (196, 192, 200),
)  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """A drawn photo and where its objects are.

    Attributes:
        image: RGB.
        boxes: object -> the box that its shapes fill.
    """

    image: Image.Image
    boxes: dict[str, Box]


def draw_photo(scene: Scene, rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Photo:
    """A photo of `size` (width, height) pixels that shows `scene`; what the scene leaves open comes from `rng`."""
    sheet = Sheet(UNITS, size, rng)
    light, haze = rng.uniform(0.86, 1.08), _SKIES[rng.integers(len(_SKIES))]
    places = rng.permutation(PLACES)[: len(scene.objects)].tolist()
    standing = dict(zip(places, scene.objects, strict=True))
    boxes: dict[str, Box] = {}
    for terrace in range(3):
        _houses(sheet, terrace * TERRACE, haze, light)
        _pave(sheet, scene.pavement, (terrace + 1) * TERRACE - PAVED, light)
    for place in sorted(standing):
        terrace, column = divmod(place, 2)
        x = UNITS[0] * (0.25 + 0.5 * column) + rng.uniform(-6, 6)
        y = (terrace + 1) * TERRACE - 10 + rng.uniform(-4, 4)
        spot = Spot(sheet, x, y, rng.uniform(0.92, 1.06), 1 if rng.random() < 0.5 else -1)
        DRAWERS[standing[place]](spot)
        box = (spot.left / UNITS[0], spot.top / UNITS[1], spot.right / UNITS[0], spot.bottom / UNITS[1])
        boxes[standing[place]] = (max(0.0, box[0]), max(0.0, box[1]), min(1.0, box[2]), min(1.0, box[3]))
    return Photo(sheet.finished(), {name: boxes[name] for name in scene.objects})


def _houses(sheet: Sheet, top: float, haze: Color, light: float) -> None:
    """A strip of sky and pale houses against it, with windows that hardly stand out."""
    rng, ground = sheet.rng, top + TERRACE - PAVED
    sheet.box(0, top, UNITS[0], ground + 1, tint(haze, light))
    x = float(rng.uniform(-20, 0))
    while x < UNITS[0]:
        wide, high = rng.uniform(26, 48), rng.uniform(24, 50)
        wall = tint(_WALLS[rng.integers(len(_WALLS))], light)
        sheet.box(x, ground - high, x + wide, ground + 1, wall)
        if rng.random() < 0.6:
            peak = ground - high - rng.uniform(4, 8)
            sheet.shape([(x - 2, ground - high), (x + wide / 2, peak), (x + wide + 2, ground - high)], tint(wall, 0.86))
        else:
            sheet.box(x - 1, ground - high - 2, x + wide + 1, ground - high + 1, tint(wall, 0.86))
        for row in np.arange(ground - high + 7, ground - 8, 13).tolist():
            for column in np.arange(x + 5, x + wide - 8, 12).tolist():
                sheet.box(column, row, column + 6, row + 7, tint(wall, 0.9))
        x += wide + rng.uniform(0, 4)


def _pave(sheet: Sheet, pavement: str, top: float, light: float) -> None:
    (_setts if pavement == SETTS else _asphalt)(sheet, top, light)


def _asphalt(sheet: Sheet, top: float, light: float) -> None:
    rng = sheet.rng
    grey = tint((104, 106, 112), light * rng.uniform(0.92, 1.08))
    sheet.box(0, top, UNITS[0], top + PAVED, grey)
    sheet.box(0, top, UNITS[0], top + 3, tint(grey, 1.5))
    start = rng.uniform(-24, 0)
    for x in np.arange(start, UNITS[0], 32).tolist():
        sheet.box(x, top + 17, x + 18, top + 20, (236, 236, 230))


def _setts(sheet: Sheet, top: float, light: float) -> None:
    rng = sheet.rng
    joint, stone = tint((112, 92, 72), light), tint((206, 184, 150), light * rng.uniform(0.94, 1.06))
    sheet.box(0, top, UNITS[0], top + PAVED, joint)
    for row in range(3):
        x = float(rng.uniform(-12, 0))
        while x < UNITS[0]:
            wide = rng.uniform(11, 15)
            shade = tint(stone, rng.uniform(0.86, 1.1))
            sheet.box(x, top + row * 8 + 1, x + wide - 2, top + row * 8 + 7.2, shade, radius=2.4)
            x += wide


def write_photos(folder: Path, count: int, seed: int) -> Path:
    """Draws `count` photos into `folder` and gives the path of its manifest, `manifest.csv`.

    The manifest holds photo (path relative to it), district, and year, which has nothing to do with the district.
    Districts take turns in a drawn order, so that they are equally frequent. What was drawn stands in `truth.csv`
    alone: photo, pavement and one column an object, 1 where it stands in the photo.
    """
    rng = np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    manifest: list[dict[str, object]] = []
    truth: list[dict[str, object]] = []
    order = rng.permutation(np.arange(count) % len(DISTRICTS))
    for number, index in enumerate(order.tolist()):
        scene = draw_district(rng, DISTRICTS[index])
        photo = f"photos/{number:05d}.jpg"
        draw_photo(scene, rng).image.save(folder / photo, quality=90)
        manifest.append({"photo": photo, "district": DISTRICTS[index], "year": 2000 + int(rng.integers(25))})
        here = {name: int(name in scene.objects) for name in OBJECTS}
        truth.append({"photo": photo, "pavement": scene.pavement, **here})
    _write_csv(folder / "truth.csv", truth)
    return _write_csv(folder / "manifest.csv", manifest)


def _write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
