"""The ask stage: image bytes in, the answer to each of the study's questions out, one by one or as a conversation."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from seewhy import schema, vlm
from seewhy.caption import caption_row, tidy
from seewhy.failure import BAD_INPUT, NOT_ASKED, REJECTED, TRANSIENT, Failure
from seewhy.vlm.base import Answer, Request
from seewhy.vlm.chat import Turn, default_template, prompt_of, request_after

VERSION = 1
"""Goes up with every change of how a question is asked and of what this stage makes of an answer."""


class Ask:
    """Row stage: `id`, `image` (bytes) in, ``schema.answers`` of its columns out, the same ids in the same order.

    A column holds the tidied answer (see `caption.tidy`) or null, and `replies` why not. A row is ok when all its
    answers are there. Else it has the kind of failure that is most worth another try (transient, then rejected, then
    bad input), the reason of the first answer that failed so, and all of them in its detail; tried again, all of its
    questions are asked again. A row without an image is bad input (`no_image`).

    In a conversation each question comes after the earlier questions and answers about the same image. A question
    without an answer is left out of it. Where the conversation is longer than the model's context, the oldest turns
    fall out first; only a backend that knows its model's tokenizer can tell (`chat.KnowsItsContext`), any other is
    sent the whole.

    Args:
        backend: a name in ``seewhy.vlm.LOADERS``.
        questions: (column, question), in the order in which they are asked.
        prompts: (column, prompt): said as they stand, outside the template and any conversation; an empty one asks a
            model that can for a caption.
        template: with ``{}`` where the question goes; None: `chat.QUESTION` for a model that continues text, as
            BLIP-2 does, and the question alone for one with a chat template.
        chat: as one conversation an image.
        context: tokens that image, prompt and answer may take, where that is less than the model's own context.
        options: flat keyword arguments of that backend (model, revision, temperature, batch_size, ...).

    Raises:
        ValueError: nothing to ask, a column named twice or reserved, or a template without ``{}``.
        Fatal: the backend cannot be had; the message says what to do.
    """

    def __init__(
        self,
        *,
        backend: str,
        questions: Sequence[tuple[str, str]],
        prompts: Sequence[tuple[str, str]] = (),
        template: str | None = None,
        chat: bool = False,
        context: int | None = None,
        **options: Any,
    ) -> None:
        schema.check_columns([column for column, _ in (*prompts, *questions)])
        self._questions, self._prompts = dict(questions), dict(prompts)
        self._columns = [*self._prompts, *self._questions]
        self._backend = vlm.load(backend, **options)
        self._template = default_template(self._backend.default_prompt) if template is None else template
        prompt_of("", template=self._template)  # its own mistakes now, not in a worker's first block
        self._chat = chat
        self._context = context

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids = batch.column(schema.ID).to_pylist()
        images = {i: image.as_py() for i, image in enumerate(batch.column("image")) if image.is_valid}
        found = {column: dict.fromkeys(range(len(ids)), _NO_IMAGE) for column in self._columns}
        turns: dict[int, list[Turn]] = {i: [] for i in images}
        seen = {column: dict.fromkeys(range(len(ids)), 0) for column in self._columns}
        for columns in self._rounds():
            asked = [(i, column) for column in columns for i in images]
            requests = []
            for i, column in asked:
                request, seen[column][i] = self._request(ids[i], images[i], column, turns[i])
                requests.append(request)
            replies = self._backend.generate(requests) if requests else []
            for (i, column), reply in zip(asked, replies, strict=True):
                found[column][i] = reply
                if self._chat and column in self._questions and reply.text is not None and tidy(reply.text):
                    turns[i].append(Turn(self._questions[column], tidy(reply.text)))
        rows = [
            answers_row(key, {column: (found[column][i], seen[column][i]) for column in self._columns})
            for i, key in enumerate(ids)
        ]
        return pa.Table.from_pylist(rows, schema=schema.answers(self._columns))

    def _rounds(self) -> list[list[str]]:
        """What is asked at once: everything, or in a conversation one question after the other."""
        if not self._chat or not self._questions:
            return [self._columns]
        first, *others = self._questions
        return [[*self._prompts, first], *([one] for one in others)]

    def _request(self, key: str, image: bytes, column: str, turns: list[Turn]) -> tuple[Request, int]:
        """The request, and how many of the earlier turns are in it. Its id is the row's and the column's."""
        name = f"{key} {column}"
        if column in self._prompts:
            return Request(name, (image,), self._prompts[column]), 0
        asked = self._backend, name, image, self._questions[column], turns
        return request_after(*asked, template=self._template, context=self._context)


def answers_row(key: str, found: Mapping[str, tuple[Answer, int]]) -> dict[str, object]:
    """A row of ``schema.answers``, from each column's answer and the number of turns before it."""
    row: dict[str, Any] = {schema.ID: key}
    replies = []
    for column, (answer, turns) in found.items():
        told = caption_row(key, answer)
        row[column] = told.pop("text")
        del told[schema.ID]
        replies.append({"column": column, "turns": turns, **told})
    return {**row, "replies": replies, **_row_failure(replies)}


def _row_failure(replies: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    unasked = next((reply for reply in replies if reply[schema.REASON] == NOT_ASKED), None)
    if unasked is not None:  # the others are asked again with it
        return {name: unasked[name] for name in (schema.ERROR_KIND, schema.REASON, schema.DETAIL)}
    for kind in (TRANSIENT, REJECTED, BAD_INPUT):
        first = next((reply for reply in replies if reply[schema.ERROR_KIND] == kind), None)
        if first is not None:
            failed = [reply for reply in replies if reply[schema.ERROR_KIND] is not None]
            detail = "; ".join(f"{reply['column']}: {reply[schema.REASON]}" for reply in failed)
            return {schema.ERROR_KIND: kind, schema.REASON: first[schema.REASON], schema.DETAIL: detail}
    return {schema.ERROR_KIND: None, schema.REASON: None, schema.DETAIL: None}


def identity(
    *,
    backend: str,
    questions: Sequence[tuple[str, str]],
    prompts: Sequence[tuple[str, str]] = (),
    template: str | None = None,
    chat: bool = False,
    context: int | None = None,
    **options: Any,
) -> dict[str, object]:
    """All that changes an answer, for the name of its table; takes the arguments of ``Ask`` and loads no weights.

    Columns and their order are part of it. See ``caption.identity`` for the model's.
    """
    schema.check_columns([column for column, _ in (*prompts, *questions)])
    named = vlm.identity(backend, None, **options)
    own = named.pop("prompt")
    asked: dict[str, object] = {"prompts": [list(pair) for pair in prompts]} if prompts else {}
    if questions:
        asked |= {"questions": [list(pair) for pair in questions], "chat": chat}
        asked["template"] = default_template(str(own)) if template is None else template
    if chat and context is not None:
        asked["context"] = context
    return {"stage": "ask", "stage_code": VERSION, **named, **asked}


_NO_IMAGE = Answer(failure=Failure(BAD_INPUT, "no_image", "the row holds no image bytes"))
