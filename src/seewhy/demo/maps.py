"""Heat maps over the demo's photos: what counts as hot, and the random maps that the tiny VLM is trained with.

The random maps stand for those of a real model, so they vary in grid, in sharpness and in what they lie on: objects,
places without any, smooth random fields, the maps of the random control, or nothing at all.
"""

from collections.abc import Sequence

import numpy as np

from seewhy.heat import random_heat
from seewhy.overlay import enlarged

HOT = 0.4
"""An object is under the hot region when the mean heat over its box is this or more; the hottest pixel has heat 1."""
UNSURE = 0.1
"""Boxes whose mean lies this close to HOT are left out when a description is graded."""

Box = tuple[float, float, float, float]


def box_means(heat: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """Mean of a map (height, width) over each box, (len(boxes),); a box is shares of width and height."""
    height, width = heat.shape
    means = []
    for left, top, right, bottom in boxes:
        rows = slice(int(np.floor(top * height)), max(1, int(np.ceil(bottom * height))))
        columns = slice(int(np.floor(left * width)), max(1, int(np.ceil(right * width))))
        means.append(heat[rows, columns].mean())
    return np.array(means)


def random_map(rng: np.random.Generator, boxes: Sequence[Box]) -> np.ndarray:
    """A map on a random grid of 4 to 16 cells a side, (h, w) float32, 0 to 1; its largest value is 1, or all are 0.

    Args:
        boxes: of the photo's objects; some maps are hot on one to three of them.
    """
    height = int(rng.integers(4, 17))
    width = height if rng.random() < 0.7 else int(rng.integers(4, 17))
    kind = rng.random()
    if kind < 0.03:
        return np.zeros((height, width), np.float32)
    if kind < 0.15:
        grid = _field(rng, height, width)
    elif kind < 0.7 and boxes:
        picked = rng.permutation(len(boxes))[: rng.integers(1, 4)]
        centres = [((boxes[i][0] + boxes[i][2]) / 2, (boxes[i][1] + boxes[i][3]) / 2) for i in picked]
        grid = _blobs(rng, height, width, [(x + rng.normal(0, 0.04), y + rng.normal(0, 0.03)) for x, y in centres])
    else:
        grid = _blobs(rng, height, width, rng.random((int(rng.integers(1, 4)), 2)).tolist())
    if rng.random() < 0.2:
        grid = random_heat(grid, str(rng.integers(2**32)))  # the control's map of the same values
    return (grid / grid.max()).astype(np.float32)


def _blobs(rng: np.random.Generator, height: int, width: int, centres: Sequence[Sequence[float]]) -> np.ndarray:
    """Bell curves around the centres (shares of width and height), a little noise, and nothing below zero."""
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width)[None] + 0.5) / width
    grid = np.zeros((height, width))
    for cx, cy in centres:
        wide = rng.uniform(0.1, 0.3)
        tall = wide * rng.uniform(0.6, 1.0)
        bell = np.exp(-(((x - cx) ** 2 / (2 * wide**2) + (y - cy) ** 2 / (2 * tall**2)) ** rng.uniform(0.8, 1.6)))
        grid = np.maximum(grid, bell * rng.uniform(0.6, 1.0)) if rng.random() < 0.5 else grid + bell
    noise = rng.uniform(0, 0.15)
    return np.maximum(grid + rng.normal(-0.5 * noise, noise, grid.shape), 0) + 1e-6


def _field(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth random field whose ranks are bent, so that between a tenth and half of it is hot."""
    coarse = rng.standard_normal((int(rng.integers(3, 7)), int(rng.integers(2, 6))))
    field = enlarged(coarse, height, width).ravel()
    ranks = np.empty(field.size)
    ranks[np.argsort(field)] = np.linspace(0, 1, field.size)
    return (ranks ** rng.uniform(0.8, 5.0)).reshape(height, width) + 1e-6
