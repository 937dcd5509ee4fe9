"""The stage that says which words moved a text's prediction, and how two sentences act together.

Every row is explained by the model of the fold that did not see it: a model's view of a text that it was trained on
is partly a memory of that text's target.

A regression model is explained in the target's unit. A classifier is explained in probabilities, K values a token: a
value of 0.1 says that the words raised the class's probability by ten points, a token's values over all classes sum
to zero, and base value plus values gives the probability itself. Values of log-odds would add up as well, but no
reader of a report thinks in them, and far from one half they call large what hardly moves the probability.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seewhy import schema
from seewhy.failure import BAD_INPUT, REJECTED, Failure, Fatal
from seewhy.shapley import Explained, MaskedText, Predict, owen_values, text_masker, text_predict
from seewhy.words.spans import Span, levels, sentence_ranges, token_offsets

VERSION = 1
"""Goes up with every change of this code that changes a result; part of the name of the table."""

_TOLERANCE = 1e-3
"""Of a row's largest number, or of 1: float32 rounds a target around 1,000 by far less."""

Load = Callable[[str], tuple[Any, Any]]
"""folder -> (model, tokenizer): called with input_ids and attention_mask, the model gives (B, K); eval mode, CPU."""


class ExplainWords:
    """Row stage: `id`, `text`, `fold` (int32) in, schema.EXPLANATIONS out, the same ids in the same order.

    A text of spaces, or none, is bad input (`empty_text`), and so is one that the model answers with no finite number
    (`not_finite`). Values that do not add up to the prediction are a defect, and rejected (`not_additive`). A text that
    the model reads only in part is explained up to there, so that neither budget nor credit goes to words that the
    model never saw; `detail` then says how far, and the row is ok.

    Args:
        models: folder or URL of each fold's model, by fold.
        max_evals: masked texts a text, see shapley.owen_values; row_batch_size and rows_in_flight likewise.
        max_length: tokens that the model reads, special ones included. None: what the model was trained with, if it
            says so as ``model.facts.max_length``, else 512.
        device: None takes a GPU where there is one.
        tokens_per_batch: tokens of a batch, padding included. None: by device.
        autocast: a float type of torch for a GPU's computing, "bfloat16" for instance. It rounds the values.
        models_in_memory: loaded models that are kept, the longest unused goes first.
        load: how to read a model's folder. None: seewhy's own text models.

    Raises:
        ValueError: no models, or a setting out of range.
        Fatal: from a call: a row's fold has no model.
    """

    def __init__(
        self,
        *,
        models: Sequence[str],
        max_evals: int = 500,
        row_batch_size: int = 5,
        rows_in_flight: int = 64,
        max_length: int | None = None,
        device: str | None = None,
        tokens_per_batch: int | None = None,
        autocast: str | None = None,
        models_in_memory: int = 2,
        load: Load | None = None,
    ) -> None:
        if not models:
            raise ValueError("models=[]: one folder a fold is needed")
        if models_in_memory < 1:
            raise ValueError(f"models_in_memory={models_in_memory!r}: 1 or more is allowed")
        self._models = list(models)
        self._settings = {
            "max_evals": max_evals,
            "row_batch_size": row_batch_size,
            "rows_in_flight": rows_in_flight,
        }
        self._max_length = max_length
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokens_per_batch = tokens_per_batch
        self._autocast = None if autocast is None else getattr(torch, autocast)
        self._kept = models_in_memory
        self._load = load or _load_text_model
        self._loaded: OrderedDict[int, tuple[Predict, Any, int]] = OrderedDict()

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids, texts, folds = (batch[name].to_pylist() for name in (schema.ID, "text", "fold"))
        rows: dict[int, dict[str, Any]] = {}
        by_fold: dict[int, list[int]] = {}
        for i, (text, fold) in enumerate(zip(texts, folds, strict=True)):
            if fold is None or not 0 <= fold < len(self._models):
                raise Fatal(f"row {ids[i]} is of fold {fold}: there are models for folds 0 to {len(self._models) - 1}")
            if text is None or not text.strip():
                rows[i] = _failed(Failure(BAD_INPUT, "empty_text", "there are no words to explain"))
            else:
                by_fold.setdefault(fold, []).append(i)
        # the folds whose models are at hand first: loading one may push another out
        for fold in sorted(by_fold, key=lambda fold: (fold not in self._loaded, fold)):
            places = by_fold[fold]
            for i, row in zip(places, self._explained([texts[i] for i in places], fold=fold), strict=True):
                rows[i] = row
        found = [{schema.ID: id, "fold": folds[i], **rows[i]} for i, id in enumerate(ids)]
        return pa.Table.from_pylist(found, schema=schema.EXPLANATIONS)

    def _explained(self, texts: list[str], *, fold: int) -> list[dict[str, Any]]:
        predict, tokenizer, max_length = self._model(fold)
        read = [read_part(text, tokenizer=tokenizer, max_length=max_length) for text in texts]
        found = owen_values(read, predict=predict, tokenizer=tokenizer, **self._settings)
        return [_row(row, text=text, tokenizer=tokenizer) for row, text in zip(found, texts, strict=True)]

    def _model(self, fold: int) -> tuple[Predict, Any, int]:
        if fold not in self._loaded:
            while len(self._loaded) >= self._kept:
                self._loaded.popitem(last=False)
            model, tokenizer = self._load(self._models[fold])
            trained_with = getattr(getattr(model, "facts", None), "max_length", 512)
            max_length = self._max_length or trained_with
            predict = text_predict(
                model.to(self._device),
                tokenizer,
                device=self._device,
                max_length=max_length,
                tokens_per_batch=self._tokens_per_batch,
                softmax=True,
                autocast=self._autocast,
            )
            self._loaded[fold] = (predict, tokenizer, max_length)
        self._loaded.move_to_end(fold)
        return self._loaded[fold]


