"""Questions and answers as one prompt: how a model is asked, and how it is reminded of what was said before.

A BLIP-2 continues a text, so a question is a text that stops where the answer belongs, and a conversation one in which
earlier answers stand: ``Question: a? Answer: b. Question: c? Answer:``. A chat model is asked in its own template;
there the conversation is text before the question.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from seewhy.vlm.base import Request

QUESTION = "Question: {} Answer:"
"""The form in which BLIP-2 was asked when it was measured (Li et al. 2023, arXiv:2301.12597)."""
PLAIN = "{}"
"""The question as it stands, for models with a chat template."""

_ENDS = (".", "!", "?", "。", "！", "？")


@dataclass(frozen=True)
class Turn:
    """A question and the answer that it got."""

    question: str
    answer: str


@runtime_checkable
class KnowsItsContext(Protocol):
    """A backend that can tell, by its model's own tokenizer and configuration, how much the model takes."""

    def fits(self, request: Request, *, context: int | None = None) -> bool:
        """Whether images, prompt and the longest answer go into the model's context, and into `context` tokens."""
        ...


def default_template(default_prompt: str) -> str:
    """By a backend's prompt for captions: a model that captions without one continues text, any other is told."""
    return PLAIN if default_prompt else QUESTION


def prompt_of(question: str, turns: Sequence[Turn] = (), *, template: str = QUESTION) -> str:
    """The earlier turns, oldest first, then the question; all of them in the template, one space between them.

    A template that is nothing but the question does not tell where an answer begins: then earlier turns stand in
    `QUESTION`. An answer that does not end a sentence gets a full stop.

    Raises:
        ValueError: the template has no ``{}``.
    """
    if "{}" not in template:
        raise ValueError(f"the template {template!r} has no {{}} where the question goes")
    told = QUESTION if template.strip() == PLAIN else template
    before = [f"{_asked(told, turn.question)} {_sentence(turn.answer)}" for turn in turns]
    return " ".join([*before, _asked(template, question)])


def latest_that_fit(turns: Sequence[Turn], fits: Callable[[Sequence[Turn]], bool]) -> list[Turn]:
    """The longest run of the latest turns for which `fits` holds; none where even they alone would be too many.

    `fits` must hold for fewer turns where it holds for more. It is asked once where all fit, as they mostly do, and
    else about log2 of their number times.
    """
    if not turns or fits(turns):
        return list(turns)
    dropped, too_many = len(turns), 0  # dropping `dropped` of them is taken to fit, dropping `too_many` does not
    while dropped - too_many > 1:
        middle = (dropped + too_many) // 2
        if fits(turns[middle:]):
            dropped = middle
        else:
            too_many = middle
    return list(turns[dropped:])


def request_after(
    backend: object,
    key: str,
    image: bytes,
    question: str,
    turns: Sequence[Turn],
    *,
    template: str,
    context: int | None = None,
) -> tuple[Request, int]:
    """A question about an image after as many of the latest turns as go into the model's context, and how many.

    A backend that cannot count what its model reads is sent all of them.
    """

    def request(told: Sequence[Turn]) -> Request:
        return Request(key, (image,), prompt_of(question, told, template=template))

    if turns and isinstance(backend, KnowsItsContext):
        fit = backend.fits
        turns = latest_that_fit(turns, lambda told: fit(request(told), context=context))
    return request(turns), len(turns)


def _asked(template: str, question: str) -> str:
    return template.replace("{}", question)


def _sentence(answer: str) -> str:
    words = " ".join(answer.split())
    return words if words.endswith(_ENDS) else f"{words}."
