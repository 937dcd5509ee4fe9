"""How each object of the street photos is drawn: large, flat and distinct, with chances in hue, size and side.

Every object stands at the middle of its own ground line: x runs from about -34 to 34 units, y up to about 62. What
tells an object from the others is its outline and its main hue, for the tiny models see a photo 48 pixels wide.
"""

import math
from collections.abc import Callable

import numpy as np

from seewhy.demo.sheet import Color, Point, Sheet, tint

WATER: Color = (74, 150, 205)
DARK: Color = (44, 46, 54)
PALE: Color = (246, 244, 236)


class Spot:
    """A place on a sheet where one object stands, with its own units; remembers how far its shapes reach.

    Args:
        x, y: middle of the ground line on the sheet, its units.
        scale: sheet units a unit of the object.
        way: 1, or -1 for the object mirrored.
    """

    def __init__(self, sheet: Sheet, x: float, y: float, scale: float, way: int) -> None:
        self.sheet, self.rng = sheet, sheet.rng
        self._x, self._y, self._scale, self._way = x, y, scale, way
        self.left, self.top, self.right, self.bottom = math.inf, math.inf, -math.inf, -math.inf

    def at(self, x: float, y: float) -> Point:
        """The object's (x, y), y up, on the sheet; counts towards the reach."""
        place = self._x + x * self._scale * self._way, self._y - y * self._scale
        self.left, self.right = min(self.left, place[0]), max(self.right, place[0])
        self.top, self.bottom = min(self.top, place[1]), max(self.bottom, place[1])
        return place

    def shape(self, points: list[Point], color: Color) -> None:
        self.sheet.shape([self.at(x, y) for x, y in points], color)

    def box(self, x1: float, y1: float, x2: float, y2: float, color: Color, radius: float = 0) -> None:
        (left, bottom), (right, top) = self.at(x1, y1), self.at(x2, y2)
        self.sheet.box(min(left, right), top, max(left, right), bottom, color, radius * self._scale)

    def oval(self, x1: float, y1: float, x2: float, y2: float, color: Color) -> None:
        (left, bottom), (right, top) = self.at(x1, y1), self.at(x2, y2)
        self.sheet.ellipse(min(left, right), top, max(left, right), bottom, color)

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        self.oval(x - radius, y - radius, x + radius, y + radius, color)

    def line(self, points: list[Point], color: Color, width: float) -> None:
        self.sheet.line([self.at(x, y) for x, y in points], color, width * self._scale)

    def pick(self, *colors: Color) -> Color:
        """One of the colours, a little lighter or darker."""
        return tint(colors[self.rng.integers(len(colors))], self.rng.uniform(0.88, 1.12))


def _ship(spot: Spot) -> None:
    hull = spot.pick((30, 60, 120), (150, 40, 44), (30, 90, 90))
    spot.box(-33, -3, 33, 9, WATER, 3)
    spot.shape([(-31, 24), (32, 24), (24, 6), (-24, 6)], hull)
    spot.box(-29, 20, 31, 24, PALE)
    spot.box(-22, 24, 12, 38, PALE)
    spot.box(-17, 38, 4, 48, PALE)
    for x in (-18, -9, 0):
        spot.box(x, 28, x + 5, 34, (70, 110, 150))
    spot.box(-12, 48, -3, 59, spot.pick((215, 60, 50), (235, 160, 40)))
    spot.line([(20, 24), (20, 52)], DARK, 2.5)
    for x in (-26, -6, 14):
        spot.line([(x, 0), (x + 6, 3), (x + 12, 0)], (190, 225, 245), 2)


def _lighthouse(spot: Spot) -> None:
    band = spot.pick((210, 48, 44), (206, 60, 40))
    spot.oval(-24, -4, 24, 8, (128, 124, 120))
    spot.shape([(-14, 2), (14, 2), (8, 44), (-8, 44)], PALE)
    for low, high in ((8, 17), (27, 36)):
        near, far = 14 - low * 6 / 42, 14 - high * 6 / 42
        spot.shape([(-near, low), (near, low), (far, high), (-far, high)], band)
    spot.box(-11, 43, 11, 46, DARK)
    glow = (255, 232, 120)
    spot.box(-7, 46, 7, 55, glow)
    spot.shape([(-10, 55), (10, 55), (0, 63)], band)
    for side in (-1, 1):
        spot.shape([(side * 8, 51), (side * 31, 58), (side * 31, 44)], (255, 244, 176))


