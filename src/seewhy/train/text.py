"""Fine-tunes a text encoder, one model a fold, and scores what each says of the rows that it did not see.

The model and its files stand in text_model.py, its batches and loss in text_task.py, the folds and scores in
crossfit.py, the loop in fit.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from seewhy.train.baselines import Analyzer, word_outputs
from seewhy.train.crossfit import Crossfit, Launch, crossfit, split_rows
from seewhy.train.fit import Recipe
from seewhy.train.loop import OnEpoch
from seewhy.train.text_model import TextModel, find_encoder, load_text_model
from seewhy.train.text_task import TextFolds, tokenise
from seewhy.train.tracking import Tracking

__all__ = ["TextModel", "TextTraining", "load_text_model", "train_text"]


@dataclass(frozen=True)
class TextTraining(Crossfit):
    """What came of a training; its models are for load_text_model.

    Attributes:
        truncated: texts that were cut to the maximal length.
    """

    truncated: int


def train_text(
    table: pa.Table,
    *,
    kind: str,
    out: str,
    classes: Sequence[str] = (),
    encoder: str = "google-bert/bert-base-cased",
    revision: str | None = None,
    pooling: str = "first",
    max_length: int = 500,
    folds: int = 5,
    chosen_folds: Sequence[int] | None = None,
    seed: int = 42,
    epochs: int = 5,
    batch_size: int = 32,
    learning_rate: float = 5e-5,
    weight_decay: float = 0.01,
    warmup_fraction: float = 0.0,
    clip_norm: float = 1.0,
    keep: str = "best",
    launcher: str = "auto",
    workers: int = 1,
    cpus_per_worker: int | None = None,
    gpus_per_worker: float | None = None,
    max_failures: int = 3,
    tracking: Tracking | None = None,
    on_epoch: OnEpoch | None = None,
    words: Analyzer = "auto",
    resamples: int = 1000,
) -> TextTraining:
    """Fine-tunes one model a fold and scores what each says of the rows that it did not see.

    Args:
        table: columns `row`, `id`, `text`, `target` (numbers, or class names), none of them null, and optionally
            `group`; rows of one group, by default of one `id`, are never in different folds.
        kind: one of crossfit.KINDS.
        out: folder for checkpoints and models, any fsspec URL; a call with the same goes on where the last one ended.
        classes: allowed class names in the order of the outputs; by default those of the table, sorted.
        encoder: hub name, local folder, or ``tiny``, the packaged one.
        chosen_folds: folds to train; by default all. The rows of others get no prediction.
        words: how the baseline finds words, see baselines.word_outputs.

    The other arguments are those of fit.Recipe and loop.fit_folds.

    Raises:
        ValueError: a column, a target or an option is not as it should be.
        Fatal: no such encoder, or training diverged.
    """
    split = split_rows(
        table,
        kind=kind,
        columns=("row", "id", "text"),
        classes=classes,
        folds=folds,
        chosen_folds=chosen_folds,
        seed=seed,
    )
    texts = table["text"].to_pylist()
    found = find_encoder(encoder, revision=revision)
    limit = min(max_length, found.max_length)
    tokens = tokenise(found.tokenizer(), texts, max_length=limit)
    trained = crossfit(
        table,
        split,
        TextFolds(found, pooling, limit, split.classes, tokens, split.targets, split.folds, batch_size, seed),
        lambda: word_outputs(texts, split, words=words, seed=seed),
        model=encoder,
        recipe=Recipe(epochs, learning_rate, weight_decay, warmup_fraction, clip_norm, seed, keep),
        launch=Launch(out, launcher, workers, cpus_per_worker, gpus_per_worker, max_failures, tracking, on_epoch),
        resamples=resamples,
    )
    return TextTraining(**vars(trained), truncated=tokens.truncated)
