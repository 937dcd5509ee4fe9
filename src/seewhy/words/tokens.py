"""From a text to the words that are counted: one interface, chosen by one setting.

janome    Japanese; needs nothing but Python. Its words are found several times sooner than by itself, see lattice.py.
sudachi   Japanese; compiled, with a larger and newer dictionary: ``pip install seewhy[sudachi]``.
english   lower-cased words by their lemmas, of simplemma: whole English words (a stemmer's "peopl" is none), from
          tables that lie in the package, so that nothing is downloaded, millions of words a second.
words     any language: lower-cased words as they stand, Han characters one by one; texts with kana as janome cuts them.
auto      is none of these, but what `choose_tokenizer` makes of a sample of the texts, once for all of them.

Texts are put into NFKC first (full-width and half-width letters are the same), words into lower case; a word has a
letter or a digit. The words are those that carry content: by part of speech in Japanese, by a list of stop words in
English. Both rules can be changed.

A tokenizer is two functions of the same rules: one loads it, the other tells, without loading any dictionary, all that
changes its words. The second belongs into the name of the table that holds them.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from seewhy.words import japanese, spaced
from seewhy.words.rules import FORMS, Rules, Tokenizer
from seewhy.words.spans import sentence_ranges

__all__ = [
    "AUTO",
    "FORMS",
    "IDENTITIES",
    "LOADERS",
    "VERSION",
    "Tokenizer",
    "choose_tokenizer",
    "load_tokenizer",
    "sentence_with",
    "tokenizer_identity",
]

AUTO = "auto"
VERSION = 1
"""Goes up with every change of this code that changes a word."""

LOADERS: dict[str, Callable[[Rules], Tokenizer]] = {
    "janome": japanese.janome,
    "sudachi": japanese.sudachi,
    "english": spaced.english,
    "words": spaced.plain_words,
}
IDENTITIES: dict[str, Callable[[Rules], dict[str, Any]]] = {
    "janome": japanese.janome_identity,
    "sudachi": japanese.sudachi_identity,
    "english": spaced.english_identity,
    "words": spaced.plain_words_identity,
}

_SAMPLE, _SAMPLE_CHARACTERS = 200, 2000  # texts that are looked at to choose, and how much of each
_ENGLISH_SHARE = 0.1  # a seventh or more of an English text's words are in ENGLISH_ONLY, of a Danish one's a twentieth

_T = TypeVar("_T")


def load_tokenizer(
    name: str,
    *,
    form: str = "base",
    parts_of_speech: Sequence[str] | None = None,
    stop_words: Sequence[str] | None = None,
    user_dictionary: str | None = None,
) -> Tokenizer:
    """The tokenizer of that name.

    Args:
        name: a key of LOADERS.
        form: ``base``: 歩いた and 歩く are one word, 歩く (in English the lemma); ``surface``: as they stand, 歩い. The
            dictionary decides: IPADIC takes a few forms for another verb's (面した for 面す, beside 面する).
            ``words`` knows no base forms.
        parts_of_speech: Japanese only. What is kept, in the dictionary's own terms from the left: ``名詞`` all nouns,
            ``名詞,一般`` the general ones, ``*`` everything, ``-名詞,数`` all but those. Of the rules that fit a word
            the longest decides; a word that none fits is left out. None: words with a content of their own
            (japanese.CONTENT).
        stop_words: words that are left out, in whichever form they are named. None: the language's own list
            (STOP_WORDS in japanese.py and spaced.py); ``words`` has none.
        user_dictionary: janome only. URL of a CSV file (UTF-8) of words of one's own, in janome's full format of 13
            columns or its simple one of 3: surface, part of speech, reading.

    Raises:
        ValueError: no such tokenizer, or an option that it does not take.
        Fatal: an extra is missing, or the user's dictionary cannot be read.
    """
    return _entry(LOADERS, name)(Rules(form, parts_of_speech, stop_words, user_dictionary))


def tokenizer_identity(
    name: str,
    *,
    form: str = "base",
    parts_of_speech: Sequence[str] | None = None,
    stop_words: Sequence[str] | None = None,
    user_dictionary: str | None = None,
) -> dict[str, Any]:
    """All that changes the words of `load_tokenizer` with the same arguments: library, dictionary, rules. JSON-able."""
    told = _entry(IDENTITIES, name)(Rules(form, parts_of_speech, stop_words, user_dictionary))
    return {"tokenizer": name, "version": VERSION, "form": form, **told}


def choose_tokenizer(texts: Sequence[str]) -> str:
    """``janome``, ``english`` or ``words``, by up to 200 of the texts taken at equal distances.

    Japanese: kana and Han characters are half of all letters, and kana a twentieth of those (Chinese has next to none).
    English: a tenth or more of the words are of spaced.ENGLISH_ONLY. The same texts always give the same answer.
    """
    count = min(len(texts), _SAMPLE)
    sample = [texts[i * len(texts) // count][:_SAMPLE_CHARACTERS] for i in range(count)]
    letters = [letter for text in sample for letter in text if letter.isalpha()]
    kana = sum("\u3041" <= letter <= "\u30ff" or "\uff66" <= letter <= "\uff9f" for letter in letters)
    han = sum("\u3400" <= letter <= "\u9fff" for letter in letters)
    if kana and 2 * (kana + han) >= len(letters) and 20 * kana >= kana + han:
        return "janome"
    found = [word for text in sample for word in spaced.lower_words(text)]
    english = sum(word in spaced.ENGLISH_ONLY for word in found)
    return "english" if english and english >= _ENGLISH_SHARE * len(found) else "words"


def sentence_with(word: str, text: str, tokenizer: Tokenizer) -> tuple[int, int] | None:
    """Where the first sentence stands whose words hold `word`, which the text itself may show in another form."""
    for start, end in sentence_ranges(text):
        if word in tokenizer(text[start:end]):
            return start, end
    return None


def _entry(table: dict[str, _T], name: str) -> _T:
    if name not in table:
        hint = "; auto is settled by choose_tokenizer before" if name == AUTO else ""
        raise ValueError(f"tokenizer {name!r} is none of {', '.join(table)}{hint}")
    return table[name]
