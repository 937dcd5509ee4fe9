"""The caption stage: image bytes in, one text an image out."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from seewhy import schema, vlm
from seewhy.failure import BAD_INPUT, Failure
from seewhy.images import MIMES
from seewhy.vlm.base import DEFAULT_PROMPT, Answer, Media, Request, answered

VERSION = 1
"""Goes up with every change of what this stage makes of a backend's answer."""


class Caption:
    """Captions images: ``__call__(batch)`` with columns ``id`` and ``image`` -> ``schema.CAPTIONS``.

    The same ids come out, in the same order. A row without an image is bad input (``no_image``); what the backend could
    not answer carries its failure; the text of all others is tidied, see ``tidy``.

    Args:
        backend: a name in ``seewhy.vlm.LOADERS``.
        prompt: the instruction; None for the backend's default; empty to caption without one, where the model can.
        options: flat keyword arguments of that backend (model, revision, temperature, batch_size, ...).

    Raises:
        Fatal: the backend cannot be had; the message says what to do.
    """

    def __init__(self, *, backend: str, prompt: str | None = None, **options: Any) -> None:
        self._backend = vlm.load(backend, **options)
        self._requests = CaptionRequests(prompt=self._backend.default_prompt if prompt is None else prompt)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return answered_rows(batch.column(schema.ID).to_pylist(), self._requests(batch), self._backend.generate)


SHOWN = ("prompt",)
"""Arguments of ``Caption`` that are not the backend's."""


class CaptionRequests:
    """What is asked about a block of rows: ``__call__(batch)`` with columns ``id`` and ``image`` -> a Request a row, or
    why there is none, in their order. Without a prompt they are asked ``DEFAULT_PROMPT``.

    Where there are columns ``source`` and ``format`` too, a row without an image is asked about by its gs:// URI.
    """

    def __init__(self, *, prompt: str | None = None) -> None:
        self._prompt = DEFAULT_PROMPT if prompt is None else prompt

    def __call__(self, batch: pa.Table) -> list[Request | Failure]:
        keys = batch.column(schema.ID).to_pylist()
        return [
            _NO_IMAGE if image is None else Request(key, (image,), self._prompt)
            for key, image in zip(keys, _images(batch), strict=True)
        ]


def _images(batch: pa.Table) -> Iterator[bytes | Media | None]:
    by_uri = "source" in batch.column_names
    nothing = [None] * len(batch)
    sources, formats = (batch.column(name).to_pylist() if by_uri else nothing for name in ("source", "format"))
    for image, source, format_ in zip(batch.column("image"), sources, formats, strict=True):
        if image.is_valid:
            yield image.as_py()
        elif source is not None and source.startswith("gs://") and format_ in MIMES:
            yield Media(source, MIMES[format_])
        else:
            yield None


def answered_rows(
    keys: Sequence[str],
    asked: Sequence[Request | Failure],
    generate: Callable[[list[Request]], list[Answer]],
) -> pa.Table:
    """schema.CAPTIONS of what `generate` answers to the requests among `asked`, the failures among them as they are.

    `keys` are the rows' ids, which a request's own need not be.
    """
    answers = [Answer(failure=one) if isinstance(one, Failure) else None for one in asked]
    places = [place for place, answer in enumerate(answers) if answer is None]
    requests = [one for one in asked if isinstance(one, Request)]
    replies = generate(requests) if requests else []
    for place, reply in zip(places, replies, strict=True):
        answers[place] = reply
    rows = [caption_row(key, answer) for key, answer in zip(keys, answers, strict=True) if answer is not None]
    return pa.Table.from_pylist(rows, schema=schema.CAPTIONS)


def identity(*, backend: str, prompt: str | None = None, **options: Any) -> dict[str, object]:
    """All that changes a caption, for the name of its table: the stage's code, the backend, its model, the prompt.

    Takes the same arguments as ``Caption`` and loads no weights. For a model on a hub ``identity(...)["revision"]`` is
    the exact commit: give it to ``Caption`` as ``revision``, so that every worker runs what the table's name says.
    """
    return {"stage": "caption", "stage_code": VERSION, **vlm.identity(backend, prompt, **options)}


def tidy(text: str) -> str:
    """The text as it is stored: no control or unpaired surrogate characters, single spaces, no blank lines.

    Line breaks stay, as ``\\n``, because they end a sentence in lists and headings that have no full stop.
    """
    lines = (" ".join("".join(map(_printable, line)).split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _printable(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) in ("Cc", "Cs") else character


def caption_row(key: str, answer: Answer) -> dict[str, object]:
    """A row of ``schema.CAPTIONS``; a text that is blank once tidied is rejected."""
    if answer.text is not None:
        answer = answered(tidy(answer.text), answer.finish_reason, answer.tokens_in, answer.tokens_out)
    failure = answer.failure
    return {
        schema.ID: key,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "tokens_in": answer.tokens_in,
        "tokens_out": answer.tokens_out,
        schema.ERROR_KIND: failure.kind if failure else None,
        schema.REASON: failure.reason if failure else None,
        schema.DETAIL: tidy(failure.detail) if failure else None,
    }


_NO_IMAGE = Failure(BAD_INPUT, "no_image", "the row holds no image bytes")
