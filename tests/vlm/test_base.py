"""The values that travel between a stage and a backend."""

import pytest

from seewhy import vlm
from seewhy.failure import Failure
from seewhy.vlm.base import DEFAULT_PROMPT, Answer, Decoding, answered

FAILURE = Failure("rejected", "blocked")


@pytest.mark.parametrize(("text", "failure"), [(None, None), ("words", FAILURE), (" \n", None), ("", None)])
def test_an_answer_has_a_text_that_says_something_or_a_failure(text, failure):
    with pytest.raises(ValueError, match="answer"):
        Answer(text, failure)


def test_a_blank_text_is_a_rejected_row_and_keeps_what_it_cost():
    answer = answered(" \n\t", "length", 7, 3)
    assert (answer.text, answer.failure.kind, answer.failure.reason) == (None, "rejected", "empty_answer")
    assert (answer.finish_reason, answer.tokens_in, answer.tokens_out) == ("length", 7, 3)
    assert answered("a sea", "stop", 7, 3) == Answer("a sea", None, "stop", 7, 3)


@pytest.mark.parametrize("wrong", [{"temperature": -0.1}, {"top_p": 0}, {"top_p": 1.1}, {"max_new_tokens": 0}])
def test_decoding_names_the_value_that_is_not_allowed(wrong):
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} {value} "):
        Decoding(**wrong)


def test_greedy_decoding_is_the_same_whatever_the_seed_and_top_p():
    assert Decoding(0, 0.5, 20, 1).identity() == Decoding(0, 0.9, 20, 2).identity()
    assert Decoding(0, 0.5, 20).identity() != Decoding(0, 0.5, 21).identity()
    sampled = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 20, "seed": 3}
    assert Decoding(**sampled).identity() == sampled


def test_the_default_prompt_asks_for_what_the_analysis_needs():
    prompt = DEFAULT_PROMPT.lower()
    for demand in ("few plain sentences", "mood", "draw a viewer", "stand out", "leave out names", "no figures"):
        assert demand in prompt


def test_an_unknown_backend_is_an_error_that_lists_the_known_ones():
    for ask in (vlm.load, vlm.identity):
        with pytest.raises(ValueError, match=r"'gpt'; there are fake, gemini, hf, openai, tiny, vllm"):
            ask("gpt")


def test_every_backend_can_be_loaded_and_told_apart():
    assert vlm.LOADERS.keys() == vlm.IDENTITIES.keys()


@pytest.mark.parametrize("unseen", ["", " \n", "\u200b", "\u2060\ufeff \u200d", "\x00\u00ad"])
def test_an_answer_of_which_nothing_is_to_be_seen_is_no_answer(unseen: str) -> None:
    answer = answered(unseen, "stop", 3, 1)
    assert answer.text is None
    assert answer.failure is not None
    assert (answer.failure.kind, answer.failure.reason) == ("rejected", "empty_answer")
    seen = f"{unseen}\N{WOMAN}\u200d\N{PERSONAL COMPUTER}"
    assert answered(seen).text == seen.strip()
