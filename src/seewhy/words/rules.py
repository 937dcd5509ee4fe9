"""What a tokenizer is told: which of a text's words to keep, and in which form."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FORMS = ("base", "surface")

Tokenizer = Callable[[str], list[str]]
"""text -> its words in order, repeats kept; an empty list for a text without any."""


@dataclass(frozen=True)
class Rules:
    """The options of tokens.load_tokenizer, where they are explained."""

    form: str = "base"
    parts_of_speech: Sequence[str] | None = None
    stop_words: Sequence[str] | None = None
    user_dictionary: str | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form is {self.form!r}; allowed: {', '.join(FORMS)}")
        for name in ("parts_of_speech", "stop_words"):
            if isinstance(given := getattr(self, name), str):
                raise ValueError(f"{name} is the text {given!r}; a list is needed")

    def refuse(self, tokenizer: str, *names: str) -> None:
        """Raises ValueError where an option is given that the tokenizer does not take."""
        for name in names:
            if (given := getattr(self, name)) is not None:
                raise ValueError(f"{name}={given!r}: the tokenizer {tokenizer!r} takes no {name}")

    def stops(self, default: frozenset[str]) -> frozenset[str]:
        return default if self.stop_words is None else frozenset(map(normal, self.stop_words))


def normal(text: str) -> str:
    """Lower case, and one form for letters that can be written in several ways: full or half width, with one accent."""
    return unicodedata.normalize("NFKC", text).lower()


def lettered(word: str) -> bool:
    """Whether there is a letter or a digit in it; marks alone are no word."""
    return any(map(str.isalnum, word))
