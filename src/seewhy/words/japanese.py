"""Japanese words by janome or Sudachi: the same rules of choosing over either one's morphemes."""

import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seewhy import storage
from seewhy.failure import Fatal
from seewhy.hiding import shown, told
from seewhy.table import digest_text
from seewhy.words.rules import Rules, Tokenizer, lettered

# Words of grammar that the dictionaries call verbs, nouns or adnominals.
_GRAMMAR = """
    する いる おる ある なる れる られる せる させる できる いう しまう おく くる いく みる もらう くれる くださる
    こと もの ため よう とき ところ それ これ あれ どれ ここ そこ この その あの どの こんな そんな
"""
STOP_WORDS = frozenset(_GRAMMAR.split())

# What has a content of its own. Parts of speech that a user's dictionary makes up stay.
CONTENT = {
    "janome": (
        *("*", "-助詞", "-助動詞", "-接続詞", "-接頭詞", "-感動詞", "-記号", "-フィラー", "-その他"),
        *("-名詞,非自立", "-名詞,代名詞", "-名詞,数", "-名詞,特殊", "-名詞,接続詞的", "-名詞,動詞非自立的"),
        *("-名詞,接尾,助数詞", "-名詞,接尾,助動詞語幹", "-名詞,接尾,特殊"),
        *("-動詞,非自立", "-動詞,接尾", "-形容詞,非自立", "-形容詞,接尾"),
    ),
    "sudachi": (
        *("*", "-助詞", "-助動詞", "-接続詞", "-接頭辞", "-感動詞", "-代名詞", "-補助記号", "-記号", "-空白"),
        *("-名詞,数詞", "-名詞,助動詞語幹", "-形状詞,助動詞語幹"),
        *("-接尾辞,名詞的,助数詞", "-接尾辞,動詞的", "-接尾辞,形容詞的", "-接尾辞,形状詞的"),
    ),
}

_REMEMBERED = 500_000  # morphemes
_PIECE = 10_000  # characters: Sudachi takes 49,149 bytes at once
_COLUMNS = {13: "ipadic", 3: "simpledic"}  # janome's two formats of a user's dictionary

Morphemes = Callable[[str], Iterable[tuple[str, str, str]]]
"""text -> (surface, part of speech, base form) of each morpheme."""


def janome(rules: Rules) -> Tokenizer:
    from janome.tokenizer import Tokenizer as Janome

    from seewhy.words.lattice import Lattice

    if rules.user_dictionary is None:
        return _chosen(Lattice(Janome(mmap=True)), "janome", rules)
    data, kind = _read_dictionary(rules.user_dictionary)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.csv"  # janome reads a file of this ending and no other
        path.write_bytes(data)
        lattice = Lattice(Janome(str(path), udic_enc="utf8", udic_type=kind, mmap=True))
    return _chosen(lattice, "janome", rules)


def janome_identity(rules: Rules) -> dict[str, Any]:
    own = rules.user_dictionary and digest_text(_read_dictionary(rules.user_dictionary)[0].decode())
    return {"library": f"janome {version('janome')}", "user_dictionary": own, **_told("janome", rules)}


def sudachi(rules: Rules) -> Tokenizer:
    rules.refuse("sudachi", "user_dictionary")
    try:
        from sudachipy import Dictionary, SplitMode

        tokenizer = Dictionary(dict="core").tokenizer(mode=SplitMode.C)
    except ModuleNotFoundError as error:
        raise _no_sudachi() from error
    names: dict[int, str] = {}

    def morphemes(text: str) -> Iterable[tuple[str, str, str]]:
        for piece in _pieces(text):
            for found in tokenizer.tokenize(piece):
                part = found.part_of_speech_id()
                if part not in names:
                    names[part] = ",".join(found.part_of_speech()[:4])
                yield found.surface(), names[part], found.dictionary_form()

    return _chosen(morphemes, "sudachi", rules)


def sudachi_identity(rules: Rules) -> dict[str, Any]:
    rules.refuse("sudachi", "user_dictionary")
    try:
        library, dictionary = version("sudachipy"), version("sudachidict_core")
    except PackageNotFoundError as error:
        raise _no_sudachi() from error
    return {
        "library": f"sudachipy {library}",
        "dictionary": f"sudachidict_core {dictionary}, mode C",
        **_told("sudachi", rules),
    }


