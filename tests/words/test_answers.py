"""Answers as words: tidied, lower-cased, and found again in the text that a reader sees."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from seewhy.words.answers import answer_line, answer_word, place_of_line, spare_answers
from seewhy.words.tokenise import TokeniseWords


@pytest.mark.parametrize(
    ("column", "answer", "word"),
    [
        ("sky", "Moon.", "sky=moon"),
        ("sky", " the\n full  moon!", "sky=the full moon"),
        ("Sky", "MOON", "sky=moon"),
        ("空", "月です。", "空=月です"),
        ("how many?", "ＴＷＯ", "how many?=two"),
        ("sum", "a=b", "sum=a=b"),
    ],
)
def test_the_word_of_an_answer(column: str, answer: str, word: str) -> None:
    line = answer_line(column, answer)
    assert "\n" not in line
    assert answer_word(line) == word
    text = f"A caption.\nWith two lines.\n{line}\nother=one"
    start, end = place_of_line(word, text)
    assert text[start:end] == line


def test_a_line_that_is_not_there() -> None:
    assert place_of_line("sky=moon", "The sky=moonlit scene.\nsky=sun") is None
    assert place_of_line("sky=moon", "sky=moon\nsky=Moon.") == (9, 18)  # the last: a caption could say it too


def test_words_of_answers_come_after_those_of_the_text() -> None:
    rows = pa.table(
        {
            "id": ["a", "b", "c"],
            "text": ["A dog under the moon.", None, ""],
            "answers": [["sky=Moon.", "people=one"], ["sky=sun", "people=three"], []],
        }
    )
    found = TokeniseWords(tokenizer="english")(rows)
    told = ["dog", "under", "moon", "sky=moon", "people=one"]
    assert found["words"].to_pylist() == [told, ["sky=sun", "people=three"], []]
    assert TokeniseWords(tokenizer="english")(rows.drop(["answers"]))["words"].to_pylist()[0] == told[:3]


def test_of_two_answers_that_rule_each_other_out_one_is_spare() -> None:
    words = ["moon", "sky=moon", "sky=sun", "how=red", "how=blue", "sun", "way=a", "way=b", "way=c"]
    held = np.zeros((4, len(words)), bool)
    held[:, 0] = held[:, 1] = [1, 1, 1, 0]
    held[:, 2] = held[:, 5] = [0, 0, 0, 1]  # sun and moon are words of captions too: those stay
    held[:, 3] = [1, 1, 0, 0]
    held[:, 4] = [0, 0, 1, 0]  # the last text gives an answer that too few give
    held[:, 6], held[:, 7], held[:, 8] = [1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]
    assert spare_answers(words, sparse.csr_matrix(held)) == [2]
    assert spare_answers([], sparse.csr_matrix((4, 0))) == []
