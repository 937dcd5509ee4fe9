"""Turns as a prompt: BLIP-2's own form to the letter, and the longest run of the latest turns that fits."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from seewhy.vlm.base import Request
from seewhy.vlm.chat import PLAIN, QUESTION, KnowsItsContext, Turn, default_template, latest_that_fit, prompt_of
from seewhy.vlm.fake import FakeBackend
from seewhy.vlm.hf import HfBackend
from tests.vlm.models import picture

TURNS = [Turn("what is the dinosaur holding?", "a torch"), Turn("where are they?", "In the woods.")]


def test_a_conversation_as_blip2_was_asked() -> None:
    assert prompt_of("what for?") == "Question: what for? Answer:"
    assert prompt_of("what for?", TURNS) == (
        "Question: what is the dinosaur holding? Answer: a torch. "
        "Question: where are they? Answer: In the woods. "
        "Question: what for? Answer:"
    )
    assert prompt_of("何のため?", [Turn("どこ?", "森の中です。")]).startswith(
        "Question: どこ? Answer: 森の中です。 Question"
    )


def test_a_template_of_its_own_and_the_question_alone() -> None:
    assert (
        prompt_of("why?", TURNS[:1], template="Q: {}\nA:")
        == "Q: what is the dinosaur holding?\nA: a torch. Q: why?\nA:"
    )
    told = "Question: what is the dinosaur holding? Answer: a torch. why?"
    assert prompt_of("why?", TURNS[:1], template=PLAIN) == told
    assert prompt_of("why?", template=PLAIN) == "why?"
    assert prompt_of("is {} a set? {0}") == "Question: is {} a set? {0} Answer:"  # braces of a question stay its own
    assert prompt_of("b", [Turn("a", "two\n lines ")]) == "Question: a Answer: two lines. Question: b Answer:"
    with pytest.raises(ValueError, match=r"the template 'Question:' has no {} where the question goes"):
        prompt_of("why?", template="Question:")


def test_a_model_that_captions_without_a_prompt_continues_text() -> None:
    assert default_template("") == QUESTION == "Question: {} Answer:"
    assert default_template("Describe this image.") == PLAIN


@pytest.mark.parametrize("count", range(9))
@pytest.mark.parametrize("room", range(10))
def test_the_oldest_turns_fall_out_first(count: int, room: int) -> None:
    turns = [Turn(str(place), "x") for place in range(count)]
    calls = []

    def fits(told: Sequence[Turn]) -> bool:
        calls.append(len(told))
        return len(told) <= room

    assert latest_that_fit(turns, fits) == turns[max(0, count - room) :]
    assert len(calls) <= (0 if not count else 1 if count <= room else 5)


def test_nothing_fits() -> None:
    assert latest_that_fit(TURNS, lambda told: False) == []


@pytest.mark.parametrize("name", ["blip2_opt", "blip2_t5", "llava", "idefics3"])
def test_a_local_model_counts_image_prompt_and_answer_exactly(name: str, model_folder: Callable) -> None:
    """`fits` says yes at just as many tokens as generate itself says that it read, plus the answer's room."""
    backend = HfBackend(model=str(model_folder(name)), temperature=0, max_new_tokens=5)
    assert isinstance(backend, KnowsItsContext)
    for prompt in ("what is this", "question " * 9 + "answer"):
        request = Request("a", (picture(1, 70, 40),), prompt)
        [answer] = backend.generate([request])
        assert answer.tokens_in is not None
        needed = answer.tokens_in + (0 if name == "blip2_t5" else 5)
        assert backend.fits(request, context=needed)
        assert not backend.fits(request, context=needed - 1)


def test_the_models_own_context_is_the_limit(model_folder: Callable) -> None:
    """The OPT of the tests has 40 positions: 4 for the image, 1 to start, 5 for an answer, so 30 words of a prompt."""
    backend = HfBackend(model=str(model_folder("blip2_opt")), temperature=0, max_new_tokens=5)
    for words, held in ((30, True), (31, False)):
        request = Request("a", (picture(1),), " ".join(["sky"] * words))
        assert backend.fits(request) is held
        assert backend.fits(request, context=1000) is held
    assert backend.generate([Request("a", (picture(1),), " ".join(["sky"] * 30))])[0].failure is None


def test_a_t5_reads_as_much_as_its_tokenizer_says(model_folder: Callable, tmp_path: Path) -> None:
    backend = HfBackend(model=str(model_folder("blip2_t5")), temperature=0, max_new_tokens=500)
    long = Request("a", (picture(1),), " ".join(["sky"] * 600))
    assert backend.fits(long)  # the tokenizer of the tests names no limit
    shutil.copytree(model_folder("blip2_t5"), tmp_path / "t5")
    settings = tmp_path / "t5" / "tokenizer_config.json"
    told = json.loads(settings.read_text())
    settings.write_text(json.dumps({**told, "model_max_length": 512}))
    limited = HfBackend(model=str(tmp_path / "t5"), temperature=0, max_new_tokens=500)
    assert not limited.fits(long)
    assert limited.fits(Request("a", (picture(1),), " ".join(["sky"] * 508)))  # 4 for the image; no token to start
    assert not limited.fits(Request("a", (picture(1),), " ".join(["sky"] * 509)))


def test_a_picture_that_cannot_be_read_is_left_to_generate(model_folder: Callable) -> None:
    backend = HfBackend(model=str(model_folder("llava")), temperature=0, max_new_tokens=5)
    assert backend.fits(Request("a", (b"no image",), "what"))


def test_a_backend_without_a_tokenizer_does_not_know() -> None:
    assert not isinstance(FakeBackend(), KnowsItsContext)