def _no_sudachi() -> Fatal:
    return Fatal("the tokenizer sudachi needs an extra: pip install 'seewhy[sudachi]', or choose janome")


def _told(tokenizer: str, rules: Rules) -> dict[str, Any]:
    parts = sorted(_parts_of_speech(tokenizer, rules))
    return {"parts_of_speech": parts, "stop_words": sorted(rules.stops(STOP_WORDS))}


def _chosen(morphemes: Morphemes, tokenizer: str, rules: Rules) -> Tokenizer:
    """Keeps what the rules keep. What became of a morpheme is remembered."""
    kinds, stops, base_wanted = _parts_of_speech(tokenizer, rules), rules.stops(STOP_WORDS), rules.form == "base"
    known: dict[tuple[str, str, str], str | None] = {}

    def word_of(surface: str, part_of_speech: str, base: str) -> str | None:
        shown = (base if base_wanted and base != "*" else surface).lower()
        stopped = surface.lower() in stops or base.lower() in stops
        return shown if lettered(shown) and not stopped and keeps(part_of_speech, kinds) else None

    def tokenize(text: str) -> list[str]:
        if len(known) > _REMEMBERED:
            known.clear()
        found = []
        for morpheme in morphemes(unicodedata.normalize("NFKC", text)):
            try:
                word = known[morpheme]
            except KeyError:
                word = known[morpheme] = word_of(*morpheme)
            if word is not None:
                found.append(word)
        return found

    return tokenize


def keeps(part_of_speech: str, kinds: Sequence[str]) -> bool:
    """Whether the longest of the `kinds` that fit keeps the part of speech; see tokens.load_tokenizer."""
    parts = part_of_speech.split(",")
    longest, kept = -1, False
    for kind in kinds:
        wanted = [] if kind.lstrip("-") == "*" else kind.removeprefix("-").split(",")
        if len(wanted) > longest and parts[: len(wanted)] == wanted:
            longest, kept = len(wanted), not kind.startswith("-")
    return kept


def _parts_of_speech(tokenizer: str, rules: Rules) -> tuple[str, ...]:
    if rules.parts_of_speech is None:
        return CONTENT[tokenizer]
    kinds = tuple(dict.fromkeys(rules.parts_of_speech))
    shapes = [kind.removeprefix("-") for kind in kinds]
    if not kinds or not all(shapes) or len(set(shapes)) < len(kinds):
        raise ValueError(f"parts_of_speech={list(kinds)}: one at least, none empty, none both kept and left out")
    return kinds


def _pieces(text: str) -> Iterable[str]:
    """The text in pieces that Sudachi takes, cut behind a sentence where there is one."""
    start = 0
    while len(text) - start > _PIECE:
        piece = text[start : start + _PIECE]
        ends = (piece.rfind(mark) + 1 for mark in ("。", "\n", "、", " "))
        stop = start + next((end for end in ends if end), _PIECE)
        yield text[start:stop]
        start = stop
    yield text[start:]


def _read_dictionary(url: str) -> tuple[bytes, str]:
    """A user's dictionary, spelt as texts are (NFKC) and without empty lines, and janome's name for its format."""
    try:
        text = storage.read_whole(url).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Fatal(f"user_dictionary {shown(url)} cannot be read: {told(error, url)}") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise Fatal(f"user_dictionary {shown(url)} holds no words")
    columns = lines[0][1].count(",") + 1
    spelt = []
    for number, line in lines:
        parts = [_without_comma(unicodedata.normalize("NFKC", part)) for part in line.split(",")]
        spelt.append(",".join(parts))
        if len(parts) != columns or columns not in _COLUMNS or (columns == 13 and not all(map(_whole, parts[1:4]))):
            raise Fatal(
                f"user_dictionary {shown(url)}, line {number}: {line!r} has {len(parts)} columns; allowed are 3 "
                "(surface, part of speech, reading) or janome's 13, whose second to fourth are whole numbers, in all "
                "lines alike"
            )
    return "".join(f"{line}\n" for line in spelt).encode(), _COLUMNS[columns]


def _without_comma(part: str) -> str:
    """A wide comma within a field is a comma once it is spelt as texts are, and janome would cut the field there."""
    return part.replace(",", "，")


def _whole(number: str) -> bool:
    return number.removeprefix("-").isdigit()
