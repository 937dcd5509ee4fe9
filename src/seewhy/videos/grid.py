"""Several frames as one picture, for models that see only one."""

import math
from collections.abc import Sequence

import numpy as np


def grid(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames row by row, from the top left, in ``ceil(sqrt(N))`` columns; places left over are black.

    Args:
        frames: N of (H, W, 3) uint8, one or more. Places are as high and as wide as the largest; a smaller one, of a
            video that changes its size or turns on the way, lies in the middle of its place, on black.

    Returns:
        (rows * H, columns * W, 3) uint8, with ``rows = ceil(N / columns)``.

    Raises:
        ValueError: there is none.
    """
    if not frames:
        raise ValueError("no frame: one or more is needed")
    columns = columns_of(len(frames))
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
    laid = np.zeros((-(-len(frames) // columns) * height, columns * width, 3), np.uint8)
    for place, frame in enumerate(frames):
        high, wide, _ = frame.shape
        top = place // columns * height + (height - high) // 2
        left = place % columns * width + (width - wide) // 2
        laid[top : top + high, left : left + wide] = frame
    return laid


def columns_of(count: int) -> int:
    return math.isqrt(count - 1) + 1
