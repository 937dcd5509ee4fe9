"""Token values summed to words, phrases and sentences of the original text.

Spans are ranges of characters. On every level each token belongs to exactly one span, so each level's values sum to
the tokens' sum. Where a token straddles two spans (a piece of a Japanese subword model may cover the end of one word
and the start of the next), the two become one: a token's value is never split, for how to split it nobody could say.
A token without a character of its own ([CLS], [SEP], a space) goes with the token behind it, at the end of the text
with the one before it. Such a token has a value only when a budget ran out: its share of what a group of neighbours
kept together.

Words     letters, digits and combining marks, with apostrophes and hyphens inside, and 3.5 or 10:30 whole; Han
          characters one by one; where the text is mostly Japanese, what janome takes for words. Each run of
          punctuation or symbols stands as a word of its own.
Phrases   end behind , ; : followed by a space, behind their East Asian forms, before ( and behind ), behind a dash
          that stands alone, and before a conjunction (CONJUNCTIONS). English conjunctions only.
Sentences end behind . ! ? and their closing quotes when a space follows (not behind an abbreviation, an initial or
          the number of a list's entry), behind 。！？ and their closing quotes at once, and at a line break.
A phrase lies within its sentence. Marks that would stand alone on these two levels join what is before them.
"""

import bisect
import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONJUNCTIONS = ("and", "or", "but", "nor", "yet", "because", "although", "though", "while", "whereas", "which", "who")
ABBREVIATIONS = ("mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "jr", "sr")

_CLOSING = "\"'”’)\\]」』）】"
_SENTENCE_END = re.compile(rf"[.!?…]+[{_CLOSING}]*(?=\s)|[。！？｡।؟۔]+[{_CLOSING}]*|[\r\n]+")
_BREAK_BEHIND = re.compile(r"[,;:](?=\s)|[、，；：､]|\s[-–—]+(?=\s)|[)）]|—")
_BREAK_BEFORE = re.compile(rf"[(（]|\b(?:{'|'.join(CONJUNCTIONS)})\b", re.IGNORECASE)
_WORD = re.compile(r"[wd]+(?:(?:j|(?<=d)n(?=d))[wd]+)*|h|[pjn]+")
_JOINERS = "'’-‐‑"


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` of the text, and the sum of its tokens' values, (K,)."""

    text: str
    start: int
    end: int
    values: np.ndarray


@dataclass(frozen=True)
class Levels:
    """The same values on four levels, each in the order of the text."""

    tokens: tuple[Span, ...]  # one a token; those without a character have start == end
    words: tuple[Span, ...]
    phrases: tuple[Span, ...]
    sentences: tuple[Span, ...]


def levels(text: str, offsets: Sequence[tuple[int, int]], values: np.ndarray) -> Levels:
    """Sums (T, K) token values over words, phrases and sentences.

    Args:
        text: what was explained.
        offsets: T pairs, the characters of each token, in order; see `token_offsets`.
        values: (T, K).

    Raises:
        ValueError: offsets and values disagree in length, or an offset lies outside the text.
    """
    if len(offsets) != len(values):
        raise ValueError(f"{len(offsets)} offsets for {len(values)} tokens' values")
    if wrong := [pair for pair in offsets if not 0 <= pair[0] <= pair[1] <= len(text)]:
        raise ValueError(f"offset {wrong[0]} is outside the text of {len(text)} characters")
    narrow = [_trimmed(text, start, end) for start, end in offsets]
    words = word_ranges(text)
    sentences = sentence_ranges(text)
    phrases = phrase_ranges(text, words=words, sentences=sentences)
    return Levels(
        tokens=tuple(Span(text[start:end], start, end, row) for (start, end), row in zip(narrow, values, strict=True)),
        words=_summed(text, words, narrow, values),
        phrases=_summed(text, phrases, narrow, values),
        sentences=_summed(text, sentences, narrow, values),
    )


def token_offsets(text: str, *, tokenizer: Any, segments: Sequence[str]) -> list[tuple[int, int]]:
    """The characters of each of a text's T tokens: the tokenizer's own, or found by the pieces that shap shows.

    Args:
        tokenizer: of transformers. One written in Python has no offsets.
        segments: (T,) the pieces. Each is looked for behind the one before it, case and width of letters apart; one
            that is not there (an unknown token, a special one) stands at that place without a character.
    """
    if getattr(tokenizer, "is_fast", False):
        return [(start, end) for start, end in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]
    folded, places = _folded(text)
    found, position = [], 0
    for segment in segments:
        piece = _folded(segment.strip())[0]
        start = folded.find(piece, position) if piece else -1
        if start < 0:
            found.append((places[position], places[position]))
            continue
        position = start + len(piece)
        found.append((places[start], places[position - 1] + 1))
    return found


def _folded(text: str) -> tuple[str, list[int]]:
    """The text in lower case and NFKC, and for each of its characters (and its end) the place it came from."""
    parts = [unicodedata.normalize("NFKC", letter).lower() for letter in text]
    places = [i for i, part in enumerate(parts) for _ in part]
    return "".join(parts), [*places, len(text)]


def word_ranges(text: str) -> list[tuple[int, int]]:
    """All of the text but its spaces, cut into words and runs of punctuation."""
    if _mostly_japanese(text):
        ranges, position = [], 0
        for surface in _janome().tokenize(text, wakati=True):
            start = text.index(surface, position)
            position = start + len(surface)
            ranges.append(_trimmed(text, start, position))
        return [(start, end) for start, end in ranges if start < end]
    return [match.span() for match in _WORD.finditer("".join(map(_kind, text)))]


def sentence_ranges(text: str) -> list[tuple[int, int]]:
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if not _abbreviated(text, match)]
    return _between(text, ends, start=0, end=len(text))


def phrase_ranges(
    text: str, *, words: Sequence[tuple[int, int]], sentences: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Phrases; a mark inside a word (the colon of a time, the hyphen of a compound) does not end one."""
    inside = {place for start, end in words if text[start].isalnum() for place in range(start + 1, end)}
    ends = {match.end() for match in _BREAK_BEHIND.finditer(text)}
    ends |= {match.start() for match in _BREAK_BEFORE.finditer(text)}
    allowed = sorted(ends - inside)
    ranges = []
    for start, end in sentences:
        within = allowed[bisect.bisect_right(allowed, start) : bisect.bisect_left(allowed, end)]
        ranges += _between(text, within, start=start, end=end)
    return ranges


def _between(text: str, ends: Sequence[int], *, start: int, end: int) -> list[tuple[int, int]]:
    """`start` to `end` cut at the ends, spaces trimmed. A piece without a letter or digit joins the one before it,
    or, when it is the first, the one behind it."""
    ranges: list[tuple[int, int]] = []
    position = start
    for stop in [*ends, end]:
        piece = _trimmed(text, position, stop)
        position = stop
        if piece[0] == piece[1]:
            continue
        if ranges and not (_lettered(text, piece) and _lettered(text, ranges[-1])):
            piece = (ranges.pop()[0], piece[1])
        ranges.append(piece)
    return ranges


def _lettered(text: str, piece: tuple[int, int]) -> bool:
    return any(letter.isalnum() for letter in text[piece[0] : piece[1]])


def _summed(
    text: str, ranges: Sequence[tuple[int, int]], narrow: Sequence[tuple[int, int]], values: np.ndarray
) -> tuple[Span, ...]:
    """Each range, widened to whole tokens, with the sum of its tokens' values."""
    if not ranges:
        return ()
    starts = np.array([start for start, _ in ranges])
    first = np.array([start for start, _ in narrow], dtype=int)
    last = np.array([end - 1 for _, end in narrow], dtype=int)
    seen = np.flatnonzero(last >= first)
    # the ranges leave only spaces uncovered, and a token neither starts nor ends with one
    low = np.searchsorted(starts, first[seen], side="right") - 1
    high = np.searchsorted(starts, last[seen], side="right") - 1
    joined = np.zeros(len(ranges), dtype=bool)  # True: one span with the range before it
    for a, b in zip(low, high, strict=True):
        joined[a + 1 : b + 1] = True
    group = np.cumsum(~joined) - 1
    home = np.zeros(len(narrow), dtype=int)
    if len(seen):
        following = np.minimum(np.searchsorted(seen, np.arange(len(narrow))), len(seen) - 1)
        home = group[low[following]]
    totals = np.zeros((int(group[-1]) + 1, values.shape[1]))
    np.add.at(totals, home, values)
    heads = np.flatnonzero(~joined).tolist()
    tails = [head - 1 for head in heads[1:]] + [len(ranges) - 1]
    spans = [(ranges[a][0], ranges[b][1]) for a, b in zip(heads, tails, strict=True)]
    return tuple(Span(text[a:b], a, b, total) for (a, b), total in zip(spans, totals, strict=True))


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    return start, end


def _kind(letter: str) -> str:
    """s space, h Han character, d digit, w letter or mark on one, j joins letters, n joins digits, p all else."""
    if letter.isspace():
        return "s"
    if letter.isdigit():
        return "d"
    if "\u3400" <= letter <= "\u9fff" or "\uf900" <= letter <= "\ufaff" or letter >= "\U00020000":
        return "h" if letter.isalpha() else "p"
    if letter.isalnum() or letter == "_" or unicodedata.category(letter) in ("Mn", "Mc"):
        return "w" if letter != "\ufe0f" else "p"  # the sign that asks for a coloured symbol is no accent
    return "j" if letter in _JOINERS else "n" if letter in ".,:" else "p"


def _mostly_japanese(text: str) -> bool:
    """Some kana, and kana and Han characters make up half of the letters or more."""
    letters = [letter for letter in text if letter.isalpha()]
    kana = sum("\u3041" <= letter <= "\u30ff" or "\uff66" <= letter <= "\uff9f" for letter in letters)
    han = sum(_kind(letter) == "h" for letter in letters)
    return kana > 0 and 2 * (kana + han) >= len(letters)


def _abbreviated(text: str, match: re.Match[str]) -> bool:
    if match.group() != ".":
        return False
    line = text[max(0, match.start() - 12) : match.start()].rpartition("\n")[2]
    found = re.search(r"[\w.]+$", line)
    word = found.group() if found else ""
    initial = len(word) == 1 and word.isupper() and word != "I"
    return word.lower() in ABBREVIATIONS or initial or (word.isdigit() and line.strip() == word)


@functools.cache
def _janome() -> Any:
    from janome.tokenizer import Tokenizer  # reads its dictionary: only for those who need it

    return Tokenizer()
