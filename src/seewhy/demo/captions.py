"""Reference captions of the demo's posters, and the way back from a caption's words to the factors."""

import re

import numpy as np

from seewhy.demo.factors import FACTORS

CONTRADICTION = "contradiction"
"""What `mentioned` says of a factor when words of both its levels occur in one caption."""

# A telling word as it stands in a sentence, where it needs more than itself.
_PHRASES = {
    "lone": "a lone figure",
    "solitary": "a solitary figure",
    "single": "a single figure",
    "three": "three figures",
    "trio": "a trio of figures",
    "group": "a group of figures",
    "car": "a vintage car",
    "automobile": "an old automobile",
    "sedan": "a parked sedan",
    "dog": "a patient dog",
    "hound": "a faithful hound",
    "puppy": "a curious puppy",
    "sun": "the sun",
    "sunburst": "a sunburst",
    "sunrise": "a sunrise",
    "moon": "the moon",
    "crescent": "a crescent",
    "moonrise": "a moonrise",
    "mountains": "high mountains",
    "peaks": "jagged peaks",
    "ridges": "distant ridges",
    "skyline": "a wide skyline",
    "towers": "tall towers",
    "skyscrapers": "rows of skyscrapers",
}

# One template of each group makes a caption. No slot opens a sentence: telling words stay in lower case.
_TEMPLATES = (
    (
        "A {lighting} scene in {palette} tones, with {weather} in the air, sets an intimate mood.",
        "The poster opens on a {lighting} world of {palette} colors and {weather}.",
        "There is a {lighting} atmosphere here, all {palette} hues and {weather}.",
        "Drawn in {palette} shades, this {lighting} image lets {weather} fall over everything.",
    ),
    (
        "On the {place}, {people} and {object} share a quiet moment.",
        "We see {people} on the {place}, facing {object}.",
        "The story gathers around {people} to the {place} and {object} close by.",
        "Nothing moves but {object} and, on the {place}, {people}.",
    ),
    (
        "Behind them {sky} meets {land}.",
        "In the background, {land} and {sky} draw the eye.",
        "Far away, {sky} above {land} gives it depth.",
        "The view opens to {land} under {sky}.",
    ),
    (
        "With {title} lettering on a {frame} layout, it stays in the memory.",
        "The {title} title and the {frame} design make it appealing.",
        "A {frame} composition and {title} type invite a closer look.",
        "Its {title} letters and {frame} sheet are its signature.",
    ),
)

_LEVEL_OF = {
    word: (name, level) for name, factor in FACTORS.items() for level, words in factor.words.items() for word in words
}


def level_words() -> dict[tuple[str, str], frozenset[str]]:
    """(factor, level) -> every word that a caption holds only if its poster shows that level.

    The telling words, and those that come along with them alone: "vintage" with car, "figure" with one person.
    """
    phrases = {
        (name, level): {part for word in words for part in _words(_PHRASES.get(word, word))}
        for name, factor in FACTORS.items()
        for level, words in factor.words.items()
    }
    frames = {word for group in _TEMPLATES for template in group for word in _words(re.sub(r"{\w+}", "", template))}
    return {
        key: frozenset(own - frames - {word for other, words in phrases.items() if other != key for word in words})
        for key, own in phrases.items()
    }


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def caption(factors: dict[str, str], rng: np.random.Generator) -> str:
    """A caption of about 45 words that says every factor of a poster, in one of many wordings."""
    chosen = {}
    for name, level in factors.items():
        words = FACTORS[name].words[level]
        word = words[rng.integers(len(words))]
        chosen[name] = _PHRASES.get(word, word)
    sentences = [group[rng.integers(len(group))].format(**chosen) for group in _TEMPLATES]
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", " ".join(sentences))


def mentioned(text: str) -> dict[str, str]:
    """Factor -> level as a caption's words tell; factors without a telling word are left out.

    A factor told both ways gets CONTRADICTION, which equals no level.
    """
    found: dict[str, str] = {}
    for word in _words(text):
        if word in _LEVEL_OF:
            name, level = _LEVEL_OF[word]
            found[name] = level if found.get(name, level) == level else CONTRADICTION
    return found
