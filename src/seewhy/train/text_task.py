"""The task of telling a target from a text: tokens, batches of similar length, loss and scores."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import nn

from seewhy.train.scores import epoch_scores
from seewhy.train.task import Batch, MakeBatch
from seewhy.train.text_model import Encoder, TextFacts, TextModel

_CHUNK = 4096  # texts tokenised at once
_POOLS = 50  # at most so many batches are drawn together and sorted by length


@dataclass(frozen=True)
class Tokens:
    """Token ids of many texts, end to end: text i is ``ids[starts[i] : starts[i + 1]]``.

    Attributes:
        ids: (tokens,) int32.
        starts: (N + 1,) int64.
        pad: the id that fills a batch up.
        truncated: texts that were cut to the maximal length.
    """

    ids: np.ndarray
    starts: np.ndarray
    pad: int
    truncated: int

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        return self.starts[rows + 1] - self.starts[rows]

    def batch(self, rows: np.ndarray) -> Batch:
        """`input_ids` and `attention_mask`, (B, T) int64, as wide as the longest of these texts."""
        lengths = self.lengths(rows)
        places = np.arange(max(1, int(lengths.max())))
        mask = places < lengths[:, None]
        ids = np.full(mask.shape, self.pad, dtype=np.int64)
        ids[mask] = self.ids[(self.starts[rows, None] + places)[mask]]
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def tokenise(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> Tokens:
    """Tokens with the tokenizer's special ones, each text cut to `max_length` tokens in all."""
    pieces: list[np.ndarray] = []
    truncated = 0
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        ids = tokenizer(chunk, truncation=True, max_length=max_length)["input_ids"]
        # Only a text as long as the limit can have been cut; whether it was, its uncut length tells.
        full = [text for text, one in zip(chunk, ids, strict=True) if len(one) >= max_length]
        if full:
            uncut = tokenizer(full, truncation=False, verbose=False)["input_ids"]
            truncated += sum(len(one) > max_length for one in uncut)
        pieces += [np.asarray(one, dtype=np.int32) for one in ids]
    starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
    pad = tokenizer.pad_token_id
    return Tokens(np.concatenate(pieces), starts, 0 if pad is None else int(pad), truncated)


def length_grouped(lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Positions of each batch: shuffled, texts of similar length together, every position once.

    Positions are shuffled and dealt into pools of several batches, sorted by length within a pool and cut; then the
    batches are shuffled. There are four pools or more where there are enough rows, so that a batch's make-up changes
    from epoch to epoch. Batches are as even as can be: no row is dropped and no batch is a stray of one or two.
    """
    count = len(lengths)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(count)
    batches_a_pool = max(1, min(_POOLS, count // (4 * batch_size)))
    pools = np.array_split(order, max(1, round(count / (batches_a_pool * batch_size))))
    batches: list[np.ndarray] = []
    for pool in pools:
        ordered = pool[np.argsort(lengths[pool], kind="stable")]
        batches += np.array_split(ordered, -(-len(ordered) // batch_size))
    return [batches[index] for index in rng.permutation(len(batches))]


@dataclass(frozen=True)
class TextFolds:
    """What all folds of a training share; called with a fold it gives that fold's task.

    Attributes:
        targets: (N,) float64, the number, or the index into `classes`.
        folds: (N,) int32, where each row is held out.
    """

    encoder: Encoder
    pooling: str
    max_length: int
    classes: tuple[str, ...]
    tokens: Tokens
    targets: np.ndarray
    folds: np.ndarray
    batch_size: int
    seed: int

    def __call__(self, fold: int) -> "TextTask":
        return TextTask(self, fold)


class TextTask:
    """One fold: the task (see fit.Task) of telling the targets of its held-out rows from their texts.

    Regression: mean squared error over the training rows' variance, so that the learning rate suits any unit; the best
    epoch by RMSE. Classes: cross-entropy; the best epoch by log loss.
    """

    def __init__(self, shared: TextFolds, fold: int) -> None:
        self.shared = shared
        self.train = np.flatnonzero(shared.folds != fold)
        self.valid = np.flatnonzero(shared.folds == fold)
        self.valid_rows = len(self.valid)
        self.width = max(1, len(shared.classes))
        self.select_by = "log_loss" if shared.classes else "rmse"
        targets = shared.targets[self.train]
        mean, sd = (0.0, 1.0) if shared.classes else (float(targets.mean()), float(targets.std()) or 1.0)
        self.facts = TextFacts(shared.pooling, shared.classes, mean, sd, shared.max_length)
        self.identity = self._hash(fold)

    def _hash(self, fold: int) -> str:
        shared = self.shared
        digest = xxhash.xxh128()
        facts = [fold, shared.encoder.identity, shared.pooling, shared.max_length, shared.batch_size, shared.seed]
        digest.update(json.dumps([*facts, shared.classes, shared.tokens.pad]).encode())
        for array in (shared.tokens.ids, shared.tokens.starts, shared.targets, shared.folds):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def build_model(self) -> TextModel:
        return TextModel(self.shared.encoder.model(), self.facts)

    def new_parameters(self, model: nn.Module) -> list[str]:
        return ["head.weight", "head.bias"]

    def train_plan(self, epoch: int) -> list[np.ndarray]:
        shared = self.shared
        lengths = shared.tokens.lengths(self.train)
        return length_grouped(lengths, batch_size=shared.batch_size, seed=shared.seed, epoch=epoch)

    def train_batches(self, epoch: int, plan: list[np.ndarray]) -> MakeBatch:
        return self._train_batch

    def _train_batch(self, rows: np.ndarray) -> Batch:
        picked = self.train[rows]
        targets = torch.from_numpy(self.shared.targets[picked])
        batch = self.shared.tokens.batch(picked)
        return {**batch, "target": targets.long() if self.shared.classes else targets.float()}

    def valid_plan(self) -> list[np.ndarray]:
        order = np.argsort(self.shared.tokens.lengths(self.valid), kind="stable")
        return np.array_split(order, -(-len(order) // (2 * self.shared.batch_size)))

    def valid_batches(self, plan: list[np.ndarray]) -> MakeBatch:
        return lambda rows: self.shared.tokens.batch(self.valid[rows])

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        out = model(batch["input_ids"], batch["attention_mask"])
        if self.shared.classes:
            return nn.functional.cross_entropy(out, batch["target"], reduction="none")
        return ((out[:, 0] - batch["target"]) / self.facts.sd) ** 2

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        out = model(batch["input_ids"], batch["attention_mask"])
        return out.softmax(dim=1) if self.shared.classes else out

    def score(self, outputs: np.ndarray) -> dict[str, float]:
        return epoch_scores(self.shared.targets[self.valid], outputs)

    def save(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, TextModel)
        model.save_pretrained(folder)
        self.shared.encoder.tokenizer().save_pretrained(folder)
