"""A backend without a model, for trying pipelines out: its text is a function of the images and the prompt alone.

Faults are drawn by request id: the same ids fail at every call, whatever stands beside them in the batch. Another
``seed`` lets others fail, so a second run with a new seed (or with fractions of 0) plays a service that has recovered.
"""

import time

import xxhash

from seewhy.failure import BAD_INPUT, REJECTED, TRANSIENT, Failure
from seewhy.vlm.base import DEFAULT_PROMPT, MANY_IMAGES, Answer, Media, Request, answered

VERSION = 1
"""Goes up with every change of what the same image and prompt give."""

_TONES = ("dark", "bright", "muted", "vivid", "grainy", "golden", "icy", "faded")
_SUBJECTS = ("lone figure", "crowded street", "quiet couple", "restless sea", "old car", "child", "dog")
_PLACES = ("under a heavy sky", "at the edge of a forest", "in an empty room", "on a rooftop", "by a window", "at dusk")
_MOODS = ("tense", "tender", "playful", "lonely", "hopeful", "eerie", "calm", "grand")
_FEATURES = ("bold lettering", "soft light", "a sharp contrast", "a torn edge", "a wide frame", "a striking red accent")

_GARBAGE = (
    "\x00\x07",
    "<script>alert(1)</script>",
    "\ud83d broken",
    "word " * 5000,
    "\u202eright to left",
    "   \n\n",
    "a nul \x00",
)


class FakeBackend:
    """Deterministic sentences, and faults on demand.

    Args:
        transient_fraction: share of ids, in [0, 1], that fail as transient.
        rejected_fraction: share that fail as rejected.
        bad_input_fraction: share that fail as bad input.
        garbage_fraction: share that get text no well-behaved model writes: control characters, markup, lone
            surrogates, endless repetition.
        hang_fraction: share that block the call for ``hang_sec``, then answer.
        hang_sec: seconds that such a request takes.
        seconds_per_request: seconds that every request takes.
        seed: of the faults. It does not change a good answer.

    Raises:
        ValueError: the fractions are not shares, or sum to more than 1.
    """

    def __init__(
        self,
        *,
        transient_fraction: float = 0.0,
        rejected_fraction: float = 0.0,
        bad_input_fraction: float = 0.0,
        garbage_fraction: float = 0.0,
        hang_fraction: float = 0.0,
        hang_sec: float = 3600.0,
        seconds_per_request: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.default_prompt = DEFAULT_PROMPT
        self.max_images = MANY_IMAGES
        self._fractions = {
            TRANSIENT: transient_fraction,
            REJECTED: rejected_fraction,
            BAD_INPUT: bad_input_fraction,
            "garbage": garbage_fraction,
            "hang": hang_fraction,
        }
        if min(self._fractions.values()) < 0 or sum(self._fractions.values()) > 1:
            raise ValueError(f"fault fractions must be 0 or more and sum to at most 1, not {self._fractions}")
        self._hang_sec = hang_sec
        self._seconds_per_request = seconds_per_request
        self._seed = seed

    def generate(self, requests: list[Request]) -> list[Answer]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        time.sleep(self._seconds_per_request)
        fault = self._fault(request.id)
        if fault in (TRANSIENT, REJECTED, BAD_INPUT):
            return Answer(failure=Failure(fault, f"fake_{fault}", "a fault that was asked for"))
        if fault == "hang":
            time.sleep(self._hang_sec)
        shown = [one.content if isinstance(one, Media) else one for one in request.images]
        said = [one.encode("utf-8", "replace") if isinstance(one, str) else one for one in (*shown, request.prompt)]
        number = xxhash.xxh3_64_intdigest(b"\0".join(said))
        text = _GARBAGE[number % len(_GARBAGE)] if fault == "garbage" else _sentence(number)
        return answered(text, "stop", len(request.prompt.split()) + len(request.images), len(text.split()))

    def _fault(self, request_id: str) -> str | None:
        place = xxhash.xxh3_64_intdigest(f"{self._seed}/{request_id}".encode()) / 2**64
        for fault, fraction in self._fractions.items():
            if place < fraction:
                return fault
            place -= fraction
        return None


def identity(*, prompt: str | None = None, **faults: float) -> dict[str, object]:
    """What changes a good answer: the prompt alone. Faults do not, so a run without them resumes one that had some."""
    FakeBackend(**faults)  # type: ignore[arg-type]
    return {"code": VERSION, "prompt": DEFAULT_PROMPT if prompt is None else prompt}


def _sentence(number: int) -> str:
    picked = []
    for words in (_TONES, _SUBJECTS, _PLACES, _MOODS, _FEATURES):
        number, place = divmod(number, len(words))
        picked.append(words[place])
    tone, subject, place_name, mood, feature = picked
    return f"A {tone} image of a {subject} {place_name}. The mood is {mood}, and {feature} stands out."
