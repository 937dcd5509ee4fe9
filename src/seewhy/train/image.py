"""Fine-tunes an image classifier, one model a fold, and scores what each says of the rows that it did not see.

The model and its files stand in image_model.py, its batches and loss in image_task.py, where the pixels come from in
pictures.py, the folds and scores in crossfit.py, the loop in fit.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from seewhy.ray_cluster import connect
from seewhy.train.augment import Augmentation
from seewhy.train.classes import CALIBRATION, CONFUSION, calibration, confusion
from seewhy.train.colours import all_colours, colour_outputs
from seewhy.train.crossfit import Crossfit, Launch, Split, crossfit, split_rows
from seewhy.train.fit import Recipe
from seewhy.train.image_model import ImageModel, find_image_model, load_image_model
from seewhy.train.image_task import ImageFolds
from seewhy.train.loop import OnEpoch
from seewhy.train.pictures import Pictures
from seewhy.train.tracking import Tracking

__all__ = ["ImageModel", "ImageTraining", "load_image_model", "train_image"]


@dataclass(frozen=True)
class ImageTraining(Crossfit):
    """What came of a training; its models are for load_image_model.

    Attributes:
        confusion: classes.CONFUSION of the model and of the colour baseline; empty for regression.
        calibration: classes.CALIBRATION of both; empty for regression.
    """

    confusion: pa.Table
    calibration: pa.Table


def train_image(
    table: pa.Table,
    *,
    parts: Sequence[str],
    kind: str,
    out: str,
    classes: Sequence[str] = (),
    model: str = "microsoft/resnet-50",
    revision: str | None = None,
    scratch: bool = False,
    height: int | None = None,
    width: int | None = None,
    augment: bool | Augmentation = True,
    folds: int = 5,
    chosen_folds: Sequence[int] | None = None,
    seed: int = 42,
    epochs: int = 5,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    head_factor: float = 10.0,
    weight_decay: float = 0.01,
    warmup_fraction: float = 0.1,
    clip_norm: float = 1.0,
    keep: str = "best",
    launcher: str = "auto",
    workers: int = 1,
    cpus_per_worker: int | None = None,
    gpus_per_worker: float | None = None,
    max_failures: int = 3,
    tracking: Tracking | None = None,
    on_epoch: OnEpoch | None = None,
    max_bytes: int = 1 << 30,
    window: int = 2048,
    resamples: int = 1000,
) -> ImageTraining:
    """Fine-tunes one model a fold and scores what each says of the rows that it did not see.

    Args:
        table: columns `row`, `id` (image id), `target` (numbers, or class names), `part` and `position` of the image in
            `parts`, none of them null, and optionally `group`; rows of one group, by default of one `id`, are never in
            different folds.
        parts: URLs of Parquet parts with a column `image` of encoded bytes, which all workers can reach.
        kind: one of crossfit.KINDS.
        out: folder for checkpoints and models, any fsspec URL; a call with the same goes on where the last one ended.
        classes: allowed class names in the order of the outputs; by default those of the table, sorted.
        model: hub name, local folder, or ``tiny``, the packaged one.
        scratch: take the model's configuration only and begin with random weights.
        height, width: pixels of the model's input; by default its own.
        augment: whether, or how, pictures are drawn differently in each epoch.
        chosen_folds: folds to train; by default all. The rows of others get no prediction.
        learning_rate: of the pretrained weights; with `scratch` 10 times the default and more are right.
        head_factor: the new head, which begins from nothing, learns at so many times that rate (different rates for
            different layers: Howard and Ruder, ULMFiT, ACL 2018).
        max_bytes: of decoded pictures kept in memory, in each process.
        window: rows among which each batch is mixed, see pictures.shuffled_parts.

    The other arguments are those of fit.Recipe and loop.fit_folds.

    Raises:
        ValueError: a column, a target or an option is not as it should be.
        Fatal: no such model, it lacks weights or does not take pictures of this size, or training diverged.
    """
    split = split_rows(
        table,
        kind=kind,
        columns=("row", "id", "part", "position"),
        classes=classes,
        folds=folds,
        chosen_folds=chosen_folds,
        seed=seed,
    )
    backbone = find_image_model(model, revision=revision, scratch=scratch, height=height, width=width)
    backbone.network(split.classes)  # raises what would else be raised by every worker
    pictures = Pictures(
        parts,
        table["part"].to_numpy().astype(np.int64),
        table["position"].to_numpy().astype(np.int64),
        table["id"],
        height=backbone.height,
        width=backbone.width,
        max_bytes=max_bytes,
        window=window,
    )
    if launcher != "here":
        connect()
    rivals = colour_outputs(all_colours(pictures, here=launcher == "here"), split, seed=seed)
    how = Augmentation() if augment is True else augment or None
    trained = crossfit(
        table,
        split,
        ImageFolds(backbone, split, pictures, _digest(table["id"]), batch_size, how, seed),
        lambda: rivals,
        model=model,
        recipe=Recipe(
            epochs, learning_rate, weight_decay, warmup_fraction, clip_norm, seed, keep, new_factor=head_factor
        ),
        launch=Launch(out, launcher, workers, cpus_per_worker, gpus_per_worker, max_failures, tracking, on_epoch),
        resamples=resamples,
    )
    confused, calibrated = _by_class(model, trained, split, rivals)
    return ImageTraining(**vars(trained), confusion=confused, calibration=calibrated)


def _digest(ids: pa.ChunkedArray) -> str:
    """Of the ids in their order."""
    whole = xxhash.xxh128()
    for start in range(0, len(ids), 100_000):
        whole.update("".join(f"{one}\n" for one in ids.slice(start, 100_000).to_pylist()).encode())
    return whole.hexdigest()


def _by_class(
    model: str, trained: Crossfit, split: Split, rivals: Mapping[str, np.ndarray]
) -> tuple[pa.Table, pa.Table]:
    """Confusion and calibration of the model and of the baseline that looks at the pictures, on the same rows."""
    if not split.classes:
        return CONFUSION.empty_table(), CALIBRATION.empty_table()
    held_out = split.held_out()
    target = split.targets[held_out]
    said = trained.predictions["outputs"].combine_chunks().flatten().to_numpy().reshape(-1, split.width)
    outputs = {model: said, "logistic_colours": rivals["logistic_colours"][held_out]}
    return (
        pa.concat_tables([confusion(name, target, of, split.classes) for name, of in outputs.items()]),
        pa.concat_tables([calibration(name, target, of) for name, of in outputs.items()]),
    )
