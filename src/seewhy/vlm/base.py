"""What every backend that looks at images and answers in words has in common.

A backend takes a list of requests and gives back as many answers, in order. What goes wrong with one request is a value
in its answer and leaves its neighbours alone; what must stop the job is raised as ``Fatal``. How many requests are in
flight, how they are batched and how often one is tried again is the backend's own business.
"""

import unicodedata
from dataclasses import dataclass
from typing import Protocol

from seewhy.failure import BAD_INPUT, REJECTED, Failure

DEFAULT_PROMPT = (
    "Describe this image in a few plain sentences. Say what mood it sets, what would draw a viewer to it, and what "
    "makes it stand out from other images. Leave out names of people, places, brands and titles, and use no figures "
    "or dates."
)
"""A short description that names atmosphere, appeal and distinctive features, without proper nouns and numbers: words
that many images can share, so that a model can learn what each of them is worth."""


_UNSEEN = ("Cc", "Cf", "Cs")

MANY_IMAGES = 100
"""``max_images`` of a backend that takes several: more than anything here shows at once."""


MOST_INLINE_BYTES = 14_000_000
"""Of a video that goes inline. A request to Gemini may have 20 MB, in which base64 takes 4 bytes for 3: see
https://firebase.google.com/docs/ai-logic/input-file-requirements for Vertex AI, as of November 2026 (413 beyond it)."""


@dataclass(frozen=True)
class Media:
    """What only a service can be shown: a video, whole, or an object that it reads itself.

    Attributes:
        content: encoded bytes; or the gs:// URI of an object.
        mime: its type, as its first bytes tell.
        seconds: how long a video is; None where nobody looked, and for an image.
    """

    content: bytes | str
    mime: str
    seconds: float | None = None

    @property
    def is_video(self) -> bool:
        return self.mime.startswith("video/")


@dataclass(frozen=True)
class Request:
    """One question about one or more images, or a video.

    Attributes:
        id: of the row; also what a random draw is seeded with.
        images: encoded bytes, as they came (JPEG, PNG, ...), in the order in which the model sees them. Only a backend
            that takes videos (see ``vlm.takes_videos``) takes ``Media`` among them.
        prompt: the instruction. Empty: the model's own way of captioning without one.
    """

    id: str
    images: tuple[bytes | Media, ...]
    prompt: str


def only_images(request: Request) -> tuple[bytes, ...] | Failure:
    """The request's images, for a backend that sees nothing else; or why the row is bad input."""
    images = tuple(image for image in request.images if not isinstance(image, Media))
    if len(images) < len(request.images):
        return Failure(BAD_INPUT, "not_an_image", "this backend sees images and no videos or stored objects")
    return images or Failure(BAD_INPUT, "no_image", "the request holds no image")


@dataclass(frozen=True)
class Answer:
    """The text for one request, or why there is none: exactly one of ``text`` and ``failure`` is set.

    Attributes:
        text: never blank; a blank answer is a failure, see ``answered``.
        failure: why there is no text.
        finish_reason: why the model stopped: ``stop``, ``length`` (cut at the limit), or the backend's own word.
        tokens_in: tokens that the model read, those that stand for images included.
        tokens_out: tokens that the model wrote, the one that ends the text included.
    """

    text: str | None = None
    failure: Failure | None = None
    finish_reason: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None

    def __post_init__(self) -> None:
        if (self.text is None) == (self.failure is None):
            raise ValueError(f"an answer has a text or a failure, not text={self.text!r} and failure={self.failure!r}")
        if self.text is not None and is_blank(self.text):
            raise ValueError(f"an answer's text is blank: {self.text!r}; a blank answer is a failure")


def is_blank(text: str) -> bool:
    """Whether nothing of it is to be seen: white space, control characters and marks such as U+200B alone."""
    return all(character.isspace() or unicodedata.category(character) in _UNSEEN for character in text)


def answered(
    text: str, finish_reason: str | None = None, tokens_in: int | None = None, tokens_out: int | None = None
) -> Answer:
    """The answer for what a model wrote, without white space at its ends; a blank one is rejected, ``empty_answer``."""
    text = text.strip()
    if not is_blank(text):
        return Answer(text, None, finish_reason, tokens_in, tokens_out)
    failure = Failure(REJECTED, "empty_answer", f"the model wrote nothing (finish reason: {finish_reason})")
    return Answer(None, failure, finish_reason, tokens_in, tokens_out)


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the likeliest token (greedy); above 0 samples, flatter the higher it is.
        top_p: sampling keeps the smallest set of tokens that holds this share of the probability, in (0, 1].
        max_new_tokens: the text is cut here, with finish reason ``length``.
        seed: of the draws, used only when sampling.
    """

    temperature: float = 1.0
    top_p: float = 0.95
    max_new_tokens: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature} is below 0; 0 is greedy")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} is not in (0, 1]")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens {self.max_new_tokens} is below 1")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def identity(self) -> dict[str, object]:
        """What of this changes a result: greedy decoding ignores ``top_p`` and ``seed``."""
        if self.greedy:
            return {"temperature": 0.0, "max_new_tokens": self.max_new_tokens}
        return {
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "max_new_tokens": self.max_new_tokens,
            "seed": self.seed,
        }


class Backend(Protocol):
    """What looks at images and answers in words.

    Attributes:
        default_prompt: the prompt for captions when the study gives none; a model that was made to caption without
            a prompt has an empty one.
        max_images: the most images that one request may hold.
    """

    @property
    def default_prompt(self) -> str: ...

    @property
    def max_images(self) -> int: ...

    def generate(self, requests: list[Request]) -> list[Answer]:
        """As many answers as requests, in their order; failures as values. Raises ``Fatal`` to stop the job."""
        ...
