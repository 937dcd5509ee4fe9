"""Questions about drawn pictures: the answer is what was drawn, and a conversation is in BLIP-2's own form."""

import re

import numpy as np
import pytest

from seewhy.demo.districts import PAVEMENTS, Scene
from seewhy.demo.factors import FACTORS, draw_factors
from seewhy.demo.questions import (
    PAVED,
    POSTER_QUESTIONS,
    SEEN,
    photo_answer,
    photo_conversation,
    poster_answer,
    poster_conversation,
)
from seewhy.demo.train_speaking import speaking_batch
from seewhy.demo.train_vlm import build_tokenizer


def test_every_factor_is_asked_for_and_every_level_has_its_own_answer() -> None:
    assert {asked.factor for asked in POSTER_QUESTIONS} == set(FACTORS)
    for asked in POSTER_QUESTIONS:
        assert tuple(asked.answers) == FACTORS[asked.factor].levels
        assert len(set(asked.answers.values())) == 2
    wordings = [wording for asked in POSTER_QUESTIONS for wording in asked.wordings]
    assert len(set(wordings)) == len(wordings)


def test_answers_are_what_was_drawn() -> None:
    factors = draw_factors(np.random.default_rng(0)) | {"lighting": "dark", "people": "three", "frame": "none"}
    assert poster_answer("is it night or day?", factors) == "night"
    assert poster_answer("how many people do you see?", factors) == "three"
    assert poster_answer("is there a frame?", factors) == "no"
    scene = Scene(("船", "橋", "車"), PAVEMENTS[0])
    assert photo_answer("何が写っていますか?", scene) == "船、橋、車"
    assert photo_answer(SEEN[0], Scene((), PAVEMENTS[1])) == "何もありません"
    assert photo_answer(PAVED[0], scene) == "はい"
    assert photo_answer(PAVED[0], Scene((), PAVEMENTS[1])) == "いいえ"
    for ask in (poster_answer, photo_answer):
        with pytest.raises(KeyError):
            ask("why?", factors if ask is poster_answer else scene)  # type: ignore[operator]


TURN = re.compile(r"Question: (.+?) Answer: (.+?)\. ")


def test_conversations_end_with_a_question_and_are_mostly_right_before_it() -> None:
    rng = np.random.default_rng(1)
    lengths, earlier = [], []
    for _ in range(2000):
        factors = draw_factors(rng)
        prompt, answer = poster_conversation(factors, rng)
        turns = TURN.findall(prompt)
        last = TURN.sub("", prompt)
        question = last.removeprefix("Question: ").removesuffix(" Answer:")
        assert last == f"Question: {question} Answer:"
        assert answer == poster_answer(question, factors)
        lengths.append(len(turns))
        earlier += [told == poster_answer(asked, factors) for asked, told in turns]
    assert np.mean(np.array(lengths) == 0) == pytest.approx(0.5, abs=0.04)
    assert set(lengths) == set(range(7))
    assert np.mean(earlier) == pytest.approx(0.95, abs=0.02)


def test_a_photos_conversation() -> None:
    rng = np.random.default_rng(2)
    scene = Scene(("船",), PAVEMENTS[0])
    found = {photo_conversation(scene, rng) for _ in range(300)}
    assert (f"Question: {SEEN[0]} Answer:", "船") in found
    assert (f"Question: {SEEN[0]} Answer: 船. Question: {PAVED[1]} Answer:", "はい") in found
    assert len(found) == 5 + 2 * 6  # a question alone, or after each of the other's wordings


def test_a_batch_learns_the_answers_and_nothing_else() -> None:
    tokenizer = build_tokenizer(["Question: what is it? Answer: a dog", "a dog", "the sun over a city"])
    prompts = ["Question: what is it? Answer:", "", "what?"]
    texts = ["a dog", "the sun", "a city"]
    ids, labels = speaking_batch(tokenizer, texts, prompts, 3)
    for row, label, prompt, text in zip(ids.tolist(), labels.tolist(), prompts, texts, strict=True):
        learnt = [one for one in label if one != -100]
        assert learnt[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(learnt[:-1]) == (f" {text}" if prompt else text)
        start = label.index(learnt[0])
        assert row[start : start + len(learnt)] == learnt
        assert row[:3] == [3, 3, 3]
        assert row[3] == tokenizer.bos_token_id
        assert tokenizer.decode(row[4:start]) == prompt
        assert set(row[start + len(learnt) :]) <= {tokenizer.pad_token_id}
    assert (ids == 0).any()
