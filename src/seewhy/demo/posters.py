"""Film posters drawn with Pillow from the factors of `factors.py`, everything else about them left to chance.

What tells a level is drawn large: it must survive the 96 x 96 pixels that the packaged tiny models see.
"""

import csv
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from seewhy.demo.captions import caption, mentioned
from seewhy.demo.factors import FACTORS, NULL_FACTOR, ceiling, draw_factors, expected_rating, rating
from seewhy.demo.sheet import Color, Sheet, tint

__all__ = [
    "FACTORS",
    "NULL_FACTOR",
    "caption",
    "ceiling",
    "draw_factors",
    "draw_poster",
    "draw_title",
    "expected_rating",
    "mentioned",
    "rating",
    "write_posters",
]

SIZE = (256, 384)
"""Width and height of a poster, pixels; drawn at twice that and scaled down for smooth edges."""

_FIRST = (
    "AMBER", "VELVET", "SILENT", "PAPER", "HOLLOW", "WILD", "LAST", "SECOND", "NORTHERN", "GOLDEN",
    "BROKEN", "DISTANT", "GENTLE", "IRON", "LITTLE", "FADED", "HIDDEN", "SLOW", "LUCKY", "CRIMSON",
)  # fmt: skip
_SECOND = (
    "HARBOR", "TIDE", "ORCHARD", "SIGNAL", "LETTERS", "SUMMER", "ROAD", "WINTER", "GARDEN", "MIRROR",
    "RIVER", "PROMISE", "STRANGER", "SECRETS", "ISLAND", "WALTZ", "HORIZON", "LULLABY", "EMBERS", "FERRY",
)  # fmt: skip

_COATS = ((206, 40, 48), (226, 70, 60), (190, 30, 70), (232, 60, 96))
_PAINTS = ((40, 110, 190), (30, 150, 150), (90, 190, 210), (70, 80, 200))
_FURS = ((150, 96, 52), (222, 184, 134), (120, 76, 44), (196, 142, 84))
_GENRES = ("Drama", "Comedy", "Thriller", "Romance", "Adventure")


def draw_title(rng: np.random.Generator) -> str:
    """An invented film title of two words."""
    return f"{_FIRST[rng.integers(len(_FIRST))]} {_SECOND[rng.integers(len(_SECOND))]}"


def draw_poster(
    factors: dict[str, str], rng: np.random.Generator, size: tuple[int, int] = SIZE, title: str | None = None
) -> Image.Image:
    """An RGB poster of `size` (width, height) pixels that shows `factors`; what they leave open comes from `rng`."""
    sheet = Sheet(SIZE, size, rng)
    ground = _background(sheet, factors)
    _sky_body(sheet, factors)
    _land(sheet, factors, ground)
    _weather(sheet, factors)
    left = factors["place"] == "left"
    people_x, object_x = (74, 174) if left else (182, 82)
    _people(sheet, factors, people_x + rng.uniform(-8, 8))
    (_dog if factors["object"] == "dog" else _car)(sheet, object_x + rng.uniform(-8, 8), 304 + rng.uniform(-6, 6))
    _lettering(sheet, factors, title or draw_title(rng))
    if factors["frame"] == "thick":
        _frame(sheet)
    return sheet.finished()


def _background(sheet: Sheet, factors: dict[str, str]) -> Color:
    """Sky as a vertical gradient, then the ground; gives the ground's colour."""
    rng, dark = sheet.rng, factors["lighting"] == "dark"
    if factors["palette"] == "warm":
        base = np.array([235, rng.uniform(120, 165), rng.uniform(50, 95)])
    else:
        base = np.array([rng.uniform(60, 110), rng.uniform(140, 180), 235])
    light = rng.uniform(0.28, 0.36) if dark else rng.uniform(0.92, 1.04)
    top = base * light * rng.uniform(0.75, 0.95)
    bottom = base * light + (10 if dark else 35)
    mix = np.linspace(0, 1, sheet.image.height)[:, None]
    column = (top * (1 - mix) + bottom * mix).clip(0, 255).astype(np.uint8)
    column = np.repeat(column[:, None, :], sheet.image.width, axis=1)
    sheet.image.paste(Image.fromarray(column))
    tone = base * light * rng.uniform(0.5, 0.65)
    if factors["weather"] == "snow":
        tone = 0.35 * tone + (70 if dark else 150)
    ground = tuple(int(value) for value in tone.clip(0, 255))
    edge = [(x, 262 + rng.uniform(-5, 5)) for x in range(0, 257, 32)]
    color: Color = (ground[0], ground[1], ground[2])
    sheet.shape([*edge, (256, 384), (0, 384)], color)
    return color


