"""The stages that say where in an image a prediction came from, and how far that can be believed.

Every image is explained by the model of the fold that did not see it. A map lies over the whole image, because the
model reads the whole image, resized and not cropped.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seewhy import schema
from seewhy.cam import METHODS, activation_maps
from seewhy.cam_layers import Layer
from seewhy.failure import BAD_INPUT, Failure, Fatal
from seewhy.faithfulness import areas, drawn_anew, rank_correlations
from seewhy.fold_models import FoldModels, Load, PixelReader, positive, readable
from seewhy.heat import compact, heat_of, random_heat
from seewhy.images import decode
from seewhy.overlay import encode_jpeg, overlay, reduced
from seewhy.train.image_model import ImageModel, head_weights

VERSION = 1
"""Goes up with every change of this code that changes a map; part of the name of the table."""
CHECK_VERSION = 1
"""Goes up with every change of this code that changes a figure of `CheckMaps`."""

PREDICTED, TRUE, CLASS = "predicted", "true", "class:"


def class_asked(target: str) -> str | None:
    """The class that a `target` of ExplainImages names; None where each row has its own."""
    return None if target in (PREDICTED, TRUE) else target.removeprefix(CLASS)


class ExplainImages:
    """Row stage: `id`, `image` (bytes), `fold` (int32) in, schema.MAPS out, the same ids in the same order.

    An image that cannot be decoded fails by the reasons of `images.decode`, one that is missing as `no_image`, one
    that the model answers with no finite number as `not_finite`.

    Args:
        models: folder or URL of each fold's model, by fold; empty for a fold without one.
        method: one of cam.METHODS.
        layer: dotted path of the layer in the network. None: by architecture.
        target: which class is explained: "predicted"; "true", the row's, from a column `target` of class indices (a
            row without one fails as `no_target`); or the name of one, which a class named `predicted` or `true`, or
            one whose name begins with `class:`, must have `class:` in front of. A number has but one output, whatever
            is asked.
        device: None takes a GPU where there is one.
        batch_size: images that the model reads at once.
        decode_threads: images that are decoded and resized at once, beside the model.
        models_in_memory: loaded models that are kept, the longest unused goes first.
        load: how to read a model's folder. None: seewhy's own image models.

    Raises:
        ValueError: no models, or a setting out of range.
        Fatal: from a call: a row's fold has no model, the model has no such class, or its layer is not known or cannot
            be explained.
    """

    def __init__(
        self,
        *,
        models: Sequence[str],
        method: str = "gradcam",
        layer: str | None = None,
        target: str = PREDICTED,
        device: str | None = None,
        batch_size: int = 32,
        decode_threads: int = 4,
        models_in_memory: int = 2,
        load: Load | None = None,
    ) -> None:
        self._method = _known(method)
        self._target = target
        self._batch_size = positive("batch_size", batch_size)
        self._models = FoldModels(models, layer=layer, device=device, kept=models_in_memory, load=load)
        self._reader = PixelReader(decode_threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        images, folds = batch.column("image").to_pylist(), batch.column("fold").to_pylist()
        targets = batch.column("target").to_pylist() if "target" in batch.column_names else [None] * len(images)
        rows: dict[int, dict[str, Any]] = {}
        for fold, places in self._models.by_fold(batch):
            model, layer = self._models.get(fold)
            asked = {i: self._asked(model.facts.classes, targets[i]) for i in places}
            rows |= {i: _failed(one) for i, one in asked.items() if isinstance(one, Failure)}
            wanted = {i: images[i] for i in places if i not in rows}
            for good, failed in self._reader.batches(model, wanted, self._batch_size):
                rows |= {i: _failed(failure) for i, failure in failed.items()}
                if good:
                    found = self._explained(model, layer, list(good.values()), [asked[i] for i in good])
                    rows |= dict(zip(good, found, strict=True))
        return _table(batch, {i: {**row, "fold": folds[i]} for i, row in rows.items()}, schema.MAPS)

    def _asked(self, classes: Sequence[str], target: int | None) -> int | Failure | None:
        """The output to explain; None for the largest."""
        if not classes or self._target == PREDICTED:
            return None
        name = class_asked(self._target)
        if name is None:
            return Failure(BAD_INPUT, "no_target", "the row has no class to explain") if target is None else target
        if name not in classes:
            raise Fatal(f"there is no class {name!r} to explain; the model has {', '.join(classes)}")
        return list(classes).index(name)

    def _explained(
        self, model: ImageModel, layer: Layer, pixels: list[torch.Tensor], explain: list[Any]
    ) -> list[dict[str, Any]]:
        inputs = self._models.inputs(model, pixels)
        found = activation_maps(model, inputs, layer=layer, method=self._method, explain=explain)
        outputs = readable(model, found.outputs).cpu().numpy()
        rows = []
        for raw, output, explained in zip(found.maps.cpu().numpy(), outputs, found.explained.tolist(), strict=True):
            if not (np.isfinite(raw).all() and np.isfinite(output).all()):
                rows.append(_failed(Failure(BAD_INPUT, "not_finite", f"the model answers {output.tolist()}")))
                continue
            cells, scale = compact(raw)
            height, width = raw.shape
            made = {"map": cells, "height": height, "width": width, "scale": scale}
            rows.append({"outputs": output.tolist(), "explained": explained, **made})
        return rows


class CheckMaps:
    """Row stage: `id`, `image`, `fold`, `map`, `height`, `width`, `explained` in, schema.FAITHFULNESS out, in order.

    A row without a map fails as `no_map`. Where a map is the same everywhere there is no hottest pixel: such a row is
    ok, its figures are null and `detail` says so. `randomised` alone is null where no drawn head gives a map.

    Args:
        models, method, layer, device, batch_size, decode_threads, models_in_memory, load: as of the `ExplainImages`
            that made the maps.
        steps: of deletion and insertion, see faithfulness.areas.
        random_maps: that each map is held against, 1 or more.
        head_draws: heads drawn anew, whose rank correlations are averaged, 1 or more.
    """

    def __init__(
        self,
        *,
        models: Sequence[str],
        method: str = "gradcam",
        layer: str | None = None,
        device: str | None = None,
        batch_size: int = 32,
        decode_threads: int = 4,
        models_in_memory: int = 2,
        load: Load | None = None,
        steps: int = 16,
        random_maps: int = 3,
        head_draws: int = 3,
    ) -> None:
        self._method = _known(method)
        self._batch_size = positive("batch_size", batch_size)
        self._steps = positive("steps", steps)
        self._random_maps = positive("random_maps", random_maps)
        self._head_draws = positive("head_draws", head_draws)
        self._models = FoldModels(models, layer=layer, device=device, kept=models_in_memory, load=load)
        self._reader = PixelReader(decode_threads)
        self._head: tuple[str, ...] | None = None  # names, the same in all folds

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids, images, cells, explained = (batch.column(n).to_pylist() for n in (schema.ID, "image", "map", "explained"))
        shapes = list(zip(batch.column("height").to_pylist(), batch.column("width").to_pylist(), strict=True))
        rows = {i: _failed(_NO_MAP) for i, one in enumerate(cells) if one is None}
        for fold, places in self._models.by_fold(batch):
            model, layer = self._models.get(fold)
            wanted = {i: images[i] for i in places if i not in rows}
            for good, failed in self._reader.batches(model, wanted, self._batch_size):
                rows |= {i: _failed(failure) for i, failure in failed.items()}
                if good:
                    heats = [heat_of(cells[i], *shapes[i]) for i in good]
                    seeds, outputs = [ids[i] for i in good], [explained[i] for i in good]
                    found = self._checked(model, layer, list(good.values()), heats, outputs, seeds)
                    rows |= dict(zip(good, found, strict=True))
        return _table(batch, rows, schema.FAITHFULNESS)

    def _checked(
        self,
        model: ImageModel,
        layer: Layer,
        pixels: list[torch.Tensor],
        heats: list[np.ndarray],
        explained: list[int],
        seeds: list[str],
    ) -> list[dict[str, Any]]:
        inputs = self._models.inputs(model, pixels)
        correlations = self._randomised(model, layer, inputs, heats, explained)
        rows: list[dict[str, Any]] = []
        for one, heat, output, seed, correlation in zip(inputs, heats, explained, seeds, correlations, strict=True):
            if heat.min() == heat.max():
                rows.append({schema.DETAIL: "the map is the same everywhere: no pixel is the hottest"})
                continue
            others = [random_heat(heat, f"{seed} {number}") for number in range(self._random_maps)]
            found = areas(
                lambda some: readable(model, model(some)),
                one,
                np.stack([heat, *others]),
                output,
                steps=self._steps,
                batch_size=self._batch_size,
            )
            rows.append(
                {
                    "deletion": found.deletion[0],
                    "insertion": found.insertion[0],
                    "deletion_random": found.deletion[1:].mean(),
                    "insertion_random": found.insertion[1:].mean(),
                    "randomised": None if np.isnan(correlation) else float(correlation),
                }
            )
        return rows

    def _randomised(
        self, model: ImageModel, layer: Layer, inputs: torch.Tensor, heats: list[np.ndarray], explained: list[int]
    ) -> np.ndarray:
        """(B,) the mean over the drawn heads that give a map; NaN where none does."""
        if self._head is None:
            self._head = head_weights(model.network.config)
        weights = [model.network.get_parameter(name) for name in self._head]
        matrices = [weight for weight in weights if weight.ndim > 1]
        found = []
        for seed in range(self._head_draws):
            with drawn_anew(matrices, seed):
                maps = activation_maps(model, inputs, layer=layer, method=self._method, explain=explained).maps
            if any(heat.shape != maps.shape[1:] for heat in heats):
                raise Fatal(f"the maps to check are not of layer {layer.name!r}: it gives {tuple(maps.shape[1:])}")
            found.append(rank_correlations(np.stack(heats), maps.cpu().numpy()))
        known = np.isfinite(found)
        count = known.sum(axis=0)
        return np.divide(np.where(known, found, 0).sum(axis=0), count, out=np.full(len(heats), np.nan), where=count > 0)


def overlay_jpeg(image: bytes, cells: bytes, height: int, width: int, *, size_px: int = 640) -> bytes:
    """The photo under its map, as a JPEG whose longer side is `size_px` pixels at most.

    Args:
        image: the encoded photo.
        cells, height, width: `map`, `height` and `width` of its row in schema.MAPS.

    Raises:
        BadImage: as `images.decode`.
    """
    return encode_jpeg(overlay(reduced(decode(image), size_px), heat_of(cells, height, width)))


_NO_MAP = Failure(BAD_INPUT, "no_map", "the row holds no map to check")


def _table(batch: pa.Table, rows: dict[int, dict[str, Any]], columns: pa.Schema) -> pa.Table:
    ids = batch.column(schema.ID).to_pylist()
    return pa.Table.from_pylist([{schema.ID: id, **rows[i]} for i, id in enumerate(ids)], schema=columns)


def _failed(failure: Failure) -> dict[str, Any]:
    return {schema.ERROR_KIND: failure.kind, schema.REASON: failure.reason, schema.DETAIL: failure.detail}


def _known(method: str) -> str:
    if method not in METHODS:
        raise ValueError(f"method={method!r}: {', '.join(METHODS)} are allowed")
    return method
