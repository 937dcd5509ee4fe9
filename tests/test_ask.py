"""The ask stage: ids and order, a column an answer, failures by answer and by row, conversations and their context."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seewhy import schema
from seewhy.ask import Ask, identity
from seewhy.vlm.base import Request, answered
from seewhy.vlm.chat import QUESTION, Turn, prompt_of
from seewhy.vlm.fake import FakeBackend
from seewhy.vlm.hf import HfBackend
from tests.vlm.models import MAKERS, picture

QUESTIONS = (("day", "is it day or night?"), ("people", "how many people are there?"), ("why", "and why?"))


def batch(images: list[bytes | None]) -> pa.Table:
    ids = [f"id-{i}" for i in range(len(images))]
    return pa.table({"id": ids, "image": pa.array(images, pa.binary()), "width": [1] * len(ids)})


def said(image: bytes, prompt: str) -> str:
    """The fake backend's text depends on image and prompt alone."""
    return FakeBackend().generate([Request("any", (image,), prompt)])[0].text or ""


def test_a_column_an_answer_and_every_row_in_its_place() -> None:
    images = [b"one", None, b"two", b"three"]
    stage = Ask(backend="fake", questions=QUESTIONS, prompts=[("free", ""), ("begun", "a photo of")])
    table = stage(batch(images))
    assert table.schema == schema.answers(["free", "begun", "day", "people", "why"])
    assert table["id"].to_pylist() == [f"id-{i}" for i in range(4)]
    for column, prompt in (("free", ""), ("begun", "a photo of"), *QUESTIONS):  # `{}`: a chat model's template
        assert table[column].to_pylist() == [None if image is None else said(image, prompt) for image in images]
    assert table["error_kind"].to_pylist() == [None, "bad_input", None, None]
    assert table["reason"].to_pylist() == [None, "no_image", None, None]
    replies = table["replies"].to_pylist()
    assert [one["column"] for one in replies[0]] == ["free", "begun", "day", "people", "why"]
    assert [one["reason"] for one in replies[1]] == ["no_image"] * 5
    assert [one["finish_reason"] for one in replies[2]] == ["stop"] * 5
    assert replies[0][2]["tokens_in"] == 6  # 5 words and an image


def test_a_conversation_carries_questions_and_answers_along() -> None:
    table = Ask(backend="fake", questions=QUESTIONS, prompts=[("free", "")], chat=True, template=QUESTION)(
        batch([b"one", b"two"])
    )
    for row, image in zip(table.to_pylist(), (b"one", b"two"), strict=True):
        turns: list[Turn] = []
        for column, question in QUESTIONS:
            assert row[column] == said(image, prompt_of(question, turns))
            turns.append(Turn(question, row[column]))
        assert row["free"] == said(image, "")
        assert [one["turns"] for one in row["replies"]] == [0, 0, 1, 2]
    alone = Ask(backend="fake", questions=QUESTIONS, template=QUESTION)(batch([b"one"]))
    assert alone["day"][0] == table["day"][0]
    assert alone["why"][0] != table["why"][0]
    assert [one["turns"] for one in alone["replies"][0].as_py()] == [0, 0, 0]


def test_an_answer_that_is_missing_fails_its_row_and_leaves_the_others() -> None:
    images: list[bytes | None] = [bytes([i]) for i in range(200)]
    faults = {"transient_fraction": 0.1, "rejected_fraction": 0.1, "bad_input_fraction": 0.1}
    found = Ask(backend="fake", questions=QUESTIONS, **faults)(batch(images)).to_pylist()
    good = Ask(backend="fake", questions=QUESTIONS)(batch(images)).to_pylist()
    partly = 0
    for row, whole in zip(found, good, strict=True):
        kinds = [one["error_kind"] for one in row["replies"]]
        for (column, _), kind in zip(QUESTIONS, kinds, strict=True):
            assert row[column] == (whole[column] if kind is None else None)
        worst = next((kind for kind in ("transient", "rejected", "bad_input") if kind in kinds), None)
        assert row["error_kind"] == worst
        assert row["reason"] == (f"fake_{worst}" if worst else None)
        if worst:
            columns = [column for column, _ in QUESTIONS]
            told = [f"{c}: fake_{kind}" for c, kind in zip(columns, kinds, strict=True) if kind]
            assert row["detail"] == "; ".join(told)
        partly += 0 < sum(kind is None for kind in kinds) < 3
    assert partly > 80  # 1 - 0.7**3 - 0.3**3 of 200 is 126 in the mean
    assert 40 < sum(row["error_kind"] is None for row in found) < 100  # 0.7**3 of 200 is 69


def test_a_question_without_an_answer_is_left_out_of_the_conversation() -> None:
    images: list[bytes | None] = [bytes([i]) for i in range(60)]
    table = Ask(backend="fake", questions=QUESTIONS, chat=True, template=QUESTION, rejected_fraction=0.3)(batch(images))
    gaps = 0
    for row, image in zip(table.to_pylist(), images, strict=True):
        turns: list[Turn] = []
        for (column, question), reply in zip(QUESTIONS, row["replies"], strict=True):
            assert reply["turns"] == len(turns)
            if row[column] is not None:
                assert row[column] == said(image or b"", prompt_of(question, turns))
                turns.append(Turn(question, row[column]))
            else:
                gaps += column != "why"
    assert gaps > 20


