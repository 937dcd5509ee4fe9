"""Words of languages that put spaces between them: English by lemmas, any other as it stands."""

from importlib.metadata import version
from typing import Any

from seewhy.words.rules import Rules, Tokenizer, lettered, normal
from seewhy.words.spans import word_ranges

# Words that say how others belong together and nothing by themselves. Those that change what is seen stay: no, not,
# without, all, many, few, above, below, under, near.
_GRAMMAR = """
    a an the this that these those
    i me my mine myself you your yours yourself we us our ours he him his she her hers it its they them their theirs
    himself herself itself themselves who whom whose which what
    am is are was were be been being do does did doing done have has had having
    can could may might must shall should will would
    and or but nor so yet if as than then because while whereas although though
    of to in on at by for from with into onto upon about
    there here when where why how
    also too very just such both each other another some any
"""
STOP_WORDS = frozenset(_GRAMMAR.split())

# Frequent in English and rare elsewhere, unlike a, in, is, of, as, do, me or no.
_ENGLISH_ONLY = "the and with are on at to from by for his her their this that there which has"
ENGLISH_ONLY = frozenset(_ENGLISH_ONLY.split())

_REMEMBERED = 500_000  # words


def lower_words(text: str) -> list[str]:
    """The text's words in lower case and NFKC, without marks; a possessive 's is taken off."""
    text = normal(text).replace("’", "'")
    found = [text[start:end].removesuffix("'s") for start, end in word_ranges(text)]
    return [word for word in found if lettered(word)]


def english(rules: Rules) -> Tokenizer:
    import simplemma

    rules.refuse("english", "parts_of_speech", "user_dictionary")
    stops = rules.stops(STOP_WORDS)
    known: dict[str, str | None] = {}

    def word_of(surface: str) -> str | None:
        # a compound stays whole: lit alone is a form of light, well-lit is not
        lemma = simplemma.lemmatize(surface, lang="en").lower() if surface.isalpha() else surface
        shown = lemma if rules.form == "base" else surface
        return None if surface in stops or lemma in stops else shown

    def tokenize(text: str) -> list[str]:
        if len(known) > _REMEMBERED:
            known.clear()
        found = []
        for surface in lower_words(text):
            if surface not in known:
                known[surface] = word_of(surface)
            if (word := known[surface]) is not None:
                found.append(word)
        return found

    return tokenize


def english_identity(rules: Rules) -> dict[str, Any]:
    rules.refuse("english", "parts_of_speech", "user_dictionary")
    return {"library": f"simplemma {version('simplemma')}", "stop_words": sorted(rules.stops(STOP_WORDS))}


def plain_words(rules: Rules) -> Tokenizer:
    rules.refuse("words", "parts_of_speech", "user_dictionary")
    stops = rules.stops(frozenset())
    return lambda text: [word for word in lower_words(text) if word not in stops]


def plain_words_identity(rules: Rules) -> dict[str, Any]:
    rules.refuse("words", "parts_of_speech", "user_dictionary")
    # janome cuts texts with kana, see spans.word_ranges
    return {"library": f"janome {version('janome')}", "stop_words": sorted(rules.stops(frozenset()))}