def _crane(spot: Spot) -> None:
    steel = spot.pick((246, 186, 24), (240, 168, 20))
    spot.box(-24, -2, 4, 4, (90, 92, 100))
    for x in (-17, -3):
        spot.line([(x, 3), (x, 54)], steel, 4)
    for y in (8, 20, 32, 44):
        spot.line([(-17, y), (-3, y + 9)], steel, 2.5)
    spot.box(-32, 50, 33, 56, steel)
    spot.line([(-10, 63), (-30, 54)], steel, 2.5)
    spot.line([(-10, 63), (26, 55)], steel, 2.5)
    spot.box(-33, 40, -23, 52, (96, 98, 108))
    spot.line([(24, 52), (24, 28)], DARK, 2)
    spot.box(15, 10, 33, 28, spot.pick((52, 104, 176), (60, 130, 90)))
    for x in (20, 26):
        spot.line([(x, 11), (x, 27)], (222, 228, 236), 1.5)


def _stall(spot: Spot) -> None:
    stripe = spot.pick((36, 110, 190), (34, 140, 84), (120, 70, 160))
    for x in (-28, 28):
        spot.line([(x, 0), (x, 46)], (120, 84, 52), 3.5)
    spot.box(-31, 0, 31, 20, spot.pick((160, 108, 62), (138, 92, 54)))
    spot.box(-31, 18, 31, 22, (196, 150, 96))
    for x in (-23, -12, -1, 10, 21):
        spot.disc(x, 25, 5, spot.pick((236, 120, 40), (220, 60, 60), (240, 206, 70), (130, 180, 70)))
    for index in range(6):
        x, color = -33 + index * 11, stripe if index % 2 == 0 else PALE
        spot.shape([(x, 42), (x + 11, 42), ((x + 11) * 0.8, 60), (x * 0.8, 60)], color)
        spot.oval(x, 37, x + 11, 47, color)


def _lanterns(spot: Spot) -> None:
    paper = spot.pick((226, 52, 36), (236, 78, 30))
    spot.box(-33, 57, 33, 61, (92, 62, 40))
    for x in (-31, 31):
        spot.line([(x, 0), (x, 58)], (92, 62, 40), 3)
    for x in (-15, 15):
        spot.line([(x, 58), (x, 50)], DARK, 1.5)
        spot.oval(x - 13, 12, x + 13, 48, paper)
        for y in (20, 26, 32, 38):
            spot.line([(x - 11, y), (x + 11, y)], tint(paper, 0.78), 1)
        spot.box(x - 7, 45, x + 7, 50, DARK)
        spot.box(x - 7, 9, x + 7, 14, DARK)
        spot.oval(x - 5, 22, x + 5, 38, (255, 214, 120))


def _boxes(spot: Spot) -> None:
    board = spot.pick((196, 150, 94), (184, 136, 82), (206, 164, 110))
    tape = (236, 220, 186)
    for x, y, wide, high in ((-31, 0, 29, 27), (1, 0, 30, 25), (-16, 27, 31, 26)):
        shade = tint(board, spot.rng.uniform(0.9, 1.08))
        spot.box(x, y, x + wide, y + high, tint(shade, 0.6))
        spot.box(x + 1.2, y + 1.2, x + wide - 1.2, y + high - 1.2, shade)
        spot.box(x + wide / 2 - 2.5, y + 1.2, x + wide / 2 + 2.5, y + high - 1.2, tape)
        spot.box(x + 4, y + 4, x + 9, y + 8, (90, 70, 50))


def _gate(spot: Spot) -> None:
    red = spot.pick((222, 66, 30), (206, 54, 34))
    for side in (-1, 1):
        spot.shape([(side * 25, 0), (side * 18, 0), (side * 16, 50), (side * 22, 50)], red)
        spot.box(side * 21.5 - 5, -1, side * 21.5 + 5, 4, DARK)
    spot.box(-27, 35, 27, 41, red)
    spot.box(-3, 41, 3, 50, red)
    spot.shape([(-34, 60), (-26, 56), (26, 56), (34, 60), (29, 49), (-29, 49)], red)
    spot.shape([(-34, 63), (-26, 59), (26, 59), (34, 63), (34, 59), (26, 55), (-26, 55), (-34, 59)], DARK)


def _bridge(spot: Spot) -> None:
    stone = spot.pick((150, 140, 124), (138, 134, 130))
    rail = spot.pick((96, 70, 50), (84, 64, 56))
    angles = np.linspace(0, math.pi, 19)

    def arc(rx: float, ry: float, low: float) -> list[Point]:
        return [(rx * math.cos(a), low + ry * math.sin(a)) for a in angles]

    spot.shape([*arc(34, 30, 8), (-34, -3), (34, -3)], stone)
    spot.shape([*arc(20, 17, 4), (-20, -3), (20, -3)], WATER)
    spot.box(-34, -4, 34, 4, WATER, 2)
    spot.line(arc(33, 29, 18), rail, 3)
    for x, y in arc(33, 29, 8)[2:-2:2]:
        spot.line([(x, y), (x, y + 11)], rail, 2)
    for x in (-24, -4, 12):
        spot.line([(x, 0), (x + 5, 2), (x + 10, 0)], (190, 225, 245), 1.8)


