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
from seewhy.vlm.chat import Turn, default_template, request_after


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
        template, context: of questions, see `ask.Ask`.
        arguments: `backend` (a name in `vlm.LOADERS`) and that backend's own.

    Raises:
        Fatal: the backend cannot be had.
    """

    def __init__(self, *, template: str | None = None, context: int | None = None, **arguments: Any) -> None:
        options = dict(arguments)
        self._backend = vlm.load(options.pop("backend"), **options)
        self._lock = Lock()
        self.default_prompt = self._backend.default_prompt
        self._template = default_template(self.default_prompt) if template is None else template
        self._context = context

    def caption(self, key: str, image: bytes, prompt: str) -> Said:
        return self._say(Request(key, (image,), prompt))

    def ask(self, key: str, image: bytes, turns: Sequence[Turn], question: str) -> Said:
        """The answer to a question after earlier turns; the oldest are left out while the prompt is too long."""
        asked = self._backend, key, image, question, turns
        return self._say(*request_after(*asked, template=self._template, context=self._context))

    def _say(self, request: Request, turns: int = 0) -> Said:
        with self._lock:
            start = time.monotonic()
            answer = self._backend.generate([request])[0]
            seconds = time.monotonic() - start
        if answer.text is not None:
            answer = _tidied(answer)
        return Said(request.prompt, answer.text, answer.failure, seconds, answer.tokens_in, answer.tokens_out, turns)


def _tidied(answer: Answer) -> Answer:
    return answered(tidy(answer.text or ""), answer.finish_reason, answer.tokens_in, answer.tokens_out)
