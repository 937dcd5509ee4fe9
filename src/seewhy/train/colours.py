"""What an image model has to beat: a linear model on how much of each colour is in a picture.

M. Swain and D. Ballard, Color Indexing, IJCV 1991. It knows nothing of what is where.
"""

import numpy as np

from seewhy.tasks import map_tasks
from seewhy.train.baselines import linear_outputs
from seewhy.train.crossfit import Split
from seewhy.train.pictures import Pictures

LEVELS = 4
"""Of each of red, green and blue: 64 colours in all."""

_MOST_ROWS = 50_000  # that the linear model is fitted to: it has few weights, and more rows would not move them
_BATCH, _TASK = 256, 1024  # pictures read at once, by this process and by a task


def colour_shares(picture: np.ndarray) -> np.ndarray:
    """(64,) float32: the share of the pixels of (H, W, 3) uint8 that have each colour, red changing slowest."""
    levels = (picture.reshape(-1, 3) >> 6).astype(np.int64)
    colours = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
    return (np.bincount(colours, minlength=LEVELS**3) / len(levels)).astype(np.float32)


def all_colours(pictures: Pictures, *, here: bool = False) -> np.ndarray:
    """(N, 64) colour shares of every picture, read in the order in which they are stored.

    Pictures that all fit into memory are read by this process, which then keeps them. Of a larger study each task of
    the cluster reads some, unless it is to be done `here`.
    """
    found = np.empty((pictures.count, LEVELS**3), dtype=np.float32)
    plan = pictures.sequential(np.arange(pictures.count), _BATCH if pictures.all_fit else _TASK)
    shares = map_tasks(_colours, plan, shared=pictures, here=here or pictures.all_fit)
    for rows, one in zip(plan, shares, strict=True):
        found[rows] = one
    return found


def _colours(rows: np.ndarray, pictures: Pictures) -> np.ndarray:
    return np.array([colour_shares(picture) for picture in pictures.reading([rows])(rows)])


def colour_outputs(shares: np.ndarray, split: Split, *, seed: int = 42) -> dict[str, np.ndarray]:
    """Held-out outputs of what knows no image, and of a linear model on the square roots of colour shares.

    Distances between square roots of shares weigh rare and common colours alike (Hellinger).

    Returns:
        Regression: ``mean`` and ``ridge_colours``, (N, 1). Classes: ``majority`` and ``logistic_colours``, (N, K).
    """
    roots = np.sqrt(shares)
    return linear_outputs(
        lambda train, held_out: (roots[train], roots[held_out]),
        split,
        name="colours",
        seed=seed,
        most_rows=_MOST_ROWS,
    )
