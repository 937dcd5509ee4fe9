"""The folds' image models at hand, and the pixels that they read: what the stages over images have in common."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import torch

from seewhy import schema
from seewhy.cam_layers import Layer, find_layer
from seewhy.failure import BAD_INPUT, Failure, Fatal
from seewhy.images import BadImage, decode
from seewhy.train.image_model import ImageModel, load_image_model

Load = Callable[[str], ImageModel]
"""folder -> model, in eval mode on the CPU."""


class FoldModels:
    """The folds' models, read when first needed, and few of them kept.

    Args:
        models: folder or URL of each fold's model, by fold; empty for a fold without one.
        layer: dotted path of the layer to explain. None: by architecture.
        device: None takes a GPU where there is one.
        kept: loaded models that are kept, the longest unused goes first.
        load: None reads seewhy's own image models.
    """

    def __init__(
        self, models: Sequence[str], *, layer: str | None, device: str | None, kept: int, load: Load | None
    ) -> None:
        if not models:
            raise ValueError("models=[]: one folder a fold is needed")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._urls = list(models)
        self._layer = layer
        self._kept = positive("models_in_memory", kept)
        self._load = load or load_image_model
        self._loaded: OrderedDict[int, tuple[ImageModel, Layer]] = OrderedDict()

    def by_fold(self, batch: pa.Table) -> list[tuple[int, list[int]]]:
        """Folds and the places of their rows; those whose models are at hand first: loading pushes others out.

        Raises:
            Fatal: a row's fold has no model.
        """
        places: dict[int, list[int]] = {}
        columns = (batch.column(name).to_pylist() for name in (schema.ID, "fold"))
        for i, (row, fold) in enumerate(zip(*columns, strict=True)):
            if fold is None or not 0 <= fold < len(self._urls) or not self._urls[fold]:
                there = [place for place, url in enumerate(self._urls) if url]
                raise Fatal(f"row {row} is of fold {fold}: there are models for folds {there}")
            places.setdefault(fold, []).append(i)
        return sorted(places.items(), key=lambda item: (item[0] not in self._loaded, item[0]))

    def get(self, fold: int) -> tuple[ImageModel, Layer]:
        """The fold's model, on the device, and its layer."""
        if fold not in self._loaded:
            while len(self._loaded) >= self._kept:
                self._loaded.popitem(last=False)
            model = self._load(self._urls[fold]).to(self.device).eval()
            self._loaded[fold] = (model, find_layer(model.network, self._layer))
        self._loaded.move_to_end(fold)
        return self._loaded[fold]

    def inputs(self, model: ImageModel, pixels: Sequence[torch.Tensor]) -> torch.Tensor:
        """(3, H, W) uint8 of each -> (B, 3, H, W) normalised, on the device; channels last, a third faster on a CPU."""
        batch = torch.stack(list(pixels)).to(self.device)
        return model.normalise(batch.contiguous(memory_format=torch.channels_last))


class PixelReader:
    """Bytes to a model's pixels, in threads."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(positive("decode_threads", threads))

    def batches(
        self, model: ImageModel, images: Mapping[int, bytes | None], size: int
    ) -> Iterator[tuple[dict[int, torch.Tensor], dict[int, Failure]]]:
        """By place, (3, H, W) uint8 or why not, `size` images at a time; whole pictures are held by the threads alone.

        While the model works on one batch, the threads read on.
        """
        read = self._pool.map(lambda data: _pixels(model, data), images.values())
        places = list(images)
        for first in range(0, len(places), size):
            found = {place: next(read) for place in places[first : first + size]}
            good = {place: one for place, one in found.items() if isinstance(one, torch.Tensor)}
            yield good, {place: one for place, one in found.items() if isinstance(one, Failure)}


def readable(model: ImageModel, outputs: torch.Tensor) -> torch.Tensor:
    """(B, K) float32: probabilities of classes; a number as it is."""
    return outputs.float().softmax(dim=1) if model.facts.classes else outputs.float()


def positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name}={value!r}: 1 or more is allowed")
    return value


def _pixels(model: ImageModel, data: bytes | None) -> torch.Tensor | Failure:
    if data is None:
        return Failure(BAD_INPUT, "no_image", "the row holds no image bytes")
    try:
        return model.pixels([decode(data)])[0]
    except BadImage as error:
        return error.failure
