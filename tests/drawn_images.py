"""Images of noise, each one of its own, and a table of them with a number for each."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image


def draw_images(
    folder: Path, count: int, *, table: str, columns: tuple[str, str], height: int, width: int, numbers: int
) -> None:
    """Writes 0.png, 1.png, ... and the table. The n-th image's number is n modulo `numbers`.

    A file that is there stays as it is: one that is written anew is another image.
    """
    rng = np.random.default_rng(0)
    lines: list[tuple[str, str]] = [columns]
    for number in range(count):
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        if not (folder / f"{number}.png").exists():
            Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append((f"{number}.png", str(number % numbers)))
    with open(folder / table, "w", newline="") as file:
        csv.writer(file).writerows(lines)
