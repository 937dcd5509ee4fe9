"""The probe: which words tell a class, or move a number, and how far each can be trusted.

A sparse linear model (linear.py) is fitted to the words of all texts; its words and weights are the table. Beside each
word stands what no model is needed for (evidence.py), how often the model chooses it again from other texts
(stability.py), and how it does on texts that it was not chosen by:

    hits / total                    texts of the class that hold the word / texts that hold it, over all texts
    held_out_hits / held_out_total  the same, over the folds whose own probe, fitted without the fold's texts, gave the
                                    word a weight of the same sign. So no text counts for a fold's choice that it had a
                                    part in, and a word that the probes without some folds did not choose has fewer
                                    texts here than in total. 0 / 0: it was chosen only with all texts at hand. The
                                    share is still somewhat too good: all texts had a part in the word being in the
                                    table at all. Of words without any bearing those in the table keep about two thirds
                                    of what hits / total flatters them by.

Whether the words tell anything at all is a matter of the held-out scores (held_out.py): beside those of a guess that
knows no words, and beside the whole procedure with the targets dealt out anew by lot, which must come out no better
than the guess. The same arguments give the same result on any number of workers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from seewhy.train import scores
from seewhy.train.folds import group_numbers, grouped_folds
from seewhy.words.evidence import presence
from seewhy.words.held_out import Models, Texts, fit_models
from seewhy.words.probe_table import probe_examples, probe_table
from seewhy.words.stability import Stability, selection_penalty, stability_selection

WORDS = "words"
"""What the scores call a probe of words."""
PERMUTED = "words, targets permuted"
"""And the same of permuted targets: `permuted_name` of it."""

FEATURES: dict[str, Callable[[sparse.csr_matrix], sparse.csr_matrix]] = {
    "presence": presence,
    "counts": lambda counts: counts.astype(np.float64),
    "log_counts": lambda counts: counts.astype(np.float64).log1p(),
}


@dataclass(frozen=True)
class Probe:
    """Attributes:
    table: schema.PROBE, every word with a weight, by output and rank.
    examples: probe_table.EXAMPLES, of those words.
    scores: schema.SCORES of the probe, of ``majority`` or ``mean``, and of the probe of permuted targets.
    verdict: the words against majority or mean, by macro_f1 or rmse.
    outputs: (N, K) float32 held-out probabilities, or (N, 1) numbers.
    folds: (N,) int32, where each text was held out.
    penalty: of the model of the table.
    fold_penalties: fold -> penalty of the model behind its `outputs`.
    stability: of all words, those without a weight too; under a penalty of its own, see stability.py.
    classes: names of the outputs; empty for numbers.
    """

    table: pa.Table
    examples: pa.Table
    scores: pa.Table
    verdict: scores.Verdict
    outputs: np.ndarray
    folds: np.ndarray
    penalty: float
    fold_penalties: dict[int, float]
    stability: Stability
    classes: tuple[str, ...]


def permuted_name(called: str) -> str:
    """What the scores call the probe of permuted targets."""
    return f"{called}, targets permuted"


def fit_probe(
    counts: sparse.csr_matrix,
    words: Sequence[str],
    target: np.ndarray,
    *,
    ids: Sequence[str],
    classes: Sequence[str] = (),
    target_name: str = "target",
    groups: Sequence[object] | None = None,
    fold_of_text: np.ndarray | None = None,
    folds: int = 5,
    inner_folds: int = 3,
    multinomial: bool = False,
    features: str = "presence",
    scores_of_text: np.ndarray | None = None,
    score_names: Sequence[str] = (),
    called: str = WORDS,
    subsamples: int = 100,
    resamples: int = 1000,
    most_examples: int = 5,
    seed: int = 42,
    here: bool = False,
) -> Probe:
    """Fits the probe, on the cluster where this process has joined one.

    Args:
        counts: (N, V) how often each word stands in each text, of counts.count_table.
        words: V of them.
        target: (N,) finite numbers, or where `classes` are given the index of each text's class.
        ids: N of them, for the examples.
        target_name: what the table calls a number's only output.
        groups: texts of one group (of one image) are always on one side of a split. None: each text is its own.
        fold_of_text: (N,) where each text is held out, to compare with another model's predictions fold by fold.
            None: dealt as for the trainings, by `folds` and `seed`.
        inner_folds: of the training texts, to choose the penalty by; of 20,000 texts or more one fold is enough.
        multinomial: one model of all classes instead of one a class against the rest.
        features: ``presence`` (1 or 0): whether a text names it, as hits count it; ``counts``, or ``log_counts``,
            log(1 + count), where texts are long and repeat what matters.
        scores_of_text: (N, S) finite numbers that join the words as they are: how well each of S concepts fits what
            the text is about. A fit sees them less the mean and over the standard deviation of its own texts.
        score_names: S of them.
        called: what the scores call the probe.
        subsamples: of the stability selection.
        resamples: of the bootstraps of scores and differences.
        most_examples: hits, and as many misses, for each word.
        here: without the cluster.

    Raises:
        ValueError: lengths that differ, a target or an option that is not allowed, too few groups.
    """
    names = tuple(classes)
    target = _checked(counts, words, target, ids, names, features)
    if (0 if scores_of_text is None else scores_of_text.shape[1]) != len(score_names):
        raise ValueError(f"{len(score_names)} score_names for other scores")
    numbers, _ = group_numbers(range(len(target)) if groups is None else groups)
    texts = Texts(
        x=FEATURES[features](counts),
        target=target,
        permuted=np.random.default_rng([seed, 1]).permutation(target),
        groups=numbers,
        folds=_folds(numbers, target, fold_of_text, classes=bool(names), folds=folds, seed=seed),
        outputs=max(1, len(names)),
        method="lasso" if not names else "multinomial" if multinomial and len(names) > 2 else "one_vs_rest",
        inner_folds=inner_folds,
        seed=seed,
        scores=scores_of_text,
    )
    models = fit_models(texts, here=here)
    stability = _stability(texts, models, subsamples=subsamples, here=here)
    present = presence(counts)
    outputs = names or (target_name,)
    compared, verdict = _scores(texts, models, resamples, called)
    return Probe(
        table=probe_table(
            texts, present, words, outputs, models, stability, resamples=resamples, score_names=score_names
        ),
        examples=probe_examples(texts, present, words, outputs, models, ids=ids, most=most_examples),
        scores=compared,
        verdict=verdict,
        outputs=models.real.outputs.astype(np.float32),
        folds=texts.folds,
        penalty=models.penalty,
        fold_penalties=models.real.penalties,
        stability=stability,
        classes=names,
    )


def _checked(
    counts: sparse.csr_matrix,
    words: Sequence[str],
    target: np.ndarray,
    ids: Sequence[str],
    classes: tuple[str, ...],
    features: str,
) -> np.ndarray:
    if features not in FEATURES:
        raise ValueError(f"features is {features!r}; allowed: {', '.join(FEATURES)}")
    if counts.shape != (len(target), len(words)) or len(ids) != len(target):
        raise ValueError(f"counts of {counts.shape} for {len(target)} targets, {len(ids)} ids and {len(words)} words")
    target = np.asarray(target, dtype=np.float64)
    if wrong := np.flatnonzero(~np.isfinite(target)).tolist():
        raise ValueError(f"text {ids[wrong[0]]} has the target {target[wrong[0]]}; it must be finite")
    if len(classes) == 1:
        raise ValueError(f"classes={list(classes)}: 2 or more are needed, or none for numbers")
    if classes and not np.isin(target, np.arange(len(classes))).all():
        raise ValueError(f"a target is none of 0 to {len(classes) - 1}, the indices of {list(classes)}")
    return target


def _folds(
    groups: np.ndarray, target: np.ndarray, given: np.ndarray | None, *, classes: bool, folds: int, seed: int
) -> np.ndarray:
    if given is None:
        return grouped_folds(groups.tolist(), folds=folds, seed=seed, classes=target.tolist() if classes else None)
    given = np.asarray(given, dtype=np.int32)
    _, first = np.unique(groups, return_index=True)
    if len(given) != len(groups) or (given[first][groups] != given).any():
        raise ValueError("fold_of_text holds out texts of one group in different folds, or is of another length")
    if len(np.unique(given)) < 2:
        raise ValueError("fold_of_text has 1 fold: cross-validation needs 2 or more")
    return given


def _stability(texts: Texts, models: Models, *, subsamples: int, here: bool) -> Stability:
    given: dict[str, Any] = {
        "groups": texts.groups,
        "method": texts.method,
        "outputs": texts.outputs,
        "seed": texts.seed,
        "scores": texts.scores,
        "here": here,
    }
    penalty = selection_penalty(texts.x, texts.target, at_least=models.penalty, **given)
    return stability_selection(texts.x, texts.target, penalty=penalty, subsamples=subsamples, **given)


def _scores(texts: Texts, models: Models, resamples: int, called: str) -> tuple[pa.Table, scores.Verdict]:
    plain = "mean" if texts.outputs == 1 else "majority"
    guess = np.zeros((len(texts.target), texts.outputs))
    for fold in models.real.signs:
        known = texts.target[texts.folds != fold]
        shares = np.bincount(known.astype(np.int64), minlength=texts.outputs) / len(known) if plain != "mean" else 0
        guess[texts.folds == fold] = known.mean() if plain == "mean" else shares
    settings: dict[str, Any] = {
        "groups": texts.groups.tolist(),
        "resamples": resamples,
        "seed": texts.seed,
        "unranked": ["mean"],
    }
    real = scores.compare(texts.target, {plain: guess, called: models.real.outputs}, **settings)
    lot = scores.compare(texts.permuted, {permuted_name(called): models.permuted.outputs}, **settings)
    metric = "rmse" if texts.outputs == 1 else "macro_f1"
    verdict = scores.beats_baselines(real, model=called, baselines=[plain], metric=metric)
    return pa.concat_tables([real.table, lot.table]), verdict
