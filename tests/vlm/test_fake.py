"""The fake backend: the same image gets the same words, and as many faults as were asked for, always the same ids."""

import time
from collections import Counter

import pytest

from seewhy.vlm.base import Request
from seewhy.vlm.fake import FakeBackend, identity

REQUESTS = [Request(f"id-{i}", (f"image {i}".encode(),), "say") for i in range(2000)]


def test_texts_follow_image_and_prompt_and_vary():
    texts = [answer.text for answer in FakeBackend(seed=1).generate(REQUESTS)]
    assert texts == [answer.text for answer in FakeBackend(seed=2).generate(REQUESTS)]
    assert len(set(texts)) > 1500
    assert min(len(text.split()) for text in texts) > 10
    same_image = FakeBackend().generate([Request("another id", REQUESTS[0].images, "say")])[0].text
    assert same_image == texts[0]
    assert FakeBackend().generate([Request("id-0", REQUESTS[0].images, "ask")])[0].text != texts[0]


def test_faults_come_as_often_as_asked_and_hit_the_same_ids_whatever_stands_beside_them():
    backend = FakeBackend(transient_fraction=0.2, rejected_fraction=0.1, bad_input_fraction=0.05)
    answers = backend.generate(REQUESTS)
    kinds = Counter(answer.failure.kind if answer.failure else "ok" for answer in answers)
    # 2,000 draws: three standard errors are 0.027, 0.020 and 0.015
    assert kinds["transient"] / 2000 == pytest.approx(0.2, abs=0.027)
    assert kinds["rejected"] / 2000 == pytest.approx(0.1, abs=0.020)
    assert kinds["bad_input"] / 2000 == pytest.approx(0.05, abs=0.015)
    assert backend.generate(REQUESTS[::-3]) == answers[::-3]


def test_another_seed_lets_others_fail_and_leaves_good_answers_alone():
    first, second = (FakeBackend(transient_fraction=0.3, seed=seed).generate(REQUESTS) for seed in (0, 1))
    failed = [{i for i, answer in enumerate(answers) if answer.failure} for answers in (first, second)]
    assert failed[0] != failed[1]
    good = set(range(2000)) - failed[0] - failed[1]
    assert len(good) > 800
    assert all(first[i] == second[i] for i in good)


def test_garbage_holds_what_storage_and_reports_trip_over():
    answers = FakeBackend(garbage_fraction=1).generate(REQUESTS[:100])
    texts = {answer.text for answer in answers if answer.text}
    assert any("\x00" in text for text in texts)
    assert any("\ud83d" in text for text in texts)
    assert any("<script>" in text for text in texts)
    assert any(len(text) > 20_000 for text in texts)
    assert {answer.failure.reason for answer in answers if answer.failure} == {"empty_answer"}


def test_time_per_request_and_hanging_are_real():
    start = time.monotonic()
    FakeBackend(seconds_per_request=0.02).generate(REQUESTS[:5])
    assert time.monotonic() - start >= 0.1
    start = time.monotonic()
    (answer,) = FakeBackend(hang_fraction=1, hang_sec=0.2).generate(REQUESTS[:1])
    assert time.monotonic() - start >= 0.2
    assert answer.text


def test_fractions_that_are_none_are_refused():
    for wrong in ({"transient_fraction": -0.1}, {"transient_fraction": 0.6, "garbage_fraction": 0.5}):
        with pytest.raises(ValueError, match="sum to at most 1"):
            FakeBackend(**wrong)


def test_faults_are_no_part_of_its_identity():
    assert identity(prompt="say", transient_fraction=0.5, seed=3) == identity(prompt="say")
    assert identity(prompt="say") != identity(prompt="ask")