def _sky_body(sheet: Sheet, factors: dict[str, str]) -> None:
    rng = sheet.rng
    x, y, radius = rng.uniform(70, 186), rng.uniform(94, 112), rng.uniform(27, 33)
    if factors["sky"] == "sun":
        color = (255, int(rng.uniform(214, 240)), int(rng.uniform(90, 150)))
        rays, turn = int(rng.integers(10, 15)), rng.uniform(0, 1)
        for ray in range(rays):
            angle = 2 * math.pi * (ray + turn) / rays
            spread, far = 0.13, radius * rng.uniform(1.7, 2.0)
            tips = [(x + far * math.cos(angle + d), y + far * math.sin(angle + d)) for d in (-spread, spread)]
            sheet.shape([(x, y), *tips], color)
        sheet.disc(x, y, radius, color)
        return
    sky = sheet.image.getpixel((int(x * sheet.sx), int(y * sheet.sy)))
    glow = (250, 248, int(rng.uniform(215, 240)))
    sheet.disc(x, y, radius + 5, glow)
    side = 1 if rng.random() < 0.5 else -1
    sheet.disc(x + side * radius * 0.55, y - radius * 0.2, radius, sky)  # type: ignore[arg-type]


def _land(sheet: Sheet, factors: dict[str, str], ground: Color) -> None:
    rng = sheet.rng
    x: float
    if factors["land"] == "mountains":
        color = tint(ground, rng.uniform(0.85, 0.95))
        for shade, tall in ((1.3, 84.0), (1.0, 58.0)):
            points: list[tuple[float, float]] = [(-20, 275)]
            x = float(rng.uniform(-30, 0))
            while x < 256:
                points.append((x, 264))
                points.append((x + rng.uniform(28, 40), 262 - tall * rng.uniform(0.8, 1.15)))
                x += rng.uniform(62, 84)
            sheet.shape([*points, (x, 264), (276, 275)], tint(color, shade))
        return
    x, color = float(rng.uniform(-14, 0)), tint((60, 56, 70), rng.uniform(0.4, 0.7))
    lit: Color = (255, 226, 140)
    while x < 256:
        width, height = rng.uniform(22, 32), rng.uniform(70, 122)
        sheet.box(x, 262 - height, x + width, 268, tint(color, rng.uniform(0.85, 1.15)))
        for row in np.arange(262 - height + 8, 254, 14).tolist():
            for column in np.arange(x + 5, x + width - 6, 9).tolist():
                if rng.random() < 0.75:
                    sheet.box(column, row, column + 4.5, row + 7, lit)
        x += width + rng.uniform(2, 8)


def _weather(sheet: Sheet, factors: dict[str, str]) -> None:
    rng = sheet.rng
    if factors["weather"] == "snow":
        for _ in range(70):
            sheet.disc(rng.uniform(0, 256), rng.uniform(0, 350), rng.uniform(3.0, 5.0), (252, 253, 255))
        return
    slant = rng.uniform(8, 16)
    for _ in range(60):
        x, y, length = rng.uniform(-10, 256), rng.uniform(-20, 340), rng.uniform(28, 44)
        sheet.line([(x + slant, y), (x, y + length)], (196, 212, 228), 2.4)


def _people(sheet: Sheet, factors: dict[str, str], x: float) -> None:
    rng = sheet.rng
    if factors["people"] == "one":
        _person(sheet, x, 326 + rng.uniform(-4, 4), rng.uniform(1.2, 1.3))
        return
    gap = rng.uniform(29, 33)
    for offset in (-gap, gap, 0.0):
        _person(sheet, x + offset, 324 + rng.uniform(-4, 4), rng.uniform(0.9, 1.02))


def _person(sheet: Sheet, x: float, feet: float, scale: float) -> None:
    rng = sheet.rng
    coat = _COATS[rng.integers(len(_COATS))]
    skin = tint((238, 200, 170), rng.uniform(0.45, 1.0))
    legs = tint((60, 60, 72), rng.uniform(0.6, 1.2))
    for side in (-8, 2):
        sheet.box(x + side * scale, feet - 38 * scale, x + (side + 6) * scale, feet, legs)
    hem = rng.uniform(13, 17) * scale
    top, low = feet - 92 * scale, feet - 26 * scale
    sheet.shape([(x - 9 * scale, top), (x + 9 * scale, top), (x + hem, low), (x - hem, low)], coat)
    sheet.disc(x, feet - 103 * scale, 12.5 * scale, skin)
    hair = tint((70, 50, 40), rng.uniform(0.4, 1.6))
    sheet.ellipse(x - 13 * scale, feet - 117 * scale, x + 13 * scale, feet - 103 * scale, hair)


def _car(sheet: Sheet, x: float, y: float) -> None:
    rng = sheet.rng
    color = _PAINTS[rng.integers(len(_PAINTS))]
    way = 1 if rng.random() < 0.5 else -1
    sheet.box(x - 58, y - 22, x + 58, y + 10, color, radius=9)
    roof = [(x - 34 * way, y - 20), (x - 24 * way, y - 46), (x + 18 * way, y - 46), (x + 36 * way, y - 20)]
    sheet.shape(roof, color)
    glass = [(x - 27 * way, y - 22), (x - 20 * way, y - 41), (x + 15 * way, y - 41), (x + 27 * way, y - 22)]
    sheet.shape(glass, (206, 228, 236))
    sheet.box(x - 3, y - 42, x + 1, y - 20, color)
    sheet.disc(x + 53 * way, y - 10, 6, (255, 240, 170))
    for wheel in (-33, 33):
        sheet.disc(x + wheel, y + 11, 15, (26, 26, 30))
        sheet.disc(x + wheel, y + 11, 6.5, (190, 190, 196))


