"""Asking a vision-language model by hand: questions with what was said before, and captions by a changed prompt."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from seewhy import vlm
from seewhy.caption import tidy
from seewhy.failure import Failure
from seewhy.vlm.base import Answer, Request, answered
from seewhy.vlm.chat import KnowsItsContext, Turn, default_template, latest_that_fit, prompt_of


@dataclass(frozen=True)
class Said:
    """What a model wrote, or why not; the prompt that it got, and what the call took.

    Attributes:
        turns: earlier turns that the prompt held.
    """

    prompt: str
    text: str | None
    failure: Failure | None
    seconds: float
    tokens_in: int | None
    tokens_out: int | None
    turns: int = 0


class Speaker:
    """A backend for one request at a time; may be shared by threads.

    Args:
        arguments: `backend` (a name in `vlm.LOADERS`) and that backend's own.

    Raises:
        Fatal: the backend cannot be had.
    """

    def __init__(self, **arguments: Any) -> None:
        options = dict(arguments)
        self._backend = vlm.load(options.pop("backend"), **options)
        self._lock = Lock()
        self.default_prompt = self._backend.default_prompt
        self._template = default_template(self.default_prompt)

    def caption(self, key: str, image: bytes, prompt: str) -> Said:
        return self._say(key, image, prompt)

    def ask(self, key: str, image: bytes, turns: Sequence[Turn], question: str) -> Said:
        """The answer to a question after earlier turns; the oldest are left out while the prompt is too long."""

        def prompt(kept: Sequence[Turn]) -> str:
            return prompt_of(question, kept, template=self._template)

        kept, backend = list(turns), self._backend
        if isinstance(backend, KnowsItsContext):
            fits = backend.fits
            kept = latest_that_fit(turns, lambda some: fits(Request(key, (image,), prompt(some))))
        return self._say(key, image, prompt(kept), len(kept))

    def _say(self, key: str, image: bytes, prompt: str, turns: int = 0) -> Said:
        with self._lock:
            start = time.monotonic()
            answer = self._backend.generate([Request(key, (image,), prompt)])[0]
            seconds = time.monotonic() - start
        if answer.text is not None:
            answer = _tidied(answer)
        return Said(prompt, answer.text, answer.failure, seconds, answer.tokens_in, answer.tokens_out, turns)


def _tidied(answer: Answer) -> Answer:
    return answered(tidy(answer.text or ""), answer.finish_reason, answer.tokens_in, answer.tokens_out)
