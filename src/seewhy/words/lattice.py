"""janome's words, found several times sooner: its dictionary and its costs, with each thing looked up once.

janome walks its compressed dictionary byte by byte at every place of every text, and weighs every word against every
word before it. Here the walk is remembered as a tree of characters, and words that connect alike (equal left ids) are
weighed once. What comes out is the same path of least cost, ties included; a test compares the two over random texts.

The path of least cost over a lattice of words is Viterbi's (T. Kudo, K. Yamamoto and Y. Matsumoto, Applying conditional
random fields to Japanese morphological analysis, 2004); long texts are cut where janome cuts them.
"""

from collections.abc import Callable
from struct import unpack
from typing import Any, NamedTuple

_LONGEST = 50  # characters of a dictionary word, as janome has it
_CHUNK, _LONGEST_CHUNK = 500, 1024  # characters: where janome cuts a text at a mark, and where it must
_MARKS = frozenset("、。,.？?！!")
_REMEMBERED = 500_000  # branches of the tree and places where none goes on, at most a few hundred bytes each

_FINAL, _LAST = 1, 2  # flags of an arc in janome's dictionary
_NEVER = 1 << 60


class Morpheme(NamedTuple):
    surface: str
    part_of_speech: str  # four parts joined by commas: 名詞,一般,*,*
    base_form: str


# Plain tuples, for there are hundreds of them in a text of a hundred characters.
_Entry = tuple[int, int, int, int, int, Morpheme | None]
"""A word at a place: number in its dictionary, characters, left id, right id, cost, and the word itself unless it is
the system dictionary's, which is looked up when it is chosen. An unknown word has the number -1."""
_Node = tuple[int, int, int, Any, _Entry | None]
"""A word in the lattice: least cost up to its end, number, right id, the node before it, and what it is."""


class _Branch:
    """The words that start with the same characters: those that end here, and where to go with each next character."""

    __slots__ = ("arcs", "entries", "next")

    def __init__(self, arcs: list[tuple[bytes, int, bytes]], entries: tuple[_Entry, ...]) -> None:
        self.arcs = arcs  # (data, position, output so far), one for each part of the dictionary
        self.entries = entries
        self.next: dict[str, _Branch | None] = {}


class _Words:
    """All words of a dictionary that a text holds at a place."""

    def __init__(self, matcher: Any, entry: Callable[[int], _Entry]) -> None:
        arc = type(matcher).next_arc
        self._arc = getattr(arc, "__wrapped__", arc)  # behind its cache, which is too small to help
        self._matcher = matcher
        self._entry = entry
        self._branches = 0
        self._root = self._fresh()

    def _fresh(self) -> _Branch:
        self._branches = 0
        return _Branch([(data, 0, b"") for data in self._matcher.dict_data], ())

    def at(self, text: str, start: int, stop: int) -> list[_Entry]:
        if self._branches > _REMEMBERED:
            self._root = self._fresh()
        branch = self._root
        found: list[_Entry] = []
        for place in range(start, stop):
            letter = text[place]
            try:
                following = branch.next[letter]
            except KeyError:
                following = self._grow(branch, letter)
            if following is None:
                break
            found += following.entries
            branch = following
        return found

    def _grow(self, branch: _Branch, letter: str) -> _Branch | None:
        arcs = branch.arcs
        for byte in letter.encode("utf-8", "surrogatepass"):
            arcs = [step for data, position, output in arcs if (step := self._step(data, position, output, byte))]
        grown = None
        if arcs:
            numbers = sorted({unpack("I", number)[0] for arc in arcs for number in self._ending(*arc)})
            grown = _Branch(arcs, tuple(self._entry(number) for number in numbers))
        branch.next[letter] = grown
        self._branches += 1
        return grown

    def _step(self, data: bytes, position: int, output: bytes, byte: int) -> tuple[bytes, int, bytes] | None:
        while position < len(data):
            flag, label, more, _, target, size = self._arc(self._matcher, data, position)
            if not flag & _FINAL and label == byte:
                return data, position + target, output + more
            if flag & _LAST:
                return None
            position += size
        return None

    def _ending(self, data: bytes, position: int, output: bytes) -> list[bytes]:
        if position >= len(data):
            return []
        flag, _, _, endings, _, _ = self._arc(self._matcher, data, position)
        return [output + ending for ending in endings] if flag & _FINAL else []


