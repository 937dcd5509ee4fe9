"""The task of telling a target from a picture: pixels, what is drawn differently in each epoch, loss and scores."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import nn

from seewhy.train.augment import Augmentation, augmented, draws
from seewhy.train.crossfit import Split
from seewhy.train.image_model import ImageBackbone, ImageModel, as_pixels, head_weights, normalised, unit
from seewhy.train.pictures import Pictures, shuffled_parts
from seewhy.train.scores import epoch_scores
from seewhy.train.task import Batch, MakeBatch


@dataclass(frozen=True)
class ImageFolds:
    """What all folds of a training share; called with a fold it gives that fold's task.

    Attributes:
        ids: digest of the image ids of all rows, in order.
        augmentation: None trains on the pictures as they are.
    """

    backbone: ImageBackbone
    split: Split
    pictures: Pictures
    ids: str
    batch_size: int
    augmentation: Augmentation | None
    seed: int

    def __call__(self, fold: int) -> "ImageTask":
        return ImageTask(self, fold)


class ImageTask:
    """One fold: the task (see fit.Task) of telling the targets of its held-out rows from their pictures.

    Regression: mean squared error over the training rows' variance, so that the learning rate suits any unit; the best
    epoch by RMSE. Classes: cross-entropy; the best epoch by log loss.
    """

    def __init__(self, shared: ImageFolds, fold: int) -> None:
        split = shared.split
        self.shared = shared
        self.train = np.flatnonzero(split.folds != fold)
        self.valid = np.flatnonzero(split.folds == fold)
        self.valid_rows = len(self.valid)
        self.width = split.width
        self.select_by = "log_loss" if split.classes else "rmse"
        targets = split.targets[self.train]
        mean, sd = (0.0, 1.0) if split.classes else (float(targets.mean()), float(targets.std()) or 1.0)
        self.facts = shared.backbone.facts(split.classes, mean, sd)
        self.identity = self._hash(fold)

    def _hash(self, fold: int) -> str:
        shared, pictures = self.shared, self.shared.pictures
        told = [fold, shared.backbone.identity, shared.backbone.scratch, asdict(self.facts), shared.ids]
        told += [shared.batch_size, shared.augmentation and asdict(shared.augmentation), shared.seed, pictures.window]
        digest = xxhash.xxh128(json.dumps(told).encode())
        arrays = [shared.split.targets, shared.split.folds]
        if len(self.train) > pictures.window:  # only then does the order in which they are stored decide on batches
            arrays += [pictures.part, pictures.position]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def build_model(self) -> ImageModel:
        network = self.shared.backbone.network(self.shared.split.classes)
        # Convolutions are faster so, and a batch of pictures lies so in memory already.
        return ImageModel(network, self.facts).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def new_parameters(self, model: nn.Module) -> list[str]:
        assert isinstance(model, ImageModel)
        return (
            [] if self.shared.backbone.scratch else [f"network.{name}" for name in head_weights(model.network.config)]
        )

    def train_plan(self, epoch: int) -> list[np.ndarray]:
        shared = self.shared
        return shuffled_parts(
            shared.pictures.part[self.train],
            batch_size=shared.batch_size,
            window=shared.pictures.window,
            seed=shared.seed,
            epoch=epoch,
        )

    def train_batches(self, epoch: int, plan: list[np.ndarray]) -> MakeBatch:
        reading = self.shared.pictures.reading([self.train[rows] for rows in plan])

        def make(rows: np.ndarray) -> Batch:
            picked = self.train[rows]
            targets = torch.from_numpy(self.shared.split.targets[picked])
            batch = {"pixels": as_pixels(reading(picked))}
            batch["target"] = targets.long() if self.shared.split.classes else targets.float()
            if self.shared.augmentation is not None:
                batch["drawn"] = draws(picked, seed=self.shared.seed, epoch=epoch)
            return batch

        return make

    def valid_plan(self) -> list[np.ndarray]:
        return self.shared.pictures.sequential(self.valid, 2 * self.shared.batch_size)

    def valid_batches(self, plan: list[np.ndarray]) -> MakeBatch:
        reading = self.shared.pictures.reading([self.valid[rows] for rows in plan])
        return lambda rows: {"pixels": as_pixels(reading(self.valid[rows]))}

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        with torch.autocast(batch["pixels"].device.type, enabled=False):
            pictures = unit(batch["pixels"])
            if "drawn" in batch:
                assert self.shared.augmentation is not None
                pictures = augmented(pictures, batch["drawn"], self.shared.augmentation)
            pixels = normalised(pictures, self.facts).contiguous(memory_format=torch.channels_last)
        out = model(pixels)
        if self.facts.classes:
            return nn.functional.cross_entropy(out, batch["target"], reduction="none")
        return ((out[:, 0] - batch["target"]) / self.facts.sd) ** 2

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        # In full precision: these are the outputs that the saved model is held to.
        with torch.autocast(batch["pixels"].device.type, enabled=False):
            out = model(normalised(unit(batch["pixels"]), self.facts))
        return out.softmax(dim=1) if self.facts.classes else out

    def score(self, outputs: np.ndarray) -> dict[str, float]:
        return epoch_scores(self.shared.split.targets[self.valid], outputs)

    def save(self, model: nn.Module, folder: Path) -> None:
        assert isinstance(model, ImageModel)
        model.save_pretrained(folder)
