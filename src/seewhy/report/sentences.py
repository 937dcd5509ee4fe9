"""The sentence of a text that holds a word, cut to what fits under a picture, with the word set off."""

import re
from dataclasses import dataclass

from seewhy.report.results import FindSentence

_END = re.compile(r"[。！？!?]+[」』）)”\"']*|[.．](?=\s|$)|\n+")
_HAN = re.compile(r"[\u3400-\u9fff]")
_SPACED = re.compile(r"[0-9A-Za-z\u00c0-\u024f\u0370-\u052f]")  # scripts that put spaces between words


@dataclass(frozen=True)
class Quote:
    """`word` as the text spells it, between what stands before and after it; empty where it was not found."""

    before: str
    word: str
    after: str

    @property
    def text(self) -> str:
        return self.before + self.word + self.after


def quote(text: str, word: str, *, find: FindSentence | None = None, most: int = 140) -> Quote:
    """The first sentence that holds `word`, on one line, at most about `most` characters with the word among them.

    The start of the text where no sentence holds it.
    """
    if find is not None:
        found = find(word, text)
        start, end = found if found is not None else (0, len(text))
        held = found is not None
    else:
        at = spelt(text, word)
        start, end = _sentence_around(text, at[0]) if at else (0, len(text))
        held = at is not None
    sentence = " ".join(text[start:end].split())
    at = (spelt(sentence, word) or _inflected(sentence, word)) if held else None
    if at is None:
        return Quote(_cut_end(sentence, most), "", "")
    before, after = sentence[: at[0]], sentence[at[1] :]
    room = max(most - (at[1] - at[0]), 20)
    if len(before) + len(after) > room:
        before = _cut_start(before, max(room // 2, room - len(after)))
        after = _cut_end(after, room - len(before))
    return Quote(before, sentence[at[0] : at[1]], after)


def spelt(text: str, word: str) -> tuple[int, int] | None:
    """Where `word` stands first, whatever its case; a word of letters that are set apart by spaces as a whole word."""
    if not word:
        return None
    left = r"(?<!\w)" if _SPACED.match(word[0]) else ""
    right = r"(?!\w)" if _SPACED.match(word[-1]) else ""
    found = re.search(left + re.escape(word) + right, text, re.IGNORECASE)
    return found.span() if found else None


def _inflected(sentence: str, word: str) -> tuple[int, int] | None:
    """Where the longest beginning of a base form stands, such as 面 of 面する in 面した.

    Half of the word or more, or a Han letter that stands in the sentence once.
    """
    left = r"(?<!\w)" if word and _SPACED.match(word[0]) else ""
    for length in range(len(word) - 1, 0, -1):
        start = word[:length]
        if 2 * length < len(word) and not (_HAN.fullmatch(start) and sentence.count(start) == 1):
            continue
        if found := re.search(left + re.escape(start), sentence, re.IGNORECASE):
            return found.span()
    return None


def _sentence_around(text: str, at: int) -> tuple[int, int]:
    start = 0
    for mark in _END.finditer(text):
        if mark.end() > at:
            return start, mark.end()
        start = mark.end()
    return start, len(text)


def _cut_end(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    cut = text[: max(most - 1, 0)]
    return (cut[: cut.rfind(" ")] if " " in cut[most // 2 :] else cut) + "…"


def _cut_start(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    cut = text[len(text) - max(most - 1, 0) :]
    return "…" + (cut[cut.find(" ") + 1 :] if " " in cut[: most // 2] else cut)