@pytest.mark.parametrize("images", [[], [None, None]])
def test_nothing_to_look_at(images: list[bytes | None]) -> None:
    table = Ask(backend="fake", questions=QUESTIONS, chat=True)(batch(images))
    assert table.num_rows == len(images)
    assert table["reason"].to_pylist() == ["no_image"] * len(images)


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "blip2_opt"
    MAKERS["blip2_opt"](folder)
    return folder


TEMPLATE = "question {} answer"
NOUNS = ("sky", "sea", "dog", "man", "woman", "city", "sun", "tree")
MANY = tuple((noun, f"what is this {noun}") for noun in NOUNS)


def words(prompt: str) -> int:
    """A full stop after one of the tokenizer's own words is a token, after any other it is part of an unknown one."""
    return len(prompt.replace(">.", "> .").split())


@pytest.mark.parametrize("context", [None, 30])
def test_a_conversation_is_cut_to_the_models_context(opt: Path, context: int | None) -> None:
    """A BLIP-2 of 40 positions whose words are a token each: 4 for the image, 1 to start, 2 for an answer."""
    options: dict[str, Any] = {"model": str(opt), "temperature": 0.0, "max_new_tokens": 2, "device": "cpu"}
    stage = Ask(backend="hf", questions=MANY, template=TEMPLATE, chat=True, context=context, **options)
    images = [picture(0), picture(1)]
    backend = HfBackend(**options)
    cut = 0
    for row, image in zip(stage(batch([*images])).to_pylist(), images, strict=True):
        turns: list[Turn] = []
        for (column, question), reply in zip(MANY, row["replies"], strict=True):
            told = list(turns)
            while 4 + 1 + words(prompt_of(question, told, template=TEMPLATE)) + 2 > (context or 40):
                told = told[1:]
            cut += len(told) < len(turns)
            assert reply["turns"] == len(told)
            [answer] = backend.generate([Request("x", (image,), prompt_of(question, told, template=TEMPLATE))])
            assert row[column] == answer.text
            assert reply["tokens_in"] + 2 <= (context or 40)
            if answer.text is not None:  # what a random model writes may be nothing
                turns.append(Turn(question, answer.text))
    assert cut >= 6


def test_a_blip2_is_asked_in_its_own_form_and_captions_without_one(opt: Path) -> None:
    options: dict[str, Any] = {"model": str(opt), "temperature": 0.0, "max_new_tokens": 6, "device": "cpu"}
    table = Ask(backend="hf", questions=[("q", "what is this")], prompts=[("c", ""), ("p", "the sky")], **options)(
        batch([picture(3)])
    )
    prompts = {"q": "Question: what is this Answer:", "c": "", "p": "the sky"}
    backend = HfBackend(**options)
    for column, prompt in prompts.items():
        [answer] = backend.generate([Request("x", (picture(3),), prompt)])
        assert table[column].to_pylist() == [answer.text]
    assert len({table[column][0].as_py() for column in prompts}) == 3


def test_the_identity_holds_what_changes_an_answer(opt: Path) -> None:
    def named(**given: Any) -> dict[str, object]:
        return identity(**{"backend": "hf", "model": str(opt), "questions": QUESTIONS, **given})

    base = named()
    assert (base["stage"], base["model"], base["template"]) == ("ask", "blip2_opt", "Question: {} Answer:")
    assert "prompt" not in base
    assert identity(backend="fake", questions=QUESTIONS)["template"] == "{}"
    for same in ({"batch_size": 7}, {"device": "cpu"}, {"template": QUESTION}, {"context": 100}):
        assert named(**same) == base
    others: list[dict[str, Any]] = [
        {"questions": QUESTIONS[:2]},
        {"questions": QUESTIONS[::-1]},
        {"questions": (("dark", QUESTIONS[0][1]), *QUESTIONS[1:])},
        {"prompts": [("free", "")]},
        {"template": "{}"},
        {"chat": True},
        {"max_new_tokens": 3},
        {"temperature": 0.0},
    ]
    names = [str(named(**other)) for other in others]
    assert len({str(base), *names}) == len(others) + 1
    assert named(chat=True, context=100) != named(chat=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"questions": []}, "there is nothing to ask"),
        ({"questions": [("reason", "why?")]}, "the column 'reason' is one that every table has"),
        ({"questions": [("a=b", "why?")]}, "the column 'a=b' holds a ="),
        ({"questions": [(" ", "why?")]}, "the column ' ' is blank"),
        ({"questions": [("Sky", "why?")], "prompts": [("sky", "")]}, "the column 'sky' is there twice"),
        ({"questions": QUESTIONS, "template": "Question:"}, "has no {} where the question goes"),
    ],
)
def test_what_cannot_be_asked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ask(backend="fake", **given)


def test_a_blank_answer_is_a_rejected_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters alone are nothing once they are tidied away, and no turn of a conversation."""
    stage = Ask(backend="fake", questions=QUESTIONS, chat=True)
    monkeypatch.setattr(stage._backend, "generate", lambda requests: [answered("\x00", "stop") for _ in requests])
    [row] = stage(batch([b"one"])).to_pylist()
    assert [one["reason"] for one in row["replies"]] == ["empty_answer"] * 3
    assert [one["turns"] for one in row["replies"]] == [0, 0, 0]
    assert (row["error_kind"], row["reason"], row["day"]) == ("rejected", "empty_answer", None)
