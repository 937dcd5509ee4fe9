"""What a model has to beat: no text or image at all, and a linear model of what can be counted in one.

Fitted within each fold, as the model is.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV

from seewhy.train.crossfit import Split
from seewhy.train.folds import grouped_folds

Analyzer = str | Callable[[str], list[str]]
Features = Callable[[np.ndarray, np.ndarray], tuple[Any, Any] | None]
"""(training rows, held-out rows) -> their features, two matrices; None where there is nothing to count."""

ANALYZERS = ("auto", "word", "char")
_ALPHAS = np.logspace(-1, 3, 9)
_COSTS = np.logspace(-1, 2, 4)
_FEATURES = 50_000
_ONE_SPLIT_FROM = 20_000  # rows from which one split is enough to choose the penalty
# Scripts that put no spaces between words: kana, CJK ideographs, Thai.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f]")


def word_outputs(
    texts: Sequence[str], split: Split, *, words: Analyzer = "auto", seed: int = 42
) -> dict[str, np.ndarray]:
    """Held-out outputs of what knows no text, and of a linear model on counts of the words; see `linear_outputs`.

    Args:
        words: ``word``, ``char`` (1 to 3 characters, for scripts without spaces), ``auto`` to choose by script, or a
            function from a text to its words.

    Returns:
        Regression: ``mean`` and ``ridge_words``, (N, 1). Classes: ``majority`` and ``logistic_words``, (N, K).
    """
    every = np.asarray(texts, dtype=object)

    def counted(train: np.ndarray, held_out: np.ndarray) -> tuple[Any, Any] | None:
        vectoriser = _vectoriser(words, texts)
        try:
            known = vectoriser.fit_transform(every[train])
        except ValueError:  # no words in any training text: scikit-learn calls the vocabulary empty
            return None
        return known, vectoriser.transform(every[held_out])

    return linear_outputs(counted, split, name="words", seed=seed)


def linear_outputs(
    features: Features, split: Split, *, name: str, seed: int = 42, most_rows: int | None = None
) -> dict[str, np.ndarray]:
    """Held-out outputs of two baselines, shaped as the model's; the rows of folds that are not chosen keep NaN.

    Args:
        features: what a linear model is fitted to, made within each fold from its training rows alone.
        name: of the features.
        most_rows: fit the linear model to a seeded sample of so many training rows at most.

    Returns:
        Regression: ``mean`` and ``ridge_<name>``, (N, 1). Classes: ``majority`` and ``logistic_<name>``, (N, K)
        probabilities. ``mean`` and ``majority`` know only the training rows' targets, so that a mean's R2 is a little
        below 0: it is not the mean of the rows that it is scored on.
    """
    target, classes = split.targets, len(split.classes)
    plain, fitted = ("majority", f"logistic_{name}") if classes else ("mean", f"ridge_{name}")
    found = {one: np.full((len(target), split.width), np.nan) for one in (plain, fitted)}
    for fold in split.chosen:
        train, held_out = np.flatnonzero(split.folds != fold), np.flatnonzero(split.folds == fold)
        constant = _constant(target[train], classes)
        found[plain][held_out] = constant
        found[fitted][held_out] = constant
        if most_rows is not None and len(train) > most_rows:
            train = np.sort(np.random.default_rng([seed, fold]).choice(train, most_rows, replace=False))
        if classes and len(np.unique(target[train])) == 1:
            continue
        made = features(train, held_out)
        if made is None:
            continue
        model = _search(target[train], split.groups[train], classes, seed).fit(made[0], target[train])
        if classes:
            found[fitted][held_out] = 0.0  # a class that the training rows lack
            found[fitted][np.ix_(held_out, model.classes_.astype(int))] = model.predict_proba(made[1])
        else:
            found[fitted][held_out, 0] = model.predict(made[1])
    return found


def _constant(target: np.ndarray, classes: int) -> np.ndarray:
    if not classes:
        return np.array([target.mean()])
    return np.bincount(target.astype(int), minlength=classes) / len(target)


def _vectoriser(words: Analyzer, texts: Sequence[str]) -> TfidfVectorizer:
    if isinstance(words, str) and words not in ANALYZERS:
        raise ValueError(f"words is {words!r}; allowed: {', '.join(ANALYZERS)}, or a function")
    if words == "auto":
        sample = "".join(texts[:200])
        words = "char" if len(_UNSPACED.findall(sample)) > 0.3 * len(sample) else "word"
    if words == "char":
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), max_features=_FEATURES, sublinear_tf=True)
    if words == "word":
        return TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", max_features=_FEATURES, sublinear_tf=True)
    return TfidfVectorizer(analyzer=words, max_features=_FEATURES, sublinear_tf=True)


def _search(
    target: np.ndarray, groups: np.ndarray, classes: int, seed: int
) -> GridSearchCV | Ridge | LogisticRegression:
    """The linear model, its penalty chosen by folds of groups within the training rows where that is possible."""
    model = LogisticRegression(max_iter=1000) if classes else Ridge()
    count = len(set(groups))
    if count < 2:
        return model
    inner = grouped_folds(groups.tolist(), folds=min(5, count), seed=seed)
    splits = [(np.flatnonzero(inner != one), np.flatnonzero(inner == one)) for one in range(inner.max() + 1)]
    if classes:
        splits = [split for split in splits if len(np.unique(target[split[0]])) > 1]
    if len(target) >= _ONE_SPLIT_FROM:
        splits = splits[:1]
    if not splits:
        return model
    if classes:
        return GridSearchCV(model, {"C": _COSTS}, scoring="accuracy", cv=splits)
    return GridSearchCV(model, {"alpha": _ALPHAS}, scoring="neg_root_mean_squared_error", cv=splits)
