"""How sure a share is, and where the interval of a bootstrap ends."""

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

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


def bootstrap_tails(groups: np.ndarray) -> np.ndarray:
    """Share of a bootstrap's draws that is cut off at either end for a 95% interval, of so many groups.

    Percentiles of few groups lie too close: the interval is widened as T. Hesterberg, What teachers should know about
    the bootstrap (The American Statistician, 2015) has it, to the tails Phi(-sqrt(n / (n - 1)) t) with t the 97.5%
    point of Student's t for n - 1 degrees of freedom. One group alone has no spread to go by: it counts as two.
    """
    n = np.maximum(groups, 2).astype(np.float64)
    return norm.cdf(-np.sqrt(n / (n - 1)) * student.ppf(0.975, n - 1))