def _dog(sheet: Sheet, x: float, y: float) -> None:
    """A dog in profile: body, four legs, tail up, a big head with an ear, facing either way."""
    rng = sheet.rng
    color = _FURS[rng.integers(len(_FURS))]
    way = 1 if rng.random() < 0.5 else -1
    scale = rng.uniform(0.98, 1.1)

    def at(dx: float, dy: float) -> tuple[float, float]:
        return x + dx * way * scale, y + dy * scale

    def oval(dx1: float, dy1: float, dx2: float, dy2: float, fill: Color) -> None:
        (x1, y1), (x2, y2) = at(dx1, dy1), at(dx2, dy2)
        sheet.ellipse(min(x1, x2), y1, max(x1, x2), y2, fill)

    for dx in (-26, -16, 12, 22):
        sheet.line([at(dx, -10), at(dx + 1, 22)], tint(color, 0.85 if dx in (-16, 12) else 1.0), 8)
    oval(-34, -34, 32, 0, color)
    sheet.line([at(-30, -24), at(-44, -42), at(-42, -54)], color, 7)
    sheet.shape([at(14, -12), at(22, -52), at(42, -44), at(32, -10)], color)
    oval(18, -68, 50, -38, color)
    oval(38, -56, 62, -40, color)
    oval(56, -55, 64, -47, (24, 22, 22))
    oval(34, -60, 40, -54, (24, 22, 22))
    sheet.shape([at(20, -66), at(30, -66), at(26, -36), at(15, -42)], tint(color, 0.6))


def _lettering(sheet: Sheet, factors: dict[str, str], title: str) -> None:
    rng = sheet.rng
    color = ((255, 255, 255), (255, 236, 180), (236, 244, 255))[rng.integers(3)]
    if factors["title"] == "small":
        _text(sheet, title, 128, 351 + rng.uniform(-3, 3), 92 + rng.uniform(-8, 8), 14, color)
        return
    first, second = title.split(" ", 1)
    for word, y in ((first, 43 + rng.uniform(-3, 3)), (second, 342 + rng.uniform(-3, 3))):
        sheet.box(0, y - 25, 256, y + 25, (20, 20, 26))
        _text(sheet, word, 128, y, 204, 38, color)


def _text(sheet: Sheet, text: str, x: float, y: float, width: float, height: float, color: Color) -> None:
    """Text centred on (x, y), as large as a box of width x height allows."""
    probe = ImageFont.load_default(100)
    left, top, right, bottom = probe.getbbox(text)
    points = 100 * min(width * sheet.sx / (right - left), height * sheet.sy / (bottom - top))
    font = ImageFont.load_default(points)
    edge = max(1, round(points / 22))
    place = (x * sheet.sx, y * sheet.sy)
    sheet.pen.text(place, text, font=font, fill=color, anchor="mm", stroke_width=edge, stroke_fill=(20, 20, 26))


def _frame(sheet: Sheet) -> None:
    rng = sheet.rng
    color = ((248, 244, 232), (206, 212, 220), (212, 176, 98))[rng.integers(3)]
    width = rng.uniform(14, 18)
    corners = (0, 0, sheet.image.width - 1, sheet.image.height - 1)
    sheet.pen.rectangle(corners, outline=color, width=round(width * sheet.sx))


def write_posters(folder: Path, count: int, seed: int) -> Path:
    """Draws `count` posters into `folder` and gives the path of its manifest, `manifest.csv`.

    The manifest holds poster (path relative to it), title, rating, year and genre; year and genre have nothing to do
    with the rating. What was drawn stands in `truth.csv` alone: poster and one column a factor.
    """
    rng = np.random.default_rng(seed)
    (folder / "posters").mkdir(parents=True, exist_ok=True)
    manifest, truth = [], []
    for number in range(count):
        factors, title = draw_factors(rng), draw_title(rng)
        poster = f"posters/{number:05d}.jpg"
        draw_poster(factors, rng, title=title).save(folder / poster, quality=90)
        year, genre = 1960 + int(rng.integers(65)), _GENRES[rng.integers(len(_GENRES))]
        score = round(rating(factors, rng), 2)
        manifest.append({"poster": poster, "title": title.title(), "rating": score, "year": year, "genre": genre})
        truth.append({"poster": poster, **factors})
    _write_csv(folder / "truth.csv", truth)
    return _write_csv(folder / "manifest.csv", manifest)


def _write_csv(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