class Lattice:
    """Words of a text by janome's dictionary, and by a user's own where `tokenizer` has one.

    Args:
        tokenizer: ``janome.tokenizer.Tokenizer``.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._system = tokenizer.sys_dic
        self._own = tokenizer.user_dic
        self._costs: list[list[int]] = self._system.connections
        self._words = _Words(tokenizer.matcher, self._entry)
        self._own_words = _Words(self._own.matcher, self._own_entry) if self._own else None
        self._longest_unknown = tokenizer.max_unknown_length
        self._known: dict[int, Morpheme] = {}
        self._kinds: dict[str, dict[str, Any]] = {}

    def __call__(self, text: str) -> list[Morpheme]:
        text = text.strip()
        found: list[Morpheme] = []
        start = 0
        while start < len(text):
            stop, words = self._chunk(text[start : start + _LONGEST_CHUNK])
            found += words
            start += stop
        return found

    def _chunk(self, text: str) -> tuple[int, list[Morpheme]]:
        """The words of the text's first part, and where that ends."""
        length = len(text)
        ending: list[list[_Node]] = [[] for _ in range(length + 1)]  # nodes by the place behind their last character
        ending[0].append((0, -1, 0, None, None))
        place = 0
        while place < length and not (place >= _CHUNK and _may_cut(text, place)):
            self._add(text, place, ending)
            place += 1
            while not ending[place]:
                place += 1
        _, node = self._best(ending[place], 0)
        words = []
        while node[4] is not None:
            words.append(node[4][5] or self._word(node[4][0], text[place - node[4][1] : place]))
            place -= node[4][1]
            node = node[3]
        return sum(len(word.surface) for word in words), words[::-1]

    def _add(self, text: str, place: int, ending: list[list[_Node]]) -> None:
        """Puts all words that start at the place into the lattice, in the order in which janome has them."""
        stop = min(len(text), place + _LONGEST)
        known = self._words.at(text, place, stop)
        entries = self._own_words.at(text, place, stop) + known if self._own_words else known
        before = ending[place]
        ways: dict[int, tuple[int, _Node]] = {}  # by left id
        for entry in entries + self._unknown(text, place, bool(known)):
            left = entry[2]
            if left in ways:
                cost, node = ways[left]
            else:
                cost, node = ways[left] = self._best(before, left)
            ending[place + entry[1]].append((cost + entry[4], entry[0], entry[3], node, entry))

    def _best(self, before: list[_Node], left: int) -> tuple[int, _Node]:
        """Least cost up to a word with that left id, and the node it comes from.

        Of equal costs the first counts, but a dictionary word gives way to one with a smaller number.
        """
        least, chosen = _NEVER, before[0]
        costs = self._costs
        for node in before:
            cost = node[0] + costs[node[2]][left]
            if cost < least or (cost == least and 0 <= node[1] < chosen[1]):
                least, chosen = cost, node
        return least, chosen

    def _entry(self, number: int) -> _Entry:
        surface, left, right, cost = self._system._find_entry(number)
        return number, len(surface), left, right, cost, None

    def _own_entry(self, number: int) -> _Entry:
        surface, left, right, cost, part_of_speech, _, _, base_form = self._own.entries[number][:8]
        return number, len(surface), left, right, cost, Morpheme(surface, part_of_speech, base_form)

    def _word(self, number: int, surface: str) -> Morpheme:
        word = self._known.get(number)
        if word is None:
            extra = self._system.lookup_extra(number)
            word = self._known[number] = Morpheme(surface, extra[0], extra[3])
        return word

    def _unknown(self, text: str, place: int, matched: bool) -> list[_Entry]:
        """Words that no dictionary has: a run of characters of one kind, or some of them, as the kind prescribes."""
        system = self._system
        found: list[_Entry] = []
        for kind in self._kinds_of(text[place]):
            if matched and not system.unknown_invoked_always(kind):
                continue
            most = self._longest_unknown if system.unknown_grouping(kind) else system.unknown_length(kind)
            stop, furthest = place + 1, min(len(text), place + most + 1)
            while stop < furthest and self._is(kind, text[stop]):
                stop += 1
            surface = text[place:stop]
            for left, right, cost, part_of_speech in system.unknowns[kind]:
                found.append((-1, len(surface), left, right, cost, Morpheme(surface, part_of_speech, surface)))
        return found

    def _kinds_of(self, letter: str) -> dict[str, Any]:
        kinds = self._kinds.get(letter)
        if kinds is None:
            kinds = self._kinds[letter] = self._system.get_char_categories(letter)
        return kinds

    def _is(self, kind: str, letter: str) -> bool:
        kinds = self._kinds_of(letter)
        return kind in kinds or any(kind in compatible for compatible in kinds.values())


def _may_cut(text: str, place: int) -> bool:
    return text[place - 1] in _MARKS or text[:place].endswith(("\n\n", "\r\n\r\n"))
