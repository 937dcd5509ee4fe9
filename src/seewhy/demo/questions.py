"""Questions about the demo's posters and photos with the answers that were drawn, and conversations made of them."""

from dataclasses import dataclass

import numpy as np

from seewhy.demo.districts import OBJECTS, SETTS, Scene
from seewhy.demo.factors import FACTORS
from seewhy.vlm.chat import QUESTION, Turn, prompt_of


@dataclass(frozen=True)
class Asked:
    """A question in several wordings, the first of them the plainest, and the answer for each level of a factor."""

    factor: str
    wordings: tuple[str, ...]
    answers: dict[str, str]


def _asked(factor: str, answers: tuple[str, str], *wordings: str) -> Asked:
    return Asked(factor, wordings, dict(zip(FACTORS[factor].levels, answers, strict=True)))


POSTER_QUESTIONS = (
    _asked("lighting", ("night", "day"), "is it day or night?", "is it night or day?"),
    _asked(
        "lighting",
        ("dark", "bright"),
        "is the poster dark or bright?",
        "is the scene dark or bright?",
        "is it dark or bright?",
    ),
    _asked(
        "palette",
        ("cold", "warm"),
        "are the colors warm or cold?",
        "are the colors cold or warm?",
        "is the palette warm or cold?",
    ),
    _asked(
        "people",
        ("one", "three"),
        "how many people are there?",
        "how many figures are there?",
        "how many people do you see?",
    ),
    _asked(
        "place",
        ("left", "right"),
        "on which side are the people?",
        "are the people on the left or on the right?",
        "where are the people?",
    ),
    _asked(
        "object",
        ("car", "dog"),
        "is there a car or a dog?",
        "what is beside the people?",
        "is there a dog or a car?",
    ),
    _asked(
        "sky",
        ("sun", "moon"),
        "what is in the sky?",
        "what can be seen in the sky?",
        "is there a sun or a moon?",
    ),
    _asked(
        "land",
        ("mountains", "city"),
        "what is in the background?",
        "what is far away?",
        "is there a city or are there mountains?",
    ),
    _asked(
        "weather",
        ("snow", "rain"),
        "is it snowing or raining?",
        "is it raining or snowing?",
        "what is the weather like?",
    ),
    _asked(
        "title",
        ("small", "large"),
        "is the title small or large?",
        "is the lettering large or small?",
        "how large is the title?",
    ),
    _asked("frame", ("no", "yes"), "is there a frame?", "does the poster have a frame?"),
)
"""Factor, the answer for its first and its second level, and the wordings."""

SEEN = ("what is in the picture?", "what does the photo show?", "何が写っていますか?")
"""Of a photo: answered with the names of its objects."""
PAVED = ("is the street paved with stones?", "道は石畳ですか?")

NOTHING, YES, NO = "何もありません", "はい", "いいえ"


def poster_answer(question: str, factors: dict[str, str]) -> str:
    """What was drawn, as the model is to say it; KeyError for a question that it does not learn."""
    asked = _BY_WORDING[question]
    return asked.answers[factors[asked.factor]]


def photo_answer(question: str, scene: Scene) -> str:
    """Objects in the order of OBJECTS, joined by 、; or whether the street is paved with stones."""
    if question in SEEN:
        return "、".join(name for name in OBJECTS if name in scene.objects) or NOTHING
    if question in PAVED:
        return YES if scene.pavement == SETTS else NO
    raise KeyError(question)


def poster_conversation(factors: dict[str, str], rng: np.random.Generator) -> tuple[str, str]:
    """A prompt and its answer: one question, half of the time with one to six others and their answers before it.

    One earlier answer in twenty is wrong, so that the model looks at the picture and not at what was said.
    """
    order = [POSTER_QUESTIONS[place] for place in rng.permutation(len(POSTER_QUESTIONS))]
    earlier = int(rng.integers(1, 7)) if rng.random() < 0.5 else 0
    asked = [(one, one.wordings[rng.integers(len(one.wordings))]) for one in order[: earlier + 1]]
    turns = []
    for one, wording in asked[:-1]:
        levels = FACTORS[one.factor].levels
        level = factors[one.factor] if rng.random() < 0.9 else levels[rng.integers(2)]
        turns.append(Turn(wording, one.answers[level]))
    last = asked[-1][1]
    return prompt_of(last, turns, template=QUESTION), poster_answer(last, factors)


def photo_conversation(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A prompt and its answer, a third of the time after the other question and its answer."""
    pair = [SEEN[rng.integers(len(SEEN))], PAVED[rng.integers(len(PAVED))]]
    first, last = pair if rng.random() < 0.35 else pair[::-1]
    turns = [Turn(first, photo_answer(first, scene))] if rng.random() < 1 / 3 else []
    return prompt_of(last, turns, template=QUESTION), photo_answer(last, scene)


_BY_WORDING = {wording: asked for asked in POSTER_QUESTIONS for wording in asked.wordings}