def _load_text_model(folder: str) -> tuple[Any, Any]:
    from seewhy.train.text_model import load_text_model

    return load_text_model(folder)


def read_part(text: str, *, tokenizer: Any, max_length: int) -> str:
    """The text up to the last word that fits whole into `max_length` tokens; all of it where all fits.

    A text without spaces near the limit is cut at a token's end. One whose tokenizer has no offsets is not cut here:
    the words that the model does not reach then get values of zero. A masked text can have a few tokens more than
    the text (a mask in the middle of a word leaves pieces that are spelt anew), which the model then cuts.
    """
    if not getattr(tokenizer, "is_fast", False):
        return text
    if len(tokenizer(text, truncation=False, verbose=False)["input_ids"]) <= max_length:
        return text
    cut = tokenizer(text, truncation=True, max_length=max_length, return_offsets_mapping=True)
    end = max(end for _, end in cut["offset_mapping"])
    space = max((i for i in range(end, max(0, end - 50), -1) if i < len(text) and text[i].isspace()), default=end)
    return text[:space]


def _row(found: Explained, *, text: str, tokenizer: Any) -> dict[str, Any]:
    if not np.isfinite(found.residual):
        return _failed(Failure(BAD_INPUT, "not_finite", f"the model answers {found.outputs.tolist()}"))
    allowed = _TOLERANCE * max(1.0, float(np.abs(found.outputs).max()), float(np.abs(found.base_values).max()))
    if found.residual > allowed:
        off = f"base value and values miss the prediction by {found.residual:.3g}, {allowed:.3g} is allowed"
        return _failed(Failure(REJECTED, "not_additive", off))
    offsets = token_offsets(found.text, tokenizer=tokenizer, segments=found.segments)
    summed = levels(found.text, offsets, found.values)
    cut = len(found.text) < len(text)
    return {
        "base_values": found.base_values.tolist(),
        "outputs": found.outputs.tolist(),
        "residual": found.residual,
        "evaluations": found.evaluations,
        "tokens": _spans(summed.tokens),
        "words": _spans(summed.words),
        "phrases": _spans(summed.phrases),
        "sentences": _spans(summed.sentences),
        schema.DETAIL: f"the model reads the first {len(found.text)} of {len(text)} characters" if cut else None,
    }


def _spans(spans: Sequence[Span]) -> list[dict[str, Any]]:
    return [{"text": s.text, "start": s.start, "end": s.end, "values": s.values.tolist()} for s in spans]


def _failed(failure: Failure) -> dict[str, Any]:
    return {schema.ERROR_KIND: failure.kind, schema.REASON: failure.reason, schema.DETAIL: failure.detail}


