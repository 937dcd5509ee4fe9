"""Heat maps as they are stored and shown: a byte a cell and one scale; and random maps to hold real ones against."""

import numpy as np
import xxhash
from scipy.ndimage import gaussian_filter


def compact(raw: np.ndarray) -> tuple[bytes, float]:
    """(h, w) of 0 or more -> a byte a cell, row by row, 255 for the largest value; and that value, the scale.

    Zero stays zero: a place that says nothing is told from the place that says least. A map of zeros has scale 0.
    """
    scale = float(raw.max())
    if not scale > 0:
        return bytes(raw.size), 0.0
    return np.rint(raw * (255 / scale)).astype(np.uint8).tobytes(), scale


def heat_of(cells: bytes, height: int, width: int) -> np.ndarray:
    """The map of `compact` as (height, width) float32 of 0 to 1; times its scale it is the raw map, rounded.

    Raises:
        ValueError: not height x width bytes.
    """
    if len(cells) != height * width:
        raise ValueError(f"a map of {len(cells)} bytes is not one of {height} x {width}")
    return np.frombuffer(cells, dtype=np.uint8).reshape(height, width).astype(np.float32) / 255


def random_heat(heat: np.ndarray, seed: str) -> np.ndarray:
    """A map of the very same values in other places: as smooth as a picture's regions, and blind to the picture.

    The values are dealt out by the ranks of a Gaussian random field whose correlation reaches about a fifth of each
    side. The field has no edges (what leaves on one side enters on the other), so that no place is hot more often
    than another.

    Args:
        heat: (h, w).
        seed: equal seeds give equal places.
    """
    draws = np.random.default_rng(xxhash.xxh3_64_intdigest(seed.encode())).normal(size=heat.shape)
    field = gaussian_filter(draws, [side / 10 for side in heat.shape], mode="wrap")
    found = np.empty(heat.size, dtype=heat.dtype)
    found[np.argsort(field, axis=None, kind="stable")] = np.sort(heat, axis=None)
    return found.reshape(heat.shape)
