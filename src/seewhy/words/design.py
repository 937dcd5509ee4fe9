"""The columns that a probe is fitted to: counted words as they are, and scores brought to one scale."""

import numpy as np
from scipy import sparse


def design(
    words: sparse.csr_matrix, scores: np.ndarray | None, rows: np.ndarray, *, scaled_on: np.ndarray
) -> sparse.csr_matrix:
    """(M, V + S) of the rows asked for: their words, then their scores less the mean, over the standard deviation.

    Both are those of the rows `scaled_on`, which are the rows of the fit: a held-out row has no part in its own scale.
    A score that is the same in all of these is 0 everywhere.

    Args:
        words: (N, V).
        scores: (N, S) finite; None for none.
        rows, scaled_on: indices into N.
    """
    if scores is None:
        return words[rows]
    known = scores[scaled_on]
    spread = known.std(axis=0)
    columns = (scores[rows] - known.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    return sparse.hstack([words[rows], sparse.csr_matrix(columns)], format="csr")
