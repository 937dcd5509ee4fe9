"""Linear models with few words: L1-penalised logistic regression for classes, the Lasso for numbers.

With x_i the counts of text i of n, the weights w and the intercept b minimise

    one against the rest   for each class k   1/n sum_i log(1 + exp(-s_i (x_i w_k + b_k))) + penalty |w_k|_1
                           with s_i = 1 for texts of the class and -1 for all others
    multinomial            1/n sum_i -log softmax(x_i W + b)[y_i] + penalty |W|_1
    lasso                  1/2n sum_i (y_i - x_i w - b)^2 + penalty |w|_1

(R. Tibshirani, Regression shrinkage and selection via the Lasso, 1996). The loss is a mean, so that one penalty means
the same for a whole and for its half. Words are not standardised: a rare word has to tell more than a frequent one.

One against the rest is left to liblinear, by far the quickest of scikit-learn's solvers at it. It has no intercept of
its own but a column of constants, whose weight it penalises too: with 100 for the constant what is left of that penalty
is a hundredth. The Lasso is scikit-learn's coordinate descent, the multinomial has a solver here.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.linear_model import Lasso, LogisticRegression

METHODS = ("one_vs_rest", "multinomial", "lasso")

_CONSTANT = 100.0  # liblinear's column for the intercept
_SEED = 0  # of the order in which liblinear visits words; the optimum does not depend on it
_TOLERANCE = 0.01  # of the penalty, by which a slope of the multinomial's may miss its optimum
_MOST_STEPS, _CHECKED_EVERY, _POWERS = 5000, 10, 40


@dataclass(frozen=True)
class Fit:
    """Attributes:
    method: one of METHODS.
    weights: (K, V).
    intercepts: (K,).
    """

    method: str
    weights: np.ndarray
    intercepts: np.ndarray

    def outputs(self, x: sparse.csr_matrix) -> np.ndarray:
        """(N, K): probabilities that sum to 1, or (N, 1) numbers.

        One against the rest: each class's own probability, divided by their sum.
        """
        scores = x @ self.weights.T + self.intercepts
        if self.method == "lasso":
            return scores
        if self.method == "multinomial":
            return _softmax(scores)
        odds = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
        return odds / odds.sum(axis=1, keepdims=True)


def fit(
    x: sparse.csr_matrix,
    target: np.ndarray,
    *,
    method: str,
    outputs: int,
    penalty: float,
    start: Fit | None = None,
) -> Fit:
    """Fits one of METHODS.

    A class that no text is of, or every text, gets no words: its intercept alone says how rare it is.

    Args:
        x: (N, V) float64.
        target: (N,) numbers, or the index of the class.
        outputs: K, the number of classes; 1 for numbers.
        start: the fit of a neighbouring penalty, from which multinomial and Lasso set out.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; allowed: {', '.join(METHODS)}")
    if method == "lasso":
        return _lasso(x, target, penalty, start)
    if method == "multinomial" and outputs > 2:
        return _multinomial(x, target.astype(np.int64), outputs, penalty, start)
    return _one_vs_rest(x, target.astype(np.int64), outputs, penalty)


def largest_penalty(x: sparse.csr_matrix, target: np.ndarray, *, outputs: int) -> float:
    """The least penalty under which no word has a weight: the largest slope of the loss where all weights are 0.

    The same for all methods but the multinomial's half of two classes, which are one: max |x' (y - mean y)| / n.
    """
    y = target[:, None] if outputs == 1 else np.eye(outputs)[target.astype(np.int64)]
    slopes = np.abs(x.T @ (y - y.mean(axis=0))) / len(target)
    return float(slopes.max(initial=0.0))


def penalty_path(x: sparse.csr_matrix, target: np.ndarray, *, outputs: int, count: int, smallest: float) -> np.ndarray:
    """(count,) penalties from the largest down to `smallest` times that, in equal ratios."""
    return largest_penalty(x, target, outputs=outputs) * np.geomspace(1.0, smallest, count)


def mean_loss(target: np.ndarray, outputs: np.ndarray) -> float:
    """Log-loss of (N, K) probabilities, or mean squared error of (N, 1) numbers."""
    if outputs.shape[1] == 1:
        return float(np.mean((target - outputs[:, 0]) ** 2))
    said = outputs[np.arange(len(target)), target.astype(np.int64)]
    return float(-np.log(np.clip(said, 1e-15, 1.0)).mean())


