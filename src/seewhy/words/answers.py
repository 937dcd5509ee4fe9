"""Answers to a study's questions as words: ``sky=moon`` is the word of the answer "Moon." in the column "sky"."""

import unicodedata
from collections.abc import Sequence

from scipy import sparse

VERSION = 1
"""Goes up with every change of the word that an answer becomes."""

_ENDS = ".!?。！？"


def answer_line(column: str, answer: str) -> str:
    """What a reader sees of an answer: ``sky=Moon.``, on one line."""
    return f"{column}={' '.join(answer.split())}"


def answer_word(line: str) -> str:
    """The word of such a line: in NFKC and lower case, without the full stop that ends a sentence."""
    return " ".join(unicodedata.normalize("NFKC", line).lower().split()).rstrip(_ENDS).rstrip()


def spare_answers(words: Sequence[str], held: sparse.csr_matrix) -> list[int]:
    """Columns of words that say nothing of their own: the second of the two answers to a question that every text gives
    one of. A sparse model could take either, so random halves of the texts would not agree on one.

    Args:
        words: V of them; those without ``=`` are no answers.
        held: (N, V) bool, which text holds which word.
    """
    of_column: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        if "=" in word:
            of_column.setdefault(word.split("=", 1)[0], []).append(place)
    spare = []
    for places in of_column.values():
        if len(places) == 2:
            first, second = (held[:, [place]].toarray()[:, 0].astype(bool) for place in places)
            if (first != second).all():
                spare.append(places[1])
    return spare


def place_of_line(word: str, text: str) -> tuple[int, int] | None:
    """Where the last line of `text` stands whose word it is; None where there is none."""
    end = len(text)
    for line in reversed(text.split("\n")):
        if answer_word(line) == word:
            return end - len(line), end
        end -= len(line) + 1
    return None
