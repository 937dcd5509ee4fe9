"""Several frames as one picture, for models that see only one."""

import math
from collections.abc import Sequence

import numpy as np


def grid(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames row by row, from the top left, in ``ceil(sqrt(N))`` columns; places left over are black.

    Args:
        frames: N of (H, W, 3) uint8, all of one size, one or more.

    Returns:
        (rows * H, columns * W, 3) uint8, with ``rows = ceil(N / columns)``.

    Raises:
        ValueError: there is none, or their sizes differ.
    """
    shapes = sorted({frame.shape for frame in frames})
    if len(shapes) != 1:
        raise ValueError(f"frames of {len(shapes)} shapes {shapes}: one is needed")
    columns = columns_of(len(frames))
    height, width, _ = shapes[0]
    laid = np.zeros((-(-len(frames) // columns) * height, columns * width, 3), np.uint8)
    for place, frame in enumerate(frames):
        top, left = place // columns * height, place % columns * width
        laid[top : top + height, left : left + width] = frame
    return laid


def columns_of(count: int) -> int:
    return math.isqrt(count - 1) + 1