def sentence_interactions(
    text: str,
    *,
    predict: Predict,
    tokenizer: Any,
    output: int = 0,
    max_exact: int = 8,
    rounds: int = 8,
    seed: int = 42,
) -> np.ndarray:
    """How much two sentences say together beyond what each says alone.

    The Shapley interaction index (M. Grabisch and M. Roubens, An axiomatic approach to the concept of interaction
    among players in cooperative games, 1999) of sentences i and j among S, f(T) being the output for the text with
    the sentences outside T masked token by token:

        I_ij = sum over T without i, j of  t! (S - t - 2)! / (S - 1)!  *  [f(T+i+j) - f(T+i) - f(T+j) + f(T)]

    Above zero the two strengthen each other, below zero they say the same. The diagonal holds each sentence's own
    Shapley value; its sum is the output less the base value.

    Up to `max_exact` sentences all 2^S masked texts are read. Above, each round draws an order of the sentences at
    random and reads it as S paths in which every two sentences are neighbours twice, so that each round adds two
    unbiased samples to every pair, at about 2 S^2 masked texts.

    Args:
        text: its sentences are those of words.spans.
        output: which of the model's K outputs.

    Returns:
        (S, S) symmetric, in the output's unit; (0, 0) for a text of no sentence.
    """
    masked = MaskedText(text, text_masker(tokenizer))
    ranges = sentence_ranges(text)
    players = len(ranges)
    if not players:
        return np.zeros((0, 0))
    offsets = token_offsets(text, tokenizer=tokenizer, segments=masked.segments)
    ends = np.array([end for _, end in ranges])
    owner = np.minimum(np.searchsorted(ends, [start for start, _ in offsets], side="right"), players - 1)
    exact = players <= max_exact
    steps = _all_steps(players) if exact else _drawn_steps(players, rounds=rounds, seed=seed)
    coalitions = list(dict.fromkeys(t | extra for t, i, j, _ in steps for extra in _extras(i, j)))
    shown = np.array([[bool(coalition >> player & 1) for player in owner] for coalition in coalitions])
    values = np.asarray(predict(masked.strings(shown)), dtype=np.float64)[:, output]
    f = dict(zip(coalitions, values.tolist(), strict=True))
    found = np.zeros((players, players))
    for t, i, j, weight in steps:
        if i == j:
            found[i, i] += weight * (f[t | 1 << i] - f[t])
        else:
            found[i, j] += weight * (f[t | 1 << i | 1 << j] - f[t | 1 << i] - f[t | 1 << j] + f[t])
            found[j, i] = found[i, j]
    return found


_Step = tuple[int, int, int, float]
"""(T as bits, i, j, weight of the difference that i and j make to T); i == j for i alone; i < j otherwise."""


def _extras(i: int, j: int) -> tuple[int, ...]:
    return (0, 1 << i) if i == j else (0, 1 << i, 1 << j, 1 << i | 1 << j)


def _all_steps(players: int) -> list[_Step]:
    steps: list[_Step] = []
    for bits in range(2**players):
        absent = [player for player in range(players) if not bits >> player & 1]
        size = players - len(absent)
        for i in absent:
            steps.append((bits, i, i, 1 / (players * math.comb(players - 1, size))))
        for i, j in combinations(absent, 2):
            steps.append((bits, i, j, 1 / ((players - 1) * math.comb(players - 2, size))))
    return steps


def _drawn_steps(players: int, *, rounds: int, seed: int) -> list[_Step]:
    """Zigzag paths (k, k+1, k-1, k+2, ...) for k = 0 .. S-1, under a random naming of the sentences.

    Modulo S the neighbours of one path differ by 1, 2, ... S-1, each once, so that its S rotations join each pair
    twice. Each path by itself is a random order, hence the set before a pair of neighbours has the index's weights.
    """
    rng = np.random.default_rng(seed)
    zigzag = [(step + 1) // 2 * (1 if step % 2 else -1) for step in range(players)]
    steps: list[_Step] = []
    for _ in range(rounds):
        naming = rng.permutation(players).tolist()
        for k in range(players):
            path = [naming[(k + z) % players] for z in zigzag]
            before = 0
            for place, i in enumerate(path):
                steps.append((before, i, i, 1 / (rounds * players)))
                if place + 1 < players:
                    first, second = sorted((i, path[place + 1]))
                    steps.append((before, first, second, 1 / (2 * rounds)))
                before |= 1 << i
    return steps
