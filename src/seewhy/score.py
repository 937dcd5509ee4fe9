"""The score stage: image bytes in, one logit and one probability a text out."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import torch

from seewhy import schema, siglip
from seewhy.failure import BAD_INPUT, TRANSIENT, Failure
from seewhy.images import BadImage, decode
from seewhy.siglip import PLAIN, PROBABILITY, Prepared, TextImageModel

VERSION = 1
"""Goes up with every change of what this stage makes of a model's logits."""


class Score:
    """Row stage: `id`, `image` (bytes) in, schema.SCORED out, the same ids in the same order.

    Lists are in the order of `texts`. An image that cannot be decoded fails by the reasons of `images.decode`, one
    that is missing as `no_image`, one that the model cannot take as `siglip.prepared` says, one that it answers with
    no finite number as `not_finite`. Out of memory: the batch is halved until it fits; an image that does not fit
    alone fails as transient `out_of_memory`.

    Args:
        texts: one or more, in any language that the model knows.
        templates: prompts with `{}` where the text goes; with several the mean of their embeddings counts.
        model, revision, dtype, device: see `siglip.TextImageModel`.
        batch_size: images that the model sees at once.
        decode_threads: images that are decoded and resized at once, beside the model.

    Raises:
        ValueError: no texts, or a setting out of range.
        Fatal: the model cannot be had, or a text is longer than it reads.
    """

    def __init__(
        self,
        *,
        model: str,
        texts: Sequence[str],
        templates: Sequence[str] = PLAIN,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int = 32,
        decode_threads: int = 4,
    ) -> None:
        if batch_size < 1 or decode_threads < 1:
            raise ValueError(f"batch_size={batch_size}, decode_threads={decode_threads}: 1 or more is allowed")
        self._model = TextImageModel(model=model, revision=revision, dtype=dtype, device=device)
        self._texts = self._model.text_embeddings(texts, templates=templates)
        self._pool = ThreadPoolExecutor(decode_threads)
        self._batch_size = batch_size

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows: list[dict[str, Any]] = []
        for read in self._batches(batch.column("image")):
            places = [i for i, one in enumerate(read) if not isinstance(one, Failure)]
            scored = iter(self._fit([read[i] for i in places]))
            rows += [_failed(one) if isinstance(one, Failure) else next(scored) for one in read]
        ids = batch.column(schema.ID).to_pylist()
        named = [{schema.ID: key, **row} for key, row in zip(ids, rows, strict=True)]
        return pa.Table.from_pylist(named, schema=schema.SCORED)

    def _batches(self, images: pa.ChunkedArray) -> Iterator[list[Any]]:
        """Prepared images or failures, `batch_size` at a time; the threads read one batch ahead of the model."""
        ahead: Iterator[Any] | None = None
        for first in range(0, len(images), self._batch_size):
            due, ahead = ahead, self._pool.map(self._read, images.slice(first, self._batch_size))
            if due is not None:
                yield list(due)
        if ahead is not None:
            yield list(ahead)

    def _read(self, image: pa.Scalar) -> Prepared | Failure:
        if not image.is_valid:
            return Failure(BAD_INPUT, "no_image", "the row holds no image bytes")
        try:
            return self._model.prepared(decode(image.as_py()))
        except BadImage as error:
            return error.failure
        except MemoryError as error:
            return Failure(TRANSIENT, "out_of_memory", str(error))

    def _fit(self, images: list[Prepared]) -> list[dict[str, Any]]:
        if not images:
            return []
        try:
            return self._scored(images)
        except (torch.OutOfMemoryError, MemoryError) as error:
            failure = Failure(TRANSIENT, "out_of_memory", str(error))
        # Outside the handler: while it runs, its traceback keeps the failed batch's tensors alive.
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(images) == 1:
            return [_failed(failure)]
        half = len(images) // 2
        return self._fit(images[:half]) + self._fit(images[half:])

    def _scored(self, images: list[Prepared]) -> list[dict[str, Any]]:
        logits = self._model.logits(self._model.image_embeddings(images), self._texts)
        both = logits.cpu(), self._model.probabilities(logits).cpu(), logits.isfinite().all(dim=1).cpu()
        return [
            {"logits": one.tolist(), "probabilities": chances.tolist()} if finite else _failed(_NOT_FINITE)
            for one, chances, finite in zip(*both, strict=True)
        ]


def identity(
    *,
    model: str,
    texts: Sequence[str],
    templates: Sequence[str] = PLAIN,
    revision: str | None = None,
    dtype: str = "auto",
) -> dict[str, object]:
    """All that changes a score, for the name of its table; reads no weights of a hub.

    ``revision`` comes out as the exact commit, a folder's files as a digest; ``dtype`` stays as it was asked for. The
    other arguments of ``Score`` change nothing but float noise.

    Raises:
        Fatal: no such model, none that may be read, or one that cannot score texts.
    """
    config, named = siglip.described(model, revision)
    return {
        "stage": "score",
        "stage_code": VERSION,
        "code": siglip.VERSION,
        **named,
        "dtype": dtype,
        "probability": PROBABILITY[config.model_type],
        "texts": list(texts),
        "templates": list(templates),
    }


_NOT_FINITE = Failure(BAD_INPUT, "not_finite", "the model answers with no finite number")


def _failed(failure: Failure) -> dict[str, Any]:
    return {schema.ERROR_KIND: failure.kind, schema.REASON: failure.reason, schema.DETAIL: failure.detail}