def _bicycle(spot: Spot) -> None:
    frame = spot.pick((40, 150, 90), (226, 90, 150), (40, 140, 200))
    for x in (-19, 19):
        spot.disc(x, 15, 15, (30, 30, 34))
        spot.disc(x, 15, 11, (214, 218, 222))
        for turn in range(3):
            dx, dy = 11 * math.cos(turn * math.pi / 3), 11 * math.sin(turn * math.pi / 3)
            spot.line([(x - dx, 15 - dy), (x + dx, 15 + dy)], (120, 124, 130), 1)
    spot.line([(-19, 15), (-8, 38), (14, 38), (-1, 15), (-19, 15)], frame, 4)
    spot.line([(-8, 38), (-1, 15)], frame, 4)
    spot.line([(19, 15), (13, 48), (21, 52)], frame, 4)
    spot.box(-15, 40, -1, 45, DARK, 2)
    spot.line([(-8, 36), (-8, 42)], DARK, 2.5)
    spot.box(16, 34, 31, 46, (176, 134, 84), 2)


def _pole(spot: Spot) -> None:
    grey = spot.pick((120, 118, 116), (132, 126, 118))
    spot.shape([(-4, 0), (4, 0), (3, 63), (-3, 63)], grey)
    for y in (57, 47):
        spot.box(-24, y - 2, 24, y + 2, grey)
        for x in (-21, -11, 11, 21):
            spot.box(x - 2, y + 1, x + 2, y + 6, PALE)
            spot.line([(x, y + 5), (x + 12 * (1 if x > 0 else -1), y + 2)], DARK, 1.2)
    spot.box(5, 24, 18, 42, spot.pick((94, 100, 112), (84, 90, 98)), 3)
    spot.box(-12, 24, -4, 32, (150, 150, 150), 2)
    for y in range(2, 16, 5):
        spot.shape([(-4, y), (4, y + 3), (4, y + 5.5), (-4, y + 2.5)], (244, 206, 50))


def _car(spot: Spot) -> None:
    color = spot.pick((200, 40, 60), (40, 90, 190), (236, 236, 240), (60, 150, 150))
    spot.box(-33, 7, 33, 25, color, 6)
    spot.shape([(-22, 24), (-14, 42), (12, 42), (23, 24)], color)
    spot.shape([(-17, 25), (-11, 38), (-2, 38), (-2, 25)], (188, 220, 236))
    spot.shape([(2, 25), (2, 38), (10, 38), (17, 25)], (188, 220, 236))
    spot.box(27, 16, 33, 21, (255, 238, 150))
    spot.box(-33, 16, -29, 21, (220, 60, 50))
    for x in (-19, 19):
        spot.disc(x, 7, 9, (28, 28, 32))
        spot.disc(x, 7, 4, (186, 188, 194))


def _signal(spot: Spot) -> None:
    post = (150, 154, 160)
    spot.line([(-28, 0), (-28, 60)], post, 4)
    spot.line([(-28, 54), (0, 54)], post, 3)
    spot.box(-27, 32, 33, 56, (52, 58, 66), 6)
    lit = spot.rng.integers(3)
    for index, (x, color) in enumerate(((-16, (40, 210, 160)), (3, (250, 206, 50)), (22, (236, 60, 50)))):
        spot.disc(x, 44, 8.5, color if index == lit else tint(color, 0.75))
    spot.box(-34, 8, -22, 22, (240, 210, 60), 2)


def _balloons(spot: Spot) -> None:
    hues: tuple[Color, ...] = ((70, 130, 230), (250, 210, 60), (240, 110, 170), (90, 200, 120), (170, 110, 220))
    order = spot.rng.permutation(len(hues))
    for (x, y), hue in zip(((-17, 34), (17, 36), (0, 46)), order[:3], strict=True):
        spot.line([(x, y), (0, 2)], (236, 236, 240), 1.5)
        spot.shape([(x - 3, y - 16), (x + 3, y - 16), (x, y - 11)], hues[hue])
        spot.oval(x - 14, y - 14, x + 14, y + 16, hues[hue])
        spot.oval(x - 8, y + 4, x - 3, y + 11, tint(hues[hue], 1.35))
    spot.disc(0, 2, 3, DARK)


DRAWERS: dict[str, Callable[[Spot], None]] = {
    "船": _ship,
    "灯台": _lighthouse,
    "クレーン": _crane,
    "屋台": _stall,
    "提灯": _lanterns,
    "箱": _boxes,
    "鳥居": _gate,
    "橋": _bridge,
    "自転車": _bicycle,
    "電柱": _pole,
    "車": _car,
    "信号": _signal,
    "風船": _balloons,
}
"""Object -> what draws it."""
