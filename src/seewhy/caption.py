"""The caption stage: image bytes in, one text an image out."""

import unicodedata
from typing import Any

import pyarrow as pa

from seewhy import schema, vlm
from seewhy.failure import BAD_INPUT, Failure
from seewhy.vlm.base import Answer, Request, answered

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
        self._prompt = self._backend.default_prompt if prompt is None else prompt

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids = batch.column(schema.ID).to_pylist()
        images = batch.column("image")
        answers: list[Answer] = [_NO_IMAGE] * len(ids)
        asked = [place for place, image in enumerate(images) if image.is_valid]
        requests = [Request(ids[place], (images[place].as_py(),), self._prompt) for place in asked]
        replies = self._backend.generate(requests) if requests else []
        for place, reply in zip(asked, replies, strict=True):
            answers[place] = reply
        rows = [caption_row(key, answer) for key, answer in zip(ids, answers, strict=True)]
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


_NO_IMAGE = Answer(failure=Failure(BAD_INPUT, "no_image", "the row holds no image bytes"))