def _one_vs_rest(x: sparse.csr_matrix, target: np.ndarray, classes: int, penalty: float) -> Fit:
    weights, intercepts = np.zeros((classes, x.shape[1])), np.zeros(classes)
    for one in range(1 if classes == 2 else 0, classes):
        mine = target == one
        if mine.all() or not mine.any() or not x.shape[1] or penalty <= 0:
            share = (mine.sum() + 0.5) / (len(mine) + 1)
            intercepts[one] = np.log(share / (1 - share))
            continue
        model = LogisticRegression(
            l1_ratio=1.0,
            solver="liblinear",
            C=1 / (penalty * len(mine)),
            intercept_scaling=_CONSTANT,
            max_iter=1000,
            random_state=_SEED,
        ).fit(x, mine)
        weights[one], intercepts[one] = model.coef_[0], model.intercept_[0]
    if classes == 2:  # the second class against the first says all
        weights[0], intercepts[0] = -weights[1], -intercepts[1]
    return Fit("one_vs_rest", weights, intercepts)


def _multinomial(x: sparse.csr_matrix, target: np.ndarray, classes: int, penalty: float, start: Fit | None) -> Fit:
    """Proximal gradient steps with momentum (A. Beck and M. Teboulle, A fast iterative shrinkage-thresholding
    algorithm, 2009), which starts afresh where it points uphill (B. O'Donoghue and E. Candes, Adaptive restart for
    accelerated gradient schemes, 2015). A step is 1 over half the largest eigenvalue of [x 1]'[x 1] / n (D. Boehning,
    Multinomial logistic regression algorithm, 1992). It ends where no slope misses its optimum by more than a hundredth
    of the penalty.

    scikit-learn's saga, the other solver at hand, moves the intercepts of sparse data by steps a hundred times shorter,
    and stops long before they have arrived.
    """
    counts = np.bincount(target, minlength=classes)
    truth, rows = np.eye(classes)[target], len(target)
    with_constant = sparse.hstack([x, np.ones((rows, 1))], format="csr")
    across = with_constant.T.tocsr()
    weights = np.zeros((with_constant.shape[1], classes))  # the last row holds the intercepts
    weights[-1] = np.log((counts + 0.5) / (rows + 0.5 * classes))
    if start is not None:
        weights[:-1], weights[-1] = start.weights.T, start.intercepts
    step = 2 * rows / _largest_eigenvalue(across, with_constant)
    threshold = np.full((len(weights), 1), penalty)
    threshold[-1] = 0.0
    ahead, speed = weights, 1.0
    for count in range(_MOST_STEPS):
        if count % _CHECKED_EVERY == 0:
            slope = across @ (_softmax(with_constant @ weights) - truth) / rows
            if _missed(weights, slope, threshold) <= _TOLERANCE * penalty:
                break
        slope = across @ (_softmax(with_constant @ ahead) - truth) / rows
        moved = ahead - step * slope
        moved = np.sign(moved) * np.maximum(np.abs(moved) - step * threshold, 0.0)
        if np.vdot(ahead - moved, moved - weights) > 0:
            speed = 1.0
        faster = (1 + np.sqrt(1 + 4 * speed**2)) / 2
        ahead, weights, speed = moved + (speed - 1) / faster * (moved - weights), moved, faster
    return Fit("multinomial", weights[:-1].T.copy(), weights[-1].copy())


def _softmax(scores: np.ndarray) -> np.ndarray:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def _missed(weights: np.ndarray, slope: np.ndarray, threshold: np.ndarray) -> float:
    """How far the weights are from optimal: there a weight's slope is the penalty, against its sign, or less at 0."""
    at_weight = np.abs(slope + threshold * np.sign(weights))
    return float(np.where(weights != 0, at_weight, np.abs(slope) - threshold).max(initial=0.0))


def _largest_eigenvalue(across: sparse.csr_matrix, x: sparse.csr_matrix) -> float:
    """Of x'x, by power iteration; a little more, for it is met from below."""
    vector = np.ones(x.shape[1]) / np.sqrt(x.shape[1])  # counts are not negative: nor is the eigenvector
    size = 0.0
    for _ in range(_POWERS):
        vector = across @ (x @ vector)
        size = float(np.linalg.norm(vector))
        vector /= size
    return 1.02 * size


def _lasso(x: sparse.csr_matrix, target: np.ndarray, penalty: float, start: Fit | None) -> Fit:
    if not x.shape[1] or penalty <= 0:
        return Fit("lasso", np.zeros((1, x.shape[1])), np.array([target.mean()]))
    model = Lasso(alpha=penalty, max_iter=10_000, tol=1e-6, warm_start=True)
    if start is not None:
        model.coef_ = start.weights[0].copy()
    model.fit(x.tocsc(), target)
    return Fit("lasso", model.coef_[None, :], np.array([float(model.intercept_)]))
