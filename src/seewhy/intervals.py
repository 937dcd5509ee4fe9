"""How sure a share is."""

import numpy as np

_Z = 1.959963984540054  # of a 95% interval


def wilson(hits: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of the share hits / total, NaN where the total is 0.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927: with p = hits / n,
        (p + z^2/2n -+ z sqrt(p (1 - p) / n + z^2/4n^2)) / (1 + z^2/n)
    It stays within 0..1, and 3 of 3 do not make a certainty.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.asarray(total, dtype=np.float64)
        p = hits / n
        middle, half = p + _Z**2 / (2 * n), _Z * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        low, high = (middle - half) / (1 + _Z**2 / n), (middle + half) / (1 + _Z**2 / n)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)
