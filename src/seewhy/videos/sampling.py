"""Which frames stand for a video: those shown in the middle of equal parts of its time."""

from bisect import bisect_right
from collections.abc import Sequence


def middles(times: Sequence[int], end: int, count: int) -> list[int]:
    """Places of the frames that are on the screen in the middle of each of `count` equal parts.

    The middle of part i is ``times[0] + (2 i + 1) (end - times[0]) / (2 count)``, and the frame shown then is the last
    one that has begun. Of N frames of equal length these are the frames ``floor((i + 1/2) N / count)``; with more parts
    than frames some come several times.

    Args:
        times: when each frame begins, ascending, one or more; any whole unit.
        end: when the last one ends, in the same.

    Raises:
        ValueError: no frame, or fewer than one part.
    """
    if not times or count < 1:
        raise ValueError(f"{count} of {len(times)} frames: 1 or more of 1 or more is needed")
    start = times[0]
    # Whole numbers all the way: a float would put a middle that falls on a frame's beginning before it or after.
    return [max(0, bisect_right(times, start + (2 * i + 1) * (end - start) // (2 * count)) - 1) for i in range(count)]
