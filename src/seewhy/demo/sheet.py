"""A canvas for flat drawings: shapes in the drawing's own units, drawn at twice the size for smooth edges."""

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Point = tuple[float, float]


class Sheet:
    """A canvas of `units` (width, height), whatever its size in pixels; y points down.

    Args:
        units: width and height in which shapes are given.
        size: width and height of the finished picture, pixels.
        rng: where the shapes take their chances from.
    """

    def __init__(self, units: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> None:
        self.image = Image.new("RGB", (size[0] * 2, size[1] * 2))
        self.pen = ImageDraw.Draw(self.image)
        self.sx, self.sy = self.image.width / units[0], self.image.height / units[1]
        self.size = size
        self.rng = rng

    def _points(self, points: list[Point]) -> list[Point]:
        return [(x * self.sx, y * self.sy) for x, y in points]

    def shape(self, points: list[Point], color: Color) -> None:
        self.pen.polygon(self._points(points), fill=color)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color, radius: float = 0) -> None:
        corners = (left * self.sx, top * self.sy, right * self.sx, bottom * self.sy)
        self.pen.rounded_rectangle(corners, radius=radius * self.sx, fill=color)

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        self.ellipse(x - radius, y - radius, x + radius, y + radius, color)

    def ellipse(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        self.pen.ellipse((left * self.sx, top * self.sy, right * self.sx, bottom * self.sy), fill=color)

    def line(self, points: list[Point], color: Color, width: float) -> None:
        self.pen.line(self._points(points), fill=color, width=max(1, round(width * self.sx)))

    def finished(self) -> Image.Image:
        """The picture at its real size."""
        return self.image.resize(self.size, Image.Resampling.BOX)


def tint(color: Color, factor: float) -> Color:
    """A colour made lighter (factor above 1) or darker."""
    red, green, blue = (int(min(255, max(0, channel * factor))) for channel in color)
    return red, green, blue
